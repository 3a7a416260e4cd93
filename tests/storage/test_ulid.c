/* tests/storage/test_ulid.c */
#include "storage/block.h"
#include "tests/quipu_test.h"

static void test_order_and_roundtrip(void **state)
{
    (void)state;
    struct rng rng;
    test_rng(&rng);
    struct ulid last = {{0}}, u, back;
    int64_t t = 0;
    for (int i = 0; i < 1000; i++) {
        t += 1 + (int64_t)rng_below(&rng, INT64_C(1) << 36);
        ulid_make(&u, t, &rng);
        CHECK_U64(strlen(u.text), ULID_CHARS);
        CHECK(strcmp(u.text, last.text) > 0);
        CHECK(ulid_parse(str_of(u.text), &back));
        CHECK(strcmp(u.text, back.text) == 0);
        last = u;
    }
}

/* The specification's example of the time part: 1469918176385 is 01ARYZ6S41. */
static void test_known_time(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 1);
    struct ulid u;
    ulid_make(&u, INT64_C(1469918176385), &rng);
    CHECK(memcmp(u.text, "01ARYZ6S41", 10) == 0);
}

static void test_refused(void **state)
{
    (void)state;
    struct ulid u;
    CHECK(ulid_parse(STR("01ARYZ6S41TSV4RRFFQ69G5FAV"), &u));
    CHECK(!ulid_parse(STR("01ARYZ6S41TSV4RRFFQ69G5FA"), &u));
    CHECK(!ulid_parse(STR("01ARYZ6S41TSV4RRFFQ69G5FAVX"), &u));
    CHECK(!ulid_parse(STR("81ARYZ6S41TSV4RRFFQ69G5FAV"), &u)); /* more than 128 bits */
    CHECK(!ulid_parse(STR("01ARYZ6S41TSV4RRFFQ69G5FAU"), &u));
    CHECK(!ulid_parse(STR("01aryz6s41tsv4rrffq69g5fav"), &u));
    CHECK(!ulid_parse(STR("01ARYZ6S41TSV4RRFFQ69G5FA\0"), &u));
    CHECK(!ulid_parse(STR("../../../etc/passwd_______"), &u));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_and_roundtrip),
        cmocka_unit_test(test_known_time),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
