/* tools/memory_plan.c: the shares. Head and registry share one part, since a server has either many series or many
 * samples of each; the rest is what one round of the others' work needs. */
#include "tools/memory_plan.h"

#define KIB UINT64_C(1024)
#define MIB (KIB * 1024)
#define GIB (MIB * 1024)

#define LIMIT_UNKNOWN GIB
#define PROCESS_BYTES (20 * MIB) /* 9 MiB at rest; SQLite, stacks and the heap's gaps under load */
#define CONNECTION_BYTES (64 * KIB) /* what the server has for each */
#define CONNECTIONS_MAX UINT64_C(1024)
#define CONNECTIONS_SHARE 16 /* at most this part of the limit */
#define EXEMPLARS_SHARE 32   /* at most this part of the limit */

/* Per cent of what the process itself leaves. */
#define LIVE_PERCENT 50
#define WORK_PERCENT                                                                               \
    12 /* a flush lists the series and gathers a block's index: about a quarter of the registry */
#define QUERY_PERCENT 12
#define RESULTS_PERCENT 2
#define RESULTS_BYTES_MAX (64 * MIB)
#define INGEST_PERCENT 6
#define WAL_QUEUE_PERCENT 4
#define BODIES_PERCENT 4
#define CACHE_PERCENT 4

static uint64_t clamp(uint64_t v, uint64_t min, uint64_t max)
{
    return MIN_OF(MAX_OF(v, min), max);
}

static void find_limit(struct memory_plan *p, const struct config *c, struct memory_limit system)
{
    bool machine = strcmp(system.source, "machine") == 0;
    p->allowed_bytes = system.bytes;
    if (c->memory_limit_bytes != CONFIG_AUTO) {
        p->source = "memory.limit";
        p->limit_bytes = c->memory_limit_bytes;
        return;
    }
    uint64_t percent = machine ? MEMORY_SHARE_OF_MACHINE : MEMORY_SHARE_OF_GROUP;
    p->source = system.source;
    p->limit_bytes = system.bytes ? system.bytes / 100 * percent : LIMIT_UNKNOWN;
    p->limit_bytes = MAX_OF(p->limit_bytes, MEMORY_LIMIT_BYTES_MIN);
}

static uint64_t set_or(uint64_t key, uint64_t derived)
{
    return key == CONFIG_AUTO ? derived : key;
}

struct memory_plan memory_plan_make(const struct config *c, struct memory_limit system)
{
    struct memory_plan p = {0};
    find_limit(&p, c, system);
    p.connections_max =
        set_or(c->http_connections_max,
               MIN_OF(p.limit_bytes / CONNECTIONS_SHARE / CONNECTION_BYTES, CONNECTIONS_MAX));
    uint64_t connections_bytes = MIN_OF(p.connections_max * CONNECTION_BYTES, p.limit_bytes / 2);
    p.process_bytes = PROCESS_BYTES + MIN_OF(connections_bytes, p.limit_bytes / 4);
    uint64_t percent = (p.limit_bytes - MIN_OF(p.limit_bytes, p.process_bytes)) / 100;

    p.exemplar_bytes = MIN_OF(c->exemplar_bytes_max, p.limit_bytes / EXEMPLARS_SHARE);
    p.live_bytes = percent * LIVE_PERCENT - p.exemplar_bytes; /* less than a quarter of it */
    p.head_bytes = set_or(c->head_bytes_max, p.live_bytes / 2);
    p.registry_bytes = set_or(c->registry_bytes_max, p.live_bytes / 5 * 4);
    p.work_bytes = percent * WORK_PERCENT;
    p.page_cache_bytes = set_or(c->page_cache_bytes, MIN_OF(percent * CACHE_PERCENT, 256 * MIB));
    p.wal_queue_bytes = clamp(percent * WAL_QUEUE_PERCENT, 2 * MIB, 64 * MIB);
    p.inflight_bytes =
        set_or(c->http_inflight_bytes_max, clamp(percent * BODIES_PERCENT, 2 * MIB, 256 * MIB));
    p.request_bytes = set_or(c->http_request_bytes_max, clamp(p.inflight_bytes / 2, MIB, 32 * MIB));
    p.ingest_bytes = clamp(percent * INGEST_PERCENT, 3 * MIB, GIB);
    /* A body unpacked, its columns, and what they grew out of. */
    p.message_bytes = MIN_OF(p.ingest_bytes / 3, 32 * MIB);
    p.results_bytes =
        set_or(c->query_cache_bytes, MIN_OF(percent * RESULTS_PERCENT, RESULTS_BYTES_MAX));
    p.query_bytes_all = set_or(c->query_memory_all_bytes, percent * QUERY_PERCENT);
    p.query_bytes_tenant = set_or(c->query_tenant_memory_bytes, p.query_bytes_all / 4 * 3);
    p.query_bytes_each = set_or(c->query_memory_bytes_max, MIN_OF(p.query_bytes_all / 4 * 3, GIB));
    return p;
}

uint64_t memory_plan_sum(const struct memory_plan *p)
{
    uint64_t live = MAX_OF(p->live_bytes, MAX_OF(p->head_bytes, p->registry_bytes));
    return p->process_bytes + live + p->work_bytes + p->page_cache_bytes +
           p->wal_queue_bytes / 2 * 3 + p->inflight_bytes + p->ingest_bytes + p->query_bytes_all +
           p->results_bytes + p->exemplar_bytes;
}
