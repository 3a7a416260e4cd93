/* query/eval_element.c: operators that change each series by itself, in place: element functions and unary minus;
 * a step-invariant vector repeated at every step; series of equal labels made one. */
#include "query/eval_op.h"

#include "query/eval_labels.h"

/* ---- element functions ---- */

struct op_element {
    struct op op;
    struct op *arg;
    struct scalar_args args;
};

static bool takes_histograms(enum function_id fn)
{
    return fn >= FN_HISTOGRAM_COUNT && fn <= FN_HISTOGRAM_STDVAR;
}

/* The value at one step; false: none. */
static bool element_at(const struct op_element *el, const struct eval_series *s, size_t step,
                       double *args, double *out)
{
    enum function_id fn = el->op.plan->fn;
    const struct histogram *h = s->h ? s->h[step] : NULL;
    if (fn == FN_TIMESTAMP) {
        *out = (double)grid_time(&el->op.plan->grid, step) / 1000;
        return true;
    }
    if (takes_histograms(fn) != (h != NULL)) return false;
    if (h) {
        *out = histogram_extract(fn, h);
        return true;
    }
    scalar_args_at(&el->args, step, args);
    return element_function(fn, s->v[step], args, el->args.n, out);
}

static void element_series(const struct op_element *el, struct eval_series *s)
{
    double args[COUNT_OF(el->args.columns)];
    BITMAP_EACH(step, s->present, el->op.n_steps)
    {
        double v;
        if (element_at(el, s, step, args, &v))
            s->v[step] = v;
        else
            series_remove(s, step);
    }
    s->h = NULL;
    s->drop_name = true;
}

static enum err_code element_next(struct op *op, struct eval_batch *out, struct err *err)
{
    struct op_element *el = CONTAINER_OF(op, struct op_element, op);
    do {
        enum err_code rc = op_next(el->arg, out, err);
        if (rc || !out->n) return rc;
        for (size_t i = 0; i < out->n; i++) element_series(el, &out->items[i]);
        batch_compact(out, op->n_steps);
    } while (!out->n);
    return ERR_OK;
}

static const struct op_class ELEMENT = {element_next};

/* start_timestamp() of what is not a selector has no samples to ask. */
static enum err_code nothing_next(struct op *op, struct eval_batch *out, struct err *err)
{
    (void)op;
    (void)err;
    *out = (struct eval_batch){NULL, 0};
    return ERR_OK;
}
static const struct op_class NOTHING = {nothing_next};

enum err_code op_open_element(struct eval *eval, const struct plan *plan, struct op **out,
                              struct err *err)
{
    struct op_element *el = EVAL_NEW(eval, struct op_element);
    if (!el) return eval_no_memory(eval, err);
    op_init(&el->op, plan->fn == FN_START_TIMESTAMP ? &NOTHING : &ELEMENT, eval, plan);
    *out = &el->op;
    enum err_code rc = eval_scalar_args(eval, plan, &el->args, err);
    return rc ? rc : op_open(eval, plan->args[plan->main_arg], &el->arg, err);
}

/* ---- unary minus ---- */

struct op_negate {
    struct op op;
    struct op *arg;
    struct eval_workers workers; /* histograms of a batch */
};

static enum err_code negate_series(struct op_negate *neg, struct eval_series *s, struct err *err)
{
    s->drop_name = true;
    BITMAP_EACH(step, s->present, neg->op.n_steps)
    {
        if (!s->h || !s->h[step]) {
            s->v[step] = -s->v[step];
            continue;
        }
        enum err_code rc =
            histogram_scale(&neg->workers.items[0]->arena, s->h[step], -1, false, &s->h[step], err);
        if (rc) return rc;
    }
    return ERR_OK;
}

static enum err_code negate_next(struct op *op, struct eval_batch *out, struct err *err)
{
    struct op_negate *neg = CONTAINER_OF(op, struct op_negate, op);
    enum err_code rc = op_next(neg->arg, out, err);
    if (rc || !out->n) return rc;
    eval_workers_reset(op->eval, &neg->workers);
    for (size_t i = 0; i < out->n && !rc; i++) rc = negate_series(neg, &out->items[i], err);
    return rc;
}

static const struct op_class NEGATE = {negate_next};

enum err_code op_open_negate(struct eval *eval, const struct plan *plan, struct op **out,
                             struct err *err)
{
    struct op_negate *neg = EVAL_NEW(eval, struct op_negate);
    if (!neg) return eval_no_memory(eval, err);
    op_init(&neg->op, &NEGATE, eval, plan);
    *out = &neg->op;
    enum err_code rc = eval_workers_new(eval, &neg->workers, err);
    return rc ? rc : op_open(eval, plan->args[0], &neg->arg, err);
}

/* ---- the same at every step ---- */

struct op_repeat {
    struct op op;
    struct op *arg;
    struct eval_workers workers;
    struct eval_batch batch; /* of the argument: one step */
    size_t next;
    struct eval_series *items;
    size_t batch_max;
};

static enum err_code repeat_series(struct op_repeat *rep, const struct eval_series *in,
                                   struct eval_series *out, struct err *err)
{
    struct arena *arena = &rep->workers.items[0]->arena;
    size_t n = rep->op.n_steps;
    *out = (struct eval_series){.labels = in->labels, .drop_name = in->drop_name};
    if (!series_alloc(arena, n, out)) return arena_fail(arena, err);
    bitmap_fill(out->present, n);
    for (size_t s = 0; s < n; s++) out->v[s] = in->v[0];
    if (!in->h || !in->h[0]) return ERR_OK;
    if (!series_want_histograms(arena, n, out)) return arena_fail(arena, err);
    for (size_t s = 0; s < n; s++) out->h[s] = in->h[0];
    return ERR_OK;
}

static enum err_code repeat_next(struct op *op, struct eval_batch *out, struct err *err)
{
    struct op_repeat *rep = CONTAINER_OF(op, struct op_repeat, op);
    *out = (struct eval_batch){rep->items, 0};
    if (rep->next == rep->batch.n) {
        enum err_code rc = op_next(rep->arg, &rep->batch, err);
        if (rc || !rep->batch.n) return rc;
        rep->next = 0;
    }
    enum err_code rc = eval_poll(op->eval, err);
    eval_workers_reset(op->eval, &rep->workers);
    while (!rc && rep->next < rep->batch.n && out->n < rep->batch_max)
        rc = repeat_series(rep, &rep->batch.items[rep->next++], &rep->items[out->n++], err);
    return rc;
}

static const struct op_class REPEAT = {repeat_next};

enum err_code op_open_repeat(struct eval *eval, const struct plan *plan, struct op **out,
                             struct err *err)
{
    struct op_repeat *rep = EVAL_NEW(eval, struct op_repeat);
    if (!rep) return eval_no_memory(eval, err);
    op_init(&rep->op, &REPEAT, eval, plan);
    *out = &rep->op;
    rep->batch_max = eval_batch_series(eval, plan->grid.n);
    rep->items = EVAL_ARRAY(eval, struct eval_series, rep->batch_max);
    if (!rep->items) return eval_no_memory(eval, err);
    enum err_code rc = eval_workers_new(eval, &rep->workers, err);
    return rc ? rc : op_open(eval, plan->args[0], &rep->arg, err);
}

/* ---- series with equal labels, in one ---- */

struct op_unique {
    struct op op;
    struct op *arg;
    struct series_list list;
    bool done;
};

static enum err_code unique_merge(struct eval *eval, struct eval_series *into,
                                  const struct eval_series *from, size_t n_steps, struct err *err)
{
    if (from->h && !series_want_histograms(eval->arena, n_steps, into))
        return eval_no_memory(eval, err);
    BITMAP_EACH(s, from->present, n_steps)
    {
        if (bitmap_get(into->present, s)) return eval_same_labelset(err);
        series_set(into, s, from->v[s], from->h ? from->h[s] : NULL);
    }
    return ERR_OK;
}

enum err_code series_list_unique(struct eval *eval, struct series_list *list, size_t n_steps,
                                 struct err *err)
{
    struct key_table table;
    key_table_init(&table, eval);
    size_t n = 0;
    enum err_code rc = ERR_OK;
    for (size_t i = 0; i < list->n && !rc; i++) {
        uint32_t id;
        bool added;
        rc = key_table_labels(&table, list->items[i].labels, &id, &added, err);
        if (rc) break;
        if (added)
            list->items[n++] = list->items[i];
        else
            rc = unique_merge(eval, &list->items[id], &list->items[i], n_steps, err);
    }
    list->n = n;
    return rc;
}

static enum err_code unique_next(struct op *op, struct eval_batch *out, struct err *err)
{
    struct op_unique *unique = CONTAINER_OF(op, struct op_unique, op);
    *out = (struct eval_batch){NULL, 0};
    if (unique->done) return ERR_OK;
    unique->done = true;
    enum err_code rc = op_drain(unique->arg, &unique->list, err);
    if (!rc) rc = series_list_unique(op->eval, &unique->list, op->n_steps, err);
    *out = (struct eval_batch){unique->list.items, unique->list.n};
    return rc;
}

static const struct op_class UNIQUE = {unique_next};

enum err_code op_open_unique(struct eval *eval, const struct plan *plan, struct op **out,
                             struct err *err)
{
    struct op_unique *unique = EVAL_NEW(eval, struct op_unique);
    if (!unique) return eval_no_memory(eval, err);
    op_init(&unique->op, &UNIQUE, eval, plan);
    *out = &unique->op;
    return op_open(eval, plan->args[0], &unique->arg, err);
}
