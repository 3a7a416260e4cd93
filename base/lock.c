/* base/lock.c: pthread locks; in debug builds each thread keeps a stack of what it holds. */
#include "base/lock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#ifdef QUIPU_DEBUG_LOCKS
#define HELD_MAX 32

struct held {
    const void *lock;
    enum lock_rank rank;
};
/* Per thread, for the check only. */
static _Thread_local struct held held[HELD_MAX];
static _Thread_local size_t n_held;

static const char *rank_name(enum lock_rank rank)
{
    static const char *const names[] = {
        [LOCK_SERVER] = "LOCK_SERVER",
        [LOCK_ENGINE] = "LOCK_ENGINE",
        [LOCK_TENANT_FLUSH] = "LOCK_TENANT_FLUSH",
        [LOCK_TENANT_GATE] = "LOCK_TENANT_GATE",
        [LOCK_TENANT_VIEW] = "LOCK_TENANT_VIEW",
        [LOCK_SHARD] = "LOCK_SHARD",
        [LOCK_SLAB] = "LOCK_SLAB",
        [LOCK_INTERN] = "LOCK_INTERN",
        [LOCK_CATALOG] = "LOCK_CATALOG",
        [LOCK_CACHE] = "LOCK_CACHE",
        [LOCK_WAL] = "LOCK_WAL",
        [LOCK_DISK] = "LOCK_DISK",
        [LOCK_POOL] = "LOCK_POOL",
        [LOCK_METRICS] = "LOCK_METRICS",
        [LOCK_IO] = "LOCK_IO",
        [LOCK_LOG] = "LOCK_LOG",
        [LOCK_LEAF] = "LOCK_LEAF",
    };
    static_assert(COUNT_OF(names) == LOCK_LEAF + 1, "a name for each rank");
    return (unsigned)rank < COUNT_OF(names) && names[rank] ? names[rank] : "LOCK_?";
}

/* Before the lock is taken, so that a violation is told instead of becoming a deadlock now and then. */
static void rank_push(const void *lock, enum lock_rank rank)
{
    for (size_t i = 0; i < n_held; i++) {
        if (held[i].rank < rank) continue;
        fprintf(stderr, "lock order: taking %s (%d) while holding %s (%d)%s\n", rank_name(rank),
                (int)rank, rank_name(held[i].rank), (int)held[i].rank,
                held[i].lock == lock ? ", the same lock" : "");
        abort();
    }
    ASSERT(n_held < HELD_MAX);
    held[n_held++] = (struct held){lock, rank};
}

static void rank_pop(const void *lock)
{
    size_t i = n_held;
    while (i > 0 && held[i - 1].lock != lock) i--;
    ASSERT(i > 0); /* releasing what this thread does not hold */
    for (; i < n_held; i++) held[i - 1] = held[i];
    n_held--;
}
#else
static void rank_push(const void *lock, enum lock_rank rank)
{
    (void)lock;
    (void)rank;
}
static void rank_pop(const void *lock)
{
    (void)lock;
}
#endif

void lock_init(struct lock *lock, enum lock_rank rank)
{
    lock->rank = rank;
    pthread_mutexattr_t attr;
    int rc = pthread_mutexattr_init(&attr);
    ASSERT(rc == 0);
    /* Locks are held for a microsecond or so: a few turns cost less than to sleep and to be woken. */
    rc = pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ADAPTIVE_NP);
    ASSERT(rc == 0);
    rc = pthread_mutex_init(&lock->mutex, &attr);
    ASSERT(rc == 0);
    pthread_mutexattr_destroy(&attr);
}

void lock_destroy(struct lock *lock)
{
    int rc = pthread_mutex_destroy(&lock->mutex);
    ASSERT(rc == 0);
}

void lock_take(struct lock *lock)
{
    rank_push(lock, lock->rank);
    int rc = pthread_mutex_lock(&lock->mutex);
    ASSERT(rc == 0);
}

void lock_release(struct lock *lock)
{
    rank_pop(lock);
    int rc = pthread_mutex_unlock(&lock->mutex);
    ASSERT(rc == 0);
}

void rwlock_init(struct rwlock *lock, enum lock_rank rank)
{
    lock->rank = rank;
    pthread_rwlockattr_t attr;
    int rc = pthread_rwlockattr_init(&attr);
    ASSERT(rc == 0);
    /* Also why two reads of one lock by one thread are refused: the second waits for a writer that
     * waits for the first. */
    rc = pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    ASSERT(rc == 0);
    rc = pthread_rwlock_init(&lock->rw, &attr);
    ASSERT(rc == 0);
    pthread_rwlockattr_destroy(&attr);
}

void rwlock_destroy(struct rwlock *lock)
{
    int rc = pthread_rwlock_destroy(&lock->rw);
    ASSERT(rc == 0);
}

void rwlock_read(struct rwlock *lock)
{
    rank_push(lock, lock->rank);
    int rc = pthread_rwlock_rdlock(&lock->rw);
    ASSERT(rc == 0);
}

void rwlock_write(struct rwlock *lock)
{
    rank_push(lock, lock->rank);
    int rc = pthread_rwlock_wrlock(&lock->rw);
    ASSERT(rc == 0);
}

void rwlock_release(struct rwlock *lock)
{
    rank_pop(lock);
    int rc = pthread_rwlock_unlock(&lock->rw);
    ASSERT(rc == 0);
}

void cond_init(struct cond *cond)
{
    pthread_condattr_t attr;
    int rc = pthread_condattr_init(&attr);
    ASSERT(rc == 0);
    rc = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    ASSERT(rc == 0);
    rc = pthread_cond_init(&cond->cond, &attr);
    ASSERT(rc == 0);
    pthread_condattr_destroy(&attr);
}

void cond_destroy(struct cond *cond)
{
    int rc = pthread_cond_destroy(&cond->cond);
    ASSERT(rc == 0);
}

void cond_wait(struct cond *cond, struct lock *lock)
{
    int rc = pthread_cond_wait(&cond->cond, &lock->mutex);
    ASSERT(rc == 0);
}

bool cond_wait_for(struct cond *cond, struct lock *lock, int64_t timeout_ns)
{
    struct timespec until;
    int rc = clock_gettime(CLOCK_MONOTONIC, &until);
    ASSERT(rc == 0);
    int64_t ns = until.tv_nsec + MAX_OF(timeout_ns, 0) % 1000000000;
    until.tv_sec += (time_t)(MAX_OF(timeout_ns, 0) / 1000000000 + ns / 1000000000);
    until.tv_nsec = (long)(ns % 1000000000);
    rc = pthread_cond_timedwait(&cond->cond, &lock->mutex, &until);
    ASSERT(rc == 0 || rc == ETIMEDOUT);
    return rc == 0;
}

void cond_signal(struct cond *cond)
{
    int rc = pthread_cond_signal(&cond->cond);
    ASSERT(rc == 0);
}

void cond_broadcast(struct cond *cond)
{
    int rc = pthread_cond_broadcast(&cond->cond);
    ASSERT(rc == 0);
}
