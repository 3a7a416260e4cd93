/* tests/storage/test_block_golden.c: a block that version 1 wrote is read for ever.
 * tests/golden/block_v1.block and what is in it, block_v1.txt, are in the repository. They are written anew only by
 * `QUIPU_GOLDEN=write test_block_golden`, when version 1 itself was wrong and has not been released; the corpora of
 * fuzz_block_open and fuzz_chunk_decode are made of the same series. */
#include "storage/block.h"

#include "tests/storage/env.h"
#include "tests/storage/gen.h"

#define GOLDEN_BLOCK "../golden/block_v1.block"
#define GOLDEN_TEXT "../golden/block_v1.txt"
#define CORPUS "../fuzz/corpus"
#define T0 INT64_C(1700000000000)

/* ---- the block: one series of each encoding ---- */

static void make_counter(struct samples *s)
{
    struct err err;
    for (int i = 0; i < 12; i++)
        CHECK_OK(
            samples_push(s, T0 + i * 15000 + (i == 7 ? 3 : 0), i < 9 ? i * 37 : i - 9, NULL, &err),
            &err);
}

static void make_constant(struct samples *s)
{
    struct err err;
    for (int i = 0; i < 40; i++) CHECK_OK(samples_push(s, T0 + 5 + i * 15000, 1, NULL, &err), &err);
}

static void make_gauge(struct samples *s)
{
    static const double values[] = {20.25, 20.5, -0.0, 1e300, 21.75};
    struct err err;
    for (int i = 0; i < 5; i++)
        CHECK_OK(samples_push(s, T0 + 7 + i * 60000, values[i], NULL, &err), &err);
    CHECK_OK(samples_push(s, T0 + 7 + 5 * 60000, 0, NULL, &err), &err);
    uint64_t stale = STALE_NAN_BITS; /* as bits, so that no register makes it quiet */
    memcpy(&s->v[s->n - 1], &stale, sizeof(stale));
}

static void make_raw(struct samples *s)
{
    struct err err;
    for (int i = 0; i < 3; i++)
        CHECK_OK(samples_push(s, T0 + ((int64_t)i << 33), 1.0 / (3 + i), NULL, &err), &err);
}

static void make_histograms(struct samples *s)
{
    struct err err;
    for (int i = 0; i < 3; i++) {
        struct histogram *h = ARENA_NEW(s->arena, struct histogram);
        struct histogram_span *span = ARENA_NEW(s->arena, struct histogram_span);
        double *pos = ARENA_ARRAY(s->arena, double, 2);
        CHECK(h && span && pos);
        *span = (struct histogram_span){-1, 2};
        pos[0] = 3 + i;
        pos[1] = 5 + 2 * i;
        *h = (struct histogram){.schema = 3,
                                .is_int = true,
                                .count = 9 + 3 * i,
                                .sum = 4.5 + i,
                                .zero_threshold = 1e-128,
                                .zero_count = 1,
                                .pos_spans = span,
                                .n_pos_spans = 1,
                                .pos = pos,
                                .n_pos = 2};
        CHECK_OK(samples_push(s, T0 + i * 15000, h->sum, h, &err), &err);
    }
}

struct golden_series {
    const char *name, *job; /* job NULL: no such label */
    enum chunk_encoding encoding;
    void (*make)(struct samples *s);
};
/* In label order. */
static const struct golden_series golden[] = {
    {"build_info", "api", CHUNK_CONSTANT, make_constant},
    {"latency", NULL, CHUNK_HISTOGRAMS, make_histograms},
    {"requests_total", "api", CHUNK_GORILLA, make_counter},
    {"requests_total", "web", CHUNK_RAW, make_raw},
    {"temperature", "roof \xc3\xbc", CHUNK_GORILLA, make_gauge},
};

static void write_series(struct block_writer *w, const struct golden_series *g)
{
    struct err err;
    struct arena arena;
    struct samples s;
    struct buf chunk;
    struct chunk_meta meta;
    arena_init(&arena, MEM_BASE, 0);
    samples_init(&s, MEM_BASE, &arena);
    buf_init(&chunk, MEM_BASE);
    g->make(&s);
    struct label labels[] = {{STR(LABEL_NAME), str_of(g->name)}, {STR("job"), str_of(g->job)}};
    uint32_t id = 0;
    CHECK_OK(block_writer_series(w, (struct labels){labels, g->job ? 2 : 1}, &id, &err), &err);
    CHECK_OK(chunk_encode(&s, 0, s.n, &chunk, &meta, &err), &err);
    buf_reset(&chunk);
    CHECK_OK(chunk_encode_as(g->encoding, &s, 0, s.n, &chunk, &err), &err);
    CHECK_OK(block_writer_chunk(w, id, &meta, buf_bytes(&chunk), &err), &err);
    buf_release(&chunk);
    samples_release(&s);
    arena_release(&arena);
}

static void write_block(struct test_env *e, char *path, size_t size)
{
    struct err err;
    struct block_info info = {.incarnation = 2, .sequence = 11, .level = 1, .created_ms = T0 + 1};
    CHECK(ulid_parse(STR("01HF7YAT00ABCDEFGHJKMNPQRS"), &info.ulid));
    struct block_writer *w;
    CHECK_OK(block_writer_open(&e->env, e->dir, &info, &w, &err), &err);
    for (size_t i = 0; i < COUNT_OF(golden); i++) write_series(w, &golden[i]);
    CHECK_OK(block_writer_finish(w, &info, &err), &err);
    block_writer_close(w);
    snprintf(path, size, "%s/%s.block", e->dir, info.ulid.text);
}

/* ---- what is in a block, as text ---- */

static void print_hex(struct buf *out, struct bytes b)
{
    for (size_t i = 0; i < b.len; i++) buf_printf(out, "%02x", b.p[i]);
}

static void print_samples(struct buf *out, const struct samples *s)
{
    for (size_t i = 0; i < s->n; i++) {
        buf_printf(out, "  %" PRId64 " ", s->t_ms[i]);
        if (s->h && s->h[i]) {
            struct buf b;
            buf_init(&b, MEM_BASE);
            histogram_encode(&b, s->h[i]);
            buf_printf(out, "histogram ");
            print_hex(out, buf_bytes(&b));
            buf_release(&b);
        } else {
            uint64_t bits;
            memcpy(&bits, &s->v[i], sizeof(bits));
            buf_printf(out, "%016" PRIx64, bits);
        }
        buf_u8(out, '\n');
    }
}

static enum err_code print_chunk(void *ctx, const struct chunk_meta *m, struct bytes chunk,
                                 struct err *err)
{
    enum chunk_encoding encoding;
    uint32_t n;
    enum err_code rc = chunk_peek(chunk, &encoding, &n, err);
    if (rc) return rc;
    buf_printf(ctx,
               " %s n=%" PRIu32 " t=%" PRId64 "..%" PRId64 " resets=%" PRIu32
               " first=%.17g last=%.17g min=%.17g max=%.17g histograms=%d\n",
               chunk_encoding_name(encoding), n, m->t_min_ms, m->t_max_ms, m->n_resets, m->first,
               m->last, m->min, m->max, m->has_histograms);
    return ERR_OK;
}

static void print_block(struct buf *out, struct block *b)
{
    struct err err;
    const struct block_info *info = block_info(b);
    buf_printf(out,
               "ulid=%s incarnation=%" PRIu64 " sequence=%" PRIu64 " level=%" PRIu32 " t=%" PRId64
               "..%" PRId64 " series=%" PRIu64 " samples=%" PRIu64 " chunks=%" PRIu64
               " created=%" PRId64 "\n",
               info->ulid.text, info->incarnation, info->sequence, info->level, info->t_min_ms,
               info->t_max_ms, info->n_series, info->n_samples, info->n_chunks, info->created_ms);
    for (uint32_t id = 0; id < info->n_series; id++) {
        struct arena arena;
        struct samples s;
        struct labels labels;
        arena_init(&arena, MEM_BASE, 0);
        samples_init(&s, MEM_BASE, &arena);
        CHECK_OK(block_labels(b, id, &arena, &labels, &err), &err);
        labels_print(out, labels);
        buf_u8(out, '\n');
        CHECK_OK(block_chunks(b, id, print_chunk, out, &err), &err);
        CHECK_OK(block_read(b, id, INT64_MIN, INT64_MAX, &s, &err), &err);
        print_samples(out, &s);
        samples_release(&s);
        arena_release(&arena);
    }
}

static void check_select(struct block *b, const char *name, const char *value, uint32_t first,
                         size_t expected)
{
    struct err err;
    struct arena arena;
    uint32_t *ids;
    size_t n;
    arena_init(&arena, MEM_BASE, 0);
    struct matcher m = {.op = MATCH_EQ, .name = str_of(name), .value = str_of(value)};
    CHECK_OK(block_select(b, &m, 1, &arena, &ids, &n, &err), &err);
    CHECK_U64(n, expected);
    CHECK_U64(ids[0], first);
    arena_release(&arena);
}

/* The block at `path` holds what block_v1.txt says. */
static void check_block(struct test_env *e, const char *path)
{
    struct err err;
    struct page_cache *cache;
    struct block *b;
    CHECK_OK(page_cache_new(&e->env, 1 << 20, &cache, &err), &err);
    CHECK_OK(block_open(&e->env, path, cache, &b, &err), &err);
    CHECK_OK(block_verify(b, NULL, NULL, &err), &err);
    struct buf text;
    buf_init(&text, MEM_BASE);
    print_block(&text, b);
    uint8_t *expected;
    size_t len;
    CHECK_OK(io_read_file(e->env.io, GOLDEN_TEXT, 1 << 20, &expected, &len, &err), &err);
    CHECK_BYTES(buf_bytes(&text), bytes_of(expected, len));
    check_select(b, "job", "api", 0, 2);
    check_select(b, "job", "", 1, 1);
    check_select(b, LABEL_NAME, "requests_total", 2, 2);
    mem_free(expected);
    buf_release(&text);
    block_unref(b);
    page_cache_free(cache);
}

static void write_file(const char *path, struct bytes b)
{
    FILE *f = fopen(path, "wb");
    CHECK(f != NULL);
    CHECK(fwrite(b.p, 1, b.len, f) == b.len);
    CHECK(fclose(f) == 0);
}

/* The block with its checksums as they are, and to be made right; its chunks in every encoding that can hold them. */
static void write_corpus(struct bytes block)
{
    struct err err;
    char path[256];
    struct buf b;
    buf_init(&b, MEM_BASE);
    for (uint8_t repair = 0; repair < 2; repair++) {
        buf_reset(&b);
        buf_u8(&b, repair);
        buf_put(&b, block.p, block.len);
        write_file(repair ? CORPUS "/block_open/repair" : CORPUS "/block_open/as_is",
                   buf_bytes(&b));
    }
    static const enum chunk_encoding encodings[] = {CHUNK_CONSTANT, CHUNK_GORILLA, CHUNK_RAW,
                                                    CHUNK_HISTOGRAMS, CHUNK_COLUMNS};
    for (size_t i = 0; i < COUNT_OF(golden) * COUNT_OF(encodings); i++) {
        struct arena arena;
        struct samples s;
        arena_init(&arena, MEM_BASE, 0);
        samples_init(&s, MEM_BASE, &arena);
        golden[i / COUNT_OF(encodings)].make(&s);
        enum chunk_encoding encoding = encodings[i % COUNT_OF(encodings)];
        buf_reset(&b);
        snprintf(path, sizeof(path), CORPUS "/chunk_decode/%zu_%s", i / COUNT_OF(encodings),
                 chunk_encoding_name(encoding));
        if (!chunk_encode_as(encoding, &s, 0, s.n, &b, &err)) write_file(path, buf_bytes(&b));
        samples_release(&s);
        arena_release(&arena);
    }
    buf_release(&b);
}

static void write_golden(struct test_env *e, const char *path)
{
    struct err err;
    uint8_t *bytes;
    size_t len;
    CHECK_OK(io_read_file(e->env.io, path, 1 << 20, &bytes, &len, &err), &err);
    write_file(GOLDEN_BLOCK, bytes_of(bytes, len));
    write_corpus(bytes_of(bytes, len));
    mem_free(bytes);
    struct page_cache *cache;
    struct block *b;
    struct buf text;
    buf_init(&text, MEM_BASE);
    CHECK_OK(page_cache_new(&e->env, 1 << 20, &cache, &err), &err);
    CHECK_OK(block_open(&e->env, path, cache, &b, &err), &err);
    print_block(&text, b);
    write_file(GOLDEN_TEXT, buf_bytes(&text));
    buf_release(&text);
    block_unref(b);
    page_cache_free(cache);
}

static void test_golden_block_is_read(void **state)
{
    (void)state;
    struct test_env e;
    test_env_init(&e);
    check_block(&e, GOLDEN_BLOCK);
    test_env_release(&e);
}

/* The writer of today makes a block with the same contents; its bytes may differ (LZ4's choices are its own). */
static void test_written_block_has_the_same_contents(void **state)
{
    (void)state;
    struct test_env e;
    char path[512];
    test_env_init(&e);
    write_block(&e, path, sizeof(path));
    check_block(&e, path);
    test_env_release(&e);
}

int main(void)
{
    const char *golden_env = getenv("QUIPU_GOLDEN");
    if (golden_env && strcmp(golden_env, "write") == 0) {
        struct test_env e;
        char path[512];
        test_env_init(&e);
        write_block(&e, path, sizeof(path));
        write_golden(&e, path);
        test_env_release(&e);
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_block_is_read),
        cmocka_unit_test(test_written_block_has_the_same_contents),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
