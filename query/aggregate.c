/* query/aggregate.c: the operator around all aggregations: groups, in the order of first appearance. */
#include "query/aggregate.h"
#include "query/explain.h"

static enum err_code find_group(struct op_aggregate *agg, struct labels labels, uint32_t *id,
                                bool *added, struct err *err)
{
    struct eval *eval = agg->op.eval;
    key_begin(&agg->keys);
    key_put_filtered(&agg->keys, labels, &agg->filter);
    enum err_code rc = key_add(&agg->keys, id, added, err);
    if (rc || *id < agg->groups_cap) return rc;
    size_t cap = MAX_OF(agg->groups_cap * 2, (size_t)16);
    struct agg_group *groups = EVAL_ARRAY(eval, struct agg_group, cap);
    if (!groups) return eval_no_memory(eval, err);
    if (agg->groups_cap) memcpy(groups, agg->groups, agg->groups_cap * sizeof(*groups));
    agg->groups = groups;
    agg->groups_cap = cap;
    return ERR_OK;
}

static enum err_code group_of(struct op_aggregate *agg, struct labels labels, bool copy,
                              const struct eval_series *s, struct agg_group **out, struct err *err)
{
    uint32_t id;
    bool added;
    enum err_code rc = find_group(agg, labels, &id, &added, err);
    if (rc) return rc;
    struct agg_group *group = *out = &agg->groups[id];
    /* `by (__name__)` over names that are to go. */
    group->drop_name |= s->drop_name;
    if (!added) return ERR_OK;
    rc = labels_filter(agg->op.eval, labels, &agg->filter, &group->labels, err);
    if (!rc && copy) rc = labels_copy(agg->op.eval->arena, group->labels, &group->labels, err);
    if (!rc && agg->class->group_init) rc = agg->class->group_init(agg, group, err);
    return rc;
}

enum err_code agg_group_of(struct op_aggregate *agg, const struct eval_series *s,
                           struct agg_group **out, struct err *err)
{
    return group_of(agg, s->labels, false, s, out, err);
}

enum err_code agg_group_of_labels(struct op_aggregate *agg, struct labels labels,
                                  const struct eval_series *s, struct agg_group **out,
                                  struct err *err)
{
    return group_of(agg, labels, true, s, out, err);
}

enum err_code agg_push_result(struct op_aggregate *agg, const struct agg_group *group,
                              uint64_t *present, double *v, struct histogram **h, struct err *err)
{
    struct eval_series s = {
        .labels = group->labels, .drop_name = group->drop_name, .present = present, .v = v, .h = h};
    return series_list_push(agg->op.eval, &agg->out, &s, err);
}

void agg_note_ignored(struct op_aggregate *agg)
{
    enum aggregate_op op = agg->node->op;
    bool whole = op == AGG_TOPK || op == AGG_BOTTOMK;
    uint32_t pos = whole ? agg->node->node.pos : agg->node->expr->pos;
    notes_add(&agg->op.eval->notes, NOTE_INFO, pos, "ignored histogram in %s aggregation",
              aggregate_op_name(op));
}

void agg_ignore_histograms(struct op_aggregate *agg, struct eval_series *s)
{
    if (!s->h) return;
    bool ignored = false;
    BITMAP_EACH(step, s->present, agg->op.n_steps)
    {
        if (!s->h[step]) continue;
        series_remove(s, step);
        ignored = true;
    }
    s->h = NULL;
    if (ignored) agg_note_ignored(agg);
}

/* ---- bare series ---- */

/* Labels are asked for once a group. */
static enum err_code group_of_bare(struct op_aggregate *agg, struct eval_series *s,
                                   struct agg_group **out, struct err *err)
{
    uint32_t *known = &agg->known_groups[agg->source_groups[s->number]];
    enum err_code rc = ERR_OK;
    /* Notes on histograms name the series. */
    if (s->h || *known == KEY_NONE) rc = bare_labels(agg->leaf, s->number, &s->labels, err);
    if (rc) return rc;
    if (*known == KEY_NONE) {
        rc = agg_group_of(agg, s, out, err);
        if (!rc) *known = (uint32_t)(*out - agg->groups);
        return rc;
    }
    *out = &agg->groups[*known];
    (*out)->drop_name |= s->drop_name;
    return ERR_OK;
}

/* Aggregations whose results have the labels of groups alone. */
static bool takes_bare(const struct agg_class *class)
{
    return class == &AGG_CLASS_SUM || class == &AGG_CLASS_AVG || class == &AGG_CLASS_EXTREME ||
           class == &AGG_CLASS_COUNT || class == &AGG_CLASS_GROUP || class == &AGG_CLASS_STDDEV ||
           class == &AGG_CLASS_QUANTILE;
}

static enum err_code open_arg(struct op_aggregate *agg, const struct plan *plan, struct err *err)
{
    struct eval *eval = agg->op.eval;
    struct label_names names = {agg->filter.names, agg->filter.n, agg->filter.only};
    size_t n = 0;
    bool no_values = agg->class == &AGG_CLASS_COUNT || agg->class == &AGG_CLASS_GROUP;
    struct explain_mark since = explain_begin(eval);
    enum err_code rc = ERR_OK;
    if (takes_bare(agg->class))
        rc = op_open_bare(eval, plan, &names, no_values, &agg->leaf, &agg->source_groups, &n, err);
    if (rc || !agg->leaf) return rc ? rc : op_open(eval, plan, &agg->arg, err);
    agg->arg = agg->leaf;
    if (plan->stats) rc = explain_wrap(eval, plan, since, &agg->arg, err);
    if (rc) return rc;
    size_t n_groups = 0;
    for (size_t i = 0; i < n; i++) n_groups = MAX_OF(n_groups, (size_t)agg->source_groups[i] + 1);
    agg->known_groups = EVAL_ARRAY(eval, uint32_t, n_groups);
    if (!agg->known_groups) return eval_no_memory(eval, err);
    memset(agg->known_groups, 0xFF, n_groups * sizeof(*agg->known_groups)); /* KEY_NONE */
    return ERR_OK;
}

/* ---- the operator ---- */

static enum err_code add_batch(struct op_aggregate *agg, struct eval_batch *batch, struct err *err)
{
    for (size_t i = 0; i < batch->n; i++) {
        struct agg_group *group = NULL;
        enum err_code rc = ERR_OK;
        /* count_values groups by value, too. */
        if (agg->source_groups)
            rc = group_of_bare(agg, &batch->items[i], &group, err);
        else if (agg->class != &AGG_CLASS_COUNT_VALUES)
            rc = agg_group_of(agg, &batch->items[i], &group, err);
        if (!rc) rc = agg->class->add(agg, group, &batch->items[i], err);
        /* Some aggregations do much for each step. */
        if (!rc && i % 16 == 15) rc = eval_poll(agg->op.eval, err);
        if (rc) return rc;
    }
    return ERR_OK;
}

static bool streams(const struct agg_class *class)
{
    return !class->finish && !class->finish_all;
}

static enum err_code stream_next(struct op_aggregate *agg, struct eval_batch *out, struct err *err)
{
    do {
        enum err_code rc = op_next(agg->arg, out, err);
        if (rc || !out->n) return rc;
        rc = add_batch(agg, out, err);
        if (rc) return rc;
        batch_compact(out, agg->op.n_steps);
    } while (!out->n);
    return ERR_OK;
}

static enum err_code take_in_all(struct op_aggregate *agg, struct err *err)
{
    for (;;) {
        struct eval_batch batch;
        enum err_code rc = op_next(agg->arg, &batch, err);
        if (rc || !batch.n) return rc;
        rc = add_batch(agg, &batch, err);
        if (!rc) rc = eval_poll(agg->op.eval, err);
        if (rc) return rc;
    }
}

static enum err_code drop_all(struct op_aggregate *agg, struct err *err)
{
    for (;;) {
        struct eval_batch batch;
        enum err_code rc = op_next(agg->arg, &batch, err);
        if (!rc && batch.n) rc = eval_poll(agg->op.eval, err);
        if (rc || !batch.n) return rc;
    }
}

static enum err_code finish(struct op_aggregate *agg, struct err *err)
{
    if (agg->class->finish_all) return agg->class->finish_all(agg, err);
    enum err_code rc = ERR_OK;
    for (size_t g = 0; g < agg->keys.n && !rc; g++)
        rc = agg->class->finish(agg, &agg->groups[g], err);
    return rc;
}

static enum err_code aggregate_next(struct op *op, struct eval_batch *out, struct err *err)
{
    struct op_aggregate *agg = CONTAINER_OF(op, struct op_aggregate, op);
    *out = (struct eval_batch){NULL, 0};
    enum err_code rc = ERR_OK;
    if (!agg->started && agg->class->start) {
        rc = agg->class->start(agg, &agg->done, err);
        if (!rc && agg->done) rc = drop_all(agg, err);
    }
    agg->started = true;
    if (rc || agg->done) return rc;
    if (streams(agg->class)) return stream_next(agg, out, err);
    agg->done = true;
    uint64_t held_before = op->eval->samples_held, n_kept = 0;
    rc = take_in_all(agg, err);
    if (!rc) rc = finish(agg, err);
    *out = (struct eval_batch){agg->out.items, agg->out.n};
    batch_compact(out, op->n_steps);
    for (size_t i = 0; i < out->n; i++) n_kept += bitmap_count(out->items[i].present, op->n_steps);
    eval_let_go(op->eval, held_before, n_kept);
    return rc;
}

static const struct op_class AGGREGATE = {aggregate_next};

static const struct agg_class *const CLASSES[] = {
    [AGG_SUM] = &AGG_CLASS_SUM,
    [AGG_AVG] = &AGG_CLASS_AVG,
    [AGG_COUNT] = &AGG_CLASS_COUNT,
    [AGG_MIN] = &AGG_CLASS_EXTREME,
    [AGG_MAX] = &AGG_CLASS_EXTREME,
    [AGG_GROUP] = &AGG_CLASS_GROUP,
    [AGG_STDDEV] = &AGG_CLASS_STDDEV,
    [AGG_STDVAR] = &AGG_CLASS_STDDEV,
    [AGG_TOPK] = &AGG_CLASS_TOPK,
    [AGG_BOTTOMK] = &AGG_CLASS_TOPK,
    [AGG_COUNT_VALUES] = &AGG_CLASS_COUNT_VALUES,
    [AGG_QUANTILE] = &AGG_CLASS_QUANTILE,
    [AGG_LIMITK] = &AGG_CLASS_LIMITK,
    [AGG_LIMIT_RATIO] = &AGG_CLASS_LIMIT_RATIO,
};

/* `by` gets the value's label appended. */
static enum err_code count_values_filter(struct op_aggregate *agg, struct str label,
                                         struct err *err)
{
    struct eval *eval = agg->op.eval;
    struct str_list grouping = agg->node->grouping;
    if (agg->node->without) return label_filter_init(eval, grouping, false, &agg->filter, err);
    struct str *names = EVAL_ARRAY(eval, struct str, grouping.n + 1);
    if (!names) return eval_no_memory(eval, err);
    if (grouping.n) memcpy(names, grouping.items, grouping.n * sizeof(*names));
    names[grouping.n] = label;
    struct str_list with_label = {names, grouping.n + 1};
    return label_filter_init(eval, with_label, true, &agg->filter, err);
}

enum err_code op_open_aggregate(struct eval *eval, const struct plan *plan, struct op **out,
                                struct err *err)
{
    struct op_aggregate *agg = EVAL_NEW(eval, struct op_aggregate);
    if (!agg) return eval_no_memory(eval, err);
    op_init(&agg->op, &AGGREGATE, eval, plan);
    *out = &agg->op;
    agg->node = NODE_AS(aggregate, plan->node);
    agg->class = CLASSES[agg->node->op];
    key_table_init(&agg->keys, eval);
    enum err_code rc = ERR_OK;
    if (agg->class == &AGG_CLASS_COUNT_VALUES)
        rc = count_values_filter(agg, plan->text, err);
    else
        rc = label_filter_init(eval, agg->node->grouping, !agg->node->without, &agg->filter, err);
    bool scalar_param = plan->n_args > 1 && plan->args[1]->type == VALUE_SCALAR;
    if (!rc && scalar_param) rc = eval_scalar(eval, plan->args[1], &agg->param, err);
    if (!rc) rc = eval_workers_new(eval, &agg->workers, err);
    return rc ? rc : open_arg(agg, plan->args[0], err);
}
