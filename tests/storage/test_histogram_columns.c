/* tests/storage/test_histogram_columns.c: histograms in columns give back every bit, in whole and by range; what is cut
 * or wrong is corrupt, and takes no more memory than its bound.
 * tests/golden/histogram_columns_v1.chunk and what is in it, histogram_columns_v1.txt, are read for ever. They are
 * written anew only by `QUIPU_GOLDEN=write test_histogram_columns`, when version 1 itself was wrong and has not been
 * released; some files of fuzz_chunk_decode's corpus too. */
#include "storage/format.h"
#include "tests/storage/chunk_fixture.h"
#include "tests/storage/gen_histograms.h"

#define GOLDEN_CHUNK "../golden/histogram_columns_v1.chunk"
#define GOLDEN_TEXT "../golden/histogram_columns_v1.txt"
#define CORPUS "../fuzz/corpus/chunk_decode"

static void encode(struct fixture *f)
{
    buf_reset(&f->chunk);
    CHECK_OK(chunk_encode_as(CHUNK_HISTOGRAM_COLUMNS, &f->in, 0, f->in.n, &f->chunk, &f->err),
             &f->err);
}

/* From a copy of its own, so that ASan sees a byte too far. */
static enum err_code decode(struct fixture *f, struct bytes b, int64_t mint, int64_t maxt)
{
    uint8_t *p = malloc(b.len ? b.len : 1);
    CHECK(p != NULL);
    if (b.len) memcpy(p, b.p, b.len);
    samples_reset(&f->out);
    arena_reset(&f->out_arena);
    enum err_code rc = chunk_decode(bytes_of(p, b.len), mint, maxt, &f->out, &f->err);
    free(p);
    if (rc) CHECK_U64(f->out.n, 0);
    return rc;
}

static enum err_code decode_all(struct fixture *f, struct bytes b)
{
    return decode(f, b, INT64_MIN, INT64_MAX);
}

static void check_comes_back(struct fixture *f, struct rng *rng)
{
    CHECK_OK(decode_all(f, buf_bytes(&f->chunk)), &f->err);
    check_same_samples(&f->out, &f->in, 0, f->in.n);
    for (int k = 0; k < 5; k++) {
        size_t a = rng_below(rng, f->in.n), b = a + rng_below(rng, f->in.n - a);
        CHECK_OK(decode(f, buf_bytes(&f->chunk), f->in.t_ms[a], f->in.t_ms[b]), &f->err);
        check_same_samples(&f->out, &f->in, a, b - a + 1);
    }
    CHECK_OK(decode(f, buf_bytes(&f->chunk), INT64_MIN, f->in.t_ms[0] - 1), &f->err);
    CHECK_U64(f->out.n, 0);
    CHECK_OK(decode(f, buf_bytes(&f->chunk), f->in.t_ms[f->in.n - 1] + 1, INT64_MAX), &f->err);
    CHECK_U64(f->out.n, 0);
}

static void test_roundtrip(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 600)
    {
        struct fixture f;
        fixture_init(&f);
        gen_histogram_series(&rng, &f.in, 1 + rng_below(&rng, rng_chance(&rng, 0.1) ? 1500 : 150),
                             (unsigned)rng_below(&rng, GEN_HISTOGRAM_KINDS));
        encode(&f);
        check_comes_back(&f, &rng);
        enum chunk_encoding encoding;
        uint32_t n;
        CHECK_OK(chunk_peek(buf_bytes(&f.chunk), &encoding, &n, &f.err), &f.err);
        CHECK_U64(encoding, CHUNK_HISTOGRAM_COLUMNS);
        CHECK_U64(n, f.in.n);
        fixture_release(&f);
    }
}

/* The plain kinds are what remote write accepts. */
static void test_accepted(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 100)
    {
        struct fixture f;
        fixture_init(&f);
        gen_histogram_series(&rng, &f.in, 40,
                             GEN_HISTOGRAM_LATENCIES + (unsigned)rng_below(&rng, 4));
        for (size_t i = 0; i < f.in.n; i++) CHECK_OK(histogram_validate(f.in.h[i], &f.err), &f.err);
        encode(&f);
        check_comes_back(&f, &rng);
        fixture_release(&f);
    }
}

/* The smaller of rows and columns is kept, behind what the buffer held. */
static void test_choice(void **state)
{
    (void)state;
    struct rng rng;
    size_t n_rows = 0, n_columns = 0;
    PROPERTY_LOOP(&rng, 300)
    {
        struct fixture f;
        struct chunk_meta meta;
        struct buf other;
        fixture_init(&f);
        buf_init(&other, MEM_BASE);
        gen_histogram_series(&rng, &f.in, 1 + rng_below(&rng, rng_chance(&rng, 0.5) ? 4 : 100),
                             (unsigned)rng_below(&rng, GEN_HISTOGRAM_KINDS));
        buf_put(&f.chunk, "before", 6);
        CHECK_OK(chunk_encode(&f.in, 0, f.in.n, &f.chunk, &meta, &f.err), &f.err);
        CHECK(memcmp(f.chunk.p, "before", 6) == 0);
        struct bytes chunk = bytes_of(f.chunk.p + 6, f.chunk.len - 6);
        CHECK_OK(decode_all(&f, chunk), &f.err);
        check_same_samples(&f.out, &f.in, 0, f.in.n);
        if (meta.has_histograms) {
            CHECK_OK(chunk_encode_as(CHUNK_HISTOGRAMS, &f.in, 0, f.in.n, &other, &f.err), &f.err);
            CHECK(chunk.len <= other.len);
            n_rows += chunk.p[0] == CHUNK_HISTOGRAMS;
            n_columns += chunk.p[0] == CHUNK_HISTOGRAM_COLUMNS;
        }
        buf_release(&other);
        fixture_release(&f);
    }
    if (!getenv("QUIPU_SEED")) CHECK(n_rows > 10 && n_columns > 50); /* of all rounds */
}

/* A counter of latencies takes a fraction of the bytes of rows. */
static void test_size(void **state)
{
    (void)state;
    struct rng rng;
    struct fixture f;
    struct buf rows;
    test_rng(&rng);
    fixture_init(&f);
    buf_init(&rows, MEM_BASE);
    gen_histogram_bell(&rng, &f.in, 480, GEN_HISTOGRAM_LATENCIES, 60);
    encode(&f);
    CHECK_OK(chunk_encode_as(CHUNK_HISTOGRAMS, &f.in, 0, f.in.n, &rows, &f.err), &f.err);
    CHECK(f.chunk.len < rows.len * 45 / 100);
    buf_release(&rows);
    fixture_release(&f);
}

/* Buckets that stay the same, counts that are their sum and one start time take next to nothing. */
static void test_constant_is_small(void **state)
{
    (void)state;
    struct rng rng;
    struct fixture f;
    test_rng(&rng);
    fixture_init(&f);
    struct histogram *h = gen_histogram(&rng, &f.arena, NULL);
    while (h->n_pos < 4 || !h->is_int || !h->start_ms) h = gen_histogram(&rng, &f.arena, NULL);
    for (int64_t i = 0; i < 2000; i++)
        CHECK_OK(samples_push(&f.in, i * 15000, h->sum, h, &f.err), &f.err);
    encode(&f);
    CHECK(f.chunk.len < 80 + 6 * (size_t)(h->n_pos + h->n_neg) + 8 * (size_t)h->n_bounds);
    CHECK_OK(decode_all(&f, buf_bytes(&f.chunk)), &f.err);
    check_same_samples(&f.out, &f.in, 0, f.in.n);
    /* Spans and bounds are shared by the samples. */
    CHECK(f.out.h[0]->pos_spans == f.out.h[1999]->pos_spans);
    fixture_release(&f);
}

/* More than a chunk may unpack to: rows. */
static void test_too_many_buckets(void **state)
{
    (void)state;
    struct fixture f;
    struct chunk_meta meta;
    fixture_init(&f);
    struct histogram *h = ARENA_NEW(&f.arena, struct histogram);
    struct histogram_span *span = ARENA_NEW(&f.arena, struct histogram_span);
    double *pos = ARENA_ARRAY(&f.arena, double, 1000);
    CHECK(h && span && pos);
    *span = (struct histogram_span){-500, 1000};
    *h = (struct histogram){.schema = 3,
                            .is_int = true,
                            .pos_spans = span,
                            .n_pos_spans = 1,
                            .pos = pos,
                            .n_pos = 1000};
    for (int64_t i = 0; i < 4300; i++)
        CHECK_OK(samples_push(&f.in, i * 15000, h->sum, h, &f.err), &f.err);
    CHECK_ERR(chunk_encode_as(CHUNK_HISTOGRAM_COLUMNS, &f.in, 0, 4300, &f.chunk, &f.err),
              ERR_UNSUPPORTED);
    CHECK_U64(f.chunk.len, 0);
    CHECK_OK(chunk_encode(&f.in, 0, 4300, &f.chunk, &meta, &f.err), &f.err);
    CHECK_U64(f.chunk.p[0], CHUNK_HISTOGRAMS);
    buf_reset(&f.chunk);
    CHECK_OK(chunk_encode(&f.in, 0, 4000, &f.chunk, &meta, &f.err), &f.err);
    CHECK_U64(f.chunk.p[0], CHUNK_HISTOGRAM_COLUMNS);
    CHECK_OK(decode_all(&f, buf_bytes(&f.chunk)), &f.err);
    check_same_samples(&f.out, &f.in, 0, 4000);
    fixture_release(&f);
}

/* ---- hostile bytes ---- */

static void test_every_prefix_is_refused(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 80)
    {
        struct fixture f;
        fixture_init(&f);
        gen_histogram_series(&rng, &f.in, 1 + rng_below(&rng, 60),
                             (unsigned)rng_below(&rng, GEN_HISTOGRAM_KINDS));
        encode(&f);
        for (size_t len = 0; len < f.chunk.len; len++)
            CHECK_ERR(decode_all(&f, bytes_of(f.chunk.p, len)), ERR_CORRUPT);
        buf_u8(&f.chunk, (uint8_t)rng_u64(&rng)); /* and one byte too many */
        CHECK_ERR(decode_all(&f, buf_bytes(&f.chunk)), ERR_CORRUPT);
        fixture_release(&f);
    }
}

/* Changed bytes: an error, or samples in order that are as good as others. */
static void test_damage(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 300)
    {
        struct fixture f;
        fixture_init(&f);
        gen_histogram_series(&rng, &f.in, 1 + rng_below(&rng, 200),
                             (unsigned)rng_below(&rng, GEN_HISTOGRAM_KINDS));
        encode(&f);
        for (int k = 0; k < 60; k++) {
            size_t at = rng_below(&rng, f.chunk.len);
            uint8_t was = f.chunk.p[at];
            f.chunk.p[at] ^= (uint8_t)(1 + rng_below(&rng, 255));
            enum err_code rc = decode_all(&f, buf_bytes(&f.chunk));
            CHECK(rc == ERR_OK || rc == ERR_CORRUPT);
            for (size_t i = 1; i < f.out.n; i++) CHECK(f.out.t_ms[i] > f.out.t_ms[i - 1]);
            f.chunk.p[at] = was;
        }
        fixture_release(&f);
    }
}

static void test_random_bytes(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 3000)
    {
        struct fixture f;
        uint8_t bytes[64] = {CHUNK_HISTOGRAM_COLUMNS, 4, 0, 2, 1, 0};
        fixture_init(&f);
        test_fill(&rng, bytes + 6, sizeof(bytes) - 6);
        enum err_code rc = decode_all(&f, bytes_of(bytes, 6 + rng_below(&rng, 58)));
        CHECK(rc == ERR_OK || rc == ERR_CORRUPT);
        fixture_release(&f);
    }
}

/* One sample at time 1: u8 11, n = 1, deltas, zz(1); then the segments of each case. */
static void test_hostile(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        size_t len;
        uint8_t bytes[24];
        enum err_code rc;
    } cases[] = {
        /* kind 2, length, flags WHOLE | TOTALS, layout: schema 0, no spans; sum 0; zero count 3 */
        {"fine", 10, {2, 8, 0x30, 0, 0, 0, 2, 0, 0, 3}, ERR_OK},
        {"a count of its own", 11, {2, 9, 0x10, 0, 0, 0, 2, 0, 0, 4, 3}, ERR_OK},
        {"a float", 4, {0, 2, 0, 4}, ERR_OK},
        {"a row", 11, {1, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0}, ERR_OK},
        {"nothing", 0, {0}, ERR_CORRUPT},
        {"a byte left over", 11, {2, 8, 0x30, 0, 0, 0, 2, 0, 0, 3, 0}, ERR_CORRUPT},
        {"a byte left over in it", 11, {2, 9, 0x30, 0, 0, 0, 2, 0, 0, 3, 0}, ERR_CORRUPT},
        {"a segment too long", 10, {2, 9, 0x30, 0, 0, 0, 2, 0, 0, 3}, ERR_CORRUPT},
        {"a segment of two", 10, {6, 8, 0x30, 0, 0, 0, 2, 0, 0, 3}, ERR_CORRUPT},
        {"no layout before", 7, {3, 5, 0x30, 2, 0, 0, 3}, ERR_CORRUPT},
        {"unknown flags", 10, {2, 8, 0x70, 0, 0, 0, 2, 0, 0, 3}, ERR_CORRUPT},
        {"totals of no whole numbers", 10, {2, 8, 0x20, 0, 0, 0, 2, 0, 0, 3}, ERR_CORRUPT},
        {"an unknown schema", 10, {2, 8, 0x30, 40, 0, 0, 2, 0, 0, 3}, ERR_CORRUPT},
        {"spans without bytes", 10, {2, 8, 0x30, 0, 99, 0, 2, 0, 0, 3}, ERR_CORRUPT},
        {"60000 buckets", 14, {2, 12, 0x30, 0, 1, 0, 0xe0, 0xd4, 3, 0, 2, 0, 0, 3}, ERR_CORRUPT},
        {"custom with a negative side",
         14,
         {2, 12, 0x30, 0xd2, 1, 0, 1, 0, 1, 0, 2, 0, 0, 3},
         ERR_CORRUPT},
        {"a count over 2^53",
         18,
         {2, 16, 0x30, 0, 0, 0, 2, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0},
         ERR_CORRUPT},
        {"differences without a row before",
         15,
         {1, 13, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 2},
         ERR_CORRUPT},
    };
    struct fixture f;
    fixture_init(&f);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        static const uint8_t head[] = {CHUNK_HISTOGRAM_COLUMNS, 1, 0, 2};
        buf_reset(&f.chunk);
        buf_put(&f.chunk, head, sizeof(head));
        buf_put(&f.chunk, cases[i].bytes, cases[i].len);
        enum err_code rc = decode_all(&f, buf_bytes(&f.chunk));
        if (rc != cases[i].rc)
            fprintf(stderr, "%s: %s\n", cases[i].what, rc ? f.err.text : "accepted");
        CHECK_ERR(rc, cases[i].rc);
    }
    fixture_release(&f);
}

/* A few bytes that say millions of counts are refused before they take memory. */
static void test_bomb(void **state)
{
    (void)state;
    struct fixture f;
    struct histogram_span span = {0, 500};
    struct histogram h = {.schema = 3, .pos_spans = &span, .n_pos_spans = 1, .n_pos = 500};
    struct buf body;
    int64_t *t_ms = malloc(60000 * sizeof(*t_ms));
    CHECK(t_ms != NULL);
    for (int64_t i = 0; i < 60000; i++) t_ms[i] = i;
    fixture_init(&f);
    buf_init(&body, MEM_BASE);
    buf_u8(&f.chunk, CHUNK_HISTOGRAM_COLUMNS);
    times_encode(&f.chunk, t_ms, 60000);
    buf_u8(&body, HISTOGRAM_FLAG_WHOLE | HISTOGRAM_FLAG_TOTALS);
    histogram_layout_encode(&body, &h);
    buf_u8(&body, 2), buf_u8(&body, 0), buf_u8(&body, 0); /* sums: a constant */
    for (int i = 0; i < 501 + 126; i++) buf_u8(&body, 0); /* firsts, modes */
    for (int i = 0; i < 501; i++) {
        buf_u8(&body, INTCOL_RUN);
        buf_varint(&body, 59999 / INTCOL_FRAME);
    }
    buf_varint(&f.chunk, 59999 * 4 + HISTOGRAM_NEW_LAYOUT);
    buf_str(&f.chunk, str_from_bytes(buf_bytes(&body)));
    size_t bytes = mem_bytes(MEM_BASE);
    CHECK_ERR(decode_all(&f, buf_bytes(&f.chunk)), ERR_CORRUPT);
    CHECK(strstr(f.err.text, "counts") != NULL);
    CHECK(mem_bytes(MEM_BASE) < bytes + 2000000); /* of the columns h and v, at most */
    buf_release(&body);
    free(t_ms);
    fixture_release(&f);
}

/* ---- golden ---- */

/* A layout that grows, a reset, floats and markers between, float histograms, custom bounds, start times. */
static void make_golden(struct samples *s)
{
    struct err err;
    int64_t t = INT64_C(1700000000000);
    double own[6] = {1, 20, 300, 40, 5, 0};
    for (int i = 0; i < 100; i++, t += 15000) {
        struct histogram *h = ARENA_NEW(s->arena, struct histogram);
        struct histogram_span *spans = ARENA_ARRAY(s->arena, struct histogram_span, 2);
        double *counts = ARENA_ARRAY(s->arena, double, 6),
               *bounds = ARENA_ARRAY(s->arena, double, 4);
        CHECK(h && spans && counts && bounds);
        if (i == 30 || i == 31) {
            CHECK_OK(samples_push(s, t, 0.25 * i, NULL, &err), &err);
            continue;
        }
        if (i == 45) memset(own, 0, sizeof(own));
        bool custom = i >= 80, is_int = i < 60 || custom;
        for (int k = 0; k < 6; k++) {
            own[k] += (i * 7 + k * 3) % 5;
            counts[k] = is_int ? own[k] : own[k] / 4;
        }
        spans[0] = (struct histogram_span){custom ? 0 : -2, 2};
        spans[1] = (struct histogram_span){1, i < 15 ? 1 : 2};
        for (int k = 0; k < 4; k++) bounds[k] = 0.5 * (k + 1);
        *h = (struct histogram){.schema = custom ? HISTOGRAM_SCHEMA_CUSTOM : 2,
                                .is_int = is_int,
                                .reset_hint = i == 45 ? HISTOGRAM_RESET_YES : HISTOGRAM_RESET_NO,
                                .sum = i == 59 ? stale_nan() : 1.5 * i,
                                .zero_threshold = custom ? 0 : 0x1p-128,
                                .zero_count = custom ? 0 : counts[5],
                                .pos_spans = spans,
                                .n_pos_spans = 2,
                                .pos = counts,
                                .n_pos = i < 15 ? 3 : 4,
                                .start_ms = i >= 45 ? INT64_C(1700000670123) : 0};
        if (custom) h->bounds = bounds, h->n_bounds = 4;
        if (!custom) {
            h->neg_spans = spans, h->n_neg_spans = 1;
            h->neg = counts + 3, h->n_neg = 2;
        }
        h->count = h->zero_count;
        for (uint32_t k = 0; k < h->n_pos; k++) h->count += h->pos[k];
        for (uint32_t k = 0; k < h->n_neg; k++) h->count += h->neg[k];
        CHECK_OK(samples_push(s, t, h->sum, h, &err), &err);
    }
}

static void print_counts(struct buf *out, const char *what, const struct histogram_span *spans,
                         uint32_t n_spans, const double *v, uint32_t n)
{
    buf_printf(out, " %s", what);
    for (uint32_t i = 0; i < n_spans; i++)
        buf_printf(out, " (%d,%u)", spans[i].offset, spans[i].length);
    for (uint32_t i = 0; i < n; i++) buf_printf(out, " %.17g", v[i]);
}

static void print_samples(struct buf *out, const struct samples *s)
{
    for (size_t i = 0; i < s->n; i++) {
        uint64_t bits;
        memcpy(&bits, &s->v[i], sizeof(bits));
        buf_printf(out, "%" PRId64 " %016" PRIx64, s->t_ms[i], bits);
        const struct histogram *h = s->h[i];
        if (h) {
            buf_printf(out, " schema %d %s hint %u start %" PRId64 " count %.17g zero %g %.17g",
                       h->schema, h->is_int ? "int" : "float", h->reset_hint, h->start_ms, h->count,
                       h->zero_threshold, h->zero_count);
            print_counts(out, "pos", h->pos_spans, h->n_pos_spans, h->pos, h->n_pos);
            print_counts(out, "neg", h->neg_spans, h->n_neg_spans, h->neg, h->n_neg);
            print_counts(out, "bounds", NULL, 0, h->bounds, h->n_bounds);
        }
        buf_u8(out, '\n');
    }
}

static void write_file(const char *path, struct bytes b)
{
    FILE *file = fopen(path, "wb");
    CHECK(file != NULL);
    CHECK_U64(fwrite(b.p, 1, b.len, file), b.len);
    CHECK(fclose(file) == 0);
}

static void read_file(const char *path, struct buf *out)
{
    FILE *file = fopen(path, "rb");
    CHECK(file != NULL);
    uint8_t chunk[4096];
    for (size_t n; (n = fread(chunk, 1, sizeof(chunk), file)) > 0;) buf_put(out, chunk, n);
    CHECK(fclose(file) == 0);
}

static void write_golden(struct fixture *f)
{
    struct rng rng;
    char path[256];
    encode(f);
    write_file(GOLDEN_CHUNK, buf_bytes(&f->chunk));
    buf_reset(&f->chunk);
    print_samples(&f->chunk, &f->in);
    write_file(GOLDEN_TEXT, buf_bytes(&f->chunk));
    rng_seed(&rng, 1);
    for (unsigned kind = 0; kind < GEN_HISTOGRAM_KINDS; kind++) {
        struct fixture g;
        fixture_init(&g);
        gen_histogram_series(&rng, &g.in, kind == GEN_HISTOGRAM_FLOATS ? 8 : 30, kind);
        encode(&g);
        snprintf(path, sizeof(path), CORPUS "/histogram_columns_%u", kind);
        if (g.chunk.len < 4096) write_file(path, buf_bytes(&g.chunk));
        fixture_release(&g);
    }
}

static void test_golden_chunk_is_read(void **state)
{
    (void)state;
    struct fixture f;
    struct buf chunk, text, expected;
    fixture_init(&f);
    buf_init(&chunk, MEM_BASE);
    buf_init(&text, MEM_BASE);
    buf_init(&expected, MEM_BASE);
    make_golden(&f.in);
    const char *mode = getenv("QUIPU_GOLDEN");
    if (mode && strcmp(mode, "write") == 0) write_golden(&f);
    read_file(GOLDEN_CHUNK, &chunk);
    read_file(GOLDEN_TEXT, &expected);
    CHECK_OK(decode_all(&f, buf_bytes(&chunk)), &f.err);
    check_same_samples(&f.out, &f.in, 0, f.in.n);
    print_samples(&text, &f.out);
    CHECK_BYTES(buf_bytes(&text), buf_bytes(&expected));
    buf_release(&chunk);
    buf_release(&text);
    buf_release(&expected);
    fixture_release(&f);
}

/* ---- memory ---- */

static size_t allocs_left;
static bool fail_alloc(void *ctx, size_t size)
{
    (void)ctx;
    (void)size;
    return allocs_left-- == 0;
}

/* Each allocation fails in turn: an error, nothing appended, nothing lost. */
static void test_no_memory(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    make_golden(&f.in);
    size_t bytes = mem_bytes(MEM_STORAGE);
    enum err_code rc = ERR_NO_MEMORY;
    for (size_t k = 0; rc && k < 500; k++) {
        buf_release(&f.chunk);
        allocs_left = k;
        mem_set_fail_hook(fail_alloc, NULL);
        rc = chunk_encode_as(CHUNK_HISTOGRAM_COLUMNS, &f.in, 0, f.in.n, &f.chunk, &f.err);
        mem_set_fail_hook(NULL, NULL);
        CHECK(rc == ERR_OK || rc == ERR_NO_MEMORY);
        CHECK_U64(mem_bytes(MEM_STORAGE), bytes);
        if (rc) CHECK_U64(f.chunk.len, 0);
    }
    CHECK_OK(rc, &f.err);
    rc = ERR_NO_MEMORY;
    for (size_t k = 0; rc && k < 500; k++) {
        samples_release(&f.out);
        arena_release(&f.out_arena);
        samples_init(&f.out, MEM_BASE, &f.out_arena);
        allocs_left = k;
        mem_set_fail_hook(fail_alloc, NULL);
        rc = decode_all(&f, buf_bytes(&f.chunk));
        mem_set_fail_hook(NULL, NULL);
        CHECK(rc == ERR_OK || rc == ERR_NO_MEMORY);
        CHECK_U64(mem_bytes(MEM_STORAGE), bytes);
    }
    CHECK_OK(rc, &f.err);
    check_same_samples(&f.out, &f.in, 0, f.in.n);
    fixture_release(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_roundtrip),
        cmocka_unit_test(test_accepted),
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_size),
        cmocka_unit_test(test_constant_is_small),
        cmocka_unit_test(test_too_many_buckets),
        cmocka_unit_test(test_every_prefix_is_refused),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_random_bytes),
        cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_bomb),
        cmocka_unit_test(test_golden_chunk_is_read),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
