/* tools/bench.c: what the benchmarks share. */
#include "tools/bench.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "tools/cli.h"

enum exit_code cli_fail(const struct err *err)
{
    char text[ERR_TEXT_BYTES + ERR_FILE_BYTES + 64];
    cli_progress_end();
    fprintf(stderr, "quipu: %s\n", err_describe(err, text, sizeof(text)));
    return exit_code_of(err->code);
}

enum err_code bench_latency_add(struct bench_latency *l, int64_t ns, struct err *err)
{
    enum err_code rc = mem_grow(MEM_TOOLS, (void **)&l->us, &l->cap, l->n + 1, sizeof(*l->us), err);
    if (rc) return rc;
    l->us[l->n++] = (uint32_t)MIN_OF((ns + 500) / 1000, (int64_t)UINT32_MAX);
    return ERR_OK;
}

static int compare_us(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

void bench_latency_sort(struct bench_latency *l)
{
    if (l->n) qsort(l->us, l->n, sizeof(*l->us), compare_us);
}

double bench_latency_ms(const struct bench_latency *l, double q)
{
    if (l->n == 0) return 0;
    size_t i = (size_t)ceil(q * (double)l->n);
    return (double)l->us[i ? i - 1 : 0] / 1000;
}

void bench_latency_free(struct bench_latency *l)
{
    mem_free(l->us);
    *l = (struct bench_latency){0};
}

enum exit_code cmd_bench(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "ingest") == 0) return bench_ingest(argc - 1, argv + 1);
    if (strcmp(what, "query") == 0) return bench_query(argc - 1, argv + 1);
    if (strcmp(what, "record") == 0) return bench_record(argc - 1, argv + 1);
    bool help = strcmp(what, "--help") == 0 || strcmp(what, "-h") == 0;
    fprintf(help ? stdout : stderr,
            "usage: quipu bench ingest|record|query [options]\n\n"
            "  ingest   sends a made-up fleet, history or a recording to any remote-write server\n"
            "  record   makes a recording of what remote-write senders send\n"
            "  query    asks a fixed list of queries over that fleet\n\n"
            "example:\n  quipu bench ingest --preset small && quipu bench query\n");
    return help ? EXIT_CODE_OK : EXIT_CODE_USAGE;
}
