/* tests/query/eval_fixture.h: queries over source_mem, answers as text. */
#ifndef QUIPU_TESTS_QUERY_EVAL_FIXTURE_H
#define QUIPU_TESTS_QUERY_EVAL_FIXTURE_H

#include "query/eval.h"
#include "tests/query/source_mem.h"

struct fixture {
    struct source_mem *mem;
    struct clock_fake clock;
    struct query_env env;
    struct buf text; /* of the last answer */
};

struct fixture *fixture_new(const char *load);
void fixture_free(struct fixture *f);

/* One line per series: its labels, then its values at all steps, `_` for none. Instant vectors: in the order of
 * the answer. Then "warn: …" and "info: …" lines, in their order. Errors: "error CODE: text". Times are in seconds;
 * the text lives until the next call. */
const char *fixture_instant(struct fixture *f, const char *query, int64_t t);
const char *fixture_range(struct fixture *f, const char *query, int64_t start, int64_t end,
                          int64_t step);
/* The answer as it is; NULL with *err set. */
struct query_result *fixture_run(struct fixture *f, const char *query, int64_t start_ms,
                                 int64_t end_ms, int64_t step_ms, struct err *err);

void check_answer(const char *file, int line, const char *query, const char *got,
                  const char *expected);
#define CHECK_INSTANT(f, query, t, expected)                                                       \
    check_answer(__FILE__, __LINE__, (query), fixture_instant((f), (query), (t)), (expected))
#define CHECK_RANGE(f, query, start, end, step, expected)                                          \
    check_answer(__FILE__, __LINE__, (query), fixture_range((f), (query), (start), (end), (step)), \
                 (expected))

#endif
