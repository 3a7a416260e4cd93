/* query/histogram_trim.c: the operators </ and >/. Buckets on the right side of x stay, the one that holds x is divided
 * by the interpolation of histogram_quantile. If anything was cut, count is what is left, and sum is estimated anew
 * from the middles of the buckets: geometric for exponential ones, arithmetic for the zero bucket and custom ones. */
#include <math.h>

#include "query/histogram_bounds.h"

struct trim {
    double x;
    bool keep_below;
    bool custom;
    double count, sum; /* of what is left */
    bool cut;
};

/* The kept part of a bucket and where its observations are taken to be. */
struct part {
    double count, middle;
};

static double middle_of(const struct trim *t, double lower, double upper, bool is_zero)
{
    if (t->custom && isinf(lower)) return isinf(upper) ? 0 : upper > 0 ? upper / 2 : upper;
    if (t->custom && isinf(upper)) return lower;
    if (t->custom || is_zero) return (lower + upper) / 2;
    double middle = sqrt(fabs(lower) * fabs(upper));
    return upper <= 0 ? -middle : middle;
}

/* The share of the bucket that lies below x. */
static double share_below(const struct trim *t, const struct histogram_bucket *b, bool is_zero)
{
    if (t->custom || is_zero) return (t->x - b->lower) / (b->upper - b->lower);
    double lower = log2(fabs(b->lower)), upper = log2(fabs(b->upper)), x = log2(fabs(t->x));
    if (t->x > 0) return (x - lower) / (upper - lower);
    return 1 - (x - upper) / (lower - upper);
}

/* Nobody knows where in an open custom bucket the observations are. A first bucket that ends above 0 counts as starting
 * at 0 while x is above 0, too; else its observations are at its infinity, as those of the last bucket always are. */
static struct part split_open(const struct trim *t, const struct histogram_bucket *b)
{
    if (!isinf(b->lower)) /* the last one */
        return t->keep_below ? (struct part){0, 0} : (struct part){b->count, t->x};
    bool from_zero = isfinite(b->upper) && b->upper > 0;
    if (t->keep_below) {
        if (from_zero && t->x > 0) return (struct part){b->count * t->x / b->upper, t->x / 2};
        return b->upper <= 0 ? (struct part){b->count, t->x} : (struct part){0, 0};
    }
    if (from_zero && t->x >= 0)
        return (struct part){b->count * (1 - t->x / b->upper), (t->x + b->upper) / 2};
    return (struct part){0, 0};
}

static struct part split(const struct trim *t, const struct histogram_bucket *b, bool is_zero)
{
    if (t->custom && (isinf(b->lower) || isinf(b->upper))) return split_open(t, b);
    double below = share_below(t, b, is_zero);
    if (t->keep_below)
        return (struct part){b->count * below, middle_of(t, b->lower, t->x, is_zero)};
    return (struct part){b->count * (1 - below), middle_of(t, t->x, b->upper, is_zero)};
}

static double trim_bucket(struct trim *t, const struct histogram_bucket *b, bool is_zero)
{
    struct part kept;
    if (t->keep_below ? b->upper <= t->x : b->lower >= t->x)
        kept = (struct part){b->count, middle_of(t, b->lower, b->upper, is_zero)};
    else if (t->keep_below ? b->lower >= t->x : b->upper <= t->x)
        kept = (struct part){0, 0};
    else
        kept = split(t, b, is_zero);
    t->cut |= kept.count != b->count;
    t->count += kept.count;
    if (kept.count != 0) t->sum += kept.count * kept.middle;
    return kept.count;
}

static void trim_side(struct trim *t, struct histogram *h, bool negative)
{
    struct bucket_walk w;
    struct histogram_bucket b;
    struct histogram side =
        *h; /* just this side, in the order of its counts; not cut at the zero threshold */
    side.zero_threshold = side.zero_count = 0;
    *(negative ? &side.n_pos_spans : &side.n_neg_spans) = 0;
    *(negative ? &side.n_pos : &side.n_neg) = 0;
    bucket_walk_init(&w, &side, negative);
    for (double *count = negative ? h->neg : h->pos; bucket_walk_next(&w, &b); count++) {
        if (b.count != 0) *count = trim_bucket(t, &b, false);
    }
}

static void trim_zero(struct trim *t, struct histogram *h)
{
    if (h->zero_count == 0) return;
    struct histogram_bucket b = {-h->zero_threshold, h->zero_threshold, h->zero_count, 3};
    if (h->n_neg == 0 && h->n_pos > 0) b.lower = 0;
    if (h->n_pos == 0 && h->n_neg > 0) b.upper = 0;
    h->zero_count = trim_bucket(t, &b, true);
}

enum err_code histogram_trim(struct arena *arena, const struct histogram *h, double x,
                             bool keep_below, struct histogram **out, struct err *err)
{
    struct histogram *trimmed;
    enum err_code rc = histogram_copy(arena, h, &trimmed, err);
    if (rc) return rc;
    struct trim t = {.x = x, .keep_below = keep_below, .custom = histogram_is_custom(h)};
    trim_side(&t, trimmed, false);
    trim_side(&t, trimmed, true);
    trim_zero(&t, trimmed);
    *out = trimmed;
    if (!t.cut) return histogram_copy(arena, h, out, err);
    trimmed->is_int = false;
    trimmed->count = t.count;
    trimmed->sum = t.sum;
    return histogram_scale(arena, trimmed, 1, false, out, err); /* compacts */
}
