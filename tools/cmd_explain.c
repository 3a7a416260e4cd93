/* tools/cmd_explain.c: `quipu explain`: what a query does, node by node, and what it takes. */
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "engine/tenant_header.h"
#include "tools/bench.h"
#include "tools/cli.h"
#include "tools/client.h"
#include "tools/cmd.h"
#include "tools/config.h"
#include "tools/explain_print.h"

struct settings {
    const char *server, *tenant, *time, *range;
    int64_t step_ms, timeout_ms;
    bool estimate, json;
};

struct times {
    bool is_range;
    int64_t start_ms, end_ms, step_ms;
};

static size_t terminal_columns(void)
{
    struct winsize size;
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : 120;
}

/* "1h" is "now-1h..now". */
static enum err_code read_times(const struct settings *s, struct times *t, struct err *err)
{
    int64_t now_ms = clock_wall_ms(clock_system()), span_ms;
    struct err ignored;
    *t = (struct times){.is_range = s->range != NULL};
    if (!s->range) {
        if (s->step_ms) return err_set(err, ERR_INVALID, "--step needs --range");
        enum err_code rc =
            cli_parse_time(str_of(s->time ? s->time : "now"), now_ms, &t->start_ms, err);
        t->end_ms = t->start_ms;
        return rc;
    }
    if (s->time) return err_set(err, ERR_INVALID, "--time and --range exclude each other");
    const char *dots = strstr(s->range, "..");
    enum err_code rc = ERR_OK;
    if (!dots && config_parse_duration(str_of(s->range), &span_ms, &ignored) == ERR_OK) {
        t->start_ms = now_ms - span_ms;
        t->end_ms = now_ms;
    } else {
        struct str start = {s->range, dots ? (size_t)(dots - s->range) : strlen(s->range)};
        rc = cli_parse_time(start, now_ms, &t->start_ms, err);
        if (!rc)
            rc = cli_parse_time(dots && dots[2] ? str_of(dots + 2) : STR("now"), now_ms, &t->end_ms,
                                err);
    }
    if (!rc && t->end_ms < t->start_ms)
        rc = err_set(err, ERR_INVALID, "the range ends before it begins");
    t->step_ms = s->step_ms ? s->step_ms : MAX_OF((t->end_ms - t->start_ms) / 120, INT64_C(1000));
    return rc;
}

static void put_seconds(struct buf *form, const char *name, int64_t ms)
{
    char t[32];
    snprintf(t, sizeof(t), "%.3f", (double)ms / 1000);
    client_param(form, name, str_of(t));
}

static enum err_code ask(const struct settings *s, const struct times *t, const char *expr,
                         struct client_answer *answer, struct err *err)
{
    char url[1024], tenant[256];
    const char *headers[] = {NULL, NULL};
    struct str base = str_of(s->server);
    struct buf form;
    buf_init(&form, MEM_TOOLS);
    client_param(&form, "query", str_of(expr));
    client_param(&form, "explain", s->estimate ? STR("estimate") : STR("1"));
    if (t->is_range) {
        put_seconds(&form, "start", t->start_ms);
        put_seconds(&form, "end", t->end_ms);
        put_seconds(&form, "step", t->step_ms);
    } else {
        put_seconds(&form, "time", t->start_ms);
    }
    while (base.len && base.p[base.len - 1] == '/') base.len--;
    snprintf(url, sizeof(url), "%.*s/api/v1/%s", STR_ARG(base),
             t->is_range ? "query_range" : "query");
    if (s->tenant) {
        snprintf(tenant, sizeof(tenant), TENANT_HEADER ": %s", s->tenant);
        headers[0] = tenant;
    }
    struct client *client = NULL;
    struct bytes body = buf_bytes(&form);
    enum err_code rc = buf_finish(&form, err);
    if (!rc) rc = client_global_init(err);
    if (!rc) rc = client_new(headers, s->timeout_ms, &client, err);
    if (!rc) rc = client_ask(client, url, &body, answer, err);
    client_free(client);
    buf_release(&form);
    return rc;
}

static enum exit_code print_answer(const struct settings *s, const struct client_answer *answer)
{
    struct err err;
    cJSON *root = cJSON_ParseWithLength((const char *)answer->body.p, answer->body.len);
    const cJSON *explain = cJSON_GetObjectItem(cJSON_GetObjectItem(root, "data"), "explain");
    const cJSON *text = cJSON_GetObjectItem(root, "error");
    enum err_code rc = ERR_OK;
    if (answer->status != 200) {
        fprintf(stderr, "quipu: %s\n", cJSON_IsString(text) ? text->valuestring : "no answer");
        cJSON_Delete(root);
        return answer->status == 400 ? EXIT_CODE_USAGE : EXIT_CODE_FAILED;
    }
    if (s->json) {
        char *json = cJSON_Print(explain);
        printf("%s\n", json ? json : "null");
        cJSON_free(json);
    } else {
        struct buf out;
        buf_init(&out, MEM_TOOLS);
        rc = explain_print_tree(explain, terminal_columns(), &out, &err);
        if (!rc) fwrite(out.p, 1, out.len, stdout);
        buf_release(&out);
    }
    cJSON_Delete(root);
    return rc ? cli_fail(&err) : EXIT_CODE_OK;
}

enum exit_code cmd_explain(int argc, char **argv)
{
    struct settings s = {.server = "http://127.0.0.1:9780", .timeout_ms = 130000};
    const struct cli_option options[] = {
        {"server", CLI_TEXT, &s.server, "URL", "the server (http://127.0.0.1:9780)",
         "QUIPU_SERVER"},
        {"tenant", CLI_TEXT, &s.tenant, "NAME", "sent as " TENANT_HEADER, "QUIPU_TENANT"},
        {"time", CLI_TEXT, &s.time, "TIME", "of an instant query (now)", NULL},
        {"range", CLI_TEXT, &s.range, "RANGE", "a range query: 1h, or now-2h..now-1h", NULL},
        {"step", CLI_DURATION, &s.step_ms, "DUR", "between points of a range (about 1/120)", NULL},
        {"estimate", CLI_FLAG, &s.estimate, NULL, "do not run it, only estimate", NULL},
        {"json", CLI_FLAG, &s.json, NULL, "the server's plan as it is", NULL},
        {"timeout", CLI_DURATION, &s.timeout_ms, "DUR", "to wait for the answer (130s)", NULL},
    };
    const struct cli_command command = {
        .name = "explain",
        .usage = "explain [options] EXPR",
        .doc = "Runs a PromQL expression and shows what each part of it took: time with and\n"
               "without the parts below it, series, samples. With --estimate nothing is run.",
        .examples = "  quipu explain --range 6h 'sum by (job) (rate(http_requests_total[5m]))'\n"
                    "  quipu explain --estimate --range 30d --step 1m '{__name__=~\".+\"}'\n",
        .options = options,
        .n_options = COUNT_OF(options)};
    struct err err;
    struct times times;
    char *args[1];
    size_t n_args;
    bool helped;
    enum err_code rc = cli_parse(&command, argc, argv, args, 1, &n_args, &helped, &err);
    if (!rc && helped) return EXIT_CODE_OK;
    if (!rc && n_args != 1)
        rc = err_set(&err, ERR_INVALID, "explain wants one expression (see quipu explain --help)");
    if (!rc) rc = read_times(&s, &times, &err);
    if (rc) return cli_fail(&err);
    struct client_answer answer;
    client_answer_init(&answer);
    rc = ask(&s, &times, args[0], &answer, &err);
    enum exit_code code = rc ? cli_fail(&err) : print_answer(&s, &answer);
    client_answer_release(&answer);
    return code;
}
