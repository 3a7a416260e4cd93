/* storage/values_codec.h: what the kinds of value chunks offer to values.c; nobody else includes this.
 * Encoders append a whole chunk, or nothing when the values are not theirs. Decoders read what stands behind the tag. */
#ifndef QUIPU_STORAGE_VALUES_CODEC_H
#define QUIPU_STORAGE_VALUES_CODEC_H

#include "storage/format.h"
#include "storage/values.h"

struct values_in {
    const double *v;
    size_t n; /* >= 2 */
    enum effort effort;
    /* To work in: two columns of n, and a bit per value. */
    int64_t *a, *b;
    uint64_t *bad;
};

/* ---- Doubles and decimals, the same expressions in encoder and decoder ---- */

enum values_mode {
    MODE_QUOTIENT = 0,   /* k / 10^e */
    MODE_PRODUCT = 1,    /* k * 10^-e */
    MODE_THOUSANDTHS = 2 /* k / 1e3 / 1e3, and / 1e3 once more when e is 9 */
};
#define VALUES_E_MAX 12
#define VALUES_INT_MAX 0x1p53 /* whole doubles up to here have neighbours at a distance of 1 */

extern const double values_pow10[VALUES_E_MAX + 1];
extern const double values_pow10_inverse[VALUES_E_MAX + 1]; /* the nearest doubles */

#define VALUES_SCALE(e, mode) ((uint8_t)((e)*4 + (mode)))
bool values_scale_ok(uint8_t scale);

/* The integer that v would be times 10^e, 0 when that is too large or NaN. */
static inline int64_t values_scaled(double v, double pow10)
{
    double x = v * pow10;
    return __builtin_llrint(__builtin_fabs(x) <= VALUES_INT_MAX ? x : 0);
}

static inline bool same_bits(double a, double b)
{
    return double_bits(a) == double_bits(b);
}

static inline bool bits_are_nan(uint64_t bits)
{
    return bits << 1 > UINT64_C(0xFFE0000000000000);
}

/* ---- Patches ---- */

static inline bool is_bad(const struct values_in *in, size_t i)
{
    return in->bad[i / 64] >> (i % 64) & 1;
}
/* How many patches a chunk may have: a series that comes and goes has a staleness marker in every second sample. */
static inline size_t patches_max(size_t n)
{
    return n / 2 + 1;
}
void values_put_patches(struct buf *out, const struct values_in *in, size_t n_bad);

/* Passes over the patches that stand here if the tag says so; checks them. */
MUST_USE enum err_code values_patches_read(struct reader *r, uint8_t tag, size_t n,
                                           struct bytes *patches, struct err *err);
void values_patches_apply(struct bytes patches, double *out);

/* ---- Kinds ---- */

/* False: they are not decimals. *scale: the one to try first, or VALUES_NO_SCALE; then the one that was taken. */
#define VALUES_NO_SCALE 0xFF
MUST_USE bool values_scaled_encode(struct buf *out, const struct values_in *in, uint8_t *scale);
MUST_USE enum err_code values_scaled_decode(struct reader *r, uint8_t tag, size_t n, double *out,
                                            struct err *err);
/* False: they are no running sum of decimals. *scale as above. */
MUST_USE bool values_sum_encode(struct buf *out, const struct values_in *in, uint8_t *scale);
MUST_USE enum err_code values_sum_decode(struct reader *r, uint8_t tag, size_t n, double *out,
                                         struct err *err);
void values_bits_encode(struct buf *out, const struct values_in *in);
MUST_USE enum err_code values_bits_decode(struct reader *r, uint8_t tag, size_t n, double *out,
                                          struct err *err);

/* The chunk that begins at `at` stays only if it is smaller than the one before it, from `start` on. */
void values_keep_smaller(struct buf *out, size_t start, size_t at);

/* The width of values and of their deltas says which of the two are worth packing. */
struct values_spread {
    unsigned values, deltas; /* bits of the largest difference between two of them */
};
/* d[i] = x[i + 1] - x[i], of n - 1. */
struct values_spread values_make_deltas(const int64_t *x, size_t n, int64_t *d);

#endif
