/* query/quantile_vector.c: histogram_quantile, histogram_quantiles and histogram_fraction over vectors. Classic
 * histograms come as many series: those with equal labels but `le` are held until the input ends. Native ones are
 * evaluated as they pass. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "query/eval_labels.h"
#include "query/number.h"

struct le_series {
    double le;
    struct eval_series s;
};

/* What one quantile (or the fraction) gives for one group. */
struct result_piece {
    double
        q; /* histogram_quantiles: the label's value; steps with another have a piece of their own */
    struct eval_series s;
    struct result_piece *next;
};

/* A classic family, a native series, or by mishap both. */
struct quantile_group {
    struct labels labels; /* of results, with the name */
    struct str metric;
    struct le_series *buckets;
    size_t n_buckets, cap_buckets;
    uint64_t *has_native;
    struct result_piece **pieces; /* per quantile */
};

/* The repairs of one metric's families, told in one note. */
struct repair {
    struct repair *next;
    struct str metric;
    double max_diff, from, to;
    uint64_t n;
    int64_t first_ms, last_ms;
};

struct op_quantile {
    struct op op;
    struct op *arg;
    struct scalar_args args;
    size_t n_results; /* per group and step */
    uint32_t pos_vector;
    struct str label; /* histogram_quantiles */
    struct key_table keys;
    struct quantile_group *groups;
    size_t groups_cap;
    struct repair *repairs;
    struct series_list out;
    bool done;
};

static bool is_fraction(const struct op_quantile *op)
{
    return op->op.plan->fn == FN_HISTOGRAM_FRACTION;
}

/* ---- groups ---- */

static enum err_code group_new(struct op_quantile *op, struct quantile_group *group,
                               struct labels labels, struct err *err)
{
    struct eval *eval = op->op.eval;
    *group = (struct quantile_group){.metric = labels_get(labels, STR(LABEL_NAME))};
    group->has_native = EVAL_ARRAY(eval, uint64_t, op->op.n_words);
    group->pieces = EVAL_ARRAY(eval, struct result_piece *, op->n_results);
    if (!group->has_native || !group->pieces) return eval_no_memory(eval, err);
    return labels_with(eval->arena, labels, STR(LABEL_LE), (struct str){NULL, 0}, &group->labels,
                       err);
}

/* Native histograms are told apart by all of their labels, classic ones by all but `le`. */
static enum err_code group_of(struct op_quantile *op, struct labels labels, bool native,
                              struct quantile_group **out, struct err *err)
{
    struct eval *eval = op->op.eval;
    uint32_t id;
    bool added;
    key_begin(&op->keys);
    for (size_t i = 0; i < labels.n; i++) {
        if (!native && str_eq(labels.items[i].name, STR(LABEL_LE))) continue;
        key_put(&op->keys, labels.items[i].name);
        key_put(&op->keys, labels.items[i].value);
    }
    enum err_code rc = key_add(&op->keys, &id, &added, err);
    if (rc) return rc;
    if (id >= op->groups_cap) {
        size_t cap = MAX_OF(op->groups_cap * 2, (size_t)16);
        struct quantile_group *groups = EVAL_ARRAY(eval, struct quantile_group, cap);
        if (!groups) return eval_no_memory(eval, err);
        if (op->groups_cap) memcpy(groups, op->groups, op->groups_cap * sizeof(*groups));
        op->groups = groups;
        op->groups_cap = cap;
    }
    *out = &op->groups[id];
    if (added) rc = group_new(op, *out, labels, err);
    if (!rc && native) (*out)->labels = labels;
    return rc;
}

static enum err_code group_add_bucket(struct op_quantile *op, struct quantile_group *group,
                                      double le, const struct eval_series *s, struct err *err)
{
    struct eval *eval = op->op.eval;
    if (group->n_buckets == group->cap_buckets) {
        size_t cap = MAX_OF(group->cap_buckets * 2, (size_t)16);
        struct le_series *buckets = EVAL_ARRAY(eval, struct le_series, cap);
        if (!buckets) return eval_no_memory(eval, err);
        if (group->n_buckets) memcpy(buckets, group->buckets, group->n_buckets * sizeof(*buckets));
        group->buckets = buckets;
        group->cap_buckets = cap;
    }
    struct le_series *bucket = &group->buckets[group->n_buckets++];
    bucket->le = le;
    return series_keep(eval, s, op->op.n_steps, &bucket->s, err);
}

/* 0.5, 1.0, NaN: floats as OpenMetrics writes them. */
static enum err_code quantile_label(struct op_quantile *op, struct labels in, double q,
                                    struct labels *out, struct err *err)
{
    struct eval *eval = op->op.eval;
    char text[NUMBER_BYTES_MAX];
    size_t len = number_print_general(text, q);
    bool whole = isfinite(q) && !memchr(text, '.', len) && !memchr(text, 'e', len);
    struct str value = arena_printf(eval->arena, "%.*s%s", (int)len, text, whole ? ".0" : "");
    if (!value.p) return eval_no_memory(eval, err);
    return labels_with(eval->arena, in, op->label, value, out, err);
}

static enum err_code piece_of(struct op_quantile *op, struct quantile_group *group, size_t result,
                              size_t step, struct eval_series **out, struct err *err)
{
    struct eval *eval = op->op.eval;
    double q = op->label.len ? op->args.columns[result][step] : 0;
    struct result_piece **link = &group->pieces[result];
    while (*link && double_bits((*link)->q) != double_bits(q)) link = &(*link)->next;
    if (!*link) {
        struct result_piece *piece = *link = EVAL_NEW(eval, struct result_piece);
        if (!piece || !series_alloc(eval->arena, op->op.n_steps, &piece->s))
            return eval_no_memory(eval, err);
        piece->q = q;
        piece->s.labels = group->labels;
        piece->s.drop_name = true;
        if (op->label.len) {
            enum err_code rc = quantile_label(op, group->labels, q, &piece->s.labels, err);
            if (rc) return rc;
        }
    }
    *out = &(*link)->s;
    return ERR_OK;
}

static enum err_code put_value(struct op_quantile *op, struct quantile_group *group, size_t result,
                               size_t step, double v, struct err *err)
{
    struct eval_series *s;
    enum err_code rc = piece_of(op, group, result, step, &s, err);
    if (!rc) series_set(s, step, v, NULL);
    return rc;
}

/* ---- taking in ---- */

static enum err_code take_native(struct op_quantile *op, const struct eval_series *s,
                                 struct err *err)
{
    struct quantile_group *group = NULL;
    struct quantile_context ctx = {.notes = &op->op.eval->notes,
                                   .pos_vector = op->pos_vector,
                                   .pos_scalar = op->args.pos_first,
                                   .metric = labels_get(s->labels, STR(LABEL_NAME))};
    BITMAP_EACH(step, s->present, op->op.n_steps)
    {
        const struct histogram *h = s->h[step];
        if (!h) continue;
        enum err_code rc = group ? ERR_OK : group_of(op, s->labels, true, &group, err);
        if (rc) return rc;
        bitmap_set(group->has_native, step);
        ctx.t_ms = grid_time(&op->op.plan->grid, step);
        const double *const *args = op->args.columns;
        for (size_t i = 0; i < op->n_results && !rc; i++) {
            double v = is_fraction(op) ? histogram_fraction(args[0][step], args[1][step], h, &ctx)
                                       : histogram_quantile(args[i][step], h, &ctx);
            rc = put_value(op, group, i, step, v, err);
        }
        if (rc) return rc;
    }
    return ERR_OK;
}

static bool has_floats(const struct op_quantile *op, const struct eval_series *s)
{
    if (!s->h) return true;
    BITMAP_EACH(step, s->present, op->op.n_steps)
    {
        if (!s->h[step]) return true;
    }
    return false;
}

static enum err_code take_series(struct op_quantile *op, struct eval_series *s, struct err *err)
{
    if (s->h) {
        enum err_code rc = take_native(op, s, err);
        if (rc) return rc;
    }
    if (!has_floats(op, s)) return ERR_OK;
    struct str text = labels_get(s->labels, STR(LABEL_LE));
    double le;
    if (!le_parse(text, &le)) {
        notes_add(&op->op.eval->notes, NOTE_WARNING, op->pos_vector,
                  "bucket label \"le\" is missing or has a malformed value of \"%.*s\" for "
                  "metric name \"%.*s\"",
                  STR_ARG(text), STR_ARG(labels_get(s->labels, STR(LABEL_NAME))));
        return ERR_OK;
    }
    for (size_t step = 0; s->h && step < op->op.n_steps; step++)
        if (s->h[step]) series_remove(s, step);
    s->h = NULL;
    struct quantile_group *group;
    enum err_code rc = group_of(op, s->labels, false, &group, err);
    return rc ? rc : group_add_bucket(op, group, le, s, err);
}

static enum err_code take_in_all(struct op_quantile *op, struct err *err)
{
    for (;;) {
        struct eval_batch batch;
        enum err_code rc = op_next(op->arg, &batch, err);
        if (rc || !batch.n) return rc;
        for (size_t i = 0; i < batch.n && !rc; i++) rc = take_series(op, &batch.items[i], err);
        if (!rc) rc = eval_poll(op->op.eval, err);
        if (rc) return rc;
    }
}

/* ---- classic families ---- */

static enum err_code note_repair(struct op_quantile *op, const struct quantile_group *group,
                                 const struct repair *one, struct err *err)
{
    struct repair **link = &op->repairs;
    while (*link && !str_eq((*link)->metric, group->metric)) link = &(*link)->next;
    if (!*link) {
        *link = EVAL_NEW(op->op.eval, struct repair);
        if (!*link) return eval_no_memory(op->op.eval, err);
        **link = *one;
        (*link)->metric = group->metric;
        return ERR_OK;
    }
    struct repair *all = *link;
    all->n++;
    all->max_diff = MAX_OF(all->max_diff, one->max_diff);
    all->from = MIN_OF(all->from, one->from);
    all->to = MAX_OF(all->to, one->to);
    all->first_ms = MIN_OF(all->first_ms, one->first_ms);
    all->last_ms = MAX_OF(all->last_ms, one->last_ms);
    return ERR_OK;
}

/* RFC 3339, in UTC, with as many digits of a second as are not 0. */
static void print_time(int64_t t_ms, char *out, size_t size)
{
    int64_t seconds = t_ms / 1000, ms = t_ms % 1000;
    if (ms < 0) {
        ms += 1000;
        seconds--;
    }
    time_t t = (time_t)seconds;
    struct tm tm = {0};
    char date[40], fraction[8] = "";
    gmtime_r(&t, &tm);
    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
    if (ms) {
        int n = snprintf(fraction, sizeof(fraction), ".%03u", (unsigned)(ms % 1000));
        while (n > 0 && fraction[n - 1] == '0') fraction[--n] = 0;
    }
    snprintf(out, size, "%s%sZ", date, fraction);
}

static void note_repairs(struct op_quantile *op)
{
    for (const struct repair *r = op->repairs; r; r = r->next) {
        char from[NUMBER_BYTES_MAX], to[NUMBER_BYTES_MAX], first[64], last[64];
        size_t from_len = number_print_general(from, r->from);
        size_t to_len = number_print_general(to, r->to);
        print_time(r->first_ms, first, sizeof(first));
        print_time(r->last_ms, last, sizeof(last));
        bool named = r->metric.len > 0;
        notes_add(&op->op.eval->notes, NOTE_INFO, op->pos_vector,
                  "input to histogram_quantile needed to be fixed for monotonicity (see "
                  "https://prometheus.io/docs/prometheus/latest/querying/functions/"
                  "#histogram_quantile)%s%.*s%s, from buckets %.*s to %.*s, with a max diff of "
                  "%.2g, over %llu samples from %s to %s",
                  named ? " for metric name \"" : "", STR_ARG(r->metric), named ? "\"" : "",
                  (int)from_len, from, (int)to_len, to, r->max_diff, (unsigned long long)r->n,
                  first, last);
    }
}

static int compare_le(const void *a, const void *b)
{
    const struct le_series *x = a, *y = b;
    return (x->le > y->le) - (x->le < y->le);
}

static enum err_code classic_step(struct op_quantile *op, struct quantile_group *group, size_t step,
                                  struct le_bucket *now, struct le_bucket *work, size_t n,
                                  struct err *err)
{
    const double *const *args = op->args.columns;
    for (size_t i = 0; i < op->n_results; i++) {
        /* The kernels rearrange what they are given. */
        memcpy(work, now, n * sizeof(*work));
        double v;
        if (is_fraction(op)) {
            v = le_fraction(args[0][step], args[1][step], work, n);
        } else {
            bool repaired = false;
            struct repair one = {.n = 1};
            v = le_quantile(args[i][step], work, n, &repaired, &one.max_diff, &one.from, &one.to);
            one.first_ms = one.last_ms = grid_time(&op->op.plan->grid, step);
            enum err_code rc = repaired ? note_repair(op, group, &one, err) : ERR_OK;
            if (rc) return rc;
        }
        enum err_code rc = put_value(op, group, i, step, v, err);
        if (rc) return rc;
    }
    return ERR_OK;
}

static void drop_conflict(struct op_quantile *op, struct quantile_group *group, size_t step)
{
    notes_add(&op->op.eval->notes, NOTE_WARNING, op->pos_vector,
              "vector contains a mix of classic and native histograms for metric name \"%.*s\"",
              STR_ARG(group->metric));
    for (size_t i = 0; i < op->n_results; i++)
        for (struct result_piece *p = group->pieces[i]; p; p = p->next)
            if (bitmap_get(p->s.present, step)) series_remove(&p->s, step);
}

static enum err_code finish_group(struct op_quantile *op, struct quantile_group *group,
                                  struct err *err)
{
    size_t max = group->n_buckets;
    struct le_bucket *now = EVAL_ARRAY(op->op.eval, struct le_bucket, max * 2);
    if (!now) return eval_no_memory(op->op.eval, err);
    if (max) qsort(group->buckets, max, sizeof(*group->buckets), compare_le);
    for (size_t step = 0; max && step < op->op.n_steps; step++) {
        size_t n = 0;
        for (size_t b = 0; b < max; b++)
            if (bitmap_get(group->buckets[b].s.present, step))
                now[n++] = (struct le_bucket){group->buckets[b].le, group->buckets[b].s.v[step]};
        if (!n) continue;
        if (bitmap_get(group->has_native, step)) {
            drop_conflict(op, group, step);
            continue;
        }
        enum err_code rc = classic_step(op, group, step, now, now + max, n, err);
        if (rc) return rc;
    }
    for (size_t i = 0; i < op->n_results; i++)
        for (const struct result_piece *p = group->pieces[i]; p; p = p->next) {
            enum err_code rc = series_list_push(op->op.eval, &op->out, &p->s, err);
            if (rc) return rc;
        }
    return ERR_OK;
}

/* ---- the operator ---- */

static void note_bad_quantiles(struct op_quantile *op)
{
    for (size_t i = 0; i < op->args.n && !is_fraction(op); i++) {
        double last = 0.5;
        for (size_t s = 0; s < op->op.n_steps; s++) {
            double q = op->args.columns[i][s];
            if ((q >= 0 && q <= 1) || double_bits(q) == double_bits(last)) continue;
            last = q;
            char text[NUMBER_BYTES_MAX];
            size_t len = number_print_general(text, q);
            notes_add(&op->op.eval->notes, NOTE_WARNING, op->args.pos[i],
                      "quantile value should be between 0 and 1, got %.*s", (int)len, text);
        }
    }
}

static enum err_code quantile_next(struct op *base, struct eval_batch *out, struct err *err)
{
    struct op_quantile *op = CONTAINER_OF(base, struct op_quantile, op);
    *out = (struct eval_batch){NULL, 0};
    if (op->done) return ERR_OK;
    op->done = true;
    uint64_t held_before = base->eval->samples_held;
    note_bad_quantiles(op);
    enum err_code rc = take_in_all(op, err);
    for (size_t g = 0; g < op->keys.n && !rc; g++) {
        rc = finish_group(op, &op->groups[g], err);
        if (!rc) rc = eval_poll(base->eval, err);
    }
    note_repairs(op);
    eval_let_go(base->eval, held_before, op->out.n * base->n_steps);
    *out = (struct eval_batch){op->out.items, op->out.n};
    batch_compact(out, base->n_steps);
    return rc;
}

static const struct op_class QUANTILE = {quantile_next};

enum err_code op_open_quantile(struct eval *eval, const struct plan *plan, struct op **out,
                               struct err *err)
{
    struct op_quantile *op = EVAL_NEW(eval, struct op_quantile);
    if (!op) return eval_no_memory(eval, err);
    op_init(&op->op, &QUANTILE, eval, plan);
    *out = &op->op;
    op->pos_vector = node_unparen(NODE_AS(call, plan->node)->args[plan->main_arg])->pos;
    if (plan->fn == FN_HISTOGRAM_QUANTILES) op->label = plan->args[1]->text;
    key_table_init(&op->keys, eval);
    enum err_code rc = eval_scalar_args(eval, plan, &op->args, err);
    op->n_results = is_fraction(op) ? 1 : op->args.n;
    return rc ? rc : op_open(eval, plan->args[plan->main_arg], &op->arg, err);
}
