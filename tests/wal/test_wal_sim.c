/* tests/wal/test_wal_sim.c: the log on a simulated disk that loses, tears, fails and fills up, beside a list of
 * what was appended. In every life of the process: what was acknowledged comes back, in order and byte by byte;
 * nothing comes back that was not appended; no position is given twice. */
#include "base/metric.h"
#include "tests/quipu_test.h"
#include "tests/sim/io_sim.h"
#include "wal/format.h"

enum fate {
    PENDING, /* nobody was told */
    ACKED,   /* must come back; or came back once */
    FAILED,  /* may come back or not */
    GONE     /* before a cut, or not there at a replay: may never come back, if ABSENT */
};
struct model_record {
    uint64_t pos;
    enum wal_type type;
    enum fate fate;
    uint8_t *p;
    size_t len;
};
struct model {
    struct io_sim *sim;
    struct rng *rng;
    struct env env;
    struct clock_fake clock;
    struct wal_config config;
    struct wal *wal;
    struct model_record **records; /* in the order of appending, so of their positions */
    size_t n, cap;
    uint64_t cut_pos; /* records before it may be missing */
    uint64_t last_pos;
    size_t next_done;
    struct err err;
};

static void model_init(struct model *m, struct rng *rng)
{
    memset(m, 0, sizeof(*m));
    m->rng = rng;
    m->sim = io_sim_new(rng_u64(rng));
    clock_fake_init(&m->clock, 1700000000000);
    m->env =
        (struct env){.io = io_sim_io(m->sim), .clock = &m->clock.clock, .metrics = metrics_new()};
    m->config = wal_config_default("/data/wal");
    m->config.segment_bytes = 500 + rng_below(rng, 20000);
    m->config.queue_bytes_max = 5000 + rng_below(rng, 20000);
}

static void model_release(struct model *m)
{
    for (size_t i = 0; i < m->n; i++) {
        free(m->records[i]->p);
        free(m->records[i]);
    }
    free(m->records);
    metrics_free(m->env.metrics);
    io_sim_free(m->sim);
}

static void model_done(void *arg, enum err_code rc)
{
    struct model_record *r = arg;
    CHECK(r->fate == PENDING);
    r->fate = rc == ERR_OK ? ACKED : FAILED;
}

static void model_append(struct model *m)
{
    struct model_record *r = calloc(1, sizeof(*r));
    CHECK(r);
    r->len = 1 + rng_below(m->rng, rng_chance(m->rng, 0.1) ? 4000 : 200);
    r->type = (enum wal_type)(1 + rng_below(m->rng, 7));
    r->p = malloc(r->len);
    CHECK(r->p);
    if (rng_chance(m->rng, 0.5))
        memset(r->p, (int)rng_below(m->rng, 256), r->len);
    else
        test_fill(m->rng, r->p, r->len);
    enum err_code rc =
        wal_append(m->wal, r->type, bytes_of(r->p, r->len), model_done, r, &r->pos, &m->err);
    if (rc) {
        CHECK(rc == ERR_LIMIT || rc == ERR_IO || rc == ERR_NO_SPACE);
        struct err why;
        if (rc != ERR_LIMIT) CHECK(wal_failed(m->wal, &why));
        free(r->p);
        free(r);
        return;
    }
    CHECK(r->pos >= m->last_pos);
    m->last_pos = r->pos + 1;
    if (m->n == m->cap) {
        m->cap = m->cap ? m->cap * 2 : 64;
        m->records = realloc(m->records, m->cap * sizeof(*m->records));
        CHECK(m->records);
    }
    m->records[m->n++] = r;
}

struct replay_check {
    struct model *m;
    size_t next;
    uint64_t from_pos;
};

/* A record of the model that does not come back. */
static void check_missing(const struct replay_check *c, struct model_record *r)
{
    if (r->pos < c->from_pos || r->pos < c->m->cut_pos) return;
    if (r->fate == ACKED)
        test_fail(__FILE__, __LINE__, "lost: record at %" PRIu64 " of %zu bytes", r->pos, r->len);
}

static enum err_code check_record(void *ctx, const struct wal_record *got, struct err *err)
{
    (void)err;
    struct replay_check *c = ctx;
    CHECK(got->pos >= c->from_pos);
    while (c->next < c->m->n && c->m->records[c->next]->pos < got->pos)
        check_missing(c, c->m->records[c->next++]);
    CHECK(c->next < c->m->n);
    struct model_record *r = c->m->records[c->next++];
    CHECK_U64(got->pos, r->pos);
    CHECK_U64(got->type, r->type);
    CHECK_BYTES(got->payload, bytes_of(r->p, r->len));
    return ERR_OK;
}

/* After a replay that succeeded: what came back, and was not told to have failed, has been settled. */
static enum err_code settle_record(void *ctx, const struct wal_record *got, struct err *err)
{
    struct replay_check *c = ctx;
    enum err_code rc = check_record(ctx, got, err);
    struct model_record *r = c->m->records[c->next - 1];
    if (r->fate == PENDING) r->fate = GONE; /* marked: becomes ACKED when the replay ends well */
    return rc;
}

static enum err_code model_open(struct model *m)
{
    enum err_code rc = wal_open(&m->env, &m->config, &m->wal, &m->err);
    if (rc) return rc;
    struct replay_check c = {m, 0, 0};
    if (m->n && rng_chance(m->rng, 0.3)) c.from_pos = m->records[rng_below(m->rng, m->n)]->pos;
    struct wal_replay_stats stats;
    rc = wal_replay(m->wal, c.from_pos, settle_record, &c, &stats, &m->err);
    for (size_t i = 0; i < m->n; i++)
        if (m->records[i]->fate == GONE) m->records[i]->fate = rc ? PENDING : ACKED;
    if (rc) {
        wal_close(m->wal);
        m->wal = NULL;
        return rc;
    }
    while (c.next < m->n) check_missing(&c, m->records[c.next++]);
    /* What was never told and is not there can have no fate any more but to stay away or be ignored. */
    for (size_t i = 0; i < m->n; i++)
        if (m->records[i]->fate == PENDING) m->records[i]->fate = FAILED;
    struct err why;
    if (!wal_failed(m->wal, &why)) CHECK(wal_end_pos(m->wal) >= m->last_pos);
    return ERR_OK;
}

static void model_commit(struct model *m)
{
    bool any_failed = false;
    enum err_code rc = wal_commit(m->wal, &m->err);
    for (size_t i = m->next_done; i < m->n; i++) {
        CHECK(m->records[i]->fate != PENDING);
        any_failed |= m->records[i]->fate == FAILED;
    }
    CHECK(any_failed == (rc != ERR_OK));
    struct err why;
    if (rc) CHECK(wal_failed(m->wal, &why));
    m->next_done = m->n;
}

static void model_cut(struct model *m)
{
    if (m->n == 0) return;
    /* Only what is settled may be cut, as the engine does. */
    uint64_t pos = m->records[rng_below(m->rng, m->n)]->pos;
    m->cut_pos = MAX_OF(m->cut_pos, pos);
    enum err_code rc = wal_cut(m->wal, pos, &m->err);
    if (rc == ERR_OK) CHECK(wal_begin_pos(m->wal) <= MAX_OF(m->cut_pos, wal_end_pos(m->wal)));
}

static void model_trouble(struct model *m)
{
    uint64_t k = 1 + rng_below(m->rng, 12);
    switch (rng_below(m->rng, 6)) {
    case 0: io_sim_fail(m->sim, k, IO_SIM_EIO); break;
    case 1: io_sim_fail(m->sim, k, IO_SIM_ENOSPC); break;
    case 2: io_sim_fail(m->sim, k, IO_SIM_SHORT); break;
    case 3: io_sim_power_cut_at(m->sim, k); break;
    case 4: io_sim_set_capacity(m->sim, io_sim_used(m->sim) + rng_below(m->rng, 3) * 4096); break;
    default:
        io_sim_set_capacity(m->sim, UINT64_C(1) << 40);
        io_sim_heal(m->sim);
        break;
    }
}

/* One life of the process, and its end: a clean stop, a kill, or the power. */
static void model_live(struct model *m)
{
    for (uint64_t ops = rng_below(m->rng, 60); ops > 0 && !io_sim_is_off(m->sim); ops--) {
        uint64_t what = rng_below(m->rng, 100);
        if (what < 60)
            model_append(m);
        else if (what < 92)
            model_commit(m);
        else if (what < 96)
            model_cut(m);
        else
            model_trouble(m);
    }
    uint64_t end = rng_below(m->rng, 3);
    if (end == 0) io_sim_break(m->sim, 1); /* killed: nothing more gets out of the process */
    if (end == 1) io_sim_power_cut(m->sim);
    wal_close(m->wal);
    m->wal = NULL;
    if (io_sim_is_off(m->sim)) io_sim_power_cut(m->sim);
    io_sim_heal(m->sim);
    io_sim_set_capacity(m->sim, UINT64_C(1) << 40);
    m->next_done = m->n;
}

static void test_lives(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 500)
    {
        struct model m;
        model_init(&m, &rng);
        for (uint64_t lives = 2 + rng_below(&rng, 8); lives > 0; lives--) {
            if (rng_chance(&rng, 0.3)) { /* trouble while it starts */
                if (rng_chance(&rng, 0.5))
                    io_sim_fail(m.sim, 1 + rng_below(&rng, 10), IO_SIM_EIO);
                else
                    io_sim_power_cut_at(m.sim, 1 + rng_below(&rng, 10));
            }
            if (model_open(&m)) {
                if (io_sim_is_off(m.sim)) io_sim_power_cut(m.sim);
                io_sim_heal(m.sim);
                continue;
            }
            model_live(&m);
        }
        io_sim_heal(m.sim);
        CHECK_OK(model_open(&m), &m.err);
        wal_close(m.wal);
        model_release(&m);
    }
}

/* Every call fails in turn: the error is told, and after it writes go on. */
static void test_every_call_fails(void **state)
{
    (void)state;
    static const enum io_sim_failure kinds[] = {IO_SIM_EIO, IO_SIM_ENOSPC, IO_SIM_SHORT};
    for (size_t kind = 0; kind < COUNT_OF(kinds); kind++) {
        uint64_t n_calls = 1;
        for (uint64_t k = 1; k <= n_calls + 1; k++) {
            struct rng rng;
            struct model m;
            rng_seed(&rng, 5);
            test_where = (struct test_where){true, k, kind};
            model_init(&m, &rng);
            m.config.segment_bytes = 700;
            io_sim_fail(m.sim, k, kinds[kind]);
            while (model_open(&m)) CHECK(m.err.code == ERR_IO || m.err.code == ERR_NO_SPACE);
            for (unsigned i = 0; i < 12; i++) {
                model_append(&m);
                if (i % 4 == 3) model_commit(&m);
            }
            model_commit(&m);
            bool over = io_sim_counts(m.sim).calls >= k;
            model_append(&m);
            model_commit(&m);
            struct err why;
            if (over) CHECK(!wal_failed(m.wal, &why) && m.records[m.n - 1]->fate == ACKED);
            wal_close(m.wal);
            n_calls = io_sim_counts(m.sim).calls;
            io_sim_heal(m.sim);
            io_sim_power_cut(m.sim);
            CHECK_OK(model_open(&m), &m.err);
            wal_close(m.wal);
            model_release(&m);
        }
        CHECK(n_calls > 15);
    }
    test_where.in_property = false;
}

static void test_full_disk(void **state)
{
    (void)state;
    struct rng rng;
    struct model m;
    struct err why;
    test_rng(&rng);
    model_init(&m, &rng);
    m.config.segment_bytes = 100000;
    CHECK_OK(model_open(&m), &m.err);
    model_append(&m);
    model_commit(&m);
    CHECK(m.records[0]->fate == ACKED);
    io_sim_set_capacity(m.sim, io_sim_used(m.sim));
    for (unsigned i = 0; i < 1500; i++) {
        for (unsigned j = 0; j < 3; j++) model_append(&m);
        model_commit(&m);
    }
    CHECK(wal_failed(m.wal, &why));
    CHECK_U64(why.code, ERR_NO_SPACE);
    char path[64];
    snprintf(path, sizeof(path), "/data/wal/%08u.wal", 2);
    CHECK(!io_exists(m.env.io, path)); /* attempts leave nothing behind */
    io_sim_set_capacity(m.sim, UINT64_C(1) << 40);
    model_append(&m);
    CHECK_OK(wal_commit(m.wal, &m.err), &m.err);
    CHECK(!wal_failed(m.wal, &why));
    CHECK(m.records[m.n - 1]->fate == ACKED);
    m.next_done = m.n;
    io_sim_power_cut(m.sim);
    wal_close(m.wal);
    CHECK_OK(model_open(&m), &m.err);
    wal_close(m.wal);
    model_release(&m);
}

/* After a failed fsync nothing of the old segment is written or synced again. */
static void test_failed_sync_abandons(void **state)
{
    (void)state;
    struct rng rng;
    struct model m;
    test_rng(&rng);
    model_init(&m, &rng);
    m.config.segment_bytes = 1000000;
    CHECK_OK(model_open(&m), &m.err);
    model_append(&m);
    model_commit(&m);
    model_append(&m);
    io_sim_fail(m.sim, 2, IO_SIM_EIO); /* the write, then this sync */
    CHECK_ERR(wal_commit(m.wal, &m.err), ERR_IO);
    CHECK(m.records[1]->fate == FAILED);
    m.next_done = m.n;
    struct buf before, after;
    buf_init(&before, MEM_BASE);
    buf_init(&after, MEM_BASE);
    CHECK(io_sim_copy_out(m.sim, "/data/wal/00000001.wal", false, &before));
    model_append(&m);
    CHECK_OK(wal_commit(m.wal, &m.err), &m.err);
    CHECK(m.records[2]->fate == ACKED);
    CHECK(m.records[2]->pos >= WAL_JUMP_BYTES);
    m.next_done = m.n;
    CHECK(io_sim_copy_out(m.sim, "/data/wal/00000001.wal", false, &after));
    CHECK_BYTES(buf_bytes(&after), buf_bytes(&before));
    buf_release(&before);
    buf_release(&after);
    io_sim_power_cut(m.sim);
    wal_close(m.wal);
    CHECK_OK(model_open(&m), &m.err);
    wal_close(m.wal);
    model_release(&m);
}

static void test_interval_sync(void **state)
{
    (void)state;
    struct rng rng;
    struct model m;
    test_rng(&rng);
    model_init(&m, &rng);
    m.config.sync = WAL_SYNC_INTERVAL;
    CHECK_OK(model_open(&m), &m.err);
    for (unsigned i = 0; i < 5; i++) model_append(&m);
    CHECK_OK(wal_commit(m.wal, &m.err), &m.err); /* asked for: syncs at once */
    m.next_done = m.n;
    io_sim_power_cut(m.sim);
    wal_close(m.wal);
    CHECK_OK(model_open(&m), &m.err);
    wal_close(m.wal);
    model_release(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lives),         cmocka_unit_test(test_every_call_fails),
        cmocka_unit_test(test_full_disk),     cmocka_unit_test(test_failed_sync_abandons),
        cmocka_unit_test(test_interval_sync),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
