/* base/pool.c: threads that take from a ring of submitted work and help in running pool_for calls.
 * A pool_for lives on its caller's stack: helpers join it under the lock while it is listed, and the caller
 * unlists it, then waits for those who joined. So a full queue cannot hinder it, and a caller that is itself
 * a pool thread cannot wait for a thread that never comes. */
#include "base/pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "base/lock.h"
#include "base/mem.h"

struct task {
    pool_fn *fn;
    void *arg;
};

struct for_call {
    struct for_call *next, **link; /* in pool->calls; guarded by the pool's lock */
    pool_for_fn *fn;
    void *ctx;
    size_t n;
    size_t n_joined; /* workers so far, the caller included; guarded by the pool's lock */
    size_t n_inside; /* helpers at work; guarded by the pool's lock */
    struct cond idle;
    _Atomic size_t next_idx; /* relaxed: results become visible through the lock */
};

struct pool {
    struct lock lock; /* rank LOCK_POOL; guards all below */
    struct cond work;
    struct task *ring;
    size_t ring_cap, head, n_queued;
    struct for_call *calls; /* in order of arrival */
    bool closing;
    size_t n_threads; /* fixed */
    size_t n_started;
    pthread_t *threads;
    char name[12];
};

static void for_run(struct for_call *call, size_t worker)
{
    for (;;) {
        size_t i = atomic_fetch_add_explicit(&call->next_idx, 1, memory_order_relaxed);
        if (i >= call->n) return;
        call->fn(call->ctx, worker, i);
    }
}

/* The unfinished call with the fewest helpers, so that one long call does not keep all threads. */
static struct for_call *pick_call(struct pool *pool)
{
    struct for_call *best = NULL;
    for (struct for_call *c = pool->calls; c; c = c->next) {
        if (atomic_load_explicit(&c->next_idx, memory_order_relaxed) >= c->n) continue;
        if (!best || c->n_inside < best->n_inside) best = c;
    }
    return best;
}

/* Called and returns with the lock held. */
static void help(struct pool *pool, struct for_call *call)
{
    size_t worker = call->n_joined++;
    ASSERT(worker <= pool->n_threads);
    call->n_inside++;
    lock_release(&pool->lock);
    for_run(call, worker);
    lock_take(&pool->lock);
    if (--call->n_inside == 0) cond_signal(&call->idle);
}

static void *thread_main(void *arg)
{
    struct pool *pool = arg;
    lock_take(&pool->lock);
    for (;;) {
        struct for_call *call = pick_call(pool);
        if (call) {
            help(pool, call);
        } else if (pool->n_queued) {
            struct task task = pool->ring[pool->head];
            pool->head = (pool->head + 1) % pool->ring_cap;
            pool->n_queued--;
            lock_release(&pool->lock);
            task.fn(task.arg);
            lock_take(&pool->lock);
        } else if (pool->closing) {
            break;
        } else {
            cond_wait(&pool->work, &pool->lock);
        }
    }
    lock_release(&pool->lock);
    return NULL;
}

static enum err_code start_threads(struct pool *pool, struct err *err)
{
    for (size_t i = 0; i < pool->n_threads; i++) {
        int rc = pthread_create(&pool->threads[i], NULL, thread_main, pool);
        if (rc) return err_set_errno(err, rc, "starting thread %zu of pool %s", i, pool->name);
        pool->n_started++;
        char name[16]; /* the system's limit */
        snprintf(name, sizeof(name), "%.11s-%u", pool->name, (unsigned)(i % 1000));
        pthread_setname_np(pool->threads[i], name); /* only a name: may fail */
    }
    return ERR_OK;
}

enum err_code pool_new(const char *name, size_t n_threads, size_t queue_max, struct pool **out,
                       struct err *err)
{
    ASSERT(n_threads == 0 || queue_max > 0);
    *out = NULL;
    struct pool *pool = mem_calloc(MEM_BASE, 1, sizeof(*pool));
    if (!pool) return err_set(err, ERR_NO_MEMORY, "no memory for pool %s", name);
    snprintf(pool->name, sizeof(pool->name), "%s", name);
    lock_init(&pool->lock, LOCK_POOL);
    cond_init(&pool->work);
    pool->n_threads = n_threads;
    pool->ring_cap = queue_max;
    enum err_code rc = ERR_OK;
    if (n_threads) {
        pool->ring = mem_calloc(MEM_BASE, queue_max, sizeof(*pool->ring));
        pool->threads = mem_calloc(MEM_BASE, n_threads, sizeof(*pool->threads));
        if (!pool->ring || !pool->threads)
            rc = err_set(err, ERR_NO_MEMORY, "no memory for pool %s", name);
        else
            rc = start_threads(pool, err);
    }
    if (rc)
        pool_free(pool);
    else
        *out = pool;
    return rc;
}

void pool_free(struct pool *pool)
{
    if (!pool) return;
    lock_take(&pool->lock);
    pool->closing = true;
    cond_broadcast(&pool->work);
    lock_release(&pool->lock);
    for (size_t i = 0; i < pool->n_started; i++) {
        int rc = pthread_join(pool->threads[i], NULL);
        ASSERT(rc == 0); /* EDEADLK: freed by one of its own threads */
    }
    ASSERT(pool->n_queued == 0);
    ASSERT(pool->calls == NULL);
    cond_destroy(&pool->work);
    lock_destroy(&pool->lock);
    mem_free(pool->threads);
    mem_free(pool->ring);
    mem_free(pool);
}

enum err_code pool_submit(struct pool *pool, pool_fn *fn, void *arg, struct err *err)
{
    lock_take(&pool->lock);
    enum err_code rc = ERR_OK;
    if (pool->closing) {
        rc = err_set(err, ERR_SHUTDOWN, "pool %s is closing", pool->name);
    } else if (pool->n_threads && pool->n_queued == pool->ring_cap) {
        rc = err_set(err, ERR_LIMIT, "pool %s: %zu pieces of work are waiting", pool->name,
                     pool->ring_cap);
    } else if (pool->n_threads) {
        pool->ring[(pool->head + pool->n_queued++) % pool->ring_cap] = (struct task){fn, arg};
        cond_signal(&pool->work);
    }
    lock_release(&pool->lock);
    if (!rc && pool->n_threads == 0) fn(arg);
    return rc;
}

void pool_for(struct pool *pool, size_t n, pool_for_fn *fn, void *ctx)
{
    if (n <= 1 || pool->n_threads == 0) {
        for (size_t i = 0; i < n; i++) fn(ctx, 0, i);
        return;
    }
    struct for_call call = {.fn = fn, .ctx = ctx, .n = n, .n_joined = 1};
    atomic_init(&call.next_idx, 0);
    cond_init(&call.idle);
    lock_take(&pool->lock);
    call.link = &pool->calls;
    while (*call.link) call.link = &(*call.link)->next;
    *call.link = &call;
    if (n - 1 < pool->n_threads)
        for (size_t i = 0; i < n - 1; i++) cond_signal(&pool->work);
    else
        cond_broadcast(&pool->work);
    lock_release(&pool->lock);

    for_run(&call, 0);

    lock_take(&pool->lock);
    *call.link = call.next;
    if (call.next) call.next->link = call.link;
    while (call.n_inside) cond_wait(&call.idle, &pool->lock);
    lock_release(&pool->lock);
    cond_destroy(&call.idle);
}

size_t pool_width(const struct pool *pool)
{
    return pool->n_threads + 1;
}

size_t pool_queued(struct pool *pool)
{
    lock_take(&pool->lock);
    size_t n = pool->n_queued;
    lock_release(&pool->lock);
    return n;
}
