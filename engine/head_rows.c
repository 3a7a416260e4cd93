/* engine/head_rows.c: raw rows of the head: late samples, and histograms that wait for a chunk. */
#include "engine/head.h"

#define ROWS_MIN 4

static size_t row_bytes(uint32_t n)
{
    return (size_t)n * sizeof(struct head_row);
}

static struct bytes row_histogram(const struct head_row *row)
{
    return bytes_of(row->h + 4, get_u32_le(row->h));
}

static void row_release(struct head_stripe *stripe, struct head_counts *counts,
                        struct head_rows *rows, struct head_row *row)
{
    if (!row->h) return;
    size_t size = 4 + row_histogram(row).len;
    rows->h_bytes -= (uint32_t)size;
    counts->bytes -= (int64_t)cells_size(size);
    cell_pool_put(stripe->pool, row->h, size);
    row->h = NULL;
}

static bool rows_grow(struct head_stripe *stripe, struct head_counts *counts,
                      struct head_rows *rows)
{
    if (rows->n < rows->cap) return true;
    uint32_t cap = rows->cap ? rows->cap + rows->cap / 2 : ROWS_MIN;
    struct head_row *items = cell_pool_get(stripe->pool, row_bytes(cap));
    if (!items) return false;
    if (rows->items) {
        memcpy(items, rows->items, row_bytes(rows->n));
        counts->bytes -= (int64_t)cells_size(row_bytes(rows->cap));
        cell_pool_put(stripe->pool, rows->items, row_bytes(rows->cap));
    }
    counts->bytes += (int64_t)cells_size(row_bytes(cap));
    rows->items = items;
    rows->cap = cap;
    return true;
}

/* The first row at or after t_ms. */
static uint32_t rows_search(const struct head_rows *rows, int64_t t_ms)
{
    uint32_t lo = 0, hi = rows->n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (rows->items[mid].t_ms < t_ms)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

bool head_rows_put(struct head_stripe *stripe, struct head_counts *counts, struct head_rows *rows,
                   int64_t t_ms, const struct head_value *value)
{
    struct head_row row = {t_ms, double_bits(value->v), NULL};
    size_t h_size = value->h ? 4 + value->encoded.len : 0;
    if (!rows_grow(stripe, counts, rows)) return false;
    if (value->h) {
        row.h = cell_pool_get(stripe->pool, h_size);
        if (!row.h) return false;
        counts->bytes += (int64_t)cells_size(h_size);
        put_u32_le(row.h, (uint32_t)value->encoded.len);
        memcpy(row.h + 4, value->encoded.p, value->encoded.len);
    }
    uint32_t at = rows_search(rows, t_ms);
    if (at < rows->n && rows->items[at].t_ms == t_ms) {
        row_release(stripe, counts, rows, &rows->items[at]);
        counts->samples--; /* the caller counts the new one */
    } else {
        memmove(&rows->items[at + 1], &rows->items[at], row_bytes(rows->n - at));
        rows->n++;
    }
    rows->items[at] = row;
    rows->h_bytes += (uint32_t)h_size;
    return true;
}

void head_rows_clear(struct head_stripe *stripe, struct head_counts *counts, struct head_rows *rows)
{
    for (uint32_t i = 0; i < rows->n; i++) row_release(stripe, counts, rows, &rows->items[i]);
    if (rows->items) {
        counts->bytes -= (int64_t)cells_size(row_bytes(rows->cap));
        cell_pool_put(stripe->pool, rows->items, row_bytes(rows->cap));
    }
    *rows = (struct head_rows){0};
}

enum err_code head_rows_read(const struct head_rows *rows, struct samples *out, struct err *err)
{
    enum err_code rc = samples_reserve(out, rows->n, err);
    for (uint32_t i = 0; !rc && i < rows->n; i++) {
        const struct head_row *row = &rows->items[i];
        struct histogram *h = NULL;
        if (row->h) {
            struct reader r = reader_init(row_histogram(row));
            rc = histogram_decode(&r, out->arena, &h, err);
        }
        if (!rc) rc = samples_push(out, row->t_ms, head_row_value(row), h, err);
    }
    return rc;
}

enum err_code head_rows_seal(struct head_stripe *stripe, struct head_counts *counts,
                             struct head_rows *rows, struct head_chunk **list, struct err *err)
{
    struct arena arena;
    struct samples samples;
    struct buf buf;
    arena_init(&arena, MEM_HEAD, 0);
    samples_init(&samples, MEM_HEAD, &arena);
    buf_init(&buf, MEM_HEAD);
    struct chunk_meta meta;
    enum err_code rc = head_rows_read(rows, &samples, err);
    if (!rc) rc = chunk_encode(&samples, 0, samples.n, &buf, &meta, err);
    if (!rc) {
        struct head_chunk like = {.next = *list,
                                  .t_min_ms = meta.t_min_ms,
                                  .t_max_ms = meta.t_max_ms,
                                  .gen = rows->gen,
                                  .n = (uint16_t)rows->n};
        struct head_chunk *c = head_bytes_new(stripe, counts, &like, buf_bytes(&buf));
        if (c) {
            *list = c;
            head_rows_clear(stripe, counts, rows);
        } else {
            rc = err_set(err, ERR_NO_MEMORY, "no memory for a chunk");
        }
    }
    buf_release(&buf);
    samples_release(&samples);
    arena_release(&arena);
    return rc;
}
