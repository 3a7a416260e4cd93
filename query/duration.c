#include "query/duration.h"

#include <math.h>

#include "query/number.h"
#include "query/parser.h"

struct unit {
    const char *name;
    int64_t ms;
};
/* In the order in which they may follow each other */
static const struct unit UNITS[] = {
    {"y", INT64_C(365) * 86400000},
    {"w", 7 * 86400000},
    {"d", 86400000},
    {"h", 3600000},
    {"m", 60000},
    {"s", 1000},
    {"ms", 1},
};
#define DURATION_MS_MAX INT64_C(9223372036854) /* 2^63 ns */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool scan_count(struct str s, size_t *i, uint64_t *value)
{
    uint64_t v = 0;
    bool fits = true;
    for (; *i < s.len && is_digit(s.p[*i]); (*i)++) {
        uint64_t digit = (uint64_t)(s.p[*i] - '0');
        if (v > (UINT64_MAX - digit) / 10) fits = false;
        v = v * 10 + digit;
    }
    *value = v;
    return fits;
}

enum duration_parse duration_parse_literal(struct str text, int64_t *ms, struct str *unit)
{
    *ms = 0;
    *unit = (struct str){"", 0};
    if (!text.len) return DURATION_EMPTY;
    if (str_eq(text, STR("0"))) return DURATION_OK;
    size_t next_unit = 0;
    for (size_t i = 0; i < text.len;) {
        uint64_t count;
        if (!is_digit(text.p[i]) || !scan_count(text, &i, &count)) return DURATION_SYNTAX;
        size_t from = i;
        while (i < text.len && !is_digit(text.p[i])) i++;
        *unit = (struct str){text.p + from, i - from};
        if (!unit->len) return DURATION_SYNTAX;
        size_t u = 0;
        while (u < COUNT_OF(UNITS) && !str_eq(*unit, str_of(UNITS[u].name))) u++;
        if (u == COUNT_OF(UNITS)) return DURATION_UNIT;
        if (u < next_unit) return DURATION_SYNTAX;
        next_unit = u + 1;
        if (count > (uint64_t)(DURATION_MS_MAX / UNITS[u].ms)) return DURATION_OVERFLOW;
        *ms += (int64_t)count * UNITS[u].ms;
        if (*ms > DURATION_MS_MAX) return DURATION_OVERFLOW;
    }
    return DURATION_OK;
}

bool duration_from_seconds(double seconds, int64_t *ms)
{
    *ms = 0;
    if (!(fabs(seconds) <= DURATION_SECONDS_MAX)) return false; /* a NaN neither */
    /* By way of nanoseconds: 1.001 s are 1001 ms, though 1.001 * 1000 is a hair less. */
    *ms = llround(seconds * 1e9) / 1000000;
    return true;
}

bool duration_parse(struct str text, int64_t *ms, bool *overflow)
{
    double seconds;
    *overflow = false;
    enum number_parse rc = number_parse_float(text, &seconds);
    if (rc == NUMBER_OK) {
        *overflow = !duration_from_seconds(seconds, ms);
        return !*overflow;
    }
    struct str unit;
    return duration_parse_literal(text, ms, &unit) == DURATION_OK;
}

void duration_print(int64_t ms, struct buf *out)
{
    if (ms == 0) return buf_text(out, STR("0s"));
    uint64_t left = ms < 0 ? ~(uint64_t)ms + 1 : (uint64_t)ms;
    if (ms < 0) buf_u8(out, '-');
    for (size_t i = 0; i < COUNT_OF(UNITS); i++) {
        uint64_t unit = (uint64_t)UNITS[i].ms;
        bool exact_only = i < 2; /* years and weeks: 372d is easier to read than 1y1w */
        if (left < unit || (exact_only && left % unit)) continue;
        buf_printf(out, "%llu%s", (unsigned long long)(left / unit), UNITS[i].name);
        left %= unit;
    }
}

/* --- expressions ----------------------------------------------------------------------------------- */

static const char *op_text(enum duration_op op)
{
    switch (op) {
    case DUR_ADD: return " + ";
    case DUR_SUB: return " - ";
    case DUR_MUL: return " * ";
    case DUR_DIV: return " / ";
    case DUR_MOD: return " % ";
    default: return " ^ ";
    }
}

static void print_number(const struct duration_expr *e, struct buf *out)
{
    if (e->is_duration) return duration_print(llround(e->seconds * 1000), out);
    char text[NUMBER_BYTES_MAX];
    buf_text(out, (struct str){text, number_print_plain(text, e->seconds)});
}

void duration_print_expr(const struct duration_expr *e, struct buf *out)
{
    switch (e->op) {
    case DUR_NUMBER: return print_number(e, out);
    case DUR_STEP: return buf_text(out, STR("step()"));
    case DUR_RANGE: return buf_text(out, STR("range()"));
    case DUR_NEG: buf_u8(out, '-'); return duration_print_expr(e->a, out);
    case DUR_PAREN:
        buf_u8(out, '(');
        duration_print_expr(e->a, out);
        return buf_u8(out, ')');
    case DUR_MIN_OF:
    case DUR_MAX_OF:
        buf_text(out, e->op == DUR_MIN_OF ? STR("min_of(") : STR("max_of("));
        duration_print_expr(e->a, out);
        buf_text(out, STR(", "));
        duration_print_expr(e->b, out);
        return buf_u8(out, ')');
    default: break;
    }
    /* A sign was folded into the number and its parentheses dropped: (-2)^2 is not -2^2. */
    bool wrap = e->op == DUR_POW && e->a->op == DUR_NUMBER && signbit(e->a->seconds);
    if (wrap) buf_u8(out, '(');
    duration_print_expr(e->a, out);
    if (wrap) buf_u8(out, ')');
    buf_text(out, str_of(op_text(e->op)));
    duration_print_expr(e->b, out);
}

struct resolver {
    struct duration_times times;
    struct err *err;
};

static enum err_code fail_at(const struct duration_expr *e, const char *text, struct err *err)
{
    return err_set(err, ERR_INVALID, "%u:%u: %s", (unsigned)e->pos, (unsigned)e->end, text);
}

/* Depth is bounded by the parser. */
static enum err_code eval(const struct resolver *r, const struct duration_expr *e, double *out)
{
    double a = 0, b = 0;
    enum err_code rc = e->a ? eval(r, e->a, &a) : ERR_OK;
    if (!rc && e->b) rc = eval(r, e->b, &b);
    if (rc) return rc;
    switch (e->op) {
    case DUR_NUMBER: *out = e->seconds; break;
    case DUR_STEP: *out = (double)r->times.step_ms / 1000; break;
    case DUR_RANGE: *out = (double)r->times.range_ms / 1000; break;
    case DUR_NEG: *out = -a; break;
    case DUR_PAREN: *out = a; break;
    case DUR_ADD: *out = a + b; break;
    case DUR_SUB: *out = a - b; break;
    case DUR_MUL: *out = a * b; break;
    case DUR_DIV:
        if (b == 0) return fail_at(e, "division by zero", r->err);
        *out = a / b;
        break;
    case DUR_MOD:
        if (b == 0) return fail_at(e, "modulo by zero", r->err);
        *out = fmod(a, b);
        break;
    case DUR_POW: *out = pow(a, b); break;
    case DUR_MIN_OF: *out = isnan(a) || a < b ? a : b; break;
    case DUR_MAX_OF: *out = isnan(a) || a > b ? a : b; break;
    }
    return ERR_OK;
}

static const struct duration_expr *strip_paren(const struct duration_expr *e)
{
    while (e->op == DUR_PAREN) e = e->a;
    return e;
}

static enum err_code resolve(const struct resolver *r, struct duration *d, bool positive)
{
    double seconds;
    if (!d->expr) return ERR_OK;
    enum err_code rc = eval(r, d->expr, &seconds);
    if (rc) return rc;
    const struct duration_expr *shown = strip_paren(d->expr);
    if (!isfinite(seconds)) return fail_at(shown, "duration is NaN or infinite", r->err);
    if (positive && seconds <= 0) return fail_at(shown, "duration must be greater than 0", r->err);
    if (fabs(seconds) > DURATION_SECONDS_MAX)
        return fail_at(shown, "duration is out of range", r->err);
    d->ms = (int64_t)(seconds * 1000);
    /* Below a millisecond: an empty window would be silently without data, an empty step without end. */
    if (positive && d->ms == 0) return fail_at(shown, "duration must be greater than 0", r->err);
    return ERR_OK;
}

static bool resolve_node(void *ctx, struct node *node)
{
    struct resolver *r = ctx;
    if (r->err->code) return false;
    if (node->kind == NODE_SELECTOR) {
        (void)resolve(r, &NODE_AS(selector, node)->offset, false); /* the code stays in err */
    } else if (node->kind == NODE_MATRIX) {
        (void)resolve(r, &NODE_AS(matrix, node)->range, true);
    } else if (node->kind == NODE_SUBQUERY) {
        struct node_subquery *sub = NODE_AS(subquery, node);
        if (resolve(r, &sub->range, true)) return false;
        if (sub->has_step && resolve(r, &sub->step, true)) return false;
        (void)resolve(r, &sub->offset, false);
    }
    return !r->err->code;
}

enum err_code durations_resolve(struct node *root, struct duration_times times, struct err *err)
{
    struct resolver r = {times, err};
    err_clear(err);
    node_walk(root, resolve_node, &r);
    return err->code;
}
