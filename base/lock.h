/* base/lock.h: mutexes and reader-writer locks with a rank. Ranks only rise while a thread holds locks
 * (debug builds check). No I/O, callback or system allocation under a lock that readers need. */
#ifndef QUIPU_BASE_LOCK_H
#define QUIPU_BASE_LOCK_H

#include <pthread.h>

#include "base/defs.h"

/* Lowest first: a thread that holds one may take only higher ones. */
enum lock_rank {
    LOCK_SERVER,
    LOCK_ENGINE,       /* table of tenants */
    LOCK_TENANT_FLUSH, /* one flush, compaction or delete of a tenant at a time */
    LOCK_TENANT_GATE,  /* writers share it, a flush takes it alone to cut the head */
    LOCK_TENANT_VIEW,  /* list of head generations and blocks */
    LOCK_SHARD,        /* registry shard, head stripe */
    LOCK_SLAB,
    LOCK_INTERN,
    LOCK_CATALOG,
    LOCK_CACHE,
    LOCK_WAL,
    LOCK_DISK, /* the reserve for a full disk */
    LOCK_POOL,
    LOCK_METRICS,
    LOCK_IO, /* simulated disk */
    LOCK_LOG,
    LOCK_LEAF
};

struct lock {
    pthread_mutex_t mutex;
    enum lock_rank rank;
};
void lock_init(struct lock *lock, enum lock_rank rank);
void lock_destroy(struct lock *lock);
void lock_take(struct lock *lock);
void lock_release(struct lock *lock);

struct rwlock {
    pthread_rwlock_t rw; /* writers are not starved by readers */
    enum lock_rank rank;
};
void rwlock_init(struct rwlock *lock, enum lock_rank rank);
void rwlock_destroy(struct rwlock *lock);
void rwlock_read(struct rwlock *lock);
void rwlock_write(struct rwlock *lock);
void rwlock_release(struct rwlock *lock);

struct cond {
    pthread_cond_t cond; /* on the monotonic clock */
};
void cond_init(struct cond *cond);
void cond_destroy(struct cond *cond);
void cond_wait(struct cond *cond, struct lock *lock);
/* False when timeout_ns passed first. */
bool cond_wait_for(struct cond *cond, struct lock *lock, int64_t timeout_ns);
void cond_signal(struct cond *cond);
void cond_broadcast(struct cond *cond);

#endif
