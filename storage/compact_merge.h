/* storage/compact_merge.h: several blocks become one for each cell of time. Of samples of one series with one time that
 * of the source with the highest sequence is kept, but a staleness marker never replaces a value; all else is kept bit by
 * bit. What is held in memory is bounded: a few bits per series and source, and the samples of a slice of time of one
 * series, or of the series of one classic histogram, which are written together.
 * Threads: one per merge; sources may be read by others. */
#ifndef QUIPU_STORAGE_COMPACT_MERGE_H
#define QUIPU_STORAGE_COMPACT_MERGE_H

#include "storage/compact_plan.h"

struct compact_stats {
    uint64_t n_samples;    /* written */
    uint64_t n_duplicates; /* dropped: another sample of that time was kept */
    uint64_t bytes_before, bytes_after;
    size_t n_before, n_after; /* blocks */
};

/* Asked after every series or histogram; `done` of the work, 0 to 1, is done. An error ends the merge. */
typedef enum err_code compact_pause_fn(void *ctx, double done, struct err *err);

struct compact_range {
    int64_t from_ms, to_ms; /* inclusive */
};
/* Which ranges of a series are to be left out: ascending, disjoint, in the arena. The seam for deletions. */
typedef enum err_code compact_drop_fn(void *ctx, struct labels labels, struct arena *arena,
                                      struct compact_range **ranges, size_t *n, struct err *err);

struct compact_merge {
    const struct env *env;
    struct rng *rng;              /* for names of blocks */
    const char *dir;              /* where blocks are made */
    struct block *const *sources; /* ascending by sequence */
    size_t n_sources;
    struct compact_grid grid;
    uint64_t sequence, incarnation;
    uint64_t series_max;     /* of a block made: ERR_LIMIT, before anything is written */
    size_t slice_samples;    /* held in memory at a time; 0: 262,144, which are 4 MiB */
    compact_pause_fn *pause; /* NULL: none */
    void *pause_ctx;
    compact_drop_fn *drop; /* NULL: everything is kept */
    void *drop_ctx;
};

struct compact_outputs {
    struct block_info
        *items; /* of published blocks; may be none at all, if all samples were left out */
    size_t n, cap;
};
/* Writes and publishes the blocks. An error leaves none (or, if the disk does not even let it unlink them, blocks that
 * nobody knows). `out` is released by the caller in either case. */
MUST_USE enum err_code compact_merge(const struct compact_merge *config,
                                     struct compact_outputs *out, struct compact_stats *stats,
                                     struct err *err);
void compact_outputs_release(struct compact_outputs *out);

#endif
