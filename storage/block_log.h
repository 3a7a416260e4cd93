/* storage/block_log.h: what the writer of a block remembers of each chunk until the end, some 20 bytes in order of
 * arrival, and the section of refs made of that. Private to storage. Threads: its owner's. */
#ifndef QUIPU_STORAGE_BLOCK_LOG_H
#define QUIPU_STORAGE_BLOCK_LOG_H

#include "storage/block_refs.h"
#include "storage/page_file.h"

struct block_log {
    struct buf records;
    uint32_t *n_chunks; /* per series as declared */
    size_t cap;
    uint64_t n;      /* records */
    int64_t base_ms; /* of the first record: times are differences from it */
};

void block_log_init(struct block_log *log);
void block_log_release(struct block_log *log);
/* Series `id` is there, without chunks. */
MUST_USE enum err_code block_log_series(struct block_log *log, uint32_t id, struct err *err);
/* ref->column: as block_times knows it. */
MUST_USE enum err_code block_log_add(struct block_log *log, uint32_t id,
                                     const struct chunk_ref *ref, struct err *err);
/* Writes the section: the series that have chunks (*n_kept of them), each with its own in order of time (ASSERT).
 * column_numbers: per column its number in the file. */
MUST_USE enum err_code block_log_write(struct block_log *log, uint32_t n_series,
                                       const uint32_t *column_numbers, struct page_writer *pages,
                                       size_t page_bytes, uint32_t *n_kept, struct err *err);

#endif
