/* engine/quarantine.c: see the header. */
#include "engine/quarantine.h"

#include <stdio.h>

#include "engine/engine_private.h"

void quarantine_init(struct quarantine *q)
{
    *q = (struct quarantine){.items = NULL};
    lock_init(&q->lock, LOCK_LEAF);
}

void quarantine_release(struct quarantine *q)
{
    mem_free(q->items);
    lock_destroy(&q->lock);
}

/* Under the lock. */
static struct quarantined *find(struct quarantine *q, const struct ulid *ulid)
{
    for (size_t i = 0; i < q->n; i++)
        if (strcmp(q->items[i].info.ulid.text, ulid->text) == 0) return &q->items[i];
    return NULL;
}

static void count_left_out(struct quarantine *q)
{
    size_t n = 0;
    for (size_t i = 0; i < q->n; i++) n += q->items[i].left_out;
    atomic_store_explicit(&q->n_left_out, n, memory_order_relaxed);
}

/* False: known already, or there is no room to remember it. */
static bool add(struct quarantine *q, const struct quarantined *item)
{
    struct err ignored;
    lock_take(&q->lock);
    void *items = q->items;
    bool is_new =
        !find(q, &item->info.ulid) && q->n < QUARANTINE_BLOCKS_MAX &&
        mem_grow(MEM_STORAGE, &items, &q->cap, q->n + 1, sizeof(*q->items), &ignored) == ERR_OK;
    q->items = items;
    if (is_new) q->items[q->n++] = *item;
    count_left_out(q);
    lock_release(&q->lock);
    return is_new;
}

static void block_label(const struct ulid *ulid, char *out, size_t size)
{
    metric_label(out, size, "block", str_of(ulid->text));
}

static void show(struct tenant *t, const struct quarantined *item, const struct err *why)
{
    struct engine *e = t->engine;
    char block[64], tenant[TENANT_NAME_BYTES_MAX * 2 + 32], labels[sizeof(tenant) + 128];
    block_label(&item->info.ulid, block, sizeof(block));
    metric_label(tenant, sizeof(tenant), "tenant", tenant_name(t));
    snprintf(labels, sizeof(labels), "%s,state=\"%s\",%s", block,
             item->left_out ? "left_out" : "damaged", tenant);
    metric_inc(e->metrics.quarantined);
    metric_set(metric_gauge(e->env.metrics, "quipu_block_quarantined",
                            "Blocks that are missing or damaged, by name: left out of queries, or "
                            "served but for the damaged pages.",
                            labels),
               1);
    log_msg(e->env.log, LOG_ERROR, item->left_out ? "block left out" : "block damaged",
            LOG_STR("tenant", tenant_name(t)), LOG_CSTR("block", item->info.ulid.text),
            LOG_I64("from_ms", item->info.t_min_ms), LOG_I64("to_ms", item->info.t_max_ms),
            LOG_ERR(why));
}

static void note(struct tenant *t, const struct block_info *info, bool left_out,
                 const struct err *why)
{
    char text[ERR_TEXT_BYTES + ERR_FILE_BYTES + 64];
    struct quarantined item = {
        .info = *info, .left_out = left_out, .found_ms = clock_wall_ms(t->engine->env.clock)};
    err_describe(why, text, sizeof(text));
    snprintf(item.reason, sizeof(item.reason), "%.*s", (int)sizeof(item.reason) - 1, text);
    if (add(&t->quarantine, &item)) show(t, &item, why);
}

void tenant_leave_out(struct tenant *t, const struct block_info *info, const struct err *why)
{
    note(t, info, true, why);
}

void tenant_note_damage(struct tenant *t, const struct block_info *info, const struct err *why)
{
    if (why->code == ERR_CORRUPT) note(t, info, false, why);
}

void tenant_note_named(struct tenant *t, struct block *const *blocks, size_t n,
                       const struct err *why)
{
    if (why->code != ERR_CORRUPT) return;
    for (size_t i = 0; i < n; i++) {
        const struct block_info *info = block_info(blocks[i]);
        if (strstr(why->file, info->ulid.text) || strstr(why->text, info->ulid.text))
            tenant_note_damage(t, info, why);
    }
}

void tenant_forget_damage(struct tenant *t, const struct ulid *ulids, size_t n)
{
    struct quarantine *q = &t->quarantine;
    for (size_t i = 0; i < n; i++) {
        char label[64];
        lock_take(&q->lock);
        struct quarantined *item = find(q, &ulids[i]);
        bool known = item != NULL;
        if (known) *item = q->items[--q->n];
        count_left_out(q);
        lock_release(&q->lock);
        block_label(&ulids[i], label, sizeof(label));
        if (known) metrics_drop(t->engine->env.metrics, label);
    }
}

static bool next_old(struct quarantine *q, int64_t oldest_ms, struct ulid *out)
{
    bool found = false;
    lock_take(&q->lock);
    for (size_t i = 0; i < q->n && !found; i++) {
        found = q->items[i].left_out && q->items[i].info.t_max_ms < oldest_ms;
        if (found) *out = q->items[i].info.ulid;
    }
    lock_release(&q->lock);
    return found;
}

enum err_code tenant_retain_damaged(struct tenant *t, int64_t oldest_ms, struct err *err)
{
    struct ulid ulid;
    enum err_code rc = ERR_OK;
    while (!rc && next_old(&t->quarantine, oldest_ms, &ulid)) {
        char path[IO_PATH_BYTES];
        struct err ignored; /* it may be missing */
        struct catalog_change change = {
            .incarnation = t->incarnation, .remove = &ulid, .n_remove = 1};
        rc = catalog_apply(t->engine->catalog, &change, err);
        if (rc) break;
        if (tenant_block_path(t, ulid.text, path, sizeof(path), &ignored) == ERR_OK)
            err_ignore(io_unlink(t->engine->env.io, path, &ignored));
        tenant_forget_damage(t, &ulid, 1);
    }
    return rc;
}

/* ---- for those who ask ---- */

static enum err_code copy_item(const struct quarantined *item, struct arena *arena,
                               struct engine_damage *out, struct err *err)
{
    *out = (struct engine_damage){.info = item->info,
                                  .left_out = item->left_out,
                                  .found_ms = item->found_ms,
                                  .reason = arena_str(arena, str_of(item->reason))};
    return out->reason.p ? ERR_OK : arena_fail(arena, err);
}

/* Nothing of the arena under a lock that readers need: a copy first. */
static enum err_code copy_all(struct quarantine *q, struct quarantined **out, size_t *n,
                              struct err *err)
{
    *out = mem_calloc(MEM_QUERY, QUARANTINE_BLOCKS_MAX, sizeof(**out));
    if (!*out) return err_set(err, ERR_NO_MEMORY, "no memory for a list of damaged blocks");
    lock_take(&q->lock);
    *n = q->n;
    if (q->n) memcpy(*out, q->items, q->n * sizeof(**out));
    lock_release(&q->lock);
    return ERR_OK;
}

enum err_code tenant_damage(struct tenant *t, struct arena *arena, struct engine_damage **out,
                            size_t *n, struct err *err)
{
    struct quarantined *items;
    size_t n_items = 0;
    *n = 0;
    enum err_code rc = copy_all(&t->quarantine, &items, &n_items, err);
    if (rc) return rc;
    *out = ARENA_ARRAY(arena, struct engine_damage, n_items + 1);
    if (!*out) rc = arena_fail(arena, err);
    for (; !rc && *n < n_items; ++*n) rc = copy_item(&items[*n], arena, &(*out)[*n], err);
    mem_free(items);
    return rc;
}

enum err_code tenant_missing(struct tenant *t, int64_t mint_ms, int64_t maxt_ms,
                             struct arena *arena, struct engine_damage **out, size_t *n,
                             struct err *err)
{
    *n = 0;
    if (LIKELY(!atomic_load_explicit(&t->quarantine.n_left_out, memory_order_relaxed)))
        return ERR_OK;
    size_t n_all;
    enum err_code rc = tenant_damage(t, arena, out, &n_all, err);
    for (size_t i = 0; !rc && i < n_all; i++) {
        const struct engine_damage *d = &(*out)[i];
        if (d->left_out && d->info.t_min_ms <= maxt_ms && d->info.t_max_ms >= mint_ms)
            (*out)[(*n)++] = *d;
    }
    return rc;
}
