/* CRC-32C: published vectors, and every kernel against the definition. */
#include "tests/quipu_test.h"

#include "base/crc32c.h"

/* One bit at a time, as RFC 3720 defines it. */
static uint32_t ref_crc32c(uint32_t crc, const uint8_t *p, size_t len)
{
    crc = ~crc;
    for (size_t i = 0; i < len; i++) {
        crc ^= p[i];
        for (int k = 0; k < 8; k++) crc = (crc >> 1) ^ (crc & 1 ? 0x82F63B78u : 0);
    }
    return ~crc;
}

static void check_kernels(const void *p, size_t len, uint32_t want)
{
    CHECK_U64(crc32c(0, p, len), want);
    CHECK_U64(crc32c_portable(0, p, len), want);
    if (crc32c_hardware()) CHECK_U64(crc32c_hardware()(0, p, len), want);
}

/* RFC 3720 B.4, and the usual check value. */
static void published_vectors(void **state)
{
    (void)state;
    uint8_t p[32];
    memset(p, 0, sizeof(p));
    check_kernels(p, sizeof(p), 0x8a9136aa);
    memset(p, 0xFF, sizeof(p));
    check_kernels(p, sizeof(p), 0x62a8ab43);
    for (int i = 0; i < 32; i++) p[i] = (uint8_t)i;
    check_kernels(p, sizeof(p), 0x46dd794e);
    for (int i = 0; i < 32; i++) p[i] = (uint8_t)(31 - i);
    check_kernels(p, sizeof(p), 0x113fdb5c);
    check_kernels("123456789", 9, 0xe3069283);
    check_kernels("", 0, 0);
}

static void every_table_entry(void **state)
{
    (void)state;
    for (int at = 0; at < 8; at++) {
        for (int v = 0; v < 256; v++) {
            uint8_t p[8] = {0};
            p[at] = (uint8_t)v;
            check_kernels(p, sizeof(p), ref_crc32c(0, p, sizeof(p)));
        }
    }
}

static void kernels_agree(void **state)
{
    (void)state;
    struct rng rng;
    uint8_t *p = malloc(20000 + 16);
    CHECK(p != NULL);
    PROPERTY_LOOP(&rng, 300)
    {
        size_t at = rng_below(&rng, 16); /* any alignment */
        size_t len = rng_below(&rng, rng_chance(&rng, 0.7) ? 100 : 20000);
        test_fill(&rng, p + at, len);
        uint32_t start = (uint32_t)rng_u64(&rng);
        uint32_t want = ref_crc32c(start, p + at, len);
        CHECK_U64(crc32c(start, p + at, len), want);
        CHECK_U64(crc32c_portable(start, p + at, len), want);
        if (crc32c_hardware()) CHECK_U64(crc32c_hardware()(start, p + at, len), want);
        size_t cut = rng_below(&rng, len + 1);
        CHECK_U64(crc32c(crc32c(start, p + at, cut), p + at + cut, len - cut), want);
    }
    free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_vectors),
        cmocka_unit_test(every_table_entry),
        cmocka_unit_test(kernels_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
