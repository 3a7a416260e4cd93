/* tests/base/test_open_files.c: few descriptors, many files; and a system that has none left. */
#include "base/open_files.h"

#include <errno.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/pool.h"
#include "base/rng.h"
#include "tests/quipu_test.h"

#define FILES 40
#define OPEN_MAX_ 7

struct many {
    char dir[256];
    struct open_files *of;
    struct file *files[FILES];
};

static void many_open(struct many *m)
{
    struct err err;
    test_temp_dir(m->dir, sizeof(m->dir));
    m->of = open_files_new(io_posix(), OPEN_MAX_);
    CHECK(m->of != NULL);
    for (int i = 0; i < FILES; i++) {
        char path[300];
        struct file *f;
        snprintf(path, sizeof(path), "%s/%d", m->dir, i);
        CHECK_OK(io_open(open_files_io(m->of), path, IO_WRITE | IO_CREATE, &f, &err), &err);
        uint32_t number = (uint32_t)i;
        CHECK_OK(file_write_at(f, 0, &number, sizeof(number), &err), &err);
        file_close(f);
        CHECK_OK(io_open(open_files_io(m->of), path, IO_READ, &m->files[i], &err), &err);
    }
}

static void many_close(struct many *m)
{
    for (int i = 0; i < FILES; i++) file_close(m->files[i]);
    CHECK_U64(open_files_counts(m->of).n_files, 0);
    CHECK_U64(open_files_counts(m->of).n_open, 0);
    open_files_free(m->of);
    test_remove_dir(m->dir);
}

static void read_one(void *ctx, size_t worker, size_t i)
{
    struct many *m = ctx;
    struct err err;
    uint32_t number = 0;
    uint64_t size;
    (void)worker;
    struct file *f = m->files[i * 7919 % FILES];
    CHECK_OK(file_read_exact(f, 0, &number, sizeof(number), &err), &err);
    CHECK_U64(number, i * 7919 % FILES);
    CHECK_OK(file_size(f, &size, &err), &err);
    CHECK_U64(size, sizeof(number));
}

static void test_bounded(void **state)
{
    (void)state;
    struct many m;
    many_open(&m);
    struct open_files_counts counts = open_files_counts(m.of);
    CHECK_U64(counts.n_files, FILES);
    CHECK(counts.n_open <= OPEN_MAX_);
    for (size_t i = 0; i < 5 * FILES; i++) {
        read_one(&m, 0, i);
        CHECK(open_files_counts(m.of).n_open <= OPEN_MAX_);
    }
    CHECK(open_files_counts(m.of).n_reopens > FILES);
    uint64_t before = open_files_counts(m.of).n_reopens; /* what is used again stays open */
    for (int i = 0; i < 100; i++) read_one(&m, 0, (size_t)(i % 2));
    CHECK(open_files_counts(m.of).n_reopens <= before + 2);
    many_close(&m);
}

static void test_threads(void **state)
{
    (void)state;
    struct many m;
    struct pool *pool;
    struct err err;
    many_open(&m);
    CHECK_OK(pool_new("read", 4, 16, &pool, &err), &err);
    pool_for(pool, 4000, read_one, &m);
    pool_free(pool);
    /* Those in use may be above the bound for a moment, no more than there are readers. */
    CHECK(open_files_counts(m.of).n_open <= OPEN_MAX_ + 5);
    many_close(&m);
}

static void test_reading_only(void **state)
{
    (void)state;
    struct many m;
    struct err err;
    struct file *f;
    many_open(&m);
    CHECK_ERR(file_write_at(m.files[0], 0, "x", 1, &err), ERR_INVALID);
    CHECK_ERR(file_truncate(m.files[0], 0, &err), ERR_INVALID);
    CHECK_ERR(io_open(open_files_io(m.of), "/nowhere/x", IO_READ, &f, &err), ERR_NOT_FOUND);
    CHECK_U64(open_files_counts(m.of).n_files, FILES);
    many_close(&m);
}

/* No descriptor is left: those that are not in use are given back, and the read goes on. */
static void test_no_descriptors(void **state)
{
    (void)state;
    struct many m;
    struct rlimit before, few;
    int taken[512], n = 0;
    many_open(&m);
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    few = before;
    few.rlim_cur = 256;
    CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
    while (n < 512 && (taken[n] = dup(0)) >= 0) n++;
    CHECK(n < 512 && errno == EMFILE);
    for (size_t i = 0; i < FILES; i++) read_one(&m, 0, i);
    while (n) close(taken[--n]);
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
    many_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bounded), cmocka_unit_test(test_threads),
        cmocka_unit_test(test_reading_only), cmocka_unit_test(test_no_descriptors)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
