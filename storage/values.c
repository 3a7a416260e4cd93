/* storage/values.c: choice of the kind, constants, raw values, patches. */
#include "storage/values.h"

#include "storage/scratch.h"
#include "storage/values_codec.h"

/* A kind that needs no more bytes a value than this is taken without a look at the others. */
#define CHEAP_VALUE_BYTES 3

const double values_pow10[VALUES_E_MAX + 1] = {1e0, 1e1, 1e2, 1e3,  1e4,  1e5, 1e6,
                                               1e7, 1e8, 1e9, 1e10, 1e11, 1e12};
const double values_pow10_inverse[VALUES_E_MAX + 1] = {1e0,  1e-1, 1e-2, 1e-3,  1e-4,  1e-5, 1e-6,
                                                       1e-7, 1e-8, 1e-9, 1e-10, 1e-11, 1e-12};

bool values_scale_ok(uint8_t scale)
{
    unsigned e = scale / 4, mode = scale % 4;
    if (mode == MODE_THOUSANDTHS) return e == 6 || e == 9;
    return e <= VALUES_E_MAX && mode <= MODE_PRODUCT;
}

/* ---- Writing ---- */

struct values_spread values_make_deltas(const int64_t *x, size_t n, int64_t *d)
{
    int64_t x_min = x[0], x_max = x[0], d_min = INT64_MAX, d_max = INT64_MIN;
    for (size_t i = 1; i < n; i++) {
        int64_t delta = (int64_t)((uint64_t)x[i] - (uint64_t)x[i - 1]);
        d[i - 1] = delta;
        x_min = MIN_OF(x_min, x[i]);
        x_max = MAX_OF(x_max, x[i]);
        d_min = MIN_OF(d_min, delta);
        d_max = MAX_OF(d_max, delta);
    }
    uint64_t of_x = (uint64_t)x_max - (uint64_t)x_min, of_d = (uint64_t)d_max - (uint64_t)d_min;
    return (struct values_spread){of_x ? 64 - (unsigned)__builtin_clzll(of_x) : 0,
                                  of_d && n > 1 ? 64 - (unsigned)__builtin_clzll(of_d) : 0};
}

static uint64_t bits_at(const double *v, size_t i)
{
    uint64_t bits;
    memcpy(&bits, v + i, sizeof(bits)); /* no register that could quieten a NaN */
    return bits;
}

/* Have all patches the same bits? Mostly they are staleness markers. */
static bool patches_same(const struct values_in *in)
{
    bool any = false;
    uint64_t first = 0;
    for (size_t i = 0; i < in->n; i++) {
        if (!is_bad(in, i)) continue;
        if (any && bits_at(in->v, i) != first) return false;
        first = bits_at(in->v, i);
        any = true;
    }
    return true;
}

void values_put_patches(struct buf *out, const struct values_in *in, size_t n_bad)
{
    if (!n_bad) return;
    bool same = patches_same(in), any = false;
    buf_varint(out, n_bad * 2 + same);
    size_t next = 0;
    for (size_t i = 0; i < in->n; i++) {
        if (!is_bad(in, i)) continue;
        buf_varint(out, i - next);
        if (!any || !same) buf_u64(out, bits_at(in->v, i));
        any = true;
        next = i + 1;
    }
}

static bool all_same(const double *v, size_t n)
{
    /* Neighbours are compared in blocks, so that most chunks are left after the first one. */
    for (size_t i = 1; i < n; i += 64) {
        size_t len = MIN_OF((size_t)64, n - i);
        if (memcmp(v + i, v + i - 1, len * sizeof(*v)) != 0) return false;
    }
    return true;
}

static void constant_encode(struct buf *out, double v)
{
    int64_t k = values_scaled(v, 1);
    if (same_bits((double)k, v)) {
        buf_u8(out, VALUES_CONSTANT);
        buf_zigzag(out, k);
    } else {
        buf_u8(out, VALUES_CONSTANT | VALUES_CONSTANT_BITS);
        buf_put(out, &v, sizeof(v));
    }
}

static void raw_encode(struct buf *out, const double *v, size_t n)
{
    buf_u8(out, VALUES_RAW);
    buf_put(out, v, n * sizeof(*v));
}

void values_keep_smaller(struct buf *out, size_t start, size_t at)
{
    size_t before = at - start, size = out->len - at;
    if (out->failed) return;
    if (before && size >= before) {
        out->len = at;
    } else if (before) {
        memmove(out->p + start, out->p + at, size);
        out->len = start + size;
    }
}

static void encode_varied(struct buf *out, const struct values_in *in, struct values_hint *hint)
{
    size_t start = out->len, at;
    uint8_t scale = hint->known && hint->kind == VALUES_SCALED ? hint->scale : VALUES_NO_SCALE;
    uint8_t of_sum = hint->known && hint->kind == VALUES_SUM ? hint->scale : VALUES_NO_SCALE;
    bool sum_first = of_sum != VALUES_NO_SCALE && values_sum_encode(out, in, &of_sum);
    at = out->len;
    if (!sum_first || out->len - start > in->n * CHEAP_VALUE_BYTES) {
        if (values_scaled_encode(out, in, &scale)) values_keep_smaller(out, start, at);
    }
    if (out->len == start || out->len - start > in->n * CHEAP_VALUE_BYTES) {
        at = out->len;
        if (!sum_first && values_sum_encode(out, in, &of_sum)) values_keep_smaller(out, start, at);
        at = out->len;
        values_bits_encode(out, in);
        values_keep_smaller(out, start, at);
    }
    if (out->len - start > 1 + in->n * sizeof(*in->v)) {
        out->len = start;
        raw_encode(out, in->v, in->n);
    }
    if (out->failed) return;
    unsigned kind = out->p[start] & VALUES_KIND_MASK;
    *hint = (struct values_hint){(uint8_t)kind, kind == VALUES_SUM ? of_sum : scale, 1};
}

void values_encode(struct buf *out, const double *v, size_t n, enum effort effort,
                   struct values_hint *hint)
{
    ASSERT(n >= 1);
    if (all_same(v, n)) { /* says nothing about the chunk after it: the hint stays */
        constant_encode(out, v[0]);
        return;
    }
    struct values_hint none = {0};
    struct scratch s;
    if (scratch_init(&s, 2 * n + n / 64 + 1)) {
        struct values_in in = {.v = v,
                               .n = n,
                               .effort = effort,
                               .a = s.p,
                               .b = s.p + n,
                               .bad = (uint64_t *)(s.p + 2 * n)};
        encode_varied(out, &in, hint ? hint : &none);
    } else {
        out->failed = true;
    }
    scratch_release(&s);
}

/* ---- Reading ---- */

enum err_code values_patches_read(struct reader *r, uint8_t tag, size_t n, struct bytes *patches,
                                  struct err *err)
{
    *patches = (struct bytes){r->p, 0};
    if (!(tag & VALUES_PATCHES)) return ERR_OK;
    uint64_t head = reader_varint(r), count = head / 2, next = 0;
    if (r->failed || count < 1 || count > n || count > reader_left(r))
        return err_set(err, ERR_CORRUPT, "%llu patches for %zu values", (unsigned long long)count,
                       n);
    for (uint64_t k = 0; k < count; k++) {
        uint64_t gap = reader_varint(r);
        if (k == 0 || head % 2 == 0) reader_skip(r, 8);
        if (r->failed || next >= n || gap >= n - next)
            return err_set(err, ERR_CORRUPT, "a patch outside of %zu values", n);
        next += gap + 1;
    }
    patches->len = (size_t)(r->p - patches->p);
    return ERR_OK;
}

void values_patches_apply(struct bytes patches, double *out)
{
    if (!patches.len) return;
    struct reader r = reader_init(patches);
    uint64_t head = reader_varint(&r), count = head / 2, next = 0, bits = 0;
    for (uint64_t k = 0; k < count; k++) {
        next += reader_varint(&r);
        if (k == 0 || head % 2 == 0) bits = reader_u64(&r);
        memcpy(out + next++, &bits, sizeof(bits)); /* no register that could quieten a NaN */
    }
}

static enum err_code constant_decode(struct reader *r, uint8_t tag, size_t n, double *out,
                                     struct err *err)
{
    uint64_t bits;
    if (tag & VALUES_CONSTANT_BITS) {
        bits = reader_u64(r);
    } else {
        int64_t k = reader_zigzag(r);
        bits = double_bits((double)k);
    }
    if (r->failed) return err_set(err, ERR_CORRUPT, "a constant without its value");
    for (size_t i = 0; i < n; i++) memcpy(out + i, &bits, sizeof(bits));
    return ERR_OK;
}

static enum err_code raw_decode(struct reader *r, size_t n, double *out, struct err *err)
{
    if (reader_left(r) / sizeof(*out) < n)
        return err_set(err, ERR_CORRUPT, "%zu bytes for %zu raw values", reader_left(r), n);
    memcpy(out, reader_bytes(r, n * sizeof(*out)).p, n * sizeof(*out));
    return ERR_OK;
}

/* Which tags there are: kinds 1 to 3 have orders and patches, the others have flags of their own. */
static bool tag_ok(uint8_t tag)
{
    unsigned kind = tag & VALUES_KIND_MASK, order = VALUES_ORDER(tag);
    switch (kind) {
    case VALUES_CONSTANT: return (tag & ~VALUES_CONSTANT_BITS) == VALUES_CONSTANT;
    case VALUES_SCALED: return !(tag & 0x80) && order <= 2;
    case VALUES_SUM: return !(tag & 0x80) && order == 1;
    case VALUES_BITS: return !(tag & 0x80) && order <= 1;
    case VALUES_RAW: return tag == VALUES_RAW;
    default: return false;
    }
}

static enum err_code decode(struct reader *r, uint8_t tag, size_t n, double *out, struct err *err)
{
    switch (tag & VALUES_KIND_MASK) {
    case VALUES_CONSTANT: return constant_decode(r, tag, n, out, err);
    case VALUES_SCALED: return values_scaled_decode(r, tag, n, out, err);
    case VALUES_SUM: return values_sum_decode(r, tag, n, out, err);
    case VALUES_BITS: return values_bits_decode(r, tag, n, out, err);
    default: return raw_decode(r, n, out, err);
    }
}

enum err_code values_decode(struct bytes chunk, size_t n, double *out, struct err *err)
{
    struct reader r = reader_init(chunk);
    uint8_t tag = reader_u8(&r);
    if (r.failed || !tag_ok(tag))
        return err_set(err, ERR_CORRUPT, "a value chunk of %zu bytes and tag %u", chunk.len, tag);
    enum err_code rc = decode(&r, tag, n, out, err);
    if (!rc) rc = reader_finish(&r, err);
    return rc ? err_context(err, "%zu values, %s", n, values_kind_name(chunk)) : ERR_OK;
}

bool values_may_be_nan(struct bytes chunk)
{
    if (!chunk.len || chunk.p[0] & VALUES_PATCHES) return true;
    unsigned kind = chunk.p[0] & VALUES_KIND_MASK;
    return kind != VALUES_SCALED && kind != VALUES_SUM;
}

const char *values_kind_name(struct bytes chunk)
{
    if (chunk.len == 0) return "unknown";
    switch (chunk.p[0] & VALUES_KIND_MASK) {
    case VALUES_CONSTANT: return "constant";
    case VALUES_SCALED: return "integers";
    case VALUES_SUM: return "running sum";
    case VALUES_BITS: return "ordered bits";
    case VALUES_FAMILY: return "family";
    case VALUES_RAW: return "raw";
    default: return "unknown";
    }
}
