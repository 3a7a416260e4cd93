/* storage/family.c: see the header.
 * With x_k the values of member k and z_k = x_k - x_(k-1) what its bucket alone counted, the chunk holds the differences
 * in time of N = x_(m-1) and of all z but the dearest, z_j = N - the others. Members below j are sums from the bottom,
 * the others N less sums from the top: z_j itself is never needed.
 * All arithmetic is modulo 2^64, so that hostile bytes give wrong numbers but nothing undefined. Arrays of doubles
 * serve as room for the integers that they are made of: both are 8 bytes, and -fno-strict-aliasing allows it. */
#include "storage/family.h"

#include "storage/format.h"
#include "storage/histogram.h"

#define VALUE_END (INT64_C(1) << 53) /* below it every whole number is a double */

/* ---- encoding ---- */

/* The columns in the making: z_0 .. z_(m-1), then N. */
struct encoder {
    int64_t *below, *x, *delta; /* n each: the member before, this one, what is written */
    struct buf columns;
    size_t end[FAMILY_MEMBERS_MAX + 1]; /* of each column within `columns` */
    int64_t first[FAMILY_MEMBERS_MAX];
};

static bool is_stale_at(const double *v, size_t i)
{
    uint64_t bits;
    memcpy(&bits, &v[i], sizeof(bits)); /* no register in between that could quieten it */
    return bits == STALE_NAN_BITS;
}

/* The first sample that is no marker; n if there is none. */
static size_t first_value(const double *v, size_t n)
{
    size_t i = 0;
    while (i < n && is_stale_at(v, i)) i++;
    return i;
}

static bool value_to_int(double v, int64_t *out)
{
    if (!(v > (double)-VALUE_END && v < (double)VALUE_END)) return false;
    *out = (int64_t)v;
    return double_bits((double)*out) == double_bits(v); /* by bits: -0 is not 0 */
}

/* The values as integers, a marker as the value before it (the first value before all). `pattern` has markers at the
 * samples where v must have them, and nowhere else. */
static bool load_member(const double *v, const double *pattern, size_t n, int64_t *x)
{
    size_t begin = first_value(pattern, n);
    if (begin == n || begin != first_value(v, n)) return false;
    int64_t last = 0;
    for (size_t i = begin; i < n; i++) {
        if (is_stale_at(v, i) != is_stale_at(pattern, i)) return false;
        if (!is_stale_at(v, i) && !value_to_int(v[i], &last)) return false;
        x[i] = last;
    }
    for (size_t i = 0; i < begin; i++) x[i] = x[begin];
    return true;
}

static void put_column(struct encoder *e, size_t column, size_t n, enum effort effort)
{
    intcol_encode(&e->columns, e->delta, n - 1, effort);
    e->end[column] = e->columns.len;
}

static bool encode_columns(struct encoder *e, const struct family_input *in, enum effort effort)
{
    size_t n = in->n;
    memset(e->below, 0, n * sizeof(*e->below));
    for (size_t k = 0; k < in->n_members; k++) {
        if (!load_member(in->v[k], in->v[0], n, e->x)) return false;
        e->first[k] = e->x[0] - e->below[0];
        for (size_t i = 1; i < n; i++)
            e->delta[i - 1] = (e->x[i] - e->below[i]) - (e->x[i - 1] - e->below[i - 1]);
        put_column(e, k, n, effort);
        int64_t *done = e->below;
        e->below = e->x;
        e->x = done;
    }
    for (size_t i = 1; i < n; i++) e->delta[i - 1] = e->below[i] - e->below[i - 1];
    put_column(e, in->n_members, n, effort);
    return !e->columns.failed;
}

static size_t column_start(const struct encoder *e, size_t column)
{
    return column ? e->end[column - 1] : 0;
}

static size_t column_bytes(const struct encoder *e, size_t column)
{
    return e->end[column] - column_start(e, column);
}

static void put_markers(struct buf *out, const double *v, size_t n)
{
    size_t n_stale = 0, next = 0;
    for (size_t i = 0; i < n; i++) n_stale += is_stale_at(v, i);
    buf_varint(out, n_stale);
    for (size_t i = 0; i < n; i++) {
        if (!is_stale_at(v, i)) continue;
        buf_varint(out, i - next);
        next = i + 1;
    }
}

static bool has_markers(const double *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (is_stale_at(v, i)) return true;
    return false;
}

static void put_chunk(struct buf *out, const struct encoder *e, const struct family_input *in)
{
    size_t m = in->n_members, dropped = 0;
    for (size_t k = 1; k < m; k++)
        if (column_bytes(e, k) > column_bytes(e, dropped)) dropped = k;
    bool stale = has_markers(in->v[0], in->n);
    buf_u8(out, FAMILY_TAG);
    buf_u8(out, (uint8_t)m);
    buf_u8(out, (uint8_t)dropped);
    buf_u8(out, (uint8_t)((in->count ? FAMILY_HAS_COUNT : 0) | (stale ? FAMILY_HAS_MARKERS : 0)));
    buf_varint(out, column_bytes(e, m));
    for (size_t k = 0; k < m; k++)
        if (k != dropped) buf_varint(out, column_bytes(e, k));
    for (size_t k = 0; k < m; k++) buf_zigzag(out, e->first[k]);
    if (stale) put_markers(out, in->v[0], in->n);
    buf_put(out, e->columns.p + column_start(e, m), column_bytes(e, m));
    for (size_t k = 0; k < m; k++)
        if (k != dropped) buf_put(out, e->columns.p + column_start(e, k), column_bytes(e, k));
}

bool family_encode(struct buf *out, const struct family_input *in, enum effort effort,
                   size_t single_bytes)
{
    ASSERT(in->n_members >= FAMILY_MEMBERS_MIN);
    ASSERT(in->n_members <= FAMILY_MEMBERS_MAX);
    ASSERT(in->n >= 1);
    size_t size;
    if (in->count && memcmp(in->count, in->v[in->n_members - 1], in->n * sizeof(double)) != 0)
        return false;
    int64_t *room = mem_mul(in->n, 3 * sizeof(*room), &size) ? mem_alloc(MEM_STORAGE, size) : NULL;
    if (!room) return false;
    struct encoder e = {.below = room, .x = room + in->n, .delta = room + 2 * in->n};
    buf_init(&e.columns, MEM_STORAGE);
    size_t start = out->len;
    bool done = encode_columns(&e, in, effort);
    if (done) put_chunk(out, &e, in);
    if (done && single_bytes && out->len - start > single_bytes) done = false;
    if (!done) out->len = start;
    buf_release(&e.columns);
    mem_free(room);
    return done;
}

/* ---- decoding ---- */

struct family {
    size_t n_members, dropped;
    bool has_count;
    struct reader markers;                   /* behind their number */
    uint64_t n_markers;                      /* 0: none */
    struct bytes total;                      /* column N */
    struct bytes bucket[FAMILY_MEMBERS_MAX]; /* columns z; that of `dropped` is not there */
    uint64_t first[FAMILY_MEMBERS_MAX];      /* z at the first sample */
};

static enum err_code parse_head(struct reader *r, struct family *f, uint8_t *flags, struct err *err)
{
    uint8_t tag = reader_u8(r);
    f->n_members = reader_u8(r);
    f->dropped = reader_u8(r);
    *flags = reader_u8(r);
    if (r->failed || tag != FAMILY_TAG || f->n_members < FAMILY_MEMBERS_MIN ||
        f->n_members > FAMILY_MEMBERS_MAX || f->dropped >= f->n_members ||
        *flags & ~(FAMILY_HAS_COUNT | FAMILY_HAS_MARKERS))
        return err_set(err, ERR_CORRUPT,
                       "a family chunk of %zu bytes: tag %u, %zu members without %zu, flags %02x",
                       (size_t)(r->end - r->start), tag, f->n_members, f->dropped, *flags);
    f->has_count = *flags & FAMILY_HAS_COUNT;
    return ERR_OK;
}

bool family_has_markers(struct bytes chunk)
{
    struct reader r = reader_init(chunk);
    struct family f;
    struct err ignored; /* who decodes it says what is wrong */
    uint8_t flags;
    return parse_head(&r, &f, &flags, &ignored) != ERR_OK || flags & FAMILY_HAS_MARKERS;
}

/* Finds the end of the markers; their places are checked where they are used, as n is not known here. */
static void parse_markers(struct reader *r, struct family *f, uint8_t flags)
{
    f->n_markers = 0;
    if (!(flags & FAMILY_HAS_MARKERS)) return;
    f->n_markers = reader_varint(r);
    if (f->n_markers == 0 || f->n_markers > reader_left(r)) r->failed = true;
    f->markers = *r;
    for (uint64_t i = 0; i < f->n_markers && !r->failed; i++) (void)reader_varint(r);
}

/* Where everything is. Lengths are in the order of the columns: the total, then the buckets. */
static enum err_code parse(struct bytes chunk, struct family *f, struct err *err)
{
    struct reader r = reader_init(chunk);
    uint8_t flags;
    enum err_code rc = parse_head(&r, f, &flags, err);
    if (rc) return rc;
    struct reader lengths = r;
    for (size_t c = 0; c < f->n_members; c++) (void)reader_varint(&r);
    for (size_t k = 0; k < f->n_members; k++) f->first[k] = (uint64_t)reader_zigzag(&r);
    parse_markers(&r, f, flags);
    for (size_t c = 0, k = 0; c < f->n_members; c++) {
        uint64_t length = reader_varint(&lengths);
        if (r.failed || length > reader_left(&r))
            return err_set(err, ERR_CORRUPT, "a family chunk of %zu bytes is cut short", chunk.len);
        struct bytes column = reader_bytes(&r, (size_t)length);
        if (c == 0) {
            f->total = column;
            continue;
        }
        k += k == f->dropped;
        f->bucket[k++] = column;
    }
    return reader_finish(&r, err);
}

enum err_code family_peek(struct bytes chunk, size_t *n_members, bool *has_count, struct err *err)
{
    struct reader r = reader_init(chunk);
    struct family f;
    uint8_t flags;
    enum err_code rc = parse_head(&r, &f, &flags, err);
    if (rc) return rc;
    *n_members = f.n_members;
    *has_count = f.has_count;
    return ERR_OK;
}

/* The differences of a column: n - 1 numbers. */
static enum err_code get_deltas(struct bytes column, size_t n, int64_t *out, struct err *err)
{
    struct reader r = reader_init(column);
    enum err_code rc = intcol_decode(&r, n - 1, out, err);
    return rc ? rc : reader_finish(&r, err);
}

/* The n numbers of a column that begins with `first`. */
static enum err_code get_sums(struct bytes column, size_t n, uint64_t first, int64_t *out,
                              struct err *err)
{
    struct reader r = reader_init(column);
    out[0] = (int64_t)first;
    enum err_code rc = intcol_decode_sums(&r, n - 1, (int64_t)first, out + 1, err);
    return rc ? rc : reader_finish(&r, err);
}

static uint64_t first_total(const struct family *f)
{
    uint64_t sum = 0;
    for (size_t k = 0; k < f->n_members; k++) sum += f->first[k];
    return sum;
}

/* Puts the markers back into one member's values. */
static enum err_code set_markers(const struct family *f, size_t n, double *out, struct err *err)
{
    struct reader r = f->markers;
    uint64_t bits = STALE_NAN_BITS, next = 0;
    for (uint64_t i = 0; i < f->n_markers; i++) {
        uint64_t gap = reader_varint(&r);
        if (gap >= n - next)
            return err_set(err, ERR_CORRUPT, "a family chunk has markers beyond its %zu samples",
                           n);
        memcpy(&out[next + gap], &bits, sizeof(bits));
        next += gap + 1;
    }
    return ERR_OK;
}

static void to_doubles(int64_t *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double v = (double)x[i];
        memcpy(&x[i], &v, sizeof(v));
    }
}

static void add(int64_t *restrict sum, const int64_t *restrict x, size_t n)
{
    for (size_t i = 0; i < n; i++) sum[i] = (int64_t)((uint64_t)sum[i] + (uint64_t)x[i]);
}

static void subtract(int64_t *restrict sum, const int64_t *restrict x, size_t n)
{
    for (size_t i = 0; i < n; i++) sum[i] = (int64_t)((uint64_t)sum[i] - (uint64_t)x[i]);
}

/* sum += or -= the n - 1 differences of a column, frame by frame. */
static enum err_code combine_deltas(struct bytes column, size_t n, bool minus, int64_t *sum,
                                    struct err *err)
{
    struct reader r = reader_init(column);
    struct intcol_cursor c;
    int64_t x[INTCOL_FRAME];
    size_t taken;
    enum err_code rc;
    intcol_cursor_init(&c, &r, n - 1);
    while (!(rc = intcol_next(&c, x, &taken, err)) && taken) {
        if (minus)
            subtract(sum, x, taken);
        else
            add(sum, x, taken);
        sum += taken;
    }
    return rc ? rc : reader_finish(&r, err);
}

/* Differences in x[1..] to doubles: one pass. */
static void sums_to_doubles(int64_t *x, size_t n, uint64_t first)
{
    uint64_t sum = first;
    x[0] = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (uint64_t)x[i];
        double v = (double)(int64_t)sum;
        memcpy(&x[i], &v, sizeof(v));
    }
}

/* A member that is not +Inf: differences of its columns are added up, one running sum is taken at the end. */
static enum err_code get_member(const struct family *f, size_t n, size_t k, int64_t *out,
                                struct err *err)
{
    bool from_top = k >= f->dropped;
    size_t begin = from_top ? k + 1 : 1, end = from_top ? f->n_members : k + 1;
    uint64_t first = from_top ? first_total(f) : f->first[0];
    enum err_code rc = get_deltas(from_top ? f->total : f->bucket[0], n, out + 1, err);
    for (size_t c = begin; !rc && c < end; c++) {
        first += from_top ? -f->first[c] : f->first[c];
        rc = combine_deltas(f->bucket[c], n, from_top, out + 1, err);
    }
    if (!rc) sums_to_doubles(out, n, first);
    return rc;
}

enum err_code family_decode(struct bytes chunk, size_t n, unsigned k, double *out, struct err *err)
{
    ASSERT(n >= 1);
    struct family f;
    enum err_code rc = parse(chunk, &f, err);
    if (rc) return rc;
    if (k == FAMILY_COUNT ? !f.has_count : k >= f.n_members)
        return err_set(err, ERR_CORRUPT, "a family chunk of %zu members has no member %u",
                       f.n_members, k);
    int64_t *x = (int64_t *)(void *)out;
    if (k == FAMILY_COUNT) k = (unsigned)f.n_members - 1;
    rc = get_member(&f, n, k, x, err); /* of +Inf: the total's column alone */
    return rc ? rc : set_markers(&f, n, out, err);
}

/* row += done, and done is turned into doubles. */
static void chain_up(int64_t *restrict row, int64_t *restrict done, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int64_t x = done[i];
        row[i] = (int64_t)((uint64_t)row[i] + (uint64_t)x);
        double v = (double)x;
        memcpy(&done[i], &v, sizeof(v));
    }
}

/* row = done - row, and done is turned into doubles. */
static void chain_down(int64_t *restrict row, int64_t *restrict done, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int64_t x = done[i];
        row[i] = (int64_t)((uint64_t)x - (uint64_t)row[i]);
        double v = (double)x;
        memcpy(&done[i], &v, sizeof(v));
    }
}

/* From both ends to the dropped bucket. z_k belongs into row k below it; above it into row k - 1, which it is what
 * member k has more than member k - 1; so each column is decoded right into the row that it becomes. */
enum err_code family_decode_all(struct bytes chunk, size_t n, double *out, struct err *err)
{
    ASSERT(n >= 1);
    struct family f;
    enum err_code rc = parse(chunk, &f, err);
    if (rc) return rc;
    int64_t *x = (int64_t *)(void *)out;
    size_t top = f.n_members - 1;
    for (size_t k = 0; k < f.dropped; k++) {
        rc = get_sums(f.bucket[k], n, f.first[k], x + k * n, err);
        if (rc) return rc;
        if (k) chain_up(x + k * n, x + (k - 1) * n, n);
    }
    if (f.dropped) to_doubles(x + (f.dropped - 1) * n, n);
    rc = get_sums(f.total, n, first_total(&f), x + top * n, err);
    for (size_t k = top; !rc && k > f.dropped; k--) {
        rc = get_sums(f.bucket[k], n, f.first[k], x + (k - 1) * n, err);
        if (!rc) chain_down(x + (k - 1) * n, x + k * n, n);
    }
    if (rc) return rc;
    to_doubles(x + f.dropped * n, n);
    for (size_t k = 0; !rc && f.n_markers && k <= top; k++)
        rc = set_markers(&f, n, out + k * n, err);
    return rc;
}

enum err_code family_decode_increments(struct bytes chunk, size_t n, int64_t *out, struct err *err)
{
    ASSERT(n >= 1);
    struct family f;
    enum err_code rc = parse(chunk, &f, err);
    if (rc) return rc;
    int64_t *rest = out + f.dropped * n; /* the total, less the buckets that are there */
    rest[0] = (int64_t)f.first[f.dropped];
    rc = get_deltas(f.total, n, rest + 1, err);
    for (size_t k = 0; !rc && k < f.n_members; k++) {
        if (k == f.dropped) continue;
        int64_t *row = out + k * n;
        row[0] = (int64_t)f.first[k];
        rc = get_deltas(f.bucket[k], n, row + 1, err);
        if (!rc) subtract(rest + 1, row + 1, n - 1);
    }
    return rc;
}
