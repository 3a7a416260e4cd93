/* tests/query/test_element_functions.c: functions of one value, dates, operators. */
#include <math.h>
#include <time.h>

#include "query/kernel.h"
#include "tests/quipu_test.h"

static double f1(enum function_id id, double v)
{
    double out;
    CHECK(element_function(id, v, NULL, 0, &out));
    return out;
}

static double f2(enum function_id id, double v, double arg)
{
    double out;
    CHECK(element_function(id, v, &arg, 1, &out));
    return out;
}

static bool clamp(double v, double min, double max, double *out)
{
    double args[] = {min, max};
    return element_function(FN_CLAMP, v, args, 2, out);
}

static void test_math(void **state)
{
    (void)state;
    CHECK_SAME_DOUBLE(f1(FN_ABS, -2.5), 2.5);
    CHECK_SAME_DOUBLE(f1(FN_CEIL, -2.5), -2);
    CHECK_SAME_DOUBLE(f1(FN_FLOOR, -2.5), -3);
    CHECK(f1(FN_LN, 0) == -INFINITY && isnan(f1(FN_LN, -1)) && isnan(f1(FN_SQRT, -1)) &&
          isnan(f1(FN_ACOSH, 0.5)));
    CHECK_SAME_DOUBLE(f1(FN_EXP, 0), 1);
    CHECK_SAME_DOUBLE(f1(FN_LOG2, 8), 3);
    CHECK_SAME_DOUBLE(f1(FN_LOG10, 1000), 3);
    CHECK_SAME_DOUBLE(f1(FN_DEG, M_PI), 180);
    CHECK_SAME_DOUBLE(f1(FN_RAD, 180), M_PI);
    /* Each trigonometric function undoes its inverse. */
    static const enum function_id pairs[][2] = {{FN_SIN, FN_ASIN},
                                                {FN_COS, FN_ACOS},
                                                {FN_TAN, FN_ATAN},
                                                {FN_SINH, FN_ASINH},
                                                {FN_TANH, FN_ATANH}};
    for (size_t i = 0; i < COUNT_OF(pairs); i++)
        CHECK(fabs(f1(pairs[i][0], f1(pairs[i][1], 0.3)) - 0.3) < 1e-15);
    CHECK(fabs(f1(FN_COSH, f1(FN_ACOSH, 1.5)) - 1.5) < 1e-15);
    static const double signs[][2] = {{-INFINITY, -1}, {INFINITY, 1}, {-50, -1},
                                      {0, 0},          {-0.0, -0.0},  {100, 1}};
    for (size_t i = 0; i < COUNT_OF(signs); i++)
        CHECK_SAME_DOUBLE(f1(FN_SGN, signs[i][0]), signs[i][1]);
    CHECK(isnan(f1(FN_SGN, NAN)));
}

static void test_rounding(void **state)
{
    (void)state;
    static const double ones[][2] = {{2.5, 3},  {-2.5, -2},           {2, 2},
                                     {-0.4, 0}, {INFINITY, INFINITY}, {-INFINITY, -INFINITY}};
    for (size_t i = 0; i < COUNT_OF(ones); i++)
        CHECK_SAME_DOUBLE(f1(FN_ROUND, ones[i][0]), ones[i][1]);
    CHECK_SAME_DOUBLE(f2(FN_ROUND, 7, -2), 6); /* ties go down */
    CHECK_SAME_DOUBLE(f2(FN_ROUND, 7, 2), 8);
    CHECK_SAME_DOUBLE(f2(FN_ROUND, 0.28, 0.1), 0.3);
    CHECK(isnan(f2(FN_ROUND, 5, 0)) && f2(FN_ROUND, 1e300, 1e-10) == INFINITY &&
          isnan(f1(FN_ROUND, NAN)));
}

static void test_clamp(void **state)
{
    (void)state;
    double out;
    CHECK(!clamp(1, 5, -5, &out));
    CHECK(clamp(-50, -25, 75, &out) && out == -25);
    CHECK(clamp(100, -25, 75, &out) && out == 75);
    CHECK(clamp(0, NAN, 0, &out) && isnan(out));
    CHECK(clamp(NAN, 3, 5, &out) && isnan(out));
    /* An infinity that decides wins over NaN. */
    CHECK(f2(FN_CLAMP_MAX, NAN, -INFINITY) == -INFINITY &&
          f2(FN_CLAMP_MIN, NAN, INFINITY) == INFINITY);
    CHECK(isnan(f2(FN_CLAMP_MIN, NAN, 1)) && isnan(f2(FN_CLAMP_MAX, NAN, 1)) &&
          isnan(f2(FN_CLAMP_MAX, 1, NAN)));
    CHECK_SAME_DOUBLE(f2(FN_CLAMP_MIN, -0.0, 0), 0);
    CHECK_SAME_DOUBLE(f2(FN_CLAMP_MAX, 0, -0.0), -0.0);
}

/* ---- dates ---- */

static void test_dates(void **state)
{
    (void)state;
    /* clang-format off */
    static const struct { double t; enum function_id id; double expected; } cases[] = {
        {1709251199, FN_DAYS_IN_MONTH, 29}, {1709251199, FN_DAY_OF_YEAR, 60}, {1709251199, FN_DAY_OF_MONTH, 29},
        {-1, FN_HOUR, 23}, {-1, FN_YEAR, 1969}, {-1.9, FN_MINUTE, 59}, {1.9, FN_MINUTE, 0}, {0, FN_DAY_OF_WEEK, 4}, {0, FN_DAY_OF_YEAR, 1},
        {1136239445, FN_HOUR, 22}, {1136239445, FN_MINUTE, 4}, {1136239445, FN_MONTH, 1}, {1136239445, FN_DAY_OF_WEEK, 1},
        {1230767999, FN_YEAR, 2008}, {1230768000, FN_YEAR, 2009}, {1230768000, FN_DAY_OF_YEAR, 1}, {1456790400, FN_MONTH, 3},
        {1485907200, FN_DAYS_IN_MONTH, 28}, {4107542400, FN_DAY_OF_YEAR, 60}, {951782400, FN_DAYS_IN_MONTH, 29},
        {NAN, FN_MINUTE, 30}, {1e20, FN_YEAR, 292277026596}, {-1e20, FN_YEAR, 292277026596},
    };
    /* clang-format on */
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        CHECK_SAME_DOUBLE(f1(cases[i].id, cases[i].t), cases[i].expected);
}

static void test_dates_naive(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 20000)
    {
        int64_t t = (int64_t)rng_below(&rng, UINT64_C(600000000000)) - INT64_C(300000000000);
        time_t time = t;
        struct tm tm;
        CHECK(gmtime_r(&time, &tm) != NULL);
        double v = (double)t;
        CHECK(f1(FN_YEAR, v) == tm.tm_year + 1900.0 && f1(FN_MONTH, v) == tm.tm_mon + 1);
        CHECK(f1(FN_DAY_OF_MONTH, v) == tm.tm_mday && f1(FN_DAY_OF_YEAR, v) == tm.tm_yday + 1);
        CHECK(f1(FN_DAY_OF_WEEK, v) == tm.tm_wday && f1(FN_HOUR, v) == tm.tm_hour &&
              f1(FN_MINUTE, v) == tm.tm_min);
        tm.tm_mon++, tm.tm_mday = 0; /* the last day of the month */
        CHECK(timegm(&tm) != -1 && f1(FN_DAYS_IN_MONTH, v) == tm.tm_mday);
    }
}

/* ---- operators ---- */

static void test_operators(void **state)
{
    (void)state;
    CHECK_SAME_DOUBLE(binary_float(OP_ADD, 1, 2), 3);
    CHECK_SAME_DOUBLE(binary_float(OP_SUB, 1, 2), -1);
    CHECK_SAME_DOUBLE(binary_float(OP_MUL, 3, 2), 6);
    CHECK_SAME_DOUBLE(binary_float(OP_MOD, -5, 3), -2); /* sign of the left one */
    CHECK_SAME_DOUBLE(binary_float(OP_POW, 2, -1), 0.5);
    CHECK_SAME_DOUBLE(binary_float(OP_ATAN2, 0, -1), M_PI);
    CHECK(binary_float(OP_DIV, 1, 0) == INFINITY && isnan(binary_float(OP_DIV, 0, 0)) &&
          isnan(binary_float(OP_MOD, 1, 0)));
    CHECK(compare_float(OP_EQ, -0.0, 0) && !compare_float(OP_NEQ, -0.0, 0));
    CHECK(compare_float(OP_LT, 1, 2) && compare_float(OP_LTE, 2, 2) && compare_float(OP_GT, 3, 2) &&
          compare_float(OP_GTE, 2, 2));
    for (int op = OP_EQ; op <= OP_GTE; op++)
        CHECK(compare_float((enum binary_op)op, NAN, 1) == (op == OP_NEQ));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_math),        cmocka_unit_test(test_rounding),
        cmocka_unit_test(test_clamp),       cmocka_unit_test(test_dates),
        cmocka_unit_test(test_dates_naive), cmocka_unit_test(test_operators),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
