/* Snapshots: a moment of an engine opens as an engine, with the samples of the moment and no others. */
#include "engine/backup.h"
#include "tests/engine/fixture.h"

static uint64_t count_samples(struct fixture *f, struct engine *engine, const char *name)
{
    struct tenant *t;
    struct engine_select *sel;
    struct arena arena;
    struct samples s;
    uint64_t n = 0;
    if (engine_tenant(engine, str_of(name), false, &t, &f->err)) return 0;
    arena_init(&arena, MEM_QUERY, 0);
    samples_init(&s, MEM_QUERY, &arena);
    CHECK_OK(tenant_select(t, NULL, 0, INT64_MIN, INT64_MAX, &sel, &f->err), &f->err);
    for (size_t i = 0; i < select_count(sel); i++) {
        samples_reset(&s);
        CHECK_OK(select_read(sel, i, INT64_MIN, INT64_MAX, &s, &f->err), &f->err);
        n += s.n;
    }
    select_release(sel);
    samples_release(&s);
    arena_release(&arena);
    return n;
}

static uint64_t count_in_snapshot(struct fixture *f, const char *dir, const char *name)
{
    struct engine_config config = f->config;
    struct engine *engine;
    config.data_dir = dir;
    config.wal_archive = NULL;
    CHECK_OK(engine_open(&f->env, &config, &engine, &f->err), &f->err);
    uint64_t n = count_samples(f, engine, name);
    CHECK_OK(engine_close(engine, false, &f->err), &f->err);
    return n;
}

static void write_some(struct fixture *f, struct tenant *t, int from, int n)
{
    for (int i = from; i < from + n; i++) write_one(f, t, i % 5, NOW_MS - 100000 + i * 100, i);
}

static void test_moment(void **state)
{
    (void)state;
    struct fixture f;
    struct engine_snapshot_report head, mixed, blocks;
    fixture_open(&f);
    struct tenant *a = fixture_tenant(&f, "a"), *b = fixture_tenant(&f, "B.b");
    write_some(&f, a, 0, 20);
    write_some(&f, b, 0, 7);
    CHECK_OK(engine_snapshot(f.engine, STR("head"), &head, &f.err), &f.err);
    CHECK_U64(head.blocks, 0);
    CHECK_OK(engine_flush(f.engine, a, &f.err), &f.err);
    write_some(&f, a, 20, 10);
    CHECK_OK(engine_snapshot(f.engine, STR("mixed"), &mixed, &f.err), &f.err);
    CHECK(mixed.blocks >= 1);
    CHECK(mixed.log_pos > head.log_pos);
    write_some(&f, a, 30, 10);
    CHECK_OK(engine_flush(f.engine, NULL, &f.err), &f.err);
    struct engine_compact_options options = {.level = 3};
    struct engine_compact_report compacted;
    CHECK_OK(engine_compact(f.engine, NULL, &options, &compacted, &f.err), &f.err);
    CHECK_OK(engine_snapshot(f.engine, STR(""), &blocks, &f.err), &f.err);
    write_some(&f, fixture_tenant(&f, "later"), 0, 3);

    CHECK_U64(count_in_snapshot(&f, head.dir, "a"), 20);
    CHECK_U64(count_in_snapshot(&f, head.dir, "B.b"), 7);
    CHECK_U64(count_in_snapshot(&f, mixed.dir, "a"), 30);
    CHECK_U64(count_in_snapshot(&f, mixed.dir, "B.b"), 7);
    CHECK_U64(count_in_snapshot(&f, blocks.dir, "a"), 40);
    CHECK_U64(count_in_snapshot(&f, blocks.dir, "later"), 0);
    CHECK_U64(count_samples(&f, f.engine, "a"), 40);
    fixture_close(&f);
}

static void test_names(void **state)
{
    (void)state;
    struct fixture f;
    struct engine_snapshot_report r;
    static const char *const bad[] = {".", "..", ".hidden", "a/b", "a b", "x.tmp", "\xc3\xa4"};
    fixture_open(&f);
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        CHECK_ERR(engine_snapshot(f.engine, str_of(bad[i]), &r, &f.err), ERR_INVALID);
        CHECK_ERR(engine_snapshot_remove(f.engine, str_of(bad[i]), &f.err), ERR_INVALID);
    }
    CHECK_OK(engine_snapshot(f.engine, STR("one"), &r, &f.err), &f.err);
    CHECK_ERR(engine_snapshot(f.engine, STR("one"), &r, &f.err), ERR_EXISTS);
    CHECK(io_exists(f.env.io, r.dir));
    CHECK_OK(engine_snapshot_remove(f.engine, STR("one"), &f.err), &f.err);
    CHECK(!io_exists(f.env.io, r.dir));
    CHECK_OK(engine_snapshot_remove(f.engine, STR("one"), &f.err), &f.err);
    fixture_close(&f);
}

/* A block whose file is gone does not keep the rest from being saved. */
static void test_missing_block(void **state)
{
    (void)state;
    struct fixture f;
    struct engine_snapshot_report r;
    fixture_open(&f);
    struct tenant *a = fixture_tenant(&f, "a");
    write_some(&f, a, 0, 10);
    CHECK_OK(engine_flush(f.engine, a, &f.err), &f.err);
    char command[512];
    snprintf(command, sizeof(command), "rm %s/tenants/a/blocks/*.block", f.dir);
    CHECK(system(command) == 0);
    write_some(&f, a, 10, 5);
    CHECK_OK(engine_snapshot(f.engine, STR("x"), &r, &f.err), &f.err);
    CHECK_U64(r.missing, 1);
    CHECK_U64(r.blocks, 0);
    CHECK_U64(count_in_snapshot(&f, r.dir, "a"), 5);
    fixture_close(&f);
}

static void test_archive_before_cut(void **state)
{
    (void)state;
    struct fixture f;
    char archive[300], name[340];
    fixture_init(&f);
    snprintf(archive, sizeof(archive), "%s/archive", f.dir);
    f.config.wal_archive = archive;
    f.config.wal_segment_bytes = 4096;
    CHECK_OK(engine_open(&f.env, &f.config, &f.engine, &f.err), &f.err);
    struct tenant *a = fixture_tenant(&f, "a");
    for (int round = 0; round < 6; round++) {
        for (int i = 0; i < 200; i++) {
            clock_fake_advance(&f.clock, 1);
            write_one(&f, a, i, NOW_MS + round * 1000, i + 0.1);
        }
        CHECK_OK(engine_flush(f.engine, a, &f.err), &f.err);
        for (int i = 0; i < 20; i++) CHECK_OK(engine_step(f.engine, &f.err), &f.err);
    }
    /* All segments but the one that is written, though the log has long been cut. */
    size_t n = 1;
    for (;; n++) {
        snprintf(name, sizeof(name), "%s/%08zu.wal", archive, n);
        if (!io_exists(f.env.io, name)) break;
    }
    CHECK(n > 5);
    snprintf(name, sizeof(name), "%s/wal/%08zu.wal", f.dir, n);
    CHECK(io_exists(f.env.io, name));
    snprintf(name, sizeof(name), "%s/wal/00000001.wal", f.dir);
    CHECK(!io_exists(f.env.io, name));
    fixture_close(&f);
}

static void test_delete_after(void **state)
{
    (void)state;
    struct fixture f;
    struct engine_clean_report cleaned;
    fixture_open(&f);
    struct tenant *a = fixture_tenant(&f, "a");
    write_some(&f, a, 0, 20);
    CHECK_OK(engine_delete_after(f.engine, NOW_MS - 100000 + 900, &f.err), &f.err);
    CHECK_OK(engine_clean_tombstones(f.engine, NULL, &cleaned, &f.err), &f.err);
    CHECK_U64(count_samples(&f, f.engine, "a"), 10);
    fixture_reopen(&f, false);
    CHECK_U64(count_samples(&f, f.engine, "a"), 10);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_moment),        cmocka_unit_test(test_names),
        cmocka_unit_test(test_missing_block), cmocka_unit_test(test_archive_before_cut),
        cmocka_unit_test(test_delete_after),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
