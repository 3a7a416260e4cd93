/* wal/record.c: payloads by columns. Ids and times of one request mostly step evenly, so they go as runs of equal
 * deltas where that is shorter; values as integers of as few bytes as they need, which is what counters are. */
#include "wal/record.h"

#include <inttypes.h>

#include "wal/format.h"

/* ---- columns of deltas ---- */

/* How many runs of equal deltas; reads 8 bytes an item. */
static size_t column_runs(const uint64_t *a, size_t n)
{
    size_t runs = n > 0;
    uint64_t delta = n > 0 ? a[0] : 0;
    for (size_t i = 1; i < n; i++) {
        uint64_t d = a[i] - a[i - 1];
        runs += d != delta;
        delta = d;
    }
    return runs;
}

static inline uint8_t *put_delta(uint8_t *p, uint64_t delta)
{
    uint64_t z = zigzag_encode((int64_t)delta);
    if (LIKELY(z < 0x80)) {
        *p = (uint8_t)z;
        return p + 1;
    }
    return p + put_varint(p, z);
}

static uint8_t *put_runs(uint8_t *p, const uint64_t *a, size_t n)
{
    uint64_t last = 0;
    for (size_t i = 0; i < n;) {
        uint64_t delta = a[i] - last;
        size_t end = i + 1;
        while (end < n && a[end] - a[end - 1] == delta) end++;
        p += put_varint(p, end - i);
        p = put_delta(p, delta);
        last = a[end - 1];
        i = end;
    }
    return p;
}

static void encode_column(struct buf *out, const uint64_t *a, size_t n)
{
    size_t runs = column_runs(a, n);
    bool by_runs = runs <= n / 2; /* a run takes two varints */
    uint8_t *p = buf_reserve(out, 1 + (by_runs ? runs * 2 : n) * VARINT_BYTES_MAX);
    if (!p) return; /* buf_finish tells */
    const uint8_t *start = p;
    *p++ = by_runs ? WAL_COLUMN_RUNS : WAL_COLUMN_PLAIN;
    if (by_runs) {
        p = put_runs(p, a, n);
    } else {
        uint64_t last = 0;
        for (size_t i = 0; i < n; i++) {
            p = put_delta(p, a[i] - last);
            last = a[i];
        }
    }
    out->len += (size_t)(p - start);
}

static enum err_code decode_column(struct reader *r, uint64_t *a, size_t n, struct err *err)
{
    uint8_t kind = reader_u8(r);
    uint64_t v = 0;
    if (kind == WAL_COLUMN_PLAIN) {
        for (size_t i = 0; i < n; i++) a[i] = v += (uint64_t)reader_zigzag(r);
        return ERR_OK; /* reader_finish tells */
    }
    if (kind != WAL_COLUMN_RUNS)
        return err_set(err, ERR_CORRUPT, "column of unknown kind %u", kind);
    for (size_t i = 0; i < n;) {
        uint64_t run = reader_varint(r), delta = (uint64_t)reader_zigzag(r);
        if (run == 0 || run > n - i)
            return err_set(err, ERR_CORRUPT, "run of %" PRIu64 " where %zu are left", run, n - i);
        for (size_t end = i + (size_t)run; i < end; i++) a[i] = v += delta;
    }
    return ERR_OK;
}

/* ---- values ---- */

/* Bytes that a code stands for. */
static const uint8_t VALUE_BYTES[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7};

/* The code of a double and, in *data, its bytes from the lowest on. */
static inline unsigned value_code(double v, uint64_t *data)
{
    uint64_t bits = double_bits(v);
    if (LIKELY(v > -0x1p55 && v < 0x1p55)) { /* not a NaN */
        int64_t i = (int64_t)v;
        if (double_bits((double)i) == bits) { /* not -0 */
            uint64_t z = zigzag_encode(i);
            *data = z;
            return z ? (71 - (unsigned)__builtin_clzll(z)) / 8 : 0;
        }
    }
    unsigned zeros = (unsigned)__builtin_ctzll(bits) / 8; /* bits != 0: +0 is an integer */
    *data = bits >> (zeros * 8);
    return zeros ? 16 - zeros : WAL_VALUE_RAW;
}

static inline double value_of(unsigned code, uint64_t data)
{
    if (code < WAL_VALUE_RAW) return (double)zigzag_decode(data);
    return double_from_bits(code == WAL_VALUE_RAW ? data : data << ((16 - code) * 8));
}

/* About 3 ns a sample: 8 bytes read, 0.5 + 0..8 written. */
static void encode_values(struct buf *out, const double *v, size_t n)
{
    size_t n_codes = n / 2 + n % 2;
    uint8_t *codes = buf_reserve(out, n_codes + n * 8 + 8); /* each store writes 8 bytes */
    if (!codes) return;
    uint8_t *p = codes + n_codes;
    for (size_t i = 0; i < n; i++) {
        uint64_t data;
        unsigned code = value_code(v[i], &data);
        if (i % 2)
            codes[i / 2] |= (uint8_t)(code << 4);
        else
            codes[i / 2] = (uint8_t)code;
        put_u64_le(p, data);
        p += VALUE_BYTES[code];
    }
    out->len += (size_t)(p - codes);
}

static inline unsigned code_at(const uint8_t *codes, size_t i)
{
    return i % 2 ? codes[i / 2] >> 4 : codes[i / 2] & 15;
}

static enum err_code decode_values(struct reader *r, double *v, size_t n, struct err *err)
{
    const uint8_t *codes = reader_bytes(r, n / 2 + n % 2).p;
    if (r->failed) return ERR_OK; /* reader_finish tells */
    size_t need = 0;
    for (size_t i = 0; i < n; i++) need += VALUE_BYTES[code_at(codes, i)];
    if (need > reader_left(r))
        return err_set(err, ERR_CORRUPT, "values of %zu bytes in %zu", need, reader_left(r));
    const uint8_t *p = r->p, *last = r->end;
    for (size_t i = 0; i < n; i++) {
        unsigned code = code_at(codes, i), len = VALUE_BYTES[code];
        uint64_t data = 0;
        if (LIKELY(last - p >= 8)) {
            data = get_u64_le(p);
            if (len < 8) data &= (UINT64_C(1) << (len * 8)) - 1;
        } else {
            for (unsigned b = 0; b < len; b++) data |= (uint64_t)p[b] << (b * 8);
        }
        p += len;
        v[i] = value_of(code, data);
    }
    reader_skip(r, need);
    return ERR_OK;
}

/* ---- records ---- */

static void encode_start(struct buf *out, uint64_t incarnation, size_t n)
{
    buf_varint(out, incarnation);
    buf_varint(out, n);
}

/* *n is at most per_byte items a byte that is left. */
static enum err_code decode_start(struct reader *r, uint64_t *incarnation, size_t *n,
                                  size_t per_byte, struct err *err)
{
    *incarnation = reader_varint(r);
    uint64_t count = reader_varint(r);
    if (count > (uint64_t)reader_left(r) * per_byte)
        return err_set(err, ERR_CORRUPT, "%" PRIu64 " items in %zu bytes", count, reader_left(r));
    *n = (size_t)count;
    return ERR_OK;
}

static void encode_blobs(struct buf *out, const struct bytes *items, size_t n)
{
    for (size_t i = 0; i < n; i++) buf_str(out, str_from_bytes(items[i]));
}

static void decode_blobs(struct reader *r, struct bytes *items, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct str s = reader_str(r);
        items[i] = bytes_of(s.p, s.len);
    }
}

void wal_encode_series(struct buf *out, const struct wal_series *series)
{
    encode_start(out, series->incarnation, series->n);
    encode_column(out, series->id, series->n);
    encode_blobs(out, series->labels, series->n);
}

enum err_code wal_decode_series(struct bytes payload, struct arena *arena, struct wal_series *out,
                                struct err *err)
{
    struct reader r = reader_init(payload);
    enum err_code rc = decode_start(&r, &out->incarnation, &out->n, 1, err);
    if (rc) return rc;
    out->id = ARENA_ARRAY(arena, uint64_t, out->n);
    out->labels = ARENA_ARRAY(arena, struct bytes, out->n);
    if (!out->id || !out->labels) return arena_fail(arena, err);
    rc = decode_column(&r, out->id, out->n, err);
    if (rc) return rc;
    decode_blobs(&r, out->labels, out->n);
    return reader_finish(&r, err);
}

void wal_encode_samples(struct buf *out, const struct wal_samples *samples)
{
    encode_start(out, samples->incarnation, samples->n);
    encode_column(out, samples->id, samples->n);
    encode_column(out, (const uint64_t *)samples->t_ms, samples->n);
    if (samples->st_ms) encode_column(out, (const uint64_t *)samples->st_ms, samples->n);
    encode_values(out, samples->v, samples->n);
}

static enum err_code decode_samples(struct bytes payload, bool started, struct arena *arena,
                                    struct wal_samples *out, struct err *err)
{
    struct reader r = reader_init(payload);
    enum err_code rc = decode_start(&r, &out->incarnation, &out->n, 2, err);
    if (rc) return rc;
    out->id = ARENA_ARRAY(arena, uint64_t, out->n);
    out->t_ms = ARENA_ARRAY(arena, int64_t, out->n);
    out->v = ARENA_ARRAY(arena, double, out->n);
    out->st_ms = started ? ARENA_ARRAY(arena, int64_t, out->n) : NULL;
    if (!out->id || !out->t_ms || !out->v || (started && !out->st_ms))
        return arena_fail(arena, err);
    rc = decode_column(&r, out->id, out->n, err);
    if (rc == ERR_OK) rc = decode_column(&r, (uint64_t *)out->t_ms, out->n, err);
    if (rc == ERR_OK && started) rc = decode_column(&r, (uint64_t *)out->st_ms, out->n, err);
    if (rc == ERR_OK) rc = decode_values(&r, out->v, out->n, err);
    return rc ? rc : reader_finish(&r, err);
}

enum err_code wal_decode_samples(struct bytes payload, struct arena *arena, struct wal_samples *out,
                                 struct err *err)
{
    return decode_samples(payload, false, arena, out, err);
}

enum err_code wal_decode_started(struct bytes payload, struct arena *arena, struct wal_samples *out,
                                 struct err *err)
{
    return decode_samples(payload, true, arena, out, err);
}

void wal_encode_items(struct buf *out, const struct wal_items *items)
{
    encode_start(out, items->incarnation, items->n);
    encode_column(out, items->id, items->n);
    encode_column(out, (const uint64_t *)items->t_ms, items->n);
    encode_blobs(out, items->item, items->n);
}

enum err_code wal_decode_items(struct bytes payload, struct arena *arena, struct wal_items *out,
                               struct err *err)
{
    struct reader r = reader_init(payload);
    enum err_code rc = decode_start(&r, &out->incarnation, &out->n, 1, err);
    if (rc) return rc;
    out->id = ARENA_ARRAY(arena, uint64_t, out->n);
    out->t_ms = ARENA_ARRAY(arena, int64_t, out->n);
    out->item = ARENA_ARRAY(arena, struct bytes, out->n);
    if (!out->id || !out->t_ms || !out->item) return arena_fail(arena, err);
    rc = decode_column(&r, out->id, out->n, err);
    if (rc == ERR_OK) rc = decode_column(&r, (uint64_t *)out->t_ms, out->n, err);
    if (rc) return rc;
    decode_blobs(&r, out->item, out->n);
    return reader_finish(&r, err);
}

enum err_code wal_record_incarnation(struct bytes payload, uint64_t *incarnation, struct err *err)
{
    struct reader r = reader_init(payload);
    *incarnation = reader_varint(&r);
    if (r.failed) return err_set(err, ERR_CORRUPT, "record without an incarnation");
    return ERR_OK;
}

void wal_encode_time(uint8_t out[WAL_TIME_BYTES], int64_t t_ms)
{
    out[0] = out[1] = 0; /* incarnation, n */
    put_u64_le(out + 2, (uint64_t)t_ms);
}

enum err_code wal_decode_time(struct bytes payload, int64_t *t_ms, struct err *err)
{
    struct reader r = reader_init(payload);
    uint64_t incarnation = reader_varint(&r), n = reader_varint(&r);
    *t_ms = (int64_t)reader_u64(&r);
    if (incarnation || n) return err_set(err, ERR_CORRUPT, "a time mark of a tenant");
    return reader_finish(&r, err);
}

void wal_encode_tenant(struct buf *out, const struct wal_tenant *tenant)
{
    buf_varint(out, tenant->incarnation);
    buf_varint(out, 1);
    buf_str(out, tenant->name);
    buf_zigzag(out, tenant->created_ms);
}

enum err_code wal_decode_tenant(struct bytes payload, struct wal_tenant *out, struct err *err)
{
    struct reader r = reader_init(payload);
    out->incarnation = reader_varint(&r);
    uint64_t n = reader_varint(&r);
    out->name = reader_str(&r);
    out->created_ms = reader_zigzag(&r);
    if (n != 1 || out->incarnation == 0 || out->name.len == 0)
        return err_set(err, ERR_CORRUPT, "a tenant's record makes no sense");
    return reader_finish(&r, err);
}
