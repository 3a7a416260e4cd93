/* query/column_kernel.c: the kernels for every machine, and the choice. */
#define KERNEL COLUMN_KERNEL_PORTABLE
#include "query/column_kernel_body.h"

const struct column_kernel *column_kernel(void)
{
#if defined(COLUMN_KERNEL_HAS_AVX2)
    if (__builtin_cpu_supports("avx2")) return &COLUMN_KERNEL_AVX2;
#endif
    return &COLUMN_KERNEL_PORTABLE;
}
