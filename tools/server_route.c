/* tools/server_route.c: paths to handlers. The table is short and compared by length first, so a linear search
 * costs less than the system call that brought the request. */
#include <stdio.h>

#include "tools/server_private.h"

/* The last place is for all other codes. */
static const unsigned usual_codes[ROUTE_CODES_N - 1] = {200, 204, 301, 302, 400, 401, 403, 404,
                                                        405, 413, 415, 422, 429, 500, 503};

static struct metric *requests_metric(const struct route_stats *stats, size_t i)
{
    char label[256], labels[320], code[16] = "other";
    metric_label(label, sizeof(label), "handler", str_of(stats->handler));
    if (i < COUNT_OF(usual_codes)) snprintf(code, sizeof(code), "%u", usual_codes[i]);
    snprintf(labels, sizeof(labels), "code=\"%s\",%s", code, label);
    return metric_counter(stats->metrics, "quipu_http_requests_total",
                          "Requests answered, by handler and status.", labels);
}

static struct metric_histogram *seconds_metric(const struct route_stats *stats)
{
    char label[256];
    metric_label(label, sizeof(label), "handler", str_of(stats->handler));
    return metric_histogram(stats->metrics, "quipu_http_request_seconds",
                            "Time from the request line to the end of the answer.", label,
                            METRIC_SECONDS, METRIC_SECONDS_N);
}

void route_count(struct route_stats *stats, unsigned status, double seconds)
{
    size_t i = 0;
    while (i < COUNT_OF(usual_codes) && usual_codes[i] != status) i++;
    struct metric *requests = atomic_load_explicit(&stats->requests[i], memory_order_acquire);
    if (!requests) {
        requests = requests_metric(stats, i);
        atomic_store_explicit(&stats->requests[i], requests, memory_order_release);
    }
    metric_inc(requests);
    struct metric_histogram *h = atomic_load_explicit(&stats->seconds, memory_order_acquire);
    if (!h) {
        h = seconds_metric(stats);
        atomic_store_explicit(&stats->seconds, h, memory_order_release);
    }
    metric_observe(h, seconds);
}

static void stats_init(struct route_stats *stats, struct metrics *metrics, const char *handler)
{
    stats->metrics = metrics;
    stats->handler = handler;
}

static void route_init(struct route *route, const struct http_route *r)
{
    struct str path = str_of(r->path);
    const char *star = strchr(r->path, '*');
    *route = (struct route){.r = *r, .prefix = path, .has_star = star != NULL};
    if (!star) return;
    size_t at = (size_t)(star - r->path);
    route->prefix = (struct str){path.p, at};
    route->suffix = (struct str){path.p + at + 1, path.len - at - 1};
}

static void router_add(struct router *router, const struct http_route *r, struct metrics *metrics)
{
    struct route *route = &router->routes[router->n];
    route_init(route, r);
    for (size_t i = 0; i < router->n && !route->stats; i++)
        if (strcmp(router->routes[i].r.path, r->path) == 0) route->stats = router->routes[i].stats;
    if (!route->stats) {
        route->stats = &router->stats[router->n];
        stats_init(route->stats, metrics, r->path);
    }
    router->n++;
}

enum err_code router_new(const struct router *old, const struct server_routes *tables,
                         size_t n_tables, struct metrics *metrics, struct router **out,
                         struct err *err)
{
    size_t n = old ? old->n : 0;
    for (size_t i = 0; i < n_tables; i++) n += tables[i].n;
    struct router *router = mem_calloc(MEM_HTTP, 1, sizeof(*router));
    if (router) {
        router->routes = mem_calloc(MEM_HTTP, n + 1, sizeof(*router->routes));
        router->stats = mem_calloc(MEM_HTTP, n + 1, sizeof(*router->stats));
    }
    if (!router || !router->routes || !router->stats) {
        router_free(router);
        return err_set(err, ERR_NO_MEMORY, "no memory for %zu routes", n);
    }
    stats_init(&router->other, metrics, "other");
    for (size_t i = 0; old && i < old->n; i++) router_add(router, &old->routes[i].r, metrics);
    if (old) router->n_early = old->n;
    for (size_t t = 0; t < n_tables; t++)
        for (size_t i = 0; i < tables[t].n; i++) router_add(router, &tables[t].routes[i], metrics);
    if (!old) router->n_early = router->n;
    *out = router;
    return ERR_OK;
}

void router_free(struct router *router)
{
    if (!router) return;
    mem_free(router->routes);
    mem_free(router->stats);
    mem_free(router);
}

static bool route_matches(const struct route *route, struct str path, struct str *label)
{
    if (!route->has_star) return str_eq(route->prefix, path);
    if (path.len <= route->prefix.len + route->suffix.len) return false; /* `*` is never empty */
    if (!str_has_prefix(path, route->prefix) || !str_has_suffix(path, route->suffix)) return false;
    struct str middle = {path.p + route->prefix.len,
                         path.len - route->prefix.len - route->suffix.len};
    if (memchr(middle.p, '/', middle.len)) return false;
    *label = middle;
    return true;
}

const struct route *router_find(const struct router *router, enum server_state state,
                                const struct http_request *req, struct str *label,
                                unsigned *allowed)
{
    *allowed = 0;
    size_t n = state == SERVER_READY ? router->n : router->n_early;
    for (size_t i = 0; i < n; i++) {
        const struct route *route = &router->routes[i];
        if (!route_matches(route, req->path, label)) continue;
        if (route->r.methods & (unsigned)req->method) return route;
        *allowed |= route->r.methods;
    }
    return NULL;
}

/* ---- answers without a handler ---- */

#define API_PREFIX "/api/v1/"

/* For a path without a handler for the method. Every path has OPTIONS, which tells the others. */
static void answer_method(struct http_request *req, unsigned allowed)
{
    static const struct {
        unsigned method;
        const char *name;
    } names[] = {{HTTP_DELETE, "DELETE"},   {HTTP_GET, "GET"},   {HTTP_HEAD, "HEAD"},
                 {HTTP_OPTIONS, "OPTIONS"}, {HTTP_POST, "POST"}, {HTTP_PUT, "PUT"}};
    allowed |= HTTP_OPTIONS;
    char text[64] = "";
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        if (!(allowed & names[i].method)) continue;
        size_t len = strlen(text);
        snprintf(text + len, sizeof(text) - len, "%s%s", len ? ", " : "", names[i].name);
    }
    http_set_header(req, "Allow", text);
    if (req->method == HTTP_OPTIONS)
        http_respond(req, 200, NULL, bytes_of(NULL, 0));
    else
        http_respond_text(req, 405, "Method Not Allowed");
}

static void answer_moved(struct http_request *req, struct str path)
{
    struct str to = req->query.len
                        ? arena_printf(&req->arena, "%.*s?%.*s", STR_ARG(path), STR_ARG(req->query))
                        : path;
    if (!to.p) {
        http_respond_text(req, 503, "no memory");
        return;
    }
    http_set_header(req, "Location", to.p);
    http_respond_text(req, 301, "Moved Permanently");
}

/* `path` with runs of slashes made one; p NULL when there are none or memory is out. */
static struct str path_single_slashes(struct str path, struct arena *arena)
{
    static const struct str none = {NULL, 0};
    bool doubled = false;
    for (size_t i = 1; i < path.len; i++) doubled |= path.p[i] == '/' && path.p[i - 1] == '/';
    char *p = doubled ? arena_alloc(arena, path.len + 1, 1) : NULL;
    if (!p) return none;
    size_t n = 0;
    for (size_t i = 0; i < path.len; i++)
        if (!(path.p[i] == '/' && n && p[n - 1] == '/')) p[n++] = path.p[i];
    p[n] = 0;
    return (struct str){p, n};
}

void router_answer_none(const struct router *router, enum server_state state,
                        struct http_request *req, unsigned allowed)
{
    if (allowed) {
        bool api = str_has_prefix(req->path, STR(API_PREFIX));
        if (!(api && req->method == HTTP_OPTIONS)) {
            answer_method(req, allowed);
            return;
        }
    }
    struct str single = path_single_slashes(req->path, &req->arena);
    if (single.p) {
        answer_moved(req, single);
    } else if (str_eq(req->path, STR("/api/v1"))) {
        answer_moved(req, STR(API_PREFIX));
    } else if (state != SERVER_READY) {
        if (state == SERVER_STOPPING) http_set_header(req, "X-Prometheus-Stopping", "true");
        http_set_header(req, "Retry-After", "1");
        http_respond(req, 503, "text/plain; charset=utf-8",
                     bytes_of("Service Unavailable", strlen("Service Unavailable")));
    } else if (req->method == HTTP_OPTIONS && str_has_prefix(req->path, STR(API_PREFIX))) {
        if (router->options)
            router->options(router->options_ctx, req);
        else
            http_respond(req, 204, NULL, bytes_of(NULL, 0));
    } else {
        http_respond_text(req, 404, "404 page not found");
    }
}
