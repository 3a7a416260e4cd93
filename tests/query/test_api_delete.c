/* tests/query/test_api_delete.c: the calls that delete, over an engine; Prometheus's statuses and texts. */
#include "base/hash.h"
#include "query/matcher_regex.h"
#include "tests/query/api_fixture.h"

#define NOW_MS INT64_C(1767225600000) /* 2026-01-01 */

struct deletes {
    struct fixture f;
    char dir[256];
    struct clock_fake clock;
    struct rng rng;
    struct env env;
    struct engine *engine;
    struct err err;
};

static void deletes_open(struct deletes *d)
{
    memset(d, 0, sizeof(*d));
    test_temp_dir(d->dir, sizeof(d->dir));
    clock_fake_init(&d->clock, NOW_MS);
    rng_seed(&d->rng, 1);
    d->env = (struct env){.io = io_posix(),
                          .clock = &d->clock.clock,
                          .log = NULL,
                          .metrics = metrics_new(),
                          .rng = &d->rng};
    struct engine_config engine = engine_config_default(d->dir);
    engine.wal_sync = WAL_SYNC_OFF;
    engine.regex = matcher_regex();
    CHECK_OK(engine_open(&d->env, &engine, &d->engine, &d->err), &d->err);
    struct query_api_config api = query_api_config_default();
    api.engine = d->engine;
    fixture_open_config(&d->f, &api);
}

static void deletes_close(struct deletes *d)
{
    fixture_close(&d->f);
    CHECK_OK(engine_close(d->engine, false, &d->err), &d->err);
    metrics_free(d->env.metrics);
    test_remove_dir(d->dir);
}

/* m{i="0"} … m{i="4"}, a sample in each of the last ten minutes. */
static void write_some(struct deletes *d, const char *tenant)
{
    struct tenant *t;
    CHECK_OK(engine_tenant(d->engine, str_of(tenant), true, &t, &d->err), &d->err);
    for (int i = 0; i < 5; i++) {
        char text[16];
        snprintf(text, sizeof(text), "%d", i);
        struct label items[] = {{STR(LABEL_NAME), STR("m")}, {STR("i"), str_of(text)}};
        struct series *s[10];
        int64_t t_ms[10];
        double v[10] = {0};
        struct write_batch b = {.n = 10, .series = s, .t_ms = t_ms, .v = v};
        struct write_result result;
        tenant_write_begin(t);
        for (int k = 0; k < 10; k++) {
            CHECK_OK(tenant_add_series(t, (struct labels){items, 2}, 0, bytes_of(NULL, 0), NULL,
                                       &s[k], &d->err),
                     &d->err);
            t_ms[k] = NOW_MS - k * 60000;
        }
        CHECK_OK(tenant_write(t, &b, NULL, NULL, &result, &d->err), &d->err);
        tenant_write_end(t);
    }
    CHECK_OK(engine_commit(d->engine, &d->err), &d->err);
}

#define DELETE_SERIES "admin/tsdb/delete_series"
#define ALL "match[]={i!=\"\"}"

static void test_errors(void **state)
{
    (void)state;
    static struct deletes d;
    deletes_open(&d);
    struct fixture *f = &d.f;
    const char *none = BAD("no match[] parameter provided");
    CHECK_ANSWER(f, 400, none, .method = HTTP_POST, .path = DELETE_SERIES);
    CHECK_ANSWER(f, 400, none, .method = HTTP_PUT, .path = DELETE_SERIES, .query = "start=foo");
    CHECK_ANSWER(
        f, 400,
        BAD("invalid parameter \\\"start\\\": invalid time value for 'start': cannot parse "
            "\\\"foo\\\" to a valid timestamp"),
        .method = HTTP_POST, .path = DELETE_SERIES, .query = "match[]=up&start=foo");
    CHECK_ANSWER(f, 400,
                 BAD("invalid parameter \\\"match[]\\\": 1:2: parse error: unexpected end of input "
                     "inside braces"),
                 .method = HTTP_POST, .path = DELETE_SERIES, .query = "match[]=up&match[]={");
    CHECK_ANSWER(f, 400, BAD("error parsing form values: invalid URL escape \\\"%zz\\\""),
                 .method = HTTP_POST, .path = DELETE_SERIES, .query = "match[]=up&x=%zz");
    CHECK_ANSWER(f, 400, BAD("invalid parameter \\\"dry_run\\\": true or false"),
                 .method = HTTP_POST, .path = DELETE_SERIES, .query = "match[]=up&dry_run=x");
    CHECK_ANSWER(f, 400, BAD("no name parameter provided"), .method = HTTP_POST,
                 .path = "admin/tsdb/delete_tenant");
    CHECK_ANSWER(f, 404,
                 "{\"status\":\"error\",\"errorType\":\"not_found\",\"error\":\"deleting a tenant: "
                 "no tenant x\"}",
                 .method = HTTP_POST, .path = "admin/tsdb/delete_tenant", .query = "name=x");
    CHECK_ANSWER(f, 204, "", .method = HTTP_POST, .path = DELETE_SERIES, .query = "match[]=up");
    CHECK_ANSWER(f, 204, "", .method = HTTP_PUT, .path = "admin/tsdb/clean_tombstones");
    deletes_close(&d);
}

static void test_series(void **state)
{
    (void)state;
    static struct deletes d;
    deletes_open(&d);
    struct fixture *f = &d.f;
    write_some(&d, "default");
    CHECK_DATA(f, "{\"series\":5,\"samples\":50}", .method = HTTP_POST, .path = DELETE_SERIES,
               .query = ALL "&dry_run=true");
    CHECK_DATA(f, "{\"series\":2,\"samples\":4}", .method = HTTP_POST, .path = DELETE_SERIES,
               .query = "match[]=m{i=~\"[23]\"}&match[]=m{i=\"3\"}&dry_run=1&start=1767225530");
    CHECK_ANSWER(f, 204, "", .method = HTTP_POST, .path = DELETE_SERIES,
                 .query = "start=1767225530&end=4000000000",
                 .body = "match[]=m{i=~%22[23]%22}&match[]=m{i=%223%22}");
    CHECK_DATA(f, "{\"series\":5,\"samples\":46}", .method = HTTP_POST, .path = DELETE_SERIES,
               .query = ALL "&dry_run=true");
    CHECK_DATA(f, "{\"tombstones\":2,\"blocksPending\":0,\"bytesPending\":0}",
               .path = "admin/tsdb/tombstones");
    CHECK_ANSWER(f, 204, "", .method = HTTP_POST, .path = "admin/tsdb/clean_tombstones");
    CHECK_DATA(f, "{\"tombstones\":0,\"blocksPending\":0,\"bytesPending\":0}",
               .path = "admin/tsdb/tombstones");
    CHECK_ANSWER(f, 204, "", .method = HTTP_POST, .path = DELETE_SERIES, .query = "match[]={}");
    CHECK_DATA(f, "{\"series\":0,\"samples\":0}", .method = HTTP_POST, .path = DELETE_SERIES,
               .query = ALL "&dry_run=true");
    deletes_close(&d);
}

static void test_tenant(void **state)
{
    (void)state;
    static struct deletes d;
    deletes_open(&d);
    struct fixture *f = &d.f;
    static const char *const acme[][2] = {{"X-Scope-OrgID", "acme"}, {NULL, NULL}};
    write_some(&d, "default");
    write_some(&d, "acme");
    /* Another tenant's series stay. */
    CHECK_ANSWER(f, 204, "", .method = HTTP_POST, .path = DELETE_SERIES, .query = "match[]=m",
                 .headers = (const char *(*)[2])(uintptr_t)acme);
    CHECK_DATA(f, "{\"series\":5,\"samples\":50}", .method = HTTP_POST, .path = DELETE_SERIES,
               .query = ALL "&dry_run=true");
    CHECK_DATA(f, "{\"tenant\":\"acme\",\"series\":0,\"samples\":50,\"blocks\":0,\"bytes\":0}",
               .method = HTTP_POST, .path = "admin/tsdb/delete_tenant", .body = "name=acme");
    CHECK_ANSWER(f, 400,
                 BAD("invalid parameter \\\"name\\\": tenant ID 'a/b' contains unsupported "
                     "character '/'"),
                 .method = HTTP_POST, .path = "admin/tsdb/delete_tenant", .body = "name=a/b");
    CHECK_DATA(f, "{\"series\":5,\"samples\":50}", .method = HTTP_POST, .path = DELETE_SERIES,
               .query = ALL "&dry_run=true");
    deletes_close(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_errors), cmocka_unit_test(test_series),
                                       cmocka_unit_test(test_tenant)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
