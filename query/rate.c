/* query/rate.c: rate, increase, delta, irate and idelta of plain range selectors (query/kernel.h).
 * What a counter gained between the first and the last sample, with what it held at every reset, extrapolated to the
 * ends of the window; the rules of extrapolation are in extrapolate(). With start times (PromQL of 3.12) a reset is
 * known even where the value rose, and a counter that began within the window was 0 then. */
#include <math.h>

#include "query/histogram_bounds.h"
#include "query/histogram_value.h"
#include "query/range_window.h"

/* ---- start times ---- */

static inline int64_t start_of(const struct range_window *w, size_t i)
{
    return w->st_ms ? w->st_ms[i] : 0;
}

/* A start time at or after its sample says nothing. */
static inline bool start_known(const struct range_window *w, size_t i)
{
    return start_of(w, i) != 0 && start_of(w, i) < w->t_ms[i];
}

bool window_start_resets(const struct range_window *w, size_t i)
{
    if (!start_known(w, i)) return false;
    int64_t start = start_of(w, i), before = w->t_ms[i - 1];
    /* Starting where the one before ended is a stream of deltas, unless that one's own start was unknown: then it is a
     * cumulative counter whose start was set to its first sample. */
    return start > before || (start == before && start_known(w, i - 1));
}

static void note_overlap(const struct range_window *w)
{
    if (!w->st_ms) return;
    for (size_t i = 1; i < w->n; i++) {
        if (w->st_ms[i] != 0 && w->st_ms[i] < w->t_ms[i - 1] && w->st_ms[i] != w->st_ms[i - 1])
            window_note(w, NOTE_START_OVERLAP);
    }
}

/* The counter began within the window: it was 0 at the start time, and one sample is enough. */
static bool begins_within(const struct range_window *w)
{
    return start_known(w, 0) && start_of(w, 0) > w->start_ms;
}

/* ---- extrapolation ---- */

struct gain {
    bool counter;
    bool from_zero;      /* begins_within() */
    double first, delta; /* the counter's first value and its gain: where it was 0 at the latest */
};

/* By what the gain between the samples is multiplied. */
static double extrapolate(const struct range_window *w, const struct gain *g, bool per_second)
{
    int64_t first_ms = w->t_ms[0], last_ms = w->t_ms[w->n - 1];
    double spacing = w->n > 1 ? seconds_between(first_ms, last_ms) / (double)(w->n - 1) : 0;
    double threshold = spacing * 1.1;
    if (g->from_zero) first_ms = start_of(w, 0);
    double sampled = seconds_between(first_ms, last_ms);
    double to_start = g->from_zero ? 0 : seconds_between(w->start_ms, first_ms);
    double to_end = seconds_between(last_ms, w->end_ms);
    /* Samples that begin (or end) far from the border: the series did, about half a spacing further. */
    if (!g->from_zero && to_start >= threshold) to_start = spacing / 2;
    if (g->counter && !g->from_zero && g->delta > 0 && g->first >= 0) {
        double to_zero = sampled * (g->first / g->delta); /* no counter is negative */
        if (to_zero < to_start) to_start = to_zero;
    }
    if (to_end >= threshold) to_end = spacing / 2;
    double factor = (sampled + to_start + to_end) / sampled;
    return per_second ? factor / duration_seconds(w->range_ms) : factor;
}

/* ---- floats ---- */

/* What the counter held before each fall. Falls are rare: one pass without branches looks for any. */
static double add_falls(double sum, const double *restrict v, size_t n)
{
    unsigned falls = 0;
    for (size_t i = 1; i < n; i++) falls |= v[i] < v[i - 1];
    if (!falls) return sum;
    for (size_t i = 1; i < n; i++) {
        if (v[i] < v[i - 1]) sum += v[i - 1];
    }
    return sum;
}

static double add_resets(double sum, const struct range_window *w)
{
    if (!w->st_ms) return add_falls(sum, w->v, w->n);
    for (size_t i = 1; i < w->n; i++) {
        if (w->v[i] < w->v[i - 1] || window_start_resets(w, i)) sum += w->v[i - 1];
    }
    return sum;
}

static bool has_suffix_of_counter(struct str name)
{
    return str_has_suffix(name, STR("_total")) || str_has_suffix(name, STR("_sum")) ||
           str_has_suffix(name, STR("_count")) || str_has_suffix(name, STR("_bucket"));
}

void window_note_name(const struct range_window *w)
{
    if (w->noted && *w->noted & NOTE_NO_COUNTER_NAME) return;
    if (w->metric.len && !has_suffix_of_counter(w->metric)) window_note(w, NOTE_NO_COUNTER_NAME);
}

static void rate_floats(enum function_id id, const struct range_window *w, struct point *out)
{
    bool counter = id != FN_DELTA;
    struct gain g = {
        .counter = counter, .from_zero = counter && begins_within(w), .first = w->v[0]};
    if (w->n < 2 && !g.from_zero) return;
    g.delta = w->v[w->n - 1] - (g.from_zero ? 0 : g.first);
    if (counter) {
        g.delta = add_resets(g.delta, w);
        window_note_name(w);
        note_overlap(w);
    }
    *out = (struct point){POINT_FLOAT, g.delta * extrapolate(w, &g, id == FN_RATE), NULL};
}

/* ---- histograms ---- */

enum err_code histogram_delta_init(struct histogram_delta *d, struct arena *scratch,
                                   const struct range_window *w, const struct histogram *last,
                                   int32_t schema_max, struct err *err)
{
    *d = (struct histogram_delta){.scratch = scratch, .w = w};
    enum err_code rc = histogram_value_load(scratch, last, false, &d->value, err);
    if (!rc && !histogram_is_custom(last)) histogram_value_reduce(&d->value, schema_max);
    return rc;
}

enum err_code histogram_delta_apply(struct histogram_delta *d, const struct histogram *h,
                                    bool subtract, bool *fits, struct err *err)
{
    *fits = histogram_is_custom(h) == (d->value.schema == HISTOGRAM_SCHEMA_CUSTOM);
    if (!*fits) {
        window_note(d->w, NOTE_MIXED_SCHEMAS);
        return ERR_OK;
    }
    struct histogram_value x;
    bool reconciled = false;
    enum err_code rc = histogram_value_load(d->scratch, h, false, &x, err);
    if (!rc) rc = histogram_value_add(d->scratch, &d->value, &x, subtract, &reconciled, err);
    if (reconciled) window_note(d->w, subtract ? NOTE_RECONCILED_SUB : NOTE_RECONCILED_ADD);
    return rc;
}

enum err_code histogram_delta_finish(struct histogram_delta *d, double f, bool divide,
                                     struct point *out, struct err *err)
{
    histogram_value_scale(&d->value, f, divide);
    d->value.reset_hint = HISTOGRAM_RESET_GAUGE;
    struct histogram *h = NULL;
    enum err_code rc = histogram_value_store(d->w->arena, &d->value, &h, err);
    if (!rc) *out = (struct point){POINT_HISTOGRAM, h->sum, h};
    return rc;
}

static bool histogram_resets(const struct range_window *w, size_t i)
{
    return window_start_resets(w, i) || histogram_is_reset(w->h[i], w->h[i - 1]);
}

static bool is_gauge(const struct histogram *h)
{
    return h->reset_hint == HISTOGRAM_RESET_GAUGE;
}

/* The coarsest schema that matters, or false (noted) if exponential and custom ones meet. `skip`: so many first samples
 * do not count. A gauge looks at both ends only. */
static bool common_schema(const struct range_window *w, bool counter, size_t skip, int32_t *schema)
{
    const struct histogram *last = w->h[w->n - 1];
    *schema = last->schema;
    for (size_t i = skip; i + 1 < w->n; i++) {
        if (!counter && i > 0) break;
        if (histogram_is_custom(w->h[i]) != histogram_is_custom(last)) {
            window_note(w, NOTE_MIXED_SCHEMAS);
            return false;
        }
        *schema = MIN_OF(*schema, w->h[i]->schema);
    }
    return true;
}

static void note_hints(const struct range_window *w, bool counter)
{
    if (!counter) {
        if (!is_gauge(w->h[0]) || !is_gauge(w->h[w->n - 1])) window_note(w, NOTE_NOT_A_GAUGE);
        return;
    }
    for (size_t i = 0; i < w->n; i++) {
        if (is_gauge(w->h[i])) window_note(w, NOTE_NOT_A_COUNTER);
    }
    note_overlap(w);
}

static enum err_code rate_histograms_in(enum function_id id, const struct range_window *w,
                                        struct arena *scratch, struct point *out, struct err *err)
{
    bool counter = id != FN_DELTA, fits = true;
    struct gain g = {
        .counter = counter, .from_zero = counter && begins_within(w), .first = w->h[0]->count};
    if (w->n < 2 && !g.from_zero) return ERR_OK;
    note_hints(w, counter);
    /* A first sample that the second is a reset against counts as empty, whatever its layout. */
    bool first_is_empty = counter && w->n > 1 && histogram_resets(w, 1);
    /* But what a counter that began within the window held then is part of the gain. */
    size_t skip = first_is_empty && !g.from_zero ? 1 : 0;
    int32_t schema;
    if (!common_schema(w, counter, skip, &schema)) return ERR_OK;
    struct histogram_delta d;
    enum err_code rc = histogram_delta_init(&d, scratch, w, w->h[w->n - 1], schema, err);
    if (!rc && !g.from_zero && !first_is_empty)
        rc = histogram_delta_apply(&d, w->h[0], true, &fits, err);
    for (size_t i = 1 + skip; counter && !rc && fits && i < w->n; i++) {
        if (histogram_resets(w, i)) rc = histogram_delta_apply(&d, w->h[i - 1], false, &fits, err);
    }
    if (rc || !fits) return rc;
    g.delta = d.value.count;
    return histogram_delta_finish(&d, extrapolate(w, &g, id == FN_RATE), false, out, err);
}

static enum err_code rate_histograms(enum function_id id, const struct range_window *w,
                                     struct point *out, struct err *err)
{
    struct arena scratch;
    arena_init(&scratch, MEM_QUERY, w->arena->budget_bytes);
    enum err_code rc = rate_histograms_in(id, w, &scratch, out, err);
    arena_release(&scratch);
    return rc;
}

enum err_code range_rate(enum function_id id, const struct range_window *w, struct point *out,
                         struct err *err)
{
    if (w->mode != SELECT_PLAIN) return range_rate_extended(id, w, out, err);
    switch (window_kinds_of(w, 0, (ptrdiff_t)w->n)) {
    case WINDOW_FLOATS: rate_floats(id, w, out); return ERR_OK;
    case WINDOW_HISTOGRAMS: return rate_histograms(id, w, out, err);
    case WINDOW_MIXED: window_note(w, NOTE_MIXED_KINDS); return ERR_OK;
    }
    return ERR_OK;
}

/* ---- irate, idelta: the last two samples ---- */

static enum err_code instant_histograms(const struct range_window *w, bool counter, double seconds,
                                        struct point *out, struct err *err)
{
    size_t last = w->n - 1;
    const struct histogram *before = w->h[last - 1];
    bool any_gauge = is_gauge(before) || is_gauge(w->h[last]);
    bool both_gauges = is_gauge(before) && is_gauge(w->h[last]);
    if (counter && any_gauge) window_note(w, NOTE_NOT_A_COUNTER);
    if (!counter && !both_gauges) window_note(w, NOTE_NOT_A_GAUGE);
    struct arena scratch;
    arena_init(&scratch, MEM_QUERY, w->arena->budget_bytes);
    struct histogram_delta d;
    bool fits = true;
    enum err_code rc = histogram_delta_init(&d, &scratch, w, w->h[last], HISTOGRAM_SCHEMA_MAX, err);
    if (!rc && !(counter && histogram_resets(w, last)))
        rc = histogram_delta_apply(&d, before, true, &fits, err);
    if (!rc && fits)
        rc = counter ? histogram_delta_finish(&d, seconds, true, out, err)
                     : histogram_delta_finish(&d, 1, false, out, err);
    arena_release(&scratch);
    return rc;
}

enum err_code range_instant_rate(enum function_id id, const struct range_window *w,
                                 struct point *out, struct err *err)
{
    if (w->n < 2) return ERR_OK;
    size_t last = w->n - 1;
    double seconds = seconds_between(w->t_ms[last - 1], w->t_ms[last]);
    if (seconds == 0) return ERR_OK;
    bool counter = id == FN_IRATE;
    switch (window_kinds_of(w, (ptrdiff_t)last - 1, (ptrdiff_t)last + 1)) {
    case WINDOW_MIXED: window_note(w, NOTE_MIXED_KINDS); return ERR_OK;
    case WINDOW_HISTOGRAMS: return instant_histograms(w, counter, seconds, out, err);
    case WINDOW_FLOATS: break;
    }
    double v = w->v[last], before = w->v[last - 1];
    if (!counter || !(v < before || window_start_resets(w, last))) v -= before;
    *out = (struct point){POINT_FLOAT, counter ? v / seconds : v, NULL};
    return ERR_OK;
}
