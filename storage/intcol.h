/* storage/intcol.h: a column of int64 in frames of 128: frame of reference, bit packing, exceptions, runs
 * (storage/format.h, "Integer columns"). What chunks of counters, times and histograms are made of.
 * All arithmetic is modulo 2^64. Nothing is read beyond the bytes given. Threads: pure functions. */
#ifndef QUIPU_STORAGE_INTCOL_H
#define QUIPU_STORAGE_INTCOL_H

#include "base/bytes.h"

#define INTCOL_FRAME 128

enum effort {
    EFFORT_FAST, /* about 5 ns a value: flushes and first levels */
    EFFORT_SMALL /* the best window of every frame by sorting it: 40-80 ns, a few per cent smaller */
};

/* Appends n values; n may be 0. */
void intcol_encode(struct buf *out, const int64_t *x, size_t n, enum effort effort);
/* What intcol_encode would append, without doing so. */
size_t intcol_size(const int64_t *x, size_t n, enum effort effort);
/* Reads n values. ERR_CORRUPT: hostile or cut bytes; `out` is then undefined, within n. */
MUST_USE enum err_code intcol_decode(struct reader *r, size_t n, int64_t *out, struct err *err);
/* As intcol_decode, but out[i] = start + the sum of the first i + 1 values: deltas back to values in one pass. */
MUST_USE enum err_code intcol_decode_sums(struct reader *r, size_t n, int64_t start, int64_t *out,
                                          struct err *err);
/* Passes over n values, without looking at more than where frames end. */
MUST_USE enum err_code intcol_skip(struct reader *r, size_t n, struct err *err);

/* Frame by frame, for who has no room for all of them. */
struct intcol_cursor {
    struct reader *r;
    uint64_t base; /* of the frame before */
    size_t run;    /* frames left of a run */
    size_t left;   /* values not read yet */
};
void intcol_cursor_init(struct intcol_cursor *c, struct reader *r, size_t n);
/* The next frame: *n values, at most INTCOL_FRAME, 0 at the end. */
MUST_USE enum err_code intcol_next(struct intcol_cursor *c, int64_t *out, size_t *n,
                                   struct err *err);

#endif
