/* query/histogram_value.c: see the header. The order of additions is Prometheus's: receiver first. */
#include "query/histogram_value.h"

#include <math.h>

#include "query/histogram_bounds.h"

static enum err_code side_alloc(struct arena *arena, uint32_t cap, struct value_side *out,
                                struct err *err)
{
    *out = (struct value_side){.cap = cap};
    if (cap == 0) return ERR_OK;
    out->index = ARENA_ARRAY(arena, int64_t, cap);
    out->v = ARENA_ARRAY(arena, double, cap);
    out->c = ARENA_ARRAY(arena, double, cap);
    return out->index && out->v && out->c ? ERR_OK : arena_fail(arena, err);
}

static enum err_code side_load(struct arena *arena, const struct histogram_span *spans,
                               uint32_t n_spans, const double *counts, uint32_t n,
                               struct value_side *out, struct err *err)
{
    enum err_code rc = side_alloc(arena, n, out, err);
    if (rc || n == 0) return rc;
    struct span_walk w;
    span_walk_init(&w, spans, n_spans, counts, n, false);
    while (span_walk_next(&w, &out->index[out->n], &out->v[out->n])) out->n++;
    return ERR_OK;
}

enum err_code histogram_value_load(struct arena *arena, const struct histogram *h, bool compensated,
                                   struct histogram_value *out, struct err *err)
{
    *out = (struct histogram_value){.count = h->count,
                                    .sum = h->sum,
                                    .zero = h->zero_count,
                                    .zero_threshold = h->zero_threshold,
                                    .bounds = h->bounds,
                                    .n_bounds = h->n_bounds,
                                    .schema = h->schema,
                                    .reset_hint = h->reset_hint,
                                    .compensated = compensated};
    enum err_code rc =
        side_load(arena, h->pos_spans, h->n_pos_spans, h->pos, h->n_pos, &out->pos, err);
    if (rc) return rc;
    return side_load(arena, h->neg_spans, h->n_neg_spans, h->neg, h->n_neg, &out->neg, err);
}

static void side_move(struct value_side *to, const struct value_side *from)
{
    to->n = from->n;
    if (from->n == 0) return;
    ASSERT(to->cap >= from->n);
    ASSERT(to->index != NULL);
    memcpy(to->index, from->index, from->n * sizeof(*to->index));
    memcpy(to->v, from->v, from->n * sizeof(*to->v));
    memcpy(to->c, from->c, from->n * sizeof(*to->c));
}

static enum err_code side_copy(struct arena *arena, const struct value_side *from,
                               struct value_side *out, struct err *err)
{
    enum err_code rc = side_alloc(arena, from->n, out, err);
    if (!rc) side_move(out, from);
    return rc;
}

enum err_code histogram_value_copy(struct arena *arena, const struct histogram_value *v,
                                   struct histogram_value *out, struct err *err)
{
    *out = *v;
    enum err_code rc = side_copy(arena, &v->pos, &out->pos, err);
    return rc ? rc : side_copy(arena, &v->neg, &out->neg, err);
}

/* ---- storing ---- */

/* Number and loss together; -0 without a loss stays -0. */
static inline double whole(double v, double c)
{
    return c != 0 ? v + c : v;
}

/* How many buckets are populated, and how many runs of them there are. */
static void side_measure(const struct value_side *s, uint32_t *n, uint32_t *n_spans)
{
    int64_t end = INT64_MIN;
    *n = *n_spans = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        if (whole(s->v[i], s->c[i]) == 0) continue;
        *n_spans += s->index[i] != end;
        end = s->index[i] + 1;
        ++*n;
    }
}

static void side_store(const struct value_side *s, struct histogram_span *spans, double *counts)
{
    int64_t end = 0;
    uint32_t n = 0, n_spans = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        if (whole(s->v[i], s->c[i]) == 0) continue;
        if (n_spans && s->index[i] == end)
            spans[n_spans - 1].length++;
        else
            spans[n_spans++] = (struct histogram_span){(int32_t)(s->index[i] - end), 1};
        end = s->index[i] + 1;
        counts[n++] = whole(s->v[i], s->c[i]);
    }
}

enum err_code histogram_value_store(struct arena *arena, const struct histogram_value *v,
                                    struct histogram **out, struct err *err)
{
    struct histogram *h = ARENA_NEW(arena, struct histogram);
    if (!h) return arena_fail(arena, err);
    *h = (struct histogram){.schema = v->schema,
                            .reset_hint = v->reset_hint,
                            .count = whole(v->count, v->count_c),
                            .sum = whole(v->sum, v->sum_c),
                            .zero_threshold = v->zero_threshold,
                            .zero_count = whole(v->zero, v->zero_c),
                            .n_bounds = v->n_bounds};
    side_measure(&v->pos, &h->n_pos, &h->n_pos_spans);
    side_measure(&v->neg, &h->n_neg, &h->n_neg_spans);
    h->pos_spans = ARENA_ARRAY(arena, struct histogram_span, h->n_pos_spans);
    h->neg_spans = ARENA_ARRAY(arena, struct histogram_span, h->n_neg_spans);
    h->pos = ARENA_ARRAY(arena, double, h->n_pos);
    h->neg = ARENA_ARRAY(arena, double, h->n_neg);
    if (v->n_bounds) h->bounds = ARENA_ARRAY(arena, double, v->n_bounds);
    if (!h->pos_spans || !h->neg_spans || !h->pos || !h->neg || (v->n_bounds && !h->bounds))
        return arena_fail(arena, err);
    if (v->n_bounds) memcpy(h->bounds, v->bounds, v->n_bounds * sizeof(*h->bounds));
    side_store(&v->pos, h->pos_spans, h->pos);
    side_store(&v->neg, h->neg_spans, h->neg);
    *out = h;
    return ERR_OK;
}

/* ---- single values ---- */

static inline void number_add(bool compensated, double x, double *v, double *c)
{
    if (compensated)
        kahan_add(x, v, c);
    else
        *v += x;
}

/* Buckets that have got the same index become one. */
static void side_join(struct value_side *s, bool compensated)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        if (n && s->index[n - 1] == s->index[i]) {
            number_add(compensated, s->v[i], &s->v[n - 1], &s->c[n - 1]);
            s->c[n - 1] += s->c[i];
            continue;
        }
        s->index[n] = s->index[i];
        s->v[n] = s->v[i];
        s->c[n++] = s->c[i];
    }
    s->n = n;
}

static void side_reduce(struct value_side *s, int32_t from, int32_t to, bool compensated)
{
    for (uint32_t i = 0; i < s->n; i++) s->index[i] = histogram_index_at(s->index[i], from, to);
    side_join(s, compensated);
}

void histogram_value_reduce(struct histogram_value *v, int32_t schema)
{
    if (schema >= v->schema) return;
    side_reduce(&v->pos, v->schema, schema, v->compensated);
    side_reduce(&v->neg, v->schema, schema, v->compensated);
    v->schema = schema;
}

/* Adds the buckets below `threshold` to (zero, zero_c). Returns the threshold, or the outer bound of a populated bucket
 * that it cuts. */
static double side_zero(const struct histogram_value *v, const struct value_side *s,
                        double threshold, double *zero, double *zero_c)
{
    for (uint32_t i = 0; i < s->n; i++) {
        if (!(histogram_bound(s->index[i] - 1, v->schema) < threshold)) break;
        number_add(v->compensated, s->v[i], zero, zero_c);
        *zero_c += s->c[i];
        double upper = histogram_bound(s->index[i], v->schema);
        if (upper > threshold) return whole(s->v[i], s->c[i]) != 0 ? upper : threshold;
    }
    return threshold;
}

static void side_drop_below(struct value_side *s, int32_t schema, double threshold)
{
    uint32_t from = 0;
    while (from < s->n && histogram_bound(s->index[from] - 1, schema) < threshold) from++;
    if (from == 0) return;
    s->index += from, s->v += from, s->c += from;
    s->n -= from, s->cap -= from;
}

void histogram_value_widen(struct histogram_value *v, double threshold)
{
    double zero, zero_c, wider = threshold;
    do { /* a negative bucket that is cut widens the positive side, too: once more from the start */
        threshold = wider;
        zero = v->zero, zero_c = v->zero_c;
        threshold = side_zero(v, &v->pos, threshold, &zero, &zero_c);
        wider = side_zero(v, &v->neg, threshold, &zero, &zero_c);
    } while (wider > threshold);
    v->zero = zero, v->zero_c = zero_c;
    v->zero_threshold = threshold;
    side_drop_below(&v->pos, v->schema, threshold);
    side_drop_below(&v->neg, v->schema, threshold);
}

static inline double scaled(double x, double f, bool divide)
{
    return divide ? x / f : x * f;
}

/* No loss stays none: 0 / 0 or 0 * Inf would poison the number. */
static void number_scale(double *v, double *c, double f, bool divide)
{
    *v = scaled(*v, f, divide);
    if (*c != 0) *c = scaled(*c, f, divide);
}

static void side_scale(struct value_side *s, double f, bool divide)
{
    for (uint32_t i = 0; i < s->n; i++) number_scale(&s->v[i], &s->c[i], f, divide);
}

void histogram_value_scale(struct histogram_value *v, double f, bool divide)
{
    number_scale(&v->count, &v->count_c, f, divide);
    number_scale(&v->sum, &v->sum_c, f, divide);
    number_scale(&v->zero, &v->zero_c, f, divide);
    if (divide && f == 0) v->pos.n = v->neg.n = 0;
    side_scale(&v->pos, f, divide);
    side_scale(&v->neg, f, divide);
}

static bool side_overflows(const struct value_side *s)
{
    bool any = false;
    for (uint32_t i = 0; i < s->n; i++) any |= isinf(s->v[i]) != 0;
    return any;
}

bool histogram_value_overflows(const struct histogram_value *v)
{
    return isinf(v->count) || isinf(v->sum) || isinf(v->zero) || side_overflows(&v->pos) ||
           side_overflows(&v->neg);
}

/* ---- custom bounds ---- */

static bool same_bounds(const struct histogram_value *a, const struct histogram_value *b)
{
    if (a->n_bounds != b->n_bounds) return false;
    for (uint32_t i = 0; i < a->n_bounds; i++) {
        if (a->bounds[i] != b->bounds[i]) return false;
    }
    return true;
}

static enum err_code common_bounds(struct arena *arena, const struct histogram_value *a,
                                   const struct histogram_value *b, const double **out, uint32_t *n,
                                   struct err *err)
{
    *n = 0;
    double *common = ARENA_ARRAY(arena, double, MIN_OF(a->n_bounds, b->n_bounds));
    if (!common) return arena_fail(arena, err);
    for (uint32_t i = 0, k = 0; i < a->n_bounds && k < b->n_bounds;) {
        if (a->bounds[i] == b->bounds[k]) {
            common[(*n)++] = a->bounds[i];
            i++, k++;
        } else if (a->bounds[i] < b->bounds[k]) {
            i++;
        } else {
            k++;
        }
    }
    *out = common;
    return ERR_OK;
}

/* Each bucket goes to the first one of the new bounds that ends at or above its end. Compensated in any case. */
static void to_bounds(struct histogram_value *v, const double *bounds, uint32_t n_bounds)
{
    uint32_t target = 0;
    for (uint32_t i = 0; i < v->pos.n; i++) {
        int64_t index = v->pos.index[i];
        if (index >= v->n_bounds)
            target = n_bounds;
        else
            while (target < n_bounds && bounds[target] < v->bounds[index]) target++;
        v->pos.index[i] = target;
    }
    side_join(&v->pos, true);
    v->bounds = bounds;
    v->n_bounds = n_bounds;
}

static enum err_code align_custom(struct arena *arena, struct histogram_value *a,
                                  struct histogram_value *b, bool *reconciled, struct err *err)
{
    if (same_bounds(a, b)) return ERR_OK;
    const double *bounds = NULL;
    uint32_t n = 0;
    enum err_code rc = common_bounds(arena, a, b, &bounds, &n, err);
    if (rc) return rc;
    *reconciled = true;
    to_bounds(a, bounds, n);
    to_bounds(b, bounds, n);
    return ERR_OK;
}

/* ---- addition ---- */

/* Widens the one with the smaller zero bucket until both agree. Each turn swallows a bucket or ends; NaN thresholds
 * (hostile input) compare as neither and end it. */
static void align_zero(struct histogram_value *a, struct histogram_value *b)
{
    for (;;) {
        if (a->zero_threshold > b->zero_threshold)
            histogram_value_widen(b, a->zero_threshold);
        else if (b->zero_threshold > a->zero_threshold)
            histogram_value_widen(a, b->zero_threshold);
        else
            return;
    }
}

/* Buckets of `from` that `to` does not have. */
static uint32_t count_missing(const struct value_side *to, const struct value_side *from)
{
    uint32_t missing = 0;
    for (uint32_t i = 0, k = 0; k < from->n; k++) {
        while (i < to->n && to->index[i] < from->index[k]) i++;
        missing += i == to->n || to->index[i] != from->index[k];
    }
    return missing;
}

static enum err_code side_grow(struct arena *arena, struct value_side *s, uint32_t extra,
                               struct err *err)
{
    if (extra <= s->cap - s->n) return ERR_OK;
    struct value_side grown;
    enum err_code rc = side_alloc(arena, s->n + MAX_OF(extra, s->n / 2), &grown, err);
    if (rc) return rc;
    side_move(&grown, s);
    *s = grown;
    return ERR_OK;
}

/* Merges from the back, in place: what is written is never below what is still to be read. */
static enum err_code side_add(struct arena *arena, struct value_side *to,
                              const struct value_side *from, bool negate, bool compensated,
                              struct err *err)
{
    uint32_t missing = count_missing(to, from);
    enum err_code rc = side_grow(arena, to, missing, err);
    if (rc) return rc;
    uint32_t i = to->n, k = from->n;
    to->n += missing;
    ASSERT(to->index != NULL || k == 0);
    for (uint32_t out = to->n; k > 0;) {
        double x = negate ? -from->v[k - 1] : from->v[k - 1];
        double xc = negate ? -from->c[k - 1] : from->c[k - 1];
        out--;
        if (i == 0 || to->index[i - 1] < from->index[k - 1]) {
            to->index[out] = from->index[--k];
            to->v[out] = x;
            to->c[out] = xc;
            continue;
        }
        bool same = to->index[i - 1] == from->index[k - 1];
        i--;
        to->index[out] = to->index[i];
        to->v[out] = to->v[i];
        to->c[out] = to->c[i];
        if (!same) continue;
        number_add(compensated, x, &to->v[out], &to->c[out]);
        to->c[out] += xc;
        k--;
    }
    return ERR_OK;
}

enum err_code histogram_value_add(struct arena *arena, struct histogram_value *to,
                                  struct histogram_value *from, bool negate, bool *reconciled,
                                  struct err *err)
{
    bool custom = to->schema == HISTOGRAM_SCHEMA_CUSTOM;
    ASSERT(custom == (from->schema == HISTOGRAM_SCHEMA_CUSTOM));
    if (custom) {
        enum err_code rc = align_custom(arena, to, from, reconciled, err);
        if (rc) return rc;
    } else {
        /* In each one's own schema, before they are reduced: a bucket in the zero bucket must not come back as
         * a part of a coarser one that is not. */
        align_zero(to, from);
        int32_t schema = MIN_OF(to->schema, from->schema);
        histogram_value_reduce(to, schema);
        histogram_value_reduce(from, schema);
    }
    double sign = negate ? -1.0 : 1.0;
    number_add(to->compensated, sign * from->zero, &to->zero, &to->zero_c);
    number_add(to->compensated, sign * from->count, &to->count, &to->count_c);
    number_add(to->compensated, sign * from->sum, &to->sum, &to->sum_c);
    to->zero_c += sign * from->zero_c;
    to->count_c += sign * from->count_c;
    to->sum_c += sign * from->sum_c;
    enum err_code rc = side_add(arena, &to->pos, &from->pos, negate, to->compensated, err);
    if (rc) return rc;
    return side_add(arena, &to->neg, &from->neg, negate, to->compensated, err);
}

/* Where the buckets of a span, the first of them `index`, stand among those of `to`; searched from *i on. Indexes rise
 * one by one at least: if both ends fit, all between do. */
static bool find_span(const struct value_side *to, int64_t index, uint32_t length, uint32_t *i)
{
    while (*i < to->n && to->index[*i] < index) ++*i;
    return length <= to->n - *i && to->index[*i] == index &&
           to->index[*i + length - 1] == index + length - 1;
}

static void add_counts(double *restrict v, double *restrict c, const double *restrict counts,
                       uint32_t n, bool compensated)
{
    for (uint32_t i = 0; compensated && i < n; i++) kahan_add(counts[i], &v[i], &c[i]);
    for (uint32_t i = 0; !compensated && i < n; i++) v[i] += counts[i];
}

/* With counts NULL only looks if all of them have a place. */
static bool side_add_within(struct value_side *to, const struct histogram_span *spans,
                            uint32_t n_spans, const double *counts, bool compensated)
{
    int64_t index = 0;
    uint32_t i = 0;
    for (uint32_t s = 0; s < n_spans; s++) {
        uint32_t length = spans[s].length;
        index += spans[s].offset;
        if (length == 0) continue;
        if (!find_span(to, index, length, &i)) return false;
        if (counts) {
            add_counts(&to->v[i], &to->c[i], counts, length, compensated);
            counts += length;
        }
        index += length;
        i += length;
    }
    return true;
}

bool histogram_value_add_within(struct histogram_value *to, const struct histogram *h)
{
    if (to->schema != h->schema || to->zero_threshold != h->zero_threshold ||
        to->n_bounds != h->n_bounds)
        return false;
    for (uint32_t i = 0; i < h->n_bounds; i++) {
        if (to->bounds[i] != h->bounds[i]) return false;
    }
    if (!side_add_within(&to->pos, h->pos_spans, h->n_pos_spans, NULL, false) ||
        !side_add_within(&to->neg, h->neg_spans, h->n_neg_spans, NULL, false))
        return false;
    number_add(to->compensated, h->zero_count, &to->zero, &to->zero_c);
    number_add(to->compensated, h->count, &to->count, &to->count_c);
    number_add(to->compensated, h->sum, &to->sum, &to->sum_c);
    bool fits = side_add_within(&to->pos, h->pos_spans, h->n_pos_spans, h->pos, to->compensated) &&
                side_add_within(&to->neg, h->neg_spans, h->n_neg_spans, h->neg, to->compensated);
    ASSERT(fits);
    return true;
}
