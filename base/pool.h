/* base/pool.h: a fixed number of threads and a bounded queue of work. Threads: any may submit. */
#ifndef QUIPU_BASE_POOL_H
#define QUIPU_BASE_POOL_H

#include "base/err.h"

struct pool; /* from pool_new() */
typedef void pool_fn(void *arg);

/* `name` shows in thread listings. n_threads 0: work runs inside pool_submit (for tests and sim). */
MUST_USE enum err_code pool_new(const char *name, size_t n_threads, size_t queue_max,
                                struct pool **out, struct err *err);
/* Finishes what is queued, then ends the threads. NULL: no-op. */
void pool_free(struct pool *pool);
/* ERR_LIMIT when queue_max are waiting; ERR_SHUTDOWN during pool_free. */
MUST_USE enum err_code pool_submit(struct pool *pool, pool_fn *fn, void *arg, struct err *err);
/* Calls fn(ctx, worker, i) for i in 0..n-1, on the pool's threads and the caller's, and returns when all
 * have run. `worker` is 0..pool_width()-1, distinct for what runs at the same time: an index for scratch
 * memory. Order is not defined; indices are handed out one by one. Safe from inside the pool. */
typedef void pool_for_fn(void *ctx, size_t worker, size_t i);
void pool_for(struct pool *pool, size_t n, pool_for_fn *fn, void *ctx);
size_t pool_width(const struct pool *pool); /* threads + 1 */
size_t pool_queued(struct pool *pool);

#endif
