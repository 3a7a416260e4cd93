/* Metrics: the text format, to the byte. */
#include "tests/quipu_test.h"

#include <math.h>
#include <pthread.h>

#include "base/lock.h"
#include "base/metric.h"

static void check_render(struct metrics *m, const char *want)
{
    struct buf out;
    struct err err;
    buf_init(&out, MEM_BASE);
    metrics_render(m, &out);
    CHECK_OK(buf_finish(&out, &err), &err);
    CHECK_STR(str_from_bytes(buf_bytes(&out)), want);
    buf_release(&out);
}

static double four(void *ctx)
{
    return *(double *)ctx;
}

static void text_format(void **state)
{
    (void)state;
    struct metrics *m = metrics_new();
    check_render(m, "");
    struct metric *b = metric_counter(m, "q_b_total", "Back\\slash\nand line.", "");
    struct metric *a2 = metric_gauge(m, "q_a", "Gauge.", "t=\"y\"");
    struct metric *a1 = metric_gauge(m, "q_a", "Gauge.", "t=\"x\"");
    double value = 4;
    metric_callback(m, "q_c", "Asked.", "gauge", "", four, &value);
    metric_add(b, UINT64_C(9007199254740993)); /* more than a double holds */
    metric_set(a1, 0.1);
    metric_set(a2, -INFINITY);
    check_render(m, "# HELP q_a Gauge.\n# TYPE q_a gauge\n"
                    "q_a{t=\"x\"} 0.1\nq_a{t=\"y\"} -Inf\n"
                    "# HELP q_b_total Back\\\\slash\\nand line.\n# TYPE q_b_total counter\n"
                    "q_b_total 9007199254740993\n"
                    "# HELP q_c Asked.\n# TYPE q_c gauge\nq_c 4\n");
    CHECK(metric_counter(m, "q_b_total", "", "") == b);
    double other = 1.0 / 3;
    metric_callback(m, "q_c", "Asked.", "gauge", "", four, &other); /* replaces */
    metric_set(a1, NAN);
    metric_set(a2, 1e300);
    metric_inc(b);
    CHECK_U64(metric_value(b), UINT64_C(9007199254740994));
    check_render(m, "# HELP q_a Gauge.\n# TYPE q_a gauge\n"
                    "q_a{t=\"x\"} NaN\nq_a{t=\"y\"} 1e+300\n"
                    "# HELP q_b_total Back\\\\slash\\nand line.\n# TYPE q_b_total counter\n"
                    "q_b_total 9007199254740994\n"
                    "# HELP q_c Asked.\n# TYPE q_c gauge\nq_c 0.3333333333333333\n");
    metrics_free(m);
}

static void histograms(void **state)
{
    (void)state;
    struct metrics *m = metrics_new();
    const double bounds[] = {0.1, 1, 10};
    struct metric_histogram *h = metric_histogram(m, "q_h", "H.", "a=\"b\"", bounds, 3);
    metric_observe(h, 0.1); /* le: the bound belongs to its bucket */
    metric_observe(h, 0.5);
    metric_observe(h, 0.5);
    metric_observe(h, 100);
    check_render(m, "# HELP q_h H.\n# TYPE q_h histogram\n"
                    "q_h_bucket{a=\"b\",le=\"0.1\"} 1\nq_h_bucket{a=\"b\",le=\"1\"} 3\n"
                    "q_h_bucket{a=\"b\",le=\"10\"} 3\nq_h_bucket{a=\"b\",le=\"+Inf\"} 4\n"
                    "q_h_sum{a=\"b\"} 101.1\nq_h_count{a=\"b\"} 4\n");
    CHECK(metric_histogram(m, "q_h", "H.", "a=\"b\"", bounds, 3) == h);
    metrics_free(m);

    m = metrics_new();
    h = metric_histogram(m, "q_seconds", "S.", "", METRIC_SECONDS, METRIC_SECONDS_N);
    metric_observe(h, NAN);
    struct buf out;
    buf_init(&out, MEM_BASE);
    metrics_render(m, &out);
    buf_u8(&out, 0);
    CHECK(strstr((char *)out.p, "q_seconds_bucket{le=\"0.0001\"} 0\n") != NULL);
    CHECK(strstr((char *)out.p, "q_seconds_bucket{le=\"30\"} 0\n") != NULL);
    CHECK(strstr((char *)out.p, "q_seconds_bucket{le=\"+Inf\"} 1\n") != NULL);
    CHECK(strstr((char *)out.p, "q_seconds_sum NaN\n") != NULL);
    buf_release(&out);
    metrics_free(m);
}

static void labels_are_escaped(void **state)
{
    (void)state;
    char buf[64];
    CHECK_STR(str_of(metric_label(buf, sizeof(buf), "t", STR("a\"b\\c\nd"))),
              "t=\"a\\\"b\\\\c\\nd\"");
    CHECK_STR(str_of(metric_label(buf, sizeof(buf), "t", STR("\xFF"))), "t=\"\xEF\xBF\xBD\"");
    CHECK_STR(str_of(metric_label(buf, 8, "t", STR("abcdefgh"))), "t=\"abc\"");
    CHECK_STR(str_of(metric_label(buf, 8, "t", STR("ab\""))), "t=\"ab\"");
    CHECK_STR(str_of(metric_label(buf, 8, "t", STR("a\xE2\x82\xAC"))), "t=\"a\"");
}

static void dropped_members_keep_their_handles(void **state)
{
    (void)state;
    struct metrics *m = metrics_new();
    struct metric *x = metric_counter(m, "q_total", "C.", "a=\"1\",tenant=\"x\"");
    metric_counter(m, "q_total", "C.", "a=\"1\",tenant=\"xx\"");
    metric_counter(m, "q_total", "C.", "ttenant=\"x\"");
    metric_gauge(m, "q_gauge", "G.", "tenant=\"x\",z=\"1\"");
    metrics_drop(m, "tenant=\"x\"");
    metric_inc(x);
    check_render(m, "# HELP q_total C.\n# TYPE q_total counter\n"
                    "q_total{a=\"1\",tenant=\"xx\"} 0\nq_total{ttenant=\"x\"} 0\n");
    struct metric *again = metric_counter(m, "q_total", "C.", "a=\"1\",tenant=\"x\"");
    CHECK(again != x);
    CHECK_U64(metric_value(again), 0);
    metrics_free(m);
    metrics_free(NULL);
}

struct countdown {
    size_t left;
};
static bool fail_after(void *ctx, size_t size)
{
    struct countdown *c = ctx;
    (void)size;
    if (c->left == 0) return true;
    c->left--;
    return false;
}

static void every_allocation_fails_in_turn(void **state)
{
    (void)state;
    size_t before = mem_bytes_total();
    for (size_t k = 0; k < 30; k++) {
        struct metrics *m = metrics_new();
        struct countdown c = {k};
        double value = 1;
        mem_set_fail_hook(fail_after, &c);
        metric_inc(metric_counter(m, "q_total", "C.", "a=\"1\""));
        metric_set(metric_gauge(m, "q_gauge", "G.", ""), 2);
        metric_observe(metric_histogram(m, "q_hist", "H.", "", METRIC_SECONDS, METRIC_SECONDS_N),
                       0.1);
        metric_callback(m, "q_call", "C.", "counter", "", four, &value);
        mem_set_fail_hook(NULL, NULL);
        /* And whatever is there renders. */
        struct buf out;
        struct err err;
        buf_init(&out, MEM_BASE);
        metrics_render(m, &out);
        CHECK_OK(buf_finish(&out, &err), &err);
        buf_release(&out);
        mem_set_fail_hook(fail_after, &(struct countdown){0});
        metrics_render(m, &out);
        mem_set_fail_hook(NULL, NULL);
        CHECK_ERR(buf_finish(&out, &err), ERR_NO_MEMORY);
        buf_release(&out);
        metrics_free(m);
        CHECK_U64(mem_bytes_total(), before);
    }
}

struct lock_user {
    struct lock lock;
};
static double under_lock(void *ctx)
{
    struct lock_user *user = ctx;
    lock_take(&user->lock); /* a lower rank than LOCK_METRICS: a rendering must hold nothing here */
    lock_release(&user->lock);
    return 7;
}

static void callbacks_may_take_any_lock(void **state)
{
    (void)state;
    struct metrics *m = metrics_new();
    struct lock_user user;
    lock_init(&user.lock, LOCK_SERVER);
    metric_callback(m, "q_x", "X.", "gauge", "", under_lock, &user);
    check_render(m, "# HELP q_x X.\n# TYPE q_x gauge\nq_x 7\n");
    metrics_free(m);
    lock_destroy(&user.lock);
}

enum { N_THREADS = 4, N_ROUNDS = 2000 };

static void *hammer(void *arg)
{
    struct metrics *m = arg;
    const double bounds[] = {1, 2};
    for (int i = 0; i < N_ROUNDS; i++) {
        char labels[32];
        snprintf(labels, sizeof(labels), "i=\"%d\"", i % 50);
        metric_inc(metric_counter(m, "q_total", "C.", labels));
        metric_observe(metric_histogram(m, "q_hist", "H.", "", bounds, 2), 1);
        if (i % 500 == 0) {
            struct buf out;
            buf_init(&out, MEM_BASE);
            metrics_render(m, &out);
            buf_release(&out);
        }
    }
    return NULL;
}

static void threads_lose_no_update(void **state)
{
    (void)state;
    struct metrics *m = metrics_new();
    pthread_t threads[N_THREADS];
    for (int i = 0; i < N_THREADS; i++) CHECK(pthread_create(&threads[i], NULL, hammer, m) == 0);
    for (int i = 0; i < N_THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    uint64_t total = 0;
    for (int i = 0; i < 50; i++) {
        char labels[32];
        snprintf(labels, sizeof(labels), "i=\"%d\"", i);
        total += metric_value(metric_counter(m, "q_total", "C.", labels));
    }
    CHECK_U64(total, N_THREADS * N_ROUNDS);
    const double bounds[] = {1, 2};
    struct metric_histogram *h = metric_histogram(m, "q_hist", "H.", "", bounds, 2);
    CHECK_U64(h->counts[0], N_THREADS * N_ROUNDS);
    CHECK_SAME_DOUBLE(double_from_bits(h->sum_bits), N_THREADS * N_ROUNDS);
    metrics_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_format),
        cmocka_unit_test(histograms),
        cmocka_unit_test(labels_are_escaped),
        cmocka_unit_test(dropped_members_keep_their_handles),
        cmocka_unit_test(every_allocation_fails_in_turn),
        cmocka_unit_test(callbacks_may_take_any_lock),
        cmocka_unit_test(threads_lose_no_update),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
