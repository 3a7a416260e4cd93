/* base/page_pool.h: pages of 64 KiB for slabs and the like, out of extents of 2 MiB that the system may back with one
 * huge page: fewer page faults, and fewer misses of the TLB when samples are spread over much memory.
 * An extent goes back to the system when all its pages are free; one spare is kept. Threads: any. */
#ifndef QUIPU_BASE_PAGE_POOL_H
#define QUIPU_BASE_PAGE_POOL_H

#include "base/mem.h"

#define PAGE_POOL_PAGE_BYTES MEM_PAGE_BYTES

struct page_pool; /* from page_pool_new() */

/* What a page begins with; the pool's, the rest is its user's. */
struct pool_page {
    struct page_extent *extent;
};

MUST_USE struct page_pool *page_pool_new(enum mem_owner owner); /* NULL when memory is out */
void page_pool_free(struct page_pool *pool);                    /* with all pages; NULL: no-op */
enum mem_owner page_pool_owner(const struct page_pool *pool);
/* A page aligned to its size, uninitialised behind its struct pool_page; NULL when memory is out. */
MUST_USE struct pool_page *page_pool_get(struct page_pool *pool);
void page_pool_put(struct page_pool *pool, struct pool_page *page);

#endif
