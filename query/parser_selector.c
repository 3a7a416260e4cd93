/* Selectors with their matchers, and the label lists of by, on and their kin. */
#include "query/parser_private.h"
#include "storage/labels.h"

bool parser_unquote(struct parser *p, const struct token *tok, struct str *out)
{
    bool no_memory;
    if (string_unquote(tok->text, p->arena, out, &no_memory)) return true;
    if (no_memory) return parser_no_memory(p);
    struct buf quoted;
    buf_init(&quoted, MEM_QUERY);
    str_quote(&quoted, tok->text);
    parser_fail(p, tok->pos, "error unquoting string %.*s: invalid syntax", (int)quoted.len,
                (const char *)quoted.p);
    buf_release(&quoted);
    return false;
}

/* --- matchers -------------------------------------------------------------------------------------- */

struct matchers {
    struct matcher *items;
    size_t n, cap;
};

static struct matcher *push_matcher(struct parser *p, struct matchers *list)
{
    if (list->n == list->cap) {
        size_t cap = list->cap ? 2 * list->cap : 4;
        struct matcher *items = ARENA_ARRAY(p->arena, struct matcher, cap);
        if (!items) return parser_no_memory(p);
        if (list->n) memcpy(items, list->items, list->n * sizeof *items);
        list->items = items;
        list->cap = cap;
    }
    return &list->items[list->n++];
}

static bool is_match_op(enum token_kind kind)
{
    return kind >= TOK_EQL && kind <= TOK_NEQ_REGEX;
}

static enum matcher_op matcher_op_of(enum token_kind kind)
{
    switch (kind) {
    case TOK_EQL: return MATCH_EQ;
    case TOK_NEQ: return MATCH_NEQ;
    case TOK_EQL_REGEX: return MATCH_RE;
    default: return MATCH_NRE;
    }
}

static bool compile_matcher(struct parser *p, struct matcher *m, uint32_t pos)
{
    if (m->op != MATCH_RE && m->op != MATCH_NRE) return true;
    struct err err;
    struct regex *re;
    struct regex_list *entry = ARENA_NEW(p->arena, struct regex_list);
    if (!entry) return parser_no_memory(p);
    enum err_code rc = regex_compile(m->value, &re, &err);
    if (rc == ERR_INVALID) return parser_fail(p, pos, "%s", err.text);
    if (rc) {
        *p->err = err;
        return false;
    }
    *entry = (struct regex_list){re, p->regexes};
    p->regexes = entry;
    p->regex_bytes += regex_bytes(re);
    if (p->regex_bytes > PARSER_REGEX_BYTES_MAX) {
        err_set(p->err, ERR_LIMIT, "regular expressions need more than %u bytes",
                PARSER_REGEX_BYTES_MAX);
        return false;
    }
    m->re = re;
    m->re_match = regex_match;
    m->literals = regex_literals(re, &m->n_literals);
    m->prefix = regex_prefix(re);
    return true;
}

/* label op string, "label" op string, or "metric name" */
static bool parse_matcher(struct parser *p, struct matchers *list)
{
    static const struct context LABEL_NEXT = {"label matching", "identifier or \"}\""};
    static const struct context OP_NEXT = {"label matching", "label matching operator"};
    static const struct context STRING_NEXT = {"label matching", "string"};
    p->context = &LABEL_NEXT;
    if (!parser_is(p, TOK_IDENT) && !parser_is(p, TOK_STRING)) return parser_unexpected(p);
    struct token label = parser_take(p);
    struct matcher *m = push_matcher(p, list);
    if (!m) return false;
    *m = (struct matcher){.op = MATCH_EQ, .name = label.text};
    if (label.kind == TOK_STRING && !parser_unquote(p, &label, &m->name)) return false;
    if (!is_match_op(parser_peek(p)->kind)) {
        p->context = &OP_NEXT;
        if (label.kind != TOK_STRING) return parser_unexpected(p);
        m->value = m->name;
        m->name = STR(LABEL_NAME);
        return !parser_failed(p);
    }
    m->op = matcher_op_of(parser_take(p).kind);
    p->context = &STRING_NEXT;
    if (!parser_is(p, TOK_STRING)) return parser_unexpected(p);
    struct token value = parser_take(p);
    return parser_unquote(p, &value, &m->value) && compile_matcher(p, m, label.pos);
}

/* "{" [matcher {"," matcher} [","]] "}" */
static bool parse_matchers(struct parser *p, struct matchers *list, uint32_t *end)
{
    static const struct context COMMA_NEXT = {"label matching", "\",\" or \"}\""};
    const struct context *outer = p->context;
    parser_take(p);
    while (!parser_is(p, TOK_RIGHT_BRACE)) {
        if (!parse_matcher(p, list)) return false;
        p->context = &COMMA_NEXT;
        if (parser_is(p, TOK_COMMA))
            parser_take(p);
        else if (!parser_is(p, TOK_RIGHT_BRACE))
            return parser_unexpected(p);
    }
    p->context = outer;
    struct token close = parser_take(p);
    *end = close.pos + 1;
    return true;
}

struct node *parser_selector(struct parser *p, struct str name, uint32_t pos)
{
    struct matchers list = {0};
    uint32_t end = pos + (uint32_t)name.len;
    if (parser_is(p, TOK_LEFT_BRACE) && !parse_matchers(p, &list, &end)) return NULL;
    if (name.len) {
        struct matcher *m = push_matcher(p, &list);
        if (!m) return NULL;
        *m = (struct matcher){.op = MATCH_EQ, .name = STR(LABEL_NAME), .value = name};
    }
    struct node_selector *selector = ARENA_NEW(p->arena, struct node_selector);
    if (!selector) return parser_no_memory(p);
    selector->node = (struct node){
        .kind = NODE_SELECTOR, .type = VALUE_VECTOR, .pos = pos, .end = end, .height = 1};
    selector->name = name;
    selector->matchers = list.items;
    selector->n_matchers = list.n;
    return parser_failed(p) ? NULL : &selector->node;
}

/* --- grouping lists -------------------------------------------------------------------------------- */

struct names {
    struct str *items;
    size_t n, cap;
};

static bool push_name(struct parser *p, struct names *list, struct str name)
{
    if (list->n == list->cap) {
        size_t cap = list->cap ? 2 * list->cap : 4;
        struct str *items = ARENA_ARRAY(p->arena, struct str, cap);
        if (!items) return parser_no_memory(p);
        if (list->n) memcpy(items, list->items, list->n * sizeof *items);
        list->items = items;
        list->cap = cap;
    }
    list->items[list->n++] = name;
    return true;
}

static bool parse_label(struct parser *p, struct names *list)
{
    const struct token *tok = parser_peek(p);
    if (tok->kind != TOK_STRING && !token_is_label_name(tok)) return parser_unexpected(p);
    struct token label = parser_take(p);
    struct str name = label.text;
    if (label.kind == TOK_STRING && !parser_unquote(p, &label, &name)) return false;
    if (name.len && utf8_valid(name)) return push_name(p, list, name);
    struct buf quoted;
    buf_init(&quoted, MEM_QUERY);
    str_quote(&quoted, name);
    parser_fail(p, label.pos, "invalid label name for grouping: %.*s", (int)quoted.len,
                (const char *)quoted.p);
    buf_release(&quoted);
    return false;
}

bool parser_grouping(struct parser *p, struct str_list *out)
{
    static const struct context PAREN_NEXT = {"grouping opts", "\"(\""};
    static const struct context LABEL_NEXT = {"grouping opts", "label"};
    static const struct context COMMA_NEXT = {"grouping opts", "\",\" or \")\""};
    const struct context *outer = p->context;
    struct names list = {0};
    p->context = &PAREN_NEXT;
    if (!parser_expect(p, TOK_LEFT_PAREN)) return false;
    while (!parser_is(p, TOK_RIGHT_PAREN)) {
        p->context = &LABEL_NEXT;
        if (!parse_label(p, &list)) return false;
        p->context = &COMMA_NEXT;
        if (parser_is(p, TOK_COMMA))
            parser_take(p);
        else if (!parser_is(p, TOK_RIGHT_PAREN))
            return parser_unexpected(p);
    }
    parser_take(p);
    p->context = outer;
    *out = (struct str_list){list.items, list.n};
    return true;
}
