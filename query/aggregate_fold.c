/* query/aggregate_fold.c: aggregations that fold a series into one accumulator per group and step: sum, avg, min,
 * max, count, group, stddev, stdvar. The order of additions is that of the series. */
#include <math.h>

#include "query/aggregate.h"
#include "query/column_kernel.h"

static void bitmap_or(uint64_t *into, const uint64_t *from, size_t n_words)
{
    for (size_t w = 0; w < n_words; w++) into[w] |= from[w];
}

/* ---- histograms of sum and avg ---- */

struct histogram_fold {
    struct histogram_sum **sums; /* per step; NULL until a histogram comes */
    uint64_t *has, *failed;
};

static enum err_code fold_one(struct op_aggregate *agg, struct histogram_fold *fold, size_t step,
                              const struct eval_series *s, struct err *err)
{
    struct eval *eval = agg->op.eval;
    uint32_t pos = agg->node->expr->pos;
    unsigned notes = 0;
    bitmap_set(fold->has, step);
    if (bitmap_get(fold->failed, step)) return ERR_OK;
    enum err_code rc = histogram_sum_add(eval->arena, &fold->sums[step], s->h[step], &notes, err);
    if (rc) return rc;
    if (notes & HISTOGRAM_NOTE_MIXED_SCHEMAS) {
        bitmap_set(fold->failed, step);
        notes_add(&eval->notes, NOTE_WARNING, pos,
                  "vector contains a mix of histograms with exponential and custom buckets "
                  "schemas for metric name \"%.*s\"",
                  STR_ARG(labels_get(s->labels, STR(LABEL_NAME))));
    }
    if (notes & HISTOGRAM_NOTE_BOUNDS_RECONCILED)
        notes_add(&eval->notes, NOTE_INFO, pos,
                  "mismatched custom buckets were reconciled during aggregation");
    if (notes & HISTOGRAM_NOTE_RESET_CONFLICT)
        notes_add(&eval->notes, NOTE_WARNING, pos,
                  "conflicting counter resets during histogram aggregation");
    return ERR_OK;
}

/* Takes the histograms out of the series, so that its floats are left. */
static enum err_code fold_histograms(struct op_aggregate *agg, struct histogram_fold *fold,
                                     struct eval_series *s, struct err *err)
{
    if (!s->h) return ERR_OK;
    if (!fold->sums) {
        fold->sums = EVAL_ARRAY(agg->op.eval, struct histogram_sum *, agg->op.n_steps);
        fold->has = EVAL_ARRAY(agg->op.eval, uint64_t, agg->op.n_words);
        fold->failed = EVAL_ARRAY(agg->op.eval, uint64_t, agg->op.n_words);
        if (!fold->sums || !fold->has || !fold->failed) return eval_no_memory(agg->op.eval, err);
    }
    BITMAP_EACH(step, s->present, agg->op.n_steps)
    {
        if (!s->h[step]) continue;
        enum err_code rc = fold_one(agg, fold, step, s, err);
        if (rc) return rc;
        series_remove(s, step);
    }
    s->h = NULL;
    return ERR_OK;
}

/* Joins the histograms' results with those of the floats; a step with both has neither. */
static enum err_code finish_histograms(struct op_aggregate *agg, struct histogram_fold *fold,
                                       bool mean, uint64_t *present, struct histogram ***out,
                                       struct err *err)
{
    struct eval *eval = agg->op.eval;
    *out = NULL;
    if (!fold->sums) return ERR_OK;
    *out = EVAL_ARRAY(eval, struct histogram *, agg->op.n_steps);
    if (!*out) return eval_no_memory(eval, err);
    BITMAP_EACH(step, fold->has, agg->op.n_steps)
    {
        if (bitmap_get(present, step)) {
            bitmap_clear(present, step);
            notes_add(&eval->notes, NOTE_WARNING, agg->node->expr->pos,
                      "encountered a mix of histograms and floats for aggregation");
            continue;
        }
        if (bitmap_get(fold->failed, step)) continue;
        enum err_code rc =
            histogram_sum_finish(eval->arena, fold->sums[step], mean, &(*out)[step], err);
        if (rc) return rc;
        bitmap_set(present, step);
    }
    return ERR_OK;
}

/* ---- sum ---- */

struct sum_state {
    struct histogram_fold histograms;
    uint64_t *present;
    double *sum, *c;
};

static enum err_code sum_init(struct op_aggregate *agg, struct agg_group *group, struct err *err)
{
    struct eval *eval = agg->op.eval;
    struct sum_state *st = group->state = EVAL_NEW(eval, struct sum_state);
    if (!st) return eval_no_memory(eval, err);
    st->present = EVAL_ARRAY(eval, uint64_t, agg->op.n_words);
    st->sum = EVAL_ARRAY(eval, double, agg->op.n_steps);
    st->c = EVAL_ARRAY(eval, double, agg->op.n_steps);
    return st->present && st->sum && st->c ? ERR_OK : eval_no_memory(eval, err);
}

static enum err_code sum_add(struct op_aggregate *agg, struct agg_group *group,
                             struct eval_series *s, struct err *err)
{
    struct sum_state *st = group->state;
    const struct column_kernel *kernel = column_kernel();
    enum err_code rc = fold_histograms(agg, &st->histograms, s, err);
    if (rc) return rc;
    bitmap_or(st->present, s->present, agg->op.n_words);
    for (size_t w = 0; w < agg->op.n_words; w++) {
        uint64_t bits = s->present[w];
        size_t first = w * 64;
        if ((bits & (bits + 1)) == 0) { /* all, but for the last word's that are not in the grid */
            size_t n = (size_t)__builtin_popcountll(bits);
            kernel->add(s->v + first, n, st->sum + first, st->c + first);
            continue;
        }
        for (; bits; bits &= bits - 1) {
            size_t step = first + (size_t)__builtin_ctzll(bits);
            kahan_add(s->v[step], &st->sum[step], &st->c[step]);
        }
    }
    return ERR_OK;
}

static enum err_code sum_finish(struct op_aggregate *agg, struct agg_group *group, struct err *err)
{
    struct sum_state *st = group->state;
    for (size_t s = 0; s < agg->op.n_steps; s++) st->sum[s] += st->c[s];
    struct histogram **h;
    enum err_code rc = finish_histograms(agg, &st->histograms, false, st->present, &h, err);
    return rc ? rc : agg_push_result(agg, group, st->present, st->sum, h, err);
}

const struct agg_class AGG_CLASS_SUM = {
    .group_init = sum_init, .add = sum_add, .finish = sum_finish};

/* ---- avg ---- */

struct avg_state {
    struct histogram_fold histograms;
    uint64_t *present;
    struct average *averages;
};

static enum err_code avg_init(struct op_aggregate *agg, struct agg_group *group, struct err *err)
{
    struct eval *eval = agg->op.eval;
    struct avg_state *st = group->state = EVAL_NEW(eval, struct avg_state);
    if (!st) return eval_no_memory(eval, err);
    st->present = EVAL_ARRAY(eval, uint64_t, agg->op.n_words);
    st->averages = EVAL_ARRAY(eval, struct average, agg->op.n_steps);
    return st->present && st->averages ? ERR_OK : eval_no_memory(eval, err);
}

static enum err_code avg_add(struct op_aggregate *agg, struct agg_group *group,
                             struct eval_series *s, struct err *err)
{
    struct avg_state *st = group->state;
    enum err_code rc = fold_histograms(agg, &st->histograms, s, err);
    if (rc) return rc;
    bitmap_or(st->present, s->present, agg->op.n_words);
    BITMAP_EACH(step, s->present, agg->op.n_steps) average_add(&st->averages[step], s->v[step]);
    return ERR_OK;
}

static enum err_code avg_finish(struct op_aggregate *agg, struct agg_group *group, struct err *err)
{
    struct avg_state *st = group->state;
    double *v = EVAL_ARRAY(agg->op.eval, double, agg->op.n_steps);
    if (!v) return eval_no_memory(agg->op.eval, err);
    BITMAP_EACH(step, st->present, agg->op.n_steps) v[step] = average_value(&st->averages[step]);
    struct histogram **h;
    enum err_code rc = finish_histograms(agg, &st->histograms, true, st->present, &h, err);
    return rc ? rc : agg_push_result(agg, group, st->present, v, h, err);
}

const struct agg_class AGG_CLASS_AVG = {
    .group_init = avg_init, .add = avg_add, .finish = avg_finish};

/* ---- min, max, count, group: one value per step ---- */

struct value_state {
    uint64_t *present;
    double *v;
};

static enum err_code value_init(struct op_aggregate *agg, struct agg_group *group, struct err *err)
{
    struct eval *eval = agg->op.eval;
    struct value_state *st = group->state = EVAL_NEW(eval, struct value_state);
    if (!st) return eval_no_memory(eval, err);
    st->present = EVAL_ARRAY(eval, uint64_t, agg->op.n_words);
    st->v = EVAL_ARRAY(eval, double, agg->op.n_steps);
    return st->present && st->v ? ERR_OK : eval_no_memory(eval, err);
}

static enum err_code value_finish(struct op_aggregate *agg, struct agg_group *group,
                                  struct err *err)
{
    struct value_state *st = group->state;
    return agg_push_result(agg, group, st->present, st->v, NULL, err);
}

static enum err_code extreme_add(struct op_aggregate *agg, struct agg_group *group,
                                 struct eval_series *s, struct err *err)
{
    (void)err;
    struct value_state *st = group->state;
    bool max = agg->node->op == AGG_MAX;
    agg_ignore_histograms(agg, s);
    BITMAP_EACH(step, s->present, agg->op.n_steps)
    {
        double old = st->v[step], v = s->v[step];
        bool wins = !bitmap_get(st->present, step) || isnan(old) || (max ? v > old : v < old);
        if (wins) st->v[step] = v;
    }
    bitmap_or(st->present, s->present, agg->op.n_words);
    return ERR_OK;
}

const struct agg_class AGG_CLASS_EXTREME = {
    .group_init = value_init, .add = extreme_add, .finish = value_finish};

static enum err_code count_add(struct op_aggregate *agg, struct agg_group *group,
                               struct eval_series *s, struct err *err)
{
    (void)err;
    struct value_state *st = group->state;
    BITMAP_EACH(step, s->present, agg->op.n_steps) st->v[step]++;
    bitmap_or(st->present, s->present, agg->op.n_words);
    return ERR_OK;
}

const struct agg_class AGG_CLASS_COUNT = {
    .group_init = value_init, .add = count_add, .finish = value_finish};

static enum err_code group_add(struct op_aggregate *agg, struct agg_group *group,
                               struct eval_series *s, struct err *err)
{
    (void)err;
    struct value_state *st = group->state;
    bitmap_or(st->present, s->present, agg->op.n_words);
    return ERR_OK;
}

static enum err_code group_finish(struct op_aggregate *agg, struct agg_group *group,
                                  struct err *err)
{
    struct value_state *st = group->state;
    for (size_t s = 0; s < agg->op.n_steps; s++) st->v[s] = 1;
    return value_finish(agg, group, err);
}

const struct agg_class AGG_CLASS_GROUP = {
    .group_init = value_init, .add = group_add, .finish = group_finish};

/* ---- stddev, stdvar: Welford ---- */

struct stddev_state {
    uint64_t *present;
    double *n, *mean, *m2;
};

static enum err_code stddev_init(struct op_aggregate *agg, struct agg_group *group, struct err *err)
{
    struct eval *eval = agg->op.eval;
    struct stddev_state *st = group->state = EVAL_NEW(eval, struct stddev_state);
    if (!st) return eval_no_memory(eval, err);
    st->present = EVAL_ARRAY(eval, uint64_t, agg->op.n_words);
    st->n = EVAL_ARRAY(eval, double, agg->op.n_steps);
    st->mean = EVAL_ARRAY(eval, double, agg->op.n_steps);
    st->m2 = EVAL_ARRAY(eval, double, agg->op.n_steps);
    return st->present && st->n && st->mean && st->m2 ? ERR_OK : eval_no_memory(eval, err);
}

static enum err_code stddev_add(struct op_aggregate *agg, struct agg_group *group,
                                struct eval_series *s, struct err *err)
{
    (void)err;
    struct stddev_state *st = group->state;
    agg_ignore_histograms(agg, s);
    BITMAP_EACH(step, s->present, agg->op.n_steps)
    {
        double v = s->v[step];
        if (!bitmap_get(st->present, step)) {
            st->n[step] = 1;
            st->mean[step] = v;
            st->m2[step] = isfinite(v) ? 0 : NAN;
            continue;
        }
        st->n[step]++;
        double delta = v - st->mean[step];
        st->mean[step] += delta / st->n[step];
        st->m2[step] += delta * (v - st->mean[step]);
    }
    bitmap_or(st->present, s->present, agg->op.n_words);
    return ERR_OK;
}

static enum err_code stddev_finish(struct op_aggregate *agg, struct agg_group *group,
                                   struct err *err)
{
    struct stddev_state *st = group->state;
    bool root = agg->node->op == AGG_STDDEV;
    BITMAP_EACH(step, st->present, agg->op.n_steps)
    {
        double variance = st->m2[step] / st->n[step];
        st->m2[step] = root ? sqrt(variance) : variance;
    }
    return agg_push_result(agg, group, st->present, st->m2, NULL, err);
}

const struct agg_class AGG_CLASS_STDDEV = {
    .group_init = stddev_init, .add = stddev_add, .finish = stddev_finish};
