/* Aggregations: expectations by hand from the rules of PromQL. */
#include <math.h>

#include "tests/query/eval_fixture.h"
#include "tests/quipu_test.h"

static const char REQUESTS[] = "load 1m\n"
                               "  r{g=\"a\",i=\"1\"} 1 10 NaN\n"
                               "  r{g=\"a\",i=\"2\"} 2 20 5\n"
                               "  r{g=\"b\",i=\"1\"} 3 _ 7\n"
                               "  r{g=\"b\",i=\"2\"} 4 stale\n"
                               "  r{i=\"9\"} 5 50\n";

static void test_groups(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(REQUESTS);
    CHECK_INSTANT(f, "sum(r)", 0, "{} 15\n");
    CHECK_INSTANT(f, "sum by () (r)", 0, "{} 15\n");
    /* Groups in the order of first appearance: storage order has i="9" first ("i" after "g"). */
    CHECK_INSTANT(f, "sum by (g) (r)", 0, "{g=\"a\"} 3\n{g=\"b\"} 7\n{} 5\n");
    CHECK_INSTANT(f, "sum by (i, g, i, none) (r{g=\"a\"})", 0,
                  "{g=\"a\", i=\"1\"} 1\n{g=\"a\", i=\"2\"} 2\n");
    CHECK_INSTANT(f, "sum without (i) (r{g=\"a\"})", 0, "{g=\"a\"} 3\n");
    CHECK_INSTANT(f, "sum without () (r{g=\"a\", i=\"1\"})", 0, "{g=\"a\", i=\"1\"} 1\n");
    CHECK_INSTANT(f, "sum by (__name__) (r)", 0, "{__name__=\"r\"} 15\n");
    CHECK_INSTANT(f, "sum(nothing)", 0, "");
    CHECK_INSTANT(f, "count(nothing)", 0, "");
    CHECK_RANGE(f, "sum by (g) (r)", 0, 120, 60,
                "{} 5 50 50\n{g=\"a\"} 3 30 NaN\n{g=\"b\"} 7 3 7\n");
    fixture_free(f);
}

static void test_folds(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(REQUESTS);
    CHECK_RANGE(f, "avg by (g) (r{g=\"a\"})", 0, 120, 60, "{g=\"a\"} 1.5 15 NaN\n");
    CHECK_RANGE(f, "min by (g) (r{g=\"a\"})", 0, 120, 60, "{g=\"a\"} 1 10 5\n");
    CHECK_RANGE(f, "max by (g) (r{g=\"a\"})", 0, 120, 60, "{g=\"a\"} 2 20 5\n");
    CHECK_RANGE(f, "count(r)", 0, 120, 60, "{} 5 4 4\n");
    CHECK_RANGE(f, "group(r)", 0, 120, 60, "{} 1 1 1\n");
    CHECK_INSTANT(f, "stdvar(r)", 0, "{} 2\n");
    CHECK_INSTANT(f, "stddev(r{g=\"b\"})", 0, "{} 0.5\n");
    CHECK_INSTANT(f, "stddev(r{i=\"1\", g=\"a\"} / 0)", 0, "{} NaN\n");
    fixture_free(f);
}

static void test_sums_are_compensated(void **state)
{
    (void)state;
    struct fixture *f = fixture_new("load 1m\n  x{i=\"1\"} 1e100 Inf 1\n  x{i=\"2\"} 1 1 1e308\n"
                                    "  x{i=\"3\"} -1e100 -Inf 1e308\n");
    CHECK_RANGE(f, "sum(x)", 0, 120, 60, "{} 1 NaN +Inf\n");
    CHECK_RANGE(f, "avg(x)", 0, 120, 60, "{} 0.3333333333333333 NaN 6.666666666666666e+307\n");
    CHECK_RANGE(f, "sum(x{i!=\"3\"})", 0, 60, 60, "{} 1e+100 +Inf\n");
    fixture_free(f);
}

static void test_quantile(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(REQUESTS);
    CHECK_RANGE(f, "quantile(0.5, r)", 0, 120, 60, "{} 3 15 6\n");
    CHECK_RANGE(f, "quantile(time() / 60, r{g=\"a\"})", 0, 60, 60, "{} 1 20\n");
    CHECK_INSTANT(f, "quantile(-1, r)", 0,
                  "{} -Inf\nwarn: PromQL warning: quantile value should be between 0 and 1, got -1 "
                  "(1:10)\n");
    CHECK_INSTANT(f, "quantile(NaN, r)", 0,
                  "{} NaN\nwarn: PromQL warning: quantile value should be between 0 and 1, got NaN "
                  "(1:10)\n");
    fixture_free(f);
}

static void test_topk(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(REQUESTS);
    CHECK_INSTANT(f, "topk(2, r)", 0,
                  "{__name__=\"r\", i=\"9\"} 5\n{__name__=\"r\", g=\"b\", i=\"2\"} 4\n");
    CHECK_INSTANT(f, "bottomk(2, r)", 0,
                  "{__name__=\"r\", g=\"a\", i=\"1\"} 1\n{__name__=\"r\", g=\"a\", i=\"2\"} 2\n");
    CHECK_INSTANT(f, "topk by (g) (1, r)", 0,
                  "{__name__=\"r\", g=\"a\", i=\"2\"} 2\n{__name__=\"r\", g=\"b\", i=\"2\"} 4\n"
                  "{__name__=\"r\", i=\"9\"} 5\n");
    /* NaN is worst in both. */
    CHECK_INSTANT(f, "bottomk(9, r{g=\"a\"})", 120,
                  "{__name__=\"r\", g=\"a\", i=\"2\"} 5\n{__name__=\"r\", g=\"a\", i=\"1\"} NaN\n");
    CHECK_INSTANT(f, "topk(1, r{g=\"a\"})", 120, "{__name__=\"r\", g=\"a\", i=\"2\"} 5\n");
    CHECK_RANGE(f, "topk(1, r{g!=\"\"})", 0, 120, 60,
                "{__name__=\"r\", g=\"a\", i=\"2\"} _ 20 _\n"
                "{__name__=\"r\", g=\"b\", i=\"1\"} _ _ 7\n"
                "{__name__=\"r\", g=\"b\", i=\"2\"} 4 _ _\n");
    CHECK_RANGE(f, "topk(scalar(r{i=\"9\"}) - 4, r{g=\"a\"})", 0, 60, 60,
                "{__name__=\"r\", g=\"a\", i=\"1\"} _ 10\n"
                "{__name__=\"r\", g=\"a\", i=\"2\"} 2 20\n");
    CHECK_INSTANT(f, "topk(0.9, r)", 0, "");
    CHECK_INSTANT(f, "topk(1.9, r)", 0, "{__name__=\"r\", i=\"9\"} 5\n");
    CHECK_INSTANT(f, "topk(-1, r)", 0, "");
    /* What is not shown can fail all the same. */
    CHECK_INSTANT(f, "topk(0, r * on () group_left () r)", 0,
                  "error execution: found duplicate series for the match group {} on the right "
                  "hand-side of the operation: [{__name__=\"r\", g=\"a\", i=\"1\"}, "
                  "{__name__=\"r\", g=\"a\", i=\"2\"}];many-to-many matching not allowed: "
                  "matching labels must be unique on one side\n");
    CHECK_INSTANT(f, "topk(NaN, r)", 0, "error execution: Parameter value is NaN\n");
    CHECK_INSTANT(f, "topk(1e300, r)", 0, "error execution: Scalar value 1e+300 overflows int64\n");
    CHECK_INSTANT(f, "limitk(-1e300, r)", 0,
                  "error execution: Scalar value -1e+300 underflows int64\n");
    fixture_free(f);
}

/* Against sorting all, at many sizes. */
static void test_topk_against_sorting(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 100)
    {
        struct fixture *f = fixture_new("");
        struct err err;
        size_t n = 1 + rng_below(&rng, 40), k = 1 + rng_below(&rng, 45);
        double values[40];
        for (size_t i = 0; i < n; i++) {
            char text[32];
            struct label items[2] = {{STR("__name__"), STR("x")}, {STR("i"), {text, 0}}};
            items[1].value.len = (size_t)snprintf(text, sizeof(text), "%03zu", i);
            values[i] = rng_chance(&rng, 0.1) ? NAN : (double)rng_below(&rng, 20);
            source_mem_push(f->mem, (struct labels){items, 2}, 0, values[i], NULL, 0);
        }
        char query[64];
        bool top = rng_chance(&rng, 0.5);
        snprintf(query, sizeof(query), "%s(%zu, x)", top ? "topk" : "bottomk", k);
        struct query_result *r = fixture_run(f, query, 0, 0, 0, &err);
        CHECK_U64(r->n_series, MIN_OF(n, k));
        size_t n_nan = 0;
        for (size_t i = 0; i < n; i++) n_nan += isnan(values[i]) != 0;
        for (size_t i = 0; i < r->n_series; i++) {
            double v = r->series[i].v[0];
            if (isnan(v)) {
                CHECK(i >= n - n_nan);
                continue;
            }
            /* Number i of the order: as many are better as may be. */
            size_t better = 0, equal = 0;
            for (size_t m = 0; m < n; m++) {
                better += top ? values[m] > v : values[m] < v;
                equal += values[m] == v;
            }
            CHECK(better <= i);
            CHECK(i < better + equal);
        }
        query_result_free(r);
        fixture_free(f);
    }
}

static void test_limits(void **state)
{
    (void)state;
    struct fixture *f = fixture_new("load 1m\n  g{x=\"1\",y=\"p\"} 1 1\n  g{x=\"2\",y=\"q\"} 2 2\n"
                                    "  g{x=\"3\",y=\"q\"} {{schema:0 count:1 sum:1}}\n");
    CHECK_RANGE(f, "count(limitk(2, g))", 0, 60, 60, "{} 2 2\n");
    CHECK_INSTANT(f, "limitk by (y) (1, g)", 0,
                  "{__name__=\"g\", x=\"1\", y=\"p\"} 1\n{__name__=\"g\", x=\"2\", y=\"q\"} 2\n");
    CHECK_INSTANT(f, "count(limitk(3, g))", 0, "{} 3\n");
    CHECK_INSTANT(f, "limitk(0, g)", 0, "");
    /* Where these two fall: 0.58928 and 0.88412 of the hash's range. */
    CHECK_INSTANT(f, "limit_ratio(0.589, g{x!=\"3\"})", 0, "");
    CHECK_INSTANT(f, "limit_ratio(0.590, g{x!=\"3\"})", 0,
                  "{__name__=\"g\", x=\"1\", y=\"p\"} 1\n");
    CHECK_INSTANT(f, "limit_ratio(-0.41, g{x!=\"3\"})", 0,
                  "{__name__=\"g\", x=\"2\", y=\"q\"} 2\n");
    CHECK_INSTANT(f, "count(limit_ratio(-1, g))", 0, "{} 3\n");
    CHECK_INSTANT(f, "limit_ratio(0, g)", 0, "");
    CHECK_INSTANT(f, "count(limit_ratio(1.5, g))", 0,
                  "{} 3\nwarn: PromQL warning: ratio value should be between -1 and 1, got 1.5, "
                  "capping to 1 (1:19)\n");
    CHECK_INSTANT(f, "limit_ratio(NaN, g)", 0, "error execution: Ratio value is NaN\n");
    fixture_free(f);
}

static void test_count_values(void **state)
{
    (void)state;
    struct fixture *f = fixture_new("load 1m\n  v{i=\"1\"} 1 2\n  v{i=\"2\"} 1 1e21\n"
                                    "  v{i=\"3\"} NaN 0.5\n"
                                    "  v{i=\"4\"} {{schema:0 count:1 sum:2 buckets:[1]}}\n");
    CHECK_INSTANT(f, "count_values(\"x\", v)", 0,
                  "{x=\"1\"} 2\n{x=\"NaN\"} 1\n{x=\"{count:1, sum:2, (0.5,1]:1}\"} 1\n");
    CHECK_RANGE(f, "count_values(\"x\", v{i!=\"4\"})", 0, 60, 60,
                "{x=\"0.5\"} _ 1\n{x=\"1\"} 2 _\n{x=\"1000000000000000000000\"} _ 1\n"
                "{x=\"2\"} _ 1\n{x=\"NaN\"} 1 _\n");
    CHECK_INSTANT(f, "count_values by (i) (\"i\", v{i=~\"1|2\"})", 0, "{i=\"1\"} 2\n");
    CHECK_INSTANT(f, "count_values without (i) (\"x\", v{i=~\"1|2\"})", 0, "{x=\"1\"} 2\n");
    CHECK_INSTANT(f, "count_values without (x, i) (\"x\", v{i=~\"1|2\"})", 0, "{} 2\n");
    CHECK_INSTANT(f, "count_values(\"\", v)", 0, "error execution: invalid label name \"\"\n");
    fixture_free(f);
}

static void test_histograms(void **state)
{
    (void)state;
    struct fixture *f =
        fixture_new("load 1m\n  h{i=\"1\"} {{schema:0 count:4 sum:5 buckets:[1 2 1]}}\n"
                    "  h{i=\"2\"} {{schema:0 count:2 sum:3 buckets:[0 2]}}\n"
                    "  h{i=\"3\"} 7\n"
                    "  h{i=\"4\"} {{schema:-53 count:1 sum:1 custom_values:[1 2] buckets:[1]}}\n");
    CHECK_INSTANT(f, "sum(h{i=~\"1|2\"})", 0, "{} {count:6, sum:8, (0.5,1]:1, (1,2]:4, (2,4]:1}\n");
    CHECK_INSTANT(f, "avg(h{i=~\"1|2\"})", 0,
                  "{} {count:3, sum:4, (0.5,1]:0.5, (1,2]:2, (2,4]:0.5}\n");
    CHECK_INSTANT(
        f, "sum(h{i=~\"1|3\"})", 0,
        "warn: PromQL warning: encountered a mix of histograms and floats for aggregation "
        "(1:5)\n");
    CHECK_INSTANT(f, "sum(h{i=~\"1|4\"})", 0,
                  "warn: PromQL warning: vector contains a mix of histograms with exponential and "
                  "custom buckets schemas for metric name \"h\" (1:5)\n");
    CHECK_INSTANT(f, "max(h)", 0,
                  "{} 7\ninfo: PromQL info: ignored histogram in max aggregation (1:5)\n");
    CHECK_INSTANT(f, "topk(1, h{i=\"1\"})", 0,
                  "info: PromQL info: ignored histogram in topk aggregation (1:1)\n");
    CHECK_INSTANT(f, "quantile(0.5, h)", 0,
                  "{} 7\ninfo: PromQL info: ignored histogram in quantile aggregation (1:15)\n");
    CHECK_INSTANT(f, "stddev(h)", 0,
                  "{} 0\ninfo: PromQL info: ignored histogram in stddev aggregation (1:8)\n");
    CHECK_INSTANT(f, "count(h) + group(h)", 0, "{} 5\n");
    fixture_free(f);
}

/* sum, avg, min, max, count of many series against plain loops. */
static void test_folds_against_loops(void **state)
{
    (void)state;
    enum { SERIES = 9, STEPS = 130 };
    struct rng rng;
    PROPERTY_LOOP(&rng, 30)
    {
        struct fixture *f = fixture_new("");
        static double v[SERIES][STEPS];
        static bool has[SERIES][STEPS];
        for (size_t i = 0; i < SERIES; i++) {
            char text[8];
            struct label items[2] = {{STR("__name__"), STR("x")}, {STR("i"), {text, 1}}};
            text[0] = (char)('a' + i);
            double density = rng_chance(&rng, 0.5) ? 1 : 0.5;
            for (size_t s = 0; s < STEPS; s++) {
                v[i][s] = (double)rng_below(&rng, 1000) - 500; /* whole: sums are exact */
                has[i][s] = rng_chance(&rng, density);
                if (has[i][s])
                    source_mem_push(f->mem, (struct labels){items, 2}, (int64_t)s * 1000, v[i][s],
                                    NULL, 0);
            }
        }
        f->env.limits.lookback_ms = 1000;
        static const char *const OPS[] = {"sum", "avg", "min", "max", "count"};
        for (size_t op = 0; op < COUNT_OF(OPS); op++) {
            char query[16];
            struct err err;
            snprintf(query, sizeof(query), "%s(x)", OPS[op]);
            struct query_result *r = fixture_run(f, query, 0, (STEPS - 1) * 1000, 1000, &err);
            size_t at = 0;
            for (size_t s = 0; s < STEPS; s++) {
                double sum = 0, min = INFINITY, max = -INFINITY, n = 0;
                for (size_t i = 0; i < SERIES; i++) {
                    if (!has[i][s]) continue;
                    sum += v[i][s];
                    min = fmin(min, v[i][s]);
                    max = fmax(max, v[i][s]);
                    n++;
                }
                if (!n) continue;
                double expected[] = {sum, sum / n, min, max, n};
                CHECK_I64(r->series[0].t_ms[at], (int64_t)s * 1000);
                CHECK(r->series[0].v[at] == expected[op]);
                at++;
            }
            CHECK_U64(r->n_series ? r->series[0].n : 0, at);
            query_result_free(r);
        }
        fixture_free(f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_folds),
        cmocka_unit_test(test_sums_are_compensated),
        cmocka_unit_test(test_quantile),
        cmocka_unit_test(test_topk),
        cmocka_unit_test(test_topk_against_sorting),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_count_values),
        cmocka_unit_test(test_histograms),
        cmocka_unit_test(test_folds_against_loops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
