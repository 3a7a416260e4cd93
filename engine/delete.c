/* engine/delete.c: see delete.h and engine.h.
 *
 * A delete is a row in the catalog, and then an entry of the tenant's set, which every read, flush and merge asks. It
 * needs no place in the log: it hides samples by series and time, whenever they were written.
 *
 * Forgetting is what takes care, since a sample that is left anywhere would return: a flush takes the head, with the
 * log below its cut; blocks that hold such samples are written again (whether one does is asked of its index and its
 * chunks, so no record of it can be lost); and with the gate alone, so that nothing is written meanwhile, the head must
 * have none that came since. Merges and flushes that began before the delete are over by then: the compactor's lock and
 * the flush lock were taken in between. */
#include "engine/delete.h"

#include "engine/engine_private.h"

#define CLEAN_TRIES 8
#define EXPIRE_SLACK_MS (INT64_C(3600) * 1000) /* clocks differ, and writes take a while */

/* ---- deleting ---- */

static enum err_code make_tombstone(struct tenant *t, const struct matcher_set *matchers,
                                    const struct catalog_tombstone *like, struct buf *encoded,
                                    struct tombstone **out, struct catalog_tombstone *row,
                                    struct err *err)
{
    tombstone_encode(matchers->items, matchers->n, encoded);
    enum err_code rc = buf_finish(encoded, err);
    *out = NULL;
    if (rc) return rc;
    *row = *like;
    row->matchers = buf_bytes(encoded);
    if (tombstones_cover(&t->tombstones, row->matchers, row->mint_ms, row->maxt_ms)) return ERR_OK;
    return tombstone_new(&t->engine->config.regex, row, out, err);
}

/* Under tombstones.change. */
static enum err_code enter(struct tenant *t, struct tombstone **items,
                           struct catalog_tombstone *rows, size_t n, struct err *err)
{
    struct tombstones *ts = &t->tombstones;
    struct tombstones_change change = {.add = items, .n_add = n};
    struct tombstone_set *set;
    size_t n_now = ts->set ? ts->set->n : 0;
    if (n_now + n > TOMBSTONES_MAX)
        return err_set(err, ERR_LIMIT,
                       "%zu deletes are not cleaned yet, at most %d: clean_tombstones forgets them",
                       n_now, TOMBSTONES_MAX);
    enum err_code rc = tombstones_prepare(ts, &change, &set, err);
    if (rc) return rc;
    rc = catalog_add_tombstones(t->engine->catalog, rows, n, err);
    if (rc) {
        tombstones_discard(set, &change);
        return rc;
    }
    for (size_t i = 0; i < n; i++) tombstone_set_id(items[i], rows[i].id);
    tombstones_publish(ts, set);
    return ERR_OK;
}

static enum err_code delete_sets(struct tenant *t, const struct matcher_set *sets, size_t n_sets,
                                 const struct catalog_tombstone *like, struct err *err)
{
    struct tombstone **items = mem_calloc(MEM_REGISTRY, n_sets, sizeof(struct tombstone *));
    struct catalog_tombstone *rows = mem_calloc(MEM_REGISTRY, n_sets, sizeof(*rows));
    struct buf *encoded = mem_calloc(MEM_REGISTRY, n_sets, sizeof(*encoded));
    enum err_code rc = ERR_OK;
    size_t n = 0;
    bool fine = items && rows && encoded;
    if (!fine) rc = err_set(err, ERR_NO_MEMORY, "no memory for a delete");
    for (size_t i = 0; fine && i < n_sets; i++) buf_init(&encoded[i], MEM_REGISTRY);
    lock_take(&t->tombstones.change);
    for (size_t i = 0; !rc && i < n_sets; i++) {
        rc = make_tombstone(t, &sets[i], like, &encoded[i], &items[n], &rows[n], err);
        n += items[n] != NULL;
    }
    if (!rc && n) rc = enter(t, items, rows, n, err);
    lock_release(&t->tombstones.change);
    for (size_t i = 0; rc && items && i < n; i++) tombstone_free(items[i]);
    for (size_t i = 0; fine && i < n_sets; i++) buf_release(&encoded[i]);
    mem_free(encoded);
    mem_free(rows);
    mem_free(items);
    return rc;
}

int64_t tenant_delete_until(struct tenant *t)
{
    struct engine *e = t->engine;
    int64_t head_min_ms, newest_ms;
    tenant_head_range(t, &head_min_ms, &newest_ms);
    newest_ms = MAX_OF(newest_ms, data_clock_ms(&e->data_clock));
    struct view *view = views_take(&t->views);
    for (size_t i = 0; i < view->n_blocks; i++)
        newest_ms = MAX_OF(newest_ms, block_info(view->blocks[i])->t_max_ms);
    views_give(&t->views, view);
    return MIN_OF(newest_ms, clock_wall_ms(e->env.clock));
}

enum err_code tenant_delete(struct tenant *t, const struct matcher_set *sets, size_t n_sets,
                            int64_t mint_ms, int64_t maxt_ms, struct err *err)
{
    struct engine *e = t->engine;
    int64_t until_ms = tenant_delete_until(t);
    struct catalog_tombstone like = {.incarnation = t->incarnation,
                                     .mint_ms = mint_ms,
                                     .maxt_ms = MIN_OF(maxt_ms, until_ms),
                                     .log_pos = wal_end_pos(e->wal),
                                     .created_ms = clock_wall_ms(e->env.clock)};
    if (like.mint_ms > like.maxt_ms || n_sets == 0) return ERR_OK;
    if (atomic_load(&t->state) != TENANT_ALIVE) return tenant_gone(t, err);
    enum err_code rc = delete_sets(t, sets, n_sets, &like, err);
    if (rc) return err_context(err, "deleting series of tenant %s", t->name);
    tenant_changed(t, like.mint_ms, like.maxt_ms);
    log_msg(e->env.log, LOG_INFO, "series deleted", LOG_STR("tenant", tenant_name(t)),
            LOG_U64("selectors", n_sets), LOG_I64("mint_ms", like.mint_ms),
            LOG_I64("maxt_ms", like.maxt_ms));
    return ERR_OK;
}

/* Of a select, those series that no earlier set has. */
static enum err_code preview_select(struct engine_select *sel, const struct matcher_set *earlier,
                                    size_t n_earlier, int64_t mint_ms, int64_t maxt_ms,
                                    struct tenant_delete_preview *out, struct err *err)
{
    struct arena arena;
    struct samples s;
    enum err_code rc = ERR_OK;
    arena_init(&arena, MEM_QUERY, 0);
    samples_init(&s, MEM_QUERY, &arena);
    for (size_t i = 0; !rc && i < select_count(sel); i++) {
        bool counted = false;
        for (size_t k = 0; !counted && k < n_earlier; k++)
            counted = matchers_match_labels(earlier[k].items, earlier[k].n, select_labels(sel, i));
        if (counted) continue;
        samples_reset(&s);
        arena_reset(&arena);
        rc = select_read(sel, i, mint_ms, maxt_ms, &s, err);
        out->series += s.n > 0;
        out->samples += s.n;
    }
    samples_release(&s);
    arena_release(&arena);
    return rc;
}

enum err_code tenant_delete_preview(struct tenant *t, const struct matcher_set *sets, size_t n_sets,
                                    int64_t mint_ms, int64_t maxt_ms,
                                    struct tenant_delete_preview *out, struct err *err)
{
    enum err_code rc = ERR_OK;
    *out = (struct tenant_delete_preview){0};
    int64_t until_ms = tenant_delete_until(t);
    maxt_ms = MIN_OF(maxt_ms, until_ms);
    for (size_t i = 0; !rc && mint_ms <= maxt_ms && i < n_sets; i++) {
        struct engine_select *sel;
        rc = tenant_select(t, sets[i].items, sets[i].n, mint_ms, maxt_ms, &sel, err);
        if (!rc) rc = preview_select(sel, sets, i, mint_ms, maxt_ms, out, err);
        select_release(sel);
    }
    return rc;
}

void tenant_tombstone_stats(struct tenant *t, struct tombstone_stats *out)
{
    const struct delete_memory *m = &t->deletes;
    *out = (struct tombstone_stats){
        .tombstones = atomic_load_explicit(&t->tombstones.n, memory_order_relaxed),
        .blocks_pending = atomic_load_explicit(&m->blocks_pending, memory_order_relaxed),
        .bytes_pending = atomic_load_explicit(&m->bytes_pending, memory_order_relaxed)};
}

static enum err_code load_tombstone(void *ctx, const struct catalog_tombstone *row, struct err *err)
{
    struct tenant *t = ctx;
    struct tombstone *item;
    struct tombstone_set *set = NULL;
    enum err_code rc = tombstone_new(&t->engine->config.regex, row, &item, err);
    if (rc) return rc;
    struct tombstones_change change = {.add = &item, .n_add = 1};
    rc = tombstones_prepare(&t->tombstones, &change, &set, err);
    if (rc)
        tombstone_free(item);
    else
        tombstones_publish(&t->tombstones, set);
    return rc;
}

enum err_code tenant_load_tombstones(struct tenant *t, struct err *err)
{
    lock_take(&t->tombstones.change);
    enum err_code rc =
        catalog_tombstones(t->engine->catalog, t->incarnation, load_tombstone, t, err);
    lock_release(&t->tombstones.change);
    return rc ? err_context(err, "deletes of tenant %s", t->name) : rc;
}

/* ---- which blocks hold what is deleted ---- */

void delete_memory_release(struct delete_memory *m)
{
    mem_free(m->marks);
    m->marks = NULL;
}

static enum err_code series_has(struct block *block, uint32_t id, const struct tombstone_view *v,
                                struct samples *s, bool *has, struct err *err)
{
    bool overlaps = false;
    enum err_code rc = block_overlaps(block, id, v->mint_ms, v->maxt_ms, &overlaps, err);
    if (rc || !overlaps) return rc;
    samples_reset(s);
    arena_reset(s->arena);
    rc = block_read(block, id, v->mint_ms, v->maxt_ms, s, err);
    *has = s->n > 0;
    return rc;
}

static enum err_code block_has(struct block *block, const struct tombstone_view *v, bool *has,
                               struct err *err)
{
    const struct block_info *info = block_info(block);
    *has = false;
    if (v->mint_ms > info->t_max_ms || v->maxt_ms < info->t_min_ms) return ERR_OK;
    struct arena scratch, histograms;
    struct samples s;
    uint32_t *ids = NULL;
    size_t n = 0;
    arena_init(&scratch, MEM_STORAGE, 0);
    arena_init(&histograms, MEM_STORAGE, 0);
    samples_init(&s, MEM_STORAGE, &histograms);
    enum err_code rc = block_select(block, v->matchers, v->n_matchers, &scratch, &ids, &n, err);
    for (size_t i = 0; !rc && !*has && i < n; i++) rc = series_has(block, ids[i], v, &s, has, err);
    samples_release(&s);
    arena_release(&histograms);
    arena_release(&scratch);
    return rc;
}

/* NULL: no memory. */
static struct delete_mark *mark_of(struct delete_memory *m, const struct block_info *info)
{
    for (size_t i = 0; i < m->n; i++)
        if (strcmp(m->marks[i].ulid.text, info->ulid.text) == 0) return &m->marks[i];
    struct err ignored; /* told by the caller */
    void *marks = m->marks;
    enum err_code rc =
        mem_grow(MEM_STORAGE, &marks, &m->cap, m->n + 1, sizeof(*m->marks), &ignored);
    m->marks = marks;
    if (rc) return NULL;
    m->marks[m->n] = (struct delete_mark){.ulid = info->ulid, .bytes = info->file_bytes};
    return &m->marks[m->n++];
}

static enum err_code check_block(struct tenant *t, const struct tombstone_set *set,
                                 struct block *block, struct delete_mark *mark, struct err *err)
{
    struct err why;
    enum err_code rc = ERR_OK;
    for (size_t i = 0; !rc && i < set->n; i++) {
        struct tombstone_view v = tombstone_view(set->items[i]);
        bool has = false;
        if (v.id <= mark->checked_id) continue;
        rc = block_has(block, &v, &has, &why);
        if (!has) continue;
        mark->since_ms = mark->pending ? MIN_OF(mark->since_ms, v.created_ms) : v.created_ms;
        mark->pending = true;
    }
    if (rc == ERR_NO_MEMORY) {
        *err = why;
        return rc;
    }
    mark->checked_id = MAX_OF(mark->checked_id, set->newest_id);
    if (!rc) return ERR_OK;
    mark->hopeless = mark->pending = true;
    log_msg(t->engine->env.log, LOG_ERROR, "a block cannot be searched for what is deleted",
            LOG_STR("tenant", tenant_name(t)), LOG_CSTR("block", mark->ulid.text), LOG_ERR(&why));
    return ERR_OK;
}

static void forget_absent(struct delete_memory *m)
{
    size_t to = 0;
    uint64_t blocks = 0, bytes = 0;
    for (size_t i = 0; i < m->n; i++) {
        if (!m->marks[i].there) continue;
        m->marks[to] = m->marks[i];
        if (m->marks[to].pending) {
            blocks++;
            bytes += m->marks[to].bytes;
        }
        to++;
    }
    m->n = to;
    atomic_store_explicit(&m->blocks_pending, blocks, memory_order_relaxed);
    atomic_store_explicit(&m->bytes_pending, bytes, memory_order_relaxed);
}

/* Brings the marks up to date with the view and the set (NULL: nothing is deleted). Under compactor.lock. */
static enum err_code survey(struct tenant *t, const struct tombstone_set *set, struct err *err)
{
    struct delete_memory *m = &t->deletes;
    enum err_code rc = ERR_OK;
    struct view *view = views_take(&t->views);
    for (size_t i = 0; i < m->n; i++) m->marks[i].there = false;
    for (size_t i = 0; !rc && set && i < view->n_blocks; i++) {
        struct delete_mark *mark = mark_of(m, block_info(view->blocks[i]));
        if (!mark) rc = err_set(err, ERR_NO_MEMORY, "no memory to look for deleted samples");
        if (!rc) rc = check_block(t, set, view->blocks[i], mark, err);
        if (!rc) mark->there = true;
    }
    m->view = view->number;
    m->newest_id = set ? set->newest_id : 0;
    if (!rc) forget_absent(m);
    views_give(&t->views, view);
    return rc;
}

/* Held; NULL: gone meanwhile. */
static struct block *find_block(struct tenant *t, const struct ulid *ulid)
{
    struct block *found = NULL;
    struct view *view = views_take(&t->views);
    for (size_t i = 0; !found && i < view->n_blocks; i++)
        if (strcmp(block_info(view->blocks[i])->ulid.text, ulid->text) == 0)
            found = block_ref(view->blocks[i]);
    views_give(&t->views, view);
    return found;
}

/* Writes one block again. */
static enum err_code rewrite(struct tenant *t, struct delete_mark *mark, bool gentle,
                             struct engine_clean_report *report, struct err *err)
{
    struct compact_stats stats = {0};
    struct block *block = find_block(t, &mark->ulid);
    if (!block) return ERR_OK;
    enum err_code rc = compactor_rewrite(t, block, gentle, &stats, &mark->hopeless, err);
    block_unref(block);
    if (rc) return rc;
    report->blocks++;
    report->bytes_before += stats.bytes_before;
    report->bytes_after += stats.bytes_after;
    return ERR_OK;
}

/* ---- in the background ---- */

static bool is_due(const struct tenant *t, const struct delete_mark *mark)
{
    struct engine *e = t->engine;
    return mark->pending && !mark->hopeless &&
           clock_wall_ms(e->env.clock) - mark->since_ms >= e->config.delete_rest_ms;
}

static bool is_known(struct tenant *t, const struct tombstone_set *set)
{
    struct view *view = views_take(&t->views);
    uint64_t number = view->number;
    views_give(&t->views, view);
    return t->deletes.view == number && t->deletes.newest_id == (set ? set->newest_id : 0);
}

static enum err_code tenant_step(struct tenant *t, bool *did, struct err *err)
{
    struct delete_memory *m = &t->deletes;
    struct tombstone_set *set = tombstones_take(&t->tombstones);
    enum err_code rc = ERR_OK;
    if ((set || m->n) && !is_known(t, set)) rc = survey(t, set, err);
    for (size_t i = 0; !rc && !*did && i < m->n; i++) {
        struct engine_clean_report report = {0};
        if (!is_due(t, &m->marks[i])) continue;
        rc = rewrite(t, &m->marks[i], true, &report, err);
        *did = !rc;
        if (m->marks[i].hopeless) rc = ERR_OK; /* logged; the others have their turn */
    }
    tombstone_set_give(set);
    return rc;
}

enum err_code deletes_step(struct engine *e, bool *did, struct err *err)
{
    struct tenant *t;
    enum err_code rc = ERR_OK;
    *did = false;
    for (size_t i = 0; !rc && !*did && (t = engine_tenant_at(e, i)) != NULL; i++)
        rc = tenant_step(t, did, err);
    return rc;
}

/* ---- forgetting ---- */

struct clean {
    struct tenant *t;
    struct tombstone_set *set; /* as it was when the call came: what is deleted later stays */
    struct engine_clean_report *report;
};

/* Writes again what holds deleted samples, one block a turn of the compactor's lock. */
static enum err_code rewrite_all(struct clean *c, struct err *err)
{
    struct compactor *compactor = &c->t->engine->compactor;
    struct delete_memory *m = &c->t->deletes;
    enum err_code rc = ERR_OK;
    bool more = true;
    while (!rc && more) {
        more = false;
        atomic_fetch_add_explicit(&compactor->n_waiting, 1, memory_order_relaxed);
        lock_take(&compactor->lock);
        atomic_fetch_sub_explicit(&compactor->n_waiting, 1, memory_order_relaxed);
        rc = survey(c->t, c->set, err);
        for (size_t i = 0; !rc && !more && i < m->n; i++) {
            if (!m->marks[i].pending) continue;
            rc = rewrite(c->t, &m->marks[i], false, c->report, err);
            more = true;
        }
        lock_release(&compactor->lock);
    }
    return rc;
}

/* Blocks that the catalog knows and the view does not: they were broken at the start, and may be mended one day. */
struct absent {
    const struct view *view;
    const struct tombstone_set *set; /* what they must not hold; NULL: just their earliest time */
    int64_t min_ms;
};

static enum err_code look_at_absent(void *ctx, const struct block_info *info, struct err *err)
{
    struct absent *a = ctx;
    for (size_t i = 0; i < a->view->n_blocks; i++)
        if (strcmp(block_info(a->view->blocks[i])->ulid.text, info->ulid.text) == 0) return ERR_OK;
    a->min_ms = MIN_OF(a->min_ms, info->t_min_ms);
    for (size_t i = 0; a->set && i < a->set->n; i++) {
        struct tombstone_view v = tombstone_view(a->set->items[i]);
        if (v.mint_ms <= info->t_max_ms && v.maxt_ms >= info->t_min_ms)
            return err_set(err, ERR_CORRUPT, "block %s is left out, and may hold deleted samples",
                           info->ulid.text);
    }
    return ERR_OK;
}

/* Under the flush lock: nobody replaces the view or the catalog's blocks. */
static enum err_code find_absent(struct tenant *t, struct absent *a, struct err *err)
{
    a->view = t->views.newest;
    a->min_ms = INT64_MAX;
    return catalog_blocks(t->engine->catalog, t->incarnation, look_at_absent, a, err);
}

/* Under compactor.lock and the flush lock: does no block hold what is deleted? */
static enum err_code blocks_are_clean(struct clean *c, bool *clean, struct err *err)
{
    struct absent absent = {.set = c->set};
    enum err_code rc = find_absent(c->t, &absent, err);
    if (!rc) rc = survey(c->t, c->set, err);
    *clean = !rc;
    for (size_t i = 0; *clean && i < c->t->deletes.n; i++) *clean = !c->t->deletes.marks[i].pending;
    return rc;
}

/* By chunk they have such samples, of which some may be gaps. Under the registry's lock. */
static enum err_code heads_have(struct tenant *t, const struct tombstone_view *v,
                                const uint32_t *ids, size_t n, bool *have, struct err *err)
{
    struct arena arena;
    struct samples s;
    enum err_code rc = ERR_OK;
    arena_init(&arena, MEM_HEAD, 0);
    samples_init(&s, MEM_HEAD, &arena);
    for (size_t i = 0; !rc && !*have && i < n; i++) {
        const struct series *series = series_by_id(&t->registry, ids[i]);
        samples_reset(&s);
        arena_reset(&arena);
        rc = head_read(tenant_stripe(t, series), series, t->views.newest->flushed_gen, UINT32_MAX,
                       v->mint_ms, v->maxt_ms, &s, err);
        *have = s.n > 0;
    }
    samples_release(&s);
    arena_release(&arena);
    return rc;
}

/* With the gate alone: does the head hold any? *ghosts: series without samples are still in the registry. */
static enum err_code head_is_clean(struct clean *c, bool *clean, bool *ghosts, struct err *err)
{
    struct tenant *t = c->t;
    struct registry *reg = &t->registry;
    struct arena arena;
    enum err_code rc = ERR_OK;
    arena_init(&arena, MEM_QUERY, 0);
    *clean = true;
    *ghosts = false;
    rwlock_read(&reg->lock);
    for (size_t i = 0; !rc && *clean && i < c->set->n; i++) {
        struct tombstone_view v = tombstone_view(c->set->items[i]);
        uint32_t *ids = NULL;
        size_t n = 0;
        arena_reset(&arena);
        rc = registry_select(reg, v.matchers, v.n_matchers, &arena, &ids, &n, err);
        if (rc) break;
        *ghosts |= n > 0;
        bool have = false;
        n = tenant_keep_overlapping(t, t->views.newest->flushed_gen, v.mint_ms, v.maxt_ms, ids, n);
        rc = heads_have(t, &v, ids, n, &have, err);
        *clean = !have;
    }
    rwlock_release(&reg->lock);
    arena_release(&arena);
    return rc;
}

/* With the flush lock, and the gate unless nothing can come any more. */
static enum err_code forget(struct tenant *t, const uint64_t *ids, size_t n, struct err *err)
{
    struct tombstones *ts = &t->tombstones;
    struct tombstones_change change = {.remove = ids, .n_remove = n};
    struct tombstone_set *set;
    lock_take(&ts->change);
    enum err_code rc = tombstones_prepare(ts, &change, &set, err);
    if (!rc) {
        rc = catalog_remove_tombstones(t->engine->catalog, t->incarnation, ids, n, err);
        if (rc)
            tombstones_discard(set, &change);
        else
            tombstones_publish(ts, set);
    }
    lock_release(&ts->change);
    return rc;
}

static enum err_code forget_all(struct clean *c, bool *done, struct err *err)
{
    struct tenant *t = c->t;
    bool clean = false, ghosts = false;
    uint64_t *ids = mem_calloc(MEM_REGISTRY, c->set->n, sizeof(*ids));
    if (!ids) return err_set(err, ERR_NO_MEMORY, "no memory to forget deletes");
    for (size_t i = 0; i < c->set->n; i++) ids[i] = tombstone_view(c->set->items[i]).id;
    lock_take(&t->engine->compactor.lock);
    lock_take(&t->flush_lock);
    enum err_code rc = blocks_are_clean(c, &clean, err);
    if (!rc && clean) {
        /* Writers wait for one transaction: what they write next may be of the deleted time, and is new. */
        rwlock_write(&t->gate);
        rc = head_is_clean(c, &clean, &ghosts, err);
        if (!rc && clean) rc = tenant_purge_exemplars(t, c->set, err);
        if (!rc && clean) rc = forget(t, ids, c->set->n, err);
        if (!rc && clean && ghosts) atomic_store(&t->ghost_gen, t->gen);
        rwlock_release(&t->gate);
    }
    *done = !rc && clean;
    lock_release(&t->flush_lock);
    lock_release(&t->engine->compactor.lock);
    mem_free(ids);
    return rc;
}

static enum err_code clean_tenant(struct clean *c, struct err *err)
{
    struct tenant *t = c->t;
    bool done = false;
    enum err_code rc = ERR_OK;
    lock_take(&t->engine->compactor.lock);
    for (size_t i = 0; i < t->deletes.n; i++) /* tried again */
        if (t->deletes.marks[i].hopeless)
            t->deletes.marks[i] = (struct delete_mark){.there = false};
    lock_release(&t->engine->compactor.lock);
    for (int i = 0; !rc && !done && i < CLEAN_TRIES; i++) {
        rc = tenant_flush(t, false, err);
        if (!rc) rc = rewrite_all(c, err);
        if (!rc) rc = forget_all(c, &done, err);
    }
    if (!rc && !done)
        rc = err_set(err, ERR_BUSY, "samples of what is deleted keep coming; it stays deleted");
    if (rc) return err_context(err, "cleaning tombstones of tenant %s", t->name);
    c->report->tombstones += c->set->n;
    log_msg(t->engine->env.log, LOG_INFO, "deletes cleaned", LOG_STR("tenant", tenant_name(t)),
            LOG_U64("tombstones", c->set->n), LOG_U64("blocks", c->report->blocks),
            LOG_U64("bytes_before", c->report->bytes_before),
            LOG_U64("bytes_after", c->report->bytes_after));
    return ERR_OK;
}

enum err_code engine_clean_tombstones(struct engine *e, struct tenant *tenant,
                                      struct engine_clean_report *report, struct err *err)
{
    enum err_code rc = ERR_OK;
    struct tenant *t = tenant;
    *report = (struct engine_clean_report){0};
    for (size_t i = 0; !rc && (tenant ? i == 0 : (t = engine_tenant_at(e, i)) != NULL); i++) {
        struct clean c = {t, tombstones_take(&t->tombstones), report};
        if (c.set) rc = clean_tenant(&c, err);
        tombstone_set_give(c.set);
    }
    return rc;
}

/* Is all of its time gone from blocks and head? Late samples of it are refused by then. */
static bool is_past(struct tenant *t, const struct tombstone_view *v, int64_t oldest_ms)
{
    int64_t head_min_ms, head_max_ms;
    if (v->maxt_ms >= oldest_ms) return false;
    tenant_head_range(t, &head_min_ms, &head_max_ms);
    if (head_min_ms <= v->maxt_ms) return false;
    const struct view *view = t->views.newest; /* under the flush lock nobody replaces it */
    for (size_t i = 0; i < view->n_blocks; i++)
        if (block_info(view->blocks[i])->t_min_ms <= v->maxt_ms) return false;
    return true;
}

static enum err_code expire(struct tenant *t, const struct tombstone_set *set, int64_t oldest_ms,
                            struct err *err)
{
    uint64_t *ids = mem_calloc(MEM_REGISTRY, set->n, sizeof(*ids));
    size_t n = 0;
    if (!ids) return err_set(err, ERR_NO_MEMORY, "no memory to forget deletes");
    lock_take(&t->flush_lock);
    for (size_t i = 0; i < set->n; i++) {
        struct tombstone_view v = tombstone_view(set->items[i]);
        if (is_past(t, &v, oldest_ms)) ids[n++] = v.id;
    }
    struct absent absent = {.set = NULL};
    enum err_code rc = n ? find_absent(t, &absent, err) : ERR_OK;
    if (n && absent.min_ms < oldest_ms) n = 0; /* it would bring back what it holds */
    if (!rc && n) rc = forget(t, ids, n, err);
    if (n) atomic_store(&t->ghost_gen, t->gen);
    lock_release(&t->flush_lock);
    mem_free(ids);
    return rc;
}

enum err_code tenant_expire_tombstones(struct tenant *t, struct err *err)
{
    int64_t retention_ms = atomic_load_explicit(&t->retention_ms, memory_order_relaxed);
    struct tombstone_set *set = retention_ms > 0 ? tombstones_take(&t->tombstones) : NULL;
    if (!set) return ERR_OK;
    int64_t oldest_ms = data_clock_ms(&t->engine->data_clock) - retention_ms - EXPIRE_SLACK_MS;
    enum err_code rc = expire(t, set, oldest_ms, err);
    tombstone_set_give(set);
    return rc;
}
