/* tools/cmd_compact.c: `quipu compact`: merges all blocks that can be merged, either in a data folder that no server has
 * open, or by a server, which is asked for it. Killing it costs what the merge at work has done, nothing else. */
#include <inttypes.h>
#include <stdio.h>

#include "query/matcher_regex.h"
#include "tools/admin_call.h"
#include "tools/bench.h"
#include "tools/cli.h"
#include "tools/cmd.h"
#include "tools/overrides.h"
#include "tools/tool_env.h"

struct ask {
    const char *server, *data_dir, *config_file, *tenant;
    int64_t retention_ms; /* -1: as the configuration says */
    uint64_t level;
    bool dry_run;
};

/* ---- the report ---- */

static void print_report(const struct ask *a, const struct engine_compact_report *r)
{
    char before[32], after[32], read[32], written[32], samples[32], duplicates[32];
    cli_human_bytes((double)r->bytes_before, before, sizeof(before));
    cli_human_bytes((double)r->bytes_after, after, sizeof(after));
    cli_human_bytes((double)r->bytes_read, read, sizeof(read));
    cli_human_bytes((double)r->bytes_written, written, sizeof(written));
    cli_human((double)r->samples, samples, sizeof(samples));
    cli_human((double)r->duplicates, duplicates, sizeof(duplicates));
    printf("before   %" PRIu64 " blocks, %s\n", r->blocks_before, before);
    if (a->dry_run) {
        printf("after    about %" PRIu64 " blocks, less than %s\n", r->blocks_after, after);
        printf("would do %" PRIu64 " merges of %s samples, reading %s\n", r->jobs, samples, read);
        return;
    }
    printf("after    %" PRIu64 " blocks, %s\n", r->blocks_after, after);
    printf("done     %" PRIu64 " merges in %.1f s, %s samples written, %s duplicates dropped\n",
           r->jobs, r->seconds, samples, duplicates);
    if (r->bytes_read) printf("         %s read, %s written\n", read, written);
}

/* ---- offline ---- */

struct offline {
    struct tool_env tool;
    struct config config;
    struct engine_config settings;
    struct engine_override *overrides;
};

#define PROGRESS_NS INT64_C(100000000)

/* Called after every series. */
static bool on_progress(void *ctx, const struct engine_compact_report *so_far, double done)
{
    char written[32];
    int64_t *shown_ns = ctx, now_ns = clock_mono_ns(clock_system());
    if (now_ns - *shown_ns < PROGRESS_NS) return true;
    *shown_ns = now_ns;
    cli_progress("merge %" PRIu64 ": %.0f %%; %s written", so_far->jobs + 1, done * 100,
                 cli_human_bytes((double)so_far->bytes_written, written, sizeof(written)));
    return true;
}

static enum err_code offline_init(struct offline *o, const struct ask *a, struct err *err)
{
    struct config_origin origin;
    config_defaults(&o->config, &origin);
    enum err_code rc = tool_env_init(&o->tool, LOG_WARN, false, err);
    if (!rc && a->config_file)
        rc = config_load(&o->config, &origin, o->tool.env.io, a->config_file, err);
    if (rc) return rc;
    const char *dir = a->data_dir ? a->data_dir : o->config.data_dir;
    /* The engine would make one. */
    if (!io_exists(o->tool.env.io, dir)) return err_set(err, ERR_NOT_FOUND, "no folder %s", dir);
    o->settings = engine_config_default(dir);
    o->settings.retention_ms = a->retention_ms >= 0 ? a->retention_ms : o->config.retention_ms;
    o->settings.retention_bytes = o->config.retention_bytes;
    o->settings.regex = matcher_regex();
    o->settings.flush_window_ms = o->config.head_window_ms;
    return overrides_make(&o->config, &o->settings, &o->overrides, err);
}

static enum err_code compact_offline(const struct ask *a, struct engine_compact_report *report,
                                     struct err *err)
{
    struct offline o = {.overrides = NULL};
    struct engine *engine = NULL;
    struct tenant *tenant = NULL;
    struct err ignored;
    enum err_code rc = offline_init(&o, a, err);
    if (!rc) rc = engine_open(&o.tool.env, &o.settings, &engine, err);
    if (!rc && a->tenant) rc = engine_tenant(engine, str_of(a->tenant), false, &tenant, err);
    if (!rc) {
        int64_t shown_ns = 0;
        struct engine_compact_options options = {.level = (uint32_t)a->level,
                                                 .dry_run = a->dry_run,
                                                 .progress = on_progress,
                                                 .ctx = &shown_ns};
        rc = engine_compact(engine, tenant, &options, report, err);
        cli_progress_end();
    }
    /* All is in blocks or in the log: nothing is left to be written. */
    if (engine) err_ignore(engine_close(engine, false, &ignored));
    mem_free(o.overrides);
    config_release(&o.config);
    tool_env_release(&o.tool);
    return rc;
}

/* ---- by a server ---- */

static enum err_code compact_online(const struct ask *a, struct engine_compact_report *report,
                                    struct err *err)
{
    char path[64];
    cJSON *root;
    snprintf(path, sizeof(path), "compact?level=%" PRIu64, a->level);
    enum err_code rc = admin_call(a->server, a->tenant, path, NULL, &root, err);
    if (rc) return rc;
    const cJSON *data = cJSON_GetObjectItem(root, "data"),
                *seconds = cJSON_GetObjectItem(data, "seconds");
    *report = (struct engine_compact_report){
        .jobs = admin_number(data, "compactions"),
        .samples = admin_number(data, "samples"),
        .duplicates = admin_number(data, "duplicatesDropped"),
        .bytes_before = admin_number(data, "bytesBefore"),
        .bytes_after = admin_number(data, "bytesAfter"),
        .blocks_before = admin_number(data, "blocksBefore"),
        .blocks_after = admin_number(data, "blocksAfter"),
        .seconds = cJSON_IsNumber(seconds) ? seconds->valuedouble : 0};
    cJSON_Delete(root);
    return ERR_OK;
}

/* ---- the command ---- */

static enum err_code check(const struct ask *a, size_t n_args, struct err *err)
{
    bool offline = a->data_dir || a->config_file || a->retention_ms >= 0 || a->dry_run;
    if (n_args) return err_set(err, ERR_INVALID, "compact takes options only");
    if (a->server && offline)
        return err_set(err, ERR_INVALID,
                       "--server excludes --data-dir, --config, --retention and --dry-run");
    if (!a->server && !a->data_dir && !a->config_file)
        return err_set(err, ERR_INVALID,
                       "compact wants --data-dir, --config or --server (see quipu compact --help)");
    if (a->level > 3) return err_set(err, ERR_INVALID, "--level is a number from 0 to 3");
    return ERR_OK;
}

enum exit_code cmd_compact(int argc, char **argv)
{
    struct ask a = {.retention_ms = -1};
    const struct cli_option options[] = {
        {"data-dir", CLI_TEXT, &a.data_dir, "DIR", "the folder; no server may have it open", NULL},
        {"config", CLI_TEXT, &a.config_file, "FILE",
         "the server's configuration: its folder, retention and tenants", NULL},
        {"retention", CLI_DURATION, &a.retention_ms, "TIME",
         "how long samples are kept, if no file says (15d): blocks are at most a tenth of it",
         NULL},
        {"server", CLI_TEXT, &a.server, "URL", "ask this server instead", NULL},
        {"tenant", CLI_TEXT, &a.tenant, "NAME", "this one only", "QUIPU_TENANT"},
        {"level", CLI_COUNT, &a.level, "N",
         "also merge what is not over yet: 1 the last two hours, 2 today, 3 all", NULL},
        {"dry-run", CLI_FLAG, &a.dry_run, NULL, "only say what would be done", NULL}};
    const struct cli_command command = {
        .name = "compact",
        .usage = "compact --data-dir DIR | --config FILE | --server URL [options]",
        .doc =
            "Merges blocks until nothing is left to be merged, as the server does by itself in "
            "the\n"
            "background, and reports their size before and after. Without --tenant: all tenants\n"
            "of a folder, or the tenant \"default\" of a server.",
        .examples = "  quipu compact --data-dir /var/lib/quipu --dry-run\n"
                    "  quipu compact --config /etc/quipu.yml --level 3\n"
                    "  quipu compact --server http://127.0.0.1:9780 --tenant acme\n",
        .options = options,
        .n_options = COUNT_OF(options)};
    struct err err;
    char *args[1];
    size_t n_args;
    bool helped;
    enum err_code rc =
        cli_parse(&command, argc, argv, args, COUNT_OF(args), &n_args, &helped, &err);
    if (!rc && helped) return EXIT_CODE_OK;
    if (!rc) rc = check(&a, n_args, &err);
    struct engine_compact_report report = {0};
    if (!rc) rc = a.server ? compact_online(&a, &report, &err) : compact_offline(&a, &report, &err);
    if (rc) return cli_fail(&err);
    print_report(&a, &report);
    return EXIT_CODE_OK;
}
