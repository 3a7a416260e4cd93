/* engine/tombstones.c: see the header. A set is an array of counted tombstones, so that a change copies pointers. */
#include "engine/tombstones.h"

#include <stdlib.h>

struct tombstone {
    _Atomic uint32_t refs; /* of sets; as tombstone_set.refs */
    struct tombstone_view v;
    struct bytes encoded; /* the matchers as in the catalog */
    const struct engine_regex *regex;
    void **compiled; /* one per matcher; NULL where there is none */
    struct arena arena;
};

/* ---- one tombstone ---- */

void tombstone_encode(const struct matcher *matchers, size_t n, struct buf *out)
{
    buf_varint(out, n);
    for (size_t i = 0; i < n; i++) {
        buf_u8(out, (uint8_t)matchers[i].op);
        buf_str(out, matchers[i].name);
        buf_str(out, matchers[i].value);
    }
}

#define MATCHER_BYTES_MIN 3

/* In place: texts point into the encoded bytes. */
static enum err_code decode(struct bytes encoded, struct arena *arena, struct matcher **out,
                            size_t *n, struct err *err)
{
    struct reader r = reader_init(encoded);
    uint64_t count = reader_varint(&r);
    if (count > reader_left(&r) / MATCHER_BYTES_MIN)
        return err_set(err, ERR_CORRUPT, "%llu matchers in %zu bytes", (unsigned long long)count,
                       reader_left(&r));
    struct matcher *m = ARENA_ARRAY(arena, struct matcher, MAX_OF(count, (uint64_t)1));
    if (!m) return arena_fail(arena, err);
    for (size_t i = 0; i < count; i++) {
        uint8_t op = reader_u8(&r);
        m[i] = (struct matcher){.name = reader_str(&r), .value = reader_str(&r)};
        if (op > MATCH_NRE) return err_set(err, ERR_CORRUPT, "matcher of kind %u", op);
        m[i].op = (enum matcher_op)op;
    }
    *out = m;
    *n = count;
    return reader_finish(&r, err);
}

static bool is_regex(const struct matcher *m)
{
    return m->op == MATCH_RE || m->op == MATCH_NRE;
}

static enum err_code compile(struct tombstone *t, struct matcher *matchers, struct err *err)
{
    enum err_code rc = ERR_OK;
    for (size_t i = 0; !rc && i < t->v.n_matchers; i++) {
        if (!is_regex(&matchers[i])) continue;
        if (!t->regex || !t->regex->compile)
            return err_set(err, ERR_UNSUPPORTED,
                           "something was deleted by a regular expression, which this program "
                           "cannot read");
        rc = t->regex->compile(&matchers[i], &t->compiled[i], err);
    }
    return rc;
}

enum err_code tombstone_new(const struct engine_regex *regex, const struct catalog_tombstone *row,
                            struct tombstone **out, struct err *err)
{
    *out = NULL;
    struct tombstone *t = mem_calloc(MEM_REGISTRY, 1, sizeof(*t));
    if (!t) return err_set(err, ERR_NO_MEMORY, "no memory for a tombstone");
    arena_init(&t->arena, MEM_REGISTRY, 0);
    t->regex = regex;
    struct str copy = arena_str(&t->arena, str_from_bytes(row->matchers));
    struct matcher *matchers = NULL;
    enum err_code rc = copy.p ? ERR_OK : arena_fail(&t->arena, err);
    t->encoded = bytes_of(copy.p, copy.len);
    if (!rc) rc = decode(t->encoded, &t->arena, &matchers, &t->v.n_matchers, err);
    if (!rc) {
        t->v.id = row->id;
        t->v.mint_ms = row->mint_ms;
        t->v.maxt_ms = row->maxt_ms;
        t->v.created_ms = row->created_ms;
        t->v.matchers = matchers;
        t->compiled = ARENA_ARRAY(&t->arena, void *, MAX_OF(t->v.n_matchers, (size_t)1));
        if (!t->compiled) rc = arena_fail(&t->arena, err);
    }
    for (size_t i = 0; !rc && i < t->v.n_matchers; i++) t->compiled[i] = NULL;
    if (!rc) rc = compile(t, matchers, err);
    if (rc) {
        tombstone_free(t);
        return rc;
    }
    *out = t;
    return ERR_OK;
}

void tombstone_free(struct tombstone *t)
{
    if (!t) return;
    for (size_t i = 0; t->compiled && i < t->v.n_matchers; i++)
        if (t->compiled[i]) t->regex->free(t->compiled[i]);
    arena_release(&t->arena);
    mem_free(t);
}

void tombstone_set_id(struct tombstone *t, uint64_t id)
{
    t->v.id = id;
}

struct tombstone_view tombstone_view(const struct tombstone *t)
{
    return t->v;
}

static void tombstone_unref(struct tombstone *t)
{
    if (atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) == 1) tombstone_free(t);
}

/* ---- sets ---- */

void tombstones_init(struct tombstones *ts)
{
    lock_init(&ts->change, LOCK_INTERN);
    lock_init(&ts->lock, LOCK_LEAF);
    ts->set = NULL;
    atomic_store(&ts->n, 0);
}

void tombstones_release(struct tombstones *ts)
{
    tombstone_set_give(ts->set);
    lock_destroy(&ts->change);
    lock_destroy(&ts->lock);
}

struct tombstone_set *tombstones_take(struct tombstones *ts)
{
    if (LIKELY(atomic_load_explicit(&ts->n, memory_order_acquire) == 0)) return NULL;
    lock_take(&ts->lock);
    struct tombstone_set *set = ts->set;
    if (set) atomic_fetch_add_explicit(&set->refs, 1, memory_order_relaxed);
    lock_release(&ts->lock);
    return set;
}

void tombstone_set_give(struct tombstone_set *set)
{
    if (!set || atomic_fetch_sub_explicit(&set->refs, 1, memory_order_acq_rel) != 1) return;
    for (size_t i = 0; i < set->n; i++) tombstone_unref(set->items[i]);
    mem_free(set);
}

static bool has_id(const uint64_t *ids, size_t n, uint64_t id)
{
    for (size_t i = 0; i < n; i++)
        if (ids[i] == id) return true;
    return false;
}

static void set_add(struct tombstone_set *set, struct tombstone *t)
{
    atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
    set->mint_ms = set->n ? MIN_OF(set->mint_ms, t->v.mint_ms) : t->v.mint_ms;
    set->maxt_ms = set->n ? MAX_OF(set->maxt_ms, t->v.maxt_ms) : t->v.maxt_ms;
    set->newest_id = MAX_OF(set->newest_id, t->v.id);
    set->items[set->n++] = t;
}

enum err_code tombstones_prepare(struct tombstones *ts, const struct tombstones_change *change,
                                 struct tombstone_set **out, struct err *err)
{
    const struct tombstone_set *old = ts->set; /* only changes replace it, one at a time */
    size_t n_old = old ? old->n : 0, n = n_old + change->n_add;
    struct tombstone_set *set =
        mem_calloc(MEM_REGISTRY, 1, sizeof(*set) + n * sizeof(struct tombstone *));
    *out = NULL;
    if (!set) return err_set(err, ERR_NO_MEMORY, "no memory for %zu tombstones", n);
    atomic_store_explicit(&set->refs, 1, memory_order_relaxed);
    for (size_t i = 0; i < n_old; i++)
        if (!has_id(change->remove, change->n_remove, old->items[i]->v.id))
            set_add(set, old->items[i]);
    for (size_t i = 0; i < change->n_add; i++) set_add(set, change->add[i]);
    if (set->n == 0) {
        mem_free(set);
        return ERR_OK;
    }
    *out = set;
    return ERR_OK;
}

void tombstones_publish(struct tombstones *ts, struct tombstone_set *set)
{
    for (size_t i = 0; set && i < set->n; i++) /* ids of new ones came late */
        set->newest_id = MAX_OF(set->newest_id, set->items[i]->v.id);
    lock_take(&ts->lock);
    struct tombstone_set *old = ts->set;
    ts->set = set;
    atomic_store_explicit(&ts->n, set ? (uint32_t)set->n : 0, memory_order_release);
    lock_release(&ts->lock);
    tombstone_set_give(old);
}

void tombstones_discard(struct tombstone_set *set, const struct tombstones_change *change)
{
    /* The set's references must not free what is the caller's. */
    for (size_t i = 0; set && i < change->n_add; i++)
        atomic_fetch_add_explicit(&change->add[i]->refs, 1, memory_order_relaxed);
    tombstone_set_give(set);
}

bool tombstones_cover(const struct tombstones *ts, struct bytes matchers, int64_t mint_ms,
                      int64_t maxt_ms)
{
    for (size_t i = 0; ts->set && i < ts->set->n; i++) {
        const struct tombstone *t = ts->set->items[i];
        if (t->v.mint_ms <= mint_ms && t->v.maxt_ms >= maxt_ms && t->encoded.len == matchers.len &&
            memcmp(t->encoded.p, matchers.p, matchers.len) == 0)
            return true;
    }
    return false;
}

/* ---- ranges ---- */

static int compare_ranges(const void *a, const void *b)
{
    const struct compact_range *x = a, *y = b;
    return (x->from_ms > y->from_ms) - (x->from_ms < y->from_ms);
}

/* Sorted, and those that overlap or touch made one. Returns how many are left. */
static size_t join_ranges(struct compact_range *ranges, size_t n)
{
    size_t to = 0;
    if (n) qsort(ranges, n, sizeof(*ranges), compare_ranges);
    for (size_t i = 0; i < n; i++) {
        bool joins = to > 0 && (ranges[to - 1].to_ms == INT64_MAX ||
                                ranges[i].from_ms <= ranges[to - 1].to_ms + 1);
        if (joins)
            ranges[to - 1].to_ms = MAX_OF(ranges[to - 1].to_ms, ranges[i].to_ms);
        else
            ranges[to++] = ranges[i];
    }
    return to;
}

enum err_code tombstone_set_ranges(const struct tombstone_set *set, struct labels labels,
                                   int64_t mint_ms, int64_t maxt_ms, struct arena *arena,
                                   struct compact_range **ranges, size_t *n, struct err *err)
{
    struct compact_range *found = NULL;
    size_t cap = 0, count = 0;
    for (size_t i = 0; i < set->n; i++) {
        const struct tombstone_view *v = &set->items[i]->v;
        if (v->mint_ms > maxt_ms || v->maxt_ms < mint_ms) continue;
        if (!matchers_match_labels(v->matchers, v->n_matchers, labels)) continue;
        if (count == cap) {
            cap = MAX_OF(2 * cap, (size_t)4);
            struct compact_range *more = ARENA_ARRAY(arena, struct compact_range, cap);
            if (!more) return arena_fail(arena, err);
            if (count) memcpy(more, found, count * sizeof(*more));
            found = more;
        }
        found[count++] =
            (struct compact_range){MAX_OF(v->mint_ms, mint_ms), MIN_OF(v->maxt_ms, maxt_ms)};
    }
    *n = join_ranges(found, count);
    *ranges = found;
    return ERR_OK;
}

enum err_code tombstone_set_drop(void *ctx, struct labels labels, struct arena *arena,
                                 struct compact_range **ranges, size_t *n, struct err *err)
{
    return tombstone_set_ranges(ctx, labels, INT64_MIN, INT64_MAX, arena, ranges, n, err);
}

/* The first range that does not end before t_ms; n: none. */
static size_t range_search(const struct compact_range *ranges, size_t n, int64_t t_ms)
{
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (ranges[mid].to_ms < t_ms)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

bool ranges_have(const struct compact_range *ranges, size_t n, int64_t t_ms)
{
    return ranges_cover(ranges, n, t_ms, t_ms);
}

bool ranges_cover(const struct compact_range *ranges, size_t n, int64_t from_ms, int64_t to_ms)
{
    size_t i = range_search(ranges, n, from_ms);
    return i < n && ranges[i].from_ms <= from_ms && ranges[i].to_ms >= to_ms;
}

void ranges_cut(struct samples *s, const struct compact_range *ranges, size_t n)
{
    if (s->n == 0 || n == 0) return;
    size_t to = 0, k = range_search(ranges, n, s->t_ms[0]);
    for (size_t i = 0; i < s->n; i++) {
        while (k < n && ranges[k].to_ms < s->t_ms[i]) k++;
        if (k < n && ranges[k].from_ms <= s->t_ms[i]) continue;
        samples_move(s, to++, i);
    }
    s->n = to;
}
