/* query/binary_value.c: see binary.h. */
#include "query/binary.h"

/* ---- columns ---- */

/* These run over all steps, present or not: what is written where nothing is present is never looked at. */
static void column_add(size_t n, const double *a, const double *b, double *out)
{
    for (size_t s = 0; s < n; s++) out[s] = a[s] + b[s];
}
static void column_sub(size_t n, const double *a, const double *b, double *out)
{
    for (size_t s = 0; s < n; s++) out[s] = a[s] - b[s];
}
static void column_mul(size_t n, const double *a, const double *b, double *out)
{
    for (size_t s = 0; s < n; s++) out[s] = a[s] * b[s];
}
static void column_div(size_t n, const double *a, const double *b, double *out)
{
    for (size_t s = 0; s < n; s++) out[s] = a[s] / b[s];
}

void column_arithmetic(enum binary_op op, const uint64_t *present, size_t n_steps, const double *a,
                       const double *b, double *out)
{
    switch (op) {
    case OP_ADD: column_add(n_steps, a, b, out); return;
    case OP_SUB: column_sub(n_steps, a, b, out); return;
    case OP_MUL: column_mul(n_steps, a, b, out); return;
    case OP_DIV: column_div(n_steps, a, b, out); return;
    default: break;
    }
    BITMAP_EACH(s, present, n_steps) out[s] = binary_float(op, a[s], b[s]);
}

void column_compare(enum binary_op op, const uint64_t *present, size_t n_steps, const double *a,
                    const double *b, uint64_t *out)
{
    for (size_t w = 0; w < bitmap_words(n_steps); w++) {
        uint64_t holds = 0;
        for (uint64_t left = present[w]; left; left &= left - 1) {
            size_t bit = (size_t)__builtin_ctzll(left), s = w * 64 + bit;
            holds |= (uint64_t)compare_float(op, a[s], b[s]) << bit;
        }
        out[w] = holds;
    }
}

/* ---- one pair ---- */

static const char *kind_name(const struct point *p)
{
    return p->kind == POINT_HISTOGRAM ? "histogram" : "float";
}

static enum err_code incompatible(const struct pair_job *job, const struct point *l,
                                  const struct point *r)
{
    const char *op = binary_op_text(job->op);
    notes_add(job->notes, NOTE_INFO, job->pos,
              "incompatible sample types encountered for binary operator \"%s\": %s %s %s", op,
              kind_name(l), op, kind_name(r));
    return ERR_OK;
}

static void compared(const struct pair_job *job, bool holds, const struct point *l,
                     struct point *out)
{
    if (job->return_bool)
        *out = (struct point){.kind = POINT_FLOAT, .v = holds};
    else if (holds)
        *out = *l;
}

static enum err_code float_float(const struct pair_job *job, const struct point *l,
                                 const struct point *r, struct point *out)
{
    if (op_is_comparison(job->op)) {
        compared(job, compare_float(job->op, l->v, r->v), l, out);
        return ERR_OK;
    }
    if (job->op > OP_ATAN2) return incompatible(job, l, r);
    *out = (struct point){.kind = POINT_FLOAT, .v = binary_float(job->op, l->v, r->v)};
    return ERR_OK;
}

static enum err_code histogram_histogram(const struct pair_job *job, const struct point *l,
                                         const struct point *r, struct point *out, struct err *err)
{
    if (job->op == OP_EQ || job->op == OP_NEQ) {
        compared(job, histogram_equal(l->h, r->h) == (job->op == OP_EQ), l, out);
        return ERR_OK;
    }
    if (job->op != OP_ADD && job->op != OP_SUB) return incompatible(job, l, r);
    bool add = job->op == OP_ADD;
    unsigned notes = 0;
    struct histogram *h = NULL;
    enum err_code rc = add ? histogram_add(job->arena, l->h, r->h, &h, &notes, err)
                           : histogram_sub(job->arena, l->h, r->h, &h, &notes, err);
    if (rc) return rc;
    const char *what = add ? "addition" : "subtraction";
    if (notes & HISTOGRAM_NOTE_MIXED_SCHEMAS)
        notes_add(job->notes, NOTE_WARNING, job->pos,
                  "incompatible bucket layout encountered for binary operator %s",
                  binary_op_text(job->op));
    if (notes & HISTOGRAM_NOTE_BOUNDS_RECONCILED)
        notes_add(job->notes, NOTE_INFO, job->pos,
                  "mismatched custom buckets were reconciled during %s", what);
    if (notes & HISTOGRAM_NOTE_RESET_CONFLICT)
        notes_add(job->notes, NOTE_WARNING, job->pos,
                  "conflicting counter resets during histogram %s", what);
    if (h) *out = (struct point){.kind = POINT_HISTOGRAM, .h = h};
    return ERR_OK;
}

static enum err_code scale(const struct pair_job *job, const struct histogram *h, double f,
                           struct point *out, struct err *err)
{
    *out = (struct point){.kind = POINT_HISTOGRAM};
    return histogram_scale(job->arena, h, f, job->op == OP_DIV, &out->h, err);
}

static enum err_code histogram_float(const struct pair_job *job, const struct point *l,
                                     const struct point *r, struct point *out, struct err *err)
{
    if (job->op == OP_MUL || job->op == OP_DIV) return scale(job, l->h, r->v, out, err);
    if (job->op != OP_TRIM_UPPER && job->op != OP_TRIM_LOWER) return incompatible(job, l, r);
    *out = (struct point){.kind = POINT_HISTOGRAM};
    return histogram_trim(job->arena, l->h, r->v, job->op == OP_TRIM_UPPER, &out->h, err);
}

enum err_code pair_evaluate(const struct pair_job *job, const struct point *l,
                            const struct point *r, struct point *out, struct err *err)
{
    *out = (struct point){0};
    bool left = l->kind == POINT_HISTOGRAM, right = r->kind == POINT_HISTOGRAM;
    if (!left && !right) return float_float(job, l, r, out);
    if (left && right) return histogram_histogram(job, l, r, out, err);
    if (left) return histogram_float(job, l, r, out, err);
    if (job->op == OP_MUL) return scale(job, r->h, l->v, out, err);
    return incompatible(job, l, r);
}
