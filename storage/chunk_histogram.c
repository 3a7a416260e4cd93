/* storage/chunk_histogram.c: histogram samples row by row. A row of the same shape as the one before holds
 * differences of counts, a byte or two a bucket; all else is written out. */
#include "storage/chunk_codec.h"
#include "storage/format.h"

#define COUNT_EXACT_MAX ((double)(INT64_C(1) << 53))
/* dod, kind, and at the least a float or what a histogram cannot do without. */
#define ROW_BYTES_MIN 3

/* Is v a whole number in 0..2^53 that comes back with the same bits? (-0 does not.) */
static bool count_to_int(double v, int64_t *out)
{
    if (!(v >= 0 && v <= COUNT_EXACT_MAX)) return false;
    *out = (int64_t)v;
    return double_bits((double)*out) == double_bits(v);
}

static bool same_spans(const struct histogram_span *a, const struct histogram_span *b, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (a[i].offset != b[i].offset || a[i].length != b[i].length) return false;
    return true;
}

static bool all_exact(const double *v, uint32_t n)
{
    int64_t k;
    for (uint32_t i = 0; i < n; i++)
        if (!count_to_int(v[i], &k)) return false;
    return true;
}

static bool counts_exact(const struct histogram *h)
{
    int64_t k;
    return h->is_int && count_to_int(h->count, &k) && count_to_int(h->zero_count, &k) &&
           all_exact(h->pos, h->n_pos) && all_exact(h->neg, h->n_neg);
}

static bool same_shape(const struct histogram *a, const struct histogram *b)
{
    return a->schema == b->schema && a->reset_hint == b->reset_hint && a->start_ms == b->start_ms &&
           double_bits(a->zero_threshold) == double_bits(b->zero_threshold) &&
           a->n_pos_spans == b->n_pos_spans && a->n_neg_spans == b->n_neg_spans &&
           a->n_pos == b->n_pos && a->n_neg == b->n_neg && a->n_bounds == b->n_bounds &&
           same_spans(a->pos_spans, b->pos_spans, a->n_pos_spans) &&
           same_spans(a->neg_spans, b->neg_spans, a->n_neg_spans) &&
           (a->n_bounds == 0 || memcmp(a->bounds, b->bounds, a->n_bounds * sizeof(double)) == 0);
}

static void put_difference(struct buf *out, double v, double before)
{
    buf_zigzag(out, (int64_t)v - (int64_t)before);
}

static void put_delta_row(struct buf *out, const struct histogram *h, const struct histogram *prev)
{
    buf_u8(out, CHUNK_ROW_DELTA);
    put_difference(out, h->count, prev->count);
    buf_double(out, h->sum);
    put_difference(out, h->zero_count, prev->zero_count);
    for (uint32_t i = 0; i < h->n_pos; i++) put_difference(out, h->pos[i], prev->pos[i]);
    for (uint32_t i = 0; i < h->n_neg; i++) put_difference(out, h->neg[i], prev->neg[i]);
}

enum err_code chunk_histograms_encode(const struct samples *s, size_t from, size_t n,
                                      struct buf *out, struct err *err)
{
    (void)err; /* any samples fit */
    buf_u8(out, CHUNK_HISTOGRAMS);
    buf_varint(out, n);
    uint64_t t = 0, delta = 0;
    const struct histogram *prev = NULL; /* of the row before; NULL unless its counts are exact */
    for (size_t i = from; i < from + n; i++) {
        uint64_t next = (uint64_t)s->t_ms[i] - t;
        buf_zigzag(out, (int64_t)(next - delta));
        /* The first time is no difference: the second one's counts from 0 again. */
        delta = i == from ? 0 : next;
        t = (uint64_t)s->t_ms[i];
        const struct histogram *h = s->h ? s->h[i] : NULL;
        if (!h) {
            buf_u8(out, CHUNK_ROW_FLOAT);
            buf_double(out, s->v[i]);
            prev = NULL;
            continue;
        }
        bool exact = counts_exact(h);
        if (prev && exact && same_shape(h, prev)) {
            put_delta_row(out, h, prev);
        } else {
            buf_u8(out, CHUNK_ROW_HISTOGRAM);
            histogram_encode(out, h);
        }
        prev = exact ? h : NULL;
    }
    return ERR_OK;
}

/* v += the next difference; false when either is not a count that has one. */
static bool add_difference(struct reader *r, double *v)
{
    int64_t k, diff = reader_zigzag(r);
    if (!count_to_int(*v, &k) || __builtin_add_overflow(k, diff, &k)) return false;
    *v = (double)k;
    return k >= 0 && k <= INT64_C(1) << 53;
}

static enum err_code get_delta_row(struct reader *r, const struct histogram *prev,
                                   struct arena *arena, struct histogram **out, struct err *err)
{
    if (!prev || !prev->is_int)
        return err_set(err, ERR_CORRUPT, "differences without an integer histogram before them");
    /* Before the copy takes memory: each bucket has a byte here. */
    if ((size_t)prev->n_pos + prev->n_neg > reader_left(r))
        return err_set(err, ERR_CORRUPT, "a histogram's buckets are cut short");
    struct histogram *h = NULL;
    enum err_code rc = histogram_copy(arena, prev, &h, err);
    if (rc) return rc;
    bool ok = add_difference(r, &h->count);
    h->sum = reader_double(r);
    ok &= add_difference(r, &h->zero_count);
    for (uint32_t i = 0; i < h->n_pos; i++) ok &= add_difference(r, &h->pos[i]);
    for (uint32_t i = 0; i < h->n_neg; i++) ok &= add_difference(r, &h->neg[i]);
    if (!ok || r->failed)
        return err_set(err, ERR_CORRUPT, "a histogram's differences make no counts");
    *out = h;
    return ERR_OK;
}

/* Rows before the range are decoded into two arenas by turns, since only the last one is needed. */
struct rows {
    struct reader r;
    struct arena scratch[2];
    unsigned turn;
    const struct histogram *prev;
    uint64_t t, delta;
};

static enum err_code row_decode(struct rows *rows, size_t i, int64_t mint_ms, int64_t maxt_ms,
                                struct samples *out, bool *ended, struct err *err)
{
    struct reader *r = &rows->r;
    uint64_t next = rows->delta + (uint64_t)reader_zigzag(r);
    uint64_t t = rows->t + next;
    if (i && (int64_t)t <= (int64_t)rows->t) return chunk_time_error(err);
    rows->delta = i ? next : 0;
    rows->t = t;
    *ended = (int64_t)t > maxt_ms;
    if (*ended) return ERR_OK;
    uint8_t kind = reader_u8(r);
    bool wanted = (int64_t)t >= mint_ms;
    if (kind == CHUNK_ROW_FLOAT) {
        double v = reader_double(r);
        rows->prev = NULL;
        if (r->failed) return err_set(err, ERR_CORRUPT, "cut short");
        return wanted ? samples_push(out, (int64_t)t, v, NULL, err) : ERR_OK;
    }
    struct arena *arena = out->arena;
    if (!wanted) {
        rows->turn ^= 1;
        arena = &rows->scratch[rows->turn];
        arena_reset(arena);
    }
    struct histogram *h = NULL;
    enum err_code rc;
    if (kind == CHUNK_ROW_HISTOGRAM)
        rc = histogram_decode(r, arena, &h, err);
    else if (kind == CHUNK_ROW_DELTA)
        rc = get_delta_row(r, rows->prev, arena, &h, err);
    else
        rc = err_set(err, ERR_CORRUPT, "unknown kind of row %u", kind);
    if (rc) return rc;
    rows->prev = h;
    return wanted ? samples_push(out, (int64_t)t, h->sum, h, err) : ERR_OK;
}

enum err_code chunk_histograms_decode(struct bytes chunk, int64_t mint_ms, int64_t maxt_ms,
                                      struct samples *out, struct err *err)
{
    struct rows rows = {.r = reader_init(chunk)};
    reader_u8(&rows.r);
    uint64_t n = reader_varint(&rows.r);
    if (rows.r.failed || n == 0 || n > CHUNK_SAMPLES_MAX ||
        n > reader_left(&rows.r) / ROW_BYTES_MIN)
        return err_set(err, ERR_CORRUPT, "a histogram chunk of %zu bytes says %llu samples",
                       chunk.len, (unsigned long long)n);
    ASSERT(out->arena != NULL);
    size_t n_before = out->n;
    for (size_t k = 0; k < 2; k++) arena_init(&rows.scratch[k], out->owner, 0);
    enum err_code rc = samples_want_histograms(out, err);
    bool ended = false;
    size_t i = 0;
    for (; !rc && !ended && i < n; i++)
        rc = row_decode(&rows, i, mint_ms, maxt_ms, out, &ended, err);
    if (rc)
        err_context(err, "sample %zu of %llu in a histogram chunk", i, (unsigned long long)n);
    else if (!ended)
        rc = reader_finish(&rows.r, err);
    for (size_t k = 0; k < 2; k++) arena_release(&rows.scratch[k]);
    if (rc) out->n = n_before;
    return rc;
}
