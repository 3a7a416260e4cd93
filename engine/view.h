/* engine/view.h: what a reader sees of a tenant: its blocks, and the head's generations after flushed_gen. A select
 * holds the view it began with; a flush, a compaction or retention publishes another. What only older views can see
 * (flushed chunks, culled series, replaced blocks) goes when the last of those views is released.
 * Threads: any; one lock per tenant. */
#ifndef QUIPU_ENGINE_VIEW_H
#define QUIPU_ENGINE_VIEW_H

#include "base/lock.h"
#include "storage/block.h"

struct view {
    struct view *newer;   /* GUARDED_BY(views.lock) */
    uint32_t refs;        /* GUARDED_BY(views.lock) */
    uint32_t flushed_gen; /* the head's chunks of generations up to here are in `blocks` */
    uint64_t number;      /* counts up from 1 */
    size_t n_blocks;
    struct block *blocks[]; /* ascending by sequence: later ones win */
};

struct views {
    struct lock lock;             /* rank LOCK_TENANT_VIEW; guards the list and all refs */
    struct view *oldest, *newest; /* those still held, and the current one, which is never NULL */
};

MUST_USE enum err_code views_init(struct views *views, struct err *err);
void views_release(struct views *views);      /* nobody holds one any more */
struct view *views_take(struct views *views); /* the current one, held */
void views_give(struct views *views, struct view *view);
/* The oldest that is held: what it and later ones cannot see may go. */
void views_oldest(struct views *views, uint64_t *number, uint32_t *flushed_gen);

/* What a new view changes against the current one. */
struct view_change {
    struct block *const *add; /* a reference of each passes to the view when it is published */
    size_t n_add;
    const struct ulid *remove;
    size_t n_remove;
    uint32_t flushed_gen; /* not below the current one's */
};
/* Prepares the next view; views_publish cannot fail. Only one thread may change views (LOCK_TENANT_FLUSH). */
MUST_USE enum err_code views_prepare(struct views *views, const struct view_change *change,
                                     struct view **out, struct err *err);
void views_publish(struct views *views, struct view *view);
void views_discard(struct view *view, const struct view_change *change); /* instead; NULL: no-op */

#endif
