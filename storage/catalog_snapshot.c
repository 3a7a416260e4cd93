/* storage/catalog_snapshot.c: see the header. */
#include "storage/catalog_snapshot.h"

#include <inttypes.h>
#include <sqlite3.h>

#include "base/crc32c.h"
#include "storage/catalog_private.h"

#define MAGIC "QSNP"
#define VERSION 1u
#define HEADER_BYTES 16u
#define CRC_BYTES 4u
#define FILE_BYTES_MAX ((size_t)1 << 30)
#define QUIET_NS (INT64_C(60) * 1000000000)
#define RETRY_NS (INT64_C(15) * 1000000000) /* on a full disk, say */
/* Large ones are written less often: a fiftieth of the time. */
#define PAUSE_FACTOR 50

enum cell { CELL_NULL, CELL_INT, CELL_DOUBLE, CELL_TEXT, CELL_BLOB };

const char *catalog_snapshot_name(uint64_t generation)
{
    return generation % CATALOG_SNAPSHOT_FILES ? "catalog.snapshot.1" : "catalog.snapshot.0";
}

/* ---- writing ---- */

static void put_cell(struct buf *out, sqlite3_stmt *stmt, int col)
{
    const void *p;
    switch (sqlite3_column_type(stmt, col)) {
    case SQLITE_INTEGER:
        buf_u8(out, CELL_INT);
        buf_zigzag(out, sqlite3_column_int64(stmt, col));
        break;
    case SQLITE_FLOAT:
        buf_u8(out, CELL_DOUBLE);
        buf_double(out, sqlite3_column_double(stmt, col));
        break;
    case SQLITE_TEXT:
        buf_u8(out, CELL_TEXT);
        p = sqlite3_column_text(stmt, col);
        buf_str(out, (struct str){p, (size_t)sqlite3_column_bytes(stmt, col)});
        break;
    case SQLITE_BLOB:
        buf_u8(out, CELL_BLOB);
        p = sqlite3_column_blob(stmt, col);
        buf_str(out, (struct str){p, (size_t)sqlite3_column_bytes(stmt, col)});
        break;
    default: buf_u8(out, CELL_NULL);
    }
}

static enum err_code prepare(struct catalog *c, sqlite3_stmt **stmt, struct err *err,
                             const char *fmt, const char *name)
{
    char *sql = sqlite3_mprintf(fmt, name);
    if (!sql) return err_set(err, ERR_NO_MEMORY, "no memory for a snapshot");
    int code = sqlite3_prepare_v2(catalog_db(c), sql, -1, stmt, NULL);
    sqlite3_free(sql);
    return code ? catalog_db_error(c, "a snapshot", err) : ERR_OK;
}

static enum err_code put_table(struct catalog *c, const char *name, struct buf *out,
                               struct err *err)
{
    sqlite3_stmt *stmt = NULL;
    struct buf rows;
    uint64_t n = 0;
    int code = SQLITE_DONE;
    enum err_code rc = prepare(c, &stmt, err, "SELECT * FROM \"%w\"", name);
    int n_columns = sqlite3_column_count(stmt);
    buf_init(&rows, MEM_CATALOG);
    buf_str(out, str_of(name));
    buf_varint(out, (uint64_t)n_columns);
    for (int i = 0; i < n_columns; i++) buf_str(out, str_of(sqlite3_column_name(stmt, i)));
    for (; !rc && (code = sqlite3_step(stmt)) == SQLITE_ROW; n++)
        for (int i = 0; i < n_columns; i++) put_cell(&rows, stmt, i);
    if (!rc && code != SQLITE_DONE) rc = catalog_db_error(c, "a snapshot", err);
    (void)sqlite3_finalize(stmt); /* repeats the error of the last step */
    buf_varint(out, n);
    buf_str(out, str_from_bytes(buf_bytes(&rows)));
    out->failed |= rows.failed;
    buf_release(&rows);
    return rc;
}

static const char tables_sql[] =
    "SELECT name FROM sqlite_schema WHERE type = 'table'"
    " AND (name NOT LIKE 'sqlite\\_%%' ESCAPE '\\' OR name = 'sqlite_sequence') ORDER BY rowid";

/* In the order in which they were made: a table comes after those that it refers to. */
static enum err_code put_tables(struct catalog *c, struct buf *out, uint64_t *n, struct err *err)
{
    sqlite3_stmt *stmt = NULL;
    int code = SQLITE_DONE;
    enum err_code rc = prepare(c, &stmt, err, tables_sql, NULL);
    for (; !rc && (code = sqlite3_step(stmt)) == SQLITE_ROW; ++*n)
        rc = put_table(c, (const char *)sqlite3_column_text(stmt, 0), out, err);
    if (!rc && code != SQLITE_DONE) rc = catalog_db_error(c, "a snapshot", err);
    (void)sqlite3_finalize(stmt); /* repeats the error of the last step */
    return rc;
}

static enum err_code schema_version(struct catalog *c, uint64_t *out, struct err *err)
{
    sqlite3_stmt *stmt = NULL;
    enum err_code rc = prepare(c, &stmt, err, "PRAGMA user_version", NULL);
    if (!rc && sqlite3_step(stmt) != SQLITE_ROW) rc = catalog_db_error(c, "a snapshot", err);
    if (!rc) *out = (uint64_t)sqlite3_column_int64(stmt, 0);
    (void)sqlite3_finalize(stmt); /* repeats the error of the last step */
    return rc;
}

/* Under the catalog's lock. */
static enum err_code encode(struct catalog *c, uint64_t generation, struct buf *out,
                            struct err *err)
{
    struct buf tables;
    uint64_t version = 0, n = 0;
    buf_init(&tables, MEM_CATALOG);
    enum err_code rc = schema_version(c, &version, err);
    if (!rc) rc = put_tables(c, &tables, &n, err);
    buf_put(out, MAGIC, 4);
    buf_u32(out, VERSION);
    buf_u64(out, 0);
    buf_varint(out, generation);
    buf_zigzag(out, clock_wall_ms(catalog_env(c)->clock));
    buf_varint(out, version);
    buf_varint(out, n);
    buf_put(out, tables.p, tables.len);
    out->failed |= tables.failed;
    if (!rc && !out->failed) {
        put_u64_le(out->p + 8, out->len + CRC_BYTES);
        buf_u32(out, crc32c(0, out->p, out->len));
    }
    buf_release(&tables);
    return rc ? rc : buf_finish(out, err);
}

static enum err_code write_file(struct io *io, const char *dir, uint64_t generation,
                                struct bytes bytes, struct err *err)
{
    char path[IO_PATH_BYTES];
    struct file *file = NULL;
    enum err_code rc = io_path(path, sizeof(path), err, dir, catalog_snapshot_name(generation));
    if (!rc) rc = io_create_temp(io, path, &file, err);
    if (rc) return rc;
    rc = file_write_at(file, 0, bytes.p, bytes.len, err);
    if (!rc) rc = file_sync(file, err);
    if (!rc) rc = io_publish(io, file, path, err);
    if (rc)
        io_discard(io, file);
    else
        file_close(file);
    return rc;
}

/* ---- when ---- */

void catalog_keep_init(struct catalog_keep *keep, struct metrics *metrics)
{
    *keep = (struct catalog_keep){
        .written = metric_counter(metrics, "quipu_catalog_snapshots_total",
                                  "Snapshots of the catalog written.", ""),
        .failures = metric_counter(metrics, "quipu_catalog_snapshot_failures_total",
                                   "Snapshots of the catalog that could not be written.", ""),
        .bytes = metric_gauge(metrics, "quipu_catalog_snapshot_bytes",
                              "Size of the newest snapshot of the catalog.", "")};
}

struct search {
    const struct env *env;
    enum err_code rc; /* one that could not be read may be the newest */
    struct err *err;
};

static void note_bad(void *ctx, const struct err *problem)
{
    struct search *search = ctx;
    if (problem->code != ERR_CORRUPT && problem->code != ERR_VERSION) {
        search->rc = problem->code;
        *search->err = *problem;
        return;
    }
    log_msg(search->env->log, LOG_ERROR, "a snapshot of the catalog is damaged; it is written anew",
            LOG_ERR(problem));
}

/* Of the newest snapshot, so that the next one does not replace it. */
static enum err_code find_generation(const struct env *env, const char *dir, uint64_t *out,
                                     struct err *err)
{
    struct arena arena;
    struct catalog_snapshot found;
    struct search search = {.env = env, .err = err};
    struct err none;
    arena_init(&arena, MEM_CATALOG, 0);
    enum err_code rc =
        catalog_snapshot_newest(env->io, dir, &arena, note_bad, &search, &found, &none);
    arena_release(&arena);
    if (rc == ERR_NO_MEMORY) return err_set(err, rc, "%s", none.text);
    *out = rc ? 1 : found.generation; /* none: the first */
    return search.rc;
}

static bool is_due(const struct catalog_keep *k, int64_t now_ns, bool closing)
{
    bool changed = k->n_changes != k->kept_changes || k->kept_ns == 0;
    bool quiet = k->n_quiet != k->kept_quiet && now_ns - k->kept_ns >= QUIET_NS;
    if (closing) return changed || k->n_quiet != k->kept_quiet;
    return (changed || quiet) && now_ns - k->kept_ns >= k->pause_ns;
}

void catalog_keep(struct catalog *c, bool closing)
{
    const struct env *env = catalog_env(c);
    struct buf out;
    struct err err;
    enum err_code rc = ERR_OK;
    buf_init(&out, MEM_CATALOG);
    struct catalog_keep *k = catalog_begin_keep(c);
    int64_t begun_ns = MAX_OF(clock_mono_ns(env->clock), INT64_C(1));
    bool due = is_due(k, begun_ns, closing);
    uint64_t n_changes = k->n_changes, n_quiet = k->n_quiet;
    if (k->n_unsettled) catalog_settle(c);
    if (due && !k->generation) rc = find_generation(env, catalog_dir(c), &k->generation, &err);
    if (rc) k->generation = 0;
    uint64_t generation = k->generation + 1;
    if (due && !rc) rc = encode(c, generation, &out, &err);
    catalog_end_keep(c);
    /* Without the lock: one thread alone keeps a catalog. */
    if (due && !rc) rc = write_file(env->io, catalog_dir(c), generation, buf_bytes(&out), &err);
    if (due) {
        int64_t now_ns = clock_mono_ns(env->clock);
        k->kept_ns = begun_ns;
        k->pause_ns = MAX_OF((now_ns - begun_ns) * PAUSE_FACTOR, rc ? RETRY_NS : 0);
        metric_inc(rc ? k->failures : k->written);
        if (rc)
            log_msg(env->log, LOG_WARN, "no snapshot of the catalog; it is tried again",
                    LOG_ERR(&err));
    }
    if (due && !rc) {
        k->generation = generation;
        k->kept_changes = n_changes;
        k->kept_quiet = n_quiet;
        metric_set(k->bytes, (double)out.len);
    }
    buf_release(&out);
}

/* ---- reading ---- */

static bool skip_cell(struct reader *r)
{
    switch (reader_u8(r)) {
    case CELL_NULL: return !r->failed;
    case CELL_INT: (void)reader_varint(r); return !r->failed;
    case CELL_DOUBLE: (void)reader_double(r); return !r->failed;
    case CELL_TEXT:
    case CELL_BLOB: (void)reader_str(r); return !r->failed;
    default: return false;
    }
}

static bool rows_good(const struct snapshot_table *t)
{
    struct reader r = reader_init(t->rows);
    if (t->n_columns == 0) return t->n_rows == 0 && t->rows.len == 0;
    for (uint64_t row = 0; row < t->n_rows; row++)
        for (size_t i = 0; i < t->n_columns; i++)
            if (!skip_cell(&r)) return false;
    return reader_left(&r) == 0;
}

static enum err_code decode_table(struct reader *r, struct arena *arena, struct snapshot_table *t,
                                  struct err *err)
{
    t->name = reader_str(r);
    uint64_t n_columns = reader_varint(r);
    if (r->failed || n_columns > reader_left(r)) /* each takes a byte at least */
        return err_set(err, ERR_CORRUPT, "a table of a snapshot makes no sense");
    t->columns = ARENA_ARRAY(arena, struct str, (size_t)n_columns + 1);
    if (!t->columns) return arena_fail(arena, err);
    for (; t->n_columns < n_columns; t->n_columns++) t->columns[t->n_columns] = reader_str(r);
    t->n_rows = reader_varint(r);
    struct str rows = reader_str(r);
    t->rows = bytes_of(rows.p, rows.len);
    if (r->failed || !rows_good(t))
        return err_set(err, ERR_CORRUPT, "rows of a snapshot's table make no sense");
    return ERR_OK;
}

static enum err_code decode_body(struct reader *r, struct arena *arena,
                                 struct catalog_snapshot *out, struct err *err)
{
    out->generation = reader_varint(r);
    out->written_ms = reader_zigzag(r);
    out->schema_version = reader_varint(r);
    uint64_t n_tables = reader_varint(r);
    if (r->failed || out->generation == 0 || n_tables > reader_left(r))
        return err_set(err, ERR_CORRUPT, "a snapshot's beginning makes no sense");
    out->tables = ARENA_ARRAY(arena, struct snapshot_table, (size_t)n_tables + 1);
    if (!out->tables) return arena_fail(arena, err);
    enum err_code rc = ERR_OK;
    for (; !rc && out->n_tables < n_tables; out->n_tables++)
        rc = decode_table(r, arena, &out->tables[out->n_tables], err);
    return rc ? rc : reader_finish(r, err);
}

enum err_code catalog_snapshot_decode(struct bytes b, struct arena *arena,
                                      struct catalog_snapshot *out, struct err *err)
{
    *out = (struct catalog_snapshot){0};
    if (b.len < HEADER_BYTES + CRC_BYTES || memcmp(b.p, MAGIC, 4) != 0 ||
        get_u64_le(b.p + 8) != b.len ||
        crc32c(0, b.p, b.len - CRC_BYTES) != get_u32_le(b.p + b.len - CRC_BYTES))
        return err_set(err, ERR_CORRUPT, "checksum of a snapshot of the catalog");
    if (get_u32_le(b.p + 4) != VERSION)
        return err_set(err, ERR_VERSION, "snapshot version %" PRIu32 "; this build knows %u",
                       get_u32_le(b.p + 4), VERSION);
    struct reader r = reader_init(bytes_of(b.p + HEADER_BYTES, b.len - HEADER_BYTES - CRC_BYTES));
    return decode_body(&r, arena, out, err);
}

enum err_code catalog_snapshot_read(struct io *io, const char *path, struct arena *arena,
                                    struct catalog_snapshot *out, struct err *err)
{
    uint8_t *file = NULL;
    size_t len;
    enum err_code rc = io_read_file(io, path, FILE_BYTES_MAX, &file, &len, err);
    if (rc) return rc;
    struct str copy = arena_str(arena, (struct str){(const char *)file, len});
    mem_free(file);
    if (!copy.p) return arena_fail(arena, err);
    rc = catalog_snapshot_decode(bytes_of(copy.p, copy.len), arena, out, err);
    return rc == ERR_CORRUPT || rc == ERR_VERSION ? err_at(err, path, 0) : rc;
}

enum err_code catalog_snapshot_newest(struct io *io, const char *dir, struct arena *arena,
                                      catalog_snapshot_bad_fn *bad, void *ctx,
                                      struct catalog_snapshot *out, struct err *err)
{
    *out = (struct catalog_snapshot){0};
    for (uint64_t i = 0; i < CATALOG_SNAPSHOT_FILES; i++) {
        char path[IO_PATH_BYTES];
        struct catalog_snapshot one;
        enum err_code rc = io_path(path, sizeof(path), err, dir, catalog_snapshot_name(i));
        if (!rc) rc = catalog_snapshot_read(io, path, arena, &one, err);
        if (rc == ERR_NO_MEMORY) return rc;
        if (!rc && one.generation > out->generation) *out = one;
        if (rc && rc != ERR_NOT_FOUND && bad) bad(ctx, err);
    }
    if (out->generation) return ERR_OK;
    return err_set(err, ERR_NOT_FOUND, "no snapshot of the catalog in %s", dir);
}

/* ---- putting it back ---- */

static bool bind_cell(sqlite3_stmt *stmt, int col, struct reader *r)
{
    struct str s;
    switch (reader_u8(r)) {
    case CELL_INT: return sqlite3_bind_int64(stmt, col, reader_zigzag(r)) == SQLITE_OK;
    case CELL_DOUBLE: return sqlite3_bind_double(stmt, col, reader_double(r)) == SQLITE_OK;
    case CELL_TEXT:
        s = reader_str(r);
        return sqlite3_bind_text64(stmt, col, s.len ? s.p : "", s.len, SQLITE_STATIC,
                                   SQLITE_UTF8) == SQLITE_OK;
    case CELL_BLOB:
        s = reader_str(r);
        return sqlite3_bind_blob64(stmt, col, s.len ? s.p : "", s.len, SQLITE_STATIC) == SQLITE_OK;
    default: return sqlite3_bind_null(stmt, col) == SQLITE_OK;
    }
}

static void quote(struct buf *sql, struct str name)
{
    buf_u8(sql, '"');
    for (size_t i = 0; i < name.len; i++) {
        if (name.p[i] == '"') buf_u8(sql, '"');
        buf_u8(sql, (uint8_t)name.p[i]);
    }
    buf_u8(sql, '"');
}

/* ERR_VERSION: a table or a column that is not there. */
static enum err_code prepare_insert(struct catalog *c, const struct snapshot_table *t,
                                    sqlite3_stmt **stmt, struct err *err)
{
    struct buf sql;
    buf_init(&sql, MEM_CATALOG);
    buf_text(&sql, STR("INSERT INTO "));
    quote(&sql, t->name);
    for (size_t i = 0; i < t->n_columns; i++) {
        buf_u8(&sql, i ? ',' : '(');
        quote(&sql, t->columns[i]);
    }
    for (size_t i = 0; i < t->n_columns; i++) buf_text(&sql, i ? STR(",?") : STR(") VALUES (?"));
    buf_text(&sql, STR(")"));
    buf_u8(&sql, 0);
    enum err_code rc = buf_finish(&sql, err);
    if (!rc && sqlite3_prepare_v2(catalog_db(c), (const char *)sql.p, -1, stmt, NULL))
        rc = err_set(err, ERR_VERSION, "table %.*s of the snapshot: %s", STR_ARG(t->name),
                     sqlite3_errmsg(catalog_db(c)));
    buf_release(&sql);
    return rc;
}

static enum err_code run_sql(struct catalog *c, const char *sql, struct err *err)
{
    return sqlite3_exec(catalog_db(c), sql, NULL, NULL, NULL) ? catalog_db_error(c, sql, err)
                                                              : ERR_OK;
}

static enum err_code restore_table(struct catalog *c, const struct snapshot_table *t,
                                   struct err *err)
{
    sqlite3_stmt *stmt = NULL;
    struct reader r = reader_init(t->rows);
    if (t->n_rows == 0) return ERR_OK;
    /* Filled by what was put into the tables, but not with numbers that were given and are free again. */
    enum err_code rc = str_eq(t->name, STR("sqlite_sequence"))
                           ? run_sql(c, "DELETE FROM sqlite_sequence", err)
                           : ERR_OK;
    if (!rc) rc = prepare_insert(c, t, &stmt, err);
    for (uint64_t row = 0; !rc && row < t->n_rows; row++) {
        bool bound = true;
        for (size_t i = 0; i < t->n_columns; i++) bound &= bind_cell(stmt, (int)i + 1, &r);
        if (!bound || sqlite3_step(stmt) != SQLITE_DONE)
            rc = catalog_db_error(c, "a row of the snapshot", err);
        (void)sqlite3_reset(stmt); /* repeats the error of the step */
    }
    (void)sqlite3_finalize(stmt);
    return rc ? err_context(err, "table %.*s", STR_ARG(t->name)) : ERR_OK;
}

enum err_code catalog_snapshot_restore(struct catalog *c, const struct catalog_snapshot *s,
                                       struct err *err)
{
    uint64_t version = 0;
    struct catalog_keep *k = catalog_begin_keep(c);
    enum err_code rc = schema_version(c, &version, err);
    if (!rc && s->schema_version > version)
        rc = err_set(err, ERR_VERSION,
                     "the snapshot is of a catalog of version %" PRIu64
                     "; this build knows %" PRIu64,
                     s->schema_version, version);
    if (!rc) rc = run_sql(c, "BEGIN IMMEDIATE; PRAGMA defer_foreign_keys = ON", err);
    for (size_t i = 0; !rc && i < s->n_tables; i++) {
        /* It was filled when the tables were: last. */
        if (!str_eq(s->tables[i].name, STR("sqlite_sequence")))
            rc = restore_table(c, &s->tables[i], err);
    }
    for (size_t i = 0; !rc && i < s->n_tables; i++)
        if (str_eq(s->tables[i].name, STR("sqlite_sequence")))
            rc = restore_table(c, &s->tables[i], err);
    if (!rc) rc = run_sql(c, "COMMIT", err);
    if (rc && !sqlite3_get_autocommit(catalog_db(c)))
        (void)sqlite3_exec(catalog_db(c), "ROLLBACK", NULL, NULL, NULL);
    if (!rc) {
        k->n_changes++;
        catalog_settle(c);
    }
    catalog_end_keep(c);
    return rc ? err_context(err, "putting back the snapshot") : ERR_OK;
}

/* ---- a catalog that is not there ---- */

static bool stop_listing(void *ctx, const char *name, bool is_dir)
{
    bool *found = ctx;
    (void)name;
    *found |= is_dir;
    return !*found;
}

enum err_code catalog_check_absent(struct io *io, const char *dir, struct err *err)
{
    char path[IO_PATH_BYTES];
    bool found = false;
    enum err_code rc = io_path(path, sizeof(path), err, dir, "tenants");
    if (!rc && io_exists(io, path)) rc = io_list(io, path, stop_listing, &found, err);
    for (uint64_t i = 0; !rc && !found && i < CATALOG_SNAPSHOT_FILES; i++) {
        rc = io_path(path, sizeof(path), err, dir, catalog_snapshot_name(i));
        found = !rc && io_exists(io, path);
    }
    if (rc || !found) return rc;
    char missing[IO_PATH_BYTES];
    rc = io_path(missing, sizeof(missing), err, dir, CATALOG_FILE_NAME);
    if (rc) return rc;
    err_set(err, ERR_CORRUPT, "%s is missing or empty, but %s is there", CATALOG_FILE_NAME, path);
    return err_at(err, missing, 0);
}
