/* base/io.c: what every `struct io` shares, made of its operations alone. */
#include "base/io.h"

#include <errno.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/mem.h"

enum err_code io_open(struct io *io, const char *path, unsigned flags, struct file **out,
                      struct err *err)
{
    *out = NULL;
    return io->ops->open(io, path, flags, out, err);
}

void file_close(struct file *file)
{
    if (file) file->ops->close(file);
}

enum err_code file_read_at(struct file *file, uint64_t off, void *p, size_t len, size_t *n,
                           struct err *err)
{
    *n = 0;
    return file->ops->read_at(file, off, p, len, n, err);
}

enum err_code file_read_exact(struct file *file, uint64_t off, void *p, size_t len, struct err *err)
{
    size_t n;
    enum err_code rc = file_read_at(file, off, p, len, &n, err);
    if (rc) return rc;
    if (n == len) return ERR_OK;
    err_set(err, ERR_CORRUPT, "%s is cut short: %zu of %zu bytes", file->path, n, len);
    return err_at(err, file->path, off + n);
}

enum err_code file_write_at(struct file *file, uint64_t off, const void *p, size_t len,
                            struct err *err)
{
    return file->ops->write_at(file, off, p, len, err);
}

enum err_code file_sync(struct file *file, struct err *err)
{
    return file->ops->sync(file, err);
}

enum err_code file_size(struct file *file, uint64_t *size, struct err *err)
{
    *size = 0;
    return file->ops->size(file, size, err);
}

enum err_code file_truncate(struct file *file, uint64_t size, struct err *err)
{
    return file->ops->truncate(file, size, err);
}

enum err_code file_allocate(struct file *file, uint64_t size, struct err *err)
{
    return file->ops->allocate(file, size, err);
}

enum err_code file_lock(struct file *file, struct err *err)
{
    return file->ops->lock(file, err);
}

enum err_code io_rename(struct io *io, const char *from, const char *to, struct err *err)
{
    return io->ops->rename(io, from, to, err);
}

enum err_code io_unlink(struct io *io, const char *path, struct err *err)
{
    return io->ops->unlink(io, path, err);
}

enum err_code io_link(struct io *io, const char *from, const char *to, struct err *err)
{
    return io->ops->link(io, from, to, err);
}

enum err_code io_mkdir(struct io *io, const char *path, struct err *err)
{
    return io->ops->mkdir(io, path, err);
}

enum err_code io_rmdir(struct io *io, const char *path, struct err *err)
{
    return io->ops->rmdir(io, path, err);
}

enum err_code io_sync_dir(struct io *io, const char *path, struct err *err)
{
    return io->ops->sync_dir(io, path, err);
}

enum err_code io_list(struct io *io, const char *dir, io_list_fn *fn, void *ctx, struct err *err)
{
    return io->ops->list(io, dir, fn, ctx, err);
}

enum err_code io_stat(struct io *io, const char *path, uint64_t *size, bool *is_dir,
                      struct err *err)
{
    *size = 0;
    *is_dir = false;
    return io->ops->stat(io, path, size, is_dir, err);
}

enum err_code io_disk_space(struct io *io, const char *path, uint64_t *free_bytes,
                            uint64_t *total_bytes, struct err *err)
{
    *free_bytes = *total_bytes = 0;
    return io->ops->disk_space(io, path, free_bytes, total_bytes, err);
}

bool io_exists(struct io *io, const char *path)
{
    uint64_t size;
    bool is_dir;
    struct err err; /* not there, or cannot be seen: the same to the caller */
    return io_stat(io, path, &size, &is_dir, &err) == ERR_OK;
}

static enum err_code copy_path(char *buf, size_t size, const char *path, size_t len,
                               struct err *err)
{
    if (len >= size) return err_set(err, ERR_LIMIT, "path of %zu bytes is too long", len);
    memcpy(buf, path, len);
    buf[len] = 0;
    return ERR_OK;
}

enum err_code io_parent(char *buf, size_t size, struct err *err, const char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    while (n > 0 && path[n - 1] != '/') n--;
    if (n == 0) return copy_path(buf, size, ".", 1, err);
    while (n > 1 && path[n - 1] == '/') n--;
    return copy_path(buf, size, path, n, err);
}

static enum err_code make_dir_synced(struct io *io, const char *path, struct err *err)
{
    enum err_code rc = io_mkdir(io, path, err);
    if (rc) return rc;
    char parent[IO_PATH_BYTES];
    rc = io_parent(parent, sizeof(parent), err, path);
    if (rc) return rc;
    return io_sync_dir(io, parent, err);
}

/* Whether the process that made `path` lived long enough to sync its parent is not known: sync again. */
static enum err_code check_dir(struct io *io, const char *path, struct err *err)
{
    uint64_t size;
    bool is_dir;
    enum err_code rc = io_stat(io, path, &size, &is_dir, err);
    if (rc) return rc;
    if (!is_dir) return err_set(err, ERR_EXISTS, "%s is not a folder", path);
    char parent[IO_PATH_BYTES];
    rc = io_parent(parent, sizeof(parent), err, path);
    if (rc) return rc;
    /* A parent that we may not open is the administrator's, and older than we are. */
    rc = io_sync_dir(io, parent, err);
    return rc && (err->sys_errno == EACCES || err->sys_errno == EPERM) ? ERR_OK : rc;
}

enum err_code io_mkdir_all(struct io *io, const char *path, struct err *err)
{
    char part[IO_PATH_BYTES];
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    for (size_t i = 1; i < n; i++) {
        if (path[i] != '/' || path[i - 1] == '/') continue;
        enum err_code rc = copy_path(part, sizeof(part), path, i, err);
        if (rc) return rc;
        rc = io_exists(io, part) ? ERR_EXISTS : make_dir_synced(io, part, err);
        if (rc == ERR_EXISTS) rc = check_dir(io, part, err);
        if (rc) return rc;
    }
    enum err_code rc = copy_path(part, sizeof(part), path, n, err);
    if (rc) return rc;
    if (io_exists(io, part)) return check_dir(io, part, err);
    rc = make_dir_synced(io, part, err);
    return rc == ERR_EXISTS ? check_dir(io, part, err) : rc;
}

#define TEMP_SUFFIX ".tmp"

enum err_code io_create_temp(struct io *io, const char *path, struct file **out, struct err *err)
{
    *out = NULL;
    char temp[IO_PATH_BYTES];
    int n = snprintf(temp, sizeof(temp), "%s" TEMP_SUFFIX, path);
    if (n < 0 || (size_t)n >= sizeof(temp))
        return err_set(err, ERR_LIMIT, "path of %zu bytes is too long", strlen(path));
    const unsigned flags = IO_READ | IO_WRITE | IO_CREATE | IO_EXCL;
    enum err_code rc = io_open(io, temp, flags, out, err);
    if (rc != ERR_EXISTS) return rc;
    /* Not truncated: the leftover may have another name by now. */
    rc = io_unlink(io, temp, err);
    if (rc && rc != ERR_NOT_FOUND) return rc;
    return io_open(io, temp, flags, out, err);
}

static bool is_temp(const char *path)
{
    return str_has_suffix(str_of(path), STR(TEMP_SUFFIX));
}

enum err_code io_publish(struct io *io, struct file *file, const char *path, struct err *err)
{
    ASSERT(is_temp(file->path));
    char parent[IO_PATH_BYTES];
    enum err_code rc = io_parent(parent, sizeof(parent), err, path);
    if (rc) return rc;
    char *published = mem_strdup(MEM_BASE, path);
    if (!published) return err_set(err, ERR_NO_MEMORY, "no memory to publish %s", path);
    rc = io_rename(io, file->path, path, err);
    if (rc) {
        mem_free(published);
        return rc;
    }
    mem_free(file->path);
    file->path = published;
    return io_sync_dir(io, parent, err);
}

void io_discard(struct io *io, struct file *file)
{
    if (!file) return;
    if (is_temp(file->path)) {
        struct err ignored; /* a leftover goes at the next start: io_remove_temps */
        err_ignore(io_unlink(io, file->path, &ignored));
    }
    file_close(file);
}

struct temp_name {
    struct temp_name *next;
    struct str path;
};
struct temp_list {
    struct arena arena;
    const char *dir;
    struct temp_name *first;
    struct err *err;
    enum err_code rc;
};

static bool collect_temp(void *ctx, const char *name, bool is_dir)
{
    struct temp_list *list = ctx;
    if (is_dir || !is_temp(name)) return true;
    char path[IO_PATH_BYTES];
    list->rc = io_path(path, sizeof(path), list->err, list->dir, name);
    if (list->rc) return false;
    struct temp_name *item = ARENA_NEW(&list->arena, struct temp_name);
    struct str copy = arena_str(&list->arena, str_of(path));
    if (!item || !copy.p) {
        list->rc = arena_fail(&list->arena, list->err);
        return false;
    }
    *item = (struct temp_name){list->first, copy};
    list->first = item;
    return true;
}

enum err_code io_remove_temps(struct io *io, const char *dir, struct err *err)
{
    struct temp_list list = {.dir = dir, .err = err};
    arena_init(&list.arena, MEM_BASE, 0);
    /* Not unlinked while listing: POSIX leaves open what a listing shows then. */
    enum err_code rc = io_list(io, dir, collect_temp, &list, err);
    if (!rc) rc = list.rc;
    for (struct temp_name *t = list.first; t && !rc; t = t->next) {
        rc = io_unlink(io, t->path.p, err);
        if (rc == ERR_NOT_FOUND) rc = ERR_OK;
    }
    arena_release(&list.arena);
    return rc;
}

static enum err_code read_open_file(struct file *file, size_t max_bytes, uint8_t **out, size_t *len,
                                    struct err *err)
{
    uint64_t size;
    enum err_code rc = file_size(file, &size, err);
    if (rc) return rc;
    if (size > max_bytes)
        return err_set(err, ERR_LIMIT, "%s has %llu bytes, more than %zu", file->path,
                       (unsigned long long)size, max_bytes);
    uint8_t *p = mem_alloc(MEM_BASE, (size_t)size + 1);
    if (!p)
        return err_set(err, ERR_NO_MEMORY, "no memory for the %llu bytes of %s",
                       (unsigned long long)size, file->path);
    rc = file_read_at(file, 0, p, (size_t)size, len, err);
    if (rc) {
        mem_free(p);
        return rc;
    }
    p[*len] = 0;
    *out = p;
    return ERR_OK;
}

enum err_code io_read_file(struct io *io, const char *path, size_t max_bytes, uint8_t **out,
                           size_t *len, struct err *err)
{
    *out = NULL;
    *len = 0;
    struct file *file;
    enum err_code rc = io_open(io, path, IO_READ, &file, err);
    if (rc) return rc;
    rc = read_open_file(file, max_bytes, out, len, err);
    file_close(file);
    return rc;
}

enum err_code io_path(char *buf, size_t size, struct err *err, const char *dir, const char *name)
{
    size_t n = strlen(dir);
    const char *slash = n == 0 || dir[n - 1] == '/' ? "" : "/";
    int total = snprintf(buf, size, "%s%s%s", dir, slash, name);
    if (total < 0 || (size_t)total >= size)
        return err_set(err, ERR_LIMIT, "path of %d bytes is too long", total);
    return ERR_OK;
}
