/* query/kernel.h: the arithmetic of PromQL's functions, without series, steps or trees: what a function makes of
 * one window or one value. The evaluator (eval*.c) moves the windows; function_*.c, rate.c, quantile.c and
 * histogram_math.c compute. Pure but for the arena and the notes. Source: Prometheus's documentation and behaviour. */
#ifndef QUIPU_QUERY_KERNEL_H
#define QUIPU_QUERY_KERNEL_H

#include <math.h>

#include "query/ast.h"
#include "query/function.h"
#include "query/notes.h"
#include "storage/histogram.h"

enum point_kind { POINT_NONE = 0, POINT_FLOAT = 1, POINT_HISTOGRAM = 2 };

struct point {
    enum point_kind kind;
    double v;
    struct histogram *h; /* not to be changed once it is in a result */
};

/* The samples of one series in (start_ms, end_ms], staleness markers removed, in time order. */
struct range_window {
    const int64_t *t_ms;
    const double *v;            /* a histogram sample's v is its sum */
    struct histogram *const *h; /* NULL: floats only; else NULL for float samples */
    const int64_t *st_ms;       /* start timestamps or NULL */
    size_t n;
    size_t n_before,
        n_after; /* anchored, smoothed: samples outside the window that t_ms[-n_before] …
                                     * and t_ms[n + n_after - 1] may reach */
    int64_t start_ms, end_ms; /* after offset and @ */
    int64_t range_ms;         /* end - start */
    int64_t eval_ms;          /* the step's own time */
    int64_t interval_ms;      /* step of the query, 0 if instant */
    enum selector_mode mode;
    const double *args; /* the scalar arguments at this step, in order */
    size_t n_args;
    struct str metric;   /* name of the series, for notes; may be empty */
    uint32_t pos_arg;    /* position of the range argument, for notes */
    uint32_t pos_scalar; /* position of the first scalar argument */
    uint32_t pos_call;
    struct arena *arena; /* for histograms of the result */
    struct notes *notes;
    /* Which notes this series has given already (query/range_window.h); NULL: given at every step. */
    unsigned *noted;
};

/* All functions that take a range vector but absent_over_time (which the evaluator does). out->kind NONE:
 * nothing at this step. ERR_EXECUTION: the query fails (smoothing factors). Never called with n == 0 unless
 * mode is not SELECT_PLAIN. */
MUST_USE enum err_code range_function(enum function_id id, const struct range_window *w,
                                      struct point *out, struct err *err);
/* Does the function keep the metric name? */
bool function_keeps_name(enum function_id id);

/* FN_ABS … FN_YEAR: a float element; args are the scalars at this step. A clamp with max < min says false:
 * nothing at this step. */
bool element_function(enum function_id id, double v, const double *args, size_t n_args,
                      double *out);
/* FN_HISTOGRAM_COUNT … STDVAR of one histogram. */
double histogram_extract(enum function_id id, const struct histogram *h);

/* Binary operators between floats; comparisons give the kept value in *out (the left one) and say if it passes. */
double binary_float(enum binary_op op, double a, double b);
bool compare_float(enum binary_op op, double a, double b);

/* Kahan-Neumaier: adds x to (*sum, *c); *c is what roundings lost, 0 once the sum is infinite. Selects instead of
 * branches: which of both is larger is anyone's guess. */
static inline void kahan_add(double x, double *sum, double *c)
{
    double s = *sum, t = s + x;
    bool swap = !(fabs(s) >= fabs(x));
    double large = swap ? x : s, small = swap ? s : x;
    double loss = *c + ((large - t) + small);
    *c = isinf(t) ? 0 : loss;
    *sum = t;
}
/* Incremental average as `avg` and `avg_over_time` do it; zero-initialise. */
struct average {
    double sum, c, mean;
    size_t n;
    bool incremental;
};
void average_add(struct average *a, double x);
double average_value(const struct average *a);
/* As PromQL's quantile: linear between the neighbouring ranks, NaN sorts lowest; reorders xs. */
double quantile_of(double q, double *xs, size_t n);

/* ---- histograms as values (histogram_math.c) ---- */

enum histogram_note {
    HISTOGRAM_NOTE_NONE = 0,
    HISTOGRAM_NOTE_MIXED_SCHEMAS = 1, /* exponential with custom: no result */
    HISTOGRAM_NOTE_BOUNDS_RECONCILED =
        2, /* custom bounds differed and were brought to the common ones */
    HISTOGRAM_NOTE_RESET_CONFLICT = 4
};

/* a + b, a - b in a new histogram (compacted). NULL in *out with MIXED_SCHEMAS. *notes collects bits. */
MUST_USE enum err_code histogram_add(struct arena *arena, const struct histogram *a,
                                     const struct histogram *b, struct histogram **out,
                                     unsigned *notes, struct err *err);
MUST_USE enum err_code histogram_sub(struct arena *arena, const struct histogram *a,
                                     const struct histogram *b, struct histogram **out,
                                     unsigned *notes, struct err *err);
/* Compensated sum of many: start with *sum NULL, add in order, then finish once; the mean divides by n per bucket. h is
 * not needed after the call. RESET_CONFLICT when members with the hints "reset" and "no reset" met. *out NULL: nothing
 * was added, or MIXED_SCHEMAS. */
struct histogram_sum; /* in the arena */
MUST_USE enum err_code histogram_sum_add(struct arena *arena, struct histogram_sum **sum,
                                         const struct histogram *h, unsigned *notes,
                                         struct err *err);
MUST_USE enum err_code histogram_sum_finish(struct arena *arena, struct histogram_sum *sum,
                                            bool mean, struct histogram **out, struct err *err);
/* h * f, h / f */
MUST_USE enum err_code histogram_scale(struct arena *arena, const struct histogram *h, double f,
                                       bool divide, struct histogram **out, struct err *err);
bool histogram_equal(const struct histogram *a, const struct histogram *b); /* as == does */
/* Is cur a reset against prev? By content alone: hints that senders stored prove nothing about this neighbour (and
 * Prometheus overrules them when it appends). */
bool histogram_is_reset(const struct histogram *cur, const struct histogram *prev);
/* a + (b - a) * fraction; with `counter` and b a reset against a: b * fraction. NULL in *out with MIXED_SCHEMAS. */
MUST_USE enum err_code histogram_interpolate(struct arena *arena, const struct histogram *a,
                                             const struct histogram *b, double fraction,
                                             bool counter, struct histogram **out, unsigned *notes,
                                             struct err *err);
/* Observations below x (or above), the bucket that holds x divided. */
MUST_USE enum err_code histogram_trim(struct arena *arena, const struct histogram *h, double x,
                                      bool keep_below, struct histogram **out, struct err *err);
/* {count:44, sum:110, …} */
void histogram_print(struct buf *out, const struct histogram *h);

/* Buckets in ascending order, empty ones left out, cut at the zero threshold: JSON, quantiles. */
struct histogram_bucket {
    double lower, upper, count;
    uint8_t boundaries; /* 0 (lo,hi], 1 [lo,hi), 2 open, 3 closed, as the API prints it */
};
MUST_USE enum err_code histogram_buckets(struct arena *arena, const struct histogram *h,
                                         struct histogram_bucket **out, size_t *n, struct err *err);

/* Notes with Prometheus's texts go to `notes` at the positions given. */
struct quantile_context {
    struct notes *notes;
    uint32_t pos_vector, pos_scalar;
    struct str metric; /* may be empty */
    int64_t t_ms;
};
double histogram_quantile(double q, const struct histogram *h, const struct quantile_context *ctx);
double histogram_fraction(double lower, double upper, const struct histogram *h,
                          const struct quantile_context *ctx);
/* One classic `le` family at one step: sorts, merges equal bounds, repairs monotonicity (noted). */
struct le_bucket {
    double le, count;
};
double le_quantile(double q, struct le_bucket *buckets, size_t n, bool *repaired,
                   double *repair_max_diff, double *repair_from, double *repair_to);
double le_fraction(double lower, double upper, struct le_bucket *buckets, size_t n);
/* A `le` label's text as a bound, by Go's float syntax. */
bool le_parse(struct str text, double *out);

#endif
