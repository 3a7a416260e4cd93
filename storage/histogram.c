/* storage/histogram.c: histograms as bytes, and what a receiver checks.
 *
 * Format, version 1 (varint is unsigned LEB128, zz(x) its zig-zag form, doubles are their 64 bits):
 *   u8 1, u8 flags, zz(schema), f64 sum
 *   HAS_START:  zz(start_ms)
 *   count
 *   HAS_ZERO:   f64 zero threshold, zero count
 *   positive side, and negative side if HAS_NEGATIVE: varint n_spans, per span zz(offset) and varint length; then
 *               the buckets, as many as the lengths add up to
 *   custom schema: varint n_bounds, n_bounds times f64
 * With WHOLE_COUNTS every count is a whole number of 0..2^53 and not -0: count and zero count are varints, buckets
 * zz of the difference to the bucket before (the first: to 0). Else counts are f64. */
#include "storage/histogram.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define HISTOGRAM_VERSION 1
#define FLAG_HINT 0x03
#define FLAG_INT 0x04
#define FLAG_HAS_START 0x08
#define FLAG_HAS_ZERO 0x10
#define FLAG_HAS_NEGATIVE 0x20
#define FLAG_WHOLE_COUNTS 0x40
#define FLAGS_KNOWN 0x7F

#define COUNT_MAX (UINT64_C(1) << 53) /* up to here every whole number is a double */
#define SPAN_BYTES_MIN 2

static bool is_whole(double v)
{
    return v >= 0 && v <= (double)COUNT_MAX && double_bits((double)(uint64_t)v) == double_bits(v);
}

static bool all_whole(const double *v, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (!is_whole(v[i])) return false;
    }
    return true;
}

static void encode_spans(struct buf *out, const struct histogram_span *spans, uint32_t n_spans)
{
    buf_varint(out, n_spans);
    for (uint32_t i = 0; i < n_spans; i++) {
        buf_zigzag(out, spans[i].offset);
        buf_varint(out, spans[i].length);
    }
}

static void encode_side(struct buf *out, const struct histogram_span *spans, uint32_t n_spans,
                        const double *counts, uint32_t n, bool whole)
{
    encode_spans(out, spans, n_spans);
    int64_t before = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (whole) {
            buf_zigzag(out, (int64_t)counts[i] - before);
            before = (int64_t)counts[i];
        } else {
            buf_double(out, counts[i]);
        }
    }
}

static void encode_count(struct buf *out, double v, bool whole)
{
    if (whole)
        buf_varint(out, (uint64_t)v);
    else
        buf_double(out, v);
}

static void encode_bounds(struct buf *out, const struct histogram *h)
{
    buf_varint(out, h->n_bounds);
    for (uint32_t i = 0; i < h->n_bounds; i++) buf_double(out, h->bounds[i]);
}

void histogram_encode(struct buf *out, const struct histogram *h)
{
    bool custom = h->schema == HISTOGRAM_SCHEMA_CUSTOM;
    bool whole = is_whole(h->count) && is_whole(h->zero_count) && all_whole(h->pos, h->n_pos) &&
                 all_whole(h->neg, h->n_neg);
    bool has_zero = double_bits(h->zero_threshold) || double_bits(h->zero_count);
    bool has_neg = h->n_neg_spans || h->n_neg;
    ASSERT(h->reset_hint <= FLAG_HINT);
    ASSERT(custom || h->n_bounds == 0);
    buf_u8(out, HISTOGRAM_VERSION);
    buf_u8(out, (uint8_t)(h->reset_hint | (h->is_int ? FLAG_INT : 0) |
                          (h->start_ms ? FLAG_HAS_START : 0) | (has_zero ? FLAG_HAS_ZERO : 0) |
                          (has_neg ? FLAG_HAS_NEGATIVE : 0) | (whole ? FLAG_WHOLE_COUNTS : 0)));
    buf_zigzag(out, h->schema);
    buf_double(out, h->sum);
    if (h->start_ms) buf_zigzag(out, h->start_ms);
    encode_count(out, h->count, whole);
    if (has_zero) {
        buf_double(out, h->zero_threshold);
        encode_count(out, h->zero_count, whole);
    }
    encode_side(out, h->pos_spans, h->n_pos_spans, h->pos, h->n_pos, whole);
    if (has_neg) encode_side(out, h->neg_spans, h->n_neg_spans, h->neg, h->n_neg, whole);
    if (custom) encode_bounds(out, h);
}

/* zz(schema) * 2 + (there is a threshold), f64 threshold, both sides' spans, custom schema: bounds. */
void histogram_layout_encode(struct buf *out, const struct histogram *h)
{
    bool custom = h->schema == HISTOGRAM_SCHEMA_CUSTOM,
         has_threshold = double_bits(h->zero_threshold);
    ASSERT(custom || h->n_bounds == 0);
    buf_varint(out, zigzag_encode(h->schema) * 2 + has_threshold);
    if (has_threshold) buf_double(out, h->zero_threshold);
    encode_spans(out, h->pos_spans, h->n_pos_spans);
    encode_spans(out, h->neg_spans, h->n_neg_spans);
    if (custom) encode_bounds(out, h);
}

/* ---- decoding ---- */

struct side {
    struct histogram_span *spans;
    double *counts;
    uint32_t n_spans, n;
    int64_t end; /* index after the last bucket */
};

static enum err_code decode_spans(struct reader *r, struct arena *arena, struct side *side,
                                  struct err *err)
{
    uint64_t n_spans = reader_varint(r);
    if (n_spans > HISTOGRAM_BUCKETS_MAX || n_spans > reader_left(r) / SPAN_BYTES_MIN)
        return err_set(err, ERR_CORRUPT, "histogram: %" PRIu64 " spans in %zu bytes", n_spans,
                       reader_left(r));
    if (n_spans == 0) return ERR_OK;
    side->spans = ARENA_ARRAY(arena, struct histogram_span, (size_t)n_spans);
    if (!side->spans) return arena_fail(arena, err);
    uint64_t n = 0;
    int64_t index = 0;
    for (uint32_t i = 0; i < n_spans; i++) {
        int64_t offset = reader_zigzag(r);
        uint64_t length = reader_varint(r);
        if (offset < (i ? 0 : -HISTOGRAM_INDEX_MAX) || offset > HISTOGRAM_INDEX_MAX ||
            length > HISTOGRAM_BUCKETS_MAX)
            return err_set(err, ERR_CORRUPT, "histogram: span %u is out of range", i);
        n += length;
        index += offset + (int64_t)length;
        if (n > HISTOGRAM_BUCKETS_MAX || index > HISTOGRAM_INDEX_MAX)
            return err_set(err, ERR_CORRUPT, "histogram: span %u reaches too far", i);
        side->spans[i] = (struct histogram_span){(int32_t)offset, (uint32_t)length};
    }
    side->n_spans = (uint32_t)n_spans;
    side->n = (uint32_t)n;
    side->end = index;
    return ERR_OK;
}

static enum err_code decode_side(struct reader *r, struct arena *arena, bool whole,
                                 struct side *side, struct err *err)
{
    enum err_code rc = decode_spans(r, arena, side, err);
    if (rc || side->n == 0) return rc;
    if (side->n > reader_left(r) / (whole ? 1 : sizeof(double)))
        return err_set(err, ERR_CORRUPT, "histogram: %u buckets in %zu bytes", side->n,
                       reader_left(r));
    side->counts = ARENA_ARRAY(arena, double, side->n);
    if (!side->counts) return arena_fail(arena, err);
    uint64_t count = 0;
    for (uint32_t i = 0; i < side->n; i++) {
        if (!whole) {
            side->counts[i] = reader_double(r);
            continue;
        }
        count += (uint64_t)reader_zigzag(r);
        if (count > COUNT_MAX)
            return err_set(err, ERR_CORRUPT, "histogram: bucket %u is out of range", i);
        side->counts[i] = (double)count;
    }
    return ERR_OK;
}

static enum err_code decode_bounds(struct reader *r, struct arena *arena, struct histogram *h,
                                   int64_t reach, struct err *err)
{
    uint64_t n = reader_varint(r);
    if (n > HISTOGRAM_BUCKETS_MAX || n > reader_left(r) / sizeof(double))
        return err_set(err, ERR_CORRUPT, "histogram: %" PRIu64 " bounds in %zu bytes", n,
                       reader_left(r));
    if (n) h->bounds = ARENA_ARRAY(arena, double, (size_t)n);
    if (n && !h->bounds) return arena_fail(arena, err);
    for (size_t i = 0; i < n; i++) {
        h->bounds[i] = reader_double(r);
        if (!(h->bounds[i] < INFINITY) || (i && !(h->bounds[i - 1] < h->bounds[i])))
            return err_set(err, ERR_CORRUPT, "histogram: bound %zu is not in order", i);
    }
    h->n_bounds = (uint32_t)n;
    if (reach > (int64_t)n + 1 || (h->n_pos_spans && h->pos_spans[0].offset < 0))
        return err_set(err, ERR_CORRUPT, "histogram: buckets beyond the %u bounds", h->n_bounds);
    return ERR_OK;
}

static double decode_count(struct reader *r, bool whole)
{
    if (!whole) return reader_double(r);
    uint64_t v = reader_varint(r);
    if (v > COUNT_MAX) r->failed = true;
    return (double)v;
}

static bool known_schema(int64_t schema)
{
    return schema == HISTOGRAM_SCHEMA_CUSTOM ||
           (schema >= HISTOGRAM_SCHEMA_MIN && schema <= HISTOGRAM_SCHEMA_MAX);
}

static enum err_code decode_head(struct reader *r, struct histogram *h, uint8_t *flags,
                                 struct err *err)
{
    uint8_t version = reader_u8(r);
    if (!r->failed && version != HISTOGRAM_VERSION)
        return err_set(err, ERR_CORRUPT, "histogram: version %u instead of %u", version,
                       HISTOGRAM_VERSION);
    *flags = reader_u8(r);
    int64_t schema = reader_zigzag(r);
    if (*flags & ~FLAGS_KNOWN || !known_schema(schema))
        return err_set(err, ERR_CORRUPT, "histogram: flags %02x, schema %" PRId64, *flags, schema);
    h->schema = (int32_t)schema;
    h->reset_hint = *flags & FLAG_HINT;
    h->is_int = *flags & FLAG_INT;
    h->sum = reader_double(r);
    if (*flags & FLAG_HAS_START) h->start_ms = reader_zigzag(r);
    h->count = decode_count(r, *flags & FLAG_WHOLE_COUNTS);
    if (*flags & FLAG_HAS_ZERO) {
        h->zero_threshold = reader_double(r);
        h->zero_count = decode_count(r, *flags & FLAG_WHOLE_COUNTS);
    }
    return ERR_OK;
}

enum err_code histogram_decode(struct reader *r, struct arena *arena, struct histogram **out,
                               struct err *err)
{
    struct histogram *h = ARENA_NEW(arena, struct histogram);
    if (!h) return arena_fail(arena, err);
    uint8_t flags = 0;
    enum err_code rc = decode_head(r, h, &flags, err);
    if (rc) return rc;
    bool custom = h->schema == HISTOGRAM_SCHEMA_CUSTOM;
    if (custom && flags & FLAG_HAS_NEGATIVE)
        return err_set(err, ERR_CORRUPT, "histogram: custom bounds with a negative side");
    struct side pos = {0}, neg = {0};
    rc = decode_side(r, arena, flags & FLAG_WHOLE_COUNTS, &pos, err);
    if (!rc && flags & FLAG_HAS_NEGATIVE)
        rc = decode_side(r, arena, flags & FLAG_WHOLE_COUNTS, &neg, err);
    if (rc) return rc;
    h->pos_spans = pos.spans, h->n_pos_spans = pos.n_spans, h->pos = pos.counts, h->n_pos = pos.n;
    h->neg_spans = neg.spans, h->n_neg_spans = neg.n_spans, h->neg = neg.counts, h->n_neg = neg.n;
    if (custom) rc = decode_bounds(r, arena, h, pos.end, err);
    if (rc) return rc;
    if (r->failed) return err_set(err, ERR_CORRUPT, "histogram: cut short or malformed");
    *out = h;
    return ERR_OK;
}

enum err_code histogram_layout_decode(struct reader *r, struct arena *arena, struct histogram *h,
                                      struct err *err)
{
    *h = (struct histogram){0};
    uint64_t head = reader_varint(r);
    int64_t schema = zigzag_decode(head / 2);
    if (head % 2) h->zero_threshold = reader_double(r);
    if (r->failed || !known_schema(schema))
        return err_set(err, ERR_CORRUPT, "histogram: schema %" PRId64, schema);
    h->schema = (int32_t)schema;
    struct side pos = {0}, neg = {0};
    enum err_code rc = decode_spans(r, arena, &pos, err);
    if (!rc) rc = decode_spans(r, arena, &neg, err);
    if (rc) return rc;
    h->pos_spans = pos.spans, h->n_pos_spans = pos.n_spans, h->n_pos = pos.n;
    h->neg_spans = neg.spans, h->n_neg_spans = neg.n_spans, h->n_neg = neg.n;
    bool custom = schema == HISTOGRAM_SCHEMA_CUSTOM;
    if (custom && neg.n_spans)
        return err_set(err, ERR_CORRUPT, "histogram: custom bounds with a negative side");
    if (custom) rc = decode_bounds(r, arena, h, pos.end, err);
    if (!rc && r->failed) rc = err_set(err, ERR_CORRUPT, "histogram: a layout is cut short");
    return rc;
}

/* ---- validation ---- */

/* A count as Go's %v prints it: the fewest digits that read back as the same double. */
static const char *count_text(double v, char *buf, size_t size)
{
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(buf, size, "%.*g", digits, v);
        if (strtod(buf, NULL) == v) break;
    }
    return buf;
}

#define COUNT_TEXT_BYTES 32

static enum err_code check_offsets(const char *side, const struct histogram_span *spans, uint32_t n,
                                   bool first_too, struct err *err)
{
    for (uint32_t i = first_too ? 0 : 1; i < n; i++) {
        if (spans[i].offset < 0)
            return err_set(err, ERR_INVALID,
                           "%s: span number %u with offset %d: histogram has a span whose offset "
                           "is negative",
                           side, i + 1, spans[i].offset);
    }
    return ERR_OK;
}

static enum err_code check_spans(const char *side, const struct histogram_span *spans, uint32_t n,
                                 uint32_t n_buckets, struct err *err)
{
    uint64_t need = 0;
    for (uint32_t i = 0; i < n; i++) need += spans[i].length;
    if (need != n_buckets)
        return err_set(err, ERR_INVALID,
                       "%s: spans need %" PRIu64 " buckets, have %u buckets: histogram spans "
                       "specify different number of buckets than provided",
                       side, need, n_buckets);
    if (n_buckets > HISTOGRAM_BUCKETS_MAX || n > HISTOGRAM_BUCKETS_MAX)
        return err_set(err, ERR_INVALID, "%s: %u spans and %u buckets are over the limit of %d",
                       side, n, n_buckets, HISTOGRAM_BUCKETS_MAX);
    return ERR_OK;
}

/* The indexes that some double falls into; the peers do not check, but bounds cannot be computed outside. */
static enum err_code check_reach(const char *side, int32_t schema,
                                 const struct histogram_span *spans, uint32_t n, struct err *err)
{
    int64_t max = schema >= 0 ? INT64_C(1024) << schema : INT64_C(1024) >> -schema;
    int64_t min = schema >= 0 ? -(INT64_C(1074) << schema) : -((INT64_C(1074) >> -schema) + 1);
    int64_t index = 0;
    for (uint32_t i = 0; i < n; i++) {
        index += spans[i].offset;
        int64_t last = index + (int64_t)spans[i].length - 1;
        if (spans[i].length && (index < min - 1 || last > max + 1))
            return err_set(err, ERR_INVALID,
                           "%s: span number %u covers indexes %" PRId64 " to %" PRId64
                           ", outside of what schema %d can hold",
                           side, i + 1, index, last, schema);
        index = last + 1;
        if (index > HISTOGRAM_INDEX_MAX || index < -HISTOGRAM_INDEX_MAX)
            return err_set(err, ERR_INVALID, "%s: span number %u reaches too far", side, i + 1);
    }
    return ERR_OK;
}

static enum err_code check_counts(const char *side, const double *v, uint32_t n, bool is_int,
                                  struct err *err)
{
    char text[COUNT_TEXT_BYTES];
    for (uint32_t i = 0; i < n; i++) {
        if (v[i] < 0)
            return err_set(err, ERR_INVALID,
                           "%s: bucket number %u has observation count of %s: histogram has a "
                           "bucket whose observation count is negative",
                           side, i + 1, count_text(v[i], text, sizeof(text)));
        if (is_int && !is_whole(v[i]))
            return err_set(err, ERR_INVALID,
                           "%s: bucket number %u has an observation count over 2^53", side, i + 1);
    }
    return ERR_OK;
}

static enum err_code check_custom(const struct histogram *h, struct err *err)
{
    const char *side = "custom buckets";
    for (uint32_t i = 0; i < h->n_bounds; i++) {
        if (isnan(h->bounds[i]))
            return err_set(err, ERR_INVALID, "%s: histogram custom bounds must not be NaN", side);
        if (i && h->bounds[i] <= h->bounds[i - 1])
            return err_set(err, ERR_INVALID,
                           "%s: previous bound is %f and current is %f: histogram custom bounds "
                           "must be in strictly increasing order",
                           side, h->bounds[i - 1], h->bounds[i]);
    }
    if (h->n_bounds && h->bounds[h->n_bounds - 1] == INFINITY)
        return err_set(err, ERR_INVALID,
                       "%s: last +Inf bound must not be explicitly defined: histogram custom "
                       "bounds must be finite",
                       side);
    if (h->n_bounds > HISTOGRAM_BUCKETS_MAX)
        return err_set(err, ERR_INVALID, "%s: %u bounds are over the limit of %d", side,
                       h->n_bounds, HISTOGRAM_BUCKETS_MAX);
    enum err_code rc = check_offsets(side, h->pos_spans, h->n_pos_spans, true, err);
    if (!rc) rc = check_spans(side, h->pos_spans, h->n_pos_spans, h->n_pos, err);
    if (rc) return rc;
    uint64_t reach = 0;
    for (uint32_t i = 0; i < h->n_pos_spans; i++)
        reach += (uint32_t)h->pos_spans[i].offset + (uint64_t)h->pos_spans[i].length;
    if (reach > (uint64_t)h->n_bounds + 1)
        return err_set(err, ERR_INVALID,
                       "%s: only %u custom bounds defined which is insufficient to cover total "
                       "span length of %" PRIu64 ": histogram custom bounds are too few",
                       side, h->n_bounds, reach);
    const char *what = h->zero_count != 0       ? "must have zero count of 0"
                       : h->zero_threshold != 0 ? "must have zero threshold of 0"
                       : h->n_neg_spans         ? "must not have negative spans"
                       : h->n_neg               ? "must not have negative buckets"
                                                : NULL;
    return what ? err_set(err, ERR_INVALID, "%s: %s", side, what) : ERR_OK;
}

static enum err_code check_exponential_side(const char *side, const struct histogram *h,
                                            const struct histogram_span *spans, uint32_t n_spans,
                                            uint32_t n, struct err *err)
{
    enum err_code rc = check_offsets(side, spans, n_spans, false, err);
    if (!rc) rc = check_spans(side, spans, n_spans, n, err);
    return rc ? rc : check_reach(side, h->schema, spans, n_spans, err);
}

/* An integer histogram adds up; a NaN observation is in the count but in no bucket. */
static enum err_code check_total(const struct histogram *h, struct err *err)
{
    if (!is_whole(h->count) || !is_whole(h->zero_count))
        return err_set(err, ERR_INVALID, "histogram has an observation count over 2^53");
    uint64_t total = (uint64_t)h->zero_count, count = (uint64_t)h->count;
    for (uint32_t i = 0; i < h->n_pos; i++) total += (uint64_t)h->pos[i];
    for (uint32_t i = 0; i < h->n_neg; i++) total += (uint64_t)h->neg[i];
    if (isnan(h->sum) ? total <= count : total == count) return ERR_OK;
    return err_set(err, ERR_INVALID,
                   "%" PRIu64 " observations found in buckets, but the Count field is %" PRIu64
                   ": histogram's observation count should %s the number of observations found "
                   "in the buckets%s",
                   total, count, isnan(h->sum) ? "be at least" : "equal",
                   isnan(h->sum) ? "" : " (in absence of NaN)");
}

static enum err_code check_float_counts(const struct histogram *h, struct err *err)
{
    char text[COUNT_TEXT_BYTES];
    bool zero = h->zero_count < 0;
    if (!zero && !(h->count < 0)) return ERR_OK;
    return err_set(err, ERR_INVALID, "%s%s: histogram's observation count is negative",
                   zero ? "zero bucket has observation count of " : "observation count is ",
                   count_text(zero ? h->zero_count : h->count, text, sizeof(text)));
}

enum err_code histogram_validate(const struct histogram *h, struct err *err)
{
    const char *pos = "positive side", *neg = "negative side";
    enum err_code rc;
    if (h->schema == HISTOGRAM_SCHEMA_CUSTOM) {
        rc = check_custom(h, err);
    } else if (h->schema >= HISTOGRAM_SCHEMA_MIN && h->schema <= HISTOGRAM_SCHEMA_MAX) {
        rc = check_exponential_side(pos, h, h->pos_spans, h->n_pos_spans, h->n_pos, err);
        if (!rc) rc = check_exponential_side(neg, h, h->neg_spans, h->n_neg_spans, h->n_neg, err);
        if (!rc) rc = check_counts(neg, h->neg, h->n_neg, h->is_int, err);
        if (!rc && h->n_bounds)
            rc = err_set(err, ERR_INVALID,
                         "histogram with exponential schema must not have custom bounds");
    } else {
        rc = err_set(err, ERR_INVALID,
                     "histogram has an invalid schema, which must be between -4 and 8 for "
                     "exponential buckets, or -53 for custom buckets, got schema %d",
                     h->schema);
    }
    if (!rc) rc = check_counts(pos, h->pos, h->n_pos, h->is_int, err);
    if (rc) return rc;
    return h->is_int ? check_total(h, err) : check_float_counts(h, err);
}

/* ---- copies ---- */

static void *take(uint8_t **at, const void *from, size_t size)
{
    if (size == 0) return NULL;
    void *to = *at;
    memcpy(to, from, size); /* bytes: NaN payloads survive */
    *at += size;
    return to;
}

enum err_code histogram_copy(struct arena *arena, const struct histogram *h, struct histogram **out,
                             struct err *err)
{
    static_assert(sizeof(struct histogram) % 8 == 0 && sizeof(struct histogram_span) == 8,
                  "all parts keep the alignment of doubles");
    size_t n_words = (size_t)h->n_pos_spans + h->n_neg_spans + h->n_pos + h->n_neg + h->n_bounds;
    uint8_t *at = arena_alloc(arena, sizeof(*h) + n_words * 8, _Alignof(struct histogram));
    if (!at) return arena_fail(arena, err);
    struct histogram *c = take(&at, h, sizeof(*h));
    c->pos_spans = take(&at, h->pos_spans, h->n_pos_spans * sizeof(*h->pos_spans));
    c->neg_spans = take(&at, h->neg_spans, h->n_neg_spans * sizeof(*h->neg_spans));
    c->pos = take(&at, h->pos, h->n_pos * sizeof(*h->pos));
    c->neg = take(&at, h->neg, h->n_neg * sizeof(*h->neg));
    c->bounds = take(&at, h->bounds, h->n_bounds * sizeof(*h->bounds));
    *out = c;
    return ERR_OK;
}

static bool same_bytes(const void *a, const void *b, size_t size)
{
    return size == 0 || memcmp(a, b, size) == 0;
}

bool histogram_same_layout(const struct histogram *a, const struct histogram *b)
{
    return a->schema == b->schema && a->n_pos == b->n_pos && a->n_neg == b->n_neg &&
           a->n_pos_spans == b->n_pos_spans && a->n_neg_spans == b->n_neg_spans &&
           a->n_bounds == b->n_bounds &&
           double_bits(a->zero_threshold) == double_bits(b->zero_threshold) &&
           same_bytes(a->pos_spans, b->pos_spans, a->n_pos_spans * sizeof(*a->pos_spans)) &&
           same_bytes(a->neg_spans, b->neg_spans, a->n_neg_spans * sizeof(*a->neg_spans)) &&
           same_bytes(a->bounds, b->bounds, a->n_bounds * sizeof(*a->bounds));
}

bool histogram_same_bits(const struct histogram *a, const struct histogram *b)
{
    return histogram_same_layout(a, b) && a->reset_hint == b->reset_hint &&
           a->is_int == b->is_int && a->start_ms == b->start_ms &&
           double_bits(a->count) == double_bits(b->count) &&
           double_bits(a->sum) == double_bits(b->sum) &&
           double_bits(a->zero_count) == double_bits(b->zero_count) &&
           same_bytes(a->pos, b->pos, a->n_pos * sizeof(*a->pos)) &&
           same_bytes(a->neg, b->neg, a->n_neg * sizeof(*a->neg));
}
