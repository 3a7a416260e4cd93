/* tests/storage/gen.h: random samples, histograms and label sets for the tests of storage. */
#ifndef QUIPU_TESTS_STORAGE_GEN_H
#define QUIPU_TESTS_STORAGE_GEN_H

#include <math.h>

#include "storage/samples.h"
#include "tests/quipu_test.h"

#define GEN_VALUE_KINDS 8
#define GEN_TIME_KINDS 6

/* Values of many shapes; `kind` picks the shape, `i` the place in the series. */
__attribute__((unused)) static uint64_t gen_value_bits(struct rng *rng, unsigned kind,
                                                       double *state)
{
    static const uint64_t odd[] = {UINT64_C(0),
                                   UINT64_C(0x8000000000000000),
                                   UINT64_C(0x7ff0000000000000),
                                   UINT64_C(0xfff0000000000000),
                                   STALE_NAN_BITS,
                                   UINT64_C(0x7ff8000000000001),
                                   UINT64_C(0xfff4dead0000beef),
                                   UINT64_C(1),
                                   UINT64_MAX,
                                   UINT64_C(0x7fefffffffffffff)};
    switch (kind) {
    case 0: return double_bits(*state);                                /* constant */
    case 1: return double_bits(*state += (double)rng_below(rng, 100)); /* counter */
    case 2:                                                            /* counter with resets */
        *state = rng_chance(rng, 0.02) ? 0 : *state + (double)rng_below(rng, 1000);
        return double_bits(*state);
    case 3: return double_bits(*state += rng_normal(rng));           /* random walk */
    case 4: return double_bits((double)rng_below(rng, 10000) / 100); /* two decimals */
    case 5: return rng_u64(rng);                                     /* any bits */
    case 6: return odd[rng_below(rng, COUNT_OF(odd))];
    default: /* mostly constant, stale now and then */
        if (rng_chance(rng, 0.1)) *state = (double)rng_below(rng, 5);
        return rng_chance(rng, 0.05) ? STALE_NAN_BITS : double_bits(*state);
    }
}

/* A step of time > 0. */
__attribute__((unused)) static uint64_t gen_step_ms(struct rng *rng, unsigned kind)
{
    switch (kind) {
    case 0: return 15000;
    case 1: return 15000 + (rng_chance(rng, 0.05) ? rng_below(rng, 7) : 0);
    case 2: return 1000 - 5 + rng_below(rng, 11);
    case 3: return 1 + rng_below(rng, 1000000);
    case 4: return 1 + (rng_u64(rng) >> (32 + rng_below(rng, 32))); /* up to 49 days */
    default: return 1 + (rng_u64(rng) >> rng_below(rng, 64));       /* any */
    }
}

/* n float samples at most (fewer when time runs out), appended to s. */
__attribute__((unused)) static void gen_floats(struct rng *rng, struct samples *s, size_t n,
                                               unsigned value_kind, unsigned time_kind)
{
    struct err err;
    uint64_t t = time_kind == 5 ? (rng_chance(rng, 0.3) ? (uint64_t)INT64_MIN : rng_u64(rng))
                                : UINT64_C(1700000000000) + rng_below(rng, 1000000);
    double state = (double)rng_below(rng, 1000000);
    for (size_t i = 0; i < n; i++) {
        CHECK_OK(samples_reserve(s, 1, &err), &err);
        s->t_ms[s->n] = (int64_t)t;
        uint64_t bits = gen_value_bits(rng, value_kind, &state);
        memcpy(&s->v[s->n], &bits, 8);
        if (s->h) s->h[s->n] = NULL;
        s->n++;
        uint64_t next = t + gen_step_ms(rng, time_kind);
        if ((int64_t)next <= (int64_t)t) {
            if ((int64_t)t == INT64_MAX) return;
            next = (uint64_t)INT64_MAX;
        }
        t = next;
    }
}

__attribute__((unused)) static void
check_same_samples(const struct samples *got, const struct samples *expected, size_t from, size_t n)
{
    CHECK_U64(got->n, n);
    for (size_t i = 0; i < n; i++) {
        CHECK_I64(got->t_ms[i], expected->t_ms[from + i]);
        const struct histogram *a = got->h ? got->h[i] : NULL;
        const struct histogram *b = expected->h ? expected->h[from + i] : NULL;
        CHECK((a != NULL) == (b != NULL));
        if (a) CHECK(histogram_same_bits(a, b));
        uint64_t x, y;
        memcpy(&x, &got->v[i], 8);
        memcpy(&y, &expected->v[from + i], 8);
        CHECK_U64(x, y);
    }
}

/* A histogram in the arena; same_shape: like `prev` with larger counts. */
__attribute__((unused)) static struct histogram *gen_histogram(struct rng *rng, struct arena *arena,
                                                               const struct histogram *prev)
{
    struct err err;
    struct histogram *h = NULL;
    if (prev) {
        CHECK_OK(histogram_copy(arena, prev, &h, &err), &err);
        for (uint32_t i = 0; i < h->n_pos; i++) h->pos[i] += (double)rng_below(rng, 50);
        for (uint32_t i = 0; i < h->n_neg; i++) h->neg[i] += (double)rng_below(rng, 3);
        h->count += (double)rng_below(rng, 1000);
        h->zero_count += (double)rng_below(rng, 3);
        h->sum += rng_normal(rng);
        return h;
    }
    h = ARENA_NEW(arena, struct histogram);
    CHECK(h != NULL);
    bool custom = rng_chance(rng, 0.2);
    h->schema = custom ? HISTOGRAM_SCHEMA_CUSTOM : (int32_t)rng_below(rng, 13) - 4;
    h->is_int = rng_chance(rng, 0.7);
    h->reset_hint = (uint8_t)rng_below(rng, 4);
    h->sum = rng_chance(rng, 0.1) ? 0 : rng_normal(rng) * 1000;
    if (rng_chance(rng, 0.05)) h->sum = stale_nan();
    h->start_ms = rng_chance(rng, 0.5) ? 0 : INT64_C(1700000000000);
    h->zero_threshold = custom ? 0 : 1e-128;
    h->n_pos_spans = (uint32_t)rng_below(rng, 4);
    h->n_neg_spans = custom ? 0 : (uint32_t)rng_below(rng, 3);
    h->pos_spans = ARENA_ARRAY(arena, struct histogram_span, h->n_pos_spans + 1);
    h->neg_spans = ARENA_ARRAY(arena, struct histogram_span, h->n_neg_spans + 1);
    for (uint32_t i = 0; i < h->n_pos_spans; i++) {
        h->pos_spans[i] = (struct histogram_span){
            (int32_t)rng_below(rng, 3) - (i || custom ? 0 : 1), 1 + (uint32_t)rng_below(rng, 4)};
        h->n_pos += h->pos_spans[i].length;
    }
    for (uint32_t i = 0; i < h->n_neg_spans; i++) {
        h->neg_spans[i] =
            (struct histogram_span){(int32_t)rng_below(rng, 3), 1 + (uint32_t)rng_below(rng, 3)};
        h->n_neg += h->neg_spans[i].length;
    }
    h->pos = ARENA_ARRAY(arena, double, h->n_pos + 1);
    h->neg = ARENA_ARRAY(arena, double, h->n_neg + 1);
    double scale = h->is_int ? 1 : 0.37;
    for (uint32_t i = 0; i < h->n_pos; i++)
        h->count += h->pos[i] = (double)rng_below(rng, 1000) * scale;
    for (uint32_t i = 0; i < h->n_neg; i++)
        h->count += h->neg[i] = (double)rng_below(rng, 10) * scale;
    if (!custom) h->count += h->zero_count = (double)rng_below(rng, 10) * scale;
    if (custom) {
        h->n_bounds = 20;
        h->bounds = ARENA_ARRAY(arena, double, h->n_bounds);
        for (uint32_t i = 0; i < h->n_bounds; i++) h->bounds[i] = (double)i * 1.5 + 0.1;
    }
    return h;
}

/* Histograms, with floats and changes of shape between them. */
__attribute__((unused)) static void gen_histograms(struct rng *rng, struct samples *s, size_t n)
{
    struct err err;
    int64_t t = INT64_C(1700000000000) + (int64_t)rng_below(rng, 100000);
    struct histogram *prev = NULL;
    for (size_t i = 0; i < n; i++) {
        if (rng_chance(rng, 0.1)) {
            CHECK_OK(samples_push(s, t, rng_normal(rng), NULL, &err), &err);
        } else {
            prev = gen_histogram(rng, s->arena, rng_chance(rng, 0.2) ? NULL : prev);
            CHECK_OK(samples_push(s, t, prev->sum, prev, &err), &err);
        }
        t += (int64_t)gen_step_ms(rng, (unsigned)rng_below(rng, 4));
    }
}

#endif
