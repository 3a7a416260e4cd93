/* query/aggregate_hold.c: aggregations that must see all values of a group: quantile, count_values. */
#include <math.h>

#include "query/aggregate.h"
#include "query/number.h"

/* ---- quantile ---- */

static enum err_code note_quantile(struct op_aggregate *agg, double q)
{
    char text[NUMBER_BYTES_MAX];
    size_t len = number_print_general(text, q);
    notes_add(&agg->op.eval->notes, NOTE_WARNING, agg->node->param->pos,
              "quantile value should be between 0 and 1, got %.*s", (int)len, text);
    return ERR_OK;
}

/* Of the parameters at all steps the extremes are named. */
static enum err_code quantile_start(struct op_aggregate *agg, bool *nothing, struct err *err)
{
    (void)nothing;
    (void)err;
    double min = INFINITY, max = -INFINITY;
    bool nan = false;
    for (size_t s = 0; s < agg->op.n_steps; s++) {
        nan |= isnan(agg->param[s]) != 0;
        if (agg->param[s] < min) min = agg->param[s];
        if (agg->param[s] > max) max = agg->param[s];
    }
    enum err_code rc = nan ? note_quantile(agg, NAN) : ERR_OK;
    if (!rc && max > 1) rc = note_quantile(agg, max);
    if (!rc && min < 0) rc = note_quantile(agg, min);
    return rc;
}

static enum err_code quantile_init(struct op_aggregate *agg, struct agg_group *group,
                                   struct err *err)
{
    group->state = EVAL_NEW(agg->op.eval, struct series_list);
    return group->state ? ERR_OK : eval_no_memory(agg->op.eval, err);
}

static enum err_code quantile_add(struct op_aggregate *agg, struct agg_group *group,
                                  struct eval_series *s, struct err *err)
{
    struct eval_series kept;
    agg_ignore_histograms(agg, s);
    enum err_code rc = series_keep(agg->op.eval, s, agg->op.n_steps, &kept, err);
    return rc ? rc : series_list_push(agg->op.eval, group->state, &kept, err);
}

static enum err_code quantile_finish(struct op_aggregate *agg, struct agg_group *group,
                                     struct err *err)
{
    const struct series_list *list = group->state;
    struct eval *eval = agg->op.eval;
    struct eval_series out = {0};
    double *xs = EVAL_ARRAY(eval, double, list->n);
    if (!xs || !series_alloc(eval->arena, agg->op.n_steps, &out)) return eval_no_memory(eval, err);
    for (size_t step = 0; step < agg->op.n_steps; step++) {
        size_t n = 0;
        for (size_t i = 0; i < list->n; i++)
            if (bitmap_get(list->items[i].present, step)) xs[n++] = list->items[i].v[step];
        if (n) series_set(&out, step, quantile_of(agg->param[step], xs, n), NULL);
    }
    return agg_push_result(agg, group, out.present, out.v, NULL, err);
}

const struct agg_class AGG_CLASS_QUANTILE = {.start = quantile_start,
                                             .group_init = quantile_init,
                                             .add = quantile_add,
                                             .finish = quantile_finish};

/* ---- count_values ---- */

static enum err_code count_values_start(struct op_aggregate *agg, bool *nothing, struct err *err)
{
    (void)nothing;
    struct str name = agg->op.plan->text;
    if (name.len && utf8_valid(name)) return ERR_OK;
    struct buf quoted;
    buf_init(&quoted, MEM_QUERY);
    str_quote(&quoted, name);
    enum err_code rc = err_set(err, ERR_EXECUTION, "invalid label name %.*s",
                               STR_ARG(str_from_bytes(buf_bytes(&quoted))));
    buf_release(&quoted);
    return rc;
}

static enum err_code count_values_init(struct op_aggregate *agg, struct agg_group *group,
                                       struct err *err)
{
    struct eval *eval = agg->op.eval;
    struct eval_series *st = group->state = EVAL_NEW(eval, struct eval_series);
    if (!st || !series_alloc(eval->arena, agg->op.n_steps, st)) return eval_no_memory(eval, err);
    return ERR_OK;
}

/* The text of the value, in `text` or in the arena. */
static struct str value_text(const struct point *p, char *text, struct arena *arena)
{
    if (p->kind == POINT_FLOAT) return (struct str){text, number_print_plain(text, p->v)};
    struct buf printed;
    buf_init(&printed, MEM_QUERY);
    histogram_print(&printed, p->h);
    struct str s = arena_str(arena, str_from_bytes(buf_bytes(&printed)));
    buf_release(&printed);
    return s;
}

static enum err_code count_values_add(struct op_aggregate *agg, struct agg_group *group,
                                      struct eval_series *s, struct err *err)
{
    struct arena *arena = &agg->workers.items[0]->arena;
    struct point last = {0};
    BITMAP_EACH(step, s->present, agg->op.n_steps)
    {
        struct point p = series_point(s, step);
        bool same = group && p.kind == last.kind && p.h == last.h &&
                    double_bits(p.v) == double_bits(last.v);
        if (!same) {
            char text[NUMBER_BYTES_MAX];
            struct labels labels;
            arena_reset(arena);
            struct str value = value_text(&p, text, arena);
            if (!value.p) return arena_fail(arena, err);
            enum err_code rc =
                labels_with(arena, s->labels, agg->op.plan->text, value, &labels, err);
            if (!rc) rc = agg_group_of_labels(agg, labels, s, &group, err);
            if (rc) return rc;
            last = p;
        }
        struct eval_series *st = group->state;
        series_set(st, step, st->v[step] + 1, NULL);
    }
    return ERR_OK;
}

static enum err_code count_values_finish(struct op_aggregate *agg, struct agg_group *group,
                                         struct err *err)
{
    const struct eval_series *st = group->state;
    return agg_push_result(agg, group, st->present, st->v, NULL, err);
}

const struct agg_class AGG_CLASS_COUNT_VALUES = {.start = count_values_start,
                                                 .group_init = count_values_init,
                                                 .add = count_values_add,
                                                 .finish = count_values_finish};
