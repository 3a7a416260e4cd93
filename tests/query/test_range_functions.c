/* tests/query/test_range_functions.c: functions over time, by worked examples and against naive forms. */
#include <math.h>

#include "tests/query/window_fixture.h"

#define ALL INT64_C(1000000)

static double over(struct window_fixture *f, enum function_id id)
{
    return window_float(f, id, ALL, ALL + 1);
}

static void test_basics(void **state)
{
    (void)state;
    struct window_fixture f;
    window_init(&f);
    window_values(&f, 10000, "0 8 8 2 3");
    CHECK_SAME_DOUBLE(over(&f, FN_SUM_OVER_TIME), 21);
    CHECK_SAME_DOUBLE(over(&f, FN_AVG_OVER_TIME), 4.2);
    CHECK_SAME_DOUBLE(over(&f, FN_MIN_OVER_TIME), 0);
    CHECK_SAME_DOUBLE(over(&f, FN_MAX_OVER_TIME), 8);
    CHECK_SAME_DOUBLE(over(&f, FN_COUNT_OVER_TIME), 5);
    CHECK_SAME_DOUBLE(over(&f, FN_PRESENT_OVER_TIME), 1);
    CHECK_SAME_DOUBLE(over(&f, FN_FIRST_OVER_TIME), 0);
    CHECK_SAME_DOUBLE(over(&f, FN_LAST_OVER_TIME), 3);
    CHECK_NEAR(over(&f, FN_STDVAR_OVER_TIME), 10.56);
    CHECK_NEAR(over(&f, FN_STDDEV_OVER_TIME), sqrt(10.56));
    CHECK_SAME_DOUBLE(over(&f, FN_TS_OF_FIRST_OVER_TIME), 0);
    CHECK_SAME_DOUBLE(over(&f, FN_TS_OF_LAST_OVER_TIME), 40);
    CHECK_SAME_DOUBLE(over(&f, FN_TS_OF_MIN_OVER_TIME), 0);
    CHECK_SAME_DOUBLE(over(&f, FN_TS_OF_MAX_OVER_TIME), 20); /* the last of equals */
    CHECK_SAME_DOUBLE(over(&f, FN_CHANGES), 3);
    CHECK_SAME_DOUBLE(over(&f, FN_RESETS), 1);
    window_values(&f, 10000, "NaN 0 NaN 1 NaN");
    CHECK_SAME_DOUBLE(over(&f, FN_MIN_OVER_TIME), 0);
    CHECK_SAME_DOUBLE(over(&f, FN_MAX_OVER_TIME), 1);
    CHECK_SAME_DOUBLE(over(&f, FN_TS_OF_MAX_OVER_TIME), 30);
    CHECK(isnan(over(&f, FN_SUM_OVER_TIME)) && isnan(over(&f, FN_STDVAR_OVER_TIME)));
    window_values(&f, 10000, "NaN NaN");
    CHECK(isnan(over(&f, FN_MIN_OVER_TIME)));
    CHECK_SAME_DOUBLE(over(&f, FN_TS_OF_MIN_OVER_TIME), 10);
    CHECK_SAME_DOUBLE(over(&f, FN_CHANGES), 0);
    window_values(&f, 10000, "0 -0 NaN 0");
    CHECK_SAME_DOUBLE(over(&f, FN_CHANGES), 2);
    check_note(&f, NULL);
    window_release(&f);
}

static void test_sums(void **state)
{
    (void)state;
    struct window_fixture f;
    window_init(&f);
    /* clang-format off */
    static const struct { const char *values; double sum, average; } cases[] = {
        {"1 2 3 4 5", 15, 3}, {"1 1e100 1 -1e100", 2, 0.5}, {"1 2 3 4 Inf", INFINITY, INFINITY}, {"1 2 3 Inf -Inf", NAN, NAN},
        {"Inf 0 Inf", INFINITY, INFINITY}, {"-Inf -Inf", -INFINITY, -INFINITY}, {"1 2 NaN", NAN, NAN}, {"-0", 0, -0.0},
        {"9.988465674311579e+307 9.988465674311579e+307", INFINITY, 9.988465674311579e+307},
        {"-9.988465674311579e+307 -9.988465674311579e+307 -9.988465674311579e+307", -INFINITY, -9.988465674311579e+307},
        {"-9.988465674311579e+307 9.988465674311579e+307", 0, 0},
        {"5.30921651659898 0.961118537914768 1.62091361305318 0.865089463758091 0.323055185914577 0.951811357687154", 10.03120467492675, 1.67186744582113},
    };
    /* clang-format on */
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        window_values(&f, 10000, cases[i].values);
        CHECK_NEAR(over(&f, FN_SUM_OVER_TIME), cases[i].sum);
        CHECK_NEAR(over(&f, FN_AVG_OVER_TIME), cases[i].average);
    }
    CHECK_SAME_DOUBLE(over(&f, FN_AVG_OVER_TIME), 10.03120467492675 / 6);
    window_release(&f);
    struct rng rng;
    PROPERTY_LOOP(&rng, 1000)
    {
        window_init(&f);
        size_t n = 1 + rng_below(&rng, 200);
        long double sum = 0, sum_squares = 0;
        for (size_t i = 0; i < n; i++) {
            double v = rng_normal(&rng) * (rng_chance(&rng, 0.1) ? 1e6 : 1) + 100;
            window_push(&f, (int64_t)i * 1000, v);
            sum += v;
        }
        for (size_t i = 0; i < n; i++) sum_squares += (f.v[i] - sum / n) * (f.v[i] - sum / n);
        CHECK(fabs(over(&f, FN_SUM_OVER_TIME) - (double)sum) <= fabs((double)sum) * 1e-15);
        CHECK(fabs(over(&f, FN_AVG_OVER_TIME) - (double)(sum / n)) <=
              fabs((double)(sum / n)) * 1e-15);
        CHECK(fabs(over(&f, FN_STDVAR_OVER_TIME) - (double)(sum_squares / n)) <=
              (double)(sum_squares / n) * 1e-12);
        window_release(&f);
    }
}

static void test_quantiles(void **state)
{
    (void)state;
    struct window_fixture f;
    double q = 0.8;
    window_init(&f);
    f.w.args = &q;
    f.w.n_args = 1;
    window_values(&f, 10000, "4 0 1");
    CHECK_SAME_DOUBLE(over(&f, FN_QUANTILE_OVER_TIME),
                      1 * (1 - 0.6000000000000001) + 4 * 0.6000000000000001);
    CHECK_SAME_DOUBLE(f.v[0], 4); /* the samples stay in order */
    check_note(&f, NULL);
    q = 2;
    CHECK(over(&f, FN_QUANTILE_OVER_TIME) == INFINITY);
    check_note(&f, "quantile value should be between 0 and 1, got 2");
    q = NAN;
    CHECK(isnan(over(&f, FN_QUANTILE_OVER_TIME)));
    check_note(&f, "quantile value should be between 0 and 1, got NaN");
    q = -INFINITY;
    CHECK(over(&f, FN_QUANTILE_OVER_TIME) == -INFINITY);
    check_note(&f, "quantile value should be between 0 and 1, got -Inf");
    window_values(&f, 10000, "4 6 2 1 999 1 2");
    CHECK_SAME_DOUBLE(over(&f, FN_MAD_OVER_TIME), 1);
    window_values(&f, 10000, "5");
    CHECK_SAME_DOUBLE(over(&f, FN_MAD_OVER_TIME), 0);
    window_values(&f, 10000, "1 2 NaN 4");
    CHECK(isnan(over(&f, FN_MAD_OVER_TIME)));
    window_release(&f);
}

static void test_trends(void **state)
{
    (void)state;
    struct window_fixture f;
    double args[] = {3600, 0.1};
    window_init(&f);
    f.w.args = args;
    f.w.n_args = 2;
    window_values(&f, 300000, "0 10 20 30 40 0 10 20 30 40 50");
    CHECK_NEAR(window_float(&f, FN_DERIV, 3000000, 6000000), 0.010606060606060607);
    CHECK_NEAR(window_float(&f, FN_PREDICT_LINEAR, 3000000, 3300000), 76.81818181818181);
    f.n = 1;
    CHECK(window_call(&f, FN_DERIV, 3000000, 6000000).kind == POINT_NONE);
    window_values(&f, 300000, "7 7 7");
    CHECK_SAME_DOUBLE(window_float(&f, FN_DERIV, 3000000, 6000000), 0);
    CHECK_SAME_DOUBLE(window_float(&f, FN_PREDICT_LINEAR, 3000000, 6000000), 7);
    window_values(&f, 300000, "Inf Inf");
    CHECK(isnan(window_float(&f, FN_DERIV, 3000000, 6000000)));
    window_values(&f, 300000, "1 NaN 3");
    CHECK(isnan(window_float(&f, FN_DERIV, 3000000, 6000000)));
    args[0] = 0.01;
    window_values(&f, 10000, "7950 7960 7970 7980 7990 8000");
    CHECK_NEAR(over(&f, FN_DOUBLE_EXPONENTIAL_SMOOTHING), 8000);
    window_values(&f, 10000, "1 2 4"); /* s1 = 1, b = 1: 2; b = 0.1·1 + 0.9·1; 0.01·4 + 0.99·3 */
    CHECK_NEAR(over(&f, FN_DOUBLE_EXPONENTIAL_SMOOTHING), 3.01);
    f.n = 1;
    CHECK(window_call(&f, FN_DOUBLE_EXPONENTIAL_SMOOTHING, ALL, ALL + 1).kind == POINT_NONE);
    struct range_window w = f.w;
    struct point out;
    w.t_ms = f.t_ms, w.v = f.v, w.n = 1, w.arena = &f.arena;
    args[0] = 0;
    CHECK_ERR(range_function(FN_DOUBLE_EXPONENTIAL_SMOOTHING, &w, &out, &f.err), ERR_EXECUTION);
    CHECK_STR(str_of(f.err.text), "invalid smoothing factor. Expected: 0 < sf < 1, got: 0.000000");
    args[0] = 0.5, args[1] = 1;
    CHECK_ERR(range_function(FN_DOUBLE_EXPONENTIAL_SMOOTHING, &w, &out, &f.err), ERR_EXECUTION);
    CHECK_STR(str_of(f.err.text), "invalid trend factor. Expected: 0 < tf < 1, got: 1.000000");
    args[1] = -INFINITY;
    CHECK_ERR(range_function(FN_DOUBLE_EXPONENTIAL_SMOOTHING, &w, &out, &f.err), ERR_EXECUTION);
    CHECK_STR(str_of(f.err.text), "invalid trend factor. Expected: 0 < tf < 1, got: -Inf");
    window_release(&f);
}

/* What each function makes of a window of floats, of histograms, of both. */
static void test_kinds(void **state)
{
    (void)state;
    struct window_fixture f;
    double args[] = {0.5, 0.5};
    window_init(&f);
    f.w.args = args;
    f.w.n_args = 2;
    static const enum function_id floats_only[] = {FN_MIN_OVER_TIME,
                                                   FN_MAX_OVER_TIME,
                                                   FN_STDDEV_OVER_TIME,
                                                   FN_STDVAR_OVER_TIME,
                                                   FN_MAD_OVER_TIME,
                                                   FN_QUANTILE_OVER_TIME,
                                                   FN_TS_OF_MIN_OVER_TIME,
                                                   FN_TS_OF_MAX_OVER_TIME,
                                                   FN_DERIV,
                                                   FN_PREDICT_LINEAR,
                                                   FN_DOUBLE_EXPONENTIAL_SMOOTHING};
    const char *ignored =
        "ignored histograms in a range containing both floats and histograms for metric name \"m\"";
    f.w.metric = STR("m");
    window_push_histogram(&f, 0, "count:1 sum:1 buckets:[1]");
    window_push_histogram(&f, 10000, "count:3 sum:2 buckets:[3]");
    for (size_t i = 0; i < COUNT_OF(floats_only); i++)
        CHECK(window_call(&f, floats_only[i], ALL, ALL + 1).kind == POINT_NONE);
    CHECK_POINT(window_call(&f, FN_SUM_OVER_TIME, ALL, ALL + 1), "{count:4, sum:3, (0.5,1]:4}");
    CHECK_POINT(window_call(&f, FN_AVG_OVER_TIME, ALL, ALL + 1), "{count:2, sum:1.5, (0.5,1]:2}");
    CHECK_POINT(window_call(&f, FN_FIRST_OVER_TIME, ALL, ALL + 1), "{count:1, sum:1, (0.5,1]:1}");
    CHECK_POINT(window_call(&f, FN_LAST_OVER_TIME, ALL, ALL + 1), "{count:3, sum:2, (0.5,1]:3}");
    check_note(&f, NULL);
    window_push(&f, 20000, 5);
    window_push(&f, 30000, 7);
    static const double expected[] = {5, 7, 1, 1, 1, 6, 20, 30};
    for (size_t i = 0; i < COUNT_OF(expected); i++) {
        CHECK_NEAR(over(&f, floats_only[i]), expected[i]);
        check_note(&f, ignored);
    }
    CHECK(window_call(&f, FN_SUM_OVER_TIME, ALL, ALL + 1).kind == POINT_NONE);
    check_note(&f, "encountered a mix of histograms and floats for metric name \"m\"");
    CHECK_NEAR(over(&f, FN_COUNT_OVER_TIME), 4);
    CHECK_NEAR(over(&f, FN_CHANGES), 3);
    CHECK_NEAR(over(&f, FN_RESETS), 1); /* the change of kind */
    CHECK_NEAR(over(&f, FN_LAST_OVER_TIME), 7);
    f.n = 3; /* one float: no trend, but the note */
    CHECK(window_call(&f, FN_DERIV, ALL, ALL + 1).kind == POINT_NONE);
    check_note(&f, ignored);
    window_release(&f);
}

static void test_changes_and_resets(void **state)
{
    (void)state;
    struct window_fixture f;
    window_init(&f);
    for (int64_t i = 0; i < 4; i++) window_push(&f, i * 1000, (double)i);
    for (int64_t i = 4; i < 10; i++) {
        window_push_histogram(&f, i * 1000, "buckets:[1]");
        f.h[i]->count = f.h[i]->pos[0] = (double)i;
    }
    CHECK_NEAR(over(&f, FN_CHANGES), 9);
    CHECK_NEAR(over(&f, FN_RESETS), 1);
    /* Two more, around a float. */
    f.h[7] = NULL;
    CHECK_NEAR(over(&f, FN_RESETS), 3);
    f.n = 1;
    CHECK_NEAR(over(&f, FN_CHANGES), 0);
    window_release(&f);
    window_init(&f);
    static const char *const schemas[] = {"schema:1", "schema:0", "schema:1"};
    for (size_t i = 0; i < 3; i++) window_push_histogram(&f, (int64_t)i * 1000, schemas[i]);
    CHECK_NEAR(over(&f, FN_RESETS), 1); /* at the return to the finer one */
    window_release(&f);
}

static void test_sum_notes(void **state)
{
    (void)state;
    struct window_fixture f;
    window_init(&f);
    f.w.metric = STR("m");
    window_push_histogram(&f, 0,
                          "schema:-53 sum:1 count:1 custom_values:[5] buckets:[1] hint:reset");
    window_push_histogram(&f, 1000, "schema:-53 sum:1 count:1 custom_values:[5] buckets:[1]");
    window_push_histogram(&f, 2000, "schema:-53 sum:1 count:1 custom_values:[5 10] buckets:[1]");
    CHECK_POINT(window_call(&f, FN_SUM_OVER_TIME, ALL, ALL + 1), "{count:3, sum:3, [-Inf,5]:3}");
    check_note(&f, "mismatched custom buckets were reconciled during aggregation");
    f.h[2] = H(&f.arena, "schema:-53 sum:1 count:1 custom_values:[5] buckets:[1] hint:not_reset");
    CHECK_POINT(window_call(&f, FN_AVG_OVER_TIME, ALL, ALL + 1), "{count:1, sum:1, [-Inf,5]:1}");
    check_note(&f, "conflicting counter resets during histogram aggregation");
    f.h[2] = H(&f.arena, "count:1");
    CHECK(window_call(&f, FN_AVG_OVER_TIME, ALL, ALL + 1).kind == POINT_NONE);
    check_note(&f, "vector contains a mix of histograms with exponential and custom buckets "
                   "schemas for metric name \"m\"");
    window_release(&f);
}

static void test_names(void **state)
{
    (void)state;
    CHECK(function_keeps_name(FN_LAST_OVER_TIME) && function_keeps_name(FN_FIRST_OVER_TIME));
    CHECK(!function_keeps_name(FN_RATE) && !function_keeps_name(FN_TS_OF_LAST_OVER_TIME) &&
          !function_keeps_name(FN_ABS));
    CHECK(function_keeps_name(FN_SORT) && function_keeps_name(FN_LABEL_REPLACE) &&
          function_keeps_name(FN_INFO));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_basics),    cmocka_unit_test(test_sums),
        cmocka_unit_test(test_quantiles), cmocka_unit_test(test_trends),
        cmocka_unit_test(test_kinds),     cmocka_unit_test(test_changes_and_resets),
        cmocka_unit_test(test_sum_notes), cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
