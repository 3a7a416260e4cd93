/* tests/engine/test_compact.c: merging and retention seen from outside: readers that hold what was replaced, retention
 * that comes between, merges that are given up or cannot be done, what a start makes of the files a crash left; limits of
 * single tenants; and all of it at once on threads. */
#include <pthread.h>

#include "engine/tenant.h"
#include "tests/engine/fixture.h"

#define HOUR INT64_C(3600000)
#define DAY (24 * HOUR)
#define TODAY_MS (NOW_MS + 13 * HOUR)

static void open_at_noon(struct fixture *f)
{
    fixture_init(f);
    clock_fake_advance(&f->clock, 13 * HOUR);
    CHECK_OK(engine_open(&f->env, &f->config, &f->engine, &f->err), &f->err);
}

static void flush(struct fixture *f, struct tenant *t)
{
    CHECK_OK(engine_flush(f->engine, t, &f->err), &f->err);
}

/* Blocks with a sample each of series 1..3, all within one day. */
static void make_blocks(struct fixture *f, struct tenant *t, int n, int64_t day_ms)
{
    for (int i = 0; i < n; i++) {
        for (int k = 1; k <= 3; k++) write_one(f, t, k, day_ms + i * 1000, i * 10 + k);
        flush(f, t);
    }
}

static struct engine_compact_report compact(struct fixture *f, struct tenant *t, uint32_t level)
{
    struct engine_compact_options options = {.level = level};
    struct engine_compact_report report;
    CHECK_OK(engine_compact(f->engine, t, &options, &report, &f->err), &f->err);
    return report;
}

static uint64_t count_blocks(struct tenant *t)
{
    struct tenant_stats stats;
    tenant_stats(t, &stats);
    return stats.blocks;
}

struct listed {
    int blocks, others;
    char names[64][64]; /* of the blocks */
};
static bool list_file(void *ctx, const char *name, bool is_dir)
{
    struct listed *l = ctx;
    (void)is_dir;
    if (!str_has_suffix(str_of(name), STR(".block"))) {
        l->others++;
        return true;
    }
    CHECK(l->blocks < 64);
    snprintf(l->names[l->blocks++], sizeof(l->names[0]), "%s", name);
    return true;
}

static struct listed list_files(struct fixture *f, const char *tenant)
{
    char dir[512];
    struct listed l = {0};
    snprintf(dir, sizeof(dir), "%s/tenants/%s/blocks", f->dir, tenant);
    CHECK_OK(io_list(f->env.io, dir, list_file, &l, &f->err), &f->err);
    return l;
}

static size_t read_series(struct fixture *f, struct engine_select *sel, size_t i, double *sum)
{
    struct samples s;
    samples_init(&s, MEM_QUERY, NULL);
    CHECK_OK(select_read(sel, i, INT64_MIN, INT64_MAX, &s, &f->err), &f->err);
    *sum = 0;
    for (size_t k = 0; k < s.n; k++) *sum += s.v[k];
    size_t n = s.n;
    samples_release(&s);
    return n;
}

/* Samples of all series, and the sum of their values. */
static size_t read_all(struct fixture *f, struct tenant *t, double *sum)
{
    struct engine_select *sel;
    size_t n = 0;
    CHECK_OK(tenant_select(t, NULL, 0, INT64_MIN, INT64_MAX, &sel, &f->err), &f->err);
    *sum = 0;
    for (size_t i = 0; i < select_count(sel); i++) {
        double one;
        n += read_series(f, sel, i, &one);
        *sum += one;
    }
    select_release(sel);
    return n;
}

/* ---- readers ---- */

static void test_reader_of_old_blocks(void **state)
{
    (void)state;
    struct fixture f;
    struct engine_select *sel;
    double before, after;
    open_at_noon(&f);
    struct tenant *t = fixture_tenant(&f, "default");
    make_blocks(&f, t, 3, TODAY_MS - 2 * DAY);
    CHECK(list_files(&f, "default").blocks == 3);
    CHECK_OK(tenant_select(t, NULL, 0, INT64_MIN, INT64_MAX, &sel, &f.err), &f.err);
    CHECK(read_series(&f, sel, 0, &before) == 3);
    struct engine_compact_report r = compact(&f, t, 0);
    CHECK_U64(r.jobs, 1);
    CHECK_U64(r.blocks_before, 3);
    CHECK_U64(r.blocks_after, 1);
    CHECK_U64(r.samples, 9);
    CHECK(r.bytes_after < r.bytes_before);
    CHECK(list_files(&f, "default").blocks == 4); /* the reader's are still there */
    CHECK(read_series(&f, sel, 0, &after) == 3 && after == before);
    select_release(sel);
    CHECK(list_files(&f, "default").blocks == 1);
    CHECK(read_all(&f, t, &after) == 9);
    CHECK_U64(compact(&f, t, 0).jobs, 0);
    fixture_reopen(&f, false);
    CHECK(read_all(&f, fixture_tenant(&f, "default"), &before) == 9 && before == after);
    CHECK(list_files(&f, "default").blocks == 1);
    fixture_close(&f);
}

static void test_later_sample_wins(void **state)
{
    (void)state;
    struct fixture f;
    double sum;
    open_at_noon(&f);
    struct tenant *t = fixture_tenant(&f, "default");
    for (int i = 0; i < 5; i++) {
        write_one(&f, t, 1, TODAY_MS - 2 * DAY, i);
        flush(&f, t);
    }
    write_one(&f, t, 1, TODAY_MS - 2 * DAY, stale_nan());
    flush(&f, t);
    CHECK_U64(count_blocks(t), 6);
    struct engine_compact_report r = compact(&f, t, 0);
    CHECK_U64(r.samples, 1);
    CHECK_U64(r.duplicates, 5);
    CHECK(read_all(&f, t, &sum) == 1 && sum == 4);
    fixture_close(&f);
}

/* Without a thread the owner's steps do it, one merge at a time. */
static void test_steps(void **state)
{
    (void)state;
    struct fixture f;
    open_at_noon(&f);
    struct tenant *t = fixture_tenant(&f, "default"), *u = fixture_tenant(&f, "u");
    make_blocks(&f, t, 3, TODAY_MS - 2 * DAY);
    make_blocks(&f, u, 3, TODAY_MS - 2 * DAY);
    CHECK_OK(engine_step(f.engine, &f.err), &f.err);
    CHECK_U64(count_blocks(t) + count_blocks(u), 6); /* more may come */
    clock_fake_advance(&f.clock, HOUR);
    for (int i = 0; i < 3; i++) CHECK_OK(engine_step(f.engine, &f.err), &f.err);
    CHECK_U64(count_blocks(t), 1);
    CHECK_U64(count_blocks(u), 1);
    f.config.compact = false;
    engine_reconfigure(f.engine, &f.config);
    make_blocks(&f, t, 3, TODAY_MS - 3 * DAY);
    clock_fake_advance(&f.clock, HOUR);
    CHECK_OK(engine_step(f.engine, &f.err), &f.err);
    CHECK_U64(count_blocks(t), 4);
    fixture_close(&f);
}

static void test_level(void **state)
{
    (void)state;
    struct fixture f;
    open_at_noon(&f);
    struct tenant *t = fixture_tenant(&f, "default");
    for (int i = 0; i < 4; i++) make_blocks(&f, t, 2, TODAY_MS - i * 5 * HOUR);
    CHECK_U64(count_blocks(t), 8);
    struct engine_compact_options dry = {.level = 3, .dry_run = true};
    struct engine_compact_report r;
    CHECK_OK(engine_compact(f.engine, NULL, &dry, &r, &f.err), &f.err);
    CHECK_U64(r.blocks_after, 1);
    CHECK(r.jobs > 0 && r.bytes_read > 0);
    CHECK_U64(count_blocks(t), 8);
    (void)compact(&f, t, 0); /* the current two hours stay as they are */
    CHECK_U64(count_blocks(t), 5);
    (void)compact(&f, t, 1);
    CHECK_U64(count_blocks(t), 4);
    (void)compact(&f, t, 2);
    CHECK_U64(count_blocks(t), 2);
    (void)compact(&f, t, 3);
    CHECK_U64(count_blocks(t), 1);
    struct tenant_stats stats;
    tenant_stats(t, &stats);
    CHECK_U64(stats.blocks_by_level[3], 1);
    fixture_close(&f);
}

/* ---- given up ---- */

struct intrusion {
    struct fixture *f;
    struct tenant *t;
    int calls, at;
};

static bool retain_meanwhile(void *ctx, const struct engine_compact_report *so_far, double done)
{
    struct intrusion *x = ctx;
    (void)so_far, (void)done;
    if (++x->calls == x->at) {
        x->f->config.retention_ms = DAY;
        engine_reconfigure(x->f->engine, &x->f->config);
        CHECK_OK(tenant_retain(x->t, &x->f->err), &x->f->err);
    }
    return true;
}

static void test_retention_comes_between(void **state)
{
    (void)state;
    struct fixture f;
    struct engine_compact_report r;
    open_at_noon(&f);
    struct tenant *t = fixture_tenant(&f, "default");
    make_blocks(&f, t, 3, TODAY_MS - 2 * DAY);
    struct intrusion x = {&f, t, 0, 2};
    struct engine_compact_options options = {.progress = retain_meanwhile, .ctx = &x};
    CHECK_OK(engine_compact(f.engine, t, &options, &r, &f.err), &f.err);
    CHECK(x.calls >= 2);
    CHECK_U64(r.jobs, 0);
    CHECK_U64(count_blocks(t), 0);
    CHECK(list_files(&f, "default").blocks == 0);
    CHECK(list_files(&f, "default").others == 0);
    fixture_close(&f);
}

static bool flush_meanwhile(void *ctx, const struct engine_compact_report *so_far, double done)
{
    struct intrusion *x = ctx;
    (void)so_far, (void)done;
    if (++x->calls < x->at) make_blocks(x->f, x->t, 1, TODAY_MS - 2 * DAY + x->calls * 1000);
    return x->calls < x->at;
}

/* A writer that never rests does not keep the one who asked. */
static void test_ends_under_writes(void **state)
{
    (void)state;
    struct fixture f;
    struct engine_compact_report r;
    open_at_noon(&f);
    struct tenant *t = fixture_tenant(&f, "default");
    make_blocks(&f, t, 3, TODAY_MS - 2 * DAY);
    struct intrusion x = {&f, t, 0, 100};
    struct engine_compact_options options = {.progress = flush_meanwhile, .ctx = &x};
    CHECK_OK(engine_compact(f.engine, t, &options, &r, &f.err), &f.err);
    CHECK_U64(r.jobs, 1);
    CHECK_U64(count_blocks(t), 1 + (uint64_t)x.calls);
    CHECK(compact(&f, t, 0).jobs > 0);
    fixture_close(&f);
}

static bool give_up(void *ctx, const struct engine_compact_report *so_far, double done)
{
    struct intrusion *x = ctx;
    (void)so_far, (void)done;
    return ++x->calls < x->at;
}

static void test_canceled(void **state)
{
    (void)state;
    struct fixture f;
    struct engine_compact_report r;
    open_at_noon(&f);
    struct tenant *t = fixture_tenant(&f, "default");
    make_blocks(&f, t, 3, TODAY_MS - 2 * DAY);
    for (int at = 1; at <= 3; at++) {
        struct intrusion x = {&f, t, 0, at};
        struct engine_compact_options options = {.progress = give_up, .ctx = &x};
        CHECK_ERR(engine_compact(f.engine, t, &options, &r, &f.err), ERR_CANCELED);
        CHECK_U64(count_blocks(t), 3);
        struct listed l = list_files(&f, "default");
        CHECK(l.blocks == 3 && l.others == 0);
    }
    CHECK_U64(compact(&f, t, 0).jobs, 1);
    fixture_close(&f);
}

static uint64_t counter(struct fixture *f, const char *name, const char *help)
{
    return metric_value(metric_counter(f->env.metrics, name, help, ""));
}

/* Zeroes the middle of a file. */
static void spoil(struct fixture *f, const char *tenant, const char *name)
{
    char path[700];
    static const char zeros[64];
    snprintf(path, sizeof(path), "%s/tenants/%s/blocks/%s", f->dir, tenant, name);
    FILE *file = fopen(path, "r+b");
    CHECK(file != NULL);
    CHECK(fseek(file, 40, SEEK_SET) == 0);
    CHECK(fwrite(zeros, 1, sizeof(zeros), file) == sizeof(zeros));
    CHECK(fclose(file) == 0);
}

/* A block that is broken keeps its cell from being merged, once and for all, and no other. */
static void test_broken_source(void **state)
{
    (void)state;
    struct fixture f;
    open_at_noon(&f);
    struct tenant *t = fixture_tenant(&f, "default");
    make_blocks(&f, t, 2, TODAY_MS - 3 * DAY);
    spoil(&f, "default", list_files(&f, "default").names[0]);
    make_blocks(&f, t, 2, TODAY_MS - 2 * DAY);
    for (int i = 0; i < 3; i++) (void)compact(&f, t, 0);
    CHECK_U64(count_blocks(t), 3);
    CHECK_U64(counter(&f, "quipu_compaction_failures_total",
                      "Merges of blocks that failed; the blocks stay."),
              1);
    CHECK_U64(counter(&f, "quipu_compactions_total", "Merges of blocks."), 1);
    CHECK(list_files(&f, "default").blocks == 3);
    fixture_close(&f);
}

/* ---- what a crash leaves ---- */

static void copy_blocks(struct fixture *f, const char *from, const char *to)
{
    char command[1200];
    snprintf(command, sizeof(command), "mkdir -p %s/%s && cp %s/%s/*.block %s/%s", f->dir, to,
             f->dir, from, f->dir, to);
    CHECK(system(command) == 0);
}

/* The sources' files outlived the merge; then the merge's block is lost, and they are all there is. */
static void test_files_of_sources(void **state)
{
    (void)state;
    struct fixture f;
    double sum;
    open_at_noon(&f);
    struct tenant *t = fixture_tenant(&f, "default");
    make_blocks(&f, t, 3, TODAY_MS - 2 * DAY);
    copy_blocks(&f, "tenants/default/blocks", "saved");
    (void)compact(&f, t, 0);
    CHECK_OK(engine_close(f.engine, false, &f.err), &f.err);
    copy_blocks(&f, "saved", "tenants/default/blocks");
    CHECK(list_files(&f, "default").blocks == 4);
    CHECK_OK(engine_open(&f.env, &f.config, &f.engine, &f.err), &f.err);
    struct listed l = list_files(&f, "default");
    CHECK(l.blocks == 1 && l.others == 0);
    CHECK(read_all(&f, fixture_tenant(&f, "default"), &sum) == 9);
    CHECK_OK(engine_close(f.engine, false, &f.err), &f.err);

    copy_blocks(&f, "saved", "tenants/default/blocks");
    char path[700];
    snprintf(path, sizeof(path), "%s/tenants/default/blocks/%s", f.dir, l.names[0]);
    CHECK(unlink(path) == 0);
    CHECK_OK(engine_open(&f.env, &f.config, &f.engine, &f.err), &f.err);
    l = list_files(&f, "default");
    CHECK(l.blocks == 0 && l.others == 3); /* set aside */
    fixture_close(&f);
}

/* ---- retention ---- */

static void test_retention_by_size(void **state)
{
    (void)state;
    struct fixture f;
    double sum;
    open_at_noon(&f);
    f.config.compact = false;
    engine_reconfigure(f.engine, &f.config);
    struct tenant *t = fixture_tenant(&f, "default");
    for (int i = 0; i < 6; i++) { /* the oldest day is written last */
        write_one(&f, t, 1, TODAY_MS - (i + 1) * DAY, i);
        flush(&f, t);
    }
    struct tenant_stats stats;
    tenant_stats(t, &stats);
    uint64_t each = stats.block_bytes / 6;
    CHECK_OK(tenant_retain(t, &f.err), &f.err);
    CHECK_U64(count_blocks(t), 6);
    f.config.retention_bytes = 2 * each + each / 2;
    engine_reconfigure(f.engine, &f.config);
    CHECK_OK(tenant_retain(t, &f.err), &f.err);
    CHECK_U64(count_blocks(t), 2);
    CHECK(read_all(&f, t, &sum) == 2 && sum == 0 + 1);
    CHECK(list_files(&f, "default").blocks == 2);
    /* By age first, and no more than needed by size. */
    f.config.retention_ms = DAY + HOUR;
    f.config.retention_bytes = each + each / 2;
    engine_reconfigure(f.engine, &f.config);
    CHECK_OK(tenant_retain(t, &f.err), &f.err);
    CHECK(read_all(&f, t, &sum) == 1 && sum == 0);
    fixture_reopen(&f, false);
    CHECK(read_all(&f, fixture_tenant(&f, "default"), &sum) == 1);
    fixture_close(&f);
}

static bool accepts(struct fixture *f, struct tenant *t, int64_t t_ms)
{
    struct write_result result;
    double v = 1;
    struct done done = {0, ERR_OK};
    tenant_write_begin(t);
    struct series *s = fixture_series(f, t, 1);
    struct write_batch b = {.n = 1, .series = &s, .t_ms = &t_ms, .v = &v};
    CHECK_OK(tenant_write(t, &b, note_done, &done, &result, &f->err), &f->err);
    tenant_write_end(t);
    CHECK_OK(engine_commit(f->engine, &f->err), &f->err);
    return result.n_too_old == 0;
}

static void test_limits_of_tenants(void **state)
{
    (void)state;
    struct fixture f;
    open_at_noon(&f);
    struct tenant *t = fixture_tenant(&f, "default"), *u = fixture_tenant(&f, "long");
    struct engine_override overrides[] = {
        {.tenant = STR("long"), .has_retention = true, .retention_ms = 30 * DAY},
        {.tenant = STR("later"), .has_retention = true, .retention_ms = 0}};
    f.config.retention_ms = DAY;
    f.config.overrides = overrides;
    f.config.n_overrides = 2;
    engine_reconfigure(f.engine, &f.config);
    memset(overrides, 0xee, sizeof(overrides)); /* the engine has its own copy */
    CHECK(!accepts(&f, t, TODAY_MS - 2 * DAY));
    CHECK(accepts(&f, u, TODAY_MS - 29 * DAY));
    CHECK(!accepts(&f, u, TODAY_MS - 31 * DAY));
    CHECK(accepts(&f, fixture_tenant(&f, "later"), TODAY_MS - 500 * DAY));
    flush(&f, NULL);
    CHECK_OK(engine_step(f.engine, &f.err), &f.err);
    CHECK_U64(count_blocks(u), 1);
    f.config.n_overrides = 0;
    engine_reconfigure(f.engine, &f.config);
    clock_fake_advance(&f.clock, 61000);
    CHECK_OK(engine_step(f.engine, &f.err), &f.err);
    CHECK_U64(count_blocks(u), 0);
    CHECK_U64(count_blocks(fixture_tenant(&f, "later")), 0);
    fixture_close(&f);
}

/* ---- all at once ---- */

#define ROUNDS 60
#define THREAD_SERIES 4

struct threads {
    struct fixture f;
    struct tenant *t;
    _Atomic int written; /* rounds; release by the writer, acquire by readers */
    _Atomic bool over;
};

static void *merger(void *arg)
{
    struct threads *x = arg;
    struct err err;
    for (uint32_t i = 0; !atomic_load(&x->over); i++) {
        struct engine_compact_options options = {.level = i % 4};
        struct engine_compact_report report;
        CHECK_OK(engine_compact(x->f.engine, i % 2 ? x->t : NULL, &options, &report, &err), &err);
    }
    return NULL;
}

/* Never less than was there when it began. */
static void *reader(void *arg)
{
    struct threads *x = arg;
    struct err err;
    while (!atomic_load(&x->over)) {
        struct engine_select *sel;
        int known = atomic_load(&x->written);
        CHECK_OK(tenant_select(x->t, NULL, 0, INT64_MIN, INT64_MAX, &sel, &err), &err);
        for (size_t i = 0; i < select_count(sel); i++) {
            struct samples s;
            samples_init(&s, MEM_QUERY, NULL);
            CHECK_OK(select_read(sel, i, INT64_MIN, INT64_MAX, &s, &err), &err);
            CHECK(s.n >= (size_t)known);
            for (size_t k = 0; k < s.n; k++) CHECK(s.v[k] == (double)k);
            samples_release(&s);
        }
        CHECK(known == 0 || select_count(sel) == THREAD_SERIES);
        select_release(sel);
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    static struct threads x;
    memset(&x, 0, sizeof(x));
    fixture_init(&x.f);
    x.f.env.clock = clock_system();
    x.f.env.threads = true;
    CHECK_OK(engine_open(&x.f.env, &x.f.config, &x.f.engine, &x.f.err), &x.f.err);
    x.t = fixture_tenant(&x.f, "default");
    pthread_t threads[3];
    CHECK(pthread_create(&threads[0], NULL, merger, &x) == 0);
    CHECK(pthread_create(&threads[1], NULL, reader, &x) == 0);
    CHECK(pthread_create(&threads[2], NULL, reader, &x) == 0);
    int64_t begin_ms = clock_wall_ms(clock_system()) - 90 * DAY;
    for (int i = 0; i < ROUNDS; i++) {
        struct done done = {0, ERR_OK};
        struct series *series[THREAD_SERIES];
        int64_t t_ms[THREAD_SERIES];
        double v[THREAD_SERIES];
        tenant_write_begin(x.t);
        for (int k = 0; k < THREAD_SERIES; k++) {
            series[k] = fixture_series(&x.f, x.t, k);
            t_ms[k] = begin_ms + i * 7 * HOUR;
            v[k] = i;
        }
        struct write_batch b = {.n = THREAD_SERIES, .series = series, .t_ms = t_ms, .v = v};
        struct write_result result;
        CHECK_OK(tenant_write(x.t, &b, note_done, &done, &result, &x.f.err), &x.f.err);
        tenant_write_end(x.t);
        CHECK_OK(engine_commit(x.f.engine, &x.f.err), &x.f.err);
        atomic_store(&x.written, i + 1);
        if (i % 2) CHECK_OK(engine_flush(x.f.engine, x.t, &x.f.err), &x.f.err);
    }
    atomic_store(&x.over, true);
    for (size_t i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    (void)compact(&x.f, x.t, 3);
    CHECK(count_blocks(x.t) <= 8);
    fixture_close(&x.f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_reader_of_old_blocks),
                                       cmocka_unit_test(test_later_sample_wins),
                                       cmocka_unit_test(test_steps),
                                       cmocka_unit_test(test_level),
                                       cmocka_unit_test(test_retention_comes_between),
                                       cmocka_unit_test(test_ends_under_writes),
                                       cmocka_unit_test(test_canceled),
                                       cmocka_unit_test(test_broken_source),
                                       cmocka_unit_test(test_files_of_sources),
                                       cmocka_unit_test(test_retention_by_size),
                                       cmocka_unit_test(test_limits_of_tenants),
                                       cmocka_unit_test(test_threads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
