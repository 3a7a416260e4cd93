/* ingest/prometheus_chunk.c: see the header. Bits past the end read as zeros and are remembered, so that one check after each
 * sample covers all of it. */
#include "ingest/prometheus_chunk.h"

#include <math.h>

#define COUNT_EXACT_MAX 9007199254740992.0 /* 2^53 */

/* ---- bits, most significant first ---- */

struct bits {
    const uint8_t *p;
    size_t n, at; /* bits in all, and read */
    bool over;
};

static bool read_bit(struct bits *b)
{
    if (b->at >= b->n) {
        b->over = true;
        return false;
    }
    bool bit = b->p[b->at / 8] >> (7 - b->at % 8) & 1;
    b->at++;
    return bit;
}

static uint64_t read_bits(struct bits *b, unsigned n)
{
    uint64_t v = 0;
    if (n > b->n - b->at) {
        b->over = true;
        b->at = b->n;
        return 0;
    }
    while (n) {
        unsigned in_byte = 8 - (unsigned)(b->at % 8), take = MIN_OF(n, in_byte);
        unsigned byte = b->p[b->at / 8] >> (in_byte - take) & ((1u << take) - 1);
        v = v << take | byte;
        b->at += take;
        n -= take;
    }
    return v;
}

/* A signed field of n bits holds -(2^(n-1) - 1) to 2^(n-1). */
static int64_t read_signed(struct bits *b, unsigned n)
{
    uint64_t v = read_bits(b, n);
    if (n < 64 && v > UINT64_C(1) << (n - 1)) v -= UINT64_C(1) << n;
    return (int64_t)v;
}

/* So many ones before a zero, at most `max`. */
static unsigned read_ones(struct bits *b, unsigned max)
{
    unsigned n = 0;
    while (n < max && read_bit(b)) n++;
    return n;
}

static uint64_t read_varint(struct bits *b)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint64_t byte = read_bits(b, 8);
        v |= (byte & 0x7f) << shift;
        if (byte < 0x80) return v;
    }
    b->over = true;
    return 0;
}

static const uint8_t VARBIT_WIDTHS[] = {0, 3, 6, 9, 12, 18, 25, 56, 64};

static int64_t read_varbit_int(struct bits *b)
{
    unsigned width = VARBIT_WIDTHS[read_ones(b, 8)];
    return width ? read_signed(b, width) : 0;
}

static uint64_t read_varbit_uint(struct bits *b)
{
    unsigned width = VARBIT_WIDTHS[read_ones(b, 8)];
    return width ? read_bits(b, width) : 0;
}

/* A value that is written as the difference in bits to the one before. */
struct xor_state {
    uint64_t v;
    uint8_t leading, trailing;
};

static void read_xor(struct bits *b, struct xor_state *x)
{
    if (!read_bit(b)) return;
    if (read_bit(b)) {
        unsigned leading = (unsigned)read_bits(b, 5), n = (unsigned)read_bits(b, 6);
        if (n == 0) n = 64;
        if (leading + n > 64) {
            b->over = true;
            return;
        }
        x->leading = (uint8_t)leading;
        x->trailing = (uint8_t)(64 - leading - n);
    }
    x->v ^= read_bits(b, 64u - x->leading - x->trailing) << x->trailing;
}

static double as_double(uint64_t bits)
{
    return double_from_bits(bits);
}

static enum err_code cut_off(size_t i, size_t n, struct err *err)
{
    return err_set(err, ERR_CORRUPT, "chunk: sample %zu of %zu is cut off or broken", i + 1, n);
}

/* ---- floats ---- */

static int64_t read_time_dod(struct bits *b)
{
    static const uint8_t WIDTHS[] = {0, 14, 17, 20, 64};
    unsigned width = WIDTHS[read_ones(b, 4)];
    return width ? read_signed(b, width) : 0;
}

static enum err_code read_floats(struct bits *b, struct samples *out, struct err *err)
{
    size_t n = (size_t)read_bits(b, 16);
    uint64_t t = 0, delta = 0;
    struct xor_state x = {0};
    if (b->over) return cut_off(0, 1, err);
    for (size_t i = 0; i < n; i++) {
        if (i == 0) {
            t = (uint64_t)zigzag_decode(read_varint(b));
            x.v = read_bits(b, 64);
        } else {
            delta = i == 1 ? read_varint(b) : delta + (uint64_t)read_time_dod(b);
            t += delta;
            read_xor(b, &x);
        }
        if (b->over) return cut_off(i, n, err);
        enum err_code rc = samples_push(out, (int64_t)t, as_double(x.v), NULL, err);
        if (rc) return rc;
    }
    return ERR_OK;
}

/* ---- the layout of histograms ---- */

static double read_threshold(struct bits *b)
{
    unsigned byte = (unsigned)read_bits(b, 8);
    if (byte == 0) return 0;
    return byte == 255 ? as_double(read_bits(b, 64)) : ldexp(1, (int)byte - 244);
}

/* *n_buckets: of all spans. Each span takes two bits at least. */
static enum err_code read_spans(struct bits *b, struct arena *arena, struct histogram_span **spans,
                                uint32_t *n, uint32_t *n_buckets, struct err *err)
{
    uint64_t count = read_varbit_uint(b), sum = 0;
    if (count > (b->n - b->at) / 2 || count > HISTOGRAM_BUCKETS_MAX)
        return err_set(err, ERR_CORRUPT, "chunk: %llu spans", (unsigned long long)count);
    *spans = ARENA_ARRAY(arena, struct histogram_span, (size_t)count + 1);
    if (!*spans) return arena_fail(arena, err);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t length = read_varbit_uint(b);
        int64_t offset = read_varbit_int(b);
        sum += MIN_OF(length, (uint64_t)HISTOGRAM_BUCKETS_MAX + 1);
        if (sum > HISTOGRAM_BUCKETS_MAX || offset < INT32_MIN || offset > INT32_MAX)
            return err_set(err, ERR_CORRUPT, "chunk: a span out of range");
        (*spans)[i] = (struct histogram_span){(int32_t)offset, (uint32_t)length};
    }
    *n = (uint32_t)count;
    *n_buckets = (uint32_t)sum;
    return ERR_OK;
}

static enum err_code read_bounds(struct bits *b, struct arena *arena, struct histogram *h,
                                 struct err *err)
{
    uint64_t n = read_varbit_uint(b);
    if (n > b->n - b->at || n > HISTOGRAM_BUCKETS_MAX)
        return err_set(err, ERR_CORRUPT, "chunk: %llu custom bounds", (unsigned long long)n);
    h->bounds = ARENA_ARRAY(arena, double, (size_t)n + 1);
    if (!h->bounds) return arena_fail(arena, err);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t thousandths = read_varbit_uint(b);
        h->bounds[i] = thousandths ? (double)(thousandths - 1) / 1000 : as_double(read_bits(b, 64));
    }
    h->n_bounds = (uint32_t)n;
    return ERR_OK;
}

static enum err_code read_layout(struct bits *b, struct arena *arena, struct histogram *h,
                                 struct err *err)
{
    h->zero_threshold = read_threshold(b);
    int64_t schema = read_varbit_int(b);
    bool known = (schema >= HISTOGRAM_SCHEMA_MIN && schema <= HISTOGRAM_SCHEMA_MAX) ||
                 schema == HISTOGRAM_SCHEMA_CUSTOM;
    if (!known)
        return err_set(err, ERR_CORRUPT, "chunk: a histogram of schema %lld", (long long)schema);
    h->schema = (int32_t)schema;
    enum err_code rc = read_spans(b, arena, &h->pos_spans, &h->n_pos_spans, &h->n_pos, err);
    if (!rc) rc = read_spans(b, arena, &h->neg_spans, &h->n_neg_spans, &h->n_neg, err);
    if (!rc && schema == HISTOGRAM_SCHEMA_CUSTOM) rc = read_bounds(b, arena, h, err);
    if (!rc && b->over) rc = err_set(err, ERR_CORRUPT, "chunk: the layout is cut off");
    return rc;
}

/* ---- histograms ---- */

enum { AT_T, AT_COUNT, AT_ZERO, AT_BUCKETS }; /* places of numbers */

struct histogram_reader {
    struct bits b;
    struct histogram layout; /* and the hint */
    bool gauge, reset;
    uint64_t *v, *delta; /* integers: of AT_…: values and differences, modulo 2^64 */
    struct xor_state sum;
    struct xor_state *x; /* floats: of AT_COUNT…; AT_T is in v */
};

static size_t bucket_count(const struct histogram_reader *r)
{
    return (size_t)r->layout.n_pos + r->layout.n_neg;
}

/* The k-th number of sample i: as it is, then the difference, then how that changes. */
static void read_dod(struct histogram_reader *r, size_t k, size_t i)
{
    if (i == 0) {
        bool is_count = k == AT_COUNT || k == AT_ZERO;
        r->v[k] = is_count ? read_varbit_uint(&r->b) : (uint64_t)read_varbit_int(&r->b);
        return;
    }
    r->delta[k] += (uint64_t)read_varbit_int(&r->b);
    r->v[k] += r->delta[k];
}

static void read_float(struct bits *b, struct xor_state *x, size_t i)
{
    if (i == 0)
        x->v = read_bits(b, 64);
    else
        read_xor(b, x);
}

static void read_int_sample(struct histogram_reader *r, size_t i)
{
    for (size_t k = AT_T; k < AT_BUCKETS; k++) read_dod(r, k, i);
    read_float(&r->b, &r->sum, i);
    if (i && r->sum.v == STALE_NAN_BITS) return;
    for (size_t k = 0; k < bucket_count(r) && !r->b.over; k++) read_dod(r, AT_BUCKETS + k, i);
}

static void read_float_sample(struct histogram_reader *r, size_t i)
{
    read_dod(r, AT_T, i);
    read_float(&r->b, &r->x[AT_COUNT], i);
    read_float(&r->b, &r->x[AT_ZERO], i);
    read_float(&r->b, &r->sum, i);
    if (i && r->sum.v == STALE_NAN_BITS) return;
    for (size_t k = 0; k < bucket_count(r) && !r->b.over; k++)
        read_float(&r->b, &r->x[AT_BUCKETS + k], i);
}

static uint8_t hint_of(const struct histogram_reader *r, size_t i)
{
    if (r->gauge) return HISTOGRAM_RESET_GAUGE;
    return r->reset && i == 0 ? HISTOGRAM_RESET_YES : HISTOGRAM_RESET_UNKNOWN;
}

static void fill_int(const struct histogram_reader *r, struct histogram *h)
{
    uint64_t sum = 0;
    h->count = (double)r->v[AT_COUNT];
    h->zero_count = (double)r->v[AT_ZERO];
    for (uint32_t k = 0; k < h->n_pos; k++)
        h->pos[k] = (double)(int64_t)(sum += r->v[AT_BUCKETS + k]);
    sum = 0;
    for (uint32_t k = 0; k < h->n_neg; k++)
        h->neg[k] = (double)(int64_t)(sum += r->v[AT_BUCKETS + h->n_pos + k]);
}

static void fill_float(const struct histogram_reader *r, struct histogram *h)
{
    h->count = as_double(r->x[AT_COUNT].v);
    h->zero_count = as_double(r->x[AT_ZERO].v);
    for (uint32_t k = 0; k < h->n_pos; k++) h->pos[k] = as_double(r->x[AT_BUCKETS + k].v);
    for (uint32_t k = 0; k < h->n_neg; k++)
        h->neg[k] = as_double(r->x[AT_BUCKETS + h->n_pos + k].v);
}

static bool counts_ok(const double *v, size_t n)
{
    bool ok = true;
    for (size_t k = 0; k < n; k++) ok &= v[k] >= 0 && v[k] <= COUNT_EXACT_MAX;
    return ok;
}

/* Spans and bounds are shared by all samples of the chunk. */
static enum err_code make_histogram(const struct histogram_reader *r, struct arena *arena, size_t i,
                                    struct histogram **out, struct err *err)
{
    struct histogram *h = ARENA_NEW(arena, struct histogram);
    if (!h) return arena_fail(arena, err);
    *out = h;
    h->is_int = r->layout.is_int;
    if (r->sum.v == STALE_NAN_BITS) { /* carries nothing but its sum */
        memcpy(&h->sum, &r->sum.v, sizeof(h->sum));
        return ERR_OK;
    }
    *h = r->layout;
    h->reset_hint = hint_of(r, i);
    memcpy(&h->sum, &r->sum.v, sizeof(h->sum));
    h->pos = ARENA_ARRAY(arena, double, (size_t)h->n_pos + 1);
    h->neg = ARENA_ARRAY(arena, double, (size_t)h->n_neg + 1);
    if (!h->pos || !h->neg) return arena_fail(arena, err);
    if (!h->is_int) {
        fill_float(r, h);
        return ERR_OK;
    }
    fill_int(r, h);
    if (counts_ok(&h->count, 1) && counts_ok(&h->zero_count, 1) && counts_ok(h->pos, h->n_pos) &&
        counts_ok(h->neg, h->n_neg))
        return ERR_OK;
    return err_set(err, ERR_CORRUPT, "chunk: a count of sample %zu is negative or above 2^53",
                   i + 1);
}

static enum err_code reader_begin(struct histogram_reader *r, struct arena *arena, size_t *n,
                                  struct err *err)
{
    *n = (size_t)read_bits(&r->b, 16);
    unsigned flags = (unsigned)read_bits(&r->b, 8) & 0xc0;
    r->gauge = flags == 0xc0;
    r->reset = flags == 0x80;
    enum err_code rc = read_layout(&r->b, arena, &r->layout, err);
    if (rc) return rc;
    size_t n_numbers = AT_BUCKETS + bucket_count(r);
    r->v = ARENA_ARRAY(arena, uint64_t, n_numbers);
    r->delta = ARENA_ARRAY(arena, uint64_t, n_numbers);
    r->x = ARENA_ARRAY(arena, struct xor_state, n_numbers);
    return r->v && r->delta && r->x ? ERR_OK : arena_fail(arena, err);
}

static enum err_code read_histograms(struct histogram_reader *r, struct arena *arena,
                                     struct samples *out, struct err *err)
{
    size_t n;
    enum err_code rc = reader_begin(r, arena, &n, err);
    for (size_t i = 0; !rc && i < n; i++) {
        struct histogram *h = NULL;
        if (r->layout.is_int)
            read_int_sample(r, i);
        else
            read_float_sample(r, i);
        if (r->b.over) return cut_off(i, n, err);
        rc = make_histogram(r, arena, i, &h, err);
        if (!rc) rc = samples_push(out, (int64_t)r->v[AT_T], h->sum, h, err);
        if (!rc && r->sum.v == STALE_NAN_BITS && i + 1 < n)
            rc = err_set(err, ERR_CORRUPT, "chunk: samples after a staleness marker");
    }
    return rc;
}

enum err_code prometheus_chunk_read(unsigned encoding, struct bytes chunk, struct arena *arena,
                                    struct samples *out, struct err *err)
{
    struct bits b = {chunk.p, chunk.len * 8, 0, false};
    if (chunk.len > INT32_MAX) return err_set(err, ERR_CORRUPT, "chunk: %zu bytes", chunk.len);
    if (encoding == PROMETHEUS_XOR) return read_floats(&b, out, err);
    if (encoding != PROMETHEUS_HISTOGRAM && encoding != PROMETHEUS_FLOAT_HISTOGRAM)
        return err_set(err, ERR_UNSUPPORTED, "chunk: encoding %u is not known", encoding);
    struct histogram_reader r = {.b = b, .layout.is_int = encoding == PROMETHEUS_HISTOGRAM};
    return read_histograms(&r, arena, out, err);
}
