/* The loads of `quipu bench ingest`: what they promise about series, times and values is what arrives. */
#include "base/protobuf.h"
#include "base/snappy.h"
#include "storage/histogram.h"
#include "tests/quipu_test.h"
#include "tests/sim/io_sim.h"
#include "tools/bench_recording.h"

typedef void sample_fn(void *ctx, struct str labels, int64_t t_ms, double v);

static void walk_series(struct bytes message, sample_fn *fn, void *ctx)
{
    struct pb pb = pb_init(message, "TimeSeries");
    struct pb_field field, part;
    struct err err;
    const uint8_t *labels_end = message.p;
    while (pb_next(&pb, &field)) {
        if (field.number == 1) labels_end = field.bytes.p + field.bytes.len;
        if (field.number != 2) continue;
        struct pb sample = pb_init(field.bytes, "Sample");
        uint64_t bits = 0, t = 0;
        while (pb_next(&sample, &part)) *(part.number == 1 ? &bits : &t) = part.u;
        CHECK_OK(pb_finish(&sample, &err), &err);
        struct str labels = {(const char *)message.p, (size_t)(labels_end - message.p)};
        fn(ctx, labels, (int64_t)t, double_from_bits(bits));
    }
    CHECK_OK(pb_finish(&pb, &err), &err);
}

/* Sends a round; returns the samples that it said to hold. */
static size_t walk_round(struct bench_load *load, sample_fn *fn, void *ctx, size_t *n_requests)
{
    struct err err;
    size_t n_samples = 0;
    CHECK_OK(load->ops->round(load, n_requests, &err), &err);
    for (size_t i = 0; i < *n_requests; i++) {
        struct bytes body, message;
        struct pb_field field;
        struct arena arena;
        size_t n;
        CHECK_OK(load->ops->request(load, i, &body, &n, &err), &err);
        arena_init(&arena, MEM_TOOLS, 0);
        CHECK_OK(snappy_decode(body, SIZE_MAX, &arena, &message, &err), &err);
        struct pb pb = pb_init(message, "WriteRequest");
        while (pb_next(&pb, &field)) walk_series(field.bytes, fn, ctx);
        CHECK_OK(pb_finish(&pb, &err), &err);
        arena_release(&arena);
        n_samples += n;
    }
    return n_samples;
}

static void walk_all(struct bench_load *load, sample_fn *fn, void *ctx)
{
    size_t n_requests = 1;
    uint64_t n = 0;
    while (n_requests) n += walk_round(load, fn, ctx, &n_requests);
    CHECK_U64(n, load->n_samples);
}

/* ---- history ---- */

struct history_seen {
    const struct bench_history_config *config;
    uint8_t *seen; /* by series and step */
    uint64_t n;
    int64_t last_t_ms;
    bool in_order;
};

static void on_history(void *ctx, struct str labels, int64_t t_ms, double v)
{
    struct history_seen *h = ctx;
    const struct bench_history_config *c = h->config;
    unsigned meter = 0;
    const char *at = memmem(labels.p, labels.len, "meter-", 6);
    CHECK(at && sscanf(at, "meter-%06u", &meter) == 1);
    static const char *const kinds[] = {"meter_energy", "meter_temperature", "meter_state",
                                        "meter_voltage"};
    uint64_t series = 4 * (uint64_t)meter;
    for (size_t i = 0; i < 4; i++)
        if (memmem(labels.p, labels.len, kinds[i], strlen(kinds[i]))) series += i;
    CHECK_I64((t_ms - c->first_ms) % c->interval_ms, 0);
    uint64_t step = (uint64_t)((t_ms - c->first_ms) / c->interval_ms);
    CHECK(series < c->n_series && step < c->n_steps);
    CHECK_U64(h->seen[series * c->n_steps + step]++, 0);
    CHECK_SAME_DOUBLE(v, bench_history_value(c->seed, series, step));
    if (step && t_ms < h->last_t_ms) h->in_order = false;
    h->last_t_ms = t_ms;
    h->n++;
}

static void history_sends_each_sample_once(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 40)
    {
        struct bench_history_config config = {
            .n_series = 1 + rng_below(&rng, 30),
            .n_steps = 2 + rng_below(&rng, 100),
            .n_parts = 1 + rng_below(&rng, 3),
            .samples_per_request = 1 + rng_below(&rng, 200),
            .first_ms = 1700000000000,
            .interval_ms = 60000,
            .seed = rng_u64(&rng),
            .shuffled = rng_chance(&rng, 0.5),
        };
        size_t total = (size_t)(config.n_series * config.n_steps);
        struct history_seen seen = {.config = &config, .in_order = true};
        seen.seen = calloc(total, 1);
        for (config.part = 0; config.part < config.n_parts; config.part++) {
            struct bench_load *load;
            struct err err;
            CHECK_OK(bench_history_new(&config, &load, &err), &err);
            walk_all(load, on_history, &seen);
            bench_load_free(load);
        }
        CHECK_U64(seen.n, total);
        CHECK(config.shuffled ? total < 100 || !seen.in_order : seen.in_order);
        free(seen.seen);
    }
}

static void counters_of_history_never_fall(void **state)
{
    (void)state;
    double last = -1;
    for (uint64_t step = 0; step < 5000; step++) {
        double v = bench_history_value(3, 8, step);
        CHECK(v >= last && v == (double)(int64_t)v);
        last = v;
    }
}

static void shuffle_is_a_permutation(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 30)
    {
        uint64_t n = 1 + rng_below(&rng, 3000), seed = rng_u64(&rng), fixed = 0;
        uint8_t *seen = calloc((size_t)n, 1);
        for (uint64_t i = 0; i < n; i++) {
            uint64_t k = bench_shuffle(i, n, seed);
            CHECK(k < n);
            CHECK_U64(seen[k]++, 0);
            fixed += k == i;
        }
        CHECK(n < 100 || fixed < 20);
        free(seen);
    }
}

static void impossible_history_is_refused(void **state)
{
    (void)state;
    struct bench_history_config config = {
        .n_series = 0, .n_steps = 1, .n_parts = 1, .samples_per_request = 1};
    struct bench_load *load;
    struct err err;
    CHECK_ERR(bench_history_new(&config, &load, &err), ERR_INVALID);
    config.n_series = 1;
    config.samples_per_request = UINT64_MAX;
    CHECK_ERR(bench_history_new(&config, &load, &err), ERR_INVALID);
}

/* ---- fleets whose instances are replaced ---- */

#define CHURN_SERIES 400
#define CHURN_INSTANCES 3
#define CHURN_NAMES_MAX 4096

struct churn_seen {
    size_t n, n_stale, n_names;
    struct {
        uint64_t bytes_sum; /* of the labels: enough to tell these series apart */
        bool ended;
    } names[CHURN_NAMES_MAX];
};

static void on_churn(void *ctx, struct str labels, int64_t t_ms, double v)
{
    (void)t_ms;
    struct churn_seen *c = ctx;
    uint64_t sum = 14695981039346656037u;
    for (size_t i = 0; i < labels.len; i++) sum = (sum ^ (uint8_t)labels.p[i]) * 1099511628211u;
    size_t i = 0;
    while (i < c->n_names && c->names[i].bytes_sum != sum) i++;
    CHECK(i < CHURN_NAMES_MAX);
    if (i == c->n_names) c->names[c->n_names++].bytes_sum = sum;
    CHECK(!c->names[i].ended);
    c->names[i].ended = double_bits(v) == STALE_NAN_BITS;
    c->n_stale += c->names[i].ended;
    c->n++;
}

static void replaced_instances_end_with_markers(void **state)
{
    (void)state;
    struct churn_seen *seen = calloc(1, sizeof(*seen));
    uint64_t expected = 0;
    for (size_t part = 0; part < 2; part++) { /* instance 0, and 1 with 2 */
        struct bench_fleet_config config = {
            .fleet = {.first_instance = part,
                      .n_instances = 1 + part,
                      .series_per_instance = CHURN_SERIES,
                      .samples_per_request = 300,
                      .interval_ms = 60000,
                      .seed = 5},
            .n_fleet = CHURN_INSTANCES,
            .scrapes = 7,
            .lifetime = 3,
            .first_ms = 1700000000000,
        };
        struct bench_load *load;
        struct err err;
        CHECK_OK(bench_fleet_new(&config, &load, &err), &err);
        walk_all(load, on_churn, seen);
        expected += load->n_samples;
        bench_load_free(load);
    }
    /* Lives begin at scrapes 0, 3 and 6; two of them end. */
    CHECK_U64(seen->n, expected);
    CHECK_U64(seen->n, CHURN_INSTANCES * CHURN_SERIES * (7 + 2));
    CHECK_U64(seen->n_names, CHURN_INSTANCES * CHURN_SERIES * 3);
    CHECK_U64(seen->n_stale, CHURN_INSTANCES * CHURN_SERIES * 2);
    free(seen);
}

/* ---- recordings ---- */

static void count_one(void *ctx, struct str labels, int64_t t_ms, double v)
{
    (void)labels;
    (void)v;
    struct recording_counts *counts = ctx;
    counts->first_ms = counts->n_samples ? MIN_OF(counts->first_ms, t_ms) : t_ms;
    counts->last_ms = counts->n_samples ? MAX_OF(counts->last_ms, t_ms) : t_ms;
    counts->n_samples++;
}

/* Writes a history as a recording; returns its size. */
static uint64_t make_recording(struct io *io, struct recording_counts *counts)
{
    struct bench_history_config config = {.n_series = 5,
                                          .n_steps = 20,
                                          .n_parts = 1,
                                          .samples_per_request = 7,
                                          .first_ms = 1700000000000,
                                          .interval_ms = 1000};
    struct bench_load *load;
    struct file *file;
    struct err err;
    uint64_t off = 0;
    size_t n_requests, n_samples;
    CHECK_OK(bench_history_new(&config, &load, &err), &err);
    CHECK_OK(io_open(io, "/rec", IO_WRITE | IO_CREATE | IO_EXCL, &file, &err), &err);
    for (;;) {
        struct bytes body;
        CHECK_OK(load->ops->round(load, &n_requests, &err), &err);
        if (!n_requests) break;
        CHECK_OK(load->ops->request(load, 0, &body, &n_samples, &err), &err);
        CHECK_OK(recording_append(file, &off, body, &err), &err);
        CHECK_OK(recording_count(counts, body, &err), &err);
    }
    bench_load_free(load);
    file_close(file);
    return off;
}

static void recordings_come_back(void **state)
{
    (void)state;
    struct io_sim *sim = io_sim_new(1);
    struct io *io = io_sim_io(sim);
    struct recording_counts counts = {0}, seen = {0};
    struct bench_load *load;
    struct err err;
    make_recording(io, &counts);
    CHECK_U64(counts.n_requests, 15);
    CHECK_U64(counts.n_samples, 100);
    CHECK_I64(counts.first_ms, 1700000000000);
    CHECK_I64(counts.last_ms, 1700000019000);
    CHECK_OK(bench_recording_new(io, "/rec", &load, &err), &err);
    CHECK_U64(load->n_samples, 100);
    CHECK_I64(load->first_ms, counts.first_ms);
    CHECK_I64(load->last_ms, counts.last_ms);
    walk_all(load, count_one, &seen);
    CHECK_U64(seen.n_samples, counts.n_samples);
    CHECK_I64(seen.last_ms, counts.last_ms);
    bench_load_free(load);
    io_sim_free(sim);
}

/* A recorder that was killed leaves a part of its last request. */
static void a_cut_recording_ends_before_the_cut(void **state)
{
    (void)state;
    struct err err;
    uint64_t last = UINT64_MAX;
    for (uint64_t cut = 1; cut < 400; cut += 13) {
        struct io_sim *sim = io_sim_new(1);
        struct io *io = io_sim_io(sim);
        struct recording_counts counts = {0}, seen = {0};
        struct bench_load *load;
        struct file *file;
        uint64_t size = make_recording(io, &counts);
        CHECK_OK(io_open(io, "/rec", IO_WRITE, &file, &err), &err);
        CHECK_OK(file_truncate(file, size - cut, &err), &err);
        file_close(file);
        CHECK_OK(bench_recording_new(io, "/rec", &load, &err), &err);
        CHECK(load->n_samples < counts.n_samples && load->n_samples <= last);
        last = load->n_samples;
        walk_all(load, count_one, &seen);
        bench_load_free(load);
        io_sim_free(sim);
    }
}

static void no_recording_is_told(void **state)
{
    (void)state;
    static const uint8_t zeros[64] = {0}, wrong[] = {3, 0, 0, 0, 'a', 'b', 'c'};
    static const struct {
        struct bytes bytes;
        enum err_code code;
    } cases[] = {
        {{zeros, sizeof(zeros)}, ERR_CORRUPT},
        {{wrong, sizeof(wrong)}, ERR_INVALID},
        {{zeros, 0}, ERR_INVALID}, /* no samples */
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct io_sim *sim = io_sim_new(1);
        struct io *io = io_sim_io(sim);
        struct file *file;
        struct bench_load *load;
        struct err err;
        CHECK_OK(io_open(io, "/rec", IO_WRITE | IO_CREATE, &file, &err), &err);
        CHECK_OK(file_write_at(file, 0, cases[i].bytes.p, cases[i].bytes.len, &err), &err);
        file_close(file);
        CHECK_ERR(bench_recording_new(io, "/rec", &load, &err), cases[i].code);
        io_sim_free(sim);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(history_sends_each_sample_once),
        cmocka_unit_test(counters_of_history_never_fall),
        cmocka_unit_test(shuffle_is_a_permutation),
        cmocka_unit_test(impossible_history_is_refused),
        cmocka_unit_test(replaced_instances_end_with_markers),
        cmocka_unit_test(recordings_come_back),
        cmocka_unit_test(a_cut_recording_ends_before_the_cut),
        cmocka_unit_test(no_recording_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
