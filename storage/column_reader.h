/* storage/column_reader.h: series after series of some blocks, as columns of floats. One pass from page to values: pages
 * stay pinned from one series to the next, a time column is decoded once for all series that share it, a family once
 * for all of its members, and nothing is copied on the way.
 * Threads: one at a time; several readers may share a family cache. */
#ifndef QUIPU_STORAGE_COLUMN_READER_H
#define QUIPU_STORAGE_COLUMN_READER_H

#include "storage/block.h"
#include "storage/family_cache.h"

struct column_reader;

/* The blocks must outlive the reader. families NULL: members are decoded one by one. */
MUST_USE enum err_code column_reader_new(struct block *const *blocks, size_t n_blocks,
                                         struct family_cache *families, struct column_reader **out,
                                         struct err *err);
void column_reader_free(struct column_reader *r); /* NULL: no-op */

/* A series of one of the blocks. */
struct column_place {
    uint32_t block, id;
};
/* Floats in time order. Valid until the next call. */
struct float_column {
    const int64_t *t_ms;
    const double *v;
    size_t n;
    uint64_t times_id; /* this reader's other columns with the same number have the same times */
};
/* The samples in [mint_ms, maxt_ms] of a series that is in several blocks, if it is as simple as that: *plain false when
 * there are histograms or start times, or times that do not rise from place to place. */
MUST_USE enum err_code column_reader_floats(struct column_reader *r,
                                            const struct column_place *places, size_t n_places,
                                            int64_t mint_ms, int64_t maxt_ms,
                                            struct float_column *out, bool *plain, struct err *err);
/* As column_reader_floats, but of the values only the first and the last are there, v[0] and v[n - 1]: chunks in between
 * are not read. *known false: that will not do, as a value may be NaN, or (rises) less than the one before. */
MUST_USE enum err_code column_reader_ends(struct column_reader *r,
                                          const struct column_place *places, size_t n_places,
                                          int64_t mint_ms, int64_t maxt_ms, bool rises,
                                          struct float_column *out, bool *known, struct err *err);
/* The newest sample in [mint_ms, maxt_ms], as far as statistics and times tell it without a look at values. */
struct newest_sample {
    bool known; /* false: read the samples */
    bool found; /* there is one; no staleness marker */
    int64_t t_ms;
    double v; /* if it was asked for */
};
MUST_USE enum err_code column_reader_newest(struct column_reader *r,
                                            const struct column_place *places, size_t n_places,
                                            int64_t mint_ms, int64_t maxt_ms, bool want_value,
                                            struct newest_sample *out, struct err *err);
/* As block_overlaps. */
MUST_USE enum err_code column_reader_overlaps(struct column_reader *r, struct column_place place,
                                              int64_t mint_ms, int64_t maxt_ms, bool *out,
                                              struct err *err);
/* As block_read. */
MUST_USE enum err_code column_reader_samples(struct column_reader *r, struct column_place place,
                                             int64_t mint_ms, int64_t maxt_ms, struct samples *out,
                                             struct err *err);

#endif
