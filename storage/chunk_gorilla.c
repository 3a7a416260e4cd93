/* storage/chunk_gorilla.c: whole Gorilla chunks. The decoder loads 8 bytes at a time, without a check per field: all
 * but the last bytes are read in place, the tail from a copy padded with zeros, where the end is checked after each
 * sample. Bytes touched per sample: the bits it has, and 16 of output. */
#include "storage/chunk_codec.h"
#include "storage/format.h"
#include "storage/gorilla.h"

/* How far behind the byte a sample starts in its loads may reach: (7 + 4 + 64 + 13) / 8 + 9 = 20 */
#define SAMPLE_REACH_BYTES 24
#define TAIL_BYTES (3 * SAMPLE_REACH_BYTES)
/* Two bits are the least a sample takes. */
#define SAMPLE_BITS_MIN 2

enum err_code chunk_gorilla_encode(const struct samples *s, size_t from, size_t n, struct buf *out,
                                   struct err *err)
{
    struct gorilla g;
    uint8_t *p = buf_reserve(out, GORILLA_HEADER_BYTES + n * GORILLA_SAMPLE_BYTES_MAX);
    if (!p) return ERR_OK; /* out->failed is told by the caller */
    size_t cap = out->cap - out->len;
    gorilla_start(&g, p, s->t_ms[from], s->v[from]);
    for (size_t i = from + 1; i < from + n; i++)
        if (!gorilla_append(&g, p, cap, s->t_ms[i], s->v[i]))
            return err_set(err, ERR_UNSUPPORTED, "a gap of more than 24 days");
    out->len += gorilla_size(&g);
    return ERR_OK;
}

struct cursor {
    uint64_t t, delta, v;   /* of the last sample */
    unsigned trailing, len; /* window; len 0: none yet */
    bool bad;
};

static inline uint64_t bits_peek(const uint8_t *p, size_t pos)
{
    return get_u64_le(p + pos / 8) >> (pos % 8); /* 57 or more are valid */
}

static inline uint64_t bits_get(const uint8_t *p, size_t pos, unsigned n)
{
    uint64_t u = get_u64_le(p + pos / 8) >> (pos % 8);
    if (pos % 8) u |= (uint64_t)p[pos / 8 + 8] << (64 - pos % 8);
    return u & (UINT64_MAX >> (64 - n));
}

/* Advances c by the sample at bit `pos`; returns the bit after it. */
static inline size_t sample_get(struct cursor *c, const uint8_t *p, size_t pos)
{
    static const uint8_t dod_bits[4] = {0, CHUNK_DOD_1_BITS, CHUNK_DOD_2_BITS, CHUNK_DOD_3_BITS};
    uint64_t u = bits_peek(p, pos);
    if (!(u & 1)) {
        pos++;
        u >>= 1;
    } else {
        unsigned ones = (unsigned)__builtin_ctzll(~u | 16);
        if (LIKELY(ones < 4)) {
            unsigned n = dod_bits[ones];
            uint64_t biased = (u >> (ones + 1)) & ((UINT64_C(1) << n) - 1);
            c->delta += biased - (UINT64_C(1) << (n - 1));
            pos += ones + 1 + n;
        } else {
            c->delta += bits_get(p, pos + 4, 64);
            pos += 4 + 64;
        }
        u = bits_peek(p, pos);
    }
    uint64_t t = c->t + c->delta;
    c->bad |= (int64_t)t <= (int64_t)c->t;
    c->t = t;
    if (!(u & 1)) return pos + 1;
    pos += 2;
    if (u & 2) {
        unsigned leading = (u >> 2) & 31;
        c->len = ((u >> 7) & 63) + 1;
        c->bad |= leading + c->len > 64;
        c->trailing = (64 - leading - c->len) & 63;
        pos += 11;
    }
    if (UNLIKELY(c->len == 0)) {
        c->bad = true;
        return pos;
    }
    c->v ^= bits_get(p, pos, c->len) << c->trailing;
    return pos + c->len;
}

struct range {
    int64_t mint_ms, maxt_ms;
};

struct output {
    int64_t *restrict t_ms;
    double *restrict v;
    size_t n;
};

static inline void output_put(struct output *o, const struct cursor *c, struct range range)
{
    o->t_ms[o->n] = (int64_t)c->t;
    o->v[o->n] = double_from_bits(c->v);
    o->n += (int64_t)c->t >= range.mint_ms;
}

/* Samples 1..n-1. *ended: a sample beyond the range came, and the rest was not looked at. */
static bool stream_decode(struct cursor *c, struct bytes stream, size_t n_bits, size_t n,
                          struct range range, struct output *o, bool *ended)
{
    size_t pos = 0, i = 1;
    *ended = false;
    for (; i < n && pos / 8 + SAMPLE_REACH_BYTES <= stream.len; i++) {
        pos = sample_get(c, stream.p, pos);
        if ((int64_t)c->t > range.maxt_ms) {
            *ended = true;
            return !c->bad;
        }
        output_put(o, c, range);
    }
    uint8_t tail[TAIL_BYTES] = {0};
    size_t base = pos / 8;
    if (base < stream.len) memcpy(tail, stream.p + base, MIN_OF(stream.len - base, sizeof(tail)));
    for (; i < n; i++) {
        pos = base * 8 + sample_get(c, tail, pos - base * 8);
        if (pos > n_bits) return false;
        if ((int64_t)c->t > range.maxt_ms) {
            *ended = true;
            return !c->bad;
        }
        output_put(o, c, range);
    }
    bool spare_clear = n_bits % 8 == 0 || stream.p[stream.len - 1] >> (n_bits % 8) == 0;
    return pos == n_bits && spare_clear && !c->bad;
}

enum err_code chunk_gorilla_decode(struct bytes chunk, int64_t mint_ms, int64_t maxt_ms,
                                   struct samples *out, struct err *err)
{
    struct reader r = reader_init(chunk);
    reader_u8(&r);
    unsigned reserved = reader_u8(&r);
    size_t n = reader_u16(&r), n_bits = reader_u32(&r);
    struct cursor c = {.t = reader_u64(&r)};
    c.v = reader_u64(&r);
    size_t stream_bytes = n_bits / 8 + (n_bits % 8 != 0);
    if (r.failed || reserved || n == 0 || reader_left(&r) != stream_bytes ||
        (n - 1) * SAMPLE_BITS_MIN > n_bits)
        return err_set(err, ERR_CORRUPT,
                       "a Gorilla chunk of %zu bytes with %zu samples in %zu bits", chunk.len, n,
                       n_bits);
    enum err_code rc = samples_reserve(out, n, err);
    if (rc) return rc;
    struct range range = {mint_ms, maxt_ms};
    struct output o = {out->t_ms + out->n, out->v + out->n, 0};
    if ((int64_t)c.t > maxt_ms) return ERR_OK;
    output_put(&o, &c, range);
    bool ended;
    if (!stream_decode(&c, reader_bytes(&r, stream_bytes), n_bits, n, range, &o, &ended))
        return err_set(err, ERR_CORRUPT, "a Gorilla chunk of %zu samples: its bits make no sense",
                       n);
    chunk_take_floats(out, o.n);
    return ERR_OK;
}
