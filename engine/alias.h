/* engine/alias.h: label bytes as a sender encodes them, kept so that the next request's can be compared in full:
 * a hash alone would mix two series one day, or when somebody wants it to.
 *
 * Neighbours in a request differ in a few values, so an alias is kept as its difference from a base that many
 * share: about 20 bytes instead of 200, and the base is in the cache. Operations, until sent_len bytes are made:
 *   u8 copy   bytes of the base from the cursor on, which then moves past them
 *   u8 skip, lit   4 bits each: bytes of the base that are passed over; bytes that follow here
 * Threads: an alias does not change once it is published. */
#ifndef QUIPU_ENGINE_ALIAS_H
#define QUIPU_ENGINE_ALIAS_H

#include <stdatomic.h>

#include "base/bytes.h"
#include "engine/cells.h"

#define ALIAS_SENT_BYTES_MAX 16384 /* longer label sets are looked up by their labels */

struct alias_base {
    uint32_t n_refs; /* aliases, and the registry while it is the current one */
    uint32_t len;
    uint8_t bytes[];
};

struct alias {
    struct alias *next; /* further ones of the same series */
    struct alias_base *base;
    uint32_t hash; /* the lower half */
    uint16_t sent_len, ops_len;
    uint8_t ops[];
};

/* The operations that make `sent` from `base`, appended to `out`. */
void alias_diff(struct bytes base, struct bytes sent, struct buf *out);
/* Does the message begin with these very bytes? */
bool alias_begins(const struct alias *alias, struct bytes message);

/* A new alias; *base is the one to try first (may be NULL), replaced by one made of `sent` when that pays.
 * NULL when memory is out. */
MUST_USE struct alias *alias_new(struct cell_pool *pool, struct alias_base **base, uint64_t hash,
                                 struct bytes sent);
void alias_free(struct cell_pool *pool, struct alias *alias);
void alias_base_unref(struct cell_pool *pool, struct alias_base *base); /* NULL: no-op */
static inline size_t alias_bytes(const struct alias *alias)
{
    return cells_size(offsetof(struct alias, ops) + alias->ops_len);
}

#endif
