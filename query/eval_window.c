/* query/eval_window.c: range functions over one series: two indexes move over its samples, one step after the
 * other. Per step the function sees its window in place, nothing is copied. */
#include "query/eval_op.h"

#include "query/column_kernel.h"
#include "query/range_window.h"
#include "query/rate_column.h"

enum err_code window_job_init(struct eval *eval, const struct plan *plan, struct window_job *out,
                              struct err *err)
{
    *out = (struct window_job){.eval = eval,
                               .plan = plan,
                               .range = plan->args[plan->main_arg],
                               .drops_name = !function_keeps_name(plan->fn)};
    return eval_scalar_args(eval, plan, &out->args, err);
}

void samples_drop_stale(struct samples *samples)
{
    /* Staleness markers are NaN: where there is none, there is no marker. */
    if (!(column_kernel()->check(samples->v, samples->n) & COLUMN_NAN)) return;
    size_t n = 0;
    while (n < samples->n && !is_stale_nan(samples->v[n])) n++;
    for (size_t i = n; i < samples->n; i++) {
        if (is_stale_nan(samples->v[i])) continue;
        samples->t_ms[n] = samples->t_ms[i];
        samples->v[n] = samples->v[i];
        if (samples->h) samples->h[n] = samples->h[i];
        if (samples->st_ms) samples->st_ms[n] = samples->st_ms[i];
        n++;
    }
    samples->n = n;
}

/* Where the window of a step begins and ends among the samples; they only ever move forward. */
struct cursor {
    size_t lo, hi;             /* samples in (start, end] */
    size_t reach_lo, reach_hi; /* with what anchored and smoothed look at beside it */
};

static size_t first_after(const int64_t *t_ms, size_t n, size_t from, int64_t limit_ms)
{
    while (from < n && t_ms[from] <= limit_ms) from++;
    return from;
}

static void cursor_move(struct cursor *c, const struct samples *s, const struct plan_window *w,
                        int64_t end_ms)
{
    int64_t start_ms = end_ms - w->range_ms;
    c->hi = first_after(s->t_ms, s->n, c->hi, end_ms);
    c->lo = first_after(s->t_ms, s->n, c->lo, start_ms);
    c->reach_lo = c->lo;
    c->reach_hi = c->hi;
    if (w->extra_before_ms) {
        size_t i = c->lo;
        while (i > 0 && s->t_ms[i - 1] > start_ms - w->extra_before_ms) i--;
        c->reach_lo = i;
    }
    if (w->extra_after_ms)
        c->reach_hi = first_after(s->t_ms, s->n, c->hi, end_ms + w->extra_after_ms);
}

static void window_init(const struct window_job *job, struct str metric, struct notes *notes,
                        struct arena *arena, double *args, unsigned *noted, struct range_window *w)
{
    const struct plan *plan = job->plan;
    *w = (struct range_window){.range_ms = job->range->window.range_ms,
                               .interval_ms = job->eval->step_ms,
                               .mode = job->range->mode,
                               .args = args,
                               .n_args = job->args.n,
                               .metric = metric,
                               .pos_arg = job->range->node->pos,
                               .pos_scalar = job->args.pos_first,
                               .pos_call = plan->node->pos,
                               .arena = arena,
                               .notes = notes,
                               .noted = noted};
}

static void window_at(const struct samples *s, const struct cursor *c, struct range_window *w)
{
    w->t_ms = s->t_ms + c->lo;
    w->v = s->v + c->lo;
    w->h = s->h ? (struct histogram *const *)(s->h + c->lo) : NULL;
    w->st_ms = s->st_ms ? s->st_ms + c->lo : NULL;
    w->n = c->hi - c->lo;
    w->n_before = c->lo - c->reach_lo;
    w->n_after = c->reach_hi - c->hi;
}

static enum err_code put_point(struct arena *arena, size_t n_steps, size_t step,
                               const struct point *point, struct eval_series *out, struct err *err)
{
    if (point->kind == POINT_NONE) return ERR_OK;
    struct histogram *copy = NULL;
    if (point->kind == POINT_HISTOGRAM) {
        if (!series_want_histograms(arena, n_steps, out)) return arena_fail(arena, err);
        enum err_code rc = histogram_copy(arena, point->h, &copy, err);
        if (rc) return rc;
    }
    series_set(out, step, point->v, copy);
    return ERR_OK;
}

/* Step by step. */
static enum err_code evaluate_steps(const struct window_job *job, const struct samples *samples,
                                    struct arena *arena, double *args, struct range_window *w,
                                    struct eval_series *out, uint64_t *n_looked_at, struct err *err)
{
    const struct grid *grid = &job->plan->grid;
    struct cursor cursor = {0};
    size_t work = 0;
    for (size_t s = 0; s < grid->n; s++) {
        w->end_ms = window_end(&job->range->window, grid, s);
        w->start_ms = w->end_ms - w->range_ms;
        w->eval_ms = grid_time(grid, s);
        cursor_move(&cursor, samples, &job->range->window, w->end_ms);
        if (cursor.reach_lo == cursor.reach_hi) continue;
        window_at(samples, &cursor, w);
        *n_looked_at += w->n;
        scalar_args_at(&job->args, s, args);
        struct point point = {0};
        enum err_code rc = range_function(job->plan->fn, w, &point, err);
        if (!rc) rc = put_point(arena, grid->n, s, &point, out, err);
        if (!rc) rc = eval_poll_work(job->eval, &work, w->n + 1, err);
        if (rc) return rc;
    }
    return ERR_OK;
}

/* rate, increase and delta of plain floats, all steps at once. */
static enum err_code evaluate_rates(const struct window_job *job, struct eval_scratch *scratch,
                                    const struct rate_times *times, const double *v, bool falls,
                                    struct eval_series *out, uint64_t *n_looked_at, struct err *err)
{
    const struct grid *grid = &job->plan->grid;
    const struct plan_window *window = &job->range->window;
    const struct rate_windows *windows;
    if (!scratch->rates) scratch->rates = rate_cache_new(job->plan->fn, grid, window);
    if (!scratch->rates) return err_set(err, ERR_NO_MEMORY, "no memory for windows");
    enum err_code rc = rate_windows_find(scratch->rates, times, &windows, err);
    if (rc) return rc;
    memcpy(out->present, windows->present, bitmap_words(grid->n) * sizeof(uint64_t));
    *n_looked_at = windows->n_looked_at;
    rate_column(job->plan->fn, window, windows, v, falls, out->v);
    return ERR_OK;
}

enum err_code window_evaluate(const struct window_job *job, struct eval_scratch *scratch,
                              struct labels labels, struct notes *notes, struct eval_series *out,
                              uint64_t *n_looked_at, struct err *err)
{
    struct samples *samples = &scratch->samples;
    struct arena *arena = &scratch->arena;
    const struct grid *grid = &job->plan->grid;
    enum function_id fn = job->plan->fn;
    *n_looked_at = 0;
    samples_drop_stale(samples);
    if (!samples->n) return ERR_OK;
    if (!series_alloc(arena, grid->n, out)) return arena_fail(arena, err);
    double args[COUNT_OF(job->args.columns)];
    unsigned noted = 0;
    struct range_window w;
    window_init(job, labels_get(labels, STR(LABEL_NAME)), notes, &scratch->series_arena, args,
                &noted, &w);
    if (!rate_column_applies(fn, job->range->mode, samples))
        return evaluate_steps(job, samples, arena, args, &w, out, n_looked_at, err);
    struct rate_times times = {samples->t_ms, samples->n, 0};
    bool falls = column_kernel()->check(samples->v, samples->n) & COLUMN_FALLS;
    enum err_code rc =
        evaluate_rates(job, scratch, &times, samples->v, falls, out, n_looked_at, err);
    if (!rc && fn != FN_DELTA && bitmap_any(out->present, grid->n)) window_note_name(&w);
    return rc;
}

bool window_takes_floats(const struct window_job *job)
{
    static const struct samples floats = {0};
    return rate_column_applies(job->plan->fn, job->range->mode, &floats);
}

enum err_code window_evaluate_floats(const struct window_job *job, struct eval_scratch *scratch,
                                     struct labels labels, struct notes *notes,
                                     const struct float_column *in, bool falls,
                                     struct eval_series *out, uint64_t *n_looked_at,
                                     struct err *err)
{
    const struct grid *grid = &job->plan->grid;
    *n_looked_at = 0;
    if (!in->n) return ERR_OK;
    if (!series_alloc(&scratch->arena, grid->n, out)) return arena_fail(&scratch->arena, err);
    struct rate_times times = {in->t_ms, in->n, in->times_id};
    enum err_code rc = evaluate_rates(job, scratch, &times, in->v, falls, out, n_looked_at, err);
    if (rc || job->plan->fn == FN_DELTA || !bitmap_any(out->present, grid->n)) return rc;
    struct range_window w = {.metric = labels_get(labels, STR(LABEL_NAME)),
                             .pos_arg = job->range->node->pos,
                             .notes = notes};
    window_note_name(&w);
    return ERR_OK;
}
