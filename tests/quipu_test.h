/* tests/quipu_test.h: what every test program shares on top of cmocka.
 * Property tests draw from test_rng(); its seed is QUIPU_SEED or a fixed default, and is printed when a
 * check fails, so that `QUIPU_SEED=… test_x` repeats the failure. */
#ifndef QUIPU_TEST_H
#define QUIPU_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/err.h"
#include "base/rng.h"

/* Where the running property is, for the message of a failed check; set by PROPERTY_LOOP. */
struct test_where {
    bool in_property;
    uint64_t seed;
    uint64_t round;
};
static struct test_where test_where __attribute__((unused));

__attribute__((unused, noreturn, format(printf, 3, 4))) static void
test_fail(const char *file, int line, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fprintf(stderr, "%s:%d: ", file, line);
    vfprintf(stderr, fmt, args);
    va_end(args);
    if (test_where.in_property)
        fprintf(stderr, " [round %" PRIu64 "; replay with QUIPU_SEED=%" PRIu64 "]",
                test_where.round, test_where.seed);
    fputc('\n', stderr);
    test_where.in_property = false;
    _fail(file, line);
    abort(); /* _fail does not return */
}

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond)) test_fail(__FILE__, __LINE__, "not true: %s", #cond);                         \
    } while (0)

/* The call succeeds; else its error is printed. `errp` is evaluated after rc. */
#define CHECK_OK(rc, errp)                                                                         \
    do {                                                                                           \
        enum err_code check_rc_ = (rc);                                                            \
        if (check_rc_ != ERR_OK) {                                                                 \
            char check_text_[2048];                                                                \
            test_fail(__FILE__, __LINE__, "%s: %s: %s", #rc, err_code_name(check_rc_),             \
                      err_describe((errp), check_text_, sizeof(check_text_)));                     \
        }                                                                                          \
    } while (0)

/* The call fails with just this code. */
#define CHECK_ERR(rc, expected)                                                                    \
    do {                                                                                           \
        enum err_code check_rc_ = (rc), check_expected_ = (expected);                              \
        if (check_rc_ != check_expected_)                                                          \
            test_fail(__FILE__, __LINE__, "%s: %s instead of %s", #rc, err_code_name(check_rc_),   \
                      err_code_name(check_expected_));                                             \
    } while (0)

#define CHECK_U64(got, expected)                                                                   \
    do {                                                                                           \
        uint64_t check_a_ = (uint64_t)(got), check_b_ = (uint64_t)(expected);                      \
        if (check_a_ != check_b_)                                                                  \
            test_fail(__FILE__, __LINE__, "%s is %" PRIu64 " instead of %" PRIu64, #got, check_a_, \
                      check_b_);                                                                   \
    } while (0)

#define CHECK_I64(got, expected)                                                                   \
    do {                                                                                           \
        int64_t check_a_ = (int64_t)(got), check_b_ = (int64_t)(expected);                         \
        if (check_a_ != check_b_)                                                                  \
            test_fail(__FILE__, __LINE__, "%s is %" PRId64 " instead of %" PRId64, #got, check_a_, \
                      check_b_);                                                                   \
    } while (0)

/* Bit by bit: NaN payloads and -0 count. */
#define CHECK_SAME_DOUBLE(got, expected)                                                           \
    do {                                                                                           \
        double check_a_ = (got), check_b_ = (expected);                                            \
        if (double_bits(check_a_) != double_bits(check_b_))                                        \
            test_fail(__FILE__, __LINE__,                                                          \
                      "%s is %.17g (%016" PRIx64 ") instead of %.17g (%016" PRIx64 ")", #got,      \
                      check_a_, double_bits(check_a_), check_b_, double_bits(check_b_));           \
    } while (0)

/* struct str against a C string. */
#define CHECK_STR(got, expected)                                                                   \
    do {                                                                                           \
        struct str check_a_ = (got), check_b_ = str_of(expected);                                  \
        if (!str_eq(check_a_, check_b_))                                                           \
            test_fail(__FILE__, __LINE__, "%s is\n  \"%.*s\" instead of\n  \"%.*s\"", #got,        \
                      STR_ARG(check_a_), STR_ARG(check_b_));                                       \
    } while (0)

#define CHECK_BYTES(got, expected)                                                                 \
    do {                                                                                           \
        struct bytes check_a_ = (got), check_b_ = (expected);                                      \
        if (!str_eq(str_from_bytes(check_a_), str_from_bytes(check_b_)))                           \
            test_fail(__FILE__, __LINE__, "%s: %zu bytes differ from the expected %zu", #got,      \
                      check_a_.len, check_b_.len);                                                 \
    } while (0)

/* QUIPU_SEED, or the default. */
__attribute__((unused)) static uint64_t test_seed(void)
{
    const char *z = getenv("QUIPU_SEED");
    return z && *z ? strtoull(z, NULL, 0) : 20260101;
}

/* A generator for a test without rounds. */
__attribute__((unused)) static void test_rng(struct rng *rng)
{
    test_where = (struct test_where){true, test_seed(), 0};
    rng_seed(rng, test_where.seed);
}

__attribute__((unused)) static bool test_round(struct rng *rng, uint64_t *round, uint64_t n_rounds)
{
    const char *z = getenv("QUIPU_SEED");
    bool replay = z && *z;
    /* A round's seed stands alone: QUIPU_SEED runs just that round. */
    if (*round == (replay ? 1 : n_rounds)) {
        test_where.in_property = false;
        return false;
    }
    test_where = (struct test_where){true, replay ? test_seed() : test_seed() + *round, *round};
    rng_seed(rng, test_where.seed);
    ++*round;
    return true;
}

/* PROPERTY_LOOP(&rng, 2000) { … }: the block runs n times, each with a generator of its own seed. The
 * failing round's seed is printed; with QUIPU_SEED set only that round runs. */
#define PROPERTY_LOOP(rng, n_rounds)                                                               \
    for (uint64_t property_round_ = 0; test_round((rng), &property_round_, (n_rounds));)

/* A new empty folder under $TMPDIR or /tmp, into path (at least 256 bytes). */
__attribute__((unused)) static const char *test_temp_dir(char *path, size_t size)
{
    const char *base = getenv("TMPDIR");
    int n = snprintf(path, size, "%s/quipu-test-XXXXXX", base && *base ? base : "/tmp");
    CHECK(n > 0 && (size_t)n < size);
    CHECK(mkdtemp(path) != NULL);
    return path;
}

__attribute__((unused)) static int test_remove_entry(const char *path, const struct stat *st,
                                                     int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

/* The folder with all it holds. */
__attribute__((unused)) static void test_remove_dir(const char *path)
{
    CHECK(strstr(path, "quipu-test-") != NULL); /* only what test_temp_dir made */
    nftw(path, test_remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* Random bytes into p. */
__attribute__((unused)) static void test_fill(struct rng *rng, void *p, size_t len)
{
    for (size_t i = 0; i < len; i++) ((uint8_t *)p)[i] = (uint8_t)rng_u64(rng);
}

#endif
