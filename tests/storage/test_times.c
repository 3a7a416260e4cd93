/* tests/storage/test_times.c: columns of times come back, are small where times are regular, and are bounded. */
#include "storage/times.h"

#include "tests/ref/columns_ref.h"
#include "tests/storage/gen.h"

struct fixture {
    struct buf b;
    struct err err;
    int64_t *t, *out;
    size_t n;
};

static void fixture_init(struct fixture *f, size_t n)
{
    buf_init(&f->b, MEM_BASE);
    f->n = n;
    f->t = malloc(n * sizeof(int64_t));
    f->out = malloc(n * sizeof(int64_t));
    CHECK(f->t && f->out);
}

static void fixture_release(struct fixture *f)
{
    buf_release(&f->b);
    free(f->t);
    free(f->out);
}

/* Fewer than n when time runs out. */
static void gen_times(struct rng *rng, struct fixture *f)
{
    unsigned kind = (unsigned)rng_below(rng, GEN_TIME_KINDS);
    uint64_t t = kind == 5 && rng_chance(rng, 0.3) ? (uint64_t)INT64_MIN
                                                   : UINT64_C(1700000000000) + rng_below(rng, 5000);
    bool gaps = rng_chance(rng, 0.3);
    for (size_t i = 0; i < f->n; i++) {
        f->t[i] = (int64_t)t;
        uint64_t next = t + gen_step_ms(rng, kind);
        if (gaps && rng_chance(rng, 0.02)) next += 60000;
        if ((int64_t)next <= (int64_t)t) {
            f->n = i + 1;
            return;
        }
        t = next;
    }
}

static enum err_code decode_exact(struct fixture *f, struct bytes b, size_t n)
{
    uint8_t *p = malloc(b.len ? b.len : 1);
    CHECK(p != NULL);
    if (b.len) memcpy(p, b.p, b.len);
    enum err_code rc = times_decode(bytes_of(p, b.len), f->out, n, &f->err);
    free(p);
    return rc;
}

static void check_column(struct fixture *f)
{
    size_t n = 0;
    struct bytes b = buf_bytes(&f->b);
    CHECK_OK(times_count(b, &n, &f->err), &f->err);
    CHECK_U64(n, f->n);
    CHECK_OK(decode_exact(f, b, n), &f->err);
    for (size_t i = 0; i < n; i++) CHECK_I64(f->out[i], f->t[i]);
    ref_times(b, f->out, n);
    for (size_t i = 0; i < n; i++) CHECK_I64(f->out[i], f->t[i]);
    struct reader r = reader_init(b);
    CHECK_OK(times_skip(&r, &n, &f->err), &f->err);
    CHECK_U64(n, f->n);
    CHECK_U64(reader_left(&r), 0);
    if (n > 1) CHECK_ERR(decode_exact(f, b, n - 1), ERR_CORRUPT); /* not what is expected */
    for (size_t len = 0; len < b.len && b.len < 500; len++)
        CHECK_ERR(decode_exact(f, bytes_of(b.p, len), f->n), ERR_CORRUPT);
    buf_u8(&f->b, 0);
    CHECK_ERR(decode_exact(f, buf_bytes(&f->b), f->n), ERR_CORRUPT);
}

static void test_roundtrip(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 1000)
    {
        struct fixture f;
        fixture_init(&f, 1 + rng_below(&rng, rng_chance(&rng, 0.1) ? 3000 : 300));
        gen_times(&rng, &f);
        times_encode(&f.b, f.t, f.n);
        check_column(&f);
        buf_reset(&f.b);
        times_encode_as(&f.b, f.t, f.n, EFFORT_FAST);
        check_column(&f);
        fixture_release(&f);
    }
}

static void test_damage(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 1000)
    {
        struct fixture f;
        fixture_init(&f, 1 + rng_below(&rng, 300));
        gen_times(&rng, &f);
        times_encode(&f.b, f.t, f.n);
        for (int k = 0; k < 20; k++) {
            f.b.p[rng_below(&rng, f.b.len)] ^= (uint8_t)(1 + rng_below(&rng, 255));
            enum err_code rc = decode_exact(&f, buf_bytes(&f.b), f.n);
            CHECK(rc == ERR_OK || rc == ERR_CORRUPT);
            for (size_t i = 1; rc == ERR_OK && i < f.n; i++) CHECK(f.out[i] > f.out[i - 1]);
        }
        fixture_release(&f);
    }
}

static void test_hostile_cases(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        uint8_t bytes[16];
        size_t len, n;
    } cases[] = {
        {"nothing", {0}, 0, 1},
        {"no times", {0, 0, 0}, 3, 1},
        {"2^24 + 1 times", {0x81, 0x80, 0x80, 8, 0, 0, 0x7f, 0}, 8, 1},
        {"kind 2", {1, 2, 0}, 3, 1},
        {"a step of 0", {3, 1, 0, 0, 0x7f, 0}, 6, 3},
        {"a delta of 0", {3, 0, 0, 0x7f, 0}, 5, 3},
        {"the last two fall", {3, 0, 0, 1, 1, 1}, 6, 3},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct fixture f;
        fixture_init(&f, 8);
        if (decode_exact(&f, bytes_of(cases[i].bytes, cases[i].len), cases[i].n) != ERR_CORRUPT)
            test_fail(__FILE__, __LINE__, "taken: %s", cases[i].what);
        fixture_release(&f);
    }
}

static size_t size_of(struct fixture *f)
{
    buf_reset(&f->b);
    times_encode(&f->b, f->t, f->n);
    check_column(f);
    return f->b.len - 1;
}

/* Bytes, for what targets look like; 5,760 times. */
static void test_sizes(void **state)
{
    (void)state;
    struct rng rng;
    test_rng(&rng);
    struct fixture f;
    fixture_init(&f, 5760);
    for (size_t i = 0; i < f.n; i++) f.t[i] = INT64_C(1700000000000) + (int64_t)i * 15000;
    CHECK(size_of(&f) <= 14);
    for (size_t i = 0; i < f.n; i += 20) f.t[i] += 1 + (int64_t)rng_below(&rng, 7);
    CHECK(size_of(&f) <= f.n / 8); /* one in twenty late: the grid */
    CHECK_U64(f.b.p[2], 1);
    int64_t t = INT64_C(1700000000000);
    for (size_t i = 0; i < f.n; i++) f.t[i] = t += 1000 + (int64_t)rng_below(&rng, 3);
    CHECK(size_of(&f) <= f.n / 8 * 22 / 10); /* a clock that drifts: deltas */
    CHECK_U64(f.b.p[2], 0);
    fixture_release(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_roundtrip),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_hostile_cases),
        cmocka_unit_test(test_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
