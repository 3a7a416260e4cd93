/* The HTTP API over a table in memory: parameters and the order of their checks, envelopes, forms of numbers, headers.
 * Texts are those of Prometheus. */
#include "query/json.h"
#include "tests/query/api_fixture.h"

/* --- parameters ------------------------------------------------------------------------------------ */

struct bad_case {
    const char *path, *query, *text;
};

static void test_bad_parameters(void **state)
{
    (void)state;
    static const struct bad_case CASES[] = {
        {"query", "",
         "invalid parameter \\\"query\\\": unknown position: parse error: no expression found in "
         "input"},
        {"query", "query=%23x",
         "invalid parameter \\\"query\\\": 1:1: parse error: no expression found in input"},
        {"query", "query=up{",
         "invalid parameter \\\"query\\\": 1:4: parse error: unexpected end of input inside "
         "braces"},
        {"query", "query=1%zz", /* dropped: as if it were missing */
         "invalid parameter \\\"query\\\": unknown position: parse error: no expression found in "
         "input"},
        {"query", "query=up&time=foo",
         "invalid parameter \\\"time\\\": invalid time value for 'time': cannot parse \\\"foo\\\" "
         "to "
         "a valid timestamp"},
        {"query", "query=up&time=0x10",
         "invalid parameter \\\"time\\\": invalid time value for 'time': cannot parse \\\"0x10\\\" "
         "to a valid timestamp"},
        {"query", "query=up&time=+1",
         "invalid parameter \\\"time\\\": invalid time value for 'time': cannot parse \\\" 1\\\" "
         "to "
         "a valid timestamp"},
        {"query", "query=up&timeout=foo",
         "invalid parameter \\\"timeout\\\": cannot parse \\\"foo\\\" to a valid duration"},
        {"query", "query=up&lookback_delta=1.5h",
         "error parsing lookback delta duration: cannot parse \\\"1.5h\\\" to a valid duration"},
        {"query", "query=up&limit=foo",
         "invalid parameter \\\"limit\\\": strconv.Atoi: parsing \\\"foo\\\": invalid syntax"},
        {"query", "query=up&limit=1.5",
         "invalid parameter \\\"limit\\\": strconv.Atoi: parsing \\\"1.5\\\": invalid syntax"},
        {"query", "query=up&limit=99999999999999999999",
         "invalid parameter \\\"limit\\\": strconv.Atoi: parsing \\\"99999999999999999999\\\": "
         "value "
         "out of range"},
        {"query", "query=up&limit=-1",
         "invalid parameter \\\"limit\\\": limit must be non-negative"},
        /* the order of checks */
        {"query", "limit=x&time=x&timeout=x&lookback_delta=x",
         "invalid parameter \\\"limit\\\": strconv.Atoi: parsing \\\"x\\\": invalid syntax"},
        {"query", "time=x&timeout=x&lookback_delta=x",
         "invalid parameter \\\"time\\\": invalid time value for 'time': cannot parse \\\"x\\\" to "
         "a "
         "valid timestamp"},
        {"query", "timeout=x&lookback_delta=x",
         "invalid parameter \\\"timeout\\\": cannot parse \\\"x\\\" to a valid duration"},
        {"query", "query=foo[1m-2m]",
         "invalid parameter \\\"query\\\": 4:9: duration must be greater than 0"},

        {"query_range", "query=up&end=1&step=1",
         "invalid parameter \\\"start\\\": cannot parse \\\"\\\" to a valid timestamp"},
        {"query_range", "query=up&start=1&end=x&step=1",
         "invalid parameter \\\"end\\\": cannot parse \\\"x\\\" to a valid timestamp"},
        {"query_range", "query=up&start=2&end=1&step=1",
         "invalid parameter \\\"end\\\": end timestamp must not be before start time"},
        {"query_range", "query=up&start=1&end=2",
         "invalid parameter \\\"step\\\": cannot parse \\\"\\\" to a valid duration"},
        {"query_range", "query=up&start=1&end=2&step=x",
         "invalid parameter \\\"step\\\": cannot parse \\\"x\\\" to a valid duration"},
        {"query_range", "query=up&start=1&end=2&step=1e10",
         "invalid parameter \\\"step\\\": cannot parse \\\"1e10\\\" to a valid duration. It "
         "overflows int64"},
        {"query_range", "query=up&start=1&end=2&step=0",
         "invalid parameter \\\"step\\\": zero or negative query resolution step widths are not "
         "accepted. Try a positive integer"},
        {"query_range", "query=up&start=1&end=2&step=-1",
         "invalid parameter \\\"step\\\": zero or negative query resolution step widths are not "
         "accepted. Try a positive integer"},
        {"query_range", "query=up&start=1&end=2&step=0.0005",
         "invalid parameter \\\"step\\\": zero or negative query resolution step widths are not "
         "accepted. Try a positive integer"},
        {"query_range", "query=up&start=0&end=11001&step=1",
         "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query "
         "resolution (?step=XX)"},
        {"query_range", "start=0&end=11001&step=1&timeout=x",
         "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query "
         "resolution (?step=XX)"},
        {"query_range", "query=up[1m]&start=1&end=2&step=1",
         "invalid parameter \\\"query\\\": invalid expression type \\\"range vector\\\" for range "
         "query, must be Scalar or instant Vector"},
        {"query_range", "query=%22x%22&start=1&end=2&step=1",
         "invalid parameter \\\"query\\\": invalid expression type \\\"string\\\" for range query, "
         "must be Scalar or instant Vector"},

        {"format_query", "query=up%20up",
         "invalid parameter \\\"query\\\": 1:4: parse error: unexpected identifier \\\"up\\\""},
        {"parse_query", "",
         "invalid parameter \\\"query\\\": unknown position: parse error: no expression found in "
         "input"},
        {"query_exemplars", "query=up{", "1:4: parse error: unexpected end of input inside braces"},
        {"query_exemplars", "query=up&start=2&end=1",
         "end timestamp must not be before start timestamp"},
        {"query_exemplars", "query=up&start=x",
         "invalid parameter \\\"start\\\": invalid time value for 'start': cannot parse \\\"x\\\" "
         "to "
         "a valid timestamp"},

        {"series", "", "no match[] parameter provided"},
        {"series", "limit=x", "no match[] parameter provided"},
        {"series", "match[]=up&x=%zz", "error parsing form values: invalid URL escape \\\"%zz\\\""},
        {"series", "match[]={&limit=x",
         "invalid parameter \\\"limit\\\": strconv.Atoi: parsing \\\"x\\\": invalid syntax"},
        {"series", "match[]={&start=x",
         "invalid parameter \\\"start\\\": invalid time value for 'start': cannot parse \\\"x\\\" "
         "to "
         "a valid timestamp"},
        {"series", "match[]={",
         "invalid parameter \\\"match[]\\\": 1:2: parse error: unexpected end of input inside "
         "braces"},
        {"series", "match[]={}",
         "invalid parameter \\\"match[]\\\": match[] must contain at least one non-empty matcher"},
        {"series", "match[]=",
         "invalid parameter \\\"match[]\\\": unknown position: parse error: unexpected end of "
         "input"},
        {"series", "match[]=rate(up[1m])",
         "invalid parameter \\\"match[]\\\": 1:5: parse error: unexpected \\\"(\\\""},
        {"series", "match[]=up%20offset%205m",
         "invalid parameter \\\"match[]\\\": 1:4: parse error: unexpected \\u003coffset\\u003e"},
        {"labels", "match[]={", "1:2: parse error: unexpected end of input inside braces"},
        {"labels", "match[]={a=~%22.*%22}", "match[] must contain at least one non-empty matcher"},
        {"labels", "limit=x&start=x",
         "invalid parameter \\\"limit\\\": strconv.Atoi: parsing \\\"x\\\": invalid syntax"},
        {"label/%ff/values", "limit=x", "invalid label name: \\\"\\\\xff\\\""},
        {"label/job/values", "match[]={",
         "1:2: parse error: unexpected end of input inside braces"},
        {"metadata", "limit=x&limit_per_metric=x", "limit must be a number"},
        {"metadata", "limit_per_metric=x", "limit_per_metric must be a number"},

        {"rules", "type=foo", "invalid parameter \\\"type\\\": not supported value \\\"foo\\\""},
        {"rules", "exclude_alerts=foo",
         "invalid parameter \\\"exclude_alerts\\\": error converting exclude_alerts: "
         "strconv.ParseBool: parsing \\\"foo\\\": invalid syntax"},
        {"rules", "group_next_token=x",
         "invalid parameter \\\"group_next_token\\\": group_limit needs to be present in order to "
         "paginate over the groups"},
        {"rules", "group_limit=x",
         "invalid parameter \\\"group_limit\\\": group_limit needs to be a valid number: "
         "strconv.ParseInt: parsing \\\"x\\\": invalid syntax"},
        {"rules", "group_limit=0",
         "invalid parameter \\\"group_limit\\\": group_limit needs to be greater than 0"},
        {"rules", "group_limit=1&group_next_token=x",
         "invalid parameter \\\"group_next_token\\\": invalid group_next_token 'x'. were rule "
         "groups "
         "changed?"},
        {"status/tsdb", "limit=0", "limit must be a positive number"},
        {"status/tsdb", "limit=x", "limit must be a positive number"},
        {"targets/metadata", "limit=x", "limit must be a number"},
    };
    struct fixture f;
    fixture_open(&f);
    for (size_t i = 0; i < COUNT_OF(CASES); i++) {
        char body[1024];
        snprintf(body, sizeof body, BAD("%s"), CASES[i].text);
        CHECK_ANSWER(&f, 400, body, .path = CASES[i].path, .query = CASES[i].query);
    }
    fixture_close(&f);
}

static void test_times(void **state)
{
    (void)state;
    /* As a time, shown by time() */
    static const struct {
        const char *text, *shown;
    } CASES[] = {
        {"1", "1"},
        {"1.0006", "1.001"},
        {"-1.5", "-1.5"},
        {"1e9", "1000000000"},
        {"1_000", "1000"},
        {"1795511416.5993052", "1795511416.599"},
        {"2024-02-29T12:00:00Z", "1709208000"},
        {"2024-02-29T12:00:00.1239Z", "1709208000.123"},
        {"2024-02-29T13:30:00%2B01:30", "1709208000"},
        {"2024-02-29T12:00:00-00:30", "1709209800"},
        {"1969-12-31T23:59:59.5Z", "-0.5"},
        {"0001-01-01T00:00:00Z", "-62135596800"},
    };
    static const char *const BAD_TIMES[] = {"2024-02-30T12:00:00Z",
                                            "2024-02-29T24:00:00Z",
                                            "2024-02-29T12:00:60Z",
                                            "2024-02-29T12:00:00",
                                            "2024-02-29",
                                            "2024-2-29T12:00:00Z",
                                            "2024-02-29t12:00:00Z",
                                            "2024-02-29T12:00:00.Z",
                                            "2024-02-29T12:00:00Zx",
                                            "2024-02-29T12:00:00%2B1:30",
                                            "NaN"};
    struct fixture f;
    fixture_open(&f);
    for (size_t i = 0; i < COUNT_OF(CASES); i++) {
        char query[128], body[256];
        snprintf(query, sizeof query, "query=time()&time=%s", CASES[i].text);
        snprintf(
            body, sizeof body,
            "{\"status\":\"success\",\"data\":{\"resultType\":\"scalar\",\"result\":[%s,\"%s\"]"
            "}}",
            CASES[i].shown, CASES[i].shown);
        CHECK_ANSWER(&f, 200, body, .path = "query", .query = query);
    }
    for (size_t i = 0; i < COUNT_OF(BAD_TIMES); i++) {
        char query[128];
        snprintf(query, sizeof query, "query=time()&time=%s", BAD_TIMES[i]);
        ask(&f, &(struct ask){.path = "query", .query = query});
        CHECK_U64(f.fake.status, 400);
        answer_release(&f);
    }
    fixture_close(&f);
}

static void test_sources_of_parameters(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    /* The body wins over the URL, and an empty value counts as none. */
    CHECK_DATA(&f, "{\"resultType\":\"scalar\",\"result\":[600,\"2\"]}", .method = HTTP_POST,
               .path = "query", .query = "query=1", .body = "query=2");
    CHECK_DATA(&f, "{\"resultType\":\"scalar\",\"result\":[600,\"1\"]}", .method = HTTP_POST,
               .path = "query", .query = "query=1", .body = "query=&time=");
    CHECK_DATA(&f, "{\"resultType\":\"scalar\",\"result\":[600,\"3\"]}", .path = "query",
               .query = "query=3&query=4&dedup=true");
    CHECK_DATA(&f, "[\"__name__\",\"job\"]", .method = HTTP_POST, .path = "labels",
               .query = "match[]=odd", .body = "match[]=Zed");
    fixture_close(&f);
}

/* --- results --------------------------------------------------------------------------------------- */

#define VECTOR(elements) "{\"resultType\":\"vector\",\"result\":[" elements "]}"
#define MATRIX(series) "{\"resultType\":\"matrix\",\"result\":[" series "]}"

static void test_instant(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    CHECK_DATA(
        &f,
        VECTOR("{\"metric\":{\"__name__\":\"up\",\"instance\":\"1\",\"job\":\"a\"},"
               "\"value\":[600,\"10\"]},{\"metric\":{\"__name__\":\"up\",\"instance\":\"<2>\","
               "\"job\":\"b\"},\"value\":[600,\"1.5\"]}"),
        .path = "query", .query = "query=up");
    CHECK_DATA(&f, VECTOR(""), .path = "query", .query = "query=nothing");
    CHECK_DATA(&f, VECTOR("{\"metric\":{},\"value\":[1.500,\"1\"]}"), .path = "query",
               .query = "query=vector(1)&time=1.5");
    CHECK_DATA(&f, "{\"resultType\":\"scalar\",\"result\":[1.5,\"1000000000000000000000\"]}",
               .path = "query", .query = "query=1e21&time=1.5");
    CHECK_DATA(&f, "{\"resultType\":\"scalar\",\"result\":[600,\"0.0000001\"]}", .path = "query",
               .query = "query=1e-7");
    CHECK_DATA(&f, "{\"resultType\":\"string\",\"result\":[600,\"\\u003ca\\u003e\\n\"]}",
               .path = "query", .query = "query=%22%3Ca%3E%5Cn%22");
    CHECK_DATA(&f,
               VECTOR("{\"metric\":{\"__name__\":\"hist\"},\"histogram\":[600,{\"count\":\"4\","
                      "\"sum\":\"5\",\"buckets\":[[0,\"0.5\",\"1\",\"1\"],[0,\"1\",\"2\",\"2\"],[0,"
                      "\"2\",\"4\",\"1\"]]}]}"),
               .path = "query", .query = "query=hist");
    /* Numbers: 1e-7, 1e21, NaN, +Inf, -Inf, -0 at their times; the stale marker left out */
    CHECK_DATA(
        &f,
        MATRIX("{\"metric\":{\"__name__\":\"odd\"},\"values\":[[0,\"1\"],[180,\"1e-07\"],[240,"
               "\"1e+21\"],[300,\"NaN\"],[360,\"+Inf\"],[420,\"-Inf\"],[480,\"-0\"]]}"),
        .path = "query", .query = "query=odd[9m]&time=480.5");
    fixture_close(&f);
}

static void test_range(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    CHECK_DATA(
        &f,
        MATRIX("{\"metric\":{\"__name__\":\"up\",\"instance\":\"1\",\"job\":\"a\"},\"values\":"
               "[[0.500,\"0\"],[60.500,\"1\"]]}"),
        .path = "query_range", .query = "query=up{job=%22a%22}&start=0.5&end=61&step=1m");
    CHECK_DATA(&f, MATRIX("{\"metric\":{},\"values\":[[0,\"1\"],[15,\"1\"]]}"),
               .path = "query_range", .query = "query=1&start=0&end=15&step=15");
    CHECK_DATA(&f, MATRIX(""), .path = "query_range",
               .query = "query=none&start=0&end=11000.9&step=1");
    CHECK_DATA(
        &f,
        MATRIX("{\"metric\":{\"__name__\":\"hist\"},\"histograms\":[[60,{\"count\":\"4\",\"sum"
               "\":\"5\",\"buckets\":[[0,\"0.5\",\"1\",\"1\"],[0,\"1\",\"2\",\"2\"],[0,\"2\","
               "\"4\",\"1\"]]}]]}"),
        .path = "query_range", .query = "query=hist&start=60&end=60&step=1");
    fixture_close(&f);
}

static void test_limit_and_notes(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    CHECK_ANSWER(
        &f, 200,
        "{\"status\":\"success\",\"data\":" VECTOR(
            "{\"metric\":{\"__name__\":\"up\",\"instance\":\"1\",\"job\":\"a\"},\"value\":["
            "600,\"10\"]}") ",\"warnings\":[\"results truncated due to limit\"]}",
        .path = "query", .query = "query=up&limit=1");
    CHECK_DATA(&f,
               VECTOR("{\"metric\":{\"__name__\":\"Zed\",\"job\":\"a\"},\"value\":[600,\"1\"]}"),
               .path = "query", .query = "query=Zed&limit=1");
    CHECK_ANSWER(
        &f, 200,
        "{\"status\":\"success\",\"data\":" VECTOR(
            "{\"metric\":{\"instance\":\"1\",\"job\":\"a\"},\"value\":[600,"
            "\"0.016666666666666666\"]}") ",\"infos\":[\"PromQL info: metric might not be a "
                                          "counter, name does not end in "
                                          "_total/_sum/_count/_bucket: \\\"up\\\" (1:6)\"]}",
        .path = "query", .query = "query=rate(up{job=%22a%22}[5m])");
    fixture_close(&f);
}

static void test_errors(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    CHECK_ANSWER(
        &f, 422,
        "{\"status\":\"error\",\"errorType\":\"execution\",\"error\":\"found duplicate "
        "series for the match group {} on the right hand-side of the operation: "
        "[{__name__=\\\"up\\\", instance=\\\"1\\\", job=\\\"a\\\"}, "
        "{__name__=\\\"up\\\", instance=\\\"\\u003c2\\u003e\\\", "
        "job=\\\"b\\\"}];many-to-many matching not allowed: matching labels must be unique "
        "on one side\"}",
        .path = "query", .query = "query=up*on()up");
    CHECK_ANSWER(&f, 503,
                 "{\"status\":\"error\",\"errorType\":\"timeout\",\"error\":\"query timed out in "
                 "expression evaluation\"}",
                 .path = "query", .query = "query=up&timeout=0");
    source_mem_fail_reads(f.mem, ERR_IO);
    ask(&f, &(struct ask){.path = "query", .query = "query=up"});
    CHECK_U64(f.fake.status, 500);
    CHECK(memmem(f.fake.body.p, f.fake.body.len, "\"errorType\":\"internal\"", 22) != NULL);
    answer_release(&f);
    source_mem_fail_reads(f.mem, ERR_OK);
    CHECK_ANSWER(&f, 500,
                 "{\"status\":\"error\",\"errorType\":\"internal\",\"error\":\"not implemented\"}",
                 .method = HTTP_DELETE, .path = "series", .query = "match[]=up");
    fixture_close(&f);
}

static void test_waiting_counts(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    /* The request came five seconds ago. */
    http_fake_init(&f.fake, HTTP_GET, "/api/v1/query", "query=1&timeout=4", bytes_of(NULL, 0));
    f.fake.req.start_mono_ns = clock_mono_ns(&f.clock.clock);
    clock_fake_advance(&f.clock, 5000);
    const struct http_route *route = find_route(&f, HTTP_GET, "/api/v1/query");
    route->handler(route->ctx, &f.fake.req);
    CHECK_U64(f.fake.status, 503);
    answer_release(&f);
    fixture_close(&f);
}

static void test_stats(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    ask(&f, &(struct ask){.path = "query", .query = "query=sum_over_time(up[5m])&stats=all"});
    CHECK_U64(f.fake.status, 200);
    static const char WANT[] = "\"stats\":{\"timings\":{\"evalTotalTime\":";
    static const char SAMPLES[] = "\"samples\":{\"totalQueryableSamples\":10,\"peakSamples\":";
    CHECK(memmem(f.fake.body.p, f.fake.body.len, WANT, sizeof WANT - 1) != NULL);
    CHECK(memmem(f.fake.body.p, f.fake.body.len, SAMPLES, sizeof SAMPLES - 1) != NULL);
    answer_release(&f);
    fixture_close(&f);
}

/* An answer of more than two parts, in f->fake */
static void ask_much(struct fixture *f, bool gone)
{
    static const char HEAD[] = "query=label_replace(vector(1),%22a%22,%22";
    static const char TAIL[] = "%22,%22%22,%22%22)";
    struct buf query;
    buf_init(&query, MEM_QUERY);
    buf_text(&query, str_of(HEAD));
    memset(buf_reserve(&query, 150000), 'x', 150000);
    query.len += 150000;
    buf_put(&query, TAIL, sizeof TAIL); /* with its NUL */
    http_fake_init(&f->fake, HTTP_GET, "/api/v1/query", (const char *)query.p, bytes_of(NULL, 0));
    f->fake.req.start_mono_ns = clock_mono_ns(&f->clock.clock);
    f->fake.gone = gone;
    const struct http_route *route = find_route(f, HTTP_GET, "/api/v1/query");
    route->handler(route->ctx, &f->fake.req);
    buf_release(&query);
}

static void test_long_answer(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    ask_much(&f, false);
    CHECK_U64(f.fake.status, 200);
    CHECK(f.fake.done && !f.fake.aborted);
    CHECK(f.fake.body.len > 150000);
    CHECK(f.fake.body.p[f.fake.body.len - 1] == '}');
    answer_release(&f);
    fixture_close(&f);
}

/* Whoever leaves gets no part that could be taken for the whole. */
static void test_gone(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    ask_much(&f, true);
    CHECK(f.fake.done);
    CHECK(f.fake.aborted || f.fake.status == 499);
    answer_release(&f);
    fixture_close(&f);
}

/* --- series, labels, metadata ---------------------------------------------------------------------- */

static void test_series(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    CHECK_DATA(&f,
               "[{\"__name__\":\"up\",\"instance\":\"1\",\"job\":\"a\"},{\"__name__\":\"up\","
               "\"instance\":\"<2>\",\"job\":\"b\"}]",
               .path = "series", .query = "match[]=up");
    /* United, sorted, each once */
    CHECK_DATA(&f,
               "[{\"__name__\":\"Zed\",\"job\":\"a\"},{\"__name__\":\"up\",\"instance\":\"1\","
               "\"job\":\"a\"}]",
               .path = "series", .query = "match[]=up{job=%22a%22}&match[]={job=%22a%22}");
    CHECK_DATA(&f, "[]", .path = "series", .query = "match[]=none");
    CHECK_DATA(&f, "[]", .path = "series", .query = "match[]=up&start=10000");
    CHECK_DATA(&f, "[]", .path = "series", .query = "match[]=up&start=2&end=1");
    CHECK_ANSWER(
        &f, 200,
        "{\"status\":\"success\",\"data\":[{\"__name__\":\"up\",\"instance\":\"1\",\"job\":"
        "\"a\"}],\"warnings\":[\"results truncated due to limit\"]}",
        .path = "series", .query = "match[]=up&limit=1");
    fixture_close(&f);
}

static void test_labels(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    CHECK_DATA(&f, "[\"__name__\",\"instance\",\"job\"]", .path = "labels");
    CHECK_DATA(&f, "[\"__name__\"]", .path = "labels", .query = "match[]=odd&match[]=hist");
    CHECK_ANSWER(
        &f, 200,
        "{\"status\":\"success\",\"data\":[\"__name__\"],\"warnings\":[\"results truncated "
        "due to limit\"]}",
        .path = "labels", .query = "match[]=up&match[]=Zed&limit=1");
    CHECK_DATA(&f, "[\"a\",\"b\"]", .path = "label/job/values");
    CHECK_DATA(&f, "[\"1\",\"\\u003c2\\u003e\"]", .path = "label/U__instance/values");
    CHECK_DATA(&f, "[\"Zed\",\"hist\",\"odd\",\"reqs_total\",\"up\"]",
               .path = "label/__name__/values", .query = "limit=40000");
    CHECK_DATA(&f, "[\"Zed\",\"up\"]", .path = "label/U______name____/values",
               .query = "match[]={job=%22a%22}");
    CHECK_DATA(&f, "[]", .path = "label/a-b/values");
    CHECK_DATA(&f, "[\"a\"]", .path = "label/U__j_6f_b/values", .query = "match[]=Zed");
    CHECK_DATA(&f, "[]", .path = "label/U__j_6z_b/values"); /* malformed: itself */
    CHECK_DATA(&f, "[]", .path = "label/job/values", .query = "start=2&end=1");
    fixture_close(&f);
}

static void test_metadata_answers(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
#define A "\"a_total\":[{\"type\":\"counter\",\"unit\":\"\",\"help\":\"How \\u003cmany\\u003e.\"}]"
#define B1 "{\"type\":\"gauge\",\"unit\":\"seconds\",\"help\":\"\"}"
#define B2 "{\"type\":\"untyped\",\"unit\":\"\",\"help\":\"Other.\"}"
#define C "\"c\":[{\"type\":\"unknown\",\"unit\":\"\",\"help\":\"\"}]"
    CHECK_DATA(&f, "{" A ",\"b\":[" B1 "," B2 "]," C "}", .path = "metadata");
    CHECK_DATA(&f, "{\"b\":[" B1 "," B2 "]}", .path = "metadata", .query = "metric=b");
    CHECK_DATA(&f, "{" A ",\"b\":[" B1 "]}", .path = "metadata",
               .query = "limit=2&limit_per_metric=1");
    CHECK_DATA(&f, "{}", .path = "metadata", .query = "limit=0");
    CHECK_DATA(&f, "{}", .path = "metadata", .query = "metric=none");
    fixture_close(&f);
}

/* --- expressions, status --------------------------------------------------------------------------- */

static void test_expressions(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    CHECK_DATA(&f, "\"sum by (a) (x{b=\\\"\\u003c\\\"})\"", .path = "format_query",
               .query = "query=sum(x{b=%22<%22})by(a)");
    CHECK_DATA(&f, "{\"expr\":{\"type\":\"numberLiteral\",\"val\":\"1\"},\"type\":\"parenExpr\"}",
               .path = "parse_query", .query = "query=(1)");
    CHECK_DATA(&f, "[]", .path = "query_exemplars", .query = "query=up");
    CHECK_DATA(&f, "[]", .path = "query_exemplars", .query = "query=1");
    fixture_close(&f);
}

static void test_status(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    CHECK_DATA(&f, "{\"groups\":[]}", .path = "rules", .query = "type=alert&group_limit=5");
    CHECK_DATA(&f, "{\"alerts\":[]}", .path = "alerts");
    CHECK_DATA(&f, "{\"activeAlertmanagers\":[],\"droppedAlertmanagers\":[]}",
               .path = "alertmanagers");
    CHECK_DATA(&f, "{\"activeTargets\":[],\"droppedTargets\":[],\"droppedTargetCounts\":{}}",
               .path = "targets", .query = "state=ANY");
    CHECK_DATA(&f, "{\"activeTargets\":[],\"droppedTargets\":[],\"droppedTargetCounts\":null}",
               .path = "targets", .query = "state=active");
    CHECK_DATA(&f, "{\"scrapePools\":[]}", .path = "scrape_pools");
    CHECK_DATA(&f, "[]", .path = "targets/metadata");
    CHECK_DATA(&f, "[]", .path = "notifications");
    CHECK_DATA(&f, "{\"listen\":\"127.0.0.1:9780\",\"retention\":\"0\"}", .path = "status/flags");
    CHECK_DATA(&f, "{\"yaml\":\"listen: \\\"x\\\"\\n\"}", .path = "status/config");
    CHECK_DATA(&f, "{\"min\":0,\"max\":0,\"current\":0}", .path = "status/walreplay");
    CHECK_DATA(&f,
               "{\"startTime\":\"1970-01-01T00:00:01Z\",\"CWD\":\"/data\",\"hostname\":\"host\","
               "\"serverTime\":\"1970-01-01T00:10:00Z\",\"reloadConfigSuccess\":true,"
               "\"lastConfigTime\":\"1970-01-01T00:00:01Z\",\"corruptionCount\":0,"
               "\"goroutineCount\":0,\"GOMAXPROCS\":2,\"GOMEMLIMIT\":0,\"GOGC\":\"\",\"GODEBUG\":"
               "\"\",\"storageRetention\":\"15d\"}",
               .path = "status/runtimeinfo");
    CHECK_DATA(&f,
               "{\"version\":\"3.5.0\",\"revision\":\"quipu-" QUIPU_VERSION
               "\",\"branch\":\"quipu\",\"buildUser\":\"\",\"buildDate\":\"\",\"goVersion\":\"\"}",
               .path = "status/buildinfo");
    CHECK_ANSWER(
        &f, 200,
        "{\"version\":\"3.5.0\",\"revision\":\"quipu-" QUIPU_VERSION
        "\",\"branch\":\"quipu\",\"buildUser\":\"\",\"buildDate\":\"\",\"goVersion\":\"\"}\n",
        .path = "/version");
    CHECK_DATA(&f,
               "{\"headStats\":{\"numSeries\":6,\"numLabelPairs\":9,\"chunkCount\":7,\"minTime\":0,"
               "\"maxTime\":1000000},\"seriesCountByMetricName\":[{\"name\":\"up\",\"value\":2},{"
               "\"name\":\"Zed\",\"value\":1}],\"labelValueCountByLabelName\":[{\"name\":"
               "\"__name__\",\"value\":5},{\"name\":\"instance\",\"value\":2}],"
               "\"memoryInBytesByLabelName\":[{\"name\":\"__name__\",\"value\":72},{\"name\":"
               "\"instance\",\"value\":20}],\"seriesCountByLabelValuePair\":[{\"name\":"
               "\"__name__=up\",\"value\":2},{\"name\":\"job=a\",\"value\":2}]}",
               .path = "status/tsdb", .query = "limit=2");
    fixture_close(&f);
}

/* --- tenants, headers ------------------------------------------------------------------------------ */

static void test_tenants(void **state)
{
    (void)state;
    static const char *OTHER[][2] = {{"X-Scope-OrgID", "nobody"}, {NULL, NULL}};
    static const char *TWO[][2] = {{"X-Scope-OrgID", "a|b"}, {NULL, NULL}};
    static const char *TWICE[][2] = {
        {"X-Scope-OrgID", "default"}, {"X-Scope-OrgID", "default"}, {NULL, NULL}};
    static const char *ODD[][2] = {{"X-Scope-OrgID", "a/b"}, {NULL, NULL}};
    struct fixture f;
    fixture_open(&f);
    /* Nothing was ever written by this one. */
    CHECK_DATA(&f, VECTOR(""), .path = "query", .query = "query=up", .headers = OTHER);
    CHECK_DATA(&f, VECTOR("{\"metric\":{},\"value\":[600,\"1\"]}"), .path = "query",
               .query = "query=absent(up)", .headers = OTHER);
    CHECK_DATA(&f, MATRIX(""), .path = "query_range",
               .query = "query=rate(up[5m])&start=0&end=60&step=5", .headers = OTHER);
    CHECK_DATA(&f, "[]", .path = "series", .query = "match[]=up", .headers = OTHER);
    CHECK_DATA(&f, "[]", .path = "labels", .headers = OTHER);
    CHECK_DATA(&f, "[]", .path = "label/job/values", .headers = OTHER);
    CHECK_DATA(&f, "{}", .path = "metadata", .headers = OTHER);
    CHECK_DATA(
        &f,
        "{\"headStats\":{\"numSeries\":0,\"numLabelPairs\":0,\"chunkCount\":0,\"minTime\":"
        "9223372036854775807,\"maxTime\":-9223372036854775808},\"seriesCountByMetricName\":[]"
        ",\"labelValueCountByLabelName\":[],\"memoryInBytesByLabelName\":[],"
        "\"seriesCountByLabelValuePair\":[]}",
        .path = "status/tsdb", .headers = OTHER);
    CHECK_ANSWER(&f, 400, BAD("multiple org IDs present"), .path = "query", .query = "query=up",
                 .headers = TWO);
    CHECK_ANSWER(&f, 400, BAD("multiple org IDs present"), .path = "query", .query = "query=up",
                 .headers = TWICE);
    CHECK_ANSWER(&f, 400, BAD("tenant ID 'a/b' contains unsupported character '/'"),
                 .path = "labels", .headers = ODD);
    fixture_close(&f);
}

static void check_headers(struct fixture *f, const char *(*headers)[2], const char *want)
{
    ask(f, &(struct ask){.path = "query", .query = "query=1", .headers = headers});
    CHECK_STR(str_from_bytes(buf_bytes(&f->fake.sent_headers)), want);
    CHECK_STR(str_of(f->fake.content_type), "application/json");
    answer_release(f);
}

static void test_headers(void **state)
{
    (void)state;
    static const char *GOOD[][2] = {{"Origin", "https://good.example"}, {NULL, NULL}};
    static const char *EVIL[][2] = {{"Origin", "https://evil.example"}, {NULL, NULL}};
#define COMMON                                                                                     \
    "Vary: Origin\n"                                                                               \
    "Access-Control-Allow-Headers: Accept, Authorization, Content-Type, Origin\n"                  \
    "Access-Control-Allow-Methods: GET, POST, OPTIONS\n"                                           \
    "Access-Control-Expose-Headers: Date\n"
    struct fixture f;
    fixture_open(&f);
    check_headers(&f, NULL, "Vary: Origin\n");
    check_headers(&f, GOOD, COMMON "Access-Control-Allow-Origin: https://good.example\n");
    check_headers(&f, EVIL, COMMON);
    http_fake_init(&f.fake, HTTP_OPTIONS, "/api/v1/none", "", bytes_of(NULL, 0));
    f.fake.headers = GOOD;
    query_api_options(f.api, &f.fake.req);
    CHECK_U64(f.fake.status, 204);
    CHECK_STR(str_from_bytes(buf_bytes(&f.fake.sent_headers)),
              COMMON "Access-Control-Allow-Origin: https://good.example\n");
    answer_release(&f);
    fixture_close(&f);
}

static void test_metrics(void **state)
{
    (void)state;
    struct fixture f;
    struct buf text;
    fixture_open(&f);
    ask(&f, &(struct ask){.path = "query", .query = "query=1"});
    answer_release(&f);
    ask(&f, &(struct ask){.path = "query", .query = "query=("});
    answer_release(&f);
    ask(&f, &(struct ask){.path = "query_range", .query = "query=up*on()up&start=0&end=1&step=1"});
    answer_release(&f);
    buf_init(&text, MEM_QUERY);
    metrics_render(f.metrics, &text);
    static const char *const WANT[] = {
        "quipu_queries_total{kind=\"instant\",outcome=\"success\"} 1\n",
        "quipu_queries_total{kind=\"instant\",outcome=\"bad_data\"} 1\n",
        "quipu_queries_total{kind=\"range\",outcome=\"execution\"} 1\n",
        "quipu_query_duration_seconds_count{kind=\"instant\"} 2\n",
    };
    for (size_t i = 0; i < COUNT_OF(WANT); i++)
        if (!memmem(text.p, text.len, WANT[i], strlen(WANT[i])))
            test_fail(__FILE__, __LINE__, "no %s in\n%.*s", WANT[i], (int)text.len,
                      (const char *)text.p);
    buf_release(&text);
    fixture_close(&f);
}

/* Parts of names, values, and series; the limit counts what is left. */
static void test_search(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    CHECK_DATA(&f, "[\"__name__\",\"instance\"]", .path = "labels",
               .query = "search=N&search=o&match[]=up");
    CHECK_DATA(&f, "[\"instance\"]", .path = "labels", .query = "search=^I");
    CHECK_DATA(&f, "[\"odd\"]", .path = "label/__name__/values",
               .query = "search=D&search=t&match[]=odd&match[]=reqs_total");
    CHECK_ANSWER(&f, 200,
                 "{\"status\":\"success\",\"data\":[\"Zed\"],\"warnings\":[\"results truncated due "
                 "to limit\"]}",
                 .path = "label/__name__/values", .query = "search=d&limit=1");
    CHECK_DATA(&f, "[{\"__name__\":\"Zed\",\"job\":\"a\"}]", .path = "series",
               .query = "match[]={job=\"a\"}&search=ZE");
    CHECK_DATA(&f, "[{\"__name__\":\"up\",\"instance\":\"<2>\",\"job\":\"b\"}]", .path = "series",
               .query = "match[]=up&match[]=Zed&search=^b&limit=1");
    fixture_close(&f);
}

static void test_bad_cors(void **state)
{
    (void)state;
    struct query_api *api;
    struct err err;
    struct metrics *metrics = metrics_new();
    struct env env = {.clock = clock_system(), .metrics = metrics};
    struct query_api_backend backend = {NULL, NULL, NULL};
    struct query_api_config config = query_api_config_default();
    config.cors_origin = "(";
    CHECK_ERR(query_api_new(&env, &backend, &config, &api, &err), ERR_INVALID);
    CHECK(api == NULL);
    metrics_free(metrics);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_parameters),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_sources_of_parameters),
        cmocka_unit_test(test_instant),
        cmocka_unit_test(test_range),
        cmocka_unit_test(test_limit_and_notes),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_waiting_counts),
        cmocka_unit_test(test_stats),
        cmocka_unit_test(test_long_answer),
        cmocka_unit_test(test_gone),
        cmocka_unit_test(test_series),
        cmocka_unit_test(test_labels),
        cmocka_unit_test(test_metadata_answers),
        cmocka_unit_test(test_expressions),
        cmocka_unit_test(test_status),
        cmocka_unit_test(test_tenants),
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_metrics),
        cmocka_unit_test(test_search),
        cmocka_unit_test(test_bad_cors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
