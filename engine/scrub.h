/* engine/scrub.h: reads all blocks again within scrub.interval, so that damage is found while a backup still has the
 * bytes. A thread of low priority reads one block, at most so many bytes a second, and then sleeps for as long as the
 * block's share of the interval is. It takes no lock and no cache from anybody. What it finds goes to quarantine.
 * A round begins at a random block: a server that is restarted often gets to all of them as well. Private to engine. */
#ifndef QUIPU_ENGINE_SCRUB_H
#define QUIPU_ENGINE_SCRUB_H

#include "base/lock.h"
#include "base/metric.h"
#include "base/rng.h"
#include "storage/block.h"

struct engine;

struct scrubber {
    struct lock lock; /* rank LOCK_LEAF; guards stopping and the sleep of the thread */
    struct cond wake;
    bool stopping, has_thread;
    pthread_t thread;
    /* The thread's own: where it is */
    struct rng rng;
    size_t tenant_idx;
    struct ulid last; /* block of that tenant; empty: none yet */
    bool begun;
    struct metric *blocks, *bytes, *errors, *rounds;
};
void scrubber_init(struct scrubber *s, const struct env *env);
void scrubber_release(struct scrubber *s);
/* The thread, if env has threads. */
MUST_USE enum err_code scrubber_start(struct engine *engine, struct err *err);
void scrubber_stop(struct engine *engine);
/* Checks the next block; *bytes: its size, 0: there is none. Never fails: what is found is told. */
void scrub_step(struct engine *engine, uint64_t *bytes);

#endif
