/* tests/storage/test_intcol.c: columns of integers against a decoder that reads the layout bit by bit. */
#include "storage/intcol.h"

#include "tests/ref/columns_ref.h"
#include "tests/storage/gen_columns.h"

struct fixture {
    struct buf b;
    struct err err;
    int64_t *x, *out, *ref;
    size_t n;
};

static void fixture_init(struct fixture *f, size_t n)
{
    buf_init(&f->b, MEM_BASE);
    f->n = n;
    f->x = malloc((n + 1) * sizeof(int64_t));
    f->out = malloc((n + 1) * sizeof(int64_t));
    f->ref = malloc((n + 1) * sizeof(int64_t));
    CHECK(f->x && f->out && f->ref);
}

static void fixture_release(struct fixture *f)
{
    buf_release(&f->b);
    free(f->x);
    free(f->out);
    free(f->ref);
}

/* From a copy of just these bytes, so that ASan sees a read too far. */
static enum err_code decode_exact(struct fixture *f, struct bytes b, bool sums, int64_t start,
                                  size_t *n_read)
{
    uint8_t *p = malloc(b.len ? b.len : 1);
    CHECK(p != NULL);
    if (b.len) memcpy(p, b.p, b.len);
    struct reader r = reader_init(bytes_of(p, b.len));
    enum err_code rc = sums ? intcol_decode_sums(&r, f->n, start, f->out, &f->err)
                            : intcol_decode(&r, f->n, f->out, &f->err);
    *n_read = reader_off(&r);
    struct reader again = reader_init(bytes_of(p, b.len));
    enum err_code skipped = intcol_skip(&again, f->n, &f->err);
    if (rc == ERR_OK) {
        CHECK_OK(skipped, &f->err);
        CHECK_U64(reader_off(&again), *n_read);
    }
    free(p);
    return rc;
}

static void check_column(struct fixture *f, struct rng *rng, enum effort effort)
{
    size_t n_read, size = intcol_size(f->x, f->n, effort);
    buf_reset(&f->b);
    buf_put(&f->b, "before", 6);
    intcol_encode(&f->b, f->x, f->n, effort);
    CHECK_OK(buf_finish(&f->b, &f->err), &f->err);
    CHECK_U64(f->b.len, 6 + size);
    struct bytes b = bytes_of(f->b.p + 6, size);
    struct ref r = {b.p, b.len, 0};
    ref_column(&r, f->n, f->ref);
    CHECK_U64(r.at, b.len);
    CHECK_OK(decode_exact(f, b, false, 0, &n_read), &f->err);
    CHECK_U64(n_read, size);
    for (size_t i = 0; i < f->n; i++) {
        CHECK_I64(f->ref[i], f->x[i]);
        CHECK_I64(f->out[i], f->x[i]);
    }
    int64_t start = (int64_t)rng_u64(rng);
    CHECK_OK(decode_exact(f, b, true, start, &n_read), &f->err);
    uint64_t sum = (uint64_t)start;
    for (size_t i = 0; i < f->n; i++) CHECK_U64(f->out[i], sum += (uint64_t)f->x[i]);
    buf_u8(&f->b, (uint8_t)rng_u64(rng)); /* something behind it does not matter */
    CHECK_OK(decode_exact(f, bytes_of(f->b.p + 6, size + 1), false, 0, &n_read), &f->err);
    CHECK_U64(n_read, size);
}

static void test_roundtrip(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 4000)
    {
        struct fixture f;
        fixture_init(&f, gen_column_length(&rng));
        gen_column(&rng, f.x, f.n);
        check_column(&f, &rng, EFFORT_FAST);
        check_column(&f, &rng, EFFORT_SMALL);
        fixture_release(&f);
    }
}

/* Every width of body and exceptions, full frames and stubs. */
static void test_every_width(void **state)
{
    (void)state;
    struct rng rng;
    test_rng(&rng);
    for (unsigned width = 0; width <= 64; width++) {
        for (unsigned shape = 0; shape < 6; shape++) {
            static const size_t lengths[] = {128, 1, 7, 120, 127, 300};
            struct fixture f;
            fixture_init(&f, lengths[shape]);
            uint64_t base = rng_u64(&rng) >> rng_below(&rng, 64);
            for (size_t i = 0; i < f.n; i++)
                f.x[i] = (int64_t)(base + (width ? rng_u64(&rng) >> (64 - width) : 0));
            check_column(&f, &rng, EFFORT_FAST);
            check_column(&f, &rng, EFFORT_SMALL);
            for (size_t i = 0; i < f.n; i += 1 + rng_below(&rng, 40))
                f.x[i] = (int64_t)(base - (rng_u64(&rng) >> rng_below(&rng, 64)));
            check_column(&f, &rng, EFFORT_FAST);
            check_column(&f, &rng, EFFORT_SMALL);
            fixture_release(&f);
        }
    }
}

static void test_every_prefix_is_refused(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 300)
    {
        struct fixture f;
        size_t n_read;
        fixture_init(&f, 1 + gen_column_length(&rng) % 400);
        gen_column(&rng, f.x, f.n);
        intcol_encode(&f.b, f.x, f.n, EFFORT_FAST);
        for (size_t len = 0; len < f.b.len; len++)
            CHECK_ERR(decode_exact(&f, bytes_of(f.b.p, len), len % 2, 0, &n_read), ERR_CORRUPT);
        fixture_release(&f);
    }
}

/* Changed and random bytes: an error or some values, and no access outside. */
static void test_hostile(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 3000)
    {
        struct fixture f;
        size_t n_read;
        fixture_init(&f, gen_column_length(&rng));
        gen_column(&rng, f.x, f.n);
        intcol_encode(&f.b, f.x, f.n, EFFORT_FAST);
        for (int k = 0; k < 8 && f.b.len; k++) {
            f.b.p[rng_below(&rng, MIN_OF(f.b.len, (size_t)20))] ^=
                (uint8_t)(1 + rng_below(&rng, 255));
            enum err_code rc = decode_exact(&f, buf_bytes(&f.b), k % 2, 0, &n_read);
            CHECK(rc == ERR_OK || rc == ERR_CORRUPT);
        }
        uint8_t noise[200];
        test_fill(&rng, noise, sizeof(noise));
        noise[0] = (uint8_t)(rng_below(&rng, 70) | (noise[0] & 0x80));
        enum err_code rc = decode_exact(&f, bytes_of(noise, sizeof(noise)), false, 0, &n_read);
        CHECK(rc == ERR_OK || rc == ERR_CORRUPT);
        fixture_release(&f);
    }
}

struct hostile {
    const char *what;
    size_t n, len;
    uint8_t bytes[24];
};

static void test_hostile_cases(void **state)
{
    (void)state;
    static const struct hostile cases[] = {
        {"width 65", 1, 12, {65, 0}},
        {"width 126", 8, 24, {126, 0}},
        {"a run with exceptions", 8, 24, {0xff, 0}},
        {"a run over the end", 256, 2, {0x7f, 2}},
        {"a run of 2^64 frames", 8, 11, {0x7f, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1}},
        {"no exceptions", 8, 12, {0x80, 0, 0, 8, 0, 0}},
        {"more exceptions than values", 2, 12, {0x80, 0, 3, 1, 0, 1, 2, 7}},
        {"exceptions of 0 bits", 2, 12, {0x80, 0, 1, 0, 0}},
        {"exceptions of 65 bits", 1, 20, {0x80, 0, 1, 65, 0}},
        {"a place outside", 8, 6, {0x80, 0, 1, 8, 8, 1}},
        {"places that fall", 8, 8, {0x80, 0, 2, 8, 3, 2, 1, 1}},
        {"a place twice", 8, 8, {0x80, 0, 2, 8, 3, 3, 1, 1}},
        {"a bitmap of fewer", 17, 11, {0x80, 0, 16, 1, 0xff, 0x7f, 0, 0xff, 0xff}},
        {"a bitmap of more", 17, 11, {0x80, 0, 16, 1, 0xff, 0xff, 1, 0xff, 0xff}},
        {"a bitmap beyond the frame", 17, 11, {0x80, 0, 16, 1, 0xff, 0x7f, 2, 0xff, 0xff}},
        {"a base of 11 bytes", 1, 12, {0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2}},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct fixture f;
        size_t n_read;
        fixture_init(&f, cases[i].n);
        enum err_code rc =
            decode_exact(&f, bytes_of(cases[i].bytes, cases[i].len), false, 0, &n_read);
        if (rc != ERR_CORRUPT) test_fail(__FILE__, __LINE__, "taken: %s", cases[i].what);
        fixture_release(&f);
    }
}

/* The layout in bytes. */
static void test_bytes(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 300);
    for (size_t i = 0; i < 300; i++) f.x[i] = i < 128 ? 5 + (int64_t)(i % 2) : 5;
    f.x[3] = -1000;
    intcol_encode(&f.b, f.x, 300, EFFORT_FAST);
    CHECK_U64(f.b.len, 2 + 2 + 1 + 2 + 16 + 2);
    static const uint8_t expected[] = {0x81, 10,  1, 11, 3, 0xd9, 0x07, /* -1005 = zz 2009 */
                                       0xa2, 0xaa};
    CHECK_BYTES(bytes_of(f.b.p, sizeof(expected)), bytes_of(expected, sizeof(expected)));
    static const uint8_t run[] = {0x7f, 1};
    CHECK_BYTES(bytes_of(f.b.p + f.b.len - 2, 2), bytes_of(run, 2));
    fixture_release(&f);
}

/* Frames where a reset, a spike or both would cost everything without exceptions. */
static void test_sizes(void **state)
{
    (void)state;
    struct rng rng;
    test_rng(&rng);
    struct fixture f;
    fixture_init(&f, 128);
    for (size_t i = 0; i < 128; i++) f.x[i] = 1000 + (int64_t)rng_below(&rng, 16);
    CHECK_U64(intcol_size(f.x, 128, EFFORT_FAST), 1 + 2 + 64);
    f.x[17] = -123456789;
    CHECK(intcol_size(f.x, 128, EFFORT_FAST) <= 1 + 2 + 64 + 2 + 1 + 4);
    f.x[90] = 1 << 20;
    CHECK(intcol_size(f.x, 128, EFFORT_FAST) <= 1 + 2 + 64 + 2 + 2 + 8);
    for (size_t i = 0; i < 5; i++) f.x[i * 20] = -1000000000 - (int64_t)i;
    CHECK(intcol_size(f.x, 128, EFFORT_FAST) <= 1 + 2 + 64 + 2 + 7 + 7 * 4);
    CHECK(intcol_size(f.x, 128, EFFORT_SMALL) <= intcol_size(f.x, 128, EFFORT_FAST));
    /* Half of them negative, far away: only the window of all pairs finds the upper half. */
    for (size_t i = 0; i < 128; i++)
        f.x[i] = (i % 8 ? 1000000 : 1000 * (int64_t)i) + (int64_t)rng_below(&rng, 4);
    CHECK(intcol_size(f.x, 128, EFFORT_SMALL) < intcol_size(f.x, 128, EFFORT_FAST));
    fixture_release(&f);
}

static bool refuse(void *ctx, size_t size)
{
    (void)ctx;
    (void)size;
    return true;
}

static void test_no_memory(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 128);
    for (size_t i = 0; i < 128; i++) f.x[i] = (int64_t)(i * i);
    mem_set_fail_hook(refuse, NULL);
    intcol_encode(&f.b, f.x, 128, EFFORT_SMALL);
    mem_set_fail_hook(NULL, NULL);
    CHECK_ERR(buf_finish(&f.b, &f.err), ERR_NO_MEMORY);
    fixture_release(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_roundtrip),
        cmocka_unit_test(test_every_width),
        cmocka_unit_test(test_every_prefix_is_refused),
        cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_hostile_cases),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
