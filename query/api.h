/* query/api.h: Prometheus's HTTP API for reading, /api/v1/…, on base/http.h. Parameters, the order in which they are
 * checked, error texts and JSON are Prometheus's; docs/http-api.md says where they differ.
 *
 * The tenant comes from X-Scope-OrgID; there can be several, whose series then carry __tenant_id__. Answers are streamed: what a client sees of an answer that failed half-way is a
 * cut connection, never a part that looks whole.
 * Threads: handlers run on any number of threads; everything here is constant after query_api_new(). */
#ifndef QUIPU_QUERY_API_H
#define QUIPU_QUERY_API_H

#include "base/env.h"
#include "base/http.h"
#include "base/pool.h"
#include "engine/engine.h"
#include "query/blocked.h"
#include "query/eval.h"

struct query_api; /* from query_api_new() */

/* Where the series of tenants come from: query_api_engine(), or a table in a test. */
struct query_api_backend {
    /* The tenant's source, in `arena` or elsewhere, valid as long as the request. ERR_NOT_FOUND: there is no such tenant,
     * and every answer is empty. */
    enum err_code (*open)(void *ctx, struct str tenant, struct arena *arena,
                          struct query_source **out, struct err *err);
    /* False: no such tenant. May be NULL. */
    bool (*stats)(void *ctx, struct str tenant, struct tenant_stats *out);
    void *ctx;
};
struct query_api_backend query_api_engine(struct engine *engine);

typedef void query_api_flag_fn(void *arg, const char *name, const char *value);
/* What /api/v1/status/… says of the process. Strings and functions must outlive the API; NULL leaves out. */
struct query_api_status {
    const char *hostname, *cwd;
    int64_t start_ms; /* of the process */
    size_t n_cpus;
    /* "15d", or "" for ever */
    void (*retention)(void *ctx, struct buf *out);
    /* The configuration in effect, as YAML, secrets replaced */
    void (*config)(void *ctx, struct buf *out);
    /* Calls put(arg, name, value) for each setting. */
    void (*flags)(void *ctx, query_api_flag_fn *put, void *arg);
    void (*reload)(void *ctx, bool *ok, int64_t *last_ms);
    void *ctx;
};

struct query_api_config {
    /* timeout_ms is the most that `timeout` can ask for. It counts from when the request came. */
    struct query_limits limits;
    /* Changed settings take effect at the next query if this is set: called with the limits above. */
    void (*limits_now)(void *ctx, struct query_limits *limits);
    /* What a tenant has of its own, on top of those. NULL: nothing */
    void (*tenant_limits)(void *ctx, struct str tenant, struct query_limits *limits);
    void *limits_ctx;
    size_t cache_bytes_max;  /* of answers that are kept (result_cache.h); 0: none */
    int64_t cache_fresh_ms;  /* steps younger than this are not kept */
    size_t tenants_max;      /* 1; more: X-Scope-OrgID: a|b asks for so many tenants at once */
    struct pool *pool;       /* the evaluator's; NULL: none */
    struct engine *engine;   /* for /api/v1/admin/tsdb/…; NULL: those answer 503 */
    const char *cors_origin; /* ".*"; a regular expression for the whole Origin */
    struct query_api_status status;
};
struct query_api_config query_api_config_default(void);

/* ERR_INVALID: cors_origin is no regular expression. The engine behind `backend` must outlive it. */
MUST_USE enum err_code query_api_new(const struct env *env, const struct query_api_backend *backend,
                                     const struct query_api_config *config, struct query_api **out,
                                     struct err *err);
/* No request may be running. NULL: no-op. */
void query_api_free(struct query_api *api);

/* Replaces the list of blocked queries; those that run go on. What a reload calls. */
MUST_USE enum err_code query_api_set_blocked(struct query_api *api,
                                             const struct blocked_query *items, size_t n,
                                             struct err *err);

/* Of the cache of answers; may change at any time. */
void query_api_set_cache(struct query_api *api, size_t bytes_max, int64_t fresh_ms);

/* Fills `out` with the routes; returns how many. */
#define QUERY_API_ROUTES_MAX 48
size_t query_api_routes(struct query_api *api, struct http_route out[QUERY_API_ROUTES_MAX]);
/* For OPTIONS below /api/v1/: 204 with the CORS headers. `ctx` is the struct query_api. */
void query_api_options(void *ctx, struct http_request *req);
/* /api/v1/status/walreplay: may be served before anything else is there; `ctx` is not used. */
void query_api_walreplay(void *ctx, struct http_request *req);

#endif
