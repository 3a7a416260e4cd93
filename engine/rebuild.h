/* engine/rebuild.h: makes catalog.sqlite anew, from the newest good snapshot (storage/catalog_snapshot.h) and from the
 * blocks that are there. The old one stays, as catalog.sqlite.damaged.
 *
 * Positions up to which tenants are flushed are the snapshot's, or 0: so more of the log is replayed than need be, which
 * changes nothing. Blocks that the snapshot does not know come in by their footers; a block whose footer is damaged
 * keeps the snapshot's row, and is left out at the next start by name. */
#ifndef QUIPU_ENGINE_REBUILD_H
#define QUIPU_ENGINE_REBUILD_H

#include "base/env.h"

enum rebuild_event {
    REBUILD_SNAPSHOT_BAD, /* a snapshot that could not be used */
    REBUILD_SNAPSHOT_NONE, /* so what blocks do not say is lost: metadata, names of tenants without blocks */
    REBUILD_TENANT_UNKNOWN, /* a folder whose tenant the snapshot did not know */
    REBUILD_BLOCK_ADDED,    /* that the snapshot did not know */
    REBUILD_BLOCK_DAMAGED,  /* cannot be opened */
    REBUILD_BLOCK_GONE,     /* the snapshot knows it, but there is no file: merged since, or lost */
    REBUILD_FILE_IGNORED
};
struct rebuild_finding {
    enum rebuild_event event;
    const char *file; /* or folder */
    const char *text;
};
struct rebuild_report {
    uint64_t generation; /* of the snapshot; 0: none */
    int64_t snapshot_ms;
    uint64_t tenants, blocks, samples;
    uint64_t added, damaged, gone, ignored;
};
typedef void rebuild_fn(void *ctx, const struct rebuild_finding *finding);
/* ERR_BUSY while somebody has the directory open. An error leaves the old catalog as it was. */
MUST_USE enum err_code catalog_rebuild(const struct env *env, const char *dir, rebuild_fn *fn,
                                       void *ctx, struct rebuild_report *report, struct err *err);

#endif
