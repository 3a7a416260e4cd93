/* storage/block_refs.c: see the header. Half a dozen bytes a chunk: the times of a series are mostly those of one of its
 * 15 neighbours and then cost nothing, numbers are differences in the chunk's own decimal scale, and what is as
 * expected (the next chunk, the same member, the same scale) is a bit. */
#include "storage/block_refs.h"

#include <inttypes.h>
#include <math.h>

#define INT_EXACT_MAX (INT64_C(1) << 53)
#define TIMES_ENTRY_BYTES_MIN 4

static const double powers[REF_FORM_DECIMALS_MAX + 1] = {1e0, 1e1, 1e2, 1e3,  1e4,  1e5, 1e6,
                                                         1e7, 1e8, 1e9, 1e10, 1e11, 1e12};

/* ---- times ---- */

struct times_state {
    uint32_t column;
    uint64_t start;
    int64_t before_ms;
    bool first;
};

static void put_times(struct buf *out, const struct chunk_ref *ref, struct times_state *s)
{
    const struct chunk_meta *m = &ref->meta;
    if (ref->own_times) {
        buf_u8(out, 0);
    } else {
        bool same = ref->column == s->column;
        buf_varint(out, zigzag_encode((int64_t)ref->column - (int64_t)s->column) + 1);
        buf_zigzag(out, (int64_t)((uint64_t)ref->start - (same ? s->start : 0)));
        s->column = ref->column;
        s->start = (uint64_t)ref->start + m->n;
    }
    buf_varint(out, m->n - 1);
    if (s->first)
        buf_zigzag(out, (int64_t)((uint64_t)m->t_min_ms - (uint64_t)s->before_ms));
    else
        buf_varint(out, (uint64_t)m->t_min_ms - (uint64_t)s->before_ms - 1);
    buf_varint(out, (uint64_t)m->t_max_ms - (uint64_t)m->t_min_ms);
    s->first = false;
    s->before_ms = m->t_max_ms;
}

static bool same_times(const struct chunk_ref *a, const struct chunk_ref *b, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (a[i].own_times != b[i].own_times || a[i].column != b[i].column ||
            a[i].start != b[i].start || a[i].meta.n != b[i].meta.n ||
            a[i].meta.t_min_ms != b[i].meta.t_min_ms || a[i].meta.t_max_ms != b[i].meta.t_max_ms)
            return false;
    return true;
}

static enum err_code times_next(struct chunk_refs *l, struct chunk_ref *ref, struct err *err)
{
    struct chunk_meta *m = &ref->meta;
    uint64_t code = reader_varint(&l->times);
    bool ok = true;
    ref->own_times = code == 0;
    if (code) {
        int64_t column = (int64_t)((uint64_t)l->column + (uint64_t)zigzag_decode(code - 1));
        uint64_t start = (uint64_t)reader_zigzag(&l->times) + (column == l->column ? l->start : 0);
        ok = column >= 0 && column < UINT32_MAX && start <= UINT32_MAX;
        ref->column = l->column = (uint32_t)column;
        ref->start = (uint32_t)start;
        l->start = start;
    }
    uint64_t more = reader_varint(&l->times);
    if (l->first) {
        m->t_min_ms = (int64_t)((uint64_t)l->before_ms + (uint64_t)reader_zigzag(&l->times));
    } else {
        m->t_min_ms = (int64_t)((uint64_t)l->before_ms + reader_varint(&l->times) + 1);
        ok &= m->t_min_ms > l->before_ms;
    }
    uint64_t span = reader_varint(&l->times);
    m->t_max_ms = (int64_t)((uint64_t)m->t_min_ms + span);
    ok &= more < CHUNK_SAMPLES_MAX && span >= more && m->t_max_ms >= m->t_min_ms;
    if (l->times.failed || !ok)
        return err_set(err, ERR_CORRUPT, "a chunk's place in time makes no sense");
    m->n = (uint32_t)more + 1;
    if (code) l->start += m->n;
    l->before_ms = m->t_max_ms;
    l->first = false;
    return ERR_OK;
}

/* ---- statistics ---- */

static bool same_bits(double a, double b)
{
    return double_bits(a) == double_bits(b);
}

/* v = k / 10^e, in every bit. */
static bool to_decimal(double v, unsigned e, int64_t *k)
{
    double scaled = v * powers[e];
    if (!(fabs(scaled) <= (double)INT_EXACT_MAX)) return false;
    *k = (int64_t)rint(scaled);
    return same_bits((double)*k / powers[e], v);
}

struct numbers {
    int64_t first, last, min, max;
};

static bool to_numbers(const struct chunk_meta *m, unsigned e, struct numbers *out)
{
    return to_decimal(m->first, e, &out->first) && to_decimal(m->last, e, &out->last) &&
           to_decimal(m->min, e, &out->min) && to_decimal(m->max, e, &out->max);
}

/* The form of the chunk before if it will do, else the smallest. */
static uint8_t choose_form(const struct chunk_meta *m, uint8_t before, struct numbers *out)
{
    if (before != REF_FORM_RAW && to_numbers(m, before, out)) return before;
    for (uint8_t e = 0; e <= REF_FORM_DECIMALS_MAX; e++)
        if (to_numbers(m, e, out)) return e;
    return REF_FORM_RAW;
}

static enum ref_shape shape_of(const struct chunk_meta *m)
{
    if (same_bits(m->first, m->last) && same_bits(m->first, m->min) && same_bits(m->first, m->max))
        return double_bits(m->first) == NO_FLOATS_BITS ? REF_NO_FLOATS : REF_SAME;
    if (same_bits(m->min, m->first) && same_bits(m->max, m->last)) return REF_RISING;
    if (same_bits(m->min, m->last) && same_bits(m->max, m->first)) return REF_FALLING;
    return REF_RANGE;
}

static void put_numbers(struct buf *out, enum ref_shape shape, const struct numbers *k,
                        int64_t k_before)
{
    buf_zigzag(out, k->first - k_before);
    if (shape == REF_SAME) return;
    buf_zigzag(out, k->last - k->first);
    if (shape != REF_RANGE) return;
    buf_varint(out, (uint64_t)(MIN_OF(k->first, k->last) - k->min));
    buf_varint(out, (uint64_t)(k->max - MAX_OF(k->first, k->last)));
}

static void put_raw(struct buf *out, enum ref_shape shape, const struct chunk_meta *m)
{
    buf_double(out, m->first);
    if (shape == REF_SAME) return;
    buf_double(out, m->last);
    if (shape != REF_RANGE) return;
    buf_double(out, m->min);
    buf_double(out, m->max);
}

/* What is the same for the reader: item, step, form, k_before, member. */
static void put_ref(struct buf *out, const struct chunk_ref *ref, struct chunk_refs *s)
{
    const struct chunk_meta *m = &ref->meta;
    enum ref_shape shape = shape_of(m);
    struct numbers k = {0};
    uint8_t form = shape == REF_NO_FLOATS ? s->form : choose_form(m, s->form, &k);
    uint64_t step = ref->item - s->item;
    unsigned extra =
        (ref->has_starts ? REF_EXTRA_STARTS : 0) | (m->has_histograms ? REF_EXTRA_HISTOGRAMS : 0);
    enum ref_kind kind = extra ? REF_EXTRA : REF_PLAIN;
    if (ref->family) kind = s->family && s->member == ref->member ? REF_MEMBER_AGAIN : REF_MEMBER;
    ASSERT(!ref->family || (!extra && !ref->own_times));
    buf_u8(out, (uint8_t)(kind | shape << REF_SHAPE_SHIFT | (m->n_resets ? REF_RESETS : 0) |
                          (step != s->step ? REF_STEP : 0) | (form != s->form ? REF_FORM : 0)));
    if (kind == REF_EXTRA) buf_u8(out, (uint8_t)extra);
    if (kind == REF_MEMBER) buf_u8(out, ref->member);
    if (step != s->step) buf_zigzag(out, (int64_t)(step - s->step));
    if (form != s->form) {
        buf_u8(out, form);
        s->k_before = 0;
    }
    if (shape != REF_NO_FLOATS) {
        if (form == REF_FORM_RAW)
            put_raw(out, shape, m);
        else
            put_numbers(out, shape, &k, s->k_before);
        s->k_before = form == REF_FORM_RAW ? 0 : k.last;
    }
    if (m->n_resets) buf_varint(out, m->n_resets);
    s->item = ref->item;
    s->step = step;
    s->form = form;
    if (ref->family) s->member = ref->member;
    s->family |= ref->family;
}

/* ---- a group ---- */

void refs_writer_init(struct refs_writer *w)
{
    for (size_t i = 0; i < BLOCK_GROUP_SERIES; i++) {
        buf_init(&w->times[i], MEM_STORAGE);
        buf_init(&w->refs[i], MEM_STORAGE);
    }
}

void refs_writer_release(struct refs_writer *w)
{
    for (size_t i = 0; i < BLOCK_GROUP_SERIES; i++) {
        buf_release(&w->times[i]);
        buf_release(&w->refs[i]);
    }
}

struct group_base {
    uint64_t item;
    uint32_t column;
    int64_t t_ms;
};

static struct group_base base_of(const struct chunk_ref *refs, const uint32_t *n_chunks,
                                 unsigned n_series)
{
    struct group_base base = {refs->item, refs->column, refs->meta.t_min_ms};
    for (unsigned i = 0; i < n_series; i++) {
        base.item = MIN_OF(base.item, refs->item);
        refs += n_chunks[i];
    }
    return base;
}

static void encode_series(struct buf *times, struct buf *out, const struct chunk_ref *refs,
                          uint32_t n, const struct group_base *base, bool with_times)
{
    struct times_state t = {.column = base->column, .before_ms = base->t_ms, .first = true};
    struct chunk_refs s = {.item = refs->item, .step = 0};
    buf_reset(times);
    buf_reset(out);
    buf_varint(out, refs->item - base->item);
    for (uint32_t i = 0; i < n; i++) {
        if (i) ASSERT(refs[i].meta.t_min_ms > refs[i - 1].meta.t_max_ms);
        if (with_times) put_times(times, &refs[i], &t);
        put_ref(out, &refs[i], &s);
        if (i == 0) s.step = 1;
    }
}

/* The first series before that has a list of its own with the same times; 0: none. */
static unsigned find_times(const struct chunk_ref *const *lists, const uint32_t *n_chunks,
                           const bool *own, unsigned i)
{
    for (unsigned d = 1; d <= i; d++)
        if (own[i - d] && n_chunks[i - d] == n_chunks[i] &&
            same_times(lists[i - d], lists[i], n_chunks[i]))
            return d;
    return 0;
}

enum err_code refs_group_encode(struct refs_writer *w, struct buf *out,
                                const struct chunk_ref *refs, const uint32_t *n_chunks,
                                unsigned n_series, struct err *err)
{
    const struct chunk_ref *lists[BLOCK_GROUP_SERIES];
    bool own[BLOCK_GROUP_SERIES];
    struct group_base base = base_of(refs, n_chunks, n_series);
    buf_varint(out, base.item);
    buf_varint(out, base.column);
    buf_zigzag(out, base.t_ms);
    for (unsigned i = 0; i < n_series; refs += n_chunks[i++]) {
        lists[i] = refs;
        unsigned d = find_times(lists, n_chunks, own, i);
        own[i] = d == 0;
        encode_series(&w->times[i], &w->refs[i], refs, n_chunks[i], &base, own[i]);
        enum err_code rc = buf_finish(&w->times[i], err);
        if (!rc) rc = buf_finish(&w->refs[i], err);
        if (rc) return rc;
        size_t len = w->refs[i].len;
        buf_u8(out, (uint8_t)(d | MIN_OF(len, (size_t)REF_LEN_MORE) << REF_LEN_SHIFT));
        if (len >= REF_LEN_MORE) buf_varint(out, len - REF_LEN_MORE);
        if (!own[i]) continue;
        buf_varint(out, n_chunks[i]);
        buf_varint(out, w->times[i].len);
    }
    for (unsigned i = 0; i < n_series; i++) {
        buf_put(out, w->times[i].p, w->times[i].len);
        buf_put(out, w->refs[i].p, w->refs[i].len);
    }
    return buf_finish(out, err);
}

/* ---- reading ---- */

static enum err_code read_entries(struct reader *r, unsigned n_series, struct refs_entry *entries,
                                  struct err *err)
{
    uint64_t off = 0;
    for (unsigned i = 0; i < n_series; i++) {
        struct refs_entry *e = &entries[i];
        uint8_t head = reader_u8(r);
        unsigned d = head & REF_TIMES_OF_MASK;
        e->refs_len = head >> REF_LEN_SHIFT;
        if (e->refs_len == REF_LEN_MORE) e->refs_len += reader_varint(r);
        if (d) {
            if (d > i) return err_set(err, ERR_CORRUPT, "times of no series in the group");
            e->n_chunks = entries[i - d].n_chunks;
            e->times_off = entries[i - d].times_off;
            e->times_len = entries[i - d].times_len;
        } else {
            e->n_chunks = reader_varint(r);
            e->times_off = off;
            e->times_len = reader_varint(r);
        }
        /* Within what a page holds at most, so that sums of 32 of them do not overflow. */
        if (r->failed || e->refs_len > PAGE_RAW_BYTES_MAX || e->times_len > PAGE_RAW_BYTES_MAX ||
            e->n_chunks == 0 || e->n_chunks > e->times_len / TIMES_ENTRY_BYTES_MIN ||
            e->n_chunks >= e->refs_len)
            return err_set(err, ERR_CORRUPT, "the chunk list of series %u in its group", i);
        if (!d) off += e->times_len;
        e->refs_off = off;
        off += e->refs_len;
    }
    if (off != reader_left(r))
        return err_set(err, ERR_CORRUPT, "chunk lists of %" PRIu64 " bytes where there are %zu",
                       off, reader_left(r));
    return ERR_OK;
}

enum err_code refs_directory_read(struct bytes group, unsigned n_series, struct refs_directory *out,
                                  struct err *err)
{
    struct reader r = reader_init(group);
    uint64_t base_column;
    out->base_item = reader_varint(&r);
    base_column = reader_varint(&r);
    out->base_ms = reader_zigzag(&r);
    if (base_column >= UINT32_MAX)
        return err_set(err, ERR_CORRUPT, "time column %" PRIu64, base_column);
    out->base_column = (uint32_t)base_column;
    enum err_code rc = read_entries(&r, n_series, out->entries, err);
    out->lists = r.p;
    return rc;
}

void refs_directory_find(const struct refs_directory *dir, unsigned k, struct chunk_refs *out)
{
    const struct refs_entry *e = &dir->entries[k];
    *out = (struct chunk_refs){
        .version = 2, .first = true, .before_ms = dir->base_ms, .column = dir->base_column};
    out->n_left = (uint32_t)e->n_chunks;
    out->times = reader_init(bytes_of(dir->lists + e->times_off, (size_t)e->times_len));
    out->refs = reader_init(bytes_of(dir->lists + e->refs_off, (size_t)e->refs_len));
    out->item = dir->base_item + reader_varint(&out->refs);
}

static enum err_code refs_find(struct bytes group, unsigned n_series, unsigned k,
                               struct chunk_refs *out, struct err *err)
{
    struct refs_directory dir;
    enum err_code rc = refs_directory_read(group, n_series, &dir, err);
    if (!rc) refs_directory_find(&dir, k, out);
    return rc;
}

enum err_code chunk_refs_find(uint32_t version, struct bytes group, unsigned n_series, unsigned k,
                              struct chunk_refs *out, struct err *err)
{
    ASSERT(k < n_series && n_series <= BLOCK_GROUP_SERIES);
    if (version == 1) return chunk_refs_find_v1(group, k, out, err);
    return refs_find(group, n_series, k, out, err);
}

/* k + what the reader has next, within 2^53. */
static int64_t next_number(struct reader *r, int64_t k, int64_t (*decode)(struct reader *r),
                           bool *ok)
{
    int64_t v;
    *ok &= !__builtin_add_overflow(k, decode(r), &v) && v >= -INT_EXACT_MAX && v <= INT_EXACT_MAX;
    return v;
}

static int64_t read_zigzag(struct reader *r)
{
    return reader_zigzag(r);
}

static int64_t read_up(struct reader *r)
{
    return (int64_t)reader_varint(r); /* beyond 2^63: goes the wrong way, which is found */
}

static int64_t read_down(struct reader *r)
{
    return (int64_t)(0 - reader_varint(r));
}

static bool read_numbers(struct chunk_refs *l, enum ref_shape shape, struct chunk_meta *m)
{
    struct numbers k;
    bool ok = true;
    k.first = next_number(&l->refs, l->k_before, read_zigzag, &ok);
    k.last = k.min = k.max = k.first;
    if (shape != REF_SAME) k.last = next_number(&l->refs, k.first, read_zigzag, &ok);
    if (shape == REF_RISING || shape == REF_FALLING) {
        k.min = shape == REF_RISING ? k.first : k.last;
        k.max = shape == REF_RISING ? k.last : k.first;
    }
    if (shape == REF_RANGE) {
        k.min = next_number(&l->refs, MIN_OF(k.first, k.last), read_down, &ok);
        k.max = next_number(&l->refs, MAX_OF(k.first, k.last), read_up, &ok);
        ok &= k.min <= k.first && k.min <= k.last && k.max >= k.first && k.max >= k.last;
    }
    double power = powers[l->form];
    m->first = (double)k.first / power;
    m->last = (double)k.last / power;
    m->min = (double)k.min / power;
    m->max = (double)k.max / power;
    l->k_before = k.last;
    return ok;
}

static bool read_raw(struct chunk_refs *l, enum ref_shape shape, struct chunk_meta *m)
{
    m->first = m->last = m->min = m->max = reader_double(&l->refs);
    l->k_before = 0;
    if (shape == REF_SAME) return true;
    m->last = reader_double(&l->refs);
    m->min = shape == REF_RISING ? m->first : m->last;
    m->max = shape == REF_RISING ? m->last : m->first;
    if (shape != REF_RANGE) return true;
    m->min = reader_double(&l->refs);
    m->max = reader_double(&l->refs);
    return true;
}

static bool read_floats(struct chunk_refs *l, enum ref_shape shape, struct chunk_meta *m)
{
    if (shape == REF_NO_FLOATS) {
        m->first = m->last = m->min = m->max = double_from_bits(NO_FLOATS_BITS);
        return true;
    }
    return l->form == REF_FORM_RAW ? read_raw(l, shape, m) : read_numbers(l, shape, m);
}

static bool read_kind(struct chunk_refs *l, enum ref_kind kind, struct chunk_ref *ref)
{
    unsigned extra = 0;
    bool ok = true;
    switch (kind) {
    case REF_PLAIN: break;
    case REF_EXTRA:
        extra = reader_u8(&l->refs);
        ok = extra && extra <= (REF_EXTRA_STARTS | REF_EXTRA_HISTOGRAMS);
        break;
    case REF_MEMBER:
        l->member = reader_u8(&l->refs);
        l->family = true;
        /* fall through */
    case REF_MEMBER_AGAIN:
        ok = l->family && !ref->own_times;
        ref->family = true;
        ref->member = l->member;
        break;
    }
    ref->has_starts = extra & REF_EXTRA_STARTS;
    ref->meta.has_histograms = extra & REF_EXTRA_HISTOGRAMS;
    return ok && !(ref->meta.has_histograms && !ref->own_times);
}

enum err_code chunk_refs_next(struct chunk_refs *l, struct chunk_ref *ref, struct err *err)
{
    ASSERT(l->n_left > 0);
    if (l->version == 1) return chunk_refs_next_v1(l, ref, err);
    bool first = l->first;
    *ref = (struct chunk_ref){0};
    enum err_code rc = times_next(l, ref, err);
    if (rc) return rc;
    uint8_t flags = reader_u8(&l->refs);
    enum ref_shape shape = flags >> REF_SHAPE_SHIFT & REF_SHAPE_MASK;
    bool ok = shape <= REF_RANGE && read_kind(l, flags & REF_KIND_MASK, ref);
    if (flags & REF_STEP) l->step += (uint64_t)reader_zigzag(&l->refs);
    ref->item = l->item += l->step;
    if (first) l->step = 1;
    if (flags & REF_FORM) {
        l->form = reader_u8(&l->refs);
        l->k_before = 0;
        ok &= l->form <= REF_FORM_RAW;
    }
    if (ok) ok = read_floats(l, shape, &ref->meta);
    uint64_t n_resets = flags & REF_RESETS ? reader_varint(&l->refs) : 0;
    ref->meta.n_resets = (uint32_t)n_resets;
    if (!ok || l->refs.failed || n_resets >= ref->meta.n)
        return err_set(err, ERR_CORRUPT, "a chunk's statistics make no sense");
    if (--l->n_left) return ERR_OK;
    rc = reader_finish(&l->refs, err);
    return rc ? rc : reader_finish(&l->times, err);
}
