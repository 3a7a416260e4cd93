/* tools/backup_manifest.h: what a backup is made of, as JSON (docs/formats.md).
 *
 * DIR/blocks/<ulid>.block    blocks, shared by the backups in DIR: a block never changes, so it is copied once
 * DIR/<time>/manifest.json   written last: a folder without it is no backup, a folder <time>.tmp is not one yet
 * DIR/<time>/catalog.sqlite, DIR/<time>/wal/<index>.wal */
#ifndef QUIPU_TOOLS_BACKUP_MANIFEST_H
#define QUIPU_TOOLS_BACKUP_MANIFEST_H

#include "base/arena.h"
#include "base/io.h"
#include "tools/sha256.h"

#define MANIFEST_NAME "manifest.json"
#define MANIFEST_FORMAT 1
#define MANIFEST_BYTES_MAX ((size_t)256 << 20)
#define BACKUP_BLOCKS "blocks"

struct manifest_file {
    struct str path;   /* in the data folder: "catalog.sqlite", "tenants/acme/blocks/01….block" */
    struct str tenant; /* of a block; empty: of all */
    uint64_t incarnation;
    uint64_t bytes;
    char sha256[SHA256_HEX_BYTES];
    bool shared; /* a block, in DIR/blocks; else beside the manifest under its path */
};

struct manifest {
    int64_t moment_ms;
    uint64_t log_begin, log_end; /* positions */
    struct str source;           /* the server, or the data folder */
    struct manifest_file *files;
    size_t n, cap;
    struct str *missing; /* paths of blocks that the source had lost */
    size_t n_missing, missing_cap;
    struct arena arena; /* texts */
};

void manifest_init(struct manifest *m);
void manifest_release(struct manifest *m);
/* A copy of *file is kept, texts too. */
MUST_USE enum err_code manifest_add(struct manifest *m, const struct manifest_file *file,
                                    struct err *err);
MUST_USE enum err_code manifest_add_missing(struct manifest *m, struct str path, struct err *err);
/* The base name of a path. */
struct str manifest_file_name(const struct manifest_file *file);

/* Into `dir`/manifest.json: synced and renamed. */
MUST_USE enum err_code manifest_write(struct io *io, const char *dir, const struct manifest *m,
                                      struct err *err);
/* ERR_NOT_FOUND: no backup there. ERR_VERSION; ERR_CORRUPT names the file. Paths are checked: none leads out of a data
 * folder. */
MUST_USE enum err_code manifest_read(struct io *io, const char *dir, struct manifest *m,
                                     struct err *err);
/* For tests and a fuzzer. */
MUST_USE enum err_code manifest_parse(struct bytes text, struct manifest *m, struct err *err);

/* The name of a backup's folder, "20260102T030405.678Z". */
#define BACKUP_NAME_BYTES 32
void backup_name(int64_t moment_ms, char out[BACKUP_NAME_BYTES]);
bool backup_name_is(struct str name);

#endif
