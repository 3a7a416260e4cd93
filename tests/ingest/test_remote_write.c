/* tests/ingest/test_remote_write.c: what POST /api/v1/write answers. The engine is a double that says what the test
 * wants to hear, at once or later; tests/engine has the real one. */
#include <snappy-c.h>
#include <zstd.h>

#include "base/metric.h"
#include "ingest/remote_write.h"
#include "pb_write.h"
#include "series_table.h"
#include "tests/quipu_test.h"

/* ---- the double ---- */

struct tenant {
    char name[200];
};
struct engine {
    struct tenant tenant;
    struct series_table *table;
    enum err_code tenant_admit_rc;
    int64_t retry_after_ms;
    enum err_code admit_rc, tenant_rc, write_rc, done_rc, metadata_rc; /* what calls say */
    bool later; /* done runs when the test says so */
    write_done_fn *done;
    void *done_arg;
    int64_t too_new_ms; /* samples after it are refused; 0: none */
    size_t n_writes, n_samples, n_metadata;
    int gate;
};
static struct engine *the_engine; /* tenant_find_series and others know only the tenant */

enum err_code tenant_name_check(struct str name, struct err *err)
{
    if (name.len && !memchr(name.p, '|', name.len)) return ERR_OK;
    return err_set(err, ERR_INVALID, "tenant ID '%.*s' contains unsupported character '|'",
                   STR_ARG(name));
}
enum err_code engine_tenant(struct engine *engine, struct str name, bool create,
                            struct tenant **out, struct err *err)
{
    if (!create && engine->tenant_admit_rc == ERR_OK) return err_set(err, ERR_NOT_FOUND, "not yet");
    if (engine->tenant_rc) return err_set(err, engine->tenant_rc, "no tenant");
    snprintf(engine->tenant.name, sizeof(engine->tenant.name), "%.*s", STR_ARG(name));
    *out = &engine->tenant;
    return ERR_OK;
}
enum err_code engine_admit(struct engine *engine, enum engine_work work, struct err *err)
{
    CHECK(work == ENGINE_WRITE);
    return engine->admit_rc ? err_set(err, engine->admit_rc, "short of memory") : ERR_OK;
}
enum err_code tenant_admit(struct tenant *tenant, int64_t *retry_after_ms, struct err *err)
{
    CHECK(tenant == &the_engine->tenant);
    *retry_after_ms = the_engine->retry_after_ms;
    return err_set(err, the_engine->tenant_admit_rc, "too much of it");
}
struct str tenant_name(const struct tenant *tenant)
{
    return str_of(tenant->name);
}
void tenant_write_begin(struct tenant *tenant)
{
    CHECK(tenant == &the_engine->tenant && the_engine->gate++ == 0);
}
void tenant_write_end(struct tenant *tenant)
{
    CHECK(tenant == &the_engine->tenant && --the_engine->gate == 0);
}
struct series *tenant_find_next(struct tenant *tenant, struct series_walk *walk,
                                struct bytes message, size_t *label_bytes)
{
    CHECK(the_engine->gate == 1 && tenant);
    return table_next(the_engine->table, walk, message, label_bytes);
}
struct series *tenant_find_series(struct tenant *tenant, uint64_t hash, struct bytes sent,
                                  struct series *hint)
{
    CHECK(the_engine->gate == 1 && tenant);
    return table_find(the_engine->table, hash, sent, hint);
}
enum err_code tenant_add_series(struct tenant *tenant, struct labels labels, uint64_t hash,
                                struct bytes sent, struct series *hint, struct series **out,
                                struct err *err)
{
    CHECK(the_engine->gate == 1 && tenant);
    return table_add(the_engine->table, labels, hash, sent, hint, out, err);
}
enum err_code series_labels(struct tenant *tenant, struct series *series, struct arena *arena,
                            struct labels *out, struct err *err)
{
    (void)err;
    CHECK(tenant && series);
    struct label *items = ARENA_ARRAY(arena, struct label, 1);
    CHECK(items);
    items[0] = (struct label){STR("__name__"), STR("late")};
    *out = (struct labels){items, 1};
    return ERR_OK;
}
enum err_code tenant_write(struct tenant *tenant, struct write_batch *batch, write_done_fn *done,
                           void *arg, struct write_result *result, struct err *err)
{
    CHECK(the_engine->gate == 1 && tenant);
    struct engine *e = the_engine;
    if (e->write_rc) return err_set(err, e->write_rc, "the engine says %d", e->write_rc);
    e->n_writes++;
    size_t n = 0;
    for (size_t i = 0; i < batch->n; i++) {
        if (!e->too_new_ms || batch->t_ms[i] <= e->too_new_ms) {
            n++; /* of the columns only the length matters from here on */
            continue;
        }
        if (result->n_too_new++ > 0) continue;
        result->first_bad = batch->series[i];
        result->first_bad_t_ms = batch->t_ms[i];
        result->first_bad_too_new = true;
    }
    batch->n = n;
    result->n_exemplars = batch->n_exemplars;
    e->n_samples += batch->n + batch->n_histograms;
    e->done = done;
    e->done_arg = arg;
    if (!e->later) done(arg, e->done_rc);
    return ERR_OK;
}
enum err_code tenant_put_metadata(struct tenant *tenant, const struct catalog_metadata *items,
                                  size_t n, struct err *err)
{
    CHECK(the_engine->gate == 0 && tenant && items);
    if (the_engine->metadata_rc) return err_set(err, the_engine->metadata_rc, "no metadata");
    the_engine->n_metadata += n;
    return ERR_OK;
}

/* ---- the fixture ---- */

struct fixture {
    struct engine engine;
    struct env env;
    struct remote_write *rw;
    struct http_fake fake;
    struct buf message, series;
    char *body;
    bool asked;
};

static void fixture_init(struct fixture *f)
{
    struct err err;
    memset(f, 0, sizeof(*f));
    f->engine.table = table_new();
    the_engine = &f->engine;
    f->env = (struct env){.clock = clock_system(), .metrics = metrics_new()};
    struct remote_write_config config = remote_write_config_default();
    config.message_bytes_max = 1 << 20;
    CHECK_OK(remote_write_new(&f->env, &f->engine, &config, &f->rw, &err), &err);
    buf_init(&f->message, MEM_INGEST);
    buf_init(&f->series, MEM_INGEST);
}

static void forget_answer(struct fixture *f)
{
    if (f->asked) http_fake_release(&f->fake);
    free(f->body);
    f->body = NULL;
    f->asked = false;
}

static void fixture_release(struct fixture *f)
{
    forget_answer(f);
    remote_write_free(f->rw);
    table_free(f->engine.table);
    metrics_free(f->env.metrics);
    buf_release(&f->message);
    buf_release(&f->series);
}

static void ask_raw(struct fixture *f, const char *(*headers)[2], struct bytes body)
{
    forget_answer(f);
    http_fake_init(&f->fake, HTTP_POST, "/api/v1/write", "", body);
    f->fake.headers = headers;
    f->asked = true;
    remote_write_handle(f->rw, &f->fake.req);
}

/* Posts f->message, compressed, and empties it. */
static void ask(struct fixture *f, const char *(*headers)[2])
{
    forget_answer(f);
    size_t len = snappy_max_compressed_length(f->message.len);
    char *body = malloc(len);
    CHECK(body);
    CHECK(snappy_compress((char *)f->message.p, f->message.len, body, &len) == SNAPPY_OK);
    ask_raw(f, headers, bytes_of(body, len));
    f->body = body;
    buf_reset(&f->message);
}

static void put_sample(struct fixture *f, const char *metric, int64_t t_ms)
{
    pb_put_label(&f->series, "__name__", metric);
    pb_put_sample(&f->series, 1, t_ms);
    pb_put_message(&f->message, 1, &f->series);
}

static void check_answer(struct fixture *f, unsigned status, const char *text)
{
    CHECK(f->fake.done && !f->fake.aborted);
    if (f->fake.status != status)
        test_fail(__FILE__, __LINE__, "%u instead of %u: %.*s", f->fake.status, status,
                  (int)f->fake.body.len, (char *)f->fake.body.p);
    if (text) CHECK_STR(str_from_bytes(buf_bytes(&f->fake.body)), text);
    buf_u8(&f->fake.sent_headers, 0);
    bool retry = strstr((char *)f->fake.sent_headers.p, "Retry-After: ") != NULL;
    CHECK(retry == (status == 503 || status == 429));
    if (status >= 400) CHECK_STR(str_of(f->fake.content_type), "text/plain; charset=utf-8");
    CHECK_U64(f->engine.gate, 0);
}

static uint64_t counter(struct fixture *f, const char *name, const char *labels)
{
    return metric_value(metric_counter(f->env.metrics, name, "", labels));
}

/* ---- the tests ---- */

static void test_stored(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    put_sample(&f, "a", 1000);
    put_sample(&f, "b", 1000);
    ask(&f, NULL);
    check_answer(&f, 204, "");
    CHECK_U64(f.engine.n_samples, 2);
    CHECK_STR(str_of(f.engine.tenant.name), "default");
    CHECK_U64(counter(&f, "quipu_ingest_samples_total", "tenant=\"default\""), 2);
    CHECK_U64(counter(&f, "quipu_ingest_requests_total", "status=\"204\""), 1);
    ask(&f, NULL); /* the empty message */
    check_answer(&f, 204, "");
    CHECK_U64(f.engine.n_writes, 1);
    fixture_release(&f);
}

static void test_headers(void **state)
{
    (void)state;
#define TYPE "Content-Type"
#define PB "application/x-protobuf"
    static const struct {
        const char *headers[4][2];
        unsigned status;
        const char *text;
    } cases[] = {
        {{{TYPE, ""}}, 204, ""},
        {{{TYPE, PB}}, 204, ""},
        {{{TYPE, "Application/X-Protobuf"}}, 204, ""},
        {{{TYPE, PB ";proto=prometheus.WriteRequest"}}, 204, ""},
        {{{TYPE, PB "; Proto=prometheus.WriteRequest"}}, 204, ""},
        {{{TYPE, PB}, {"X-Prometheus-Remote-Write-Version", "2.0.0"}}, 204, ""},
        {{{"Content-Encoding", "SNAPPY"}}, 204, ""},
        {{{TYPE, "application/json"}},
         415,
         "expected application/x-protobuf as the first (media) part, got application/json "
         "content-type\n"},
        {{{TYPE, PB ";foo"}},
         415,
         "as per https://www.rfc-editor.org/rfc/rfc9110#parameter expected parameters to be "
         "key-values, got foo in application/x-protobuf;foo content-type\n"},
        {{{TYPE, PB ";proto=foo.Bar"}},
         415,
         "got application/x-protobuf;proto=foo.Bar content type; unknown remote write protobuf "
         "message foo.Bar, supported: prometheus.WriteRequest, io.prometheus.write.v2.Request\n"},
        {{{"Content-Encoding", "gzip"}},
         415,
         "gzip encoding (compression) is not accepted by this server; only snappy is "
         "acceptable\n"},
        {{{"Content-Encoding", "zstd"}}, 204, ""}, /* the body tells what it is */
        {{{"X-Scope-OrgID", "team-a"}}, 204, ""},
        {{{"X-Scope-OrgID", "a|b"}}, 400, "tenant ID 'a|b' contains unsupported character '|'\n"},
        {{{"X-Scope-OrgID", "a"}, {"X-Scope-OrgID", "a"}}, 400, "multiple org IDs present\n"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct fixture f;
        fixture_init(&f);
        test_where = (struct test_where){true, i, i};
        put_sample(&f, "a", 1000);
        const char *headers[5][2];
        memcpy(headers, cases[i].headers, sizeof(cases[i].headers));
        headers[4][0] = NULL;
        ask(&f, headers);
        check_answer(&f, cases[i].status, cases[i].text);
        CHECK_U64(f.engine.n_samples, cases[i].status == 204);
        fixture_release(&f);
    }
    test_where.in_property = false;
}

#define TYPE_V2 PB "; proto=io.prometheus.write.v2.Request"
static const char *V2[][2] = {{TYPE, TYPE_V2}, {NULL, NULL}};

/* As put_sample, in message 2.0; all in one body have one name. */
static void put_sample_v2(struct fixture *f, const char *metric, int64_t t_ms)
{
    struct buf part;
    buf_init(&part, MEM_INGEST);
    if (!f->message.len) {
        pb_put_str(&f->message, 4, "");
        pb_put_str(&f->message, 4, "__name__");
        pb_put_str(&f->message, 4, metric);
    }
    pb_put_str(&f->series, 1, "\1\2");
    pb_put_double(&part, 1, 1);
    pb_put_varint(&part, 2, (uint64_t)t_ms);
    pb_put_message(&f->series, 2, &part);
    pb_put_message(&f->message, 5, &f->series);
    buf_release(&part);
}

static bool says(struct fixture *f, const char *what, unsigned n)
{
    char line[100];
    snprintf(line, sizeof(line), "X-Prometheus-Remote-Write-%s-Written: %u", what, n);
    return strstr((char *)f->fake.sent_headers.p, line) != NULL;
}

/* Every answer to 2.0 counts what was written, 1.0's say nothing. */
static void test_counts_of_v2(void **state)
{
    (void)state;
    static const struct {
        enum err_code done_rc;
        int64_t too_new_ms;
        unsigned status, n;
    } cases[] = {{ERR_OK, 0, 204, 2}, {ERR_OK, 1500, 400, 1}, {ERR_IO, 0, 500, 0}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct fixture f;
        fixture_init(&f);
        f.engine.done_rc = cases[i].done_rc;
        f.engine.too_new_ms = cases[i].too_new_ms;
        put_sample_v2(&f, "a", 1000);
        put_sample_v2(&f, "a", 2000);
        ask(&f, V2);
        check_answer(&f, cases[i].status, NULL);
        CHECK(says(&f, "Samples", cases[i].n) && says(&f, "Histograms", 0));
        CHECK(says(&f, "Exemplars", 0));
        fixture_release(&f);
    }
    struct fixture f;
    fixture_init(&f);
    put_sample(&f, "a", 1000); /* 1.0 read as 2.0 is empty, and says so */
    ask(&f, V2);
    check_answer(&f, 204, "");
    CHECK(says(&f, "Samples", 0));
    CHECK_U64(f.engine.n_writes, 0);
    f.engine.admit_rc = ERR_NO_MEMORY;
    ask(&f, V2);
    check_answer(&f, 503, NULL);
    CHECK(says(&f, "Samples", 0));
    f.engine.admit_rc = ERR_OK;
    put_sample(&f, "a", 1000);
    ask(&f, NULL);
    check_answer(&f, 204, "");
    CHECK(!strstr((char *)f.fake.sent_headers.p, "Written"));
    fixture_release(&f);
}

/* With and without its length in front, and with another codec in the header. */
static void test_zstd(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    for (unsigned i = 0; i < 3; i++) {
        static const char *const encodings[] = {"zstd", "snappy", "zstd"};
        const char *headers[][2] = {{"Content-Encoding", encodings[i]}, {NULL, NULL}};
        for (unsigned k = 0; k < 5000; k++) put_sample(&f, "a", 1000 + k);
        size_t cap = ZSTD_compressBound(f.message.len);
        char *body = malloc(cap);
        ZSTD_CCtx *ctx = ZSTD_createCCtx();
        CHECK(body && ctx);
        CHECK(!ZSTD_isError(ZSTD_CCtx_setParameter(ctx, ZSTD_c_contentSizeFlag, i != 2)));
        size_t len = ZSTD_compress2(ctx, body, cap, f.message.p, f.message.len);
        CHECK(!ZSTD_isError(len));
        buf_reset(&f.message);
        ask_raw(&f, headers, bytes_of(body, len));
        check_answer(&f, 204, "");
        CHECK_U64(f.engine.n_samples, 5000 * (i + 1));
        ask_raw(&f, headers, bytes_of(body, len - 1));
        check_answer(&f, 400, "zstd: corrupt input\n");
        ZSTD_freeCCtx(ctx);
        free(body);
    }
    /* More than a message may have. */
    size_t len = (size_t)2 << 20;
    char *zeros = calloc(len, 1), *body = malloc(len);
    CHECK(zeros && body);
    ask_raw(&f, NULL, bytes_of(body, ZSTD_compress(body, len, zeros, len, 1)));
    check_answer(&f, 400, "zstd: decoded length exceeds limit 1048576\n");
    forget_answer(&f);
    free(zeros);
    free(body);
    fixture_release(&f);
}

static void test_bodies(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    ask_raw(&f, NULL, bytes_of("", 0));
    check_answer(&f, 400, "snappy: corrupt input\n");
    ask_raw(&f, NULL, bytes_of("\x81\x80\x40", 3));
    check_answer(&f, 400, "snappy: decoded length 1048577 exceeds limit 1048576\n");
    ask_raw(&f, NULL, bytes_of("\x28\xb5\x2f\xfd rest", 9)); /* zstd, not declared */
    check_answer(&f, 400, NULL);
    put_sample(&f, "a", 1000);
    f.message.len--;
    ask(&f, NULL);
    check_answer(&f, 400, "unexpected EOF\n");
    /* Nothing of a malformed message is stored. */
    put_sample(&f, "a", 1000);
    pb_put_varint(&f.message, 1, 1);
    ask(&f, NULL);
    check_answer(&f, 400, "proto: wrong wireType = 0 for field Timeseries\n");
    CHECK_U64(f.engine.n_writes, 0);
    fixture_release(&f);
}

/* 5xx keeps the data with the sender, 400 does not. */
static void test_engine_says_no(void **state)
{
    (void)state;
    static const struct {
        enum err_code rc;
        unsigned status;
    } cases[] = {{ERR_LIMIT, 503},    {ERR_NO_SPACE, 503}, {ERR_NO_MEMORY, 503},
                 {ERR_SHUTDOWN, 503}, {ERR_BUSY, 503},     {ERR_IO, 500}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        for (unsigned where = 0; where < 4; where++) {
            struct fixture f;
            fixture_init(&f);
            enum err_code *rcs[] = {&f.engine.tenant_rc, &f.engine.write_rc, &f.engine.done_rc,
                                    &f.engine.metadata_rc};
            *rcs[where] = cases[i].rc;
            put_sample(&f, "a", 1000);
            buf_reset(&f.series);
            pb_put_str(&f.series, 2, "family");
            pb_put_message(&f.message, 3, &f.series);
            ask(&f, NULL);
            check_answer(&f, cases[i].status, NULL);
            CHECK(f.fake.body.len > 5);
            fixture_release(&f);
        }
    }
}

/* Near the memory ceiling nothing is decoded, and the sender keeps its data. */
static void test_short_of_memory(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    f.engine.admit_rc = ERR_NO_MEMORY;
    put_sample(&f, "a", 1000);
    ask(&f, NULL);
    check_answer(&f, 503, "short of memory\n");
    CHECK_U64(f.engine.n_writes, 0);
    fixture_release(&f);
}

/* Over its own rate: 429 and when to come again. Over its share: 503, as it is the server that cannot. */
static void test_tenant_may_not(void **state)
{
    (void)state;
    static const enum err_code rcs[] = {ERR_RATE, ERR_LIMIT};
    static const unsigned statuses[] = {429, 503};
    static const char *const headers[] = {"Retry-After: 3", "Retry-After: 5"};
    for (size_t i = 0; i < COUNT_OF(rcs); i++) {
        struct fixture f;
        fixture_init(&f);
        f.engine.tenant_admit_rc = rcs[i];
        f.engine.retry_after_ms = 2001;
        put_sample(&f, "a", 1000);
        ask(&f, NULL);
        check_answer(&f, statuses[i], "too much of it\n");
        CHECK(strstr((char *)f.fake.sent_headers.p, headers[i]) != NULL);
        CHECK_U64(f.engine.n_writes, 0);
        fixture_release(&f);
    }
}

/* The answer waits for the disk, and says what it said. */
static void test_answer_comes_later(void **state)
{
    (void)state;
    static const enum err_code rcs[] = {ERR_OK, ERR_IO, ERR_NO_SPACE};
    static const unsigned statuses[] = {204, 500, 503};
    for (size_t i = 0; i < COUNT_OF(rcs); i++) {
        struct fixture f;
        fixture_init(&f);
        f.engine.later = true;
        put_sample(&f, "a", 1000);
        ask(&f, NULL);
        CHECK(!f.fake.done && f.fake.status == 0);
        f.engine.done(f.engine.done_arg, rcs[i]);
        check_answer(&f, statuses[i], NULL);
        fixture_release(&f);
    }
}

static void test_partly_bad(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    put_sample(&f, "good", 1000);
    for (unsigned i = 0; i < 5; i++) {
        pb_put_label(&f.series, "a", "b");
        pb_put_sample(&f.series, 1, 1000);
        pb_put_message(&f.message, 1, &f.series);
    }
    ask(&f, NULL);
    check_answer(&f, 400,
                 "invalid metric name or labels, got {a=\"b\"}\n"
                 "invalid metric name or labels, got {a=\"b\"}\n"
                 "invalid metric name or labels, got {a=\"b\"}\n"
                 "and 2 more; the rest of the request was stored\n");
    CHECK_U64(f.engine.n_samples, 1);
    CHECK_U64(counter(&f, "quipu_ingest_rejected_samples_total",
                      "tenant=\"default\",reason=\"missing_metric_name\""),
              5);
    /* The log failed as well: that is what the sender must know, so that it comes again. */
    f.engine.done_rc = ERR_IO;
    put_sample(&f, "good", 1000);
    pb_put_label(&f.series, "a", "b");
    pb_put_sample(&f.series, 1, 1000);
    pb_put_message(&f.message, 1, &f.series);
    ask(&f, NULL);
    check_answer(&f, 500, NULL);
    fixture_release(&f);
}

static void test_too_new(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    f.engine.too_new_ms = 5000;
    put_sample(&f, "good", 5000);
    put_sample(&f, "late", 5001);
    put_sample(&f, "late", 6000);
    ask(&f, NULL);
    check_answer(&f, 400, NULL);
    CHECK(strstr((char *)f.fake.body.p, "out of bounds: timestamp is too far in the future"));
    CHECK(strstr((char *)f.fake.body.p, "timestamp: 5001 series: '{__name__=\"late\"}'"));
    CHECK_U64(f.engine.n_samples, 1);
    CHECK_U64(counter(&f, "quipu_ingest_rejected_samples_total",
                      "tenant=\"default\",reason=\"too_far_in_future\""),
              2);
    CHECK_U64(counter(&f, "quipu_ingest_samples_total", "tenant=\"default\""), 1);
    fixture_release(&f);
}

static void test_no_room_for_series(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    f.engine.table->n_series_max = 1;
    put_sample(&f, "first", 1000);
    put_sample(&f, "second", 1000);
    ask(&f, NULL);
    check_answer(&f, 503, NULL);
    CHECK_U64(f.engine.n_samples, 1); /* what is known is not held up */
    fixture_release(&f);
}

static void test_metadata_and_exemplars(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    pb_put_varint(&f.series, 1, 2);
    pb_put_str(&f.series, 2, "family");
    pb_put_message(&f.message, 3, &f.series);
    ask(&f, NULL); /* only metadata is normal */
    check_answer(&f, 204, "");
    CHECK_U64(f.engine.n_metadata, 1);
    CHECK_U64(f.engine.n_writes, 0);
    pb_put_label(&f.series, "__name__", "a");
    pb_put_sample(&f.series, 1, 1);
    pb_put_str(&f.series, 3, "");
    pb_put_message(&f.message, 1, &f.series);
    ask(&f, NULL);
    check_answer(&f, 204, "");
    CHECK_U64(counter(&f, "quipu_ingest_exemplars_total", "tenant=\"default\""), 1);
    fixture_release(&f);
}

static void test_vmagent_asks_for_zstd(void **state)
{
    struct fixture f;
    (void)state;
    fixture_init(&f);
    http_fake_init(&f.fake, HTTP_GET, "/api/v1/write", "get_vm_proto_version=1", bytes_of(NULL, 0));
    f.asked = true;
    remote_write_handle_get(f.rw, &f.fake.req);
    check_answer(&f, 200, "1");
    forget_answer(&f);
    http_fake_init(&f.fake, HTTP_GET, "/api/v1/write", "", bytes_of(NULL, 0));
    f.asked = true;
    remote_write_handle_get(f.rw, &f.fake.req);
    check_answer(&f, 405, "Method Not Allowed\n");
    fixture_release(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stored),
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_counts_of_v2),
        cmocka_unit_test(test_zstd),
        cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_engine_says_no),
        cmocka_unit_test(test_short_of_memory),
        cmocka_unit_test(test_tenant_may_not),
        cmocka_unit_test(test_answer_comes_later),
        cmocka_unit_test(test_partly_bad),
        cmocka_unit_test(test_too_new),
        cmocka_unit_test(test_no_room_for_series),
        cmocka_unit_test(test_metadata_and_exemplars),
        cmocka_unit_test(test_vmagent_asks_for_zstd),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
