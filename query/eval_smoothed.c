/* query/eval_smoothed.c: `x smoothed`: the value at a step between the samples on both sides of it, within the
 * lookback before and after. And what reset hints histograms carry when they are read. */
#include "query/eval_op.h"

/* ---- hints ---- */

enum histogram_reset_hint hint_by_content(const struct histogram *h, const struct histogram *prev,
                                          bool stats_only)
{
    if (h->reset_hint == HISTOGRAM_RESET_GAUGE) return HISTOGRAM_RESET_GAUGE;
    if (!prev || prev->reset_hint == HISTOGRAM_RESET_GAUGE || histogram_is_stale(prev))
        return HISTOGRAM_RESET_UNKNOWN;
    if (!histogram_is_reset(h, prev)) return HISTOGRAM_RESET_NO;
    return stats_only ? HISTOGRAM_RESET_YES : HISTOGRAM_RESET_UNKNOWN;
}

void hints_by_content(struct samples *samples, const struct histogram *prev, bool stats_only)
{
    for (size_t i = 0; i < samples->n; i++) {
        struct histogram *h = samples->h[i];
        if (h && !histogram_is_stale(h)) h->reset_hint = hint_by_content(h, prev, stats_only);
        prev = h;
    }
}

/* ---- smoothed ---- */

struct smoothed {
    const struct plan *plan;
    const struct samples *s;
    struct arena *arena;
    struct notes *notes;
    struct str metric;
    struct eval_series *out;
};

static enum err_code put_histogram(const struct smoothed *sm, size_t step, size_t i, bool between,
                                   double fraction, struct err *err)
{
    struct histogram *h = NULL;
    const struct histogram *first = sm->s->h[i];
    unsigned notes = 0;
    bool counter = first->reset_hint != HISTOGRAM_RESET_GAUGE;
    enum err_code rc = between ? histogram_interpolate(sm->arena, first, sm->s->h[i + 1], fraction,
                                                       counter, &h, &notes, err)
                               : histogram_copy(sm->arena, first, &h, err);
    if (rc) return rc;
    if (notes & HISTOGRAM_NOTE_MIXED_SCHEMAS)
        notes_add(sm->notes, NOTE_WARNING, sm->plan->node->pos,
                  "vector contains a mix of histograms with exponential and custom buckets "
                  "schemas for metric name \"%.*s\"",
                  STR_ARG(sm->metric));
    if (!h) return ERR_OK;
    if (!series_want_histograms(sm->arena, sm->plan->grid.n, sm->out))
        return arena_fail(sm->arena, err);
    series_set(sm->out, step, 0, h);
    return ERR_OK;
}

/* Sample i is the last one at or before the step. */
static enum err_code put_smoothed(const struct smoothed *sm, size_t step, size_t i, int64_t end_ms,
                                  struct err *err)
{
    const struct samples *s = sm->s;
    int64_t limit_ms = end_ms + sm->plan->window.extra_after_ms;
    bool between = s->t_ms[i] < end_ms && i + 1 < s->n && s->t_ms[i + 1] <= limit_ms;
    double fraction = 0;
    if (between) fraction = (double)(end_ms - s->t_ms[i]) / (double)(s->t_ms[i + 1] - s->t_ms[i]);
    if (s->h && s->h[i]) return put_histogram(sm, step, i, between, fraction, err);
    double v = s->v[i];
    if (between)
        v += (s->v[i + 1] - v) * (double)(end_ms - s->t_ms[i]) /
             (double)(s->t_ms[i + 1] - s->t_ms[i]);
    series_set(sm->out, step, v, NULL);
    return ERR_OK;
}

/* Do samples [lo, hi) have both kinds? */
static bool is_mixed(const struct samples *s, size_t lo, size_t hi)
{
    if (!s->h) return false;
    for (size_t i = lo + 1; i < hi; i++)
        if (!s->h[i] != !s->h[lo]) return true;
    return false;
}

enum err_code select_smoothed(const struct plan *plan, struct samples *samples, struct arena *arena,
                              struct notes *notes, struct labels labels, struct eval_series *out,
                              struct err *err)
{
    struct smoothed sm = {.plan = plan,
                          .s = samples,
                          .arena = arena,
                          .notes = notes,
                          .metric = labels_get(labels, STR(LABEL_NAME)),
                          .out = out};
    samples_drop_stale(samples);
    size_t lo = 0, next = 0, hi = 0;
    for (size_t step = 0; step < plan->grid.n; step++) {
        int64_t end_ms = window_end(&plan->window, &plan->grid, step);
        while (lo < samples->n && samples->t_ms[lo] <= end_ms - plan->window.range_ms) lo++;
        while (next < samples->n && samples->t_ms[next] <= end_ms) next++;
        while (hi < samples->n && samples->t_ms[hi] <= end_ms + plan->window.extra_after_ms) hi++;
        if (next <= lo) continue;
        if (is_mixed(samples, lo, hi)) {
            notes_add(notes, NOTE_WARNING, plan->node->pos,
                      "encountered a mix of histograms and floats for metric name \"%.*s\"",
                      STR_ARG(sm.metric));
            continue;
        }
        enum err_code rc = put_smoothed(&sm, step, next - 1, end_ms, err);
        if (rc) return rc;
    }
    return ERR_OK;
}
