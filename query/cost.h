/* query/cost.h: what a plan will take, before anything runs. From the index and the statistics of blocks; a few
 * microseconds when the tenant has too little for any query to be dear, else one search of the index per selector. */
#ifndef QUIPU_QUERY_COST_H
#define QUIPU_QUERY_COST_H

#include "query/limits.h"
#include "query/plan.h"
#include "query/source.h"

/* Of one node with all below it. */
struct plan_cost {
    double series;  /* that it yields, at most */
    double samples; /* read */
    double work;    /* samples looked at: those of a window at each step */
    double points;  /* that it yields, at most */
    double made;    /* points of all nodes */
};

/* Estimates the tree; the costs of single nodes go into their stats, where they have some. Sources that cannot estimate
 * are taken to be empty. ERR_CANCELED and the like: as the source says. */
MUST_USE enum err_code cost_estimate(struct query_source *source, const struct plan *plan,
                                     struct plan_cost *out, struct err *err);
/* About how long that takes one thread. */
double cost_seconds(const struct plan_cost *cost);
/* Refuses what is sure to go beyond work_max, samples_max or memory_bytes_max: an estimate may be wrong, so only what is
 * several times too much. */
MUST_USE enum err_code cost_check(struct query_source *source, const struct plan *plan,
                                  const struct query_limits *limits, struct str tenant,
                                  struct query_progress *progress, struct err *err);

#endif
