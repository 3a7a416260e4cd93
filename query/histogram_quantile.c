/* query/histogram_quantile.c: what a single native histogram says about its observations: quantiles, fractions, moments
 * (query/kernel.h). */
#include <math.h>

#include "query/histogram_bounds.h"

/* " for metric name "m"", or nothing when the name is not known. */
static struct str metric_suffix(const struct quantile_context *ctx)
{
    if (ctx->metric.len == 0) return STR("");
    struct buf quoted;
    buf_init(&quoted, MEM_QUERY);
    str_quote(&quoted, ctx->metric);
    struct str s = arena_printf(ctx->notes->arena, " for metric name %.*s", (int)quoted.len,
                                quoted.len ? (const char *)quoted.p : "");
    buf_release(&quoted);
    return s;
}

static void note_nan(const struct quantile_context *ctx, const char *text)
{
    if (!ctx || !ctx->notes) return;
    struct str suffix = metric_suffix(ctx);
    notes_add(ctx->notes, NOTE_INFO, ctx->pos_vector, "input to %s%.*s", text, STR_ARG(suffix));
}

/* Observations around 0 are taken to lie on the side where the others are. */
static void lean_to_one_side(const struct histogram *h, struct histogram_bucket *b)
{
    if (h->n_neg == 0 && h->n_pos > 0) b->lower = 0;
    if (h->n_pos == 0 && h->n_neg > 0) b->upper = 0;
}

/* ---- quantiles ---- */

static double interpolate(const struct histogram *h, const struct histogram_bucket *b,
                          double fraction)
{
    if (histogram_is_custom(h) || (b->lower <= 0 && b->upper >= 0))
        return b->lower + (b->upper - b->lower) * fraction;
    double lower = log2(fabs(b->lower)), upper = log2(fabs(b->upper));
    if (b->lower > 0) return exp2(lower + (upper - lower) * fraction);
    return -exp2(upper + (lower - upper) * (1 - fraction));
}

/* Ends the walk and says if NaN observations are missing from the buckets. The bucket moves on to the last one: the
 * interpolation that follows uses that one, as Prometheus does. */
static void finish_nan_walk(const struct histogram *h, struct bucket_walk *w,
                            struct histogram_bucket *b, double seen,
                            const struct quantile_context *ctx)
{
    while (bucket_walk_next(w, b)) seen += b->count;
    if (seen < h->count)
        note_nan(ctx, "histogram_quantile has NaN observations, result is skewed higher");
}

double histogram_quantile(double q, const struct histogram *h, const struct quantile_context *ctx)
{
    if (q < 0) return -INFINITY;
    if (q > 1) return INFINITY;
    if (h->count == 0 || isnan(q)) return NAN;
    bool ascending = isnan(h->sum) || q < 0.5;
    double rank = (ascending ? q : 1 - q) * h->count, seen = 0;
    struct bucket_walk w;
    struct histogram_bucket b = {0};
    bucket_walk_init(&w, h, !ascending);
    while (bucket_walk_next(&w, &b)) {
        seen += b.count;
        if (b.count != 0 && seen >= rank) break;
    }
    if (!histogram_is_custom(h)) {
        if (b.lower < 0 && b.upper > 0) lean_to_one_side(h, &b);
    } else if (b.lower == -INFINITY) {
        if (b.upper <= 0) return b.upper;
        b.lower = 0;
    } else if (b.upper == INFINITY) {
        return b.lower;
    }
    if (seen > h->count) seen = h->count;
    if (seen < rank) {
        if (!isnan(h->sum)) return b.upper;
        note_nan(ctx, "histogram_quantile has NaN observations, result is NaN");
        return NAN;
    }
    rank = ascending ? rank - (seen - b.count) : seen - rank;
    if (isnan(h->sum)) finish_nan_walk(h, &w, &b, seen, ctx);
    return interpolate(h, &b, rank / b.count);
}

/* ---- fractions ---- */

/* Observations up to v, which lies within the bucket; `before` of them lie below it. */
static double rank_within(const struct histogram *h, const struct histogram_bucket *b,
                          double before, double v)
{
    if (histogram_is_custom(h) || (b->lower <= 0 && b->upper >= 0)) {
        /* An open bucket is not divided: the first counts as below v, the last as above. */
        if (b->lower == -INFINITY) return b->count;
        return before + b->count * (v - b->lower) / (b->upper - b->lower);
    }
    double lower = log2(fabs(b->lower)), upper = log2(fabs(b->upper)), at = log2(fabs(v));
    double fraction = v > 0 ? (at - lower) / (upper - lower) : 1 - (at - upper) / (lower - upper);
    return before + b->count * fraction;
}

/* How many observations lie up to lower and up to upper, and how many in all buckets. */
static void ranks_of(const struct histogram *h, const double limits[2], double ranks[2],
                     double *total)
{
    struct bucket_walk w;
    struct histogram_bucket b;
    bool set[2] = {false, false};
    double before = 0;
    bucket_walk_init(&w, h, false);
    while (bucket_walk_next(&w, &b)) {
        if (b.lower <= 0 && b.upper >= 0) lean_to_one_side(h, &b);
        for (int i = 0; i < 2; i++) {
            if (set[i] || (b.lower < limits[i] && b.upper <= limits[i])) continue;
            set[i] = true;
            ranks[i] = b.lower >= limits[i] ? before : rank_within(h, &b, before, limits[i]);
        }
        before += b.count;
    }
    *total = before;
    for (int i = 0; i < 2; i++) {
        if (!set[i]) ranks[i] = INFINITY; /* capped by the caller */
    }
}

double histogram_fraction(double lower, double upper, const struct histogram *h,
                          const struct quantile_context *ctx)
{
    if (h->count == 0 || isnan(lower) || isnan(upper)) return NAN;
    if (lower >= upper) return 0;
    double limits[2] = {lower, upper}, ranks[2], in_buckets;
    ranks_of(h, limits, ranks, &in_buckets);
    double total = h->count;
    if (isnan(h->sum)) {
        if (in_buckets < total)
            note_nan(ctx, "histogram_fraction has NaN observations, which are excluded from all "
                          "fractions");
        total = in_buckets;
    }
    for (int i = 0; i < 2; i++) {
        if (ranks[i] > total) ranks[i] = total;
    }
    return (ranks[1] - ranks[0]) / h->count;
}

/* ---- count, sum and moments ---- */

static double variance_of(const struct histogram *h)
{
    double mean = h->sum / h->count, sum = 0, c = 0;
    struct bucket_walk w;
    struct histogram_bucket b;
    bucket_walk_init(&w, h, false);
    while (bucket_walk_next(&w, &b)) {
        if (b.count == 0) continue;
        double x;
        if (histogram_is_custom(h))
            x = (b.upper + b.lower) / 2;
        else if (b.lower <= 0 && b.upper >= 0)
            x = 0;
        else
            x = b.upper < 0 ? -sqrt(b.upper * b.lower) : sqrt(b.upper * b.lower);
        double delta = x - mean;
        kahan_add(b.count * delta * delta, &sum, &c);
    }
    return (sum + c) / h->count;
}

double histogram_extract(enum function_id id, const struct histogram *h)
{
    switch (id) {
    case FN_HISTOGRAM_COUNT: return h->count;
    case FN_HISTOGRAM_SUM: return h->sum;
    case FN_HISTOGRAM_AVG: return h->sum / h->count;
    case FN_HISTOGRAM_STDVAR: return variance_of(h);
    case FN_HISTOGRAM_STDDEV: return sqrt(variance_of(h));
    default: ASSERT(!"a function of one histogram"); return NAN;
    }
}
