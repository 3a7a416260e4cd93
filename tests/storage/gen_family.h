/* tests/storage/gen_family.h: classic histogram families, for the tests and the benchmark of storage/family.h. */
#ifndef QUIPU_TESTS_STORAGE_GEN_FAMILY_H
#define QUIPU_TESTS_STORAGE_GEN_FAMILY_H

#include <math.h>

#include "storage/family.h"
#include "tests/storage/gen.h"

struct gen_family {
    double *values; /* m rows of n */
    const double **rows;
    struct family_input in; /* its count: the last row, or NULL */
};

__attribute__((unused)) static void gen_family_init(struct gen_family *f, size_t m, size_t n)
{
    f->values = calloc(m * n, sizeof(double));
    f->rows = calloc(m, sizeof(*f->rows));
    CHECK(f->values && f->rows);
    for (size_t k = 0; k < m; k++) f->rows[k] = f->values + k * n;
    f->in = (struct family_input){.v = f->rows, .n_members = m, .n = n};
}

__attribute__((unused)) static void gen_family_release(struct gen_family *f)
{
    free(f->values);
    free(f->rows);
}

/* A marker at sample i of all members. As bits: no register makes it quiet. */
__attribute__((unused)) static void gen_family_stale(struct gen_family *f, size_t i)
{
    uint64_t bits = STALE_NAN_BITS;
    for (size_t k = 0; k < f->in.n_members; k++)
        memcpy(&f->values[k * f->in.n + i], &bits, sizeof(bits));
}

__attribute__((unused)) static uint64_t gen_poisson(struct rng *rng, double mean)
{
    if (mean > 40) {
        double v = floor(mean + sqrt(mean) * rng_normal(rng) + 0.5);
        return v > 0 ? (uint64_t)v : 0;
    }
    uint64_t k = 0;
    for (double p = rng_unit(rng), limit = exp(-mean); p > limit; p *= rng_unit(rng)) k++;
    return k;
}

/* Request latencies: log-normal over bounds that double, most of them in the lower buckets; about `per_scrape`
 * requests between two samples, a load that wanders. */
__attribute__((unused)) static void gen_family_latencies(struct rng *rng, struct gen_family *f,
                                                         double per_scrape)
{
    size_t m = f->in.n_members, n = f->in.n;
    double median = 1 + 2 * rng_unit(rng), width = 1.2, load = 1;
    double *total = calloc(m, sizeof(double));
    CHECK(total != NULL);
    for (size_t k = 0; k < m; k++) total[k] = (double)rng_below(rng, 1000000);
    for (size_t i = 0; i < n; i++) {
        load *= exp(0.04 * rng_normal(rng));
        double x = 0, below = 0;
        for (size_t k = 0; k < m; k++) {
            double part = k + 1 == m ? 1 : 0.5 * erfc((median - (double)k) / width / sqrt(2));
            total[k] += (double)gen_poisson(rng, per_scrape * load * (part - below));
            below = part;
            f->values[k * n + i] = x += total[k];
        }
    }
    free(total);
}

#endif
