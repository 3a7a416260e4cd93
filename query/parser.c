#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "query/duration.h"
#include "query/function.h"
#include "query/parser_private.h"
#include "storage/labels.h"

/* --- errors and tokens ----------------------------------------------------------------------------- */

void position_print(struct str text, uint32_t pos, struct buf *out)
{
    size_t line = 1, line_start = 0;
    for (size_t i = 0; i < pos && i < text.len; i++) {
        if (text.p[i] != '\n') continue;
        line++;
        line_start = i + 1;
    }
    buf_printf(out, "%zu:%zu", line, pos - line_start + 1);
}

void parser_error(struct err *err, struct str text, uint32_t pos, struct str message)
{
    struct buf place;
    buf_init(&place, MEM_QUERY);
    if (text.len)
        position_print(text, pos, &place);
    else
        buf_text(&place, STR("unknown position"));
    err_set(err, ERR_INVALID, "%.*s: parse error: %.*s", (int)place.len, (const char *)place.p,
            STR_ARG(message));
    buf_release(&place);
}

void *parser_fail(struct parser *p, uint32_t pos, const char *fmt, ...)
{
    char message[ERR_TEXT_BYTES];
    if (parser_failed(p)) return NULL;
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    size_t len = n < 0 ? 0 : MIN_OF((size_t)n, sizeof message - 1);
    parser_error(p->err, p->text, pos, (struct str){message, len});
    return NULL;
}

void *parser_no_memory(struct parser *p)
{
    if (!parser_failed(p)) arena_fail(p->arena, p->err);
    return NULL;
}

void *parser_too_deep(struct parser *p)
{
    if (!parser_failed(p))
        err_set(p->err, ERR_LIMIT, "expression is nested too deeply: more than %d levels",
                PARSER_DEPTH_MAX);
    return NULL;
}

const struct token *parser_peek(struct parser *p)
{
    if (p->has_token) return &p->token;
    lexer_next(&p->lexer, &p->token);
    p->has_token = true;
    if (p->token.kind == TOK_ERROR) {
        struct buf *text = &p->lexer.error;
        parser_fail(p, p->lexer.error_pos, "%.*s", (int)MIN_OF(text->len, (size_t)INT32_MAX),
                    (const char *)text->p);
    }
    return &p->token;
}

struct token parser_take(struct parser *p)
{
    ASSERT(p->has_token);
    /* An end or an error stays: whoever looks again finds it again. */
    if (p->token.kind != TOK_END && p->token.kind != TOK_ERROR) p->has_token = false;
    p->last_end = p->token.pos + (uint32_t)p->token.text.len;
    return p->token;
}

void *parser_unexpected(struct parser *p)
{
    const struct token *tok = parser_peek(p);
    if (parser_failed(p)) return NULL;
    struct buf text;
    buf_init(&text, MEM_QUERY);
    buf_text(&text, STR("unexpected "));
    token_describe(tok, &text);
    if (p->context->in) buf_printf(&text, " in %s", p->context->in);
    if (p->context->expected) buf_printf(&text, ", expected %s", p->context->expected);
    parser_fail(p, tok->pos, "%.*s", (int)text.len, (const char *)text.p);
    buf_release(&text);
    return NULL;
}

bool parser_expect(struct parser *p, enum token_kind kind)
{
    if (!parser_is(p, kind)) return parser_unexpected(p) != NULL;
    parser_take(p);
    return true;
}

/* --- nodes ----------------------------------------------------------------------------------------- */

static struct node *parse_level(struct parser *p, int level);

static bool raise_height(struct parser *p, struct node *node, const struct node *child)
{
    if (!child || child->height < node->height) return true;
    node->height = child->height + 1;
    return node->height <= PARSER_DEPTH_MAX || parser_too_deep(p);
}

/* A zeroed node of `size` bytes with the given kind and place; NULL when memory is out. */
static void *new_node(struct parser *p, size_t size, enum node_kind kind, uint32_t pos,
                      uint32_t end)
{
    struct node *node = arena_calloc(p->arena, 1, size, _Alignof(max_align_t));
    if (!node) return parser_no_memory(p);
    *node = (struct node){.kind = kind, .pos = pos, .end = end, .height = 1};
    return node;
}
#define NEW_NODE(p, type, kind, pos, end)                                                          \
    ((struct node_##type *)new_node((p), sizeof(struct node_##type), (kind), (pos), (end)))

static uint32_t token_end(const struct token *tok)
{
    return tok->pos + (uint32_t)tok->text.len;
}

/* --- operands -------------------------------------------------------------------------------------- */

static struct node *parse_number(struct parser *p)
{
    struct token tok = parser_take(p);
    struct node_number *n = NEW_NODE(p, number, NODE_NUMBER, tok.pos, token_end(&tok));
    if (!n || !parser_number(p, &tok, &n->value)) return NULL;
    n->is_duration = tok.kind == TOK_DURATION;
    n->text = tok.text;
    return &n->node;
}

static struct node *parse_string(struct parser *p)
{
    struct token tok = parser_take(p);
    struct node_string *s = NEW_NODE(p, string, NODE_STRING, tok.pos, token_end(&tok));
    if (!s || !parser_unquote(p, &tok, &s->value)) return NULL;
    return &s->node;
}

static struct node *parse_paren(struct parser *p)
{
    struct token open = parser_take(p);
    struct node *expr = parse_level(p, 0);
    if (!expr || !parser_is(p, TOK_RIGHT_PAREN)) return parser_unexpected(p);
    struct token close = parser_take(p);
    struct node_paren *n = NEW_NODE(p, paren, NODE_PAREN, open.pos, token_end(&close));
    if (!n || !raise_height(p, &n->node, expr)) return NULL;
    n->expr = expr;
    return &n->node;
}

struct args {
    struct node **items;
    size_t n, cap;
    uint32_t end; /* behind the closing parenthesis */
};

static bool push_arg(struct parser *p, struct args *args, struct node *arg)
{
    if (args->n == args->cap) {
        size_t cap = args->cap ? 2 * args->cap : 4;
        struct node **items = ARENA_ARRAY(p->arena, struct node *, cap);
        if (!items) return parser_no_memory(p);
        if (args->n) memcpy(items, args->items, args->n * sizeof *items);
        args->items = items;
        args->cap = cap;
    }
    args->items[args->n++] = arg;
    return true;
}

static bool starts_expr(const struct token *tok)
{
    switch (tok->kind) {
    case TOK_NUMBER:
    case TOK_DURATION:
    case TOK_STRING:
    case TOK_LEFT_PAREN:
    case TOK_LEFT_BRACE: return true;
    case TOK_OPERATOR:
        if (tok->op == OP_ADD || tok->op == OP_SUB) return true;
        break;
    default: break;
    }
    return token_is_metric_name(tok);
}

/* "(" [expr {"," expr}] ")" */
static bool parse_args(struct parser *p, struct args *out)
{
    *out = (struct args){0};
    if (!parser_expect(p, TOK_LEFT_PAREN)) return false;
    while (!parser_is(p, TOK_RIGHT_PAREN) || out->n) {
        struct node *arg = parse_level(p, 0);
        if (!arg || !push_arg(p, out, arg)) return false;
        if (!parser_is(p, TOK_COMMA)) break;
        struct token comma = parser_take(p);
        if (!starts_expr(parser_peek(p)))
            return parser_fail(p, comma.pos, "trailing commas not allowed in function call args");
    }
    if (!parser_is(p, TOK_RIGHT_PAREN)) return parser_unexpected(p);
    struct token close = parser_take(p);
    out->end = token_end(&close);
    return true;
}

static struct node *parse_call(struct parser *p, const struct token *name)
{
    struct args args;
    if (!parse_args(p, &args)) return NULL;
    struct node_call *call = NEW_NODE(p, call, NODE_CALL, name->pos, args.end);
    if (!call) return NULL;
    call->func = function_find(name->text);
    if (!call->func) {
        struct buf quoted;
        buf_init(&quoted, MEM_QUERY);
        str_quote(&quoted, name->text);
        parser_fail(p, name->pos, "unknown function with name %.*s", (int)quoted.len,
                    (const char *)quoted.p);
        buf_release(&quoted);
        return NULL;
    }
    call->args = args.items;
    call->n_args = args.n;
    for (size_t i = 0; i < args.n; i++)
        if (!raise_height(p, &call->node, args.items[i])) return NULL;
    return &call->node;
}

static bool has_param(enum aggregate_op op)
{
    return op >= AGG_TOPK;
}

static bool parse_by(struct parser *p, struct node_aggregate *agg)
{
    agg->without = parser_take(p).kind == TOK_WITHOUT;
    agg->has_clause = true;
    return parser_grouping(p, &agg->grouping);
}

static bool at_by(struct parser *p)
{
    return parser_is(p, TOK_BY) || parser_is(p, TOK_WITHOUT);
}

static struct node *finish_aggregate(struct parser *p, struct node_aggregate *agg,
                                     const struct args *args)
{
    size_t expected = has_param(agg->op) ? 2 : 1;
    if (!args->n)
        return parser_fail(p, agg->node.pos, "no arguments for aggregate expression provided");
    if (args->n != expected)
        return parser_fail(p, agg->node.pos,
                           "wrong number of arguments for aggregate expression provided, "
                           "expected %zu, got %zu",
                           expected, args->n);
    agg->expr = args->items[args->n - 1];
    if (expected == 2) agg->param = args->items[0];
    agg->node.end = MAX_OF(agg->node.end, args->end);
    if (!raise_height(p, &agg->node, agg->expr) || !raise_height(p, &agg->node, agg->param))
        return NULL;
    return &agg->node;
}

/* The name has been taken; "(", by or without follows. */
static struct node *parse_aggregate(struct parser *p, const struct token *name)
{
    static const struct context IN_AGGREGATION = {"aggregation", NULL};
    struct args args;
    struct node_aggregate *agg = NEW_NODE(p, aggregate, NODE_AGGREGATE, name->pos, 0);
    if (!agg) return NULL;
    agg->op = name->aggregate;
    const struct context *outer = p->context;
    p->context = &IN_AGGREGATION;
    bool before = at_by(p);
    if (before && !parse_by(p, agg)) return NULL;
    if (!parse_args(p, &args)) return NULL;
    if (!before && at_by(p)) {
        if (!parse_by(p, agg)) return NULL;
        agg->node.end = p->last_end;
    }
    p->context = outer;
    if (parser_failed(p)) return NULL;
    return finish_aggregate(p, agg, &args);
}

static struct node *parse_operand(struct parser *p)
{
    const struct token *tok = parser_peek(p);
    switch (tok->kind) {
    case TOK_NUMBER:
    case TOK_DURATION: return parse_number(p);
    case TOK_STRING: return parse_string(p);
    case TOK_LEFT_PAREN: return parse_paren(p);
    case TOK_LEFT_BRACE: return parser_selector(p, (struct str){"", 0}, tok->pos);
    default: break;
    }
    if (!token_is_metric_name(tok)) return parser_unexpected(p);
    struct token name = parser_take(p);
    bool paren = parser_is(p, TOK_LEFT_PAREN);
    bool callable = name.kind == TOK_IDENT || (name.kind >= TOK_START && name.kind <= TOK_MAX_OF);
    if (paren && callable) return parse_call(p, &name);
    if (name.kind == TOK_AGGREGATE && (paren || at_by(p))) return parse_aggregate(p, &name);
    return parser_selector(p, name.text, name.pos);
}

/* --- what follows an operand ----------------------------------------------------------------------- */

static struct node_selector *selector_of(struct node *node)
{
    if (node->kind == NODE_SELECTOR) return NODE_AS(selector, node);
    return node->kind == NODE_MATRIX ? NODE_AS(matrix, node)->selector : NULL;
}

static struct node *make_matrix(struct parser *p, struct node *expr, struct duration range,
                                uint32_t bracket_pos)
{
    struct token close = parser_take(p);
    if (expr->kind != NODE_SELECTOR)
        return parser_fail(p, bracket_pos, "ranges only allowed for vector selectors");
    struct node_selector *selector = NODE_AS(selector, expr);
    if (selector->offset.ms || selector->offset.expr)
        return parser_fail(p, bracket_pos, "no offset modifiers allowed before range");
    if (selector->at != AT_NONE)
        return parser_fail(p, bracket_pos, "no @ modifiers allowed before range");
    struct node_matrix *m = NEW_NODE(p, matrix, NODE_MATRIX, expr->pos, token_end(&close));
    if (!m || !raise_height(p, &m->node, expr)) return NULL;
    m->selector = selector;
    m->range = range;
    return &m->node;
}

static struct node *parse_subquery_rest(struct parser *p, struct node *expr, struct duration range)
{
    static const struct context AFTER_COLON = {"subquery selector", "number or duration or \"]\""};
    static const struct context AFTER_STEP = {"subquery selector", "\"]\""};
    struct duration step = {0};
    p->context = &AFTER_COLON;
    bool has_step = !parser_is(p, TOK_RIGHT_BRACKET);
    if (has_step && !parser_positive_duration(p, &step)) return NULL;
    p->context = &AFTER_STEP;
    if (!parser_is(p, TOK_RIGHT_BRACKET)) return parser_unexpected(p);
    struct token close = parser_take(p);
    struct node_subquery *sub = NEW_NODE(p, subquery, NODE_SUBQUERY, expr->pos, token_end(&close));
    if (!sub || !raise_height(p, &sub->node, expr)) return NULL;
    sub->expr = expr;
    sub->range = range;
    sub->has_step = has_step;
    sub->step = step;
    return &sub->node;
}

static struct node *parse_brackets(struct parser *p, struct node *expr)
{
    static const struct context IN_RANGE = {"subquery selector", "number or duration"};
    static const struct context AFTER_RANGE = {"subquery or range", "\":\" or \"]\""};
    const struct context *outer = p->context;
    struct token bracket = parser_take(p);
    struct duration range;
    struct node *node;
    p->context = &IN_RANGE;
    if (!parser_positive_duration(p, &range)) return NULL;
    p->context = &AFTER_RANGE;
    if (parser_is(p, TOK_COLON)) {
        parser_take(p);
        node = parse_subquery_rest(p, expr, range);
    } else if (parser_is(p, TOK_RIGHT_BRACKET)) {
        node = make_matrix(p, expr, range, bracket.pos);
    } else {
        return parser_unexpected(p);
    }
    p->context = outer;
    return node;
}

static struct node *parse_offset(struct parser *p, struct node *expr)
{
    static const struct context IN_OFFSET = {"offset", "number, duration, step(), or range()"};
    const struct context *outer = p->context;
    struct duration offset;
    parser_take(p);
    p->context = &IN_OFFSET;
    if (!parser_offset_duration(p, &offset)) return NULL;
    p->context = outer;
    struct node_selector *selector = selector_of(expr);
    struct duration *to = selector                      ? &selector->offset
                          : expr->kind == NODE_SUBQUERY ? &NODE_AS(subquery, expr)->offset
                                                        : NULL;
    if (!to)
        return parser_fail(p, expr->pos,
                           "offset modifier must be preceded by an instant vector selector or "
                           "range vector selector or a subquery");
    if (to->ms || to->expr)
        return parser_fail(p, expr->pos, "offset may not be set multiple times");
    *to = offset;
    expr->end = p->last_end;
    return expr;
}

#define AT_MS_END 9223372036854775808.0 /* 2^63: beyond what milliseconds hold */

/* [+-] number, or start() or end() */
static bool parse_at_time(struct parser *p, enum at_kind *at, double *seconds)
{
    bool negative = false;
    *seconds = 0;
    *at = AT_TIME;
    if (parser_is(p, TOK_START) || parser_is(p, TOK_END_WORD)) {
        *at = parser_take(p).kind == TOK_START ? AT_START : AT_END;
        return parser_expect(p, TOK_LEFT_PAREN) && parser_expect(p, TOK_RIGHT_PAREN);
    }
    if (parser_is(p, TOK_OPERATOR) && (p->token.op == OP_ADD || p->token.op == OP_SUB))
        negative = parser_take(p).op == OP_SUB;
    if (!parser_is(p, TOK_NUMBER) && !parser_is(p, TOK_DURATION)) return parser_unexpected(p);
    struct token tok = parser_take(p);
    if (!parser_number(p, &tok, seconds)) return false;
    if (negative) *seconds = -*seconds;
    return true;
}

static struct node *parse_at(struct parser *p, struct node *expr)
{
    static const struct context IN_AT = {"@", "timestamp"};
    const struct context *outer = p->context;
    enum at_kind kind;
    double seconds;
    parser_take(p);
    p->context = &IN_AT;
    if (!parse_at_time(p, &kind, &seconds)) return NULL;
    p->context = outer;
    if (!isfinite(seconds))
        return parser_fail(p, expr->pos, "timestamp out of bounds for @ modifier: %s",
                           isnan(seconds) ? "NaN"
                           : seconds > 0  ? "+Inf"
                                          : "-Inf");
    double ms = round(seconds * 1000);
    if (fabs(ms) >= AT_MS_END)
        return parser_fail(p, expr->pos, "timestamp out of bounds for @ modifier: %f", seconds);
    struct node_selector *selector = selector_of(expr);
    struct node_subquery *sub = expr->kind == NODE_SUBQUERY ? NODE_AS(subquery, expr) : NULL;
    if (!selector && !sub)
        return parser_fail(p, expr->pos,
                           "@ modifier must be preceded by an instant vector selector or range "
                           "vector selector or a subquery");
    enum at_kind *at = selector ? &selector->at : &sub->at;
    if (*at != AT_NONE)
        return parser_fail(p, expr->pos, "@ <timestamp> may not be set multiple times");
    *at = kind;
    *(selector ? &selector->at_ms : &sub->at_ms) = (int64_t)ms;
    expr->end = p->last_end;
    return expr;
}

static struct node *parse_mode(struct parser *p, struct node *expr)
{
    struct token tok = parser_take(p);
    enum selector_mode mode = tok.kind == TOK_ANCHORED ? SELECT_ANCHORED : SELECT_SMOOTHED;
    const char *word = mode == SELECT_ANCHORED ? "anchored" : "smoothed";
    struct node_selector *selector = selector_of(expr);
    if (expr->kind == NODE_SUBQUERY)
        return parser_fail(p, expr->pos, "%s modifier is not supported for subqueries", word);
    if (!selector)
        return parser_fail(p, expr->pos,
                           "%s modifier must be preceded by an instant vector selector or range "
                           "vector selector",
                           word);
    if (selector->mode != SELECT_PLAIN && selector->mode != mode)
        return parser_fail(p, expr->pos, "anchored and smoothed modifiers cannot be used together");
    selector->mode = mode;
    expr->end = token_end(&tok);
    return expr;
}

static struct node *parse_postfix(struct parser *p)
{
    struct node *expr = parse_operand(p);
    while (expr) {
        switch (parser_peek(p)->kind) {
        case TOK_LEFT_BRACKET: expr = parse_brackets(p, expr); break;
        case TOK_OFFSET: expr = parse_offset(p, expr); break;
        case TOK_AT: expr = parse_at(p, expr); break;
        case TOK_ANCHORED:
        case TOK_SMOOTHED: expr = parse_mode(p, expr); break;
        case TOK_ERROR: return NULL;
        default: return expr;
        }
    }
    return NULL;
}

/* --- operators ------------------------------------------------------------------------------------- */

#define LEVEL_POWER 6

static int op_level(enum binary_op op)
{
    switch (op) {
    case OP_OR: return 1;
    case OP_AND:
    case OP_UNLESS: return 2;
    case OP_ADD:
    case OP_SUB: return 4;
    case OP_MUL:
    case OP_DIV:
    case OP_MOD:
    case OP_ATAN2: return 5;
    case OP_POW: return LEVEL_POWER;
    default: return 3; /* comparisons and trims */
    }
}

static struct node *parse_unary(struct parser *p)
{
    const struct token *tok = parser_peek(p);
    if (tok->kind != TOK_OPERATOR || (tok->op != OP_ADD && tok->op != OP_SUB))
        return parse_postfix(p);
    struct token sign = parser_take(p);
    struct node *expr = parse_level(p, LEVEL_POWER); /* -2^2 is -(2^2) */
    if (!expr) return NULL;
    if (expr->kind == NODE_NUMBER) {
        struct node_number *number = NODE_AS(number, expr);
        if (sign.op == OP_SUB) number->value = -number->value;
        number->text.p -= expr->pos - sign.pos;
        number->text.len += expr->pos - sign.pos;
        expr->pos = sign.pos;
        return expr;
    }
    struct node_unary *n = NEW_NODE(p, unary, NODE_UNARY, sign.pos, expr->end);
    if (!n || !raise_height(p, &n->node, expr)) return NULL;
    n->negate = sign.op == OP_SUB;
    n->expr = expr;
    return &n->node;
}

/* "(" [+-] number ")" */
static bool parse_fill_value(struct parser *p, double *out)
{
    bool negative = false;
    if (!parser_expect(p, TOK_LEFT_PAREN)) return false;
    if (parser_is(p, TOK_OPERATOR) && (p->token.op == OP_ADD || p->token.op == OP_SUB))
        negative = parser_take(p).op == OP_SUB;
    if (!parser_is(p, TOK_NUMBER) && !parser_is(p, TOK_DURATION)) return parser_unexpected(p);
    struct token tok = parser_take(p);
    if (!parser_number(p, &tok, out)) return false;
    if (negative) *out = -*out;
    return parser_expect(p, TOK_RIGHT_PAREN);
}

static bool parse_fill(struct parser *p, struct vector_matching *m)
{
    if (parser_is(p, TOK_FILL)) {
        parser_take(p);
        m->has_fill_left = m->has_fill_right = true;
        if (!parse_fill_value(p, &m->fill_left)) return false;
        m->fill_right = m->fill_left;
        return true;
    }
    for (;;) {
        if (parser_is(p, TOK_FILL_LEFT) && !m->has_fill_left) {
            parser_take(p);
            m->has_fill_left = true;
            if (!parse_fill_value(p, &m->fill_left)) return false;
        } else if (parser_is(p, TOK_FILL_RIGHT) && !m->has_fill_right) {
            parser_take(p);
            m->has_fill_right = true;
            if (!parse_fill_value(p, &m->fill_right)) return false;
        } else {
            return !parser_failed(p);
        }
    }
}

/* [bool] [(on|ignoring) labels [(group_left|group_right) [labels]]] [fill] */
static bool parse_modifiers(struct parser *p, struct node_binary *n)
{
    struct vector_matching *m = &n->matching;
    if (parser_is(p, TOK_BOOL)) {
        parser_take(p);
        n->return_bool = true;
    }
    if (parser_is(p, TOK_ON) || parser_is(p, TOK_IGNORING)) {
        m->on = parser_take(p).kind == TOK_ON;
        m->has_clause = true;
        if (!parser_grouping(p, &m->labels)) return false;
        if (parser_is(p, TOK_GROUP_LEFT) || parser_is(p, TOK_GROUP_RIGHT)) {
            bool left = parser_take(p).kind == TOK_GROUP_LEFT;
            m->card = left ? CARD_MANY_TO_ONE : CARD_ONE_TO_MANY;
            const struct token *tok = parser_peek(p);
            bool fill = tok->kind >= TOK_FILL && tok->kind <= TOK_FILL_RIGHT;
            bool list = tok->kind == TOK_LEFT_PAREN || !(fill || starts_expr(tok));
            if (list && !parser_grouping(p, &m->include)) return false;
        }
    }
    return parse_fill(p, m);
}

static struct node *parse_binary_rest(struct parser *p, struct node *lhs)
{
    struct token op = parser_take(p);
    struct node_binary *n = NEW_NODE(p, binary, NODE_BINARY, lhs->pos, lhs->end);
    if (!n) return NULL;
    n->op = op.op;
    n->op_pos = op.pos;
    n->lhs = lhs;
    if (!parse_modifiers(p, n)) return NULL;
    int level = op_level(op.op);
    n->rhs = parse_level(p, op.op == OP_POW ? level : level + 1);
    if (!n->rhs) return NULL;
    n->node.end = n->rhs->end;
    if (!raise_height(p, &n->node, lhs) || !raise_height(p, &n->node, n->rhs)) return NULL;
    return &n->node;
}

/* Operators of at least `level`. NULL: the error is set. */
static struct node *parse_level(struct parser *p, int level)
{
    if (p->depth == PARSER_DEPTH_MAX) return parser_too_deep(p);
    p->depth++;
    struct node *expr = parse_unary(p);
    while (expr) {
        const struct token *tok = parser_peek(p);
        if (tok->kind != TOK_OPERATOR || op_level(tok->op) < level) break;
        expr = parse_binary_rest(p, expr);
    }
    p->depth--;
    return parser_failed(p) ? NULL : expr;
}

/* --- entry ----------------------------------------------------------------------------------------- */

static const struct context NO_CONTEXT = {NULL, NULL};

static bool parser_begin(struct parser *p, struct str text, struct arena *arena, struct err *err)
{
    err_clear(err);
    *p = (struct parser){.text = text, .arena = arena, .context = &NO_CONTEXT, .err = err};
    lexer_init(&p->lexer, text);
    if (text.len <= PARSER_BYTES_MAX) return true;
    err_set(err, ERR_LIMIT, "query of %zu bytes is longer than %u", text.len, PARSER_BYTES_MAX);
    return false;
}

static enum err_code parser_finish(struct parser *p, struct node *root, struct parse_result *out)
{
    lexer_release(&p->lexer);
    out->root = parser_failed(p) ? NULL : root;
    out->regexes = p->regexes;
    if (parser_failed(p)) parse_release(out);
    return p->err->code;
}

enum err_code parse_expr(struct str text, struct arena *arena, struct parse_result *out,
                         struct err *err)
{
    struct parser p;
    struct node *root = NULL;
    if (parser_begin(&p, text, arena, err)) {
        if (parser_is(&p, TOK_END)) {
            parser_fail(&p, 0, "no expression found in input");
        } else {
            root = parse_level(&p, 0);
            if (root && !parser_is(&p, TOK_END)) parser_unexpected(&p);
        }
        if (!parser_failed(&p)) parser_check(root, text, err);
    }
    return parser_finish(&p, root, out);
}

enum err_code parse_selector(struct str text, struct arena *arena, struct parse_result *out,
                             struct err *err)
{
    struct parser p;
    struct node *root = NULL;
    if (parser_begin(&p, text, arena, err)) {
        const struct token *tok = parser_peek(&p);
        if (tok->kind == TOK_LEFT_BRACE) {
            root = parser_selector(&p, (struct str){"", 0}, tok->pos);
        } else if (token_is_metric_name(tok)) {
            struct token name = parser_take(&p);
            root = parser_selector(&p, name.text, name.pos);
        } else {
            parser_unexpected(&p);
        }
        if (root && !parser_is(&p, TOK_END)) parser_unexpected(&p);
    }
    return parser_finish(&p, root, out);
}

void parse_release(struct parse_result *result)
{
    for (struct regex_list *i = result->regexes; i; i = i->next) regex_free(i->re);
    result->regexes = NULL;
    result->root = NULL;
}
