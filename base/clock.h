/* base/clock.h: time through an interface, so that tests can move it. */
#ifndef QUIPU_BASE_CLOCK_H
#define QUIPU_BASE_CLOCK_H

#include "base/defs.h"

struct clock {
    int64_t (*wall_ms)(struct clock *clock); /* since 1970, may jump either way */
    int64_t (*mono_ns)(struct clock *clock); /* never goes back */
};

struct clock *clock_system(void); /* static */

struct clock_fake {
    struct clock clock; /* first */
    int64_t wall_ms, mono_ns;
};
void clock_fake_init(struct clock_fake *fake, int64_t wall_ms);
void clock_fake_advance(struct clock_fake *fake, int64_t ms); /* both; not thread-safe */

static inline int64_t clock_wall_ms(struct clock *clock)
{
    return clock->wall_ms(clock);
}
static inline int64_t clock_mono_ns(struct clock *clock)
{
    return clock->mono_ns(clock);
}

#endif
