/* /admin/tsdb/delete_series, clean_tombstones, tombstones, delete_tenant */
#include "query/api_private.h"

/* What a tenant that was never written to has, is nothing: *tenant NULL. False: answered. */
static bool find_tenant(struct api_call *call, struct tenant **tenant)
{
    struct engine *engine = call->api->config.engine;
    *tenant = NULL;
    if (!api_one_tenant(call)) return false;
    if (!engine) {
        api_error(call, API_UNAVAILABLE, "this server has no storage of its own");
        return false;
    }
    enum err_code rc = engine_tenant(engine, call->tenant, false, tenant, &call->err);
    if (!rc || rc == ERR_NOT_FOUND) return true;
    api_error_of(call, &call->err, "");
    return false;
}

/* --- series ---------------------------------------------------------------------------------------- */

struct delete_request {
    struct api_selectors selectors;
    struct matcher_set *sets;
    int64_t start_ms, end_ms;
    bool dry_run;
};

static bool has_match(const struct api_call *call)
{
    for (size_t i = 0; i < call->params.n; i++)
        if (str_eq(call->params.items[i].name, STR("match[]"))) return true;
    return false;
}

static bool read_dry_run(struct api_call *call, bool *dry_run)
{
    struct str text = http_param(&call->params, "dry_run");
    *dry_run = str_eq(text, STR("true")) || str_eq(text, STR("1"));
    if (*dry_run || !text.len || str_eq(text, STR("false")) || str_eq(text, STR("0"))) return true;
    api_error(call, API_BAD_DATA, "invalid parameter \"dry_run\": true or false");
    return false;
}

/* In Prometheus's order, but all selectors are read before anything is deleted. */
static bool read_request(struct api_call *call, struct delete_request *r)
{
    if (!api_form_ok(call)) return false;
    if (!has_match(call)) {
        api_error(call, API_BAD_DATA, "no match[] parameter provided");
        return false;
    }
    if (!api_optional_time(call, "start", API_TIME_MIN, &r->start_ms) ||
        !api_optional_time(call, "end", API_TIME_MAX, &r->end_ms) ||
        !read_dry_run(call, &r->dry_run) ||
        !api_selectors_any(call, "invalid parameter \"match[]\": ", &r->selectors))
        return false;
    r->sets = ARENA_ARRAY(call->arena, struct matcher_set, r->selectors.n + 1);
    if (!r->sets) {
        arena_fail(call->arena, &call->err);
        api_error_of(call, &call->err, "");
        return false;
    }
    for (size_t i = 0; i < r->selectors.n; i++) {
        const struct node_selector *s = NODE_AS(selector, r->selectors.items[i].root);
        r->sets[i] = (struct matcher_set){s->matchers, s->n_matchers};
    }
    return true;
}

static void preview(struct api_call *call, struct tenant *tenant, const struct delete_request *r)
{
    struct tenant_delete_preview p = {0};
    if (tenant && tenant_delete_preview(tenant, r->sets, r->selectors.n, r->start_ms, r->end_ms, &p,
                                        &call->err)) {
        api_error_of(call, &call->err, "");
        return;
    }
    api_success(call);
    buf_printf(&call->out, "{\"series\":%llu,\"samples\":%llu}", (unsigned long long)p.series,
               (unsigned long long)p.samples);
    api_finish(call, NULL, STR(""));
}

static void delete_series(struct api_call *call, struct tenant *tenant,
                          const struct delete_request *r)
{
    if (r->dry_run)
        preview(call, tenant, r);
    else if (tenant &&
             tenant_delete(tenant, r->sets, r->selectors.n, r->start_ms, r->end_ms, &call->err))
        api_error_of(call, &call->err, "");
    else
        api_no_content(call);
}

void api_on_delete_series(void *ctx, struct http_request *req)
{
    struct api_call call;
    struct delete_request r = {.sets = NULL};
    struct tenant *tenant;
    if (!api_begin(&call, ctx, req)) return;
    if (read_request(&call, &r) && find_tenant(&call, &tenant)) delete_series(&call, tenant, &r);
    api_selectors_release(&r.selectors);
    api_end(&call);
}

/* --- tombstones ------------------------------------------------------------------------------------ */

void api_on_clean_tombstones(void *ctx, struct http_request *req)
{
    struct api_call call;
    struct tenant *tenant;
    struct engine_clean_report report;
    if (!api_begin(&call, ctx, req)) return;
    if (find_tenant(&call, &tenant)) {
        if (tenant && engine_clean_tombstones(call.api->config.engine, tenant, &report, &call.err))
            api_error_of(&call, &call.err, "");
        else
            api_no_content(&call);
    }
    api_end(&call);
}

void api_on_tombstones(void *ctx, struct http_request *req)
{
    struct api_call call;
    struct tenant *tenant;
    struct tombstone_stats stats = {0};
    if (!api_begin(&call, ctx, req)) return;
    if (find_tenant(&call, &tenant)) {
        if (tenant) tenant_tombstone_stats(tenant, &stats);
        api_success(&call);
        buf_printf(&call.out, "{\"tombstones\":%llu,\"blocksPending\":%llu,\"bytesPending\":%llu}",
                   (unsigned long long)stats.tombstones, (unsigned long long)stats.blocks_pending,
                   (unsigned long long)stats.bytes_pending);
        api_finish(&call, NULL, STR(""));
    }
    api_end(&call);
}

/* --- a tenant -------------------------------------------------------------------------------------- */

static void delete_tenant(struct api_call *call, struct str name)
{
    struct tenant_delete_report r;
    struct engine *engine = call->api->config.engine;
    if (!engine) {
        api_error(call, API_UNAVAILABLE, "this server has no storage of its own");
        return;
    }
    enum err_code rc = engine_delete_tenant(engine, name, &r, &call->err);
    if (rc == ERR_NOT_FOUND) {
        api_error(call, API_NOT_FOUND, "%s", call->err.text);
    } else if (rc) {
        api_error_of(call, &call->err, "invalid parameter \"name\": ");
    } else {
        api_success(call);
        buf_text(&call->out, STR("{\"tenant\":"));
        json_string_html(&call->out, name);
        buf_printf(&call->out, ",\"series\":%llu,\"samples\":%llu,\"blocks\":%llu,\"bytes\":%llu}",
                   (unsigned long long)r.series, (unsigned long long)r.samples,
                   (unsigned long long)r.blocks, (unsigned long long)r.bytes);
        api_finish(call, NULL, STR(""));
    }
}

/* The name is asked for, lest a header that is missing means the tenant "default". */
void api_on_delete_tenant(void *ctx, struct http_request *req)
{
    struct api_call call;
    if (!api_begin(&call, ctx, req)) return;
    struct str name = http_param(&call.params, "name");
    bool fine = api_form_ok(&call);
    if (fine && !name.len)
        api_error(&call, API_BAD_DATA, "no name parameter provided");
    else if (fine)
        delete_tenant(&call, name);
    api_end(&call);
}
