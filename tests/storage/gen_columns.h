/* tests/storage/gen_columns.h: random columns of integers, shared by the tests of what is made of them. */
#ifndef QUIPU_TESTS_STORAGE_GEN_COLUMNS_H
#define QUIPU_TESTS_STORAGE_GEN_COLUMNS_H

#include "tests/quipu_test.h"

/* Mostly around the borders of frames. */
__attribute__((unused)) static size_t gen_column_length(struct rng *rng)
{
    static const size_t near[] = {1, 2, 8, 16, 119, 127, 128, 129, 239, 255, 256, 257, 1023, 1024};
    switch (rng_below(rng, 4)) {
    case 0: return near[rng_below(rng, COUNT_OF(near))];
    case 1: return rng_below(rng, 1500);
    default: return rng_below(rng, 300);
    }
}

#define GEN_COLUMN_KINDS 9

__attribute__((unused)) static int64_t
gen_column_value(struct rng *rng, unsigned kind, unsigned width, uint64_t base, int64_t before)
{
    static const int64_t extremes[] = {
        0, -1, 1, INT64_MIN, INT64_MAX, INT64_MIN + 1, INT64_MAX - 1};
    uint64_t noise = width ? rng_u64(rng) >> (64 - width) : 0;
    switch (kind) {
    case 0: return (int64_t)base;           /* constant */
    case 1: return (int64_t)(base + noise); /* one width */
    case 2: return (int64_t)(rng_u64(rng)); /* any */
    case 3: return extremes[rng_below(rng, COUNT_OF(extremes))];
    case 4: /* outliers on both sides */
        if (rng_chance(rng, 0.05)) return (int64_t)(base + rng_u64(rng));
        return (int64_t)(base + noise);
    case 5: return rng_chance(rng, 0.03) ? (int64_t)noise : before; /* seldom changes */
    case 6: return (int64_t)(rng_u64(rng) >> rng_below(rng, 64));   /* any length */
    case 7: return (int64_t)((uint64_t)before + noise);             /* rising */
    default: return rng_chance(rng, 0.3) ? (int64_t)(base - noise) : (int64_t)(base + noise % 4);
    }
}

/* Kinds change within a column now and then. */
__attribute__((unused)) static void gen_column(struct rng *rng, int64_t *x, size_t n)
{
    unsigned kind = 0, width = 0;
    uint64_t base = 0;
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || rng_chance(rng, 0.003)) {
            kind = (unsigned)rng_below(rng, GEN_COLUMN_KINDS);
            width = (unsigned)rng_below(rng, rng_chance(rng, 0.7) ? 20 : 65);
            base = rng_u64(rng) >> rng_below(rng, 64);
        }
        x[i] = gen_column_value(rng, kind, width, base, i ? x[i - 1] : (int64_t)base);
    }
}

#endif
