/* engine/tombstones.h: what was deleted of a tenant. A tombstone hides every sample of the series that match with
 * mint_ms <= t <= maxt_ms, wherever it is (head, log, blocks) and whenever it comes, until it is removed, which is for
 * when no file holds such samples any more. The catalog's table is the truth; this is its copy in memory.
 *
 * In the catalog the matchers are: varint n, then for each u8 op (0 =, 1 !=, 2 =~, 3 !~), name and value, each a varint
 * length and the bytes. None at all: every series.
 *
 * Threads: a set does not change; a reader takes the current one before it takes a view, so that what a clean-up
 * removed from the view's files is not missed. Changes are one at a time (tombstones.change). */
#ifndef QUIPU_ENGINE_TOMBSTONES_H
#define QUIPU_ENGINE_TOMBSTONES_H

#include <stdatomic.h>

#include "base/lock.h"
#include "engine/engine.h"
#include "storage/compact_merge.h"

#define TOMBSTONES_MAX 10000 /* of a tenant: each select that they overlap asks every one */

struct tombstone; /* counted: of the sets that have it */
struct tombstone_view {
    uint64_t id;
    int64_t mint_ms, maxt_ms, created_ms;
    const struct matcher *matchers;
    size_t n_matchers;
};
struct tombstone_set {
    _Atomic uint32_t refs;    /* release when given, acquire by the last */
    int64_t mint_ms, maxt_ms; /* around all of them */
    uint64_t newest_id;
    size_t n;                  /* at least 1 */
    struct tombstone *items[]; /* ascending by id */
};
struct tombstones {
    struct lock change;        /* rank LOCK_INTERN: one change at a time, with the catalog's */
    struct lock lock;          /* rank LOCK_LEAF; guards set */
    struct tombstone_set *set; /* NULL: none */
    _Atomic uint32_t
        n; /* of set; release after it is there, acquire by readers: what was deleted before a
                         * read began is hidden from it */
};

void tombstones_init(struct tombstones *tombstones);
void tombstones_release(struct tombstones *tombstones);
/* The current set, held; NULL when there is none, which costs a load. */
struct tombstone_set *tombstones_take(struct tombstones *tombstones);
void tombstone_set_give(struct tombstone_set *set); /* NULL: no-op */

struct tombstone_view tombstone_view(const struct tombstone *tombstone);
/* NULL: no. */
static inline bool tombstone_set_overlaps(const struct tombstone_set *set, int64_t mint_ms,
                                          int64_t maxt_ms)
{
    return set && set->mint_ms <= maxt_ms && set->maxt_ms >= mint_ms;
}
/* What is hidden of a series within [mint_ms, maxt_ms]: ascending, disjoint, not touching, in the arena. */
MUST_USE enum err_code tombstone_set_ranges(const struct tombstone_set *set, struct labels labels,
                                            int64_t mint_ms, int64_t maxt_ms, struct arena *arena,
                                            struct compact_range **ranges, size_t *n,
                                            struct err *err);
/* A compact_drop_fn; ctx: struct tombstone_set. */
enum err_code tombstone_set_drop(void *ctx, struct labels labels, struct arena *arena,
                                 struct compact_range **ranges, size_t *n, struct err *err);

/* Is t_ms within one of them? */
bool ranges_have(const struct compact_range *ranges, size_t n, int64_t t_ms);
/* Is all of [from_ms, to_ms] within one? */
bool ranges_cover(const struct compact_range *ranges, size_t n, int64_t from_ms, int64_t to_ms);
/* Takes the samples within them out. */
void ranges_cut(struct samples *s, const struct compact_range *ranges, size_t n);

/* ---- changes; under `change` ---- */

/* Of the catalog, or about to enter it (id 0 until tombstone_set_id). ERR_UNSUPPORTED: a regular expression, and
 * `regex` cannot compile. ERR_CORRUPT: the bytes make no sense. */
MUST_USE enum err_code tombstone_new(const struct engine_regex *regex,
                                     const struct catalog_tombstone *row, struct tombstone **out,
                                     struct err *err);
void tombstone_free(struct tombstone *tombstone); /* one that no set has; NULL: no-op */
void tombstone_set_id(struct tombstone *tombstone, uint64_t id);
void tombstone_encode(const struct matcher *matchers, size_t n, struct buf *out);
/* Does a tombstone hide all that this one would? */
bool tombstones_cover(const struct tombstones *tombstones, struct bytes matchers, int64_t mint_ms,
                      int64_t maxt_ms);
/* The next set: the current one's tombstones without those of `remove` (ids, ascending), and those of `add`, which it
 * takes over when it is published. *out NULL: it would be empty. */
struct tombstones_change {
    struct tombstone *const *add;
    size_t n_add;
    const uint64_t *remove;
    size_t n_remove;
};
MUST_USE enum err_code tombstones_prepare(struct tombstones *tombstones,
                                          const struct tombstones_change *change,
                                          struct tombstone_set **out, struct err *err);
void tombstones_publish(struct tombstones *tombstones, struct tombstone_set *set);
/* Instead of publishing; `add` stays the caller's. */
void tombstones_discard(struct tombstone_set *set, const struct tombstones_change *change);

#endif
