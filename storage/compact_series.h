/* storage/compact_series.h: the series of several blocks as one list in label order, and which block has which of
 * them: one bit per block and series, and the number within the block by counting bits, as all of a block's series
 * are in the list. Private to compaction. Threads: its owner's. */
#ifndef QUIPU_STORAGE_COMPACT_SERIES_H
#define QUIPU_STORAGE_COMPACT_SERIES_H

#include "storage/block.h"

struct compact_presence {
    uint64_t *bits;
    uint32_t *before; /* bits set in front of every eighth word */
};
struct compact_series {
    struct block *const *blocks; /* borrowed */
    size_t n_blocks;
    uint32_t n; /* of the list */
    size_t cap; /* words of each presence */
    struct compact_presence *presence;
};

/* The next series of the list; labels are gone afterwards. */
typedef enum err_code compact_series_fn(void *ctx, struct labels labels, struct err *err);
/* Goes through the labels of all blocks. ERR_LIMIT: more than n_max series. */
MUST_USE enum err_code compact_series_init(struct compact_series *s, struct block *const *blocks,
                                           size_t n_blocks, uint64_t n_max, compact_series_fn *fn,
                                           void *ctx, struct err *err);
void compact_series_release(struct compact_series *s);
/* False: the block does not have the series. *id: its number there. */
bool compact_series_find(const struct compact_series *s, size_t block, uint32_t series,
                         uint32_t *id);

#endif
