/* Locks: exclusion, timeouts, and (debug builds) the order of ranks. */
#include "tests/quipu_test.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "base/lock.h"

enum { N_THREADS = 4, N_ROUNDS = 5000 };

struct shared {
    struct lock lock;
    struct rwlock rw;
    uint64_t a, b; /* a under lock, b under rw */
};

static void *add(void *arg)
{
    struct shared *s = arg;
    for (int i = 0; i < N_ROUNDS; i++) {
        lock_take(&s->lock);
        s->a++;
        lock_release(&s->lock);
        if (i % 3 == 0) {
            rwlock_write(&s->rw);
            s->b++;
        } else {
            rwlock_read(&s->rw);
            CHECK(s->b <= N_THREADS * N_ROUNDS);
        }
        rwlock_release(&s->rw);
    }
    return NULL;
}

static void mutual_exclusion(void **state)
{
    (void)state;
    struct shared s = {.a = 0};
    lock_init(&s.lock, LOCK_LEAF);
    rwlock_init(&s.rw, LOCK_LEAF);
    pthread_t threads[N_THREADS];
    for (int i = 0; i < N_THREADS; i++) CHECK(pthread_create(&threads[i], NULL, add, &s) == 0);
    for (int i = 0; i < N_THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK_U64(s.a, N_THREADS * N_ROUNDS);
    CHECK_U64(s.b, N_THREADS * ((N_ROUNDS + 2) / 3));
    rwlock_destroy(&s.rw);
    lock_destroy(&s.lock);
}

struct meeting {
    struct lock lock;
    struct cond cond;
    int turn;
};

static void *ping(void *arg)
{
    struct meeting *m = arg;
    lock_take(&m->lock);
    for (int i = 0; i < 1000; i++) {
        while (m->turn != 1) cond_wait(&m->cond, &m->lock);
        m->turn = 0;
        cond_broadcast(&m->cond);
    }
    lock_release(&m->lock);
    return NULL;
}

static void conditions(void **state)
{
    (void)state;
    struct meeting m = {.turn = 0};
    lock_init(&m.lock, LOCK_LEAF);
    cond_init(&m.cond);
    lock_take(&m.lock);
    CHECK(!cond_wait_for(&m.cond, &m.lock, 0));
    CHECK(!cond_wait_for(&m.cond, &m.lock, -5));
    CHECK(!cond_wait_for(&m.cond, &m.lock, 1500000));
    lock_release(&m.lock);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, ping, &m) == 0);
    lock_take(&m.lock);
    for (int i = 0; i < 1000; i++) {
        m.turn = 1;
        cond_signal(&m.cond);
        while (m.turn != 0) CHECK(cond_wait_for(&m.cond, &m.lock, INT64_C(60000000000)));
    }
    lock_release(&m.lock);
    CHECK(pthread_join(thread, NULL) == 0);
    cond_destroy(&m.cond);
    lock_destroy(&m.lock);
}

#ifdef QUIPU_DEBUG_LOCKS
/* Runs fn in a child; its standard error goes to text. Returns whether it was aborted. */
static bool dies(void (*fn)(void), char *text, size_t size)
{
    int fds[2];
    CHECK(pipe(fds) == 0);
    fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        dup2(fds[1], STDERR_FILENO);
        signal(SIGABRT, SIG_DFL);
        fn();
        _exit(0);
    }
    close(fds[1]);
    size_t len = 0;
    for (ssize_t n; len + 1 < size && (n = read(fds[0], text + len, size - 1 - len)) > 0;)
        len += (size_t)n;
    text[len] = 0;
    close(fds[0]);
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void take_wal_then_shard(void)
{
    struct lock wal, shard;
    lock_init(&wal, LOCK_WAL);
    lock_init(&shard, LOCK_SHARD);
    lock_take(&wal);
    lock_take(&shard);
}

static void take_equal_reads(void)
{
    struct rwlock a, b;
    rwlock_init(&a, LOCK_SHARD);
    rwlock_init(&b, LOCK_SHARD);
    rwlock_read(&a);
    rwlock_read(&b);
}

static void take_twice(void)
{
    struct lock a;
    lock_init(&a, LOCK_POOL);
    lock_take(&a);
    lock_take(&a);
}

static void release_unheld(void)
{
    struct lock a;
    lock_init(&a, LOCK_POOL);
    lock_release(&a);
}

static void wrong_order_is_refused(void **state)
{
    (void)state;
    char text[4096];
    CHECK(dies(take_wal_then_shard, text, sizeof(text)));
    CHECK(strstr(text, "taking LOCK_SHARD") != NULL);
    CHECK(strstr(text, "holding LOCK_WAL") != NULL);
    CHECK(dies(take_equal_reads, text, sizeof(text)));
    CHECK(strstr(text, "holding LOCK_SHARD") != NULL);
    CHECK(dies(take_twice, text, sizeof(text)));
    CHECK(strstr(text, "the same lock") != NULL);
    CHECK(dies(release_unheld, text, sizeof(text)));
}

static void right_order_in_any_release_order(void **state)
{
    (void)state;
    struct lock a, b, c;
    lock_init(&a, LOCK_ENGINE);
    lock_init(&b, LOCK_SHARD);
    lock_init(&c, LOCK_LEAF);
    for (int i = 0; i < 3; i++) {
        lock_take(&a);
        lock_take(&b);
        lock_take(&c);
        lock_release(&b); /* from the middle */
        lock_release(&c);
        lock_take(&b); /* held again: only `a` is below */
        lock_release(&a);
        lock_take(&c);
        lock_release(&b);
        lock_release(&c);
    }
    lock_destroy(&a);
    lock_destroy(&b);
    lock_destroy(&c);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mutual_exclusion),
        cmocka_unit_test(conditions),
#ifdef QUIPU_DEBUG_LOCKS
        cmocka_unit_test(wrong_order_is_refused),
        cmocka_unit_test(right_order_in_any_release_order),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
