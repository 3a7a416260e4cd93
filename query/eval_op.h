/* query/eval_op.h: inside the evaluator. An operator yields series in batches, each series with its values at all
 * steps; the one above pulls, changes what it gets in place or takes it in, and passes on.
 *
 * Memory: labels and everything made by eval_alloc live as long as the query. Columns of a batch live until the next
 * call of the operator that made them; who wants to keep a series copies it (series_keep).
 * Threads: operators run on the query's thread. Only what touches samples is spread over the pool: scratch_for()
 * gives each worker memory of its own, results and notes land in slots by series, and are taken from there in
 * order, so that the answer has the same bits with any number of threads and any size of batch. */
#ifndef QUIPU_QUERY_EVAL_OP_H
#define QUIPU_QUERY_EVAL_OP_H

#include "query/eval.h"
#include "query/plan.h"

#define EVAL_BATCH_SERIES_MAX 256
/* Columns of one batch should stay in a processor's cache, or at least small. */
#define EVAL_BATCH_BYTES (8u << 20)

/* One series over the steps of a grid. */
struct eval_series {
    struct labels labels; /* with the name, even if it is to go */
    bool drop_name;       /* the name goes when the query ends */
    uint32_t number;      /* of a bare leaf: in its select */
    uint64_t *present;    /* bit s: there is a value at step s; bits beyond the grid are 0 */
    double *v;            /* of float steps; anything elsewhere */
    struct histogram **h; /* NULL: floats only; else NULL for float steps */
};
struct eval_batch {
    struct eval_series *items;
    size_t n;
};

static inline size_t bitmap_words(size_t n_bits)
{
    return (n_bits + 63) / 64;
}
static inline bool bitmap_get(const uint64_t *bits, size_t i)
{
    return bits[i / 64] >> (i % 64) & 1;
}
static inline void bitmap_set(uint64_t *bits, size_t i)
{
    bits[i / 64] |= UINT64_C(1) << (i % 64);
}
static inline void bitmap_clear(uint64_t *bits, size_t i)
{
    bits[i / 64] &= ~(UINT64_C(1) << (i % 64));
}
/* The first set bit >= from, or n_bits. */
size_t bitmap_next(const uint64_t *bits, size_t n_bits, size_t from);
size_t bitmap_count(const uint64_t *bits, size_t n_bits);
bool bitmap_any(const uint64_t *bits, size_t n_bits);
void bitmap_fill(uint64_t *bits, size_t n_bits); /* all n_bits set, the rest of the last word 0 */
#define BITMAP_EACH(i, bits, n_bits)                                                               \
    for (size_t i = bitmap_next((bits), (n_bits), 0); i < (n_bits);                                \
         i = bitmap_next((bits), (n_bits), i + 1))

/* A worker's memory: `arena` is emptied before each batch; `samples` and `series_arena`, where their histograms and
 * what functions need in between live, before each series. */
struct rate_cache;
struct eval_scratch {
    struct arena arena, series_arena;
    struct samples samples;
    struct rate_cache *rates;     /* NULL until it is needed */
    struct source_reader *reader; /* likewise */
    struct err err;
    size_t err_slot; /* of the error; SIZE_MAX = none */
    size_t work;     /* eval_poll_work */
    struct eval_scratch *next;
};
/* One per worker, all of one operator. */
struct eval_workers {
    struct eval_scratch **items;
    size_t n;
};

/* Compiled while running; freed with the query. */
struct regex;
struct eval_regex {
    struct eval_regex *next;
    struct regex *regex;
};

struct eval {
    const struct query_env *env;
    struct arena *arena; /* lives as long as the query */
    struct arena *result_arena;
    int64_t start_ms, end_ms, step_ms, lookback_ms;
    struct notes notes;
    struct query_stats stats;
    uint64_t samples_held; /* as the limit counts them */
    size_t batch_series_max;
    int64_t deadline_ns;
    bool over_budget;          /* some arena was, when the query ended */
    enum query_limit tightest; /* LIMIT_MEMORY or LIMIT_TENANT_MEMORY: which set the budgets */
    size_t select_bytes;       /* of what was selected, about */
    struct eval_scratch *scratches;
    struct eval_select *selects;
    struct eval_regex *regexes;
    struct buf text_buf; /* scratch for label values */
};

struct op;
struct op_class {
    /* The next series; n == 0: no more. Never called again after that or after an error. */
    enum err_code (*next)(struct op *op, struct eval_batch *out, struct err *err);
};
struct op {
    const struct op_class *class;
    struct eval *eval;
    const struct plan *plan;
    size_t n_steps, n_words;
};
static inline enum err_code op_next(struct op *op, struct eval_batch *out, struct err *err)
{
    return op->class->next(op, out, err);
}
void op_init(struct op *op, const struct op_class *class, struct eval *eval,
             const struct plan *plan);

/* Builds the operator of an instant vector (eval_build.c). */
MUST_USE enum err_code op_open(struct eval *eval, const struct plan *plan, struct op **out,
                               struct err *err);
/* A scalar at each step of the plan's grid, computed now. */
MUST_USE enum err_code eval_scalar(struct eval *eval, const struct plan *plan, const double **out,
                                   struct err *err);
/* The scalar arguments of a call, i.e. all of its scalar args in order. */
#define SCALAR_ARGS_MAX 16
struct scalar_args {
    const double *columns[SCALAR_ARGS_MAX];
    uint32_t pos[SCALAR_ARGS_MAX]; /* in the query */
    size_t n;
    uint32_t pos_first; /* of the call if there are none */
};
MUST_USE enum err_code eval_scalar_args(struct eval *eval, const struct plan *plan,
                                        struct scalar_args *out, struct err *err);
static inline void scalar_args_at(const struct scalar_args *args, size_t step, double *out)
{
    for (size_t i = 0; i < args->n; i++) out[i] = args->columns[i][step];
}

/* Memory of the query. NULL: see arena_fail(eval->arena, err). */
#define EVAL_NEW(eval, type) ARENA_NEW((eval)->arena, type)
#define EVAL_ARRAY(eval, type, n) ARENA_ARRAY((eval)->arena, type, (n))
static inline enum err_code eval_no_memory(const struct eval *eval, struct err *err)
{
    return arena_fail(eval->arena, err);
}

/* To be called at least once a batch: canceled, out of time, over the memory budget? */
MUST_USE enum err_code eval_poll(struct eval *eval, struct err *err);
/* For workers: canceled, or out of time? */
MUST_USE enum err_code eval_poll_worker(struct eval *eval, struct err *err);
/* The same once enough work has gathered since the last time; `done` counts samples and steps. So often that a query
 * ends within some 10 ms, so seldom that it costs nothing. */
#define EVAL_WORK_PER_POLL (1u << 18)
MUST_USE static inline enum err_code eval_poll_work(struct eval *eval, size_t *work, size_t done,
                                                    struct err *err)
{
    *work += done;
    if (LIKELY(*work < EVAL_WORK_PER_POLL)) return ERR_OK;
    *work = 0;
    return eval_poll_worker(eval, err);
}
/* Counts samples against the limit: those of leaves' results are held, those of windows are not. */
MUST_USE enum err_code eval_count_samples(struct eval *eval, uint64_t n, struct err *err);
/* The error of a limit that the query is beyond; threads: any. */
enum err_code eval_over_limit(struct eval *eval, enum query_limit limit, uint64_t reached,
                              struct err *err);
/* What was counted since `held_before` was let go, but for n_kept points that came of it. */
static inline void eval_let_go(struct eval *eval, uint64_t held_before, uint64_t n_kept)
{
    eval->samples_held = held_before + n_kept;
}

MUST_USE enum err_code eval_workers_new(struct eval *eval, struct eval_workers *out,
                                        struct err *err);
void eval_scratch_begin_series(struct eval_scratch *scratch);
/* Empties the arenas and sets their budgets to what is left. */
void eval_workers_reset(struct eval *eval, struct eval_workers *workers);
/* The error of the lowest slot. */
MUST_USE enum err_code eval_workers_error(const struct eval_workers *workers, struct err *err);
/* Runs fn for 0..n-1 over the pool. */
void eval_for(struct eval *eval, size_t n, pool_for_fn *fn, void *ctx);
/* How many series an operator should make at once. */
size_t eval_batch_series(const struct eval *eval, size_t n_steps);

/* Zeroed columns for n_steps. False: memory is out. */
MUST_USE bool series_alloc(struct arena *arena, size_t n_steps, struct eval_series *s);
MUST_USE bool series_want_histograms(struct arena *arena, size_t n_steps, struct eval_series *s);
/* Copies columns (histograms, too) into the query's memory. */
MUST_USE enum err_code series_keep(struct eval *eval, const struct eval_series *in, size_t n_steps,
                                   struct eval_series *out, struct err *err);
static inline void series_set(struct eval_series *s, size_t step, double v, struct histogram *h)
{
    bitmap_set(s->present, step);
    s->v[step] = h ? 0 : v;
    if (s->h) s->h[step] = h;
}
static inline struct point series_point(const struct eval_series *s, size_t step)
{
    struct histogram *h = s->h ? s->h[step] : NULL;
    return (struct point){h ? POINT_HISTOGRAM : POINT_FLOAT, s->v[step], h};
}
static inline void series_remove(struct eval_series *s, size_t step)
{
    bitmap_clear(s->present, step);
    s->v[step] = 0;
    if (s->h) s->h[step] = NULL;
}
/* Drops the series without any value. */
void batch_compact(struct eval_batch *batch, size_t n_steps);
/* All series of an operator, kept. */
struct series_list {
    struct eval_series *items;
    size_t n, cap;
};
MUST_USE enum err_code series_list_push(struct eval *eval, struct series_list *list,
                                        const struct eval_series *s, struct err *err);
MUST_USE enum err_code op_drain(struct op *op, struct series_list *out, struct err *err);

/* The series that a selector of the plan matches; equal ones are selected once. bare: labels only after the source's
 * spell(), if it has that. */
MUST_USE enum err_code eval_select(struct eval *eval, const struct plan *plan, bool bare,
                                   struct source_select **out, struct err *err);
/* For who wants to know nothing of stored series but which of them go together: a leaf whose series have a number
 * instead of labels (but perhaps for the name, for notes), and by number their groups, as the source numbers them.
 * no_values: values do not matter, only where they are. *out NULL: not for this plan or source. */
struct label_names;
MUST_USE enum err_code op_open_bare(struct eval *eval, const struct plan *plan,
                                    const struct label_names *names, bool no_values,
                                    struct op **out, const uint32_t **groups, size_t *n,
                                    struct err *err);
MUST_USE enum err_code bare_labels(struct op *op, uint32_t number, struct labels *out,
                                   struct err *err);

/* Window functions (eval_window.c), shared by selectors and subqueries. */
struct window_job {
    struct eval *eval;
    const struct plan *plan; /* PLAN_RANGE */
    const struct plan *range;
    struct scalar_args args;
    bool drops_name;
};
MUST_USE enum err_code window_job_init(struct eval *eval, const struct plan *plan,
                                       struct window_job *out, struct err *err);
/* One series: the samples in `scratch` to a value per step. Staleness markers are taken out of them. *n_looked_at:
 * samples in windows, over all steps. */
MUST_USE enum err_code window_evaluate(const struct window_job *job, struct eval_scratch *scratch,
                                       struct labels labels, struct notes *notes,
                                       struct eval_series *out, uint64_t *n_looked_at,
                                       struct err *err);
/* The same for floats without staleness markers, for functions that window_takes_floats names; `falls`: some
 * value is less than the one before. */
bool window_takes_floats(const struct window_job *job);
MUST_USE enum err_code window_evaluate_floats(const struct window_job *job,
                                              struct eval_scratch *scratch, struct labels labels,
                                              struct notes *notes, const struct float_column *in,
                                              bool falls, struct eval_series *out,
                                              uint64_t *n_looked_at, struct err *err);
/* The points of a series as samples, in `scratch`. */
MUST_USE enum err_code subquery_samples(const struct eval_series *in, const struct grid *grid,
                                        struct eval_scratch *scratch, struct err *err);
void samples_drop_stale(struct samples *samples);
void eval_release_selects(struct eval *eval);
/* Instant selectors with `smoothed` (eval_smoothed.c). Staleness markers are taken out of `samples`. */
MUST_USE enum err_code select_smoothed(const struct plan *plan, struct samples *samples,
                                       struct arena *arena, struct notes *notes,
                                       struct labels labels, struct eval_series *out,
                                       struct err *err);
/* A counter histogram's hint, by what the sample before it holds (NULL: no histogram). What senders say proves
 * nothing about this neighbour; only gauges are believed. A reset is named only where `stats_only`, else it is
 * "unknown": Prometheus forgets it in whole histograms, and clients see that in its warnings. */
enum histogram_reset_hint hint_by_content(const struct histogram *h, const struct histogram *prev,
                                          bool stats_only);
/* The same for all samples, which are ours to change; `prev` came before the first. */
void hints_by_content(struct samples *samples, const struct histogram *prev, bool stats_only);

/* The constructors, a file each. */
typedef enum err_code op_open_fn(struct eval *eval, const struct plan *plan, struct op **out,
                                 struct err *err);
op_open_fn op_open_select, op_open_range;                                   /* eval_leaf.c */
op_open_fn op_open_subquery_range;                                          /* eval_subquery.c */
op_open_fn op_open_element, op_open_negate, op_open_repeat, op_open_unique; /* eval_element.c */
op_open_fn op_open_vector_scalar, op_open_match, op_open_set;               /* binary*.c */
op_open_fn op_open_aggregate;                                               /* aggregate.c */
op_open_fn op_open_quantile;                                                /* quantile_vector.c */
op_open_fn op_open_absent, op_open_sort, op_open_vector, op_open_labels;    /* function_vector.c */
op_open_fn op_open_info;                                                    /* function_info.c */

#endif
