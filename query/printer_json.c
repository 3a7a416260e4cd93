/* The tree as /api/v1/parse_query shows it: one object per node, keys in alphabetical order. What Prometheus added after
 * 3.5 appears only where it says something, so that older readers see what they know. */
#include "query/function.h"
#include "query/json.h"
#include "query/number.h"
#include "query/parser.h"

static void put(struct buf *out, const char *z)
{
    buf_text(out, str_of(z));
}

static void put_bool(struct buf *out, bool b)
{
    put(out, b ? "true" : "false");
}

static void put_ms(struct buf *out, int64_t ms)
{
    buf_printf(out, "%lld", (long long)ms);
}

static void put_number(struct buf *out, double v)
{
    char text[NUMBER_BYTES_MAX];
    buf_text(out, (struct str){text, number_print_plain(text, v)});
}

static void put_list(struct buf *out, const struct str_list *list)
{
    put(out, "[");
    for (size_t i = 0; i < list->n; i++) {
        if (i) put(out, ",");
        json_string_html(out, list->items[i]);
    }
    put(out, "]");
}

/* --- durations ------------------------------------------------------------------------------------- */

static const char *duration_op_text(enum duration_op op)
{
    switch (op) {
    case DUR_STEP: return "step";
    case DUR_RANGE: return "range";
    case DUR_ADD: return "+";
    case DUR_NEG:
    case DUR_SUB: return "-";
    case DUR_MUL: return "*";
    case DUR_DIV: return "/";
    case DUR_MOD: return "%";
    case DUR_POW: return "^";
    case DUR_MIN_OF: return "min_of";
    default: return "max_of";
    }
}

static void put_duration_expr(struct buf *out, const struct duration_expr *e)
{
    bool wrapped = e->op == DUR_PAREN;
    if (wrapped) e = e->a;
    if (e->op == DUR_NUMBER) {
        put(out, "{\"type\":\"numberLiteral\",\"val\":\"");
        put_number(out, e->seconds);
        return put(out, "\"}");
    }
    const struct duration_expr *lhs = e->op == DUR_NEG ? NULL : e->a;
    const struct duration_expr *rhs = e->op == DUR_NEG ? e->a : e->b;
    put(out, "{\"lhs\":");
    if (lhs)
        put_duration_expr(out, lhs);
    else
        put(out, "null");
    buf_printf(out, ",\"op\":\"%s\",\"rhs\":", duration_op_text(e->op));
    if (rhs)
        put_duration_expr(out, rhs);
    else
        put(out, "null");
    put(out, ",\"type\":\"durationExpr\",\"wrapped\":");
    put_bool(out, wrapped);
    put(out, "}");
}

/* "key":ms,["keyExpr":{…},] */
static void put_duration(struct buf *out, const char *key, const struct duration *d)
{
    buf_printf(out, "\"%s\":", key);
    put_ms(out, d->expr ? 0 : d->ms);
    put(out, ",");
    if (!d->expr) return;
    buf_printf(out, "\"%sExpr\":", key);
    put_duration_expr(out, d->expr);
    put(out, ",");
}

/* --- nodes ----------------------------------------------------------------------------------------- */

static void put_at(struct buf *out, enum at_kind at)
{
    put(out, "\"startOrEnd\":");
    put(out, at == AT_START ? "\"start\"" : at == AT_END ? "\"end\"" : "null");
    put(out, ",");
}

static void put_timestamp(struct buf *out, enum at_kind at, int64_t at_ms)
{
    put(out, "\"timestamp\":");
    if (at == AT_TIME)
        put_ms(out, at_ms);
    else
        put(out, "null");
    put(out, ",");
}

static void put_selector(struct buf *out, const struct node_selector *s,
                         const struct duration *range)
{
    static const char *const OPS[] = {"=", "!=", "=~", "!~"};
    put(out, s->mode == SELECT_ANCHORED ? "{\"anchored\":true,\"matchers\":[" : "{\"matchers\":[");
    for (size_t i = 0; i < s->n_matchers; i++) {
        put(out, i ? ",{\"name\":" : "{\"name\":");
        json_string_html(out, s->matchers[i].name);
        buf_printf(out, ",\"type\":\"%s\",\"value\":", OPS[s->matchers[i].op]);
        json_string_html(out, s->matchers[i].value);
        put(out, "}");
    }
    put(out, "],\"name\":");
    json_string_html(out, s->name);
    put(out, ",");
    put_duration(out, "offset", &s->offset);
    if (range) put_duration(out, "range", range);
    if (s->mode == SELECT_SMOOTHED) put(out, "\"smoothed\":true,");
    put_at(out, s->at);
    put_timestamp(out, s->at, s->at_ms);
    put(out, range ? "\"type\":\"matrixSelector\"}" : "\"type\":\"vectorSelector\"}");
}

static void put_subquery(struct buf *out, const struct node_subquery *s)
{
    put(out, "{\"expr\":");
    ast_print_json(s->expr, out);
    put(out, ",");
    put_duration(out, "offset", &s->offset);
    put_duration(out, "range", &s->range);
    put_at(out, s->at);
    put_duration(out, "step", &s->step);
    put_timestamp(out, s->at, s->at_ms);
    put(out, "\"type\":\"subquery\"}");
}

static const char *type_word(enum value_type type)
{
    switch (type) {
    case VALUE_SCALAR: return "scalar";
    case VALUE_VECTOR: return "vector";
    case VALUE_MATRIX: return "matrix";
    case VALUE_STRING: return "string";
    default: return "none";
    }
}

static void put_call(struct buf *out, const struct node_call *n)
{
    put(out, "{\"args\":[");
    for (size_t i = 0; i < n->n_args; i++) {
        if (i) put(out, ",");
        ast_print_json(n->args[i], out);
    }
    put(out, "],\"func\":{\"argTypes\":[");
    for (size_t i = 0; i < n->func->n_args; i++)
        buf_printf(out, "%s\"%s\"", i ? "," : "", type_word(n->func->args[i]));
    buf_printf(out, "],\"name\":\"%s\",\"returnType\":\"%s\",\"variadic\":%d},\"type\":\"call\"}",
               n->func->name, type_word(n->func->returns), n->func->variadic);
}

static void put_aggregate(struct buf *out, const struct node_aggregate *n)
{
    put(out, "{\"expr\":");
    ast_print_json(n->expr, out);
    put(out, ",\"grouping\":");
    put_list(out, &n->grouping);
    buf_printf(out, ",\"op\":\"%s\",\"param\":", aggregate_op_name(n->op));
    ast_print_json(n->param, out);
    put(out, ",\"type\":\"aggregation\",\"without\":");
    put_bool(out, n->without);
    put(out, "}");
}

static void put_fill_value(struct buf *out, bool has, double v)
{
    if (!has) return put(out, "null");
    put(out, "\"");
    put_number(out, v);
    put(out, "\"");
}

static void put_matching(struct buf *out, const struct vector_matching *m)
{
    static const char *const CARDS[] = {"one-to-one", "many-to-one", "one-to-many", "many-to-many"};
    buf_printf(out, "{\"card\":\"%s\",", CARDS[m->card]);
    if (m->has_fill_left || m->has_fill_right) {
        put(out, "\"fillValues\":{\"lhs\":");
        put_fill_value(out, m->has_fill_left, m->fill_left);
        put(out, ",\"rhs\":");
        put_fill_value(out, m->has_fill_right, m->fill_right);
        put(out, "},");
    }
    put(out, "\"include\":");
    put_list(out, &m->include);
    put(out, ",\"labels\":");
    put_list(out, &m->labels);
    put(out, ",\"on\":");
    put_bool(out, m->on);
    put(out, "}");
}

static void put_binary(struct buf *out, const struct node_binary *n)
{
    put(out, "{\"bool\":");
    put_bool(out, n->return_bool);
    put(out, ",\"lhs\":");
    ast_print_json(n->lhs, out);
    put(out, ",\"matching\":");
    if (n->has_matching)
        put_matching(out, &n->matching);
    else
        put(out, "null");
    put(out, ",\"op\":");
    json_string_html(out, str_of(binary_op_text(n->op)));
    put(out, ",\"rhs\":");
    ast_print_json(n->rhs, out);
    put(out, ",\"type\":\"binaryExpr\"}");
}

/* Depth is bounded by the parser. */
void ast_print_json(const struct node *root, struct buf *out)
{
    if (!root) return put(out, "null");
    switch (root->kind) {
    case NODE_NUMBER:
        put(out, "{\"type\":\"numberLiteral\",\"val\":\"");
        put_number(out, NODE_AS(number, root)->value);
        return put(out, "\"}");
    case NODE_STRING:
        put(out, "{\"type\":\"stringLiteral\",\"val\":");
        json_string_html(out, NODE_AS(string, root)->value);
        return put(out, "}");
    case NODE_SELECTOR: return put_selector(out, NODE_AS(selector, root), NULL);
    case NODE_MATRIX:
        return put_selector(out, NODE_AS(matrix, root)->selector, &NODE_AS(matrix, root)->range);
    case NODE_SUBQUERY: return put_subquery(out, NODE_AS(subquery, root));
    case NODE_CALL: return put_call(out, NODE_AS(call, root));
    case NODE_AGGREGATE: return put_aggregate(out, NODE_AS(aggregate, root));
    case NODE_BINARY: return put_binary(out, NODE_AS(binary, root));
    case NODE_UNARY:
        put(out, "{\"expr\":");
        ast_print_json(NODE_AS(unary, root)->expr, out);
        put(out, NODE_AS(unary, root)->negate ? ",\"op\":\"-\"" : ",\"op\":\"+\"");
        return put(out, ",\"type\":\"unaryExpr\"}");
    case NODE_PAREN:
        put(out, "{\"expr\":");
        ast_print_json(NODE_AS(paren, root)->expr, out);
        return put(out, ",\"type\":\"parenExpr\"}");
    case NODE_STEP_INVARIANT: return ast_print_json(NODE_AS(step_invariant, root)->expr, out);
    }
}
