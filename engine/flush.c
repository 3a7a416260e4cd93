/* engine/flush.c: the head to blocks, and the freeing of what nobody can see any more.
 *
 * A flush cuts: with the gate alone, the generation ends and the log position of the cut is taken, so that every
 * record below it has its samples in generations up to the one that ended. Those are written to blocks by the side
 * of the writers; the blocks and the position enter the catalog in one transaction; a new view shows the blocks
 * instead of the generations. Only then are the chunks freed, by tenant_sweep, when no select holds an older view.
 * A failure leaves everything in the head, and the next flush takes it along. */
#include "engine/engine_private.h"

#define WINDOW_MS (INT64_C(2) * 3600 * 1000) /* what compaction's first level works with */
#define SLOTS 4 /* the newest three windows, and slot 0 for all that is older */
#define RETRY_NS INT64_C(10000000000)
#define CULL_MAX 20000 /* series that end while the gate is held; then writers have their turn */

/* ---- writing ---- */

struct flush_slot {
    struct block_writer *writer; /* NULL: no sample fell into it (yet) */
    struct block_info info;
    struct block *block; /* when it is published */
};

struct flush {
    struct tenant *t;
    uint32_t gen_after, gen_last;
    uint64_t cut_pos;
    int64_t newest_window;
    struct flush_slot slots[SLOTS];
    uint32_t *ids; /* series with samples of these generations */
    size_t n_ids, ids_cap;
    bool failed;   /* collecting ran out of memory */
    bool in_doubt; /* whether the catalog knows the blocks */
    struct label *labels;
    size_t labels_cap;
    struct samples samples;
    struct arena arena;            /* histograms of one series, or of a part of its time */
    struct tombstone_set *deleted; /* NULL: nothing of the head's time */
    struct arena ranges;
    uint32_t series_ids
        [SLOTS]; /* of the current series in each slot's block; BLOCK_NO_SERIES: not yet */
};

static int64_t window_of(int64_t t_ms)
{
    return t_ms >= 0 ? t_ms / WINDOW_MS : -((-t_ms + WINDOW_MS - 1) / WINDOW_MS);
}

static size_t slot_of(const struct flush *f, int64_t t_ms)
{
    int64_t behind = f->newest_window - window_of(t_ms);
    if (behind < 0) return SLOTS - 1; /* a reader's bound ran late: no reason to lose it */
    return behind < SLOTS - 1 ? (size_t)(SLOTS - 1 - behind) : 0;
}

static enum err_code slot_open(struct flush *f, struct flush_slot *slot, struct err *err)
{
    struct tenant *t = f->t;
    struct engine *e = t->engine;
    int64_t now_ms = clock_wall_ms(e->env.clock);
    slot->info = (struct block_info){
        .incarnation = t->incarnation, .sequence = t->next_sequence++, .created_ms = now_ms};
    lock_take(&e->rng_lock);
    ulid_make(&slot->info.ulid, now_ms, e->env.rng);
    lock_release(&e->rng_lock);
    return block_writer_open(&e->env, t->blocks_dir, &slot->info, &slot->writer, err);
}

static struct labels labels_of(struct flush *f, const struct series *s)
{
    struct registry *reg = &f->t->registry;
    rwlock_read(&reg->lock);
    struct labels labels = registry_labels(reg, s, f->labels);
    rwlock_release(&reg->lock);
    return labels;
}

/* Samples [from, end) of one series, all in one slot. */
static enum err_code write_run(struct flush *f, size_t slot_idx, struct labels labels, size_t from,
                               size_t end, struct err *err)
{
    struct flush_slot *slot = &f->slots[slot_idx];
    uint32_t *id = &f->series_ids[slot_idx];
    enum err_code rc = slot->writer ? ERR_OK : slot_open(f, slot, err);
    if (!rc && *id == BLOCK_NO_SERIES) rc = block_writer_series(slot->writer, labels, id, err);
    if (!rc) rc = block_writer_samples(slot->writer, *id, &f->samples, from, end - from, err);
    return rc;
}

static enum err_code write_runs(struct flush *f, struct labels labels, struct err *err)
{
    enum err_code rc = ERR_OK;
    for (size_t from = 0, end; !rc && from < f->samples.n; from = end) {
        size_t slot = slot_of(f, f->samples.t_ms[from]);
        for (end = from + 1; end < f->samples.n; end++)
            if (slot_of(f, f->samples.t_ms[end]) != slot) break;
        rc = write_run(f, slot, labels, from, end, err);
    }
    return rc;
}

/* The last moment of the first part of a span that is too much at once: first what lies outside of the head's times, so
 * that halves are soon halves of the samples. */
static int64_t split_span(const struct flush *f, int64_t mint_ms, int64_t maxt_ms)
{
    int64_t lo = atomic_load(&f->t->old_range.min_ms), hi = atomic_load(&f->t->old_range.max_ms);
    if (mint_ms < lo && lo <= maxt_ms) return lo - 1;
    if (mint_ms <= hi && hi < maxt_ms) return hi;
    return (int64_t)((uint64_t)mint_ms + ((uint64_t)maxt_ms - (uint64_t)mint_ms) / 2);
}

/* What was deleted never becomes a block. */
static enum err_code drop_deleted(struct flush *f, struct labels labels, struct err *err)
{
    struct compact_range *ranges;
    size_t n;
    arena_reset(&f->ranges);
    enum err_code rc = tombstone_set_ranges(f->deleted, labels, INT64_MIN, INT64_MAX, &f->ranges,
                                            &ranges, &n, err);
    if (!rc) ranges_cut(&f->samples, ranges, n);
    return rc;
}

/* Decoded, wide histograms are a hundred times what they are in the head: so many samples at once as fit into the
 * budget, at least one. */
static enum err_code write_span(struct flush *f, const struct series *s, int64_t mint_ms,
                                int64_t maxt_ms, struct err *err)
{
    samples_reset(&f->samples);
    arena_reset(&f->arena);
    f->arena.budget_bytes = mint_ms < maxt_ms ? f->t->engine->config.work_bytes_max / 2 : 0;
    enum err_code rc = head_read(tenant_stripe(f->t, s), s, f->gen_after, f->gen_last, mint_ms,
                                 maxt_ms, &f->samples, err);
    if (rc == ERR_LIMIT && mint_ms < maxt_ms) {
        int64_t mid_ms = split_span(f, mint_ms, maxt_ms);
        rc = write_span(f, s, mint_ms, mid_ms, err);
        return rc ? rc : write_span(f, s, mid_ms + 1, maxt_ms, err);
    }
    if (rc || f->samples.n == 0) return rc;
    struct labels labels = labels_of(f, s);
    if (f->deleted) rc = drop_deleted(f, labels, err);
    return rc ? rc : write_runs(f, labels, err);
}

static enum err_code write_series(struct flush *f, const struct series *s, struct err *err)
{
    void *items = f->labels;
    enum err_code rc =
        mem_grow(MEM_HEAD, &items, &f->labels_cap, MAX_OF(s->n_pairs, 1), sizeof(*f->labels), err);
    f->labels = items;
    if (rc) return rc;
    for (size_t i = 0; i < SLOTS; i++) f->series_ids[i] = BLOCK_NO_SERIES;
    return write_span(f, s, INT64_MIN, INT64_MAX, err);
}

static void collect_series(void *ctx, struct series *s)
{
    struct flush *f = ctx;
    struct head_stripe *stripe = tenant_stripe(f->t, s);
    lock_take(&stripe->lock);
    bool has = head_overlaps(s, f->gen_after, INT64_MIN, INT64_MAX);
    lock_release(&stripe->lock);
    if (!has || f->failed) return;
    struct err ignored; /* told by flush_collect */
    void *ids = f->ids;
    f->failed =
        mem_grow(MEM_HEAD, &ids, &f->ids_cap, f->n_ids + 1, sizeof(*f->ids), &ignored) != ERR_OK;
    f->ids = ids;
    if (!f->failed) f->ids[f->n_ids++] = s->id;
}

static enum err_code flush_collect(struct flush *f, struct err *err)
{
    struct registry *reg = &f->t->registry;
    registry_each(reg, collect_series, f);
    if (f->failed) return err_set(err, ERR_NO_MEMORY, "no memory to list series");
    rwlock_read(&reg->lock);
    enum err_code rc = registry_sort(reg, f->ids, f->n_ids, err);
    rwlock_release(&reg->lock);
    return rc;
}

static enum err_code slot_finish(struct flush *f, struct flush_slot *slot, struct err *err)
{
    struct tenant *t = f->t;
    char path[IO_PATH_BYTES];
    enum err_code rc = block_writer_finish(slot->writer, &slot->info, err);
    block_writer_close(slot->writer);
    slot->writer = NULL;
    if (rc) return rc;
    rc = tenant_block_path(t, slot->info.ulid.text, path, sizeof(path), err);
    if (rc) return rc;
    rc = block_open(&t->engine->env, path, t->engine->cache, &slot->block, err);
    struct err ignored; /* a block that cannot be read is of no use; the samples are in the head */
    if (rc) err_ignore(io_unlink(t->engine->env.io, path, &ignored));
    return rc;
}

static enum err_code flush_write(struct flush *f, struct err *err)
{
    struct tenant *t = f->t;
    enum err_code rc = ERR_OK;
    if (!t->has_dir) {
        rc = io_mkdir_all(t->engine->env.io, t->blocks_dir, err);
        t->has_dir = rc == ERR_OK;
    }
    if (!rc) rc = flush_collect(f, err);
    for (size_t i = 0; !rc && i < f->n_ids; i++)
        rc = write_series(f, series_by_id(&t->registry, f->ids[i]), err);
    for (size_t i = 0; !rc && i < SLOTS; i++)
        if (f->slots[i].writer) rc = slot_finish(f, &f->slots[i], err);
    return rc;
}

/* ---- publishing ---- */

/* While the WAL is replayed: remembered for tenant_flush_recovered. */
static enum err_code remember_blocks(struct tenant *t, const struct block_info *infos, size_t n,
                                     struct err *err)
{
    void *items = t->recovered;
    enum err_code rc = mem_grow(MEM_HEAD, &items, &t->recovered_cap, t->n_recovered + n,
                                sizeof(*t->recovered), err);
    t->recovered = items;
    if (rc) return rc;
    if (n) memcpy(t->recovered + t->n_recovered, infos, n * sizeof(*infos));
    t->n_recovered += n;
    return ERR_OK;
}

static enum err_code enter_catalog(struct tenant *t, const struct block_info *infos, size_t n,
                                   uint64_t cut_pos, struct err *err)
{
    struct catalog_change change = {.incarnation = t->incarnation,
                                    .add = infos,
                                    .n_add = n,
                                    .set_flushed_pos = true,
                                    .flushed_pos = cut_pos};
    return tenant_apply_exemplars(t, false, &change, err);
}

static enum err_code flush_publish(struct flush *f, bool recovering, struct err *err)
{
    struct tenant *t = f->t;
    struct block *blocks[SLOTS];
    struct block_info infos[SLOTS];
    size_t n = 0;
    for (size_t i = 0; i < SLOTS; i++) {
        if (!f->slots[i].block) continue;
        blocks[n] = f->slots[i].block;
        infos[n++] = f->slots[i].info;
    }
    struct view_change change = {.add = blocks, .n_add = n, .flushed_gen = f->gen_last};
    struct view *view;
    enum err_code rc = views_prepare(&t->views, &change, &view, err);
    if (rc) return rc;
    if (recovering) {
        rc = remember_blocks(t, infos, n, err);
    } else {
        rc = enter_catalog(t, infos, n, f->cut_pos, err);
        f->in_doubt = rc != ERR_OK;
        if (rc) tenant_doubt_blocks(t, infos, n);
    }
    if (rc) {
        views_discard(view, &change);
        return rc;
    }
    views_publish(&t->views, view);
    for (size_t i = 0; i < SLOTS; i++) f->slots[i].block = NULL; /* the view's now */
    return ERR_OK;
}

static void flush_release(struct flush *f)
{
    for (size_t i = 0; i < SLOTS; i++) {
        block_writer_close(f->slots[i].writer);
        if (!f->slots[i].block) continue;
        if (!f->in_doubt) block_drop_file(f->slots[i].block);
        block_unref(f->slots[i].block);
    }
    mem_free(f->ids);
    mem_free(f->labels);
    samples_release(&f->samples);
    arena_release(&f->arena);
    arena_release(&f->ranges);
    tombstone_set_give(f->deleted);
}

/* ---- the cut ---- */

static void range_move(struct time_range *from, struct time_range *to)
{
    time_range_add(to, atomic_load(&from->min_ms), atomic_load(&from->max_ms));
    time_range_clear(from);
}

/* Ends the generation. False: nothing is to be flushed. Under the flush lock. While the log is replayed its end is
 * not known yet, and cut_pos says which records are skipped. */
static bool flush_cut(struct flush *f, bool recovering)
{
    struct tenant *t = f->t;
    struct engine *e = t->engine;
    rwlock_write(&t->gate);
    uint64_t first = atomic_load(&t->first_pos), held = atomic_load(&t->held_pos);
    bool any = first != POS_NONE || held != POS_NONE;
    if (any) {
        f->gen_last = t->gen++;
        if (!recovering) t->cut_pos = wal_end_pos(e->wal);
        atomic_store(&t->held_pos, MIN_OF(first, held));
        atomic_store(&t->first_pos, POS_NONE);
        atomic_store_explicit(&t->first_arrival_ns, 0, memory_order_relaxed);
        range_move(&t->range, &t->old_range);
        t->cut_mark = (struct idle_mark){f->gen_last, clock_mono_ns(e->env.clock)};
    }
    rwlock_release(&t->gate);
    f->cut_pos = t->cut_pos;
    return any;
}

static enum err_code flush_run(struct tenant *t, struct flush *f, bool recovering, struct err *err)
{
    f->gen_after = t->views.newest->flushed_gen;
    /* INT64_MIN: only requests that came to nothing */
    f->newest_window = window_of(MAX_OF(atomic_load(&t->old_range.max_ms), 0));
    samples_init(&f->samples, MEM_HEAD, &f->arena);
    arena_init(&f->arena, MEM_HEAD, 0);
    arena_init(&f->ranges, MEM_HEAD, 0);
    f->deleted = tombstones_take(&t->tombstones);
    if (!tombstone_set_overlaps(f->deleted, atomic_load(&t->old_range.min_ms),
                                atomic_load(&t->old_range.max_ms))) {
        tombstone_set_give(f->deleted);
        f->deleted = NULL;
    }
    enum err_code rc = tenant_check_catalog(t, err);
    if (!rc) rc = flush_write(f, err);
    if (!rc) rc = flush_publish(f, recovering, err);
    flush_release(f);
    if (!rc && !recovering) atomic_store(&t->held_pos, POS_NONE);
    return rc;
}

static void flush_report(struct tenant *t, const struct flush *f, enum err_code rc,
                         int64_t started_ns, const struct err *err)
{
    struct engine *e = t->engine;
    int64_t now_ns = clock_mono_ns(e->env.clock);
    if (rc) {
        metric_inc(e->metrics.flush_failures);
        (void)disk_room_note(&e->room, rc);
        t->retry_ns = now_ns + RETRY_NS;
        engine_note_failure(e, err);
        return;
    }
    double seconds = (double)(now_ns - started_ns) / 1e9;
    metric_inc(e->metrics.flushes);
    metric_observe(e->metrics.flush_seconds, seconds);
    t->retry_ns = 0;
    engine_note_failure(e, NULL);
    log_msg(e->env.log, LOG_INFO, "head flushed", LOG_STR("tenant", tenant_name(t)),
            LOG_U64("series", f->n_ids), LOG_U64("log_pos", f->cut_pos),
            LOG_DOUBLE("seconds", seconds));
}

/* Under the flush lock. */
static enum err_code flush_locked(struct tenant *t, bool recovering, struct err *err)
{
    struct flush f = {.t = t};
    int64_t started_ns = clock_mono_ns(t->engine->env.clock);
    if (!flush_cut(&f, recovering)) return ERR_OK;
    atomic_fetch_add_explicit(&t->engine->n_flushing, 1, memory_order_relaxed);
    enum err_code rc = flush_run(t, &f, recovering, err);
    atomic_fetch_sub_explicit(&t->engine->n_flushing, 1, memory_order_relaxed);
    if (rc) err_context(err, "flushing the head of tenant %s", t->name);
    flush_report(t, &f, rc, started_ns, err);
    return rc;
}

static void sweep_locked(struct tenant *t);

enum err_code tenant_flush(struct tenant *t, bool recovering, struct err *err)
{
    lock_take(&t->flush_lock);
    enum err_code rc = flush_locked(t, recovering, err);
    if (!rc) sweep_locked(t);
    lock_release(&t->flush_lock);
    return rc;
}

enum err_code tenant_flush_recovered(struct tenant *t, struct err *err)
{
    lock_take(&t->flush_lock);
    enum err_code rc = flush_locked(t, true, err);
    if (!rc) sweep_locked(t);
    /* The replay is over and the head empty: everything in the log so far is in these blocks. */
    if (!rc && t->n_recovered) {
        t->cut_pos = wal_end_pos(t->engine->wal);
        rc = enter_catalog(t, t->recovered, t->n_recovered, t->cut_pos, err);
        if (!rc) atomic_store(&t->held_pos, POS_NONE);
    }
    mem_free(t->recovered);
    t->recovered = NULL;
    t->n_recovered = t->recovered_cap = 0;
    lock_release(&t->flush_lock);
    return rc;
}

/* ---- sweeping: chunks, then series ---- */

struct sweep {
    struct tenant *t;
    uint32_t gen_last, idle_gen;
    size_t n_ended;
    struct head_counts counts;
};

static bool has_ended(void *ctx, struct series *s)
{
    const struct sweep *sweep = ctx;
    return head_is_empty(s) && s->last_gen <= sweep->idle_gen;
}

static void sweep_series(void *ctx, struct series *s)
{
    struct sweep *sweep = ctx;
    struct head_stripe *stripe = tenant_stripe(sweep->t, s);
    lock_take(&stripe->lock);
    if (!head_is_empty(s)) head_sweep(stripe, &sweep->counts, sweep->gen_last, s);
    if (has_ended(sweep, s)) sweep->n_ended++;
    lock_release(&stripe->lock);
}

/* Series without a sample since the cut before last, if that is a window ago; 0: none is known. */
static uint32_t idle_gen(struct tenant *t)
{
    int64_t now_ns = clock_mono_ns(t->engine->env.clock);
    int64_t window_ns =
        1000000 * atomic_load_explicit(&t->engine->limits.flush_window_ms, memory_order_relaxed);
    if (atomic_load_explicit(&t->state, memory_order_relaxed) == TENANT_DELETED)
        return t->gen - 1; /* all it has */
    if (t->cut_mark.gen && now_ns - t->cut_mark.mono_ns >= window_ns) return t->cut_mark.gen;
    if (t->idle_mark.gen && now_ns - t->idle_mark.mono_ns >= window_ns) {
        uint32_t gen = t->idle_mark.gen;
        t->idle_mark = t->cut_mark;
        return gen;
    }
    if (!t->idle_mark.gen) t->idle_mark = t->cut_mark;
    return 0;
}

/* Series that have ended leave the registry, some at a time, as writers wait meanwhile. */
static void cull(struct tenant *t, struct sweep *sweep)
{
    struct view_change change = {.flushed_gen = t->views.newest->flushed_gen};
    struct view *view;
    struct err ignored; /* they stay until there is memory */
    if (views_prepare(&t->views, &change, &view, &ignored)) return;
    size_t n;
    do {
        rwlock_write(&t->gate);
        n = registry_cull(&t->registry, has_ended, sweep, CULL_MAX, view->number - 1);
        rwlock_release(&t->gate);
    } while (n == CULL_MAX);
    views_publish(&t->views, view);
}

/* Series come with requests whose samples are all refused, too, for their time say, and no flush would ever mark those
 * as idle: so a tenant with series and no samples has its generations end as well, a window after another. */
static void cut_empty(struct tenant *t)
{
    struct engine *e = t->engine;
    int64_t now_ns = clock_mono_ns(e->env.clock);
    int64_t window_ns =
        1000000 * atomic_load_explicit(&e->limits.flush_window_ms, memory_order_relaxed);
    if (t->registry.loading || tenant_held_pos(t) != POS_NONE ||
        atomic_load_explicit(&t->registry.n_series, memory_order_relaxed) == 0 ||
        t->cut_mark.gen > t->culled_gen ||
        (t->cut_mark.gen && now_ns - t->cut_mark.mono_ns < window_ns))
        return;
    struct view_change change = {.flushed_gen = t->gen};
    struct view *view;
    struct err ignored; /* they stay until there is memory */
    if (views_prepare(&t->views, &change, &view, &ignored)) return;
    rwlock_write(&t->gate);
    bool still = tenant_held_pos(t) == POS_NONE;
    if (still) t->cut_mark = (struct idle_mark){t->gen++, now_ns};
    rwlock_release(&t->gate);
    if (still)
        views_publish(&t->views, view);
    else
        views_discard(view, &change);
}

static void sweep_locked(struct tenant *t)
{
    uint64_t oldest;
    cut_empty(t);
    struct sweep sweep = {.t = t, .idle_gen = idle_gen(t)};
    views_oldest(&t->views, &oldest, &sweep.gen_last);
    if (sweep.idle_gen <= t->culled_gen) sweep.idle_gen = 0; /* those have left already */
    if (sweep.gen_last > t->swept_gen || sweep.idle_gen) {
        registry_each(&t->registry, sweep_series, &sweep);
        tenant_count(t, &sweep.counts);
        t->swept_gen = sweep.gen_last;
        if (t->swept_gen == t->cut_mark.gen) time_range_clear(&t->old_range);
        if (sweep.n_ended && !t->registry.loading) cull(t, &sweep);
        if (sweep.idle_gen <= t->swept_gen) t->culled_gen = MAX_OF(t->culled_gen, sweep.idle_gen);
        if (t->culled_gen >= atomic_load(&t->ghost_gen)) atomic_store(&t->ghost_gen, 0);
        views_oldest(&t->views, &oldest, &sweep.gen_last);
    }
    registry_reclaim(&t->registry, oldest);
}

void tenant_sweep(struct tenant *t)
{
    lock_take(&t->flush_lock);
    sweep_locked(t);
    lock_release(&t->flush_lock);
}
