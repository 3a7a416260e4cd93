/* query/column_kernel.h: the loops over columns that most of a query's time goes into. Written once, in vectors of four
 * doubles (column_kernel_body.h), and compiled for every machine and for AVX2: the same operations in the same order,
 * the same bits. Threads: pure functions. */
#ifndef QUIPU_QUERY_COLUMN_KERNEL_H
#define QUIPU_QUERY_COLUMN_KERNEL_H

#include "base/defs.h"

enum column_finding { COLUMN_NAN = 1, COLUMN_FALLS = 2 };

/* By step. */
struct gain_columns {
    const double *first, *last; /* values of the window's first and last sample */
    const double *factor, *sampled, *to_start;
};

struct column_kernel {
    /* Is a value NaN, is one less than the one before? 8 bytes a sample. */
    unsigned (*check)(const double *v, size_t n);
    /* out[i] = what a counter without resets gained, times the factor. True: for some i it is not sure that extrapolating
     * does not reach below 0; then `out` is to be done again with care. 48 bytes a step. */
    bool (*gains)(const struct gain_columns *in, size_t n, double *out);
    /* kahan_add of each v[i] to (sum[i], c[i]). 40 bytes a step. */
    void (*add)(const double *v, size_t n, double *sum, double *c);
};
extern const struct column_kernel COLUMN_KERNEL_PORTABLE;
#if defined(__x86_64__)
#define COLUMN_KERNEL_HAS_AVX2 1
extern const struct column_kernel COLUMN_KERNEL_AVX2;
#endif
/* The best for this machine. */
const struct column_kernel *column_kernel(void);

#endif
