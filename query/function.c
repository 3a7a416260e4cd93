#include "query/function.h"

#include "query/nearest.h"

#define NONE VALUE_NONE
#define S VALUE_SCALAR
#define V VALUE_VECTOR
#define M VALUE_MATRIX
#define STRING VALUE_STRING

/* In the order of enum function_id. Names and signatures: Prometheus 3.14. */
static const struct function_sig FUNCTIONS[] = {
    {FN_RATE, "rate", {M}, 1, 0, V, false},
    {FN_INCREASE, "increase", {M}, 1, 0, V, false},
    {FN_DELTA, "delta", {M}, 1, 0, V, false},
    {FN_IRATE, "irate", {M}, 1, 0, V, false},
    {FN_IDELTA, "idelta", {M}, 1, 0, V, false},
    {FN_RESETS, "resets", {M}, 1, 0, V, false},
    {FN_CHANGES, "changes", {M}, 1, 0, V, false},
    {FN_DERIV, "deriv", {M}, 1, 0, V, false},
    {FN_PREDICT_LINEAR, "predict_linear", {M, S}, 2, 0, V, false},
    {FN_DOUBLE_EXPONENTIAL_SMOOTHING, "double_exponential_smoothing", {M, S, S}, 3, 0, V, true},
    {FN_SUM_OVER_TIME, "sum_over_time", {M}, 1, 0, V, false},
    {FN_AVG_OVER_TIME, "avg_over_time", {M}, 1, 0, V, false},
    {FN_MIN_OVER_TIME, "min_over_time", {M}, 1, 0, V, false},
    {FN_MAX_OVER_TIME, "max_over_time", {M}, 1, 0, V, false},
    {FN_COUNT_OVER_TIME, "count_over_time", {M}, 1, 0, V, false},
    {FN_LAST_OVER_TIME, "last_over_time", {M}, 1, 0, V, false},
    {FN_FIRST_OVER_TIME, "first_over_time", {M}, 1, 0, V, false},
    {FN_PRESENT_OVER_TIME, "present_over_time", {M}, 1, 0, V, false},
    {FN_STDDEV_OVER_TIME, "stddev_over_time", {M}, 1, 0, V, false},
    {FN_STDVAR_OVER_TIME, "stdvar_over_time", {M}, 1, 0, V, false},
    {FN_QUANTILE_OVER_TIME, "quantile_over_time", {S, M}, 2, 0, V, false},
    {FN_MAD_OVER_TIME, "mad_over_time", {M}, 1, 0, V, true},
    {FN_TS_OF_LAST_OVER_TIME, "ts_of_last_over_time", {M}, 1, 0, V, true},
    {FN_TS_OF_FIRST_OVER_TIME, "ts_of_first_over_time", {M}, 1, 0, V, true},
    {FN_TS_OF_MIN_OVER_TIME, "ts_of_min_over_time", {M}, 1, 0, V, true},
    {FN_TS_OF_MAX_OVER_TIME, "ts_of_max_over_time", {M}, 1, 0, V, true},
    {FN_ABSENT_OVER_TIME, "absent_over_time", {M}, 1, 0, V, false},

    {FN_ABS, "abs", {V}, 1, 0, V, false},
    {FN_CEIL, "ceil", {V}, 1, 0, V, false},
    {FN_FLOOR, "floor", {V}, 1, 0, V, false},
    {FN_EXP, "exp", {V}, 1, 0, V, false},
    {FN_SQRT, "sqrt", {V}, 1, 0, V, false},
    {FN_LN, "ln", {V}, 1, 0, V, false},
    {FN_LOG2, "log2", {V}, 1, 0, V, false},
    {FN_LOG10, "log10", {V}, 1, 0, V, false},
    {FN_SIN, "sin", {V}, 1, 0, V, false},
    {FN_COS, "cos", {V}, 1, 0, V, false},
    {FN_TAN, "tan", {V}, 1, 0, V, false},
    {FN_ASIN, "asin", {V}, 1, 0, V, false},
    {FN_ACOS, "acos", {V}, 1, 0, V, false},
    {FN_ATAN, "atan", {V}, 1, 0, V, false},
    {FN_SINH, "sinh", {V}, 1, 0, V, false},
    {FN_COSH, "cosh", {V}, 1, 0, V, false},
    {FN_TANH, "tanh", {V}, 1, 0, V, false},
    {FN_ASINH, "asinh", {V}, 1, 0, V, false},
    {FN_ACOSH, "acosh", {V}, 1, 0, V, false},
    {FN_ATANH, "atanh", {V}, 1, 0, V, false},
    {FN_SGN, "sgn", {V}, 1, 0, V, false},
    {FN_DEG, "deg", {V}, 1, 0, V, false},
    {FN_RAD, "rad", {V}, 1, 0, V, false},
    {FN_ROUND, "round", {V, S}, 2, 1, V, false},
    {FN_CLAMP, "clamp", {V, S, S}, 3, 0, V, false},
    {FN_CLAMP_MIN, "clamp_min", {V, S}, 2, 0, V, false},
    {FN_CLAMP_MAX, "clamp_max", {V, S}, 2, 0, V, false},
    {FN_TIMESTAMP, "timestamp", {V}, 1, 0, V, false},
    {FN_MINUTE, "minute", {V}, 1, 1, V, false},
    {FN_HOUR, "hour", {V}, 1, 1, V, false},
    {FN_DAY_OF_WEEK, "day_of_week", {V}, 1, 1, V, false},
    {FN_DAY_OF_MONTH, "day_of_month", {V}, 1, 1, V, false},
    {FN_DAY_OF_YEAR, "day_of_year", {V}, 1, 1, V, false},
    {FN_DAYS_IN_MONTH, "days_in_month", {V}, 1, 1, V, false},
    {FN_MONTH, "month", {V}, 1, 1, V, false},
    {FN_YEAR, "year", {V}, 1, 1, V, false},
    {FN_START_TIMESTAMP, "start_timestamp", {V}, 1, 0, V, true},
    {FN_HISTOGRAM_COUNT, "histogram_count", {V}, 1, 0, V, false},
    {FN_HISTOGRAM_SUM, "histogram_sum", {V}, 1, 0, V, false},
    {FN_HISTOGRAM_AVG, "histogram_avg", {V}, 1, 0, V, false},
    {FN_HISTOGRAM_STDDEV, "histogram_stddev", {V}, 1, 0, V, false},
    {FN_HISTOGRAM_STDVAR, "histogram_stdvar", {V}, 1, 0, V, false},

    {FN_HISTOGRAM_QUANTILE, "histogram_quantile", {S, V}, 2, 0, V, false},
    {FN_HISTOGRAM_QUANTILES, "histogram_quantiles", {V, STRING, S, S}, 4, 9, V, true},
    {FN_HISTOGRAM_FRACTION, "histogram_fraction", {S, S, V}, 3, 0, V, false},
    {FN_ABSENT, "absent", {V}, 1, 0, V, false},
    {FN_SORT, "sort", {V}, 1, 0, V, false},
    {FN_SORT_DESC, "sort_desc", {V}, 1, 0, V, false},
    {FN_SORT_BY_LABEL, "sort_by_label", {V, STRING}, 2, -1, V, true},
    {FN_SORT_BY_LABEL_DESC, "sort_by_label_desc", {V, STRING}, 2, -1, V, true},
    {FN_SCALAR, "scalar", {V}, 1, 0, S, false},
    {FN_VECTOR, "vector", {S}, 1, 0, V, false},
    {FN_LABEL_REPLACE, "label_replace", {V, STRING, STRING, STRING, STRING}, 5, 0, V, false},
    {FN_LABEL_JOIN, "label_join", {V, STRING, STRING, STRING}, 4, -1, V, false},
    {FN_INFO, "info", {V, V}, 2, 1, V, true},

    {FN_TIME, "time", {NONE}, 0, 0, S, false},
    {FN_PI, "pi", {NONE}, 0, 0, S, false},
    {FN_START, "start", {NONE}, 0, 0, S, true},
    {FN_END, "end", {NONE}, 0, 0, S, true},
    {FN_RANGE, "range", {NONE}, 0, 0, S, true},
    {FN_STEP, "step", {NONE}, 0, 0, S, true},
    {FN_MAX_OF, "max_of", {S, S}, 2, 0, S, true},
    {FN_MIN_OF, "min_of", {S, S}, 2, 0, S, true},
};
static_assert(COUNT_OF(FUNCTIONS) == FN_N, "one row for each function");

const struct function_sig *function_by_index(size_t i)
{
    ASSERT(i < FN_N);
    ASSERT(FUNCTIONS[i].id == (enum function_id)i);
    return &FUNCTIONS[i];
}

const struct function_sig *function_find(struct str name)
{
    for (size_t i = 0; i < FN_N; i++)
        if (str_eq(name, str_of(FUNCTIONS[i].name))) return &FUNCTIONS[i];
    return NULL;
}

const char *function_nearest(struct str name)
{
    struct nearest nearest;
    nearest_begin(&nearest, name);
    for (size_t i = 0; i < FN_N; i++) nearest_try(&nearest, str_of(FUNCTIONS[i].name));
    return nearest.best.p; /* a constant, NUL-terminated */
}
