/* storage/chunk_columns.c: a time column and a value chunk behind each other, so that a block can take the two apart
 * and keep the times of many series once. */
#include "storage/chunk_codec.h"
#include "storage/times.h"

void chunk_columns_encode(const int64_t *t_ms, const double *v, size_t n, enum effort effort,
                          struct values_hint *hint, struct buf *out)
{
    ASSERT(n >= 1 && n <= CHUNK_SAMPLES_MAX);
    buf_u8(out, CHUNK_COLUMNS);
    times_encode_as(out, t_ms, n, effort);
    values_encode(out, v, n, effort, hint);
}

/* The tag and the number of samples; *r is left at the time column. */
static enum err_code head_read(struct bytes chunk, struct reader *r, size_t *n, struct err *err)
{
    *r = reader_init(chunk);
    uint8_t tag = reader_u8(r);
    struct reader ahead = *r;
    uint64_t count = reader_varint(&ahead);
    if (ahead.failed || tag != CHUNK_COLUMNS || count == 0 || count > CHUNK_SAMPLES_MAX)
        return err_set(err, ERR_CORRUPT, "a chunk of columns of %zu bytes says %llu samples",
                       chunk.len, (unsigned long long)count);
    *n = (size_t)count;
    return ERR_OK;
}

enum err_code chunk_columns_split(struct bytes chunk, struct bytes *times, struct bytes *values,
                                  size_t *n, struct err *err)
{
    struct reader r;
    enum err_code rc = head_read(chunk, &r, n, err);
    if (rc) return rc;
    const uint8_t *start = r.p;
    rc = times_skip(&r, n, err);
    if (rc) return rc;
    *times = bytes_of(start, (size_t)(r.p - start));
    *values = bytes_of(r.p, reader_left(&r));
    return ERR_OK;
}

/* The samples of [mint_ms, maxt_ms] among n in order of time: *from, and how many. */
static size_t range_find(const int64_t *t_ms, size_t n, int64_t mint_ms, int64_t maxt_ms,
                         size_t *from)
{
    size_t a = 0, b = n;
    while (a < b && t_ms[a] < mint_ms) a++;
    while (b > a && t_ms[b - 1] > maxt_ms) b--;
    *from = a;
    return b - a;
}

enum err_code chunk_columns_decode(struct bytes chunk, int64_t mint_ms, int64_t maxt_ms,
                                   struct samples *out, struct err *err)
{
    struct reader r;
    size_t n, from;
    enum err_code rc = head_read(chunk, &r, &n, err);
    if (!rc) rc = samples_reserve(out, n, err);
    if (rc) return rc;
    int64_t *t_ms = out->t_ms + out->n;
    double *v = out->v + out->n;
    rc = times_read(&r, t_ms, n, err);
    if (!rc) rc = values_decode(bytes_of(r.p, reader_left(&r)), n, v, err);
    if (rc) return err_context(err, "a chunk of columns of %zu samples", n);
    size_t kept = range_find(t_ms, n, mint_ms, maxt_ms, &from);
    memmove(t_ms, t_ms + from, kept * sizeof(*t_ms));
    memmove(v, v + from, kept * sizeof(*v));
    chunk_take_floats(out, kept);
    return ERR_OK;
}
