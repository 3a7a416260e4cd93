/* base/clock.c: the system's clocks, and one that tests move. */
#include "base/clock.h"

#include <time.h>

static int64_t system_wall_ms(struct clock *clock)
{
    (void)clock;
    struct timespec ts;
    int rc = clock_gettime(CLOCK_REALTIME, &ts);
    ASSERT(rc == 0);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int64_t system_mono_ns(struct clock *clock)
{
    (void)clock;
    struct timespec ts;
    int rc = clock_gettime(CLOCK_MONOTONIC, &ts);
    ASSERT(rc == 0);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

struct clock *clock_system(void)
{
    static struct clock system = {system_wall_ms, system_mono_ns}; /* never written */
    return &system;
}

static int64_t fake_wall_ms(struct clock *clock)
{
    return CONTAINER_OF(clock, struct clock_fake, clock)->wall_ms;
}

static int64_t fake_mono_ns(struct clock *clock)
{
    return CONTAINER_OF(clock, struct clock_fake, clock)->mono_ns;
}

void clock_fake_init(struct clock_fake *fake, int64_t wall_ms)
{
    *fake = (struct clock_fake){{fake_wall_ms, fake_mono_ns}, wall_ms, 0};
}

void clock_fake_advance(struct clock_fake *fake, int64_t ms)
{
    ASSERT(ms >= 0);
    fake->wall_ms += ms;
    fake->mono_ns += ms * 1000000;
}
