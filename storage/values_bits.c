/* storage/values_bits.c: doubles as the integers that their bits are, in the order of their values. Any pattern goes,
 * nothing is searched for; a difference stays small where the two are close, which XOR does not promise. */
#include "storage/values_codec.h"

/* Its own inverse. */
static inline int64_t ordered(int64_t bits)
{
    return bits ^ (int64_t)((uint64_t)(bits >> 63) >> 1);
}

/* a[i] = ordered v[i]; how many are NaN. */
static size_t map(const struct values_in *in)
{
    size_t n_nan = 0;
    for (size_t i = 0; i < in->n; i++) {
        int64_t bits;
        memcpy(&bits, in->v + i, sizeof(bits));
        in->a[i] = ordered(bits);
        n_nan += bits_are_nan((uint64_t)bits);
    }
    return n_nan;
}

/* NaN becomes a patch: far from everything, it would cost two wide exceptions. */
static void mark_nans(const struct values_in *in)
{
    memset(in->bad, 0, (in->n / 64 + 1) * sizeof(*in->bad));
    size_t first = in->n;
    for (size_t i = 0; i < in->n; i++) {
        if (!bits_are_nan((uint64_t)ordered(in->a[i]))) {
            first = MIN_OF(first, i);
            continue;
        }
        in->bad[i / 64] |= UINT64_C(1) << (i % 64);
        if (i) in->a[i] = in->a[i - 1];
    }
    for (size_t i = 0; first < in->n && i < first; i++) in->a[i] = in->a[first];
}

static void put_order(struct buf *out, const struct values_in *in, unsigned order, size_t n_bad)
{
    buf_u8(out,
           (uint8_t)(VALUES_BITS | order << VALUES_ORDER_SHIFT | (n_bad ? VALUES_PATCHES : 0)));
    if (order == 1) buf_u64(out, (uint64_t)ordered(in->a[0]));
    values_put_patches(out, in, n_bad);
    intcol_encode(out, order ? in->b : in->a, in->n - order, in->effort);
}

void values_bits_encode(struct buf *out, const struct values_in *in)
{
    size_t n_bad = map(in), start = out->len;
    if (n_bad > patches_max(in->n)) n_bad = 0;
    if (n_bad) mark_nans(in);
    /* Deltas; the values themselves too where they do not spread more. */
    struct values_spread spread = values_make_deltas(in->a, in->n, in->b);
    put_order(out, in, 1, n_bad);
    if (spread.deltas < spread.values) return;
    size_t at = out->len;
    put_order(out, in, 0, n_bad);
    values_keep_smaller(out, start, at);
}

enum err_code values_bits_decode(struct reader *r, uint8_t tag, size_t n, double *out,
                                 struct err *err)
{
    int64_t *x = (int64_t *)(void *)out; /* -fno-strict-aliasing */
    unsigned order = VALUES_ORDER(tag);
    uint64_t first = order == 1 ? reader_u64(r) : 0;
    struct bytes patches;
    if (r->failed) return err_set(err, ERR_CORRUPT, "ordered bits without the first value");
    enum err_code rc = values_patches_read(r, tag, n, &patches, err);
    if (rc) return rc;
    if (order == 1) {
        x[0] = ordered((int64_t)first);
        rc = intcol_decode_sums(r, n - 1, x[0], x + 1, err);
    } else {
        rc = intcol_decode(r, n, x, err);
    }
    if (rc) return rc;
    for (size_t i = 0; i < n; i++) x[i] = ordered(x[i]);
    values_patches_apply(patches, out);
    return ERR_OK;
}
