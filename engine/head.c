/* engine/head.c: appending. A known series' next sample touches the series and the end of its stream: three cache
 * lines, two of them side by side. */
#include "engine/head.h"

#define CHUNK_SAMPLES 240 /* then it is closed: readers decode no more than that for one sample */
#define CHUNK_BYTES 2048  /* likewise; reached by values that do not compress */
#define SIDE_ROWS_MAX 512 /* then the side is sealed */
#define HISTOGRAM_ROWS 32 /* then they become a chunk */
#define HISTOGRAM_BYTES 16384 /* likewise */

/* ---- chunks ---- */

static void *cell_take(struct head_stripe *stripe, struct head_counts *counts, size_t size)
{
    void *p = cell_pool_get(stripe->pool, size);
    if (p) counts->bytes += (int64_t)cells_size(size);
    return p;
}

static void cell_give(struct head_stripe *stripe, struct head_counts *counts, void *p, size_t size)
{
    counts->bytes -= (int64_t)cells_size(size);
    cell_pool_put(stripe->pool, p, size);
}

static void segments_free(struct head_stripe *stripe, struct head_counts *counts, uint8_t *first,
                          uint32_t n_bits)
{
    counts->bytes -= (int64_t)stream_cells_bytes(n_bits);
    stream_free(stripe->pool, first, n_bits);
}

void head_chunk_free(struct head_stripe *stripe, struct head_counts *counts, struct head_chunk *c)
{
    counts->chunks--;
    if (c->kind == HEAD_BYTES) {
        cell_give(stripe, counts, c, sizeof(struct head_bytes) + ((struct head_bytes *)c)->len);
        return;
    }
    struct head_closed *closed = (struct head_closed *)c;
    segments_free(stripe, counts, closed->first, closed->n_bits);
    cell_give(stripe, counts, closed, sizeof(*closed));
}

void head_open_free(struct head_stripe *stripe, struct head_counts *counts, struct series *s)
{
    counts->chunks--;
    segments_free(stripe, counts, s->open.first, s->open.gorilla.n_bits);
    s->open = (struct head_stream){0};
}

struct head_chunk *head_bytes_new(struct head_stripe *stripe, struct head_counts *counts,
                                  const struct head_chunk *like, struct bytes data)
{
    struct head_bytes *chunk = cell_take(stripe, counts, sizeof(*chunk) + data.len);
    if (!chunk) return NULL;
    chunk->c = *like;
    chunk->c.kind = HEAD_BYTES;
    chunk->len = (uint32_t)data.len;
    memcpy(chunk->data, data.p, data.len);
    counts->chunks++;
    return &chunk->c;
}

struct bytes head_stream_bytes(const struct head_stream *s, struct arena *arena)
{
    size_t len = GORILLA_HEADER_BYTES + stream_data_bytes(s->gorilla.n_bits);
    uint8_t *p = arena_alloc(arena, len, 8);
    if (!p) return (struct bytes){NULL, 0};
    gorilla_put_header(&s->gorilla, s->t_first_ms, s->v_first_bits, p);
    stream_gather(s->first, s->gorilla.n_bits, p + GORILLA_HEADER_BYTES);
    return bytes_of(p, len);
}

struct bytes head_closed_bytes(const struct head_closed *c, struct arena *arena)
{
    struct head_stream s = {.gorilla = {.n = c->c.n, .n_bits = c->n_bits},
                            .first = c->first,
                            .t_first_ms = c->c.t_min_ms,
                            .v_first_bits = c->v_first_bits};
    return head_stream_bytes(&s, arena);
}

/* The open stream becomes the first of the closed chunks. False when memory is out: nothing has changed. */
static bool close_open(struct head_stripe *stripe, struct head_counts *counts, struct series *s)
{
    if (!stream_exists(&s->open)) return true;
    struct head_closed *closed = cell_take(stripe, counts, sizeof(*closed));
    if (!closed) return false;
    const struct gorilla *g = &s->open.gorilla;
    *closed = (struct head_closed){.c = {.next = s->chunks,
                                         .t_min_ms = s->open.t_first_ms,
                                         .t_max_ms = g->t_last_ms,
                                         .gen = s->open_gen,
                                         .n = g->n,
                                         .kind = HEAD_STREAM},
                                   .first = s->open.first,
                                   .v_first_bits = s->open.v_first_bits,
                                   .n_bits = g->n_bits};
    s->chunks = &closed->c;
    s->open = (struct head_stream){0};
    return true;
}

static enum err_code open_begin(struct head_stripe *stripe, struct head_counts *counts,
                                uint32_t gen, struct series *s, int64_t t_ms, double v,
                                struct err *err)
{
    if (!close_open(stripe, counts, s) || !stream_begin(&s->open, stripe->pool, t_ms, v))
        return err_set(err, ERR_NO_MEMORY, "no memory for a chunk");
    s->open_gen = gen;
    counts->bytes += (int64_t)stream_cells_bytes(0);
    counts->chunks++;
    return ERR_OK;
}

/* The sample is later than all of its generation. */
static enum err_code append_in_order(struct head_stripe *stripe, struct head_counts *counts,
                                     uint32_t gen, struct series *s, int64_t t_ms, double v,
                                     struct err *err)
{
    const struct gorilla *g = &s->open.gorilla;
    bool begin = !stream_exists(&s->open) || s->open_gen != gen || g->n >= CHUNK_SAMPLES ||
                 !gorilla_fits(g, t_ms) || g->n_bits / 8 >= CHUNK_BYTES;
    if (begin) return open_begin(stripe, counts, gen, s, t_ms, v, err);
    counts->bytes -= (int64_t)stream_cells_bytes(g->n_bits);
    bool appended = stream_append(&s->open, stripe->pool, t_ms, v);
    counts->bytes += (int64_t)stream_cells_bytes(g->n_bits);
    return appended ? ERR_OK : err_set(err, ERR_NO_MEMORY, "no memory for a chunk to grow");
}

/* ---- the rest: out of order, repeated, histograms ---- */

struct head_extra *head_extra_of(struct head_stripe *stripe, struct head_counts *counts,
                                 struct series *s)
{
    if (s->extra) return s->extra;
    s->extra = cell_take(stripe, counts, sizeof(*s->extra));
    if (s->extra) *s->extra = (struct head_extra){.sealed_t_max_ms = INT64_MIN};
    return s->extra;
}

/* The latest time of generation `gen` outside the side; INT64_MIN: none. */
static int64_t front_t_max(const struct series *s, uint32_t gen)
{
    int64_t t_max = INT64_MIN;
    if (stream_exists(&s->open) && s->open_gen == gen) t_max = s->open.gorilla.t_last_ms;
    for (const struct head_chunk *c = s->chunks; c && c->gen == gen; c = c->next)
        t_max = MAX_OF(t_max, c->t_max_ms);
    const struct head_rows *rows = s->extra ? &s->extra->histograms : NULL;
    if (rows && rows->n && rows->gen == gen) t_max = MAX_OF(t_max, head_rows_t_max(rows));
    return t_max;
}

/* The latest time of all that the head holds of the series. */
static int64_t head_t_max(const struct series *s)
{
    int64_t t_max = stream_exists(&s->open) ? s->open.gorilla.t_last_ms : INT64_MIN;
    for (const struct head_chunk *c = s->chunks; c; c = c->next) t_max = MAX_OF(t_max, c->t_max_ms);
    if (!s->extra) return t_max;
    t_max = MAX_OF(t_max, s->extra->sealed_t_max_ms);
    const struct head_rows *side = &s->extra->side, *histograms = &s->extra->histograms;
    if (side->n) t_max = MAX_OF(t_max, head_rows_t_max(side));
    if (histograms->n) t_max = MAX_OF(t_max, head_rows_t_max(histograms));
    return t_max;
}

/* The list stays in the order of generations, whatever came after the rows. */
static enum err_code histograms_seal(struct head_stripe *stripe, struct head_counts *counts,
                                     struct series *s, struct head_rows *rows, struct err *err)
{
    if (stream_exists(&s->open) && s->open_gen <= rows->gen && !close_open(stripe, counts, s))
        return err_set(err, ERR_NO_MEMORY, "no memory for a chunk");
    struct head_chunk **link = &s->chunks;
    while (*link && (*link)->gen > rows->gen) link = &(*link)->next;
    return head_rows_seal(stripe, counts, rows, link, err);
}

static enum err_code histogram_append(struct head_stripe *stripe, struct head_counts *counts,
                                      uint32_t gen, struct series *s, int64_t t_ms,
                                      const struct head_value *value, struct err *err)
{
    struct head_extra *extra = head_extra_of(stripe, counts, s);
    if (!extra) return err_set(err, ERR_NO_MEMORY, "no memory for a histogram");
    struct head_rows *rows = &extra->histograms;
    bool full = rows->n >= HISTOGRAM_ROWS || rows->h_bytes >= HISTOGRAM_BYTES;
    if (rows->n && (full || rows->gen != gen)) {
        enum err_code rc = histograms_seal(stripe, counts, s, rows, err);
        if (rc) return rc;
    }
    rows->gen = gen;
    return head_rows_put(stripe, counts, rows, t_ms, value)
               ? ERR_OK
               : err_set(err, ERR_NO_MEMORY, "no memory for a histogram");
}

static enum err_code side_put(struct head_stripe *stripe, struct head_counts *counts, uint32_t gen,
                              struct series *s, int64_t t_ms, const struct head_value *value,
                              struct err *err)
{
    struct head_extra *extra = head_extra_of(stripe, counts, s);
    if (!extra) return err_set(err, ERR_NO_MEMORY, "no memory for a late sample");
    struct head_rows *side = &extra->side;
    if (side->n && (side->gen != gen || side->n >= SIDE_ROWS_MAX ||
                    side->h_bytes >= HISTOGRAM_BYTES * (SIDE_ROWS_MAX / HISTOGRAM_ROWS))) {
        int64_t t_max_ms = head_rows_t_max(side);
        enum err_code rc = head_rows_seal(stripe, counts, side, &extra->sealed, err);
        if (rc) return rc;
        extra->sealed_t_max_ms = MAX_OF(extra->sealed_t_max_ms, t_max_ms);
        extra->n_sealed++;
    }
    side->gen = gen;
    return head_rows_put(stripe, counts, side, t_ms, value)
               ? ERR_OK
               : err_set(err, ERR_NO_MEMORY, "no memory for a late sample");
}

static bool same_value(const struct head_found *a, const struct head_value *b)
{
    if (!a->h || !b->h) return !a->h && !b->h && double_bits(a->v) == double_bits(b->v);
    return histogram_same_bits(a->h, b->h);
}

/* Something of the series is as late as t_ms or later. *store: is it to be stored at all? Of sealed chunks that were not
 * looked into (head_find) this knows nothing: then a repeated sample is stored again, and whoever reads merges the two. */
static enum err_code classify_late(struct head_counts *counts, const struct series *s, int64_t t_ms,
                                   const struct head_value *value, bool *store, struct err *err)
{
    struct arena arena;
    struct head_found found;
    arena_init(&arena, MEM_HEAD, 0);
    enum err_code rc = head_find(s, t_ms, &arena, &found, err);
    *store = false;
    if (rc) {
        /* nothing is counted */
    } else if (!found.found) {
        counts->n_out_of_order++;
        *store = true;
    } else if (same_value(&found, value) || (is_stale_nan(value->v) && !is_stale_nan(found.v))) {
        counts->n_duplicate++; /* or a staleness marker that came after the value */
    } else {
        counts->n_overwritten++;
        *store = true;
    }
    arena_release(&arena);
    return rc;
}

enum err_code head_append(struct head_stripe *stripe, struct head_counts *counts, uint32_t gen,
                          struct series *s, int64_t t_ms, const struct head_value *value,
                          struct err *err)
{
    bool store = true;
    enum err_code rc = ERR_OK;
    int64_t t_max_ms = head_t_max(s);
    if (t_ms <= t_max_ms) rc = classify_late(counts, s, t_ms, value, &store, err);
    if (rc || !store) return rc;
    bool late = t_ms <= front_t_max(s, gen);
    if (late)
        rc = side_put(stripe, counts, gen, s, t_ms, value, err);
    else if (value->h)
        rc = histogram_append(stripe, counts, gen, s, t_ms, value, err);
    else
        rc = append_in_order(stripe, counts, gen, s, t_ms, value->v, err);
    if (rc) return rc;
    if (!late) s->behind = t_ms < t_max_ms;
    s->last_gen = gen;
    counts->n_stored++;
    counts->samples++;
    return ERR_OK;
}

enum err_code head_append_float(struct head_stripe *stripe, struct head_counts *counts,
                                uint32_t gen, struct series *s, int64_t t_ms, double v,
                                struct err *err)
{
    struct gorilla *g = &s->open.gorilla;
    bool known = stream_exists(&s->open) && s->open_gen == gen && !s->behind;
    if (LIKELY(known && (!s->extra || s->extra->histograms.n == 0))) {
        if (LIKELY(t_ms > g->t_last_ms)) {
            uint8_t *at = stream_at(&s->open);
            bool has_room = s->open.end - at >= GORILLA_APPEND_BYTES;
            if (LIKELY(has_room && g->n < CHUNK_SAMPLES && gorilla_fits(g, t_ms))) {
                gorilla_append_bits(g, at, t_ms, v);
            } else {
                enum err_code rc = append_in_order(stripe, counts, gen, s, t_ms, v, err);
                if (rc) return rc;
            }
            counts->n_stored++;
            counts->samples++;
            return ERR_OK;
        }
        bool repeats = t_ms == g->t_last_ms && double_bits(v) == g->v_last_bits;
        if (repeats && !s->extra) { /* with a side it may have been overwritten since */
            counts->n_duplicate++;
            return ERR_OK;
        }
    }
    struct head_value value = {.v = v};
    return head_append(stripe, counts, gen, s, t_ms, &value, err);
}

enum err_code head_append_started(struct head_stripe *stripe, struct head_counts *counts,
                                  uint32_t gen, struct series *s, int64_t t_ms, double v,
                                  int64_t st_ms, struct err *err)
{
    uint64_t n_stored = counts->n_stored;
    enum err_code rc = head_append_float(stripe, counts, gen, s, t_ms, v, err);
    if (rc || counts->n_stored == n_stored) return rc; /* repeated: what is there stays */
    return head_starts_put(stripe, counts, s, t_ms, st_ms, t_ms >= head_t_max(s))
               ? ERR_OK
               : err_set(err, ERR_NO_MEMORY, "no memory for a start timestamp");
}
