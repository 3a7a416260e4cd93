/* tools/bench_record.c: `quipu bench record`: a remote-write receiver that keeps what it gets in a file, so that a real
 * load can be measured again and again. */
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>

#include "base/lock.h"
#include "tools/bench.h"
#include "tools/bench_recording.h"
#include "tools/cli.h"
#include "tools/server.h"
#include "tools/tool_env.h"

struct recorder {
    struct lock
        lock; /* rank LOCK_LEAF; guards all below. Held during writes: a sender waits for the other */
    struct file *file;
    uint64_t off;
    struct recording_counts counts;
    struct err err; /* of the first write that failed; nothing is taken after it */
};

static void on_write(void *ctx, struct http_request *req)
{
    struct recorder *r = ctx;
    struct str encoding = http_header(req, "Content-Encoding", NULL);
    struct str type = http_header(req, "Content-Type", NULL);
    if (!str_eq(encoding, STR("snappy")) || !str_has_prefix(type, STR("application/x-protobuf"))) {
        http_respond_text(req, 415, "only protobuf with Content-Encoding snappy is recorded");
        return;
    }
    struct err err;
    lock_take(&r->lock);
    struct recording_counts counts = r->counts;
    enum err_code bad = recording_count(&counts, req->body, &err);
    enum err_code failed = r->err.code;
    if (!bad && !failed) failed = recording_append(r->file, &r->off, req->body, &r->err);
    if (!bad && !failed) r->counts = counts;
    lock_release(&r->lock);
    if (bad)
        http_respond_text(req, 400, "no remote write 1.0: %s", err.text);
    else if (failed)
        http_respond_text(req, 500, "the recording cannot be written");
    else
        http_respond(req, 204, NULL, bytes_of(NULL, 0));
}

static void show(struct recorder *r)
{
    char samples[32], size[32];
    lock_take(&r->lock);
    cli_progress("%" PRIu64 " requests, %s samples, %s", r->counts.n_requests,
                 cli_human((double)r->counts.n_samples, samples, sizeof(samples)),
                 cli_human_bytes((double)r->off, size, sizeof(size)));
    lock_release(&r->lock);
}

/* Until a signal, or for_ms (0: without end) have passed. */
static void wait_for_end(struct recorder *r, const sigset_t *signals, int64_t for_ms)
{
    struct clock *clock = clock_system();
    int64_t end_ns = clock_mono_ns(clock) + for_ms * 1000000;
    const struct timespec tick = {.tv_nsec = 200000000};
    while (!for_ms || clock_mono_ns(clock) < end_ns) {
        if (sigtimedwait(signals, NULL, &tick) > 0) break;
        show(r);
    }
    cli_progress_end();
}

static enum err_code record(struct recorder *r, const char *listen, int64_t for_ms, struct err *err)
{
    struct tool_env tool;
    sigset_t signals;
    struct server *server = NULL;
    const struct http_route routes[] = {{"/api/v1/write", HTTP_POST, false, on_write, r}};
    struct server_config config = server_config_default(listen);
    config.request_bytes_max = RECORDING_BODY_BYTES_MAX;
    config.io_threads = 1;
    config.pool_threads = 1;
    enum err_code rc = tool_env_init(&tool, LOG_WARN, true, err);
    if (rc) return rc;
    /* Before the server's threads, which inherit it: the signals come to sigtimedwait(). */
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    rc = server_open(&tool.env, &config, routes, COUNT_OF(routes), &server, err);
    if (!rc) {
        fprintf(stderr, "recording http://%s/api/v1/write\n", server_address(server));
        wait_for_end(r, &signals, for_ms);
        if (!server_stop(server, 2000)) return err_set(err, ERR_TIMEOUT, "requests do not end");
        server_close(server);
    }
    tool_env_release(&tool);
    return rc;
}

enum exit_code bench_record(int argc, char **argv)
{
    const char *listen = "127.0.0.1:9781", *path = NULL;
    int64_t for_ms = 0;
    const struct cli_option options[] = {
        {"out", CLI_TEXT, &path, "FILE", "the recording; must not exist", NULL},
        {"listen", CLI_TEXT, &listen, "ADDR", "address and port (127.0.0.1:9781)", NULL},
        {"for", CLI_DURATION, &for_ms, "DUR", "then stop (else at SIGINT or SIGTERM)", NULL},
    };
    const struct cli_command command = {
        .name = "bench record",
        .usage = "bench record --out FILE [options]",
        .doc = "Takes remote write 1.0 at /api/v1/write and keeps every request in a file, for\n"
               "`quipu bench ingest --recording FILE`.",
        .examples = "  quipu bench record --out exporters.rec --for 1h\n",
        .options = options,
        .n_options = COUNT_OF(options)};
    struct err err;
    char *args[1];
    size_t n_args;
    bool helped;
    struct recorder r = {0};
    lock_init(&r.lock, LOCK_LEAF);
    enum err_code rc = cli_parse(&command, argc, argv, args, 0, &n_args, &helped, &err);
    if (!rc && helped) return EXIT_CODE_OK;
    if (!rc && !path) rc = err_set(&err, ERR_INVALID, "bench record needs --out FILE");
    if (!rc) rc = io_open(io_posix(), path, IO_WRITE | IO_CREATE | IO_EXCL, &r.file, &err);
    if (!rc) rc = record(&r, listen, for_ms, &err);
    if (!rc && r.err.code) {
        err = r.err;
        rc = err.code;
    }
    if (!rc) rc = file_sync(r.file, &err);
    if (!rc)
        printf("%" PRIu64 " requests, %" PRIu64 " samples, %" PRIu64 " bytes\n",
               r.counts.n_requests, r.counts.n_samples, r.off);
    file_close(r.file);
    return rc ? cli_fail(&err) : EXIT_CODE_OK;
}
