/* engine/cells.h: memory of small long-lived things: slab cells, and mem_alloc for what is larger than a cell.
 * Threads: the caller's lock guards a `struct cells`; a `struct cell_pool` brings its own. */
#ifndef QUIPU_ENGINE_CELLS_H
#define QUIPU_ENGINE_CELLS_H

#include "base/lock.h"
#include "base/slab.h"

struct cells {
    struct slab *slab;
    enum mem_owner owner;
};

MUST_USE static inline bool cells_init(struct cells *cells, struct page_pool *pages)
{
    *cells = (struct cells){slab_new(pages), page_pool_owner(pages)};
    return cells->slab != NULL;
}
/* All cells must have been put back, or be no larger than SLAB_CELL_BYTES_MAX. */
static inline void cells_release(struct cells *cells)
{
    slab_free(cells->slab);
    cells->slab = NULL;
}
/* What a request of `size` bytes really takes. */
static inline size_t cells_size(size_t size)
{
    return size <= SLAB_CELL_BYTES_MAX ? slab_cell_bytes(size) : size;
}
/* NULL when memory is out. */
MUST_USE static inline void *cells_get(struct cells *cells, size_t size)
{
    return size <= SLAB_CELL_BYTES_MAX ? slab_get(cells->slab, size)
                                       : mem_alloc(cells->owner, size);
}
/* `size` as given to cells_get, or cells_size() of it. NULL: no-op. */
static inline void cells_put(struct cells *cells, void *p, size_t size)
{
    if (!p) return;
    if (size <= SLAB_CELL_BYTES_MAX)
        slab_put(cells->slab, p, size);
    else
        mem_free(p);
}

struct cell_pool {
    struct lock lock; /* rank LOCK_SLAB; guards cells */
    struct cells cells;
    struct page_pool *pages;
};

MUST_USE static inline bool cell_pool_init(struct cell_pool *pool, enum mem_owner owner)
{
    lock_init(&pool->lock, LOCK_SLAB);
    pool->pages = page_pool_new(owner);
    return pool->pages && cells_init(&pool->cells, pool->pages);
}
static inline void cell_pool_release(struct cell_pool *pool)
{
    if (pool->cells.slab) cells_release(&pool->cells);
    page_pool_free(pool->pages);
    lock_destroy(&pool->lock);
}
MUST_USE static inline void *cell_pool_get(struct cell_pool *pool, size_t size)
{
    lock_take(&pool->lock);
    void *p = cells_get(&pool->cells, size);
    lock_release(&pool->lock);
    return p;
}
static inline void cell_pool_put(struct cell_pool *pool, void *p, size_t size)
{
    if (!p) return;
    lock_take(&pool->lock);
    cells_put(&pool->cells, p, size);
    lock_release(&pool->lock);
}

#endif
