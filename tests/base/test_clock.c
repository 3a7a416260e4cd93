#include "tests/quipu_test.h"

#include "base/clock.h"

static void system_clock_is_sane(void **state)
{
    (void)state;
    struct clock *clock = clock_system();
    CHECK(clock_wall_ms(clock) > INT64_C(1700000000000));
    int64_t last = clock_mono_ns(clock);
    for (int i = 0; i < 1000; i++) {
        int64_t now = clock_mono_ns(clock);
        CHECK(now >= last);
        last = now;
    }
}

static void fake_clock_moves_by_hand(void **state)
{
    (void)state;
    struct clock_fake fake;
    clock_fake_init(&fake, 5000);
    CHECK_I64(clock_wall_ms(&fake.clock), 5000);
    CHECK_I64(clock_mono_ns(&fake.clock), 0);
    clock_fake_advance(&fake, 250);
    CHECK_I64(clock_wall_ms(&fake.clock), 5250);
    CHECK_I64(clock_mono_ns(&fake.clock), 250000000);
    fake.wall_ms = -1; /* the wall clock may jump */
    CHECK_I64(clock_wall_ms(&fake.clock), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(system_clock_is_sane),
        cmocka_unit_test(fake_clock_moves_by_hand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
