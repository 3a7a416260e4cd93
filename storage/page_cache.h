/* storage/page_cache.h: verified, decompressed pages of block files, bounded in bytes, shared by all blocks. A page
 * is checked when it is read from disk, so a first answer verifies what it reads and no more, and no file is
 * mapped: a read error or a truncated file is an error of that query. Threads: any. */
#ifndef QUIPU_STORAGE_PAGE_CACHE_H
#define QUIPU_STORAGE_PAGE_CACHE_H

#include "base/env.h"

struct page_cache;
struct page; /* pinned while held */

/* bytes_max: of pages not pinned by anybody; pinned ones may go beyond it. */
MUST_USE enum err_code page_cache_new(const struct env *env, size_t bytes_max,
                                      struct page_cache **out, struct err *err);
void page_cache_free(struct page_cache *cache);
/* Another bound, at once: a lower one drops pages. */
void page_cache_set_max(struct page_cache *cache, size_t bytes_max);
/* A number for a file that is opened now; pages are known by it and their number within the file. */
uint64_t page_cache_file_id(struct page_cache *cache);
/* Reads, checks and unpacks a page: *bytes from mem_alloc(MEM_STORAGE), the cache frees it. */
typedef enum err_code page_load_fn(void *ctx, uint32_t page_no, uint8_t **bytes, size_t *len,
                                   struct err *err);
/* The page, pinned; loaded if it is not there, by one thread while others wait. A failure is not kept. */
MUST_USE enum err_code page_cache_get(struct page_cache *cache, uint64_t file_id, uint32_t page_no,
                                      page_load_fn *load, void *ctx, struct page **out,
                                      struct err *err);
/* Frees all pages of a file that is closed; none may be pinned or loading. */
void page_cache_forget(struct page_cache *cache, uint64_t file_id);
struct bytes page_bytes(const struct page *page);
void page_release(struct page *page); /* NULL: no-op */

#endif
