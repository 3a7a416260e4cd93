/* storage/times.c: see the header. A scrape that is late once moves two deltas but one residual from the grid; a clock
 * that drifts moves every residual but hardly a delta. Both are common, so both are weighed. */
#include "storage/times.h"

#include "storage/format.h"
#include "storage/scratch.h"

/* x[i] = t[i + 1] - t[i], of n - 1. */
static void make_deltas(const int64_t *t_ms, size_t n, int64_t *x)
{
    for (size_t i = 1; i < n; i++) x[i - 1] = (int64_t)((uint64_t)t_ms[i] - (uint64_t)t_ms[i - 1]);
}

/* x[i] = t[i + 1] - (t[0] + (i + 1) * step) */
static void make_residuals(const int64_t *t_ms, size_t n, uint64_t step, int64_t *x)
{
    uint64_t grid = (uint64_t)t_ms[0];
    for (size_t i = 1; i < n; i++) {
        grid += step;
        x[i - 1] = (int64_t)((uint64_t)t_ms[i] - grid);
    }
}

/* The delta that most of them are, if there is one (Boyer, Moore 1981); else any. */
static uint64_t majority(const int64_t *x, size_t n)
{
    int64_t candidate = 0;
    size_t votes = 0;
    for (size_t i = 0; i < n; i++) {
        if (votes == 0) candidate = x[i];
        if (x[i] == candidate)
            votes++;
        else
            votes--;
    }
    return (uint64_t)candidate;
}

static void put_column(struct buf *out, uint8_t kind, const int64_t *t_ms, size_t n, uint64_t step,
                       const int64_t *x, enum effort effort)
{
    buf_varint(out, n);
    buf_u8(out, kind);
    buf_zigzag(out, t_ms[0]);
    if (kind == TIMES_GRID) buf_varint(out, step);
    intcol_encode(out, x, n - 1, effort);
}

/* The better grid of the step that most deltas are and the mean one; x is left with its residuals. */
static uint64_t choose_step(const int64_t *t_ms, size_t n, int64_t *x, enum effort effort,
                            size_t *size)
{
    uint64_t span = (uint64_t)t_ms[n - 1] - (uint64_t)t_ms[0];
    uint64_t steps[2] = {majority(x, n - 1), span / (n - 1) + (span % (n - 1) * 2 >= n - 1)};
    size_t sizes[2];
    for (size_t k = 0; k < 2; k++) {
        if (k && steps[1] == steps[0]) return steps[0];
        make_residuals(t_ms, n, steps[k], x);
        sizes[k] = intcol_size(x, n - 1, effort);
        if (k && sizes[0] <= sizes[1]) {
            make_residuals(t_ms, n, steps[0], x);
            return steps[0];
        }
        *size = sizes[k];
    }
    return steps[1];
}

void times_encode_as(struct buf *out, const int64_t *t_ms, size_t n, enum effort effort)
{
    ASSERT(n >= 1 && n <= TIMES_MAX);
    struct scratch s;
    if (!scratch_init(&s, n)) {
        out->failed = true;
        goto out;
    }
    make_deltas(t_ms, n, s.p);
    if (n <= 2) { /* no grid to speak of */
        put_column(out, TIMES_DELTAS, t_ms, n, 0, s.p, effort);
        goto out;
    }
    size_t of_deltas = intcol_size(s.p, n - 1, effort), of_grid;
    uint64_t step = choose_step(t_ms, n, s.p, effort, &of_grid);
    uint8_t step_bytes[VARINT_BYTES_MAX];
    if (of_grid + put_varint(step_bytes, step) < of_deltas) {
        put_column(out, TIMES_GRID, t_ms, n, step, s.p, effort);
    } else {
        make_deltas(t_ms, n, s.p);
        put_column(out, TIMES_DELTAS, t_ms, n, 0, s.p, effort);
    }
out:
    scratch_release(&s);
}

void times_encode(struct buf *out, const int64_t *t_ms, size_t n)
{
    times_encode_as(out, t_ms, n, EFFORT_SMALL);
}

struct times_head {
    size_t n;
    uint8_t kind;
    uint64_t t0, step;
};

/* What stands before the integers. */
static enum err_code head_read(struct reader *r, struct times_head *h, struct err *err)
{
    uint64_t n = reader_varint(r);
    *h =
        (struct times_head){.n = (size_t)n, .kind = reader_u8(r), .t0 = (uint64_t)reader_zigzag(r)};
    if (h->kind == TIMES_GRID) h->step = reader_varint(r);
    if (r->failed || n < 1 || n > TIMES_MAX || h->kind > TIMES_GRID)
        return err_set(err, ERR_CORRUPT, "a column of %llu times of kind %u, at byte %zu",
                       (unsigned long long)n, h->kind, reader_off(r));
    return ERR_OK;
}

enum err_code times_count(struct bytes column, size_t *n, struct err *err)
{
    struct reader r = reader_init(column);
    struct times_head h;
    enum err_code rc = head_read(&r, &h, err);
    *n = rc ? 0 : h.n;
    return rc;
}

/* Residuals become times. */
static void add_grid(int64_t *t, size_t n, uint64_t t0, uint64_t step)
{
    for (size_t i = 0; i < n; i++) t[i] = (int64_t)((uint64_t)t[i] + t0 + (i + 1) * step);
}

static bool all_rise(const int64_t *t, size_t n)
{
    unsigned bad = 0;
    for (size_t i = 1; i < n; i++) bad |= t[i] <= t[i - 1];
    return !bad;
}

enum err_code times_read(struct reader *r, int64_t *out, size_t n, struct err *err)
{
    struct times_head h;
    enum err_code rc = head_read(r, &h, err);
    if (rc) return rc;
    if (h.n != n)
        return err_set(err, ERR_CORRUPT, "a column of %zu times where %zu are expected", h.n, n);
    out[0] = (int64_t)h.t0;
    if (h.kind == TIMES_GRID)
        rc = intcol_decode(r, n - 1, out + 1, err);
    else
        rc = intcol_decode_sums(r, n - 1, out[0], out + 1, err);
    if (rc) return err_context(err, "%zu times", n);
    if (h.kind == TIMES_GRID) add_grid(out + 1, n - 1, h.t0, h.step);
    if (!all_rise(out, n)) return err_set(err, ERR_CORRUPT, "%zu times that do not rise", n);
    return ERR_OK;
}

enum err_code times_decode(struct bytes column, int64_t *out, size_t n, struct err *err)
{
    struct reader r = reader_init(column);
    enum err_code rc = times_read(&r, out, n, err);
    return rc ? rc : reader_finish(&r, err);
}

enum err_code times_skip(struct reader *r, size_t *n, struct err *err)
{
    struct times_head h;
    enum err_code rc = head_read(r, &h, err);
    if (rc) return rc;
    *n = h.n;
    return intcol_skip(r, h.n - 1, err);
}
