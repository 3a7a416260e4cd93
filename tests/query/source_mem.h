/* tests/query/source_mem.h: a query_source over a table in memory, filled by a compact text:
 *
 *   load 30s
 *     metric{a="b"} 0+10x20 _ stale
 *     other 1 2 3 {{schema:0 count:4 sum:5 buckets:[1 2 1]}}x3
 *
 * One value per interval, from time 0: a number, `_` (none), `stale`; `axN` is a N + 1 times, `a+bxN` adds b each
 * time, `_xN` leaves out N. Loads add up. Reads may come from several threads. Mistakes in the text end the test. */
#ifndef QUIPU_TESTS_QUERY_SOURCE_MEM_H
#define QUIPU_TESTS_QUERY_SOURCE_MEM_H

#include "query/source.h"

struct source_mem;

struct source_mem *source_mem_new(void);
void source_mem_free(struct source_mem *m);
void source_mem_clear(struct source_mem *m);
void source_mem_load(struct source_mem *m, const char *text);
struct query_source *source_mem_source(struct source_mem *m);

/* Samples by hand, in time order. `series` as in the text: metric{a="b"} */
void source_mem_push(struct source_mem *m, struct labels labels, int64_t t_ms, double v,
                     const struct histogram *h, int64_t start_ms);
/* Copies the series of `from` that `m` does not have yet. */
void source_mem_adopt(struct source_mem *m, const struct source_mem *from);
/* Select calls so far, and those not released. */
size_t source_mem_selects(const struct source_mem *m);
size_t source_mem_open(const struct source_mem *m);
/* Every read from now on fails with this code; ERR_OK: none does. */
void source_mem_fail_reads(struct source_mem *m, enum err_code code);

#endif
