/* SQLite over the simulated disk: what COMMIT returned for is there after any power cut, failed call or restart;
 * what it did not return for is there whole or not at all. */
#include "tests/quipu_test.h"

#include <sqlite3.h>

#include "storage/sqlite_vfs.h"
#include "tests/sim/io_sim.h"

#define DB_PATH "/data/test.sqlite"
#define N_KEYS 24

/* The bytes of a row follow from one number, which is all that the model keeps. 0 = no row. */
struct model {
    uint32_t value[N_KEYS];
};

struct world {
    struct io_sim *sim;
    struct sqlite_vfs *vfs;
    struct clock_fake clock;
    struct rng *rng, vfs_rng;
    sqlite3 *db;
    bool rollback;      /* with a rollback journal instead of the WAL */
    struct model sure;  /* what must be there */
    struct model maybe; /* what a COMMIT of unknown outcome may have made of it */
    bool in_doubt;      /* by a failed sync: this connection does not show which */
    uint32_t next_value;
    size_t n_commits, n_failures;
};

static bool same(const struct model *a, const struct model *b)
{
    return memcmp(a, b, sizeof(*a)) == 0;
}

static bool exec(struct world *w, const char *sql)
{
    return sqlite3_exec(w->db, sql, NULL, NULL, NULL) == SQLITE_OK;
}

static size_t blob_of(uint32_t value, uint8_t *out, size_t size)
{
    struct rng rng;
    rng_seed(&rng, value);
    size_t n = rng_below(&rng, rng_chance(&rng, 0.1) ? size : 300);
    for (size_t i = 0; i < n; i++) out[i] = (uint8_t)rng_u64(&rng);
    return n;
}

static bool open_db(struct world *w)
{
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    int rc = sqlite3_open_v2(DB_PATH, &w->db, flags, sqlite_vfs_name(w->vfs));
    const char *mode = w->rollback ? "PRAGMA journal_mode = DELETE; PRAGMA synchronous = EXTRA"
                                   : "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL;"
                                     "PRAGMA synchronous = FULL";
    return rc == SQLITE_OK && exec(w, mode) && exec(w, "PRAGMA wal_autocheckpoint = 30") &&
           exec(w, "PRAGMA cache_size = 8") &&
           exec(w, "CREATE TABLE IF NOT EXISTS kv (k INTEGER PRIMARY KEY, n INTEGER, v BLOB)");
}

static void close_db(struct world *w)
{
    CHECK(sqlite3_close(w->db) == SQLITE_OK);
    w->db = NULL;
    w->in_doubt = false;
}

static void world_open(struct world *w, struct rng *rng)
{
    struct err err;
    memset(w, 0, sizeof(*w));
    w->rng = rng;
    w->sim = io_sim_new(rng_u64(rng));
    w->next_value = 1;
    clock_fake_init(&w->clock, INT64_C(1700000000000));
    rng_seed(&w->vfs_rng, rng_u64(rng));
    struct sqlite_vfs_config config = {
        .io = io_sim_io(w->sim), .clock = &w->clock.clock, .rng = &w->vfs_rng};
    CHECK_OK(sqlite_vfs_register(&config, &w->vfs, &err), &err);
    CHECK_OK(io_mkdir_all(config.io, "/data", &err), &err);
}

static void world_close(struct world *w)
{
    sqlite_vfs_unregister(w->vfs);
    io_sim_free(w->sim);
}

static bool put_row(struct world *w, uint32_t key, uint32_t value)
{
    static uint8_t blob[20000];
    sqlite3_stmt *stmt;
    const char *sql =
        value ? "INSERT OR REPLACE INTO kv VALUES (?1, ?2, ?3)" : "DELETE FROM kv WHERE k = ?1";
    if (sqlite3_prepare_v2(w->db, sql, -1, &stmt, NULL)) return false;
    sqlite3_bind_int64(stmt, 1, key);
    if (value) {
        size_t n = blob_of(value, blob, sizeof(blob));
        sqlite3_bind_int64(stmt, 2, value);
        sqlite3_bind_blob64(stmt, 3, blob, n, SQLITE_STATIC);
    }
    bool ok = sqlite3_step(stmt) == SQLITE_DONE;
    return sqlite3_finalize(stmt) == SQLITE_OK && ok;
}

/* One transaction of a few rows. False if it failed; then `maybe` says what it may have left. */
static bool transact(struct world *w)
{
    struct model next = w->sure;
    bool ok = exec(w, "BEGIN IMMEDIATE");
    for (uint64_t i = rng_below(w->rng, 6); ok && i; i--) {
        uint32_t key = (uint32_t)rng_below(w->rng, N_KEYS);
        next.value[key] = rng_chance(w->rng, 0.2) ? 0 : w->next_value++;
        ok = put_row(w, key, next.value[key]);
    }
    if (ok && rng_chance(w->rng, 0.1)) return exec(w, "ROLLBACK");
    if (ok) {
        if (!w->in_doubt) w->maybe = next;
        ok = exec(w, "COMMIT");
    }
    if (ok) {
        /* After a failed sync only a commit of nothing may succeed. */
        CHECK(!w->in_doubt || same(&next, &w->sure));
        if (!w->in_doubt) w->sure = w->maybe = next;
        w->n_commits++;
    } else {
        w->n_failures++;
        bool by_sync = strncmp(sqlite_vfs_last_err(w->vfs)->text, "sync", 4) == 0;
        if (by_sync)
            w->in_doubt = true;
        else if (!io_sim_is_off(w->sim) && !w->in_doubt)
            w->maybe = w->sure; /* refused: certainly not there */
        CHECK(sqlite3_errcode(w->db) != SQLITE_OK);
        CHECK(sqlite3_errcode(w->db) != SQLITE_CORRUPT);
        CHECK(sqlite3_errcode(w->db) != SQLITE_NOTADB);
    }
    return ok;
}

static bool read_model(struct world *w, struct model *out)
{
    static uint8_t blob[20000];
    sqlite3_stmt *stmt;
    memset(out, 0, sizeof(*out));
    if (sqlite3_prepare_v2(w->db, "SELECT k, n, v FROM kv", -1, &stmt, NULL)) return false;
    int rc;
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        uint32_t value = (uint32_t)sqlite3_column_int64(stmt, 1);
        size_t n = blob_of(value, blob, sizeof(blob));
        CHECK_BYTES(bytes_of(sqlite3_column_blob(stmt, 2), (size_t)sqlite3_column_bytes(stmt, 2)),
                    bytes_of(blob, n));
        out->value[sqlite3_column_int64(stmt, 0)] = value;
    }
    sqlite3_finalize(stmt);
    return rc == SQLITE_DONE;
}

static int is_ok(void *ctx, int n, char **values, char **names)
{
    (void)names;
    *(bool *)ctx = n == 1 && strcmp(values[0], "ok") == 0;
    return 0;
}

/* The database is open: whole, and as it should be. From here on its state is known again. */
static void check_db(struct world *w)
{
    bool ok = false;
    struct model found;
    CHECK(sqlite3_exec(w->db, "PRAGMA integrity_check", is_ok, &ok, NULL) == SQLITE_OK);
    CHECK(ok);
    CHECK(read_model(w, &found));
    CHECK(same(&found, &w->sure) || same(&found, &w->maybe));
    if (!w->in_doubt) w->sure = w->maybe = found;
}

static void some_work(struct world *w, uint64_t n_max)
{
    for (uint64_t i = rng_below(w->rng, n_max); i; i--) {
        if (!transact(w)) return;
        if (rng_chance(w->rng, 0.05) && !exec(w, "PRAGMA wal_checkpoint(TRUNCATE)")) return;
        if (rng_chance(w->rng, 0.02) && !exec(w, "VACUUM")) return;
    }
}

static void power_cut(struct world *w)
{
    /* Before the handles go: SQLite must not reach the disk any more, as if the process were dead. */
    if (!io_sim_is_off(w->sim)) io_sim_power_cut_at(w->sim, 1);
    struct file *probe;
    struct err err;
    if (!io_sim_is_off(w->sim)) err_ignore(io_open(io_sim_io(w->sim), "/x", IO_READ, &probe, &err));
    close_db(w);
    io_sim_power_cut(w->sim);
}

static void power_cuts_lose_no_commit(void **state)
{
    (void)state;
    struct rng rng;
    size_t n_cuts = 0, n_commits = 0, n_in_flight = 0;
    PROPERTY_LOOP(&rng, 60)
    {
        struct world w;
        world_open(&w, &rng);
        w.rollback = rng_chance(&rng, 0.2);
        for (int cut = 0; cut < 6; cut++, n_cuts++) {
            io_sim_power_cut_at(w.sim, 1 + rng_below(&rng, rng_chance(&rng, 0.3) ? 40 : 1500));
            if (open_db(&w)) {
                some_work(&w, 40);
                if (!io_sim_is_off(w.sim) && rng_chance(&rng, 0.2)) {
                    close_db(&w); /* checkpoints and removes the WAL, unless the power goes */
                    bool again = open_db(&w);
                    CHECK(again || io_sim_is_off(w.sim));
                }
            }
            n_in_flight += io_sim_is_off(w.sim) && !same(&w.sure, &w.maybe);
            power_cut(&w);
            CHECK(open_db(&w));
            check_db(&w);
            close_db(&w);
        }
        n_commits += w.n_commits;
        world_close(&w);
    }
    if (getenv("QUIPU_SEED")) return;
    CHECK(n_cuts >= 300);
    CHECK(n_commits > 1000);
    CHECK(n_in_flight > 20); /* cuts in the middle of a commit did come up */
}

/* A process that dies without a power cut: the system's cache is all there. */
static void kill_process(struct world *w)
{
    io_sim_break(w->sim, 1);
    close_db(w);
    io_sim_heal(w->sim);
}

/* Each of the calls that a piece of work makes fails in turn, with what a disk can answer. */
static void failing_calls_are_told_and_harm_nothing(void **state)
{
    (void)state;
    struct rng rng;
    size_t n_failures = 0;
    PROPERTY_LOOP(&rng, 150)
    {
        struct world w;
        world_open(&w, &rng);
        CHECK(open_db(&w));
        for (int round = 0; round < 8; round++) {
            io_sim_fail(w.sim, 1 + rng_below(&rng, rng_chance(&rng, 0.5) ? 10 : 200),
                        (enum io_sim_failure)rng_below(&rng, 3));
            some_work(&w, 20);
            io_sim_heal(w.sim);
            if (!sqlite3_get_autocommit(w.db)) (void)exec(&w, "ROLLBACK");
            switch (rng_below(&rng, 4)) {
            case 0: break; /* go on with the same connection, if it will */
            case 1: close_db(&w); break;
            case 2: kill_process(&w); break;
            default: power_cut(&w); break;
            }
            if (!w.db) CHECK(open_db(&w));
            check_db(&w);
        }
        power_cut(&w);
        CHECK(open_db(&w));
        check_db(&w);
        close_db(&w);
        n_failures += w.n_failures;
        world_close(&w);
    }
    if (!getenv("QUIPU_SEED")) CHECK(n_failures > 100);
}

/* After a failed sync no commit succeeds any more, until the database is opened anew. */
static void a_failed_sync_is_final(void **state)
{
    (void)state;
    struct rng rng;
    test_rng(&rng);
    size_t n_seen = 0;
    for (uint64_t k = 1; k < 40; k++) {
        struct world w;
        world_open(&w, &rng);
        CHECK(open_db(&w));
        while (!transact(&w)) continue;
        io_sim_fail(w.sim, k, IO_SIM_EIO);
        bool failed = false;
        for (int i = 0; i < 20 && !failed; i++) failed = !transact(&w);
        if (failed && w.in_doubt) {
            n_seen++;
            CHECK(sqlite_vfs_last_err(w.vfs)->code == ERR_IO);
            CHECK(sqlite_vfs_last_err(w.vfs)->file[0] != 0);
            CHECK(sqlite_vfs_last_err(w.vfs)->sys_errno != 0);
            struct model in_doubt = w.maybe;
            for (int i = 0; i < 5; i++) {
                if (!sqlite3_get_autocommit(w.db)) (void)exec(&w, "ROLLBACK");
                CHECK(exec(&w, "BEGIN IMMEDIATE"));
                CHECK(put_row(&w, 1, 77777));
                CHECK(!exec(&w, "COMMIT"));
            }
            /* The one in doubt is there or not; none of the later ones is. */
            kill_process(&w);
            CHECK(open_db(&w));
            struct model found;
            CHECK(read_model(&w, &found));
            CHECK(same(&found, &w.sure) || same(&found, &in_doubt));
            /* What is shown now must last: it has been shown. */
            w.sure = w.maybe = found;
            CHECK(transact(&w));
            power_cut(&w);
            CHECK(open_db(&w));
            check_db(&w);
        }
        close_db(&w);
        world_close(&w);
    }
    if (!getenv("QUIPU_SEED")) CHECK(n_seen > 3);
}

static void a_full_disk_is_told_and_gets_better(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 20)
    {
        struct world w;
        world_open(&w, &rng);
        CHECK(open_db(&w));
        some_work(&w, 10);
        for (int round = 0; round < 5; round++) {
            io_sim_set_capacity(w.sim, io_sim_used(w.sim) + 4096 * rng_below(&rng, 30));
            bool full = false;
            for (int i = 0; i < 60 && !full; i++) {
                full = !transact(&w);
                if (full) CHECK(sqlite3_errcode(w.db) == SQLITE_FULL);
            }
            if (!sqlite3_get_autocommit(w.db)) (void)exec(&w, "ROLLBACK");
            CHECK(same(&w.sure, &w.maybe)); /* refused: not in doubt */
            check_db(&w);                   /* reads go on */
            if (rng_chance(&rng, 0.3)) {
                kill_process(&w);
                io_sim_set_capacity(w.sim, UINT64_C(1) << 40);
                CHECK(open_db(&w));
                check_db(&w);
            }
            io_sim_set_capacity(w.sim, UINT64_C(1) << 40);
            CHECK(transact(&w));
        }
        power_cut(&w);
        CHECK(open_db(&w));
        check_db(&w);
        close_db(&w);
        world_close(&w);
    }
}

static void one_connection_only(void **state)
{
    (void)state;
    struct rng rng;
    struct world w;
    test_rng(&rng);
    world_open(&w, &rng);
    CHECK(open_db(&w));
    sqlite3 *first = w.db;
    CHECK(!open_db(&w));
    CHECK(sqlite3_errcode(w.db) == SQLITE_BUSY);
    close_db(&w);
    w.db = first;
    CHECK(transact(&w));
    close_db(&w);
    CHECK(open_db(&w)); /* free again */
    close_db(&w);
    world_close(&w);
}

static int64_t ask(struct world *w, const char *sql)
{
    sqlite3_stmt *stmt;
    CHECK(sqlite3_prepare_v2(w->db, sql, -1, &stmt, NULL) == SQLITE_OK);
    CHECK(sqlite3_step(stmt) == SQLITE_ROW);
    int64_t v = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    return v;
}

static void time_and_chance_are_ours(void **state)
{
    (void)state;
    struct rng rng;
    int64_t chance[2];
    for (int i = 0; i < 2; i++) {
        struct world w;
        rng_seed(&rng, 5);
        world_open(&w, &rng);
        sqlite3_randomness(0, NULL); /* SQLite draws its seed again, from our VFS */
        CHECK(open_db(&w));
        w.clock.wall_ms = INT64_C(1234567890123);
        CHECK_I64(ask(&w, "SELECT unixepoch('now')"), 1234567890);
        chance[i] = ask(&w, "SELECT count(*) FROM kv");
        close_db(&w);
        struct buf bytes;
        buf_init(&bytes, MEM_BASE);
        CHECK(io_sim_copy_out(w.sim, DB_PATH, true, &bytes));
        CHECK(bytes.len >= 4096);
        buf_release(&bytes);
        world_close(&w);
    }
    CHECK_I64(chance[0], chance[1]);
}

/* Spilled savepoints and sorts use temporary files: in memory, none on the disk. */
static bool count_path(void *ctx, const char *path, uint64_t size)
{
    (void)size;
    CHECK(strncmp(path, DB_PATH, strlen(DB_PATH)) == 0);
    ++*(int *)ctx;
    return true;
}

static void temporary_files_stay_in_memory(void **state)
{
    (void)state;
    struct rng rng;
    struct world w;
    test_rng(&rng);
    world_open(&w, &rng);
    size_t before = mem_bytes(MEM_CATALOG);
    CHECK(open_db(&w));
    CHECK(exec(&w, "PRAGMA temp_store = FILE; CREATE TEMP TABLE t (a, b);"
                   "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)"
                   "INSERT INTO t SELECT i, hex(randomblob(50)) FROM n;"
                   "CREATE INDEX temp.ti ON t (b)"));
    CHECK(exec(&w, "BEGIN; SAVEPOINT a;"
                   "INSERT INTO kv SELECT a, a, zeroblob(500) FROM t WHERE a < 5000;"
                   "SAVEPOINT b; UPDATE kv SET n = n + 1; ROLLBACK TO b; RELEASE a; COMMIT"));
    CHECK_I64(ask(&w, "SELECT count(*) FROM kv WHERE n = k"), 4999);
    CHECK_I64(ask(&w, "SELECT count(DISTINCT b) FROM t"), 20000);
    CHECK(mem_bytes(MEM_CATALOG) > before + 100000);
    int n = 0;
    io_sim_paths(w.sim, count_path, &n);
    CHECK(n >= 1 && n <= 3);
    close_db(&w);
    CHECK_U64(mem_bytes(MEM_CATALOG), before);
    world_close(&w);
}

/* What SQLite rarely asks for, asked directly. */
static void the_calls_themselves(void **state)
{
    (void)state;
    struct rng rng;
    struct world w;
    test_rng(&rng);
    world_open(&w, &rng);
    sqlite3_vfs *vfs = sqlite3_vfs_find(sqlite_vfs_name(w.vfs));
    CHECK(vfs != NULL);
    CHECK(sqlite3_vfs_find(NULL) != vfs); /* not the default one */
    union {
        sqlite3_file file;
        char room[512];
    } f;
    CHECK((size_t)vfs->szOsFile <= sizeof(f));
    char p[8] = "abcdefgh";
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_MAIN_JOURNAL, there;
    CHECK(vfs->xOpen(vfs, "/data/j", &f.file, flags, NULL) == SQLITE_CANTOPEN);
    CHECK(f.file.pMethods == NULL);
    flags |= SQLITE_OPEN_CREATE | SQLITE_OPEN_EXCLUSIVE;
    CHECK(vfs->xOpen(vfs, "/data/j", &f.file, flags, NULL) == SQLITE_OK);
    CHECK(vfs->xAccess(vfs, "/data/j", SQLITE_ACCESS_EXISTS, &there) == SQLITE_OK);
    CHECK(!there); /* empty is none */
    CHECK(f.file.pMethods->xWrite(&f.file, "xyz", 3, 2) == SQLITE_OK);
    CHECK(vfs->xAccess(vfs, "/data/j", SQLITE_ACCESS_EXISTS, &there) == SQLITE_OK);
    CHECK(there);
    CHECK(f.file.pMethods->xRead(&f.file, p, 8, 2) == SQLITE_IOERR_SHORT_READ);
    CHECK(memcmp(p, "xyz\0\0\0\0\0", 8) == 0);
    CHECK(f.file.pMethods->xRead(&f.file, p, 5, 0) == SQLITE_OK);
    CHECK(memcmp(p, "\0\0xyz", 5) == 0);
    CHECK(f.file.pMethods->xClose(&f.file) == SQLITE_OK);
    CHECK(vfs->xOpen(vfs, "/data/j", &f.file, flags, NULL) == SQLITE_CANTOPEN); /* exclusive */
    CHECK(vfs->xDelete(vfs, "/data/j", 1) == SQLITE_OK);
    CHECK(vfs->xDelete(vfs, "/data/j", 1) == SQLITE_IOERR_DELETE_NOENT);
    flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_TEMP_JOURNAL |
            SQLITE_OPEN_DELETEONCLOSE;
    CHECK(vfs->xOpen(vfs, "/data/t", &f.file, flags, NULL) == SQLITE_OK);
    CHECK(f.file.pMethods->xClose(&f.file) == SQLITE_OK);
    CHECK(!io_exists(io_sim_io(w.sim), "/data/t"));
    char path[IO_PATH_BYTES];
    CHECK(vfs->xFullPathname(vfs, "/data/j", 8, path) == SQLITE_OK);
    CHECK_STR(str_of(path), "/data/j");
    CHECK(vfs->xFullPathname(vfs, "/data/j", 7, path) == SQLITE_CANTOPEN);

    /* An error must not pass for "there is no journal". */
    io_sim_power_cut_at(w.sim, 1);
    CHECK(vfs->xDelete(vfs, "/data/x", 0) == SQLITE_IOERR_DELETE);
    CHECK(vfs->xAccess(vfs, "/data/j", SQLITE_ACCESS_EXISTS, &there) == SQLITE_IOERR_ACCESS);
    io_sim_power_cut(w.sim);
    world_close(&w);
}

static void works_on_the_real_disk(void **state)
{
    (void)state;
    char dir[256], path[IO_PATH_BYTES];
    struct err err;
    struct sqlite_vfs *vfs;
    struct sqlite_vfs_config config = {.io = io_posix()};
    CHECK_OK(sqlite_vfs_register(&config, &vfs, &err), &err);
    test_temp_dir(dir, sizeof(dir));
    CHECK_OK(io_path(path, sizeof(path), &err, dir, "c.sqlite"), &err);
    for (int i = 0; i < 3; i++) {
        struct world w = {.vfs = vfs};
        int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
        CHECK(sqlite3_open_v2(path, &w.db, flags, sqlite_vfs_name(vfs)) == SQLITE_OK);
        CHECK(exec(&w, "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL;"
                       "CREATE TABLE IF NOT EXISTS t (a); INSERT INTO t VALUES (random())"));
        CHECK_I64(ask(&w, "SELECT count(*) FROM t"), i + 1);
        CHECK(ask(&w, "SELECT unixepoch('now')") > 1700000000);
        close_db(&w);
    }
    sqlite_vfs_unregister(vfs);
    sqlite_vfs_unregister(NULL);
    test_remove_dir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(power_cuts_lose_no_commit),
        cmocka_unit_test(failing_calls_are_told_and_harm_nothing),
        cmocka_unit_test(a_failed_sync_is_final),
        cmocka_unit_test(a_full_disk_is_told_and_gets_better),
        cmocka_unit_test(one_connection_only),
        cmocka_unit_test(time_and_chance_are_ours),
        cmocka_unit_test(temporary_files_stay_in_memory),
        cmocka_unit_test(the_calls_themselves),
        cmocka_unit_test(works_on_the_real_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
