/* tools/cmd_export.c: `quipu export`: the samples of series as lines of text, from a server, as they come. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "engine/tenant_header.h"
#include "tools/bench.h"
#include "tools/cli.h"
#include "tools/client.h"
#include "tools/cmd.h"

#define MATCH_MAX 256

struct ask {
    const char *server, *tenant, *start, *end, *format, *output;
    const char *match[MATCH_MAX];
    size_t n_match;
};

struct export_run {
    FILE *to;
    uint64_t n_bytes, n_lines;
    int64_t shown_ns;
    bool progress; /* not while lines go to a terminal */
    bool failed;   /* the file could not be written */
};

static bool take_part(void *ctx, struct bytes part)
{
    struct export_run *r = ctx;
    char bytes[32];
    r->failed |= part.len && fwrite(part.p, 1, part.len, r->to) != part.len;
    r->n_bytes += part.len;
    for (size_t i = 0; i < part.len; i++) r->n_lines += part.p[i] == '\n';
    int64_t now_ns = clock_mono_ns(clock_system());
    if (r->progress && now_ns - r->shown_ns > INT64_C(200000000)) {
        r->shown_ns = now_ns;
        cli_progress("%" PRIu64 " lines, %s", r->n_lines,
                     cli_human_bytes((double)r->n_bytes, bytes, sizeof(bytes)));
    }
    return !r->failed;
}

static enum err_code make_form(const struct ask *a, struct buf *form, struct err *err)
{
    for (size_t i = 0; i < a->n_match; i++) client_param(form, "match[]", str_of(a->match[i]));
    if (a->format) client_param(form, "format", str_of(a->format));
    enum err_code rc = client_param_time(form, "start", a->start, err);
    if (!rc) rc = client_param_time(form, "end", a->end, err);
    return rc ? rc : buf_finish(form, err);
}

static enum err_code refused(const struct client_answer *answer, struct err *err)
{
    struct str body = str_from_bytes(buf_bytes(&answer->body));
    while (body.len && body.p[body.len - 1] == '\n') body.len--;
    body.len = MIN_OF(body.len, (size_t)500);
    return err_set(err, answer->status == 400 ? ERR_INVALID : ERR_EXECUTION,
                   "the server says %u: %.*s", answer->status, STR_ARG(body));
}

static enum err_code ask_server(const struct ask *a, struct export_run *r, struct err *err)
{
    char url[1024], tenant[256];
    const char *headers[] = {NULL, NULL};
    struct client *client = NULL;
    struct client_answer answer;
    struct buf form;
    struct str base = str_of(a->server);
    while (base.len && base.p[base.len - 1] == '/') base.len--;
    snprintf(url, sizeof(url), "%.*s/api/v1/export", STR_ARG(base));
    if (a->tenant) {
        snprintf(tenant, sizeof(tenant), TENANT_HEADER ": %s", a->tenant);
        headers[0] = tenant;
    }
    client_answer_init(&answer);
    buf_init(&form, MEM_TOOLS);
    enum err_code rc = make_form(a, &form, err);
    if (!rc) rc = client_global_init(err);
    if (!rc) rc = client_new(headers, 0, &client, err); /* it takes what it takes */
    struct bytes body = buf_bytes(&form);
    if (!rc) rc = client_ask_streamed(client, url, &body, take_part, r, &answer, err);
    if (r->failed) rc = err_set_errno(err, errno ? errno : EIO, "writing the export");
    if (!rc && answer.status != 200) rc = refused(&answer, err);
    client_free(client);
    client_answer_release(&answer);
    buf_release(&form);
    return rc;
}

/* Under another name until all of it is there: what bears the name is whole. */
static enum err_code to_file(const struct ask *a, struct export_run *r, struct err *err)
{
    char temp[4096];
    if ((size_t)snprintf(temp, sizeof(temp), "%s.part", a->output) >= sizeof(temp))
        return err_set(err, ERR_INVALID, "the name of the file is too long");
    r->to = fopen(temp, "wb");
    if (!r->to) return err_set_errno(err, errno, "%s", temp);
    enum err_code rc = ask_server(a, r, err);
    bool flushed = fflush(r->to) == 0 && fsync(fileno(r->to)) == 0;
    if (!rc && !flushed) rc = err_set_errno(err, errno, "%s", temp);
    if (fclose(r->to) != 0 && !rc) rc = err_set_errno(err, errno, "%s", temp);
    if (!rc && rename(temp, a->output) != 0) rc = err_set_errno(err, errno, "%s", a->output);
    if (rc) (void)remove(temp); /* a part is of no use; that it stays is no second error */
    return rc;
}

static enum err_code to_stdout(const struct ask *a, struct export_run *r, struct err *err)
{
    r->to = stdout;
    enum err_code rc = ask_server(a, r, err);
    if (!rc && fflush(stdout) != 0) rc = err_set_errno(err, errno, "standard output");
    return rc;
}

static enum err_code check(const struct ask *a, size_t n_args, struct err *err)
{
    if (n_args) return err_set(err, ERR_INVALID, "export takes options only");
    if (!a->server) return err_set(err, ERR_INVALID, "export wants --server URL");
    if (!a->n_match)
        return err_set(err, ERR_INVALID, "export wants --match SELECTOR (see quipu export --help)");
    return ERR_OK;
}

enum exit_code cmd_export(int argc, char **argv)
{
    struct ask a = {.n_match = 0};
    const char *match = NULL; /* for the help; cli_take_repeated has taken them */
    const struct cli_option options[] = {
        {"server", CLI_TEXT, &a.server, "URL", "of quipud", "QUIPU_SERVER"},
        {"tenant", CLI_TEXT, &a.tenant, "NAME", "whose series (default)", "QUIPU_TENANT"},
        {"match", CLI_TEXT, &match, "SELECTOR", "which series; may be given again for more", NULL},
        {"start", CLI_TEXT, &a.start, "TIME", "samples from here on (all)", NULL},
        {"end", CLI_TEXT, &a.end, "TIME", "up to here (all)", NULL},
        {"format", CLI_TEXT, &a.format, "NAME",
         "jsonl, which keeps every bit and native histograms; prometheus, openmetrics", NULL},
        {"output", CLI_TEXT, &a.output, "FILE", "instead of standard output", NULL}};
    const struct cli_command command = {
        .name = "export",
        .usage = "export --server URL --match SELECTOR [options]",
        .doc = "Writes the samples of series as lines of text, for quipu import and others.",
        .examples = "  quipu export --server http://127.0.0.1:9780 --match '{__name__!=\"\"}' \\\n"
                    "      --output all.jsonl\n"
                    "  quipu export --server http://127.0.0.1:9780 --match up --start now-1d \\\n"
                    "      --format openmetrics | gzip > up.om.gz\n",
        .options = options,
        .n_options = COUNT_OF(options)};
    struct err err;
    char *args[1];
    size_t n_args;
    bool helped = false;
    struct export_run r = {.to = NULL};
    enum err_code rc =
        cli_take_repeated(&argc, argv, "match", a.match, MATCH_MAX, &a.n_match, &err);
    if (!rc) rc = cli_parse(&command, argc, argv, args, COUNT_OF(args), &n_args, &helped, &err);
    if (!rc && helped) return EXIT_CODE_OK;
    if (!rc) rc = check(&a, n_args, &err);
    r.progress = a.output || !isatty(STDOUT_FILENO);
    if (!rc) rc = a.output ? to_file(&a, &r, &err) : to_stdout(&a, &r, &err);
    cli_progress_end();
    return rc ? cli_fail(&err) : EXIT_CODE_OK;
}
