/* tools/cmd_delete.c: `quipu delete`: deletes series, or says what would go; `quipu tenant delete`: a whole tenant. Both
 * ask a server. */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>

#include "engine/tenant_header.h"
#include "tools/bench.h"
#include "tools/cli.h"
#include "tools/client.h"
#include "tools/cmd.h"

#define MATCH_MAX 256

struct ask {
    const char *server, *tenant, *start, *end;
    const char *match[MATCH_MAX];
    size_t n_match;
    bool dry_run, clean;
};

/* ---- asking ---- */

/* POSTs to a path behind /api/v1/admin/tsdb/. */
static enum err_code ask_server(const struct ask *a, const char *path, const struct buf *form,
                                struct client_answer *answer, struct err *err)
{
    char url[1024], tenant[256];
    const char *headers[] = {NULL, NULL};
    struct str base = str_of(a->server);
    while (base.len && base.p[base.len - 1] == '/') base.len--;
    snprintf(url, sizeof(url), "%.*s/api/v1/admin/tsdb/%s", STR_ARG(base), path);
    if (a->tenant) {
        snprintf(tenant, sizeof(tenant), TENANT_HEADER ": %s", a->tenant);
        headers[0] = tenant;
    }
    struct client *client = NULL;
    struct bytes body = buf_bytes(form);
    enum err_code rc = buf_finish(form, err);
    if (!rc) rc = client_global_init(err);
    if (!rc) rc = client_new(headers, 0, &client, err); /* it takes what it takes */
    if (!rc) rc = client_ask(client, url, &body, answer, err);
    client_free(client);
    return rc;
}

/* The answer's data, or NULL where there is none to be (204). */
static enum err_code read_answer(const struct client_answer *answer, cJSON **root, struct err *err)
{
    struct str body = str_from_bytes(buf_bytes(&answer->body));
    *root = NULL;
    if (answer->status == 204) return ERR_OK;
    *root = cJSON_ParseWithLength(body.len ? body.p : "", body.len);
    const cJSON *text = cJSON_GetObjectItem(*root, "error");
    if (answer->status == 200 && cJSON_GetObjectItem(*root, "data")) return ERR_OK;
    if (cJSON_IsString(text)) body = str_of(text->valuestring);
    body.len = MIN_OF(body.len, (size_t)500);
    enum err_code code = answer->status == 400 ? ERR_INVALID : ERR_EXECUTION;
    return err_set(err, code, "the server says %u: %.*s", answer->status, STR_ARG(body));
}

static uint64_t number_of(const cJSON *root, const char *name)
{
    const cJSON *item = cJSON_GetObjectItem(cJSON_GetObjectItem(root, "data"), name);
    return cJSON_IsNumber(item) && item->valuedouble >= 0 && item->valuedouble < 1e18
               ? (uint64_t)item->valuedouble
               : 0;
}

static enum err_code post(const struct ask *a, const char *path, const struct buf *form,
                          cJSON **root, struct err *err)
{
    struct client_answer answer;
    client_answer_init(&answer);
    cli_progress("waiting for %s", a->server);
    enum err_code rc = ask_server(a, path, form, &answer, err);
    cli_progress_end();
    *root = NULL;
    if (!rc) rc = read_answer(&answer, root, err);
    client_answer_release(&answer);
    return rc;
}

/* ---- quipu delete ---- */

static enum err_code put_time(struct buf *form, const char *name, const char *text, int64_t now_ms,
                              struct err *err)
{
    char seconds[32];
    int64_t t_ms;
    if (!text) return ERR_OK;
    enum err_code rc = cli_parse_time(str_of(text), now_ms, &t_ms, err);
    if (rc) return err_context(err, "--%s", name);
    snprintf(seconds, sizeof(seconds), "%.3f", (double)t_ms / 1000);
    client_param(form, name, str_of(seconds));
    return ERR_OK;
}

static enum err_code delete_series(const struct ask *a, cJSON **root, struct err *err)
{
    struct buf form;
    int64_t now_ms = clock_wall_ms(clock_system());
    buf_init(&form, MEM_TOOLS);
    for (size_t i = 0; i < a->n_match; i++) client_param(&form, "match[]", str_of(a->match[i]));
    enum err_code rc = put_time(&form, "start", a->start, now_ms, err);
    if (!rc) rc = put_time(&form, "end", a->end, now_ms, err);
    if (a->dry_run) client_param(&form, "dry_run", STR("true"));
    *root = NULL;
    if (!rc) rc = post(a, "delete_series", &form, root, err);
    buf_release(&form);
    return rc;
}

static enum err_code clean_tombstones(const struct ask *a, cJSON **root, struct err *err)
{
    struct buf form;
    buf_init(&form, MEM_TOOLS);
    enum err_code rc = post(a, "clean_tombstones", &form, root, err);
    buf_release(&form);
    return rc;
}

/* Takes --match out of the arguments, as it may come several times. */
static enum err_code take_matches(struct ask *a, int *argc, char **argv, struct err *err)
{
    int to = 1;
    for (int i = 1; i < *argc; i++) {
        struct str arg = str_of(argv[i]);
        const char *value = NULL;
        if (str_has_prefix(arg, STR("--match=")))
            value = argv[i] + strlen("--match=");
        else if (str_eq(arg, STR("--match")) && i + 1 < *argc)
            value = argv[++i];
        if (!value) {
            argv[to++] = argv[i];
            continue;
        }
        if (a->n_match == MATCH_MAX)
            return err_set(err, ERR_INVALID, "more than %d times --match", MATCH_MAX);
        a->match[a->n_match++] = value;
    }
    *argc = to;
    return ERR_OK;
}

static enum err_code check(const struct ask *a, size_t n_args, struct err *err)
{
    if (n_args) return err_set(err, ERR_INVALID, "delete takes options only");
    if (!a->server) return err_set(err, ERR_INVALID, "delete wants --server URL");
    if (a->clean && (a->n_match || a->start || a->end || a->dry_run))
        return err_set(err, ERR_INVALID, "--clean stands alone");
    if (!a->clean && !a->n_match)
        return err_set(err, ERR_INVALID, "delete wants --match SELECTOR (see quipu delete --help)");
    return ERR_OK;
}

static void report(const struct ask *a, const cJSON *root)
{
    if (a->clean)
        printf("cleaned: what was deleted is removed from all files\n");
    else if (a->dry_run)
        printf("would delete %" PRIu64 " samples of %" PRIu64 " series\n",
               number_of(root, "samples"), number_of(root, "series"));
    else
        printf("deleted\n");
}

enum exit_code cmd_delete(int argc, char **argv)
{
    struct ask a = {.n_match = 0};
    const char *match = NULL; /* for the help; take_matches has taken them */
    const struct cli_option options[] = {
        {"server", CLI_TEXT, &a.server, "URL", "of quipud", "QUIPU_SERVER"},
        {"tenant", CLI_TEXT, &a.tenant, "NAME", "whose series (default)", "QUIPU_TENANT"},
        {"match", CLI_TEXT, &match, "SELECTOR", "which series; may be given again for more", NULL},
        {"start", CLI_TEXT, &a.start, "TIME", "samples from here on (all)", NULL},
        {"end", CLI_TEXT, &a.end, "TIME", "up to here (now; never later)", NULL},
        {"dry-run", CLI_FLAG, &a.dry_run, NULL, "only say how much would go", NULL},
        {"clean", CLI_FLAG, &a.clean, NULL,
         "remove what was deleted from all files now, and accept such samples again", NULL}};
    const struct cli_command command = {
        .name = "delete",
        .usage = "delete --server URL --match SELECTOR [options]",
        .doc = "Deletes samples of series. They are gone from every answer at once and for good,\n"
               "also those that arrive late; their bytes go by and by (--clean: now).",
        .examples = "  quipu delete --server http://127.0.0.1:9780 --match 'up{job=\"test\"}' "
                    "--dry-run\n"
                    "  quipu delete --server http://127.0.0.1:9780 --match '{user=\"4711\"}'\n"
                    "  quipu delete --server http://127.0.0.1:9780 --clean\n",
        .options = options,
        .n_options = COUNT_OF(options)};
    struct err err;
    char *args[1];
    size_t n_args;
    bool helped = false;
    cJSON *root = NULL;
    enum err_code rc = take_matches(&a, &argc, argv, &err);
    if (!rc) rc = cli_parse(&command, argc, argv, args, COUNT_OF(args), &n_args, &helped, &err);
    if (!rc && helped) return EXIT_CODE_OK;
    if (!rc) rc = check(&a, n_args, &err);
    if (!rc) rc = a.clean ? clean_tombstones(&a, &root, &err) : delete_series(&a, &root, &err);
    if (!rc) report(&a, root);
    cJSON_Delete(root);
    return rc ? cli_fail(&err) : EXIT_CODE_OK;
}

/* ---- quipu tenant delete ---- */

static enum err_code delete_tenant(const struct ask *a, const char *name, struct err *err)
{
    struct buf form;
    cJSON *root = NULL;
    char bytes[32];
    buf_init(&form, MEM_TOOLS);
    client_param(&form, "name", str_of(name));
    enum err_code rc = post(a, "delete_tenant", &form, &root, err);
    if (!rc)
        printf(
            "deleted tenant %s: %" PRIu64 " series, %" PRIu64 " samples, %" PRIu64 " blocks, %s\n",
            name, number_of(root, "series"), number_of(root, "samples"), number_of(root, "blocks"),
            cli_human_bytes((double)number_of(root, "bytes"), bytes, sizeof(bytes)));
    cJSON_Delete(root);
    buf_release(&form);
    return rc;
}

enum exit_code cmd_tenant(int argc, char **argv)
{
    struct ask a = {.n_match = 0};
    const struct cli_option options[] = {
        {"server", CLI_TEXT, &a.server, "URL", "of quipud", "QUIPU_SERVER"}};
    const struct cli_command command = {
        .name = "tenant",
        .usage = "tenant delete NAME --server URL",
        .doc = "Deletes a tenant and all it has, at once and for good. Its name may be used again.",
        .examples = "  quipu tenant delete acme --server http://127.0.0.1:9780\n",
        .options = options,
        .n_options = COUNT_OF(options)};
    struct err err;
    char *args[2];
    size_t n_args;
    bool helped;
    enum err_code rc =
        cli_parse(&command, argc, argv, args, COUNT_OF(args), &n_args, &helped, &err);
    if (!rc && helped) return EXIT_CODE_OK;
    if (!rc && (n_args != 2 || strcmp(args[0], "delete") != 0))
        rc = err_set(&err, ERR_INVALID, "usage: quipu tenant delete NAME --server URL");
    if (!rc && !a.server) rc = err_set(&err, ERR_INVALID, "tenant wants --server URL");
    if (!rc) rc = delete_tenant(&a, args[1], &err);
    return rc ? cli_fail(&err) : EXIT_CODE_OK;
}
