/* query/remote_chunk.c: see the header. */
#include "query/remote_chunk.h"

#include <math.h>

/* --- bits ------------------------------------------------------------------------------------------ */

/* Bytes go straight into the buffer, in room that was made before. */
struct bits {
    struct buf *out;
    uint64_t acc; /* the last n_acc bits are not written yet */
    unsigned n_acc;
};

/* Bytes of one number at most: 8 bits of prefix, 64 of value, and what was left in acc */
#define NUMBER_BYTES 10

static bool bits_room(struct bits *b, size_t n_numbers)
{
    return buf_reserve(b->out, (n_numbers + 1) * NUMBER_BYTES) != NULL;
}

static void bits_put_short(struct bits *b, uint64_t v, unsigned n)
{
    b->acc = b->acc << n | v;
    for (b->n_acc += n; b->n_acc >= 8; b->n_acc -= 8)
        b->out->p[b->out->len++] = (uint8_t)(b->acc >> (b->n_acc - 8));
}

/* The low n bits of v, 0 <= n <= 64 */
static void bits_put(struct bits *b, uint64_t v, unsigned n)
{
    if (n > 32) {
        bits_put_short(b, (v >> 32) & (UINT64_MAX >> (96 - n)), n - 32);
        n = 32;
    }
    if (n) bits_put_short(b, v & (UINT64_MAX >> (64 - n)), n);
}

static void bits_finish(struct bits *b)
{
    if (b->n_acc) bits_put_short(b, 0, 8 - b->n_acc);
}

static bool fits(int64_t v, unsigned n)
{
    return v >= -((INT64_C(1) << (n - 1)) - 1) && v <= INT64_C(1) << (n - 1);
}

static const uint8_t VARBIT_WIDTHS[] = {3, 6, 9, 12, 18, 25, 56};

/* As many ones as the index of the width and a zero; eight ones for 64 bits */
static void put_varbit(struct bits *b, uint64_t v, size_t width)
{
    if (width == COUNT_OF(VARBIT_WIDTHS)) {
        bits_put(b, 0xff, 8);
        bits_put(b, v, 64);
    } else {
        bits_put(b, (UINT64_C(1) << (width + 2)) - 2, (unsigned)width + 2);
        bits_put(b, v, VARBIT_WIDTHS[width]);
    }
}

static void put_varbit_int(struct bits *b, int64_t v)
{
    size_t width = 0;
    if (!v) {
        bits_put(b, 0, 1);
        return;
    }
    while (width < COUNT_OF(VARBIT_WIDTHS) && !fits(v, VARBIT_WIDTHS[width])) width++;
    put_varbit(b, (uint64_t)v, width);
}

static void put_varbit_uint(struct bits *b, uint64_t v)
{
    size_t width = 0;
    if (!v) {
        bits_put(b, 0, 1);
        return;
    }
    while (width < COUNT_OF(VARBIT_WIDTHS) && v >> VARBIT_WIDTHS[width]) width++;
    put_varbit(b, v, width);
}

struct window {
    uint8_t leading, trailing; /* leading 255: none yet */
};

static void put_xor(struct bits *b, struct window *w, double v, double before)
{
    uint64_t x = double_bits(v) ^ double_bits(before);
    if (!x) {
        bits_put(b, 0, 1);
        return;
    }
    uint8_t leading = (uint8_t)__builtin_clzll(x), trailing = (uint8_t)__builtin_ctzll(x);
    if (leading > 31) leading = 31;
    if (w->leading != 255 && leading >= w->leading && trailing >= w->trailing) {
        bits_put(b, 2, 2);
        bits_put(b, x >> w->trailing, 64u - w->leading - w->trailing);
        return;
    }
    *w = (struct window){leading, trailing};
    unsigned n = 64u - leading - trailing;
    bits_put(b, 3, 2);
    bits_put(b, leading, 5);
    bits_put(b, n & 63, 6);
    bits_put(b, x >> trailing, n);
}

/* Differences wrap: a time is anything that fits 64 bits. */
static int64_t minus(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a - (uint64_t)b);
}

/* --- floats ---------------------------------------------------------------------------------------- */

static void bits_put_varint(struct bits *b, uint64_t v)
{
    for (; v > 0x7f; v >>= 7) bits_put(b, (v & 0x7f) | 0x80, 8);
    bits_put(b, v, 8);
}

static void put_float_time(struct bits *b, int64_t dod)
{
    if (!dod)
        bits_put(b, 0, 1);
    else if (fits(dod, 14))
        bits_put(b, 2, 2), bits_put(b, (uint64_t)dod, 14);
    else if (fits(dod, 17))
        bits_put(b, 6, 3), bits_put(b, (uint64_t)dod, 17);
    else if (fits(dod, 20))
        bits_put(b, 14, 4), bits_put(b, (uint64_t)dod, 20);
    else
        bits_put(b, 15, 4), bits_put(b, (uint64_t)dod, 64);
}

static void write_floats(struct bits *b, const int64_t *t_ms, const double *v, size_t n)
{
    struct window w = {255, 0};
    bits_put(b, n, 16);
    bits_put_varint(b, zigzag_encode(t_ms[0]));
    bits_put(b, double_bits(v[0]), 64);
    for (size_t i = 1; i < n; i++) {
        int64_t delta = minus(t_ms[i], t_ms[i - 1]);
        if (i == 1)
            bits_put_varint(b, (uint64_t)delta);
        else
            put_float_time(b, minus(delta, minus(t_ms[i - 1], t_ms[i - 2])));
        put_xor(b, &w, v[i], v[i - 1]);
    }
}

/* --- histograms: what goes into one chunk ---------------------------------------------------------- */

static bool same_spans(const struct histogram_span *a, uint32_t n_a, const struct histogram_span *b,
                       uint32_t n_b)
{
    if (n_a != n_b) return false;
    for (uint32_t i = 0; i < n_a; i++)
        if (a[i].offset != b[i].offset || a[i].length != b[i].length) return false;
    return true;
}

static bool same_layout(const struct histogram *a, const struct histogram *b)
{
    return a->schema == b->schema &&
           double_bits(a->zero_threshold) == double_bits(b->zero_threshold) &&
           same_spans(a->pos_spans, a->n_pos_spans, b->pos_spans, b->n_pos_spans) &&
           same_spans(a->neg_spans, a->n_neg_spans, b->neg_spans, b->n_neg_spans) &&
           a->n_bounds == b->n_bounds &&
           (!a->n_bounds || memcmp(a->bounds, b->bounds, a->n_bounds * sizeof(*a->bounds)) == 0);
}

static bool none_falls(const double *from, const double *to, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (!(to[i] >= from[i])) return false;
    return true;
}

static bool is_gauge(const struct histogram *h)
{
    return h->reset_hint == HISTOGRAM_RESET_GAUGE;
}

/* Readers take it that a counter is not reset inside a chunk. */
static bool may_follow(const struct histogram *a, const struct histogram *b)
{
    if (a->is_int != b->is_int || histogram_is_stale(a)) return false;
    if (histogram_is_stale(b)) return true;
    if (!same_layout(a, b) || is_gauge(a) != is_gauge(b)) return false;
    if (is_gauge(a)) return true;
    return b->reset_hint != HISTOGRAM_RESET_YES && b->count >= a->count &&
           b->zero_count >= a->zero_count && none_falls(a->pos, b->pos, a->n_pos) &&
           none_falls(a->neg, b->neg, a->n_neg);
}

/* --- histograms: the layout ------------------------------------------------------------------------ */

static void put_threshold(struct bits *b, double v)
{
    int exponent;
    double fraction = frexp(v, &exponent);
    if (v == 0 && !signbit(v)) {
        bits_put(b, 0, 8);
    } else if (fraction == 0.5 && exponent >= -242 && exponent <= 11) {
        bits_put(b, (unsigned)(exponent + 243), 8);
    } else {
        bits_put(b, 255, 8);
        bits_put(b, double_bits(v), 64);
    }
}

static void put_spans(struct bits *b, const struct histogram_span *spans, uint32_t n)
{
    put_varbit_uint(b, n);
    for (uint32_t i = 0; i < n && bits_room(b, 2); i++) {
        put_varbit_uint(b, spans[i].length);
        put_varbit_int(b, spans[i].offset);
    }
}

#define BOUND_THOUSANDTHS_MAX 33554430.0 /* so that 1 + it fits 25 bits */

static void put_bound(struct bits *b, double v)
{
    double thousandths = round(v * 1000);
    bool whole = !signbit(v) && thousandths <= BOUND_THOUSANDTHS_MAX && thousandths / 1000 == v;
    put_varbit_uint(b, whole ? (uint64_t)thousandths + 1 : 0);
    if (!whole) bits_put(b, double_bits(v), 64);
}

static void put_layout(struct bits *b, const struct histogram *h)
{
    if (!bits_room(b, 4)) return;
    put_threshold(b, h->zero_threshold);
    put_varbit_int(b, h->schema);
    put_spans(b, h->pos_spans, h->n_pos_spans);
    if (!bits_room(b, 2)) return;
    put_spans(b, h->neg_spans, h->n_neg_spans);
    if (h->schema != HISTOGRAM_SCHEMA_CUSTOM || !bits_room(b, 1)) return;
    put_varbit_uint(b, h->n_bounds);
    for (uint32_t i = 0; i < h->n_bounds && bits_room(b, 2); i++) put_bound(b, h->bounds[i]);
}

static unsigned reset_flags(const struct histogram *h)
{
    static const uint8_t FLAGS[] = {[HISTOGRAM_RESET_UNKNOWN] = 0x00,
                                    [HISTOGRAM_RESET_NO] = 0x40,
                                    [HISTOGRAM_RESET_YES] = 0x80,
                                    [HISTOGRAM_RESET_GAUGE] = 0xc0};
    return FLAGS[h->reset_hint & 3];
}

/* --- histograms: samples --------------------------------------------------------------------------- */

/* The sample being written and the two before it, NULL where the chunk has none. */
struct step {
    const struct histogram *h, *h1, *h2;
    int64_t t, t1, t2;
};

static struct step step_at(const struct samples *s, size_t from, size_t i)
{
    size_t k = from + i;
    struct step step = {.h = s->h[k], .t = s->t_ms[k]};
    if (i > 0) step.h1 = s->h[k - 1], step.t1 = s->t_ms[k - 1];
    if (i > 1) step.h2 = s->h[k - 2], step.t2 = s->t_ms[k - 2];
    return step;
}

/* v with its predecessors, of which the second has a difference of 0 to none. Counts are below 2^53. */
static void put_dod(struct bits *b, const struct step *step, int64_t v, int64_t v1, int64_t v2)
{
    int64_t before = step->h2 ? minus(v1, v2) : 0;
    put_varbit_int(b, step->h1 ? minus(minus(v, v1), before) : v);
}

static void put_count(struct bits *b, const struct step *step, double v, double v1, double v2)
{
    if (!step->h1)
        put_varbit_uint(b, (uint64_t)v);
    else if (histogram_is_stale(step->h))
        put_varbit_int(b, 0);
    else
        put_dod(b, step, (int64_t)v, (int64_t)v1, (int64_t)v2);
}

static int64_t bucket_delta(const double *buckets, uint32_t i)
{
    return (int64_t)buckets[i] - (i ? (int64_t)buckets[i - 1] : 0);
}

static void put_int_buckets(struct bits *b, const struct step *step, const double *now,
                            const double *one, const double *two, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        put_dod(b, step, bucket_delta(now, i), step->h1 ? bucket_delta(one, i) : 0,
                step->h2 ? bucket_delta(two, i) : 0);
}

#define FIELD(h, name) ((h) ? (h)->name : 0)

static void write_int_histogram(struct bits *b, const struct step *step, struct window *sum)
{
    const struct histogram *h = step->h, *h1 = step->h1, *h2 = step->h2;
    if (!bits_room(b, 4 + (size_t)h->n_pos + h->n_neg)) return;
    put_dod(b, step, step->t, step->t1, step->t2);
    put_count(b, step, h->count, FIELD(h1, count), FIELD(h2, count));
    put_count(b, step, h->zero_count, FIELD(h1, zero_count), FIELD(h2, zero_count));
    if (h1)
        put_xor(b, sum, h->sum, h1->sum);
    else
        bits_put(b, double_bits(h->sum), 64);
    if (h1 && histogram_is_stale(h)) return;
    put_int_buckets(b, step, h->pos, FIELD(h1, pos), FIELD(h2, pos), h->n_pos);
    put_int_buckets(b, step, h->neg, FIELD(h1, neg), FIELD(h2, neg), h->n_neg);
}

static void put_float(struct bits *b, const struct step *step, struct window *w, double v,
                      double before)
{
    if (step->h1)
        put_xor(b, w, v, before);
    else
        bits_put(b, double_bits(v), 64);
}

/* windows: of sum, count, zero count, then the buckets' */
static void write_float_histogram(struct bits *b, const struct step *step, struct window *windows)
{
    const struct histogram *h = step->h, *h1 = step->h1;
    if (!bits_room(b, 4 + (size_t)h->n_pos + h->n_neg)) return;
    put_dod(b, step, step->t, step->t1, step->t2);
    put_float(b, step, &windows[1], h->count, FIELD(h1, count));
    put_float(b, step, &windows[2], h->zero_count, FIELD(h1, zero_count));
    put_float(b, step, &windows[0], h->sum, FIELD(h1, sum));
    if (h1 && histogram_is_stale(h)) return;
    windows += 3;
    for (uint32_t i = 0; i < h->n_pos; i++)
        put_float(b, step, windows++, h->pos[i], h1 ? h1->pos[i] : 0);
    for (uint32_t i = 0; i < h->n_neg; i++)
        put_float(b, step, windows++, h->neg[i], h1 ? h1->neg[i] : 0);
}

static enum err_code write_histograms(struct bits *b, const struct samples *s, size_t from,
                                      size_t n, struct arena *scratch, struct err *err)
{
    const struct histogram *first = s->h[from];
    size_t n_windows = 3 + (size_t)first->n_pos + first->n_neg;
    struct window *windows = ARENA_ARRAY(scratch, struct window, n_windows);
    if (!windows) return arena_fail(scratch, err);
    for (size_t i = 0; i < n_windows; i++) windows[i].leading = 255;
    if (bits_room(b, 1)) {
        bits_put(b, n, 16);
        bits_put(b, reset_flags(first), 8);
    }
    put_layout(b, first);
    for (size_t i = 0; i < n; i++) {
        struct step step = step_at(s, from, i);
        if (first->is_int)
            write_int_histogram(b, &step, windows);
        else
            write_float_histogram(b, &step, windows);
    }
    return ERR_OK;
}

/* --- one chunk ------------------------------------------------------------------------------------- */

size_t remote_chunk_count(const struct samples *s, size_t from, enum remote_chunk_type *type)
{
    size_t end = MIN_OF(s->n, from + REMOTE_CHUNK_SAMPLES_MAX), n = 1;
    ASSERT(from < s->n);
    const struct histogram *first = s->h ? s->h[from] : NULL;
    if (!first) {
        while (from + n < end && !(s->h && s->h[from + n])) n++;
        *type = REMOTE_CHUNK_XOR;
        return n;
    }
    end = MIN_OF(end,
                 from + 1 + REMOTE_CHUNK_BUCKETS_MAX / (1 + (size_t)first->n_pos + first->n_neg));
    while (from + n < end && s->h[from + n] && may_follow(s->h[from + n - 1], s->h[from + n])) n++;
    *type = first->is_int ? REMOTE_CHUNK_HISTOGRAM : REMOTE_CHUNK_FLOAT_HISTOGRAM;
    return n;
}

enum err_code remote_chunk_write(struct buf *out, const struct samples *s, size_t from, size_t n,
                                 struct arena *scratch, struct err *err)
{
    struct bits b = {.out = out};
    enum err_code rc = ERR_OK;
    ASSERT(n > 0 && n <= REMOTE_CHUNK_SAMPLES_MAX && n <= s->n - from);
    if (s->h && s->h[from])
        rc = write_histograms(&b, s, from, n, scratch, err);
    else if (bits_room(&b, 2 * n + 1))
        write_floats(&b, s->t_ms + from, s->v + from, n);
    if (bits_room(&b, 1)) bits_finish(&b);
    return rc;
}
