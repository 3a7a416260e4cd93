/* tests/storage/test_histogram.c: histograms as bytes and back, and every reason to refuse one. */
#include <math.h>

#include "tests/storage/gen.h"

static void check_roundtrip(struct arena *arena, const struct histogram *h)
{
    struct err err;
    struct buf b, again;
    struct histogram *out, *copy;
    buf_init(&b, MEM_BASE);
    buf_init(&again, MEM_BASE);
    histogram_encode(&b, h);
    uint8_t *exact = malloc(b.len); /* so that ASan sees a byte too far */
    CHECK(exact != NULL);
    memcpy(exact, b.p, b.len);
    struct reader r = reader_init(bytes_of(exact, b.len));
    CHECK_OK(histogram_decode(&r, arena, &out, &err), &err);
    CHECK_OK(reader_finish(&r, &err), &err);
    CHECK(histogram_same_bits(h, out));
    histogram_encode(&again, out);
    CHECK_BYTES(buf_bytes(&again), buf_bytes(&b));
    CHECK_OK(histogram_copy(arena, h, &copy, &err), &err);
    CHECK(histogram_same_bits(h, copy));
    free(exact);
    for (size_t len = 0; len < b.len; len++) {
        exact = malloc(len ? len : 1);
        CHECK(exact != NULL);
        memcpy(exact, b.p, len);
        r = reader_init(bytes_of(exact, len));
        CHECK_ERR(histogram_decode(&r, arena, &out, &err), ERR_CORRUPT);
        free(exact);
    }
    buf_release(&b);
    buf_release(&again);
}

static double gen_any_double(struct rng *rng)
{
    switch (rng_below(rng, 8)) {
    case 0: return double_from_bits(rng_u64(rng));
    case 1: return stale_nan();
    case 2: return -0.0;
    case 3: return INFINITY;
    case 4: return 0x1p53;
    case 5: return 0x1p53 + 2;
    default: return (double)rng_below(rng, 1000);
    }
}

static void test_roundtrip(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 400)
    {
        struct arena arena;
        arena_init(&arena, MEM_BASE, 0);
        struct histogram *h = gen_histogram(&rng, &arena, NULL);
        check_roundtrip(&arena, h);
        /* Any bits at any place. */
        if (h->n_pos) h->pos[rng_below(&rng, h->n_pos)] = gen_any_double(&rng);
        if (h->n_neg) h->neg[rng_below(&rng, h->n_neg)] = gen_any_double(&rng);
        if (rng_chance(&rng, 0.3)) h->count = gen_any_double(&rng);
        if (rng_chance(&rng, 0.3)) h->sum = gen_any_double(&rng);
        if (rng_chance(&rng, 0.3)) h->zero_count = gen_any_double(&rng);
        if (rng_chance(&rng, 0.3)) h->zero_threshold = gen_any_double(&rng);
        if (rng_chance(&rng, 0.3)) h->start_ms = (int64_t)rng_u64(&rng);
        check_roundtrip(&arena, h);
        arena_release(&arena);
    }
}

/* A flipped byte is refused or gives another histogram that is fine itself. */
static void test_flipped(void **state)
{
    (void)state;
    struct rng rng;
    struct err err;
    PROPERTY_LOOP(&rng, 3000)
    {
        struct arena arena;
        struct buf b;
        arena_init(&arena, MEM_BASE, 1 << 20);
        buf_init(&b, MEM_BASE);
        histogram_encode(&b, gen_histogram(&rng, &arena, NULL));
        for (int k = 0; k < 3; k++) b.p[rng_below(&rng, b.len)] = (uint8_t)rng_u64(&rng);
        struct reader r = reader_init(buf_bytes(&b));
        struct histogram *h;
        enum err_code rc = histogram_decode(&r, &arena, &h, &err);
        if (rc)
            CHECK_ERR(rc, ERR_CORRUPT);
        else
            check_roundtrip(&arena, h);
        buf_release(&b);
        arena_release(&arena);
    }
}

/* The bytes of format version 1. */
static void test_format(void **state)
{
    (void)state;
    struct histogram_span spans[] = {{-2, 2}, {2, 1}};
    double counts[] = {3, 5, 1};
    struct histogram h = {.schema = 1,
                          .is_int = true,
                          .reset_hint = HISTOGRAM_RESET_NO,
                          .count = 300,
                          .sum = 0.5,
                          .pos_spans = spans,
                          .n_pos_spans = 2,
                          .pos = counts,
                          .n_pos = 3};
    static const uint8_t expected[] = {1,    0x46, 2, 0, 0, 0, 0, 0, 0, 0xe0, 0x3f,
                                       0xac, 2,    2, 3, 2, 4, 1, 6, 4, 7};
    struct buf b;
    buf_init(&b, MEM_BASE);
    histogram_encode(&b, &h);
    CHECK_BYTES(buf_bytes(&b), bytes_of(expected, sizeof(expected)));
    buf_release(&b);
}

/* What sizes memory is checked against the bytes that are there. */
static void test_hostile(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        uint8_t tail[16]; /* after version, flags, schema, sum and count 0 */
        size_t len;
        uint8_t flags, schema;
    } cases[] = {
        {"spans without bytes", {0xff, 0xff, 3}, 3, 0x40, 0},
        {"a span of 2^32 buckets", {1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f}, 7, 0x40, 0},
        {"buckets without bytes", {1, 0, 0xff, 0xff, 3, 0}, 6, 0x40, 0},
        {"doubles without bytes", {1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0}, 11, 0x00, 0},
        {"negative gap", {2, 0, 1, 1, 1, 2, 2}, 7, 0x40, 0},
        {"an offset over 2^31", {1, 0x80, 0x80, 0x80, 0x80, 0x20, 1, 2}, 8, 0x40, 0},
        {"an index over 2^31", {2, 0xfe, 0xff, 0xff, 0xff, 0x0f, 1, 0, 1, 2, 2}, 11, 0x40, 0},
        {"a count below 0", {1, 0, 1, 1}, 4, 0x40, 0},
        {"an unknown flag", {0}, 1, 0xc0, 0},
        {"an unknown schema", {0}, 1, 0x40, 18},
        {"custom buckets beyond the bounds", {1, 0, 2, 2, 2, 0}, 6, 0x40, 105},
        {"a negative custom bucket", {1, 1, 1, 2, 0}, 5, 0x40, 105},
        {"bounds without bytes", {0, 0xff, 0xff, 3}, 4, 0x40, 105},
        {"a NaN bound", {0, 1, 0, 0, 0, 0, 0, 0, 0xf8, 0x7f}, 10, 0x40, 105},
        {"an infinite bound", {0, 1, 0, 0, 0, 0, 0, 0, 0xf0, 0x7f}, 10, 0x40, 105},
        {"custom with a negative side", {0, 0, 0}, 3, 0x60, 105},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        uint8_t bytes[32] = {1, cases[i].flags, cases[i].schema};
        size_t n = cases[i].flags & 0x40 ? 12 : 19; /* count: a varint or a double */
        memcpy(bytes + n, cases[i].tail, cases[i].len > 13 ? 13 : cases[i].len);
        struct arena arena;
        struct err err;
        struct histogram *h;
        arena_init(&arena, MEM_BASE, 1 << 16);
        struct reader r = reader_init(bytes_of(bytes, n + cases[i].len));
        if (histogram_decode(&r, &arena, &h, &err) != ERR_CORRUPT)
            test_fail(__FILE__, __LINE__, "accepted: %s", cases[i].what);
        CHECK(arena.used_bytes <= 1 << 13);
        arena_release(&arena);
    }
}

/* ---- validation: the texts of the peers ---- */

static struct histogram_span spans_1_2[] = {{0, 1}, {1, 1}}, span_2[] = {{0, 2}},
                             gap[] = {{0, 1}, {-1, 1}}, below[] = {{-1, 2}}, far[] = {{1025, 2}},
                             low[] = {{-1076, 1}}, lowest[] = {{-1075, 1}}, three[] = {{1, 2}},
                             huge[] = {{0, 4000000000u}, {0, 4000000000u}};
static double one[] = {1}, ones[] = {1, 1}, fall[] = {3, -1}, minus_half[] = {-0.5, 1},
              big[] = {0x1p53, 0x1p54}, nans[] = {NAN, 1}, one_two[] = {1, 2}, two_two[] = {2, 2},
              one_inf[] = {1, INFINITY}, one_nan[] = {1, NAN}, inf_one[] = {-INFINITY, 1};

#define POS(s, v) .pos_spans = s, .n_pos_spans = COUNT_OF(s), .pos = v, .n_pos = COUNT_OF(v)
#define NEG(s, v) .neg_spans = s, .n_neg_spans = COUNT_OF(s), .neg = v, .n_neg = COUNT_OF(v)
#define BOUNDS(v) .bounds = v, .n_bounds = COUNT_OF(v)

/* clang-format off */
static const struct {
    const char *text; /* NULL: valid */
    struct histogram h;
} cases[] = {
    {NULL, {.is_int = true}},
    {NULL, {.is_int = true, .count = 2, POS(spans_1_2, ones)}},
    {NULL, {.is_int = true, .count = 5, .zero_count = 1, POS(spans_1_2, ones), NEG(span_2, ones)}},
    {NULL, {.is_int = true, .count = 9, .sum = NAN, POS(span_2, ones)}},
    {NULL, {.count = 9, POS(span_2, ones)}},
    {NULL, {.count = 9, POS(span_2, nans)}},
    {NULL, {.count = 2, POS(lowest, one)}},
    {NULL, {.schema = -53, .count = 2, POS(span_2, ones), BOUNDS(one_two)}},
    {NULL, {.schema = -53, .count = 2, POS(three, ones), BOUNDS(one_two)}},
    {NULL, {.schema = -53, .count = 2, POS(span_2, ones), BOUNDS(inf_one)}},
    {NULL, {.schema = -53}},
    {"3 observations found in buckets, but the Count field is 4: histogram's observation count should equal the number of "
     "observations found in the buckets (in absence of NaN)",
     {.is_int = true, .count = 4, .zero_count = 1, POS(span_2, ones)}},
    {"3 observations found in buckets, but the Count field is 2: histogram's observation count should be at least the number "
     "of observations found in the buckets",
     {.is_int = true, .count = 2, .sum = NAN, .zero_count = 1, POS(span_2, ones)}},
    {"positive side: bucket number 2 has observation count of -1: histogram has a bucket whose observation count is negative",
     {.is_int = true, .count = 2, POS(span_2, fall)}},
    {"negative side: bucket number 1 has observation count of -0.5: histogram has a bucket whose observation count is negative",
     {.count = 2, NEG(span_2, minus_half)}},
    {"positive side: span number 2 with offset -1: histogram has a span whose offset is negative",
     {.is_int = true, .count = 2, POS(gap, ones)}},
    {"positive side: spans need 2 buckets, have 1 buckets: histogram spans specify different number of buckets than provided",
     {.is_int = true, .count = 1, POS(span_2, one)}},
    {"positive side: spans need 8000000000 buckets, have 2 buckets: histogram spans specify different number of buckets than "
     "provided", {.count = 2, POS(huge, ones)}},
    {"histogram with exponential schema must not have custom bounds", {.count = 2, POS(span_2, ones), BOUNDS(one_two)}},
    {"custom buckets: previous bound is 2.000000 and current is 2.000000: histogram custom bounds must be in strictly "
     "increasing order", {.schema = -53, BOUNDS(two_two)}},
    {"custom buckets: last +Inf bound must not be explicitly defined: histogram custom bounds must be finite",
     {.schema = -53, BOUNDS(one_inf)}},
    {"custom buckets: histogram custom bounds must not be NaN", {.schema = -53, BOUNDS(one_nan)}},
    {"custom buckets: only 1 custom bounds defined which is insufficient to cover total span length of 3: histogram custom "
     "bounds are too few", {.schema = -53, .count = 2, POS(three, ones), BOUNDS(one)}},
    {"custom buckets: span number 1 with offset -1: histogram has a span whose offset is negative",
     {.schema = -53, .count = 2, POS(below, ones), BOUNDS(one_two)}},
    {"custom buckets: must have zero count of 0", {.schema = -53, .zero_count = 1, BOUNDS(one_two)}},
    {"custom buckets: must have zero threshold of 0", {.schema = -53, .zero_threshold = 1, BOUNDS(one_two)}},
    {"custom buckets: must not have negative spans", {.schema = -53, NEG(span_2, ones), BOUNDS(one_two)}},
    {"custom buckets: must not have negative buckets", {.schema = -53, .neg = ones, .n_neg = 2, BOUNDS(one_two)}},
    {"histogram has an invalid schema, which must be between -4 and 8 for exponential buckets, or -53 for custom buckets, got "
     "schema 100", {.schema = 100}},
    {"zero bucket has observation count of -1: histogram's observation count is negative", {.zero_count = -1}},
    {"observation count is -2.5: histogram's observation count is negative", {.count = -2.5}},
    /* Ours: what the peers let pass. */
    {"positive side: bucket number 2 has an observation count over 2^53", {.is_int = true, POS(span_2, big)}},
    {"histogram has an observation count over 2^53", {.is_int = true, .count = 0x1p60}},
    {"positive side: span number 1 covers indexes 1025 to 1026, outside of what schema 0 can hold",
     {.count = 2, POS(far, ones)}},
    {"negative side: span number 1 covers indexes -1076 to -1076, outside of what schema 0 can hold",
     {.count = 2, NEG(low, one)}},
};
/* clang-format on */

static void test_validate(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct err err;
        enum err_code rc = histogram_validate(&cases[i].h, &err);
        if (cases[i].text) {
            CHECK_ERR(rc, ERR_INVALID);
            CHECK_STR(str_of(err.text), cases[i].text);
        } else {
            CHECK_OK(rc, &err);
        }
    }
}

static void test_stale(void **state)
{
    (void)state;
    struct histogram h = {.sum = stale_nan()};
    CHECK(histogram_is_stale(&h));
    h.sum = NAN;
    CHECK(!histogram_is_stale(&h));
    h.sum = 0;
    CHECK(!histogram_is_stale(&h));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_roundtrip), cmocka_unit_test(test_flipped),
        cmocka_unit_test(test_format),    cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_validate),  cmocka_unit_test(test_stale),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
