/* storage/catalog_snapshot.h: all rows of the catalog in a file beside it, so that a damaged catalog can be made anew
 * (`quipu catalog rebuild`): the footers of blocks cannot give back tenants, metadata, tombstones and whatever else has a
 * table. All tables are kept by name, so that a new one needs nothing here.
 *
 * Two generations are kept, catalog.snapshot.0 and .1, each written under a temporary name, synced and renamed over the
 * older of the two. Written a second after a change at the latest, for blocks and log positions after a minute, and when
 * the catalog is closed.
 *
 * Snapshot, version 1. Little-endian; a str is a varint length, then the bytes.
 *   0 "QSNP"   4 u32 version   8 u64 length of the file
 *  16 varint generation (>= 1), zz(written_ms), varint version of the schema, varint number of tables, for each:
 *       str name, varint number of columns, a str each; varint number of rows, varint length of the rows, rows
 *     row: for each column u8 kind: 0 NULL; 1 zz(integer); 2 f64; 3 str text; 4 str blob
 *   last u32 crc32c of all before it */
#ifndef QUIPU_STORAGE_CATALOG_SNAPSHOT_H
#define QUIPU_STORAGE_CATALOG_SNAPSHOT_H

#include "base/arena.h"
#include "storage/catalog.h"

#define CATALOG_SNAPSHOT_FILES 2
/* "catalog.snapshot.0" and "catalog.snapshot.1" */
const char *catalog_snapshot_name(uint64_t generation);

struct snapshot_table {
    struct str name;
    struct str *columns;
    size_t n_columns;
    uint64_t n_rows;
    struct bytes rows; /* well-formed */
};
struct catalog_snapshot {
    uint64_t generation, schema_version;
    int64_t written_ms;
    struct snapshot_table *tables;
    size_t n_tables;
};
/* Everything of it is in the arena. ERR_CORRUPT, ERR_VERSION and ERR_NOT_FOUND name the file. */
MUST_USE enum err_code catalog_snapshot_read(struct io *io, const char *path, struct arena *arena,
                                             struct catalog_snapshot *out, struct err *err);
/* The newest good one of a folder; bad ones are reported. ERR_NOT_FOUND: there is none. */
typedef void catalog_snapshot_bad_fn(void *ctx, const struct err *problem);
MUST_USE enum err_code catalog_snapshot_newest(struct io *io, const char *dir, struct arena *arena,
                                               catalog_snapshot_bad_fn *bad, void *ctx,
                                               struct catalog_snapshot *out, struct err *err);
/* Decodes the bytes of one. The arena holds what `out` points to, and `bytes` must stay. */
MUST_USE enum err_code catalog_snapshot_decode(struct bytes bytes, struct arena *arena,
                                               struct catalog_snapshot *out, struct err *err);
/* Puts all rows into a fresh catalog. Tables and columns that this build does not know: ERR_VERSION. */
MUST_USE enum err_code catalog_snapshot_restore(struct catalog *catalog,
                                                const struct catalog_snapshot *snapshot,
                                                struct err *err);
/* A folder without a catalog, or with an empty one: is there something that one must have known? Then ERR_CORRUPT. */
MUST_USE enum err_code catalog_check_absent(struct io *io, const char *dir, struct err *err);

#endif
