/* tests/engine/test_clock_jump.c: the wall clock jumps, ahead and back, by hours and by years. Nothing that was acknowledged
 * is lost by it, and nothing is deleted because of a clock that was ahead for a while. */
#include "engine/data_clock.h"
#include "tests/engine/fixture.h"

#define HOUR_MS (INT64_C(3600) * 1000)
#define DAY_MS (24 * HOUR_MS)
#define YEAR_MS (365 * DAY_MS)

static size_t count_samples(struct fixture *f, const char *tenant)
{
    struct engine_select *sel;
    struct tenant *t = fixture_tenant(f, tenant);
    size_t n = 0;
    CHECK_OK(tenant_select(t, NULL, 0, INT64_MIN, INT64_MAX, &sel, &f->err), &f->err);
    for (size_t i = 0; i < select_count(sel); i++) {
        struct samples s;
        samples_init(&s, MEM_QUERY, NULL);
        CHECK_OK(select_read(sel, i, INT64_MIN, INT64_MAX, &s, &f->err), &f->err);
        n += s.n;
        samples_release(&s);
    }
    select_release(sel);
    return n;
}

static void steps(struct fixture *f, int n, int64_t each_ms)
{
    for (int i = 0; i < n; i++) {
        CHECK_OK(engine_step(f->engine, &f->err), &f->err);
        clock_fake_advance(&f->clock, each_ms);
    }
    CHECK_OK(engine_step(f->engine, &f->err), &f->err);
}

/* Ten days of data in blocks. */
static void open_with_data(struct fixture *f)
{
    fixture_init(f);
    f->config.retention_ms = 15 * DAY_MS;
    CHECK_OK(engine_open(&f->env, &f->config, &f->engine, &f->err), &f->err);
    struct tenant *t = fixture_tenant(f, "default");
    for (int day = 10; day >= 0; day--) {
        for (int i = 0; i < 10; i++) write_one(f, t, i, NOW_MS - day * DAY_MS - i * 60000, i);
        CHECK_OK(engine_flush(f->engine, NULL, &f->err), &f->err);
    }
    CHECK(count_samples(f, "default") == 110);
}

static void test_ahead_for_a_moment(void **state)
{
    (void)state;
    static const int64_t jumps[] = {HOUR_MS, 20 * DAY_MS, 10 * YEAR_MS, 1000 * YEAR_MS};
    for (size_t i = 0; i < COUNT_OF(jumps); i++) {
        struct fixture f;
        open_with_data(&f);
        f.clock.wall_ms += jumps[i];
        steps(&f, 100, 60000); /* an hour and more of it */
        CHECK(count_samples(&f, "default") == 110);
        struct tenant *t = fixture_tenant(&f, "default");
        write_one(&f, t, 1, NOW_MS,
                  42); /* of a sender whose clock is right: not too old, also now */
        f.clock.wall_ms -= jumps[i];
        steps(&f, 10, 60000);
        write_one(&f, t, 2, NOW_MS + 1000, 42);
        fixture_reopen(&f, true);
        CHECK(count_samples(&f, "default") == 112);
        fixture_close(&f);
    }
}

/* The clock went wrong while the server was down. */
static void test_ahead_at_start(void **state)
{
    (void)state;
    struct fixture f;
    open_with_data(&f);
    CHECK_OK(engine_close(f.engine, false, &f.err), &f.err);
    f.clock.wall_ms += 10 * YEAR_MS;
    CHECK_OK(engine_open(&f.env, &f.config, &f.engine, &f.err), &f.err);
    steps(&f, 100, 60000);
    CHECK(count_samples(&f, "default") == 110);
    f.clock.wall_ms -= 10 * YEAR_MS;
    fixture_reopen(&f, true);
    steps(&f, 100, 60000);
    CHECK(count_samples(&f, "default") == 110);
    fixture_close(&f);
}

/* Real time does delete: at its own pace, and after a long sleep at a day an hour. */
static void test_time_that_passed(void **state)
{
    (void)state;
    struct fixture f;
    open_with_data(&f);
    steps(&f, 8 * 24, HOUR_MS); /* eight days on: the first three or so are too old */
    CHECK(count_samples(&f, "default") < 110);
    CHECK(count_samples(&f, "default") >= 70);
    CHECK_OK(engine_close(f.engine, false, &f.err), &f.err);
    clock_fake_advance(&f.clock, 30 * DAY_MS);
    CHECK_OK(engine_open(&f.env, &f.config, &f.engine, &f.err), &f.err);
    CHECK_OK(engine_step(f.engine, &f.err), &f.err);
    CHECK(count_samples(&f, "default") > 0);
    steps(&f, 40, HOUR_MS);
    CHECK(count_samples(&f, "default") == 0);
    fixture_close(&f);
}

/* Back by a day while it runs: heads are flushed, blocks merged, and what is written stays. */
static void test_back(void **state)
{
    (void)state;
    static const int64_t jumps[] = {HOUR_MS, DAY_MS, YEAR_MS};
    for (size_t i = 0; i < COUNT_OF(jumps); i++) {
        struct fixture f;
        open_with_data(&f);
        struct tenant *t = fixture_tenant(&f, "default");
        f.clock.wall_ms -= jumps[i];
        int64_t now_ms = f.clock.wall_ms;
        for (int k = 0; k < 50; k++) {
            write_one(&f, t, 100 + k % 5, now_ms + k * 60000, k);
            steps(&f, 1, 60000);
        }
        struct tenant_stats stats;
        tenant_stats(t, &stats);
        CHECK(stats.head_samples <=
              31 * 2); /* the window of half an hour goes by the other clock */
        CHECK(count_samples(&f, "default") == 160);
        fixture_reopen(&f, false);
        CHECK(count_samples(&f, "default") == 160);
        f.clock.wall_ms += jumps[i];
        steps(&f, 10, 60000);
        fixture_reopen(&f, true);
        CHECK(count_samples(&f, "default") == 160);
        fixture_close(&f);
    }
}

/* Names of blocks hold the time, and say nothing: they are never the same, whatever the clock does. */
static void test_names_of_blocks(void **state)
{
    (void)state;
    struct ulid made[200];
    struct rng rng;
    rng_seed(&rng, test_seed());
    for (size_t i = 0; i < COUNT_OF(made); i++) {
        int64_t t_ms = i % 3 == 0 ? NOW_MS : i % 3 == 1 ? -5 : INT64_MAX - (int64_t)i;
        ulid_make(&made[i], t_ms, &rng);
        struct ulid parsed;
        CHECK(ulid_parse(str_of(made[i].text), &parsed));
        for (size_t k = 0; k < i; k++) CHECK(strcmp(made[i].text, made[k].text) != 0);
    }
}

static void test_data_clock(void **state)
{
    (void)state;
    struct clock_fake fake;
    struct data_clock dc;
    clock_fake_init(&fake, NOW_MS);
    data_clock_start(&dc, &fake.clock, INT64_MIN);
    CHECK(data_clock_ms(&dc) == NOW_MS);
    clock_fake_advance(&fake, HOUR_MS);
    CHECK(data_clock_step(&dc) == 0);
    fake.wall_ms += 10 * YEAR_MS;
    CHECK(data_clock_step(&dc) == 10 * YEAR_MS);
    clock_fake_advance(&fake, HOUR_MS);
    CHECK(data_clock_ms(&dc) == NOW_MS + HOUR_MS + DAY_MS);
    fake.wall_ms -= 10 * YEAR_MS;
    CHECK(data_clock_ms(&dc) == NOW_MS + 2 * HOUR_MS);
    CHECK(data_clock_step(&dc) == 0);
    fake.wall_ms -= HOUR_MS; /* back at once, and after it as fast as it may */
    CHECK(data_clock_step(&dc) == 0);
    fake.wall_ms += HOUR_MS;
    clock_fake_advance(&fake, HOUR_MS / 20);
    CHECK(data_clock_step(&dc) == 0);
    data_clock_start(&dc, &fake.clock, NOW_MS - YEAR_MS);
    CHECK(data_clock_ms(&dc) == NOW_MS - YEAR_MS + DAY_MS);
    data_clock_start(&dc, &fake.clock, INT64_MAX);
    CHECK(data_clock_ms(&dc) == fake.wall_ms);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_data_clock),     cmocka_unit_test(test_ahead_for_a_moment),
        cmocka_unit_test(test_ahead_at_start), cmocka_unit_test(test_time_that_passed),
        cmocka_unit_test(test_back),           cmocka_unit_test(test_names_of_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
