/* base/slab.h: size-classed cells for many small long-lived things; no per-item header.
 * Threads: the caller's lock guards a slab. */
#ifndef QUIPU_BASE_SLAB_H
#define QUIPU_BASE_SLAB_H

#include "base/page_pool.h"

#define SLAB_CELL_BYTES_MAX 4096

struct slab; /* from slab_new() */

/* Pages come from `pages`, which must outlive it. NULL when memory is out. */
MUST_USE struct slab *slab_new(struct page_pool *pages);
void slab_free(struct slab *slab); /* with all its cells */
/* A cell of at least `size` bytes (1..SLAB_CELL_BYTES_MAX), 8-aligned, uninitialised; NULL when memory
 * is out. Classes are about 1/8 apart: at most 12.5 % are wasted. */
MUST_USE void *slab_get(struct slab *slab, size_t size);
/* `size` as given to slab_get (or any size of the same class). Wholly free pages go back. */
void slab_put(struct slab *slab, void *cell, size_t size);
/* The full size of the cell that a request of `size` bytes gets. */
size_t slab_cell_bytes(size_t size);
size_t slab_bytes(const struct slab *slab); /* pages it has, and itself */

#endif
