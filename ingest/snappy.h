/* ingest/snappy.h: the snappy block format, as remote write bodies use it. The decode itself is libsnappy's; what a
 * hostile body could make it allocate is checked here first. */
#ifndef QUIPU_INGEST_SNAPPY_H
#define QUIPU_INGEST_SNAPPY_H

#include "base/arena.h"
#include "base/bytes.h"

/* The decoded body, in the arena. Errors: ERR_INVALID "snappy: corrupt input" (also for the framed format, which
 * is named), ERR_LIMIT "snappy: decoded length N exceeds limit M". */
MUST_USE enum err_code snappy_decode(struct bytes body, size_t bytes_max, struct arena *arena,
                                     struct bytes *out, struct err *err);

#endif
