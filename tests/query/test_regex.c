/* Matching, what is known without matching, Go's error texts, templates. The analysis of literals is checked against RE2 on
 * random patterns. */
#include <pthread.h>

#include "query/regex.h"
#include "query/regex_literal.h"
#include "query/regex_re2.h"
#include "tests/quipu_test.h"

static struct regex *compile(const char *pattern)
{
    struct regex *re;
    struct err err;
    CHECK_OK(regex_compile(str_of(pattern), &re, &err), &err);
    return re;
}

static void test_match(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *text;
        bool match;
    } CASES[] = {
        {"", "", true},
        {"", "a", false},
        {"a", "a", true},
        {"a", "ab", false}, /* the whole text */
        {"a", "ba", false},
        {"a|b", "b", true},
        {"a.b", "a\nb", true}, /* line feeds, too */
        {".*", "", true},
        {".+", "", false},
        {"x|", "", true},
        {"(?i)abc", "aBC", true},
        {"a$|b", "a", true},
        {"^a", "a", true},
        {"\\d+", "12", true},
        {"\\d+", "1x", false},
        {"[^a]b", "cb", true},
        {"é?", "é", true},
        {"é?", "\xc3", false},
        {"(?<n>a)(?P<n>b)", "ab", true}, /* Go allows both */
        {"\\Qa*b\\E", "a*b", true},
        {"a{2}", "aa", true},
        {"(?-s)a.b", "a\nb", false},
    };
    for (size_t i = 0; i < COUNT_OF(CASES); i++) {
        struct regex *re = compile(CASES[i].pattern);
        if (regex_match(re, str_of(CASES[i].text)) != CASES[i].match)
            test_fail(__FILE__, __LINE__, "%s on \"%s\"", CASES[i].pattern, CASES[i].text);
        regex_free(re);
    }
}

static void test_errors(void **state)
{
    (void)state;
    static const char *const CASES[][2] = {
        {"(", "missing closing ): `(`"},
        {"(a", "missing closing ): `(a`"},
        {"a)", "unexpected ): `a)`"},
        {"b(a))", "unexpected ): `b(a))`"},
        {"a**", "invalid nested repetition operator: `**`"},
        {"x*+", "invalid nested repetition operator: `*+`"},
        {"x{1}{2}", "invalid nested repetition operator: `{1}{2}`"},
        {"[z-a]", "invalid character class range: `z-a`"},
        {"[[:foo:]]", "invalid character class range: `[:foo:]`"},
        {"\\pX", "invalid character class range: `\\pX`"},
        {"[a", "missing closing ]: `[a`"},
        {"*", "missing argument to repetition operator: `*`"},
        {"a|*b", "missing argument to repetition operator: `*`"},
        {"a{1001}", "invalid repeat count: `{1001}`"},
        {"a{2,1}", "invalid repeat count: `{2,1}`"},
        {"\\q", "invalid escape sequence: `\\q`"},
        {"\\8", "invalid escape sequence: `\\8`"},
        {"\\C", "invalid escape sequence: `\\C`"},
        {"\\", "trailing backslash at end of expression: ``"},
        {"(?z)a", "invalid or unsupported Perl syntax: `(?z`"},
        {"(?=a)", "invalid or unsupported Perl syntax: `(?=`"},
        {"(?i", "invalid or unsupported Perl syntax: `(?i`"},
        {"(?P<n", "invalid named capture: `(?P<n`"},
        {"(?P<>a)", "invalid named capture: `(?P<>`"},
        {"(?<a b>c)", "invalid named capture: `(?<a b>`"},
        {"a\xff", "invalid UTF-8: `a\xff`"},
    };
    for (size_t i = 0; i < COUNT_OF(CASES); i++) {
        struct regex *re;
        struct err err;
        char want[256];
        snprintf(want, sizeof want, "error parsing regexp: %s", CASES[i][1]);
        CHECK_ERR(regex_compile(str_of(CASES[i][0]), &re, &err), ERR_INVALID);
        CHECK(re == NULL);
        if (i + 1 < COUNT_OF(CASES)) CHECK_STR(str_of(err.text), want);
    }
}

static void test_too_large(void **state)
{
    (void)state;
    struct regex *re;
    struct err err;
    CHECK_ERR(regex_compile(STR("((((x{100}){10}y){10}z){10}w){10}"), &re, &err), ERR_INVALID);
    CHECK_ERR(regex_compile(STR("(\\pL{500}\\pN{500}){100}"), &re, &err), ERR_INVALID);
}

/* --- literals -------------------------------------------------------------------------------------- */

struct known {
    const char *pattern;
    const char *literals; /* joined by '|'; NULL: not exact */
    const char *prefix;
};

static void test_literals(void **state)
{
    (void)state;
    static const struct known CASES[] = {
        {"", "", ""},
        {"abc", "abc", "abc"},
        {"a|b", "a|b", ""},
        {"b|a|b", "a|b", ""},
        {"foo|foobar", "foo|foobar", "foo"},
        {"a|", "|a", ""},
        {"api-(prod|dev)-[0-2]", "api-dev-0|api-dev-1|api-dev-2|api-prod-0|api-prod-1|api-prod-2",
         "api-"},
        {"(?:a|b)c", "ac|bc", ""},
        {"(?P<x>a)b", "ab", "ab"},
        {"ab?", "a|ab", "a"},
        {"colou?r", "color|colour", "colo"},
        {"a\\.b", "a.b", "a.b"},
        {"^abc$", "abc", "abc"},
        {"^a$|^b$", "a|b", ""},
        {"]}", "]}", "]}"},
        {"é|è", "è|é", "\xc3"},
        {"abc.*", NULL, "abc"},
        {"abc.*|abd", NULL, "ab"},
        {"(foo|fob).+", NULL, "fo"},
        {"ab+", NULL, "ab"},
        {"ab*", NULL, "a"},
        {"ab{2}", NULL, "a"},
        {"x\\d+", NULL, "x"},
        {"x[^a]y", NULL, "x"},
        {"x[[:alpha:]]y|xz", NULL, "x"},
        {"(?i)abc", NULL, ""},
        {"a(?i)bc", NULL, ""},
        {"a\\b", NULL, "a"},
        {"\\x41", NULL, ""},
        {"a^b", NULL, ""},
        {"[ab]{3}", NULL, ""},
    };
    for (size_t i = 0; i < COUNT_OF(CASES); i++) {
        struct regex *re = compile(CASES[i].pattern);
        struct buf got;
        size_t n;
        const struct str *literals = regex_literals(re, &n);
        buf_init(&got, MEM_QUERY);
        for (size_t j = 0; j < n; j++) {
            if (j) buf_u8(&got, '|');
            buf_text(&got, literals[j]);
        }
        if ((n != 0) != (CASES[i].literals != NULL))
            test_fail(__FILE__, __LINE__, "%s: %zu literals", CASES[i].pattern, n);
        if (n) CHECK_STR(str_from_bytes(buf_bytes(&got)), CASES[i].literals);
        CHECK_STR(regex_prefix(re), CASES[i].prefix);
        buf_release(&got);
        regex_free(re);
    }
}

static void put_pattern(struct rng *rng, struct buf *out, unsigned depth)
{
    static const char *const LEAVES[] = {
        "a",     "b", "ab",   "c",    ".",     "[ab]",        "[^a]", "\\d",       "\\.",
        "[b-d]", "é", "(?:)", "^",    "$",     "\\b",         "[a-]", "[]a]",      "x",
        "\\-",   "{", "a{2}", "(?i)", "(?i:a", "[[:digit:]]", "]",    "\\Qa|b\\E", "|"};
    static const char *const SUFFIXES[] = {"*", "+", "?", "??", "*?", "{1,2}", "{0}"};
    size_t n = 1 + rng_below(rng, 3);
    for (size_t i = 0; i < n; i++) {
        if (depth && rng_chance(rng, 0.4)) {
            static const char *const OPENS[] = {"(", "(?:", "(?P<n>", "(?<m>"};
            buf_text(out, str_of(OPENS[rng_below(rng, COUNT_OF(OPENS))]));
            put_pattern(rng, out, depth - 1);
            if (rng_chance(rng, 0.5)) {
                buf_u8(out, '|');
                put_pattern(rng, out, depth - 1);
            }
            buf_u8(out, ')');
        } else {
            /* The odd ones at the end of the table are rarer. */
            size_t most = rng_chance(rng, 0.8) ? 12 : COUNT_OF(LEAVES);
            buf_text(out, str_of(LEAVES[rng_below(rng, most)]));
        }
        if (rng_chance(rng, 0.25))
            buf_text(out, str_of(SUFFIXES[rng_below(rng, COUNT_OF(SUFFIXES))]));
    }
}

static bool re2_matches(const char *pattern, size_t len, struct str text)
{
    struct regex_re2 *re;
    char arg[64];
    CHECK(regex_re2_compile(pattern, len, 8u << 20, &re, arg, sizeof arg) == REGEX_RE2_OK);
    bool match = regex_re2_match(re, text.p, text.len, NULL, 0);
    regex_re2_free(re);
    return match;
}

static void check_facts(struct rng *rng, struct str pattern, const struct regex *re)
{
    static const char *const PIECES[] = {"a", "b", "c", "ab", "d", "x", ".",
                                         "é", "1", "A", "-",  "]", "{", ""};
    struct str prefix = regex_prefix(re);
    size_t n_literals;
    const struct str *literals = regex_literals(re, &n_literals);
    for (size_t i = 0; i < n_literals && i < 20; i++)
        CHECK(re2_matches(pattern.p, pattern.len, literals[i]));
    for (unsigned i = 0; i < 20; i++) {
        char text[64] = "";
        if (rng_chance(rng, 0.5)) snprintf(text, sizeof text, "%.*s", STR_ARG(prefix));
        for (unsigned j = (unsigned)rng_below(rng, 4); j; j--)
            strcat(text, PIECES[rng_below(rng, COUNT_OF(PIECES))]);
        bool match = re2_matches(pattern.p, pattern.len, str_of(text));
        if (regex_match(re, str_of(text)) != match)
            test_fail(__FILE__, __LINE__, "%.*s on \"%s\"", STR_ARG(pattern), text);
        if (match) CHECK(str_has_prefix(str_of(text), prefix));
    }
}

static void test_facts_against_re2(void **state)
{
    (void)state;
    struct rng rng;
    size_t n_valid = 0;
    PROPERTY_LOOP(&rng, 3000)
    {
        struct buf pattern;
        struct regex *re;
        struct err err;
        struct regex_re2 *plain;
        char arg[64];
        buf_init(&pattern, MEM_QUERY);
        put_pattern(&rng, &pattern, 2);
        struct str text = str_from_bytes(buf_bytes(&pattern));
        enum err_code rc = regex_compile(text, &re, &err);
        /* RE2 knows neither (?<m>…) nor a name twice: compare where it accepts. */
        bool valid =
            regex_re2_compile(text.p, text.len, 8u << 20, &plain, arg, sizeof arg) == REGEX_RE2_OK;
        if (valid && rc)
            test_fail(__FILE__, __LINE__, "%.*s is refused: %s", STR_ARG(text), err.text);
        bool names = memmem(text.p, text.len, "<", 1) != NULL;
        if (!valid && !rc && !names)
            test_fail(__FILE__, __LINE__, "%.*s is accepted", STR_ARG(text));
        if (valid) {
            n_valid++;
            if (regex_prefix(re).len < 32) check_facts(&rng, text, re);
        }
        regex_re2_free(plain);
        regex_free(rc ? NULL : re);
        buf_release(&pattern);
    }
    if (!getenv("QUIPU_SEED")) CHECK(n_valid > 1000);
}

static void test_many_literals(void **state)
{
    (void)state;
    struct buf pattern;
    buf_init(&pattern, MEM_QUERY);
    for (int i = 0; i < 20000; i++) buf_printf(&pattern, "%spod-%05d", i ? "|" : "", i);
    struct regex *re;
    struct err err;
    size_t n;
    CHECK_OK(regex_compile(str_from_bytes(buf_bytes(&pattern)), &re, &err), &err);
    (void)regex_literals(re, &n);
    CHECK_U64(n, 20000);
    CHECK_STR(regex_prefix(re), "pod-");
    CHECK(regex_match(re, STR("pod-19999")));
    CHECK(!regex_match(re, STR("pod-20000")));
    regex_free(re);
    buf_release(&pattern);
}

/* Patterns that cost too much to spell out are left to the automaton, in bounded time and memory. */
static void test_costly_patterns(void **state)
{
    (void)state;
    static const char *const PIECES[] = {"[a-z]", "(a|b)?", "\\.", "a?", "(x|y|z)"};
    for (size_t i = 0; i < COUNT_OF(PIECES); i++) {
        struct buf pattern;
        struct regex *re;
        struct err err;
        buf_init(&pattern, MEM_QUERY);
        for (int j = 0; j < 900; j++) buf_text(&pattern, str_of(PIECES[i]));
        CHECK_OK(regex_compile(str_from_bytes(buf_bytes(&pattern)), &re, &err), &err);
        CHECK(!regex_match(re, STR("no")));
        regex_free(re);
        buf_release(&pattern);
    }
}

/* --- groups ---------------------------------------------------------------------------------------- */

static void check_expand(const char *pattern, const char *text, const char *template,
                         const char *want)
{
    struct regex *re = compile(pattern);
    struct str groups[16];
    struct buf out;
    buf_init(&out, MEM_QUERY);
    CHECK(regex_match_groups(re, str_of(text), groups, COUNT_OF(groups)));
    regex_expand(re, str_of(template), groups, regex_n_groups(re) + 1, &out);
    if (!str_eq(str_from_bytes(buf_bytes(&out)), str_of(want)))
        test_fail(__FILE__, __LINE__, "%s of %s by %s gives %.*s", template, text, pattern,
                  (int)out.len, (const char *)out.p);
    buf_release(&out);
    regex_free(re);
}

static void test_expand(void **state)
{
    (void)state;
    check_expand("(.*):(.*)", "host:9100", "$1", "host");
    check_expand("(.*):(.*)", "host:9100", "${2}-$1", "9100-host");
    check_expand("(.*):(.*)", "host:9100", "$1x", ""); /* the group called 1x */
    check_expand("(.*):(.*)", "host:9100", "${1}x", "hostx");
    check_expand("(.*):(.*)", "host:9100", "$0", "host:9100");
    check_expand("(.*):(.*)", "host:9100", "$3", "");
    check_expand("(.*):(.*)", "host:9100", "$01", "");
    check_expand("(.*):(.*)", "host:9100", "$$1", "$1");
    check_expand("(.*):(.*)", "host:9100", "$", "$");
    check_expand("(.*):(.*)", "host:9100", "a$-b", "a$-b");
    check_expand("(.*):(.*)", "host:9100", "${1", "${1");
    check_expand("(.*):(.*)", "host:9100", "${}", "${}");
    check_expand("(?P<name>.*):(?<port>.*)", "host:9100", "$port/${name}", "9100/host");
    check_expand("(?P<n>a)|(?P<n>b)", "b", "<$n>", "<b>"); /* the one that took part */
    check_expand("(a)|(b)", "b", "<$1$2>", "<b>");
    check_expand("abc", "abc", "$0$1", "abc"); /* a literal, without an automaton */
    check_expand("", "", "x${0}y", "xy");
    check_expand("(é+).*", "éé!", "$1", "éé");
    check_expand("(?i)(ab)", "AB", "$1", "AB");
}

static void test_groups(void **state)
{
    (void)state;
    struct str groups[4];
    struct regex *re = compile("(a)?(b*)(?:c)");
    CHECK_U64(regex_n_groups(re), 2);
    CHECK(!regex_match_groups(re, STR("abd"), groups, 4));
    CHECK(regex_match_groups(re, STR("c"), groups, 4));
    CHECK_STR(groups[0], "c");
    CHECK(groups[1].p == NULL);
    CHECK(groups[2].p != NULL && groups[2].len == 0);
    CHECK(regex_match_groups(re, STR("abbc"), groups, 3));
    CHECK_STR(groups[2], "bb");
    regex_free(re);
}

/* --- threads --------------------------------------------------------------------------------------- */

static void *match_much(void *re)
{
    size_t n = 0;
    for (int i = 0; i < 3000; i++) {
        char text[32];
        snprintf(text, sizeof text, "node-%d-x%s", i, i % 3 ? "y" : "");
        n += regex_match(re, str_of(text));
    }
    return (void *)n;
}

static void test_threads(void **state)
{
    (void)state;
    struct regex *re = compile("node-[0-9]*[02468]-(x|z)y?");
    pthread_t threads[4];
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        CHECK(pthread_create(&threads[i], NULL, match_much, re) == 0);
    for (size_t i = 0; i < COUNT_OF(threads); i++) {
        void *n;
        CHECK(pthread_join(threads[i], &n) == 0);
        CHECK_U64((size_t)n, 1500);
    }
    regex_free(re);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_match),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_literals),
        cmocka_unit_test(test_facts_against_re2),
        cmocka_unit_test(test_many_literals),
        cmocka_unit_test(test_costly_patterns),
        cmocka_unit_test(test_expand),
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
