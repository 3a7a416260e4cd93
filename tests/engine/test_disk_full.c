/* tests/engine/test_disk_full.c: the disk fills, and has space again. What was acknowledged stays, queries go on, the reserve
 * lets flushes finish, and writes go on by themselves. */
#include "engine/disk_room.h"
#include "tests/engine/fixture.h"
#include "tests/sim/io_sim.h"

#define MIB (UINT64_C(1) << 20)
#define DISK_BYTES (64 * MIB)
#define RESERVE_BYTES (2 * MIB)
#define SAMPLES_MAX 4000

struct full {
    struct fixture f;
    struct io_sim *disk;
    struct tenant *t;
    int n; /* samples that were acknowledged: of series i % 3, at NOW_MS - SAMPLES_MAX + i */
};

static void full_open(struct full *x, uint64_t reserve)
{
    memset(x, 0, sizeof(*x));
    fixture_init(&x->f);
    x->disk = io_sim_new(1);
    io_sim_set_capacity(x->disk, DISK_BYTES);
    x->f.env.io = io_sim_io(x->disk);
    x->f.config.data_dir = "/data";
    x->f.config.wal_sync = WAL_SYNC_ALWAYS;
    x->f.config.wal_segment_bytes = 64 << 10;
    x->f.config.reserve_bytes_max = reserve;
    CHECK_OK(engine_open(&x->f.env, &x->f.config, &x->f.engine, &x->f.err), &x->f.err);
    x->t = fixture_tenant(&x->f, "default");
}

static void full_close(struct full *x)
{
    fixture_close(&x->f);
    io_sim_free(x->disk);
}

static enum err_code try_write(struct full *x)
{
    struct fixture *f = &x->f;
    struct done done = {0, ERR_OK};
    int64_t t_ms = NOW_MS - SAMPLES_MAX + x->n;
    double v = x->n;
    tenant_write_begin(x->t);
    struct series *s = fixture_series(f, x->t, x->n % 3);
    struct write_batch b = {.n = 1, .series = &s, .t_ms = &t_ms, .v = &v};
    struct write_result result;
    enum err_code rc = tenant_write(x->t, &b, note_done, &done, &result, &f->err);
    tenant_write_end(x->t);
    if (rc) return rc;
    struct err ignored; /* what it was comes through the completion */
    err_ignore(engine_commit(f->engine, &ignored));
    CHECK(done.n == 1);
    if (!done.rc) x->n++;
    return done.rc;
}

static void check_all(struct full *x)
{
    struct fixture *f = &x->f;
    struct engine_select *sel;
    int n = 0;
    CHECK_OK(tenant_select(x->t, NULL, 0, 0, INT64_MAX, &sel, &f->err), &f->err);
    for (size_t i = 0; i < select_count(sel); i++) {
        struct samples s;
        samples_init(&s, MEM_QUERY, NULL);
        CHECK_OK(select_read(sel, i, 0, INT64_MAX, &s, &f->err), &f->err);
        for (size_t k = 0; k < s.n; k++) {
            int number = (int)(s.t_ms[k] - (NOW_MS - SAMPLES_MAX));
            if (number < x->n) n++; /* one that was not acknowledged may be there, too */
            CHECK(s.v[k] == number);
        }
        samples_release(&s);
    }
    select_release(sel);
    CHECK_U64(n, x->n);
}

static bool has_reserve(struct full *x, uint64_t bytes)
{
    uint64_t size = 0;
    bool is_dir;
    struct err err;
    return io_stat(x->f.env.io, "/data/" DISK_RESERVE_NAME, &size, &is_dir, &err) == ERR_OK &&
           size == bytes;
}

/* Somebody else's file takes all but `left` bytes; UINT64_MAX: it goes. */
static void occupy(struct full *x, uint64_t left)
{
    struct file *file;
    struct err err;
    uint64_t size;
    struct io *io = io_sim_io(x->disk);
    if (left == UINT64_MAX) {
        CHECK_OK(io_unlink(io, "/filler", &err), &err);
        return;
    }
    CHECK_OK(io_open(io, "/filler", IO_READ | IO_WRITE | IO_CREATE, &file, &err), &err);
    CHECK_OK(file_size(file, &size, &err), &err);
    uint64_t space = DISK_BYTES - io_sim_used(x->disk);
    if (space > left) CHECK_OK(file_allocate(file, size + space - left, &err), &err);
    file_close(file);
}

static void fill(struct full *x, uint64_t left)
{
    enum err_code rc = ERR_OK;
    for (int i = 0; i < 20; i++) CHECK_OK(try_write(x), &x->f.err);
    occupy(x, left);
    for (int i = 0; !rc && i < SAMPLES_MAX - 500; i++) rc = try_write(x);
    CHECK(rc == ERR_NO_SPACE);
}

static void check_full(struct full *x)
{
    struct err why;
    CHECK(engine_failed(x->f.engine, &why));
    CHECK(why.code == ERR_NO_SPACE);
    CHECK(strstr(why.text, "/data") != NULL);
    CHECK(!has_reserve(x, RESERVE_BYTES));
    CHECK(try_write(x) == ERR_NO_SPACE);
    check_all(x);
}

static void check_back(struct full *x, uint64_t reserve)
{
    struct err why;
    CHECK_OK(engine_step(x->f.engine, &x->f.err), &x->f.err);
    CHECK(!engine_failed(x->f.engine, &why)); /* before anybody writes */
    if (reserve) CHECK(has_reserve(x, reserve));
    for (int i = 0; i < 20; i++) CHECK_OK(try_write(x), &x->f.err);
    check_all(x);
}

static void test_fills_and_goes_on(void **state)
{
    (void)state;
    struct full x;
    full_open(&x, RESERVE_BYTES);
    CHECK(has_reserve(&x, RESERVE_BYTES));
    fill(&x, 32 << 10);
    check_full(&x);
    /* The reserve is for this. What is flushed lets the log be cut, but that is not enough to go on. */
    CHECK_OK(engine_step(x.f.engine, &x.f.err), &x.f.err);
    struct tenant_stats stats;
    tenant_stats(x.t, &stats);
    CHECK(stats.blocks > 0);
    CHECK_U64(stats.head_samples, 0);
    check_full(&x);
    occupy(&x, UINT64_MAX);
    check_back(&x, RESERVE_BYTES);
    fixture_reopen(&x.f, false);
    x.t = fixture_tenant(&x.f, "default");
    check_all(&x);
    full_close(&x);
}

static void test_start_on_full_disk(void **state)
{
    (void)state;
    struct full x;
    full_open(&x, RESERVE_BYTES);
    fill(&x, 16 << 10);
    CHECK_OK(engine_close(x.f.engine, false, &x.f.err), &x.f.err);
    occupy(&x, 0);
    CHECK_OK(engine_open(&x.f.env, &x.f.config, &x.f.engine, &x.f.err), &x.f.err);
    x.t = fixture_tenant(&x.f, "default");
    check_full(&x);
    occupy(&x, UINT64_MAX);
    check_back(&x, RESERVE_BYTES);
    full_close(&x);
}

/* The reserve is still there, as the process was killed before it met the end of the disk: the start needs it. */
static void test_start_takes_the_reserve(void **state)
{
    (void)state;
    struct full x;
    full_open(&x, RESERVE_BYTES);
    for (int i = 0; i < 100; i++) CHECK_OK(try_write(&x), &x.f.err);
    CHECK_OK(engine_close(x.f.engine, false, &x.f.err), &x.f.err);
    CHECK(has_reserve(&x, RESERVE_BYTES));
    occupy(&x, 0);
    CHECK_OK(engine_open(&x.f.env, &x.f.config, &x.f.engine, &x.f.err), &x.f.err);
    x.t = fixture_tenant(&x.f, "default");
    check_full(&x);
    CHECK_OK(engine_flush(x.f.engine, NULL, &x.f.err), &x.f.err);
    check_all(&x);
    occupy(&x, UINT64_MAX);
    check_back(&x, RESERVE_BYTES);
    full_close(&x);
}

/* Without one: a start may have to say that it needs space, and removes nothing. */
static void test_no_reserve(void **state)
{
    (void)state;
    struct full x;
    full_open(&x, 0);
    CHECK(!has_reserve(&x, RESERVE_BYTES));
    fill(&x, 16 << 10);
    CHECK_OK(engine_close(x.f.engine, false, &x.f.err), &x.f.err);
    occupy(&x, 0);
    enum err_code rc = engine_open(&x.f.env, &x.f.config, &x.f.engine, &x.f.err);
    if (rc) {
        CHECK(rc == ERR_NO_SPACE);
        occupy(&x, UINT64_MAX);
        CHECK_OK(engine_open(&x.f.env, &x.f.config, &x.f.engine, &x.f.err), &x.f.err);
    }
    x.t = fixture_tenant(&x.f, "default");
    check_all(&x);
    if (!rc) occupy(&x, UINT64_MAX);
    check_back(&x, 0);
    full_close(&x);
}

/* A tenth of the disk at most, a twentieth by itself; and a reserve that is not wanted any more goes. */
static void test_size(void **state)
{
    (void)state;
    struct full x;
    full_open(&x, 1024 * MIB);
    CHECK(has_reserve(&x, DISK_BYTES / 10));
    x.f.config.reserve_bytes_max = DISK_RESERVE_AUTO;
    fixture_reopen(&x.f, false);
    CHECK(has_reserve(&x, DISK_BYTES / 20));
    x.f.config.reserve_bytes_max = 0;
    fixture_reopen(&x.f, false);
    CHECK(!io_exists(x.f.env.io, "/data/" DISK_RESERVE_NAME));
    full_close(&x);
}

/* A write that fails for another reason: the segment is given up, writes say so, and the log is well again without one. */
static void test_failed_sync(void **state)
{
    (void)state;
    for (uint64_t k = 1; k <= 3; k++) {
        struct full x;
        struct err why;
        full_open(&x, RESERVE_BYTES);
        for (int i = 0; i < 20; i++) CHECK_OK(try_write(&x), &x.f.err);
        io_sim_fail(x.disk, k, IO_SIM_EIO);
        enum err_code rc = try_write(&x);
        io_sim_heal(x.disk);
        if (rc) {
            CHECK(rc == ERR_IO);
            CHECK(engine_failed(x.f.engine, &why));
            CHECK(why.code == ERR_IO);
            CHECK(has_reserve(&x, RESERVE_BYTES)); /* the disk is not full */
        }
        check_back(&x, RESERVE_BYTES);
        fixture_reopen(&x.f, false);
        x.t = fixture_tenant(&x.f, "default");
        check_all(&x);
        full_close(&x);
    }
}

/* Merging takes place in the reserve, so that deletes make room: the log, which grows no more, needs none besides. */
static void test_merge_on_full_disk(void **state)
{
    (void)state;
    struct full x;
    struct engine_compact_options options = {.level = 3};
    struct engine_compact_report report;
    full_open(&x, RESERVE_BYTES);
    for (int i = 0; i < 6; i++) {
        for (int k = 0; k < 20; k++) CHECK_OK(try_write(&x), &x.f.err);
        CHECK_OK(engine_flush(x.f.engine, NULL, &x.f.err), &x.f.err);
    }
    CHECK_OK(engine_close(x.f.engine, false, &x.f.err), &x.f.err);
    occupy(&x, 0);
    x.f.config.wal_segment_bytes = 16 * MIB;
    CHECK_OK(engine_open(&x.f.env, &x.f.config, &x.f.engine, &x.f.err), &x.f.err);
    x.t = fixture_tenant(&x.f, "default");
    check_full(&x);
    CHECK_OK(engine_compact(x.f.engine, NULL, &options, &report, &x.f.err), &x.f.err);
    CHECK(report.jobs > 0);
    check_full(&x);
    full_close(&x);
}

/* A disk that cannot be read: queries of the block fail and name the file; the head answers, writes go on, and it is over
 * when the disk is well. */
static void test_failed_read(void **state)
{
    (void)state;
    struct full x;
    struct engine_select *sel = NULL;
    full_open(&x, RESERVE_BYTES);
    for (int i = 0; i < 60; i++) CHECK_OK(try_write(&x), &x.f.err);
    CHECK_OK(engine_flush(x.f.engine, NULL, &x.f.err), &x.f.err);
    x.f.config.page_cache_bytes = 0;
    fixture_reopen(&x.f, false);
    x.t = fixture_tenant(&x.f, "default");
    uint64_t n_failed = 0;
    for (uint64_t k = 1; k < 20; k++) {
        struct samples s;
        samples_init(&s, MEM_QUERY, NULL);
        io_sim_fail(x.disk, k, IO_SIM_EIO);
        enum err_code rc = tenant_select(x.t, NULL, 0, 0, INT64_MAX, &sel, &x.f.err);
        if (!rc) rc = select_read(sel, 0, 0, INT64_MAX, &s, &x.f.err);
        io_sim_heal(x.disk);
        n_failed += rc == ERR_IO;
        CHECK(rc == ERR_OK || rc == ERR_IO);
        if (rc) CHECK(strstr(x.f.err.file, ".block") || strstr(x.f.err.text, ".block"));
        select_release(sel);
        sel = NULL;
        samples_release(&s);
        CHECK_OK(try_write(&x), &x.f.err);
    }
    CHECK(n_failed > 0);
    check_all(&x);
    full_close(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fills_and_goes_on),
        cmocka_unit_test(test_start_on_full_disk),
        cmocka_unit_test(test_start_takes_the_reserve),
        cmocka_unit_test(test_no_reserve),
        cmocka_unit_test(test_size),
        cmocka_unit_test(test_merge_on_full_disk),
        cmocka_unit_test(test_failed_sync),
        cmocka_unit_test(test_failed_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
