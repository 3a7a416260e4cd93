/* tools/main_quipud.c: the server's composition root. It makes what is not deterministic (clock, disk, random
 * numbers, threads), opens the port, opens the engine while the port already says "starting", joins ingest and
 * query to it, and takes it all down again in the opposite order.
 *
 * Threads: main waits for signals and owns everything; one opener; the server's; the pool that shares the work of
 * running queries; the engine's.
 * SIGTERM, SIGINT: stop. SIGHUP: reload. A second SIGTERM or SIGINT ends the process at once, which loses nothing
 * that was acknowledged. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/env.h"
#include "base/metric.h"
#include "base/pool.h"
#include "engine/disk_room.h"
#include "engine/engine.h"
#include "engine/tenant_header.h"
#include "ingest/import.h"
#include "ingest/remote_write.h"
#include "query/api.h"
#include "query/matcher_regex.h"
#include "tools/config.h"
#include "tools/exit_code.h"
#include "tools/file_limit.h"
#include "tools/memory_plan.h"
#include "tools/overrides.h"
#include "tools/process_metrics.h"
#include "tools/server.h"
#include "tools/settings.h"

struct quipud {
    struct settings settings;
    struct memory_limit system; /* what the machine or its control group allows */
    uint64_t descriptors;       /* that it may have open */
    struct log log;
    struct rng rng;
    struct env env;
    struct server *server;
    struct engine *engine;
    struct remote_write *remote_write;
    struct import *import;
    struct pool *compute; /* helps the threads that run queries; NULL on one processor */
    struct query_api *api;
    char hostname[256], cwd[1024];

    pthread_t main_thread, opener;
    enum err_code opened; /* of the engine; set by the opener before `opener_done` */
    struct err open_err;
    _Atomic bool opener_done; /* release in opener_main(), acquire in wait_for_signals() */
    int64_t begun_ns, begun_ms;
};

/* ---- routes of the process itself ---- */

static void on_healthy(void *ctx, struct http_request *req)
{
    (void)ctx;
    http_respond_text(req, 200, "Prometheus Server is Healthy.");
}

static void on_ready(void *ctx, struct http_request *req)
{
    struct quipud *q = ctx;
    struct err why;
    enum server_state state = server_state(q->server);
    if (state == SERVER_STOPPING) http_set_header(req, "X-Prometheus-Stopping", "true");
    if (state != SERVER_READY)
        http_respond(req, 503, "text/plain; charset=utf-8", bytes_of("Service Unavailable", 19));
    else if (engine_failed(q->engine, &why))
        http_respond_text(req, 503, "Not ready for writes: %s", why.text);
    else
        http_respond_text(req, 200, "Prometheus Server is Ready.");
}

static void on_metrics(void *ctx, struct http_request *req)
{
    struct quipud *q = ctx;
    struct buf out;
    buf_init(&out, MEM_HTTP);
    metrics_render(q->env.metrics, &out);
    if (out.failed)
        http_respond_text(req, 503, "no memory");
    else
        http_respond(req, 200, "text/plain; version=0.0.4; charset=utf-8", buf_bytes(&out));
    buf_release(&out);
}

static void on_root(void *ctx, struct http_request *req)
{
    (void)ctx;
    http_respond_text(req, 200,
                      "quipu " QUIPU_VERSION "\n\n"
                      "/api/v1/write         Prometheus remote write\n"
                      "/api/v1/query         PromQL; also query_range, series, labels and others\n"
                      "/metrics              the server's own metrics\n"
                      "/-/healthy /-/ready   for probes\n"
                      "/-/reload             reads the configuration again (POST)");
}

static void on_reload(void *ctx, struct http_request *req)
{
    struct quipud *q = ctx;
    struct err err;
    if (req->method != HTTP_POST && req->method != HTTP_PUT) {
        http_set_header(req, "Allow", "POST, PUT");
        http_respond_text(req, 405, "Only POST or PUT requests allowed");
    } else if (settings_reload(&q->settings, &err)) {
        http_respond_text(req, 500, "failed to reload config: %s", err.text);
    } else {
        http_respond(req, 200, NULL, bytes_of(NULL, 0));
    }
}

/* ---- settings of the parts ---- */

static_assert(CONFIG_AUTO == DISK_RESERVE_AUTO, "storage.reserve is handed on as it is");

static struct file_limit file_plan(const struct quipud *q, const struct config *c)
{
    return file_limit_plan(q->descriptors, memory_plan_make(c, q->system).connections_max);
}

static uint64_t resident(void *ctx)
{
    return memory_resident_bytes(ctx);
}

static struct engine_config engine_settings(const struct quipud *q, const struct config *c)
{
    struct memory_plan plan = memory_plan_make(c, q->system);
    struct engine_config e = engine_config_default(c->data_dir);
    e.retention_ms = c->retention_ms;
    e.retention_bytes = c->retention_bytes;
    e.samples_rate = c->limits_samples_rate;
    e.samples_burst = c->limits_samples_burst;
    e.compact = c->compaction_enabled;
    e.compact_rate = c->compaction_rate;
    e.delete_rest_ms = c->deletes_rewrite_after_ms;
    e.regex = matcher_regex();
    e.scrub_interval_ms = c->scrub_interval_ms;
    e.future_max_ms = c->limits_future_max_ms;
    e.flush_window_ms = c->head_window_ms;
    e.head_bytes_max = plan.head_bytes;
    e.registry_bytes_max = plan.registry_bytes;
    e.page_cache_bytes = plan.page_cache_bytes;
    e.exemplars_max = c->exemplars_max;
    e.exemplar_bytes_max = plan.exemplar_bytes;
    e.work_bytes_max = plan.work_bytes;
    e.wal_queue_bytes_max = plan.wal_queue_bytes;
    e.memory = (struct memory_ceiling){.bytes_max = plan.limit_bytes,
                                       .live_bytes_max = plan.live_bytes,
                                       .resident = resident,
                                       .ctx = q->env.io};
    e.tenants_max = c->limits_tenants_max;
    e.series_max = c->limits_series_max;
    e.wal_sync = (enum wal_sync)c->wal_sync;
    e.wal_segment_bytes = c->wal_segment_bytes;
    e.wal_held_bytes_max = c->wal_held_bytes_max;
    e.reserve_bytes_max = c->storage_reserve_bytes;
    e.open_files_max = file_plan(q, c).block_files_max;
    e.wal_archive = c->wal_archive;
    return e;
}

static void apply_query_limits(const struct quipud *q, const struct config *c,
                               struct query_limits *limits)
{
    limits->timeout_ms = c->query_timeout_ms;
    limits->samples_max = c->query_samples_max;
    struct memory_plan plan = memory_plan_make(c, q->system);
    limits->memory_bytes_max = plan.query_bytes_each;
    limits->tenant_memory_bytes_max = plan.query_bytes_tenant;
    limits->lookback_ms = c->query_lookback_ms;
    limits->series_max = c->query_series_max;
    limits->work_max = c->query_work_max;
    limits->response_bytes_max = c->query_response_bytes_max;
    limits->slow_ms = c->query_slow_ms;
}

static void query_tenant_limits(void *ctx, struct str tenant, struct query_limits *limits)
{
    struct quipud *q = ctx;
    struct config config;
    if (settings_get_tenant(&q->settings, tenant, &config)) apply_query_limits(q, &config, limits);
}

/* Before each query: settings may have been reloaded. */
static void query_limits_now(void *ctx, struct query_limits *limits)
{
    struct quipud *q = ctx;
    struct config config;
    settings_get(&q->settings, &config);
    apply_query_limits(q, &config, limits);
}

/* Of those who give up one request when they have no memory. */
static void apply_memory_limits(const struct quipud *q, const struct config *c)
{
    struct memory_plan plan = memory_plan_make(c, q->system);
    mem_set_limit(MEM_QUERY, plan.query_bytes_all);
    mem_set_limit(MEM_INGEST, plan.ingest_bytes);
}

static enum err_code apply_blocked(const struct quipud *q, const struct config *c, struct err *err)
{
    struct blocked_query *items =
        mem_calloc(MEM_TOOLS, MAX_OF(c->n_blocked, (size_t)1), sizeof(*items));
    if (!items) return err_set(err, ERR_NO_MEMORY, "no memory for the list of blocked queries");
    for (size_t i = 0; i < c->n_blocked; i++)
        items[i] =
            (struct blocked_query){str_of(c->blocked[i].pattern), str_of(c->blocked[i].reason),
                                   str_of(c->blocked[i].tenant)};
    enum err_code rc = query_api_set_blocked(q->api, items, c->n_blocked, err);
    mem_free(items);
    return rc;
}

/* After a reload, under the settings' lock. */
static void apply_settings(void *ctx, const struct config *c)
{
    struct quipud *q = ctx;
    atomic_store_explicit(&q->log.level, (enum log_level)c->log_level, memory_order_relaxed);
    struct engine_config engine = engine_settings(q, c);
    struct engine_override *overrides;
    struct err err;
    if (overrides_make(c, &engine, &overrides, &err)) {
        log_msg(&q->log, LOG_ERROR, "the engine keeps its old settings", LOG_ERR(&err));
        return;
    }
    engine_reconfigure(q->engine, &engine);
    mem_free(overrides);
    apply_memory_limits(q, c);
    if (q->api)
        query_api_set_cache(q->api, memory_plan_make(c, q->system).results_bytes,
                            c->query_cache_fresh_ms);
    if (q->api && apply_blocked(q, c, &err))
        log_msg(&q->log, LOG_ERROR, "query.blocked stays as it was", LOG_ERR(&err));
}

/* ---- start ---- */

static enum err_code open_env(struct quipud *q, struct err *err)
{
    log_init(&q->log, clock_system(), (enum log_level)q->settings.config.log_level);
    rng_seed_os(&q->rng);
    q->env = (struct env){.io = io_posix(),
                          .clock = clock_system(),
                          .log = &q->log,
                          .metrics = metrics_new(),
                          .rng = &q->rng,
                          .threads = true};
    q->system = memory_limit_find(q->env.io, "");
    q->descriptors = file_limit_raise();
    if (!q->env.metrics) return err_set(err, ERR_NO_MEMORY, "no memory for metrics");
    process_metrics_register(q->env.metrics, q->env.clock);
    settings_start(&q->settings, &q->log, q->env.clock, q->env.metrics, apply_settings, q);
    return ERR_OK;
}

/* Of one tenant's queries that wait. */
static void queue_limits(void *ctx, struct str tenant, struct fair_limits *out)
{
    struct quipud *q = ctx;
    struct config config;
    if (!settings_get_tenant(&q->settings, tenant, &config)) settings_get(&q->settings, &config);
    out->share = config.query_tenant_concurrency;
    out->wait_max_ms = config.query_queue_timeout_ms;
}

static void log_memory_plan(struct quipud *q)
{
    struct memory_plan p = memory_plan_make(&q->settings.config, q->system);
    metric_set(metric_gauge(q->env.metrics, "quipu_memory_limit_bytes",
                            "Resident memory that the process stays below.", ""),
               (double)p.limit_bytes);
    log_msg(&q->log, LOG_INFO, "memory plan", LOG_U64("limit", p.limit_bytes),
            LOG_CSTR("from", p.source), LOG_U64("process", p.process_bytes),
            LOG_U64("samples_and_series", p.live_bytes),
            LOG_U64("samples_flushed_at", p.head_bytes), LOG_U64("series", p.registry_bytes),
            LOG_U64("flush", p.work_bytes), LOG_U64("page_cache", p.page_cache_bytes),
            LOG_U64("log_queue", p.wal_queue_bytes), LOG_U64("bodies", p.inflight_bytes),
            LOG_U64("writes", p.ingest_bytes), LOG_U64("queries", p.query_bytes_all),
            LOG_U64("cached_answers", p.results_bytes), LOG_U64("exemplars", p.exemplar_bytes),
            LOG_U64("one_query", p.query_bytes_each), LOG_U64("connections", p.connections_max));
    if (p.allowed_bytes && p.limit_bytes > p.allowed_bytes)
        log_msg(&q->log, LOG_WARN, "memory.limit is more than the system allows",
                LOG_U64("limit", p.limit_bytes), LOG_U64("allowed", p.allowed_bytes));
    if (memory_plan_sum(&p) > p.limit_bytes)
        log_msg(&q->log, LOG_WARN, "settings of single parts add up to more than memory.limit",
                LOG_U64("limit", p.limit_bytes), LOG_U64("sum", memory_plan_sum(&p)));
}

static void log_file_plan(struct quipud *q)
{
    struct file_limit p = file_plan(q, &q->settings.config);
    uint64_t wanted = memory_plan_make(&q->settings.config, q->system).connections_max;
    log_msg(&q->log, p.connections_max < wanted ? LOG_WARN : LOG_INFO,
            p.connections_max < wanted ? "few open files are allowed: fewer connections"
                                       : "open files",
            LOG_U64("limit", p.descriptors), LOG_U64("connections", p.connections_max),
            LOG_U64("block_files", p.block_files_max));
}

static enum err_code open_server(struct quipud *q, struct err *err)
{
    const struct config *c = &q->settings.config;
    struct memory_plan plan = memory_plan_make(c, q->system);
    struct server_config s = server_config_default(c->listen);
    s.io_threads = c->http_threads;
    s.connections_max = file_plan(q, c).connections_max;
    s.idle_timeout_ms = c->http_idle_timeout_ms;
    s.receive_timeout_ms = c->http_receive_timeout_ms;
    s.stall_timeout_ms = c->http_stall_timeout_ms;
    s.share_header = TENANT_HEADER;
    s.request_bytes_max = plan.request_bytes;
    s.inflight_bytes_max = plan.inflight_bytes;
    s.pool_threads = c->query_concurrency;
    s.pool_queue_max = c->query_queue_max;
    s.pool_limits = queue_limits;
    s.pool_ctx = q;
    const struct http_route early[] = {
        {"/-/healthy", HTTP_GET | HTTP_HEAD, false, on_healthy, q},
        {"/-/ready", HTTP_GET | HTTP_HEAD, false, on_ready, q},
        {"/metrics", HTTP_GET, false, on_metrics, q},
        {"/api/v1/status/walreplay", HTTP_GET, false, query_api_walreplay, NULL},
    };
    return server_open(&q->env, &s, early, COUNT_OF(early), &q->server, err);
}

static void *opener_main(void *arg)
{
    struct quipud *q = arg;
    struct engine_config settings = engine_settings(q, &q->settings.config);
    struct engine_override *overrides = NULL;
    q->opened = overrides_make(&q->settings.config, &settings, &overrides, &q->open_err);
    if (!q->opened) q->opened = engine_open(&q->env, &settings, &q->engine, &q->open_err);
    mem_free(overrides);
    atomic_store_explicit(&q->opener_done, true, memory_order_release);
    pthread_kill(q->main_thread, SIGUSR1);
    return NULL;
}

static enum err_code start(struct quipud *q, struct err *err)
{
    q->begun_ns = clock_mono_ns(clock_system());
    q->begun_ms = clock_wall_ms(clock_system());
    mem_tune_heap();
    enum err_code rc = open_env(q, err);
    if (rc) return rc;
    log_memory_plan(q);
    log_file_plan(q);
    apply_memory_limits(q, &q->settings.config);
    rc = open_server(q, err);
    if (rc) return rc;
    q->main_thread = pthread_self();
    if (pthread_create(&q->opener, NULL, opener_main, q) != 0)
        return err_set(err, ERR_LIMIT, "cannot start a thread");
    return ERR_OK;
}

static enum err_code open_writes(struct quipud *q, struct err *err)
{
    const struct config *c = &q->settings.config;
    struct memory_plan plan = memory_plan_make(c, q->system);
    struct remote_write_config r = remote_write_config_default();
    r.message_bytes_max = plan.message_bytes;
    r.memory_bytes_max = plan.ingest_bytes;
    r.labels.labels_max = c->limits_labels_max;
    r.labels.name_bytes_max = c->limits_label_name_bytes_max;
    r.labels.value_bytes_max = c->limits_label_value_bytes_max;
    struct import_config i = {.memory_bytes_max = r.memory_bytes_max, .labels = r.labels};
    enum err_code rc = remote_write_new(&q->env, q->engine, &r, &q->remote_write, err);
    return rc ? rc : import_new(&q->env, q->engine, &i, &q->import, err);
}

static enum err_code open_api(struct quipud *q, struct err *err)
{
    const struct config *c = &q->settings.config;
    struct query_api_backend backend = query_api_engine(q->engine);
    struct query_api_config api = query_api_config_default();
    long n_cpus = sysconf(_SC_NPROCESSORS_ONLN);
    size_t n_threads = c->query_threads ? c->query_threads : n_cpus > 0 ? (size_t)n_cpus : 1;
    /* The thread that runs a query works, too. */
    enum err_code rc =
        n_threads > 1 ? pool_new("eval", n_threads - 1, 1024, &q->compute, err) : ERR_OK;
    if (rc) return rc;
    if (gethostname(q->hostname, sizeof(q->hostname) - 1) != 0) q->hostname[0] = 0;
    if (!getcwd(q->cwd, sizeof(q->cwd))) q->cwd[0] = 0;
    apply_query_limits(q, c, &api.limits);
    api.limits_now = query_limits_now;
    api.tenant_limits = query_tenant_limits;
    api.limits_ctx = q;
    api.pool = q->compute;
    api.cache_bytes_max = memory_plan_make(c, q->system).results_bytes;
    api.cache_fresh_ms = c->query_cache_fresh_ms;
    api.cors_origin = c->http_cors_origin;
    api.tenants_max = (size_t)c->query_tenants_max;
    api.engine = q->engine;
    api.status = (struct query_api_status){.hostname = q->hostname,
                                           .cwd = q->cwd,
                                           .start_ms = q->begun_ms,
                                           .n_cpus = n_cpus > 0 ? (size_t)n_cpus : 1,
                                           .retention = settings_print_retention,
                                           .config = settings_print_yaml,
                                           .flags = settings_flags,
                                           .reload = settings_reload_state,
                                           .ctx = &q->settings};
    rc = query_api_new(&q->env, &backend, &api, &q->api, err);
    return rc ? rc : apply_blocked(q, c, err);
}

/* Everything stands: the port serves all routes from now on. */
static enum err_code go_ready(struct quipud *q, struct err *err)
{
    /* A server that cannot write is better noticed now than by its first sender. On a full disk it answers queries
     * meanwhile, if it has anything to answer with, and goes on by itself. */
    if (engine_failed(q->engine, err)) {
        if (err->code != ERR_NO_SPACE || engine_count_tenants(q->engine) == 0) return err->code;
        log_msg(&q->log, LOG_WARN, "started without space for writes", LOG_ERR(err));
    }
    enum err_code rc = open_writes(q, err);
    if (!rc) rc = open_api(q, err);
    if (rc) return rc;
    struct http_route api[QUERY_API_ROUTES_MAX];
    const struct http_route own[] = {
        {"/", HTTP_GET, false, on_root, q},
        {"/-/reload", HTTP_GET | HTTP_HEAD | HTTP_POST | HTTP_PUT | HTTP_DELETE, true, on_reload,
         q},
        {"/api/v1/write", HTTP_POST, false, remote_write_handle, q->remote_write},
        {"/api/v1/write", HTTP_GET, false, remote_write_handle_get, q->remote_write},
        {"/api/v1/import", HTTP_POST, true, import_handle_jsonl, q->import},
        {"/api/v1/import/prometheus", HTTP_POST, true, import_handle_text, q->import},
    };
    struct server_routes tables[] = {{own, COUNT_OF(own)}, {api, query_api_routes(q->api, api)}};
    rc = server_ready(q->server, tables, COUNT_OF(tables), query_api_options, q->api, err);
    if (rc) return rc;
    log_msg(&q->log, LOG_INFO, "ready", LOG_CSTR("address", server_address(q->server)),
            LOG_CSTR("data_dir", q->settings.config.data_dir),
            LOG_DOUBLE("seconds", (double)(clock_mono_ns(q->env.clock) - q->begun_ns) / 1e9));
    return ERR_OK;
}

/* ---- stop ---- */

static enum err_code stop(struct quipud *q, struct err *err)
{
    struct config config;
    settings_get(&q->settings, &config);
    log_msg(&q->log, LOG_INFO, "stopping");
    if (!server_stop(q->server, config.shutdown_timeout_ms))
        return err_set(err, ERR_TIMEOUT, "requests did not end in time; stopped without them");
    server_close(q->server); /* no handler runs any more, so what they use may go */
    query_api_free(q->api);
    pool_free(q->compute);
    import_free(q->import);
    remote_write_free(q->remote_write);
    enum err_code rc = engine_close(q->engine, config.shutdown_flush, err);
    if (!rc) log_msg(&q->log, LOG_INFO, "stopped");
    return rc;
}

/* Runs until the process is to end; what it returns is why. */
static enum err_code wait_for_signals(struct quipud *q, const sigset_t *signals, struct err *err)
{
    bool ready = false;
    for (;;) {
        int signal_number = 0;
        if (sigwait(signals, &signal_number) != 0) continue;
        if (!ready && atomic_load_explicit(&q->opener_done, memory_order_acquire)) {
            pthread_join(q->opener, NULL);
            *err = q->open_err;
            enum err_code rc = q->opened ? q->opened : go_ready(q, err);
            if (rc) return rc;
            ready = true;
        }
        if (signal_number == SIGTERM || signal_number == SIGINT) {
            /* Replay cannot be interrupted, but it changes nothing that the next start would miss. */
            if (!ready) _exit(EXIT_CODE_OK);
            pthread_sigmask(SIG_UNBLOCK, signals, NULL);
            return stop(q, err);
        }
        struct err why;
        if (signal_number == SIGHUP && ready && settings_reload(&q->settings, &why))
            log_msg(&q->log, LOG_ERROR, "reload failed", LOG_ERR(&why));
    }
}

/* ---- the command line ---- */

static void put_line(void *ctx, const char *line)
{
    fprintf(ctx, "%s\n", line);
}

static void help(void)
{
    printf("usage: quipud [--config FILE] [--KEY VALUE]...\n\n"
           "A time-series server: Prometheus remote write in, PromQL out.\n\n"
           "  --config FILE\n      YAML with the keys below; flags win over it. Read again at "
           "SIGHUP.\n"
           "  --help, --version\n");
    config_print_help(put_line, stdout);
    printf("\nexamples:\n  quipud --data-dir /var/lib/quipu --listen :9780 --retention 90d\n"
           "  quipud --config /etc/quipu.yml\n");
}

static enum exit_code fail(const struct err *err)
{
    char text[ERR_TEXT_BYTES + ERR_FILE_BYTES + 64];
    fprintf(stderr, "quipud: %s\n", err_describe(err, text, sizeof(text)));
    return exit_code_of(err->code);
}

/* What --help and the like print; false: run the server. */
static bool print_and_end(const struct config_args *args)
{
    if (args->help)
        help();
    else if (args->version)
        printf("quipud %s\n", QUIPU_VERSION);
    else if (args->print_docs)
        config_print_docs(put_line, stdout);
    else
        return false;
    return true;
}

int main(int argc, char **argv)
{
    static struct quipud quipud; /* zeroed, and too large for comfort on a stack */
    struct quipud *q = &quipud;
    struct config_args args;
    struct err err;
    settings_init(&q->settings, argc, argv);
    enum err_code rc = settings_read(&q->settings, &args, &err);
    if (rc) {
        enum exit_code code = fail(&err);
        fprintf(stderr, "quipud --help lists all settings.\n");
        return code;
    }
    if (print_and_end(&args)) return EXIT_CODE_OK;
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    sigaddset(&signals, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* before any thread: they inherit it */
    signal(SIGPIPE, SIG_IGN);
    rc = start(q, &err);
    if (!rc) rc = wait_for_signals(q, &signals, &err);
    /* After a failure the process goes as it is: other threads may still be at work in the engine. */
    return rc ? fail(&err) : EXIT_CODE_OK;
}
