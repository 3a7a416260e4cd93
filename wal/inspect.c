/* wal/inspect.c: a segment as a list, for people. Changes nothing. */
#include "wal/segment.h"

static bool inspect_item(const struct segment_header *header, const struct segment_item *item,
                         struct wal_inspect_item *out)
{
    if (item->kind == SEGMENT_END && item->end_off == item->off) return false;
    uint64_t stored = item->end_off - item->off;
    *out = (struct wal_inspect_item){.file_off = item->off,
                                     .pos = header->base_pos + item->off,
                                     .type = (enum wal_type)item->type,
                                     .stored_bytes = (uint32_t)MIN_OF(stored, UINT32_MAX),
                                     .raw_bytes = (uint32_t)item->payload.len,
                                     .bad = item->kind != SEGMENT_RECORD,
                                     .payload = item->payload,
                                     .text = item->reason};
    return true;
}

static enum err_code inspect_records(struct segment_reader *r, const struct segment_header *header,
                                     wal_inspect_fn *fn, void *ctx, struct err *err)
{
    struct segment_item item = {.kind = SEGMENT_GAP};
    while (item.kind != SEGMENT_END) {
        enum err_code rc = segment_reader_next(r, &item, err);
        if (rc) return rc;
        struct wal_inspect_item out;
        if (inspect_item(header, &item, &out) && !fn(ctx, &out)) return ERR_OK;
    }
    return ERR_OK;
}

enum err_code wal_inspect(struct io *io, const char *path, struct wal_segment_info *info,
                          wal_inspect_fn *fn, void *ctx, struct err *err)
{
    struct segment_reader r;
    enum err_code rc = segment_reader_open(io, path, &r, err);
    if (rc) return rc;
    struct segment_header header;
    rc = segment_reader_header(&r, &header, err);
    if (rc == ERR_OK) {
        *info = (struct wal_segment_info){header.version, header.base_pos, r.size};
        bool more = true;
        if (header.state != SEGMENT_HEADER_GOOD) {
            struct wal_inspect_item bad = {
                .stored_bytes = (uint32_t)MIN_OF(r.size, WAL_HEADER_BYTES),
                .bad = true,
                .text =
                    header.state == SEGMENT_HEADER_BAD ? "bad header" : "one bit of the header"};
            more = fn(ctx, &bad);
        }
        if (more) rc = inspect_records(&r, &header, fn, ctx, err);
    }
    segment_reader_close(&r);
    return rc;
}
