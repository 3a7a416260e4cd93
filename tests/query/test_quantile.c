/* tests/query/test_quantile.c: quantiles of values and of classic and native histograms, fractions, moments. The
 * expected numbers were worked out by hand or compared with a running Prometheus. */
#include <math.h>

#include "query/histogram_bounds.h"
#include "tests/query/histogram_text.h"

static int cmp_nan_first(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    if (isnan(x) || isnan(y)) return (isnan(y) != 0) - (isnan(x) != 0);
    return (x > y) - (x < y);
}

static double naive_quantile(double q, double *xs, size_t n)
{
    qsort(xs, n, sizeof(*xs), cmp_nan_first);
    double rank = q * (double)(n - 1), lo = floor(rank), weight = rank - lo;
    size_t i = (size_t)lo, k = i + 1 < n ? i + 1 : n - 1;
    return xs[i] * (1 - weight) + xs[k] * weight;
}

static double gen_value(struct rng *rng, unsigned kind)
{
    if (kind == 0) return (double)rng_below(rng, 5);
    if (kind == 1 && rng_chance(rng, 0.2)) return rng_chance(rng, 0.5) ? NAN : INFINITY;
    return rng_normal(rng);
}

static void test_values(void **state)
{
    (void)state;
    double tens[] = {7, 3, 10, 1, 9, 2, 8, 4, 6, 5},
           with_nan[] = {-1, -2, -3, -4, NAN, -5, -6, -7, -8, -9};
    CHECK_SAME_DOUBLE(quantile_of(0.5, tens, 10), 5.5);
    CHECK_SAME_DOUBLE(quantile_of(0.5, with_nan, 10), -5.5);
    double inf[] = {1, INFINITY}; /* Inf * 0 is in it, at both ends */
    CHECK(isnan(quantile_of(0, inf, 2)) && isnan(quantile_of(1, inf, 2)));
    CHECK(isnan(quantile_of(0.5, NULL, 0)) && isnan(quantile_of(NAN, tens, 10)));
    CHECK(quantile_of(-0.1, tens, 10) == -INFINITY && quantile_of(1.1, tens, 10) == INFINITY);
    struct rng rng;
    PROPERTY_LOOP(&rng, 3000)
    {
        double xs[300], sorted[300];
        size_t n = 1 + rng_below(&rng, rng_chance(&rng, 0.5) ? 6 : 300);
        unsigned kind = (unsigned)rng_below(&rng, 3);
        for (size_t i = 0; i < n; i++) xs[i] = sorted[i] = gen_value(&rng, kind);
        if (rng_chance(&rng, 0.2)) qsort(xs, n, sizeof(*xs), cmp_nan_first);
        double q = rng_chance(&rng, 0.3) ? (double)rng_below(&rng, 5) / 4 : rng_unit(&rng);
        double expected = naive_quantile(q, sorted, n), got = quantile_of(q, xs, n);
        if (isnan(expected))
            CHECK(isnan(got));
        else
            CHECK(got == expected);
    }
}

/* ---- classic ---- */

static double le(double q, size_t n, const struct le_bucket *buckets, bool *repaired)
{
    struct le_bucket copy[16];
    double diff, from, to;
    memcpy(copy, buckets, n * sizeof(*copy));
    return le_quantile(q, copy, n, repaired, &diff, &from, &to);
}
#define LE(q, ...)                                                                                 \
    le(q, sizeof((struct le_bucket[]){__VA_ARGS__}) / sizeof(struct le_bucket),                    \
       (struct le_bucket[]){__VA_ARGS__}, &repaired)

static void test_classic(void **state)
{
    (void)state;
    bool repaired;
#define ABOVE {0.1, 5}, {0.5, 10}, {1, 20}, {INFINITY, 25}
#define BELOW                                                                                      \
    {-1, 5}, {1, 20},                                                                              \
    {                                                                                              \
        INFINITY, 25                                                                               \
    }
    CHECK_SAME_DOUBLE(LE(0.5, ABOVE), 0.625);
    CHECK_SAME_DOUBLE(LE(0.99, ABOVE), 1);
    CHECK_SAME_DOUBLE(LE(0, ABOVE), 0);
    CHECK_SAME_DOUBLE(LE(1, ABOVE), 1);
    CHECK_SAME_DOUBLE(LE(0.1, BELOW), -1);
    CHECK_SAME_DOUBLE(LE(0.5, BELOW), 0);
    CHECK(LE(-0.1, ABOVE) == -INFINITY && LE(1.1, ABOVE) == INFINITY && isnan(LE(NAN, ABOVE)));
    CHECK(isnan(LE(0.5, {0.1, 5}, {1, 7})));                /* no +Inf */
    CHECK(isnan(LE(0.5, {INFINITY, 5})));                   /* a single bucket */
    CHECK(isnan(LE(0.5, {1, 0}, {INFINITY, 0})));           /* nothing observed */
    CHECK(isnan(LE(0.5, {NAN, 1}, {1, 2}, {INFINITY, 3}))); /* NaN is the last bound */
    /* Any order; equal bounds add up. */
    CHECK_SAME_DOUBLE(LE(0.5, {INFINITY, 25}, {0.5, 4}, {0.1, 5}, {1, 20}, {0.5, 6}), 0.625);
    CHECK(!repaired);
    struct le_bucket fall[] = {{0.1, 2}, {1, 1}, {10, 5}, {100, 4}, {1000, 9}, {INFINITY, 8}};
    double diff, from, to;
    CHECK_NEAR(le_quantile(0.5, fall, 6, &repaired, &diff, &from, &to), 8.5);
    CHECK(repaired && diff == 1 && from == 1 && to == INFINITY);
    CHECK_NEAR(LE(0.01, {0.1, 2}, {1, 1}, {10, 5}, {100, 4}, {1000, 9}, {INFINITY, 8}), 0.0045);
    CHECK_NEAR(LE(0.99, {0.1, 2}, {1, 1}, {10, 5}, {100, 4}, {1000, 9}, {INFINITY, 8}), 979.75);
    (void)LE(0.5, {1, 1}, {2, 1 - 1e-14}, {INFINITY, 2}); /* rounding: silently */
    CHECK(!repaired);
}

static double fraction(double lower, double upper, size_t n, const struct le_bucket *buckets)
{
    struct le_bucket copy[16];
    memcpy(copy, buckets, n * sizeof(*copy));
    return le_fraction(lower, upper, copy, n);
}
#define FRACTION(lower, upper, ...)                                                                \
    fraction(lower, upper, sizeof((struct le_bucket[]){__VA_ARGS__}) / sizeof(struct le_bucket),   \
             (struct le_bucket[]){__VA_ARGS__})

static void test_classic_fraction(void **state)
{
    (void)state;
#define POSITIVE {1, 1}, {2, 3}, {3, 6}, {INFINITY, 100}
#define NEGATIVE                                                                                   \
    {-3, 10}, {-2, 12}, {-1, 15},                                                                  \
    {                                                                                              \
        INFINITY, 100                                                                              \
    }
    CHECK_NEAR(FRACTION(0, 1.5, POSITIVE), 0.02);
    CHECK_NEAR(FRACTION(0.5, 2, POSITIVE), 0.025);
    CHECK_NEAR(FRACTION(2, 3.5, POSITIVE), 0.03);
    CHECK_NEAR(FRACTION(1, 3, POSITIVE), 0.05);
    CHECK_NEAR(FRACTION(400, INFINITY, POSITIVE), 0.94);
    CHECK_NEAR(FRACTION(-INFINITY, INFINITY, POSITIVE), 1);
    CHECK_NEAR(FRACTION(4, 5, POSITIVE), 0);
    CHECK_NEAR(FRACTION(-10, -5, POSITIVE), 0);
    CHECK_NEAR(FRACTION(3, 2, POSITIVE), 0);
    CHECK_NEAR(FRACTION(-4, -2, NEGATIVE), 0.02); /* an open bucket is not divided */
    CHECK_NEAR(FRACTION(-INFINITY, -1.5, NEGATIVE), 0.135);
    CHECK(isnan(FRACTION(0, NAN, POSITIVE)) && isnan(FRACTION(NAN, 1, POSITIVE)));
    CHECK(isnan(FRACTION(0, 1, {1, 0}, {INFINITY, 0})) && isnan(FRACTION(0, 1, {1, 1}, {2, 2})));
}

/* A quantile never falls when q grows, and the fraction below it is about q. */
static void test_classic_properties(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 2000)
    {
        struct le_bucket b[16];
        size_t n = 2 + rng_below(&rng, 13);
        double bound = rng_chance(&rng, 0.5) ? 0 : -5, count = 0;
        for (size_t i = 0; i < n; i++) {
            bound += 0.1 + rng_unit(&rng);
            count += 1 + (double)rng_below(&rng, 9);
            b[i] = (struct le_bucket){i + 1 < n ? bound : INFINITY, count};
        }
        bool repaired;
        double before = -INFINITY;
        for (double q = 0; q <= 1; q += 1.0 / 64) {
            double v = le(q, n, b, &repaired);
            CHECK(v >= before && !repaired);
            before = v;
            if (v > b[0].le && v < b[n - 2].le) {
                double back = fraction(-INFINITY, v, n, b);
                CHECK(fabs(back - q) < 1e-12);
            }
        }
    }
}

static void test_le_parse(void **state)
{
    (void)state;
    double v;
    CHECK(le_parse(STR("+Inf"), &v) && v == INFINITY);
    CHECK(le_parse(STR("1e3"), &v) && v == 1000);
    CHECK(le_parse(STR("0x10p0"), &v) && v == 16);
    CHECK(le_parse(STR(".2"), &v) && v == 0.2);
    CHECK(!le_parse(STR(""), &v) && !le_parse(STR("Hello World"), &v) && !le_parse(STR("1 "), &v));
}

/* ---- native ---- */

struct fixture {
    struct arena arena;
    struct notes notes;
    struct quantile_context ctx;
};

static void fixture_init(struct fixture *f)
{
    arena_init(&f->arena, MEM_BASE, 0);
    notes_init(&f->notes, &f->arena);
    f->ctx = (struct quantile_context){.notes = &f->notes, .pos_vector = 3, .metric = STR("m")};
}

static void test_native(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    /* clang-format off */
    static const struct { const char *h; double q, expected; } cases[] = {
#define H1 "count:44 sum:110 z_bucket_w:0.001 z_bucket:11 buckets:[11 22]"
        {H1, 0.1, 0.0004}, {H1, 0.5, 1}, {H1, 0.9, 1.7411011265922482}, {H1, 0, 0}, {H1, 1, 2},
#define H2 "count:17 sum:25.5 z_bucket_w:0.001 z_bucket:1 offset:-2 buckets:[3 5 0 0 1 0 3 2] n_buckets:[2]"
        {H2, 0, -1}, {H2, 0.1, -0.5547847360339224}, {H2, 0.15, 0.00009999999999999961}, {H2, 0.5, 0.35355339059327373},
        {H2, 0.9, 17.753111553085525}, {H2, 1, 32},
#define BOTH "count:24 sum:100 z_bucket:4 z_bucket_w:0.001 buckets:[2 3 0 1 4] n_buckets:[2 3 0 1 4]"
        {BOTH, 1, 16}, {BOTH, 0.99, 15.34822590920423}, {BOTH, 0.7, 1.2030250360821164}, {BOTH, 0.5, 0},
        {BOTH, 0.3, -1.2030250360821169}, {BOTH, 0.01, -15.34822590920423},
#define NEG "count:12 sum:100 z_bucket:2 z_bucket_w:0.001 n_buckets:[2 3 0 1 4]"
        {NEG, 1, 0}, {NEG, 0.5, -1.5874010519681996}, {NEG, 0, -16},
        {"schema:-1 count:5 buckets:[0 5]", 0.5, 2}, {"schema:1 count:5 buckets:[0 5]", 0.5, 1.189207115002721},
#define CUSTOM "schema:-53 count:10 sum:1 custom_values:[1 2 5] buckets:[1 2 3 4]"
        {CUSTOM, 0.05, 0.5}, {CUSTOM, 0.5, 4}, {CUSTOM, 0.99, 5},
        {"schema:-53 count:1 custom_values:[-3 5] buckets:[1]", 0.5, -3}, {"schema:-53 count:1 buckets:[1]", 0.5, INFINITY},
        {H1, -0.1, -INFINITY}, {H1, 1.1, INFINITY}, {H1, NAN, NAN}, {"count:0", 0.5, NAN}, {"count:5", 0.3, 0},
    };
    /* clang-format on */
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        CHECK_NEAR(histogram_quantile(cases[i].q, H(&f.arena, cases[i].h), &f.ctx),
                   cases[i].expected);
    CHECK_U64(f.notes.n, 0);
    /* NaN observations: in count, in no bucket. */
    const char *nan_half = "count:10 sum:NaN buckets:[3 3]";
    CHECK_NEAR(histogram_quantile(0.3, H(&f.arena, nan_half), &f.ctx), 2);
    CHECK_NEAR(histogram_quantile(0.5, H(&f.arena, nan_half), &f.ctx), 1.5874010519681994);
    CHECK_U64(f.notes.n, 1);
    CHECK_STR(f.notes.first->text,
              "input to histogram_quantile has NaN observations, result is skewed higher for "
              "metric name \"m\"");
    CHECK(f.notes.first->pos == 3 && f.notes.first->kind == NOTE_INFO);
    f.ctx.metric = STR("");
    CHECK(isnan(histogram_quantile(0.9, H(&f.arena, nan_half), &f.ctx)));
    CHECK_STR(f.notes.first->next->text,
              "input to histogram_quantile has NaN observations, result is NaN");
    CHECK(isnan(histogram_quantile(0.9, H(&f.arena, nan_half), NULL)));
    arena_release(&f.arena);
}

static void test_native_fraction(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    /* clang-format off */
    static const struct { const char *h; double lower, upper, expected; } cases[] = {
        {H1, 1, 1.5, 0.2924812503605781}, {H1, 0, 1, 0.5}, {H2, -0.5, 3, 0.5638213235718327}, {H2, 0, 1, 0.5},
        {CUSTOM, 0.5, 1.5, 0.15}, {CUSTOM, 3, INFINITY, 0.6}, {CUSTOM, 6, 7, 0}, {CUSTOM, 0, 0.5, 0.05},
        {BOTH, -0.0005, 0.0005, 0.08333333333333333}, {BOTH, -2, -1.5, 0.051879687409855456},
        {BOTH, -INFINITY, INFINITY, 1}, {BOTH, 3, 3, 0}, {BOTH, 4, 3, 0}, {NEG, -INFINITY, -6, 0.36791979160657035},
        {NEG, -0.0005, 0, 0.08333333333333333}, {NEG, 0, INFINITY, 0}, {"count:0", 1, 2, NAN}, {BOTH, NAN, 1, NAN},
        {"schema:-53 count:4 custom_values:[-2 3] buckets:[1 3]", -3, 3, 0.75},
        {"schema:-53 count:4 custom_values:[-2 3] buckets:[1 3]", -INFINITY, -2, 0.25},
    };
    /* clang-format on */
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        CHECK_NEAR(
            histogram_fraction(cases[i].lower, cases[i].upper, H(&f.arena, cases[i].h), &f.ctx),
            cases[i].expected);
    CHECK_U64(f.notes.n, 0);
    const struct histogram *nan = H(&f.arena, "count:10 sum:NaN buckets:[3 3]");
    CHECK_NEAR(histogram_fraction(-INFINITY, INFINITY, nan, &f.ctx), 0.6);
    CHECK_STR(f.notes.first->text,
              "input to histogram_fraction has NaN observations, which are excluded from all "
              "fractions for metric name \"m\"");
    arena_release(&f.arena);
}

static void test_native_properties(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 1000)
    {
        struct arena arena;
        arena_init(&arena, MEM_BASE, 0);
        struct histogram *h =
            H(&arena, "z_bucket_w:0.01 offset:-3 buckets:[0 0 0 0 0 0] n_buckets:[0 0 0]");
        h->schema = (int32_t)rng_below(&rng, 13) - 4;
        if (rng_chance(&rng, 0.5)) h->n_neg = h->n_neg_spans = 0;
        h->zero_count = (double)rng_below(&rng, 3);
        h->zero_threshold = histogram_bound(-4, h->schema); /* no regular bucket lies within */
        h->count = h->zero_count;
        for (uint32_t i = 0; i < h->n_pos; i++) h->count += h->pos[i] = (double)rng_below(&rng, 5);
        for (uint32_t i = 0; i < h->n_neg; i++) h->count += h->neg[i] = (double)rng_below(&rng, 5);
        double before = -INFINITY;
        for (double q = 0; h->count && q <= 1; q += 1.0 / 64) {
            double v = histogram_quantile(q, h, NULL);
            CHECK(v >= before - fabs(before) * 1e-12);
            before = v;
            CHECK(histogram_fraction(-INFINITY, v, h, NULL) > q - 1e-9);
        }
        arena_release(&arena);
    }
}

static void test_moments(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, MEM_BASE, 0);
    const struct histogram *h = H(&arena, "schema:2 count:4 sum:10 buckets:[1 0 0 0 1 0 0 1 1]");
    CHECK_SAME_DOUBLE(histogram_extract(FN_HISTOGRAM_COUNT, h), 4);
    CHECK_SAME_DOUBLE(histogram_extract(FN_HISTOGRAM_SUM, h), 10);
    CHECK_SAME_DOUBLE(histogram_extract(FN_HISTOGRAM_AVG, h), 2.5);
    CHECK_NEAR(histogram_extract(FN_HISTOGRAM_STDDEV, h), 1.0787993180043811);
    CHECK_NEAR(histogram_extract(FN_HISTOGRAM_STDVAR, h), 1.163807968526718);
    h = H(&arena, "count:10 sum:-100 n_buckets:[0 0 0 0 10]");
    CHECK_NEAR(histogram_extract(FN_HISTOGRAM_STDVAR, h), 1.725830020304794);
    h = H(&arena, "schema:-53 count:11 sum:33 custom_values:[0 0.1 0.2 1] buckets:[0 5 2 4]");
    CHECK_NEAR(histogram_extract(FN_HISTOGRAM_STDDEV, h), 2.7435461458749795);
    h = H(&arena, "schema:-53 count:1 sum:33 custom_values:[1] buckets:[0 1]");
    CHECK(histogram_extract(FN_HISTOGRAM_STDVAR, h) == INFINITY);
    CHECK(isnan(histogram_extract(FN_HISTOGRAM_STDDEV, H(&arena, "count:0"))));
    arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),           cmocka_unit_test(test_classic),
        cmocka_unit_test(test_classic_fraction), cmocka_unit_test(test_classic_properties),
        cmocka_unit_test(test_le_parse),         cmocka_unit_test(test_native),
        cmocka_unit_test(test_native_fraction),  cmocka_unit_test(test_native_properties),
        cmocka_unit_test(test_moments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
