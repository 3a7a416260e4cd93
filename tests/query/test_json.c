/* JSON's strings, times, labels and histograms, as the API writes them. */
#include <math.h>

#include "query/json.h"
#include "tests/quipu_test.h"

static void check_buf(struct buf *got, const char *want)
{
    CHECK_STR(str_from_bytes(buf_bytes(got)), want);
    buf_release(got);
}

static void check_string(struct str s, const char *raw, const char *html)
{
    struct buf out;
    buf_init(&out, MEM_QUERY);
    json_string(&out, s);
    check_buf(&out, raw);
    json_string_html(&out, s);
    check_buf(&out, html);
}

static void test_strings(void **state)
{
    (void)state;
    check_string(STR(""), "\"\"", "\"\"");
    check_string(STR("plain é 😀"), "\"plain é 😀\"", "\"plain é 😀\"");
    check_string(STR("\"\\/"), "\"\\\"\\\\/\"", "\"\\\"\\\\/\"");
    check_string(STR("\n\r\t\b\x01\x1f\x7f"), "\"\\n\\r\\t\\u0008\\u0001\\u001f\x7f\"",
                 "\"\\n\\r\\t\\u0008\\u0001\\u001f\x7f\"");
    check_string(((struct str){"a\0b", 3}), "\"a\\u0000b\"", "\"a\\u0000b\"");
    check_string(STR("<&>"), "\"<&>\"", "\"\\u003c\\u0026\\u003e\"");
    check_string(STR("\u2028\u2029\u202a"), "\"\u2028\u2029\u202a\"", "\"\\u2028\\u2029\u202a\"");
    /* Never malformed, whatever comes: one replacement for each bad byte */
    check_string(STR("a\xff\xc3(\xed\xa0\x80"), "\"a\\ufffd\\ufffd(\\ufffd\\ufffd\\ufffd\"",
                 "\"a\\ufffd\\ufffd(\\ufffd\\ufffd\\ufffd\"");
    check_string(STR("\xef\xbf\xbd"), "\"\xef\xbf\xbd\"", "\"\xef\xbf\xbd\"");
}

static void test_times(void **state)
{
    (void)state;
    static const struct {
        int64_t t_ms;
        const char *full, *shortest;
    } CASES[] = {
        {0, "0", "0"},
        {1500, "1.500", "1.5"},
        {1000, "1", "1"},
        {1001, "1.001", "1.001"},
        {10, "0.010", "0.01"},
        {-1, "-0.001", "-0.001"},
        {-1500, "-1.500", "-1.5"},
        {-60000, "-60", "-60"},
        {INT64_C(1700000600500), "1700000600.500", "1700000600.5"},
        {INT64_MIN, "-9223372036854775.808", "-9223372036854775.808"},
        {INT64_MAX, "9223372036854775.807", "9223372036854775.807"},
    };
    for (size_t i = 0; i < COUNT_OF(CASES); i++) {
        struct buf out;
        buf_init(&out, MEM_QUERY);
        json_time(&out, CASES[i].t_ms);
        check_buf(&out, CASES[i].full);
        json_time_short(&out, CASES[i].t_ms);
        check_buf(&out, CASES[i].shortest);
    }
}

static void test_labels(void **state)
{
    (void)state;
    const struct label items[] = {{STR("__name__"), STR("a<b")}, {STR("x.y"), STR("\"")}};
    struct buf out;
    buf_init(&out, MEM_QUERY);
    json_labels(&out, (struct labels){NULL, 0});
    check_buf(&out, "{}");
    json_labels(&out, (struct labels){items, 2});
    check_buf(&out, "{\"__name__\":\"a<b\",\"x.y\":\"\\\"\"}");
}

static void check_histogram(const struct histogram *h, const char *want)
{
    struct buf out;
    buf_init(&out, MEM_QUERY);
    json_histogram(&out, h);
    check_buf(&out, want);
}

static void test_histograms(void **state)
{
    (void)state;
    struct histogram_span pos[] = {{0, 2}, {1, 1}}, neg[] = {{1, 1}}, custom[] = {{0, 3}};
    double pos_counts[] = {11, 0, 22}, neg_counts[] = {3}, bounds[] = {1, 2.5};
    double custom_counts[] = {1, 2, 3};
    check_histogram(&(struct histogram){.count = 0, .sum = NAN},
                    "{\"count\":\"0\",\"sum\":\"NaN\"}");
    check_histogram(
        &(struct histogram){.count = 44.5,
                            .sum = 1e21,
                            .zero_threshold = 0.001,
                            .zero_count = 8,
                            .pos_spans = pos,
                            .n_pos_spans = 2,
                            .pos = pos_counts,
                            .n_pos = 3,
                            .neg_spans = neg,
                            .n_neg_spans = 1,
                            .neg = neg_counts,
                            .n_neg = 1},
        "{\"count\":\"44.5\",\"sum\":\"1e+21\",\"buckets\":[[1,\"-2\",\"-1\",\"3\"],[3,"
        "\"-0.001\",\"0.001\",\"8\"],[0,\"0.5\",\"1\",\"11\"],[0,\"4\",\"8\",\"22\"]]}");
    check_histogram(&(struct histogram){.schema = HISTOGRAM_SCHEMA_CUSTOM,
                                        .count = 6,
                                        .sum = 7,
                                        .pos_spans = custom,
                                        .n_pos_spans = 1,
                                        .pos = custom_counts,
                                        .n_pos = 3,
                                        .bounds = bounds,
                                        .n_bounds = 2},
                    "{\"count\":\"6\",\"sum\":\"7\",\"buckets\":[[3,\"-Inf\",\"1\",\"1\"],[0,\"1\","
                    "\"2.5\",\"2\"],[0,\"2.5\",\"+Inf\",\"3\"]]}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_labels),
        cmocka_unit_test(test_histograms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
