/* tests/sim/test_engine_threads.c: the engine with its threads on a simulated disk that fails now and then. Writers
 * begin new series all the time, so that samples rest on definitions which other requests logged, or failed to. At the
 * end the power goes: what was acknowledged is there. The scheduler decides the order, so a seed does not repeat a run;
 * the claim holds for every order. */
#include <pthread.h>

#include "base/hash.h"
#include "base/metric.h"
#include "engine/engine.h"
#include "tests/quipu_test.h"
#include "tests/sim/io_sim.h"

#define NOW_MS INT64_C(1767225600000) /* 2026-01-01 */
#define WRITERS 4
#define REQUESTS 250 /* of a writer */
#define SERIES 400   /* all writers write all of them, at times of their own */
#define BATCH 8

struct run {
    struct io_sim *disk;
    struct clock clock;
    struct log log;
    struct rng rng;
    struct env env;
    struct engine_config config;
    struct engine *engine;
    struct tenant *tenant;
    _Atomic int n_writing;
    _Atomic uint64_t n_acknowledged, n_failed;
};
static int64_t wall_stands_still(struct clock *clock)
{
    (void)clock;
    return NOW_MS;
}
/* A thousand times too fast: the log waits a second after a failure before it tries again. */
static int64_t mono_runs(struct clock *clock)
{
    (void)clock;
    return clock_mono_ns(clock_system()) * 1000;
}

struct request {
    struct run *run;
    int series[BATCH];
    int64_t t_ms;
    _Atomic int fate; /* 1: acknowledged, 2: failed */
};
struct writer {
    struct run *run;
    int idx;
    pthread_t thread;
    struct rng rng;
    struct request requests[REQUESTS];
    struct err err;
};

static double value_of(int series, int64_t t_ms)
{
    return (double)series * 1e6 + (double)(t_ms - NOW_MS);
}

static struct labels labels_of(struct label items[2], char text[16], int i)
{
    snprintf(text, 16, "%d", i);
    items[0] = (struct label){STR(LABEL_NAME), STR("m")};
    items[1] = (struct label){STR("i"), str_of(text)};
    return (struct labels){items, 2};
}

static struct series *series_of(struct writer *w, int i)
{
    struct label items[2];
    char text[16];
    struct labels labels = labels_of(items, text, i);
    struct buf sent;
    struct series *s;
    buf_init(&sent, MEM_BASE);
    labels_encode(&sent, labels);
    uint64_t hash = hash_xxh3(sent.p, sent.len);
    s = tenant_find_series(w->run->tenant, hash, buf_bytes(&sent), NULL);
    if (!s)
        CHECK_OK(
            tenant_add_series(w->run->tenant, labels, hash, buf_bytes(&sent), NULL, &s, &w->err),
            &w->err);
    buf_release(&sent);
    return s;
}

static void on_done(void *arg, enum err_code rc)
{
    struct request *r = arg;
    CHECK(atomic_exchange(&r->fate, rc ? 2 : 1) == 0);
    atomic_fetch_add(rc ? &r->run->n_failed : &r->run->n_acknowledged, 1);
}

static void *write_all(void *arg)
{
    struct writer *w = arg;
    for (int k = 0; k < REQUESTS; k++) {
        struct request *r = &w->requests[k];
        struct series *series[BATCH];
        int64_t t_ms[BATCH];
        double v[BATCH];
        r->run = w->run;
        r->t_ms = NOW_MS - 3600000 + k * 8 + w->idx;
        tenant_write_begin(w->run->tenant);
        for (int i = 0; i < BATCH; i++) {
            /* Series become known little by little, to all writers at about the same time. */
            r->series[i] = (int)rng_below(&w->rng, 8 + (uint64_t)k * SERIES / REQUESTS) % SERIES;
            series[i] = series_of(w, r->series[i]);
            t_ms[i] = r->t_ms;
            v[i] = value_of(r->series[i], r->t_ms);
        }
        struct write_batch b = {.n = BATCH, .series = series, .t_ms = t_ms, .v = v};
        struct write_result result;
        enum err_code rc = tenant_write(w->run->tenant, &b, on_done, r, &result, &w->err);
        tenant_write_end(w->run->tenant);
        if (rc) CHECK(atomic_exchange(&r->fate, 2) == 0);
        if (rng_chance(&w->rng, 0.7)) usleep((useconds_t)rng_below(&w->rng, 400));
    }
    atomic_fetch_sub(&w->run->n_writing, 1);
    return NULL;
}

static void run_open(struct run *run)
{
    struct err err;
    CHECK_OK(engine_open(&run->env, &run->config, &run->engine, &err), &err);
    CHECK_OK(engine_tenant(run->engine, STR("default"), true, &run->tenant, &err), &err);
}

static bool has_sample(const struct samples *s, int64_t t_ms, double v)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->t_ms[i] == t_ms) return double_bits(s->v[i]) == double_bits(v);
    return false;
}

static void check_series(struct run *run, struct writer *writers, int i, struct samples *s)
{
    struct err err;
    char text[16];
    struct label items[2];
    (void)labels_of(items, text, i);
    struct matcher m = {.op = MATCH_EQ, .name = STR("i"), .value = str_of(text)};
    struct engine_select *sel;
    samples_reset(s);
    CHECK_OK(tenant_select(run->tenant, &m, 1, INT64_MIN, INT64_MAX, &sel, &err), &err);
    if (select_count(sel)) CHECK_OK(select_read(sel, 0, INT64_MIN, INT64_MAX, s, &err), &err);
    select_release(sel);
    for (size_t k = 0; k < s->n; k++)
        CHECK_SAME_DOUBLE(s->v[k], value_of(i, s->t_ms[k])); /* nothing is invented */
    for (int w = 0; w < WRITERS; w++)
        for (int k = 0; k < REQUESTS; k++) {
            struct request *r = &writers[w].requests[k];
            if (atomic_load(&r->fate) != 1) continue;
            for (int n = 0; n < BATCH; n++)
                if (r->series[n] == i && !has_sample(s, r->t_ms, value_of(i, r->t_ms)))
                    test_fail(__FILE__, __LINE__, "series %d lost %" PRId64 ", acknowledged", i,
                              r->t_ms);
        }
}

static void one_run(uint64_t seed)
{
    static struct run run;
    static struct writer writers[WRITERS];
    struct err err;
    memset(&run, 0, sizeof(run));
    memset(writers, 0, sizeof(writers));
    rng_seed(&run.rng, seed);
    struct rng rng = run.rng; /* the engine's is another */
    run.disk = io_sim_new(seed);
    run.clock = (struct clock){wall_stands_still, mono_runs};
    log_init(&run.log, &run.clock, LOG_OFF);
    run.env = (struct env){.io = io_sim_io(run.disk),
                           .clock = &run.clock,
                           .log = &run.log,
                           .metrics = metrics_new(),
                           .rng = &run.rng,
                           .threads = true};
    run.config = engine_config_default("/data");
    run.config.wal_segment_bytes = UINT64_C(8192) << rng_below(&rng, 4);
    run_open(&run);
    atomic_store(&run.n_writing, WRITERS);
    for (int w = 0; w < WRITERS; w++) {
        writers[w].run = &run;
        writers[w].idx = w;
        rng_seed(&writers[w].rng, seed * WRITERS + (uint64_t)w);
        CHECK(pthread_create(&writers[w].thread, NULL, write_all, &writers[w]) == 0);
    }
    while (atomic_load(&run.n_writing) > 0) {
        if (rng_chance(&rng, 0.2))
            io_sim_fail(run.disk, 1 + rng_below(&rng, 10), (enum io_sim_failure)rng_below(&rng, 3));
        if (rng_chance(&rng, 0.1)) err_ignore(engine_flush(run.engine, NULL, &err)); /* may fail */
        usleep(200);
    }
    for (int w = 0; w < WRITERS; w++) pthread_join(writers[w].thread, NULL);
    io_sim_power_cut(run.disk);
    err_ignore(engine_close(run.engine, false, &err)); /* of a dead disk: frees */
    io_sim_heal(run.disk);
    run_open(&run);
    struct samples s;
    samples_init(&s, MEM_QUERY, NULL);
    for (int i = 0; i < SERIES; i++) check_series(&run, writers, i, &s);
    samples_release(&s);
    if (getenv("QUIPU_SIM_STATS"))
        printf("seed %" PRIu64 ": %" PRIu64 " acknowledged, %" PRIu64 " failed\n", seed,
               (uint64_t)atomic_load(&run.n_acknowledged), (uint64_t)atomic_load(&run.n_failed));
    CHECK_OK(engine_close(run.engine, false, &err), &err);
    metrics_free(run.env.metrics);
    io_sim_free(run.disk);
}

static void acknowledged_is_durable(void **state)
{
    (void)state;
    const char *z = getenv("QUIPU_SIM_SEEDS");
    uint64_t n = z && *z ? strtoull(z, NULL, 0) : 20;
    for (uint64_t i = 0; i < n; i++) {
        test_where = (struct test_where){true, test_seed() + i, i};
        one_run(test_where.seed);
    }
    test_where.in_property = false;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(acknowledged_is_durable)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
