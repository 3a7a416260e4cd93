/* What the system allows, read from made-up trees of /proc and /sys. */
#include "tests/quipu_test.h"

#include "base/mem.h"
#include "base/memory_limit.h"

#define GROUP_2 "/sys/fs/cgroup"
#define GROUP_1 "/sys/fs/cgroup/memory"

struct tree {
    struct io *io;
    char root[256];
    struct err err;
};

static void put_file(struct tree *t, const char *path, const char *text)
{
    char full[IO_PATH_BYTES], dir[IO_PATH_BYTES];
    snprintf(full, sizeof(full), "%s%s", t->root, path);
    CHECK_OK(io_parent(dir, sizeof(dir), &t->err, full), &t->err);
    CHECK_OK(io_mkdir_all(t->io, dir, &t->err), &t->err);
    struct file *file;
    CHECK_OK(io_open(t->io, full, IO_READ | IO_WRITE | IO_CREATE | IO_TRUNCATE, &file, &t->err),
             &t->err);
    CHECK_OK(file_write_at(file, 0, text, strlen(text), &t->err), &t->err);
    file_close(file);
}

static struct tree tree_make(const char *groups)
{
    struct tree t = {.io = io_posix()};
    test_temp_dir(t.root, sizeof(t.root));
    put_file(&t, "/proc/meminfo", "MemTotal:        1000 kB\nMemFree:    500 kB\n");
    if (groups) put_file(&t, "/proc/self/cgroup", groups);
    return t;
}

static void expect(struct tree *t, uint64_t bytes, const char *source)
{
    struct memory_limit found = memory_limit_find(t->io, t->root);
    CHECK_U64(found.bytes, bytes);
    CHECK_STR(str_of(found.source), source);
    test_remove_dir(t->root);
}

static void no_group_is_the_machine(void **state)
{
    (void)state;
    struct tree t = tree_make(NULL);
    expect(&t, 1000 * 1024, "machine");
    t = tree_make("0::/some/where\n"); /* whose files are not there */
    expect(&t, 1000 * 1024, "machine");
}

static void nothing_is_known(void **state)
{
    (void)state;
    struct tree t = {.io = io_posix()};
    test_temp_dir(t.root, sizeof(t.root));
    expect(&t, 0, "unknown");
}

static void version_2(void **state)
{
    (void)state;
    struct tree t = tree_make("0::/a/b\n");
    put_file(&t, GROUP_2 "/a/b/memory.max", "max\n");
    put_file(&t, GROUP_2 "/a/memory.max", "500000\n"); /* a parent's binds as well */
    expect(&t, 500000, "cgroup v2");
    t = tree_make("0::/a/b\n");
    put_file(&t, GROUP_2 "/a/b/memory.max", "400000\n");
    put_file(&t, GROUP_2 "/a/memory.max", "500000\n");
    expect(&t, 400000, "cgroup v2");
    t = tree_make("0::/\n"); /* a container with a name space of its own */
    put_file(&t, GROUP_2 "/memory.max", "300000\n");
    expect(&t, 300000, "cgroup v2");
    t = tree_make("0::/of/the/host\n"); /* a container without one: only the mount point is there */
    put_file(&t, GROUP_2 "/memory.max", "200000\n");
    expect(&t, 200000, "cgroup v2");
    t = tree_make("0::/a\n");
    put_file(&t, GROUP_2 "/a/memory.max", "99999999999\n"); /* more than there is */
    expect(&t, 1000 * 1024, "machine");
}

static void version_1(void **state)
{
    (void)state;
    struct tree t = tree_make("5:devices:/x\n4:cpu,memory:/x/y\n0::/\n");
    put_file(&t, GROUP_1 "/x/y/memory.limit_in_bytes", "9223372036854771712\n");
    put_file(&t, GROUP_1 "/x/memory.limit_in_bytes", "700000\n");
    expect(&t, 700000, "cgroup v1");
    t = tree_make("4:memory_not:/x\n");
    put_file(&t, GROUP_1 "/x/memory.limit_in_bytes", "700000\n");
    expect(&t, 1000 * 1024, "machine");
    t = tree_make("4:memory:/x\n0::/u\n"); /* both at once */
    put_file(&t, GROUP_1 "/x/memory.limit_in_bytes", "700000\n");
    put_file(&t, GROUP_2 "/unified/u/memory.max", "600000\n");
    expect(&t, 600000, "cgroup v2");
}

static void nonsense_is_passed_over(void **state)
{
    (void)state;
    struct tree t = tree_make("\n:\n::\nabc\n0:\n1:memory\n1:memory:relative\n0::/a");
    put_file(&t, GROUP_2 "/a/memory.max", "-5\n");
    put_file(&t, GROUP_2 "/memory.max", "");
    expect(&t, 1000 * 1024, "machine");
}

static void resident_is_what_we_touch(void **state)
{
    (void)state;
    const size_t more = (size_t)64 << 20;
    uint64_t before = memory_resident_bytes(io_posix());
    CHECK(before > 0);
    uint8_t *p = mem_map(MEM_BASE, more);
    CHECK(p != NULL);
    memset(p, 1, more);
    uint64_t after = memory_resident_bytes(io_posix());
    CHECK(after >= before + more / 2);
    mem_unmap(MEM_BASE, p, more);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_group_is_the_machine),
        cmocka_unit_test(nothing_is_known),
        cmocka_unit_test(version_2),
        cmocka_unit_test(version_1),
        cmocka_unit_test(nonsense_is_passed_over),
        cmocka_unit_test(resident_is_what_we_touch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
