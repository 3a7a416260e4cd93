/* engine/select.c: a snapshot of the series that match, from the head and the blocks of one view, and their samples.
 * Order of versions: blocks by sequence, then the head's generations; later ones win.
 *
 * Labels of a series of the head are spelled out when somebody asks for them, some series at a time: counting or
 * summing all needs none, and they are most of a select's memory. Their series stays, as its chunks do, while the view
 * is held.
 *
 * What is deleted is taken out when the select is made, as ranges of time of the series that it touches; a series that
 * has nothing else in the select's time is left out. A tenant without deletes of that time pays one look. */
#include <stdlib.h>

#include "engine/select_private.h"

/* ---- bounds ---- */

/* Called for each series that is found, n so far. */
enum err_code select_check_bounds(const struct engine_select *sel, size_t n, struct err *err)
{
    const struct select_bounds *b = &sel->bounds;
    if (UNLIKELY(b->series_max && n > b->series_max))
        return err_set(err, ERR_LIMIT, "more than %zu series match", b->series_max);
    if (UNLIKELY(b->poll && n % SELECT_SERIES_PER_POLL == 0)) return b->poll(b->ctx, err);
    return ERR_OK;
}

/* ---- the head ---- */

size_t tenant_keep_overlapping(struct tenant *t, uint32_t flushed_gen, int64_t mint_ms,
                               int64_t maxt_ms, uint32_t *ids, size_t n)
{
    struct registry *reg = &t->registry;
    struct head_stripe *held = NULL;
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        struct series *s = series_by_id(reg, ids[i]);
        struct head_stripe *stripe = tenant_stripe(t, s);
        if (stripe != held) {
            if (held) lock_release(&held->lock);
            lock_take(&stripe->lock);
            held = stripe;
        }
        if (head_overlaps(s, flushed_gen, mint_ms, maxt_ms)) ids[kept++] = ids[i];
    }
    if (held) lock_release(&held->lock);
    return kept;
}

/* Items in the order of ids, and room for their labels. Under the registry's lock. */
static enum err_code add_head_items(struct engine_select *sel, const uint32_t *ids, size_t n,
                                    struct err *err)
{
    struct registry *reg = &sel->tenant->registry;
    size_t n_labels = 0, size;
    for (size_t i = 0; i < n; i++) n_labels += series_by_id(reg, ids[i])->n_pairs;
    sel->items = mem_calloc(MEM_QUERY, n, sizeof(*sel->items));
    if (!mem_mul(n_labels, sizeof(struct label), &size) || !sel->items ||
        !(sel->space = mem_alloc(MEM_QUERY, size)))
        return err_set(err, ERR_NO_MEMORY, "no memory for a select of %zu series", n);
    sel->n = n;
    struct label *space = sel->space;
    for (size_t i = 0; i < n; i++) {
        struct series *s = series_by_id(reg, ids[i]);
        sel->items[i].labels = space;
        sel->items[i].n_labels = s->n_pairs;
        sel->items[i].head = s;
        space += s->n_pairs;
    }
    return ERR_OK;
}

#define SPELL_AHEAD 64 /* neighbours are asked for next: one turn with the locks for all */

/* Writes the labels of item i and some more, of the head. */
static void spell_head(struct engine_select *sel, size_t i)
{
    struct registry *reg = &sel->tenant->registry;
    size_t end = MIN_OF(i + SPELL_AHEAD, sel->n);
    lock_take(&sel->lock);
    rwlock_read(&reg->lock);
    for (; i < end; i++) {
        struct select_item *item = &sel->items[i];
        if (!item->head || atomic_load_explicit(&item->spelled, memory_order_relaxed)) continue;
        (void)registry_labels(reg, item->head, item->labels);
        atomic_store_explicit(&item->spelled, true, memory_order_release);
    }
    rwlock_release(&reg->lock);
    lock_release(&sel->lock);
}

static struct labels item_labels(struct engine_select *sel, size_t i)
{
    struct select_item *item = &sel->items[i];
    if (!atomic_load_explicit(&item->spelled, memory_order_acquire)) {
        ASSERT(item->head != NULL); /* others: select_spell() */
        spell_head(sel, i);
    }
    return (struct labels){item->labels, item->n_labels};
}

enum err_code select_spell(struct engine_select *sel, size_t i, size_t n, struct err *err)
{
    enum err_code rc = ERR_OK;
    for (size_t end = i + n; i < end && !rc; i++) {
        struct select_item *item = &sel->items[i];
        if (item->head || atomic_load_explicit(&item->spelled, memory_order_relaxed)) continue;
        rc = select_spell_block_item(sel, item, err);
    }
    if (UNLIKELY(rc)) tenant_note_named(sel->tenant, sel->view->blocks, sel->view->n_blocks, err);
    return rc;
}

static enum err_code select_head(struct engine_select *sel, const struct matcher *matchers,
                                 size_t n_matchers, struct err *err)
{
    int64_t head_min_ms, head_max_ms;
    tenant_head_range(sel->tenant, &head_min_ms, &head_max_ms);
    if (head_min_ms > sel->maxt_ms || head_max_ms < sel->mint_ms) return ERR_OK;
    struct registry *reg = &sel->tenant->registry;
    struct arena scratch;
    uint32_t *ids = NULL;
    size_t n = 0;
    arena_init(&scratch, MEM_QUERY, 0);
    rwlock_read(&reg->lock);
    enum err_code rc = registry_select(reg, matchers, n_matchers, &scratch, &ids, &n, err);
    if (!rc)
        n = tenant_keep_overlapping(sel->tenant, sel->view->flushed_gen, sel->mint_ms, sel->maxt_ms,
                                    ids, n);
    if (!rc && n) rc = select_check_bounds(sel, n, err);
    if (!rc) rc = registry_sort(reg, ids, n, err);
    if (!rc) rc = add_head_items(sel, ids, n, err);
    rwlock_release(&reg->lock);
    arena_release(&scratch);
    return rc;
}

/* ---- what is deleted ---- */

struct survey {
    const struct engine_select *sel;
    const struct hidden *hidden;
    bool survives;          /* a sample is left for certain: the ends of a chunk are samples */
    int64_t from_ms, to_ms; /* around the chunks that may have one between their ends */
};

static void look_at_end(struct survey *y, int64_t t_ms)
{
    if (t_ms >= y->sel->mint_ms && t_ms <= y->sel->maxt_ms &&
        !ranges_have(y->hidden->ranges, y->hidden->n, t_ms))
        y->survives = true;
}

static enum err_code look_at_chunk(void *ctx, const struct chunk_meta *meta, struct err *err)
{
    struct survey *y = ctx;
    (void)err;
    int64_t from_ms = MAX_OF(meta->t_min_ms, y->sel->mint_ms);
    int64_t to_ms = MIN_OF(meta->t_max_ms, y->sel->maxt_ms);
    look_at_end(y, meta->t_min_ms);
    look_at_end(y, meta->t_max_ms);
    if (from_ms > to_ms || ranges_cover(y->hidden->ranges, y->hidden->n, from_ms, to_ms))
        return ERR_OK;
    y->from_ms = MIN_OF(y->from_ms, from_ms);
    y->to_ms = MAX_OF(y->to_ms, to_ms);
    return ERR_OK;
}

/* Is a sample of the item left? Chunks are read only where their ends do not tell. */
static enum err_code item_survives(const struct engine_select *sel, const struct select_item *item,
                                   const struct hidden *hidden, bool *survives, struct err *err)
{
    struct survey y = {sel, hidden, false, INT64_MAX, INT64_MIN};
    enum err_code rc = ERR_OK;
    *survives = false;
    if (ranges_cover(hidden->ranges, hidden->n, sel->mint_ms, sel->maxt_ms)) return ERR_OK;
    for (const struct series_ref *ref = item->first; !rc && !y.survives && ref; ref = ref->next)
        rc = block_metas(sel->view->blocks[ref->block], ref->id, sel->mint_ms, sel->maxt_ms,
                         look_at_chunk, &y, err);
    *survives = y.survives;
    if (rc || y.survives) return rc;
    if (item->head) { /* it tells less, and is short */
        y.from_ms = sel->mint_ms;
        y.to_ms = sel->maxt_ms;
    }
    if (y.from_ms > y.to_ms) return ERR_OK;
    struct arena arena;
    struct samples s;
    arena_init(&arena, MEM_QUERY, 0);
    samples_init(&s, MEM_QUERY, &arena);
    rc = select_read_versions(sel, item, NULL, y.from_ms, y.to_ms, &s, err);
    if (!rc) ranges_cut(&s, hidden->ranges, hidden->n);
    *survives = s.n > 0;
    samples_release(&s);
    arena_release(&arena);
    return rc;
}

/* Leaves out the items of which nothing is left, and notes what is hidden of the others. */
static enum err_code hide_deleted(struct engine_select *sel, const struct tombstone_set *set,
                                  struct err *err)
{
    struct hidden *hidden = ARENA_ARRAY(&sel->arena, struct hidden, MAX_OF(sel->n, (size_t)1));
    enum err_code rc = hidden ? ERR_OK : arena_fail(&sel->arena, err);
    size_t to = 0;
    bool any = false;
    for (size_t i = 0; !rc && i < sel->n; i++) {
        bool survives = true;
        hidden[to] = (struct hidden){NULL, 0};
        rc = tombstone_set_ranges(set, item_labels(sel, i), sel->mint_ms, sel->maxt_ms, &sel->arena,
                                  &hidden[to].ranges, &hidden[to].n, err);
        if (!rc && hidden[to].n)
            rc = item_survives(sel, &sel->items[i], &hidden[to], &survives, err);
        if (rc || !survives) continue;
        any |= hidden[to].n > 0;
        if (to != i) sel->items[to] = sel->items[i];
        to++;
    }
    if (!rc) sel->n = to;
    if (any) sel->hidden = hidden;
    return rc;
}

enum err_code tenant_select(struct tenant *t, const struct matcher *matchers, size_t n_matchers,
                            int64_t mint_ms, int64_t maxt_ms, struct engine_select **out,
                            struct err *err)
{
    static const struct select_bounds none = {0};
    return tenant_select_bounded(t, matchers, n_matchers, mint_ms, maxt_ms, &none, out, err);
}

/* Members of families decoded as a whole, of one select. */
#define FAMILIES_BYTES ((size_t)32 << 20)

/* Then there are few members of each family, and whole families are not worth it. */
static bool asks_for_buckets(const struct matcher *matchers, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (str_eq(matchers[i].name, STR("le"))) return true;
    return false;
}

enum err_code tenant_select_bounded(struct tenant *t, const struct matcher *matchers,
                                    size_t n_matchers, int64_t mint_ms, int64_t maxt_ms,
                                    const struct select_bounds *bounds, struct engine_select **out,
                                    struct err *err)
{
    *out = NULL;
    enum err_code rc = engine_admit(t->engine, ENGINE_QUERY, err);
    if (rc) return rc;
    struct engine_select *sel = mem_calloc(MEM_QUERY, 1, sizeof(*sel));
    if (!sel) return err_set(err, ERR_NO_MEMORY, "no memory for a select");
    sel->tenant = t;
    sel->mint_ms = mint_ms;
    sel->maxt_ms = maxt_ms;
    sel->bounds = *bounds;
    sel->families =
        asks_for_buckets(matchers, n_matchers) ? NULL : family_cache_new(FAMILIES_BYTES);
    arena_init(&sel->arena, MEM_QUERY, 0);
    lock_init(&sel->lock, LOCK_TENANT_GATE);
    struct tombstone_set *deleted = tombstones_take(&t->tombstones); /* before the view */
    /* The view first: what a flush moves out of the head after this is kept there for it. */
    sel->view = views_take(&t->views);
    rc = select_head(sel, matchers, n_matchers, err);
    if (!rc) rc = select_join_blocks(sel, matchers, n_matchers, err);
    bool hides = !rc && tombstone_set_overlaps(deleted, mint_ms, maxt_ms);
    if (!rc && (hides || !bounds->bare)) rc = select_spell(sel, 0, sel->n, err);
    if (!rc && hides) rc = hide_deleted(sel, deleted, err);
    tombstone_set_give(deleted);
    if (rc) {
        select_release(sel);
        return rc;
    }
    *out = sel;
    return ERR_OK;
}

size_t select_count(const struct engine_select *sel)
{
    return sel->n;
}

struct labels select_labels(const struct engine_select *sel, size_t i)
{
    ASSERT(i < sel->n);
    return item_labels((struct engine_select *)(uintptr_t)sel, i); /* what is written is a cache */
}

void select_release(struct engine_select *sel)
{
    if (!sel) return;
    family_cache_free(sel->families);
    select_tables_release(sel);
    views_give(&sel->tenant->views, sel->view);
    arena_release(&sel->arena);
    lock_destroy(&sel->lock);
    mem_free(sel->space);
    mem_free(sel->items);
    mem_free(sel);
}
