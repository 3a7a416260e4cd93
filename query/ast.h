/* query/ast.h: PromQL as a typed tree. Nodes live in the arena given to the parser and are not changed after
 * the type check, but for what `resolved` says. Positions are byte offsets into the query text. */
#ifndef QUIPU_QUERY_AST_H
#define QUIPU_QUERY_AST_H

#include "base/arena.h"
#include "base/bytes.h"
#include "storage/matcher.h"

enum value_type { VALUE_NONE, VALUE_SCALAR, VALUE_VECTOR, VALUE_MATRIX, VALUE_STRING };
/* "none", "scalar", "instant vector", "range vector", "string" */
const char *value_type_name(enum value_type type);

enum node_kind {
    NODE_NUMBER,
    NODE_STRING,
    NODE_SELECTOR, /* instant vector selector */
    NODE_MATRIX,   /* selector with a range */
    NODE_SUBQUERY,
    NODE_CALL,
    NODE_AGGREGATE,
    NODE_BINARY,
    NODE_UNARY,
    NODE_PAREN,
    NODE_STEP_INVARIANT /* made by the planner, never by the parser */
};

enum binary_op {
    OP_ADD,
    OP_SUB,
    OP_MUL,
    OP_DIV,
    OP_MOD,
    OP_POW,
    OP_ATAN2,
    OP_EQ,
    OP_NEQ,
    OP_LT,
    OP_LTE,
    OP_GT,
    OP_GTE,
    OP_TRIM_UPPER, /* </ */
    OP_TRIM_LOWER, /* >/ */
    OP_AND,
    OP_OR,
    OP_UNLESS
};
const char *binary_op_text(enum binary_op op); /* "+", "atan2", "and", … */
static inline bool op_is_comparison(enum binary_op op)
{
    return op >= OP_EQ && op <= OP_GTE;
}
static inline bool op_is_set(enum binary_op op)
{
    return op >= OP_AND;
}

enum aggregate_op {
    AGG_SUM,
    AGG_AVG,
    AGG_COUNT,
    AGG_MIN,
    AGG_MAX,
    AGG_GROUP,
    AGG_STDDEV,
    AGG_STDVAR,
    AGG_TOPK,
    AGG_BOTTOMK,
    AGG_COUNT_VALUES,
    AGG_QUANTILE,
    AGG_LIMITK,
    AGG_LIMIT_RATIO
};
const char *aggregate_op_name(enum aggregate_op op); /* lower case */

enum match_card { CARD_ONE_TO_ONE, CARD_MANY_TO_ONE, CARD_ONE_TO_MANY, CARD_MANY_TO_MANY };

struct str_list {
    const struct str *items;
    size_t n;
};

struct vector_matching {
    enum match_card card;
    bool on;         /* else ignoring */
    bool has_clause; /* on or ignoring was written (matters to the printer) */
    struct str_list labels;
    struct str_list include; /* of group_left / group_right */
    bool has_fill_left, has_fill_right;
    double fill_left, fill_right;
};

/* `@` of selectors and subqueries */
enum at_kind { AT_NONE, AT_TIME, AT_START, AT_END };

/* A duration as written: a constant, or an expression over step() and range() that the query's times
 * resolve (query/duration.h). */
enum duration_op {
    DUR_NUMBER, /* seconds, or a duration literal */
    DUR_STEP,
    DUR_RANGE,
    DUR_NEG,
    DUR_PAREN, /* never around a plain number */
    DUR_ADD,
    DUR_SUB,
    DUR_MUL,
    DUR_DIV,
    DUR_MOD,
    DUR_POW,
    DUR_MIN_OF,
    DUR_MAX_OF
};
struct duration_expr {
    enum duration_op op;
    uint32_t pos, end;
    double seconds;   /* DUR_NUMBER */
    bool is_duration; /* written as 5m rather than 300 */
    uint32_t height;  /* as in struct node */
    struct duration_expr *a, *b;
};
struct duration {
    int64_t ms;                       /* valid when expr is NULL, or after durations_resolve() */
    const struct duration_expr *expr; /* NULL for a plain constant */
};

enum selector_mode { SELECT_PLAIN, SELECT_ANCHORED, SELECT_SMOOTHED };

struct node {
    enum node_kind kind;
    enum value_type type; /* set by the type check */
    uint32_t pos, end;    /* [pos, end) in the query text */
    uint32_t height;      /* of the tree below, 1 for a leaf; at most PARSER_DEPTH_MAX */
};

struct node_number {
    struct node node;
    double value;
    bool is_duration; /* prints as a duration */
    struct str text;
};
struct node_string {
    struct node node;
    struct str value; /* unquoted; may be invalid UTF-8 */
};
struct node_selector {
    struct node node;
    struct str name;                /* the metric name written outside the braces, else empty */
    const struct matcher *matchers; /* incl. the one for `name`, last if it stood outside */
    size_t n_matchers;
    struct duration offset; /* as written; negative looks forward */
    enum at_kind at;
    int64_t at_ms; /* AT_TIME */
    enum selector_mode mode;
    bool bypass_empty_check; /* info()'s second argument */
};
struct node_matrix {
    struct node node;
    struct node_selector *selector;
    struct duration range;
};
struct node_subquery {
    struct node node;
    struct node *expr;
    struct duration range, step, offset;
    bool has_step;
    enum at_kind at;
    int64_t at_ms;
};

#define FUNCTION_ARGS_MAX 5
struct function_sig; /* query/function.h */
struct node_call {
    struct node node;
    const struct function_sig *func;
    struct node **args;
    size_t n_args;
};
struct node_aggregate {
    struct node node;
    enum aggregate_op op;
    bool without;
    bool has_clause; /* by or without was written */
    struct str_list grouping;
    struct node *param; /* NULL if none */
    struct node *expr;
};
struct node_binary {
    struct node node;
    enum binary_op op;
    bool return_bool;
    struct node *lhs, *rhs;
    uint32_t op_pos;
    bool has_matching; /* false unless both sides are vectors */
    struct vector_matching matching;
};
struct node_unary {
    struct node node;
    bool negate; /* else unary plus */
    struct node *expr;
};
struct node_paren {
    struct node node;
    struct node *expr;
};
struct node_step_invariant {
    struct node node;
    struct node *expr;
};

/* Casts that check the kind. */
#define NODE_AS(type, node_ptr) ((struct node_##type *)(void *)(node_ptr))

/* Strips parentheses. */
struct node *node_unparen(struct node *node);

typedef bool node_visit_fn(void *ctx, struct node *node); /* false: do not go below this node */
/* Depth first, parents before children, children in the order they are written. */
void node_walk(struct node *root, node_visit_fn *fn, void *ctx);

#endif
