/* tests/fuzz/fuzz_chunk_decode.c: a chunk of any bytes. What is accepted is in order of time and comes back with the
 * same bits from whatever encoding the encoder picks for it. */
#include "storage/chunk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ARENA_BYTES ((size_t)64 << 20)

static uint64_t bits_at(const struct samples *s, size_t i)
{
    uint64_t bits;
    memcpy(&bits, &s->v[i], sizeof(bits)); /* no register in between that could quieten a NaN */
    return bits;
}

static void check_same(const struct samples *a, size_t from, size_t n, const struct samples *b)
{
    ASSERT(b->n == n);
    for (size_t i = 0; i < n; i++) {
        ASSERT(a->t_ms[from + i] == b->t_ms[i]);
        ASSERT(bits_at(a, from + i) == bits_at(b, i));
        const struct histogram *ha = a->h ? a->h[from + i] : NULL;
        const struct histogram *hb = b->h ? b->h[i] : NULL;
        ASSERT((ha != NULL) == (hb != NULL));
        if (ha) ASSERT(histogram_same_bits(ha, hb));
    }
}

static void check_encodes_again(const struct samples *in)
{
    struct err err;
    struct arena arena;
    struct samples out;
    struct buf chunk;
    struct chunk_meta meta;
    arena_init(&arena, MEM_STORAGE, ARENA_BYTES);
    samples_init(&out, MEM_STORAGE, &arena);
    buf_init(&chunk, MEM_STORAGE);
    ASSERT(chunk_encode(in, 0, in->n, &chunk, &meta, &err) == ERR_OK);
    ASSERT(chunk_decode(buf_bytes(&chunk), INT64_MIN, INT64_MAX, &out, &err) == ERR_OK);
    check_same(in, 0, in->n, &out);
    /* Histograms may have come back as rows: as columns they must as well. */
    buf_reset(&chunk);
    samples_reset(&out);
    arena_reset(&arena);
    if (meta.has_histograms &&
        chunk_encode_as(CHUNK_HISTOGRAM_COLUMNS, in, 0, in->n, &chunk, &err) == ERR_OK) {
        ASSERT(chunk_decode(buf_bytes(&chunk), INT64_MIN, INT64_MAX, &out, &err) == ERR_OK);
        check_same(in, 0, in->n, &out);
    }
    buf_release(&chunk);
    samples_release(&out);
    arena_release(&arena);
}

/* A part of the time gives just that part. */
static void check_range(struct bytes chunk, const struct samples *all)
{
    struct err err;
    struct arena arena;
    struct samples part;
    size_t from = all->n / 3, to = all->n - 1 - all->n / 4;
    arena_init(&arena, MEM_STORAGE, ARENA_BYTES);
    samples_init(&part, MEM_STORAGE, &arena);
    ASSERT(chunk_decode(chunk, all->t_ms[from], all->t_ms[to], &part, &err) == ERR_OK);
    check_same(all, from, to - from + 1, &part);
    samples_release(&part);
    arena_release(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err;
    struct arena arena;
    struct samples all;
    struct bytes chunk = bytes_of(data, size);
    arena_init(&arena, MEM_STORAGE, ARENA_BYTES);
    samples_init(&all, MEM_STORAGE, &arena);
    enum err_code rc = chunk_decode(chunk, INT64_MIN, INT64_MAX, &all, &err);
    if (rc == ERR_OK) {
        enum chunk_encoding encoding;
        uint32_t n;
        ASSERT(chunk_peek(chunk, &encoding, &n, &err) == ERR_OK);
        ASSERT(n == all.n);
        for (size_t i = 1; i < all.n; i++) ASSERT(all.t_ms[i] > all.t_ms[i - 1]);
        check_encodes_again(&all);
        check_range(chunk, &all);
    } else {
        ASSERT(rc == ERR_CORRUPT || rc == ERR_LIMIT);
        ASSERT(all.n == 0);
    }
    samples_release(&all);
    arena_release(&arena);
    return 0;
}
