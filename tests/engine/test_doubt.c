/* tests/engine/test_doubt.c: what the catalog does not know for certain. First a flush whose entry into the catalog failed, at any call of the disk; then one that gets
 * no further than the question whether the catalog takes changes; then the process is killed. What was acknowledged is
 * there, whether the failed entry reached the disk or not. Then a catalog that went back in time. */
#include <stdlib.h>

#include "tests/engine/fixture.h"
#include "tests/sim/io_sim.h"

#define SERIES_N 3
#define CALLS_MAX 400

struct doubt {
    struct fixture f;
    struct io_sim *disk;
};

static void doubt_open(struct doubt *x)
{
    fixture_init(&x->f);
    x->disk = io_sim_new(1);
    x->f.env.io = io_sim_io(x->disk);
    x->f.config.data_dir = "/data";
    x->f.config.wal_sync = WAL_SYNC_ALWAYS;
    CHECK_OK(engine_open(&x->f.env, &x->f.config, &x->f.engine, &x->f.err), &x->f.err);
}

static void doubt_close(struct doubt *x)
{
    fixture_close(&x->f);
    io_sim_free(x->disk);
}

/* As kill -9 does: nothing more reaches the disk, what reached the system's cache stays. */
static void kill_and_start(struct doubt *x)
{
    io_sim_break(x->disk, 1);
    err_ignore(engine_close(x->f.engine, false, &x->f.err));
    io_sim_heal(x->disk);
    CHECK_OK(engine_open(&x->f.env, &x->f.config, &x->f.engine, &x->f.err), &x->f.err);
}

static void check_samples(struct doubt *x, int64_t t_ms)
{
    struct engine_select *sel;
    struct tenant *t = fixture_tenant(&x->f, "default");
    CHECK_OK(tenant_select(t, NULL, 0, 0, INT64_MAX, &sel, &x->f.err), &x->f.err);
    CHECK(select_count(sel) == SERIES_N);
    for (size_t i = 0; i < SERIES_N; i++) {
        struct samples s;
        samples_init(&s, MEM_QUERY, NULL);
        CHECK_OK(select_read(sel, i, 0, INT64_MAX, &s, &x->f.err), &x->f.err);
        CHECK(s.n == 2);
        CHECK(s.t_ms[0] == t_ms && s.v[0] == (double)i);
        CHECK(s.t_ms[1] == t_ms + 1000 && s.v[1] == (double)i + 1);
        samples_release(&s);
    }
    select_release(sel);
}

/* Returns false when the flush has fewer calls than `k`. */
static bool fail_at(uint64_t k, uint64_t then, enum io_sim_failure kind)
{
    struct doubt x;
    doubt_open(&x);
    struct fixture *f = &x.f;
    struct tenant *t = fixture_tenant(f, "default");
    for (int i = 0; i < SERIES_N; i++) write_one(f, t, i, NOW_MS - 5000, i);
    CHECK_OK(engine_flush(f->engine, t, &f->err), &f->err); /* the catalog's log is not empty */
    for (int i = 0; i < SERIES_N; i++) write_one(f, t, i, NOW_MS - 4000, i + 1);
    io_sim_fail(x.disk, k, kind);
    bool failed = engine_flush(f->engine, t, &f->err) != ERR_OK;
    io_sim_heal(x.disk);
    if (failed) {
        io_sim_break(x.disk, then);
        err_ignore(engine_flush(f->engine, t, &f->err));
        io_sim_heal(x.disk);
        kill_and_start(&x);
        check_samples(&x, NOW_MS - 5000);
    }
    doubt_close(&x);
    return failed || k < 20;
}

static void test_entry_in_doubt(void **state)
{
    (void)state;
    for (uint64_t then = 1; then <= 4; then++)
        for (uint64_t k = 1; k < CALLS_MAX && fail_at(k, then, IO_SIM_ENOSPC); k++) {}
    for (uint64_t then = 1; then <= 4; then++)
        for (uint64_t k = 1; k < CALLS_MAX && fail_at(k, then, IO_SIM_SHORT); k++) {}
}

/* ---- a catalog from before ---- */

static void copy_file(const char *dir, const char *from, const char *to)
{
    char command[1024];
    snprintf(command, sizeof(command), "cp %s/%s %s/%s", dir, from, dir, to);
    CHECK(system(command) == 0);
}

static bool count_block(void *ctx, const char *name, bool is_dir)
{
    (void)is_dir;
    *(int *)ctx += str_has_suffix(str_of(name), STR(".block"));
    return true;
}

static bool count_aside(void *ctx, const char *name, bool is_dir)
{
    (void)is_dir;
    *(int *)ctx += str_has_suffix(str_of(name), STR(".block.unknown"));
    return true;
}

static int count_files(struct fixture *f, io_list_fn *fn)
{
    char dir[512];
    int n = 0;
    snprintf(dir, sizeof(dir), "%s/tenants/default/blocks", f->dir);
    CHECK_OK(io_list(f->env.io, dir, fn, &n, &f->err), &f->err);
    return n;
}

static int block_files(struct fixture *f)
{
    return count_files(f, count_block);
}

/* SQLite forgets its last transactions without a word when its log is damaged, and people restore old copies. What
 * the log cannot give back must not be removed then. */
static void old_catalog(bool log_is_cut)
{
    struct fixture f;
    fixture_init(&f);
    f.config.wal_segment_bytes = 4096;
    CHECK_OK(engine_open(&f.env, &f.config, &f.engine, &f.err), &f.err);
    write_one(&f, fixture_tenant(&f, "default"), 1, NOW_MS - 900000, 1);
    fixture_reopen(&f, true); /* the catalog is in its main file */
    copy_file(f.dir, "catalog.sqlite", "before");
    for (int i = 1; i <= (log_is_cut ? 400 : 2); i++)
        write_one(&f, fixture_tenant(&f, "default"), 1, NOW_MS - 900000 + i, i);
    CHECK(block_files(&f) == 1);
    CHECK_OK(engine_flush(f.engine, NULL, &f.err), &f.err);
    if (log_is_cut) CHECK_OK(engine_step(f.engine, &f.err), &f.err);
    CHECK_OK(engine_close(f.engine, false, &f.err), &f.err);
    copy_file(f.dir, "before", "catalog.sqlite");
    CHECK_OK(engine_open(&f.env, &f.config, &f.engine, &f.err), &f.err);
    CHECK(block_files(&f) == 1);
    CHECK(count_files(&f, count_aside) == log_is_cut);
    /* Nor does any later start take it for its own. */
    for (int i = 0; i < 5; i++) {
        write_one(&f, fixture_tenant(&f, "default"), 1, NOW_MS - 800000 + i, i);
        fixture_reopen(&f, true);
    }
    CHECK(count_files(&f, count_aside) == log_is_cut);
    fixture_close(&f);
}

static void test_old_catalog(void **state)
{
    (void)state;
    old_catalog(true);
    old_catalog(false);
}

/* ---- a block that was forgotten, and its file was not ---- */

static void test_expired_file(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    f.config.retention_ms = 3600000;
    CHECK_OK(engine_open(&f.env, &f.config, &f.engine, &f.err), &f.err);
    write_one(&f, fixture_tenant(&f, "default"), 1, NOW_MS - 1000, 1);
    CHECK_OK(engine_flush(f.engine, NULL, &f.err), &f.err);
    copy_file(f.dir, "tenants/default/blocks/*.block", ".");
    clock_fake_advance(&f.clock, 7200000);
    CHECK_OK(engine_step(f.engine, &f.err), &f.err);
    CHECK(block_files(&f) == 0);
    copy_file(f.dir, "*.block", "tenants/default/blocks");
    fixture_reopen(&f, false);
    CHECK(block_files(&f) == 0);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_entry_in_doubt),
                                       cmocka_unit_test(test_old_catalog),
                                       cmocka_unit_test(test_expired_file)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
