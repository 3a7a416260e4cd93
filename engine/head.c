/* engine/head.c: appending. A known series' next sample touches the series, its open chunk's header and the end of
 * its stream: two or three cache lines. */
#include "engine/head.h"

#define CHUNK_SAMPLES 240 /* then it is closed: readers decode no more than that for one sample */
#define CHUNK_BYTES 2048  /* likewise; reached by values that do not compress */
#define FIRST_BYTES 48    /* of a new chunk's stream: its first sample and some more */
#define SIDE_ROWS_MAX 512 /* then the side is sealed */
#define HISTOGRAM_ROWS 32 /* then they become a chunk */
#define HISTOGRAM_BYTES 16384 /* likewise */

static_assert(GORILLA_HEADER_BYTES + GORILLA_SAMPLE_BYTES_MAX <= FIRST_BYTES,
              "the first cell has room for a second sample");

/* ---- chunks ---- */

int64_t head_chunk_t_max(const struct head_chunk *c)
{
    return c->kind == HEAD_OPEN ? ((const struct head_open *)c)->gorilla.t_last_ms
                                : ((const struct head_closed *)c)->t_max_ms;
}

struct bytes head_chunk_bytes(const struct head_chunk *c)
{
    if (c->kind == HEAD_OPEN) {
        const struct head_open *open = (const struct head_open *)c;
        return gorilla_bytes(&open->gorilla, open->data);
    }
    const struct head_closed *closed = (const struct head_closed *)c;
    return bytes_of(closed->data, closed->data_bytes);
}

static void *cell_take(struct head_stripe *stripe, struct head_counts *counts, size_t size)
{
    void *p = cells_get(&stripe->cells, size);
    if (p) counts->bytes += (int64_t)cells_size(size);
    return p;
}

static void cell_give(struct head_stripe *stripe, struct head_counts *counts, void *p, size_t size)
{
    if (!p) return;
    counts->bytes -= (int64_t)cells_size(size);
    cells_put(&stripe->cells, p, size);
}

void head_chunk_free(struct head_stripe *stripe, struct head_counts *counts, struct head_chunk *c)
{
    counts->chunks--;
    cell_give(stripe, counts, c, c->cell_bytes);
}

struct head_chunk *head_closed_new(struct head_stripe *stripe, struct head_counts *counts,
                                   const struct head_chunk *like, int64_t t_max_ms,
                                   struct bytes data)
{
    size_t size = sizeof(struct head_closed) + data.len;
    struct head_closed *closed = cell_take(stripe, counts, size);
    if (!closed) return NULL;
    closed->c = *like;
    closed->c.kind = HEAD_CLOSED;
    closed->c.cell_bytes = (uint32_t)size;
    closed->t_max_ms = t_max_ms;
    closed->data_bytes = (uint32_t)data.len;
    memcpy(closed->data, data.p, data.len);
    counts->chunks++;
    return &closed->c;
}

/* Moves the open chunk at the front into a cell of its size. Without memory it stays where it is, which is wasteful
 * and nothing else: nobody appends to it any more. */
static void close_front(struct head_stripe *stripe, struct head_counts *counts, struct series *s)
{
    struct head_chunk *front = s->chunks;
    if (!front || front->kind != HEAD_OPEN) return;
    struct head_open *open = (struct head_open *)front;
    front->n = open->gorilla.n;
    struct head_chunk *closed =
        head_closed_new(stripe, counts, front, open->gorilla.t_last_ms, head_chunk_bytes(front));
    if (!closed) return;
    s->chunks = closed;
    head_chunk_free(stripe, counts, front);
}

static enum err_code chunk_begin(struct head_stripe *stripe, struct head_counts *counts,
                                 uint32_t gen, struct series *s, int64_t t_ms, double v,
                                 struct err *err)
{
    close_front(stripe, counts, s);
    size_t size = cells_size(sizeof(struct head_open) + FIRST_BYTES);
    struct head_open *open = cell_take(stripe, counts, size);
    if (!open) return err_set(err, ERR_NO_MEMORY, "no memory for a chunk");
    open->c = (struct head_chunk){.next = s->chunks,
                                  .t_min_ms = t_ms,
                                  .gen = gen,
                                  .cell_bytes = (uint32_t)size,
                                  .kind = HEAD_OPEN};
    gorilla_start(&open->gorilla, open->data, t_ms, v);
    s->chunks = &open->c;
    counts->chunks++;
    return ERR_OK;
}

/* A larger cell for the open chunk at the front; NULL when memory is out. */
static struct head_open *chunk_grow(struct head_stripe *stripe, struct head_counts *counts,
                                    struct series *s)
{
    struct head_open *old = (struct head_open *)s->chunks;
    size_t used = sizeof(*old) + gorilla_size(&old->gorilla);
    size_t size = cells_size(MAX_OF(used + used / 4, used + GORILLA_SAMPLE_BYTES_MAX));
    struct head_open *grown = cell_take(stripe, counts, size);
    if (!grown) return NULL;
    memcpy(grown, old, used);
    grown->c.cell_bytes = (uint32_t)size;
    s->chunks = &grown->c;
    cell_give(stripe, counts, old, old->c.cell_bytes);
    return grown;
}

/* The sample is later than all of its generation. */
static enum err_code append_in_order(struct head_stripe *stripe, struct head_counts *counts,
                                     uint32_t gen, struct series *s, int64_t t_ms, double v,
                                     struct err *err)
{
    struct head_open *open = (struct head_open *)s->chunks;
    bool begin = !open || open->c.kind != HEAD_OPEN || open->c.gen != gen ||
                 open->gorilla.n >= CHUNK_SAMPLES || !gorilla_fits(&open->gorilla, t_ms) ||
                 gorilla_size(&open->gorilla) + GORILLA_SAMPLE_BYTES_MAX > CHUNK_BYTES;
    if (begin) return chunk_begin(stripe, counts, gen, s, t_ms, v, err);
    size_t room = open->c.cell_bytes - sizeof(*open);
    if (gorilla_append(&open->gorilla, open->data, room, t_ms, v)) return ERR_OK;
    open = chunk_grow(stripe, counts, s);
    if (!open) return err_set(err, ERR_NO_MEMORY, "no memory for a chunk to grow");
    room = open->c.cell_bytes - sizeof(*open);
    bool appended = gorilla_append(&open->gorilla, open->data, room, t_ms, v);
    ASSERT(appended);
    return ERR_OK;
}

/* ---- the rest: out of order, repeated, histograms ---- */

struct head_extra *head_extra_of(struct head_stripe *stripe, struct head_counts *counts,
                                 struct series *s)
{
    if (s->extra) return s->extra;
    s->extra = cell_take(stripe, counts, sizeof(*s->extra));
    if (s->extra) *s->extra = (struct head_extra){0};
    return s->extra;
}

/* The latest time of generation `gen` outside the side; INT64_MIN: none. */
static int64_t front_t_max(const struct series *s, uint32_t gen)
{
    int64_t t_max = INT64_MIN;
    for (const struct head_chunk *c = s->chunks; c && c->gen == gen; c = c->next)
        t_max = MAX_OF(t_max, head_chunk_t_max(c));
    const struct head_rows *rows = s->extra ? &s->extra->histograms : NULL;
    if (rows && rows->n && rows->gen == gen) t_max = MAX_OF(t_max, head_rows_t_max(rows));
    return t_max;
}

/* The latest time of all that the head holds of the series. */
static int64_t head_t_max(const struct series *s)
{
    int64_t t_max = INT64_MIN;
    for (const struct head_chunk *c = s->chunks; c; c = c->next)
        t_max = MAX_OF(t_max, head_chunk_t_max(c));
    if (!s->extra) return t_max;
    for (const struct head_chunk *c = s->extra->sealed; c; c = c->next)
        t_max = MAX_OF(t_max, head_chunk_t_max(c));
    const struct head_rows *side = &s->extra->side, *histograms = &s->extra->histograms;
    if (side->n) t_max = MAX_OF(t_max, head_rows_t_max(side));
    if (histograms->n) t_max = MAX_OF(t_max, head_rows_t_max(histograms));
    return t_max;
}

/* The list stays in the order of generations, whatever came after the rows. */
static enum err_code histograms_seal(struct head_stripe *stripe, struct head_counts *counts,
                                     struct series *s, struct head_rows *rows, struct err *err)
{
    if (s->chunks && s->chunks->gen <= rows->gen) close_front(stripe, counts, s);
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
        enum err_code rc = head_rows_seal(stripe, counts, side, &extra->sealed, err);
        if (rc) return rc;
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

/* Something of the series is as late as t_ms or later. *store: is it to be stored at all? */
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
    struct head_open *open = (struct head_open *)s->chunks;
    bool known = open && open->c.gen == gen && open->c.kind == HEAD_OPEN && !s->behind;
    if (LIKELY(known && (!s->extra || s->extra->histograms.n == 0))) {
        if (LIKELY(t_ms > open->gorilla.t_last_ms)) {
            size_t room = open->c.cell_bytes - sizeof(*open);
            bool appended = open->gorilla.n < CHUNK_SAMPLES &&
                            gorilla_append(&open->gorilla, open->data, room, t_ms, v);
            if (UNLIKELY(!appended)) {
                enum err_code rc = append_in_order(stripe, counts, gen, s, t_ms, v, err);
                if (rc) return rc;
            }
            counts->n_stored++;
            counts->samples++;
            return ERR_OK;
        }
        bool repeats =
            t_ms == open->gorilla.t_last_ms && double_bits(v) == open->gorilla.v_last_bits;
        if (repeats && !s->extra) { /* with a side it may have been overwritten since */
            counts->n_duplicate++;
            return ERR_OK;
        }
    }
    struct head_value value = {.v = v};
    return head_append(stripe, counts, gen, s, t_ms, &value, err);
}
