/* engine/engine.c: opening and closing, the table of tenants, background work. */
#include <stdlib.h>

#include "base/hash.h"
#include "engine/engine_private.h"
#include "wal/archive.h"
#include "wal/record.h"

#define STEP_NS INT64_C(1000000000)
#define RETAIN_NS (INT64_C(60) * 1000000000)
#define TRIM_NS INT64_C(1000000000)       /* the heap gives back what is free: at most so often, */
#define TRIM_CALM_NS INT64_C(15000000000) /* and so often while nobody is short of memory */
#define FLUSHES_PER_STEP 32
#define ARCHIVE_RETRY_NS INT64_C(10000000000)
#define PAUSE_NS INT64_C(100000000) /* then writers have the disk to themselves */
#define FLUSH_NS_PER_STEP INT64_C(500000000)
#define CACHE_SHRINK 8 /* under pressure the page cache is this many times smaller */

struct engine_config engine_config_default(const char *data_dir)
{
    return (struct engine_config){.data_dir = data_dir,
                                  .future_max_ms = INT64_C(10) * 60 * 1000,
                                  .flush_window_ms = INT64_C(30) * 60 * 1000,
                                  .head_bytes_max = (size_t)256 << 20,
                                  .page_cache_bytes = (size_t)64 << 20,
                                  .tenants_max = 10000,
                                  .open_files_max = 4096,
                                  .wal_sync = WAL_SYNC_ALWAYS,
                                  .wal_segment_bytes = UINT64_C(64) << 20,
                                  .wal_held_bytes_max = UINT64_C(256) << 20,
                                  .wal_queue_bytes_max = (size_t)64 << 20,
                                  .work_bytes_max = (size_t)256 << 20,
                                  .delete_rest_ms = INT64_C(5) * 60 * 1000,
                                  .exemplars_max = 100000,
                                  .exemplar_bytes_max = (size_t)32 << 20,
                                  .compact = true,
                                  .scrub_interval_ms = INT64_C(7) * 86400 * 1000};
}

void engine_reconfigure(struct engine *e, const struct engine_config *config)
{
    struct engine_limits *l = &e->limits;
    atomic_store_explicit(&l->retention_ms, config->retention_ms, memory_order_relaxed);
    atomic_store_explicit(&l->retention_bytes, config->retention_bytes, memory_order_relaxed);
    atomic_store_explicit(&l->samples_rate, config->samples_rate, memory_order_relaxed);
    atomic_store_explicit(&l->samples_burst, config->samples_burst, memory_order_relaxed);
    atomic_store_explicit(&l->compact, config->compact, memory_order_relaxed);
    atomic_store_explicit(&l->compact_rate, config->compact_rate, memory_order_relaxed);
    atomic_store_explicit(&l->scrub_interval_ms, config->scrub_interval_ms, memory_order_relaxed);
    atomic_store_explicit(&l->future_max_ms, config->future_max_ms, memory_order_relaxed);
    atomic_store_explicit(&l->flush_window_ms, config->flush_window_ms, memory_order_relaxed);
    atomic_store_explicit(&l->head_bytes_max, config->head_bytes_max, memory_order_relaxed);
    atomic_store_explicit(&l->registry_bytes_max, config->registry_bytes_max, memory_order_relaxed);
    atomic_store_explicit(&l->series_max, config->series_max, memory_order_relaxed);
    atomic_store_explicit(&e->exemplar_room.max, config->exemplars_max, memory_order_relaxed);
    atomic_store_explicit(&e->exemplar_room.bytes_max, config->exemplar_bytes_max,
                          memory_order_relaxed);
    engine_set_overrides(e, config->overrides, config->n_overrides);
}

/* ---- tenants ---- */

struct tenant *engine_tenant_at(struct engine *e, size_t i)
{
    rwlock_read(&e->tenants_lock);
    struct tenant *t = i < e->n_tenants ? e->tenants[i] : NULL;
    rwlock_release(&e->tenants_lock);
    return t;
}

static uint32_t name_tag(struct str name)
{
    uint64_t hash = hash_xxh3(name.p, name.len);
    return (uint32_t)(hash ^ hash >> 32);
}

struct tenant *engine_find_tenant(struct engine *e, struct str name)
{
    struct tenant *t = NULL;
    rwlock_read(&e->tenants_lock);
    struct idmap_cursor c = idmap_find(&e->tenants_by_name, name_tag(name));
    for (uint32_t id; !t && (id = idmap_next(&e->tenants_by_name, &c)) != 0;)
        if (str_eq(tenant_name(e->tenants[id - 1]), name)) t = e->tenants[id - 1];
    rwlock_release(&e->tenants_lock);
    return t;
}

enum err_code engine_add_tenant(struct engine *e, const struct catalog_tenant *row,
                                struct tenant **out, struct err *err)
{
    struct tenant *t;
    enum err_code rc = tenant_new(e, row, &t, err);
    if (rc) return rc;
    rwlock_write(&e->tenants_lock);
    void *items = e->tenants;
    rc = mem_grow(MEM_REGISTRY, &items, &e->tenants_cap, e->n_tenants + 1, sizeof(t), err);
    e->tenants = items;
    if (!rc && !idmap_reserve(&e->tenants_by_name))
        rc = err_set(err, ERR_NO_MEMORY, "no memory for a tenant");
    if (!rc) {
        e->tenants[e->n_tenants++] = t;
        idmap_insert(&e->tenants_by_name, name_tag(row->name), (uint32_t)e->n_tenants);
    }
    rwlock_release(&e->tenants_lock);
    if (rc) {
        tenant_free(t);
        return rc;
    }
    tenant_apply_limits(t); /* now that a change of the configuration finds it */
    *out = t;
    return ERR_OK;
}

void engine_hide_tenant(struct engine *e, const struct tenant *t)
{
    rwlock_write(&e->tenants_lock);
    for (size_t i = 0; i < e->n_tenants; i++) {
        if (e->tenants[i] != t) continue;
        idmap_remove(&e->tenants_by_name, name_tag(tenant_name(t)), (uint32_t)i + 1);
        e->n_hidden++;
    }
    rwlock_release(&e->tenants_lock);
}

/* An archive of the log has no catalog: what it says of a tenant's samples is of use only with the tenant. */
static enum err_code log_tenant(struct engine *e, const struct catalog_tenant *row, struct err *err)
{
    struct wal_tenant tenant = {row->incarnation, row->name, row->created_ms};
    struct buf payload;
    uint64_t pos;
    buf_init(&payload, MEM_WAL);
    wal_encode_tenant(&payload, &tenant);
    enum err_code rc = buf_finish(&payload, err);
    if (!rc) rc = wal_append(e->wal, WAL_TENANT, buf_bytes(&payload), NULL, NULL, &pos, err);
    buf_release(&payload);
    return rc;
}

/* Under create_lock. */
static enum err_code create_tenant(struct engine *e, struct str name, struct tenant **out,
                                   struct err *err)
{
    *out = engine_find_tenant(e, name);
    if (*out) return ERR_OK; /* somebody was faster */
    size_t n = e->n_tenants - e->n_hidden;
    if (n >= e->config.tenants_max)
        return err_set(err, ERR_LIMIT, "there are %zu tenants, at most %zu", n,
                       e->config.tenants_max);
    struct catalog_tenant row;
    enum err_code rc = catalog_tenant(e->catalog, name, clock_wall_ms(e->env.clock), &row, err);
    if (!rc) rc = log_tenant(e, &row, err); /* before anybody can write to it */
    if (rc) return disk_room_note(&e->room, rc);
    return engine_add_tenant(e, &row, out, err);
}

enum err_code engine_tenant(struct engine *e, struct str name, bool create, struct tenant **out,
                            struct err *err)
{
    enum err_code rc = tenant_name_check(name, err);
    if (rc) return rc;
    *out = engine_find_tenant(e, name);
    if (*out) return ERR_OK;
    if (!create) return err_set(err, ERR_NOT_FOUND, "no tenant %.*s", STR_ARG(name));
    lock_take(&e->create_lock);
    rc = create_tenant(e, name, out, err);
    lock_release(&e->create_lock);
    return rc;
}

/* ---- failures ---- */

void engine_note_failure(struct engine *e, const struct err *failure)
{
    lock_take(&e->fail_lock);
    e->failed = failure != NULL;
    if (failure) e->failure = *failure;
    lock_release(&e->fail_lock);
}

bool engine_failed(struct engine *e, struct err *why)
{
    if (disk_room_check(&e->room, why)) return true;
    if (wal_failed(e->wal, why)) return true;
    lock_take(&e->fail_lock);
    bool failed = e->failed;
    if (failed) *why = e->failure;
    lock_release(&e->fail_lock);
    return failed;
}

/* ---- memory ---- */

size_t engine_head_bytes_max(struct engine *e)
{
    size_t max = atomic_load_explicit(&e->limits.head_bytes_max, memory_order_relaxed);
    return pressure_head_max(&e->pressure, max);
}

static size_t head_bytes(struct engine *e)
{
    int64_t bytes = atomic_load_explicit(&e->head_bytes, memory_order_relaxed);
    return bytes > 0 ? (size_t)bytes : 0;
}

bool engine_head_over_budget(struct engine *e)
{
    size_t bytes = head_bytes(e);
    return bytes > engine_head_bytes_max(e) || (bytes > pressure_flush_min(&e->pressure) &&
                                                pressure_level(&e->pressure) >= PRESSURE_FLUSH);
}

/* Without threads nobody else looks whether there is space again. */
static enum err_code admit_disk(struct engine *e, struct err *err)
{
    if (!e->env.threads) (void)disk_room_step(&e->room);
    enum err_code rc = disk_room_check(&e->room, err);
    if (rc) metric_inc(e->room.refused);
    return rc;
}

static enum err_code admit_write(struct engine *e, struct err *err)
{
    if (UNLIKELY(disk_room_full(&e->room))) {
        enum err_code rc = admit_disk(e, err);
        if (rc) return rc;
    }
    size_t bytes = head_bytes(e), max = engine_head_bytes_max(e);
    enum pressure_level level = pressure_level(&e->pressure);
    if (LIKELY(bytes <= max && level == PRESSURE_NONE)) return ERR_OK;
    if (bytes > max || bytes > pressure_flush_min(&e->pressure)) engine_wake(e);
    if (bytes / 2 > max)
        return err_set(err, ERR_LIMIT,
                       "samples not yet in blocks take %zu bytes of memory, at most %zu", bytes,
                       max * 2);
    return pressure_check(&e->pressure, PRESSURE_WRITES, err);
}

enum err_code engine_admit(struct engine *e, enum engine_work work, struct err *err)
{
    enum err_code rc = work == ENGINE_WRITE ? admit_write(e, err)
                                            : pressure_check(&e->pressure, PRESSURE_WRITES, err);
    if (UNLIKELY(rc) && rc != ERR_NO_SPACE) metric_inc(e->metrics.refused[work]);
    return rc;
}

/* ---- background work ---- */

static bool flush_due(struct engine *e, struct tenant *t, int64_t now_ns)
{
    int64_t first_ns = atomic_load_explicit(&t->first_arrival_ns, memory_order_relaxed);
    int64_t window_ms = atomic_load_explicit(&e->limits.flush_window_ms, memory_order_relaxed);
    uint64_t held = tenant_held_pos(t);
    if (held == POS_NONE) return false;
    if (disk_room_full(&e->room))
        return true; /* blocks are smaller than the log that may go then */
    if (first_ns && now_ns - first_ns >= window_ms * 1000000) return true;
    if (atomic_load(&t->held_pos) != POS_NONE) return true; /* an earlier flush failed */
    return wal_bytes_from(e->wal, held) > e->config.wal_held_bytes_max;
}

static bool may_retry(struct tenant *t, int64_t now_ns)
{
    lock_take(&t->flush_lock);
    bool may = t->retry_ns <= now_ns;
    lock_release(&t->flush_lock);
    return may;
}

/* NULL: none has anything. */
static struct tenant *largest_head(struct engine *e, int64_t now_ns)
{
    struct tenant *largest = NULL, *t;
    int64_t most = 0;
    for (size_t i = 0; (t = engine_tenant_at(e, i)) != NULL; i++) {
        int64_t bytes = atomic_load_explicit(&t->head_bytes, memory_order_relaxed);
        if (bytes <= most || tenant_held_pos(t) == POS_NONE || !may_retry(t, now_ns)) continue;
        largest = t;
        most = bytes;
    }
    return largest;
}

/* The first error is returned, the rest is done all the same. */
static void keep_first(enum err_code *first, enum err_code rc, struct err *err,
                       const struct err *one)
{
    if (!rc || *first) return;
    *first = rc;
    *err = *one;
}

size_t engine_count_tenants(struct engine *e)
{
    rwlock_read(&e->tenants_lock);
    size_t n = e->n_tenants;
    rwlock_release(&e->tenants_lock);
    return n;
}

/* The largest heads while they are too large together. */
static enum err_code step_budget(struct engine *e, int64_t now_ns, struct err *err)
{
    enum err_code first = ERR_OK;
    struct err one;
    size_t n = engine_count_tenants(e);
    /* A select may keep what was flushed, so the largest may stay the largest: once each. */
    for (size_t i = 0; i < n && engine_head_over_budget(e); i++) {
        struct tenant *t = largest_head(e, now_ns);
        if (!t) break;
        keep_first(&first, tenant_flush(t, false, &one), err, &one);
        (void)pressure_level_now(&e->pressure);
    }
    return first;
}

/* Heads that are old or hold back the log. Many tenants come due together, and each flush syncs some files, for which
 * writers' own syncs wait: so a few in each step, beginning behind the last one. */
static enum err_code step_flushes(struct engine *e, int64_t now_ns, struct err *err)
{
    enum err_code first = ERR_OK;
    struct err one;
    size_t n = engine_count_tenants(e), next = e->next_flush_idx, n_left = FLUSHES_PER_STEP;
    int64_t end_ns = now_ns + FLUSH_NS_PER_STEP;
    bool more = false;
    for (size_t i = 0; i < n; i++) {
        size_t idx = (e->next_flush_idx + i) % n;
        struct tenant *t = engine_tenant_at(e, idx);
        bool due = flush_due(e, t, now_ns) && may_retry(t, now_ns);
        more |= due && n_left == 0;
        if (!due || n_left == 0) {
            tenant_sweep(t);
            continue;
        }
        keep_first(&first, tenant_flush(t, false, &one), err, &one);
        next = idx + 1;
        n_left--;
        if (clock_mono_ns(e->env.clock) >= end_ns) n_left = 0;
    }
    e->next_flush_idx = next;
    atomic_store_explicit(&e->more_due, more, memory_order_relaxed);
    return first;
}

/* What else can give way: cached pages, and what the heap keeps of freed memory. */
static void step_memory(struct engine *e, int64_t now_ns)
{
    enum pressure_level level = pressure_level_now(&e->pressure);
    bool short_of = level >= PRESSURE_FLUSH;
    metric_set(e->metrics.memory_level, (double)level);
    page_cache_set_max(e->cache, e->config.page_cache_bytes / (short_of ? CACHE_SHRINK : 1));
    /* Pages of the cache come in all sizes, so the holes between what stays become many; if they are much of the
     * process, they go back in calm times as well. */
    if (!short_of && !pressure_heap_is_loose(&e->pressure)) return;
    if (e->last_trim_ns && now_ns - e->last_trim_ns < (short_of ? TRIM_NS : TRIM_CALM_NS)) return;
    e->last_trim_ns = now_ns;
    mem_trim_heap();
}

static enum err_code step_retention(struct engine *e, int64_t now_ns, struct err *err)
{
    enum err_code first = ERR_OK;
    struct tenant *t;
    struct err one;
    if (e->last_retain_ns && now_ns - e->last_retain_ns < RETAIN_NS) return ERR_OK;
    e->last_retain_ns = now_ns;
    for (size_t i = 0; (t = engine_tenant_at(e, i)) != NULL; i++) {
        keep_first(&first, tenant_retain(t, &one), err, &one);
        keep_first(&first, tenant_expire_tombstones(t, &one), err, &one);
    }
    return first;
}

/* What is not in the archive yet stays in the log: *keep. On a full or broken archive the log grows. */
static enum err_code step_archive(struct engine *e, uint64_t *keep, struct err *err)
{
    uint64_t pos = 0;
    bool more = false;
    int64_t now_ns = clock_mono_ns(e->env.clock);
    if (!e->archive_dir) return ERR_OK;
    enum err_code rc = ERR_OK;
    if (e->archive_retry_ns <= now_ns) rc = wal_archive(e->wal, e->archive_dir, &pos, &more, err);
    *keep = MIN_OF(*keep, pos);
    e->archive_retry_ns = rc ? now_ns + ARCHIVE_RETRY_NS : MIN_OF(e->archive_retry_ns, now_ns);
    if (rc) metric_inc(e->metrics.archive_failures);
    return rc;
}

/* The end first: a writer that is behind it has told its position before. */
static enum err_code step_wal_cut(struct engine *e, struct err *err)
{
    uint64_t keep = wal_end_pos(e->wal);
    struct tenant *t;
    for (size_t i = 0; (t = engine_tenant_at(e, i)) != NULL; i++) {
        uint64_t held = tenant_held_pos(t);
        keep = MIN_OF(keep, held);
    }
    metric_set(e->metrics.wal_held_bytes, (double)wal_bytes_from(e->wal, keep));
    enum err_code rc = step_archive(e, &keep, err);
    if (rc) return rc;
    if (!wal_can_cut(e->wal, keep)) return ERR_OK;
    /* Before: a log that begins behind a tenant's position is how a start knows a catalog that went back in time. */
    rc = catalog_flushed_to(e->catalog, keep, err);
    if (!rc) rc = wal_cut(e->wal, keep, err);
    return disk_room_note(&e->room, rc);
}

/* A log that failed tries again, also if nobody writes: whoever asks /-/ready may send nothing before it says yes. */
static void step_disk(struct engine *e)
{
    struct err why;
    bool back = disk_room_step(&e->room);
    if (!wal_failed(e->wal, &why)) return;
    if (!back) (void)disk_room_note(&e->room, why.code); /* else it is from before */
    if (!disk_room_full(&e->room)) wal_retry(e->wal);
}

#define CLOCK_AHEAD_MS (INT64_C(3600) * 1000)

static void step_clock(struct engine *e)
{
    int64_t ahead_ms = data_clock_step(&e->data_clock);
    metric_set(e->metrics.clock_ahead, (double)ahead_ms / 1000);
    bool jumped = ahead_ms > CLOCK_AHEAD_MS;
    if (jumped && !e->clock_jumped)
        log_msg(e->env.log, LOG_WARN,
                "the clock is far ahead of the data: retention follows it by a day an hour",
                LOG_I64("ahead_seconds", ahead_ms / 1000));
    e->clock_jumped = jumped;
}

/* A tenant of that name is there again; the name's metrics are its own. */
static bool tenant_has_heir(struct tenant *t)
{
    return engine_find_tenant(t->engine, tenant_name(t)) != NULL;
}

static void step_metrics(struct engine *e)
{
    struct tenant *t;
    int64_t bytes = atomic_load_explicit(&e->head_bytes, memory_order_relaxed);
    struct tombstone_stats sum = {0}, deleted;
    metric_set(e->metrics.head_bytes, (double)bytes);
    metric_set(e->metrics.exemplars,
               (double)atomic_load_explicit(&e->exemplar_room.bytes_used, memory_order_relaxed));
    metric_set(e->metrics.open_files, (double)open_files_counts(e->open_files).n_open);
    for (size_t i = 0; (t = engine_tenant_at(e, i)) != NULL; i++) {
        struct tenant_stats stats;
        tenant_tombstone_stats(t, &deleted);
        sum.tombstones += deleted.tombstones;
        sum.blocks_pending += deleted.blocks_pending;
        sum.bytes_pending += deleted.bytes_pending;
        if (atomic_load(&t->state) == TENANT_DELETED && tenant_has_heir(t)) continue;
        tenant_stats(t, &stats);
        metric_set(t->metrics.series, (double)stats.series_active);
        for (size_t level = 0; level < TENANT_LEVELS; level++)
            metric_set(t->metrics.blocks[level], (double)stats.blocks_by_level[level]);
        metric_set(t->metrics.block_bytes, (double)stats.block_bytes);
    }
    metric_set(e->metrics.tombstones, (double)sum.tombstones);
    metric_set(e->metrics.tombstone_blocks, (double)sum.blocks_pending);
    metric_set(e->metrics.tombstone_bytes, (double)sum.bytes_pending);
}

enum err_code engine_step(struct engine *e, struct err *err)
{
    enum err_code first = ERR_OK;
    struct err one;
    lock_take(&e->step_lock);
    int64_t now_ns = clock_mono_ns(e->env.clock);
    step_clock(e);
    step_disk(e);
    keep_first(&first, step_budget(e, now_ns, &one), err, &one);
    keep_first(&first, step_flushes(e, now_ns, &one), err, &one);
    keep_first(&first, engine_resolve_doubts(e, &one), err, &one);
    keep_first(&first, step_retention(e, now_ns, &one), err, &one);
    keep_first(&first, step_wal_cut(e, &one), err, &one);
    catalog_keep(e->catalog, false);
    step_memory(e, now_ns);
    step_metrics(e);
    lock_release(&e->step_lock);
    if (!e->env.threads) keep_first(&first, compactor_step(e, &one), err, &one);
    return first;
}

enum err_code engine_commit(struct engine *e, struct err *err)
{
    return wal_commit(e->wal, err);
}

enum err_code engine_flush(struct engine *e, struct tenant *tenant, struct err *err)
{
    if (tenant) return tenant_flush(tenant, false, err);
    enum err_code first = ERR_OK;
    struct err one;
    struct tenant *t;
    for (size_t i = 0; (t = engine_tenant_at(e, i)) != NULL; i++)
        keep_first(&first, tenant_flush(t, false, &one), err, &one);
    return first;
}

void engine_wake(struct engine *e)
{
    if (!e->has_thread) return;
    lock_take(&e->wake_lock);
    e->waked = true;
    cond_signal(&e->wake);
    lock_release(&e->wake_lock);
}

static void *background(void *arg)
{
    struct engine *e = arg;
    lock_take(&e->wake_lock);
    while (!e->stopping) {
        bool more = atomic_load_explicit(&e->more_due, memory_order_relaxed);
        if (!e->waked) (void)cond_wait_for(&e->wake, &e->wake_lock, more ? PAUSE_NS : STEP_NS);
        e->waked = false;
        if (e->stopping) break;
        lock_release(&e->wake_lock);
        struct err err;
        if (engine_step(e, &err))
            log_msg(e->env.log, LOG_ERROR, "background work failed", LOG_ERR(&err));
        lock_take(&e->wake_lock);
    }
    lock_release(&e->wake_lock);
    return NULL;
}

static void background_stop(struct engine *e)
{
    if (!e->has_thread) return;
    lock_take(&e->wake_lock);
    e->stopping = true;
    cond_signal(&e->wake);
    lock_release(&e->wake_lock);
    pthread_join(e->thread, NULL);
    e->has_thread = false;
}

/* ---- open and close ---- */

static void metrics_open(struct engine *e)
{
    struct metrics *m = e->env.metrics;
    const char *refused = "Writes and queries refused for lack of memory.";
    e->metrics = (struct engine_metrics){
        .head_bytes = metric_gauge(m, "quipu_head_bytes",
                                   "Memory of samples that are not in blocks yet.", ""),
        .flushes = metric_counter(m, "quipu_flushes_total", "Heads written to blocks.", ""),
        .flush_failures = metric_counter(m, "quipu_flush_failures_total",
                                         "Heads that could not be written to blocks.", ""),
        .quarantined =
            metric_counter(m, "quipu_blocks_quarantined_total",
                           "Blocks of the catalog that were found missing or damaged.", ""),
        .unknown_series =
            metric_counter(m, "quipu_recovery_unknown_series_samples_total",
                           "Samples of the log whose series' definition is lost.", ""),
        .unknown_tenants = metric_counter(m, "quipu_recovery_unknown_tenant_records_total",
                                          "Records of the log of tenants that are no more.", ""),
        .exemplars =
            metric_gauge(m, "quipu_exemplar_bytes", "Exemplars of all tenants in memory.", ""),
        .exemplar_runs_bad =
            metric_counter(m, "quipu_exemplar_runs_damaged_total",
                           "Runs of exemplars in the catalog that were left out at the start.", ""),
        .wal_held_bytes = metric_gauge(m, "quipu_wal_held_bytes",
                                       "Log kept because its samples are not in blocks yet.", ""),
        .archive_failures =
            metric_counter(m, "quipu_wal_archive_failures_total",
                           "Times that segments of the log could not be archived.", ""),
        .retention_blocks = metric_counter(m, "quipu_retention_blocks_total",
                                           "Blocks removed as beyond retention.", ""),
        .retention_bytes = metric_counter(m, "quipu_retention_bytes_total",
                                          "Size of the blocks removed as beyond retention.", ""),
        .refused = {[ENGINE_WRITE] =
                        metric_counter(m, "quipu_memory_refused_total", refused, "work=\"write\""),
                    [ENGINE_QUERY] =
                        metric_counter(m, "quipu_memory_refused_total", refused, "work=\"query\"")},
        .memory_level = metric_gauge(
            m, "quipu_memory_pressure",
            "How near memory.limit is: 0 far, 1 heads are flushed early, 2 new series are "
            "refused, 3 writes and new queries, 4 running queries.",
            ""),
        .tombstones =
            metric_gauge(m, "quipu_tombstones", "Deletes of series that are not cleaned yet.", ""),
        .tombstone_blocks = metric_gauge(m, "quipu_tombstone_blocks_pending",
                                         "Blocks that still hold deleted samples.", ""),
        .tombstone_bytes = metric_gauge(
            m, "quipu_tombstone_bytes_pending",
            "Size of the blocks that still hold deleted samples, and will be written again.", ""),
        .open_files =
            metric_gauge(m, "quipu_block_files_open", "Files of blocks that are open now.", ""),
        .clock_ahead =
            metric_gauge(m, "quipu_clock_ahead_seconds",
                         "How far the clock is ahead of the time by which retention goes.", ""),
        .flush_seconds = metric_histogram(m, "quipu_flush_seconds", "Time of a flush of one head.",
                                          "", METRIC_SECONDS, METRIC_SECONDS_N)};
}

/* Everything that engine_free undoes without looking. */
static struct engine *engine_new(const struct env *env, const struct engine_config *config)
{
    struct engine *e = mem_calloc(MEM_BASE, 1, sizeof(*e));
    if (!e) return NULL;
    e->env = *env;
    e->config = *config;
    lock_init(&e->create_lock, LOCK_ENGINE);
    rwlock_init(&e->tenants_lock, LOCK_LEAF);
    lock_init(&e->scratch_lock, LOCK_LEAF);
    lock_init(&e->rng_lock, LOCK_LEAF);
    lock_init(&e->fail_lock, LOCK_LEAF);
    lock_init(&e->limits_lock, LOCK_LEAF);
    lock_init(&e->step_lock, LOCK_SERVER);
    lock_init(&e->wake_lock, LOCK_LEAF);
    cond_init(&e->wake);
    bool ok = cell_pool_init(&e->registry_pool, MEM_REGISTRY);
    ok = cell_pool_init(&e->head_pool, MEM_HEAD) && ok;
    for (size_t i = 0; i < HEAD_STRIPES; i++) {
        lock_init(&e->stripes[i].lock, LOCK_SHARD);
        e->stripes[i].pool = &e->head_pool;
    }
    e->open_files = open_files_new(env->io, config->open_files_max);
    if (e->open_files) e->env.io = open_files_io(e->open_files);
    e->data_dir = mem_strdup(MEM_BASE, config->data_dir);
    e->config.data_dir = e->data_dir;
    if (config->wal_archive && *config->wal_archive)
        ok = (e->archive_dir = mem_strdup(MEM_BASE, config->wal_archive)) != NULL && ok;
    e->config.wal_archive = e->archive_dir;
    e->config.overrides = NULL; /* the caller's */
    engine_reconfigure(e, config);
    pressure_init(&e->pressure, &config->memory, env->clock);
    disk_room_init(&e->room, &e->env, e->data_dir, config->reserve_bytes_max);
    data_clock_start(&e->data_clock, env->clock, INT64_MIN);
    compactor_init(&e->compactor, env);
    scrubber_init(&e->scrubber, env);
    metrics_open(e);
    ok = ok && e->n_overrides == config->n_overrides; /* else there was no memory for them */
    if (ok && e->data_dir && e->open_files) return e;
    struct err ignored; /* the caller says what */
    err_ignore(engine_close(e, false, &ignored));
    return NULL;
}

static void engine_free(struct engine *e)
{
    wal_close(e->wal); /* completions run here for the last time */
    for (size_t i = 0; i < e->n_tenants; i++) tenant_free(e->tenants[i]);
    mem_free(e->tenants);
    idmap_release(&e->tenants_by_name);
    write_scratch_free_all(e);
    if (e->cache) page_cache_free(e->cache);
    catalog_close(e->catalog);
    file_close(e->lock_file);
    open_files_free(e->open_files);
    for (size_t i = 0; i < HEAD_STRIPES; i++) lock_destroy(&e->stripes[i].lock);
    cell_pool_release(&e->head_pool);
    cell_pool_release(&e->registry_pool);
    lock_destroy(&e->create_lock);
    rwlock_destroy(&e->tenants_lock);
    lock_destroy(&e->scratch_lock);
    lock_destroy(&e->rng_lock);
    lock_destroy(&e->fail_lock);
    lock_destroy(&e->limits_lock);
    mem_free(e->overrides);
    compactor_release(&e->compactor);
    disk_room_release(&e->room);
    scrubber_release(&e->scrubber);
    lock_destroy(&e->step_lock);
    lock_destroy(&e->wake_lock);
    cond_destroy(&e->wake);
    mem_free(e->data_dir);
    mem_free(e->archive_dir);
    mem_free(e);
}

static enum err_code open_lock_file(struct engine *e, struct err *err)
{
    char path[IO_PATH_BYTES];
    enum err_code rc = io_mkdir_all(e->env.io, e->data_dir, err);
    if (!rc) rc = io_path(path, sizeof(path), err, e->data_dir, "LOCK");
    if (!rc) rc = io_open(e->env.io, path, IO_READ | IO_WRITE | IO_CREATE, &e->lock_file, err);
    if (!rc) rc = file_lock(e->lock_file, err);
    return rc == ERR_BUSY ? err_context(err, "another process has %s open", e->data_dir) : rc;
}

static enum err_code max_flushed_pos(void *ctx, const struct catalog_tenant *row, struct err *err)
{
    uint64_t *max = ctx;
    (void)err;
    *max = MAX_OF(*max, row->flushed_pos);
    return ERR_OK;
}

/* Definitions that the log knew may be lost: every series is logged again. */
static void log_lost(void *ctx)
{
    struct engine *e = ctx;
    struct err why;
    atomic_fetch_add_explicit(&e->wal_epoch, 1, memory_order_acq_rel);
    if (wal_failed(e->wal, &why)) (void)disk_room_note(&e->room, why.code);
}

static enum err_code open_wal(struct engine *e, struct err *err)
{
    char path[IO_PATH_BYTES];
    enum err_code rc = io_path(path, sizeof(path), err, e->data_dir, "wal");
    if (rc) return rc;
    struct wal_config config = wal_config_default(path);
    config.sync = e->config.wal_sync;
    config.segment_bytes = e->config.wal_segment_bytes;
    config.queue_bytes_max = e->config.wal_queue_bytes_max;
    config.time_marks = true;
    config.lost = log_lost;
    config.lost_ctx = e;
    /* Were the log lost, records at positions that the catalog calls flushed would be skipped one day. */
    rc = catalog_tenants(e->catalog, max_flushed_pos, &config.min_pos, err);
    if (rc) return rc;
    return wal_open(&e->env, &config, &e->wal, err);
}

enum err_code engine_open(const struct env *env, const struct engine_config *config,
                          struct engine **out, struct err *err)
{
    *out = NULL;
    struct engine *e = engine_new(env, config);
    if (!e) return err_set(err, ERR_NO_MEMORY, "no memory for the engine");
    enum err_code rc = open_lock_file(e, err);
    if (!rc) disk_room_open(&e->room);
    if (!rc) rc = catalog_open(&e->env, e->data_dir, &e->catalog, err);
    if (!rc) rc = page_cache_new(&e->env, config->page_cache_bytes, &e->cache, err);
    if (!rc) rc = open_wal(e, err);
    if (!rc) rc = engine_recover(e, err);
    if (!rc && env->threads) {
        int failed = pthread_create(&e->thread, NULL, background, e);
        if (failed) rc = err_set_errno(err, failed, "the engine's thread");
        e->has_thread = !failed;
    }
    if (!rc) rc = compactor_start(e, err);
    if (!rc) rc = scrubber_start(e, err);
    if (rc) {
        scrubber_stop(e);
        compactor_stop(e);
        background_stop(e);
        engine_free(e);
        return err_context(err, "opening %s", config->data_dir);
    }
    *out = e;
    return ERR_OK;
}

enum err_code engine_close(struct engine *e, bool flush, struct err *err)
{
    scrubber_stop(e);
    compactor_stop(e);
    background_stop(e);
    enum err_code rc = flush ? engine_flush(e, NULL, err) : ERR_OK;
    if (!rc && flush) rc = step_wal_cut(e, err);
    if (e->catalog) catalog_keep(e->catalog, true);
    engine_free(e);
    return rc;
}
