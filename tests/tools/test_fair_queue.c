/* The queue of queries: turns, shares, who gives way, who waited too long. Jobs wait for the test to let them go, so
 * that nothing depends on how fast anything is. */
#include <stdatomic.h>

#include "base/lock.h"
#include "tests/quipu_test.h"
#include "tools/fair_queue.h"

#define JOBS_MAX 64

struct room {
    struct fair_queue *queue;
    struct lock lock;
    struct cond changed;
    size_t share;
    int64_t wait_max_ms;
    bool open; /* jobs end at once */
    struct job {
        struct fair_job job;
        struct room *room;
        bool started, may_end, done, refused;
        enum fair_refusal why;
        int order; /* of starting, from 1 */
    } jobs[JOBS_MAX];
    size_t n;
    int n_started;
};

static void limits(void *ctx, struct str key, struct fair_limits *out)
{
    struct room *room = ctx;
    (void)key;
    *out = (struct fair_limits){room->share, room->wait_max_ms};
}

static void run(struct fair_job *fair)
{
    struct job *job = CONTAINER_OF(fair, struct job, job);
    struct room *room = job->room;
    lock_take(&room->lock);
    job->started = true;
    job->order = ++room->n_started;
    cond_broadcast(&room->changed);
    while (!job->may_end && !room->open) cond_wait(&room->changed, &room->lock);
    job->done = true;
    cond_broadcast(&room->changed);
    lock_release(&room->lock);
}

static void refuse(struct fair_job *fair, enum fair_refusal why)
{
    struct job *job = CONTAINER_OF(fair, struct job, job);
    struct room *room = job->room;
    lock_take(&room->lock);
    job->refused = true;
    job->why = why;
    cond_broadcast(&room->changed);
    lock_release(&room->lock);
}

static struct room *room_open(size_t n_threads, size_t queue_max, size_t share, int64_t wait_max_ms)
{
    struct err err;
    struct room *room = mem_calloc(MEM_TOOLS, 1, sizeof(*room));
    CHECK(room != NULL);
    lock_init(&room->lock, LOCK_SERVER);
    cond_init(&room->changed);
    room->share = share;
    room->wait_max_ms = wait_max_ms;
    struct fair_queue_config config = {.n_threads = n_threads,
                                       .queue_max = queue_max,
                                       .clock = clock_system(),
                                       .limits = limits,
                                       .ctx = room};
    CHECK_OK(fair_queue_new(&config, &room->queue, &err), &err);
    return room;
}

static void room_close(struct room *room)
{
    lock_take(&room->lock);
    room->open = true;
    cond_broadcast(&room->changed);
    lock_release(&room->lock);
    fair_queue_free(room->queue);
    for (size_t i = 0; i < room->n; i++) CHECK(room->jobs[i].done != room->jobs[i].refused);
    cond_destroy(&room->changed);
    lock_destroy(&room->lock);
    mem_free(room);
}

static struct job *submit(struct room *room, const char *key)
{
    struct err err;
    CHECK(room->n < JOBS_MAX);
    struct job *job = &room->jobs[room->n];
    *job = (struct job){.job = {.run = run, .refuse = refuse}, .room = room};
    if (fair_queue_submit(room->queue, str_of(key), &job->job, &err)) return NULL;
    room->n++;
    return job;
}

static void wait_for(struct room *room, const bool *what)
{
    lock_take(&room->lock);
    while (!*what) cond_wait(&room->changed, &room->lock);
    lock_release(&room->lock);
}

static void let_end(struct job *job)
{
    lock_take(&job->room->lock);
    job->may_end = true;
    cond_broadcast(&job->room->changed);
    lock_release(&job->room->lock);
    wait_for(job->room, &job->done);
}

/* One thread, a long queue of one tenant: another's first is the next but one, not the last. */
static void takes_turns(void **state)
{
    (void)state;
    struct room *room = room_open(1, 100, 0, 0);
    struct job *much[6], *little[2];
    for (size_t i = 0; i < COUNT_OF(much); i++) {
        much[i] = submit(room, "much");
        if (!i) wait_for(room, &much[0]->started);
    }
    for (size_t i = 0; i < COUNT_OF(little); i++) little[i] = submit(room, "little");
    struct job *const order[] = {much[0], much[1], little[0], much[2], little[1], much[3]};
    for (size_t i = 0; i < COUNT_OF(order); i++) {
        wait_for(room, &order[i]->started);
        CHECK(order[i]->order == (int)i + 1);
        let_end(order[i]);
    }
    room_close(room);
}

/* One tenant's long requests leave threads for others, and for the operator even when all are taken. */
static void keeps_to_shares(void **state)
{
    (void)state;
    struct room *room = room_open(4, 100, 0, 0);
    struct job *a[5], *b[2];
    CHECK_U64(fair_queue_share_default(4), 3);
    CHECK_U64(fair_queue_share_default(1), 1);
    for (size_t i = 0; i < COUNT_OF(a); i++) a[i] = submit(room, "a");
    for (size_t i = 0; i < 3; i++) wait_for(room, &a[i]->started);
    CHECK_U64(fair_queue_waiting(room->queue), 2);
    b[0] = submit(room, "b");
    wait_for(room, &b[0]->started);
    b[1] = submit(room, "b");
    CHECK_U64(fair_queue_waiting(room->queue), 3);
    struct job *operator_1 = submit(room, FAIR_KEY_OPERATOR);
    wait_for(room, &operator_1->started);
    let_end(operator_1);
    let_end(a[0]);
    let_end(b[0]);
    wait_for(room, &b[1]->started);
    wait_for(room, &a[3]->started);
    CHECK(!a[4]->started);
    room_close(room);
}

/* A full queue: the one with the most gives up its newest; who has the most itself is refused. */
static void the_longest_queue_gives_way(void **state)
{
    (void)state;
    struct room *room = room_open(1, 4, 0, 0);
    struct job *first = submit(room, "a");
    wait_for(room, &first->started);
    struct job *a[4];
    for (size_t i = 0; i < COUNT_OF(a); i++) a[i] = submit(room, "a");
    CHECK(submit(room, "a") == NULL);
    struct job *b = submit(room, "b");
    CHECK(b != NULL);
    wait_for(room, &a[3]->refused);
    CHECK(a[3]->why == FAIR_CROWDED);
    b = submit(room, "b");
    CHECK(b != NULL); /* now two of each */
    wait_for(room, &a[2]->refused);
    CHECK(submit(room, "b") == NULL);
    CHECK(submit(room, "a") == NULL);
    CHECK(submit(room, "c") != NULL);
    CHECK(submit(room, FAIR_KEY_OPERATOR) != NULL);
    room_close(room);
}

static void waits_no_longer(void **state)
{
    (void)state;
    struct room *room = room_open(1, 100, 0, 1);
    struct job *first = submit(room, "a");
    wait_for(room, &first->started);
    struct job *late[3];
    for (size_t i = 0; i < COUNT_OF(late); i++) late[i] = submit(room, i ? "b" : "a");
    for (size_t i = 0; i < COUNT_OF(late); i++) {
        wait_for(room, &late[i]->refused);
        CHECK(late[i]->why == FAIR_TOO_LATE);
    }
    CHECK_U64(fair_queue_waiting(room->queue), 0);
    room_close(room);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_turns),
        cmocka_unit_test(keeps_to_shares),
        cmocka_unit_test(the_longest_queue_gives_way),
        cmocka_unit_test(waits_no_longer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
