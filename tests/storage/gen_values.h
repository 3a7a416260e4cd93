/* tests/storage/gen_values.h: columns of doubles as exporters make them, and as nobody does. */
#ifndef QUIPU_TESTS_STORAGE_GEN_VALUES_H
#define QUIPU_TESTS_STORAGE_GEN_VALUES_H

#include <math.h>

#include "tests/storage/gen.h"

enum gen_values_kind {
    GEN_CONSTANT,
    GEN_COUNTER,      /* whole, rising, resets */
    GEN_BIG_COUNTER,  /* around 2^53 and beyond */
    GEN_QUOTIENT,     /* k / 10^e */
    GEN_PRODUCT,      /* k * 10^-e */
    GEN_THOUSANDTHS,  /* k / 1e3 / 1e3 */
    GEN_NANOSECONDS,  /* k / 1e3 / 1e3 / 1e3 */
    GEN_SUM,          /* a running sum of hundredths */
    GEN_WALK,         /* random mantissas */
    GEN_PAGES,        /* multiples of 4,096 */
    GEN_MIXED_DIGITS, /* 0 to 4 decimals */
    GEN_BITS,         /* any 64 bits */
    GEN_ODD,          /* the special ones only */
    GEN_TINY,         /* denormals */
    GEN_VALUES_KINDS
};

/* NaN of all sorts, infinities, zeros, the largest and the smallest. */
__attribute__((unused)) static uint64_t gen_odd_bits(struct rng *rng)
{
    static const uint64_t odd[] = {UINT64_C(0),
                                   UINT64_C(0x8000000000000000),
                                   UINT64_C(0x7ff0000000000000),
                                   UINT64_C(0xfff0000000000000),
                                   STALE_NAN_BITS,
                                   UINT64_C(0x7ff8000000000001),
                                   UINT64_C(0xfff4dead0000beef),
                                   UINT64_C(0x7ff0000000000001),
                                   UINT64_C(0xffffffffffffffff),
                                   UINT64_C(1),
                                   UINT64_C(0x8000000000000001),
                                   UINT64_C(0x7fefffffffffffff),
                                   UINT64_C(0x4340000000000000),
                                   UINT64_C(0x4340000000000001),
                                   UINT64_C(0x43e0000000000000),
                                   UINT64_C(0xc3e0000000000000),
                                   UINT64_C(0x433fffffffffffff),
                                   UINT64_C(0xc340000000000000)};
    return odd[rng_below(rng, COUNT_OF(odd))];
}

__attribute__((unused)) static double gen_value_next(struct rng *rng, enum gen_values_kind kind,
                                                     unsigned e, double *state)
{
    double pow10 = pow(10, e), k = (double)(int64_t)(rng_normal(rng) * 100000);
    switch (kind) {
    case GEN_CONSTANT: return *state;
    case GEN_COUNTER:
        *state = rng_chance(rng, 0.01) ? 0 : *state + (double)rng_below(rng, 1000);
        return *state;
    case GEN_BIG_COUNTER: return 0x1p53 - 1000 + (*state += (double)rng_below(rng, 100));
    case GEN_QUOTIENT: return k / pow10;
    case GEN_PRODUCT: return k * (1 / pow10);
    case GEN_THOUSANDTHS: return k / 1e3 / 1e3;
    case GEN_NANOSECONDS: return k / 1e3 / 1e3 / 1e3;
    case GEN_SUM: return *state += (double)rng_below(rng, 100) / 100;
    case GEN_WALK: return *state += rng_normal(rng);
    case GEN_PAGES: return *state += 4096 * (double)rng_below(rng, 50);
    case GEN_MIXED_DIGITS: return k / pow(10, (double)rng_below(rng, 5));
    case GEN_BITS: return double_from_bits(rng_u64(rng));
    case GEN_ODD: return double_from_bits(gen_odd_bits(rng));
    default: return double_from_bits(rng_u64(rng) >> (12 + rng_below(rng, 50)));
    }
}

/* One kind, with odd values among them at the given rate. */
__attribute__((unused)) static void gen_values(struct rng *rng, enum gen_values_kind kind,
                                               double odd_rate, double *v, size_t n)
{
    double state = (double)rng_below(rng, 1000000);
    unsigned e = (unsigned)rng_below(rng, 13);
    for (size_t i = 0; i < n; i++) {
        double d = gen_value_next(rng, kind, e, &state);
        memcpy(v + i, &d, 8);
        uint64_t odd = gen_odd_bits(rng);
        if (rng_chance(rng, odd_rate)) memcpy(v + i, &odd, 8);
    }
}

#endif
