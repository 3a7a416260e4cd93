#include "query/ast.h"

const char *value_type_name(enum value_type type)
{
    switch (type) {
    case VALUE_SCALAR: return "scalar";
    case VALUE_VECTOR: return "instant vector";
    case VALUE_MATRIX: return "range vector";
    case VALUE_STRING: return "string";
    default: return "none";
    }
}

const char *binary_op_text(enum binary_op op)
{
    static const char *const TEXTS[] = {
        [OP_ADD] = "+",  [OP_SUB] = "-",         [OP_MUL] = "*",         [OP_DIV] = "/",
        [OP_MOD] = "%",  [OP_POW] = "^",         [OP_ATAN2] = "atan2",   [OP_EQ] = "==",
        [OP_NEQ] = "!=", [OP_LT] = "<",          [OP_LTE] = "<=",        [OP_GT] = ">",
        [OP_GTE] = ">=", [OP_TRIM_UPPER] = "</", [OP_TRIM_LOWER] = ">/", [OP_AND] = "and",
        [OP_OR] = "or",  [OP_UNLESS] = "unless",
    };
    return TEXTS[op];
}

const char *aggregate_op_name(enum aggregate_op op)
{
    static const char *const NAMES[] = {
        [AGG_SUM] = "sum",
        [AGG_AVG] = "avg",
        [AGG_COUNT] = "count",
        [AGG_MIN] = "min",
        [AGG_MAX] = "max",
        [AGG_GROUP] = "group",
        [AGG_STDDEV] = "stddev",
        [AGG_STDVAR] = "stdvar",
        [AGG_TOPK] = "topk",
        [AGG_BOTTOMK] = "bottomk",
        [AGG_COUNT_VALUES] = "count_values",
        [AGG_QUANTILE] = "quantile",
        [AGG_LIMITK] = "limitk",
        [AGG_LIMIT_RATIO] = "limit_ratio",
    };
    return NAMES[op];
}

struct node *node_unparen(struct node *node)
{
    while (node && node->kind == NODE_PAREN) node = NODE_AS(paren, node)->expr;
    return node;
}

/* Recursion is bounded: the parser refuses trees higher than PARSER_DEPTH_MAX. */
void node_walk(struct node *root, node_visit_fn *fn, void *ctx)
{
    if (!root || !fn(ctx, root)) return;
    switch (root->kind) {
    case NODE_NUMBER:
    case NODE_STRING:
    case NODE_SELECTOR: return;
    case NODE_MATRIX: return node_walk(&NODE_AS(matrix, root)->selector->node, fn, ctx);
    case NODE_SUBQUERY: return node_walk(NODE_AS(subquery, root)->expr, fn, ctx);
    case NODE_CALL:
        for (size_t i = 0; i < NODE_AS(call, root)->n_args; i++)
            node_walk(NODE_AS(call, root)->args[i], fn, ctx);
        return;
    case NODE_AGGREGATE:
        node_walk(NODE_AS(aggregate, root)->param, fn, ctx);
        return node_walk(NODE_AS(aggregate, root)->expr, fn, ctx);
    case NODE_BINARY:
        node_walk(NODE_AS(binary, root)->lhs, fn, ctx);
        return node_walk(NODE_AS(binary, root)->rhs, fn, ctx);
    case NODE_UNARY: return node_walk(NODE_AS(unary, root)->expr, fn, ctx);
    case NODE_PAREN: return node_walk(NODE_AS(paren, root)->expr, fn, ctx);
    case NODE_STEP_INVARIANT: return node_walk(NODE_AS(step_invariant, root)->expr, fn, ctx);
    }
}
