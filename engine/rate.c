/* engine/rate.c: see the header. */
#include "engine/rate.h"

/* 30 years: what is longer need not be exact. */
#define NS_MAX 1e18

static int64_t time_of(double n, uint64_t per_second)
{
    double ns = n * 1e9 / (double)per_second;
    return ns < NS_MAX ? (int64_t)ns : (int64_t)NS_MAX;
}

int64_t rate_wait_ns(const struct rate *rate, int64_t now_ns)
{
    uint64_t per_second = atomic_load_explicit(&rate->per_second, memory_order_relaxed);
    if (LIKELY(per_second == 0)) return 0;
    uint64_t burst = atomic_load_explicit(&rate->burst, memory_order_relaxed);
    int64_t burst_ns =
        burst ? time_of((double)burst, per_second) : RATE_BURST_SECONDS * INT64_C(1000000000);
    int64_t behind_ns = atomic_load_explicit(&rate->due_ns, memory_order_relaxed) - now_ns;
    return behind_ns < burst_ns ? 0 : behind_ns - burst_ns + 1;
}

void rate_take(struct rate *rate, int64_t now_ns, uint64_t n)
{
    uint64_t per_second = atomic_load_explicit(&rate->per_second, memory_order_relaxed);
    if (LIKELY(per_second == 0)) return;
    int64_t cost_ns = time_of((double)n, per_second);
    int64_t due = atomic_load_explicit(&rate->due_ns, memory_order_relaxed), next;
    do next = MIN_OF(MAX_OF(due, now_ns), INT64_MAX - (int64_t)NS_MAX) + cost_ns;
    while (!atomic_compare_exchange_weak_explicit(&rate->due_ns, &due, next, memory_order_relaxed,
                                                  memory_order_relaxed));
}
