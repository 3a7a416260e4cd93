/* tools/memory_plan.h: what each part of the server may take, so that all of it together stays below one ceiling.
 * The ceiling is memory.limit, or a share of what the machine or its control group allows. A key that is set goes
 * before what is derived; the ceiling holds all the same, as nearing it makes the server refuse work
 * (engine/pressure.h). */
#ifndef QUIPU_TOOLS_MEMORY_PLAN_H
#define QUIPU_TOOLS_MEMORY_PLAN_H

#include "base/memory_limit.h"
#include "tools/config.h"

/* Of what the system allows: a control group also pays for cached files and sockets, and on a machine there are others. */
#define MEMORY_SHARE_OF_GROUP 75 /* per cent */
#define MEMORY_SHARE_OF_MACHINE 60

struct memory_plan {
    uint64_t limit_bytes;   /* of the whole process */
    const char *source;     /* "memory.limit", or as struct memory_limit has it */
    uint64_t allowed_bytes; /* what the system allows; 0: unknown */

    uint64_t connections_max;
    uint64_t
        process_bytes; /* code, stacks, SQLite, buffers of connections: nothing of ours bounds them */
    uint64_t live_bytes;     /* samples and series in memory, together; of these at most: */
    uint64_t head_bytes;     /* samples, when they are flushed; twice that meanwhile */
    uint64_t registry_bytes; /* series */
    uint64_t work_bytes;     /* flush, compaction */
    uint64_t page_cache_bytes;
    uint64_t wal_queue_bytes; /* records that wait for the disk; their buffer may be half larger */
    uint64_t request_bytes, inflight_bytes; /* a request's body; all of them */
    uint64_t message_bytes, ingest_bytes;   /* a body unpacked; all requests at work */
    uint64_t query_bytes_each, query_bytes_tenant, query_bytes_all;
    uint64_t results_bytes;  /* cached answers */
    uint64_t exemplar_bytes; /* of all tenants */
};
struct memory_plan memory_plan_make(const struct config *config, struct memory_limit system);
/* The sum of the parts when each takes all it may: below limit_bytes unless keys were set. */
uint64_t memory_plan_sum(const struct memory_plan *plan);

#endif
