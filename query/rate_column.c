/* query/rate_column.c: see the header. The arithmetic is that of rate.c, operation by operation. What makes it cheap:
 *
 * The factor by which a gain is extrapolated depends on where the samples stand in the window, hardly ever on their
 * values, and with regular scrapes they stand alike at every step: it is computed when that changes.
 * Falls of the counter are found once per series, not once per window. */
#include "query/rate_column.h"

#include <math.h>

#include "query/range_window.h"

bool rate_column_applies(enum function_id fn, enum selector_mode mode,
                         const struct samples *samples)
{
    return (fn == FN_RATE || fn == FN_INCREASE || fn == FN_DELTA) && mode == SELECT_PLAIN &&
           !samples->h && !samples->st_ms;
}

/* Where the samples stand in a window, and what follows from that alone. */
struct shape {
    int64_t to_start_ms, sampled_ms, to_end_ms;
    size_t n;
    double sampled, to_start, to_end, factor;
};

static double shape_factor(const struct shape *shape, double to_start, double range_seconds)
{
    double factor = (shape->sampled + to_start + shape->to_end) / shape->sampled;
    return range_seconds ? factor / range_seconds : factor;
}

static void shape_compute(struct shape *shape, double range_seconds)
{
    double sampled = seconds_between(0, shape->sampled_ms);
    double spacing = sampled / (double)(shape->n - 1), threshold = spacing * 1.1;
    double to_start = seconds_between(0, shape->to_start_ms);
    double to_end = seconds_between(0, shape->to_end_ms);
    shape->sampled = sampled;
    shape->to_start = to_start >= threshold ? spacing / 2 : to_start;
    shape->to_end = to_end >= threshold ? spacing / 2 : to_end;
    shape->factor = shape_factor(shape, shape->to_start, range_seconds);
}

static bool has_falls(const double *restrict v, size_t n)
{
    /* As wide as the doubles, or the loop is not made into vectors. */
    uint64_t falls = 0;
    for (size_t i = 1; i < n; i++) falls |= (uint64_t)(v[i] < v[i - 1]);
    return falls != 0;
}

static double add_falls(double sum, const double *v, size_t lo, size_t hi)
{
    for (size_t i = lo + 1; i < hi; i++)
        if (v[i] < v[i - 1]) sum += v[i - 1];
    return sum;
}

/* No counter is negative: extrapolating back stops where it would have been 0. That takes a division to know; mostly
 * the counter is so far above its gain that a product with room for all rounding says so as well. */
static bool surely_above_zero(const struct shape *shape, double first, double delta)
{
    double bound = shape->to_start * delta * (1 + 1e-9);
    return first * shape->sampled >= bound && bound > 1e-280 && bound < INFINITY;
}

static double counter_factor(const struct shape *shape, double first, double delta,
                             double range_seconds)
{
    if (!(delta > 0) || !(first >= 0) || surely_above_zero(shape, first, delta))
        return shape->factor;
    double to_zero = shape->sampled * (first / delta);
    return to_zero < shape->to_start ? shape_factor(shape, to_zero, range_seconds) : shape->factor;
}

/* The first sample after limit_ms, at or behind i. With regular scrapes each step moves on by as many samples as the
 * one before: that guess is tried first, so that a step costs the same however many samples it passes. */
static size_t first_after(const struct samples *s, size_t i, size_t *stride, int64_t limit_ms)
{
    size_t guess = i + *stride;
    bool right = guess <= s->n && (guess == i || s->t_ms[guess - 1] <= limit_ms) &&
                 (guess == s->n || s->t_ms[guess] > limit_ms);
    if (right) return guess;
    size_t next = i;
    while (next < s->n && s->t_ms[next] <= limit_ms) next++;
    *stride = next - i;
    return next;
}

bool rate_column(enum function_id fn, const struct grid *grid, const struct plan_window *window,
                 const struct samples *samples, struct eval_series *out, uint64_t *n_looked_at)
{
    const int64_t *t_ms = samples->t_ms;
    const double *v = samples->v;
    bool counter = fn != FN_DELTA, falls = counter && has_falls(v, samples->n), any = false;
    double range_seconds = fn == FN_RATE ? duration_seconds(window->range_ms) : 0;
    struct shape shape = {.n = 0};
    size_t lo = 0, hi = 0, lo_stride = 0, hi_stride = 0;
    for (size_t s = 0; s < grid->n; s++) {
        int64_t end_ms = window_end(window, grid, s), start_ms = end_ms - window->range_ms;
        hi = first_after(samples, hi, &hi_stride, end_ms);
        lo = first_after(samples, lo, &lo_stride, start_ms);
        size_t n = hi - lo;
        *n_looked_at += n;
        if (n < 2) continue;
        int64_t first_ms = t_ms[lo], last_ms = t_ms[hi - 1];
        struct shape now = {.to_start_ms = first_ms - start_ms,
                            .sampled_ms = last_ms - first_ms,
                            .to_end_ms = end_ms - last_ms,
                            .n = n};
        bool same = now.to_start_ms == shape.to_start_ms && now.sampled_ms == shape.sampled_ms &&
                    now.to_end_ms == shape.to_end_ms && n == shape.n;
        if (!same) {
            shape = now;
            shape_compute(&shape, range_seconds);
        }
        double delta = v[hi - 1] - v[lo];
        if (falls) delta = add_falls(delta, v, lo, hi);
        double factor =
            counter ? counter_factor(&shape, v[lo], delta, range_seconds) : shape.factor;
        out->v[s] = delta * factor;
        bitmap_set(out->present, s);
        any = true;
    }
    return any;
}
