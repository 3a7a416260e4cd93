/* storage/sqlite_vfs.c: see the header for the promises. Names and duties of the functions are those of SQLite's
 * sqlite3_vfs and sqlite3_io_methods (https://sqlite.org/c3ref/vfs.html, io_methods.html), version 1: no
 * shared memory, no mapping. */
#include "storage/sqlite_vfs.h"

#include <errno.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <sys/random.h>

#include "base/bytes.h"
#include "base/crc32c.h"

/* Large enough for any disk; journal headers are aligned to it. */
#define VFS_SECTOR_BYTES 4096
/* The epoch of 1970 as a Julian day number, in ms. */
#define JULIAN_EPOCH_MS INT64_C(210866760000000)

struct sqlite_vfs {
    sqlite3_vfs base; /* first */
    struct sqlite_vfs_config config;
    struct err last_err;
    char name[32];
};

struct vfs_file {
    sqlite3_file base; /* first */
    struct sqlite_vfs *vfs;
    struct file *file; /* NULL: a temporary one, in memory */
    struct buf memory;
    int lock_level;
    bool locked;       /* file_lock is held until close */
    bool sync_dir_due; /* with the next sync */
    bool sync_failed;
    bool delete_on_close;
    bool checksummed; /* a database file whose pages carry checksums */
};

static struct sqlite_vfs *vfs_of(sqlite3_vfs *base)
{
    return CONTAINER_OF(base, struct sqlite_vfs, base);
}

static struct vfs_file *file_of(sqlite3_file *base)
{
    return CONTAINER_OF(base, struct vfs_file, base);
}

/* SQLite's code for our error: `io_code` unless there is a better word. */
static int fail(struct sqlite_vfs *vfs, const struct err *err, int io_code)
{
    vfs->last_err = *err;
    switch (err->code) {
    case ERR_NO_SPACE: return SQLITE_FULL;
    case ERR_NO_MEMORY: return SQLITE_IOERR_NOMEM;
    case ERR_BUSY: return SQLITE_BUSY;
    default: return io_code;
    }
}

/* ---- page checksums ---- */

#define PAGE_BODY_BYTES (SQLITE_VFS_PAGE_BYTES - SQLITE_VFS_RESERVED_BYTES)
#define HEADER_RESERVED_OFF 20 /* in the first page: how many bytes of each page SQLite leaves */

void sqlite_page_seal(uint8_t *page, uint32_t number)
{
    put_u32_le(page + PAGE_BODY_BYTES, number);
    put_u32_le(page + PAGE_BODY_BYTES + 4, crc32c(0, page, PAGE_BODY_BYTES + 4));
}

bool sqlite_page_good(const uint8_t *page, uint32_t number)
{
    return get_u32_le(page + PAGE_BODY_BYTES) == number &&
           get_u32_le(page + PAGE_BODY_BYTES + 4) == crc32c(0, page, PAGE_BODY_BYTES + 4);
}

/* The byte that says so may be the one that is damaged: then the checksum fits what it was. */
enum err_code sqlite_vfs_pages(struct file *file, enum sqlite_pages *out, struct err *err)
{
    uint8_t page[SQLITE_VFS_PAGE_BYTES];
    size_t n;
    *out = SQLITE_PAGES_EMPTY;
    enum err_code rc = file_read_at(file, 0, page, sizeof(page), &n, err);
    if (rc || n == 0) return rc;
    *out = SQLITE_PAGES_PLAIN;
    if (n <= HEADER_RESERVED_OFF) return ERR_OK;
    bool told = page[HEADER_RESERVED_OFF] == SQLITE_VFS_RESERVED_BYTES;
    page[HEADER_RESERVED_OFF] = SQLITE_VFS_RESERVED_BYTES;
    if (told || (n == sizeof(page) && sqlite_page_good(page, 1))) *out = SQLITE_PAGES_CHECKSUMMED;
    return ERR_OK;
}

static bool is_page(size_t len, uint64_t off)
{
    return len == SQLITE_VFS_PAGE_BYTES && off % SQLITE_VFS_PAGE_BYTES == 0;
}

static int bad_page(struct vfs_file *f, uint64_t off, const char *what)
{
    struct err *err = &f->vfs->last_err;
    err_set(err, ERR_CORRUPT, "%s, page %" PRIu64, what, off / SQLITE_VFS_PAGE_BYTES + 1);
    err_at(err, f->file->path, off);
    return SQLITE_IOERR_DATA;
}

/* What SQLite reads besides whole pages is a part of the first one, before it reads that. */
static int check_read(struct vfs_file *f, const uint8_t *p, size_t len, size_t n, uint64_t off)
{
    if (len < SQLITE_VFS_PAGE_BYTES && off < SQLITE_VFS_PAGE_BYTES) return SQLITE_OK;
    if (!is_page(len, off)) return bad_page(f, off, "pages of another size than were written");
    if (n < len) return bad_page(f, off, "the file is cut off");
    if (!sqlite_page_good(p, (uint32_t)(off / SQLITE_VFS_PAGE_BYTES + 1)))
        return bad_page(f, off, "checksum of a page");
    return SQLITE_OK;
}

/* ---- files ---- */

static int vfs_close(sqlite3_file *base)
{
    struct vfs_file *f = file_of(base);
    if (f->file && f->delete_on_close) {
        struct err err; /* a leftover, which SQLite finds and judges at the next open */
        err_ignore(io_unlink(f->vfs->config.io, f->file->path, &err));
    }
    file_close(f->file);
    buf_release(&f->memory);
    return SQLITE_OK;
}

static int vfs_read(sqlite3_file *base, void *p, int amount, sqlite3_int64 off)
{
    struct vfs_file *f = file_of(base);
    size_t len = (size_t)amount, n = 0;
    struct err err;
    if (!f->file) {
        if ((uint64_t)off < f->memory.len) n = MIN_OF(len, f->memory.len - (size_t)off);
        if (n) memcpy(p, f->memory.p + off, n);
    } else if (file_read_at(f->file, (uint64_t)off, p, len, &n, &err)) {
        return fail(f->vfs, &err, SQLITE_IOERR_READ);
    }
    if (f->checksummed) {
        int rc = check_read(f, p, len, n, (uint64_t)off);
        if (rc) return rc;
    }
    if (n == len) return SQLITE_OK;
    memset((uint8_t *)p + n, 0, len - n); /* as SQLite demands */
    return SQLITE_IOERR_SHORT_READ;
}

static int write_memory(struct vfs_file *f, const void *p, size_t len, uint64_t off)
{
    struct buf *m = &f->memory;
    size_t end;
    if (__builtin_add_overflow((size_t)off, len, &end)) return SQLITE_FULL;
    if (end > m->len) {
        uint8_t *room = buf_reserve(m, end - m->len);
        if (!room) {
            m->failed = false; /* nothing was dropped: the write is refused */
            return SQLITE_IOERR_NOMEM;
        }
        memset(room, 0, end - m->len);
        m->len = end;
    }
    memcpy(m->p + off, p, len);
    return SQLITE_OK;
}

static int vfs_write(sqlite3_file *base, const void *p, int amount, sqlite3_int64 off)
{
    struct vfs_file *f = file_of(base);
    struct err err;
    if (!f->file) return write_memory(f, p, (size_t)amount, (uint64_t)off);
    if (f->sync_failed) return SQLITE_IOERR_WRITE; /* so that no second commit can be in doubt */
    uint8_t page[SQLITE_VFS_PAGE_BYTES];           /* SQLite goes on to use its own bytes */
    if (f->checksummed && is_page((size_t)amount, (uint64_t)off)) {
        memcpy(page, p, sizeof(page));
        sqlite_page_seal(page, (uint32_t)(off / SQLITE_VFS_PAGE_BYTES + 1));
        p = page;
    }
    if (file_write_at(f->file, (uint64_t)off, p, (size_t)amount, &err))
        return fail(f->vfs, &err, SQLITE_IOERR_WRITE);
    return SQLITE_OK;
}

static int vfs_truncate(sqlite3_file *base, sqlite3_int64 size)
{
    struct vfs_file *f = file_of(base);
    struct err err;
    if (!f->file) {
        f->memory.len = (size_t)MIN_OF((uint64_t)size, (uint64_t)f->memory.len);
        return SQLITE_OK;
    }
    if (file_truncate(f->file, (uint64_t)size, &err))
        return fail(f->vfs, &err, SQLITE_IOERR_TRUNCATE);
    return SQLITE_OK;
}

static int sync_parent(struct sqlite_vfs *vfs, const char *path)
{
    char parent[IO_PATH_BYTES];
    struct err err;
    enum err_code rc = io_parent(parent, sizeof(parent), &err, path);
    if (!rc) rc = io_sync_dir(vfs->config.io, parent, &err);
    return rc ? fail(vfs, &err, SQLITE_IOERR_DIR_FSYNC) : SQLITE_OK;
}

static int vfs_sync(sqlite3_file *base, int flags)
{
    (void)flags; /* every sync is a full one */
    struct vfs_file *f = file_of(base);
    struct err err;
    if (!f->file) return SQLITE_OK;
    if (f->sync_failed) return SQLITE_IOERR_FSYNC;
    f->sync_failed = true; /* until all of it has gone well */
    if (file_sync(f->file, &err)) return fail(f->vfs, &err, SQLITE_IOERR_FSYNC);
    if (f->sync_dir_due) {
        int rc = sync_parent(f->vfs, f->file->path);
        if (rc) return rc;
    }
    f->sync_dir_due = f->sync_failed = false;
    return SQLITE_OK;
}

static int vfs_file_size(sqlite3_file *base, sqlite3_int64 *size)
{
    struct vfs_file *f = file_of(base);
    struct err err;
    uint64_t bytes = f->memory.len;
    if (f->file && file_size(f->file, &bytes, &err)) return fail(f->vfs, &err, SQLITE_IOERR_FSTAT);
    *size = (sqlite3_int64)bytes;
    return SQLITE_OK;
}

/* Any level means ours alone, until close. */
static int vfs_lock(sqlite3_file *base, int level)
{
    struct vfs_file *f = file_of(base);
    struct err err;
    if (f->file && !f->locked) {
        if (file_lock(f->file, &err)) return fail(f->vfs, &err, SQLITE_IOERR_LOCK);
        f->locked = true;
    }
    f->lock_level = MAX_OF(f->lock_level, level);
    return SQLITE_OK;
}

static int vfs_unlock(sqlite3_file *base, int level)
{
    struct vfs_file *f = file_of(base);
    f->lock_level = MIN_OF(f->lock_level, level);
    return SQLITE_OK;
}

static int vfs_check_reserved(sqlite3_file *base, int *out)
{
    *out = file_of(base)->lock_level >= SQLITE_LOCK_RESERVED;
    return SQLITE_OK;
}

static int vfs_file_control(sqlite3_file *base, int op, void *arg)
{
    struct vfs_file *f = file_of(base);
    switch (op) {
    case SQLITE_FCNTL_LOCKSTATE: *(int *)arg = f->lock_level; return SQLITE_OK;
    case SQLITE_FCNTL_LAST_ERRNO: *(int *)arg = f->vfs->last_err.sys_errno; return SQLITE_OK;
    default: return SQLITE_NOTFOUND;
    }
}

static int vfs_sector_size(sqlite3_file *base)
{
    (void)base;
    return VFS_SECTOR_BYTES;
}

static int vfs_characteristics(sqlite3_file *base)
{
    (void)base;
    /* Bytes beside those written keep their values when the power goes: what SQLite takes for granted of any
     * disk on Unix. Without it a commit is padded to whole sectors after its last frame, and a full disk would
     * refuse the padding and leave the commit behind, failed now and done after a restart. */
    return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

static const sqlite3_io_methods vfs_file_methods = {
    .iVersion = 1,
    .xClose = vfs_close,
    .xRead = vfs_read,
    .xWrite = vfs_write,
    .xTruncate = vfs_truncate,
    .xSync = vfs_sync,
    .xFileSize = vfs_file_size,
    .xLock = vfs_lock,
    .xUnlock = vfs_unlock,
    .xCheckReservedLock = vfs_check_reserved,
    .xFileControl = vfs_file_control,
    .xSectorSize = vfs_sector_size,
    .xDeviceCharacteristics = vfs_characteristics,
};

/* ---- the file system ---- */

/* Makes every byte of the file dirty, so that the next sync writes what we read. */
static enum err_code write_again(struct file *file, struct err *err)
{
    enum { PIECE = 65536 };
    uint64_t size;
    enum err_code rc = file_size(file, &size, err);
    if (rc || size == 0) return rc;
    uint8_t *piece = mem_alloc(MEM_CATALOG, PIECE);
    if (!piece) return err_set(err, ERR_NO_MEMORY, "no memory to open %s", file->path);
    for (uint64_t off = 0; off < size && !rc;) {
        size_t n;
        rc = file_read_at(file, off, piece, (size_t)MIN_OF(size - off, (uint64_t)PIECE), &n, err);
        if (!rc && n == 0) break; /* cut short in between: the rest is not there */
        if (!rc) rc = file_write_at(file, off, piece, n, err);
        off += n;
    }
    mem_free(piece);
    return rc ? rc : file_sync(file, err);
}

static unsigned io_flags_of(int flags)
{
    unsigned io_flags = IO_READ;
    if (flags & SQLITE_OPEN_READWRITE) io_flags |= IO_WRITE;
    if (flags & SQLITE_OPEN_CREATE) io_flags |= IO_CREATE;
    if ((flags & SQLITE_OPEN_CREATE) && (flags & SQLITE_OPEN_EXCLUSIVE)) io_flags |= IO_EXCL;
    return io_flags;
}

static int vfs_open(sqlite3_vfs *base, const char *path, sqlite3_file *out, int flags,
                    int *out_flags)
{
    struct sqlite_vfs *vfs = vfs_of(base);
    struct vfs_file *f = file_of(out);
    struct err err;
    memset(f, 0, sizeof(*f)); /* no methods yet: SQLite does not close what did not open */
    f->vfs = vfs;
    buf_init(&f->memory, MEM_CATALOG);
    if (path) {
        enum err_code rc = io_open(vfs->config.io, path, io_flags_of(flags), &f->file, &err);
        bool is_wal = (flags & SQLITE_OPEN_WAL) && (flags & SQLITE_OPEN_READWRITE);
        if (!rc && is_wal) rc = write_again(f->file, &err);
        if (!rc && vfs->config.page_checksums && (flags & SQLITE_OPEN_MAIN_DB)) {
            enum sqlite_pages pages;
            rc = sqlite_vfs_pages(f->file, &pages, &err);
            f->checksummed = pages != SQLITE_PAGES_PLAIN;
        }
        if (rc) {
            file_close(f->file);
            return fail(vfs, &err, SQLITE_CANTOPEN);
        }
        f->sync_dir_due = flags & SQLITE_OPEN_CREATE;
        f->delete_on_close = flags & SQLITE_OPEN_DELETEONCLOSE;
    }
    if (out_flags) *out_flags = flags;
    f->base.pMethods = &vfs_file_methods;
    return SQLITE_OK;
}

static int vfs_delete(sqlite3_vfs *base, const char *path, int sync_dir)
{
    struct sqlite_vfs *vfs = vfs_of(base);
    struct err err;
    enum err_code rc = io_unlink(vfs->config.io, path, &err);
    if (rc == ERR_NOT_FOUND) return SQLITE_IOERR_DELETE_NOENT;
    if (rc) return fail(vfs, &err, SQLITE_IOERR_DELETE);
    return sync_dir ? sync_parent(vfs, path) : SQLITE_OK;
}

/* An empty file counts as none, as in SQLite's own VFS: an empty journal has nothing to roll back. */
static int vfs_access(sqlite3_vfs *base, const char *path, int flags, int *out)
{
    (void)flags; /* what we may not open is told at open */
    struct sqlite_vfs *vfs = vfs_of(base);
    struct err err;
    uint64_t size;
    bool is_dir;
    enum err_code rc = io_stat(vfs->config.io, path, &size, &is_dir, &err);
    *out = rc == ERR_OK && (is_dir || size > 0);
    /* Another failure must not pass for "no journal". */
    return rc && rc != ERR_NOT_FOUND ? fail(vfs, &err, SQLITE_IOERR_ACCESS) : SQLITE_OK;
}

static int vfs_full_path(sqlite3_vfs *base, const char *path, int size, char *out)
{
    (void)base;
    size_t n = strlen(path);
    if (n >= (size_t)size) return SQLITE_CANTOPEN;
    memcpy(out, path, n + 1); /* what is relative is relative to the same place for `struct io` */
    return SQLITE_OK;
}

static int vfs_randomness(sqlite3_vfs *base, int size, char *out)
{
    struct sqlite_vfs *vfs = vfs_of(base);
    size_t len = (size_t)MAX_OF(size, 0), done = 0;
    while (done < len) {
        uint64_t word = 0;
        size_t n = MIN_OF(len - done, sizeof(word));
        if (vfs->config.rng) {
            word = rng_u64(vfs->config.rng);
        } else if (getrandom(&word, sizeof(word), 0) != (ssize_t)sizeof(word)) {
            if (errno == EINTR) continue;
            break;
        }
        memcpy(out + done, &word, n);
        done += n;
    }
    return (int)done;
}

static int vfs_sleep(sqlite3_vfs *base, int us)
{
    struct sqlite_vfs *vfs = vfs_of(base);
    if (vfs->config.clock != clock_system()) return us; /* a fake clock stands still meanwhile */
    sqlite3_vfs *own = sqlite3_vfs_find(NULL);
    return own && own != base ? own->xSleep(own, us) : us;
}

static int vfs_time_int64(sqlite3_vfs *base, sqlite3_int64 *out)
{
    *out = clock_wall_ms(vfs_of(base)->config.clock) + JULIAN_EPOCH_MS;
    return SQLITE_OK;
}

static int vfs_time(sqlite3_vfs *base, double *out)
{
    sqlite3_int64 ms;
    int rc = vfs_time_int64(base, &ms);
    *out = (double)ms / 86400000.0;
    return rc;
}

static int vfs_last_error(sqlite3_vfs *base, int size, char *out)
{
    const struct err *err = &vfs_of(base)->last_err;
    if (size > 0 && out) snprintf(out, (size_t)size, "%s", err->text);
    return err->sys_errno;
}

/* Extensions are not loaded. */
static void *vfs_dl_open(sqlite3_vfs *base, const char *path)
{
    (void)base;
    (void)path;
    return NULL;
}
static void vfs_dl_error(sqlite3_vfs *base, int size, char *out)
{
    (void)base;
    if (size > 0) snprintf(out, (size_t)size, "extensions are not loaded");
}
static void (*vfs_dl_sym(sqlite3_vfs *base, void *handle, const char *name))(void)
{
    (void)base;
    (void)handle;
    (void)name;
    return NULL;
}
static void vfs_dl_close(sqlite3_vfs *base, void *handle)
{
    (void)base;
    (void)handle;
}

enum err_code sqlite_vfs_register(const struct sqlite_vfs_config *config, struct sqlite_vfs **out,
                                  struct err *err)
{
    *out = NULL;
    struct sqlite_vfs *vfs = mem_calloc(MEM_CATALOG, 1, sizeof(*vfs));
    if (!vfs) return err_set(err, ERR_NO_MEMORY, "no memory for SQLite's file system");
    vfs->config = *config;
    if (!vfs->config.clock) vfs->config.clock = clock_system();
    snprintf(vfs->name, sizeof(vfs->name), "quipu-%" PRIxPTR, (uintptr_t)vfs);
    vfs->base = (sqlite3_vfs){
        .iVersion = 2,
        .szOsFile = sizeof(struct vfs_file),
        .mxPathname = IO_PATH_BYTES,
        .zName = vfs->name,
        .xOpen = vfs_open,
        .xDelete = vfs_delete,
        .xAccess = vfs_access,
        .xFullPathname = vfs_full_path,
        .xDlOpen = vfs_dl_open,
        .xDlError = vfs_dl_error,
        .xDlSym = vfs_dl_sym,
        .xDlClose = vfs_dl_close,
        .xRandomness = vfs_randomness,
        .xSleep = vfs_sleep,
        .xCurrentTime = vfs_time,
        .xGetLastError = vfs_last_error,
        .xCurrentTimeInt64 = vfs_time_int64,
    };
    int rc = sqlite3_vfs_register(&vfs->base, 0);
    if (rc) {
        mem_free(vfs);
        return err_set(err, rc == SQLITE_NOMEM ? ERR_NO_MEMORY : ERR_IO,
                       "SQLite did not take our file system: %s", sqlite3_errstr(rc));
    }
    *out = vfs;
    return ERR_OK;
}

void sqlite_vfs_unregister(struct sqlite_vfs *vfs)
{
    if (!vfs) return;
    sqlite3_vfs_unregister(&vfs->base);
    mem_free(vfs);
}

const char *sqlite_vfs_name(const struct sqlite_vfs *vfs)
{
    return vfs->name;
}

const struct err *sqlite_vfs_last_err(const struct sqlite_vfs *vfs)
{
    return &vfs->last_err;
}

void sqlite_vfs_clear_err(struct sqlite_vfs *vfs)
{
    err_clear(&vfs->last_err);
}
