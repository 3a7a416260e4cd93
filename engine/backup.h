/* engine/backup.h: a moment of a running engine, as a data folder of its own.
 *
 * A snapshot is DATA/snapshots/NAME: the catalog, blocks (as links) and the log. Its moment is one for
 * everything: all that was acknowledged before is in it, nothing that was written after. The catalog is copied while it
 * cannot change, and the end of the log is noted before it can; the log is kept whole, and blocks of the copy have
 * their files, as long as it takes to give them second names. */
#ifndef QUIPU_ENGINE_BACKUP_H
#define QUIPU_ENGINE_BACKUP_H

#include "engine/engine.h"

struct engine_snapshot_report {
    char name[64];
    char dir[IO_PATH_BYTES];
    int64_t moment_ms;
    uint64_t log_pos; /* end of the log at the moment */
    uint64_t blocks, block_bytes, log_bytes;
    const char *archive; /* of the log, as configured; NULL: none. The engine's */
    uint64_t
        missing; /* blocks that the catalog knows and that have no file: left out, as by a start */
};
/* name: 1..63 of a-z A-Z 0-9 . - _, not beginning with a dot; empty: one is made of the time. ERR_EXISTS. */
MUST_USE enum err_code engine_snapshot(struct engine *engine, struct str name,
                                       struct engine_snapshot_report *report, struct err *err);
/* Removes one, also an unfinished one. None is fine. */
MUST_USE enum err_code engine_snapshot_remove(struct engine *engine, struct str name,
                                              struct err *err);

/* Samples of later times are gone, of all tenants: for a restore to a time where nobody knows when samples came. */
MUST_USE enum err_code engine_delete_after(struct engine *engine, int64_t t_ms, struct err *err);

/* Where a data folder has a tenant's blocks: "tenants/acme/blocks", appended to `out`. */
void backup_blocks_dir(struct str tenant, uint64_t incarnation, struct buf *out);

#endif
