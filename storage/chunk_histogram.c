/* storage/chunk_histogram.c: histogram samples row by row. A row of the same shape as the one before holds
 * differences of counts, a byte or two a bucket; all else is written out. */
#include "storage/chunk_histogram.h"

#include "storage/format.h"

static bool all_whole(const double *v, uint32_t n)
{
    int64_t k;
    for (uint32_t i = 0; i < n; i++)
        if (!histogram_count_to_int(v[i], &k)) return false;
    return true;
}

bool histogram_counts_are_whole(const struct histogram *h)
{
    int64_t k;
    return histogram_count_to_int(h->count, &k) && histogram_count_to_int(h->zero_count, &k) &&
           all_whole(h->pos, h->n_pos) && all_whole(h->neg, h->n_neg);
}

static bool same_shape(const struct histogram *a, const struct histogram *b)
{
    return a->reset_hint == b->reset_hint && a->start_ms == b->start_ms &&
           histogram_same_layout(a, b);
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

void chunk_row_put(struct buf *out, const struct samples *s, size_t i,
                   const struct histogram **prev)
{
    const struct histogram *h = s->h ? s->h[i] : NULL;
    if (!h) {
        buf_u8(out, CHUNK_ROW_FLOAT);
        buf_double(out, s->v[i]);
        *prev = NULL;
        return;
    }
    bool exact = h->is_int && histogram_counts_are_whole(h);
    if (*prev && exact && same_shape(h, *prev)) {
        put_delta_row(out, h, *prev);
    } else {
        buf_u8(out, CHUNK_ROW_HISTOGRAM);
        histogram_encode(out, h);
    }
    *prev = exact ? h : NULL;
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
        chunk_row_put(out, s, i, &prev);
    }
    return ERR_OK;
}

/* v += the next difference; false when either is not a count that has one. */
static bool add_difference(struct reader *r, double *v)
{
    int64_t k, diff = reader_zigzag(r);
    if (!histogram_count_to_int(*v, &k) || __builtin_add_overflow(k, diff, &k)) return false;
    *v = (double)k;
    return k >= 0 && k <= HISTOGRAM_COUNT_MAX;
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

void chunk_rows_init(struct chunk_rows *rows, struct reader r, enum mem_owner owner)
{
    *rows = (struct chunk_rows){.r = r};
    for (size_t k = 0; k < 2; k++) arena_init(&rows->scratch[k], owner, 0);
}

void chunk_rows_release(struct chunk_rows *rows)
{
    for (size_t k = 0; k < 2; k++) arena_release(&rows->scratch[k]);
}

enum err_code chunk_row_get(struct chunk_rows *rows, int64_t t_ms, bool wanted, struct samples *out,
                            struct err *err)
{
    struct reader *r = &rows->r;
    uint8_t kind = reader_u8(r);
    if (kind == CHUNK_ROW_FLOAT) {
        double v = reader_double(r);
        rows->prev = NULL;
        if (r->failed) return err_set(err, ERR_CORRUPT, "cut short");
        return wanted ? samples_push(out, t_ms, v, NULL, err) : ERR_OK;
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
    return wanted ? samples_push(out, t_ms, h->sum, h, err) : ERR_OK;
}

/* Times are differences of differences, as in the row before. */
struct row_time {
    uint64_t t, delta;
};

static enum err_code time_get(struct reader *r, struct row_time *time, bool first, struct err *err)
{
    uint64_t next = time->delta + (uint64_t)reader_zigzag(r);
    uint64_t t = time->t + next;
    if (!first && (int64_t)t <= (int64_t)time->t) return chunk_time_error(err);
    *time = (struct row_time){t, first ? 0 : next};
    return ERR_OK;
}

enum err_code chunk_histograms_decode(struct bytes chunk, int64_t mint_ms, int64_t maxt_ms,
                                      struct samples *out, struct err *err)
{
    struct reader r = reader_init(chunk);
    reader_u8(&r);
    uint64_t n = reader_varint(&r);
    if (r.failed || n == 0 || n > CHUNK_SAMPLES_MAX || n > reader_left(&r) / CHUNK_ROW_BYTES_MIN)
        return err_set(err, ERR_CORRUPT, "a histogram chunk of %zu bytes says %llu samples",
                       chunk.len, (unsigned long long)n);
    ASSERT(out->arena != NULL);
    struct chunk_rows rows;
    struct row_time time = {0};
    size_t n_before = out->n, i = 0;
    bool ended = false;
    chunk_rows_init(&rows, r, out->owner);
    enum err_code rc = samples_want_histograms(out, err);
    for (; !rc && !ended && i < n; i++) {
        rc = time_get(&rows.r, &time, i == 0, err);
        ended = !rc && (int64_t)time.t > maxt_ms;
        if (rc || ended) continue;
        rc = chunk_row_get(&rows, (int64_t)time.t, (int64_t)time.t >= mint_ms, out, err);
    }
    if (rc)
        err_context(err, "sample %zu of %llu in a histogram chunk", i, (unsigned long long)n);
    else if (!ended)
        rc = reader_finish(&rows.r, err);
    chunk_rows_release(&rows);
    if (rc) out->n = n_before;
    return rc;
}
