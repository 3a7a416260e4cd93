/* engine/tenant.h: a tenant from inside: its registry, its part of the head, its views, and what is to be flushed.
 *
 * Log marks. The WAL is replayed from a tenant's flushed_pos on, so each series must be defined again behind it: a
 * series is logged before its first sample after every start and every cut (gen), and again after a failed log write
 * (wal_epoch), which may have lost its definition. mark = gen + wal_epoch; both only rise, so no two states share a mark.
 *
 * Held log. first_pos is at or below the position of the first record since the last cut, held_pos the same for
 * what is cut but not in blocks yet; the WAL must be kept from the lower one on. A reader of both reads first_pos
 * first, as a cut writes held_pos first. */
#ifndef QUIPU_ENGINE_TENANT_H
#define QUIPU_ENGINE_TENANT_H

#include "base/metric.h"
#include "engine/changes.h"
#include "engine/compact.h"
#include "engine/delete.h"
#include "engine/engine.h"
#include "engine/exemplars.h"
#include "engine/head.h"
#include "engine/quarantine.h"
#include "engine/rate.h"
#include "engine/tombstones.h"
#include "engine/view.h"

#define POS_NONE UINT64_MAX

/* Bounds of time; INT64_MAX, INT64_MIN: empty. Only ever widened by many threads at once. */
struct time_range {
    /* Widened relaxed, as they are read beside what they bound; cleared with release. */
    _Atomic int64_t min_ms, max_ms;
};

/* The newest cut, and an older one: series without a sample since a cut that is a window ago have ended. */
struct idle_mark {
    uint32_t gen;
    int64_t mono_ns;
};

/* TENANT_DOUBTFUL: whether its deletion reached the disk is not known. Only those alive take writes. */
enum tenant_state { TENANT_ALIVE, TENANT_DOUBTFUL, TENANT_DELETED };

struct tenant_metrics {
    struct metric *stored, *out_of_order, *duplicate, *overwritten, *series, *block_bytes,
        *rate_limited, *over_share;
    struct metric *blocks[COMPACT_LEVEL_MAX + 1]; /* by level */
};

struct tenant {
    struct engine *engine;
    char *name;
    char *blocks_dir;
    uint64_t incarnation;
    uint32_t stripe_salt;
    struct registry registry;
    struct rwlock
        gate;     /* rank LOCK_TENANT_GATE: writers share it; alone: to cut the head, to cull */
    uint32_t gen; /* of the head; changed with the gate alone, from 1 */

    struct lock flush_lock; /* rank LOCK_TENANT_FLUSH; guards what follows, and changes of views */
    uint64_t next_sequence, cut_pos; /* cut_pos: log position of the last cut */
    uint32_t swept_gen, culled_gen;
    struct idle_mark cut_mark, idle_mark;
    bool has_dir;
    int64_t retry_ns;      /* after a failed flush not before this */
    struct ulid *doubtful; /* files of blocks whose entry into the catalog failed, perhaps */
    size_t n_doubtful, doubtful_cap;
    struct block_info
        *recovered; /* blocks written while the WAL is replayed, not in the catalog yet */
    size_t n_recovered, recovered_cap;

    _Atomic int64_t retention_ms; /* of the configuration; relaxed, as the next */
    _Atomic uint64_t retention_bytes;
    struct rate rate;
    _Atomic uint64_t log_waiting; /* bytes of records that wait for the disk; relaxed */
    struct compact_memory compact;
    struct delete_memory deletes;
    struct tombstones tombstones;
    _Atomic uint32_t state; /* enum tenant_state; changed with the gate alone. relaxed */
    _Atomic uint32_t
        ghost_gen; /* series may be in the registry, of this generation or older, that have no
                                 * samples anywhere, since those were deleted; 0: none. relaxed */

    struct views views;
    struct changes changes;
    struct quarantine quarantine;
    _Atomic uint64_t first_pos, held_pos; /* see above; sequentially consistent */
    _Atomic int64_t first_arrival_ns; /* of the first write since the last cut; 0: none. relaxed */
    struct time_range range, old_range; /* of this generation, and of older ones in the head */
    _Atomic int64_t head_bytes, head_samples, head_chunks; /* relaxed */

    struct exemplars exemplars;
    struct lock metadata_lock;      /* rank LOCK_INTERN; guards metadata */
    struct metadata_seen *metadata; /* NULL until first used; see metadata.c */
    struct tenant_metrics metrics;
};

/* Of a catalog row. */
MUST_USE enum err_code tenant_new(struct engine *engine, const struct catalog_tenant *row,
                                  struct tenant **out, struct err *err);
void tenant_free(struct tenant *tenant); /* NULL: no-op. With its part of the head */
/* The folder's name under tenants/: safe on file systems that fold case. */
void tenant_encode_name(struct str name, uint64_t incarnation, struct buf *out);
/* Of a block's file, into `path`. */
MUST_USE enum err_code tenant_block_path(const struct tenant *tenant, const char *ulid, char *path,
                                         size_t size, struct err *err);

static inline uint32_t tenant_stripe_idx(const struct tenant *t, const struct series *s)
{
    return (s->id / HEAD_STRIPE_SERIES + t->stripe_salt) % HEAD_STRIPES;
}

void time_range_clear(struct time_range *range);
void time_range_add(struct time_range *range, int64_t min_ms, int64_t max_ms);
/* Of everything in the head. */
void tenant_head_range(struct tenant *tenant, int64_t *min_ms, int64_t *max_ms);
/* Adds a batch's changes to the tenant's counters and metrics. */
void tenant_count(struct tenant *tenant, const struct head_counts *counts);
/* ERR_SHUTDOWN: the tenant is deleted, or about to be. */
MUST_USE enum err_code tenant_gone(const struct tenant *tenant, struct err *err);
/* Position from which the WAL must be kept for the tenant; POS_NONE: nowhere. */
uint64_t tenant_held_pos(struct tenant *tenant);
void tenant_metadata_free(struct tenant *tenant);

/* ---- flush.c ---- */

/* The head to blocks; nothing to do is fine. recovering: the WAL is being replayed, so its blocks enter the catalog
 * at the end (tenant_flush_recovered). */
MUST_USE enum err_code tenant_flush(struct tenant *tenant, bool recovering, struct err *err);
/* After the replay: the blocks written during it enter the catalog with what is left in the head. */
MUST_USE enum err_code tenant_flush_recovered(struct tenant *tenant, struct err *err);
/* Frees chunks and series that nobody can see any more. */
void tenant_sweep(struct tenant *tenant);

/* ---- tenant_exemplars.c ---- */

/* Of the catalog's runs, before the log is replayed. A run that is damaged is told about and left out. */
MUST_USE enum err_code tenant_load_exemplars(struct tenant *tenant, struct err *err);
/* Under the flush lock. Applies the change, and in the same transaction those enter the catalog that it does not have
 * yet; all: they take the place of what it has. */
MUST_USE enum err_code tenant_apply_exemplars(struct tenant *tenant, bool all,
                                              struct catalog_change *change, struct err *err);
/* Those that are deleted leave memory and catalog. */
MUST_USE enum err_code tenant_purge_exemplars(struct tenant *tenant,
                                              const struct tombstone_set *deleted, struct err *err);

/* ---- block_swap.c; under the flush lock ---- */

/* Blocks whose entry into the catalog failed: their files stay until it is known whether it did. */
void tenant_doubt_blocks(struct tenant *tenant, const struct block_info *infos, size_t n);
/* Before blocks are written in vain: does the catalog take changes at all? Asked when the last one failed. */
MUST_USE enum err_code tenant_check_catalog(struct tenant *tenant, struct err *err);
struct block_swap {
    struct block *const *add; /* references pass to the view */
    const struct block_info *infos;
    size_t n_add;
    const struct ulid *remove;
    size_t n_remove;
};
/* In catalog and view. ERR_NOT_FOUND: one of `remove` is not in the view (any more). *in_doubt, with an error: the
 * catalog may know the new blocks, so their files must stay. */
MUST_USE enum err_code tenant_swap_blocks(struct tenant *tenant, const struct block_swap *swap,
                                          bool *in_doubt, struct err *err);

/* ---- retention.c ---- */

/* Takes over what the configuration says of the tenant. */
void tenant_apply_limits(struct tenant *tenant);
/* Removes blocks beyond retention. */
MUST_USE enum err_code tenant_retain(struct tenant *tenant, struct err *err);

#endif
