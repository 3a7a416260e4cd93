/* Which tenants a request is for, and the source of their series. */
#include <stdlib.h>

#include "engine/tenant_header.h"
#include "query/api_private.h"
#include "query/source_engine.h"
#include "query/source_tenants.h"

/* --- the header ------------------------------------------------------------------------------------ */

static int compare_names(const void *a, const void *b)
{
    return str_cmp(*(const struct str *)a, *(const struct str *)b);
}

/* The ids between the bars, sorted, each once. */
static enum err_code split_tenants(struct api_call *call, struct str header)
{
    size_t n = 1, n_unique = 1, max = call->api->config.tenants_max;
    for (size_t i = 0; i < header.len; i++) n += header.p[i] == '|';
    struct str *names = ARENA_ARRAY(call->arena, struct str, n);
    if (!names) return arena_fail(call->arena, &call->err);
    for (size_t i = 0; i < n; i++) {
        const char *bar = header.len ? memchr(header.p, '|', header.len) : NULL;
        names[i] = (struct str){header.p, bar ? (size_t)(bar - header.p) : header.len};
        enum err_code rc = tenant_name_check(names[i], &call->err);
        if (rc) return rc;
        if (bar) header = (struct str){bar + 1, header.len - names[i].len - 1};
    }
    qsort(names, n, sizeof *names, compare_names);
    for (size_t i = 1; i < n; i++)
        if (!str_eq(names[i], names[n_unique - 1])) names[n_unique++] = names[i];
    if (n_unique > max)
        return err_set(&call->err, ERR_INVALID, "too many tenants, max: %zu, actual: %zu", max,
                       n_unique);
    call->tenants = names;
    call->n_tenants = n_unique;
    call->tenant = names[0];
    return ERR_OK;
}

bool api_read_tenants(struct api_call *call)
{
    size_t count = 0;
    struct str header = http_header(call->req, TENANT_HEADER, &count);
    bool several = count == 1 && header.len && memchr(header.p, '|', header.len);
    enum err_code rc = ERR_OK;
    if (several && call->api->config.tenants_max > 1)
        rc = split_tenants(call, header);
    else if (several)
        rc = err_set(&call->err, ERR_INVALID, "multiple org IDs present");
    else
        rc = tenant_of_request(call->req, &call->tenant, &call->err);
    if (!rc && !call->n_tenants) {
        call->tenants = &call->tenant;
        call->n_tenants = 1;
    }
    if (rc) api_error_of(call, &call->err, "");
    return !rc;
}

bool api_one_tenant(struct api_call *call)
{
    if (call->n_tenants == 1) return true;
    api_error(call, API_BAD_DATA, "multiple org IDs present");
    return false;
}

/* --- a tenant that there is not ---------------------------------------------------------------------- */

static enum err_code none_select(struct query_source *src, const struct matcher *matchers,
                                 size_t n_matchers, int64_t mint_ms, int64_t maxt_ms,
                                 struct source_select **out, struct err *err)
{
    (void)src, (void)matchers, (void)n_matchers, (void)mint_ms, (void)maxt_ms, (void)err;
    *out = NULL;
    return ERR_OK;
}

static size_t none_count(const struct source_select *sel)
{
    (void)sel;
    return 0;
}

static struct labels none_labels(const struct source_select *sel, size_t i)
{
    (void)sel, (void)i;
    return (struct labels){NULL, 0};
}

static enum err_code none_read(struct source_select *sel, size_t i, int64_t mint_ms,
                               int64_t maxt_ms, struct samples *out, struct err *err)
{
    (void)sel, (void)i, (void)mint_ms, (void)maxt_ms, (void)out, (void)err;
    return ERR_OK;
}

static void none_release(struct source_select *sel)
{
    (void)sel;
}

static enum err_code none_label_names(struct query_source *src, const struct matcher *matchers,
                                      size_t n_matchers, int64_t mint_ms, int64_t maxt_ms,
                                      const struct label_want *want, struct arena *arena,
                                      struct str **out, size_t *n, bool *truncated, struct err *err)
{
    (void)src, (void)matchers, (void)n_matchers, (void)mint_ms, (void)maxt_ms;
    (void)want, (void)arena, (void)err;
    *out = NULL;
    *n = 0;
    *truncated = false;
    return ERR_OK;
}

static enum err_code none_label_values(struct query_source *src, struct str name,
                                       const struct matcher *matchers, size_t n_matchers,
                                       int64_t mint_ms, int64_t maxt_ms,
                                       const struct label_want *want, struct arena *arena,
                                       struct str **out, size_t *n, bool *truncated,
                                       struct err *err)
{
    (void)name;
    return none_label_names(src, matchers, n_matchers, mint_ms, maxt_ms, want, arena, out, n,
                            truncated, err);
}

static enum err_code none_metadata(struct query_source *src, struct str family, struct arena *arena,
                                   struct source_metadata **out, size_t *n, struct err *err)
{
    (void)src, (void)family, (void)arena, (void)err;
    *out = NULL;
    *n = 0;
    return ERR_OK;
}

/* What a tenant that was never written to has. Its select is NULL: nothing looks into it. */
static const struct query_source_ops NONE_OPS = {.select = none_select,
                                                 .count = none_count,
                                                 .labels = none_labels,
                                                 .read = none_read,
                                                 .release = none_release,
                                                 .label_names = none_label_names,
                                                 .label_values = none_label_values,
                                                 .metadata = none_metadata};

/* --- sources --------------------------------------------------------------------------------------- */

static enum err_code open_one(struct api_call *call, struct str tenant, struct query_source **out)
{
    const struct query_api_backend *backend = &call->api->backend;
    enum err_code rc = backend->open(backend->ctx, tenant, call->arena, out, &call->err);
    call->known |= rc == ERR_OK;
    if (rc != ERR_NOT_FOUND) return rc;
    *out = ARENA_NEW(call->arena, struct query_source);
    if (!*out) return arena_fail(call->arena, &call->err);
    (*out)->ops = &NONE_OPS;
    return ERR_OK;
}

static enum err_code open_several(struct api_call *call)
{
    struct source_tenant *tenants = ARENA_ARRAY(call->arena, struct source_tenant, call->n_tenants);
    struct source_tenants *source = ARENA_NEW(call->arena, struct source_tenants);
    enum err_code rc = tenants && source ? ERR_OK : arena_fail(call->arena, &call->err);
    for (size_t i = 0; !rc && i < call->n_tenants; i++) {
        tenants[i].name = call->tenants[i];
        rc = open_one(call, tenants[i].name, &tenants[i].source);
    }
    if (rc) return rc;
    source_tenants_init(source, tenants, call->n_tenants, api_limits(call).memory_bytes_max);
    call->source = &source->source;
    return ERR_OK;
}

bool api_source(struct api_call *call)
{
    enum err_code rc =
        call->n_tenants > 1 ? open_several(call) : open_one(call, call->tenant, &call->source);
    if (!rc) return true;
    api_error_of(call, &call->err, "");
    return false;
}

static enum err_code engine_open_source(void *ctx, struct str tenant, struct arena *arena,
                                        struct query_source **out, struct err *err)
{
    struct tenant *t;
    enum err_code rc = engine_tenant(ctx, tenant, false, &t, err);
    if (rc) return rc;
    struct source_engine *source = ARENA_NEW(arena, struct source_engine);
    if (!source) return arena_fail(arena, err);
    source_engine_init(source, t);
    *out = &source->source;
    return ERR_OK;
}

static bool engine_stats(void *ctx, struct str tenant, struct tenant_stats *out)
{
    struct tenant *t;
    struct err err;
    if (engine_tenant(ctx, tenant, false, &t, &err)) return false;
    tenant_stats(t, out);
    return true;
}

struct query_api_backend query_api_engine(struct engine *engine)
{
    return (struct query_api_backend){engine_open_source, engine_stats, engine};
}
