/* tools/bench_load.h: what `quipu bench ingest` sends. Each connection has a load of its own: a sequence of rounds,
 * each of some remote write 1.0 bodies (protobuf in a snappy block). Threads: one at a time per load. */
#ifndef QUIPU_TOOLS_BENCH_LOAD_H
#define QUIPU_TOOLS_BENCH_LOAD_H

#include "tools/fleet.h"

struct bench_load;
struct bench_load_ops {
    /* Makes the next round. *n_requests 0: there is none. */
    enum err_code (*round)(struct bench_load *load, size_t *n_requests, struct err *err);
    /* A body of the round, valid until the next call. */
    enum err_code (*request)(struct bench_load *load, size_t i, struct bytes *body,
                             size_t *n_samples, struct err *err);
    void (*free)(struct bench_load *load);
};
struct bench_load {
    const struct bench_load_ops *ops;
    uint64_t n_samples;        /* in all rounds */
    int64_t first_ms, last_ms; /* about where the samples' times begin and end */
};

static inline void bench_load_free(struct bench_load *load) /* NULL: no-op */
{
    if (load) load->ops->free(load);
}

/* Scrapes of a fleet, a round each. With a lifetime, all instances are replaced after so many scrapes: the old ones
 * end with staleness markers in the same round in which new ones, of other names, begin. */
struct bench_fleet_config {
    struct fleet_config fleet;
    size_t n_fleet;    /* instances of all connections: numbers of replacements are beyond them */
    uint64_t scrapes;  /* rounds */
    uint64_t lifetime; /* in scrapes; 0: for ever */
    int64_t first_ms;  /* of the first scrape */
};
MUST_USE enum err_code bench_fleet_new(const struct bench_fleet_config *config,
                                       struct bench_load **out, struct err *err);

/* Import of history: samples of meters at even steps, a request per round. Each value is a function of series and step, so that they
 * can be sent in any order: series after series, or all samples of all series shuffled. */
struct bench_history_config {
    uint64_t n_series, n_steps;
    uint64_t part, n_parts; /* this connection's share of the order */
    uint64_t samples_per_request;
    int64_t first_ms, interval_ms;
    uint64_t seed;
    bool shuffled;
};
MUST_USE enum err_code bench_history_new(const struct bench_history_config *config,
                                         struct bench_load **out, struct err *err);

/* ---- for tests ---- */

/* A permutation of 0..n-1 that depends on the seed. */
uint64_t bench_shuffle(uint64_t i, uint64_t n, uint64_t seed);
double bench_history_value(uint64_t seed, uint64_t series, uint64_t step);

#endif
