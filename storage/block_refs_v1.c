/* storage/block_refs_v1.c: statistics of chunks as version 1 of block files has them; also what a writer keeps of a
 * chunk until the end. */
#include <math.h>

#include "storage/block_refs.h"

#define INT_EXACT_MAX (INT64_C(1) << 53)

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
        return double_bits(m->first) == NO_FLOATS_BITS ? META_NO_FLOATS : META_SAME;
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
        m->first = m->last = m->min = m->max = double_from_bits(NO_FLOATS_BITS);
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

enum err_code chunk_refs_find_v1(struct bytes group, unsigned k, struct chunk_refs *out,
                                 struct err *err)
{
    struct reader r = reader_init(group);
    *out = (struct chunk_refs){.version = 1, .item = reader_varint(&r), .first = true};
    out->before_ms = reader_zigzag(&r);
    for (unsigned i = 0;; i++) {
        uint64_t n = reader_varint(&r), len = reader_varint(&r);
        if (r.failed || len > reader_left(&r) || n == 0 || n > len / META_BYTES_MIN)
            return err_set(err, ERR_CORRUPT, "the chunk list of series %u in its group", i);
        struct bytes metas = reader_bytes(&r, (size_t)len);
        if (i == k) {
            out->n_left = (uint32_t)n;
            out->refs = reader_init(metas);
            return ERR_OK;
        }
        out->item += n;
    }
}

enum err_code chunk_refs_next_v1(struct chunk_refs *l, struct chunk_ref *ref, struct err *err)
{
    *ref = (struct chunk_ref){.item = l->item++, .own_times = true};
    enum err_code rc = meta_decode(&l->refs, l->before_ms, l->first, &ref->meta, err);
    if (rc) return rc;
    l->first = false;
    l->before_ms = ref->meta.t_max_ms;
    return --l->n_left ? ERR_OK : reader_finish(&l->refs, err);
}
