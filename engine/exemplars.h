/* engine/exemplars.h: exemplars of a tenant: the newest ones, a bounded number of them, in a ring in memory, where queries
 * find them. The log has those that came since the last flush, the catalog has those before: each flush adds what is new
 * as one run, in the transaction that moves the log forward. A start reads the runs, then the log.
 *
 * Of a series they come in the order of their times. A repeated one changes nothing, which makes retries and replays
 * harmless; another one from before the newest is refused, as Prometheus does.
 *
 * Run, version 1. Little-endian; a str is a varint length, then the bytes:
 *   u8 version, varint number of series, for each a str: its encoded labels (storage/labels.h);
 *   varint number of exemplars (>= 1), for each: varint index of its series, zigzag t_ms - that of the one before (the
 *   first: 0), 8 bytes value, str: its encoded labels;  u32 crc32c of all before it
 *
 * Threads: any; one lock (rank LOCK_INTERN) guards all of it. */
#ifndef QUIPU_ENGINE_EXEMPLARS_H
#define QUIPU_ENGINE_EXEMPLARS_H

#include <stdatomic.h>

#include "base/lock.h"
#include "engine/engine.h"
#include "engine/tombstones.h"

/* Of all tenants together; relaxed. */
struct exemplar_room {
    _Atomic uint64_t max;     /* of one tenant; 0: none are kept */
    _Atomic size_t bytes_max; /* of all: a tenant that wants more gives up older ones of its own */
    _Atomic size_t bytes_used;
};

struct exemplar_series;
struct exemplar_entry;
struct exemplars {
    struct lock lock;
    struct exemplar_room *room;
    /* all that follows: GUARDED_BY(lock) */
    struct exemplar_series **table; /* by hash of the labels; chained */
    size_t n_series, table_cap;     /* a power of two, or 0 */
    struct exemplar_entry *ring;    /* entry number i at i % ring_cap */
    size_t ring_cap;                /* a power of two, or 0 */
    uint64_t first, next; /* numbers, from 1 on: the oldest one's, and what the next one gets */
    uint64_t saved;       /* the last number that the catalog has */
};

void exemplars_init(struct exemplars *ex, struct exemplar_room *room);
void exemplars_release(struct exemplars *ex);
/* None are left, in memory. */
void exemplars_clear(struct exemplars *ex);

enum exemplar_outcome {
    EXEMPLAR_STORED,
    EXEMPLAR_REPEATED,
    EXEMPLAR_OUT_OF_ORDER,
    EXEMPLAR_NO_ROOM, /* none are kept, or the others have all the memory */
    EXEMPLAR_OUTCOMES
};
struct encoded_exemplar {
    int64_t t_ms;
    double v;
    struct bytes labels; /* may be an empty set */
};
/* Both label sets are copied. */
enum exemplar_outcome exemplars_add(struct exemplars *ex, struct bytes series_labels,
                                    const struct encoded_exemplar *e);

/* What a flush writes. */
struct exemplar_run {
    uint64_t n;
    uint64_t last; /* number of the last one of it */
    int64_t max_ms;
};
/* Those that the catalog does not have yet (all: every one), as a run; nothing when there are none (n 0). */
MUST_USE enum err_code exemplars_encode(struct exemplars *ex, bool all, struct buf *out,
                                        struct exemplar_run *run, struct err *err);
/* The catalog has them now. */
void exemplars_saved(struct exemplars *ex, const struct exemplar_run *run);
/* Adds those of a run, as saved. ERR_CORRUPT: what came before the bad place was added. */
MUST_USE enum err_code exemplars_load(struct exemplars *ex, struct bytes run, struct err *err);
/* Takes those out that are deleted; *n: how many. They may still be in the catalog. */
MUST_USE enum err_code exemplars_purge(struct exemplars *ex, const struct tombstone_set *deleted,
                                       size_t *n, struct err *err);
/* See tenant_exemplars. `deleted` (may be NULL) are hidden. */
MUST_USE enum err_code exemplars_select(struct exemplars *ex, const struct matcher_set *sets,
                                        size_t n_sets, int64_t mint_ms, int64_t maxt_ms,
                                        const struct tombstone_set *deleted, struct arena *arena,
                                        struct series_exemplars **out, size_t *n, struct err *err);

#endif
