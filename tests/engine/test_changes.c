/* tests/engine/test_changes.c: what alters the past is told to those who remember it; estimates and bounds of selects. */
#include "tests/engine/fixture.h"

#define MINUTE 60000
#define MAX_CHANGES 64 /* told apart; engine/changes.h */

static void test_late_samples(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    struct tenant *t = fixture_tenant(&f, "a"), *other = fixture_tenant(&f, "b");
    write_one(&f, t, 1, NOW_MS - 5 * MINUTE, 1);
    uint64_t n = tenant_settle(t, NOW_MS - 10 * MINUTE);
    CHECK_I64(tenant_changed_since(t, n), INT64_MAX);
    write_one(&f, t, 1, NOW_MS - 9 * MINUTE, 1); /* late, but nobody remembers as far */
    CHECK_I64(tenant_changed_since(t, n), INT64_MAX);
    write_one(&f, t, 1, NOW_MS - 10 * MINUTE, 1);
    CHECK_I64(tenant_changed_since(t, n), NOW_MS - 10 * MINUTE);
    write_one(&f, t, 2, NOW_MS - 30 * MINUTE, 1);
    write_one(&f, t, 2, NOW_MS - 20 * MINUTE, 1);
    CHECK_I64(tenant_changed_since(t, n), NOW_MS - 30 * MINUTE);
    write_one(&f, other, 2, NOW_MS - 50 * MINUTE, 1);
    CHECK_I64(tenant_changed_since(t, n), NOW_MS - 30 * MINUTE);
    /* Who asks now knows all that; only what follows counts. How far one of them remembers, all do. */
    uint64_t later = tenant_settle(t, NOW_MS - 60 * MINUTE);
    CHECK_I64(tenant_changed_since(t, later), INT64_MAX);
    write_one(&f, t, 2, NOW_MS - 15 * MINUTE, 1);
    CHECK_I64(tenant_changed_since(t, later), NOW_MS - 15 * MINUTE);
    CHECK_I64(tenant_changed_since(t, n), NOW_MS - 30 * MINUTE);
    tenant_changed(t, 5, 7);
    CHECK_I64(tenant_changed_since(t, later), 5);
    fixture_close(&f);
}

/* More changes than are told apart: the oldest reader is told that nobody knows. */
static void test_forgotten(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    struct tenant *t = fixture_tenant(&f, "a");
    uint64_t first = tenant_settle(t, NOW_MS), n = first;
    for (int i = 1; i <= MAX_CHANGES; i++) {
        tenant_changed(t, NOW_MS - i, NOW_MS);
        CHECK_I64(tenant_changed_since(t, n), NOW_MS - i);
        n = tenant_settle(t, NOW_MS);
    }
    CHECK_I64(tenant_changed_since(t, first), NOW_MS - MAX_CHANGES);
    tenant_changed(t, NOW_MS, NOW_MS);
    CHECK_I64(tenant_changed_since(t, first), INT64_MIN);
    CHECK_I64(tenant_changed_since(t, n), NOW_MS);
    fixture_close(&f);
}

static void test_retention(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    f.config.retention_ms = INT64_C(86400000);
    CHECK_OK(engine_open(&f.env, &f.config, &f.engine, &f.err), &f.err);
    struct tenant *t = fixture_tenant(&f, "a");
    write_one(&f, t, 1, NOW_MS - 20 * MINUTE, 1);
    CHECK_OK(engine_flush(f.engine, t, &f.err), &f.err);
    uint64_t n = tenant_settle(t, NOW_MS);
    clock_fake_advance(&f.clock, INT64_C(3) * 86400000);
    CHECK_OK(engine_step(f.engine, &f.err), &f.err);
    struct tenant_stats stats;
    tenant_stats(t, &stats);
    CHECK_U64(stats.blocks, 0);
    CHECK_I64(tenant_changed_since(t, n), NOW_MS - 20 * MINUTE);
    fixture_close(&f);
}

static struct tenant_estimate estimate(struct fixture *f, struct tenant *t, const char *value,
                                       int64_t mint_ms)
{
    struct matcher m = {.name = STR("i"), .op = MATCH_EQ, .value = str_of(value)};
    struct tenant_estimate e;
    CHECK_OK(tenant_estimate(t, &m, *value ? 1 : 0, mint_ms, NOW_MS, &e, &f->err), &f->err);
    return e;
}

static void test_estimate(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    struct tenant *t = fixture_tenant(&f, "a");
    CHECK_U64(estimate(&f, t, "", 0).series, 0);
    for (int part = 0; part < 2; part++) { /* a block, then the head */
        for (int i = 0; i < 4; i++)
            for (int k = 0; k < 10; k++)
                write_one(&f, t, i, NOW_MS - (20 - part * 10 - k) * MINUTE, k);
        if (!part) CHECK_OK(engine_flush(f.engine, t, &f.err), &f.err);
    }
    struct tenant_estimate all = estimate(&f, t, "", 0), one = estimate(&f, t, "2", 0);
    CHECK_U64(all.series, 4);
    CHECK_U64(all.samples, 80);
    CHECK_U64(one.series, 1);
    CHECK_U64(one.samples, 20);
    CHECK_U64(estimate(&f, t, "none", 0).series, 0);
    struct tenant_estimate newer = estimate(&f, t, "", NOW_MS - 10 * MINUTE);
    CHECK(newer.samples >= 36 && newer.samples <= 44);
    fixture_close(&f);
}

static enum err_code stop(void *ctx, struct err *err)
{
    (*(int *)ctx)++;
    return err_set(err, ERR_CANCELED, "enough");
}

static void test_bounds(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    struct tenant *t = fixture_tenant(&f, "a");
    for (int part = 0; part < 2; part++) { /* in the head, then in a block */
        for (int i = 0; i < 4; i++) write_one(&f, t, i, NOW_MS - MINUTE, part);
        struct engine_select *sel;
        for (size_t max = 3; max <= 4; max++) {
            struct select_bounds b = {.series_max = max};
            enum err_code rc = tenant_select_bounded(t, NULL, 0, 0, NOW_MS, &b, &sel, &f.err);
            CHECK(rc == (max < 4 ? ERR_LIMIT : ERR_OK));
            CHECK((sel == NULL) == (max < 4));
            select_release(sel);
        }
        CHECK_OK(engine_flush(f.engine, t, &f.err), &f.err);
    }
    int polled = 0;
    struct select_bounds b = {.poll = stop, .ctx = &polled};
    struct engine_select *sel;
    CHECK(tenant_select_bounded(t, NULL, 0, 0, NOW_MS, &b, &sel, &f.err) == ERR_CANCELED);
    CHECK(sel == NULL && polled == 1);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_late_samples), cmocka_unit_test(test_forgotten),
        cmocka_unit_test(test_retention),    cmocka_unit_test(test_estimate),
        cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
