/* storage/histogram.h: one native histogram sample. Bucket counts are absolute doubles; an integer histogram
 * of the wire keeps `is_int`, its counts are exact below 2^53 (larger ones are refused at ingest).
 * Source: Prometheus's specification of native histograms. Everything is borrowed. */
#ifndef QUIPU_STORAGE_HISTOGRAM_H
#define QUIPU_STORAGE_HISTOGRAM_H

#include "base/arena.h"
#include "base/bytes.h"

#define HISTOGRAM_SCHEMA_MIN (-4)
#define HISTOGRAM_SCHEMA_MAX 8
#define HISTOGRAM_SCHEMA_CUSTOM (-53)
#define HISTOGRAM_BUCKETS_MAX 65536
/* Of a bucket's index, both ways: far beyond what doubles need (274944), so that gaps and sums fit an int32. */
#define HISTOGRAM_INDEX_MAX (INT32_C(1) << 30)

/* The staleness marker: a NaN with this payload, in a float sample or in a histogram's sum. */
#define STALE_NAN_BITS UINT64_C(0x7ff0000000000002)
static inline bool is_stale_nan(double v)
{
    return double_bits(v) == STALE_NAN_BITS;
}
static inline double stale_nan(void)
{
    return double_from_bits(STALE_NAN_BITS);
}

enum histogram_reset_hint {
    HISTOGRAM_RESET_UNKNOWN = 0,
    HISTOGRAM_RESET_YES = 1,
    HISTOGRAM_RESET_NO = 2,
    HISTOGRAM_RESET_GAUGE = 3
};

struct histogram_span {
    int32_t
        offset; /* first span: index of its first bucket; later: gap to the end of the span before */
    uint32_t length;
};

struct histogram {
    int32_t schema;     /* -4..8, or HISTOGRAM_SCHEMA_CUSTOM */
    uint8_t reset_hint; /* enum histogram_reset_hint */
    bool is_int;
    double count, sum, zero_threshold, zero_count;
    struct histogram_span *pos_spans, *neg_spans;
    double *pos, *neg; /* absolute bucket counts; lengths of the spans added up */
    double *bounds;    /* custom schema: upper bounds, ascending, without +Inf; else NULL */
    uint32_t n_pos_spans, n_neg_spans, n_pos, n_neg, n_bounds;
    int64_t start_ms; /* start timestamp, 0 = unknown */
};

static inline bool histogram_is_stale(const struct histogram *h)
{
    return is_stale_nan(h->sum);
}

/* All bytes: bit-exact both ways. Version byte first. */
void histogram_encode(struct buf *out, const struct histogram *h);
/* Bounded and checked: spans add up to buckets, offsets of later spans >= 0, known schema, bounds strictly
 * ascending and below +Inf, indexes within HISTOGRAM_INDEX_MAX, custom buckets within the bounds. The result
 * lives in the arena. ERR_CORRUPT. */
MUST_USE enum err_code histogram_decode(struct reader *r, struct arena *arena,
                                        struct histogram **out, struct err *err);
/* What neighbouring samples mostly share: schema, zero threshold, spans and bounds, as bytes and back. Checked as by
 * histogram_decode. *h gets these alone, all else is zero: n_pos and n_neg say how many buckets there are, but the
 * caller checks that number before it sizes memory. */
void histogram_layout_encode(struct buf *out, const struct histogram *h);
MUST_USE enum err_code histogram_layout_decode(struct reader *r, struct arena *arena,
                                               struct histogram *h, struct err *err);
bool histogram_same_layout(const struct histogram *a, const struct histogram *b); /* by bits */
/* What a receiver refuses (remote write): ERR_INVALID with the text of the peers. Float histograms are not
 * checked for the sum of their buckets. */
MUST_USE enum err_code histogram_validate(const struct histogram *h, struct err *err);
MUST_USE enum err_code histogram_copy(struct arena *arena, const struct histogram *h,
                                      struct histogram **out, struct err *err);
/* Same bits in everything that is stored. */
bool histogram_same_bits(const struct histogram *a, const struct histogram *b);

#endif
