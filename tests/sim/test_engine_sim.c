/* tests/sim/test_engine_sim.c: the real engine, with catalog, log and blocks, on a simulated disk: one thread, one
 * seed, one run. Tenants write, commits come late, blocks are merged, series and tenants are deleted, calls fail, the disk
 * fills, the power goes at any call; a model knows what was acknowledged.
 *
 * Checked: while the process lives, every accepted sample is read with its exact bits; after a crash every
 * acknowledged one is, none appears that nobody wrote, and of two writes to one time the order is kept. What is deleted
 * is hidden, whatever comes late, until a clean-up ends well; after it, it is gone from the disk. A delete that failed
 * may be found done after a restart, never half done. */
#include "base/hash.h"
#include "base/metric.h"
#include "engine/tenant.h"
#include "tests/engine/model.h"
#include "tests/sim/io_sim.h"

#define NOW_MS INT64_C(1767225600000) /* 2026-01-01 */
#define TENANTS 3
#define SERIES 24 /* of a tenant */
#define REQUEST_SAMPLES 24
#define STEPS 400

#define DELETES_MAX 64

/* host="<number>", or __name__="m<number>", or all */
enum sim_selector { SELECT_HOST, SELECT_NAME, SELECT_ALL, SELECT_N };
struct sim_delete {
    enum sim_selector selector;
    int number;
    int64_t mint_ms, maxt_ms;
    bool doubtful; /* it failed: not in force as long as the process lives */
};
struct sim_tenant {
    struct model_series series[SERIES];
    struct sim_delete deletes[DELETES_MAX];
    size_t n_deletes;
    bool cleaned; /* perhaps: it failed, and the process died at once */
    bool removed; /* the same for the tenant */
    int64_t t_ms; /* of the newest scrape */
};
struct sim {
    struct rng rng;
    struct io_sim *disk;
    struct clock_fake clock;
    struct log log;
    struct env env;
    struct engine_config config;
    struct engine *engine; /* NULL: not open */
    struct sim_tenant tenants[TENANTS];
    enum fate *fates; /* of each request */
    size_t n_requests, fates_cap;
    bool hurt;       /* something was made to fail since the last healing */
    bool only_power; /* goes in this run; calls do not fail, the disk does not fill */
    struct err err;
    uint64_t n_crashes, n_accepted, n_kept, n_flushes, n_checks, n_refused, n_compactions;
    uint64_t n_deletes, n_cleans, n_removed; /* that ended well */
};

struct request {
    size_t n, n_histograms;
    int series[REQUEST_SAMPLES], h_series[REQUEST_SAMPLES];
    int64_t t_ms[REQUEST_SAMPLES], h_t_ms[REQUEST_SAMPLES];
    struct value v[REQUEST_SAMPLES], h[REQUEST_SAMPLES];
};

/* ---- open, close, crash ---- */

static void sim_init(struct sim *sim, uint64_t seed)
{
    memset(sim, 0, sizeof(*sim));
    rng_seed(&sim->rng, seed);
    sim->disk = io_sim_new(rng_u64(&sim->rng));
    clock_fake_init(&sim->clock, NOW_MS);
    log_init(&sim->log, &sim->clock.clock, getenv("QUIPU_SIM_LOG") ? LOG_DEBUG : LOG_OFF);
    sim->env = (struct env){.io = io_sim_io(sim->disk),
                            .clock = &sim->clock.clock,
                            .log = &sim->log,
                            .metrics = metrics_new(),
                            .rng = &sim->rng};
    sim->config = engine_config_default("/data");
    sim->config.head_bytes_max = (size_t)16 << rng_below(&sim->rng, 8) << 10;
    sim->config.wal_segment_bytes = UINT64_C(4096) << rng_below(&sim->rng, 6);
    sim->config.wal_held_bytes_max = UINT64_C(16384) << rng_below(&sim->rng, 4);
    sim->config.page_cache_bytes = 1 << 20;
    sim->only_power = rng_chance(&sim->rng, 0.3);
    sim->config.reserve_bytes_max = (uint64_t)rng_below(&sim->rng, 2) << 17;
    sim->config.open_files_max = 1 + rng_below(&sim->rng, 8);
    for (size_t i = 0; i < TENANTS; i++) sim->tenants[i].t_ms = NOW_MS - (int64_t)i * 1000;
}

static void sim_heal(struct sim *sim)
{
    io_sim_heal(sim->disk);
    io_sim_set_capacity(sim->disk, UINT64_C(1) << 40);
    sim->hurt = false;
}

static uint64_t quarantined(const struct sim *sim)
{
    return metric_value(
        metric_counter(sim->env.metrics, "quipu_blocks_quarantined_total",
                       "Blocks of the catalog that are missing or broken and left out.", ""));
}

/* May be hurt meanwhile; then tries again, healed at last. */
static void sim_open(struct sim *sim)
{
    for (int tries = 0; !sim->engine; tries++) {
        if (tries > 0 && (tries > 5 || rng_chance(&sim->rng, 0.5))) sim_heal(sim);
        uint64_t before = quarantined(sim);
        enum err_code rc = engine_open(&sim->env, &sim->config, &sim->engine, &sim->err);
        if (io_sim_is_off(sim->disk)) {
            if (sim->engine) err_ignore(engine_close(sim->engine, false, &sim->err));
            sim->engine = NULL;
            io_sim_power_cut(sim->disk);
            continue;
        }
        if (rc && !sim->hurt) CHECK_OK(rc, &sim->err);
        if (quarantined(sim) == before) continue;
        /* A block that could not be read was left out, as it should be; it comes back when the disk does. */
        CHECK(sim->hurt);
        if (!rc) err_ignore(engine_close(sim->engine, false, &sim->err));
        sim->engine = NULL;
        sim_heal(sim);
    }
}

enum reading {
    READ_LIVE, /* exactly what was accepted */
    READ_RESTART, /* what may be there after a restart: it may be gone after a power cut, if a sync failed before */
    READ_CRASH /* what is there is on the disk */
};
static void sim_read_all(struct sim *sim, enum reading reading);

static void sim_crash(struct sim *sim)
{
    io_sim_power_cut(sim->disk);
    sim_heal(sim);
    err_ignore(engine_close(sim->engine, false, &sim->err)); /* of a dead disk: frees */
    sim->engine = NULL;
    sim->n_crashes++;
    bool failing = false;
    if (rng_chance(&sim->rng, 0.3)) { /* and again while it comes up */
        io_sim_power_cut_at(sim->disk, 1 + rng_below(&sim->rng, 200));
        sim->hurt = true;
    } else if (!sim->only_power && rng_chance(&sim->rng, 0.2)) {
        io_sim_fail(sim->disk, 1 + rng_below(&sim->rng, 200),
                    (enum io_sim_failure)rng_below(&sim->rng, 3));
        sim->hurt = failing = true;
    }
    sim_open(sim);
    if (io_sim_is_off(sim->disk)) return; /* comes back here at the next step */
    sim_heal(sim);
    sim_read_all(sim, READ_CRASH);
    sim->hurt = failing; /* a catalog that could not be synced takes no changes until a restart */
}

/* Everything queued is written when the log closes. */
static void sim_restart(struct sim *sim)
{
    bool flush = rng_chance(&sim->rng, 0.5);
    enum err_code rc = engine_close(sim->engine, flush, &sim->err);
    sim->engine = NULL;
    if (rc && !sim->hurt) CHECK_OK(rc, &sim->err);
    bool cut = io_sim_is_off(sim->disk);
    if (cut) {
        io_sim_power_cut(sim->disk);
        sim->n_crashes++;
    }
    sim_heal(sim);
    sim_open(sim);
    sim_read_all(sim, cut ? READ_CRASH : READ_RESTART);
}

/* ---- writing ---- */

static double random_value(struct rng *rng, int64_t t_ms)
{
    switch (rng_below(rng, 8)) {
    case 0: return stale_nan();
    case 1: return double_from_bits(UINT64_C(0x7ff8000000000000) | rng_below(rng, 1000));
    case 2: return rng_unit(rng);
    case 3: return -0.0;
    default: return (double)((t_ms - NOW_MS) / 1000 + (int64_t)rng_below(rng, 5));
    }
}

static int64_t random_time(struct sim *sim, struct sim_tenant *tenant)
{
    if (rng_chance(&sim->rng, 0.85)) return tenant->t_ms;
    if (rng_chance(&sim->rng, 0.5)) return tenant->t_ms - 1000 * (int64_t)rng_below(&sim->rng, 200);
    return tenant->t_ms - 60000 * (int64_t)rng_below(&sim->rng, 600);
}

/* Some of the series are active at a time: others end, leave the registry, and return. */
static int random_series(struct sim *sim, const struct sim_tenant *tenant)
{
    int first = (int)((tenant->t_ms - NOW_MS) / 1800000) * 5;
    int i = first + (int)rng_below(&sim->rng, rng_chance(&sim->rng, 0.1) ? SERIES : 8);
    return ((i % SERIES) + SERIES) % SERIES;
}

static void request_make(struct sim *sim, struct sim_tenant *tenant, struct request *r)
{
    r->n = rng_below(&sim->rng, REQUEST_SAMPLES);
    r->n_histograms = rng_chance(&sim->rng, 0.3) ? rng_below(&sim->rng, 6) : 0;
    for (size_t i = 0; i < r->n; i++) {
        r->series[i] = random_series(sim, tenant);
        r->t_ms[i] = random_time(sim, tenant);
        double v = random_value(&sim->rng, r->t_ms[i]);
        r->v[i] = (struct value){.bits = double_bits(v)};
    }
    for (size_t i = 0; i < r->n_histograms; i++) {
        r->h_series[i] = random_series(sim, tenant);
        r->h_t_ms[i] = random_time(sim, tenant);
        uint64_t number =
            rng_chance(&sim->rng, 0.1) ? MODEL_STALE_HISTOGRAM : 1 + rng_below(&sim->rng, 100000);
        r->h[i] = (struct value){.is_histogram = true, .bits = number};
    }
}

/* {__name__="m<i % 3>", host="<i>", tenant="<k>"} */
static enum err_code sim_series(struct sim *sim, struct tenant *t, int tenant_idx, int i,
                                struct series **out)
{
    char name[16], host[16], tenant[16];
    snprintf(name, sizeof(name), "m%d", i % 3);
    snprintf(host, sizeof(host), "%d", i);
    snprintf(tenant, sizeof(tenant), "%d", tenant_idx);
    struct label items[] = {{STR(LABEL_NAME), str_of(name)},
                            {STR("host"), str_of(host)},
                            {STR("tenant"), str_of(tenant)}};
    struct labels labels = {items, COUNT_OF(items)};
    struct buf sent;
    buf_init(&sent, MEM_BASE);
    labels_encode(&sent, labels);
    uint64_t hash = hash_xxh3(sent.p, sent.len);
    *out = tenant_find_series(t, hash, buf_bytes(&sent), NULL);
    enum err_code rc = ERR_OK;
    if (!*out) rc = tenant_add_series(t, labels, hash, buf_bytes(&sent), NULL, out, &sim->err);
    buf_release(&sent);
    return rc;
}

struct completion {
    struct sim *sim;
    size_t request;
};

static void on_done(void *arg, enum err_code rc)
{
    struct completion *c = arg;
    CHECK(c->sim->fates[c->request] == FATE_OPEN);
    c->sim->fates[c->request] = rc ? FATE_LOST_PERHAPS : FATE_KEPT;
    if (!rc) c->sim->n_kept++;
    mem_free(c);
}

static size_t new_request(struct sim *sim)
{
    void *fates = sim->fates;
    CHECK_OK(mem_grow(MEM_BASE, &fates, &sim->fates_cap, sim->n_requests + 1, sizeof(*sim->fates),
                      &sim->err),
             &sim->err);
    sim->fates = fates;
    sim->fates[sim->n_requests] = FATE_OPEN;
    return sim->n_requests++;
}

static enum err_code request_write(struct sim *sim, struct tenant *t, int tenant_idx,
                                   const struct request *r, size_t request)
{
    struct series *series[REQUEST_SAMPLES], *h_series[REQUEST_SAMPLES];
    int64_t t_ms[REQUEST_SAMPLES], h_t_ms[REQUEST_SAMPLES];
    double v[REQUEST_SAMPLES];
    struct histogram *h[REQUEST_SAMPLES];
    struct arena arena;
    arena_init(&arena, MEM_BASE, 0);
    struct completion *c = mem_calloc(MEM_BASE, 1, sizeof(*c));
    *c = (struct completion){sim, request};
    tenant_write_begin(t);
    for (size_t i = 0; i < r->n; i++) {
        CHECK_OK(sim_series(sim, t, tenant_idx, r->series[i], &series[i]), &sim->err);
        t_ms[i] = r->t_ms[i];
        v[i] = double_from_bits(r->v[i].bits);
    }
    for (size_t i = 0; i < r->n_histograms; i++) {
        CHECK_OK(sim_series(sim, t, tenant_idx, r->h_series[i], &h_series[i]), &sim->err);
        h_t_ms[i] = r->h_t_ms[i];
        h[i] = model_histogram(&arena, r->h[i].bits);
    }
    struct write_batch batch = {.n = r->n,
                                .series = series,
                                .t_ms = t_ms,
                                .v = v,
                                .n_histograms = r->n_histograms,
                                .h_series = h_series,
                                .h_t_ms = h_t_ms,
                                .h = h};
    struct write_result result;
    enum err_code rc = tenant_write(t, &batch, on_done, c, &result, &sim->err);
    tenant_write_end(t);
    CHECK_U64(result.n_too_new + result.n_too_old, 0);
    if (rc) mem_free(c);
    arena_release(&arena);
    return rc;
}

static void sim_write(struct sim *sim)
{
    int tenant_idx = (int)rng_below(&sim->rng, TENANTS);
    struct sim_tenant *tenant = &sim->tenants[tenant_idx];
    char name[16];
    struct tenant *t;
    snprintf(name, sizeof(name), "tenant-%d", tenant_idx);
    if (engine_tenant(sim->engine, str_of(name), true, &t, &sim->err)) {
        CHECK(sim->hurt);
        return;
    }
    /* Scrapes keep up with the clock, more or less. */
    tenant->t_ms += 1000 * (int64_t)rng_below(&sim->rng, 30);
    if (rng_chance(&sim->rng, 0.2)) tenant->t_ms = MAX_OF(tenant->t_ms, sim->clock.wall_ms);
    if (tenant->t_ms > sim->clock.wall_ms)
        clock_fake_advance(&sim->clock, tenant->t_ms - sim->clock.wall_ms);
    struct request r;
    request_make(sim, tenant, &r);
    size_t request = new_request(sim);
    enum err_code rc = request_write(sim, t, tenant_idx, &r, request);
    if (rc) {
        sim->n_refused++;
        CHECK(rc == ERR_LIMIT || sim->hurt);
        CHECK(sim->fates[request] == FATE_OPEN);
        sim->fates[request] = FATE_LOST_PERHAPS;
    }
    sim->n_accepted += rc == ERR_OK;
    /* The engine takes floats first. */
    for (size_t i = 0; i < r.n; i++)
        model_write(&tenant->series[r.series[i]], r.t_ms[i], r.v[i], request, !rc);
    for (size_t i = 0; i < r.n_histograms; i++)
        model_write(&tenant->series[r.h_series[i]], r.h_t_ms[i], r.h[i], request, !rc);
}

/* ---- what is deleted ---- */

static bool delete_selects(const struct sim_delete *d, int i)
{
    if (d->selector == SELECT_ALL) return true;
    return d->number == (d->selector == SELECT_HOST ? i : i % 3);
}

static bool is_hidden(const struct sim_tenant *tenant, int i, int64_t t_ms)
{
    for (size_t k = 0; k < tenant->n_deletes; k++) {
        const struct sim_delete *d = &tenant->deletes[k];
        if (!d->doubtful && t_ms >= d->mint_ms && t_ms <= d->maxt_ms && delete_selects(d, i))
            return true;
    }
    return false;
}

/* all: whatever is hidden or not. */
static void forget_cells(struct sim_tenant *tenant, bool all)
{
    for (int i = 0; i < SERIES; i++)
        for (size_t k = 0; k < tenant->series[i].n; k++) {
            struct cell *cell = &tenant->series[i].cells[k];
            if (all || is_hidden(tenant, i, cell->t_ms)) cell_collapse(cell, value_none());
        }
}

static struct matcher_set delete_matchers(const struct sim_delete *d, struct matcher *m,
                                          char text[16])
{
    snprintf(text, 16, d->selector == SELECT_NAME ? "m%d" : "%d", d->number);
    *m = (struct matcher){.op = MATCH_EQ,
                          .name = d->selector == SELECT_NAME ? STR(LABEL_NAME) : STR("host"),
                          .value = str_of(text)};
    return (struct matcher_set){m, d->selector != SELECT_ALL};
}

static bool is_delete(const struct sim_delete *d, const struct tombstone_view *v)
{
    struct matcher m;
    char text[16];
    struct matcher_set set = delete_matchers(d, &m, text);
    return v->mint_ms == d->mint_ms && v->maxt_ms == d->maxt_ms && v->n_matchers == set.n &&
           (set.n == 0 ||
            (str_eq(v->matchers[0].name, m.name) && str_eq(v->matchers[0].value, m.value)));
}

/* After a restart: what the engine says is deleted must be what was, and of what failed it is known now. */
static void adopt_deletes(struct sim *sim, struct sim_tenant *tenant, struct tenant *t)
{
    struct tombstone_set *set = t ? tombstones_take(&t->tombstones) : NULL;
    size_t to = 0;
    if (!set && tenant->cleaned) {
        forget_cells(tenant, false);
        tenant->n_deletes = 0;
    }
    for (size_t i = 0; set && i < set->n; i++) {
        struct tombstone_view v = tombstone_view(set->items[i]);
        bool known = false;
        for (size_t k = 0; k < tenant->n_deletes; k++) known |= is_delete(&tenant->deletes[k], &v);
        if (!known) test_fail(__FILE__, __LINE__, "a delete that nobody asked for");
    }
    for (size_t k = 0; k < tenant->n_deletes; k++) {
        bool there = false;
        for (size_t i = 0; set && i < set->n; i++) {
            struct tombstone_view v = tombstone_view(set->items[i]);
            there |= is_delete(&tenant->deletes[k], &v);
        }
        if (!there && !tenant->deletes[k].doubtful)
            test_fail(__FILE__, __LINE__, "a delete that was acknowledged is lost");
        if (!there) continue;
        tenant->deletes[to] = tenant->deletes[k];
        tenant->deletes[to++].doubtful = false;
    }
    tenant->n_deletes = to;
    tenant->cleaned = false;
    tombstone_set_give(set);
    (void)sim;
}

static struct tenant *sim_tenant_of(struct sim *sim, int tenant_idx)
{
    char name[16];
    struct tenant *t = NULL;
    snprintf(name, sizeof(name), "tenant-%d", tenant_idx);
    enum err_code rc = engine_tenant(sim->engine, str_of(name), false, &t, &sim->err);
    CHECK(rc == ERR_OK || rc == ERR_NOT_FOUND);
    return t;
}

static void sim_adopt(struct sim *sim)
{
    for (int i = 0; i < TENANTS; i++) {
        struct sim_tenant *tenant = &sim->tenants[i];
        struct tenant *t = sim_tenant_of(sim, i);
        if (tenant->removed && !t) {
            forget_cells(tenant, true);
            tenant->n_deletes = 0;
        }
        tenant->removed = false;
        adopt_deletes(sim, tenant, t);
    }
}

static bool is_covered(const struct sim_tenant *tenant, const struct sim_delete *d)
{
    for (size_t i = 0; i < tenant->n_deletes; i++) {
        const struct sim_delete *old = &tenant->deletes[i];
        if (!old->doubtful && old->selector == d->selector && old->number == d->number &&
            old->mint_ms <= d->mint_ms && old->maxt_ms >= d->maxt_ms)
            return true;
    }
    return false;
}

static void sim_delete(struct sim *sim)
{
    int tenant_idx = (int)rng_below(&sim->rng, TENANTS);
    struct sim_tenant *tenant = &sim->tenants[tenant_idx];
    struct tenant *t = sim_tenant_of(sim, tenant_idx);
    if (!t || tenant->n_deletes == DELETES_MAX) return;
    struct sim_delete d = {.selector = rng_chance(&sim->rng, 0.05)  ? SELECT_ALL
                                       : rng_chance(&sim->rng, 0.3) ? SELECT_NAME
                                                                    : SELECT_HOST};
    if (d.selector != SELECT_ALL)
        d.number = (int)rng_below(&sim->rng, d.selector == SELECT_HOST ? SERIES : 3);
    int64_t from_ms = tenant->t_ms - 1000 * (int64_t)rng_below(&sim->rng, 4000);
    d.mint_ms = rng_chance(&sim->rng, 0.3) ? INT64_MIN : from_ms;
    d.maxt_ms = rng_chance(&sim->rng, 0.5) ? INT64_MAX
                                           : from_ms + 1000 * (int64_t)rng_below(&sim->rng, 2000);
    struct matcher m;
    char text[16];
    struct matcher_set set = delete_matchers(&d, &m, text);
    int64_t until_ms = tenant_delete_until(t);
    CHECK(until_ms <= sim->clock.wall_ms);
    enum err_code rc = tenant_delete(t, &set, 1, d.mint_ms, d.maxt_ms, &sim->err);
    d.maxt_ms = MIN_OF(d.maxt_ms, until_ms);
    if (rc && !sim->hurt) CHECK_OK(rc, &sim->err);
    d.doubtful = rc != ERR_OK;
    sim->n_deletes += !rc;
    if (d.mint_ms > d.maxt_ms || is_covered(tenant, &d)) return;
    tenant->deletes[tenant->n_deletes++] = d;
}

static void sim_clean(struct sim *sim)
{
    int tenant_idx = (int)rng_below(&sim->rng, TENANTS);
    struct sim_tenant *tenant = &sim->tenants[tenant_idx];
    struct tenant *t = sim_tenant_of(sim, tenant_idx);
    struct engine_clean_report report;
    if (!t) return;
    enum err_code rc = engine_clean_tombstones(sim->engine, t, &report, &sim->err);
    if (rc && !sim->hurt) CHECK_OK(rc, &sim->err);
    if (rc) { /* whether they are forgotten is known after a start */
        tenant->cleaned = true;
        sim_crash(sim);
        return;
    }
    forget_cells(tenant, false);
    size_t to = 0;
    for (size_t i = 0; i < tenant->n_deletes; i++)
        if (tenant->deletes[i].doubtful) tenant->deletes[to++] = tenant->deletes[i];
    tenant->n_deletes = to;
    sim->n_cleans++;
}

static void sim_remove_tenant(struct sim *sim)
{
    int tenant_idx = (int)rng_below(&sim->rng, TENANTS);
    struct sim_tenant *tenant = &sim->tenants[tenant_idx];
    struct tenant_delete_report report;
    char name[16];
    snprintf(name, sizeof(name), "tenant-%d", tenant_idx);
    enum err_code rc = engine_delete_tenant(sim->engine, str_of(name), &report, &sim->err);
    if (rc && !sim->hurt && rc != ERR_NOT_FOUND) CHECK_OK(rc, &sim->err);
    if (rc == ERR_NOT_FOUND) return;
    if (rc) {
        tenant->removed = true;
        sim_crash(sim);
        return;
    }
    forget_cells(tenant, true);
    tenant->n_deletes = 0;
    sim->n_removed++;
}

/* ---- reading ---- */

static int series_number(struct labels labels, int tenant_idx)
{
    char tenant[16];
    snprintf(tenant, sizeof(tenant), "%d", tenant_idx);
    CHECK_STR(labels_get(labels, STR("tenant")), tenant);
    struct str host = labels_get(labels, STR("host"));
    char text[16] = {0};
    CHECK(host.len > 0 && host.len < sizeof(text));
    memcpy(text, host.p, host.len);
    int i = atoi(text);
    CHECK(i >= 0 && i < SERIES);
    return i;
}

__attribute__((noreturn)) static void cell_fail(struct sim *sim, const struct cell *cell,
                                                const struct samples *s, size_t i)
{
    if (i == SIZE_MAX)
        fprintf(stderr, "read: nothing\n");
    else
        fprintf(stderr, "read: %016" PRIx64 "%s\n", double_bits(s->v[i]),
                s->h && s->h[i] ? " (histogram)" : "");
    fprintf(stderr, "known: %016" PRIx64 "%s%s\n", cell->known.bits,
            cell->known.is_histogram ? " (histogram)" : "", cell->known.none ? " (none)" : "");
    for (size_t k = 0; k < cell->n_writes; k++)
        fprintf(stderr, "write: %016" PRIx64 "%s fate %d request %zu\n", cell->writes[k].value.bits,
                cell->writes[k].value.is_histogram ? " (histogram)" : "",
                (int)sim->fates[cell->writes[k].request], cell->writes[k].request);
    fprintf(stderr, "now: %016" PRIx64 "%s%s\n", cell->now.bits,
            cell->now.is_histogram ? " (histogram)" : "", cell->now.none ? " (none)" : "");
    test_fail(__FILE__, __LINE__, "wrong answer at %" PRId64, cell->t_ms);
}

/* Cell by cell against what was read, in one pass over both. */
static void check_series(struct sim *sim, const struct sim_tenant *tenant, int number,
                         const struct samples *s, enum reading reading)
{
    struct model_series *series = (struct model_series *)(uintptr_t)&tenant->series[number];
    struct arena arena;
    arena_init(&arena, MEM_BASE, 0);
    size_t i = 0;
    for (size_t k = 0; k < series->n; k++) {
        struct cell *cell = &series->cells[k];
        bool there = i < s->n && s->t_ms[i] == cell->t_ms;
        if (i < s->n && s->t_ms[i] < cell->t_ms)
            test_fail(__FILE__, __LINE__, "a sample at %" PRId64 " that nobody wrote", s->t_ms[i]);
        if (is_hidden(tenant, number, cell->t_ms)) { /* what is stored of it, nobody sees */
            if (there)
                test_fail(__FILE__, __LINE__, "a sample at %" PRId64 " that was deleted",
                          cell->t_ms);
        } else if (reading == READ_LIVE) {
            if (cell->now.none != !there || (there && !value_is(cell->now, s, i, &arena)))
                cell_fail(sim, cell, s, there ? i : SIZE_MAX);
        } else {
            struct value possible[POSSIBLE_MAX];
            size_t n = cell_possible(cell, sim->fates, possible), m = 0;
            while (m < n && !(there ? value_is(possible[m], s, i, &arena) : possible[m].none)) m++;
            if (m == n) cell_fail(sim, cell, s, there ? i : SIZE_MAX);
            cell->now = possible[m];
            if (reading == READ_CRASH) cell_collapse(cell, possible[m]);
        }
        i += there;
        arena_reset(&arena);
    }
    if (i < s->n)
        test_fail(__FILE__, __LINE__, "a sample at %" PRId64 " that nobody wrote", s->t_ms[i]);
    arena_release(&arena);
}

static void read_tenant(struct sim *sim, int tenant_idx, enum reading reading)
{
    char name[16];
    struct tenant *t;
    struct engine_select *sel = NULL;
    snprintf(name, sizeof(name), "tenant-%d", tenant_idx);
    bool seen[SERIES] = {false};
    struct arena arena;
    struct samples s;
    arena_init(&arena, MEM_QUERY, 0);
    samples_init(&s, MEM_QUERY, &arena);
    enum err_code rc = engine_tenant(sim->engine, str_of(name), false, &t, &sim->err);
    CHECK(rc == ERR_OK || rc == ERR_NOT_FOUND);
    if (!rc) {
        rc = tenant_select(t, NULL, 0, INT64_MIN, INT64_MAX, &sel, &sim->err);
        if (rc && !sim->hurt) CHECK_OK(rc, &sim->err);
    } else {
        rc = ERR_OK;
    }
    for (size_t i = 0; !rc && sel && i < select_count(sel); i++) {
        if (i > 0) CHECK(labels_cmp(select_labels(sel, i - 1), select_labels(sel, i)) < 0);
        int number = series_number(select_labels(sel, i), tenant_idx);
        CHECK(!seen[number]);
        samples_reset(&s);
        rc = select_read(sel, i, INT64_MIN, INT64_MAX, &s, &sim->err);
        if (rc && !sim->hurt) CHECK_OK(rc, &sim->err);
        if (rc) break;
        check_series(sim, &sim->tenants[tenant_idx], number, &s, reading);
        seen[number] = true;
    }
    s.n = 0;
    for (int i = 0; !rc && i < SERIES; i++)
        if (!seen[i]) check_series(sim, &sim->tenants[tenant_idx], i, &s, reading);
    select_release(sel);
    samples_release(&s);
    arena_release(&arena);
    sim->n_checks++;
}

static void sim_read_all(struct sim *sim, enum reading reading)
{
    if (reading != READ_LIVE) sim_adopt(sim);
    for (int i = 0; i < TENANTS; i++) read_tenant(sim, i, reading);
}

/* ---- one run ---- */

static void sim_hurt(struct sim *sim)
{
    uint64_t k = 1 + rng_below(&sim->rng, rng_chance(&sim->rng, 0.7) ? 60 : 400);
    sim->hurt = true;
    switch (sim->only_power ? 0 : rng_below(&sim->rng, 4)) {
    case 0: io_sim_power_cut_at(sim->disk, k); break;
    case 1:
        io_sim_set_capacity(sim->disk, io_sim_used(sim->disk) + rng_below(&sim->rng, 100000));
        break;
    default: io_sim_fail(sim->disk, k, (enum io_sim_failure)rng_below(&sim->rng, 3)); break;
    }
}

static void must_unless_hurt(struct sim *sim, enum err_code rc)
{
    if (rc && !sim->hurt) CHECK_OK(rc, &sim->err);
}

/* Merges all there is to merge, as cells are now or as if they were closed. */
static void sim_compact(struct sim *sim)
{
    struct engine_compact_options options = {.level = (uint32_t)rng_below(&sim->rng, 4)};
    struct engine_compact_report report;
    must_unless_hurt(sim, engine_compact(sim->engine, NULL, &options, &report, &sim->err));
    sim->n_compactions += report.jobs;
}

static void sim_step(struct sim *sim)
{
    uint64_t dice = rng_below(&sim->rng, 1000);
    if (dice < 595)
        sim_write(sim);
    else if (dice < 610)
        sim_delete(sim);
    else if (dice < 615)
        sim_clean(sim);
    else if (dice < 618)
        sim_remove_tenant(sim);
    else if (dice < 795)
        must_unless_hurt(sim, engine_commit(sim->engine, &sim->err));
    else if (dice < 818)
        sim_compact(sim);
    else if (dice < 820)
        clock_fake_advance(&sim->clock, 3600000 * (int64_t)rng_below(&sim->rng, 30));
    else if (dice < 870)
        clock_fake_advance(&sim->clock, 1000 * (int64_t)rng_below(&sim->rng, 900));
    else if (dice < 920)
        must_unless_hurt(sim, engine_step(sim->engine, &sim->err));
    else if (dice < 940) {
        must_unless_hurt(sim, engine_flush(sim->engine, NULL, &sim->err));
        sim->n_flushes++;
    } else if (dice < 965)
        read_tenant(sim, (int)rng_below(&sim->rng, TENANTS), READ_LIVE);
    else if (dice < 980)
        sim_hurt(sim);
    else if (dice < 988)
        sim_crash(sim);
    else if (dice < 992)
        sim_restart(sim);
}

/* ---- blocks that a start set aside, as it knew nothing of them ---- */

#define ASIDE_MAX 64
struct aside {
    char paths[ASIDE_MAX][256];
    size_t n;
};

static bool note_aside(void *ctx, const char *path, uint64_t size)
{
    struct aside *aside = ctx;
    (void)size;
    if (!str_has_suffix(str_of(path), STR(".unknown"))) return true;
    CHECK(aside->n < ASIDE_MAX);
    snprintf(aside->paths[aside->n++], sizeof(aside->paths[0]), "%s", path);
    return true;
}

/* Power cuts alone leave none such of a merge. Of a tenant's first flush they may, when they took the first segment of the
 * log as well. */
static void check_aside(struct sim *sim)
{
    struct aside aside = {.n = 0};
    struct page_cache *cache;
    io_sim_paths(sim->disk, note_aside, &aside);
    CHECK_OK(page_cache_new(&sim->env, 1 << 20, &cache, &sim->err), &sim->err);
    for (size_t i = 0; i < aside.n && sim->only_power; i++) {
        struct block *block;
        CHECK_OK(block_open(&sim->env, aside.paths[i], cache, &block, &sim->err), &sim->err);
        CHECK_U64(block_info(block)->level, 0);
        block_unref(block);
    }
    page_cache_free(cache);
}

static void sim_run(uint64_t seed)
{
    static struct sim sim; /* large, and one at a time */
    sim_init(&sim, seed);
    sim_open(&sim);
    for (size_t i = 0; i < STEPS; i++) {
        sim_step(&sim);
        if (io_sim_is_off(sim.disk)) sim_crash(&sim);
    }
    while (io_sim_is_off(sim.disk)) sim_crash(&sim);
    sim_crash(&sim);
    while (io_sim_is_off(sim.disk)) sim_crash(&sim);
    if (getenv("QUIPU_SIM_STATS"))
        printf("seed %" PRIu64 ": %" PRIu64 " accepted, %" PRIu64 " refused, %" PRIu64
               " acknowledged, %" PRIu64 " crashes, %" PRIu64 " flushes, %" PRIu64
               " merges, %" PRIu64 " reads, %" PRIu64 " deletes, %" PRIu64 " cleans, %" PRIu64
               " tenants removed\n",
               seed, sim.n_accepted, sim.n_refused, sim.n_kept, sim.n_crashes, sim.n_flushes,
               sim.n_compactions, sim.n_checks, sim.n_deletes, sim.n_cleans, sim.n_removed);
    CHECK_OK(engine_close(sim.engine, false, &sim.err), &sim.err);
    check_aside(&sim);
    for (size_t i = 0; i < TENANTS; i++)
        for (size_t k = 0; k < SERIES; k++) model_release(&sim.tenants[i].series[k]);
    mem_free(sim.fates);
    metrics_free(sim.env.metrics);
    io_sim_free(sim.disk);
}

static void survives(void **state)
{
    (void)state;
    const char *z = getenv("QUIPU_SIM_SEEDS"), *one = getenv("QUIPU_SEED");
    uint64_t n = z && *z ? strtoull(z, NULL, 0) : 50;
    if (one && *one && !z) n = 1; /* with both: that many from that seed on */
    for (uint64_t i = 0; i < n; i++) {
        test_where = (struct test_where){true, test_seed() + i, i};
        sim_run(test_where.seed);
    }
    test_where.in_property = false;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(survives)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
