/* Random numbers: the reference sequence, and bounds. */
#include "tests/quipu_test.h"

#include <math.h>

static void reference_sequence(void **state)
{
    (void)state;
    /* xoshiro256** from the state {1, 2, 3, 4}, by hand from its definition: rotl(s1 * 5, 7) * 9. */
    struct rng rng = {{1, 2, 3, 4}};
    CHECK_U64(rng_u64(&rng), 11520);
    CHECK_U64(rng_u64(&rng), 0);
    CHECK_U64(rng_u64(&rng), 1509978240);
    CHECK_U64(rng_u64(&rng), 1215971899390074240);
    /* splitmix64 from 0 */
    rng_seed(&rng, 0);
    CHECK_U64(rng.s[0], 0xe220a8397b1dcdaf);
    CHECK_U64(rng.s[1], 0x6e789e6aa1b965f4);
}

static void same_seed_same_numbers(void **state)
{
    (void)state;
    struct rng a, b, c;
    rng_seed(&a, 7);
    rng_seed(&b, 7);
    rng_seed(&c, 8);
    size_t n_same = 0;
    for (int i = 0; i < 100; i++) {
        uint64_t v = rng_u64(&a);
        CHECK_U64(rng_u64(&b), v);
        n_same += rng_u64(&c) == v;
    }
    CHECK(n_same == 0);
    rng_seed_os(&a);
    rng_seed_os(&b);
    CHECK(memcmp(&a, &b, sizeof(a)) != 0);
}

static void bounds_hold(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 1);
    uint64_t counts[10] = {0};
    for (int i = 0; i < 100000; i++) counts[rng_below(&rng, 10)]++;
    for (int i = 0; i < 10; i++) CHECK(counts[i] > 9500 && counts[i] < 10500);
    for (int i = 0; i < 1000; i++) {
        CHECK(rng_below(&rng, 1) == 0);
        CHECK(rng_below(&rng, UINT64_MAX) < UINT64_MAX);
        CHECK(rng_below(&rng, (UINT64_C(1) << 63) + 1) <= UINT64_C(1) << 63);
        double u = rng_unit(&rng);
        CHECK(u >= 0 && u < 1);
    }
    double sum = 0, squares = 0;
    for (int i = 0; i < 100000; i++) {
        double x = rng_normal(&rng);
        sum += x;
        squares += x * x;
    }
    CHECK(fabs(sum / 100000) < 0.02);
    CHECK(fabs(squares / 100000 - 1) < 0.02);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_sequence),
        cmocka_unit_test(same_seed_same_numbers),
        cmocka_unit_test(bounds_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
