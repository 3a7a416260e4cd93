/* query/eval.c: a query from text to result: parse, plan, run the operators, collect what they yield. */
#include "query/eval.h"

#include <stdlib.h>

#include "query/eval_labels.h"
#include "query/eval_op.h"
#include "query/explain.h"
#include "query/parser.h"
#include "query/rate_windows.h"
#include "query/regex.h"

/* ---- collecting: series of operators to series of the result ---- */

struct collector {
    struct eval *eval;
    struct query_result *result;
    struct grid grid;
    const int64_t *grid_times; /* shared by all series that have a point at every step */
    /* Neighbours often lack the same steps: then they share these. */
    uint64_t *some_present; /* NULL: not made yet */
    const int64_t *some_times;
    size_t cap;
};

static enum err_code result_no_memory(const struct query_result *result, struct err *err)
{
    return arena_fail(&result->arena, err);
}

static enum err_code result_push(struct collector *c, const struct result_series *s,
                                 struct err *err)
{
    struct query_result *result = c->result;
    if (result->n_series == c->cap) {
        size_t cap = MAX_OF(c->cap * 2, (size_t)16);
        struct result_series *series = ARENA_ARRAY(&result->arena, struct result_series, cap);
        if (!series) return result_no_memory(result, err);
        if (result->n_series) memcpy(series, result->series, result->n_series * sizeof(*series));
        result->series = series;
        c->cap = cap;
    }
    result->series[result->n_series++] = *s;
    return ERR_OK;
}

static enum err_code make_grid_times(struct collector *c, struct err *err)
{
    int64_t *times = ARENA_ARRAY(&c->result->arena, int64_t, c->grid.n);
    if (!times) return result_no_memory(c->result, err);
    for (size_t i = 0; i < c->grid.n; i++) times[i] = grid_time(&c->grid, i);
    c->grid_times = times;
    return ERR_OK;
}

static enum err_code collect_labels(struct collector *c, struct labels in, bool drop_name,
                                    struct labels *out, struct err *err)
{
    struct labels kept = in;
    enum err_code rc = drop_name ? labels_without_name(c->eval->arena, in, &kept, err) : ERR_OK;
    return rc ? rc : labels_copy(&c->result->arena, kept, out, err);
}

static enum err_code collect_histograms(struct collector *c, const struct eval_series *s, size_t n,
                                        struct histogram *const **out, struct err *err)
{
    struct histogram **h = ARENA_ARRAY(&c->result->arena, struct histogram *, n);
    if (!h) return result_no_memory(c->result, err);
    const struct histogram *last = NULL;
    struct histogram *copy = NULL;
    size_t k = 0;
    BITMAP_EACH(step, s->present, c->grid.n)
    {
        const struct histogram *in = s->h[step];
        if (in && in != last) {
            enum err_code rc = histogram_copy(&c->result->arena, in, &copy, err);
            if (rc) return rc;
            last = in;
        }
        h[k++] = in ? copy : NULL;
    }
    *out = h;
    return ERR_OK;
}

/* The times of a series that has points at n of the steps. */
static enum err_code some_times(struct collector *c, const struct eval_series *s, size_t n,
                                const int64_t **out, struct err *err)
{
    size_t n_words = bitmap_words(c->grid.n), bytes = n_words * sizeof(*s->present);
    if (c->some_present && memcmp(c->some_present, s->present, bytes) == 0) {
        *out = c->some_times;
        return ERR_OK;
    }
    if (!c->some_present) c->some_present = EVAL_ARRAY(c->eval, uint64_t, n_words);
    if (!c->some_present) return eval_no_memory(c->eval, err);
    int64_t *t_ms = ARENA_ARRAY(&c->result->arena, int64_t, n);
    if (!t_ms) return result_no_memory(c->result, err);
    size_t k = 0;
    BITMAP_EACH(step, s->present, c->grid.n) t_ms[k++] = c->grid_times[step];
    memcpy(c->some_present, s->present, bytes);
    *out = c->some_times = t_ms;
    return ERR_OK;
}

static enum err_code collect_series(struct collector *c, const struct eval_series *s,
                                    struct err *err)
{
    struct arena *arena = &c->result->arena;
    size_t n = bitmap_count(s->present, c->grid.n);
    struct result_series out = {.n = n};
    double *v = ARENA_ARRAY(arena, double, n);
    if (!v) return result_no_memory(c->result, err);
    out.v = v;
    if (n == c->grid.n) {
        out.t_ms = c->grid_times;
        memcpy(v, s->v, n * sizeof(*v));
    } else {
        enum err_code rc = some_times(c, s, n, &out.t_ms, err);
        if (rc) return rc;
        size_t k = 0;
        BITMAP_EACH(step, s->present, c->grid.n) v[k++] = s->v[step];
    }
    enum err_code rc = s->h ? collect_histograms(c, s, n, &out.h, err) : ERR_OK;
    if (!rc) rc = collect_labels(c, s->labels, s->drop_name, &out.labels, err);
    return rc ? rc : result_push(c, &out, err);
}

static enum err_code collect_vector(struct collector *c, const struct plan *plan, struct err *err)
{
    struct op *op;
    enum err_code rc = make_grid_times(c, err);
    if (!rc) rc = op_open(c->eval, plan, &op, err);
    while (!rc) {
        struct eval_batch batch;
        rc = op_next(op, &batch, err);
        if (rc || !batch.n) break;
        for (size_t i = 0; i < batch.n && !rc; i++) rc = collect_series(c, &batch.items[i], err);
        if (!rc) rc = eval_poll(c->eval, err);
    }
    return rc;
}

static enum err_code collect_scalar_series(struct collector *c, const struct plan *plan,
                                           struct err *err)
{
    const double *column;
    enum err_code rc = make_grid_times(c, err);
    if (!rc) rc = eval_scalar(c->eval, plan, &column, err);
    if (rc) return rc;
    double *v = ARENA_ARRAY(&c->result->arena, double, c->grid.n);
    if (!v) return result_no_memory(c->result, err);
    memcpy(v, column, c->grid.n * sizeof(*v));
    return result_push(c, &(struct result_series){.n = c->grid.n, .t_ms = c->grid_times, .v = v},
                       err);
}

/* ---- range vectors as results ---- */

/* The samples of one series in the window, without staleness markers. */
static enum err_code collect_samples(struct collector *c, struct samples *samples,
                                     const struct plan *range, struct labels labels, bool drop_name,
                                     struct err *err)
{
    struct arena *arena = &c->result->arena;
    samples_drop_stale(samples);
    int64_t end_ms = window_end(&range->window, &range->grid, 0);
    int64_t start_ms = end_ms - range->window.range_ms;
    size_t lo = 0, hi = samples->n;
    while (lo < hi && samples->t_ms[lo] <= start_ms) lo++;
    while (hi > lo && samples->t_ms[hi - 1] > end_ms) hi--;
    size_t n = hi - lo;
    if (!n) return ERR_OK;
    int64_t *t_ms = ARENA_ARRAY(arena, int64_t, n);
    double *v = ARENA_ARRAY(arena, double, n);
    struct histogram **h = samples->h ? ARENA_ARRAY(arena, struct histogram *, n) : NULL;
    if (!t_ms || !v || (samples->h && !h)) return result_no_memory(c->result, err);
    memcpy(t_ms, samples->t_ms + lo, n * sizeof(*t_ms));
    memcpy(v, samples->v + lo, n * sizeof(*v));
    enum err_code rc = ERR_OK;
    for (size_t i = 0; h && i < n && !rc; i++)
        if (samples->h[lo + i]) rc = histogram_copy(arena, samples->h[lo + i], &h[i], err);
    struct result_series out = {.n = n, .t_ms = t_ms, .v = v, .h = h};
    if (!rc) rc = eval_count_samples(c->eval, n, err);
    if (!rc) rc = collect_labels(c, labels, drop_name, &out.labels, err);
    return rc ? rc : result_push(c, &out, err);
}

static enum err_code collect_selected(struct collector *c, const struct plan *range,
                                      struct eval_scratch *scratch, struct err *err)
{
    const struct query_source_ops *source = c->eval->env->source->ops;
    struct source_select *select;
    enum err_code rc = eval_select(c->eval, range, false, &select, err);
    if (rc) return rc;
    for (size_t i = 0; i < source->count(select) && !rc; i++) {
        eval_scratch_begin_series(scratch);
        rc = source->read(select, i, range->mint_ms, range->maxt_ms, &scratch->samples, err);
        c->eval->stats.samples += scratch->samples.n;
        if (!rc)
            rc =
                collect_samples(c, &scratch->samples, range, source->labels(select, i), false, err);
        if (!rc) rc = eval_poll(c->eval, err);
    }
    return rc;
}

static enum err_code collect_subquery(struct collector *c, const struct plan *range,
                                      struct eval_scratch *scratch, struct err *err)
{
    struct op *op;
    enum err_code rc = op_open(c->eval, range->args[0], &op, err);
    while (!rc) {
        struct eval_batch batch;
        rc = op_next(op, &batch, err);
        if (rc || !batch.n) break;
        for (size_t i = 0; i < batch.n && !rc; i++) {
            const struct eval_series *s = &batch.items[i];
            rc = subquery_samples(s, &range->args[0]->grid, scratch, err);
            if (!rc)
                rc = collect_samples(c, &scratch->samples, range, s->labels, s->drop_name, err);
        }
        if (!rc) rc = eval_poll(c->eval, err);
    }
    return rc;
}

static enum err_code collect_range(struct collector *c, const struct plan *range, struct err *err)
{
    struct eval_workers workers;
    enum err_code rc = eval_workers_new(c->eval, &workers, err);
    if (rc) return rc;
    eval_workers_reset(c->eval, &workers);
    return range->kind == PLAN_SUBQUERY ? collect_subquery(c, range, workers.items[0], err)
                                        : collect_selected(c, range, workers.items[0], err);
}

/* ---- order, and series that became equal ---- */

static int compare_series(const void *a, const void *b)
{
    const struct result_series *x = a, *y = b;
    int c = labels_cmp(x->labels, y->labels);
    if (c) return c;
    /* Of equal ones any order will do, as long as it is the same each time. */
    return (x->t_ms[0] > y->t_ms[0]) - (x->t_ms[0] < y->t_ms[0]);
}

/* Two series with equal labels in one; they must not meet. */
static enum err_code merge_pair(struct query_result *result, const struct result_series *a,
                                const struct result_series *b, struct result_series *out,
                                struct err *err)
{
    size_t n = a->n + b->n;
    int64_t *t_ms = ARENA_ARRAY(&result->arena, int64_t, n);
    double *v = ARENA_ARRAY(&result->arena, double, n);
    bool histograms = a->h || b->h;
    struct histogram **h = histograms ? ARENA_ARRAY(&result->arena, struct histogram *, n) : NULL;
    if (!t_ms || !v || (histograms && !h)) return result_no_memory(result, err);
    size_t i = 0, k = 0;
    for (size_t m = 0; m < n; m++) {
        if (i < a->n && k < b->n && a->t_ms[i] == b->t_ms[k]) return eval_same_labelset(err);
        bool first = k == b->n || (i < a->n && a->t_ms[i] < b->t_ms[k]);
        const struct result_series *from = first ? a : b;
        size_t at = first ? i++ : k++;
        t_ms[m] = from->t_ms[at];
        v[m] = from->v[at];
        if (h) h[m] = from->h ? from->h[at] : NULL;
    }
    *out = (struct result_series){a->labels, n, t_ms, v, h};
    return ERR_OK;
}

static enum err_code sort_and_merge(struct query_result *result, struct err *err)
{
    struct result_series *series = result->series;
    if (result->n_series < 2) return ERR_OK;
    qsort(series, result->n_series, sizeof(*series), compare_series);
    size_t n = 1;
    for (size_t i = 1; i < result->n_series; i++) {
        if (!labels_eq(series[n - 1].labels, series[i].labels)) {
            series[n++] = series[i];
            continue;
        }
        enum err_code rc = merge_pair(result, &series[n - 1], &series[i], &series[n - 1], err);
        if (rc) return rc;
    }
    result->n_series = n;
    return ERR_OK;
}

/* Instant vectors keep their order. */
static enum err_code check_distinct(struct eval *eval, const struct query_result *result,
                                    struct err *err)
{
    struct key_table table;
    key_table_init(&table, eval);
    for (size_t i = 0; i < result->n_series; i++) {
        uint32_t id;
        bool added;
        enum err_code rc = key_table_labels(&table, result->series[i].labels, &id, &added, err);
        if (rc) return rc;
        if (!added) return eval_same_labelset(err);
    }
    return ERR_OK;
}

/* ---- the query ---- */

static enum err_code run_instant(struct eval *eval, const struct plan *plan,
                                 struct query_result *result, struct err *err)
{
    struct collector c = {.eval = eval, .result = result, .grid = plan->grid};
    result->type = plan->type;
    result->t_ms = eval->start_ms;
    if (plan->type == VALUE_STRING) {
        result->string = arena_str(&result->arena, plan->text);
        return result->string.p ? ERR_OK : result_no_memory(result, err);
    }
    if (plan->type == VALUE_SCALAR) {
        const double *column;
        enum err_code rc = eval_scalar(eval, plan, &column, err);
        if (!rc) result->scalar = column[0];
        return rc;
    }
    if (plan->type == VALUE_MATRIX) {
        enum err_code rc = collect_range(&c, plan, err);
        return rc ? rc : sort_and_merge(result, err);
    }
    enum err_code rc = collect_vector(&c, plan, err);
    return rc ? rc : check_distinct(eval, result, err);
}

static enum err_code run_range(struct eval *eval, const struct plan *plan,
                               struct query_result *result, struct err *err)
{
    struct collector c = {.eval = eval, .result = result, .grid = plan->grid};
    result->type = VALUE_MATRIX;
    if (plan->type == VALUE_SCALAR) return collect_scalar_series(&c, plan, err);
    enum err_code rc = collect_vector(&c, plan, err);
    return rc ? rc : sort_and_merge(result, err);
}

static enum err_code check_request(const struct query_request *request, const struct node *root,
                                   struct err *err)
{
    if (!request->step_ms) return ERR_OK;
    if (root->type != VALUE_SCALAR && root->type != VALUE_VECTOR)
        return err_set(err, ERR_INVALID,
                       "invalid expression type \"%s\" for range query, must be Scalar or "
                       "instant Vector",
                       value_type_name(root->type));
    return ERR_OK;
}

static enum err_code check_times(const struct query_request *request, struct err *err)
{
    if (request->step_ms < 0)
        return err_set(err, ERR_INVALID,
                       "zero or negative query resolution step widths are not accepted. Try a "
                       "positive integer");
    if (request->end_ms < request->start_ms)
        return err_set(err, ERR_INVALID, "end timestamp must not be before start time");
    int64_t range_ms;
    bool overflows = __builtin_sub_overflow(request->end_ms, request->start_ms, &range_ms);
    if (request->step_ms && (overflows || range_ms / request->step_ms >= QUERY_STEPS_MAX))
        return err_set(err, ERR_INVALID,
                       "exceeded maximum resolution of 11,000 points per timeseries. Try "
                       "decreasing the query resolution (?step=XX)");
    return ERR_OK;
}

static bool any_over_budget(const struct eval *eval)
{
    if (eval->arena->over_budget || eval->result_arena->over_budget) return true;
    for (const struct eval_scratch *s = eval->scratches; s; s = s->next)
        if (s->arena.over_budget || s->series_arena.over_budget) return true;
    return false;
}

static void eval_release(struct eval *eval)
{
    eval->over_budget = any_over_budget(eval);
    for (struct eval_scratch *s = eval->scratches; s; s = s->next)
        if (s->reader) eval->env->source->ops->reader_free(s->reader);
    eval_release_selects(eval);
    for (struct eval_regex *r = eval->regexes; r; r = r->next) regex_free(r->regex);
    for (struct eval_scratch *s = eval->scratches; s; s = s->next) {
        samples_release(&s->samples);
        rate_cache_free(s->rates);
        arena_release(&s->series_arena);
        arena_release(&s->arena);
    }
    buf_release(&eval->text_buf);
}

static enum err_code estimate_plan(struct eval *eval, struct plan *plan, struct err *err)
{
    struct plan_cost cost;
    enum err_code rc = explain_attach(eval->arena, plan, err);
    return rc ? rc : cost_estimate(eval->env->source, plan, &cost, err);
}

static enum err_code print_plan(const struct plan *plan, const struct query_request *request,
                                struct query_result *result, struct err *err)
{
    struct buf text;
    buf_init(&text, MEM_QUERY);
    explain_print(plan, request->text, &text);
    enum err_code rc = buf_finish(&text, err);
    if (!rc) result->explain = arena_str(&result->arena, str_from_bytes(buf_bytes(&text)));
    if (!rc && !result->explain.p) rc = result_no_memory(result, err);
    buf_release(&text);
    return rc;
}

static enum err_code run_plan(struct eval *eval, const struct query_request *request,
                              const struct plan *plan, struct query_result *result, struct err *err)
{
    if (request->explain == EXPLAIN_ESTIMATE) {
        result->type = request->step_ms ? VALUE_MATRIX : VALUE_VECTOR;
        return ERR_OK;
    }
    enum err_code rc = cost_check(eval->env->source, plan, &eval->env->limits, eval->env->tenant,
                                  eval->env->progress, err);
    if (rc) return rc;
    return request->step_ms ? run_range(eval, plan, result, err)
                            : run_instant(eval, plan, result, err);
}

static enum err_code evaluate(struct eval *eval, const struct query_request *request,
                              struct node *root, struct query_result *result, struct err *err)
{
    struct plan_context ctx = {.arena = eval->arena,
                               .start_ms = request->start_ms,
                               .end_ms = request->end_ms,
                               .step_ms = request->step_ms,
                               .lookback_ms = eval->lookback_ms,
                               .subquery_step_ms = eval->env->limits.subquery_step_ms};
    struct plan *plan;
    enum err_code rc = plan_make(&ctx, root, &plan, err);
    if (rc) return rc;
    if (eval->env->plan_short) explain_short(plan, eval->env->plan_short);
    if (request->explain) rc = estimate_plan(eval, plan, err);
    if (!rc) rc = run_plan(eval, request, plan, result, err);
    if (!rc && request->explain) rc = print_plan(plan, request, result, err);
    return rc;
}

static enum err_code run_text(struct eval *eval, const struct query_request *request,
                              struct query_result *result, struct err *err)
{
    int64_t start_ns = clock_mono_ns(eval->env->clock);
    struct parse_result parsed = {0};
    enum err_code rc = parse_expr(request->text, eval->arena, &parsed, err);
    int64_t parsed_ns = clock_mono_ns(eval->env->clock);
    eval->stats.parse_ns = parsed_ns - start_ns;
    if (!rc) rc = check_request(request, parsed.root, err);
    if (!rc) rc = evaluate(eval, request, parsed.root, result, err);
    eval_release(eval);
    parse_release(&parsed);
    int64_t end_ns = clock_mono_ns(eval->env->clock);
    eval->stats.eval_ns = end_ns - parsed_ns - eval->stats.select_ns;
    eval->stats.total_ns = end_ns - start_ns;
    return rc;
}

/* Budgets of single arenas are shares of the query's: only the whole one means anything to the user. */
static enum err_code name_limit(struct eval *eval, enum err_code rc, struct err *err)
{
    if (rc != ERR_LIMIT || !eval->over_budget) return rc;
    uint64_t max = eval->tightest == LIMIT_TENANT_MEMORY ? eval->env->limits.tenant_memory_bytes_max
                                                         : eval->env->limits.memory_bytes_max;
    return eval_over_limit(eval, eval->tightest, max + 1, err);
}

struct query_result *query_result_new(const struct query_env *env, struct err *err)
{
    struct query_result *result = mem_calloc(MEM_QUERY, 1, sizeof(*result));
    if (result)
        arena_init(&result->arena, MEM_QUERY, env->limits.memory_bytes_max);
    else
        err_set(err, ERR_NO_MEMORY, "out of memory (query)");
    return result;
}

enum err_code query_run(const struct query_env *env, const struct query_request *request,
                        struct query_result **out, struct err *err)
{
    *out = NULL;
    enum err_code rc = check_times(request, err);
    if (rc) return rc;
    struct query_result *result = query_result_new(env, err);
    if (!result) return err->code;
    struct arena arena;
    arena_init(&arena, MEM_QUERY, env->limits.memory_bytes_max);
    struct eval eval = {
        .env = env,
        .arena = &arena,
        .result_arena = &result->arena,
        .start_ms = request->start_ms,
        .end_ms = request->end_ms,
        .step_ms = request->step_ms,
        .tightest = LIMIT_MEMORY,
        .lookback_ms = request->lookback_ms > 0 ? request->lookback_ms : env->limits.lookback_ms,
        .batch_series_max =
            env->limits.batch_series ? env->limits.batch_series : EVAL_BATCH_SERIES_MAX,
        .deadline_ns = clock_mono_ns(env->clock) + env->limits.timeout_ms * INT64_C(1000000)};
    buf_init(&eval.text_buf, MEM_QUERY);
    notes_init(&eval.notes, &result->arena);
    rc = run_text(&eval, request, result, err);
    rc = name_limit(&eval, rc, err);
    if (env->progress) { /* what a failed query did counts as well */
        atomic_store_explicit(&env->progress->series, eval.stats.series, memory_order_relaxed);
        atomic_store_explicit(&env->progress->samples, eval.stats.samples, memory_order_relaxed);
    }
    notes_sort(&eval.notes);
    result->notes = eval.notes;
    result->stats = eval.stats;
    arena_release(&arena);
    if (rc)
        query_result_free(result);
    else
        *out = result;
    return rc;
}

void query_result_free(struct query_result *result)
{
    if (!result) return;
    arena_release(&result->arena);
    mem_free(result);
}
