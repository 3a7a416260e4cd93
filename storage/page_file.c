/* storage/page_file.c: see the header and storage/format.h. */
#include "storage/page_file.h"

#include <inttypes.h>
#include <lz4.h>

#include "base/crc32c.h"

#define WRITE_BYTES (256 << 10) /* pages gather up to this before a write */
#define FOOTER_BYTES_MAX (UINT32_C(1) << 30)
#define LZ4_RATIO_MAX 255      /* of the format: a longer result cannot come from so few bytes */
#define PAGE_ENTRY_BYTES_MIN 3 /* in the footer */
#define ITEM_OVERHEAD 4        /* its end */

const char *section_name(enum block_section id)
{
    switch (id) {
    case SECTION_CHUNKS: return "chunks";
    case SECTION_REFS: return "refs";
    case SECTION_LABELS: return "labels";
    case SECTION_VALUES: return "values";
    case SECTION_NAMES: return "names";
    case SECTION_POSTINGS: return "postings";
    }
    return "unknown";
}

/* ---- writing ---- */

static enum err_code flush(struct page_writer *w, struct err *err)
{
    enum err_code rc = buf_finish(&w->out, err);
    if (rc || w->out.len == 0) return rc;
    rc = file_write_at(w->file, w->off - w->out.len, w->out.p, w->out.len, err);
    buf_reset(&w->out);
    return rc;
}

static enum err_code emit(struct page_writer *w, struct bytes b, struct err *err)
{
    buf_put(&w->out, b.p, b.len);
    w->off += b.len;
    return w->out.len >= WRITE_BYTES || w->out.failed ? flush(w, err) : ERR_OK;
}

enum err_code page_writer_init(struct page_writer *w, struct file *file, struct err *err)
{
    *w = (struct page_writer){.file = file};
    struct buf *bufs[] = {&w->out, &w->items, &w->ends, &w->raw, &w->packed};
    for (size_t i = 0; i < COUNT_OF(bufs); i++) buf_init(bufs[i], MEM_STORAGE);
    uint8_t header[BLOCK_HEADER_BYTES] = BLOCK_MAGIC;
    put_u32_le(header + 4, BLOCK_VERSION);
    put_u32_le(header + 8, 0);
    put_u32_le(header + 12, crc32c(0, header, 12));
    return emit(w, bytes_of(header, sizeof(header)), err);
}

void page_writer_begin(struct page_writer *w, enum block_section id, size_t page_bytes)
{
    ASSERT(w->n_sections < BLOCK_SECTIONS);
    w->page_bytes = page_bytes;
    w->sections[w->n_sections++] = (struct page_section){.id = (uint8_t)id, .off = w->off};
}

static struct page_section *open_section(struct page_writer *w)
{
    return &w->sections[w->n_sections - 1];
}

/* LZ4 when it saves 5 % or more; else the bytes as they are. */
static struct bytes pack(struct page_writer *w, struct bytes raw, enum page_codec *codec)
{
    *codec = PAGE_PLAIN;
    size_t room = raw.len - raw.len / 20;
    uint8_t *to = buf_reserve(&w->packed, room);
    if (!to || room == 0) return raw; /* no memory to pack: plain is as good */
    int n = LZ4_compress_default((const char *)raw.p, (char *)to, (int)raw.len, (int)room);
    if (n <= 0) return raw;
    *codec = PAGE_LZ4;
    return bytes_of(to, (size_t)n);
}

static enum err_code close_page(struct page_writer *w, struct err *err)
{
    struct page_section *s = open_section(w);
    uint32_t n = (uint32_t)(w->ends.len / ITEM_OVERHEAD);
    if (n == 0) return ERR_OK;
    buf_reset(&w->raw);
    buf_u32(&w->raw, n);
    buf_put(&w->raw, w->ends.p, w->ends.len);
    buf_put(&w->raw, w->items.p, w->items.len);
    enum err_code rc = buf_finish(&w->raw, err);
    if (!rc)
        rc = mem_grow(MEM_STORAGE, (void **)&s->pages, &s->cap, s->n_pages + 1, sizeof(*s->pages),
                      err);
    if (rc) return rc;
    buf_reset(&w->packed);
    enum page_codec codec;
    struct bytes payload = pack(w, buf_bytes(&w->raw), &codec);
    s->pages[s->n_pages++] = (struct page_entry){.off = w->off,
                                                 .stored_len = (uint32_t)payload.len,
                                                 .raw_len = (uint32_t)w->raw.len,
                                                 .first = s->n_items - n,
                                                 .n_items = n,
                                                 .codec = (uint8_t)codec};
    uint8_t header[PAGE_HEADER_BYTES];
    put_u32_le(header, (uint32_t)payload.len);
    put_u32_le(header + 4, (uint32_t)w->raw.len | (uint32_t)codec << PAGE_CODEC_SHIFT);
    put_u32_le(header + 8, crc32c(crc32c(0, header, 8), payload.p, payload.len));
    buf_reset(&w->items);
    buf_reset(&w->ends);
    rc = emit(w, bytes_of(header, sizeof(header)), err);
    return rc ? rc : emit(w, payload, err);
}

enum err_code page_writer_item(struct page_writer *w, struct bytes item, struct err *err)
{
    struct page_section *s = open_section(w);
    if (item.len > PAGE_RAW_BYTES_MAX - 2 * ITEM_OVERHEAD)
        return err_set(err, ERR_LIMIT, "an item of %zu bytes; a page holds %u at most", item.len,
                       PAGE_RAW_BYTES_MAX);
    if (s->n_items == UINT32_MAX)
        return err_set(err, ERR_LIMIT, "too many %s for one block", section_name(s->id));
    size_t with = ITEM_OVERHEAD + w->ends.len + w->items.len + ITEM_OVERHEAD + item.len;
    enum err_code rc = with > w->page_bytes ? close_page(w, err) : ERR_OK;
    if (rc) return rc;
    buf_put(&w->items, item.p, item.len);
    buf_u32(&w->ends, (uint32_t)w->items.len);
    s->n_items++;
    rc = buf_finish(&w->items, err);
    return rc ? rc : buf_finish(&w->ends, err);
}

enum err_code page_writer_end(struct page_writer *w, struct err *err)
{
    enum err_code rc = close_page(w, err);
    open_section(w)->bytes = w->off - open_section(w)->off;
    return rc;
}

static void put_page_table(struct buf *out, const struct page_writer *w)
{
    buf_varint(out, w->n_sections);
    for (size_t i = 0; i < w->n_sections; i++) {
        const struct page_section *s = &w->sections[i];
        buf_u8(out, s->id);
        buf_varint(out, s->n_pages);
        for (size_t k = 0; k < s->n_pages; k++) {
            buf_varint(out, s->pages[k].stored_len);
            buf_varint(out, (uint64_t)s->pages[k].raw_len * 2 + s->pages[k].codec);
            buf_varint(out, s->pages[k].n_items);
        }
    }
}

enum err_code page_writer_finish(struct page_writer *w, struct bytes head, uint64_t *size,
                                 struct err *err)
{
    struct buf *footer = &w->raw;
    buf_reset(footer);
    buf_put(footer, head.p, head.len);
    put_page_table(footer, w);
    enum err_code rc = buf_finish(footer, err);
    if (rc) return rc;
    if (footer->len > FOOTER_BYTES_MAX)
        return err_set(err, ERR_LIMIT, "a page table of %zu bytes", footer->len);
    uint8_t trailer[BLOCK_TRAILER_BYTES];
    put_u64_le(trailer, w->off);
    put_u32_le(trailer + 8, (uint32_t)footer->len);
    put_u32_le(trailer + 12, crc32c(0, footer->p, footer->len));
    put_u32_le(trailer + 16, BLOCK_VERSION);
    put_u32_le(trailer + 20, crc32c(0, trailer, 20));
    memcpy(trailer + 24, BLOCK_END_MAGIC, 8);
    rc = emit(w, buf_bytes(footer), err);
    if (!rc) rc = emit(w, bytes_of(trailer, sizeof(trailer)), err);
    if (!rc) rc = flush(w, err);
    *size = w->off;
    return rc;
}

void page_writer_release(struct page_writer *w)
{
    struct buf *bufs[] = {&w->out, &w->items, &w->ends, &w->raw, &w->packed};
    for (size_t i = 0; i < COUNT_OF(bufs); i++) buf_release(bufs[i]);
    for (size_t i = 0; i < BLOCK_SECTIONS; i++) {
        mem_free(w->sections[i].pages);
        w->sections[i].pages = NULL;
    }
}

/* ---- opening ---- */

static enum err_code check_version(uint32_t version, struct err *err)
{
    if (version == BLOCK_VERSION) return ERR_OK;
    return err_set(err, ERR_VERSION, "block version %" PRIu32 "; this build knows %d", version,
                   BLOCK_VERSION);
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
    rc = check_version(get_u32_le(h + 4), err);
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
             (*footer_off < BLOCK_HEADER_BYTES || *footer_off > off ||
              pf->footer_len != off - *footer_off || pf->footer_len > FOOTER_BYTES_MAX))
        rc = err_set(err, ERR_CORRUPT, "the trailer points at no footer");
    return rc ? err_at(err, pf->file->path, off) : ERR_OK;
}

/* One page's line of the table; `off` is where it must start. */
static enum err_code parse_entry(struct reader *r, struct page_section *s, uint64_t off,
                                 struct page_entry *e, struct err *err)
{
    uint64_t stored = reader_varint(r), raw = reader_varint(r), n_items = reader_varint(r);
    *e = (struct page_entry){.off = off, .codec = raw & 1, .first = s->n_items};
    raw >>= 1;
    if (r->failed || raw > PAGE_RAW_BYTES_MAX || stored == 0 || stored > raw || n_items == 0 ||
        n_items > raw / ITEM_OVERHEAD || n_items > UINT32_MAX - s->n_items ||
        (e->codec == PAGE_PLAIN && stored != raw) || raw / LZ4_RATIO_MAX > stored)
        return err_set(err, ERR_CORRUPT, "page %zu of %s in the page table makes no sense",
                       s->n_pages, section_name(s->id));
    e->stored_len = (uint32_t)stored;
    e->raw_len = (uint32_t)raw;
    e->n_items = (uint32_t)n_items;
    return ERR_OK;
}

static enum err_code parse_section(struct page_file *pf, struct reader *r, uint64_t *off,
                                   struct err *err)
{
    uint8_t id = reader_u8(r);
    uint64_t n_pages = reader_varint(r);
    if (r->failed || id < 1 || id > BLOCK_SECTIONS || pf->sections[id].id ||
        n_pages > reader_left(r) / PAGE_ENTRY_BYTES_MIN || n_pages > UINT32_MAX - pf->n_pages)
        return err_set(err, ERR_CORRUPT, "section %u of the page table makes no sense", id);
    struct page_section *s = &pf->sections[id];
    *s = (struct page_section){.id = id, .off = *off, .first_page_no = pf->n_pages};
    s->pages = mem_calloc(MEM_STORAGE, (size_t)n_pages, sizeof(*s->pages));
    if (!s->pages) return err_set(err, ERR_NO_MEMORY, "a table of %" PRIu64 " pages", n_pages);
    for (; s->n_pages < n_pages; s->n_pages++) {
        struct page_entry *e = &s->pages[s->n_pages];
        enum err_code rc = parse_entry(r, s, *off, e, err);
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
    if (n_sections != BLOCK_SECTIONS)
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

/* stored: header and payload as read. */
static enum err_code unpack(const struct page_entry *e, const uint8_t *stored, uint8_t *raw,
                            struct err *err)
{
    const uint8_t *payload = stored + PAGE_HEADER_BYTES;
    uint32_t crc = crc32c(crc32c(0, stored, 8), payload, e->stored_len);
    if (crc != get_u32_le(stored + 8)) return err_set(err, ERR_CORRUPT, "checksum of a page");
    if (get_u32_le(stored) != e->stored_len ||
        get_u32_le(stored + 4) != (e->raw_len | (uint32_t)e->codec << PAGE_CODEC_SHIFT))
        return err_set(err, ERR_CORRUPT, "a page that is not the one in the page table");
    if (e->codec == PAGE_PLAIN) {
        memcpy(raw, payload, e->raw_len);
    } else {
        int n = LZ4_decompress_safe((const char *)payload, (char *)raw, (int)e->stored_len,
                                    (int)e->raw_len);
        if (n < 0 || (uint32_t)n != e->raw_len)
            return err_set(err, ERR_CORRUPT, "a page that does not unpack");
    }
    if (!items_valid(bytes_of(raw, e->raw_len), e->n_items))
        return err_set(err, ERR_CORRUPT, "a page whose items make no sense");
    return ERR_OK;
}

static enum err_code read_page(struct page_file *pf, const struct page_entry *e, uint8_t **out,
                               struct err *err)
{
    size_t len = PAGE_HEADER_BYTES + (size_t)e->stored_len;
    uint8_t *stored = mem_alloc(MEM_STORAGE, len), *raw = mem_alloc(MEM_STORAGE, e->raw_len);
    enum err_code rc = ERR_OK;
    if (!stored || !raw)
        rc = err_set(err, ERR_NO_MEMORY, "a page of %" PRIu32 " bytes", e->raw_len);
    if (!rc) rc = file_read_exact(pf->file, e->off, stored, len, err);
    if (!rc) {
        rc = unpack(e, stored, raw, err);
        if (rc) err_at(err, pf->file->path, e->off);
    }
    mem_free(stored);
    if (rc)
        mem_free(raw);
    else
        *out = raw;
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
    *len = l->entry->raw_len;
    return read_page(l->pf, l->entry, bytes, err);
}

enum err_code page_file_check(struct page_file *pf, enum block_section id, size_t page,
                              struct err *err)
{
    uint8_t *raw = NULL;
    enum err_code rc = read_page(pf, &pf->sections[id].pages[page], &raw, err);
    if (rc) return err_context(err, "page %zu of %s", page, section_name(id));
    mem_free(raw);
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
