/* engine/replay_apply.c: see the header. */
#include "engine/replay_apply.h"

#define THREADS 4 /* the caller's among them; there are HEAD_STRIPES parts */
#define GROUP_MIN 4
#define GROUP_MAX                                                                                  \
    2048 /* 3 MiB; 1.12 s of CPU for 24 M samples of 100,000 series, with 16 times as many 1.03 */
#define PREFETCH_SERIES 16 /* samples ahead; see write.c */
#define PREFETCH_END 8

enum err_code replay_apply_init(struct replay_apply *a, struct engine *engine, size_t bytes_max,
                                struct err *err)
{
    *a = (struct replay_apply){.engine = engine};
    size_t per_group = bytes_max / APPLY_GROUPS / sizeof(struct apply_item);
    a->group_max = MAX_OF(MIN_OF(per_group, (size_t)GROUP_MAX), (size_t)GROUP_MIN);
    size_t bytes = a->group_max * APPLY_GROUPS * sizeof(struct apply_item);
    a->map_bytes = (bytes + MEM_PAGE_BYTES - 1) / MEM_PAGE_BYTES * MEM_PAGE_BYTES;
    a->items = mem_map(MEM_HEAD, a->map_bytes);
    if (!a->items) return err_set(err, ERR_NO_MEMORY, "no memory to replay the log");
    if (!engine->env.threads) return ERR_OK;
    return pool_new("replay", THREADS - 1, HEAD_STRIPES, &a->pool, err);
}

void replay_apply_release(struct replay_apply *a)
{
    pool_free(a->pool);
    mem_unmap(MEM_HEAD, a->items, a->map_bytes);
    a->pool = NULL;
    a->items = NULL;
}

PREFETCHES void prefetch_ahead(const struct apply_item *item, const struct apply_item *end)
{
    if (item + PREFETCH_SERIES >= end) return;
    if (item[PREFETCH_SERIES].series) head_prefetch_open(item[PREFETCH_SERIES].series);
    if (item[PREFETCH_END].series) head_prefetch_end(item[PREFETCH_END].series);
}

/* Under the stripe's lock. */
static enum err_code apply_group(struct replay_apply *a, struct head_stripe *stripe, size_t g,
                                 struct err *err)
{
    const struct apply_item *item = a->items + g * a->group_max, *end = item + a->groups[g].n;
    enum err_code rc = ERR_OK;
    while (!rc && item < end) {
        ASSERT(item->series == NULL);
        struct tenant *t = item++->tenant;
        struct head_counts counts = {0};
        for (; !rc && item < end && item->series; item++) {
            prefetch_ahead(item, end);
            if (UNLIKELY(head_has_starts(item->series)))
                rc = head_append_started(stripe, &counts, t->gen, item->series, item->t_ms, item->v,
                                         0, err);
            else
                rc = head_append_float(stripe, &counts, t->gen, item->series, item->t_ms, item->v,
                                       err);
        }
        tenant_count(t, &counts);
        atomic_fetch_add_explicit(&a->n_stored, counts.n_stored, memory_order_relaxed);
    }
    return rc;
}

static void apply_stripe(void *ctx, size_t worker, size_t i)
{
    struct replay_apply *a = ctx;
    struct head_stripe *stripe = &a->engine->stripes[i];
    (void)worker;
    a->errs[i].code = ERR_OK;
    lock_take(&stripe->lock);
    for (size_t g = i; g < APPLY_GROUPS && !a->errs[i].code; g += HEAD_STRIPES)
        err_ignore(apply_group(a, stripe, g, &a->errs[i])); /* it is in errs[i] */
    lock_release(&stripe->lock);
}

enum err_code replay_apply_run(struct replay_apply *a, struct err *err)
{
    if (a->n == 0) return ERR_OK;
    if (a->pool) {
        pool_for(a->pool, HEAD_STRIPES, apply_stripe, a);
    } else {
        for (size_t i = 0; i < HEAD_STRIPES; i++) apply_stripe(a, 0, i);
    }
    for (size_t g = 0; g < APPLY_GROUPS; g++) {
        a->groups[g].n = 0;
        a->groups[g].tenant = NULL;
    }
    a->n = 0;
    for (size_t i = 0; i < HEAD_STRIPES; i++) {
        if (!a->errs[i].code) continue;
        *err = a->errs[i];
        return err->code;
    }
    return ERR_OK;
}
