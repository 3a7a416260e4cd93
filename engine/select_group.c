/* engine/select_group.c: which series of a select go together when only some of their labels count: what an aggregation
 * asks. Labels of blocks are compared as numbers. */
#include "engine/select_private.h"

struct group {
    uint64_t hash;
    size_t off, n; /* its pairs */
};
struct groups {
    struct engine_select *sel;
    const struct label_names *names;
    struct label_reader **readers; /* by block */
    struct group *items;
    size_t n, cap;
    uint32_t *slots; /* group + 1; a power of two of them, at most half used */
    size_t n_slots;
    uint32_t *pairs; /* of all groups, then those of the series at hand */
    size_t n_pairs, pairs_cap;
};

static enum err_code put_pairs(struct groups *g, const uint32_t *pairs, size_t n, struct err *err)
{
    void *to = g->pairs;
    enum err_code rc =
        mem_grow(MEM_QUERY, &to, &g->pairs_cap, g->n_pairs + n, sizeof(*g->pairs), err);
    g->pairs = to;
    if (!rc && n) memcpy(g->pairs + g->n_pairs, pairs, n * sizeof(*pairs));
    return rc;
}

/* The kept labels of a series of the head, behind those of the groups. */
static enum err_code head_pairs(struct groups *g, size_t i, size_t *n, struct err *err)
{
    struct labels labels = select_labels(g->sel, i);
    void *pairs = g->pairs;
    enum err_code rc =
        mem_grow(MEM_QUERY, &pairs, &g->pairs_cap, g->n_pairs + labels.n, sizeof(*g->pairs), err);
    g->pairs = pairs;
    *n = 0;
    for (size_t k = 0; !rc && k < labels.n; k++) {
        const struct label *l = &labels.items[k];
        if (!label_names_keep(g->names, l->name)) continue;
        rc = symbols_add(&g->sel->symbols, l->name, l->value, &g->pairs[g->n_pairs + (*n)++], err);
    }
    return rc;
}

static enum err_code series_pairs(struct groups *g, size_t i, size_t *n, struct err *err)
{
    const struct series_ref *ref = g->sel->items[i].first;
    if (!ref) return head_pairs(g, i, n, err);
    struct label_reader **reader = &g->readers[ref->block];
    enum err_code rc = ERR_OK;
    if (!*reader)
        rc = label_reader_new(g->sel->view->blocks[ref->block], &g->sel->symbols, g->names, reader,
                              err);
    const uint32_t *pairs;
    if (!rc) rc = label_reader_series(*reader, ref->id, &pairs, n, err);
    return rc ? rc : put_pairs(g, pairs, *n, err);
}

static uint64_t hash_pairs(const uint32_t *pairs, size_t n)
{
    uint64_t hash = n;
    for (size_t i = 0; i < n; i++) {
        hash = (hash ^ pairs[i]) * 0x9E3779B97F4A7C15u;
        hash ^= hash >> 32;
    }
    return hash;
}

static enum err_code grow(struct groups *g, struct err *err)
{
    if (g->n * 2 < g->n_slots) return ERR_OK;
    size_t n_slots = g->n_slots ? g->n_slots * 2 : 64;
    uint32_t *slots = mem_calloc(MEM_QUERY, n_slots, sizeof(*slots));
    if (!slots) return err_set(err, ERR_NO_MEMORY, "no memory for %zu groups", g->n);
    for (size_t i = 0; i < g->n; i++) {
        size_t at = g->items[i].hash & (n_slots - 1);
        while (slots[at]) at = (at + 1) & (n_slots - 1);
        slots[at] = (uint32_t)i + 1;
    }
    mem_free(g->slots);
    g->slots = slots;
    g->n_slots = n_slots;
    return ERR_OK;
}

/* The group of the n pairs behind those of the groups. */
static enum err_code find_group(struct groups *g, size_t n, uint32_t *number, struct err *err)
{
    enum err_code rc = grow(g, err);
    if (rc) return rc;
    const uint32_t *pairs = g->pairs + g->n_pairs;
    uint64_t hash = hash_pairs(pairs, n);
    size_t at = hash & (g->n_slots - 1);
    for (; g->slots[at]; at = (at + 1) & (g->n_slots - 1)) {
        const struct group *group = &g->items[g->slots[at] - 1];
        if (group->hash != hash || group->n != n ||
            (n && memcmp(g->pairs + group->off, pairs, n * sizeof(*pairs)) != 0))
            continue;
        *number = g->slots[at] - 1;
        return ERR_OK;
    }
    void *items = g->items;
    rc = mem_grow(MEM_QUERY, &items, &g->cap, g->n + 1, sizeof(*g->items), err);
    g->items = items;
    if (rc) return rc;
    *number = (uint32_t)g->n;
    g->items[g->n++] = (struct group){hash, g->n_pairs, n};
    g->slots[at] = *number + 1;
    g->n_pairs += n;
    return ERR_OK;
}

static enum err_code number_all(struct groups *g, uint32_t *numbers, struct err *err)
{
    enum err_code rc = ERR_OK;
    for (size_t i = 0; !rc && i < g->sel->n; i++) {
        size_t n = 0;
        rc = series_pairs(g, i, &n, err);
        if (!rc) rc = find_group(g, n, &numbers[i], err);
        if (!rc && i % SELECT_SERIES_PER_POLL == 0) rc = select_check_bounds(g->sel, 0, err);
    }
    return rc;
}

enum err_code select_groups(struct engine_select *sel, const struct label_names *names,
                            uint32_t *numbers, struct err *err)
{
    if (names->only && !names->n) { /* all are one */
        if (sel->n) memset(numbers, 0, sel->n * sizeof(*numbers));
        return ERR_OK;
    }
    struct groups g = {.sel = sel, .names = names};
    enum err_code rc = select_want_tables(sel, err);
    g.readers = mem_calloc(MEM_QUERY, sel->view->n_blocks, sizeof(struct label_reader *));
    if (!rc && !g.readers) rc = err_set(err, ERR_NO_MEMORY, "no memory for groups");
    if (!rc) rc = number_all(&g, numbers, err);
    if (UNLIKELY(rc)) tenant_note_named(sel->tenant, sel->view->blocks, sel->view->n_blocks, err);
    for (size_t i = 0; g.readers && i < sel->view->n_blocks; i++) label_reader_free(g.readers[i]);
    mem_free(g.readers);
    mem_free(g.items);
    mem_free(g.slots);
    mem_free(g.pairs);
    return rc;
}
