/* query/eval_subquery.c: range functions over subqueries: the inner expression runs once over its whole grid, each
 * of its series then is a column of samples. */
#include "query/eval_op.h"

struct op_subquery {
    struct op op;
    struct op *inner;
    const struct grid *inner_grid;
    struct window_job job;
    struct eval_workers workers;
    struct eval_batch batch; /* of the inner operator */
    struct eval_series *items;
    struct notes *notes;
    uint64_t *n_looked_at;
    size_t cap;
};

/* Only gauges say so after a subquery: what came before a point there was not its neighbour when it was stored. */
static struct histogram *forget_reset(struct arena *arena, struct histogram *h)
{
    if (h->reset_hint != HISTOGRAM_RESET_YES && h->reset_hint != HISTOGRAM_RESET_NO) return h;
    struct histogram *copy = ARENA_NEW(arena, struct histogram);
    if (!copy) return NULL;
    *copy = *h;
    copy->reset_hint = HISTOGRAM_RESET_UNKNOWN;
    return copy;
}

enum err_code subquery_samples(const struct eval_series *in, const struct grid *grid,
                               struct eval_scratch *scratch, struct err *err)
{
    struct samples *out = &scratch->samples;
    struct arena *arena = &scratch->series_arena;
    eval_scratch_begin_series(scratch);
    enum err_code rc = samples_reserve(out, bitmap_count(in->present, grid->n), err);
    if (rc) return rc;
    BITMAP_EACH(s, in->present, grid->n)
    {
        struct histogram *h = in->h ? in->h[s] : NULL;
        if (h) {
            h = forget_reset(arena, h);
            if (!h) return arena_fail(arena, err);
        }
        rc = samples_push(out, grid_time(grid, s), h ? h->sum : in->v[s], h, err);
        if (rc) return rc;
    }
    return ERR_OK;
}

static enum err_code subquery_series(struct op_subquery *sub, struct eval_scratch *scratch,
                                     size_t slot, struct err *err)
{
    const struct eval_series *in = &sub->batch.items[slot];
    struct eval_series *out = &sub->items[slot];
    *out = (struct eval_series){.labels = in->labels,
                                .drop_name = in->drop_name || sub->job.drops_name};
    notes_init(&sub->notes[slot], &scratch->arena);
    enum err_code rc = subquery_samples(in, sub->inner_grid, scratch, err);
    if (rc) return rc;
    return window_evaluate(&sub->job, scratch, in->labels, &sub->notes[slot], out,
                           &sub->n_looked_at[slot], err);
}

static void subquery_work(void *ctx, size_t worker, size_t slot)
{
    struct op_subquery *sub = ctx;
    struct eval_scratch *scratch = sub->workers.items[worker];
    struct err err;
    if (subquery_series(sub, scratch, slot, &err) && slot < scratch->err_slot) {
        scratch->err = err;
        scratch->err_slot = slot;
    }
}

static enum err_code subquery_reserve(struct op_subquery *sub, size_t n, struct err *err)
{
    if (n <= sub->cap) return ERR_OK;
    struct eval *eval = sub->op.eval;
    sub->items = EVAL_ARRAY(eval, struct eval_series, n);
    sub->notes = EVAL_ARRAY(eval, struct notes, n);
    sub->n_looked_at = EVAL_ARRAY(eval, uint64_t, n);
    sub->cap = n;
    return sub->items && sub->notes && sub->n_looked_at ? ERR_OK : eval_no_memory(eval, err);
}

static enum err_code subquery_next(struct op *op, struct eval_batch *out, struct err *err)
{
    struct op_subquery *sub = CONTAINER_OF(op, struct op_subquery, op);
    do {
        enum err_code rc = op_next(sub->inner, &sub->batch, err);
        size_t n = sub->batch.n;
        *out = (struct eval_batch){NULL, 0};
        if (rc || !n) return rc;
        rc = subquery_reserve(sub, n, err);
        if (!rc) rc = eval_poll(op->eval, err);
        if (rc) return rc;
        eval_workers_reset(op->eval, &sub->workers);
        eval_for(op->eval, n, subquery_work, sub);
        rc = eval_workers_error(&sub->workers, err);
        if (rc) return rc;
        for (size_t i = 0; i < n; i++) {
            notes_merge(&op->eval->notes, &sub->notes[i]);
            op->eval->stats.samples += sub->n_looked_at[i];
        }
        *out = (struct eval_batch){sub->items, n};
        batch_compact(out, op->n_steps);
    } while (!out->n);
    return ERR_OK;
}

static const struct op_class SUBQUERY = {subquery_next};

enum err_code op_open_subquery_range(struct eval *eval, const struct plan *plan, struct op **out,
                                     struct err *err)
{
    struct op_subquery *sub = EVAL_NEW(eval, struct op_subquery);
    if (!sub) return eval_no_memory(eval, err);
    op_init(&sub->op, &SUBQUERY, eval, plan);
    const struct plan *range = plan->args[plan->main_arg];
    sub->inner_grid = &range->args[0]->grid;
    *out = &sub->op;
    enum err_code rc = window_job_init(eval, plan, &sub->job, err);
    if (!rc) rc = eval_workers_new(eval, &sub->workers, err);
    return rc ? rc : op_open(eval, range->args[0], &sub->inner, err);
}
