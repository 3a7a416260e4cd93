/* tests/engine/test_engine.c: the whole engine on a real folder: write, read, flush, reopen. */
#include "tests/engine/fixture.h"

static void write_read_flush_reopen(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    struct tenant *t = fixture_tenant(&f, "default");
    for (int k = 0; k < 10; k++)
        for (int i = 0; i < 100; i++)
            write_one(&f, t, i, f.clock.wall_ms - 10000 + k * 1000, i * 10 + k);
    for (int stage = 0; stage < 4; stage++) {
        if (stage == 1) CHECK_OK(engine_flush(f.engine, NULL, &f.err), &f.err);
        if (stage == 2) fixture_reopen(&f, false);
        if (stage == 3) fixture_reopen(&f, true);
        t = fixture_tenant(&f, "default");
        struct engine_select *sel;
        struct matcher m = {.op = MATCH_EQ, .name = STR(LABEL_NAME), .value = STR("m")};
        CHECK_OK(tenant_select(t, &m, 1, INT64_MIN, INT64_MAX, &sel, &f.err), &f.err);
        CHECK_U64(select_count(sel), 100);
        struct samples s;
        samples_init(&s, MEM_QUERY, NULL);
        for (size_t i = 0; i < 100; i++) {
            samples_reset(&s);
            CHECK_OK(select_read(sel, i, INT64_MIN, INT64_MAX, &s, &f.err), &f.err);
            CHECK_U64(s.n, 10);
        }
        samples_release(&s);
        select_release(sel);
    }
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(write_read_flush_reopen)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
