/* tests/engine/test_engine.c: the whole engine on a real folder, through its public header. */
#include <sys/stat.h>

#include "engine/engine.h"
#include "storage/block.h"
#include "tests/engine/fixture.h"

#define MINUTE INT64_C(60000)
#define HOUR (60 * MINUTE)

/* ---- reading ---- */

static struct matcher eq(const char *name, const char *value)
{
    return (struct matcher){.op = MATCH_EQ, .name = str_of(name), .value = str_of(value)};
}

static size_t count_series(struct fixture *f, struct tenant *t, int64_t mint_ms, int64_t maxt_ms)
{
    struct engine_select *sel;
    struct matcher m = eq(LABEL_NAME, "m");
    CHECK_OK(tenant_select(t, &m, 1, mint_ms, maxt_ms, &sel, &f->err), &f->err);
    size_t n = select_count(sel);
    select_release(sel);
    return n;
}

/* Samples of series {__name__="m", i="<i>"}. */
static void read_one(struct fixture *f, struct tenant *t, int i, struct samples *s)
{
    char text[32];
    struct engine_select *sel;
    snprintf(text, sizeof(text), "%d", i);
    struct matcher m[] = {eq(LABEL_NAME, "m"), eq("i", text)};
    samples_reset(s);
    CHECK_OK(tenant_select(t, m, 2, INT64_MIN, INT64_MAX, &sel, &f->err), &f->err);
    CHECK(select_count(sel) <= 1);
    if (select_count(sel) == 1)
        CHECK_OK(select_read(sel, 0, INT64_MIN, INT64_MAX, s, &f->err), &f->err);
    select_release(sel);
}

static size_t count_samples(struct fixture *f, struct tenant *t, int i)
{
    struct samples s;
    samples_init(&s, MEM_QUERY, NULL);
    read_one(f, t, i, &s);
    for (size_t k = 1; k < s.n; k++) CHECK(s.t_ms[k - 1] < s.t_ms[k]);
    size_t n = s.n;
    samples_release(&s);
    return n;
}

static double counter(struct fixture *f, const char *name, const char *help)
{
    return (double)metric_value(metric_counter(f->env.metrics, name, help, ""));
}

static double quarantined(struct fixture *f)
{
    return counter(f, "quipu_blocks_quarantined_total",
                   "Blocks of the catalog that are missing or broken and left out.");
}

/* ---- files ---- */

struct files {
    char paths[64][512];
    size_t n;
    const char *dir;
};

static bool note_file(void *ctx, const char *name, bool is_dir)
{
    struct files *files = ctx;
    CHECK(files->n < COUNT_OF(files->paths));
    if (!is_dir)
        snprintf(files->paths[files->n++], sizeof(files->paths[0]), "%s/%s", files->dir, name);
    return true;
}

static void list_files(struct fixture *f, const char *sub, struct files *files)
{
    char dir[512];
    snprintf(dir, sizeof(dir), "%s/%s", f->dir, sub);
    files->n = 0;
    files->dir = dir;
    CHECK_OK(io_list(f->env.io, dir, note_file, files, &f->err), &f->err);
}

/* ---- tests ---- */

static void write_read_flush_reopen(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    struct tenant *t = fixture_tenant(&f, "default");
    for (int k = 0; k < 10; k++)
        for (int i = 0; i < 100; i++) write_one(&f, t, i, NOW_MS - 10000 + k * 1000, i * 10 + k);
    for (int stage = 0; stage < 4; stage++) {
        if (stage == 1) CHECK_OK(engine_flush(f.engine, NULL, &f.err), &f.err);
        if (stage == 2) fixture_reopen(&f, false);
        if (stage == 3) fixture_reopen(&f, true);
        t = fixture_tenant(&f, "default");
        CHECK_U64(count_series(&f, t, INT64_MIN, INT64_MAX), 100);
        CHECK_U64(count_series(&f, t, NOW_MS - 1000, NOW_MS), 100);
        CHECK_U64(count_series(&f, t, NOW_MS, NOW_MS + 1), 0);
        CHECK_U64(count_series(&f, t, 0, NOW_MS - 10001), 0);
        struct samples s;
        samples_init(&s, MEM_QUERY, NULL);
        for (int i = 0; i < 100; i++) {
            read_one(&f, t, i, &s);
            CHECK_U64(s.n, 10);
            for (int k = 0; k < 10; k++) {
                CHECK_I64(s.t_ms[k], NOW_MS - 10000 + k * 1000);
                CHECK_SAME_DOUBLE(s.v[k], i * 10 + k);
            }
        }
        samples_release(&s);
    }
    fixture_close(&f);
}

static void bad_times_hurt_nobody_else(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    f.config.retention_ms = 24 * HOUR;
    CHECK_OK(engine_open(&f.env, &f.config, &f.engine, &f.err), &f.err);
    struct tenant *t = fixture_tenant(&f, "default");
    int64_t t_ms[] = {NOW_MS,
                      NOW_MS + 10 * MINUTE,
                      NOW_MS + 10 * MINUTE + 1,
                      NOW_MS - 24 * HOUR,
                      NOW_MS - 24 * HOUR - 1,
                      -1};
    double v[] = {1, 2, 3, 4, 5, 6};
    struct series *series[6];
    struct done done = {0, ERR_OK};
    tenant_write_begin(t);
    for (int i = 0; i < 6; i++) series[i] = fixture_series(&f, t, i);
    struct series *third = series[2];
    struct write_batch b = {.n = 6, .series = series, .t_ms = t_ms, .v = v};
    struct write_result result;
    CHECK_OK(tenant_write(t, &b, note_done, &done, &result, &f.err), &f.err);
    CHECK_U64(result.n_too_new, 1);
    CHECK_U64(result.n_too_old, 2);
    CHECK(result.first_bad == third);
    CHECK(result.first_bad_too_new);
    CHECK_I64(result.first_bad_t_ms, NOW_MS + 10 * MINUTE + 1);
    struct arena arena;
    struct labels labels;
    arena_init(&arena, MEM_BASE, 0);
    CHECK_OK(series_labels(t, result.first_bad, &arena, &labels, &f.err), &f.err);
    CHECK_STR(labels_get(labels, STR("i")), "2");
    arena_release(&arena);
    /* Nothing good: done at once. */
    CHECK_U64(done.n, 0);
    struct done at_once = {0, ERR_IO};
    b = (struct write_batch){.n = 1, .series = &third, .t_ms = &(int64_t){-5}, .v = v};
    CHECK_OK(tenant_write(t, &b, note_done, &at_once, &result, &f.err), &f.err);
    CHECK_I64(at_once.n, 1);
    CHECK(at_once.rc == ERR_OK);
    tenant_write_end(t);
    CHECK_OK(engine_commit(f.engine, &f.err), &f.err);
    CHECK_I64(done.n, 1);
    CHECK(done.rc == ERR_OK);
    for (int i = 0; i < 6; i++)
        CHECK_U64(count_samples(&f, t, i), i == 0 || i == 1 || i == 3 ? 1 : 0);
    fixture_close(&f);
}

static void check_started(struct fixture *f, struct tenant *t, size_t n)
{
    struct samples s;
    samples_init(&s, MEM_QUERY, NULL);
    for (int i = 0; i < 2; i++) {
        read_one(f, t, i, &s);
        CHECK_U64(s.n, n);
        for (size_t k = 0; k < s.n; k++) {
            int64_t expected = i == 0 ? NOW_MS - 3 * HOUR + (int64_t)(k / 10) : 0;
            CHECK_I64(s.t_ms[k], NOW_MS - 2 * HOUR + (int64_t)k * MINUTE);
            CHECK_I64(s.st_ms ? s.st_ms[k] : 0, expected);
        }
    }
    samples_release(&s);
}

/* Start timestamps of floats: in the head, by replay, in blocks and in what blocks become. A series without any has none
 * beside one that has, and those that repeat change nothing. */
static void start_timestamps(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    struct tenant *t = fixture_tenant(&f, "default");
    for (size_t k = 0; k < 60; k++) {
        struct done done = {0, ERR_OK};
        int64_t t_ms[2] = {NOW_MS - 2 * HOUR + (int64_t)k * MINUTE}, st_ms[2] = {0, 0};
        double v[2] = {(double)k, (double)k};
        t_ms[1] = t_ms[0];
        st_ms[0] = NOW_MS - 3 * HOUR + (int64_t)(k / 10);
        tenant_write_begin(t);
        struct series *series[2] = {fixture_series(&f, t, 0), fixture_series(&f, t, 1)};
        struct write_batch b = {.n = 2, .series = series, .t_ms = t_ms, .v = v, .st_ms = st_ms};
        struct write_result result;
        CHECK_OK(tenant_write(t, &b, note_done, &done, &result, &f.err), &f.err);
        tenant_write_end(t);
        CHECK_OK(engine_commit(f.engine, &f.err), &f.err);
        CHECK(done.n == 1 && done.rc == ERR_OK);
        if (k % 25 == 24) CHECK_OK(engine_flush(f.engine, t, &f.err), &f.err);
    }
    check_started(&f, t, 60); /* of two blocks and the head */
    fixture_reopen(&f, false);
    t = fixture_tenant(&f, "default");
    check_started(&f, t, 60);
    write_one(&f, t, 0, NOW_MS - 2 * HOUR + 59 * MINUTE, 59); /* 1.0 repeats it */
    check_started(&f, t, 60);
    fixture_reopen(&f, true);
    t = fixture_tenant(&f, "default");
    check_started(&f, t, 60);
    struct engine_compact_options options = {.level = 3};
    struct engine_compact_report report;
    CHECK_OK(engine_compact(f.engine, t, &options, &report, &f.err), &f.err);
    CHECK(report.jobs > 0);
    check_started(&f, t, 60);
    fixture_close(&f);
}

static void labels_of_head_and_blocks(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    struct tenant *t = fixture_tenant(&f, "default");
    write_one(&f, t, 1, NOW_MS - 3 * HOUR, 1);
    write_one(&f, t, 2, NOW_MS - 3 * HOUR, 1);
    CHECK_OK(engine_flush(f.engine, t, &f.err), &f.err);
    write_one(&f, t, 2, NOW_MS, 1);
    write_one(&f, t, 3, NOW_MS, 1);
    struct arena arena;
    struct str *s;
    size_t n;
    bool truncated;
    struct label_want all = {0}, two = {.limit = 2};
    arena_init(&arena, MEM_BASE, 0);
    for (int with_matcher = 0; with_matcher < 2; with_matcher++) {
        struct matcher m = eq(LABEL_NAME, "m");
        size_t n_m = with_matcher;
        CHECK_OK(tenant_label_names(t, &m, n_m, INT64_MIN, INT64_MAX, &all, &arena, &s, &n,
                                    &truncated, &f.err),
                 &f.err);
        CHECK_U64(n, 2);
        CHECK_STR(s[0], "__name__");
        CHECK_STR(s[1], "i");
        CHECK(!truncated);
        CHECK_OK(tenant_label_values(t, STR("i"), &m, n_m, INT64_MIN, INT64_MAX, &all, &arena, &s,
                                     &n, &truncated, &f.err),
                 &f.err);
        CHECK_U64(n, 3);
        CHECK_STR(s[0], "1");
        CHECK_STR(s[2], "3");
        CHECK_OK(tenant_label_values(t, STR("i"), &m, n_m, INT64_MIN, INT64_MAX, &two, &arena, &s,
                                     &n, &truncated, &f.err),
                 &f.err);
        CHECK_U64(n, 2);
        CHECK_STR(s[1], "2");
        CHECK(truncated);
        /* The block's span alone. */
        CHECK_OK(tenant_label_values(t, STR("i"), &m, n_m, 0, NOW_MS - HOUR, &all, &arena, &s, &n,
                                     &truncated, &f.err),
                 &f.err);
        CHECK_U64(n, 2);
        CHECK_STR(s[0], "1");
        CHECK_OK(tenant_label_values(t, STR("nope"), &m, n_m, INT64_MIN, INT64_MAX, &all, &arena,
                                     &s, &n, &truncated, &f.err),
                 &f.err);
        CHECK_U64(n, 0);
    }
    /* Head and block are one series, in label order. */
    struct engine_select *sel;
    CHECK_OK(tenant_select(t, NULL, 0, INT64_MIN, INT64_MAX, &sel, &f.err), &f.err);
    CHECK_U64(select_count(sel), 3);
    for (size_t i = 0; i < 3; i++) {
        char text[2] = {(char)('1' + i), 0};
        CHECK_STR(labels_get(select_labels(sel, i), STR("i")), text);
    }
    select_release(sel);
    CHECK_U64(count_samples(&f, t, 2), 2);
    CHECK_U64(count_series(&f, t, NOW_MS - HOUR, NOW_MS), 2);
    arena_release(&arena);
    fixture_close(&f);
}

static void metadata_is_kept(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    struct tenant *t = fixture_tenant(&f, "default");
    struct catalog_metadata items[] = {{STR("b_total"), STR("counter"), STR(""), STR("Bs.")},
                                       {STR("a_bytes"), STR("gauge"), STR("bytes"), STR("As.")}};
    CHECK_OK(tenant_put_metadata(t, items, 2, &f.err), &f.err);
    CHECK_OK(tenant_put_metadata(t, items, 2, &f.err), &f.err);
    items[0].help = STR("Now Cs.");
    CHECK_OK(tenant_put_metadata(t, items, 1, &f.err), &f.err);
    fixture_reopen(&f, false);
    t = fixture_tenant(&f, "default");
    struct arena arena;
    struct catalog_metadata *out;
    size_t n;
    arena_init(&arena, MEM_BASE, 0);
    CHECK_OK(tenant_metadata(t, (struct str){"", 0}, &arena, &out, &n, &f.err), &f.err);
    CHECK_U64(n, 2);
    CHECK_STR(out[0].family, "a_bytes");
    CHECK_STR(out[0].unit, "bytes");
    CHECK_STR(out[1].help, "Now Cs.");
    CHECK_OK(tenant_metadata(t, STR("b_total"), &arena, &out, &n, &f.err), &f.err);
    CHECK_U64(n, 1);
    CHECK_STR(out[0].type, "counter");
    CHECK_OK(tenant_metadata(t, STR("none"), &arena, &out, &n, &f.err), &f.err);
    CHECK_U64(n, 0);
    arena_release(&arena);
    fixture_close(&f);
}

static void tenant_names(void **state)
{
    (void)state;
    struct err err;
    char longest[TENANT_NAME_BYTES_MAX + 2];
    memset(longest, 'A', sizeof(longest));
    CHECK_OK(tenant_name_check(STR("a-Z_0.9!*'()"), &err), &err);
    CHECK_OK(tenant_name_check((struct str){longest, TENANT_NAME_BYTES_MAX}, &err), &err);
    CHECK_ERR(tenant_name_check((struct str){longest, TENANT_NAME_BYTES_MAX + 1}, &err),
              ERR_INVALID);
    CHECK_STR(str_of(err.text), "tenant ID is too long: max 150 characters");
    CHECK_ERR(tenant_name_check(STR("a/b"), &err), ERR_INVALID);
    CHECK_STR(str_of(err.text), "tenant ID 'a/b' contains unsupported character '/'");
    CHECK_ERR(tenant_name_check(STR("a|b"), &err), ERR_INVALID);
    CHECK_ERR(tenant_name_check(STR("."), &err), ERR_INVALID);
    CHECK_STR(str_of(err.text), "tenant ID is '.' or '..'");
    CHECK_ERR(tenant_name_check(STR(".."), &err), ERR_INVALID);
    CHECK_ERR(tenant_name_check(STR(""), &err), ERR_INVALID);
    CHECK_ERR(tenant_name_check(STR("__mimir_cluster"), &err), ERR_INVALID);
}

/* Names that a file system may take for one another, or for too long. */
static void tenants_are_apart(void **state)
{
    (void)state;
    struct fixture f;
    char longest[TENANT_NAME_BYTES_MAX + 1] = {0};
    memset(longest, 'Q', TENANT_NAME_BYTES_MAX);
    const char *names[] = {"default", "team", "Team", "TEAM", "te.am", ".team", "t(*)!'", longest};
    fixture_init(&f);
    f.config.tenants_max = COUNT_OF(names);
    CHECK_OK(engine_open(&f.env, &f.config, &f.engine, &f.err), &f.err);
    struct tenant *t;
    CHECK_ERR(engine_tenant(f.engine, STR("team"), false, &t, &f.err), ERR_NOT_FOUND);
    for (size_t i = 0; i < COUNT_OF(names); i++)
        for (size_t k = 0; k <= i; k++)
            write_one(&f, fixture_tenant(&f, names[i]), (int)k, NOW_MS, (double)i);
    CHECK_ERR(engine_tenant(f.engine, STR("one-more"), true, &t, &f.err), ERR_LIMIT);
    for (int reopened = 0; reopened < 3; reopened++) {
        for (size_t i = 0; i < COUNT_OF(names); i++) {
            CHECK_OK(engine_tenant(f.engine, str_of(names[i]), false, &t, &f.err), &f.err);
            CHECK_STR(tenant_name(t), names[i]);
            CHECK_U64(count_series(&f, t, INT64_MIN, INT64_MAX), i + 1);
        }
        fixture_reopen(&f, reopened == 0);
    }
    fixture_close(&f);
}

static void a_folder_has_one_engine(void **state)
{
    (void)state;
    struct fixture f;
    struct engine *second;
    fixture_open(&f);
    CHECK_ERR(engine_open(&f.env, &f.config, &second, &f.err), ERR_BUSY);
    fixture_close(&f);
}

static void old_blocks_go(void **state)
{
    (void)state;
    struct fixture f;
    struct files files;
    fixture_init(&f);
    f.config.retention_ms = 24 * HOUR;
    CHECK_OK(engine_open(&f.env, &f.config, &f.engine, &f.err), &f.err);
    struct tenant *t = fixture_tenant(&f, "default");
    write_one(&f, t, 1, NOW_MS - 20 * HOUR, 1);
    write_one(&f, t, 2, NOW_MS, 1);
    CHECK_OK(engine_flush(f.engine, t, &f.err), &f.err);
    list_files(&f, "tenants/default/blocks", &files);
    CHECK_U64(files.n, 2);
    clock_fake_advance(&f.clock, 4 * HOUR + 1000);
    struct engine_select *sel; /* holds what goes */
    CHECK_OK(tenant_select(t, NULL, 0, INT64_MIN, INT64_MAX, &sel, &f.err), &f.err);
    CHECK_OK(engine_step(f.engine, &f.err), &f.err);
    CHECK_U64(count_series(&f, t, INT64_MIN, INT64_MAX), 1);
    struct samples s;
    samples_init(&s, MEM_QUERY, NULL);
    CHECK_U64(select_count(sel), 2);
    CHECK_OK(select_read(sel, 0, INT64_MIN, INT64_MAX, &s, &f.err), &f.err);
    CHECK_U64(s.n, 1);
    samples_release(&s);
    select_release(sel);
    list_files(&f, "tenants/default/blocks", &files);
    CHECK_U64(files.n, 1);
    fixture_reopen(&f, false);
    CHECK_U64(count_series(&f, fixture_tenant(&f, "default"), INT64_MIN, INT64_MAX), 1);
    CHECK_U64((uint64_t)quarantined(&f), 0);
    fixture_close(&f);
}

/* A block of each of: the old, the windows before; all samples in order. */
static void late_samples_make_few_blocks(void **state)
{
    (void)state;
    struct fixture f;
    struct tenant_stats stats;
    fixture_open(&f);
    struct tenant *t = fixture_tenant(&f, "default");
    for (int k = 0; k < 300; k++) write_one(&f, t, 1, NOW_MS - (k * 7919 % 300) * 5 * MINUTE, k);
    CHECK_OK(engine_flush(f.engine, t, &f.err), &f.err);
    tenant_stats(t, &stats);
    CHECK_U64(stats.blocks, 4);
    CHECK_U64(stats.block_samples, 300);
    CHECK_U64(stats.head_samples, 0);
    CHECK_U64(stats.head_bytes, 0);
    CHECK_U64(count_samples(&f, t, 1), 300);
    fixture_close(&f);
}

static void a_broken_block_is_left_out(void **state)
{
    (void)state;
    struct fixture f;
    struct files files;
    fixture_open(&f);
    struct tenant *t = fixture_tenant(&f, "default");
    for (int i = 0; i < 3; i++) {
        write_one(&f, t, i, NOW_MS, i);
        CHECK_OK(engine_flush(f.engine, t, &f.err), &f.err);
    }
    list_files(&f, "tenants/default/blocks", &files);
    CHECK_U64(files.n, 3);
    CHECK_OK(engine_close(f.engine, false, &f.err), &f.err);
    CHECK(truncate(files.paths[0], 100) == 0);
    CHECK(unlink(files.paths[1]) == 0);
    CHECK_OK(engine_open(&f.env, &f.config, &f.engine, &f.err), &f.err);
    CHECK_U64((uint64_t)quarantined(&f), 2);
    CHECK_U64(count_series(&f, fixture_tenant(&f, "default"), INT64_MIN, INT64_MAX), 1);
    struct stat st;
    CHECK(stat(files.paths[0], &st) == 0); /* for whoever wants to look */
    fixture_close(&f);
}

static void copy_file(struct fixture *f, const char *from, const char *to)
{
    uint8_t *p;
    size_t len;
    CHECK_OK(io_read_file(f->env.io, from, 1 << 24, &p, &len, &f->err), &f->err);
    FILE *out = fopen(to, "wb");
    CHECK(out != NULL);
    CHECK(fwrite(p, 1, len, out) == len);
    CHECK(fclose(out) == 0);
    mem_free(p);
}

static void strays_are_judged(void **state)
{
    (void)state;
    struct fixture f;
    struct files files;
    char dir[512], path[600];
    fixture_open(&f);
    struct tenant *t = fixture_tenant(&f, "default");
    write_one(&f, t, 1, NOW_MS, 1);
    CHECK_OK(engine_flush(f.engine, t, &f.err), &f.err);
    CHECK_OK(engine_close(f.engine, false, &f.err), &f.err);
    snprintf(dir, sizeof(dir), "%s/tenants/default/blocks", f.dir);
    list_files(&f, "tenants/default/blocks", &files);
    CHECK_U64(files.n, 1);
    /* A copy under another name: not ours to remove. */
    snprintf(path, sizeof(path), "%s/01ARZ3NDEKTSV4RRFFQ69G5FAV.block", dir);
    copy_file(&f, files.paths[0], path);
    snprintf(path, sizeof(path), "%s/01ARZ3NDEKTSV4RRFFQ69G5FAX.block.tmp", dir);
    copy_file(&f, files.paths[0], path);
    /* What a flush leaves that a crash ended before the catalog knew. */
    struct block_info info = {.incarnation = 1, .sequence = 77, .created_ms = NOW_MS + 1000};
    struct block_writer *w;
    ulid_make(&info.ulid, NOW_MS, &f.rng);
    CHECK_OK(block_writer_open(&f.env, dir, &info, &w, &f.err), &f.err);
    struct samples s;
    struct buf chunk;
    struct chunk_meta meta;
    samples_init(&s, MEM_BASE, NULL);
    buf_init(&chunk, MEM_BASE);
    CHECK_OK(samples_push(&s, NOW_MS, 5, NULL, &f.err), &f.err);
    CHECK_OK(chunk_encode(&s, 0, 1, &chunk, &meta, &f.err), &f.err);
    struct label label = {STR(LABEL_NAME), STR("m")};
    uint32_t id = 0;
    CHECK_OK(block_writer_series(w, (struct labels){&label, 1}, &id, &f.err), &f.err);
    CHECK_OK(block_writer_chunk(w, id, &meta, buf_bytes(&chunk), &f.err), &f.err);
    CHECK_OK(block_writer_finish(w, &info, &f.err), &f.err);
    block_writer_close(w);
    samples_release(&s);
    buf_release(&chunk);
    list_files(&f, "tenants/default/blocks", &files);
    CHECK_U64(files.n, 4);
    CHECK_OK(engine_open(&f.env, &f.config, &f.engine, &f.err), &f.err);
    list_files(&f, "tenants/default/blocks", &files);
    CHECK_U64(files.n, 2);
    CHECK_U64(count_series(&f, fixture_tenant(&f, "default"), INT64_MIN, INT64_MAX), 1);
    fixture_close(&f);
}

static void the_log_is_cut_behind_blocks(void **state)
{
    (void)state;
    struct fixture f;
    struct files files;
    fixture_init(&f);
    f.config.wal_segment_bytes = 4096;
    CHECK_OK(engine_open(&f.env, &f.config, &f.engine, &f.err), &f.err);
    struct tenant *t = fixture_tenant(&f, "default"), *other = fixture_tenant(&f, "other");
    write_one(&f, other, 1, NOW_MS, 1); /* holds everything */
    for (int k = 0; k < 300; k++) write_one(&f, t, k, NOW_MS, k);
    list_files(&f, "wal", &files);
    size_t before = files.n;
    CHECK(before > 3);
    CHECK_OK(engine_flush(f.engine, t, &f.err), &f.err);
    CHECK_OK(engine_step(f.engine, &f.err), &f.err);
    list_files(&f, "wal", &files);
    CHECK_U64(files.n, before);
    clock_fake_advance(&f.clock, 31 * MINUTE); /* the other's window is over */
    CHECK_OK(engine_step(f.engine, &f.err), &f.err);
    list_files(&f, "wal", &files);
    CHECK_U64(files.n, 1);
    write_one(&f, t, 5, NOW_MS + 1000, 1);
    fixture_reopen(&f, false);
    t = fixture_tenant(&f, "default");
    CHECK_U64(count_series(&f, t, INT64_MIN, INT64_MAX), 300);
    CHECK_U64(count_samples(&f, t, 5), 2);
    fixture_close(&f);
}

/* The head's budget holds during a replay, too: blocks are written on the way. */
static void a_replay_stays_in_its_budget(void **state)
{
    (void)state;
    struct fixture f;
    struct tenant_stats stats;
    fixture_open(&f);
    struct tenant *t = fixture_tenant(&f, "default");
    for (int k = 0; k < 40; k++)
        for (int i = 0; i < 100; i++) write_one(&f, t, i, NOW_MS - 100000 + k * 1000, k * 0.1 + i);
    tenant_stats(t, &stats);
    f.config.head_bytes_max = stats.head_bytes / 5;
    for (int round = 0; round < 3; round++) {
        fixture_reopen(&f, false);
        t = fixture_tenant(&f, "default");
        tenant_stats(t, &stats);
        CHECK(stats.blocks >= 3);
        CHECK(stats.head_bytes <= f.config.head_bytes_max);
        CHECK_U64(count_series(&f, t, INT64_MIN, INT64_MAX), 100);
        for (int i = 0; i < 100; i++) CHECK_U64(count_samples(&f, t, i), 40 + (size_t)round);
        for (int i = 0; i < 100; i++) write_one(&f, t, i, NOW_MS + round, 1);
    }
    fixture_close(&f);
}

static void a_select_is_a_snapshot(void **state)
{
    (void)state;
    struct fixture f;
    struct tenant_stats stats;
    fixture_open(&f);
    struct tenant *t = fixture_tenant(&f, "default");
    for (int k = 0; k < 500; k++) write_one(&f, t, 1, NOW_MS - 500000 + k * 1000, k);
    struct engine_select *sel;
    struct samples s;
    samples_init(&s, MEM_QUERY, NULL);
    CHECK_OK(tenant_select(t, NULL, 0, INT64_MIN, INT64_MAX, &sel, &f.err), &f.err);
    for (int k = 0; k < 3; k++) {
        CHECK_OK(engine_flush(f.engine, t, &f.err), &f.err);
        clock_fake_advance(&f.clock, 31 * MINUTE);
        CHECK_OK(engine_step(f.engine, &f.err), &f.err);
    }
    tenant_stats(t, &stats);
    CHECK_U64(stats.head_samples, 500); /* kept for the select */
    CHECK_U64(stats.blocks, 1);
    CHECK_OK(select_read(sel, 0, INT64_MIN, INT64_MAX, &s, &f.err), &f.err);
    CHECK_U64(s.n, 500);
    CHECK_U64(count_samples(&f, t, 1), 500);
    select_release(sel);
    CHECK_OK(engine_step(f.engine, &f.err), &f.err);
    tenant_stats(t, &stats);
    CHECK_U64(stats.head_samples, 0);
    CHECK_U64(stats.head_bytes, 0);
    samples_release(&s);
    fixture_close(&f);
}

static void ended_series_leave_and_return(void **state)
{
    (void)state;
    struct fixture f;
    struct tenant_stats stats;
    fixture_open(&f);
    struct tenant *t = fixture_tenant(&f, "default");
    for (int round = 0; round < 3; round++) {
        int64_t now = f.clock.wall_ms;
        for (int i = 0; i < 200; i++) write_one(&f, t, i, now, round);
        tenant_stats(t, &stats);
        CHECK_U64(stats.series_active, 200);
        CHECK_U64(stats.label_pairs, 201);
        for (int k = 0; k < 3; k++) { /* one goes on */
            clock_fake_advance(&f.clock, 31 * MINUTE);
            write_one(&f, t, 7, f.clock.wall_ms, 1);
            CHECK_OK(engine_step(f.engine, &f.err), &f.err);
        }
        tenant_stats(t, &stats);
        CHECK_U64(stats.series_active, 1);
        CHECK_U64(stats.label_pairs, 2);
        CHECK_U64(count_series(&f, t, INT64_MIN, INT64_MAX), 200); /* in blocks */
    }
    write_one(&f, t, 3, f.clock.wall_ms, 1);
    fixture_reopen(&f, false);
    t = fixture_tenant(&f, "default");
    CHECK_U64(count_samples(&f, t, 3), 4);
    CHECK_U64(count_samples(&f, t, 7), 10); /* a round ends at the time of the next's first */
    /* All of a tenant's series end, without a further flush. */
    CHECK_OK(engine_flush(f.engine, t, &f.err), &f.err);
    clock_fake_advance(&f.clock, 61 * MINUTE);
    CHECK_OK(engine_step(f.engine, &f.err), &f.err);
    tenant_stats(t, &stats);
    CHECK_U64(stats.series_active, 0);
    CHECK_U64(stats.label_pairs, 0);
    fixture_close(&f);
}

static void memory_has_a_ceiling(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    f.config.head_bytes_max = 20000;
    CHECK_OK(engine_open(&f.env, &f.config, &f.engine, &f.err), &f.err);
    struct tenant *t = fixture_tenant(&f, "default");
    enum err_code rc = ERR_OK;
    int n = 0;
    for (; n < 2000 && !rc; n++) {
        int64_t t_ms = NOW_MS;
        double v = n;
        struct done done = {0, ERR_OK};
        tenant_write_begin(t);
        struct series *s = fixture_series(&f, t, n);
        struct write_batch b = {.n = 1, .series = &s, .t_ms = &t_ms, .v = &v};
        struct write_result result;
        rc = tenant_write(t, &b, note_done, &done, &result, &f.err);
        tenant_write_end(t);
        CHECK_OK(engine_commit(f.engine, &f.err), &f.err);
        CHECK_I64(done.n, rc ? 0 : 1);
    }
    CHECK(rc == ERR_LIMIT);
    struct tenant_stats stats;
    tenant_stats(t, &stats);
    CHECK(stats.head_bytes <= 41000);
    CHECK_OK(engine_step(f.engine, &f.err), &f.err); /* the largest head goes to blocks */
    write_one(&f, t, n, NOW_MS, 1);
    CHECK_U64(count_series(&f, t, INT64_MIN, INT64_MAX), (size_t)n);
    fixture_close(&f);
}

static void series_have_a_limit(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    f.config.series_max = 5;
    CHECK_OK(engine_open(&f.env, &f.config, &f.engine, &f.err), &f.err);
    for (int i = 0; i < 5; i++) write_one(&f, fixture_tenant(&f, i % 2 ? "a" : "b"), i, NOW_MS, 1);
    struct tenant *t = fixture_tenant(&f, "a");
    struct label item = {STR(LABEL_NAME), STR("new")};
    struct series *s;
    tenant_write_begin(t);
    CHECK_ERR(tenant_add_series(t, (struct labels){&item, 1}, 0, (struct bytes){NULL, 0}, NULL, &s,
                                &f.err),
              ERR_LIMIT);
    tenant_write_end(t);
    write_one(&f, t, 1, NOW_MS + 1, 1); /* known ones pass */
    f.config.series_max = 6;
    engine_reconfigure(f.engine, &f.config);
    write_one(&f, t, 9, NOW_MS, 1);
    fixture_close(&f);
}

/* Positions that are flushed are never given out again, though nobody remembers them but the catalog. */
static void a_lost_log_loses_no_more(void **state)
{
    (void)state;
    struct fixture f;
    char command[600];
    fixture_open(&f);
    struct tenant *t = fixture_tenant(&f, "default");
    for (int k = 0; k < 50; k++) write_one(&f, t, 1, NOW_MS - 50000 + k * 1000, k);
    CHECK_OK(engine_close(f.engine, true, &f.err), &f.err);
    snprintf(command, sizeof(command), "%s/wal", f.dir);
    nftw(command, test_remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    for (int round = 0; round < 2; round++) {
        CHECK_OK(engine_open(&f.env, &f.config, &f.engine, &f.err), &f.err);
        t = fixture_tenant(&f, "default");
        CHECK_U64(count_samples(&f, t, 1), round ? 51 : 50);
        if (round == 0) write_one(&f, t, 1, NOW_MS, 50);
        CHECK_OK(engine_close(f.engine, false, &f.err), &f.err);
    }
    CHECK_OK(engine_open(&f.env, &f.config, &f.engine, &f.err), &f.err);
    fixture_close(&f);
}

/* Over head and blocks the later one wins, but a staleness marker never replaces a value. */
static void the_later_one_wins(void **state)
{
    (void)state;
    struct fixture f;
    struct samples s;
    fixture_open(&f);
    samples_init(&s, MEM_QUERY, NULL);
    struct tenant *t = fixture_tenant(&f, "default");
    double writes[] = {1, 2, stale_nan(), 3, 3};
    double expected[] = {1, 2, 2, 3, 3};
    for (size_t k = 0; k < COUNT_OF(writes); k++) {
        write_one(&f, t, 1, NOW_MS, writes[k]);
        for (int stage = 0; stage < 3; stage++) {
            if (stage == 1 && k % 2) CHECK_OK(engine_flush(f.engine, t, &f.err), &f.err);
            if (stage == 2) fixture_reopen(&f, false);
            t = fixture_tenant(&f, "default");
            read_one(&f, t, 1, &s);
            CHECK_U64(s.n, 1);
            CHECK_SAME_DOUBLE(s.v[0], expected[k]);
        }
    }
    samples_release(&s);
    fixture_close(&f);
}

struct failing {
    uint64_t k;
};
static bool fail_at(void *ctx, size_t size)
{
    (void)size;
    struct failing *f = ctx;
    return f->k > 0 && --f->k == 0;
}

/* Each allocation of a write, a select and a flush fails in turn. What was acknowledged stays. */
static void without_memory(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    struct tenant *t = fixture_tenant(&f, "default");
    size_t n_kept = 0;
    for (uint64_t k = 1; k < 400; k++) {
        struct failing failing = {k / 4 + 1};
        struct done done = {0, ERR_OK};
        int64_t t_ms = NOW_MS - 1000000 + (int64_t)k * 1000;
        double v = (double)k;
        struct engine_select *sel = NULL;
        struct write_result result;
        tenant_write_begin(t);
        struct series *s = fixture_series(&f, t, 1);
        if (k % 4 == 0) mem_set_fail_hook(fail_at, &failing);
        struct write_batch b = {.n = 1, .series = &s, .t_ms = &t_ms, .v = &v};
        enum err_code rc = tenant_write(t, &b, note_done, &done, &result, &f.err);
        mem_set_fail_hook(NULL, NULL);
        tenant_write_end(t);
        CHECK(rc == ERR_OK || rc == ERR_NO_MEMORY);
        CHECK_OK(engine_commit(f.engine, &f.err), &f.err);
        n_kept += rc == ERR_OK && done.rc == ERR_OK;
        if (k % 4 == 1) {
            mem_set_fail_hook(fail_at, &failing);
            rc = tenant_select(t, NULL, 0, INT64_MIN, INT64_MAX, &sel, &f.err);
            mem_set_fail_hook(NULL, NULL);
            CHECK(rc == ERR_OK || rc == ERR_NO_MEMORY);
            select_release(sel);
        }
        if (k % 4 == 2 && k < 200) {
            mem_set_fail_hook(fail_at, &failing);
            rc = engine_flush(f.engine, t, &f.err);
            mem_set_fail_hook(NULL, NULL);
            CHECK(rc == ERR_OK || rc == ERR_NO_MEMORY);
        }
    }
    size_t n = count_samples(&f, t, 1);
    CHECK(n >= n_kept);
    fixture_reopen(&f, false);
    CHECK(count_samples(&f, fixture_tenant(&f, "default"), 1) >= n_kept);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(write_read_flush_reopen),
        cmocka_unit_test(bad_times_hurt_nobody_else),
        cmocka_unit_test(start_timestamps),
        cmocka_unit_test(labels_of_head_and_blocks),
        cmocka_unit_test(metadata_is_kept),
        cmocka_unit_test(tenant_names),
        cmocka_unit_test(tenants_are_apart),
        cmocka_unit_test(a_folder_has_one_engine),
        cmocka_unit_test(old_blocks_go),
        cmocka_unit_test(late_samples_make_few_blocks),
        cmocka_unit_test(a_broken_block_is_left_out),
        cmocka_unit_test(strays_are_judged),
        cmocka_unit_test(the_log_is_cut_behind_blocks),
        cmocka_unit_test(a_replay_stays_in_its_budget),
        cmocka_unit_test(a_select_is_a_snapshot),
        cmocka_unit_test(ended_series_leave_and_return),
        cmocka_unit_test(memory_has_a_ceiling),
        cmocka_unit_test(series_have_a_limit),
        cmocka_unit_test(a_lost_log_loses_no_more),
        cmocka_unit_test(the_later_one_wins),
        cmocka_unit_test(without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
