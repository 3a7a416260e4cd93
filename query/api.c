/* The frame of every answer: headers, tenant, envelope, errors; and the table of routes. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/metric.h"
#include "query/api_private.h"

#define JSON_TYPE "application/json"

/* --- errors ---------------------------------------------------------------------------------------- */

struct error_row {
    const char *name;
    unsigned status;
};
static const struct error_row ERRORS[API_ERRORS_N] = {
    [API_BAD_DATA] = {"bad_data", 400},   [API_EXECUTION] = {"execution", 422},
    [API_CANCELED] = {"canceled", 499},   [API_TIMEOUT] = {"timeout", 503},
    [API_INTERNAL] = {"internal", 500},   [API_UNAVAILABLE] = {"unavailable", 503},
    [API_NOT_FOUND] = {"not_found", 404},
};

const char *api_outcome_name(size_t outcome)
{
    return outcome < API_ERRORS_N ? ERRORS[outcome].name : "success";
}

void api_error(struct api_call *call, enum api_error error, const char *fmt, ...)
{
    char text[ERR_TEXT_BYTES + 64];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    ASSERT(!call->answered && !call->begun);
    size_t len = n < 0 ? 0 : MIN_OF((size_t)n, sizeof text - 1);
    call->answered = true;
    call->status = ERRORS[error].status;
    buf_reset(&call->out);
    if (error == API_UNAVAILABLE) http_set_header(call->req, "Retry-After", "1");
    if (call->plain) {
        buf_text(&call->out, (struct str){text, len});
        return;
    }
    buf_printf(&call->out,
               "{\"status\":\"error\",\"errorType\":\"%s\",\"error\":", ERRORS[error].name);
    json_string_html(&call->out, (struct str){text, len});
    buf_u8(&call->out, '}');
}

enum api_error api_error_of(struct api_call *call, const struct err *err, const char *prefix)
{
    enum api_error error = API_INTERNAL;
    switch (err->code) {
    case ERR_INVALID: error = API_BAD_DATA; break;
    case ERR_LIMIT:
    case ERR_EXECUTION:
    case ERR_UNSUPPORTED: error = API_EXECUTION; break;
    case ERR_TIMEOUT: error = API_TIMEOUT; break;
    case ERR_CANCELED: error = API_CANCELED; break;
    case ERR_NO_MEMORY:
    case ERR_NO_SPACE:
    case ERR_BUSY:
    case ERR_SHUTDOWN: error = API_UNAVAILABLE; break;
    default: break;
    }
    const char *slash = strrchr(err->file, '/'), *file = slash ? slash + 1 : err->file;
    if (err->code == ERR_CORRUPT && *file) /* what to repair; where it is, is nobody's business */
        api_error(call, error, "%s (file %s, offset %" PRIu64 ")", err->text, file, err->file_off);
    else
        api_error(call, error, "%s%s", error == API_BAD_DATA ? prefix : "", err->text);
    return error;
}

/* --- success --------------------------------------------------------------------------------------- */

void api_success(struct api_call *call)
{
    buf_reset(&call->out);
    buf_text(&call->out, STR("{\"status\":\"success\",\"data\":"));
}

bool api_part(struct api_call *call)
{
    if (call->answered) return false;
    if (call->out.len < API_PART_BYTES && !call->out.failed) return true;
    call->n_sent += call->out.len;
    if (call->counting && !call->out.failed) {
        buf_reset(&call->out);
        return true;
    }
    if (!call->begun && !call->out.failed) {
        http_begin(call->req, 200, call->content_type);
        call->begun = true;
    }
    if (!call->out.failed && !http_write(call->req, buf_bytes(&call->out), &call->err)) {
        buf_reset(&call->out);
        return true;
    }
    /* The client has left or memory is out: a cut connection is the one signal that remains. */
    call->answered = true;
    call->failed = true;
    return false;
}

static void put_notes(struct api_call *call, const struct notes *notes, enum note_kind kind,
                      struct str query)
{
    for (size_t i = 0;; i++) {
        struct str text = notes_text(notes, kind, i, query, call->arena);
        if (!text.p && !i) return;
        if (!text.p) break;
        if (!i)
            buf_text(&call->out,
                     kind == NOTE_WARNING ? STR(",\"warnings\":[") : STR(",\"infos\":["));
        if (i) buf_u8(&call->out, ',');
        json_string_html(&call->out, text);
    }
    buf_u8(&call->out, ']');
}

void api_warn_missing(struct api_call *call, int64_t mint_ms, int64_t maxt_ms)
{
    const struct query_source_ops *ops = call->source->ops;
    struct str *texts;
    struct err err; /* without memory the answer goes without */
    size_t n = 0;
    if (call->begun || !ops->warnings ||
        ops->warnings(call->source, mint_ms, maxt_ms, call->arena, &texts, &n, &err) != ERR_OK ||
        n == 0)
        return;
    struct str value = arena_printf(call->arena, "199 quipu \"%.*s\"", STR_ARG(texts[0]));
    if (value.p) http_set_header(call->req, "Warning", value.p);
}

void api_note_missing(struct api_call *call, int64_t mint_ms, int64_t maxt_ms, struct notes *notes)
{
    const struct query_source_ops *ops = call->source->ops;
    struct str *texts;
    struct err err; /* the answer has begun: without memory it goes without */
    size_t n = 0;
    if (!ops->warnings ||
        ops->warnings(call->source, mint_ms, maxt_ms, call->arena, &texts, &n, &err) != ERR_OK)
        return;
    for (size_t i = 0; i < n; i++) notes_add_plain(notes, NOTE_WARNING, "%.*s", STR_ARG(texts[i]));
}

void api_finish(struct api_call *call, const struct notes *notes, struct str query)
{
    if (notes) put_notes(call, notes, NOTE_WARNING, query);
    if (notes) put_notes(call, notes, NOTE_INFO, query);
    buf_u8(&call->out, '}');
    api_send(call);
}

void api_send(struct api_call *call)
{
    if (!api_part(call)) return;
    call->answered = true;
    call->status = 200;
}

void api_constant(struct api_call *call, const char *json)
{
    api_success(call);
    buf_text(&call->out, str_of(json));
    api_finish(call, NULL, STR(""));
}

void api_no_content(struct api_call *call)
{
    buf_reset(&call->out);
    call->answered = true;
    call->status = 204;
}

struct query_limits api_limits(const struct api_call *call)
{
    const struct query_api_config *config = &call->api->config;
    struct query_limits limits = config->limits;
    if (config->limits_now) config->limits_now(config->limits_ctx, &limits);
    struct query_limits all = limits;
    for (size_t i = 0; config->tenant_limits && i < call->n_tenants; i++) {
        struct query_limits its = limits;
        config->tenant_limits(config->limits_ctx, call->tenants[i], &its);
        if (i)
            query_limits_join(&all, &its);
        else
            all = its;
    }
    return all;
}

/* --- requests -------------------------------------------------------------------------------------- */

static void put_headers(const struct query_api *api, struct http_request *req)
{
    http_set_header(req, "Vary", "Origin");
    struct str origin = http_header(req, "Origin", NULL);
    if (!origin.len) return;
    http_set_header(req, "Access-Control-Allow-Headers",
                    "Accept, Authorization, Content-Type, Origin");
    http_set_header(req, "Access-Control-Allow-Methods", "GET, POST, OPTIONS");
    http_set_header(req, "Access-Control-Expose-Headers", "Date");
    if (!regex_match(api->cors_origin, origin)) return;
    struct str z = arena_str(&req->arena, origin); /* NUL-terminated */
    if (z.p && strlen(z.p) == z.len) http_set_header(req, "Access-Control-Allow-Origin", z.p);
}

void api_fail(struct api_call *call, const struct err *err)
{
    if (call->answered) return;
    if (!call->begun) {
        api_error_of(call, err, "");
        return;
    }
    call->answered = true;
    call->failed = true;
}

static bool begin(struct api_call *call, struct query_api *api, struct http_request *req,
                  bool plain)
{
    *call = (struct api_call){
        .api = api, .req = req, .arena = &req->arena, .content_type = JSON_TYPE, .plain = plain};
    buf_init(&call->out, MEM_QUERY);
    req->arena.owner = MEM_QUERY; /* whose limit bounds all queries */
    if (!plain) put_headers(api, req);
    enum err_code rc = http_params(req, &call->params, &call->err);
    bool fine = api_read_tenants(call);
    if (fine && rc) {
        /* Too many parameters blame the request, a lack of memory does not. */
        api_error(call, rc == ERR_NO_MEMORY ? API_UNAVAILABLE : API_BAD_DATA, "%s", call->err.text);
        fine = false;
    }
    if (!fine) api_end(call);
    return fine;
}

bool api_begin(struct api_call *call, struct query_api *api, struct http_request *req)
{
    return begin(call, api, req, false);
}

bool api_begin_plain(struct api_call *call, struct query_api *api, struct http_request *req)
{
    return begin(call, api, req, true);
}

void api_end(struct api_call *call)
{
    ASSERT(call->answered);
    if (call->begun && (call->failed || call->out.failed ||
                        http_write(call->req, buf_bytes(&call->out), &call->err)))
        http_abort(call->req);
    else if (call->begun)
        http_end(call->req);
    else if (call->failed || call->out.failed)
        http_respond_text(call->req, 503, "no memory");
    else if (call->status == 204)
        http_respond(call->req, 204, NULL, bytes_of(NULL, 0));
    else if (call->plain && call->status != 200)
        http_respond_text(call->req, call->status, "%.*s", (int)call->out.len,
                          (const char *)call->out.p);
    else
        http_respond(call->req, call->status, call->status == 200 ? call->content_type : JSON_TYPE,
                     buf_bytes(&call->out));
    buf_release(&call->out);
}

/* --- the object ------------------------------------------------------------------------------------ */

struct query_api_config query_api_config_default(void)
{
    return (struct query_api_config){
        .limits = query_limits_default(), .tenants_max = 1, .cors_origin = ".*"};
}

static void make_metrics(struct query_api *api)
{
    static const char *const KINDS[] = {"instant", "range"};
    struct metrics *m = api->env.metrics;
    for (size_t kind = 0; kind < 2; kind++) {
        char labels[128];
        snprintf(labels, sizeof labels, "kind=\"%s\"", KINDS[kind]);
        api->seconds[kind] = metric_histogram(
            m, "quipu_query_duration_seconds",
            "Time of queries, from when a thread took them to the end of the answer.", labels,
            METRIC_SECONDS, METRIC_SECONDS_N);
        for (size_t i = 0; i <= API_ERRORS_N; i++) {
            const char *outcome = api_outcome_name(i);
            snprintf(labels, sizeof labels, "kind=\"%s\",outcome=\"%s\"", KINDS[kind], outcome);
            api->queries[kind][i] =
                metric_counter(m, "quipu_queries_total", "Queries by kind and outcome.", labels);
        }
    }
    api->samples = metric_counter(m, "quipu_query_samples_total",
                                  "Samples in the windows of all queries' steps.", "");
}

enum err_code query_api_new(const struct env *env, const struct query_api_backend *backend,
                            const struct query_api_config *config, struct query_api **out,
                            struct err *err)
{
    *out = NULL;
    struct query_api *api = mem_calloc(MEM_QUERY, 1, sizeof *api);
    if (!api) return err_set(err, ERR_NO_MEMORY, "no memory for the query API");
    api->env = *env;
    api->backend = *backend;
    api->config = *config;
    enum err_code rc = regex_compile(str_of(config->cors_origin), &api->cors_origin, err);
    if (rc) {
        mem_free(api);
        err_context(err, "CORS origin");
        return rc;
    }
    rc = result_cache_new(config->cache_bytes_max, env->metrics, &api->cache, err);
    if (rc) {
        regex_free(api->cors_origin);
        mem_free(api);
        return rc;
    }
    atomic_init(&api->cache_fresh_ms, config->cache_fresh_ms);
    make_metrics(api);
    rwlock_init(&api->blocked_lock, LOCK_LEAF);
    active_init(&api->active);
    top_init(&api->top);
    query_tenants_init(&api->tenants, env->metrics);
    *out = api;
    return ERR_OK;
}

void query_api_free(struct query_api *api)
{
    if (!api) return;
    result_cache_free(api->cache);
    blocked_list_free(api->blocked);
    rwlock_destroy(&api->blocked_lock);
    active_release(&api->active);
    top_release(&api->top);
    query_tenants_release(&api->tenants);
    regex_free(api->cors_origin);
    mem_free(api);
}

void query_api_set_cache(struct query_api *api, size_t bytes_max, int64_t fresh_ms)
{
    atomic_store_explicit(&api->cache_fresh_ms, fresh_ms, memory_order_relaxed);
    result_cache_set_max(api->cache, bytes_max);
}

enum err_code query_api_set_blocked(struct query_api *api, const struct blocked_query *items,
                                    size_t n, struct err *err)
{
    struct blocked_list *list;
    enum err_code rc = blocked_list_new(items, n, &list, err);
    if (rc) return rc;
    rwlock_write(&api->blocked_lock);
    struct blocked_list *old = api->blocked;
    api->blocked = list;
    rwlock_release(&api->blocked_lock);
    blocked_list_free(old);
    return ERR_OK;
}

void query_api_options(void *ctx, struct http_request *req)
{
    put_headers(ctx, req);
    http_respond(req, 204, NULL, bytes_of(NULL, 0));
}

size_t query_api_routes(struct query_api *api, struct http_route out[QUERY_API_ROUTES_MAX])
{
    static const struct {
        const char *path;
        unsigned methods;
        bool pooled;
        http_handler_fn *handler;
    } ROUTES[] = {
        {"/api/v1/query", HTTP_GET | HTTP_POST, true, api_on_query},
        {"/api/v1/query_range", HTTP_GET | HTTP_POST, true, api_on_query_range},
        {"/api/v1/query_exemplars", HTTP_GET | HTTP_POST, true, api_on_exemplars},
        {"/api/v1/format_query", HTTP_GET | HTTP_POST, true, api_on_format_query},
        {"/api/v1/parse_query", HTTP_GET | HTTP_POST, true, api_on_parse_query},
        {"/api/v1/series", HTTP_GET | HTTP_POST, true, api_on_series},
        {"/api/v1/series", HTTP_DELETE, false, api_on_series_delete},
        {"/api/v1/labels", HTTP_GET | HTTP_POST, true, api_on_labels},
        {"/api/v1/label/*/values", HTTP_GET, true, api_on_label_values},
        {"/api/v1/metadata", HTTP_GET, true, api_on_metadata},
        {"/api/v1/rules", HTTP_GET, false, api_on_rules},
        {"/api/v1/alerts", HTTP_GET, false, api_on_alerts},
        {"/api/v1/alertmanagers", HTTP_GET, false, api_on_alertmanagers},
        {"/api/v1/targets", HTTP_GET, false, api_on_targets},
        {"/api/v1/targets/metadata", HTTP_GET, false, api_on_targets_metadata},
        {"/api/v1/scrape_pools", HTTP_GET, false, api_on_scrape_pools},
        {"/api/v1/notifications", HTTP_GET, false, api_on_notifications},
        {"/api/v1/status/buildinfo", HTTP_GET, false, api_on_buildinfo},
        {"/api/v1/status/runtimeinfo", HTTP_GET, false, api_on_runtimeinfo},
        {"/api/v1/status/flags", HTTP_GET, false, api_on_flags},
        {"/api/v1/status/config", HTTP_GET, false, api_on_config},
        {"/api/v1/status/active_queries", HTTP_GET, false, api_on_active_queries},
        {"/api/v1/status/active_queries", HTTP_DELETE, false, api_on_cancel_query},
        {"/api/v1/status/active_queries/cancel", HTTP_POST, false, api_on_cancel_query},
        {"/api/v1/status/top_queries", HTTP_GET, false, api_on_top_queries},
        {"/api/v1/status/tsdb", HTTP_GET, true, api_on_tsdb},
        {"/api/v1/admin/tsdb/flush", HTTP_POST | HTTP_PUT, true, api_on_flush},
        {"/api/v1/admin/tsdb/compact", HTTP_POST | HTTP_PUT, true, api_on_compact},
        {"/api/v1/admin/tsdb/snapshot", HTTP_POST | HTTP_PUT, true, api_on_snapshot},
        {"/api/v1/admin/tsdb/snapshot", HTTP_DELETE, true, api_on_snapshot_remove},
        {"/api/v1/admin/tsdb/snapshot/delete", HTTP_POST, true, api_on_snapshot_remove},
        {"/api/v1/admin/tsdb/delete_series", HTTP_POST | HTTP_PUT, true, api_on_delete_series},
        {"/api/v1/admin/tsdb/clean_tombstones", HTTP_POST | HTTP_PUT, true,
         api_on_clean_tombstones},
        {"/api/v1/admin/tsdb/tombstones", HTTP_GET, false, api_on_tombstones},
        {"/api/v1/admin/tsdb/delete_tenant", HTTP_POST | HTTP_PUT, true, api_on_delete_tenant},
        {"/api/v1/admin/tsdb/verify", HTTP_POST | HTTP_PUT, true, api_on_verify},
        {"/api/v1/status/walreplay", HTTP_GET, false, query_api_walreplay},
        {"/api/v1/read", HTTP_POST, true, api_on_read},
        {"/version", HTTP_GET, false, api_on_version},
        {"/api/v1/export", HTTP_GET | HTTP_POST, true, api_on_export},
        {"/federate", HTTP_GET, true, api_on_federate},
    };
    static_assert(COUNT_OF(ROUTES) <= QUERY_API_ROUTES_MAX, "the caller's array is large enough");
    for (size_t i = 0; i < COUNT_OF(ROUTES); i++)
        out[i] = (struct http_route){ROUTES[i].path, ROUTES[i].methods, ROUTES[i].pooled,
                                     ROUTES[i].handler, api};
    return COUNT_OF(ROUTES);
}
