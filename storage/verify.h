/* storage/verify.h: is a file what was written? Each check reads all of a file past every cache and tells all that is wrong
 * with it, not the first thing alone. Only reads.
 * Threads: different files may be checked by different threads; `fn` is the caller's to guard. */
#ifndef QUIPU_STORAGE_VERIFY_H
#define QUIPU_STORAGE_VERIFY_H

#include "storage/block.h"
#include "storage/catalog.h"

enum verify_kind {
    VERIFY_DAMAGE,     /* bytes that are not what was written, or a file that is missing */
    VERIFY_UNREADABLE, /* the operating system refused: nothing is known of it */
    VERIFY_NOTE        /* no damage, but worth knowing: what a crash left behind */
};
struct verify_finding {
    enum verify_kind kind;
    const char *file;
    const char
        *section; /* "chunks", "footer", "page 7", "frame", ... ; "" when it is the whole file */
    bool has_off;
    uint64_t off; /* in the file */
    const char *text;
};
typedef void verify_fn(void *ctx, const struct verify_finding *finding);

/* A failure as a finding: damage, or unreadable, by its code. */
void verify_report(verify_fn *fn, void *ctx, const char *file, const char *section,
                   const struct err *err);

/* A block file: all checksums, order of series and samples, index and statistics against contents (block_verify), and
 * that it is the one that the catalog means. expected: NULL: any. One finding for each bad place.
 * *found: what the footer says; zeros when it could not be opened. Returns ERR_NO_MEMORY, or 0 whatever was found. */
MUST_USE enum err_code verify_block(const struct env *env, const char *path,
                                    const struct block_info *expected, struct block_info *found,
                                    verify_fn *fn, void *ctx, struct err *err);

/* The catalog's file and WAL: checksum of every page that counts, frames, and SQLite's integrity check through
 * storage/sqlite_vfs.h. */
MUST_USE enum err_code verify_catalog(const struct env *env, const char *dir, verify_fn *fn,
                                      void *ctx, struct err *err);
/* Snapshots of the catalog in `dir`, if any. */
MUST_USE enum err_code verify_snapshots(struct io *io, const char *dir, verify_fn *fn, void *ctx,
                                        struct err *err);

#endif
