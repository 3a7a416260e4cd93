/* engine/exemplars.c: see the header. */
#include "engine/exemplars.h"

#include <stdlib.h>

#include "base/crc32c.h"
#include "base/hash.h"

#define RUN_VERSION 1u
#define RING_MIN 64u
#define TABLE_MIN 64u
#define NO_IDX UINT32_MAX

struct exemplar_series {
    struct exemplar_series *next; /* of the same slot of the table */
    uint64_t hash;
    uint64_t newest; /* number of its newest entry */
    uint32_t n;      /* entries; at least 1 */
    uint32_t idx;    /* in the run being encoded; NO_IDX: none yet */
    size_t len;
    uint8_t labels[];
};
struct exemplar_entry {
    struct exemplar_series *series;
    int64_t t_ms;
    double v;
    uint8_t *labels; /* encoded */
    size_t len;
    uint64_t before; /* number of the series' one before; below `first`: gone */
};

/* ---- memory ---- */

static void room_take(struct exemplars *ex, size_t bytes)
{
    atomic_fetch_add_explicit(&ex->room->bytes_used, bytes, memory_order_relaxed);
}

static void room_give(struct exemplars *ex, size_t bytes)
{
    atomic_fetch_sub_explicit(&ex->room->bytes_used, bytes, memory_order_relaxed);
}

static size_t series_bytes(size_t len)
{
    return sizeof(struct exemplar_series) + len;
}

static size_t entry_bytes(size_t len)
{
    return sizeof(struct exemplar_entry) + len;
}

/* ---- series ---- */

static struct exemplar_entry *entry_at(const struct exemplars *ex, uint64_t number)
{
    return &ex->ring[number & (ex->ring_cap - 1)];
}

static struct exemplar_series **slot_of(struct exemplars *ex, uint64_t hash)
{
    return &ex->table[hash & (ex->table_cap - 1)];
}

static struct exemplar_series *series_find(struct exemplars *ex, uint64_t hash, struct bytes labels)
{
    if (ex->table_cap == 0) return NULL;
    struct exemplar_series *s = *slot_of(ex, hash);
    while (s && (s->hash != hash || s->len != labels.len ||
                 memcmp(s->labels, labels.p, labels.len) != 0))
        s = s->next;
    return s;
}

static bool table_grow(struct exemplars *ex)
{
    size_t cap = MAX_OF(ex->table_cap * 2, (size_t)TABLE_MIN);
    struct exemplar_series **table = mem_calloc(MEM_HEAD, cap, sizeof(struct exemplar_series *));
    if (!table) return false;
    struct exemplar_series **old = ex->table;
    size_t old_cap = ex->table_cap;
    ex->table = table;
    ex->table_cap = cap;
    for (size_t i = 0; i < old_cap; i++) {
        for (struct exemplar_series *s = old[i], *next; s; s = next) {
            next = s->next;
            struct exemplar_series **slot = slot_of(ex, s->hash);
            s->next = *slot;
            *slot = s;
        }
    }
    mem_free(old);
    return true;
}

static struct exemplar_series *series_add(struct exemplars *ex, uint64_t hash, struct bytes labels)
{
    if (ex->n_series >= ex->table_cap && !table_grow(ex)) return NULL;
    struct exemplar_series *s = mem_calloc(MEM_HEAD, 1, series_bytes(labels.len));
    if (!s) return NULL;
    s->hash = hash;
    s->len = labels.len;
    memcpy(s->labels, labels.p, labels.len);
    struct exemplar_series **slot = slot_of(ex, hash);
    s->next = *slot;
    *slot = s;
    ex->n_series++;
    room_take(ex, series_bytes(s->len));
    return s;
}

static void series_drop(struct exemplars *ex, struct exemplar_series *s)
{
    struct exemplar_series **slot = slot_of(ex, s->hash);
    while (*slot != s) slot = &(*slot)->next;
    *slot = s->next;
    ex->n_series--;
    room_give(ex, series_bytes(s->len));
    mem_free(s);
}

/* ---- the ring ---- */

void exemplars_init(struct exemplars *ex, struct exemplar_room *room)
{
    *ex = (struct exemplars){.room = room, .first = 1, .next = 1};
    lock_init(&ex->lock, LOCK_INTERN);
}

static void drop_oldest(struct exemplars *ex)
{
    struct exemplar_entry *e = entry_at(ex, ex->first);
    ex->first++;
    room_give(ex, entry_bytes(e->len));
    if (--e->series->n == 0) series_drop(ex, e->series);
    mem_free(e->labels);
}

static void drop_all(struct exemplars *ex)
{
    while (ex->first < ex->next) drop_oldest(ex);
}

void exemplars_clear(struct exemplars *ex)
{
    lock_take(&ex->lock);
    drop_all(ex);
    lock_release(&ex->lock);
}

void exemplars_release(struct exemplars *ex)
{
    drop_all(ex);
    mem_free(ex->ring);
    mem_free(ex->table);
    lock_destroy(&ex->lock);
}

static bool ring_grow(struct exemplars *ex)
{
    size_t cap = MAX_OF(ex->ring_cap * 2, (size_t)RING_MIN);
    struct exemplar_entry *ring = mem_calloc(MEM_HEAD, cap, sizeof(*ring));
    if (!ring) return false;
    for (uint64_t i = ex->first; i < ex->next; i++) ring[i & (cap - 1)] = *entry_at(ex, i);
    mem_free(ex->ring);
    ex->ring = ring;
    ex->ring_cap = cap;
    return true;
}

/* For one more, of so many bytes. False: there is none. */
static bool make_room(struct exemplars *ex, size_t bytes)
{
    uint64_t max = atomic_load_explicit(&ex->room->max, memory_order_relaxed);
    size_t bytes_max = atomic_load_explicit(&ex->room->bytes_max, memory_order_relaxed);
    if (max == 0) return false;
    while (ex->next - ex->first >= max) drop_oldest(ex);
    while (atomic_load_explicit(&ex->room->bytes_used, memory_order_relaxed) + bytes > bytes_max) {
        if (ex->first == ex->next) return false;
        drop_oldest(ex);
    }
    return ex->next - ex->first < ex->ring_cap || ring_grow(ex);
}

static bool entry_is(const struct exemplar_entry *entry, const struct encoded_exemplar *e)
{
    return entry->t_ms == e->t_ms && double_bits(entry->v) == double_bits(e->v) &&
           entry->len == e->labels.len && memcmp(entry->labels, e->labels.p, entry->len) == 0;
}

/* Beside those of its series that are there. Prometheus has an order of those with the same time as well: by value, then
 * by a hash of the labels, of which the second is left out here. */
static enum exemplar_outcome judge(const struct exemplars *ex, const struct exemplar_series *s,
                                   const struct encoded_exemplar *e)
{
    const struct exemplar_entry *newest = entry_at(ex, s->newest);
    for (uint64_t i = s->newest; i >= ex->first; i = entry_at(ex, i)->before) {
        if (entry_at(ex, i)->t_ms < e->t_ms) break;
        if (entry_is(entry_at(ex, i), e)) return EXEMPLAR_REPEATED;
    }
    bool before = e->t_ms < newest->t_ms || (e->t_ms == newest->t_ms && e->v < newest->v);
    return before ? EXEMPLAR_OUT_OF_ORDER : EXEMPLAR_STORED;
}

static enum exemplar_outcome add_locked(struct exemplars *ex, struct bytes labels,
                                        const struct encoded_exemplar *e)
{
    uint64_t hash = hash_xxh3(labels.p, labels.len);
    struct exemplar_series *s = series_find(ex, hash, labels);
    enum exemplar_outcome outcome = s ? judge(ex, s, e) : EXEMPLAR_STORED;
    if (outcome != EXEMPLAR_STORED) return outcome;
    size_t bytes = entry_bytes(e->labels.len) + series_bytes(labels.len);
    if (!make_room(ex, bytes)) return EXEMPLAR_NO_ROOM;
    s = series_find(ex, hash, labels); /* the last of it may have made room */
    uint8_t *copy = mem_alloc(MEM_HEAD, MAX_OF(e->labels.len, (size_t)1));
    if (copy && !s) s = series_add(ex, hash, labels);
    if (!copy || !s) {
        mem_free(copy);
        return EXEMPLAR_NO_ROOM;
    }
    if (e->labels.len) memcpy(copy, e->labels.p, e->labels.len);
    room_take(ex, entry_bytes(e->labels.len));
    *entry_at(ex, ex->next) = (struct exemplar_entry){.series = s,
                                                      .t_ms = e->t_ms,
                                                      .v = e->v,
                                                      .labels = copy,
                                                      .len = e->labels.len,
                                                      .before = s->n ? s->newest : 0};
    s->newest = ex->next++;
    s->n++;
    return EXEMPLAR_STORED;
}

enum exemplar_outcome exemplars_add(struct exemplars *ex, struct bytes series_labels,
                                    const struct encoded_exemplar *e)
{
    lock_take(&ex->lock);
    enum exemplar_outcome outcome = add_locked(ex, series_labels, e);
    lock_release(&ex->lock);
    return outcome;
}

/* ---- runs ---- */

/* Numbers the series of the entries from `from` on, in the order of each one's first entry. */
static void encode_series(struct exemplars *ex, uint64_t from, struct buf *out)
{
    uint32_t n = 0;
    for (uint64_t i = from; i < ex->next; i++) entry_at(ex, i)->series->idx = NO_IDX;
    for (uint64_t i = from; i < ex->next; i++) {
        struct exemplar_series *s = entry_at(ex, i)->series;
        if (s->idx == NO_IDX) s->idx = n++;
    }
    buf_varint(out, n);
    n = 0;
    for (uint64_t i = from; i < ex->next; i++) {
        const struct exemplar_series *s = entry_at(ex, i)->series;
        if (s->idx != n) continue;
        buf_str(out, (struct str){(const char *)s->labels, s->len});
        n++;
    }
}

static void encode_entries(struct exemplars *ex, uint64_t from, struct buf *out,
                           struct exemplar_run *run)
{
    int64_t before_ms = 0;
    buf_varint(out, ex->next - from);
    for (uint64_t i = from; i < ex->next; i++) {
        const struct exemplar_entry *e = entry_at(ex, i);
        buf_varint(out, e->series->idx);
        buf_zigzag(out, (int64_t)((uint64_t)e->t_ms - (uint64_t)before_ms));
        buf_double(out, e->v);
        buf_str(out, (struct str){(const char *)e->labels, e->len});
        before_ms = e->t_ms;
        run->max_ms = MAX_OF(run->max_ms, e->t_ms);
    }
}

enum err_code exemplars_encode(struct exemplars *ex, bool all, struct buf *out,
                               struct exemplar_run *run, struct err *err)
{
    lock_take(&ex->lock);
    uint64_t from = all ? ex->first : MAX_OF(ex->first, ex->saved + 1);
    *run = (struct exemplar_run){ex->next - from, ex->next - 1, INT64_MIN};
    if (run->n) {
        buf_u8(out, RUN_VERSION);
        encode_series(ex, from, out);
        encode_entries(ex, from, out, run);
    }
    lock_release(&ex->lock);
    if (run->n) buf_u32(out, crc32c(0, out->p, out->len));
    return buf_finish(out, err);
}

void exemplars_saved(struct exemplars *ex, const struct exemplar_run *run)
{
    lock_take(&ex->lock);
    ex->saved = MAX_OF(ex->saved, run->last);
    lock_release(&ex->lock);
}

static bool labels_fine(struct str encoded, struct arena *arena)
{
    struct reader r = reader_init(bytes_of(encoded.p, encoded.len));
    struct labels labels;
    struct err ignored; /* the caller says that the run is bad */
    return labels_decode(&r, arena, &labels, &ignored) == ERR_OK &&
           reader_finish(&r, &ignored) == ERR_OK;
}

static enum err_code load_body(struct exemplars *ex, struct reader *r, struct arena *arena,
                               struct err *err)
{
    uint8_t version = reader_u8(r);
    if (!r->failed && version != RUN_VERSION)
        return err_set(err, ERR_VERSION, "exemplars of version %u, this build reads %u", version,
                       RUN_VERSION);
    uint64_t n_series = reader_varint(r);
    if (n_series > reader_left(r))
        return err_set(err, ERR_CORRUPT, "more series than the exemplars have bytes");
    struct str *series = ARENA_ARRAY(arena, struct str, n_series + 1);
    if (!series) return arena_fail(arena, err);
    for (uint64_t i = 0; i < n_series; i++) {
        series[i] = reader_str(r);
        if (r->failed || !labels_fine(series[i], arena))
            return err_set(err, ERR_CORRUPT, "labels of exemplars make no sense");
    }
    uint64_t n = reader_varint(r);
    int64_t t_ms = 0;
    for (uint64_t i = 0; i < n && !r->failed; i++) {
        uint64_t idx = reader_varint(r);
        t_ms = (int64_t)((uint64_t)t_ms + (uint64_t)reader_zigzag(r));
        double v = reader_double(r);
        struct str labels = reader_str(r);
        if (r->failed || idx >= n_series || !labels_fine(labels, arena))
            return err_set(err, ERR_CORRUPT, "an exemplar makes no sense");
        struct encoded_exemplar e = {t_ms, v, bytes_of(labels.p, labels.len)};
        (void)add_locked(ex, bytes_of(series[idx].p, series[idx].len), &e);
    }
    return reader_finish(r, err);
}

enum err_code exemplars_load(struct exemplars *ex, struct bytes run, struct err *err)
{
    if (run.len < 4 || get_u32_le(run.p + run.len - 4) != crc32c(0, run.p, run.len - 4))
        return err_set(err, ERR_CORRUPT, "the checksum of a run of exemplars is wrong");
    struct reader r = reader_init(bytes_of(run.p, run.len - 4));
    struct arena arena;
    arena_init(&arena, MEM_HEAD, 0);
    lock_take(&ex->lock);
    enum err_code rc = load_body(ex, &r, &arena, err);
    ex->saved = ex->next - 1;
    lock_release(&ex->lock);
    arena_release(&arena);
    return rc;
}

/* ---- reading ---- */

static enum err_code decode_labels(const uint8_t *p, size_t len, struct arena *arena,
                                   struct labels *out, struct err *err)
{
    struct reader r = reader_init(bytes_of(p, len));
    return labels_decode(&r, arena, out, err);
}

static bool is_asked_for(const struct matcher_set *sets, size_t n_sets, struct labels labels)
{
    for (size_t i = 0; i < n_sets; i++)
        if (matchers_match_labels(sets[i].items, sets[i].n, labels)) return true;
    return false;
}

struct hidden {
    struct compact_range *ranges;
    size_t n;
};

static enum err_code hidden_of(const struct tombstone_set *deleted, struct labels labels,
                               struct arena *arena, struct hidden *out, struct err *err)
{
    *out = (struct hidden){NULL, 0};
    if (!deleted) return ERR_OK;
    return tombstone_set_ranges(deleted, labels, INT64_MIN, INT64_MAX, arena, &out->ranges, &out->n,
                                err);
}

/* Those of one series, oldest first; their labels and its own are copied to the arena. */
static enum err_code collect(const struct exemplars *ex, const struct exemplar_series *s,
                             int64_t mint_ms, int64_t maxt_ms, const struct hidden *hidden,
                             struct arena *arena, struct series_exemplars *out, struct err *err)
{
    size_t n = 0;
    struct exemplar *items = ARENA_ARRAY(arena, struct exemplar, s->n);
    if (!items) return arena_fail(arena, err);
    for (uint64_t i = s->newest; i >= ex->first; i = entry_at(ex, i)->before) {
        const struct exemplar_entry *e = entry_at(ex, i);
        if (e->t_ms < mint_ms || e->t_ms > maxt_ms) continue;
        if (ranges_have(hidden->ranges, hidden->n, e->t_ms)) continue;
        struct str copy = arena_str(arena, (struct str){(const char *)e->labels, e->len});
        if (!copy.p) return arena_fail(arena, err);
        struct exemplar *item = &items[s->n - ++n];
        *item = (struct exemplar){.t_ms = e->t_ms, .v = e->v};
        enum err_code rc =
            decode_labels((const uint8_t *)copy.p, copy.len, arena, &item->labels, err);
        if (rc) return rc;
    }
    out->items = items + (s->n - n);
    out->n = n;
    return ERR_OK;
}

static int compare_series(const void *a, const void *b)
{
    return labels_cmp(((const struct series_exemplars *)a)->series,
                      ((const struct series_exemplars *)b)->series);
}

/* Labels that no answer needs go with `space`. */
static enum err_code select_series(const struct exemplars *ex, const struct exemplar_series *s,
                                   const struct matcher_set *sets, size_t n_sets, int64_t mint_ms,
                                   int64_t maxt_ms, const struct tombstone_set *deleted,
                                   struct arena *space, struct arena *arena,
                                   struct series_exemplars *out, struct err *err)
{
    struct labels labels;
    struct hidden hidden;
    arena_reset(space);
    *out = (struct series_exemplars){.n = 0};
    enum err_code rc = decode_labels(s->labels, s->len, space, &labels, err);
    if (rc || !is_asked_for(sets, n_sets, labels)) return rc;
    rc = hidden_of(deleted, labels, space, &hidden, err);
    if (!rc) rc = collect(ex, s, mint_ms, maxt_ms, &hidden, arena, out, err);
    if (!rc && out->n) rc = labels_copy(arena, labels, &out->series, err);
    return rc;
}

enum err_code exemplars_select(struct exemplars *ex, const struct matcher_set *sets, size_t n_sets,
                               int64_t mint_ms, int64_t maxt_ms,
                               const struct tombstone_set *deleted, struct arena *arena,
                               struct series_exemplars **out, size_t *n, struct err *err)
{
    struct arena space;
    arena_init(&space, MEM_QUERY, 0);
    lock_take(&ex->lock);
    enum err_code rc = ERR_OK;
    *n = 0;
    *out = ARENA_ARRAY(arena, struct series_exemplars, ex->n_series + 1);
    if (!*out) rc = arena_fail(arena, err);
    for (size_t i = 0; !rc && i < ex->table_cap; i++) {
        for (const struct exemplar_series *s = ex->table[i]; !rc && s; s = s->next) {
            rc = select_series(ex, s, sets, n_sets, mint_ms, maxt_ms, deleted, &space, arena,
                               &(*out)[*n], err);
            *n += !rc && (*out)[*n].n > 0;
        }
    }
    lock_release(&ex->lock);
    arena_release(&space);
    if (!rc && *n) qsort(*out, *n, sizeof(**out), compare_series);
    return rc;
}

/* ---- deletes ---- */

/* Which entries of a series go. */
static enum err_code mark_series(const struct exemplars *ex, const struct exemplar_series *s,
                                 const struct tombstone_set *deleted, struct arena *space,
                                 bool *gone, size_t *n, struct err *err)
{
    struct labels labels;
    struct hidden hidden;
    arena_reset(space);
    enum err_code rc = decode_labels(s->labels, s->len, space, &labels, err);
    if (!rc) rc = hidden_of(deleted, labels, space, &hidden, err);
    if (rc) return rc;
    for (uint64_t i = s->newest; i >= ex->first; i = entry_at(ex, i)->before) {
        gone[i - ex->first] = ranges_have(hidden.ranges, hidden.n, entry_at(ex, i)->t_ms);
        *n += gone[i - ex->first];
    }
    return ERR_OK;
}

static enum err_code mark_deleted(const struct exemplars *ex, const struct tombstone_set *deleted,
                                  bool *gone, size_t *n, struct err *err)
{
    struct arena space;
    enum err_code rc = ERR_OK;
    arena_init(&space, MEM_HEAD, 0);
    for (size_t i = 0; !rc && i < ex->table_cap; i++)
        for (const struct exemplar_series *s = ex->table[i]; !rc && s; s = s->next)
            rc = mark_series(ex, s, deleted, &space, gone, n, err);
    arena_release(&space);
    return rc;
}

/* All entries anew, without those that are gone: their numbers follow the old ones'. */
static void rebuild(struct exemplars *ex, const bool *gone)
{
    uint64_t first = ex->first, end = ex->next;
    for (uint64_t i = first; i < end; i++) entry_at(ex, i)->series->n = 0;
    uint64_t to = first;
    for (uint64_t i = first; i < end; i++) {
        struct exemplar_entry e = *entry_at(ex, i);
        if (gone[i - first]) {
            room_give(ex, entry_bytes(e.len));
            mem_free(e.labels);
            continue;
        }
        e.before = e.series->n ? e.series->newest : 0;
        e.series->newest = to;
        e.series->n++;
        *entry_at(ex, to++) = e;
    }
    ex->next = to;
    for (size_t i = 0; i < ex->table_cap; i++) {
        for (struct exemplar_series *s = ex->table[i], *next; s; s = next) {
            next = s->next;
            if (s->n == 0) series_drop(ex, s);
        }
    }
    ex->saved = first - 1; /* the numbers are others now: the next run has all */
}

enum err_code exemplars_purge(struct exemplars *ex, const struct tombstone_set *deleted, size_t *n,
                              struct err *err)
{
    enum err_code rc = ERR_OK;
    *n = 0;
    lock_take(&ex->lock);
    if (ex->first < ex->next) {
        bool *gone = mem_calloc(MEM_HEAD, ex->next - ex->first, sizeof(*gone));
        rc = gone ? mark_deleted(ex, deleted, gone, n, err)
                  : err_set(err, ERR_NO_MEMORY, "no memory to delete exemplars");
        if (!rc && *n) rebuild(ex, gone);
        mem_free(gone);
    }
    lock_release(&ex->lock);
    return rc;
}
