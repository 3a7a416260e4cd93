/* query/range_window.h: what the range functions share: looking at a window, and their annotations. */
#ifndef QUIPU_QUERY_RANGE_WINDOW_H
#define QUIPU_QUERY_RANGE_WINDOW_H

#include "query/histogram_value.h"

enum window_kinds { WINDOW_FLOATS, WINDOW_HISTOGRAMS, WINDOW_MIXED };
/* Of the samples [from, to); not empty. */
enum window_kinds window_kinds_of(const struct range_window *w, ptrdiff_t from, ptrdiff_t to);
static inline bool window_is_histogram(const struct range_window *w, ptrdiff_t i)
{
    return w->h && w->h[i];
}

/* to - from in seconds, as a double of the difference in ms; absurd times wrap. */
static inline double seconds_between(int64_t from_ms, int64_t to_ms)
{
    return (double)(int64_t)((uint64_t)to_ms - (uint64_t)from_ms) / 1000;
}
/* A duration as Go's Duration.Seconds() has it: whole seconds, then the rest. */
static inline double duration_seconds(int64_t ms)
{
    return (double)(ms / 1000) + (double)(ms % 1000 * 1000000) / 1e9;
}

/* Each at most once per series, if the evaluator keeps w->noted. */
enum window_note {
    NOTE_MIXED_KINDS = 1,          /* warning: floats and histograms, no result */
    NOTE_IGNORED_HISTOGRAMS = 2,   /* info: only the floats were used */
    NOTE_NO_COUNTER_NAME = 4,      /* info */
    NOTE_NOT_A_COUNTER = 8,        /* warning: gauge histograms in rate */
    NOTE_NOT_A_GAUGE = 16,         /* warning: counter histograms in delta */
    NOTE_MIXED_SCHEMAS = 32,       /* warning: exponential and custom, no result */
    NOTE_RECONCILED_SUB = 64,      /* info: custom bounds brought together */
    NOTE_RECONCILED_ADD = 128,     /* info */
    NOTE_RECONCILED_SUM = 256,     /* info */
    NOTE_CONFLICTING_RESETS = 512, /* warning */
    NOTE_START_OVERLAP = 1024      /* warning */
};
void window_note(const struct range_window *w, enum window_note note);

/* rate.c */
MUST_USE enum err_code range_rate(enum function_id id, const struct range_window *w,
                                  struct point *out, struct err *err);
MUST_USE enum err_code range_instant_rate(enum function_id id, const struct range_window *w,
                                          struct point *out, struct err *err);
/* Does the start time of sample i say that the counter began anew after sample i - 1? */
bool window_start_resets(const struct range_window *w, size_t i);
/* The info about the name, if a counter's function gave a float. */
void window_note_name(const struct range_window *w);

/* rate_extended.c: rate, increase and delta of anchored and smoothed selectors */
MUST_USE enum err_code range_rate_extended(enum function_id id, const struct range_window *w,
                                           struct point *out, struct err *err);

/* A difference of histograms under work: last - first, plus what resets lost. */
struct histogram_delta {
    struct arena *scratch;
    const struct range_window *w;
    struct histogram_value value;
};
MUST_USE enum err_code histogram_delta_init(struct histogram_delta *d, struct arena *scratch,
                                            const struct range_window *w,
                                            const struct histogram *last, int32_t schema_max,
                                            struct err *err);
/* False in *fits: of another kind; noted. */
MUST_USE enum err_code histogram_delta_apply(struct histogram_delta *d, const struct histogram *h,
                                             bool subtract, bool *fits, struct err *err);
/* Times f, or divided by it, as a gauge. */
MUST_USE enum err_code histogram_delta_finish(struct histogram_delta *d, double f, bool divide,
                                              struct point *out, struct err *err);

#endif
