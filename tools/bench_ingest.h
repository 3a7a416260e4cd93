/* tools/bench_ingest.h: what the files of `quipu bench ingest` share.
 *   bench_ingest.c   the command line and its presets
 *   bench_send.c     threads that send
 *   bench_report.c   what it came to
 */
#ifndef QUIPU_TOOLS_BENCH_INGEST_H
#define QUIPU_TOOLS_BENCH_INGEST_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/lock.h"
#include "tools/bench.h"
#include "tools/bench_load.h"
#include "tools/client.h"
#include "tools/process_metrics.h"

struct bench_settings {
    const char *server, *path, *tenant, *preset, *recording, *order, *start, *end;
    uint64_t instances, series, scrapes, connections, samples_per_request, seed, pid, retries;
    int64_t interval_ms, lifetime_ms, timeout_ms;
    bool json, realtime, history;
};

struct bench;
struct bench_sender {
    struct bench *bench;
    pthread_t thread;
    struct bench_load *load;
    struct client *client;
    struct bench_latency latency;
    size_t rounds_done; /* guarded by bench->lock */
    uint64_t n_requests, n_samples, n_refused, n_failed, n_retries, n_bytes;
    bool broken; /* gave up */
    struct err err;
    char first_refusal[512];
};
struct bench {
    struct bench_settings settings;
    char url[1024];
    int64_t first_ms, last_ms; /* of the samples */
    struct lock lock;          /* rank LOCK_LEAF */
    struct cond moved;
    struct bench_sender *senders;
    size_t n_senders;
    uint64_t n_expected;            /* samples */
    atomic_uint_fast64_t n_samples; /* relaxed: for the progress line */
    size_t n_running;               /* guarded by lock */
    int64_t begun_ns, ended_ns;
    struct process_usage before, after;
    double own_cpu_before, own_cpu_after;
};

/* Makes the senders' loads and connections, runs them all, and measures. A sender that gave up is `broken`. */
MUST_USE enum err_code bench_send_all(struct bench *b, struct err *err);
void bench_release(struct bench *b);

struct bench_totals {
    uint64_t n_requests, n_samples, n_refused, n_failed, n_retries, n_bytes;
    struct bench_latency latency; /* sorted; freed by the caller */
    const char *refusal;          /* the first; NULL: none */
    double seconds, server_cpu, own_cpu;
};
MUST_USE enum err_code bench_add_up(struct bench *b, struct bench_totals *t, struct err *err);
void bench_print_text(const struct bench *b, const struct bench_totals *t);
void bench_print_json(const struct bench *b, const struct bench_totals *t);

#endif
