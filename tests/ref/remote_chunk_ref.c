#include "tests/ref/remote_chunk_ref.h"

#include <math.h>

struct bits {
    struct bytes b;
    size_t pos;
    bool failed;
};

static uint64_t take(struct bits *b, unsigned n)
{
    uint64_t v = 0;
    for (; n; n--, b->pos++) {
        if (b->pos >= 8 * b->b.len) {
            b->failed = true;
            return 0;
        }
        v = v << 1 | (b->b.p[b->pos / 8] >> (7 - b->pos % 8) & 1);
    }
    return v;
}

static unsigned ones(struct bits *b, unsigned max)
{
    unsigned n = 0;
    while (n < max && take(b, 1)) n++;
    return n;
}

/* n bits whose range is one higher than two's complement's */
static int64_t take_signed(struct bits *b, unsigned n)
{
    uint64_t v = take(b, n);
    if (n < 64 && v > UINT64_C(1) << (n - 1)) v -= UINT64_C(1) << n;
    return (int64_t)v;
}

static const unsigned VARBITS[] = {0, 3, 6, 9, 12, 18, 25, 56, 64};

static int64_t take_varbit_int(struct bits *b)
{
    unsigned n = VARBITS[ones(b, 8)];
    return n ? take_signed(b, n) : 0;
}

static uint64_t take_varbit_uint(struct bits *b)
{
    unsigned n = VARBITS[ones(b, 8)];
    return n ? take(b, n) : 0;
}

static uint64_t take_varint(struct bits *b)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint64_t byte = take(b, 8);
        v |= (byte & 0x7f) << shift;
        if (byte < 0x80) return v;
    }
    b->failed = true;
    return 0;
}

struct xor_state {
    uint64_t v;
    unsigned leading, length;
};

static double take_xor(struct bits *b, struct xor_state *x)
{
    if (!take(b, 1)) return double_from_bits(x->v);
    if (take(b, 1)) {
        x->leading = (unsigned)take(b, 5);
        x->length = (unsigned)take(b, 6);
        if (!x->length) x->length = 64;
    }
    if (x->leading + x->length > 64) b->failed = true;
    if (b->failed) return 0;
    x->v ^= take(b, x->length) << (64 - x->leading - x->length);
    return double_from_bits(x->v);
}

static bool finish(struct bits *b)
{
    size_t left = 8 * b->b.len - b->pos;
    return !b->failed && left < 8 && take(b, (unsigned)left) == 0;
}

static bool read_floats(struct bits *b, struct samples *out)
{
    static const unsigned WIDTHS[] = {0, 14, 17, 20, 64};
    struct err err;
    struct xor_state x = {0};
    int64_t t = 0, delta = 0;
    uint64_t n = take(b, 16);
    for (uint64_t i = 0; i < n && !b->failed; i++) {
        if (i == 0) {
            t = zigzag_decode(take_varint(b));
            x.v = take(b, 64);
        } else if (i == 1) {
            delta = (int64_t)take_varint(b);
        } else {
            unsigned width = WIDTHS[ones(b, 4)];
            delta = (int64_t)((uint64_t)delta + (width ? (uint64_t)take_signed(b, width) : 0));
        }
        t = (int64_t)((uint64_t)t + (uint64_t)delta);
        double v = i ? take_xor(b, &x) : double_from_bits(x.v);
        if (samples_push(out, t, v, NULL, &err)) return false;
    }
    return finish(b);
}

#define BUCKETS_MAX 70000

static struct histogram_span *take_spans(struct bits *b, struct arena *arena, uint32_t *n,
                                         uint32_t *n_buckets)
{
    uint64_t count = take_varbit_uint(b);
    if (count > BUCKETS_MAX) b->failed = true;
    struct histogram_span *spans =
        ARENA_ARRAY(arena, struct histogram_span, b->failed ? 1 : (size_t)count + 1);
    *n = (uint32_t)count;
    *n_buckets = 0;
    for (uint64_t i = 0; i < count && !b->failed; i++) {
        spans[i].length = (uint32_t)take_varbit_uint(b);
        spans[i].offset = (int32_t)take_varbit_int(b);
        *n_buckets += spans[i].length;
        if (*n_buckets > BUCKETS_MAX) b->failed = true;
    }
    return spans;
}

static void take_layout(struct bits *b, struct arena *arena, struct histogram *h)
{
    uint64_t z = take(b, 8);
    h->zero_threshold = z == 0     ? 0
                        : z == 255 ? double_from_bits(take(b, 64))
                                   : ldexp(0.5, (int)z - 243);
    h->schema = (int32_t)take_varbit_int(b);
    h->pos_spans = take_spans(b, arena, &h->n_pos_spans, &h->n_pos);
    h->neg_spans = take_spans(b, arena, &h->n_neg_spans, &h->n_neg);
    if (h->schema != HISTOGRAM_SCHEMA_CUSTOM) return;
    h->n_bounds = (uint32_t)take_varbit_uint(b);
    if (h->n_bounds > BUCKETS_MAX) b->failed = true;
    if (b->failed) return;
    h->bounds = ARENA_ARRAY(arena, double, h->n_bounds + 1);
    for (uint32_t i = 0; i < h->n_bounds; i++) {
        uint64_t v = take_varbit_uint(b);
        h->bounds[i] = v ? (double)(v - 1) / 1000 : double_from_bits(take(b, 64));
    }
}

/* A whole number with its last difference. */
struct number {
    int64_t v, delta;
    struct xor_state x;
};

static int64_t next_int(struct bits *b, struct number *n, bool first)
{
    int64_t d = take_varbit_int(b);
    if (first) return n->v = d;
    n->delta = (int64_t)((uint64_t)n->delta + (uint64_t)d);
    return n->v = (int64_t)((uint64_t)n->v + (uint64_t)n->delta);
}

static double next_float(struct bits *b, struct number *n, bool first)
{
    if (!first) return take_xor(b, &n->x);
    n->x.v = take(b, 64);
    return double_from_bits(n->x.v);
}

static int64_t next_count(struct bits *b, struct number *n, bool first)
{
    if (first) return n->v = (int64_t)take_varbit_uint(b);
    return next_int(b, n, false);
}

static void take_buckets(struct bits *b, bool is_int, struct number *state, double *out, uint32_t n,
                         bool first)
{
    int64_t sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (is_int)
            out[i] = (double)(sum += next_int(b, &state[i], first));
        else
            out[i] = next_float(b, &state[i], first);
    }
}

struct reader_state {
    struct bits *b;
    struct histogram layout;
    struct number t, count, zero, sum;
    struct number *pos, *neg;
};

static bool take_one(struct reader_state *s, bool first, unsigned flags, struct samples *out)
{
    struct err err;
    struct bits *b = s->b;
    struct histogram *h = ARENA_NEW(out->arena, struct histogram);
    *h = s->layout;
    int64_t t = next_int(b, &s->t, first);
    h->count =
        h->is_int ? (double)next_count(b, &s->count, first) : next_float(b, &s->count, first);
    h->zero_count =
        h->is_int ? (double)next_count(b, &s->zero, first) : next_float(b, &s->zero, first);
    h->sum = next_float(b, &s->sum, first);
    h->reset_hint = HISTOGRAM_RESET_NO;
    if (first || flags == 3)
        h->reset_hint = (const uint8_t[]){HISTOGRAM_RESET_UNKNOWN, HISTOGRAM_RESET_NO,
                                          HISTOGRAM_RESET_YES, HISTOGRAM_RESET_GAUGE}[flags];
    if (!first && histogram_is_stale(h)) {
        *h = (struct histogram){.is_int = h->is_int, .sum = h->sum};
    } else {
        h->pos = ARENA_ARRAY(out->arena, double, h->n_pos + 1);
        h->neg = ARENA_ARRAY(out->arena, double, h->n_neg + 1);
        take_buckets(b, h->is_int, s->pos, h->pos, h->n_pos, first);
        take_buckets(b, h->is_int, s->neg, h->neg, h->n_neg, first);
    }
    return !b->failed && samples_push(out, t, h->sum, h, &err) == ERR_OK;
}

static bool read_histograms(struct bits *b, bool is_int, struct samples *out)
{
    struct reader_state s = {.b = b, .layout = {.is_int = is_int}};
    uint64_t n = take(b, 16);
    unsigned flags = (unsigned)take(b, 2);
    if (take(b, 6)) return false;
    take_layout(b, out->arena, &s.layout);
    if (b->failed) return false;
    s.pos = ARENA_ARRAY(out->arena, struct number, s.layout.n_pos + 1);
    s.neg = ARENA_ARRAY(out->arena, struct number, s.layout.n_neg + 1);
    for (uint64_t i = 0; i < n; i++)
        if (!take_one(&s, i == 0, flags, out)) return false;
    return finish(b);
}

bool ref_remote_chunk_read(unsigned type, struct bytes chunk, struct samples *out)
{
    struct bits b = {.b = chunk};
    struct err err;
    if (type == 1) return read_floats(&b, out);
    if (!out->h && samples_want_histograms(out, &err)) return false;
    return type <= 3 && read_histograms(&b, type == 2, out);
}
