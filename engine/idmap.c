/* engine/idmap.c: see the header. Removal shifts later slots back, so that there are no tombstones. */
#include "engine/idmap.h"

#define SLOTS_MIN 8

void idmap_release(struct idmap *map)
{
    mem_free(map->slots);
    *map = (struct idmap){0};
}

static void slot_put(struct idmap *map, struct idmap_slot s)
{
    uint32_t i = idmap_home(map, s.tag);
    while (map->slots[i].id != 0) i = i + 1 == map->n_slots ? 0 : i + 1;
    map->slots[i] = s;
}

bool idmap_reserve(struct idmap *map)
{
    if (map->slots && (uint64_t)(map->n + 1) * 5 <= (uint64_t)map->n_slots * 4) return true;
    uint64_t n_slots = map->n_slots ? (uint64_t)map->n_slots + map->n_slots / 2 : SLOTS_MIN;
    if (n_slots > UINT32_MAX) return false;
    struct idmap grown = {mem_calloc(MEM_REGISTRY, n_slots, sizeof(struct idmap_slot)), map->n,
                          (uint32_t)n_slots};
    if (!grown.slots) return false;
    for (uint32_t i = 0; i < map->n_slots; i++)
        if (map->slots[i].id != 0) slot_put(&grown, map->slots[i]);
    mem_free(map->slots);
    *map = grown;
    return true;
}

void idmap_insert(struct idmap *map, uint32_t tag, uint32_t id)
{
    ASSERT(id != 0);
    ASSERT(map->n + 1 < map->n_slots);
    slot_put(map, (struct idmap_slot){tag, id});
    map->n++;
}

/* How far slot `i` lies behind `home`, around the end. */
static uint32_t distance(const struct idmap *map, uint32_t home, uint32_t i)
{
    return i >= home ? i - home : i + (map->n_slots - home);
}

void idmap_remove(struct idmap *map, uint32_t tag, uint32_t id)
{
    ASSERT(map->slots != NULL);
    uint32_t hole = idmap_home(map, tag);
    while (map->slots[hole].id != id || map->slots[hole].tag != tag) {
        ASSERT(map->slots[hole].id != 0);
        hole = hole + 1 == map->n_slots ? 0 : hole + 1;
    }
    for (uint32_t i = hole;;) {
        i = i + 1 == map->n_slots ? 0 : i + 1;
        struct idmap_slot s = map->slots[i];
        if (s.id == 0) break;
        /* It may move into the hole unless its home lies behind the hole. */
        uint32_t home = idmap_home(map, s.tag);
        if (distance(map, home, i) < distance(map, hole, i)) continue;
        map->slots[hole] = s;
        hole = i;
    }
    map->slots[hole] = (struct idmap_slot){0, 0};
    map->n--;
}
