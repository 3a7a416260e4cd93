/* query/eval_scalar.c: scalars, as one column over the steps. There is a value at every step. */
#include <math.h>

#include "query/eval_op.h"
#include "query/explain.h"

static double *column_new(struct eval *eval, size_t n)
{
    return EVAL_ARRAY(eval, double, MAX_OF(n, (size_t)1));
}

static enum err_code fill_known(const struct plan *plan, double *out)
{
    for (size_t s = 0; s < plan->grid.n; s++)
        out[s] =
            plan->kind == PLAN_NUMBER ? plan->number : (double)grid_time(&plan->grid, s) / 1000;
    return ERR_OK;
}

/* scalar(v): the value where exactly one series has a float, else NaN. */
static enum err_code fill_scalar_of(struct eval *eval, const struct plan *plan, double *out,
                                    struct err *err)
{
    size_t n = plan->grid.n;
    uint8_t *n_found = EVAL_ARRAY(eval, uint8_t, MAX_OF(n, (size_t)1));
    struct op *arg;
    if (!n_found) return eval_no_memory(eval, err);
    enum err_code rc = op_open(eval, plan->args[0], &arg, err);
    if (rc) return rc;
    for (size_t s = 0; s < n; s++) out[s] = NAN;
    uint64_t held_before = eval->samples_held;
    for (;;) {
        struct eval_batch batch;
        rc = op_next(arg, &batch, err);
        if (rc) return rc;
        if (!batch.n) break;
        for (size_t i = 0; i < batch.n; i++) {
            const struct eval_series *in = &batch.items[i];
            BITMAP_EACH(s, in->present, n)
            {
                if (in->h && in->h[s]) continue;
                out[s] = n_found[s] ? NAN : in->v[s];
                n_found[s] = 1;
            }
        }
    }
    eval_let_go(eval, held_before, 0);
    return ERR_OK;
}

static double extreme_of(enum function_id fn, double a, double b)
{
    /* Go's Max and Min: an infinity of the right sign wins over NaN, else NaN is contagious. */
    double winner = fn == FN_MAX_OF ? INFINITY : -INFINITY;
    if (a == winner || b == winner) return winner;
    if (isnan(a) || isnan(b)) return NAN;
    if (a == 0 && b == 0) return (fn == FN_MAX_OF) == (signbit(a) != 0) ? b : a;
    return fn == FN_MAX_OF ? (a > b ? a : b) : (a < b ? a : b);
}

static enum err_code fill_pair(struct eval *eval, const struct plan *plan, double *out,
                               struct err *err)
{
    const double *a, *b;
    enum err_code rc = eval_scalar(eval, plan->args[0], &a, err);
    if (!rc) rc = eval_scalar(eval, plan->args[1], &b, err);
    if (rc) return rc;
    for (size_t s = 0; s < plan->grid.n; s++) {
        if (plan->kind == PLAN_SCALAR_EXTREME)
            out[s] = extreme_of(plan->fn, a[s], b[s]);
        else if (op_is_comparison(plan->op))
            out[s] = compare_float(plan->op, a[s], b[s]);
        else
            out[s] = binary_float(plan->op, a[s], b[s]);
    }
    return ERR_OK;
}

static enum err_code fill_from_arg(struct eval *eval, const struct plan *plan, double *out,
                                   struct err *err)
{
    const double *arg;
    enum err_code rc = eval_scalar(eval, plan->args[0], &arg, err);
    if (rc) return rc;
    for (size_t s = 0; s < plan->grid.n; s++) out[s] = plan->kind == PLAN_REPEAT ? arg[0] : -arg[s];
    return ERR_OK;
}

static enum err_code fill(struct eval *eval, const struct plan *plan, double *column,
                          struct err *err)
{
    switch (plan->kind) {
    case PLAN_NUMBER:
    case PLAN_TIME: return fill_known(plan, column);
    case PLAN_SCALAR_OF: return fill_scalar_of(eval, plan, column, err);
    case PLAN_SCALAR_BINARY:
    case PLAN_SCALAR_EXTREME: return fill_pair(eval, plan, column, err);
    case PLAN_SCALAR_NEGATE:
    case PLAN_REPEAT: return fill_from_arg(eval, plan, column, err);
    default: break;
    }
    ASSERT(false);
    return ERR_OK;
}

enum err_code eval_scalar(struct eval *eval, const struct plan *plan, const double **out,
                          struct err *err)
{
    ASSERT(plan->type == VALUE_SCALAR);
    double *column = column_new(eval, plan->grid.n);
    if (!column) return eval_no_memory(eval, err);
    *out = column;
    if (LIKELY(!plan->stats)) return fill(eval, plan, column, err);
    struct explain_mark since = explain_begin(eval);
    enum err_code rc = fill(eval, plan, column, err);
    explain_add(eval, plan, since);
    return rc;
}

enum err_code eval_scalar_args(struct eval *eval, const struct plan *plan, struct scalar_args *out,
                               struct err *err)
{
    *out = (struct scalar_args){.pos_first = plan->node->pos};
    for (size_t i = 0; i < plan->n_args; i++) {
        const struct plan *arg = plan->args[i];
        if (arg->type != VALUE_SCALAR) continue;
        ASSERT(out->n < COUNT_OF(out->columns));
        out->pos[out->n] = arg->node->pos;
        if (!out->n) out->pos_first = arg->node->pos;
        enum err_code rc = eval_scalar(eval, arg, &out->columns[out->n++], err);
        if (rc) return rc;
    }
    return ERR_OK;
}
