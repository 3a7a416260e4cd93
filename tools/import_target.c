/* tools/import_target.c: see the header. */
#include "tools/import_target.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/snappy.h"
#include "engine/tenant_header.h"
#include "ingest/import_store.h"
#include "query/matcher_regex.h"
#include "tools/client.h"
#include "tools/overrides.h"
#include "tools/tool_env.h"

#define REQUEST_TIMEOUT_MS 120000
#define STEP_MESSAGES 64 /* between two rounds of flushes and merges of a data folder */

struct import_target {
    struct import_target_config config;
    struct import_refused refused;
    char url[1024];
    struct client *client;
    struct client_answer answer;
    struct buf packed;

    struct tool_env tool; /* of the data folder */
    struct config settings;
    struct engine_override *overrides;
    struct engine *engine;
    struct tenant *tenant;
    struct label_limits limits;
    struct arena arena;
    uint64_t n_messages;
};

/* ---- a server ---- */

static enum err_code open_server(struct import_target *t, struct err *err)
{
    char tenant[256];
    const char *headers[] = {"Content-Encoding: snappy", "Content-Type: application/x-protobuf",
                             "X-Prometheus-Remote-Write-Version: 0.1.0", NULL, NULL};
    struct str base = str_of(t->config.server);
    while (base.len && base.p[base.len - 1] == '/') base.len--;
    snprintf(t->url, sizeof(t->url), "%.*s/api/v1/write", STR_ARG(base));
    if (t->config.tenant) {
        snprintf(tenant, sizeof(tenant), TENANT_HEADER ": %s", t->config.tenant);
        headers[3] = tenant;
    }
    enum err_code rc = client_global_init(err);
    return rc ? rc : client_new(headers, REQUEST_TIMEOUT_MS, &t->client, err);
}

/* A text of a few lines, one for each refusal, the last of which may be "and N more; …". */
static void note_refusal(struct import_target *t)
{
    struct str body = str_from_bytes(buf_bytes(&t->answer.body));
    while (body.len && (body.p[body.len - 1] == '\n' || body.p[body.len - 1] == '\r')) body.len--;
    const char *lf = body.len ? memchr(body.p, '\n', body.len) : NULL;
    size_t first = lf ? (size_t)(lf - body.p) : body.len;
    if (!t->refused.n)
        snprintf(t->refused.first, sizeof(t->refused.first), "%.*s",
                 (int)MIN_OF(first, sizeof(t->refused.first) - 1), body.len ? body.p : "");
    for (;;) {
        if (str_has_prefix(body, STR("and "))) {
            t->refused.n += strtoull(body.p + 4, NULL, 10);
            return;
        }
        t->refused.n++;
        lf = body.len ? memchr(body.p, '\n', body.len) : NULL;
        if (!lf) return;
        body.len -= (size_t)(lf + 1 - body.p);
        body.p = lf + 1;
    }
}

static bool is_passing(enum err_code rc, unsigned status)
{
    return rc == ERR_IO || rc == ERR_TIMEOUT || (!rc && (status == 429 || status >= 500));
}

static enum err_code refuse(const struct import_target *t, struct err *err)
{
    struct str body = str_from_bytes(buf_bytes(&t->answer.body));
    body.len = MIN_OF(body.len, (size_t)300);
    while (body.len && body.p[body.len - 1] == '\n') body.len--;
    return err_set(err, ERR_EXECUTION, "%s says %u: %.*s", t->url, t->answer.status, STR_ARG(body));
}

static enum err_code store_server(struct import_target *t, struct bytes message, struct err *err)
{
    struct clock *clock = clock_system();
    int64_t until_ns = clock_mono_ns(clock) + t->config.retry_ms * 1000000;
    buf_reset(&t->packed);
    enum err_code rc = snappy_encode(message, &t->packed, err);
    if (rc) return rc;
    for (useconds_t pause_us = 100000;; pause_us = MIN_OF(pause_us * 2, (useconds_t)5000000)) {
        struct bytes body = buf_bytes(&t->packed);
        rc = client_ask(t->client, t->url, &body, &t->answer, err);
        if (!is_passing(rc, t->answer.status)) break;
        /* A server that was never there is a typing error rather than one that restarts. */
        bool never = rc == ERR_IO && !t->n_messages;
        if (never || clock_mono_ns(clock) >= until_ns) return rc ? rc : refuse(t, err);
        usleep(pause_us);
    }
    t->n_messages += !rc;
    if (rc || t->answer.status / 100 == 2) return rc;
    if (t->answer.status != 400) return refuse(t, err);
    note_refusal(t); /* the rest of it was stored */
    return ERR_OK;
}

/* ---- a data folder ---- */

static enum err_code open_folder(struct import_target *t, struct err *err)
{
    struct config_origin origin;
    config_defaults(&t->settings, &origin);
    enum err_code rc = tool_env_init(&t->tool, LOG_WARN, false, err);
    if (!rc && t->config.config_file)
        rc = config_load(&t->settings, &origin, t->tool.env.io, t->config.config_file, err);
    if (rc) return rc;
    const char *dir = t->config.data_dir ? t->config.data_dir : t->settings.data_dir;
    struct engine_config engine = engine_config_default(dir);
    engine.retention_ms =
        t->config.retention_ms >= 0 ? t->config.retention_ms : t->settings.retention_ms;
    engine.retention_bytes = t->settings.retention_bytes;
    engine.regex = matcher_regex();
    t->limits = (struct label_limits){.labels_max = t->settings.limits_labels_max,
                                      .name_bytes_max = t->settings.limits_label_name_bytes_max,
                                      .value_bytes_max = t->settings.limits_label_value_bytes_max};
    rc = overrides_make(&t->settings, &engine, &t->overrides, err);
    if (!rc) rc = engine_open(&t->tool.env, &engine, &t->engine, err);
    struct str tenant = t->config.tenant ? str_of(t->config.tenant) : STR(TENANT_DEFAULT);
    return rc ? rc : engine_tenant(t->engine, tenant, true, &t->tenant, err);
}

static enum err_code store_folder(struct import_target *t, struct bytes message, struct err *err)
{
    struct import_report report = {0};
    enum err_code rc =
        import_store(t->engine, false, t->tenant, &t->limits, message, &t->arena, &report, err);
    if (rc == ERR_LIMIT) { /* the head is full */
        memset(&report, 0, sizeof(report));
        rc = engine_flush(t->engine, NULL, err);
        if (!rc)
            rc = import_store(t->engine, false, t->tenant, &t->limits, message, &t->arena, &report,
                              err);
    }
    if (!t->refused.n)
        snprintf(t->refused.first, sizeof(t->refused.first), "%.*s",
                 (int)sizeof(t->refused.first) - 1, report.problem);
    t->refused.n += report.n_problems;
    if (!rc && ++t->n_messages % STEP_MESSAGES == 0) rc = engine_step(t->engine, err);
    return rc;
}

/* ---- either ---- */

enum err_code import_target_open(const struct import_target_config *config,
                                 struct import_target **out, struct err *err)
{
    struct err ignored;
    struct import_target *t = mem_calloc(MEM_TOOLS, 1, sizeof(*t));
    if (!t) return err_set(err, ERR_NO_MEMORY, "no memory");
    t->config = *config;
    client_answer_init(&t->answer);
    buf_init(&t->packed, MEM_TOOLS);
    arena_init(&t->arena, MEM_INGEST, (size_t)256 << 20);
    enum err_code rc = config->server ? open_server(t, err) : open_folder(t, err);
    *out = t;
    if (!rc) return ERR_OK;
    err_ignore(import_target_close(t, &ignored));
    *out = NULL;
    return rc;
}

enum err_code import_target_store(struct import_target *t, struct bytes message, struct err *err)
{
    return t->client ? store_server(t, message, err) : store_folder(t, message, err);
}

const struct import_refused *import_target_refused(const struct import_target *t)
{
    return &t->refused;
}

enum err_code import_target_close(struct import_target *t, struct err *err)
{
    if (!t) return ERR_OK;
    enum err_code rc = t->engine ? engine_close(t->engine, true, err) : ERR_OK;
    client_free(t->client);
    client_answer_release(&t->answer);
    buf_release(&t->packed);
    arena_release(&t->arena);
    mem_free(t->overrides);
    if (t->tool.env.metrics) {
        config_release(&t->settings);
        tool_env_release(&t->tool);
    }
    mem_free(t);
    return rc;
}
