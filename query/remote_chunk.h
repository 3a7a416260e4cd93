/* query/remote_chunk.h: samples as remote read streams them: in the chunks of Prometheus's TSDB. Bits stand most
 * significant first; the last byte is filled up with zeros.
 *
 * REMOTE_CHUNK_XOR: u16 big-endian n; then per sample a time and a value (Pelkonen et al. 2015, 4.1, with other widths)
 *   t    first: varint, zig-zag. Second: varint of the difference. Later: difference of differences D
 *        0: D = 0    10: 14 bits    110: 17    1110: 20    1111: 64
 *   v    first: 64 bits. Later, XOR with the one before
 *        0: the same    10: the bits in the last window    11: a new window: 5 bits leading zeros, 6 bits length (0: 64)
 * REMOTE_CHUNK_HISTOGRAM: u16 n, u8 flags (two bits: 00 reset not known, 01 no reset, 10 reset, 11 gauge), the layout, then
 *   per sample t, count, zero count, sum, differences of neighbouring buckets; whole numbers as differences of differences in
 *   varbits, sum as XOR. A staleness marker has no buckets, and nothing follows it.
 * REMOTE_CHUNK_FLOAT_HISTOGRAM: the same, counts and buckets as XOR.
 * varbit  0: 0    10: 3 bits    110: 6    1110: 9    11110: 12    111110: 18    1111110: 25    11111110: 56    11111111: 64
 * A signed field of n bits holds -(2^(n-1) - 1) to 2^(n-1), which is not two's complement's range.
 * layout  u8 zero threshold (0: none, b: 2^(b-244), 255: 64 bits follow), varbit schema, spans of positive buckets, then
 *         negative: varbit n, per span varbit length, varbit offset; for custom buckets varbit n and the bounds: varbit 0 and 64
 *         bits, or varbit 1 + 1000 times the bound. */
#ifndef QUIPU_QUERY_REMOTE_CHUNK_H
#define QUIPU_QUERY_REMOTE_CHUNK_H

#include "storage/samples.h"

enum remote_chunk_type {
    REMOTE_CHUNK_XOR = 1,
    REMOTE_CHUNK_HISTOGRAM = 2,
    REMOTE_CHUNK_FLOAT_HISTOGRAM = 3
};

#define REMOTE_CHUNK_SAMPLES_MAX 120   /* as many as Prometheus itself puts into most */
#define REMOTE_CHUNK_BUCKETS_MAX 65536 /* of all samples of a chunk, unless it has one */

/* How many of the samples s[from …] go into one chunk, at least 1: all of one kind and layout and, for counters, without a
 * reset. */
size_t remote_chunk_count(const struct samples *s, size_t from, enum remote_chunk_type *type);
/* Appends the chunk of so many of them. ERR_NO_MEMORY, ERR_LIMIT of `scratch`; what `out` lacks, buf_finish tells. */
MUST_USE enum err_code remote_chunk_write(struct buf *out, const struct samples *s, size_t from,
                                          size_t n, struct arena *scratch, struct err *err);

#endif
