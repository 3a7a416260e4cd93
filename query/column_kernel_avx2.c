/* query/column_kernel_avx2.c: the kernels for AVX2 (no fused operations: the build forbids contraction). */
#include "query/column_kernel.h"

#if defined(COLUMN_KERNEL_HAS_AVX2)
#define KERNEL COLUMN_KERNEL_AVX2
#include "query/column_kernel_body.h"
#endif
