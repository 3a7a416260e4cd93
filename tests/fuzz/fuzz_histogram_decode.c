/* tests/fuzz/fuzz_histogram_decode.c: a histogram of any bytes. What is accepted comes back with the same bits, and
 * every computation that queries do with it ends, in bounds. */
#include <math.h>

#include "query/kernel.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ARENA_BYTES ((size_t)256 << 20)

static void check_encodes_again(struct arena *arena, const struct histogram *h)
{
    struct err err;
    struct buf b;
    struct histogram *again;
    buf_init(&b, MEM_STORAGE);
    histogram_encode(&b, h);
    struct reader r = reader_init(buf_bytes(&b));
    ASSERT(histogram_decode(&r, arena, &again, &err) == ERR_OK);
    ASSERT(reader_finish(&r, &err) == ERR_OK);
    ASSERT(histogram_same_bits(h, again));
    ASSERT(histogram_equal(h, again) || isnan(h->zero_threshold)); /* compared as a number */
    err_ignore(histogram_validate(h, &err));                       /* either answer is fine */
    buf_release(&b);
}

static void compute_alone(struct arena *arena, const struct histogram *h)
{
    struct err err;
    struct histogram_bucket *buckets;
    struct histogram *out;
    size_t n;
    struct buf text;
    ASSERT(histogram_buckets(arena, h, &buckets, &n, &err) == ERR_OK);
    ASSERT(n <= (size_t)h->n_pos + h->n_neg + 1);
    static const double points[] = {-INFINITY, -1, 0, 0.3, 0.5, 1, 7, INFINITY, NAN};
    for (size_t i = 0; i < COUNT_OF(points); i++) {
        (void)histogram_quantile(points[i], h, NULL);
        (void)histogram_fraction(points[i], points[(i + 3) % COUNT_OF(points)], h, NULL);
        ASSERT(histogram_trim(arena, h, points[i], i & 1, &out, &err) == ERR_OK);
        ASSERT(histogram_scale(arena, h, points[i], i & 1, &out, &err) == ERR_OK);
    }
    (void)histogram_extract(FN_HISTOGRAM_STDDEV, h);
    buf_init(&text, MEM_QUERY);
    histogram_print(&text, h);
    buf_release(&text);
}

static void compute_both(struct arena *arena, const struct histogram *a, const struct histogram *b)
{
    struct err err;
    struct histogram *out;
    struct histogram_sum *sum = NULL;
    unsigned notes = 0;
    (void)histogram_is_reset(a, b);
    (void)histogram_equal(a, b);
    ASSERT(histogram_add(arena, a, b, &out, &notes, &err) == ERR_OK);
    ASSERT(!out == !!(notes & HISTOGRAM_NOTE_MIXED_SCHEMAS));
    ASSERT(histogram_sub(arena, a, b, &out, &notes, &err) == ERR_OK);
    ASSERT(histogram_interpolate(arena, a, b, 0.25, true, &out, &notes, &err) == ERR_OK);
    for (int i = 0; i < 3; i++)
        ASSERT(histogram_sum_add(arena, &sum, i == 1 ? b : a, &notes, &err) == ERR_OK);
    ASSERT(histogram_sum_finish(arena, sum, true, &out, &err) == ERR_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err;
    struct arena arena;
    struct histogram *a, *b;
    arena_init(&arena, MEM_STORAGE, ARENA_BYTES);
    struct reader r = reader_init(bytes_of(data, size));
    if (histogram_decode(&r, &arena, &a, &err) == ERR_OK) {
        check_encodes_again(&arena, a);
        compute_alone(&arena, a);
        /* A second one may follow: they meet each other. */
        if (histogram_decode(&r, &arena, &b, &err) == ERR_OK) {
            check_encodes_again(&arena, b);
            compute_both(&arena, a, b);
            compute_both(&arena, b, a);
        }
    }
    arena_release(&arena);
    return 0;
}
