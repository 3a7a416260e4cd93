/* tests/storage/test_compact_merge.c: the merge of random blocks against a plain table: of each series and time the
 * value that the rules leave, bit by bit. Then what a merge must do when it is stopped, when a source lies, and when there
 * are too many series; and which series are taken for a histogram. */
#include "storage/compact_merge.h"

#include "storage/compact_family.h"
#include "tests/storage/env.h"
#include "tests/storage/gen.h"

#define MINUTE INT64_C(60000)
#define DAY (INT64_C(24) * 60 * MINUTE)
#define NOW (INT64_C(20454) * DAY + 13 * 60 * MINUTE)
#define TIMES 240 /* every 20 minutes: more than three days, so cells of all sizes */
#define FAMILIES 4
#define SERIES_MAX 80
#define BLOCKS_MAX 6

/* ---- the table ---- */

struct cell {
    bool there;
    double v; /* NaN payloads survive: it is only copied by memcpy */
    struct histogram *h;
};
struct table_series {
    struct labels labels;
    unsigned kind;
    bool histograms;
    struct cell cells[TIMES];
};
struct table {
    struct test_env env;
    struct rng *rng;
    struct arena arena;
    struct page_cache *cache;
    struct table_series *series; /* in label order */
    size_t n;
    struct block *blocks[BLOCKS_MAX];
    size_t n_blocks;
    uint64_t n_written; /* samples, in all blocks */
    struct err err;
};

static int64_t time_of(size_t i)
{
    return NOW - (int64_t)(TIMES - i) * 20 * MINUTE;
}

static struct labels make_labels(struct arena *arena, const char *name, const char *job,
                                 const char *le)
{
    struct label *items = ARENA_ARRAY(arena, struct label, 3);
    size_t n = 0;
    items[n++] = (struct label){STR(LABEL_NAME), arena_str(arena, str_of(name))};
    if (job) items[n++] = (struct label){STR("job"), arena_str(arena, str_of(job))};
    if (le) items[n++] = (struct label){STR("le"), arena_str(arena, str_of(le))};
    return (struct labels){items, n};
}

static void add_series(struct table *t, struct labels labels, unsigned kind, bool histograms)
{
    CHECK(t->n < SERIES_MAX);
    t->series[t->n].labels = labels;
    t->series[t->n].kind = kind;
    t->series[t->n++].histograms = histograms;
}

static int compare_series(const void *a, const void *b)
{
    const struct table_series *x = a, *y = b;
    return labels_cmp(x->labels, y->labels);
}

static void add_family(struct table *t, size_t i)
{
    static const char *const bounds[] = {"0.1", "1", "2.5", "1e+01", "+Inf", "1.0", "lots"};
    char job[16];
    size_t n = rng_chance(t->rng, 0.7) ? 5 : COUNT_OF(bounds);
    snprintf(job, sizeof(job), "j%zu", i % 3);
    for (size_t k = 0; k < n; k++) {
        if (n > 5 && rng_chance(t->rng, 0.4)) continue;
        add_series(t, make_labels(&t->arena, i % 2 ? "x_bucket" : "yy_bucket", job, bounds[k]), 1,
                   false);
    }
    if (rng_chance(t->rng, 0.8))
        add_series(t, make_labels(&t->arena, i % 2 ? "x_count" : "yy_count", job, NULL), 1, false);
}

static void table_init(struct table *t, struct rng *rng)
{
    memset(t, 0, sizeof(*t));
    test_env_init(&t->env);
    t->env.clock.wall_ms = NOW;
    t->rng = rng;
    arena_init(&t->arena, MEM_BASE, 0);
    CHECK_OK(page_cache_new(&t->env.env, 4 << 20, &t->cache, &t->err), &t->err);
    t->series = ARENA_ARRAY(&t->arena, struct table_series, SERIES_MAX);
    for (size_t i = 0; i < FAMILIES; i++) add_family(t, i);
    for (size_t i = 0; i < 12; i++) {
        char name[24];
        snprintf(name, sizeof(name), "m%zu%s", i, i % 3 ? "" : "_bucket");
        add_series(t, make_labels(&t->arena, name, NULL, NULL),
                   (unsigned)rng_below(rng, GEN_VALUE_KINDS), rng_chance(rng, 0.2));
    }
    qsort(t->series, t->n, sizeof(*t->series), compare_series);
}

static void table_release(struct table *t)
{
    for (size_t i = 0; i < t->n_blocks; i++) block_unref(t->blocks[i]);
    page_cache_free(t->cache);
    arena_release(&t->arena);
    test_env_release(&t->env);
}

/* What the rules say: the later one wins, but a staleness marker never replaces a value. */
static void put_cell(struct cell *cell, double v, struct histogram *h)
{
    if (cell->there && is_stale_nan(v) && !is_stale_nan(cell->v)) return;
    cell->there = true;
    cell->h = h;
    memcpy(&cell->v, &v, sizeof(v));
}

/* ---- blocks ---- */

/* Samples of one series for one block, which go into the table, too. Members of a family share times, mostly. */
static void fill_series(struct table *t, struct table_series *s, const bool *times,
                        struct samples *out)
{
    double state = (double)rng_below(t->rng, 100);
    struct histogram *last = NULL;
    for (size_t i = 0; i < TIMES; i++) {
        if (times[i] == rng_chance(t->rng, 0.01)) continue;
        double v;
        struct histogram *h = NULL;
        if (s->histograms && !rng_chance(t->rng, 0.1)) {
            h = last = gen_histogram(t->rng, &t->arena, rng_chance(t->rng, 0.2) ? NULL : last);
            memcpy(&v, &h->sum, sizeof(v));
        } else {
            uint64_t bits =
                rng_chance(t->rng, 0.03) ? STALE_NAN_BITS : gen_value_bits(t->rng, s->kind, &state);
            memcpy(&v, &bits, sizeof(v));
        }
        CHECK_OK(samples_push(out, time_of(i), v, h, &t->err), &t->err);
        put_cell(&s->cells[i], v, h);
    }
}

static void random_times(struct rng *rng, bool *times)
{
    size_t from = rng_below(rng, TIMES), to = from + 1 + rng_below(rng, TIMES - from);
    double p = rng_chance(rng, 0.5) ? 1 : rng_unit(rng);
    for (size_t i = 0; i < TIMES; i++) times[i] = i >= from && i < to && rng_chance(rng, p);
}

static void open_block(struct table *t, const struct block_info *info, struct block **out)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s.block", t->env.dir, info->ulid.text);
    CHECK_OK(block_open(&t->env.env, path, t->cache, out, &t->err), &t->err);
}

static void add_block(struct table *t)
{
    struct block_info info = {.incarnation = 5, .sequence = 10 + 3 * t->n_blocks};
    struct block_writer *w;
    bool times[TIMES];
    random_times(t->rng, times);
    ulid_make(&info.ulid, NOW, t->rng);
    CHECK_OK(block_writer_open(&t->env.env, t->env.dir, &info, &w, &t->err), &t->err);
    size_t n = 0;
    for (size_t i = 0; i < t->n; i++) {
        struct samples s;
        uint32_t id;
        if (rng_chance(t->rng, 0.2)) continue;
        samples_init(&s, MEM_BASE, &t->arena);
        fill_series(t, &t->series[i], times, &s);
        if (s.n) {
            CHECK_OK(block_writer_series(w, t->series[i].labels, &id, &t->err), &t->err);
            CHECK_OK(block_writer_samples(w, id, &s, 0, s.n, &t->err), &t->err);
        }
        n += s.n;
        samples_release(&s);
    }
    if (n) {
        CHECK_OK(block_writer_finish(w, &info, &t->err), &t->err);
        open_block(t, &info, &t->blocks[t->n_blocks++]);
    }
    t->n_written += n;
    block_writer_close(w);
}

static struct compact_merge merge_of(struct table *t)
{
    struct compact_limits limits = compact_limits_default();
    struct compact_when when = {.now_ms = NOW, .level = (uint32_t)rng_below(t->rng, 4)};
    return (struct compact_merge){.env = &t->env.env,
                                  .rng = t->rng,
                                  .dir = t->env.dir,
                                  .sources = t->blocks,
                                  .n_sources = t->n_blocks,
                                  .grid = compact_grid_at(&when, &limits),
                                  .sequence = 77,
                                  .incarnation = 5,
                                  .series_max = 1000};
}

/* ---- comparing ---- */

/* Series s as it is in a block, against the table from *at on; moves *at behind the block's last sample. */
static void check_series(struct table *t, struct block *block, uint32_t id,
                         const struct table_series *s, const struct compact_cell *cell)
{
    struct samples got;
    struct arena arena;
    arena_init(&arena, MEM_BASE, 0);
    samples_init(&got, MEM_BASE, &arena);
    CHECK_OK(block_read(block, id, INT64_MIN, INT64_MAX, &got, &t->err), &t->err);
    size_t k = 0;
    for (size_t i = 0; i < TIMES; i++) {
        const struct cell *want = &s->cells[i];
        if (!want->there || time_of(i) < cell->from_ms || time_of(i) > cell->to_ms) continue;
        CHECK(k < got.n);
        CHECK_I64(got.t_ms[k], time_of(i));
        CHECK_U64(double_bits(got.v[k]), double_bits(want->v));
        const struct histogram *h = got.h ? got.h[k] : NULL;
        CHECK((h != NULL) == (want->h != NULL));
        if (h) CHECK(histogram_same_bits(h, want->h));
        k++;
    }
    CHECK(k > 0);
    CHECK_U64(got.n, k);
    samples_release(&got);
    arena_release(&arena);
}

static bool has_samples(const struct table_series *s, const struct compact_cell *cell)
{
    for (size_t i = 0; i < TIMES; i++)
        if (s->cells[i].there && time_of(i) >= cell->from_ms && time_of(i) <= cell->to_ms)
            return true;
    return false;
}

static void check_block(struct table *t, const struct compact_merge *m,
                        const struct block_info *info)
{
    struct block *block;
    struct arena arena;
    struct compact_cell cell = compact_grid_cell(&m->grid, info->t_min_ms);
    arena_init(&arena, MEM_BASE, 0);
    open_block(t, info, &block);
    CHECK_OK(block_verify(block, NULL, NULL, &t->err), &t->err);
    CHECK(info->t_max_ms <= cell.to_ms);
    CHECK(info->level == cell.level);
    CHECK(info->sequence == 77 && info->incarnation == 5);
    uint32_t id = 0;
    for (size_t i = 0; i < t->n; i++) {
        struct labels labels;
        if (!has_samples(&t->series[i], &cell)) continue;
        CHECK(id < info->n_series);
        CHECK_OK(block_labels(block, id, &arena, &labels, &t->err), &t->err);
        CHECK(labels_eq(labels, t->series[i].labels));
        check_series(t, block, id++, &t->series[i], &cell);
    }
    CHECK_U64(id, info->n_series);
    block_unref(block);
    arena_release(&arena);
}

static uint64_t count_cells(const struct table *t)
{
    uint64_t n = 0;
    for (size_t i = 0; i < t->n; i++)
        for (size_t k = 0; k < TIMES; k++) n += t->series[i].cells[k].there;
    return n;
}

static void test_like_a_table(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 150)
    {
        struct table t;
        struct compact_outputs out;
        struct compact_stats stats;
        table_init(&t, &rng);
        for (size_t i = 1 + rng_below(&rng, BLOCKS_MAX); i > 0; i--) add_block(&t);
        if (t.n_blocks) {
            struct compact_merge m = merge_of(&t);
            m.slice_samples = rng_chance(&rng, 0.5) ? 1 + rng_below(&rng, 300) : 0;
            CHECK_OK(compact_merge(&m, &out, &stats, &t.err), &t.err);
            CHECK_U64(stats.n_samples, count_cells(&t));
            CHECK_U64(stats.n_duplicates, t.n_written - count_cells(&t));
            uint64_t n = 0;
            for (size_t i = 0; i < out.n; i++) {
                check_block(&t, &m, &out.items[i]);
                n += out.items[i].n_samples;
                if (i) CHECK(out.items[i].t_min_ms > out.items[i - 1].t_max_ms);
            }
            CHECK_U64(n, stats.n_samples); /* so there is a block for each cell with samples */
            compact_outputs_release(&out);
        }
        table_release(&t);
    }
}

/* ---- what is not merged ---- */

static bool count_file(void *ctx, const char *name, bool is_dir)
{
    (void)name;
    (void)is_dir;
    ++*(size_t *)ctx;
    return true;
}

static size_t count_files(struct table *t)
{
    size_t n = 0;
    CHECK_OK(io_list(t->env.env.io, t->env.dir, count_file, &n, &t->err), &t->err);
    return n;
}

struct stop {
    size_t calls, at;
    double done;
};
static enum err_code stop_at(void *ctx, double done, struct err *err)
{
    struct stop *stop = ctx;
    CHECK(done >= stop->done && done <= 1);
    stop->done = done;
    return ++stop->calls == stop->at ? err_set(err, ERR_SHUTDOWN, "stopping") : ERR_OK;
}

/* Wherever it is stopped, no file is left behind. */
static void test_stopped(void **state)
{
    (void)state;
    struct rng rng;
    struct table t;
    test_rng(&rng);
    table_init(&t, &rng);
    while (t.n_blocks < 3) add_block(&t);
    size_t n_files = count_files(&t);
    struct compact_merge m = merge_of(&t);
    struct stop stop = {.at = 1};
    m.pause = stop_at;
    m.pause_ctx = &stop;
    for (;; stop = (struct stop){.at = stop.at + 7}) {
        struct compact_outputs out;
        struct compact_stats stats;
        enum err_code rc = compact_merge(&m, &out, &stats, &t.err);
        if (rc) {
            CHECK_ERR(rc, ERR_SHUTDOWN);
            CHECK(out.n == 0);
            CHECK_U64(count_files(&t), n_files);
        }
        size_t n = out.n;
        compact_outputs_release(&out);
        if (rc) continue;
        CHECK_U64(count_files(&t), n_files + n);
        CHECK(stop.done == 1);
        break;
    }
    m.pause = NULL;
    m.series_max = 3;
    struct compact_outputs out;
    struct compact_stats stats;
    n_files = count_files(&t);
    CHECK_ERR(compact_merge(&m, &out, &stats, &t.err), ERR_LIMIT);
    compact_outputs_release(&out);
    CHECK_U64(count_files(&t), n_files);
    table_release(&t);
    test_where.in_property = false;
}

/* Every series loses a stretch; one of them everything. */
static enum err_code drop_some(void *ctx, struct labels labels, struct arena *arena,
                               struct compact_range **ranges, size_t *n, struct err *err)
{
    (void)ctx;
    (void)err;
    bool all = str_eq(labels_get(labels, STR(LABEL_NAME)), STR("m1"));
    *ranges = ARENA_ARRAY(arena, struct compact_range, 2);
    (*ranges)[0] = all ? (struct compact_range){INT64_MIN, INT64_MAX}
                       : (struct compact_range){time_of(20), time_of(30)};
    (*ranges)[1] = (struct compact_range){time_of(33), time_of(33)};
    *n = 2;
    return ERR_OK;
}

static void test_dropped(void **state)
{
    (void)state;
    struct rng rng;
    struct table t;
    struct compact_outputs out;
    struct compact_stats stats;
    test_rng(&rng);
    table_init(&t, &rng);
    while (t.n_blocks < 3) add_block(&t);
    for (size_t i = 0; i < t.n; i++) {
        bool all = str_eq(labels_get(t.series[i].labels, STR(LABEL_NAME)), STR("m1"));
        for (size_t k = 0; k < TIMES; k++)
            if (all || (k >= 20 && k <= 30) || k == 33) t.series[i].cells[k].there = false;
    }
    struct compact_merge m = merge_of(&t);
    m.drop = drop_some;
    CHECK_OK(compact_merge(&m, &out, &stats, &t.err), &t.err);
    CHECK_U64(stats.n_samples, count_cells(&t));
    for (size_t i = 0; i < out.n; i++) check_block(&t, &m, &out.items[i]);
    compact_outputs_release(&out);
    table_release(&t);
    test_where.in_property = false;
}

/* ---- families ---- */

static bool ordered(const char *const (*rows)[3], size_t n, struct compact_order *order)
{
    struct arena arena;
    struct labels labels[16];
    arena_init(&arena, MEM_BASE, 0);
    for (size_t i = 0; i < n; i++)
        labels[i] = make_labels(&arena, rows[i][0], rows[i][1], rows[i][2]);
    bool fine = compact_family_order(labels, n, order);
    arena_release(&arena);
    return fine;
}

static void test_families(void **state)
{
    (void)state;
    struct compact_order order;
    const char *const good[][3] = {{"x_count", "a", NULL},
                                   {"x_bucket", "a", "+Inf"},
                                   {"x_bucket", "a", "10"},
                                   {"x_bucket", "a", "2"},
                                   {"x_bucket", "a", "-5e-3"}};
    CHECK(ordered(good, 5, &order));
    CHECK(order.n_buckets == 4 && order.has_count);
    const uint32_t expected[] = {4, 3, 2, 1, 0};
    for (size_t i = 0; i < 5; i++) CHECK_U64(order.places[i], expected[i]);
    CHECK(ordered(good + 1, 4, &order) && !order.has_count);
    static const char *const bad[][3][3] = {
        {{"x_bucket", "a", "+Inf"}, {"x_bucket", "b", "1"}, {"x_bucket", "a", "2"}},
        {{"x_bucket", "a", "+Inf"}, {"y_bucket", "a", "1"}, {"x_bucket", "a", "2"}},
        {{"x_bucket", "a", "+Inf"}, {"x_bucket", NULL, "1"}, {"x_bucket", "a", "2"}},
        {{"x_bucket", "a", "+Inf"}, {"x_bucket", "a", "1"}, {"x_bucket", "a", "1.0"}},
        {{"x_bucket", "a", "+Inf"}, {"x_bucket", "a", "1"}, {"x_bucket", "a", "NaN"}},
        {{"x_bucket", "a", "+Inf"}, {"x_bucket", "a", "1"}, {"x_bucket", "a", "1s"}},
        {{"x_bucket", "a", "3"}, {"x_bucket", "a", "1"}, {"x_bucket", "a", "2"}},
        {{"x_bucket", "a", "+Inf"}, {"x_count", "a", NULL}, {"x_count", "a", NULL}},
        {{"x_bucket", "a", "+Inf"}, {"x_count", "a", NULL}, {"x_sum", "a", NULL}},
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) CHECK(!ordered(bad[i], 3, &order));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_like_a_table), cmocka_unit_test(test_stopped),
        cmocka_unit_test(test_dropped), cmocka_unit_test(test_families)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
