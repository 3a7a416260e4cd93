/* tests/storage/test_chunk.c: every encoding gives back the bits it got, is bounded, and refuses what is cut. */
#include "storage/chunk.h"

#include "storage/gorilla.h"
#include "storage/times.h"
#include "tests/storage/chunk_fixture.h"
#include "tests/storage/gen.h"

static const enum chunk_encoding encodings[] = {CHUNK_CONSTANT,   CHUNK_COLUMNS,
                                                CHUNK_RAW,        CHUNK_GORILLA,
                                                CHUNK_HISTOGRAMS, CHUNK_HISTOGRAM_COLUMNS};

/* A copy of its own, so that ASan sees a byte too far. */
static uint8_t *exact_copy(struct bytes b)
{
    uint8_t *p = malloc(b.len ? b.len : 1);
    CHECK(p != NULL);
    if (b.len) memcpy(p, b.p, b.len);
    return p;
}

static enum err_code decode_exact(struct fixture *f, struct bytes b, int64_t mint, int64_t maxt)
{
    uint8_t *p = exact_copy(b);
    samples_reset(&f->out);
    enum err_code rc = chunk_decode(bytes_of(p, b.len), mint, maxt, &f->out, &f->err);
    free(p);
    return rc;
}

static void gen_any(struct rng *rng, struct samples *s)
{
    size_t n = 1 + rng_below(rng, rng_chance(rng, 0.1) ? 2000 : 150);
    if (rng_chance(rng, 0.2)) {
        gen_histograms(rng, s, n > 100 ? 100 : n);
        return;
    }
    gen_floats(rng, s, n, (unsigned)rng_below(rng, GEN_VALUE_KINDS),
               (unsigned)rng_below(rng, GEN_TIME_KINDS));
}

static void check_ranges(struct fixture *f, struct rng *rng)
{
    for (int k = 0; k < 4; k++) {
        size_t a = rng_below(rng, f->in.n), b = a + rng_below(rng, f->in.n - a);
        CHECK_OK(decode_exact(f, buf_bytes(&f->chunk), f->in.t_ms[a], f->in.t_ms[b]), &f->err);
        check_same_samples(&f->out, &f->in, a, b - a + 1);
    }
    if (f->in.t_ms[0] > INT64_MIN) {
        CHECK_OK(decode_exact(f, buf_bytes(&f->chunk), INT64_MIN, f->in.t_ms[0] - 1), &f->err);
        CHECK_U64(f->out.n, 0);
    }
}

static void test_roundtrip(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 1500)
    {
        struct fixture f;
        fixture_init(&f);
        gen_any(&rng, &f.in);
        for (size_t k = 0; k < COUNT_OF(encodings); k++) {
            buf_reset(&f.chunk);
            enum err_code rc = chunk_encode_as(encodings[k], &f.in, 0, f.in.n, &f.chunk, &f.err);
            if (rc == ERR_UNSUPPORTED) {
                CHECK_U64(f.chunk.len, 0);
                continue;
            }
            CHECK_OK(rc, &f.err);
            CHECK_OK(decode_exact(&f, buf_bytes(&f.chunk), INT64_MIN, INT64_MAX), &f.err);
            check_same_samples(&f.out, &f.in, 0, f.in.n);
            check_ranges(&f, &rng);
            enum chunk_encoding encoding;
            uint32_t n;
            CHECK_OK(chunk_peek(buf_bytes(&f.chunk), &encoding, &n, &f.err), &f.err);
            CHECK_U64(encoding, encodings[k]);
            CHECK_U64(n, f.in.n);
            const char *kind = chunk_kind_name(buf_bytes(&f.chunk));
            if (encodings[k] != CHUNK_COLUMNS)
                CHECK(strcmp(kind, chunk_encoding_name(encodings[k])) == 0);
            else
                CHECK(strcmp(kind, "columns") != 0 && strcmp(kind, "unknown") != 0);
        }
        fixture_release(&f);
    }
}

/* The smallest wins, the rest of the buffer stays, the statistics are those of a plain recount. */
static void test_choice_and_meta(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 500)
    {
        struct fixture f;
        fixture_init(&f);
        gen_any(&rng, &f.in);
        buf_put(&f.chunk, "before", 6);
        struct chunk_meta meta;
        size_t from = rng_below(&rng, f.in.n), n = 1 + rng_below(&rng, f.in.n - from);
        CHECK_OK(chunk_encode(&f.in, from, n, &f.chunk, &meta, &f.err), &f.err);
        CHECK(memcmp(f.chunk.p, "before", 6) == 0);
        struct bytes chunk = bytes_of(f.chunk.p + 6, f.chunk.len - 6);
        CHECK_OK(decode_exact(&f, chunk, INT64_MIN, INT64_MAX), &f.err);
        check_same_samples(&f.out, &f.in, from, n);
        struct buf other;
        buf_init(&other, MEM_BASE);
        for (size_t k = 0; k < 3; k++) {
            buf_reset(&other);
            if (chunk_encode_as(encodings[k], &f.in, from, n, &other, &f.err)) continue;
            CHECK(other.len >= chunk.len);
        }
        buf_release(&other);
        uint32_t resets = 0;
        double first = NAN, last = NAN, min = INFINITY, max = -INFINITY;
        size_t n_floats = 0, n_numbers = 0;
        bool hist = false;
        for (size_t i = from; i < from + n; i++) {
            double v = f.in.v[i];
            if (f.in.h && f.in.h[i]) {
                hist = true;
                continue;
            }
            if (double_bits(v) == STALE_NAN_BITS) continue;
            if (n_floats++ == 0)
                first = v;
            else if (v < last)
                resets++;
            last = v;
            if (isnan(v)) continue;
            n_numbers++;
            if (v < min) min = v;
            if (v > max) max = v;
        }
        CHECK_I64(meta.t_min_ms, f.in.t_ms[from]);
        CHECK_I64(meta.t_max_ms, f.in.t_ms[from + n - 1]);
        CHECK_U64(meta.n, n);
        CHECK_U64(meta.n_resets, resets);
        CHECK(meta.has_histograms == hist);
        if (n_floats)
            CHECK_SAME_DOUBLE(meta.first, first);
        else
            CHECK(isnan(meta.first));
        if (n_floats) CHECK_SAME_DOUBLE(meta.last, last);
        if (n_numbers)
            CHECK(meta.min == min && meta.max == max);
        else
            CHECK(isnan(meta.min) && isnan(meta.max));
        fixture_release(&f);
    }
}

static void test_every_prefix_is_refused(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 120)
    {
        struct fixture f;
        fixture_init(&f);
        gen_any(&rng, &f.in);
        for (size_t k = 0; k < COUNT_OF(encodings); k++) {
            buf_reset(&f.chunk);
            if (chunk_encode_as(encodings[k], &f.in, 0, MIN_OF(f.in.n, (size_t)100), &f.chunk,
                                &f.err))
                continue;
            for (size_t n = 0; n < f.chunk.len; n++)
                CHECK_ERR(decode_exact(&f, bytes_of(f.chunk.p, n), INT64_MIN, INT64_MAX),
                          ERR_CORRUPT);
            buf_u8(&f.chunk, (uint8_t)rng_u64(&rng)); /* and one byte too many */
            CHECK_ERR(decode_exact(&f, buf_bytes(&f.chunk), INT64_MIN, INT64_MAX), ERR_CORRUPT);
        }
        fixture_release(&f);
    }
}

/* Flipped bytes: an error or samples in order, never a crash. */
static void test_damage(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 400)
    {
        struct fixture f;
        fixture_init(&f);
        gen_any(&rng, &f.in);
        enum chunk_encoding encoding = encodings[rng_below(&rng, COUNT_OF(encodings))];
        if (!chunk_encode_as(encoding, &f.in, 0, f.in.n, &f.chunk, &f.err)) {
            for (int k = 0; k < 40; k++) {
                size_t at = rng_below(&rng, f.chunk.len);
                uint8_t was = f.chunk.p[at];
                f.chunk.p[at] ^= (uint8_t)(1 + rng_below(&rng, 255));
                enum err_code rc = decode_exact(&f, buf_bytes(&f.chunk), INT64_MIN, INT64_MAX);
                CHECK(rc == ERR_OK || rc == ERR_CORRUPT);
                for (size_t i = 1; i < f.out.n; i++) CHECK(f.out.t_ms[i] > f.out.t_ms[i - 1]);
                if (rc) CHECK_U64(f.out.n, 0);
                f.chunk.p[at] = was;
                arena_reset(&f.out_arena);
            }
        }
        fixture_release(&f);
    }
}

/* An open chunk in memory that grows only when it must: whole at every moment, same bytes as a closed one. */
static void test_gorilla_open(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 300)
    {
        struct fixture f;
        fixture_init(&f);
        gen_floats(&rng, &f.in, 200, (unsigned)rng_below(&rng, GEN_VALUE_KINDS),
                   (unsigned)rng_below(&rng, 5));
        size_t cap = GORILLA_HEADER_BYTES;
        uint8_t *p = malloc(cap);
        struct gorilla g;
        gorilla_start(&g, p, f.in.t_ms[0], f.in.v[0]);
        size_t i = 1;
        for (; i < f.in.n; i++) {
            size_t before = gorilla_size(&g);
            bool done = gorilla_append(&g, p, cap, f.in.t_ms[i], f.in.v[i]);
            if (!done) {
                CHECK_U64(gorilla_size(&g), before);
                if (!gorilla_fits(&g, f.in.t_ms[i])) break;
                cap = before + (rng_chance(&rng, 0.5) ? GORILLA_SAMPLE_BYTES_MAX : 100);
                p = realloc(p, cap);
                done = gorilla_append(&g, p, cap, f.in.t_ms[i], f.in.v[i]);
            }
            CHECK(done);
            CHECK(gorilla_size(&g) - before <= GORILLA_SAMPLE_BYTES_MAX);
            CHECK(gorilla_size(&g) <= cap);
            CHECK_OK(decode_exact(&f, gorilla_bytes(&g, p), INT64_MIN, INT64_MAX), &f.err);
            check_same_samples(&f.out, &f.in, 0, i + 1);
        }
        CHECK_OK(chunk_encode_as(CHUNK_GORILLA, &f.in, 0, i, &f.chunk, &f.err), &f.err);
        CHECK_BYTES(gorilla_bytes(&g, p), buf_bytes(&f.chunk));
        free(p);
        fixture_release(&f);
    }
}

static void test_gorilla_limits(void **state)
{
    (void)state;
    struct gorilla g;
    size_t cap = 4 << 20;
    uint8_t *p = malloc(cap);
    gorilla_start(&g, p, 0, 1);
    CHECK(!gorilla_fits(&g, 0)); /* not later */
    CHECK(!gorilla_append(&g, p, cap, -1, 1));
    CHECK(gorilla_fits(&g, INT32_MAX));
    CHECK(!gorilla_fits(&g, INT64_C(1) << 31));
    CHECK(!gorilla_append(&g, p, cap, INT64_MAX, 1));
    for (int64_t i = 1; i < CHUNK_SAMPLES_MAX; i++) CHECK(gorilla_append(&g, p, cap, i, 1));
    CHECK(!gorilla_fits(&g, CHUNK_SAMPLES_MAX));
    CHECK(!gorilla_append(&g, p, cap, CHUNK_SAMPLES_MAX, 1));
    struct fixture f;
    fixture_init(&f);
    CHECK_OK(decode_exact(&f, gorilla_bytes(&g, p), INT64_MIN, INT64_MAX), &f.err);
    CHECK_U64(f.out.n, CHUNK_SAMPLES_MAX);
    fixture_release(&f);
    free(p);
}

/* The bytes of a small chunk, so that the layout does not change unnoticed. */
static void test_gorilla_bytes(void **state)
{
    (void)state;
    struct gorilla g;
    uint8_t p[64] = {0};
    gorilla_start(&g, p, 1000, 1);
    CHECK(gorilla_append(&g, p, sizeof(p), 1010, 1));
    CHECK(gorilla_append(&g, p, sizeof(p), 1020, 2)); /* 1.0 ^ 2.0: eleven ones, one leading zero */
    CHECK(gorilla_append(&g, p, sizeof(p), 1030, 2));
    /* In stream order: 1 0 01011, 0 | 0, 1 1 10000 010100 11111111111 | 0, 0 */
    static const uint8_t expected[] = {5,    0,    4,    0,    35,  0, 0,    0, /* tag, n, n_bits */
                                       0xe8, 3,    0,    0,    0,   0, 0,    0, /* 1000 */
                                       0,    0,    0,    0,    0,   0, 0xf0, 0x3f, /* 1.0 */
                                       0x69, 0x0e, 0xca, 0xff, 0x01};
    struct bytes b = gorilla_bytes(&g, p);
    CHECK_BYTES(b, bytes_of(expected, sizeof(expected)));
}

static void test_constant_is_small(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    for (int64_t i = 0; i < 5760; i++)
        CHECK_OK(samples_push(&f.in, INT64_C(1700000000000) + i * 15000, 7, NULL, &f.err), &f.err);
    struct chunk_meta meta;
    CHECK_OK(chunk_encode(&f.in, 0, f.in.n, &f.chunk, &meta, &f.err), &f.err);
    CHECK(f.chunk.len < 32);
    fixture_release(&f);
}

/* The two columns of a chunk are what times_encode and values_encode make, and put together they are the chunk. */
static void test_columns_split(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 500)
    {
        struct fixture f;
        fixture_init(&f);
        gen_floats(&rng, &f.in, 1 + rng_below(&rng, 300),
                   (unsigned)rng_below(&rng, GEN_VALUE_KINDS),
                   (unsigned)rng_below(&rng, GEN_TIME_KINDS));
        struct values_hint hint = {0};
        chunk_columns_encode(f.in.t_ms, f.in.v, f.in.n, EFFORT_SMALL, &hint, &f.chunk);
        CHECK_OK(buf_finish(&f.chunk, &f.err), &f.err);
        struct bytes chunk = buf_bytes(&f.chunk), times, values;
        size_t n;
        CHECK_OK(chunk_columns_split(chunk, &times, &values, &n, &f.err), &f.err);
        CHECK_U64(n, f.in.n);
        CHECK_U64(1 + times.len + values.len, chunk.len);
        CHECK(times.p == chunk.p + 1 && values.p == times.p + times.len);
        CHECK_OK(samples_reserve(&f.out, n, &f.err), &f.err);
        CHECK_OK(times_decode(times, f.out.t_ms, n, &f.err), &f.err);
        CHECK_OK(values_decode(values, n, f.out.v, &f.err), &f.err);
        f.out.n = n;
        check_same_samples(&f.out, &f.in, 0, n);
        for (size_t len = 0; len < 1 + times.len; len++)
            CHECK_ERR(chunk_columns_split(bytes_of(chunk.p, len), &times, &values, &n, &f.err),
                      ERR_CORRUPT);
        f.chunk.p[0] = CHUNK_RAW;
        CHECK_ERR(chunk_columns_split(chunk, &times, &values, &n, &f.err), ERR_CORRUPT);
        fixture_release(&f);
    }
    static const uint8_t too_many[] = {10, 0x80, 0x80, 4, 0, 2, 0x7f, 0xff, 3, 0, 2};
    struct bytes times, values;
    struct err err;
    size_t n;
    CHECK_ERR(chunk_columns_split(bytes_of(too_many, sizeof(too_many)), &times, &values, &n, &err),
              ERR_CORRUPT);
}

static void test_hostile_histogram_rows(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    /* Differences with nothing before them. */
    static const uint8_t delta_first[] = {9, 1, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    CHECK_ERR(decode_exact(&f, bytes_of(delta_first, sizeof(delta_first)), INT64_MIN, INT64_MAX),
              ERR_CORRUPT);
    static const uint8_t unknown_row[] = {9, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0};
    CHECK_ERR(decode_exact(&f, bytes_of(unknown_row, sizeof(unknown_row)), INT64_MIN, INT64_MAX),
              ERR_CORRUPT);
    static const uint8_t many[] = {9, 0xff, 0xff, 3, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    CHECK_ERR(decode_exact(&f, bytes_of(many, sizeof(many)), INT64_MIN, INT64_MAX), ERR_CORRUPT);
    fixture_release(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_roundtrip),
        cmocka_unit_test(test_choice_and_meta),
        cmocka_unit_test(test_every_prefix_is_refused),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_gorilla_open),
        cmocka_unit_test(test_gorilla_limits),
        cmocka_unit_test(test_gorilla_bytes),
        cmocka_unit_test(test_constant_is_small),
        cmocka_unit_test(test_columns_split),
        cmocka_unit_test(test_hostile_histogram_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
