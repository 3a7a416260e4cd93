/* Pool: everything runs once, on distinct workers, and nothing waits for ever. */
#include "tests/quipu_test.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/lock.h"
#include "base/pool.h"

static void count(void *arg)
{
    atomic_fetch_add((_Atomic int *)arg, 1);
}

static void submitted_work_runs_before_free(void **state)
{
    (void)state;
    for (size_t n_threads = 0; n_threads < 4; n_threads++) {
        struct pool *pool;
        struct err err;
        _Atomic int n = 0;
        CHECK_OK(pool_new("test", n_threads, 1000, &pool, &err), &err);
        CHECK_U64(pool_width(pool), n_threads + 1);
        for (int i = 0; i < 1000; i++) CHECK_OK(pool_submit(pool, count, (void *)&n, &err), &err);
        pool_free(pool);
        CHECK_I64(n, 1000);
    }
    pool_free(NULL);
}

struct gate {
    struct lock lock;
    struct cond cond;
    bool open;
    int n_waiting;
};

static void wait_at_gate(void *arg)
{
    struct gate *g = arg;
    lock_take(&g->lock);
    g->n_waiting++;
    cond_broadcast(&g->cond);
    while (!g->open) cond_wait(&g->cond, &g->lock);
    lock_release(&g->lock);
}

static void gate_init(struct gate *g)
{
    *g = (struct gate){.open = false};
    lock_init(&g->lock, LOCK_LEAF);
    cond_init(&g->cond);
}

static void gate_open(struct gate *g)
{
    lock_take(&g->lock);
    g->open = true;
    cond_broadcast(&g->cond);
    lock_release(&g->lock);
}

static void gate_release(struct gate *g)
{
    cond_destroy(&g->cond);
    lock_destroy(&g->lock);
}

/* All threads of the pool are inside. */
static void gate_await(struct gate *g, int n)
{
    lock_take(&g->lock);
    while (g->n_waiting < n) cond_wait(&g->cond, &g->lock);
    lock_release(&g->lock);
}

static void square(void *ctx, size_t worker, size_t i)
{
    (void)worker;
    ((size_t *)ctx)[i] = i * i;
}

static void queue_is_bounded(void **state)
{
    (void)state;
    struct pool *pool;
    struct err err;
    struct gate gate;
    gate_init(&gate);
    CHECK_OK(pool_new("test", 2, 3, &pool, &err), &err);
    for (int i = 0; i < 2; i++) CHECK_OK(pool_submit(pool, wait_at_gate, &gate, &err), &err);
    gate_await(&gate, 2);
    for (int i = 0; i < 3; i++) CHECK_OK(pool_submit(pool, wait_at_gate, &gate, &err), &err);
    CHECK_U64(pool_queued(pool), 3);
    CHECK_ERR(pool_submit(pool, wait_at_gate, &gate, &err), ERR_LIMIT);
    /* pool_for does not need the queue, nor a free thread. */
    size_t squares[100];
    pool_for(pool, 100, square, squares);
    for (size_t i = 0; i < 100; i++) CHECK_U64(squares[i], i * i);
    gate_open(&gate);
    pool_free(pool);
    CHECK_I64(gate.n_waiting, 5);
    gate_release(&gate);
}

struct spread {
    struct pool *pool;
    _Atomic uint32_t ran[500];
    _Atomic bool busy[8];
    size_t width;
    int depth;
    _Atomic uint64_t n_inner;
};

static void inner(void *ctx, size_t worker, size_t i)
{
    struct spread *s = ctx;
    (void)i;
    CHECK(worker < s->width);
    atomic_fetch_add(&s->n_inner, 1);
}

static void outer(void *ctx, size_t worker, size_t i)
{
    struct spread *s = ctx;
    CHECK(worker < s->width);
    CHECK(!atomic_exchange(&s->busy[worker], true)); /* nobody else has this index now */
    atomic_fetch_add(&s->ran[i], 1);
    if (s->depth) pool_for(s->pool, 7, inner, s);
    atomic_store(&s->busy[worker], false);
}

static void for_runs_each_index_once(void **state)
{
    (void)state;
    for (size_t n_threads = 0; n_threads < 5; n_threads++) {
        struct pool *pool;
        struct err err;
        CHECK_OK(pool_new("test", n_threads, 4, &pool, &err), &err);
        for (size_t n = 0; n <= 500; n = n < 10 ? n + 1 : n * 7) {
            for (int depth = 0; depth < 2; depth++) {
                struct spread *s = calloc(1, sizeof(*s));
                CHECK(s != NULL);
                s->pool = pool;
                s->width = pool_width(pool);
                s->depth = depth;
                pool_for(pool, n, outer, s);
                for (size_t i = 0; i < 500; i++) CHECK_U64(s->ran[i], i < n);
                CHECK_U64(s->n_inner, depth ? n * 7 : 0);
                free(s);
            }
        }
        pool_free(pool);
    }
}

struct slow {
    _Atomic bool helper_started, caller_done, helper_done;
};

static void slow_helper(void *ctx, size_t worker, size_t i)
{
    struct slow *s = ctx;
    (void)i;
    if (worker == 0) { /* the caller */
        while (!s->helper_started) usleep(100);
        s->caller_done = true;
    } else {
        s->helper_started = true;
        while (!s->caller_done) usleep(100);
        usleep(20000); /* a caller that does not wait is gone by now */
        s->helper_done = true;
    }
}

static void for_waits_for_its_helpers(void **state)
{
    (void)state;
    struct pool *pool;
    struct err err;
    CHECK_OK(pool_new("test", 1, 1, &pool, &err), &err);
    for (int i = 0; i < 5; i++) {
        struct slow s = {false, false, false};
        pool_for(pool, 2, slow_helper, &s);
        CHECK(s.helper_done);
    }
    pool_free(pool);
}

struct client {
    struct pool *pool;
    uint64_t sum;
};

static void add_index(void *ctx, size_t worker, size_t i)
{
    ((_Atomic uint64_t *)ctx)[worker] += i;
}

static void *many_fors(void *arg)
{
    struct client *c = arg;
    for (int round = 0; round < 100; round++) {
        _Atomic uint64_t sums[8] = {0};
        pool_for(c->pool, 100, add_index, (void *)sums);
        for (int i = 0; i < 8; i++) c->sum += sums[i];
    }
    return NULL;
}

static void for_task(void *arg)
{
    many_fors(arg);
}

/* Callers from outside and from the pool's own threads at the same time. */
static void stress(void **state)
{
    (void)state;
    struct pool *pool;
    struct err err;
    CHECK_OK(pool_new("a-very-long-pool-name", 3, 16, &pool, &err), &err);
    struct client clients[8];
    pthread_t threads[4];
    for (int i = 0; i < 8; i++) clients[i] = (struct client){pool, 0};
    for (int i = 0; i < 4; i++) {
        CHECK(pthread_create(&threads[i], NULL, many_fors, &clients[i]) == 0);
        CHECK_OK(pool_submit(pool, for_task, &clients[4 + i], &err), &err);
    }
    for (int i = 0; i < 4; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    pool_free(pool);
    for (int i = 0; i < 8; i++) CHECK_U64(clients[i].sum, 100 * 4950);
}

struct resubmit {
    struct pool *pool;
    enum err_code last;
    _Atomic int n_ran;
};

/* Submits its successor for as long as it is let. */
static void submit_again(void *arg)
{
    struct resubmit *r = arg;
    struct err err;
    atomic_fetch_add(&r->n_ran, 1);
    r->last = pool_submit(r->pool, submit_again, r, &err);
}

static void no_work_after_free_began(void **state)
{
    (void)state;
    struct err err;
    struct resubmit r = {.last = ERR_OK};
    CHECK_OK(pool_new("test", 1, 4, &r.pool, &err), &err);
    CHECK_OK(pool_submit(r.pool, submit_again, &r, &err), &err);
    pool_free(r.pool); /* returns: the chain is cut */
    CHECK_ERR(r.last, ERR_SHUTDOWN);
    CHECK(r.n_ran >= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(submitted_work_runs_before_free),
        cmocka_unit_test(queue_is_bounded),
        cmocka_unit_test(for_runs_each_index_once),
        cmocka_unit_test(for_waits_for_its_helpers),
        cmocka_unit_test(stress),
        cmocka_unit_test(no_work_after_free_began),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
