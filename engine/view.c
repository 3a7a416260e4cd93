/* engine/view.c: see the header. The list runs from the oldest view that is held to the current one. */
#include "engine/view.h"

#include <stdlib.h>

static struct view *view_new(size_t n_blocks)
{
    return mem_calloc(MEM_STORAGE, 1, sizeof(struct view) + n_blocks * sizeof(struct block *));
}

enum err_code views_init(struct views *views, struct err *err)
{
    lock_init(&views->lock, LOCK_TENANT_VIEW);
    struct view *view = view_new(0);
    views->oldest = views->newest = view;
    if (!view) return err_set(err, ERR_NO_MEMORY, "no memory for a view");
    view->number = 1;
    view->refs = 1;
    return ERR_OK;
}

static void view_free(struct view *view)
{
    for (size_t i = 0; i < view->n_blocks; i++) block_unref(view->blocks[i]);
    mem_free(view);
}

void views_release(struct views *views)
{
    ASSERT(views->oldest == views->newest);
    if (views->newest) view_free(views->newest);
    lock_destroy(&views->lock);
}

struct view *views_take(struct views *views)
{
    lock_take(&views->lock);
    struct view *view = views->newest;
    view->refs++;
    lock_release(&views->lock);
    return view;
}

/* Unlinks what nobody holds; returns it as a list. Under the lock. */
static struct view *take_dead(struct views *views)
{
    struct view *dead = NULL;
    for (struct view **link = &views->oldest; *link;) {
        struct view *view = *link;
        if (view->refs > 0) {
            link = &view->newer;
            continue;
        }
        *link = view->newer;
        view->newer = dead;
        dead = view;
    }
    return dead;
}

/* Outside the lock: the last reference of a block closes its file. */
static void free_dead(struct view *dead)
{
    for (struct view *next; dead; dead = next) {
        next = dead->newer;
        view_free(dead);
    }
}

void views_give(struct views *views, struct view *view)
{
    lock_take(&views->lock);
    ASSERT(view->refs > 0);
    view->refs--;
    struct view *dead = view->refs == 0 ? take_dead(views) : NULL;
    lock_release(&views->lock);
    free_dead(dead);
}

void views_oldest(struct views *views, uint64_t *number, uint32_t *flushed_gen)
{
    lock_take(&views->lock);
    *number = views->oldest->number;
    *flushed_gen = views->oldest->flushed_gen;
    lock_release(&views->lock);
}

static bool is_removed(const struct view_change *change, const struct block *block)
{
    for (size_t i = 0; i < change->n_remove; i++)
        if (strcmp(change->remove[i].text, block_info(block)->ulid.text) == 0) return true;
    return false;
}

static int compare_sequence(const void *a, const void *b)
{
    uint64_t x = block_info(*(struct block *const *)a)->sequence;
    uint64_t y = block_info(*(struct block *const *)b)->sequence;
    return (x > y) - (x < y);
}

enum err_code views_prepare(struct views *views, const struct view_change *change,
                            struct view **out, struct err *err)
{
    const struct view *old = views->newest; /* only this thread replaces it */
    struct view *view = view_new(old->n_blocks + change->n_add);
    *out = NULL;
    if (!view) return err_set(err, ERR_NO_MEMORY, "no memory for a view");
    ASSERT(change->flushed_gen >= old->flushed_gen);
    view->flushed_gen = change->flushed_gen;
    view->number = old->number + 1;
    view->refs = 1;
    for (size_t i = 0; i < old->n_blocks; i++) {
        if (is_removed(change, old->blocks[i])) continue;
        view->blocks[view->n_blocks++] = block_ref(old->blocks[i]);
    }
    for (size_t i = 0; i < change->n_add; i++) view->blocks[view->n_blocks++] = change->add[i];
    qsort(view->blocks, view->n_blocks, sizeof(view->blocks[0]), compare_sequence);
    *out = view;
    return ERR_OK;
}

void views_publish(struct views *views, struct view *view)
{
    lock_take(&views->lock);
    struct view *old = views->newest;
    old->newer = view;
    views->newest = view;
    old->refs--; /* the list's own */
    struct view *dead = old->refs == 0 ? take_dead(views) : NULL;
    lock_release(&views->lock);
    free_dead(dead);
}

void views_discard(struct view *view, const struct view_change *change)
{
    if (!view) return;
    /* References of added blocks are still the caller's. */
    for (size_t i = 0; i < change->n_add; i++) block_ref(change->add[i]);
    view_free(view);
}
