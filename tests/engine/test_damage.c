/* tests/engine/test_damage.c: damaged files are named, all else is served; what is asked for beside them says so. */
#include "engine/engine_private.h"
#include "engine/rebuild.h"
#include "engine/verify.h"
#include "tests/engine/fixture.h"

#define SERIES 40

static void write_block(struct fixture *f, const char *tenant, int64_t t_ms)
{
    struct tenant *t = fixture_tenant(f, tenant);
    for (int i = 0; i < SERIES; i++) write_one(f, t, i, t_ms + i, i * 1.25 + (double)(t_ms % 97));
    CHECK_OK(engine_flush(f->engine, t, &f->err), &f->err);
}

static size_t count_series(struct fixture *f, const char *tenant)
{
    struct engine_select *sel;
    CHECK_OK(tenant_select(fixture_tenant(f, tenant), NULL, 0, 0, NOW_MS, &sel, &f->err), &f->err);
    size_t n = select_count(sel);
    select_release(sel);
    return n;
}

/* ---- files ---- */

static void path_of_block(struct fixture *f, const struct ulid *ulid, char *out, size_t size)
{
    CHECK_OK(tenant_block_path(fixture_tenant(f, "default"), ulid->text, out, size, &f->err),
             &f->err);
}

static struct ulid first_block(struct fixture *f)
{
    struct tenant *t = fixture_tenant(f, "default");
    struct view *view = views_take(&t->views);
    CHECK(view->n_blocks > 0);
    struct ulid ulid = block_info(view->blocks[0])->ulid;
    views_give(&t->views, view);
    return ulid;
}

/* from < 0: from the end. */
static void flip(struct fixture *f, const char *path, int64_t from)
{
    struct file *file;
    uint64_t size;
    uint8_t byte;
    CHECK_OK(io_open(f->env.io, path, IO_READ | IO_WRITE, &file, &f->err), &f->err);
    CHECK_OK(file_size(file, &size, &f->err), &f->err);
    uint64_t off = from < 0 ? size - (uint64_t)-from : (uint64_t)from;
    CHECK_OK(file_read_exact(file, off, &byte, 1, &f->err), &f->err);
    byte ^= 0x10;
    CHECK_OK(file_write_at(file, off, &byte, 1, &f->err), &f->err);
    file_close(file);
}

static void unlink_in(struct fixture *f, const char *name)
{
    char path[600];
    snprintf(path, sizeof(path), "%s/%s", f->dir, name);
    struct err none;
    err_ignore(io_unlink(f->env.io, path, &none));
}

static size_t missing_in(struct fixture *f, int64_t mint_ms, int64_t maxt_ms)
{
    struct arena arena;
    struct engine_damage *items;
    size_t n;
    arena_init(&arena, MEM_BASE, 0);
    CHECK_OK(
        tenant_missing(fixture_tenant(f, "default"), mint_ms, maxt_ms, &arena, &items, &n, &f->err),
        &f->err);
    arena_release(&arena);
    return n;
}

/* How many are known, and whether the first is left out. */
static size_t known(struct fixture *f, bool *left_out)
{
    struct arena arena;
    struct engine_damage *items;
    size_t n;
    arena_init(&arena, MEM_BASE, 0);
    CHECK_OK(tenant_damage(fixture_tenant(f, "default"), &arena, &items, &n, &f->err), &f->err);
    if (n) *left_out = items[0].left_out;
    if (n) CHECK(items[0].reason.len > 0);
    arena_release(&arena);
    return n;
}

static bool metric_names(struct fixture *f, const struct ulid *ulid)
{
    struct buf out;
    buf_init(&out, MEM_BASE);
    metrics_render(f->env.metrics, &out);
    buf_u8(&out, 0);
    const char *at = strstr((const char *)out.p, "quipu_block_quarantined{");
    bool found = at && strstr(at, ulid->text);
    buf_release(&out);
    return found;
}

/* ---- blocks ---- */

static void test_a_block_that_does_not_open_is_left_out_by_name(void **state)
{
    (void)state;
    struct fixture f;
    char path[IO_PATH_BYTES];
    bool left_out = false;
    fixture_open(&f);
    write_block(&f, "default", NOW_MS - 20000000);
    write_block(&f, "default", NOW_MS - 5000000);
    struct ulid ulid = first_block(&f);
    path_of_block(&f, &ulid, path, sizeof(path));
    CHECK_OK(engine_close(f.engine, false, &f.err), &f.err);
    flip(&f, path, -10);
    CHECK_OK(engine_open(&f.env, &f.config, &f.engine, &f.err), &f.err);
    CHECK(known(&f, &left_out) == 1 && left_out);
    CHECK(metric_names(&f, &ulid));
    CHECK(missing_in(&f, NOW_MS - 20000000, NOW_MS) == 1);
    CHECK(missing_in(&f, NOW_MS - 6000000, NOW_MS) == 0);
    CHECK(count_series(&f, "default") == SERIES);
    /* Retention takes it from the catalog, and the file as well. */
    f.config.retention_ms = 10000000;
    engine_reconfigure(f.engine, &f.config);
    clock_fake_advance(&f.clock, 120000);
    CHECK_OK(engine_step(f.engine, &f.err), &f.err);
    CHECK(known(&f, &left_out) == 0 && !metric_names(&f, &ulid));
    CHECK(!io_exists(f.env.io, path));
    fixture_reopen(&f, false);
    CHECK(known(&f, &left_out) == 0);
    fixture_close(&f);
}

static void test_a_missing_block_is_named(void **state)
{
    (void)state;
    struct fixture f;
    char path[IO_PATH_BYTES];
    bool left_out = false;
    fixture_open(&f);
    write_block(&f, "default", NOW_MS - 20000000);
    struct ulid ulid = first_block(&f);
    path_of_block(&f, &ulid, path, sizeof(path));
    CHECK_OK(engine_close(f.engine, false, &f.err), &f.err);
    CHECK_OK(io_unlink(f.env.io, path, &f.err), &f.err);
    CHECK_OK(engine_open(&f.env, &f.config, &f.engine, &f.err), &f.err);
    CHECK(known(&f, &left_out) == 1 && left_out);
    CHECK(missing_in(&f, 0, NOW_MS) == 1);
    fixture_close(&f);
}

/* A block with a bad page of chunks, and the cache empty. */
static struct ulid damage_a_page(struct fixture *f, char *path, size_t size)
{
    write_block(f, "default", NOW_MS - 20000000);
    struct ulid ulid = first_block(f);
    path_of_block(f, &ulid, path, size);
    CHECK_OK(engine_close(f->engine, false, &f->err), &f->err);
    flip(f, path, 60);
    CHECK_OK(engine_open(&f->env, &f->config, &f->engine, &f->err), &f->err);
    return ulid;
}

static void test_a_query_that_meets_a_bad_page_says_where(void **state)
{
    (void)state;
    struct fixture f;
    char path[IO_PATH_BYTES];
    struct engine_select *sel;
    struct samples s;
    bool left_out = true;
    fixture_open(&f);
    struct ulid ulid = damage_a_page(&f, path, sizeof(path));
    CHECK(known(&f, &left_out) == 0);
    CHECK_OK(tenant_select(fixture_tenant(&f, "default"), NULL, 0, 0, NOW_MS, &sel, &f.err),
             &f.err);
    samples_init(&s, MEM_BASE, NULL);
    CHECK_ERR(select_read(sel, 3, 0, NOW_MS, &s, &f.err), ERR_CORRUPT);
    CHECK(strstr(f.err.file, ulid.text) != NULL && strstr(f.err.text, "chunks") != NULL);
    CHECK(f.err.has_off && f.err.file_off > 0);
    select_release(sel);
    samples_release(&s);
    CHECK(known(&f, &left_out) == 1 && !left_out);
    CHECK(metric_names(&f, &ulid));
    CHECK(missing_in(&f, 0, NOW_MS) == 0); /* what it does not fail is complete */
    fixture_close(&f);
}

static void test_the_scrubber_finds_what_nobody_asks_for(void **state)
{
    (void)state;
    struct fixture f;
    char path[IO_PATH_BYTES];
    uint64_t bytes, total = 0;
    bool left_out = true;
    fixture_open(&f);
    scrub_step(f.engine, &bytes);
    CHECK_U64(bytes, 0); /* nothing is there */
    write_block(&f, "other", NOW_MS - 20000000);
    write_block(&f, "other", NOW_MS - 10000000);
    struct ulid ulid = damage_a_page(&f, path, sizeof(path));
    for (int i = 0; i < 3; i++) {
        scrub_step(f.engine, &bytes);
        CHECK(bytes > 0);
        total += bytes;
    }
    CHECK(known(&f, &left_out) == 1 && !left_out);
    CHECK(metric_names(&f, &ulid));
    struct metric *read = metric_counter(f.env.metrics, "quipu_scrub_bytes_total",
                                         "Bytes that were read again to check them.", "");
    CHECK(metric_value(read) > total / 2 && metric_value(read) <= total);
    /* All three had their turn. */
    struct metric *blocks = metric_counter(f.env.metrics, "quipu_scrub_blocks_total",
                                           "Blocks that were read again to check them.", "");
    CHECK_U64(metric_value(blocks), 3);
    fixture_close(&f);
}

/* ---- verify ---- */

struct findings {
    size_t n[3];
    char text[4096];
};

static void take_finding(void *ctx, const struct verify_finding *finding)
{
    struct findings *x = ctx;
    x->n[finding->kind]++;
    size_t len = strlen(x->text);
    snprintf(x->text + len, sizeof(x->text) - len, "%s|%s|%s\n", finding->file, finding->section,
             finding->text);
}

static struct findings verify(struct fixture *f)
{
    struct findings x = {.text = ""};
    struct verify_options options = {.n_threads = 2, .fn = take_finding, .ctx = &x};
    struct verify_totals totals;
    struct env env = f->env;
    env.threads = true;
    CHECK_OK(verify_data_dir(&env, f->dir, &options, &totals, &f->err), &f->err);
    CHECK(totals.damaged == x.n[VERIFY_DAMAGE] && totals.notes == x.n[VERIFY_NOTE]);
    return x;
}

static void test_verify_names_file_and_section(void **state)
{
    (void)state;
    struct fixture f;
    char path[IO_PATH_BYTES], stranger[IO_PATH_BYTES];
    struct verify_totals totals;
    struct verify_options options = {.n_threads = 1};
    fixture_open(&f);
    write_block(&f, "default", NOW_MS - 20000000);
    write_block(&f, "default", NOW_MS - 10000000);
    write_one(&f, fixture_tenant(&f, "default"), 1, NOW_MS, 5);
    struct ulid ulid = first_block(&f);
    path_of_block(&f, &ulid, path, sizeof(path));
    CHECK_ERR(verify_data_dir(&f.env, f.dir, &options, &totals, &f.err), ERR_BUSY);
    CHECK_OK(engine_close(f.engine, false, &f.err), &f.err);
    struct findings x = verify(&f);
    CHECK(x.n[VERIFY_DAMAGE] == 0 && x.n[VERIFY_UNREADABLE] == 0 && x.n[VERIFY_NOTE] == 0);
    flip(&f, path, 60);
    x = verify(&f);
    CHECK(x.n[VERIFY_DAMAGE] > 0 && strstr(x.text, "|chunks|") && strstr(x.text, ulid.text));
    flip(&f, path, 60);
    flip(&f, path, -40);
    x = verify(&f);
    CHECK(x.n[VERIFY_DAMAGE] == 1 && strstr(x.text, "|footer|"));
    flip(&f, path, -40);
    /* Another name: one is missing, and one is unknown. */
    snprintf(stranger, sizeof(stranger), "%s", path);
    char *name = strrchr(stranger, '/') + 1;
    memcpy(name, "01ARZ3NDEKTSV4RRFFQ69G5FAV", ULID_CHARS);
    CHECK_OK(io_rename(f.env.io, path, stranger, &f.err), &f.err);
    x = verify(&f);
    CHECK(x.n[VERIFY_DAMAGE] == 1 && strstr(x.text, "no such file"));
    CHECK(x.n[VERIFY_NOTE] == 1 && strstr(x.text, "01ARZ3NDEKTSV4RRFFQ69G5FAV"));
    CHECK_OK(io_rename(f.env.io, stranger, path, &f.err), &f.err);
    x = verify(&f);
    CHECK(x.n[VERIFY_DAMAGE] == 0 && x.n[VERIFY_NOTE] == 0);
    CHECK_ERR(verify_data_dir(&f.env, "/nowhere", &options, &totals, &f.err), ERR_NOT_FOUND);
    CHECK_OK(engine_open(&f.env, &f.config, &f.engine, &f.err), &f.err);
    fixture_close(&f);
}

static void test_verify_of_a_running_engine(void **state)
{
    (void)state;
    struct fixture f;
    char path[IO_PATH_BYTES];
    struct findings x = {.text = ""};
    struct verify_options options = {.n_threads = 1, .fn = take_finding, .ctx = &x};
    struct verify_totals totals;
    bool left_out = true;
    fixture_open(&f);
    struct ulid ulid = damage_a_page(&f, path, sizeof(path));
    write_block(&f, "default", NOW_MS - 5000000);
    CHECK_OK(engine_verify(f.engine, NULL, &options, &totals, &f.err), &f.err);
    CHECK(totals.blocks == 2 && totals.damaged > 0 && strstr(x.text, ulid.text));
    CHECK(known(&f, &left_out) == 1 && !left_out);
    fixture_close(&f);
}

/* ---- a new catalog ---- */

static void check_rebuilt(struct fixture *f)
{
    CHECK_OK(engine_open(&f->env, &f->config, &f->engine, &f->err), &f->err);
    CHECK(count_series(f, "default") == SERIES && count_series(f, "Acme.1") == SERIES);
    CHECK(count_series(f, "no-blocks") == 1);
    CHECK(missing_in(f, 0, NOW_MS) == 0);
}

static void test_a_lost_catalog_is_made_anew(void **state)
{
    (void)state;
    struct fixture f;
    struct rebuild_report report;
    fixture_open(&f);
    write_block(&f, "default", NOW_MS - 20000000);
    write_block(&f, "Acme.1", NOW_MS - 20000000);
    write_one(&f, fixture_tenant(&f, "no-blocks"), 1, NOW_MS - 1000, 5);
    CHECK_OK(engine_step(f.engine, &f.err), &f.err); /* a snapshot */
    write_block(&f, "default", NOW_MS - 10000000);   /* which does not know this one */
    CHECK_ERR(catalog_rebuild(&f.env, f.dir, NULL, NULL, &report, &f.err), ERR_BUSY);
    CHECK_OK(engine_close(f.engine, false, &f.err), &f.err);
    unlink_in(&f, "catalog.sqlite");
    CHECK_ERR(engine_open(&f.env, &f.config, &f.engine, &f.err), ERR_CORRUPT);
    CHECK(strstr(f.err.text, "quipu catalog rebuild") != NULL);
    CHECK_OK(catalog_rebuild(&f.env, f.dir, NULL, NULL, &report, &f.err), &f.err);
    CHECK(report.tenants == 3 && report.blocks == 3 && report.generation > 0);
    CHECK(report.damaged == 0 && report.gone == 0);
    check_rebuilt(&f);
    fixture_close(&f);
}

static void test_without_a_snapshot_from_blocks_alone(void **state)
{
    (void)state;
    struct fixture f;
    struct rebuild_report report;
    fixture_open(&f);
    write_block(&f, "default", NOW_MS - 20000000);
    write_block(&f, "Acme.1", NOW_MS - 20000000);
    CHECK_OK(engine_close(f.engine, false, &f.err), &f.err);
    unlink_in(&f, "catalog.sqlite");
    unlink_in(&f, "catalog.snapshot.0");
    unlink_in(&f, "catalog.snapshot.1");
    CHECK_ERR(engine_open(&f.env, &f.config, &f.engine, &f.err), ERR_CORRUPT);
    CHECK_OK(catalog_rebuild(&f.env, f.dir, NULL, NULL, &report, &f.err), &f.err);
    CHECK(report.tenants == 2 && report.blocks == 2 && report.added == 2 && report.generation == 0);
    CHECK_OK(engine_open(&f.env, &f.config, &f.engine, &f.err), &f.err);
    CHECK(count_series(&f, "default") == SERIES && count_series(&f, "Acme.1") == SERIES);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_block_that_does_not_open_is_left_out_by_name),
        cmocka_unit_test(test_a_missing_block_is_named),
        cmocka_unit_test(test_a_query_that_meets_a_bad_page_says_where),
        cmocka_unit_test(test_the_scrubber_finds_what_nobody_asks_for),
        cmocka_unit_test(test_verify_names_file_and_section),
        cmocka_unit_test(test_verify_of_a_running_engine),
        cmocka_unit_test(test_a_lost_catalog_is_made_anew),
        cmocka_unit_test(test_without_a_snapshot_from_blocks_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
