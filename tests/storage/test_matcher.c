/* tests/storage/test_matcher.c: what matchers make of values, missing labels and known literals. */
#include "storage/matcher.h"

#include "tests/quipu_test.h"

struct fake_re {
    const char *text; /* the one that it matches */
    unsigned asked;
};

static bool fake_match(const void *re, struct str text)
{
    struct fake_re *fake = (struct fake_re *)(uintptr_t)re;
    fake->asked++;
    return str_eq(text, str_of(fake->text));
}

static void test_matcher(void **state)
{
    (void)state;
    struct matcher m = {.op = MATCH_EQ, .name = STR("a"), .value = STR("x")};
    CHECK(matcher_matches(&m, STR("x")) && !matcher_matches(&m, STR("xy")) &&
          !matcher_matches_empty(&m));
    m.value = STR("");
    CHECK(matcher_matches_empty(&m));
    m = (struct matcher){.op = MATCH_NEQ, .name = STR("a"), .value = STR("x")};
    CHECK(!matcher_matches(&m, STR("x")) && matcher_matches(&m, STR("y")) &&
          matcher_matches_empty(&m));

    struct fake_re re = {"pre-fix", 0};
    m = (struct matcher){
        .op = MATCH_RE, .name = STR("a"), .re = &re, .re_match = fake_match, .prefix = STR("pre")};
    CHECK(matcher_matches(&m, STR("pre-fix")) && !matcher_matches(&m, STR("pre")));
    CHECK_U64(re.asked, 2);
    CHECK(!matcher_matches(&m, STR("fix")) && !matcher_matches_empty(&m));
    CHECK_U64(re.asked, 2); /* the prefix has answered */
    m.op = MATCH_NRE;
    CHECK(!matcher_matches(&m, STR("pre-fix")) && matcher_matches_empty(&m));

    static const struct str literals[] = {{"x", 1}, {"", 0}};
    m = (struct matcher){
        .op = MATCH_RE, .re = &re, .re_match = fake_match, .literals = literals, .n_literals = 2};
    re.asked = 0;
    CHECK(matcher_matches(&m, STR("x")) && matcher_matches_empty(&m) &&
          !matcher_matches(&m, STR("y")));
    CHECK_U64(re.asked, 0);
}

static void test_sets(void **state)
{
    (void)state;
    static const struct label items[] = {{{"a", 1}, {"x", 1}}, {{"b", 1}, {"y", 1}}};
    struct labels set = {items, 2};
    struct matcher m[] = {{.op = MATCH_EQ, .name = STR("a"), .value = STR("x")},
                          {.op = MATCH_NEQ, .name = STR("c"), .value = STR("z")},
                          {.op = MATCH_EQ, .name = STR("c"), .value = STR("")}};
    CHECK(matchers_match_labels(m, 3, set)); /* a missing label is the empty string */
    CHECK(matchers_match_labels(NULL, 0, set));
    m[2].value = STR("z");
    CHECK(!matchers_match_labels(m, 3, set));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_matcher), cmocka_unit_test(test_sets)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
