/* /admin/tsdb/flush, /admin/tsdb/compact and /admin/tsdb/verify: what the server does by itself, now, for the tenant of the request, and
 * answered when it is done. */
#include "engine/engine.h"
#include "engine/verify.h"
#include "query/api_private.h"

/* The tenant; NULL: already answered. */
static struct tenant *admin_tenant(struct api_call *call)
{
    struct engine *engine = call->api->config.engine;
    struct tenant *tenant = NULL;
    if (!api_one_tenant(call)) return NULL;
    if (!engine) {
        api_error(call, API_UNAVAILABLE, "this server has no storage of its own");
        return NULL;
    }
    enum err_code rc = engine_tenant(engine, call->tenant, false, &tenant, &call->err);
    if (!rc) return tenant;
    if (rc == ERR_NOT_FOUND)
        api_error(call, API_NOT_FOUND, "%s", call->err.text);
    else
        api_error_of(call, &call->err, "");
    return NULL;
}

static void answer(struct api_call *call, const struct engine_compact_report *r)
{
    api_success(call);
    buf_printf(&call->out,
               "{\"bytesBefore\":%llu,\"bytesAfter\":%llu,\"blocksBefore\":%llu,"
               "\"blocksAfter\":%llu,\"compactions\":%llu,\"samples\":%llu,"
               "\"duplicatesDropped\":%llu,\"seconds\":%.3f}",
               (unsigned long long)r->bytes_before, (unsigned long long)r->bytes_after,
               (unsigned long long)r->blocks_before, (unsigned long long)r->blocks_after,
               (unsigned long long)r->jobs, (unsigned long long)r->samples,
               (unsigned long long)r->duplicates, r->seconds);
    api_finish(call, NULL, STR(""));
}

static void flush(struct api_call *call, struct tenant *tenant)
{
    struct clock *clock = call->api->env.clock;
    struct tenant_stats before, after;
    int64_t begun_ns = clock_mono_ns(clock);
    tenant_stats(tenant, &before);
    if (engine_flush(call->api->config.engine, tenant, &call->err)) {
        api_error_of(call, &call->err, "");
        return;
    }
    tenant_stats(tenant, &after);
    struct engine_compact_report r = {.bytes_before = before.block_bytes,
                                      .bytes_after = after.block_bytes,
                                      .blocks_before = before.blocks,
                                      .blocks_after = after.blocks,
                                      .seconds = (double)(clock_mono_ns(clock) - begun_ns) / 1e9};
    if (after.block_samples > before.block_samples) /* a merge may come between */
        r.samples = after.block_samples - before.block_samples;
    answer(call, &r);
}

static bool client_waits(void *ctx, const struct engine_compact_report *so_far, double done)
{
    (void)so_far, (void)done;
    return !http_gone(ctx);
}

static void compact(struct api_call *call, struct tenant *tenant, uint32_t level)
{
    struct engine_compact_options options = {
        .level = level, .progress = client_waits, .ctx = call->req};
    struct engine_compact_report r;
    if (engine_compact(call->api->config.engine, tenant, &options, &r, &call->err))
        api_error_of(call, &call->err, "");
    else
        answer(call, &r);
}

void api_on_flush(void *ctx, struct http_request *req)
{
    struct api_call call;
    if (!api_begin(&call, ctx, req)) return;
    struct tenant *tenant = admin_tenant(&call);
    if (tenant) flush(&call, tenant);
    api_end(&call);
}

#define LEVEL_ERROR "level must be a number from 0 to 3"

void api_on_compact(void *ctx, struct http_request *req)
{
    struct api_call call;
    int64_t level = 0;
    if (!api_begin(&call, ctx, req)) return;
    bool fine = api_number(&call, "level", LEVEL_ERROR, &level);
    if (fine && (level < 0 || level > 3)) {
        api_error(&call, API_BAD_DATA, LEVEL_ERROR);
        fine = false;
    }
    struct tenant *tenant = fine ? admin_tenant(&call) : NULL;
    if (tenant) compact(&call, tenant, (uint32_t)level);
    api_end(&call);
}

/* ---- verify ---- */

#define FINDINGS_MAX 1000

struct verify_answer {
    struct http_request *req;
    struct buf findings;
    size_t n;
};

static void add_finding(void *ctx, const struct verify_finding *f)
{
    static const char *const kinds[] = {
        [VERIFY_DAMAGE] = "damage", [VERIFY_UNREADABLE] = "unreadable", [VERIFY_NOTE] = "note"};
    struct verify_answer *a = ctx;
    if (a->n++ >= FINDINGS_MAX) return;
    buf_printf(&a->findings, "%s{\"kind\":\"%s\",\"file\":", a->n > 1 ? "," : "", kinds[f->kind]);
    json_string_html(&a->findings, str_of(f->file));
    if (*f->section) {
        buf_text(&a->findings, STR(",\"section\":"));
        json_string_html(&a->findings, str_of(f->section));
    }
    if (f->has_off) buf_printf(&a->findings, ",\"offset\":%llu", (unsigned long long)f->off);
    buf_text(&a->findings, STR(",\"text\":"));
    json_string_html(&a->findings, str_of(f->text));
    buf_u8(&a->findings, '}');
}

static bool verify_client_waits(void *ctx, const struct verify_totals *so_far, uint64_t bytes_all)
{
    (void)so_far, (void)bytes_all;
    return !http_gone(((struct verify_answer *)ctx)->req);
}

static void verify(struct api_call *call, struct tenant *tenant)
{
    struct verify_answer a = {.req = call->req};
    struct verify_totals t;
    struct verify_options options = {
        .n_threads = 1, .fn = add_finding, .progress = verify_client_waits, .ctx = &a};
    buf_init(&a.findings, MEM_QUERY);
    if (engine_verify(call->api->config.engine, tenant, &options, &t, &call->err)) {
        api_error_of(call, &call->err, "");
    } else {
        api_success(call);
        buf_printf(&call->out,
                   "{\"status\":\"%s\",\"blocks\":%llu,\"bytes\":%llu,\"samples\":%llu,"
                   "\"damaged\":%llu,\"unreadable\":%llu,\"notes\":%llu,\"findings\":[",
                   t.damaged      ? "damaged"
                   : t.unreadable ? "unreadable"
                                  : "good",
                   (unsigned long long)t.blocks, (unsigned long long)t.bytes,
                   (unsigned long long)t.samples, (unsigned long long)t.damaged,
                   (unsigned long long)t.unreadable, (unsigned long long)t.notes);
        buf_text(&call->out, str_from_bytes(buf_bytes(&a.findings)));
        call->out.failed |= a.findings.failed;
        buf_text(&call->out, STR("]}"));
        api_finish(call, NULL, STR(""));
    }
    buf_release(&a.findings);
}

void api_on_verify(void *ctx, struct http_request *req)
{
    struct api_call call;
    if (!api_begin(&call, ctx, req)) return;
    struct tenant *tenant = admin_tenant(&call);
    if (tenant) verify(&call, tenant);
    api_end(&call);
}
