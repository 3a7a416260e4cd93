/* query/plan.h: a query as the evaluator runs it. The planner turns the syntax tree into operators with every time
 * resolved: no durations expressions, no `@`, no offsets are left to think about, scalars that are known are
 * folded, and what does not depend on the step is computed once (PLAN_REPEAT). All in the query's arena. */
#ifndef QUIPU_QUERY_PLAN_H
#define QUIPU_QUERY_PLAN_H

#include "query/ast.h"
#include "query/function.h"

/* The times at which something is evaluated: start_ms + i * step_ms for i < n. */
struct grid {
    int64_t start_ms, step_ms;
    size_t n;
};
static inline int64_t grid_time(const struct grid *grid, size_t i)
{
    return grid->start_ms + (int64_t)i * grid->step_ms;
}

enum plan_kind {
    /* Scalars: one number per step. */
    PLAN_NUMBER,        /* number */
    PLAN_TIME,          /* the step's own time in seconds */
    PLAN_SCALAR_OF,     /* scalar(args[0]) */
    PLAN_SCALAR_BINARY, /* args[0] op args[1] */
    PLAN_SCALAR_NEGATE,
    PLAN_SCALAR_EXTREME, /* max_of, min_of */
    PLAN_STRING,         /* text */

    /* Instant vectors: series with a value at some of the steps. */
    PLAN_SELECT,        /* samples of stored series within the lookback; `fn` FN_N: their values,
                            * FN_TIMESTAMP, FN_START_TIMESTAMP: their times instead; FN_INFO:
                            * times of floats, but histograms as they are */
    PLAN_RANGE,         /* fn over the range vector args[main_arg]; the other args are scalars */
    PLAN_ELEMENT,       /* fn of every element of args[main_arg]; the other args are scalars */
    PLAN_NEGATE,        /* -args[0] */
    PLAN_VECTOR_SCALAR, /* args[0] op args[1], one of them a scalar, the other main_arg */
    PLAN_MATCH,         /* args[0] op args[1], vectors with matching labels */
    PLAN_SET,           /* and, or, unless */
    PLAN_AGGREGATE,     /* args[0], parameter in args[1] or `text` */
    PLAN_QUANTILE,      /* histogram_quantile(s), histogram_fraction; args as written */
    PLAN_ABSENT,        /* absent(args[0]); labels in absent_labels */
    PLAN_SORT,          /* fn */
    PLAN_VECTOR,        /* vector(args[0]) */
    PLAN_LABELS,        /* label_replace, label_join */
    PLAN_INFO,          /* info(args[0]); args[1] selects the info series */
    PLAN_REPEAT,        /* args[0], evaluated once, at every step */
    PLAN_UNIQUE,        /* args[0] with series of equal labels made one */

    /* Range vectors: samples per series. */
    PLAN_SELECT_RANGE,
    PLAN_SUBQUERY /* the points of args[0], on a grid of its own */
};

/* The samples that one step looks at: (end - range_ms, end], where end is the step's time less offset_ms, or
 * pinned_ms whatever the step. range_ms of an instant selector: the lookback. */
struct plan_window {
    bool pinned;
    int64_t pinned_ms, offset_ms, range_ms;
    /* anchored and smoothed selectors reach further. */
    int64_t extra_before_ms, extra_after_ms;
};
static inline int64_t window_end(const struct plan_window *window, const struct grid *grid,
                                 size_t step)
{
    return window->pinned ? window->pinned_ms : grid_time(grid, step) - window->offset_ms;
}

struct plan {
    enum plan_kind kind;
    enum value_type type;
    const struct node *node; /* where it stands in the query; positions of notes */
    struct grid grid;
    struct plan **args;
    size_t n_args;
    size_t main_arg; /* the argument that brings the series, where the others are scalars */

    double number;
    struct str text;
    enum function_id fn;
    enum binary_op op;
    bool repeats_labels; /* may yield several series with equal labels that never meet at a step */

    /* selectors and subqueries */
    struct plan_window window;
    enum selector_mode mode;
    const struct matcher *matchers;
    size_t n_matchers;
    bool stats_only;          /* only counts and sums of histograms are asked for */
    int64_t mint_ms, maxt_ms; /* what has to be read, both inclusive */

    struct labels absent_labels;
    struct plan_stats *stats; /* explain.h; NULL: nobody asked */
};

struct plan_context {
    struct arena *arena;
    int64_t start_ms, end_ms, step_ms; /* of the query; step 0: instant */
    int64_t lookback_ms, subquery_step_ms;
};

/* ERR_INVALID: durations that make no sense once resolved. ERR_EXECUTION: modifiers that a function refuses. */
MUST_USE enum err_code plan_make(const struct plan_context *ctx, struct node *root,
                                 struct plan **out, struct err *err);
/* Can this expression yield anything else at one step than at another? */
bool node_is_step_invariant(const struct node *node);

#endif
