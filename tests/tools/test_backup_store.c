/* The manifest of a backup, and a folder of backups. */
#include "base/file_copy.h"
#include "tests/quipu_test.h"
#include "tools/backup_store.h"

#define SHA "fdbc545b2ed85cd9ebce189e6406be24991fb25e67097b1c20efdc4b0d53307b"

static void add(struct manifest *m, const char *path, const char *tenant, uint64_t bytes)
{
    struct err err;
    struct manifest_file file = {.path = str_of(path),
                                 .tenant = str_of(tenant ? tenant : ""),
                                 .incarnation = tenant ? 3 : 0,
                                 .bytes = bytes,
                                 .sha256 = SHA,
                                 .shared = tenant != NULL};
    CHECK_OK(manifest_add(m, &file, &err), &err);
}

static void test_sha256(void **state)
{
    (void)state;
    struct sha256 *sha;
    struct err err;
    char hex[SHA256_HEX_BYTES];
    CHECK_OK(sha256_new(&sha, &err), &err);
    for (int i = 0; i < 2; i++) { /* FIPS 180-2's "abc", in parts, twice */
        CHECK_OK(sha256_begin(sha, &err), &err);
        CHECK_OK(sha256_add(sha, bytes_of("a", 1), &err), &err);
        CHECK_OK(sha256_add(sha, bytes_of("bc", 2), &err), &err);
        CHECK_OK(sha256_end(sha, hex, &err), &err);
        CHECK(strcmp(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad") == 0);
    }
    sha256_free(sha);
}

static void test_roundtrip(void **state)
{
    (void)state;
    char dir[256];
    struct manifest m, back;
    struct err err;
    test_temp_dir(dir, sizeof(dir));
    manifest_init(&m);
    manifest_init(&back);
    m.moment_ms = 1795567891756;
    m.log_begin = UINT64_C(1) << 60; /* more than a JSON number holds */
    m.log_end = (UINT64_C(1) << 60) + 1;
    m.source = STR("http://[::1]:9780/\"quoted\"\\\n");
    add(&m, "tenants/a%2e/blocks/01ARZ3NDEKTSV4RRFFQ69G5FAV.block", "A.'()", 9591320);
    add(&m, "catalog.sqlite", NULL, 40960);
    add(&m, "wal/00000001.wal", NULL, 0);
    CHECK_OK(manifest_add_missing(&m, STR("tenants/b/blocks/x.block"), &err), &err);
    CHECK_OK(manifest_write(io_posix(), dir, &m, &err), &err);
    CHECK_OK(manifest_read(io_posix(), dir, &back, &err), &err);
    CHECK_I64(back.moment_ms, m.moment_ms);
    CHECK_U64(back.log_begin, m.log_begin);
    CHECK_U64(back.log_end, m.log_end);
    CHECK(str_eq(back.source, m.source));
    CHECK_U64(back.n, m.n);
    for (size_t i = 0; i < m.n; i++) {
        CHECK(str_eq(back.files[i].path, m.files[i].path));
        CHECK(str_eq(back.files[i].tenant, m.files[i].tenant));
        CHECK_U64(back.files[i].bytes, m.files[i].bytes);
        CHECK_U64(back.files[i].incarnation, m.files[i].incarnation);
        CHECK(back.files[i].shared == m.files[i].shared);
        CHECK(strcmp(back.files[i].sha256, SHA) == 0);
    }
    CHECK_U64(back.n_missing, 1);
    manifest_release(&m);
    manifest_release(&back);
    test_remove_dir(dir);
}

#define HEAD                                                                                       \
    "{\"format\":1,\"momentMs\":5,\"logBegin\":\"0\",\"logEnd\":\"20\",\"source\":\"x\","          \
    "\"files\":"
#define ONE(path) HEAD "[{\"path\":\"" path "\",\"bytes\":1,\"sha256\":\"" SHA "\"}]}"

static void test_hostile(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum err_code rc;
    } cases[] = {
        {ONE("wal/1.wal"), ERR_OK},
        {HEAD "[]}", ERR_OK},
        {"", ERR_CORRUPT},
        {"[]", ERR_CORRUPT},
        {"{\"format\":2}", ERR_VERSION},
        {"{\"format\":\"1\"}", ERR_CORRUPT},
        {HEAD "{}}", ERR_CORRUPT},
        {ONE("../etc/passwd"), ERR_CORRUPT},
        {ONE("/etc/passwd"), ERR_CORRUPT},
        {ONE("wal/../../x"), ERR_CORRUPT},
        {ONE("wal//x"), ERR_CORRUPT},
        {ONE("wal/."), ERR_CORRUPT},
        {ONE("wal/"), ERR_CORRUPT},
        {ONE(""), ERR_CORRUPT},
        {HEAD "[{\"path\":\"a\",\"bytes\":-1,\"sha256\":\"" SHA "\"}]}", ERR_CORRUPT},
        {HEAD "[{\"path\":\"a\",\"bytes\":1.5,\"sha256\":\"" SHA "\"}]}", ERR_CORRUPT},
        {HEAD "[{\"path\":\"a\",\"bytes\":1,\"sha256\":\"abc\"}]}", ERR_CORRUPT},
        {HEAD "[{\"path\":\"a\",\"bytes\":1,\"sha256\":\"" SHA "\",\"tenant\":\"t\"}]}",
         ERR_CORRUPT},
        {"{\"format\":1,\"momentMs\":5,\"logBegin\":\"-1\",\"logEnd\":\"20\",\"source\":\"x\","
         "\"files\":[]}",
         ERR_CORRUPT},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct manifest m;
        struct err err;
        manifest_init(&m);
        CHECK_ERR(manifest_parse(bytes_of(cases[i].text, strlen(cases[i].text)), &m, &err),
                  cases[i].rc);
        manifest_release(&m);
    }
}

static void make_backup(const char *dir, int64_t moment_ms, const char *const *blocks, size_t n)
{
    char name[BACKUP_NAME_BYTES], path[IO_PATH_BYTES], file[IO_PATH_BYTES];
    struct manifest m;
    struct err err;
    manifest_init(&m);
    backup_name(moment_ms, name);
    CHECK(backup_name_is(str_of(name)));
    CHECK_OK(io_path(path, sizeof(path), &err, dir, name), &err);
    CHECK_OK(io_mkdir_all(io_posix(), path, &err), &err);
    m.moment_ms = moment_ms;
    for (size_t i = 0; i < n; i++) {
        snprintf(file, sizeof(file), "tenants/t/blocks/%s.block", blocks[i]);
        add(&m, file, "t", 3);
        snprintf(file, sizeof(file), "%.200s/blocks/%s.block", dir, blocks[i]);
        CHECK_OK(file_replace(io_posix(), file, bytes_of("abc", 3), &err), &err);
    }
    CHECK_OK(manifest_write(io_posix(), path, &m, &err), &err);
    manifest_release(&m);
}

static bool has(const char *dir, const char *name)
{
    char path[IO_PATH_BYTES];
    struct err err;
    CHECK_OK(io_path(path, sizeof(path), &err, dir, name), &err);
    return io_exists(io_posix(), path);
}

static void test_prune(void **state)
{
    (void)state;
    char dir[256], path[300];
    struct backup_store store, other;
    struct store_prune_report r;
    struct err err;
    test_temp_dir(dir, sizeof(dir));
    CHECK_OK(store_open_to_write(&store, io_posix(), dir, &err), &err);
    CHECK_ERR(store_open_to_write(&other, io_posix(), dir, &err), ERR_BUSY);
    store_close(&store);
    const char *const first[] = {"a", "b"}, *const second[] = {"b", "c"}, *const third[] = {"c"};
    make_backup(dir, 1000, first, 2);
    make_backup(dir, 3000, third, 1);
    make_backup(dir, 2000, second, 2);
    snprintf(path, sizeof(path), "%s/19700101T000009.000Z.tmp", dir);
    CHECK_OK(io_mkdir_all(io_posix(), path, &err), &err);
    CHECK_OK(store_open_to_write(&store, io_posix(), dir, &err), &err);
    CHECK(!io_exists(io_posix(), path)); /* unfinished */
    CHECK_U64(store.n, 3);
    CHECK_I64(store.items[1].manifest.moment_ms, 2000);
    CHECK(store_find(&store, STR("a.block")) != NULL);
    CHECK(store_find(&store, STR("d.block")) == NULL);
    CHECK_OK(store_prune(&store, 3, &r, &err), &err);
    CHECK_U64(r.backups + r.blocks, 0);
    CHECK_OK(store_prune(&store, 2, &r, &err), &err);
    CHECK_U64(r.backups, 1);
    CHECK_U64(r.blocks, 1);
    CHECK(!has(dir, "19700101T000001.000Z"));
    CHECK(!has(dir, "blocks/a.block"));
    CHECK(has(dir, "blocks/b.block"));
    CHECK_OK(store_prune(&store, 1, &r, &err), &err);
    CHECK(!has(dir, "blocks/b.block"));
    CHECK(has(dir, "blocks/c.block"));
    CHECK_U64(store.n, 1);
    store_close(&store);
    CHECK_ERR(store_open_to_read(&store, io_posix(), "/nowhere", &err), ERR_NOT_FOUND);
    test_remove_dir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sha256),
        cmocka_unit_test(test_roundtrip),
        cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_prune),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
