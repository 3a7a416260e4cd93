/* tests/storage/test_catalog.c: what was changed is there after a reopening; what fails changes nothing. */
#include "storage/catalog.h"

#include <sqlite3.h>

#include "storage/sqlite_vfs.h"
#include "tests/storage/env.h"

struct fixture {
    struct test_env e;
    struct catalog *c;
    struct err err;
};

static void fixture_init(struct fixture *f)
{
    test_env_init(&f->e);
    CHECK_OK(catalog_open(&f->e.env, f->e.dir, &f->c, &f->err), &f->err);
}

static void fixture_reopen(struct fixture *f)
{
    catalog_close(f->c);
    f->c = NULL;
    CHECK_OK(catalog_open(&f->e.env, f->e.dir, &f->c, &f->err), &f->err);
}

static void fixture_release(struct fixture *f)
{
    catalog_close(f->c);
    test_env_release(&f->e);
}

static struct block_info make_block(struct fixture *f, uint64_t incarnation, int64_t t_min)
{
    struct block_info b = {.incarnation = incarnation,
                           .sequence = (uint64_t)t_min,
                           .level = 1,
                           .t_min_ms = t_min,
                           .t_max_ms = t_min + 99,
                           .n_series = 5,
                           .n_samples = 50,
                           .n_chunks = 7,
                           .file_bytes = 1234,
                           .created_ms = 99};
    ulid_make(&b.ulid, t_min, &f->e.rng);
    return b;
}

struct found {
    struct block_info blocks[8];
    size_t n;
};

static enum err_code collect(void *ctx, const struct block_info *b, struct err *err)
{
    (void)err;
    struct found *found = ctx;
    CHECK(found->n < COUNT_OF(found->blocks));
    found->blocks[found->n++] = *b;
    return ERR_OK;
}

static struct found blocks_of(struct fixture *f, uint64_t incarnation)
{
    struct found found = {.n = 0};
    CHECK_OK(catalog_blocks(f->c, incarnation, collect, &found, &f->err), &f->err);
    return found;
}

static void test_tenants(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    struct catalog_tenant a, b, again;
    CHECK_OK(catalog_tenant(f.c, STR("a"), 100, &a, &f.err), &f.err);
    CHECK_OK(catalog_tenant(f.c, STR("b"), 200, &b, &f.err), &f.err);
    CHECK(a.incarnation > 0 && b.incarnation > a.incarnation);
    CHECK_U64(a.flushed_pos, 0);
    CHECK_U64(a.next_sequence, 1);
    CHECK_I64(a.created_ms, 100);
    fixture_reopen(&f);
    CHECK_OK(catalog_tenant(f.c, STR("a"), 300, &again, &f.err), &f.err);
    CHECK_U64(again.incarnation, a.incarnation);
    CHECK_I64(again.created_ms, 100);
    CHECK_STR(again.name, "a");
    fixture_release(&f);
}

static enum err_code count_tenant(void *ctx, const struct catalog_tenant *t, struct err *err)
{
    size_t *n = ctx;
    CHECK_STR(t->name, *n == 0 ? "a" : "b");
    ++*n;
    return *n == 2 ? err_set(err, ERR_CANCELED, "enough") : ERR_OK;
}

static void test_listing_stops_at_an_error(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    struct catalog_tenant t;
    CHECK_OK(catalog_tenant(f.c, STR("a"), 1, &t, &f.err), &f.err);
    CHECK_OK(catalog_tenant(f.c, STR("b"), 1, &t, &f.err), &f.err);
    CHECK_OK(catalog_tenant(f.c, STR("c"), 1, &t, &f.err), &f.err);
    size_t n = 0;
    CHECK_ERR(catalog_tenants(f.c, count_tenant, &n, &f.err), ERR_CANCELED);
    CHECK_U64(n, 2);
    fixture_release(&f);
}

/* As somebody could who has our page checksums. Closes the catalog. */
static void run_sql(struct fixture *f, const char *sql)
{
    char path[512];
    struct sqlite_vfs *vfs;
    struct sqlite_vfs_config config = {.io = f->e.env.io, .page_checksums = true};
    catalog_close(f->c);
    f->c = NULL;
    snprintf(path, sizeof(path), "%s/catalog.sqlite", f->e.dir);
    sqlite3 *db;
    CHECK_OK(sqlite_vfs_register(&config, &vfs, &f->err), &f->err);
    CHECK(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, sqlite_vfs_name(vfs)) == SQLITE_OK);
    CHECK(sqlite3_exec(db, "PRAGMA locking_mode = EXCLUSIVE", NULL, NULL, NULL) == SQLITE_OK);
    CHECK(sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK);
    CHECK(sqlite3_close(db) == SQLITE_OK);
    sqlite_vfs_unregister(vfs);
}

/* Numbers of deleted tenants never come back, not even of the highest. */
static void test_incarnations_are_not_reused(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    struct catalog_tenant a, b;
    CHECK_OK(catalog_tenant(f.c, STR("a"), 1, &a, &f.err), &f.err);
    run_sql(&f, "DELETE FROM tenants");
    CHECK_OK(catalog_open(&f.e.env, f.e.dir, &f.c, &f.err), &f.err);
    CHECK_OK(catalog_tenant(f.c, STR("b"), 1, &b, &f.err), &f.err);
    CHECK(b.incarnation > a.incarnation);
    fixture_release(&f);
}

static void test_blocks(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    struct catalog_tenant t, other;
    CHECK_OK(catalog_tenant(f.c, STR("t"), 1, &t, &f.err), &f.err);
    CHECK_OK(catalog_tenant(f.c, STR("other"), 1, &other, &f.err), &f.err);
    struct block_info add[2] = {make_block(&f, t.incarnation, 200),
                                make_block(&f, t.incarnation, 100)};
    struct catalog_change change = {.incarnation = t.incarnation,
                                    .add = add,
                                    .n_add = 2,
                                    .set_flushed_pos = true,
                                    .flushed_pos = 500};
    CHECK_OK(catalog_apply(f.c, &change, &f.err), &f.err);
    fixture_reopen(&f);
    struct found found = blocks_of(&f, t.incarnation);
    CHECK_U64(found.n, 2);
    CHECK(memcmp(&found.blocks[0], &add[1], sizeof(add[1])) == 0); /* by time */
    CHECK(memcmp(&found.blocks[1], &add[0], sizeof(add[0])) == 0);
    CHECK_U64(blocks_of(&f, other.incarnation).n, 0);
    CHECK_OK(catalog_tenant(f.c, STR("t"), 1, &t, &f.err), &f.err);
    CHECK_U64(t.flushed_pos, 500);
    CHECK_U64(t.next_sequence, 201);

    /* Replaced in one transaction; the position does not go back. */
    struct block_info merged = make_block(&f, t.incarnation, 50);
    struct ulid gone[2] = {add[0].ulid, add[1].ulid};
    struct catalog_change replace = {.incarnation = t.incarnation,
                                     .add = &merged,
                                     .n_add = 1,
                                     .remove = gone,
                                     .n_remove = 2,
                                     .set_flushed_pos = true,
                                     .flushed_pos = 400};
    CHECK_OK(catalog_apply(f.c, &replace, &f.err), &f.err);
    found = blocks_of(&f, t.incarnation);
    CHECK_U64(found.n, 1);
    CHECK(strcmp(found.blocks[0].ulid.text, merged.ulid.text) == 0);
    CHECK_OK(catalog_tenant(f.c, STR("t"), 1, &t, &f.err), &f.err);
    CHECK_U64(t.flushed_pos, 500);
    CHECK_U64(t.next_sequence, 201);
    fixture_release(&f);
}

static void test_a_failed_change_changes_nothing(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    struct catalog_tenant t;
    CHECK_OK(catalog_tenant(f.c, STR("t"), 1, &t, &f.err), &f.err);
    struct block_info a = make_block(&f, t.incarnation, 100),
                      b = make_block(&f, t.incarnation, 200);
    struct catalog_change add = {.incarnation = t.incarnation, .add = &a, .n_add = 1};
    CHECK_OK(catalog_apply(f.c, &add, &f.err), &f.err);
    struct catalog_change missing = {.incarnation = t.incarnation,
                                     .add = &b,
                                     .n_add = 1,
                                     .remove = &b.ulid,
                                     .n_remove = 1,
                                     .set_flushed_pos = true,
                                     .flushed_pos = 9};
    CHECK_ERR(catalog_apply(f.c, &missing, &f.err), ERR_NOT_FOUND);
    struct block_info twice[2] = {b, a};
    struct catalog_change again = {.incarnation = t.incarnation, .add = twice, .n_add = 2};
    CHECK_ERR(catalog_apply(f.c, &again, &f.err), ERR_EXISTS);
    struct catalog_change nobody = {.incarnation = t.incarnation + 77};
    CHECK_ERR(catalog_apply(f.c, &nobody, &f.err), ERR_NOT_FOUND);
    struct found found = blocks_of(&f, t.incarnation);
    CHECK_U64(found.n, 1);
    CHECK_OK(catalog_tenant(f.c, STR("t"), 1, &t, &f.err), &f.err);
    CHECK_U64(t.flushed_pos, 0);
    CHECK_U64(t.next_sequence, 101);
    fixture_release(&f);
}

static enum err_code check_metadata(void *ctx, const struct catalog_metadata *m, struct err *err)
{
    (void)err;
    size_t *n = ctx;
    CHECK_STR(m->family, *n == 0 ? "a_total" : "b");
    CHECK_STR(m->type, *n == 0 ? "counter" : "gauge");
    CHECK_STR(m->unit, *n == 0 ? "" : "seconds");
    CHECK_STR(m->help, *n == 0 ? "second text" : "Zeit \xc3\xbc");
    ++*n;
    return ERR_OK;
}

static void test_metadata(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    struct catalog_tenant t;
    CHECK_OK(catalog_tenant(f.c, STR("t"), 1, &t, &f.err), &f.err);
    struct catalog_metadata items[] = {
        {STR("b"), STR("gauge"), STR("seconds"), STR("Zeit \xc3\xbc")},
        {STR("a_total"), STR("counter"), STR(""), STR("first text")},
    };
    CHECK_OK(catalog_put_metadata(f.c, t.incarnation, items, 2, &f.err), &f.err);
    items[1].help = STR("second text");
    CHECK_OK(catalog_put_metadata(f.c, t.incarnation, items + 1, 1, &f.err), &f.err);
    CHECK_ERR(catalog_put_metadata(f.c, t.incarnation + 5, items, 1, &f.err), ERR_NOT_FOUND);
    fixture_reopen(&f);
    size_t n = 0;
    CHECK_OK(catalog_metadata(f.c, t.incarnation, check_metadata, &n, &f.err), &f.err);
    CHECK_U64(n, 2);
    fixture_release(&f);
}

static void test_other_versions_and_files(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    run_sql(&f, "PRAGMA user_version = 4");
    CHECK_ERR(catalog_open(&f.e.env, f.e.dir, &f.c, &f.err), ERR_VERSION);
    CHECK(strstr(f.err.file, "catalog.sqlite") != NULL);
    run_sql(&f, "PRAGMA user_version = 1; PRAGMA application_id = 5");
    CHECK_ERR(catalog_open(&f.e.env, f.e.dir, &f.c, &f.err), ERR_CORRUPT);
    char path[512];
    snprintf(path, sizeof(path), "%s/catalog.sqlite", f.e.dir);
    FILE *file = fopen(path, "wb");
    CHECK(file != NULL);
    for (int i = 0; i < 8192; i++) fputc('x', file);
    fclose(file);
    CHECK_ERR(catalog_open(&f.e.env, f.e.dir, &f.c, &f.err), ERR_CORRUPT);
    fixture_release(&f);
}

struct tombstones_found {
    struct catalog_tombstone items[8];
    uint8_t matchers[8]; /* the first byte of each */
    size_t n;
};

static enum err_code collect_tombstone(void *ctx, const struct catalog_tombstone *t,
                                       struct err *err)
{
    (void)err;
    struct tombstones_found *found = ctx;
    CHECK(found->n < COUNT_OF(found->items));
    found->matchers[found->n] = t->matchers.p[0];
    found->items[found->n++] = *t;
    return ERR_OK;
}

static struct tombstones_found tombstones_of(struct fixture *f, uint64_t incarnation)
{
    struct tombstones_found found = {.n = 0};
    CHECK_OK(catalog_tombstones(f->c, incarnation, collect_tombstone, &found, &f->err), &f->err);
    return found;
}

static void test_tombstones(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    struct catalog_tenant a, b;
    CHECK_OK(catalog_tenant(f.c, STR("a"), 1, &a, &f.err), &f.err);
    CHECK_OK(catalog_tenant(f.c, STR("b"), 1, &b, &f.err), &f.err);
    static const uint8_t matchers[] = {7, 0, 255}; /* any bytes */
    struct catalog_tombstone items[] = {
        {0, a.incarnation, bytes_of(matchers, 3), INT64_MIN, 5, 77, 9},
        {0, b.incarnation, bytes_of(matchers + 1, 2), 4, 4, 78, 10},
        {0, a.incarnation, bytes_of(matchers + 2, 1), -3, INT64_MAX, 79, 11},
    };
    CHECK_OK(catalog_add_tombstones(f.c, items, 3, &f.err), &f.err);
    CHECK(items[0].id > 0 && items[0].id < items[1].id && items[1].id < items[2].id);
    struct catalog_tombstone bad[] = {{0, a.incarnation, bytes_of(matchers, 1), 1, 2, 3, 4},
                                      {0, b.incarnation + 9, bytes_of(matchers, 1), 1, 2, 3, 4}};
    CHECK_ERR(catalog_add_tombstones(f.c, bad, 2, &f.err), ERR_NOT_FOUND);
    fixture_reopen(&f);
    CHECK_U64(tombstones_of(&f, 0).n, 3);
    struct tombstones_found found = tombstones_of(&f, a.incarnation);
    CHECK_U64(found.n, 2);
    CHECK_U64(found.items[0].id, items[0].id);
    CHECK_U64(found.items[0].matchers.len, 3);
    CHECK_U64(found.matchers[0], 7);
    CHECK_U64(found.matchers[1], 255);
    CHECK_I64(found.items[0].mint_ms, INT64_MIN);
    CHECK_I64(found.items[1].maxt_ms, INT64_MAX);
    CHECK_U64(found.items[1].log_pos, 79);
    CHECK_I64(found.items[1].created_ms, 11);
    /* Of another tenant it is not removed; the highest number does not come back. */
    uint64_t ids[] = {items[1].id, items[2].id};
    CHECK_OK(catalog_remove_tombstones(f.c, a.incarnation, ids, 2, &f.err), &f.err);
    CHECK_U64(tombstones_of(&f, 0).n, 2);
    CHECK_OK(catalog_add_tombstones(f.c, bad, 1, &f.err), &f.err);
    CHECK(bad[0].id > items[2].id);
    run_sql(&f, "UPDATE tombstones SET maxt_ms = mint_ms - 1 WHERE mint_ms = 1");
    CHECK_OK(catalog_open(&f.e.env, f.e.dir, &f.c, &f.err), &f.err);
    CHECK_ERR(catalog_tombstones(f.c, 0, collect_tombstone, &found, &f.err), ERR_CORRUPT);
    fixture_release(&f);
}

static enum err_code check_deleted(void *ctx, const struct catalog_deleted_tenant *t,
                                   struct err *err)
{
    struct catalog_deleted_tenant *want = ctx;
    (void)err;
    CHECK_U64(t->incarnation, want->incarnation);
    CHECK_STR(t->name, "a");
    CHECK_I64(t->deleted_ms, 55);
    CHECK(t->files_gone == want->files_gone);
    want->deleted_ms++; /* counts */
    return ERR_OK;
}

static void test_a_tenant_is_deleted(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    struct catalog_tenant a, b, again;
    CHECK_OK(catalog_tenant(f.c, STR("a"), 1, &a, &f.err), &f.err);
    CHECK_OK(catalog_tenant(f.c, STR("b"), 1, &b, &f.err), &f.err);
    struct block_info blocks[] = {make_block(&f, a.incarnation, 100),
                                  make_block(&f, b.incarnation, 100)};
    struct catalog_change add_a = {.incarnation = a.incarnation, .add = blocks, .n_add = 1};
    struct catalog_change add_b = {.incarnation = b.incarnation, .add = blocks + 1, .n_add = 1};
    CHECK_OK(catalog_apply(f.c, &add_a, &f.err), &f.err);
    CHECK_OK(catalog_apply(f.c, &add_b, &f.err), &f.err);
    struct catalog_metadata m = {STR("m"), STR("gauge"), STR(""), STR("")};
    CHECK_OK(catalog_put_metadata(f.c, a.incarnation, &m, 1, &f.err), &f.err);
    struct catalog_tombstone t = {0, a.incarnation, bytes_of("x", 1), 1, 2, 3, 4};
    CHECK_OK(catalog_add_tombstones(f.c, &t, 1, &f.err), &f.err);
    CHECK_ERR(catalog_delete_tenant(f.c, b.incarnation + 1, 55, &f.err), ERR_NOT_FOUND);
    CHECK_OK(catalog_delete_tenant(f.c, a.incarnation, 55, &f.err), &f.err);
    CHECK_ERR(catalog_delete_tenant(f.c, a.incarnation, 55, &f.err), ERR_NOT_FOUND);
    fixture_reopen(&f);
    CHECK_U64(blocks_of(&f, a.incarnation).n, 0);
    CHECK_U64(blocks_of(&f, b.incarnation).n, 1);
    CHECK_U64(tombstones_of(&f, 0).n, 0);
    size_t n = 0;
    CHECK_OK(catalog_metadata(f.c, a.incarnation, check_metadata, &n, &f.err), &f.err);
    CHECK_U64(n, 0);
    struct catalog_deleted_tenant want = {.incarnation = a.incarnation};
    CHECK_OK(catalog_deleted_tenants(f.c, check_deleted, &want, &f.err), &f.err);
    CHECK_I64(want.deleted_ms, 1);
    CHECK_OK(catalog_files_gone(f.c, a.incarnation, &f.err), &f.err);
    want.files_gone = true;
    CHECK_OK(catalog_deleted_tenants(f.c, check_deleted, &want, &f.err), &f.err);
    CHECK_I64(want.deleted_ms, 2);
    CHECK_ERR(catalog_apply(f.c, &add_a, &f.err), ERR_NOT_FOUND);
    a.name = STR("a"); /* a file that was left must not bring it back */
    CHECK_ERR(catalog_put_tenant(f.c, &a, &f.err), ERR_EXISTS);
    CHECK_OK(catalog_tenant(f.c, STR("a"), 2, &again, &f.err), &f.err);
    CHECK(again.incarnation > b.incarnation);
    fixture_release(&f);
}

/* A catalog of version 1 keeps what it has and gains what it lacks. */
static void test_version_1_is_migrated(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    struct catalog_tenant t, again;
    CHECK_OK(catalog_tenant(f.c, STR("t"), 1, &t, &f.err), &f.err);
    run_sql(&f, "DROP TABLE tombstones; DROP TABLE deleted_tenants; DROP TABLE exemplars;"
                "PRAGMA user_version = 1");
    CHECK_OK(catalog_open(&f.e.env, f.e.dir, &f.c, &f.err), &f.err);
    CHECK_OK(catalog_tenant(f.c, STR("t"), 2, &again, &f.err), &f.err);
    CHECK_U64(again.incarnation, t.incarnation);
    CHECK_U64(tombstones_of(&f, 0).n, 0);
    fixture_reopen(&f);
    struct catalog_tombstone tombstone = {0, t.incarnation, bytes_of("x", 1), 1, 2, 3, 4};
    CHECK_OK(catalog_add_tombstones(f.c, &tombstone, 1, &f.err), &f.err);
    CHECK_U64(tombstones_of(&f, t.incarnation).n, 1);
    fixture_release(&f);
}

static void test_a_row_without_sense_is_refused(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    struct catalog_tenant t;
    CHECK_OK(catalog_tenant(f.c, STR("t"), 1, &t, &f.err), &f.err);
    struct block_info b = make_block(&f, t.incarnation, 100);
    struct catalog_change add = {.incarnation = t.incarnation, .add = &b, .n_add = 1};
    CHECK_OK(catalog_apply(f.c, &add, &f.err), &f.err);
    run_sql(&f, "UPDATE blocks SET t_max_ms = t_min_ms - 1");
    CHECK_OK(catalog_open(&f.e.env, f.e.dir, &f.c, &f.err), &f.err);
    struct found found = {.n = 0};
    CHECK_ERR(catalog_blocks(f.c, t.incarnation, collect, &found, &f.err), ERR_CORRUPT);
    CHECK_U64(found.n, 0);
    run_sql(&f, "UPDATE blocks SET ulid = '../x', t_max_ms = t_min_ms");
    CHECK_OK(catalog_open(&f.e.env, f.e.dir, &f.c, &f.err), &f.err);
    CHECK_ERR(catalog_blocks(f.c, t.incarnation, collect, &found, &f.err), ERR_CORRUPT);
    fixture_release(&f);
}

/* One process at a time. */
static void test_a_second_opening_is_busy(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    struct catalog_tenant t;
    CHECK_OK(catalog_tenant(f.c, STR("t"), 1, &t, &f.err), &f.err);
    struct catalog *second;
    CHECK_ERR(catalog_open(&f.e.env, f.e.dir, &second, &f.err), ERR_BUSY);
    fixture_reopen(&f);
    CHECK_OK(catalog_tenant(f.c, STR("t"), 1, &t, &f.err), &f.err);
    fixture_release(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tenants),
        cmocka_unit_test(test_listing_stops_at_an_error),
        cmocka_unit_test(test_incarnations_are_not_reused),
        cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_a_failed_change_changes_nothing),
        cmocka_unit_test(test_metadata),
        cmocka_unit_test(test_tombstones),
        cmocka_unit_test(test_a_tenant_is_deleted),
        cmocka_unit_test(test_version_1_is_migrated),
        cmocka_unit_test(test_other_versions_and_files),
        cmocka_unit_test(test_a_row_without_sense_is_refused),
        cmocka_unit_test(test_a_second_opening_is_busy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
