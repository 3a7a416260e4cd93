/* query/rate_windows.c: see the header. The arithmetic is that of rate.c, operation by operation. */
#include "query/rate_windows.h"

#include "base/mem.h"
#include "query/eval_op.h"
#include "query/range_window.h"

#define TIMES_COMPARED_MAX 16384 /* longer columns without a number are not kept */
/* Label order goes through the same targets again and again: windows of so many are kept, as far as memory goes. */
#define WINDOWS_KEPT_MAX 64
#define WINDOWS_KEPT_MIN 2
#define WINDOWS_BYTES ((size_t)512 << 10)
#define COLUMNS 4 /* of struct rate_shapes */

/* Scrapes come on time within a millisecond or so: the same few shapes again and again, but not in a row. */
struct shape {
    int64_t to_start_ms, sampled_ms, to_end_ms;
    size_t n; /* 0: none */
    double sampled, to_start, to_end, factor;
};
#define SHAPES_KEPT 64

struct rate_cache {
    enum function_id fn;
    const struct grid *grid;
    const struct plan_window *window;
    double range_seconds; /* 0: not per second */
    struct shape shapes[SHAPES_KEPT];
    size_t n_kept, newest;
    struct rate_windows items[]; /* n_kept */
};

static struct shape *find_shape(struct rate_cache *cache, const struct shape *now)
{
    uint64_t hash = (uint64_t)now->to_start_ms * 3 + (uint64_t)now->sampled_ms * 5 +
                    (uint64_t)now->to_end_ms * 9;
    struct shape *shape = &cache->shapes[hash % SHAPES_KEPT];
    if (shape->to_start_ms == now->to_start_ms && shape->sampled_ms == now->sampled_ms &&
        shape->to_end_ms == now->to_end_ms && shape->n == now->n)
        return shape;
    *shape = *now;
    double sampled = seconds_between(0, shape->sampled_ms);
    double spacing = sampled / (double)(shape->n - 1), threshold = spacing * 1.1;
    double to_start = seconds_between(0, shape->to_start_ms);
    double to_end = seconds_between(0, shape->to_end_ms);
    shape->sampled = sampled;
    shape->to_start = to_start >= threshold ? spacing / 2 : to_start;
    shape->to_end = to_end >= threshold ? spacing / 2 : to_end;
    shape->factor = rate_factor(sampled, shape->to_start, shape->to_end, cache->range_seconds);
    return shape;
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

/* Does the window [first, last] go on with the run? */
static bool run_takes(struct rate_run *run, size_t step, size_t first, size_t last)
{
    if (run->step + run->n != step) return false;
    if (run->n == 1) {
        run->first_move = first - run->first;
        run->last_move = last - run->last;
    }
    return first == run->first + run->n * run->first_move &&
           last == run->last + run->n * run->last_move;
}

static enum err_code add_window(struct rate_windows *w, size_t step, size_t first, size_t last,
                                const struct shape *shape, struct err *err)
{
    bitmap_set(w->present, step);
    w->shapes.sampled[step] = shape->sampled;
    w->shapes.to_start[step] = shape->to_start;
    w->shapes.to_end[step] = shape->to_end;
    w->shapes.factor[step] = shape->factor;
    struct rate_run *run = w->n_runs ? &w->runs[w->n_runs - 1] : NULL;
    if (run && run_takes(run, step, first, last)) {
        run->n++;
        return ERR_OK;
    }
    void *runs = w->runs;
    enum err_code rc =
        mem_grow(MEM_QUERY, &runs, &w->cap_runs, w->n_runs + 1, sizeof(*w->runs), err);
    w->runs = runs;
    if (!rc)
        w->runs[w->n_runs++] =
            (struct rate_run){.step = step, .n = 1, .first = first, .last = last};
    return rc;
}

static enum err_code make_runs(struct rate_cache *cache, struct rate_windows *w,
                               const struct rate_times *times, struct err *err)
{
    const struct plan_window *window = cache->window;
    size_t lo = 0, hi = 0, lo_stride = 0, hi_stride = 0;
    enum err_code rc = ERR_OK;
    for (size_t s = 0; s < cache->grid->n && !rc; s++) {
        int64_t end_ms = window_end(window, cache->grid, s), start_ms = end_ms - window->range_ms;
        hi = first_after(times, hi, &hi_stride, end_ms);
        lo = first_after(times, lo, &lo_stride, start_ms);
        w->n_looked_at += hi - lo;
        if (hi - lo < 2) continue;
        int64_t first_ms = times->t_ms[lo], last_ms = times->t_ms[hi - 1];
        struct shape now = {.to_start_ms = first_ms - start_ms,
                            .sampled_ms = last_ms - first_ms,
                            .to_end_ms = end_ms - last_ms,
                            .n = hi - lo};
        rc = add_window(w, s, lo, hi - 1, find_shape(cache, &now), err);
    }
    return rc;
}

/* ---- the cache ---- */

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

static bool make_columns(struct rate_windows *w, size_t n_steps)
{
    size_t n_words = bitmap_words(n_steps), size;
    if (!w->present) w->present = mem_calloc(MEM_QUERY, n_words, sizeof(*w->present));
    double **columns = &w->shapes.sampled;
    if (!*columns && mem_mul(n_steps, COLUMNS * sizeof(double), &size))
        *columns = mem_alloc(MEM_QUERY, size);
    if (!w->present || !*columns) return false;
    w->shapes.to_start = *columns + n_steps;
    w->shapes.to_end = *columns + 2 * n_steps;
    w->shapes.factor = *columns + 3 * n_steps;
    memset(w->present, 0, n_words * sizeof(*w->present));
    return true;
}

enum err_code rate_windows_find(struct rate_cache *cache, const struct rate_times *times,
                                const struct rate_windows **out, struct err *err)
{
    for (size_t i = 0; i < cache->n_kept; i++) {
        size_t at = cache->newest + cache->n_kept - i;
        *out = &cache->items[at >= cache->n_kept ? at - cache->n_kept : at];
        if (is_of(*out, times)) return ERR_OK;
    }
    cache->newest = (cache->newest + 1) % cache->n_kept;
    struct rate_windows *w = &cache->items[cache->newest];
    w->known = false;
    w->n_runs = 0;
    w->n_looked_at = 0;
    if (!make_columns(w, cache->grid->n))
        return err_set(err, ERR_NO_MEMORY, "no memory for the windows of a series");
    enum err_code rc = make_runs(cache, w, times, err);
    if (!rc) rc = identify(w, times, err);
    *out = w;
    return rc;
}

struct rate_cache *rate_cache_new(enum function_id fn, const struct grid *grid,
                                  const struct plan_window *window)
{
    size_t n = WINDOWS_BYTES / (grid->n * COLUMNS * sizeof(double) + 1);
    n = MAX_OF(MIN_OF(n, (size_t)WINDOWS_KEPT_MAX), (size_t)WINDOWS_KEPT_MIN);
    struct rate_cache *cache = mem_calloc(MEM_QUERY, 1, sizeof(*cache) + n * sizeof(*cache->items));
    if (!cache) return NULL;
    cache->fn = fn;
    cache->grid = grid;
    cache->window = window;
    cache->range_seconds = fn == FN_RATE ? duration_seconds(window->range_ms) : 0;
    cache->n_kept = n;
    return cache;
}

void rate_cache_free(struct rate_cache *cache)
{
    for (size_t i = 0; cache && i < cache->n_kept; i++) {
        mem_free(cache->items[i].t_ms);
        mem_free(cache->items[i].runs);
        mem_free(cache->items[i].present);
        mem_free(cache->items[i].shapes.sampled); /* the others are in it */
    }
    mem_free(cache);
}
