/* The cache of answers: the same bits as without it, whatever is written late meanwhile; what it keeps and for how long;
 * that it is bounded. Random data, late writes and refreshes replay with QUIPU_SEED. */
#include <stdlib.h>

#include "engine/changes.h"
#include "query/parser.h"
#include "query/result_cache.h"
#include "tests/query/gen_expr.h"
#include "tests/query/source_mem.h"
#include "tests/quipu_test.h"

#define SERIES 6
#define SLOTS 120 /* samples of a series, one per MINUTE at most */
#define MINUTE 60000
#define FRESH (5 * MINUTE) /* steps younger than this are not kept */

/* ---- data that is written late, over source_mem, which takes samples in order only ---- */

struct world {
    struct query_source source; /* first */
    struct query_source_ops ops;
    struct source_mem *mem;
    struct changes changes;
    bool has[SERIES][SLOTS];
    double v[SERIES][SLOTS];
    int64_t now_ms;
    uint64_t identity;
    struct clock_fake clock;
    struct metrics *metrics;
    struct result_cache *cache;
};

static struct world *of(struct query_source *src)
{
    return (struct world *)(void *)src;
}

static enum err_code world_select(struct query_source *src, const struct matcher *matchers,
                                  size_t n_matchers, int64_t mint_ms, int64_t maxt_ms,
                                  struct source_select **out, struct err *err)
{
    struct query_source *mem = source_mem_source(of(src)->mem);
    return mem->ops->select(mem, matchers, n_matchers, mint_ms, maxt_ms, out, err);
}

static void world_settle(struct query_source *src, int64_t until_ms, uint64_t *identity,
                         uint64_t *number)
{
    *identity = of(src)->identity;
    *number = changes_settle(&of(src)->changes, until_ms);
}

static int64_t world_changed_since(struct query_source *src, uint64_t number)
{
    return changes_since(&of(src)->changes, number);
}

static struct labels series_labels_of(struct label *items, size_t i)
{
    static const char *const NAMES[] = {"a", "b", "c"};
    static const char *const VALUES[] = {"x", "y"};
    items[0] = (struct label){STR("__name__"), str_of(NAMES[i % COUNT_OF(NAMES)])};
    items[1] = (struct label){STR("l"), str_of(VALUES[i / COUNT_OF(NAMES)])};
    return (struct labels){items, 2};
}

/* The table as it is now. */
static void world_load(struct world *w)
{
    struct label items[2];
    source_mem_clear(w->mem);
    for (size_t i = 0; i < SERIES; i++)
        for (size_t k = 0; k < SLOTS; k++)
            if (w->has[i][k])
                source_mem_push(w->mem, series_labels_of(items, i), (int64_t)k * MINUTE, w->v[i][k],
                                NULL, 0);
}

static void world_write(struct world *w, size_t i, size_t slot, double v)
{
    w->has[i][slot] = true;
    w->v[i][slot] = v;
    changes_note_samples(&w->changes, (int64_t)slot * MINUTE);
}

static double some_value(struct rng *rng)
{
    static const double ODD[] = {0, -0.0, 1e300, -1e300, 1e-300, 0.1};
    switch (rng_below(rng, 10)) {
    case 0: return double_from_bits(STALE_NAN_BITS);
    case 1: return ODD[rng_below(rng, COUNT_OF(ODD))];
    default: return (double)rng_below(rng, 1000) / 7;
    }
}

static struct world *world_open(size_t cache_bytes)
{
    struct err err;
    struct world *w = mem_calloc(MEM_TOOLS, 1, sizeof *w);
    CHECK(w != NULL);
    w->mem = source_mem_new();
    w->ops = *source_mem_source(w->mem)->ops;
    w->ops.select = world_select;
    w->ops.settle = world_settle;
    w->ops.changed_since = world_changed_since;
    w->source.ops = &w->ops;
    w->identity = 1;
    changes_init(&w->changes);
    clock_fake_init(&w->clock, 0);
    w->metrics = metrics_new();
    CHECK_OK(result_cache_new(cache_bytes, w->metrics, &w->cache, &err), &err);
    return w;
}

static void world_close(struct world *w)
{
    result_cache_free(w->cache);
    CHECK_U64(source_mem_open(w->mem), 0);
    metrics_free(w->metrics);
    changes_release(&w->changes);
    source_mem_free(w->mem);
    mem_free(w);
}

static struct query_result *run(struct world *w, struct result_cache *cache, const char *expr,
                                int64_t start_ms, int64_t end_ms, int64_t step_ms, struct err *err)
{
    struct query_env env = {.source = &w->source,
                            .clock = &w->clock.clock,
                            .limits = query_limits_default(),
                            .tenant = STR("t")};
    struct query_request request = {
        .text = str_of(expr), .start_ms = start_ms, .end_ms = end_ms, .step_ms = step_ms};
    struct query_result *result;
    err_ignore(result_cache_run(cache, w->now_ms - FRESH, &env, &request, &result, err));
    return result;
}

/* ---- equal answers ---- */

static bool same_notes(struct query_result *a, struct query_result *b, const char *expr)
{
    bool same = a->notes.n == b->notes.n;
    for (int kind = 0; same && kind < 2; kind++) {
        for (size_t i = 0;; i++) {
            struct str x = notes_text(&a->notes, (enum note_kind)kind, i, str_of(expr), &a->arena);
            struct str y = notes_text(&b->notes, (enum note_kind)kind, i, str_of(expr), &b->arena);
            if (!x.p || !y.p) {
                same &= x.p == y.p;
                break;
            }
            same &= str_eq(x, y);
        }
    }
    return same;
}

static bool same_series(const struct result_series *a, const struct result_series *b)
{
    if (!labels_eq(a->labels, b->labels) || a->n != b->n) return false;
    for (size_t i = 0; i < a->n; i++) {
        const struct histogram *x = a->h ? a->h[i] : NULL, *y = b->h ? b->h[i] : NULL;
        if (a->t_ms[i] != b->t_ms[i] || !x != !y) return false;
        if (x ? !histogram_same_bits(x, y) : double_bits(a->v[i]) != double_bits(b->v[i]))
            return false;
    }
    return true;
}

static bool same_result(struct query_result *a, struct query_result *b, const char *expr)
{
    bool same = a->type == b->type && a->n_series == b->n_series && same_notes(a, b, expr);
    for (size_t i = 0; same && i < a->n_series; i++)
        same = same_series(&a->series[i], &b->series[i]);
    return same;
}

/* With and without the cache. An error without may be an answer with it: of what had been computed before there is no
 * need to compute it again. */
static void check_same(struct world *w, const char *expr, int64_t start_ms, int64_t end_ms,
                       int64_t step_ms, uint64_t *n_cached)
{
    struct err err_with, err_without;
    struct query_result *with = run(w, w->cache, expr, start_ms, end_ms, step_ms, &err_with);
    struct query_result *without = run(w, NULL, expr, start_ms, end_ms, step_ms, &err_without);
    if (!with || !without) {
        if (with || without || strcmp(err_with.text, err_without.text) != 0)
            test_fail(__FILE__, __LINE__, "%s, %lld to %lld by %lld: with %s, without %s", expr,
                      (long long)start_ms, (long long)end_ms, (long long)step_ms,
                      with ? "fine" : err_with.text, without ? "fine" : err_without.text);
    } else if (!same_result(with, without, expr)) {
        test_fail(__FILE__, __LINE__, "%s, %lld to %lld by %lld differs, %llu steps cached", expr,
                  (long long)start_ms, (long long)end_ms, (long long)step_ms,
                  (unsigned long long)with->stats.steps_cached);
    } else if (n_cached) {
        *n_cached += with->stats.steps_cached;
    }
    query_result_free(with);
    query_result_free(without);
}

/* ---- random dashboards ---- */

#define PANELS 6

struct panel {
    struct buf expr; /* NUL-terminated */
    int64_t span_ms, step_ms;
};

static void make_panel(struct rng *rng, struct panel *p)
{
    static const char *const METRICS[] = {"a", "b", "c"}, *const LABELS[] = {"l"},
                             *const VALUES[] = {"x", "y"};
    static const char *const PLAIN[] = {
        "sum(rate(a[5m]))",      "avg by (l) (b)",         "topk(1, a)",
        "a / on (l) b",          "quantile(0.5, a or b)",  "max_over_time(a[10m])",
        "sum(a) by (l) > 40",    "count_values(\"v\", c)", "sum_over_time((a + 1)[10m:2m])",
        "stddev(a) or vector(1)"};
    static const int64_t STEPS[] = {MINUTE / 2, MINUTE, 2 * MINUTE, 77777};
    struct gen_expr_options options = gen_expr_defaults();
    options.metrics = METRICS;
    options.n_metrics = COUNT_OF(METRICS);
    options.labels = LABELS;
    options.n_labels = COUNT_OF(LABELS);
    options.values = VALUES;
    options.n_values = COUNT_OF(VALUES);
    options.depth = 2;
    options.no_odd_syntax = true;
    buf_init(&p->expr, MEM_TOOLS);
    if (rng_below(rng, 2))
        buf_text(&p->expr, str_of(PLAIN[rng_below(rng, COUNT_OF(PLAIN))]));
    else
        gen_expr(rng, &options, VALUE_VECTOR, &p->expr);
    buf_u8(&p->expr, 0);
    p->step_ms = STEPS[rng_below(rng, COUNT_OF(STEPS))];
    p->span_ms = (int64_t)(5 + rng_below(rng, 40)) * MINUTE;
}

/* Now and then something late, near or far; seldom a delete of all. */
static void disturb(struct world *w, struct rng *rng, size_t slot)
{
    size_t n = rng_below(rng, 3) ? 0 : 1 + rng_below(rng, 4);
    for (size_t k = 0; k < n; k++) {
        size_t back = rng_below(rng, 2) ? rng_below(rng, 6) : rng_below(rng, slot + 1);
        world_write(w, rng_below(rng, SERIES), slot - MIN_OF(back, slot), some_value(rng));
    }
    if (rng_below(rng, 40)) return;
    size_t i = rng_below(rng, SERIES), from = rng_below(rng, slot + 1);
    for (size_t k = from; k < SLOTS; k++) w->has[i][k] = false;
    changes_note(&w->changes, (int64_t)from * MINUTE);
}

static void refresh_all(struct world *w, struct rng *rng, struct panel *panels, uint64_t *n_cached)
{
    for (size_t i = 0; i < PANELS; i++) {
        const struct panel *p = &panels[i];
        int64_t end_ms = w->now_ms, start_ms = MAX_OF(end_ms - p->span_ms, (int64_t)0);
        if (rng_below(rng, 4)) { /* as Grafana aligns them */
            start_ms -= start_ms % p->step_ms;
            end_ms -= end_ms % p->step_ms;
        }
        if (start_ms > end_ms) continue;
        check_same(w, (const char *)p->expr.p, start_ms, end_ms, p->step_ms, n_cached);
    }
}

static void one_round(struct rng *rng)
{
    struct world *w = world_open(rng_below(rng, 4) ? 1 << 20 : 20000);
    struct panel panels[PANELS];
    uint64_t n_cached = 0;
    for (size_t i = 0; i < PANELS; i++) make_panel(rng, &panels[i]);
    for (size_t slot = 0; slot < SLOTS; slot++) {
        for (size_t i = 0; i < SERIES; i++)
            if (rng_below(rng, 8)) world_write(w, i, slot, some_value(rng));
        w->now_ms = (int64_t)slot * MINUTE + (int64_t)rng_below(rng, MINUTE);
        disturb(w, rng, slot);
        if (slot < 10 || rng_below(rng, 3)) continue;
        world_load(w);
        refresh_all(w, rng, panels, &n_cached);
    }
    for (size_t i = 0; i < PANELS; i++) buf_release(&panels[i].expr);
    world_close(w);
}

static void answers_are_the_same(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 60) one_round(&rng);
}

/* ---- what is kept ---- */

static uint64_t cached_steps(struct world *w, const char *expr, int64_t start_ms, int64_t end_ms)
{
    struct err err;
    struct query_result *r = run(w, w->cache, expr, start_ms, end_ms, MINUTE, &err);
    if (!r) test_fail(__FILE__, __LINE__, "%s: %s", expr, err.text);
    uint64_t n = r->stats.steps_cached;
    query_result_free(r);
    return n;
}

static struct world *world_with_data(size_t cache_bytes)
{
    struct world *w = world_open(cache_bytes);
    for (size_t i = 0; i < SERIES; i++)
        for (size_t k = 0; k < SLOTS; k++) world_write(w, i, k, (double)(i * k));
    world_load(w);
    w->now_ms = 60 * MINUTE;
    return w;
}

static void test_refreshes(void **state)
{
    (void)state;
    struct world *w = world_with_data(1 << 20);
    CHECK_U64(cached_steps(w, "sum(a)", 0, 60 * MINUTE), 0);
    /* All but the newest five minutes, and 55 itself is old enough. */
    CHECK_U64(cached_steps(w, "sum(a)", 0, 60 * MINUTE), 56);
    CHECK_U64(cached_steps(w, "sum  ( a )", 0, 50 * MINUTE), 51);
    w->now_ms += 2 * MINUTE; /* the window moves on */
    CHECK_U64(cached_steps(w, "sum(a)", 2 * MINUTE, 62 * MINUTE), 54);
    CHECK_U64(cached_steps(w, "sum(a)", 2 * MINUTE, 62 * MINUTE), 56);
    CHECK_U64(cached_steps(w, "sum(a)", MINUTE, 62 * MINUTE), 0);     /* begins before */
    CHECK_U64(cached_steps(w, "sum(a)", MINUTE + 1, 62 * MINUTE), 0); /* other times */
    world_write(w, 0, 20, 5);                                         /* late */
    world_load(w);
    CHECK_U64(cached_steps(w, "sum(a)", MINUTE, 62 * MINUTE), 19);
    CHECK_U64(cached_steps(w, "sum(a)", MINUTE, 62 * MINUTE), 57);
    w->identity++; /* another tenant of that name */
    CHECK_U64(cached_steps(w, "sum(a)", MINUTE, 62 * MINUTE), 0);
    world_close(w);
}

static void test_limits_are_part_of_the_key(void **state)
{
    (void)state;
    struct world *w = world_with_data(1 << 20);
    struct err err;
    struct query_result *r;
    CHECK_U64(cached_steps(w, "a", 0, 60 * MINUTE), 0);
    CHECK_U64(cached_steps(w, "a", 0, 60 * MINUTE), 56);
    struct query_env env = {.source = &w->source,
                            .clock = &w->clock.clock,
                            .limits = query_limits_default(),
                            .tenant = STR("t")};
    struct query_request request = {.text = STR("a"), .end_ms = 60 * MINUTE, .step_ms = MINUTE};
    env.limits.samples_max = 50;
    CHECK(result_cache_run(w->cache, w->now_ms, &env, &request, &r, &err) == ERR_EXECUTION);
    env.limits = query_limits_default();
    request.lookback_ms = 1000;
    CHECK_OK(result_cache_run(w->cache, w->now_ms, &env, &request, &r, &err), &err);
    CHECK_U64(r->stats.steps_cached, 0);
    query_result_free(r);
    world_close(w);
}

static void test_bounded(void **state)
{
    (void)state;
    struct world *w = world_with_data(20000);
    char expr[64];
    for (int i = 0; i < 100; i++) {
        snprintf(expr, sizeof expr, "a + %d", i);
        cached_steps(w, expr, 0, 60 * MINUTE);
        CHECK(result_cache_bytes(w->cache) <= 20000);
    }
    CHECK(result_cache_bytes(w->cache) > 0);
    CHECK_U64(cached_steps(w, "a + 99", 0, 60 * MINUTE), 56); /* the newest stay */
    CHECK_U64(cached_steps(w, "a + 1", 0, 60 * MINUTE), 0);
    result_cache_set_max(w->cache, 0);
    CHECK_U64(result_cache_bytes(w->cache), 0);
    CHECK_U64(cached_steps(w, "a + 99", 0, 60 * MINUTE), 0);
    CHECK_U64(result_cache_bytes(w->cache), 0);
    world_close(w);
}

static void test_what_is_not_kept(void **state)
{
    (void)state;
    static const struct {
        const char *expr;
        bool taken;
    } CASES[] = {
        {"a", true},
        {"sum by (l) (rate(a[5m] offset 1h))", true},
        {"topk(2, a)", true},
        {"max_over_time(rate(a[5m])[1h:1m])", true},
        {"time() - timestamp(a)", true},
        {"a * step()", true},
        {"a @ 100", false},
        {"a @ end()", false},
        {"sum(a) / sum(b @ start())", false},
        {"a offset -1m", false},
        {"sum_over_time(a[5m:1m] offset -1m)", false},
        {"sum_over_time(a[5m:1m] @ 7)", false},
        {"rate(a[5m] smoothed)", false},
        {"a anchored", false},
        {"limitk(2, a)", false},
        {"limit_ratio(0.5, a)", false},
        {"a * range()", false},
        {"a > start()", false},
        {"a < end()", false},
        {"rate(a[1m + step()])", false},
        {"info(a)", false},
        {"vector(1)", false}, /* nothing to save */
        {"time()", false},
    };
    for (size_t i = 0; i < COUNT_OF(CASES); i++) {
        struct arena arena;
        struct parse_result parsed;
        struct err err;
        arena_init(&arena, MEM_QUERY, 0);
        if (parse_expr(str_of(CASES[i].expr), &arena, &parsed, &err)) {
            /* Not every modifier goes everywhere. */
            CHECK(!CASES[i].taken);
        } else if (result_cache_takes(parsed.root) != CASES[i].taken) {
            test_fail(__FILE__, __LINE__, "%s", CASES[i].expr);
        }
        parse_release(&parsed);
        arena_release(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_the_same),
        cmocka_unit_test(test_refreshes),
        cmocka_unit_test(test_limits_are_part_of_the_key),
        cmocka_unit_test(test_bounded),
        cmocka_unit_test(test_what_is_not_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
