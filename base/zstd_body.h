/* base/zstd_body.h: zstd frames, as bodies of vmagent's remote write use them. The work itself is libzstd's; what a
 * hostile body could make it allocate is bounded here. */
#ifndef QUIPU_BASE_ZSTD_BODY_H
#define QUIPU_BASE_ZSTD_BODY_H

#include "base/arena.h"
#include "base/bytes.h"

/* Does it begin like a zstd frame? */
bool zstd_is(struct bytes body);
/* The decoded body, in the arena. Errors: ERR_INVALID "zstd: corrupt input"; ERR_LIMIT "zstd: decoded length exceeds
 * limit M". */
MUST_USE enum err_code zstd_decode(struct bytes body, size_t bytes_max, struct arena *arena,
                                   struct bytes *out, struct err *err);

#endif
