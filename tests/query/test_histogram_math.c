/* tests/query/test_histogram_math.c: bounds, sums, resets and trims of native histograms, by hand-worked examples and
 * against a brute-force map from index to count. */
#include <float.h>
#include <math.h>

#include "query/histogram_bounds.h"
#include "tests/query/histogram_text.h"

static struct arena arena;
static struct err err;

static int setup(void **state)
{
    (void)state;
    arena_init(&arena, MEM_BASE, 0);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    arena_release(&arena);
    return 0;
}

/* ---- bounds ---- */

static uint32_t crc32_of(const double *v, size_t n)
{
    uint32_t crc = ~0u;
    for (size_t i = 0; i < n * 8; i++) {
        crc ^= (uint8_t)(double_bits(v[i / 8]) >> (i % 8 * 8));
        for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
    }
    return ~crc;
}

static void test_bound_table(void **state)
{
    (void)state;
    /* The recipe of the table: products of square roots. */
    double root[9] = {0, 0x1.6a09e667f3bccp+0, sqrt(sqrt(2.0))}, table[256];
    for (int j = 3; j <= 8; j++) root[j] = sqrt(root[j - 1]);
    for (int k = 0; k < 256; k++) {
        table[k] = 0.5;
        for (int j = 1; j <= 8; j++) {
            if (k >> (8 - j) & 1) table[k] *= root[j];
        }
        CHECK_SAME_DOUBLE(histogram_bound(k - 256, 8), table[k]);
    }
    CHECK_U64(crc32_of(table, 256), 0x2a75afcd);
}

static void test_bounds(void **state)
{
    (void)state;
    CHECK_SAME_DOUBLE(histogram_bound(0, 0), 1);
    CHECK_SAME_DOUBLE(histogram_bound(1, 0), 2);
    CHECK_SAME_DOUBLE(histogram_bound(-1, 0), 0.5);
    CHECK_SAME_DOUBLE(histogram_bound(1, 1), 1.414213562373095);
    CHECK_SAME_DOUBLE(histogram_bound(-1, -4), 0x1p-16);
    for (int32_t schema = -4; schema <= 8; schema++) {
        int64_t top = schema >= 0 ? INT64_C(1024) << schema : INT64_C(1024) >> -schema;
        CHECK_SAME_DOUBLE(histogram_bound(top, schema), DBL_MAX);
        CHECK(histogram_bound(top - 1, schema) < DBL_MAX &&
              histogram_bound(top + 1, schema) == INFINITY);
        CHECK(histogram_bound(INT32_MAX, schema) == INFINITY &&
              histogram_bound(-(INT64_C(1) << 33), schema) == 0);
        int64_t far = schema >= 0 ? 300 : 1000 >> -schema; /* within what doubles can hold */
        for (int64_t i = -far; i < far; i++)
            CHECK(histogram_bound(i, schema) < histogram_bound(i + 1, schema));
    }
    CHECK_SAME_DOUBLE(histogram_bound(-1074, 0), 0x1p-1074);
    CHECK_SAME_DOUBLE(histogram_bound(-1075, 0), 0);
    /* Down by two schemas. */
    static const int64_t pairs[][2] = {{-1, 0}, {0, 0}, {1, 1}, {4, 1}, {5, 2}, {-3, 0}, {-4, -1}};
    for (size_t i = 0; i < COUNT_OF(pairs); i++)
        CHECK_I64(histogram_index_at(pairs[i][0], 2, 0), pairs[i][1]);
}

static void check_text(const struct histogram *h, const char *expected)
{
    struct buf b;
    buf_init(&b, MEM_BASE);
    histogram_print(&b, h);
    CHECK_STR(str_from_bytes(buf_bytes(&b)), expected);
    buf_release(&b);
}

static void test_text(void **state)
{
    (void)state;
    check_text(H(&arena, "count:17 sum:25.5 z_bucket_w:0.001 z_bucket:1 offset:-2 buckets:[3 5 0 "
                         "1] n_buckets:[2 7]"),
               "{count:17, sum:25.5, [-2,-1):7, [-1,-0.5):2, [-0.001,0.001]:1, (0.125,0.25]:3, "
               "(0.25,0.5]:5, (1,2]:1}");
    check_text(
        H(&arena,
          "schema:-53 count:3e6 sum:-0.0000001 custom_values:[1 2] buckets:[1 0 12345678.5]"),
        "{count:3e+06, sum:-1e-07, [-Inf,1]:1, (2,+Inf]:1.23456785e+07}");
    check_text(H(&arena, "count:1 sum:NaN z_bucket:-1 z_bucket_w:0.7 buckets:[1]"),
               "{count:1, sum:NaN, [-0.7,0.7]:-1, (0.5,1]:1}");
}

static void test_buckets(void **state)
{
    (void)state;
    struct histogram_bucket *b;
    size_t n;
    CHECK_OK(histogram_buckets(
                 &arena, H(&arena, "z_bucket_w:0.7 z_bucket:2 buckets:[1 0 3] n_buckets:[4 5]"), &b,
                 &n, &err),
             &err);
    static const struct histogram_bucket expected[] = {
        {-2, -1, 5, 1}, {-1, -0.7, 4, 1}, {-0.7, 0.7, 2, 3}, {0.7, 1, 1, 0}, {2, 4, 3, 0}};
    CHECK_U64(n, COUNT_OF(expected));
    for (size_t i = 0; i < n; i++) {
        CHECK(b[i].lower == expected[i].lower && b[i].upper == expected[i].upper);
        CHECK(b[i].count == expected[i].count && b[i].boundaries == expected[i].boundaries);
    }
    /* A zero bucket that is not above 0 does not show. */
    CHECK_OK(histogram_buckets(&arena, H(&arena, "z_bucket:-2 buckets:[-1]"), &b, &n, &err), &err);
    CHECK(n == 1 && b[0].count == -1);
    CHECK_OK(histogram_buckets(&arena, H(&arena, "schema:-53 custom_values:[5] buckets:[1 2]"), &b,
                               &n, &err),
             &err);
    CHECK(n == 2 && b[0].lower == -INFINITY && b[0].upper == 5 && b[0].boundaries == 3);
    CHECK(b[1].lower == 5 && b[1].upper == INFINITY && b[1].boundaries == 0);
}

/* Downwards gives the same as upwards, whatever the spans look like. */
static void test_walks(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 500)
    {
        struct histogram_span spans[5];
        double counts[40];
        uint32_t n = 0, n_spans = (uint32_t)rng_below(&rng, 6);
        for (uint32_t i = 0; i < n_spans; i++) {
            spans[i] = (struct histogram_span){(int32_t)rng_below(&rng, 4) - (i ? 0 : 3),
                                               (uint32_t)rng_below(&rng, 4)};
            n += spans[i].length;
        }
        for (uint32_t i = 0; i < n; i++) counts[i] = i + 1;
        int64_t index[40], last = INT64_MIN;
        double count;
        struct span_walk w;
        uint32_t k = 0;
        for (span_walk_init(&w, spans, n_spans, counts, n, false);
             span_walk_next(&w, &index[k], &count); k++) {
            CHECK(count == k + 1 && index[k] > last);
            last = index[k];
        }
        CHECK_U64(k, n);
        for (span_walk_init(&w, spans, n_spans, counts, n, true);
             span_walk_next(&w, &last, &count);) {
            k--;
            CHECK(count == k + 1);
            CHECK_I64(last, index[k]);
        }
        CHECK_U64(k, 0);
    }
}

/* ---- addition ---- */

static void check_same(const struct histogram *got, const struct histogram *expected)
{
    struct histogram *compact;
    CHECK_OK(histogram_scale(&arena, expected, 1, false, &compact, &err), &err);
    if (histogram_equal(got, compact)) return;
    struct buf a, b;
    buf_init(&a, MEM_BASE);
    buf_init(&b, MEM_BASE);
    histogram_print(&a, got);
    histogram_print(&b, compact);
    CHECK_BYTES(buf_bytes(&a), buf_bytes(&b));
    test_fail(__FILE__, __LINE__, "histograms that print alike differ: %.*s", (int)a.len,
              (char *)a.p);
}

static struct histogram *add(const struct histogram *a, const struct histogram *b, unsigned *notes)
{
    struct histogram *out;
    CHECK_OK(histogram_add(&arena, a, b, &out, notes, &err), &err);
    return out;
}
static struct histogram *sub(const struct histogram *a, const struct histogram *b, unsigned *notes)
{
    struct histogram *out;
    CHECK_OK(histogram_sub(&arena, a, b, &out, notes, &err), &err);
    return out;
}

static void test_add_examples(void **state)
{
    (void)state;
    /* clang-format off */
    static const char *const cases[][3] = {
        /* a zero bucket that cuts a populated bucket takes it whole */
        {"z_bucket_w:0.001 z_bucket:1 offset:-3 buckets:[1 2 2]", "z_bucket_w:0.2 z_bucket:4 buckets:[1]",
         "z_bucket_w:0.25 z_bucket:8 offset:-1 buckets:[2 1]"},
        {"z_bucket_w:0.001 z_bucket:1 offset:-3 buckets:[2] n_offset:-2 n_buckets:[3 1]",
         "z_bucket_w:0.1 z_bucket:2 buckets:[5]", "z_bucket_w:0.125 z_bucket:5 buckets:[5] n_offset:-2 n_buckets:[3 1]"},
        /* unlike schemas */
        {"schema:2 offset:-1 buckets:[1 1 1 1 1 1]", "z_bucket:1 buckets:[1 1 1]", "z_bucket:1 buckets:[3 5 1]"},
        /* an empty bucket does not widen */
        {"z_bucket_w:0.001 offset:-3 buckets:[0 2]", "z_bucket_w:0.1 z_bucket:1", "z_bucket_w:0.1 z_bucket:1 offset:-2 buckets:[2]"},
        /* what is in the zero bucket does not come back as part of a coarser one */
        {"schema:1 count:3 buckets:[0 3] offset:-1", "count:1 z_bucket_w:0.7071067811865476 z_bucket:1",
         "count:4 z_bucket_w:1 z_bucket:4"},
        {"schema:1 count:5 offset:-1 buckets:[3 2]", "count:1 z_bucket_w:0.7071067811865475 z_bucket:1",
         "count:6 z_bucket_w:0.7071067811865475 z_bucket:4 buckets:[2]"},
        {"schema:-53 count:3 custom_values:[1 2] buckets:[1 2]", "schema:-53 count:4 custom_values:[1 2] buckets:[0 1 3]",
         "schema:-53 count:7 custom_values:[1 2] buckets:[1 3 3]"},
        {"", "", ""},
    };
    /* clang-format on */
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        unsigned notes = 0;
        struct histogram *a = H(&arena, cases[i][0]), *b = H(&arena, cases[i][1]),
                         *sum = H(&arena, cases[i][2]);
        check_same(add(a, b, &notes), sum);
        check_same(add(b, a, &notes), sum);
        CHECK_U64(notes, 0);
    }
    unsigned notes = 0;
    check_same(
        sub(H(&arena, "schema:1 count:11 sum:1 z_bucket:3 buckets:[0 2 1] n_buckets:[0 0 3 2]"),
            H(&arena, "count:41 sum:3 z_bucket:5 buckets:[1 3 1] n_buckets:[0 1 4]"), &notes),
        H(&arena, "count:-30 sum:-2 z_bucket:-2 buckets:[-1 0 -1] n_buckets:[0 2 -2]"));
}

static void test_custom_bounds(void **state)
{
    (void)state;
    unsigned notes = 0;
    const struct histogram *few =
        H(&arena, "schema:-53 sum:55 count:15 custom_values:[2 4 6] buckets:[1 2 5 7]");
    const struct histogram *many =
        H(&arena, "schema:-53 sum:555 count:450 custom_values:[1 2 3 4 5 6 7 8] "
                  "buckets:[10 20 30 40 50 60 70 80 90]");
    check_same(
        sub(many, few, &notes),
        H(&arena, "schema:-53 sum:500 count:435 custom_values:[2 4 6] buckets:[29 68 105 233]"));
    CHECK_U64(notes, HISTOGRAM_NOTE_BOUNDS_RECONCILED);
    /* Nothing in common: all in one bucket. */
    check_same(add(few, H(&arena, "schema:-53 count:1 custom_values:[3] buckets:[1]"), &notes),
               H(&arena, "schema:-53 sum:55 count:16 buckets:[16]"));
    notes = 0;
    CHECK(add(few, H(&arena, "count:1"), &notes) == NULL);
    CHECK_U64(notes, HISTOGRAM_NOTE_MIXED_SCHEMAS);
}

static void test_hints(void **state)
{
    (void)state;
    enum { U, R, N, G };
    static const uint8_t sums[4][4] = {{U, U, U, G}, {U, R, U, G}, {U, U, N, G}, {G, G, G, G}};
    for (uint8_t i = 0; i < 4; i++) {
        for (uint8_t k = 0; k < 4; k++) {
            struct histogram a = {.reset_hint = i}, b = {.reset_hint = k};
            unsigned notes = 0,
                     expected = i != k && i * k == R * N ? HISTOGRAM_NOTE_RESET_CONFLICT : 0;
            CHECK_U64(add(&a, &b, &notes)->reset_hint, sums[i][k]);
            CHECK_U64(notes, expected);
            CHECK_U64(sub(&a, &b, &notes)->reset_hint, G);
        }
    }
}

/* Whole numbers, no zero bucket, any schema. */
static struct histogram *gen(struct rng *rng, int32_t schema)
{
    struct histogram *h =
        H(&arena, rng_chance(rng, 0.5)
                      ? "offset:-5 buckets:[0 0 0 0 0 0 0 0 0 0] n_buckets:[0 0 0]"
                      : "offset:3 buckets:[0 0 0 0] n_offset:-7 n_buckets:[0 0 0 0 0 0]");
    h->schema = schema;
    for (uint32_t i = 0; i < h->n_pos; i++) h->pos[i] = (double)rng_below(rng, 4);
    for (uint32_t i = 0; i < h->n_neg; i++) h->neg[i] = (double)rng_below(rng, 4);
    for (uint32_t i = 0; i < h->n_pos; i++) h->count += h->pos[i];
    for (uint32_t i = 0; i < h->n_neg; i++) h->count += h->neg[i];
    h->sum = (double)rng_below(rng, 1000);
    if (h->n_pos && rng_chance(rng, 0.5)) { /* two spans instead of one */
        struct histogram_span *spans = ARENA_ARRAY(&arena, struct histogram_span, 3);
        CHECK(spans != NULL);
        uint32_t first = (uint32_t)rng_below(rng, h->n_pos);
        spans[0] = (struct histogram_span){h->pos_spans[0].offset, first};
        spans[1] = (struct histogram_span){(int32_t)rng_below(rng, 100000), 0};
        spans[2] = (struct histogram_span){(int32_t)rng_below(rng, 3), h->n_pos - first};
        h->pos_spans = spans;
        h->n_pos_spans = 3;
    }
    return h;
}

/* Counts by index at `schema`, added up the slow way. */
#define MAP_MIN (-40)
#define MAP_N 200100
static void map_add(double *map, const struct histogram *h, bool negative, int32_t schema,
                    double sign)
{
    struct span_walk w;
    int64_t index;
    double count;
    if (negative)
        span_walk_init(&w, h->neg_spans, h->n_neg_spans, h->neg, h->n_neg, false);
    else
        span_walk_init(&w, h->pos_spans, h->n_pos_spans, h->pos, h->n_pos, false);
    while (span_walk_next(&w, &index, &count)) {
        /* By bounds rather than by shifts: the bucket of `schema` that holds the upper bound. */
        int64_t target = histogram_index_at(index, h->schema, schema);
        CHECK(histogram_bound(target, schema) >= histogram_bound(index, h->schema));
        CHECK(histogram_bound(target - 1, schema) < histogram_bound(index, h->schema) ||
              index > 2000);
        map[target - MAP_MIN] += sign * count;
    }
}

static void check_side(const struct histogram *got, bool negative, const double *map)
{
    struct span_walk w;
    int64_t index, last = MAP_MIN - 1;
    double count;
    if (negative)
        span_walk_init(&w, got->neg_spans, got->n_neg_spans, got->neg, got->n_neg, false);
    else
        span_walk_init(&w, got->pos_spans, got->n_pos_spans, got->pos, got->n_pos, false);
    while (span_walk_next(&w, &index, &count)) {
        for (int64_t i = last + 1; i < index; i++) CHECK(map[i - MAP_MIN] == 0);
        CHECK(count == map[index - MAP_MIN] && count != 0);
        last = index;
    }
    for (int64_t i = last + 1; i < MAP_MIN + MAP_N; i++) CHECK(map[i - MAP_MIN] == 0);
}

static void test_add_naive(void **state)
{
    (void)state;
    struct rng rng;
    double *map = malloc(MAP_N * sizeof(*map));
    CHECK(map != NULL);
    PROPERTY_LOOP(&rng, 150)
    {
        int32_t sa = (int32_t)rng_below(&rng, 13) - 4, sb = (int32_t)rng_below(&rng, 13) - 4,
                schema = MIN_OF(sa, sb);
        struct histogram *a = gen(&rng, sa), *b = gen(&rng, sb);
        bool minus = rng_chance(&rng, 0.5);
        unsigned notes = 0;
        struct histogram *out = minus ? sub(a, b, &notes) : add(a, b, &notes);
        CHECK(out->schema == schema && notes == 0);
        CHECK(out->count == (minus ? a->count - b->count : a->count + b->count));
        for (int negative = 0; negative < 2; negative++) {
            memset(map, 0, MAP_N * sizeof(*map));
            map_add(map, a, negative, schema, 1);
            map_add(map, b, negative, schema, minus ? -1 : 1);
            check_side(out, negative, map);
        }
        if (!minus) check_same(add(b, a, &notes), out); /* whole numbers: it commutes to the bit */
        if (!minus && sa <= sb) check_same(sub(out, b, &notes), a);
        arena_reset(&arena);
    }
    free(map);
}

static double total(const struct histogram *h)
{
    double sum = h->zero_count;
    for (uint32_t i = 0; i < h->n_pos; i++) sum += h->pos[i];
    for (uint32_t i = 0; i < h->n_neg; i++) sum += h->neg[i];
    return sum;
}

/* Whatever the schemas and zero buckets: no observation is lost, none counts twice, and nothing regular is left within
 * the zero bucket. */
static void test_add_keeps_count(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 2000)
    {
        struct histogram *h[2];
        for (int i = 0; i < 2; i++) {
            h[i] = gen(&rng, (int32_t)rng_below(&rng, 13) - 4);
            h[i]->zero_count = (double)rng_below(&rng, 5);
            h[i]->count += h[i]->zero_count;
            double bound =
                histogram_bound((int64_t)rng_below(&rng, 20) - 10, (int32_t)rng_below(&rng, 5) - 2);
            h[i]->zero_threshold = rng_chance(&rng, 0.5) ? bound : rng_unit(&rng) * 2;
            /* As a client counts: nothing populated within its own zero bucket. */
            struct histogram *empty = H(&arena, "");
            empty->zero_threshold = h[i]->zero_threshold;
            double own = h[i]->zero_threshold;
            h[i]->zero_threshold = 0;
            unsigned notes = 0;
            h[i] = add(h[i], empty, &notes);
            CHECK(h[i]->zero_threshold >= own);
        }
        unsigned notes = 0;
        struct histogram *sum = add(h[0], h[1], &notes);
        CHECK(sum->count == h[0]->count + h[1]->count);
        CHECK(total(sum) == sum->count);
        CHECK(sum->zero_threshold >= h[0]->zero_threshold &&
              sum->zero_threshold >= h[1]->zero_threshold);
        struct histogram_bucket *b;
        size_t n;
        CHECK_OK(histogram_buckets(&arena, sum, &b, &n, &err), &err);
        for (size_t i = 0; i < n; i++)
            CHECK(b[i].lower < b[i].upper || b[i].boundaries == 3 || isinf(b[i].lower));
        check_same(add(h[1], h[0], &notes), sum);
        /* A sum is no reset against its parts; a part with observations less is one against the sum. */
        CHECK(!histogram_is_reset(sum, h[0]) && !histogram_is_reset(sum, h[1]));
        if (h[1]->count > 0) CHECK(histogram_is_reset(h[0], sum));
        arena_reset(&arena);
    }
}

static void test_scale(void **state)
{
    (void)state;
    struct histogram
        *h = H(&arena, "count:30 sum:33 z_bucket:3 z_bucket_w:0.001 buckets:[3 0 3] n_buckets:[6]"),
        *out;
    CHECK_OK(histogram_scale(&arena, h, -3, false, &out, &err), &err);
    check_same(
        out, H(&arena,
               "count:-90 sum:-99 z_bucket:-9 z_bucket_w:0.001 buckets:[-9 0 -9] n_buckets:[-18]"));
    CHECK_U64(out->reset_hint, HISTOGRAM_RESET_GAUGE);
    CHECK_OK(histogram_scale(&arena, h, 3, true, &out, &err), &err);
    check_same(out, H(&arena,
                      "count:10 sum:11 z_bucket:1 z_bucket_w:0.001 buckets:[1 0 1] n_buckets:[2]"));
    CHECK_OK(histogram_scale(&arena, h, 0, false, &out, &err), &err);
    check_same(out, H(&arena, "z_bucket_w:0.001"));
    CHECK_OK(histogram_scale(&arena, h, 0, true, &out, &err), &err);
    CHECK(out->count == INFINITY && out->sum == INFINITY && out->zero_count == INFINITY &&
          out->n_pos + out->n_neg == 0);
    CHECK_OK(histogram_scale(&arena, out, 0, false, &out, &err), &err);
    CHECK(isnan(out->count) && isnan(out->zero_count));
    CHECK_OK(histogram_scale(&arena, H(&arena, ""), -1, false, &out, &err), &err);
    CHECK_SAME_DOUBLE(out->sum, -0.0);
}

/* ---- sums of many ---- */

static struct histogram *sum_of(size_t n, const char *const *texts, bool mean, unsigned *notes)
{
    struct histogram_sum *sum = NULL;
    struct histogram *out;
    for (size_t i = 0; i < n; i++) {
        struct histogram *h = H(&arena, texts[i]);
        CHECK_OK(histogram_sum_add(&arena, &sum, h, notes, &err), &err);
        /* Not needed any more. */
        if (h->n_bounds) memset(h->bounds, 0xff, h->n_bounds * sizeof(*h->bounds));
        memset(h, 0xff, sizeof(*h));
    }
    CHECK_OK(histogram_sum_finish(&arena, sum, mean, &out, &err), &err);
    return out;
}
#define SUM(mean, ...)                                                                             \
    sum_of(sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *), (const char *[]){__VA_ARGS__},  \
           mean, &notes)

static void test_sums(void **state)
{
    (void)state;
    unsigned notes = 0;
    check_same(
        SUM(false, "count:1 sum:3.1 buckets:[1e100 1]", "count:1 sum:1e100 buckets:[1]",
            "count:1 sum:-1e100 buckets:[-1e100 2]",
            "schema:1 count:1 sum:1.3 buckets:[0.25 0 0 0.5]"),
        H(&arena, "count:4 sum:4.4 buckets:[1.25 3 0.5]")); /* compensated: a plain sum has 1.3 */
    check_same(SUM(true, "count:4 sum:3 buckets:[1 2]", "count:2 sum:4 buckets:[1]"),
               H(&arena, "count:3 sum:3.5 buckets:[1 1]"));
    check_same(SUM(true, "schema:3 count:4 sum:5 buckets:[1 2 1]"),
               H(&arena, "schema:3 count:4 sum:5 buckets:[1 2 1]"));
    check_same(SUM(false, "schema:-53 count:1 custom_values:[5 10] buckets:[1]",
                   "schema:-53 count:1 custom_values:[5] buckets:[1]",
                   "schema:-53 count:1 custom_values:[5 10] buckets:[0 1]"),
               H(&arena, "schema:-53 count:3 custom_values:[5] buckets:[2 1]"));
    CHECK_U64(notes, HISTOGRAM_NOTE_BOUNDS_RECONCILED);
    notes = 0;
    CHECK(SUM(false, "count:1", "schema:-53 count:1", "count:1") == NULL);
    CHECK_U64(notes, HISTOGRAM_NOTE_MIXED_SCHEMAS);
    CHECK(sum_of(0, NULL, false, &notes) == NULL);
}

static void test_sum_hints(void **state)
{
    (void)state;
    unsigned notes = 0;
    CHECK_U64(SUM(false, "hint:not_reset", "hint:not_reset")->reset_hint, HISTOGRAM_RESET_NO);
    CHECK_U64(SUM(false, "hint:not_reset", "hint:unknown")->reset_hint, HISTOGRAM_RESET_UNKNOWN);
    CHECK_U64(SUM(true, "hint:not_reset", "hint:gauge")->reset_hint, HISTOGRAM_RESET_GAUGE);
    CHECK_U64(notes, 0);
    /* Both were seen, if not side by side. */
    CHECK_U64(SUM(true, "hint:reset", "hint:gauge", "hint:not_reset")->reset_hint,
              HISTOGRAM_RESET_GAUGE);
    CHECK_U64(notes, HISTOGRAM_NOTE_RESET_CONFLICT);
}

/* Where the sum overflows, the mean does not, and the other numbers keep their digits. */
static void test_mean_overflow(void **state)
{
    (void)state;
    unsigned notes = 0;
    const char *const parts[] = {"count:1.7976931348623157e308 sum:5 buckets:[1e-3 4]",
                                 "count:1e308 sum:1 buckets:[1]",
                                 "count:1e-6 sum:3 buckets:[0 0 2]", "count:1e-6 sum:0"};
    struct histogram *mean = sum_of(4, parts, true, &notes), *sum = sum_of(4, parts, false, &notes);
    CHECK(sum->count == INFINITY && sum->sum == 9 && sum->pos[0] == 1.001);
    CHECK(fabs(mean->count / 6.99423283715579e307 - 1) < 1e-15);
    CHECK_NEAR(mean->sum, 2.25);
    CHECK_NEAR(mean->pos[0], 0.25025);
    CHECK_NEAR(mean->pos[1], 1);
    CHECK_NEAR(mean->pos[2], 0.5);
    CHECK(SUM(true, "count:Inf", "count:1")->count == INFINITY &&
          isnan(SUM(true, "count:Inf", "count:-Inf")->count));
    CHECK(isnan(SUM(true, "sum:NaN count:2", "count:4")->sum) &&
          SUM(true, "sum:NaN count:2", "count:4")->count == 3);
}

/* Other counts in the same buckets. */
static struct histogram *gen_like(struct rng *rng, const struct histogram *like)
{
    struct histogram *h;
    CHECK_OK(histogram_copy(&arena, like, &h, &err), &err);
    for (uint32_t i = 0; i < h->n_pos; i++) h->pos[i] += (double)rng_below(rng, 5);
    for (uint32_t i = 0; i < h->n_neg; i++) h->neg[i] += (double)rng_below(rng, 5);
    h->zero_count += (double)rng_below(rng, 3);
    h->count = total(h);
    h->sum = (double)rng_below(rng, 1000);
    return h;
}

/* One layout, the usual case: a reset is what any bucket says. */
static void test_resets_of_one_layout(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 2000)
    {
        struct histogram *prev = gen(&rng, (int32_t)rng_below(&rng, 13) - 4), *cur;
        cur = gen_like(&rng, prev);
        CHECK(!histogram_is_reset(cur, prev));
        double *fallen = rng_chance(&rng, 0.5) ? cur->pos : cur->neg;
        uint32_t n = fallen == cur->pos ? cur->n_pos : cur->n_neg,
                 i = n ? (uint32_t)rng_below(&rng, n) : 0;
        if (n) {
            double before = fallen == cur->pos ? prev->pos[i] : prev->neg[i];
            fallen[i] = before - 1; /* the count does not show it */
            CHECK(histogram_is_reset(cur, prev));
            fallen[i] = NAN; /* compares as no fall */
            CHECK(!histogram_is_reset(cur, prev));
        }
        arena_reset(&arena);
    }
}

static void test_sum_naive(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 300)
    {
        struct histogram_sum *sum = NULL;
        struct histogram *plain = NULL, *first = NULL, *out;
        unsigned notes = 0;
        size_t n = 1 + rng_below(&rng, 6);
        for (size_t i = 0; i < n; i++) {
            struct histogram *h = gen(&rng, (int32_t)rng_below(&rng, 13) - 4);
            h->zero_threshold = rng_chance(&rng, 0.3) ? rng_unit(&rng) : 0;
            if (first && rng_chance(&rng, 0.5)) h = gen_like(&rng, first);
            if (!first) first = h;
            plain = plain ? add(plain, h, &notes) : h;
            CHECK_OK(histogram_sum_add(&arena, &sum, h, &notes, &err), &err);
        }
        CHECK_OK(histogram_sum_finish(&arena, sum, false, &out, &err), &err);
        check_same(out, plain); /* whole numbers: nothing to compensate */
        arena_reset(&arena);
    }
}

/* ---- equality and resets ---- */

static void test_equal(void **state)
{
    (void)state;
    struct histogram *a = H(&arena, "count:3 sum:-0.0 z_bucket_w:0.5 buckets:[1 2]"), *b;
    CHECK_OK(histogram_copy(&arena, a, &b, &err), &err);
    CHECK(histogram_equal(a, b));
    b->reset_hint = HISTOGRAM_RESET_GAUGE;
    CHECK(histogram_equal(a, b));
    b->sum = 0; /* by bits */
    CHECK(!histogram_equal(a, b));
    b->sum = a->sum;
    struct histogram_span parts[] = {{0, 0}, {0, 2}, {7, 0}};
    b->pos_spans = parts, b->n_pos_spans = 3;
    CHECK(histogram_equal(a, b)); /* empty spans mean nothing */
    b = H(&arena, "count:3 sum:-0.0 z_bucket_w:0.5 buckets:[1 2 0]");
    CHECK(!histogram_equal(a, b)); /* a listed empty bucket is one */
    a = H(&arena, "sum:NaN"), b = H(&arena, "sum:NaN");
    CHECK(histogram_equal(a, b));
    CHECK(!histogram_equal(H(&arena, "schema:-53 custom_values:[1]"),
                           H(&arena, "schema:-53 custom_values:[2]")));
    CHECK(!histogram_equal(H(&arena, "schema:1"), H(&arena, "")));
}

static void test_resets(void **state)
{
    (void)state;
    /* clang-format off */
    static const struct { bool reset; const char *cur, *prev; } cases[] = {
        {false, "count:4 buckets:[1 2 1]", "count:4 buckets:[1 2 1]"},
        {true, "count:3 buckets:[1 2]", "count:4 buckets:[1 2 1]"},
        {true, "count:9 buckets:[1 2]", "count:4 buckets:[1 2 1]"},          /* a bucket vanished */
        {false, "count:9 buckets:[1 2]", "count:4 buckets:[1 2 0]"},         /* an empty one did */
        {true, "count:5 buckets:[1 1 3]", "count:4 buckets:[1 2 1]"},
        {true, "count:5 n_buckets:[1 1 3]", "count:4 n_buckets:[1 2 1]"},
        {false, "count:4 sum:1", "count:4 sum:2"},                           /* sum is not looked at */
        {false, "schema:0 count:9 buckets:[1 5 3]", "schema:2 count:9 offset:-3 buckets:[1 0 0 0 1 1 1 1 1 1 1]"},
        {true, "schema:0 count:9 buckets:[1 4 4]", "schema:2 count:9 offset:-3 buckets:[1 0 0 0 1 2 1 1 1 1 1]"},
        {true, "schema:1 count:9", "schema:0 count:1"},
        {true, "count:9 z_bucket_w:0.1", "count:1 z_bucket_w:0.2"},
        {true, "count:9 z_bucket:1", "count:1 z_bucket:2"},
        {false, "count:9 z_bucket_w:0.25 z_bucket:3", "count:3 z_bucket_w:0.001 z_bucket:1 offset:-2 buckets:[2]"},
        {true, "count:9 z_bucket_w:0.25 z_bucket:2", "count:3 z_bucket_w:0.001 z_bucket:1 offset:-2 buckets:[2]"},
        {true, "count:9 z_bucket_w:0.2 z_bucket:9", "count:3 z_bucket_w:0.001 z_bucket:1 offset:-2 buckets:[2]"}, /* cut */
        {false, "count:9 z_bucket_w:0.2 z_bucket:9", "count:3 z_bucket_w:0.001 z_bucket:3 offset:-2 buckets:[0]"},
        {true, "schema:-53 count:9 custom_values:[1]", "count:1"},
        {true, "count:9", "schema:-53 count:1 custom_values:[1]"},
        {true, "schema:-53 count:9 custom_values:[1 2] buckets:[1 8]", "schema:-53 count:3 custom_values:[1 2] buckets:[2]"},
        {false, "schema:-53 count:9 custom_values:[1 2] buckets:[2 8]", "schema:-53 count:3 custom_values:[1 2] buckets:[2]"},
        {false, "schema:-53 count:15 custom_values:[2 3 4 6] buckets:[1 0 2 5 8]", "schema:-53 count:15 custom_values:[2 4 6] buckets:[1 2 5 7]"},
        {true, "schema:-53 count:15 custom_values:[2 3 4 6] buckets:[1 0 1 5 8]", "schema:-53 count:15 custom_values:[2 4 6] buckets:[1 2 5 7]"},
        {true, "schema:-53 count:15 custom_values:[2] buckets:[8 7]", "schema:-53 count:15 custom_values:[2 4] buckets:[1 2 12]"},
        {false, "count:5 hint:reset", "count:4"}, {true, "count:3 hint:not_reset", "count:4"}, {true, "count:3 hint:gauge", "count:4"},
    };
    /* clang-format on */
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        if (histogram_is_reset(H(&arena, cases[i].cur), H(&arena, cases[i].prev)) != cases[i].reset)
            test_fail(__FILE__, __LINE__, "%s after %s", cases[i].cur, cases[i].prev);
    }
}

/* ---- trims ---- */

static void test_trim(void **state)
{
    (void)state;
#define T1 "sum:123.75 count:34 z_bucket:1 z_bucket_w:0.001 buckets:[2 4 8 16] n_buckets:[1 2]"
#define T2                                                                                         \
    "schema:2 sum:12.8286080906 count:28 z_bucket:1 z_bucket_w:0.001 buckets:[1 2 4 7 3] "         \
    "n_buckets:[1 5 3 1]"
#define CB "schema:-53 sum:172.5 count:15 custom_values:[5 10 15 20] buckets:[1 6 4 3 1]"
#define CN "schema:-53 sum:172.5 count:17 custom_values:[-10 5 10 15 20] buckets:[2 1 6 4 3 1]"
#define ONE "schema:-53 sum:100 count:100 buckets:[100]"
    /* clang-format off */
    static const struct { const char *h; double x; bool below; const char *expected; } cases[] = {
        {T1, -INFINITY, false, T1}, {T1, INFINITY, true, T1}, {T1, -INFINITY, true, "z_bucket_w:0.001"},
        {T1, 0, true, "sum:-3.53578390593273768 count:3.5 z_bucket:0.5 z_bucket_w:0.001 n_buckets:[1 2]"},
        {T1, 1.4142135624, false, "count:26 sum:116.50067065070982 z_bucket_w:0.001 buckets:[0 2 8 16]"},
        {T1, -1, false, "count:32 sum:119.50104602052653 z_bucket:1 z_bucket_w:0.001 buckets:[2 4 8 16] n_buckets:[1]"},
        {T2, 1.13, true, "schema:2 count:13.410582181123704 sum:-9.385798726068233 z_bucket:1 z_bucket_w:0.001 buckets:[1 1.410582181123704] n_buckets:[1 5 3 1]"},
        {T2, -1.3, true, "schema:2 count:2.45786052095524 sum:-3.5189307983595066 z_bucket_w:0.001 n_offset:2 n_buckets:[1.45786052095524 1]"},
        {"sum:8 count:12 z_bucket:2 z_bucket_w:0.5 buckets:[10]", 0.1, false, "count:11.6 sum:7.551067811865476 z_bucket:1.6 z_bucket_w:0.5 buckets:[10]"},
        {"sum:-8 count:12 z_bucket:2 z_bucket_w:0.5 n_buckets:[10]", 0, false, "z_bucket_w:0.5"},
        {"count:5 z_bucket:5 z_bucket_w:0.1", 0.05, true, "count:3.75 sum:-0.09375 z_bucket:3.75 z_bucket_w:0.1"},
        {CB, 15, true, "schema:-53 count:11 sum:97.5 custom_values:[5 10 15 20] buckets:[1 6 4]"},
        {CB, 13, true, "schema:-53 count:9.4 sum:75.1 custom_values:[5 10 15 20] buckets:[1 6 2.4]"},
        {CB, 13, false, "schema:-53 count:5.6 sum:94.9 custom_values:[5 10 15 20] offset:2 buckets:[1.6 3 1]"},
        {CB, 50, true, "schema:-53 count:14 sum:150 custom_values:[5 10 15 20] buckets:[1 6 4 3]"},
        {CB, INFINITY, false, "schema:-53 custom_values:[5 10 15 20]"}, {CB, 0, true, "schema:-53 custom_values:[5 10 15 20]"},
        {CB, 0, false, CB}, {CB, INFINITY, true, CB},
        {CN, 2, true, "schema:-53 count:2.8 sum:-23.2 custom_values:[-10 5 10 15 20] buckets:[2 0.8]"},
        {CN, -15, true, "schema:-53 count:2 sum:-30 custom_values:[-10 5 10 15 20] buckets:[2]"},
        {ONE, 10, false, "schema:-53"}, {ONE, INFINITY, true, ONE}, {ONE, -INFINITY, false, ONE}, {ONE, -INFINITY, true, "schema:-53"},
        {"schema:-53 sum:33 count:101 custom_values:[5] buckets:[1 100]", -10, false, "schema:-53 sum:500 count:100 custom_values:[5] buckets:[0 100]"},
        {"schema:-53 sum:33 count:101 custom_values:[5] buckets:[1 100]", 2, true, "schema:-53 sum:0.4 count:0.4 custom_values:[5] buckets:[0.4]"},
        {"schema:-53 sum:33 count:101 custom_values:[-5] buckets:[1 100]", -2, false, "schema:-53 sum:-200 count:100 custom_values:[-5] buckets:[0 100]"},
        {"", 5, true, ""}, {"", 5, false, ""},
    };
    /* clang-format on */
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct histogram *got, *expected = H(&arena, cases[i].expected);
        CHECK_OK(
            histogram_trim(&arena, H(&arena, cases[i].h), cases[i].x, cases[i].below, &got, &err),
            &err);
        if (got->n_pos != expected->n_pos)
            CHECK_OK(histogram_scale(&arena, expected, 1, false, &expected, &err), &err);
        CHECK(fabs(got->sum - expected->sum) <= fabs(expected->sum) * 1e-9);
        CHECK(fabs(got->count - expected->count) <= expected->count * 1e-9);
        CHECK_NEAR(got->zero_count, expected->zero_count);
        CHECK(got->n_pos == expected->n_pos && got->n_neg == expected->n_neg);
        for (uint32_t k = 0; k < got->n_pos; k++)
            CHECK(fabs(got->pos[k] - expected->pos[k]) < 1e-9);
        for (uint32_t k = 0; k < got->n_neg; k++)
            CHECK(fabs(got->neg[k] - expected->neg[k]) < 1e-9);
    }
}

/* The two parts of a trim are the whole, and the fraction says how large they are. */
static void test_trim_parts(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 1000)
    {
        struct histogram *h = gen(&rng, (int32_t)rng_below(&rng, 13) - 4), *below, *above;
        double x = rng_normal(&rng) * 4;
        CHECK_OK(histogram_trim(&arena, h, x, true, &below, &err), &err);
        CHECK_OK(histogram_trim(&arena, h, x, false, &above, &err), &err);
        CHECK(fabs(below->count + above->count - h->count) <= h->count * 1e-12);
        if (h->count)
            CHECK(fabs(histogram_fraction(-INFINITY, x, h, NULL) * h->count - below->count) < 1e-9);
        arena_reset(&arena);
    }
}

static void test_interpolate(void **state)
{
    (void)state;
    struct histogram *a = H(&arena, "count:1 sum:1 buckets:[1] offset:1"),
                     *b = H(&arena, "count:4 sum:7 buckets:[2 2] offset:1"), *out;
    unsigned notes = 0;
    CHECK_OK(histogram_interpolate(&arena, a, b, 0.5, true, &out, &notes, &err), &err);
    check_same(out, H(&arena, "count:2.5 sum:4 buckets:[1.5 1] offset:1"));
    CHECK_OK(histogram_interpolate(&arena, b, a, 0.5, true, &out, &notes, &err),
             &err); /* a reset: from 0 */
    check_same(out, H(&arena, "count:0.5 sum:0.5 buckets:[0.5] offset:1"));
    CHECK_OK(histogram_interpolate(&arena, b, a, 0.5, false, &out, &notes, &err), &err);
    check_same(out, H(&arena, "count:2.5 sum:4 buckets:[1.5 1] offset:1"));
    CHECK_U64(notes, 0);
    CHECK_OK(
        histogram_interpolate(&arena, a, H(&arena, "schema:-53"), 0.5, false, &out, &notes, &err),
        &err);
    CHECK(out == NULL && notes == HISTOGRAM_NOTE_MIXED_SCHEMAS);
}

/* Thresholds and counts that no client sends: everything ends. */
static void test_hostile(void **state)
{
    (void)state;
    static const double odd[] = {NAN, INFINITY, -INFINITY, -1, 0, 1e-320, 1e308};
    for (size_t i = 0; i < COUNT_OF(odd); i++) {
        for (size_t k = 0; k < COUNT_OF(odd); k++) {
            struct histogram *a = H(&arena, "count:3 buckets:[1 NaN Inf] n_buckets:[1]"),
                             *b = H(&arena, "count:3 buckets:[1]");
            a->zero_threshold = odd[i], b->zero_threshold = odd[k];
            a->pos_spans[0].offset = INT32_MIN, b->pos_spans[0].offset = INT32_MAX - 1;
            unsigned notes = 0;
            (void)add(a, b, &notes);
            (void)sub(b, a, &notes);
            (void)histogram_is_reset(a, b);
            (void)histogram_quantile(0.5, a, NULL);
        }
    }
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_bound_table),
        T(test_bounds),
        T(test_text),
        T(test_buckets),
        T(test_walks),
        T(test_add_examples),
        T(test_custom_bounds),
        T(test_hints),
        T(test_add_naive),
        T(test_add_keeps_count),
        T(test_scale),
        T(test_sums),
        T(test_sum_hints),
        T(test_mean_overflow),
        T(test_resets_of_one_layout),
        T(test_sum_naive),
        T(test_equal),
        T(test_resets),
        T(test_trim),
        T(test_trim_parts),
        T(test_interpolate),
        T(test_hostile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
