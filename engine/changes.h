/* engine/changes.h: which of a tenant's past has changed, for those who remember answers.
 *
 * Who remembers says first how far (changes_settle), then reads. From there on everything that alters what a reader
 * finds at or before that time is noted as a change, with the earliest time that it touches: late samples, deletes,
 * blocks that go. Newer samples are none, so that writing costs one load of an atomic.
 * Threads: any. */
#ifndef QUIPU_ENGINE_CHANGES_H
#define QUIPU_ENGINE_CHANGES_H

#include <stdatomic.h>

#include "base/lock.h"

/* Changes that are told apart; who asks for an older state is told that all may have changed. */
#define CHANGES_MAX 64

struct changes {
    struct lock lock; /* rank LOCK_LEAF; guards the next three */
    uint64_t number;  /* of the newest change; 0: none so far */
    uint64_t told;    /* the newest that somebody was told of: no other may be widened */
    int64_t from_ms[CHANGES_MAX]; /* of change k at k % CHANGES_MAX */
    /* Somebody remembers what is at or before it. Sequentially consistent: raised before the reading begins, looked
     * at after samples are in the head, so one of the two sees the other. */
    _Atomic int64_t settled_ms;
};

void changes_init(struct changes *changes);
void changes_release(struct changes *changes);
/* Something at or after from_ms is not what it was. After the fact. */
void changes_note(struct changes *changes, int64_t from_ms);
/* The number of the state that a reader who begins now finds. */
uint64_t changes_settle(struct changes *changes, int64_t until_ms);
/* The earliest time that was touched since; INT64_MAX: none, INT64_MIN: nobody knows any more. */
int64_t changes_since(struct changes *changes, uint64_t number);

/* Samples from min_ms on are in the head now. */
static inline void changes_note_samples(struct changes *changes, int64_t min_ms)
{
    if (UNLIKELY(min_ms <= atomic_load(&changes->settled_ms))) changes_note(changes, min_ms);
}

#endif
