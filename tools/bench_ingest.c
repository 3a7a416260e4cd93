/* tools/bench_ingest.c: `quipu bench ingest`: puts a load on any remote-write server and reports what it cost. */
#include "tools/bench_ingest.h"

#include "base/clock.h"
#include "engine/tenant_header.h"
#include "tools/cli.h"

#define CONNECTIONS_MAX 1024
#define HOUR_MS INT64_C(3600000)

static const struct preset {
    const char *name;
    uint64_t instances, series, scrapes, connections, samples_per_request;
    int64_t interval_ms, lifetime_ms;
    bool history;
} presets[] = {
    {"fleet-hour", 100, 1000, 240, 2, 2000, 15000, 0, false},
    {"fleet-day", 10, 500, 5760, 1, 2000, 15000, 0, false},
    {"million", 1000, 1000, 8, 2, 2000, 15000, 0, false},
    {"churn-week", 120, 500, 7 * 24 * 60, 2, 2000, 60000, HOUR_MS, false},
    {"year-import", 1, 200, 365 * 24 * 60, 1, 2000, 60000, 0, true},
    {"small", 2, 500, 40, 1, 500, 15000, 0, false},
};

static const struct preset *find_preset(const char *name)
{
    for (size_t i = 0; i < COUNT_OF(presets); i++)
        if (strcmp(presets[i].name, name) == 0) return &presets[i];
    return NULL;
}

/* What no flag has set comes from the preset. */
static enum err_code apply_preset(struct bench_settings *s, struct err *err)
{
    const struct preset *p = find_preset(s->preset);
    if (!p) return err_set(err, ERR_INVALID, "unknown preset '%s'", s->preset);
    if (!s->instances) s->instances = p->instances;
    if (!s->series) s->series = p->series;
    if (!s->scrapes) s->scrapes = p->scrapes;
    if (!s->connections) s->connections = p->connections;
    if (!s->samples_per_request) s->samples_per_request = p->samples_per_request;
    if (s->interval_ms < 0) s->interval_ms = p->interval_ms;
    if (s->lifetime_ms < 0) s->lifetime_ms = p->lifetime_ms;
    s->history = p->history;
    if (s->recording) s->connections = 1;
    return ERR_OK;
}

static enum err_code check(const struct bench_settings *s, struct err *err)
{
    uint64_t n;
    bool fleet = !s->history && !s->recording;
    if (s->connections == 0 || s->connections > CONNECTIONS_MAX ||
        (fleet && s->connections > s->instances))
        return err_set(err, ERR_INVALID, "at most %d connections, and no more than instances",
                       CONNECTIONS_MAX);
    if (strcmp(s->order, "series") != 0 && strcmp(s->order, "shuffled") != 0)
        return err_set(err, ERR_INVALID, "--order is series or shuffled");
    if (s->realtime && !fleet)
        return err_set(err, ERR_INVALID, "--realtime is for fleets, not for history or recordings");
    if (s->interval_ms <= 0 || s->lifetime_ms % s->interval_ms != 0)
        return err_set(err, ERR_INVALID, "--lifetime must be a multiple of --interval");
    if (__builtin_mul_overflow(s->scrapes, (uint64_t)s->interval_ms, &n) || n > FLEET_T_MAX_MS)
        return err_set(err, ERR_INVALID, "that is more than 100 years");
    return ERR_OK;
}

static enum err_code set_times(struct bench *b, struct err *err)
{
    const struct bench_settings *s = &b->settings;
    int64_t now_ms = clock_wall_ms(clock_system()), start_ms, end_ms;
    int64_t span_ms = (int64_t)s->scrapes * s->interval_ms;
    enum err_code rc = cli_parse_time(str_of(s->end), now_ms, &end_ms, err);
    if (rc) return rc;
    start_ms = end_ms - span_ms;
    if (s->start) rc = cli_parse_time(str_of(s->start), now_ms, &start_ms, err);
    if (s->realtime) start_ms = now_ms - s->interval_ms;
    if (!rc && (start_ms < FLEET_T_MIN_MS || start_ms + span_ms > FLEET_T_MAX_MS))
        rc = err_set(err, ERR_INVALID, "times must lie between 1972 and 2100");
    b->first_ms = start_ms;
    return rc;
}

static enum err_code parse(struct bench *b, int argc, char **argv, bool *helped, struct err *err)
{
    struct bench_settings *s = &b->settings;
    *s = (struct bench_settings){.server = "http://127.0.0.1:9780",
                                 .path = "/api/v1/write",
                                 .preset = "fleet-hour",
                                 .order = "series",
                                 .end = "now",
                                 .seed = 1,
                                 .interval_ms = -1,
                                 .lifetime_ms = -1,
                                 .timeout_ms = 60000};
    const struct cli_option options[] = {
        {"target", CLI_SECTION, NULL, NULL, NULL, NULL},
        {"server", CLI_TEXT, &s->server, "URL", "the server (http://127.0.0.1:9780)",
         "QUIPU_SERVER"},
        {"path", CLI_TEXT, &s->path, "PATH", "of its remote-write endpoint (/api/v1/write)", NULL},
        {"tenant", CLI_TEXT, &s->tenant, "NAME", "sent as " TENANT_HEADER, "QUIPU_TENANT"},
        {"pid", CLI_COUNT, &s->pid, "PID", "report CPU and memory of this process", NULL},
        {"load", CLI_SECTION, NULL, NULL, NULL, NULL},
        {"preset", CLI_TEXT, &s->preset, "NAME", "what the flags below do not say (fleet-hour)",
         NULL},
        {"recording", CLI_TEXT, &s->recording, "FILE", "of `quipu bench record`, not a preset",
         NULL},
        {"instances", CLI_COUNT, &s->instances, "N", "servers in the fleet", NULL},
        {"series", CLI_COUNT, &s->series, "N", "of each instance (380 or more)", NULL},
        {"scrapes", CLI_COUNT, &s->scrapes, "N", "samples of each series", NULL},
        {"interval", CLI_DURATION, &s->interval_ms, "DUR", "between scrapes", NULL},
        {"lifetime", CLI_DURATION, &s->lifetime_ms, "DUR",
         "then all instances are replaced (0: never)", NULL},
        {"order", CLI_TEXT, &s->order, "ORDER", "of year-import: series or shuffled (series)",
         NULL},
        {"connections", CLI_COUNT, &s->connections, "N", "and threads that send", NULL},
        {"samples-per-request", CLI_COUNT, &s->samples_per_request, "N", "sent together", NULL},
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
        .doc = "Sends samples by remote write 1.0, as fast as the server acknowledges them, and\n"
               "reports throughput, latency and what it cost the server. Works against any\n"
               "remote-write server. Presets:\n\n"
               "  fleet-hour   100,000 series of web servers, 15 s apart, for an hour\n"
               "  fleet-day    5,000 of them for a day\n"
               "  million      1,000,000 of them, 8 scrapes\n"
               "  churn-week   60,000 series, 60 s apart, all replaced every hour, for a week\n"
               "  year-import  a year of old samples: 200 series, 60 s apart\n"
               "  small        1,000 series, 10 min",
        .examples =
            "  quipu bench ingest --preset small\n"
            "  quipu bench ingest --preset fleet-hour --pid $(pidof quipud)\n"
            "  quipu bench ingest --server http://127.0.0.1:9090 --instances 10 --series 500\n"
            "  quipu bench ingest --recording exporters.rec\n",
        .options = options,
        .n_options = COUNT_OF(options)};
    char *args[1];
    size_t n_args;
    enum err_code rc = cli_parse(&command, argc, argv, args, 0, &n_args, helped, err);
    if (rc || *helped) return rc;
    rc = apply_preset(s, err);
    if (!rc) rc = check(s, err);
    if (rc) return rc;
    b->n_senders = s->connections;
    struct str base = str_of(s->server);
    while (base.len && base.p[base.len - 1] == '/') base.len--;
    snprintf(b->url, sizeof(b->url), "%.*s%s", STR_ARG(base), s->path);
    return set_times(b, err);
}

enum exit_code bench_ingest(int argc, char **argv)
{
    struct err err;
    struct bench b = {0};
    struct bench_totals totals = {0};
    bool helped = false;
    lock_init(&b.lock, LOCK_LEAF);
    cond_init(&b.moved);
    enum err_code rc = parse(&b, argc, argv, &helped, &err);
    if (!rc && !helped) rc = client_global_init(&err);
    if (!rc && !helped) rc = bench_send_all(&b, &err);
    if (!rc && !helped) rc = bench_add_up(&b, &totals, &err);
    if (!rc && !helped) {
        if (b.settings.json)
            bench_print_json(&b, &totals);
        else
            bench_print_text(&b, &totals);
    }
    enum exit_code code = rc ? cli_fail(&err) : EXIT_CODE_OK;
    for (size_t i = 0; b.senders && i < b.n_senders && code == EXIT_CODE_OK; i++)
        if (b.senders[i].broken) code = cli_fail(&b.senders[i].err);
    if (code == EXIT_CODE_OK && totals.n_refused) code = EXIT_CODE_FAILED;
    bench_latency_free(&totals.latency);
    bench_release(&b);
    return code;
}
