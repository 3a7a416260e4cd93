/* ingest/remote_write.c: see remote_write.h.
 *
 * A request is answered by whoever is last: the handler, which still has to say what was refused, or the log's committer,
 * which knows that the rest is durable. Both go through call_finish(). */
#include "ingest/remote_write.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <strings.h>

#include "base/lock.h"
#include "base/metric.h"
#include "base/snappy.h"
#include "base/zstd_body.h"
#include "engine/tenant_header.h"
#include "ingest/tenant_source.h"
#include "ingest/write_request.h"

#define RETRY_AFTER_SECONDS "5"
/* What a workspace keeps for the next request: a body of 2,000 samples takes about 0.6 MB. */
#define WORKSPACE_KEEP_BYTES ((size_t)4 << 20)

/* Memory that a request needs only while its handler runs, not while it waits for the disk: the decoded body and its
 * columns. There are as many as there were handlers at once. */
struct workspace {
    struct workspace *next;
    struct arena arena;
};

struct remote_write {
    struct env env;
    struct engine *engine;
    struct remote_write_config config;
    struct metric_histogram *decode_seconds;
    struct lock lock; /* rank LOCK_LEAF; guards workspaces */
    struct workspace *workspaces;
};

/* What a request is, and what its answer says beside the status. */
struct asked {
    struct remote_write *rw;
    struct http_request *req;
    bool v2;                                    /* its message, and so the headers of its answer */
    size_t n_floats, n_histograms, n_exemplars; /* written */
};

/* One request, in its arena. */
struct call {
    struct asked asked;
    struct write_request w;
    _Atomic int parties;     /* release at each party's end, acquire at the last one's */
    enum err_code stored_rc; /* written by the committer before it ends its part */
    struct err err;          /* what went wrong, when an engine call said no */
};

struct remote_write_config remote_write_config_default(void)
{
    return (struct remote_write_config){
        .message_bytes_max = (size_t)32 << 20,
        .memory_bytes_max = (size_t)256 << 20,
        .labels = {.labels_max = 64, .name_bytes_max = 1024, .value_bytes_max = 4096}};
}

enum err_code remote_write_new(const struct env *env, struct engine *engine,
                               const struct remote_write_config *config, struct remote_write **out,
                               struct err *err)
{
    struct remote_write *rw = mem_calloc(MEM_INGEST, 1, sizeof(*rw));
    if (!rw) return err_set(err, ERR_NO_MEMORY, "no memory for remote write");
    rw->env = *env;
    rw->engine = engine;
    rw->config = *config;
    lock_init(&rw->lock, LOCK_LEAF);
    rw->decode_seconds =
        metric_histogram(env->metrics, "quipu_ingest_decode_seconds",
                         "Time to decode a write request and put it into the head.", "",
                         METRIC_SECONDS, METRIC_SECONDS_N);
    *out = rw;
    return ERR_OK;
}

static void workspace_free(struct workspace *space)
{
    arena_release(&space->arena);
    mem_free(space);
}

void remote_write_free(struct remote_write *rw)
{
    if (!rw) return;
    for (struct workspace *space = rw->workspaces, *next; space; space = next) {
        next = space->next;
        workspace_free(space);
    }
    lock_destroy(&rw->lock);
    mem_free(rw);
}

/* NULL when memory is out. */
static struct workspace *workspace_take(struct remote_write *rw)
{
    lock_take(&rw->lock);
    struct workspace *space = rw->workspaces;
    if (space) rw->workspaces = space->next;
    lock_release(&rw->lock);
    if (space) return space;
    space = mem_alloc(MEM_INGEST, sizeof(*space));
    if (space) arena_init(&space->arena, MEM_INGEST, rw->config.memory_bytes_max);
    return space;
}

static void workspace_give(struct remote_write *rw, struct workspace *space)
{
    arena_reset(&space->arena);
    if (space->arena.used_bytes > WORKSPACE_KEEP_BYTES) {
        workspace_free(space);
        return;
    }
    lock_take(&rw->lock);
    space->next = rw->workspaces;
    rw->workspaces = space;
    lock_release(&rw->lock);
}

/* ---- answers ---- */

/* Counts of what was written: without them a sender of 2.0 takes any answer for a failure, so repeated samples, which
 * change nothing, count as well. */
static void put_written(const struct asked *a, unsigned status)
{
    static const char *const NAMES[] = {"X-Prometheus-Remote-Write-Samples-Written",
                                        "X-Prometheus-Remote-Write-Histograms-Written",
                                        "X-Prometheus-Remote-Write-Exemplars-Written"};
    size_t n[] = {a->n_floats, a->n_histograms, a->n_exemplars};
    for (size_t i = 0; a->v2 && i < COUNT_OF(NAMES); i++) {
        char text[24];
        snprintf(text, sizeof(text), "%zu", status < 500 ? n[i] : 0);
        http_set_header(a->req, NAMES[i], text);
    }
}

static void answer(const struct asked *a, unsigned status, const char *text)
{
    struct remote_write *rw = a->rw;
    struct http_request *req = a->req;
    char label[32];
    snprintf(label, sizeof(label), "status=\"%u\"", status);
    metric_inc(metric_counter(rw->env.metrics, "quipu_ingest_requests_total",
                              "Write requests by the status of their answer.", label));
    if (status == 503) http_set_header(req, "Retry-After", RETRY_AFTER_SECONDS);
    put_written(a, status);
    if (status == 204)
        http_respond(req, status, NULL, (struct bytes){NULL, 0});
    else
        http_respond_text(req, status, "%s", text);
}

/* What the engine could not do: 503 for what passes, so that senders keep the data and come again; a stock
 * Prometheus would drop it on anything below 500. */
static unsigned engine_status(enum err_code rc)
{
    switch (rc) {
    case ERR_LIMIT:
    case ERR_NO_MEMORY:
    case ERR_NO_SPACE:
    case ERR_BUSY:
    case ERR_SHUTDOWN: return 503;
    case ERR_INVALID: return 400;
    default: return 500;
    }
}

static void count_tenant(struct call *c, const char *name, const char *help, struct str tenant,
                         const char *extra, uint64_t n)
{
    if (n == 0) return;
    char label[TENANT_NAME_BYTES_MAX + 64], all[TENANT_NAME_BYTES_MAX + 128];
    metric_label(label, sizeof(label), "tenant", tenant);
    snprintf(all, sizeof(all), "%s%s%s", label, *extra ? "," : "", extra);
    metric_add(metric_counter(c->asked.rw->env.metrics, name, help, all), n);
}

static void count_request(struct call *c, struct tenant *tenant, size_t n_floats,
                          size_t n_histograms)
{
    struct str name = tenant_name(tenant);
    count_tenant(c, "quipu_ingest_samples_total", "Float samples taken in.", name, "", n_floats);
    count_tenant(c, "quipu_ingest_histograms_total", "Native histogram samples taken in.", name, "",
                 n_histograms);
    count_tenant(c, "quipu_ingest_exemplars_total", "Exemplars taken in.", name, "",
                 c->asked.n_exemplars);
    count_tenant(c, "quipu_ingest_exemplars_refused_total", "Exemplars that were not stored.", name,
                 "", c->w.exemplars_refused);
    for (int reason = 1; reason < REJECT_N; reason++) {
        char extra[64];
        snprintf(extra, sizeof(extra), "reason=\"%s\"",
                 reject_reason_name((enum reject_reason)reason));
        count_tenant(c, "quipu_ingest_rejected_samples_total", "Samples refused, by reason.", name,
                     extra, c->w.rejected[reason]);
    }
}

static void answer_problems(struct call *c)
{
    struct buf text;
    buf_init(&text, MEM_INGEST);
    size_t shown = MIN_OF(c->w.n_problems, (size_t)WRITE_PROBLEMS_SHOWN);
    for (size_t i = 0; i < shown; i++)
        buf_printf(&text, "%s%s", i ? "\n" : "", c->w.problems[i] ? c->w.problems[i] : "invalid");
    if (c->w.n_problems > shown)
        buf_printf(&text, "\nand %zu more; the rest of the request was stored",
                   c->w.n_problems - shown);
    buf_u8(&text, 0);
    answer(&c->asked, 400, text.failed ? "invalid series" : (const char *)text.p);
    buf_release(&text);
}

static void call_answer(struct call *c)
{
    char text[ERR_TEXT_BYTES + ERR_FILE_BYTES];
    if (c->stored_rc && c->err.code == ERR_OK)
        err_set(&c->err, c->stored_rc, "the log could not be written (%s)",
                err_code_name(c->stored_rc));
    if (c->err.code)
        answer(&c->asked, engine_status(c->err.code), err_describe(&c->err, text, sizeof(text)));
    else if (c->w.n_problems)
        answer_problems(c);
    else
        answer(&c->asked, 204, "");
}

static void call_finish(struct call *c)
{
    if (atomic_fetch_sub_explicit(&c->parties, 1, memory_order_acq_rel) == 1) call_answer(c);
}

/* On the committer thread. */
static void call_stored(void *arg, enum err_code rc)
{
    struct call *c = arg;
    c->stored_rc = rc;
    call_finish(c);
}

/* ---- storing ---- */

static void reject_times(struct call *c, struct tenant *tenant, const struct write_result *result)
{
    if (!result->first_bad) return;
    struct err why;
    char text[201];
    tenant_series_short(tenant, result->first_bad, c->w.arena, text, sizeof(text));
    if (result->first_bad_too_new)
        err_set(&why, ERR_INVALID,
                "out of bounds: timestamp is too far in the future: timestamp: %" PRId64
                " series: '%s' (err-quipu-too-far-in-future)",
                result->first_bad_t_ms, text);
    else
        err_set(&why, ERR_INVALID,
                "out of bounds: timestamp is too far in the past: timestamp: %" PRId64
                " series: '%s' (err-quipu-too-far-in-past)",
                result->first_bad_t_ms, text);
    size_t n = result->n_too_new + result->n_too_old;
    bool too_new = result->first_bad_too_new;
    write_request_reject(&c->w, too_new ? REJECT_TOO_NEW : REJECT_TOO_OLD, 0, &why);
    c->w.n_problems += n - 1;
    c->w.rejected[REJECT_TOO_NEW] += result->n_too_new;
    c->w.rejected[REJECT_TOO_OLD] += result->n_too_old;
}

/* Only 2.0 has a word for it. */
static void reject_exemplars(struct call *c, struct tenant *tenant,
                             const struct write_result *result)
{
    c->w.exemplars_refused += result->exemplars_unordered + result->exemplars_left_out;
    if (!result->first_unordered || !c->asked.v2) return;
    struct err why;
    char text[201];
    err_set(&why, ERR_INVALID, "out of order exemplar for series %s",
            tenant_series_short(tenant, result->first_unordered, c->w.arena, text, sizeof(text)));
    write_request_reject(&c->w, REJECT_NONE, 0, &why);
    c->w.n_problems += result->exemplars_unordered - 1;
}

/* Under the tenant's gate. After this the committer may be done with its part at any time; the call itself stays
 * until our own part ends. */
static void call_write(struct call *c, struct tenant *tenant)
{
    struct write_batch *b = &c->w.batch;
    struct write_result result = {0};
    if (b->n + b->n_histograms + b->n_exemplars == 0) return;
    atomic_fetch_add_explicit(&c->parties, 1, memory_order_relaxed);
    bool stored = tenant_write(tenant, b, call_stored, c, &result, &c->err) == ERR_OK;
    if (!stored) atomic_fetch_sub_explicit(&c->parties, 1, memory_order_relaxed);
    reject_times(c, tenant, &result);
    if (UNLIKELY(result.exemplars_unordered + result.exemplars_left_out))
        reject_exemplars(c, tenant, &result);
    /* The batch has been compacted to what was good. */
    c->asked.n_floats = stored ? b->n : 0;
    c->asked.n_histograms = stored ? b->n_histograms : 0;
    c->asked.n_exemplars = stored ? result.n_exemplars : 0;
    count_request(c, tenant, c->asked.n_floats, c->asked.n_histograms);
}

static enum err_code call_store(struct call *c, struct tenant *tenant, struct bytes message,
                                struct arena *space, struct err *err)
{
    struct series_source source = tenant_series_source(tenant);
    tenant_write_begin(tenant);
    write_request_init(&c->w, space, &c->asked.rw->config.labels, source);
    c->w.texts = &c->asked.req->arena; /* they are part of the answer */
    enum err_code rc = c->asked.v2 ? write_request_decode_v2(&c->w, message, err)
                                   : write_request_decode(&c->w, message, err);
    if (rc == ERR_OK) call_write(c, tenant);
    tenant_write_end(tenant);
    if (rc) return rc;
    const struct write_batch *b = &c->w.batch;
    if (b->n + b->n_histograms + b->n_exemplars == 0 && c->w.n_problems + c->w.exemplars_refused)
        count_request(c, tenant, 0, 0);
    /* Descriptions last: they may wait for the catalog, and only when they changed. */
    if (c->err.code == ERR_OK && c->w.n_metadata &&
        tenant_put_metadata(tenant, c->w.metadata, c->w.n_metadata, &c->err))
        return ERR_OK; /* the answer is c->err's */
    if (c->err.code == ERR_OK && c->w.add_rc) c->err = c->w.add_err;
    return ERR_OK;
}

/* ---- what the headers say ---- */

/* The next part of a header value up to `sep`, blanks trimmed. */
static struct str next_part(struct str *rest, char sep)
{
    const char *at = rest->len ? memchr(rest->p, sep, rest->len) : NULL;
    size_t len = at ? (size_t)(at - rest->p) : rest->len;
    struct str part = {rest->p, len};
    size_t skip = at ? len + 1 : len;
    rest->p += skip;
    rest->len -= skip;
    while (part.len && (part.p[0] == ' ' || part.p[0] == '\t')) part.p++, part.len--;
    while (part.len && (part.p[part.len - 1] == ' ' || part.p[part.len - 1] == '\t')) part.len--;
    return part;
}

static bool same_word(struct str s, const char *word)
{
    return s.len == strlen(word) && (s.len == 0 || strncasecmp(s.p, word, s.len) == 0);
}

/* Answers 415 and returns false. */
static bool PRINTF_LIKE(2, 3) unsupported(const struct asked *a, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    answer(a, 415, text);
    return false;
}

/* For %.*s: at most `max` bytes of a header. */
#define HEADER_ARG(s, max) (int)MIN_OF((s).len, (size_t)(max)), ((s).len ? (s).p : "")

static bool content_type_ok(struct asked *a)
{
    bool v2 = false;
    struct str all = http_header(a->req, "Content-Type", NULL), rest = all;
    if (!all.p || all.len == 0) return true;
    struct str media = next_part(&rest, ';');
    if (!same_word(media, "application/x-protobuf"))
        return unsupported(a,
                           "expected application/x-protobuf as the first (media) part, got %.*s "
                           "content-type",
                           HEADER_ARG(all, 200));
    while (rest.len) {
        struct str value = next_part(&rest, ';'), whole = value;
        struct str name = next_part(&value, '=');
        if (name.len == whole.len)
            return unsupported(
                a,
                "as per https://www.rfc-editor.org/rfc/rfc9110#parameter expected parameters "
                "to be key-values, got %.*s in %.*s content-type",
                STR_ARG(whole), STR_ARG(all));
        if (!same_word(name, "proto")) continue;
        v2 = str_eq(value, STR("io.prometheus.write.v2.Request"));
        if (!v2 && !str_eq(value, STR("prometheus.WriteRequest")))
            return unsupported(a,
                               "got %.*s content type; unknown remote write protobuf message %.*s, "
                               "supported: prometheus.WriteRequest, io.prometheus.write.v2.Request",
                               HEADER_ARG(all, 200), HEADER_ARG(value, 100));
    }
    a->v2 = v2; /* what was refused until here was not understood */
    return true;
}

/* zstd is what vmagent tries first. */
static bool encoding_ok(const struct asked *a)
{
    struct str encoding = http_header(a->req, "Content-Encoding", NULL);
    if (!encoding.p || encoding.len == 0 || same_word(encoding, "snappy") ||
        same_word(encoding, "zstd"))
        return true;
    return unsupported(a,
                       "%.*s encoding (compression) is not accepted by this server; only snappy is "
                       "acceptable",
                       HEADER_ARG(encoding, 100));
}

static bool tenant_ok(const struct asked *a, struct str *name)
{
    struct err err;
    if (tenant_of_request(a->req, name, &err) == ERR_OK) return true;
    answer(a, 400, err.text);
    return false;
}

/* Before any work on the body. */
static bool admit_ok(const struct asked *a)
{
    struct err err;
    if (engine_admit(a->rw->engine, ENGINE_WRITE, &err) == ERR_OK) return true;
    answer(a, 503, err.text);
    return false;
}

/* Before any work on the body. 429 only to a tenant that is over its own rate: what makes it wait is not the server. */
static bool tenant_may(const struct asked *a, struct str name)
{
    struct err err;
    struct tenant *tenant;
    int64_t retry_ms;
    if (engine_tenant(a->rw->engine, name, false, &tenant, &err) != ERR_OK) return true;
    enum err_code rc = tenant_admit(tenant, &retry_ms, &err);
    if (rc == ERR_OK) return true;
    if (rc == ERR_RATE) {
        char seconds[24];
        snprintf(seconds, sizeof(seconds), "%" PRId64, (retry_ms + 999) / 1000);
        http_set_header(a->req, "Retry-After", seconds);
    }
    answer(a, rc == ERR_RATE ? 429 : 503, err.text);
    return false;
}

/* By what the body is and not by what the header says: senders that changed from one to the other have queues with
 * bodies of both kinds. No snappy body begins like a zstd one. */
static bool body_ok(const struct asked *a, struct arena *space, struct bytes *message)
{
    struct err err;
    struct bytes body = a->req->body;
    size_t max = a->rw->config.message_bytes_max;
    enum err_code rc = zstd_is(body) ? zstd_decode(body, max, space, message, &err)
                                     : snappy_decode(body, max, space, message, &err);
    if (rc == ERR_OK) return true;
    answer(a, rc == ERR_NO_MEMORY ? 503 : 400, err.text);
    return false;
}

/* `space` is free for others when this returns, the answer may still be to come. */
static void handle_body(const struct asked *a, struct str tenant_name, struct arena *space,
                        int64_t start_ns)
{
    struct bytes message;
    struct tenant *tenant;
    struct err err;
    if (!body_ok(a, space, &message)) return;
    struct call *c = ARENA_NEW(&a->req->arena, struct call);
    if (!c) {
        answer(a, 503, "no memory for the request");
        return;
    }
    c->asked = *a;
    atomic_init(&c->parties, 1); /* ours */
    enum err_code rc = engine_tenant(a->rw->engine, tenant_name, true, &tenant, &c->err);
    if (rc) {
        call_finish(c);
        return;
    }
    rc = call_store(c, tenant, message, space, &err);
    metric_observe(a->rw->decode_seconds,
                   (double)(clock_mono_ns(a->rw->env.clock) - start_ns) / 1e9);
    if (rc == ERR_OK)
        call_finish(c);
    else /* malformed, or larger than any request may be: nothing was stored */
        answer(a, rc == ERR_INVALID ? 400 : rc == ERR_LIMIT ? 413 : 503, err.text);
}

void remote_write_handle(void *ctx, struct http_request *req)
{
    struct remote_write *rw = ctx;
    struct asked a = {.rw = rw, .req = req};
    int64_t start_ns = clock_mono_ns(rw->env.clock);
    struct str name;
    req->arena.budget_bytes = rw->config.memory_bytes_max;
    req->arena.owner = MEM_INGEST; /* whose limit bounds all requests at work */
    if (!content_type_ok(&a)) return;
    if (!admit_ok(&a) || !encoding_ok(&a) || !tenant_ok(&a, &name)) return;
    if (!tenant_may(&a, name)) return;
    struct workspace *space = workspace_take(rw);
    if (!space) {
        answer(&a, 503, "no memory for the request");
        return;
    }
    handle_body(&a, name, &space->arena, start_ns);
    workspace_give(rw, space);
}

void remote_write_handle_get(void *ctx, struct http_request *req)
{
    struct http_params params;
    struct err err;
    (void)ctx;
    if (http_params(req, &params, &err) == ERR_OK &&
        http_param(&params, "get_vm_proto_version").p) {
        http_respond(req, 200, "text/plain; charset=utf-8", bytes_of("1", 1));
        return;
    }
    http_set_header(req, "Allow", "GET, OPTIONS, POST");
    http_respond_text(req, 405, "Method Not Allowed");
}
