/* ingest/import.c: see the header. */
#include "ingest/import.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/metric.h"
#include "engine/tenant_header.h"
#include "ingest/import_lines.h"
#include "ingest/import_store.h"
#include "ingest/number_text.h"
#include "ingest/unpack.h"

#define PROBLEMS_SHOWN 10

struct import {
    struct env env;
    struct engine *engine;
    struct import_config config;
};

/* One request. */
struct import_call {
    struct import *import;
    struct http_request *req;
    struct tenant *tenant;
    struct import_lines lines;
    struct import_report report;
    struct arena space;  /* of one message */
    struct buf problems; /* what is wrong with the first lines */
    uint64_t bad_by_reason[REJECT_N];
    int64_t retry_ms; /* of a tenant over its rate */
};

enum err_code import_new(const struct env *env, struct engine *engine,
                         const struct import_config *config, struct import **out, struct err *err)
{
    *out = mem_calloc(MEM_INGEST, 1, sizeof(**out));
    if (!*out) return err_set(err, ERR_NO_MEMORY, "no memory for imports");
    **out = (struct import){.env = *env, .engine = engine, .config = *config};
    return ERR_OK;
}

void import_free(struct import *import)
{
    mem_free(import);
}

/* ---- answers ---- */

static void answer(struct import_call *c, unsigned status, const char *text)
{
    char label[32];
    snprintf(label, sizeof(label), "status=\"%u\"", status);
    metric_inc(metric_counter(c->import->env.metrics, "quipu_import_requests_total",
                              "Requests to import lines by the status of their answer.", label));
    if (status == 503) http_set_header(c->req, "Retry-After", "5");
    if (status == 429) {
        char seconds[24];
        snprintf(seconds, sizeof(seconds), "%" PRId64, (c->retry_ms + 999) / 1000);
        http_set_header(c->req, "Retry-After", seconds);
    }
    if (status == 204)
        http_respond(c->req, status, NULL, bytes_of(NULL, 0));
    else
        http_respond_text(c->req, status, "%s", text);
}

static unsigned status_of(enum err_code rc)
{
    switch (rc) {
    case ERR_LIMIT:
    case ERR_NO_MEMORY:
    case ERR_NO_SPACE:
    case ERR_BUSY:
    case ERR_SHUTDOWN: return 503;
    case ERR_RATE: return 429;
    case ERR_UNSUPPORTED: return 415;
    case ERR_INVALID: return 400;
    default: return 500;
    }
}

static uint64_t stored(const struct import_call *c)
{
    return c->report.n_floats + c->report.n_histograms;
}

/* 400 with what was left out, or 204. */
static void answer_stored(struct import_call *c)
{
    struct buf *text = &c->problems;
    if (!c->lines.n_bad && !c->report.n_problems) {
        answer(c, 204, "");
        return;
    }
    if (c->lines.n_bad > PROBLEMS_SHOWN)
        buf_printf(text, "and %" PRIu64 " more lines\n", c->lines.n_bad - PROBLEMS_SHOWN);
    if (c->report.n_problems)
        buf_printf(text, "%" PRIu64 " samples left out, the first: %s\n", c->report.n_problems,
                   c->report.problem);
    buf_printf(text, "the rest was stored: %" PRIu64 " samples", stored(c));
    buf_u8(text, 0);
    answer(c, 400, text->failed ? "bad lines" : (const char *)text->p);
}

static void answer_failed(struct import_call *c, const struct err *why)
{
    char text[ERR_TEXT_BYTES + ERR_FILE_BYTES], all[sizeof(text) + 128];
    if (!c->lines.line) {
        answer(c, status_of(why->code), err_describe(why, text, sizeof(text)));
        return;
    }
    snprintf(all, sizeof(all), "%s (line %" PRIu64 "; %" PRIu64 " samples before were stored)",
             err_describe(why, text, sizeof(text)), c->lines.line, stored(c));
    answer(c, status_of(why->code), all);
}

static void count(struct import_call *c, const char *name, const char *help, const char *extra,
                  uint64_t n)
{
    char label[TENANT_NAME_BYTES_MAX + 64], all[TENANT_NAME_BYTES_MAX + 128];
    if (!n) return;
    metric_label(label, sizeof(label), "tenant", tenant_name(c->tenant));
    snprintf(all, sizeof(all), "%s%s%s", label, *extra ? "," : "", extra);
    metric_add(metric_counter(c->import->env.metrics, name, help, all), n);
}

/* The same families as for remote write. */
static void count_all(struct import_call *c)
{
    count(c, "quipu_ingest_samples_total", "Float samples taken in.", "", c->report.n_floats);
    count(c, "quipu_ingest_histograms_total", "Native histogram samples taken in.", "",
          c->report.n_histograms);
    for (int i = 1; i < REJECT_N; i++) {
        char extra[64];
        snprintf(extra, sizeof(extra), "reason=\"%s\"", reject_reason_name((enum reject_reason)i));
        count(c, "quipu_ingest_rejected_samples_total", "Samples refused, by reason.", extra,
              c->report.rejected[i] + c->bad_by_reason[i]);
    }
    count(c, "quipu_import_bad_lines_total", "Lines that were left out.", "", c->lines.n_bad);
}

/* ---- the work ---- */

static enum err_code sink_store(void *ctx, struct bytes message, size_t n_samples, struct err *err)
{
    struct import_call *c = ctx;
    (void)n_samples; /* the report counts what was stored of them */
    if (http_gone(c->req)) return err_set(err, ERR_CANCELED, "the client is gone");
    return import_store(c->import->engine, c->import->env.threads, c->tenant,
                        &c->import->config.labels, message, &c->space, &c->report, err);
}

static void sink_problem(void *ctx, uint64_t line, enum reject_reason reason, const char *why)
{
    struct import_call *c = ctx;
    c->bad_by_reason[reason]++;
    if (c->lines.n_bad <= PROBLEMS_SHOWN)
        buf_printf(&c->problems, "line %" PRIu64 ": %s\n", line, why);
}

static enum err_code put_piece(void *ctx, struct bytes piece, struct err *err)
{
    struct import_call *c = ctx;
    return import_lines_feed(&c->lines, piece, err);
}

/* `timestamp`, of lines without one; now if it is missing. */
static enum err_code default_time(struct import_call *c, int64_t *t_ms, struct err *err)
{
    struct http_params params = {0};
    *t_ms = clock_wall_ms(c->import->env.clock);
    enum err_code rc = http_params_parse(c->req->query, &c->req->arena, &params, err);
    if (rc) return rc;
    struct str text = http_param(&params, "timestamp");
    if (!text.len || number_text_ms(text, t_ms)) return ERR_OK;
    return err_set(err, ERR_INVALID, "timestamp is a number of milliseconds");
}

/* By the type that the client names, else by how the body ends. */
static enum import_format text_format_of(struct http_request *req)
{
    struct str type = http_header(req, "Content-Type", NULL);
    struct str body = str_from_bytes(req->body);
    while (body.len && (body.p[body.len - 1] == '\n' || body.p[body.len - 1] == '\r')) body.len--;
    bool named = str_has_prefix(type, STR("application/openmetrics-text"));
    return named || str_has_suffix(body, STR("\n# EOF")) || str_eq(body, STR("# EOF"))
               ? IMPORT_OPENMETRICS
               : IMPORT_PROMETHEUS;
}

static enum err_code run(struct import_call *c, enum import_format format, struct err *err)
{
    struct import_sink sink = {sink_store, sink_problem, c};
    struct str name;
    enum unpack_kind kind;
    int64_t default_ms = 0;
    enum err_code rc = engine_admit(c->import->engine, ENGINE_WRITE, err);
    if (!rc) rc = tenant_of_request(c->req, &name, err);
    if (!rc) rc = unpack_kind_of(http_header(c->req, "Content-Encoding", NULL), &kind, err);
    if (!rc) rc = default_time(c, &default_ms, err);
    if (!rc) rc = engine_tenant(c->import->engine, name, true, &c->tenant, err);
    if (!rc) rc = tenant_admit(c->tenant, &c->retry_ms, err);
    if (rc) return rc;
    import_lines_init(&c->lines, MEM_INGEST, format, &c->import->config.labels, &sink);
    c->lines.default_ms = default_ms;
    rc = unpack(kind, c->req->body, put_piece, c, err);
    if (!rc) rc = import_lines_finish(&c->lines, err);
    count_all(c);
    import_lines_release(&c->lines);
    return rc;
}

static void handle(struct import *import, struct http_request *req, enum import_format format)
{
    struct import_call c = {.import = import, .req = req};
    struct err err;
    buf_init(&c.problems, MEM_INGEST);
    arena_init(&c.space, MEM_INGEST, import->config.memory_bytes_max);
    enum err_code rc = run(&c, format, &err);
    arena_release(&c.space);
    /* The answer is the last: the request may be gone after it. */
    if (rc)
        answer_failed(&c, &err);
    else
        answer_stored(&c);
    buf_release(&c.problems);
}

void import_handle_jsonl(void *ctx, struct http_request *req)
{
    handle(ctx, req, IMPORT_JSONL);
}

void import_handle_text(void *ctx, struct http_request *req)
{
    handle(ctx, req, text_format_of(req));
}
