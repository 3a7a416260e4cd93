/* tests/fuzz/fuzz_block_open.c: a block file of any bytes: opened, selected from, read and checked. The first byte's
 * lowest bit says whether the checksums are made right first, so that the fuzzer gets behind them, the next two which
 * version the file is made to be of then. */
#include "base/crc32c.h"
#include "base/metric.h"
#include "storage/block.h"
#include "storage/format.h"
#include "tests/fuzz/memory_io.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ARENA_BYTES ((size_t)64 << 20)
#define SERIES_READ_MAX 2000 /* of blocks that say they have more */

/* ---- right checksums over whatever is there ---- */

static void repair_pages(uint8_t *p, size_t end)
{
    for (size_t off = BLOCK_HEADER_BYTES; off + PAGE_HEADER_BYTES <= end;) {
        uint32_t stored = get_u32_le(p + off);
        if (stored > end - off - PAGE_HEADER_BYTES) return;
        uint32_t crc = crc32c(crc32c(0, p + off, 8), p + off + PAGE_HEADER_BYTES, stored);
        put_u32_le(p + off + 8, crc);
        off += PAGE_HEADER_BYTES + (size_t)stored;
    }
}

static void repair(uint8_t *p, size_t size, uint32_t version)
{
    if (size < BLOCK_HEADER_BYTES + BLOCK_TRAILER_BYTES) return;
    memcpy(p, BLOCK_MAGIC, 4);
    put_u32_le(p + 4, version);
    put_u32_le(p + 8, 0);
    put_u32_le(p + 12, crc32c(0, p, 12));
    uint8_t *t = p + size - BLOCK_TRAILER_BYTES;
    size_t end = size - BLOCK_TRAILER_BYTES;
    uint64_t footer_off = get_u64_le(t);
    if (footer_off < BLOCK_HEADER_BYTES || footer_off > end) return;
    repair_pages(p, (size_t)footer_off);
    put_u32_le(t + 8, (uint32_t)(end - footer_off));
    put_u32_le(t + 12, crc32c(0, p + footer_off, end - (size_t)footer_off));
    put_u32_le(t + 16, version);
    put_u32_le(t + 20, crc32c(0, t, 20));
    memcpy(t + 24, BLOCK_END_MAGIC, 8);
}

/* ---- use ---- */

static void check_code(enum err_code rc)
{
    ASSERT(rc == ERR_OK || rc == ERR_CORRUPT || rc == ERR_LIMIT);
}

static bool has_letter_a(const void *re, struct str text)
{
    (void)re;
    return text.len && memchr(text.p, 'a', text.len) != NULL;
}

static void select_some(struct block *b, struct str name, struct arena *arena)
{
    static const struct str literals[] = {{"api", 3}, {"", 0}, {"web", 3}};
    const struct matcher matchers[] = {
        {.op = MATCH_EQ, .name = name, .value = STR("api")},
        {.op = MATCH_NEQ, .name = name, .value = STR("")},
        {.op = MATCH_RE, .name = name, .re_match = has_letter_a},
        {.op = MATCH_NRE, .name = name, .re_match = has_letter_a, .prefix = STR("r")},
        {.op = MATCH_NRE,
         .name = name,
         .re_match = has_letter_a,
         .literals = literals,
         .n_literals = COUNT_OF(literals)},
    };
    for (size_t i = 0; i < COUNT_OF(matchers); i++) {
        struct err err;
        uint32_t *ids;
        size_t n;
        enum err_code rc = block_select(b, &matchers[i], 1, arena, &ids, &n, &err);
        check_code(rc);
        for (size_t k = 0; !rc && k < n; k++) {
            ASSERT(ids[k] < block_info(b)->n_series);
            if (k) ASSERT(ids[k] > ids[k - 1]);
        }
    }
}

/* Reads all of the value. */
static enum err_code use_value(void *ctx, struct str value, bool *done, struct err *err)
{
    struct arena *arena = ctx;
    (void)done;
    return arena_str(arena, value).p ? ERR_OK : arena_fail(arena, err);
}

static void read_labels(struct block *b, struct arena *arena)
{
    struct err err;
    struct str *names;
    size_t n;
    enum err_code rc = block_label_names(b, arena, &names, &n, &err);
    check_code(rc);
    if (rc) return;
    for (size_t i = 0; i < n && i < 20; i++) {
        check_code(block_each_value(b, names[i], use_value, arena, &err));
        select_some(b, names[i], arena);
    }
    select_some(b, STR("no such name"), arena);
}

static enum err_code use_meta(void *ctx, const struct chunk_meta *meta, struct err *err)
{
    (void)ctx;
    (void)err;
    ASSERT(meta->n >= 1 && meta->t_max_ms >= meta->t_min_ms);
    return ERR_OK;
}

static void read_series(struct block *b, struct arena *arena)
{
    struct err err;
    struct samples s;
    samples_init(&s, MEM_STORAGE, arena);
    uint64_t n = MIN_OF(block_info(b)->n_series, (uint64_t)SERIES_READ_MAX);
    for (uint32_t id = 0; id < n; id++) {
        struct labels labels;
        bool overlaps;
        check_code(block_labels(b, id, arena, &labels, &err));
        check_code(block_overlaps(b, id, 0, INT64_MAX, &overlaps, &err));
        samples_reset(&s);
        check_code(block_metas(b, id, 0, INT64_MAX, use_meta, NULL, &err));
        check_code(block_read(b, id, INT64_MIN, INT64_MAX, &s, &err));
        for (size_t i = 1; i < s.n; i++) ASSERT(s.t_ms[i] > s.t_ms[i - 1]);
    }
    samples_release(&s);
}

static void use_block(struct env *env, struct page_cache *cache)
{
    struct err err;
    struct block *b;
    enum err_code rc = block_open(env, "memory", cache, &b, &err);
    if (rc) {
        ASSERT(rc == ERR_CORRUPT || rc == ERR_VERSION);
        return;
    }
    struct arena arena;
    arena_init(&arena, MEM_STORAGE, ARENA_BYTES);
    read_labels(b, &arena);
    read_series(b, &arena);
    check_code(block_verify(b, NULL, NULL, &err));
    arena_release(&arena);
    block_unref(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    size_t len = size - 1;
    uint8_t *image = mem_alloc(MEM_BASE, len);
    ASSERT(image != NULL);
    memcpy(image, data + 1, len);
    if (data[0] & 1) repair(image, len, data[0] >> 1 & 3);
    char path[] = "memory";
    struct memory_io m = {.io = {&memory_ops},
                          .file = {.file = {&memory_file_ops, &m.io, path}, image, len}};
    struct rng rng;
    rng_seed(&rng, 1);
    struct env env = {.io = &m.io, .clock = clock_system(), .metrics = metrics_new(), .rng = &rng};
    struct page_cache *cache;
    struct err err;
    ASSERT(env.metrics != NULL);
    ASSERT(page_cache_new(&env, (size_t)4 << 20, &cache, &err) == ERR_OK);
    use_block(&env, cache);
    page_cache_free(cache);
    metrics_free(env.metrics);
    mem_free(image);
    return 0;
}
