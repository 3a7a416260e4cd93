/* storage/family_cache.h: families (storage/family.h) decoded as a whole, for as long as their members may be asked for one
 * after the other: a query reads a family's series some way apart, as `le` stands in the middle of their labels.
 * What was read as often as it has members leaves.
 * Threads: any. */
#ifndef QUIPU_STORAGE_FAMILY_CACHE_H
#define QUIPU_STORAGE_FAMILY_CACHE_H

#include "base/bytes.h"

struct family_cache;
struct family_rows; /* one decoded family, pinned while held */

/* bytes_max: of decoded values; what is pinned may go beyond it. NULL: memory is out. */
struct family_cache *family_cache_new(size_t bytes_max);
void family_cache_free(struct family_cache *cache); /* nothing is pinned. NULL: no-op */

struct family_key {
    uint32_t block; /* the caller's number for it */
    uint64_t item;
};
/* *out: the family's rows of n values, one per member, pinned; NULL: whole families are not worth it now (they left the
 * cache before their members were read, or memory is short), decode the one member. */
MUST_USE enum err_code family_cache_get(struct family_cache *cache, struct family_key key,
                                        struct bytes chunk, size_t n, struct family_rows **out,
                                        struct err *err);
/* The values of a member (FAMILY_COUNT: of _count). ERR_CORRUPT: the chunk has no such member. */
MUST_USE enum err_code family_rows_member(const struct family_rows *rows, unsigned member,
                                          const double **v, struct err *err);
void family_rows_release(struct family_rows *rows); /* NULL: no-op */

#endif
