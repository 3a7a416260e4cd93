/* tests/sim/sim_disk.h: the medium of io_sim: a tree of folders and files, twice: as programs see it (now)
 * and as a power cut would leave it at the least (disk). Not thread-safe; io_sim holds its lock.
 *
 * Files: 4 KiB pages, shared between now and disk while equal. Per 512-byte sector: dirty (written since the
 * last sync) or lost (was dirty when a sync failed: the system thinks it clean, the disk has something else).
 * Folders: now[] and disk[] entries; what differs is the list of pending operations, in order. */
#ifndef QUIPU_TESTS_SIM_DISK_H
#define QUIPU_TESTS_SIM_DISK_H

#include "base/bytes.h"
#include "base/rng.h"

#define SIM_SECTOR_BYTES 512
#define SIM_PAGE_BYTES 4096

struct sim_chunk {
    uint32_t n_refs;
    uint8_t data[SIM_PAGE_BYTES];
};

struct sim_page {
    struct sim_chunk *now, *disk; /* NULL = zeros */
    uint8_t dirty, lost;          /* a bit per sector; never both */
};

struct sim_entry {
    char *name;
    struct sim_inode *inode;
};
struct sim_dir {
    struct sim_entry *entries; /* sorted by name */
    size_t n, cap;
};

struct sim_inode {
    struct sim_inode *next; /* all of the disk, in order of creation */
    bool is_dir;
    bool marked;     /* by the collector */
    uint32_t n_now;  /* entries in now folders */
    uint32_t n_open; /* handles */
    const void *locker;
    /* files */
    struct sim_page *pages;
    size_t n_pages;
    uint64_t now_size, disk_size;
    bool size_dirty;
    uint64_t cut_to; /* lowest size it was truncated to since the last sync, if below disk_size */
    /* folders */
    struct sim_dir now, disk;
};

enum sim_op_kind { SIM_ADD, SIM_REMOVE, SIM_RENAME, SIM_RMDIR };

/* ADD: name a of folder a is now inode. REMOVE, RMDIR: it is gone. RENAME: from a to b. */
struct sim_op {
    enum sim_op_kind kind;
    struct sim_inode *dir_a, *dir_b;
    char *name_a, *name_b;
    struct sim_inode *inode;
};

struct sim_disk {
    struct sim_inode *root, *first, **last;
    struct sim_op *ops; /* not yet durable, oldest first */
    size_t n_ops, ops_cap;
    uint64_t used_bytes; /* pages of what is linked or open */
    uint64_t capacity_bytes;
    uint32_t n_since_collect;
    bool ordered_dirs; /* see io_sim_set_ordered_dirs */
};

void sim_disk_init(struct sim_disk *disk);
void sim_disk_release(struct sim_disk *disk);

/* 0 and the inode, or an errno. */
int sim_find(struct sim_disk *disk, const char *path, struct sim_inode **out);
/* The folder that holds the last part of `path`, and that part (into name). */
int sim_find_parent(struct sim_disk *disk, const char *path, struct sim_inode **dir, char *name,
                    size_t size);
struct sim_inode *sim_dir_get(const struct sim_dir *dir, const char *name);

/* All change `now` and leave a pending operation; 0 or an errno. */
int sim_create(struct sim_disk *disk, const char *path, bool is_dir, struct sim_inode **out);
int sim_unlink(struct sim_disk *disk, const char *path);
int sim_rmdir(struct sim_disk *disk, const char *path);
int sim_link(struct sim_disk *disk, const char *from, const char *to);
int sim_rename(struct sim_disk *disk, const char *from, const char *to);
/* Pending operations of the folder, and what they build on, are on the disk. */
void sim_sync_dir(struct sim_disk *disk, struct sim_inode *dir);

void sim_open(struct sim_disk *disk, struct sim_inode *inode);
void sim_close(struct sim_disk *disk, struct sim_inode *inode);
size_t sim_read(const struct sim_inode *inode, uint64_t off, void *p, size_t len);
/* Writes as much as the capacity allows; returns how much. */
size_t sim_write(struct sim_disk *disk, struct sim_inode *inode, uint64_t off, const void *p,
                 size_t len);
/* 0 or ENOSPC, then unchanged. */
int sim_resize(struct sim_disk *disk, struct sim_inode *inode, uint64_t size);
void sim_sync(struct sim_inode *inode);
/* A failed sync: of what was dirty some is on the disk, some is not, and none of it is dirty any more. */
void sim_sync_failed(struct sim_inode *inode, struct rng *rng);
void sim_flip_bit(struct sim_inode *inode, uint64_t off, unsigned bit);
/* Durable bytes as they are, without what a power cut might add. */
size_t sim_read_disk(const struct sim_inode *inode, uint64_t off, void *p, size_t len);

/* Decides by chance about all that is not durable; now is what the disk has then. No handles are open. */
void sim_power_cut(struct sim_disk *disk, struct rng *rng);

#endif
