/* engine/admit.c: may a tenant write? Its own rate, and its share of the log's queue while others want some.
 *
 * Three quarters of the queue are for whoever comes first; the last one is divided by those who have records in it. So one
 * tenant that sends more than the disk takes cannot keep another one's request out. */
#include <inttypes.h>

#include "engine/engine_private.h"

static enum err_code check_rate(struct tenant *t, int64_t *retry_after_ms, struct err *err)
{
    int64_t wait_ns = rate_wait_ns(&t->rate, clock_mono_ns(t->engine->env.clock));
    if (LIKELY(wait_ns == 0)) return ERR_OK;
    *retry_after_ms = (wait_ns + 999999) / 1000000;
    metric_inc(t->metrics.rate_limited);
    return err_set(err, ERR_RATE,
                   "tenant %s is over its limit of %" PRIu64
                   " samples a second (limits.samples_per_second)",
                   t->name, atomic_load_explicit(&t->rate.per_second, memory_order_relaxed));
}

static enum err_code check_share(struct tenant *t, struct err *err)
{
    struct engine *e = t->engine;
    uint64_t last = e->config.wal_queue_bytes_max / 4;
    uint64_t all = atomic_load_explicit(&e->log_waiting, memory_order_relaxed);
    if (LIKELY(all <= 3 * last)) return ERR_OK;
    uint64_t own = atomic_load_explicit(&t->log_waiting, memory_order_relaxed);
    int32_t n = atomic_load_explicit(&e->n_log_waiting, memory_order_relaxed);
    uint64_t share = last / (uint64_t)MAX_OF(n, 1);
    if (own <= share) return ERR_OK;
    metric_inc(t->metrics.over_share);
    return err_set(err, ERR_LIMIT,
                   "the disk is slow: %" PRIu64 " bytes wait for it, %" PRIu64
                   " of tenant %s, whose share is %" PRIu64,
                   all, own, t->name, share);
}

enum err_code tenant_admit(struct tenant *t, int64_t *retry_after_ms, struct err *err)
{
    *retry_after_ms = 0;
    enum err_code rc = check_rate(t, retry_after_ms, err);
    return rc ? rc : check_share(t, err);
}

void tenant_log_wait(struct tenant *t, uint64_t bytes)
{
    atomic_fetch_add_explicit(&t->engine->log_waiting, bytes, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&t->log_waiting, bytes, memory_order_relaxed) == 0 && bytes)
        atomic_fetch_add_explicit(&t->engine->n_log_waiting, 1, memory_order_relaxed);
}

void tenant_log_done(struct tenant *t, uint64_t bytes)
{
    atomic_fetch_sub_explicit(&t->engine->log_waiting, bytes, memory_order_relaxed);
    if (atomic_fetch_sub_explicit(&t->log_waiting, bytes, memory_order_relaxed) == bytes && bytes)
        atomic_fetch_sub_explicit(&t->engine->n_log_waiting, 1, memory_order_relaxed);
}
