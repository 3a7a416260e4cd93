/* engine/compact.h: merging of blocks in the background, and when somebody asks for it (engine_compact in engine.h).
 * Private to engine. */
#ifndef QUIPU_ENGINE_COMPACT_H
#define QUIPU_ENGINE_COMPACT_H

#include <stdatomic.h>

#include "base/lock.h"
#include "base/metric.h"
#include "base/rng.h"
#include "engine/engine.h"
#include "storage/compact_merge.h"

struct compact_metrics {
    struct metric *compactions, *failures, *read_bytes, *written_bytes, *duplicates;
    struct metric_histogram *seconds;
};

struct compactor {
    struct lock lock; /* rank LOCK_SERVER: one merge at a time; guards what follows */
    struct rng rng;
    size_t next_tenant;           /* to look at first: each has its turn */
    int64_t retry_ns, backoff_ns; /* after a failure nothing is begun before */

    _Atomic bool stopping;      /* relaxed: a merge looks now and then */
    _Atomic uint32_t n_waiting; /* for the lock, with somebody waiting for the answer; relaxed */
    struct lock wake_lock;      /* rank LOCK_LEAF; guards the sleep of the thread */
    struct cond wake;
    bool has_thread;
    pthread_t thread;
    struct compact_metrics metrics;
};

/* What a tenant's compaction remembers; guarded by compactor.lock. */
struct compact_memory {
    uint64_t
        *refused; /* ids of jobs that cannot be done: too many series, a source that is broken */
    size_t n_refused, next_refused;
    uint64_t view; /* number of the one that was looked at last */
    int64_t looked_ns;
};

void compactor_init(struct compactor *c, const struct env *env);
void compactor_release(struct compactor *c);
/* The thread, if env has threads. */
MUST_USE enum err_code compactor_start(struct engine *engine, struct err *err);
/* compact_rehearse.c: adds to the report what compaction would do, and what would be left. */
MUST_USE enum err_code compact_rehearse(struct tenant *tenant, const struct compact_when *when,
                                        const struct compact_limits *limits,
                                        struct engine_compact_report *report, struct err *err);
/* One block written again without what is deleted of it. Under compactor.lock. gentle: nobody waits for it.
 * *hopeless: the failure is the block's; it is logged, as the others are, and no reason to wait. */
MUST_USE enum err_code compactor_rewrite(struct tenant *tenant, struct block *block, bool gentle,
                                         struct compact_stats *stats, bool *hopeless,
                                         struct err *err);
/* Ends the thread and what it is at. */
void compactor_stop(struct engine *engine);
/* One merge at most, of some tenant: what the owner's steps do without a thread. */
MUST_USE enum err_code compactor_step(struct engine *engine, struct err *err);

#endif
