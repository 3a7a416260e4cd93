/* storage/times.h: the timestamps of one or more series as a column, without values (storage/format.h, "Time
 * columns"). The series of one scrape have the same times: a block stores them once. Threads: pure functions. */
#ifndef QUIPU_STORAGE_TIMES_H
#define QUIPU_STORAGE_TIMES_H

#include "storage/intcol.h"

/* Appends n >= 1 strictly rising times: their count, then deltas or residuals from a grid, whichever is smaller. */
void times_encode(struct buf *out, const int64_t *t_ms, size_t n);
/* With EFFORT_FAST, for a column that only one series will use (times_encode: EFFORT_SMALL). */
void times_encode_as(struct buf *out, const int64_t *t_ms, size_t n, enum effort effort);
/* How many times the column has: 1..TIMES_MAX. */
#define TIMES_MAX (UINT32_C(1) << 24)
MUST_USE enum err_code times_count(struct bytes column, size_t *n, struct err *err);
/* All of them; `out` has room for the n of times_count. Not rising: ERR_CORRUPT. */
MUST_USE enum err_code times_decode(struct bytes column, int64_t *out, size_t n, struct err *err);
/* The same from a reader that goes on behind the column. */
MUST_USE enum err_code times_read(struct reader *r, int64_t *out, size_t n, struct err *err);
/* Passes over a column without decoding it; *n as times_count. */
MUST_USE enum err_code times_skip(struct reader *r, size_t *n, struct err *err);

#endif
