/* storage/block_decode.c: chunks of a block as samples. Since version 2 a chunk of floats has no times: they are in a
 * column that many series share, and where one column ends the run goes on in the next. Both are decoded right into the
 * samples and cut to what was asked for. */
#include <inttypes.h>

#include "storage/block_layout.h"
#include "storage/chunk_codec.h"
#include "storage/family.h"
#include "storage/times.h"
#include "storage/values.h"

#define COLUMN_TIMES_MAX CHUNK_SAMPLES_MAX /* of one column: bounds what a few bytes can ask for */

void chunk_cursor_release(struct chunk_cursor *cursor)
{
    page_cursor_release(&cursor->chunks);
    page_cursor_release(&cursor->times);
}

enum err_code block_chunk_item(struct block *b, struct chunk_cursor *cursor,
                               const struct chunk_ref *ref, struct bytes *item, struct err *err)
{
    return page_file_item(&b->file, &cursor->chunks, SECTION_CHUNKS, ref->item, item, err);
}

/* ---- times ---- */

/* The next times of a run, up to `want`, to out->t_ms[at] and on: those of a column from *start, which is 0 then. */
static enum err_code read_column(struct block *b, struct page_cursor *cursor, uint32_t column,
                                 uint32_t *start, size_t want, struct samples *out, size_t at,
                                 size_t *got, struct err *err)
{
    struct bytes item;
    size_t n;
    enum err_code rc = page_file_item(&b->file, cursor, SECTION_TIMES, column, &item, err);
    if (rc) return rc;
    rc = times_count(item, &n, err);
    if (!rc && (n > COLUMN_TIMES_MAX || *start >= n))
        rc = err_set(err, ERR_CORRUPT, "time %" PRIu32 " of a column of %zu", *start, n);
    /* Room for all of the column behind what is there: one copy less than by way of another place. */
    if (!rc) rc = samples_reserve(out, at - out->n + n, err);
    if (!rc) rc = times_decode(item, out->t_ms + at, n, err);
    if (rc) return page_cursor_context(&b->file, cursor, err);
    *got = MIN_OF(want, n - *start);
    if (*start) memmove(out->t_ms + at, out->t_ms + at + *start, *got * sizeof(*out->t_ms));
    *start = 0;
    return ERR_OK;
}

enum err_code block_check_times(struct block *b, struct page_cursor *cursor, uint32_t column,
                                size_t *n, struct err *err)
{
    struct samples s;
    uint32_t start = 0;
    samples_init(&s, MEM_STORAGE, NULL);
    enum err_code rc = read_column(b, cursor, column, &start, SIZE_MAX, &s, 0, n, err);
    samples_release(&s);
    return rc;
}

/* The times of a chunk behind those in `out`; they rise and are what the index says. */
static enum err_code read_times(struct block *b, struct page_cursor *cursor,
                                const struct chunk_ref *ref, struct samples *out, struct err *err)
{
    uint32_t column = ref->column, start = ref->start;
    size_t n = ref->meta.n, done = 0, got = 0;
    while (done < n) {
        enum err_code rc =
            read_column(b, cursor, column, &start, n - done, out, out->n + done, &got, err);
        if (rc) return rc;
        const int64_t *t = out->t_ms + out->n + done;
        if (done && t[0] <= t[-1]) {
            chunk_time_error(err);
            return page_cursor_context(&b->file, cursor, err);
        }
        done += got;
        column++;
    }
    if (out->t_ms[out->n] == ref->meta.t_min_ms && out->t_ms[out->n + n - 1] == ref->meta.t_max_ms)
        return ERR_OK;
    err_set(err, ERR_CORRUPT, "times of a chunk are not those that the index says");
    return page_cursor_context(&b->file, cursor, err);
}

/* ---- start times ---- */

/* The runs that stand before a chunk, into the n start times from `at` on. */
static enum err_code read_starts(struct reader *r, struct samples *out, size_t at, size_t n,
                                 struct err *err)
{
    enum err_code rc = samples_want_start_times(out, err);
    uint64_t st = 0;
    for (size_t done = 0; !rc && done < n;) {
        uint64_t more = reader_varint(r);
        st += (uint64_t)reader_zigzag(r);
        if (r->failed || more >= n - done)
            return err_set(err, ERR_CORRUPT, "start times of %zu samples", n);
        for (uint64_t end = done + more; done <= end; done++) out->st_ms[at + done] = (int64_t)st;
    }
    return rc;
}

/* Passes over them. */
static enum err_code skip_starts(struct reader *r, size_t n, struct err *err)
{
    for (uint64_t done = 0; done < n;) {
        uint64_t more = reader_varint(r);
        reader_zigzag(r);
        if (r->failed || more >= n - done)
            return err_set(err, ERR_CORRUPT, "start times of %zu samples", n);
        done += more + 1;
    }
    return ERR_OK;
}

/* ---- chunks ---- */

/* Drops from the samples from `from` on what is not in [mint_ms, maxt_ms]. */
static void cut_samples(struct samples *s, size_t from, int64_t mint_ms, int64_t maxt_ms)
{
    size_t lo = from, hi = s->n;
    if (lo == hi || (s->t_ms[lo] >= mint_ms && s->t_ms[hi - 1] <= maxt_ms)) return;
    while (lo < hi && s->t_ms[lo] < mint_ms) lo++;
    while (hi > lo && s->t_ms[hi - 1] > maxt_ms) hi--;
    size_t n = hi - lo;
    memmove(s->t_ms + from, s->t_ms + lo, n * sizeof(*s->t_ms));
    memmove(s->v + from, s->v + lo, n * sizeof(*s->v));
    if (s->h) memmove(s->h + from, s->h + lo, n * sizeof(struct histogram *));
    if (s->st_ms) memmove(s->st_ms + from, s->st_ms + lo, n * sizeof(*s->st_ms));
    s->n = from + n;
}

/* A chunk of chunk.h: of version 1, and later of histograms. */
static enum err_code decode_own(const struct chunk_ref *ref, struct bytes item, int64_t mint_ms,
                                int64_t maxt_ms, struct samples *out, struct err *err)
{
    enum chunk_encoding encoding;
    uint32_t n;
    size_t from = out->n;
    struct reader r = reader_init(item);
    enum err_code rc = ref->has_starts ? skip_starts(&r, ref->meta.n, err) : ERR_OK;
    if (rc) return rc;
    struct bytes chunk = bytes_of(r.p, reader_left(&r));
    rc = chunk_peek(chunk, &encoding, &n, err);
    if (!rc && n != ref->meta.n)
        rc = err_set(err, ERR_CORRUPT, "%" PRIu32 " samples where the index says %" PRIu32, n,
                     ref->meta.n);
    /* With start times all of it is decoded, so that they find their samples. */
    if (!rc)
        rc = chunk_decode(chunk, ref->has_starts ? INT64_MIN : mint_ms,
                          ref->has_starts ? INT64_MAX : maxt_ms, out, err);
    if (rc) return rc;
    /* Samples are in order within a chunk: the ends are enough to keep them in order across chunks. */
    if (out->n > from &&
        (out->t_ms[from] < ref->meta.t_min_ms || out->t_ms[out->n - 1] > ref->meta.t_max_ms))
        return err_set(err, ERR_CORRUPT, "samples outside the times that the index says");
    if (!ref->has_starts) return ERR_OK;
    r = reader_init(item);
    rc = read_starts(&r, out, from, out->n - from, err);
    cut_samples(out, from, mint_ms, maxt_ms);
    return rc;
}

/* Values without times, which are behind the samples in `out` already. */
static enum err_code decode_values(const struct chunk_ref *ref, struct bytes item,
                                   struct samples *out, struct err *err)
{
    size_t n = ref->meta.n, from = out->n;
    struct reader r = reader_init(item);
    double *v = out->v + from;
    enum err_code rc = ref->has_starts ? skip_starts(&r, n, err) : ERR_OK;
    if (rc) return rc;
    if (ref->family)
        rc = family_decode(item, n, ref->member, v, err);
    else
        rc = values_decode(bytes_of(r.p, reader_left(&r)), n, v, err);
    if (rc) return rc;
    chunk_take_floats(out, n);
    if (!ref->has_starts) return ERR_OK;
    r = reader_init(item);
    return read_starts(&r, out, from, n, err);
}

enum err_code block_decode_chunk(struct block *b, struct chunk_cursor *cursor,
                                 const struct chunk_ref *ref, int64_t mint_ms, int64_t maxt_ms,
                                 struct samples *out, struct err *err)
{
    struct bytes item;
    size_t from = out->n;
    enum err_code rc = block_chunk_item(b, cursor, ref, &item, err);
    if (rc) return rc;
    if (ref->own_times) {
        rc = decode_own(ref, item, mint_ms, maxt_ms, out, err);
    } else {
        rc = samples_reserve(out, ref->meta.n, err);
        if (!rc) rc = read_times(b, &cursor->times, ref, out, err);
        if (rc) return rc;
        rc = decode_values(ref, item, out, err);
        if (!rc) cut_samples(out, from, mint_ms, maxt_ms);
    }
    if (!rc) return ERR_OK;
    out->n = from;
    return page_cursor_context(&b->file, &cursor->chunks, err);
}

enum err_code block_describe_chunk(struct block *b, struct chunk_cursor *cursor,
                                   const struct chunk_ref *ref, struct block_chunk *out,
                                   struct err *err)
{
    struct bytes item;
    enum err_code rc = block_chunk_item(b, cursor, ref, &item, err);
    if (rc) return rc;
    struct reader r = reader_init(item);
    if (ref->has_starts) rc = skip_starts(&r, ref->meta.n, err);
    if (rc) return page_cursor_context(&b->file, &cursor->chunks, err);
    struct bytes chunk = bytes_of(r.p, reader_left(&r));
    out->bytes = item.len;
    out->n_series = 1;
    if (ref->own_times) {
        out->kind = chunk_kind_name(chunk);
    } else if (ref->family) {
        size_t n_members = 0;
        bool has_count = false;
        rc = family_peek(chunk, &n_members, &has_count, err);
        out->n_series = (uint32_t)(n_members + has_count);
        out->kind = "family";
    } else {
        out->kind = values_kind_name(chunk);
    }
    return rc ? page_cursor_context(&b->file, &cursor->chunks, err) : ERR_OK;
}
