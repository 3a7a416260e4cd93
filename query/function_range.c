/* query/function_range.c: the functions of range vectors but for the rates (query/kernel.h).
 * Those of floats alone see the floats of a window that holds histograms, too, and say so. */
#include <math.h>

#include "query/number.h"
#include "query/range_window.h"

struct floats {
    const int64_t *t_ms;
    const double *v;
    size_t n;
};

/* The window's floats; copied to the arena only if there are histograms between them. */
static enum err_code floats_of(const struct range_window *w, struct floats *out, struct err *err)
{
    *out = (struct floats){w->t_ms, w->v, w->n};
    if (!w->h) return ERR_OK;
    size_t n = 0;
    for (size_t i = 0; i < w->n; i++) n += !w->h[i];
    if (n == w->n) return ERR_OK;
    int64_t *t_ms = ARENA_ARRAY(w->arena, int64_t, n);
    double *v = ARENA_ARRAY(w->arena, double, n);
    if (!t_ms || !v) return arena_fail(w->arena, err);
    *out = (struct floats){t_ms, v, 0};
    for (size_t i = 0; i < w->n; i++) {
        if (w->h[i]) continue;
        t_ms[out->n] = w->t_ms[i];
        v[out->n++] = w->v[i];
    }
    if (n > 0) window_note(w, NOTE_IGNORED_HISTOGRAMS);
    return ERR_OK;
}

static void put_float(struct point *out, double v)
{
    *out = (struct point){POINT_FLOAT, v, NULL};
}

/* ---- the nearest and the farthest ---- */

static bool is_less(double a, double b)
{
    return a < b;
}
static bool is_greater(double a, double b)
{
    return a > b;
}

/* NaN only if all are. */
static double extreme(const struct floats *f, bool (*wins)(double, double))
{
    double best = f->v[0];
    for (size_t i = 1; i < f->n; i++) {
        if (wins(f->v[i], best) || isnan(best)) best = f->v[i];
    }
    return best;
}

/* Where the last of the equal extremes is. */
static double time_of_extreme(const struct floats *f, bool (*wins)(double, double))
{
    size_t best = 0;
    for (size_t i = 1; i < f->n; i++) {
        if (!wins(f->v[best], f->v[i]) && (f->v[i] == f->v[i] || isnan(f->v[best]))) best = i;
    }
    return (double)f->t_ms[best] / 1000;
}

/* ---- moments ---- */

static double variance(const struct floats *f)
{
    double mean = 0, c_mean = 0, sum = 0, c_sum = 0;
    for (size_t i = 0; i < f->n; i++) {
        double delta = f->v[i] - (mean + c_mean);
        kahan_add(delta / (double)(i + 1), &mean, &c_mean);
        kahan_add(delta * (f->v[i] - (mean + c_mean)), &sum, &c_sum);
    }
    return (sum + c_sum) / (double)f->n;
}

static double sum_of(const struct floats *f)
{
    double sum = 0, c = 0;
    for (size_t i = 0; i < f->n; i++) kahan_add(f->v[i], &sum, &c);
    return sum + c;
}

static double average_of(const struct floats *f)
{
    struct average a = {0};
    for (size_t i = 0; i < f->n; i++) average_add(&a, f->v[i]);
    return average_value(&a);
}

/* ---- quantiles ---- */

static double *copy_values(const struct range_window *w, const struct floats *f, struct err *err)
{
    double *xs = ARENA_ARRAY(w->arena, double, f->n);
    if (xs)
        memcpy(xs, f->v, f->n * sizeof(*xs));
    else
        err_ignore(arena_fail(w->arena, err)); /* the caller returns err->code */
    return xs;
}

static enum err_code quantile_over_time(const struct range_window *w, const struct floats *f,
                                        struct point *out, struct err *err)
{
    double q = w->args[0];
    double *xs = copy_values(w, f, err);
    if (!xs) return err->code;
    if (w->notes && !(q >= 0 && q <= 1)) {
        char text[NUMBER_BYTES_MAX];
        notes_add(w->notes, NOTE_WARNING, w->pos_scalar,
                  "quantile value should be between 0 and 1, got %.*s",
                  (int)number_print_general(text, q), text);
    }
    put_float(out, quantile_of(q, xs, f->n));
    return ERR_OK;
}

static enum err_code mad_over_time(const struct range_window *w, const struct floats *f,
                                   struct point *out, struct err *err)
{
    double *xs = copy_values(w, f, err);
    if (!xs) return err->code;
    double median = quantile_of(0.5, xs, f->n);
    bool any_nan = false; /* one NaN makes the result NaN, wherever it would sort */
    for (size_t i = 0; i < f->n; i++) {
        any_nan |= isnan(xs[i]) != 0;
        xs[i] = fabs(xs[i] - median);
    }
    put_float(out, any_nan ? NAN : quantile_of(0.5, xs, f->n));
    return ERR_OK;
}

/* ---- trends ---- */

struct line {
    double slope, intercept; /* per second; at t0 */
};

static struct line regression(const struct floats *f, int64_t t0_ms)
{
    double n = (double)f->n, x = 0, c_x = 0, y = 0, c_y = 0, xy = 0, c_xy = 0, xx = 0, c_xx = 0;
    bool constant = true;
    for (size_t i = 0; i < f->n; i++) {
        double at = seconds_between(t0_ms, f->t_ms[i]);
        constant &= i == 0 || f->v[i] == f->v[0];
        kahan_add(at, &x, &c_x);
        kahan_add(f->v[i], &y, &c_y);
        kahan_add(at * f->v[i], &xy, &c_xy);
        kahan_add(at * at, &xx, &c_xx);
    }
    if (constant) return isinf(f->v[0]) ? (struct line){NAN, NAN} : (struct line){0, f->v[0]};
    x += c_x, y += c_y, xy += c_xy, xx += c_xx;
    double covariance = xy - x * y / n, variance_x = xx - x * x / n;
    double slope = covariance / variance_x;
    return (struct line){slope, y / n - slope * x / n};
}

static void trend(enum function_id id, const struct range_window *w, const struct floats *f,
                  struct point *out)
{
    if (f->n < 2) return;
    struct line line = regression(f, id == FN_DERIV ? f->t_ms[0] : w->eval_ms);
    put_float(out, id == FN_DERIV ? line.slope : line.slope * w->args[0] + line.intercept);
}

static enum err_code bad_factor(const char *name, const char *symbol, double v, struct err *err)
{
    if (isfinite(v))
        return err_set(err, ERR_EXECUTION, "invalid %s factor. Expected: 0 < %s < 1, got: %f", name,
                       symbol, v);
    return err_set(err, ERR_EXECUTION, "invalid %s factor. Expected: 0 < %s < 1, got: %s", name,
                   symbol,
                   isnan(v) ? "NaN"
                   : v > 0  ? "+Inf"
                            : "-Inf");
}

/* Brown and Holt: a level s1 and a trend b, each smoothed. */
static enum err_code smooth(const struct range_window *w, const struct floats *f, struct point *out,
                            struct err *err)
{
    double level = w->args[0], trend_factor = w->args[1];
    if (level <= 0 || level >= 1) return bad_factor("smoothing", "sf", level, err);
    if (trend_factor <= 0 || trend_factor >= 1) return bad_factor("trend", "tf", trend_factor, err);
    if (f->n < 2) return ERR_OK;
    double s0 = 0, s1 = f->v[0], b = f->v[1] - f->v[0];
    for (size_t i = 1; i < f->n; i++) {
        if (i > 1) b = trend_factor * (s1 - s0) + (1 - trend_factor) * b;
        double next = level * f->v[i] + (1 - level) * (s1 + b);
        s0 = s1;
        s1 = next;
    }
    put_float(out, s1);
    return ERR_OK;
}

/* ---- functions of floats alone ---- */

static enum err_code float_function(enum function_id id, const struct range_window *w,
                                    struct point *out, struct err *err)
{
    struct floats f;
    enum err_code rc = floats_of(w, &f, err);
    if (rc) return rc;
    if (id == FN_DOUBLE_EXPONENTIAL_SMOOTHING) return smooth(w, &f, out, err);
    if (f.n == 0) return ERR_OK;
    switch (id) {
    case FN_MIN_OVER_TIME: put_float(out, extreme(&f, is_less)); break;
    case FN_MAX_OVER_TIME: put_float(out, extreme(&f, is_greater)); break;
    case FN_TS_OF_MIN_OVER_TIME: put_float(out, time_of_extreme(&f, is_less)); break;
    case FN_TS_OF_MAX_OVER_TIME: put_float(out, time_of_extreme(&f, is_greater)); break;
    case FN_STDVAR_OVER_TIME: put_float(out, variance(&f)); break;
    case FN_STDDEV_OVER_TIME: put_float(out, sqrt(variance(&f))); break;
    case FN_QUANTILE_OVER_TIME: return quantile_over_time(w, &f, out, err);
    case FN_MAD_OVER_TIME: return mad_over_time(w, &f, out, err);
    default: trend(id, w, &f, out); break;
    }
    return ERR_OK;
}

/* ---- functions of both kinds ---- */

static enum err_code sum_histograms(const struct range_window *w, bool mean, struct point *out,
                                    struct err *err)
{
    struct histogram_sum *sum = NULL;
    struct histogram *h = NULL;
    unsigned notes = 0;
    enum err_code rc = ERR_OK;
    for (size_t i = 0; !rc && i < w->n; i++)
        rc = histogram_sum_add(w->arena, &sum, w->h[i], &notes, err);
    if (!rc) rc = histogram_sum_finish(w->arena, sum, mean, &h, err);
    if (notes & HISTOGRAM_NOTE_MIXED_SCHEMAS) window_note(w, NOTE_MIXED_SCHEMAS);
    if (notes & HISTOGRAM_NOTE_BOUNDS_RECONCILED) window_note(w, NOTE_RECONCILED_SUM);
    if (notes & HISTOGRAM_NOTE_RESET_CONFLICT) window_note(w, NOTE_CONFLICTING_RESETS);
    if (!rc && h) *out = (struct point){POINT_HISTOGRAM, h->sum, h};
    return rc;
}

static enum err_code sum_function(enum function_id id, const struct range_window *w,
                                  struct point *out, struct err *err)
{
    bool mean = id == FN_AVG_OVER_TIME;
    struct floats f = {w->t_ms, w->v, w->n};
    switch (window_kinds_of(w, 0, (ptrdiff_t)w->n)) {
    case WINDOW_FLOATS: put_float(out, mean ? average_of(&f) : sum_of(&f)); return ERR_OK;
    case WINDOW_HISTOGRAMS: return sum_histograms(w, mean, out, err);
    case WINDOW_MIXED: window_note(w, NOTE_MIXED_KINDS); return ERR_OK;
    }
    return ERR_OK;
}

static void put_sample(const struct range_window *w, size_t i, struct point *out)
{
    if (window_is_histogram(w, (ptrdiff_t)i))
        *out = (struct point){POINT_HISTOGRAM, w->v[i], w->h[i]};
    else
        put_float(out, w->v[i]);
}

static size_t count_changes(const double *restrict v, size_t n)
{
    size_t changes = 0;
    for (size_t i = 1; i < n; i++)
        changes += (v[i] != v[i - 1]) & ((v[i] == v[i]) | (v[i - 1] == v[i - 1]));
    return changes;
}

static size_t count_falls(const double *restrict v, size_t n)
{
    size_t falls = 0;
    for (size_t i = 1; i < n; i++) falls += v[i] < v[i - 1];
    return falls;
}

/* Does something happen between sample i - 1 and i? */
static bool is_event(bool resets, const struct range_window *w, ptrdiff_t i)
{
    const struct histogram *cur = w->h ? w->h[i] : NULL, *before = w->h ? w->h[i - 1] : NULL;
    if (resets && i > 0 && window_start_resets(w, (size_t)i)) return true;
    if (!cur != !before) return true;
    if (cur) return resets ? histogram_is_reset(cur, before) : !histogram_equal(cur, before);
    double v = w->v[i], v_before = w->v[i - 1];
    return resets ? v < v_before : v != v_before && !(isnan(v) && isnan(v_before));
}

/* changes and resets; anchored ones also see the step from the last sample before the window. */
static void count_events(bool resets, const struct range_window *w, struct point *out)
{
    if (w->n == 0) return;
    ptrdiff_t first = w->mode == SELECT_ANCHORED && w->n_before > 0 ? -1 : 0;
    size_t n = w->n + (size_t)-first, events = 0;
    if (!w->h && !(resets && w->st_ms)) {
        events = resets ? count_falls(w->v + first, n) : count_changes(w->v + first, n);
    } else {
        for (ptrdiff_t i = first + 1; i < (ptrdiff_t)w->n; i++) events += is_event(resets, w, i);
    }
    put_float(out, (double)events);
}

enum err_code range_function(enum function_id id, const struct range_window *w, struct point *out,
                             struct err *err)
{
    *out = (struct point){POINT_NONE, 0, NULL};
    if (id == FN_RATE || id == FN_INCREASE || id == FN_DELTA) return range_rate(id, w, out, err);
    if (w->n == 0) return ERR_OK;
    switch (id) {
    case FN_IRATE:
    case FN_IDELTA: return range_instant_rate(id, w, out, err);
    case FN_SUM_OVER_TIME:
    case FN_AVG_OVER_TIME: return sum_function(id, w, out, err);
    case FN_RESETS: count_events(true, w, out); return ERR_OK;
    case FN_CHANGES: count_events(false, w, out); return ERR_OK;
    case FN_COUNT_OVER_TIME: put_float(out, (double)w->n); return ERR_OK;
    case FN_PRESENT_OVER_TIME: put_float(out, 1); return ERR_OK;
    case FN_LAST_OVER_TIME: put_sample(w, w->n - 1, out); return ERR_OK;
    case FN_FIRST_OVER_TIME: put_sample(w, 0, out); return ERR_OK;
    case FN_TS_OF_LAST_OVER_TIME: put_float(out, (double)w->t_ms[w->n - 1] / 1000); return ERR_OK;
    case FN_TS_OF_FIRST_OVER_TIME: put_float(out, (double)w->t_ms[0] / 1000); return ERR_OK;
    default: return float_function(id, w, out, err);
    }
}

bool function_keeps_name(enum function_id id)
{
    switch (id) {
    case FN_LAST_OVER_TIME:
    case FN_FIRST_OVER_TIME:
    case FN_SORT:
    case FN_SORT_DESC:
    case FN_SORT_BY_LABEL:
    case FN_SORT_BY_LABEL_DESC:
    case FN_LABEL_REPLACE:
    case FN_LABEL_JOIN:
    case FN_INFO: return true;
    default: return false;
    }
}
