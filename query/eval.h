/* query/eval.h: runs a query. Series at a time over all steps: an operator yields one series with its columns
 * after the other; aggregations take them in and never hold all of their input. */
#ifndef QUIPU_QUERY_EVAL_H
#define QUIPU_QUERY_EVAL_H

#include "base/clock.h"
#include "base/pool.h"
#include "query/kernel.h"
#include "query/limits.h"
#include "query/source.h"

struct query_env {
    struct query_source *source;
    struct clock *clock;
    struct pool *pool; /* NULL: the caller's thread alone */
    struct query_limits limits;
    /* Polled while running; true cancels (ERR_CANCELED). May be NULL. */
    bool (*canceled)(void *ctx);
    void *canceled_ctx;
    struct str tenant;               /* for error texts; may be empty */
    struct query_progress *progress; /* may be NULL */
    struct buf *plan_short;          /* gets the plan in short, for a log; NULL: not wanted */
};

/* Whether the answer is to come with its plan: with what it took, or by estimate alone, without being run. */
enum query_explain { EXPLAIN_NOT, EXPLAIN_RUN, EXPLAIN_ESTIMATE };

struct query_request {
    struct str text;
    int64_t start_ms, end_ms;
    int64_t step_ms;     /* 0: instant query at start_ms == end_ms */
    int64_t lookback_ms; /* 0: the limit's */
    enum query_explain explain;
};

/* One series of a result. Points only where there is a value. */
struct result_series {
    struct labels labels;
    size_t n;
    const int64_t *t_ms;
    const double *v;
    struct histogram *const *h; /* NULL: floats only; else NULL for float points */
};

struct query_stats {
    uint64_t samples; /* samples in windows, as Prometheus's totalQueryableSamples */
    uint64_t samples_peak, series, chunks;
    uint64_t steps_cached; /* that were not computed (result_cache.h) */
    int64_t parse_ns, select_ns, eval_ns, total_ns;
};

struct query_result {
    struct arena arena;   /* holds everything below */
    enum value_type type; /* scalar, string, vector, matrix */
    double scalar;
    struct str string;
    int64_t t_ms; /* of scalar, string, vector */
    struct result_series
        *series; /* vector: one point each (order as evaluated); matrix: sorted by labels */
    size_t n_series;
    struct notes notes;
    struct query_stats stats;
    struct str explain; /* JSON (explain.h); p NULL: not asked for */
};

/* ERR_INVALID: parse and type errors, with Prometheus's text (without `invalid parameter "query": `).
 * ERR_EXECUTION, ERR_LIMIT, ERR_TIMEOUT, ERR_CANCELED: texts as Prometheus's. ERR_UNSUPPORTED: names the function.
 * The result is released by query_result_free, also after an error (then it may be NULL). */
MUST_USE enum err_code query_run(const struct query_env *env, const struct query_request *request,
                                 struct query_result **out, struct err *err);
/* An empty one. NULL: no memory. */
MUST_USE struct query_result *query_result_new(const struct query_env *env, struct err *err);
void query_result_free(struct query_result *result);

#endif
