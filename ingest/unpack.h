/* ingest/unpack.h: a compressed body, unpacked piece by piece. */
#ifndef QUIPU_INGEST_UNPACK_H
#define QUIPU_INGEST_UNPACK_H

#include "base/bytes.h"

/* The value of Content-Encoding. ERR_UNSUPPORTED: another one. */
enum unpack_kind { UNPACK_NONE, UNPACK_GZIP, UNPACK_DEFLATE, UNPACK_ZSTD };
MUST_USE enum err_code unpack_kind_of(struct str encoding, enum unpack_kind *kind, struct err *err);

/* Calls put(ctx, piece) for all that the body holds. ERR_INVALID: it is broken or cut off. Several gzip members or zstd
 * frames may follow each other. */
MUST_USE enum err_code unpack(enum unpack_kind kind, struct bytes body,
                              enum err_code (*put)(void *ctx, struct bytes piece, struct err *err),
                              void *ctx, struct err *err);

#endif
