/* tools/cmd_inspect.c: `quipu inspect`: what is inside a file of the data folder, and whether it is sound. Reads
 * only; may be used beside a running server. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "storage/block.h"
#include "tools/bench.h"
#include "tools/cli.h"
#include "tools/cmd.h"
#include "tools/tool_env.h"
#include "wal/wal.h"

#define SECTIONS_MAX 32
#define KINDS_MAX 32
/* One bad page spoils every series on it. */
#define PROBLEMS_SHOWN_MAX 20

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
    } by_type[WAL_TYPE_LAST + 1];
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
    size_t type = item->type <= WAL_TYPE_LAST ? (size_t)item->type : 0;
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
    for (size_t type = 0; type <= WAL_TYPE_LAST; type++) {
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

/* Chunks of one kind. A chunk of several series counts for each of them in part. */
struct kind_sum {
    const char *kind;
    uint64_t n_refs, samples;
    double n, bytes;
};

struct chunk_sum {
    struct kind_sum kinds[KINDS_MAX];
    size_t n_kinds;
};

static struct kind_sum *kind_of(struct chunk_sum *sum, const char *kind)
{
    for (size_t i = 0; i < sum->n_kinds; i++)
        if (strcmp(sum->kinds[i].kind, kind) == 0) return &sum->kinds[i];
    ASSERT(sum->n_kinds < KINDS_MAX);
    struct kind_sum *k = &sum->kinds[sum->n_kinds++];
    *k = (struct kind_sum){.kind = kind};
    return k;
}

static enum err_code on_chunk(void *ctx, const struct block_chunk *chunk, struct err *err)
{
    (void)err;
    struct kind_sum *k = kind_of(ctx, chunk->kind);
    double share = 1.0 / chunk->n_series;
    k->n_refs++;
    k->samples += chunk->meta.n;
    k->n += share;
    k->bytes += share * (double)chunk->bytes;
    return ERR_OK;
}

static void add_sum(struct chunk_sum *to, const struct chunk_sum *sum)
{
    for (size_t i = 0; i < sum->n_kinds; i++) {
        struct kind_sum *k = kind_of(to, sum->kinds[i].kind);
        k->n_refs += sum->kinds[i].n_refs;
        k->samples += sum->kinds[i].samples;
        k->n += sum->kinds[i].n;
        k->bytes += sum->kinds[i].bytes;
    }
}

static void print_chunk_sum(const struct chunk_sum *sum)
{
    uint64_t samples = 0, n = 0;
    double bytes = 0;
    for (size_t i = 0; i < sum->n_kinds; i++) {
        samples += sum->kinds[i].samples;
        n += sum->kinds[i].n_refs;
        bytes += sum->kinds[i].bytes;
    }
    printf("%" PRIu64 " samples, %" PRIu64 " chunks (", samples, n);
    for (size_t i = 0; i < sum->n_kinds; i++)
        printf("%s%" PRIu64 " %s", i ? ", " : "", sum->kinds[i].n_refs, sum->kinds[i].kind);
    printf("), %.0f bytes\n", bytes);
}

static enum err_code print_series(struct block *block, uint32_t id, const struct chunk_sum *sum,
                                  struct err *err)
{
    struct arena arena;
    struct labels labels;
    struct buf text;
    arena_init(&arena, MEM_TOOLS, 0);
    buf_init(&text, MEM_TOOLS);
    enum err_code rc = block_labels(block, id, &arena, &labels, err);
    if (!rc) {
        labels_print(&text, labels);
        printf("%.*s  ", (int)text.len, (const char *)text.p);
        print_chunk_sum(sum);
    }
    buf_release(&text);
    arena_release(&arena);
    return rc;
}

static int kind_cmp(const void *a, const void *b)
{
    const struct kind_sum *x = a, *y = b;
    return (x->bytes < y->bytes) - (x->bytes > y->bytes);
}

/* What the chunks are, by kind; with `list` every series. Stops at the first that cannot be read. */
static enum err_code print_chunks(struct block *block, bool list, struct err *err)
{
    enum err_code rc = ERR_OK;
    struct chunk_sum sum = {0};
    for (uint64_t id = 0; id < block_info(block)->n_series && !rc; id++) {
        struct chunk_sum one = {0};
        rc = block_chunks(block, (uint32_t)id, on_chunk, &one, err);
        if (!rc && list) rc = print_series(block, (uint32_t)id, &one, err);
        add_sum(&sum, &one);
    }
    if (rc) return rc;
    qsort(sum.kinds, sum.n_kinds, sizeof(*sum.kinds), kind_cmp);
    printf("%-16s %14s %14s %14s %16s\n", "chunks", "count", "samples", "bytes",
           "bytes per sample");
    for (size_t i = 0; i < sum.n_kinds; i++)
        printf("%-16s %14.0f %14" PRIu64 " %14.0f %16.3f\n", sum.kinds[i].kind, sum.kinds[i].n,
               sum.kinds[i].samples, sum.kinds[i].bytes,
               sum.kinds[i].bytes / (double)sum.kinds[i].samples);
    return ERR_OK;
}

static enum err_code inspect_block(const char *path, bool list, bool *bad, struct err *err)
{
    struct tool_env t;
    struct page_cache *cache = NULL;
    struct block *block = NULL;
    size_t n_problems = 0;
    enum err_code rc = tool_env_init(&t, LOG_WARN, false, err);
    if (!rc) rc = page_cache_new(&t.env, 1 << 20, &cache, err);
    if (!rc) rc = block_open(&t.env, path, cache, &block, err);
    if (!rc) {
        print_block(block);
        /* Each problem has been printed as it was found. */
        err_ignore(block_verify(block, on_problem, &n_problems, err));
        /* Of a bad block the problems are enough. */
        if (n_problems == 0 || list) rc = print_chunks(block, list, err);
        printf(n_problems ? "%zu bad places\n" : "all checksums and contents are good\n",
               n_problems);
    }
    *bad = n_problems != 0;
    if (block) block_unref(block);
    page_cache_free(cache);
    tool_env_release(&t);
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
