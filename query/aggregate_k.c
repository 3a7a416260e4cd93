/* query/aggregate_k.c: aggregations that choose series: topk, bottomk, limitk, limit_ratio. */
#include <math.h>
#include <stdlib.h>

#include "base/hash.h"
#include "query/aggregate.h"
#include "query/number.h"

/* ---- parameters ---- */

static enum err_code fail_number(const char *before, double v, const char *after, struct err *err)
{
    char text[NUMBER_BYTES_MAX];
    size_t len = number_print_general(text, v);
    return err_set(err, ERR_EXECUTION, "%s%.*s%s", before, (int)len, text, after);
}

static enum err_code k_start(struct op_aggregate *agg, bool *nothing, struct err *err)
{
    bool any = false;
    for (size_t s = 0; s < agg->op.n_steps; s++) {
        double k = agg->param[s];
        if (isnan(k)) return err_set(err, ERR_EXECUTION, "Parameter value is NaN");
        if (k >= 0x1p63) return fail_number("Scalar value ", k, " overflows int64", err);
        if (k < -0x1p63) return fail_number("Scalar value ", k, " underflows int64", err);
        any |= k >= 1;
    }
    *nothing = !any;
    return ERR_OK;
}

/* ---- topk, bottomk: a heap per group and step ---- */

struct topk_entry {
    double v;
    uint32_t series;
};
struct topk_heap {
    struct topk_entry *items; /* [0]: the next to go */
    uint32_t n, cap;
};
struct topk_all {
    struct series_list series; /* labels only, of all input */
};

/* Worst first; NaN is worse than all. */
static bool worse(const struct op_aggregate *agg, double a, double b)
{
    if (isnan(a)) return true;
    return agg->node->op == AGG_TOPK ? a < b : a > b;
}

/* As Go's container/heap: which of equal values stay is seen in answers. */
static void heap_up(const struct op_aggregate *agg, struct topk_entry *items, size_t i)
{
    while (i > 0) {
        size_t parent = (i - 1) / 2;
        if (!worse(agg, items[i].v, items[parent].v)) break;
        struct topk_entry swap = items[i];
        items[i] = items[parent];
        items[parent] = swap;
        i = parent;
    }
}

static void heap_down(const struct op_aggregate *agg, struct topk_entry *items, size_t n)
{
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= n) break;
        if (child + 1 < n && worse(agg, items[child + 1].v, items[child].v)) child++;
        if (!worse(agg, items[child].v, items[i].v)) break;
        struct topk_entry swap = items[i];
        items[i] = items[child];
        items[child] = swap;
        i = child;
    }
}

static enum err_code topk_start(struct op_aggregate *agg, bool *nothing, struct err *err)
{
    agg->state = EVAL_NEW(agg->op.eval, struct topk_all);
    return agg->state ? k_start(agg, nothing, err) : eval_no_memory(agg->op.eval, err);
}

static enum err_code topk_init(struct op_aggregate *agg, struct agg_group *group, struct err *err)
{
    group->state = EVAL_ARRAY(agg->op.eval, struct topk_heap, agg->op.n_steps);
    return group->state ? ERR_OK : eval_no_memory(agg->op.eval, err);
}

static enum err_code heap_push(struct op_aggregate *agg, struct topk_heap *heap,
                               struct topk_entry entry, struct err *err)
{
    if (heap->n == heap->cap) {
        uint32_t cap = heap->cap ? heap->cap * 2 : 4;
        struct topk_entry *items = EVAL_ARRAY(agg->op.eval, struct topk_entry, cap);
        if (!items) return eval_no_memory(agg->op.eval, err);
        if (heap->n) memcpy(items, heap->items, heap->n * sizeof(*items));
        heap->items = items;
        heap->cap = cap;
    }
    heap->items[heap->n++] = entry;
    heap_up(agg, heap->items, heap->n - 1);
    return ERR_OK;
}

static enum err_code topk_add(struct op_aggregate *agg, struct agg_group *group,
                              struct eval_series *s, struct err *err)
{
    struct topk_all *all = agg->state;
    struct topk_heap *heaps = group->state;
    agg_ignore_histograms(agg, s);
    uint32_t id = (uint32_t)all->series.n;
    struct eval_series ref = {.labels = s->labels, .drop_name = s->drop_name};
    enum err_code rc = series_list_push(agg->op.eval, &all->series, &ref, err);
    if (rc) return rc;
    BITMAP_EACH(step, s->present, agg->op.n_steps)
    {
        double k = agg->param[step], v = s->v[step];
        if (k < 1) continue;
        struct topk_heap *heap = &heaps[step];
        struct topk_entry entry = {v, id};
        if ((double)heap->n < trunc(k)) {
            rc = heap_push(agg, heap, entry, err);
            if (rc) return rc;
            continue;
        }
        double worst = heap->items[0].v;
        bool better = agg->node->op == AGG_TOPK ? worst < v : worst > v;
        if (!better && !(isnan(worst) && !isnan(v))) continue;
        heap->items[0] = entry;
        heap_down(agg, heap->items, heap->n);
    }
    return ERR_OK;
}

static int compare_best(const void *x, const void *y, void *ctx)
{
    const struct topk_entry *a = x, *b = y;
    bool a_nan = isnan(a->v), b_nan = isnan(b->v);
    if (a_nan != b_nan) return a_nan - b_nan;
    if (!a_nan && a->v != b->v) return worse(ctx, a->v, b->v) ? 1 : -1;
    return (a->series > b->series) - (a->series < b->series);
}

/* Best first. Up to 12 by insertion, as Go's sort.Sort: again seen where values are equal. */
static void sort_best(struct op_aggregate *agg, struct topk_heap *heap)
{
    if (heap->n > 12) {
        qsort_r(heap->items, heap->n, sizeof(*heap->items), compare_best, agg);
        return;
    }
    for (size_t i = 1; i < heap->n; i++)
        for (size_t k = i; k > 0 && worse(agg, heap->items[k - 1].v, heap->items[k].v); k--) {
            struct topk_entry swap = heap->items[k];
            heap->items[k] = heap->items[k - 1];
            heap->items[k - 1] = swap;
        }
}

static enum err_code topk_finish_all(struct op_aggregate *agg, struct err *err)
{
    struct eval *eval = agg->op.eval;
    const struct topk_all *all = agg->state;
    /* Where a series is in the output, plus 1. */
    uint32_t *place = EVAL_ARRAY(eval, uint32_t, all->series.n);
    if (!place) return eval_no_memory(eval, err);
    for (size_t g = 0; g < agg->keys.n; g++) {
        struct topk_heap *heaps = agg->groups[g].state;
        for (size_t step = 0; step < agg->op.n_steps; step++) {
            sort_best(agg, &heaps[step]);
            for (size_t i = 0; i < heaps[step].n; i++) {
                const struct topk_entry *entry = &heaps[step].items[i];
                if (!place[entry->series]) {
                    struct eval_series out = all->series.items[entry->series];
                    if (!series_alloc(eval->arena, agg->op.n_steps, &out))
                        return eval_no_memory(eval, err);
                    enum err_code rc = series_list_push(eval, &agg->out, &out, err);
                    if (rc) return rc;
                    place[entry->series] = (uint32_t)agg->out.n;
                }
                series_set(&agg->out.items[place[entry->series] - 1], step, entry->v, NULL);
            }
        }
    }
    return ERR_OK;
}

const struct agg_class AGG_CLASS_TOPK = {
    .start = topk_start, .group_init = topk_init, .add = topk_add, .finish_all = topk_finish_all};

/* ---- limitk: the first k of each group at each step, in passing ---- */

static enum err_code limitk_init(struct op_aggregate *agg, struct agg_group *group, struct err *err)
{
    group->state = EVAL_ARRAY(agg->op.eval, double, agg->op.n_steps);
    return group->state ? ERR_OK : eval_no_memory(agg->op.eval, err);
}

static enum err_code limitk_add(struct op_aggregate *agg, struct agg_group *group,
                                struct eval_series *s, struct err *err)
{
    (void)err;
    double *n_kept = group->state;
    BITMAP_EACH(step, s->present, agg->op.n_steps)
    {
        if (n_kept[step] + 1 <= agg->param[step])
            n_kept[step]++;
        else
            series_remove(s, step);
    }
    return ERR_OK;
}

const struct agg_class AGG_CLASS_LIMITK = {
    .start = k_start, .group_init = limitk_init, .add = limitk_add};

/* ---- limit_ratio: by the hash of the labels ---- */

static void note_ratio(struct op_aggregate *agg, double r, int cap)
{
    char text[NUMBER_BYTES_MAX];
    size_t len = number_print_general(text, r);
    notes_add(&agg->op.eval->notes, NOTE_WARNING, agg->node->param->pos,
              "ratio value should be between -1 and 1, got %.*s, capping to %d", (int)len, text,
              cap);
}

static enum err_code ratio_start(struct op_aggregate *agg, bool *nothing, struct err *err)
{
    double min = 0, max = 0;
    for (size_t s = 0; s < agg->op.n_steps; s++) {
        if (isnan(agg->param[s])) return err_set(err, ERR_EXECUTION, "Ratio value is NaN");
        if (agg->param[s] < min) min = agg->param[s];
        if (agg->param[s] > max) max = agg->param[s];
    }
    if (max > 1) note_ratio(agg, max, 1);
    if (min < -1) note_ratio(agg, min, -1);
    *nothing = min == 0 && max == 0;
    return ERR_OK;
}

static uint8_t *put_sized(uint8_t *p, struct str s)
{
    if (s.len < 255) {
        *p++ = (uint8_t)s.len;
    } else {
        *p++ = 255;
        for (int shift = 0; shift < 24; shift += 8) *p++ = (uint8_t)(s.len >> shift);
    }
    if (s.len) memcpy(p, s.p, s.len);
    return p + s.len;
}

/* Where the label set falls between 0 and 1: Prometheus's hash of labels as a fraction. */
static enum err_code labels_fraction(struct op_aggregate *agg, struct labels labels, double *out,
                                     struct err *err)
{
    struct arena *arena = &agg->workers.items[0]->arena;
    size_t size = 0;
    for (size_t i = 0; i < labels.n; i++)
        size += labels.items[i].name.len + labels.items[i].value.len + 8;
    arena_reset(arena);
    uint8_t *bytes = ARENA_ARRAY(arena, uint8_t, size);
    if (!bytes) return arena_fail(arena, err);
    uint8_t *p = bytes;
    for (size_t i = 0; i < labels.n; i++)
        p = put_sized(put_sized(p, labels.items[i].name), labels.items[i].value);
    *out = (double)hash_xxh64(bytes, (size_t)(p - bytes)) / (double)UINT64_MAX;
    return ERR_OK;
}

static enum err_code ratio_add(struct op_aggregate *agg, struct agg_group *group,
                               struct eval_series *s, struct err *err)
{
    (void)group;
    double at;
    enum err_code rc = labels_fraction(agg, s->labels, &at, err);
    if (rc) return rc;
    BITMAP_EACH(step, s->present, agg->op.n_steps)
    {
        double r = agg->param[step];
        bool keep = r >= 0 ? at < MIN_OF(r, 1.0) || r >= 1 : at >= 1 + MAX_OF(r, -1.0);
        if (!keep) series_remove(s, step);
    }
    return ERR_OK;
}

const struct agg_class AGG_CLASS_LIMIT_RATIO = {.start = ratio_start, .add = ratio_add};
