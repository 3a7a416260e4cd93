/* tools/main_quipud.c: the server's composition root. It makes what is not deterministic (clock, disk, random
 * numbers, threads), opens the port, opens the engine while the port already says "starting", joins ingest and
 * query to it, and takes it all down again in the opposite order.
 *
 * Threads: main waits for signals and owns everything; one opener; libmicrohttpd's; the query pool's; the engine's.
 * SIGTERM, SIGINT: stop. SIGHUP: reload. A second SIGTERM or SIGINT ends the process at once, which loses nothing
 * that was acknowledged. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/env.h"
#include "base/lock.h"
#include "base/metric.h"
#include "base/pool.h"
#include "engine/engine.h"
#include "ingest/remote_write.h"
#include "tools/config.h"
#include "tools/exit_code.h"
#include "tools/process_metrics.h"
#include "tools/server.h"

struct quipud {
    int argc;
    char **argv;
    const char *config_file; /* NULL: none */
    struct log log;
    struct rng rng;
    struct env env;
    struct server *server;
    struct engine *engine;
    struct remote_write *remote_write;

    pthread_t main_thread, opener;
    enum err_code opened; /* of the engine; set by the opener before `opener_done` */
    struct err open_err;
    _Atomic bool opener_done; /* release in opener_main(), acquire in wait_for_signals() */
    int64_t opened_ns;

    struct lock lock;     /* rank LOCK_SERVER; guards config while reloading */
    struct config config; /* in effect */
    struct metric *reload_ok, *reload_seconds;
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
                      "/api/v1/write         remote write, 1.0 and 2.0\n"
                      "/api/v1/query         PromQL, as Prometheus answers it; also query_range, "
                      "series, labels …\n"
                      "/metrics              the server's own metrics\n"
                      "/-/healthy /-/ready   for probes\n"
                      "/-/reload             reads the configuration again (POST)");
}

/* ---- settings ---- */

static enum err_code read_config(const struct quipud *q, struct config *config,
                                 struct config_args *args, struct err *err)
{
    struct config_origin origin;
    config_defaults(config, &origin);
    enum err_code rc = config_args(config, &origin, q->argc, q->argv, args, err);
    if (rc || args->help || args->version || args->print_docs || !args->file) return rc;
    return config_load(config, &origin, io_posix(), args->file, err);
}

static struct engine_config engine_settings(const struct config *c)
{
    struct engine_config e = engine_config_default(c->data_dir);
    e.retention_ms = c->retention_ms;
    e.future_max_ms = c->limits_future_max_ms;
    e.flush_window_ms = c->head_window_ms;
    e.head_bytes_max = c->head_bytes_max;
    e.page_cache_bytes = c->page_cache_bytes;
    e.tenants_max = c->limits_tenants_max;
    e.series_max = c->limits_series_max;
    e.wal_sync = (enum wal_sync)c->wal_sync;
    e.wal_segment_bytes = c->wal_segment_bytes;
    e.wal_held_bytes_max = c->wal_held_bytes_max;
    return e;
}

struct reload {
    struct quipud *q;
    struct config next;
};

/* Takes over one changed key, or says that it needs a restart. */
static void reload_key(void *ctx, const struct config_key *key)
{
    struct reload *r = ctx;
    char from[CONFIG_TEXT_BYTES], to[CONFIG_TEXT_BYTES];
    config_print(&r->q->config, key, from, sizeof(from));
    config_print(&r->next, key, to, sizeof(to));
    log_msg(&r->q->log, key->reloads ? LOG_INFO : LOG_WARN,
            key->reloads ? "setting changed" : "setting changes at the next start only",
            LOG_CSTR("key", key->name), LOG_CSTR("from", from), LOG_CSTR("to", to));
    struct err err;
    /* It was printed from a valid value, so it reads back. */
    if (key->reloads) err_ignore(config_set(&r->q->config, key, str_of(to), &err));
}

static enum err_code reload(struct quipud *q, struct err *err)
{
    struct reload r = {.q = q};
    struct config_args args;
    lock_take(&q->lock);
    enum err_code rc = read_config(q, &r.next, &args, err);
    if (!rc) {
        struct config before = q->config;
        config_diff(&before, &r.next, reload_key, &r);
        atomic_store_explicit(&q->log.level, (enum log_level)q->config.log_level,
                              memory_order_relaxed);
        struct engine_config engine = engine_settings(&q->config);
        engine_reconfigure(q->engine, &engine);
        metric_set(q->reload_seconds, (double)clock_wall_ms(q->env.clock) / 1000);
    }
    lock_release(&q->lock);
    metric_set(q->reload_ok, rc ? 0 : 1);
    return rc;
}

static void on_reload(void *ctx, struct http_request *req)
{
    struct err err;
    if (req->method != HTTP_POST && req->method != HTTP_PUT) {
        http_set_header(req, "Allow", "POST, PUT");
        http_respond_text(req, 405, "Only POST or PUT requests allowed");
    } else if (reload(ctx, &err)) {
        http_respond_text(req, 500, "failed to reload config: %s", err.text);
    } else {
        http_respond(req, 200, NULL, bytes_of(NULL, 0));
    }
}

/* ---- start ---- */

static enum err_code open_server(struct quipud *q, struct err *err)
{
    const struct config *c = &q->config;
    struct server_config s = server_config_default(c->listen);
    s.io_threads = c->http_threads;
    s.connections_max = c->http_connections_max;
    s.idle_timeout_ms = c->http_idle_timeout_ms;
    s.stall_timeout_ms = c->http_stall_timeout_ms;
    s.request_bytes_max = c->http_request_bytes_max;
    s.inflight_bytes_max = c->http_inflight_bytes_max;
    s.pool_threads = c->query_concurrency;
    s.pool_queue_max = c->query_queue_max;
    const struct http_route early[] = {
        {"/-/healthy", HTTP_GET | HTTP_HEAD, false, on_healthy, q},
        {"/-/ready", HTTP_GET | HTTP_HEAD, false, on_ready, q},
        {"/metrics", HTTP_GET, false, on_metrics, q},
    };
    return server_open(&q->env, &s, early, COUNT_OF(early), &q->server, err);
}

static enum err_code open_env(struct quipud *q, struct err *err)
{
    log_init(&q->log, clock_system(), (enum log_level)q->config.log_level);
    rng_seed_os(&q->rng);
    q->env = (struct env){.io = io_posix(),
                          .clock = clock_system(),
                          .log = &q->log,
                          .metrics = metrics_new(),
                          .rng = &q->rng,
                          .threads = true};
    if (!q->env.metrics) return err_set(err, ERR_NO_MEMORY, "no memory for metrics");
    process_metrics_register(q->env.metrics, q->env.clock);
    q->reload_ok = metric_gauge(q->env.metrics, "quipu_config_last_reload_successful",
                                "Whether the last reload of the configuration succeeded.", "");
    q->reload_seconds =
        metric_gauge(q->env.metrics, "quipu_config_last_reload_success_timestamp_seconds",
                     "When the configuration was last read without an error.", "");
    metric_set(q->reload_ok, 1);
    metric_set(q->reload_seconds, (double)clock_wall_ms(q->env.clock) / 1000);
    return ERR_OK;
}

static void *opener_main(void *arg)
{
    struct quipud *q = arg;
    struct engine_config settings = engine_settings(&q->config);
    q->opened = engine_open(&q->env, &settings, &q->engine, &q->open_err);
    atomic_store_explicit(&q->opener_done, true, memory_order_release);
    pthread_kill(q->main_thread, SIGUSR1);
    return NULL;
}

static enum err_code open_remote_write(struct quipud *q, struct err *err)
{
    const struct config *c = &q->config;
    struct remote_write_config r = remote_write_config_default();
    r.labels.labels_max = c->limits_labels_max;
    r.labels.name_bytes_max = c->limits_label_name_bytes_max;
    r.labels.value_bytes_max = c->limits_label_value_bytes_max;
    return remote_write_new(&q->env, q->engine, &r, &q->remote_write, err);
}

/* Everything stands: the port serves all routes from now on. */
static enum err_code go_ready(struct quipud *q, struct err *err)
{
    enum err_code rc = open_remote_write(q, err);
    if (rc) return rc;
    const struct http_route own[] = {
        {"/", HTTP_GET, false, on_root, q},
        {"/-/reload", HTTP_GET | HTTP_HEAD | HTTP_POST | HTTP_PUT | HTTP_DELETE, true, on_reload,
         q},
        {"/api/v1/write", HTTP_POST, false, remote_write_handle, q->remote_write},
    };
    struct server_routes tables[] = {{own, COUNT_OF(own)}};
    rc = server_ready(q->server, tables, COUNT_OF(tables), NULL, NULL, err);
    if (rc) return rc;
    log_msg(&q->log, LOG_INFO, "ready", LOG_CSTR("address", server_address(q->server)),
            LOG_CSTR("data_dir", q->config.data_dir),
            LOG_DOUBLE("seconds", (double)(clock_mono_ns(q->env.clock) - q->opened_ns) / 1e9));
    return ERR_OK;
}

/* ---- stop ---- */

static enum err_code stop(struct quipud *q, struct err *err)
{
    log_msg(&q->log, LOG_INFO, "stopping");
    if (!server_stop(q->server, q->config.shutdown_timeout_ms))
        return err_set(err, ERR_TIMEOUT, "requests did not end in time; stopped without them");
    server_close(q->server); /* no handler runs any more, so what they use may go */
    q->server = NULL;
    remote_write_free(q->remote_write);
    q->remote_write = NULL;
    enum err_code rc = engine_close(q->engine, q->config.shutdown_flush, err);
    q->engine = NULL;
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
        if (signal_number == SIGHUP && ready) {
            struct err why;
            if (reload(q, &why)) log_msg(&q->log, LOG_ERROR, "reload failed", LOG_ERR(&why));
        }
    }
}

static void put_line(void *ctx, const char *line)
{
    fprintf(ctx, "%s\n", line);
}

static void help(void)
{
    printf("usage: quipud [--config FILE] [--KEY VALUE]…\n\n"
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

static enum err_code start(struct quipud *q, struct err *err)
{
    q->opened_ns = clock_mono_ns(clock_system());
    enum err_code rc = open_env(q, err);
    if (!rc) rc = open_server(q, err);
    if (rc) return rc;
    q->main_thread = pthread_self();
    if (pthread_create(&q->opener, NULL, opener_main, q) != 0)
        return err_set(err, ERR_LIMIT, "cannot start a thread");
    return ERR_OK;
}

int main(int argc, char **argv)
{
    static struct quipud quipud;
    struct quipud *q = &quipud;
    struct config_args args;
    struct err err;
    q->argc = argc;
    q->argv = argv;
    lock_init(&q->lock, LOCK_SERVER);
    enum err_code rc = read_config(q, &q->config, &args, &err);
    if (rc) {
        enum exit_code code = fail(&err);
        fprintf(stderr, "quipud --help lists all settings.\n");
        return code;
    }
    if (args.help) {
        help();
        return EXIT_CODE_OK;
    }
    if (args.version) {
        printf("quipud %s\n", QUIPU_VERSION);
        return EXIT_CODE_OK;
    }
    if (args.print_docs) {
        config_print_docs(put_line, stdout);
        return EXIT_CODE_OK;
    }
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
