/* engine/registry_cull.c: series that end leave the tables at once; their memory goes when no select can hold it. */
#include "engine/registry.h"

struct cull {
    struct registry *reg;
    uint64_t *dead;    /* a bit per id from base on */
    uint64_t *touched; /* a bit per pair that a dead series carried */
    uint32_t base;
    uint64_t view;
};

static void bit_set(uint64_t *bits, size_t i)
{
    bits[i / 64] |= UINT64_C(1) << (i % 64);
}

static bool bit_test(const uint64_t *bits, size_t i)
{
    return bits[i / 64] >> (i % 64) & 1;
}

static size_t bit_words(size_t n)
{
    return n / 64 + 1;
}

static void sent_forget(struct registry *reg, uint32_t tag, uint32_t id)
{
    struct sent_shard *shard = registry_sent_shard(reg, tag);
    lock_take(&shard->lock);
    idmap_remove(&shard->map, tag, id);
    lock_release(&shard->lock);
}

static void drop_aliases(struct registry *reg, struct series *s)
{
    struct alias *a = atomic_load_explicit(&s->alias, memory_order_relaxed);
    atomic_store_explicit(&s->alias, NULL, memory_order_relaxed);
    for (struct alias *next; a; a = next) {
        next = a->next;
        sent_forget(reg, registry_sent_tag(reg, a->hash), s->id);
        alias_free(reg->pool, a);
    }
}

/* Out of every table but the postings, which are done for all dead series at once. */
static void unlink_series(struct cull *c, struct series *s)
{
    struct registry *reg = c->reg;
    ASSERT(s->chunks == NULL);
    ASSERT(!stream_exists(&s->open));
    ASSERT(s->extra == NULL);
    drop_aliases(reg, s);
    sent_forget(reg, s->tag, s->id);
    for (size_t i = 0; i < s->n_pairs; i++) bit_set(c->touched, s->pairs[i]);
    cell_pool_put(reg->pool, s->pairs, MAX_OF(s->n_pairs, 1) * sizeof(*s->pairs));
    bit_set(c->dead, s->id - c->base);
    s->pairs = NULL;
    s->n_pairs = 0;
    atomic_store_explicit(&s->live, false, memory_order_relaxed); /* the gate keeps readers out */
    atomic_fetch_sub_explicit(&reg->n_series, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(reg->n_series_all, 1, memory_order_relaxed);
}

static void remove_postings(struct cull *c)
{
    struct registry *reg = c->reg;
    for (uint32_t id = 1; id <= reg->pairs.n_slots; id++) {
        if (!bit_test(c->touched, id)) continue;
        struct idlist *ids = &registry_pair(reg, id)->ids;
        idlist_remove(ids, reg->pool, c->dead, c->base);
        if (ids->n == 0) registry_pair_drop(reg, id, c->view);
    }
}

/* A page whose ids are all handed out and whose series have all ended. */
static void retire_page(struct cull *c, uint32_t page_idx)
{
    struct registry *reg = c->reg;
    struct series_page *page = registry_page(reg, page_idx);
    if (!page || page->n_live > 0 || reg->next_id < (page_idx + 1) * SERIES_PAGE) return;
    struct series_top *top = atomic_load_explicit(&reg->top, memory_order_relaxed);
    struct series_mid *mid =
        atomic_load_explicit(&top->mids[page_idx / SERIES_MID], memory_order_relaxed);
    atomic_store_explicit(&mid->pages[page_idx % SERIES_MID], NULL, memory_order_relaxed);
    page->retired = (struct retired){reg->retired_pages, c->view, sizeof(*page)};
    reg->retired_pages = &page->retired;
}

static size_t cull_pages(struct cull *c, bool (*fn)(void *ctx, struct series *s), void *ctx,
                         size_t max)
{
    struct registry *reg = c->reg;
    size_t n = 0;
    bool seen_live = false;
    for (uint32_t page_idx = reg->first_id / SERIES_PAGE; page_idx <= reg->next_id / SERIES_PAGE;
         page_idx++) {
        struct series_page *page = registry_page(reg, page_idx);
        if (!page) continue;
        for (size_t k = 0; k < SERIES_PAGE && n < max; k++) {
            if (!page->s[k].live || !fn(ctx, &page->s[k])) continue;
            unlink_series(c, &page->s[k]);
            page->n_live--;
            n++;
        }
        seen_live |= page->n_live > 0;
        retire_page(c, page_idx);
        if (!seen_live) reg->first_id = MIN_OF(page_idx * SERIES_PAGE + SERIES_PAGE, reg->next_id);
    }
    return n;
}

size_t registry_cull(struct registry *reg, bool (*fn)(void *ctx, struct series *s), void *ctx,
                     size_t max, uint64_t view)
{
    rwlock_write(&reg->lock);
    struct cull c = {.reg = reg, .base = reg->first_id / SERIES_PAGE * SERIES_PAGE, .view = view};
    c.dead = mem_calloc(MEM_REGISTRY, bit_words(reg->next_id - c.base), sizeof(uint64_t));
    c.touched = mem_calloc(MEM_REGISTRY, bit_words(reg->pairs.n_slots + 1), sizeof(uint64_t));
    size_t n = 0;
    if (c.dead && c.touched) { /* else they stay until there is memory */
        n = cull_pages(&c, fn, ctx, max);
        if (n > 0) remove_postings(&c);
    }
    mem_free(c.dead);
    mem_free(c.touched);
    rwlock_release(&reg->lock);
    return n;
}

/* Takes what only views below oldest_view could know off the list; returns those. */
static struct retired *take_retired(struct retired **list, uint64_t oldest_view)
{
    struct retired *taken = NULL;
    for (struct retired **link = list; *link;) {
        struct retired *r = *link;
        if (r->view >= oldest_view) {
            link = &r->next;
            continue;
        }
        *link = r->next;
        r->next = taken;
        taken = r;
    }
    return taken;
}

void registry_reclaim(struct registry *reg, uint64_t oldest_view)
{
    rwlock_read(&reg->lock);
    bool any = reg->retired_names || reg->retired_pairs || reg->retired_pages;
    rwlock_release(&reg->lock);
    if (!any) return;
    rwlock_write(&reg->lock);
    struct retired *names = take_retired(&reg->retired_names, oldest_view);
    struct retired *pairs = take_retired(&reg->retired_pairs, oldest_view);
    struct retired *pages = take_retired(&reg->retired_pages, oldest_view);
    rwlock_release(&reg->lock);
    for (struct retired *r = names, *next; r; r = next) {
        next = r->next;
        cell_pool_put(reg->pool, CONTAINER_OF(r, struct label_name, retired), r->size);
    }
    for (struct retired *r = pairs, *next; r; r = next) {
        next = r->next;
        cell_pool_put(reg->pool, CONTAINER_OF(r, struct label_pair, retired), r->size);
    }
    for (struct retired *r = pages, *next; r; r = next) {
        next = r->next;
        mem_free(CONTAINER_OF(r, struct series_page, retired)->raw);
    }
}

static bool always(void *ctx, struct series *s)
{
    (void)ctx;
    (void)s;
    return true;
}

void registry_release(struct registry *reg)
{
    reg->next_id = (reg->next_id / SERIES_PAGE + 1) * SERIES_PAGE; /* the last page goes, too */
    (void)registry_cull(reg, always, NULL, SIZE_MAX, 0);
    registry_reclaim(reg, UINT64_MAX);
    alias_base_unref(reg->pool, reg->base);
    struct series_top *top = atomic_load_explicit(&reg->top, memory_order_relaxed);
    /* The newest names every page directory that older ones do. */
    for (uint32_t i = 0; top && i < top->n; i++)
        mem_free(atomic_load_explicit(&top->mids[i], memory_order_relaxed));
    for (struct series_top *older; top; top = older) {
        older = top->older;
        mem_free(top);
    }
    idmap_release(&reg->by_name);
    idmap_release(&reg->by_pair);
    for (size_t i = 0; i < IDTABLE_PARTS; i++) {
        mem_free(reg->names.parts[i]);
        mem_free(reg->pairs.parts[i]);
    }
    for (size_t i = 0; i < SENT_SHARDS; i++) {
        idmap_release(&reg->shards[i].map);
        lock_destroy(&reg->shards[i].lock);
    }
    rwlock_destroy(&reg->lock);
}
