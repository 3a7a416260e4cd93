/* /admin/tsdb/snapshot: a moment of all tenants as a data folder below the server's own, for `quipu backup`. */
#include "engine/backup.h"
#include "query/api_private.h"
#include "query/json.h"

static struct engine *engine_of(struct api_call *call)
{
    struct engine *engine = call->api->config.engine;
    if (!engine) api_error(call, API_UNAVAILABLE, "this server has no storage of its own");
    return engine;
}

/* The folder as others on this machine find it. */
static void put_dir(struct api_call *call, const char *dir)
{
    struct str cwd = str_of(call->api->config.status.cwd);
    struct str text = str_of(dir);
    if (dir[0] && dir[0] != '/' && cwd.len)
        text = arena_printf(call->arena, "%.*s/%s", STR_ARG(cwd), dir);
    json_string(&call->out, text);
}

static void answer(struct api_call *call, const struct engine_snapshot_report *r)
{
    api_success(call);
    buf_printf(&call->out, "{\"name\":\"%s\",\"dir\":", r->name);
    put_dir(call, r->dir);
    buf_printf(&call->out,
               ",\"momentMs\":%lld,\"logPosition\":\"%llu\",\"blocks\":%llu,\"blockBytes\":%llu,"
               "\"logBytes\":%llu,\"missingBlocks\":%llu,\"archive\":",
               (long long)r->moment_ms, (unsigned long long)r->log_pos,
               (unsigned long long)r->blocks, (unsigned long long)r->block_bytes,
               (unsigned long long)r->log_bytes, (unsigned long long)r->missing);
    put_dir(call, r->archive ? r->archive : "");
    buf_u8(&call->out, '}');
    api_finish(call, NULL, STR(""));
}

void api_on_snapshot(void *ctx, struct http_request *req)
{
    struct api_call call;
    struct engine_snapshot_report r;
    if (!api_begin(&call, ctx, req)) return;
    struct engine *engine = api_form_ok(&call) ? engine_of(&call) : NULL;
    if (engine) {
        if (engine_snapshot(engine, http_param(&call.params, "name"), &r, &call.err))
            api_error_of(&call, &call.err, "");
        else
            answer(&call, &r);
    }
    api_end(&call);
}

void api_on_snapshot_remove(void *ctx, struct http_request *req)
{
    struct api_call call;
    if (!api_begin(&call, ctx, req)) return;
    struct engine *engine = api_form_ok(&call) ? engine_of(&call) : NULL;
    if (engine) {
        if (engine_snapshot_remove(engine, http_param(&call.params, "name"), &call.err)) {
            api_error_of(&call, &call.err, "");
        } else {
            api_success(&call);
            buf_text(&call.out, STR("{}"));
            api_finish(&call, NULL, STR(""));
        }
    }
    api_end(&call);
}
