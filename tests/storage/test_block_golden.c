/* tests/storage/test_block_golden.c: a block that any released version wrote is read for ever.
 * tests/golden/block_vN.block and what is in them, block_vN.txt, are in the repository. Those of version 2 are written
 * anew only by `QUIPU_GOLDEN=write test_block_golden`, when version 2 itself was wrong and has not been released; the
 * corpora of fuzz_block_open and fuzz_chunk_decode are made of the same series. */
#include "storage/block_layout.h"

#include "tests/storage/env.h"
#include "tests/storage/gen.h"

#define GOLDEN "../golden/"
#define CORPUS "../fuzz/corpus"
#define T0 INT64_C(1700000000000)

/* ---- version 1: one series of each encoding ---- */

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

/* In label order. */
static void (*const makers[])(struct samples *s) = {make_constant, make_histograms, make_counter,
                                                    make_raw, make_gauge};

/* ---- version 2: times that are shared, a family, start times ---- */

#define N_SCRAPES 40
#define N_BUCKETS 3
#define N_ZONES 12

static int64_t scrape_ms(int i)
{
    return T0 + i * 15000 + (i == 7 ? 3 : 0);
}

static uint32_t declare(struct block_writer *w, const char *name, const char *label,
                        const char *value)
{
    struct err err;
    uint32_t id = 0;
    struct label labels[] = {{STR(LABEL_NAME), str_of(name)}, {str_of(label), str_of(value)}};
    CHECK_OK(block_writer_series(w, (struct labels){labels, *value ? 2 : 1}, &id, &err), &err);
    return id;
}

static void write_samples(struct block_writer *w, uint32_t id, struct samples *s)
{
    struct err err;
    CHECK_OK(block_writer_samples(w, id, s, 0, s->n, &err), &err);
    samples_release(s);
}

static void write_family(struct block_writer *w, const uint32_t *ids, uint32_t count_id)
{
    struct err err;
    int64_t t_ms[N_SCRAPES];
    double values[N_BUCKETS][N_SCRAPES];
    const double *v[N_BUCKETS] = {values[0], values[1], values[2]};
    for (int i = 0; i < N_SCRAPES; i++) {
        t_ms[i] = scrape_ms(i);
        values[0][i] = i * 3 + i % 4;
        values[1][i] = values[0][i] + i * 17 + i % 7;
        values[2][i] = values[1][i] + i / 5;
    }
    struct block_family f = {.ids = ids,
                             .n_members = N_BUCKETS,
                             .count_id = count_id,
                             .t_ms = t_ms,
                             .v = v,
                             .count = values[2],
                             .n = N_SCRAPES};
    CHECK_OK(block_writer_family(w, &f, &err), &err);
}

/* Some of the scrapes' times, from `first` on; a constant, a counter, cents or full mantissas. */
static void make_scraped(struct samples *s, int first, int end, int kind)
{
    struct err err;
    samples_init(s, MEM_BASE, NULL);
    for (int i = first; i < end; i++) {
        double v = kind == 0   ? 1
                   : kind == 1 ? i * i * 5
                   : kind == 2 ? i % 9 / 100.0
                               : 1.0 / (3 + i);
        CHECK_OK(samples_push(s, scrape_ms(i), v, NULL, &err), &err);
    }
}

/* Start times of a counter that began anew. */
static void add_starts(struct samples *s)
{
    struct err err;
    CHECK_OK(samples_want_start_times(s, &err), &err);
    for (size_t i = 0; i < s->n; i++) s->st_ms[i] = i < 12 ? 0 : i < 30 ? T0 - 5 : s->t_ms[29] + 1;
}

/* A chunk with its own times. */
static void write_gorilla(struct block_writer *w, uint32_t id)
{
    struct err err;
    struct samples s;
    struct buf chunk;
    struct chunk_meta meta;
    samples_init(&s, MEM_BASE, NULL);
    buf_init(&chunk, MEM_BASE);
    make_gauge(&s);
    CHECK_OK(chunk_encode(&s, 0, s.n, &chunk, &meta, &err), &err);
    buf_reset(&chunk);
    CHECK_OK(chunk_encode_as(CHUNK_GORILLA, &s, 0, s.n, &chunk, &err), &err);
    CHECK_OK(block_writer_chunk(w, id, &meta, buf_bytes(&chunk), &err), &err);
    buf_release(&chunk);
    samples_release(&s);
}

static void write_histograms(struct block_writer *w, uint32_t id)
{
    struct arena arena;
    struct samples s;
    arena_init(&arena, MEM_BASE, 0);
    samples_init(&s, MEM_BASE, &arena);
    make_histograms(&s);
    write_samples(w, id, &s);
    arena_release(&arena);
}

/* More than a group of series, and values of labels that zstd packs. */
static void write_zones(struct block_writer *w)
{
    for (int i = 0; i < N_ZONES; i++) {
        char zone[64];
        struct samples s;
        snprintf(zone, sizeof(zone), "europe-west/hall-%02d/rack-%02d", i / 4, i);
        make_scraped(&s, i, i + 3, 1);
        write_samples(w, declare(w, "up", "zone", zone), &s);
    }
}

static void write_all(struct block_writer *w)
{
    struct samples s;
    uint32_t info_id = declare(w, "build_info", "job", "api");
    uint32_t ids[N_BUCKETS], count_id;
    ids[2] = declare(w, "duration_bucket", "le", "+Inf");
    ids[0] = declare(w, "duration_bucket", "le", "0.1");
    ids[1] = declare(w, "duration_bucket", "le", "5");
    count_id = declare(w, "duration_count", "", "");
    uint32_t histograms_id = declare(w, "latency", "", "");
    declare(w, "nothing", "job", "none"); /* gets no samples: not in the block */
    uint32_t late_id = declare(w, "price", "job", "late");
    uint32_t requests_id = declare(w, "requests_total", "job", "api");
    uint32_t ratio_id = declare(w, "share", "job", "web");
    uint32_t gauge_id = declare(w, "temperature", "job", "roof \xc3\xbc");
    write_family(w, ids, count_id);
    write_gorilla(w, gauge_id);
    make_scraped(&s, 5, 31, 2);
    write_samples(w, late_id, &s);
    make_scraped(&s, 0, N_SCRAPES, 0);
    write_samples(w, info_id, &s);
    make_scraped(&s, 0, N_SCRAPES, 1);
    add_starts(&s);
    write_samples(w, requests_id, &s);
    make_scraped(&s, 0, N_SCRAPES, 3);
    write_samples(w, ratio_id, &s);
    write_histograms(w, histograms_id);
    write_zones(w);
}

static void write_block(struct test_env *e, char *path, size_t size)
{
    struct err err;
    struct block_info info = {.incarnation = 2, .sequence = 11, .level = 3, .created_ms = T0 + 1};
    CHECK(ulid_parse(STR("01HF7YAT00ABCDEFGHJKMNPQRS"), &info.ulid));
    struct block_writer *w;
    CHECK_OK(block_writer_open(&e->env, e->dir, &info, &w, &err), &err);
    write_all(w);
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
        if (s->st_ms && s->st_ms[i]) buf_printf(out, " since %" PRId64, s->st_ms[i]);
        buf_u8(out, '\n');
    }
}

static enum err_code print_meta(void *ctx, const struct chunk_meta *m, struct err *err)
{
    (void)err;
    buf_printf(ctx,
               " n=%" PRIu32 " t=%" PRId64 "..%" PRId64 " resets=%" PRIu32
               " first=%.17g last=%.17g min=%.17g max=%.17g histograms=%d\n",
               m->n, m->t_min_ms, m->t_max_ms, m->n_resets, m->first, m->last, m->min, m->max,
               m->has_histograms);
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
        CHECK_OK(block_metas(b, id, INT64_MIN, INT64_MAX, print_meta, out, &err), &err);
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

/* The block at `path` holds what the text says. */
static void check_block(struct test_env *e, const char *path, const char *text_path)
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
    CHECK_OK(io_read_file(e->env.io, text_path, 1 << 20, &expected, &len, &err), &err);
    CHECK_BYTES(buf_bytes(&text), bytes_of(expected, len));
    check_select(b, "job", "api", 0, 2);
    check_select(b, LABEL_NAME, "build_info", 0, 1);
    check_select(b, LABEL_NAME, "latency", block_info(b)->n_series == 5 ? 1 : 5, 1);
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

/* A block with its checksums as they are, and to be made right. */
static void write_block_corpus(struct bytes block, unsigned version, const char *name)
{
    char path[256];
    struct buf b;
    buf_init(&b, MEM_BASE);
    for (uint8_t repair = 0; repair < 2; repair++) {
        buf_reset(&b);
        buf_u8(&b, (uint8_t)(repair | version << 1));
        buf_put(&b, block.p, block.len);
        snprintf(path, sizeof(path), CORPUS "/block_open/%s_%s", repair ? "repair" : "as_is", name);
        write_file(path, buf_bytes(&b));
    }
    buf_release(&b);
}

static enum err_code read_head(void *ctx, struct reader *r, struct err *err)
{
    return block_head_decode(r, ctx, err);
}

/* The block at `path` once more, with pages that are not packed: a fuzzer finds its way in these. */
static void copy_unpacked(struct test_env *e, const char *path, const char *copy_path)
{
    static const enum block_section ids[] = {SECTION_CHUNKS,  SECTION_TIMES,  SECTION_REFS,
                                             SECTION_LABELS,  SECTION_VALUES, SECTION_NAMES,
                                             SECTION_POSTINGS};
    struct err err;
    struct page_cache *cache;
    struct page_file pf;
    struct page_writer w;
    struct page_cursor cursor = {0};
    struct block_info info;
    struct file *from, *to;
    struct buf head;
    CHECK_OK(page_cache_new(&e->env, 1 << 20, &cache, &err), &err);
    CHECK_OK(io_open(e->env.io, path, IO_READ, &from, &err), &err);
    CHECK_OK(page_file_init(&pf, from, cache, read_head, &info, &err), &err);
    CHECK_OK(io_create_temp(e->env.io, copy_path, &to, &err), &err);
    CHECK_OK(page_writer_init(&w, to, PAGE_EFFORT_NONE, &err), &err);
    for (size_t i = 0; i < COUNT_OF(ids); i++) {
        page_writer_begin(&w, ids[i], 16 << 10);
        for (uint32_t k = 0; k < pf.sections[ids[i]].n_items; k++) {
            struct bytes item;
            CHECK_OK(page_file_item(&pf, &cursor, ids[i], k, &item, &err), &err);
            CHECK_OK(page_writer_item(&w, item, &err), &err);
        }
        CHECK_OK(page_writer_end(&w, &err), &err);
    }
    buf_init(&head, MEM_BASE);
    block_head_encode(&head, &info);
    CHECK_OK(page_writer_finish(&w, buf_bytes(&head), &info.file_bytes, &err), &err);
    CHECK_OK(file_sync(to, &err), &err);
    CHECK_OK(io_publish(e->env.io, to, copy_path, &err), &err);
    file_close(to);
    page_writer_release(&w);
    page_cursor_release(&cursor);
    page_file_release(&pf);
    page_cache_free(cache);
    buf_release(&head);
}

/* The series of version 1 in every encoding that can hold them. */
static void write_chunk_corpus(void)
{
    struct err err;
    char path[256];
    struct buf b;
    buf_init(&b, MEM_BASE);
    static const enum chunk_encoding encodings[] = {CHUNK_CONSTANT, CHUNK_GORILLA, CHUNK_RAW,
                                                    CHUNK_HISTOGRAMS, CHUNK_COLUMNS};
    for (size_t i = 0; i < COUNT_OF(makers) * COUNT_OF(encodings); i++) {
        struct arena arena;
        struct samples s;
        arena_init(&arena, MEM_BASE, 0);
        samples_init(&s, MEM_BASE, &arena);
        makers[i / COUNT_OF(encodings)](&s);
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
    write_file(GOLDEN "block_v2.block", bytes_of(bytes, len));
    write_block_corpus(bytes_of(bytes, len), 2, "v2");
    mem_free(bytes);
    CHECK_OK(io_read_file(e->env.io, GOLDEN "block_v1.block", 1 << 20, &bytes, &len, &err), &err);
    write_block_corpus(bytes_of(bytes, len), 1, "v1");
    mem_free(bytes);
    char copy_path[600];
    snprintf(copy_path, sizeof(copy_path), "%s.copy", path);
    copy_unpacked(e, path, copy_path);
    check_block(e, copy_path, GOLDEN "block_v2.txt");
    CHECK_OK(io_read_file(e->env.io, copy_path, 1 << 20, &bytes, &len, &err), &err);
    write_block_corpus(bytes_of(bytes, len), 2, "v2_unpacked");
    mem_free(bytes);
    write_chunk_corpus();
    struct page_cache *cache;
    struct block *b;
    struct buf text;
    buf_init(&text, MEM_BASE);
    CHECK_OK(page_cache_new(&e->env, 1 << 20, &cache, &err), &err);
    CHECK_OK(block_open(&e->env, path, cache, &b, &err), &err);
    print_block(&text, b);
    write_file(GOLDEN "block_v2.txt", buf_bytes(&text));
    buf_release(&text);
    block_unref(b);
    page_cache_free(cache);
}

static void test_golden_blocks_are_read(void **state)
{
    (void)state;
    struct test_env e;
    test_env_init(&e);
    check_block(&e, GOLDEN "block_v1.block", GOLDEN "block_v1.txt");
    check_block(&e, GOLDEN "block_v2.block", GOLDEN "block_v2.txt");
    test_env_release(&e);
}

/* The writer of today makes a block with the same contents; its bytes may differ (the packers' choices are theirs). */
static void test_written_block_has_the_same_contents(void **state)
{
    (void)state;
    struct test_env e;
    char path[512];
    test_env_init(&e);
    write_block(&e, path, sizeof(path));
    check_block(&e, path, GOLDEN "block_v2.txt");
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
        cmocka_unit_test(test_golden_blocks_are_read),
        cmocka_unit_test(test_written_block_has_the_same_contents),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
