/* query/function_vector.c: functions that look at whole vectors or at labels: absent, sort*, vector, label_replace,
 * label_join. */
#include <math.h>
#include <stdlib.h>

#include "query/eval_labels.h"
#include "query/number.h"
#include "query/regex.h"

/* ---- absent ---- */

struct op_absent {
    struct op op;
    struct op *arg;
    struct eval_series out;
    bool done;
};

static enum err_code absent_next(struct op *op, struct eval_batch *out, struct err *err)
{
    struct op_absent *absent = CONTAINER_OF(op, struct op_absent, op);
    *out = (struct eval_batch){NULL, 0};
    if (absent->done) return ERR_OK;
    absent->done = true;
    struct eval_series *s = &absent->out;
    s->labels = op->plan->absent_labels;
    if (!series_alloc(op->eval->arena, op->n_steps, s)) return eval_no_memory(op->eval, err);
    bitmap_fill(s->present, op->n_steps);
    for (size_t i = 0; i < op->n_steps; i++) s->v[i] = 1;
    uint64_t held_before = op->eval->samples_held;
    for (;;) {
        struct eval_batch batch;
        enum err_code rc = op_next(absent->arg, &batch, err);
        if (rc) return rc;
        if (!batch.n) break;
        for (size_t i = 0; i < batch.n; i++)
            for (size_t w = 0; w < op->n_words; w++) s->present[w] &= ~batch.items[i].present[w];
    }
    eval_let_go(op->eval, held_before, 0);
    *out = (struct eval_batch){s, 1};
    batch_compact(out, op->n_steps);
    return ERR_OK;
}

static const struct op_class ABSENT = {absent_next};

enum err_code op_open_absent(struct eval *eval, const struct plan *plan, struct op **out,
                             struct err *err)
{
    struct op_absent *absent = EVAL_NEW(eval, struct op_absent);
    if (!absent) return eval_no_memory(eval, err);
    op_init(&absent->op, &ABSENT, eval, plan);
    *out = &absent->op;
    return op_open(eval, plan->args[0], &absent->arg, err);
}

/* ---- vector ---- */

struct op_vector {
    struct op op;
    struct eval_series out;
    bool done;
};

static enum err_code vector_next(struct op *op, struct eval_batch *out, struct err *err)
{
    struct op_vector *vector = CONTAINER_OF(op, struct op_vector, op);
    *out = (struct eval_batch){NULL, 0};
    if (vector->done || !op->n_steps) return ERR_OK;
    vector->done = true;
    const double *column;
    enum err_code rc = eval_scalar(op->eval, op->plan->args[0], &column, err);
    if (rc) return rc;
    if (!series_alloc(op->eval->arena, op->n_steps, &vector->out))
        return eval_no_memory(op->eval, err);
    bitmap_fill(vector->out.present, op->n_steps);
    memcpy(vector->out.v, column, op->n_steps * sizeof(double));
    *out = (struct eval_batch){&vector->out, 1};
    return ERR_OK;
}

static const struct op_class VECTOR = {vector_next};

enum err_code op_open_vector(struct eval *eval, const struct plan *plan, struct op **out,
                             struct err *err)
{
    struct op_vector *vector = EVAL_NEW(eval, struct op_vector);
    if (!vector) return eval_no_memory(eval, err);
    op_init(&vector->op, &VECTOR, eval, plan);
    *out = &vector->op;
    return ERR_OK;
}

/* ---- sort ---- */

struct op_sort {
    struct op op;
    struct op *arg;
    struct series_list list;
    bool done;
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The run of digits, or of other bytes, that s starts with. */
static struct str first_run(struct str s)
{
    size_t n = 0;
    while (n < s.len && is_digit(s.p[n]) == is_digit(s.p[0])) n++;
    return (struct str){s.p, n};
}

static int compare_runs(struct str a, struct str b)
{
    int64_t x, y;
    bool numbers = is_digit(a.p[0]) && is_digit(b.p[0]) &&
                   number_parse_decimal(a, &x) == NUMBER_OK &&
                   number_parse_decimal(b, &y) == NUMBER_OK;
    return numbers ? (x > y) - (x < y) : str_cmp(a, b);
}

/* Numbers inside of text compare as numbers: a2 before a10. */
static int compare_natural(struct str a, struct str b)
{
    struct str x = a, y = b;
    while (x.len && y.len) {
        struct str p = first_run(x), q = first_run(y);
        int c = compare_runs(p, q);
        if (c) return c;
        x = (struct str){x.p + p.len, x.len - p.len};
        y = (struct str){y.p + q.len, y.len - q.len};
    }
    if (x.len || y.len) return x.len ? 1 : -1;
    return str_cmp(a, b);
}

static int compare_by_labels(const struct plan *plan, const struct eval_series *a,
                             const struct eval_series *b)
{
    for (size_t i = 1; i < plan->n_args; i++) {
        struct str name = plan->args[i]->text;
        struct str x = labels_get(a->labels, name), y = labels_get(b->labels, name);
        if (str_eq(x, y)) continue;
        return compare_natural(x, y);
    }
    return labels_cmp(a->labels, b->labels);
}

/* NaN last, whichever way. */
static int compare_by_value(enum function_id fn, double a, double b)
{
    if (isnan(a) || isnan(b)) return (isnan(a) != 0) - (isnan(b) != 0);
    int c = (a > b) - (a < b);
    return fn == FN_SORT ? c : -c;
}

static bool sorts_by_label(enum function_id fn)
{
    return fn == FN_SORT_BY_LABEL || fn == FN_SORT_BY_LABEL_DESC;
}

static int compare_series(const void *x, const void *y, void *ctx)
{
    const struct plan *plan = ctx;
    const struct eval_series *a = *(struct eval_series *const *)x;
    const struct eval_series *b = *(struct eval_series *const *)y;
    int c = sorts_by_label(plan->fn) ? compare_by_labels(plan, a, b)
                                     : compare_by_value(plan->fn, a->v[0], b->v[0]);
    if (plan->fn == FN_SORT_BY_LABEL_DESC) c = -c;
    return c ? c : (a > b) - (a < b);
}

static enum err_code sort_list(struct op_sort *sort, struct err *err)
{
    struct eval *eval = sort->op.eval;
    struct series_list *list = &sort->list;
    struct eval_series **order = EVAL_ARRAY(eval, struct eval_series *, list->n);
    struct eval_series *sorted = EVAL_ARRAY(eval, struct eval_series, list->n);
    if (!order || !sorted) return eval_no_memory(eval, err);
    for (size_t i = 0; i < list->n; i++) order[i] = &list->items[i];
    struct plan plan = *sort->op.plan;
    if (list->n) qsort_r(order, list->n, sizeof(struct eval_series *), compare_series, &plan);
    for (size_t i = 0; i < list->n; i++) sorted[i] = *order[i];
    list->items = sorted;
    return ERR_OK;
}

static void drop_histograms(const struct op *op, struct eval_series *s)
{
    if (!s->h) return;
    BITMAP_EACH(step, s->present, op->n_steps)
    {
        if (s->h[step]) series_remove(s, step);
    }
    s->h = NULL;
}

/* Range queries are ordered by labels in the end: only the floats are told from the histograms. */
static enum err_code sort_range_next(struct op_sort *sort, struct eval_batch *out, struct err *err)
{
    do {
        enum err_code rc = op_next(sort->arg, out, err);
        if (rc || !out->n) return rc;
        for (size_t i = 0; i < out->n && !sorts_by_label(sort->op.plan->fn); i++)
            drop_histograms(&sort->op, &out->items[i]);
        batch_compact(out, sort->op.n_steps);
    } while (!out->n);
    return ERR_OK;
}

static enum err_code sort_next(struct op *op, struct eval_batch *out, struct err *err)
{
    struct op_sort *sort = CONTAINER_OF(op, struct op_sort, op);
    if (op->n_steps != 1 || op->eval->step_ms) return sort_range_next(sort, out, err);
    *out = (struct eval_batch){NULL, 0};
    if (sort->done) return ERR_OK;
    sort->done = true;
    enum err_code rc = op_drain(sort->arg, &sort->list, err);
    if (rc) return rc;
    struct eval_batch all = {sort->list.items, sort->list.n};
    for (size_t i = 0; i < all.n && !sorts_by_label(op->plan->fn); i++)
        drop_histograms(op, &all.items[i]);
    batch_compact(&all, op->n_steps);
    sort->list.n = all.n;
    rc = sort_list(sort, err);
    *out = (struct eval_batch){sort->list.items, sort->list.n};
    return rc;
}

static const struct op_class SORT = {sort_next};

enum err_code op_open_sort(struct eval *eval, const struct plan *plan, struct op **out,
                           struct err *err)
{
    struct op_sort *sort = EVAL_NEW(eval, struct op_sort);
    if (!sort) return eval_no_memory(eval, err);
    op_init(&sort->op, &SORT, eval, plan);
    *out = &sort->op;
    if (eval->step_ms)
        notes_add(&eval->notes, NOTE_WARNING, plan->node->pos,
                  "sort is ineffective for range queries since results are always ordered by "
                  "labels");
    return op_open(eval, plan->args[0], &sort->arg, err);
}

/* ---- label_replace, label_join ---- */

struct op_labels {
    struct op op;
    struct op *arg;
    struct str dst;
    struct str replacement, src; /* label_replace */
    struct regex *regex;
    struct str *groups;
    size_t n_groups;
    struct str separator; /* label_join; sources are args[3…] */
    struct buf *text;
    struct overlap_table put_out;
};

/* Gives the destination label the value built in lb->text. */
static enum err_code set_label(struct op_labels *lb, struct eval_series *s, struct err *err)
{
    enum err_code rc = buf_finish(lb->text, err);
    if (rc) return rc;
    struct str text = arena_str(lb->op.eval->arena, str_from_bytes(buf_bytes(lb->text)));
    if (!text.p) return eval_no_memory(lb->op.eval, err);
    if (str_eq(lb->dst, STR(LABEL_NAME))) s->drop_name = false;
    return labels_with(lb->op.eval->arena, s->labels, lb->dst, text, &s->labels, err);
}

static enum err_code replace_labels(struct op_labels *lb, struct eval_series *s, struct err *err)
{
    struct str value = labels_get(s->labels, lb->src);
    if (!regex_match_groups(lb->regex, value, lb->groups, lb->n_groups)) return ERR_OK;
    buf_reset(lb->text);
    regex_expand(lb->regex, lb->replacement, lb->groups, lb->n_groups, lb->text);
    return set_label(lb, s, err);
}

static enum err_code join_labels(struct op_labels *lb, struct eval_series *s, struct err *err)
{
    const struct plan *plan = lb->op.plan;
    buf_reset(lb->text);
    for (size_t i = 3; i < plan->n_args; i++) {
        if (i > 3) buf_text(lb->text, lb->separator);
        buf_text(lb->text, labels_get(s->labels, plan->args[i]->text));
    }
    return set_label(lb, s, err);
}

static enum err_code labels_next(struct op *op, struct eval_batch *out, struct err *err)
{
    struct op_labels *lb = CONTAINER_OF(op, struct op_labels, op);
    enum err_code rc = op_next(lb->arg, out, err);
    for (size_t i = 0; i < out->n && !rc; i++) {
        struct eval_series *s = &out->items[i];
        rc =
            op->plan->fn == FN_LABEL_REPLACE ? replace_labels(lb, s, err) : join_labels(lb, s, err);
        if (rc) break;
        uint32_t id;
        bool overlaps;
        rc = overlap_add(&lb->put_out, s->labels, s->present, &id, &overlaps, err);
        if (!rc && overlaps) rc = eval_same_labelset(err);
    }
    return rc;
}

static const struct op_class LABELS = {labels_next};

static bool label_name_ok(struct str name)
{
    return name.len && utf8_valid(name);
}

static enum err_code bad_label_name(const char *which, struct op_labels *lb, struct str name,
                                    struct err *err)
{
    const struct node_call *call = NODE_AS(call, lb->op.plan->node);
    return err_set(err, ERR_EXECUTION, "invalid %s label name in %s(): %.*s", which,
                   call->func->name, STR_ARG(name));
}

static enum err_code open_replace(struct op_labels *lb, struct err *err)
{
    struct eval *eval = lb->op.eval;
    const struct plan *plan = lb->op.plan;
    lb->replacement = plan->args[2]->text;
    lb->src = plan->args[3]->text;
    struct str pattern = plan->args[4]->text;
    enum err_code rc = regex_compile(pattern, &lb->regex, err);
    if (rc == ERR_NO_MEMORY) return rc;
    if (rc)
        return err_set(err, ERR_EXECUTION, "invalid regular expression in label_replace(): %.*s",
                       STR_ARG(pattern));
    struct eval_regex *entry = EVAL_NEW(eval, struct eval_regex);
    if (!entry) {
        regex_free(lb->regex);
        return eval_no_memory(eval, err);
    }
    *entry = (struct eval_regex){eval->regexes, lb->regex};
    eval->regexes = entry;
    lb->n_groups = regex_n_groups(lb->regex) + 1;
    lb->groups = EVAL_ARRAY(eval, struct str, lb->n_groups);
    if (!lb->groups) return eval_no_memory(eval, err);
    return label_name_ok(lb->dst) ? ERR_OK : bad_label_name("destination", lb, lb->dst, err);
}

static enum err_code open_join(struct op_labels *lb, struct err *err)
{
    const struct plan *plan = lb->op.plan;
    lb->separator = plan->args[2]->text;
    for (size_t i = 3; i < plan->n_args; i++)
        if (!label_name_ok(plan->args[i]->text))
            return bad_label_name("source", lb, plan->args[i]->text, err);
    return label_name_ok(lb->dst) ? ERR_OK : bad_label_name("destination", lb, lb->dst, err);
}

enum err_code op_open_labels(struct eval *eval, const struct plan *plan, struct op **out,
                             struct err *err)
{
    struct op_labels *lb = EVAL_NEW(eval, struct op_labels);
    if (!lb) return eval_no_memory(eval, err);
    op_init(&lb->op, &LABELS, eval, plan);
    *out = &lb->op;
    lb->dst = plan->args[1]->text;
    lb->text = &eval->text_buf;
    overlap_init(&lb->put_out, eval, plan->grid.n);
    enum err_code rc = plan->fn == FN_LABEL_REPLACE ? open_replace(lb, err) : open_join(lb, err);
    return rc ? rc : op_open(eval, plan->args[0], &lb->arg, err);
}
