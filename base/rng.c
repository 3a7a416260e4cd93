/* base/rng.c: xoshiro256** 1.0 and splitmix64 by Blackman and Vigna (public domain algorithms). */
#include "base/rng.h"

#include <errno.h>
#include <math.h>
#include <sys/random.h>

void rng_seed(struct rng *rng, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        uint64_t z = (seed += 0x9e3779b97f4a7c15u);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        rng->s[i] = z ^ (z >> 31);
    }
}

void rng_seed_os(struct rng *rng)
{
    uint64_t seed = 0;
    ssize_t n;
    do n = getrandom(&seed, sizeof(seed), 0);
    while (n < 0 && errno == EINTR);
    ASSERT(n == (ssize_t)sizeof(seed)); /* up to 256 bytes come whole, once the pool is ready */
    rng_seed(rng, seed);
}

static uint64_t rotl(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

uint64_t rng_u64(struct rng *rng)
{
    uint64_t *s = rng->s;
    uint64_t result = rotl(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

/* Lemire 2019, "Fast random integer generation in an interval". */
uint64_t rng_below(struct rng *rng, uint64_t n)
{
    ASSERT(n > 0);
    unsigned __int128 m = (unsigned __int128)rng_u64(rng) * n;
    if ((uint64_t)m < n) {
        uint64_t threshold = (0 - n) % n;
        while ((uint64_t)m < threshold) m = (unsigned __int128)rng_u64(rng) * n;
    }
    return (uint64_t)(m >> 64);
}

double rng_unit(struct rng *rng)
{
    return (double)(rng_u64(rng) >> 11) * 0x1p-53;
}

/* Marsaglia's polar method; the second value is thrown away, so that the state is the seed's alone. */
double rng_normal(struct rng *rng)
{
    for (;;) {
        double u = 2 * rng_unit(rng) - 1, v = 2 * rng_unit(rng) - 1;
        double s = u * u + v * v;
        if (s > 0 && s < 1) return u * sqrt(-2 * log(s) / s);
    }
}
