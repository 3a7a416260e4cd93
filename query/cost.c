/* query/cost.c: see the header. */
#include "query/cost.h"

#include <inttypes.h>
#include <stdio.h>

#include "query/explain.h"

/* By how much an estimate must be beyond a limit: series are taken to have as many samples as the average one. */
#define MARGIN 4.0
#define POINT_BYTES 16.0 /* of a result: time and value */

/* Of one thread, in seconds; bench_query's figures, rounded. */
#define SECONDS_PER_SAMPLE 8e-9
#define SECONDS_PER_LOOK 1e-9
#define SECONDS_PER_POINT 5e-9

struct estimator {
    struct query_source *source;
    bool coarse; /* all of the tenant's series instead of the matching ones */
    bool keeps;  /* in the nodes' stats, where they have some */
    struct err *err;
};

static enum err_code estimate(struct estimator *e, const struct plan *plan, struct plan_cost *out);

/* At how many steps a sample is looked at. */
static double steps_per_sample(const struct plan *plan)
{
    double n = (double)plan->grid.n;
    const struct plan_window *w = &plan->window;
    if (w->pinned || plan->grid.step_ms <= 0) return n;
    double in_window = (double)w->range_ms / (double)plan->grid.step_ms + 1;
    return in_window < n ? in_window : n;
}

static enum err_code estimate_selector(struct estimator *e, const struct plan *plan,
                                       struct plan_cost *out)
{
    uint64_t series = 0, samples = 0;
    *out = (struct plan_cost){0};
    if (!e->source->ops->estimate || !plan->grid.n) return ERR_OK;
    enum err_code rc =
        e->source->ops->estimate(e->source, plan->matchers, e->coarse ? 0 : plan->n_matchers,
                                 plan->mint_ms, plan->maxt_ms, &series, &samples, e->err);
    double looks = (double)samples * steps_per_sample(plan);
    double points = (double)series * (double)plan->grid.n;
    out->series = (double)series;
    out->samples = (double)samples;
    out->points = looks < points ? looks : points;
    out->work = plan->kind == PLAN_SELECT ? out->points : looks;
    return rc;
}

/* Sums what the arguments take; what they yield is left to the caller. */
static enum err_code estimate_args(struct estimator *e, const struct plan *plan,
                                   struct plan_cost *out)
{
    *out = (struct plan_cost){0};
    for (size_t i = 0; i < plan->n_args; i++) {
        struct plan_cost arg;
        enum err_code rc = estimate(e, plan->args[i], &arg);
        if (rc) return rc;
        out->samples += arg.samples;
        out->work += arg.work;
        out->made += arg.made;
        if (arg.series > out->series) out->series = arg.series;
        if (arg.points > out->points) out->points = arg.points;
    }
    return ERR_OK;
}

static void finish(const struct plan *plan, struct plan_cost *out)
{
    double n = (double)plan->grid.n;
    switch (plan->kind) {
    case PLAN_SUBQUERY: out->work += out->points * steps_per_sample(plan); break;
    case PLAN_RANGE: out->points = out->series * n; break;
    case PLAN_AGGREGATE:
        if (!NODE_AS(aggregate, (struct node *)(uintptr_t)plan->node)->has_clause) out->series = 1;
        break;
    case PLAN_ABSENT:
    case PLAN_VECTOR: out->series = 1; break;
    case PLAN_REPEAT: out->points = out->series * n; break;
    default: break;
    }
    double most = out->series * n;
    if (out->points > most) out->points = most;
}

static enum err_code estimate(struct estimator *e, const struct plan *plan, struct plan_cost *out)
{
    bool selects = plan->kind == PLAN_SELECT || plan->kind == PLAN_SELECT_RANGE;
    enum err_code rc = selects ? estimate_selector(e, plan, out) : estimate_args(e, plan, out);
    if (!rc && !selects) finish(plan, out);
    if (!rc) out->made += out->points;
    if (!rc && e->keeps && plan->stats) plan->stats->cost = *out;
    return rc;
}

enum err_code cost_estimate(struct query_source *source, const struct plan *plan,
                            struct plan_cost *out, struct err *err)
{
    struct estimator e = {.source = source, .keeps = true, .err = err};
    return estimate(&e, plan, out);
}

double cost_seconds(const struct plan_cost *cost)
{
    return cost->samples * SECONDS_PER_SAMPLE + cost->work * SECONDS_PER_LOOK +
           cost->made * SECONDS_PER_POINT;
}

/* All points of the result are held in the end, if nothing in between drops some. */
static bool keeps_points(const struct plan *plan)
{
    while (plan->kind == PLAN_ELEMENT || plan->kind == PLAN_NEGATE || plan->kind == PLAN_LABELS)
        plan = plan->args[plan->main_arg];
    return plan->kind == PLAN_SELECT || plan->kind == PLAN_RANGE;
}

static enum query_limit exceeded(const struct plan_cost *cost, const struct plan *plan,
                                 const struct query_limits *l, double *reached, double *allowed)
{
    const struct {
        enum query_limit limit;
        double reached, allowed;
    } checks[] = {
        {LIMIT_WORK, cost->work, (double)l->work_max},
        {LIMIT_SAMPLES, keeps_points(plan) ? cost->points : 0, (double)l->samples_max},
        {LIMIT_MEMORY, keeps_points(plan) ? cost->points * POINT_BYTES : 0,
         (double)l->memory_bytes_max},
    };
    for (size_t i = 0; i < COUNT_OF(checks); i++) {
        *reached = checks[i].reached;
        *allowed = checks[i].allowed;
        if (*allowed > 0 && *reached > *allowed * MARGIN) return checks[i].limit;
    }
    return LIMIT_NONE;
}

enum err_code cost_check(struct query_source *source, const struct plan *plan,
                         const struct query_limits *limits, struct str tenant,
                         struct query_progress *progress, struct err *err)
{
    struct estimator e = {.source = source, .coarse = true, .err = err};
    struct plan_cost cost;
    double reached = 0, allowed;
    enum query_limit limit = LIMIT_NONE;
    enum err_code rc = estimate(&e, plan, &cost);
    if (!rc) limit = exceeded(&cost, plan, limits, &reached, &allowed);
    if (rc || limit == LIMIT_NONE) return rc; /* not even with everything that there is */
    e.coarse = false;
    rc = estimate(&e, plan, &cost);
    if (!rc) limit = exceeded(&cost, plan, limits, &reached, &allowed);
    if (rc || limit == LIMIT_NONE) return rc;
    char what[256];
    snprintf(what, sizeof(what),
             "the query was refused before it ran: by estimate it reads %.3g samples of %.3g "
             "series and looks at %.3g in the windows of %zu steps",
             cost.samples, cost.series, cost.work, plan->grid.n);
    struct limit_breach breach = {limit, what, reached < 9e18 ? (uint64_t)reached : (uint64_t)9e18,
                                  (uint64_t)allowed, tenant};
    return query_limit_error(&breach, progress, err);
}
