/* tools/cmd_restore.c: `quipu restore`: a data folder out of a backup.
 *
 * All of it is made under another name, every file compared with its SHA-256, and gets its own name last: what an
 * interrupted restore leaves is DIR.restoring, which no server opens by mistake. */
#include <inttypes.h>
#include <stdio.h>

#include "base/file_copy.h"
#include "engine/backup.h"
#include "query/matcher_regex.h"
#include "tools/backup_store.h"
#include "tools/bench.h"
#include "tools/cli.h"
#include "tools/cmd.h"
#include "tools/tool_env.h"
#include "wal/archive.h"
#include "wal/record.h"

#define PROGRESS_NS INT64_C(100000000)
#define UNFINISHED_LOCK "RESTORING"

struct ask {
    const char *from, *data_dir, *tenant, *until, *archive;
    bool force, quiet, json;
};

struct job {
    const struct ask *ask;
    struct tool_env tool;
    struct backup_store store;
    const struct backup *backup;
    struct sha256 *sha;
    struct file *lock; /* of the unfinished folder */
    char dir[IO_PATH_BYTES], temp[IO_PATH_BYTES];
    int64_t until_ms;                /* INT64_MAX: all */
    bool by_sample_time;             /* --until without an archive */
    struct wal_extend_report extend; /* from the archive */
    int64_t last_ms;                 /* arrival of the last record kept; INT64_MIN: not known */
    uint64_t incarnation;            /* of --tenant */
    uint64_t files, bytes, bytes_all;
    int64_t begun_ns, shown_ns;
    char replaced[IO_PATH_BYTES]; /* "": nothing was there */
};

static const char *time_text(int64_t t_ms, char out[BACKUP_NAME_BYTES])
{
    backup_name(t_ms, out);
    return out;
}

/* ---- which backup ---- */

/* --from may name one backup or a folder of them. */
static enum err_code open_store(struct job *j, const char **only, struct err *err)
{
    char path[IO_PATH_BYTES], parent[IO_PATH_BYTES];
    static char name[IO_PATH_BYTES];
    *only = NULL;
    snprintf(name, sizeof(name), "%s", j->ask->from);
    size_t len = strlen(name);
    while (len > 1 && name[len - 1] == '/') name[--len] = 0;
    enum err_code rc = io_path(path, sizeof(path), err, name, MANIFEST_NAME);
    if (rc) return rc;
    if (!io_exists(j->tool.env.io, path))
        return store_open_to_read(&j->store, j->tool.env.io, name, err);
    rc = io_parent(parent, sizeof(parent), err, name);
    const char *slash = strrchr(name, '/');
    *only = slash ? slash + 1 : name;
    return rc ? rc : store_open_to_read(&j->store, j->tool.env.io, parent, err);
}

/* With an archive, the newest that is not beyond the time, as the log brings the rest; by time of samples, the oldest
 * that is beyond it, for samples are late at times. */
static const struct backup *choose(const struct job *j)
{
    const struct backup *best = NULL;
    for (size_t i = 0; i < j->store.n; i++) {
        const struct backup *b = &j->store.items[i];
        bool beyond = b->manifest.moment_ms > j->until_ms;
        if (j->by_sample_time && beyond) return b;
        if (!beyond || j->by_sample_time) best = b;
    }
    return best;
}

static enum err_code find_backup(struct job *j, struct err *err)
{
    const char *only;
    char until[BACKUP_NAME_BYTES];
    enum err_code rc = open_store(j, &only, err);
    if (rc) return rc;
    for (size_t i = 0; only && i < j->store.n; i++)
        if (strcmp(j->store.items[i].name, only) == 0) j->backup = &j->store.items[i];
    if (!only) j->backup = choose(j);
    if (j->store.n == 0)
        return err_set(err, ERR_NOT_FOUND, "no complete backup in %s", j->ask->from);
    if (!j->backup || (j->ask->archive && j->backup->manifest.moment_ms > j->until_ms))
        return err_set(err, ERR_NOT_FOUND, "%s has no backup of %s or before", j->ask->from,
                       time_text(j->until_ms, until));
    return ERR_OK;
}

/* ---- where to ---- */

struct content {
    bool any;
};

static bool note_content(void *ctx, const char *name, bool is_dir)
{
    struct content *c = ctx;
    (void)is_dir;
    c->any = strcmp(name, "LOCK") != 0 && strcmp(name, "lost+found") != 0;
    return !c->any;
}

/* A server has it open, or it holds something that --force must be asked for. */
static enum err_code check_target(struct job *j, struct err *err)
{
    char path[IO_PATH_BYTES];
    struct io *io = j->tool.env.io;
    struct content content = {false};
    struct file *lock = NULL;
    if (!io_exists(io, j->dir)) return ERR_OK;
    enum err_code rc = io_path(path, sizeof(path), err, j->dir, "LOCK");
    if (!rc && io_exists(io, path)) {
        rc = io_open(io, path, IO_READ | IO_WRITE, &lock, err);
        if (!rc) rc = file_lock(lock, err);
        file_close(lock);
        if (rc == ERR_BUSY) err_context(err, "a server has %s open", j->dir);
    }
    if (!rc) rc = io_list(io, j->dir, note_content, &content, err);
    if (!rc && content.any && !j->ask->force)
        rc = err_set(err, ERR_EXISTS,
                     "%s is not empty; with --force it is set aside under another name", j->dir);
    return rc;
}

static enum err_code begin_temp(struct job *j, struct err *err)
{
    char path[IO_PATH_BYTES];
    struct io *io = j->tool.env.io;
    int n = snprintf(j->temp, sizeof(j->temp), "%s.restoring", j->dir);
    if (n < 0 || (size_t)n >= sizeof(j->temp)) return err_set(err, ERR_LIMIT, "a path is too long");
    enum err_code rc = io_path(path, sizeof(path), err, j->temp, UNFINISHED_LOCK);
    for (int round = 0; !rc && round < 2; round++) { /* an earlier one's leftovers, then ours */
        if (round == 0 && !io_exists(io, j->temp)) continue;
        rc = io_mkdir_all(io, j->temp, err);
        if (!rc) rc = io_open(io, path, IO_READ | IO_WRITE | IO_CREATE, &j->lock, err);
        if (!rc) rc = file_lock(j->lock, err);
        if (rc == ERR_BUSY) err_context(err, "another restore to %s is at work", j->dir);
        if (rc || round) break;
        rc = file_remove_tree(io, j->temp, err);
        file_close(j->lock);
        j->lock = NULL;
    }
    return rc;
}

/* ---- files ---- */

static enum err_code on_part(void *ctx, struct bytes part, struct err *err)
{
    struct job *j = ctx;
    char done[32], all[32], rate[32];
    int64_t now_ns = clock_mono_ns(j->tool.env.clock);
    j->bytes += part.len;
    if (!j->ask->quiet && now_ns - j->shown_ns >= PROGRESS_NS) {
        double per_second = (double)j->bytes * 1e9 / (double)(now_ns - j->begun_ns + 1);
        j->shown_ns = now_ns;
        cli_progress("%s of %s, %s/s, %.0f s left",
                     cli_human_bytes((double)j->bytes, done, sizeof(done)),
                     cli_human_bytes((double)j->bytes_all, all, sizeof(all)),
                     cli_human_bytes(per_second, rate, sizeof(rate)),
                     (double)(j->bytes_all - MIN_OF(j->bytes, j->bytes_all)) / (per_second + 1));
    }
    return sha256_add(j->sha, part, err);
}

static bool is_wanted(const struct job *j, const struct manifest_file *f)
{
    return !f->shared || !j->ask->tenant || str_eq(f->tenant, str_of(j->ask->tenant));
}

static enum err_code restore_file(struct job *j, const struct manifest_file *f, struct err *err)
{
    char from[IO_PATH_BYTES], to[IO_PATH_BYTES], parent[IO_PATH_BYTES], sha[SHA256_HEX_BYTES];
    uint64_t begun = j->bytes;
    int n = snprintf(to, sizeof(to), "%s/%.*s", j->temp, STR_ARG(f->path));
    if (n < 0 || (size_t)n >= sizeof(to)) return err_set(err, ERR_LIMIT, "a path is too long");
    enum err_code rc = store_file_path(&j->store, j->backup, f, from, err);
    if (!rc) rc = io_parent(parent, sizeof(parent), err, to);
    if (!rc) rc = io_mkdir_all(j->tool.env.io, parent, err);
    if (!rc) rc = sha256_begin(j->sha, err);
    if (!rc) rc = file_copy(j->tool.env.io, from, to, UINT64_MAX, on_part, j, err);
    if (!rc) rc = sha256_end(j->sha, sha, err);
    if (!rc && (j->bytes - begun != f->bytes || strcmp(sha, f->sha256) != 0)) {
        err_set(err, ERR_CORRUPT,
                "the backup is damaged: %" PRIu64 " bytes of SHA-256 %s, the manifest says %" PRIu64
                " of %s",
                j->bytes - begun, sha, f->bytes, f->sha256);
        rc = err_at(err, from, 0);
    }
    if (rc == ERR_NOT_FOUND) {
        err_set(err, ERR_CORRUPT, "the backup is damaged: a file is missing");
        rc = err_at(err, from, 0);
    }
    j->files++;
    return rc;
}

static enum err_code restore_files(struct job *j, struct err *err)
{
    const struct manifest *m = &j->backup->manifest;
    enum err_code rc = ERR_OK;
    for (size_t i = 0; i < m->n; i++)
        if (is_wanted(j, &m->files[i])) j->bytes_all += m->files[i].bytes;
    for (size_t i = 0; !rc && i < m->n; i++)
        if (is_wanted(j, &m->files[i])) rc = restore_file(j, &m->files[i], err);
    return rc;
}

/* ---- one tenant alone ---- */

struct others {
    struct job *job;
    struct catalog *catalog;
};

static enum err_code drop_other(void *ctx, const struct catalog_tenant *row, struct err *err)
{
    struct others *o = ctx;
    if (str_eq(row->name, str_of(o->job->ask->tenant))) {
        o->job->incarnation = row->incarnation;
        return ERR_OK;
    }
    enum err_code rc = catalog_delete_tenant(o->catalog, row->incarnation,
                                             clock_wall_ms(o->job->tool.env.clock), err);
    return rc ? rc : catalog_files_gone(o->catalog, row->incarnation, err);
}

static enum err_code keep_tenant(struct job *j, struct err *err)
{
    char wal[IO_PATH_BYTES];
    struct others others = {.job = j};
    enum err_code rc = catalog_open(&j->tool.env, j->temp, &others.catalog, err);
    if (rc) return rc;
    rc = catalog_tenants(others.catalog, drop_other, &others, err);
    catalog_close(others.catalog);
    if (!rc && !j->incarnation)
        rc = err_set(err, ERR_NOT_FOUND, "backup %s has no tenant %s", j->backup->name,
                     j->ask->tenant);
    if (!rc) rc = io_path(wal, sizeof(wal), err, j->temp, "wal");
    return rc ? rc : wal_keep_tenant(j->tool.env.io, wal, j->incarnation, err);
}

/* ---- up to a time ---- */

/* One that came to be after the backup. Its files, if it had any, came to be later still. */
static enum err_code add_tenant(void *ctx, const struct wal_tenant *t, struct err *err)
{
    struct catalog_tenant row = {.name = t->name,
                                 .incarnation = t->incarnation,
                                 .next_sequence = 1,
                                 .created_ms = t->created_ms};
    enum err_code rc = tenant_name_check(t->name, err);
    if (!rc) rc = catalog_put_tenant(ctx, &row, err);
    return rc == ERR_EXISTS ? ERR_OK : rc; /* the backup has it */
}

static enum err_code add_tenants(struct job *j, const char *wal, struct err *err)
{
    struct catalog *catalog;
    enum err_code rc = catalog_open(&j->tool.env, j->temp, &catalog, err);
    if (rc) return rc;
    rc = wal_each_tenant(j->tool.env.io, wal, add_tenant, catalog, err);
    catalog_close(catalog);
    return rc ? err_context(err, "tenants of the archive") : ERR_OK;
}

static enum err_code replay_archive(struct job *j, struct err *err)
{
    char wal[IO_PATH_BYTES];
    enum err_code rc = io_path(wal, sizeof(wal), err, j->temp, "wal");
    if (!rc) rc = wal_extend(j->tool.env.io, wal, j->ask->archive, &j->extend, err);
    if (!rc && j->until_ms != INT64_MAX)
        rc = wal_cut_after(j->tool.env.io, wal, j->until_ms, &j->last_ms, err);
    return rc ? rc : add_tenants(j, wal, err);
}

/* Without a log that knows when a sample came: those of later times go. */
static enum err_code cut_samples(struct job *j, struct err *err)
{
    struct engine_config config = engine_config_default(j->temp);
    struct engine *engine;
    struct engine_clean_report cleaned;
    struct err ignored;
    config.compact = false;
    config.regex = matcher_regex();
    enum err_code rc = engine_open(&j->tool.env, &config, &engine, err);
    if (rc) return rc;
    rc = engine_delete_after(engine, j->until_ms, err);
    if (!rc) rc = engine_clean_tombstones(engine, NULL, &cleaned, err);
    if (rc)
        err_ignore(engine_close(engine, false, &ignored));
    else
        rc = engine_close(engine, true, err);
    return rc ? err_context(err, "removing samples after --until") : ERR_OK;
}

/* ---- its own name, last ---- */

static enum err_code set_aside(struct job *j, struct err *err)
{
    struct content content = {false};
    struct io *io = j->tool.env.io;
    char now[BACKUP_NAME_BYTES], path[IO_PATH_BYTES];
    if (!io_exists(io, j->dir)) return ERR_OK;
    enum err_code rc = io_list(io, j->dir, note_content, &content, err);
    if (rc) return rc;
    if (!content.any) { /* an empty folder gives way to a rename */
        rc = io_path(path, sizeof(path), err, j->dir, "LOCK");
        return !rc && io_exists(io, path) ? io_unlink(io, path, err) : rc;
    }
    int n = snprintf(j->replaced, sizeof(j->replaced), "%s.replaced-%s", j->dir,
                     time_text(clock_wall_ms(j->tool.env.clock), now));
    if (n < 0 || (size_t)n >= sizeof(j->replaced))
        return err_set(err, ERR_LIMIT, "a path is too long");
    return io_rename(io, j->dir, j->replaced, err);
}

static enum err_code go_live(struct job *j, struct err *err)
{
    char path[IO_PATH_BYTES], parent[IO_PATH_BYTES];
    struct io *io = j->tool.env.io;
    enum err_code rc = io_path(path, sizeof(path), err, j->temp, UNFINISHED_LOCK);
    if (!rc) rc = io_sync_dir(io, j->temp, err);
    if (!rc) rc = set_aside(j, err);
    if (!rc) rc = io_unlink(io, path, err);
    if (!rc) rc = io_rename(io, j->temp, j->dir, err);
    if (!rc) rc = io_parent(parent, sizeof(parent), err, j->dir);
    if (!rc) rc = io_sync_dir(io, parent, err);
    return rc ? err_context(err,
                            "all is restored in %s, but cannot get its name (is %s a mount "
                            "point? Then name a folder in it)",
                            j->temp, j->dir)
              : ERR_OK;
}

static enum err_code run(struct job *j, struct err *err)
{
    enum err_code rc = find_backup(j, err);
    if (!rc) rc = check_target(j, err);
    if (!rc) rc = begin_temp(j, err);
    if (!rc) rc = sha256_new(&j->sha, err);
    if (!rc) rc = restore_files(j, err);
    if (!rc && j->ask->archive) rc = replay_archive(j, err);
    if (!rc && j->ask->tenant) rc = keep_tenant(j, err);
    if (!rc && j->by_sample_time) rc = cut_samples(j, err);
    if (!rc) rc = check_target(j, err); /* somebody may have come meanwhile */
    return rc ? rc : go_live(j, err);
}

/* ---- the command ---- */

static void print_report(const struct job *j)
{
    char bytes[32], text[BACKUP_NAME_BYTES];
    double seconds = (double)(clock_mono_ns(j->tool.env.clock) - j->begun_ns) / 1e9;
    if (j->ask->json) {
        printf("{\"backup\":\"%s\",\"files\":%" PRIu64 ",\"bytes\":%" PRIu64
               ",\"archiveSegments\":%" PRIu64 ",\"cutBy\":\"%s\",\"seconds\":%.3f}\n",
               j->backup->name, j->files, j->bytes, j->extend.segments,
               j->until_ms == INT64_MAX ? ""
               : j->by_sample_time      ? "sample time"
                                        : "arrival",
               seconds);
        return;
    }
    printf("restored backup %s to %s\n", j->backup->name, j->dir);
    printf("files    %" PRIu64 ", %s, each with the SHA-256 of the manifest\n", j->files,
           cli_human_bytes((double)j->bytes, bytes, sizeof(bytes)));
    if (j->ask->archive)
        printf("log      %" PRIu64 " segments of the archive, %s\n", j->extend.segments,
               cli_human_bytes((double)j->extend.bytes, bytes, sizeof(bytes)));
    if (j->by_sample_time)
        printf("until    %s by the samples' own time: there is no archive of the log to say when "
               "they came\n",
               time_text(j->until_ms, text));
    else if (j->until_ms != INT64_MAX && j->last_ms != INT64_MIN)
        printf("until    the last record arrived at %s\n", time_text(j->last_ms, text));
    if (j->replaced[0]) printf("before   what was there is now %s\n", j->replaced);
    if (j->backup->manifest.n_missing)
        printf("MISSING  %zu blocks that the source had lost when the backup was made\n",
               j->backup->manifest.n_missing);
    printf("done     in %.1f s\n", seconds);
}

static enum err_code set_paths(struct job *j, struct err *err)
{
    int n = snprintf(j->dir, sizeof(j->dir), "%s", j->ask->data_dir);
    if (n < 0 || (size_t)n >= sizeof(j->dir)) return err_set(err, ERR_LIMIT, "a path is too long");
    while (n > 1 && j->dir[n - 1] == '/') j->dir[--n] = 0;
    j->until_ms = INT64_MAX;
    j->last_ms = INT64_MIN;
    if (!j->ask->until) return ERR_OK;
    j->by_sample_time = !j->ask->archive;
    enum err_code rc =
        cli_parse_time(str_of(j->ask->until), clock_wall_ms(j->tool.env.clock), &j->until_ms, err);
    return rc ? err_context(err, "--until") : ERR_OK;
}

static enum err_code run_job(const struct ask *a, struct err *err)
{
    struct job *j = mem_calloc(MEM_TOOLS, 1, sizeof(*j));
    if (!j) return err_set(err, ERR_NO_MEMORY, "no memory");
    j->ask = a;
    enum err_code rc = tool_env_init(&j->tool, LOG_WARN, false, err);
    j->begun_ns = clock_mono_ns(j->tool.env.clock);
    if (!rc) rc = set_paths(j, err);
    if (!rc) rc = run(j, err);
    if (!a->quiet) cli_progress_end();
    if (!rc) print_report(j);
    sha256_free(j->sha);
    file_close(j->lock);
    store_close(&j->store);
    tool_env_release(&j->tool);
    mem_free(j);
    return rc;
}

static enum err_code check(const struct ask *a, size_t n_args, struct err *err)
{
    if (n_args) return err_set(err, ERR_INVALID, "restore takes options only");
    if (!a->from || !a->data_dir)
        return err_set(err, ERR_INVALID,
                       "restore wants --from and --data-dir (see quipu restore --help)");
    return ERR_OK;
}

enum exit_code cmd_restore(int argc, char **argv)
{
    struct ask a = {.from = NULL};
    const struct cli_option options[] = {
        {"from", CLI_TEXT, &a.from, "DIR", "a folder of backups (the newest is taken), or one",
         NULL},
        {"data-dir", CLI_TEXT, &a.data_dir, "DIR", "the folder to be made", NULL},
        {"tenant", CLI_TEXT, &a.tenant, "NAME", "this one alone", NULL},
        {"archive", CLI_TEXT, &a.archive, "DIR",
         "the log's archive (wal.archive): what came after the backup", NULL},
        {"until", CLI_TEXT, &a.until, "TIME",
         "with --archive: what had arrived by then; else samples of no later time", NULL},
        {"force", CLI_FLAG, &a.force, NULL, "set aside what is there, under another name", NULL},
        {"quiet", CLI_FLAG, &a.quiet, NULL, "no progress", NULL},
        {"json", CLI_FLAG, &a.json, NULL, "the report as JSON", NULL}};
    const struct cli_command command = {
        .name = "restore",
        .usage = "restore --from DIR --data-dir DIR [options]",
        .doc =
            "Makes a data folder of a backup. Every file is compared with its SHA-256 before the\n"
            "folder gets its name; until then it is DIR.restoring, and may be removed.",
        .examples = "  quipu restore --from /backup/quipu --data-dir /var/lib/quipu\n"
                    "  quipu restore --from /backup/quipu --data-dir /tmp/acme --tenant acme\n"
                    "  quipu restore --from /backup/quipu --data-dir /var/lib/quipu --archive "
                    "/archive \\\n      --until 2026-01-02T03:04:05Z\n",
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
    if (!rc) rc = run_job(&a, &err);
    return rc ? cli_fail(&err) : EXIT_CODE_OK;
}
