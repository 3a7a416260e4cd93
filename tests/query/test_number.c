/* Doubles to text and back: against strtod, which is right, and against fewer digits, which must be wrong. */
#include <math.h>

#include "query/number.h"
#include "tests/quipu_test.h"

typedef size_t print_fn(char *out, double v);

static void check_print(print_fn *print, double v, const char *want)
{
    char text[NUMBER_BYTES_MAX];
    CHECK_STR(((struct str){text, print(text, v)}), want);
}

static void test_forms(void **state)
{
    (void)state;
    static const struct {
        double v;
        const char *plain, *value, *exp, *general;
    } CASES[] = {
        {0, "0", "0", "0e+00", "0"},
        {-0.0, "-0", "-0", "-0e+00", "-0"},
        {1, "1", "1", "1e+00", "1"},
        {15, "15", "15", "1.5e+01", "15"},
        {-0.1, "-0.1", "-0.1", "-1e-01", "-0.1"},
        {0.1 + 0.2, "0.30000000000000004", "0.30000000000000004", "3.0000000000000004e-01",
         "0.30000000000000004"},
        {1e-6, "0.000001", "0.000001", "1e-06", "1e-06"},
        {1e-7, "0.0000001", "1e-07", "1e-07", "1e-07"},
        {1.5e-10, "0.00000000015", "1.5e-10", "1.5e-10", "1.5e-10"},
        {100000, "100000", "100000", "1e+05", "100000"},
        {1e6, "1000000", "1000000", "1e+06", "1e+06"},
        {123456789, "123456789", "123456789", "1.23456789e+08", "1.23456789e+08"},
        {1e20, "100000000000000000000", "100000000000000000000", "1e+20", "1e+20"},
        {1e21, "1000000000000000000000", "1e+21", "1e+21", "1e+21"},
        {-1e100, NULL, "-1e+100", "-1e+100", "-1e+100"},
        {0.0001, "0.0001", "0.0001", "1e-04", "0.0001"},
        {0.00001, "0.00001", "0.00001", "1e-05", "1e-05"},
        {9007199254740993.0, "9007199254740992", "9007199254740992", "9.007199254740992e+15",
         "9.007199254740992e+15"},
        {INFINITY, "+Inf", "+Inf", "+Inf", "+Inf"},
        {-INFINITY, "-Inf", "-Inf", "-Inf", "-Inf"},
        {NAN, "NaN", "NaN", "NaN", "NaN"},
        {-NAN, "NaN", "NaN", "NaN", "NaN"},
        {5e-324, NULL, "5e-324", "5e-324", "5e-324"},
        {1.7976931348623157e308, NULL, "1.7976931348623157e+308", "1.7976931348623157e+308",
         "1.7976931348623157e+308"},
    };
    for (size_t i = 0; i < COUNT_OF(CASES); i++) {
        if (CASES[i].plain) check_print(number_print_plain, CASES[i].v, CASES[i].plain);
        check_print(number_print_value, CASES[i].v, CASES[i].value);
        check_print(number_print_exp, CASES[i].v, CASES[i].exp);
        check_print(number_print_general, CASES[i].v, CASES[i].general);
    }
}

static double random_double(struct rng *rng)
{
    static const double POWERS[] = {1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e9};
    switch (rng_below(rng, 7)) {
    case 5: return (double)rng_below(rng, UINT64_C(2000000000000000)) / POWERS[rng_below(rng, 9)];
    case 6: return -(double)rng_below(rng, 100000000) / POWERS[rng_below(rng, 9)];
    case 0: return (double)rng_below(rng, 100000) / 100;
    case 1: return ldexp(rng_unit(rng), (int)rng_below(rng, 60));
    case 2: return (double)(rng_u64(rng) >> rng_below(rng, 64));
    case 3: return double_from_bits(rng_below(rng, UINT64_C(1) << 52)); /* subnormal */
    default: return double_from_bits(rng_u64(rng));
    }
}

static int count_digits(const char *text)
{
    int n = 0;
    for (; *text && *text != 'e'; text++) n += *text >= '0' && *text <= '9';
    return n;
}

/* The digits alone, without zeros in front and behind */
static void significant(const char *text, char *out)
{
    size_t n = 0;
    for (; *text && *text != 'e'; text++)
        if (*text >= '0' && *text <= '9' && (n || *text != '0')) out[n++] = *text;
    while (n && out[n - 1] == '0') n--;
    out[n] = 0;
}

static void check_round_trip(print_fn *print, double v)
{
    char text[NUMBER_BYTES_MAX + 1];
    double back;
    size_t n = print(text, v);
    CHECK(n <= NUMBER_BYTES_MAX);
    text[n] = 0;
    CHECK_SAME_DOUBLE(strtod(text, NULL), v);
    CHECK(number_parse_float((struct str){text, n}, &back) == NUMBER_OK);
    CHECK_SAME_DOUBLE(back, v);
}

static void test_round_trip(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 50000)
    {
        double v = random_double(&rng);
        if (!isfinite(v)) continue;
        check_round_trip(number_print_plain, v);
        check_round_trip(number_print_value, v);
        check_round_trip(number_print_general, v);
        check_round_trip(number_print_exp, v);
        /* The same digits, whichever way they were found */
        char plain[NUMBER_BYTES_MAX + 1], exp[64], a[NUMBER_BYTES_MAX + 1], b[64];
        plain[number_print_plain(plain, v)] = 0;
        exp[number_print_exp(exp, v)] = 0;
        significant(plain, a);
        significant(exp, b);
        CHECK_STR(str_of(a), b);
        /* No shorter text reads back as v; and of those as long, the one nearest to v. */
        char text[NUMBER_BYTES_MAX + 1], other[64];
        text[number_print_exp(text, v)] = 0;
        int digits = count_digits(text);
        snprintf(other, sizeof other, "%.*e", digits > 1 ? digits - 2 : 0, v);
        if (digits > 1 && v != 0) CHECK(strtod(other, NULL) != v);
        snprintf(other, sizeof other, "%.*e", digits - 1, v);
        if (strtod(other, NULL) == v && digits > 1) {
            if (digits == count_digits(other)) CHECK(strncmp(text, other, (size_t)digits) == 0);
        }
    }
}

static void test_parse_float(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum number_parse rc;
        double v;
    } CASES[] = {
        {"1", NUMBER_OK, 1},          {"-1.5", NUMBER_OK, -1.5},
        {"+.5e1", NUMBER_OK, 5},      {"1_000", NUMBER_OK, 1000},
        {"1e1_0", NUMBER_OK, 1e10},   {"0x10p0", NUMBER_OK, 16},
        {"0x1.8p1", NUMBER_OK, 3},    {"0x_1p4", NUMBER_OK, 16},
        {"inf", NUMBER_OK, INFINITY}, {"-Infinity", NUMBER_OK, -INFINITY},
        {"1e-999", NUMBER_OK, 0},     {"1e999", NUMBER_RANGE, INFINITY},
        {"", NUMBER_SYNTAX, 0},       {"0x10", NUMBER_SYNTAX, 0},
        {" 1", NUMBER_SYNTAX, 0},     {"1 ", NUMBER_SYNTAX, 0},
        {"1__0", NUMBER_SYNTAX, 0},   {"_1", NUMBER_SYNTAX, 0},
        {"1_", NUMBER_SYNTAX, 0},     {"1_.5", NUMBER_SYNTAX, 0},
        {".", NUMBER_SYNTAX, 0},      {"1e", NUMBER_SYNTAX, 0},
        {"1e+", NUMBER_SYNTAX, 0},    {"-nan", NUMBER_SYNTAX, 0},
        {"infx", NUMBER_SYNTAX, 0},   {"nan(1)", NUMBER_SYNTAX, 0},
        {"1,5", NUMBER_SYNTAX, 0},
    };
    for (size_t i = 0; i < COUNT_OF(CASES); i++) {
        double v;
        enum number_parse rc = number_parse_float(str_of(CASES[i].text), &v);
        if (rc != CASES[i].rc || (rc != NUMBER_SYNTAX && v != CASES[i].v))
            test_fail(__FILE__, __LINE__, "\"%s\": %d %g", CASES[i].text, (int)rc, v);
    }
    double nan_value;
    CHECK(number_parse_float(STR("NaN"), &nan_value) == NUMBER_OK && isnan(nan_value));
    char long_text[1000];
    memset(long_text, '0', sizeof long_text);
    long_text[999] = '7';
    CHECK(number_parse_float((struct str){long_text, 1000}, &nan_value) == NUMBER_OK);
    CHECK_SAME_DOUBLE(nan_value, 7);
}

static void test_parse_int(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum number_parse rc;
        int64_t v;
    } CASES[] = {
        {"0", NUMBER_OK, 0},
        {"017", NUMBER_OK, 15},
        {"0o17", NUMBER_OK, 15},
        {"0b101", NUMBER_OK, 5},
        {"0x_1F", NUMBER_OK, 31},
        {"0_7", NUMBER_OK, 7},
        {"1_000", NUMBER_OK, 1000},
        {"-0x10", NUMBER_OK, -16},
        {"9223372036854775807", NUMBER_OK, INT64_MAX},
        {"-9223372036854775808", NUMBER_OK, INT64_MIN},
        {"9223372036854775808", NUMBER_RANGE, INT64_MAX},
        {"-9223372036854775809", NUMBER_RANGE, INT64_MIN},
        {"99999999999999999999999", NUMBER_RANGE, INT64_MAX},
        {"08", NUMBER_SYNTAX, 0},
        {"0x", NUMBER_SYNTAX, 0},
        {"", NUMBER_SYNTAX, 0},
        {"-", NUMBER_SYNTAX, 0},
        {"1.5", NUMBER_SYNTAX, 0},
    };
    for (size_t i = 0; i < COUNT_OF(CASES); i++) {
        int64_t v;
        enum number_parse rc = number_parse_int(str_of(CASES[i].text), &v);
        if (rc != CASES[i].rc || (rc != NUMBER_SYNTAX && v != CASES[i].v))
            test_fail(__FILE__, __LINE__, "\"%s\": %d %lld", CASES[i].text, (int)rc, (long long)v);
    }
    int64_t v;
    CHECK(number_parse_decimal(STR("010"), &v) == NUMBER_OK && v == 10);
    CHECK(number_parse_decimal(STR("+5"), &v) == NUMBER_OK && v == 5);
    CHECK(number_parse_decimal(STR("1_0"), &v) == NUMBER_SYNTAX);
    CHECK(number_parse_decimal(STR("0x1"), &v) == NUMBER_SYNTAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_parse_float),
        cmocka_unit_test(test_parse_int),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
