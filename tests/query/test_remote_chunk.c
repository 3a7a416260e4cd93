/* The chunks of remote read: against bytes recorded from Prometheus 3.5, and random ones against a naive reader. */
#include <math.h>

#include "ingest/prometheus_chunk.h"
#include "query/remote_chunk.h"
#include "tests/quipu_test.h"
#include "tests/ref/remote_chunk_ref.h"

struct fixture {
    struct arena arena, scratch;
    struct samples in, out;
    struct buf chunk;
};

static void open(struct fixture *f)
{
    arena_init(&f->arena, MEM_QUERY, 0);
    arena_init(&f->scratch, MEM_QUERY, 0);
    samples_init(&f->in, MEM_QUERY, &f->arena);
    samples_init(&f->out, MEM_QUERY, &f->arena);
    buf_init(&f->chunk, MEM_QUERY);
}

static void close_fixture(struct fixture *f)
{
    samples_release(&f->in);
    samples_release(&f->out);
    buf_release(&f->chunk);
    arena_release(&f->arena);
    arena_release(&f->scratch);
}

static void push(struct fixture *f, int64_t t_ms, double v, struct histogram *h)
{
    struct err err;
    CHECK_OK(samples_push(&f->in, t_ms, h ? h->sum : v, h, &err), &err);
}

/* --- recorded -------------------------------------------------------------------------------------- */

#define T0 INT64_C(1700000000000)

static void check_bytes(struct fixture *f, enum remote_chunk_type type, const char *hex)
{
    enum remote_chunk_type got;
    struct err err;
    char text[1024];
    CHECK_U64(remote_chunk_count(&f->in, 0, &got), f->in.n);
    CHECK_U64(got, type);
    CHECK_OK(remote_chunk_write(&f->chunk, &f->in, 0, f->in.n, &f->scratch, &err), &err);
    CHECK_OK(buf_finish(&f->chunk, &err), &err);
    CHECK(f->chunk.len * 2 < sizeof(text));
    for (size_t i = 0; i < f->chunk.len; i++) snprintf(text + 2 * i, 3, "%02x", f->chunk.p[i]);
    CHECK_STR(str_of(text), hex);
}

static void test_recorded_floats(void **state)
{
    (void)state;
    struct fixture f;
    open(&f);
    push(&f, T0, 1.5, NULL);
    push(&f, T0 + 15000, 1.5, NULL);
    push(&f, T0 + 30000, 2.25, NULL);
    push(&f, T0 + 45001, -0.0, NULL);
    push(&f, T0 + 3600000, stale_nan(), NULL);
    check_bytes(
        &f, REMOTE_CHUNK_XOR,
        "000580a0abfef9623ff80000000000009875309dffec000e03f000f80000000001b020f60ffffc000000000000"
        "80");
    close_fixture(&f);
}

static int64_t recorded_time(int i)
{
    return T0 + i * 15000 + (i == 3 ? 7 : 0);
}

static void test_recorded_histograms(void **state)
{
    (void)state;
    static struct histogram_span pos_spans[] = {{2, 2}, {3, 1}}, neg_spans[] = {{-1, 2}};
    struct fixture f;
    open(&f);
    for (int i = 0; i < 5; i++) {
        struct histogram *h = ARENA_NEW(&f.arena, struct histogram);
        double *buckets = ARENA_ARRAY(&f.arena, double, 5);
        double values[] = {3 + i, 1 + 2 * i, 3 + 3 * i, 2, i};
        memcpy(buckets, values, sizeof(values));
        *h = (struct histogram){.schema = 1,
                                .is_int = true,
                                .count = 10 + 8 * i,
                                .sum = 1.5 + i * 0.25,
                                .zero_threshold = 0.001,
                                .zero_count = 1 + i,
                                .pos_spans = pos_spans,
                                .neg_spans = neg_spans,
                                .n_pos_spans = 2,
                                .n_neg_spans = 1,
                                .pos = buckets,
                                .neg = buckets + 3,
                                .n_pos = 3,
                                .n_neg = 2};
        push(&f, recorded_time(i), 0, h);
    }
    check_bytes(
        &f, REMOTE_CHUNK_HISTOGRAM,
        "000500ff3f50624dd2f1a9fc8ca528ce32bff0000c5e7f2b40062a27ff00000000000013b4a56f83a98c447683"
        "8c6288c26fffc187370306c8da1600");
    close_fixture(&f);
}

static void test_recorded_custom(void **state)
{
    (void)state;
    static struct histogram_span spans[] = {{0, 5}};
    static double bounds[] = {0.5, 1, 5, 1e9 / 3};
    struct fixture f;
    open(&f);
    for (int i = 0; i < 5; i++) {
        struct histogram *h = ARENA_NEW(&f.arena, struct histogram);
        double *buckets = ARENA_ARRAY(&f.arena, double, 5);
        double values[] = {1.5 + i, 0, 2, 0, 3};
        memcpy(buckets, values, sizeof(values));
        *h = (struct histogram){.schema = HISTOGRAM_SCHEMA_CUSTOM,
                                .count = 6.5 + i,
                                .sum = 2.25 * i,
                                .pos_spans = spans,
                                .n_pos_spans = 1,
                                .pos = buckets,
                                .n_pos = 5,
                                .bounds = bounds,
                                .n_bounds = 4};
        push(&f, recorded_time(i), 0, h);
    }
    check_bytes(&f, REMOTE_CHUNK_FLOAT_HISTOGRAM,
                "00050000ee5c6a53bebe3e9f8138920d9ef21aaaaaaaaff0000c5e7f2b400200d000000000000000"
                "000000000000000000000000000001ffc00000000000000000000000000002000000000000000000"
                "000000000000020040000000000007c1d4c6d06c27400384dfff8350dfa0022001061e09b049d627"
                "86ca19a86e6200");
    close_fixture(&f);
}

/* --- random ---------------------------------------------------------------------------------------- */

static int64_t random_step(struct rng *rng, int64_t step)
{
    if (rng_chance(rng, 0.7)) return step;
    return 1 + (int64_t)(rng_u64(rng) >> (24 + rng_below(rng, 40)));
}

static double random_double(struct rng *rng, double before)
{
    switch (rng_below(rng, 6)) {
    case 0: return before;
    case 1: return before + 1;
    case 2: return before + (double)rng_below(rng, 1000) / 8;
    case 3: return double_from_bits(rng_u64(rng)); /* NaN with payloads, too */
    case 4: return double_from_bits(double_bits(before) ^ (UINT64_C(1) << rng_below(rng, 64)));
    default: return rng_chance(rng, 0.1) ? stale_nan() : 0.5;
    }
}

static double random_count(struct rng *rng, bool is_int)
{
    double v = (double)(rng_u64(rng) >> (12 + rng_below(rng, 52)));
    return is_int ? v : v / 8;
}

static struct histogram_span *random_spans(struct rng *rng, struct arena *arena, uint32_t *n,
                                           uint32_t *n_buckets)
{
    *n = (uint32_t)rng_below(rng, 4);
    struct histogram_span *spans = ARENA_ARRAY(arena, struct histogram_span, *n + 1);
    for (uint32_t i = 0; i < *n; i++) {
        spans[i].offset = (int32_t)rng_below(rng, 20) - (i ? 0 : 10);
        spans[i].length = (uint32_t)rng_below(rng, rng_chance(rng, 0.05) ? 400 : 6);
        *n_buckets += spans[i].length;
    }
    return spans;
}

static void random_layout(struct rng *rng, struct arena *arena, struct histogram *h)
{
    static const double THRESHOLDS[] = {0, 0.001, 0.25, 1, 0x1p-243, 0x1p-244, 0x1p10, 0x1p11, 3};
    *h = (struct histogram){.is_int = rng_chance(rng, 0.5),
                            .schema = (int32_t)rng_below(rng, 13) - 4,
                            .zero_threshold = THRESHOLDS[rng_below(rng, COUNT_OF(THRESHOLDS))]};
    h->pos_spans = random_spans(rng, arena, &h->n_pos_spans, &h->n_pos);
    if (rng_chance(rng, 0.3)) {
        h->schema = HISTOGRAM_SCHEMA_CUSTOM;
        h->zero_threshold = 0;
        h->n_bounds = (uint32_t)rng_below(rng, 6);
        h->bounds = ARENA_ARRAY(arena, double, h->n_bounds + 1);
        for (uint32_t i = 0; i < h->n_bounds; i++)
            h->bounds[i] = rng_chance(rng, 0.5) ? (double)rng_below(rng, 40000000) / 1000
                                                : double_from_bits(rng_u64(rng));
    } else {
        h->neg_spans = random_spans(rng, arena, &h->n_neg_spans, &h->n_neg);
    }
}

static void grow(struct rng *rng, double *to, const double *from, uint32_t n, bool is_int)
{
    for (uint32_t i = 0; i < n; i++) {
        double more = rng_chance(rng, 0.5) ? 0 : random_count(rng, is_int);
        to[i] = from ? from[i] + more : more;
        if (to[i] > 0x1p52 || rng_chance(rng, 0.003)) to[i] = 0; /* and it may fall */
    }
}

/* What follows `before` (NULL: anything), mostly of its layout. */
static struct histogram *random_histogram(struct rng *rng, struct arena *arena,
                                          const struct histogram *before)
{
    struct histogram *h = ARENA_NEW(arena, struct histogram);
    bool same = before && !histogram_is_stale(before) && rng_chance(rng, 0.95);
    if (same)
        *h = *before;
    else
        random_layout(rng, arena, h);
    if (rng_chance(rng, 0.02)) {
        *h = (struct histogram){.is_int = h->is_int, .sum = stale_nan()};
        return h;
    }
    h->pos = ARENA_ARRAY(arena, double, h->n_pos + 1);
    h->neg = ARENA_ARRAY(arena, double, h->n_neg + 1);
    grow(rng, h->pos, same ? before->pos : NULL, h->n_pos, h->is_int);
    grow(rng, h->neg, same ? before->neg : NULL, h->n_neg, h->is_int);
    h->zero_count = random_count(rng, h->is_int);
    h->count = random_count(rng, h->is_int);
    if (same && rng_chance(rng, 0.9)) {
        h->zero_count = before->zero_count;
        h->count = before->count;
    }
    h->sum = random_double(rng, same ? before->sum : 1);
    if (!same || rng_chance(rng, 0.05)) h->reset_hint = (uint8_t)rng_below(rng, 4);
    return h;
}

static void fill(struct fixture *f, struct rng *rng)
{
    size_t n = 1 + rng_below(rng, 400);
    double histograms = rng_chance(rng, 0.5) ? 0 : rng_chance(rng, 0.5) ? 1 : 0.9;
    int64_t t = (int64_t)(rng_u64(rng) >> 22), step = random_step(rng, 15000);
    const struct histogram *last = NULL;
    double v = 1;
    for (size_t i = 0; i < n; i++) {
        struct histogram *h = NULL;
        if (rng_chance(rng, histograms)) last = h = random_histogram(rng, &f->arena, last);
        v = random_double(rng, v);
        push(f, t, v, h);
        t += random_step(rng, step);
    }
}

/* No counter falls inside a chunk, whatever its hints say. */
static void check_rises(const struct histogram *before, const struct histogram *h)
{
    CHECK(h->count >= before->count && h->zero_count >= before->zero_count);
    for (uint32_t i = 0; i < h->n_pos; i++) CHECK(h->pos[i] >= before->pos[i]);
    for (uint32_t i = 0; i < h->n_neg; i++) CHECK(h->neg[i] >= before->neg[i]);
}

static void check_histogram(struct histogram want, struct histogram got, bool first)
{
    if (first) CHECK_U64(got.reset_hint, want.reset_hint);
    if (!first)
        CHECK_U64(got.reset_hint == HISTOGRAM_RESET_GAUGE,
                  want.reset_hint == HISTOGRAM_RESET_GAUGE);
    want.reset_hint = got.reset_hint = 0;
    if (histogram_is_stale(&want)) {
        CHECK(histogram_is_stale(&got));
        return;
    }
    CHECK(histogram_same_bits(&want, &got));
}

static void check_chunk(const struct samples *in, size_t from, size_t n, const struct samples *out)
{
    CHECK_U64(out->n, n);
    for (size_t i = 0; i < n; i++) {
        const struct histogram *h = in->h ? in->h[from + i] : NULL;
        CHECK_I64(out->t_ms[i], in->t_ms[from + i]);
        CHECK_SAME_DOUBLE(out->v[i], in->v[from + i]);
        CHECK((out->h && out->h[i]) == (h != NULL));
        if (!h) continue;
        bool gauge_first = in->h[from]->reset_hint == HISTOGRAM_RESET_GAUGE;
        if (!histogram_is_stale(h) || i == 0) check_histogram(*h, *out->h[i], i == 0);
        if (i && !gauge_first && !histogram_is_stale(h)) check_rises(out->h[i - 1], out->h[i]);
    }
}

static uint8_t imported_hint(const struct histogram *h, bool first)
{
    bool kept = h->reset_hint == HISTOGRAM_RESET_GAUGE ||
                (first && h->reset_hint == HISTOGRAM_RESET_YES && !histogram_is_stale(h));
    return kept && !histogram_is_stale(h) ? h->reset_hint : HISTOGRAM_RESET_UNKNOWN;
}

/* The reader of an import finds what the naive one found; a chunk that is cut off is refused. */
static void check_import(enum remote_chunk_type type, struct bytes chunk, const struct samples *ref)
{
    struct arena arena;
    struct samples got;
    struct err err;
    arena_init(&arena, MEM_INGEST, 0);
    samples_init(&got, MEM_INGEST, &arena);
    CHECK_OK(prometheus_chunk_read(type, chunk, &arena, &got, &err), &err);
    CHECK_U64(got.n, ref->n);
    for (size_t i = 0; i < got.n; i++) {
        CHECK_I64(got.t_ms[i], ref->t_ms[i]);
        CHECK_SAME_DOUBLE(got.v[i], ref->v[i]);
        const struct histogram *h = ref->h ? ref->h[i] : NULL;
        CHECK((got.h && got.h[i]) == (h != NULL));
        if (!h) continue;
        CHECK_U64(got.h[i]->reset_hint, imported_hint(h, i == 0));
        CHECK_U64(got.h[i]->is_int, h->is_int);
        if (histogram_is_stale(h)) continue;
        struct histogram want = *h, have = *got.h[i];
        want.reset_hint = have.reset_hint = 0;
        CHECK(histogram_same_bits(&want, &have));
    }
    for (size_t len = 0; len < chunk.len; len += 1 + len / 4) {
        samples_reset(&got);
        CHECK(prometheus_chunk_read(type, bytes_of(chunk.p, len), &arena, &got, &err));
    }
    samples_release(&got);
    arena_release(&arena);
}

static void test_random(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 1500)
    {
        struct fixture f;
        struct err err;
        enum remote_chunk_type type;
        size_t n, n_chunks = 0;
        open(&f);
        fill(&f, &rng);
        for (size_t from = 0; from < f.in.n; from += n, n_chunks++) {
            n = remote_chunk_count(&f.in, from, &type);
            CHECK(n > 0 && n <= REMOTE_CHUNK_SAMPLES_MAX && n <= f.in.n - from);
            buf_reset(&f.chunk);
            buf_u8(&f.chunk, 'x'); /* it appends */
            CHECK_OK(remote_chunk_write(&f.chunk, &f.in, from, n, &f.scratch, &err), &err);
            CHECK_OK(buf_finish(&f.chunk, &err), &err);
            samples_release(&f.out);
            samples_init(&f.out, MEM_QUERY, &f.arena);
            CHECK(ref_remote_chunk_read(type, bytes_of(f.chunk.p + 1, f.chunk.len - 1), &f.out));
            check_chunk(&f.in, from, n, &f.out);
            check_import(type, bytes_of(f.chunk.p + 1, f.chunk.len - 1), &f.out);
        }
        if (!f.in.h)
            CHECK_U64(n_chunks, (f.in.n + REMOTE_CHUNK_SAMPLES_MAX - 1) / REMOTE_CHUNK_SAMPLES_MAX);
        close_fixture(&f);
    }
}

/* Histograms with many buckets: a chunk stays small. */
static void test_wide(void **state)
{
    (void)state;
    static struct histogram_span span = {0, 60000};
    struct fixture f;
    enum remote_chunk_type type;
    open(&f);
    double *buckets = ARENA_ARRAY(&f.arena, double, 60000);
    for (int i = 0; i < 10; i++) {
        struct histogram *h = ARENA_NEW(&f.arena, struct histogram);
        *h = (struct histogram){
            .is_int = true, .pos_spans = &span, .n_pos_spans = 1, .pos = buckets, .n_pos = 60000};
        push(&f, i, 0, h);
    }
    CHECK_U64(remote_chunk_count(&f.in, 0, &type), 2);
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recorded_floats),
        cmocka_unit_test(test_recorded_histograms),
        cmocka_unit_test(test_recorded_custom),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_wide),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
