/* storage/values_sum.c: what grows by decimals in floating point. Exporters add seconds or bytes to a double again and
 * again, so that every value looks like a random mantissa; predicted from the value before and the decimal it grew by,
 * it is mostly right to the bit. */
#include "storage/values_codec.h"

/* Steps that are looked at to find the scale, and how many of them must be predicted to the bit. */
#define PROBES 16
#define PROBES_NEEDED 4

static inline double predict(double before, int64_t k, double pow10)
{
    return before + (double)k / pow10;
}

/* Marks what has no arithmetic; u[i] = v[i], or the value before it. Returns how many it marked; n: all. */
static size_t fill_gaps(const struct values_in *in, double *u)
{
    size_t n_bad = 0, first = in->n;
    memset(in->bad, 0, (in->n / 64 + 1) * sizeof(*in->bad));
    for (size_t i = 0; i < in->n; i++) {
        if (__builtin_isfinite(in->v[i])) {
            u[i] = in->v[i];
            if (first == in->n) first = i;
            continue;
        }
        in->bad[i / 64] |= UINT64_C(1) << (i % 64);
        n_bad++;
        u[i] = i ? u[i - 1] : 0;
    }
    for (size_t i = 0; first < in->n && i < first; i++) u[i] = u[first];
    return n_bad;
}

/* How many of the steps looked at are predicted. Those of nothing say nothing. */
static unsigned probe(const double *u, size_t n, unsigned e)
{
    unsigned n_right = 0, n_seen = 0;
    for (size_t i = 1; i < n && n_seen < PROBES; i++) {
        if (u[i] == u[i - 1]) continue;
        n_seen++;
        int64_t k = values_scaled(u[i] - u[i - 1], values_pow10[e]);
        n_right += k && same_bits(predict(u[i - 1], k, values_pow10[e]), u[i]);
    }
    /* With fewer steps than probes, a quarter of them will do. */
    return n_seen && n_right * PROBES >= PROBES_NEEDED * n_seen ? n_right : 0;
}

static uint8_t search_scale(const struct values_in *in, const double *u)
{
    static const uint8_t order[] = {2, 3, 1, 0, 4, 6};
    size_t n_tried = in->effort == EFFORT_SMALL ? COUNT_OF(order) : 1;
    unsigned best = 0;
    uint8_t scale = VALUES_NO_SCALE;
    for (size_t i = 0; i < n_tried; i++) {
        unsigned right = probe(u, in->n, order[i]);
        if (right > best) {
            best = right;
            scale = VALUES_SCALE(order[i], 0);
        }
    }
    return scale;
}

bool values_sum_encode(struct buf *out, const struct values_in *in, uint8_t *scale)
{
    double *u = (double *)(void *)in->a;
    size_t n_bad = fill_gaps(in, u);
    if (n_bad > patches_max(in->n) || n_bad == in->n) return false;
    bool hinted = *scale != VALUES_NO_SCALE && values_scale_ok(*scale) && *scale % 4 == 0;
    if (!hinted || !probe(u, in->n, *scale / 4)) *scale = search_scale(in, u);
    if (*scale == VALUES_NO_SCALE) return false;
    double pow10 = values_pow10[*scale / 4];

    buf_u8(out, (uint8_t)(VALUES_SUM | 1 << VALUES_ORDER_SHIFT | (n_bad ? VALUES_PATCHES : 0)));
    buf_u8(out, *scale);
    buf_double(out, u[0]);
    values_put_patches(out, in, n_bad);
    for (size_t i = 1; i < in->n; i++) in->b[i - 1] = values_scaled(u[i] - u[i - 1], pow10);
    intcol_encode(out, in->b, in->n - 1, in->effort);
    for (size_t i = 1; i < in->n; i++) {
        double p = predict(u[i - 1], in->b[i - 1], pow10);
        in->b[i - 1] = (int64_t)(double_bits(u[i]) - double_bits(p));
    }
    intcol_encode(out, in->b, in->n - 1, in->effort);
    return true;
}

enum err_code values_sum_decode(struct reader *r, uint8_t tag, size_t n, double *out,
                                struct err *err)
{
    uint8_t scale = reader_u8(r);
    double v = reader_double(r);
    struct bytes patches;
    if (r->failed || !values_scale_ok(scale) || scale % 4 != MODE_QUOTIENT)
        return err_set(err, ERR_CORRUPT, "scale %u of a running sum", scale);
    enum err_code rc = values_patches_read(r, tag, n, &patches, err);
    if (!rc) rc = intcol_decode(r, n - 1, (int64_t *)(void *)out + 1, err);
    if (rc) return rc;
    const int64_t *k = (const int64_t *)(const void *)out; /* -fno-strict-aliasing */
    double pow10 = values_pow10[scale / 4];
    struct intcol_cursor c;
    intcol_cursor_init(&c, r, n - 1);
    out[0] = v;
    for (size_t at = 1; at < n;) {
        int64_t corrections[INTCOL_FRAME];
        size_t count;
        rc = intcol_next(&c, corrections, &count, err);
        if (rc) return rc;
        for (size_t i = 0; i < count; i++, at++) {
            uint64_t bits = double_bits(predict(v, k[at], pow10)) + (uint64_t)corrections[i];
            out[at] = v = double_from_bits(bits);
        }
    }
    values_patches_apply(patches, out);
    return ERR_OK;
}
