/* engine/idlist.c: see the header. */
#include "engine/idlist.h"

#include "base/bytes.h"

#define ID_BYTES_MAX 5 /* a varint of 32 bits */
#define BYTES_MIN 16

static uint8_t *put_id(uint8_t *p, uint32_t v)
{
    while (v >= 0x80) {
        *p++ = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    *p++ = (uint8_t)v;
    return p;
}

/* Bytes of our own making: not bounded. */
static const uint8_t *get_id(const uint8_t *p, uint32_t *out)
{
    uint32_t v = *p & 0x7f;
    for (unsigned shift = 7; *p++ & 0x80; shift += 7) v |= (uint32_t)(*p & 0x7f) << shift;
    *out = v;
    return p;
}

bool idlist_reserve(struct idlist *list, struct cell_pool *pool)
{
    /* The first of several is written only when the second comes. */
    size_t need = list->n < 2 ? 2 * ID_BYTES_MAX : (size_t)list->len + ID_BYTES_MAX;
    if (list->n == 0 || list->cap >= need) return true;
    size_t cap = cells_size(MAX_OF(need + list->len / 4, (size_t)BYTES_MIN));
    if (cap > UINT32_MAX) return false;
    uint8_t *p = cell_pool_get(pool, cap);
    if (!p) return false;
    if (list->p) memcpy(p, list->p, list->len);
    cell_pool_put(pool, list->p, list->cap);
    list->p = p;
    list->cap = (uint32_t)cap;
    return true;
}

void idlist_append(struct idlist *list, uint32_t id)
{
    ASSERT(list->n == 0 || id > list->last);
    if (list->n == 1) list->len = (uint32_t)(put_id(list->p, list->last) - list->p);
    if (list->n >= 1) {
        ASSERT(list->len + ID_BYTES_MAX <= list->cap);
        list->len = (uint32_t)(put_id(list->p + list->len, id - list->last) - list->p);
    }
    list->last = id;
    list->n++;
}

void idlist_decode(const struct idlist *list, uint32_t *out)
{
    if (list->n == 1) out[0] = list->last;
    if (list->n < 2) return;
    const uint8_t *p = list->p;
    uint32_t id = 0;
    for (uint32_t i = 0; i < list->n; i++) {
        uint32_t delta;
        p = get_id(p, &delta);
        out[i] = id += delta;
    }
}

static bool is_dead(const uint64_t *dead, uint32_t base, uint32_t id)
{
    return dead[(id - base) / 64] >> ((id - base) % 64) & 1;
}

void idlist_remove(struct idlist *list, struct cell_pool *pool, const uint64_t *dead, uint32_t base)
{
    if (list->n == 0) return;
    if (list->n == 1) {
        if (is_dead(dead, base, list->last)) idlist_release(list, pool);
        return;
    }
    /* In place: the difference over a gap is no longer than the differences it stands for. */
    const uint8_t *from = list->p;
    uint8_t *to = list->p;
    uint32_t id = 0, n_left = 0, last = 0;
    for (uint32_t i = 0; i < list->n; i++) {
        uint32_t delta;
        from = get_id(from, &delta);
        id += delta;
        if (is_dead(dead, base, id)) continue;
        to = put_id(to, id - last);
        last = id;
        n_left++;
    }
    list->len = (uint32_t)(to - list->p);
    list->n = n_left;
    list->last = last;
    if (n_left == 0) idlist_release(list, pool);
}

void idlist_release(struct idlist *list, struct cell_pool *pool)
{
    cell_pool_put(pool, list->p, list->cap);
    *list = (struct idlist){0};
}
