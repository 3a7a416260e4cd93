/* base/open_files.c: see the header. The list has the files that are open below, the one used last first. Nothing is
 * opened, closed or read under the lock. */
#include "base/open_files.h"

#include <errno.h>

#include "base/lock.h"
#include "base/mem.h"

struct pooled {
    struct file file; /* first */
    struct open_files *of;
    struct file *inner; /* NULL: closed; GUARDED_BY(of->lock), as all below */
    struct pooled *newer, *older;
    uint32_t n_using;
};

struct open_files {
    struct io io; /* first */
    struct io *below;
    size_t open_max;
    struct lock lock; /* rank LOCK_IO; guards what follows and the files' lists */
    struct pooled *newest, *oldest;
    struct open_files_counts counts;
};

static struct open_files *of_of(struct io *io)
{
    return CONTAINER_OF(io, struct open_files, io);
}
static struct pooled *pooled_of(struct file *file)
{
    return CONTAINER_OF(file, struct pooled, file);
}

/* ---- the list; under the lock ---- */

static void list_remove(struct open_files *of, struct pooled *p)
{
    *(p->newer ? &p->newer->older : &of->newest) = p->older;
    *(p->older ? &p->older->newer : &of->oldest) = p->newer;
    p->newer = p->older = NULL;
}

static void list_add(struct open_files *of, struct pooled *p)
{
    p->older = of->newest;
    *(of->newest ? &of->newest->newer : &of->oldest) = p;
    of->newest = p;
}

/* Takes the inner file of the one that was not used for longest; NULL: all are in use. */
static struct file *take_oldest(struct open_files *of)
{
    struct pooled *p = of->oldest;
    while (p && p->n_using) p = p->newer;
    if (!p) return NULL;
    struct file *inner = p->inner;
    list_remove(of, p);
    p->inner = NULL;
    of->counts.n_open--;
    return inner;
}

/* ---- open and close below ---- */

static void close_down_to(struct open_files *of, size_t n_max)
{
    for (;;) {
        lock_take(&of->lock);
        struct file *inner = of->counts.n_open > n_max ? take_oldest(of) : NULL;
        lock_release(&of->lock);
        if (!inner) return;
        file_close(inner);
    }
}

static enum err_code open_below(struct open_files *of, const char *path, struct file **inner,
                                struct err *err)
{
    close_down_to(of, of->open_max - 1);
    enum err_code rc = io_open(of->below, path, IO_READ, inner, err);
    if (!rc || (err->sys_errno != EMFILE && err->sys_errno != ENFILE)) return rc;
    close_down_to(of, of->open_max / 4); /* somebody else needs them more */
    return io_open(of->below, path, IO_READ, inner, err);
}

/* Keeps the file open until unpin(). */
static enum err_code pin(struct pooled *p, struct file **inner, struct err *err)
{
    struct open_files *of = p->of;
    struct file *fresh = NULL;
    for (;;) {
        lock_take(&of->lock);
        if (!p->inner && fresh) {
            p->inner = fresh;
            fresh = NULL;
            list_add(of, p);
            of->counts.n_open++;
            of->counts.n_reopens++;
        }
        *inner = p->inner;
        if (*inner) {
            p->n_using++;
            list_remove(of, p);
            list_add(of, p);
        }
        lock_release(&of->lock);
        if (*inner) break;
        enum err_code rc = open_below(of, p->file.path, &fresh, err);
        if (rc) return rc;
    }
    file_close(fresh); /* another thread was faster */
    return ERR_OK;
}

static void unpin(struct pooled *p)
{
    lock_take(&p->of->lock);
    p->n_using--;
    lock_release(&p->of->lock);
}

/* ---- files ---- */

static void pooled_close(struct file *file)
{
    struct pooled *p = pooled_of(file);
    struct open_files *of = p->of;
    lock_take(&of->lock);
    struct file *inner = p->inner;
    if (inner) {
        list_remove(of, p);
        of->counts.n_open--;
    }
    of->counts.n_files--;
    lock_release(&of->lock);
    file_close(inner);
    mem_free(file->path);
    mem_free(p);
}

static enum err_code pooled_read_at(struct file *file, uint64_t off, void *p, size_t len, size_t *n,
                                    struct err *err)
{
    struct file *inner;
    enum err_code rc = pin(pooled_of(file), &inner, err);
    if (rc) return rc;
    rc = file_read_at(inner, off, p, len, n, err);
    unpin(pooled_of(file));
    return rc;
}

static enum err_code pooled_size(struct file *file, uint64_t *size, struct err *err)
{
    struct file *inner;
    enum err_code rc = pin(pooled_of(file), &inner, err);
    if (rc) return rc;
    rc = file_size(inner, size, err);
    unpin(pooled_of(file));
    return rc;
}

static enum err_code refuse(struct file *file, struct err *err)
{
    return err_set(err, ERR_INVALID, "%s is open for reading", file->path);
}
static enum err_code pooled_write_at(struct file *file, uint64_t off, const void *p, size_t len,
                                     struct err *err)
{
    (void)off, (void)p, (void)len;
    return refuse(file, err);
}
static enum err_code pooled_resize(struct file *file, uint64_t size, struct err *err)
{
    (void)size;
    return refuse(file, err);
}

static const struct file_ops pooled_ops = {
    .close = pooled_close,
    .read_at = pooled_read_at,
    .write_at = pooled_write_at,
    .sync = refuse,
    .size = pooled_size,
    .truncate = pooled_resize,
    .allocate = pooled_resize,
    .lock = refuse,
};

/* ---- io ---- */

static enum err_code of_open(struct io *io, const char *path, unsigned flags, struct file **out,
                             struct err *err)
{
    struct open_files *of = of_of(io);
    if (flags != IO_READ) return io_open(of->below, path, flags, out, err);
    struct pooled *p = mem_calloc(MEM_BASE, 1, sizeof(*p));
    if (p) p->file = (struct file){&pooled_ops, io, mem_strdup(MEM_BASE, path)};
    if (!p || !p->file.path) {
        mem_free(p);
        return err_set(err, ERR_NO_MEMORY, "no memory to open %s", path);
    }
    p->of = of;
    lock_take(&of->lock);
    of->counts.n_files++;
    lock_release(&of->lock);
    struct file *inner; /* at once: who opens a file wants to know if it is there */
    enum err_code rc = pin(p, &inner, err);
    if (rc) {
        pooled_close(&p->file);
        return rc;
    }
    unpin(p);
    *out = &p->file;
    return ERR_OK;
}

static enum err_code of_rename(struct io *io, const char *from, const char *to, struct err *err)
{
    return io_rename(of_of(io)->below, from, to, err);
}
static enum err_code of_unlink(struct io *io, const char *path, struct err *err)
{
    return io_unlink(of_of(io)->below, path, err);
}
static enum err_code of_link(struct io *io, const char *from, const char *to, struct err *err)
{
    return io_link(of_of(io)->below, from, to, err);
}
static enum err_code of_mkdir(struct io *io, const char *path, struct err *err)
{
    return io_mkdir(of_of(io)->below, path, err);
}
static enum err_code of_rmdir(struct io *io, const char *path, struct err *err)
{
    return io_rmdir(of_of(io)->below, path, err);
}
static enum err_code of_sync_dir(struct io *io, const char *path, struct err *err)
{
    return io_sync_dir(of_of(io)->below, path, err);
}
static enum err_code of_list(struct io *io, const char *path, io_list_fn *fn, void *ctx,
                             struct err *err)
{
    return io_list(of_of(io)->below, path, fn, ctx, err);
}
static enum err_code of_stat(struct io *io, const char *path, uint64_t *size, bool *is_dir,
                             struct err *err)
{
    return io_stat(of_of(io)->below, path, size, is_dir, err);
}
static enum err_code of_disk_space(struct io *io, const char *path, uint64_t *free_bytes,
                                   uint64_t *total_bytes, struct err *err)
{
    return io_disk_space(of_of(io)->below, path, free_bytes, total_bytes, err);
}

static const struct io_ops of_ops = {
    .open = of_open,
    .rename = of_rename,
    .unlink = of_unlink,
    .link = of_link,
    .mkdir = of_mkdir,
    .rmdir = of_rmdir,
    .sync_dir = of_sync_dir,
    .list = of_list,
    .stat = of_stat,
    .disk_space = of_disk_space,
};

struct open_files *open_files_new(struct io *below, size_t open_max)
{
    struct open_files *of = mem_calloc(MEM_BASE, 1, sizeof(*of));
    if (!of) return NULL;
    of->io.ops = &of_ops;
    of->below = below;
    of->open_max = MAX_OF(open_max, (size_t)1);
    lock_init(&of->lock, LOCK_IO);
    return of;
}

void open_files_free(struct open_files *of)
{
    if (!of) return;
    ASSERT(of->counts.n_files == 0);
    lock_destroy(&of->lock);
    mem_free(of);
}

struct io *open_files_io(struct open_files *of)
{
    return &of->io;
}

struct open_files_counts open_files_counts(struct open_files *of)
{
    lock_take(&of->lock);
    struct open_files_counts counts = of->counts;
    lock_release(&of->lock);
    return counts;
}
