/* query/rate_windows.c: see the header. The arithmetic is that of rate.c, operation by operation. */
#include "query/rate_windows.h"

#include "base/mem.h"
#include "query/eval_op.h"
#include "query/range_window.h"

#define TIMES_COMPARED_MAX 16384 /* longer columns without a number are not kept */

double rate_shape_factor(const struct rate_shape *shape, double to_start, double range_seconds)
{
    double factor = (shape->sampled + to_start + shape->to_end) / shape->sampled;
    return range_seconds ? factor / range_seconds : factor;
}

static void shape_compute(struct rate_shape *shape, double range_seconds)
{
    double sampled = seconds_between(0, shape->sampled_ms);
    double spacing = sampled / (double)(shape->n - 1), threshold = spacing * 1.1;
    double to_start = seconds_between(0, shape->to_start_ms);
    double to_end = seconds_between(0, shape->to_end_ms);
    shape->sampled = sampled;
    shape->to_start = to_start >= threshold ? spacing / 2 : to_start;
    shape->to_end = to_end >= threshold ? spacing / 2 : to_end;
    shape->factor = rate_shape_factor(shape, shape->to_start, range_seconds);
}

/* The first sample after limit_ms, at or behind i. With regular scrapes each step moves on by as many samples as the
 * one before: that guess is tried first, so that a step costs the same however many samples it passes. */
static size_t first_after(const struct rate_times *s, size_t i, size_t *stride, int64_t limit_ms)
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

static bool same_shape(const struct rate_shape *a, const struct rate_shape *b)
{
    return a->to_start_ms == b->to_start_ms && a->sampled_ms == b->sampled_ms &&
           a->to_end_ms == b->to_end_ms && a->n == b->n;
}

/* Does the window [first, last] go on with the run? */
static bool run_takes(struct rate_run *run, size_t step, size_t first, size_t last,
                      const struct rate_shape *shape)
{
    if (run->step + run->n != step || !same_shape(&run->shape, shape)) return false;
    if (run->n == 1) {
        run->first_move = first - run->first;
        run->last_move = last - run->last;
    }
    return first == run->first + run->n * run->first_move &&
           last == run->last + run->n * run->last_move;
}

static enum err_code add_window(struct rate_windows *w, size_t step, size_t first, size_t last,
                                const struct rate_shape *shape, double range_seconds,
                                struct err *err)
{
    struct rate_run *run = w->n_runs ? &w->runs[w->n_runs - 1] : NULL;
    bitmap_set(w->present, step);
    if (run && run_takes(run, step, first, last, shape)) {
        run->n++;
        return ERR_OK;
    }
    const struct rate_shape *before = run && same_shape(&run->shape, shape) ? &run->shape : NULL;
    struct rate_shape now = before ? *before : *shape;
    if (!before) shape_compute(&now, range_seconds);
    void *runs = w->runs;
    enum err_code rc =
        mem_grow(MEM_QUERY, &runs, &w->cap_runs, w->n_runs + 1, sizeof(*w->runs), err);
    w->runs = runs;
    if (rc) return rc;
    w->runs[w->n_runs++] =
        (struct rate_run){.step = step, .n = 1, .first = first, .last = last, .shape = now};
    return ERR_OK;
}

static enum err_code make_runs(struct rate_windows *w, enum function_id fn, const struct grid *grid,
                               const struct plan_window *window, const struct rate_times *times,
                               struct err *err)
{
    double range_seconds = fn == FN_RATE ? duration_seconds(window->range_ms) : 0;
    size_t lo = 0, hi = 0, lo_stride = 0, hi_stride = 0;
    enum err_code rc = ERR_OK;
    for (size_t s = 0; s < grid->n && !rc; s++) {
        int64_t end_ms = window_end(window, grid, s), start_ms = end_ms - window->range_ms;
        hi = first_after(times, hi, &hi_stride, end_ms);
        lo = first_after(times, lo, &lo_stride, start_ms);
        w->n_looked_at += hi - lo;
        if (hi - lo < 2) continue;
        int64_t first_ms = times->t_ms[lo], last_ms = times->t_ms[hi - 1];
        struct rate_shape shape = {.to_start_ms = first_ms - start_ms,
                                   .sampled_ms = last_ms - first_ms,
                                   .to_end_ms = end_ms - last_ms,
                                   .n = hi - lo};
        rc = add_window(w, s, lo, hi - 1, &shape, range_seconds, err);
    }
    return rc;
}

static bool is_of(const struct rate_windows *w, const struct rate_times *times)
{
    if (!w->known || w->n != times->n || w->times_id != times->id) return false;
    return times->id || !times->n ||
           memcmp(w->t_ms, times->t_ms, times->n * sizeof(*times->t_ms)) == 0;
}

/* Notes whose times they are. */
static enum err_code identify(struct rate_windows *w, const struct rate_times *times,
                              struct err *err)
{
    w->n = times->n;
    w->times_id = times->id;
    w->known = times->id || times->n <= TIMES_COMPARED_MAX;
    if (times->id || !w->known) return ERR_OK;
    void *t_ms = w->t_ms;
    enum err_code rc = mem_grow(MEM_QUERY, &t_ms, &w->t_cap, times->n, sizeof(*w->t_ms), err);
    w->t_ms = t_ms;
    if (!rc && times->n) memcpy(w->t_ms, times->t_ms, times->n * sizeof(*w->t_ms));
    return rc;
}

enum err_code rate_windows_find(struct rate_cache *cache, enum function_id fn,
                                const struct grid *grid, const struct plan_window *window,
                                const struct rate_times *times, const struct rate_windows **out,
                                struct err *err)
{
    for (size_t i = 0; i < RATE_WINDOWS_KEPT; i++) {
        size_t at = (cache->newest + RATE_WINDOWS_KEPT - i) % RATE_WINDOWS_KEPT;
        *out = &cache->items[at];
        if (is_of(*out, times)) return ERR_OK;
    }
    cache->newest = (cache->newest + 1) % RATE_WINDOWS_KEPT;
    struct rate_windows *w = &cache->items[cache->newest];
    size_t bytes = bitmap_words(grid->n) * sizeof(uint64_t);
    w->known = false;
    w->n_runs = 0;
    w->n_looked_at = 0;
    if (!w->present) w->present = mem_alloc(MEM_QUERY, bytes);
    if (!w->present) return err_set(err, ERR_NO_MEMORY, "no memory for the windows of a series");
    memset(w->present, 0, bytes);
    enum err_code rc = make_runs(w, fn, grid, window, times, err);
    if (!rc) rc = identify(w, times, err);
    *out = w;
    return rc;
}

struct rate_cache *rate_cache_new(void)
{
    return mem_calloc(MEM_QUERY, 1, sizeof(struct rate_cache));
}

void rate_cache_free(struct rate_cache *cache)
{
    for (size_t i = 0; cache && i < RATE_WINDOWS_KEPT; i++) {
        mem_free(cache->items[i].t_ms);
        mem_free(cache->items[i].runs);
        mem_free(cache->items[i].present);
    }
    mem_free(cache);
}
