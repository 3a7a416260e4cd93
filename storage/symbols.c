/* storage/symbols.c: see the header. */
#include "storage/symbols.h"

#include "base/hash.h"

#define SLOTS_MIN 64

void symbols_init_for(struct symbols *s, enum mem_owner owner)
{
    *s = (struct symbols){0};
    arena_init(&s->arena, owner, 0);
}

void symbols_init(struct symbols *s)
{
    symbols_init_for(s, MEM_STORAGE);
}

void symbols_release(struct symbols *s)
{
    mem_free(s->names);
    mem_free(s->pairs);
    mem_free(s->slots);
    mem_free(s->name_slots);
    arena_release(&s->arena);
    symbols_init(s);
}

static uint64_t pair_hash(uint32_t name_id, struct str value)
{
    return hash_xxh3(value.p, value.len) ^ (name_id * UINT64_C(0x9E3779B97F4A7C15));
}

static uint64_t entry_hash(const struct symbols *s, bool names, uint32_t id)
{
    if (names) return hash_xxh3(s->names[id].p, s->names[id].len);
    return pair_hash(s->pairs[id].name_id, symbols_value(s, id));
}

static size_t slot_free(const uint32_t *slots, size_t n_slots, uint64_t hash)
{
    size_t i = hash & (n_slots - 1);
    while (slots[i]) i = (i + 1) & (n_slots - 1);
    return i;
}

/* Room for one more entry at 3/4 load or less. */
static enum err_code grow_slots(const struct symbols *s, bool names, uint32_t **slots,
                                size_t *n_slots, size_t n, struct err *err)
{
    if ((n + 1) * 4 <= *n_slots * 3) return ERR_OK;
    size_t n_new = *n_slots ? *n_slots * 2 : SLOTS_MIN;
    uint32_t *fresh = mem_calloc(s->arena.owner, n_new, sizeof(*fresh));
    if (!fresh) return err_set(err, ERR_NO_MEMORY, "a table of %zu symbols", n_new);
    for (uint32_t id = 0; id < n; id++)
        fresh[slot_free(fresh, n_new, entry_hash(s, names, id))] = id + 1;
    mem_free(*slots);
    *slots = fresh;
    *n_slots = n_new;
    return ERR_OK;
}

static enum err_code add_name(struct symbols *s, struct str name, uint32_t *id, struct err *err)
{
    uint64_t hash = hash_xxh3(name.p, name.len);
    for (size_t i = hash & (s->n_name_slots - 1); s->n_name_slots && s->name_slots[i];
         i = (i + 1) & (s->n_name_slots - 1)) {
        *id = s->name_slots[i] - 1;
        if (str_eq(s->names[*id], name)) return ERR_OK;
    }
    enum err_code rc = grow_slots(s, true, &s->name_slots, &s->n_name_slots, s->n_names, err);
    if (!rc)
        rc = mem_grow(s->arena.owner, (void **)&s->names, &s->names_cap, s->n_names + 1,
                      sizeof(*s->names), err);
    if (rc) return rc;
    struct str copy = arena_str(&s->arena, name);
    if (!copy.p) return arena_fail(&s->arena, err);
    *id = (uint32_t)s->n_names;
    s->names[s->n_names++] = copy;
    s->name_slots[slot_free(s->name_slots, s->n_name_slots, hash)] = *id + 1;
    return ERR_OK;
}

enum err_code symbols_add(struct symbols *s, struct str name, struct str value, uint32_t *pair,
                          struct err *err)
{
    uint32_t name_id = 0;
    enum err_code rc = add_name(s, name, &name_id, err);
    if (rc) return rc;
    uint64_t hash = pair_hash(name_id, value);
    for (size_t i = hash & (s->n_slots - 1); s->n_slots && s->slots[i];
         i = (i + 1) & (s->n_slots - 1)) {
        *pair = s->slots[i] - 1;
        if (s->pairs[*pair].name_id == name_id && str_eq(symbols_value(s, *pair), value))
            return ERR_OK;
    }
    if (s->n_pairs >= UINT32_MAX / 2 || value.len > UINT32_MAX)
        return err_set(err, ERR_LIMIT, "too many label values for one block");
    rc = grow_slots(s, false, &s->slots, &s->n_slots, s->n_pairs, err);
    if (!rc)
        rc = mem_grow(s->arena.owner, (void **)&s->pairs, &s->pairs_cap, s->n_pairs + 1,
                      sizeof(*s->pairs), err);
    if (rc) return rc;
    struct str copy = arena_str(&s->arena, value);
    if (!copy.p) return arena_fail(&s->arena, err);
    *pair = (uint32_t)s->n_pairs;
    s->pairs[s->n_pairs++] = (struct symbol_pair){copy.p, (uint32_t)copy.len, name_id};
    s->slots[slot_free(s->slots, s->n_slots, hash)] = *pair + 1;
    return ERR_OK;
}

static bool pair_less(const struct symbols *s, uint32_t a, uint32_t b)
{
    int c = 0;
    if (s->pairs[a].name_id != s->pairs[b].name_id)
        c = str_cmp(symbols_name(s, a), symbols_name(s, b));
    if (c == 0) c = str_cmp(symbols_value(s, a), symbols_value(s, b));
    return c < 0;
}

/* Merge sort, bottom up: qsort() has no context, and this needs no recursion. */
enum err_code symbols_sort(const struct symbols *s, uint32_t **order, struct err *err)
{
    size_t n = s->n_pairs;
    uint32_t *from = mem_calloc(MEM_STORAGE, n, sizeof(*from));
    uint32_t *to = mem_calloc(MEM_STORAGE, n, sizeof(*to));
    if (!from || !to) {
        mem_free(from);
        mem_free(to);
        return err_set(err, ERR_NO_MEMORY, "sorting %zu symbols", n);
    }
    for (size_t i = 0; i < n; i++) from[i] = (uint32_t)i;
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t lo = 0; lo < n; lo += 2 * width) {
            size_t mid = MIN_OF(lo + width, n), hi = MIN_OF(lo + 2 * width, n);
            size_t a = lo, b = mid;
            for (size_t k = lo; k < hi; k++) {
                bool take_b = b < hi && (a == mid || pair_less(s, from[b], from[a]));
                to[k] = take_b ? from[b++] : from[a++];
            }
        }
        uint32_t *swap = from;
        from = to;
        to = swap;
    }
    mem_free(to);
    *order = from;
    return ERR_OK;
}
