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
        /* What fits at e fits at every larger one that keeps k whole: a mantissa full of bits is turned away at once. */
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

static uint8_t search_scale(const struct values_in *in)
{
    for (unsigned mode = MODE_QUOTIENT; mode <= MODE_THOUSANDTHS; mode++) {
        unsigned e = search_e(in, (enum values_mode)mode);
        if (e <= VALUES_E_MAX) return VALUES_SCALE(e, mode);
    }
    return VALUES_NO_SCALE;
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

/* A larger e that some of the values need that do not fit; the same when that is none. */
static unsigned raise_e(const struct values_in *in, unsigned e, enum values_mode mode)
{
    unsigned asked = 0;
    for (size_t i = 0; i < in->n && asked < PROBES; i++) {
        if (says_nothing(in->v[i]) || fits(in->v[i], e, mode)) continue;
        asked++;
        unsigned need = least_e(in->v[i], e, mode);
        if (need <= VALUES_E_MAX) return need;
    }
    return e;
}

/* Maps with the scale, or one with a larger e; false when too many values do not fit. */
static bool map_raising(const struct values_in *in, uint8_t *scale, size_t *n_bad)
{
    for (;;) {
        *n_bad = map(in, *scale);
        if (*n_bad == 0) return true;
        unsigned e = *scale / 4, more = raise_e(in, e, (enum values_mode)(*scale % 4));
        if (more == e) return *n_bad <= patches_max(in->n);
        *scale = VALUES_SCALE(more, *scale % 4);
    }
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

struct scaled {
    uint8_t scale;
    size_t n_bad;
};

static void put_head(struct buf *out, const struct scaled *s, unsigned order, uint64_t gcd)
{
    buf_u8(out, (uint8_t)(VALUES_SCALED | order << VALUES_ORDER_SHIFT |
                          (s->n_bad ? VALUES_PATCHES : 0)));
    buf_u8(out, s->scale);
    buf_varint(out, gcd);
}

static void put_values(struct buf *out, const struct values_in *in, const struct scaled *s)
{
    put_head(out, s, 0, 1);
    values_put_patches(out, in, s->n_bad);
    intcol_encode(out, in->a, in->n, in->effort);
}

/* in->b: the deltas; they are divided by their gcd in place. */
static void put_deltas(struct buf *out, const struct values_in *in, const struct scaled *s)
{
    uint64_t gcd = gcd_of(in->b, in->n - 1);
    if (gcd > 1) divide_all(in->b, in->n - 1, gcd);
    put_head(out, s, 1, gcd);
    buf_zigzag(out, in->a[0]);
    values_put_patches(out, in, s->n_bad);
    intcol_encode(out, in->b, in->n - 1, in->effort);
}

/* Second deltas. Uses up in->b. */
static void put_second_deltas(struct buf *out, const struct values_in *in, const struct scaled *s)
{
    for (size_t i = in->n - 1; i >= 2; i--)
        in->b[i] =
            (int64_t)((uint64_t)in->a[i] - 2 * (uint64_t)in->a[i - 1] + (uint64_t)in->a[i - 2]);
    int64_t *second = in->b + 2;
    uint64_t gcd = gcd_of(second, in->n - 2);
    if (gcd > 1) divide_all(second, in->n - 2, gcd);
    put_head(out, s, 2, gcd);
    buf_zigzag(out, in->a[0]);
    buf_zigzag(out, (int64_t)((uint64_t)in->a[1] - (uint64_t)in->a[0]));
    values_put_patches(out, in, s->n_bad);
    intcol_encode(out, second, in->n - 2, in->effort);
}

/* Fast: values only where the deltas do not spread less. Small: all orders. */
static void put_best_order(struct buf *out, const struct values_in *in, const struct scaled *s)
{
    struct values_spread spread = values_make_deltas(in->a, in->n, in->b);
    size_t start = out->len;
    put_deltas(out, in, s);
    if (in->effort == EFFORT_SMALL || spread.deltas >= spread.values) {
        size_t at = out->len;
        put_values(out, in, s);
        values_keep_smaller(out, start, at);
    }
    if (in->effort == EFFORT_SMALL && in->n > 2) {
        size_t at = out->len;
        put_second_deltas(out, in, s);
        values_keep_smaller(out, start, at);
    }
}

bool values_scaled_encode(struct buf *out, const struct values_in *in, uint8_t *scale)
{
    struct scaled s = {.scale = *scale};
    bool hinted = s.scale != VALUES_NO_SCALE && values_scale_ok(s.scale);
    if (!hinted || !map_raising(in, &s.scale, &s.n_bad)) {
        s.scale = search_scale(in);
        if (s.scale == VALUES_NO_SCALE || !map_raising(in, &s.scale, &s.n_bad)) return false;
    }
    if (s.n_bad) mark_bad(in, s.scale);
    put_best_order(out, in, &s);
    *scale = s.scale;
    return true;
}

/* ---- Reading ---- */

/* Turns the integers at `out` into doubles, in place. */
static void convert_all(double *out, size_t n, unsigned e, enum values_mode mode)
{
    const int64_t *k = (const int64_t *)(const void *)out; /* -fno-strict-aliasing */
    double pow10 = values_pow10[e], inverse = values_pow10_inverse[e];
    if (mode == MODE_PRODUCT) {
        for (size_t i = 0; i < n; i++) out[i] = (double)k[i] * inverse;
    } else if (mode == MODE_THOUSANDTHS) {
        for (size_t i = 0; i < n; i++) out[i] = from_scaled(k[i], e, MODE_THOUSANDTHS);
    } else if (e) {
        for (size_t i = 0; i < n; i++) out[i] = (double)k[i] / pow10;
    } else {
        for (size_t i = 0; i < n; i++) out[i] = (double)k[i];
    }
}

static void multiply_add(int64_t *x, size_t n, uint64_t factor, uint64_t add)
{
    for (size_t i = 0; i < n; i++) x[i] = (int64_t)((uint64_t)x[i] * factor + add);
}

/* The integers of the chunk: what stands behind the patches. */
static enum err_code column_read(struct reader *r, unsigned order, uint64_t gcd, uint64_t k0,
                                 uint64_t d0, int64_t *k, size_t n, struct err *err)
{
    if (order == 0) return intcol_decode(r, n, k, err);
    k[0] = (int64_t)k0;
    if (order == 1) {
        if (gcd == 1) return intcol_decode_sums(r, n - 1, k[0], k + 1, err);
        enum err_code rc = intcol_decode_sums(r, n - 1, 0, k + 1, err);
        if (!rc) multiply_add(k + 1, n - 1, gcd, k0);
        return rc;
    }
    enum err_code rc = intcol_decode_sums(r, n - 2, 0, k + 2, err);
    if (rc) return rc;
    multiply_add(k + 2, n - 2, gcd, d0); /* the deltas */
    k[1] = (int64_t)d0;
    uint64_t sum = k0;
    for (size_t i = 1; i < n; i++) k[i] = (int64_t)(sum += (uint64_t)k[i]);
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
    if (!rc) rc = column_read(r, order, gcd, k0, d0, (int64_t *)(void *)out, n, err);
    if (rc) return rc;
    convert_all(out, n, scale / 4, (enum values_mode)(scale % 4));
    values_patches_apply(patches, out);
    return ERR_OK;
}
