/* tools/bench_query.c: a fixed list of queries over the fleet of `quipu bench ingest`. */
#include "tools/bench.h"

#include <fnmatch.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "base/clock.h"
#include "base/io.h"
#include "engine/tenant_header.h"
#include "tools/cli.h"
#include "tools/client.h"
#include "tools/process_metrics.h"

#define HOUR_MS INT64_C(3600000)

static const struct query {
    const char *name, *expr;
    int64_t range_ms, step_ms; /* 0: an instant query */
    bool day;                  /* wants a day of data: asked only with --day */
} queries[] = {
    {"rate-by-route", "sum by (route) (rate(http_requests_total[5m]))", HOUR_MS, 15000, false},
    {"fleet-p99",
     "histogram_quantile(0.99, sum by (le) (rate(http_request_duration_seconds_bucket[5m])))",
     HOUR_MS, 15000, false},
    {"p99-by-region-route",
     "histogram_quantile(0.99, sum by (le, region, route) "
     "(rate(http_request_duration_seconds_bucket[5m])))",
     HOUR_MS, 60000, false},
    {"topk-pods", "topk(10, sum by (pod) (rate(http_requests_total[5m])))", HOUR_MS, 60000, false},
    {"errors-by-job",
     "sum by (job) (rate(http_requests_total{code=~\"5..\"}[5m])) / "
     "sum by (job) (rate(http_requests_total[5m]))",
     HOUR_MS, 15000, false},
    {"wide", "rate(http_requests_total{code=~\"200|404\",region=\"eu-west-1\"}[5m])",
     HOUR_MS - 15000, 15000, false},
    {"count-http", "count({__name__=~\"http_.*\"})", 0, 0, false},
    {"selector", "http_requests_total{code=\"500\",route=\"/api/v1/orders\"}", 0, 0, false},
    {"day-p99",
     "histogram_quantile(0.99, sum by (le) (rate(http_request_duration_seconds_bucket[5m])))",
     24 * HOUR_MS, 60000, true},
    {"day-increase", "increase(http_requests_total[24h])", 0, 0, true},
};

struct settings {
    const char *server, *tenant, *only, *end, *save;
    uint64_t repetitions, pid;
    int64_t timeout_ms;
    bool json, day, list;
};

struct row {
    struct bench_latency latency;
    double cpu_ms; /* per repetition; of the server */
    size_t answer_bytes, n_series;
    char failure[256];
};

static enum err_code make_url(const struct settings *s, const struct query *q, int64_t end_ms,
                              struct buf *url, struct err *err)
{
    char t[32];
    struct buf form;
    buf_init(&form, MEM_TOOLS);
    client_param(&form, "query", str_of(q->expr));
    snprintf(t, sizeof(t), "%.3f", (double)end_ms / 1000);
    client_param(&form, q->step_ms ? "end" : "time", str_of(t));
    if (q->step_ms) {
        snprintf(t, sizeof(t), "%.3f", (double)(end_ms - q->range_ms) / 1000);
        client_param(&form, "start", str_of(t));
        snprintf(t, sizeof(t), "%.3f", (double)q->step_ms / 1000);
        client_param(&form, "step", str_of(t));
    }
    client_param(&form, "nocache", STR("1")); /* VictoriaMetrics would answer from its cache */
    struct str base = str_of(s->server);
    while (base.len && base.p[base.len - 1] == '/') base.len--;
    buf_reset(url);
    buf_text(url, base);
    buf_text(url, str_of(q->step_ms ? "/api/v1/query_range?" : "/api/v1/query?"));
    buf_put(url, form.p, form.len);
    buf_u8(url, 0);
    enum err_code rc =
        form.failed ? err_set(err, ERR_NO_MEMORY, "no memory") : buf_finish(url, err);
    buf_release(&form);
    return rc;
}

static void read_answer(struct row *row, const struct client_answer *answer)
{
    row->answer_bytes = answer->body.len;
    cJSON *root = cJSON_ParseWithLength((const char *)answer->body.p, answer->body.len);
    const cJSON *result = cJSON_GetObjectItem(cJSON_GetObjectItem(root, "data"), "result");
    row->n_series = result ? (size_t)cJSON_GetArraySize(result) : 0;
    const cJSON *error = cJSON_GetObjectItem(root, "error");
    if (answer->status != 200)
        snprintf(row->failure, sizeof(row->failure), "%u: %.200s", answer->status,
                 cJSON_IsString(error) ? error->valuestring : "");
    cJSON_Delete(root);
}

/* The answer as it came, so that servers' answers can be compared. */
static enum err_code save_answer(const struct settings *s, const struct query *q,
                                 const struct client_answer *answer, struct err *err)
{
    char name[64], path[IO_PATH_BYTES];
    struct file *file = NULL;
    snprintf(name, sizeof(name), "%s.json", q->name);
    enum err_code rc = io_path(path, sizeof(path), err, s->save, name);
    if (!rc) rc = io_open(io_posix(), path, IO_WRITE | IO_CREATE | IO_TRUNCATE, &file, err);
    if (!rc) rc = file_write_at(file, 0, answer->body.p, answer->body.len, err);
    file_close(file);
    return rc;
}

static enum err_code run_query(const struct settings *s, struct client *client,
                               const struct query *q, int64_t end_ms, struct row *row,
                               struct err *err)
{
    struct buf url;
    struct client_answer answer;
    struct process_usage before = {0}, after = {0};
    buf_init(&url, MEM_TOOLS);
    client_answer_init(&answer);
    enum err_code rc = make_url(s, q, end_ms, &url, err);
    if (s->pid) (void)process_usage((long)s->pid, &before);
    for (uint64_t i = 0; i < s->repetitions && !rc && !row->failure[0]; i++) {
        cli_progress("%s %" PRIu64 "/%" PRIu64, q->name, i + 1, s->repetitions);
        int64_t begun_ns = clock_mono_ns(clock_system());
        rc = client_ask(client, (const char *)url.p, NULL, &answer, err);
        if (!rc)
            rc = bench_latency_add(&row->latency, clock_mono_ns(clock_system()) - begun_ns, err);
        if (!rc && (i == 0 || answer.status != 200)) read_answer(row, &answer);
    }
    if (s->pid) (void)process_usage((long)s->pid, &after);
    if (!rc && s->save && !row->failure[0]) rc = save_answer(s, q, &answer, err);
    row->cpu_ms = (after.cpu_seconds - before.cpu_seconds) * 1000 / (double)s->repetitions;
    bench_latency_sort(&row->latency);
    client_answer_release(&answer);
    buf_release(&url);
    return rc;
}

static void print_text(const struct settings *s, const struct query *q, const struct row *row)
{
    if (row->failure[0]) {
        printf("%-20s failed with %s\n", q->name, row->failure);
        return;
    }
    char size[32], cpu[32] = "-";
    if (s->pid) snprintf(cpu, sizeof(cpu), "%.1f", row->cpu_ms);
    printf("%-20s %9.2f %9.2f %9.2f %9s %8zu %10s\n", q->name, bench_latency_ms(&row->latency, 0.5),
           bench_latency_ms(&row->latency, 0.99), bench_latency_ms(&row->latency, 1), cpu,
           row->n_series, cli_human_bytes((double)row->answer_bytes, size, sizeof(size)));
}

static void add_json(cJSON *array, const struct settings *s, const struct query *q,
                     const struct row *row)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "name", q->name);
    cJSON_AddStringToObject(o, "expr", q->expr);
    cJSON_AddNumberToObject(o, "p50_ms", bench_latency_ms(&row->latency, 0.5));
    cJSON_AddNumberToObject(o, "p99_ms", bench_latency_ms(&row->latency, 0.99));
    cJSON_AddNumberToObject(o, "max_ms", bench_latency_ms(&row->latency, 1));
    if (s->pid) cJSON_AddNumberToObject(o, "cpu_ms", row->cpu_ms);
    cJSON_AddNumberToObject(o, "series", (double)row->n_series);
    cJSON_AddNumberToObject(o, "bytes", (double)row->answer_bytes);
    if (row->failure[0]) cJSON_AddStringToObject(o, "failure", row->failure);
    cJSON_AddItemToArray(array, o);
}

static enum err_code run_all(const struct settings *s, bool *failed, struct err *err)
{
    char tenant[256] = "";
    const char *headers[] = {NULL, NULL};
    if (s->tenant) {
        snprintf(tenant, sizeof(tenant), TENANT_HEADER ": %s", s->tenant);
        headers[0] = tenant;
    }
    int64_t end_ms;
    struct client *client = NULL;
    enum err_code rc = cli_parse_time(str_of(s->end), clock_wall_ms(clock_system()), &end_ms, err);
    if (!rc) rc = client_global_init(err);
    if (!rc) rc = client_new(headers, s->timeout_ms, &client, err);
    if (rc) return rc;
    cJSON *array = cJSON_CreateArray();
    if (!s->json)
        printf("%-20s %9s %9s %9s %9s %8s %10s\n", "query", "p50 ms", "p99 ms", "max ms", "CPU ms",
               "series", "answer");
    for (size_t i = 0; i < COUNT_OF(queries) && !rc; i++) {
        const struct query *q = &queries[i];
        if (s->only ? fnmatch(s->only, q->name, 0) != 0 : q->day != s->day) continue;
        struct row row = {0};
        rc = run_query(s, client, q, end_ms, &row, err);
        cli_progress_end();
        *failed |= row.failure[0] != 0;
        if (!rc && s->json) add_json(array, s, q, &row);
        if (!rc && !s->json) print_text(s, q, &row);
        bench_latency_free(&row.latency);
    }
    char *text = s->json && !rc ? cJSON_Print(array) : NULL;
    if (text) printf("%s\n", text);
    cJSON_free(text);
    cJSON_Delete(array);
    client_free(client);
    return rc;
}

enum exit_code bench_query(int argc, char **argv)
{
    struct settings s = {
        .server = "http://127.0.0.1:9780", .end = "now", .repetitions = 10, .timeout_ms = 120000};
    const struct cli_option options[] = {
        {"server", CLI_TEXT, &s.server, "URL", "the server (http://127.0.0.1:9780)",
         "QUIPU_SERVER"},
        {"tenant", CLI_TEXT, &s.tenant, "NAME", "sent as " TENANT_HEADER, "QUIPU_TENANT"},
        {"pid", CLI_COUNT, &s.pid, "PID", "report CPU time of this process", NULL},
        {"end", CLI_TEXT, &s.end, "TIME", "where ranges end (now)", NULL},
        {"n", CLI_COUNT, &s.repetitions, "N", "repetitions of each query (10)", NULL},
        {"only", CLI_TEXT, &s.only, "PATTERN", "queries whose name matches, e.g. '*p99*'", NULL},
        {"day", CLI_FLAG, &s.day, NULL, "the queries over 24 hours, for the preset fleet-day",
         NULL},
        {"list", CLI_FLAG, &s.list, NULL, "print the queries and stop", NULL},
        {"save", CLI_TEXT, &s.save, "FOLDER", "keep each answer there, as NAME.json", NULL},
        {"timeout", CLI_DURATION, &s.timeout_ms, "DUR", "of one query (2m)", NULL},
        {"json", CLI_FLAG, &s.json, NULL, "print the report as JSON", NULL},
    };
    const struct cli_command command = {
        .name = "bench query",
        .usage = "bench query [options]",
        .doc = "Asks a fixed list of queries over the fleet that `quipu bench ingest` has sent.\n"
               "Works against any server with the Prometheus query API.",
        .examples = "  quipu bench query --pid $(pidof quipud)\n"
                    "  quipu bench query --server http://127.0.0.1:9090 --only 'fleet*' --n 3\n",
        .options = options,
        .n_options = COUNT_OF(options)};
    struct err err;
    char *args[1];
    size_t n_args;
    bool helped, failed = false;
    enum err_code rc = cli_parse(&command, argc, argv, args, 0, &n_args, &helped, &err);
    if (!rc && !helped && s.repetitions == 0)
        rc = err_set(&err, ERR_INVALID, "--n must be at least 1");
    if (!rc && s.list)
        for (size_t i = 0; i < COUNT_OF(queries); i++)
            printf("%-20s %s\n", queries[i].name, queries[i].expr);
    else if (!rc && !helped)
        rc = run_all(&s, &failed, &err);
    return rc ? cli_fail(&err) : failed ? EXIT_CODE_FAILED : EXIT_CODE_OK;
}
