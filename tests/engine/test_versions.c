/* tests/engine/test_versions.c: a data directory of a newer version is refused, with file and version in the message, and
 * nothing in it changes; what an older version left is read. */
#include "base/crc32c.h"
#include "storage/sqlite_vfs.h"
#include "tests/engine/fixture.h"

struct found {
    const char *dir, *suffix;
    char path[512];
};

static bool note_file(void *ctx, const char *name, bool is_dir)
{
    struct found *found = ctx;
    if (is_dir || !str_has_suffix(str_of(name), str_of(found->suffix))) return true;
    snprintf(found->path, sizeof(found->path), "%s/%s", found->dir, name);
    return false;
}

/* The first file of the folder with that ending. */
static void find_file(struct fixture *f, const char *folder, const char *suffix, char path[512])
{
    char dir[400];
    snprintf(dir, sizeof(dir), "%s/%s", f->dir, folder);
    struct found found = {.dir = dir, .suffix = suffix};
    CHECK_OK(io_list(io_posix(), dir, note_file, &found, &f->err), &f->err);
    CHECK(found.path[0] != 0);
    snprintf(path, 512, "%s", found.path);
}

static void change_bytes(const char *path, long off, void *bytes, size_t n)
{
    uint8_t before[SQLITE_VFS_PAGE_BYTES];
    FILE *file = fopen(path, "r+b");
    CHECK(file && n <= sizeof(before));
    CHECK(fseek(file, off, SEEK_SET) == 0 && fread(before, 1, n, file) == n);
    CHECK(fseek(file, off, SEEK_SET) == 0 && fwrite(bytes, 1, n, file) == n);
    CHECK(fclose(file) == 0);
    memcpy(bytes, before, n); /* so that a second call undoes it */
}

static void open_with_data(struct fixture *f)
{
    fixture_open(f);
    struct tenant *t = fixture_tenant(f, "default");
    for (int i = 0; i < 5; i++) write_one(f, t, i, NOW_MS - 1000, i);
    CHECK_OK(engine_flush(f->engine, NULL, &f->err), &f->err);
    for (int i = 0; i < 5; i++) write_one(f, t, i, NOW_MS, i);
    CHECK_OK(engine_close(f->engine, false, &f->err), &f->err);
}

static size_t count_samples(struct fixture *f)
{
    struct engine_select *sel;
    size_t n = 0;
    CHECK_OK(tenant_select(fixture_tenant(f, "default"), NULL, 0, 0, INT64_MAX, &sel, &f->err),
             &f->err);
    for (size_t i = 0; i < select_count(sel); i++) {
        struct samples s;
        samples_init(&s, MEM_QUERY, NULL);
        CHECK_OK(select_read(sel, i, 0, INT64_MAX, &s, &f->err), &f->err);
        n += s.n;
        samples_release(&s);
    }
    select_release(sel);
    return n;
}

/* Refused by name; and with the byte put back all is there. */
static void check_refused(struct fixture *f, const char *path, long off, void *bytes, size_t n,
                          const char *version)
{
    change_bytes(path, off, bytes, n);
    enum err_code rc = engine_open(&f->env, &f->config, &f->engine, &f->err);
    if (rc != ERR_VERSION) test_fail(__FILE__, __LINE__, "%s", f->err.text);
    CHECK_STR(str_of(f->err.file), path);
    CHECK(strstr(f->err.text, version) != NULL);
    change_bytes(path, off, bytes, n);
    CHECK_OK(engine_open(&f->env, &f->config, &f->engine, &f->err), &f->err);
    CHECK(count_samples(f) == 10);
    fixture_close(f);
}

static void test_newer_catalog(void **state)
{
    (void)state;
    struct fixture f;
    char path[512];
    uint8_t page[SQLITE_VFS_PAGE_BYTES];
    open_with_data(&f);
    snprintf(path, sizeof(path), "%s/catalog.sqlite", f.dir);
    FILE *file = fopen(path, "rb");
    CHECK(file && fread(page, 1, sizeof(page), file) == sizeof(page));
    fclose(file);
    page[63] = 77; /* of SQLite's user_version, big-endian; then the page's checksum */
    put_u32_le(page + sizeof(page) - 4, crc32c(0, page, sizeof(page) - 4));
    check_refused(&f, path, 0, page, sizeof(page), "77");
}

static void test_newer_log(void **state)
{
    (void)state;
    struct fixture f;
    char path[512];
    uint8_t header[20];
    open_with_data(&f);
    find_file(&f, "wal", ".wal", path);
    FILE *file = fopen(path, "rb");
    CHECK(file && fread(header, 1, sizeof(header), file) == sizeof(header));
    fclose(file);
    put_u32_le(header + 4, 77);
    put_u32_le(header + 16, crc32c(0, header, 16));
    check_refused(&f, path, 0, header, sizeof(header), "77");
}

static void test_newer_block(void **state)
{
    (void)state;
    struct fixture f;
    char path[512];
    uint8_t header[16];
    open_with_data(&f);
    find_file(&f, "tenants/default/blocks", ".block", path);
    FILE *file = fopen(path, "rb");
    CHECK(file && fread(header, 1, sizeof(header), file) == sizeof(header));
    fclose(file);
    put_u32_le(header + 4, 77);
    put_u32_le(header + 12, crc32c(0, header, 12));
    check_refused(&f, path, 0, header, sizeof(header), "77");
}

/* One that the catalog does not know, of a version that this build does not: not ours to judge. */
static void test_newer_stranger(void **state)
{
    (void)state;
    struct fixture f;
    char path[512], stranger[512];
    uint8_t header[16];
    open_with_data(&f);
    find_file(&f, "tenants/default/blocks", ".block", path);
    snprintf(stranger, sizeof(stranger), "%s/tenants/default/blocks/%s.block", f.dir,
             "01ARZ3NDEKTSV4RRFFQ69G5FAV");
    char command[1200];
    snprintf(command, sizeof(command), "cp '%s' '%s'", path, stranger);
    CHECK(system(command) == 0);
    FILE *file = fopen(stranger, "rb");
    CHECK(file && fread(header, 1, sizeof(header), file) == sizeof(header));
    fclose(file);
    put_u32_le(header + 4, 77);
    put_u32_le(header + 12, crc32c(0, header, 12));
    change_bytes(stranger, 0, header, sizeof(header));
    CHECK_OK(engine_open(&f.env, &f.config, &f.engine, &f.err), &f.err);
    CHECK(count_samples(&f) == 10);
    CHECK(io_exists(io_posix(), stranger));
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_newer_catalog), cmocka_unit_test(test_newer_log),
        cmocka_unit_test(test_newer_block), cmocka_unit_test(test_newer_stranger)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
