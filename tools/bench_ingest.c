/* tools/bench_ingest.c: sends a fleet's scrapes as fast as the server takes them, and reports what it cost.
 *
 * Each connection has a thread and its own part of the fleet. None runs more than a few scrapes ahead of the
 * others, as real agents would not: some servers refuse samples far behind the newest. */
#include "tools/bench.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "base/clock.h"
#include "base/lock.h"
#include "engine/tenant_header.h"
#include "tools/cli.h"
#include "tools/client.h"
#include "tools/fleet.h"
#include "tools/process_metrics.h"

#define AHEAD_MAX 4
#define CONNECTIONS_MAX 1024

struct settings {
    const char *server, *path, *tenant, *preset, *start, *end;
    uint64_t instances, series, scrapes, connections, samples_per_request, seed, pid, retries;
    int64_t interval_ms, timeout_ms;
    bool json, realtime;
};

static const struct preset {
    const char *name;
    uint64_t instances, series, scrapes, connections, samples_per_request;
} presets[] = {
    {"fleet-hour", 100, 1000, 240, 2, 2000},
    {"fleet-day", 10, 500, 5760, 1, 2000},
    {"million", 1000, 1000, 8, 2, 2000},
    {"small", 2, 500, 40, 1, 500},
};

struct bench;
struct sender {
    struct bench *bench;
    pthread_t thread;
    struct fleet *fleet;
    struct client *client;
    struct bench_latency latency;
    size_t scrapes_done; /* guarded by bench->lock */
    uint64_t n_requests, n_samples, n_refused, n_failed, n_retries, n_bytes;
    bool broken; /* gave up */
    struct err err;
    char first_refusal[512];
};
struct bench {
    struct settings settings;
    char url[1024];
    int64_t first_t_ms;
    struct lock lock; /* rank LOCK_LEAF */
    struct cond moved;
    struct sender *senders;
    size_t n_senders;
    atomic_uint_fast64_t n_samples; /* relaxed: for the progress line */
    size_t n_running;               /* guarded by lock */
    int64_t begun_ns, ended_ns;
    struct process_usage before, after;
    double own_cpu_before, own_cpu_after;
};

/* ---- sending ---- */

static void note_refusal(struct sender *s, const struct client_answer *answer)
{
    s->n_refused++;
    if (s->first_refusal[0]) return;
    struct str body = str_from_bytes(buf_bytes(&answer->body));
    while (body.len && (body.p[body.len - 1] == '\n' || body.p[body.len - 1] == '\r')) body.len--;
    snprintf(s->first_refusal, sizeof(s->first_refusal), "%u: %.*s", answer->status,
             (int)MIN_OF(body.len, (size_t)400), body.len ? body.p : "");
}

/* One request until it is answered; 5xx, 429 and broken connections are tried again if asked to. */
static enum err_code send_request(struct sender *s, struct bytes body, size_t n_samples,
                                  struct client_answer *answer, struct err *err)
{
    struct clock *clock = clock_system();
    for (uint64_t attempt = 0;; attempt++) {
        int64_t begun_ns = clock_mono_ns(clock);
        enum err_code rc = client_ask(s->client, s->bench->url, &body, answer, err);
        int64_t took_ns = clock_mono_ns(clock) - begun_ns;
        s->n_bytes += body.len;
        bool again =
            rc == ERR_IO || rc == ERR_TIMEOUT || answer->status >= 500 || answer->status == 429;
        if (again && attempt < s->bench->settings.retries) {
            s->n_retries++;
            usleep((useconds_t)(50000 * MIN_OF(attempt + 1, (uint64_t)40)));
            continue;
        }
        s->n_requests++;
        if (rc) {
            s->n_failed++;
            return rc;
        }
        if (answer->status / 100 == 2) {
            s->n_samples += n_samples;
            atomic_fetch_add_explicit(&s->bench->n_samples, n_samples, memory_order_relaxed);
        } else {
            note_refusal(s, answer);
        }
        return bench_latency_add(&s->latency, took_ns, err);
    }
}

static size_t slowest(const struct bench *b)
{
    size_t least = SIZE_MAX;
    for (size_t i = 0; i < b->n_senders; i++)
        if (!b->senders[i].broken) least = MIN_OF(least, b->senders[i].scrapes_done);
    return least;
}

static void wait_for_others(struct sender *s, size_t scrape)
{
    struct bench *b = s->bench;
    lock_take(&b->lock);
    s->scrapes_done = scrape;
    cond_broadcast(&b->moved);
    while (scrape > slowest(b) + AHEAD_MAX) cond_wait(&b->moved, &b->lock);
    lock_release(&b->lock);
}

static void wait_for_time(int64_t t_ms)
{
    int64_t left_ms = t_ms - clock_wall_ms(clock_system());
    if (left_ms > 0) usleep((useconds_t)(left_ms * 1000));
}

static enum err_code send_scrapes(struct sender *s, struct client_answer *answer)
{
    const struct settings *set = &s->bench->settings;
    enum err_code rc = ERR_OK;
    for (size_t k = 0; k < set->scrapes && !rc; k++) {
        int64_t t_ms = s->bench->first_t_ms + (int64_t)k * set->interval_ms;
        wait_for_others(s, k);
        if (set->realtime) wait_for_time(t_ms + set->interval_ms);
        fleet_scrape(s->fleet, t_ms);
        for (size_t i = 0; i < fleet_n_requests(s->fleet) && !rc; i++) {
            size_t n;
            struct bytes body = fleet_request(s->fleet, i, &n);
            rc = send_request(s, body, n, answer, &s->err);
        }
    }
    return rc;
}

static void *sender_main(void *arg)
{
    struct sender *s = arg;
    struct client_answer answer;
    client_answer_init(&answer);
    enum err_code rc = send_scrapes(s, &answer);
    client_answer_release(&answer);
    lock_take(&s->bench->lock);
    s->broken = rc != ERR_OK;
    s->scrapes_done = SIZE_MAX;
    s->bench->n_running--;
    cond_broadcast(&s->bench->moved);
    lock_release(&s->bench->lock);
    return NULL;
}

/* ---- the run ---- */

static double own_cpu_seconds(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static enum err_code measure(const struct bench *b, struct process_usage *out, struct err *err)
{
    *out = (struct process_usage){0};
    if (!b->settings.pid || process_usage((long)b->settings.pid, out)) return ERR_OK;
    return err_set(err, ERR_NOT_FOUND, "there is no process %" PRIu64, b->settings.pid);
}

static enum err_code sender_new(struct bench *b, size_t i, struct err *err)
{
    const struct settings *set = &b->settings;
    struct sender *s = &b->senders[i];
    s->bench = b;
    size_t first = set->instances * i / b->n_senders;
    struct fleet_config config = {
        .first_instance = first,
        .n_instances = set->instances * (i + 1) / b->n_senders - first,
        .series_per_instance = set->series,
        .samples_per_request = set->samples_per_request,
        .interval_ms = set->interval_ms,
        .seed = set->seed,
    };
    enum err_code rc = fleet_new(&config, &s->fleet, err);
    if (rc) return rc;
    char tenant[256] = "";
    const char *headers[] = {"Content-Encoding: snappy", "Content-Type: application/x-protobuf",
                             "X-Prometheus-Remote-Write-Version: 0.1.0", NULL, NULL};
    if (set->tenant) {
        snprintf(tenant, sizeof(tenant), TENANT_HEADER ": %s", set->tenant);
        headers[3] = tenant;
    }
    return client_new(headers, set->timeout_ms, &s->client, err);
}

static void show_progress(struct bench *b)
{
    double total = (double)(b->settings.instances * b->settings.series * b->settings.scrapes);
    lock_take(&b->lock);
    while (b->n_running) {
        cond_wait_for(&b->moved, &b->lock, 500000000);
        double n = (double)atomic_load_explicit(&b->n_samples, memory_order_relaxed);
        double s = (double)(clock_mono_ns(clock_system()) - b->begun_ns) / 1e9;
        char a[32], rate[32];
        cli_progress("%3.0f %%  %s samples, %s/s", n / total * 100, cli_human(n, a, sizeof(a)),
                     cli_human(s > 0 ? n / s : 0, rate, sizeof(rate)));
    }
    lock_release(&b->lock);
    cli_progress_end();
}

static enum err_code run(struct bench *b, struct err *err)
{
    b->senders = mem_calloc(MEM_TOOLS, b->n_senders, sizeof(*b->senders));
    if (!b->senders) return err_set(err, ERR_NO_MEMORY, "no memory for the senders");
    cli_progress("preparing %" PRIu64 " series …", b->settings.instances * b->settings.series);
    for (size_t i = 0; i < b->n_senders; i++) {
        enum err_code rc = sender_new(b, i, err);
        if (rc) return rc;
    }
    enum err_code rc = measure(b, &b->before, err);
    if (rc) return rc;
    b->own_cpu_before = own_cpu_seconds();
    b->begun_ns = clock_mono_ns(clock_system());
    b->n_running = b->n_senders;
    for (size_t i = 0; i < b->n_senders; i++)
        if (pthread_create(&b->senders[i].thread, NULL, sender_main, &b->senders[i]) != 0)
            return err_set(err, ERR_LIMIT, "cannot start %zu threads", b->n_senders);
    show_progress(b);
    for (size_t i = 0; i < b->n_senders; i++) pthread_join(b->senders[i].thread, NULL);
    b->ended_ns = clock_mono_ns(clock_system());
    b->own_cpu_after = own_cpu_seconds();
    return measure(b, &b->after, err);
}

/* ---- the report ---- */

struct totals {
    uint64_t n_requests, n_samples, n_refused, n_failed, n_retries, n_bytes;
    struct bench_latency latency;
    const char *refusal;
    double seconds, server_cpu, own_cpu;
};

static enum err_code add_up(struct bench *b, struct totals *t, struct err *err)
{
    *t = (struct totals){0};
    for (size_t i = 0; i < b->n_senders; i++) {
        const struct sender *s = &b->senders[i];
        t->n_requests += s->n_requests;
        t->n_samples += s->n_samples;
        t->n_refused += s->n_refused;
        t->n_failed += s->n_failed;
        t->n_retries += s->n_retries;
        t->n_bytes += s->n_bytes;
        if (!t->refusal && s->first_refusal[0]) t->refusal = s->first_refusal;
        for (size_t k = 0; k < s->latency.n; k++) {
            enum err_code rc =
                bench_latency_add(&t->latency, (int64_t)s->latency.us[k] * 1000, err);
            if (rc) return rc;
        }
    }
    bench_latency_sort(&t->latency);
    t->seconds = (double)(b->ended_ns - b->begun_ns) / 1e9;
    t->server_cpu = b->after.cpu_seconds - b->before.cpu_seconds;
    t->own_cpu = b->own_cpu_after - b->own_cpu_before;
    return ERR_OK;
}

static void print_text(const struct bench *b, const struct totals *t)
{
    char x[32], y[32];
    printf("samples       %s acknowledged of %s, %s/s\n",
           cli_human((double)t->n_samples, x, sizeof(x)),
           cli_human((double)(b->settings.instances * b->settings.series * b->settings.scrapes), y,
                     sizeof(y)),
           cli_human((double)t->n_samples / t->seconds, (char[32]){0}, 32));
    printf("requests      %" PRIu64 ", %" PRIu64 " refused, %" PRIu64 " failed, %" PRIu64
           " retries\n",
           t->n_requests, t->n_refused, t->n_failed, t->n_retries);
    printf("sent          %s, %.1f bytes per sample\n",
           cli_human_bytes((double)t->n_bytes, x, sizeof(x)),
           t->n_samples ? (double)t->n_bytes / (double)t->n_samples : 0);
    printf("time          %.2f s, generator %.2f s of CPU\n", t->seconds, t->own_cpu);
    printf("latency       p50 %.2f ms, p99 %.2f ms, max %.2f ms\n",
           bench_latency_ms(&t->latency, 0.5), bench_latency_ms(&t->latency, 0.99),
           bench_latency_ms(&t->latency, 1));
    if (b->settings.pid) {
        printf("server CPU    %.2f s, %s samples per CPU-second\n", t->server_cpu,
               t->server_cpu > 0 ? cli_human((double)t->n_samples / t->server_cpu, x, sizeof(x))
                                 : "?");
        printf("server memory %s, at most %s\n",
               cli_human_bytes((double)b->after.rss_bytes, x, sizeof(x)),
               cli_human_bytes((double)b->after.peak_bytes, y, sizeof(y)));
    }
    if (t->refusal) printf("first refusal %s\n", t->refusal);
}

static void print_json(const struct bench *b, const struct totals *t)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "samples", (double)t->n_samples);
    cJSON_AddNumberToObject(o, "seconds", t->seconds);
    cJSON_AddNumberToObject(o, "samples_per_second", (double)t->n_samples / t->seconds);
    cJSON_AddNumberToObject(o, "requests", (double)t->n_requests);
    cJSON_AddNumberToObject(o, "refused", (double)t->n_refused);
    cJSON_AddNumberToObject(o, "failed", (double)t->n_failed);
    cJSON_AddNumberToObject(o, "retries", (double)t->n_retries);
    cJSON_AddNumberToObject(o, "sent_bytes", (double)t->n_bytes);
    cJSON_AddNumberToObject(o, "generator_cpu_seconds", t->own_cpu);
    cJSON_AddNumberToObject(o, "latency_p50_ms", bench_latency_ms(&t->latency, 0.5));
    cJSON_AddNumberToObject(o, "latency_p99_ms", bench_latency_ms(&t->latency, 0.99));
    cJSON_AddNumberToObject(o, "latency_max_ms", bench_latency_ms(&t->latency, 1));
    if (b->settings.pid) {
        cJSON_AddNumberToObject(o, "server_cpu_seconds", t->server_cpu);
        cJSON_AddNumberToObject(o, "samples_per_cpu_second",
                                t->server_cpu > 0 ? (double)t->n_samples / t->server_cpu : 0);
        cJSON_AddNumberToObject(o, "server_rss_bytes", (double)b->after.rss_bytes);
        cJSON_AddNumberToObject(o, "server_rss_peak_bytes", (double)b->after.peak_bytes);
    }
    cJSON_AddNumberToObject(o, "first_ms", (double)b->first_t_ms);
    cJSON_AddNumberToObject(
        o, "end_ms",
        (double)(b->first_t_ms + (int64_t)b->settings.scrapes * b->settings.interval_ms));
    if (t->refusal) cJSON_AddStringToObject(o, "first_refusal", t->refusal);
    char *text = cJSON_Print(o);
    printf("%s\n", text ? text : "{}");
    cJSON_free(text);
    cJSON_Delete(o);
}

/* ---- the command line ---- */

static const struct preset *find_preset(const char *name)
{
    for (size_t i = 0; i < COUNT_OF(presets); i++)
        if (strcmp(presets[i].name, name) == 0) return &presets[i];
    return NULL;
}

/* What no flag has set comes from the preset. */
static enum err_code apply_preset(struct settings *s, struct err *err)
{
    const struct preset *p = find_preset(s->preset);
    if (!p) return err_set(err, ERR_INVALID, "unknown preset '%s'", s->preset);
    if (!s->instances) s->instances = p->instances;
    if (!s->series) s->series = p->series;
    if (!s->scrapes) s->scrapes = p->scrapes;
    if (!s->connections) s->connections = p->connections;
    if (!s->samples_per_request) s->samples_per_request = p->samples_per_request;
    if (s->connections > CONNECTIONS_MAX || s->connections > s->instances)
        return err_set(err, ERR_INVALID, "at most %d connections, and no more than instances",
                       CONNECTIONS_MAX);
    return ERR_OK;
}

static enum err_code set_times(struct bench *b, struct err *err)
{
    const struct settings *s = &b->settings;
    int64_t now_ms = clock_wall_ms(clock_system()), start_ms, end_ms;
    int64_t span_ms = (int64_t)s->scrapes * s->interval_ms;
    enum err_code rc = cli_parse_time(str_of(s->end), now_ms, &end_ms, err);
    if (rc) return rc;
    start_ms = end_ms - span_ms;
    if (s->start) rc = cli_parse_time(str_of(s->start), now_ms, &start_ms, err);
    if (s->realtime) start_ms = now_ms - s->interval_ms;
    if (!rc && (start_ms < FLEET_T_MIN_MS || start_ms + span_ms > FLEET_T_MAX_MS))
        rc = err_set(err, ERR_INVALID, "times must lie between 1972 and 2100");
    b->first_t_ms = start_ms;
    return rc;
}

static enum err_code parse(struct bench *b, int argc, char **argv, bool *helped, struct err *err)
{
    struct settings *s = &b->settings;
    *s = (struct settings){.server = "http://127.0.0.1:9780",
                           .path = "/api/v1/write",
                           .preset = "fleet-hour",
                           .end = "now",
                           .seed = 1,
                           .interval_ms = 15000,
                           .timeout_ms = 60000};
    const struct cli_option options[] = {
        {"target", CLI_SECTION, NULL, NULL, NULL, NULL},
        {"server", CLI_TEXT, &s->server, "URL", "the server (http://127.0.0.1:9780)",
         "QUIPU_SERVER"},
        {"path", CLI_TEXT, &s->path, "PATH", "of its remote-write endpoint (/api/v1/write)", NULL},
        {"tenant", CLI_TEXT, &s->tenant, "NAME", "sent as " TENANT_HEADER, "QUIPU_TENANT"},
        {"pid", CLI_COUNT, &s->pid, "PID", "report CPU and memory of this process", NULL},
        {"load", CLI_SECTION, NULL, NULL, NULL, NULL},
        {"preset", CLI_TEXT, &s->preset, "NAME", "fleet-hour, fleet-day, million or small", NULL},
        {"instances", CLI_COUNT, &s->instances, "N", "servers in the fleet", NULL},
        {"series", CLI_COUNT, &s->series, "N", "of each instance (380 or more)", NULL},
        {"scrapes", CLI_COUNT, &s->scrapes, "N", "samples of each series", NULL},
        {"interval", CLI_DURATION, &s->interval_ms, "DUR", "between scrapes (15s)", NULL},
        {"connections", CLI_COUNT, &s->connections, "N", "and threads that send", NULL},
        {"samples-per-request", CLI_COUNT, &s->samples_per_request, "N", "2000", NULL},
        {"seed", CLI_COUNT, &s->seed, "N", "another seed, other values (1)", NULL},
        {"end", CLI_TEXT, &s->end, "TIME", "of the last scrape (now)", NULL},
        {"start", CLI_TEXT, &s->start, "TIME", "of the first scrape, instead of --end", NULL},
        {"realtime", CLI_FLAG, &s->realtime, NULL, "one scrape per interval, from now on", NULL},
        {"behaviour", CLI_SECTION, NULL, NULL, NULL, NULL},
        {"retries", CLI_COUNT, &s->retries, "N", "after 5xx, 429 and lost connections (0)", NULL},
        {"timeout", CLI_DURATION, &s->timeout_ms, "DUR", "of one request (60s)", NULL},
        {"json", CLI_FLAG, &s->json, NULL, "print the report as JSON", NULL},
    };
    const struct cli_command command = {
        .name = "bench ingest",
        .usage = "bench ingest [options]",
        .doc = "Sends the scrapes of a made-up fleet by remote write 1.0, as fast as the server\n"
               "acknowledges them, and reports throughput, latency and what it cost the server.\n"
               "Works against any remote-write server.",
        .examples =
            "  quipu bench ingest --preset small\n"
            "  quipu bench ingest --preset fleet-hour --pid $(pidof quipud)\n"
            "  quipu bench ingest --server http://127.0.0.1:9090 --instances 10 --series 500\n",
        .options = options,
        .n_options = COUNT_OF(options)};
    char *args[1];
    size_t n_args;
    enum err_code rc = cli_parse(&command, argc, argv, args, 0, &n_args, helped, err);
    if (rc || *helped) return rc;
    rc = apply_preset(s, err);
    if (rc) return rc;
    b->n_senders = s->connections;
    struct str base = str_of(s->server);
    while (base.len && base.p[base.len - 1] == '/') base.len--;
    snprintf(b->url, sizeof(b->url), "%.*s%s", STR_ARG(base), s->path);
    return set_times(b, err);
}

static void release(struct bench *b)
{
    for (size_t i = 0; b->senders && i < b->n_senders; i++) {
        fleet_free(b->senders[i].fleet);
        client_free(b->senders[i].client);
        bench_latency_free(&b->senders[i].latency);
    }
    mem_free(b->senders);
}

enum exit_code bench_ingest(int argc, char **argv)
{
    struct err err;
    struct bench b = {0};
    struct totals totals = {0};
    bool helped = false;
    lock_init(&b.lock, LOCK_LEAF);
    cond_init(&b.moved);
    enum err_code rc = parse(&b, argc, argv, &helped, &err);
    if (!rc && !helped) rc = client_global_init(&err);
    if (!rc && !helped) rc = run(&b, &err);
    if (!rc && !helped) rc = add_up(&b, &totals, &err);
    if (!rc && !helped) {
        if (b.settings.json)
            print_json(&b, &totals);
        else
            print_text(&b, &totals);
    }
    enum exit_code code = rc ? cli_fail(&err) : EXIT_CODE_OK;
    for (size_t i = 0; b.senders && i < b.n_senders && code == EXIT_CODE_OK; i++)
        if (b.senders[i].broken) code = cli_fail(&b.senders[i].err);
    if (code == EXIT_CODE_OK && totals.n_refused) code = EXIT_CODE_FAILED;
    bench_latency_free(&totals.latency);
    release(&b);
    return code;
}
