/* storage/block_layout.c: see the header and storage/format.h. */
#include "storage/block_layout.h"

#include <inttypes.h>
#include <math.h>

#define NAN_BITS UINT64_C(0x7ff8000000000000)
#define INT_EXACT_MAX (INT64_C(1) << 53)

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

/* ---- statistics of a chunk ---- */

static bool to_int(double v, int64_t *out)
{
    if (!(fabs(v) <= (double)INT_EXACT_MAX)) return false;
    *out = (int64_t)v;
    return double_bits((double)*out) == double_bits(v);
}

static bool same_bits(double a, double b)
{
    return double_bits(a) == double_bits(b);
}

static unsigned shape_flags(const struct chunk_meta *m)
{
    if (same_bits(m->first, m->last) && same_bits(m->first, m->min) && same_bits(m->first, m->max))
        return double_bits(m->first) == NAN_BITS ? META_NO_FLOATS : META_SAME;
    if (same_bits(m->min, m->first) && same_bits(m->max, m->last)) return META_MONOTONE;
    if (same_bits(m->min, m->last) && same_bits(m->max, m->first))
        return META_MONOTONE | META_FALLING;
    return 0;
}

void meta_encode(struct buf *out, const struct chunk_meta *m, int64_t before_ms)
{
    unsigned flags = shape_flags(m);
    int64_t first, last, min, max;
    bool ints = to_int(m->first, &first) && to_int(m->last, &last) && to_int(m->min, &min) &&
                to_int(m->max, &max);
    if (ints) flags |= META_INTS;
    if (m->has_histograms) flags |= META_HISTOGRAMS;
    if (m->n_resets) flags |= META_RESETS;
    buf_u8(out, (uint8_t)flags);
    buf_zigzag(out, (int64_t)((uint64_t)m->t_min_ms - (uint64_t)before_ms));
    buf_varint(out, (uint64_t)m->t_max_ms - (uint64_t)m->t_min_ms);
    buf_varint(out, m->n - 1);
    bool with_last = !(flags & (META_NO_FLOATS | META_SAME));
    bool with_range = with_last && !(flags & META_MONOTONE);
    if (ints) {
        buf_zigzag(out, first);
        if (with_last) buf_zigzag(out, last - first);
        if (with_range) buf_zigzag(out, min - first);
        if (with_range) buf_zigzag(out, max - first);
    } else if (!(flags & META_NO_FLOATS)) {
        buf_double(out, m->first);
        if (with_last) buf_double(out, m->last);
        if (with_range) buf_double(out, m->min);
        if (with_range) buf_double(out, m->max);
    }
    if (m->n_resets) buf_varint(out, m->n_resets);
}

/* A number of the statistics: `base` is 0 for the first, then the first. */
static double number_decode(struct reader *r, bool ints, int64_t base, int64_t *as_int, bool *ok)
{
    if (!ints) return reader_double(r);
    int64_t v;
    *ok &= !__builtin_add_overflow(base, reader_zigzag(r), &v) && v >= -INT_EXACT_MAX &&
           v <= INT_EXACT_MAX;
    *as_int = v;
    return (double)v;
}

static void floats_decode(struct reader *r, unsigned flags, struct chunk_meta *m, bool *ok)
{
    if (flags & META_NO_FLOATS) {
        *ok &= !(flags & (META_INTS | META_SAME | META_MONOTONE | META_FALLING | META_RESETS));
        m->first = m->last = m->min = m->max = double_from_bits(NAN_BITS);
        return;
    }
    bool ints = flags & META_INTS;
    int64_t base = 0, ignored;
    m->first = number_decode(r, ints, 0, &base, ok);
    m->last = m->min = m->max = m->first;
    if (flags & META_SAME) return;
    m->last = number_decode(r, ints, base, &ignored, ok);
    if (flags & META_MONOTONE) {
        m->min = flags & META_FALLING ? m->last : m->first;
        m->max = flags & META_FALLING ? m->first : m->last;
        return;
    }
    m->min = number_decode(r, ints, base, &ignored, ok);
    m->max = number_decode(r, ints, base, &ignored, ok);
}

enum err_code meta_decode(struct reader *r, int64_t before_ms, bool first, struct chunk_meta *m,
                          struct err *err)
{
    *m = (struct chunk_meta){0};
    unsigned flags = reader_u8(r);
    bool ok = !(flags & 0x80);
    m->t_min_ms = (int64_t)((uint64_t)before_ms + (uint64_t)reader_zigzag(r));
    uint64_t span = reader_varint(r), more = reader_varint(r);
    m->t_max_ms = (int64_t)((uint64_t)m->t_min_ms + span);
    m->n = (uint32_t)more + 1;
    m->has_histograms = flags & META_HISTOGRAMS;
    floats_decode(r, flags, m, &ok);
    uint64_t n_resets = flags & META_RESETS ? reader_varint(r) : 0;
    m->n_resets = (uint32_t)n_resets;
    ok &= more < CHUNK_SAMPLES_MAX && span >= more && m->t_max_ms >= m->t_min_ms &&
          n_resets <= more && (first || m->t_min_ms > before_ms);
    if (r->failed || !ok) return err_set(err, ERR_CORRUPT, "a chunk's statistics make no sense");
    return ERR_OK;
}

/* ---- the chunks of a series ---- */

enum err_code chunk_refs_find(struct bytes group, unsigned k, struct chunk_refs *out,
                              struct err *err)
{
    struct reader r = reader_init(group);
    *out = (struct chunk_refs){.next_chunk = reader_varint(&r), .first = true};
    out->before_ms = reader_zigzag(&r);
    for (unsigned i = 0;; i++) {
        uint64_t n = reader_varint(&r), len = reader_varint(&r);
        if (r.failed || len > reader_left(&r) || n == 0 || n > len / META_BYTES_MIN)
            return err_set(err, ERR_CORRUPT, "the chunk list of series %u in its group", i);
        struct bytes metas = reader_bytes(&r, (size_t)len);
        if (i == k) {
            out->n_left = (uint32_t)n;
            out->r = reader_init(metas);
            return ERR_OK;
        }
        out->next_chunk += n;
    }
}

enum err_code chunk_refs_next(struct chunk_refs *refs, struct chunk_meta *meta, uint64_t *chunk,
                              struct err *err)
{
    ASSERT(refs->n_left > 0);
    enum err_code rc = meta_decode(&refs->r, refs->before_ms, refs->first, meta, err);
    if (rc) return rc;
    refs->first = false;
    refs->before_ms = meta->t_max_ms;
    *chunk = refs->next_chunk++;
    return --refs->n_left ? ERR_OK : reader_finish(&refs->r, err);
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
