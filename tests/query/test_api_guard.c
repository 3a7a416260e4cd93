/* Guard rails of the query API: limits of the answer and of tenants, what runs and is canceled, what ran, and what is
 * logged of it. */
#include "query/active.h"
#include "tests/query/api_fixture.h"

#define EXECUTION(text) "{\"status\":\"error\",\"errorType\":\"execution\",\"error\":\"" text "\"}"
#define RAISE "; ask for less at once, or raise it for all or under `tenants` in the configuration"

/* --- limits ---------------------------------------------------------------------------------------- */

static void test_response_bytes(void **state)
{
    (void)state;
    struct fixture f;
    struct query_limits limits = query_limits_default();
    static const char RANGE[] = "query=up&start=0&end=600&step=60";
    fixture_open(&f);
    ask(&f, &(struct ask){.path = "query_range", .query = RANGE});
    CHECK_U64(f.fake.status, 200);
    size_t whole = f.fake.body.len,
           data = whole - strlen("}}"); /* the envelope's end comes later */
    answer_release(&f);
    fixture_close(&f);

    limits.response_bytes_max = data;
    fixture_open_with(&f, &limits, 1);
    ask(&f, &(struct ask){.path = "query_range", .query = RANGE});
    CHECK_U64(f.fake.status, 200);
    CHECK_U64(f.fake.body.len, whole);
    answer_release(&f);
    fixture_close(&f);

    limits.response_bytes_max = 100; /* fewer than the points take at least */
    fixture_open_with(&f, &limits, 1);
    ask(&f, &(struct ask){.path = "query_range", .query = RANGE});
    CHECK_U64(f.fake.status, 422);
    struct str text = str_from_bytes(buf_bytes(&f.fake.body));
    CHECK(str_has_prefix(text, STR("{\"status\":\"error\",\"errorType\":\"execution\",\"error\":"
                                   "\"the answer is too long: it takes ")));
    CHECK(str_has_suffix(text, STR("B or more, and query.response_max is 100 B for tenant "
                                   "default" RAISE "\"}")));
    answer_release(&f);
    fixture_close(&f);
}

/* Where the bounds that are cheap to compute leave it open, the answer is counted to the byte. */
static void test_response_is_counted(void **state)
{
    (void)state;
    struct fixture f;
    struct query_limits limits = query_limits_default();
    size_t fits = 0, refused = 0;
    for (size_t max = 150; max < 500; max += 7) {
        limits.response_bytes_max = max;
        fixture_open_with(&f, &limits, 1);
        ask(&f, &(struct ask){.path = "query_range", .query = "query=up&start=0&end=600&step=60"});
        if (f.fake.status == 200) {
            CHECK(f.fake.body.len <= max + 64);
            fits++;
        } else {
            CHECK_U64(f.fake.status, 422);
            refused++;
        }
        answer_release(&f);
        fixture_close(&f);
    }
    CHECK(fits > 0 && refused > 0);
}

static void tenant_limits(void *ctx, struct str tenant, struct query_limits *limits)
{
    (void)ctx;
    if (str_eq(tenant, STR("default"))) limits->series_max = 1;
    if (str_eq(tenant, STR("other"))) limits->timeout_ms = 1;
}

static void test_tenant_limits(void **state)
{
    (void)state;
    struct fixture f;
    struct query_api_config config = query_api_config_default();
    config.tenant_limits = tenant_limits;
    config.tenants_max = 2;
    fixture_open_config(&f, &config);
    static const char *OTHER[][2] = {{"X-Scope-OrgID", "other"}, {NULL, NULL}};
    static const char *BOTH[][2] = {{"X-Scope-OrgID", "default|other"}, {NULL, NULL}};
    static const char TOO_MANY[] = EXECUTION(
        "the query selects too many series: it takes 2 or more, and query.series_max is 1 "
        "for tenant default" RAISE);
    CHECK_ANSWER(&f, 422, TOO_MANY, .path = "query", .query = "query=up&time=0");
    CHECK_DATA(&f, "{\"resultType\":\"vector\",\"result\":[]}", .path = "query",
               .query = "query=up&time=0", .headers = OTHER);
    CHECK_ANSWER(&f, 422, TOO_MANY, .path = "query", .query = "query=up&time=0", .headers = BOTH);
    fixture_close(&f);
}

/* --- what runs ------------------------------------------------------------------------------------- */

struct watch {
    struct fixture *f;
    enum http_method method; /* of the request that is made while the query selects its series */
    const char *path, *query;
    const char *(*headers)[2];
    unsigned status;
    char body[2000];
};
static struct watch watch; /* the source's functions have no context of ours */

static void ask_beside(struct watch *w)
{
    struct http_fake fake;
    http_fake_init(&fake, w->method, w->path, w->query, bytes_of(NULL, 0));
    fake.headers = w->headers;
    const struct http_route *route = find_route(w->f, w->method, w->path);
    route->handler(route->ctx, &fake.req);
    CHECK(fake.done);
    w->status = fake.status;
    snprintf(w->body, sizeof w->body, "%.*s", (int)fake.body.len, (const char *)fake.body.p);
    http_fake_release(&fake);
}

static enum err_code select_and_ask(struct query_source *src, const struct matcher *matchers,
                                    size_t n_matchers, int64_t mint_ms, int64_t maxt_ms,
                                    struct source_select **out, struct err *err)
{
    struct query_source *mem = ((struct test_source *)(void *)src)->mem;
    clock_fake_advance(&watch.f->clock, 1500);
    ask_beside(&watch);
    return mem->ops->select(mem, matchers, n_matchers, mint_ms, maxt_ms, out, err);
}

static void test_active(void **state)
{
    (void)state;
    struct fixture f;
    static const char *OTHER[][2] = {{"X-Scope-OrgID", "other"}, {NULL, NULL}};
    static const char *SAME[][2] = {{"X-Scope-OrgID", "default"}, {NULL, NULL}};
    fixture_open(&f);
    f.ops.select = select_and_ask;
    watch = (struct watch){&f, HTTP_GET, "/api/v1/status/active_queries", "", NULL, 0, ""};
    ask(&f, &(struct ask){.path = "query_range", .query = "query=up%3E0&start=0&end=60&step=30"});
    CHECK_U64(f.fake.status, 200);
    answer_release(&f);
    CHECK_U64(watch.status, 200);
    CHECK_STR(str_of(watch.body),
              "{\"status\":\"success\",\"data\":[{\"id\":1,\"tenant\":\"default\",\"query\":"
              "\"up\\u003e0\",\"kind\":\"range\",\"start\":0,\"end\":60,\"step\":30,\"since\":600,"
              "\"seconds\":1.5,\"series\":0,\"samples\":0,\"memoryBytes\":0}]}");
    watch.headers = OTHER;
    ask(&f, &(struct ask){.path = "query", .query = "query=up"});
    answer_release(&f);
    CHECK_STR(str_of(watch.body), "{\"status\":\"success\",\"data\":[]}");
    watch.headers = SAME;
    ask(&f, &(struct ask){.path = "query", .query = "query=up"});
    answer_release(&f);
    CHECK(strstr(watch.body, "\"id\":3"));
    CHECK_DATA(&f, "[]", .path = "status/active_queries"); /* it has ended */
    fixture_close(&f);
}

static void test_cancel(void **state)
{
    (void)state;
    struct fixture f;
    static const char *OTHER[][2] = {{"X-Scope-OrgID", "other"}, {NULL, NULL}};
    static const char CANCELED[] = "{\"status\":\"error\",\"errorType\":\"canceled\",\"error\":"
                                   "\"query was canceled by an operator\"}";
    fixture_open(&f);
    f.ops.select = select_and_ask;
    watch =
        (struct watch){&f, HTTP_POST, "/api/v1/status/active_queries/cancel", "id=1", NULL, 0, ""};
    CHECK_ANSWER(&f, 499, CANCELED, .path = "query", .query = "query=up");
    CHECK_U64(watch.status, 200);
    watch = (struct watch){&f, HTTP_DELETE, "/api/v1/status/active_queries", "id=2", NULL, 0, ""};
    CHECK_ANSWER(&f, 499, CANCELED, .path = "query", .query = "query=up");
    watch.query = "id=3";
    watch.headers = OTHER; /* another tenant's */
    ask(&f, &(struct ask){.path = "query", .query = "query=up"});
    CHECK_U64(f.fake.status, 200);
    answer_release(&f);
    CHECK_U64(watch.status, 404);
    CHECK_ANSWER(&f, 404,
                 "{\"status\":\"error\",\"errorType\":\"not_found\",\"error\":\"no query 3 is "
                 "running\"}",
                 .method = HTTP_POST, .path = "status/active_queries/cancel", .query = "id=3");
    CHECK_ANSWER(&f, 400,
                 BAD("invalid parameter \\\"id\\\": \\\"x\\\" is no id of status/active_queries"),
                 .method = HTTP_DELETE, .path = "status/active_queries", .query = "id=x");
    fixture_close(&f);
}

/* --- what ran -------------------------------------------------------------------------------------- */

static void run_some(struct fixture *f)
{
    static const char *const QUERIES[] = {"query=up&time=0", "query=up&time=60", "query=1&time=0",
                                          "query=up%7B&time=0",
                                          "query=sum_over_time(reqs_total%5B10m%5D)&time=600"};
    for (size_t i = 0; i < COUNT_OF(QUERIES); i++) {
        ask(f, &(struct ask){.path = "query", .query = QUERIES[i]});
        answer_release(f);
    }
}

static void test_top(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    run_some(&f);
#define ROW(query, n, failures, samples, series)                                                   \
    "{\"tenant\":\"default\",\"query\":\"" query "\",\"kind\":\"instant\",\"count\":" n            \
    ",\"failures\":" failures ",\"seconds\":0,\"maxSeconds\":0,\"samples\":" samples               \
    ",\"maxSeries\":" series ",\"last\":600}"
    CHECK_DATA(&f, "[" ROW("up", "2", "0", "4", "2") "]", .path = "status/top_queries",
               .query = "by=count&limit=1");
    CHECK_DATA(&f,
               "[" ROW("sum_over_time(reqs_total[10m])", "1", "0", "10",
                       "1") "," ROW("up", "2", "0", "4", "2") "]",
               .path = "status/top_queries", .query = "by=samples&limit=2");
    static const char *OTHER[][2] = {{"X-Scope-OrgID", "other"}, {NULL, NULL}};
    CHECK_DATA(&f, "[]", .path = "status/top_queries", .headers = OTHER);
    CHECK_ANSWER(&f, 400,
                 BAD("invalid parameter \\\"by\\\": \\\"x\\\" is none of count, seconds, samples"),
                 .path = "status/top_queries", .query = "by=x");
    fixture_close(&f);
}

/* However many texts there are, there are only so many places, and those that took time keep theirs. */
static void test_top_is_bounded(void **state)
{
    (void)state;
    struct top_queries *top = mem_calloc(MEM_TOOLS, 1, sizeof *top);
    CHECK(top != NULL);
    top_init(top);
    for (int i = 0; i < 3 * TOP_QUERIES_MAX; i++) {
        char text[32];
        snprintf(text, sizeof text, "q%d", i);
        struct query_record r = {.tenant = STR("t"), .text = str_of(text), .seconds = i == 5};
        top_note(top, &r);
    }
    CHECK_U64(top->n, TOP_QUERIES_MAX);
    struct buf out;
    buf_init(&out, MEM_TOOLS);
    top_print(top, STR(""), TOP_BY_SECONDS, 1, &out);
    CHECK(memmem(out.p, out.len, "\"q5\"", 4) != NULL);
    buf_release(&out);
    top_release(top);
    mem_free(top);
}

static void check_metric(struct fixture *f, const char *line)
{
    struct buf out;
    buf_init(&out, MEM_TOOLS);
    metrics_render(f->metrics, &out);
    if (!memmem(out.p, out.len, line, strlen(line)))
        test_fail(__FILE__, __LINE__, "no line %s", line);
    buf_release(&out);
}

static void test_tenant_metrics(void **state)
{
    (void)state;
    struct fixture f;
    struct query_limits limits = query_limits_default();
    limits.series_max = 1;
    fixture_open_with(&f, &limits, 1);
    static const char *NOBODY[][2] = {{"X-Scope-OrgID", "nobody"}, {NULL, NULL}};
    run_some(&f);
    ask(&f, &(struct ask){.path = "query", .query = "query=up", .headers = NOBODY});
    answer_release(&f);
    check_metric(&f, "\nquipu_tenant_queries_total{tenant=\"default\"} 5\n");
    check_metric(&f, "\nquipu_tenant_query_failures_total{tenant=\"default\"} 3\n");
    check_metric(&f, "\nquipu_tenant_query_samples_total{tenant=\"default\"} 10\n");
    check_metric(
        &f, "\nquipu_tenant_queries_refused_total{tenant=\"default\",limit=\"series_max\"} 2\n");
    check_metric(&f, "\nquipu_tenant_query_duration_seconds_count{tenant=\"default\"} 5\n");
    check_metric(&f, "\nquipu_tenant_queries_total{tenant=\"__overflow__\"} 1\n");
    fixture_close(&f);
}

static void keep_line(void *ctx, const char *line, size_t len)
{
    struct buf *out = ctx;
    buf_put(out, line, len);
}

static void test_slow_log(void **state)
{
    (void)state;
    struct fixture f;
    struct query_limits limits = query_limits_default();
    struct buf lines;
    buf_init(&lines, MEM_TOOLS);
    limits.slow_ms = 1500;
    fixture_open_with(&f, &limits, 1);
    f.log.sink = keep_line;
    f.log.sink_ctx = &lines;
    run_some(&f);
    CHECK_U64(lines.len, 0);
    f.ops.select = select_and_ask; /* takes 1.5 s */
    watch = (struct watch){&f, HTTP_GET, "/api/v1/status/active_queries", "", NULL, 0, ""};
    ask(&f, &(struct ask){.path = "query_range", .query = "query=up&start=0&end=60&step=30"});
    answer_release(&f);
    static const char *const PARTS[] = {
        "level=warn msg=\"slow query\" tenant=default query=up kind=range start=0 end=60 step=30 "
        "seconds=1.5 queued=0 ",
        " select=1.5 ", " series=2 samples=6 ", " outcome=success", " plan=select "};
    for (size_t i = 0; i < COUNT_OF(PARTS); i++)
        if (!memmem(lines.p, lines.len, PARTS[i], strlen(PARTS[i])))
            test_fail(__FILE__, __LINE__, "no %s in %.*s", PARTS[i], (int)lines.len,
                      (const char *)lines.p);
    fixture_close(&f);
    buf_release(&lines);
}

/* --- before it runs -------------------------------------------------------------------------------- */

/* As if there were a million series with ten thousand samples each, of which a matcher finds a tenth. */
static enum err_code estimate_many(struct query_source *src, const struct matcher *matchers,
                                   size_t n_matchers, int64_t mint_ms, int64_t maxt_ms,
                                   uint64_t *series, uint64_t *samples, struct err *err)
{
    (void)src, (void)matchers, (void)mint_ms, (void)maxt_ms, (void)err;
    *series = n_matchers ? 100000 : 1000000;
    *samples = *series * 10000;
    return ERR_OK;
}

static void check_refused(struct fixture *f, const char *query, const char *key)
{
    ask(f, &(struct ask){.path = "query_range", .query = query});
    struct str body = str_from_bytes(buf_bytes(&f->fake.body));
    if (!key) {
        if (f->fake.status != 200) test_fail(__FILE__, __LINE__, "%s: %.*s", query, STR_ARG(body));
    } else if (f->fake.status != 422 ||
               !memmem(body.p, body.len, "the query was refused before it ran: by estimate", 48) ||
               !memmem(body.p, body.len, key, strlen(key))) {
        test_fail(__FILE__, __LINE__, "%s: %u %.*s", query, f->fake.status, STR_ARG(body));
    }
    answer_release(f);
}

static void test_estimate(void **state)
{
    (void)state;
    struct fixture f;
    struct query_limits limits = query_limits_default();
    fixture_open_with(&f, &limits, 1);
    f.ops.estimate = estimate_many;
    /* 100,000 series at 10,001 steps, 1e9 samples. A window of a day holds each at 5,760 of them. */
    static const char TIMES[] = "start=0&end=150000&step=15";
    char query[300];
    static const struct {
        const char *expr, *key;
    } CASES[] = {
        {"sum(rate(up%5B1m%5D))", NULL},
        {"sum(quantile_over_time(0.5,up%5B1d%5D))", "query.work_max is 1000000000000"},
        {"abs(up)", "query.samples_max is 50000000"}, /* 1e9 points are held for the answer */
        {"sum(up)", NULL},
        {"up==1", NULL}, /* who knows how many are left */
        {"1", NULL},
    };
    for (size_t i = 0; i < COUNT_OF(CASES); i++) {
        snprintf(query, sizeof query, "query=%s&%s", CASES[i].expr, TIMES);
        check_refused(&f, query, CASES[i].key);
    }
    fixture_close(&f);
    limits.samples_max = 0;
    limits.samples_max--;
    fixture_open_with(&f, &limits, 1);
    f.ops.estimate = estimate_many;
    snprintf(query, sizeof query, "query=-up&%s", TIMES);
    check_refused(&f, query, "query.memory_max is 1073741824 B");
    fixture_close(&f);
}

static void test_blocked(void **state)
{
    (void)state;
    struct fixture f;
    struct err err;
    static const struct blocked_query LIST[] = {
        {STR("sum by(job) (rate(up[5m]))"), STR("ticket 12"), STR("")},
        {STR("count.*"), STR(""), STR("default")},
    };
    fixture_open(&f);
    CHECK_OK(query_api_set_blocked(f.api, LIST, COUNT_OF(LIST), &err), &err);
    /* However it is written. */
    CHECK_ANSWER(&f, 422, EXECUTION("the query is blocked by query.blocked: ticket 12"),
                 .path = "query", .query = "query=sum(rate(up%5B300s%5D))by(job)");
    CHECK_ANSWER(&f, 422, EXECUTION("the query is blocked by query.blocked"), .path = "query",
                 .query = "query=count(up)");
    static const char *OTHER[][2] = {{"X-Scope-OrgID", "other"}, {NULL, NULL}};
    CHECK_DATA(&f, "{\"resultType\":\"vector\",\"result\":[]}", .path = "query",
               .query = "query=count(up)", .headers = OTHER);
    ask(&f, &(struct ask){.path = "query", .query = "query=sum(up)"});
    CHECK_U64(f.fake.status, 200);
    answer_release(&f);
    check_metric(&f,
                 "\nquipu_tenant_queries_refused_total{tenant=\"default\",limit=\"blocked\"} 2\n");
    CHECK_OK(query_api_set_blocked(f.api, NULL, 0, &err), &err);
    ask(&f, &(struct ask){.path = "query", .query = "query=count(up)"});
    CHECK_U64(f.fake.status, 200);
    answer_release(&f);
    CHECK(blocked_check(STR("(a"), &err) == ERR_INVALID);
    CHECK_OK(blocked_check(STR("up[5m]"), &err), &err);
    fixture_close(&f);
}

/* --- plans ----------------------------------------------------------------------------------------- */

static void test_explain(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
#define ESTIMATED(seconds, series, samples, looks, points)                                         \
    "\"estimated\":{\"seconds\":" seconds ",\"series\":" series ",\"samples\":" samples            \
    ",\"windowSamples\":" looks ",\"points\":" points "}"
#define NOTHING ESTIMATED("0", "0", "0", "0", "0")
#define MEASURED(series, looks, points, bytes)                                                     \
    ",\"measured\":{\"seconds\":0,\"selfSeconds\":0,\"series\":" series                            \
    ",\"windowSamples\":" looks ",\"points\":" points ",\"bytes\":" bytes "}"
    CHECK_DATA(
        &f,
        "{\"resultType\":\"vector\",\"result\":[{\"metric\":{},\"value\":[600,\"1\"]}],"
        "\"explain\":{\"node\":\"vector and scalar \\u003e\",\"expr\":"
        "\"sum(rate(reqs_total[5m])) \\u003e 0\",\"steps\":1," ESTIMATED("0", "1", "0", "0", "0")
            MEASURED(
                "1", "5", "1",
                "8") ",\"children\":[{\"node\":\"aggregate sum\",\"expr\":"
                     "\"sum(rate(reqs_total[5m]))\",\"steps\":1," ESTIMATED("0", "1", "0", "0", "0")
                         MEASURED("1", "5", "1",
                                  "8") ",\"children\":[{\"node\":\"range function rate\",\"expr\":"
                                       "\"rate(reqs_total[5m])\",\"steps\":1," NOTHING MEASURED(
                                           "1", "5", "1",
                                           "8") ",\"children\":[{\"node\":\"select "
                                                "range\",\"expr\":\"reqs_total[5m]\","
                                                "\"steps\":1," NOTHING MEASURED(
                                                    "1", "0", "0", "0") ",\"children\":[]}]}]}]}}",
        .path = "query",
        .query = "query=sum(rate(reqs_total%5B5m%5D))%20%3E%200&time=600&explain=1");
    f.ops.estimate = estimate_many;
    /* What a check of limits estimates from the totals is not what is shown. */
    ask(&f, &(struct ask){.path = "query", .query = "query=up&time=0&explain=1"});
    struct str body = str_from_bytes(buf_bytes(&f.fake.body));
    CHECK(memmem(body.p, body.len, "\"series\":100000,", 16) != NULL);
    answer_release(&f);
    CHECK_DATA(&f,
               "{\"resultType\":\"matrix\",\"result\":[],\"explain\":{\"node\":"
               "\"select\",\"expr\":\"up\",\"steps\":2," ESTIMATED(
                   "8.0012", "100000", "1000000000", "200000", "200000") ",\"children\":[]}}",
               .path = "query_range", .query = "query=up&start=0&end=60&step=60&explain=estimate");
    fixture_close(&f);
}

/* --- the cache of answers -------------------------------------------------------------------------- */

static void settle(struct query_source *src, int64_t until_ms, uint64_t *identity, uint64_t *number)
{
    (void)src, (void)until_ms;
    *identity = *number = 1;
}

static int64_t never_changed(struct query_source *src, uint64_t number)
{
    (void)src, (void)number;
    return INT64_MAX;
}

static void check_cached(struct fixture *f, const char *query, const char *text)
{
    ask(f, &(struct ask){.path = "query_range", .query = query});
    struct str body = str_from_bytes(buf_bytes(&f->fake.body));
    const char *at = memmem(body.p, body.len, "\"cache\":", 8);
    if (f->fake.status != 200 || (text && !memmem(body.p, body.len, text, strlen(text))) ||
        (!text && at))
        test_fail(__FILE__, __LINE__, "%s: %.*s", query, STR_ARG(body));
    answer_release(f);
}

static void test_cache(void **state)
{
    (void)state;
    struct fixture f;
    struct query_api_config config = query_api_config_default();
    config.cache_bytes_max = 1 << 20;
    config.cache_fresh_ms = 120000;
    fixture_open_config(&f, &config);
    f.ops.settle = settle;
    f.ops.changed_since = never_changed;
    static const char QUERY[] = "query=up&start=0&end=600&step=60&stats=all";
    check_cached(&f, QUERY, NULL);
    /* It is 600 s, and what is younger than two minutes is not kept. */
    check_cached(&f, QUERY, "},\"cache\":{\"steps\":9}}");
    check_cached(&f, "query=up&start=0&end=600&step=60&stats=all&nocache=1", NULL);
    check_metric(&f, "\nquipu_query_cache_requests_total{result=\"partial\"} 1\n");
    check_metric(&f, "\nquipu_query_cache_steps_total{source=\"cache\"} 9\n");
    query_api_set_cache(f.api, 0, 0);
    check_cached(&f, QUERY, NULL);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_response_bytes), cmocka_unit_test(test_response_is_counted),
        cmocka_unit_test(test_tenant_limits),  cmocka_unit_test(test_active),
        cmocka_unit_test(test_cancel),         cmocka_unit_test(test_top),
        cmocka_unit_test(test_top_is_bounded), cmocka_unit_test(test_tenant_metrics),
        cmocka_unit_test(test_slow_log),       cmocka_unit_test(test_estimate),
        cmocka_unit_test(test_blocked),        cmocka_unit_test(test_explain),
        cmocka_unit_test(test_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
