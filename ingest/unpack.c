/* ingest/unpack.c: see the header. The work is zlib's and libzstd's; the window of a zstd frame is bounded, as it sizes
 * memory. */
#include "ingest/unpack.h"

#include <strings.h>
#include <zlib.h>
#include <zstd.h>

#define PIECE_BYTES 65536
#define ZSTD_WINDOW_LOG_MAX 23 /* 8 MiB */

typedef enum err_code put_fn(void *ctx, struct bytes piece, struct err *err);

enum err_code unpack_kind_of(struct str encoding, enum unpack_kind *kind, struct err *err)
{
    static const char *const NAMES[] = {"identity", "gzip", "deflate", "zstd"};
    *kind = UNPACK_NONE;
    if (!encoding.len) return ERR_OK;
    for (size_t i = 0; i < COUNT_OF(NAMES); i++) {
        if (encoding.len != strlen(NAMES[i]) ||
            strncasecmp(encoding.p, NAMES[i], encoding.len) != 0)
            continue;
        *kind = (enum unpack_kind)i;
        return ERR_OK;
    }
    return err_set(err, ERR_UNSUPPORTED,
                   "%.*s encoding (compression) is not accepted here; gzip, deflate and zstd are",
                   (int)MIN_OF(encoding.len, (size_t)100), encoding.p);
}

static enum err_code unpack_zlib(bool gzip, struct bytes body, uint8_t *piece, put_fn *put,
                                 void *ctx, struct err *err)
{
    z_stream z = {.next_in = (Bytef *)(uintptr_t)body.p, .avail_in = (uInt)body.len};
    const char *name = gzip ? "gzip" : "deflate";
    enum err_code rc = ERR_OK;
    if (inflateInit2(&z, gzip ? 15 + 16 : 15) != Z_OK)
        return err_set(err, ERR_NO_MEMORY, "no memory for %s", name);
    while (!rc) {
        z.next_out = piece;
        z.avail_out = PIECE_BYTES;
        int code = inflate(&z, Z_NO_FLUSH);
        if (code != Z_OK && code != Z_STREAM_END) {
            rc = err_set(err, code == Z_MEM_ERROR ? ERR_NO_MEMORY : ERR_INVALID, "%s: %s", name,
                         code == Z_BUF_ERROR ? "cut off"
                         : z.msg             ? z.msg
                                             : "broken");
            break;
        }
        size_t n = PIECE_BYTES - z.avail_out;
        if (n) rc = put(ctx, bytes_of(piece, n), err);
        if (code == Z_STREAM_END) {
            if (!z.avail_in) break;
            if (!rc && inflateReset(&z) != Z_OK) rc = err_set(err, ERR_INVALID, "%s: broken", name);
        }
    }
    inflateEnd(&z);
    return rc;
}

static enum err_code unpack_zstd(struct bytes body, uint8_t *piece, put_fn *put, void *ctx,
                                 struct err *err)
{
    ZSTD_DCtx *z = ZSTD_createDCtx();
    ZSTD_inBuffer in = {body.p, body.len, 0};
    size_t left = 0;
    bool full = false; /* the last piece was: there may be more without further input */
    enum err_code rc = ERR_OK;
    if (!z || ZSTD_isError(ZSTD_DCtx_setParameter(z, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG_MAX)))
        rc = err_set(err, ERR_NO_MEMORY, "no memory for zstd");
    while (!rc && (in.pos < in.size || full)) {
        ZSTD_outBuffer out = {piece, PIECE_BYTES, 0};
        left = ZSTD_decompressStream(z, &out, &in);
        if (ZSTD_isError(left)) {
            rc = err_set(err, ERR_INVALID, "zstd: %s", ZSTD_getErrorName(left));
            break;
        }
        full = out.pos == out.size && left;
        if (out.pos) rc = put(ctx, bytes_of(piece, out.pos), err);
    }
    if (!rc && left) rc = err_set(err, ERR_INVALID, "zstd: cut off");
    ZSTD_freeDCtx(z);
    return rc;
}

enum err_code unpack(enum unpack_kind kind, struct bytes body, put_fn *put, void *ctx,
                     struct err *err)
{
    if (!body.len) return ERR_OK;
    if (kind == UNPACK_NONE) return put(ctx, body, err);
    if (body.len > INT32_MAX) return err_set(err, ERR_LIMIT, "a body of %zu bytes", body.len);
    uint8_t *piece = mem_alloc(MEM_INGEST, PIECE_BYTES);
    if (!piece) return err_set(err, ERR_NO_MEMORY, "no memory to unpack a body");
    enum err_code rc = kind == UNPACK_ZSTD
                           ? unpack_zstd(body, piece, put, ctx, err)
                           : unpack_zlib(kind == UNPACK_GZIP, body, piece, put, ctx, err);
    mem_free(piece);
    return rc;
}
