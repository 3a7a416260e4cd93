/* storage/intcol.c: frames of 128 integers. The writer plans a frame (base, width, exceptions) by its exact size, then
 * writes it; the plan alone answers intcol_size. The kernels that pack and unpack are 65 copies of one loop, each with
 * its width as a constant, so that all shifts and masks are constants too.
 * Frame of reference with patched exceptions is from Zukowski et al. 2006 (PFOR) and Lemire, Boytsov 2015 (FastPFOR);
 * here a frame's window may leave out values on both sides. */
#include "storage/intcol.h"

#include "storage/format.h"

#define WIDTHS_8(x, w) x(w) x(w + 1) x(w + 2) x(w + 3) x(w + 4) x(w + 5) x(w + 6) x(w + 7)
#define WIDTHS(x)                                                                                  \
    WIDTHS_8(x, 0)                                                                                 \
    WIDTHS_8(x, 8)                                                                                 \
    WIDTHS_8(x, 16)                                                                                \
    WIDTHS_8(x, 24) WIDTHS_8(x, 32) WIDTHS_8(x, 40) WIDTHS_8(x, 48) WIDTHS_8(x, 56) x(64)

/* What a kernel may read or write beyond the packed bytes: a load of 9 bytes at the last value's first one. */
#define PACK_PAD 16
#define FRAME_PACKED_BYTES_MAX (INTCOL_FRAME * 8)
#define FRAME_HEAD_BYTES_MAX (1 + VARINT_BYTES_MAX + 2 + INTCOL_FRAME / 8)
#define FRAME_BYTES_MAX (FRAME_HEAD_BYTES_MAX + 2 * FRAME_PACKED_BYTES_MAX + PACK_PAD)

static inline size_t packed_bytes(size_t n, unsigned width)
{
    return (n * width + 7) / 8;
}

static inline unsigned bit_length(uint64_t u)
{
    return u ? 64 - (unsigned)__builtin_clzll(u) : 0;
}

static size_t varint_bytes(uint64_t u)
{
    return u ? (bit_length(u) + 6) / 7 : 1;
}

/* ---- Kernels: compiled for AVX2 they gain 2 to 12 % (bench_encodings), too little for a second copy ---- */

#define INLINE static inline __attribute__((always_inline))

/* `w` bits at bit `bit` of p; reads at most 9 bytes. */
INLINE uint64_t bits_at(const uint8_t *p, size_t bit, unsigned w)
{
    const uint8_t *q = p + bit / 8;
    unsigned s = bit % 8;
    uint64_t u = get_u64_le(q) >> s;
    if (s + w > 64) u |= (uint64_t)q[8] << (64 - s); /* only widths over 57 */
    return w == 64 ? u : u & ((UINT64_C(1) << w) - 1);
}

INLINE void unpack_width(const uint8_t *restrict p, size_t n, uint64_t base, uint64_t *restrict out,
                         unsigned w)
{
    for (; n >= 8; n -= 8, p += w, out += 8) {
        out[0] = base + bits_at(p, 0, w);
        out[1] = base + bits_at(p, (size_t)1 * w, w);
        out[2] = base + bits_at(p, (size_t)2 * w, w);
        out[3] = base + bits_at(p, (size_t)3 * w, w);
        out[4] = base + bits_at(p, (size_t)4 * w, w);
        out[5] = base + bits_at(p, (size_t)5 * w, w);
        out[6] = base + bits_at(p, (size_t)6 * w, w);
        out[7] = base + bits_at(p, (size_t)7 * w, w);
    }
    for (size_t i = 0; i < n; i++) out[i] = base + bits_at(p, i * w, w);
}

/* out[i] = base + value i, of n <= 128. Reads up to PACK_PAD bytes beyond. */
static void unpack(const uint8_t *p, size_t n, unsigned width, uint64_t base, uint64_t *out)
{
    ASSERT(width <= 64);
    switch (width) {
#define UNPACK_CASE(w)                                                                             \
    case w: unpack_width(p, n, base, out, w); break;
        WIDTHS(UNPACK_CASE)
#undef UNPACK_CASE
    }
}

struct bit_sink {
    uint8_t *p;
    uint64_t word;
    unsigned fill; /* bits of `word`, < 64 */
};

INLINE void sink_put(struct bit_sink *s, uint64_t u, unsigned w)
{
    s->word |= u << s->fill;
    if (s->fill + w >= 64) {
        put_u64_le(s->p, s->word);
        s->p += 8;
        s->word = s->fill ? u >> (64 - s->fill) : 0;
        s->fill = s->fill + w - 64;
    } else {
        s->fill += w;
    }
}

/* Eight values are w whole bytes; the store of the last word may reach 7 bytes further. */
INLINE void pack_width(uint8_t *restrict p, const uint64_t *restrict u, size_t n, unsigned w)
{
    if (w == 0) return;
    for (size_t i = 0; i < n; i += 8, p += w) {
        struct bit_sink s = {p, 0, 0};
        sink_put(&s, u[i], w);
        sink_put(&s, u[i + 1], w);
        sink_put(&s, u[i + 2], w);
        sink_put(&s, u[i + 3], w);
        sink_put(&s, u[i + 4], w);
        sink_put(&s, u[i + 5], w);
        sink_put(&s, u[i + 6], w);
        sink_put(&s, u[i + 7], w);
        if (s.fill) put_u64_le(s.p, s.word);
    }
}

/* Packs u[0..n), each < 2^width; u is readable, and zero, up to the next multiple of 8. Writes up to PACK_PAD bytes
 * beyond the packed ones. */
static void pack(uint8_t *p, const uint64_t *u, size_t n, unsigned width)
{
    ASSERT(width <= 64);
    switch (width) {
#define PACK_CASE(w)                                                                               \
    case w: pack_width(p, u, n, w); break;
        WIDTHS(PACK_CASE)
#undef PACK_CASE
    }
}

/* ---- Planning a frame ---- */

struct plan {
    uint64_t base;
    unsigned width, exc_width; /* bits of a value, of an exception */
    size_t n_exc;
    size_t size; /* of the frame in bytes */
};

/* What the planner knows of a frame. */
struct frame {
    const int64_t *x;
    size_t n;
    int64_t min, max;
    uint64_t prev_base;
};

static size_t where_bytes(size_t n, size_t n_exc)
{
    return n_exc < INTCOL_WHERE_BITMAP ? n_exc : (n + 7) / 8;
}

/* Keeps the better plan of *best and (base, width, n_exc). */
static void plan_offer(const struct frame *f, uint64_t base, unsigned width, size_t n_exc,
                       struct plan *best)
{
    struct plan p = {.base = base, .width = width, .n_exc = n_exc};
    p.size =
        1 + varint_bytes(zigzag_encode((int64_t)(base - f->prev_base))) + packed_bytes(f->n, width);
    if (n_exc) {
        uint64_t above = (uint64_t)f->max - base, below = (uint64_t)f->min - base;
        int64_t low = MIN_OF(f->min, (int64_t)base), high = MAX_OF(f->max, (int64_t)base);
        if ((uint64_t)high - (uint64_t)low > INT64_MAX) {
            p.exc_width = 64; /* distances wrap: the outermost values need not be the widest */
        } else {
            if (bit_length(above) > width) p.exc_width = bit_length(zigzag_encode((int64_t)above));
            if ((int64_t)below < 0)
                p.exc_width = MAX_OF(p.exc_width, bit_length(zigzag_encode((int64_t)below)));
        }
        p.size += 2 + where_bytes(f->n, n_exc) + packed_bytes(n_exc, p.exc_width);
    }
    if (p.size < best->size) *best = p;
}

/* All widths for one base. A value is in the window when its distance to the base, modulo 2^64, is below 2^width: those
 * below the base are 64 bits away. */
static void plan_base(const struct frame *f, uint64_t base, struct plan *best)
{
    /* Two histograms, so that equal lengths in a row do not wait for each other's counter. */
    uint8_t by_length[2][65] = {{0}};
    size_t i = 0;
    for (; i + 2 <= f->n; i += 2) {
        by_length[0][bit_length((uint64_t)f->x[i] - base)]++;
        by_length[1][bit_length((uint64_t)f->x[i + 1] - base)]++;
    }
    if (i < f->n) by_length[0][bit_length((uint64_t)f->x[i] - base)]++;
    size_t n_exc = f->n;
    for (unsigned width = 0; width <= 64 && n_exc; width++) {
        unsigned here = (unsigned)by_length[0][width] + by_length[1][width];
        if (!here) continue; /* the width before holds as many */
        n_exc -= here;
        plan_offer(f, base, width, n_exc, best);
    }
}

static int64_t third_smallest(const int64_t *x, size_t n)
{
    int64_t a = INT64_MAX, b = INT64_MAX, c = INT64_MAX;
    for (size_t i = 0; i < n; i++) {
        if (LIKELY(x[i] >= c)) continue;
        if (x[i] < a) {
            c = b;
            b = a;
            a = x[i];
        } else if (x[i] < b) {
            c = b;
            b = x[i];
        } else {
            c = x[i];
        }
    }
    return c;
}

/* Three bases: the smallest value; the third smallest, which makes exceptions of two resets; the smallest that is not
 * negative, for more of them. */
static void plan_fast(const struct frame *f, struct plan *best)
{
    plan_base(f, (uint64_t)f->min, best);
    if (f->n < 8) return;
    /* A base within the lowest eighth of the range would hardly make the rest narrower. */
    uint64_t range = (uint64_t)f->max - (uint64_t)f->min;
    int64_t third = third_smallest(f->x, f->n);
    if ((uint64_t)third - (uint64_t)f->min > range / 8) plan_base(f, (uint64_t)third, best);
    if (f->min >= 0 || f->max < 0 || third >= 0) return;
    uint64_t not_negative = INT64_MAX;
    for (size_t i = 0; i < f->n; i++) not_negative = MIN_OF(not_negative, (uint64_t)f->x[i]);
    if (not_negative - (uint64_t)f->min > range / 8) plan_base(f, not_negative, best);
}

/* Merges two sorted runs, without branches that depend on the values. */
static void merge(const int64_t *restrict a, size_t n_a, const int64_t *restrict b, size_t n_b,
                  int64_t *restrict out)
{
    size_t i = 0, j = 0, k = 0;
    while (i < n_a && j < n_b) {
        int64_t x = a[i], y = b[j];
        bool take_b = y < x;
        out[k++] = take_b ? y : x;
        i += !take_b;
        j += take_b;
    }
    memcpy(out + k, a + i, (n_a - i) * sizeof(*a));
    memcpy(out + k + (n_a - i), b + j, (n_b - j) * sizeof(*b));
}

/* Sorts n <= 128 values. */
static void sort_frame(const int64_t *x, size_t n, int64_t *sorted)
{
    int64_t other[INTCOL_FRAME];
    memcpy(sorted, x, n * sizeof(*x));
    for (size_t from = 0; from < n; from += 8) {
        size_t to = MIN_OF(from + 8, n);
        for (size_t i = from + 1; i < to; i++) {
            int64_t v = sorted[i];
            size_t j = i;
            for (; j > from && sorted[j - 1] > v; j--) sorted[j] = sorted[j - 1];
            sorted[j] = v;
        }
    }
    int64_t *in = sorted, *out = other;
    for (size_t run = 8; run < n; run *= 2) {
        for (size_t from = 0; from < n; from += 2 * run) {
            size_t mid = MIN_OF(from + run, n), to = MIN_OF(from + 2 * run, n);
            merge(in + from, mid - from, in + mid, to - mid, out + from);
        }
        int64_t *t = in;
        in = out;
        out = t;
    }
    if (in != sorted) memcpy(sorted, in, n * sizeof(*sorted));
}

/* How many of the sorted values the fullest window of width `last` + 1 holds; *at is its first one. The window slides
 * over them and only ever grows, without a branch that depends on the values. */
static size_t fullest_window(const int64_t *sorted, size_t n, uint64_t last, size_t *at)
{
    size_t most = 0, first = 0;
    for (size_t end = 0; end < n; end++) {
        size_t start = end - most;
        bool fits = (uint64_t)sorted[end] - (uint64_t)sorted[start] <= last;
        most += fits;
        first = fits ? start : first;
    }
    *at = first;
    return most;
}

/* For every width the window that holds most values. */
static void plan_small(const struct frame *f, struct plan *best)
{
    plan_fast(f, best);
    uint64_t range = (uint64_t)f->max - (uint64_t)f->min;
    if (range > INT64_MAX) return;
    /* The base of before saves bytes of its own if the frame is near it. */
    if ((uint64_t)f->max - f->prev_base <= 2 * range) plan_base(f, f->prev_base, best);
    int64_t sorted[INTCOL_FRAME];
    sort_frame(f->x, f->n, sorted);
    unsigned width_all = bit_length(range); /* <= 63, see above */
    for (unsigned width = width_all + 1; width-- > 0;) {
        if (packed_bytes(f->n, width) + 2 >= best->size) continue;
        size_t at = 0, most = fullest_window(sorted, f->n, (UINT64_C(1) << width) - 1, &at);
        /* Narrower windows only leave out more, and exceptions are about as wide as the range: nothing better is to be
         * expected. */
        if (packed_bytes(f->n - most, width_all) >= best->size) break;
        plan_offer(f, (uint64_t)sorted[at], width, f->n - most, best);
    }
}

static struct plan plan_frame(const int64_t *x, size_t n, uint64_t prev_base, enum effort effort)
{
    struct frame f = {.x = x, .n = n, .min = x[0], .max = x[0], .prev_base = prev_base};
    for (size_t i = 1; i < n; i++) {
        f.min = MIN_OF(f.min, x[i]);
        f.max = MAX_OF(f.max, x[i]);
    }
    struct plan best = {.size = SIZE_MAX};
    if (f.min == f.max)
        plan_offer(&f, (uint64_t)f.min, 0, 0, &best);
    else if (effort == EFFORT_SMALL)
        plan_small(&f, &best);
    else
        plan_fast(&f, &best);
    return best;
}

/* ---- Writing ---- */

/* Takes the exceptions out of the frame: u[i] = what goes into the body, exc[k] with positions. */
static void frame_split(const int64_t *x, size_t n, const struct plan *p, uint64_t *restrict u,
                        uint64_t *restrict exc, uint8_t *restrict where)
{
    if (!p->n_exc) {
        for (size_t i = 0; i < n; i++) u[i] = (uint64_t)x[i] - p->base;
        return;
    }
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t d = (uint64_t)x[i] - p->base;
        bool out = bit_length(d) > p->width;
        u[i] = out ? 0 : d;
        exc[k] = zigzag_encode((int64_t)d);
        where[k] = (uint8_t)i;
        k += out;
    }
    ASSERT(k == p->n_exc);
}

static uint8_t *put_where(uint8_t *to, const uint8_t *where, size_t n_exc, size_t n)
{
    if (n_exc < INTCOL_WHERE_BITMAP) {
        memcpy(to, where, n_exc);
        return to + n_exc;
    }
    size_t len = (n + 7) / 8;
    memset(to, 0, len);
    for (size_t k = 0; k < n_exc; k++) to[where[k] / 8] |= (uint8_t)(1u << where[k] % 8);
    return to + len;
}

static void put_frame(struct buf *out, const int64_t *x, size_t n, const struct plan *p,
                      uint64_t prev_base)
{
    uint8_t *start = buf_reserve(out, FRAME_BYTES_MAX);
    if (!start) return;
    /* One more than a frame: frame_split writes before it knows whether the value is an exception. */
    uint64_t u[INTCOL_FRAME], exc[INTCOL_FRAME + 8];
    uint8_t where[INTCOL_FRAME + 1];
    frame_split(x, n, p, u, exc, where);
    uint8_t *to = start;
    *to++ = (uint8_t)(p->width | (p->n_exc ? INTCOL_EXCEPTIONS : 0));
    to += put_varint(to, zigzag_encode((int64_t)(p->base - prev_base)));
    if (p->n_exc) {
        *to++ = (uint8_t)p->n_exc;
        *to++ = (uint8_t)p->exc_width;
        to = put_where(to, where, p->n_exc, n);
        for (size_t k = p->n_exc; k % 8; k++) exc[k] = 0;
        pack(to, exc, p->n_exc, p->exc_width);
        to += packed_bytes(p->n_exc, p->exc_width);
    }
    for (size_t i = n; i % 8; i++) u[i] = 0;
    pack(to, u, n, p->width);
    to += packed_bytes(n, p->width);
    ASSERT((size_t)(to - start) == p->size);
    out->len += p->size;
}

/* How many frames from x on hold nothing but `base`. */
static size_t run_frames(const int64_t *x, size_t n, uint64_t base)
{
    size_t same = 0;
    while (same < n && (uint64_t)x[same] == base) same++;
    return same == n ? (n + INTCOL_FRAME - 1) / INTCOL_FRAME : same / INTCOL_FRAME;
}

/* Into `out`, or nowhere when it is NULL; returns the bytes. */
static size_t encode(struct buf *out, const int64_t *x, size_t n, enum effort effort)
{
    uint64_t base = 0;
    size_t size = 0;
    while (n) {
        size_t run = run_frames(x, n, base), taken;
        if (run) {
            taken = MIN_OF(n, run * INTCOL_FRAME);
            size += 1 + varint_bytes(run - 1);
            if (out) {
                buf_u8(out, INTCOL_RUN);
                buf_varint(out, run - 1);
            }
        } else {
            taken = MIN_OF(n, (size_t)INTCOL_FRAME);
            struct plan p = plan_frame(x, taken, base, effort);
            size += p.size;
            if (out) put_frame(out, x, taken, &p, base);
            base = p.base;
        }
        x += taken;
        n -= taken;
    }
    return size;
}

void intcol_encode(struct buf *out, const int64_t *x, size_t n, enum effort effort)
{
    (void)encode(out, x, n, effort); /* the size is in out->len */
}

size_t intcol_size(const int64_t *x, size_t n, enum effort effort)
{
    return encode(NULL, x, n, effort);
}

/* ---- Reading ---- */

void intcol_cursor_init(struct intcol_cursor *c, struct reader *r, size_t n)
{
    *c = (struct intcol_cursor){.r = r, .left = n};
}

/* The next frame's header and exceptions, and where its body is. */
struct frame_head {
    uint64_t base;
    unsigned width, exc_width;
    size_t n, n_exc;
    struct bytes where, exc, body;
};

static enum err_code frame_error(const struct reader *r, struct err *err)
{
    return err_set(err, ERR_CORRUPT, "a frame of integers that cannot be, at byte %zu",
                   reader_off(r));
}

/* What follows the base. */
static enum err_code frame_head_read(struct reader *r, uint8_t h, size_t n, uint64_t prev_base,
                                     struct frame_head *f, struct err *err)
{
    *f = (struct frame_head){.width = h & ~INTCOL_EXCEPTIONS, .n = n};
    f->base = prev_base + (uint64_t)reader_zigzag(r);
    if (f->width > 64) return frame_error(r, err);
    if (h & INTCOL_EXCEPTIONS) {
        f->n_exc = reader_u8(r);
        f->exc_width = reader_u8(r);
        if (f->n_exc < 1 || f->n_exc > n || f->exc_width < 1 || f->exc_width > 64)
            return frame_error(r, err);
        f->where = reader_bytes(r, where_bytes(n, f->n_exc));
        f->exc = reader_bytes(r, packed_bytes(f->n_exc, f->exc_width));
    }
    f->body = reader_bytes(r, packed_bytes(n, f->width));
    return r->failed ? frame_error(r, err) : ERR_OK;
}

/* Packed bytes with PACK_PAD readable ones behind them: themselves, or a copy near the end of what was given. */
static const uint8_t *padded(const struct reader *r, struct bytes packed, uint8_t *copy)
{
    if (LIKELY((size_t)(r->end - packed.p) >= packed.len + PACK_PAD)) return packed.p;
    memcpy(copy, packed.p, packed.len);
    memset(copy + packed.len, 0, PACK_PAD);
    return copy;
}

/* Positions of the exceptions; false when they do not rise or leave the frame. */
static bool where_read(const struct frame_head *f, uint8_t *where)
{
    if (f->n_exc < INTCOL_WHERE_BITMAP) {
        bool bad = f->where.p[f->n_exc - 1] >= f->n;
        where[0] = f->where.p[0];
        for (size_t k = 1; k < f->n_exc; k++) {
            where[k] = f->where.p[k];
            bad |= where[k] <= where[k - 1];
        }
        return !bad;
    }
    size_t n_set = 0;
    for (size_t i = 0; i < f->n; i += 8) {
        unsigned byte = f->where.p[i / 8];
        if (i + 8 > f->n && byte >> (f->n - i)) return false;
        for (; byte; byte &= byte - 1) where[n_set++] = (uint8_t)(i + (size_t)__builtin_ctz(byte));
    }
    return n_set == f->n_exc;
}

static enum err_code exceptions_apply(const struct reader *r, const struct frame_head *f,
                                      int64_t *out, struct err *err)
{
    uint8_t where[INTCOL_FRAME], copy[FRAME_PACKED_BYTES_MAX + PACK_PAD];
    uint64_t exc[INTCOL_FRAME];
    if (!where_read(f, where)) return frame_error(r, err);
    unpack(padded(r, f->exc, copy), f->n_exc, f->exc_width, 0, exc);
    for (size_t k = 0; k < f->n_exc; k++)
        out[where[k]] = (int64_t)(f->base + (uint64_t)zigzag_decode(exc[k]));
    return ERR_OK;
}

static void fill(int64_t *out, size_t n, int64_t v)
{
    for (size_t i = 0; i < n; i++) out[i] = v;
}

/* A run's header, behind its 0x7F. */
static enum err_code run_read(struct intcol_cursor *c, struct err *err)
{
    uint64_t more = reader_varint(c->r), frames = (c->left + INTCOL_FRAME - 1) / INTCOL_FRAME;
    if (c->r->failed || more >= frames) return frame_error(c->r, err);
    c->run = (size_t)more + 1;
    return ERR_OK;
}

enum err_code intcol_next(struct intcol_cursor *c, int64_t *out, size_t *n, struct err *err)
{
    *n = MIN_OF(c->left, (size_t)INTCOL_FRAME);
    if (*n == 0) return ERR_OK;
    if (!c->run) {
        uint8_t h = reader_u8(c->r);
        if (h != INTCOL_RUN) {
            struct frame_head f;
            uint8_t copy[FRAME_PACKED_BYTES_MAX + PACK_PAD];
            enum err_code rc = frame_head_read(c->r, h, *n, c->base, &f, err);
            if (rc) return rc;
            c->base = f.base;
            c->left -= f.n;
            if (f.width)
                unpack(padded(c->r, f.body, copy), f.n, f.width, f.base, (uint64_t *)out);
            else
                fill(out, f.n, (int64_t)f.base);
            return f.n_exc ? exceptions_apply(c->r, &f, out, err) : ERR_OK;
        }
        enum err_code rc = run_read(c, err);
        if (rc) return rc;
    }
    c->run--;
    c->left -= *n;
    fill(out, *n, (int64_t)c->base);
    return ERR_OK;
}

enum err_code intcol_decode(struct reader *r, size_t n, int64_t *out, struct err *err)
{
    struct intcol_cursor c;
    intcol_cursor_init(&c, r, n);
    while (c.left) {
        size_t taken;
        enum err_code rc = intcol_next(&c, out, &taken, err);
        if (rc) return rc;
        out += taken;
    }
    return ERR_OK;
}

enum err_code intcol_decode_sums(struct reader *r, size_t n, int64_t start, int64_t *out,
                                 struct err *err)
{
    struct intcol_cursor c;
    uint64_t sum = (uint64_t)start;
    intcol_cursor_init(&c, r, n);
    while (c.left) {
        size_t taken;
        enum err_code rc = intcol_next(&c, out, &taken, err);
        if (rc) return rc;
        for (size_t i = 0; i < taken; i++) out[i] = (int64_t)(sum += (uint64_t)out[i]);
        out += taken;
    }
    return ERR_OK;
}

enum err_code intcol_skip(struct reader *r, size_t n, struct err *err)
{
    struct intcol_cursor c;
    intcol_cursor_init(&c, r, n);
    while (c.left) {
        size_t taken = MIN_OF(c.left, (size_t)INTCOL_FRAME);
        uint8_t h = reader_u8(r);
        if (h == INTCOL_RUN) {
            enum err_code rc = run_read(&c, err);
            if (rc) return rc;
            taken = MIN_OF(c.left, c.run * INTCOL_FRAME);
        } else {
            struct frame_head f;
            enum err_code rc = frame_head_read(r, h, taken, 0, &f, err);
            if (rc) return rc;
        }
        c.left -= taken;
    }
    return ERR_OK;
}
