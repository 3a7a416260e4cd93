/* X-Scope-OrgID: a|b: the series of several tenants in one answer, told apart by __tenant_id__, as Mimir has it. */
#include "tests/query/api_fixture.h"

static const char *BOTH[][2] = {{"X-Scope-OrgID", "other|default"}, {NULL, NULL}};

static void open_both(struct fixture *f)
{
    struct query_limits limits = query_limits_default();
    fixture_open_with(f, &limits, 3);
    source_mem_load(f->other_mem, "load 60s\n"
                                  "  up{job=\"a\",instance=\"1\"} 7x10\n"
                                  "  own{__tenant_id__=\"mine\",z=\"1\"} 5x10\n");
}

static void test_queries(void **state)
{
    (void)state;
    struct fixture f;
    open_both(&f);
    CHECK_DATA(
        &f,
        "{\"resultType\":\"vector\",\"result\":["
        "{\"metric\":{\"__name__\":\"up\",\"__tenant_id__\":\"default\",\"instance\":\"1\","
        "\"job\":\"a\"},\"value\":[600,\"10\"]},"
        "{\"metric\":{\"__name__\":\"up\",\"__tenant_id__\":\"default\",\"instance\":\"<2>\","
        "\"job\":\"b\"},\"value\":[600,\"1.5\"]},"
        "{\"metric\":{\"__name__\":\"up\",\"__tenant_id__\":\"other\",\"instance\":\"1\","
        "\"job\":\"a\"},\"value\":[600,\"7\"]}]}",
        .path = "query", .query = "query=up", .headers = BOTH);
    CHECK_DATA(&f,
               "{\"resultType\":\"vector\",\"result\":[{\"metric\":{\"__tenant_id__\":\"default\"},"
               "\"value\":[600,\"2\"]},{\"metric\":{\"__tenant_id__\":\"other\"},\"value\":[600,"
               "\"1\"]}]}",
               .path = "query", .query = "query=count(up)by(__tenant_id__)", .headers = BOTH);
    /* matchers choose tenants */
    CHECK_DATA(&f, "{\"resultType\":\"vector\",\"result\":[{\"metric\":{},\"value\":[600,\"7\"]}]}",
               .path = "query", .query = "query=sum(up{__tenant_id__!~\"d.*\"})", .headers = BOTH);
    CHECK_DATA(&f, "{\"resultType\":\"vector\",\"result\":[]}", .path = "query",
               .query = "query=up{__tenant_id__=\"nobody\"}", .headers = BOTH);
    /* a label of that name gives way */
    CHECK_DATA(&f,
               "{\"resultType\":\"vector\",\"result\":[{\"metric\":{\"__name__\":\"own\","
               "\"__tenant_id__\":\"other\",\"original___tenant_id__\":\"mine\",\"z\":\"1\"},"
               "\"value\":[600,\"5\"]}]}",
               .path = "query", .query = "query=own{original___tenant_id__=\"mine\"}",
               .headers = BOTH);
    CHECK_DATA(&f, "{\"resultType\":\"vector\",\"result\":[]}", .path = "query",
               .query = "query=own{__tenant_id__=\"mine\"}", .headers = BOTH);
    fixture_close(&f);
}

static void test_labels(void **state)
{
    (void)state;
    struct fixture f;
    open_both(&f);
    CHECK_DATA(
        &f,
        "[\"__name__\",\"__tenant_id__\",\"instance\",\"job\",\"original___tenant_id__\",\"z\"]",
        .path = "labels", .headers = BOTH);
    CHECK_DATA(&f, "[\"default\",\"other\"]", .path = "label/__tenant_id__/values",
               .headers = BOTH);
    CHECK_DATA(&f, "[\"other\"]", .path = "label/__tenant_id__/values", .query = "search=^O",
               .headers = BOTH);
    CHECK_DATA(&f, "[\"mine\"]", .path = "label/original___tenant_id__/values", .headers = BOTH);
    CHECK_DATA(&f, "[\"Zed\",\"hist\",\"odd\",\"own\",\"reqs_total\",\"up\"]",
               .path = "label/__name__/values", .headers = BOTH);
    CHECK_ANSWER(
        &f, 200,
        "{\"status\":\"success\",\"data\":[\"Zed\",\"hist\",\"odd\",\"own\"],\"warnings\":["
        "\"results truncated due to limit\"]}",
        .path = "label/__name__/values", .query = "limit=4", .headers = BOTH);
    CHECK_DATA(&f, "[\"own\",\"up\"]", .path = "label/__name__/values",
               .query = "match[]={__tenant_id__=\"other\"}", .headers = BOTH);
    CHECK_DATA(
        &f, "[{\"__name__\":\"up\",\"__tenant_id__\":\"other\",\"instance\":\"1\",\"job\":\"a\"}]",
        .path = "series", .query = "match[]=up{__tenant_id__=\"other\"}", .headers = BOTH);
    /* what both say alike comes once */
    CHECK_DATA(&f,
               "{\"b\":[{\"type\":\"gauge\",\"unit\":\"seconds\",\"help\":\"\"},{\"type\":"
               "\"untyped\",\"unit\":\"\",\"help\":\"Other.\"}]}",
               .path = "metadata", .query = "metric=b", .headers = BOTH);
    CHECK_ANSWER(&f, 200,
                 "# TYPE up untyped\n"
                 "up{__tenant_id__=\"other\",instance=\"1\",job=\"a\"} 7 600000\n",
                 .path = "/federate", .query = "match[]=up{__tenant_id__=\"other\"}",
                 .headers = BOTH);
    fixture_close(&f);
}

struct header_case {
    const char *header;
    unsigned status;
    const char *text;
};

static void test_headers(void **state)
{
    (void)state;
    static const struct header_case CASES[] = {
        /* one tenant, however often: no label is added */
        {"other|other", 200,
         "{\"status\":\"success\",\"data\":[{\"__name__\":\"up\",\"instance\":\"1\",\"job\":\"a\"}]"
         "}"},
        {"other|nobody", 200,
         "{\"status\":\"success\",\"data\":[{\"__name__\":\"up\",\"__tenant_id__\":\"other\","
         "\"instance\":\"1\",\"job\":\"a\"}]}"},
        {"a|b|c|d", 400, BAD("too many tenants, max: 3, actual: 4")},
        {"other|", 400, BAD("no org id")},
        {"|", 400, BAD("no org id")},
        {"other|x y", 400, BAD("tenant ID 'x y' contains unsupported character ' '")},
        {"other|..", 400, BAD("tenant ID is '.' or '..'")},
    };
    struct fixture f;
    open_both(&f);
    for (size_t i = 0; i < COUNT_OF(CASES); i++) {
        const char *headers[][2] = {{"X-Scope-OrgID", CASES[i].header}, {NULL, NULL}};
        CHECK_ANSWER(&f, CASES[i].status, CASES[i].text, .path = "series", .query = "match[]=up",
                     .headers = headers);
    }
    CHECK_ANSWER(&f, 400, BAD("multiple org IDs present"), .path = "status/tsdb", .headers = BOTH);
    fixture_close(&f);
    fixture_open(&f); /* where it is off */
    CHECK_ANSWER(&f, 400, BAD("multiple org IDs present"), .path = "labels", .headers = BOTH);
    fixture_close(&f);
}

static void test_errors(void **state)
{
    (void)state;
    struct fixture f;
    open_both(&f);
    source_mem_fail_reads(f.other_mem, ERR_IO);
    CHECK_ANSWER(
        &f, 500,
        "{\"status\":\"error\",\"errorType\":\"internal\",\"error\":\"a read failed, as asked "
        "for\"}",
        .path = "query", .query = "query=sum(up)", .headers = BOTH);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_queries),
        cmocka_unit_test(test_labels),
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
