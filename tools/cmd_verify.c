/* tools/cmd_verify.c: `quipu verify`: is everything what was written? A data directory that no server has open, or the
 * blocks of a running server, which is asked for it. Changes nothing. */
#include <inttypes.h>
#include <stdio.h>

#include "engine/verify.h"
#include "tools/admin_call.h"
#include "tools/bench.h"
#include "tools/cli.h"
#include "tools/cmd.h"
#include "tools/tool_env.h"
#include "tools/verify_backup.h"

#define PROGRESS_NS INT64_C(100000000)
#define THREADS 2

struct ask {
    const char *dir, *server, *tenant;
    uint64_t threads;
    bool json;
};

struct shown {
    const struct ask *ask;
    cJSON *findings;
    int64_t progress_ns;
    int64_t begun_ns;
};

static const char *kind_name(enum verify_kind kind)
{
    static const char *const names[] = {
        [VERIFY_DAMAGE] = "damage", [VERIFY_UNREADABLE] = "unreadable", [VERIFY_NOTE] = "note"};
    return names[kind];
}

static void print_finding(const struct verify_finding *f)
{
    static const char *const words[] = {
        [VERIFY_DAMAGE] = "BAD", [VERIFY_UNREADABLE] = "UNREADABLE", [VERIFY_NOTE] = "note"};
    cli_progress_end();
    printf("%s: %s", words[f->kind], f->file);
    if (*f->section) printf(", %s", f->section);
    if (f->has_off) printf(", offset %" PRIu64, f->off);
    printf(": %s\n", f->text);
}

static void add_finding(cJSON *findings, const struct verify_finding *f)
{
    cJSON *item = cJSON_CreateObject();
    cJSON_AddStringToObject(item, "kind", kind_name(f->kind));
    cJSON_AddStringToObject(item, "file", f->file);
    if (*f->section) cJSON_AddStringToObject(item, "section", f->section);
    if (f->has_off) cJSON_AddNumberToObject(item, "offset", (double)f->off);
    cJSON_AddStringToObject(item, "text", f->text);
    cJSON_AddItemToArray(findings, item);
}

static void on_finding(void *ctx, const struct verify_finding *f)
{
    struct shown *s = ctx;
    if (s->ask->json)
        add_finding(s->findings, f);
    else
        print_finding(f);
}

static bool on_progress(void *ctx, const struct verify_totals *t, uint64_t bytes_all)
{
    struct shown *s = ctx;
    char bytes[32], all[32];
    int64_t now_ns = clock_mono_ns(clock_system());
    if (now_ns - s->progress_ns < PROGRESS_NS) return true;
    s->progress_ns = now_ns;
    cli_progress("%s of %s, %" PRIu64 " blocks, %" PRIu64 " bad places",
                 cli_human_bytes((double)t->bytes, bytes, sizeof(bytes)),
                 cli_human_bytes((double)bytes_all, all, sizeof(all)), t->blocks,
                 t->damaged + t->unreadable);
    return true;
}

/* ---- a directory ---- */

static enum err_code verify_offline(struct shown *s, struct verify_totals *totals, struct err *err)
{
    struct tool_env tool;
    enum err_code rc = tool_env_init(&tool, LOG_OFF, true, err);
    if (rc) return rc;
    struct verify_options options = {.n_threads =
                                         s->ask->threads ? (size_t)s->ask->threads : THREADS,
                                     .fn = on_finding,
                                     .progress = on_progress,
                                     .ctx = s};
    rc = backup_dir_is(tool.env.io, s->ask->dir)
             ? verify_backups(&tool.env, s->ask->dir, &options, totals, err)
             : verify_data_dir(&tool.env, s->ask->dir, &options, totals, err);
    if (rc == ERR_BUSY) err_context(err, "use --server to verify the blocks of a running server");
    cli_progress_end();
    tool_env_release(&tool);
    return rc;
}

/* ---- a server ---- */

static const char *text_of(const cJSON *item, const char *name)
{
    const cJSON *text = cJSON_GetObjectItem(item, name);
    return cJSON_IsString(text) ? text->valuestring : "";
}

static void take_findings(struct shown *s, const cJSON *data)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItem(data, "findings"))
    {
        const char *kind = text_of(item, "kind");
        struct verify_finding f = {.kind = strcmp(kind, "note") == 0     ? VERIFY_NOTE
                                           : strcmp(kind, "damage") == 0 ? VERIFY_DAMAGE
                                                                         : VERIFY_UNREADABLE,
                                   .file = text_of(item, "file"),
                                   .section = text_of(item, "section"),
                                   .has_off = cJSON_HasObjectItem(item, "offset"),
                                   .off = admin_number(item, "offset"),
                                   .text = text_of(item, "text")};
        on_finding(s, &f);
    }
}

static enum err_code verify_online(struct shown *s, struct verify_totals *totals, struct err *err)
{
    cJSON *root;
    enum err_code rc = admin_call(s->ask->server, s->ask->tenant, "verify", NULL, &root, err);
    if (rc) return rc;
    const cJSON *data = cJSON_GetObjectItem(root, "data");
    *totals = (struct verify_totals){.files = admin_number(data, "blocks"),
                                     .bytes = admin_number(data, "bytes"),
                                     .blocks = admin_number(data, "blocks"),
                                     .samples = admin_number(data, "samples"),
                                     .damaged = admin_number(data, "damaged"),
                                     .unreadable = admin_number(data, "unreadable"),
                                     .notes = admin_number(data, "notes")};
    take_findings(s, data);
    cJSON_Delete(root);
    return ERR_OK;
}

/* ---- the report ---- */

static const char *verdict(const struct verify_totals *t)
{
    return t->damaged ? "damaged" : t->unreadable ? "unreadable" : "good";
}

static void print_text(const struct verify_totals *t, double seconds)
{
    char bytes[32], samples[32];
    printf("%s: %" PRIu64 " files, %s, %" PRIu64 " blocks with %s samples, %" PRIu64
           " records of the log in %.1f s\n",
           verdict(t), t->files, cli_human_bytes((double)t->bytes, bytes, sizeof(bytes)), t->blocks,
           cli_human((double)t->samples, samples, sizeof(samples)), t->records, seconds);
    if (t->damaged + t->unreadable)
        printf("%" PRIu64 " bad places, %" PRIu64 " that could not be read\n", t->damaged,
               t->unreadable);
}

static void print_json(struct shown *s, const struct verify_totals *t, double seconds)
{
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "status", verdict(t));
    cJSON_AddNumberToObject(root, "files", (double)t->files);
    cJSON_AddNumberToObject(root, "bytes", (double)t->bytes);
    cJSON_AddNumberToObject(root, "blocks", (double)t->blocks);
    cJSON_AddNumberToObject(root, "samples", (double)t->samples);
    cJSON_AddNumberToObject(root, "walSegments", (double)t->segments);
    cJSON_AddNumberToObject(root, "walRecords", (double)t->records);
    cJSON_AddNumberToObject(root, "damaged", (double)t->damaged);
    cJSON_AddNumberToObject(root, "unreadable", (double)t->unreadable);
    cJSON_AddNumberToObject(root, "notes", (double)t->notes);
    cJSON_AddNumberToObject(root, "seconds", seconds);
    cJSON_AddItemToObject(root, "findings", s->findings);
    s->findings = NULL;
    char *text = cJSON_Print(root);
    if (text) puts(text);
    cJSON_free(text);
    cJSON_Delete(root);
}

static enum err_code check(const struct ask *a, size_t n_args, struct err *err)
{
    if (n_args > 1 || (n_args == 1) == (a->server != NULL))
        return err_set(err, ERR_INVALID,
                       "verify wants a directory or --server (see quipu verify --help)");
    if (a->threads > 64) return err_set(err, ERR_INVALID, "--threads is a number up to 64");
    return ERR_OK;
}

enum exit_code cmd_verify(int argc, char **argv)
{
    struct ask a = {.dir = NULL};
    const struct cli_option options[] = {
        {"server", CLI_TEXT, &a.server, "URL", "the blocks of this running server instead", NULL},
        {"tenant", CLI_TEXT, &a.tenant, "NAME",
         "of the server's tenants this one; a directory is verified whole", "QUIPU_TENANT"},
        {"threads", CLI_COUNT, &a.threads, "N", "files that are read at a time (2)", NULL},
        {"json", CLI_FLAG, &a.json, NULL, "the report as JSON", NULL}};
    const struct cli_command command = {
        .name = "verify",
        .usage = "verify DIR | --server URL [options]",
        .doc = "Reads everything and checks it: every checksum, catalog against files, order of\n"
               "series and samples, indexes against chunks, the log record by record. Names each\n"
               "bad place by file, section and offset. Changes nothing. DIR is a data directory, "
               "or a\n"
               "folder of backups, of which every file is compared with its SHA-256, too.\n\n"
               "Exit codes: 0 good, 6 damage, 4 something could not be read, 3 a server has the\n"
               "directory open, 2 wrong usage. A torn end of the log, as a crash leaves it, is a\n"
               "note, not damage.",
        .examples = "  quipu verify /var/lib/quipu\n"
                    "  quipu verify --json /var/backups/quipu\n"
                    "  quipu verify --server http://127.0.0.1:9780 --tenant acme\n",
        .options = options,
        .n_options = COUNT_OF(options)};
    struct err err;
    char *args[2];
    size_t n_args;
    bool helped;
    enum err_code rc =
        cli_parse(&command, argc, argv, args, COUNT_OF(args), &n_args, &helped, &err);
    if (!rc && helped) return EXIT_CODE_OK;
    if (!rc) rc = check(&a, n_args, &err);
    if (rc) return cli_fail(&err);
    a.dir = n_args ? args[0] : NULL;
    struct shown s = {
        .ask = &a, .findings = cJSON_CreateArray(), .begun_ns = clock_mono_ns(clock_system())};
    struct verify_totals totals = {0};
    rc = a.server ? verify_online(&s, &totals, &err) : verify_offline(&s, &totals, &err);
    double seconds = (double)(clock_mono_ns(clock_system()) - s.begun_ns) / 1e9;
    if (!rc && a.json)
        print_json(&s, &totals, seconds);
    else if (!rc)
        print_text(&totals, seconds);
    cJSON_Delete(s.findings);
    if (rc) return cli_fail(&err);
    return totals.damaged ? EXIT_CODE_CORRUPT : totals.unreadable ? EXIT_CODE_IO : EXIT_CODE_OK;
}
