/* tests/wal/test_wal_threads.c: several appenders and the committer. Made for ThreadSanitizer. */
#include <pthread.h>

#include "wal_fixture.h"

#define N_THREADS 4
#define N_RECORDS 400

struct appender {
    struct fixture *f;
    unsigned number;
    _Atomic unsigned n_done;
    uint64_t last_done_pos; /* written by the committer alone */
    struct waiting {
        struct appender *owner;
        uint64_t pos;
        unsigned seq;
    } waiting[N_RECORDS];
};

static void count_done(void *arg, enum err_code rc)
{
    struct waiting *w = arg;
    CHECK(rc == ERR_OK);
    CHECK_U64(w->seq, atomic_load(&w->owner->n_done)); /* each appender's in its order */
    atomic_fetch_add(&w->owner->n_done, 1);
}

static void *append_many(void *arg)
{
    struct appender *a = arg;
    struct err err;
    for (unsigned i = 0; i < N_RECORDS; i++) {
        uint8_t payload[200];
        memset(payload, 0, sizeof(payload));
        put_u32_le(payload, a->number);
        put_u32_le(payload + 4, i);
        size_t len = 8 + (i * 7 + a->number) % 190;
        a->waiting[i].owner = a;
        a->waiting[i].seq = i;
        enum err_code rc;
        do
            rc = wal_append(a->f->wal, WAL_SAMPLES, bytes_of(payload, len), count_done,
                            &a->waiting[i], &a->waiting[i].pos, &err);
        while (rc == ERR_LIMIT);
        CHECK_OK(rc, &err);
        if (i % 50 == 49) {
            CHECK_OK(wal_commit(a->f->wal, &err), &err);
            CHECK_U64(atomic_load(&a->n_done), i + 1);
            CHECK_OK(wal_cut(a->f->wal, 0, &err), &err);
            (void)wal_disk_bytes(a->f->wal);
            CHECK(!wal_failed(a->f->wal, &err));
        }
    }
    return NULL;
}

static void run_appenders(struct fixture *f)
{
    pthread_t threads[N_THREADS];
    static struct appender appenders[N_THREADS];
    memset(appenders, 0, sizeof(appenders));
    for (unsigned i = 0; i < N_THREADS; i++) {
        appenders[i].f = f;
        appenders[i].number = i;
        CHECK(pthread_create(&threads[i], NULL, append_many, &appenders[i]) == 0);
    }
    for (unsigned i = 0; i < N_THREADS; i++) pthread_join(threads[i], NULL);
    fixture_close(f);
    for (unsigned i = 0; i < N_THREADS; i++) CHECK_U64(appenders[i].n_done, N_RECORDS);
    struct seen seen;
    CHECK_OK(fixture_open(f, 0, &seen), &f->err);
    CHECK_U64(seen.n, N_THREADS * N_RECORDS);
    unsigned next[N_THREADS] = {0};
    for (size_t i = 0; i < seen.n; i++) {
        struct seen_record *r = &seen.items[i];
        uint32_t who = get_u32_le(r->p), seq = get_u32_le(r->p + 4);
        CHECK(who < N_THREADS);
        CHECK_U64(seq, next[who]++);
        CHECK_U64(r->pos, appenders[who].waiting[seq].pos);
    }
    seen_release(&seen);
}

static void test_four_appenders(void **state)
{
    (void)state;
    static const enum wal_sync modes[] = {WAL_SYNC_ALWAYS, WAL_SYNC_INTERVAL, WAL_SYNC_OFF};
    for (size_t i = 0; i < COUNT_OF(modes); i++) {
        struct fixture f;
        fixture_init(&f, true);
        f.config.sync = modes[i];
        f.config.sync_interval_ms = 2;
        f.config.segment_bytes = 20000;
        f.config.queue_bytes_max = 5000;
        fixture_start(&f);
        run_appenders(&f);
        fixture_release(&f);
    }
}

/* ---- a disk that fails now and then ---- */

struct shaky {
    struct fixture *f;
    unsigned number;
    struct shaky_record {
        _Atomic int rc; /* -1: not told */
    } records[N_RECORDS];
};

static void note_done(void *arg, enum err_code rc)
{
    struct shaky_record *r = arg;
    CHECK(atomic_exchange(&r->rc, (int)rc) == -1); /* told once */
}

static void *append_shakily(void *arg)
{
    struct shaky *a = arg;
    struct err err;
    for (unsigned i = 0; i < N_RECORDS; i++) {
        uint8_t payload[8];
        put_u32_le(payload, a->number);
        put_u32_le(payload + 4, i);
        atomic_init(&a->records[i].rc, -1);
        if (i % 40 == 10 * a->number) io_sim_fail(a->f->sim, 1 + i % 7, IO_SIM_EIO);
        uint64_t pos;
        enum err_code rc = wal_append(a->f->wal, WAL_SAMPLES, bytes_of(payload, sizeof(payload)),
                                      note_done, &a->records[i], &pos, &err);
        if (rc) {
            CHECK(rc == ERR_LIMIT || rc == ERR_IO);
            atomic_store(&a->records[i].rc, (int)rc); /* refused: never told */
            usleep(1000);
        } else if (i % 20 == 0 && wal_commit(a->f->wal, &err)) {
            CHECK(err.code == ERR_IO);
        }
    }
    return NULL;
}

/* What was acknowledged among failures comes back; each record is told its fate once; writes go on. How many fail
 * is the scheduler's: test_wal_sim counts. */
static void test_failing_disk(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, false);
    f.env.threads = true;
    f.config.segment_bytes = 3000;
    fixture_start(&f);
    static struct shaky shaky[N_THREADS];
    pthread_t threads[N_THREADS];
    for (unsigned i = 0; i < N_THREADS; i++) {
        shaky[i].f = &f;
        shaky[i].number = i;
        CHECK(pthread_create(&threads[i], NULL, append_shakily, &shaky[i]) == 0);
    }
    for (unsigned i = 0; i < N_THREADS; i++) pthread_join(threads[i], NULL);
    io_sim_heal(f.sim);
    /* The first commit may still tell of records that failed before. */
    uint64_t pos;
    while (wal_append(f.wal, WAL_SERIES, bytes_of("last", 4), NULL, NULL, &pos, &f.err) ||
           wal_commit(f.wal, &f.err))
        usleep(10000);
    fixture_close(&f);
    io_sim_power_cut(f.sim);

    struct seen seen;
    CHECK_OK(fixture_open(&f, 0, &seen), &f.err);
    CHECK(seen.n > 0 && seen.items[seen.n - 1].type == WAL_SERIES);
    static bool back[N_THREADS][N_RECORDS];
    memset(back, 0, sizeof(back));
    for (size_t i = 0; i < seen.n; i++) {
        const struct seen_record *r = &seen.items[i];
        if (r->type == WAL_SERIES) continue; /* "last", perhaps more than once */
        CHECK_U64(r->len, 8);
        back[get_u32_le(r->p)][get_u32_le(r->p + 4)] = true;
    }
    for (unsigned i = 0; i < N_THREADS; i++) {
        for (unsigned k = 0; k < N_RECORDS; k++) {
            int rc = atomic_load(&shaky[i].records[k].rc);
            CHECK(rc != -1);
            if (rc == 0) CHECK(back[i][k]);
        }
    }
    seen_release(&seen);
    fixture_release(&f);
}

static void test_close_flushes(void **state)
{
    (void)state;
    struct fixture f;
    struct seen seen;
    fixture_init(&f, true);
    for (unsigned round = 0; round < 20; round++) {
        CHECK_OK(fixture_open(&f, 0, &seen), &f.err);
        CHECK_U64(seen.n, round);
        seen_release(&seen);
        fixture_append(&f, "one more");
        fixture_close(&f);
    }
    fixture_release(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_four_appenders),
        cmocka_unit_test(test_failing_disk),
        cmocka_unit_test(test_close_flushes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
