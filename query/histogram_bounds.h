/* query/histogram_bounds.h: where the buckets of a native histogram begin and end, and walks over them. Nothing
 * here allocates. Indexes are int64: those of stored histograms fit an int32, sums of them cannot overflow. */
#ifndef QUIPU_QUERY_HISTOGRAM_BOUNDS_H
#define QUIPU_QUERY_HISTOGRAM_BOUNDS_H

#include "query/kernel.h"

/* Upper bound of the positive bucket `index` of schema -4..8; its lower bound is that of index - 1. 0 far below, +Inf
 * beyond the bucket that the largest double is in. */
double histogram_bound(int64_t index, int32_t schema);
/* The index at the coarser schema `to` of what is in bucket `index` of schema `from`. */
static inline int64_t histogram_index_at(int64_t index, int32_t from, int32_t to)
{
    return ((index - 1) >> (from - to)) + 1;
}
static inline bool histogram_is_custom(const struct histogram *h)
{
    return h->schema == HISTOGRAM_SCHEMA_CUSTOM;
}

/* One side's listed buckets with their indexes, from the first or from the last. */
struct span_walk {
    const struct histogram_span *spans;
    const double *counts;
    uint32_t n_spans, n;
    uint32_t span,
        in_span;   /* where the next one is; forwards: in_span buckets of `span` are done */
    uint32_t i;    /* of the next one among `counts`; backwards: one more */
    int64_t index; /* of the next one */
    bool backwards;
};
void span_walk_init(struct span_walk *w, const struct histogram_span *spans, uint32_t n_spans,
                    const double *counts, uint32_t n, bool backwards);
bool span_walk_next(struct span_walk *w, int64_t *index, double *count);

/* All buckets in ascending (or descending) order, empty ones too but for the zero bucket, which comes only if its
 * count is above 0. Regular buckets are cut at the zero threshold. */
struct bucket_walk {
    const struct histogram *h;
    struct span_walk side;
    int stage;
    bool descending;
};
void bucket_walk_init(struct bucket_walk *w, const struct histogram *h, bool descending);
bool bucket_walk_next(struct bucket_walk *w, struct histogram_bucket *out);

#endif
