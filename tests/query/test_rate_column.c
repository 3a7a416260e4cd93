/* rate_column() against range_function() at each step, bit by bit. */
#include <math.h>

#include "query/column_kernel.h"
#include "query/kernel.h"
#include "query/rate_column.h"
#include "tests/quipu_test.h"

enum { SAMPLES_MAX = 400 };

static double next_value(struct rng *rng, unsigned kind, double v)
{
    if (rng_chance(rng, 0.02)) {
        static const double ODD[] = {NAN, INFINITY, -INFINITY, 0, -0.0, 5e-324, 1e-310, 1e308, -1};
        return ODD[rng_below(rng, COUNT_OF(ODD))];
    }
    switch (kind) {
    case 0: return v + (double)rng_below(rng, 100); /* a counter */
    case 1:
        return rng_chance(rng, 0.1) ? (double)rng_below(rng, 9) : v + rng_unit(rng); /* resets */
    case 2: return rng_normal(rng) * 1e3;                                            /* a gauge */
    case 3: return v * 2 + 1e-320; /* from nowhere */
    default: return v;
    }
}

/* Regular, jittery or with gaps. */
static void random_samples(struct rng *rng, struct samples *samples)
{
    struct err err;
    size_t n = rng_below(rng, SAMPLES_MAX);
    unsigned kind = (unsigned)rng_below(rng, 5), jitter = rng_chance(rng, 0.3) ? 2000 : 0;
    double v = rng_chance(rng, 0.5) ? 0 : rng_unit(rng) * 1e6,
           gaps = rng_chance(rng, 0.3) ? 0.2 : 0;
    int64_t t_ms = (int64_t)rng_below(rng, 100000) - 50000;
    for (size_t i = 0; i < n; i++) {
        t_ms += 15000;
        v = next_value(rng, kind, v);
        if (rng_chance(rng, gaps)) continue;
        int64_t at_ms = t_ms + (jitter ? (int64_t)rng_below(rng, jitter) : 0);
        CHECK_OK(samples_push(samples, at_ms, v, NULL, &err), &err);
    }
}

static void check_steps(enum function_id fn, const struct grid *grid,
                        const struct plan_window *window, const struct samples *samples,
                        const struct eval_series *got)
{
    struct err err;
    for (size_t s = 0; s < grid->n; s++) {
        struct range_window w = {.end_ms = window_end(window, grid, s),
                                 .range_ms = window->range_ms};
        w.start_ms = w.end_ms - w.range_ms;
        size_t lo = 0, hi = 0;
        while (hi < samples->n && samples->t_ms[hi] <= w.end_ms) hi++;
        while (lo < hi && samples->t_ms[lo] <= w.start_ms) lo++;
        w.t_ms = samples->t_ms + lo;
        w.v = samples->v + lo;
        w.n = hi - lo;
        struct point point = {0};
        if (w.n) CHECK_OK(range_function(fn, &w, &point, &err), &err);
        CHECK((point.kind == POINT_FLOAT) == bitmap_get(got->present, s));
        if (point.kind != POINT_FLOAT) continue;
        if (isnan(point.v))
            CHECK(isnan(got->v[s]));
        else
            CHECK_SAME_DOUBLE(got->v[s], point.v);
    }
}

static void check_column(struct rate_cache *cache, enum function_id fn, const struct grid *grid,
                         const struct plan_window *window, const struct samples *samples,
                         struct eval_series *out)
{
    struct err err;
    const struct rate_windows *windows;
    struct rate_times times = {samples->t_ms, samples->n, 0};
    CHECK_OK(rate_windows_find(cache, &times, &windows, &err), &err);
    memcpy(out->present, windows->present, bitmap_words(grid->n) * sizeof(uint64_t));
    bool falls = column_kernel()->check(samples->v, samples->n) & COLUMN_FALLS;
    rate_column(fn, window, windows, samples->v, falls, out->v);
    check_steps(fn, grid, window, samples, out);
}

static void test_same_as_step_by_step(void **state)
{
    (void)state;
    struct rng rng;
    static const enum function_id FUNCTIONS[] = {FN_RATE, FN_INCREASE, FN_DELTA};
    PROPERTY_LOOP(&rng, 3000)
    {
        struct samples samples;
        struct arena arena;
        arena_init(&arena, MEM_QUERY, 0);
        samples_init(&samples, MEM_QUERY, NULL);
        random_samples(&rng, &samples);
        struct grid grid = {(int64_t)rng_below(&rng, 600000) - 100000,
                            1 + (int64_t)rng_below(&rng, 60000), 1 + rng_below(&rng, 200)};
        if (rng_chance(&rng, 0.5)) grid.step_ms = 15000;
        struct plan_window window = {.offset_ms = (int64_t)rng_below(&rng, 3) * 5000,
                                     .range_ms = 1 + (int64_t)rng_below(&rng, 600000)};
        window.pinned = rng_chance(&rng, 0.1);
        window.pinned_ms = 300000;
        for (size_t i = 0; i < COUNT_OF(FUNCTIONS); i++) {
            struct eval_series out = {0};
            struct rate_cache *cache = rate_cache_new(FUNCTIONS[i], &grid, &window);
            CHECK(cache);
            CHECK(series_alloc(&arena, grid.n, &out));
            CHECK(rate_column_applies(FUNCTIONS[i], SELECT_PLAIN, &samples));
            check_column(cache, FUNCTIONS[i], &grid, &window, &samples, &out);
            /* Other values at the same times, then other times. */
            for (size_t k = 0; k < samples.n; k++) samples.v[k] = rng_unit(&rng) * (double)k;
            check_column(cache, FUNCTIONS[i], &grid, &window, &samples, &out);
            if (samples.n) samples.n--;
            check_column(cache, FUNCTIONS[i], &grid, &window, &samples, &out);
            rate_cache_free(cache);
        }
        samples_release(&samples);
        arena_release(&arena);
    }
}

#if defined(COLUMN_KERNEL_HAS_AVX2)
static void random_column(struct rng *rng, double *v, size_t n)
{
    unsigned kind = (unsigned)rng_below(rng, 5);
    double x = rng_unit(rng) * 1e3;
    for (size_t i = 0; i < n; i++) v[i] = x = next_value(rng, kind, x);
}

static void check_same_column(const double *a, const double *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        CHECK((isnan(a[i]) && isnan(b[i])) || double_bits(a[i]) == double_bits(b[i]));
}

static void test_kernels_agree(void **state)
{
    (void)state;
    if (column_kernel() != &COLUMN_KERNEL_AVX2) skip();
    struct rng rng;
    PROPERTY_LOOP(&rng, 5000)
    {
        const struct column_kernel *kernels[] = {&COLUMN_KERNEL_PORTABLE, &COLUMN_KERNEL_AVX2};
        double a[70], b[70], sum[3][70] = {{0}}, c[3][70] = {{0}}, out[2][70];
        size_t n = rng_below(&rng, COUNT_OF(a) + 1);
        random_column(&rng, a, n);
        random_column(&rng, b, n);
        double factor[70], sampled[70], to_start[70];
        for (size_t i = 0; i < n; i++) {
            factor[i] = rng_unit(&rng);
            sampled[i] = 1 + rng_unit(&rng) * 300;
            to_start[i] = rng_unit(&rng) * 20;
        }
        struct gain_columns in = {a, b, factor, sampled, to_start};
        bool doubts[2];
        for (size_t k = 0; k < 2; k++) {
            doubts[k] = kernels[k]->gains(&in, n, out[k]);
            kernels[k]->add(a, n, sum[k], c[k]);
            kernels[k]->add(b, n, sum[k], c[k]);
        }
        CHECK(kernels[0]->check(a, n) == kernels[1]->check(a, n));
        CHECK(doubts[0] == doubts[1]);
        for (size_t i = 0; i < n; i++) {
            kahan_add(a[i], &sum[2][i], &c[2][i]);
            kahan_add(b[i], &sum[2][i], &c[2][i]);
        }
        check_same_column(out[0], out[1], n);
        for (size_t k = 0; k < 2; k++) {
            check_same_column(sum[k], sum[2], n);
            check_same_column(c[k], c[2], n);
        }
    }
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
#if defined(COLUMN_KERNEL_HAS_AVX2)
        cmocka_unit_test(test_kernels_agree),
#endif
        cmocka_unit_test(test_same_as_step_by_step)
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
