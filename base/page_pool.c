/* base/page_pool.c: see the header. Pages come from the extent that got one back last, or else from the oldest that
 * has some, so that few extents stay partly used. */
#include "base/page_pool.h"

#include "base/lock.h"

#define PAGES 32 /* of an extent */
#define EXTENT_BYTES ((size_t)PAGES * PAGE_POOL_PAGE_BYTES)
static_assert(EXTENT_BYTES == MEM_HUGE_BYTES, "one huge page");

struct page_extent {
    struct page_extent *next, *prev; /* in the pool's list */
    struct page_pool *pool;
    uint8_t *pages;
    uint32_t free; /* a bit per page; the extent is in the list exactly while it is not 0 */
};

struct page_pool {
    enum mem_owner owner;
    struct lock lock;              /* rank LOCK_LEAF; guards what follows, and extents */
    struct page_extent *with_free; /* those with free pages */
    size_t n_extents, n_spare;     /* n_spare: wholly free ones */
};

struct page_pool *page_pool_new(enum mem_owner owner)
{
    struct page_pool *pool = mem_calloc(owner, 1, sizeof(*pool));
    if (!pool) return NULL;
    pool->owner = owner;
    lock_init(&pool->lock, LOCK_LEAF);
    return pool;
}

enum mem_owner page_pool_owner(const struct page_pool *pool)
{
    return pool->owner;
}

static void extent_link(struct page_pool *pool, struct page_extent *extent)
{
    extent->prev = NULL;
    extent->next = pool->with_free;
    if (extent->next) extent->next->prev = extent;
    pool->with_free = extent;
}

static void extent_unlink(struct page_pool *pool, struct page_extent *extent)
{
    if (extent->prev)
        extent->prev->next = extent->next;
    else
        pool->with_free = extent->next;
    if (extent->next) extent->next->prev = extent->prev;
}

static struct page_extent *extent_new(struct page_pool *pool)
{
    struct page_extent *extent = mem_calloc(pool->owner, 1, sizeof(*extent));
    if (!extent) return NULL;
    extent->pages = mem_map_huge(pool->owner, EXTENT_BYTES);
    if (!extent->pages) {
        mem_free(extent);
        return NULL;
    }
    extent->pool = pool;
    extent->free = UINT32_MAX;
    return extent;
}

static void extent_free(struct page_extent *extent)
{
    mem_unmap(extent->pool->owner, extent->pages, EXTENT_BYTES);
    mem_free(extent);
}

void page_pool_free(struct page_pool *pool)
{
    if (!pool) return;
    ASSERT(pool->n_extents == pool->n_spare);
    for (struct page_extent *extent = pool->with_free, *next; extent; extent = next) {
        next = extent->next;
        extent_free(extent);
    }
    lock_destroy(&pool->lock);
    mem_free(pool);
}

struct pool_page *page_pool_get(struct page_pool *pool)
{
    lock_take(&pool->lock);
    struct page_extent *extent = pool->with_free;
    if (!extent) {
        /* Under the lock: others would only map one more each. */
        extent = extent_new(pool);
        if (extent) {
            extent_link(pool, extent);
            pool->n_extents++;
            pool->n_spare++;
        }
    }
    struct pool_page *page = NULL;
    if (extent) {
        pool->n_spare -= extent->free == UINT32_MAX;
        unsigned i = (unsigned)__builtin_ctz(extent->free);
        extent->free &= extent->free - 1;
        if (!extent->free) extent_unlink(pool, extent);
        page = (struct pool_page *)(void *)(extent->pages + i * PAGE_POOL_PAGE_BYTES);
        page->extent = extent;
    }
    lock_release(&pool->lock);
    return page;
}

void page_pool_put(struct page_pool *pool, struct pool_page *page)
{
    struct page_extent *extent = page->extent, *gone = NULL;
    ASSERT(extent->pool == pool);
    size_t i = (size_t)((uint8_t *)page - extent->pages) / PAGE_POOL_PAGE_BYTES;
    ASSERT(i < PAGES);
    lock_take(&pool->lock);
    ASSERT(!(extent->free >> i & 1));
    if (!extent->free) extent_link(pool, extent);
    extent->free |= UINT32_C(1) << i;
    if (extent->free == UINT32_MAX && pool->n_spare++ > 0) {
        extent_unlink(pool, extent);
        pool->n_spare--;
        pool->n_extents--;
        gone = extent;
    }
    lock_release(&pool->lock);
    if (gone) extent_free(gone);
}
