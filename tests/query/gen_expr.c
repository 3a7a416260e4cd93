#include "tests/query/gen_expr.h"

#include "query/function.h"

static const char *const METRICS[] = {
    "up",    "http_requests_total", "node:cpu:rate5m", "sum", "by",
    "start", "latency_bucket",      "offset"};
static const char *const LABELS[] = {"job", "instance", "le", "code", "__name__x"};
static const char *const VALUES[] = {"a", "b", "api", "200", "500", "+Inf", ""};

struct gen {
    struct rng *rng;
    const struct gen_expr_options *o;
    struct buf *out;
};

struct gen_expr_options gen_expr_defaults(void)
{
    return (struct gen_expr_options){.metrics = METRICS,
                                     .labels = LABELS,
                                     .values = VALUES,
                                     .n_metrics = COUNT_OF(METRICS),
                                     .n_labels = COUNT_OF(LABELS),
                                     .n_values = COUNT_OF(VALUES),
                                     .depth = 4};
}

static void expr(struct gen *g, enum value_type type, unsigned depth);

static void put(struct gen *g, const char *z)
{
    buf_text(g->out, str_of(z));
}

static bool one_in(struct gen *g, unsigned n)
{
    return rng_below(g->rng, n) == 0;
}

#define PICK(g, array) ((array)[rng_below((g)->rng, COUNT_OF(array))])

/* A blank where one must or may stand */
static void space(struct gen *g)
{
    static const char *const ODD[] = {"  ", "\n", "\t", " # a comment\n", "\r\n"};
    put(g, !g->o->no_odd_syntax && one_in(g, 12) ? PICK(g, ODD) : " ");
}

static void maybe_space(struct gen *g)
{
    if (!g->o->no_odd_syntax && one_in(g, 6)) space(g);
}

static const char *metric(struct gen *g)
{
    return g->o->metrics[rng_below(g->rng, g->o->n_metrics)];
}

static const char *label(struct gen *g)
{
    return g->o->labels[rng_below(g->rng, g->o->n_labels)];
}

static const char *value(struct gen *g)
{
    return g->o->values[rng_below(g->rng, g->o->n_values)];
}

static void number(struct gen *g)
{
    static const char *const ODD[] = {"0x1F",  "017", "1_000", ".5",    "5.",  "1e-7", "Inf", "nan",
                                      "1e300", "08",  "0X_1f", "1e1_0", "30m", "1h5s", "1ms", "0"};
    if (!g->o->no_odd_syntax && one_in(g, 3)) return put(g, PICK(g, ODD));
    buf_printf(g->out, "%u", (unsigned)rng_below(g->rng, 20));
    if (one_in(g, 3)) buf_printf(g->out, ".%u", (unsigned)rng_below(g->rng, 100));
}

static void string(struct gen *g, const char *text)
{
    static const char *const ODD[] = {
        "'b'", "`raw \\ \"`", "\"\\n\\t\\\\\"", "\"\\u00e9\\xff\\101\"", "'\\''", "\"é\\ufffd\""};
    if (!g->o->no_odd_syntax && one_in(g, 8)) return put(g, PICK(g, ODD));
    char quote = g->o->no_odd_syntax ? '"' : "\"'`"[rng_below(g->rng, 3)];
    buf_printf(g->out, "%c%s%c", quote, text, quote);
}

/* --- selectors ------------------------------------------------------------------------------------- */

static void matcher(struct gen *g)
{
    static const char *const PATTERNS[] = {"a|b",   "a.*",       ".+",      "(api|web)-[0-9]+",
                                           "",      "[a-c]x?",   "(?i)abc", "5..",
                                           ".*Inf", "(?:x|y)z*", "\\\\d+"};
    bool quoted = !g->o->no_odd_syntax && one_in(g, 6);
    if (quoted)
        buf_printf(g->out, "\"%s\"", one_in(g, 2) ? label(g) : "a label");
    else
        put(g, label(g));
    maybe_space(g);
    if (one_in(g, 3)) {
        put(g, one_in(g, 3) ? "!~" : "=~");
        maybe_space(g);
        buf_printf(g->out, "\"%s\"", PICK(g, PATTERNS));
    } else {
        put(g, one_in(g, 3) ? "!=" : "=");
        maybe_space(g);
        string(g, value(g));
    }
}

static void matchers(struct gen *g, bool need_one)
{
    unsigned n = (unsigned)rng_below(g->rng, 3) + need_one;
    put(g, "{");
    for (unsigned i = 0; i < n; i++) {
        if (i) put(g, ",");
        maybe_space(g);
        matcher(g);
    }
    if (n && !g->o->no_odd_syntax && one_in(g, 6)) put(g, ",");
    put(g, "}");
}

static void plain_selector(struct gen *g)
{
    if (!g->o->no_odd_syntax && one_in(g, 8)) {
        buf_printf(g->out, "{\"%s\",", one_in(g, 2) ? metric(g) : "a metric");
        matcher(g);
        return put(g, "}");
    }
    put(g, metric(g));
    if (one_in(g, 2)) matchers(g, false);
}

static void duration_literal(struct gen *g)
{
    static const char *const TEXTS[] = {"5m",  "1h",    "30s", "90m", "1d",
                                        "300", "1h30m", "0.5", "1w"};
    put(g, PICK(g, TEXTS));
}

static void duration_expr(struct gen *g, unsigned depth)
{
    static const char *const OPS[] = {"+", "-", "*", "/", "%", "^"};
    switch (depth ? rng_below(g->rng, 7) : 0) {
    case 1:
        put(g, "(");
        duration_expr(g, depth - 1);
        return put(g, ")");
    case 2: return put(g, one_in(g, 2) ? "step()" : "range()");
    case 3:
        put(g, one_in(g, 2) ? "min_of(" : "MAX_OF(");
        duration_expr(g, depth - 1);
        put(g, ",");
        duration_expr(g, depth - 1);
        return put(g, ")");
    case 4:
        put(g, one_in(g, 2) ? "-" : "+");
        put(g, "(");
        duration_expr(g, depth - 1);
        return put(g, ")");
    case 5:
    case 6:
        duration_expr(g, depth - 1);
        maybe_space(g);
        put(g, PICK(g, OPS));
        maybe_space(g);
        return duration_expr(g, depth - 1);
    default: return duration_literal(g);
    }
}

static void duration(struct gen *g)
{
    if (g->o->no_duration_expr || !one_in(g, 4)) return duration_literal(g);
    /* Positive at least as far as the parser can tell: it judges only plain numbers. */
    put(g, "1s + (");
    duration_expr(g, 2);
    put(g, ")");
}

static void offset(struct gen *g)
{
    put(g, " offset ");
    if (one_in(g, 3)) put(g, "-");
    if (!g->o->no_duration_expr && one_in(g, 4)) {
        put(g, "(");
        duration_expr(g, 2);
        put(g, ")");
    } else {
        duration_literal(g);
    }
}

static void at(struct gen *g)
{
    static const char *const TIMES[] = {"start()", "end()", "1600000000", "-1.5", "0", "+5m"};
    put(g, " @ ");
    put(g, PICK(g, TIMES));
}

static void modifiers(struct gen *g, bool mode)
{
    if (g->o->no_modifiers) return;
    if (mode && one_in(g, 12)) put(g, one_in(g, 2) ? " anchored" : " smoothed");
    bool first = one_in(g, 2);
    if (first && one_in(g, 4)) offset(g);
    if (one_in(g, 6)) at(g);
    if (!first && one_in(g, 4)) offset(g);
}

static void matrix(struct gen *g, unsigned depth)
{
    if (!depth || g->o->no_subqueries || !one_in(g, 4)) {
        plain_selector(g);
        put(g, "[");
        duration(g);
        put(g, "]");
        return modifiers(g, true);
    }
    put(g, "(");
    expr(g, VALUE_VECTOR, depth - 1);
    put(g, ")[");
    duration(g);
    put(g, ":");
    if (one_in(g, 2)) duration(g);
    put(g, "]");
    modifiers(g, false);
}

/* --- operators, functions, aggregations ------------------------------------------------------------ */

static void labels_list(struct gen *g, unsigned n)
{
    put(g, "(");
    for (unsigned i = 0; i < n; i++) {
        if (i) put(g, ", ");
        bool quoted = !g->o->no_odd_syntax && one_in(g, 6);
        if (quoted)
            buf_printf(g->out, "\"%s\"", one_in(g, 2) ? "a.b" : "without");
        else
            put(g, label(g));
    }
    put(g, ")");
}

static void grouping(struct gen *g)
{
    put(g, one_in(g, 2) ? " by " : " without ");
    labels_list(g, (unsigned)rng_below(g->rng, 3));
}

static void aggregate(struct gen *g, unsigned depth)
{
    enum aggregate_op op = (enum aggregate_op)rng_below(g->rng, AGG_LIMIT_RATIO + 1);
    bool first = one_in(g, 2), clause = one_in(g, 2);
    put(g, aggregate_op_name(op));
    if (clause && first) grouping(g);
    maybe_space(g);
    put(g, "(");
    if (op >= AGG_TOPK) {
        if (op == AGG_COUNT_VALUES)
            put(g, "\"val\"");
        else
            expr(g, VALUE_SCALAR, depth > 2 ? 1 : 0);
        put(g, ", ");
    }
    expr(g, VALUE_VECTOR, depth - 1);
    put(g, ")");
    if (clause && !first) grouping(g);
}

static void call(struct gen *g, enum value_type type, unsigned depth)
{
    const struct function_sig *f;
    do {
        f = function_by_index(rng_below(g->rng, FN_N));
    } while (f->returns != type);
    size_t n = f->n_args;
    if (f->variadic) n = f->n_args - 1u + rng_below(g->rng, f->variadic == 1 ? 2 : 3);
    put(g, f->name);
    put(g, "(");
    for (size_t i = 0; i < n; i++) {
        enum value_type want = f->args[MIN_OF(i, (size_t)f->n_args - 1)];
        if (i) put(g, ", ");
        if (f->id == FN_INFO && i == 1)
            matchers(g, false);
        else
            expr(g, want, want == VALUE_SCALAR ? MIN_OF(depth - 1, 1u) : depth - 1);
    }
    put(g, ")");
}

static void fill(struct gen *g)
{
    static const char *const FILLS[] = {" fill(0)", " fill_left(-1)", " fill_right (5m)",
                                        " fill_right(1) fill_left(2)"};
    if (one_in(g, 8)) put(g, PICK(g, FILLS));
}

static void matching(struct gen *g, enum binary_op op)
{
    if (op_is_comparison(op) && one_in(g, 3)) put(g, " bool");
    if (one_in(g, 2)) {
        bool on = one_in(g, 2);
        put(g, on ? " on " : " ignoring ");
        labels_list(g, (unsigned)rng_below(g->rng, 2));
        if (!op_is_set(op) && one_in(g, 3)) {
            put(g, one_in(g, 2) ? " group_left " : " group_right ");
            put(g, one_in(g, 2) ? "()" : "(extra)"); /* a parenthesis would be taken for the list */
        }
    }
    if (!op_is_set(op)) fill(g);
}

static void wrapped(struct gen *g, const char *open, enum value_type type, const char *close,
                    unsigned depth)
{
    put(g, open);
    maybe_space(g);
    expr(g, type, depth - 1);
    maybe_space(g);
    put(g, close);
}

/* Sides stay bare only under plain arithmetic: elsewhere the parser's own grouping could put a scalar where a clause asks for
 * vectors, or compare two scalars. */
static void side(struct gen *g, enum value_type type, bool bare, unsigned depth)
{
    if (bare)
        expr(g, type, depth - 1);
    else
        wrapped(g, "(", type, ")", depth);
}

static void binary(struct gen *g, enum value_type type, unsigned depth)
{
    enum binary_op op = (enum binary_op)rng_below(g->rng, OP_UNLESS + 1);
    bool scalars = type == VALUE_SCALAR;
    bool vectors = !scalars && one_in(g, 2);
    bool left_vector = vectors || (!scalars && one_in(g, 2));
    bool right_vector = vectors || (!scalars && !left_vector);
    if (op_is_set(op) && !vectors) op = OP_ADD;
    bool bare = op <= OP_ATAN2 && one_in(g, 2);
    side(g, left_vector ? VALUE_VECTOR : VALUE_SCALAR, bare, depth);
    space(g);
    put(g, binary_op_text(op));
    if (vectors && !bare)
        matching(g, op);
    else if (op_is_comparison(op) && (scalars || one_in(g, 2)))
        put(g, " bool");
    space(g);
    side(g, right_vector ? VALUE_VECTOR : VALUE_SCALAR, bare, depth);
}

static void scalar(struct gen *g, unsigned depth)
{
    switch (depth ? rng_below(g->rng, 6) : 0) {
    case 1: return wrapped(g, "(", VALUE_SCALAR, ")", depth);
    case 2: return wrapped(g, one_in(g, 2) ? "-(" : "+(", VALUE_SCALAR, ")", depth);
    case 3:
        if (!g->o->no_functions) return call(g, VALUE_SCALAR, depth);
        break;
    case 4:
    case 5:
        if (!g->o->no_binary) return binary(g, VALUE_SCALAR, depth);
        break;
    default: break;
    }
    if (one_in(g, 5)) put(g, one_in(g, 2) ? "-" : "+");
    number(g);
}

static void vector(struct gen *g, unsigned depth)
{
    switch (depth ? rng_below(g->rng, 8) : 0) {
    case 1: return wrapped(g, "(", VALUE_VECTOR, ")", depth);
    case 2: return wrapped(g, one_in(g, 2) ? "-" : "+", VALUE_VECTOR, "", depth);
    case 3:
    case 4:
        if (!g->o->no_functions) return call(g, VALUE_VECTOR, depth);
        break;
    case 5:
        if (!g->o->no_aggregates) return aggregate(g, depth);
        break;
    case 6:
    case 7:
        if (!g->o->no_binary) return binary(g, VALUE_VECTOR, depth);
        break;
    default: break;
    }
    plain_selector(g);
    modifiers(g, true);
}

static void expr(struct gen *g, enum value_type type, unsigned depth)
{
    switch (type) {
    case VALUE_SCALAR: return scalar(g, depth);
    case VALUE_MATRIX: return matrix(g, depth);
    case VALUE_STRING: return string(g, value(g));
    default: return vector(g, depth);
    }
}

void gen_expr(struct rng *rng, const struct gen_expr_options *options, enum value_type type,
              struct buf *out)
{
    struct gen g = {rng, options, out};
    expr(&g, type, options->depth);
}
