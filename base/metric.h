/* base/metric.h: the process's own metrics, rendered in the Prometheus text format (version 0.0.4).
 * A family has one name, help and type; its members differ by labels. Handles are valid as long as the
 * registry. Threads: any; updates are relaxed atomics, a rendering may be a few updates behind. */
#ifndef QUIPU_BASE_METRIC_H
#define QUIPU_BASE_METRIC_H

#include <stdatomic.h>

#include "base/bytes.h"

struct metrics; /* from metrics_new() */

struct metric {
    _Atomic uint64_t bits; /* counter: integer; gauge: double bits */
};
#define METRIC_BUCKETS_MAX 24
struct metric_histogram {
    const double *bounds;                            /* seconds or bytes, ascending, without +Inf */
    size_t n_bounds;                                 /* <= METRIC_BUCKETS_MAX */
    _Atomic uint64_t counts[METRIC_BUCKETS_MAX + 1]; /* per bucket, not cumulative */
    _Atomic uint64_t sum_bits;                       /* double bits, by compare-and-swap */
};

MUST_USE struct metrics *metrics_new(void); /* NULL when memory is out */
void metrics_free(struct metrics *m);

/* Get or create. `labels` is "" or `a="x",b="y"` with values escaped (metric_label). Never NULL: when
 * memory is out a shared dummy is returned, so that callers need no check. Same name with another type
 * is our own bug (ASSERT). */
struct metric *metric_counter(struct metrics *m, const char *name, const char *help,
                              const char *labels);
struct metric *metric_gauge(struct metrics *m, const char *name, const char *help,
                            const char *labels);
struct metric_histogram *metric_histogram(struct metrics *m, const char *name, const char *help,
                                          const char *labels, const double *bounds,
                                          size_t n_bounds);
/* A gauge (or counter) asked for when rendered. fn must be quick and must outlive the registry. */
void metric_callback(struct metrics *m, const char *name, const char *help, const char *type,
                     const char *labels, double (*fn)(void *ctx), void *ctx);
/* Removes all members whose labels contain `label_pair`, e.g. of a deleted tenant. Handles to them stay
 * valid (they are detached, not freed). */
void metrics_drop(struct metrics *m, const char *label_pair);

static inline void metric_add(struct metric *c, uint64_t n)
{
    atomic_fetch_add_explicit(&c->bits, n, memory_order_relaxed);
}
static inline void metric_inc(struct metric *c)
{
    metric_add(c, 1);
}
static inline uint64_t metric_value(const struct metric *c)
{
    return atomic_load_explicit(&c->bits, memory_order_relaxed);
}
static inline void metric_set(struct metric *g, double v)
{
    atomic_store_explicit(&g->bits, double_bits(v), memory_order_relaxed);
}
void metric_observe(struct metric_histogram *h, double v);

/* Latency bounds for everything: 0.1 ms to 30 s. */
extern const double METRIC_SECONDS[];
extern const size_t METRIC_SECONDS_N;

/* `name="value"` with the value escaped, into buf; returns buf. */
const char *metric_label(char *buf, size_t size, const char *name, struct str value);
/* Families sorted by name, each with HELP and TYPE. */
void metrics_render(struct metrics *m, struct buf *out);

#endif
