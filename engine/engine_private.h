/* engine/engine_private.h: the engine from inside. */
#ifndef QUIPU_ENGINE_PRIVATE_H
#define QUIPU_ENGINE_PRIVATE_H

#include "base/open_files.h"
#include "engine/compact.h"
#include "engine/data_clock.h"
#include "engine/disk_room.h"
#include "engine/scrub.h"
#include "engine/tenant.h"

struct engine_metrics {
    struct metric *head_bytes, *flushes, *flush_failures, *quarantined, *unknown_series,
        *unknown_tenants;
    struct metric *exemplars, *exemplar_runs_bad;
    struct metric *wal_held_bytes, *archive_failures;
    struct metric *retention_blocks, *retention_bytes;
    struct metric *refused[2]; /* by enum engine_work */
    struct metric *memory_level;
    struct metric *tombstones, *tombstone_bytes, *tombstone_blocks;
    struct metric *clock_ahead, *open_files;
    struct metric_histogram *flush_seconds;
};

/* Of engine_config, what may change while running. relaxed */
struct engine_limits {
    _Atomic int64_t retention_ms, future_max_ms, flush_window_ms, scrub_interval_ms;
    _Atomic uint64_t retention_bytes, compact_rate, samples_rate, samples_burst;
    _Atomic bool compact;
    _Atomic size_t head_bytes_max, registry_bytes_max;
    _Atomic uint64_t series_max;
};

struct write_scratch; /* see write.c */

struct engine {
    struct env env;
    struct engine_config config; /* as opened; limits has what changes */
    struct engine_limits limits;
    char *data_dir;
    struct open_files *open_files; /* env.io above the one that was given */
    char *archive_dir;             /* of the log; NULL: none */
    struct file *lock_file;
    struct catalog *catalog;
    struct page_cache *cache;
    struct wal *wal;

    struct pressure pressure;
    struct disk_room room;
    struct exemplar_room exemplar_room;
    struct data_clock data_clock; /* by which retention goes */
    bool clock_jumped;            /* and it was told; under step_lock */
    struct cell_pool registry_pool;
    struct cell_pool head_pool;
    struct head_stripe stripes[HEAD_STRIPES];
    _Atomic uint64_t n_series;  /* of all tenants; relaxed */
    _Atomic int64_t head_bytes; /* relaxed */
    /* Failures of the log, raised before any later record's completion runs. acquire, release */
    _Atomic uint32_t wal_epoch;

    _Atomic uint64_t
        log_waiting; /* bytes of records that wait for the disk; relaxed, as the next */
    _Atomic int32_t n_log_waiting; /* tenants that have some */

    struct lock create_lock;    /* rank LOCK_ENGINE: one new tenant at a time */
    struct rwlock tenants_lock; /* rank LOCK_LEAF; guards the table: */
    struct tenant **tenants;    /* never removed */
    size_t n_tenants, tenants_cap;
    size_t n_hidden;              /* of them, those deleted */
    struct idmap tenants_by_name; /* tag of the name -> index + 1 */

    struct lock scratch_lock; /* rank LOCK_LEAF; guards scratch */
    struct write_scratch *scratch;
    struct lock rng_lock;  /* rank LOCK_LEAF; guards env.rng */
    struct lock fail_lock; /* rank LOCK_LEAF; guards failed and failure */
    bool failed;
    struct err failure; /* of the last flush */

    struct lock limits_lock; /* rank LOCK_LEAF; guards overrides */
    struct engine_override *overrides;
    size_t n_overrides;

    struct compactor compactor;
    struct scrubber scrubber;
    _Atomic uint32_t n_flushing; /* heads; relaxed */

    struct lock step_lock; /* rank LOCK_SERVER: one engine_step at a time; guards what follows */
    int64_t last_retain_ns, last_trim_ns;
    int64_t archive_retry_ns; /* after a failure not before this */
    size_t next_flush_idx;    /* the tenant to look at first: each has its turn */
    _Atomic bool
        more_due; /* heads that the last step left for the next; relaxed: a hint when to look */
    struct lock wake_lock; /* rank LOCK_LEAF; guards stopping, waked */
    struct cond wake;
    bool stopping, waked, has_thread;
    pthread_t thread;
    struct engine_metrics metrics;
};

static inline struct head_stripe *tenant_stripe(const struct tenant *t, const struct series *s)
{
    return &t->engine->stripes[tenant_stripe_idx(t, s)];
}
static inline uint32_t tenant_log_mark(const struct tenant *t, uint32_t wal_epoch)
{
    return t->gen + wal_epoch;
}

/* The i-th tenant, NULL behind the last. */
struct tenant *engine_tenant_at(struct engine *engine, size_t i);
MUST_USE enum err_code engine_add_tenant(struct engine *engine, const struct catalog_tenant *row,
                                         struct tenant **out, struct err *err);
/* One that is deleted: its name is free. */
void engine_hide_tenant(struct engine *engine, const struct tenant *tenant);
/* NULL: none. */
struct tenant *engine_find_tenant(struct engine *engine, struct str name);
/* Beyond it the largest heads are flushed, beyond twice as much writes are refused: by configuration, and by what the
 * registry leaves. */
size_t engine_head_bytes_max(struct engine *engine);
/* Has the head more than it may, by its own limit or by what memory there is? */
bool engine_head_over_budget(struct engine *engine);
/* The background thread looks sooner than its second is over. */
void engine_wake(struct engine *engine);
/* NULL: all is well again. */
void engine_note_failure(struct engine *engine, const struct err *failure);
/* retention.c: limits of single tenants, copied. */
void engine_set_overrides(struct engine *engine, const struct engine_override *overrides, size_t n);
void write_scratch_free_all(struct engine *engine);

/* select.c: leaves out series without samples in the range in the head's generations after flushed_gen; ids ascending, so
 * that neighbours share a stripe. Under the registry's lock. Returns how many are left. */
size_t tenant_keep_overlapping(struct tenant *tenant, uint32_t flushed_gen, int64_t mint_ms,
                               int64_t maxt_ms, uint32_t *ids, size_t n);
/* admit.c: records of a tenant that wait for the disk, uncompressed. */
void tenant_log_wait(struct tenant *tenant, uint64_t bytes);
void tenant_log_done(struct tenant *tenant, uint64_t bytes);
/* recover.c: blocks of the catalog, then the WAL. */
MUST_USE enum err_code engine_recover(struct engine *engine, struct err *err);

#endif
