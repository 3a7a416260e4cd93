/* storage/chunk.h: samples of one series as bytes. Each encoding has a one-byte tag in front, so that readers need
 * nothing but the bytes; which one is chosen per chunk, by size. Bit-exact for every value. Decoders are bounded:
 * hostile bytes give ERR_CORRUPT. Layouts: storage/format.h.
 * The head's open chunk (gorilla.h) has the same bytes as a CHUNK_GORILLA one. */
#ifndef QUIPU_STORAGE_CHUNK_H
#define QUIPU_STORAGE_CHUNK_H

#include "base/bytes.h"
#include "storage/samples.h"
#include "storage/values.h"

enum chunk_encoding {
    CHUNK_CONSTANT = 0,   /* one value; times as deltas of deltas */
    CHUNK_GORILLA = 5,    /* XOR values, delta-of-delta times (Pelkonen et al. 2015, 4.1) */
    CHUNK_RAW = 6,        /* 16 bytes a sample, never larger than any other can be forced to be */
    CHUNK_HISTOGRAMS = 9, /* histogram samples (and floats between them), row by row */
    CHUNK_COLUMNS = 10,   /* a time column (times.h), then a value chunk (values.h) */
    CHUNK_HISTOGRAM_COLUMNS = 11 /* histograms, a column for each bucket; floats between them */
};

#define CHUNK_SAMPLES_MAX 65535

struct chunk_meta {
    int64_t t_min_ms, t_max_ms;
    uint32_t n;
    uint32_t n_resets;            /* falls from one float to the next, staleness markers left out */
    double first, last, min, max; /* floats, staleness markers left out; NaN if there are none */
    bool has_histograms;
};

/* Encodes samples [from, from + n) of s with the smallest encoding; n in 1..CHUNK_SAMPLES_MAX, times strictly
 * rising (ASSERT). */
MUST_USE enum err_code chunk_encode(const struct samples *s, size_t from, size_t n, struct buf *out,
                                    struct chunk_meta *meta, struct err *err);
/* Encodes with one given encoding, for tests; ERR_UNSUPPORTED when it cannot hold these samples. */
MUST_USE enum err_code chunk_encode_as(enum chunk_encoding encoding, const struct samples *s,
                                       size_t from, size_t n, struct buf *out, struct err *err);
/* Appends the samples with mint_ms <= t <= maxt_ms to `out`. Histograms go to out->arena. */
MUST_USE enum err_code chunk_decode(struct bytes chunk, int64_t mint_ms, int64_t maxt_ms,
                                    struct samples *out, struct err *err);
/* Number of samples and encoding, from the first bytes. */
MUST_USE enum err_code chunk_peek(struct bytes chunk, enum chunk_encoding *encoding, uint32_t *n,
                                  struct err *err);
const char *chunk_encoding_name(enum chunk_encoding encoding);
/* The same from the bytes, but for CHUNK_COLUMNS the kind of its values (values_kind_name). For `quipu inspect`. */
const char *chunk_kind_name(struct bytes chunk);

/* A CHUNK_COLUMNS of n in 1..CHUNK_SAMPLES_MAX floats at strictly rising times, appended to `out` (buf_finish tells
 * lack of memory). hint: what the series' chunk before was, updated; may be NULL. */
void chunk_columns_encode(const int64_t *t_ms, const double *v, size_t n, enum effort effort,
                          struct values_hint *hint, struct buf *out);
/* Takes a CHUNK_COLUMNS apart, in place: its time column as times_encode made it, its value chunk as values_encode
 * made it, and how many samples they have. Looks at no value. */
MUST_USE enum err_code chunk_columns_split(struct bytes chunk, struct bytes *times,
                                           struct bytes *values, size_t *n, struct err *err);

#endif
