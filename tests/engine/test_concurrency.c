/* tests/engine/test_concurrency.c: writers, readers, a flusher and the engine's own thread at once. Every series is
 * written by one thread in the order of time, so whatever a reader sees of it must be a gapless beginning, and at
 * least what was acknowledged before. Run with -DQUIPU_SANITIZE=thread, too. */
#include <pthread.h>

#include "tests/engine/fixture.h"

#define WRITERS 4
#define READERS 2
#define SERIES 60   /* of a writer */
#define ROUNDS 1000 /* samples of each */
#define CHURN 20    /* series of a writer that begin and end every 16 rounds */

struct shared {
    struct fixture f;
    struct tenant *t;
    int64_t t0_ms;
    _Atomic int acknowledged[WRITERS]; /* rounds whose completion ran */
    _Atomic int n_writing;
    _Atomic uint64_t n_reads;
};
struct thread {
    struct shared *shared;
    int idx;
    pthread_t thread;
    struct err err;
};
struct round {
    struct shared *shared;
    int writer, round;
};

static void round_done(void *arg, enum err_code rc)
{
    struct round *r = arg;
    CHECK(rc == ERR_OK);
    /* In order: completions run in that of the log. A late head may reorder two of one thread, so the larger wins. */
    int now = atomic_load(&r->shared->acknowledged[r->writer]);
    while (now < r->round + 1 &&
           !atomic_compare_exchange_weak(&r->shared->acknowledged[r->writer], &now, r->round + 1)) {
    }
    mem_free(r);
}

static double value_at(int writer, int series, int round)
{
    return writer * 1e6 + series * 1e3 + round;
}

static struct series *series_of(struct shared *sh, int writer, const char *kind, int i,
                                struct series *hint, struct err *err)
{
    char w[16], n[32];
    snprintf(w, sizeof(w), "%d", writer);
    snprintf(n, sizeof(n), "%d", i);
    struct label items[] = {
        {STR(LABEL_NAME), str_of(kind)}, {STR("i"), str_of(n)}, {STR("writer"), str_of(w)}};
    struct labels labels = {items, COUNT_OF(items)};
    struct buf sent;
    buf_init(&sent, MEM_BASE);
    labels_encode(&sent, labels);
    uint64_t hash = hash_xxh3(sent.p, sent.len);
    struct series *s = tenant_find_series(sh->t, hash, buf_bytes(&sent), hint);
    if (!s) CHECK_OK(tenant_add_series(sh->t, labels, hash, buf_bytes(&sent), hint, &s, err), err);
    buf_release(&sent);
    return s;
}

static void *writer(void *arg)
{
    struct thread *me = arg;
    struct shared *sh = me->shared;
    struct series *series[SERIES + CHURN], *hint;
    int64_t t_ms[SERIES + CHURN];
    double v[SERIES + CHURN];
    for (int round = 0; round < ROUNDS; round++) {
        struct round *r = mem_calloc(MEM_BASE, 1, sizeof(*r));
        *r = (struct round){sh, me->idx, round};
        hint = NULL;
        tenant_write_begin(sh->t);
        for (int i = 0; i < SERIES + CHURN; i++) {
            bool churns = i >= SERIES;
            int number = churns ? i + round / 16 * CHURN : i;
            series[i] = series_of(sh, me->idx, churns ? "churn" : "steady", number, hint, &me->err);
            hint = series[i];
            t_ms[i] = sh->t0_ms + round * 1000;
            v[i] = value_at(me->idx, i, round);
        }
        struct write_batch b = {.n = SERIES + CHURN, .series = series, .t_ms = t_ms, .v = v};
        struct write_result result;
        CHECK_OK(tenant_write(sh->t, &b, round_done, r, &result, &me->err), &me->err);
        tenant_write_end(sh->t);
        CHECK_U64(result.n_too_new + result.n_too_old, 0);
        if (round % 4 == 0) usleep(4000);
    }
    atomic_fetch_sub(&sh->n_writing, 1);
    return NULL;
}

static int number_of(struct labels labels, struct str name)
{
    char text[16] = {0};
    struct str s = labels_get(labels, name);
    CHECK(s.len > 0 && s.len < sizeof(text));
    memcpy(text, s.p, s.len);
    return atoi(text);
}

static void check_all(struct shared *sh, struct err *err)
{
    int at_least[WRITERS], n_seen[WRITERS] = {0};
    for (int w = 0; w < WRITERS; w++) at_least[w] = atomic_load(&sh->acknowledged[w]);
    struct matcher m = {.op = MATCH_EQ, .name = STR(LABEL_NAME), .value = STR("steady")};
    struct engine_select *sel;
    struct samples s;
    samples_init(&s, MEM_QUERY, NULL);
    CHECK_OK(tenant_select(sh->t, &m, 1, INT64_MIN, INT64_MAX, &sel, err), err);
    for (size_t i = 0; i < select_count(sel); i++) {
        struct labels labels = select_labels(sel, i);
        int w = number_of(labels, STR("writer")), k = number_of(labels, STR("i"));
        samples_reset(&s);
        CHECK_OK(select_read(sel, i, INT64_MIN, INT64_MAX, &s, err), err);
        CHECK(s.n >= (size_t)at_least[w]);
        for (size_t n = 0; n < s.n; n++) {
            CHECK_I64(s.t_ms[n], sh->t0_ms + (int64_t)n * 1000);
            CHECK(s.v[n] == value_at(w, k, (int)n));
        }
        n_seen[w]++;
    }
    for (int w = 0; w < WRITERS; w++) CHECK(at_least[w] == 0 || n_seen[w] == SERIES);
    select_release(sel);
    samples_release(&s);
    atomic_fetch_add(&sh->n_reads, 1);
}

static void *reader(void *arg)
{
    struct thread *me = arg;
    struct shared *sh = me->shared;
    while (atomic_load(&sh->n_writing) > 0) {
        check_all(sh, &me->err);
        struct arena arena;
        struct str *values;
        size_t n;
        bool truncated;
        struct label_want all = {0};
        arena_init(&arena, MEM_QUERY, 0);
        CHECK_OK(tenant_label_values(sh->t, STR("writer"), NULL, 0, INT64_MIN, INT64_MAX, &all,
                                     &arena, &values, &n, &truncated, &me->err),
                 &me->err);
        CHECK(n <= WRITERS);
        arena_release(&arena);
        struct tenant_stats stats;
        tenant_stats(sh->t, &stats);
    }
    return NULL;
}

static void *flusher(void *arg)
{
    struct thread *me = arg;
    struct shared *sh = me->shared;
    while (atomic_load(&sh->n_writing) > 0) {
        CHECK_OK(engine_flush(sh->f.engine, sh->t, &me->err), &me->err);
        CHECK_OK(engine_step(sh->f.engine, &me->err), &me->err);
        usleep(5000);
    }
    return NULL;
}

static void all_at_once(void **state)
{
    (void)state;
    static struct shared sh;
    static struct thread threads[WRITERS + READERS + 1];
    memset(&sh, 0, sizeof(sh));
    fixture_init(&sh.f);
    sh.f.env.threads = true;
    sh.f.env.clock = clock_system();
    sh.f.config.flush_window_ms = 50; /* series that ended leave while the test runs */
    sh.f.config.wal_sync = WAL_SYNC_OFF;
    CHECK_OK(engine_open(&sh.f.env, &sh.f.config, &sh.f.engine, &sh.f.err), &sh.f.err);
    sh.t = fixture_tenant(&sh.f, "default");
    sh.t0_ms = clock_wall_ms(sh.f.env.clock) - 3600 * 1000;
    atomic_store(&sh.n_writing, WRITERS);
    for (int i = 0; i < WRITERS + READERS + 1; i++) {
        threads[i] = (struct thread){.shared = &sh, .idx = i};
        void *(*fn)(void *) = i < WRITERS ? writer : i < WRITERS + READERS ? reader : flusher;
        CHECK(pthread_create(&threads[i].thread, NULL, fn, &threads[i]) == 0);
    }
    for (int i = 0; i < WRITERS + READERS + 1; i++) pthread_join(threads[i].thread, NULL);
    CHECK_OK(engine_commit(sh.f.engine, &sh.f.err), &sh.f.err);
    for (int w = 0; w < WRITERS; w++) CHECK_I64(atomic_load(&sh.acknowledged[w]), ROUNDS);
    check_all(&sh, &sh.f.err);
    fixture_reopen(&sh.f, false);
    sh.t = fixture_tenant(&sh.f, "default");
    check_all(&sh, &sh.f.err);
    CHECK(atomic_load(&sh.n_reads) >= 2);
    fixture_close(&sh.f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_at_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
