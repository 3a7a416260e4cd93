/* query/explain.h: a plan as people read it, with what was estimated and, after it ran, what it took.
 * Nothing of it costs a query that is not explained more than one look at a pointer per node. */
#ifndef QUIPU_QUERY_EXPLAIN_H
#define QUIPU_QUERY_EXPLAIN_H

#include "query/cost.h"
#include "query/eval_op.h"

/* Of one node; times and samples with those of all below it. */
struct plan_stats {
    struct plan_cost cost;
    bool ran;
    int64_t ns;       /* on the query's thread, waiting for its helpers included */
    uint64_t series;  /* yielded; of a selector: found */
    uint64_t points;  /* yielded */
    uint64_t samples; /* looked at in windows */
    uint64_t batches;
};

/* Gives every node of the tree its stats. */
MUST_USE enum err_code explain_attach(struct arena *arena, struct plan *plan, struct err *err);
/* "sum(rate(select))": for a line in a log. */
void explain_short(const struct plan *plan, struct buf *out);
/* {"node":"aggregate sum","expr":"sum(rate(x[5m]))","estimated":{…},"measured":{…},"children":[…]} */
void explain_print(const struct plan *plan, struct str text, struct buf *out);

/* ---- for the evaluator ---- */

/* An operator that counts what `inner` yields; `begin` is when its opening began. */
struct explain_mark {
    int64_t ns;
    uint64_t samples;
};
static inline struct explain_mark explain_begin(const struct eval *eval)
{
    return (struct explain_mark){clock_mono_ns(eval->env->clock), eval->stats.samples};
}
void explain_add(struct eval *eval, const struct plan *plan, struct explain_mark since);
MUST_USE enum err_code explain_wrap(struct eval *eval, const struct plan *plan,
                                    struct explain_mark since, struct op **op, struct err *err);

#endif
