/* query/rate_windows.h: where the windows of rate, increase and delta stand among the times of a series, and what follows
 * from that alone: which samples are the first and the last of each window, and by what the gain between them is
 * multiplied. The series of one scrape have the same times, so this is found once for all of them.
 * Threads: a cache belongs to one worker of one operator: grid, window and function are always the same. */
#ifndef QUIPU_QUERY_RATE_WINDOWS_H
#define QUIPU_QUERY_RATE_WINDOWS_H

#include "query/function.h"
#include "query/plan.h"

/* Where the samples stand in a window, and what follows from that. */
struct rate_shape {
    int64_t to_start_ms, sampled_ms, to_end_ms;
    size_t n;
    double sampled, to_start, to_end, factor;
};

/* Windows of one shape at steps that follow each other, each some samples further than the one before. */
struct rate_run {
    size_t step, n;               /* the first step, and how many */
    size_t first, last;           /* samples of the first window */
    size_t first_move, last_move; /* from one step to the next */
    struct rate_shape shape;
};

struct rate_windows {
    /* Whose times these are: by number, or by what they are. */
    uint64_t times_id;
    int64_t *t_ms;
    size_t n, t_cap;
    bool known;            /* false: only for the series at hand */
    struct rate_run *runs; /* of windows with two samples or more */
    size_t n_runs, cap_runs;
    uint64_t *present;    /* the steps of the runs */
    uint64_t n_looked_at; /* samples in windows, over all steps */
};

#define RATE_WINDOWS_KEPT                                                                          \
    16 /* label order often goes through the same few targets again and again */
struct rate_cache {
    struct rate_windows items[RATE_WINDOWS_KEPT];
    size_t newest;
};

struct rate_times {
    const int64_t *t_ms;
    size_t n;
    uint64_t id; /* never that of other times; 0: none */
};

/* The windows of these times; valid until the next call. */
MUST_USE enum err_code rate_windows_find(struct rate_cache *cache, enum function_id fn,
                                         const struct grid *grid, const struct plan_window *window,
                                         const struct rate_times *times,
                                         const struct rate_windows **out, struct err *err);
struct rate_cache *rate_cache_new(void);        /* NULL: memory is out */
void rate_cache_free(struct rate_cache *cache); /* NULL: no-op */
/* What to multiply with if the windows were extrapolated by to_start only. */
double rate_shape_factor(const struct rate_shape *shape, double to_start, double range_seconds);

#endif
