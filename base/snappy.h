/* base/snappy.h: the snappy block format, as bodies of remote write and remote read use it. The work itself is
 * libsnappy's; what a hostile body could make it allocate is checked here first. */
#ifndef QUIPU_BASE_SNAPPY_H
#define QUIPU_BASE_SNAPPY_H

#include "base/arena.h"
#include "base/bytes.h"

/* The decoded body, in the arena. Errors: ERR_INVALID "snappy: corrupt input" (also for the framed format, which
 * is named), ERR_LIMIT "snappy: decoded length N exceeds limit M". */
MUST_USE enum err_code snappy_decode(struct bytes body, size_t bytes_max, struct arena *arena,
                                     struct bytes *out, struct err *err);
/* Appends the compressed form. ERR_NO_MEMORY; ERR_LIMIT over what the format's length can say (4 GiB). */
MUST_USE enum err_code snappy_encode(struct bytes body, struct buf *out, struct err *err);

#endif
