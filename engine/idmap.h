/* engine/idmap.h: hash value -> ids, by open addressing with linear probing. It keeps 32 bits of each hash and the
 * id: 8 bytes a slot, at most 4/5 of the slots used. Several ids may share a tag: the caller compares the things
 * themselves. A slot's home is (tag * n_slots) >> 32, so that growing copies the table front to back.
 * Threads: the caller's lock. */
#ifndef QUIPU_ENGINE_IDMAP_H
#define QUIPU_ENGINE_IDMAP_H

#include "base/mem.h"

struct idmap_slot {
    uint32_t tag, id; /* id 0: empty */
};
struct idmap {
    struct idmap_slot *slots; /* NULL while empty */
    uint32_t n, n_slots;
};

void idmap_release(struct idmap *map);
/* Room for one more, so that the next idmap_insert cannot fail. False when memory is out. */
MUST_USE bool idmap_reserve(struct idmap *map);
void idmap_insert(struct idmap *map, uint32_t tag, uint32_t id); /* id != 0; after idmap_reserve */
void idmap_remove(struct idmap *map, uint32_t tag, uint32_t id); /* must be there (ASSERT) */

static inline uint32_t idmap_home(const struct idmap *map, uint32_t tag)
{
    return (uint32_t)(((uint64_t)tag * map->n_slots) >> 32);
}

/* for (struct idmap_cursor c = idmap_find(map, tag); (id = idmap_next(map, &c)) != 0;) … */
struct idmap_cursor {
    uint32_t tag, slot;
};
static inline struct idmap_cursor idmap_find(const struct idmap *map, uint32_t tag)
{
    return (struct idmap_cursor){tag, idmap_home(map, tag)};
}
/* The next id under the tag, 0 at the end. */
static inline uint32_t idmap_next(const struct idmap *map, struct idmap_cursor *c)
{
    if (!map->slots) return 0;
    for (;;) {
        struct idmap_slot s = map->slots[c->slot];
        if (s.id == 0) return 0;
        c->slot = c->slot + 1 == map->n_slots ? 0 : c->slot + 1;
        if (s.tag == c->tag) return s.id;
    }
}

#endif
