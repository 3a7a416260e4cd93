/* query/eval_op.c: bitmaps, columns, batches, workers and budgets of the evaluator. */
#include "query/eval_op.h"

/* ---- bitmaps ---- */

size_t bitmap_next(const uint64_t *bits, size_t n_bits, size_t from)
{
    if (from >= n_bits) return n_bits;
    size_t w = from / 64, n_words = bitmap_words(n_bits);
    uint64_t word = bits[w] & (UINT64_MAX << (from % 64));
    while (!word) {
        if (++w == n_words) return n_bits;
        word = bits[w];
    }
    return w * 64 + (size_t)__builtin_ctzll(word);
}

size_t bitmap_count(const uint64_t *bits, size_t n_bits)
{
    size_t n = 0;
    for (size_t w = 0; w < bitmap_words(n_bits); w++) n += (size_t)__builtin_popcountll(bits[w]);
    return n;
}

bool bitmap_any(const uint64_t *bits, size_t n_bits)
{
    uint64_t any = 0;
    for (size_t w = 0; w < bitmap_words(n_bits); w++) any |= bits[w];
    return any != 0;
}

void bitmap_fill(uint64_t *bits, size_t n_bits)
{
    size_t n_words = bitmap_words(n_bits);
    for (size_t w = 0; w < n_words; w++) bits[w] = UINT64_MAX;
    if (n_bits % 64) bits[n_words - 1] = UINT64_MAX >> (64 - n_bits % 64);
}

/* ---- series ---- */

bool series_alloc(struct arena *arena, size_t n_steps, struct eval_series *s)
{
    s->present = ARENA_ARRAY(arena, uint64_t, bitmap_words(n_steps));
    s->v = ARENA_ARRAY(arena, double, n_steps);
    s->h = NULL;
    return s->present && s->v;
}

bool series_want_histograms(struct arena *arena, size_t n_steps, struct eval_series *s)
{
    if (!s->h) s->h = ARENA_ARRAY(arena, struct histogram *, n_steps);
    return s->h != NULL;
}

static enum err_code keep_histograms(struct eval *eval, const struct eval_series *in,
                                     size_t n_steps, struct eval_series *out, struct err *err)
{
    if (!series_want_histograms(eval->arena, n_steps, out)) return eval_no_memory(eval, err);
    /* Neighbouring steps often see the same sample. */
    const struct histogram *last = NULL;
    struct histogram *copy = NULL;
    BITMAP_EACH(s, in->present, n_steps)
    {
        if (!in->h[s]) continue;
        if (in->h[s] != last) {
            enum err_code rc = histogram_copy(eval->arena, in->h[s], &copy, err);
            if (rc) return rc;
            last = in->h[s];
        }
        out->h[s] = copy;
    }
    return ERR_OK;
}

enum err_code series_keep(struct eval *eval, const struct eval_series *in, size_t n_steps,
                          struct eval_series *out, struct err *err)
{
    struct eval_series kept = {.labels = in->labels, .drop_name = in->drop_name};
    if (!series_alloc(eval->arena, n_steps, &kept)) return eval_no_memory(eval, err);
    memcpy(kept.present, in->present, bitmap_words(n_steps) * sizeof(uint64_t));
    memcpy(kept.v, in->v, n_steps * sizeof(double));
    enum err_code rc = in->h ? keep_histograms(eval, in, n_steps, &kept, err) : ERR_OK;
    *out = kept;
    return rc;
}

void batch_compact(struct eval_batch *batch, size_t n_steps)
{
    size_t n = 0;
    for (size_t i = 0; i < batch->n; i++)
        if (batch->items[i].present && bitmap_any(batch->items[i].present, n_steps))
            batch->items[n++] = batch->items[i];
    batch->n = n;
}

enum err_code series_list_push(struct eval *eval, struct series_list *list,
                               const struct eval_series *s, struct err *err)
{
    if (list->n == list->cap) {
        size_t cap = list->cap ? list->cap * 2 : 16;
        struct eval_series *items = EVAL_ARRAY(eval, struct eval_series, cap);
        if (!items) return eval_no_memory(eval, err);
        if (list->n) memcpy(items, list->items, list->n * sizeof(*items));
        list->items = items;
        list->cap = cap;
    }
    list->items[list->n++] = *s;
    return ERR_OK;
}

enum err_code op_drain(struct op *op, struct series_list *out, struct err *err)
{
    *out = (struct series_list){0};
    for (;;) {
        struct eval_batch batch;
        enum err_code rc = op_next(op, &batch, err);
        if (rc || !batch.n) return rc;
        for (size_t i = 0; i < batch.n; i++) {
            struct eval_series kept;
            rc = series_keep(op->eval, &batch.items[i], op->n_steps, &kept, err);
            if (!rc) rc = series_list_push(op->eval, out, &kept, err);
            if (rc) return rc;
        }
    }
}

void op_init(struct op *op, const struct op_class *class, struct eval *eval,
             const struct plan *plan)
{
    op->class = class;
    op->eval = eval;
    op->plan = plan;
    op->n_steps = plan->grid.n;
    op->n_words = bitmap_words(plan->grid.n);
}

/* ---- budgets ---- */

static size_t memory_used(const struct eval *eval)
{
    size_t used = eval->arena->used_bytes + eval->result_arena->used_bytes + eval->select_bytes;
    for (const struct eval_scratch *s = eval->scratches; s; s = s->next)
        used += s->arena.used_bytes + s->series_arena.used_bytes +
                s->samples.cap * (sizeof(int64_t) + sizeof(double));
    return used;
}

enum err_code eval_over_limit(struct eval *eval, enum query_limit limit, uint64_t reached,
                              struct err *err)
{
    static const char *const WHAT[QUERY_LIMITS_N] = {
        [LIMIT_TIMEOUT] = "query timed out in expression evaluation",
        [LIMIT_SERIES] = "the query selects too many series",
        [LIMIT_SAMPLES] = "query processing would load too many samples into memory in query "
                          "execution",
        [LIMIT_WORK] = "the query looks at too many samples",
        [LIMIT_MEMORY] = "query needs more than its memory limit",
        [LIMIT_TENANT_MEMORY] = "the running queries of the tenant need more than their memory "
                                "limit"};
    const struct query_limits *l = &eval->env->limits;
    const uint64_t allowed[QUERY_LIMITS_N] = {[LIMIT_TIMEOUT] = (uint64_t)l->timeout_ms,
                                              [LIMIT_SERIES] = l->series_max,
                                              [LIMIT_SAMPLES] = l->samples_max,
                                              [LIMIT_WORK] = l->work_max,
                                              [LIMIT_MEMORY] = l->memory_bytes_max,
                                              [LIMIT_TENANT_MEMORY] = l->tenant_memory_bytes_max};
    struct limit_breach breach = {limit, WHAT[limit], reached, allowed[limit], eval->env->tenant};
    return query_limit_error(&breach, eval->env->progress, err);
}

static enum err_code check_deadline(struct eval *eval, struct err *err)
{
    if (clock_mono_ns(eval->env->clock) < eval->deadline_ns) return ERR_OK;
    return eval_over_limit(eval, LIMIT_TIMEOUT, (uint64_t)eval->env->limits.timeout_ms, err);
}

static enum err_code check_canceled(const struct eval *eval, struct err *err)
{
    const struct query_env *env = eval->env;
    if (env->progress && atomic_load_explicit(&env->progress->canceled, memory_order_relaxed))
        return err_set(err, ERR_CANCELED, "query was canceled by an operator");
    if (env->canceled && env->canceled(env->canceled_ctx))
        return err_set(err, ERR_CANCELED, "query was canceled in expression evaluation");
    return ERR_OK;
}

static void note_progress(const struct eval *eval, size_t memory_bytes)
{
    struct query_progress *progress = eval->env->progress;
    if (!progress) return;
    atomic_store_explicit(&progress->series, eval->stats.series, memory_order_relaxed);
    atomic_store_explicit(&progress->samples, eval->stats.samples, memory_order_relaxed);
    query_progress_memory(progress, memory_bytes);
}

/* A query that has less does not suffer for what its tenant's others take. */
#define SMALL_QUERY_BYTES ((size_t)1 << 20)

/* What the query may take besides what it has: by its own limit, and its part of what its tenant's queries leave. Many
 * tenants share one budget, and one must not use it up by running several queries at once. */
static size_t memory_left(struct eval *eval, size_t used)
{
    const struct query_limits *l = &eval->env->limits;
    size_t own = l->memory_bytes_max;
    size_t left = own ? own - MIN_OF(own, used) : SIZE_MAX;
    struct query_progress *progress = eval->env->progress;
    struct tenant_memory *shared = progress ? progress->shared : NULL;
    eval->tightest = LIMIT_MEMORY;
    if (!shared || !l->tenant_memory_bytes_max) return left;
    uint64_t all = atomic_load_explicit(&shared->bytes, memory_order_relaxed);
    uint64_t n = atomic_load_explicit(&shared->n_queries, memory_order_relaxed);
    uint64_t max = l->tenant_memory_bytes_max;
    uint64_t part = (max - MIN_OF(max, all)) / MAX_OF(n, UINT64_C(1));
    if (used < SMALL_QUERY_BYTES) part = MAX_OF(part, (uint64_t)(SMALL_QUERY_BYTES - used));
    if (part >= left) return left;
    eval->tightest = LIMIT_TENANT_MEMORY;
    return (size_t)part;
}

static void set_budget(struct arena *arena, size_t left)
{
    bool bounded = left < SIZE_MAX - arena->used_bytes;
    arena->budget_bytes = bounded ? arena->used_bytes + MAX_OF(left, (size_t)1) : 0;
}

enum err_code eval_poll(struct eval *eval, struct err *err)
{
    const struct query_limits *limits = &eval->env->limits;
    enum err_code rc = check_canceled(eval, err);
    if (rc) return rc;
    size_t used = memory_used(eval);
    note_progress(eval, used);
    size_t left = memory_left(eval, used);
    if (!left && eval->tightest == LIMIT_TENANT_MEMORY)
        return eval_over_limit(eval, LIMIT_TENANT_MEMORY, limits->tenant_memory_bytes_max + 1, err);
    if (limits->memory_bytes_max && used > limits->memory_bytes_max)
        return eval_over_limit(eval, LIMIT_MEMORY, used, err);
    set_budget(eval->arena, left);
    set_budget(eval->result_arena, left);
    if (limits->work_max && eval->stats.samples > limits->work_max)
        return eval_over_limit(eval, LIMIT_WORK, eval->stats.samples, err);
    return check_deadline(eval, err);
}

enum err_code eval_poll_worker(struct eval *eval, struct err *err)
{
    enum err_code rc = check_canceled(eval, err);
    return rc ? rc : check_deadline(eval, err);
}

enum err_code eval_count_samples(struct eval *eval, uint64_t n, struct err *err)
{
    eval->samples_held += n;
    eval->stats.samples_peak = MAX_OF(eval->stats.samples_peak, eval->samples_held);
    if (eval->samples_held > eval->env->limits.samples_max)
        return eval_over_limit(eval, LIMIT_SAMPLES, eval->samples_held, err);
    return ERR_OK;
}

/* ---- workers ---- */

enum err_code eval_workers_new(struct eval *eval, struct eval_workers *out, struct err *err)
{
    size_t n = eval->env->pool ? pool_width(eval->env->pool) : 1;
    out->items = EVAL_ARRAY(eval, struct eval_scratch *, n);
    if (!out->items) return eval_no_memory(eval, err);
    for (out->n = 0; out->n < n; out->n++) {
        struct eval_scratch *scratch = EVAL_NEW(eval, struct eval_scratch);
        if (!scratch) return eval_no_memory(eval, err);
        arena_init(&scratch->arena, MEM_QUERY, 0);
        arena_init(&scratch->series_arena, MEM_QUERY, 0);
        samples_init(&scratch->samples, MEM_QUERY, &scratch->series_arena);
        scratch->err_slot = SIZE_MAX;
        scratch->next = eval->scratches;
        eval->scratches = scratch;
        out->items[out->n] = scratch;
    }
    return ERR_OK;
}

void eval_workers_reset(struct eval *eval, struct eval_workers *workers)
{
    for (size_t i = 0; i < workers->n; i++) arena_reset(&workers->items[i]->arena);
    size_t left = memory_left(eval, memory_used(eval));
    if (left == SIZE_MAX) return;
    for (size_t i = 0; i < workers->n; i++) {
        set_budget(&workers->items[i]->arena, left / workers->n);
        set_budget(&workers->items[i]->series_arena, left / workers->n);
    }
}

void eval_scratch_begin_series(struct eval_scratch *scratch)
{
    struct samples *samples = &scratch->samples;
    arena_reset(&scratch->series_arena);
    samples_reset(samples);
    /* Columns that most series do not have: their absence is what fast paths ask for. */
    mem_free(samples->h);
    mem_free(samples->st_ms);
    samples->h = NULL;
    samples->st_ms = NULL;
}

enum err_code eval_workers_error(const struct eval_workers *workers, struct err *err)
{
    const struct eval_scratch *first = NULL;
    for (size_t i = 0; i < workers->n; i++) {
        const struct eval_scratch *scratch = workers->items[i];
        if (scratch->err_slot == SIZE_MAX) continue;
        if (!first || scratch->err_slot < first->err_slot) first = scratch;
    }
    if (!first) return ERR_OK;
    *err = first->err;
    return err->code;
}

void eval_for(struct eval *eval, size_t n, pool_for_fn *fn, void *ctx)
{
    if (eval->env->pool && n > 1) {
        pool_for(eval->env->pool, n, fn, ctx);
        return;
    }
    for (size_t i = 0; i < n; i++) fn(ctx, 0, i);
}

size_t eval_batch_series(const struct eval *eval, size_t n_steps)
{
    size_t bytes = n_steps * sizeof(double) + bitmap_words(n_steps) * sizeof(uint64_t) + 1;
    size_t n = MIN_OF(EVAL_BATCH_BYTES / bytes, eval->batch_series_max);
    return MAX_OF(n, (size_t)1);
}
