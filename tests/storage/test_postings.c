/* tests/storage/test_postings.c */
#include "storage/postings.h"

#include "tests/quipu_test.h"

/* Rising numbers: single ones, runs and gaps of many sizes. */
static size_t gen_ids(struct rng *rng, uint32_t *ids, size_t cap, uint32_t n_series)
{
    size_t n = 0;
    uint64_t next = rng_below(rng, 3);
    while (n < cap && next < n_series) {
        uint64_t run = rng_chance(rng, 0.3) ? 1 + rng_below(rng, 200) : 1;
        for (; run && n < cap && next < n_series; run--) ids[n++] = (uint32_t)next++;
        next += rng_below(rng, UINT64_C(1) << rng_below(rng, 12));
        if (rng_chance(rng, 0.01)) break;
    }
    return n;
}

static void test_roundtrip(void **state)
{
    (void)state;
    struct rng rng;
    static uint32_t ids[5000], got[5000];
    PROPERTY_LOOP(&rng, 500)
    {
        uint32_t n_series = 1 + (uint32_t)rng_below(&rng, 200000);
        size_t n = gen_ids(&rng, ids, COUNT_OF(ids), n_series);
        struct buf b;
        buf_init(&b, MEM_BASE);
        postings_encode(&b, ids, n);
        struct err err;
        struct postings_sink sink = {.into = roaring_bitmap_create()};
        CHECK_OK(postings_decode(buf_bytes(&b), n_series, &sink, &err), &err);
        postings_flush(&sink);
        CHECK_U64(roaring_bitmap_get_cardinality(sink.into), n);
        roaring_bitmap_to_uint32_array(sink.into, got);
        CHECK(n == 0 || memcmp(got, ids, n * sizeof(*ids)) == 0);
        /* One series fewer than the last number needs: refused. */
        if (n) CHECK_ERR(postings_decode(buf_bytes(&b), ids[n - 1], &sink, &err), ERR_CORRUPT);
        roaring_bitmap_free(sink.into);
        buf_release(&b);
    }
}

static void test_a_range_is_small(void **state)
{
    (void)state;
    static uint32_t ids[100000];
    for (uint32_t i = 0; i < COUNT_OF(ids); i++) ids[i] = i + 7;
    struct buf b;
    buf_init(&b, MEM_BASE);
    postings_encode(&b, ids, COUNT_OF(ids));
    CHECK(b.len <= 4);
    buf_release(&b);
}

static void test_hostile(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 3000)
    {
        uint8_t bytes[24];
        size_t len = rng_below(&rng, sizeof(bytes) + 1);
        test_fill(&rng, bytes, len);
        uint32_t n_series = (uint32_t)(rng_u64(&rng) >> (32 + rng_below(&rng, 31)));
        struct postings_reader p = {.r = reader_init(bytes_of(bytes, len)), .n_series = n_series};
        uint32_t first, last;
        uint64_t next = 0;
        enum err_code rc;
        struct err err;
        while (postings_next(&p, &first, &last, &rc, &err)) {
            CHECK(first >= next && last >= first && last < n_series);
            next = (uint64_t)last + 1;
        }
        CHECK(rc == ERR_OK || rc == ERR_CORRUPT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_roundtrip),
        cmocka_unit_test(test_a_range_is_small),
        cmocka_unit_test(test_hostile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
