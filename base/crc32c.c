/* base/crc32c.c: slicing-by-8 (Kounavis, Berry 2005), and the SSE4.2 instruction where there is one.
 * A table entry is linear in the bits of its index, so eight constants per table define all 256, and the
 * compiler works them out. */
#include "base/crc32c.h"

#include "base/bytes.h"

#define BIT(n, b, c) (((n) >> (b)) & 1 ? (c) : 0u)
#define X(n, c0, c1, c2, c3, c4, c5, c6, c7)                                                       \
    (BIT(n, 0, c0) ^ BIT(n, 1, c1) ^ BIT(n, 2, c2) ^ BIT(n, 3, c3) ^ BIT(n, 4, c4) ^               \
     BIT(n, 5, c5) ^ BIT(n, 6, c6) ^ BIT(n, 7, c7))
/* clang-format off */
/* T[k][1 << b]: the register after byte 1 << b and k zero bytes. Checked by the test against one bit a time. */
#define BASIS_0(n) \
    X(n, 0xf26b8303, 0xe13b70f7, 0xc79a971f, 0x8ad958cf, 0x105ec76f, 0x20bd8ede, 0x417b1dbc, 0x82f63b78)
#define BASIS_1(n) \
    X(n, 0x13a29877, 0x274530ee, 0x4e8a61dc, 0x9d14c3b8, 0x3fc5f181, 0x7f8be302, 0xff17c604, 0xfbc3faf9)
#define BASIS_2(n) \
    X(n, 0xa541927e, 0x4f6f520d, 0x9edea41a, 0x38513ec5, 0x70a27d8a, 0xe144fb14, 0xc76580d9, 0x8b277743)
#define BASIS_3(n) \
    X(n, 0xdd45aab8, 0xbf672381, 0x7b2231f3, 0xf64463e6, 0xe964b13d, 0xd725148b, 0xaba65fe7, 0x52a0c93f)
#define BASIS_4(n) \
    X(n, 0x38116fac, 0x7022df58, 0xe045beb0, 0xc5670b91, 0x8f2261d3, 0x1ba8b557, 0x37516aae, 0x6ea2d55c)
#define BASIS_5(n) \
    X(n, 0xef306b19, 0xdb8ca0c3, 0xb2f53777, 0x6006181f, 0xc00c303e, 0x85f4168d, 0x0e045beb, 0x1c08b7d6)
#define BASIS_6(n) \
    X(n, 0x68032cc8, 0xd0065990, 0xa5e0c5d1, 0x4e2dfd53, 0x9c5bfaa6, 0x3d5b83bd, 0x7ab7077a, 0xf56e0ef4)
#define BASIS_7(n) \
    X(n, 0x493c7d27, 0x9278fa4e, 0x211d826d, 0x423b04da, 0x847609b4, 0x0d006599, 0x1a00cb32, 0x34019664)
#define ROW4(B, n) B(n), B(n + 1), B(n + 2), B(n + 3)
#define ROW16(B, n) ROW4(B, n), ROW4(B, n + 4), ROW4(B, n + 8), ROW4(B, n + 12)
#define ROW64(B, n) ROW16(B, n), ROW16(B, n + 16), ROW16(B, n + 32), ROW16(B, n + 48)
#define ROW256(B) {ROW64(B, 0u), ROW64(B, 64u), ROW64(B, 128u), ROW64(B, 192u)}
static const uint32_t T[8][256] = {
    ROW256(BASIS_0), ROW256(BASIS_1), ROW256(BASIS_2), ROW256(BASIS_3),
    ROW256(BASIS_4), ROW256(BASIS_5), ROW256(BASIS_6), ROW256(BASIS_7),
};
/* clang-format on */

uint32_t crc32c_portable(uint32_t crc, const void *data, size_t len)
{
    const uint8_t *p = data;
    uint32_t c = ~crc;
    for (; len >= 8; p += 8, len -= 8) {
        uint64_t w = get_u64_le(p) ^ c;
        c = T[7][w & 0xFF] ^ T[6][(w >> 8) & 0xFF] ^ T[5][(w >> 16) & 0xFF] ^
            T[4][(w >> 24) & 0xFF] ^ T[3][(w >> 32) & 0xFF] ^ T[2][(w >> 40) & 0xFF] ^
            T[1][(w >> 48) & 0xFF] ^ T[0][w >> 56];
    }
    for (; len; p++, len--) c = (c >> 8) ^ T[0][(c ^ *p) & 0xFF];
    return ~c;
}

#if defined(__x86_64__)
#include <nmmintrin.h>

__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t crc, const void *data,
                                                               size_t len)
{
    const uint8_t *p = data;
    uint64_t c = (uint32_t)~crc;
    for (; len >= 8; p += 8, len -= 8) c = _mm_crc32_u64(c, get_u64_le(p));
    uint32_t c32 = (uint32_t)c;
    for (; len; p++, len--) c32 = _mm_crc32_u8(c32, *p);
    return ~c32;
}

/* The answer of cpuid is kept by the compiler's runtime: a load and a test. */
crc32c_fn *crc32c_hardware(void)
{
    return __builtin_cpu_supports("sse4.2") ? crc32c_sse42 : NULL;
}

uint32_t crc32c(uint32_t crc, const void *p, size_t len)
{
    return LIKELY(__builtin_cpu_supports("sse4.2")) ? crc32c_sse42(crc, p, len)
                                                    : crc32c_portable(crc, p, len);
}
#else
crc32c_fn *crc32c_hardware(void)
{
    return NULL;
}

uint32_t crc32c(uint32_t crc, const void *p, size_t len)
{
    return crc32c_portable(crc, p, len);
}
#endif
