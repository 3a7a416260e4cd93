/* engine/estimate.c: what a select would find, without finding it. */
#include "engine/engine_private.h"

/* The part of [min_ms, max_ms] that lies within [mint_ms, maxt_ms], 0 to 1. */
static double overlap(int64_t min_ms, int64_t max_ms, int64_t mint_ms, int64_t maxt_ms)
{
    if (min_ms > maxt_ms || max_ms < mint_ms) return 0;
    double span = (double)max_ms - (double)min_ms + 1;
    double inside = (double)MIN_OF(max_ms, maxt_ms) - (double)MAX_OF(min_ms, mint_ms) + 1;
    return inside / span;
}

static void add(struct tenant_estimate *out, uint64_t n_series, double samples_each, double part)
{
    out->series = MAX_OF(out->series, n_series);
    out->samples += (uint64_t)((double)n_series * samples_each * part);
}

struct search {
    const struct matcher *matchers;
    size_t n_matchers;
    int64_t mint_ms, maxt_ms;
    struct arena arena;
};

static enum err_code estimate_head(struct tenant *t, struct search *s, struct tenant_estimate *out,
                                   struct err *err)
{
    struct registry *reg = &t->registry;
    int64_t min_ms, max_ms;
    uint64_t n_all = atomic_load_explicit(&reg->n_series, memory_order_relaxed);
    int64_t samples = atomic_load_explicit(&t->head_samples, memory_order_relaxed);
    tenant_head_range(t, &min_ms, &max_ms);
    double part = overlap(min_ms, max_ms, s->mint_ms, s->maxt_ms);
    if (!n_all || part <= 0) return ERR_OK;
    size_t n = n_all;
    enum err_code rc = ERR_OK;
    if (s->n_matchers) {
        uint32_t *ids;
        rwlock_read(&reg->lock);
        rc = registry_select(reg, s->matchers, s->n_matchers, &s->arena, &ids, &n, err);
        rwlock_release(&reg->lock);
        arena_reset(&s->arena);
    }
    if (!rc) add(out, n, (double)MAX_OF(samples, INT64_C(0)) / (double)n_all, part);
    return rc;
}

static enum err_code estimate_block(struct block *block, struct search *s,
                                    struct tenant_estimate *out, struct err *err)
{
    const struct block_info *info = block_info(block);
    double part = overlap(info->t_min_ms, info->t_max_ms, s->mint_ms, s->maxt_ms);
    size_t n = info->n_series;
    enum err_code rc = ERR_OK;
    if (part <= 0 || !n) return ERR_OK;
    if (s->n_matchers) {
        uint32_t *ids;
        rc = block_select(block, s->matchers, s->n_matchers, &s->arena, &ids, &n, err);
        arena_reset(&s->arena);
    }
    if (!rc) add(out, n, (double)info->n_samples / (double)info->n_series, part);
    return rc;
}

enum err_code tenant_estimate(struct tenant *t, const struct matcher *matchers, size_t n_matchers,
                              int64_t mint_ms, int64_t maxt_ms, struct tenant_estimate *out,
                              struct err *err)
{
    struct search s = {matchers, n_matchers, mint_ms, maxt_ms, {0}};
    *out = (struct tenant_estimate){0};
    arena_init(&s.arena, MEM_QUERY, 0);
    struct view *view = views_take(&t->views);
    enum err_code rc = estimate_head(t, &s, out, err);
    for (size_t i = 0; !rc && i < view->n_blocks; i++)
        rc = estimate_block(view->blocks[i], &s, out, err);
    views_give(&t->views, view);
    arena_release(&s.arena);
    return rc;
}
