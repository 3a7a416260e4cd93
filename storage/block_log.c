/* storage/block_log.c: see the header. A record: varint series, u8 flags, u8 member of a family, varint item, varint
 * column and varint start unless the chunk has its own times, and the statistics in the form of version 1. */
#include "storage/block_log.h"

enum { LOG_FAMILY = 1, LOG_OWN_TIMES = 2, LOG_STARTS = 4 };

void block_log_init(struct block_log *log)
{
    *log = (struct block_log){0};
    buf_init(&log->records, MEM_STORAGE);
}

void block_log_release(struct block_log *log)
{
    buf_release(&log->records);
    mem_free(log->n_chunks);
    log->n_chunks = NULL;
}

enum err_code block_log_series(struct block_log *log, uint32_t id, struct err *err)
{
    enum err_code rc = mem_grow(MEM_STORAGE, (void **)&log->n_chunks, &log->cap, (size_t)id + 1,
                                sizeof(*log->n_chunks), err);
    if (!rc) log->n_chunks[id] = 0;
    return rc;
}

enum err_code block_log_add(struct block_log *log, uint32_t id, const struct chunk_ref *ref,
                            struct err *err)
{
    if (log->records.len > UINT32_MAX || log->n == UINT32_MAX)
        return err_set(err, ERR_LIMIT, "too many chunks for one block");
    if (log->n++ == 0) log->base_ms = ref->meta.t_min_ms;
    log->n_chunks[id]++;
    struct buf *b = &log->records;
    buf_varint(b, id);
    buf_u8(b, (uint8_t)((ref->family ? LOG_FAMILY : 0) | (ref->own_times ? LOG_OWN_TIMES : 0) |
                        (ref->has_starts ? LOG_STARTS : 0)));
    buf_u8(b, ref->member);
    buf_varint(b, ref->item);
    if (!ref->own_times) buf_varint(b, ref->column);
    if (!ref->own_times) buf_varint(b, ref->start);
    meta_encode(b, &ref->meta, log->base_ms);
    return buf_finish(b, err);
}

/* Our own bytes: what does not fit is our own bug. */
static uint32_t read_record(const struct block_log *log, struct reader *r, struct chunk_ref *ref)
{
    struct err ignored;
    *ref = (struct chunk_ref){0};
    uint32_t id = (uint32_t)reader_varint(r);
    uint8_t flags = reader_u8(r);
    ref->family = flags & LOG_FAMILY;
    ref->own_times = flags & LOG_OWN_TIMES;
    ref->has_starts = flags & LOG_STARTS;
    ref->member = reader_u8(r);
    ref->item = reader_varint(r);
    if (!ref->own_times) ref->column = (uint32_t)reader_varint(r);
    if (!ref->own_times) ref->start = (uint32_t)reader_varint(r);
    enum err_code rc = meta_decode(r, log->base_ms, true, &ref->meta, &ignored);
    ASSERT(rc == ERR_OK);
    return id;
}

/* Where each record begins, by series, and of one series as they came. */
static enum err_code order_records(const struct block_log *log, uint32_t n_series, uint32_t **offs,
                                   struct err *err)
{
    uint32_t *next = mem_calloc(MEM_STORAGE, n_series, sizeof(*next));
    *offs = mem_calloc(MEM_STORAGE, log->n, sizeof(**offs));
    enum err_code rc = ERR_OK;
    if (!next || !*offs) rc = err_set(err, ERR_NO_MEMORY, "the order of chunks");
    for (uint32_t id = 1; !rc && id < n_series; id++)
        next[id] = next[id - 1] + log->n_chunks[id - 1];
    struct reader r = reader_init(buf_bytes(&log->records));
    while (!rc && reader_left(&r)) {
        struct chunk_ref ref;
        uint32_t off = (uint32_t)reader_off(&r), id = read_record(log, &r, &ref);
        (*offs)[next[id]++] = off;
    }
    mem_free(next);
    return rc;
}

/* The series of one group. */
struct group {
    struct chunk_ref *refs;
    size_t n, cap;
    uint32_t n_chunks[BLOCK_GROUP_SERIES];
    unsigned n_series;
    struct refs_writer writer;
    struct buf item;
};

static enum err_code add_series(const struct block_log *log, const uint32_t *offs, uint32_t n,
                                const uint32_t *column_numbers, struct group *g, struct err *err)
{
    enum err_code rc =
        mem_grow(MEM_STORAGE, (void **)&g->refs, &g->cap, g->n + n, sizeof(*g->refs), err);
    for (uint32_t i = 0; !rc && i < n; i++) {
        struct chunk_ref *ref = &g->refs[g->n++];
        struct reader r =
            reader_init(bytes_of(log->records.p + offs[i], log->records.len - offs[i]));
        read_record(log, &r, ref);
        if (!ref->own_times) ref->column = column_numbers[ref->column];
    }
    if (!rc) g->n_chunks[g->n_series++] = n;
    return rc;
}

static enum err_code end_group(struct group *g, struct page_writer *pages, struct err *err)
{
    if (g->n_series == 0) return ERR_OK;
    buf_reset(&g->item);
    enum err_code rc =
        refs_group_encode(&g->writer, &g->item, g->refs, g->n_chunks, g->n_series, err);
    if (!rc) rc = page_writer_item(pages, buf_bytes(&g->item), err);
    g->n = 0;
    g->n_series = 0;
    return rc;
}

enum err_code block_log_write(struct block_log *log, uint32_t n_series,
                              const uint32_t *column_numbers, struct page_writer *pages,
                              size_t page_bytes, uint32_t *n_kept, struct err *err)
{
    uint32_t *offs = NULL;
    struct group g = {0};
    refs_writer_init(&g.writer);
    buf_init(&g.item, MEM_STORAGE);
    page_writer_begin(pages, SECTION_REFS, page_bytes);
    enum err_code rc = order_records(log, n_series, &offs, err);
    *n_kept = 0;
    size_t chunk = 0;
    for (uint32_t id = 0; !rc && id < n_series; chunk += log->n_chunks[id++]) {
        if (!log->n_chunks[id]) continue;
        rc = add_series(log, offs + chunk, log->n_chunks[id], column_numbers, &g, err);
        ++*n_kept;
        if (!rc && g.n_series == BLOCK_GROUP_SERIES) rc = end_group(&g, pages, err);
    }
    if (!rc) rc = end_group(&g, pages, err);
    mem_free(offs);
    mem_free(g.refs);
    refs_writer_release(&g.writer);
    buf_release(&g.item);
    return rc ? rc : page_writer_end(pages, err);
}
