/* tools/cmd_import.c: `quipu import`: brings samples in from files of lines, from standard input, and from the data folder of
 * a Prometheus. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <zlib.h>

#include "base/clock.h"
#include "ingest/import_lines.h"
#include "ingest/prometheus_block.h"
#include "query/parser.h"
#include "tools/bench.h"
#include "tools/cli.h"
#include "tools/cmd.h"
#include "tools/import_target.h"

#define MATCH_MAX 256
#define READ_BYTES (1u << 20)
#define PROBLEMS_SHOWN 100
#define PROGRESS_NS INT64_C(200000000)
#define BLOCKS_MAX 100000

struct ask {
    struct import_target_config target;
    const char *format, *from_prometheus, *from_dump, *start, *end;
    const char *match[MATCH_MAX];
    size_t n_match;
};

struct import_run {
    const struct ask *ask;
    struct import_target *target;
    struct import_lines lines; /* also where the samples of blocks are put together */
    const char *name;          /* of the file or the block at work */
    int64_t begun_ns, shown_ns;
    uint64_t n_stored, n_bytes, size; /* samples; bytes of a file read, and in all (0: not known) */
    uint64_t n_broken;                /* series and chunks that cannot be read */
    uint64_t n_blocks, n_blocks_broken;
    struct parse_result selectors[MATCH_MAX];
    size_t n_selectors;
    struct arena arena; /* of selectors */
};

/* ---- what is said ---- */

static void show_progress(struct import_run *r)
{
    char n[32], rate[32], done[32] = "";
    int64_t now_ns = clock_mono_ns(clock_system());
    if (now_ns - r->shown_ns < PROGRESS_NS) return;
    r->shown_ns = now_ns;
    double seconds = (double)(now_ns - r->begun_ns) / 1e9;
    if (r->size)
        snprintf(done, sizeof(done), "%.0f %%, ", (double)r->n_bytes / (double)r->size * 100);
    cli_progress("%s: %s%s samples, %s/s", r->name, done,
                 cli_human((double)r->n_stored, n, sizeof(n)),
                 cli_human(seconds > 0 ? (double)r->n_stored / seconds : 0, rate, sizeof(rate)));
}

static void say(const char *text)
{
    cli_progress_end();
    fprintf(stderr, "%s\n", text);
}

static void on_problem(void *ctx, uint64_t line, enum reject_reason reason, const char *why)
{
    struct import_run *r = ctx;
    (void)reason;
    if (r->lines.n_bad > PROBLEMS_SHOWN) return;
    cli_progress_end();
    fprintf(stderr, "%s: line %" PRIu64 ": %s\n", r->name, line, why);
    if (r->lines.n_bad == PROBLEMS_SHOWN) say("more bad lines are only counted");
}

static enum err_code on_message(void *ctx, struct bytes message, size_t n_samples, struct err *err)
{
    struct import_run *r = ctx;
    enum err_code rc = import_target_store(r->target, message, err);
    if (rc) return rc;
    r->n_stored += n_samples;
    show_progress(r);
    return ERR_OK;
}

/* ---- lines ---- */

static enum err_code format_of(const struct ask *a, enum import_format *out, struct err *err)
{
    static const char *const NAMES[] = {[IMPORT_AUTO] = "auto",
                                        [IMPORT_JSONL] = "jsonl",
                                        [IMPORT_PROMETHEUS] = "prometheus",
                                        [IMPORT_OPENMETRICS] = "openmetrics",
                                        [IMPORT_DUMP] = "promtool-dump"};
    *out = a->from_dump ? IMPORT_DUMP : IMPORT_AUTO;
    if (!a->format) return ERR_OK;
    for (size_t i = 0; i < COUNT_OF(NAMES); i++) {
        if (strcmp(a->format, NAMES[i]) != 0) continue;
        *out = (enum import_format)i;
        return ERR_OK;
    }
    return err_set(err, ERR_INVALID,
                   "--format is jsonl, prometheus, openmetrics, promtool-dump or auto");
}

/* An OpenMetrics text says so in its last line only. */
static bool ends_as_openmetrics(const char *path)
{
    char tail[8] = "";
    FILE *f = fopen(path, "rb");
    if (!f) return false;
    size_t n = fseek(f, -7, SEEK_END) == 0 ? fread(tail, 1, 7, f) : 0;
    fclose(f);
    while (n && (tail[n - 1] == '\n' || tail[n - 1] == '\r')) n--;
    return n >= 5 && memcmp(tail + n - 5, "# EOF", 5) == 0;
}

/* zlib reads what is not compressed as it is. */
static enum err_code open_file(struct import_run *r, const char *path, gzFile *out, struct err *err)
{
    bool is_stdin = strcmp(path, "-") == 0;
    uint64_t size;
    bool is_dir = false;
    r->name = is_stdin ? "standard input" : path;
    if (!is_stdin) {
        enum err_code rc = io_stat(io_posix(), path, &size, &is_dir, err);
        if (rc) return rc;
        if (is_dir) return err_set(err, ERR_INVALID, "%s is a folder (--from-prometheus?)", path);
        r->size = size;
    }
    *out = is_stdin ? gzdopen(dup(STDIN_FILENO), "rb") : gzopen(path, "rb");
    return *out ? ERR_OK : err_set(err, ERR_IO, "%s cannot be opened", r->name);
}

static enum err_code feed_file(struct import_run *r, gzFile file, struct err *err)
{
    enum err_code rc = ERR_OK;
    uint8_t *p = mem_alloc(MEM_TOOLS, READ_BYTES);
    if (!p) return err_set(err, ERR_NO_MEMORY, "no memory to read with");
    (void)gzbuffer(file, 1u << 18);
    while (!rc) {
        int n = gzread(file, p, READ_BYTES), code;
        const char *why = gzerror(file, &code);
        if (n < 0 || (code != Z_OK && code != Z_STREAM_END))
            rc = err_set(err, code == Z_ERRNO ? ERR_IO : ERR_CORRUPT, "%s: %s", r->name,
                         code == Z_BUF_ERROR ? "the compressed file is cut off" : why);
        else if (n == 0)
            break;
        else
            rc = import_lines_feed(&r->lines, bytes_of(p, (size_t)n), err);
        z_off_t at = gzoffset(file);
        r->n_bytes = at > 0 ? (uint64_t)at : 0;
        show_progress(r);
    }
    mem_free(p);
    return rc;
}

static enum err_code import_file(struct import_run *r, const char *path, struct err *err)
{
    gzFile file;
    enum err_code rc = open_file(r, path, &file, err);
    if (rc) return rc;
    if (r->lines.format == IMPORT_AUTO && ends_as_openmetrics(path))
        r->lines.format = IMPORT_OPENMETRICS;
    rc = feed_file(r, file, err);
    (void)gzclose_r(file); /* it was read to the end, or there is an error already */
    if (!rc) rc = import_lines_finish(&r->lines, err);
    return rc == ERR_INVALID ? err_context(err, "%s", r->name) : rc;
}

/* ---- blocks of a Prometheus ---- */

static bool is_wanted(void *ctx, struct labels labels)
{
    struct import_run *r = ctx;
    for (size_t i = 0; i < r->n_selectors; i++) {
        const struct node_selector *s = NODE_AS(selector, r->selectors[i].root);
        if (matchers_match_labels(s->matchers, s->n_matchers, labels)) return true;
    }
    return r->n_selectors == 0;
}

static enum err_code on_chunk(void *ctx, struct labels labels, const struct samples *samples,
                              struct err *err)
{
    struct import_run *r = ctx;
    enum reject_reason reason;
    arena_reset(&r->lines.arena);
    enum err_code rc = import_lines_put(&r->lines, labels, samples, &reason, err);
    if (rc != ERR_INVALID || r->lines.failed) return rc;
    r->n_broken++;
    cli_progress_end();
    fprintf(stderr, "%s: %s\n", r->name, err->text);
    return ERR_OK;
}

static void on_broken(void *ctx, const struct err *why)
{
    struct import_run *r = ctx;
    char text[ERR_TEXT_BYTES + ERR_FILE_BYTES];
    if (++r->n_broken > PROBLEMS_SHOWN) return;
    cli_progress_end();
    fprintf(stderr, "%s: left out: %s\n", r->name, err_describe(why, text, sizeof(text)));
}

static enum err_code import_block(struct import_run *r, const char *dir,
                                  const struct prometheus_walk *walk, struct err *err)
{
    struct prometheus_block *block;
    struct prometheus_block_info info;
    r->name = dir;
    enum err_code rc = prometheus_block_open(io_posix(), dir, &block, err);
    if (rc) return rc;
    prometheus_block_info(block, &info);
    if (info.min_ms <= walk->end_ms && info.max_ms > walk->start_ms) {
        rc = prometheus_block_walk(block, walk, err);
        if (!rc) rc = import_lines_flush(&r->lines, err);
        r->n_blocks++;
    }
    prometheus_block_close(block);
    return rc;
}

struct block_names {
    char (*items)[32];
    size_t n, cap;
    bool has_wal;
    struct err err;
};

/* A block's name is a ULID: 26 characters. What is being made or deleted has another ending. */
static bool take_block(void *ctx, const char *name, bool is_dir)
{
    struct block_names *names = ctx;
    bool is_block =
        is_dir && strlen(name) == 26 && strspn(name, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") == 26;
    names->has_wal |= is_dir && strcmp(name, "wal") == 0;
    if (!is_block) return true;
    if (names->n == BLOCKS_MAX || mem_grow(MEM_TOOLS, (void **)&names->items, &names->cap,
                                           names->n + 1, sizeof(*names->items), &names->err))
        return false;
    memcpy(names->items[names->n++], name, 27);
    return true;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(a, b);
}

static bool note_file(void *ctx, const char *name, bool is_dir)
{
    bool *found = ctx;
    *found |= is_dir || strspn(name, "0123456789") == strlen(name);
    return !*found;
}

/* The newest hours of a Prometheus are in its head, whose log is no block. */
static void warn_of_wal(const char *data_dir)
{
    char path[IO_PATH_BYTES];
    struct err ignored;
    bool found = false;
    if (io_path(path, sizeof(path), &ignored, data_dir, "wal") ||
        io_list(io_posix(), path, note_file, &found, &ignored) || !found)
        return;
    fprintf(stderr,
            "%s holds the newest samples (up to three hours), which are not in blocks yet and are\n"
            "not imported. To have them, import a snapshot: run that Prometheus with\n"
            "--web.enable-admin-api, POST to /api/v1/admin/tsdb/snapshot, and give\n"
            "--from-prometheus %s/snapshots/NAME\n",
            path, data_dir);
}

static enum err_code list_blocks(const char *dir, struct block_names *names, struct err *err)
{
    bool is_dir;
    uint64_t size;
    enum err_code rc = io_stat(io_posix(), dir, &size, &is_dir, err);
    if (!rc) rc = io_list(io_posix(), dir, take_block, names, err);
    if (!rc && !names->n)
        rc = err_set(err, ERR_NOT_FOUND, "there are no blocks of Prometheus in %s", dir);
    if (names->n) qsort(names->items, names->n, sizeof(*names->items), compare_names);
    return rc;
}

/* A broken block is named, the others are imported. */
static enum err_code import_blocks(struct import_run *r, const struct prometheus_walk *walk,
                                   struct err *err)
{
    const char *dir = r->ask->from_prometheus;
    struct block_names names = {.n = 0};
    enum err_code rc = list_blocks(dir, &names, err);
    if (!rc && names.has_wal) warn_of_wal(dir);
    for (size_t i = 0; !rc && i < names.n; i++) {
        char path[IO_PATH_BYTES], text[ERR_TEXT_BYTES + ERR_FILE_BYTES];
        rc = io_path(path, sizeof(path), err, dir, names.items[i]);
        if (!rc) rc = import_block(r, path, walk, err);
        r->name = dir;
        bool of_block = rc == ERR_CORRUPT || rc == ERR_VERSION || rc == ERR_NOT_FOUND;
        if (!rc || !of_block || r->lines.failed) continue;
        cli_progress_end();
        fprintf(stderr, "left out: %s\n", err_describe(err, text, sizeof(text)));
        r->n_blocks_broken++;
        rc = import_lines_flush(&r->lines, err);
    }
    mem_free(names.items);
    return rc;
}

static enum err_code read_range(const struct ask *a, struct prometheus_walk *walk, struct err *err)
{
    int64_t now_ms = clock_wall_ms(clock_system());
    enum err_code rc = ERR_OK;
    if (a->start) rc = cli_parse_time(str_of(a->start), now_ms, &walk->start_ms, err);
    if (rc) return err_context(err, "--start");
    if (a->end) rc = cli_parse_time(str_of(a->end), now_ms, &walk->end_ms, err);
    return rc ? err_context(err, "--end") : ERR_OK;
}

static enum err_code import_prometheus(struct import_run *r, struct err *err)
{
    struct prometheus_walk walk = {.wanted = is_wanted,
                                   .put = on_chunk,
                                   .broken = on_broken,
                                   .ctx = r,
                                   .start_ms = INT64_MIN,
                                   .end_ms = INT64_MAX};
    enum err_code rc = read_range(r->ask, &walk, err);
    for (size_t i = 0; !rc && i < r->ask->n_match; i++) {
        rc = parse_selector(str_of(r->ask->match[i]), &r->arena, &r->selectors[i], err);
        if (!rc) r->n_selectors++;
    }
    return rc ? rc : import_blocks(r, &walk, err);
}

/* ---- the command ---- */

static void report(const struct import_run *r)
{
    const struct import_refused *refused = import_target_refused(r->target);
    double seconds = (double)(clock_mono_ns(clock_system()) - r->begun_ns) / 1e9;
    char rate[32];
    printf("imported %" PRIu64 " samples in %.1f s (%s/s)", r->n_stored, seconds,
           cli_human(seconds > 0 ? (double)r->n_stored / seconds : 0, rate, sizeof(rate)));
    if (r->ask->from_prometheus) printf(", from %" PRIu64 " blocks", r->n_blocks);
    printf("\n");
    if (r->lines.n_bad) printf("left out %" PRIu64 " lines\n", r->lines.n_bad);
    if (r->n_broken) printf("left out %" PRIu64 " series or chunks\n", r->n_broken);
    if (r->n_blocks_broken) printf("left out %" PRIu64 " blocks\n", r->n_blocks_broken);
    if (refused->n)
        printf("of the samples, %" PRIu64 " were refused, the first: %s\n", refused->n,
               refused->first);
}

static bool all_went_in(const struct import_run *r)
{
    return !r->lines.n_bad && !r->n_broken && !r->n_blocks_broken &&
           !import_target_refused(r->target)->n;
}

static enum err_code check(const struct ask *a, size_t n_args, struct err *err)
{
    bool folder = a->target.data_dir || a->target.config_file;
    size_t n_sources = n_args + (a->from_prometheus != NULL) + (a->from_dump != NULL);
    if (!a->target.server && !folder)
        return err_set(err, ERR_INVALID,
                       "import wants --server, --data-dir or --config (see quipu import --help)");
    if (a->target.server && (folder || a->target.retention_ms >= 0))
        return err_set(err, ERR_INVALID, "--server excludes --data-dir, --config and --retention");
    if (n_sources != 1)
        return err_set(err, ERR_INVALID,
                       "import wants one of FILE, -, --from-prometheus and --from-promtool-dump");
    if (!a->from_prometheus && (a->n_match || a->start || a->end))
        return err_set(err, ERR_INVALID, "--match, --start and --end go with --from-prometheus");
    return ERR_OK;
}

static enum exit_code run(const struct ask *a, const char *path, struct err *err)
{
    struct import_run *r = mem_calloc(MEM_TOOLS, 1, sizeof(*r));
    struct import_sink sink = {on_message, on_problem, r};
    /* The server has its own limits, and names what they refuse. */
    struct label_limits limits = {SIZE_MAX, SIZE_MAX, SIZE_MAX};
    enum import_format format = IMPORT_AUTO;
    if (!r) {
        err_set(err, ERR_NO_MEMORY, "no memory");
        return cli_fail(err);
    }
    r->ask = a;
    r->begun_ns = r->shown_ns = clock_mono_ns(clock_system());
    arena_init(&r->arena, MEM_TOOLS, 0);
    enum err_code rc = format_of(a, &format, err);
    import_lines_init(&r->lines, MEM_TOOLS, format, &limits, &sink);
    r->lines.default_ms = clock_wall_ms(clock_system());
    if (!rc) rc = import_target_open(&a->target, &r->target, err);
    if (!rc) rc = a->from_prometheus ? import_prometheus(r, err) : import_file(r, path, err);
    cli_progress_end();
    if (r->target) report(r);
    bool whole = r->target && all_went_in(r);
    struct err close_err;
    enum err_code close_rc = import_target_close(r->target, &close_err);
    if (!rc && close_rc) {
        *err = close_err;
        rc = close_rc;
    }
    for (size_t i = 0; i < r->n_selectors; i++) parse_release(&r->selectors[i]);
    import_lines_release(&r->lines);
    arena_release(&r->arena);
    mem_free(r);
    return rc ? cli_fail(err) : whole ? EXIT_CODE_OK : EXIT_CODE_FAILED;
}

enum exit_code cmd_import(int argc, char **argv)
{
    struct ask a = {.target = {.retention_ms = -1, .retry_ms = 300000}};
    const char *match = NULL; /* for the help; cli_take_repeated has taken them */
    const struct cli_option options[] = {
        {"server", CLI_TEXT, &a.target.server, "URL", "of quipud", "QUIPU_SERVER"},
        {"data-dir", CLI_TEXT, &a.target.data_dir, "DIR",
         "this folder instead; no server may have it open", NULL},
        {"config", CLI_TEXT, &a.target.config_file, "FILE",
         "the server's configuration: its folder, retention and limits", NULL},
        {"retention", CLI_DURATION, &a.target.retention_ms, "TIME",
         "of a folder, if no file says (15d): what is older is refused", NULL},
        {"tenant", CLI_TEXT, &a.target.tenant, "NAME", "where to (default)", "QUIPU_TENANT"},
        {"format", CLI_TEXT, &a.format, "NAME",
         "of FILE: jsonl, prometheus, openmetrics, promtool-dump (by its content)", NULL},
        {"retry", CLI_DURATION, &a.target.retry_ms, "TIME",
         "how long a server that has no time now is asked again (5m)", NULL},
        {"from-promtool-dump", CLI_TEXT, &a.from_dump, "FILE", "what promtool tsdb dump printed",
         NULL},
        {"from-prometheus", CLI_TEXT, &a.from_prometheus, "DIR",
         "the blocks of this Prometheus data folder, or of a snapshot", NULL},
        {"match", CLI_TEXT, &match, "SELECTOR", "of those, these; may be given again for more",
         NULL},
        {"start", CLI_TEXT, &a.start, "TIME", "of those, samples from here on", NULL},
        {"end", CLI_TEXT, &a.end, "TIME", "up to here", NULL}};
    const struct cli_command command = {
        .name = "import",
        .usage = "import --server URL | --data-dir DIR FILE | - | --from-prometheus DIR [options]",
        .doc = "Brings samples in: lines of JSON as quipu and VictoriaMetrics export them,\n"
               "Prometheus's text, OpenMetrics (each also gzipped), and the data of a Prometheus.\n"
               "A line that is bad is named and left out, the rest goes in; then the exit status\n"
               "is 1. An import may be repeated: what is there already does no harm.",
        .examples = "  quipu export --server http://old:9780 --match '{__name__!=\"\"}' | \\\n"
                    "      quipu import --server http://127.0.0.1:9780 -\n"
                    "  quipu import --server http://127.0.0.1:9780 \\\n"
                    "      --from-prometheus /var/lib/prometheus/metrics2\n",
        .options = options,
        .n_options = COUNT_OF(options)};
    struct err err;
    char *args[2];
    size_t n_args;
    bool helped = false;
    enum err_code rc =
        cli_take_repeated(&argc, argv, "match", a.match, MATCH_MAX, &a.n_match, &err);
    if (!rc) rc = cli_parse(&command, argc, argv, args, COUNT_OF(args), &n_args, &helped, &err);
    if (!rc && helped) return EXIT_CODE_OK;
    /* A folder on the command line outranks a server in the environment. */
    if (!rc && (a.target.data_dir || a.target.config_file) && getenv("QUIPU_SERVER") &&
        a.target.server && strcmp(a.target.server, getenv("QUIPU_SERVER")) == 0)
        a.target.server = NULL;
    if (!rc) rc = check(&a, n_args, &err);
    if (rc) return cli_fail(&err);
    return run(&a, n_args ? args[0] : a.from_dump, &err);
}
