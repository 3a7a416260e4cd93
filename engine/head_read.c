/* engine/head_read.c: reading and freeing. A reader copies what may change (the open stream, rows) under the stripe's
 * lock and decodes afterwards. */
#include "engine/head.h"

/* One source of samples. In the order of piece_before later ones win. */
struct piece {
    uint32_t gen;
    uint32_t age; /* in its list; 0 is the newest */
    bool side;
    int64_t t_min_ms, t_max_ms;
    struct bytes chunk; /* or, instead: */
    const struct head_rows *rows;
    const struct head_closed *closed;
};

#define PIECES_FEW 16
struct pieces {
    struct piece few[PIECES_FEW], *items;
    size_t n, cap;
    struct arena *arena;
    uint32_t gen_after, gen_last;
    int64_t mint_ms, maxt_ms;
    bool copy;           /* what may change once the lock is released */
    uint32_t sealed_max; /* sealed chunks are left out if there are more */
    bool failed;
};

static void pieces_init(struct pieces *p, struct arena *arena, uint32_t gen_after,
                        uint32_t gen_last, int64_t mint_ms, int64_t maxt_ms)
{
    p->items = p->few;
    p->n = 0;
    p->cap = PIECES_FEW;
    p->arena = arena;
    p->gen_after = gen_after;
    p->gen_last = gen_last;
    p->mint_ms = mint_ms;
    p->maxt_ms = maxt_ms;
    p->copy = true;
    p->sealed_max = UINT32_MAX;
    p->failed = false;
}

static bool wanted(const struct pieces *p, uint32_t gen, int64_t t_min_ms, int64_t t_max_ms)
{
    return gen > p->gen_after && gen <= p->gen_last && t_min_ms <= p->maxt_ms &&
           t_max_ms >= p->mint_ms;
}

static bool piece_before(const struct piece *a, const struct piece *b)
{
    if (a->gen != b->gen) return a->gen < b->gen;
    if (a->side != b->side) return b->side;
    return a->age > b->age;
}

/* Into its place: there are few, and lists come in order. */
static void pieces_add(struct pieces *p, const struct piece *piece)
{
    if (p->n == p->cap) {
        struct piece *more = ARENA_ARRAY(p->arena, struct piece, p->cap * 2);
        if (!more) {
            p->failed = true;
            return;
        }
        memcpy(more, p->items, p->n * sizeof(*more));
        p->items = more;
        p->cap *= 2;
    }
    size_t at = p->n++;
    for (; at > 0 && piece_before(piece, &p->items[at - 1]); at--) p->items[at] = p->items[at - 1];
    p->items[at] = *piece;
}

static struct bytes bytes_copy(struct pieces *p, struct bytes b)
{
    uint8_t *copy = arena_alloc(p->arena, MAX_OF(b.len, (size_t)1), 8);
    if (!copy) {
        p->failed = true;
        return (struct bytes){NULL, 0};
    }
    memcpy(copy, b.p, b.len);
    return bytes_of(copy, b.len);
}

static void add_open(struct pieces *p, const struct series *s)
{
    int64_t t_min_ms = s->open.t_first_ms, t_max_ms = s->open.gorilla.t_last_ms;
    if (!stream_exists(&s->open) || !wanted(p, s->open_gen, t_min_ms, t_max_ms)) return;
    struct piece piece = {.gen = s->open_gen, .t_min_ms = t_min_ms, .t_max_ms = t_max_ms};
    piece.chunk = head_stream_bytes(&s->open, p->arena);
    if (!piece.chunk.p) p->failed = true;
    pieces_add(p, &piece);
}

static void add_chunks(struct pieces *p, const struct head_chunk *list, bool side)
{
    uint32_t age = 1; /* the open one is 0 */
    for (const struct head_chunk *c = list; c; c = c->next, age++) {
        if (!wanted(p, c->gen, c->t_min_ms, c->t_max_ms)) continue;
        struct piece piece = {c->gen, age, side, c->t_min_ms, c->t_max_ms, {NULL, 0}, NULL, NULL};
        if (c->kind == HEAD_STREAM)
            piece.closed = (const struct head_closed *)c;
        else
            piece.chunk =
                bytes_of(((const struct head_bytes *)c)->data, ((const struct head_bytes *)c)->len);
        pieces_add(p, &piece);
    }
}

static const struct head_rows *rows_copy(struct pieces *p, const struct head_rows *rows)
{
    struct head_rows *copy = ARENA_NEW(p->arena, struct head_rows);
    struct bytes items = bytes_copy(p, bytes_of(rows->items, rows->n * sizeof(*rows->items)));
    if (!copy || !items.p) {
        p->failed = true;
        return NULL;
    }
    *copy = (struct head_rows){.items = (struct head_row *)(uintptr_t)items.p, .n = rows->n};
    for (uint32_t i = 0; i < copy->n && !p->failed; i++) {
        uint8_t **h = &copy->items[i].h;
        if (*h) *h = (uint8_t *)(uintptr_t)bytes_copy(p, bytes_of(*h, 4 + get_u32_le(*h))).p;
    }
    return p->failed ? NULL : copy;
}

static void add_rows(struct pieces *p, const struct head_rows *rows, bool side)
{
    if (rows->n == 0 || !wanted(p, rows->gen, rows->items[0].t_ms, head_rows_t_max(rows))) return;
    const struct head_rows *stable = p->copy ? rows_copy(p, rows) : rows;
    if (!stable) return;
    pieces_add(p, &(struct piece){.gen = rows->gen,
                                  .side = side,
                                  .t_min_ms = rows->items[0].t_ms,
                                  .t_max_ms = head_rows_t_max(rows),
                                  .rows = stable});
}

static void pieces_collect(struct pieces *p, const struct series *s)
{
    add_open(p, s);
    add_chunks(p, s->chunks, false);
    if (!s->extra) return;
    add_rows(p, &s->extra->histograms, false);
    if (s->extra->n_sealed <= p->sealed_max) add_chunks(p, s->extra->sealed, true);
    add_rows(p, &s->extra->side, true); /* after the sealed ones: it is younger than they are */
}

static enum err_code rows_decode(const struct head_rows *rows, int64_t mint_ms, int64_t maxt_ms,
                                 struct samples *out, struct err *err)
{
    struct head_rows part = *rows;
    while (part.n && part.items[0].t_ms < mint_ms) part.items++, part.n--;
    while (part.n && part.items[part.n - 1].t_ms > maxt_ms) part.n--;
    return head_rows_read(&part, out, err);
}

static enum err_code piece_decode(const struct piece *piece, struct arena *arena, int64_t mint_ms,
                                  int64_t maxt_ms, struct samples *out, struct err *err)
{
    if (piece->rows) return rows_decode(piece->rows, mint_ms, maxt_ms, out, err);
    struct bytes chunk = piece->chunk;
    if (piece->closed) chunk = head_closed_bytes(piece->closed, arena);
    if (!chunk.p) return arena_fail(arena, err);
    return chunk_decode(chunk, mint_ms, maxt_ms, out, err);
}

static enum err_code piece_merge(const struct piece *piece, struct arena *arena, int64_t mint_ms,
                                 int64_t maxt_ms, struct samples *out, struct err *err)
{
    int64_t from_ms = MAX_OF(mint_ms, piece->t_min_ms);
    if (out->n == 0 || out->t_ms[out->n - 1] < from_ms)
        return piece_decode(piece, arena, mint_ms, maxt_ms, out, err);
    struct samples newer;
    samples_init(&newer, out->owner, out->arena);
    enum err_code rc = piece_decode(piece, arena, mint_ms, maxt_ms, &newer, err);
    if (!rc) rc = samples_merge(out, &newer, err);
    samples_release(&newer);
    return rc;
}

static const struct head_starts *starts_copy(struct pieces *p, const struct head_starts *starts)
{
    struct head_starts *copy = ARENA_NEW(p->arena, struct head_starts);
    struct bytes items = bytes_copy(p, bytes_of(starts->items, starts->n * sizeof(*starts->items)));
    if (!copy || !items.p) {
        p->failed = true;
        return NULL;
    }
    *copy = (struct head_starts){.items = (struct head_start *)(uintptr_t)items.p, .n = starts->n};
    return copy;
}

/* What the head holds by itself gets its start timestamps before it meets what is older. */
static enum err_code read_started(const struct pieces *p, const struct head_starts *starts,
                                  struct samples *out, struct err *err)
{
    struct samples own;
    samples_init(&own, out->owner, out->arena);
    enum err_code rc = ERR_OK;
    for (size_t i = 0; !rc && i < p->n; i++)
        rc = piece_merge(&p->items[i], p->arena, p->mint_ms, p->maxt_ms, &own, err);
    if (!rc) rc = head_starts_apply(starts, &own, err);
    if (!rc) rc = samples_merge(out, &own, err);
    samples_release(&own);
    return rc;
}

enum err_code head_read(struct head_stripe *stripe, const struct series *s, uint32_t gen_after,
                        uint32_t gen_last, int64_t mint_ms, int64_t maxt_ms, struct samples *out,
                        struct err *err)
{
    struct arena arena;
    struct pieces p;
    const struct head_starts *starts = NULL;
    arena_init(&arena, out->owner, 0);
    pieces_init(&p, &arena, gen_after, gen_last, mint_ms, maxt_ms);
    lock_take(&stripe->lock);
    pieces_collect(&p, s);
    if (UNLIKELY(head_has_starts(s))) starts = starts_copy(&p, &s->extra->starts);
    lock_release(&stripe->lock);
    enum err_code rc = p.failed ? arena_fail(&arena, err) : ERR_OK;
    if (UNLIKELY(starts)) {
        if (!rc) rc = read_started(&p, starts, out, err);
        arena_release(&arena);
        return rc;
    }
    for (size_t i = 0; !rc && i < p.n; i++)
        rc = piece_merge(&p.items[i], &arena, mint_ms, maxt_ms, out, err);
    arena_release(&arena);
    return rc;
}

bool head_overlaps(const struct series *s, uint32_t gen_after, int64_t mint_ms, int64_t maxt_ms)
{
    struct pieces p;
    pieces_init(&p, NULL, gen_after, UINT32_MAX, mint_ms, maxt_ms);
    if (stream_exists(&s->open) &&
        wanted(&p, s->open_gen, s->open.t_first_ms, s->open.gorilla.t_last_ms))
        return true;
    for (const struct head_chunk *c = s->chunks; c; c = c->next)
        if (wanted(&p, c->gen, c->t_min_ms, c->t_max_ms)) return true;
    if (!s->extra) return false;
    for (const struct head_chunk *c = s->extra->sealed; c; c = c->next)
        if (wanted(&p, c->gen, c->t_min_ms, c->t_max_ms)) return true;
    const struct head_rows *side = &s->extra->side, *histograms = &s->extra->histograms;
    return (side->n && wanted(&p, side->gen, side->items[0].t_ms, head_rows_t_max(side))) ||
           (histograms->n &&
            wanted(&p, histograms->gen, histograms->items[0].t_ms, head_rows_t_max(histograms)));
}

/* A history that comes shuffled leaves many sealed chunks which each span all of it: to decode every one for each sample
 * would cost the square of their number. The rows at the side are always looked at, since a new one takes their place. */
#define FIND_SEALED_MAX 8

enum err_code head_find(const struct series *s, int64_t t_ms, struct arena *arena,
                        struct head_found *out, struct err *err)
{
    struct pieces p;
    struct samples one;
    pieces_init(&p, arena, 0, UINT32_MAX, t_ms, t_ms);
    p.copy = false;
    p.sealed_max = FIND_SEALED_MAX;
    pieces_collect(&p, s);
    samples_init(&one, MEM_HEAD, arena);
    enum err_code rc = p.failed ? arena_fail(arena, err) : ERR_OK;
    for (size_t i = 0; !rc && i < p.n; i++)
        rc = piece_merge(&p.items[i], arena, t_ms, t_ms, &one, err);
    *out = (struct head_found){.found = !rc && one.n > 0};
    if (out->found) {
        out->v = one.v[0];
        out->h = one.h ? one.h[0] : NULL;
    }
    samples_release(&one);
    return rc;
}

/* ---- freeing ---- */

static void sweep_chunks(struct head_stripe *stripe, struct head_counts *counts, uint32_t gen_last,
                         struct head_chunk **link)
{
    while (*link && (*link)->gen > gen_last) link = &(*link)->next; /* newest first */
    struct head_chunk *c = *link;
    *link = NULL;
    for (struct head_chunk *next; c; c = next) {
        next = c->next;
        counts->samples -= c->n;
        head_chunk_free(stripe, counts, c);
    }
}

static void sweep_rows(struct head_stripe *stripe, struct head_counts *counts, uint32_t gen_last,
                       struct head_rows *rows)
{
    if (rows->gen > gen_last) return;
    counts->samples -= rows->n;
    head_rows_clear(stripe, counts, rows);
}

/* The earliest time of all that is left; INT64_MAX: nothing is. */
static int64_t head_t_min(const struct series *s)
{
    int64_t t_min = stream_exists(&s->open) ? s->open.t_first_ms : INT64_MAX;
    for (const struct head_chunk *c = s->chunks; c; c = c->next) t_min = MIN_OF(t_min, c->t_min_ms);
    for (const struct head_chunk *c = s->extra->sealed; c; c = c->next)
        t_min = MIN_OF(t_min, c->t_min_ms);
    if (s->extra->side.n) t_min = MIN_OF(t_min, s->extra->side.items[0].t_ms);
    return t_min;
}

static void sweep_starts(struct head_stripe *stripe, struct head_counts *counts,
                         const struct series *s)
{
    struct head_starts *starts = &s->extra->starts;
    if (!starts->items) return;
    int64_t t_min_ms = head_t_min(s);
    if (t_min_ms == INT64_MAX)
        head_starts_clear(stripe, counts, starts);
    else
        head_starts_trim(starts, t_min_ms);
    if (!starts->n) head_starts_clear(stripe, counts, starts);
}

void head_sweep(struct head_stripe *stripe, struct head_counts *counts, uint32_t gen_last,
                struct series *s)
{
    if (stream_exists(&s->open) && s->open_gen <= gen_last) {
        counts->samples -= s->open.gorilla.n;
        head_open_free(stripe, counts, s);
    }
    sweep_chunks(stripe, counts, gen_last, &s->chunks);
    s->behind = stream_exists(&s->open) || s->chunks; /* perhaps; the next sample tells */
    struct head_extra *extra = s->extra;
    if (!extra) return;
    sweep_chunks(stripe, counts, gen_last, &extra->sealed);
    extra->n_sealed = 0;
    extra->sealed_t_max_ms = INT64_MIN;
    for (const struct head_chunk *c = extra->sealed; c; c = c->next) {
        extra->sealed_t_max_ms = MAX_OF(extra->sealed_t_max_ms, c->t_max_ms);
        extra->n_sealed++;
    }
    sweep_rows(stripe, counts, gen_last, &extra->side);
    sweep_rows(stripe, counts, gen_last, &extra->histograms);
    sweep_starts(stripe, counts, s);
    if (extra->sealed || extra->side.n || extra->histograms.n || extra->starts.n) return;
    counts->bytes -= (int64_t)cells_size(sizeof(*extra));
    cell_pool_put(stripe->pool, extra, sizeof(*extra));
    s->extra = NULL;
}
