/* engine/replay_apply.h: the samples of the log to the head, many at a time.
 * The log has them by scrape, the head by series: one after the other, each would wait for three cache lines of its
 * series. So they are gathered by groups of series, a group's lines fit into a near cache, and the groups of one
 * stripe are one thread's. The order of the samples of a series stays. Threads: one owns it. */
#ifndef QUIPU_ENGINE_REPLAY_APPLY_H
#define QUIPU_ENGINE_REPLAY_APPLY_H

#include "base/pool.h"
#include "engine/engine_private.h"

#define APPLY_GROUPS 64 /* a multiple of HEAD_STRIPES */
static_assert(APPLY_GROUPS % HEAD_STRIPES == 0, "a group is of one stripe");

struct apply_item {
    struct series *series; /* NULL: what follows is another tenant's */
    int64_t t_ms;
    union {
        double v;
        struct tenant *tenant;
    };
};
struct replay_apply {
    struct engine *engine;
    struct pool *pool; /* NULL: the caller's thread alone */
    struct apply_item
        *items; /* APPLY_GROUPS times group_max; mapped, so that only what is used takes memory */
    size_t group_max, map_bytes;
    struct {
        struct tenant *tenant; /* of the last item; NULL: none so far */
        uint32_t n;
    } groups[APPLY_GROUPS];
    size_t n;
    _Atomic uint64_t n_stored;
    struct err errs[HEAD_STRIPES];
};

/* bytes_max: of the samples gathered. */
MUST_USE enum err_code replay_apply_init(struct replay_apply *apply, struct engine *engine,
                                         size_t bytes_max, struct err *err);
void replay_apply_release(struct replay_apply *apply);
/* Must be empty before something else touches the head. */
MUST_USE enum err_code replay_apply_run(struct replay_apply *apply, struct err *err);

/* Takes a sample; those gathered go to the head when there is no room. */
MUST_USE static inline enum err_code replay_apply_add(struct replay_apply *apply, struct tenant *t,
                                                      struct series *s, int64_t t_ms, double v,
                                                      struct err *err)
{
    size_t g = (s->id / SERIES_PAGE + t->stripe_salt) % APPLY_GROUPS;
    if (UNLIKELY(apply->groups[g].n + 2 > apply->group_max)) {
        enum err_code rc = replay_apply_run(apply, err);
        if (rc) return rc;
    }
    struct apply_item *item = apply->items + g * apply->group_max + apply->groups[g].n;
    if (UNLIKELY(apply->groups[g].tenant != t)) {
        *item++ = (struct apply_item){.series = NULL, .tenant = t};
        apply->groups[g].n++;
        apply->groups[g].tenant = t;
    }
    *item = (struct apply_item){.series = s, .t_ms = t_ms, .v = v};
    apply->groups[g].n++;
    apply->n++;
    return ERR_OK;
}

#endif
