/* storage/chunk_codec.h: what the encodings offer to chunk.c; nobody else includes this.
 * encode: appends to `out`; ERR_UNSUPPORTED when the encoding cannot hold the samples. Lack of memory is told by
 * buf_finish in chunk.c. decode: `chunk` starts with the right tag; appends to out. */
#ifndef QUIPU_STORAGE_CHUNK_CODEC_H
#define QUIPU_STORAGE_CHUNK_CODEC_H

#include "storage/chunk.h"

MUST_USE enum err_code chunk_constant_encode(const struct samples *s, size_t from, size_t n,
                                             struct buf *out, struct err *err);
MUST_USE enum err_code chunk_constant_decode(struct bytes chunk, int64_t mint_ms, int64_t maxt_ms,
                                             struct samples *out, struct err *err);
MUST_USE enum err_code chunk_gorilla_encode(const struct samples *s, size_t from, size_t n,
                                            struct buf *out, struct err *err);
MUST_USE enum err_code chunk_gorilla_decode(struct bytes chunk, int64_t mint_ms, int64_t maxt_ms,
                                            struct samples *out, struct err *err);
MUST_USE enum err_code chunk_histograms_encode(const struct samples *s, size_t from, size_t n,
                                               struct buf *out, struct err *err);
MUST_USE enum err_code chunk_histograms_decode(struct bytes chunk, int64_t mint_ms, int64_t maxt_ms,
                                               struct samples *out, struct err *err);
MUST_USE enum err_code chunk_columns_decode(struct bytes chunk, int64_t mint_ms, int64_t maxt_ms,
                                            struct samples *out, struct err *err);
/* ERR_UNSUPPORTED also for more buckets than its reader takes. */
MUST_USE enum err_code chunk_histogram_columns_encode(const struct samples *s, size_t from,
                                                      size_t n, enum effort effort, struct buf *out,
                                                      struct err *err);
MUST_USE enum err_code chunk_histogram_columns_decode(struct bytes chunk, int64_t mint_ms,
                                                      int64_t maxt_ms, struct samples *out,
                                                      struct err *err);

/* The statistics of samples [from, from + n). */
void chunk_meta_make(const struct samples *s, size_t from, size_t n, struct chunk_meta *meta);
/* Takes over n floats that a decoder wrote behind out->n, after samples_reserve. */
void chunk_take_floats(struct samples *out, size_t n);
/* The error of a time that does not rise. */
enum err_code chunk_time_error(struct err *err);

#endif
