/* The checks that need a whole tree: types, numbers of arguments, matching clauses. Children before parents, and the
 * first error ends it, so that the error reported is the one Prometheus reports. Prometheus goes on after an error but
 * shows only the first; where its order is odd (arguments are counted before they are looked at), so is ours. */
#include <stdarg.h>
#include <stdio.h>

#include "query/function.h"
#include "query/parser_private.h"
#include "storage/labels.h"

struct checker {
    struct str text;
    struct err *err;
};

static bool fail(struct checker *c, uint32_t pos, const char *fmt, ...) PRINTF_LIKE(3, 4);
static bool fail(struct checker *c, uint32_t pos, const char *fmt, ...)
{
    char message[ERR_TEXT_BYTES];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    size_t len = n < 0 ? 0 : MIN_OF((size_t)n, sizeof message - 1);
    parser_error(c->err, c->text, pos, (struct str){message, len});
    return false;
}

static bool check(struct checker *c, struct node *node);

static bool check_type(struct checker *c, struct node *node, enum value_type want,
                       const char *context)
{
    if (!check(c, node)) return false;
    if (node->type == want) return true;
    return fail(c, node->pos, "expected type %s in %s, got %s", value_type_name(want), context,
                value_type_name(node->type));
}

/* --- selectors ------------------------------------------------------------------------------------- */

static bool fail_name_twice(struct checker *c, const struct node_selector *s, struct str other)
{
    struct buf text;
    buf_init(&text, MEM_QUERY);
    buf_text(&text, STR("metric name must not be set twice: "));
    str_quote(&text, s->name);
    buf_text(&text, STR(" or "));
    str_quote(&text, other);
    fail(c, s->node.pos, "%.*s", (int)text.len, (const char *)text.p);
    buf_release(&text);
    return false;
}

static bool check_selector(struct checker *c, struct node_selector *s)
{
    if (s->name.len) {
        for (size_t i = 0; i + 1 < s->n_matchers; i++) /* the last one is the name itself */
            if (str_eq(s->matchers[i].name, STR(LABEL_NAME)))
                return fail_name_twice(c, s, s->matchers[i].value);
        return true;
    }
    if (s->bypass_empty_check) return true;
    for (size_t i = 0; i < s->n_matchers; i++)
        if (!matcher_matches_empty(&s->matchers[i])) return true;
    return fail(c, s->node.pos, "vector selector must contain at least one non-empty matcher");
}

/* --- operators ------------------------------------------------------------------------------------- */

static bool is_operand(const struct node *node)
{
    return node->type == VALUE_SCALAR || node->type == VALUE_VECTOR;
}

static bool check_labels_apart(struct checker *c, const struct node_binary *n)
{
    const struct vector_matching *m = &n->matching;
    for (size_t i = 0; m->on && i < m->labels.n; i++) {
        for (size_t j = 0; j < m->include.n; j++) {
            if (!str_eq(m->labels.items[i], m->include.items[j])) continue;
            struct buf quoted;
            buf_init(&quoted, MEM_QUERY);
            str_quote(&quoted, m->labels.items[i]);
            fail(c, n->op_pos, "label %.*s must not occur in ON and GROUP clause at once",
                 (int)quoted.len, (const char *)quoted.p);
            buf_release(&quoted);
            return false;
        }
    }
    return true;
}

/* After the types of both sides are known to be scalar or vector */
static bool check_matching(struct checker *c, struct node_binary *n)
{
    struct vector_matching *m = &n->matching;
    uint32_t pos = n->node.pos;
    bool vectors = n->lhs->type == VALUE_VECTOR && n->rhs->type == VALUE_VECTOR;
    bool fill = m->has_fill_left || m->has_fill_right;
    n->has_matching = vectors;
    if (!vectors && m->labels.n)
        return fail(c, pos, "vector matching only allowed between instant vectors");
    if (vectors && op_is_set(n->op)) {
        if (m->card != CARD_ONE_TO_ONE)
            return fail(c, pos, "no grouping allowed for \"%s\" operation", binary_op_text(n->op));
        m->card = CARD_MANY_TO_MANY;
    }
    if (!vectors && op_is_set(n->op))
        return fail(c, pos, "set operator \"%s\" not allowed in binary scalar expression",
                    binary_op_text(n->op));
    if (fill && op_is_set(n->op))
        return fail(c, pos, "filling in missing series not allowed for set operators");
    if (fill && !vectors)
        return fail(c, pos, "filling in missing series only allowed between instant vectors");
    return true;
}

static bool check_binary(struct checker *c, struct node_binary *n)
{
    if (!check(c, n->lhs) || !check(c, n->rhs)) return false;
    bool scalars = n->lhs->type == VALUE_SCALAR && n->rhs->type == VALUE_SCALAR;
    n->node.type = scalars ? VALUE_SCALAR : VALUE_VECTOR;
    if (n->return_bool && !op_is_comparison(n->op))
        return fail(c, n->op_pos, "bool modifier can only be used on comparison operators");
    if (op_is_comparison(n->op) && !n->return_bool && scalars)
        return fail(c, n->op_pos, "comparisons between scalars must use BOOL modifier");
    if (!check_labels_apart(c, n)) return false;
    const struct node *bad = !is_operand(n->lhs) ? n->lhs : !is_operand(n->rhs) ? n->rhs : NULL;
    if (bad)
        return fail(c, bad->pos,
                    "binary expression must contain only scalar and instant vector types");
    return check_matching(c, n);
}

static bool check_unary(struct checker *c, struct node_unary *n)
{
    if (!check(c, n->expr)) return false;
    n->node.type = n->expr->type;
    if (is_operand(n->expr)) return true;
    return fail(c, n->node.pos,
                "unary expression only allowed on expressions of type scalar or instant vector, "
                "got \"%s\"",
                value_type_name(n->expr->type));
}

/* The names that Prometheus uses inside and, in this one text, shows */
static const char *internal_type_name(enum value_type type)
{
    return type == VALUE_MATRIX ? "matrix" : value_type_name(type);
}

static bool check_subquery(struct checker *c, struct node_subquery *n)
{
    if (!check(c, n->expr)) return false;
    n->node.type = VALUE_MATRIX;
    if (n->expr->type == VALUE_VECTOR) return true;
    return fail(c, n->node.pos, "subquery is only allowed on instant vector, got %s instead",
                internal_type_name(n->expr->type));
}

/* --- calls and aggregations ------------------------------------------------------------------------ */

static bool check_n_args(struct checker *c, const struct node_call *n)
{
    const struct function_sig *f = n->func;
    size_t least = f->variadic ? f->n_args - 1u : f->n_args;
    const char *bound = NULL;
    size_t expected = least;
    if (!f->variadic && n->n_args != least) {
        bound = "";
    } else if (n->n_args < least) {
        bound = "at least ";
    } else if (f->variadic > 0 && n->n_args > least + (size_t)f->variadic) {
        bound = "at most ";
        expected = least + (size_t)f->variadic;
    }
    if (!bound) return true;
    return fail(c, n->node.pos, "expected %s%zu argument(s) in call to \"%s\", got %zu", bound,
                expected, f->name, n->n_args);
}

/* info's second argument is no vector but a bag of matchers: {} will do, a name in front will not. */
static bool check_info(struct checker *c, struct node *arg)
{
    struct node_selector *s = arg->kind == NODE_SELECTOR ? NODE_AS(selector, arg) : NULL;
    if (s && !s->name.len) {
        s->bypass_empty_check = true;
        return true;
    }
    if (!check(c, arg)) return false;
    if (arg->type != VALUE_VECTOR) return true; /* the type error that follows says it better */
    return fail(c, arg->pos, "expected label selectors only, got vector selector instead");
}

static bool check_call(struct checker *c, struct node_call *n)
{
    const struct function_sig *f = n->func;
    char context[64];
    n->node.type = f->returns;
    if (!check_n_args(c, n)) return false;
    if (f->id == FN_INFO && n->n_args > 1 && !check_info(c, n->args[1])) return false;
    snprintf(context, sizeof context, "call to function \"%s\"", f->name);
    for (size_t i = 0; i < n->n_args; i++) {
        enum value_type want = f->args[MIN_OF(i, (size_t)f->n_args - 1)];
        if (!check_type(c, n->args[i], want, context)) return false;
    }
    return true;
}

static bool check_aggregate(struct checker *c, struct node_aggregate *n)
{
    n->node.type = VALUE_VECTOR;
    if (!check_type(c, n->expr, VALUE_VECTOR, "aggregation expression")) return false;
    if (!n->param) return true;
    enum value_type want = n->op == AGG_COUNT_VALUES ? VALUE_STRING : VALUE_SCALAR;
    return check_type(c, n->param, want, "aggregation parameter");
}

/* --- all ------------------------------------------------------------------------------------------- */

/* Depth is bounded by the parser. */
static bool check(struct checker *c, struct node *node)
{
    switch (node->kind) {
    case NODE_NUMBER: node->type = VALUE_SCALAR; return true;
    case NODE_STRING: node->type = VALUE_STRING; return true;
    case NODE_SELECTOR:
        node->type = VALUE_VECTOR;
        return check_selector(c, NODE_AS(selector, node));
    case NODE_MATRIX:
        node->type = VALUE_MATRIX;
        return check_selector(c, NODE_AS(matrix, node)->selector);
    case NODE_SUBQUERY: return check_subquery(c, NODE_AS(subquery, node));
    case NODE_CALL: return check_call(c, NODE_AS(call, node));
    case NODE_AGGREGATE: return check_aggregate(c, NODE_AS(aggregate, node));
    case NODE_BINARY: return check_binary(c, NODE_AS(binary, node));
    case NODE_UNARY: return check_unary(c, NODE_AS(unary, node));
    case NODE_PAREN: {
        struct node_paren *paren = NODE_AS(paren, node);
        bool fine = check(c, paren->expr);
        node->type = paren->expr->type;
        return fine;
    }
    case NODE_STEP_INVARIANT: break;
    }
    ASSERT(node->kind != NODE_STEP_INVARIANT); /* only the planner makes them */
    return false;
}

void parser_check(struct node *root, struct str text, struct err *err)
{
    struct checker c = {text, err};
    err_clear(err);
    (void)check(&c, root); /* what failed is in err */
}
