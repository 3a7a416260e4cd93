/* storage/block_index.h: the labels of a block while it is written: which series have which, and the sections of the
 * index made of that at the end (labels, values, names, postings). Kept in compact form, 5-10 bytes a series.
 * Private to storage. Threads: its owner's. */
#ifndef QUIPU_STORAGE_BLOCK_INDEX_H
#define QUIPU_STORAGE_BLOCK_INDEX_H

#include "storage/block_layout.h"
#include "storage/symbols.h"

struct block_index {
    struct symbols symbols;
    struct pair_list pairs; /* of the series declared last, as numbered by symbols */
    struct label *labels;   /* its labels, texts in symbols; sorted */
    size_t n_labels, labels_cap;
    struct buf lists; /* per series: varint shared, varint more, varint pair each */
    uint32_t n_series;
};

void block_index_init(struct block_index *x);
void block_index_release(struct block_index *x);
/* The next series: sorts after the one before (ASSERT). */
MUST_USE enum err_code block_index_series(struct block_index *x, struct labels labels,
                                          struct err *err);
/* Writes the sections. Only series with n_chunks[i] > 0 are in the block, numbered without gaps, n_kept of them. */
MUST_USE enum err_code block_index_write(struct block_index *x, struct page_writer *pages,
                                         const uint32_t *n_chunks, uint32_t n_kept,
                                         size_t page_bytes, struct err *err);

#endif
