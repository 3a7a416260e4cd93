/* tests/storage/test_values.c: any doubles come back bit by bit, from the decoder and from a naive one; the kind is the
 * expected one; bytes that are none are refused. */
#include "storage/values.h"

#include "tests/ref/columns_ref.h"
#include "tests/storage/gen_columns.h"
#include "tests/storage/gen_values.h"

struct fixture {
    struct buf b;
    struct err err;
    double *v, *out;
    size_t n;
};

static void fixture_init(struct fixture *f, size_t n)
{
    buf_init(&f->b, MEM_BASE);
    f->n = n;
    f->v = malloc(n * sizeof(double));
    f->out = malloc(n * sizeof(double));
    CHECK(f->v && f->out);
}

static void fixture_release(struct fixture *f)
{
    buf_release(&f->b);
    free(f->v);
    free(f->out);
}

static enum err_code decode_exact(struct fixture *f, struct bytes b)
{
    uint8_t *p = malloc(b.len ? b.len : 1);
    CHECK(p != NULL);
    if (b.len) memcpy(p, b.p, b.len);
    enum err_code rc = values_decode(bytes_of(p, b.len), f->n, f->out, &f->err);
    free(p);
    return rc;
}

static void check_same(struct fixture *f)
{
    for (size_t i = 0; i < f->n; i++) {
        uint64_t got, expected;
        memcpy(&got, f->out + i, 8);
        memcpy(&expected, f->v + i, 8);
        if (got != expected)
            test_fail(__FILE__, __LINE__, "value %zu of %zu is %016" PRIx64 ", not %016" PRIx64, i,
                      f->n, got, expected);
    }
}

static void check_chunk(struct fixture *f)
{
    CHECK_OK(buf_finish(&f->b, &f->err), &f->err);
    struct bytes b = buf_bytes(&f->b);
    memset(f->out, 0xAA, f->n * sizeof(double));
    CHECK_OK(decode_exact(f, b), &f->err);
    check_same(f);
    memset(f->out, 0xAA, f->n * sizeof(double));
    ref_values(b, f->n, f->out);
    check_same(f);
    CHECK(b.len <= f->n * 8 + 1);
}

/* Whatever the hint says: it is a guess. */
static struct values_hint gen_hint(struct rng *rng)
{
    if (rng_chance(rng, 0.5)) return (struct values_hint){0};
    return (struct values_hint){(uint8_t)rng_below(rng, 9), (uint8_t)rng_below(rng, 60), 1};
}

static void test_roundtrip(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 4000)
    {
        struct fixture f;
        fixture_init(&f, 1 + gen_column_length(&rng));
        static const double rates[] = {0, 0, 0.01, 0.06, 0.3};
        gen_values(&rng, (enum gen_values_kind)rng_below(&rng, GEN_VALUES_KINDS),
                   rates[rng_below(&rng, COUNT_OF(rates))], f.v, f.n);
        struct values_hint hint = gen_hint(&rng);
        values_encode(&f.b, f.v, f.n, EFFORT_FAST, &hint);
        check_chunk(&f);
        buf_reset(&f.b); /* once more, with what it has learned */
        values_encode(&f.b, f.v, f.n, EFFORT_FAST, &hint);
        check_chunk(&f);
        buf_reset(&f.b);
        values_encode(&f.b, f.v, f.n, EFFORT_SMALL, rng_chance(&rng, 0.5) ? NULL : &hint);
        check_chunk(&f);
        fixture_release(&f);
    }
}

static void test_every_prefix_is_refused(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 400)
    {
        struct fixture f;
        fixture_init(&f, 1 + gen_column_length(&rng) % 300);
        gen_values(&rng, (enum gen_values_kind)rng_below(&rng, GEN_VALUES_KINDS), 0.02, f.v, f.n);
        values_encode(&f.b, f.v, f.n, rng_chance(&rng, 0.5) ? EFFORT_FAST : EFFORT_SMALL, NULL);
        for (size_t len = 0; len < f.b.len; len++)
            CHECK_ERR(decode_exact(&f, bytes_of(f.b.p, len)), ERR_CORRUPT);
        buf_u8(&f.b, (uint8_t)rng_u64(&rng));
        CHECK_ERR(decode_exact(&f, buf_bytes(&f.b)), ERR_CORRUPT);
        fixture_release(&f);
    }
}

static void test_hostile(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 3000)
    {
        struct fixture f;
        fixture_init(&f, 1 + gen_column_length(&rng));
        gen_values(&rng, (enum gen_values_kind)rng_below(&rng, GEN_VALUES_KINDS), 0.02, f.v, f.n);
        values_encode(&f.b, f.v, f.n, EFFORT_FAST, NULL);
        for (int k = 0; k < 16; k++) {
            size_t at = rng_below(&rng, k % 2 ? f.b.len : MIN_OF(f.b.len, (size_t)24));
            uint8_t was = f.b.p[at];
            f.b.p[at] ^= (uint8_t)(1 + rng_below(&rng, 255));
            enum err_code rc = decode_exact(&f, buf_bytes(&f.b));
            CHECK(rc == ERR_OK || rc == ERR_CORRUPT);
            if (rng_chance(&rng, 0.7)) f.b.p[at] = was;
        }
        uint8_t noise[300];
        test_fill(&rng, noise, sizeof(noise));
        enum err_code rc = decode_exact(&f, bytes_of(noise, sizeof(noise)));
        CHECK(rc == ERR_OK || rc == ERR_CORRUPT);
        fixture_release(&f);
    }
}

static void test_hostile_cases(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        size_t n, len;
        uint8_t bytes[24];
    } cases[] = {
        {"nothing", 1, 0, {0}},
        {"bit 7 of the tag", 1, 2, {0x80, 2}},
        {"patches of a constant", 1, 2, {0x10, 2}},
        {"order 3", 4, 8, {0x61, 0, 1, 2, 2, 0x7f, 0}},
        {"kind 5", 1, 9, {5}},
        {"kind 15", 1, 9, {15}},
        {"a raw value too few", 2, 9, {6}},
        {"order 2 of a single value", 1, 5, {0x41, 0, 1, 0, 0}},
        {"a divisor of 0", 2, 6, {0x21, 0, 0, 2, 0, 0}},
        {"a divisor without deltas", 1, 5, {0x01, 0, 2, 0, 2}},
        {"e = 13", 1, 5, {0x01, 13 * 4, 1, 0, 2}},
        {"mode 3", 1, 5, {0x01, 3, 1, 0, 2}},
        {"mode 2 with e = 3", 1, 5, {0x01, 3 * 4 + 2, 1, 0, 2}},
        {"no patches", 1, 15, {0x11, 0, 1, 1, 0, 2}},
        {"a patch outside", 1, 15, {0x11, 0, 1, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2}},
        {"more patches than values", 1, 24, {0x11, 0, 1, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
        {"a running sum of mode 1", 1, 10, {0x22, 9}},
        {"a running sum of order 0", 1, 10, {0x02, 8}},
        {"ordered bits of order 2", 2, 12, {0x43}},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct fixture f;
        fixture_init(&f, cases[i].n);
        if (decode_exact(&f, bytes_of(cases[i].bytes, cases[i].len)) != ERR_CORRUPT)
            test_fail(__FILE__, __LINE__, "taken: %s", cases[i].what);
        fixture_release(&f);
    }
}

/* ---- What is chosen, and how small it is ---- */

static void expect(struct fixture *f, enum effort effort, const char *kind, double bits_max)
{
    struct values_hint hint = {0};
    buf_reset(&f->b);
    values_encode(&f->b, f->v, f->n, effort, &hint);
    check_chunk(f);
    const char *got = values_kind_name(buf_bytes(&f->b));
    double bits = (double)f->b.len * 8 / (double)f->n;
    if (strcmp(got, kind) != 0 || bits > bits_max)
        test_fail(__FILE__, __LINE__, "%s of %.2f bits instead of %s of %.2f", got, bits, kind,
                  bits_max);
}

static void expect_both(struct fixture *f, const char *kind, double bits_max)
{
    expect(f, EFFORT_FAST, kind, bits_max);
    expect(f, EFFORT_SMALL, kind, bits_max);
}

/* Whole numbers of thousandths of thousandths, some of which k / 1e6 gives too: the mode that all of them fit. */
static void test_modes(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, 20);
    for (size_t i = 0; i < f.n; i++) f.v[i] = (123457 + (double)i * 1009) / 1e3 / 1e3;
    expect_both(&f, "integers", 5);
    CHECK_U64(f.b.p[1], 6 * 4 + 2);
    CHECK(!(f.b.p[0] & 0x10));
    for (size_t i = 0; i < f.n; i++) f.v[i] = (123457 + (double)i * 1009) * 1e-6;
    expect_both(&f, "integers", 5);
    CHECK_U64(f.b.p[1], 6 * 4 + 1);
    CHECK(!(f.b.p[0] & 0x10));
    fixture_release(&f);
}

static void test_choice(void **state)
{
    (void)state;
    struct rng rng;
    test_rng(&rng);
    struct fixture f;
    fixture_init(&f, 1024);
    double sum = 0;
    for (size_t i = 0; i < f.n; i++) f.v[i] = 7;
    expect_both(&f, "constant", 0.02);
    for (size_t i = 0; i < f.n; i++) f.v[i] = stale_nan();
    expect_both(&f, "constant", 0.08);
    for (size_t i = 0; i < f.n; i++) f.v[i] = sum += (double)rng_below(&rng, 32);
    expect_both(&f, "integers", 5.3);
    memset(f.v + 500, 0, 8); /* a reset: one exception */
    for (size_t i = 501; i < f.n; i++) f.v[i] -= f.v[499];
    expect_both(&f, "integers", 5.5);
    f.v[700] = stale_nan(); /* a marker: one patch */
    f.v[1023] = INFINITY;
    expect_both(&f, "integers", 5.7);
    for (size_t i = 0; i < f.n; i++) f.v[i] = 4096 * (sum += (double)rng_below(&rng, 16));
    expect_both(&f, "integers", 4.3);
    for (size_t i = 0; i < f.n; i++) f.v[i] = 15 * (double)(i * 20 + rng_below(&rng, 16)) / 100;
    expect_both(&f, "integers", 5.3);
    for (size_t i = 0; i < f.n; i++) f.v[i] = (double)rng_below(&rng, 10000) / 1e9;
    expect_both(&f, "integers", 14.4);
    for (size_t i = 0; i < f.n; i++) f.v[i] = (double)rng_below(&rng, 10000) * 1e-6;
    expect_both(&f, "integers", 14.4);
    for (size_t i = 0; i < f.n; i++) f.v[i] = (double)(rng_below(&rng, 10000)) / 1e3 / 1e3 / 1e3;
    expect_both(&f, "integers", 14.4);
    for (size_t i = 0; i < f.n; i++) f.v[i] = (double)(i * i + i);
    expect(&f, EFFORT_SMALL, "integers", 0.3); /* second deltas are constant */
    sum = 0.1;
    for (size_t i = 0; i < f.n; i++) f.v[i] = sum += (double)rng_below(&rng, 16) / 100;
    expect_both(&f, "running sum", 9);
    f.v[10] = stale_nan();
    expect_both(&f, "running sum", 9.2);
    for (size_t i = 0; i < f.n; i++) /* comes and goes */
        f.v[i] = i % 2 ? stale_nan() : (double)rng_below(&rng, 4);
    expect_both(&f, "integers", 7);
    sum = 1000;
    for (size_t i = 0; i < f.n; i++) f.v[i] = sum += rng_normal(&rng);
    expect_both(&f, "ordered bits", 47);
    for (size_t i = 0; i < f.n; i++) f.v[i] = double_from_bits(rng_u64(&rng) >> 2);
    expect_both(&f, "ordered bits", 64);
    for (size_t i = 0; i < f.n; i++) f.v[i] = double_from_bits(rng_u64(&rng));
    expect_both(&f, "raw", 64.01);
    CHECK(strcmp(values_kind_name(bytes_of("\x07", 1)), "unknown") == 0);
    CHECK(strcmp(values_kind_name((struct bytes){0}), "unknown") == 0);
    fixture_release(&f);
}

/* The kind of the chunk before is kept, through constants too, and given up when the values are others. */
static void test_hint(void **state)
{
    (void)state;
    struct fixture f;
    struct values_hint hint = {0};
    fixture_init(&f, 120);
    for (size_t i = 0; i < f.n; i++) f.v[i] = (double)(i * 7 % 100) / 100;
    values_encode(&f.b, f.v, f.n, EFFORT_FAST, &hint);
    CHECK(hint.known && hint.kind == 1 && hint.scale == 8);
    for (size_t i = 0; i < f.n; i++) f.v[i] = 5;
    values_encode(&f.b, f.v, f.n, EFFORT_FAST, &hint);
    CHECK(hint.known && hint.kind == 1 && hint.scale == 8);
    for (size_t i = 0; i < f.n; i++) f.v[i] = (double)(i * 7) / 1e4; /* more digits */
    values_encode(&f.b, f.v, f.n, EFFORT_FAST, &hint);
    CHECK(hint.known && hint.kind == 1 && hint.scale == 16);
    for (size_t i = 0; i < f.n; i++) f.v[i] = (double)(i * 7 % 100) / 10; /* fewer again */
    values_encode(&f.b, f.v, f.n, EFFORT_FAST, &hint);
    CHECK(hint.known && hint.kind == 1 && hint.scale == 4);
    for (size_t i = 0; i < f.n; i++) f.v[i] = sqrt((double)i);
    values_encode(&f.b, f.v, f.n, EFFORT_FAST, &hint);
    CHECK(hint.known && hint.kind == 3);
    for (size_t i = 0; i < f.n; i++) f.v[i] = (double)i;
    buf_reset(&f.b);
    values_encode(&f.b, f.v, f.n, EFFORT_FAST, &hint);
    CHECK(hint.known && hint.kind == 1 && hint.scale == 0);
    check_chunk(&f);
    fixture_release(&f);
}

/* ---- Lack of memory ---- */

static bool refuse(void *ctx, size_t size)
{
    (void)size;
    return (*(unsigned *)ctx)-- == 0;
}

static void test_no_memory(void **state)
{
    (void)state;
    struct rng rng;
    test_rng(&rng);
    for (unsigned k = 0; k < 6; k++) {
        struct fixture f;
        fixture_init(&f, 3000);
        gen_values(&rng, GEN_WALK, 0.001, f.v, f.n);
        unsigned left = k;
        mem_set_fail_hook(refuse, &left);
        values_encode(&f.b, f.v, f.n, EFFORT_SMALL, NULL);
        mem_set_fail_hook(NULL, NULL);
        if (buf_finish(&f.b, &f.err))
            CHECK_U64(f.err.code, ERR_NO_MEMORY);
        else
            check_chunk(&f);
        fixture_release(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_roundtrip), cmocka_unit_test(test_every_prefix_is_refused),
        cmocka_unit_test(test_hostile),   cmocka_unit_test(test_hostile_cases),
        cmocka_unit_test(test_modes),     cmocka_unit_test(test_choice),
        cmocka_unit_test(test_hint),      cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
