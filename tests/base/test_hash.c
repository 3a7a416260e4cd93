/* Hashes: the published values, which must never change: they are on disk. */
#include "tests/quipu_test.h"

#include "base/hash.h"

static void fixed_values(void **state)
{
    (void)state;
    CHECK_U64(hash_xxh64("", 0), 0xef46db3751d8e999);
    CHECK_U64(hash_xxh64("a", 1), 0xd24ec4f1a98c6e5b);
    CHECK_U64(hash_xxh64("abc", 3), 0x44bc2cf5ad770999);
    CHECK_U64(hash_xxh3("", 0), 0x2d06800538d394c2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(fixed_values)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
