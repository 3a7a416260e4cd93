/* storage/gorilla.c: the appender of the ingest path. It composes a sample's bits in a register and stores whole
 * words: one to three 8-byte stores a sample, and one for the header. Layout: storage/format.h. */
#include "storage/gorilla.h"

#include "storage/format.h"

#define WINDOW_NONE 0xFF
/* A new window costs 11 bits more than the old one; that many spare bits in the old one are worth it. */
#define WINDOW_BITS 11

static_assert(GORILLA_HEADER_BYTES == 24, "see storage/format.h");
static_assert((7 + 4 + 64 + 2 + WINDOW_BITS + 64 + 7) / 8 <= GORILLA_SAMPLE_BYTES_MAX,
              "worst case of a sample");
static_assert(GORILLA_SAMPLE_BYTES_MAX <= GORILLA_APPEND_BYTES,
              "one sample fits the scratch of the slow path");

struct bit_writer {
    uint8_t *p;
    uint64_t acc;
    unsigned fill; /* bits in acc, 0..63 */
};

/* n in 1..64; bits < 2^n. */
static inline void bits_put(struct bit_writer *w, uint64_t bits, unsigned n)
{
    w->acc |= bits << w->fill;
    unsigned sum = w->fill + n;
    if (sum < 64) {
        w->fill = sum;
        return;
    }
    put_u64_le(w->p, w->acc);
    w->p += 8;
    w->fill = sum - 64;
    w->acc = w->fill ? bits >> (n - w->fill) : 0;
}

static inline void put_dod(struct bit_writer *w, int64_t dod)
{
    if (LIKELY(dod == 0)) {
        bits_put(w, 0, 1);
        return;
    }
    uint64_t u = (uint64_t)dod;
    if (u + (1 << (CHUNK_DOD_1_BITS - 1)) < 1 << CHUNK_DOD_1_BITS) {
        bits_put(w, 1 | (u + (1 << (CHUNK_DOD_1_BITS - 1))) << 2, 2 + CHUNK_DOD_1_BITS);
    } else if (u + (1 << (CHUNK_DOD_2_BITS - 1)) < 1 << CHUNK_DOD_2_BITS) {
        bits_put(w, 3 | (u + (1 << (CHUNK_DOD_2_BITS - 1))) << 3, 3 + CHUNK_DOD_2_BITS);
    } else if (u + (1 << (CHUNK_DOD_3_BITS - 1)) < 1 << CHUNK_DOD_3_BITS) {
        bits_put(w, 7 | (u + (1 << (CHUNK_DOD_3_BITS - 1))) << 4, 4 + CHUNK_DOD_3_BITS);
    } else {
        bits_put(w, 15, 4);
        bits_put(w, u, 64);
    }
}

static inline void put_xor(struct bit_writer *w, struct gorilla *g, uint64_t x)
{
    if (x == 0) {
        bits_put(w, 0, 1);
        return;
    }
    unsigned leading = (unsigned)__builtin_clzll(x), trailing = (unsigned)__builtin_ctzll(x);
    if (leading > 31) leading = 31; /* five bits */
    unsigned len = 64 - leading - trailing;
    if (g->leading != WINDOW_NONE && leading >= g->leading && trailing >= g->trailing) {
        unsigned window = 64u - g->leading - g->trailing;
        if (window <= len + WINDOW_BITS) {
            bits_put(w, 1, 2);
            bits_put(w, x >> g->trailing, window);
            return;
        }
    }
    bits_put(w, 3 | (uint64_t)leading << 2 | (uint64_t)(len - 1) << 7, 2 + WINDOW_BITS);
    bits_put(w, x >> trailing, len);
    g->leading = (uint8_t)leading;
    g->trailing = (uint8_t)trailing;
}

static void put_header(const struct gorilla *g, uint8_t *p)
{
    put_u64_le(p, CHUNK_GORILLA | (uint64_t)g->n << 16 | (uint64_t)g->n_bits << 32);
}

void gorilla_start(struct gorilla *g, uint8_t *p, int64_t t_ms, double v)
{
    *g = (struct gorilla){
        .t_last_ms = t_ms, .v_last_bits = double_bits(v), .n = 1, .leading = WINDOW_NONE};
    put_header(g, p);
    put_u64_le(p + 8, (uint64_t)t_ms);
    put_u64_le(p + 16, double_bits(v));
}

bool gorilla_fits(const struct gorilla *g, int64_t t_ms)
{
    return g->n < CHUNK_SAMPLES_MAX && t_ms > g->t_last_ms &&
           (uint64_t)t_ms - (uint64_t)g->t_last_ms <= INT32_MAX;
}

size_t gorilla_size(const struct gorilla *g)
{
    return GORILLA_HEADER_BYTES + ((size_t)g->n_bits + 7) / 8;
}

struct bytes gorilla_bytes(const struct gorilla *g, const uint8_t *p)
{
    return (struct bytes){p, gorilla_size(g)};
}

/* The bits of one sample behind those in use. `to` holds the byte that the stream ends in (if it ends within one)
 * and has GORILLA_APPEND_BYTES. Returns how many bits. */
static inline unsigned put_sample(struct gorilla *g, uint8_t *to, int64_t dod, uint64_t v_bits)
{
    unsigned fill = g->n_bits % 8;
    struct bit_writer w = {to, fill ? *to : 0, fill};
    put_dod(&w, dod);
    put_xor(&w, g, v_bits ^ g->v_last_bits);
    put_u64_le(w.p, w.acc);
    return (unsigned)(w.p - to) * 8 + w.fill - fill;
}

void gorilla_append_bits(struct gorilla *g, uint8_t *to, int64_t t_ms, double v)
{
    int32_t delta = (int32_t)(t_ms - g->t_last_ms);
    uint64_t v_bits = double_bits(v);
    g->n_bits += put_sample(g, to, (int64_t)delta - g->t_delta, v_bits);
    g->t_last_ms = t_ms;
    g->t_delta = delta;
    g->v_last_bits = v_bits;
    g->n++;
}

bool gorilla_append(struct gorilla *g, uint8_t *p, size_t cap, int64_t t_ms, double v)
{
    if (UNLIKELY(!gorilla_fits(g, t_ms))) return false;
    size_t off = GORILLA_HEADER_BYTES + g->n_bits / 8;
    if (LIKELY(cap >= off + GORILLA_APPEND_BYTES)) {
        gorilla_append_bits(g, p + off, t_ms, v);
    } else {
        /* Close to the end of the memory: compose beside it, so that a cell is filled to its last byte. */
        uint8_t scratch[GORILLA_APPEND_BYTES] = {0};
        struct gorilla next = *g;
        if (g->n_bits % 8) scratch[0] = p[off];
        gorilla_append_bits(&next, scratch, t_ms, v);
        size_t size = gorilla_size(&next);
        if (size > cap) return false;
        memcpy(p + off, scratch, size - off);
        *g = next;
    }
    put_header(g, p);
    return true;
}

void gorilla_put_header(const struct gorilla *g, int64_t t_first_ms, uint64_t v_first_bits,
                        uint8_t out[GORILLA_HEADER_BYTES])
{
    put_header(g, out);
    put_u64_le(out + 8, (uint64_t)t_first_ms);
    put_u64_le(out + 16, v_first_bits);
}
