/* tools/cmd_query.c: `quipu query`: asks a server and prints the answer for people or for programs. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "engine/tenant_header.h"
#include "tools/bench.h"
#include "tools/cli.h"
#include "tools/client.h"
#include "tools/cmd.h"
#include "tools/config.h"
#include "tools/query_hint.h"
#include "tools/query_print.h"

struct settings {
    const char *server, *tenant, *time, *range, *start, *end;
    int64_t step_ms, timeout_ms;
    bool json, csv, points;
};

struct ask {
    struct settings settings;
    const char *expr;
    bool is_range;
    int64_t time_ms, start_ms, end_ms, step_ms;
};

static size_t terminal_columns(void)
{
    struct winsize size;
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : 80;
}

/* About as many points as a terminal has columns, at a step that people would choose. */
static int64_t default_step(int64_t span_ms)
{
    static const int64_t steps[] = {1000,   5000,    15000,   30000,    60000,   300000,
                                    900000, 1800000, 3600000, 21600000, 86400000};
    size_t i = 0;
    while (i + 1 < COUNT_OF(steps) && span_ms / steps[i] > 120) i++;
    return steps[i];
}

/* "now-1h..now", "now-1h" or "1h" into its two ends. */
static enum err_code split_range(struct settings *s, char *copy, size_t size, struct err *err)
{
    struct err ignored;
    int64_t back_ms;
    bool is_span = config_parse_duration(str_of(s->range), &back_ms, &ignored) == ERR_OK;
    int n = snprintf(copy, size, "%s%s", is_span ? "now-" : "", s->range);
    char *dots = strstr(copy, "..");
    if (n < 0 || (size_t)n >= size || s->start || s->end)
        return err_set(err, ERR_INVALID,
                       "--range wants START..END or a duration, and neither --start nor --end");
    if (dots) *dots = 0;
    s->start = copy;
    s->end = dots && dots[2] ? dots + 2 : "now";
    return ERR_OK;
}

static enum err_code set_times(struct ask *a, struct err *err)
{
    static char copy[128]; /* s->start and s->end point into it */
    struct settings *s = &a->settings;
    int64_t now_ms = clock_wall_ms(clock_system());
    enum err_code rc = s->range ? split_range(s, copy, sizeof(copy), err) : ERR_OK;
    a->is_range = s->start != NULL;
    if (rc) return rc;
    if (!a->is_range) {
        if (s->end || s->step_ms)
            return err_set(err, ERR_INVALID, "--end and --step need --start or --range");
        return cli_parse_time(str_of(s->time ? s->time : "now"), now_ms, &a->time_ms, err);
    }
    if (s->time) return err_set(err, ERR_INVALID, "--time and a range exclude each other");
    rc = cli_parse_time(str_of(s->start), now_ms, &a->start_ms, err);
    if (!rc) rc = cli_parse_time(str_of(s->end ? s->end : "now"), now_ms, &a->end_ms, err);
    if (!rc && a->end_ms < a->start_ms)
        rc = err_set(err, ERR_INVALID, "the range ends before it begins");
    a->step_ms = s->step_ms ? s->step_ms : default_step(a->end_ms - a->start_ms);
    return rc;
}

static void put_seconds(struct buf *form, const char *name, int64_t ms)
{
    char t[32];
    snprintf(t, sizeof(t), "%.3f", (double)ms / 1000);
    client_param(form, name, str_of(t));
}

/* form NULL: GET. `answer` is of a path behind /api/v1/. */
static enum err_code ask_server(const struct ask *a, const char *path, const struct buf *form,
                                struct client_answer *answer, struct err *err)
{
    const struct settings *s = &a->settings;
    char url[1024], tenant[256];
    const char *headers[] = {NULL, NULL};
    struct str base = str_of(s->server);
    while (base.len && base.p[base.len - 1] == '/') base.len--;
    snprintf(url, sizeof(url), "%.*s/api/v1/%s", STR_ARG(base), path);
    if (s->tenant) {
        snprintf(tenant, sizeof(tenant), TENANT_HEADER ": %s", s->tenant);
        headers[0] = tenant;
    }
    struct client *client = NULL;
    struct bytes body = form ? buf_bytes(form) : bytes_of(NULL, 0);
    enum err_code rc = form ? buf_finish(form, err) : ERR_OK;
    if (!rc) rc = client_global_init(err);
    if (!rc) rc = client_new(headers, s->timeout_ms, &client, err);
    if (!rc) rc = client_ask(client, url, form ? &body : NULL, answer, err);
    client_free(client);
    return rc;
}

static enum err_code send_query(const struct ask *a, struct client_answer *answer, struct err *err)
{
    struct buf form;
    buf_init(&form, MEM_TOOLS);
    client_param(&form, "query", str_of(a->expr));
    if (a->is_range) {
        put_seconds(&form, "start", a->start_ms);
        put_seconds(&form, "end", a->end_ms);
        put_seconds(&form, "step", a->step_ms);
    } else {
        put_seconds(&form, "time", a->time_ms);
    }
    enum err_code rc = ask_server(a, a->is_range ? "query_range" : "query", &form, answer, err);
    buf_release(&form);
    return rc;
}

static void print_notes(const cJSON *root, const char *member)
{
    const cJSON *note;
    cJSON_ArrayForEach(note, cJSON_GetObjectItem(root, member))
    {
        if (cJSON_IsString(note)) fprintf(stderr, "quipu: %s\n", note->valuestring);
    }
}

/* What the server said instead of an answer. */
static enum exit_code print_failure(const struct ask *a, const struct client_answer *answer,
                                    const cJSON *root)
{
    const cJSON *text = cJSON_GetObjectItem(root, "error");
    if (!cJSON_IsString(text)) {
        struct str body = str_from_bytes(buf_bytes(&answer->body));
        fprintf(stderr, "quipu: %u: %.*s\n", answer->status, (int)MIN_OF(body.len, (size_t)500),
                body.len ? body.p : "");
        return EXIT_CODE_FAILED;
    }
    fprintf(stderr, "quipu: %s\n", text->valuestring);
    struct buf place;
    buf_init(&place, MEM_TOOLS);
    query_print_place(str_of(a->expr), str_of(text->valuestring), &place);
    query_hint_error(str_of(text->valuestring), &place);
    fwrite(place.p, 1, place.len, stderr);
    buf_release(&place);
    return answer->status == 400 ? EXIT_CODE_USAGE : EXIT_CODE_FAILED;
}

/* NULL: no answer, which here is no matter. */
static cJSON *known_texts(const struct ask *a, const char *path)
{
    struct client_answer answer;
    struct err err;
    cJSON *root = NULL;
    client_answer_init(&answer);
    if (ask_server(a, path, NULL, &answer, &err) == ERR_OK && answer.status == 200)
        root = cJSON_ParseWithLength((const char *)answer.body.p, answer.body.len);
    client_answer_release(&answer);
    return root;
}

/* Nothing was found: perhaps because of a slip. */
static void print_hints(const struct ask *a)
{
    cJSON *metrics = known_texts(a, "label/__name__/values?limit=100000");
    cJSON *labels = known_texts(a, "labels?limit=100000");
    struct buf out;
    buf_init(&out, MEM_TOOLS);
    query_hint_empty(str_of(a->expr), cJSON_GetObjectItem(metrics, "data"),
                     cJSON_GetObjectItem(labels, "data"), &out);
    fwrite(out.p, 1, out.len, stderr);
    buf_release(&out);
    cJSON_Delete(metrics);
    cJSON_Delete(labels);
}

static bool is_empty(const cJSON *data)
{
    const cJSON *result = cJSON_GetObjectItem(data, "result");
    return cJSON_IsArray(result) && !cJSON_GetArraySize(result);
}

static enum exit_code print_answer(const struct ask *a, const struct client_answer *answer)
{
    struct err err;
    cJSON *root = cJSON_ParseWithLength((const char *)answer->body.p, answer->body.len);
    const cJSON *data = cJSON_GetObjectItem(root, "data");
    if (answer->status != 200 || !data) {
        enum exit_code code = print_failure(a, answer, root);
        cJSON_Delete(root);
        return code;
    }
    print_notes(root, "warnings");
    print_notes(root, "infos");
    if (is_empty(data) && !a->settings.json) print_hints(a);
    enum err_code rc = ERR_OK;
    if (a->settings.json) {
        fwrite(answer->body.p, 1, answer->body.len, stdout);
        putchar('\n');
    } else {
        struct query_print how = {.format = a->settings.csv ? QUERY_CSV : QUERY_TABLE,
                                  .plot = isatty(STDOUT_FILENO) && !a->settings.points,
                                  .columns = terminal_columns(),
                                  .start_ms = a->start_ms,
                                  .end_ms = a->end_ms,
                                  .step_ms = a->step_ms};
        struct buf out;
        buf_init(&out, MEM_TOOLS);
        rc = query_print(&how, data, &out, &err);
        fwrite(out.p, 1, out.len, stdout);
        buf_release(&out);
    }
    cJSON_Delete(root);
    return rc ? cli_fail(&err) : EXIT_CODE_OK;
}

enum exit_code cmd_query(int argc, char **argv)
{
    struct ask a = {.settings = {.server = "http://127.0.0.1:9780", .timeout_ms = 130000}};
    struct settings *s = &a.settings;
    const struct cli_option options[] = {
        {"server", CLI_TEXT, &s->server, "URL", "the server (http://127.0.0.1:9780)",
         "QUIPU_SERVER"},
        {"tenant", CLI_TEXT, &s->tenant, "NAME", "sent as " TENANT_HEADER, "QUIPU_TENANT"},
        {"time", CLI_TEXT, &s->time, "TIME", "of an instant query (now)", NULL},
        {"range", CLI_TEXT, &s->range, "RANGE", "a range query: 1h, or now-2h..now-1h", NULL},
        {"start", CLI_TEXT, &s->start, "TIME", "the same in two options …", NULL},
        {"end", CLI_TEXT, &s->end, "TIME", "… whose end is now if left out", NULL},
        {"step", CLI_DURATION, &s->step_ms, "DUR", "between points of a range (about 1/120)", NULL},
        {"points", CLI_FLAG, &s->points, NULL, "list a range's points on a terminal, too", NULL},
        {"csv", CLI_FLAG, &s->csv, NULL, "comma-separated values", NULL},
        {"json", CLI_FLAG, &s->json, NULL, "the server's answer as it is", NULL},
        {"timeout", CLI_DURATION, &s->timeout_ms, "DUR", "to wait for the answer (130s)", NULL},
    };
    const struct cli_command command = {
        .name = "query",
        .usage = "query [options] EXPR",
        .doc = "Asks a server for the value of a PromQL expression. TIME is now, now-1h, Unix\n"
               "seconds or 2026-01-02T03:04:05Z. A range is drawn on a terminal.",
        .examples = "  quipu query 'sum by (job) (rate(http_requests_total[5m]))'\n"
                    "  quipu query --range 6h process_resident_memory_bytes\n"
                    "  quipu query --csv --start 2026-01-01T00:00:00Z --step 1h up\n",
        .options = options,
        .n_options = COUNT_OF(options)};
    struct err err;
    char *args[1];
    size_t n_args;
    bool helped;
    enum err_code rc = cli_parse(&command, argc, argv, args, 1, &n_args, &helped, &err);
    if (!rc && helped) return EXIT_CODE_OK;
    if (!rc && n_args != 1)
        rc = err_set(&err, ERR_INVALID, "query wants one expression (see quipu query --help)");
    if (!rc && s->json && s->csv)
        rc = err_set(&err, ERR_INVALID, "--json and --csv exclude each other");
    if (!rc) rc = set_times(&a, &err);
    if (rc) return cli_fail(&err);
    a.expr = args[0];
    struct client_answer answer;
    client_answer_init(&answer);
    rc = send_query(&a, &answer, &err);
    enum exit_code code = rc ? cli_fail(&err) : print_answer(&a, &answer);
    client_answer_release(&answer);
    return code;
}
