/* storage/chunk_constant.c: one value; times by runs, a few bytes however many samples when they are regular. */
#include "storage/chunk_codec.h"

enum err_code chunk_constant_encode(const struct samples *s, size_t from, size_t n, struct buf *out,
                                    struct err *err)
{
    uint64_t bits = double_bits(s->v[from]);
    for (size_t i = from + 1; i < from + n; i++)
        if (double_bits(s->v[i]) != bits)
            return err_set(err, ERR_UNSUPPORTED, "more than one value");
    buf_u8(out, CHUNK_CONSTANT);
    buf_varint(out, n);
    buf_u64(out, bits);
    buf_zigzag(out, s->t_ms[from]);
    uint64_t delta = 0, run = 0;
    for (size_t i = from + 1; i < from + n; i++) {
        uint64_t next = (uint64_t)s->t_ms[i] - (uint64_t)s->t_ms[i - 1];
        if (next == delta) {
            run++;
            continue;
        }
        if (run) {
            buf_u8(out, 0);
            buf_varint(out, run - 1);
            run = 0;
        }
        buf_zigzag(out, (int64_t)(next - delta));
        delta = next;
    }
    if (run) {
        buf_u8(out, 0);
        buf_varint(out, run - 1);
    }
    return ERR_OK;
}

/* The next n times, of which those >= mint_ms are kept; returns how many of them, SIZE_MAX when they do not rise. */
static size_t run_decode(uint64_t *t, uint64_t delta, size_t n, int64_t mint_ms,
                         int64_t *restrict t_out)
{
    size_t kept = 0;
    bool bad = false;
    for (size_t i = 0; i < n; i++) {
        uint64_t next = *t + delta;
        bad |= (int64_t)next <= (int64_t)*t;
        *t = next;
        t_out[kept] = (int64_t)next;
        kept += (int64_t)next >= mint_ms;
    }
    return bad ? SIZE_MAX : kept;
}

/* All times into t_out (room for n); *n_kept: those within [mint_ms, maxt_ms]. */
static enum err_code times_decode(struct reader *r, size_t n, int64_t mint_ms, int64_t maxt_ms,
                                  int64_t *t_out, size_t *n_kept, struct err *err)
{
    uint64_t t = (uint64_t)reader_zigzag(r), delta = 0;
    size_t kept = 0;
    t_out[kept] = (int64_t)t;
    kept += (int64_t)t >= mint_ms;
    for (size_t done = 1; done < n && !r->failed;) {
        uint64_t run = 1, dod = (uint64_t)reader_zigzag(r);
        if (dod == 0) {
            run = reader_varint(r);
            if (run >= n - done)
                return err_set(err, ERR_CORRUPT, "a run of times beyond the %zu of the chunk", n);
            run++;
        }
        delta += dod;
        size_t k = run_decode(&t, delta, (size_t)run, mint_ms, t_out + kept);
        if (k == SIZE_MAX) return chunk_time_error(err);
        kept += k;
        done += (size_t)run;
    }
    while (kept && t_out[kept - 1] > maxt_ms) kept--;
    *n_kept = kept;
    return reader_finish(r, err);
}

enum err_code chunk_constant_decode(struct bytes chunk, int64_t mint_ms, int64_t maxt_ms,
                                    struct samples *out, struct err *err)
{
    struct reader r = reader_init(chunk);
    reader_u8(&r);
    uint64_t n = reader_varint(&r);
    double v = reader_double(&r);
    /* A run makes many samples of two bytes: the bound is CHUNK_SAMPLES_MAX alone. */
    if (r.failed || n == 0 || n > CHUNK_SAMPLES_MAX)
        return err_set(err, ERR_CORRUPT, "a constant chunk of %zu bytes says %llu samples",
                       chunk.len, (unsigned long long)n);
    enum err_code rc = samples_reserve(out, (size_t)n, err);
    if (rc) return rc;
    size_t kept = 0;
    rc = times_decode(&r, (size_t)n, mint_ms, maxt_ms, out->t_ms + out->n, &kept, err);
    if (rc) return err_context(err, "a constant chunk of %llu samples", (unsigned long long)n);
    for (size_t i = 0; i < kept; i++) out->v[out->n + i] = v;
    chunk_take_floats(out, kept);
    return ERR_OK;
}
