/* storage/compact_family.h: which series of a list are one classic histogram: `x_bucket` with `le`, and `x_count`,
 * the other labels being equal. Candidates are found by a hash of those labels; whoever uses a family compares the labels
 * themselves (compact_family_order). Private to compaction. Threads: its owner's. */
#ifndef QUIPU_STORAGE_COMPACT_FAMILY_H
#define QUIPU_STORAGE_COMPACT_FAMILY_H

#include "storage/family.h"
#include "storage/labels.h"

struct compact_family_key {
    uint64_t hash;
    uint32_t series;
};
/* Series of one hash: keys [first, first + n). */
struct compact_family {
    uint32_t first, n;
    uint32_t lowest; /* of their numbers */
};
struct compact_families {
    struct compact_family_key *keys;
    size_t n_keys, keys_cap;
    struct compact_family *items; /* by their lowest series */
    size_t n;
    uint64_t *member; /* a bit for each series that is in one */
    struct buf scratch;
};

void compact_families_init(struct compact_families *f);
void compact_families_release(struct compact_families *f);
/* Looks at a series. */
MUST_USE enum err_code compact_families_add(struct compact_families *f, uint32_t series,
                                            struct labels labels, struct err *err);
/* After the last of n_series. */
MUST_USE enum err_code compact_families_group(struct compact_families *f, uint32_t n_series,
                                              struct err *err);
static inline bool compact_families_has(const struct compact_families *f, uint32_t series)
{
    return f->n > 0 && (f->member[series / 64] >> series % 64 & 1);
}

#define COMPACT_FAMILY_MAX (FAMILY_MEMBERS_MAX + 1) /* buckets and _count */
struct compact_order {
    uint32_t
        places[COMPACT_FAMILY_MAX]; /* of the n_buckets, by rising bound; then of _count if there */
    size_t n_buckets;
    bool has_count;
};
/* The members of a family in order, by their labels. False: they are not what their hashes made them seem, or their
 * bounds are no histogram's: each is a series of its own. */
bool compact_family_order(const struct labels *labels, size_t n, struct compact_order *order);

#endif
