/* storage/values.h: n doubles as a chunk without times (storage/format.h, "Value chunks"): constant, scaled integers
 * (decimal, greatest common divisor, deltas of order 0 to 2), running sum, ordered bits, raw; with patches for what does
 * not fit. Bit-exact for every bit pattern, NaN payloads and -0 included. Threads: pure functions. */
#ifndef QUIPU_STORAGE_VALUES_H
#define QUIPU_STORAGE_VALUES_H

#include "storage/intcol.h"

/* What the chunk before of the same series was: tried first, so that most chunks need one pass and no search.
 * {0}: nothing known. Only ever a guess: it changes size and speed, never what is read. */
struct values_hint {
    uint8_t kind, scale, known;
};

/* Appends the smallest form of v[0..n), n >= 1. hint may be NULL; it is updated. */
void values_encode(struct buf *out, const double *v, size_t n, enum effort effort,
                   struct values_hint *hint);
/* The n values; n from the index. `chunk` is exactly what values_encode appended: left over bytes are ERR_CORRUPT. */
MUST_USE enum err_code values_decode(struct bytes chunk, size_t n, double *out, struct err *err);
/* May a value be NaN, as staleness markers are? False only if the first byte says that none is. A constant is what the
 * chunk's statistics say. */
bool values_may_be_nan(struct bytes chunk);
/* "constant", "integers", ...; "unknown" for bytes that are none. For `quipu inspect`. */
const char *values_kind_name(struct bytes chunk);

#endif
