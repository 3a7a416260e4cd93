/* storage/page_file.h: the container of a block: sections of items in checksummed pages, a footer, a trailer
 * (storage/format.h). Knows nothing of what items mean. Version 2 is written, 1 and 2 are read; in the page cache a page
 * is in one form: u32 n, u32 end of each item from the first one's start, the items.
 * Threads: a writer is its owner's; a page_file may be read by many at once. */
#ifndef QUIPU_STORAGE_PAGE_FILE_H
#define QUIPU_STORAGE_PAGE_FILE_H

#include "base/bytes.h"
#include "storage/format.h"
#include "storage/page_cache.h"
#include "storage/page_pack.h"

struct page_entry {
    uint64_t off; /* of the page's header in the file */
    uint32_t stored_len, raw_len;
    uint32_t first, n_items; /* items first..first + n_items - 1 */
    uint8_t codec;
};

struct page_section {
    uint8_t id; /* enum block_section; 0: not there */
    uint64_t off, bytes;
    uint64_t raw_bytes; /* of the pages unpacked; when reading */
    struct page_entry *pages;
    size_t n_pages, cap;
    uint32_t n_items;
    uint32_t first_page_no; /* pages are numbered across the file for the cache */
};

/* ---- writing: one section after the other ---- */

struct page_writer {
    struct file *file;
    uint64_t off;     /* of the next page */
    struct buf out;   /* written pages that wait for one larger write */
    struct buf items; /* of the open page, one behind the other */
    struct buf lens;  /* a varint each */
    uint32_t n_items; /* of the open page */
    struct buf raw;   /* scratch: a page before it is packed */
    struct page_packer packer;
    size_t page_bytes; /* of the open section */
    struct page_section sections[BLOCK_SECTIONS];
    size_t n_sections;
};

/* Writes the header. The file stays the caller's. */
MUST_USE enum err_code page_writer_init(struct page_writer *w, struct file *file,
                                        enum page_effort effort, struct err *err);
void page_writer_begin(struct page_writer *w, enum block_section id, size_t page_bytes);
/* ERR_LIMIT: larger than PAGE_ITEM_BYTES_MAX, or too many items. */
MUST_USE enum err_code page_writer_item(struct page_writer *w, struct bytes item, struct err *err);
MUST_USE enum err_code page_writer_end(struct page_writer *w, struct err *err);
/* Footer (`head`, then the page table) and trailer. *size: of the whole file. */
MUST_USE enum err_code page_writer_finish(struct page_writer *w, struct bytes head, uint64_t *size,
                                          struct err *err);
void page_writer_release(struct page_writer *w);

/* ---- reading ---- */

struct page_file {
    struct file *file;
    struct page_cache *cache;
    uint64_t file_id; /* in the cache */
    uint64_t size;
    uint32_t version;
    uint32_t n_pages;
    struct page_section sections[BLOCK_SECTIONS + 1]; /* by id */
    uint8_t *footer;                                  /* head and page table */
    size_t footer_len;
};

/* Checks header, trailer and footer. parse_head reads the footer's head from `r`. Takes over `file` in any case. */
typedef enum err_code page_head_fn(void *ctx, struct reader *r, struct err *err);
MUST_USE enum err_code page_file_init(struct page_file *pf, struct file *file,
                                      struct page_cache *cache, page_head_fn *parse_head, void *ctx,
                                      struct err *err);
void page_file_release(struct page_file *pf);

/* A place in a section; keeps its page pinned, so that items close by need no look-up. */
struct page_cursor {
    const struct page_section *section; /* NULL: nowhere */
    const struct page_entry *entry;
    struct page *page;
};
/* Item `idx` of a section; valid until the cursor moves on or is released. ERR_CORRUPT also when there is no such
 * item. */
MUST_USE enum err_code page_file_item(struct page_file *pf, struct page_cursor *cursor,
                                      enum block_section id, uint64_t idx, struct bytes *item,
                                      struct err *err);
void page_cursor_release(struct page_cursor *cursor);
/* Reads the page from disk and checks all of it, past the cache. */
MUST_USE enum err_code page_file_check(struct page_file *pf, enum block_section id, size_t page,
                                       struct err *err);
/* Adds section and place in the file to an error about an item. */
enum err_code page_cursor_context(const struct page_file *pf, const struct page_cursor *cursor,
                                  struct err *err);
const char *section_name(enum block_section id);

#endif
