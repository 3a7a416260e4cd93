/* Numbers, durations and duration expressions. */
#include <math.h>

#include "query/duration.h"
#include "query/number.h"
#include "query/parser_private.h"
#include "storage/labels.h"

static bool parse_duration_literal(struct parser *p, const struct token *tok, double *out)
{
    int64_t ms;
    struct str unit;
    struct buf text;
    enum duration_parse rc = duration_parse_literal(tok->text, &ms, &unit);
    *out = (double)ms / 1000;
    if (rc == DURATION_OK) return true;
    buf_init(&text, MEM_QUERY);
    if (rc == DURATION_OVERFLOW) {
        buf_text(&text, STR("duration out of range"));
    } else {
        buf_text(&text, rc == DURATION_UNIT ? STR("unknown unit ") : STR("not a valid "));
        if (rc == DURATION_UNIT) str_quote(&text, unit);
        buf_text(&text, rc == DURATION_UNIT ? STR(" in duration ") : STR("duration string: "));
        str_quote(&text, tok->text);
    }
    parser_fail(p, tok->pos, "%.*s", (int)text.len, (const char *)text.p);
    buf_release(&text);
    return false;
}

bool parser_number(struct parser *p, const struct token *tok, double *out)
{
    if (tok->kind == TOK_DURATION) return parse_duration_literal(p, tok, out);
    int64_t i;
    if (number_parse_int(tok->text, &i) == NUMBER_OK) {
        *out = (double)i;
        return true;
    }
    enum number_parse rc = number_parse_float(tok->text, out);
    if (rc == NUMBER_OK) return true;
    struct buf quoted;
    buf_init(&quoted, MEM_QUERY);
    str_quote(&quoted, tok->text);
    parser_fail(p, tok->pos, "error parsing number: strconv.ParseFloat: parsing %.*s: %s",
                (int)quoted.len, (const char *)quoted.p,
                rc == NUMBER_RANGE ? "value out of range" : "invalid syntax");
    buf_release(&quoted);
    return false;
}

/* --- expressions ----------------------------------------------------------------------------------- */

static struct duration_expr *parse_level(struct parser *p, int level);

/* Over `a` and `b`, which may be NULL. */
static struct duration_expr *new_expr(struct parser *p, enum duration_op op, uint32_t pos,
                                      uint32_t end, struct duration_expr *a,
                                      struct duration_expr *b)
{
    struct duration_expr *e = ARENA_NEW(p->arena, struct duration_expr);
    if (!e) return parser_no_memory(p);
    *e = (struct duration_expr){.op = op, .pos = pos, .end = end, .a = a, .b = b};
    e->height = 1 + MAX_OF(a ? a->height : 0, b ? b->height : 0);
    return e->height <= PARSER_DEPTH_MAX ? e : parser_too_deep(p);
}

static uint32_t token_end(const struct token *tok)
{
    return tok->pos + (uint32_t)tok->text.len;
}

static struct duration_expr *parse_literal(struct parser *p)
{
    struct token tok = parser_take(p);
    struct duration_expr *e = new_expr(p, DUR_NUMBER, tok.pos, token_end(&tok), NULL, NULL);
    if (!e || !parser_number(p, &tok, &e->seconds)) return NULL;
    e->is_duration = tok.kind == TOK_DURATION;
    if (!(fabs(e->seconds) <= DURATION_SECONDS_MAX))
        return parser_fail(p, tok.pos, "duration out of range");
    return e;
}

/* Parentheses around a plain number or around another pair of them mean nothing and are dropped. */
static struct duration_expr *parse_paren(struct parser *p)
{
    parser_take(p);
    struct duration_expr *inner = parse_level(p, 0);
    if (!inner || !parser_expect(p, TOK_RIGHT_PAREN)) return NULL;
    if (inner->op == DUR_NUMBER || inner->op == DUR_PAREN) return inner;
    return new_expr(p, DUR_PAREN, inner->pos, inner->end, inner, NULL);
}

static struct duration_expr *parse_word(struct parser *p)
{
    struct token word = parser_take(p);
    struct duration_expr *a = NULL, *b = NULL;
    if (!parser_expect(p, TOK_LEFT_PAREN)) return NULL;
    bool two = word.kind == TOK_MIN_OF || word.kind == TOK_MAX_OF;
    if (two) {
        a = parse_level(p, 0);
        if (!a || !parser_expect(p, TOK_COMMA)) return NULL;
        b = parse_level(p, 0);
        if (!b) return NULL;
    }
    if (!parser_is(p, TOK_RIGHT_PAREN)) return parser_unexpected(p);
    struct token close = parser_take(p);
    enum duration_op op = word.kind == TOK_STEP     ? DUR_STEP
                          : word.kind == TOK_RANGE  ? DUR_RANGE
                          : word.kind == TOK_MIN_OF ? DUR_MIN_OF
                                                    : DUR_MAX_OF;
    return new_expr(p, op, word.pos, token_end(&close), a, b);
}

static struct duration_expr *parse_operand(struct parser *p)
{
    switch (parser_peek(p)->kind) {
    case TOK_NUMBER:
    case TOK_DURATION: return parse_literal(p);
    case TOK_LEFT_PAREN: return parse_paren(p);
    case TOK_STEP:
    case TOK_RANGE:
    case TOK_MIN_OF:
    case TOK_MAX_OF: return parse_word(p);
    default: return parser_unexpected(p);
    }
}

/* Binds like a product: -2^2 is -(2^2). */
#define LEVEL_SUM 1
#define LEVEL_PRODUCT 2
#define LEVEL_POWER 3
#define LEVEL_OPERAND 4 /* no operators at all */

static struct duration_expr *apply_sign(struct parser *p, const struct token *sign,
                                        struct duration_expr *e)
{
    if (e->op == DUR_NUMBER) {
        if (sign->op == OP_SUB) e->seconds = -e->seconds;
        e->pos = sign->pos;
        return e;
    }
    if (sign->op == OP_ADD) return e;
    return new_expr(p, DUR_NEG, sign->pos, e->end, e, NULL);
}

static struct duration_expr *parse_unary(struct parser *p, int level)
{
    const struct token *tok = parser_peek(p);
    if (tok->kind != TOK_OPERATOR || (tok->op != OP_ADD && tok->op != OP_SUB))
        return parse_operand(p);
    struct token sign = parser_take(p);
    struct duration_expr *e = parse_level(p, MAX_OF(level, LEVEL_POWER));
    return e ? apply_sign(p, &sign, e) : NULL;
}

static int op_level(const struct token *tok)
{
    if (tok->kind != TOK_OPERATOR) return -1;
    switch (tok->op) {
    case OP_ADD:
    case OP_SUB: return LEVEL_SUM;
    case OP_MUL:
    case OP_DIV:
    case OP_MOD: return LEVEL_PRODUCT;
    case OP_POW: return LEVEL_POWER;
    default: return -1;
    }
}

static enum duration_op op_of(enum binary_op op)
{
    switch (op) {
    case OP_ADD: return DUR_ADD;
    case OP_SUB: return DUR_SUB;
    case OP_MUL: return DUR_MUL;
    case OP_DIV: return DUR_DIV;
    case OP_MOD: return DUR_MOD;
    default: return DUR_POW;
    }
}

static struct duration_expr *parse_binary_rest(struct parser *p, struct duration_expr *a)
{
    int level = op_level(&p->token);
    struct token op = parser_take(p);
    struct duration_expr *b = parse_level(p, level == LEVEL_POWER ? level : level + 1);
    if (!b) return NULL;
    (void)parser_peek(p); /* a bad token there is reported first */
    if (b->op == DUR_NUMBER && b->seconds == 0 && (op.op == OP_DIV || op.op == OP_MOD))
        return parser_fail(p, op.pos, "%s by zero", op.op == OP_DIV ? "division" : "modulo");
    return new_expr(p, op_of(op.op), a->pos, b->end, a, b);
}

static struct duration_expr *parse_level(struct parser *p, int level)
{
    if (p->depth == PARSER_DEPTH_MAX) return parser_too_deep(p);
    p->depth++;
    struct duration_expr *e = parse_unary(p, level);
    while (e && level < LEVEL_OPERAND && op_level(parser_peek(p)) >= MAX_OF(level, LEVEL_SUM))
        e = parse_binary_rest(p, e);
    p->depth--;
    return parser_failed(p) ? NULL : e;
}

static bool to_duration(struct duration_expr *e, struct duration *out)
{
    *out = (struct duration){.expr = e->op == DUR_NUMBER ? NULL : e};
    return out->expr || duration_from_seconds(e->seconds, &out->ms);
}

bool parser_positive_duration(struct parser *p, struct duration *out)
{
    struct duration_expr *e = parse_level(p, 0);
    if (!e) return false;
    bool fits = to_duration(e, out);
    if (!fits) return parser_fail(p, e->pos, "duration out of range");
    if (!out->expr && out->ms <= 0)
        return parser_fail(p, e->pos, "duration must be greater than 0");
    return true;
}

bool parser_offset_duration(struct parser *p, struct duration *out)
{
    struct duration_expr *e = parse_level(p, LEVEL_OPERAND);
    return e && (to_duration(e, out) || parser_fail(p, e->pos, "duration out of range"));
}
