/* query/rate_extended.c: rate, increase and delta of anchored and smoothed selectors. Nothing is extrapolated:
 * anchored   from the last sample at or before the window's start to the last one within it
 * smoothed   between the values at both borders, interpolated from the samples on either side */
#include "query/range_window.h"

/* Samples first..last matter; indexes count from w->t_ms and may be negative. */
struct reach {
    ptrdiff_t first, last;
    bool left_between, right_between; /* the border's value is interpolated */
};

static bool reach_of(const struct range_window *w, struct reach *r)
{
    ptrdiff_t n = (ptrdiff_t)w->n;
    if (w->n_before + w->n + w->n_after == 0) return false;
    r->first = w->n_before > 0 ? -1 : 0;
    r->last = n - 1;
    if (w->mode == SELECT_SMOOTHED && w->n_after > 0 && !(n > 0 && w->t_ms[n - 1] >= w->end_ms))
        r->last = n;
    if (r->last < r->first) return false;
    if (w->t_ms[r->last] <= w->start_ms || w->t_ms[r->first] > w->end_ms) return false;
    r->left_between = w->mode == SELECT_SMOOTHED && w->t_ms[r->first] < w->start_ms;
    r->right_between = w->mode == SELECT_SMOOTHED && w->t_ms[r->last] > w->end_ms;
    return true;
}

/* ---- floats ---- */

static double value_at(const struct range_window *w, ptrdiff_t i, int64_t t_ms, bool counter)
{
    double y1 = w->v[i], y2 = w->v[i + 1];
    if (counter && y2 < y1) y1 = 0;
    return y1 + (y2 - y1) * (double)(t_ms - w->t_ms[i]) / (double)(w->t_ms[i + 1] - w->t_ms[i]);
}

static void extended_floats(enum function_id id, const struct range_window *w,
                            const struct reach *r, struct point *out)
{
    bool counter = id != FN_DELTA;
    double left = r->left_between ? value_at(w, r->first, w->start_ms, counter) : w->v[r->first];
    double right = r->right_between ? value_at(w, r->last - 1, w->end_ms, counter) : w->v[r->last];
    double result = right - left;
    if (counter) {
        double held = 0, before = left;
        for (ptrdiff_t i = r->first + 1; i < r->last; i++) {
            if (w->v[i] < before) held += before;
            before = w->v[i];
        }
        if (right < before) held += before;
        result += held;
        window_note_name(w);
    }
    if (id == FN_RATE) result /= duration_seconds(w->range_ms);
    *out = (struct point){POINT_FLOAT, result, NULL};
}

/* ---- histograms ---- */

/* NULL in *out: of different kinds; noted. */
static enum err_code histogram_at(const struct range_window *w, ptrdiff_t i, int64_t t_ms,
                                  bool counter, struct histogram **out, struct err *err)
{
    double fraction = (double)(t_ms - w->t_ms[i]) / (double)(w->t_ms[i + 1] - w->t_ms[i]);
    unsigned notes = 0;
    enum err_code rc =
        histogram_interpolate(w->arena, w->h[i], w->h[i + 1], fraction, counter, out, &notes, err);
    if (notes & HISTOGRAM_NOTE_MIXED_SCHEMAS) window_note(w, NOTE_MIXED_SCHEMAS);
    if (notes & HISTOGRAM_NOTE_BOUNDS_RECONCILED) window_note(w, NOTE_RECONCILED_SUB);
    return rc;
}

static void note_hints(const struct range_window *w, const struct reach *r, bool counter)
{
    bool all = true, any = false;
    for (ptrdiff_t i = r->first; i <= r->last; i++) {
        bool gauge = w->h[i]->reset_hint == HISTOGRAM_RESET_GAUGE;
        any |= gauge;
        if (i == r->first || i == r->last) all &= gauge;
    }
    if (counter && any) window_note(w, NOTE_NOT_A_COUNTER);
    if (!counter && !all) window_note(w, NOTE_NOT_A_GAUGE);
}

/* What was held at each reset between samples. Whole samples are compared, never interpolated ones, which rounding may
 * put above the next; where the left border lies between two samples, its value accounts for a reset there already. */
static enum err_code add_held(struct histogram_delta *d, const struct range_window *w,
                              const struct reach *r, bool *fits, struct err *err)
{
    enum err_code rc = ERR_OK;
    for (ptrdiff_t i = r->first + (r->left_between ? 2 : 1); !rc && *fits && i <= r->last; i++) {
        if (histogram_is_reset(w->h[i], w->h[i - 1]))
            rc = histogram_delta_apply(d, w->h[i - 1], false, fits, err);
    }
    return rc;
}

static enum err_code extended_histograms(enum function_id id, const struct range_window *w,
                                         const struct reach *r, struct arena *scratch,
                                         struct point *out, struct err *err)
{
    bool counter = id != FN_DELTA, fits = true;
    struct histogram *left = w->h[r->first], *right = w->h[r->last];
    enum err_code rc = ERR_OK;
    note_hints(w, r, counter);
    if (r->left_between) rc = histogram_at(w, r->first, w->start_ms, counter, &left, err);
    if (!rc && r->right_between) rc = histogram_at(w, r->last - 1, w->end_ms, counter, &right, err);
    if (rc || !left || !right) return rc;
    struct histogram_delta d;
    rc = histogram_delta_init(&d, scratch, w, right, right->schema, err);
    if (!rc) rc = histogram_delta_apply(&d, left, true, &fits, err);
    if (!rc && fits && counter) rc = add_held(&d, w, r, &fits, err);
    if (rc || !fits) return rc;
    bool per_second = id == FN_RATE;
    return histogram_delta_finish(&d, per_second ? duration_seconds(w->range_ms) : 1, per_second,
                                  out, err);
}

enum err_code range_rate_extended(enum function_id id, const struct range_window *w,
                                  struct point *out, struct err *err)
{
    struct reach r;
    if (!reach_of(w, &r)) return ERR_OK;
    switch (window_kinds_of(w, r.first, r.last + 1)) {
    case WINDOW_FLOATS: extended_floats(id, w, &r, out); return ERR_OK;
    case WINDOW_MIXED: window_note(w, NOTE_MIXED_KINDS); return ERR_OK;
    case WINDOW_HISTOGRAMS: break;
    }
    struct arena scratch;
    arena_init(&scratch, MEM_QUERY, w->arena->budget_bytes);
    enum err_code rc = extended_histograms(id, w, &r, &scratch, out, err);
    arena_release(&scratch);
    return rc;
}
