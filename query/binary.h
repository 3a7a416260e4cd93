/* query/binary.h: what binary operators make of two elements at a step, and of whole columns of floats. */
#ifndef QUIPU_QUERY_BINARY_H
#define QUIPU_QUERY_BINARY_H

#include "query/eval_op.h"

struct pair_job {
    enum binary_op op;
    bool return_bool;
    uint32_t pos; /* for notes */
    struct notes *notes;
    struct arena *arena; /* for histograms of the result */
};

/* Does the operator take the name away? Filters and trims keep it. */
static inline bool op_drops_name(enum binary_op op, bool return_bool)
{
    return op <= OP_ATAN2 || return_bool;
}

/* out->kind NONE: no result. Filter comparisons that hold give the left element. */
MUST_USE enum err_code pair_evaluate(const struct pair_job *job, const struct point *l,
                                     const struct point *r, struct point *out, struct err *err);

/* Floats at the steps of `present`: out[s] = a[s] op b[s]; `out` may be a or b. */
void column_arithmetic(enum binary_op op, const uint64_t *present, size_t n_steps, const double *a,
                       const double *b, double *out);
/* Bits of `present` where a[s] op b[s]. `out` may be `present`. */
void column_compare(enum binary_op op, const uint64_t *present, size_t n_steps, const double *a,
                    const double *b, uint64_t *out);

#endif
