/* tools/cmd_backup.c: `quipu backup`: all of one moment, into a folder of backups that share their blocks.
 *
 * A server makes the moment, as a snapshot of links below its data folder, and this process copies it from there: so it
 * can be killed at any point. What is left then is a snapshot, whose name was noted before it was asked for, whole
 * blocks, which the next run finds, and files under temporary names. The manifest is written last. */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/file_copy.h"
#include "engine/backup.h"
#include "storage/catalog.h"
#include "tools/backup_store.h"
#include "tools/bench.h"
#include "tools/cli.h"
#include "tools/client.h"
#include "tools/cmd.h"
#include "tools/tool_env.h"
#include "wal/archive.h"

#define NOTE_NAME "unfinished"
#define NOTE_BYTES_MAX 4096
#define PROGRESS_NS INT64_C(100000000)

struct ask {
    const char *server, *data_dir, *to, *archive;
    uint64_t keep;
    bool link, quiet, json;
};

struct report {
    char name[BACKUP_NAME_BYTES];
    int64_t moment_ms;
    uint64_t blocks, block_bytes;               /* of the backup */
    uint64_t blocks_copied, block_bytes_copied; /* that no earlier one had */
    uint64_t blocks_found;                      /* of an interrupted run: only read */
    uint64_t other_bytes;                       /* catalog and log */
    uint64_t missing;
    struct store_prune_report pruned;
    uint64_t archive_segments, archive_bytes; /* removed */
    double seconds;
};

struct job {
    const struct ask *ask;
    struct tool_env tool;
    struct backup_store store;
    struct manifest manifest;
    struct sha256 *sha;
    struct client *client;
    struct client_answer answer;
    struct file *source_lock;       /* of a data folder that no server has open */
    char source[IO_PATH_BYTES];     /* the snapshot, or the data folder */
    char temp[IO_PATH_BYTES];       /* the unfinished backup's folder */
    char archive[IO_PATH_BYTES];    /* of the log, as the server says */
    char snapshot[64];              /* "": none */
    char blocks_dir[IO_PATH_BYTES]; /* of the tenant at work, in the data folder */
    struct str tenant;              /* at work */
    struct report report;
    uint64_t bytes_done, bytes_all; /* to be copied; bytes_all 0: not known yet */
    int64_t begun_ns, shown_ns;
};

/* ---- bytes that pass ---- */

static void show(struct job *j)
{
    char done[32], all[32], rate[32];
    int64_t now_ns = clock_mono_ns(j->tool.env.clock);
    if (j->ask->quiet || now_ns - j->shown_ns < PROGRESS_NS) return;
    j->shown_ns = now_ns;
    double seconds = (double)(now_ns - j->begun_ns) / 1e9;
    double per_second = seconds > 0 ? (double)j->bytes_done / seconds : 0;
    double left = j->bytes_all > j->bytes_done && per_second > 0
                      ? (double)(j->bytes_all - j->bytes_done) / per_second
                      : 0;
    cli_progress("%s of %s, %s/s, %.0f s left",
                 cli_human_bytes((double)j->bytes_done, done, sizeof(done)),
                 cli_human_bytes((double)j->bytes_all, all, sizeof(all)),
                 cli_human_bytes(per_second, rate, sizeof(rate)), left);
}

static enum err_code on_part(void *ctx, struct bytes part, struct err *err)
{
    struct job *j = ctx;
    j->bytes_done += part.len;
    show(j);
    return sha256_add(j->sha, part, err);
}

/* ---- the moment ---- */

static enum err_code note_path(struct job *j, char *path, struct err *err)
{
    return io_path(path, IO_PATH_BYTES, err, j->store.dir, NOTE_NAME);
}

static enum err_code ask_server(struct job *j, const char *server, const char *what,
                                const char *name, struct err *err)
{
    char url[2048];
    struct bytes nothing = {NULL, 0};
    struct str base = str_of(server);
    while (base.len && base.p[base.len - 1] == '/') base.len--;
    snprintf(url, sizeof(url), "%.*s/api/v1/admin/tsdb/%s?name=%s", STR_ARG(base), what, name);
    enum err_code rc = client_ask(j->client, url, &nothing, &j->answer, err);
    if (rc || j->answer.status == 200) return rc;
    struct str body = str_from_bytes(buf_bytes(&j->answer.body));
    body.len = MIN_OF(body.len, (size_t)500);
    return err_set(err, ERR_EXECUTION, "%s says %u: %.*s", server, j->answer.status, STR_ARG(body));
}

/* An interrupted run's snapshot keeps blocks that the server has long replaced. */
static enum err_code drop_snapshot(struct job *j, struct err *err)
{
    char path[IO_PATH_BYTES];
    uint8_t *text = NULL;
    size_t len;
    enum err_code rc = note_path(j, path, err);
    if (!rc) rc = io_read_file(j->tool.env.io, path, NOTE_BYTES_MAX, &text, &len, err);
    if (rc) return rc == ERR_NOT_FOUND ? ERR_OK : rc;
    char *name = strchr((char *)text, '\n');
    if (name) {
        *name++ = 0;
        name[strcspn(name, "\n")] = 0;
        rc = ask_server(j, (char *)text, "snapshot/delete", name, err);
        if (rc)
            err_context(err,
                        "removing snapshot %s that an interrupted backup left (if that "
                        "server is gone, remove %s)",
                        name, path);
    }
    mem_free(text);
    return rc ? rc : io_unlink(j->tool.env.io, path, err);
}

static enum err_code note_snapshot(struct job *j, struct err *err)
{
    char path[IO_PATH_BYTES];
    struct buf text;
    snprintf(j->snapshot, sizeof(j->snapshot), "backup-%016" PRIx64, rng_u64(&j->tool.rng));
    buf_init(&text, MEM_TOOLS);
    buf_printf(&text, "%s\n%s\n", j->ask->server, j->snapshot);
    enum err_code rc = buf_finish(&text, err);
    if (!rc) rc = note_path(j, path, err);
    if (!rc) rc = file_replace(j->tool.env.io, path, buf_bytes(&text), err);
    buf_release(&text);
    return rc;
}

static enum err_code read_snapshot(struct job *j, struct err *err)
{
    cJSON *root = cJSON_ParseWithLength((const char *)j->answer.body.p, j->answer.body.len);
    const cJSON *data = cJSON_GetObjectItem(root, "data"), *dir = cJSON_GetObjectItem(data, "dir"),
                *moment = cJSON_GetObjectItem(data, "momentMs"),
                *archive = cJSON_GetObjectItem(data, "archive");
    enum err_code rc = ERR_OK;
    if (!cJSON_IsString(dir) || !cJSON_IsNumber(moment)) {
        rc = err_set(err, ERR_EXECUTION, "%s gives no snapshot that this version understands",
                     j->ask->server);
    } else {
        snprintf(j->source, sizeof(j->source), "%s", dir->valuestring);
        snprintf(j->archive, sizeof(j->archive), "%s",
                 cJSON_IsString(archive) ? archive->valuestring : "");
        j->report.moment_ms = (int64_t)moment->valuedouble;
    }
    cJSON_Delete(root);
    return rc;
}

static enum err_code open_online(struct job *j, struct err *err)
{
    client_answer_init(&j->answer);
    enum err_code rc = client_global_init(err);
    if (!rc) rc = client_new(NULL, 0, &j->client, err);
    if (!rc) rc = drop_snapshot(j, err);
    if (!rc) rc = note_snapshot(j, err);
    if (!rc) rc = ask_server(j, j->ask->server, "snapshot", j->snapshot, err);
    if (!rc) rc = read_snapshot(j, err);
    if (!rc && !io_exists(j->tool.env.io, j->source))
        rc = err_set(err, ERR_NOT_FOUND,
                     "the server's snapshot %s is not to be found here: quipu backup runs on the "
                     "server's machine, as a user who may read its data folder",
                     j->source);
    return rc;
}

/* No server has the folder: its moment is when the last one stopped. */
static enum err_code open_offline(struct job *j, struct err *err)
{
    char path[IO_PATH_BYTES];
    struct io *io = j->tool.env.io;
    snprintf(j->source, sizeof(j->source), "%s", j->ask->data_dir);
    enum err_code rc = io_path(path, sizeof(path), err, j->source, "catalog.sqlite");
    if (!rc && !io_exists(io, path))
        rc = err_set(err, ERR_NOT_FOUND, "%s is no data folder of quipu", j->source);
    if (!rc) rc = io_path(path, sizeof(path), err, j->source, "LOCK");
    if (!rc) rc = io_open(io, path, IO_READ | IO_WRITE | IO_CREATE, &j->source_lock, err);
    if (!rc) rc = file_lock(j->source_lock, err);
    if (rc == ERR_BUSY)
        err_context(err, "a server has %s open (give its address with --server)", j->source);
    j->report.moment_ms = clock_wall_ms(j->tool.env.clock);
    return rc;
}

/* ---- the catalog ---- */

static void no_moment(void *ctx)
{
    (void)ctx;
}

/* Of a snapshot a copy is at hand already; of a data folder SQLite makes one, as part of it may be in its log. */
static enum err_code copy_catalog(struct job *j, struct err *err)
{
    char from[IO_PATH_BYTES], to[IO_PATH_BYTES];
    struct catalog *catalog;
    enum err_code rc = io_path(to, sizeof(to), err, j->temp, "catalog.sqlite");
    if (!rc) rc = io_path(from, sizeof(from), err, j->source, "catalog.sqlite");
    if (rc) return rc;
    if (j->ask->server) return file_copy(j->tool.env.io, from, to, UINT64_MAX, NULL, NULL, err);
    rc = catalog_open(&j->tool.env, j->source, &catalog, err);
    if (rc) return rc;
    rc = catalog_copy(catalog, to, no_moment, NULL, err);
    catalog_close(catalog);
    return rc;
}

/* ---- blocks ---- */

static enum err_code hash_file(struct job *j, const char *path, struct manifest_file *file,
                               struct err *err)
{
    bool is_dir;
    enum err_code rc = sha256_begin(j->sha, err);
    if (!rc) rc = file_scan(j->tool.env.io, path, on_part, j, err);
    if (!rc) rc = sha256_end(j->sha, file->sha256, err);
    return rc ? rc : io_stat(j->tool.env.io, path, &file->bytes, &is_dir, err);
}

static enum err_code copy_block(struct job *j, const char *from, const char *to,
                                struct manifest_file *file, struct err *err)
{
    struct io *io = j->tool.env.io;
    bool is_dir;
    if (j->ask->link) {
        enum err_code rc = io_link(io, from, to, err);
        if (!rc) rc = io_sync_dir(io, j->store.blocks, err);
        if (!rc) return hash_file(j, to, file, err);
        if (rc != ERR_IO) return rc; /* another file system: a copy then */
    }
    enum err_code rc = sha256_begin(j->sha, err);
    if (!rc) rc = file_copy(io, from, to, UINT64_MAX, on_part, j, err);
    if (!rc) rc = sha256_end(j->sha, file->sha256, err);
    return rc ? rc : io_stat(io, to, &file->bytes, &is_dir, err);
}

/* *at: what the store has of it, of the right size. */
static enum err_code store_has(struct job *j, const char *to, uint64_t want, bool *has,
                               struct err *err)
{
    uint64_t bytes = 0;
    bool is_dir;
    *has = false;
    enum err_code rc = io_stat(j->tool.env.io, to, &bytes, &is_dir, err);
    if (rc == ERR_NOT_FOUND) return ERR_OK;
    *has = !rc && bytes == want;
    return rc;
}

static enum err_code take_block(struct job *j, const char *from, struct manifest_file *file,
                                struct err *err)
{
    struct str name = manifest_file_name(file);
    char to[IO_PATH_BYTES];
    bool has = false;
    const struct manifest_file *known = store_find(&j->store, name);
    int n = snprintf(to, sizeof(to), "%s/%.*s", j->store.blocks, STR_ARG(name));
    if (n < 0 || (size_t)n >= sizeof(to)) return err_set(err, ERR_LIMIT, "a path is too long");
    uint64_t bytes = file->bytes;
    enum err_code rc = store_has(j, to, bytes, &has, err);
    if (rc) return rc;
    if (has && known && known->bytes == bytes) {
        memcpy(file->sha256, known->sha256, sizeof(file->sha256));
    } else if (has) { /* whole, as it has its name, but nobody knows its checksum */
        rc = hash_file(j, to, file, err);
        j->report.blocks_found++;
    } else {
        rc = copy_block(j, from, to, file, err);
        if (rc == ERR_NOT_FOUND) {
            j->report.missing++;
            return manifest_add_missing(&j->manifest, file->path, err);
        }
        j->report.blocks_copied++;
        j->report.block_bytes_copied += file->bytes;
    }
    if (!rc && file->bytes != bytes) {
        err_set(err, ERR_CORRUPT, "%" PRIu64 " bytes, the catalog says %" PRIu64, file->bytes,
                bytes);
        rc = err_at(err, from, 0);
    }
    j->report.blocks++;
    j->report.block_bytes += bytes;
    return rc ? rc : manifest_add(&j->manifest, file, err);
}

static enum err_code on_block(void *ctx, const struct block_info *info, struct err *err)
{
    struct job *j = ctx;
    char path[IO_PATH_BYTES], from[IO_PATH_BYTES];
    int n = snprintf(path, sizeof(path), "%s/%s.block", j->blocks_dir, info->ulid.text);
    if (n < 0 || (size_t)n >= sizeof(path)) return err_set(err, ERR_LIMIT, "a path is too long");
    struct manifest_file file = {.path = str_of(path),
                                 .tenant = j->tenant,
                                 .incarnation = info->incarnation,
                                 .bytes = info->file_bytes,
                                 .shared = true};
    enum err_code rc = io_path(from, sizeof(from), err, j->source, path);
    return rc ? rc : take_block(j, from, &file, err);
}

/* Of what will be copied, for the time that is left. */
static enum err_code count_block(void *ctx, const struct block_info *info, struct err *err)
{
    struct job *j = ctx;
    char name[ULID_CHARS + 8];
    (void)err;
    snprintf(name, sizeof(name), "%s.block", info->ulid.text);
    if (!store_find(&j->store, str_of(name))) j->bytes_all += info->file_bytes;
    return ERR_OK;
}

struct each_tenant {
    struct job *job;
    struct catalog *catalog;
    catalog_block_fn *fn;
};

static enum err_code on_tenant(void *ctx, const struct catalog_tenant *row, struct err *err)
{
    struct each_tenant *e = ctx;
    struct buf dir;
    buf_init(&dir, MEM_TOOLS);
    backup_blocks_dir(row->name, row->incarnation, &dir);
    buf_u8(&dir, 0);
    enum err_code rc = buf_finish(&dir, err);
    if (!rc) snprintf(e->job->blocks_dir, sizeof(e->job->blocks_dir), "%s", (const char *)dir.p);
    buf_release(&dir);
    e->job->tenant = row->name;
    return rc ? rc : catalog_blocks(e->catalog, row->incarnation, e->fn, e->job, err);
}

static enum err_code take_blocks(struct job *j, struct err *err)
{
    struct each_tenant count = {j, NULL, count_block}, take = {j, NULL, on_block};
    struct catalog *catalog;
    enum err_code rc = catalog_open(&j->tool.env, j->temp, &catalog, err);
    if (rc) return rc;
    count.catalog = take.catalog = catalog;
    rc = catalog_tenants(catalog, on_tenant, &count, err);
    if (!rc) rc = catalog_tenants(catalog, on_tenant, &take, err);
    catalog_close(catalog);
    return rc;
}

/* ---- the rest ---- */

/* `path`: "catalog.sqlite", "wal/00000001.wal", in the unfinished backup. */
static enum err_code add_own(struct job *j, const char *path, struct err *err)
{
    char whole[IO_PATH_BYTES];
    struct manifest_file file = {.path = str_of(path)};
    enum err_code rc = io_path(whole, sizeof(whole), err, j->temp, path);
    if (!rc) rc = hash_file(j, whole, &file, err);
    if (rc) return rc;
    j->report.other_bytes += file.bytes;
    return manifest_add(&j->manifest, &file, err);
}

static enum err_code take_log(struct job *j, struct err *err)
{
    char from[IO_PATH_BYTES], to[IO_PATH_BYTES];
    struct buf names;
    struct io *io = j->tool.env.io;
    buf_init(&names, MEM_TOOLS);
    enum err_code rc = io_path(from, sizeof(from), err, j->source, "wal");
    if (!rc) rc = io_path(to, sizeof(to), err, j->temp, "wal");
    if (!rc) rc = io_mkdir_all(io, to, err);
    if (!rc) rc = file_names(io, from, &names, err);
    for (size_t off = 0; !rc && off < names.len;) {
        const char *name = (const char *)names.p + off;
        char a[IO_PATH_BYTES], b[IO_PATH_BYTES], path[64];
        off += strlen(name) + 1;
        if (!str_has_suffix(str_of(name), STR(".wal")) || strlen(name) > 32) continue;
        snprintf(path, sizeof(path), "wal/%s", name);
        rc = io_path(a, sizeof(a), err, from, name);
        if (!rc) rc = io_path(b, sizeof(b), err, to, name);
        if (!rc) rc = file_copy(io, a, b, UINT64_MAX, NULL, NULL, err);
        if (!rc) rc = add_own(j, path, err);
    }
    buf_release(&names);
    if (!rc) rc = wal_dir_span(io, to, &j->manifest.log_begin, &j->manifest.log_end, err);
    return rc;
}

/* From here on it is a backup. */
static enum err_code publish(struct job *j, struct err *err)
{
    char dir[IO_PATH_BYTES];
    j->manifest.moment_ms = j->report.moment_ms;
    j->manifest.source = str_of(j->ask->server ? j->ask->server : j->ask->data_dir);
    enum err_code rc = io_path(dir, sizeof(dir), err, j->store.dir, j->report.name);
    if (!rc && io_exists(j->tool.env.io, dir)) rc = err_set(err, ERR_EXISTS, "%s is there", dir);
    if (!rc) rc = manifest_write(j->tool.env.io, j->temp, &j->manifest, err);
    if (!rc) rc = io_rename(j->tool.env.io, j->temp, dir, err);
    return rc ? rc : io_sync_dir(j->tool.env.io, j->store.dir, err);
}

static enum err_code prune(struct job *j, struct err *err)
{
    const char *archive = j->ask->archive ? j->ask->archive : j->archive;
    enum err_code rc = store_add(&j->store, j->report.name, err);
    if (!rc) rc = store_prune(&j->store, (size_t)j->ask->keep, &j->report.pruned, err);
    if (rc || !*archive || j->store.n == 0) return rc;
    return wal_archive_cut(j->tool.env.io, archive, j->store.items[0].manifest.log_begin,
                           &j->report.archive_segments, &j->report.archive_bytes, err);
}

static enum err_code run(struct job *j, struct err *err)
{
    enum err_code rc = store_open_to_write(&j->store, j->tool.env.io, j->ask->to, err);
    if (!rc) rc = sha256_new(&j->sha, err);
    if (!rc) rc = j->ask->server ? open_online(j, err) : open_offline(j, err);
    if (rc) return rc;
    backup_name(j->report.moment_ms, j->report.name);
    int n = snprintf(j->temp, sizeof(j->temp), "%s/%s.tmp", j->store.dir, j->report.name);
    if (n < 0 || (size_t)n >= sizeof(j->temp)) return err_set(err, ERR_LIMIT, "a path is too long");
    rc = io_mkdir_all(j->tool.env.io, j->temp, err);
    if (!rc) rc = copy_catalog(j, err);
    if (!rc) rc = take_blocks(j, err);
    if (!rc) rc = add_own(j, "catalog.sqlite", err); /* now that SQLite is through with it */
    if (!rc) rc = take_log(j, err);
    if (!rc) rc = publish(j, err);
    if (!rc && j->ask->server) rc = drop_snapshot(j, err);
    if (!rc && j->ask->keep) rc = prune(j, err);
    return rc;
}

/* ---- the command ---- */

static void print_json(const struct report *r)
{
    printf("{\"name\":\"%s\",\"momentMs\":%" PRId64 ",\"blocks\":%" PRIu64
           ",\"blockBytes\":%" PRIu64 ",\"blocksCopied\":%" PRIu64 ",\"blockBytesCopied\":%" PRIu64
           ",\"blocksFound\":%" PRIu64 ",\"otherBytes\":%" PRIu64 ",\"missingBlocks\":%" PRIu64
           ",\"backupsRemoved\":%" PRIu64 ",\"blocksRemoved\":%" PRIu64 ",\"bytesRemoved\":%" PRIu64
           ",\"archiveSegmentsRemoved\":%" PRIu64 ",\"seconds\":%.3f}\n",
           r->name, r->moment_ms, r->blocks, r->block_bytes, r->blocks_copied,
           r->block_bytes_copied, r->blocks_found, r->other_bytes, r->missing, r->pruned.backups,
           r->pruned.blocks, r->pruned.bytes, r->archive_segments, r->seconds);
}

static void print_report(const struct report *r)
{
    char all[32], copied[32], other[32], freed[32];
    cli_human_bytes((double)r->block_bytes, all, sizeof(all));
    cli_human_bytes((double)r->block_bytes_copied, copied, sizeof(copied));
    cli_human_bytes((double)r->other_bytes, other, sizeof(other));
    printf("backup   %s\n", r->name);
    printf("blocks   %" PRIu64 ", %s; copied now %" PRIu64 ", %s\n", r->blocks, all,
           r->blocks_copied, copied);
    if (r->blocks_found)
        printf("         %" PRIu64 " were there of an interrupted backup\n", r->blocks_found);
    printf("log      and catalog %s\ndone     in %.1f s\n", other, r->seconds);
    if (r->pruned.backups || r->pruned.blocks)
        printf("removed  %" PRIu64 " older backups, %" PRIu64 " blocks, %s\n", r->pruned.backups,
               r->pruned.blocks, cli_human_bytes((double)r->pruned.bytes, freed, sizeof(freed)));
    if (r->archive_segments)
        printf("         %" PRIu64 " segments of the archive, %s\n", r->archive_segments,
               cli_human_bytes((double)r->archive_bytes, freed, sizeof(freed)));
    if (r->missing)
        printf("MISSING  %" PRIu64 " blocks that the source has lost; the manifest names them\n",
               r->missing);
}

static enum err_code run_job(const struct ask *a, struct report *report, struct err *err)
{
    struct job *j = mem_calloc(MEM_TOOLS, 1, sizeof(*j));
    if (!j) return err_set(err, ERR_NO_MEMORY, "no memory");
    j->ask = a;
    enum err_code rc = tool_env_init(&j->tool, LOG_WARN, false, err);
    manifest_init(&j->manifest);
    j->begun_ns = clock_mono_ns(j->tool.env.clock);
    if (!rc) rc = run(j, err);
    if (!a->quiet) cli_progress_end();
    j->report.seconds = (double)(clock_mono_ns(j->tool.env.clock) - j->begun_ns) / 1e9;
    *report = j->report;
    if (a->server) client_answer_release(&j->answer);
    client_free(j->client);
    sha256_free(j->sha);
    manifest_release(&j->manifest);
    store_close(&j->store);
    file_close(j->source_lock);
    tool_env_release(&j->tool);
    mem_free(j);
    return rc;
}

static enum err_code check(const struct ask *a, size_t n_args, struct err *err)
{
    if (n_args) return err_set(err, ERR_INVALID, "backup takes options only");
    if (!a->to) return err_set(err, ERR_INVALID, "backup wants --to (see quipu backup --help)");
    if (!a->server == !a->data_dir)
        return err_set(err, ERR_INVALID, "backup wants either --server or --data-dir");
    return ERR_OK;
}

enum exit_code cmd_backup(int argc, char **argv)
{
    struct ask a = {.server = NULL};
    const struct cli_option options[] = {
        {"server", CLI_TEXT, &a.server, "URL", "the running server, on this machine", NULL},
        {"data-dir", CLI_TEXT, &a.data_dir, "DIR", "or a data folder that no server has open",
         NULL},
        {"to", CLI_TEXT, &a.to, "DIR", "the folder of backups", NULL},
        {"keep", CLI_COUNT, &a.keep, "N",
         "when this one is complete, remove all but the newest N (0: none)", NULL},
        {"archive", CLI_TEXT, &a.archive, "DIR",
         "with --keep: the log's archive, if the server does not tell", NULL},
        {"link", CLI_FLAG, &a.link, NULL,
         "blocks as links where --to is on the same file system: instant, but one file", NULL},
        {"quiet", CLI_FLAG, &a.quiet, NULL, "no progress", NULL},
        {"json", CLI_FLAG, &a.json, NULL, "the report as JSON", NULL}};
    const struct cli_command command = {
        .name = "backup",
        .usage = "backup --server URL | --data-dir DIR --to DIR [options]",
        .doc =
            "Copies all tenants' data as of one moment, while the server works on. Blocks that an\n"
            "earlier backup in the folder has are neither read nor copied again. Interrupted, it\n"
            "goes on where it was when it is called again.",
        .examples = "  quipu backup --server http://127.0.0.1:9780 --to /backup/quipu --keep 7\n",
        .options = options,
        .n_options = COUNT_OF(options)};
    struct err err;
    char *args[1];
    size_t n_args;
    bool helped;
    struct report report;
    enum err_code rc =
        cli_parse(&command, argc, argv, args, COUNT_OF(args), &n_args, &helped, &err);
    if (!rc && helped) return EXIT_CODE_OK;
    if (!rc) rc = check(&a, n_args, &err);
    if (!rc) rc = run_job(&a, &report, &err);
    if (rc) return cli_fail(&err);
    if (a.json)
        print_json(&report);
    else
        print_report(&report);
    return report.missing ? EXIT_CODE_CORRUPT : EXIT_CODE_OK;
}
