/* tests/engine/test_admit.c: a tenant's rate, and its share of what waits for the disk. */
#include "engine/rate.h"
#include "tests/engine/fixture.h"
#include "tests/sim/io_sim.h"

#define SECOND_NS INT64_C(1000000000)

static void test_rate(void **state)
{
    (void)state;
    struct rate r = {.per_second = 100, .burst = 50};
    int64_t now = 5 * SECOND_NS;
    CHECK(rate_wait_ns(&r, now) == 0);
    rate_take(&r, now, 49);
    CHECK(rate_wait_ns(&r, now) == 0);
    rate_take(&r, now, 1); /* the burst */
    CHECK(rate_wait_ns(&r, now) > 0);
    CHECK(rate_wait_ns(&r, now + SECOND_NS / 100) == 0);
    rate_take(&r, now + SECOND_NS / 100,
              1000); /* more than the bucket has: waited for afterwards */
    int64_t wait = rate_wait_ns(&r, now + SECOND_NS / 100);
    CHECK(wait > 9 * SECOND_NS && wait <= 10 * SECOND_NS);
    CHECK(rate_wait_ns(&r, now + 20 * SECOND_NS) == 0);
    r.per_second = 0;
    CHECK(rate_wait_ns(&r, now) == 0);
}

/* Over any span, no more than the burst, one request, and the rate times the span comes in; and nearly so much. */
static void check_rate(struct rng *rng)
{
    uint64_t per_second = 1 + rng_below(rng, 100000), burst = 1 + rng_below(rng, 100000);
    uint64_t largest = 1 + rng_below(rng, 5000), taken = 0;
    struct rate r = {.per_second = per_second, .burst = burst};
    int64_t now = (int64_t)rng_below(rng, 1u << 30), begin = now;
    for (int i = 0; i < 2000; i++) {
        now += (int64_t)rng_below(rng, 20000000);
        if (rate_wait_ns(&r, now)) continue;
        uint64_t n = 1 + rng_below(rng, largest);
        rate_take(&r, now, n);
        taken += n;
        double allowed =
            (double)burst + (double)largest + 1 + (double)per_second * (double)(now - begin) / 1e9;
        CHECK((double)taken <= allowed * 1.0001);
    }
    CHECK(taken > 0);
}

/* Over any span, no more than the burst, one request, and the rate times the span comes in. */
static void rate_holds(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 200) check_rate(&rng);
}

struct slow {
    struct fixture f;
    struct io_sim *disk;
    struct done done;
    int n_sent;
};

static void slow_open(struct slow *x)
{
    memset(x, 0, sizeof(*x));
    fixture_init(&x->f);
    x->disk = io_sim_new(1);
    x->f.env.io = io_sim_io(x->disk);
    x->f.config.data_dir = "/data";
    x->f.config.wal_queue_bytes_max = 64 << 10;
    CHECK_OK(engine_open(&x->f.env, &x->f.config, &x->f.engine, &x->f.err), &x->f.err);
}

/* Without threads nothing reaches the disk before a commit: so all of it waits. */
static enum err_code send_some(struct slow *x, struct tenant *t)
{
    enum { N = 100 };
    struct series *series[N];
    int64_t t_ms[N], retry_ms;
    double v[N];
    enum err_code rc = tenant_admit(t, &retry_ms, &x->f.err);
    if (rc) return rc;
    tenant_write_begin(t);
    for (int i = 0; i < N; i++) {
        series[i] = fixture_series(&x->f, t, i);
        t_ms[i] = NOW_MS + x->n_sent;
        v[i] = i * 0.7 + x->n_sent;
    }
    struct write_batch b = {.n = N, .series = series, .t_ms = t_ms, .v = v};
    struct write_result result;
    rc = tenant_write(t, &b, note_done, &x->done, &result, &x->f.err);
    tenant_write_end(t);
    x->n_sent += !rc;
    return rc;
}

static void test_share_of_the_log(void **state)
{
    (void)state;
    struct slow x;
    slow_open(&x);
    struct tenant *flood = fixture_tenant(&x.f, "flood");
    struct tenant *few[] = {fixture_tenant(&x.f, "a"), fixture_tenant(&x.f, "b"),
                            fixture_tenant(&x.f, "c")};
    enum err_code rc = ERR_OK;
    for (int i = 0; !rc && i < 1000; i++) rc = send_some(&x, flood);
    CHECK(rc == ERR_LIMIT);
    /* Others find room all the same, each of them. */
    for (size_t i = 0; i < COUNT_OF(few); i++) CHECK_OK(send_some(&x, few[i]), &x.f.err);
    CHECK(send_some(&x, flood) == ERR_LIMIT);
    CHECK_OK(engine_commit(x.f.engine, &x.f.err), &x.f.err);
    CHECK(x.done.n == x.n_sent && x.done.rc == ERR_OK);
    CHECK_OK(send_some(&x, flood), &x.f.err); /* it ends by itself */
    CHECK_OK(engine_commit(x.f.engine, &x.f.err), &x.f.err);
    fixture_close(&x.f);
    io_sim_free(x.disk);
}

static void test_rate_of_tenants(void **state)
{
    (void)state;
    struct fixture f;
    int64_t retry_ms;
    fixture_init(&f);
    struct engine_override overrides[] = {
        {.tenant = STR("free"), .has_samples_rate = true, .samples_rate = 0},
        {.tenant = STR("more"), .has_samples_burst = true, .samples_burst = 1000}};
    f.config.samples_rate = 10;
    f.config.samples_burst = 3;
    f.config.overrides = overrides;
    f.config.n_overrides = COUNT_OF(overrides);
    CHECK_OK(engine_open(&f.env, &f.config, &f.engine, &f.err), &f.err);
    struct tenant *t = fixture_tenant(&f, "default"), *other = fixture_tenant(&f, "other");
    struct tenant *unbounded = fixture_tenant(&f, "free"), *more = fixture_tenant(&f, "more");
    for (int i = 0; i < 3; i++) {
        CHECK_OK(tenant_admit(t, &retry_ms, &f.err), &f.err);
        write_one(&f, t, i, NOW_MS, i);
    }
    CHECK_ERR(tenant_admit(t, &retry_ms, &f.err), ERR_RATE);
    CHECK(retry_ms > 0 && retry_ms <= 101);
    CHECK(strstr(f.err.text, "limits.samples_per_second") != NULL);
    CHECK_OK(tenant_admit(other, &retry_ms, &f.err), &f.err); /* nobody else's business */
    for (int i = 0; i < 20; i++) write_one(&f, unbounded, i, NOW_MS, i);
    CHECK_OK(tenant_admit(unbounded, &retry_ms, &f.err), &f.err);
    for (int i = 0; i < 20; i++) write_one(&f, more, i, NOW_MS, i);
    CHECK_OK(tenant_admit(more, &retry_ms, &f.err), &f.err);
    clock_fake_advance(&f.clock, 200);
    CHECK_OK(tenant_admit(t, &retry_ms, &f.err), &f.err);
    f.config.samples_rate = 0; /* at run time */
    engine_reconfigure(f.engine, &f.config);
    for (int i = 0; i < 50; i++) write_one(&f, t, i, NOW_MS + 1, i);
    CHECK_OK(tenant_admit(t, &retry_ms, &f.err), &f.err);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rate), cmocka_unit_test(rate_holds),
                                       cmocka_unit_test(test_share_of_the_log),
                                       cmocka_unit_test(test_rate_of_tenants)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
