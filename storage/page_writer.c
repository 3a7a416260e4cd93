/* storage/page_writer.c: the writing half of page_file.h; storage/format.h. */
#include <inttypes.h>

#include "base/crc32c.h"
#include "storage/page_file.h"

#define WRITE_BYTES (256 << 10) /* pages gather up to this before a write */

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

enum err_code page_writer_init(struct page_writer *w, struct file *file, enum page_effort effort,
                               struct err *err)
{
    *w = (struct page_writer){.file = file};
    struct buf *bufs[] = {&w->out, &w->items, &w->lens, &w->raw};
    for (size_t i = 0; i < COUNT_OF(bufs); i++) buf_init(bufs[i], MEM_STORAGE);
    page_packer_init(&w->packer, effort);
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

static enum err_code close_page(struct page_writer *w, struct err *err)
{
    struct page_section *s = open_section(w);
    if (w->n_items == 0) return ERR_OK;
    buf_reset(&w->raw);
    buf_put(&w->raw, w->lens.p, w->lens.len);
    buf_put(&w->raw, w->items.p, w->items.len);
    enum err_code rc = buf_finish(&w->raw, err);
    if (!rc)
        rc = mem_grow(MEM_STORAGE, (void **)&s->pages, &s->cap, s->n_pages + 1, sizeof(*s->pages),
                      err);
    if (rc) return rc;
    enum page_codec codec;
    struct bytes payload = page_pack(&w->packer, buf_bytes(&w->raw), &codec);
    s->pages[s->n_pages++] = (struct page_entry){.off = w->off,
                                                 .stored_len = (uint32_t)payload.len,
                                                 .raw_len = (uint32_t)w->raw.len,
                                                 .first = s->n_items - w->n_items,
                                                 .n_items = w->n_items,
                                                 .codec = (uint8_t)codec};
    uint8_t header[PAGE_HEADER_BYTES];
    put_u32_le(header, (uint32_t)payload.len);
    put_u32_le(header + 4, (uint32_t)w->raw.len | (uint32_t)codec << PAGE_CODEC_SHIFT);
    put_u32_le(header + 8, crc32c(crc32c(0, header, 8), payload.p, payload.len));
    buf_reset(&w->items);
    buf_reset(&w->lens);
    w->n_items = 0;
    rc = emit(w, bytes_of(header, sizeof(header)), err);
    return rc ? rc : emit(w, payload, err);
}

enum err_code page_writer_item(struct page_writer *w, struct bytes item, struct err *err)
{
    struct page_section *s = open_section(w);
    if (item.len > PAGE_ITEM_BYTES_MAX)
        return err_set(err, ERR_LIMIT, "an item of %zu bytes; a page holds %u at most", item.len,
                       PAGE_ITEM_BYTES_MAX);
    if (s->n_items == UINT32_MAX)
        return err_set(err, ERR_LIMIT, "too many %s for one block", section_name(s->id));
    size_t with = w->lens.len + w->items.len + VARINT_BYTES_MAX + item.len;
    enum err_code rc = with > w->page_bytes ? close_page(w, err) : ERR_OK;
    if (rc) return rc;
    buf_put(&w->items, item.p, item.len);
    buf_varint(&w->lens, item.len);
    w->n_items++;
    s->n_items++;
    rc = buf_finish(&w->items, err);
    return rc ? rc : buf_finish(&w->lens, err);
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
            buf_varint(out,
                       (uint64_t)s->pages[k].raw_len << PAGE_TABLE_CODEC_BITS | s->pages[k].codec);
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
    if (footer->len > BLOCK_FOOTER_BYTES_MAX)
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
    struct buf *bufs[] = {&w->out, &w->items, &w->lens, &w->raw};
    for (size_t i = 0; i < COUNT_OF(bufs); i++) buf_release(bufs[i]);
    page_packer_release(&w->packer);
    for (size_t i = 0; i < BLOCK_SECTIONS; i++) {
        mem_free(w->sections[i].pages);
        w->sections[i].pages = NULL;
    }
}
