/* query/result_cache.c: see the header. Entries do not change once they are in the table; a query holds the one it reads, and
 * puts another in its place. */
#include "query/result_cache.h"

#include "base/hash.h"
#include "base/lock.h"
#include "query/eval_op.h"
#include "query/parser.h"

#define BUCKETS 1024
/* One answer may take so much of the cache. */
#define ENTRY_SHARE 4

struct cached_series {
    struct labels labels;
    uint64_t *present;
    double *v;
};
struct entry {
    struct entry *chain;         /* of the bucket */
    struct entry *newer, *older; /* by last use */
    size_t refs;                 /* the table's, and those of readers; GUARDED_BY(cache.lock) */
    uint64_t hash;
    struct bytes key;
    uint64_t identity, number; /* of the source when it was computed */
    int64_t start_ms, step_ms;
    size_t n_steps;
    struct cached_series *series; /* in the order of labels */
    size_t n_series;
    size_t bytes;
    struct arena arena; /* all of the above */
};
struct result_cache {
    struct lock lock;         /* rank LOCK_CACHE; guards the rest but the metrics */
    _Atomic size_t bytes_max; /* relaxed: a setting */
    size_t bytes, n;
    struct entry *newest, *oldest;
    struct entry *buckets[BUCKETS];
    struct metric *hits, *partial, *misses, *not_taken, *evictions, *steps_cached, *steps_computed;
    struct metric *bytes_metric, *entries_metric;
};

/* ---- what can be kept ---- */

struct check {
    bool fine, selects;
};

static bool window_fine(enum at_kind at, const struct duration *offset)
{
    return at == AT_NONE && !offset->expr && offset->ms >= 0;
}

static bool check_node(void *ctx, struct node *node)
{
    struct check *check = ctx;
    bool fine = true;
    switch (node->kind) {
    case NODE_SELECTOR: {
        const struct node_selector *s = NODE_AS(selector, node);
        fine = window_fine(s->at, &s->offset) && s->mode == SELECT_PLAIN;
        check->selects = true;
        break;
    }
    case NODE_MATRIX: fine = !NODE_AS(matrix, node)->range.expr; break;
    case NODE_SUBQUERY: {
        const struct node_subquery *s = NODE_AS(subquery, node);
        fine = window_fine(s->at, &s->offset) && !s->range.expr && !s->step.expr;
        break;
    }
    case NODE_CALL: {
        enum function_id fn = NODE_AS(call, node)->func->id;
        fine = fn != FN_INFO && fn != FN_START && fn != FN_END && fn != FN_RANGE;
        break;
    }
    case NODE_AGGREGATE: {
        enum aggregate_op op = NODE_AS(aggregate, node)->op;
        fine = op != AGG_LIMITK && op != AGG_LIMIT_RATIO;
        break;
    }
    default: break;
    }
    check->fine &= fine;
    return check->fine;
}

bool result_cache_takes(struct node *root)
{
    struct check check = {.fine = true};
    node_walk(root, check_node, &check);
    return check.fine && check.selects;
}

/* Everything that an answer depends on besides the data; p NULL: it cannot be kept (or parsed, which others will say). */
static struct bytes make_key(const struct query_env *env, const struct query_request *request,
                             struct buf *out)
{
    struct arena arena;
    struct parse_result parsed = {0};
    struct err ignored;
    const struct query_limits *l = &env->limits;
    arena_init(&arena, MEM_QUERY, 0);
    bool fine = parse_expr(request->text, &arena, &parsed, &ignored) == ERR_OK;
    if (fine) fine = parsed.root->type == VALUE_VECTOR && result_cache_takes(parsed.root);
    if (fine) {
        buf_u64(out, (uint64_t)request->step_ms);
        buf_u64(out, (uint64_t)(request->start_ms % request->step_ms));
        buf_u64(out, (uint64_t)(request->lookback_ms > 0 ? request->lookback_ms : l->lookback_ms));
        buf_u64(out, (uint64_t)l->subquery_step_ms);
        buf_u64(out, l->series_max);
        buf_u64(out, l->samples_max);
        buf_u64(out, l->work_max);
        buf_u64(out, l->memory_bytes_max);
        buf_text(out, env->tenant);
        buf_u8(out, 0);
        ast_print(parsed.root, out);
    }
    parse_release(&parsed);
    arena_release(&arena);
    return fine && !out->failed ? buf_bytes(out) : bytes_of(NULL, 0);
}

/* ---- the table; under the lock ---- */

static void entry_unref(struct entry *e)
{
    if (!e || --e->refs) return;
    struct arena arena = e->arena; /* the entry is in it */
    arena_release(&arena);
}

static void unlink_entry(struct result_cache *c, struct entry *e)
{
    struct entry **link = &c->buckets[e->hash % BUCKETS];
    while (*link != e) link = &(*link)->chain;
    *link = e->chain;
    *(e->newer ? &e->newer->older : &c->newest) = e->older;
    *(e->older ? &e->older->newer : &c->oldest) = e->newer;
    c->bytes -= e->bytes;
    c->n--;
    entry_unref(e);
}

static void link_newest(struct result_cache *c, struct entry *e)
{
    e->newer = NULL;
    e->older = c->newest;
    *(c->newest ? &c->newest->newer : &c->oldest) = e;
    c->newest = e;
}

static struct entry *find_entry(struct result_cache *c, struct bytes key, uint64_t hash)
{
    struct entry *e = c->buckets[hash % BUCKETS];
    while (e &&
           !(e->hash == hash && e->key.len == key.len && memcmp(e->key.p, key.p, key.len) == 0))
        e = e->chain;
    return e;
}

static void shrink(struct result_cache *c, size_t bytes_max)
{
    while (c->oldest && c->bytes > bytes_max) {
        unlink_entry(c, c->oldest);
        metric_inc(c->evictions);
    }
    metric_set(c->bytes_metric, (double)c->bytes);
    metric_set(c->entries_metric, (double)c->n);
}

/* Held by the caller; NULL: there is none. */
static struct entry *take_entry(struct result_cache *c, struct bytes key, uint64_t hash)
{
    lock_take(&c->lock);
    struct entry *e = find_entry(c, key, hash);
    if (e) {
        e->refs++;
        *(e->newer ? &e->newer->older : &c->newest) = e->older;
        *(e->older ? &e->older->newer : &c->oldest) = e->newer;
        link_newest(c, e);
    }
    lock_release(&c->lock);
    return e;
}

static void give_entry(struct result_cache *c, struct entry *e)
{
    lock_take(&c->lock);
    entry_unref(e);
    lock_release(&c->lock);
}

static void put_entry(struct result_cache *c, struct entry *e)
{
    lock_take(&c->lock);
    struct entry *old = find_entry(c, e->key, e->hash);
    if (old) unlink_entry(c, old);
    e->chain = c->buckets[e->hash % BUCKETS];
    c->buckets[e->hash % BUCKETS] = e;
    link_newest(c, e);
    c->bytes += e->bytes;
    c->n++;
    shrink(c, c->bytes_max);
    lock_release(&c->lock);
}

/* ---- life ---- */

enum err_code result_cache_new(size_t bytes_max, struct metrics *m, struct result_cache **out,
                               struct err *err)
{
    *out = NULL;
    struct result_cache *c = mem_calloc(MEM_RESULTS, 1, sizeof(*c));
    if (!c) return err_set(err, ERR_NO_MEMORY, "no memory for the cache of answers");
    lock_init(&c->lock, LOCK_CACHE);
    c->bytes_max = bytes_max;
    static const char REQUESTS[] = "quipu_query_cache_requests_total";
    static const char REQUESTS_HELP[] = "Range queries by what the cache of answers had: all "
                                        "steps, some, none, or nothing to keep.";
    c->hits = metric_counter(m, REQUESTS, REQUESTS_HELP, "result=\"hit\"");
    c->partial = metric_counter(m, REQUESTS, REQUESTS_HELP, "result=\"partial\"");
    c->misses = metric_counter(m, REQUESTS, REQUESTS_HELP, "result=\"miss\"");
    c->not_taken = metric_counter(m, REQUESTS, REQUESTS_HELP, "result=\"uncacheable\"");
    static const char STEPS[] = "quipu_query_cache_steps_total";
    static const char STEPS_HELP[] = "Steps of cacheable range queries by where they came from.";
    c->steps_cached = metric_counter(m, STEPS, STEPS_HELP, "source=\"cache\"");
    c->steps_computed = metric_counter(m, STEPS, STEPS_HELP, "source=\"computed\"");
    c->evictions = metric_counter(m, "quipu_query_cache_evictions_total",
                                  "Answers that made room for others.", "");
    c->bytes_metric = metric_gauge(m, "quipu_query_cache_bytes", "Size of cached answers.", "");
    c->entries_metric = metric_gauge(m, "quipu_query_cache_entries", "Cached answers.", "");
    *out = c;
    return ERR_OK;
}

void result_cache_free(struct result_cache *c)
{
    if (!c) return;
    result_cache_set_max(c, 0);
    ASSERT(c->n == 0);
    lock_destroy(&c->lock);
    mem_free(c);
}

void result_cache_set_max(struct result_cache *c, size_t bytes_max)
{
    lock_take(&c->lock);
    c->bytes_max = bytes_max;
    shrink(c, bytes_max);
    lock_release(&c->lock);
}

size_t result_cache_bytes(struct result_cache *c)
{
    lock_take(&c->lock);
    size_t bytes = c->bytes;
    lock_release(&c->lock);
    return bytes;
}

/* ---- an answer from what is there and what was computed ---- */

/* Of the entry's steps [from, from + n), the points of series s; n_points 0: it has none there. */
static size_t count_points(const struct cached_series *s, size_t from, size_t n)
{
    size_t n_points = 0;
    for (size_t i = from; i < from + n; i++) n_points += bitmap_get(s->present, i);
    return n_points;
}

struct merge {
    struct query_result *result; /* what was computed; grows into the whole */
    struct entry *entry;         /* NULL: none */
    size_t from, n_steps;        /* of the entry, that the answer begins with */
};

/* The points of `old` (may be NULL), then those of `computed` (may be NULL), as one series. */
static enum err_code merge_series(const struct merge *m, const struct cached_series *old,
                                  const struct result_series *computed, struct result_series *out,
                                  struct err *err)
{
    struct arena *arena = &m->result->arena;
    size_t n_old = old ? count_points(old, m->from, m->n_steps) : 0;
    size_t n_new = computed ? computed->n : 0, n = n_old + n_new;
    *out = (struct result_series){.n = n};
    if (!n) return ERR_OK;
    int64_t *t_ms = ARENA_ARRAY(arena, int64_t, n);
    double *v = ARENA_ARRAY(arena, double, n);
    struct histogram **h =
        computed && computed->h ? ARENA_ARRAY(arena, struct histogram *, n) : NULL;
    if (!t_ms || !v || (computed && computed->h && !h)) return arena_fail(arena, err);
    size_t k = 0;
    for (size_t i = m->from; old && i < m->from + m->n_steps; i++) {
        if (!bitmap_get(old->present, i)) continue;
        t_ms[k] = m->entry->start_ms + (int64_t)i * m->entry->step_ms;
        v[k++] = old->v[i];
    }
    if (n_new) {
        memcpy(t_ms + n_old, computed->t_ms, n_new * sizeof(*t_ms));
        memcpy(v + n_old, computed->v, n_new * sizeof(*v));
        if (h) memcpy(h + n_old, computed->h, n_new * sizeof(struct histogram *));
    }
    *out = (struct result_series){.n = n, .t_ms = t_ms, .v = v, .h = h};
    if (computed) {
        out->labels = computed->labels;
        return ERR_OK;
    }
    return labels_copy(arena, old->labels, &out->labels, err); /* the entry may go before */
}

static enum err_code merge_all(const struct merge *m, struct err *err)
{
    struct query_result *r = m->result;
    const struct entry *e = m->entry;
    struct result_series *all =
        ARENA_ARRAY(&r->arena, struct result_series, r->n_series + e->n_series + 1);
    if (!all) return arena_fail(&r->arena, err);
    size_t i = 0, k = 0, n = 0;
    enum err_code rc = ERR_OK;
    while (!rc && (i < e->n_series || k < r->n_series)) {
        int order = i == e->n_series   ? 1
                    : k == r->n_series ? -1
                                       : labels_cmp(e->series[i].labels, r->series[k].labels);
        const struct cached_series *old = order <= 0 ? &e->series[i++] : NULL;
        const struct result_series *computed = order >= 0 ? &r->series[k++] : NULL;
        rc = merge_series(m, old, computed, &all[n], err);
        n += all[n].n > 0;
    }
    r->series = all;
    r->n_series = n;
    return rc;
}

/* ---- an answer to keep ---- */

static bool can_be_kept(const struct query_result *r)
{
    if (r->notes.n || r->type != VALUE_MATRIX) return false;
    for (size_t i = 0; i < r->n_series; i++)
        if (r->series[i].h) return false;
    return true;
}

static bool fill_series(struct entry *e, const struct result_series *from,
                        struct cached_series *out)
{
    struct err ignored;
    out->present = ARENA_ARRAY(&e->arena, uint64_t, bitmap_words(e->n_steps));
    out->v = ARENA_ARRAY(&e->arena, double, e->n_steps);
    if (!out->present || !out->v) return false;
    bool any = false;
    for (size_t i = 0; i < from->n; i++) {
        size_t step = (size_t)((from->t_ms[i] - e->start_ms) / e->step_ms);
        if (step >= e->n_steps) break;
        bitmap_set(out->present, step);
        out->v[step] = from->v[i];
        any = true;
    }
    if (any) e->n_series++;
    return !any || labels_copy(&e->arena, from->labels, &out->labels, &ignored) == ERR_OK;
}

struct kept {
    struct bytes key;
    uint64_t hash, identity, number;
    int64_t start_ms, step_ms;
    size_t n_steps;
};

/* The first steps of an answer. That there is no memory for it is no matter. */
static void keep(struct result_cache *c, const struct kept *kept, const struct query_result *r)
{
    size_t budget = atomic_load_explicit(&c->bytes_max, memory_order_relaxed) / ENTRY_SHARE;
    size_t least = r->n_series * kept->n_steps * sizeof(double);
    struct arena arena;
    if (!budget || least > budget) return;
    arena_init(&arena, MEM_RESULTS, budget);
    struct entry *e = ARENA_NEW(&arena, struct entry);
    uint8_t *key = arena_alloc(&arena, kept->key.len, 1);
    struct cached_series *series = ARENA_ARRAY(&arena, struct cached_series, r->n_series + 1);
    if (!e || !key || !series) {
        arena_release(&arena);
        return;
    }
    memcpy(key, kept->key.p, kept->key.len);
    *e = (struct entry){.refs = 1,
                        .hash = kept->hash,
                        .key = bytes_of(key, kept->key.len),
                        .identity = kept->identity,
                        .number = kept->number,
                        .start_ms = kept->start_ms,
                        .step_ms = kept->step_ms,
                        .n_steps = kept->n_steps,
                        .series = series,
                        .arena = arena};
    bool fine = true;
    for (size_t i = 0; fine && i < r->n_series; i++)
        fine = fill_series(e, &r->series[i], &series[e->n_series]);
    e->bytes = e->arena.used_bytes;
    if (fine) {
        put_entry(c, e);
        return;
    }
    arena = e->arena;
    arena_release(&arena);
}

/* ---- the query ---- */

/* Of the answer's first steps, how many the entry has, and *from where on. */
static size_t usable(const struct entry *e, const struct kept *want, size_t n_steps,
                     struct query_source *source, size_t *from)
{
    if (!e || e->identity != want->identity || e->start_ms > want->start_ms) return 0;
    int64_t end_ms = e->start_ms + (int64_t)e->n_steps * e->step_ms; /* after the last */
    end_ms = MIN_OF(end_ms, source->ops->changed_since(source, e->number));
    if (end_ms <= want->start_ms) return 0;
    *from = (size_t)((want->start_ms - e->start_ms) / e->step_ms);
    uint64_t n = ((uint64_t)end_ms - (uint64_t)want->start_ms - 1) / (uint64_t)want->step_ms + 1;
    return (size_t)MIN_OF(n, (uint64_t)n_steps);
}

static enum err_code compute_rest(const struct query_env *env, const struct query_request *request,
                                  size_t n_cached, size_t n_steps, struct query_result **out,
                                  struct err *err)
{
    if (n_cached == n_steps) {
        *out = query_result_new(env, err);
        if (!*out) return err->code;
        (*out)->type = VALUE_MATRIX;
        return ERR_OK;
    }
    struct query_request rest = *request;
    rest.start_ms += (int64_t)n_cached * request->step_ms;
    return query_run(env, &rest, out, err);
}

static enum err_code run_cached(struct result_cache *c, const struct query_env *env,
                                const struct query_request *request, struct kept *want,
                                size_t n_steps, struct query_result **out, struct err *err)
{
    struct merge m = {.entry = take_entry(c, want->key, want->hash)};
    m.n_steps = usable(m.entry, want, n_steps, env->source, &m.from);
    enum err_code rc = compute_rest(env, request, m.n_steps, n_steps, out, err);
    m.result = *out;
    if (!rc && m.n_steps) rc = merge_all(&m, err);
    metric_inc(m.n_steps == n_steps ? c->hits : m.n_steps ? c->partial : c->misses);
    metric_add(c->steps_cached, m.n_steps);
    metric_add(c->steps_computed, n_steps - m.n_steps);
    bool has_all = m.n_steps >= want->n_steps; /* nothing to add to the entry */
    give_entry(c, m.entry);
    if (rc) {
        query_result_free(*out);
        *out = NULL;
        return rc;
    }
    (*out)->stats.steps_cached = m.n_steps;
    if (!has_all && can_be_kept(*out)) keep(c, want, *out);
    return ERR_OK;
}

enum err_code result_cache_run(struct result_cache *c, int64_t settled_ms,
                               const struct query_env *env, const struct query_request *request,
                               struct query_result **out, struct err *err)
{
    const struct query_source_ops *ops = env->source->ops;
    bool asked = c && request->step_ms > 0 && !request->explain && request->start_ms >= 0 &&
                 request->end_ms >= request->start_ms &&
                 (request->end_ms - request->start_ms) / request->step_ms < QUERY_STEPS_MAX;
    if (!asked || !ops->settle) return query_run(env, request, out, err);
    int64_t last_ms = MIN_OF(request->end_ms, settled_ms);
    struct buf key;
    buf_init(&key, MEM_QUERY);
    struct kept want = {.start_ms = request->start_ms, .step_ms = request->step_ms};
    if (last_ms >= request->start_ms) want.key = make_key(env, request, &key);
    enum err_code rc;
    if (!want.key.p) {
        metric_inc(c->not_taken);
        rc = query_run(env, request, out, err);
    } else {
        size_t n_steps = (size_t)((request->end_ms - request->start_ms) / request->step_ms) + 1;
        want.n_steps = (size_t)((last_ms - request->start_ms) / request->step_ms) + 1;
        want.hash = hash_xxh3(want.key.p, want.key.len);
        /* Before anything is read: from here on changes of the past are noted. */
        ops->settle(env->source, last_ms, &want.identity, &want.number);
        rc = run_cached(c, env, request, &want, n_steps, out, err);
    }
    buf_release(&key);
    return rc;
}
