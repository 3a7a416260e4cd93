/* query/quantile.c: quantiles of plain values and of classic `le` families (query/kernel.h). */
#include <math.h>
#include <stdlib.h>

#include "query/kernel.h"
#include "query/number.h"

/* ---- of values ---- */

static inline void swap(double *a, double *b)
{
    double t = *a;
    *a = *b;
    *b = t;
}

static int cmp_doubles(const void *a, const void *b)
{
    double x, y;
    memcpy(&x, a, sizeof(x));
    memcpy(&y, b, sizeof(y));
    return (x > y) - (x < y);
}

/* Moves the k-th smallest to xs[k], smaller ones below it, larger ones above. No NaN in xs. */
static void select_kth(double *xs, size_t n, size_t k)
{
    size_t lo = 0, hi = n;
    for (unsigned rounds = 64; hi - lo > 2; rounds--) {
        if (rounds == 0) { /* bad pivots again and again: hostile order */
            qsort(xs + lo, hi - lo, sizeof(*xs), cmp_doubles);
            return;
        }
        double a = xs[lo], b = xs[lo + (hi - lo) / 2], c = xs[hi - 1];
        double pivot = a < b ? (b < c ? b : a < c ? c : a) : (a < c ? a : b < c ? c : b);
        size_t i = lo, j = hi - 1;
        for (;;) { /* Hoare: both ends run to what belongs to the other side */
            while (xs[i] < pivot) i++;
            while (xs[j] > pivot) j--;
            if (i >= j) break;
            swap(&xs[i++], &xs[j--]);
        }
        /* xs[lo, i) <= pivot <= xs[i, hi); i is within, as the median of three is not alone on a side. */
        size_t middle = j < i ? i : i + 1;
        if (middle == hi) middle--;
        if (k < middle)
            hi = middle;
        else
            lo = middle;
    }
    if (hi - lo == 2 && xs[lo + 1] < xs[lo]) swap(&xs[lo], &xs[lo + 1]);
}

double quantile_of(double q, double *xs, size_t n)
{
    if (n == 0 || isnan(q)) return NAN;
    if (q < 0) return -INFINITY;
    if (q > 1) return INFINITY;
    size_t n_nan = 0; /* NaN sorts first */
    for (size_t i = 0; i < n; i++) {
        if (isnan(xs[i])) swap(&xs[i], &xs[n_nan++]);
    }
    double rank = q * (double)(n - 1);
    size_t lo = (size_t)floor(rank), hi = MIN_OF(lo + 1, n - 1);
    double weight = rank - floor(rank);
    if (lo >= n_nan) select_kth(xs + n_nan, n - n_nan, lo - n_nan);
    if (hi > lo && hi >= n_nan) {
        size_t least = hi;
        for (size_t i = hi + 1; i < n; i++) {
            if (xs[i] < xs[least]) least = i;
        }
        swap(&xs[hi], &xs[least]);
    }
    return xs[lo] * (1 - weight) + xs[hi] * weight;
}

/* ---- of classic histograms ---- */

bool le_parse(struct str text, double *out)
{
    return number_parse_float(text, out) == NUMBER_OK;
}

/* NaN last: then the last bound is not +Inf and there is no answer. */
static int cmp_le(const void *a, const void *b)
{
    const struct le_bucket *x = a, *y = b;
    if (isnan(x->le) || isnan(y->le)) return (isnan(x->le) != 0) - (isnan(y->le) != 0);
    return (x->le > y->le) - (x->le < y->le);
}

/* Ascending, equal bounds as one. Returns how many are left; 0: none, or the last bound is not +Inf. */
static size_t le_prepare(struct le_bucket *b, size_t n)
{
    if (n == 0) return 0;
    bool sorted = true;
    for (size_t i = 1; i < n; i++) sorted &= b[i - 1].le <= b[i].le;
    if (!sorted) qsort(b, n, sizeof(*b), cmp_le);
    if (b[n - 1].le != INFINITY) return 0;
    size_t last = 0;
    for (size_t i = 1; i < n; i++) {
        if (b[i].le == b[last].le)
            b[last].count += b[i].count;
        else
            b[++last] = b[i];
    }
    return last + 1;
}

#define SMALL_DELTA 1e-12
#define DOUBLE_MIN_NORMAL 2.2250738585072014e-308

static bool almost_equal(double a, double b)
{
    if (isnan(a) && isnan(b)) return true;
    if (a == b) return true;
    double diff = fabs(a - b), sum = fabs(a) + fabs(b);
    if (a == 0 || b == 0 || sum < DOUBLE_MIN_NORMAL) return diff < SMALL_DELTA * DOUBLE_MIN_NORMAL;
    return diff / fmin(sum, 1.7976931348623157e308) < SMALL_DELTA;
}

struct le_repair {
    bool forced;
    double max_diff, from, to;
};

/* Counts that fall are raised to the one before; by next to nothing silently, else it is told. */
static void le_make_monotonic(struct le_bucket *b, size_t n, struct le_repair *repair)
{
    double before = b[0].count;
    for (size_t i = 1; i < n; i++) {
        double count = b[i].count;
        if (count == before) continue;
        if (almost_equal(before, count)) {
            b[i].count = before;
        } else if (count < before) {
            if (!repair->forced) repair->from = b[i].le;
            repair->forced = true;
            repair->to = b[i].le;
            repair->max_diff = fmax(repair->max_diff, before - count);
            b[i].count = before;
        } else {
            before = count;
        }
    }
}

/* The first i < n with count >= rank, else n; bisected as Go's sort.Search does, whose answer among NaN counts depends
 * on the order of the probes. */
static size_t le_search(const struct le_bucket *b, size_t n, double rank)
{
    size_t i = 0, j = n;
    while (i < j) {
        size_t middle = (i + j) / 2;
        if (b[middle].count >= rank)
            j = middle;
        else
            i = middle + 1;
    }
    return i;
}

static double le_quantile_in(double q, const struct le_bucket *b, size_t n)
{
    if (n < 2 || b[n - 1].count == 0) return NAN;
    double rank = q * b[n - 1].count;
    size_t i = le_search(b, n - 1, rank);
    if (i == n - 1) return b[n - 2].le;
    if (i == 0 && b[0].le <= 0) return b[0].le;
    double start = 0, count = b[i].count;
    if (i > 0) {
        start = b[i - 1].le;
        count -= b[i - 1].count;
        rank -= b[i - 1].count;
    }
    return start + (b[i].le - start) * (rank / count);
}

double le_quantile(double q, struct le_bucket *buckets, size_t n, bool *repaired,
                   double *repair_max_diff, double *repair_from, double *repair_to)
{
    *repaired = false;
    if (isnan(q)) return NAN;
    if (q < 0) return -INFINITY;
    if (q > 1) return INFINITY;
    n = le_prepare(buckets, n);
    if (n == 0) return NAN;
    struct le_repair repair = {0};
    le_make_monotonic(buckets, n, &repair);
    *repaired = repair.forced;
    *repair_max_diff = repair.max_diff;
    *repair_from = repair.from;
    *repair_to = repair.to;
    return le_quantile_in(q, buckets, n);
}

/* Observations up to v, which lies within bucket i; `before` of them lie below the bucket. */
static double le_rank_within(const struct le_bucket *b, size_t i, double lower, double before,
                             double v)
{
    /* An open bucket is not divided: the first counts as below v, the last as above. */
    if (isinf(lower)) return b[i].count;
    return before + (b[i].count - before) * (v - lower) / (b[i].le - lower);
}

static double le_rank(const struct le_bucket *b, size_t n, double v)
{
    double before = 0, total = b[n - 1].count;
    for (size_t i = 0; i < n; i++) {
        double lower = i ? b[i - 1].le : b[0].le > 0 ? 0 : -INFINITY;
        if (lower >= v) return fmin(before, total);
        if (b[i].le > v) return fmin(le_rank_within(b, i, lower, before, v), total);
        before = b[i].count;
    }
    return total;
}

double le_fraction(double lower, double upper, struct le_bucket *buckets, size_t n)
{
    n = le_prepare(buckets, n);
    if (n == 0 || isnan(lower) || isnan(upper)) return NAN;
    double count = buckets[n - 1].count;
    if (count == 0) return NAN;
    if (lower >= upper) return 0;
    return (le_rank(buckets, n, upper) - le_rank(buckets, n, lower)) / count;
}
