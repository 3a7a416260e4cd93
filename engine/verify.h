/* engine/verify.h: is a data directory what was written? All of it: blocks, log, catalog, snapshots, and whether they go
 * together. Nothing is changed, so that a directory can be looked at before it is opened.
 * Findings come from several threads, one at a time. */
#ifndef QUIPU_ENGINE_VERIFY_H
#define QUIPU_ENGINE_VERIFY_H

#include "engine/engine.h"
#include "storage/verify.h"

struct verify_totals {
    uint64_t files, bytes; /* that were read */
    uint64_t blocks, samples, records, segments;
    uint64_t damaged, unreadable, notes; /* findings */
};
struct verify_options {
    size_t n_threads; /* 2; blocks at a time */
    verify_fn *fn;    /* may be NULL */
    /* Now and then, from any thread, one at a time: so far, and bytes in all. False: enough (ERR_CANCELED). May be NULL. */
    bool (*progress)(void *ctx, const struct verify_totals *so_far, uint64_t bytes_all);
    void *ctx; /* of both */
};

/* A directory that no server has open (ERR_BUSY), or one that never had a lock file. ERR_NOT_FOUND: it is not a data
 * directory. Otherwise an error is what keeps the check itself from going on: memory. */
MUST_USE enum err_code verify_data_dir(const struct env *env, const char *dir,
                                       const struct verify_options *options,
                                       struct verify_totals *report, struct err *err);
/* Files by name, of whatever is named: blocks, segments of a log, snapshots; others are left to the caller. A torn end is a
 * note in any segment: which one is the newest, the caller knows. */
struct verify_file {
    const char *path;
};
MUST_USE enum err_code verify_files(const struct env *env, const struct verify_file *files,
                                    size_t n, const struct verify_options *options,
                                    struct verify_totals *report, struct err *err);
/* All blocks of a tenant (NULL: of all) of a running engine, past its cache. What is found goes to quarantine, too. */
MUST_USE enum err_code engine_verify(struct engine *engine, struct tenant *tenant,
                                     const struct verify_options *options,
                                     struct verify_totals *report, struct err *err);

#endif
