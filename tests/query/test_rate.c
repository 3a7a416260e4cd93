/* tests/query/test_rate.c: rate, increase, delta, irate and idelta: worked examples, then laws over random counters. */
#include <math.h>

#include "tests/query/window_fixture.h"

#define MIN INT64_C(60000)

static void test_extrapolation(void **state)
{
    (void)state;
    struct window_fixture f;
    window_init(&f);
    f.w.metric = STR("x_total");
    for (int64_t k = 0; k <= 20; k++) window_push(&f, k * 30000, 10 * (double)k);
    CHECK_SAME_DOUBLE(window_float(&f, FN_INCREASE, 10 * MIN, 5 * MIN), 100);
    CHECK_SAME_DOUBLE(window_float(&f, FN_RATE, 10 * MIN, 5 * MIN), 0.33333333333333337);
    CHECK_SAME_DOUBLE(window_float(&f, FN_DELTA, 10 * MIN, 5 * MIN), 100);
    for (size_t i = 0; i < f.n; i++) f.v[i] = (double)(i * 10 % 80); /* a saw-tooth */
    CHECK_SAME_DOUBLE(window_float(&f, FN_INCREASE, 10 * MIN, 5 * MIN), 88.88888888888889);
    CHECK(window_call(&f, FN_RATE, MIN, 30000).kind == POINT_NONE); /* one sample */
    CHECK(window_call(&f, FN_RATE, 30 * MIN, MIN).kind == POINT_NONE);
    /* No counter was below 0: extrapolation ends where it would have been 0. */
    window_values(&f, 5 * MIN, "1 11 21 31 41 51 61 71 81 91 101");
    CHECK_NEAR(window_float(&f, FN_INCREASE, 50 * MIN, 100 * MIN), 101);
    window_values(&f, 5 * MIN, "10 20 30 40 50 60 70 80 90 100 110");
    CHECK_NEAR(window_float(&f, FN_INCREASE, 50 * MIN, 100 * MIN), 105);
    CHECK_NEAR(window_float(&f, FN_DELTA, 50 * MIN, 100 * MIN), 105);
    window_values(&f, 5 * MIN, "0 18 36 54 72 90 0 18 36 54 72");
    CHECK_NEAR(window_float(&f, FN_INCREASE, 50 * MIN, 100 * MIN), 162);
    window_values(&f, 5 * MIN, "1 NaN 3"); /* NaN within is no reset; at an end it stays */
    CHECK_NEAR(window_float(&f, FN_INCREASE, 10 * MIN, 15 * MIN), 3);
    window_values(&f, 5 * MIN, "1 2 NaN");
    CHECK(isnan(window_float(&f, FN_INCREASE, 10 * MIN, 15 * MIN)));
    window_values(&f, 5 * MIN, "0 50 100 150 200");
    CHECK_NEAR(window_float(&f, FN_DELTA, 20 * MIN, 20 * MIN), 200);
    check_note(&f, NULL);
    window_release(&f);
}

static void test_names(void **state)
{
    (void)state;
    struct window_fixture f;
    window_init(&f);
    window_values(&f, MIN, "1 2 3");
    (void)window_float(&f, FN_RATE, 2 * MIN, 5 * MIN);
    check_note(&f, NULL); /* no name, no note */
    f.w.metric = STR("go\"od");
    CHECK(window_call(&f, FN_RATE, 0, MIN).kind == POINT_NONE);
    check_note(&f, NULL);
    (void)window_float(&f, FN_DELTA, 2 * MIN, 5 * MIN);
    check_note(&f, NULL);
    unsigned noted = 0;
    f.w.noted = &noted;
    (void)window_float(&f, FN_INCREASE, 2 * MIN, 5 * MIN);
    check_note(&f, "metric might not be a counter, name does not end in "
                   "_total/_sum/_count/_bucket: \"go\\\"od\"");
    (void)window_float(&f, FN_INCREASE, 2 * MIN, 5 * MIN);
    check_note(&f, NULL); /* once a series */
    static const char *const names[] = {"a_total", "a_sum", "a_count", "a_bucket"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        f.w.metric = str_of(names[i]);
        noted = 0;
        (void)window_float(&f, FN_RATE, 2 * MIN, 5 * MIN);
        check_note(&f, NULL);
    }
    window_release(&f);
}

static void test_instant(void **state)
{
    (void)state;
    struct window_fixture f;
    window_init(&f);
    window_values(&f, MIN, "0 10 4");
    CHECK_NEAR(window_float(&f, FN_IRATE, MIN, 5 * MIN), 10.0 / 60);
    CHECK_NEAR(window_float(&f, FN_IRATE, 2 * MIN, 5 * MIN), 4.0 / 60);
    CHECK_NEAR(window_float(&f, FN_IDELTA, 2 * MIN, 5 * MIN), -6);
    CHECK(window_call(&f, FN_IRATE, 2 * MIN, MIN).kind == POINT_NONE);
    window_push_histogram(&f, 3 * MIN, "count:4 sum:8 buckets:[4]");
    CHECK(window_call(&f, FN_IRATE, 3 * MIN, 5 * MIN).kind == POINT_NONE);
    check_note(&f, "encountered a mix of histograms and floats");
    window_push_histogram(&f, 4 * MIN, "count:10 sum:14 buckets:[4 6]");
    CHECK_POINT(window_call(&f, FN_IRATE, 4 * MIN, 5 * MIN), "{count:0.1, sum:0.1, (1,2]:0.1}");
    check_note(&f, NULL);
    CHECK_POINT(window_call(&f, FN_IDELTA, 4 * MIN, 5 * MIN), "{count:6, sum:6, (1,2]:6}");
    check_note(&f, "this native histogram metric is not a gauge: \"\"");
    window_push_histogram(&f, 5 * MIN,
                          "schema:-53 count:6 sum:3 custom_values:[5] buckets:[6] hint:gauge");
    CHECK_POINT(window_call(&f, FN_IRATE, 5 * MIN, 5 * MIN),
                "{count:0.1, sum:0.05, [-Inf,5]:0.1}"); /* a reset */
    check_note(&f, "this native histogram metric is not a counter: \"\"");
    f.h[f.n - 2]->reset_hint = HISTOGRAM_RESET_GAUGE;
    CHECK(window_call(&f, FN_IDELTA, 5 * MIN, 5 * MIN).kind == POINT_NONE);
    check_note(&f,
               "vector contains a mix of histograms with exponential and custom buckets schemas");
    window_release(&f);
}

static void push_many(struct window_fixture *f, int64_t from_ms, int64_t step_ms,
                      const char *const *texts, size_t n)
{
    for (size_t i = 0; i < n; i++)
        window_push_histogram(f, from_ms + (int64_t)i * step_ms, texts[i]);
}
#define PUSH(f, from, step, ...)                                                                   \
    push_many(f, from, step, (const char *const[]){__VA_ARGS__},                                   \
              sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static void test_histograms(void **state)
{
    (void)state;
    struct window_fixture f;
    window_init(&f);
    f.w.metric = STR("h");
    PUSH(&f, 15000, 15000, "count:60 sum:5 buckets:[60]", "count:70 sum:10 buckets:[70]",
         "count:10 sum:15 buckets:[10]", "count:20 sum:20 buckets:[20]",
         "count:30 sum:25 buckets:[30]");
    /* 30 - 60 + 70, times 67.5 / 60 */
    CHECK_POINT(window_call(&f, FN_INCREASE, 75000, 2 * MIN), "{count:45, sum:33.75, (0.5,1]:45}");
    CHECK_POINT(window_call(&f, FN_RATE, 75000, 2 * MIN),
                "{count:0.375, sum:0.28125, (0.5,1]:0.375}");
    check_note(&f, NULL);
    CHECK_POINT(window_call(&f, FN_DELTA, 75000, 2 * MIN),
                "{count:-33.75, sum:22.5, (0.5,1]:-33.75}");
    check_note(&f, "this native histogram metric is not a gauge: \"h\"");
    f.h[2]->reset_hint = HISTOGRAM_RESET_GAUGE;
    (void)window_call(&f, FN_INCREASE, 75000, 2 * MIN);
    check_note(&f, "this native histogram metric is not a counter: \"h\"");
    window_release(&f);

    /* The count is not extrapolated below 0. */
    window_init(&f);
    PUSH(&f, 0, 20000, "count:0", "count:3 sum:3 buckets:[3]");
    CHECK_POINT(window_call(&f, FN_INCREASE, 20000, MIN), "{count:3, sum:3, (0.5,1]:3}");
    window_release(&f);

    /* A reset that shows in one bucket alone. */
    window_init(&f);
    PUSH(&f, 0, 5 * MIN, "count:4 sum:5 buckets:[1 2 1]", "count:5 sum:6 buckets:[1 1 3]",
         "count:6 sum:7 buckets:[1 2 3]");
    CHECK_POINT(window_call(&f, FN_INCREASE, 10 * MIN, 15 * MIN),
                "{count:9, sum:10.5, (0.5,1]:1.5, (1,2]:3, (2,4]:4.5}");
    window_release(&f);
}

static void test_histogram_layouts(void **state)
{
    (void)state;
    struct window_fixture f;
    window_init(&f);
    f.w.metric = STR("h");
    /* The coarsest schema of all samples, also of one in the middle. */
    PUSH(&f, MIN, MIN, "schema:2 count:2 buckets:[1 1]", "schema:0 count:4 buckets:[1 3]",
         "schema:1 count:8 buckets:[2 1 3 2]");
    struct point p = window_call(&f, FN_INCREASE, 3 * MIN, 3 * MIN);
    CHECK(p.kind == POINT_HISTOGRAM && p.h->schema == 0 &&
          p.h->reset_hint == HISTOGRAM_RESET_GAUGE);
    p = window_call(&f, FN_DELTA, 3 * MIN, 3 * MIN);
    CHECK(p.kind == POINT_HISTOGRAM && p.h->schema == 1);
    notes_init(&f.notes, &f.arena);
    f.n = 0;
    PUSH(&f, MIN, MIN, "count:1 buckets:[1]", "schema:-53 count:1 custom_values:[5 10] buckets:[1]",
         "count:4 sum:5 buckets:[1 2 1]");
    CHECK(window_call(&f, FN_RATE, 3 * MIN, 3 * MIN).kind == POINT_NONE);
    check_note(&f, "vector contains a mix of histograms with exponential and custom buckets "
                   "schemas for metric name \"h\"");
    /* A first sample that the second is a reset against counts as empty. Its count still bounds the extrapolation. */
    CHECK_POINT(window_call(&f, FN_INCREASE, 3 * MIN, 2 * MIN),
                "{count:5, sum:6.25, (0.5,1]:1.25, (1,2]:2.5, (2,4]:1.25}");
    check_note(&f, NULL);
    f.n = 0;
    PUSH(&f, 0, MIN, "schema:-53 count:15 sum:55 custom_values:[2 4 6] buckets:[1 2 5 7]",
         "schema:-53 count:450 sum:555 custom_values:[1 2 3 4 5 6 7 8] buckets:[10 20 30 40 50 60 "
         "70 80 90]");
    p = window_call(&f, FN_IRATE, MIN, 2 * MIN);
    CHECK_POINT(p, "{count:7.25, sum:8.333333333333334, [-Inf,2]:0.48333333333333334, "
                   "(2,4]:1.1333333333333333, (4,6]:1.75, "
                   "(6,+Inf]:3.8833333333333333}");
    check_note(&f, "mismatched custom buckets were reconciled during subtraction");
    window_push(&f, 2 * MIN, 7);
    f.h[f.n - 1] = NULL;
    CHECK(window_call(&f, FN_INCREASE, 2 * MIN, 3 * MIN).kind == POINT_NONE);
    check_note(&f, "encountered a mix of histograms and floats for metric name \"h\"");
    window_release(&f);
}

/* ---- start times ---- */

static double increase_with(const char *values, const int64_t *starts, int64_t end_ms,
                            int64_t range_ms)
{
    struct window_fixture f;
    window_init(&f);
    window_values(&f, MIN, values);
    for (size_t i = 0; i < f.n; i++) f.st_ms[i] = starts[i];
    f.any_st = true;
    struct point p = window_call(&f, FN_INCREASE, end_ms, range_ms);
    window_release(&f);
    return p.kind == POINT_FLOAT ? p.v : -1;
}
#define ALL(x) ((const int64_t[]){x, x, x, x, x})

static void test_start_times(void **state)
{
    (void)state;
    const char *five = "_ _ 1 2 3 4 5", *four = "_ _ 1 2 3 4", *two = "_ _ _ 2 3",
               *one = "_ _ _ _ 3";
    CHECK_NEAR(increase_with(five, ALL(0), 6 * MIN, 5 * MIN), 5);
    CHECK_NEAR(increase_with(five, ALL(MIN), 6 * MIN, 5 * MIN), 5); /* on the border is outside */
    CHECK_NEAR(increase_with(five, ALL(MIN + 30000), 6 * MIN, 5 * MIN),
               5); /* 0 at the start time */
    CHECK_NEAR(increase_with(five, ALL(2 * MIN), 6 * MIN, 5 * MIN),
               5); /* not before its sample: unknown */
    CHECK_NEAR(increase_with(five, ALL(2 * MIN + 1), 6 * MIN, 5 * MIN),
               6); /* a reset at the second */
    CHECK_NEAR(increase_with(four, ALL(MIN + 30000), 6 * MIN, 5 * MIN), 5.142857142857143);
    CHECK_NEAR(increase_with(two, ALL(MIN), 6 * MIN, 5 * MIN), 2);
    CHECK_NEAR(increase_with(two, ALL(MIN + 30000), 6 * MIN, 5 * MIN), 3.6);
    CHECK_NEAR(increase_with(one, ALL(MIN + 30000), 6 * MIN, 5 * MIN),
               3); /* one sample is enough */
    CHECK_NEAR(increase_with(one, ALL(MIN), 6 * MIN, 5 * MIN), -1);
    CHECK_NEAR(increase_with(one, ALL(4 * MIN), 6 * MIN, 5 * MIN), -1);
    const int64_t resets[] = {MIN, 3 * MIN - 1000, 0};
    CHECK_NEAR(increase_with("_ _ 5 5 2", resets, 5 * MIN, 5 * MIN), 16);
    /* A counter that begins anew every three samples, more and more hidden, but never falls. */
    int64_t starts[16];
    static const int64_t begins[] = {90000, 240000, 420001, 659000, 839999};
    static const double gains[] = {420, 780, 675, 675, 1275, 1080, 900, 1725, 1440};
    for (int64_t i = 0; i < 15; i++) starts[i] = begins[i / 3];
    for (int64_t i = 0; i < 9; i++)
        CHECK_NEAR(increase_with("_ _ 0 60 120 180 240 300 360 420 480 540 600 660 720 780 840",
                                 starts, (7 + i) * MIN, 5 * MIN),
                   gains[i]);
    /* Streams of deltas, three ways to say so; and one that says nothing. */
    const char *deltas = "_ _ 60 60 60 60 60 60 60 60 60 60 60";
    static const int64_t before[] = {60000, 59999, 1, 0};
    static const double expected[] = {300, 300, 300, 0};
    for (size_t k = 0; k < COUNT_OF(before); k++) {
        for (int64_t i = 0; i < 11; i++) starts[i] = (i + 2) * MIN - before[k];
        CHECK_NEAR(increase_with(deltas, starts, 10 * MIN, 5 * MIN), expected[k]);
    }
    /* A cumulative counter whose unknown start was set to its first sample is no stream of deltas. */
    const int64_t unknown[] = {2 * MIN, 2 * MIN}, none[] = {0, 2 * MIN}, delta[] = {MIN, 2 * MIN},
                  wrong[] = {3 * MIN, 2 * MIN};
    CHECK_NEAR(increase_with("_ _ 1 1", unknown, 3 * MIN, 3 * MIN), 0);
    CHECK_NEAR(increase_with("_ _ 1 1", none, 3 * MIN, 3 * MIN), 0);
    CHECK_NEAR(increase_with("_ _ 1 1", wrong, 3 * MIN, 3 * MIN), 0);
    CHECK_NEAR(increase_with("_ _ 1 1", delta, 3 * MIN, 3 * MIN), 2);
}

static void test_start_times_elsewhere(void **state)
{
    (void)state;
    struct window_fixture f;
    window_init(&f);
    window_values(&f, MIN, "0 60 60 60");
    for (size_t i = 1; i < 4; i++) f.st_ms[i] = f.t_ms[i - 1];
    f.any_st = true;
    CHECK_NEAR(window_float(&f, FN_IRATE, 3 * MIN, 5 * MIN), 1);
    CHECK_NEAR(window_float(&f, FN_IDELTA, 3 * MIN, 5 * MIN), 0);
    CHECK_NEAR(window_float(&f, FN_RESETS, 3 * MIN, 3 * MIN),
               1); /* the first one's start, 0, is unknown */
    CHECK_NEAR(window_float(&f, FN_CHANGES, 3 * MIN, 3 * MIN), 0);
    CHECK_NEAR(window_float(&f, FN_DELTA, 3 * MIN, 3 * MIN), 0);
    check_note(&f, NULL);
    for (size_t i = 1; i < 4; i++)
        f.st_ms[i] = f.t_ms[i] - 2 * MIN; /* begins before the sample before */
    f.w.metric = STR("a_total");
    (void)window_float(&f, FN_RATE, 4 * MIN, 3 * MIN + 1);
    check_note(&f, "sample has start time that overlaps with previous sample timestamp for metric "
                   "\"a_total\"");
    window_release(&f);

    window_init(&f); /* histograms alike */
    PUSH(&f, 2 * MIN, MIN, "count:60 sum:60", "count:60 sum:60");
    f.st_ms[0] = MIN, f.st_ms[1] = 2 * MIN;
    f.any_st = true;
    CHECK_POINT(window_call(&f, FN_INCREASE, 3 * MIN, 3 * MIN), "{count:120, sum:120}");
    f.n = 1;
    CHECK_POINT(window_call(&f, FN_RATE, 3 * MIN, 5 * MIN), "{count:0.2, sum:0.2}");
    f.st_ms[0] = 0;
    CHECK(window_call(&f, FN_RATE, 3 * MIN, 5 * MIN).kind == POINT_NONE);
    window_release(&f);
}

/* ---- anchored and smoothed ---- */

static void test_anchored(void **state)
{
    (void)state;
    struct window_fixture f;
    window_init(&f);
    f.w.mode = SELECT_ANCHORED;
    window_values(&f, 60000, "0 5 10 15");
    CHECK_NEAR(window_float(&f, FN_INCREASE, 190000, 120000), 10);
    CHECK_NEAR(window_float(&f, FN_RATE, 190000, 120000), 10.0 / 120);
    CHECK_NEAR(window_float(&f, FN_INCREASE, 0, 60000), 0); /* no anchor, one sample */
    CHECK(window_call(&f, FN_INCREASE, 300000, 60000).kind == POINT_NONE); /* none in the window */
    window_values(&f, 15000, "1 2 3 4 5 9 10 11 12 13");
    static const int64_t ends[][2] = {{20000, 1}, {35000, 2},  {50000, 3},
                                      {80000, 7}, {110000, 7}, {125000, 7}};
    for (size_t i = 0; i < COUNT_OF(ends); i++)
        CHECK_NEAR(window_float(&f, FN_INCREASE, ends[i][0], 60000), (double)ends[i][1]);
    window_values(&f, MIN, "5 8 11 3 6");
    CHECK_NEAR(window_float(&f, FN_DELTA, 3 * MIN, MIN), -8);
    CHECK_NEAR(window_float(&f, FN_INCREASE, 3 * MIN, MIN), 3);
    CHECK_NEAR(window_float(&f, FN_RESETS, 3 * MIN, MIN), 1);
    CHECK_NEAR(window_float(&f, FN_CHANGES, 3 * MIN, MIN), 1);
    CHECK_NEAR(window_float(&f, FN_CHANGES, 4 * MIN, 5 * MIN), 4); /* no anchor */
    window_release(&f);

    window_init(&f);
    f.w.mode = SELECT_ANCHORED;
    window_push_histogram(&f, 0, "count:1 sum:1 buckets:[1]");
    window_push_histogram(&f, 30000, "count:4 sum:4 buckets:[4]");
    window_push_histogram(&f, 60000, "count:1 sum:1 buckets:[1] hint:reset");
    window_push_histogram(&f, 90000, "count:3 sum:3 buckets:[3]");
    CHECK_POINT(window_call(&f, FN_INCREASE, 90000, 90000), "{count:6, sum:6, (0.5,1]:6}");
    CHECK_POINT(window_call(&f, FN_INCREASE, 60000, 30000), "{count:1, sum:1, (0.5,1]:1}");
    CHECK_POINT(window_call(&f, FN_INCREASE, 0, 30000), "{count:0, sum:0}");
    CHECK_POINT(window_call(&f, FN_RATE, 60000, 30000),
                "{count:0.03333333333333333, sum:0.03333333333333333, "
                "(0.5,1]:0.03333333333333333}");
    window_release(&f);
}

static void test_smoothed(void **state)
{
    (void)state;
    struct window_fixture f;
    window_init(&f);
    f.w.mode = SELECT_SMOOTHED;
    window_values(&f, 60000, "0 5 10 15");
    CHECK_NEAR(window_float(&f, FN_INCREASE, 150000, 60000), 5);
    window_values(&f, 15000, "1 2 3 4 5 9 10 11 12 13");
    CHECK_NEAR(window_float(&f, FN_INCREASE, 5000, 60000), 1.0 / 3);
    CHECK_NEAR(window_float(&f, FN_INCREASE, 50000, 60000), 10.0 / 3);
    CHECK_NEAR(window_float(&f, FN_INCREASE, 65000, 60000), 5);
    CHECK(window_call(&f, FN_INCREASE, 60000 * 60, 5000).kind == POINT_NONE); /* only before */
    window_values(&f, 10000, "_ 5 6 7 8 9");
    CHECK(window_call(&f, FN_RATE, 5000, 5000).kind == POINT_NONE); /* only after */
    CHECK_NEAR(window_float(&f, FN_INCREASE, 15000, 10000), 0.5);
    window_values(&f, 15000, "100 10"); /* across a reset: from 0 */
    CHECK_NEAR(window_float(&f, FN_RATE, 12000, 10000), 2.0 / 3);
    window_values(&f, MIN, "11 -1 100 0");
    CHECK_NEAR(window_float(&f, FN_DELTA, 5 * MIN + 45000, 5 * MIN), -2);
    window_values(&f, MIN, "1 2 _ 4 5"); /* the window is open at its start */
    CHECK_NEAR(window_float(&f, FN_INCREASE, 2 * MIN, MIN), 1);
    window_values(&f, 10000, "10 5 2 4"); /* falls at and after the left border */
    CHECK_NEAR(window_float(&f, FN_INCREASE, 15000, 14000), 5.5);
    window_release(&f);

    window_init(&f);
    f.w.mode = SELECT_SMOOTHED;
    static const double counts[] = {10, 5, 2, 4};
    for (int64_t i = 0; i < 4; i++) {
        window_push_histogram(&f, i * 10000, "buckets:[0]");
        f.h[i]->count = f.h[i]->sum = f.h[i]->pos[0] = counts[i];
    }
    CHECK_POINT(window_call(&f, FN_INCREASE, 15000, 14000), "{count:5.5, sum:5.5, (0.5,1]:5.5}");
    f.n = 2; /* both borders between the same two samples, over a reset: counted once */
    CHECK_POINT(window_call(&f, FN_INCREASE, 7500, 5000), "{count:2.5, sum:2.5, (0.5,1]:2.5}");
    f.h[1]->reset_hint = HISTOGRAM_RESET_GAUGE;
    (void)window_call(&f, FN_INCREASE, 7500, 5000);
    check_note(&f, "this native histogram metric is not a counter: \"\"");
    f.h[1] = H(&f.arena, "schema:-53 count:20");
    CHECK(window_call(&f, FN_DELTA, 7500, 5000).kind == POINT_NONE);
    window_release(&f);
}

/* Float and histogram answers agree: a histogram whose numbers are the float's. */
static void test_floats_as_histograms(void **state)
{
    (void)state;
    struct rng rng;
    static const enum function_id ids[] = {FN_RATE,   FN_INCREASE, FN_DELTA,  FN_IRATE,
                                           FN_IDELTA, FN_RESETS,   FN_CHANGES};
    PROPERTY_LOOP(&rng, 1500)
    {
        struct window_fixture a, b;
        window_init(&a);
        window_init(&b);
        size_t n = 1 + rng_below(&rng, 12);
        int64_t t = (int64_t)rng_below(&rng, 30000);
        double v = (double)rng_below(&rng, 100);
        for (size_t i = 0; i < n; i++) {
            v = rng_chance(&rng, 0.2) ? (double)rng_below(&rng, 20)
                                      : v + (double)rng_below(&rng, 50);
            window_push(&a, t, v);
            window_push_histogram(&b, t, "buckets:[0]");
            b.h[i]->count = b.h[i]->sum = b.v[i] = b.h[i]->pos[0] = v;
            if (rng_chance(&rng, 0.2))
                a.st_ms[i] = b.st_ms[i] = t - 1 - (int64_t)rng_below(&rng, 60000);
            t += 1 + (int64_t)rng_below(&rng, 60000);
        }
        a.any_st = b.any_st = rng_chance(&rng, 0.5);
        size_t kind = rng_below(&rng, COUNT_OF(ids));
        if (kind < 3 && !a.any_st) a.w.mode = b.w.mode = (enum selector_mode)rng_below(&rng, 3);
        int64_t end = (int64_t)rng_below(&rng, 800000),
                range = 1 + (int64_t)rng_below(&rng, 600000);
        struct point x = window_call(&a, ids[kind], end, range),
                     y = window_call(&b, ids[kind], end, range);
        CHECK((x.kind == POINT_NONE) == (y.kind == POINT_NONE));
        if (x.kind == POINT_FLOAT) {
            double got = y.kind == POINT_HISTOGRAM ? y.h->count : y.v;
            CHECK(fabs(got - x.v) <= fabs(x.v) * 1e-12 + 1e-9);
        }
        window_release(&a);
        window_release(&b);
    }
}

/* Shifting a whole counter changes no delta; doubling it doubles all; anchored windows that meet add up. */
static void test_laws(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 2000)
    {
        struct window_fixture f;
        window_init(&f);
        size_t n = 2 + rng_below(&rng, 60);
        double v = 0;
        for (size_t i = 0; i < n; i++) {
            v = rng_chance(&rng, 0.05) ? 0 : v + (double)rng_below(&rng, 100);
            window_push(&f, (int64_t)i * 15000 + (int64_t)rng_below(&rng, 2000), v);
        }
        int64_t end = f.t_ms[n - 1] + (int64_t)rng_below(&rng, 20000);
        struct point rate = window_call(&f, FN_RATE, end, 600000),
                     increase = window_call(&f, FN_INCREASE, end, 600000),
                     delta = window_call(&f, FN_DELTA, end, 600000);
        CHECK(rate.kind == POINT_FLOAT && rate.v >= 0);
        CHECK(fabs(rate.v * 600 - increase.v) <= increase.v * 1e-14);
        f.w.mode = SELECT_ANCHORED;
        int64_t middle = (int64_t)rng_below(&rng, (uint64_t)f.t_ms[n - 1]);
        struct point all = window_call(&f, FN_INCREASE, end, end + 1),
                     left = window_call(&f, FN_INCREASE, middle, middle + 1),
                     right = window_call(&f, FN_INCREASE, end, end - middle);
        if (left.kind == POINT_FLOAT) CHECK(all.v == left.v + right.v);
        f.w.mode = SELECT_PLAIN;
        for (size_t i = 0; i < n; i++) f.v[i] *= 2;
        CHECK(window_float(&f, FN_INCREASE, end, 600000) == 2 * increase.v);
        for (size_t i = 0; i < n; i++) f.v[i] = f.v[i] / 2 + 1024;
        CHECK(fabs(window_float(&f, FN_DELTA, end, 600000) - delta.v) <= fabs(delta.v) * 1e-12);
        window_release(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_extrapolation),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_instant),
        cmocka_unit_test(test_histograms),
        cmocka_unit_test(test_histogram_layouts),
        cmocka_unit_test(test_start_times),
        cmocka_unit_test(test_start_times_elsewhere),
        cmocka_unit_test(test_anchored),
        cmocka_unit_test(test_smoothed),
        cmocka_unit_test(test_floats_as_histograms),
        cmocka_unit_test(test_laws),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
