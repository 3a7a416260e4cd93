/* Binary operators: matching, error texts, fills, set operators, histograms: expectations by hand. */
#include "tests/query/eval_fixture.h"
#include "tests/quipu_test.h"

static const char TABLE[] = "load 1m\n"
                            "  g{x=\"1\",y=\"p\"} 10 11 _ 13\n"
                            "  g{x=\"2\",y=\"p\"} 20 21 22 23\n"
                            "  h{x=\"1\"} 1 2 3\n"
                            "  h{x=\"3\"} 5\n"
                            "  d{x=\"1\",z=\"3\"} 1 1\n"
                            "  d{x=\"1\",z=\"2\"} 2\n";

static void short_lookback(struct fixture *f)
{
    f->env.limits.lookback_ms = 60000;
}

static void test_scalar_and_vector(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(TABLE);
    short_lookback(f);
    CHECK_INSTANT(f, "g{x=\"1\"} * 2", 0, "{x=\"1\", y=\"p\"} 20\n");
    CHECK_INSTANT(f, "100 / g{x=\"1\"}", 0, "{x=\"1\", y=\"p\"} 10\n");
    CHECK_INSTANT(f, "2 ^ h", 0, "{x=\"1\"} 2\n{x=\"3\"} 32\n");
    CHECK_INSTANT(f, "g % 7 == 3", 0, "{x=\"1\", y=\"p\"} 3\n");
    /* A filter keeps the vector's value whichever side it stands on. */
    CHECK_INSTANT(f, "15 < g", 0, "{__name__=\"g\", x=\"2\", y=\"p\"} 20\n");
    CHECK_INSTANT(f, "g > 15", 0, "{__name__=\"g\", x=\"2\", y=\"p\"} 20\n");
    CHECK_INSTANT(f, "g > bool 15", 0, "{x=\"1\", y=\"p\"} 0\n{x=\"2\", y=\"p\"} 1\n");
    CHECK_RANGE(f, "g{x=\"1\"} >= 11", 0, 180, 60,
                "{__name__=\"g\", x=\"1\", y=\"p\"} _ 11 _ 13\n");
    CHECK_RANGE(f, "g{x=\"1\"} + time()", 0, 180, 60, "{x=\"1\", y=\"p\"} 10 71 _ 193\n");
    CHECK_RANGE(f, "-g{x=\"1\"}", 0, 180, 60, "{x=\"1\", y=\"p\"} -10 -11 _ -13\n");
    CHECK_INSTANT(f, "1 > bool 2", 0, "0\n");
    CHECK_INSTANT(f, "1 </ 2", 0,
                  "error execution: operator \"</\" not allowed for Scalar operations\n");
    fixture_free(f);
}

static void test_one_to_one(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(TABLE);
    short_lookback(f);
    CHECK_INSTANT(f, "g + on (x) h", 0, "{x=\"1\"} 11\n");
    CHECK_INSTANT(f, "g + ignoring (y) h", 0, "{x=\"1\"} 11\n");
    CHECK_INSTANT(f, "g + h", 0, "");
    CHECK_RANGE(f, "g - on (x) h", 0, 180, 60, "{x=\"1\"} 9 9 _ _\n");
    /* A comparison keeps the name, but `on` keeps only its labels. */
    CHECK_INSTANT(f, "g > on (x) h", 0, "{x=\"1\"} 10\n");
    CHECK_INSTANT(f, "g > ignoring (y) h", 0, "{__name__=\"g\", x=\"1\"} 10\n");
    CHECK_INSTANT(f, "g < ignoring (y) h", 0, "");
    CHECK_INSTANT(f, "g < bool ignoring (y) h", 0, "{x=\"1\"} 0\n");
    CHECK_INSTANT(f, "nothing + on (x) d", 0, "");
    fixture_free(f);
}

static void test_matching_errors(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(TABLE);
    short_lookback(f);
    CHECK_INSTANT(f, "g + on (x) d", 0,
                  "error execution: found duplicate series for the match group {x=\"1\"} on the "
                  "right hand-side of the operation: [{__name__=\"d\", x=\"1\", z=\"2\"}, "
                  "{__name__=\"d\", x=\"1\", z=\"3\"}];many-to-many matching not allowed: matching "
                  "labels must be unique on one side\n");
    CHECK_INSTANT(f, "d + on (x) group_right () g", 0,
                  "error execution: found duplicate series for the match group {x=\"1\"} on the "
                  "left hand-side of the operation: [{__name__=\"d\", x=\"1\", z=\"2\"}, "
                  "{__name__=\"d\", x=\"1\", z=\"3\"}];many-to-many matching not allowed: matching "
                  "labels must be unique on one side\n");
    /* At 60 s there is but one of them. */
    CHECK_INSTANT(f, "g + on (x) d", 60, "{x=\"1\"} 12\n");
    /* Nothing on the other side: nobody looks. */
    CHECK_INSTANT(f, "nothing + on (x) d", 0, "");
    CHECK_RANGE(f, "(g{x=\"1\"} offset 2m) + on (x) d", 0, 180, 60, "");
    CHECK_INSTANT(f, "d + on (x) h", 0,
                  "error execution: multiple matches for labels: many-to-one matching must be "
                  "explicit (group_left/group_right)\n");
    /* Checked before the filter is. */
    CHECK_INSTANT(f, "d > on (x) h{x=\"1\"}", 0,
                  "error execution: multiple matches for labels: many-to-one matching must be "
                  "explicit (group_left/group_right)\n");
    CHECK_INSTANT(f, "d * on (x) group_left (z) g", 0,
                  "error execution: multiple matches for labels: grouping labels must ensure "
                  "unique matches\n");
    fixture_free(f);
}

static void test_grouping(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(TABLE);
    short_lookback(f);
    CHECK_INSTANT(f, "d + on (x) group_left (y) g", 0,
                  "{x=\"1\", y=\"p\", z=\"2\"} 12\n{x=\"1\", y=\"p\", z=\"3\"} 11\n");
    CHECK_INSTANT(f, "d + on (x) group_left () g", 0,
                  "{x=\"1\", z=\"2\"} 12\n{x=\"1\", z=\"3\"} 11\n");
    /* Operands stay where they are written. */
    CHECK_INSTANT(f, "g - on (x) group_right () d", 0,
                  "{x=\"1\", z=\"2\"} 8\n{x=\"1\", z=\"3\"} 9\n");
    CHECK_INSTANT(f, "g > on (x) group_right () d", 0,
                  "{__name__=\"d\", x=\"1\", z=\"2\"} 10\n{__name__=\"d\", x=\"1\", z=\"3\"} 10\n");
    /* An empty label of the one side deletes, its name comes only when asked for. */
    CHECK_INSTANT(f, "d + on (x) group_left (none, __name__) g", 0,
                  "{__name__=\"g\", x=\"1\", z=\"2\"} 12\n{__name__=\"g\", x=\"1\", z=\"3\"} 11\n");
    CHECK_INSTANT(f, "d + on (x) group_left (z) h{x=\"1\"} * 0", 0,
                  "error execution: multiple matches for labels: grouping labels must ensure "
                  "unique matches\n");
    fixture_free(f);
}

/* The partner of a series may change from step to step. */
static void test_partners_take_turns(void **state)
{
    (void)state;
    struct fixture *f = fixture_new("load 1m\n  m{i=\"1\"} 1 2 3 4\n"
                                    "  o{i=\"1\",v=\"a\"} 10 20 stale\n"
                                    "  o{i=\"1\",v=\"b\"} _ _ 30 40\n");
    CHECK_RANGE(f, "m + on (i) o", 0, 180, 60, "{i=\"1\"} 11 22 33 44\n");
    CHECK_RANGE(f, "m + on (i) group_left (v) o", 0, 180, 60,
                "{i=\"1\", v=\"a\"} 11 22 _ _\n{i=\"1\", v=\"b\"} _ _ 33 44\n");
    CHECK_RANGE(f, "m + on (i) group_left () o", 0, 180, 60, "{i=\"1\"} 11 22 33 44\n");
    CHECK_RANGE(f, "sum_over_time((m + on (i) group_left (v) o)[2m:1m])", 180, 180, 60,
                "{i=\"1\", v=\"b\"} 77\n");
    /* Left: one side, taking turns; right: many. */
    CHECK_RANGE(f, "o - on (i) group_right () m", 0, 180, 60, "{i=\"1\"} 9 18 27 36\n");
    fixture_free(f);
}

static void test_fills(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(TABLE);
    short_lookback(f);
    CHECK_INSTANT(f, "g + on (x) fill (0) h", 0, "{x=\"1\"} 11\n{x=\"2\"} 20\n{x=\"3\"} 5\n");
    CHECK_INSTANT(f, "g + on (x) fill_right (7) h", 0, "{x=\"1\"} 11\n{x=\"2\"} 27\n");
    CHECK_INSTANT(f, "g + on (x) fill_left (7) h", 0, "{x=\"1\"} 11\n{x=\"3\"} 12\n");
    CHECK_RANGE(f, "g{x=\"1\"} + on (x) fill (0) h{x=\"1\"}", 0, 180, 60, "{x=\"1\"} 11 13 3 13\n");
    CHECK_INSTANT(f, "nothing + on (x) fill_left (1) h", 0, "{x=\"1\"} 2\n{x=\"3\"} 6\n");
    CHECK_INSTANT(f, "g > on (x) fill (15) h", 0, "{x=\"1\"} 10\n{x=\"2\"} 20\n{x=\"3\"} 15\n");
    fixture_free(f);
}

static void test_sets(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(TABLE);
    short_lookback(f);
    CHECK_INSTANT(f, "g and on (x) h", 0, "{__name__=\"g\", x=\"1\", y=\"p\"} 10\n");
    CHECK_INSTANT(f, "g unless on (x) h", 0, "{__name__=\"g\", x=\"2\", y=\"p\"} 20\n");
    CHECK_INSTANT(f, "h or on (x) g", 0,
                  "{__name__=\"h\", x=\"1\"} 1\n{__name__=\"h\", x=\"3\"} 5\n"
                  "{__name__=\"g\", x=\"2\", y=\"p\"} 20\n");
    /* The signature leaves out the name. */
    CHECK_INSTANT(f, "h{x=\"1\"} or label_replace(h{x=\"1\"}, \"__name__\", \"z\", \"\", \"\")", 0,
                  "{__name__=\"h\", x=\"1\"} 1\n");
    CHECK_RANGE(f, "g and on (x) h", 0, 180, 60, "{__name__=\"g\", x=\"1\", y=\"p\"} 10 11 _ _\n");
    CHECK_RANGE(f, "g unless on (x) h", 0, 180, 60,
                "{__name__=\"g\", x=\"1\", y=\"p\"} _ _ _ 13\n"
                "{__name__=\"g\", x=\"2\", y=\"p\"} 20 21 22 23\n");
    CHECK_RANGE(f, "h{x=\"3\"} or on () h{x=\"1\"}", 0, 120, 60,
                "{__name__=\"h\", x=\"1\"} _ 2 3\n{__name__=\"h\", x=\"3\"} 5 _ _\n");
    CHECK_INSTANT(f, "g and nothing", 0, "");
    CHECK_INSTANT(f, "nothing or h{x=\"3\"}", 0, "{__name__=\"h\", x=\"3\"} 5\n");
    CHECK_INSTANT(f, "h{x=\"3\"} unless nothing", 0, "{__name__=\"h\", x=\"3\"} 5\n");
    fixture_free(f);
}

static void test_histograms(void **state)
{
    (void)state;
    struct fixture *f =
        fixture_new("load 1m\n  h {{schema:0 count:4 sum:5 buckets:[1 2 1]}}\n"
                    "  c {{schema:-53 count:1 sum:1 custom_values:[1 2] buckets:[1]}}\n"
                    "  f 2\n");
    CHECK_INSTANT(f, "h + h", 0, "{} {count:8, sum:10, (0.5,1]:2, (1,2]:4, (2,4]:2}\n");
    CHECK_INSTANT(f, "h * 2", 0, "{} {count:8, sum:10, (0.5,1]:2, (1,2]:4, (2,4]:2}\n");
    CHECK_INSTANT(f, "f * h", 0, "{} {count:8, sum:10, (0.5,1]:2, (1,2]:4, (2,4]:2}\n");
    CHECK_INSTANT(f, "h / f", 0, "{} {count:2, sum:2.5, (0.5,1]:0.5, (1,2]:1, (2,4]:0.5}\n");
    CHECK_INSTANT(f, "h == h", 0,
                  "{__name__=\"h\"} {count:4, sum:5, (0.5,1]:1, (1,2]:2, (2,4]:1}\n");
    CHECK_INSTANT(f, "h != bool h", 0, "{} 0\n");
    CHECK_INSTANT(f, "h + 1", 0,
                  "info: PromQL info: incompatible sample types encountered for binary operator "
                  "\"+\": histogram + float (1:1)\n");
    CHECK_INSTANT(f, "f / h", 0,
                  "info: PromQL info: incompatible sample types encountered for binary operator "
                  "\"/\": float / histogram (1:1)\n");
    CHECK_INSTANT(f, "h > bool 1", 0,
                  "info: PromQL info: incompatible sample types encountered for binary operator "
                  "\">\": histogram > float (1:1)\n");
    CHECK_INSTANT(f, "h + c", 0,
                  "warn: PromQL warning: incompatible bucket layout encountered for binary "
                  "operator + (1:1)\n");
    CHECK_INSTANT(f, "h </ 1", 0,
                  "{__name__=\"h\"} {count:1, sum:0.7071067811865476, (0.5,1]:1}\n");
    CHECK_INSTANT(f, "f </ 1", 0,
                  "info: PromQL info: incompatible sample types encountered for binary operator "
                  "\"</\": float </ float (1:1)\n");
    fixture_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scalar_and_vector),
        cmocka_unit_test(test_one_to_one),
        cmocka_unit_test(test_matching_errors),
        cmocka_unit_test(test_grouping),
        cmocka_unit_test(test_partners_take_turns),
        cmocka_unit_test(test_fills),
        cmocka_unit_test(test_sets),
        cmocka_unit_test(test_histograms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
