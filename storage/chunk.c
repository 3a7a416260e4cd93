/* storage/chunk.c: choice of the encoding, statistics, RAW. */
#include "storage/chunk.h"

#include <math.h>

#include "storage/chunk_codec.h"
#include "storage/format.h"

#define RAW_SAMPLE_BYTES 16

void chunk_take_floats(struct samples *out, size_t n)
{
    if (out->h) memset(out->h + out->n, 0, n * sizeof(*out->h)); /* NULL: a float */
    if (out->st_ms) memset(out->st_ms + out->n, 0, n * sizeof(*out->st_ms));
    out->n += n;
}

enum err_code chunk_time_error(struct err *err)
{
    return err_set(err, ERR_CORRUPT, "times of samples that do not rise");
}

static enum err_code raw_encode(const struct samples *s, size_t from, size_t n, struct buf *out)
{
    buf_u8(out, CHUNK_RAW);
    buf_varint(out, n);
    buf_put(out, s->t_ms + from, n * sizeof(*s->t_ms));
    buf_put(out, s->v + from, n * sizeof(*s->v));
    return ERR_OK;
}

static enum err_code raw_decode(struct bytes chunk, int64_t mint_ms, int64_t maxt_ms,
                                struct samples *out, struct err *err)
{
    struct reader r = reader_init(chunk);
    reader_u8(&r);
    uint64_t n = reader_varint(&r);
    if (r.failed || n == 0 || n > CHUNK_SAMPLES_MAX || reader_left(&r) != n * RAW_SAMPLE_BYTES)
        return err_set(err, ERR_CORRUPT, "a raw chunk of %zu bytes says %llu samples", chunk.len,
                       (unsigned long long)n);
    enum err_code rc = samples_reserve(out, (size_t)n, err);
    if (rc) return rc;
    const uint8_t *times = reader_bytes(&r, (size_t)n * 8).p;
    const uint8_t *values = reader_bytes(&r, (size_t)n * 8).p;
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        int64_t t = (int64_t)get_u64_le(times + i * 8);
        if (i && t <= (int64_t)get_u64_le(times + (i - 1) * 8)) return chunk_time_error(err);
        if (t < mint_ms || t > maxt_ms) continue;
        out->t_ms[out->n + kept] = t;
        out->v[out->n + kept++] = double_from_bits(get_u64_le(values + i * 8));
    }
    chunk_take_floats(out, kept);
    return ERR_OK;
}

static bool has_histograms(const struct samples *s, size_t from, size_t n)
{
    for (size_t i = from; s->h && i < from + n; i++)
        if (s->h[i]) return true;
    return false;
}

enum err_code chunk_encode_as(enum chunk_encoding encoding, const struct samples *s, size_t from,
                              size_t n, struct buf *out, struct err *err)
{
    ASSERT(n >= 1 && n <= CHUNK_SAMPLES_MAX);
    ASSERT(from + n <= s->n);
    if (encoding != CHUNK_HISTOGRAMS && encoding != CHUNK_HISTOGRAM_COLUMNS &&
        has_histograms(s, from, n))
        return err_set(err, ERR_UNSUPPORTED, "histograms in a chunk of floats");
    size_t len = out->len;
    enum err_code rc = ERR_OK;
    switch (encoding) {
    case CHUNK_CONSTANT: rc = chunk_constant_encode(s, from, n, out, err); break;
    case CHUNK_GORILLA: rc = chunk_gorilla_encode(s, from, n, out, err); break;
    case CHUNK_RAW: rc = raw_encode(s, from, n, out); break;
    case CHUNK_HISTOGRAMS: rc = chunk_histograms_encode(s, from, n, out, err); break;
    case CHUNK_COLUMNS:
        chunk_columns_encode(s->t_ms + from, s->v + from, n, EFFORT_FAST, NULL, out);
        break;
    case CHUNK_HISTOGRAM_COLUMNS:
        rc = chunk_histogram_columns_encode(s, from, n, EFFORT_FAST, out, err);
        break;
    }
    if (!rc) rc = buf_finish(out, err);
    if (rc) out->len = len;
    return rc;
}

/* Floats only, staleness markers left out; a NaN of another kind counts for first and last, not for min and max. */
static void meta_add_float(struct chunk_meta *meta, double v, bool *any)
{
    if (is_stale_nan(v)) return;
    if (!*any)
        meta->first = v;
    else if (v < meta->last)
        meta->n_resets++;
    meta->last = v;
    *any = true;
    if (isnan(v)) return;
    /* -0 and 0 are equal: the first one seen stays. */
    if (!(meta->min <= v)) meta->min = v;
    if (!(meta->max >= v)) meta->max = v;
}

void chunk_meta_make(const struct samples *s, size_t from, size_t n, struct chunk_meta *meta)
{
    *meta = (struct chunk_meta){.t_min_ms = s->t_ms[from],
                                .t_max_ms = s->t_ms[from + n - 1],
                                .n = (uint32_t)n,
                                .first = NAN,
                                .last = NAN,
                                .min = NAN,
                                .max = NAN};
    bool any = false;
    for (size_t i = from; i < from + n; i++) {
        if (s->h && s->h[i])
            meta->has_histograms = true;
        else
            meta_add_float(meta, s->v[i], &any);
    }
}

/* Bytes a sample that an encoding hardly gets below: what is smaller already is kept without trying it. */
static size_t size_to_beat(enum chunk_encoding encoding)
{
    switch (encoding) {
    case CHUNK_GORILLA: return 3; /* columns are larger only when values are random mantissas */
    case CHUNK_RAW: return RAW_SAMPLE_BYTES;
    default: return 0;
    }
}

/* The smallest of what can hold floats: RAW always can. */
static enum err_code encode_floats(const struct samples *s, size_t from, size_t n, struct buf *out,
                                   struct err *err)
{
    /* In the order of expected size; a later one must be smaller to replace what is there. */
    static const enum chunk_encoding order[] = {CHUNK_CONSTANT, CHUNK_COLUMNS, CHUNK_GORILLA,
                                                CHUNK_RAW};
    size_t start = out->len, best = 0;
    for (size_t i = 0; i < COUNT_OF(order); i++) {
        size_t at = out->len;
        if (best && best <= n * size_to_beat(order[i])) break;
        enum err_code rc = chunk_encode_as(order[i], s, from, n, out, err);
        if (rc == ERR_UNSUPPORTED) continue;
        if (rc) {
            out->len = start;
            return rc;
        }
        size_t size = out->len - at;
        if (best && size < best) memmove(out->p + start, out->p + at, size);
        if (!best || size < best) best = size;
        out->len = start + best;
    }
    err_clear(err); /* of an encoding that did not fit */
    return ERR_OK;
}

/* Columns, or rows where these are smaller: few samples, layouts that change all the time. */
static enum err_code encode_histograms(const struct samples *s, size_t from, size_t n,
                                       struct buf *out, struct err *err)
{
    size_t start = out->len;
    enum err_code rc = chunk_encode_as(CHUNK_HISTOGRAM_COLUMNS, s, from, n, out, err);
    if (rc == ERR_UNSUPPORTED) return chunk_encode_as(CHUNK_HISTOGRAMS, s, from, n, out, err);
    size_t at = out->len, size = at - start;
    if (rc || size <= n * CHUNK_ROW_BYTES_MIN) return rc;
    rc = chunk_encode_as(CHUNK_HISTOGRAMS, s, from, n, out, err);
    if (rc) {
        out->len = start;
    } else if (out->len - at < size) {
        memmove(out->p + start, out->p + at, out->len - at);
        out->len -= size;
    } else {
        out->len = at;
    }
    return rc;
}

enum err_code chunk_encode(const struct samples *s, size_t from, size_t n, struct buf *out,
                           struct chunk_meta *meta, struct err *err)
{
    ASSERT(n >= 1 && n <= CHUNK_SAMPLES_MAX);
    ASSERT(from + n <= s->n);
    for (size_t i = from + 1; i < from + n; i++) ASSERT(s->t_ms[i] > s->t_ms[i - 1]);
    chunk_meta_make(s, from, n, meta);
    if (meta->has_histograms) return encode_histograms(s, from, n, out, err);
    return encode_floats(s, from, n, out, err);
}

enum err_code chunk_decode(struct bytes chunk, int64_t mint_ms, int64_t maxt_ms,
                           struct samples *out, struct err *err)
{
    if (chunk.len == 0) return err_set(err, ERR_CORRUPT, "an empty chunk");
    switch (chunk.p[0]) {
    case CHUNK_CONSTANT: return chunk_constant_decode(chunk, mint_ms, maxt_ms, out, err);
    case CHUNK_GORILLA: return chunk_gorilla_decode(chunk, mint_ms, maxt_ms, out, err);
    case CHUNK_RAW: return raw_decode(chunk, mint_ms, maxt_ms, out, err);
    case CHUNK_HISTOGRAMS: return chunk_histograms_decode(chunk, mint_ms, maxt_ms, out, err);
    case CHUNK_COLUMNS: return chunk_columns_decode(chunk, mint_ms, maxt_ms, out, err);
    case CHUNK_HISTOGRAM_COLUMNS:
        return chunk_histogram_columns_decode(chunk, mint_ms, maxt_ms, out, err);
    default: return err_set(err, ERR_CORRUPT, "unknown chunk encoding %u", chunk.p[0]);
    }
}

enum err_code chunk_peek(struct bytes chunk, enum chunk_encoding *encoding, uint32_t *n,
                         struct err *err)
{
    struct reader r = reader_init(chunk);
    uint8_t tag = reader_u8(&r);
    uint64_t count = 0;
    switch (tag) {
    case CHUNK_GORILLA:
        reader_u8(&r);
        count = reader_u16(&r);
        break;
    case CHUNK_CONSTANT:
    case CHUNK_RAW:
    case CHUNK_HISTOGRAMS:
    case CHUNK_COLUMNS:
    case CHUNK_HISTOGRAM_COLUMNS: count = reader_varint(&r); break;
    default: return err_set(err, ERR_CORRUPT, "unknown chunk encoding %u", tag);
    }
    if (r.failed || count == 0 || count > CHUNK_SAMPLES_MAX)
        return err_set(err, ERR_CORRUPT, "a chunk of %zu bytes says %llu samples", chunk.len,
                       (unsigned long long)count);
    *encoding = (enum chunk_encoding)tag;
    *n = (uint32_t)count;
    return ERR_OK;
}

const char *chunk_encoding_name(enum chunk_encoding encoding)
{
    switch (encoding) {
    case CHUNK_CONSTANT: return "constant";
    case CHUNK_GORILLA: return "gorilla";
    case CHUNK_RAW: return "raw";
    case CHUNK_HISTOGRAMS: return "histograms";
    case CHUNK_HISTOGRAM_COLUMNS: return "histogram columns";
    case CHUNK_COLUMNS: return "columns";
    }
    return "unknown";
}

const char *chunk_kind_name(struct bytes chunk)
{
    struct err err;
    enum chunk_encoding encoding;
    uint32_t n;
    if (chunk_peek(chunk, &encoding, &n, &err)) return "unknown";
    struct bytes times, values;
    size_t n_samples;
    if (encoding == CHUNK_COLUMNS &&
        chunk_columns_split(chunk, &times, &values, &n_samples, &err) == ERR_OK)
        return values_kind_name(values);
    return chunk_encoding_name(encoding);
}
