/* tools/cmd_inspect.c: `quipu inspect`: what is inside a file of the data folder, and whether it is sound. Reads
 * only; may be used beside a running server. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/metric.h"
#include "storage/block.h"
#include "tools/bench.h"
#include "tools/cli.h"
#include "tools/cmd.h"
#include "wal/wal.h"

#define SECTIONS_MAX 32
/* One bad page spoils every series on it. */
#define PROBLEMS_SHOWN_MAX 20

struct tool_env {
    struct env env;
    struct log log;
    struct rng rng;
};

static enum err_code tool_env_init(struct tool_env *t, struct err *err)
{
    log_init(&t->log, clock_system(), LOG_WARN);
    rng_seed_os(&t->rng);
    t->env = (struct env){.io = io_posix(),
                          .clock = clock_system(),
                          .log = &t->log,
                          .metrics = metrics_new(),
                          .rng = &t->rng,
                          .threads = false};
    return t->env.metrics ? ERR_OK : err_set(err, ERR_NO_MEMORY, "no memory");
}

static const char *print_time(int64_t t_ms, char *buf, size_t size)
{
    time_t seconds = (time_t)(t_ms / 1000 - (t_ms % 1000 < 0));
    struct tm tm;
    char text[48];
    gmtime_r(&seconds, &tm);
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(buf, size, "%s.%03dZ", text, (int)((t_ms % 1000 + 1000) % 1000));
    return buf;
}

/* ---- the log ---- */

struct wal_sum {
    bool list;
    uint64_t n, n_bad;
    struct {
        uint64_t n, stored_bytes, raw_bytes;
    } by_type[WAL_CHECKPOINT + 1];
};

static bool on_item(void *ctx, const struct wal_inspect_item *item)
{
    struct wal_sum *sum = ctx;
    if (item->bad) {
        sum->n_bad++;
        printf("BAD at offset %" PRIu64 ": %s\n", item->file_off, item->text ? item->text : "");
        return true;
    }
    sum->n++;
    size_t type = item->type <= WAL_CHECKPOINT ? (size_t)item->type : 0;
    sum->by_type[type].n++;
    sum->by_type[type].stored_bytes += item->stored_bytes;
    sum->by_type[type].raw_bytes += item->raw_bytes;
    if (sum->list)
        printf("%12" PRIu64 "  position %-14" PRIu64 " %-11s %8u bytes, %8u decompressed\n",
               item->file_off, item->pos, wal_type_name(item->type), item->stored_bytes,
               item->raw_bytes);
    return true;
}

static enum err_code inspect_wal(const char *path, bool list, bool *bad, struct err *err)
{
    struct wal_segment_info info;
    struct wal_sum sum = {.list = list};
    enum err_code rc = wal_inspect(io_posix(), path, &info, on_item, &sum, err);
    if (rc) return rc;
    char size[32];
    printf("log segment, version %u, first position %" PRIu64 ", %s\n", info.version, info.base_pos,
           cli_human_bytes((double)info.file_bytes, size, sizeof(size)));
    printf("%-12s %10s %14s %14s\n", "record", "count", "stored bytes", "decompressed");
    for (size_t type = 0; type <= WAL_CHECKPOINT; type++) {
        if (!sum.by_type[type].n) continue;
        printf("%-12s %10" PRIu64 " %14" PRIu64 " %14" PRIu64 "\n",
               type ? wal_type_name((enum wal_type)type) : "?", sum.by_type[type].n,
               sum.by_type[type].stored_bytes, sum.by_type[type].raw_bytes);
    }
    printf("%" PRIu64 " records with good checksums, %" PRIu64 " bad places\n", sum.n, sum.n_bad);
    *bad = sum.n_bad != 0;
    return ERR_OK;
}

/* ---- blocks ---- */

static void on_problem(void *ctx, const struct err *problem)
{
    char text[ERR_TEXT_BYTES + ERR_FILE_BYTES + 64];
    size_t *n = ctx;
    if ((*n)++ < PROBLEMS_SHOWN_MAX)
        printf("BAD: %s\n", err_describe(problem, text, sizeof(text)));
    else if (*n == PROBLEMS_SHOWN_MAX + 1)
        printf("BAD: and more ...\n");
}

static void print_block(const struct block *block)
{
    const struct block_info *info = block_info(block);
    char from[64], to[64], created[64], size[32];
    printf("block %s, level %u, sequence %" PRIu64 ", incarnation %" PRIu64 "\n", info->ulid.text,
           info->level, info->sequence, info->incarnation);
    printf("created  %s\n", print_time(info->created_ms, created, sizeof(created)));
    printf("samples  %s to %s\n", print_time(info->t_min_ms, from, sizeof(from)),
           print_time(info->t_max_ms, to, sizeof(to)));
    printf("holds    %" PRIu64 " samples, %" PRIu64 " series, %" PRIu64 " chunks\n",
           info->n_samples, info->n_series, info->n_chunks);
    printf("size     %s, %.3f bytes per sample\n",
           cli_human_bytes((double)info->file_bytes, size, sizeof(size)),
           info->n_samples ? (double)info->file_bytes / (double)info->n_samples : 0);
    struct block_section_info sections[SECTIONS_MAX];
    size_t n = block_sections(block, sections, SECTIONS_MAX);
    printf("%-16s %14s %14s %8s\n", "section", "offset", "bytes", "pages");
    for (size_t i = 0; i < n; i++)
        printf("%-16.16s %14" PRIu64 " %14" PRIu64 " %8" PRIu64 "\n", sections[i].name,
               sections[i].off, sections[i].bytes, sections[i].n_pages);
}

#define KINDS_MAX 12

struct chunk_sum {
    uint64_t n, bytes, samples;
    struct {
        const char *name;
        uint64_t n;
    } kinds[KINDS_MAX]; /* as met */
};

static void count_kind(struct chunk_sum *sum, const char *name)
{
    size_t i = 0;
    while (i < KINDS_MAX - 1 && sum->kinds[i].name && strcmp(sum->kinds[i].name, name) != 0) i++;
    sum->kinds[i].name = name;
    sum->kinds[i].n++;
}

static enum err_code on_chunk(void *ctx, const struct chunk_meta *meta, struct bytes chunk,
                              struct err *err)
{
    (void)err;
    struct chunk_sum *sum = ctx;
    sum->n++;
    sum->bytes += chunk.len;
    sum->samples += meta->n;
    count_kind(sum, chunk_kind_name(chunk));
    return ERR_OK;
}

static void print_chunk_sum(const struct chunk_sum *sum)
{
    printf("%" PRIu64 " samples, %" PRIu64 " chunks (", sum->samples, sum->n);
    for (size_t i = 0; i < KINDS_MAX && sum->kinds[i].name; i++)
        printf("%s%" PRIu64 " %s", i ? ", " : "", sum->kinds[i].n, sum->kinds[i].name);
    printf("), %" PRIu64 " bytes\n", sum->bytes);
}

static enum err_code print_series(struct block *block, struct err *err)
{
    enum err_code rc = ERR_OK;
    for (uint64_t id = 0; id < block_info(block)->n_series && !rc; id++) {
        struct arena arena;
        struct labels labels;
        struct chunk_sum sum = {0};
        arena_init(&arena, MEM_TOOLS, 0);
        rc = block_labels(block, (uint32_t)id, &arena, &labels, err);
        if (!rc) rc = block_chunks(block, (uint32_t)id, on_chunk, &sum, err);
        struct buf text;
        buf_init(&text, MEM_TOOLS);
        if (!rc) labels_print(&text, labels);
        if (!rc) {
            printf("%.*s  ", (int)text.len, (const char *)text.p);
            print_chunk_sum(&sum);
        }
        buf_release(&text);
        arena_release(&arena);
    }
    return rc;
}

static enum err_code inspect_block(const char *path, bool list, bool *bad, struct err *err)
{
    struct tool_env t;
    struct page_cache *cache = NULL;
    struct block *block = NULL;
    size_t n_problems = 0;
    enum err_code rc = tool_env_init(&t, err);
    if (!rc) rc = page_cache_new(&t.env, 1 << 20, &cache, err);
    if (!rc) rc = block_open(&t.env, path, cache, &block, err);
    if (!rc) {
        print_block(block);
        /* Each problem has been printed as it was found. */
        err_ignore(block_verify(block, on_problem, &n_problems, err));
        if (list) rc = print_series(block, err);
        printf(n_problems ? "%zu bad places\n" : "all checksums and contents are good\n",
               n_problems);
    }
    *bad = n_problems != 0;
    if (block) block_unref(block);
    page_cache_free(cache);
    metrics_free(t.env.metrics);
    return rc;
}

enum exit_code cmd_inspect(int argc, char **argv)
{
    bool list = false, helped, bad = false;
    const struct cli_option options[] = {
        {"list", CLI_FLAG, &list, NULL, "every record of a log, every series of a block", NULL}};
    const struct cli_command command = {
        .name = "inspect",
        .usage = "inspect wal|block FILE [--list]",
        .doc = "Prints what is inside a file of the data folder and checks all of it. Bad places\n"
               "are named; then the exit code is 6. Only reads, also beside a running server.",
        .examples = "  quipu inspect wal data/wal/00000001.wal\n"
                    "  quipu inspect block data/tenants/default/blocks/*.block\n",
        .options = options,
        .n_options = COUNT_OF(options)};
    struct err err;
    char *args[1024];
    size_t n_args;
    enum err_code rc =
        cli_parse(&command, argc, argv, args, COUNT_OF(args), &n_args, &helped, &err);
    if (!rc && helped) return EXIT_CODE_OK;
    bool is_wal = !rc && n_args >= 2 && strcmp(args[0], "wal") == 0;
    if (!rc && !is_wal && (n_args < 2 || strcmp(args[0], "block") != 0))
        rc = err_set(&err, ERR_INVALID, "inspect wants wal or block, and a file");
    if (rc) return cli_fail(&err);
    enum exit_code code = EXIT_CODE_OK;
    for (size_t i = 1; i < n_args; i++) {
        if (n_args > 2) printf("%s%s:\n", i > 1 ? "\n" : "", args[i]);
        rc = is_wal ? inspect_wal(args[i], list, &bad, &err)
                    : inspect_block(args[i], list, &bad, &err);
        if (rc) code = cli_fail(&err);
        if (bad && code == EXIT_CODE_OK) code = EXIT_CODE_CORRUPT;
    }
    return code;
}
