/* query/binary_scalar.c: a vector and a scalar: each series by itself, in place. */
#include "query/binary.h"

struct op_vector_scalar {
    struct op op;
    struct op *vector;
    const double *scalar;
    bool vector_left, return_bool;
    struct eval_workers workers; /* histograms of a batch */
};

/* A filter keeps the vector's element whichever side it stands on. */
static enum err_code mixed_series(struct op_vector_scalar *vs, struct eval_series *s,
                                  struct err *err)
{
    const struct plan *plan = vs->op.plan;
    struct pair_job job = {.op = plan->op,
                           .return_bool = vs->return_bool,
                           .pos = plan->node->pos,
                           .notes = &vs->op.eval->notes,
                           .arena = &vs->workers.items[0]->arena};
    bool filter = op_is_comparison(plan->op) && !vs->return_bool;
    BITMAP_EACH(step, s->present, vs->op.n_steps)
    {
        struct point element = series_point(s, step), out;
        struct point scalar = {.kind = POINT_FLOAT, .v = vs->scalar[step]};
        enum err_code rc = vs->vector_left ? pair_evaluate(&job, &element, &scalar, &out, err)
                                           : pair_evaluate(&job, &scalar, &element, &out, err);
        if (rc) return rc;
        if (out.kind == POINT_NONE)
            series_remove(s, step);
        else if (!filter)
            series_set(s, step, out.v, out.kind == POINT_HISTOGRAM ? out.h : NULL);
    }
    return ERR_OK;
}

static void float_series(struct op_vector_scalar *vs, struct eval_series *s)
{
    enum binary_op op = vs->op.plan->op;
    size_t n = vs->op.n_steps;
    const double *a = vs->vector_left ? s->v : vs->scalar;
    const double *b = vs->vector_left ? vs->scalar : s->v;
    if (!op_is_comparison(op)) {
        column_arithmetic(op, s->present, n, a, b, s->v);
    } else if (!vs->return_bool) {
        column_compare(op, s->present, n, a, b, s->present);
    } else {
        BITMAP_EACH(step, s->present, n) s->v[step] = compare_float(op, a[step], b[step]);
    }
}

static enum err_code vector_scalar_next(struct op *op, struct eval_batch *out, struct err *err)
{
    struct op_vector_scalar *vs = CONTAINER_OF(op, struct op_vector_scalar, op);
    bool trims = op->plan->op == OP_TRIM_UPPER || op->plan->op == OP_TRIM_LOWER;
    do {
        enum err_code rc = op_next(vs->vector, out, err);
        if (rc || !out->n) return rc;
        eval_workers_reset(op->eval, &vs->workers);
        for (size_t i = 0; i < out->n; i++) {
            struct eval_series *s = &out->items[i];
            if (op_drops_name(op->plan->op, vs->return_bool)) s->drop_name = true;
            if (s->h || trims)
                rc = mixed_series(vs, s, err);
            else
                float_series(vs, s);
            if (rc) return rc;
        }
        batch_compact(out, op->n_steps);
    } while (!out->n);
    return ERR_OK;
}

static const struct op_class VECTOR_SCALAR = {vector_scalar_next};

enum err_code op_open_vector_scalar(struct eval *eval, const struct plan *plan, struct op **out,
                                    struct err *err)
{
    struct op_vector_scalar *vs = EVAL_NEW(eval, struct op_vector_scalar);
    if (!vs) return eval_no_memory(eval, err);
    op_init(&vs->op, &VECTOR_SCALAR, eval, plan);
    *out = &vs->op;
    vs->vector_left = plan->main_arg == 0;
    vs->return_bool = NODE_AS(binary, plan->node)->return_bool;
    enum err_code rc = eval_scalar(eval, plan->args[!plan->main_arg], &vs->scalar, err);
    if (!rc) rc = eval_workers_new(eval, &vs->workers, err);
    return rc ? rc : op_open(eval, plan->args[plan->main_arg], &vs->vector, err);
}
