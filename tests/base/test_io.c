/* Files on the real disk, in a temporary folder, and the helpers on top. */
#include "tests/quipu_test.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/io.h"

struct fixture {
    struct io *io;
    char dir[256];
    char path[IO_PATH_BYTES];
    struct err err;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    f->io = io_posix();
    test_temp_dir(f->dir, sizeof(f->dir));
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    test_remove_dir(f->dir);
    free(f);
    return 0;
}

static const char *in_dir(struct fixture *f, const char *name)
{
    CHECK_OK(io_path(f->path, sizeof(f->path), &f->err, f->dir, name), &f->err);
    return f->path;
}

static struct file *must_open(struct fixture *f, const char *name, unsigned flags)
{
    struct file *file;
    CHECK_OK(io_open(f->io, in_dir(f, name), flags, &file, &f->err), &f->err);
    return file;
}

/* The descriptor that is open for `path`, found by what the system says it is. */
static bool is_close_on_exec(const char *path)
{
    for (int fd = 3; fd < 256; fd++) {
        char link[64], target[IO_PATH_BYTES];
        snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        ssize_t n = readlink(link, target, sizeof(target) - 1);
        if (n < 0) continue;
        target[n] = 0;
        if (strcmp(target, path) == 0) return fcntl(fd, F_GETFD) & FD_CLOEXEC;
    }
    return false;
}

static void open_flags(void **state)
{
    struct fixture *f = *state;
    struct file *file;
    CHECK_ERR(io_open(f->io, in_dir(f, "a"), IO_READ, &file, &f->err), ERR_NOT_FOUND);
    CHECK(file == NULL);
    CHECK(strstr(f->err.text, "/a") != NULL);
    CHECK(str_has_suffix(str_of(f->err.file), STR("/a")));
    file = must_open(f, "a", IO_WRITE | IO_CREATE | IO_EXCL);
    CHECK_OK(file_write_at(file, 0, "hello", 5, &f->err), &f->err);
    file_close(file);
    CHECK_ERR(io_open(f->io, f->path, IO_WRITE | IO_CREATE | IO_EXCL, &file, &f->err), ERR_EXISTS);
    file = must_open(f, "a", IO_READ | IO_WRITE | IO_CREATE);
    uint64_t size;
    CHECK_OK(file_size(file, &size, &f->err), &f->err);
    CHECK_U64(size, 5);
    CHECK(is_close_on_exec(f->path));
    file_close(file);
    file = must_open(f, "a", IO_WRITE | IO_TRUNCATE);
    CHECK_OK(file_size(file, &size, &f->err), &f->err);
    CHECK_U64(size, 0);
    file_close(file);
    file_close(NULL);
    CHECK_ERR(io_open(f->io, f->dir, IO_READ, &file, &f->err), ERR_IO); /* a folder */
    CHECK(file == NULL);
}

static void read_and_write(void **state)
{
    struct fixture *f = *state;
    struct file *file = must_open(f, "rw", IO_READ | IO_WRITE | IO_CREATE);
    char p[64];
    size_t n;
    CHECK_OK(file_write_at(file, 10, "world", 5, &f->err), &f->err);
    CHECK_OK(file_read_at(file, 0, p, sizeof(p), &n, &f->err), &f->err);
    CHECK_U64(n, 15);
    CHECK(memcmp(p, "\0\0\0\0\0\0\0\0\0\0world", 15) == 0);
    CHECK_OK(file_read_at(file, 15, p, 1, &n, &f->err), &f->err);
    CHECK_U64(n, 0);
    CHECK_OK(file_read_exact(file, 10, p, 5, &f->err), &f->err);
    CHECK_ERR(file_read_exact(file, 12, p, 5, &f->err), ERR_CORRUPT);
    CHECK(f->err.has_off);
    CHECK_U64(f->err.file_off, 15);
    CHECK_OK(file_sync(file, &f->err), &f->err);
    CHECK_OK(file_truncate(file, 12, &f->err), &f->err);
    CHECK_OK(file_truncate(file, 20, &f->err), &f->err);
    CHECK_OK(file_read_at(file, 10, p, sizeof(p), &n, &f->err), &f->err);
    CHECK(n == 10 && memcmp(p, "wo\0\0\0\0\0\0\0\0", 10) == 0);
    file_close(file);
    file = must_open(f, "rw", IO_READ);
    CHECK_ERR(file_write_at(file, 0, "x", 1, &f->err), ERR_IO);
    file_close(file);
}

static void allocate_grows_with_zeros(void **state)
{
    struct fixture *f = *state;
    struct file *file = must_open(f, "al", IO_READ | IO_WRITE | IO_CREATE);
    uint64_t size;
    CHECK_OK(file_write_at(file, 0, "abc", 3, &f->err), &f->err);
    CHECK_OK(file_allocate(file, 200000, &f->err), &f->err);
    CHECK_OK(file_size(file, &size, &f->err), &f->err);
    CHECK_U64(size, 200000);
    CHECK_OK(file_allocate(file, 100, &f->err), &f->err); /* never shrinks */
    CHECK_OK(file_size(file, &size, &f->err), &f->err);
    CHECK_U64(size, 200000);
    uint8_t *p;
    size_t len;
    CHECK_OK(io_read_file(f->io, file->path, 200000, &p, &len, &f->err), &f->err);
    CHECK_U64(len, 200000);
    CHECK(memcmp(p, "abc", 3) == 0);
    for (size_t i = 3; i < len; i++) CHECK(p[i] == 0);
    mem_free(p);
    struct stat st;
    CHECK(stat(file->path, &st) == 0);
    CHECK(st.st_blocks * 512 >= 200000); /* reserved, not a hole */
    file_close(file);
}

static void locks_exclude(void **state)
{
    struct fixture *f = *state;
    struct file *a = must_open(f, "LOCK", IO_READ | IO_WRITE | IO_CREATE);
    struct file *b = must_open(f, "LOCK", IO_READ | IO_WRITE | IO_CREATE);
    CHECK_OK(file_lock(a, &f->err), &f->err);
    CHECK_OK(file_lock(a, &f->err), &f->err); /* its own */
    CHECK_ERR(file_lock(b, &f->err), ERR_BUSY);
    CHECK(strstr(f->err.text, "LOCK") != NULL);
    file_close(a);
    CHECK_OK(file_lock(b, &f->err), &f->err);
    file_close(b);
}

static bool note_name(void *ctx, const char *name, bool is_dir)
{
    struct buf *b = ctx;
    buf_printf(b, "%s%s ", name, is_dir ? "/" : "");
    return true;
}

static bool stop_at_once(void *ctx, const char *name, bool is_dir)
{
    (void)name;
    (void)is_dir;
    return ++*(int *)ctx < 1;
}

static void names(void **state)
{
    struct fixture *f = *state;
    struct io *io = f->io;
    char a[IO_PATH_BYTES], b[IO_PATH_BYTES], d[IO_PATH_BYTES];
    CHECK_OK(io_path(a, sizeof(a), &f->err, f->dir, "a"), &f->err);
    CHECK_OK(io_path(b, sizeof(b), &f->err, f->dir, "b"), &f->err);
    CHECK_OK(io_path(d, sizeof(d), &f->err, f->dir, "d"), &f->err);
    file_close(must_open(f, "a", IO_WRITE | IO_CREATE));
    CHECK(io_exists(io, a) && !io_exists(io, b));
    CHECK_OK(io_link(io, a, b, &f->err), &f->err);
    CHECK_ERR(io_link(io, a, b, &f->err), ERR_EXISTS);
    CHECK_OK(io_unlink(io, a, &f->err), &f->err);
    CHECK_ERR(io_unlink(io, a, &f->err), ERR_NOT_FOUND);
    CHECK_OK(io_rename(io, b, a, &f->err), &f->err);
    CHECK_ERR(io_rename(io, b, a, &f->err), ERR_NOT_FOUND);
    CHECK(strstr(f->err.text, "/b to ") != NULL);
    CHECK_OK(io_mkdir(io, d, &f->err), &f->err);
    CHECK_ERR(io_mkdir(io, d, &f->err), ERR_EXISTS);
    uint64_t size, total;
    bool is_dir;
    CHECK_OK(io_stat(io, d, &size, &is_dir, &f->err), &f->err);
    CHECK(is_dir);
    CHECK_OK(io_stat(io, a, &size, &is_dir, &f->err), &f->err);
    CHECK(!is_dir);
    struct buf list;
    buf_init(&list, MEM_BASE);
    CHECK_OK(io_list(io, f->dir, note_name, &list, &f->err), &f->err);
    buf_u8(&list, 0);
    CHECK(strcmp((char *)list.p, "a d/ ") == 0 || strcmp((char *)list.p, "d/ a ") == 0);
    buf_release(&list);
    int n = 0;
    CHECK_OK(io_list(io, f->dir, stop_at_once, &n, &f->err), &f->err);
    CHECK_I64(n, 1);
    CHECK_OK(io_rmdir(io, d, &f->err), &f->err);
    CHECK_ERR(io_rmdir(io, d, &f->err), ERR_NOT_FOUND);
    CHECK_ERR(io_list(io, d, note_name, &list, &f->err), ERR_NOT_FOUND);
    CHECK_ERR(io_sync_dir(io, d, &f->err), ERR_NOT_FOUND);
    CHECK_OK(io_sync_dir(io, f->dir, &f->err), &f->err);
    CHECK_OK(io_disk_space(io, f->dir, &size, &total, &f->err), &f->err);
    CHECK(total > 0 && size <= total);
}

static void make_folders(void **state)
{
    struct fixture *f = *state;
    uint64_t size;
    bool is_dir;
    char path[IO_PATH_BYTES];
    CHECK_OK(io_mkdir_all(f->io, in_dir(f, "x//y/z/"), &f->err), &f->err);
    CHECK_OK(io_stat(f->io, in_dir(f, "x/y/z"), &size, &is_dir, &f->err), &f->err);
    CHECK(is_dir);
    CHECK_OK(io_mkdir_all(f->io, in_dir(f, "x/y/z"), &f->err), &f->err);
    CHECK_OK(io_mkdir_all(f->io, "/", &f->err), &f->err);
    file_close(must_open(f, "x/file", IO_WRITE | IO_CREATE));
    CHECK_ERR(io_mkdir_all(f->io, in_dir(f, "x/file"), &f->err), ERR_EXISTS);
    CHECK_ERR(io_mkdir_all(f->io, in_dir(f, "x/file/sub"), &f->err), ERR_EXISTS);
    CHECK(getcwd(path, sizeof(path)) != NULL);
    CHECK(chdir(f->dir) == 0);
    CHECK_OK(io_mkdir_all(f->io, "relative/deep", &f->err), &f->err);
    CHECK_OK(io_mkdir_all(f->io, "flat", &f->err), &f->err);
    CHECK(chdir(path) == 0);
    CHECK(io_exists(f->io, in_dir(f, "relative/deep")));
    CHECK(io_exists(f->io, in_dir(f, "flat")));
}

static void publish_and_discard(void **state)
{
    struct fixture *f = *state;
    char path[IO_PATH_BYTES], temp[IO_PATH_BYTES];
    CHECK_OK(io_path(path, sizeof(path), &f->err, f->dir, "b.block"), &f->err);
    CHECK_OK(io_path(temp, sizeof(temp), &f->err, f->dir, "b.block.tmp"), &f->err);
    struct file *file;
    for (int round = 0; round < 2; round++) { /* the second replaces */
        CHECK_OK(io_create_temp(f->io, path, &file, &f->err), &f->err);
        CHECK(io_exists(f->io, temp));
        CHECK_OK(file_write_at(file, 0, round ? "two" : "one", 3, &f->err), &f->err);
        CHECK_OK(file_sync(file, &f->err), &f->err);
        CHECK_OK(io_publish(f->io, file, path, &f->err), &f->err);
        CHECK(!io_exists(f->io, temp));
        CHECK_STR(str_of(file->path), path);
        char p[3];
        CHECK_OK(file_read_exact(file, 0, p, 3, &f->err), &f->err);
        CHECK(memcmp(p, round ? "two" : "one", 3) == 0);
        io_discard(f->io, file); /* published: only closed */
        CHECK(io_exists(f->io, path));
    }
    CHECK_OK(io_create_temp(f->io, path, &file, &f->err), &f->err);
    CHECK_OK(file_write_at(file, 0, "old", 3, &f->err), &f->err);
    file_close(file); /* a leftover */
    CHECK_OK(io_create_temp(f->io, path, &file, &f->err), &f->err);
    uint64_t size;
    CHECK_OK(file_size(file, &size, &f->err), &f->err);
    CHECK_U64(size, 0);
    io_discard(f->io, file);
    CHECK(!io_exists(f->io, temp));
    io_discard(f->io, NULL);

    for (int i = 0; i < 20; i++) {
        char name[32];
        snprintf(name, sizeof(name), "%d.tmp", i);
        file_close(must_open(f, name, IO_WRITE | IO_CREATE));
    }
    file_close(must_open(f, "tmp", IO_WRITE | IO_CREATE));
    CHECK_OK(io_mkdir(f->io, in_dir(f, "dir.tmp"), &f->err), &f->err);
    CHECK_OK(io_remove_temps(f->io, f->dir, &f->err), &f->err);
    for (int i = 0; i < 20; i++) {
        char name[32];
        snprintf(name, sizeof(name), "%d.tmp", i);
        CHECK(!io_exists(f->io, in_dir(f, name)));
    }
    CHECK(io_exists(f->io, in_dir(f, "tmp")));
    CHECK(io_exists(f->io, in_dir(f, "dir.tmp")));
    CHECK(io_exists(f->io, path));
    CHECK_ERR(io_remove_temps(f->io, in_dir(f, "none"), &f->err), ERR_NOT_FOUND);
}

static void whole_files(void **state)
{
    struct fixture *f = *state;
    struct file *file = must_open(f, "w", IO_WRITE | IO_CREATE);
    CHECK_OK(file_write_at(file, 0, "text", 4, &f->err), &f->err);
    file_close(file);
    uint8_t *p;
    size_t len, before = mem_bytes(MEM_BASE);
    CHECK_OK(io_read_file(f->io, in_dir(f, "w"), 4, &p, &len, &f->err), &f->err);
    CHECK_U64(len, 4);
    CHECK_STR(str_of((char *)p), "text");
    mem_free(p);
    CHECK_ERR(io_read_file(f->io, in_dir(f, "w"), 3, &p, &len, &f->err), ERR_LIMIT);
    CHECK(p == NULL);
    CHECK_ERR(io_read_file(f->io, in_dir(f, "none"), 3, &p, &len, &f->err), ERR_NOT_FOUND);
    CHECK_U64(mem_bytes(MEM_BASE), before);
}

static void paths_join(void **state)
{
    struct fixture *f = *state;
    char p[10];
    CHECK_OK(io_path(p, sizeof(p), &f->err, "a", "b"), &f->err);
    CHECK_STR(str_of(p), "a/b");
    CHECK_OK(io_path(p, sizeof(p), &f->err, "a/", "b"), &f->err);
    CHECK_STR(str_of(p), "a/b");
    CHECK_OK(io_path(p, sizeof(p), &f->err, "", "b"), &f->err);
    CHECK_STR(str_of(p), "b");
    CHECK_OK(io_path(p, sizeof(p), &f->err, "/", "b"), &f->err);
    CHECK_STR(str_of(p), "/b");
    CHECK_OK(io_path(p, sizeof(p), &f->err, "1234", "5678"), &f->err);
    CHECK_ERR(io_path(p, sizeof(p), &f->err, "12345", "6789"), ERR_LIMIT);
}

static void parents(void **state)
{
    struct fixture *f = *state;
    static const char *const cases[][2] = {{"a", "."},        {"a/", "."},  {"/a", "/"},
                                           {"/a/b", "/a"},    {"a/b", "a"}, {"a//b", "a"},
                                           {"/a//b//", "/a"}, {"//a", "/"}, {"/", "/"}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char p[8];
        CHECK_OK(io_parent(p, sizeof(p), &f->err, cases[i][0]), &f->err);
        CHECK_STR(str_of(p), cases[i][1]);
    }
    char p[4];
    CHECK_ERR(io_parent(p, sizeof(p), &f->err, "1234/5"), ERR_LIMIT);
}

/* Random writes, truncates and reads against a plain array. */
static void random_use(void **state)
{
    struct fixture *f = *state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 20)
    {
        enum { MAX = 10000 };
        uint8_t model[MAX] = {0}, p[MAX];
        uint64_t model_size = 0, size;
        struct file *file = must_open(f, "random", IO_READ | IO_WRITE | IO_CREATE | IO_TRUNCATE);
        for (int step = 0; step < 100; step++) {
            uint64_t off = rng_below(&rng, MAX);
            size_t len = rng_below(&rng, MAX - off + 1), n;
            switch (rng_below(&rng, 4)) {
            case 0:
                test_fill(&rng, p, len);
                CHECK_OK(file_write_at(file, off, p, len, &f->err), &f->err);
                memcpy(model + off, p, len);
                if (len) model_size = MAX_OF(model_size, off + len);
                break;
            case 1:
                if (!rng_chance(&rng, 0.2)) break;
                CHECK_OK(file_truncate(file, off, &f->err), &f->err);
                memset(model + off, 0, MAX - off);
                model_size = off;
                break;
            case 2:
                if (!rng_chance(&rng, 0.2)) break;
                CHECK_OK(file_allocate(file, off, &f->err), &f->err);
                model_size = MAX_OF(model_size, off);
                break;
            default:
                CHECK_OK(file_read_at(file, off, p, len, &n, &f->err), &f->err);
                CHECK_U64(n, off >= model_size ? 0 : MIN_OF(len, model_size - off));
                CHECK(memcmp(p, model + off, n) == 0);
            }
            CHECK_OK(file_size(file, &size, &f->err), &f->err);
            CHECK_U64(size, model_size);
        }
        file_close(file);
    }
}

int main(void)
{
#define ON_DISK(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        ON_DISK(open_flags),
        ON_DISK(read_and_write),
        ON_DISK(allocate_grows_with_zeros),
        ON_DISK(locks_exclude),
        ON_DISK(names),
        ON_DISK(make_folders),
        ON_DISK(publish_and_discard),
        ON_DISK(whole_files),
        ON_DISK(paths_join),
        ON_DISK(parents),
        ON_DISK(random_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
