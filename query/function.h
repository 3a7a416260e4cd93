/* query/function.h: the table of PromQL functions: names, signatures and how each is evaluated. */
#ifndef QUIPU_QUERY_FUNCTION_H
#define QUIPU_QUERY_FUNCTION_H

#include "query/ast.h"

enum function_id {
    /* range vector -> vector */
    FN_RATE,
    FN_INCREASE,
    FN_DELTA,
    FN_IRATE,
    FN_IDELTA,
    FN_RESETS,
    FN_CHANGES,
    FN_DERIV,
    FN_PREDICT_LINEAR,
    FN_DOUBLE_EXPONENTIAL_SMOOTHING,
    FN_SUM_OVER_TIME,
    FN_AVG_OVER_TIME,
    FN_MIN_OVER_TIME,
    FN_MAX_OVER_TIME,
    FN_COUNT_OVER_TIME,
    FN_LAST_OVER_TIME,
    FN_FIRST_OVER_TIME,
    FN_PRESENT_OVER_TIME,
    FN_STDDEV_OVER_TIME,
    FN_STDVAR_OVER_TIME,
    FN_QUANTILE_OVER_TIME,
    FN_MAD_OVER_TIME,
    FN_TS_OF_LAST_OVER_TIME,
    FN_TS_OF_FIRST_OVER_TIME,
    FN_TS_OF_MIN_OVER_TIME,
    FN_TS_OF_MAX_OVER_TIME,
    FN_ABSENT_OVER_TIME,
    /* element by element */
    FN_ABS,
    FN_CEIL,
    FN_FLOOR,
    FN_EXP,
    FN_SQRT,
    FN_LN,
    FN_LOG2,
    FN_LOG10,
    FN_SIN,
    FN_COS,
    FN_TAN,
    FN_ASIN,
    FN_ACOS,
    FN_ATAN,
    FN_SINH,
    FN_COSH,
    FN_TANH,
    FN_ASINH,
    FN_ACOSH,
    FN_ATANH,
    FN_SGN,
    FN_DEG,
    FN_RAD,
    FN_ROUND,
    FN_CLAMP,
    FN_CLAMP_MIN,
    FN_CLAMP_MAX,
    FN_TIMESTAMP,
    FN_MINUTE,
    FN_HOUR,
    FN_DAY_OF_WEEK,
    FN_DAY_OF_MONTH,
    FN_DAY_OF_YEAR,
    FN_DAYS_IN_MONTH,
    FN_MONTH,
    FN_YEAR,
    FN_START_TIMESTAMP,
    FN_HISTOGRAM_COUNT,
    FN_HISTOGRAM_SUM,
    FN_HISTOGRAM_AVG,
    FN_HISTOGRAM_STDDEV,
    FN_HISTOGRAM_STDVAR,
    /* whole vectors */
    FN_HISTOGRAM_QUANTILE,
    FN_HISTOGRAM_QUANTILES,
    FN_HISTOGRAM_FRACTION,
    FN_ABSENT,
    FN_SORT,
    FN_SORT_DESC,
    FN_SORT_BY_LABEL,
    FN_SORT_BY_LABEL_DESC,
    FN_SCALAR,
    FN_VECTOR,
    FN_LABEL_REPLACE,
    FN_LABEL_JOIN,
    FN_INFO,
    /* scalars */
    FN_TIME,
    FN_PI,
    FN_START,
    FN_END,
    FN_RANGE,
    FN_STEP,
    FN_MAX_OF,
    FN_MIN_OF,
    FN_N
};

struct function_sig {
    enum function_id id;
    const char *name;
    enum value_type args[FUNCTION_ARGS_MAX];
    uint8_t n_args; /* as listed in args */
    /* 0: exactly n_args arguments. n > 0: n_args - 1 and up to n more, all of the last type. -1: n_args - 1 and any
     * number more. */
    int8_t variadic;
    enum value_type returns;
    bool experimental; /* in Prometheus; ours has no flag */
};

/* NULL when there is no function of that name (case-sensitive). */
const struct function_sig *function_find(struct str name);
/* The nearest known name, for hints; NULL when none is near. */
const char *function_nearest(struct str name);
const struct function_sig *function_by_index(size_t i); /* 0..FN_N-1 */

#endif
