/* tools/cmd_catalog.c: `quipu catalog rebuild`: a damaged or lost catalog is made anew. */
#include <inttypes.h>
#include <stdio.h>

#include "engine/rebuild.h"
#include "tools/bench.h"
#include "tools/cli.h"
#include "tools/cmd.h"
#include "tools/tool_env.h"

static const char *const event_texts[] = {
    [REBUILD_SNAPSHOT_BAD] = "DAMAGED snapshot",
    [REBUILD_SNAPSHOT_NONE] =
        "NO snapshot, so what only it knows is lost (see quipu catalog --help):",
    [REBUILD_TENANT_UNKNOWN] = "tenant not in the snapshot, from its blocks:",
    [REBUILD_BLOCK_ADDED] = "block not in the snapshot, from its footer:",
    [REBUILD_BLOCK_DAMAGED] = "DAMAGED block:",
    [REBUILD_BLOCK_GONE] = "MISSING: merged or removed since the snapshot, or lost: in",
    [REBUILD_FILE_IGNORED] = "left alone:",
};

static void on_finding(void *ctx, const struct rebuild_finding *f)
{
    (void)ctx;
    printf("%s %s%s%s\n", event_texts[f->event], f->file, *f->text ? ": " : "", f->text);
}

static enum err_code rebuild(const char *dir, struct rebuild_report *report, struct err *err)
{
    struct tool_env tool;
    enum err_code rc = tool_env_init(&tool, LOG_WARN, false, err);
    if (rc) return rc;
    rc = catalog_rebuild(&tool.env, dir, on_finding, NULL, report, err);
    tool_env_release(&tool);
    return rc;
}

enum exit_code cmd_catalog(int argc, char **argv)
{
    const char *dir = NULL;
    const struct cli_option options[] = {{"data-dir", CLI_TEXT, &dir, "DIR",
                                          "the data directory; no server may have it open", NULL}};
    const struct cli_command command = {
        .name = "catalog",
        .usage = "catalog rebuild --data-dir DIR",
        .doc = "Makes the catalog (catalog.sqlite) of a data directory anew: from the newest good\n"
               "snapshot beside it, and from the blocks that are there. The old one is kept as\n"
               "catalog.sqlite.damaged. What is lost is named; the log is replayed at the next "
               "start.\n"
               "Without a snapshot, tenants are told from their blocks; descriptions of metrics,\n"
               "deletions and tenants without blocks are lost.",
        .examples = "  quipu catalog rebuild --data-dir /var/lib/quipu\n",
        .options = options,
        .n_options = COUNT_OF(options)};
    struct err err;
    char *args[2];
    size_t n_args;
    bool helped;
    enum err_code rc =
        cli_parse(&command, argc, argv, args, COUNT_OF(args), &n_args, &helped, &err);
    if (!rc && helped) return EXIT_CODE_OK;
    if (!rc && (n_args != 1 || strcmp(args[0], "rebuild") != 0))
        rc = err_set(&err, ERR_INVALID, "catalog wants rebuild (see quipu catalog --help)");
    if (!rc && !dir) rc = err_set(&err, ERR_INVALID, "catalog rebuild wants --data-dir");
    struct rebuild_report report = {0};
    if (!rc) rc = rebuild(dir, &report, &err);
    if (rc) return cli_fail(&err);
    printf("rebuilt  %" PRIu64 " tenants, %" PRIu64 " blocks, %" PRIu64 " samples in blocks\n",
           report.tenants, report.blocks, report.samples);
    if (report.generation) printf("from     snapshot %" PRIu64 "\n", report.generation);
    printf("found    %" PRIu64 " blocks that the snapshot did not know, %" PRIu64
           " damaged, %" PRIu64 " missing\n",
           report.added, report.damaged, report.gone);
    return report.damaged || report.gone ? EXIT_CODE_CORRUPT : EXIT_CODE_OK;
}
