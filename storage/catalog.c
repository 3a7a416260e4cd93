/* storage/catalog.c: one SQLite connection behind one lock. What a listing finds is copied before its callbacks
 * run, so that they may use the catalog. A row is checked as it is read: SQLite checks types, not sense.
 *
 * Schema, version 1:
 *   tenants   one per incarnation; AUTOINCREMENT keeps SQLite from giving a number twice, ever
 *   blocks    of a tenant's incarnation, as in struct block_info
 *   metadata  of metric families, by incarnation
 * Version 2 adds:
 *   tombstones       what was deleted and may still be in files, by incarnation
 *   deleted_tenants  incarnations whose files, should one be left, are nobody's any more
 * Version 3 adds:
 *   exemplars        those that the log does not have any more, a flush's in a row */
#include "storage/catalog.h"

#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>

#include "base/lock.h"
#include "storage/catalog_private.h"
#include "storage/catalog_snapshot.h"
#include "storage/sqlite_vfs.h"
#include "storage/sqlite_wal_check.h"

#define FILE_NAME CATALOG_FILE_NAME
#define SCHEMA_VERSION 3
#define APPLICATION_ID 0x51504355 /* "QPCU" */
#define BUSY_TIMEOUT_MS 500       /* the engine's lock comes first: nobody else should be here */

static const char schema_1_sql[] = "CREATE TABLE tenants ("
                                   " incarnation INTEGER PRIMARY KEY AUTOINCREMENT,"
                                   " name TEXT NOT NULL UNIQUE,"
                                   " flushed_pos INTEGER NOT NULL,"
                                   " next_sequence INTEGER NOT NULL,"
                                   " created_ms INTEGER NOT NULL) STRICT;"
                                   "CREATE TABLE blocks ("
                                   " ulid TEXT PRIMARY KEY,"
                                   " incarnation INTEGER NOT NULL REFERENCES tenants,"
                                   " sequence INTEGER NOT NULL,"
                                   " level INTEGER NOT NULL,"
                                   " t_min_ms INTEGER NOT NULL,"
                                   " t_max_ms INTEGER NOT NULL,"
                                   " n_series INTEGER NOT NULL,"
                                   " n_samples INTEGER NOT NULL,"
                                   " n_chunks INTEGER NOT NULL,"
                                   " file_bytes INTEGER NOT NULL,"
                                   " created_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
                                   "CREATE INDEX blocks_by_tenant ON blocks(incarnation, t_min_ms);"
                                   "CREATE TABLE metadata ("
                                   " incarnation INTEGER NOT NULL REFERENCES tenants,"
                                   " family TEXT NOT NULL,"
                                   " type TEXT NOT NULL,"
                                   " unit TEXT NOT NULL,"
                                   " help TEXT NOT NULL,"
                                   " PRIMARY KEY (incarnation, family)) STRICT, WITHOUT ROWID;"
                                   "PRAGMA application_id = 0x51504355;"
                                   "PRAGMA user_version = 1;";
static const char schema_2_sql[] = "CREATE TABLE tombstones ("
                                   " id INTEGER PRIMARY KEY AUTOINCREMENT,"
                                   " incarnation INTEGER NOT NULL REFERENCES tenants,"
                                   " matchers BLOB NOT NULL,"
                                   " mint_ms INTEGER NOT NULL,"
                                   " maxt_ms INTEGER NOT NULL,"
                                   " log_pos INTEGER NOT NULL,"
                                   " created_ms INTEGER NOT NULL) STRICT;"
                                   "CREATE INDEX tombstones_by_tenant ON tombstones(incarnation);"
                                   "CREATE TABLE deleted_tenants ("
                                   " incarnation INTEGER PRIMARY KEY,"
                                   " name TEXT NOT NULL,"
                                   " deleted_ms INTEGER NOT NULL,"
                                   " files_gone INTEGER NOT NULL) STRICT;"
                                   "PRAGMA user_version = 2;";
static const char schema_3_sql[] = "CREATE TABLE exemplars ("
                                   " id INTEGER PRIMARY KEY AUTOINCREMENT,"
                                   " incarnation INTEGER NOT NULL REFERENCES tenants,"
                                   " n INTEGER NOT NULL,"
                                   " max_ms INTEGER NOT NULL,"
                                   " data BLOB NOT NULL) STRICT;"
                                   "CREATE INDEX exemplars_by_tenant ON exemplars(incarnation);"
                                   "PRAGMA user_version = 3;";

struct catalog {
    struct lock lock; /* rank LOCK_CATALOG */
    sqlite3 *db;      /* GUARDED_BY(lock) */
    bool to_read;     /* constant */
    bool failed;      /* GUARDED_BY(lock): a write reached the disk or did not, nobody knows */
    struct sqlite_vfs *vfs;
    struct rng rng; /* of the VFS: env's own belongs to constructors */
    struct env env;
    struct catalog_keep keep; /* GUARDED_BY(lock) */
    char dir[IO_PATH_BYTES], path[IO_PATH_BYTES];
};

/* ---- SQLite's errors as ours ---- */

static enum err_code code_of(int sqlite_code)
{
    switch (sqlite_code & 0xFF) {
    case SQLITE_FULL: return ERR_NO_SPACE;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_FORMAT:
    case SQLITE_MISMATCH: return ERR_CORRUPT;
    case SQLITE_NOMEM: return ERR_NO_MEMORY;
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return ERR_BUSY;
    case SQLITE_CONSTRAINT: return ERR_EXISTS;
    default: return sqlite_code == SQLITE_IOERR_DATA ? ERR_CORRUPT : ERR_IO;
    }
}

static enum err_code db_fail(struct catalog *c, const char *what, struct err *err)
{
    int code = c->db ? sqlite3_extended_errcode(c->db) : SQLITE_NOMEM;
    err_set(err, code_of(code), "%s: %s (SQLite %d)", what,
            c->db ? sqlite3_errmsg(c->db) : "out of memory", code);
    if (code == SQLITE_IOERR_FSYNC || code == SQLITE_IOERR_DIR_FSYNC) c->failed = true;
    if ((code & 0xFF) == SQLITE_IOERR || (code & 0xFF) == SQLITE_FULL) {
        /* SQLite keeps the kind of call that failed; the VFS knows why. */
        const struct err *why = sqlite_vfs_last_err(c->vfs);
        if (code == SQLITE_IOERR_DATA && why->code == ERR_CORRUPT) { /* names the page */
            *err = *why;
            return err_context(err, "%s", what);
        }
        if (why->code) {
            err_set(err, code_of(code), "%s: %s", what, why->text);
            err->sys_errno = why->sys_errno;
        }
    }
    snprintf(err->file, sizeof(err->file), "%.*s", (int)sizeof(err->file) - 1, c->path);
    return err->code;
}

static enum err_code bad_row(struct catalog *c, const char *what, struct err *err)
{
    err_set(err, ERR_CORRUPT, "a row of %s makes no sense", what);
    snprintf(err->file, sizeof(err->file), "%.*s", (int)sizeof(err->file) - 1, c->path);
    return ERR_CORRUPT;
}

static enum err_code db_exec(struct catalog *c, const char *sql, struct err *err)
{
    return sqlite3_exec(c->db, sql, NULL, NULL, NULL) ? db_fail(c, sql, err) : ERR_OK;
}

/* ---- one statement: prepare, bind, step, finalize; a failed bind shows at the step ---- */

struct query {
    struct catalog *c;
    sqlite3_stmt *stmt;
    const char *what;
    int bound; /* parameters so far */
    bool bind_failed;
};

static enum err_code query_init(struct query *q, struct catalog *c, const char *what,
                                const char *sql, struct err *err)
{
    *q = (struct query){.c = c, .what = what};
    return sqlite3_prepare_v2(c->db, sql, -1, &q->stmt, NULL) ? db_fail(c, what, err) : ERR_OK;
}

static void query_release(struct query *q)
{
    (void)sqlite3_finalize(q->stmt); /* repeats the error of the last step */
}

static void query_i64(struct query *q, int64_t v)
{
    q->bind_failed |= sqlite3_bind_int64(q->stmt, ++q->bound, v) != SQLITE_OK;
}

/* Counts and positions stay far below 2^63; one that does not is our own bug. */
static void query_u64(struct query *q, uint64_t v)
{
    ASSERT(v <= INT64_MAX);
    query_i64(q, (int64_t)v);
}

static void query_str(struct query *q, struct str s)
{
    q->bind_failed |= sqlite3_bind_text64(q->stmt, ++q->bound, s.p ? s.p : "", s.len, SQLITE_STATIC,
                                          SQLITE_UTF8) != SQLITE_OK;
}

static void query_blob(struct query *q, struct bytes b)
{
    q->bind_failed |=
        sqlite3_bind_blob64(q->stmt, ++q->bound, b.p, b.len, SQLITE_STATIC) != SQLITE_OK;
}

static enum err_code query_step(struct query *q, bool *row, struct err *err)
{
    if (q->bind_failed) return err_set(err, ERR_NO_MEMORY, "%s: binding parameters", q->what);
    int code = sqlite3_step(q->stmt);
    *row = code == SQLITE_ROW;
    return code == SQLITE_ROW || code == SQLITE_DONE ? ERR_OK : db_fail(q->c, q->what, err);
}

/* For statements that give no row. */
static enum err_code query_run(struct query *q, struct err *err)
{
    bool row;
    enum err_code rc = query_step(q, &row, err);
    (void)sqlite3_reset(q->stmt); /* repeats the error of the step */
    q->bound = 0;
    return rc;
}

/* Reads a column that must not be negative; *ok remembers a bad one. */
static uint64_t column_u64(struct query *q, int col, bool *ok)
{
    int64_t v = sqlite3_column_int64(q->stmt, col);
    *ok &= sqlite3_column_type(q->stmt, col) == SQLITE_INTEGER && v >= 0;
    return (uint64_t)v;
}

static int64_t column_i64(struct query *q, int col, bool *ok)
{
    *ok &= sqlite3_column_type(q->stmt, col) == SQLITE_INTEGER;
    return sqlite3_column_int64(q->stmt, col);
}

/* Valid until the next step. */
static struct bytes column_blob(struct query *q, int col, bool *ok)
{
    const void *p = sqlite3_column_blob(q->stmt, col);
    *ok &= sqlite3_column_type(q->stmt, col) == SQLITE_BLOB && p;
    return bytes_of(p, (size_t)sqlite3_column_bytes(q->stmt, col));
}

/* Valid until the next step. */
static struct str column_str(struct query *q, int col, bool *ok)
{
    const char *p = (const char *)sqlite3_column_text(q->stmt, col);
    struct str s = {p, (size_t)sqlite3_column_bytes(q->stmt, col)};
    *ok &= sqlite3_column_type(q->stmt, col) == SQLITE_TEXT && p && utf8_valid(s);
    return p ? s : (struct str){"", 0};
}

/* ---- transactions ---- */

static enum err_code begin(struct catalog *c, struct err *err)
{
    if (c->failed)
        return err_set(err, ERR_IO,
                       "the catalog takes no more changes: an fsync failed, restart after a check");
    return db_exec(c, "BEGIN IMMEDIATE", err);
}

/* Ends the transaction that begin() began: commits when rc is 0, else rolls back and keeps the error. */
static enum err_code end_quiet(struct catalog *c, enum err_code rc, struct err *err)
{
    if (!rc) rc = db_exec(c, "COMMIT", err);
    /* The first error counts; SQLite may have rolled back by itself, then this one fails. */
    if (rc && !sqlite3_get_autocommit(c->db))
        (void)sqlite3_exec(c->db, "ROLLBACK", NULL, NULL, NULL);
    if (!rc) c->keep.n_unsettled++;
    if (!rc) c->keep.n_quiet++;
    return rc;
}

/* The WAL's content goes to the database, whose pages can be told from damaged ones one by one; of the WAL's last
 * transaction nobody can tell a flipped bit from a write that never ended. */
static void settle(struct catalog *c)
{
    int code = sqlite3_wal_checkpoint_v2(c->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    int extended = sqlite3_extended_errcode(c->db);
    if (!code)
        c->keep.n_unsettled = 0; /* else it stays in the WAL, as durable as it was */
    else if (extended == SQLITE_IOERR_FSYNC || extended == SQLITE_IOERR_DIR_FSYNC)
        c->failed = true;
}

/* The same for changes that nothing but the catalog knows: what end_quiet() ends the log or the blocks can give back. */
static enum err_code end(struct catalog *c, enum err_code rc, struct err *err)
{
    rc = end_quiet(c, rc, err);
    if (rc) return rc;
    c->keep.n_changes++;
    settle(c);
    return ERR_OK;
}

/* ---- opening ---- */

static enum err_code pragma_i64(struct catalog *c, const char *sql, int64_t *out, struct err *err)
{
    struct query q;
    bool row = false;
    enum err_code rc = query_init(&q, c, sql, sql, err);
    if (!rc) rc = query_step(&q, &row, err);
    if (!rc) *out = row ? sqlite3_column_int64(q.stmt, 0) : 0;
    query_release(&q);
    return rc;
}

static enum err_code check_pages(struct catalog *c, const char *check, struct err *err)
{
    struct query q;
    bool row = false;
    sqlite_vfs_clear_err(c->vfs);
    enum err_code rc = query_init(&q, c, "checking", check, err);
    if (!rc) rc = query_step(&q, &row, err);
    if (!rc) {
        bool ok = row;
        struct str found = row ? column_str(&q, 0, &ok) : STR("no answer");
        const struct err *why = sqlite_vfs_last_err(c->vfs);
        if (!ok || !str_eq(found, STR("ok"))) {
            err_set(err, ERR_CORRUPT, "SQLite's check found: %.*s", STR_ARG(found));
            rc = err_at(err, c->path, 0);
            if (why->code == ERR_CORRUPT) *err = *why; /* names the page */
        }
    }
    query_release(&q);
    return rc;
}

/* From `version` (0: nothing is there yet) to the newest, in one transaction: all of it or nothing. */
static enum err_code make_schema(struct catalog *c, int64_t version, struct err *err)
{
    enum err_code rc = begin(c, err);
    if (rc) return rc;
    if (version < 1) rc = db_exec(c, schema_1_sql, err);
    if (!rc && version < 2) rc = db_exec(c, schema_2_sql, err);
    if (!rc && version < 3) rc = db_exec(c, schema_3_sql, err);
    return end(c, rc, err);
}

static enum err_code check_schema(struct catalog *c, struct err *err)
{
    int64_t version = 0, app = 0, n_tables = 0;
    enum err_code rc = pragma_i64(c, "PRAGMA user_version", &version, err);
    if (!rc) rc = pragma_i64(c, "PRAGMA application_id", &app, err);
    if (!rc) rc = pragma_i64(c, "SELECT count(*) FROM sqlite_schema", &n_tables, err);
    if (rc) return rc;
    if (version == 0 && app == 0 && n_tables == 0) {
        rc = catalog_check_absent(c->env.io, c->dir, err);
        return rc || c->to_read ? rc : make_schema(c, 0, err);
    }
    if (app != APPLICATION_ID) {
        err_set(err, ERR_CORRUPT, "an SQLite file, but not a catalog of quipu");
        return err_at(err, c->path, 0);
    }
    if (version < 1 || version > SCHEMA_VERSION) {
        err_set(err, ERR_VERSION, "schema version %" PRId64 "; this build knows %d", version,
                SCHEMA_VERSION);
        return err_at(err, c->path, 0);
    }
    if (c->to_read) return ERR_OK;
    rc = check_pages(c, "PRAGMA quick_check(1)", err);
    if (rc || version == SCHEMA_VERSION) return rc;
    return make_schema(c, version, err);
}

/* Of pages to come, in this file or in a copy. After PRAGMA page_size, which forgets it. */
static enum err_code reserve_bytes(struct catalog *c, struct err *err)
{
    int reserved = SQLITE_VFS_RESERVED_BYTES;
    if (sqlite3_file_control(c->db, "main", SQLITE_FCNTL_RESERVE_BYTES, &reserved))
        return db_fail(c, "leaving room for checksums", err);
    return ERR_OK;
}

static enum err_code open_db(struct catalog *c, const struct env *env, struct err *err)
{
    rng_seed(&c->rng, rng_u64(env->rng));
    struct sqlite_vfs_config config = {env->io, env->clock, &c->rng, .page_checksums = true};
    enum err_code rc = sqlite_vfs_register(&config, &c->vfs, err);
    if (rc) return rc;
    int flags = c->to_read ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
    if (sqlite3_open_v2(c->path, &c->db, flags | SQLITE_OPEN_NOMUTEX, sqlite_vfs_name(c->vfs)))
        return db_fail(c, "opening", err);
    sqlite3_extended_result_codes(c->db, 1);
    sqlite3_busy_timeout(c->db, BUSY_TIMEOUT_MS);
    sqlite3_db_config(c->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    if (c->to_read) return db_exec(c, "PRAGMA locking_mode = EXCLUSIVE", err);
    /* Exclusive: the engine's lock keeps others out anyway, and the WAL needs no shared memory then. */
    rc = db_exec(c, "PRAGMA page_size = 4096", err);
    if (!rc) rc = reserve_bytes(c, err);
    if (rc) return rc;
    return db_exec(c,
                   "PRAGMA locking_mode = EXCLUSIVE;"
                   "PRAGMA journal_mode = WAL;"
                   "PRAGMA synchronous = FULL;"
                   "PRAGMA foreign_keys = ON;"
                   "PRAGMA cell_size_check = ON;"
                   "PRAGMA trusted_schema = OFF;",
                   err);
}

static void close_db(struct catalog *c)
{
    (void)sqlite3_close(c->db); /* what was committed is durable already */
    sqlite_vfs_unregister(c->vfs);
    c->db = NULL;
    c->vfs = NULL;
}

static enum err_code check_wal(struct catalog *c, struct err *err)
{
    char path[IO_PATH_BYTES + 8];
    struct sqlite_wal_state state;
    snprintf(path, sizeof(path), "%s-wal", c->path);
    return sqlite_wal_check(c->env.io, path, &state, err);
}

/* ---- catalogs of versions that did not checksum pages ---- */

static enum err_code find_pages(struct catalog *c, enum sqlite_pages *pages, struct err *err)
{
    struct file *file;
    *pages = SQLITE_PAGES_EMPTY;
    enum err_code rc = io_open(c->env.io, c->path, IO_READ, &file, err);
    if (rc) return rc == ERR_NOT_FOUND ? ERR_OK : rc;
    rc = sqlite_vfs_pages(file, pages, err);
    file_close(file);
    return rc;
}

/* A copy with checksums under another name. */
static enum err_code copy_with_checksums(struct catalog *c, const char *to, struct err *err)
{
    struct query q;
    /* The copy must not lack what only the WAL has; and afterwards there is none that could be taken for the copy's. */
    enum err_code rc = db_exec(c, "PRAGMA journal_mode = DELETE", err);
    if (!rc) rc = reserve_bytes(c, err);
    if (rc) return rc;
    rc = query_init(&q, c, "copying the catalog", "VACUUM INTO ?1", err);
    if (!rc) {
        query_str(&q, str_of(to));
        rc = query_run(&q, err);
    }
    query_release(&q);
    return rc;
}

static enum err_code publish_copy(struct catalog *c, const char *copy, struct err *err)
{
    struct file *file;
    enum sqlite_pages pages = SQLITE_PAGES_PLAIN;
    enum err_code rc = io_open(c->env.io, copy, IO_READ | IO_WRITE, &file, err);
    if (rc) return rc;
    rc = sqlite_vfs_pages(file, &pages, err);
    if (!rc && pages != SQLITE_PAGES_CHECKSUMMED)
        rc = err_set(err, ERR_UNSUPPORTED, "this SQLite leaves no room for checksums");
    if (!rc) rc = file_sync(file, err);
    file_close(file);
    if (!rc) rc = io_rename(c->env.io, copy, c->path, err);
    return rc ? rc : io_sync_dir(c->env.io, c->dir, err);
}

static enum err_code add_checksums(struct catalog *c, struct err *err)
{
    char copy[IO_PATH_BYTES];
    struct err ignored;
    enum err_code rc = io_path(copy, sizeof(copy), err, c->dir, FILE_NAME ".new");
    if (rc) return rc;
    err_ignore(io_unlink(c->env.io, copy, &ignored)); /* of an attempt that did not end */
    rc = copy_with_checksums(c, copy, err);
    close_db(c);
    if (!rc) rc = publish_copy(c, copy, err);
    if (rc) return err_context(err, "page checksums");
    log_msg(c->env.log, LOG_INFO, "the catalog's pages have checksums now",
            LOG_CSTR("file", c->path));
    return open_db(c, &c->env, err);
}

static enum err_code open_checked(struct catalog *c, struct err *err)
{
    enum sqlite_pages pages;
    enum err_code rc = check_wal(c, err);
    if (!rc) rc = find_pages(c, &pages, err);
    if (!rc) rc = open_db(c, &c->env, err);
    if (!rc) rc = check_schema(c, err);
    if (!rc && pages == SQLITE_PAGES_PLAIN && !c->to_read) rc = add_checksums(c, err);
    return rc;
}

static enum err_code open_as(const struct env *env, const char *dir, bool to_read,
                             struct catalog **out, struct err *err)
{
    *out = NULL;
    struct catalog *c = mem_calloc(MEM_CATALOG, 1, sizeof(*c));
    if (!c) return err_set(err, ERR_NO_MEMORY, "opening the catalog");
    lock_init(&c->lock, LOCK_CATALOG);
    c->env = *env;
    c->to_read = to_read;
    catalog_keep_init(&c->keep, env->metrics);
    snprintf(c->dir, sizeof(c->dir), "%s", dir);
    enum err_code rc = io_path(c->path, sizeof(c->path), err, dir, FILE_NAME);
    if (!rc) rc = open_checked(c, err);
    /* A new file's name must outlive a power cut, too. */
    if (!rc && !to_read) rc = io_sync_dir(env->io, dir, err);
    if (rc) {
        catalog_close(c);
        err_context(err, "catalog");
        if (rc == ERR_CORRUPT)
            err_context(err,
                        "the catalog is damaged (`quipu catalog rebuild --data-dir %s` makes "
                        "it anew)",
                        dir);
        return rc;
    }
    *out = c;
    return ERR_OK;
}

enum err_code catalog_open(const struct env *env, const char *dir, struct catalog **out,
                           struct err *err)
{
    return open_as(env, dir, false, out, err);
}

enum err_code catalog_open_to_read(const struct env *env, const char *dir, struct catalog **out,
                                   struct err *err)
{
    return open_as(env, dir, true, out, err);
}

enum err_code catalog_check_integrity(struct catalog *c, struct err *err)
{
    lock_take(&c->lock);
    enum err_code rc = check_pages(c, "PRAGMA integrity_check(1)", err);
    lock_release(&c->lock);
    return rc;
}

/* ---- for catalog_snapshot.c ---- */

struct catalog_keep *catalog_begin_keep(struct catalog *c)
{
    lock_take(&c->lock);
    return &c->keep;
}

void catalog_end_keep(struct catalog *c)
{
    lock_release(&c->lock);
}

const struct env *catalog_env(const struct catalog *c)
{
    return &c->env;
}

const char *catalog_dir(const struct catalog *c)
{
    return c->dir;
}

struct sqlite3 *catalog_db(struct catalog *c)
{
    return c->db;
}

enum err_code catalog_db_error(struct catalog *c, const char *what, struct err *err)
{
    return db_fail(c, what, err);
}

void catalog_settle(struct catalog *c)
{
    if (!c->failed) settle(c);
}

void catalog_close(struct catalog *c)
{
    if (!c) return;
    close_db(c);
    lock_destroy(&c->lock);
    mem_free(c);
}

/* ---- a copy ---- */

static enum err_code vacuum_into(struct catalog *c, const char *path, struct err *err)
{
    struct query q;
    enum err_code rc = query_init(&q, c, "copying", "VACUUM INTO ?1", err);
    if (!rc) {
        query_str(&q, str_of(path));
        rc = query_run(&q, err);
    }
    query_release(&q);
    return rc;
}

enum err_code catalog_copy(struct catalog *c, const char *path, catalog_moment_fn *moment,
                           void *ctx, struct err *err)
{
    lock_take(&c->lock);
    enum err_code rc = vacuum_into(c, path, err);
    if (!rc) moment(ctx);
    lock_release(&c->lock);
    struct file *file = NULL;
    if (!rc) rc = io_open(c->env.io, path, IO_READ | IO_WRITE, &file, err);
    if (!rc) rc = file_sync(file, err); /* SQLite need not have done so */
    file_close(file);
    return rc ? err_context(err, "copying the catalog to %s", path) : ERR_OK;
}

/* A statement of one number. */
static enum err_code run_u64(struct catalog *c, const char *what, const char *sql, uint64_t u,
                             struct err *err)
{
    struct query q;
    enum err_code rc = query_init(&q, c, what, sql, err);
    if (!rc) {
        query_u64(&q, u);
        rc = query_run(&q, err);
    }
    query_release(&q);
    return rc;
}

/* ---- tenants ---- */

#define TENANT_COLUMNS "name, incarnation, flushed_pos, next_sequence, created_ms"

static enum err_code tenant_row(struct query *q, struct catalog_tenant *out, struct err *err)
{
    bool ok = true;
    *out = (struct catalog_tenant){.name = column_str(q, 0, &ok),
                                   .incarnation = column_u64(q, 1, &ok),
                                   .flushed_pos = column_u64(q, 2, &ok),
                                   .next_sequence = column_u64(q, 3, &ok),
                                   .created_ms = column_i64(q, 4, &ok)};
    ok &= out->name.len > 0 && out->incarnation > 0 && out->next_sequence > 0;
    return ok ? ERR_OK : bad_row(q->c, "tenants", err);
}

static enum err_code tenant_find(struct catalog *c, struct str name, struct catalog_tenant *out,
                                 bool *found, struct err *err)
{
    struct query q;
    enum err_code rc = query_init(&q, c, "looking up a tenant",
                                  "SELECT " TENANT_COLUMNS " FROM tenants WHERE name = ?1", err);
    if (!rc) {
        query_str(&q, name);
        rc = query_step(&q, found, err);
    }
    if (!rc && *found) rc = tenant_row(&q, out, err);
    out->name = name; /* the row's text goes with the statement */
    query_release(&q);
    return rc;
}

static enum err_code tenant_add(struct catalog *c, struct str name, int64_t now_ms, struct err *err)
{
    struct query q;
    enum err_code rc = query_init(&q, c, "adding a tenant",
                                  "INSERT INTO tenants (name, flushed_pos, next_sequence, "
                                  "created_ms) VALUES (?1, 0, 1, ?2)",
                                  err);
    if (!rc) {
        query_str(&q, name);
        query_i64(&q, now_ms);
        rc = query_run(&q, err);
    }
    query_release(&q);
    return rc;
}

enum err_code catalog_tenant(struct catalog *c, struct str name, int64_t now_ms,
                             struct catalog_tenant *out, struct err *err)
{
    bool found = false;
    lock_take(&c->lock);
    enum err_code rc = tenant_find(c, name, out, &found, err);
    if (!rc && !found) {
        rc = begin(c, err);
        if (!rc) rc = end(c, tenant_add(c, name, now_ms, err), err);
        if (!rc) rc = tenant_find(c, name, out, &found, err);
        if (!rc && !found) rc = bad_row(c, "tenants", err);
    }
    lock_release(&c->lock);
    return rc ? err_context(err, "tenant %.*s in the catalog", STR_ARG(name)) : ERR_OK;
}

static enum err_code put_tenant(struct catalog *c, const struct catalog_tenant *t, struct err *err)
{
    struct query q;
    enum err_code rc =
        query_init(&q, c, "adding a tenant",
                   "INSERT INTO tenants (" TENANT_COLUMNS ") SELECT ?1, ?2, ?3, ?4, ?5"
                   " WHERE NOT EXISTS (SELECT 1 FROM deleted_tenants WHERE incarnation = ?2)",
                   err);
    if (!rc) {
        query_str(&q, t->name);
        query_u64(&q, t->incarnation);
        query_u64(&q, t->flushed_pos);
        query_u64(&q, t->next_sequence);
        query_i64(&q, t->created_ms);
        rc = query_run(&q, err);
    }
    query_release(&q);
    if (!rc && sqlite3_changes64(c->db) != 1)
        rc = err_set(err, ERR_EXISTS, "incarnation %" PRIu64 " was deleted", t->incarnation);
    return rc;
}

enum err_code catalog_put_tenant(struct catalog *c, const struct catalog_tenant *t, struct err *err)
{
    lock_take(&c->lock);
    enum err_code rc = begin(c, err);
    if (!rc) rc = end(c, put_tenant(c, t, err), err);
    lock_release(&c->lock);
    return rc ? err_context(err, "tenant %.*s in the catalog", STR_ARG(t->name)) : ERR_OK;
}

/* Rows of a listing, copied: items of one type in a growing array, texts in an arena. */
struct listing {
    struct arena arena;
    void *items;
    size_t n, cap;
};

static void listing_init(struct listing *l)
{
    *l = (struct listing){0};
    arena_init(&l->arena, MEM_CATALOG, 0);
}

static void listing_release(struct listing *l)
{
    mem_free(l->items);
    arena_release(&l->arena);
}

static enum err_code listing_add(struct listing *l, const void *item, size_t size, struct err *err)
{
    enum err_code rc = mem_grow(MEM_CATALOG, &l->items, &l->cap, l->n + 1, size, err);
    if (rc) return rc;
    memcpy((uint8_t *)l->items + l->n++ * size, item, size);
    return ERR_OK;
}

static enum err_code listing_str(struct listing *l, struct str *s, struct err *err)
{
    *s = arena_str(&l->arena, *s);
    return s->p ? ERR_OK : arena_fail(&l->arena, err);
}

static enum err_code list_tenants(struct catalog *c, struct listing *l, struct err *err)
{
    struct query q;
    bool row = true;
    enum err_code rc =
        query_init(&q, c, "listing tenants",
                   "SELECT " TENANT_COLUMNS " FROM tenants ORDER BY incarnation", err);
    while (!rc) {
        struct catalog_tenant t;
        rc = query_step(&q, &row, err);
        if (rc || !row) break;
        rc = tenant_row(&q, &t, err);
        if (!rc) rc = listing_str(l, &t.name, err);
        if (!rc) rc = listing_add(l, &t, sizeof(t), err);
    }
    query_release(&q);
    return rc;
}

enum err_code catalog_tenants(struct catalog *c, catalog_tenant_fn *fn, void *ctx, struct err *err)
{
    struct listing l;
    listing_init(&l);
    lock_take(&c->lock);
    enum err_code rc = list_tenants(c, &l, err);
    lock_release(&c->lock);
    const struct catalog_tenant *tenants = l.items;
    for (size_t i = 0; !rc && i < l.n; i++) rc = fn(ctx, &tenants[i], err);
    listing_release(&l);
    return rc;
}

/* ---- blocks ---- */

#define BLOCK_COLUMNS                                                                              \
    "ulid, incarnation, sequence, level, t_min_ms, t_max_ms, n_series, n_samples, n_chunks, "      \
    "file_bytes, created_ms"

static enum err_code block_row(struct query *q, struct block_info *out, struct err *err)
{
    bool ok = true;
    struct str text = column_str(q, 0, &ok);
    uint64_t level;
    *out = (struct block_info){0};
    ok &= ulid_parse(text, &out->ulid);
    out->incarnation = column_u64(q, 1, &ok);
    out->sequence = column_u64(q, 2, &ok);
    level = column_u64(q, 3, &ok);
    out->level = (uint32_t)level;
    out->t_min_ms = column_i64(q, 4, &ok);
    out->t_max_ms = column_i64(q, 5, &ok);
    out->n_series = column_u64(q, 6, &ok);
    out->n_samples = column_u64(q, 7, &ok);
    out->n_chunks = column_u64(q, 8, &ok);
    out->file_bytes = column_u64(q, 9, &ok);
    out->created_ms = column_i64(q, 10, &ok);
    ok &= level <= UINT32_MAX && out->t_min_ms <= out->t_max_ms && out->incarnation > 0;
    return ok ? ERR_OK : bad_row(q->c, "blocks", err);
}

static enum err_code add_blocks(struct catalog *c, const struct catalog_change *change,
                                struct err *err)
{
    struct query q;
    enum err_code rc = query_init(&q, c, "adding a block",
                                  "INSERT INTO blocks (" BLOCK_COLUMNS
                                  ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
                                  err);
    for (size_t i = 0; !rc && i < change->n_add; i++) {
        const struct block_info *b = &change->add[i];
        ASSERT(b->incarnation == change->incarnation);
        query_str(&q, str_of(b->ulid.text));
        query_u64(&q, b->incarnation);
        query_u64(&q, b->sequence);
        query_u64(&q, b->level);
        query_i64(&q, b->t_min_ms);
        query_i64(&q, b->t_max_ms);
        query_u64(&q, b->n_series);
        query_u64(&q, b->n_samples);
        query_u64(&q, b->n_chunks);
        query_u64(&q, b->file_bytes);
        query_i64(&q, b->created_ms);
        rc = query_run(&q, err);
        if (rc) err_context(err, "block %s", b->ulid.text);
    }
    query_release(&q);
    return rc;
}

static enum err_code remove_blocks(struct catalog *c, const struct catalog_change *change,
                                   struct err *err)
{
    struct query q;
    enum err_code rc = query_init(&q, c, "removing a block",
                                  "DELETE FROM blocks WHERE ulid = ?1 AND incarnation = ?2", err);
    for (size_t i = 0; !rc && i < change->n_remove; i++) {
        query_str(&q, str_of(change->remove[i].text));
        query_u64(&q, change->incarnation);
        rc = query_run(&q, err);
        if (!rc && sqlite3_changes64(c->db) != 1)
            rc = err_set(err, ERR_NOT_FOUND, "block %s is not in the catalog",
                         change->remove[i].text);
    }
    query_release(&q);
    return rc;
}

/* Neither the flushed position nor the sequence ever goes back. */
static enum err_code move_tenant(struct catalog *c, const struct catalog_change *change,
                                 struct err *err)
{
    uint64_t next_sequence = 0;
    for (size_t i = 0; i < change->n_add; i++)
        next_sequence = MAX_OF(next_sequence, change->add[i].sequence + 1);
    struct query q;
    enum err_code rc = query_init(&q, c, "moving a tenant forward",
                                  "UPDATE tenants SET flushed_pos = max(flushed_pos, ?1),"
                                  " next_sequence = max(next_sequence, ?2) WHERE incarnation = ?3",
                                  err);
    if (!rc) {
        query_u64(&q, change->set_flushed_pos ? change->flushed_pos : 0);
        query_u64(&q, next_sequence);
        query_u64(&q, change->incarnation);
        rc = query_run(&q, err);
    }
    if (!rc && sqlite3_changes64(c->db) != 1)
        rc = err_set(err, ERR_NOT_FOUND, "no tenant of incarnation %" PRIu64, change->incarnation);
    query_release(&q);
    return rc;
}

/* ---- exemplars ---- */

static enum err_code drop_exemplars(struct catalog *c, const struct catalog_change *change,
                                    struct err *err)
{
    const struct catalog_exemplars *e = &change->exemplars;
    struct query q;
    enum err_code rc = query_init(
        &q, c, "dropping exemplars",
        "DELETE FROM exemplars WHERE incarnation = ?1 AND (?2 OR max_ms < ?3 OR id IN"
        " (SELECT id FROM (SELECT id, sum(n) OVER (ORDER BY id DESC) - n AS newer FROM exemplars"
        "  WHERE incarnation = ?1) WHERE newer >= ?4))",
        err);
    if (!rc) {
        query_u64(&q, change->incarnation);
        query_i64(&q, e->replace);
        query_i64(&q, e->keep_ms);
        query_u64(&q, MIN_OF(e->keep_max, (uint64_t)INT64_MAX));
        rc = query_run(&q, err);
    }
    query_release(&q);
    return rc;
}

static enum err_code add_exemplars(struct catalog *c, const struct catalog_change *change,
                                   struct err *err)
{
    const struct catalog_exemplars *e = &change->exemplars;
    struct query q;
    enum err_code rc = query_init(
        &q, c, "adding exemplars",
        "INSERT INTO exemplars (incarnation, n, max_ms, data) VALUES (?1, ?2, ?3, ?4)", err);
    if (!rc) {
        query_u64(&q, change->incarnation);
        query_u64(&q, e->n);
        query_i64(&q, e->max_ms);
        query_blob(&q, e->data);
        rc = query_run(&q, err);
    }
    query_release(&q);
    return rc;
}

static enum err_code change_exemplars(struct catalog *c, const struct catalog_change *change,
                                      struct err *err)
{
    const struct catalog_exemplars *e = &change->exemplars;
    enum err_code rc = ERR_OK;
    if (e->replace) rc = drop_exemplars(c, change, err);
    if (!rc && e->n) rc = add_exemplars(c, change, err);
    if (!rc && e->n && !e->replace) rc = drop_exemplars(c, change, err);
    return rc;
}

static enum err_code list_exemplars(struct catalog *c, uint64_t incarnation, struct listing *l,
                                    struct err *err)
{
    struct query q;
    bool row = true;
    enum err_code rc =
        query_init(&q, c, "listing exemplars",
                   "SELECT data FROM exemplars WHERE incarnation = ?1 ORDER BY id", err);
    if (!rc) query_u64(&q, incarnation);
    while (!rc) {
        rc = query_step(&q, &row, err);
        if (rc || !row) break;
        bool ok = true;
        struct str data = str_from_bytes(column_blob(&q, 0, &ok));
        if (!ok) rc = bad_row(c, "exemplars", err);
        if (!rc) rc = listing_str(l, &data, err);
        if (!rc) rc = listing_add(l, &data, sizeof(data), err);
    }
    query_release(&q);
    return rc;
}

enum err_code catalog_exemplars(struct catalog *c, uint64_t incarnation, catalog_exemplars_fn *fn,
                                void *ctx, struct err *err)
{
    struct listing l;
    listing_init(&l);
    lock_take(&c->lock);
    enum err_code rc = list_exemplars(c, incarnation, &l, err);
    lock_release(&c->lock);
    const struct str *runs = l.items;
    for (size_t i = 0; !rc && i < l.n; i++) rc = fn(ctx, bytes_of(runs[i].p, runs[i].len), err);
    listing_release(&l);
    return rc;
}

/* ---- a change ---- */

enum err_code catalog_apply(struct catalog *c, const struct catalog_change *change, struct err *err)
{
    lock_take(&c->lock);
    enum err_code rc = begin(c, err);
    if (!rc) {
        rc = move_tenant(c, change, err);
        if (!rc) rc = remove_blocks(c, change, err);
        if (!rc) rc = add_blocks(c, change, err);
        if (!rc) rc = change_exemplars(c, change, err);
        rc = end_quiet(c, rc, err);
    }
    lock_release(&c->lock);
    return rc ? err_context(err, "changing the catalog") : ERR_OK;
}

enum err_code catalog_flushed_to(struct catalog *c, uint64_t pos, struct err *err)
{
    lock_take(&c->lock);
    enum err_code rc = begin(c, err);
    if (!rc)
        rc = end_quiet(c,
                       run_u64(c, "moving tenants forward",
                               "UPDATE tenants SET flushed_pos = ?1 WHERE flushed_pos < ?1", pos,
                               err),
                       err);
    lock_release(&c->lock);
    return rc ? err_context(err, "changing the catalog") : ERR_OK;
}

static enum err_code list_blocks(struct catalog *c, uint64_t incarnation, struct listing *l,
                                 struct err *err)
{
    struct query q;
    bool row = true;
    enum err_code rc = query_init(&q, c, "listing blocks",
                                  "SELECT " BLOCK_COLUMNS " FROM blocks WHERE incarnation = ?1"
                                  " ORDER BY t_min_ms, sequence, ulid",
                                  err);
    if (!rc) query_u64(&q, incarnation);
    while (!rc) {
        struct block_info b;
        rc = query_step(&q, &row, err);
        if (rc || !row) break;
        rc = block_row(&q, &b, err);
        if (!rc) rc = listing_add(l, &b, sizeof(b), err);
    }
    query_release(&q);
    return rc;
}

enum err_code catalog_blocks(struct catalog *c, uint64_t incarnation, catalog_block_fn *fn,
                             void *ctx, struct err *err)
{
    struct listing l;
    listing_init(&l);
    lock_take(&c->lock);
    enum err_code rc = list_blocks(c, incarnation, &l, err);
    lock_release(&c->lock);
    const struct block_info *blocks = l.items;
    for (size_t i = 0; !rc && i < l.n; i++) rc = fn(ctx, &blocks[i], err);
    listing_release(&l);
    return rc;
}

/* ---- metadata ---- */

static enum err_code put_metadata(struct catalog *c, uint64_t incarnation,
                                  const struct catalog_metadata *items, size_t n, struct err *err)
{
    struct query q;
    enum err_code rc =
        query_init(&q, c, "storing metadata",
                   "INSERT INTO metadata (incarnation, family, type, unit, help)"
                   " VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO UPDATE SET"
                   " type = excluded.type, unit = excluded.unit, help = excluded.help",
                   err);
    for (size_t i = 0; !rc && i < n; i++) {
        query_u64(&q, incarnation);
        query_str(&q, items[i].family);
        query_str(&q, items[i].type);
        query_str(&q, items[i].unit);
        query_str(&q, items[i].help);
        rc = query_run(&q, err);
    }
    /* The only constraint left to break is the reference to the tenant. */
    if (rc == ERR_EXISTS)
        rc = err_set(err, ERR_NOT_FOUND, "no tenant of incarnation %" PRIu64, incarnation);
    query_release(&q);
    return rc;
}

enum err_code catalog_put_metadata(struct catalog *c, uint64_t incarnation,
                                   const struct catalog_metadata *items, size_t n, struct err *err)
{
    if (n == 0) return ERR_OK;
    lock_take(&c->lock);
    enum err_code rc = begin(c, err);
    if (!rc) rc = end(c, put_metadata(c, incarnation, items, n, err), err);
    lock_release(&c->lock);
    return rc ? err_context(err, "metadata in the catalog") : ERR_OK;
}

static enum err_code list_metadata(struct catalog *c, uint64_t incarnation, struct listing *l,
                                   struct err *err)
{
    struct query q;
    bool row = true;
    enum err_code rc = query_init(&q, c, "listing metadata",
                                  "SELECT family, type, unit, help FROM metadata"
                                  " WHERE incarnation = ?1 ORDER BY family",
                                  err);
    if (!rc) query_u64(&q, incarnation);
    while (!rc) {
        rc = query_step(&q, &row, err);
        if (rc || !row) break;
        bool ok = true;
        struct catalog_metadata m = {column_str(&q, 0, &ok), column_str(&q, 1, &ok),
                                     column_str(&q, 2, &ok), column_str(&q, 3, &ok)};
        if (!ok) rc = bad_row(c, "metadata", err);
        if (!rc) rc = listing_str(l, &m.family, err);
        if (!rc) rc = listing_str(l, &m.type, err);
        if (!rc) rc = listing_str(l, &m.unit, err);
        if (!rc) rc = listing_str(l, &m.help, err);
        if (!rc) rc = listing_add(l, &m, sizeof(m), err);
    }
    query_release(&q);
    return rc;
}

enum err_code catalog_metadata(struct catalog *c, uint64_t incarnation, catalog_metadata_fn *fn,
                               void *ctx, struct err *err)
{
    struct listing l;
    listing_init(&l);
    lock_take(&c->lock);
    enum err_code rc = list_metadata(c, incarnation, &l, err);
    lock_release(&c->lock);
    const struct catalog_metadata *items = l.items;
    for (size_t i = 0; !rc && i < l.n; i++) rc = fn(ctx, &items[i], err);
    listing_release(&l);
    return rc;
}

/* ---- tombstones ---- */

static enum err_code add_tombstones(struct catalog *c, struct catalog_tombstone *items, size_t n,
                                    struct err *err)
{
    struct query q;
    enum err_code rc = query_init(&q, c, "adding a tombstone",
                                  "INSERT INTO tombstones (incarnation, matchers, mint_ms, maxt_ms,"
                                  " log_pos, created_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                                  err);
    for (size_t i = 0; !rc && i < n; i++) {
        query_u64(&q, items[i].incarnation);
        query_blob(&q, items[i].matchers);
        query_i64(&q, items[i].mint_ms);
        query_i64(&q, items[i].maxt_ms);
        query_u64(&q, items[i].log_pos);
        query_i64(&q, items[i].created_ms);
        rc = query_run(&q, err);
        if (!rc) items[i].id = (uint64_t)sqlite3_last_insert_rowid(c->db);
        /* The only constraint left to break is the reference to the tenant. */
        if (rc == ERR_EXISTS)
            rc = err_set(err, ERR_NOT_FOUND, "no tenant of incarnation %" PRIu64,
                         items[i].incarnation);
    }
    query_release(&q);
    return rc;
}

enum err_code catalog_add_tombstones(struct catalog *c, struct catalog_tombstone *items, size_t n,
                                     struct err *err)
{
    lock_take(&c->lock);
    enum err_code rc = begin(c, err);
    if (!rc) rc = end(c, add_tombstones(c, items, n, err), err);
    lock_release(&c->lock);
    return rc ? err_context(err, "changing the catalog") : ERR_OK;
}

static enum err_code remove_tombstones(struct catalog *c, uint64_t incarnation, const uint64_t *ids,
                                       size_t n, struct err *err)
{
    struct query q;
    enum err_code rc = query_init(&q, c, "removing a tombstone",
                                  "DELETE FROM tombstones WHERE id = ?1 AND incarnation = ?2", err);
    for (size_t i = 0; !rc && i < n; i++) {
        query_u64(&q, ids[i]);
        query_u64(&q, incarnation);
        rc = query_run(&q, err);
    }
    query_release(&q);
    return rc;
}

enum err_code catalog_remove_tombstones(struct catalog *c, uint64_t incarnation,
                                        const uint64_t *ids, size_t n, struct err *err)
{
    lock_take(&c->lock);
    enum err_code rc = begin(c, err);
    if (!rc) rc = end(c, remove_tombstones(c, incarnation, ids, n, err), err);
    lock_release(&c->lock);
    return rc ? err_context(err, "changing the catalog") : ERR_OK;
}

static enum err_code list_tombstones(struct catalog *c, uint64_t incarnation, struct listing *l,
                                     struct err *err)
{
    struct query q;
    bool row = true;
    enum err_code rc = query_init(
        &q, c, "listing tombstones",
        "SELECT id, incarnation, matchers, mint_ms, maxt_ms, log_pos, created_ms FROM tombstones"
        " WHERE ?1 = 0 OR incarnation = ?1 ORDER BY id",
        err);
    if (!rc) query_u64(&q, incarnation);
    while (!rc) {
        rc = query_step(&q, &row, err);
        if (rc || !row) break;
        bool ok = true;
        struct catalog_tombstone t = {column_u64(&q, 0, &ok),  column_u64(&q, 1, &ok),
                                      column_blob(&q, 2, &ok), column_i64(&q, 3, &ok),
                                      column_i64(&q, 4, &ok),  column_u64(&q, 5, &ok),
                                      column_i64(&q, 6, &ok)};
        ok &= t.id > 0 && t.incarnation > 0 && t.mint_ms <= t.maxt_ms;
        if (!ok) rc = bad_row(c, "tombstones", err);
        struct str text = str_from_bytes(t.matchers);
        if (!rc) rc = listing_str(l, &text, err);
        t.matchers = bytes_of(text.p, text.len);
        if (!rc) rc = listing_add(l, &t, sizeof(t), err);
    }
    query_release(&q);
    return rc;
}

enum err_code catalog_tombstones(struct catalog *c, uint64_t incarnation, catalog_tombstone_fn *fn,
                                 void *ctx, struct err *err)
{
    struct listing l;
    listing_init(&l);
    lock_take(&c->lock);
    enum err_code rc = list_tombstones(c, incarnation, &l, err);
    lock_release(&c->lock);
    const struct catalog_tombstone *items = l.items;
    for (size_t i = 0; !rc && i < l.n; i++) rc = fn(ctx, &items[i], err);
    listing_release(&l);
    return rc;
}

/* ---- tenants that were deleted ---- */

static enum err_code delete_tenant(struct catalog *c, uint64_t incarnation, int64_t now_ms,
                                   struct err *err)
{
    /* Children first: the tenant's row is what they refer to. */
    static const char *const statements[] = {
        ("INSERT INTO deleted_tenants (incarnation, name, deleted_ms, files_gone)"
         " SELECT incarnation, name, ?2, 0 FROM tenants WHERE incarnation = ?1"),
        "DELETE FROM blocks WHERE incarnation = ?1",
        "DELETE FROM metadata WHERE incarnation = ?1",
        "DELETE FROM tombstones WHERE incarnation = ?1",
        "DELETE FROM exemplars WHERE incarnation = ?1",
        "DELETE FROM tenants WHERE incarnation = ?1"};
    enum err_code rc = ERR_OK;
    for (size_t i = 0; !rc && i < COUNT_OF(statements); i++) {
        struct query q;
        rc = query_init(&q, c, "deleting a tenant", statements[i], err);
        if (!rc) {
            query_u64(&q, incarnation);
            if (i == 0) query_i64(&q, now_ms);
            rc = query_run(&q, err);
        }
        query_release(&q);
    }
    if (!rc && sqlite3_changes64(c->db) != 1)
        rc = err_set(err, ERR_NOT_FOUND, "no tenant of incarnation %" PRIu64, incarnation);
    return rc;
}

enum err_code catalog_delete_tenant(struct catalog *c, uint64_t incarnation, int64_t now_ms,
                                    struct err *err)
{
    lock_take(&c->lock);
    enum err_code rc = begin(c, err);
    if (!rc) rc = end(c, delete_tenant(c, incarnation, now_ms, err), err);
    lock_release(&c->lock);
    return rc ? err_context(err, "changing the catalog") : ERR_OK;
}

enum err_code catalog_files_gone(struct catalog *c, uint64_t incarnation, struct err *err)
{
    lock_take(&c->lock);
    enum err_code rc = begin(c, err);
    if (!rc)
        rc = end(c,
                 run_u64(c, "forgetting files of a deleted tenant",
                         "UPDATE deleted_tenants SET files_gone = 1 WHERE incarnation = ?1",
                         incarnation, err),
                 err);
    lock_release(&c->lock);
    return rc ? err_context(err, "changing the catalog") : ERR_OK;
}

static enum err_code list_deleted(struct catalog *c, struct listing *l, struct err *err)
{
    struct query q;
    bool row = true;
    enum err_code rc = query_init(&q, c, "listing deleted tenants",
                                  "SELECT incarnation, name, deleted_ms, files_gone"
                                  " FROM deleted_tenants"
                                  " ORDER BY incarnation",
                                  err);
    while (!rc) {
        rc = query_step(&q, &row, err);
        if (rc || !row) break;
        bool ok = true;
        struct catalog_deleted_tenant t = {column_u64(&q, 0, &ok), column_str(&q, 1, &ok),
                                           column_i64(&q, 2, &ok), column_u64(&q, 3, &ok) != 0};
        if (!ok || t.incarnation == 0) rc = bad_row(c, "deleted_tenants", err);
        if (!rc) rc = listing_str(l, &t.name, err);
        if (!rc) rc = listing_add(l, &t, sizeof(t), err);
    }
    query_release(&q);
    return rc;
}

enum err_code catalog_deleted_tenants(struct catalog *c, catalog_deleted_fn *fn, void *ctx,
                                      struct err *err)
{
    struct listing l;
    listing_init(&l);
    lock_take(&c->lock);
    enum err_code rc = list_deleted(c, &l, err);
    lock_release(&c->lock);
    const struct catalog_deleted_tenant *items = l.items;
    for (size_t i = 0; !rc && i < l.n; i++) rc = fn(ctx, &items[i], err);
    listing_release(&l);
    return rc;
}
