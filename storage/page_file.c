/* storage/page_file.c: the reading half; see the header and storage/format.h. */
#include "storage/page_file.h"

#include <inttypes.h>

#include "base/crc32c.h"

#define PAGE_ENTRY_BYTES_MIN 3 /* in the footer */
#define ITEM_OVERHEAD 4        /* its end, in memory and in version 1 */

const char *section_name(enum block_section id)
{
    switch (id) {
    case SECTION_CHUNKS: return "chunks";
    case SECTION_REFS: return "refs";
    case SECTION_LABELS: return "labels";
    case SECTION_VALUES: return "values";
    case SECTION_NAMES: return "names";
    case SECTION_POSTINGS: return "postings";
    case SECTION_TIMES: return "times";
    }
    return "unknown";
}

/* ---- opening ---- */

static enum err_code check_version(uint32_t version, struct err *err)
{
    if (version >= BLOCK_VERSION_MIN && version <= BLOCK_VERSION) return ERR_OK;
    return err_set(err, ERR_VERSION, "block version %" PRIu32 "; this build knows %d to %d",
                   version, BLOCK_VERSION_MIN, BLOCK_VERSION);
}

static enum err_code read_header(struct page_file *pf, struct err *err)
{
    uint8_t h[BLOCK_HEADER_BYTES];
    enum err_code rc = file_read_exact(pf->file, 0, h, sizeof(h), err);
    if (rc) return rc;
    if (memcmp(h, BLOCK_MAGIC, 4) != 0 || get_u32_le(h + 12) != crc32c(0, h, 12)) {
        err_set(err, ERR_CORRUPT, "not the header of a block");
        return err_at(err, pf->file->path, 0);
    }
    pf->version = get_u32_le(h + 4);
    rc = check_version(pf->version, err);
    if (!rc && get_u32_le(h + 8) != 0) rc = err_set(err, ERR_CORRUPT, "reserved bytes are set");
    return rc ? err_at(err, pf->file->path, 0) : ERR_OK;
}

static enum err_code read_trailer(struct page_file *pf, uint64_t *footer_off, uint32_t *footer_crc,
                                  struct err *err)
{
    uint64_t off = pf->size - BLOCK_TRAILER_BYTES;
    uint8_t t[BLOCK_TRAILER_BYTES];
    enum err_code rc = file_read_exact(pf->file, off, t, sizeof(t), err);
    if (rc) return rc;
    *footer_off = get_u64_le(t);
    pf->footer_len = get_u32_le(t + 8);
    *footer_crc = get_u32_le(t + 12);
    if (memcmp(t + 24, BLOCK_END_MAGIC, 8) != 0 || get_u32_le(t + 20) != crc32c(0, t, 20))
        rc = err_set(err, ERR_CORRUPT, "the trailer is damaged or cut off");
    else if (!(rc = check_version(get_u32_le(t + 16), err)) &&
             (get_u32_le(t + 16) != pf->version || *footer_off < BLOCK_HEADER_BYTES ||
              *footer_off > off || pf->footer_len != off - *footer_off ||
              pf->footer_len > BLOCK_FOOTER_BYTES_MAX))
        rc = err_set(err, ERR_CORRUPT, "the trailer points at no footer");
    return rc ? err_at(err, pf->file->path, off) : ERR_OK;
}

/* What a page takes unpacked in the cache. */
static uint64_t page_memory(uint32_t version, uint64_t raw_len, uint64_t n_items)
{
    return version == 1 ? raw_len : ITEM_OVERHEAD + n_items * ITEM_OVERHEAD + raw_len;
}

/* One page's line of the table; `off` is where it must start. */
static enum err_code parse_entry(const struct page_file *pf, struct reader *r,
                                 struct page_section *s, uint64_t off, struct page_entry *e,
                                 struct err *err)
{
    uint64_t stored = reader_varint(r), raw = reader_varint(r), n_items = reader_varint(r);
    unsigned codec_bits = pf->version == 1 ? 1 : PAGE_TABLE_CODEC_BITS;
    *e = (struct page_entry){
        .off = off, .codec = raw & ((1u << codec_bits) - 1), .first = s->n_items};
    raw >>= codec_bits;
    uint64_t item_bytes_min = pf->version == 1 ? ITEM_OVERHEAD : 1;
    if (r->failed || !page_sizes_valid(e->codec, stored, raw) || n_items == 0 ||
        n_items > raw / item_bytes_min || n_items > UINT32_MAX - s->n_items ||
        page_memory(pf->version, raw, n_items) > PAGE_RAW_BYTES_MAX)
        return err_set(err, ERR_CORRUPT, "page %zu of %s in the page table makes no sense",
                       s->n_pages, section_name(s->id));
    e->stored_len = (uint32_t)stored;
    e->raw_len = (uint32_t)raw;
    e->n_items = (uint32_t)n_items;
    return ERR_OK;
}

static unsigned section_count(const struct page_file *pf)
{
    return pf->version == 1 ? BLOCK_SECTIONS_V1 : BLOCK_SECTIONS;
}

static enum err_code parse_section(struct page_file *pf, struct reader *r, uint64_t *off,
                                   struct err *err)
{
    uint8_t id = reader_u8(r);
    uint64_t n_pages = reader_varint(r);
    if (r->failed || id < 1 || id > section_count(pf) || pf->sections[id].id ||
        n_pages > reader_left(r) / PAGE_ENTRY_BYTES_MIN || n_pages > UINT32_MAX - pf->n_pages)
        return err_set(err, ERR_CORRUPT, "section %u of the page table makes no sense", id);
    struct page_section *s = &pf->sections[id];
    *s = (struct page_section){.id = id, .off = *off, .first_page_no = pf->n_pages};
    s->pages = mem_calloc(MEM_STORAGE, (size_t)n_pages, sizeof(*s->pages));
    if (!s->pages) return err_set(err, ERR_NO_MEMORY, "a table of %" PRIu64 " pages", n_pages);
    for (; s->n_pages < n_pages; s->n_pages++) {
        struct page_entry *e = &s->pages[s->n_pages];
        enum err_code rc = parse_entry(pf, r, s, *off, e, err);
        if (rc) return rc;
        s->n_items += e->n_items;
        s->raw_bytes += e->raw_len;
        *off += PAGE_HEADER_BYTES + e->stored_len; /* < 2^32 pages of < 2^27 bytes: no overflow */
    }
    s->bytes = *off - s->off;
    pf->n_pages += (uint32_t)n_pages;
    return ERR_OK;
}

static enum err_code parse_footer(struct page_file *pf, uint64_t footer_off,
                                  page_head_fn *parse_head, void *ctx, struct err *err)
{
    struct reader r = reader_init(bytes_of(pf->footer, pf->footer_len));
    enum err_code rc = parse_head(ctx, &r, err);
    if (rc) return rc;
    uint64_t n_sections = reader_varint(&r), off = BLOCK_HEADER_BYTES;
    if (n_sections != section_count(pf))
        return err_set(err, ERR_CORRUPT, "%" PRIu64 " sections", n_sections);
    for (uint64_t i = 0; !rc && i < n_sections; i++) rc = parse_section(pf, &r, &off, err);
    if (!rc) rc = reader_finish(&r, err);
    if (!rc && off != footer_off)
        rc = err_set(err, ERR_CORRUPT, "pages end at %" PRIu64 ", the footer starts at %" PRIu64,
                     off, footer_off);
    return rc;
}

static enum err_code read_footer(struct page_file *pf, uint64_t off, uint32_t crc,
                                 page_head_fn *parse_head, void *ctx, struct err *err)
{
    pf->footer = mem_alloc(MEM_STORAGE, pf->footer_len);
    if (!pf->footer) return err_set(err, ERR_NO_MEMORY, "a footer of %zu bytes", pf->footer_len);
    enum err_code rc = file_read_exact(pf->file, off, pf->footer, pf->footer_len, err);
    if (rc) return rc;
    if (crc32c(0, pf->footer, pf->footer_len) != crc)
        rc = err_set(err, ERR_CORRUPT, "checksum of the footer");
    else
        rc = parse_footer(pf, off, parse_head, ctx, err);
    if (rc) {
        err_context(err, "footer");
        err_at(err, pf->file->path, off);
    }
    mem_free(pf->footer);
    pf->footer = NULL;
    return rc;
}

enum err_code page_file_init(struct page_file *pf, struct file *file, struct page_cache *cache,
                             page_head_fn *parse_head, void *ctx, struct err *err)
{
    *pf = (struct page_file){.file = file, .cache = cache, .file_id = page_cache_file_id(cache)};
    uint64_t footer_off = 0;
    uint32_t footer_crc = 0;
    enum err_code rc = file_size(file, &pf->size, err);
    if (!rc && pf->size < BLOCK_HEADER_BYTES + BLOCK_TRAILER_BYTES) {
        err_set(err, ERR_CORRUPT, "%" PRIu64 " bytes are too few for a block", pf->size);
        rc = err_at(err, file->path, 0);
    }
    if (!rc) rc = read_header(pf, err);
    if (!rc) rc = read_trailer(pf, &footer_off, &footer_crc, err);
    if (!rc) rc = read_footer(pf, footer_off, footer_crc, parse_head, ctx, err);
    if (rc) page_file_release(pf);
    return rc;
}

void page_file_release(struct page_file *pf)
{
    page_cache_forget(pf->cache, pf->file_id);
    for (size_t i = 0; i <= BLOCK_SECTIONS; i++) mem_free(pf->sections[i].pages);
    mem_free(pf->footer);
    file_close(pf->file);
    *pf = (struct page_file){0};
}

/* ---- pages ---- */

/* n, then ends that do not fall and the last of which is the page's end. */
static bool items_valid(struct bytes raw, uint32_t n)
{
    if (raw.len < ITEM_OVERHEAD || get_u32_le(raw.p) != n) return false;
    size_t heap = ITEM_OVERHEAD + (size_t)n * ITEM_OVERHEAD;
    if (heap > raw.len) return false;
    uint32_t end = 0;
    bool bad = false;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t next = get_u32_le(raw.p + ITEM_OVERHEAD + (size_t)i * ITEM_OVERHEAD);
        bad |= next < end;
        end = next;
    }
    return !bad && end == raw.len - heap;
}

/* From lengths and items to n, ends and items; `page` has room for what page_memory says. *len: what is used. */
static bool items_expand(struct bytes raw, uint32_t n, uint8_t *page, size_t *len)
{
    struct reader r = reader_init(raw);
    uint64_t end = 0;
    put_u32_le(page, n);
    for (uint32_t i = 0; i < n; i++) {
        end += reader_varint(&r);
        if (end > raw.len) return false;
        put_u32_le(page + ITEM_OVERHEAD + (size_t)i * ITEM_OVERHEAD, (uint32_t)end);
    }
    if (r.failed || end != reader_left(&r)) return false;
    size_t heap = ITEM_OVERHEAD + (size_t)n * ITEM_OVERHEAD;
    memcpy(page + heap, r.p, (size_t)end);
    *len = heap + (size_t)end;
    return true;
}

/* stored: header and payload as read. */
static enum err_code check_stored(const struct page_entry *e, const uint8_t *stored,
                                  struct err *err)
{
    const uint8_t *payload = stored + PAGE_HEADER_BYTES;
    uint32_t crc = crc32c(crc32c(0, stored, 8), payload, e->stored_len);
    if (crc != get_u32_le(stored + 8)) return err_set(err, ERR_CORRUPT, "checksum of a page");
    if (get_u32_le(stored) != e->stored_len ||
        get_u32_le(stored + 4) != (e->raw_len | (uint32_t)e->codec << PAGE_CODEC_SHIFT))
        return err_set(err, ERR_CORRUPT, "a page that is not the one in the page table");
    return ERR_OK;
}

/* The page in the cache's form. `raw` is scratch for a packed page of version 2. */
static enum err_code unpack(const struct page_file *pf, const struct page_entry *e,
                            struct bytes payload, uint8_t *raw, uint8_t *page, size_t *len,
                            struct err *err)
{
    if (pf->version == 1) {
        if (!page_unpack(e->codec, payload, page, e->raw_len))
            return err_set(err, ERR_CORRUPT, "a page that does not unpack");
        *len = e->raw_len;
        if (items_valid(bytes_of(page, e->raw_len), e->n_items)) return ERR_OK;
        return err_set(err, ERR_CORRUPT, "a page whose items make no sense");
    }
    if (e->codec != PAGE_PLAIN) {
        if (!page_unpack(e->codec, payload, raw, e->raw_len))
            return err_set(err, ERR_CORRUPT, "a page that does not unpack");
        payload = bytes_of(raw, e->raw_len);
    }
    if (items_expand(payload, e->n_items, page, len)) return ERR_OK;
    return err_set(err, ERR_CORRUPT, "a page whose items make no sense");
}

static enum err_code read_page(struct page_file *pf, const struct page_entry *e, uint8_t **out,
                               size_t *out_len, struct err *err)
{
    size_t len = PAGE_HEADER_BYTES + (size_t)e->stored_len;
    uint8_t *stored = mem_alloc(MEM_STORAGE, len);
    uint8_t *page =
        mem_alloc(MEM_STORAGE, (size_t)page_memory(pf->version, e->raw_len, e->n_items));
    bool needs_raw = pf->version > 1 && e->codec != PAGE_PLAIN;
    uint8_t *raw = needs_raw ? mem_alloc(MEM_STORAGE, e->raw_len) : NULL;
    enum err_code rc = ERR_OK;
    if (!stored || !page || (needs_raw && !raw))
        rc = err_set(err, ERR_NO_MEMORY, "a page of %" PRIu32 " bytes", e->raw_len);
    if (!rc) rc = file_read_exact(pf->file, e->off, stored, len, err);
    if (!rc) {
        rc = check_stored(e, stored, err);
        if (!rc)
            rc = unpack(pf, e, bytes_of(stored + PAGE_HEADER_BYTES, e->stored_len), raw, page,
                        out_len, err);
        if (rc) err_at(err, pf->file->path, e->off);
    }
    mem_free(stored);
    mem_free(raw);
    if (rc)
        mem_free(page);
    else
        *out = page;
    return rc;
}

struct load {
    struct page_file *pf;
    const struct page_entry *entry;
};

static enum err_code load_page(void *ctx, uint32_t page_no, uint8_t **bytes, size_t *len,
                               struct err *err)
{
    (void)page_no;
    struct load *l = ctx;
    return read_page(l->pf, l->entry, bytes, len, err);
}

enum err_code page_file_check(struct page_file *pf, enum block_section id, size_t page,
                              struct err *err)
{
    uint8_t *bytes = NULL;
    size_t len;
    enum err_code rc = read_page(pf, &pf->sections[id].pages[page], &bytes, &len, err);
    if (rc) return err_context(err, "page %zu of %s", page, section_name(id));
    mem_free(bytes);
    return ERR_OK;
}

/* ---- items ---- */

static const struct page_entry *find_entry(const struct page_section *s, uint64_t idx)
{
    size_t lo = 0, hi = s->n_pages; /* the answer is in [lo, hi) */
    while (hi - lo > 1) {
        size_t mid = lo + (hi - lo) / 2;
        if (s->pages[mid].first <= idx)
            lo = mid;
        else
            hi = mid;
    }
    return &s->pages[lo];
}

void page_cursor_release(struct page_cursor *cursor)
{
    page_release(cursor->page);
    *cursor = (struct page_cursor){0};
}

static enum err_code move_cursor(struct page_file *pf, struct page_cursor *cursor,
                                 const struct page_section *s, uint64_t idx, struct err *err)
{
    page_cursor_release(cursor);
    struct load l = {pf, find_entry(s, idx)};
    uint32_t page_no = s->first_page_no + (uint32_t)(l.entry - s->pages);
    enum err_code rc =
        page_cache_get(pf->cache, pf->file_id, page_no, load_page, &l, &cursor->page, err);
    if (rc)
        return err_context(err, "page %zu of %s", (size_t)(l.entry - s->pages),
                           section_name(s->id));
    cursor->section = s;
    cursor->entry = l.entry;
    return ERR_OK;
}

enum err_code page_file_item(struct page_file *pf, struct page_cursor *cursor,
                             enum block_section id, uint64_t idx, struct bytes *item,
                             struct err *err)
{
    const struct page_section *s = &pf->sections[id];
    if (cursor->section != s || idx - cursor->entry->first >= cursor->entry->n_items) {
        if (idx >= s->n_items) {
            err_set(err, ERR_CORRUPT, "item %" PRIu64 " of the %" PRIu32 " %s", idx, s->n_items,
                    section_name(id));
            return err_at(err, pf->file->path, s->off);
        }
        enum err_code rc = move_cursor(pf, cursor, s, idx, err);
        if (rc) return rc;
    }
    struct bytes raw = page_bytes(cursor->page);
    size_t k = (size_t)(idx - cursor->entry->first);
    const uint8_t *ends = raw.p + ITEM_OVERHEAD;
    const uint8_t *heap = ends + (size_t)cursor->entry->n_items * ITEM_OVERHEAD;
    uint32_t from = k ? get_u32_le(ends + (k - 1) * ITEM_OVERHEAD) : 0;
    uint32_t to = get_u32_le(ends + k * ITEM_OVERHEAD); /* ordered and inside: items_valid() */
    *item = bytes_of(heap + from, to - from);
    return ERR_OK;
}

enum err_code page_cursor_context(const struct page_file *pf, const struct page_cursor *cursor,
                                  struct err *err)
{
    if (!cursor->section || err->code != ERR_CORRUPT) return err->code;
    err_context(err, "page %zu of %s", (size_t)(cursor->entry - cursor->section->pages),
                section_name(cursor->section->id));
    return err_at(err, pf->file->path, cursor->entry->off);
}
