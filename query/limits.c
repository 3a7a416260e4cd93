/* query/limits.c: see the header. */
#include "query/limits.h"

#include <inttypes.h>
#include <stdio.h>

#define LIMIT_SAMPLES_DEFAULT 50000000
#define LIMIT_WORK_DEFAULT UINT64_C(1000000000000)
#define BATCH_SERIES_DEFAULT 256

struct query_limits query_limits_default(void)
{
    return (struct query_limits){.timeout_ms = 120000,
                                 .samples_max = LIMIT_SAMPLES_DEFAULT,
                                 .work_max = LIMIT_WORK_DEFAULT,
                                 .memory_bytes_max = (size_t)1 << 30,
                                 .lookback_ms = 300000,
                                 .subquery_step_ms = 60000,
                                 .slow_ms = 5000,
                                 .batch_series = BATCH_SERIES_DEFAULT};
}

/* Of bounds for which 0 is none. */
static uint64_t tighter(uint64_t a, uint64_t b)
{
    return !a || !b ? MAX_OF(a, b) : MIN_OF(a, b);
}

void query_limits_join(struct query_limits *limits, const struct query_limits *other)
{
    limits->slow_ms = (int64_t)tighter((uint64_t)limits->slow_ms, (uint64_t)other->slow_ms);
    limits->timeout_ms = MIN_OF(limits->timeout_ms, other->timeout_ms);
    limits->series_max = tighter(limits->series_max, other->series_max);
    limits->samples_max = MIN_OF(limits->samples_max, other->samples_max);
    limits->work_max = tighter(limits->work_max, other->work_max);
    limits->response_bytes_max = tighter(limits->response_bytes_max, other->response_bytes_max);
    limits->tenant_memory_bytes_max =
        tighter(limits->tenant_memory_bytes_max, other->tenant_memory_bytes_max);
    limits->memory_bytes_max = tighter(limits->memory_bytes_max, other->memory_bytes_max);
}

static const struct {
    const char *key, *unit;
} LIMITS[QUERY_LIMITS_N] = {
    [LIMIT_TIMEOUT] = {"query.timeout", " ms"},
    [LIMIT_SERIES] = {"query.series_max", ""},
    [LIMIT_SAMPLES] = {"query.samples_max", ""},
    [LIMIT_WORK] = {"query.work_max", ""},
    [LIMIT_RESPONSE] = {"query.response_max", " B"},
    [LIMIT_MEMORY] = {"query.memory_max", " B"},
    [LIMIT_TENANT_MEMORY] = {"query.tenant_memory", " B"},
    [LIMIT_BLOCKED] = {"query.blocked", ""},
};

const char *query_limit_key(enum query_limit limit)
{
    ASSERT(limit < QUERY_LIMITS_N);
    return LIMITS[limit].key;
}

const char *query_limit_name(enum query_limit limit)
{
    return query_limit_key(limit) + strlen("query.");
}

void query_progress_init(struct query_progress *progress)
{
    *progress = (struct query_progress){.limit = LIMIT_NONE};
}

void query_progress_share(struct query_progress *progress, struct tenant_memory *shared)
{
    progress->shared = shared;
    if (shared) atomic_fetch_add_explicit(&shared->n_queries, 1, memory_order_relaxed);
}

void query_progress_memory(struct query_progress *progress, size_t bytes)
{
    uint64_t before =
        atomic_exchange_explicit(&progress->memory_bytes, bytes, memory_order_relaxed);
    if (progress->shared)
        atomic_fetch_add_explicit(&progress->shared->bytes, bytes - before, memory_order_relaxed);
}

void query_progress_release(struct query_progress *progress)
{
    struct tenant_memory *shared = progress->shared;
    if (!shared) return;
    uint64_t bytes = atomic_load_explicit(&progress->memory_bytes, memory_order_relaxed);
    atomic_fetch_sub_explicit(&shared->bytes, bytes, memory_order_relaxed);
    atomic_fetch_sub_explicit(&shared->n_queries, 1, memory_order_relaxed);
    progress->shared = NULL;
}

enum err_code query_limit_error(const struct limit_breach *b, struct query_progress *progress,
                                struct err *err)
{
    const char *unit = LIMITS[b->limit].unit;
    char whose[256] = "";
    if (progress) atomic_store_explicit(&progress->limit, b->limit, memory_order_relaxed);
    if (b->tenant.len)
        snprintf(whose, sizeof(whose), " for tenant %.*s", (int)MIN_OF(b->tenant.len, (size_t)200),
                 b->tenant.p);
    if (b->limit == LIMIT_TIMEOUT)
        return err_set(err, ERR_TIMEOUT,
                       "%s: it takes %" PRIu64 " ms or more (%s%s, or `timeout` of the request)",
                       b->what, b->reached, LIMITS[b->limit].key, whose);
    return err_set(err, ERR_EXECUTION,
                   "%s: it takes %" PRIu64 "%s or more, and %s is %" PRIu64
                   "%s%s; ask for less at once, or raise it for all or under `tenants` in the "
                   "configuration",
                   b->what, b->reached, unit, LIMITS[b->limit].key, b->allowed, unit, whose);
}
