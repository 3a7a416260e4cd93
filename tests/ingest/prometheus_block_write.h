/* tests/ingest/prometheus_block_write.h: makes a small block of Prometheus's TSDB, by the description in
 * ingest/prometheus_block.h; for its test and its fuzzer's corpus. */
#ifndef QUIPU_TESTS_INGEST_PROMETHEUS_BLOCK_WRITE_H
#define QUIPU_TESTS_INGEST_PROMETHEUS_BLOCK_WRITE_H

#include "base/crc32c.h"
#include "query/remote_chunk.h"
#include "tests/quipu_test.h"

#define BLOCK_SYMBOLS_MAX 64

struct block_files {
    struct buf meta, index, chunks, tombstones;
    unsigned version;
    const char *symbols[BLOCK_SYMBOLS_MAX]; /* sorted */
    uint64_t symbol_at[BLOCK_SYMBOLS_MAX];  /* in the index */
    size_t n_symbols;
    uint64_t series[BLOCK_SYMBOLS_MAX];
    size_t n_series;
    uint64_t toc[6];
};

static void put_u32_be(struct buf *b, uint32_t v)
{
    buf_u32(b, __builtin_bswap32(v));
}
static void put_crc(struct buf *b, size_t from)
{
    put_u32_be(b, crc32c(0, b->p + from, b->len - from));
}
/* A section: room for its length, then what follows until section_end(). */
static size_t section_begin(struct buf *b)
{
    put_u32_be(b, 0);
    return b->len;
}
static void section_end(struct buf *b, size_t from)
{
    put_u32_le(b->p + from - 4, __builtin_bswap32((uint32_t)(b->len - from)));
    put_crc(b, from);
}

static void block_begin(struct block_files *f, unsigned version, const char *const *symbols,
                        size_t n_symbols)
{
    *f = (struct block_files){.version = version, .n_symbols = n_symbols};
    buf_init(&f->meta, MEM_INGEST);
    buf_init(&f->index, MEM_INGEST);
    buf_init(&f->chunks, MEM_INGEST);
    buf_init(&f->tombstones, MEM_INGEST);
    buf_printf(&f->meta,
               "{\"ulid\":\"x\",\"minTime\":0,\"maxTime\":1000,\"stats\":{\"numSeries\":2},"
               "\"version\":1}");
    put_u32_be(&f->index, 0xbaaad700);
    buf_u8(&f->index, (uint8_t)version);
    f->toc[0] = f->index.len;
    size_t at = section_begin(&f->index);
    put_u32_be(&f->index, (uint32_t)n_symbols);
    for (size_t i = 0; i < n_symbols; i++) {
        f->symbols[i] = symbols[i];
        f->symbol_at[i] = f->index.len;
        buf_str(&f->index, str_of(symbols[i]));
    }
    section_end(&f->index, at);
    f->toc[1] = f->index.len;
    put_u32_be(&f->chunks, 0x85bd40dd);
    put_u32_be(&f->chunks, 0x01000000);
    put_u32_be(&f->tombstones, 0x0130ba30);
    buf_u8(&f->tombstones, 1);
}

static uint64_t block_symbol(const struct block_files *f, const char *text)
{
    for (size_t i = 0; i < f->n_symbols; i++)
        if (strcmp(f->symbols[i], text) == 0) return f->version == 2 ? i : f->symbol_at[i];
    CHECK(false);
    return 0;
}

/* labels: name, value, …, NULL. The samples in chunks of `per_chunk`. */
__attribute__((unused)) static void block_series(struct block_files *f, const char *const *labels,
                                                 const struct samples *s, size_t per_chunk,
                                                 struct arena *arena)
{
    struct buf entry;
    struct err err;
    size_t n_labels = 0, n_chunks = (s->n + per_chunk - 1) / per_chunk;
    int64_t end = 0;
    uint64_t ref_before = 0;
    buf_init(&entry, MEM_INGEST);
    while (labels[2 * n_labels]) n_labels++;
    buf_varint(&entry, n_labels);
    for (size_t i = 0; i < 2 * n_labels; i++) buf_varint(&entry, block_symbol(f, labels[i]));
    buf_varint(&entry, n_chunks);
    for (size_t from = 0; from < s->n; from += per_chunk) {
        size_t n = MIN_OF(per_chunk, s->n - from);
        struct buf chunk;
        enum remote_chunk_type type;
        uint64_t ref = f->chunks.len;
        buf_init(&chunk, MEM_INGEST);
        CHECK(remote_chunk_count(s, from, &type) >= n);
        CHECK_OK(remote_chunk_write(&chunk, s, from, n, arena, &err), &err);
        buf_varint(&f->chunks, chunk.len);
        size_t at = f->chunks.len;
        buf_u8(&f->chunks, (uint8_t)type);
        buf_put(&f->chunks, chunk.p, chunk.len);
        put_crc(&f->chunks, at);
        buf_release(&chunk);
        if (from == 0)
            buf_zigzag(&entry, s->t_ms[0]);
        else
            buf_varint(&entry, (uint64_t)(s->t_ms[from] - end));
        end = s->t_ms[from + n - 1];
        buf_varint(&entry, (uint64_t)(end - s->t_ms[from]));
        if (from == 0)
            buf_varint(&entry, ref);
        else
            buf_zigzag(&entry, (int64_t)(ref - ref_before));
        ref_before = ref;
    }
    while (f->version == 2 && f->index.len % 16) buf_u8(&f->index, 0);
    f->series[f->n_series++] = f->version == 2 ? f->index.len / 16 : f->index.len;
    buf_varint(&f->index, entry.len);
    size_t at = f->index.len;
    buf_put(&f->index, entry.p, entry.len);
    put_crc(&f->index, at);
    buf_release(&entry);
}

__attribute__((unused)) static void block_delete(struct block_files *f, size_t series,
                                                 int64_t min_ms, int64_t max_ms)
{
    buf_varint(&f->tombstones, f->series[series]);
    buf_zigzag(&f->tombstones, min_ms);
    buf_zigzag(&f->tombstones, max_ms);
}

static void block_end(struct block_files *f)
{
    struct buf *b = &f->index;
    uint64_t postings = b->len;
    size_t at = section_begin(b);
    put_u32_be(b, (uint32_t)f->n_series);
    for (size_t i = 0; i < f->n_series; i++) put_u32_be(b, (uint32_t)f->series[i]);
    section_end(b, at);
    f->toc[4] = postings;
    f->toc[5] = b->len;
    at = section_begin(b);
    put_u32_be(b, 1);
    buf_u8(b, 2);
    buf_str(b, STR(""));
    buf_str(b, STR(""));
    buf_varint(b, postings);
    section_end(b, at);
    at = b->len;
    for (int i = 0; i < 6; i++) buf_u64(b, __builtin_bswap64(f->toc[i]));
    put_crc(b, at);
    put_crc(&f->tombstones, 5);
}

static void block_release(struct block_files *f)
{
    buf_release(&f->meta);
    buf_release(&f->index);
    buf_release(&f->chunks);
    buf_release(&f->tombstones);
}

#endif
