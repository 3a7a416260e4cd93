/* engine/tenant_exemplars.c: exemplars between a tenant's memory and the catalog, and for who asks. */
#include "engine/engine_private.h"

static enum err_code load_run(void *ctx, struct bytes data, struct err *err)
{
    struct tenant *t = ctx;
    struct err why;
    enum err_code rc = exemplars_load(&t->exemplars, data, &why);
    if (rc == ERR_CORRUPT) { /* a sample of traces: no reason not to start */
        metric_inc(t->engine->metrics.exemplar_runs_bad);
        log_msg(t->engine->env.log, LOG_ERROR, "exemplars in the catalog are damaged, and left out",
                LOG_STR("tenant", tenant_name(t)), LOG_ERR(&why));
        return ERR_OK;
    }
    if (rc) *err = why;
    return rc;
}

enum err_code tenant_load_exemplars(struct tenant *t, struct err *err)
{
    enum err_code rc = catalog_exemplars(t->engine->catalog, t->incarnation, load_run, t, err);
    return rc ? err_context(err, "exemplars of tenant %s", t->name) : rc;
}

/* Nothing older is answered. */
static int64_t oldest_ms(struct tenant *t)
{
    int64_t retention_ms = atomic_load_explicit(&t->retention_ms, memory_order_relaxed);
    return retention_ms > 0 ? data_clock_ms(&t->engine->data_clock) - retention_ms : INT64_MIN;
}

enum err_code tenant_apply_exemplars(struct tenant *t, bool all, struct catalog_change *change,
                                     struct err *err)
{
    struct exemplar_run run;
    struct buf data;
    buf_init(&data, MEM_HEAD);
    enum err_code rc = exemplars_encode(&t->exemplars, all, &data, &run, err);
    if (!rc) {
        change->exemplars = (struct catalog_exemplars){
            .replace = all,
            .n = run.n,
            .max_ms = run.max_ms,
            .data = buf_bytes(&data),
            .keep_max = atomic_load_explicit(&t->engine->exemplar_room.max, memory_order_relaxed),
            .keep_ms = oldest_ms(t)};
        rc = catalog_apply(t->engine->catalog, change, err);
    }
    if (!rc) exemplars_saved(&t->exemplars, &run);
    buf_release(&data);
    return rc;
}

enum err_code tenant_purge_exemplars(struct tenant *t, const struct tombstone_set *deleted,
                                     struct err *err)
{
    size_t n;
    struct catalog_change change = {.incarnation = t->incarnation};
    enum err_code rc = exemplars_purge(&t->exemplars, deleted, &n, err);
    return rc || n == 0 ? rc : tenant_apply_exemplars(t, true, &change, err);
}

enum err_code tenant_exemplars(struct tenant *t, const struct matcher_set *sets, size_t n_sets,
                               int64_t mint_ms, int64_t maxt_ms, struct arena *arena,
                               struct series_exemplars **out, size_t *n, struct err *err)
{
    enum err_code rc = engine_admit(t->engine, ENGINE_QUERY, err);
    if (rc) return rc;
    struct tombstone_set *deleted = tombstones_take(&t->tombstones);
    rc = exemplars_select(&t->exemplars, sets, n_sets, MAX_OF(mint_ms, oldest_ms(t)), maxt_ms,
                          deleted, arena, out, n, err);
    tombstone_set_give(deleted);
    return rc;
}
