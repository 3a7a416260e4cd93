/* tools/bench_send.c: sends loads as fast as the server takes them.
 *
 * Each connection has a thread and a load of its own. With fleets, none runs more than a few scrapes ahead of the
 * others, as real agents would not: some servers refuse samples far behind the newest. */
#include "tools/bench_ingest.h"

#include <inttypes.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "engine/tenant_header.h"
#include "tools/bench_recording.h"
#include "tools/cli.h"

#define AHEAD_MAX 4

/* ---- one connection ---- */

static void note_refusal(struct bench_sender *s, const struct client_answer *answer)
{
    s->n_refused++;
    if (s->first_refusal[0]) return;
    struct str body = str_from_bytes(buf_bytes(&answer->body));
    while (body.len && (body.p[body.len - 1] == '\n' || body.p[body.len - 1] == '\r')) body.len--;
    snprintf(s->first_refusal, sizeof(s->first_refusal), "%u: %.*s", answer->status,
             (int)MIN_OF(body.len, (size_t)400), body.len ? body.p : "");
}

/* One request until it is answered; 5xx, 429 and broken connections are tried again if asked to. */
static enum err_code send_request(struct bench_sender *s, struct bytes body, size_t n_samples,
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
        if (!b->senders[i].broken) least = MIN_OF(least, b->senders[i].rounds_done);
    return least;
}

static void wait_for_others(struct bench_sender *s, size_t round)
{
    struct bench *b = s->bench;
    lock_take(&b->lock);
    s->rounds_done = round;
    cond_broadcast(&b->moved);
    while (round > slowest(b) + AHEAD_MAX) cond_wait(&b->moved, &b->lock);
    lock_release(&b->lock);
}

static void wait_for_time(int64_t t_ms)
{
    int64_t left_ms = t_ms - clock_wall_ms(clock_system());
    if (left_ms > 0) usleep((useconds_t)(left_ms * 1000));
}

static enum err_code send_load(struct bench_sender *s, struct client_answer *answer)
{
    const struct bench_settings *set = &s->bench->settings;
    struct bench_load *load = s->load;
    enum err_code rc = ERR_OK;
    for (size_t k = 0; !rc; k++) {
        size_t n_requests;
        if (!set->history) wait_for_others(s, k);
        if (set->realtime) wait_for_time(s->bench->first_ms + (int64_t)(k + 1) * set->interval_ms);
        rc = load->ops->round(load, &n_requests, &s->err);
        if (rc || n_requests == 0) break;
        for (size_t i = 0; i < n_requests && !rc; i++) {
            size_t n_samples;
            struct bytes body;
            rc = load->ops->request(load, i, &body, &n_samples, &s->err);
            if (!rc) rc = send_request(s, body, n_samples, answer, &s->err);
        }
    }
    return rc;
}

static void *sender_main(void *arg)
{
    struct bench_sender *s = arg;
    struct client_answer answer;
    client_answer_init(&answer);
    enum err_code rc = send_load(s, &answer);
    client_answer_release(&answer);
    lock_take(&s->bench->lock);
    s->broken = rc != ERR_OK;
    s->rounds_done = SIZE_MAX;
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

static enum err_code fleet_load(const struct bench *b, size_t i, struct bench_load **out,
                                struct err *err)
{
    const struct bench_settings *set = &b->settings;
    size_t first = set->instances * i / b->n_senders;
    struct bench_fleet_config config = {
        .fleet =
            {
                .first_instance = first,
                .n_instances = set->instances * (i + 1) / b->n_senders - first,
                .series_per_instance = set->series,
                .samples_per_request = set->samples_per_request,
                .interval_ms = set->interval_ms,
                .seed = set->seed,
            },
        .n_fleet = set->instances,
        .scrapes = set->scrapes,
        .lifetime = (uint64_t)(set->lifetime_ms / set->interval_ms),
        .first_ms = b->first_ms,
    };
    return bench_fleet_new(&config, out, err);
}

static enum err_code history_load(const struct bench *b, size_t i, struct bench_load **out,
                                  struct err *err)
{
    const struct bench_settings *set = &b->settings;
    struct bench_history_config config = {
        .n_series = set->series,
        .n_steps = set->scrapes,
        .part = i,
        .n_parts = b->n_senders,
        .samples_per_request = set->samples_per_request,
        .first_ms = b->first_ms,
        .interval_ms = set->interval_ms,
        .seed = set->seed,
        .shuffled = strcmp(set->order, "shuffled") == 0,
    };
    return bench_history_new(&config, out, err);
}

static enum err_code sender_new(struct bench *b, size_t i, struct err *err)
{
    const struct bench_settings *set = &b->settings;
    struct bench_sender *s = &b->senders[i];
    s->bench = b;
    enum err_code rc = set->recording
                           ? bench_recording_new(io_posix(), set->recording, &s->load, err)
                       : set->history ? history_load(b, i, &s->load, err)
                                      : fleet_load(b, i, &s->load, err);
    if (rc) return rc;
    b->n_expected += s->load->n_samples;
    b->first_ms = i ? MIN_OF(b->first_ms, s->load->first_ms) : s->load->first_ms;
    b->last_ms = i ? MAX_OF(b->last_ms, s->load->last_ms) : s->load->last_ms;
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
    lock_take(&b->lock);
    while (b->n_running) {
        cond_wait_for(&b->moved, &b->lock, 500000000);
        double n = (double)atomic_load_explicit(&b->n_samples, memory_order_relaxed);
        double s = (double)(clock_mono_ns(clock_system()) - b->begun_ns) / 1e9;
        char a[32], rate[32];
        cli_progress("%3.0f %%  %s samples, %s/s", n / (double)b->n_expected * 100,
                     cli_human(n, a, sizeof(a)), cli_human(s > 0 ? n / s : 0, rate, sizeof(rate)));
    }
    lock_release(&b->lock);
    cli_progress_end();
}

enum err_code bench_send_all(struct bench *b, struct err *err)
{
    b->senders = mem_calloc(MEM_TOOLS, b->n_senders, sizeof(*b->senders));
    if (!b->senders) return err_set(err, ERR_NO_MEMORY, "no memory for the senders");
    cli_progress("preparing the load …");
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

void bench_release(struct bench *b)
{
    for (size_t i = 0; b->senders && i < b->n_senders; i++) {
        bench_load_free(b->senders[i].load);
        client_free(b->senders[i].client);
        bench_latency_free(&b->senders[i].latency);
    }
    mem_free(b->senders);
}
