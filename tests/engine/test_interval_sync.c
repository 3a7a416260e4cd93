/* tests/engine/test_interval_sync.c: with wal.sync = interval an acknowledged sample may be lost within the interval,
 * but not after a commit that succeeded: not even if an earlier fsync failed for which no request waited. */
#include <unistd.h>

#include "tests/engine/fixture.h"
#include "tests/sim/io_sim.h"

struct interval {
    struct fixture f;
    struct io_sim *disk;
};

static void interval_init(struct interval *x, uint64_t seed)
{
    fixture_init(&x->f);
    x->disk = io_sim_new(seed);
    x->f.env.io = io_sim_io(x->disk);
    x->f.env.clock = clock_system();
    x->f.env.threads = true;
    x->f.config.data_dir = "/data";
    x->f.config.wal_sync = WAL_SYNC_INTERVAL;
    CHECK_OK(engine_open(&x->f.env, &x->f.config, &x->f.engine, &x->f.err), &x->f.err);
}

static void tell(void *arg, enum err_code rc)
{
    atomic_store((_Atomic int *)arg, 1 + (int)rc);
}

/* Returns when the log has told. */
static enum err_code write_and_wait(struct fixture *f, struct tenant *t, int series, int64_t t_ms,
                                    double v)
{
    _Atomic int told = 0; /* 0: not yet, else 1 + rc */
    struct write_result result;
    tenant_write_begin(t);
    struct series *s = fixture_series(f, t, series);
    struct write_batch b = {.n = 1, .series = &s, .t_ms = &t_ms, .v = &v};
    enum err_code rc = tenant_write(t, &b, tell, &told, &result, &f->err);
    tenant_write_end(t);
    if (rc) return rc;
    while (atomic_load(&told) == 0) usleep(1000);
    return (enum err_code)(atomic_load(&told) - 1);
}

static uint64_t failures(struct fixture *f)
{
    return metric_value(metric_counter(f->env.metrics, "quipu_wal_failures_total",
                                       "Failed writes and fsyncs; each abandons a segment.", ""));
}

static void lose_a_definition(uint64_t seed)
{
    struct interval x;
    struct fixture *f = &x.f;
    interval_init(&x, seed);
    struct tenant *t = fixture_tenant(f, "default");
    int64_t now_ms = clock_wall_ms(f->env.clock);
    /* The first write is synced, as the last sync is long ago; the second waits for the interval. Should this thread
     * sleep so long that it does not, then once more. */
    CHECK(write_and_wait(f, t, 1, now_ms - 2000, 1) == ERR_OK);
    /* The new tenant's snapshot is written now, not when the failure is meant for the log. */
    CHECK_OK(engine_step(f->engine, &f->err), &f->err);
    for (int i = 0; failures(f) == 0; i++) {
        io_sim_heal(x.disk);
        CHECK(write_and_wait(f, t, 2, now_ms - 2000 + i, 1) == ERR_OK);
        io_sim_fail(x.disk, 1, IO_SIM_EIO);
        for (int wait = 0; failures(f) == 0 && wait < 3000; wait++) usleep(1000);
    }
    while (write_and_wait(f, t, 2, now_ms - 1000, 2) != ERR_OK) usleep(1000);
    /* The first commit may still tell of what the failure took. */
    while (engine_commit(f->engine, &f->err)) usleep(1000);
    io_sim_power_cut(x.disk);
    err_ignore(engine_close(f->engine, false, &f->err)); /* of a dead disk: frees */

    CHECK_OK(engine_open(&f->env, &f->config, &f->engine, &f->err), &f->err);
    struct engine_select *sel;
    struct samples s;
    t = fixture_tenant(f, "default");
    CHECK_OK(tenant_select(t, NULL, 0, now_ms - 1000, now_ms, &sel, &f->err), &f->err);
    CHECK(select_count(sel) == 1);
    samples_init(&s, MEM_QUERY, NULL);
    CHECK_OK(select_read(sel, 0, now_ms - 1000, now_ms - 1000, &s, &f->err), &f->err);
    CHECK(s.n == 1 && s.v[0] == 2);
    samples_release(&s);
    select_release(sel);
    fixture_close(f);
    io_sim_free(x.disk);
}

static void test_failed_sync_nobody_waits_for(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++) lose_a_definition(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_failed_sync_nobody_waits_for)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
