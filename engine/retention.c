/* engine/retention.c: blocks that are to be kept no longer, whole: all of it is older than the tenant's retention, or
 * the tenant has more bytes than it may. A tenant's limits are the configuration's unless it names the tenant. */
#include <stdlib.h>

#include "engine/engine_private.h"

/* ---- limits ---- */

static const struct engine_override *find_override(const struct engine *e, struct str tenant)
{
    for (size_t i = 0; i < e->n_overrides; i++)
        if (str_eq(e->overrides[i].tenant, tenant)) return &e->overrides[i];
    return NULL;
}

/* Under limits_lock. */
static void apply_limits(struct engine *e, struct tenant *t)
{
    const struct engine_override *o = find_override(e, tenant_name(t));
    int64_t retention_ms = atomic_load_explicit(&e->limits.retention_ms, memory_order_relaxed);
    uint64_t bytes = atomic_load_explicit(&e->limits.retention_bytes, memory_order_relaxed);
    uint64_t rate = atomic_load_explicit(&e->limits.samples_rate, memory_order_relaxed);
    uint64_t burst = atomic_load_explicit(&e->limits.samples_burst, memory_order_relaxed);
    if (o && o->has_retention) retention_ms = o->retention_ms;
    if (o && o->has_retention_bytes) bytes = o->retention_bytes;
    if (o && o->has_samples_rate) rate = o->samples_rate;
    if (o && o->has_samples_burst) burst = o->samples_burst;
    atomic_store_explicit(&t->rate.per_second, rate, memory_order_relaxed);
    atomic_store_explicit(&t->rate.burst, burst, memory_order_relaxed);
    atomic_store_explicit(&t->retention_ms, retention_ms, memory_order_relaxed);
    atomic_store_explicit(&t->retention_bytes, bytes, memory_order_relaxed);
}

void tenant_apply_limits(struct tenant *t)
{
    struct engine *e = t->engine;
    lock_take(&e->limits_lock);
    apply_limits(e, t);
    lock_release(&e->limits_lock);
}

/* In one allocation, names behind the array. NULL: no memory. */
static struct engine_override *copy_overrides(const struct engine_override *from, size_t n)
{
    size_t bytes = n * sizeof(*from);
    for (size_t i = 0; i < n; i++) bytes += from[i].tenant.len;
    struct engine_override *copy = mem_alloc(MEM_BASE, bytes);
    if (!copy) return NULL;
    char *text = (char *)(copy + n);
    for (size_t i = 0; i < n; i++) {
        copy[i] = from[i];
        memcpy(text, from[i].tenant.p, from[i].tenant.len);
        copy[i].tenant.p = text;
        text += from[i].tenant.len;
    }
    return copy;
}

void engine_set_overrides(struct engine *e, const struct engine_override *overrides, size_t n)
{
    struct engine_override *copy = n ? copy_overrides(overrides, n) : NULL;
    if (n && !copy) {
        log_msg(e->env.log, LOG_ERROR, "no memory for the limits of tenants; the old ones stay");
        return;
    }
    struct tenant *t;
    lock_take(&e->limits_lock);
    mem_free(e->overrides);
    e->overrides = copy;
    e->n_overrides = n;
    lock_release(&e->limits_lock);
    for (size_t i = 0; (t = engine_tenant_at(e, i)) != NULL; i++) tenant_apply_limits(t);
}

/* ---- blocks that go ---- */

struct retained {
    const struct view *view;
    struct block **oldest; /* first */
    struct ulid *ulids;    /* of those that go */
    size_t n;
    uint64_t bytes, bytes_left;
    int64_t t_min_ms, t_max_ms; /* of those that go */
};

static int compare_age(const void *a, const void *b)
{
    const struct block_info *x = block_info(*(struct block *const *)a);
    const struct block_info *y = block_info(*(struct block *const *)b);
    if (x->t_max_ms != y->t_max_ms) return x->t_max_ms < y->t_max_ms ? -1 : 1;
    return (x->sequence > y->sequence) - (x->sequence < y->sequence);
}

static void let_go(struct retained *r, const struct block_info *info)
{
    r->ulids[r->n++] = info->ulid;
    r->bytes += info->file_bytes;
    r->t_min_ms = MIN_OF(r->t_min_ms, info->t_min_ms);
    r->t_max_ms = MAX_OF(r->t_max_ms, info->t_max_ms);
    r->bytes_left -= info->file_bytes;
}

static enum err_code retained_init(struct retained *r, const struct view *view, struct err *err)
{
    size_t n = MAX_OF(view->n_blocks, (size_t)1);
    *r = (struct retained){.view = view,
                           .t_min_ms = INT64_MAX,
                           .t_max_ms = INT64_MIN,
                           .oldest = mem_calloc(MEM_STORAGE, n, sizeof(struct block *)),
                           .ulids = mem_calloc(MEM_STORAGE, n, sizeof(struct ulid))};
    if (!r->oldest || !r->ulids) return err_set(err, ERR_NO_MEMORY, "no memory for retention");
    for (size_t i = 0; i < view->n_blocks; i++) {
        r->oldest[i] = view->blocks[i];
        r->bytes_left += block_info(view->blocks[i])->file_bytes;
    }
    qsort(r->oldest, view->n_blocks, sizeof(struct block *), compare_age);
    return ERR_OK;
}

static enum err_code let_all_go(struct tenant *t, struct retained *r, const char *why,
                                struct err *err)
{
    struct engine *e = t->engine;
    struct block_swap swap = {.remove = r->ulids, .n_remove = r->n};
    bool in_doubt;
    if (r->n == 0) return ERR_OK;
    enum err_code rc = tenant_swap_blocks(t, &swap, &in_doubt, err);
    if (rc) return rc;
    tenant_changed(t, r->t_min_ms, r->t_max_ms);
    metric_add(e->metrics.retention_blocks, r->n);
    metric_add(e->metrics.retention_bytes, r->bytes);
    log_msg(e->env.log, LOG_INFO, "blocks beyond retention removed",
            LOG_STR("tenant", tenant_name(t)), LOG_CSTR("retention", why), LOG_U64("blocks", r->n),
            LOG_U64("bytes", r->bytes), LOG_U64("bytes_left", r->bytes_left));
    return ERR_OK;
}

/* What is too old goes first, and then the oldest of what is too much. */
static enum err_code retain(struct tenant *t, const struct view *view, struct err *err)
{
    int64_t retention_ms = atomic_load_explicit(&t->retention_ms, memory_order_relaxed);
    uint64_t bytes_max = atomic_load_explicit(&t->retention_bytes, memory_order_relaxed);
    int64_t oldest_ms = data_clock_ms(&t->engine->data_clock) - retention_ms;
    struct retained r;
    enum err_code rc = retained_init(&r, view, err);
    size_t i = 0;
    for (; !rc && retention_ms > 0 && i < view->n_blocks; i++) {
        if (block_info(r.oldest[i])->t_max_ms >= oldest_ms) break;
        let_go(&r, block_info(r.oldest[i]));
    }
    if (!rc) rc = let_all_go(t, &r, "age", err);
    if (!rc && retention_ms > 0) rc = tenant_retain_damaged(t, oldest_ms, err);
    r.n = 0;
    r.bytes = 0;
    for (; !rc && bytes_max && i < view->n_blocks && r.bytes_left > bytes_max; i++)
        let_go(&r, block_info(r.oldest[i]));
    if (!rc) rc = let_all_go(t, &r, "size", err);
    mem_free(r.oldest);
    mem_free(r.ulids);
    return rc;
}

enum err_code tenant_retain(struct tenant *t, struct err *err)
{
    if (atomic_load_explicit(&t->retention_ms, memory_order_relaxed) <= 0 &&
        atomic_load_explicit(&t->retention_bytes, memory_order_relaxed) == 0)
        return ERR_OK;
    lock_take(&t->flush_lock);
    struct view *view = views_take(&t->views);
    enum err_code rc = retain(t, view, err);
    views_give(&t->views, view);
    lock_release(&t->flush_lock);
    return rc ? err_context(err, "retention of tenant %s", t->name) : rc;
}
