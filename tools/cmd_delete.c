/* tools/cmd_delete.c: `quipu delete`: deletes series, or says what would go; `quipu tenant delete`: a whole tenant. Both
 * ask a server. */
#include <inttypes.h>
#include <stdio.h>

#include "tools/admin_call.h"
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

/* ---- quipu delete ---- */

static enum err_code delete_series(const struct ask *a, cJSON **root, struct err *err)
{
    struct buf form;
    buf_init(&form, MEM_TOOLS);
    for (size_t i = 0; i < a->n_match; i++) client_param(&form, "match[]", str_of(a->match[i]));
    enum err_code rc = client_param_time(&form, "start", a->start, err);
    if (!rc) rc = client_param_time(&form, "end", a->end, err);
    if (a->dry_run) client_param(&form, "dry_run", STR("true"));
    *root = NULL;
    if (!rc) rc = admin_call(a->server, a->tenant, "delete_series", &form, root, err);
    buf_release(&form);
    return rc;
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
               admin_number(cJSON_GetObjectItem(root, "data"), "samples"),
               admin_number(cJSON_GetObjectItem(root, "data"), "series"));
    else
        printf("deleted\n");
}

enum exit_code cmd_delete(int argc, char **argv)
{
    struct ask a = {.n_match = 0};
    const char *match = NULL; /* for the help; cli_take_repeated has taken them */
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
    enum err_code rc =
        cli_take_repeated(&argc, argv, "match", a.match, MATCH_MAX, &a.n_match, &err);
    if (!rc) rc = cli_parse(&command, argc, argv, args, COUNT_OF(args), &n_args, &helped, &err);
    if (!rc && helped) return EXIT_CODE_OK;
    if (!rc) rc = check(&a, n_args, &err);
    if (!rc)
        rc = a.clean ? admin_call(a.server, a.tenant, "clean_tombstones", NULL, &root, &err)
                     : delete_series(&a, &root, &err);
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
    enum err_code rc = admin_call(a->server, NULL, "delete_tenant", &form, &root, err);
    const cJSON *data = cJSON_GetObjectItem(root, "data");
    if (!rc)
        printf("deleted tenant %s: %" PRIu64 " series, %" PRIu64 " samples, %" PRIu64
               " blocks, %s\n",
               name, admin_number(data, "series"), admin_number(data, "samples"),
               admin_number(data, "blocks"),
               cli_human_bytes((double)admin_number(data, "bytes"), bytes, sizeof(bytes)));
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
