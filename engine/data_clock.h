/* engine/data_clock.h: the time by which data grow too old, and nothing else. A wall clock that jumps ahead must not make
 * a server delete what it has; so this one follows the wall clock, but never faster than a day in an hour, counted on
 * the monotonic clock. It goes back with it at once. At a start it is at most a day past the newest data on the disk: the clock may
 * have jumped while the server was down.
 * Threads: any; it is one number. */
#ifndef QUIPU_ENGINE_DATA_CLOCK_H
#define QUIPU_ENGINE_DATA_CLOCK_H

#include <stdatomic.h>

#include "base/clock.h"

#define DATA_CLOCK_PACE 24 /* times as fast as real time, at most */
#define DATA_CLOCK_AHEAD_MS (INT64_C(24) * 3600 * 1000)

struct data_clock {
    struct clock *clock;
    /* now = min(wall, offset + PACE * monotonic). relaxed: any value it had is a time that was right. */
    _Atomic int64_t offset_ms;
};

/* newest_ms: of the data that are there; INT64_MIN: none, then it begins with the wall clock. */
void data_clock_start(struct data_clock *dc, struct clock *clock, int64_t newest_ms);
int64_t data_clock_ms(const struct data_clock *dc);
/* Every second or so: what the pace counts from. Returns how far the wall clock is ahead, in ms. */
int64_t data_clock_step(struct data_clock *dc);

#endif
