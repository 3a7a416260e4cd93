/* query/eval_leaf.c: operators that read stored series: instant selectors and range functions over selectors. A
 * batch of series is read and evaluated over the pool; the samples are gone when the batch is. */
#include "query/column_kernel.h"
#include "query/eval_op.h"
#include "query/explain.h"

#include "storage/labels.h"

/* Equal selectors of a query share what the source selected. */
struct eval_select {
    struct eval_select *next;
    const struct plan *plan;
    struct source_select *select;
};

static bool same_selection(const struct plan *a, const struct plan *b)
{
    if (a->mint_ms != b->mint_ms || a->maxt_ms != b->maxt_ms) return false;
    if (a->n_matchers != b->n_matchers) return false;
    for (size_t i = 0; i < a->n_matchers; i++) {
        const struct matcher *x = &a->matchers[i], *y = &b->matchers[i];
        if (x->op != y->op || !str_eq(x->name, y->name) || !str_eq(x->value, y->value))
            return false;
    }
    return true;
}

/* A series takes about so much in a select: its place, and labels. */
#define SELECT_SERIES_BYTES 256

static enum err_code poll_select(void *ctx, struct err *err)
{
    return eval_poll_worker(ctx, err);
}

/* With as many series as the query may still have: by their number, and by the memory that they take. */
static enum err_code select_bounded(struct eval *eval, const struct plan *plan,
                                    struct source_select **out, struct err *err)
{
    struct query_source *source = eval->env->source;
    const struct query_limits *limits = &eval->env->limits;
    uint64_t by_count = limits->series_max ? limits->series_max : UINT64_MAX;
    uint64_t by_memory =
        limits->memory_bytes_max ? limits->memory_bytes_max / SELECT_SERIES_BYTES : UINT64_MAX;
    uint64_t max = MIN_OF(by_count, by_memory);
    uint64_t left = MAX_OF(max - MIN_OF(max, eval->stats.series), UINT64_C(1));
    struct source_bounds bounds = {max == UINT64_MAX ? 0 : (size_t)left, poll_select, eval,
                                   source->ops->spell != NULL};
    source->bounds = &bounds;
    enum err_code rc = source->ops->select(source, plan->matchers, plan->n_matchers, plan->mint_ms,
                                           plan->maxt_ms, out, err);
    source->bounds = NULL;
    if (rc != ERR_LIMIT) return rc;
    uint64_t reached = eval->stats.series + left + 1;
    return by_count <= by_memory
               ? eval_over_limit(eval, LIMIT_SERIES, reached, err)
               : eval_over_limit(eval, LIMIT_MEMORY, reached * SELECT_SERIES_BYTES, err);
}

static enum err_code note_missing(struct eval *eval, const struct plan *plan, struct err *err)
{
    struct query_source *source = eval->env->source;
    struct str *texts;
    size_t n = 0;
    if (!source->ops->warnings) return ERR_OK;
    enum err_code rc = source->ops->warnings(source, plan->mint_ms, plan->maxt_ms,
                                             eval->notes.arena, &texts, &n, err);
    for (size_t i = 0; !rc && i < n; i++)
        notes_add_plain(&eval->notes, NOTE_WARNING, "%.*s", STR_ARG(texts[i]));
    return rc;
}

static enum err_code find_or_select(struct eval *eval, const struct plan *plan,
                                    struct source_select **out, struct err *err)
{
    for (struct eval_select *s = eval->selects; s; s = s->next) {
        if (!same_selection(s->plan, plan)) continue;
        *out = s->select;
        return ERR_OK;
    }
    struct eval_select *entry = EVAL_NEW(eval, struct eval_select);
    if (!entry) return eval_no_memory(eval, err);
    struct query_source *source = eval->env->source;
    int64_t before_ns = clock_mono_ns(eval->env->clock);
    enum err_code rc = select_bounded(eval, plan, &entry->select, err);
    eval->stats.select_ns += clock_mono_ns(eval->env->clock) - before_ns;
    if (rc) return rc;
    entry->plan = plan;
    entry->next = eval->selects;
    eval->selects = entry;
    eval->stats.series += source->ops->count(entry->select);
    eval->select_bytes += source->ops->count(entry->select) * SELECT_SERIES_BYTES;
    *out = entry->select;
    uint64_t max = eval->env->limits.series_max; /* some sources know no bounds */
    if (max && eval->stats.series > max)
        return eval_over_limit(eval, LIMIT_SERIES, eval->stats.series, err);
    return note_missing(eval, plan, err);
}

/* With labels, unless it stays bare. */
static enum err_code select_spelled(struct eval *eval, const struct plan *plan, bool bare,
                                    struct source_select **out, struct err *err)
{
    const struct query_source_ops *source = eval->env->source->ops;
    enum err_code rc = find_or_select(eval, plan, out, err);
    if (rc || bare || !source->spell) return rc;
    int64_t before_ns = clock_mono_ns(eval->env->clock);
    rc = source->spell(*out, 0, source->count(*out), err);
    eval->stats.select_ns += clock_mono_ns(eval->env->clock) - before_ns;
    return rc;
}

enum err_code eval_select(struct eval *eval, const struct plan *plan, bool bare,
                          struct source_select **out, struct err *err)
{
    /* Of instant selectors the operator is measured, this included. */
    if (LIKELY(!plan->stats || plan->kind == PLAN_SELECT))
        return select_spelled(eval, plan, bare, out, err);
    struct explain_mark since = explain_begin(eval);
    enum err_code rc = select_spelled(eval, plan, bare, out, err);
    explain_add(eval, plan, since);
    if (!rc) plan->stats->series = eval->env->source->ops->count(*out);
    return rc;
}

void eval_release_selects(struct eval *eval)
{
    for (struct eval_select *s = eval->selects; s; s = s->next)
        eval->env->source->ops->release(s->select);
    eval->selects = NULL;
}

/* ---- the operator ---- */

struct leaf_slot {
    struct notes notes;
    uint64_t n_looked_at; /* samples in windows, over all steps */
};

struct op_leaf {
    struct op op;
    const struct plan *selector; /* what is read */
    struct source_select *select;
    size_t n_series, next_series;
    size_t batch_max, n_batch;
    struct eval_workers workers;
    struct eval_series *items; /* batch_max of each */
    struct leaf_slot *slots;
    struct window_job job; /* PLAN_RANGE */
    bool no_values;        /* who pulls asks only where there are values */
    bool bare;             /* series have no labels, but for the name if it is known: */
    struct labels name;
};

/* The time of the sample instead of its value, in seconds. */
static double sample_time(const struct samples *s, size_t i, enum function_id fn)
{
    return (double)(fn == FN_START_TIMESTAMP ? s->st_ms[i] : s->t_ms[i]) / 1000;
}

/* Newest sample in (t - lookback, t] at each step; nothing if that is a staleness marker. */
static enum err_code select_plain(const struct plan *plan, const struct samples *s,
                                  struct arena *arena, struct eval_series *out, struct err *err)
{
    const struct grid *grid = &plan->grid;
    struct histogram *copy = NULL;
    size_t copied = SIZE_MAX; /* the sample that `copy` is of: neighbouring steps share it */
    bool want_times = plan->fn != FN_N;
    if (plan->fn == FN_START_TIMESTAMP && !s->st_ms) return ERR_OK;
    size_t next = 0; /* the first sample after the step */
    for (size_t step = 0; step < grid->n; step++) {
        int64_t end_ms = window_end(&plan->window, grid, step);
        while (next < s->n && s->t_ms[next] <= end_ms) next++;
        if (!next) continue;
        size_t i = next - 1;
        if (s->t_ms[i] <= end_ms - plan->window.range_ms || is_stale_nan(s->v[i])) continue;
        struct histogram *h = s->h ? s->h[i] : NULL;
        if (want_times && !(h && plan->fn == FN_INFO)) {
            if (plan->fn == FN_START_TIMESTAMP && !s->st_ms[i]) continue;
            series_set(out, step, sample_time(s, i, plan->fn), NULL);
            continue;
        }
        if (h && !series_want_histograms(arena, grid->n, out)) return arena_fail(arena, err);
        if (h && copied != i) {
            enum err_code rc = histogram_copy(arena, h, &copy, err);
            if (rc) return rc;
            copy->reset_hint = hint_by_content(h, i ? s->h[i - 1] : NULL, plan->stats_only);
            copied = i;
        }
        series_set(out, step, s->v[i], h ? copy : NULL);
    }
    return ERR_OK;
}

static enum err_code evaluate_select(const struct op_leaf *leaf, struct samples *samples,
                                     struct arena *arena, struct notes *notes,
                                     struct eval_series *out, struct err *err)
{
    const struct plan *plan = leaf->op.plan;
    if (!samples->n) return ERR_OK;
    if (!series_alloc(arena, plan->grid.n, out)) return arena_fail(arena, err);
    if (plan->mode == SELECT_SMOOTHED)
        return select_smoothed(plan, samples, arena, notes, out->labels, out, err);
    return select_plain(plan, samples, arena, out, err);
}

/* Sums of histograms tell of resets that contradict each other. */
static enum err_code leaf_hints(struct op_leaf *leaf, struct eval_scratch *scratch, size_t i,
                                struct err *err)
{
    struct samples *samples = &scratch->samples;
    enum function_id fn = leaf->op.plan->fn;
    if (!samples->h || !samples->n || (fn != FN_SUM_OVER_TIME && fn != FN_AVG_OVER_TIME))
        return ERR_OK;
    struct samples before;
    samples_init(&before, MEM_QUERY, &scratch->series_arena);
    int64_t mint_ms = leaf->selector->mint_ms;
    enum err_code rc = leaf->op.eval->env->source->ops->read(
        leaf->select, i, mint_ms - leaf->op.eval->lookback_ms, mint_ms - 1, &before, err);
    const struct histogram *prev = before.n && before.h ? before.h[before.n - 1] : NULL;
    if (!rc) hints_by_content(samples, prev, leaf->selector->stats_only);
    samples_release(&before);
    return rc;
}

static enum err_code floats_to_samples(const struct float_column *in, struct samples *out,
                                       struct err *err)
{
    enum err_code rc = in->n ? samples_reserve(out, in->n, err) : ERR_OK;
    if (rc || !in->n) return rc;
    memcpy(out->t_ms, in->t_ms, in->n * sizeof(*out->t_ms));
    memcpy(out->v, in->v, in->n * sizeof(*out->v));
    out->n = in->n;
    return ERR_OK;
}

static enum err_code leaf_reader(const struct op_leaf *leaf, struct eval_scratch *scratch,
                                 struct err *err)
{
    if (scratch->reader) return ERR_OK;
    return leaf->op.eval->env->source->ops->reader_new(leaf->select, &scratch->reader, err);
}

/* Into *floats if that will do, else (*floats empty) into the scratch. An instant query wants one sample per series. The
 * reset hint of a histogram takes the one before it as well. */
static enum err_code leaf_read(struct op_leaf *leaf, size_t i, struct eval_scratch *scratch,
                               struct float_column *floats, struct err *err)
{
    const struct query_source_ops *source = leaf->op.eval->env->source->ops;
    const struct plan *selector = leaf->selector;
    int64_t mint_ms = selector->mint_ms, maxt_ms = selector->maxt_ms;
    struct samples *samples = &scratch->samples;
    *floats = (struct float_column){0};
    eval_scratch_begin_series(scratch);
    bool one = source->read_last && selector->kind == PLAN_SELECT &&
               selector->mode == SELECT_PLAIN && selector->grid.n == 1;
    if (one) {
        enum err_code rc = source->read_last(leaf->select, i, mint_ms, maxt_ms, samples, err);
        if (rc || !samples->h) return rc;
        eval_scratch_begin_series(scratch);
    }
    if (!source->reader_new) return source->read(leaf->select, i, mint_ms, maxt_ms, samples, err);
    enum err_code rc = leaf_reader(leaf, scratch, err);
    bool plain = true;
    if (!rc) rc = source->reader_floats(scratch->reader, i, mint_ms, maxt_ms, floats, &plain, err);
    if (rc || plain) return rc;
    *floats = (struct float_column){0};
    return source->reader_samples(scratch->reader, i, mint_ms, maxt_ms, samples, err);
}

/* A rate over one window is known by the window's ends, as long as the counter never falls. *done: it was. */
static enum err_code leaf_ends(const struct op_leaf *leaf, size_t slot,
                               struct eval_scratch *scratch, struct eval_series *out, bool *done,
                               struct err *err)
{
    const struct plan *range = leaf->selector;
    const struct query_source_ops *source = leaf->op.eval->env->source->ops;
    struct leaf_slot *s = &leaf->slots[slot];
    *done = false;
    if (leaf->op.plan->kind != PLAN_RANGE || leaf->op.n_steps != 1 || !source->reader_ends ||
        !window_takes_floats(&leaf->job))
        return ERR_OK;
    struct float_column ends;
    enum err_code rc = leaf_reader(leaf, scratch, err);
    if (!rc)
        rc = source->reader_ends(scratch->reader, leaf->next_series + slot, range->mint_ms,
                                 range->maxt_ms, leaf->op.plan->fn != FN_DELTA, &ends, done, err);
    /* The samples that were read are those of the window, or there are others between the two. */
    int64_t end_ms = window_end(&range->window, &leaf->op.plan->grid, 0);
    *done = *done && (!ends.n || (ends.t_ms[0] > end_ms - range->window.range_ms &&
                                  ends.t_ms[ends.n - 1] <= end_ms));
    if (rc || !*done) return rc;
    return window_evaluate_floats(&leaf->job, scratch, out->labels, &s->notes, &ends, false, out,
                                  &s->n_looked_at, err);
}

/* The values of an instant query, where the source knows the newest sample without reading. *done: it did. */
static enum err_code leaf_newest(const struct op_leaf *leaf, size_t i, struct eval_scratch *scratch,
                                 struct eval_series *out, bool *done, struct err *err)
{
    const struct plan *plan = leaf->op.plan;
    const struct query_source_ops *source = leaf->op.eval->env->source->ops;
    bool times = plan->fn == FN_TIMESTAMP;
    *done = false;
    if (plan->kind != PLAN_SELECT || plan->mode != SELECT_PLAIN || plan->grid.n != 1 ||
        (plan->fn != FN_N && !times) || !source->reader_newest)
        return ERR_OK;
    struct newest_sample newest;
    enum err_code rc = leaf_reader(leaf, scratch, err);
    if (!rc)
        rc = source->reader_newest(scratch->reader, i, plan->mint_ms, plan->maxt_ms,
                                   !times && !leaf->no_values, &newest, err);
    if (rc || !newest.known) return rc;
    *done = true;
    int64_t end_ms = window_end(&plan->window, &plan->grid, 0);
    if (!newest.found || newest.t_ms <= end_ms - plan->window.range_ms) return ERR_OK;
    if (!series_alloc(&scratch->arena, 1, out)) return arena_fail(&scratch->arena, err);
    series_set(out, 0, times ? (double)newest.t_ms / 1000 : newest.v, NULL);
    return ERR_OK;
}

static enum err_code leaf_series(struct op_leaf *leaf, struct eval_scratch *scratch, size_t slot,
                                 struct err *err)
{
    struct eval *eval = leaf->op.eval;
    const struct query_source_ops *source = eval->env->source->ops;
    size_t i = leaf->next_series + slot;
    struct eval_series *out = &leaf->items[slot];
    *out = (struct eval_series){.number = (uint32_t)i};
    out->labels = leaf->bare ? leaf->name : source->labels(leaf->select, i);
    struct notes *notes = &leaf->slots[slot].notes;
    uint64_t *n_looked_at = &leaf->slots[slot].n_looked_at;
    notes_init(notes, &scratch->arena);
    *n_looked_at = 0;
    struct samples *samples = &scratch->samples;
    struct float_column floats;
    bool range = leaf->op.plan->kind == PLAN_RANGE, done;
    out->drop_name = range ? leaf->job.drops_name : leaf->op.plan->fn != FN_N;
    enum err_code rc = leaf_newest(leaf, i, scratch, out, &done, err);
    if (done) *n_looked_at = out->present != NULL;
    if (!rc && !done) rc = leaf_ends(leaf, slot, scratch, out, &done, err);
    if (rc || done) return rc;
    rc = leaf_read(leaf, i, scratch, &floats, err);
    if (rc) return rc;
    size_t n = MAX_OF(samples->n, floats.n);
    if (n > eval->env->limits.samples_max) return eval_over_limit(eval, LIMIT_SAMPLES, n, err);
    rc = eval_poll_work(eval, &scratch->work, n + leaf->op.n_steps, err);
    if (rc) return rc;
    bool takes = floats.n && range && window_takes_floats(&leaf->job);
    unsigned found = takes ? column_kernel()->check(floats.v, floats.n) : COLUMN_NAN;
    if (!(found & COLUMN_NAN)) /* nor a staleness marker, which is one */
        return window_evaluate_floats(&leaf->job, scratch, out->labels, notes, &floats,
                                      found & COLUMN_FALLS, out, n_looked_at, err);
    rc = floats_to_samples(&floats, samples, err);
    if (rc) return rc;
    if (!range) {
        rc = evaluate_select(leaf, samples, &scratch->arena, notes, out, err);
        if (out->present) *n_looked_at = bitmap_count(out->present, leaf->op.n_steps);
        return rc;
    }
    rc = leaf_hints(leaf, scratch, i, err);
    return rc ? rc
              : window_evaluate(&leaf->job, scratch, out->labels, notes, out, n_looked_at, err);
}

/* Neighbours share times and pages: a worker takes some at once. */
#define SERIES_PER_PART 64

static void leaf_work(void *ctx, size_t worker, size_t part)
{
    struct op_leaf *leaf = ctx;
    struct eval_scratch *scratch = leaf->workers.items[worker];
    size_t from = part * SERIES_PER_PART, to = MIN_OF(from + SERIES_PER_PART, leaf->n_batch);
    struct err err;
    for (size_t slot = from; slot < to; slot++) {
        if (!leaf_series(leaf, scratch, slot, &err)) continue;
        if (slot < scratch->err_slot) {
            scratch->err = err;
            scratch->err_slot = slot;
        }
        return;
    }
}

/* Notes and counts of a batch, in the order of its series. */
static enum err_code leaf_account(struct op_leaf *leaf, size_t n, struct err *err)
{
    struct eval *eval = leaf->op.eval;
    uint64_t n_points = 0;
    for (size_t i = 0; i < n; i++) {
        notes_merge(&eval->notes, &leaf->slots[i].notes);
        eval->stats.samples += leaf->slots[i].n_looked_at;
        if (leaf->items[i].present)
            n_points += bitmap_count(leaf->items[i].present, leaf->op.n_steps);
    }
    return eval_count_samples(eval, n_points, err);
}

static enum err_code leaf_next(struct op *op, struct eval_batch *out, struct err *err)
{
    struct op_leaf *leaf = CONTAINER_OF(op, struct op_leaf, op);
    do {
        size_t n = MIN_OF(leaf->batch_max, leaf->n_series - leaf->next_series);
        *out = (struct eval_batch){leaf->items, n};
        if (!n) break;
        enum err_code rc = eval_poll(op->eval, err);
        if (rc) return rc;
        eval_workers_reset(op->eval, &leaf->workers);
        leaf->n_batch = n;
        eval_for(op->eval, (n + SERIES_PER_PART - 1) / SERIES_PER_PART, leaf_work, leaf);
        rc = eval_workers_error(&leaf->workers, err);
        if (!rc) rc = leaf_account(leaf, n, err);
        if (rc) return rc;
        leaf->next_series += n;
        batch_compact(out, op->n_steps);
    } while (!out->n);
    return ERR_OK;
}

static const struct op_class LEAF = {leaf_next};

static enum err_code leaf_open(struct eval *eval, const struct plan *plan,
                               const struct plan *selector, bool bare, struct op_leaf **out,
                               struct err *err)
{
    struct op_leaf *leaf = EVAL_NEW(eval, struct op_leaf);
    if (!leaf) return eval_no_memory(eval, err);
    op_init(&leaf->op, &LEAF, eval, plan);
    leaf->selector = selector;
    leaf->bare = bare;
    *out = leaf;
    /* An empty grid reads nothing; its windows have no end. */
    if (!plan->grid.n) return ERR_OK;
    enum err_code rc = eval_select(eval, selector, bare, &leaf->select, err);
    if (rc) return rc;
    leaf->n_series = eval->env->source->ops->count(leaf->select);
    leaf->batch_max =
        MIN_OF(eval_batch_series(eval, plan->grid.n), MAX_OF(leaf->n_series, (size_t)1));
    leaf->items = EVAL_ARRAY(eval, struct eval_series, leaf->batch_max);
    leaf->slots = EVAL_ARRAY(eval, struct leaf_slot, leaf->batch_max);
    if (!leaf->items || !leaf->slots) return eval_no_memory(eval, err);
    return eval_workers_new(eval, &leaf->workers, err);
}

static enum err_code range_open(struct eval *eval, const struct plan *plan, bool bare,
                                struct op_leaf **out, struct err *err)
{
    enum err_code rc = leaf_open(eval, plan, plan->args[plan->main_arg], bare, out, err);
    return rc ? rc : window_job_init(eval, plan, &(*out)->job, err);
}

enum err_code op_open_select(struct eval *eval, const struct plan *plan, struct op **out,
                             struct err *err)
{
    struct op_leaf *leaf;
    enum err_code rc = leaf_open(eval, plan, plan, false, &leaf, err);
    if (!rc) *out = &leaf->op;
    return rc;
}

enum err_code op_open_range(struct eval *eval, const struct plan *plan, struct op **out,
                            struct err *err)
{
    if (plan->args[plan->main_arg]->kind == PLAN_SUBQUERY)
        return op_open_subquery_range(eval, plan, out, err);
    struct op_leaf *leaf;
    enum err_code rc = range_open(eval, plan, false, &leaf, err);
    if (!rc) *out = &leaf->op;
    return rc;
}

/* ---- bare leaves ---- */

/* The name that all series have, as labels; none if it is not known. */
static enum err_code common_name(struct eval *eval, const struct plan *selector, struct labels *out,
                                 struct err *err)
{
    *out = (struct labels){0};
    for (size_t i = 0; i < selector->n_matchers; i++) {
        const struct matcher *m = &selector->matchers[i];
        if (m->op != MATCH_EQ || !m->value.len || !str_eq(m->name, STR(LABEL_NAME))) continue;
        struct label *name = EVAL_NEW(eval, struct label);
        if (!name) return eval_no_memory(eval, err);
        *name = (struct label){m->name, m->value};
        *out = (struct labels){name, 1};
    }
    return ERR_OK;
}

/* Functions of ranges name the metric in their notes, smoothed selectors do as well. */
static bool may_be_bare(const struct plan *plan, struct labels name)
{
    if (plan->kind == PLAN_SELECT) return plan->mode == SELECT_PLAIN;
    return plan->kind == PLAN_RANGE && plan->args[plan->main_arg]->kind == PLAN_SELECT_RANGE &&
           name.n;
}

enum err_code op_open_bare(struct eval *eval, const struct plan *plan,
                           const struct label_names *names, bool no_values, struct op **out,
                           const uint32_t **groups, size_t *n, struct err *err)
{
    const struct query_source_ops *source = eval->env->source->ops;
    const struct plan *selector = plan->kind == PLAN_RANGE ? plan->args[plan->main_arg] : plan;
    struct labels name;
    *out = NULL;
    if (!source->groups || !plan->grid.n) return ERR_OK;
    enum err_code rc = common_name(eval, selector, &name, err);
    if (rc || !may_be_bare(plan, name)) return rc;
    struct op_leaf *leaf;
    rc = plan->kind == PLAN_RANGE ? range_open(eval, plan, true, &leaf, err)
                                  : leaf_open(eval, plan, plan, true, &leaf, err);
    if (rc) return rc;
    uint32_t *numbers = arena_alloc(
        eval->arena, MAX_OF(leaf->n_series, (size_t)1) * sizeof(*numbers), _Alignof(uint32_t));
    if (!numbers) return eval_no_memory(eval, err);
    int64_t before_ns = clock_mono_ns(eval->env->clock);
    rc = source->groups(leaf->select, names, numbers, err);
    eval->stats.select_ns += clock_mono_ns(eval->env->clock) - before_ns;
    if (rc) return rc;
    leaf->name = name;
    leaf->no_values = no_values;
    *out = &leaf->op;
    *groups = numbers;
    *n = leaf->n_series;
    return ERR_OK;
}

enum err_code bare_labels(struct op *op, uint32_t number, struct labels *out, struct err *err)
{
    const struct op_leaf *leaf = CONTAINER_OF(op, struct op_leaf, op);
    const struct query_source_ops *source = op->eval->env->source->ops;
    enum err_code rc = source->spell(leaf->select, number, 1, err);
    if (!rc) *out = source->labels(leaf->select, number);
    return rc;
}
