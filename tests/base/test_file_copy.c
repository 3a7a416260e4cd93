#include "base/file_copy.h"

#include <unistd.h>

#include "tests/quipu_test.h"

struct fixture {
    char dir[256], a[300], b[300];
    struct err err;
};

static void init(struct fixture *f)
{
    test_temp_dir(f->dir, sizeof(f->dir));
    snprintf(f->a, sizeof(f->a), "%s/a", f->dir);
    snprintf(f->b, sizeof(f->b), "%s/b", f->dir);
}

static void put(struct fixture *f, const char *path, size_t n)
{
    struct rng rng;
    struct buf content;
    rng_seed(&rng, n);
    buf_init(&content, MEM_BASE);
    test_fill(&rng, buf_reserve(&content, n + 1), n);
    content.len = n;
    CHECK_OK(file_replace(io_posix(), path, buf_bytes(&content), &f->err), &f->err);
    buf_release(&content);
}

static void check_same(struct fixture *f, const char *a, const char *b, size_t n)
{
    uint8_t *p, *q;
    size_t len, other;
    CHECK_OK(io_read_file(io_posix(), a, SIZE_MAX / 2, &p, &len, &f->err), &f->err);
    CHECK_OK(io_read_file(io_posix(), b, SIZE_MAX / 2, &q, &other, &f->err), &f->err);
    CHECK_U64(other, n);
    CHECK(n == 0 || memcmp(p, q, n) == 0);
    mem_free(p);
    mem_free(q);
}

static enum err_code count(void *ctx, struct bytes part, struct err *err)
{
    (void)err;
    *(uint64_t *)ctx += part.len;
    return ERR_OK;
}

static enum err_code refuse(void *ctx, struct bytes part, struct err *err)
{
    (void)ctx, (void)part;
    return err_set(err, ERR_CANCELED, "enough");
}

static void test_sizes(void **state)
{
    (void)state;
    struct fixture f;
    static const size_t sizes[] = {0, 1, 4096, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20};
    init(&f);
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        uint64_t seen = 0, scanned = 0;
        put(&f, f.a, sizes[i]);
        CHECK_OK(file_copy(io_posix(), f.a, f.b, UINT64_MAX, count, &seen, &f.err), &f.err);
        CHECK_U64(seen, sizes[i]);
        check_same(&f, f.a, f.b, sizes[i]);
        CHECK_OK(file_scan(io_posix(), f.b, count, &scanned, &f.err), &f.err);
        CHECK_U64(scanned, sizes[i]);
        uint64_t half = sizes[i] / 2;
        CHECK_OK(file_copy(io_posix(), f.a, f.b, half, NULL, NULL, &f.err), &f.err);
        check_same(&f, f.a, f.b, half);
        CHECK_ERR(file_copy(io_posix(), f.a, f.b, sizes[i] + 1, NULL, NULL, &f.err), ERR_CORRUPT);
        check_same(&f, f.a, f.b, half); /* what was there stays */
    }
    test_remove_dir(f.dir);
}

static void test_failure_leaves_nothing(void **state)
{
    (void)state;
    struct fixture f;
    struct buf names;
    init(&f);
    put(&f, f.a, 5000);
    CHECK_ERR(file_copy(io_posix(), f.a, f.b, UINT64_MAX, refuse, NULL, &f.err), ERR_CANCELED);
    buf_init(&names, MEM_BASE);
    CHECK_OK(file_names(io_posix(), f.dir, &names, &f.err), &f.err);
    CHECK_BYTES(buf_bytes(&names), bytes_of("a", 2));
    buf_release(&names);
    CHECK_ERR(file_copy(io_posix(), f.b, f.a, UINT64_MAX, NULL, NULL, &f.err), ERR_NOT_FOUND);
    test_remove_dir(f.dir);
}

/* A link to a folder goes, what it leads to stays. */
static void test_remove_tree(void **state)
{
    (void)state;
    struct fixture f;
    char deep[400], outside[400], inside[400];
    init(&f);
    snprintf(deep, sizeof(deep), "%s/x/y/z", f.dir);
    snprintf(outside, sizeof(outside), "%s/kept", f.dir);
    snprintf(inside, sizeof(inside), "%s/kept/file", f.dir);
    CHECK_OK(io_mkdir_all(io_posix(), deep, &f.err), &f.err);
    CHECK_OK(io_mkdir_all(io_posix(), outside, &f.err), &f.err);
    put(&f, inside, 10);
    snprintf(deep, sizeof(deep), "%s/x/y/link", f.dir);
    CHECK(symlink(outside, deep) == 0);
    snprintf(deep, sizeof(deep), "%s/x/y/file", f.dir);
    put(&f, deep, 10);
    snprintf(deep, sizeof(deep), "%s/x", f.dir);
    CHECK_OK(file_remove_tree(io_posix(), deep, &f.err), &f.err);
    CHECK(!io_exists(io_posix(), deep));
    CHECK(io_exists(io_posix(), inside));
    CHECK_OK(file_remove_tree(io_posix(), deep, &f.err), &f.err); /* none is fine */
    CHECK_OK(file_remove_tree(io_posix(), inside, &f.err), &f.err);
    CHECK(!io_exists(io_posix(), inside));
    test_remove_dir(f.dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_failure_leaves_nothing),
        cmocka_unit_test(test_remove_tree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
