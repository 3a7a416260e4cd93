/* storage/postings.h: sorted series numbers as gaps and runs on disk (storage/format.h), as a roaring bitmap in
 * memory. Not roaring's own bytes: its reader trusts them, and these are smaller. */
#ifndef QUIPU_STORAGE_POSTINGS_H
#define QUIPU_STORAGE_POSTINGS_H

#include <roaring/roaring.h>

#include "base/bytes.h"

/* ids strictly rising. */
void postings_encode(struct buf *out, const uint32_t *ids, size_t n);

/* Gathers series numbers for a bitmap: roaring takes many at once far quicker than one by one. */
struct postings_sink {
    roaring_bitmap_t *into; /* complete after postings_flush() */
    size_t n;
    uint32_t batch[320];
};
/* Adds an item's numbers; all are < n_series, else ERR_CORRUPT. */
MUST_USE enum err_code postings_decode(struct bytes item, uint32_t n_series,
                                       struct postings_sink *sink, struct err *err);
void postings_flush(struct postings_sink *sink);

/* The same tokens one by one, for checks: runs [first, last] in rising order. */
struct postings_reader {
    struct reader r;
    uint64_t next; /* the least number that can come */
    uint32_t n_series;
};
/* False at the end, or with *rc set. */
bool postings_next(struct postings_reader *p, uint32_t *first, uint32_t *last, enum err_code *rc,
                   struct err *err);

#endif
