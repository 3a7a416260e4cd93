/* query/rate_column.c: see the header. The arithmetic is that of rate.c, operation by operation. What makes it cheap:
 * where windows begin and end, and the factor by which a gain is extrapolated, come with the times (rate_windows.h);
 * falls of the counter are looked for once per series, not once per window. What is left is a subtraction and a
 * multiplication per step, in vectors. */
#include "query/rate_column.h"

#include <math.h>

#include "query/column_kernel.h"
#include "query/range_window.h"

#define PART 256 /* steps: when one of them needs care, all of them get it */

bool rate_column_applies(enum function_id fn, enum selector_mode mode,
                         const struct samples *samples)
{
    return (fn == FN_RATE || fn == FN_INCREASE || fn == FN_DELTA) && mode == SELECT_PLAIN &&
           !samples->h && !samples->st_ms;
}

/* ---- with care ---- */

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

static double careful_factor(const struct careful *c, const struct rate_shapes *shapes, size_t step,
                             double first, double delta)
{
    if (!c->counter || !(delta > 0) || !(first >= 0)) return shapes->factor[step];
    double sampled = shapes->sampled[step], to_zero = sampled * (first / delta);
    return to_zero < shapes->to_start[step]
               ? rate_factor(sampled, to_zero, shapes->to_end[step], c->range_seconds)
               : shapes->factor[step];
}

static double careful_step(struct careful *c, const struct rate_shapes *shapes, size_t step,
                           size_t first, size_t last)
{
    double delta = c->v[last] - c->v[first];
    if (c->counter) {
        find_fall(c, first);
        for (size_t i = c->fall; i <= last; i++)
            if (c->v[i] < c->v[i - 1]) delta += c->v[i - 1];
    }
    return delta * careful_factor(c, shapes, step, c->v[first], delta);
}

/* ---- in vectors: no falls. Some steps of a run ---- */

struct part {
    const double *first, *last; /* values of the first of them */
    size_t first_move, last_move;
    size_t step, n;
};

static bool counter_part(const struct part *p, const struct rate_shapes *shapes, double *out)
{
    const struct column_kernel *kernel = column_kernel();
    struct gain_columns in = {p->first, p->last, shapes->factor + p->step,
                              shapes->sampled + p->step, shapes->to_start + p->step};
    if (p->first_move == 1 && p->last_move == 1) return kernel->gains(&in, p->n, out + p->step);
    double first[PART], last[PART];
    for (size_t i = 0; i < p->n; i++) {
        first[i] = p->first[i * p->first_move];
        last[i] = p->last[i * p->last_move];
    }
    in.first = first;
    in.last = last;
    return kernel->gains(&in, p->n, out + p->step);
}

static void gauge_part(const struct part *p, const double *restrict factor, double *restrict out)
{
    for (size_t i = 0; i < p->n; i++)
        out[i] = (p->last[i * p->last_move] - p->first[i * p->first_move]) * factor[i];
}

/* ---- a series ---- */

static void column_part(struct careful *c, bool falls, const struct rate_windows *w,
                        const struct rate_run *run, size_t from, size_t n, double *out)
{
    size_t first = run->first + from * run->first_move, last = run->last + from * run->last_move;
    struct part part = {.first = c->v + first,
                        .last = c->v + last,
                        .first_move = run->first_move,
                        .last_move = run->last_move,
                        .step = run->step + from,
                        .n = n};
    if (!c->counter) {
        gauge_part(&part, w->shapes.factor + part.step, out + part.step);
        return;
    }
    if (!falls && !counter_part(&part, &w->shapes, out)) return;
    for (size_t i = 0; i < n; i++)
        out[part.step + i] = careful_step(c, &w->shapes, part.step + i, first + i * run->first_move,
                                          last + i * run->last_move);
}

void rate_column(enum function_id fn, const struct plan_window *window,
                 const struct rate_windows *w, const double *v, bool falls, double *out)
{
    struct careful c = {.v = v,
                        .n = w->n,
                        .counter = fn != FN_DELTA,
                        .range_seconds = fn == FN_RATE ? duration_seconds(window->range_ms) : 0};
    if (!falls) c.fall = w->n;
    for (size_t r = 0; r < w->n_runs; r++) {
        const struct rate_run *run = &w->runs[r];
        for (size_t from = 0; from < run->n; from += PART)
            column_part(&c, falls, w, run, from, MIN_OF((size_t)PART, run->n - from), out);
    }
}
