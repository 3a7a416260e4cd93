/* tests/sim/io_sim.c: handles, faults and counters over sim_disk. */
#include "tests/sim/io_sim.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/lock.h"
#include "tests/sim/sim_disk.h"

struct handle {
    struct file file; /* first */
    struct handle *next, **link;
    struct sim_inode *inode; /* NULL: the power was cut since */
    unsigned flags;
};

enum next_kind { NEXT_NONE, NEXT_FAIL, NEXT_BREAK, NEXT_CUT };

struct io_sim {
    struct io io;     /* first */
    struct lock lock; /* rank LOCK_IO; guards all below */
    struct sim_disk disk;
    struct rng rng;
    struct handle *handles;
    bool off, broken;
    enum next_kind next;
    uint64_t next_call; /* counts.calls of the one that it happens at */
    enum io_sim_failure failure;
    struct io_sim_counts counts;
};

static struct io_sim *sim_of(struct io *io)
{
    return CONTAINER_OF(io, struct io_sim, io);
}

static struct handle *handle_of(struct file *file)
{
    return CONTAINER_OF(file, struct handle, file);
}

static enum err_code fail(struct err *err, int sys_errno, const char *what, const char *path)
{
    err_set_errno(err, sys_errno, "%s %s", what, path);
    snprintf(err->file, sizeof(err->file), "%.*s", (int)sizeof(err->file) - 1, path);
    return err->code;
}

/* What becomes of a counted call. */
struct fate {
    int sys_errno; /* 0: nothing special */
    bool part;     /* and do a part of it first */
    bool all;      /* and do all of it first, but durable is nothing */
};

static struct fate count_call(struct io_sim *sim, bool needs_space)
{
    uint64_t call = ++sim->counts.calls;
    if (sim->off || sim->broken) return (struct fate){.sys_errno = EIO};
    if (sim->next == NEXT_NONE || call != sim->next_call) return (struct fate){0};
    enum next_kind kind = sim->next;
    sim->next = NEXT_NONE;
    switch (kind) {
    case NEXT_CUT:
        sim->off = true;
        return (struct fate){EIO, .part = rng_chance(&sim->rng, 0.5),
                             .all = rng_chance(&sim->rng, 0.5)};
    case NEXT_BREAK: sim->broken = true; return (struct fate){.sys_errno = EIO};
    default:
        if (sim->failure == IO_SIM_ENOSPC && needs_space) return (struct fate){.sys_errno = ENOSPC};
        return (struct fate){EIO, .part = sim->failure == IO_SIM_SHORT};
    }
}

/* ---- files ---- */

static void handle_detach(struct io_sim *sim, struct handle *h)
{
    if (!h->inode) return;
    if (h->inode->locker == h) h->inode->locker = NULL;
    sim_close(&sim->disk, h->inode);
    h->inode = NULL;
}

static void sim_file_close(struct file *file)
{
    struct io_sim *sim = sim_of(file->io);
    struct handle *h = handle_of(file);
    lock_take(&sim->lock);
    handle_detach(sim, h);
    *h->link = h->next;
    if (h->next) h->next->link = h->link;
    lock_release(&sim->lock);
    mem_free(file->path);
    free(h);
}

/* Takes the lock; an errno if the handle is dead or was not opened for this. */
static int enter(struct file *file, unsigned needs, struct io_sim **sim, struct handle **h)
{
    *sim = sim_of(file->io);
    *h = handle_of(file);
    lock_take(&(*sim)->lock);
    if (!(*h)->inode) return EIO;
    return (needs & (*h)->flags) == needs ? 0 : EBADF;
}

static enum err_code leave(struct io_sim *sim, struct err *err, int sys_errno, const char *what,
                           const char *path)
{
    lock_release(&sim->lock);
    return sys_errno ? fail(err, sys_errno, what, path) : ERR_OK;
}

static enum err_code sim_file_read(struct file *file, uint64_t off, void *p, size_t len, size_t *n,
                                   struct err *err)
{
    struct io_sim *sim;
    struct handle *h;
    int rc = enter(file, IO_READ, &sim, &h);
    struct fate fate = count_call(sim, false);
    if (!rc) rc = fate.sys_errno;
    if (!rc) {
        *n = sim_read(h->inode, off, p, len);
        sim->counts.reads++;
        sim->counts.read_bytes += *n;
    }
    return leave(sim, err, rc, "read", file->path);
}

static enum err_code sim_file_write(struct file *file, uint64_t off, const void *p, size_t len,
                                    struct err *err)
{
    struct io_sim *sim;
    struct handle *h;
    int rc = enter(file, IO_WRITE, &sim, &h);
    if (!rc && (h->flags & IO_DIRECT)) {
        ASSERT(off % IO_DIRECT_BYTES == 0);
        ASSERT(len % IO_DIRECT_BYTES == 0);
        ASSERT((uintptr_t)p % IO_DIRECT_BYTES == 0);
    }
    struct fate fate = count_call(sim, true);
    size_t todo = len;
    if (fate.sys_errno && !fate.all) todo = fate.part && len ? rng_below(&sim->rng, len) : 0;
    if (!rc) {
        size_t done = sim_write(&sim->disk, h->inode, off, p, todo);
        sim->counts.writes++;
        sim->counts.written_bytes += done;
        rc = done < todo ? ENOSPC : fate.sys_errno;
    }
    return leave(sim, err, rc, "write", file->path);
}

static enum err_code sim_file_sync(struct file *file, struct err *err)
{
    struct io_sim *sim;
    struct handle *h;
    int rc = enter(file, 0, &sim, &h);
    struct fate fate = count_call(sim, false);
    sim->counts.syncs++;
    if (!rc && !fate.sys_errno)
        sim_sync(h->inode);
    else if (!rc && !sim->off) /* the power cut will decide itself */
        sim_sync_failed(h->inode, &sim->rng);
    if (!rc) rc = fate.sys_errno;
    return leave(sim, err, rc, "sync", file->path);
}

static enum err_code sim_file_size(struct file *file, uint64_t *size, struct err *err)
{
    struct io_sim *sim;
    struct handle *h;
    int rc = enter(file, 0, &sim, &h);
    if (!rc && sim->off) rc = EIO;
    if (!rc) *size = h->inode->now_size;
    return leave(sim, err, rc, "stat", file->path);
}

static enum err_code resize(struct file *file, uint64_t size, bool may_shrink, const char *what,
                            struct err *err)
{
    struct io_sim *sim;
    struct handle *h;
    int rc = enter(file, 0, &sim, &h);
    struct fate fate = count_call(sim, true);
    bool changes = !rc && (may_shrink || size > h->inode->now_size);
    if (changes && !(h->flags & IO_WRITE)) rc = EBADF;
    if (!rc && changes && (!fate.sys_errno || fate.all))
        rc = sim_resize(&sim->disk, h->inode, size);
    if (!rc) rc = fate.sys_errno;
    return leave(sim, err, rc, what, file->path);
}

static enum err_code sim_file_truncate(struct file *file, uint64_t size, struct err *err)
{
    return resize(file, size, true, "truncate", err);
}

static enum err_code sim_file_allocate(struct file *file, uint64_t size, struct err *err)
{
    return resize(file, size, false, "allocate", err);
}

static enum err_code sim_file_lock(struct file *file, struct err *err)
{
    struct io_sim *sim;
    struct handle *h;
    int rc = enter(file, 0, &sim, &h);
    if (!rc && sim->off) rc = EIO;
    if (!rc && h->inode->locker && h->inode->locker != h) rc = EBUSY;
    if (!rc) h->inode->locker = h;
    return leave(sim, err, rc, "lock", file->path);
}

static const struct file_ops sim_file_ops = {
    .close = sim_file_close,
    .read_at = sim_file_read,
    .write_at = sim_file_write,
    .sync = sim_file_sync,
    .size = sim_file_size,
    .truncate = sim_file_truncate,
    .allocate = sim_file_allocate,
    .lock = sim_file_lock,
};

/* ---- names ---- */

static int find_or_create(struct io_sim *sim, const char *path, unsigned flags,
                          struct sim_inode **out)
{
    int rc = sim_find(&sim->disk, path, out);
    if (rc == ENOENT && (flags & IO_CREATE)) return sim_create(&sim->disk, path, false, out);
    if (rc) return rc;
    if ((flags & IO_CREATE) && (flags & IO_EXCL)) return EEXIST;
    if ((*out)->is_dir) return EISDIR;
    if (flags & IO_TRUNCATE) return sim_resize(&sim->disk, *out, 0);
    return 0;
}

static enum err_code sim_io_open(struct io *io, const char *path, unsigned flags, struct file **out,
                                 struct err *err)
{
    ASSERT(flags & (IO_READ | IO_WRITE));
    ASSERT(!(flags & IO_EXCL) || (flags & IO_CREATE));
    struct io_sim *sim = sim_of(io);
    char *copy = mem_strdup(MEM_BASE, path);
    if (!copy) return err_set(err, ERR_NO_MEMORY, "no memory to open %s", path);
    struct handle *h = calloc(1, sizeof(*h));
    ASSERT(h != NULL);
    lock_take(&sim->lock);
    struct fate fate = count_call(sim, flags & IO_CREATE);
    int rc = fate.sys_errno;
    if (!rc || fate.all) {
        int open_rc = find_or_create(sim, path, flags, &h->inode);
        if (!rc) rc = open_rc;
    }
    if (!rc) {
        h->file = (struct file){&sim_file_ops, io, copy};
        h->flags = flags;
        sim_open(&sim->disk, h->inode);
        h->link = &sim->handles;
        h->next = sim->handles;
        if (h->next) h->next->link = &h->next;
        sim->handles = h;
        *out = &h->file;
    }
    lock_release(&sim->lock);
    if (!rc) return ERR_OK;
    free(h);
    mem_free(copy);
    return fail(err, rc, "open", path);
}

static enum err_code sim_io_rename(struct io *io, const char *from, const char *to, struct err *err)
{
    struct io_sim *sim = sim_of(io);
    lock_take(&sim->lock);
    struct fate fate = count_call(sim, true);
    int rc = fate.sys_errno;
    if (!rc || fate.all) {
        int op_rc = sim_rename(&sim->disk, from, to);
        if (!rc) rc = op_rc;
    }
    lock_release(&sim->lock);
    if (!rc) return ERR_OK;
    fail(err, rc, "rename", from);
    return err->code;
}

static enum err_code sim_io_link(struct io *io, const char *from, const char *to, struct err *err)
{
    struct io_sim *sim = sim_of(io);
    lock_take(&sim->lock);
    struct fate fate = count_call(sim, true);
    int rc = fate.sys_errno;
    if (!rc || fate.all) {
        int op_rc = sim_link(&sim->disk, from, to);
        if (!rc) rc = op_rc;
    }
    return leave(sim, err, rc, "link", to);
}

static enum err_code sim_io_unlink(struct io *io, const char *path, struct err *err)
{
    struct io_sim *sim = sim_of(io);
    lock_take(&sim->lock);
    struct fate fate = count_call(sim, false);
    int rc = fate.sys_errno;
    if (!rc || fate.all) {
        int op_rc = sim_unlink(&sim->disk, path);
        if (!rc) rc = op_rc;
    }
    return leave(sim, err, rc, "unlink", path);
}

static enum err_code sim_io_mkdir(struct io *io, const char *path, struct err *err)
{
    struct io_sim *sim = sim_of(io);
    lock_take(&sim->lock);
    struct fate fate = count_call(sim, true);
    int rc = fate.sys_errno;
    if (!rc || fate.all) {
        struct sim_inode *inode;
        int op_rc = sim_create(&sim->disk, path, true, &inode);
        if (!rc) rc = op_rc;
    }
    return leave(sim, err, rc, "make folder", path);
}

static enum err_code sim_io_rmdir(struct io *io, const char *path, struct err *err)
{
    struct io_sim *sim = sim_of(io);
    lock_take(&sim->lock);
    struct fate fate = count_call(sim, false);
    int rc = fate.sys_errno;
    if (!rc || fate.all) {
        int op_rc = sim_rmdir(&sim->disk, path);
        if (!rc) rc = op_rc;
    }
    return leave(sim, err, rc, "remove folder", path);
}

static enum err_code sim_io_sync_dir(struct io *io, const char *path, struct err *err)
{
    struct io_sim *sim = sim_of(io);
    lock_take(&sim->lock);
    struct fate fate = count_call(sim, false);
    sim->counts.dir_syncs++;
    struct sim_inode *dir = NULL;
    int rc = fate.sys_errno ? fate.sys_errno : sim_find(&sim->disk, path, &dir);
    if (!rc && !dir->is_dir) rc = ENOTDIR;
    if (!rc) sim_sync_dir(&sim->disk, dir);
    return leave(sim, err, rc, "sync folder", path);
}

struct listed {
    struct str name;
    bool is_dir;
};

/* Copied under the lock, shown without it: fn may call us. */
static struct listed *copy_entries(const struct sim_dir *dir, struct arena *arena)
{
    struct listed *list = ARENA_ARRAY(arena, struct listed, dir->n);
    for (size_t i = 0; list && i < dir->n; i++) {
        list[i].name = arena_str(arena, str_of(dir->entries[i].name));
        list[i].is_dir = dir->entries[i].inode->is_dir;
        if (!list[i].name.p) return NULL;
    }
    return list;
}

static enum err_code sim_io_list(struct io *io, const char *path, io_list_fn *fn, void *ctx,
                                 struct err *err)
{
    struct io_sim *sim = sim_of(io);
    struct arena arena;
    arena_init(&arena, MEM_BASE, 0);
    lock_take(&sim->lock);
    struct fate fate = count_call(sim, false);
    struct sim_inode *dir = NULL;
    int rc = fate.sys_errno ? fate.sys_errno : sim_find(&sim->disk, path, &dir);
    if (!rc && !dir->is_dir) rc = ENOTDIR;
    size_t n = rc ? 0 : dir->now.n;
    struct listed *list = NULL;
    if (!rc && n && !(list = copy_entries(&dir->now, &arena))) rc = ENOMEM;
    lock_release(&sim->lock);
    if (!rc)
        for (size_t i = 0; i < n; i++)
            if (!fn(ctx, list[i].name.p, list[i].is_dir)) break;
    arena_release(&arena);
    return rc ? fail(err, rc, "list folder", path) : ERR_OK;
}

static enum err_code sim_io_stat(struct io *io, const char *path, uint64_t *size, bool *is_dir,
                                 struct err *err)
{
    struct io_sim *sim = sim_of(io);
    lock_take(&sim->lock);
    struct sim_inode *inode;
    int rc = sim->off ? EIO : sim_find(&sim->disk, path, &inode);
    if (!rc) {
        *is_dir = inode->is_dir;
        *size = inode->is_dir ? 0 : inode->now_size;
    }
    return leave(sim, err, rc, "stat", path);
}

static enum err_code sim_io_disk_space(struct io *io, const char *path, uint64_t *free_bytes,
                                       uint64_t *total_bytes, struct err *err)
{
    struct io_sim *sim = sim_of(io);
    lock_take(&sim->lock);
    struct sim_inode *inode;
    int rc = sim->off ? EIO : sim_find(&sim->disk, path, &inode);
    if (!rc) {
        *total_bytes = sim->disk.capacity_bytes;
        *free_bytes = *total_bytes - MIN_OF(*total_bytes, sim->disk.used_bytes);
    }
    return leave(sim, err, rc, "ask for the disk space of", path);
}

static const struct io_ops sim_ops = {
    .open = sim_io_open,
    .rename = sim_io_rename,
    .unlink = sim_io_unlink,
    .link = sim_io_link,
    .mkdir = sim_io_mkdir,
    .rmdir = sim_io_rmdir,
    .sync_dir = sim_io_sync_dir,
    .list = sim_io_list,
    .stat = sim_io_stat,
    .disk_space = sim_io_disk_space,
};

/* ---- control ---- */

struct io_sim *io_sim_new(uint64_t seed)
{
    struct io_sim *sim = calloc(1, sizeof(*sim));
    ASSERT(sim != NULL);
    sim->io.ops = &sim_ops;
    lock_init(&sim->lock, LOCK_IO);
    sim_disk_init(&sim->disk);
    rng_seed(&sim->rng, seed);
    return sim;
}

void io_sim_free(struct io_sim *sim)
{
    if (!sim) return;
    ASSERT(sim->handles == NULL);
    sim_disk_release(&sim->disk);
    lock_destroy(&sim->lock);
    free(sim);
}

struct io *io_sim_io(struct io_sim *sim)
{
    return &sim->io;
}

void io_sim_power_cut(struct io_sim *sim)
{
    lock_take(&sim->lock);
    for (struct handle *h = sim->handles; h; h = h->next) handle_detach(sim, h);
    sim_power_cut(&sim->disk, &sim->rng);
    sim->off = sim->broken = false;
    sim->next = NEXT_NONE;
    lock_release(&sim->lock);
}

static void arm(struct io_sim *sim, enum next_kind kind, uint64_t k, enum io_sim_failure failure)
{
    ASSERT(k > 0);
    lock_take(&sim->lock);
    sim->next = kind;
    sim->next_call = sim->counts.calls + k;
    sim->failure = failure;
    lock_release(&sim->lock);
}

void io_sim_power_cut_at(struct io_sim *sim, uint64_t k)
{
    arm(sim, NEXT_CUT, k, IO_SIM_EIO);
}

bool io_sim_is_off(struct io_sim *sim)
{
    lock_take(&sim->lock);
    bool off = sim->off;
    lock_release(&sim->lock);
    return off;
}

void io_sim_fail(struct io_sim *sim, uint64_t k, enum io_sim_failure kind)
{
    arm(sim, NEXT_FAIL, k, kind);
}

void io_sim_break(struct io_sim *sim, uint64_t k)
{
    arm(sim, NEXT_BREAK, k, IO_SIM_EIO);
}

void io_sim_heal(struct io_sim *sim)
{
    lock_take(&sim->lock);
    sim->next = NEXT_NONE;
    sim->broken = false;
    lock_release(&sim->lock);
}

void io_sim_flip_bit(struct io_sim *sim, const char *path, uint64_t off, unsigned bit)
{
    lock_take(&sim->lock);
    struct sim_inode *inode;
    int rc = sim_find(&sim->disk, path, &inode);
    ASSERT(rc == 0);
    ASSERT(!inode->is_dir);
    ASSERT(off < inode->now_size);
    ASSERT(bit < 8);
    sim_flip_bit(inode, off, bit);
    lock_release(&sim->lock);
}

void io_sim_set_capacity(struct io_sim *sim, uint64_t bytes)
{
    lock_take(&sim->lock);
    sim->disk.capacity_bytes = bytes;
    lock_release(&sim->lock);
}

uint64_t io_sim_used(struct io_sim *sim)
{
    lock_take(&sim->lock);
    uint64_t used = sim->disk.used_bytes;
    lock_release(&sim->lock);
    return used;
}

void io_sim_set_ordered_dirs(struct io_sim *sim, bool ordered)
{
    lock_take(&sim->lock);
    sim->disk.ordered_dirs = ordered;
    lock_release(&sim->lock);
}

struct io_sim_counts io_sim_counts(struct io_sim *sim)
{
    lock_take(&sim->lock);
    struct io_sim_counts counts = sim->counts;
    lock_release(&sim->lock);
    return counts;
}

struct walk {
    io_sim_path_fn *fn;
    void *ctx;
    char path[IO_PATH_BYTES];
};

static bool walk_dir(struct walk *walk, const struct sim_inode *dir, size_t len)
{
    for (size_t i = 0; i < dir->now.n; i++) {
        const struct sim_entry *e = &dir->now.entries[i];
        int n = snprintf(walk->path + len, sizeof(walk->path) - len, "/%s", e->name);
        ASSERT(n > 0);
        ASSERT((size_t)n < sizeof(walk->path) - len);
        bool more = e->inode->is_dir ? walk_dir(walk, e->inode, len + (size_t)n)
                                     : walk->fn(walk->ctx, walk->path, e->inode->now_size);
        if (!more) return false;
    }
    return true;
}

void io_sim_paths(struct io_sim *sim, io_sim_path_fn *fn, void *ctx)
{
    struct walk walk = {.fn = fn, .ctx = ctx};
    lock_take(&sim->lock);
    (void)walk_dir(&walk, sim->disk.root, 0);
    lock_release(&sim->lock);
}

bool io_sim_copy_out(struct io_sim *sim, const char *path, bool durable, struct buf *out)
{
    lock_take(&sim->lock);
    struct sim_inode *inode;
    bool found = sim_find(&sim->disk, path, &inode) == 0 && !inode->is_dir;
    if (found) {
        size_t size = (size_t)(durable ? inode->disk_size : inode->now_size);
        uint8_t *p = buf_reserve(out, size);
        if (p) out->len += durable ? sim_read_disk(inode, 0, p, size) : sim_read(inode, 0, p, size);
    }
    lock_release(&sim->lock);
    return found;
}
