/* storage/block_times.h: the time columns of a block while it is written. A run of times that is part of what is there
 * already is found and shared, wherever it begins and ends; only what is new becomes a column. Columns that follow each
 * other in time are chained, and get numbers that follow each other, so that a run may go on from one to the next.
 * Private to storage. Threads: its owner's. */
#ifndef QUIPU_STORAGE_BLOCK_TIMES_H
#define QUIPU_STORAGE_BLOCK_TIMES_H

#include "storage/page_file.h"

#define NO_COLUMN UINT32_MAX
#define TIMES_DECODED 8

struct time_column {
    uint64_t off; /* of its bytes */
    uint32_t len, n;
    uint32_t before, next; /* in its chain */
};

struct time_anchor {
    uint32_t hash;
    uint32_t column; /* + 1; 0: free */
    uint32_t idx;
};

struct block_times {
    size_t column_n;  /* longest column made of one run */
    size_t bytes_max; /* for columns; past it nothing new is taken */
    struct buf bytes;
    struct time_column *columns;
    size_t n_columns, cap;
    struct time_anchor *anchors; /* buckets of ANCHOR_WAYS */
    size_t n_anchors, n_used;
    struct {
        uint32_t column; /* + 1 */
        int64_t *t;
        size_t cap;
    } decoded[TIMES_DECODED]; /* by number */
};

/* Where a run of times is. */
struct time_place {
    uint32_t column; /* as block_times knows it; NO_COLUMN: nowhere, there was no room */
    uint32_t start;
};

void block_times_init(struct block_times *x, size_t column_n, size_t bytes_max);
void block_times_release(struct block_times *x);
/* Finds or adds t[0, n), n >= 1, or of it the first *n_placed (>= n_min) when the rest is not to be had at the same
 * place. `after`: the column at whose very end the series' times before it stop, or NO_COLUMN. */
MUST_USE enum err_code block_times_place(struct block_times *x, const int64_t *t, size_t n,
                                         size_t n_min, uint32_t after, struct time_place *place,
                                         size_t *n_placed, struct err *err);
/* How many times of the place's column are left from its start on. */
static inline size_t block_times_left(const struct block_times *x, struct time_place p)
{
    return x->columns[p.column].n - p.start;
}
/* The column that a run of n from a place ends with, if it ends at its very end; else NO_COLUMN. */
uint32_t block_times_end(const struct block_times *x, struct time_place p, size_t n);
/* Writes the section. *numbers, from mem_alloc: per column its number in the file. */
MUST_USE enum err_code block_times_write(struct block_times *x, struct page_writer *pages,
                                         size_t page_bytes, uint32_t **numbers, struct err *err);

#endif
