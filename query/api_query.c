/* /query, /query_range, and what looks at an expression without running it. */
#include <math.h>

#include "base/metric.h"
#include "query/api_private.h"
#include "query/number.h"

enum query_kind { QUERY_INSTANT, QUERY_RANGE };

struct query_call {
    struct api_call call;
    struct query_request request;
    enum query_kind kind;
    struct query_limits limits;
    struct active_query active;
    struct buf plan_short; /* for the log of slow queries */
    size_t limit;
    int64_t timeout_ms; /* as asked for, at most the configured one */
};

/* --- parameters ------------------------------------------------------------------------------------ */

/* timeout and lookback_delta, which both kinds of query take in this order */
static bool read_limits(struct query_call *q, const struct query_limits *limits)
{
    struct api_call *call = &q->call;
    int64_t ms;
    q->timeout_ms = limits->timeout_ms;
    if (http_param(&call->params, "timeout").len) {
        if (!api_duration(call, "timeout", "invalid parameter \"timeout\": ", &ms)) return false;
        q->timeout_ms = MIN_OF(q->timeout_ms, ms);
    }
    if (http_param(&call->params, "lookback_delta").len) {
        if (!api_duration(call, "lookback_delta", "error parsing lookback delta duration: ", &ms))
            return false;
        q->request.lookback_ms = MAX_OF(ms, INT64_C(0)); /* 0: the server's */
    }
    struct str explain = http_param(&call->params, "explain");
    if (explain.len)
        q->request.explain = str_eq(explain, STR("estimate")) ? EXPLAIN_ESTIMATE : EXPLAIN_RUN;
    q->request.text = http_param(&call->params, "query");
    if (!q->request.text.p) q->request.text = STR("");
    return true;
}

static bool read_instant(struct query_call *q, const struct query_limits *limits)
{
    struct api_call *call = &q->call;
    int64_t now_ms = clock_wall_ms(call->api->env.clock);
    if (!api_limit(call, &q->limit)) return false;
    if (!api_optional_time(call, "time", now_ms, &q->request.start_ms)) return false;
    q->request.end_ms = q->request.start_ms;
    return read_limits(q, limits);
}

static bool read_range(struct query_call *q, const struct query_limits *limits)
{
    struct api_call *call = &q->call;
    struct query_request *r = &q->request;
    if (!api_limit(call, &q->limit)) return false;
    if (!api_time(call, "start", &r->start_ms) || !api_time(call, "end", &r->end_ms)) return false;
    if (r->end_ms < r->start_ms) {
        api_error(call, API_BAD_DATA,
                  "invalid parameter \"end\": end timestamp must not be before start time");
        return false;
    }
    if (!api_duration(call, "step", "invalid parameter \"step\": ", &r->step_ms)) return false;
    if (r->step_ms <= 0) {
        api_error(call, API_BAD_DATA,
                  "invalid parameter \"step\": zero or negative query resolution step widths are "
                  "not accepted. Try a positive integer");
        return false;
    }
    if ((r->end_ms - r->start_ms) / r->step_ms >= QUERY_STEPS_MAX) {
        api_error(call, API_BAD_DATA,
                  "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the "
                  "query resolution (?step=XX)");
        return false;
    }
    return read_limits(q, limits);
}

/* --- running --------------------------------------------------------------------------------------- */

static bool is_gone(void *req)
{
    return http_gone(req);
}

/* Of any of its tenants. */
static enum err_code check_blocked(struct query_call *q)
{
    struct api_call *call = &q->call;
    struct query_api *api = call->api;
    enum err_code rc = ERR_OK;
    rwlock_read(&api->blocked_lock);
    for (size_t i = 0; !rc && api->blocked && i < call->n_tenants; i++) {
        const struct blocked_query *b =
            blocked_find(api->blocked, call->tenants[i], q->request.text);
        if (!b) continue;
        atomic_store_explicit(&q->active.progress.limit, LIMIT_BLOCKED, memory_order_relaxed);
        rc = err_set(&call->err, ERR_EXECUTION, "the query is blocked by query.blocked%s%.*s",
                     b->reason.len ? ": " : "", STR_ARG(b->reason));
    }
    rwlock_release(&api->blocked_lock);
    return rc;
}

/* The time the request waited for a thread counts. ERR_TIMEOUT: nothing is left. */
static enum err_code run(struct query_call *q, struct query_limits limits,
                         struct query_result **out)
{
    struct api_call *call = &q->call;
    struct clock *clock = call->api->env.clock;
    int64_t waited_ms = (clock_mono_ns(clock) - call->req->start_mono_ns) / 1000000;
    limits.timeout_ms = q->timeout_ms - MAX_OF(waited_ms, INT64_C(0));
    *out = NULL;
    if (limits.timeout_ms <= 0)
        return err_set(&call->err, ERR_TIMEOUT, "query timed out in expression evaluation");
    struct query_env env = {.source = call->source,
                            .clock = clock,
                            .pool = call->api->config.pool,
                            .limits = limits,
                            .canceled = is_gone,
                            .canceled_ctx = call->req,
                            .tenant = call->tenant,
                            .progress = &q->active.progress,
                            .plan_short = limits.slow_ms ? &q->plan_short : NULL};
    struct query_api *api = call->api;
    int64_t fresh_ms = atomic_load_explicit(&api->cache_fresh_ms, memory_order_relaxed);
    bool cached = !http_param(&call->params, "nocache").len;
    return result_cache_run(cached ? api->cache : NULL, clock_wall_ms(clock) - fresh_ms, &env,
                            &q->request, out, &call->err);
}

static void put_seconds(struct buf *out, const char *name, int64_t ns)
{
    char text[NUMBER_BYTES_MAX];
    size_t n = number_print_plain(text, (double)ns / 1e9);
    buf_printf(out, "\"%s\":%.*s", name, (int)n, text);
}

static void put_stats(struct buf *out, const struct query_stats *s, int64_t queued_ns)
{
    buf_text(out, STR(",\"stats\":{\"timings\":{"));
    put_seconds(out, "evalTotalTime", s->eval_ns);
    buf_text(out, STR(",\"resultSortTime\":0,"));
    put_seconds(out, "queryPreparationTime", s->parse_ns + s->select_ns);
    buf_u8(out, ',');
    put_seconds(out, "innerEvalTime", s->eval_ns);
    buf_u8(out, ',');
    put_seconds(out, "execQueueTime", queued_ns);
    buf_u8(out, ',');
    put_seconds(out, "execTotalTime", queued_ns + s->total_ns);
    buf_printf(out, "},\"samples\":{\"totalQueryableSamples\":%llu,\"peakSamples\":%llu}",
               (unsigned long long)s->samples, (unsigned long long)s->samples_peak);
    if (s->steps_cached)
        buf_printf(out, ",\"cache\":{\"steps\":%llu}", (unsigned long long)s->steps_cached);
    buf_u8(out, '}');
}

static void answer(struct query_call *q, struct query_result *result, int64_t queued_ns)
{
    struct api_call *call = &q->call;
    bool wants_stats = http_param(&call->params, "stats").len > 0;
    if (q->limit && result->n_series > q->limit)
        notes_add_plain(&result->notes, NOTE_WARNING, "results truncated due to limit");
    api_success(call);
    api_put_result(call, result, q->limit);
    if (wants_stats) put_stats(&call->out, &result->stats, MAX_OF(queued_ns, INT64_C(0)));
    if (result->explain.p) {
        buf_text(&call->out, STR(",\"explain\":"));
        buf_text(&call->out, result->explain);
    }
    buf_u8(&call->out, '}');
    api_finish(call, &result->notes, q->request.text);
}

/* Before the first byte goes out: an answer that is cut off says nothing. */
static enum err_code check_response(struct query_call *q, const struct query_result *result)
{
    struct api_call *call = &q->call;
    uint64_t max = q->limits.response_bytes_max, bytes;
    if (!max || !api_result_exceeds(call, result, q->limit, max, &bytes)) return ERR_OK;
    struct limit_breach breach = {LIMIT_RESPONSE, "the answer is too long", bytes, max,
                                  call->tenant};
    return query_limit_error(&breach, &q->active.progress, &call->err);
}

/* Returns the index of the outcome for the metric; `result` is NULL after an error. */
static size_t run_and_answer(struct query_call *q, struct query_result **result)
{
    struct api_call *call = &q->call;
    int64_t queued_ns = q->active.since_ns - call->req->start_mono_ns;
    enum err_code rc = check_blocked(q);
    if (!rc) rc = run(q, q->limits, result);
    if (!rc) metric_add(call->api->samples, (*result)->stats.samples);
    if (!rc) rc = check_response(q, *result);
    if (rc) return api_error_of(call, &call->err, "invalid parameter \"query\": ");
    answer(q, *result, queued_ns);
    return API_ERRORS_N;
}

/* --- what is kept of it ------------------------------------------------------------------------------ */

#define SLOW_TEXT_BYTES_MAX 1000

static void log_slow(const struct query_call *q, const struct query_record *r,
                     const struct query_stats *s, size_t outcome)
{
    const struct api_call *call = &q->call;
    const struct query_request *request = &q->request;
    struct str text = {r->text.p, MIN_OF(r->text.len, (size_t)SLOW_TEXT_BYTES_MAX)};
    struct str plan = str_from_bytes(buf_bytes(&q->plan_short));
    plan.len = MIN_OF(plan.len, (size_t)SLOW_TEXT_BYTES_MAX);
    double queued = (double)(q->active.since_ns - call->req->start_mono_ns) / 1e9;
    log_msg(
        call->api->env.log, LOG_WARN, "slow query", LOG_STR("tenant", r->tenant),
        LOG_STR("query", text), LOG_CSTR("kind", r->is_range ? "range" : "instant"),
        LOG_DOUBLE("start", (double)request->start_ms / 1000),
        LOG_DOUBLE("end", (double)request->end_ms / 1000),
        LOG_DOUBLE("step", (double)request->step_ms / 1000), LOG_DOUBLE("seconds", r->seconds),
        LOG_DOUBLE("queued", MAX_OF(queued, 0.0)), LOG_DOUBLE("parse", (double)s->parse_ns / 1e9),
        LOG_DOUBLE("select", (double)s->select_ns / 1e9),
        LOG_DOUBLE("evaluate", (double)s->eval_ns / 1e9), LOG_U64("series", r->series),
        LOG_U64("samples", r->samples), LOG_U64("peak_samples", s->samples_peak),
        LOG_U64("memory",
                atomic_load_explicit(&q->active.progress.memory_bytes, memory_order_relaxed)),
        LOG_U64("cached_steps", s->steps_cached), LOG_U64("bytes", call->n_sent + call->out.len),
        LOG_STR("plan", plan), LOG_CSTR("outcome", api_outcome_name(outcome)));
}

static void keep_record(struct query_call *q, const struct query_stats *stats, size_t outcome)
{
    struct query_api *api = q->call.api;
    struct query_progress *p = &q->active.progress;
    struct query_record r = {.tenant = q->active.tenant,
                             .text = q->request.text,
                             .is_range = q->kind == QUERY_RANGE,
                             .failed = outcome != API_ERRORS_N,
                             .at_ms = q->active.since_ms,
                             .seconds =
                                 (double)(clock_mono_ns(api->env.clock) - q->active.since_ns) / 1e9,
                             .samples = atomic_load_explicit(&p->samples, memory_order_relaxed),
                             .series = atomic_load_explicit(&p->series, memory_order_relaxed)};
    enum query_limit limit = atomic_load_explicit(&p->limit, memory_order_relaxed);
    metric_inc(api->queries[q->kind][outcome]);
    metric_observe(api->seconds[q->kind], r.seconds);
    query_tenants_note(&api->tenants, &r, q->call.known, limit);
    if (q->call.known) top_note(&api->top, &r);
    if (q->limits.slow_ms && r.seconds * 1000 >= (double)q->limits.slow_ms)
        log_slow(q, &r, stats, outcome);
}

static void begin_active(struct query_call *q)
{
    struct query_api *api = q->call.api;
    q->active.tenant = q->call.tenant;
    if (q->call.n_tenants > 1) /* as it was asked for */
        q->active.tenant = http_header(q->call.req, "X-Scope-OrgID", NULL);
    q->active.text = q->request.text;
    q->active.is_range = q->kind == QUERY_RANGE;
    q->active.start_ms = q->request.start_ms;
    q->active.end_ms = q->request.end_ms;
    q->active.step_ms = q->request.step_ms;
    active_begin(&api->active, &q->active);
    if (q->call.known)
        query_progress_share(&q->active.progress,
                             query_tenants_memory(&api->tenants, q->active.tenant));
}

static void on_query(struct query_api *api, struct http_request *req, enum query_kind kind)
{
    struct query_call q = {.kind = kind};
    struct query_result *result = NULL;
    struct query_stats stats = {0};
    size_t outcome = API_BAD_DATA;
    q.active.since_ns = clock_mono_ns(api->env.clock);
    q.active.since_ms = clock_wall_ms(api->env.clock);
    query_progress_init(&q.active.progress);
    buf_init(&q.plan_short, MEM_QUERY);
    if (!api_begin(&q.call, api, req)) return;
    q.limits = api_limits(&q.call);
    bool fine = kind == QUERY_RANGE ? read_range(&q, &q.limits) : read_instant(&q, &q.limits);
    if (fine && api_source(&q.call)) {
        begin_active(&q);
        outcome = run_and_answer(&q, &result);
        active_end(&api->active, &q.active);
    }
    if (result) stats = result->stats;
    query_result_free(result);
    query_progress_release(&q.active.progress);
    keep_record(&q, &stats, outcome);
    buf_release(&q.plan_short);
    api_end(&q.call);
}

void api_on_query(void *ctx, struct http_request *req)
{
    on_query(ctx, req, QUERY_INSTANT);
}

void api_on_query_range(void *ctx, struct http_request *req)
{
    on_query(ctx, req, QUERY_RANGE);
}

/* --- expressions ----------------------------------------------------------------------------------- */

/* False: answered with the error. */
bool api_parse_query(struct api_call *call, const char *prefix, struct parse_result *out)
{
    struct str text = http_param(&call->params, "query");
    if (!text.p) text = STR("");
    if (!parse_expr(text, call->arena, out, &call->err)) return true;
    if (call->err.code == ERR_LIMIT) call->err.code = ERR_INVALID; /* nothing runs here */
    api_error_of(call, &call->err, prefix);
    return false;
}

static void on_expression(struct query_api *api, struct http_request *req, bool as_tree)
{
    struct api_call call;
    struct parse_result parsed;
    if (!api_begin(&call, api, req)) return;
    if (api_parse_query(&call, "invalid parameter \"query\": ", &parsed)) {
        api_success(&call);
        if (as_tree) {
            ast_print_json(parsed.root, &call.out);
        } else {
            struct buf text;
            buf_init(&text, MEM_QUERY);
            ast_print_pretty(parsed.root, &text);
            json_string_html(&call.out, str_from_bytes(buf_bytes(&text)));
            call.out.failed |= text.failed;
            buf_release(&text);
        }
        parse_release(&parsed);
        api_finish(&call, NULL, STR(""));
    }
    api_end(&call);
}

void api_on_format_query(void *ctx, struct http_request *req)
{
    on_expression(ctx, req, false);
}

void api_on_parse_query(void *ctx, struct http_request *req)
{
    on_expression(ctx, req, true);
}
