/* engine/idlist.h: an ascending list of series ids as varint differences: the postings of one label pair. Ids are
 * handed out in order and never again, so that adding is appending; a series of a scrape follows its neighbour, and
 * an entry takes about one byte. Threads: the caller's lock. */
#ifndef QUIPU_ENGINE_IDLIST_H
#define QUIPU_ENGINE_IDLIST_H

#include "engine/cells.h"

struct idlist {
    uint8_t *p; /* a cell of `cap` bytes; NULL while there is none or one (which is `last`) */
    uint32_t n, len, cap;
    uint32_t last;
};

/* Room for one more, so that the next idlist_append cannot fail. False when memory is out. */
MUST_USE bool idlist_reserve(struct idlist *list, struct cell_pool *pool);
void idlist_append(struct idlist *list, uint32_t id); /* id > last; after idlist_reserve */
/* The n ids, ascending. */
void idlist_decode(const struct idlist *list, uint32_t *out);
/* Keeps the ids whose bit (id - base) in `dead` is 0; never needs memory. */
void idlist_remove(struct idlist *list, struct cell_pool *pool, const uint64_t *dead,
                   uint32_t base);
void idlist_release(struct idlist *list, struct cell_pool *pool);

#endif
