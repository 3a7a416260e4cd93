/* base/slab.c: pages of 64 KiB, aligned to that, each of one size class; the page of a cell is found by its
 * address. Invariant: a page is in its class's list exactly while it has a free cell. */
#include "base/slab.h"

#if defined(__SANITIZE_ADDRESS__)
#define SLAB_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SLAB_ASAN 1
#endif
#endif
#ifdef SLAB_ASAN
#include <sanitizer/asan_interface.h>
#define POISON(p, n) __asan_poison_memory_region((p), (n))
#define UNPOISON(p, n) __asan_unpoison_memory_region((p), (n))
#else
#define POISON(p, n) ((void)(p), (void)(n))
#define UNPOISON(p, n) ((void)(p), (void)(n))
#endif

struct slab_cell {
    struct slab_cell *next_free;
};

struct slab_page {
    struct pool_page pool;
    struct slab *slab;
    struct slab_page *next, *prev;         /* in the class's list */
    struct slab_page *all_next, *all_prev; /* of the whole slab */
    struct slab_cell *free;                /* put back */
    uint16_t class_idx;
    uint16_t n_used;
    uint16_t first_unused; /* cells from here on were never handed out */
    uint16_t n_cells;
};
/* So that cells of 64 bytes and their multiples are lines of the cache. */
static_assert(sizeof(struct slab_page) == 64, "cells begin at a cache line");

/* 8, 16 … 128, then eight steps to each doubling up to 4096. */
#define N_SMALL 16
#define N_CLASSES (N_SMALL + 5 * 8)

struct slab {
    struct slab_page *partial[N_CLASSES];
    struct slab_page *all;
    size_t n_pages;
    struct page_pool *pages;
};

static uint32_t class_of(size_t size)
{
    ASSERT(size > 0);
    ASSERT(size <= SLAB_CELL_BYTES_MAX);
    if (size <= 128) return (uint32_t)((size - 1) / 8);
    /* size is in (2^k, 2^(k+1)], k >= 7; a step is 2^(k-3) */
    unsigned k = 63u - (unsigned)__builtin_clzll((unsigned long long)(size - 1));
    size_t step = ((size - 1) - ((size_t)1 << k)) >> (k - 3);
    return (uint32_t)(N_SMALL + (k - 7) * 8 + step);
}

static size_t class_bytes(uint32_t class_idx)
{
    if (class_idx < N_SMALL) return (class_idx + 1u) * 8;
    uint32_t octave = (class_idx - N_SMALL) / 8, step = (class_idx - N_SMALL) % 8;
    return ((size_t)128 << octave) + (step + 1u) * ((size_t)16 << octave);
}

size_t slab_cell_bytes(size_t size)
{
    return class_bytes(class_of(size));
}

struct slab *slab_new(struct page_pool *pages)
{
    struct slab *slab = mem_calloc(page_pool_owner(pages), 1, sizeof(*slab));
    if (slab) slab->pages = pages;
    return slab;
}

static void page_link(struct slab *slab, struct slab_page *page)
{
    struct slab_page **head = &slab->partial[page->class_idx];
    page->prev = NULL;
    page->next = *head;
    if (*head) (*head)->prev = page;
    *head = page;
}

static void page_unlink(struct slab *slab, struct slab_page *page)
{
    if (page->prev)
        page->prev->next = page->next;
    else
        slab->partial[page->class_idx] = page->next;
    if (page->next) page->next->prev = page->prev;
}

static struct slab_page *page_new(struct slab *slab, uint32_t class_idx)
{
    struct slab_page *page = (struct slab_page *)page_pool_get(slab->pages);
    if (!page) return NULL;
    size_t n_cells = (PAGE_POOL_PAGE_BYTES - sizeof(*page)) / class_bytes(class_idx);
    *page = (struct slab_page){.pool = page->pool,
                               .slab = slab,
                               .all_next = slab->all,
                               .class_idx = (uint16_t)class_idx,
                               .n_cells = (uint16_t)n_cells};
    if (slab->all) slab->all->all_prev = page;
    slab->all = page;
    slab->n_pages++;
    page_link(slab, page);
    POISON(page + 1, PAGE_POOL_PAGE_BYTES - sizeof(*page));
    return page;
}

static void page_free(struct slab *slab, struct slab_page *page)
{
    if (page->all_prev)
        page->all_prev->all_next = page->all_next;
    else
        slab->all = page->all_next;
    if (page->all_next) page->all_next->all_prev = page->all_prev;
    slab->n_pages--;
    UNPOISON(page, PAGE_POOL_PAGE_BYTES);
    page_pool_put(slab->pages, &page->pool);
}

void slab_free(struct slab *slab)
{
    if (!slab) return;
    while (slab->all) page_free(slab, slab->all);
    mem_free(slab);
}

void *slab_get(struct slab *slab, size_t size)
{
    uint32_t class_idx = class_of(size);
    size_t cell_bytes = class_bytes(class_idx);
    struct slab_page *page = slab->partial[class_idx];
    if (!page && !(page = page_new(slab, class_idx))) return NULL;
    void *cell;
    if (page->free) {
        cell = page->free;
        UNPOISON(cell, cell_bytes);
        page->free = ((struct slab_cell *)cell)->next_free;
    } else {
        ASSERT(page->first_unused < page->n_cells);
        cell = (uint8_t *)(page + 1) + page->first_unused++ * cell_bytes;
        UNPOISON(cell, cell_bytes);
    }
    if (++page->n_used == page->n_cells) page_unlink(slab, page);
    return cell;
}

void slab_put(struct slab *slab, void *cell, size_t size)
{
    struct slab_page *page =
        (struct slab_page *)((uintptr_t)cell & ~(uintptr_t)(PAGE_POOL_PAGE_BYTES - 1));
    ASSERT(page->slab == slab);
    ASSERT(page->class_idx == class_of(size));
    ASSERT(page->n_used > 0);
    if (page->n_used == page->n_cells) page_link(slab, page);
    if (--page->n_used == 0) {
        page_unlink(slab, page);
        page_free(slab, page);
        return;
    }
    struct slab_cell *free_cell = cell;
    free_cell->next_free = page->free;
    page->free = free_cell;
    POISON(cell, class_bytes(page->class_idx));
}

size_t slab_bytes(const struct slab *slab)
{
    return sizeof(*slab) + slab->n_pages * PAGE_POOL_PAGE_BYTES;
}
