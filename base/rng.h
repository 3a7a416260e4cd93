/* base/rng.h: xoshiro256** (Blackman, Vigna 2018). Not for secrets. Threads: one at a time. */
#ifndef QUIPU_BASE_RNG_H
#define QUIPU_BASE_RNG_H

#include "base/defs.h"

struct rng {
    uint64_t s[4];
};

void rng_seed(struct rng *rng, uint64_t seed); /* by splitmix64 */
void rng_seed_os(struct rng *rng);             /* from getrandom() */
uint64_t rng_u64(struct rng *rng);
uint64_t rng_below(struct rng *rng, uint64_t n); /* 0..n-1, unbiased; n > 0 */
double rng_unit(struct rng *rng);                /* [0, 1) */
double rng_normal(struct rng *rng);              /* mean 0, deviation 1 */
static inline bool rng_chance(struct rng *rng, double p)
{
    return rng_unit(rng) < p;
}

#endif
