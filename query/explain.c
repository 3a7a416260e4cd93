/* query/explain.c: see the header. */
#include "query/explain.h"

#include <inttypes.h>
#include <math.h>

#include "query/json.h"
#include "query/number.h"

enum err_code explain_attach(struct arena *arena, struct plan *plan, struct err *err)
{
    plan->stats = ARENA_NEW(arena, struct plan_stats);
    if (!plan->stats) return arena_fail(arena, err);
    for (size_t i = 0; i < plan->n_args; i++) {
        enum err_code rc = explain_attach(arena, plan->args[i], err);
        if (rc) return rc;
    }
    return ERR_OK;
}

/* ---- measuring ---- */

struct op_counting {
    struct op op;
    struct op *inner;
};

void explain_add(struct eval *eval, const struct plan *plan, struct explain_mark since)
{
    plan->stats->ran = true;
    plan->stats->ns += clock_mono_ns(eval->env->clock) - since.ns;
    plan->stats->samples += eval->stats.samples - since.samples;
}

static enum err_code counting_next(struct op *op, struct eval_batch *out, struct err *err)
{
    struct op_counting *counting = CONTAINER_OF(op, struct op_counting, op);
    struct plan_stats *stats = op->plan->stats;
    struct explain_mark since = explain_begin(op->eval);
    enum err_code rc = op_next(counting->inner, out, err);
    explain_add(op->eval, op->plan, since);
    if (rc) return rc;
    stats->batches += out->n > 0;
    stats->series += out->n;
    for (size_t i = 0; i < out->n; i++)
        stats->points += bitmap_count(out->items[i].present, op->n_steps);
    return ERR_OK;
}

static const struct op_class COUNTING = {counting_next};

enum err_code explain_wrap(struct eval *eval, const struct plan *plan, struct explain_mark since,
                           struct op **op, struct err *err)
{
    struct op_counting *counting = EVAL_NEW(eval, struct op_counting);
    if (!counting) return eval_no_memory(eval, err);
    op_init(&counting->op, &COUNTING, eval, plan);
    counting->inner = *op;
    *op = &counting->op;
    explain_add(eval, plan, since);
    return ERR_OK;
}

/* ---- names ---- */

static const char *const NAMES[] = {
    [PLAN_NUMBER] = "number",
    [PLAN_TIME] = "time",
    [PLAN_SCALAR_OF] = "scalar",
    [PLAN_SCALAR_BINARY] = "scalar operation",
    [PLAN_SCALAR_NEGATE] = "scalar negation",
    [PLAN_SCALAR_EXTREME] = "scalar extreme",
    [PLAN_STRING] = "string",
    [PLAN_SELECT] = "select",
    [PLAN_RANGE] = "range function",
    [PLAN_ELEMENT] = "function",
    [PLAN_NEGATE] = "negation",
    [PLAN_VECTOR_SCALAR] = "vector and scalar",
    [PLAN_MATCH] = "match",
    [PLAN_SET] = "set operation",
    [PLAN_AGGREGATE] = "aggregate",
    [PLAN_QUANTILE] = "histogram quantile",
    [PLAN_ABSENT] = "absent",
    [PLAN_SORT] = "sort",
    [PLAN_VECTOR] = "vector",
    [PLAN_LABELS] = "labels",
    [PLAN_INFO] = "info",
    [PLAN_REPEAT] = "once for all steps",
    [PLAN_UNIQUE] = "unique",
    [PLAN_SELECT_RANGE] = "select range",
    [PLAN_SUBQUERY] = "subquery",
};

static struct node *node_of(const struct plan *plan)
{
    return (struct node *)(uintptr_t)plan->node;
}

/* What the node is called in PromQL, "" where it has no word. */
static const char *word_of(const struct plan *plan)
{
    switch (plan->kind) {
    case PLAN_AGGREGATE: return aggregate_op_name(NODE_AS(aggregate, node_of(plan))->op);
    case PLAN_VECTOR_SCALAR:
    case PLAN_MATCH:
    case PLAN_SET:
    case PLAN_SCALAR_BINARY: return binary_op_text(plan->op);
    case PLAN_RANGE:
    case PLAN_ELEMENT:
    case PLAN_SORT:
    case PLAN_LABELS:
    case PLAN_QUANTILE:
        return plan->node->kind == NODE_CALL ? NODE_AS(call, node_of(plan))->func->name : "";
    default: return "";
    }
}

void explain_short(const struct plan *plan, struct buf *out)
{
    const char *word = word_of(plan);
    bool first = true;
    buf_text(out, str_of(*word ? word : NAMES[plan->kind]));
    for (size_t i = 0; i < plan->n_args; i++) {
        if (plan->args[i]->kind == PLAN_NUMBER || plan->args[i]->kind == PLAN_STRING) continue;
        buf_u8(out, first ? '(' : ',');
        first = false;
        explain_short(plan->args[i], out);
    }
    if (!first) buf_u8(out, ')');
}

/* ---- as JSON ---- */

static void put_number(struct buf *out, const char *name, double v)
{
    char text[NUMBER_BYTES_MAX];
    buf_printf(out, "\"%s\":%.*s", name, (int)number_print_plain(text, v), text);
}

static void put_estimate(const struct plan_cost *cost, struct buf *out)
{
    buf_text(out, STR(",\"estimated\":{"));
    put_number(out, "seconds", round(cost_seconds(cost) * 1e6) / 1e6);
    buf_u8(out, ',');
    put_number(out, "series", ceil(cost->series));
    buf_u8(out, ',');
    put_number(out, "samples", ceil(cost->samples));
    buf_u8(out, ',');
    put_number(out, "windowSamples", ceil(cost->work));
    buf_u8(out, ',');
    put_number(out, "points", ceil(cost->points));
    buf_u8(out, '}');
}

static int64_t children_ns(const struct plan *plan)
{
    int64_t ns = 0;
    for (size_t i = 0; i < plan->n_args; i++) ns += plan->args[i]->stats->ns;
    return ns;
}

static void put_measured(const struct plan *plan, struct buf *out)
{
    const struct plan_stats *s = plan->stats;
    buf_text(out, STR(",\"measured\":{"));
    put_number(out, "seconds", (double)s->ns / 1e9);
    buf_u8(out, ',');
    put_number(out, "selfSeconds", (double)MAX_OF(s->ns - children_ns(plan), INT64_C(0)) / 1e9);
    buf_printf(out, ",\"series\":%" PRIu64 ",\"windowSamples\":%" PRIu64, s->series, s->samples);
    buf_printf(out, ",\"points\":%" PRIu64 ",\"bytes\":%" PRIu64 "}", s->points,
               s->points * (uint64_t)sizeof(double));
}

void explain_print(const struct plan *plan, struct str text, struct buf *out)
{
    const struct node *node = plan->node;
    const char *word = word_of(plan);
    size_t pos = MIN_OF((size_t)node->pos, text.len), end = MIN_OF((size_t)node->end, text.len);
    buf_printf(out, "{\"node\":\"%s%s", NAMES[plan->kind], *word ? " " : "");
    for (const char *p = word; *p; p++) { /* operators: < and > among them */
        if (*p == '<' || *p == '>')
            buf_printf(out, "\\u%04x", (unsigned)*p);
        else
            buf_u8(out, (uint8_t)*p);
    }
    buf_text(out, STR("\",\"expr\":"));
    json_string_html(out, (struct str){text.p + pos, end > pos ? end - pos : 0});
    buf_printf(out, ",\"steps\":%zu", plan->grid.n);
    put_estimate(&plan->stats->cost, out);
    if (plan->stats->ran) put_measured(plan, out);
    buf_text(out, STR(",\"children\":["));
    bool first = true;
    for (size_t i = 0; i < plan->n_args; i++) {
        if (plan->args[i]->kind == PLAN_NUMBER || plan->args[i]->kind == PLAN_STRING) continue;
        if (!first) buf_u8(out, ',');
        first = false;
        explain_print(plan->args[i], text, out);
    }
    buf_text(out, STR("]}"));
}
