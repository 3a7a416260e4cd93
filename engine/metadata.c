/* engine/metadata.c: types, units and help texts of metric families. Senders repeat them every minute: a table of
 * hashes tells what the catalog has already, so that only news costs a transaction. */
#include <stdlib.h>

#include "base/hash.h"
#include "engine/engine_private.h"

/* Of a tenant. Descriptions are a courtesy: further ones are left out, and those that are known still change. */
#define FAMILIES_MAX 50000

struct metadata_entry {
    uint64_t family, content; /* hashes */
};
struct metadata_seen {
    struct metadata_entry *items; /* sorted by family */
    size_t n, cap;
};

static uint64_t hash_str(uint64_t seed, struct str s)
{
    uint64_t parts[2] = {seed, hash_xxh3(s.p, s.len)};
    return hash_xxh3(parts, sizeof(parts));
}

static struct metadata_entry entry_of(const struct catalog_metadata *m)
{
    uint64_t family = hash_str(0, m->family);
    return (struct metadata_entry){family,
                                   hash_str(hash_str(hash_str(family, m->type), m->unit), m->help)};
}

static size_t seen_search(const struct metadata_seen *seen, uint64_t family)
{
    size_t lo = 0, hi = seen->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (seen->items[mid].family < family)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static bool seen_has(const struct metadata_seen *seen, struct metadata_entry entry)
{
    size_t at = seen_search(seen, entry.family);
    return at < seen->n && seen->items[at].family == entry.family &&
           seen->items[at].content == entry.content;
}

static bool seen_knows(const struct metadata_seen *seen, uint64_t family)
{
    size_t at = seen_search(seen, family);
    return at < seen->n && seen->items[at].family == family;
}

static enum err_code seen_put(struct metadata_seen *seen, struct metadata_entry entry,
                              struct err *err)
{
    size_t at = seen_search(seen, entry.family);
    if (at < seen->n && seen->items[at].family == entry.family) {
        seen->items[at] = entry;
        return ERR_OK;
    }
    void *items = seen->items;
    enum err_code rc = mem_grow(MEM_REGISTRY, &items, &seen->cap, seen->n + 1, sizeof(entry), err);
    seen->items = items;
    if (rc) return rc;
    memmove(&seen->items[at + 1], &seen->items[at], (seen->n - at) * sizeof(entry));
    seen->items[at] = entry;
    seen->n++;
    return ERR_OK;
}

static enum err_code note_stored(void *ctx, const struct catalog_metadata *item, struct err *err)
{
    return seen_put(ctx, entry_of(item), err);
}

/* Under the lock. */
static enum err_code seen_load(struct tenant *t, struct err *err)
{
    if (t->metadata) return ERR_OK;
    struct metadata_seen *seen = mem_calloc(MEM_REGISTRY, 1, sizeof(*seen));
    if (!seen) return err_set(err, ERR_NO_MEMORY, "no memory for metadata");
    enum err_code rc = catalog_metadata(t->engine->catalog, t->incarnation, note_stored, seen, err);
    if (rc) {
        mem_free(seen->items);
        mem_free(seen);
        return rc;
    }
    t->metadata = seen;
    return ERR_OK;
}

void tenant_metadata_free(struct tenant *t)
{
    if (!t->metadata) return;
    mem_free(t->metadata->items);
    mem_free(t->metadata);
    t->metadata = NULL;
}

static enum err_code put_locked(struct tenant *t, const struct catalog_metadata *items, size_t n,
                                struct catalog_metadata *news, struct err *err)
{
    size_t n_news = 0, n_families = 0;
    enum err_code rc = seen_load(t, err);
    for (size_t i = 0; !rc && i < n; i++) {
        struct metadata_entry entry = entry_of(&items[i]);
        if (seen_has(t->metadata, entry)) continue;
        if (!seen_knows(t->metadata, entry.family)) {
            if (t->metadata->n + n_families >= FAMILIES_MAX) continue;
            n_families++;
        }
        news[n_news++] = items[i];
    }
    if (rc || n_news == 0) return rc;
    rc = catalog_put_metadata(t->engine->catalog, t->incarnation, news, n_news, err);
    for (size_t i = 0; !rc && i < n_news; i++) rc = seen_put(t->metadata, entry_of(&news[i]), err);
    return rc;
}

enum err_code tenant_put_metadata(struct tenant *t, const struct catalog_metadata *items, size_t n,
                                  struct err *err)
{
    if (n == 0) return ERR_OK;
    struct catalog_metadata *news = mem_calloc(MEM_REGISTRY, n, sizeof(*news));
    if (!news) return err_set(err, ERR_NO_MEMORY, "no memory for metadata");
    lock_take(&t->metadata_lock);
    enum err_code rc = put_locked(t, items, n, news, err);
    lock_release(&t->metadata_lock);
    mem_free(news);
    return disk_room_note(&t->engine->room, rc);
}

/* ---- reading ---- */

struct listing {
    struct str family;
    struct arena *arena;
    struct catalog_metadata *items;
    size_t n, cap;
};

static enum err_code list_one(void *ctx, const struct catalog_metadata *item, struct err *err)
{
    struct listing *l = ctx;
    if (l->family.len && !str_eq(l->family, item->family)) return ERR_OK;
    void *items = l->items;
    enum err_code rc = mem_grow(MEM_QUERY, &items, &l->cap, l->n + 1, sizeof(*l->items), err);
    l->items = items;
    if (rc) return rc;
    struct catalog_metadata copy = {
        arena_str(l->arena, item->family), arena_str(l->arena, item->type),
        arena_str(l->arena, item->unit), arena_str(l->arena, item->help)};
    if (!copy.family.p || !copy.type.p || !copy.unit.p || !copy.help.p)
        return arena_fail(l->arena, err);
    l->items[l->n++] = copy;
    return ERR_OK;
}

static int compare_family(const void *a, const void *b)
{
    return str_cmp(((const struct catalog_metadata *)a)->family,
                   ((const struct catalog_metadata *)b)->family);
}

enum err_code tenant_metadata(struct tenant *t, struct str family, struct arena *arena,
                              struct catalog_metadata **out, size_t *n, struct err *err)
{
    struct listing l = {.family = family, .arena = arena};
    enum err_code rc = catalog_metadata(t->engine->catalog, t->incarnation, list_one, &l, err);
    if (!rc) {
        if (l.n) qsort(l.items, l.n, sizeof(*l.items), compare_family);
        *n = l.n;
        *out = ARENA_ARRAY(arena, struct catalog_metadata, l.n);
        if (!*out)
            rc = arena_fail(arena, err);
        else if (l.n)
            memcpy(*out, l.items, l.n * sizeof(*l.items));
    }
    mem_free(l.items);
    return rc;
}
