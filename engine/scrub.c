/* engine/scrub.c: see the header. */
#include "engine/scrub.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/engine_private.h"

#define NICE 15
#define CACHE_BYTES ((size_t)1 << 20)
#define RATE_MAX ((uint64_t)16 << 20) /* bytes a second, while a block is read */
#define BURST_NS INT64_C(100000000)   /* pages that are read between two sleeps */
#define LOOK_NS INT64_C(10000000000)  /* the interval may have been changed meanwhile */

/* False: it is to stop. */
static bool scrub_sleep(struct scrubber *s, int64_t ns)
{
    lock_take(&s->lock);
    if (!s->stopping && ns > 0) (void)cond_wait_for(&s->wake, &s->lock, ns);
    bool go_on = !s->stopping;
    lock_release(&s->lock);
    return go_on;
}

/* ---- one block ---- */

struct pace {
    struct engine *engine;
    uint64_t bytes; /* since the last sleep */
};

static enum err_code pause_reading(void *ctx, uint64_t bytes, struct err *err)
{
    struct pace *p = ctx;
    struct engine *e = p->engine;
    metric_add(e->scrubber.bytes, bytes);
    p->bytes += bytes;
    if (!e->env.threads || p->bytes < RATE_MAX / (uint64_t)(1000000000 / BURST_NS)) return ERR_OK;
    p->bytes = 0;
    return scrub_sleep(&e->scrubber, BURST_NS) ? ERR_OK : err_set(err, ERR_SHUTDOWN, "stopping");
}

static bool is_served(struct tenant *t, const struct block *block)
{
    struct view *view = views_take(&t->views);
    bool found = false;
    for (size_t i = 0; i < view->n_blocks && !found; i++) found = view->blocks[i] == block;
    views_give(&t->views, view);
    return found;
}

struct problem_ctx {
    struct tenant *tenant;
    const struct block_info *info;
};

static void on_problem(void *ctx, const struct err *problem)
{
    struct problem_ctx *p = ctx;
    metric_inc(p->tenant->engine->scrubber.errors);
    tenant_note_damage(p->tenant, p->info, problem);
}

/* The file is opened anew: its header, footer and names are read again, too. */
static enum err_code read_block(struct tenant *t, const struct block_info *info, struct err *err)
{
    struct engine *e = t->engine;
    struct page_cache *cache = NULL;
    struct block *block = NULL;
    char path[IO_PATH_BYTES];
    struct pace pace = {.engine = e};
    struct problem_ctx problems = {t, info};
    enum err_code rc = tenant_block_path(t, info->ulid.text, path, sizeof(path), err);
    if (!rc) rc = page_cache_new(&e->env, CACHE_BYTES, &cache, err);
    if (!rc) rc = block_open(&e->env, path, cache, &block, err);
    if (!rc) {
        rc = block_check_pages(block, pause_reading, &pace, on_problem, &problems, err);
        block_unref(block);
    } else if (rc == ERR_CORRUPT) {
        on_problem(&problems, err);
    }
    page_cache_free(cache);
    return rc;
}

static void check_block(struct tenant *t, struct block *block)
{
    struct engine *e = t->engine;
    const struct block_info *info = block_info(block);
    struct err err;
    enum err_code rc = read_block(t, info, &err);
    metric_inc(e->scrubber.blocks);
    if (!rc || rc == ERR_CORRUPT || rc == ERR_SHUTDOWN || rc == ERR_NO_MEMORY) return;
    metric_inc(e->scrubber.errors);
    if (rc == ERR_NOT_FOUND && is_served(t, block)) {
        err_set(&err, ERR_CORRUPT, "somebody removed the file; it is served while it is open");
        tenant_note_damage(t, info, &err);
        return;
    }
    log_msg(e->env.log, LOG_WARN, "a block could not be read for its check",
            LOG_STR("tenant", tenant_name(t)), LOG_CSTR("block", info->ulid.text), LOG_ERR(&err));
}

/* ---- which one ---- */

/* The block after the last one, in the order of names, held; NULL: none. */
static struct block *next_block(struct tenant *t, const struct ulid *last)
{
    struct view *view = views_take(&t->views);
    struct block *next = NULL;
    for (size_t i = 0; i < view->n_blocks; i++) {
        const char *name = block_info(view->blocks[i])->ulid.text;
        if (strcmp(name, last->text) <= 0) continue;
        if (!next || strcmp(name, block_info(next)->ulid.text) < 0) next = view->blocks[i];
    }
    if (next) block_ref(next);
    views_give(&t->views, view);
    return next;
}

static void begin_anywhere(struct engine *e)
{
    struct scrubber *s = &e->scrubber;
    size_t n = engine_count_tenants(e);
    if (s->begun || n == 0) return;
    s->begun = true;
    s->tenant_idx = (size_t)(rng_u64(&s->rng) % n);
    struct view *view = views_take(&engine_tenant_at(e, s->tenant_idx)->views);
    if (view->n_blocks) s->last = block_info(view->blocks[rng_u64(&s->rng) % view->n_blocks])->ulid;
    views_give(&engine_tenant_at(e, s->tenant_idx)->views, view);
}

static void next_tenant(struct engine *e)
{
    struct scrubber *s = &e->scrubber;
    s->last = (struct ulid){.text = ""};
    if (++s->tenant_idx < engine_count_tenants(e)) return;
    s->tenant_idx = 0;
    metric_inc(s->rounds);
}

void scrub_step(struct engine *e, uint64_t *bytes)
{
    struct scrubber *s = &e->scrubber;
    *bytes = 0;
    begin_anywhere(e);
    /* Once around, and the first one's blocks before the beginning. */
    for (size_t n = engine_count_tenants(e) + 1; n > 0; n--) {
        struct tenant *t = engine_tenant_at(e, s->tenant_idx);
        struct block *block = t ? next_block(t, &s->last) : NULL;
        if (!block) {
            next_tenant(e);
            continue;
        }
        s->last = block_info(block)->ulid;
        *bytes = block_info(block)->file_bytes;
        check_block(t, block);
        block_unref(block);
        return;
    }
}

/* ---- the thread ---- */

static uint64_t bytes_of_all(struct engine *e)
{
    struct tenant *t;
    uint64_t bytes = 0;
    for (size_t i = 0; (t = engine_tenant_at(e, i)) != NULL; i++) {
        struct tenant_stats stats;
        tenant_stats(t, &stats);
        bytes += stats.block_bytes;
    }
    return bytes;
}

/* Until the share of a block of so many bytes is over. False: it is to stop. */
static bool wait_share(struct engine *e, uint64_t bytes, int64_t begun_ns)
{
    for (;;) {
        int64_t interval_ms =
            atomic_load_explicit(&e->limits.scrub_interval_ms, memory_order_relaxed);
        uint64_t all = MAX_OF(bytes_of_all(e), bytes);
        double share = all && bytes ? (double)bytes / (double)all : 1;
        int64_t due_ns = begun_ns + (int64_t)(share * (double)interval_ms * 1e6);
        int64_t left_ns = due_ns - clock_mono_ns(e->env.clock);
        /* Without blocks, or switched off: it looks again now and then. */
        if (bytes && interval_ms > 0 && left_ns <= 0) return true;
        bool idle = !bytes || interval_ms <= 0;
        if (!scrub_sleep(&e->scrubber, idle ? LOOK_NS : MIN_OF(left_ns, LOOK_NS))) return false;
        if (!bytes && interval_ms > 0) return true;
    }
}

static void *background(void *arg)
{
    struct engine *e = arg;
    /* Whoever waits for an answer goes first. A failure changes nothing but that. */
    (void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE);
    uint64_t bytes = 0; /* the first sleep: a start has other things to read */
    int64_t begun_ns = clock_mono_ns(e->env.clock);
    while (wait_share(e, bytes, begun_ns)) {
        begun_ns = clock_mono_ns(e->env.clock);
        scrub_step(e, &bytes);
    }
    return NULL;
}

void scrubber_init(struct scrubber *s, const struct env *env)
{
    struct metrics *m = env->metrics;
    *s = (struct scrubber){
        .blocks = metric_counter(m, "quipu_scrub_blocks_total",
                                 "Blocks that were read again to check them.", ""),
        .bytes = metric_counter(m, "quipu_scrub_bytes_total",
                                "Bytes that were read again to check them.", ""),
        .errors = metric_counter(m, "quipu_scrub_errors_total",
                                 "Bad or unreadable places that were found so.", ""),
        .rounds = metric_counter(m, "quipu_scrub_rounds_total", "Times that all were read.", "")};
    lock_init(&s->lock, LOCK_LEAF);
    cond_init(&s->wake);
    rng_seed(&s->rng, rng_u64(env->rng));
}

void scrubber_release(struct scrubber *s)
{
    lock_destroy(&s->lock);
    cond_destroy(&s->wake);
}

enum err_code scrubber_start(struct engine *e, struct err *err)
{
    if (!e->env.threads) return ERR_OK;
    int failed = pthread_create(&e->scrubber.thread, NULL, background, e);
    if (failed) return err_set_errno(err, failed, "the thread that checks blocks");
    e->scrubber.has_thread = true;
    return ERR_OK;
}

void scrubber_stop(struct engine *e)
{
    struct scrubber *s = &e->scrubber;
    lock_take(&s->lock);
    s->stopping = true;
    cond_broadcast(&s->wake);
    lock_release(&s->lock);
    if (s->has_thread) pthread_join(s->thread, NULL);
    s->has_thread = false;
}
