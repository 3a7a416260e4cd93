/* storage/page_cache.c: shards, each a lock, a hash table and a list of its unpinned pages in order of their last
 * use. Only unpinned pages count against the bound and can go; a pinned page is in the table but in no list. */
#include "storage/page_cache.h"

#include <stdatomic.h>

#include "base/hash.h"
#include "base/lock.h"
#include "base/metric.h"

#define SHARDS 16
#define BUCKETS_MIN 64
#define PAGE_BYTES_USUAL 16384

struct page {
    struct page *next;          /* in its bucket */
    struct page *newer, *older; /* while unpinned: in the shard's list */
    struct shard *shard;
    uint64_t file_id;
    uint32_t page_no;
    uint32_t pins;
    bool loading; /* waiters sleep on shard->loaded; pins counts them and the loader */
    bool failed;  /* the load failed; out of the table already */
    uint8_t *bytes;
    size_t len;
};

struct shard {
    struct lock
        lock; /* rank LOCK_CACHE; guards all of the shard and its pages' links, pins and states */
    struct cond loaded;
    struct page_cache *cache;
    struct page **buckets; /* n_buckets, a power of two, for pages of the usual size: fixed, since
                            * no memory is taken under the lock */
    size_t n_buckets;
    struct page *newest, *oldest;
    size_t idle_bytes; /* of the pages in the list; <= cache->shard_bytes_max after each call */
};

struct page_cache {
    struct shard shards[SHARDS];
    _Atomic size_t shard_bytes_max; /* relaxed: whoever misses a change applies it the next time */
    _Atomic uint64_t next_file_id;  /* relaxed: only distinct */
    _Atomic size_t bytes;           /* relaxed: for the gauge */
    struct metric *hits, *misses, *evictions, *bytes_gauge;
};

static size_t page_cost(const struct page *page)
{
    return page->len + sizeof(*page);
}

static uint64_t key_hash(uint64_t file_id, uint32_t page_no)
{
    uint64_t key[2] = {file_id, page_no};
    return hash_xxh3(key, sizeof(key));
}

static void count_bytes(struct page_cache *cache, size_t add, size_t sub)
{
    size_t now = atomic_fetch_add_explicit(&cache->bytes, add - sub, memory_order_relaxed);
    metric_set(cache->bytes_gauge, (double)(now + add - sub));
}

static void page_destroy(struct page_cache *cache, struct page *page)
{
    if (page->bytes) count_bytes(cache, 0, page_cost(page));
    mem_free(page->bytes);
    mem_free(page);
}

/* ---- the list of unpinned pages ---- */

static void list_add(struct shard *s, struct page *page)
{
    page->newer = NULL;
    page->older = s->newest;
    if (s->newest)
        s->newest->newer = page;
    else
        s->oldest = page;
    s->newest = page;
    s->idle_bytes += page_cost(page);
}

static void list_remove(struct shard *s, struct page *page)
{
    if (page->newer)
        page->newer->older = page->older;
    else
        s->newest = page->older;
    if (page->older)
        page->older->newer = page->newer;
    else
        s->oldest = page->newer;
    s->idle_bytes -= page_cost(page);
}

/* ---- the table ---- */

static struct page **bucket_of(struct shard *s, uint64_t file_id, uint32_t page_no)
{
    /* The low bits chose the shard. */
    return &s->buckets[(key_hash(file_id, page_no) >> 32) & (s->n_buckets - 1)];
}

static struct page *table_find(struct shard *s, uint64_t file_id, uint32_t page_no)
{
    struct page *page = *bucket_of(s, file_id, page_no);
    while (page && (page->file_id != file_id || page->page_no != page_no)) page = page->next;
    return page;
}

static void table_add(struct shard *s, struct page *page)
{
    struct page **bucket = bucket_of(s, page->file_id, page->page_no);
    page->next = *bucket;
    *bucket = page;
}

static void table_remove(struct shard *s, struct page *page)
{
    struct page **at = bucket_of(s, page->file_id, page->page_no);
    while (*at != page) at = &(*at)->next;
    *at = page->next;
}

/* ---- pages ---- */

/* Unlinks the oldest idle pages until the bound holds; the caller frees the chain outside the lock. */
static struct page *shard_evict(struct shard *s)
{
    struct page *chain = NULL;
    size_t max = atomic_load_explicit(&s->cache->shard_bytes_max, memory_order_relaxed);
    while (s->idle_bytes > max) {
        struct page *page = s->oldest;
        list_remove(s, page);
        table_remove(s, page);
        page->next = chain;
        chain = page;
    }
    return chain;
}

static void free_chain(struct page_cache *cache, struct page *chain)
{
    for (struct page *next; chain; chain = next) {
        next = chain->next;
        metric_inc(cache->evictions);
        page_destroy(cache, chain);
    }
}

/* One pin less; s->lock is held. Returns what must be freed outside it. */
static struct page *shard_unpin(struct shard *s, struct page *page)
{
    if (--page->pins) return NULL;
    if (page->failed) {
        page->next = NULL;
        return page;
    }
    list_add(s, page);
    return shard_evict(s);
}

void page_release(struct page *page)
{
    if (!page) return;
    struct shard *s = page->shard;
    struct page_cache *cache = s->cache;
    lock_take(&s->lock);
    struct page *chain = shard_unpin(s, page);
    lock_release(&s->lock);
    free_chain(cache, chain);
}

struct bytes page_bytes(const struct page *page)
{
    return (struct bytes){page->bytes, page->len};
}

/* The page as it is in the table, pinned, once its load has ended; NULL: not there, or the load failed. */
static struct page *shard_pin(struct shard *s, uint64_t file_id, uint32_t page_no,
                              struct page **garbage)
{
    struct page *page = table_find(s, file_id, page_no);
    *garbage = NULL;
    if (!page) return NULL;
    if (page->pins++ == 0) list_remove(s, page);
    while (page->loading) cond_wait(&s->loaded, &s->lock);
    if (!page->failed) return page;
    *garbage = shard_unpin(s, page);
    return NULL;
}

/* Loads into a page that this thread has put into the table. */
static enum err_code load_page(struct page_cache *cache, struct page *page, page_load_fn *load,
                               void *ctx, struct err *err)
{
    struct shard *s = page->shard;
    uint8_t *bytes = NULL;
    size_t len = 0;
    enum err_code rc = load(ctx, page->page_no, &bytes, &len, err);
    struct page *garbage = NULL;
    lock_take(&s->lock);
    page->bytes = bytes;
    page->len = len;
    page->loading = false;
    if (rc) {
        page->failed = true;
        table_remove(s, page);
        garbage = shard_unpin(s, page);
    }
    cond_broadcast(&s->loaded);
    lock_release(&s->lock);
    if (!rc)
        count_bytes(cache, page_cost(page), 0);
    else if (garbage)
        page_destroy(cache, garbage);
    return rc;
}

enum err_code page_cache_get(struct page_cache *cache, uint64_t file_id, uint32_t page_no,
                             page_load_fn *load, void *ctx, struct page **out, struct err *err)
{
    struct shard *s = &cache->shards[key_hash(file_id, page_no) % SHARDS];
    struct page *fresh = NULL, *garbage;
    for (;;) {
        lock_take(&s->lock);
        struct page *page = shard_pin(s, file_id, page_no, &garbage);
        if (!page && !garbage && fresh) table_add(s, fresh);
        lock_release(&s->lock);
        if (garbage) page_destroy(cache, garbage);
        if (page) {
            mem_free(fresh);
            metric_inc(cache->hits);
            *out = page;
            return ERR_OK;
        }
        if (!garbage && fresh) break;
        /* Not there: memory for it is taken outside the lock, then we look again. */
        if (!fresh) fresh = mem_alloc(MEM_STORAGE, sizeof(*fresh));
        if (!fresh) return err_set(err, ERR_NO_MEMORY, "a page of the cache");
        *fresh = (struct page){
            .shard = s, .file_id = file_id, .page_no = page_no, .pins = 1, .loading = true};
    }
    metric_inc(cache->misses);
    enum err_code rc = load_page(cache, fresh, load, ctx, err);
    if (!rc) *out = fresh;
    return rc;
}

void page_cache_forget(struct page_cache *cache, uint64_t file_id)
{
    for (size_t i = 0; i < SHARDS; i++) {
        struct shard *s = &cache->shards[i];
        struct page *chain = NULL;
        lock_take(&s->lock);
        for (struct page *page = s->newest, *older; page; page = older) {
            older = page->older;
            if (page->file_id != file_id) continue;
            list_remove(s, page);
            table_remove(s, page);
            page->next = chain;
            chain = page;
        }
        lock_release(&s->lock);
        for (struct page *next; chain; chain = next) {
            next = chain->next;
            page_destroy(cache, chain);
        }
    }
}

/* ---- the cache ---- */

uint64_t page_cache_file_id(struct page_cache *cache)
{
    return atomic_fetch_add_explicit(&cache->next_file_id, 1, memory_order_relaxed);
}

enum err_code page_cache_new(const struct env *env, size_t bytes_max, struct page_cache **out,
                             struct err *err)
{
    struct page_cache *cache = mem_calloc(MEM_STORAGE, 1, sizeof(*cache));
    if (!cache) return err_set(err, ERR_NO_MEMORY, "the page cache");
    atomic_init(&cache->shard_bytes_max, bytes_max / SHARDS);
    cache->hits = metric_counter(env->metrics, "quipu_page_cache_hits_total",
                                 "Pages of blocks found in memory.", "");
    cache->misses = metric_counter(env->metrics, "quipu_page_cache_misses_total",
                                   "Pages of blocks read from disk.", "");
    cache->evictions = metric_counter(env->metrics, "quipu_page_cache_evictions_total",
                                      "Pages of blocks that made room for others.", "");
    cache->bytes_gauge =
        metric_gauge(env->metrics, "quipu_page_cache_bytes", "Memory of the pages of blocks.", "");
    size_t n_buckets = BUCKETS_MIN;
    while (n_buckets < bytes_max / SHARDS / PAGE_BYTES_USUAL) n_buckets *= 2;
    enum err_code rc = ERR_OK;
    for (size_t i = 0; i < SHARDS; i++) {
        struct shard *s = &cache->shards[i];
        lock_init(&s->lock, LOCK_CACHE);
        cond_init(&s->loaded);
        s->cache = cache;
        s->n_buckets = n_buckets;
        s->buckets = mem_calloc(MEM_STORAGE, n_buckets, sizeof(struct page *));
        if (!s->buckets) rc = err_set(err, ERR_NO_MEMORY, "the page cache");
    }
    if (rc)
        page_cache_free(cache);
    else
        *out = cache;
    return rc;
}

void page_cache_set_max(struct page_cache *cache, size_t bytes_max)
{
    size_t max = bytes_max / SHARDS;
    size_t old = atomic_exchange_explicit(&cache->shard_bytes_max, max, memory_order_relaxed);
    for (size_t i = 0; max < old && i < SHARDS; i++) {
        struct shard *s = &cache->shards[i];
        lock_take(&s->lock);
        struct page *chain = shard_evict(s);
        lock_release(&s->lock);
        free_chain(cache, chain);
    }
}

void page_cache_free(struct page_cache *cache)
{
    if (!cache) return;
    for (size_t i = 0; i < SHARDS; i++) {
        struct shard *s = &cache->shards[i];
        for (size_t k = 0; s->buckets && k < s->n_buckets; k++) {
            for (struct page *page = s->buckets[k], *next; page; page = next) {
                next = page->next;
                ASSERT(page->pins == 0);
                page_destroy(cache, page);
            }
        }
        mem_free(s->buckets);
        cond_destroy(&s->loaded);
        lock_destroy(&s->lock);
    }
    mem_free(cache);
}
