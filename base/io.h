/* base/io.h: every file operation of the upper layers, as a table of calls (SQLite's VFS idea), so that
 * tests/sim can run the real engine on a simulated disk. Paths are absolute or relative to the process.
 * Threads: any for `struct io`; one `struct file` may be read by many at once (file_read_at) and written
 * by one. Errors: ERR_IO, ERR_NO_SPACE, ERR_NOT_FOUND, ERR_EXISTS, ERR_BUSY, naming the file. */
#ifndef QUIPU_BASE_IO_H
#define QUIPU_BASE_IO_H

#include "base/err.h"

struct io;
struct file;

enum io_flags {
    IO_READ = 1,
    IO_WRITE = 2,
    IO_CREATE = 4, /* if it does not exist */
    IO_EXCL = 8,   /* with IO_CREATE: ERR_EXISTS if it does */
    IO_TRUNCATE = 16,
    /* Advice: past the system's cache, for what is synced at once and not read again. All writes are then of whole
     * blocks of IO_DIRECT_BYTES, at multiples of it, from memory that is aligned to it. */
    IO_DIRECT = 32,
};
#define IO_DIRECT_BYTES 4096

/* One directory entry, in no order, never "." or ".."; `name` is gone after the call. Returning false ends
 * the listing. */
typedef bool io_list_fn(void *ctx, const char *name, bool is_dir);

struct io_ops {
    enum err_code (*open)(struct io *io, const char *path, unsigned flags, struct file **out,
                          struct err *err);
    enum err_code (*rename)(struct io *io, const char *from, const char *to, struct err *err);
    enum err_code (*unlink)(struct io *io, const char *path, struct err *err);
    enum err_code (*link)(struct io *io, const char *from, const char *to, struct err *err);
    enum err_code (*mkdir)(struct io *io, const char *path,
                           struct err *err); /* ERR_EXISTS if there */
    enum err_code (*rmdir)(struct io *io, const char *path, struct err *err);
    enum err_code (*sync_dir)(struct io *io, const char *path, struct err *err);
    enum err_code (*list)(struct io *io, const char *dir, io_list_fn *fn, void *ctx,
                          struct err *err);
    enum err_code (*stat)(struct io *io, const char *path, uint64_t *size, bool *is_dir,
                          struct err *err);
    enum err_code (*disk_space)(struct io *io, const char *path, uint64_t *free_bytes,
                                uint64_t *total_bytes, struct err *err);
};

/* A short read or write of the operating system is repeated inside; what comes back is whole. */
struct file_ops {
    void (*close)(struct file *file);
    /* *n = bytes read, less than len only at the end of the file. */
    enum err_code (*read_at)(struct file *file, uint64_t off, void *p, size_t len, size_t *n,
                             struct err *err);
    enum err_code (*write_at)(struct file *file, uint64_t off, const void *p, size_t len,
                              struct err *err);
    /* Data and size are on the disk afterwards (fdatasync). A failure is final for the file: what was
     * not synced may be gone, and a second call proves nothing. */
    enum err_code (*sync)(struct file *file, struct err *err);
    enum err_code (*size)(struct file *file, uint64_t *size, struct err *err);
    enum err_code (*truncate)(struct file *file, uint64_t size, struct err *err);
    /* Reserves space; the file grows to `size`, new bytes are 0. */
    enum err_code (*allocate)(struct file *file, uint64_t size, struct err *err);
    /* Exclusive advisory lock held until close. ERR_BUSY when another open file holds it. */
    enum err_code (*lock)(struct file *file, struct err *err);
};

struct io {
    const struct io_ops *ops;
};
struct file {
    const struct file_ops *ops;
    struct io *io;
    char *path; /* owned, from mem_alloc(MEM_BASE) */
};

struct io *io_posix(void); /* static */

MUST_USE enum err_code io_open(struct io *io, const char *path, unsigned flags, struct file **out,
                               struct err *err);
void file_close(struct file *file); /* NULL: no-op */
MUST_USE enum err_code file_read_at(struct file *file, uint64_t off, void *p, size_t len, size_t *n,
                                    struct err *err);
/* Exactly len bytes, else ERR_CORRUPT naming file and offset. */
MUST_USE enum err_code file_read_exact(struct file *file, uint64_t off, void *p, size_t len,
                                       struct err *err);
MUST_USE enum err_code file_write_at(struct file *file, uint64_t off, const void *p, size_t len,
                                     struct err *err);
MUST_USE enum err_code file_sync(struct file *file, struct err *err);
MUST_USE enum err_code file_size(struct file *file, uint64_t *size, struct err *err);
MUST_USE enum err_code file_truncate(struct file *file, uint64_t size, struct err *err);
MUST_USE enum err_code file_allocate(struct file *file, uint64_t size, struct err *err);
MUST_USE enum err_code file_lock(struct file *file, struct err *err);

MUST_USE enum err_code io_rename(struct io *io, const char *from, const char *to, struct err *err);
MUST_USE enum err_code io_unlink(struct io *io, const char *path, struct err *err);
MUST_USE enum err_code io_link(struct io *io, const char *from, const char *to, struct err *err);
MUST_USE enum err_code io_mkdir(struct io *io, const char *path, struct err *err);
MUST_USE enum err_code io_rmdir(struct io *io, const char *path, struct err *err);
MUST_USE enum err_code io_sync_dir(struct io *io, const char *path, struct err *err);
MUST_USE enum err_code io_list(struct io *io, const char *dir, io_list_fn *fn, void *ctx,
                               struct err *err);
MUST_USE enum err_code io_stat(struct io *io, const char *path, uint64_t *size, bool *is_dir,
                               struct err *err);
MUST_USE enum err_code io_disk_space(struct io *io, const char *path, uint64_t *free_bytes,
                                     uint64_t *total_bytes, struct err *err);
bool io_exists(struct io *io, const char *path);

/* Makes `path` and what is missing above it; each new folder's parent is synced. */
MUST_USE enum err_code io_mkdir_all(struct io *io, const char *path, struct err *err);
/* Creates `path`.tmp for writing (an older one is replaced). io_publish: rename to `path` (the file must
 * have been synced), then fsync of the folder; the file stays open under the new name. io_discard: closes
 * and unlinks. Temporary files found at start are leftovers: io_remove_temps unlinks `dir`/ *.tmp. */
MUST_USE enum err_code io_create_temp(struct io *io, const char *path, struct file **out,
                                      struct err *err);
MUST_USE enum err_code io_publish(struct io *io, struct file *file, const char *path,
                                  struct err *err);
void io_discard(struct io *io, struct file *file);
MUST_USE enum err_code io_remove_temps(struct io *io, const char *dir, struct err *err);
/* The whole file, from mem_alloc(MEM_BASE), NUL-terminated beyond len; ERR_LIMIT over max_bytes. */
MUST_USE enum err_code io_read_file(struct io *io, const char *path, size_t max_bytes,
                                    uint8_t **out, size_t *len, struct err *err);

/* Joins with one slash into buf; ERR_LIMIT when it does not fit. */
MUST_USE enum err_code io_path(char *buf, size_t size, struct err *err, const char *dir,
                               const char *name);
/* The folder that holds `path`: "." for "name", "/" for "/name"; slashes at the end of `path` do not count. */
MUST_USE enum err_code io_parent(char *buf, size_t size, struct err *err, const char *path);
#define IO_PATH_BYTES 4096

#endif
