#include "tests/query/api_fixture.h"

#include <stdlib.h>

/* --- a source with labels and metadata ------------------------------------------------------------- */

static struct query_source *mem_of(struct query_source *src)
{
    return ((struct test_source *)(void *)src)->mem;
}

static enum err_code test_select(struct query_source *src, const struct matcher *matchers,
                                 size_t n_matchers, int64_t mint_ms, int64_t maxt_ms,
                                 struct source_select **out, struct err *err)
{
    struct query_source *mem = mem_of(src);
    return mem->ops->select(mem, matchers, n_matchers, mint_ms, maxt_ms, out, err);
}

static int compare_str(const void *a, const void *b)
{
    return str_cmp(*(const struct str *)a, *(const struct str *)b);
}

/* Names (name empty) or values of all that the matchers select */
static enum err_code collect(struct query_source *src, struct str name,
                             const struct matcher *matchers, size_t n_matchers, int64_t mint_ms,
                             int64_t maxt_ms, const struct label_want *want, struct arena *arena,
                             struct str **out, size_t *n, bool *truncated, struct err *err)
{
    struct source_select *select;
    const struct query_source_ops *ops = mem_of(src)->ops;
    CHECK_OK(test_select(src, matchers, n_matchers, mint_ms, maxt_ms, &select, err), err);
    struct str *items = ARENA_ARRAY(arena, struct str, 10000);
    size_t total = 0;
    for (size_t i = 0; i < ops->count(select); i++) {
        struct labels labels = ops->labels(select, i);
        for (size_t k = 0; k < labels.n; k++) {
            if (name.len && !str_eq(labels.items[k].name, name)) continue;
            if (!label_wanted(want, name.len ? labels.items[k].value : labels.items[k].name))
                continue;
            CHECK(total < 10000);
            items[total++] =
                arena_str(arena, name.len ? labels.items[k].value : labels.items[k].name);
        }
    }
    ops->release(select);
    qsort(items, total, sizeof *items, compare_str);
    *n = 0;
    for (size_t i = 0; i < total; i++)
        if (!i || !str_eq(items[i], items[*n - 1])) items[(*n)++] = items[i];
    *truncated = want->limit && *n > want->limit;
    if (*truncated) *n = want->limit;
    *out = items;
    return ERR_OK;
}

static enum err_code test_label_names(struct query_source *src, const struct matcher *matchers,
                                      size_t n_matchers, int64_t mint_ms, int64_t maxt_ms,
                                      const struct label_want *want, struct arena *arena,
                                      struct str **out, size_t *n, bool *truncated, struct err *err)
{
    return collect(src, STR(""), matchers, n_matchers, mint_ms, maxt_ms, want, arena, out, n,
                   truncated, err);
}

static enum err_code test_label_values(struct query_source *src, struct str name,
                                       const struct matcher *matchers, size_t n_matchers,
                                       int64_t mint_ms, int64_t maxt_ms,
                                       const struct label_want *want, struct arena *arena,
                                       struct str **out, size_t *n, bool *truncated,
                                       struct err *err)
{
    return collect(src, name, matchers, n_matchers, mint_ms, maxt_ms, want, arena, out, n,
                   truncated, err);
}

static enum err_code test_metadata(struct query_source *src, struct str family, struct arena *arena,
                                   struct source_metadata **out, size_t *n, struct err *err)
{
    static const struct source_metadata ITEMS[] = {
        {STR("a_total"), STR("counter"), STR(""), STR("How <many>.")},
        {STR("b"), STR("gauge"), STR("seconds"), STR("")},
        {STR("b"), STR("untyped"), STR(""), STR("Other.")},
        {STR("c"), STR(""), STR(""), STR("")},
    };
    (void)src, (void)err;
    *out = ARENA_ARRAY(arena, struct source_metadata, COUNT_OF(ITEMS));
    *n = 0;
    for (size_t i = 0; i < COUNT_OF(ITEMS); i++)
        if (!family.len || str_eq(family, ITEMS[i].family)) (*out)[(*n)++] = ITEMS[i];
    return ERR_OK;
}

/* --- the API under test ---------------------------------------------------------------------------- */

static enum err_code open_source(void *ctx, struct str tenant, struct arena *arena,
                                 struct query_source **out, struct err *err)
{
    struct fixture *f = ctx;
    (void)arena;
    bool other = str_eq(tenant, STR("other"));
    if (!other && !str_eq(tenant, STR("default")))
        return err_set(err, ERR_NOT_FOUND, "no such tenant");
    *out = other ? &f->other.source : &f->source.source;
    return ERR_OK;
}

static bool stats(void *ctx, struct str tenant, struct tenant_stats *out)
{
    (void)ctx;
    *out = (struct tenant_stats){
        .series_active = 6, .head_chunks = 7, .head_min_ms = 0, .head_max_ms = 1000000};
    return str_eq(tenant, STR("default"));
}

static void put_flags(void *ctx, query_api_flag_fn *put, void *arg)
{
    (void)ctx;
    put(arg, "listen", "127.0.0.1:9780");
    put(arg, "retention", "0");
}

static void put_config(void *ctx, struct buf *out)
{
    (void)ctx;
    buf_text(out, STR("listen: \"x\"\n"));
}

static void put_retention(void *ctx, struct buf *out)
{
    (void)ctx;
    buf_text(out, STR("15d"));
}

void fixture_open(struct fixture *f)
{
    struct query_limits limits = query_limits_default();
    fixture_open_with(f, &limits, 1);
}

void fixture_open_with(struct fixture *f, const struct query_limits *limits, size_t tenants_max)
{
    struct query_api_config config = query_api_config_default();
    config.limits = *limits;
    config.tenants_max = tenants_max;
    fixture_open_config(f, &config);
}

static void no_sink(void *ctx, const char *line, size_t len)
{
    (void)ctx, (void)line, (void)len;
}

void fixture_open_config(struct fixture *f, const struct query_api_config *wanted)
{
    struct err err;
    struct query_api_config config = *wanted;
    memset(f, 0, sizeof *f);
    f->mem = source_mem_new();
    source_mem_load(f->mem, "load 60s\n"
                            "  up{job=\"a\",instance=\"1\"} 0+1x10\n"
                            "  up{job=\"b\",instance=\"<2>\"} 1.5x10\n"
                            "  Zed{job=\"a\"} 1x10\n"
                            "  odd 1 _ stale 1e-7 1e21 NaN Inf -Inf -0 5 5\n"
                            "  reqs_total 0+60x10\n"
                            "  hist {{schema:0 count:4 sum:5 buckets:[1 2 1]}}x10\n");
    f->source.mem = source_mem_source(f->mem);
    f->ops = *f->source.mem->ops;
    f->ops.select = test_select;
    f->ops.label_names = test_label_names;
    f->ops.label_values = test_label_values;
    f->ops.metadata = test_metadata;
    f->source.source.ops = &f->ops;
    f->other_mem = source_mem_new();
    f->other = (struct test_source){{.ops = &f->ops}, source_mem_source(f->other_mem)};
    clock_fake_init(&f->clock, 600000);
    f->metrics = metrics_new();
    log_init(&f->log, &f->clock.clock, LOG_INFO);
    f->log.sink = no_sink;
    struct env env = {.clock = &f->clock.clock, .metrics = f->metrics, .log = &f->log};
    struct query_api_backend backend = {open_source, stats, f};
    config.cors_origin = "https?://(good|better)\\.example";
    config.status = (struct query_api_status){.hostname = "host",
                                              .cwd = "/data",
                                              .start_ms = 1000,
                                              .n_cpus = 2,
                                              .retention = put_retention,
                                              .config = put_config,
                                              .flags = put_flags};
    CHECK_OK(query_api_new(&env, &backend, &config, &f->api, &err), &err);
    f->n_routes = query_api_routes(f->api, f->routes);
}

void fixture_close(struct fixture *f)
{
    CHECK_U64(source_mem_open(f->mem), 0); /* every select was released */
    query_api_free(f->api);
    metrics_free(f->metrics);
    CHECK_U64(source_mem_open(f->other_mem), 0);
    source_mem_free(f->mem);
    source_mem_free(f->other_mem);
}

const struct http_route *find_route(struct fixture *f, enum http_method method, const char *path)
{
    struct str p = str_of(path);
    for (size_t i = 0; i < f->n_routes; i++) {
        const struct http_route *r = &f->routes[i];
        const char *star = strchr(r->path, '*');
        if (!(r->methods & method)) continue;
        if (!star && strcmp(r->path, path) == 0) return r;
        if (!star) continue;
        struct str head = {r->path, (size_t)(star - r->path)}, tail = str_of(star + 1);
        if (p.len <= head.len + tail.len || !str_has_prefix(p, head) || !str_has_suffix(p, tail))
            continue;
        f->fake.req.label = (struct str){p.p + head.len, p.len - head.len - tail.len};
        return r;
    }
    test_fail(__FILE__, __LINE__, "no route for %s", path);
    return NULL;
}

void ask(struct fixture *f, const struct ask *a)
{
    static const char *FORM[][2] = {{"Content-Type", "application/x-www-form-urlencoded"},
                                    {NULL, NULL}};
    static char path[256];
    enum http_method method = a->method ? a->method : HTTP_GET;
    snprintf(path, sizeof path, "%s%s", *a->path == '/' ? "" : "/api/v1/", a->path);
    struct bytes body = a->body ? bytes_of(a->body, strlen(a->body)) : a->bytes;
    http_fake_init(&f->fake, method, path, a->query ? a->query : "", body);
    f->fake.headers = a->headers ? a->headers : a->body ? FORM : NULL;
    f->fake.req.start_mono_ns = clock_mono_ns(&f->clock.clock);
    const struct http_route *route = find_route(f, method, path);
    route->handler(route->ctx, &f->fake.req);
    CHECK(f->fake.done);
}

void answer_release(struct fixture *f)
{
    http_fake_release(&f->fake);
}

void check_http_answer(struct fixture *f, const struct ask *a, unsigned status, const char *body,
                       int line)
{
    ask(f, a);
    struct str got = str_from_bytes(buf_bytes(&f->fake.body));
    if (f->fake.status != status || !str_eq(got, str_of(body)))
        test_fail(__FILE__, line, "%s?%s\n  is  %u %.*s\n  not %u %s", a->path,
                  a->query ? a->query : a->body, f->fake.status, STR_ARG(got), status, body);
    answer_release(f);
}
