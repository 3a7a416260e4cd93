/* tools/bench.h: `quipu bench ingest`, `record` and `query`. All return an exit code. */
#ifndef QUIPU_TOOLS_BENCH_H
#define QUIPU_TOOLS_BENCH_H

#include "tools/exit_code.h"

enum exit_code cmd_bench(int argc, char **argv); /* argv[0] is "bench" */
enum exit_code bench_ingest(int argc, char **argv);
enum exit_code bench_record(int argc, char **argv);
enum exit_code bench_query(int argc, char **argv);

/* Latencies in microseconds, kept all: exact percentiles. */
struct bench_latency {
    uint32_t *us;
    size_t n, cap;
};
MUST_USE enum err_code bench_latency_add(struct bench_latency *l, int64_t ns, struct err *err);
void bench_latency_sort(struct bench_latency *l);
double bench_latency_ms(const struct bench_latency *l, double q); /* sorted; 0 when empty */
void bench_latency_free(struct bench_latency *l);

/* Prints "quipu: text" on stderr and returns its exit code. */
enum exit_code cli_fail(const struct err *err);

#endif
