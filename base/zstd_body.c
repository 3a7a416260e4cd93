/* base/zstd_body.c: see zstd_body.h. */
#include "base/zstd_body.h"

#include <zstd.h>
#include <zstd_errors.h>

#define MAGIC_BYTES 4
/* A frame need not say how long it is: then the room is doubled until it is enough. */
#define ROOM_FIRST_FACTOR 8
#define ROOM_BYTES_MIN ((size_t)64 << 10)

bool zstd_is(struct bytes body)
{
    return body.len >= MAGIC_BYTES && get_u32_le(body.p) == ZSTD_MAGICNUMBER;
}

static enum err_code too_long(size_t bytes_max, struct err *err)
{
    return err_set(err, ERR_LIMIT, "zstd: decoded length exceeds limit %zu", bytes_max);
}

enum err_code zstd_decode(struct bytes body, size_t bytes_max, struct arena *arena,
                          struct bytes *out, struct err *err)
{
    uint64_t said = ZSTD_getFrameContentSize(body.p, body.len);
    if (said == ZSTD_CONTENTSIZE_ERROR) return err_set(err, ERR_INVALID, "zstd: corrupt input");
    size_t room = MAX_OF(body.len * ROOM_FIRST_FACTOR, ROOM_BYTES_MIN);
    if (said != ZSTD_CONTENTSIZE_UNKNOWN) {
        if (said > bytes_max) return too_long(bytes_max, err);
        room = (size_t)said;
    }
    for (;; room *= 2) {
        room = MIN_OF(MAX_OF(room, (size_t)1), bytes_max);
        uint8_t *p = arena_alloc(arena, room, 8);
        if (!p) return arena_fail(arena, err);
        size_t n = ZSTD_decompress(p, room, body.p, body.len);
        if (!ZSTD_isError(n)) {
            *out = bytes_of(p, n);
            return ERR_OK;
        }
        ZSTD_ErrorCode code = ZSTD_getErrorCode(n);
        if (code == ZSTD_error_memory_allocation)
            return err_set(err, ERR_NO_MEMORY, "no memory to decode zstd");
        if (code != ZSTD_error_dstSize_tooSmall)
            return err_set(err, ERR_INVALID, "zstd: corrupt input");
        if (room == bytes_max) return too_long(bytes_max, err);
    }
}
