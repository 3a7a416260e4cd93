/* tests/query/gen_expr.h: random PromQL that the parser accepts, for property tests and fuzzers. The same seed gives the
 * same expressions. */
#ifndef QUIPU_TESTS_GEN_EXPR_H
#define QUIPU_TESTS_GEN_EXPR_H

#include "base/bytes.h"
#include "base/rng.h"
#include "query/ast.h"

struct gen_expr_options {
    /* Metric and label names to draw from; NULL: a few of its own. */
    const char *const *metrics, *const *labels, *const *values;
    size_t n_metrics, n_labels, n_values;
    unsigned depth; /* of nested expressions; 0 gives leaves */
    /* What to leave out */
    bool no_odd_syntax;    /* comments, odd spacing, quoted names, several forms of one number */
    bool no_duration_expr; /* 5m + step() */
    bool no_modifiers;     /* offset, @, anchored, smoothed */
    bool no_functions, no_aggregates, no_binary, no_subqueries;
};
struct gen_expr_options gen_expr_defaults(void); /* everything, depth 4 */

/* Appends one expression of that type (scalar, vector, matrix or string). */
void gen_expr(struct rng *rng, const struct gen_expr_options *options, enum value_type type,
              struct buf *out);

#endif
