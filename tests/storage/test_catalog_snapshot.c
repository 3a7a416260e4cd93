/* tests/storage/test_catalog_snapshot.c: what guards the catalog: checksums of its pages, the look at its WAL, and the
 * snapshots from which it can be made anew. */
#include "storage/catalog_snapshot.h"

#include <sqlite3.h>

#include "storage/sqlite_vfs.h"
#include "storage/sqlite_wal_check.h"
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

static void fixture_close(struct fixture *f)
{
    catalog_close(f->c);
    f->c = NULL;
}

static void fixture_release(struct fixture *f)
{
    fixture_close(f);
    test_env_release(&f->e);
}

static void path_of(const struct fixture *f, const char *name, char *out, size_t size)
{
    CHECK((size_t)snprintf(out, size, "%s/%s", f->e.dir, name) < size);
}

static struct buf read_all(struct fixture *f, const char *name)
{
    char path[512];
    uint8_t *p;
    size_t len;
    struct buf out;
    path_of(f, name, path, sizeof(path));
    CHECK_OK(io_read_file(f->e.env.io, path, 1 << 24, &p, &len, &f->err), &f->err);
    buf_init(&out, MEM_BASE);
    buf_put(&out, p, len);
    mem_free(p);
    return out;
}

static void write_all(struct fixture *f, const char *name, const uint8_t *p, size_t len)
{
    char path[512];
    struct file *file;
    path_of(f, name, path, sizeof(path));
    CHECK_OK(io_open(f->e.env.io, path, IO_WRITE | IO_CREATE | IO_TRUNCATE, &file, &f->err),
             &f->err);
    if (len) CHECK_OK(file_write_at(file, 0, p, len, &f->err), &f->err);
    file_close(file);
}

static void fill(struct fixture *f)
{
    struct catalog_tenant a, b;
    CHECK_OK(catalog_tenant(f->c, STR("a"), 100, &a, &f->err), &f->err);
    CHECK_OK(catalog_tenant(f->c, STR("b"), 200, &b, &f->err), &f->err);
    struct block_info block = {.incarnation = a.incarnation,
                               .sequence = 3,
                               .t_min_ms = -5,
                               .t_max_ms = 99,
                               .n_series = 1,
                               .n_samples = 2,
                               .n_chunks = 1,
                               .file_bytes = 77,
                               .created_ms = 5};
    ulid_make(&block.ulid, 5, &f->e.rng);
    struct catalog_change change = {.incarnation = a.incarnation,
                                    .add = &block,
                                    .n_add = 1,
                                    .set_flushed_pos = true,
                                    .flushed_pos = 4711};
    CHECK_OK(catalog_apply(f->c, &change, &f->err), &f->err);
    struct catalog_metadata item = {STR("m"), STR("gauge"), STR(""), STR("W\xc3\xa4rme")};
    CHECK_OK(catalog_put_metadata(f->c, b.incarnation, &item, 1, &f->err), &f->err);
}

struct seen {
    size_t tenants, blocks, items;
    uint64_t flushed_pos, incarnation_max;
    struct catalog *c;
};

static enum err_code see_block(void *ctx, const struct block_info *b, struct err *err)
{
    (void)err;
    CHECK_I64(b->t_min_ms, -5);
    ((struct seen *)ctx)->blocks++;
    return ERR_OK;
}
static enum err_code see_item(void *ctx, const struct catalog_metadata *m, struct err *err)
{
    (void)err;
    CHECK_STR(m->help, "W\xc3\xa4rme");
    ((struct seen *)ctx)->items++;
    return ERR_OK;
}
static enum err_code see_tenant(void *ctx, const struct catalog_tenant *t, struct err *err)
{
    struct seen *s = ctx;
    s->tenants++;
    s->flushed_pos += t->flushed_pos;
    s->incarnation_max = MAX_OF(s->incarnation_max, t->incarnation);
    enum err_code rc = catalog_blocks(s->c, t->incarnation, see_block, s, err);
    return rc ? rc : catalog_metadata(s->c, t->incarnation, see_item, s, err);
}

static void check_content(struct fixture *f, struct catalog *c)
{
    struct seen s = {.c = c};
    CHECK_OK(catalog_tenants(c, see_tenant, &s, &f->err), &f->err);
    CHECK(s.tenants == 2 && s.blocks == 1 && s.items == 1 && s.flushed_pos == 4711);
}

static void test_a_snapshot_gives_everything_back(void **state)
{
    (void)state;
    struct fixture f, other;
    struct arena arena;
    struct catalog_snapshot snapshot;
    struct catalog_tenant gone, next;
    fixture_init(&f);
    fixture_init(&other);
    fill(&f);
    CHECK_OK(catalog_tenant(f.c, STR("gone"), 300, &gone, &f.err), &f.err);
    CHECK_OK(catalog_delete_tenant(f.c, gone.incarnation, 400, &f.err), &f.err);
    catalog_keep(f.c, true);
    arena_init(&arena, MEM_BASE, 0);
    CHECK_OK(catalog_snapshot_newest(f.e.env.io, f.e.dir, &arena, NULL, NULL, &snapshot, &f.err),
             &f.err);
    CHECK_OK(catalog_snapshot_restore(other.c, &snapshot, &f.err), &f.err);
    check_content(&f, other.c);
    /* A number that was given is not given again. */
    CHECK_OK(catalog_tenant(other.c, STR("next"), 1, &next, &f.err), &f.err);
    CHECK(next.incarnation > gone.incarnation);
    arena_release(&arena);
    fixture_release(&other);
    fixture_release(&f);
}

static void test_written_when_something_changed(void **state)
{
    (void)state;
    struct fixture f;
    struct catalog_tenant t;
    fixture_init(&f);
    struct metric *written = metric_counter(f.e.env.metrics, "quipu_catalog_snapshots_total",
                                            "Snapshots of the catalog written.", "");
    CHECK_OK(catalog_tenant(f.c, STR("a"), 100, &t, &f.err), &f.err);
    catalog_keep(f.c, false);
    catalog_keep(f.c, false);
    CHECK_U64(metric_value(written), 1);
    struct catalog_metadata item = {STR("m"), STR("gauge"), STR(""), STR("")};
    CHECK_OK(catalog_put_metadata(f.c, t.incarnation, &item, 1, &f.err), &f.err);
    catalog_keep(f.c, false);
    CHECK_U64(metric_value(written), 2);
    /* A position of the log can wait. */
    CHECK_OK(catalog_flushed_to(f.c, 500, &f.err), &f.err);
    catalog_keep(f.c, false);
    CHECK_U64(metric_value(written), 2);
    clock_fake_advance(&f.e.clock, 61000);
    catalog_keep(f.c, false);
    CHECK_U64(metric_value(written), 3);
    fixture_release(&f);
}

static void test_every_flip_of_a_snapshot_is_found(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    fill(&f);
    catalog_keep(f.c, true);
    struct buf b = read_all(&f, "catalog.snapshot.0");
    for (size_t bit = 0; bit < b.len * 8; bit++) {
        struct arena arena;
        struct catalog_snapshot out;
        arena_init(&arena, MEM_BASE, 0);
        b.p[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        CHECK_ERR(catalog_snapshot_decode(buf_bytes(&b), &arena, &out, &f.err), ERR_CORRUPT);
        b.p[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        arena_release(&arena);
    }
    for (size_t len = 0; len < b.len; len++) {
        struct arena arena;
        struct catalog_snapshot out;
        arena_init(&arena, MEM_BASE, 0);
        CHECK_ERR(catalog_snapshot_decode(bytes_of(b.p, len), &arena, &out, &f.err), ERR_CORRUPT);
        arena_release(&arena);
    }
    buf_release(&b);
    fixture_release(&f);
}

static void count_bad(void *ctx, const struct err *problem)
{
    CHECK(strstr(problem->file, "catalog.snapshot.") != NULL);
    ++*(int *)ctx;
}

static void test_the_generation_before_is_kept(void **state)
{
    (void)state;
    struct fixture f;
    struct catalog_tenant t;
    struct arena arena;
    struct catalog_snapshot newest, before;
    int n_bad = 0;
    fixture_init(&f);
    for (int i = 0; i < 3; i++) {
        char name[16];
        snprintf(name, sizeof(name), "t%d", i);
        CHECK_OK(catalog_tenant(f.c, str_of(name), 1, &t, &f.err), &f.err);
        catalog_keep(f.c, false);
    }
    arena_init(&arena, MEM_BASE, 0);
    CHECK_OK(catalog_snapshot_newest(f.e.env.io, f.e.dir, &arena, NULL, NULL, &newest, &f.err),
             &f.err);
    struct buf b = read_all(&f, catalog_snapshot_name(newest.generation));
    b.p[b.len / 2] ^= 1;
    write_all(&f, catalog_snapshot_name(newest.generation), b.p, b.len);
    CHECK_OK(
        catalog_snapshot_newest(f.e.env.io, f.e.dir, &arena, count_bad, &n_bad, &before, &f.err),
        &f.err);
    CHECK(n_bad == 1 && before.generation == newest.generation - 1);
    arena_release(&arena);
    buf_release(&b);
    fixture_release(&f);
}

static void test_a_catalog_that_is_gone_is_missed(void **state)
{
    (void)state;
    struct fixture f;
    char path[512];
    fixture_init(&f);
    fill(&f);
    catalog_keep(f.c, true);
    fixture_close(&f);
    write_all(&f, "catalog.sqlite", NULL, 0);
    CHECK_ERR(catalog_open(&f.e.env, f.e.dir, &f.c, &f.err), ERR_CORRUPT);
    CHECK(strstr(f.err.text, "quipu catalog rebuild") != NULL);
    path_of(&f, "catalog.sqlite", path, sizeof(path));
    CHECK_OK(io_unlink(f.e.env.io, path, &f.err), &f.err);
    CHECK_ERR(catalog_open(&f.e.env, f.e.dir, &f.c, &f.err), ERR_CORRUPT);
    CHECK(strstr(f.err.file, "catalog.sqlite") != NULL);
    fixture_release(&f);
}

/* ---- pages ---- */

static void test_every_page_is_checked(void **state)
{
    (void)state;
    struct fixture f;
    struct rng seeded, *rng = &seeded;
    test_rng(rng);
    fixture_init(&f);
    fill(&f);
    fixture_close(&f);
    struct buf b = read_all(&f, "catalog.sqlite");
    CHECK(b.len % SQLITE_VFS_PAGE_BYTES == 0);
    for (size_t page = 0; page < b.len / SQLITE_VFS_PAGE_BYTES; page++) {
        CHECK(sqlite_page_good(b.p + page * SQLITE_VFS_PAGE_BYTES, (uint32_t)page + 1));
        for (int i = 0; i < 30; i++) {
            size_t off = page * SQLITE_VFS_PAGE_BYTES + rng_below(rng, SQLITE_VFS_PAGE_BYTES);
            if (i < 24 && page == 0) off = (size_t)i + 8; /* sizes, versions, room for checksums */
            uint8_t bit = (uint8_t)(1u << rng_below(rng, 8));
            b.p[off] ^= bit;
            write_all(&f, "catalog.sqlite", b.p, b.len);
            CHECK_ERR(catalog_open(&f.e.env, f.e.dir, &f.c, &f.err), ERR_CORRUPT);
            CHECK(strstr(f.err.file, "catalog.sqlite") != NULL);
            CHECK_U64(f.err.file_off, page * SQLITE_VFS_PAGE_BYTES);
            b.p[off] ^= bit;
        }
    }
    write_all(&f, "catalog.sqlite", b.p, b.len - SQLITE_VFS_PAGE_BYTES);
    CHECK_ERR(catalog_open(&f.e.env, f.e.dir, &f.c, &f.err), ERR_CORRUPT);
    write_all(&f, "catalog.sqlite", b.p, b.len);
    CHECK_OK(catalog_open(&f.e.env, f.e.dir, &f.c, &f.err), &f.err);
    check_content(&f, f.c);
    buf_release(&b);
    fixture_release(&f);
}

static int run_schema(void *db, int n, char **values, char **names)
{
    (void)n, (void)names;
    return sqlite3_exec(db, values[0], NULL, NULL, NULL);
}

/* As it was before pages had checksums. */
static void make_plain(struct fixture *f)
{
    char path[512], plain[512], sql[1024];
    sqlite3 *from, *to;
    path_of(f, "catalog.sqlite", path, sizeof(path));
    path_of(f, "plain", plain, sizeof(plain));
    CHECK(sqlite3_open(path, &from) == SQLITE_OK && sqlite3_open(plain, &to) == SQLITE_OK);
    CHECK(sqlite3_exec(from,
                       "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL"
                       " AND name NOT LIKE 'sqlite_%'",
                       run_schema, to, NULL) == SQLITE_OK);
    snprintf(sql, sizeof(sql),
             "ATTACH '%s' AS o; INSERT INTO tenants SELECT * FROM o.tenants;"
             "INSERT INTO blocks SELECT * FROM o.blocks;"
             "INSERT INTO metadata SELECT * FROM o.metadata;"
             "PRAGMA main.application_id = 0x51504355; PRAGMA main.user_version = 3",
             path);
    CHECK(sqlite3_exec(to, sql, NULL, NULL, NULL) == SQLITE_OK);
    sqlite3_close(from);
    sqlite3_close(to);
    CHECK_OK(io_rename(f->e.env.io, plain, path, &f->err), &f->err);
}

static void test_a_catalog_without_checksums_gets_them(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    fill(&f);
    fixture_close(&f);
    make_plain(&f);
    struct buf b = read_all(&f, "catalog.sqlite");
    CHECK(!sqlite_page_good(b.p, 1));
    buf_release(&b);
    CHECK_OK(catalog_open(&f.e.env, f.e.dir, &f.c, &f.err), &f.err);
    check_content(&f, f.c);
    fixture_close(&f);
    b = read_all(&f, "catalog.sqlite");
    for (size_t page = 0; page < b.len / SQLITE_VFS_PAGE_BYTES; page++)
        CHECK(sqlite_page_good(b.p + page * SQLITE_VFS_PAGE_BYTES, (uint32_t)page + 1));
    buf_release(&b);
    CHECK_OK(catalog_open(&f.e.env, f.e.dir, &f.c, &f.err), &f.err);
    check_content(&f, f.c);
    fixture_release(&f);
}

/* ---- the WAL ---- */

/* Three transactions in a WAL, as a killed process leaves them. */
static struct buf make_wal(struct fixture *f)
{
    char path[512];
    sqlite3 *db;
    path_of(f, "w.sqlite", path, sizeof(path));
    CHECK(sqlite3_open(path, &db) == SQLITE_OK);
    CHECK(sqlite3_exec(db,
                       "PRAGMA journal_mode = WAL; CREATE TABLE t (a, b);"
                       "INSERT INTO t VALUES (1, 'x'); INSERT INTO t VALUES (2, zeroblob(6000))",
                       NULL, NULL, NULL) == SQLITE_OK);
    struct buf b = read_all(f, "w.sqlite-wal");
    sqlite3_close(db);
    return b;
}

static enum err_code check_wal(struct fixture *f, const struct buf *b, size_t len,
                               struct sqlite_wal_state *out)
{
    char path[512];
    write_all(f, "w", b->p, len);
    path_of(f, "w", path, sizeof(path));
    return sqlite_wal_check(f->e.env.io, path, out, &f->err);
}

static void test_a_flip_in_the_wal_is_no_torn_write(void **state)
{
    (void)state;
    struct fixture f;
    struct sqlite_wal_state s;
    struct rng seeded, *rng = &seeded;
    test_rng(rng);
    fixture_init(&f);
    struct buf b = make_wal(&f);
    CHECK_OK(check_wal(&f, &b, b.len, &s), &f.err);
    CHECK_U64(s.n_commits, 3);
    CHECK_U64(s.unused_off, b.len);
    CHECK_OK(check_wal(&f, &b, b.len - 1000, &s), &f.err);
    uint64_t last_off = s.unused_off; /* of the last transaction, which can be an unfinished one */
    for (int i = 0; i < 400; i++) {
        size_t off = i < 56 ? (size_t)i : rng_below(rng, b.len);
        uint8_t bit = (uint8_t)(1u << rng_below(rng, 8));
        if (off >= 32 && (off - 32) % (24 + 4096) / 4 == 1) continue; /* whether it is a commit */
        b.p[off] ^= bit;
        enum err_code rc = check_wal(&f, &b, b.len, &s);
        b.p[off] ^= bit;
        if (off < last_off) CHECK(rc == ERR_CORRUPT);
        if (rc == ERR_OK) CHECK_U64(s.n_commits, 2);
    }
    /* What a power cut leaves: an end that is cut off, or one of which some sectors are old. */
    CHECK_OK(check_wal(&f, &b, b.len - 1000, &s), &f.err);
    CHECK_U64(s.n_commits, 2);
    CHECK_OK(check_wal(&f, &b, 10, &s), &f.err);
    memset(b.p + b.len - 2000, 0xaa, 512);
    CHECK_OK(check_wal(&f, &b, b.len, &s), &f.err);
    CHECK_U64(s.n_commits, 2);
    /* But a hole before two whole transactions is none. */
    memset(b.p + 32 + 24, 0, 512);
    memset(b.p + 32 + 24 + 600, 0x55, 512);
    memset(b.p + b.len - 2000, 0, 512); /* of the zeros that were written */
    CHECK_ERR(check_wal(&f, &b, b.len, &s), ERR_CORRUPT);
    buf_release(&b);
    fixture_release(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_snapshot_gives_everything_back),
        cmocka_unit_test(test_written_when_something_changed),
        cmocka_unit_test(test_every_flip_of_a_snapshot_is_found),
        cmocka_unit_test(test_the_generation_before_is_kept),
        cmocka_unit_test(test_a_catalog_that_is_gone_is_missed),
        cmocka_unit_test(test_every_page_is_checked),
        cmocka_unit_test(test_a_catalog_without_checksums_gets_them),
        cmocka_unit_test(test_a_flip_in_the_wal_is_no_torn_write),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
