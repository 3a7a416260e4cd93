/* engine/rate.h: samples that a tenant may send in a second, as a bucket that runs full at that rate ("generic cell rate
 * algorithm", ATM Forum TM 4.0). A request is let in while the bucket holds anything and then takes what it needs, also more
 * than is there: so no request is too large to ever come in, and what is too much is waited for afterwards.
 * Threads: any. The clock is the monotonic one. */
#ifndef QUIPU_ENGINE_RATE_H
#define QUIPU_ENGINE_RATE_H

#include <stdatomic.h>

#include "base/defs.h"

#define RATE_BURST_SECONDS 10 /* burst 0: so many seconds' worth */

struct rate {
    _Atomic uint64_t per_second; /* 0: no limit. relaxed, as all here */
    _Atomic uint64_t burst;
    _Atomic int64_t due_ns; /* when the bucket is full again */
};

/* 0: go on; else in so many ns. */
int64_t rate_wait_ns(const struct rate *rate, int64_t now_ns);
void rate_take(struct rate *rate, int64_t now_ns, uint64_t n);

#endif
