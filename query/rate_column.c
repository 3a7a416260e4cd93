/* query/rate_column.c: see the header. The arithmetic is that of rate.c, operation by operation. What makes it cheap:
 * where windows begin and end, and the factor by which a gain is extrapolated, come with the times (rate_windows.h);
 * falls of the counter are looked for once per series, not once per window. What is left is a subtraction and a
 * multiplication per step, in vectors. */
#include "query/rate_column.h"

#include <math.h>

#include "query/range_window.h"

#define PART 64 /* steps: when one of them needs care, all of them get it */

bool rate_column_applies(enum function_id fn, enum selector_mode mode,
                         const struct samples *samples)
{
    return (fn == FN_RATE || fn == FN_INCREASE || fn == FN_DELTA) && mode == SELECT_PLAIN &&
           !samples->h && !samples->st_ms;
}

static bool has_falls(const double *restrict v, size_t n)
{
    /* As wide as the doubles, or the loop is not made into vectors. */
    uint64_t falls = 0;
    for (size_t i = 1; i < n; i++) falls |= (uint64_t)(v[i] < v[i - 1]);
    return falls != 0;
}

/* No counter is negative: extrapolating back stops where it would have been 0. That takes a division to know; mostly
 * the counter is so far above its gain that a product with room for all rounding says so as well. */
#define ROOM (1 + 1e-9)
#define BOUND_MIN 1e-280

/* ---- with care ---- */

static double counter_factor(const struct rate_shape *shape, double first, double delta,
                             double range_seconds)
{
    if (!(delta > 0) || !(first >= 0)) return shape->factor;
    double to_zero = shape->sampled * (first / delta);
    return to_zero < shape->to_start ? rate_shape_factor(shape, to_zero, range_seconds)
                                     : shape->factor;
}

struct careful {
    const double *v;
    size_t n;
    bool counter;
    double range_seconds;
    size_t fall; /* v[fall] < v[fall - 1]: the first one behind where windows begin now; n: none */
};

/* Windows only move forward, but for those of a run that is done again. */
static void find_fall(struct careful *c, size_t first)
{
    if (c->fall <= first) c->fall = first + 1;
    while (c->fall < c->n && !(c->v[c->fall] < c->v[c->fall - 1])) c->fall++;
}

static double careful_step(struct careful *c, const struct rate_shape *shape, size_t first,
                           size_t last)
{
    double delta = c->v[last] - c->v[first];
    if (!c->counter) return delta * shape->factor;
    find_fall(c, first);
    for (size_t i = c->fall; i <= last; i++)
        if (c->v[i] < c->v[i - 1]) delta += c->v[i - 1];
    return delta * counter_factor(shape, c->v[first], delta, c->range_seconds);
}

/* ---- in vectors: no falls. Steps [0, n) of a run; a set bit tells that some step needs care ---- */

struct part {
    const double *first, *last;
    size_t first_move, last_move;
    size_t n;
    const struct rate_shape *shape;
};

static uint64_t counter_part_next(const double *restrict first, const double *restrict last,
                                  size_t n, const struct rate_shape *shape, double *restrict out)
{
    double factor = shape->factor, sampled = shape->sampled, to_start = shape->to_start;
    uint64_t doubts = 0;
    for (size_t i = 0; i < n; i++) {
        double delta = last[i] - first[i], bound = to_start * delta * ROOM;
        out[i] = delta * factor;
        uint64_t rises = (uint64_t)(delta > 0) & (uint64_t)(first[i] >= 0);
        uint64_t sure = (uint64_t)(first[i] * sampled >= bound) & (uint64_t)(bound > BOUND_MIN) &
                        (uint64_t)(bound < INFINITY);
        doubts |= rises & (sure ^ 1);
    }
    return doubts;
}

static uint64_t counter_part(const struct part *p, double *restrict out)
{
    if (p->first_move == 1 && p->last_move == 1)
        return counter_part_next(p->first, p->last, p->n, p->shape, out);
    double first[PART], last[PART];
    for (size_t i = 0; i < p->n; i++) {
        first[i] = p->first[i * p->first_move];
        last[i] = p->last[i * p->last_move];
    }
    return counter_part_next(first, last, p->n, p->shape, out);
}

static void gauge_part(const struct part *p, double *restrict out)
{
    for (size_t i = 0; i < p->n; i++)
        out[i] = (p->last[i * p->last_move] - p->first[i * p->first_move]) * p->shape->factor;
}

/* ---- a series ---- */

static void column_part(struct careful *c, bool falls, const struct rate_run *run, size_t from,
                        size_t n, double *out)
{
    struct part part = {.first = c->v + run->first + from * run->first_move,
                        .last = c->v + run->last + from * run->last_move,
                        .first_move = run->first_move,
                        .last_move = run->last_move,
                        .n = n,
                        .shape = &run->shape};
    if (!c->counter) {
        gauge_part(&part, out);
        return;
    }
    if (!falls && !counter_part(&part, out)) return;
    for (size_t i = 0; i < n; i++)
        out[i] = careful_step(c, &run->shape, run->first + (from + i) * run->first_move,
                              run->last + (from + i) * run->last_move);
}

void rate_column(enum function_id fn, const struct plan_window *window,
                 const struct rate_windows *w, const double *v, double *out)
{
    struct careful c = {.v = v,
                        .n = w->n,
                        .counter = fn != FN_DELTA,
                        .range_seconds = fn == FN_RATE ? duration_seconds(window->range_ms) : 0};
    bool falls = c.counter && has_falls(v, w->n);
    if (!falls) c.fall = w->n;
    for (size_t r = 0; r < w->n_runs; r++) {
        const struct rate_run *run = &w->runs[r];
        for (size_t from = 0; from < run->n; from += PART)
            column_part(&c, falls, run, from, MIN_OF((size_t)PART, run->n - from),
                        out + run->step + from);
    }
}
