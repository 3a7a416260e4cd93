/* query/rate_windows.h: where the windows of rate, increase and delta stand among the times of a series, and what follows
 * from that alone: which samples are the first and the last of each window, and by what the gain between them is
 * multiplied. The series of one scrape have the same times, so this is found once for all of them.
 * Threads: a cache belongs to one worker of one operator: grid, window and function are always the same. */
#ifndef QUIPU_QUERY_RATE_WINDOWS_H
#define QUIPU_QUERY_RATE_WINDOWS_H

#include "query/function.h"
#include "query/plan.h"

/* Windows at steps that follow each other, each some samples further than the one before. */
struct rate_run {
    size_t step, n;               /* the first step, and how many */
    size_t first, last;           /* samples of the first window */
    size_t first_move, last_move; /* from one step to the next */
};

/* What follows from where the samples stand in a window, in seconds, by step. */
struct rate_shapes {
    double *sampled, *to_start, *to_end;
    double *factor; /* what a gain is multiplied with, unless that reaches below 0 */
};

struct rate_windows {
    /* Whose times these are: by number, or by what they are. */
    uint64_t times_id;
    int64_t *t_ms;
    size_t n, t_cap;
    bool known;            /* false: only for the series at hand */
    struct rate_run *runs; /* of windows with two samples or more */
    size_t n_runs, cap_runs;
    struct rate_shapes shapes; /* of the steps of the runs */
    uint64_t *present;         /* the steps of the runs */
    uint64_t n_looked_at;      /* samples in windows, over all steps */
};

struct rate_cache;

struct rate_times {
    const int64_t *t_ms;
    size_t n;
    uint64_t id; /* never that of other times; 0: none */
};

/* NULL: memory is out. */
struct rate_cache *rate_cache_new(enum function_id fn, const struct grid *grid,
                                  const struct plan_window *window);
void rate_cache_free(struct rate_cache *cache); /* NULL: no-op */
/* The windows of these times; valid until the next call. */
MUST_USE enum err_code rate_windows_find(struct rate_cache *cache, const struct rate_times *times,
                                         const struct rate_windows **out, struct err *err);
/* The factor of a window with these; range_seconds 0: not per second. */
static inline double rate_factor(double sampled, double to_start, double to_end,
                                 double range_seconds)
{
    double factor = (sampled + to_start + to_end) / sampled;
    return range_seconds ? factor / range_seconds : factor;
}

#endif
