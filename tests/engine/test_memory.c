/* tests/engine/test_memory.c: what gives way when memory is short, what is held of the log, and what leaves memory. */
#include "tests/engine/fixture.h"

#define MIB ((size_t)1 << 20)
#define MINUTE_MS INT64_C(60000)
#define LIMIT (64 * MIB)
#define SAMPLE_MS 101 /* later than the sample before by more than it is good for */

/* What the process holds, as the kernel would say. */
struct machine {
    uint64_t resident;
};

static uint64_t resident(void *ctx)
{
    return ((struct machine *)ctx)->resident;
}

static void fixture_open_below(struct fixture *f, struct machine *machine)
{
    fixture_init(f);
    machine->resident = MIB;
    f->config.memory = (struct memory_ceiling){
        .bytes_max = LIMIT, .live_bytes_max = LIMIT / 2, .resident = resident, .ctx = machine};
    CHECK_OK(engine_open(&f->env, &f->config, &f->engine, &f->err), &f->err);
}

static void set_percent(struct fixture *f, struct machine *machine, unsigned percent)
{
    machine->resident = LIMIT / 100 * percent + MIB / 16;
    clock_fake_advance(&f->clock, SAMPLE_MS);
}

/* Writes a sample of each series [from, from + n); what tenant_write says. */
static enum err_code write_many(struct fixture *f, struct tenant *t, int from, int n, int64_t t_ms)
{
    struct series **series = mem_calloc(MEM_BASE, (size_t)n, sizeof(*series));
    int64_t *times = mem_calloc(MEM_BASE, (size_t)n, sizeof(*times));
    double *v = mem_calloc(MEM_BASE, (size_t)n, sizeof(*v));
    struct write_result result;
    struct done done = {0, ERR_OK};
    CHECK(series && times && v);
    tenant_write_begin(t);
    for (int i = 0; i < n; i++) {
        series[i] = fixture_series(f, t, from + i);
        times[i] = t_ms;
        v[i] = from + i + (double)t_ms / 7;
    }
    struct write_batch b = {.n = (size_t)n, .series = series, .t_ms = times, .v = v};
    enum err_code rc = tenant_write(t, &b, note_done, &done, &result, &f->err);
    tenant_write_end(t);
    if (!rc) {
        CHECK_OK(engine_commit(f->engine, &f->err), &f->err);
        CHECK_OK(done.rc, &f->err);
    }
    mem_free(series);
    mem_free(times);
    mem_free(v);
    return rc;
}

static enum err_code add_series(struct fixture *f, struct tenant *t, const char *value)
{
    struct label items[] = {{STR(LABEL_NAME), STR("new")}, {STR("i"), str_of(value)}};
    struct labels labels = {items, COUNT_OF(items)};
    struct series *s;
    tenant_write_begin(t);
    enum err_code rc = tenant_add_series(t, labels, 0, bytes_of(NULL, 0), NULL, &s, &f->err);
    tenant_write_end(t);
    return rc;
}

static enum err_code ask(struct fixture *f, struct tenant *t)
{
    struct engine_select *sel = NULL;
    enum err_code rc = tenant_select(t, NULL, 0, 0, INT64_MAX, &sel, &f->err);
    select_release(sel);
    return rc;
}

static uint64_t counter(struct fixture *f, const char *name, const char *labels)
{
    return metric_value(metric_counter(f->env.metrics, name, "", labels));
}

static double gauge(struct fixture *f, const char *name)
{
    return double_from_bits(metric_value(metric_gauge(f->env.metrics, name, "", "")));
}

/* ---- pressure ---- */

/* New series go first, then writes and queries; all come back by themselves. */
static void work_is_refused_in_order(void **state)
{
    (void)state;
    struct fixture f;
    struct machine machine;
    fixture_open_below(&f, &machine);
    struct tenant *t = fixture_tenant(&f, "default");
    CHECK_OK(write_many(&f, t, 0, 10, NOW_MS), &f.err);
    for (int round = 0; round < 2; round++) {
        set_percent(&f, &machine, 74);
        CHECK_OK(add_series(&f, t, round ? "b" : "a"), &f.err);
        set_percent(&f, &machine, 85);
        CHECK_ERR(add_series(&f, t, "c"), ERR_NO_MEMORY);
        CHECK(strstr(f.err.text, "memory") != NULL);
        CHECK_OK(add_series(&f, t, "a"), &f.err); /* is known */
        CHECK_OK(write_many(&f, t, 0, 10, NOW_MS + round + 1), &f.err);
        CHECK_OK(ask(&f, t), &f.err);
        set_percent(&f, &machine, 90);
        CHECK_ERR(write_many(&f, t, 0, 10, NOW_MS + 5), ERR_NO_MEMORY);
        CHECK(strstr(f.err.text, "memory.limit") != NULL);
        CHECK_ERR(engine_admit(f.engine, ENGINE_WRITE, &f.err), ERR_NO_MEMORY);
        CHECK_ERR(ask(&f, t), ERR_NO_MEMORY);
    }
    CHECK(counter(&f, "quipu_memory_refused_total", "work=\"write\"") == 4);
    CHECK(counter(&f, "quipu_memory_refused_total", "work=\"query\"") == 2);
    set_percent(&f, &machine, 50);
    CHECK_OK(write_many(&f, t, 0, 10, NOW_MS + 9), &f.err);
    CHECK_OK(ask(&f, t), &f.err);
    fixture_close(&f);
}

/* A query that runs already is ended only when nothing else has helped. */
static void running_queries_end_last(void **state)
{
    (void)state;
    struct fixture f;
    struct machine machine;
    struct samples out;
    struct engine_select *sel;
    fixture_open_below(&f, &machine);
    struct tenant *t = fixture_tenant(&f, "default");
    CHECK_OK(write_many(&f, t, 0, 1, NOW_MS), &f.err);
    CHECK_OK(tenant_select(t, NULL, 0, 0, INT64_MAX, &sel, &f.err), &f.err);
    samples_init(&out, MEM_QUERY, NULL);
    set_percent(&f, &machine, 94);
    CHECK_OK(select_read(sel, 0, 0, INT64_MAX, &out, &f.err), &f.err);
    CHECK_U64(out.n, 1);
    set_percent(&f, &machine, 95);
    CHECK_ERR(select_read(sel, 0, 0, INT64_MAX, &out, &f.err), ERR_NO_MEMORY);
    samples_release(&out);
    select_release(sel);
    fixture_close(&f);
}

/* What has been allocated since the last look at the process counts as well. */
static void growth_between_samples_counts(void **state)
{
    (void)state;
    struct fixture f;
    struct machine machine;
    fixture_open_below(&f, &machine);
    set_percent(&f, &machine, 60);
    CHECK_OK(engine_admit(f.engine, ENGINE_WRITE, &f.err), &f.err);
    void *p = mem_alloc(MEM_BASE, LIMIT / 100 * 31);
    CHECK(p != NULL);
    CHECK_ERR(engine_admit(f.engine, ENGINE_WRITE, &f.err), ERR_NO_MEMORY);
    mem_free(p);
    CHECK_OK(engine_admit(f.engine, ENGINE_WRITE, &f.err), &f.err);
    fixture_close(&f);
}

/* Large heads go to blocks before their time; small ones stay, as that would make no room. */
static void heads_are_flushed_early(void **state)
{
    (void)state;
    struct fixture f;
    struct machine machine;
    struct tenant_stats stats;
    fixture_open_below(&f, &machine);
    struct tenant *small = fixture_tenant(&f, "small"), *large = fixture_tenant(&f, "large");
    CHECK_OK(write_many(&f, small, 0, 10, NOW_MS), &f.err);
    for (int from = 0; from < 20000; from += 1000)
        for (int k = 0; k < 3; k++) CHECK_OK(write_many(&f, large, from, 1000, NOW_MS + k), &f.err);
    tenant_stats(large, &stats);
    CHECK(stats.head_bytes > LIMIT / 64);
    set_percent(&f, &machine, 60);
    CHECK_OK(engine_step(f.engine, &f.err), &f.err);
    tenant_stats(large, &stats);
    CHECK_U64(stats.blocks, 0);
    set_percent(&f, &machine, 76);
    CHECK_OK(engine_step(f.engine, &f.err), &f.err);
    tenant_stats(large, &stats);
    CHECK_U64(stats.blocks, 1);
    CHECK_U64(stats.head_samples, 0);
    CHECK(gauge(&f, "quipu_memory_pressure") == PRESSURE_FLUSH);
    tenant_stats(small, &stats);
    CHECK_U64(stats.blocks, 0);
    fixture_close(&f);
}

/* What the heap keeps of freed memory goes back when it is much of the process, also far below the ceiling. */
static void a_loose_heap_is_seen(void **state)
{
    (void)state;
    struct pressure p;
    struct clock_fake clock;
    size_t counted = mem_bytes_total();
    struct machine machine = {.resident = counted + 8 * MIB};
    struct memory_ceiling ceiling = {
        .bytes_max = 100 * (counted + 100 * MIB), .resident = resident, .ctx = &machine};
    clock_fake_init(&clock, NOW_MS);
    pressure_init(&p, &ceiling, &clock.clock);
    CHECK(pressure_level_now(&p) == PRESSURE_NONE);
    CHECK(!pressure_heap_is_loose(&p));
    machine.resident = counted + counted / 2 + 64 * MIB;
    CHECK(pressure_level_now(&p) == PRESSURE_NONE);
    CHECK(pressure_heap_is_loose(&p));
    void *used = mem_alloc(MEM_BASE, 64 * MIB);
    CHECK(used != NULL);
    CHECK(pressure_level_now(&p) == PRESSURE_NONE);
    CHECK(!pressure_heap_is_loose(&p));
    mem_free(used);
}

/* Samples and series share: the more series, the less of the head is left to samples. */
static void the_head_has_what_the_registry_leaves(void **state)
{
    (void)state;
    struct pressure p;
    struct clock_fake clock;
    struct memory_ceiling ceiling = {.bytes_max = LIMIT, .live_bytes_max = 0};
    clock_fake_init(&clock, NOW_MS);
    pressure_init(&p, &ceiling, &clock.clock);
    CHECK_U64(pressure_head_max(&p, 10 * MIB), 10 * MIB);
    size_t before = mem_bytes(MEM_REGISTRY);
    ceiling.live_bytes_max = before + 32 * MIB;
    pressure_init(&p, &ceiling, &clock.clock);
    CHECK_U64(pressure_head_max(&p, 10 * MIB), 10 * MIB);
    CHECK_U64(pressure_head_max(&p, 100 * MIB), 16 * MIB);
    void *registry = mem_alloc(MEM_REGISTRY, 24 * MIB);
    CHECK_U64(pressure_head_max(&p, 100 * MIB), 4 * MIB);
    void *more =
        mem_alloc(MEM_REGISTRY, 24 * MIB); /* more than all of it: something is left all the same */
    CHECK(pressure_head_max(&p, 100 * MIB) >= MIB);
    mem_free(registry);
    mem_free(more);
}

/* ---- flush ---- */

#define BUCKETS 20000
#define WIDE_SAMPLES 200

static size_t most_bytes;
static bool note_most(void *ctx, size_t size)
{
    (void)ctx, (void)size;
    most_bytes = MAX_OF(most_bytes, mem_bytes(MEM_HEAD));
    return false;
}

/* In the head an empty-ish wide histogram takes little; decoded, a hundred times that. */
static void a_flush_decodes_a_part_at_a_time(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    f.config.work_bytes_max = 4 * MIB;
    CHECK_OK(engine_open(&f.env, &f.config, &f.engine, &f.err), &f.err);
    struct tenant *t = fixture_tenant(&f, "default");
    double *counts = mem_calloc(MEM_BASE, BUCKETS, sizeof(*counts));
    struct histogram_span span = {0, BUCKETS};
    for (int i = 0; i < WIDE_SAMPLES; i++) {
        counts[0] = i;
        struct histogram h = {.schema = 8,
                              .count = i,
                              .sum = i,
                              .is_int = true,
                              .n_pos_spans = 1,
                              .pos_spans = &span,
                              .pos = counts,
                              .n_pos = BUCKETS};
        struct histogram *items = &h;
        int64_t t_ms = NOW_MS - (WIDE_SAMPLES - i) * 1000;
        struct write_result result;
        tenant_write_begin(t);
        struct series *s = fixture_series(&f, t, 1);
        struct write_batch b = {.n_histograms = 1, .h_series = &s, .h_t_ms = &t_ms, .h = &items};
        CHECK_OK(tenant_write(t, &b, NULL, NULL, &result, &f.err), &f.err);
        tenant_write_end(t);
        CHECK_OK(engine_commit(f.engine, &f.err), &f.err);
    }
    most_bytes = 0;
    size_t before = mem_bytes(MEM_HEAD);
    mem_set_fail_hook(note_most, NULL);
    CHECK_OK(engine_flush(f.engine, NULL, &f.err), &f.err);
    mem_set_fail_hook(NULL, NULL);
    CHECK((size_t)WIDE_SAMPLES * BUCKETS * sizeof(double) > 30 * MIB); /* what all of them take */
    CHECK(most_bytes < before + 8 * MIB);
    struct engine_select *sel;
    CHECK_OK(tenant_select(t, NULL, 0, 0, INT64_MAX, &sel, &f.err), &f.err);
    CHECK_U64(select_count(sel), 1);
    for (int i = 0; i < WIDE_SAMPLES; i += 7) {
        struct arena arena;
        struct samples out;
        int64_t t_ms = NOW_MS - (WIDE_SAMPLES - i) * 1000;
        arena_init(&arena, MEM_QUERY, 0);
        samples_init(&out, MEM_QUERY, &arena);
        CHECK_OK(select_read(sel, 0, t_ms, t_ms, &out, &f.err), &f.err);
        CHECK(out.n == 1 && out.h[0]->n_pos == BUCKETS && out.h[0]->sum == i);
        samples_release(&out);
        arena_release(&arena);
    }
    select_release(sel);
    mem_free(counts);
    fixture_close(&f);
}

/* ---- the log ---- */

/* Positions jump at a start: a tenant with what was replayed does not look as if it held back all of the jump. */
static void a_start_flushes_nothing_for_the_jump(void **state)
{
    (void)state;
    struct fixture f;
    struct tenant_stats stats;
    fixture_open(&f);
    CHECK_OK(write_many(&f, fixture_tenant(&f, "default"), 0, 100, NOW_MS), &f.err);
    for (int round = 0; round < 3; round++) {
        fixture_reopen(&f, false);
        CHECK_OK(engine_step(f.engine, &f.err), &f.err);
        tenant_stats(fixture_tenant(&f, "default"), &stats);
        CHECK_U64(stats.blocks, 0);
        CHECK_U64(stats.head_samples, 100);
        double held = gauge(&f, "quipu_wal_held_bytes");
        CHECK(held > 0 && held < 100000);
    }
    fixture_close(&f);
}

#define TENANTS 150
#define PER_STEP 33 /* the loud one among them, perhaps */

/* Tenants that write once hold back the log of one that writes all the time: they are flushed, some in each step. */
static void laggards_are_flushed_a_few_at_a_time(void **state)
{
    (void)state;
    struct fixture f;
    char name[16];
    fixture_init(&f);
    f.config.wal_segment_bytes = 16 << 10;
    f.config.wal_held_bytes_max = 128 << 10;
    CHECK_OK(engine_open(&f.env, &f.config, &f.engine, &f.err), &f.err);
    for (int i = 0; i < TENANTS; i++) {
        snprintf(name, sizeof(name), "t%d", i);
        CHECK_OK(write_many(&f, fixture_tenant(&f, name), 0, 1, NOW_MS), &f.err);
    }
    struct tenant *loud = fixture_tenant(&f, "loud");
    double most = 0, last = 0;
    size_t n_busy = 0;
    for (int step = 0; step < 40; step++) {
        for (int k = 0; k < 4; k++)
            CHECK_OK(write_many(&f, loud, 0, 1000, NOW_MS + step * 10 + k), &f.err);
        uint64_t before = counter(&f, "quipu_flushes_total", "");
        CHECK_OK(engine_step(f.engine, &f.err), &f.err);
        uint64_t n = counter(&f, "quipu_flushes_total", "") - before;
        CHECK(n <= PER_STEP);
        n_busy += n > 1;
        last = gauge(&f, "quipu_wal_disk_bytes");
        most = MAX_OF(most, last);
        clock_fake_advance(&f.clock, 1000);
    }
    CHECK(counter(&f, "quipu_flushes_total", "") > TENANTS);
    CHECK(n_busy >= TENANTS / PER_STEP);
    /* What came while it was the laggards' turn, one after the other, and the segment that is begun. */
    CHECK(last < 3 * 128e3 && most < 10 * 128e3);
    for (int i = 0; i < TENANTS; i++) {
        struct tenant_stats stats;
        snprintf(name, sizeof(name), "t%d", i);
        tenant_stats(fixture_tenant(&f, name), &stats);
        CHECK_U64(stats.blocks, 1);
    }
    fixture_close(&f);
}

/* ---- replay ---- */

static double value_of(int tenant, int series, int k)
{
    return tenant * 1e6 + series * 1e3 + k;
}

/* Several threads put samples of several tenants into the head, and come to what was there before. */
static void a_replay_by_threads_finds_all(void **state)
{
    (void)state;
    enum { N_TENANTS = 3, SERIES = 700, STEPS = 12 };
    struct fixture f;
    struct rng rng;
    char name[16];
    test_rng(&rng);
    fixture_init(&f);
    f.env.threads = true;
    CHECK_OK(engine_open(&f.env, &f.config, &f.engine, &f.err), &f.err);
    for (int k = 0; k < STEPS; k++) {
        int at = k % 4 == 3 ? k - 2 : k; /* some late, some a second time with another value */
        for (int i = 0; i < N_TENANTS; i++) {
            snprintf(name, sizeof(name), "t%d", i);
            struct tenant *t = fixture_tenant(&f, name);
            struct series *series[SERIES];
            int64_t t_ms[SERIES];
            double v[SERIES];
            struct write_result result;
            tenant_write_begin(t);
            for (int s = 0; s < SERIES; s++) {
                series[s] = fixture_series(&f, t, s);
                t_ms[s] = NOW_MS - 100000 + at * 1000;
                v[s] = value_of(i, s, k);
            }
            struct write_batch b = {.n = SERIES, .series = series, .t_ms = t_ms, .v = v};
            CHECK_OK(tenant_write(t, &b, NULL, NULL, &result, &f.err), &f.err);
            tenant_write_end(t);
        }
    }
    CHECK_OK(engine_commit(f.engine, &f.err), &f.err);
    for (int round = 0; round < 2; round++) {
        f.config.head_bytes_max = round ? 100000 : f.config.head_bytes_max; /* flushes in between */
        fixture_reopen(&f, false);
        for (int i = 0; i < N_TENANTS; i++) {
            snprintf(name, sizeof(name), "t%d", i);
            struct engine_select *sel;
            CHECK_OK(tenant_select(fixture_tenant(&f, name), NULL, 0, 0, INT64_MAX, &sel, &f.err),
                     &f.err);
            CHECK_U64(select_count(sel), SERIES);
            for (size_t s = 0; s < SERIES; s++) {
                struct samples out;
                samples_init(&out, MEM_QUERY, NULL);
                CHECK_OK(select_read(sel, s, 0, INT64_MAX, &out, &f.err), &f.err);
                int id = atoi(select_labels(sel, s).items[1].value.p);
                CHECK_U64(out.n, STEPS - STEPS / 4);
                for (size_t n = 0; n < out.n; n++) {
                    int at = (int)((out.t_ms[n] - NOW_MS + 100000) / 1000);
                    int k = at % 4 == 1 ? at + 2 : at; /* who wrote it last */
                    CHECK(out.v[n] == value_of(i, id, k));
                }
                samples_release(&out);
            }
            select_release(sel);
        }
    }
    fixture_close(&f);
}

/* ---- what leaves memory ---- */

/* A sender whose clock is wrong makes series and no samples. They leave, the others do not notice. */
static void series_of_refused_samples_leave(void **state)
{
    (void)state;
    struct fixture f;
    struct tenant_stats stats;
    fixture_open(&f);
    struct tenant *wrong = fixture_tenant(&f, "wrong"), *right = fixture_tenant(&f, "right");
    for (int round = 0; round < 3; round++) {
        int64_t now_ms = clock_wall_ms(&f.clock.clock);
        CHECK_OK(write_many(&f, wrong, round * 50, 50, now_ms + 11 * MINUTE_MS), &f.err);
        tenant_stats(wrong, &stats);
        CHECK_U64(stats.series_active, 50);
        CHECK_U64(stats.head_samples, 0);
        for (int k = 0; k < 8; k++) {
            now_ms = clock_wall_ms(&f.clock.clock);
            CHECK_OK(write_many(&f, right, 0, 10, now_ms), &f.err);
            CHECK_OK(engine_step(f.engine, &f.err), &f.err);
            clock_fake_advance(&f.clock, 10 * MINUTE_MS);
        }
        tenant_stats(wrong, &stats);
        CHECK_U64(stats.series_active, 0);
        CHECK_U64(stats.blocks, 0);
        tenant_stats(right, &stats);
        CHECK_U64(stats.series_active, 10);
    }
    CHECK_OK(write_many(&f, wrong, 0, 50, clock_wall_ms(&f.clock.clock)), &f.err); /* mended */
    fixture_reopen(&f, true);
    tenant_stats(fixture_tenant(&f, "wrong"), &stats);
    CHECK_U64(stats.block_samples, 50);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(work_is_refused_in_order),
        cmocka_unit_test(running_queries_end_last),
        cmocka_unit_test(growth_between_samples_counts),
        cmocka_unit_test(heads_are_flushed_early),
        cmocka_unit_test(a_loose_heap_is_seen),
        cmocka_unit_test(the_head_has_what_the_registry_leaves),
        cmocka_unit_test(a_flush_decodes_a_part_at_a_time),
        cmocka_unit_test(a_start_flushes_nothing_for_the_jump),
        cmocka_unit_test(laggards_are_flushed_a_few_at_a_time),
        cmocka_unit_test(a_replay_by_threads_finds_all),
        cmocka_unit_test(series_of_refused_samples_leave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
