/* ingest/import_store.c: see the header. */
#include "ingest/import_store.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/lock.h"
#include "ingest/tenant_source.h"

/* The committer may still hold the lock when the waiter has seen the end, so both do it before they leave. */
struct wait {
    struct lock lock; /* rank LOCK_LEAF; guards done, rc */
    struct cond ended;
    bool done;
    enum err_code rc;
};

static void on_stored(void *arg, enum err_code rc)
{
    struct wait *w = arg;
    lock_take(&w->lock);
    w->rc = rc;
    w->done = true;
    cond_broadcast(&w->ended);
    lock_release(&w->lock);
}

static void note_times(struct import_report *report, struct tenant *tenant, struct arena *arena,
                       const struct write_result *result)
{
    char series[201];
    if (!result->first_bad) return;
    report->rejected[REJECT_TOO_OLD] += result->n_too_old;
    report->rejected[REJECT_TOO_NEW] += result->n_too_new;
    if (!report->n_problems) {
        snprintf(report->problem, sizeof(report->problem),
                 "out of bounds: the time %" PRId64 " is too far in the %s: %s",
                 result->first_bad_t_ms, result->first_bad_too_new ? "future" : "past",
                 tenant_series_short(tenant, result->first_bad, arena, series, sizeof(series)));
    }
    report->n_problems += result->n_too_old + result->n_too_new;
}

static void note_problems(struct import_report *report, const struct write_request *w)
{
    for (size_t i = 1; i < REJECT_N; i++) report->rejected[i] += w->rejected[i];
    if (w->n_problems && !report->n_problems)
        snprintf(report->problem, sizeof(report->problem), "%s",
                 w->problems[0] ? w->problems[0] : "invalid");
    report->n_problems += w->n_problems;
}

/* Between tenant_write_begin and _end. *written: `wait` will be told. */
static enum err_code write_batch(struct tenant *tenant, struct write_request *w, struct wait *wait,
                                 struct import_report *report, bool *written, struct err *err)
{
    struct write_result result = {0};
    struct write_batch *b = &w->batch;
    if (b->n + b->n_histograms == 0) return ERR_OK;
    enum err_code rc = tenant_write(tenant, b, on_stored, wait, &result, err);
    if (rc) return rc;
    *written = true;
    note_times(report, tenant, w->arena, &result);
    report->n_floats += b->n; /* it was compacted to what was good */
    report->n_histograms += b->n_histograms;
    return ERR_OK;
}

static enum err_code wait_stored(struct engine *engine, bool threads, struct wait *w,
                                 struct err *err)
{
    enum err_code rc = threads ? ERR_OK : engine_commit(engine, err);
    lock_take(&w->lock);
    while (threads && !w->done) cond_wait(&w->ended, &w->lock);
    if (!rc && w->rc)
        rc = err_set(err, w->rc, "the log could not be written (%s)", err_code_name(w->rc));
    lock_release(&w->lock);
    return rc;
}

enum err_code import_store(struct engine *engine, bool threads, struct tenant *tenant,
                           const struct label_limits *limits, struct bytes message,
                           struct arena *arena, struct import_report *report, struct err *err)
{
    struct series_source source = tenant_series_source(tenant);
    struct write_request w;
    struct wait wait = {.done = false};
    bool written = false;
    arena_reset(arena);
    lock_init(&wait.lock, LOCK_LEAF);
    cond_init(&wait.ended);
    write_request_init(&w, arena, limits, source);
    tenant_write_begin(tenant);
    enum err_code rc = write_request_decode(&w, message, err);
    if (!rc) rc = write_batch(tenant, &w, &wait, report, &written, err);
    tenant_write_end(tenant);
    if (written) rc = wait_stored(engine, threads, &wait, err);
    note_problems(report, &w);
    if (!rc && w.add_rc) {
        *err = w.add_err;
        rc = w.add_rc;
    }
    cond_destroy(&wait.ended);
    lock_destroy(&wait.lock);
    return rc;
}
