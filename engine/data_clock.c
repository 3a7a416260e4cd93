/* engine/data_clock.c: see the header. */
#include "engine/data_clock.h"

/* Times far beyond any date: sums with them do not overflow. */
#define MS_MAX (INT64_C(1) << 60)

static int64_t paced_ms(const struct data_clock *dc)
{
    return clock_mono_ns(dc->clock) / 1000000 * DATA_CLOCK_PACE;
}

static void set_now(struct data_clock *dc, int64_t now_ms)
{
    atomic_store_explicit(&dc->offset_ms, now_ms - paced_ms(dc), memory_order_relaxed);
}

void data_clock_start(struct data_clock *dc, struct clock *clock, int64_t newest_ms)
{
    dc->clock = clock;
    int64_t now_ms = clock_wall_ms(clock);
    if (newest_ms != INT64_MIN)
        now_ms = MIN_OF(now_ms, MIN_OF(newest_ms, MS_MAX) + DATA_CLOCK_AHEAD_MS);
    set_now(dc, now_ms);
}

int64_t data_clock_ms(const struct data_clock *dc)
{
    int64_t paced = atomic_load_explicit(&dc->offset_ms, memory_order_relaxed) + paced_ms(dc);
    return MIN_OF(clock_wall_ms(dc->clock), paced);
}

int64_t data_clock_step(struct data_clock *dc)
{
    int64_t now_ms = data_clock_ms(dc);
    set_now(dc, now_ms);
    return clock_wall_ms(dc->clock) - now_ms;
}
