/* tests/storage/test_compact_plan.c: the planner alone, on blocks that are lists of samples in memory: tables of what
 * is merged and what waits; then random blocks: the plan ends, no sample changes its value by it, and few blocks
 * are left; then imports: how often a byte is written. */
#include "storage/compact_plan.h"

#include "tests/quipu_test.h"

#define HOUR INT64_C(3600000)
#define DAY (24 * HOUR)
#define NOW (INT64_C(20454) * DAY + 13 * HOUR) /* 2026-01-01 13:00 */
#define MIB (UINT64_C(1) << 20)

/* ---- blocks in memory ---- */

struct sample {
    int64_t t_ms;
    uint32_t v;
};
struct fake {
    struct block_info info;
    struct sample *samples; /* by time */
    size_t n;
};
struct world {
    struct fake *blocks;
    size_t n, cap;
    uint64_t next_sequence, n_made;
    uint64_t bytes_per_sample, written;
    struct compact_when when;
    struct compact_limits limits;
};

static void world_init(struct world *w)
{
    *w = (struct world){.next_sequence = 1,
                        .bytes_per_sample = 1,
                        .when = {.now_ms = NOW},
                        .limits = compact_limits_default()};
}

static void world_release(struct world *w)
{
    for (size_t i = 0; i < w->n; i++) mem_free(w->blocks[i].samples);
    mem_free(w->blocks);
}

/* Takes the samples over. */
static struct fake *add_block(struct world *w, struct sample *samples, size_t n, uint64_t sequence,
                              uint32_t level)
{
    struct err err;
    void *items = w->blocks;
    CHECK_OK(mem_grow(MEM_BASE, &items, &w->cap, w->n + 1, sizeof(*w->blocks), &err), &err);
    w->blocks = items;
    struct fake *b = &w->blocks[w->n++];
    *b = (struct fake){.samples = samples, .n = n};
    b->info = (struct block_info){.sequence = sequence,
                                  .level = level,
                                  .t_min_ms = samples[0].t_ms,
                                  .t_max_ms = samples[n - 1].t_ms,
                                  .n_samples = n,
                                  .n_series = 1,
                                  .file_bytes = n * w->bytes_per_sample,
                                  .created_ms = w->when.now_ms};
    snprintf(b->info.ulid.text, sizeof(b->info.ulid.text), "%026" PRIu64, ++w->n_made);
    w->written += b->info.file_bytes;
    return b;
}

/* A block of the head with samples at both ends. */
static struct fake *add_span(struct world *w, int64_t from_ms, int64_t to_ms, uint64_t bytes)
{
    struct sample *s = mem_calloc(MEM_BASE, 2, sizeof(*s));
    s[0] = (struct sample){from_ms, (uint32_t)w->next_sequence};
    s[1] = (struct sample){to_ms, (uint32_t)w->next_sequence};
    struct fake *b = add_block(w, s, from_ms == to_ms ? 1 : 2, w->next_sequence, 0);
    w->next_sequence++;
    b->info.file_bytes = bytes;
    return b;
}

static int compare_samples(const void *a, const void *b)
{
    const struct sample *x = a, *y = b;
    return (x->t_ms > y->t_ms) - (x->t_ms < y->t_ms);
}

static int compare_blocks(const void *a, const void *b)
{
    const struct fake *x = a, *y = b;
    return (x->info.sequence > y->info.sequence) - (x->info.sequence < y->info.sequence);
}

/* Samples of blocks in order: of one time the last wins. Returns how many are left. */
static size_t merge(struct sample *all, size_t n)
{
    /* A stable sort: insertion into the order so far would be, but glibc's qsort is one for arrays of this size, which
     * no standard promises; so the place is part of the key. */
    struct place {
        struct sample s;
        size_t at;
    } *keyed = mem_calloc(MEM_BASE, n + 1, sizeof(*keyed));
    for (size_t i = 0; i < n; i++) keyed[i] = (struct place){all[i], i};
    qsort(keyed, n, sizeof(*keyed), compare_samples);
    size_t kept = 0;
    for (size_t i = 0; i < n;) {
        struct place last = keyed[i];
        size_t k = i;
        for (; k < n && keyed[k].s.t_ms == keyed[i].s.t_ms; k++)
            if (keyed[k].at > last.at) last = keyed[k];
        all[kept++] = last.s;
        i = k;
    }
    mem_free(keyed);
    return kept;
}

/* What a reader gets. Ties of sequence must not matter, so they are read in random order. */
static struct sample *read_all(const struct world *w, struct rng *rng, size_t *n)
{
    struct fake *sorted = mem_calloc(MEM_BASE, w->n + 1, sizeof(*sorted));
    memcpy(sorted, w->blocks, w->n * sizeof(*sorted));
    for (size_t i = w->n; rng && i > 1; i--) {
        size_t k = rng_below(rng, i);
        struct fake swap = sorted[i - 1];
        sorted[i - 1] = sorted[k];
        sorted[k] = swap;
    }
    qsort(sorted, w->n, sizeof(*sorted), compare_blocks);
    size_t total = 0;
    for (size_t i = 0; i < w->n; i++) total += sorted[i].n;
    struct sample *all = mem_calloc(MEM_BASE, total + 1, sizeof(*all));
    *n = 0;
    for (size_t i = 0; i < w->n; i++) {
        memcpy(all + *n, sorted[i].samples, sorted[i].n * sizeof(*all));
        *n += sorted[i].n;
    }
    mem_free(sorted);
    *n = merge(all, *n);
    return all;
}

static struct compact_job next_job(struct world *w)
{
    struct err err;
    struct compact_job job;
    const struct block_info **infos = mem_calloc(MEM_BASE, w->n + 1, sizeof(*infos));
    for (size_t i = 0; i < w->n; i++) infos[i] = &w->blocks[i].info;
    CHECK_OK(compact_plan(infos, w->n, &w->when, &w->limits, NULL, 0, &job, &err), &err);
    mem_free(infos);
    CHECK(job.n <= COMPACT_SOURCES_MAX);
    return job;
}

/* Does what the merger does. */
static void run_job(struct world *w, const struct compact_job *job)
{
    size_t total = 0, n = 0;
    for (size_t i = 0; i < job->n; i++) total += w->blocks[job->sources[i]].n;
    struct sample *all = mem_calloc(MEM_BASE, total + 1, sizeof(*all));
    uint64_t before = 0;
    for (size_t i = 0; i < job->n; i++) {
        struct fake *b = &w->blocks[job->sources[i]];
        CHECK(b->n > 0);
        CHECK(b->info.sequence >= before);
        before = b->info.sequence;
        memcpy(all + n, b->samples, b->n * sizeof(*all));
        n += b->n;
        mem_free(b->samples);
        b->n = 0;
    }
    CHECK_U64(job->sequence, before);
    size_t kept = 0;
    for (size_t i = 0; i < w->n; i++)
        if (w->blocks[i].n) w->blocks[kept++] = w->blocks[i];
    w->n = kept;
    n = merge(all, n);
    for (size_t i = 0, end; i < n; i = end) {
        struct compact_cell cell = compact_grid_cell(&job->grid, all[i].t_ms);
        CHECK(cell.from_ms <= all[i].t_ms);
        for (end = i; end < n && all[end].t_ms <= cell.to_ms;) end++;
        CHECK(end > i);
        struct sample *part = mem_calloc(MEM_BASE, end - i, sizeof(*part));
        memcpy(part, all + i, (end - i) * sizeof(*part));
        (void)add_block(w, part, end - i, job->sequence, cell.level);
    }
    mem_free(all);
}

static size_t run_all(struct world *w)
{
    size_t n = 0;
    for (struct compact_job job = next_job(w); job.n; job = next_job(w)) {
        CHECK(n++ < 100000);
        run_job(w, &job);
    }
    return n;
}

/* ---- tables ---- */

static void test_grid(void **state)
{
    (void)state;
    static const struct {
        int64_t retention_ms, t_ms, size_ms;
        uint32_t level;
        bool closed;
    } rows[] = {
        {0, NOW, 2 * HOUR, 1, false},
        {0, NOW - HOUR - HOUR / 2, 2 * HOUR, 1, true},
        {0, NOW - 13 * HOUR, 2 * HOUR, 1, true},
        {0, NOW - 14 * HOUR, DAY, 2, true},
        {0, NOW - 40 * DAY, 24 * DAY, 3, true},
        {90 * DAY, NOW - 40 * DAY, 6 * DAY, 3, true},
        {15 * DAY, NOW - 40 * DAY, DAY, 2, true},
        {HOUR, NOW - 40 * DAY, DAY, 2, true},
        {0, 0, 24 * DAY, 3, true},
        {0, -1, 24 * DAY, 3, true},
        {0, INT64_MIN, 0, 3, true},
        {0, INT64_MAX, 0, 1, false},
    };
    struct compact_limits limits = compact_limits_default();
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct compact_when when = {.now_ms = NOW, .retention_ms = rows[i].retention_ms};
        struct compact_grid grid = compact_grid_at(&when, &limits);
        struct compact_cell cell = compact_grid_cell(&grid, rows[i].t_ms);
        CHECK(cell.from_ms <= rows[i].t_ms && rows[i].t_ms <= cell.to_ms);
        CHECK(cell.level == rows[i].level);
        CHECK(cell.closed == rows[i].closed);
        if (rows[i].size_ms) CHECK_I64(cell.to_ms - cell.from_ms + 1, rows[i].size_ms);
    }
    struct compact_when when = {.now_ms = NOW, .level = 9};
    struct compact_grid grid = compact_grid_at(&when, &limits);
    CHECK(compact_grid_cell(&grid, NOW).level == 3 && compact_grid_cell(&grid, NOW).closed);
    when.level = 2;
    grid = compact_grid_at(&when, &limits);
    CHECK(compact_grid_cell(&grid, NOW).level == 2);
}

/* One span of a table: hours back from NOW. */
struct span {
    int from_h, to_h;
    unsigned mib;
};

static size_t sources_of(const struct span *spans, size_t n, int64_t wait_ms, bool eager)
{
    struct world w;
    world_init(&w);
    for (size_t i = 0; i < n; i++)
        (void)add_span(&w, NOW - spans[i].from_h * HOUR, NOW - spans[i].to_h * HOUR,
                       spans[i].mib * MIB);
    w.when.now_ms += wait_ms;
    w.when.eager = eager;
    size_t sources = next_job(&w).n;
    world_release(&w);
    return sources;
}

static void test_what_waits(void **state)
{
    (void)state;
    const struct span lone[] = {{3, 3, 1}};
    CHECK(sources_of(lone, 1, HOUR, false) == 0);
    const struct span two[] = {{3, 3, 1}, {3, 3, 1}};
    CHECK(sources_of(two, 2, 0, false) == 0); /* one more may come */
    CHECK(sources_of(two, 2, HOUR, false) == 2);
    CHECK(sources_of(two, 2, 0, true) == 2);
    const struct span open[] = {{0, 0, 1}, {0, 0, 1}};
    CHECK(sources_of(open, 2, HOUR, false) == 0);
    CHECK(sources_of(open, 2, HOUR, true) == 0);
    const struct span alike[] = {{3, 3, 1}, {3, 3, 1}, {3, 3, 2}, {3, 3, 1}};
    CHECK(sources_of(alike, 4, 0, false) == 4);
    /* Yesterday's only block: smaller as a day's block. */
    const struct span day[] = {{20, 20, 1}};
    CHECK(sources_of(day, 1, 0, false) == 0);
    CHECK(sources_of(day, 1, HOUR, false) == 1);
    /* Across cells: cut after a while, or when there are four. */
    const struct span across[] = {{900, 20, 1}, {800, 30, 1}, {700, 40, 1}, {900, 50, 1}};
    CHECK(sources_of(across, 3, 0, false) == 0);
    CHECK(sources_of(across, 4, 0, false) == 4);
    CHECK(sources_of(across, 1, HOUR, false) == 1);
}

/* Two late samples beside a large block: it is written again after days, not each time. */
static void test_late_samples(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    int64_t day_ms = NOW - 13 * HOUR - DAY;
    struct fake *large = add_span(&w, day_ms, day_ms + DAY - 1, 1000 * MIB);
    large->info.level = 2;
    (void)add_span(&w, day_ms + HOUR, day_ms + HOUR, MIB);
    w.when.now_ms += HOUR;
    CHECK(next_job(&w).n == 0);
    w.when.now_ms += DAY;
    CHECK(next_job(&w).n == 0);
    w.when.now_ms += DAY;
    CHECK(next_job(&w).n == 2);
    w.when.now_ms -= 2 * DAY;
    for (int i = 0; i < 3; i++) (void)add_span(&w, day_ms + HOUR, day_ms + HOUR, MIB);
    struct compact_job job = next_job(&w);
    CHECK(job.n == 4); /* the late ones alone */
    for (size_t i = 0; i < job.n; i++) CHECK(job.sources[i] != 0);
    world_release(&w);
}

/* A block between two sources, which one of them overlaps, comes along. */
static void test_between(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    w.limits.bytes_max = 100 * MIB;
    int64_t day_ms = NOW - 13 * HOUR - DAY;
    for (int i = 0; i < 2; i++) (void)add_span(&w, day_ms, day_ms + 5, MIB);
    (void)add_span(&w, day_ms + 3, day_ms + 7, 3 * MIB / 10);
    for (int i = 0; i < 2; i++) (void)add_span(&w, day_ms, day_ms + 5, MIB);
    (void)add_span(&w, day_ms + 3, day_ms + 3, 99 * MIB);
    struct compact_job job = next_job(&w);
    CHECK(job.n == 5);
    CHECK_U64(job.sequence, 5);
    /* Refused, it is not planned again. */
    struct err err;
    const struct block_info *infos[6];
    for (size_t i = 0; i < 6; i++) infos[i] = &w.blocks[i].info;
    struct compact_job other;
    CHECK_OK(compact_plan(infos, 6, &w.when, &w.limits, &job.id, 1, &other, &err), &err);
    CHECK(other.n == 0);
    world_release(&w);
}

/* Blocks that came after somebody asked are not his. */
static void test_sequence_max(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    w.when.eager = true;
    int64_t day_ms = NOW - 13 * HOUR - DAY;
    for (int i = 0; i < 5; i++) (void)add_span(&w, day_ms, day_ms + 5, MIB);
    CHECK(next_job(&w).n == 5);
    w.when.sequence_max = 3;
    struct compact_job job = next_job(&w);
    CHECK(job.n == 3);
    CHECK_U64(job.sequence, 3);
    w.when.sequence_max = 1;
    job = next_job(&w);
    CHECK(job.n == 1); /* of the head, so it is written again */
    CHECK_U64(w.blocks[job.sources[0]].info.sequence, 1);
    world_release(&w);
}

/* ---- random blocks ---- */

static int64_t random_time(struct rng *rng, int64_t now_ms)
{
    switch (rng_below(rng, 5)) {
    case 0: return now_ms - (int64_t)rng_below(rng, 4 * HOUR);
    case 1: return now_ms - (int64_t)rng_below(rng, 2 * DAY);
    case 2: return now_ms - (int64_t)rng_below(rng, 60 * DAY);
    case 3: return now_ms - 40 * DAY + (int64_t)rng_below(rng, 20);
    default: return now_ms - (int64_t)rng_below(rng, 300) * 4 * HOUR;
    }
}

static void add_random(struct world *w, struct rng *rng)
{
    size_t n = 1 + rng_below(rng, rng_chance(rng, 0.2) ? 40 : 5);
    struct sample *s = mem_calloc(MEM_BASE, n, sizeof(*s));
    bool near = rng_chance(rng, 0.6);
    int64_t at_ms = random_time(rng, w->when.now_ms);
    for (size_t i = 0; i < n; i++)
        s[i] = (struct sample){near ? at_ms + (int64_t)rng_below(rng, 6)
                                    : random_time(rng, w->when.now_ms),
                               (uint32_t)rng_u64(rng)};
    n = merge(s, n);
    w->bytes_per_sample = UINT64_C(1000) << rng_below(rng, 12);
    (void)add_block(w, s, n, w->next_sequence++, 0);
}

/* Each job leaves the answers as they are. */
static void run_checked(struct world *w, struct rng *rng)
{
    for (size_t n_jobs = 0;; n_jobs++) {
        struct compact_job job = next_job(w);
        if (job.n == 0) return;
        CHECK(n_jobs < 2000);
        size_t n, n_after;
        struct sample *before = read_all(w, rng, &n);
        w->bytes_per_sample = UINT64_C(1000) << rng_below(rng, 12);
        run_job(w, &job);
        struct sample *after = read_all(w, rng, &n_after);
        CHECK_U64(n_after, n);
        for (size_t i = 0; i < n; i++)
            CHECK(after[i].t_ms == before[i].t_ms && after[i].v == before[i].v);
        mem_free(before);
        mem_free(after);
    }
}

/* In the end there is one block for each closed cell, and no block across cells. */
static void check_few(struct world *w)
{
    struct compact_grid grid = compact_grid_at(&w->when, &w->limits);
    for (size_t i = 0; i < w->n; i++) {
        const struct block_info *a = &w->blocks[i].info;
        struct compact_cell cell = compact_grid_cell(&grid, a->t_min_ms);
        CHECK(a->t_max_ms <= cell.to_ms);
        for (size_t k = i + 1; k < w->n && cell.closed; k++) {
            const struct block_info *b = &w->blocks[k].info;
            CHECK(b->t_min_ms > cell.to_ms || b->t_max_ms < cell.from_ms);
        }
    }
}

static void test_random_blocks(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 300)
    {
        struct world w;
        world_init(&w);
        static const int64_t retentions[] = {0, 15 * DAY, 60 * DAY, 400 * DAY};
        w.when.retention_ms = retentions[rng_below(&rng, COUNT_OF(retentions))];
        w.limits.bytes_max = rng_chance(&rng, 0.2) ? MIB : 0;
        for (int round = 0; round < 30; round++) {
            for (size_t i = rng_below(&rng, 8); i > 0; i--) add_random(&w, &rng);
            if (rng_chance(&rng, 0.05)) w.when.retention_ms = retentions[rng_below(&rng, 4)];
            w.when.level = rng_chance(&rng, 0.05) ? (uint32_t)rng_below(&rng, 4) : 0;
            w.when.eager = rng_chance(&rng, 0.1);
            run_checked(&w, &rng);
            w.when.now_ms += (int64_t)rng_below(&rng, rng_chance(&rng, 0.1) ? 20 * DAY : HOUR);
        }
        w.when.eager = true;
        w.when.level = COMPACT_LEVEL_MAX;
        w.when.retention_ms = 0;
        w.limits.bytes_max = 0;
        run_checked(&w, &rng);
        check_few(&w);
        world_release(&w);
    }
}

/* ---- imports of a year ---- */

struct import {
    size_t n_blocks;
    double amplification;
};

/* 240 flushes, each of samples that span the whole year (shuffled, or one series after the other), or the next 36 h
 * (in order of time). */
static struct import import_year(bool in_order)
{
    struct world w;
    world_init(&w);
    w.bytes_per_sample = 16 << 10;
    int64_t begin_ms = NOW - 365 * DAY;
    uint64_t arrived = 0;
    for (int flush = 0; flush < 240; flush++) {
        size_t n = 1200;
        struct sample *s = mem_calloc(MEM_BASE, n, sizeof(*s));
        for (size_t i = 0; i < n; i++) {
            int64_t within = (int64_t)i * (in_order ? 36 * HOUR : 365 * DAY) / (int64_t)n;
            s[i].t_ms = begin_ms + within + (in_order ? flush * 36 * HOUR : flush);
        }
        (void)add_block(&w, s, n, w.next_sequence++, 0);
        arrived += n * w.bytes_per_sample;
        (void)run_all(&w);
        w.when.now_ms += 20000;
    }
    for (int i = 0; i < 10 * 24; i++) {
        w.when.now_ms += HOUR;
        (void)run_all(&w);
    }
    struct import result = {w.n, (double)w.written / (double)arrived};
    world_release(&w);
    return result;
}

static void test_imports(void **state)
{
    (void)state;
    struct import shuffled = import_year(false), ordered = import_year(true);
    print_message("shuffled: %zu blocks, each byte written %.1f times; in order: %zu, %.1f\n",
                  shuffled.n_blocks, shuffled.amplification, ordered.n_blocks,
                  ordered.amplification);
    CHECK(shuffled.n_blocks <= 40);
    CHECK(ordered.n_blocks <= 40);
    CHECK(shuffled.amplification <= 7);
    CHECK(ordered.amplification <= 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grid),         cmocka_unit_test(test_what_waits),
        cmocka_unit_test(test_late_samples), cmocka_unit_test(test_sequence_max),
        cmocka_unit_test(test_between),      cmocka_unit_test(test_random_blocks),
        cmocka_unit_test(test_imports)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
