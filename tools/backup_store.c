/* tools/backup_store.c */
#include "tools/backup_store.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/file_copy.h"

/* ---- reading ---- */

static int compare_backups(const void *a, const void *b)
{
    return strcmp(((const struct backup *)a)->name, ((const struct backup *)b)->name);
}

static int compare_files(const void *a, const void *b)
{
    return str_cmp(manifest_file_name(*(const struct manifest_file *const *)a),
                   manifest_file_name(*(const struct manifest_file *const *)b));
}

enum err_code store_add(struct backup_store *store, const char *name, struct err *err)
{
    char dir[IO_PATH_BYTES];
    void *items = store->items;
    enum err_code rc =
        mem_grow(MEM_TOOLS, &items, &store->cap, store->n + 1, sizeof(*store->items), err);
    store->items = items;
    if (!rc) rc = io_path(dir, sizeof(dir), err, store->dir, name);
    if (rc) return rc;
    struct backup *b = &store->items[store->n];
    snprintf(b->name, sizeof(b->name), "%s", name);
    manifest_init(&b->manifest);
    rc = manifest_read(store->io, dir, &b->manifest, err);
    if (!rc)
        store->n++;
    else
        manifest_release(&b->manifest);
    return rc == ERR_NOT_FOUND ? ERR_OK : rc; /* somebody's empty folder */
}

static enum err_code index_blocks(struct backup_store *store, struct err *err)
{
    size_t n = 0;
    for (size_t i = 0; i < store->n; i++) n += store->items[i].manifest.n;
    store->known = mem_calloc(MEM_TOOLS, n + 1, sizeof(struct manifest_file *));
    if (!store->known) return err_set(err, ERR_NO_MEMORY, "no memory for %zu files", n);
    for (size_t i = 0; i < store->n; i++) {
        const struct manifest *m = &store->items[i].manifest;
        for (size_t k = 0; k < m->n; k++)
            if (m->files[k].shared) store->known[store->n_known++] = &m->files[k];
    }
    qsort(store->known, store->n_known, sizeof(struct manifest_file *), compare_files);
    return ERR_OK;
}

static enum err_code load(struct backup_store *store, struct err *err)
{
    struct buf names;
    buf_init(&names, MEM_TOOLS);
    enum err_code rc = file_names(store->io, store->dir, &names, err);
    for (size_t off = 0; !rc && off < names.len;) {
        char *name = (char *)names.p + off;
        size_t len = strlen(name);
        off += len + 1;
        if (len == 0 || name[len - 1] != '/') continue;
        name[len - 1] = 0;
        if (backup_name_is(str_of(name))) rc = store_add(store, name, err);
    }
    buf_release(&names);
    if (!rc && store->n) qsort(store->items, store->n, sizeof(*store->items), compare_backups);
    return rc ? rc : index_blocks(store, err);
}

const struct manifest_file *store_find(const struct backup_store *store, struct str name)
{
    struct manifest_file want = {.path = name};
    const struct manifest_file *key = &want, *const *found =
                                                 store->n_known
                                                     ? bsearch(&key, store->known, store->n_known,
                                                               sizeof(struct manifest_file *),
                                                               compare_files)
                                                     : NULL;
    return found ? *found : NULL;
}

enum err_code store_file_path(const struct backup_store *store, const struct backup *backup,
                              const struct manifest_file *file, char *out, struct err *err)
{
    struct str name = manifest_file_name(file);
    int n = file->shared ? snprintf(out, IO_PATH_BYTES, "%s/%.*s", store->blocks, STR_ARG(name))
                         : snprintf(out, IO_PATH_BYTES, "%s/%s/%.*s", store->dir, backup->name,
                                    STR_ARG(file->path));
    return n > 0 && n < IO_PATH_BYTES ? ERR_OK : err_set(err, ERR_LIMIT, "a path is too long");
}

static enum err_code set_dir(struct backup_store *store, struct io *io, const char *dir,
                             struct err *err)
{
    *store = (struct backup_store){.io = io};
    int n = snprintf(store->dir, sizeof(store->dir), "%s", dir);
    if (n < 0 || (size_t)n >= sizeof(store->dir))
        return err_set(err, ERR_LIMIT, "a path is too long");
    return io_path(store->blocks, sizeof(store->blocks), err, dir, BACKUP_BLOCKS);
}

enum err_code store_open_to_read(struct backup_store *store, struct io *io, const char *dir,
                                 struct err *err)
{
    enum err_code rc = set_dir(store, io, dir, err);
    if (!rc && !io_exists(io, dir)) rc = err_set(err, ERR_NOT_FOUND, "no folder %s", dir);
    if (!rc) rc = load(store, err);
    if (rc) store_close(store);
    return rc;
}

/* ---- writing ---- */

static bool is_unfinished(struct str name)
{
    if (!str_has_suffix(name, STR(".tmp/"))) return false;
    name.len -= strlen(".tmp/");
    return backup_name_is(name);
}

static enum err_code remove_unfinished(struct backup_store *store, struct err *err)
{
    struct buf names;
    buf_init(&names, MEM_TOOLS);
    enum err_code rc = file_names(store->io, store->dir, &names, err);
    for (size_t off = 0; !rc && off < names.len;) {
        char *name = (char *)names.p + off, path[IO_PATH_BYTES];
        size_t len = strlen(name);
        off += len + 1;
        if (!is_unfinished(str_of(name))) continue;
        name[len - 1] = 0;
        rc = io_path(path, sizeof(path), err, store->dir, name);
        if (!rc) rc = file_remove_tree(store->io, path, err);
    }
    buf_release(&names);
    return rc;
}

enum err_code store_open_to_write(struct backup_store *store, struct io *io, const char *dir,
                                  struct err *err)
{
    char path[IO_PATH_BYTES];
    enum err_code rc = set_dir(store, io, dir, err);
    if (!rc) rc = io_mkdir_all(io, store->blocks, err);
    if (!rc) rc = io_path(path, sizeof(path), err, dir, "LOCK");
    if (!rc) rc = io_open(io, path, IO_READ | IO_WRITE | IO_CREATE, &store->lock, err);
    if (!rc) rc = file_lock(store->lock, err);
    if (rc == ERR_BUSY) err_context(err, "another backup to %s is at work", dir);
    if (!rc) rc = load(store, err);
    if (!rc) rc = remove_unfinished(store, err);
    if (!rc) rc = io_remove_temps(io, store->blocks, err);
    if (rc) store_close(store);
    return rc;
}

void store_close(struct backup_store *store)
{
    for (size_t i = 0; i < store->n; i++) manifest_release(&store->items[i].manifest);
    mem_free(store->items);
    mem_free(store->known);
    file_close(store->lock);
    store->items = NULL;
    store->known = NULL;
    store->lock = NULL;
    store->n = store->n_known = 0;
}

/* ---- pruning ---- */

static enum err_code remove_backup(struct backup_store *store, const struct backup *b,
                                   struct err *err)
{
    char dir[IO_PATH_BYTES], temp[IO_PATH_BYTES + 8];
    enum err_code rc = io_path(dir, sizeof(dir), err, store->dir, b->name);
    if (rc) return rc;
    /* Another name first: a backup that lacks files may not look like one. */
    snprintf(temp, sizeof(temp), "%s.tmp", dir);
    rc = io_rename(store->io, dir, temp, err);
    if (!rc) rc = io_sync_dir(store->io, store->dir, err);
    return rc ? rc : file_remove_tree(store->io, temp, err);
}

static enum err_code remove_unused_blocks(struct backup_store *store, struct store_prune_report *r,
                                          struct err *err)
{
    struct buf names;
    buf_init(&names, MEM_TOOLS);
    enum err_code rc = file_names(store->io, store->blocks, &names, err);
    for (size_t off = 0; !rc && off < names.len;) {
        const char *name = (const char *)names.p + off;
        char path[IO_PATH_BYTES];
        uint64_t bytes;
        bool is_dir;
        off += strlen(name) + 1;
        if (!str_has_suffix(str_of(name), STR(".block")) || store_find(store, str_of(name)))
            continue;
        rc = io_path(path, sizeof(path), err, store->blocks, name);
        if (!rc) rc = io_stat(store->io, path, &bytes, &is_dir, err);
        if (!rc) rc = io_unlink(store->io, path, err);
        if (rc) break;
        r->blocks++;
        r->bytes += bytes;
    }
    buf_release(&names);
    return rc;
}

enum err_code store_prune(struct backup_store *store, size_t keep, struct store_prune_report *r,
                          struct err *err)
{
    *r = (struct store_prune_report){0};
    qsort(store->items, store->n, sizeof(*store->items), compare_backups);
    size_t n = store->n > keep ? store->n - keep : 0;
    enum err_code rc = ERR_OK;
    for (size_t i = 0; !rc && i < n; i++) {
        rc = remove_backup(store, &store->items[i], err);
        if (!rc) r->backups++;
    }
    if (rc) return rc;
    for (size_t i = 0; i < n; i++) manifest_release(&store->items[i].manifest);
    memmove(store->items, store->items + n, (store->n - n) * sizeof(*store->items));
    store->n -= n;
    mem_free(store->known);
    store->known = NULL;
    store->n_known = 0;
    rc = index_blocks(store, err);
    if (!rc) rc = remove_unused_blocks(store, r, err);
    return rc ? rc : io_sync_dir(store->io, store->dir, err);
}
