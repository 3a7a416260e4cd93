/* tests/engine/fixture.h: an engine on a folder of its own, with a clock that stands still. */
#ifndef QUIPU_TESTS_ENGINE_FIXTURE_H
#define QUIPU_TESTS_ENGINE_FIXTURE_H

#include "base/hash.h"
#include "base/metric.h"
#include "engine/engine.h"
#include "tests/quipu_test.h"

#define NOW_MS INT64_C(1767225600000) /* 2026-01-01 */

struct fixture {
    char dir[256];
    struct clock_fake clock;
    struct log log;
    struct rng rng;
    struct env env;
    struct engine_config config;
    struct engine *engine;
    struct err err;
};

__attribute__((unused)) static void fixture_init(struct fixture *f)
{
    memset(f, 0, sizeof(*f));
    test_temp_dir(f->dir, sizeof(f->dir));
    clock_fake_init(&f->clock, NOW_MS);
    const char *level = getenv("QUIPU_TEST_LOG");
    log_init(&f->log, &f->clock.clock, level ? LOG_DEBUG : LOG_OFF);
    rng_seed(&f->rng, 1);
    f->env = (struct env){.io = io_posix(),
                          .clock = &f->clock.clock,
                          .log = &f->log,
                          .metrics = metrics_new(),
                          .rng = &f->rng};
    CHECK(f->env.metrics != NULL);
    f->config = engine_config_default(f->dir);
    f->config.wal_sync = WAL_SYNC_OFF; /* no test here cuts the power */
}

__attribute__((unused)) static void fixture_open(struct fixture *f)
{
    fixture_init(f);
    CHECK_OK(engine_open(&f->env, &f->config, &f->engine, &f->err), &f->err);
}

__attribute__((unused)) static void fixture_reopen(struct fixture *f, bool flush)
{
    CHECK_OK(engine_close(f->engine, flush, &f->err), &f->err);
    CHECK_OK(engine_open(&f->env, &f->config, &f->engine, &f->err), &f->err);
}

__attribute__((unused)) static void fixture_close(struct fixture *f)
{
    CHECK_OK(engine_close(f->engine, false, &f->err), &f->err);
    metrics_free(f->env.metrics);
    test_remove_dir(f->dir);
}

__attribute__((unused)) static struct tenant *fixture_tenant(struct fixture *f, const char *name)
{
    struct tenant *t;
    CHECK_OK(engine_tenant(f->engine, str_of(name), true, &t, &f->err), &f->err);
    return t;
}

/* {__name__="m", i="<i>"} */
__attribute__((unused)) static struct series *fixture_series(struct fixture *f, struct tenant *t,
                                                             int i)
{
    char text[32];
    snprintf(text, sizeof(text), "%d", i);
    struct label items[] = {{STR(LABEL_NAME), STR("m")}, {STR("i"), str_of(text)}};
    struct labels labels = {items, COUNT_OF(items)};
    struct buf sent;
    struct series *s;
    buf_init(&sent, MEM_BASE);
    labels_encode(&sent, labels);
    uint64_t hash = hash_xxh3(sent.p, sent.len);
    s = tenant_find_series(t, hash, buf_bytes(&sent), NULL);
    if (!s)
        CHECK_OK(tenant_add_series(t, labels, hash, buf_bytes(&sent), NULL, &s, &f->err), &f->err);
    buf_release(&sent);
    return s;
}

struct done {
    int n;
    enum err_code rc;
};
__attribute__((unused)) static void note_done(void *arg, enum err_code rc)
{
    struct done *d = arg;
    d->n++;
    d->rc = rc;
}

/* One sample of series i, committed. */
__attribute__((unused)) static void write_one(struct fixture *f, struct tenant *t, int i,
                                              int64_t t_ms, double v)
{
    struct done done = {0, ERR_OK};
    tenant_write_begin(t);
    struct series *s = fixture_series(f, t, i);
    struct write_batch b = {.n = 1, .series = &s, .t_ms = &t_ms, .v = &v};
    struct write_result result;
    CHECK_OK(tenant_write(t, &b, note_done, &done, &result, &f->err), &f->err);
    tenant_write_end(t);
    CHECK_OK(engine_commit(f->engine, &f->err), &f->err);
    CHECK(done.n == 1);
    CHECK_OK(done.rc, &f->err);
}

#endif
