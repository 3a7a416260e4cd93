/* storage/block_layout.c: see the header and storage/format.h. */
#include "storage/block_layout.h"

#include <inttypes.h>

/* ---- footer ---- */

void block_head_encode(struct buf *out, const struct block_info *info)
{
    buf_put(out, info->ulid.text, ULID_CHARS);
    buf_varint(out, info->incarnation);
    buf_varint(out, info->sequence);
    buf_varint(out, info->level);
    buf_zigzag(out, info->t_min_ms);
    buf_varint(out, (uint64_t)info->t_max_ms - (uint64_t)info->t_min_ms);
    buf_varint(out, info->n_series);
    buf_varint(out, info->n_samples);
    buf_varint(out, info->n_chunks);
    buf_zigzag(out, info->created_ms);
}

enum err_code block_head_decode(struct reader *r, struct block_info *info, struct err *err)
{
    *info = (struct block_info){0};
    bool ok = ulid_parse(str_from_bytes(reader_bytes(r, ULID_CHARS)), &info->ulid);
    info->incarnation = reader_varint(r);
    info->sequence = reader_varint(r);
    uint64_t level = reader_varint(r);
    info->level = (uint32_t)level;
    info->t_min_ms = reader_zigzag(r);
    info->t_max_ms = (int64_t)((uint64_t)info->t_min_ms + reader_varint(r));
    info->n_series = reader_varint(r);
    info->n_samples = reader_varint(r);
    info->n_chunks = reader_varint(r);
    info->created_ms = reader_zigzag(r);
    ok &= level <= UINT32_MAX && info->t_max_ms >= info->t_min_ms && info->n_series >= 1 &&
          info->n_series <= UINT32_MAX && info->n_chunks >= info->n_series &&
          info->n_samples >= info->n_chunks;
    if (r->failed || !ok) return err_set(err, ERR_CORRUPT, "what the block says of itself");
    return ERR_OK;
}

/* ---- pair numbers ---- */

void pair_list_init(struct pair_list *list)
{
    list->ids = list->own;
    list->heap = NULL;
    list->n = 0;
    list->cap = PAIRS_INLINE;
}

void pair_list_release(struct pair_list *list)
{
    mem_free(list->heap);
    pair_list_init(list);
}

enum err_code pair_list_push(struct pair_list *list, uint32_t id, struct err *err)
{
    if (list->n == list->cap) {
        size_t cap = list->heap ? list->cap : 0;
        enum err_code rc = mem_grow(MEM_STORAGE, (void **)&list->heap, &cap, list->n + 1,
                                    sizeof(*list->heap), err);
        if (rc) return rc;
        if (list->ids == list->own) memcpy(list->heap, list->own, sizeof(list->own));
        list->ids = list->heap;
        list->cap = cap;
    }
    list->ids[list->n++] = id;
    return ERR_OK;
}

void pair_list_encode(struct buf *out, const uint32_t *ids, size_t n, size_t n_shared)
{
    buf_varint(out, n_shared);
    buf_varint(out, n - n_shared);
    uint32_t next = n_shared ? ids[n_shared - 1] + 1 : 0;
    for (size_t i = n_shared; i < n; i++) {
        ASSERT(ids[i] >= next);
        buf_varint(out, ids[i] - next);
        next = ids[i] + 1;
    }
}

enum err_code pair_list_decode(struct reader *r, uint32_t n_pairs, struct pair_list *list,
                               struct err *err)
{
    uint64_t n_shared = reader_varint(r), n_more = reader_varint(r);
    if (r->failed || n_shared > list->n || n_more > reader_left(r))
        return err_set(err, ERR_CORRUPT, "a label list is cut short");
    list->n = (size_t)n_shared;
    uint64_t next = n_shared ? (uint64_t)list->ids[n_shared - 1] + 1 : 0;
    for (uint64_t i = 0; i < n_more; i++) {
        uint64_t gap = reader_varint(r);
        if (r->failed || gap >= n_pairs || next + gap >= n_pairs)
            return err_set(err, ERR_CORRUPT, "a label pair beyond the %" PRIu32 " there are",
                           n_pairs);
        enum err_code rc = pair_list_push(list, (uint32_t)(next + gap), err);
        if (rc) return rc;
        next += gap + 1;
    }
    return ERR_OK;
}
