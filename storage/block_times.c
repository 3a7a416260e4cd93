/* storage/block_times.c: see the header. Runs are found by anchors: hashes of three times in a row, kept for the first
 * and the last three of a column and for those that say so themselves (hash % 16 == 0), so that two runs over the same
 * times have anchors in common whatever else is around. An anchor is only a hint: all times are compared.
 * The table of anchors is bounded; what it forgets is not found again, no more. */
#include "storage/block_times.h"

#include "storage/times.h"

#define ANCHOR_WAYS 4
#define ANCHORS_MIN 1024
#define ANCHORS_MAX (1 << 18) /* 3 MiB; some 60 a column of 1,025 */
#define ANCHOR_TRIES_MAX 8

void block_times_init(struct block_times *x, size_t column_n, size_t bytes_max)
{
    *x = (struct block_times){.column_n = column_n, .bytes_max = bytes_max};
    buf_init(&x->bytes, MEM_STORAGE);
}

void block_times_release(struct block_times *x)
{
    buf_release(&x->bytes);
    mem_free(x->columns);
    mem_free(x->anchors);
    for (size_t i = 0; i < TIMES_DECODED; i++) mem_free(x->decoded[i].t);
    block_times_init(x, x->column_n, x->bytes_max);
}

/* ---- columns ---- */

/* Room for the column's times in the slot that is its own. */
static enum err_code take_slot(struct block_times *x, uint32_t column, int64_t **t, struct err *err)
{
    size_t slot = column % TIMES_DECODED;
    x->decoded[slot].column = 0;
    enum err_code rc = mem_grow(MEM_STORAGE, (void **)&x->decoded[slot].t, &x->decoded[slot].cap,
                                x->columns[column].n, sizeof(int64_t), err);
    *t = x->decoded[slot].t;
    return rc;
}

/* Its times; valid until another column is looked at. */
static enum err_code column_times(struct block_times *x, uint32_t column, const int64_t **t,
                                  struct err *err)
{
    size_t slot = column % TIMES_DECODED;
    const struct time_column *c = &x->columns[column];
    int64_t *decoded = x->decoded[slot].t;
    enum err_code rc = ERR_OK;
    if (x->decoded[slot].column != column + 1) {
        rc = take_slot(x, column, &decoded, err);
        if (!rc) rc = times_decode(bytes_of(x->bytes.p + c->off, c->len), decoded, c->n, err);
        if (!rc) x->decoded[slot].column = column + 1;
    }
    *t = decoded;
    return rc;
}

/* The next run will most likely be compared with it. */
static enum err_code remember(struct block_times *x, uint32_t column, const int64_t *t,
                              struct err *err)
{
    int64_t *to;
    enum err_code rc = take_slot(x, column, &to, err);
    if (rc) return rc;
    memcpy(to, t, x->columns[column].n * sizeof(*to));
    x->decoded[column % TIMES_DECODED].column = column + 1;
    return ERR_OK;
}

/* ---- anchors ---- */

static uint32_t triple_hash(const int64_t *t, size_t n, size_t i)
{
    uint64_t h = (uint64_t)t[i] * UINT64_C(0x9E3779B97F4A7C15);
    if (i + 1 < n) h = (h ^ h >> 29 ^ (uint64_t)t[i + 1]) * UINT64_C(0xBF58476D1CE4E5B9);
    if (i + 2 < n) h = (h ^ h >> 32 ^ (uint64_t)t[i + 2]) * UINT64_C(0x94D049BB133111EB);
    return (uint32_t)(h >> 32);
}

static bool is_anchor(uint32_t hash)
{
    return hash % 16 == 0;
}

static struct time_anchor *bucket_of(const struct block_times *x, uint32_t hash)
{
    /* Not the lowest bits: they are 0 for most. */
    return &x->anchors[(hash >> 4) % (x->n_anchors / ANCHOR_WAYS) * ANCHOR_WAYS];
}

/* In place of the oldest, where a bucket is full. */
static void put_anchor(struct block_times *x, struct time_anchor anchor)
{
    struct time_anchor *bucket = bucket_of(x, anchor.hash), *to = bucket;
    for (size_t i = 0; i < ANCHOR_WAYS; i++) {
        if (bucket[i].column < to->column) to = &bucket[i];
        if (bucket[i].hash == anchor.hash && bucket[i].column == anchor.column &&
            bucket[i].idx == anchor.idx)
            return;
    }
    x->n_used += to->column == 0;
    *to = anchor;
}

/* Without memory for a larger table the one that is there serves. */
static void grow_anchors(struct block_times *x)
{
    size_t n_before = x->n_anchors;
    if (n_before == ANCHORS_MAX || (n_before && x->n_used < n_before / 2)) return;
    struct time_anchor *before = x->anchors;
    size_t n = n_before ? n_before * 2 : ANCHORS_MIN;
    struct time_anchor *anchors = mem_calloc(MEM_STORAGE, n, sizeof(*anchors));
    if (!anchors) return;
    x->anchors = anchors;
    x->n_anchors = n;
    x->n_used = 0;
    for (size_t i = 0; i < n_before; i++)
        if (before[i].column) put_anchor(x, before[i]);
    mem_free(before);
}

static void anchor_column(struct block_times *x, uint32_t column, const int64_t *t, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (i && i + 3 > n) break;
        uint32_t hash = triple_hash(t, n, i);
        if (i && i + 3 < n && !is_anchor(hash)) continue;
        grow_anchors(x);
        if (!x->anchors) return;
        put_anchor(x, (struct time_anchor){hash, column + 1, (uint32_t)i});
    }
}

/* ---- adding ---- */

static void chain(struct block_times *x, uint32_t before, uint32_t next)
{
    if (before == NO_COLUMN || next == NO_COLUMN) return;
    if (x->columns[before].next != NO_COLUMN || x->columns[next].before != NO_COLUMN) return;
    x->columns[before].next = next;
    x->columns[next].before = before;
}

static bool has_room(const struct block_times *x)
{
    return x->bytes.len + x->n_columns * sizeof(*x->columns) < x->bytes_max;
}

/* Columns of t[0, n), chained behind `before` and in front of `next`. *first: the first one, NO_COLUMN when there is
 * no room. */
static enum err_code add_columns(struct block_times *x, const int64_t *t, size_t n, uint32_t before,
                                 uint32_t next, uint32_t *first, struct err *err)
{
    *first = NO_COLUMN;
    if (!has_room(x)) return ERR_OK;
    for (size_t from = 0, len; from < n; from += len) {
        len = MIN_OF(n - from, x->column_n);
        uint32_t column = (uint32_t)x->n_columns;
        enum err_code rc = mem_grow(MEM_STORAGE, (void **)&x->columns, &x->cap, x->n_columns + 1,
                                    sizeof(*x->columns), err);
        if (rc) return rc;
        size_t off = x->bytes.len;
        times_encode(&x->bytes, t + from, len);
        rc = buf_finish(&x->bytes, err);
        if (rc) return rc;
        x->columns[x->n_columns++] = (struct time_column){off, (uint32_t)(x->bytes.len - off),
                                                          (uint32_t)len, NO_COLUMN, NO_COLUMN};
        rc = remember(x, column, t + from, err);
        if (rc) return rc;
        anchor_column(x, column, t + from, len);
        chain(x, before, column);
        before = column;
        if (*first == NO_COLUMN) *first = column;
    }
    chain(x, before, next);
    return ERR_OK;
}

/* ---- finding ---- */

/* How a run lies over a chain: t[n_lead, n_end) are in it, from place `at` on. */
struct overlap {
    struct time_place at;
    size_t n_lead; /* before the chain begins */
    size_t n_end;
    uint32_t last; /* column of the chain's end, when n_end is there; else NO_COLUMN */
};

/* Compares with the chain that has t[i] at `idx` of `column`. */
static enum err_code compare(struct block_times *x, uint32_t column, uint32_t idx, const int64_t *t,
                             size_t n, size_t i, struct overlap *o, struct err *err)
{
    uint64_t back = i;
    while (back > idx && x->columns[column].before != NO_COLUMN) {
        back -= idx;
        column = x->columns[column].before;
        idx = x->columns[column].n;
    }
    uint64_t step = MIN_OF(back, (uint64_t)idx);
    size_t pos = (size_t)(back - step);
    uint32_t at = (uint32_t)(idx - step);
    *o = (struct overlap){.at = {column, at}, .n_lead = pos, .n_end = pos, .last = NO_COLUMN};
    while (pos < n) {
        const int64_t *c;
        enum err_code rc = column_times(x, column, &c, err);
        if (rc) return rc;
        size_t len = MIN_OF(n - pos, (size_t)x->columns[column].n - at), k = 0;
        if (memcmp(t + pos, c + at, len * sizeof(*t)) == 0)
            k = len;
        else
            while (k < len && t[pos + k] == c[at + k]) k++;
        o->n_end = pos += k;
        if (k < len || pos == n) return ERR_OK;
        if (x->columns[column].next == NO_COLUMN) {
            o->last = column;
            return ERR_OK;
        }
        column = x->columns[column].next;
        at = 0;
    }
    return ERR_OK;
}

/* Is the whole run in the chain, or what is missing only before or behind it? */
static bool covers(const struct block_times *x, const struct overlap *o, size_t n)
{
    bool lead_fits =
        o->n_lead == 0 || (o->at.start == 0 && x->columns[o->at.column].before == NO_COLUMN);
    return o->n_end > o->n_lead && lead_fits && (o->n_end == n || o->last != NO_COLUMN);
}

struct search {
    const int64_t *t;
    size_t n;
    unsigned n_tries;
    bool found;          /* `best` covers the run */
    struct overlap best; /* else the longest one without lead */
};

/* Is t[i] the time `idx` of the column, and what is around it the same? */
static enum err_code try_place(struct block_times *x, struct search *s, uint32_t column,
                               uint32_t idx, size_t i, struct err *err)
{
    struct overlap o;
    enum err_code rc = compare(x, column, idx, s->t, s->n, i, &o, err);
    if (rc) return rc;
    s->found = covers(x, &o, s->n);
    if (s->found || (o.n_lead == 0 && o.n_end > s->best.n_end)) s->best = o;
    return ERR_OK;
}

static enum err_code try_anchor(struct block_times *x, struct search *s, size_t i, uint32_t hash,
                                struct err *err)
{
    const struct time_anchor *bucket = bucket_of(x, hash);
    enum err_code rc = ERR_OK;
    for (size_t k = 0; !rc && k < ANCHOR_WAYS && !s->found; k++) {
        if (!bucket[k].column || bucket[k].hash != hash || s->n_tries == ANCHOR_TRIES_MAX) continue;
        s->n_tries++;
        rc = try_place(x, s, bucket[k].column - 1, bucket[k].idx, i, err);
    }
    return rc;
}

/* The first of the n that is not before t. */
static size_t lower_bound(const int64_t *c, size_t n, int64_t t)
{
    size_t lo = 0;
    while (lo < n) {
        size_t mid = lo + (n - lo) / 2;
        if (c[mid] < t)
            lo = mid + 1;
        else
            n = mid;
    }
    return lo;
}

/* A short run may have no anchor; those that were looked at last are its most likely neighbours. */
static enum err_code try_decoded(struct block_times *x, struct search *s, struct err *err)
{
    enum err_code rc = ERR_OK;
    for (size_t slot = 0; !rc && slot < TIMES_DECODED && !s->found; slot++) {
        if (!x->decoded[slot].column) continue;
        uint32_t column = x->decoded[slot].column - 1;
        size_t n = x->columns[column].n, idx = lower_bound(x->decoded[slot].t, n, s->t[0]);
        if (idx < n && x->decoded[slot].t[idx] == s->t[0])
            rc = try_place(x, s, column, (uint32_t)idx, 0, err);
    }
    return rc;
}

/* The first three times are the best guess, then what is an anchor by itself, then the last three. */
static enum err_code find(struct block_times *x, struct search *s, struct err *err)
{
    if (!x->anchors) return ERR_OK;
    enum err_code rc = try_anchor(x, s, 0, triple_hash(s->t, s->n, 0), err);
    for (size_t i = 1; !rc && !s->found && i + 3 <= s->n && s->n_tries < ANCHOR_TRIES_MAX; i++) {
        uint32_t hash = triple_hash(s->t, s->n, i);
        if (is_anchor(hash) || i + 3 == s->n) rc = try_anchor(x, s, i, hash, err);
    }
    return rc || s->found ? rc : try_decoded(x, s, err);
}

enum err_code block_times_place(struct block_times *x, const int64_t *t, size_t n, size_t n_min,
                                uint32_t after, struct time_place *place, size_t *n_placed,
                                struct err *err)
{
    struct search s = {.t = t, .n = n};
    enum err_code rc = find(x, &s, err);
    if (rc) return rc;
    *n_placed = n;
    const struct overlap *o = &s.best;
    if (!s.found && o->n_end >= n_min && o->n_end) {
        *place = o->at;
        *n_placed = o->n_end;
        return ERR_OK;
    }
    if (!s.found) {
        *place = (struct time_place){0};
        return add_columns(x, t, n, after, NO_COLUMN, &place->column, err);
    }
    *place = o->at;
    if (o->n_end < n) {
        uint32_t first;
        rc = add_columns(x, t + o->n_end, n - o->n_end, o->last, NO_COLUMN, &first, err);
        if (!rc && first == NO_COLUMN) place->column = NO_COLUMN;
    }
    if (!rc && o->n_lead && place->column != NO_COLUMN) {
        uint32_t first;
        rc = add_columns(x, t, o->n_lead, after, o->at.column, &first, err);
        *place = (struct time_place){first, 0};
    }
    return rc;
}

uint32_t block_times_end(const struct block_times *x, struct time_place p, size_t n)
{
    if (p.column == NO_COLUMN) return NO_COLUMN;
    size_t end = p.start + n;
    while (end > x->columns[p.column].n) {
        end -= x->columns[p.column].n;
        p.column = x->columns[p.column].next;
    }
    return end == x->columns[p.column].n ? p.column : NO_COLUMN;
}

/* ---- writing ---- */

enum err_code block_times_write(struct block_times *x, struct page_writer *pages, size_t page_bytes,
                                uint32_t **numbers, struct err *err)
{
    *numbers = mem_calloc(MEM_STORAGE, x->n_columns, sizeof(**numbers));
    if (!*numbers) return err_set(err, ERR_NO_MEMORY, "%zu time columns", x->n_columns);
    page_writer_begin(pages, SECTION_TIMES, page_bytes);
    uint32_t number = 0;
    for (size_t i = 0; i < x->n_columns; i++) {
        if (x->columns[i].before != NO_COLUMN) continue;
        for (uint32_t c = (uint32_t)i; c != NO_COLUMN; c = x->columns[c].next) {
            const struct time_column *column = &x->columns[c];
            enum err_code rc =
                page_writer_item(pages, bytes_of(x->bytes.p + column->off, column->len), err);
            if (rc) return rc;
            (*numbers)[c] = number++;
        }
    }
    return page_writer_end(pages, err);
}
