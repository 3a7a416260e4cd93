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
struct bytes page_bytes(const struct page *page);
void page_release(struct page *page); /* NULL: no-op */

#endif
