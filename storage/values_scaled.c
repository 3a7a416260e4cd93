/* storage/values_scaled.c: doubles that are decimals, as integers. A division is rounded correctly, so every decimal
 * text of up to 15 digits is k / 10^e for just one k; exporters that compute k * 1e-6 or k / 1e3 / 1e3 instead miss
 * that by a bit, hence the modes. Whatever does not come back bit by bit becomes a patch.
 * Trying decimal exponents is from ALP (Afroozeh, Kuffo, Boncz 2023), dividing out the common divisor from Pcodec
 * (Loncaric et al. 2025). */
#include "storage/values_codec.h"

/* Values that are looked at to find the scale. */
#define PROBES 16

/* ---- One value ---- */

static inline double from_scaled(int64_t k, unsigned e, enum values_mode mode)
{
    double d = (double)k;
    switch (mode) {
    case MODE_QUOTIENT: return e ? d / values_pow10[e] : d;
    case MODE_PRODUCT: return d * values_pow10_inverse[e];
    case MODE_THOUSANDTHS: return e == 9 ? d / 1e3 / 1e3 / 1e3 : d / 1e3 / 1e3;
    }
    return 0;
}

static bool fits(double v, unsigned e, enum values_mode mode)
{
    return same_bits(from_scaled(values_scaled(v, values_pow10[e]), e, mode), v);
}

/* ---- Finding the scale ---- */

/* The least e from `e` on that v fits in; above VALUES_E_MAX: none. */
static unsigned least_e(double v, unsigned e, enum values_mode mode)
{
    if (mode == MODE_THOUSANDTHS) {
        e = e <= 6 ? 6 : 9;
        if (fits(v, e, mode)) return e;
        return e == 6 && fits(v, 9, mode) ? 9 : VALUES_E_MAX + 1;
    }
    if (mode == MODE_QUOTIENT) {
        /* What fits at e fits at every larger one that keeps k whole: a full mantissa is turned away at once. */
        unsigned top = VALUES_E_MAX;
        while (top > e && !(__builtin_fabs(v) * values_pow10[top] <= VALUES_INT_MAX)) top--;
        if (!fits(v, top, mode)) return VALUES_E_MAX + 1;
    }
    while (e <= VALUES_E_MAX && !fits(v, e, mode)) e++;
    return e;
}

/* Infinities, NaN and 0 say nothing about the scale. */
static bool says_nothing(double v)
{
    return v == 0 || !(__builtin_fabs(v) <= VALUES_INT_MAX);
}

/* The least e that all probes but a few fit in; above VALUES_E_MAX: none. */
static unsigned search_e(const struct values_in *in, enum values_mode mode)
{
    unsigned e = 0, n_misfits = 0;
    for (size_t k = 0; k < PROBES; k++) {
        double v = in->v[k * (in->n - 1) / (PROBES - 1)];
        if (says_nothing(v)) continue;
        unsigned need = least_e(v, e, mode);
        if (need <= VALUES_E_MAX)
            e = need;
        else if (++n_misfits > 1)
            return need;
    }
    return e;
}

/* ---- Mapping a chunk ---- */

/* k[i] for every value; how many do not come back from theirs. */
static size_t map_quotient(const double *restrict v, size_t n, double pow10, int64_t *restrict k)
{
    size_t n_bad = 0;
    for (size_t i = 0; i < n; i++) {
        k[i] = values_scaled(v[i], pow10);
        n_bad += !same_bits((double)k[i] / pow10, v[i]);
    }
    return n_bad;
}

static size_t map_whole(const double *restrict v, size_t n, int64_t *restrict k)
{
    size_t n_bad = 0;
    for (size_t i = 0; i < n; i++) {
        double x = __builtin_fabs(v[i]) <= VALUES_INT_MAX ? v[i] : 0;
        k[i] = (int64_t)x;
        n_bad += !same_bits((double)k[i], v[i]);
    }
    return n_bad;
}

static size_t map(const struct values_in *in, uint8_t scale)
{
    unsigned e = scale / 4;
    enum values_mode mode = (enum values_mode)(scale % 4);
    if (scale == VALUES_SCALE(0, MODE_QUOTIENT)) return map_whole(in->v, in->n, in->a);
    if (mode == MODE_QUOTIENT) return map_quotient(in->v, in->n, values_pow10[e], in->a);
    size_t n_bad = 0;
    for (size_t i = 0; i < in->n; i++) {
        in->a[i] = values_scaled(in->v[i], values_pow10[e]);
        n_bad += !same_bits(from_scaled(in->a[i], e, mode), in->v[i]);
    }
    return n_bad;
}

/* A larger e that a value needs which does not fit; the same when there is none. *asked: how many were looked at, of
 * those that say anything. */
static unsigned raise_e(const struct values_in *in, unsigned e, enum values_mode mode,
                        unsigned *asked)
{
    *asked = 0;
    for (size_t i = 0; i < in->n && *asked < PROBES; i++) {
        if (says_nothing(in->v[i]) || fits(in->v[i], e, mode)) continue;
        ++*asked;
        unsigned need = least_e(in->v[i], e, mode);
        if (need <= VALUES_E_MAX) return need;
    }
    return e;
}

struct scaled {
    uint8_t scale;
    size_t n_bad; /* values that do not fit it */
    bool best;    /* no other mode would fit better */
};

/* Maps with the scale, or one of the same mode with the e that all need. */
static struct scaled map_raising(const struct values_in *in, uint8_t scale)
{
    for (;;) {
        size_t n_bad = map(in, scale);
        if (n_bad == 0) return (struct scaled){scale, 0, true};
        unsigned asked, e = scale / 4, mode = scale % 4;
        unsigned more = raise_e(in, e, (enum values_mode)mode, &asked);
        if (more == e) return (struct scaled){scale, n_bad, asked == 0};
        scale = VALUES_SCALE(more, mode);
    }
}

/* The integers all end in 0, as far as looked at: a smaller e would do. */
static bool too_fine(const struct values_in *in, uint8_t scale)
{
    if (scale / 4 == 0 || scale % 4 != MODE_QUOTIENT) return false;
    for (size_t k = 0; k < PROBES; k++)
        if (in->a[k * (in->n - 1) / (PROBES - 1)] % 10 != 0) return false;
    return true;
}

/* Tries the hint, then all modes; the integers of what is returned are in in->a. False: none is good enough. */
static bool choose_scale(const struct values_in *in, uint8_t hint, struct scaled *best)
{
    *best = (struct scaled){.scale = VALUES_NO_SCALE, .n_bad = patches_max(in->n) + 1};
    struct scaled s = {.scale = VALUES_NO_SCALE};
    if (hint != VALUES_NO_SCALE && values_scale_ok(hint)) {
        s = map_raising(in, hint);
        if (s.n_bad < best->n_bad && !too_fine(in, s.scale)) *best = s;
    }
    for (unsigned mode = MODE_QUOTIENT; mode <= MODE_THOUSANDTHS && !best->best; mode++) {
        unsigned e = search_e(in, (enum values_mode)mode);
        if (e > VALUES_E_MAX) continue;
        s = map_raising(in, VALUES_SCALE(e, mode));
        if (s.n_bad < best->n_bad) *best = s;
    }
    if (best->scale == VALUES_NO_SCALE) return false;
    if (s.scale != best->scale) (void)map(in, best->scale); /* as many as before */
    return true;
}

/* Marks what does not fit, and lets it repeat the value before it (in front of all others: the first that fits). */
static void mark_bad(const struct values_in *in, uint8_t scale)
{
    unsigned e = scale / 4;
    enum values_mode mode = (enum values_mode)(scale % 4);
    memset(in->bad, 0, (in->n / 64 + 1) * sizeof(*in->bad));
    int64_t before = 0;
    size_t n_leading = 0;
    bool any = false;
    for (size_t i = 0; i < in->n; i++) {
        if (same_bits(from_scaled(in->a[i], e, mode), in->v[i])) {
            before = in->a[i];
            if (!any) n_leading = i;
            any = true;
            continue;
        }
        in->bad[i / 64] |= UINT64_C(1) << (i % 64);
        in->a[i] = before;
    }
    for (size_t i = 0; i < n_leading; i++) in->a[i] = in->a[n_leading];
}

/* ---- Common divisor ---- */

/* Exact division by g, and the test for it, without dividing: by the inverse of its odd part modulo 2^64 (Granlund,
 * Montgomery 1994). */
struct divisor {
    uint64_t g, inverse, limit; /* limit = UINT64_MAX / g */
    unsigned shift;
};

static struct divisor divisor_make(uint64_t g)
{
    unsigned shift = (unsigned)__builtin_ctzll(g);
    uint64_t odd = g >> shift, inverse = odd; /* right in 3 bits, twice as many with each step */
    for (int i = 0; i < 5; i++) inverse *= 2 - odd * inverse;
    return (struct divisor){g, inverse, UINT64_MAX / g, shift};
}

static inline bool divides(const struct divisor *d, uint64_t x)
{
    uint64_t q = x * d->inverse;
    if (d->shift) q = q >> d->shift | q << (64 - d->shift);
    return q <= d->limit;
}

static inline uint64_t magnitude(int64_t x)
{
    return x < 0 ? -(uint64_t)x : (uint64_t)x;
}

static uint64_t gcd_of_two(uint64_t a, uint64_t b)
{
    while (b) {
        uint64_t t = a % b;
        a = b;
        b = t;
    }
    return a;
}

/* Of all that are not 0; 1 when all are. */
static uint64_t gcd_of(const int64_t *x, size_t n)
{
    size_t i = 0;
    while (i < n && x[i] == 0) i++;
    if (i == n) return 1;
    struct divisor d = divisor_make(magnitude(x[i]));
    for (; i < n && d.g != 1; i++)
        if (!divides(&d, magnitude(x[i]))) d = divisor_make(gcd_of_two(d.g, magnitude(x[i])));
    return d.g;
}

static void divide_all(int64_t *x, size_t n, uint64_t g)
{
    struct divisor d = divisor_make(g);
    for (size_t i = 0; i < n; i++) {
        /* The shift drops zeros only; it keeps the sign. */
        x[i] = (int64_t)((uint64_t)(x[i] >> d.shift) * d.inverse);
    }
}

/* ---- Writing ---- */

/* Each order's column, made of the integers in in->a. */
struct column {
    const int64_t *x;
    size_t n;
    uint64_t gcd;
};

/* Deltas and second deltas are made in in->b, so that only one of them is there at a time. deltas_made: they are there
 * already. */
static struct column make_column(const struct values_in *in, unsigned order, bool deltas_made)
{
    const int64_t *k = in->a;
    int64_t *x = in->b;
    size_t n = in->n - order;
    if (order == 0) return (struct column){k, n, 1};
    if (order == 1 && !deltas_made)
        for (size_t i = 0; i < n; i++) x[i] = (int64_t)((uint64_t)k[i + 1] - (uint64_t)k[i]);
    if (order == 2)
        for (size_t i = 0; i < n; i++)
            x[i] = (int64_t)((uint64_t)k[i + 2] - 2 * (uint64_t)k[i + 1] + (uint64_t)k[i]);
    uint64_t gcd = gcd_of(x, n);
    if (gcd > 1) divide_all(x, n, gcd);
    return (struct column){x, n, gcd};
}

static void put_order(struct buf *out, const struct values_in *in, const struct scaled *s,
                      unsigned order, struct column c)
{
    buf_u8(out, (uint8_t)(VALUES_SCALED | order << VALUES_ORDER_SHIFT |
                          (s->n_bad ? VALUES_PATCHES : 0)));
    buf_u8(out, s->scale);
    buf_varint(out, c.gcd);
    if (order >= 1) buf_zigzag(out, in->a[0]);
    if (order == 2) buf_zigzag(out, (int64_t)((uint64_t)in->a[1] - (uint64_t)in->a[0]));
    values_put_patches(out, in, s->n_bad);
    intcol_encode(out, c.x, c.n, in->effort);
}

/* Deltas; the values too where these do not spread more. */
static void put_fast(struct buf *out, const struct values_in *in, const struct scaled *s)
{
    struct values_spread spread = values_make_deltas(in->a, in->n, in->b);
    size_t start = out->len;
    put_order(out, in, s, 1, make_column(in, 1, true));
    if (spread.deltas < spread.values) return;
    size_t at = out->len;
    put_order(out, in, s, 0, make_column(in, 0, true));
    values_keep_smaller(out, start, at);
}

/* Every order that is not much worse than the best when it is packed fast. */
static void put_small(struct buf *out, const struct values_in *in, const struct scaled *s)
{
    unsigned n_orders = in->n > 2 ? 3 : 2;
    size_t sizes[3], best = SIZE_MAX, start = out->len;
    for (unsigned order = 0; order < n_orders; order++) {
        struct column c = make_column(in, order, false);
        sizes[order] = intcol_size(c.x, c.n, EFFORT_FAST);
        best = MIN_OF(best, sizes[order]);
    }
    for (unsigned order = 0; order < n_orders; order++) {
        if (sizes[order] > best + best / 32 + 8) continue;
        size_t at = out->len;
        put_order(out, in, s, order, make_column(in, order, false));
        values_keep_smaller(out, start, at);
    }
}

bool values_scaled_encode(struct buf *out, const struct values_in *in, uint8_t *scale)
{
    struct scaled s;
    if (!choose_scale(in, *scale, &s)) return false;
    if (s.n_bad) mark_bad(in, s.scale);
    if (in->effort == EFFORT_SMALL)
        put_small(out, in, &s);
    else
        put_fast(out, in, &s);
    *scale = s.scale;
    return true;
}

/* ---- Reading ---- */

/* What the integers of a column are multiplied by, and what is added, before they are values' k. */
struct affine {
    uint64_t factor, add;
};

#define INLINE static inline __attribute__((always_inline))

/* Turns the integers at `out` into doubles, in place. */
INLINE void convert(double *out, size_t n, struct affine a, bool same, unsigned e,
                    enum values_mode mode)
{
    const int64_t *x = (const int64_t *)(const void *)out; /* -fno-strict-aliasing */
    double pow10 = values_pow10[e], inverse = values_pow10_inverse[e];
    for (size_t i = 0; i < n; i++) {
        double d = (double)(same ? x[i] : (int64_t)((uint64_t)x[i] * a.factor + a.add));
        if (mode == MODE_QUOTIENT)
            out[i] = e ? d / pow10 : d;
        else if (mode == MODE_PRODUCT)
            out[i] = d * inverse;
        else
            out[i] = e == 9 ? d / 1e3 / 1e3 / 1e3 : d / 1e3 / 1e3;
    }
}

static void convert_all(double *out, size_t n, struct affine a, unsigned e, enum values_mode mode)
{
    bool same = a.factor == 1 && a.add == 0;
    /* One loop each for what is common. */
    if (mode == MODE_QUOTIENT && e == 0 && same)
        convert(out, n, a, true, 0, MODE_QUOTIENT);
    else if (mode == MODE_QUOTIENT && e == 0)
        convert(out, n, a, false, 0, MODE_QUOTIENT);
    else if (mode == MODE_QUOTIENT && same)
        convert(out, n, a, true, e, MODE_QUOTIENT);
    else if (mode == MODE_QUOTIENT)
        convert(out, n, a, false, e, MODE_QUOTIENT);
    else
        convert(out, n, a, false, e, mode);
}

/* The integers of the chunk, but for *a: what stands behind the patches. */
static enum err_code column_read(struct reader *r, unsigned order, uint64_t k0, uint64_t d0,
                                 struct affine *a, int64_t *k, size_t n, struct err *err)
{
    if (order == 0) return intcol_decode(r, n, k, err);
    if (order == 1) {
        int64_t start = a->factor == 1 ? (int64_t)k0 : 0;
        a->add = k0 - (uint64_t)start;
        k[0] = start;
        return intcol_decode_sums(r, n - 1, start, k + 1, err);
    }
    /* k is k0 + i * d0 and the gcd times the sum of the sums. */
    enum err_code rc = intcol_decode_sums(r, n - 2, 0, k + 2, err);
    if (rc) return rc;
    uint64_t sum = k0, factor = a->factor;
    k[0] = (int64_t)k0;
    k[1] = (int64_t)(sum += d0);
    for (size_t i = 2; i < n; i++) k[i] = (int64_t)(sum += d0 + factor * (uint64_t)k[i]);
    a->factor = 1;
    return ERR_OK;
}

enum err_code values_scaled_decode(struct reader *r, uint8_t tag, size_t n, double *out,
                                   struct err *err)
{
    unsigned order = VALUES_ORDER(tag);
    uint8_t scale = reader_u8(r);
    uint64_t gcd = reader_varint(r);
    uint64_t k0 = order >= 1 ? (uint64_t)reader_zigzag(r) : 0;
    uint64_t d0 = order == 2 ? (uint64_t)reader_zigzag(r) : 0;
    struct bytes patches;
    if (r->failed || !values_scale_ok(scale) || gcd < 1 || (order == 0 && gcd != 1) ||
        (order == 2 && n < 2))
        return err_set(err, ERR_CORRUPT, "scale %u, order %u, divisor %llu", scale, order,
                       (unsigned long long)gcd);
    enum err_code rc = values_patches_read(r, tag, n, &patches, err);
    struct affine a = {gcd, 0};
    if (!rc) rc = column_read(r, order, k0, d0, &a, (int64_t *)(void *)out, n, err);
    if (rc) return rc;
    convert_all(out, n, a, scale / 4, (enum values_mode)(scale % 4));
    values_patches_apply(patches, out);
    return ERR_OK;
}
