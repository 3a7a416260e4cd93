/* engine/tenant_delete.c: a tenant is deleted, whole.
 *
 * The catalog's transaction is the moment: before it the tenant is as it was, after it no start serves any of it, as its
 * incarnation is unknown to the log's replay and its files are found by the row that names it as deleted. All that
 * follows only frees what is left. Writers are kept out before, so that none is told "stored" in between. */
#include <stdio.h>

#include "engine/engine_private.h"

/* ---- folders ---- */

struct tenant_dir {
    char dir[IO_PATH_BYTES], blocks[IO_PATH_BYTES];
};

static enum err_code dir_of(struct engine *e, struct str name, uint64_t incarnation,
                            struct tenant_dir *out, struct err *err)
{
    struct buf path;
    buf_init(&path, MEM_BASE);
    buf_printf(&path, "%s/tenants/", e->data_dir);
    struct buf encoded;
    buf_init(&encoded, MEM_BASE);
    tenant_encode_name(name, incarnation, &encoded);
    buf_text(&path, str_from_bytes(buf_bytes(&encoded)));
    buf_u8(&path, 0);
    enum err_code rc = encoded.failed ? buf_finish(&encoded, err) : buf_finish(&path, err);
    if (!rc && path.len > sizeof(out->dir)) rc = err_set(err, ERR_LIMIT, "a path is too long");
    if (!rc) memcpy(out->dir, path.p, path.len);
    if (!rc) rc = io_path(out->blocks, sizeof(out->blocks), err, out->dir, "blocks");
    buf_release(&encoded);
    buf_release(&path);
    return rc;
}

struct files {
    struct buf names; /* each with its NUL */
};

static bool note_file(void *ctx, const char *name, bool is_dir)
{
    struct files *files = ctx;
    if (!is_dir) buf_put(&files->names, name, strlen(name) + 1);
    return !files->names.failed;
}

/* Does the file belong to the incarnation? One that cannot be read is somebody else's to judge. */
static bool is_of(struct engine *e, const char *path, uint64_t incarnation)
{
    struct block *block;
    struct err ignored;
    if (!str_has_suffix(str_of(path), STR(".block"))) return false;
    if (block_open(&e->env, path, e->cache, &block, &ignored)) return false;
    bool is = block_info(block)->incarnation == incarnation;
    block_unref(block);
    return is;
}

/* incarnation 0: every file. */
static enum err_code remove_files(struct engine *e, const char *dir, uint64_t incarnation,
                                  struct err *err)
{
    struct files files;
    buf_init(&files.names, MEM_BASE);
    enum err_code rc = io_list(e->env.io, dir, note_file, &files, err);
    if (!rc) rc = buf_finish(&files.names, err);
    for (size_t off = 0; !rc && off < files.names.len;) {
        const char *name = (const char *)files.names.p + off;
        char path[IO_PATH_BYTES];
        off += strlen(name) + 1;
        rc = io_path(path, sizeof(path), err, dir, name);
        if (!rc && (incarnation == 0 || is_of(e, path, incarnation)))
            rc = io_unlink(e->env.io, path, err);
    }
    buf_release(&files.names);
    return rc;
}

/* The folders, empty by now. */
static enum err_code remove_dirs(struct engine *e, const struct tenant_dir *d, struct err *err)
{
    char tenants[IO_PATH_BYTES];
    enum err_code rc = ERR_OK;
    if (io_exists(e->env.io, d->blocks)) rc = io_rmdir(e->env.io, d->blocks, err);
    if (!rc) rc = io_rmdir(e->env.io, d->dir, err);
    if (!rc) rc = io_path(tenants, sizeof(tenants), err, e->data_dir, "tenants");
    return rc ? rc : io_sync_dir(e->env.io, tenants, err);
}

/* ---- deleting ---- */

static void count_all(struct tenant *t, struct tenant_delete_report *r)
{
    struct tenant_stats stats;
    struct engine_select *sel;
    struct err ignored; /* a report may be vague */
    tenant_stats(t, &stats);
    *r = (struct tenant_delete_report){.series = stats.series_active,
                                       .samples = stats.block_samples + stats.head_samples,
                                       .blocks = stats.blocks,
                                       .bytes = stats.block_bytes};
    struct view *view = views_take(&t->views);
    for (size_t i = 0; i < view->n_blocks; i++)
        r->series = MAX_OF(r->series, block_info(view->blocks[i])->n_series);
    views_give(&t->views, view);
    if (tenant_select(t, NULL, 0, INT64_MIN, INT64_MAX, &sel, &ignored)) return;
    r->series = select_count(sel);
    select_release(sel);
}

static void set_state(struct tenant *t, enum tenant_state state)
{
    rwlock_write(&t->gate);
    atomic_store(&t->state, state);
    rwlock_release(&t->gate);
}

/* What a failed transaction left is known once another one succeeds: then the failed one was undone. */
static bool resolve(struct tenant *t)
{
    struct err ignored; /* it stays in doubt */
    struct catalog_change nothing = {.incarnation = t->incarnation};
    if (catalog_apply(t->engine->catalog, &nothing, &ignored)) return false;
    set_state(t, TENANT_ALIVE);
    return true;
}

enum err_code engine_resolve_doubts(struct engine *e, struct err *err)
{
    struct tenant *t;
    (void)err;
    for (size_t i = 0; (t = engine_tenant_at(e, i)) != NULL; i++) {
        if (LIKELY(atomic_load_explicit(&t->state, memory_order_relaxed) != TENANT_DOUBTFUL))
            continue;
        lock_take(&t->flush_lock);
        if (atomic_load(&t->state) == TENANT_DOUBTFUL) (void)resolve(t);
        lock_release(&t->flush_lock);
    }
    return ERR_OK;
}

/* A view without blocks and without the head. */
static enum err_code prepare_empty(struct tenant *t, struct view_change *change, struct view **view,
                                   struct err *err)
{
    const struct view *now = t->views.newest;
    struct ulid *all = mem_calloc(MEM_STORAGE, MAX_OF(now->n_blocks, (size_t)1), sizeof(*all));
    if (!all) return err_set(err, ERR_NO_MEMORY, "no memory to delete a tenant");
    for (size_t i = 0; i < now->n_blocks; i++) all[i] = block_info(now->blocks[i])->ulid;
    *change = (struct view_change){.remove = all, .n_remove = now->n_blocks, .flushed_gen = t->gen};
    enum err_code rc = views_prepare(&t->views, change, view, err);
    mem_free(all);
    change->remove = NULL;
    return rc;
}

/* Nobody finds it any more; what it has goes with the last reader. Under the flush lock. */
static void let_go(struct tenant *t, struct view *view)
{
    struct engine *e = t->engine;
    rwlock_write(&t->gate);
    atomic_store(&t->state, TENANT_DELETED);
    t->gen++; /* older ones are swept */
    atomic_store(&t->held_pos, POS_NONE);
    atomic_store(&t->first_pos, POS_NONE);
    atomic_store_explicit(&t->first_arrival_ns, 0, memory_order_relaxed);
    rwlock_release(&t->gate);
    engine_hide_tenant(e, t);
    const struct view *before = t->views.newest;
    for (size_t i = 0; i < before->n_blocks; i++) block_drop_file(before->blocks[i]);
    views_publish(&t->views, view);
    lock_take(&t->tombstones.change);
    tombstones_publish(&t->tombstones, NULL);
    lock_release(&t->tombstones.change);
}

/* Under create_lock: nobody makes a tenant of that name before the old one is gone, and its folders are not in use. */
static enum err_code delete_locked(struct tenant *t, struct err *err)
{
    struct engine *e = t->engine;
    struct view_change change;
    struct view *view = NULL;
    lock_take(&t->flush_lock);
    set_state(t, TENANT_DOUBTFUL);
    enum err_code rc = prepare_empty(t, &change, &view, err);
    if (!rc)
        rc = catalog_delete_tenant(e->catalog, t->incarnation, clock_wall_ms(e->env.clock), err);
    if (rc) {
        views_discard(view, &change);
        (void)resolve(t); /* or engine_step does later */
    } else {
        let_go(t, view);
        exemplars_clear(&t->exemplars);
    }
    lock_release(&t->flush_lock);
    return rc;
}

/* What is still read stays until the next start looks. */
static void clear_folders(struct tenant *t)
{
    struct engine *e = t->engine;
    struct tenant_dir dir;
    struct err ignored;
    if (dir_of(e, tenant_name(t), t->incarnation, &dir, &ignored)) return;
    if (io_exists(e->env.io, dir.dir) && remove_dirs(e, &dir, &ignored)) return;
    err_ignore(catalog_files_gone(e->catalog, t->incarnation, &ignored));
}

enum err_code engine_delete_tenant(struct engine *e, struct str name,
                                   struct tenant_delete_report *report, struct err *err)
{
    *report = (struct tenant_delete_report){0};
    enum err_code rc = tenant_name_check(name, err);
    if (rc) return rc;
    lock_take(&e->create_lock);
    struct tenant *t = engine_find_tenant(e, name);
    if (!t) rc = err_set(err, ERR_NOT_FOUND, "no tenant %.*s", STR_ARG(name));
    if (!rc) count_all(t, report);
    if (!rc) rc = delete_locked(t, err);
    if (!rc) {
        tenant_changed(t, INT64_MIN, INT64_MAX);
        tenant_sweep(t);
        clear_folders(t);
    }
    lock_release(&e->create_lock);
    if (rc) return err_context(err, "deleting a tenant");
    log_msg(e->env.log, LOG_INFO, "tenant deleted", LOG_STR("tenant", tenant_name(t)),
            LOG_U64("series", report->series), LOG_U64("samples", report->samples),
            LOG_U64("blocks", report->blocks), LOG_U64("bytes", report->bytes));
    return ERR_OK;
}

/* ---- at the start ---- */

struct orphan {
    struct engine *engine;
    struct str name;
    bool is_taken; /* by a living tenant */
};

static enum err_code look_at_living(void *ctx, const struct catalog_tenant *row, struct err *err)
{
    struct orphan *o = ctx;
    (void)err;
    o->is_taken |= str_eq(row->name, o->name);
    return ERR_OK;
}

static enum err_code remove_orphans_of(struct engine *e, const struct catalog_deleted_tenant *row,
                                       struct err *err)
{
    struct orphan o = {e, row->name, false};
    struct tenant_dir dir;
    enum err_code rc = catalog_tenants(e->catalog, look_at_living, &o, err);
    if (!rc) rc = dir_of(e, row->name, row->incarnation, &dir, err);
    if (rc) return rc;
    bool has_blocks = io_exists(e->env.io, dir.blocks);
    if (has_blocks) rc = remove_files(e, dir.blocks, o.is_taken ? row->incarnation : 0, err);
    if (!rc && o.is_taken && has_blocks) rc = io_sync_dir(e->env.io, dir.blocks, err);
    if (!rc && !o.is_taken && io_exists(e->env.io, dir.dir)) rc = remove_dirs(e, &dir, err);
    if (!rc) rc = catalog_files_gone(e->catalog, row->incarnation, err);
    return rc;
}

/* What cannot be removed now is tried again by the next start: it is served in no case. */
static enum err_code remove_orphans(void *ctx, const struct catalog_deleted_tenant *row,
                                    struct err *err)
{
    struct engine *e = ctx;
    struct err why;
    (void)err;
    if (row->files_gone) return ERR_OK;
    enum err_code rc = remove_orphans_of(e, row, &why);
    if (rc)
        log_msg(e->env.log, LOG_WARN, "files of a deleted tenant are still there",
                LOG_STR("tenant", row->name), LOG_ERR(&why));
    return ERR_OK;
}

enum err_code engine_remove_orphans(struct engine *e, struct err *err)
{
    return catalog_deleted_tenants(e->catalog, remove_orphans, e, err);
}
