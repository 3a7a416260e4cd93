/* query/function_element.c: functions of one float, dates, and operators between floats (query/kernel.h). */
#include <math.h>

#include "query/kernel.h"

/* Go's math.Max and math.Min: NaN is contagious, but an infinity that decides wins even over NaN. */
static double max_go(double a, double b)
{
    if (a == INFINITY || b == INFINITY) return INFINITY;
    if (isnan(a) || isnan(b)) return NAN;
    if (a == 0 && b == 0) return signbit(a) ? b : a;
    return a > b ? a : b;
}

static double min_go(double a, double b)
{
    if (a == -INFINITY || b == -INFINITY) return -INFINITY;
    if (isnan(a) || isnan(b)) return NAN;
    if (a == 0 && b == 0) return signbit(a) ? a : b;
    return a < b ? a : b;
}

static double round_to(double v, double to)
{
    double inverse = 1 / to;
    return floor(v * inverse + 0.5) / inverse;
}

/* ---- dates: the proleptic Gregorian calendar, UTC ---- */

/* As a conversion on x86-64: out of range and NaN give the minimum. */
static int64_t to_int64(double v)
{
    return v >= -0x1p63 && v < 0x1p63 ? (int64_t)v : INT64_MIN;
}

#define DAY_SECONDS 86400u
#define CYCLE_DAYS 146097u /* of 400 years */
/* From the first second of the year -292277022399, which begins a cycle as 1, 401 or 2001 do and is a Monday. Times
 * are counted from there without a sign and wrap at 2^64, as Go's do: so the absurd ones agree as well. */
#define EPOCH_SECONDS UINT64_C(9223372028715321600)
#define FIRST_YEAR INT64_C(-292277022399)

struct date {
    int64_t year;
    unsigned month, day, day_of_year, weekday, hour, minute; /* month, day and day_of_year from 1 */
    bool leap;
};

static unsigned days_before_month(unsigned month, bool leap)
{
    static const uint16_t before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365};
    return before[month] + (leap && month >= 2);
}

static struct date date_of(double v)
{
    uint64_t seconds = (uint64_t)to_int64(v) + EPOCH_SECONDS, days = seconds / DAY_SECONDS;
    unsigned of_day = (unsigned)(seconds % DAY_SECONDS), rest = (unsigned)(days % CYCLE_DAYS);
    struct date d = {
        .weekday = (unsigned)((days + 1) % 7), .hour = of_day / 3600, .minute = of_day / 60 % 60};
    unsigned centuries =
        MIN_OF(rest / 36524, 3u); /* the last day of the cycle is no century more */
    rest -= centuries * 36524;
    unsigned fours = rest / 1461;
    rest -= fours * 1461;
    unsigned years = MIN_OF(rest / 365, 3u);
    rest -= years * 365;
    d.year = FIRST_YEAR + (int64_t)(days / CYCLE_DAYS) * 400 + centuries * 100 + fours * 4 + years;
    d.leap = years == 3 && (fours != 24 || centuries == 3);
    d.day_of_year = rest + 1;
    unsigned month = 0;
    while (days_before_month(month + 1, d.leap) <= rest) month++;
    d.month = month + 1;
    d.day = rest - days_before_month(month, d.leap) + 1;
    return d;
}

static double date_function(enum function_id id, double v)
{
    struct date d = date_of(v);
    switch (id) {
    case FN_MINUTE: return d.minute;
    case FN_HOUR: return d.hour;
    case FN_DAY_OF_WEEK: return d.weekday;
    case FN_DAY_OF_MONTH: return d.day;
    case FN_DAY_OF_YEAR: return d.day_of_year;
    case FN_DAYS_IN_MONTH:
        return days_before_month(d.month, d.leap) - days_before_month(d.month - 1, d.leap);
    case FN_MONTH: return d.month;
    default: return (double)d.year;
    }
}

/* ---- elements ---- */

static double plain_function(enum function_id id, double v)
{
    switch (id) {
    case FN_ABS: return fabs(v);
    case FN_CEIL: return ceil(v);
    case FN_FLOOR: return floor(v);
    case FN_EXP: return exp(v);
    case FN_SQRT: return sqrt(v);
    case FN_LN: return log(v);
    case FN_LOG2: return log2(v);
    case FN_LOG10: return log10(v);
    case FN_SIN: return sin(v);
    case FN_COS: return cos(v);
    case FN_TAN: return tan(v);
    case FN_ASIN: return asin(v);
    case FN_ACOS: return acos(v);
    case FN_ATAN: return atan(v);
    case FN_SINH: return sinh(v);
    case FN_COSH: return cosh(v);
    case FN_TANH: return tanh(v);
    case FN_ASINH: return asinh(v);
    case FN_ACOSH: return acosh(v);
    case FN_ATANH: return atanh(v);
    case FN_SGN: return v < 0 ? -1 : v > 0 ? 1 : v;
    case FN_DEG: return v * 180 / M_PI;
    case FN_RAD: return v * M_PI / 180;
    default: return date_function(id, v);
    }
}

bool element_function(enum function_id id, double v, const double *args, size_t n_args, double *out)
{
    switch (id) {
    case FN_TIMESTAMP:
    case FN_START_TIMESTAMP: *out = v; return true; /* the caller has put the time there */
    case FN_ROUND: *out = round_to(v, n_args ? args[0] : 1); return true;
    case FN_CLAMP_MIN: *out = max_go(args[0], v); return true;
    case FN_CLAMP_MAX: *out = min_go(args[0], v); return true;
    case FN_CLAMP:
        if (args[1] < args[0]) return false;
        *out = max_go(args[0], min_go(args[1], v));
        return true;
    default: *out = plain_function(id, v); return true;
    }
}

/* ---- operators ---- */

double binary_float(enum binary_op op, double a, double b)
{
    switch (op) {
    case OP_ADD: return a + b;
    case OP_SUB: return a - b;
    case OP_MUL: return a * b;
    case OP_DIV: return a / b;
    case OP_MOD: return fmod(a, b);
    case OP_POW: return pow(a, b);
    case OP_ATAN2: return atan2(a, b);
    default: ASSERT(!"an arithmetic operator"); return NAN;
    }
}

bool compare_float(enum binary_op op, double a, double b)
{
    switch (op) {
    case OP_EQ: return a == b;
    case OP_NEQ: return a != b;
    case OP_LT: return a < b;
    case OP_LTE: return a <= b;
    case OP_GT: return a > b;
    case OP_GTE: return a >= b;
    default: ASSERT(!"a comparison"); return false;
    }
}
