/* tools/server_compress.c: see the header.
 *
 * Levels: on the JSON of a range query, zlib's 1 halves the time of 6 for a tenth more bytes; zstd's 1 takes a third of zlib's
 * time and makes it smaller. zstd's window is cut to what zlib's answers cost in memory, since there can be many at a time. */
#include "tools/server_compress.h"

#include <zlib.h>
#include <zstd.h>

#define ZSTD_WINDOW_LOG 18

struct compressor {
    ZSTD_CCtx *zstd; /* NULL: zlib's */
    z_stream z;
};

static void *z_alloc(void *opaque, unsigned n, unsigned size)
{
    (void)opaque;
    return mem_calloc(MEM_HTTP, n, size);
}

static void z_free(void *opaque, void *p)
{
    (void)opaque;
    mem_free(p);
}

static bool begin_zlib(struct compressor *c, bool gzip)
{
    c->z.zalloc = z_alloc;
    c->z.zfree = z_free;
    return deflateInit2(&c->z, 1, Z_DEFLATED, gzip ? 15 + 16 : 15, 8, Z_DEFAULT_STRATEGY) == Z_OK;
}

static bool begin_zstd(struct compressor *c)
{
    c->zstd = ZSTD_createCCtx();
    return c->zstd && !ZSTD_isError(ZSTD_CCtx_setParameter(c->zstd, ZSTD_c_compressionLevel, 1)) &&
           !ZSTD_isError(ZSTD_CCtx_setParameter(c->zstd, ZSTD_c_windowLog, ZSTD_WINDOW_LOG));
}

struct compressor *compressor_new(const char *encoding)
{
    struct compressor *c = mem_calloc(MEM_HTTP, 1, sizeof(*c));
    if (!c) return NULL;
    bool fine = strcmp(encoding, "zstd") == 0 ? begin_zstd(c)
                                              : begin_zlib(c, strcmp(encoding, "gzip") == 0);
    if (fine) return c;
    compressor_free(c);
    return NULL;
}

void compressor_free(struct compressor *c)
{
    if (!c) return;
    ZSTD_freeCCtx(c->zstd);
    if (!c->zstd) (void)deflateEnd(&c->z); /* an error only says that the stream was not finished */
    mem_free(c);
}

static enum err_code write_zlib(struct compressor *c, struct bytes in, enum compress_flush flush,
                                compress_sink_fn *sink, void *arg, struct err *err)
{
    static const int FLUSHES[] = {Z_NO_FLUSH, Z_SYNC_FLUSH, Z_FINISH};
    uint8_t out[16384];
    c->z.next_in = (uint8_t *)(uintptr_t)in.p; /* zlib's field is not const */
    c->z.avail_in = (unsigned)in.len;
    do {
        c->z.next_out = out;
        c->z.avail_out = sizeof(out);
        if (deflate(&c->z, FLUSHES[flush]) == Z_STREAM_ERROR)
            return err_set(err, ERR_EXECUTION, "zlib refused to compress");
        enum err_code rc = sink(arg, bytes_of(out, sizeof(out) - c->z.avail_out), err);
        if (rc) return rc;
    } while (c->z.avail_out == 0);
    return ERR_OK;
}

static enum err_code write_zstd(struct compressor *c, struct bytes in, enum compress_flush flush,
                                compress_sink_fn *sink, void *arg, struct err *err)
{
    static const ZSTD_EndDirective FLUSHES[] = {ZSTD_e_continue, ZSTD_e_flush, ZSTD_e_end};
    uint8_t room[16384];
    ZSTD_inBuffer from = {in.p, in.len, 0};
    size_t left;
    do {
        ZSTD_outBuffer to = {room, sizeof(room), 0};
        left = ZSTD_compressStream2(c->zstd, &to, &from, FLUSHES[flush]);
        if (ZSTD_isError(left))
            return err_set(err, ERR_NO_MEMORY, "zstd: %s", ZSTD_getErrorName(left));
        enum err_code rc = sink(arg, bytes_of(room, to.pos), err);
        if (rc) return rc;
        /* Without a flush `left` is what zstd keeps, and no reason to go on. */
    } while (from.pos < from.size || (flush != COMPRESS_MORE && left));
    return ERR_OK;
}

enum err_code compressor_write(struct compressor *c, struct bytes in, enum compress_flush flush,
                               compress_sink_fn *sink, void *arg, struct err *err)
{
    enum err_code rc = ERR_OK;
    do { /* zlib counts in 32 bits */
        struct bytes part = {in.p, MIN_OF(in.len, (size_t)1 << 20)};
        in.p += part.len;
        in.len -= part.len;
        enum compress_flush now = in.len ? COMPRESS_MORE : flush;
        rc = c->zstd ? write_zstd(c, part, now, sink, arg, err)
                     : write_zlib(c, part, now, sink, arg, err);
    } while (in.len && !rc);
    return rc;
}

struct whole {
    struct buf *out;
    size_t len_max;
};

static enum err_code put_whole(void *arg, struct bytes part, struct err *err)
{
    struct whole *w = arg;
    if (w->out->len + part.len >= w->len_max)
        return err_set(err, ERR_LIMIT, "it does not become shorter");
    buf_put(w->out, part.p, part.len);
    return buf_finish(w->out, err);
}

bool compress_whole(const char *encoding, struct bytes in, struct buf *out)
{
    struct compressor *c = compressor_new(encoding);
    struct whole whole = {out, out->len + in.len};
    struct err err;
    bool fine = c && compressor_write(c, in, COMPRESS_END, put_whole, &whole, &err) == ERR_OK;
    compressor_free(c);
    return fine;
}
