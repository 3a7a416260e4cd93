/* storage/chunk_histogram_columns.c: histogram samples in columns (storage/format.h, CHUNK_HISTOGRAM_COLUMNS).
 * Samples of one layout make a segment with a column of integers for each bucket; floats between them and layouts that
 * come and go have segments of their own. A column takes a bit or two a sample where a row takes a byte or two. */
#include "storage/chunk_histogram.h"
#include "storage/format.h"
#include "storage/times.h"
#include "storage/values.h"

/* What a chunk may unpack to, in counts of its column segments: 32 MiB, some thousands of histograms. A few bytes can
 * stand for tens of thousands of zeros, so the size of the chunk itself is no bound. What is larger is kept in rows. */
#define COUNTS_MAX (UINT64_C(1) << 22)
/* Above this, rows are not even tried for a stretch. */
#define STRETCH_ROWS_MAX 16
/* Of a segment's head, mostly. */
#define SEGMENT_HEAD_BYTES 3

/* The counts of a histogram in the order of their columns: count, zero count, positive, negative buckets. */
static size_t n_counts(const struct histogram *h)
{
    return 2 + (size_t)h->n_pos + h->n_neg;
}

static const double *count_at(const struct histogram *h, size_t column)
{
    if (column == 0) return &h->count;
    if (column == 1) return &h->zero_count;
    column -= 2;
    return column < h->n_pos ? &h->pos[column] : &h->neg[column - h->n_pos];
}

/* ---- encoding ---- */

struct writer {
    const struct samples *s;
    enum effort effort;
    struct buf *out;
    struct buf body, rows, columns, chunk;     /* of the segment in the making */
    int64_t *x, *delta, *delta_before, *other; /* room for a value of each sample */
    const struct histogram *layout;            /* of the last segment in columns, or NULL */
    size_t rows_from, n_rows;                  /* samples that wait for their segment of rows */
    struct values_hint sum_hint;
};

/* Samples from `from` on that can be one segment. */
static size_t stretch_length(const struct samples *s, size_t from, size_t end)
{
    const struct histogram *first = s->h ? s->h[from] : NULL;
    size_t i = from + 1;
    for (; i < end; i++) {
        const struct histogram *h = s->h ? s->h[i] : NULL;
        if (!first != !h) break;
        if (h && (h->reset_hint != first->reset_hint || h->is_int != first->is_int ||
                  !histogram_same_layout(h, first)))
            break;
    }
    return i - from;
}

static void put_values(struct writer *w, const double *v, size_t n, struct values_hint *hint)
{
    buf_reset(&w->chunk);
    values_encode(&w->chunk, v, n, w->effort, hint);
    buf_varint(&w->body, w->chunk.len);
    buf_put(&w->body, w->chunk.p, w->chunk.len);
    w->body.failed |= w->chunk.failed;
}

/* Is every count the sum of its buckets? Then its column is left out. */
static bool counts_are_totals(struct histogram *const *h, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t total = 0;
        for (size_t c = 1; c < n_counts(h[i]) && total <= HISTOGRAM_COUNT_MAX; c++)
            total += (uint64_t)*count_at(h[i], c);
        if (total != (uint64_t)h[i]->count) return false;
    }
    return true;
}

static uint64_t range_of(const int64_t *x, size_t n)
{
    int64_t min = INT64_MAX, max = INT64_MIN;
    for (size_t i = 0; i < n; i++) {
        min = MIN_OF(min, x[i]);
        max = MAX_OF(max, x[i]);
    }
    return n ? (uint64_t)max - (uint64_t)min : 0;
}

/* Is x, in place of the best so far, worth weighing? Most columns are settled by a look at their ranges. */
static bool is_smaller(const struct writer *w, const int64_t *x, size_t n, uint64_t range,
                       size_t *size)
{
    if (w->effort == EFFORT_FAST && range_of(x, n) >= range) return false;
    if (*size == 0) *size = intcol_size(w->delta, n, w->effort);
    size_t other = intcol_size(x, n, w->effort);
    if (other >= *size) return false;
    *size = other;
    return true;
}

/* The smallest form of the column in x and delta; those of the column before are in delta_before, if `has_before`. */
static enum histogram_column_mode choose_mode(struct writer *w, size_t n, bool has_before)
{
    enum histogram_column_mode best = HISTOGRAM_DELTAS;
    uint64_t range = range_of(w->delta, n - 1);
    size_t size = 0; /* not known yet */
    if (range == 0) return best;
    for (size_t i = 0; has_before && i + 1 < n; i++) w->other[i] = w->delta[i] - w->delta_before[i];
    if (has_before && is_smaller(w, w->other, n - 1, range, &size)) best = HISTOGRAM_NEIGHBOURS;
    if (is_smaller(w, w->x + 1, n - 1, range, &size)) best = HISTOGRAM_PLAIN;
    return best;
}

static void put_column(struct writer *w, enum histogram_column_mode mode, size_t n)
{
    const int64_t *x = w->delta;
    if (mode == HISTOGRAM_PLAIN) x = w->x + 1;
    if (mode == HISTOGRAM_NEIGHBOURS) x = w->other; /* as choose_mode left it */
    intcol_encode(&w->columns, x, n - 1, w->effort);
}

/* All counts are whole. Firsts and modes stand before the columns, so that these are gathered aside. */
static void put_int_columns(struct writer *w, struct histogram *const *h, size_t n, bool totals)
{
    size_t n_columns = n_counts(h[0]);
    buf_reset(&w->columns);
    buf_reset(&w->chunk); /* the modes, 2 bits each */
    for (size_t c = totals ? 1 : 0, k = 0; c < n_columns; c++, k++) {
        for (size_t i = 0; i < n; i++) w->x[i] = (int64_t)*count_at(h[i], c);
        for (size_t i = 1; i < n; i++) w->delta[i - 1] = w->x[i] - w->x[i - 1];
        buf_varint(&w->body, (uint64_t)w->x[0]);
        if (n > 1) {
            enum histogram_column_mode mode = choose_mode(w, n, k > 0);
            put_column(w, mode, n);
            if (k % 4 == 0) buf_u8(&w->chunk, 0);
            if (!w->chunk.failed) w->chunk.p[k / 4] |= (uint8_t)(mode << k % 4 * 2);
        }
        int64_t *done = w->delta_before;
        w->delta_before = w->delta;
        w->delta = done;
    }
    buf_put(&w->body, w->chunk.p, w->chunk.len);
    buf_put(&w->body, w->columns.p, w->columns.len);
    w->body.failed |= w->chunk.failed | w->columns.failed;
}

static void put_double_columns(struct writer *w, struct histogram *const *h, size_t n)
{
    double *v = (double *)(void *)w->x; /* 8 bytes either way */
    size_t n_columns = n_counts(h[0]);
    for (size_t c = 0; c < n_columns; c++) {
        for (size_t i = 0; i < n; i++) memcpy(&v[i], count_at(h[i], c), sizeof(v[i]));
        put_values(w, v, n, NULL);
    }
}

/* The body of a segment of n histograms of one layout; `same`: as that of the segment before. */
static void put_histograms(struct writer *w, size_t from, size_t n, bool same)
{
    struct histogram *const *h = w->s->h + from;
    bool whole = true, started = false;
    for (size_t i = 0; i < n; i++) {
        whole = whole && histogram_counts_are_whole(h[i]);
        started |= h[i]->start_ms != 0;
    }
    bool totals = whole && counts_are_totals(h, n);
    ASSERT(h[0]->reset_hint <= HISTOGRAM_FLAG_HINT);
    buf_u8(&w->body,
           (uint8_t)(h[0]->reset_hint | (h[0]->is_int ? HISTOGRAM_FLAG_INT : 0) |
                     (started ? HISTOGRAM_FLAG_START : 0) | (whole ? HISTOGRAM_FLAG_WHOLE : 0) |
                     (totals ? HISTOGRAM_FLAG_TOTALS : 0)));
    if (!same) histogram_layout_encode(&w->body, h[0]);
    for (size_t i = 0; started && i < n; i++) w->x[i] = h[i]->start_ms;
    if (started) intcol_encode(&w->body, w->x, n, w->effort);
    double *sum = (double *)(void *)w->x;
    for (size_t i = 0; i < n; i++) memcpy(&sum[i], &h[i]->sum, sizeof(*sum));
    put_values(w, sum, n, &w->sum_hint);
    if (whole)
        put_int_columns(w, h, n, totals);
    else
        put_double_columns(w, h, n);
}

static void put_segment(struct writer *w, enum histogram_segment kind, size_t n,
                        const struct buf *body)
{
    buf_varint(w->out, (uint64_t)(n - 1) * 4 + kind);
    buf_varint(w->out, body->len);
    buf_put(w->out, body->p, body->len);
    w->out->failed |= body->failed;
}

static void put_rows(struct buf *out, const struct samples *s, size_t from, size_t n)
{
    const struct histogram *prev = NULL;
    buf_reset(out);
    for (size_t i = from; i < from + n; i++) chunk_row_put(out, s, i, &prev);
}

static void flush_rows(struct writer *w)
{
    if (w->n_rows == 0) return;
    put_rows(&w->rows, w->s, w->rows_from, w->n_rows);
    put_segment(w, HISTOGRAM_ROWS, w->n_rows, &w->rows);
    w->n_rows = 0;
}

/* A stretch becomes a segment, or joins the rows that wait where that is smaller: a layout's first sample and a marker
 * between two layouts are alone. */
static void put_stretch(struct writer *w, size_t from, size_t n)
{
    const struct histogram *h = w->s->h ? w->s->h[from] : NULL;
    enum histogram_segment kind = HISTOGRAM_FLOATS;
    buf_reset(&w->body);
    if (h) {
        bool same = w->layout && histogram_same_layout(w->layout, h);
        kind = same ? HISTOGRAM_SAME_LAYOUT : HISTOGRAM_NEW_LAYOUT;
        put_histograms(w, from, n, same);
    } else {
        values_encode(&w->body, w->s->v + from, n, w->effort, NULL);
    }
    if (n <= STRETCH_ROWS_MAX) {
        put_rows(&w->rows, w->s, from, n);
        size_t head = w->n_rows ? 0 : SEGMENT_HEAD_BYTES;
        if (w->rows.len + head < w->body.len + SEGMENT_HEAD_BYTES) {
            if (w->n_rows == 0) w->rows_from = from;
            w->n_rows += n;
            return;
        }
    }
    flush_rows(w);
    put_segment(w, kind, n, &w->body);
    if (h) w->layout = h;
}

/* Within the reader's bound? Rows count as well: it is an estimate. */
static bool fits(const struct samples *s, size_t from, size_t n)
{
    uint64_t counts = 0;
    for (size_t i = from; s->h && i < from + n; i++)
        if (s->h[i]) counts += n_counts(s->h[i]);
    return counts <= COUNTS_MAX;
}

enum err_code chunk_histogram_columns_encode(const struct samples *s, size_t from, size_t n,
                                             enum effort effort, struct buf *out, struct err *err)
{
    if (!fits(s, from, n))
        return err_set(err, ERR_UNSUPPORTED, "histograms with too many buckets for columns");
    int64_t *room = mem_alloc(MEM_STORAGE, n * 4 * sizeof(*room));
    if (!room) return err_set(err, ERR_NO_MEMORY, "columns of %zu histograms", n);
    struct writer w = {.s = s,
                       .effort = effort,
                       .out = out,
                       .x = room,
                       .delta = room + n,
                       .delta_before = room + 2 * n,
                       .other = room + 3 * n};
    struct buf *bufs[] = {&w.body, &w.rows, &w.columns, &w.chunk};
    for (size_t i = 0; i < COUNT_OF(bufs); i++) buf_init(bufs[i], MEM_STORAGE);
    buf_u8(out, CHUNK_HISTOGRAM_COLUMNS);
    times_encode_as(out, s->t_ms + from, n, effort);
    for (size_t i = from; i < from + n;) {
        size_t length = stretch_length(s, i, from + n);
        put_stretch(&w, i, length);
        i += length;
    }
    flush_rows(&w);
    for (size_t i = 0; i < COUNT_OF(bufs); i++) buf_release(bufs[i]);
    mem_free(room);
    return ERR_OK;
}

/* ---- decoding ---- */

/* Columns are put into rows in groups: a cache line of doubles. */
#define TILE 8

struct chunk {
    struct reader r;
    struct samples *out;
    int64_t *t_ms;                 /* of all n samples */
    size_t n, from, to;            /* the samples in [from, to) are wanted */
    uint64_t n_counts;             /* so far, against COUNTS_MAX */
    int64_t *delta, *delta_before; /* room for n each */
    uint64_t *total, total_bits;
    uint64_t *tile; /* room for TILE columns of n: finished ones wait there as bits of doubles */
    size_t n_tile, tile_begin; /* how many wait; the bucket that the first of them is */
    struct histogram layout;   /* of the last segment in columns */
    bool has_layout;
};

/* The wanted histograms of a segment: all their buckets lie behind each other, n_buckets for each. */
struct made {
    struct histogram *h;
    double *buckets;
    size_t n_buckets;
};

struct segment {
    struct reader r;
    size_t at, n;           /* its first sample, how many */
    size_t begin, n_wanted; /* within it */
};

static enum err_code get_values(struct reader *r, size_t n, double *out, struct err *err)
{
    uint64_t len = reader_varint(r);
    if (r->failed || len > reader_left(r))
        return err_set(err, ERR_CORRUPT, "a column of values is cut short");
    return values_decode(reader_bytes(r, (size_t)len), n, out, err);
}

static enum err_code get_floats(struct chunk *c, struct segment *seg, struct err *err)
{
    double *v = (double *)(void *)c->tile;
    enum err_code rc = values_decode(bytes_of(seg->r.p, reader_left(&seg->r)), seg->n, v, err);
    for (size_t i = 0; !rc && i < seg->n_wanted; i++) {
        size_t k = seg->begin + i;
        rc = samples_push(c->out, c->t_ms[seg->at + k], v[k], NULL, err);
    }
    return rc;
}

static enum err_code get_rows(struct chunk *c, struct segment *seg, struct err *err)
{
    struct chunk_rows rows;
    enum err_code rc = ERR_OK;
    chunk_rows_init(&rows, seg->r, c->out->owner);
    for (size_t i = 0; !rc && i < seg->n; i++)
        rc = chunk_row_get(&rows, c->t_ms[seg->at + i],
                           i >= seg->begin && i < seg->begin + seg->n_wanted, c->out, err);
    if (!rc) rc = reader_finish(&rows.r, err);
    chunk_rows_release(&rows);
    return rc;
}

/* Puts the finished bucket columns into their histograms: a cache line of each at a time.
 * 130 -> 85 ns a histogram of 40 buckets against column by column, bench_family 960. */
static void flush_tile(struct chunk *c, const struct segment *seg, const struct made *made)
{
    size_t n = seg->n, k = c->n_tile, stride = made->n_buckets;
    const uint64_t *from = c->tile + seg->begin;
    uint64_t *to = (uint64_t *)(void *)(made->buckets + c->tile_begin);
    for (size_t i = 0; i < seg->n_wanted; i++, to += stride, from++) {
        if (k == TILE)
            for (size_t b = 0; b < TILE; b++) to[b] = from[b * n];
        else
            for (size_t b = 0; b < k; b++) to[b] = from[b * n];
    }
    c->tile_begin += k;
    c->n_tile = 0;
}

/* A finished column of bits, which are in the tile behind those that wait there. */
static void keep_column(struct chunk *c, const struct segment *seg, const struct made *made,
                        size_t column)
{
    const uint64_t *bits = c->tile + c->n_tile * seg->n + seg->begin;
    if (column >= 2) {
        if (++c->n_tile == TILE || column == made->n_buckets + 1) flush_tile(c, seg, made);
        return;
    }
    for (size_t i = 0; i < seg->n_wanted; i++)
        memcpy(column ? &made->h[i].zero_count : &made->h[i].count, &bits[i], sizeof(*bits));
}

/* Counts from the first one and the differences, as the bits of doubles; total[i] grows by them, and *total_bits has
 * every bit that a total ever had. False if a count is out of range. */
static bool sum_counts(const int64_t *restrict delta, size_t n, uint64_t first,
                       uint64_t *restrict out, uint64_t *restrict total, uint64_t *total_bits)
{
    uint64_t x = first, bad = 0, bits = 0;
    for (size_t i = 0; i < n; i++) {
        bad |= x > HISTOGRAM_COUNT_MAX;
        bits |= total[i] += x;
        out[i] = double_bits((double)(int64_t)x);
        x += (uint64_t)delta[i]; /* the last one is not used */
    }
    *total_bits |= bits;
    return !bad;
}

/* The differences in time of one column, whatever its mode. */
static enum err_code get_deltas(struct chunk *c, struct segment *seg, unsigned mode, uint64_t first,
                                struct err *err)
{
    int64_t *delta = c->delta;
    size_t n = seg->n - 1;
    enum err_code rc = intcol_decode(&seg->r, n, delta, err);
    delta[n] = 0;
    if (rc || mode == HISTOGRAM_DELTAS) return rc;
    if (mode == HISTOGRAM_NEIGHBOURS) {
        for (size_t i = 0; i < n; i++)
            delta[i] = (int64_t)((uint64_t)delta[i] + (uint64_t)c->delta_before[i]);
        return ERR_OK;
    }
    for (size_t i = 0; i < n; i++) {
        uint64_t x = (uint64_t)delta[i];
        delta[i] = (int64_t)(x - first);
        first = x;
    }
    return ERR_OK;
}

static enum err_code get_int_column(struct chunk *c, struct segment *seg, unsigned mode,
                                    uint64_t first, struct err *err)
{
    enum err_code rc = get_deltas(c, seg, mode, first, err);
    if (rc) return rc;
    uint64_t *out = c->tile + c->n_tile * seg->n;
    if (!sum_counts(c->delta, seg->n, first, out, c->total, &c->total_bits))
        return err_set(err, ERR_CORRUPT, "a count that is over 2^53 or below 0");
    int64_t *done = c->delta_before;
    c->delta_before = c->delta;
    c->delta = done;
    return ERR_OK;
}

/* Counts that are the sum of the others, each at most 2^53: no sum overflows before it had bit 62. */
static enum err_code set_totals(struct chunk *c, const struct segment *seg, const struct made *made,
                                struct err *err)
{
    bool bad = c->total_bits >> 62;
    for (size_t i = 0; i < seg->n; i++) bad |= c->total[i] > HISTOGRAM_COUNT_MAX;
    if (bad) return err_set(err, ERR_CORRUPT, "a count that is over 2^53");
    for (size_t i = 0; i < seg->n_wanted; i++) made->h[i].count = (double)c->total[seg->begin + i];
    return ERR_OK;
}

static enum err_code get_int_columns(struct chunk *c, struct segment *seg, bool totals,
                                     const struct made *made, struct err *err)
{
    size_t first_column = totals ? 1 : 0, n_columns = made->n_buckets + 2 - first_column;
    struct reader firsts = seg->r;
    for (size_t k = 0; k < n_columns; k++) (void)reader_varint(&seg->r);
    struct bytes modes = {NULL, 0};
    if (seg->n > 1) modes = reader_bytes(&seg->r, (n_columns + 3) / 4);
    if (seg->r.failed) return err_set(err, ERR_CORRUPT, "counts are cut short");
    memset(c->total, 0, seg->n * sizeof(*c->total));
    c->total_bits = 0;
    for (size_t k = 0; k < n_columns; k++) {
        uint64_t first = reader_varint(&firsts);
        unsigned mode = modes.len ? modes.p[k / 4] >> k % 4 * 2 & 3u : HISTOGRAM_DELTAS;
        if (mode > HISTOGRAM_PLAIN || (k == 0 && mode == HISTOGRAM_NEIGHBOURS))
            return err_set(err, ERR_CORRUPT, "a column of counts in mode %u", mode);
        enum err_code rc = get_int_column(c, seg, mode, first, err);
        if (rc) return rc;
        keep_column(c, seg, made, first_column + k);
    }
    return totals ? set_totals(c, seg, made, err) : ERR_OK;
}

static enum err_code get_double_columns(struct chunk *c, struct segment *seg,
                                        const struct made *made, struct err *err)
{
    for (size_t k = 0; k < made->n_buckets + 2; k++) {
        double *v = (double *)(void *)(c->tile + c->n_tile * seg->n);
        enum err_code rc = get_values(&seg->r, seg->n, v, err);
        if (rc) return rc;
        keep_column(c, seg, made, k);
    }
    return ERR_OK;
}

/* Flags, and the layout where it is a new one: all that a later segment needs of this one. */
static enum err_code get_layout(struct chunk *c, struct segment *seg, bool is_new, uint8_t *flags,
                                struct err *err)
{
    *flags = reader_u8(&seg->r);
    if (*flags & ~HISTOGRAM_FLAGS_KNOWN || (is_new ? 0 : !c->has_layout) ||
        (*flags & HISTOGRAM_FLAG_TOTALS && !(*flags & HISTOGRAM_FLAG_WHOLE)))
        return err_set(err, ERR_CORRUPT, "histograms with flags %02x and %s layout", *flags,
                       is_new ? "a" : "no");
    enum err_code rc =
        is_new ? histogram_layout_decode(&seg->r, c->out->arena, &c->layout, err) : ERR_OK;
    if (rc) return rc;
    c->has_layout = true;
    size_t counts = n_counts(&c->layout);
    c->n_counts += (uint64_t)seg->n * counts;
    /* Each column has a byte at least. */
    if (seg->r.failed || counts - 1 > reader_left(&seg->r) || c->n_counts > COUNTS_MAX)
        return err_set(err, ERR_CORRUPT, "%zu histograms of %zu counts in %zu bytes", seg->n,
                       counts, reader_left(&seg->r));
    return ERR_OK;
}

/* The wanted histograms, their buckets in one piece; spans and bounds are shared. */
static enum err_code make_histograms(struct chunk *c, const struct segment *seg, uint8_t flags,
                                     struct made *made, struct err *err)
{
    struct arena *arena = c->out->arena;
    size_t n = seg->n_wanted, n_buckets = n_counts(&c->layout) - 2;
    *made = (struct made){.n_buckets = n_buckets};
    /* Within COUNTS_MAX, so that sizes do not overflow; all of it is written below. */
    made->h = arena_alloc(arena, n * sizeof(*made->h), _Alignof(struct histogram));
    if (!made->h) return arena_fail(arena, err);
    made->buckets = arena_alloc(arena, n * n_buckets * sizeof(double), _Alignof(double));
    if (!made->buckets) return arena_fail(arena, err);
    c->layout.reset_hint = flags & HISTOGRAM_FLAG_HINT;
    c->layout.is_int = flags & HISTOGRAM_FLAG_INT;
    for (size_t i = 0; i < n; i++) {
        struct histogram *h = &made->h[i];
        *h = c->layout;
        if (h->n_pos) h->pos = made->buckets + i * n_buckets;
        if (h->n_neg) h->neg = made->buckets + i * n_buckets + h->n_pos;
    }
    return ERR_OK;
}

static enum err_code get_starts_and_sums(struct chunk *c, struct segment *seg, uint8_t flags,
                                         const struct made *made, struct err *err)
{
    enum err_code rc = ERR_OK;
    if (flags & HISTOGRAM_FLAG_START) {
        rc = intcol_decode(&seg->r, seg->n, c->delta, err);
        for (size_t i = 0; !rc && i < seg->n_wanted; i++)
            made->h[i].start_ms = c->delta[seg->begin + i];
    }
    if (rc) return rc;
    double *v = (double *)(void *)c->tile;
    rc = get_values(&seg->r, seg->n, v, err);
    for (size_t i = 0; !rc && i < seg->n_wanted; i++)
        memcpy(&made->h[i].sum, &v[seg->begin + i], sizeof(*v));
    return rc;
}

static enum err_code get_histograms(struct chunk *c, struct segment *seg, bool is_new,
                                    struct err *err)
{
    uint8_t flags;
    struct made made;
    enum err_code rc = get_layout(c, seg, is_new, &flags, err);
    if (rc || seg->n_wanted == 0) return rc;
    c->n_tile = c->tile_begin = 0;
    rc = make_histograms(c, seg, flags, &made, err);
    if (!rc) rc = get_starts_and_sums(c, seg, flags, &made, err);
    if (rc) return rc;
    if (flags & HISTOGRAM_FLAG_WHOLE)
        rc = get_int_columns(c, seg, flags & HISTOGRAM_FLAG_TOTALS, &made, err);
    else
        rc = get_double_columns(c, seg, &made, err);
    if (!rc) rc = reader_finish(&seg->r, err);
    const int64_t *t_ms = c->t_ms + seg->at + seg->begin;
    for (size_t i = 0; !rc && i < seg->n_wanted; i++)
        rc = samples_push(c->out, t_ms[i], made.h[i].sum, &made.h[i], err);
    return rc;
}

/* The segment that begins with sample `at`. Of one without wanted samples only the layout is read. */
static enum err_code get_segment(struct chunk *c, size_t at, size_t *n, struct err *err)
{
    uint64_t head = reader_varint(&c->r), len = reader_varint(&c->r);
    enum histogram_segment kind = (enum histogram_segment)(head % 4);
    if (c->r.failed || head / 4 >= c->n - at || len > reader_left(&c->r))
        return err_set(err, ERR_CORRUPT, "a segment of %llu more samples in %llu bytes",
                       (unsigned long long)(head / 4), (unsigned long long)len);
    struct segment seg = {
        .r = reader_init(reader_bytes(&c->r, (size_t)len)), .at = at, .n = (size_t)(head / 4) + 1};
    *n = seg.n;
    size_t begin = MAX_OF(at, c->from), end = MIN_OF(at + seg.n, c->to);
    seg.begin = begin < end ? begin - at : 0;
    seg.n_wanted = begin < end ? end - begin : 0;
    bool columns = kind == HISTOGRAM_NEW_LAYOUT || kind == HISTOGRAM_SAME_LAYOUT;
    if (seg.n_wanted == 0 && !columns) return ERR_OK;
    if (columns) return get_histograms(c, &seg, kind == HISTOGRAM_NEW_LAYOUT, err);
    return kind == HISTOGRAM_FLOATS ? get_floats(c, &seg, err) : get_rows(c, &seg, err);
}

static enum err_code get_segments(struct chunk *c, struct err *err)
{
    size_t at = 0;
    while (at < c->to) {
        size_t n = 0;
        enum err_code rc = get_segment(c, at, &n, err);
        if (rc) return err_context(err, "samples from %zu on of %zu histograms", at, c->n);
        at += n;
    }
    /* What follows a range is not looked at. */
    return at == c->n ? reader_finish(&c->r, err) : ERR_OK;
}

enum err_code chunk_histogram_columns_decode(struct bytes bytes, int64_t mint_ms, int64_t maxt_ms,
                                             struct samples *out, struct err *err)
{
    struct chunk c = {.r = reader_init(bytes), .out = out};
    (void)reader_u8(&c.r);
    enum err_code rc = times_count(bytes_of(c.r.p, reader_left(&c.r)), &c.n, err);
    if (rc) return rc;
    if (c.n > CHUNK_SAMPLES_MAX)
        return err_set(err, ERR_CORRUPT, "a histogram chunk of %zu bytes says %zu samples",
                       bytes.len, c.n);
    ASSERT(out->arena != NULL);
    size_t n_before = out->n;
    int64_t *room = mem_alloc(MEM_STORAGE, c.n * (4 + TILE) * sizeof(*room));
    if (!room) return err_set(err, ERR_NO_MEMORY, "columns of %zu histograms", c.n);
    c.t_ms = room;
    c.delta = room + c.n;
    c.delta_before = room + 2 * c.n;
    c.total = (uint64_t *)(room + 3 * c.n);
    c.tile = (uint64_t *)(room + 4 * c.n);
    rc = times_read(&c.r, c.t_ms, c.n, err);
    if (!rc) rc = samples_want_histograms(out, err);
    if (!rc) {
        while (c.from < c.n && c.t_ms[c.from] < mint_ms) c.from++;
        for (c.to = c.n; c.to > c.from && c.t_ms[c.to - 1] > maxt_ms;) c.to--;
        rc = get_segments(&c, err);
    }
    mem_free(room);
    if (rc) out->n = n_before;
    return rc;
}
