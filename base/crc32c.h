/* base/crc32c.h: CRC-32C (Castagnoli, reflected 0x82F63B78, init and xor-out 0xFFFFFFFF; RFC 3720 B.4).
 * The SSE4.2 kernel is chosen at start where the processor has it; both give the same bits. */
#ifndef QUIPU_BASE_CRC32C_H
#define QUIPU_BASE_CRC32C_H

#include "base/defs.h"

/* Extends `crc` (0 to begin) by len bytes: crc32c(crc32c(0, a), b) is that of a and b together. */
uint32_t crc32c(uint32_t crc, const void *p, size_t len);
/* The kernels by name, for the test that compares them. The second is NULL where it cannot run. */
uint32_t crc32c_portable(uint32_t crc, const void *p, size_t len);
typedef uint32_t crc32c_fn(uint32_t crc, const void *p, size_t len);
crc32c_fn *crc32c_hardware(void);

#endif
