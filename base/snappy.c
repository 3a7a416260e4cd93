/* base/snappy.c: see snappy.h. */
#include "base/snappy.h"

#include <inttypes.h>
#include <snappy-c.h>

/* A copy of 64 bytes takes 3, so nothing decodes to more than about 21 times its size; a body that claims more
 * is refused before memory is taken for it. */
#define RATIO_MAX 32u
#define RATIO_SLACK_BYTES 64u

static const uint8_t FRAMED_MAGIC[] = {0xff, 0x06, 0x00, 0x00, 's', 'N', 'a', 'P', 'p', 'Y'};

static enum err_code corrupt(struct err *err)
{
    return err_set(err, ERR_INVALID, "snappy: corrupt input");
}

enum err_code snappy_decode(struct bytes body, size_t bytes_max, struct arena *arena,
                            struct bytes *out, struct err *err)
{
    *out = (struct bytes){NULL, 0};
    if (body.len >= sizeof(FRAMED_MAGIC) && memcmp(body.p, FRAMED_MAGIC, sizeof(FRAMED_MAGIC)) == 0)
        return err_set(err, ERR_INVALID,
                       "snappy: corrupt input: the framed format, where a block is expected");
    struct reader r = reader_init(body);
    uint64_t len = reader_varint(&r);
    if (r.failed || reader_off(&r) > 5 || len > UINT32_MAX) return corrupt(err);
    if (len > bytes_max)
        return err_set(err, ERR_LIMIT, "snappy: decoded length %" PRIu64 " exceeds limit %zu", len,
                       bytes_max);
    if (len > (uint64_t)body.len * RATIO_MAX + RATIO_SLACK_BYTES) return corrupt(err);
    uint8_t *p = arena_alloc(arena, (size_t)len + 1, 1); /* never 0 bytes */
    if (!p) return arena_fail(arena, err);
    size_t n = (size_t)len;
    if (snappy_uncompress((const char *)body.p, body.len, (char *)p, &n) != SNAPPY_OK || n != len)
        return corrupt(err);
    *out = bytes_of(p, n);
    return ERR_OK;
}

enum err_code snappy_encode(struct bytes body, struct buf *out, struct err *err)
{
    if (body.len > UINT32_MAX)
        return err_set(err, ERR_LIMIT, "snappy: %zu bytes are too many for a block", body.len);
    size_t n = snappy_max_compressed_length(body.len);
    uint8_t *p = buf_reserve(out, n);
    if (!p) return err_set(err, ERR_NO_MEMORY, "no memory to compress %zu bytes", body.len);
    snappy_status status = snappy_compress((const char *)body.p, body.len, (char *)p, &n);
    ASSERT(status == SNAPPY_OK); /* the room is what the library asked for */
    out->len += n;
    return ERR_OK;
}
