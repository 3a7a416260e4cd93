/* A tree back to text: one line, several lines, or JSON. What is printed parses to the same tree; where Prometheus's own
 * printer breaks that promise (+Inf under ^, a sign folded into a duration, a label called `without`), this one keeps it. */
#include <math.h>
#include <stdlib.h>

#include "query/duration.h"
#include "query/function.h"
#include "query/json.h"
#include "query/number.h"
#include "query/parser.h"

/* Writes, or only counts and stops counting once the answer is clear. */
struct printer {
    struct buf *out; /* NULL: count */
    size_t n;        /* bytes counted */
    size_t enough;   /* counting: nothing more matters after this many */
};

static void put(struct printer *pr, struct str s)
{
    pr->n += s.len;
    if (pr->out) buf_text(pr->out, s);
}

static void putz(struct printer *pr, const char *z)
{
    put(pr, str_of(z));
}

static void put_number(struct printer *pr, double v)
{
    char text[NUMBER_BYTES_MAX];
    put(pr, (struct str){text, number_print_plain(text, v)});
}

static void put_buf(struct printer *pr, struct buf *text)
{
    put(pr, (struct str){(const char *)text->p, text->len});
    buf_release(text);
}

static void put_duration(struct printer *pr, int64_t ms)
{
    struct buf text;
    buf_init(&text, MEM_QUERY);
    duration_print(ms, &text);
    put_buf(pr, &text);
}

static void put_duration_or_expr(struct printer *pr, const struct duration *d)
{
    if (!d->expr) return put_duration(pr, d->ms);
    struct buf text;
    buf_init(&text, MEM_QUERY);
    duration_print_expr(d->expr, &text);
    put_buf(pr, &text);
}

/* Counting, and the answer is clear: what comes need not be looked at. */
static bool has_enough(const struct printer *pr)
{
    return !pr->out && pr->n > pr->enough;
}

/* Go-quoted; but a literal U+FFFD, which the lexer takes for malformed input, is escaped. */
static void quote(struct buf *out, struct str s)
{
    static const struct str BAD = STR("\xef\xbf\xbd");
    if (!s.len || !memmem(s.p, s.len, BAD.p, BAD.len)) return str_quote(out, s);
    struct buf quoted;
    buf_init(&quoted, MEM_QUERY);
    str_quote(&quoted, s);
    struct str left = {(const char *)quoted.p, quoted.len};
    while (left.len) {
        const char *at = memmem(left.p, left.len, BAD.p, BAD.len);
        size_t plain = at ? (size_t)(at - left.p) : left.len;
        buf_text(out, (struct str){left.p, plain});
        if (at) buf_text(out, STR("\\ufffd"));
        size_t used = plain + (at ? BAD.len : 0);
        left = (struct str){left.p + used, left.len - used};
    }
    out->failed |= quoted.failed;
    buf_release(&quoted);
}

static void put_quoted(struct printer *pr, struct str s)
{
    if (!pr->out && s.len > pr->enough) pr->n += s.len; /* the exact length does not matter */
    if (has_enough(pr)) return;
    struct buf text;
    buf_init(&text, MEM_QUERY);
    quote(&text, s);
    put_buf(pr, &text);
}

/* --- names ----------------------------------------------------------------------------------------- */

static bool is_word(struct str s, bool colons)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.p[i];
        bool digit = c >= '0' && c <= '9';
        bool alpha = c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!alpha && !(digit && i) && !(colons && c == ':')) return false;
    }
    return s.len > 0;
}

static bool is_reserved(struct str s)
{
    static const char *const WORDS[] = {"without", "inf", "nan"};
    for (size_t i = 0; i < COUNT_OF(WORDS); i++)
        if (s.len == strlen(WORDS[i]) && !strncasecmp(s.p, WORDS[i], s.len)) return true;
    return false;
}

static void put_list(struct printer *pr, const struct str_list *list)
{
    putz(pr, "(");
    for (size_t i = 0; i < list->n && !has_enough(pr); i++) {
        struct str name = list->items[i];
        if (i) putz(pr, ", ");
        if (is_word(name, true) && !is_reserved(name))
            put(pr, name);
        else
            put_quoted(pr, name);
    }
    putz(pr, ")");
}

/* --- selectors ------------------------------------------------------------------------------------- */

static const char *matcher_op_text(enum matcher_op op)
{
    switch (op) {
    case MATCH_EQ: return "=";
    case MATCH_NEQ: return "!=";
    case MATCH_RE: return "=~";
    default: return "!~";
    }
}

static int compare_str(const void *a, const void *b)
{
    return str_cmp(*(const struct str *)a, *(const struct str *)b);
}

static bool is_outer_name(const struct node_selector *s, const struct matcher *m)
{
    return s->name.len && m->op == MATCH_EQ && str_eq(m->name, STR(LABEL_NAME)) &&
           str_eq(m->value, s->name);
}

/* Each matcher as text, in `text`, one after the other; parts[] are made to point there. Returns how many. */
static size_t print_matchers(const struct node_selector *s, struct buf *text, struct str *parts)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n_matchers; i++) {
        const struct matcher *m = &s->matchers[i];
        size_t from = text->len;
        if (is_outer_name(s, m)) continue;
        if (is_word(m->name, false))
            buf_text(text, m->name);
        else
            quote(text, m->name);
        buf_text(text, str_of(matcher_op_text(m->op)));
        quote(text, m->value);
        parts[n++] = (struct str){NULL, text->len - from};
    }
    const char *p = (const char *)text->p;
    for (size_t i = 0; i < n; p += parts[i].len, i++) parts[i].p = p;
    return n;
}

static void put_matchers(struct printer *pr, const struct node_selector *s)
{
    for (size_t i = 0; i < s->n_matchers && !pr->out && pr->n <= pr->enough; i++)
        if (s->matchers[i].value.len > pr->enough) pr->n += s->matchers[i].value.len;
    if (has_enough(pr) || (!pr->out && s->n_matchers > pr->enough)) {
        pr->n += s->n_matchers;
        return;
    }
    struct buf text;
    struct str *parts = mem_calloc(MEM_QUERY, MAX_OF(s->n_matchers, (size_t)1), sizeof *parts);
    buf_init(&text, MEM_QUERY);
    size_t n = parts ? print_matchers(s, &text, parts) : 0;
    if ((!parts || text.failed) && pr->out) {
        pr->out->failed = true;
        n = 0;
    }
    if (n) qsort(parts, n, sizeof *parts, compare_str);
    if (n || !s->name.len) putz(pr, "{");
    for (size_t i = 0; i < n; i++) {
        if (i) putz(pr, ",");
        put(pr, parts[i]);
    }
    if (n || !s->name.len) putz(pr, "}");
    buf_release(&text);
    mem_free(parts);
}

static void put_at(struct printer *pr, enum at_kind at, int64_t at_ms)
{
    struct buf text;
    if (at == AT_START) return putz(pr, " @ start()");
    if (at == AT_END) return putz(pr, " @ end()");
    if (at == AT_NONE) return;
    uint64_t ms = at_ms < 0 ? ~(uint64_t)at_ms + 1 : (uint64_t)at_ms;
    buf_init(&text, MEM_QUERY);
    buf_printf(&text, " @ %s%llu.%03u", at_ms < 0 ? "-" : "", (unsigned long long)(ms / 1000),
               (unsigned)(ms % 1000));
    put_buf(pr, &text);
}

static void put_offset(struct printer *pr, const struct duration *offset)
{
    if (!offset->ms && !offset->expr) return;
    putz(pr, " offset ");
    put_duration_or_expr(pr, offset);
}

static void put_mode(struct printer *pr, const struct node_selector *s)
{
    if (s->mode == SELECT_ANCHORED) putz(pr, " anchored");
    if (s->mode == SELECT_SMOOTHED) putz(pr, " smoothed");
}

static void put_selector(struct printer *pr, const struct node_selector *s,
                         const struct duration *range)
{
    put(pr, s->name);
    put_matchers(pr, s);
    if (range) {
        putz(pr, "[");
        put_duration_or_expr(pr, range);
        putz(pr, "]");
    }
    put_mode(pr, s);
    put_at(pr, s->at, s->at_ms);
    put_offset(pr, &s->offset);
}

static void put_subquery_suffix(struct printer *pr, const struct node_subquery *s)
{
    putz(pr, "[");
    put_duration_or_expr(pr, &s->range);
    putz(pr, ":");
    if (s->has_step) put_duration_or_expr(pr, &s->step);
    putz(pr, "]");
    put_at(pr, s->at, s->at_ms);
    put_offset(pr, &s->offset);
}

/* --- operators ------------------------------------------------------------------------------------- */

static void put_fill(struct printer *pr, const struct vector_matching *m)
{
    bool same = m->has_fill_left && m->has_fill_right &&
                double_bits(m->fill_left) == double_bits(m->fill_right);
    if (m->has_fill_left) {
        putz(pr, same ? " fill (" : " fill_left (");
        put_number(pr, m->fill_left);
        putz(pr, ")");
    }
    if (m->has_fill_right && !same) {
        putz(pr, " fill_right (");
        put_number(pr, m->fill_right);
        putz(pr, ")");
    }
}

/* The operator with its modifiers */
static void put_operator(struct printer *pr, const struct node_binary *n)
{
    const struct vector_matching *m = &n->matching;
    bool group = m->card == CARD_MANY_TO_ONE || m->card == CARD_ONE_TO_MANY;
    putz(pr, binary_op_text(n->op));
    if (n->return_bool) putz(pr, " bool");
    if (!n->has_matching) return;
    if (m->labels.n || m->on || group) {
        putz(pr, m->on ? " on " : " ignoring ");
        put_list(pr, &m->labels);
    }
    if (group) {
        putz(pr, m->card == CARD_MANY_TO_ONE ? " group_left " : " group_right ");
        put_list(pr, &m->include);
    }
    put_fill(pr, m);
}

static void put_aggregate_head(struct printer *pr, const struct node_aggregate *n)
{
    putz(pr, aggregate_op_name(n->op));
    if (!n->without && !n->grouping.n) return;
    putz(pr, n->without ? " without " : " by ");
    put_list(pr, &n->grouping);
    putz(pr, " ");
}

static void put_number_node(struct printer *pr, const struct node_number *n)
{
    if (n->is_duration && isfinite(n->value)) return put_duration(pr, llround(n->value * 1000));
    put_number(pr, n->value);
}

/* The base of a power: +Inf would be read as a sign in front of the whole power. */
static bool put_unsigned_inf(struct printer *pr, const struct node_binary *n)
{
    bool inf = n->op == OP_POW && n->lhs->kind == NODE_NUMBER &&
               isinf(NODE_AS(number, n->lhs)->value) && NODE_AS(number, n->lhs)->value > 0;
    if (inf) putz(pr, "Inf");
    return inf;
}

/* Depth is bounded by the parser. */
static void put_node(struct printer *pr, const struct node *node)
{
    if (has_enough(pr)) return;
    switch (node->kind) {
    case NODE_NUMBER: return put_number_node(pr, NODE_AS(number, node));
    case NODE_STRING: return put_quoted(pr, NODE_AS(string, node)->value);
    case NODE_SELECTOR: return put_selector(pr, NODE_AS(selector, node), NULL);
    case NODE_MATRIX:
        return put_selector(pr, NODE_AS(matrix, node)->selector, &NODE_AS(matrix, node)->range);
    case NODE_SUBQUERY:
        put_node(pr, NODE_AS(subquery, node)->expr);
        return put_subquery_suffix(pr, NODE_AS(subquery, node));
    case NODE_CALL:
        putz(pr, NODE_AS(call, node)->func->name);
        putz(pr, "(");
        for (size_t i = 0; i < NODE_AS(call, node)->n_args && !has_enough(pr); i++) {
            if (i) putz(pr, ", ");
            put_node(pr, NODE_AS(call, node)->args[i]);
        }
        return putz(pr, ")");
    case NODE_AGGREGATE:
        put_aggregate_head(pr, NODE_AS(aggregate, node));
        putz(pr, "(");
        if (NODE_AS(aggregate, node)->param) {
            put_node(pr, NODE_AS(aggregate, node)->param);
            putz(pr, ", ");
        }
        put_node(pr, NODE_AS(aggregate, node)->expr);
        return putz(pr, ")");
    case NODE_BINARY:
        if (!put_unsigned_inf(pr, NODE_AS(binary, node))) put_node(pr, NODE_AS(binary, node)->lhs);
        putz(pr, " ");
        put_operator(pr, NODE_AS(binary, node));
        putz(pr, " ");
        return put_node(pr, NODE_AS(binary, node)->rhs);
    case NODE_UNARY:
        putz(pr, NODE_AS(unary, node)->negate ? "-" : "+");
        return put_node(pr, NODE_AS(unary, node)->expr);
    case NODE_PAREN:
        putz(pr, "(");
        put_node(pr, NODE_AS(paren, node)->expr);
        return putz(pr, ")");
    case NODE_STEP_INVARIANT: return put_node(pr, NODE_AS(step_invariant, node)->expr);
    }
}

void ast_print(const struct node *root, struct buf *out)
{
    struct printer pr = {.out = out};
    put_node(&pr, root);
}

/* --- several lines --------------------------------------------------------------------------------- */

#define LINE_BYTES_MAX 100

static bool needs_split(const struct node *node)
{
    struct printer counter = {.enough = LINE_BYTES_MAX};
    put_node(&counter, node);
    return counter.n > LINE_BYTES_MAX;
}

static void indent(struct printer *pr, unsigned level)
{
    for (unsigned i = 0; i < level; i++) putz(pr, "  ");
}

/* `lead`: indent the first line; not after a sign. */
static void pretty(struct printer *pr, const struct node *node, unsigned level, bool lead);

/* head ( … ) with what is inside one level deeper */
static void pretty_block(struct printer *pr, struct node *const *items, size_t n, unsigned level)
{
    putz(pr, "(\n");
    for (size_t i = 0; i < n; i++) {
        pretty(pr, items[i], level + 1, true);
        putz(pr, i + 1 < n ? ",\n" : "\n");
    }
    indent(pr, level);
    putz(pr, ")");
}

static void pretty_aggregate(struct printer *pr, const struct node_aggregate *n, unsigned level)
{
    struct node *items[2] = {n->param, n->expr};
    put_aggregate_head(pr, n);
    if (n->param)
        pretty_block(pr, items, 2, level);
    else
        pretty_block(pr, items + 1, 1, level);
}

static void pretty_binary(struct printer *pr, const struct node_binary *n, unsigned level,
                          bool lead)
{
    if (n->op == OP_POW && n->lhs->kind == NODE_NUMBER) {
        if (lead) indent(pr, level + 1);
        if (!put_unsigned_inf(pr, n)) put_node(pr, n->lhs);
    } else {
        pretty(pr, n->lhs, level + 1, lead);
    }
    putz(pr, "\n");
    indent(pr, level);
    put_operator(pr, n);
    putz(pr, "\n");
    pretty(pr, n->rhs, level + 1, true);
}

static void pretty(struct printer *pr, const struct node *node, unsigned level, bool lead)
{
    bool split = needs_split(node);
    /* A split binary expression begins with its left side, which is a level deeper. */
    bool own_indent = !(split && (node->kind == NODE_BINARY || node->kind == NODE_SUBQUERY));
    if (lead && own_indent) indent(pr, level);
    if (!split) return put_node(pr, node);
    switch (node->kind) {
    case NODE_CALL:
        putz(pr, NODE_AS(call, node)->func->name);
        return pretty_block(pr, NODE_AS(call, node)->args, NODE_AS(call, node)->n_args, level);
    case NODE_AGGREGATE: return pretty_aggregate(pr, NODE_AS(aggregate, node), level);
    case NODE_BINARY: return pretty_binary(pr, NODE_AS(binary, node), level, lead);
    case NODE_UNARY:
        putz(pr, NODE_AS(unary, node)->negate ? "-" : "+");
        return pretty(pr, NODE_AS(unary, node)->expr, level, false);
    case NODE_PAREN: return pretty_block(pr, &NODE_AS(paren, node)->expr, 1, level);
    case NODE_SUBQUERY:
        pretty(pr, NODE_AS(subquery, node)->expr, level, lead);
        return put_subquery_suffix(pr, NODE_AS(subquery, node));
    default: return put_node(pr, node);
    }
}

void ast_print_pretty(const struct node *root, struct buf *out)
{
    struct printer pr = {.out = out};
    pretty(&pr, root, 0, true);
}
