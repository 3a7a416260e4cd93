/* engine/write.c: one request: times checked, series defined in the log where it does not know them, one record of
 * samples and one of histograms, then the head.
 *
 * The completion waits for all records of the request and for the head, whichever comes last, and reports the first
 * failure. A record may rest on a definition that another request logged: when any write or fsync of the log fails,
 * wal_epoch rises before later completions run, and what was begun under the old epoch is not acknowledged. */
#include "engine/engine_private.h"
#include "wal/record.h"

#define RECORD_SAMPLES_MAX 500000 /* at most 29 bytes each: below WAL_PAYLOAD_BYTES_MAX */
#define RECORD_TEXT_BYTES                                                                          \
    ((size_t)8 << 20) /* a record of labels or histograms ends when it has more */
#define SCRATCH_KEEP_BYTES ((size_t)2 << 20) /* a scratch that grew larger is not kept */
#define PREFETCH_SERIES 48                   /* samples ahead */
#define PREFETCH_END 24
static_assert((uint64_t)RECORD_SAMPLES_MAX * 30 < WAL_PAYLOAD_BYTES_MAX, "see above");

/* ---- completion ---- */

struct write_op {
    _Atomic uint32_t
        pending;         /* records and the head; release when one is done, acquire by the last */
    _Atomic uint32_t rc; /* the first failure */
    uint32_t wal_epoch;  /* when the marks of the series were looked at */
    struct engine *engine;
    struct tenant *tenant;
    uint64_t waiting;    /* bytes of its records; told when all are done */
    write_done_fn *done; /* NULL: the caller got an error instead */
    void *arg;
};

static void op_release(struct write_op *op, enum err_code rc)
{
    uint32_t none = ERR_OK;
    if (rc) atomic_compare_exchange_strong(&op->rc, &none, (uint32_t)rc);
    if (atomic_fetch_sub_explicit(&op->pending, 1, memory_order_acq_rel) != 1) return;
    tenant_log_done(op->tenant, op->waiting);
    if (op->done) op->done(op->arg, (enum err_code)atomic_load(&op->rc));
    mem_free(op);
}

static void record_done(void *arg, enum err_code rc)
{
    struct write_op *op = arg;
    if (!rc && atomic_load_explicit(&op->engine->wal_epoch, memory_order_acquire) != op->wal_epoch)
        rc = ERR_IO; /* it may name series whose definition was lost */
    op_release(op, rc);
}

static enum err_code op_append(struct write_op *op, enum wal_type type, const struct buf *payload,
                               struct err *err)
{
    uint64_t pos;
    enum err_code rc = buf_finish(payload, err);
    if (rc) return rc;
    atomic_fetch_add(&op->pending, 1);
    rc = wal_append(op->engine->wal, type, buf_bytes(payload), record_done, op, &pos, err);
    if (rc) {
        atomic_fetch_sub(&op->pending, 1); /* not the last: the caller has one */
        return rc;
    }
    op->waiting += payload->len;
    tenant_log_wait(op->tenant, payload->len);
    return ERR_OK;
}

/* ---- scratch: what a request needs besides its own columns ---- */

struct write_scratch {
    struct write_scratch *next;
    struct buf payload, text;
    uint64_t *ids;
    size_t ids_cap;
    struct bytes *items; /* into text */
    size_t items_cap;
};

static struct write_scratch *scratch_take(struct engine *e)
{
    lock_take(&e->scratch_lock);
    struct write_scratch *s = e->scratch;
    if (s) e->scratch = s->next;
    lock_release(&e->scratch_lock);
    if (s) return s;
    s = mem_calloc(MEM_HEAD, 1, sizeof(*s));
    if (!s) return NULL;
    buf_init(&s->payload, MEM_HEAD);
    buf_init(&s->text, MEM_HEAD);
    return s;
}

static void scratch_free(struct write_scratch *s)
{
    buf_release(&s->payload);
    buf_release(&s->text);
    mem_free(s->ids);
    mem_free(s->items);
    mem_free(s);
}

static void scratch_give(struct engine *e, struct write_scratch *s)
{
    if (s->payload.cap + s->text.cap > SCRATCH_KEEP_BYTES) {
        scratch_free(s);
        return;
    }
    lock_take(&e->scratch_lock);
    s->next = e->scratch;
    e->scratch = s; /* as many as there were writers at once */
    lock_release(&e->scratch_lock);
}

void write_scratch_free_all(struct engine *e)
{
    for (struct write_scratch *s = e->scratch, *next; s; s = next) {
        next = s->next;
        scratch_free(s);
    }
    e->scratch = NULL;
}

static enum err_code scratch_reserve(struct write_scratch *s, size_t n, struct err *err)
{
    void *ids = s->ids, *items = s->items;
    enum err_code rc = mem_grow(MEM_HEAD, &ids, &s->ids_cap, n, sizeof(*s->ids), err);
    s->ids = ids;
    if (rc) return rc;
    rc = mem_grow(MEM_HEAD, &items, &s->items_cap, n, sizeof(*s->items), err);
    s->items = items;
    return rc;
}

/* The texts one after the other: each item, which knows its length, is told where it begins. */
static enum err_code scratch_items(struct write_scratch *s, size_t n, struct err *err)
{
    const uint8_t *p = s->text.p;
    for (size_t i = 0; i < n; i++) {
        s->items[i].p = p;
        p += s->items[i].len;
    }
    return buf_finish(&s->text, err);
}

/* ---- times ---- */

struct time_limits {
    int64_t min_ms, max_ms;
};

static struct time_limits limits_now(struct tenant *t)
{
    struct engine *e = t->engine;
    int64_t now = clock_wall_ms(e->env.clock), data_now = data_clock_ms(&e->data_clock);
    int64_t retention = atomic_load_explicit(&t->retention_ms, memory_order_relaxed);
    int64_t future = atomic_load_explicit(&e->limits.future_max_ms, memory_order_relaxed);
    return (struct time_limits){retention > 0 && data_now > retention ? data_now - retention : 0,
                                now + future};
}

static bool time_refused(struct time_limits limits, int64_t t_ms, struct series *s,
                         struct write_result *result)
{
    if (LIKELY(t_ms >= limits.min_ms && t_ms <= limits.max_ms)) return false;
    bool too_new = t_ms > limits.max_ms;
    if (!result->first_bad) {
        result->first_bad = s;
        result->first_bad_t_ms = t_ms;
        result->first_bad_too_new = too_new;
    }
    if (too_new)
        result->n_too_new++;
    else
        result->n_too_old++;
    return true;
}

/* Leaves bad times out of the columns; widens [*min_ms, *max_ms] by the good ones. */
static void filter_times(struct tenant *t, struct write_batch *b, struct write_result *result,
                         int64_t *min_ms, int64_t *max_ms)
{
    struct time_limits limits = limits_now(t);
    size_t n = 0;
    for (size_t i = 0; i < b->n; i++) {
        if (time_refused(limits, b->t_ms[i], b->series[i], result)) continue;
        *min_ms = MIN_OF(*min_ms, b->t_ms[i]);
        *max_ms = MAX_OF(*max_ms, b->t_ms[i]);
        if (n != i) {
            b->series[n] = b->series[i];
            b->t_ms[n] = b->t_ms[i];
            memcpy(&b->v[n], &b->v[i], sizeof(double));
            if (UNLIKELY(b->st_ms)) b->st_ms[n] = b->st_ms[i];
        }
        n++;
    }
    b->n = n;
    n = 0;
    for (size_t i = 0; i < b->n_histograms; i++) {
        if (time_refused(limits, b->h_t_ms[i], b->h_series[i], result)) continue;
        *min_ms = MIN_OF(*min_ms, b->h_t_ms[i]);
        *max_ms = MAX_OF(*max_ms, b->h_t_ms[i]);
        b->h_series[n] = b->h_series[i];
        b->h_t_ms[n] = b->h_t_ms[i];
        b->h[n++] = b->h[i];
    }
    b->n_histograms = n;
    n = 0;
    for (size_t i = 0; i < b->n_exemplars; i++) {
        if (b->e_t_ms[i] < limits.min_ms || b->e_t_ms[i] > limits.max_ms) {
            result->exemplars_left_out++;
            continue;
        }
        b->e_series[n] = b->e_series[i];
        b->e_t_ms[n] = b->e_t_ms[i];
        b->e_labels[n] = b->e_labels[i];
        b->e_v[n++] = b->e_v[i];
    }
    b->n_exemplars = n;
}

/* ---- the log ---- */

struct write {
    struct tenant *t;
    struct write_batch *b;
    struct write_op *op;
    struct write_scratch *scratch;
    uint32_t mark;
};

static bool is_logged(const struct write *w, struct series *s)
{
    return atomic_load_explicit(&s->logged, memory_order_acquire) == w->mark;
}

/* Defines those of series[from ..] that the log does not know, up to one record's worth; *next: where to go on. */
static enum err_code log_some_series(struct write *w, struct series *const *series, size_t n,
                                     size_t from, size_t *next, struct err *err)
{
    struct write_scratch *x = w->scratch;
    struct registry *reg = &w->t->registry;
    size_t n_new = 0, i = from;
    buf_reset(&x->text);
    rwlock_read(&reg->lock);
    for (; i < n && x->text.len < RECORD_TEXT_BYTES; i++) {
        struct series *s = series[i];
        if (is_logged(w, s) || (i > 0 && s == series[i - 1])) continue;
        x->ids[n_new] = s->id;
        size_t start = x->text.len;
        registry_encode_labels(reg, s, &x->text);
        x->items[n_new++] = bytes_of(NULL, x->text.len - start);
    }
    rwlock_release(&reg->lock);
    *next = i;
    if (n_new == 0) return ERR_OK;
    enum err_code rc = scratch_items(x, n_new, err);
    if (rc) return rc;
    buf_reset(&x->payload);
    wal_encode_series(&x->payload,
                      &(struct wal_series){w->t->incarnation, n_new, x->ids, x->items});
    return op_append(w->op, WAL_SERIES, &x->payload, err);
}

static enum err_code log_series(struct write *w, struct series *const *series, size_t n,
                                struct err *err)
{
    size_t i = 0;
    while (i < n && is_logged(w, series[i])) i++;
    if (i == n) return ERR_OK; /* nearly always */
    while (i < n) {
        size_t next;
        enum err_code rc = log_some_series(w, series, n, i, &next, err);
        if (rc) return rc;
        /* Only now may others rely on it: their records come behind this one. */
        for (; i < next; i++)
            atomic_store_explicit(&series[i]->logged, w->mark, memory_order_release);
    }
    return ERR_OK;
}

static enum err_code log_samples(struct write *w, struct err *err)
{
    const struct write_batch *b = w->b;
    for (size_t from = 0; from < b->n;) {
        size_t n = MIN_OF(b->n - from, (size_t)RECORD_SAMPLES_MAX);
        uint64_t *ids = w->scratch->ids;
        for (size_t i = 0; i < n; i++) ids[i] = b->series[from + i]->id;
        struct wal_samples record = {w->t->incarnation, n, ids, b->t_ms + from, b->v + from, NULL};
        if (UNLIKELY(b->st_ms)) record.st_ms = b->st_ms + from;
        buf_reset(&w->scratch->payload);
        wal_encode_samples(&w->scratch->payload, &record);
        enum wal_type type = record.st_ms ? WAL_STARTED : WAL_SAMPLES;
        enum err_code rc = op_append(w->op, type, &w->scratch->payload, err);
        if (rc) return rc;
        from += n;
    }
    return ERR_OK;
}

/* Leaves the encoded histograms in scratch->items for the head. */
static enum err_code encode_histograms(struct write *w, struct err *err)
{
    struct write_scratch *x = w->scratch;
    buf_reset(&x->text);
    for (size_t i = 0; i < w->b->n_histograms; i++) {
        size_t start = x->text.len;
        histogram_encode(&x->text, w->b->h[i]);
        x->items[i] = bytes_of(NULL, x->text.len - start);
    }
    return scratch_items(x, w->b->n_histograms, err);
}

static enum err_code log_histograms(struct write *w, struct err *err)
{
    const struct write_batch *b = w->b;
    struct write_scratch *x = w->scratch;
    for (size_t from = 0; from < b->n_histograms;) {
        size_t n = 0, bytes = 0;
        for (; from + n < b->n_histograms && (n == 0 || bytes < RECORD_TEXT_BYTES); n++) {
            x->ids[n] = b->h_series[from + n]->id;
            bytes += x->items[from + n].len;
        }
        struct wal_items record = {w->t->incarnation, n, x->ids, b->h_t_ms + from, x->items + from};
        buf_reset(&x->payload);
        wal_encode_items(&x->payload, &record);
        enum err_code rc = op_append(w->op, WAL_HISTOGRAMS, &x->payload, err);
        if (rc) return rc;
        from += n;
    }
    return ERR_OK;
}

static enum err_code log_exemplars(struct write *w, struct err *err)
{
    const struct write_batch *b = w->b;
    struct write_scratch *x = w->scratch;
    for (size_t from = 0; from < b->n_exemplars;) {
        size_t n = 0;
        buf_reset(&x->text);
        for (; from + n < b->n_exemplars && x->text.len < RECORD_TEXT_BYTES; n++) {
            size_t start = x->text.len;
            buf_double(&x->text, b->e_v[from + n]);
            buf_put(&x->text, b->e_labels[from + n].p, b->e_labels[from + n].len);
            x->ids[n] = b->e_series[from + n]->id;
            x->items[n] = bytes_of(NULL, x->text.len - start);
        }
        enum err_code rc = scratch_items(x, n, err);
        if (rc) return rc;
        struct wal_items record = {w->t->incarnation, n, x->ids, b->e_t_ms + from, x->items};
        buf_reset(&x->payload);
        wal_encode_items(&x->payload, &record);
        rc = op_append(w->op, WAL_EXEMPLARS, &x->payload, err);
        if (rc) return rc;
        from += n;
    }
    return ERR_OK;
}

static enum err_code log_all(struct write *w, struct err *err)
{
    const struct write_batch *b = w->b;
    size_t n = MAX_OF(b->n, MAX_OF(b->n_histograms, b->n_exemplars));
    enum err_code rc = scratch_reserve(w->scratch, n, err);
    if (!rc) rc = log_series(w, b->series, b->n, err);
    if (!rc && b->n_histograms) rc = log_series(w, b->h_series, b->n_histograms, err);
    if (!rc && b->n_exemplars) rc = log_series(w, b->e_series, b->n_exemplars, err);
    if (!rc && b->n_exemplars) rc = log_exemplars(w, err);
    if (!rc && b->n_histograms) rc = encode_histograms(w, err);
    /* In the order of insertion: a replay must come to the same winner. */
    if (!rc) rc = log_samples(w, err);
    if (!rc && b->n_histograms) rc = log_histograms(w, err);
    return rc;
}

/* ---- the head ---- */

static struct head_stripe *change_stripe(struct head_stripe *held, struct head_stripe *next)
{
    if (held == next) return held;
    if (held) lock_release(&held->lock);
    if (next) lock_take(&next->lock);
    return next;
}

/* What a sample touches, one hop each: its series, the end of its stream. What another stripe's lock guards is left
 * alone. 54 -> 25 ns a sample, log included, bench_engine. */
PREFETCHES void prefetch_ahead(const struct write *w, size_t i, const struct head_stripe *held)
{
    const struct write_batch *b = w->b;
    if (LIKELY(i + PREFETCH_SERIES < b->n)) head_prefetch_open(b->series[i + PREFETCH_SERIES]);
    if (UNLIKELY(i + PREFETCH_END >= b->n)) return;
    struct series *s = b->series[i + PREFETCH_END];
    if (LIKELY(tenant_stripe(w->t, s) == held)) head_prefetch_end(s);
}

static enum err_code insert_floats(const struct write *w, struct head_counts *counts,
                                   struct err *err)
{
    const struct write_batch *b = w->b;
    struct tenant *t = w->t;
    struct head_stripe *held = NULL;
    enum err_code rc = ERR_OK;
    for (size_t i = 0; !rc && i < b->n; i++) {
        struct series *s = b->series[i];
        held = change_stripe(held, tenant_stripe(t, s));
        prefetch_ahead(w, i, held);
        if (UNLIKELY(b->st_ms || head_has_starts(s)))
            rc = head_append_started(held, counts, t->gen, s, b->t_ms[i], b->v[i],
                                     b->st_ms ? b->st_ms[i] : 0, err);
        else
            rc = head_append_float(held, counts, t->gen, s, b->t_ms[i], b->v[i], err);
    }
    (void)change_stripe(held, NULL);
    return rc;
}

static enum err_code insert_histograms(const struct write *w, struct head_counts *counts,
                                       struct err *err)
{
    const struct write_batch *b = w->b;
    struct head_stripe *held = NULL;
    enum err_code rc = ERR_OK;
    for (size_t i = 0; !rc && i < b->n_histograms; i++) {
        struct series *s = b->h_series[i];
        struct head_value value = {b->h[i]->sum, b->h[i], w->scratch->items[i]};
        held = change_stripe(held, tenant_stripe(w->t, s));
        rc = head_append(held, counts, w->t->gen, s, b->h_t_ms[i], &value, err);
    }
    (void)change_stripe(held, NULL);
    return rc;
}

/* Of any time: what is behind the newest of its series is refused now, and would be by a replay. */
static void insert_exemplars(const struct write *w, struct write_result *result)
{
    const struct write_batch *b = w->b;
    struct registry *reg = &w->t->registry;
    struct buf labels;
    buf_init(&labels, MEM_HEAD);
    for (size_t i = 0; i < b->n_exemplars; i++) {
        struct series *s = b->e_series[i];
        struct encoded_exemplar e = {b->e_t_ms[i], b->e_v[i], b->e_labels[i]};
        enum exemplar_outcome outcome = EXEMPLAR_NO_ROOM;
        buf_reset(&labels);
        rwlock_read(&reg->lock);
        registry_encode_labels(reg, s, &labels);
        rwlock_release(&reg->lock);
        if (!labels.failed) outcome = exemplars_add(&w->t->exemplars, buf_bytes(&labels), &e);
        result->n_exemplars += outcome == EXEMPLAR_STORED || outcome == EXEMPLAR_REPEATED;
        result->exemplars_left_out += outcome == EXEMPLAR_NO_ROOM;
        result->exemplars_unordered += outcome == EXEMPLAR_OUT_OF_ORDER;
        if (outcome == EXEMPLAR_OUT_OF_ORDER && !result->first_unordered)
            result->first_unordered = s;
    }
    buf_release(&labels);
}

/* Before the first record since a cut, so that whoever cuts the WAL sees it. */
static void note_first_write(struct tenant *t)
{
    uint64_t none = POS_NONE;
    if (LIKELY(atomic_load(&t->first_pos) != POS_NONE)) return;
    atomic_compare_exchange_strong(&t->first_pos, &none, wal_end_pos(t->engine->wal));
    int64_t never = 0;
    atomic_compare_exchange_strong(&t->first_arrival_ns, &never,
                                   MAX_OF(clock_mono_ns(t->engine->env.clock), 1));
}

static struct write_op *op_new(struct tenant *t, write_done_fn *done, void *arg)
{
    struct engine *e = t->engine;
    struct write_op *op = mem_calloc(MEM_HEAD, 1, sizeof(*op));
    if (!op) return NULL;
    atomic_store(&op->pending, 1); /* the head's */
    op->engine = e;
    op->tenant = t;
    op->wal_epoch = atomic_load_explicit(&e->wal_epoch, memory_order_acquire);
    op->done = done;
    op->arg = arg;
    return op;
}

/* Logs and inserts what is left of the batch. */
static enum err_code write_good(struct tenant *t, struct write_batch *b, int64_t min_ms,
                                struct write_scratch *x, write_done_fn *done, void *arg,
                                struct write_result *result, struct err *err)
{
    struct write_op *op = op_new(t, done, arg);
    if (!op) return err_set(err, ERR_NO_MEMORY, "no memory for a write");
    struct write w = {t, b, op, x, tenant_log_mark(t, op->wal_epoch)};
    note_first_write(t);
    enum err_code rc = log_all(&w, err);
    if (rc) {
        op->done = NULL; /* nothing enters the head; records that were queued end quietly */
        op_release(op, rc);
        return disk_room_note(&t->engine->room, rc);
    }
    wal_coming(t->engine->wal, -1); /* the head may take its time beside the fsync */
    struct head_counts counts = {0};
    struct err why; /* told through the completion: the records are on their way */
    enum err_code head_rc = insert_floats(&w, &counts, &why);
    if (!head_rc) head_rc = insert_histograms(&w, &counts, &why);
    tenant_count(t, &counts);
    if (UNLIKELY(b->n_exemplars)) insert_exemplars(&w, result);
    changes_note_samples(&t->changes, min_ms); /* before anybody is told that they are stored */
    wal_coming(t->engine->wal, 1);             /* until tenant_write_end */
    op_release(op, head_rc);
    return ERR_OK;
}

enum err_code tenant_write(struct tenant *t, struct write_batch *b, write_done_fn *done, void *arg,
                           struct write_result *result, struct err *err)
{
    *result = (struct write_result){0};
    int64_t min_ms = INT64_MAX, max_ms = INT64_MIN;
    enum err_code rc = engine_admit(t->engine, ENGINE_WRITE, err);
    if (rc) return rc;
    if (UNLIKELY(atomic_load_explicit(&t->state, memory_order_relaxed) != TENANT_ALIVE))
        return tenant_gone(t, err);
    filter_times(t, b, result, &min_ms, &max_ms);
    if (b->n == 0 && b->n_histograms == 0 && b->n_exemplars == 0) {
        if (done) done(arg, ERR_OK);
        return ERR_OK;
    }
    struct write_scratch *x = scratch_take(t->engine);
    if (!x) return err_set(err, ERR_NO_MEMORY, "no memory for a write");
    /* Before the samples: a reader that sees one must not miss it for its time. */
    time_range_add(&t->range, min_ms, max_ms);
    uint64_t n = b->n + b->n_histograms + b->n_exemplars;
    rc = write_good(t, b, min_ms, x, done, arg, result, err);
    if (!rc) rate_take(&t->rate, clock_mono_ns(t->engine->env.clock), n);
    scratch_give(t->engine, x);
    return rc;
}
