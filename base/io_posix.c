/* base/io_posix.c: the real disk. Short counts and EINTR are repeated here; nothing else is. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"

#define FILE_MODE 0640
#define DIR_MODE 0750

struct posix_file {
    struct file file; /* first */
    int fd;
    int sync_errno; /* of the first failed sync, which is final */
    bool direct;    /* O_DIRECT is set */
};

static struct posix_file *posix_of(struct file *file)
{
    return CONTAINER_OF(file, struct posix_file, file);
}

/* Names the path and the operation. */
static enum err_code fail(struct err *err, const char *what, const char *path)
{
    int sys_errno = errno;
    err_set_errno(err, sys_errno, "%s %s", what, path);
    snprintf(err->file, sizeof(err->file), "%.*s", (int)sizeof(err->file) - 1, path);
    return err->code;
}

static enum err_code fail_at(struct err *err, const char *what, const struct file *file,
                             uint64_t off)
{
    int sys_errno = errno;
    err_set_errno(err, sys_errno, "%s %s", what, file->path);
    return err_at(err, file->path, off);
}

static void posix_close(struct file *file)
{
    struct posix_file *f = posix_of(file);
    close(f->fd); /* what mattered was synced; Linux closes even on an error */
    mem_free(file->path);
    mem_free(f);
}

static enum err_code posix_read_at(struct file *file, uint64_t off, void *p, size_t len, size_t *n,
                                   struct err *err)
{
    size_t done = 0;
    while (done < len) {
        ssize_t k = pread(posix_of(file)->fd, (uint8_t *)p + done, len - done, (off_t)(off + done));
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) return fail_at(err, "read", file, off + done);
        if (k == 0) break;
        done += (size_t)k;
    }
    *n = done;
    return ERR_OK;
}

/* Set after the file is there, since an open that fails for it may have made the file. */
static bool set_direct(int fd, bool direct)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0) return false;
    return fcntl(fd, F_SETFL, direct ? flags | O_DIRECT : flags & ~O_DIRECT) == 0;
}

/* The file system has larger blocks than ours, or another reason to refuse: through the cache, then. True: there is
 * reason to try again. */
static bool stop_direct(struct posix_file *f)
{
    bool was_direct = f->direct;
    f->direct = false;
    return was_direct && set_direct(f->fd, false);
}

static enum err_code posix_write_at(struct file *file, uint64_t off, const void *p, size_t len,
                                    struct err *err)
{
    size_t done = 0;
    while (done < len) {
        ssize_t k =
            pwrite(posix_of(file)->fd, (const uint8_t *)p + done, len - done, (off_t)(off + done));
        if (k < 0 && errno == EINTR) continue;
        if (k < 0 && errno == EINVAL && stop_direct(posix_of(file))) continue;
        if (k == 0) errno = EIO; /* no progress: repeating it would never end */
        if (k <= 0) return fail_at(err, "write", file, off + done);
        done += (size_t)k;
    }
    return ERR_OK;
}

static enum err_code posix_sync(struct file *file, struct err *err)
{
    struct posix_file *f = posix_of(file);
    if (f->sync_errno == 0) {
        int rc;
        do rc = fdatasync(f->fd);
        while (rc != 0 && errno == EINTR);
        if (rc == 0) return ERR_OK;
        f->sync_errno = errno;
    }
    /* The kernel marks pages clean that it could not write: a second fdatasync may succeed and lie. */
    errno = f->sync_errno;
    return fail(err, "sync", file->path);
}

static enum err_code posix_size(struct file *file, uint64_t *size, struct err *err)
{
    struct stat st;
    if (fstat(posix_of(file)->fd, &st) != 0) return fail(err, "stat", file->path);
    *size = (uint64_t)st.st_size;
    return ERR_OK;
}

static enum err_code posix_truncate(struct file *file, uint64_t size, struct err *err)
{
    int rc;
    do rc = ftruncate(posix_of(file)->fd, (off_t)size);
    while (rc != 0 && errno == EINTR);
    return rc == 0 ? ERR_OK : fail_at(err, "truncate", file, size);
}

/* For file systems without fallocate. (glibc's posix_fallocate would write a byte into each block, one
 * call at a time.) */
static enum err_code allocate_by_zeros(struct file *file, uint64_t old_size, uint64_t size,
                                       struct err *err)
{
    static const _Alignas(IO_DIRECT_BYTES) uint8_t zeros[65536];
    for (uint64_t off = old_size; off < size;) {
        size_t n = (size_t)MIN_OF(size - off, (uint64_t)sizeof(zeros));
        enum err_code rc = posix_write_at(file, off, zeros, n, err);
        if (rc) {
            /* All or nothing; if this fails too, the first error is the one to tell. */
            if (ftruncate(posix_of(file)->fd, (off_t)old_size) != 0) errno = 0;
            return rc;
        }
        off += n;
    }
    return ERR_OK;
}

static enum err_code posix_allocate(struct file *file, uint64_t size, struct err *err)
{
    uint64_t old_size = 0;
    enum err_code rc = posix_size(file, &old_size, err);
    if (rc || size <= old_size) return rc;
    int r;
    do r = fallocate(posix_of(file)->fd, 0, (off_t)old_size, (off_t)(size - old_size));
    while (r != 0 && errno == EINTR);
    if (r == 0) return ERR_OK;
    if (errno == EOPNOTSUPP || errno == ENOSYS) return allocate_by_zeros(file, old_size, size, err);
    return fail_at(err, "allocate", file, size);
}

static enum err_code posix_lock(struct file *file, struct err *err)
{
    int rc;
    do rc = flock(posix_of(file)->fd, LOCK_EX | LOCK_NB);
    while (rc != 0 && errno == EINTR);
    if (rc == 0) return ERR_OK;
    if (errno != EWOULDBLOCK) return fail(err, "lock", file->path);
    err_set(err, ERR_BUSY, "%s is locked by another process", file->path);
    snprintf(err->file, sizeof(err->file), "%.*s", (int)sizeof(err->file) - 1, file->path);
    return err->code;
}

static const struct file_ops posix_file_ops = {
    .close = posix_close,
    .read_at = posix_read_at,
    .write_at = posix_write_at,
    .sync = posix_sync,
    .size = posix_size,
    .truncate = posix_truncate,
    .allocate = posix_allocate,
    .lock = posix_lock,
};

static int open_flags(unsigned flags)
{
    int os = O_CLOEXEC;
    if ((flags & IO_READ) && (flags & IO_WRITE))
        os |= O_RDWR;
    else
        os |= flags & IO_WRITE ? O_WRONLY : O_RDONLY;
    if (flags & IO_CREATE) os |= O_CREAT;
    if (flags & IO_EXCL) os |= O_EXCL;
    if (flags & IO_TRUNCATE) os |= O_TRUNC;
    return os;
}

/* A folder opens for reading; it is refused here, and not by a puzzling error at the first read. */
static bool refuse_dir(int fd)
{
    struct stat st;
    if (fstat(fd, &st) != 0) return true;
    if (!S_ISDIR(st.st_mode)) return false;
    errno = EISDIR;
    return true;
}

static enum err_code posix_open(struct io *io, const char *path, unsigned flags, struct file **out,
                                struct err *err)
{
    ASSERT(flags & (IO_READ | IO_WRITE));
    ASSERT(!(flags & IO_EXCL) || (flags & IO_CREATE));
    struct posix_file *f = mem_alloc(MEM_BASE, sizeof(*f));
    char *copy = mem_strdup(MEM_BASE, path);
    enum err_code rc;
    if (!f || !copy) {
        rc = err_set(err, ERR_NO_MEMORY, "no memory to open %s", path);
        goto fail;
    }
    int fd;
    do fd = open(path, open_flags(flags), FILE_MODE);
    while (fd < 0 && errno == EINTR);
    if (fd >= 0 && refuse_dir(fd)) {
        int sys_errno = errno;
        close(fd);
        fd = -1;
        errno = sys_errno;
    }
    if (fd < 0) {
        rc = fail(err, "open", path);
        goto fail;
    }
    bool direct = (flags & IO_DIRECT) && set_direct(fd, true);
    *f = (struct posix_file){{&posix_file_ops, io, copy}, fd, 0, direct};
    *out = &f->file;
    return ERR_OK;
fail:
    mem_free(copy);
    mem_free(f);
    return rc;
}

static enum err_code fail_pair(struct err *err, const char *what, const char *from, const char *to)
{
    int sys_errno = errno;
    err_set_errno(err, sys_errno, "%s %s to %s", what, from, to);
    snprintf(err->file, sizeof(err->file), "%.*s", (int)sizeof(err->file) - 1, from);
    return err->code;
}

static enum err_code posix_rename(struct io *io, const char *from, const char *to, struct err *err)
{
    (void)io;
    return rename(from, to) == 0 ? ERR_OK : fail_pair(err, "rename", from, to);
}

static enum err_code posix_unlink(struct io *io, const char *path, struct err *err)
{
    (void)io;
    return unlink(path) == 0 ? ERR_OK : fail(err, "unlink", path);
}

static enum err_code posix_link(struct io *io, const char *from, const char *to, struct err *err)
{
    (void)io;
    return link(from, to) == 0 ? ERR_OK : fail_pair(err, "link", from, to);
}

static enum err_code posix_mkdir(struct io *io, const char *path, struct err *err)
{
    (void)io;
    return mkdir(path, DIR_MODE) == 0 ? ERR_OK : fail(err, "make folder", path);
}

static enum err_code posix_rmdir(struct io *io, const char *path, struct err *err)
{
    (void)io;
    return rmdir(path) == 0 ? ERR_OK : fail(err, "remove folder", path);
}

static enum err_code posix_sync_dir(struct io *io, const char *path, struct err *err)
{
    (void)io;
    int fd;
    do fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    if (fd < 0) return fail(err, "open folder", path);
    int rc;
    do rc = fsync(fd);
    while (rc != 0 && errno == EINTR);
    enum err_code code = rc == 0 ? ERR_OK : fail(err, "sync folder", path);
    close(fd);
    return code;
}

static bool entry_is_dir(DIR *dir, const struct dirent *e)
{
    if (e->d_type != DT_UNKNOWN) return e->d_type == DT_DIR;
    struct stat st;
    return fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

static enum err_code posix_list(struct io *io, const char *path, io_list_fn *fn, void *ctx,
                                struct err *err)
{
    (void)io;
    DIR *dir = opendir(path);
    if (!dir) return fail(err, "open folder", path);
    enum err_code rc = ERR_OK;
    for (;;) {
        errno = 0;
        struct dirent *e = readdir(dir);
        if (!e) {
            if (errno) rc = fail(err, "list folder", path);
            break;
        }
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        if (!fn(ctx, e->d_name, entry_is_dir(dir, e))) break;
    }
    closedir(dir);
    return rc;
}

static enum err_code posix_stat(struct io *io, const char *path, uint64_t *size, bool *is_dir,
                                struct err *err)
{
    (void)io;
    struct stat st;
    if (stat(path, &st) != 0) return fail(err, "stat", path);
    *is_dir = S_ISDIR(st.st_mode);
    *size = *is_dir ? 0 : (uint64_t)st.st_size;
    return ERR_OK;
}

static enum err_code posix_disk_space(struct io *io, const char *path, uint64_t *free_bytes,
                                      uint64_t *total_bytes, struct err *err)
{
    (void)io;
    struct statvfs st;
    int rc;
    do rc = statvfs(path, &st);
    while (rc != 0 && errno == EINTR);
    if (rc != 0) return fail(err, "ask for the disk space of", path);
    *free_bytes = (uint64_t)st.f_bavail * st.f_frsize; /* without root's reserve */
    *total_bytes = (uint64_t)st.f_blocks * st.f_frsize;
    return ERR_OK;
}

static const struct io_ops posix_ops = {
    .open = posix_open,
    .rename = posix_rename,
    .unlink = posix_unlink,
    .link = posix_link,
    .mkdir = posix_mkdir,
    .rmdir = posix_rmdir,
    .sync_dir = posix_sync_dir,
    .list = posix_list,
    .stat = posix_stat,
    .disk_space = posix_disk_space,
};

struct io *io_posix(void)
{
    static struct io posix = {&posix_ops}; /* never written */
    return &posix;
}
