/* query/histogram_math.c: operators, sums and comparisons of histograms (query/kernel.h). Intermediate values live in
 * a scratch arena; only the result goes to the caller's. */
#include <math.h>

#include "query/histogram_bounds.h"
#include "query/histogram_value.h"
#include "query/number.h"

/* ---- hints ---- */

/* What is known of a + b: equal hints stay, a gauge wins, else nothing is known. True: a reset met a non-reset. */
static bool hints_join(uint8_t *to, uint8_t from)
{
    if (*to == from || *to == HISTOGRAM_RESET_GAUGE) return false;
    bool conflict = *to != HISTOGRAM_RESET_UNKNOWN && from != HISTOGRAM_RESET_UNKNOWN &&
                    from != HISTOGRAM_RESET_GAUGE;
    *to = from == HISTOGRAM_RESET_GAUGE ? HISTOGRAM_RESET_GAUGE : HISTOGRAM_RESET_UNKNOWN;
    return conflict;
}

/* ---- a + b, a - b ---- */

static enum err_code combine(struct arena *arena, const struct histogram *a,
                             const struct histogram *b, bool subtract, struct histogram **out,
                             unsigned *notes, struct err *err)
{
    *out = NULL;
    if (histogram_is_custom(a) != histogram_is_custom(b)) {
        *notes |= HISTOGRAM_NOTE_MIXED_SCHEMAS;
        return ERR_OK;
    }
    struct arena scratch;
    arena_init(&scratch, MEM_QUERY, arena->budget_bytes);
    struct histogram_value x, y;
    bool reconciled = false;
    enum err_code rc = histogram_value_load(&scratch, a, false, &x, err);
    if (!rc) rc = histogram_value_load(&scratch, b, false, &y, err);
    if (!rc) rc = histogram_value_add(&scratch, &x, &y, subtract, &reconciled, err);
    if (!rc && hints_join(&x.reset_hint, y.reset_hint)) *notes |= HISTOGRAM_NOTE_RESET_CONFLICT;
    if (!rc && subtract) x.reset_hint = HISTOGRAM_RESET_GAUGE;
    if (!rc) rc = histogram_value_store(arena, &x, out, err);
    if (reconciled) *notes |= HISTOGRAM_NOTE_BOUNDS_RECONCILED;
    arena_release(&scratch);
    return rc;
}

enum err_code histogram_add(struct arena *arena, const struct histogram *a,
                            const struct histogram *b, struct histogram **out, unsigned *notes,
                            struct err *err)
{
    return combine(arena, a, b, false, out, notes, err);
}

enum err_code histogram_sub(struct arena *arena, const struct histogram *a,
                            const struct histogram *b, struct histogram **out, unsigned *notes,
                            struct err *err)
{
    return combine(arena, a, b, true, out, notes, err);
}

enum err_code histogram_scale(struct arena *arena, const struct histogram *h, double f, bool divide,
                              struct histogram **out, struct err *err)
{
    struct arena scratch;
    arena_init(&scratch, MEM_QUERY, arena->budget_bytes);
    struct histogram_value x;
    enum err_code rc = histogram_value_load(&scratch, h, false, &x, err);
    if (!rc) {
        histogram_value_scale(&x, f, divide);
        if (f < 0) x.reset_hint = HISTOGRAM_RESET_GAUGE;
        rc = histogram_value_store(arena, &x, out, err);
    }
    arena_release(&scratch);
    return rc;
}

enum err_code histogram_interpolate(struct arena *arena, const struct histogram *a,
                                    const struct histogram *b, double fraction, bool counter,
                                    struct histogram **out, unsigned *notes, struct err *err)
{
    if (counter && histogram_is_reset(b, a))
        return histogram_scale(arena, b, fraction, false, out, err);
    *out = NULL;
    if (histogram_is_custom(a) != histogram_is_custom(b)) {
        *notes |= HISTOGRAM_NOTE_MIXED_SCHEMAS;
        return ERR_OK;
    }
    struct arena scratch;
    arena_init(&scratch, MEM_QUERY, arena->budget_bytes);
    struct histogram_value from, step, base;
    bool reconciled = false;
    enum err_code rc = histogram_value_load(&scratch, a, false, &from, err);
    if (!rc) rc = histogram_value_load(&scratch, a, false, &base, err);
    if (!rc) rc = histogram_value_load(&scratch, b, false, &step, err);
    if (!rc) rc = histogram_value_add(&scratch, &step, &base, true, &reconciled, err);
    if (!rc) {
        histogram_value_scale(&step, fraction, false);
        rc = histogram_value_add(&scratch, &from, &step, false, &reconciled, err);
    }
    if (!rc) rc = histogram_value_store(arena, &from, out, err);
    if (reconciled) *notes |= HISTOGRAM_NOTE_BOUNDS_RECONCILED;
    arena_release(&scratch);
    return rc;
}

/* ---- sums and means ---- */

/* The mean is sum / n until a number of the sum overflows; from there on it is kept incrementally beside the sum. */
struct histogram_sum {
    struct histogram_value sum, mean;
    uint64_t n;
    double
        magnitude; /* bounds all numbers of `sum` from above: while finite, nothing can have overflowed */
    bool incremental; /* `mean` counts */
    bool mixed;       /* exponential met custom: there is no sum any more */
    bool seen_reset, seen_no_reset;
};

static double side_magnitude(const double *v, uint32_t n)
{
    double m = 0;
    for (uint32_t i = 0; i < n; i++) m += isnan(v[i]) ? 0 : fabs(v[i]);
    return m;
}

static double magnitude(const struct histogram *h)
{
    double scalars[] = {h->count, h->sum, h->zero_count};
    return side_magnitude(scalars, COUNT_OF(scalars)) + side_magnitude(h->pos, h->n_pos) +
           side_magnitude(h->neg, h->n_neg);
}

static enum err_code mean_add(struct arena *arena, struct arena *scratch, struct histogram_sum *s,
                              const struct histogram *h, struct err *err)
{
    struct histogram_value x;
    bool reconciled = false; /* told by the sum already */
    enum err_code rc = histogram_value_load(scratch, h, false, &x, err);
    if (rc) return rc;
    double n = (double)s->n;
    histogram_value_scale(&s->mean, (n - 1) / n, false);
    histogram_value_scale(&x, n, true);
    return histogram_value_add(arena, &s->mean, &x, false, &reconciled, err);
}

/* Adds to the sum; if that overflows, what it was before becomes the start of the incremental mean. */
static enum err_code sum_add(struct arena *arena, struct arena *scratch, struct histogram_sum *s,
                             const struct histogram *h, bool *reconciled, struct err *err)
{
    struct histogram_value x, before;
    bool watch = !s->incremental && !isfinite(s->magnitude);
    enum err_code rc = histogram_value_load(scratch, h, false, &x, err);
    if (!rc && watch) rc = histogram_value_copy(scratch, &s->sum, &before, err);
    if (!rc) rc = histogram_value_add(arena, &s->sum, &x, false, reconciled, err);
    if (!rc && watch && histogram_value_overflows(&s->sum)) {
        s->incremental = true;
        rc = histogram_value_copy(arena, &before, &s->mean, err);
        if (!rc) histogram_value_scale(&s->mean, (double)(s->n - 1), true);
    }
    return !rc && s->incremental ? mean_add(arena, scratch, s, h, err) : rc;
}

static void watch_hints(struct histogram_sum *s, const struct histogram *h, unsigned *notes)
{
    s->seen_reset |= h->reset_hint == HISTOGRAM_RESET_YES;
    s->seen_no_reset |= h->reset_hint == HISTOGRAM_RESET_NO;
    if (s->seen_reset && s->seen_no_reset) *notes |= HISTOGRAM_NOTE_RESET_CONFLICT;
}

enum err_code histogram_sum_add(struct arena *arena, struct histogram_sum **sum,
                                const struct histogram *h, unsigned *notes, struct err *err)
{
    struct histogram_sum *s = *sum;
    if (!s) {
        *sum = s = ARENA_NEW(arena, struct histogram_sum);
        if (!s) return arena_fail(arena, err);
        s->n = 1;
        s->magnitude = magnitude(h);
        watch_hints(s, h, notes);
        enum err_code rc = histogram_value_load(arena, h, true, &s->sum, err);
        if (rc || !h->n_bounds) return rc;
        /* The value outlives h, of which it borrows nothing else. */
        double *bounds = ARENA_ARRAY(arena, double, h->n_bounds);
        if (!bounds) return arena_fail(arena, err);
        memcpy(bounds, h->bounds, h->n_bounds * sizeof(*bounds));
        s->sum.bounds = bounds;
        return ERR_OK;
    }
    s->n++;
    watch_hints(s, h, notes);
    s->mixed |= (s->sum.schema == HISTOGRAM_SCHEMA_CUSTOM) != histogram_is_custom(h);
    if (s->mixed) {
        *notes |= HISTOGRAM_NOTE_MIXED_SCHEMAS;
        return ERR_OK;
    }
    s->magnitude += magnitude(h);
    (void)hints_join(&s->sum.reset_hint, h->reset_hint); /* conflicts: watch_hints() */
    if (!s->incremental && isfinite(s->magnitude) && histogram_value_add_within(&s->sum, h))
        return ERR_OK;
    struct arena scratch; /* else the query's would keep every histogram that was added */
    arena_init(&scratch, MEM_QUERY, arena->budget_bytes);
    bool reconciled = false;
    enum err_code rc = sum_add(arena, &scratch, s, h, &reconciled, err);
    if (reconciled) *notes |= HISTOGRAM_NOTE_BOUNDS_RECONCILED;
    arena_release(&scratch);
    return rc;
}

enum err_code histogram_sum_finish(struct arena *arena, struct histogram_sum *sum, bool mean,
                                   struct histogram **out, struct err *err)
{
    *out = NULL;
    if (!sum || sum->mixed) return ERR_OK;
    struct histogram_value *v = &sum->sum;
    if (mean && sum->incremental) {
        v = &sum->mean;
        v->reset_hint = sum->sum.reset_hint;
    } else if (mean && sum->n > 1) {
        histogram_value_scale(v, (double)sum->n, true);
    }
    return histogram_value_store(arena, v, out, err);
}

/* ---- comparisons ---- */

/* The next span that is not empty, empty ones' offsets added to it. */
static bool next_span(const struct histogram_span *spans, uint32_t n, uint32_t *i, int64_t *offset,
                      uint32_t *length)
{
    *offset = 0;
    while (*i < n) {
        *offset += spans[*i].offset;
        *length = spans[(*i)++].length;
        if (*length) return true;
    }
    return false;
}

static bool spans_equal(const struct histogram_span *a, uint32_t n_a,
                        const struct histogram_span *b, uint32_t n_b)
{
    uint32_t i = 0, k = 0, length_a = 0, length_b = 0;
    for (;;) {
        int64_t offset_a, offset_b;
        bool more_a = next_span(a, n_a, &i, &offset_a, &length_a);
        bool more_b = next_span(b, n_b, &k, &offset_b, &length_b);
        if (!more_a || !more_b) return more_a == more_b;
        if (offset_a != offset_b || length_a != length_b) return false;
    }
}

static bool same_doubles(const double *a, uint32_t n_a, const double *b, uint32_t n_b)
{
    return n_a == n_b && (n_a == 0 || memcmp(a, b, n_a * sizeof(*a)) == 0);
}

static bool bounds_equal(const struct histogram *a, const struct histogram *b)
{
    if (a->n_bounds != b->n_bounds) return false;
    for (uint32_t i = 0; i < a->n_bounds; i++) {
        if (a->bounds[i] != b->bounds[i]) return false;
    }
    return true;
}

bool histogram_equal(const struct histogram *a, const struct histogram *b)
{
    return a->schema == b->schema && a->zero_threshold == b->zero_threshold &&
           double_bits(a->count) == double_bits(b->count) &&
           double_bits(a->sum) == double_bits(b->sum) &&
           double_bits(a->zero_count) == double_bits(b->zero_count) && bounds_equal(a, b) &&
           spans_equal(a->pos_spans, a->n_pos_spans, b->pos_spans, b->n_pos_spans) &&
           spans_equal(a->neg_spans, a->n_neg_spans, b->neg_spans, b->n_neg_spans) &&
           same_doubles(a->pos, a->n_pos, b->pos, b->n_pos) &&
           same_doubles(a->neg, a->n_neg, b->neg, b->n_neg);
}

/* ---- resets ---- */

struct side_view {
    const struct histogram_span *spans;
    const double *counts;
    uint32_t n_spans, n;
};

static struct side_view side_of(const struct histogram *h, bool negative)
{
    if (negative) return (struct side_view){h->neg_spans, h->neg, h->n_neg_spans, h->n_neg};
    return (struct side_view){h->pos_spans, h->pos, h->n_pos_spans, h->n_pos};
}

static void side_walk(struct span_walk *w, const struct histogram *h, bool negative)
{
    struct side_view s = side_of(h, negative);
    span_walk_init(w, s.spans, s.n_spans, s.counts, s.n, false);
}

/* prev's observations within cur's zero bucket; false if that cuts one of prev's populated buckets. */
static bool zero_count_within(const struct histogram *prev, double threshold, double *zero)
{
    *zero = prev->zero_count;
    if (threshold == prev->zero_threshold) return true;
    for (int negative = 0; negative <= 1; negative++) {
        struct span_walk w;
        int64_t index;
        double count;
        side_walk(&w, prev, negative);
        while (span_walk_next(&w, &index, &count)) {
            if (!(histogram_bound(index - 1, prev->schema) < threshold)) break;
            *zero += count;
            if (histogram_bound(index, prev->schema) > threshold && count != 0) return false;
        }
    }
    return true;
}

/* Is a bucket of prev, at cur's schema and outside the zero bucket, larger than or missing in cur? */
static bool side_fell(const struct histogram *cur, const struct histogram *prev, bool negative)
{
    struct span_walk walk_cur, walk_prev;
    side_walk(&walk_cur, cur, negative);
    side_walk(&walk_prev, prev, negative);
    int64_t index = 0, index_cur = INT64_MIN;
    double count = 0, count_cur = 0;
    bool more = span_walk_next(&walk_prev, &index, &count), more_cur = true;
    while (more) {
        int64_t target = histogram_index_at(index, prev->schema, cur->schema);
        double sum = 0;
        for (; more && histogram_index_at(index, prev->schema, cur->schema) == target;
             more = span_walk_next(&walk_prev, &index, &count)) {
            /* Those within the zero bucket have been compared with it. */
            if (histogram_bound(index, prev->schema) > cur->zero_threshold) sum += count;
        }
        while (more_cur && index_cur < target)
            more_cur = span_walk_next(&walk_cur, &index_cur, &count_cur);
        if (more_cur && index_cur == target ? count_cur < sum : sum != 0) return true;
    }
    return false;
}

/* The sum of the buckets up to index `last`. */
static double take_until(struct span_walk *w, int64_t last, int64_t *index, double *count,
                         bool *more)
{
    double sum = 0;
    for (; *more && *index <= last; *more = span_walk_next(w, index, count)) sum += *count;
    return sum;
}

/* Buckets between the bounds that both have, and the one beyond: did any fall? Equal bounds are all common. */
static bool custom_fell(const struct histogram *cur, const struct histogram *prev)
{
    struct span_walk walk_cur, walk_prev;
    int64_t index_cur, index_prev;
    double count_cur, count_prev;
    side_walk(&walk_cur, cur, false);
    side_walk(&walk_prev, prev, false);
    bool more_cur = span_walk_next(&walk_cur, &index_cur, &count_cur);
    bool more_prev = span_walk_next(&walk_prev, &index_prev, &count_prev);
    for (uint32_t i = 0, k = 0;; i++, k++) {
        while (i < cur->n_bounds && k < prev->n_bounds && cur->bounds[i] != prev->bounds[k]) {
            if (cur->bounds[i] < prev->bounds[k])
                i++;
            else
                k++;
        }
        bool last = i >= cur->n_bounds || k >= prev->n_bounds;
        double sum_cur =
            take_until(&walk_cur, last ? INT64_MAX : i, &index_cur, &count_cur, &more_cur);
        double sum_prev =
            take_until(&walk_prev, last ? INT64_MAX : k, &index_prev, &count_prev, &more_prev);
        if (sum_cur < sum_prev) return true;
        if (last) return false;
    }
}

static bool none_fell(const double *restrict cur, const double *restrict prev, uint32_t n)
{
    unsigned fell = 0;
    for (uint32_t i = 0; i < n; i++) fell |= cur[i] < prev[i];
    return !fell;
}

static bool same_spans(const struct histogram_span *a, uint32_t n_a, const struct histogram_span *b,
                       uint32_t n_b)
{
    return n_a == n_b && (n_a == 0 || memcmp(a, b, n_a * sizeof(*a)) == 0);
}

/* The usual neighbours: one layout, and no bucket fell. 13 -> 1.1 ns a bucket, resets() over 53 buckets. */
static bool surely_no_reset(const struct histogram *cur, const struct histogram *prev)
{
    return cur->schema == prev->schema && cur->zero_threshold == prev->zero_threshold &&
           cur->zero_count >= prev->zero_count &&
           same_spans(cur->pos_spans, cur->n_pos_spans, prev->pos_spans, prev->n_pos_spans) &&
           same_spans(cur->neg_spans, cur->n_neg_spans, prev->neg_spans, prev->n_neg_spans) &&
           bounds_equal(cur, prev) && none_fell(cur->pos, prev->pos, cur->n_pos) &&
           none_fell(cur->neg, prev->neg, cur->n_neg);
}

bool histogram_is_reset(const struct histogram *cur, const struct histogram *prev)
{
    if (cur->count < prev->count) return true;
    if (surely_no_reset(cur, prev)) return false;
    if (histogram_is_custom(cur) != histogram_is_custom(prev)) return true;
    if (histogram_is_custom(cur)) return custom_fell(cur, prev);
    if (cur->schema > prev->schema || cur->zero_threshold < prev->zero_threshold) return true;
    double zero;
    if (!zero_count_within(prev, cur->zero_threshold, &zero)) return true;
    return cur->zero_count < zero || side_fell(cur, prev, false) || side_fell(cur, prev, true);
}

/* ---- text ---- */

static void print_number(struct buf *out, double v)
{
    uint8_t *p = buf_reserve(out, NUMBER_BYTES_MAX);
    if (p) out->len += number_print_general((char *)p, v);
}

static void print_bucket(struct buf *out, const struct histogram_bucket *b)
{
    buf_text(out, b->boundaries & 1 ? STR(", [") : STR(", ("));
    print_number(out, b->lower);
    buf_text(out, STR(","));
    print_number(out, b->upper);
    buf_text(out, b->boundaries == 0 || b->boundaries == 3 ? STR("]:") : STR("):"));
    print_number(out, b->count);
}

void histogram_print(struct buf *out, const struct histogram *h)
{
    buf_text(out, STR("{count:"));
    print_number(out, h->count);
    buf_text(out, STR(", sum:"));
    print_number(out, h->sum);
    /* Unlike elsewhere regular buckets are not cut at the zero threshold, and a zero bucket below 0 shows. */
    struct histogram shown = *h;
    shown.zero_threshold = 0;
    shown.zero_count = h->zero_count != 0 ? 1 : 0;
    struct bucket_walk w;
    struct histogram_bucket b;
    bucket_walk_init(&w, &shown, false);
    while (bucket_walk_next(&w, &b)) {
        if (b.lower == 0 && b.upper == 0 && b.boundaries == 3)
            b = (struct histogram_bucket){-h->zero_threshold, h->zero_threshold, h->zero_count, 3};
        if (b.count != 0) print_bucket(out, &b);
    }
    buf_text(out, STR("}"));
}
