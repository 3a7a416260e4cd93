/* engine/quarantine.h: a tenant's blocks that are damaged, by name.
 *
 * Left out: the block is missing, or its identity or index of pages cannot be trusted, so nothing of it is served, and
 * answers about its time carry a warning that names it. Damaged: some pages are bad; each page has a checksum, so all
 * others are served as before, and what needs a bad one fails with an error that names it. Either is logged once, has a
 * metric, and is listed by /api/v1/status/tsdb. A start looks again: what has been repaired is served.
 * Threads: any; the lock is a leaf. */
#ifndef QUIPU_ENGINE_QUARANTINE_H
#define QUIPU_ENGINE_QUARANTINE_H

#include <stdatomic.h>

#include "base/lock.h"
#include "storage/block.h"

#define QUARANTINE_REASON_BYTES 256
/* Further ones are counted and logged, but not listed. */
#define QUARANTINE_BLOCKS_MAX 1000

struct quarantined {
    struct block_info info;
    bool left_out;
    int64_t found_ms;
    char reason[QUARANTINE_REASON_BYTES];
};
struct quarantine {
    struct lock lock; /* rank LOCK_LEAF; guards: */
    struct quarantined *items;
    size_t n, cap;
    _Atomic size_t n_left_out; /* relaxed: a hint that spares queries the lock */
};
void quarantine_init(struct quarantine *q);
void quarantine_release(struct quarantine *q);

struct tenant;
/* Notes a block that cannot be served. */
void tenant_leave_out(struct tenant *tenant, const struct block_info *info, const struct err *why);
/* Notes a block if `why` says that it is damaged; other failures say nothing about it. */
void tenant_note_damage(struct tenant *tenant, const struct block_info *info,
                        const struct err *why);
/* The same for those of the blocks that it names: its file, or its text, does. */
void tenant_note_named(struct tenant *tenant, struct block *const *blocks, size_t n,
                       const struct err *why);
/* Blocks that are no more. */
void tenant_forget_damage(struct tenant *tenant, const struct ulid *ulids, size_t n);
/* Blocks left out of which all is older than oldest_ms go from the catalog, and their files with them. Under the flush
 * lock. */
MUST_USE enum err_code tenant_retain_damaged(struct tenant *tenant, int64_t oldest_ms,
                                             struct err *err);

#endif
