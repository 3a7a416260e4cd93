/* base/mem.h: the only caller of malloc. Bytes are counted per owner, and an allocation can be made
 * to fail by tests. Threads: any.
 * Each allocation carries a 16-byte header; many small long-lived things belong in a slab. */
#ifndef QUIPU_BASE_MEM_H
#define QUIPU_BASE_MEM_H

#include "base/err.h"

enum mem_owner {
    MEM_BASE,
    MEM_HTTP,
    MEM_WAL,
    MEM_STORAGE,
    MEM_CATALOG,
    MEM_REGISTRY, /* labels, index and lookup tables of live series */
    MEM_HEAD,     /* samples not yet in blocks */
    MEM_INGEST,
    MEM_QUERY,
    MEM_TOOLS,
    MEM_RESULTS, /* cached answers of queries */
    MEM_OWNERS_N
};

/* Uninitialised bytes, 16-aligned; NULL when memory is out. size 0 gives a pointer that may be freed. */
MUST_USE void *mem_alloc(enum mem_owner owner, size_t size);
/* Zeroed array; NULL also when n * size overflows. */
MUST_USE void *mem_calloc(enum mem_owner owner, size_t n, size_t size);
/* Like realloc; keeps the owner of `p`, `owner` counts when p is NULL. On NULL `p` is untouched. */
MUST_USE void *mem_realloc(enum mem_owner owner, void *p, size_t size);
void mem_free(void *p); /* NULL: no-op */
MUST_USE char *mem_strdup(enum mem_owner owner, const char *z);

/* Whole pages from the operating system: `size` a multiple of MEM_PAGE_BYTES, aligned to it, zeroed. Freed
 * they leave the process at once, which malloc's heap does not promise. NULL when memory is out. */
#define MEM_PAGE_BYTES 65536
MUST_USE void *mem_map(enum mem_owner owner, size_t size);
/* The same for a multiple of 2 MiB, aligned to that, which the system is asked to back with huge pages. */
#define MEM_HUGE_BYTES ((size_t)2 << 20)
MUST_USE void *mem_map_huge(enum mem_owner owner, size_t size);
/* As given to mem_map or mem_map_huge; NULL: no-op. */
void mem_unmap(enum mem_owner owner, void *p, size_t size);

/* *out = a * b. False when that overflows. */
MUST_USE bool mem_mul(size_t a, size_t b, size_t *out);
/* Grows an array to hold at least n_needed items, by half at a time. *items may be NULL with *cap 0.
 * ERR_NO_MEMORY leaves all as it was. */
MUST_USE enum err_code mem_grow(enum mem_owner owner, void **items, size_t *cap, size_t n_needed,
                                size_t item_size, struct err *err);

size_t mem_bytes(enum mem_owner owner); /* in use now */
size_t mem_bytes_total(void);
const char *mem_owner_name(enum mem_owner owner);

/* Bounds what one owner has in all; 0: no bound, as at first. Past it its allocations fail as if memory were out, so
 * this is for owners that answer a failure by giving up one request: queries, bodies. May change at any time. */
void mem_set_limit(enum mem_owner owner, size_t bytes_max);
size_t mem_limit(enum mem_owner owner);

/* Settings of the C library's heap for a server: few arenas (each keeps freed memory for itself), and large pieces
 * straight from the system, so that they go back to it. Once, before threads. */
void mem_tune_heap(void);
/* Gives the system what the heap keeps of freed memory. Some milliseconds; other threads' allocations may wait. */
void mem_trim_heap(void);

/* For tests: when set, called before each allocation; true makes it fail. Not thread-safe to change. */
void mem_set_fail_hook(bool (*hook)(void *ctx, size_t size), void *ctx);

#endif
