/* storage/chunk_histogram.h: what the two encodings of histograms share: rows without their times. Included by
 * chunk_histogram.c and chunk_histogram_columns.c alone. */
#ifndef QUIPU_STORAGE_CHUNK_HISTOGRAM_H
#define QUIPU_STORAGE_CHUNK_HISTOGRAM_H

#include "storage/chunk_codec.h"

#define HISTOGRAM_COUNT_MAX (INT64_C(1) << 53) /* up to here every whole number is a double */

/* Is v a whole number in 0..2^53 that comes back with the same bits? (-0 does not.) */
static inline bool histogram_count_to_int(double v, int64_t *out)
{
    if (!(v >= 0 && v <= (double)HISTOGRAM_COUNT_MAX)) return false;
    *out = (int64_t)v;
    return double_bits((double)*out) == double_bits(v);
}
/* Are all counts of it such numbers? */
bool histogram_counts_are_whole(const struct histogram *h);

/* Appends sample i as a row. *prev is what the row before left there; NULL at first. */
void chunk_row_put(struct buf *out, const struct samples *s, size_t i,
                   const struct histogram **prev);

/* Rows that nobody wants are decoded into two arenas by turns, since only the last one is needed. */
struct chunk_rows {
    struct reader r;
    struct arena scratch[2];
    unsigned turn;
    const struct histogram *prev;
};
void chunk_rows_init(struct chunk_rows *rows, struct reader r, enum mem_owner owner);
void chunk_rows_release(struct chunk_rows *rows);
/* The next row: a sample at t_ms for `out`, or only what the row after it needs. */
MUST_USE enum err_code chunk_row_get(struct chunk_rows *rows, int64_t t_ms, bool wanted,
                                     struct samples *out, struct err *err);

#endif
