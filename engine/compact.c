/* engine/compact.c: see the header. A merge holds references of its sources only, neither a view, which would keep
 * flushed chunks in memory, nor a lock that writers, readers or flushes need: what it makes is swapped in under the
 * flush lock at the end, if all sources are still there. It reads through a small cache of its own, so that it does not
 * push out what queries need. A crash leaves blocks that the catalog does not know; the next start removes them. */
#include "engine/compact.h"

#include <inttypes.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/engine_private.h"

#define IDLE_NS INT64_C(5000000000)  /* between looks at the tenants */
#define LOOK_NS INT64_C(60000000000) /* a tenant without new blocks: time alone closes cells */
#define BACKOFF_NS INT64_C(15000000000)
#define BACKOFF_MAX_NS INT64_C(600000000000)
#define REFUSED_MAX 64
#define CACHE_BYTES_MIN ((size_t)2 << 20)
#define CACHE_BYTES_MAX ((size_t)16 << 20)
#define SERIES_MAX 4000000 /* of one block */
#define SLACK_MS (INT64_C(15) * 60000)
#define PAUSE_NS INT64_C(20000000) /* between looks at the clock */
#define SLEEP_NS_MAX INT64_C(100000000)
#define FLUSH_SHARE 3 /* while heads are flushed, so many times as long as it works it waits */
#define NICE 10

/* ---- a merge that gives way ---- */

struct pace {
    struct engine *engine;
    bool gentle; /* nobody waits for it */
    const struct engine_compact_options *options;
    struct engine_compact_report *report;
    uint64_t bytes; /* to be read and written, about */
    int64_t begun_ns, slept_ns, looked_ns;
};

/* False: it is to stop. */
static bool compactor_sleep(struct compactor *c, int64_t ns)
{
    lock_take(&c->wake_lock);
    if (!atomic_load_explicit(&c->stopping, memory_order_relaxed))
        (void)cond_wait_for(&c->wake, &c->wake_lock, ns);
    lock_release(&c->wake_lock);
    return !atomic_load_explicit(&c->stopping, memory_order_relaxed);
}

/* How long the merge is to wait now, having worked for worked_ns since it was last asked. */
static int64_t wait_needed(const struct pace *p, double done, int64_t now_ns, int64_t worked_ns)
{
    struct engine *e = p->engine;
    if (atomic_load_explicit(&e->compactor.n_waiting, memory_order_relaxed)) return 0;
    int64_t wait_ns = 0;
    if (atomic_load_explicit(&e->n_flushing, memory_order_relaxed))
        wait_ns = FLUSH_SHARE * worked_ns;
    uint64_t rate = atomic_load_explicit(&e->limits.compact_rate, memory_order_relaxed);
    if (rate && p->gentle) {
        double due_ns = done * (double)p->bytes / (double)rate * 1e9;
        double ahead_ns = due_ns - (double)(now_ns - p->begun_ns);
        if (ahead_ns > (double)wait_ns) wait_ns = (int64_t)MIN_OF(ahead_ns, 1e10);
    }
    return wait_ns;
}

static enum err_code pause_merge(void *ctx, double done, struct err *err)
{
    struct pace *p = ctx;
    struct engine *e = p->engine;
    struct compactor *c = &e->compactor;
    if (atomic_load_explicit(&c->stopping, memory_order_relaxed))
        return err_set(err, ERR_SHUTDOWN, "stopping");
    if (!e->env.threads && !p->options) return ERR_OK;
    int64_t now_ns = clock_mono_ns(e->env.clock);
    if (e->env.threads && now_ns - p->looked_ns < PAUSE_NS) return ERR_OK;
    int64_t worked_ns = now_ns - p->looked_ns;
    if (p->options && p->options->progress &&
        !p->options->progress(p->options->ctx, p->report, done))
        return err_set(err, ERR_CANCELED, "given up");
    enum err_code rc = pressure_check(&e->pressure, PRESSURE_WRITES, err);
    if (rc) return rc;
    for (int64_t wait_ns = wait_needed(p, done, now_ns, worked_ns); wait_ns > 0 && e->env.threads;
         wait_ns = wait_needed(p, done, clock_mono_ns(e->env.clock), 0))
        if (!compactor_sleep(c, MIN_OF(wait_ns, SLEEP_NS_MAX)))
            return err_set(err, ERR_SHUTDOWN, "stopping");
    p->looked_ns = clock_mono_ns(e->env.clock);
    return ERR_OK;
}

/* ---- a job ---- */

struct job {
    struct tenant *t;
    size_t n;
    struct block
        *held[COMPACT_SOURCES_MAX]; /* the view's: their files stay as long as they are held */
    struct block
        *sources[COMPACT_SOURCES_MAX]; /* the same files, read through a cache of its own */
    struct page_cache *cache;
    struct compact_outputs outputs;
    struct block **made;
    size_t n_made;
    struct compact_stats stats;
    bool in_doubt;
};

static enum err_code open_sources(struct job *job, struct err *err)
{
    struct engine *e = job->t->engine;
    size_t bytes = MIN_OF(e->config.work_bytes_max / 8, CACHE_BYTES_MAX);
    enum err_code rc = page_cache_new(&e->env, MAX_OF(bytes, CACHE_BYTES_MIN), &job->cache, err);
    for (size_t i = 0; !rc && i < job->n; i++) {
        char path[IO_PATH_BYTES];
        const struct block_info *info = block_info(job->held[i]);
        rc = tenant_block_path(job->t, info->ulid.text, path, sizeof(path), err);
        if (!rc) rc = block_open(&e->env, path, job->cache, &job->sources[i], err);
    }
    return rc;
}

static void close_sources(struct job *job)
{
    for (size_t i = 0; i < job->n; i++)
        if (job->sources[i]) block_unref(job->sources[i]);
    if (job->cache) page_cache_free(job->cache);
}

/* Sources and outputs are there at the same time, and the log must be able to grow meanwhile. */
static enum err_code check_space(const struct job *job, struct err *err)
{
    struct engine *e = job->t->engine;
    /* On a full disk no write is taken, and what a merge frees, of deleted samples say, is needed. */
    uint64_t need = disk_room_full(&e->room) ? 0 : e->config.wal_segment_bytes, space, total;
    for (size_t i = 0; i < job->n; i++) need += block_info(job->held[i])->file_bytes;
    enum err_code rc = io_disk_space(e->env.io, job->t->blocks_dir, &space, &total, err);
    if (rc || space >= need) return rc;
    return err_set(err, ERR_NO_SPACE, "%" PRIu64 " bytes are free, %" PRIu64 " are needed", space,
                   need);
}

/* NULL: nothing of the sources' time. Held. */
static struct tombstone_set *deleted_of(const struct job *job)
{
    struct tombstone_set *set = tombstones_take(&job->t->tombstones);
    for (size_t i = 0; i < job->n; i++) {
        const struct block_info *info = block_info(job->held[i]);
        if (tombstone_set_overlaps(set, info->t_min_ms, info->t_max_ms)) return set;
    }
    tombstone_set_give(set);
    return NULL;
}

static enum err_code run_merge(struct job *job, const struct compact_job *plan, struct pace *pace,
                               struct err *err)
{
    struct tenant *t = job->t;
    struct tombstone_set *deleted = deleted_of(job);
    struct compact_merge merge = {.env = &t->engine->env,
                                  .rng = &t->engine->compactor.rng,
                                  .dir = t->blocks_dir,
                                  .sources = job->sources,
                                  .n_sources = job->n,
                                  .grid = plan->grid,
                                  .sequence = plan->sequence,
                                  .incarnation = t->incarnation,
                                  .series_max = job->n > 1 ? SERIES_MAX : UINT32_MAX,
                                  .pause = pause_merge,
                                  .pause_ctx = pace,
                                  .drop = deleted ? tombstone_set_drop : NULL,
                                  .drop_ctx = deleted};
    enum err_code rc = check_space(job, err);
    if (!rc) rc = open_sources(job, err);
    if (!rc) rc = compact_merge(&merge, &job->outputs, &job->stats, err);
    close_sources(job);
    tombstone_set_give(deleted);
    return rc;
}

static enum err_code open_outputs(struct job *job, struct err *err)
{
    struct engine *e = job->t->engine;
    size_t n = job->outputs.n;
    enum err_code rc = ERR_OK;
    job->made = mem_calloc(MEM_STORAGE, MAX_OF(n, (size_t)1), sizeof(struct block *));
    if (!job->made) rc = err_set(err, ERR_NO_MEMORY, "no memory for %zu blocks", n);
    for (size_t i = 0; !rc && i < n; i++) {
        char path[IO_PATH_BYTES];
        const char *ulid = job->outputs.items[i].ulid.text;
        rc = tenant_block_path(job->t, ulid, path, sizeof(path), err);
        if (!rc) rc = block_open(&e->env, path, e->cache, &job->made[i], err);
        job->n_made += !rc;
    }
    return rc;
}

/* Of a job that came to nothing, unless the catalog may know them. */
static void remove_outputs(struct job *job)
{
    struct engine *e = job->t->engine;
    for (size_t i = 0; i < job->outputs.n && !job->in_doubt; i++) {
        char path[IO_PATH_BYTES];
        struct err ignored; /* the next start finds what is left */
        const char *ulid = job->outputs.items[i].ulid.text;
        if (tenant_block_path(job->t, ulid, path, sizeof(path), &ignored) == ERR_OK)
            err_ignore(io_unlink(e->env.io, path, &ignored));
    }
    for (size_t i = 0; i < job->n_made; i++) block_unref(job->made[i]);
}

static enum err_code swap_in(struct job *job, struct err *err)
{
    struct tenant *t = job->t;
    struct ulid removed[COMPACT_SOURCES_MAX];
    for (size_t i = 0; i < job->n; i++) removed[i] = block_info(job->held[i])->ulid;
    enum err_code rc = open_outputs(job, err);
    struct block_swap swap = {.add = job->made,
                              .infos = job->outputs.items,
                              .n_add = job->n_made,
                              .remove = removed,
                              .n_remove = job->n};
    if (!rc) {
        lock_take(&t->flush_lock);
        rc = tenant_swap_blocks(t, &swap, &job->in_doubt, err);
        lock_release(&t->flush_lock);
    }
    if (rc) remove_outputs(job);
    return rc;
}

static void report_job(struct job *job, const struct compact_job *plan, int64_t begun_ns)
{
    struct engine *e = job->t->engine;
    const struct compact_metrics *m = &e->compactor.metrics;
    const struct compact_stats *s = &job->stats;
    double seconds = (double)(clock_mono_ns(e->env.clock) - begun_ns) / 1e9;
    uint32_t level = 0;
    for (size_t i = 0; i < job->outputs.n; i++) level = MAX_OF(level, job->outputs.items[i].level);
    metric_inc(m->compactions);
    metric_add(m->read_bytes, s->bytes_before);
    metric_add(m->written_bytes, s->bytes_after);
    metric_add(m->duplicates, s->n_duplicates);
    metric_observe(m->seconds, seconds);
    log_msg(e->env.log, LOG_INFO, "blocks compacted", LOG_STR("tenant", tenant_name(job->t)),
            LOG_U64("level", level), LOG_U64("sources", job->n), LOG_U64("blocks", s->n_after),
            LOG_U64("bytes_before", s->bytes_before), LOG_U64("bytes_after", s->bytes_after),
            LOG_U64("samples", s->n_samples), LOG_U64("duplicates", s->n_duplicates),
            LOG_U64("sequence", plan->sequence), LOG_DOUBLE("seconds", seconds));
}

static void add_report(struct engine_compact_report *r, const struct compact_stats *s)
{
    r->jobs++;
    r->samples += s->n_samples;
    r->duplicates += s->n_duplicates;
    r->bytes_read += s->bytes_before;
    r->bytes_written += s->bytes_after;
}

static enum err_code run_job(struct job *job, const struct compact_job *plan, struct pace *pace,
                             struct err *err)
{
    int64_t begun_ns = clock_mono_ns(job->t->engine->env.clock);
    pace->begun_ns = pace->looked_ns = begun_ns;
    for (size_t i = 0; i < job->n; i++) pace->bytes += 2 * block_info(job->held[i])->file_bytes;
    enum err_code rc = run_merge(job, plan, pace, err);
    if (!rc) rc = swap_in(job, err);
    if (!rc) {
        report_job(job, plan, begun_ns);
        if (pace->report) add_report(pace->report, &job->stats);
    }
    mem_free(job->made);
    compact_outputs_release(&job->outputs);
    return rc;
}

/* ---- what is next for a tenant ---- */

static struct compact_limits limits_of(const struct tenant *t)
{
    struct engine *e = t->engine;
    struct compact_limits limits = compact_limits_default();
    limits.margin_ms =
        atomic_load_explicit(&e->limits.flush_window_ms, memory_order_relaxed) + SLACK_MS;
    /* Retention by size lets whole blocks go: not all of it at once. */
    uint64_t bytes_max = atomic_load_explicit(&t->retention_bytes, memory_order_relaxed) / 10;
    if (bytes_max) limits.bytes_max = MIN_OF(limits.bytes_max, bytes_max);
    return limits;
}

/* Under compactor.lock. */
static void refuse(struct tenant *t, uint64_t id)
{
    struct compact_memory *m = &t->compact;
    if (!m->refused) m->refused = mem_calloc(MEM_STORAGE, REFUSED_MAX, sizeof(*m->refused));
    if (!m->refused) return; /* tried again, then */
    m->refused[m->next_refused] = id;
    m->next_refused = (m->next_refused + 1) % REFUSED_MAX;
    m->n_refused = MIN_OF(m->n_refused + 1, (size_t)REFUSED_MAX);
}

/* The next job, with its sources held. */
static enum err_code plan_job(struct tenant *t, const struct compact_when *when, struct job *job,
                              struct compact_job *plan, struct err *err)
{
    struct compact_limits limits = limits_of(t);
    struct view *view = views_take(&t->views);
    const struct block_info **infos =
        mem_calloc(MEM_STORAGE, MAX_OF(view->n_blocks, (size_t)1), sizeof(*infos));
    enum err_code rc = infos ? ERR_OK : err_set(err, ERR_NO_MEMORY, "no memory to plan");
    for (size_t i = 0; !rc && i < view->n_blocks; i++) infos[i] = block_info(view->blocks[i]);
    if (!rc)
        rc = compact_plan(infos, view->n_blocks, when, &limits, t->compact.refused,
                          t->compact.n_refused, plan, err);
    *job = (struct job){.t = t};
    for (size_t i = 0; !rc && i < plan->n; i++)
        job->held[job->n++] = block_ref(view->blocks[plan->sources[i]]);
    t->compact.view = view->number;
    t->compact.looked_ns = clock_mono_ns(t->engine->env.clock);
    mem_free(infos);
    views_give(&t->views, view);
    return rc;
}

/* Failures that say something of the job itself: it is not tried again. */
static bool is_hopeless(enum err_code rc)
{
    return rc == ERR_LIMIT || rc == ERR_CORRUPT || rc == ERR_VERSION || rc == ERR_UNSUPPORTED ||
           rc == ERR_NOT_FOUND;
}

static void back_off(struct engine *e)
{
    struct compactor *c = &e->compactor;
    c->backoff_ns = MIN_OF(MAX_OF(2 * c->backoff_ns, BACKOFF_NS), BACKOFF_MAX_NS);
    c->retry_ns = clock_mono_ns(e->env.clock) + c->backoff_ns;
}

static bool sources_are_there(const struct job *job)
{
    struct view *view = views_take(&job->t->views);
    size_t n = 0;
    for (size_t i = 0; i < view->n_blocks; i++)
        for (size_t k = 0; k < job->n; k++) n += view->blocks[i] == job->held[k];
    views_give(&job->t->views, view);
    return n == job->n;
}

/* Of a job that failed. What is left of rc is for the caller to return. */
static enum err_code judge_failure(struct job *job, uint64_t id, enum err_code rc,
                                   const struct err *err)
{
    struct tenant *t = job->t;
    struct engine *e = t->engine;
    if (!sources_are_there(job)) return ERR_OK; /* retention was faster */
    if (rc == ERR_SHUTDOWN || rc == ERR_CANCELED) return rc;
    metric_inc(e->compactor.metrics.failures);
    if (err->sys_errno)
        (void)disk_room_note(&e->room, rc); /* else there is only too little for this merge */
    tenant_note_named(job->t, job->held, job->n, err);
    if (is_hopeless(rc)) {
        refuse(t, id);
        log_msg(e->env.log, rc == ERR_LIMIT ? LOG_INFO : LOG_ERROR, "blocks stay as they are",
                LOG_STR("tenant", tenant_name(t)), LOG_ERR(err));
        return ERR_OK;
    }
    back_off(e);
    log_msg(e->env.log, LOG_WARN, "compaction failed; it is tried again later",
            LOG_STR("tenant", tenant_name(t)), LOG_ERR(err),
            LOG_DOUBLE("seconds", (double)e->compactor.backoff_ns / 1e9));
    return rc;
}

/* Plans and does the next job. Under compactor.lock. *did: there was one. */
static enum err_code compact_next(struct tenant *t, const struct compact_when *when,
                                  struct pace *pace, bool *did, struct err *err)
{
    struct job job;
    struct compact_job plan;
    enum err_code rc = plan_job(t, when, &job, &plan, err);
    *did = !rc && plan.n > 0;
    if (*did) {
        rc = run_job(&job, &plan, pace, err);
        if (rc) {
            err_context(err, "compacting blocks of tenant %s", t->name);
            rc = judge_failure(&job, plan.id, rc, err);
        } else {
            t->engine->compactor.backoff_ns = 0;
        }
    }
    for (size_t i = 0; i < job.n; i++) block_unref(job.held[i]);
    return rc;
}

static struct compact_when when_now(const struct tenant *t)
{
    return (struct compact_when){.now_ms = data_clock_ms(&t->engine->data_clock),
                                 .retention_ms =
                                     atomic_load_explicit(&t->retention_ms, memory_order_relaxed)};
}

/* ---- a block without what is deleted of it ---- */

enum err_code compactor_rewrite(struct tenant *t, struct block *block, bool gentle,
                                struct compact_stats *stats, bool *hopeless, struct err *err)
{
    struct compact_when when = when_now(t);
    struct compact_limits limits = limits_of(t);
    struct job job = {.t = t, .n = 1, .held = {block_ref(block)}};
    struct compact_job plan = {
        .n = 1, .sequence = block_info(block)->sequence, .grid = compact_grid_at(&when, &limits)};
    struct pace pace = {.engine = t->engine, .gentle = gentle};
    enum err_code rc = run_job(&job, &plan, &pace, err);
    *stats = job.stats;
    if (rc && !sources_are_there(&job)) rc = ERR_OK; /* retention was faster */
    if (rc) err_context(err, "removing deleted samples of tenant %s", t->name);
    *hopeless = rc && is_hopeless(rc);
    if (rc && rc != ERR_SHUTDOWN) {
        metric_inc(t->engine->compactor.metrics.failures);
        if (!*hopeless) back_off(t->engine);
        log_msg(t->engine->env.log, LOG_ERROR, "deleted samples stay in a block",
                LOG_STR("tenant", tenant_name(t)), LOG_CSTR("block", block_info(block)->ulid.text),
                LOG_ERR(err));
    }
    block_unref(job.held[0]);
    return rc;
}

/* ---- in the background ---- */

static bool worth_a_look(const struct tenant *t, uint64_t view, int64_t now_ns)
{
    return view != t->compact.view || now_ns - t->compact.looked_ns >= LOOK_NS;
}

static uint64_t view_number(struct tenant *t)
{
    struct view *view = views_take(&t->views);
    uint64_t number = view->number;
    views_give(&t->views, view);
    return number;
}

enum err_code compactor_step(struct engine *e, struct err *err)
{
    struct compactor *c = &e->compactor;
    enum err_code rc = ERR_OK;
    bool did = false;
    if (!atomic_load_explicit(&e->limits.compact, memory_order_relaxed)) return ERR_OK;
    lock_take(&c->lock);
    int64_t now_ns = clock_mono_ns(e->env.clock);
    bool may = now_ns >= c->retry_ns && pressure_level(&e->pressure) < PRESSURE_SERIES;
    size_t n = may ? engine_count_tenants(e) : 0, first = c->next_tenant;
    if (may) rc = deletes_step(e, &did, err);
    for (size_t i = 0; i < n && !did && !rc; i++) {
        struct tenant *t = engine_tenant_at(e, (first + i) % n);
        if (!worth_a_look(t, view_number(t), now_ns)) continue;
        struct compact_when when = when_now(t);
        struct pace pace = {.engine = e, .gentle = true};
        rc = compact_next(t, &when, &pace, &did, err);
        if (did) t->compact.looked_ns = now_ns - LOOK_NS; /* there may be more */
        c->next_tenant = (first + i + 1) % n;
    }
    lock_release(&c->lock);
    return rc;
}

static void *background(void *arg)
{
    struct engine *e = arg;
    struct compactor *c = &e->compactor;
    /* Whoever waits for an answer goes first. A failure changes nothing but that. */
    (void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE);
    do {
        struct err err;
        uint64_t before;
        do {
            before = metric_value(c->metrics.compactions);
            if (atomic_load_explicit(&c->n_waiting, memory_order_relaxed)) break;
            err_ignore(compactor_step(e, &err)); /* judge_failure has logged it */
        } while (metric_value(c->metrics.compactions) != before);
    } while (compactor_sleep(c, IDLE_NS));
    return NULL;
}

enum err_code compactor_start(struct engine *e, struct err *err)
{
    if (!e->env.threads) return ERR_OK;
    int failed = pthread_create(&e->compactor.thread, NULL, background, e);
    if (failed) return err_set_errno(err, failed, "the thread of compaction");
    e->compactor.has_thread = true;
    return ERR_OK;
}

void compactor_stop(struct engine *e)
{
    struct compactor *c = &e->compactor;
    lock_take(&c->wake_lock);
    atomic_store_explicit(&c->stopping, true, memory_order_relaxed);
    cond_broadcast(&c->wake);
    lock_release(&c->wake_lock);
    if (c->has_thread) pthread_join(c->thread, NULL);
    c->has_thread = false;
}

/* ---- on demand ---- */

static void sum_blocks(struct tenant *t, uint64_t *bytes, uint64_t *blocks)
{
    struct tenant_stats stats;
    tenant_stats(t, &stats);
    *bytes += stats.block_bytes;
    *blocks += stats.blocks;
}

static uint64_t newest_sequence(struct tenant *t)
{
    uint64_t newest = 0;
    struct view *view = views_take(&t->views);
    for (size_t i = 0; i < view->n_blocks; i++)
        newest = MAX_OF(newest, block_info(view->blocks[i])->sequence);
    views_give(&t->views, view);
    return newest;
}

/* The blocks that are there now: under steady writes the call would not end if it took each that comes meanwhile. */
static struct compact_when when_asked(struct tenant *t,
                                      const struct engine_compact_options *options)
{
    struct compact_when when = when_now(t);
    when.eager = true;
    when.level = options->level;
    when.sequence_max = newest_sequence(t);
    return when;
}

static enum err_code compact_tenant(struct tenant *t, const struct engine_compact_options *options,
                                    struct engine_compact_report *report, struct err *err)
{
    struct engine *e = t->engine;
    struct compactor *c = &e->compactor;
    enum err_code rc = ERR_OK;
    bool did = true;
    struct compact_when when = when_asked(t, options);
    while (!rc && did) {
        atomic_fetch_add_explicit(&c->n_waiting, 1, memory_order_relaxed);
        lock_take(&c->lock);
        atomic_fetch_sub_explicit(&c->n_waiting, 1, memory_order_relaxed);
        struct pace pace = {.engine = e, .options = options, .report = report};
        rc = compact_next(t, &when, &pace, &did, err);
        lock_release(&c->lock);
    }
    return rc;
}

enum err_code engine_compact(struct engine *e, struct tenant *tenant,
                             const struct engine_compact_options *options,
                             struct engine_compact_report *report, struct err *err)
{
    int64_t begun_ns = clock_mono_ns(e->env.clock);
    enum err_code rc = ERR_OK;
    struct tenant *t = tenant;
    *report = (struct engine_compact_report){0};
    for (size_t i = 0; !rc && (tenant ? i == 0 : (t = engine_tenant_at(e, i)) != NULL); i++) {
        sum_blocks(t, &report->bytes_before, &report->blocks_before);
        if (options->dry_run) {
            struct compact_when when = when_asked(t, options);
            struct compact_limits limits = limits_of(t);
            rc = compact_rehearse(t, &when, &limits, report, err);
            continue;
        }
        rc = compact_tenant(t, options, report, err);
        sum_blocks(t, &report->bytes_after, &report->blocks_after);
    }
    report->seconds = (double)(clock_mono_ns(e->env.clock) - begun_ns) / 1e9;
    return rc;
}

/* ---- the compactor ---- */

void compactor_init(struct compactor *c, const struct env *env)
{
    struct metrics *m = env->metrics;
    lock_init(&c->lock, LOCK_SERVER);
    lock_init(&c->wake_lock, LOCK_LEAF);
    cond_init(&c->wake);
    rng_seed(&c->rng, rng_u64(env->rng));
    c->metrics = (struct compact_metrics){
        .compactions = metric_counter(m, "quipu_compactions_total", "Merges of blocks.", ""),
        .failures = metric_counter(m, "quipu_compaction_failures_total",
                                   "Merges of blocks that failed; the blocks stay.", ""),
        .read_bytes = metric_counter(m, "quipu_compaction_read_bytes_total",
                                     "Size of the blocks that were merged.", ""),
        .written_bytes = metric_counter(m, "quipu_compaction_written_bytes_total",
                                        "Size of the blocks that came of it.", ""),
        .duplicates = metric_counter(
            m, "quipu_compaction_duplicates_total",
            "Samples dropped by merges, as another one of their time replaces them.", ""),
        .seconds = metric_histogram(m, "quipu_compaction_seconds", "Time of one merge of blocks.",
                                    "", METRIC_SECONDS, METRIC_SECONDS_N)};
}

void compactor_release(struct compactor *c)
{
    lock_destroy(&c->lock);
    lock_destroy(&c->wake_lock);
    cond_destroy(&c->wake);
}
