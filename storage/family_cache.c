/* storage/family_cache.c: see the header. A table of chains, and a list from the newest to the oldest rows. Two threads
 * that miss the same family both decode it; the second finds the first's. */
#include "storage/family_cache.h"

#include "base/lock.h"
#include "storage/family.h"

#define BUCKETS 256
/* So many families in a row that left with few of their members read: single members are cheaper for a while. */
#define POOR_MAX 8
#define SINGLES 4096

struct family_rows {
    struct family_cache *cache;
    struct family_key key;
    struct family_rows *next;          /* of its bucket */
    struct family_rows *newer, *older; /* in the list */
    size_t bytes, n, n_members;
    uint32_t pins, n_used; /* guarded by the cache's lock */
    bool has_count;
    double v[];
};

struct family_cache {
    struct lock lock; /* rank LOCK_CACHE; guards all below */
    struct family_rows *buckets[BUCKETS];
    struct family_rows *newest, *oldest;
    size_t bytes, bytes_max;
    unsigned n_poor, n_singles;
};

struct family_cache *family_cache_new(size_t bytes_max)
{
    struct family_cache *cache = mem_calloc(MEM_QUERY, 1, sizeof(*cache));
    if (!cache) return NULL;
    lock_init(&cache->lock, LOCK_CACHE);
    cache->bytes_max = bytes_max;
    return cache;
}

void family_cache_free(struct family_cache *cache)
{
    if (!cache) return;
    for (struct family_rows *r = cache->newest, *older; r; r = older) {
        ASSERT(r->pins == 0);
        older = r->older;
        mem_free(r);
    }
    lock_destroy(&cache->lock);
    mem_free(cache);
}

/* ---- table and list; the lock is held ---- */

static struct family_rows **bucket_of(struct family_cache *cache, struct family_key key)
{
    uint64_t hash = (key.item * 0x9E3779B97F4A7C15u) ^ key.block;
    return &cache->buckets[(hash >> 32) % BUCKETS];
}

static struct family_rows *find(struct family_cache *cache, struct family_key key)
{
    struct family_rows *r = *bucket_of(cache, key);
    while (r && (r->key.item != key.item || r->key.block != key.block)) r = r->next;
    return r;
}

static void add(struct family_cache *cache, struct family_rows *r)
{
    struct family_rows **bucket = bucket_of(cache, r->key);
    r->next = *bucket;
    *bucket = r;
    r->older = cache->newest;
    if (cache->newest) cache->newest->newer = r;
    cache->newest = r;
    if (!cache->oldest) cache->oldest = r;
    cache->bytes += r->bytes;
}

static void take_out(struct family_cache *cache, struct family_rows *r)
{
    struct family_rows **link = bucket_of(cache, r->key);
    while (*link != r) link = &(*link)->next;
    *link = r->next;
    *(r->newer ? &r->newer->older : &cache->newest) = r->older;
    *(r->older ? &r->older->newer : &cache->oldest) = r->newer;
    cache->bytes -= r->bytes;
}

static void judge(struct family_cache *cache, const struct family_rows *r)
{
    cache->n_poor = r->n_used < r->n_members / 4 + 1 ? cache->n_poor + 1 : 0;
    if (cache->n_poor < POOR_MAX) return;
    cache->n_poor = 0;
    cache->n_singles = SINGLES;
}

/* Returns what is to be freed, as a chain by `next`. */
static struct family_rows *evict(struct family_cache *cache)
{
    struct family_rows *chain = NULL;
    for (struct family_rows *r = cache->oldest, *newer; r && cache->bytes > cache->bytes_max;
         r = newer) {
        newer = r->newer;
        if (r->pins) continue;
        judge(cache, r);
        take_out(cache, r);
        r->next = chain;
        chain = r;
    }
    return chain;
}

static struct family_rows *pin(struct family_rows *r)
{
    r->pins++;
    r->n_used++;
    return r;
}

/* ---- */

static void free_chain(struct family_rows *chain)
{
    for (struct family_rows *next; chain; chain = next) {
        next = chain->next;
        mem_free(chain);
    }
}

static enum err_code decode(struct family_cache *cache, struct family_key key, struct bytes chunk,
                            size_t n, struct family_rows **out, struct err *err)
{
    size_t n_members, n_values, bytes;
    bool has_count;
    enum err_code rc = family_peek(chunk, &n_members, &has_count, err);
    if (rc) return rc;
    struct family_rows *r = NULL;
    if (mem_mul(n_members, n, &n_values) && mem_mul(n_values, sizeof(double), &bytes))
        r = mem_alloc(MEM_QUERY, sizeof(*r) + bytes);
    *out = NULL;
    if (!r) return ERR_OK; /* one member may still fit */
    *r = (struct family_rows){.cache = cache,
                              .key = key,
                              .bytes = sizeof(*r) + bytes,
                              .n = n,
                              .n_members = n_members,
                              .has_count = has_count};
    rc = family_decode_all(chunk, n, r->v, err);
    if (rc) {
        mem_free(r);
        return rc;
    }
    *out = r;
    return ERR_OK;
}

enum err_code family_cache_get(struct family_cache *cache, struct family_key key,
                               struct bytes chunk, size_t n, struct family_rows **out,
                               struct err *err)
{
    *out = NULL;
    lock_take(&cache->lock);
    struct family_rows *found = find(cache, key);
    bool single = !found && cache->n_singles > 0;
    if (single) cache->n_singles--;
    if (found) *out = pin(found);
    lock_release(&cache->lock);
    if (found || single) return ERR_OK;
    struct family_rows *fresh;
    enum err_code rc = decode(cache, key, chunk, n, &fresh, err);
    if (rc || !fresh) return rc;
    lock_take(&cache->lock);
    found = find(cache, key);
    if (!found) add(cache, fresh);
    *out = pin(found ? found : fresh);
    struct family_rows *chain = evict(cache);
    lock_release(&cache->lock);
    if (found) mem_free(fresh);
    free_chain(chain);
    return ERR_OK;
}

enum err_code family_rows_member(const struct family_rows *rows, unsigned member, const double **v,
                                 struct err *err)
{
    if (member == FAMILY_COUNT ? !rows->has_count : member >= rows->n_members)
        return err_set(err, ERR_CORRUPT, "a family chunk of %zu members has no member %u",
                       rows->n_members, member);
    size_t row = member == FAMILY_COUNT ? rows->n_members - 1 : member;
    *v = rows->v + row * rows->n;
    return ERR_OK;
}

void family_rows_release(struct family_rows *rows)
{
    if (!rows) return;
    struct family_cache *cache = rows->cache;
    lock_take(&cache->lock);
    /* All members were read: hardly any will be again, and what comes next finds the memory warm. */
    bool done = --rows->pins == 0 && rows->n_used >= rows->n_members;
    if (done) take_out(cache, rows);
    lock_release(&cache->lock);
    if (done) mem_free(rows);
}
