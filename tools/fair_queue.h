/* tools/fair_queue.h: threads for requests that may take long, shared fairly by those who ask.
 *
 * Each key (a tenant) has a queue of its own, and free threads take from the queues in turn, so that whoever asks little does
 * not wait behind whoever asks much. A key runs at most its share of the threads: long requests of one leave room for the
 * others. When all places for waiting are taken, the key with the most gives up its newest. Who waits too long is refused.
 * The operator's key is outside of all that: one thread more than the others may use is there for it.
 * Threads: any may submit. */
#ifndef QUIPU_TOOLS_FAIR_QUEUE_H
#define QUIPU_TOOLS_FAIR_QUEUE_H

#include "base/clock.h"
#include "base/err.h"

struct fair_queue; /* from fair_queue_new() */
struct fair_key;

enum fair_refusal { FAIR_CROWDED, FAIR_TOO_LATE };
/* Embedded in what is to be done. One of the two is called, once, without a lock: run on a thread of the queue, refuse on
 * any. */
struct fair_job {
    void (*run)(struct fair_job *job);
    void (*refuse)(struct fair_job *job, enum fair_refusal why);
    /* the queue's */
    struct fair_job *next;
    struct fair_key *key;
    int64_t since_ns;
};

#define FAIR_KEY_BYTES_MAX 255
#define FAIR_KEY_OPERATOR "\n" /* no tenant can be called so */

struct fair_limits {
    size_t share;        /* requests of one key at work; 0: three quarters of the threads */
    int64_t wait_max_ms; /* 0: for ever */
};
struct fair_queue_config {
    size_t n_threads, queue_max;
    struct clock *clock;
    /* Asked, without a lock, for each job. What is set for the key itself, or for all. */
    void (*limits)(void *ctx, struct str key, struct fair_limits *out);
    void *ctx;
};

MUST_USE enum err_code fair_queue_new(const struct fair_queue_config *config,
                                      struct fair_queue **out, struct err *err);
/* Runs what waits, then ends the threads. NULL: no-op. */
void fair_queue_free(struct fair_queue *queue);
/* The key is copied (cut at FAIR_KEY_BYTES_MAX). ERR_LIMIT when there is no place; then neither function is called. */
MUST_USE enum err_code fair_queue_submit(struct fair_queue *queue, struct str key,
                                         struct fair_job *job, struct err *err);
size_t fair_queue_waiting(struct fair_queue *queue);
size_t fair_queue_share_default(size_t n_threads);

#endif
