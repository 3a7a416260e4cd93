/* Selectors, windows, subqueries, names, functions over vectors, limits: expectations by hand.
 * And properties: threads and batches change no bit; a range query is its instant queries. */
#include <math.h>

#include "base/pool.h"
#include "tests/query/eval_fixture.h"
#include "tests/query/gen_expr.h"
#include "tests/quipu_test.h"

static const char GAUGES[] = "load 30s\n"
                             "  g{x=\"1\"} 0+10x20\n"
                             "  g{x=\"2\"} 100 90 _ _ 60 stale 40\n"
                             "  h{x=\"1\"} {{schema:0 count:4 sum:5 buckets:[1 2 1]}}x20\n";

static void test_lookback_is_left_open(void **state)
{
    (void)state;
    struct fixture *f = fixture_new("load 1m\n  g 1 2 stale _ _ 3\n");
    CHECK_INSTANT(f, "g", 0, "{__name__=\"g\"} 1\n");
    CHECK_INSTANT(f, "g", 119, "{__name__=\"g\"} 2\n");
    CHECK_INSTANT(f, "g", 120, "");
    CHECK_INSTANT(f, "g", 299, "");
    CHECK_INSTANT(f, "g", 599, "{__name__=\"g\"} 3\n");
    CHECK_INSTANT(f, "g", 600, "");
    CHECK_RANGE(f, "g", 0, 600, 60, "{__name__=\"g\"} 1 2 _ _ _ 3 3 3 3 3 _\n");
    f->env.limits.lookback_ms = 60000;
    CHECK_INSTANT(f, "g", 359, "{__name__=\"g\"} 3\n");
    CHECK_INSTANT(f, "g", 360, "");
    fixture_free(f);
}

static void test_range_windows_are_left_open(void **state)
{
    (void)state;
    struct fixture *f = fixture_new("load 1m\n  g 1 2 3 stale 5\n");
    CHECK_INSTANT(f, "count_over_time(g[1m])", 60, "{} 1\n");
    CHECK_INSTANT(f, "count_over_time(g[1m])", 180, "");
    CHECK_INSTANT(f, "sum_over_time(g[4m])", 240, "{} 10\n");
    CHECK_INSTANT(f, "g[2m]", 120, "{__name__=\"g\"} 2@60 3@120\n");
    CHECK_INSTANT(f, "g[1m]", 180, "");
    CHECK_RANGE(f, "count_over_time(g[2m])", 0, 300, 60, "{} 1 2 2 1 1 1\n");
    fixture_free(f);
}

static void test_offset_and_at(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(GAUGES);
    CHECK_RANGE(f, "g{x=\"1\"} offset 30s", 0, 120, 30, "{__name__=\"g\", x=\"1\"} _ 0 10 20 30\n");
    CHECK_RANGE(f, "g{x=\"1\"} offset -30s", 0, 60, 30, "{__name__=\"g\", x=\"1\"} 10 20 30\n");
    CHECK_RANGE(f, "g{x=\"1\"} @ 60", 0, 60, 30, "{__name__=\"g\", x=\"1\"} 20 20 20\n");
    CHECK_RANGE(f, "g{x=\"1\"} @ 60 offset 30s", 0, 60, 30, "{__name__=\"g\", x=\"1\"} 10 10 10\n");
    CHECK_RANGE(f, "g{x=\"1\"} @ end() - g{x=\"1\"} @ start()", 30, 90, 30, "{x=\"1\"} 20 20 20\n");
    CHECK_RANGE(f, "timestamp(g{x=\"1\"} @ 60)", 0, 60, 30, "{x=\"1\"} 60 60 60\n");
    CHECK_RANGE(f, "timestamp(g{x=\"1\"})", 15, 45, 15, "{x=\"1\"} 0 30 30\n");
    CHECK_RANGE(f, "timestamp(-g{x=\"1\"})", 15, 45, 15, "{x=\"1\"} 15 30 45\n");
    CHECK_RANGE(f, "sum_over_time(g{x=\"1\"}[1m] @ 60)", 0, 60, 30, "{x=\"1\"} 30 30 30\n");
    CHECK_RANGE(f, "count_over_time(g{x=\"1\"}[step()])", 60, 180, 60, "{x=\"1\"} 2 2 2\n");
    fixture_free(f);
}

static void test_subqueries(void **state)
{
    (void)state;
    struct fixture *f = fixture_new("load 10s\n  g 0+1x100\n");
    /* Inner times are the multiples of the step in (t - range, t]. */
    CHECK_INSTANT(f, "g[3m:1m]", 600, "{__name__=\"g\"} 48@480 54@540 60@600\n");
    CHECK_INSTANT(f, "g[3m:1m]", 620, "{__name__=\"g\"} 48@480 54@540 60@600\n");
    CHECK_INSTANT(f, "g[1m:25s] offset 10s", 110, "{__name__=\"g\"} 5@50 7@75 10@100\n");
    CHECK_INSTANT(f, "g[1m:25s] @ 100", 900, "{__name__=\"g\"} 5@50 7@75 10@100\n");
    CHECK_INSTANT(f, "sum_over_time(g[1m:])", 120, "{} 12\n");
    CHECK_RANGE(f, "max_over_time((g * 2)[30s:10s])", 50, 70, 10, "{} 10 12 14\n");
    CHECK_RANGE(f, "last_over_time(g[30s:10s])", 50, 70, 10, "{__name__=\"g\"} 5 6 7\n");
    CHECK_RANGE(f, "last_over_time(abs(g)[30s:10s])", 50, 70, 10, "{} 5 6 7\n");
    CHECK_RANGE(f, "sum_over_time((g @ end())[30s:10s])", 50, 70, 10, "{} 21 21 21\n");
    CHECK_INSTANT(f, "max_over_time(sum_over_time(g[20s:10s])[1m:20s])", 100, "{} 19\n");
    /* Nothing falls into the window. */
    CHECK_INSTANT(f, "count_over_time(g[5s:1m])", 59, "");
    CHECK_INSTANT(f, "vector(time())[20s:10s]", 20, "{} 10@10 20@20\n");
    fixture_free(f);
}

static void test_pieces_of_a_series_in_a_subquery(void **state)
{
    (void)state;
    /* Two series take turns under one label set: the window must see one series. */
    struct fixture *f = fixture_new("load 1m\n  a{i=\"1\"} 1 2 stale\n  a{i=\"2\"} _ _ 3 4\n");
    CHECK_INSTANT(f, "sum_over_time(label_replace(a, \"i\", \"\", \"\", \"\")[4m:1m])", 180,
                  "{} 10\n");
    CHECK_RANGE(f, "label_replace(a, \"i\", \"\", \"\", \"\")", 0, 180, 60,
                "{__name__=\"a\"} 1 2 3 4\n");
    fixture_free(f);
}

static void test_names_go_late(void **state)
{
    (void)state;
    struct fixture *f =
        fixture_new("load 1m\n  a_total{e=\"1\"} 0+60x10\n  b_total{e=\"1\"} 0+120x10\n");
    CHECK_INSTANT(f, "rate({e=\"1\"}[2m])", 300,
                  "error execution: vector cannot contain metrics with the same labelset\n");
    CHECK_INSTANT(f, "sum(rate({e=\"1\"}[2m])) by (e)", 300, "{e=\"1\"} 3\n");
    CHECK_INSTANT(f, "label_replace(rate({e=\"1\"}[2m]), \"n\", \"$1\", \"__name__\", \"(.*)\")",
                  300, "{e=\"1\", n=\"a_total\"} 1\n{e=\"1\", n=\"b_total\"} 2\n");
    CHECK_INSTANT(f,
                  "label_replace(rate(a_total[2m]), \"__name__\", \"r\", \"__name__\", \"(.*)\")",
                  300, "{__name__=\"r\", e=\"1\"} 1\n");
    CHECK_INSTANT(f, "sum by (__name__) (rate({e=\"1\"}[2m]))", 300,
                  "error execution: vector cannot contain metrics with the same labelset\n");
    CHECK_INSTANT(f, "last_over_time(a_total[2m])", 300, "{__name__=\"a_total\", e=\"1\"} 300\n");
    fixture_free(f);
}

static void test_series_that_never_meet_are_one(void **state)
{
    (void)state;
    struct fixture *f = fixture_new("load 10m\n  a 1 _ 3\n  b _ 4 _\n  c _ 5 6\n");
    CHECK_RANGE(f, "-{__name__=~\"a|b\"}", 0, 1200, 600, "{} -1 -4 -3\n");
    CHECK_RANGE(f, "-{__name__=~\"a|c\"}", 0, 1200, 600,
                "error execution: vector cannot contain metrics with the same labelset\n");
    fixture_free(f);
}

static void test_result_types(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(GAUGES);
    CHECK_INSTANT(f, "1 + 2 * 3", 0, "7\n");
    CHECK_INSTANT(f, "\"text\"", 0, "text\n");
    CHECK_INSTANT(f, "time()", 12, "12\n");
    CHECK_RANGE(f, "time() * 2", 10, 30, 10, "{} 20 40 60\n");
    CHECK_RANGE(f, "end() - start() + step() + range()", 10, 30, 10, "{} 50 50 50\n");
    CHECK_RANGE(f, "g[5m]", 0, 30, 10,
                "error invalid: invalid expression type \"range vector\" for range query, must be "
                "Scalar or instant Vector\n");
    CHECK_RANGE(f, "\"x\"", 0, 30, 10,
                "error invalid: invalid expression type \"string\" for range query, must be Scalar "
                "or instant Vector\n");
    CHECK_RANGE(f, "1", 0, 11001, 1,
                "error invalid: exceeded maximum resolution of 11,000 points per timeseries. Try "
                "decreasing the query resolution (?step=XX)\n");
    CHECK_RANGE(f, "nothing_there", 0, 30, 10, "");
    CHECK_INSTANT(f, "max_of(1, NaN) + min_of(2, 3)", 0, "NaN\n");
    CHECK_INSTANT(f, "max_of(NaN, +Inf)", 0, "+Inf\n");
    fixture_free(f);
}

static void test_scalar_and_vector(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(GAUGES);
    CHECK_RANGE(f, "scalar(g{x=\"2\"})", 0, 150, 30, "{} 100 90 90 90 60 NaN\n");
    CHECK_INSTANT(f, "scalar(g)", 30, "NaN\n");
    CHECK_INSTANT(f, "scalar(h)", 30, "NaN\n");
    CHECK_INSTANT(f, "scalar({x=\"1\"})", 30, "10\n");
    CHECK_INSTANT(f, "vector(3)", 0, "{} 3\n");
    CHECK_RANGE(f, "g{x=\"1\"} + scalar(g{x=\"1\"})", 0, 60, 30, "{x=\"1\"} 0 20 40\n");
    CHECK_RANGE(f, "clamp(g{x=\"1\"}, 5, time())", 0, 60, 30, "{x=\"1\"} _ 10 20\n");
    CHECK_INSTANT(f, "hour()", 3600 * 5, "{} 5\n");
    CHECK_INSTANT(f, "day_of_month(vector(86400 * 9))", 0, "{} 10\n");
    fixture_free(f);
}

static void test_absent(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(GAUGES);
    CHECK_INSTANT(f, "absent(no{a=\"b\", c=~\"d\"})", 0, "{a=\"b\"} 1\n");
    CHECK_INSTANT(f, "absent(no{a=\"b\", a=\"c\"})", 0, "{} 1\n");
    CHECK_INSTANT(f, "absent(no{a=\"b\", a=~\"c\"})", 0, "{} 1\n");
    CHECK_INSTANT(f, "absent(no{a=~\"c\", a=\"b\"})", 0, "{a=\"b\"} 1\n");
    CHECK_INSTANT(f, "absent(no{a!=\"\", a=\"b\"})", 0, "{a=\"b\"} 1\n");
    CHECK_INSTANT(f, "absent(no{a!=\"c\", a=\"b\"})", 0, "{} 1\n");
    CHECK_INSTANT(f, "absent(sum(no{a=\"b\"}))", 0, "{} 1\n");
    CHECK_INSTANT(f, "absent(g)", 0, "");
    CHECK_RANGE(f, "absent(g{x=\"2\"})", 120, 180, 30, "{x=\"2\"} _ 1 _\n");
    CHECK_RANGE(f, "absent_over_time(g{x=\"2\"}[30s])", 30, 180, 30, "{x=\"2\"} _ 1 1 _ 1 _\n");
    CHECK_INSTANT(f, "absent_over_time(no{x=\"2\"}[1m:10s])", 0, "{} 1\n");
    fixture_free(f);
}

static void test_sort(void **state)
{
    (void)state;
    struct fixture *f = fixture_new("load 1m\n  a{i=\"10\"} 2\n  a{i=\"2\"} 3\n  a{i=\"1\"} NaN\n"
                                    "  a{i=\"x1y\"} 1\n  a{i=\"h\"} {{schema:0 count:1 sum:1}}\n");
    CHECK_INSTANT(f, "sort(a)", 0,
                  "{__name__=\"a\", i=\"x1y\"} 1\n{__name__=\"a\", i=\"10\"} 2\n"
                  "{__name__=\"a\", i=\"2\"} 3\n{__name__=\"a\", i=\"1\"} NaN\n");
    CHECK_INSTANT(f, "sort_desc(a)", 0,
                  "{__name__=\"a\", i=\"2\"} 3\n{__name__=\"a\", i=\"10\"} 2\n"
                  "{__name__=\"a\", i=\"x1y\"} 1\n{__name__=\"a\", i=\"1\"} NaN\n");
    CHECK_INSTANT(f, "sort_by_label(a{i!=\"h\"}, \"i\")", 0,
                  "{__name__=\"a\", i=\"1\"} NaN\n{__name__=\"a\", i=\"2\"} 3\n"
                  "{__name__=\"a\", i=\"10\"} 2\n{__name__=\"a\", i=\"x1y\"} 1\n");
    CHECK_INSTANT(f, "sort_by_label_desc(a{i=~\"..?\", i!=\"h\"}, \"i\")", 0,
                  "{__name__=\"a\", i=\"10\"} 2\n{__name__=\"a\", i=\"2\"} 3\n"
                  "{__name__=\"a\", i=\"1\"} NaN\n");
    CHECK_RANGE(f, "sort(a{i=~\"2|10\"})", 0, 60, 60,
                "{__name__=\"a\", i=\"10\"} 2 2\n{__name__=\"a\", i=\"2\"} 3 3\n"
                "warn: PromQL warning: sort is ineffective for range queries since results are "
                "always ordered by labels (1:1)\n");
    fixture_free(f);
}

static void test_label_functions(void **state)
{
    (void)state;
    struct fixture *f = fixture_new("load 1m\n  g{x=\"1\",y=\"p\"} 5\n  g{x=\"2\",y=\"p\"} 6\n");
    CHECK_INSTANT(f, "label_join(g{x=\"1\"}, \"j\", \"-\", \"x\", \"y\", \"nope\")", 0,
                  "{__name__=\"g\", j=\"1-p-\", x=\"1\", y=\"p\"} 5\n");
    CHECK_INSTANT(f, "label_join(g{x=\"1\"}, \"x\", \"-\")", 0, "{__name__=\"g\", y=\"p\"} 5\n");
    CHECK_INSTANT(f, "label_replace(g{x=\"1\"}, \"a\", \"$1$$${y}\", \"y\", \"(.)\")", 0,
                  "{__name__=\"g\", a=\"p$\", x=\"1\", y=\"p\"} 5\n");
    CHECK_INSTANT(f, "label_replace(g, \"x\", \"\", \"x\", \"1|2\")", 0,
                  "error execution: vector cannot contain metrics with the same labelset\n");
    CHECK_INSTANT(f, "label_replace(g, \"x\", \"\", \"x\", \"(\")", 0,
                  "error execution: invalid regular expression in label_replace(): (\n");
    CHECK_INSTANT(f, "label_replace(g, \"\", \"\", \"x\", \"a\")", 0,
                  "error execution: invalid destination label name in label_replace(): \n");
    CHECK_INSTANT(f, "label_join(g, \"a\", \"\", \"\")", 0,
                  "error execution: invalid source label name in label_join(): \n");
    fixture_free(f);
}

static void test_info(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(
        "load 1m\n  m{instance=\"a\",job=\"j\"} 1 2 3\n  m{instance=\"b\",job=\"j\"} 4\n"
        "  target_info{instance=\"a\",job=\"j\",v=\"1\"} 1 1 stale\n"
        "  target_info{instance=\"a\",job=\"j\",v=\"2\"} _ _ 1\n"
        "  other_info{instance=\"b\",job=\"j\",v=\"9\",w=\"8\"} 1\n");
    CHECK_RANGE(f, "info(m{instance=\"a\"})", 0, 120, 60,
                "{__name__=\"m\", instance=\"a\", job=\"j\", v=\"1\"} 1 2 _\n"
                "{__name__=\"m\", instance=\"a\", job=\"j\", v=\"2\"} _ _ 3\n");
    CHECK_INSTANT(f, "info(m, {v=~\".+\"})", 0,
                  "{__name__=\"m\", instance=\"a\", job=\"j\", v=\"1\"} 1\n");
    CHECK_INSTANT(f, "info(m{instance=\"b\"}, {__name__=\"other_info\", w=\"8\"})", 0,
                  "{__name__=\"m\", instance=\"b\", job=\"j\", w=\"8\"} 4\n");
    CHECK_INSTANT(f, "info(target_info)", 0,
                  "{__name__=\"target_info\", instance=\"a\", job=\"j\", v=\"1\"} 1\n");
    source_mem_load(f->mem, "load 1m\n  target_info{instance=\"b\",job=\"j\",v=\"1\"} 1\n"
                            "  target_info{instance=\"b\",job=\"j\",v=\"2\"} 1\n");
    CHECK_INSTANT(f, "info(m)", 0,
                  "error execution: found duplicate series for info metric target_info\n");
    fixture_free(f);
}

static const char BUCKETS[] = "load 1m\n"
                              "  b{le=\"0.1\"} 5\n  b{le=\"0.5\"} 10\n"
                              "  b{le=\"1\"} 20\n  b{le=\"+Inf\"} 25\n"
                              "  bad{le=\"x\"} 1\n"
                              "  drop{le=\"1\"} 5\n  drop{le=\"2\"} 4\n  drop{le=\"+Inf\"} 6\n";

static void test_histogram_quantile(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(BUCKETS);
    CHECK_INSTANT(f, "histogram_quantile(0.5, b)", 0, "{} 0.625\n");
    CHECK_RANGE(f, "histogram_quantile(time() / 60, b)", 0, 60, 60, "{} 0 1\n");
    CHECK_INSTANT(f, "histogram_quantile(2, b)", 0,
                  "{} +Inf\nwarn: PromQL warning: quantile value should be between 0 and 1, got 2 "
                  "(1:20)\n");
    CHECK_INSTANT(
        f, "histogram_quantile(0.5, bad)", 0,
        "warn: PromQL warning: bucket label \"le\" is missing or has a malformed value of "
        "\"x\" for metric name \"bad\" (1:25)\n");
    CHECK_INSTANT(
        f, "histogram_quantile(0.5, ((bad)))", 0,
        "warn: PromQL warning: bucket label \"le\" is missing or has a malformed value of "
        "\"x\" for metric name \"bad\" (1:27)\n");
    CHECK_INSTANT(f, "histogram_quantiles(b, \"q\", 0.5, 1)", 0,
                  "{q=\"0.5\"} 0.625\n{q=\"1.0\"} 1\n");
    CHECK_INSTANT(f, "histogram_fraction(0, 0.5, b)", 0, "{} 0.4\n");
    CHECK_INSTANT(f, "histogram_quantile(0.5, drop)", 0,
                  "{} 0.6\ninfo: PromQL info: input to histogram_quantile needed to be fixed for "
                  "monotonicity (see "
                  "https://prometheus.io/docs/prometheus/latest/querying/functions/"
                  "#histogram_quantile) for metric name \"drop\", from buckets 2 to 2, with a max "
                  "diff of 1, over 1 samples from 1970-01-01T00:00:00Z to 1970-01-01T00:00:00Z "
                  "(1:25)\n");
    fixture_free(f);
}

static void test_histograms_pass(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(GAUGES);
    CHECK_INSTANT(f, "h", 0,
                  "{__name__=\"h\", x=\"1\"} {count:4, sum:5, (0.5,1]:1, (1,2]:2, (2,4]:1}\n");
    CHECK_INSTANT(f, "-h", 0, "{x=\"1\"} {count:-4, sum:-5, (0.5,1]:-1, (1,2]:-2, (2,4]:-1}\n");
    CHECK_INSTANT(f, "histogram_count(h) + histogram_sum(h)", 0, "{x=\"1\"} 9\n");
    CHECK_INSTANT(f, "abs(h)", 0, "");
    CHECK_INSTANT(f, "histogram_count(g)", 0, "");
    CHECK_RANGE(f, "last_over_time(h[1m] @ 60)", 0, 30, 30,
                "{__name__=\"h\", x=\"1\"} {count:4, sum:5, (0.5,1]:1, (1,2]:2, (2,4]:1} {count:4, "
                "sum:5, (0.5,1]:1, (1,2]:2, (2,4]:1}\n");
    CHECK_INSTANT(f, "histogram_quantile(0.5, h)", 0, "{x=\"1\"} 1.4142135623730951\n");
    fixture_free(f);
}

static void test_equal_selectors_are_selected_once(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(GAUGES);
    CHECK_INSTANT(f, "g{x=\"1\"} / g{x=\"1\"}", 30, "{x=\"1\"} 1\n");
    CHECK_U64(source_mem_selects(f->mem), 1);
    CHECK_INSTANT(f, "g{x=\"1\"} / g{x=\"1\"} offset 30s", 60, "{x=\"1\"} 2\n");
    CHECK_U64(source_mem_selects(f->mem), 3);
    fixture_free(f);
}

static void test_statistics(void **state)
{
    (void)state;
    struct fixture *f = fixture_new("load 1m\n  a{i=\"1\"} 0+1x20\n  a{i=\"2\"} 0+1x20\n");
    static const struct {
        const char *query;
        uint64_t samples;
    } CASES[] = {{"a", 6},
                 {"rate(a[2m])", 12},
                 {"sum(max_over_time(a[5m]))", 30},
                 {"sum_over_time(a[2m:1m])", 20}};
    for (size_t i = 0; i < COUNT_OF(CASES); i++) {
        struct err err;
        struct query_result *r = fixture_run(f, CASES[i].query, 600000, 720000, 60000, &err);
        CHECK_U64(r->stats.samples, CASES[i].samples);
        CHECK_U64(r->stats.series, 2);
        query_result_free(r);
    }
    fixture_free(f);
}

/* ---- limits ---- */

static bool always(void *ctx)
{
    (void)ctx;
    return true;
}

static int64_t ticking_mono_ns(struct clock *clock)
{
    struct clock_fake *fake = CONTAINER_OF(clock, struct clock_fake, clock);
    return fake->mono_ns += 1000000;
}

#define RAISE                                                                                      \
    "; ask for less at once, or raise it for all or under `tenants` in the configuration\n"

static void test_limits(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(GAUGES);
    f->env.limits.samples_max = 10;
    CHECK_RANGE(f, "g{x=\"1\"}", 0, 300, 30,
                "error execution: query processing would load too many samples into memory in "
                "query execution: it takes 11 or more, and query.samples_max is 10" RAISE);
    CHECK_INSTANT(f, "sum_over_time(g{x=\"1\"}[1h])", 600,
                  "error execution: query processing would load too many samples into memory in "
                  "query execution: it takes 21 or more, and query.samples_max is 10" RAISE);
    /* 2 series, 3 steps: 6 points while they are summed, 3 after. */
    f->env.limits.samples_max = 12;
    CHECK_RANGE(f, "sum(g) + sum(g) + count(g)", 0, 60, 30, "{} 202 202 222\n");
    f->env.limits = query_limits_default();
    f->env.limits.series_max = 2;
    CHECK_RANGE(f, "sum(g)", 0, 60, 30, "{} 100 100 110\n");
    f->env.limits.series_max = 1;
    CHECK_RANGE(f, "sum(g)", 0, 60, 30,
                "error execution: the query selects too many series: it takes 2 or more, and "
                "query.series_max is 1" RAISE);
    f->env.limits = query_limits_default();
    f->env.limits.work_max = 5;
    f->env.limits.batch_series = 1;
    CHECK_RANGE(f, "count(g)", 0, 60, 30,
                "error execution: the query looks at too many samples: it takes 6 or more, and "
                "query.work_max is 5" RAISE);
    f->env.limits = query_limits_default();
    f->env.limits.memory_bytes_max = 100000;
    CHECK_INSTANT(
        f, "vector(1)[1y:1s]", 600,
        "error execution: query needs more than its memory limit: it takes 100001 B or more, "
        "and query.memory_max is 100000 B" RAISE);
    CHECK_RANGE(f, "g[10m:1ms] + 0", 0, 30, 30,
                "error invalid: 1:1: parse error: binary expression must contain only scalar and "
                "instant vector types\n");
    CHECK_INSTANT(
        f, "sum_over_time(g[10m:1ms])", 600,
        "error execution: query needs more than its memory limit: it takes 100001 B or more, "
        "and query.memory_max is 100000 B" RAISE);
    f->env.limits = query_limits_default();
    f->env.canceled = always;
    CHECK_INSTANT(f, "g", 0, "error canceled: query was canceled in expression evaluation\n");
    f->env.canceled = NULL;
    f->env.limits.timeout_ms = 3;
    f->clock.clock.mono_ns = ticking_mono_ns;
    CHECK_INSTANT(f, "g + g + g + g", 0,
                  "error timeout: query timed out in expression evaluation: it takes 3 ms or more "
                  "(query.timeout, or `timeout` of the request)\n");
    fixture_free(f);
}

/* What a tenant's other queries have is not there any more, but small queries do not suffer for it. */
static void test_memory_of_a_tenant(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(GAUGES);
    struct tenant_memory shared = {.bytes = 7 << 20, .n_queries = 1}; /* another's */
    struct query_progress progress;
    static const char LARGE[] = "sum(sum_over_time(g[20m:1ms]))";
    f->env.limits.tenant_memory_bytes_max = 8 << 20;
    f->env.tenant = STR("acme");
    struct err err;
    struct query_result *r = fixture_run(f, LARGE, 600000, 600000, 0, &err);
    CHECK(r != NULL); /* nobody counts */
    query_result_free(r);
    query_progress_init(&progress);
    query_progress_share(&progress, &shared);
    f->env.progress = &progress;
    r = fixture_run(f, LARGE, 600000, 600000, 0, &err);
    CHECK(r == NULL);
    CHECK_STR(str_of(err.text),
              "the running queries of the tenant need more than their memory limit: it takes "
              "8388609 B or more, and query.tenant_memory is 8388608 B for tenant acme; ask for "
              "less at once, or raise it for all or under `tenants` in the configuration");
    query_progress_release(&progress);
    CHECK_U64(shared.bytes, 7 << 20);
    CHECK_U64(shared.n_queries, 1);
    shared.bytes = 9 << 20;
    query_progress_init(&progress);
    query_progress_share(&progress, &shared);
    CHECK_RANGE(f, "sum(g)", 0, 60, 30, "{} 100 100 110\n");
    query_progress_release(&progress);
    CHECK_U64(shared.bytes, 9 << 20);
    fixture_free(f);
}

struct countdown {
    int left, asked;
};

static bool soon(void *ctx)
{
    struct countdown *c = ctx;
    c->asked++;
    return c->left-- <= 0;
}

/* One series is a whole batch and may take long: whoever works on it looks up in between. */
static void test_canceled_within_a_series(void **state)
{
    (void)state;
    struct fixture *f = fixture_new("load 1s\n  g 0+1x3000\n");
    struct countdown c = {.left = 6};
    struct err err;
    f->env.canceled = soon;
    f->env.canceled_ctx = &c;
    /* 10,001 windows of 1,000 samples */
    struct query_result *r = fixture_run(f, "mad_over_time(g[1000s])", 1000000, 3000000, 200, &err);
    CHECK(r == NULL);
    CHECK(err.code == ERR_CANCELED);
    CHECK_U64((uint64_t)c.asked, 7);
    c.left = 1 << 30;
    c.asked = 0;
    r = fixture_run(f, "mad_over_time(g[1000s])", 1000000, 1100000, 200, &err);
    CHECK(r != NULL);
    query_result_free(r);
    CHECK(c.asked < 20); /* but not so often that it costs anything */
    fixture_free(f);
}

static void test_a_failed_read_fails_the_query(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(GAUGES);
    source_mem_fail_reads(f->mem, ERR_CORRUPT);
    CHECK_INSTANT(f, "sum(rate(g[1m]))", 60, "error corrupt: a read failed, as asked for\n");
    CHECK_INSTANT(f, "g[1m]", 60, "error corrupt: a read failed, as asked for\n");
    fixture_free(f);
}

static bool fail_at(void *ctx, size_t size)
{
    (void)size;
    size_t *left = ctx;
    return *left == 0 || --*left == 0;
}

/* Every allocation fails in turn: an error, nothing left behind, no crash. */
static void test_out_of_memory(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(GAUGES);
    static const char *const QUERIES[] = {
        "sum by (x) (rate(g[2m])) / on (x) group_left () max by (x) (g)",
        "histogram_quantile(0.5, sum(rate(h[2m])))",
        "topk(1, label_replace(g, \"y\", \"$1\", \"x\", \"(.*)\")) or quantile(0.5, g)",
        "sum_over_time(count_values(\"v\", g)[2m:30s])"};
    for (size_t q = 0; q < COUNT_OF(QUERIES); q++) {
        size_t before = mem_bytes(MEM_QUERY);
        for (size_t k = 1; k < 10000; k++) {
            size_t left = k;
            struct err err;
            struct query_request request = {
                .text = str_of(QUERIES[q]), .end_ms = 300000, .step_ms = 30000};
            struct query_result *result = NULL;
            mem_set_fail_hook(fail_at, &left);
            enum err_code rc = query_run(&f->env, &request, &result, &err);
            mem_set_fail_hook(NULL, NULL);
            if (rc) CHECK_ERR(rc, ERR_NO_MEMORY);
            query_result_free(result);
            CHECK_U64(mem_bytes(MEM_QUERY), before);
            if (!rc) break;
        }
    }
    fixture_free(f);
}

/* A tree as high as the parser lets through must not be too high for the evaluator. */
static void test_deep_expressions(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(GAUGES);
    struct buf text;
    struct err err;
    buf_init(&text, MEM_QUERY);
    buf_text(&text, STR("g{x=\"1\"}"));
    for (int i = 0; i < 900; i++) buf_text(&text, STR(" + 1"));
    buf_u8(&text, 0);
    struct query_result *result = fixture_run(f, (const char *)text.p, 0, 60000, 30000, &err);
    CHECK(result != NULL);
    CHECK_SAME_DOUBLE(result->series[0].v[2], 920);
    query_result_free(result);
    buf_reset(&text);
    for (int i = 0; i < 450; i++) buf_text(&text, STR("abs("));
    buf_text(&text, STR("g{x=\"1\"}"));
    for (int i = 0; i < 450; i++) buf_text(&text, STR(")"));
    buf_u8(&text, 0);
    result = fixture_run(f, (const char *)text.p, 0, 60000, 30000, &err);
    CHECK(result != NULL);
    CHECK_SAME_DOUBLE(result->series[0].v[2], 20);
    query_result_free(result);
    buf_release(&text);
    fixture_free(f);
}

/* ---- properties ---- */

static const char *const NAMES[] = {"c_total", "g", "m_bucket", "h"};
static const char *const LABELS[] = {"a", "b", "le"};
static const char *const VALUES[] = {"1", "2", "3", "+Inf"};

static double random_value(struct rng *rng, double *counter)
{
    switch (rng_below(rng, 12)) {
    case 0: return NAN;
    case 1: return -(double)rng_below(rng, 5);
    case 2: return *counter = 0;
    default: return *counter += (double)rng_below(rng, 1000) / 8;
    }
}

static void random_series(struct rng *rng, struct source_mem *mem)
{
    struct label items[4] = {{STR(LABEL_NAME), str_of(NAMES[rng_below(rng, COUNT_OF(NAMES))])}};
    size_t n = 1;
    for (size_t i = 0; i < COUNT_OF(LABELS); i++)
        if (rng_chance(rng, 0.6))
            items[n++] =
                (struct label){str_of(LABELS[i]), str_of(VALUES[rng_below(rng, COUNT_OF(VALUES))])};
    struct labels labels = {items, n};
    double counter = 0, buckets[3] = {0};
    struct histogram_span span = {-1, 3};
    bool mixed = rng_chance(rng, 0.3), histograms = rng_chance(rng, 0.3);
    int64_t t_ms = (int64_t)rng_below(rng, 30000);
    for (size_t i = 0; i < 60; i++, t_ms += 15000) {
        if (rng_chance(rng, 0.1)) continue;
        if (mixed && rng_chance(rng, 0.1)) histograms = !histograms;
        if (rng_chance(rng, 0.03)) {
            source_mem_push(mem, labels, t_ms, stale_nan(), NULL, 0);
            continue;
        }
        double v = random_value(rng, &counter);
        if (!histograms) {
            source_mem_push(mem, labels, t_ms, v, NULL, 0);
            continue;
        }
        struct histogram h = {.sum = counter,
                              .pos = buckets,
                              .pos_spans = &span,
                              .n_pos_spans = 1,
                              .n_pos = 3,
                              .schema = (int32_t)rng_below(rng, 2)};
        for (size_t k = 0; k < 3; k++) h.count += buckets[k] += (double)rng_below(rng, 4);
        source_mem_push(mem, labels, t_ms, 0, &h, 0);
    }
}

/* The same label set may not be made twice. */
static void random_table(struct rng *rng, struct source_mem *mem)
{
    for (size_t i = 0; i < 12; i++) {
        struct source_mem *one = source_mem_new();
        random_series(rng, one);
        source_mem_adopt(mem, one);
        source_mem_free(one);
    }
}

static void random_query(struct rng *rng, bool pinnable, struct buf *out)
{
    static const char *const VALUE_CHOICE[] = {"1", "2", ""};
    struct gen_expr_options o = gen_expr_defaults();
    o.metrics = NAMES;
    o.n_metrics = COUNT_OF(NAMES);
    o.labels = LABELS;
    o.n_labels = COUNT_OF(LABELS);
    o.values = VALUE_CHOICE;
    o.n_values = COUNT_OF(VALUE_CHOICE);
    o.depth = 3;
    o.no_odd_syntax = true;
    o.no_duration_expr = !pinnable;
    o.no_modifiers = !pinnable;
    buf_reset(out);
    gen_expr(rng, &o, VALUE_VECTOR, out);
    buf_u8(out, 0);
}

static bool same_histograms(const struct histogram *a, const struct histogram *b)
{
    if (!a || !b) return a == b;
    return histogram_same_bits(a, b);
}

static void check_same(const char *query, const struct query_result *a,
                       const struct query_result *b)
{
    if (a->n_series != b->n_series)
        test_fail(__FILE__, __LINE__, "%s: %zu and %zu series", query, a->n_series, b->n_series);
    for (size_t i = 0; i < a->n_series; i++) {
        const struct result_series *x = &a->series[i], *y = &b->series[i];
        bool same = labels_eq(x->labels, y->labels) && x->n == y->n && !x->h == !y->h;
        for (size_t k = 0; same && k < x->n; k++) {
            same = x->t_ms[k] == y->t_ms[k];
            if (same && x->h) same = same_histograms(x->h[k], y->h[k]);
            if (same && !(x->h && x->h[k])) same = double_bits(x->v[k]) == double_bits(y->v[k]);
        }
        if (!same) test_fail(__FILE__, __LINE__, "%s: series %zu differs", query, i);
    }
    CHECK_U64(a->notes.n, b->notes.n);
    const struct note *m = b->notes.first;
    for (const struct note *n = a->notes.first; n; n = n->next, m = m->next)
        CHECK(str_eq(n->text, m->text));
}

static void test_threads_and_batches_change_nothing(void **state)
{
    (void)state;
    struct rng rng;
    struct pool *pools[3] = {NULL};
    struct err err;
    for (size_t i = 1; i < 3; i++) CHECK_OK(pool_new("test", i, 8, &pools[i], &err), &err);
    struct buf query;
    buf_init(&query, MEM_QUERY);
    size_t n_ran = 0;
    PROPERTY_LOOP(&rng, 300)
    {
        struct fixture *f = fixture_new("");
        random_table(&rng, f->mem);
        random_query(&rng, true, &query);
        const char *text = (const char *)query.p;
        struct query_result *first = NULL;
        struct err first_err = {0};
        for (size_t way = 0; way < 4; way++) {
            f->env.pool = pools[way % 3];
            f->env.limits.batch_series = way < 2 ? 1 : way == 2 ? 64 : 3;
            struct query_result *result = fixture_run(f, text, 300000, 900000, 45000, &err);
            if (way == 0) {
                first = result;
                first_err = err;
                continue;
            }
            if (!first) {
                CHECK(result == NULL);
                CHECK_STR(str_of(err.text), first_err.text);
                continue;
            }
            if (!result) test_fail(__FILE__, __LINE__, "%s: %s", text, err.text);
            check_same(text, first, result);
            query_result_free(result);
        }
        n_ran += first != NULL;
        query_result_free(first);
        fixture_free(f);
    }
    /* Else the generator makes nothing but errors, and the test says nothing. */
    if (!getenv("QUIPU_SEED")) CHECK(n_ran > 100);
    buf_release(&query);
    for (size_t i = 1; i < 3; i++) pool_free(pools[i]);
}

/* Not exactly: the order of additions may depend on what other steps have. */
static bool about_equal(double a, double b)
{
    if (a == b || (isnan(a) && isnan(b))) return true;
    return fabs(a - b) <= 1e-9 * (fabs(a) + fabs(b));
}

static const struct result_series *find_series(const struct query_result *r, struct labels labels)
{
    for (size_t i = 0; i < r->n_series; i++)
        if (labels_eq(r->series[i].labels, labels)) return &r->series[i];
    return NULL;
}

static void check_step(const char *query, const struct query_result *range,
                       const struct query_result *instant, int64_t t_ms)
{
    size_t n = 0;
    for (size_t i = 0; i < range->n_series; i++) {
        const struct result_series *s = &range->series[i];
        for (size_t k = 0; k < s->n; k++) {
            if (s->t_ms[k] != t_ms) continue;
            n++;
            const struct result_series *one = find_series(instant, s->labels);
            bool is_histogram = s->h && s->h[k];
            if (!one)
                test_fail(__FILE__, __LINE__, "%s: series %zu is not there at %" PRId64, query, i,
                          t_ms);
            bool ok = is_histogram == (one->h && one->h[0]);
            if (ok && is_histogram)
                ok = about_equal(s->h[k]->count, one->h[0]->count) &&
                     about_equal(s->h[k]->sum, one->h[0]->sum);
            else if (ok)
                ok = about_equal(s->v[k], one->v[0]);
            if (!ok)
                test_fail(__FILE__, __LINE__, "%s: series %zu at %" PRId64 ": %.17g and %.17g",
                          query, i, t_ms, s->v[k], one->v[0]);
        }
    }
    if (n != instant->n_series)
        test_fail(__FILE__, __LINE__, "%s: %zu and %zu series at %" PRId64, query, n,
                  instant->n_series, t_ms);
}

static void test_a_range_query_is_its_instant_queries(void **state)
{
    (void)state;
    struct rng rng;
    struct buf query;
    buf_init(&query, MEM_QUERY);
    size_t n_ran = 0;
    PROPERTY_LOOP(&rng, 300)
    {
        struct fixture *f = fixture_new("");
        struct err err;
        random_table(&rng, f->mem);
        random_query(&rng, false, &query);
        const char *text = (const char *)query.p;
        /* What looks at the query's own times, or at an order, is another thing at each step. */
        bool own = strstr(text, "start()") || strstr(text, "end()") || strstr(text, "range()") ||
                   strstr(text, "step()") || strstr(text, "limitk");
        struct query_result *range =
            own ? NULL : fixture_run(f, text, 300000, 900000, 150000, &err);
        for (int64_t t_ms = 300000; range && t_ms <= 900000; t_ms += 150000) {
            struct query_result *instant = fixture_run(f, text, t_ms, t_ms, 0, &err);
            if (!instant) test_fail(__FILE__, __LINE__, "%s: %s", text, err.text);
            check_step(text, range, instant, t_ms);
            query_result_free(instant);
        }
        n_ran += range != NULL;
        query_result_free(range);
        fixture_free(f);
    }
    if (!getenv("QUIPU_SEED")) CHECK(n_ran > 100);
    buf_release(&query);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lookback_is_left_open),
        cmocka_unit_test(test_range_windows_are_left_open),
        cmocka_unit_test(test_offset_and_at),
        cmocka_unit_test(test_subqueries),
        cmocka_unit_test(test_pieces_of_a_series_in_a_subquery),
        cmocka_unit_test(test_names_go_late),
        cmocka_unit_test(test_series_that_never_meet_are_one),
        cmocka_unit_test(test_result_types),
        cmocka_unit_test(test_scalar_and_vector),
        cmocka_unit_test(test_absent),
        cmocka_unit_test(test_sort),
        cmocka_unit_test(test_label_functions),
        cmocka_unit_test(test_info),
        cmocka_unit_test(test_histogram_quantile),
        cmocka_unit_test(test_histograms_pass),
        cmocka_unit_test(test_equal_selectors_are_selected_once),
        cmocka_unit_test(test_statistics),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_memory_of_a_tenant),
        cmocka_unit_test(test_canceled_within_a_series),
        cmocka_unit_test(test_a_failed_read_fails_the_query),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_deep_expressions),
        cmocka_unit_test(test_threads_and_batches_change_nothing),
        cmocka_unit_test(test_a_range_query_is_its_instant_queries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
