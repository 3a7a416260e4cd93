/* query/eval_build.c: which operator runs which node of the plan. */
#include "query/eval_op.h"
#include "query/explain.h"

static op_open_fn *const OPENERS[] = {
    [PLAN_SELECT] = op_open_select,
    [PLAN_RANGE] = op_open_range,
    [PLAN_ELEMENT] = op_open_element,
    [PLAN_NEGATE] = op_open_negate,
    [PLAN_VECTOR_SCALAR] = op_open_vector_scalar,
    [PLAN_MATCH] = op_open_match,
    [PLAN_SET] = op_open_set,
    [PLAN_AGGREGATE] = op_open_aggregate,
    [PLAN_QUANTILE] = op_open_quantile,
    [PLAN_ABSENT] = op_open_absent,
    [PLAN_SORT] = op_open_sort,
    [PLAN_VECTOR] = op_open_vector,
    [PLAN_LABELS] = op_open_labels,
    [PLAN_INFO] = op_open_info,
    [PLAN_REPEAT] = op_open_repeat,
    [PLAN_UNIQUE] = op_open_unique,
};

enum err_code op_open(struct eval *eval, const struct plan *plan, struct op **out, struct err *err)
{
    ASSERT(plan->type == VALUE_VECTOR);
    ASSERT((size_t)plan->kind < COUNT_OF(OPENERS));
    ASSERT(OPENERS[plan->kind] != NULL);
    if (LIKELY(!plan->stats)) return OPENERS[plan->kind](eval, plan, out, err);
    struct explain_mark since = explain_begin(eval);
    enum err_code rc = OPENERS[plan->kind](eval, plan, out, err);
    return rc ? rc : explain_wrap(eval, plan, since, out, err);
}
