/* query/limits.h: the guard rails of one query, and what is seen of it while it runs.
 *
 * Limits are the configuration's, or a tenant's own. An error says which limit it was, by its key, how far the query got
 * and whose limit it is, so that a reader knows what to change.
 * Threads: a query's thread and its helpers write the progress, anybody may read it and cancel. */
#ifndef QUIPU_QUERY_LIMITS_H
#define QUIPU_QUERY_LIMITS_H

#include <stdatomic.h>

#include "base/err.h"

#define QUERY_STEPS_MAX 11001

enum query_limit {
    LIMIT_TIMEOUT,
    LIMIT_SERIES,
    LIMIT_SAMPLES,
    LIMIT_WORK,
    LIMIT_RESPONSE,
    LIMIT_MEMORY,
    LIMIT_TENANT_MEMORY,
    LIMIT_BLOCKED, /* by query.blocked: none of the numbers below */
    QUERY_LIMITS_N
};
#define LIMIT_NONE QUERY_LIMITS_N

struct query_limits {
    int64_t timeout_ms;   /* 2 min */
    uint64_t series_max;  /* series that all selectors find; 0: as many as fit into memory */
    uint64_t samples_max; /* 50,000,000 held at once, as Prometheus counts: all points of
                               * selectors and range functions; the samples of one series */
    uint64_t work_max;    /* 1e12 samples looked at, those of a window at each step; 0: none */
    uint64_t response_bytes_max;      /* of the answer as JSON, before compression; 0: none */
    size_t memory_bytes_max;          /* 1 GiB */
    uint64_t tenant_memory_bytes_max; /* of all of a tenant's queries; 0: none */
    int64_t lookback_ms;              /* 5 min */
    int64_t subquery_step_ms;         /* 1 min: subqueries without a resolution */
    int64_t slow_ms;                  /* 5 s: queries that take longer are logged; 0: none */
    size_t batch_series;              /* 256: read and evaluated at once; changes no answer */
};
struct query_limits query_limits_default(void);
/* Of several tenants' limits: each the smaller one. */
void query_limits_join(struct query_limits *limits, const struct query_limits *other);

/* "query.series_max" */
const char *query_limit_key(enum query_limit limit);
/* "series_max", for metrics */
const char *query_limit_name(enum query_limit limit);

/* What all running queries of one tenant have; relaxed. */
struct tenant_memory {
    _Atomic uint64_t bytes;
    _Atomic uint32_t n_queries;
};

struct query_progress {
    struct tenant_memory *shared; /* NULL: not counted */
    /* Counts so far and memory now; relaxed: for looking at */
    _Atomic uint64_t series, samples, memory_bytes;
    _Atomic bool canceled;  /* relaxed: seen soon is enough */
    _Atomic unsigned limit; /* enum query_limit that ended it, or LIMIT_NONE; relaxed */
};
void query_progress_init(struct query_progress *progress);
/* From here on the query counts for its tenant, until the release. */
void query_progress_share(struct query_progress *progress, struct tenant_memory *shared);
void query_progress_memory(struct query_progress *progress, size_t bytes);
void query_progress_release(struct query_progress *progress);

/* What a query has gone beyond. `tenant` may be empty; progress NULL. `what`: Prometheus's text, or ours, which comes
 * first; `reached` is what would have been needed at least. */
struct limit_breach {
    enum query_limit limit;
    const char *what;
    uint64_t reached, allowed;
    struct str tenant;
};
/* ERR_TIMEOUT for the timeout, ERR_EXECUTION else. */
enum err_code query_limit_error(const struct limit_breach *breach, struct query_progress *progress,
                                struct err *err);

#endif
