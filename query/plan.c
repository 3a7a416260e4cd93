/* query/plan.c: from the syntax tree to operators: resolves times, folds scalars, finds what does not depend on
 * the step. Recursion is as deep as the tree, which the parser bounds. */
#include "query/plan.h"

#include "query/duration.h"
#include "query/kernel.h"

struct planner {
    const struct plan_context *ctx;
    bool stats_only; /* inside of histogram_count() and its like */
    struct err *err;
};

static int64_t add_saturated(int64_t a, int64_t b)
{
    int64_t sum;
    if (!__builtin_add_overflow(a, b, &sum)) return sum;
    return b > 0 ? INT64_MAX : INT64_MIN;
}
static int64_t sub_saturated(int64_t a, int64_t b)
{
    int64_t diff;
    if (!__builtin_sub_overflow(a, b, &diff)) return diff;
    return b < 0 ? INT64_MAX : INT64_MIN;
}

/* ---- what depends on the step ---- */

/* Evaluated at each step even when their arguments are pinned. */
static bool depends_on_step(enum function_id fn)
{
    switch (fn) {
    case FN_TIMESTAMP:
    case FN_TIME:
    case FN_MINUTE:
    case FN_HOUR:
    case FN_DAY_OF_WEEK:
    case FN_DAY_OF_MONTH:
    case FN_DAY_OF_YEAR:
    case FN_DAYS_IN_MONTH:
    case FN_MONTH:
    case FN_YEAR:
    case FN_PREDICT_LINEAR: return true;
    default: return false;
    }
}

bool node_is_step_invariant(const struct node *node)
{
    switch (node->kind) {
    case NODE_NUMBER:
    case NODE_STRING:
    case NODE_STEP_INVARIANT: return true;
    case NODE_SELECTOR: return NODE_AS(selector, node)->at != AT_NONE;
    case NODE_MATRIX: return NODE_AS(matrix, node)->selector->at != AT_NONE;
    case NODE_SUBQUERY: return NODE_AS(subquery, node)->at != AT_NONE;
    case NODE_CALL: {
        const struct node_call *call = NODE_AS(call, node);
        if (depends_on_step(call->func->id)) return false;
        /* info()'s second argument is evaluated when the first is. */
        size_t n = call->func->id == FN_INFO ? 1 : call->n_args;
        for (size_t i = 0; i < n; i++)
            if (!node_is_step_invariant(call->args[i])) return false;
        return true;
    }
    case NODE_AGGREGATE: {
        const struct node_aggregate *agg = NODE_AS(aggregate, node);
        return node_is_step_invariant(agg->expr) &&
               (!agg->param || node_is_step_invariant(agg->param));
    }
    case NODE_BINARY:
        return node_is_step_invariant(NODE_AS(binary, node)->lhs) &&
               node_is_step_invariant(NODE_AS(binary, node)->rhs);
    case NODE_UNARY: return node_is_step_invariant(NODE_AS(unary, node)->expr);
    case NODE_PAREN: return node_is_step_invariant(NODE_AS(paren, node)->expr);
    }
    return false;
}

/* ---- nodes ---- */

static enum err_code build(struct planner *p, const struct node *node, const struct grid *grid,
                           struct plan **out);

static enum err_code no_memory(struct planner *p)
{
    return arena_fail(p->ctx->arena, p->err);
}

static struct plan *plan_new(struct planner *p, enum plan_kind kind, const struct node *node,
                             const struct grid *grid, size_t n_args)
{
    struct plan *plan = ARENA_NEW(p->ctx->arena, struct plan);
    struct plan **args = n_args ? ARENA_ARRAY(p->ctx->arena, struct plan *, n_args) : NULL;
    if (!plan || (n_args && !args)) return NULL;
    *plan = (struct plan){.kind = kind,
                          .type = VALUE_VECTOR,
                          .node = node,
                          .grid = *grid,
                          .args = args,
                          .n_args = n_args,
                          .fn = FN_N};
    return plan;
}

static enum err_code make_number(struct planner *p, const struct node *node,
                                 const struct grid *grid, double v, struct plan **out)
{
    *out = plan_new(p, PLAN_NUMBER, node, grid, 0);
    if (!*out) return no_memory(p);
    (*out)->type = VALUE_SCALAR;
    (*out)->number = v;
    return ERR_OK;
}

static const struct node *strip_parens(const struct node *node)
{
    while (node->kind == NODE_PAREN) node = NODE_AS(paren, node)->expr;
    return node;
}

/* ---- selectors ---- */

struct written_window {
    enum at_kind at;
    int64_t at_ms, range_ms, offset_ms;
    int64_t extra_before_ms, extra_after_ms;
};

/* Times of a selector or subquery on this grid, and what has to be read for all its steps. */
static void resolve_window(const struct planner *p, const struct written_window *w,
                           struct plan *plan)
{
    int64_t offset_ms = w->offset_ms;
    struct plan_window *window = &plan->window;
    *window = (struct plan_window){.offset_ms = offset_ms,
                                   .range_ms = w->range_ms,
                                   .extra_before_ms = w->extra_before_ms,
                                   .extra_after_ms = w->extra_after_ms};
    int64_t at_ms = w->at == AT_START ? p->ctx->start_ms
                    : w->at == AT_END ? p->ctx->end_ms
                                      : w->at_ms;
    window->pinned = w->at != AT_NONE;
    if (window->pinned) window->pinned_ms = sub_saturated(at_ms, offset_ms);
    int64_t first = window_end(window, &plan->grid, 0);
    int64_t last = window_end(window, &plan->grid, plan->grid.n ? plan->grid.n - 1 : 0);
    int64_t reach = add_saturated(w->range_ms, w->extra_before_ms);
    plan->mint_ms = add_saturated(sub_saturated(first, reach), 1);
    plan->maxt_ms = add_saturated(last, w->extra_after_ms);
}

/* What instant and range selectors share. NULL when memory is out. */
static struct plan *selector_plan(struct planner *p, enum plan_kind kind, const struct node *node,
                                  const struct node_selector *sel, const struct grid *grid)
{
    struct plan *plan = plan_new(p, kind, node, grid, 0);
    if (!plan) return NULL;
    plan->mode = sel->mode;
    plan->stats_only = p->stats_only;
    plan->matchers = sel->matchers;
    plan->n_matchers = sel->n_matchers;
    return plan;
}

static enum err_code build_selector(struct planner *p, const struct node_selector *sel,
                                    const struct grid *grid, enum function_id fn, struct plan **out)
{
    struct plan *plan = *out = selector_plan(p, PLAN_SELECT, &sel->node, sel, grid);
    if (!plan) return no_memory(p);
    plan->fn = fn;
    struct written_window w = {.at = sel->at,
                               .at_ms = sel->at_ms,
                               .offset_ms = sel->offset.ms,
                               .range_ms = p->ctx->lookback_ms};
    if (sel->mode == SELECT_SMOOTHED) w.extra_after_ms = p->ctx->lookback_ms;
    resolve_window(p, &w, plan);
    return ERR_OK;
}

static enum err_code build_matrix(struct planner *p, const struct node_matrix *matrix,
                                  const struct grid *grid, struct plan **out)
{
    const struct node_selector *sel = matrix->selector;
    struct plan *plan = *out = selector_plan(p, PLAN_SELECT_RANGE, &matrix->node, sel, grid);
    if (!plan) return no_memory(p);
    plan->type = VALUE_MATRIX;
    struct written_window w = {.at = sel->at,
                               .at_ms = sel->at_ms,
                               .range_ms = matrix->range.ms,
                               .offset_ms = sel->offset.ms};
    if (sel->mode != SELECT_PLAIN) w.extra_before_ms = p->ctx->lookback_ms;
    if (sel->mode == SELECT_SMOOTHED) w.extra_after_ms = p->ctx->lookback_ms;
    resolve_window(p, &w, plan);
    return ERR_OK;
}

/* The largest multiple of step that is <= t. */
static int64_t floor_multiple(int64_t t, int64_t step)
{
    int64_t q = t / step;
    if (t % step < 0) q--;
    return q * step;
}

/* The multiples of step_ms that the windows of all steps cover. */
static struct grid subquery_grid(const struct plan *plan, int64_t step_ms)
{
    /* mint is the first millisecond inside the first window. */
    int64_t first = floor_multiple(sub_saturated(plan->mint_ms, 1), step_ms) + step_ms;
    int64_t last = floor_multiple(plan->maxt_ms, step_ms);
    size_t n = first <= last ? (size_t)((last - first) / step_ms) + 1 : 0;
    return (struct grid){first, step_ms, n};
}

static enum err_code make_unique(struct planner *p, struct plan **plan)
{
    if (!(*plan)->repeats_labels) return ERR_OK;
    struct plan *unique = plan_new(p, PLAN_UNIQUE, (*plan)->node, &(*plan)->grid, 1);
    if (!unique) return no_memory(p);
    unique->args[0] = *plan;
    *plan = unique;
    return ERR_OK;
}

static enum err_code build_subquery(struct planner *p, const struct node_subquery *sub,
                                    const struct grid *grid, struct plan **out)
{
    struct plan *plan = *out = plan_new(p, PLAN_SUBQUERY, &sub->node, grid, 1);
    if (!plan) return no_memory(p);
    plan->type = VALUE_MATRIX;
    struct written_window w = {
        .at = sub->at, .at_ms = sub->at_ms, .range_ms = sub->range.ms, .offset_ms = sub->offset.ms};
    resolve_window(p, &w, plan);
    /* A resolution below a millisecond comes out as 0, which asks for the default as none does. */
    int64_t step_ms = sub->has_step ? sub->step.ms : 0;
    if (step_ms <= 0) step_ms = p->ctx->subquery_step_ms;
    struct grid inner = subquery_grid(plan, step_ms);
    enum err_code rc = build(p, sub->expr, &inner, &plan->args[0]);
    if (rc) return rc;
    return make_unique(p, &plan->args[0]);
}

/* ---- calls ---- */

static bool range_mode_allowed(enum selector_mode mode, enum function_id fn)
{
    bool extrapolates = fn == FN_RATE || fn == FN_INCREASE || fn == FN_DELTA;
    if (mode == SELECT_SMOOTHED) return extrapolates;
    if (mode == SELECT_ANCHORED) return extrapolates || fn == FN_CHANGES || fn == FN_RESETS;
    return true;
}

static enum err_code check_range_mode(struct planner *p, const struct plan *range,
                                      const struct function_sig *fn)
{
    if (range_mode_allowed(range->mode, fn->id)) return ERR_OK;
    bool smoothed = range->mode == SELECT_SMOOTHED;
    return err_set(p->err, ERR_EXECUTION, "%s modifier can only be used with: %s - not with %s",
                   smoothed ? "smoothed" : "anchored",
                   smoothed ? "delta, increase, rate" : "changes, delta, increase, rate, resets",
                   fn->name);
}

static enum err_code build_args(struct planner *p, const struct node_call *call,
                                const struct grid *grid, struct plan *plan)
{
    for (size_t i = 0; i < call->n_args; i++) {
        enum err_code rc = build(p, call->args[i], grid, &plan->args[i]);
        if (rc) return rc;
        if (plan->args[i]->type == VALUE_VECTOR)
            plan->repeats_labels |= plan->args[i]->repeats_labels;
    }
    return ERR_OK;
}

static enum err_code build_range_call(struct planner *p, const struct node_call *call,
                                      const struct grid *grid, struct plan **out)
{
    struct plan *plan = *out = plan_new(p, PLAN_RANGE, &call->node, grid, call->n_args);
    if (!plan) return no_memory(p);
    plan->fn = call->func->id;
    enum err_code rc = build_args(p, call, grid, plan);
    if (rc) return rc;
    while (plan->args[plan->main_arg]->type != VALUE_MATRIX) {
        plan->main_arg++;
        ASSERT(plan->main_arg < plan->n_args);
    }
    return check_range_mode(p, plan->args[plan->main_arg], call->func);
}

/* A date function without argument is one of vector(time()). */
static enum err_code build_time_vector(struct planner *p, const struct node *node,
                                       const struct grid *grid, struct plan **out)
{
    struct plan *time = plan_new(p, PLAN_TIME, node, grid, 0);
    struct plan *vector = *out = plan_new(p, PLAN_VECTOR, node, grid, 1);
    if (!time || !vector) return no_memory(p);
    time->type = VALUE_SCALAR;
    vector->args[0] = time;
    return ERR_OK;
}

static enum err_code build_element_call(struct planner *p, const struct node_call *call,
                                        const struct grid *grid, struct plan **out)
{
    enum function_id fn = call->func->id;
    const struct node *arg = call->n_args ? strip_parens(call->args[0]) : NULL;
    if ((fn == FN_TIMESTAMP || fn == FN_START_TIMESTAMP) && arg->kind == NODE_SELECTOR)
        return build_selector(p, NODE_AS(selector, arg), grid, fn, out);
    size_t n_args = MAX_OF(call->n_args, (size_t)1);
    struct plan *plan = *out = plan_new(p, PLAN_ELEMENT, &call->node, grid, n_args);
    if (!plan) return no_memory(p);
    plan->fn = fn;
    if (!call->n_args) return build_time_vector(p, &call->node, grid, &plan->args[0]);
    bool outer = p->stats_only;
    if (fn == FN_HISTOGRAM_COUNT || fn == FN_HISTOGRAM_SUM || fn == FN_HISTOGRAM_AVG)
        p->stats_only = true;
    enum err_code rc = build_args(p, call, grid, plan);
    p->stats_only = outer;
    return rc;
}

static double query_constant(const struct planner *p, enum function_id fn)
{
    const struct plan_context *ctx = p->ctx;
    switch (fn) {
    case FN_PI: return 3.141592653589793;
    case FN_START: return (double)ctx->start_ms / 1000;
    case FN_END: return (double)ctx->end_ms / 1000;
    case FN_RANGE: return (double)(ctx->end_ms - ctx->start_ms) / 1000;
    case FN_STEP: return (double)ctx->step_ms / 1000;
    default: ASSERT(false); return 0;
    }
}

static enum err_code build_generic_call(struct planner *p, const struct node_call *call,
                                        const struct grid *grid, enum plan_kind kind,
                                        struct plan **out)
{
    struct plan *plan = *out = plan_new(p, kind, &call->node, grid, call->n_args);
    if (!plan) return no_memory(p);
    plan->fn = call->func->id;
    plan->type = call->func->returns;
    bool outer = p->stats_only;
    if (kind == PLAN_QUANTILE) p->stats_only = false;
    enum err_code rc = build_args(p, call, grid, plan);
    p->stats_only = outer;
    if (rc) return rc;
    for (size_t i = 0; i < plan->n_args; i++)
        if (plan->args[i]->type == VALUE_VECTOR) plan->main_arg = i;
    if (kind == PLAN_LABELS || kind == PLAN_QUANTILE) plan->repeats_labels = true;
    if (kind == PLAN_ABSENT) plan->repeats_labels = false;
    return rc;
}

/* ---- absent ---- */

/* Does matcher k leave open the label that matcher i, an `=`, would settle? */
static bool unsettles(const struct node_selector *sel, size_t k, size_t i)
{
    const struct matcher *m = &sel->matchers[k];
    bool takes_away = m->op == MATCH_NEQ || m->op == MATCH_NRE;
    return k > i || (k < i && (m->op == MATCH_EQ || (takes_away && matcher_matches_empty(m))));
}

/* Of one label's matchers the first `=` settles it, and any behind it unsettles it again. Prometheus looks at the
 * matchers as its index has sorted them: those that take series away come last. */
static bool settles_label(const struct node_selector *sel, size_t i)
{
    const struct matcher *all = sel->matchers;
    if (all[i].op != MATCH_EQ) return false;
    for (size_t k = 0; k < sel->n_matchers; k++)
        if (str_eq(all[k].name, all[i].name) && unsettles(sel, k, i)) return false;
    return true;
}

/* What absent() knows about the series that is not there: its equality matchers. */
static enum err_code absent_labels(struct planner *p, const struct node *arg, struct labels *out)
{
    arg = strip_parens(arg);
    *out = (struct labels){0};
    const struct node_selector *sel = arg->kind == NODE_SELECTOR ? NODE_AS(selector, arg)
                                      : arg->kind == NODE_MATRIX ? NODE_AS(matrix, arg)->selector
                                                                 : NULL;
    if (!sel || !sel->n_matchers) return ERR_OK;
    struct label *items = ARENA_ARRAY(p->ctx->arena, struct label, sel->n_matchers);
    if (!items) return no_memory(p);
    size_t n = 0;
    for (size_t i = 0; i < sel->n_matchers; i++) {
        const struct matcher *m = &sel->matchers[i];
        if (m->value.len == 0 || str_eq(m->name, STR(LABEL_NAME))) continue;
        if (!settles_label(sel, i)) continue;
        items[n++] = (struct label){m->name, m->value};
    }
    bool unique = labels_sort(items, n);
    ASSERT(unique);
    *out = (struct labels){items, n};
    return ERR_OK;
}

/* absent_over_time(x) is absent(present_over_time(x)). */
static enum err_code build_absent_over_time(struct planner *p, const struct node_call *call,
                                            const struct grid *grid, struct plan **out)
{
    struct plan *absent = *out = plan_new(p, PLAN_ABSENT, &call->node, grid, 1);
    if (!absent) return no_memory(p);
    enum err_code rc = build_range_call(p, call, grid, &absent->args[0]);
    if (rc) return rc;
    absent->args[0]->fn = FN_PRESENT_OVER_TIME;
    return absent_labels(p, call->args[0], &absent->absent_labels);
}

static enum err_code build_call(struct planner *p, const struct node_call *call,
                                const struct grid *grid, struct plan **out)
{
    enum function_id fn = call->func->id;
    if (fn == FN_ABSENT_OVER_TIME) return build_absent_over_time(p, call, grid, out);
    if (fn < FN_ABSENT_OVER_TIME) return build_range_call(p, call, grid, out);
    if (fn <= FN_HISTOGRAM_STDVAR) return build_element_call(p, call, grid, out);
    switch (fn) {
    case FN_PI:
    case FN_START:
    case FN_END:
    case FN_RANGE:
    case FN_STEP: return make_number(p, &call->node, grid, query_constant(p, fn), out);
    case FN_TIME: return build_generic_call(p, call, grid, PLAN_TIME, out);
    case FN_MAX_OF:
    case FN_MIN_OF: return build_generic_call(p, call, grid, PLAN_SCALAR_EXTREME, out);
    case FN_SCALAR: return build_generic_call(p, call, grid, PLAN_SCALAR_OF, out);
    case FN_VECTOR: return build_generic_call(p, call, grid, PLAN_VECTOR, out);
    case FN_SORT:
    case FN_SORT_DESC:
    case FN_SORT_BY_LABEL:
    case FN_SORT_BY_LABEL_DESC: return build_generic_call(p, call, grid, PLAN_SORT, out);
    case FN_LABEL_REPLACE:
    case FN_LABEL_JOIN: return build_generic_call(p, call, grid, PLAN_LABELS, out);
    case FN_HISTOGRAM_QUANTILE:
    case FN_HISTOGRAM_QUANTILES:
    case FN_HISTOGRAM_FRACTION: return build_generic_call(p, call, grid, PLAN_QUANTILE, out);
    case FN_ABSENT: {
        enum err_code rc = build_generic_call(p, call, grid, PLAN_ABSENT, out);
        return rc ? rc : absent_labels(p, call->args[0], &(*out)->absent_labels);
    }
    default: break;
    }
    return err_set(p->err, ERR_UNSUPPORTED, "function %s is not supported", call->func->name);
}

/* ---- info ---- */

struct first_selector {
    const struct node_selector *sel;
    const struct node_subquery *subquery; /* the outermost around it */
};

static bool find_first_selector(void *ctx, struct node *node)
{
    struct first_selector *first = ctx;
    if (first->sel) return false;
    if (node->kind == NODE_SELECTOR) first->sel = NODE_AS(selector, node);
    if (node->kind == NODE_SUBQUERY && !first->subquery) first->subquery = NODE_AS(subquery, node);
    return true;
}

/* The info series are looked up as of the time that the first selector of the vector reads: its `@` (or that of
 * the subquery around it) and the offsets of both. */
static void info_window(const struct planner *p, struct node *vector, struct plan *plan)
{
    struct first_selector first = {0};
    node_walk(vector, find_first_selector, &first);
    struct written_window w = {.range_ms = p->ctx->lookback_ms};
    if (first.sel) {
        w.at = first.sel->at;
        w.at_ms = first.sel->at_ms;
        w.offset_ms = first.sel->offset.ms;
        if (first.subquery && w.at == AT_NONE) {
            w.at = first.subquery->at;
            w.at_ms = first.subquery->at_ms;
            w.offset_ms = add_saturated(w.offset_ms, first.subquery->offset.ms);
        }
    }
    resolve_window(p, &w, plan);
}

static enum err_code build_info(struct planner *p, const struct node_call *call,
                                const struct grid *grid, struct plan **out)
{
    struct plan *plan = *out = plan_new(p, PLAN_INFO, &call->node, grid, 2);
    struct plan *infos = plan_new(p, PLAN_SELECT, &call->node, grid, 0);
    if (!plan || !infos) return no_memory(p);
    plan->fn = FN_INFO;
    plan->repeats_labels = true;
    plan->args[1] = infos;
    const struct node *arg = call->n_args > 1 ? strip_parens(call->args[1]) : NULL;
    if (arg) {
        ASSERT(arg->kind == NODE_SELECTOR);
        infos->node = arg;
        infos->matchers = NODE_AS(selector, arg)->matchers;
        infos->n_matchers = NODE_AS(selector, arg)->n_matchers;
    }
    info_window(p, call->args[0], infos);
    return build(p, call->args[0], grid, &plan->args[0]);
}

/* ---- operators ---- */

static enum err_code build_aggregate(struct planner *p, const struct node_aggregate *agg,
                                     const struct grid *grid, struct plan **out)
{
    struct plan *plan = *out = plan_new(p, PLAN_AGGREGATE, &agg->node, grid, agg->param ? 2 : 1);
    if (!plan) return no_memory(p);
    enum err_code rc = build(p, agg->expr, grid, &plan->args[0]);
    if (!rc && agg->param) rc = build(p, agg->param, grid, &plan->args[1]);
    if (rc) return rc;
    if (agg->param && plan->args[1]->kind == PLAN_STRING) plan->text = plan->args[1]->text;
    bool keeps_series = agg->op == AGG_TOPK || agg->op == AGG_BOTTOMK || agg->op == AGG_LIMITK ||
                        agg->op == AGG_LIMIT_RATIO;
    plan->repeats_labels = keeps_series && plan->args[0]->repeats_labels;
    return ERR_OK;
}

/* Both sides are known numbers. */
static enum err_code fold_binary(struct planner *p, const struct node_binary *bin,
                                 const struct grid *grid, double a, double b, struct plan **out)
{
    double v =
        op_is_comparison(bin->op) ? compare_float(bin->op, a, b) : binary_float(bin->op, a, b);
    return make_number(p, &bin->node, grid, v, out);
}

static enum err_code build_binary(struct planner *p, const struct node_binary *bin,
                                  const struct grid *grid, struct plan **out)
{
    struct plan *lhs, *rhs;
    enum err_code rc = build(p, bin->lhs, grid, &lhs);
    if (!rc) rc = build(p, bin->rhs, grid, &rhs);
    if (rc) return rc;
    bool scalars = lhs->type == VALUE_SCALAR && rhs->type == VALUE_SCALAR;
    if (scalars && (bin->op == OP_TRIM_UPPER || bin->op == OP_TRIM_LOWER))
        return err_set(p->err, ERR_EXECUTION, "operator \"%s\" not allowed for Scalar operations",
                       binary_op_text(bin->op));
    if (lhs->kind == PLAN_NUMBER && rhs->kind == PLAN_NUMBER)
        return fold_binary(p, bin, grid, lhs->number, rhs->number, out);
    size_t n_vectors = (lhs->type == VALUE_VECTOR) + (rhs->type == VALUE_VECTOR);
    enum plan_kind kind = n_vectors == 0       ? PLAN_SCALAR_BINARY
                          : n_vectors == 1     ? PLAN_VECTOR_SCALAR
                          : op_is_set(bin->op) ? PLAN_SET
                                               : PLAN_MATCH;
    struct plan *plan = *out = plan_new(p, kind, &bin->node, grid, 2);
    if (!plan) return no_memory(p);
    if (n_vectors == 0) plan->type = VALUE_SCALAR;
    plan->op = bin->op;
    plan->args[0] = lhs;
    plan->args[1] = rhs;
    plan->main_arg = lhs->type == VALUE_VECTOR ? 0 : 1;
    bool may_make = kind == PLAN_MATCH || (kind == PLAN_SET && bin->op == OP_OR);
    plan->repeats_labels =
        may_make || lhs->repeats_labels || (kind == PLAN_VECTOR_SCALAR && rhs->repeats_labels);
    return ERR_OK;
}

static enum err_code build_unary(struct planner *p, const struct node_unary *unary,
                                 const struct grid *grid, struct plan **out)
{
    struct plan *arg = NULL;
    enum err_code rc = build(p, unary->expr, grid, &arg);
    *out = arg;
    if (rc || !unary->negate) return rc;
    if (arg->kind == PLAN_NUMBER) return make_number(p, &unary->node, grid, -arg->number, out);
    bool scalar = arg->type == VALUE_SCALAR;
    struct plan *plan = *out =
        plan_new(p, scalar ? PLAN_SCALAR_NEGATE : PLAN_NEGATE, &unary->node, grid, 1);
    if (!plan) return no_memory(p);
    plan->type = arg->type;
    plan->args[0] = arg;
    plan->repeats_labels = arg->repeats_labels;
    return ERR_OK;
}

static enum err_code build_plain(struct planner *p, const struct node *node,
                                 const struct grid *grid, struct plan **out)
{
    switch (node->kind) {
    case NODE_NUMBER: return make_number(p, node, grid, NODE_AS(number, node)->value, out);
    case NODE_STRING:
        *out = plan_new(p, PLAN_STRING, node, grid, 0);
        if (!*out) return no_memory(p);
        (*out)->type = VALUE_STRING;
        (*out)->text = NODE_AS(string, node)->value;
        return ERR_OK;
    case NODE_SELECTOR: return build_selector(p, NODE_AS(selector, node), grid, FN_N, out);
    case NODE_MATRIX: return build_matrix(p, NODE_AS(matrix, node), grid, out);
    case NODE_SUBQUERY: return build_subquery(p, NODE_AS(subquery, node), grid, out);
    case NODE_CALL:
        if (NODE_AS(call, node)->func->id == FN_INFO)
            return build_info(p, NODE_AS(call, node), grid, out);
        return build_call(p, NODE_AS(call, node), grid, out);
    case NODE_AGGREGATE: return build_aggregate(p, NODE_AS(aggregate, node), grid, out);
    case NODE_BINARY: return build_binary(p, NODE_AS(binary, node), grid, out);
    case NODE_UNARY: return build_unary(p, NODE_AS(unary, node), grid, out);
    case NODE_PAREN: return build(p, NODE_AS(paren, node)->expr, grid, out);
    case NODE_STEP_INVARIANT: return build(p, NODE_AS(step_invariant, node)->expr, grid, out);
    }
    ASSERT(false);
    return ERR_OK;
}

/* Evaluates once what is the same at every step. Range vectors have windows of their own and need no help. */
static enum err_code build(struct planner *p, const struct node *node, const struct grid *grid,
                           struct plan **out)
{
    bool once = grid->n > 1 && node->type != VALUE_MATRIX && node->type != VALUE_STRING &&
                node->kind != NODE_NUMBER && node_is_step_invariant(node);
    if (!once) return build_plain(p, node, grid, out);
    struct grid first = {grid->start_ms, grid->step_ms, 1};
    struct plan *arg;
    enum err_code rc = build_plain(p, node, &first, &arg);
    if (rc) return rc;
    struct plan *plan = *out = plan_new(p, PLAN_REPEAT, node, grid, 1);
    if (!plan) return no_memory(p);
    plan->type = arg->type;
    plan->args[0] = arg;
    plan->repeats_labels = arg->repeats_labels;
    if (arg->kind == PLAN_NUMBER) return make_number(p, node, grid, arg->number, out);
    return ERR_OK;
}

enum err_code plan_make(const struct plan_context *ctx, struct node *root, struct plan **out,
                        struct err *err)
{
    int64_t range_ms = ctx->end_ms - ctx->start_ms;
    enum err_code rc =
        durations_resolve(root, (struct duration_times){ctx->step_ms, range_ms}, err);
    if (rc) return rc;
    struct planner p = {.ctx = ctx, .err = err};
    size_t n = ctx->step_ms > 0 ? (size_t)(range_ms / ctx->step_ms) + 1 : 1;
    struct grid grid = {ctx->start_ms, ctx->step_ms, n};
    return build(&p, root, &grid, out);
}
