/* engine/rebuild.c: see the header. The new catalog is made in a folder of its own and moved into place when it is whole. */
#include "engine/rebuild.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/tenant.h"
#include "storage/catalog_snapshot.h"

#define WORK_DIR "catalog.rebuild"
#define FILE_NAME "catalog.sqlite"
#define DAMAGED ".damaged"
#define SUFFIX ".block"
#define CACHE_BYTES ((size_t)4 << 20)

struct names {
    char **items;
    size_t n, cap;
    enum err_code rc;
    struct err *err;
};

struct block_row {
    struct block_info info;
    bool found; /* there is a file */
};
struct tenant_row {
    struct buf dir; /* its folder under tenants/, NUL-terminated */
    uint64_t incarnation;
    struct block_row *blocks;
    size_t n_blocks, cap;
};

struct rebuild {
    const struct env *env;
    const char *dir;
    char work[IO_PATH_BYTES];
    rebuild_fn *fn;
    void *ctx;
    struct rebuild_report *report;
    struct page_cache *cache;
    struct catalog *catalog;
    struct tenant_row *tenants;
    size_t n_tenants, cap;
};

static void tell(struct rebuild *r, enum rebuild_event event, const char *file, const char *text)
{
    struct rebuild_finding f = {event, file, text};
    r->report->added += event == REBUILD_BLOCK_ADDED;
    r->report->damaged += event == REBUILD_BLOCK_DAMAGED;
    r->report->gone += event == REBUILD_BLOCK_GONE;
    r->report->ignored += event == REBUILD_FILE_IGNORED;
    if (r->fn) r->fn(r->ctx, &f);
}

/* ---- listing ---- */

static bool add_name(void *ctx, const char *name, bool is_dir)
{
    struct names *n = ctx;
    (void)is_dir;
    void *items = n->items;
    n->rc = mem_grow(MEM_STORAGE, &items, &n->cap, n->n + 1, sizeof(char *), n->err);
    n->items = items;
    if (!n->rc && !(n->items[n->n] = mem_strdup(MEM_STORAGE, name)))
        n->rc = err_set(n->err, ERR_NO_MEMORY, "no memory for a list of files");
    n->n += !n->rc;
    return !n->rc;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void names_release(struct names *n)
{
    for (size_t i = 0; i < n->n; i++) mem_free(n->items[i]);
    mem_free(n->items);
}

static enum err_code list(struct io *io, const char *dir, struct names *out, struct err *err)
{
    *out = (struct names){.err = err};
    if (!io_exists(io, dir)) return ERR_OK;
    enum err_code rc = io_list(io, dir, add_name, out, err);
    if (out->n) qsort(out->items, out->n, sizeof(char *), compare_names);
    return rc ? rc : out->rc;
}

/* ---- tenants ---- */

static enum err_code add_tenant(void *ctx, const struct catalog_tenant *row, struct err *err)
{
    struct rebuild *r = ctx;
    void *items = r->tenants;
    enum err_code rc =
        mem_grow(MEM_STORAGE, &items, &r->cap, r->n_tenants + 1, sizeof(*r->tenants), err);
    r->tenants = items;
    if (rc) return rc;
    struct tenant_row *t = &r->tenants[r->n_tenants++];
    *t = (struct tenant_row){.incarnation = row->incarnation};
    buf_init(&t->dir, MEM_STORAGE);
    tenant_encode_name(row->name, row->incarnation, &t->dir);
    buf_u8(&t->dir, 0);
    return buf_finish(&t->dir, err);
}

static enum err_code add_row(void *ctx, const struct block_info *info, struct err *err)
{
    struct tenant_row *t = ctx;
    void *items = t->blocks;
    enum err_code rc =
        mem_grow(MEM_STORAGE, &items, &t->cap, t->n_blocks + 1, sizeof(*t->blocks), err);
    t->blocks = items;
    if (!rc) t->blocks[t->n_blocks++] = (struct block_row){*info, false};
    return rc;
}

static enum err_code read_rows(struct rebuild *r, struct err *err)
{
    enum err_code rc = catalog_tenants(r->catalog, add_tenant, r, err);
    for (size_t i = 0; !rc && i < r->n_tenants; i++)
        rc = catalog_blocks(r->catalog, r->tenants[i].incarnation, add_row, &r->tenants[i], err);
    return rc;
}

static struct tenant_row *find_tenant(struct rebuild *r, const char *folder)
{
    for (size_t i = 0; i < r->n_tenants; i++)
        if (strcmp((const char *)r->tenants[i].dir.p, folder) == 0) return &r->tenants[i];
    return NULL;
}

static int hex_of(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* tenant_encode_name back; false: it was cut, or is no tenant's folder. */
static bool decode_name(const char *folder, char *out, size_t size)
{
    size_t n = 0;
    struct err ignored;
    for (const char *p = folder; *p; p++) {
        if (n + 1 >= size) return false;
        if (*p != '%') {
            out[n++] = *p;
            continue;
        }
        int high = hex_of(p[1]), low = high < 0 ? -1 : hex_of(p[2]);
        if (low < 0) return false;
        out[n++] = (char)(high * 16 + low);
        p += 2;
    }
    out[n] = 0;
    return tenant_name_check(str_of(out), &ignored) == ERR_OK;
}

/* ---- blocks ---- */

static enum err_code read_footer(struct rebuild *r, const char *path, struct block_info *out,
                                 struct err *err)
{
    struct block *block;
    enum err_code rc = block_open(r->env, path, r->cache, &block, err);
    if (rc) return rc;
    *out = *block_info(block);
    block_unref(block);
    return ERR_OK;
}

static bool block_name(const char *name, struct ulid *out)
{
    struct str text = str_of(name);
    if (!str_has_suffix(text, STR(SUFFIX))) return false;
    text.len -= strlen(SUFFIX);
    return ulid_parse(text, out);
}

/* The incarnation that the first readable block of a folder names; 0: none. */
static enum err_code find_incarnation(struct rebuild *r, const char *blocks,
                                      const struct names *names, uint64_t *out, struct err *err)
{
    *out = 0;
    for (size_t i = 0; i < names->n && *out == 0; i++) {
        char path[IO_PATH_BYTES];
        struct ulid ulid;
        struct block_info info;
        struct err bad;
        if (!block_name(names->items[i], &ulid)) continue;
        enum err_code rc = io_path(path, sizeof(path), err, blocks, names->items[i]);
        if (rc) return rc;
        if (read_footer(r, path, &info, &bad) == ERR_OK) *out = info.incarnation;
    }
    return ERR_OK;
}

/* A tenant that the snapshot does not know, by its folder's name and its blocks. *out NULL: it cannot be told. */
static enum err_code adopt_tenant(struct rebuild *r, const char *folder, const char *blocks,
                                  const struct names *names, struct tenant_row **out,
                                  struct err *err)
{
    char name[TENANT_NAME_BYTES_MAX + 1];
    uint64_t incarnation;
    *out = NULL;
    enum err_code rc = find_incarnation(r, blocks, names, &incarnation, err);
    if (rc || names->n == 0) return rc;
    if (!decode_name(folder, name, sizeof(name)) || incarnation == 0) {
        tell(r, REBUILD_FILE_IGNORED, blocks,
             "whose folder this is cannot be told: no block in it can be read, or its name is cut");
        return ERR_OK;
    }
    struct catalog_tenant row = {
        .name = str_of(name), .incarnation = incarnation, .next_sequence = 1, .created_ms = 0};
    rc = catalog_put_tenant(r->catalog, &row, err);
    if (rc == ERR_EXISTS) {
        tell(r, REBUILD_FILE_IGNORED, blocks, "of a tenant that was deleted");
        return ERR_OK;
    }
    if (!rc) rc = add_tenant(r, &row, err);
    if (rc) return rc;
    tell(r, REBUILD_TENANT_UNKNOWN, blocks, name);
    *out = &r->tenants[r->n_tenants - 1];
    return ERR_OK;
}

static struct block_row *find_row(struct tenant_row *t, const struct ulid *ulid)
{
    for (size_t i = 0; i < t->n_blocks; i++)
        if (strcmp(t->blocks[i].info.ulid.text, ulid->text) == 0) return &t->blocks[i];
    return NULL;
}

static enum err_code add_block(struct rebuild *r, struct tenant_row *t,
                               const struct block_info *info, const char *path, struct err *err)
{
    struct catalog_change change = {.incarnation = t->incarnation, .add = info, .n_add = 1};
    enum err_code rc = catalog_apply(r->catalog, &change, err);
    if (!rc) rc = add_row(t, info, err);
    if (rc) return rc;
    t->blocks[t->n_blocks - 1].found = true;
    tell(r, REBUILD_BLOCK_ADDED, path, "");
    return ERR_OK;
}

static enum err_code judge_block(struct rebuild *r, struct tenant_row *t, const struct ulid *ulid,
                                 const char *path, struct err *err)
{
    struct block_info info;
    struct block_row *row = find_row(t, ulid);
    struct err bad;
    if (row) row->found = true;
    enum err_code rc = read_footer(r, path, &info, &bad);
    if (rc == ERR_NO_MEMORY) return err_set(err, rc, "%s", bad.text);
    if (rc) {
        tell(r, REBUILD_BLOCK_DAMAGED, path, bad.text);
        return ERR_OK;
    }
    if (strcmp(info.ulid.text, ulid->text) != 0 || info.incarnation != t->incarnation) {
        tell(r, REBUILD_FILE_IGNORED, path, "a block of another name or another tenant");
        return ERR_OK;
    }
    r->report->samples += info.n_samples;
    return row ? ERR_OK : add_block(r, t, &info, path, err);
}

static enum err_code judge_folder(struct rebuild *r, const char *tenants, const char *folder,
                                  struct err *err)
{
    char dir[IO_PATH_BYTES], blocks[IO_PATH_BYTES];
    struct names names = {.n = 0};
    struct tenant_row *t = find_tenant(r, folder);
    enum err_code rc = io_path(dir, sizeof(dir), err, tenants, folder);
    if (!rc) rc = io_path(blocks, sizeof(blocks), err, dir, "blocks");
    if (!rc) rc = list(r->env->io, blocks, &names, err);
    if (!rc && !t) rc = adopt_tenant(r, folder, blocks, &names, &t, err);
    for (size_t i = 0; !rc && t && i < names.n; i++) {
        char path[IO_PATH_BYTES];
        struct ulid ulid;
        rc = io_path(path, sizeof(path), err, blocks, names.items[i]);
        if (rc) break;
        if (block_name(names.items[i], &ulid))
            rc = judge_block(r, t, &ulid, path, err);
        else
            tell(r, REBUILD_FILE_IGNORED, path, "not a block");
    }
    names_release(&names);
    return rc;
}

static enum err_code drop_missing(struct rebuild *r, struct tenant_row *t, struct err *err)
{
    enum err_code rc = ERR_OK;
    for (size_t i = 0; !rc && i < t->n_blocks; i++) {
        const struct block_info *info = &t->blocks[i].info;
        char text[160];
        r->report->blocks += t->blocks[i].found;
        if (t->blocks[i].found) continue;
        struct catalog_change change = {
            .incarnation = t->incarnation, .remove = &info->ulid, .n_remove = 1};
        rc = catalog_apply(r->catalog, &change, err);
        snprintf(text, sizeof(text),
                 "block %s, %" PRIu64 " samples from %" PRId64 " to %" PRId64 " ms",
                 info->ulid.text, info->n_samples, info->t_min_ms, info->t_max_ms);
        if (!rc) tell(r, REBUILD_BLOCK_GONE, (const char *)t->dir.p, text);
    }
    return rc;
}

static enum err_code judge_files(struct rebuild *r, struct err *err)
{
    char tenants[IO_PATH_BYTES];
    struct names names = {.n = 0};
    enum err_code rc = io_path(tenants, sizeof(tenants), err, r->dir, "tenants");
    if (!rc) rc = list(r->env->io, tenants, &names, err);
    for (size_t i = 0; !rc && i < names.n; i++) rc = judge_folder(r, tenants, names.items[i], err);
    for (size_t i = 0; !rc && i < r->n_tenants; i++) rc = drop_missing(r, &r->tenants[i], err);
    r->report->tenants = r->n_tenants;
    names_release(&names);
    return rc;
}

/* ---- the snapshot ---- */

static void on_bad_snapshot(void *ctx, const struct err *problem)
{
    struct rebuild *r = ctx;
    tell(r, REBUILD_SNAPSHOT_BAD, problem->file, problem->text);
}

static enum err_code restore(struct rebuild *r, struct err *err)
{
    struct arena arena;
    struct catalog_snapshot snapshot;
    arena_init(&arena, MEM_CATALOG, 0);
    enum err_code rc =
        catalog_snapshot_newest(r->env->io, r->dir, &arena, on_bad_snapshot, r, &snapshot, err);
    if (rc == ERR_NOT_FOUND) {
        tell(r, REBUILD_SNAPSHOT_NONE, r->dir, err->text);
        rc = ERR_OK;
    } else if (!rc) {
        r->report->generation = snapshot.generation;
        r->report->snapshot_ms = snapshot.written_ms;
        rc = catalog_snapshot_restore(r->catalog, &snapshot, err);
    }
    arena_release(&arena);
    return rc;
}

/* ---- files ---- */

static enum err_code remove_work(struct rebuild *r, struct err *err)
{
    struct names names;
    enum err_code rc = list(r->env->io, r->work, &names, err);
    for (size_t i = 0; !rc && i < names.n; i++) {
        char path[IO_PATH_BYTES];
        rc = io_path(path, sizeof(path), err, r->work, names.items[i]);
        if (!rc) rc = io_unlink(r->env->io, path, err);
    }
    names_release(&names);
    if (!rc && io_exists(r->env->io, r->work)) rc = io_rmdir(r->env->io, r->work, err);
    return rc;
}

/* An older one of the name goes: it has been replaced once already. */
static enum err_code set_aside(struct rebuild *r, const char *name, struct err *err)
{
    char from[IO_PATH_BYTES], to[IO_PATH_BYTES + sizeof(DAMAGED)];
    enum err_code rc = io_path(from, sizeof(from), err, r->dir, name);
    if (rc || !io_exists(r->env->io, from)) return rc;
    snprintf(to, sizeof(to), "%s" DAMAGED, from);
    return io_rename(r->env->io, from, to, err);
}

/* The WAL goes first, and surely: beside a new catalog it would be taken for that one's. */
static enum err_code move_into_place(struct rebuild *r, struct err *err)
{
    char from[IO_PATH_BYTES], to[IO_PATH_BYTES];
    struct io *io = r->env->io;
    enum err_code rc = io_path(from, sizeof(from), err, r->work, FILE_NAME);
    if (!rc) rc = io_path(to, sizeof(to), err, r->dir, FILE_NAME);
    if (!rc) rc = set_aside(r, FILE_NAME "-wal", err);
    if (!rc) rc = set_aside(r, FILE_NAME "-journal", err);
    if (!rc) rc = set_aside(r, FILE_NAME, err);
    if (!rc) rc = io_sync_dir(io, r->dir, err);
    if (!rc) rc = io_rename(io, from, to, err);
    if (!rc) rc = io_sync_dir(io, r->dir, err);
    return rc;
}

/* A close moves all into the database; what it could not is in the WAL, which stays then. */
static enum err_code close_catalog(struct rebuild *r, struct err *err)
{
    char wal[IO_PATH_BYTES];
    catalog_close(r->catalog);
    r->catalog = NULL;
    enum err_code rc = io_path(wal, sizeof(wal), err, r->work, FILE_NAME "-wal");
    if (!rc && io_exists(r->env->io, wal))
        rc = err_set(err, ERR_IO, "%s could not be written into the catalog", wal);
    return rc;
}

static enum err_code make(struct rebuild *r, struct err *err)
{
    enum err_code rc = remove_work(r, err);
    if (!rc) rc = io_mkdir_all(r->env->io, r->work, err);
    if (!rc) rc = page_cache_new(r->env, CACHE_BYTES, &r->cache, err);
    if (!rc) rc = catalog_open(r->env, r->work, &r->catalog, err);
    if (!rc) rc = restore(r, err);
    if (!rc) rc = read_rows(r, err);
    if (!rc) rc = judge_files(r, err);
    struct err at_close;
    enum err_code closed = close_catalog(r, &at_close);
    if (!rc && closed) {
        rc = closed;
        *err = at_close;
    }
    if (!rc) rc = move_into_place(r, err);
    struct err ignored; /* what is left of it hurts nobody */
    err_ignore(remove_work(r, &ignored));
    return rc;
}

static enum err_code lock_dir(const struct env *env, const char *dir, struct file **lock,
                              struct err *err)
{
    char path[IO_PATH_BYTES];
    *lock = NULL;
    if (!io_exists(env->io, dir)) return err_set(err, ERR_NOT_FOUND, "no folder %s", dir);
    enum err_code rc = io_path(path, sizeof(path), err, dir, "LOCK");
    if (!rc) rc = io_open(env->io, path, IO_READ | IO_WRITE | IO_CREATE, lock, err);
    if (!rc) rc = file_lock(*lock, err);
    return rc == ERR_BUSY ? err_context(err, "another process has %s open", dir) : rc;
}

enum err_code catalog_rebuild(const struct env *env, const char *dir, rebuild_fn *fn, void *ctx,
                              struct rebuild_report *report, struct err *err)
{
    struct file *lock;
    struct rebuild r = {.env = env, .dir = dir, .fn = fn, .ctx = ctx, .report = report};
    *report = (struct rebuild_report){0};
    enum err_code rc = lock_dir(env, dir, &lock, err);
    if (!rc) rc = io_path(r.work, sizeof(r.work), err, dir, WORK_DIR);
    if (!rc) rc = make(&r, err);
    for (size_t i = 0; i < r.n_tenants; i++) {
        buf_release(&r.tenants[i].dir);
        mem_free(r.tenants[i].blocks);
    }
    mem_free(r.tenants);
    page_cache_free(r.cache);
    file_close(lock);
    return rc ? err_context(err, "rebuilding the catalog of %s", dir) : ERR_OK;
}
