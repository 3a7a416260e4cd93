/* tools/fair_queue.c: see the header. Keys are few (those with a job), so they are searched one by one. */
#include "tools/fair_queue.h"

#include <pthread.h>
#include <stdio.h>

#include "base/lock.h"
#include "base/mem.h"

#define LOOK_NS INT64_C(20000000) /* how often those who wait are looked at */

struct fair_key {
    struct fair_key *prev, *next; /* a ring; the one whose turn it is comes first */
    struct fair_job *first, **last;
    size_t n_waiting, n_running;
    struct fair_limits limits; /* as of the newest job */
    size_t len;
    bool is_operator;
    char name[FAIR_KEY_BYTES_MAX];
};

struct fair_queue {
    struct fair_queue_config config;
    struct lock lock; /* rank LOCK_POOL; guards all below */
    struct cond work, look;
    struct fair_key *turn;       /* NULL: no keys */
    size_t n_waiting, n_running; /* n_running: without the operator's */
    bool closing, late_closing;
    size_t n_started;
    bool has_looker;
    pthread_t *threads, looker;
};

size_t fair_queue_share_default(size_t n_threads)
{
    return MAX_OF(n_threads - n_threads / 4, (size_t)1);
}

/* ---- keys; under the lock ---- */

static struct fair_key *find_key(struct fair_queue *q, struct str name)
{
    struct fair_key *k = q->turn;
    if (!k) return NULL;
    do {
        if (str_eq((struct str){k->name, k->len}, name)) return k;
        k = k->next;
    } while (k != q->turn);
    return NULL;
}

/* Behind all others. NULL: no memory. */
static struct fair_key *add_key(struct fair_queue *q, struct str name)
{
    struct fair_key *k = mem_calloc(MEM_HTTP, 1, sizeof(*k));
    if (!k) return NULL;
    memcpy(k->name, name.p, name.len);
    k->len = name.len;
    k->is_operator = str_eq(name, STR(FAIR_KEY_OPERATOR));
    k->last = &k->first;
    if (!q->turn) {
        q->turn = k->prev = k->next = k;
        return k;
    }
    k->next = q->turn;
    k->prev = q->turn->prev;
    k->prev->next = k->next->prev = k;
    return k;
}

static void drop_key_if_idle(struct fair_queue *q, struct fair_key *k)
{
    if (k->n_waiting || k->n_running) return;
    if (q->turn == k) q->turn = k->next == k ? NULL : k->next;
    k->prev->next = k->next;
    k->next->prev = k->prev;
    mem_free(k);
}

static struct fair_job *take_first(struct fair_queue *q, struct fair_key *k)
{
    struct fair_job *job = k->first;
    k->first = job->next;
    if (!k->first) k->last = &k->first;
    k->n_waiting--;
    q->n_waiting--;
    return job;
}

static struct fair_job *take_newest(struct fair_queue *q, struct fair_key *k)
{
    struct fair_job **link = &k->first;
    while ((*link)->next) link = &(*link)->next;
    struct fair_job *job = *link;
    *link = NULL;
    k->last = link;
    k->n_waiting--;
    q->n_waiting--;
    return job;
}

static bool may_run(const struct fair_queue *q, const struct fair_key *k)
{
    if (!k->first) return false;
    if (k->is_operator) return k->n_running == 0;
    size_t share =
        k->limits.share ? k->limits.share : fair_queue_share_default(q->config.n_threads);
    return q->n_running < q->config.n_threads && k->n_running < share;
}

/* The next job in turn, NULL: none that may run now. */
static struct fair_job *pick(struct fair_queue *q)
{
    struct fair_key *k = q->turn;
    if (!k) return NULL;
    do {
        if (may_run(q, k)) {
            q->turn = k->next;
            k->n_running++;
            if (!k->is_operator) q->n_running++;
            return take_first(q, k);
        }
        k = k->next;
    } while (k != q->turn);
    return NULL;
}

/* ---- threads ---- */

static void *thread_main(void *arg)
{
    struct fair_queue *q = arg;
    lock_take(&q->lock);
    for (;;) {
        struct fair_job *job = pick(q);
        if (job) {
            struct fair_key *k = job->key;
            lock_release(&q->lock);
            job->run(job);
            lock_take(&q->lock);
            k->n_running--;
            if (!k->is_operator) q->n_running--;
            drop_key_if_idle(q, k);
        } else if (q->closing && q->n_waiting == 0) {
            break;
        } else {
            cond_wait(&q->work, &q->lock);
            continue;
        }
        /* A thread became free, and a place in a share: this thread takes the next itself, but if closing all must see. */
        if (q->closing) cond_broadcast(&q->work);
    }
    lock_release(&q->lock);
    return NULL;
}

/* The first job that has waited too long. */
static struct fair_job *take_late(struct fair_queue *q, int64_t now_ns)
{
    struct fair_key *k = q->turn;
    if (!k) return NULL;
    do {
        int64_t max_ms = k->limits.wait_max_ms;
        if (k->first && max_ms && now_ns - k->first->since_ns > max_ms * 1000000) {
            struct fair_job *job = take_first(q, k);
            drop_key_if_idle(q, k);
            return job;
        }
        k = k->next;
    } while (k != q->turn);
    return NULL;
}

static void *looker_main(void *arg)
{
    struct fair_queue *q = arg;
    lock_take(&q->lock);
    while (!q->late_closing) {
        struct fair_job *job = q->n_waiting ? take_late(q, clock_mono_ns(q->config.clock)) : NULL;
        if (job) {
            lock_release(&q->lock);
            job->refuse(job, FAIR_TOO_LATE);
            lock_take(&q->lock);
        } else if (q->n_waiting) {
            cond_wait_for(&q->look, &q->lock, LOOK_NS);
        } else {
            cond_wait(&q->look, &q->lock);
        }
    }
    lock_release(&q->lock);
    return NULL;
}

/* ---- life ---- */

static enum err_code start_threads(struct fair_queue *q, struct err *err)
{
    for (size_t i = 0; i <= q->config.n_threads; i++) { /* one for the operator */
        int rc = pthread_create(&q->threads[i], NULL, thread_main, q);
        if (rc) return err_set_errno(err, rc, "starting thread %zu for queries", i);
        q->n_started++;
        char name[16]; /* the system's limit */
        snprintf(name, sizeof(name), "query-%u", (unsigned)(i % 1000));
        pthread_setname_np(q->threads[i], name); /* only a name: may fail */
    }
    int rc = pthread_create(&q->looker, NULL, looker_main, q);
    if (rc) return err_set_errno(err, rc, "starting the thread that looks after those who wait");
    q->has_looker = true;
    pthread_setname_np(q->looker, "query-wait");
    return ERR_OK;
}

enum err_code fair_queue_new(const struct fair_queue_config *config, struct fair_queue **out,
                             struct err *err)
{
    *out = NULL;
    struct fair_queue *q = mem_calloc(MEM_HTTP, 1, sizeof(*q));
    if (!q) return err_set(err, ERR_NO_MEMORY, "no memory for the queue of queries");
    q->config = *config;
    lock_init(&q->lock, LOCK_POOL);
    cond_init(&q->work);
    cond_init(&q->look);
    q->threads = mem_calloc(MEM_HTTP, config->n_threads + 1, sizeof(*q->threads));
    enum err_code rc = q->threads
                           ? start_threads(q, err)
                           : err_set(err, ERR_NO_MEMORY, "no memory for the queue of queries");
    if (rc)
        fair_queue_free(q);
    else
        *out = q;
    return rc;
}

void fair_queue_free(struct fair_queue *q)
{
    if (!q) return;
    lock_take(&q->lock);
    q->closing = true;
    cond_broadcast(&q->work);
    lock_release(&q->lock);
    for (size_t i = 0; i < q->n_started; i++) pthread_join(q->threads[i], NULL);
    lock_take(&q->lock);
    q->late_closing = true;
    cond_signal(&q->look);
    lock_release(&q->lock);
    if (q->has_looker) pthread_join(q->looker, NULL);
    ASSERT(!q->turn);
    cond_destroy(&q->look);
    cond_destroy(&q->work);
    lock_destroy(&q->lock);
    mem_free(q->threads);
    mem_free(q);
}

/* ---- jobs ---- */

/* A place for one more job of `k` (NULL: a new key). *out: who gives up its own, NULL: nobody had to. False: nobody has
 * more waiting than the one who asks. */
static bool make_room(struct fair_queue *q, const struct fair_key *k, struct fair_job **out)
{
    *out = NULL;
    if (q->n_waiting < q->config.queue_max) return true;
    size_t own = k ? k->n_waiting : 0;
    struct fair_key *most = NULL, *i = q->turn;
    do {
        if (!i->is_operator && (!most || i->n_waiting > most->n_waiting)) most = i;
        i = i->next;
    } while (i != q->turn);
    if (!most || most->n_waiting <= own + 1) return false;
    *out = take_newest(q, most);
    drop_key_if_idle(q, most);
    return true;
}

static void append(struct fair_queue *q, struct fair_key *k, struct fair_job *job)
{
    job->key = k;
    job->next = NULL;
    *k->last = job;
    k->last = &job->next;
    k->n_waiting++;
    q->n_waiting++;
}

enum err_code fair_queue_submit(struct fair_queue *q, struct str name, struct fair_job *job,
                                struct err *err)
{
    struct fair_limits limits = {0};
    struct fair_job *gives_way = NULL;
    enum err_code rc = ERR_OK;
    name.len = MIN_OF(name.len, (size_t)FAIR_KEY_BYTES_MAX);
    if (q->config.limits) q->config.limits(q->config.ctx, name, &limits);
    job->since_ns = clock_mono_ns(q->config.clock);
    lock_take(&q->lock);
    struct fair_key *k = find_key(q, name);
    bool is_operator = str_eq(name, STR(FAIR_KEY_OPERATOR));
    if (!is_operator && !make_room(q, k, &gives_way))
        rc = err_set(err, ERR_LIMIT, "%zu requests are waiting", q->n_waiting);
    if (!rc && !k) k = add_key(q, name);
    if (!rc && !k) rc = err_set(err, ERR_LIMIT, "no memory for one more request");
    if (!rc) {
        k->limits = limits;
        append(q, k, job);
        cond_signal(&q->work);
        if (!may_run(q, k)) cond_signal(&q->look);
    }
    lock_release(&q->lock);
    if (gives_way) gives_way->refuse(gives_way, FAIR_CROWDED);
    return rc;
}

size_t fair_queue_waiting(struct fair_queue *q)
{
    lock_take(&q->lock);
    size_t n = q->n_waiting;
    lock_release(&q->lock);
    return n;
}
