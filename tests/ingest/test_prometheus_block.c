/* Blocks of Prometheus's TSDB, made here: what is in them comes out; any flipped or missing byte is an error or harmless.
 * Blocks that a Prometheus wrote: tests/e2e/import.py. */
#include <fcntl.h>
#include <sys/stat.h>

#include "ingest/prometheus_block.h"
#include "tests/ingest/prometheus_block_write.h"

static const char *const SYMBOLS[] = {"", "__name__", "a", "b", "job", "x"};
static const char *const SERIES_A[] = {"__name__", "a", "job", "x", NULL};
static const char *const SERIES_B[] = {"__name__", "b", NULL};

struct fixture {
    char dir[256];
    struct block_files files;
    struct arena arena;
    struct samples floats, histograms;
};

static struct histogram *make_histogram(struct arena *arena, int i)
{
    static struct histogram_span span = {1, 2};
    struct histogram *h = ARENA_NEW(arena, struct histogram);
    double *buckets = ARENA_ARRAY(arena, double, 2);
    buckets[0] = i;
    buckets[1] = 2 * i;
    *h = (struct histogram){.is_int = true,
                            .count = 3 * i,
                            .sum = i * 0.5,
                            .pos_spans = &span,
                            .n_pos_spans = 1,
                            .pos = buckets,
                            .n_pos = 2};
    return h;
}

static void write_file(const char *dir, const char *name, const struct buf *b, size_t len)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    CHECK(f && fwrite(b->p, 1, len, f) == len && fclose(f) == 0);
}

static void write_block(const struct fixture *f)
{
    const struct block_files *b = &f->files;
    write_file(f->dir, "meta.json", &b->meta, b->meta.len);
    write_file(f->dir, "index", &b->index, b->index.len);
    write_file(f->dir, "chunks/000001", &b->chunks, b->chunks.len);
    write_file(f->dir, "tombstones", &b->tombstones, b->tombstones.len);
}

/* a{job="x"}: 30 floats at 0, 10, …; b: 10 histograms. Of a, 100 to 149 is deleted. */
static void open_fixture(struct fixture *f, unsigned version)
{
    struct err err;
    char path[300];
    test_temp_dir(f->dir, sizeof(f->dir));
    snprintf(path, sizeof(path), "%s/chunks", f->dir);
    CHECK(mkdir(path, 0700) == 0);
    arena_init(&f->arena, MEM_INGEST, 0);
    samples_init(&f->floats, MEM_INGEST, &f->arena);
    samples_init(&f->histograms, MEM_INGEST, &f->arena);
    for (int i = 0; i < 30; i++)
        CHECK_OK(samples_push(&f->floats, i * 10, i == 7 ? stale_nan() : i * 1.25, NULL, &err),
                 &err);
    for (int i = 0; i < 10; i++) {
        struct histogram *h = make_histogram(&f->arena, i);
        CHECK_OK(samples_push(&f->histograms, i * 10, h->sum, h, &err), &err);
    }
    block_begin(&f->files, version, SYMBOLS, COUNT_OF(SYMBOLS));
    block_series(&f->files, SERIES_A, &f->floats, 12, &f->arena);
    block_series(&f->files, SERIES_B, &f->histograms, 5, &f->arena);
    block_delete(&f->files, 0, 100, 149);
    block_end(&f->files);
    write_block(f);
}

static void close_fixture(struct fixture *f)
{
    block_release(&f->files);
    samples_release(&f->floats);
    samples_release(&f->histograms);
    arena_release(&f->arena);
    test_remove_dir(f->dir);
}

/* ---- reading ---- */

struct taken {
    struct buf text; /* a line for each sample */
    size_t n_broken;
    const char *want; /* a name; NULL: all */
};

static bool is_wanted(void *ctx, struct labels labels)
{
    struct taken *t = ctx;
    return !t->want || str_eq(labels_get(labels, STR(LABEL_NAME)), str_of(t->want));
}

static enum err_code take_samples(void *ctx, struct labels labels, const struct samples *s,
                                  struct err *err)
{
    struct taken *t = ctx;
    (void)err;
    for (size_t i = 0; i < s->n; i++) {
        const struct histogram *h = s->h ? s->h[i] : NULL;
        labels_print(&t->text, labels);
        buf_printf(&t->text, " %" PRId64 " %" PRIx64, s->t_ms[i], double_bits(s->v[i]));
        if (h) buf_printf(&t->text, " %g %g", h->count, h->n_pos == 2 ? h->pos[1] : -1);
        buf_u8(&t->text, '\n');
    }
    return ERR_OK;
}

static void take_broken(void *ctx, const struct err *why)
{
    struct taken *t = ctx;
    CHECK(why->text[0] != 0);
    t->n_broken++;
}

static enum err_code read_block(const char *dir, int64_t start_ms, int64_t end_ms, struct taken *t,
                                struct err *err)
{
    struct prometheus_block *block;
    struct prometheus_walk walk = {is_wanted, take_samples, take_broken, t, start_ms, end_ms};
    buf_init(&t->text, MEM_INGEST);
    enum err_code rc = prometheus_block_open(io_posix(), dir, &block, err);
    if (rc) return rc;
    rc = prometheus_block_walk(block, &walk, err);
    prometheus_block_close(block);
    return rc;
}

static size_t count_lines(const struct buf *text)
{
    size_t n = 0;
    for (size_t i = 0; i < text->len; i++) n += text->p[i] == '\n';
    return n;
}

static void expect(const struct fixture *f, const struct taken *t)
{
    struct buf want;
    buf_init(&want, MEM_INGEST);
    for (size_t i = 0; i < f->floats.n; i++)
        if (i < 10 || i >= 15)
            buf_printf(&want, "{__name__=\"a\", job=\"x\"} %" PRId64 " %" PRIx64 "\n",
                       f->floats.t_ms[i], double_bits(f->floats.v[i]));
    for (size_t i = 0; i < f->histograms.n; i++)
        buf_printf(&want, "{__name__=\"b\"} %" PRId64 " %" PRIx64 " %g %g\n", f->histograms.t_ms[i],
                   double_bits(f->histograms.v[i]), f->histograms.h[i]->count,
                   f->histograms.h[i]->pos[1]);
    CHECK_BYTES(buf_bytes(&t->text), buf_bytes(&want));
    CHECK_U64(t->n_broken, 0);
    buf_release(&want);
}

static void test_read(void **state)
{
    (void)state;
    for (unsigned version = 1; version <= 2; version++) {
        struct fixture f;
        struct taken t = {.n_broken = 0};
        struct err err;
        open_fixture(&f, version);
        CHECK_OK(read_block(f.dir, INT64_MIN, INT64_MAX, &t, &err), &err);
        expect(&f, &t);
        buf_release(&t.text);
        t.want = "a";
        CHECK_OK(read_block(f.dir, 95, 160, &t, &err), &err);
        CHECK_STR(str_from_bytes(buf_bytes(&t.text)),
                  "{__name__=\"a\", job=\"x\"} 150 4032c00000000000\n"
                  "{__name__=\"a\", job=\"x\"} 160 4034000000000000\n");
        buf_release(&t.text);
        close_fixture(&f);
    }
}

/* A file with one byte flipped, or cut off: an error that says so, or what is broken is left out, or nothing differs. */
static void check_damage(struct fixture *f, const char *name, const struct buf *b, size_t step)
{
    struct taken t;
    struct err err;
    for (size_t at = 0; at < b->len; at += step) {
        for (int cut = 0; cut < 2; cut++) {
            t = (struct taken){.n_broken = 0};
            if (!cut) b->p[at] ^= 0x11;
            write_file(f->dir, name, b, cut ? at : b->len);
            if (!cut) b->p[at] ^= 0x11;
            enum err_code rc = read_block(f->dir, INT64_MIN, INT64_MAX, &t, &err);
            bool known = rc == ERR_OK || rc == ERR_CORRUPT || rc == ERR_VERSION;
            CHECK(known && (rc == ERR_OK || err.text[0]));
            /* The names of files and padding between series are not covered by a checksum. */
            if (rc == ERR_OK && t.n_broken == 0) CHECK_U64(count_lines(&t.text), 35);
            buf_release(&t.text);
        }
    }
    write_file(f->dir, name, b, b->len);
}

static void test_damage(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f, 2);
    check_damage(&f, "index", &f.files.index, 1);
    check_damage(&f, "chunks/000001", &f.files.chunks, 3);
    check_damage(&f, "tombstones", &f.files.tombstones, 1);
    close_fixture(&f);
}

static void test_missing(void **state)
{
    (void)state;
    static const char *const FILES[] = {"meta.json", "index", "chunks/000001"};
    for (size_t i = 0; i < COUNT_OF(FILES); i++) {
        struct fixture f;
        struct taken t = {.n_broken = 0};
        struct err err;
        char path[512];
        open_fixture(&f, 2);
        snprintf(path, sizeof(path), "%s/%s", f.dir, FILES[i]);
        CHECK(remove(path) == 0);
        enum err_code rc = read_block(f.dir, INT64_MIN, INT64_MAX, &t, &err);
        if (i < 2) CHECK_ERR(rc, ERR_NOT_FOUND);
        if (i == 2) CHECK_U64(t.n_broken, 5); /* each chunk */
        buf_release(&t.text);
        close_fixture(&f);
    }
}

static void test_other_versions(void **state)
{
    (void)state;
    struct fixture f;
    struct taken t = {.n_broken = 0};
    struct err err;
    open_fixture(&f, 2);
    f.files.index.p[4] = 3;
    write_block(&f);
    CHECK_ERR(read_block(f.dir, INT64_MIN, INT64_MAX, &t, &err), ERR_VERSION);
    f.files.index.p[4] = 2;
    buf_reset(&f.files.meta);
    buf_printf(&f.files.meta, "{\"version\":2}");
    write_block(&f);
    CHECK_ERR(read_block(f.dir, INT64_MIN, INT64_MAX, &t, &err), ERR_VERSION);
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_missing),
        cmocka_unit_test(test_other_versions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
