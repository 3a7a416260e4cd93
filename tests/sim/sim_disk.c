/* tests/sim/sim_disk.c: see the header. Memory comes from malloc itself and not from base/mem: the medium is
 * no part of the process under test, and its failure hooks and budgets must not reach it. */
#include "tests/sim/sim_disk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define SECTORS (SIM_PAGE_BYTES / SIM_SECTOR_BYTES)
static_assert(SECTORS == 8, "a bit per sector in a byte");
#define SIM_NAME_BYTES 256

static void *must(void *p)
{
    ASSERT(p != NULL);
    return p;
}

/* ---- pages ---- */

static struct sim_chunk *chunk_ref(struct sim_chunk *c)
{
    if (c) c->n_refs++;
    return c;
}

static void chunk_unref(struct sim_chunk *c)
{
    if (c && --c->n_refs == 0) free(c);
}

/* The chunk in *slot, made its own. */
static uint8_t *chunk_own(struct sim_chunk **slot)
{
    if (*slot && (*slot)->n_refs == 1) return (*slot)->data;
    struct sim_chunk *c = must(malloc(sizeof(*c)));
    c->n_refs = 1;
    if (*slot)
        memcpy(c->data, (*slot)->data, SIM_PAGE_BYTES);
    else
        memset(c->data, 0, SIM_PAGE_BYTES);
    chunk_unref(*slot);
    *slot = c;
    return c->data;
}

static void chunk_share(struct sim_chunk **slot, struct sim_chunk *c)
{
    chunk_ref(c);
    chunk_unref(*slot);
    *slot = c;
}

static const uint8_t zeros[SIM_PAGE_BYTES];

static const uint8_t *chunk_data(const struct sim_chunk *c)
{
    return c ? c->data : zeros;
}

static uint64_t pages_of(uint64_t size)
{
    return (size + SIM_PAGE_BYTES - 1) / SIM_PAGE_BYTES;
}

static struct sim_page *page_at(struct sim_inode *inode, size_t i)
{
    if (i >= inode->n_pages) {
        size_t n = MAX_OF(i + 1, inode->n_pages * 2);
        inode->pages = must(realloc(inode->pages, n * sizeof(*inode->pages)));
        memset(inode->pages + inode->n_pages, 0, (n - inode->n_pages) * sizeof(*inode->pages));
        inode->n_pages = n;
    }
    return &inode->pages[i];
}

static void mark_dirty(struct sim_page *page, size_t from, size_t to)
{
    for (size_t s = from / SIM_SECTOR_BYTES; s * SIM_SECTOR_BYTES < to; s++) {
        page->dirty |= (uint8_t)(1u << s);
        page->lost &= (uint8_t) ~(1u << s);
    }
}

static size_t read_pages(const struct sim_inode *inode, bool from_disk, uint64_t off, uint8_t *p,
                         size_t len)
{
    uint64_t size = from_disk ? inode->disk_size : inode->now_size;
    if (off >= size) return 0;
    len = (size_t)MIN_OF((uint64_t)len, size - off);
    for (size_t done = 0; done < len;) {
        size_t i = (size_t)((off + done) / SIM_PAGE_BYTES), at = (off + done) % SIM_PAGE_BYTES;
        size_t n = MIN_OF(len - done, SIM_PAGE_BYTES - at);
        const struct sim_chunk *c = NULL;
        if (i < inode->n_pages) c = from_disk ? inode->pages[i].disk : inode->pages[i].now;
        memcpy(p + done, chunk_data(c) + at, n);
        done += n;
    }
    return len;
}

size_t sim_read(const struct sim_inode *inode, uint64_t off, void *p, size_t len)
{
    return read_pages(inode, false, off, p, len);
}

size_t sim_read_disk(const struct sim_inode *inode, uint64_t off, void *p, size_t len)
{
    return read_pages(inode, true, off, p, len);
}

/* Takes the pages for `size`, or as many as there are. Returns the size that fits. */
static uint64_t take_space(struct sim_disk *disk, const struct sim_inode *inode, uint64_t size)
{
    uint64_t have = pages_of(inode->now_size), want = pages_of(size);
    if (want <= have) return size;
    uint64_t room = disk->capacity_bytes - MIN_OF(disk->capacity_bytes, disk->used_bytes);
    uint64_t n = MIN_OF(want - have, room / SIM_PAGE_BYTES);
    disk->used_bytes += n * SIM_PAGE_BYTES;
    return MIN_OF(size, (have + n) * SIM_PAGE_BYTES);
}

static void set_size(struct sim_inode *inode, uint64_t size)
{
    if (size == inode->now_size) return;
    inode->now_size = size;
    inode->size_dirty = true;
}

size_t sim_write(struct sim_disk *disk, struct sim_inode *inode, uint64_t off, const void *p,
                 size_t len)
{
    if (len == 0) return 0;
    uint64_t fits = take_space(disk, inode, MAX_OF(off + len, inode->now_size));
    if (fits <= off) { /* at most the gap before it fits, which nobody asked for */
        disk->used_bytes -= (pages_of(fits) - pages_of(inode->now_size)) * SIM_PAGE_BYTES;
        return 0;
    }
    len = (size_t)MIN_OF((uint64_t)len, fits - off);
    for (size_t done = 0; done < len;) {
        size_t i = (size_t)((off + done) / SIM_PAGE_BYTES), at = (off + done) % SIM_PAGE_BYTES;
        size_t n = MIN_OF(len - done, SIM_PAGE_BYTES - at);
        struct sim_page *page = page_at(inode, i);
        memcpy(chunk_own(&page->now) + at, (const uint8_t *)p + done, n);
        mark_dirty(page, at, at + n);
        done += n;
    }
    set_size(inode, MAX_OF(inode->now_size, off + len));
    /* Whoever writes bytes again that a failed sync lost, brings back the size that covers them, too. */
    if (off + len > inode->disk_size) inode->size_dirty = true;
    return len;
}

int sim_resize(struct sim_disk *disk, struct sim_inode *inode, uint64_t size)
{
    uint64_t old_pages = pages_of(inode->now_size);
    if (size > inode->now_size) {
        uint64_t fits = take_space(disk, inode, size);
        if (fits < size) {
            disk->used_bytes -= (pages_of(fits) - old_pages) * SIM_PAGE_BYTES;
            return ENOSPC;
        }
        set_size(inode, size);
        return 0;
    }
    disk->used_bytes -= (old_pages - pages_of(size)) * SIM_PAGE_BYTES;
    inode->cut_to = MIN_OF(inode->cut_to, size);
    for (size_t i = (size_t)(size / SIM_PAGE_BYTES); i < inode->n_pages; i++) {
        struct sim_page *page = &inode->pages[i];
        size_t from = i == size / SIM_PAGE_BYTES ? (size_t)(size % SIM_PAGE_BYTES) : 0;
        if (!page->now && !page->disk) continue;
        if (from == 0)
            chunk_share(&page->now, NULL);
        else
            memset(chunk_own(&page->now) + from, 0, SIM_PAGE_BYTES - from);
        mark_dirty(page, from, SIM_PAGE_BYTES);
    }
    set_size(inode, size);
    return 0;
}

static void copy_sector(uint8_t *to, const uint8_t *from, size_t sector)
{
    memcpy(to + sector * SIM_SECTOR_BYTES, from + sector * SIM_SECTOR_BYTES, SIM_SECTOR_BYTES);
}

void sim_sync(struct sim_inode *inode)
{
    for (size_t i = 0; i < inode->n_pages; i++) {
        struct sim_page *page = &inode->pages[i];
        if (!page->dirty) continue;
        if (!page->lost) {
            chunk_share(&page->disk, page->now);
        } else {
            uint8_t *to = chunk_own(&page->disk);
            for (size_t s = 0; s < SECTORS; s++)
                if (page->dirty >> s & 1) copy_sector(to, chunk_data(page->now), s);
        }
        page->dirty = 0;
    }
    if (inode->size_dirty) inode->disk_size = inode->now_size;
    inode->size_dirty = false;
    inode->cut_to = UINT64_MAX;
}

/* How much of what is not durable survives this time. */
struct luck {
    double keep, tear;
};

static struct luck gen_luck(struct rng *rng)
{
    switch (rng_below(rng, 4)) {
    case 0: return (struct luck){0, 0};
    case 1: return (struct luck){1, 0};
    case 2: return (struct luck){0.5, 0.2};
    default: return (struct luck){rng_unit(rng), rng_unit(rng)};
    }
}

static void settle_sector(struct sim_page *page, size_t s, struct luck luck, struct rng *rng)
{
    bool tear = rng_chance(rng, luck.tear), keep = rng_chance(rng, luck.keep);
    if (!tear && !keep) return;
    uint8_t *to = chunk_own(&page->disk) + s * SIM_SECTOR_BYTES;
    const uint8_t *from = chunk_data(page->now) + s * SIM_SECTOR_BYTES;
    size_t cut = tear ? 1 + rng_below(rng, SIM_SECTOR_BYTES - 1) : SIM_SECTOR_BYTES;
    if (tear && rng_chance(rng, 0.5)) /* its end arrived, its start did not */
        memcpy(to + cut, from + cut, SIM_SECTOR_BYTES - cut);
    else
        memcpy(to, from, cut);
}

/* Old size, new size, or (it grew) something between. */
static uint64_t settle_size(const struct sim_inode *inode, struct luck luck, struct rng *rng)
{
    uint64_t old = inode->disk_size, now = inode->now_size;
    bool tear = rng_chance(rng, luck.tear), keep = rng_chance(rng, luck.keep);
    if (tear && now > old) return old + rng_below(rng, now - old + 1);
    return keep ? now : old;
}

static void zero_from(struct sim_inode *inode, uint64_t from)
{
    for (size_t i = (size_t)(from / SIM_PAGE_BYTES); i < inode->n_pages; i++) {
        struct sim_page *page = &inode->pages[i];
        size_t at = i == from / SIM_PAGE_BYTES ? (size_t)(from % SIM_PAGE_BYTES) : 0;
        if (page->disk) memset(chunk_own(&page->disk) + at, 0, SIM_PAGE_BYTES - at);
    }
}

/* What was written from there on stays off the disk. */
static void forget_from(struct sim_inode *inode, uint64_t from)
{
    for (size_t i = (size_t)(from / SIM_PAGE_BYTES); i < inode->n_pages; i++) {
        struct sim_page *page = &inode->pages[i];
        size_t at = i == from / SIM_PAGE_BYTES ? (size_t)(from % SIM_PAGE_BYTES) : 0;
        uint8_t sectors = (uint8_t)(0xFFu << (at / SIM_SECTOR_BYTES));
        page->lost |= page->dirty & sectors;
        page->dirty &= (uint8_t)~sectors;
    }
}

/* A truncation is a change of the file system's own, which happens whole or not at all; what was written
 * behind it afterwards can only be there if it has happened. */
static void settle_cut(struct sim_inode *inode, struct luck luck, struct rng *rng)
{
    if (inode->cut_to >= inode->disk_size) return;
    if (rng_chance(rng, luck.keep)) {
        zero_from(inode, inode->cut_to);
        inode->disk_size = inode->cut_to;
    } else {
        forget_from(inode, inode->cut_to);
        inode->size_dirty = false;
    }
}

/* Moves what was dirty to the disk by chance. */
static void settle(struct sim_inode *inode, struct luck luck, struct rng *rng)
{
    settle_cut(inode, luck, rng);
    inode->cut_to = UINT64_MAX;
    for (size_t i = 0; i < inode->n_pages; i++) {
        struct sim_page *page = &inode->pages[i];
        for (size_t s = 0; page->dirty >> s; s++)
            if (page->dirty >> s & 1) settle_sector(page, s, luck, rng);
        page->lost |= page->dirty;
        page->dirty = 0;
    }
    if (inode->size_dirty) inode->disk_size = settle_size(inode, luck, rng);
    inode->size_dirty = false;
}

void sim_sync_failed(struct sim_inode *inode, struct rng *rng)
{
    struct luck luck = gen_luck(rng);
    luck.keep *= 0.9; /* something should be amiss */
    settle(inode, luck, rng);
}

void sim_flip_bit(struct sim_inode *inode, uint64_t off, unsigned bit)
{
    struct sim_page *page = page_at(inode, (size_t)(off / SIM_PAGE_BYTES));
    bool shared = page->now == page->disk;
    chunk_own(&page->disk)[off % SIM_PAGE_BYTES] ^= (uint8_t)(1u << bit);
    if (shared)
        chunk_share(&page->now, page->disk);
    else
        chunk_own(&page->now)[off % SIM_PAGE_BYTES] ^= (uint8_t)(1u << bit);
}

/* After a power cut: the cache is gone, and bytes beyond the end are zeros for whoever extends the file. */
static void reload(struct sim_inode *inode)
{
    for (size_t i = 0; i < inode->n_pages; i++) {
        struct sim_page *page = &inode->pages[i];
        uint64_t start = (uint64_t)i * SIM_PAGE_BYTES;
        if (start >= inode->disk_size)
            chunk_share(&page->disk, NULL);
        else if (page->disk && inode->disk_size - start < SIM_PAGE_BYTES)
            memset(chunk_own(&page->disk) + (inode->disk_size - start), 0,
                   (size_t)(SIM_PAGE_BYTES - (inode->disk_size - start)));
        chunk_share(&page->now, page->disk);
        page->dirty = page->lost = 0;
    }
    inode->now_size = inode->disk_size;
    inode->size_dirty = false;
}

/* ---- folders ---- */

static size_t dir_find(const struct sim_dir *dir, const char *name)
{
    size_t low = 0, high = dir->n;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (strcmp(dir->entries[mid].name, name) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static bool dir_has(const struct sim_dir *dir, size_t at, const char *name)
{
    return at < dir->n && strcmp(dir->entries[at].name, name) == 0;
}

struct sim_inode *sim_dir_get(const struct sim_dir *dir, const char *name)
{
    size_t at = dir_find(dir, name);
    return dir_has(dir, at, name) ? dir->entries[at].inode : NULL;
}

static void dir_remove(struct sim_dir *dir, const char *name)
{
    size_t at = dir_find(dir, name);
    if (!dir_has(dir, at, name)) return;
    free(dir->entries[at].name);
    memmove(dir->entries + at, dir->entries + at + 1, (dir->n - at - 1) * sizeof(*dir->entries));
    dir->n--;
}

static void dir_set(struct sim_dir *dir, const char *name, struct sim_inode *inode)
{
    size_t at = dir_find(dir, name);
    if (dir_has(dir, at, name)) {
        dir->entries[at].inode = inode;
        return;
    }
    if (dir->n == dir->cap) {
        dir->cap = dir->cap ? dir->cap * 2 : 8;
        dir->entries = must(realloc(dir->entries, dir->cap * sizeof(*dir->entries)));
    }
    memmove(dir->entries + at + 1, dir->entries + at, (dir->n - at) * sizeof(*dir->entries));
    dir->entries[at] = (struct sim_entry){must(strdup(name)), inode};
    dir->n++;
}

static void dir_release(struct sim_dir *dir)
{
    for (size_t i = 0; i < dir->n; i++) free(dir->entries[i].name);
    free(dir->entries);
    *dir = (struct sim_dir){0};
}

static void dir_copy(struct sim_dir *to, const struct sim_dir *from)
{
    dir_release(to);
    for (size_t i = 0; i < from->n; i++) dir_set(to, from->entries[i].name, from->entries[i].inode);
}

/* ---- inodes ---- */

static struct sim_inode *inode_new(struct sim_disk *disk, bool is_dir)
{
    struct sim_inode *inode = must(calloc(1, sizeof(*inode)));
    inode->is_dir = is_dir;
    inode->cut_to = UINT64_MAX;
    *disk->last = inode;
    disk->last = &inode->next;
    return inode;
}

static void inode_free(struct sim_inode *inode)
{
    for (size_t i = 0; i < inode->n_pages; i++) {
        chunk_unref(inode->pages[i].now);
        chunk_unref(inode->pages[i].disk);
    }
    free(inode->pages);
    dir_release(&inode->now);
    dir_release(&inode->disk);
    free(inode);
}

static void link_now(struct sim_inode *dir, const char *name, struct sim_inode *inode)
{
    inode->n_now++;
    dir_set(&dir->now, name, inode);
}

static void maybe_free_space(struct sim_disk *disk, const struct sim_inode *inode)
{
    if (inode->n_now == 0 && inode->n_open == 0)
        disk->used_bytes -= pages_of(inode->now_size) * SIM_PAGE_BYTES;
}

static void unlink_now(struct sim_disk *disk, struct sim_inode *dir, const char *name)
{
    struct sim_inode *inode = sim_dir_get(&dir->now, name);
    if (!inode) return;
    dir_remove(&dir->now, name);
    inode->n_now--;
    maybe_free_space(disk, inode);
}

void sim_open(struct sim_disk *disk, struct sim_inode *inode)
{
    (void)disk;
    inode->n_open++;
}

void sim_close(struct sim_disk *disk, struct sim_inode *inode)
{
    ASSERT(inode->n_open > 0);
    inode->n_open--;
    maybe_free_space(disk, inode);
}

/* Which inodes can still be reached, now or after a power cut. Folders nest a few levels: recursion. */
static void mark(struct sim_inode *inode)
{
    if (inode->marked) return;
    inode->marked = true;
    for (size_t i = 0; i < inode->now.n; i++) mark(inode->now.entries[i].inode);
    for (size_t i = 0; i < inode->disk.n; i++) mark(inode->disk.entries[i].inode);
}

static void collect(struct sim_disk *disk)
{
    disk->n_since_collect = 0;
    for (struct sim_inode *i = disk->first; i; i = i->next) i->marked = false;
    mark(disk->root);
    for (size_t i = 0; i < disk->n_ops; i++) {
        mark(disk->ops[i].dir_a);
        if (disk->ops[i].dir_b) mark(disk->ops[i].dir_b);
        mark(disk->ops[i].inode);
    }
    for (struct sim_inode *i = disk->first; i; i = i->next)
        if (i->n_open) mark(i);
    struct sim_inode **link = &disk->first;
    while (*link) {
        struct sim_inode *inode = *link;
        if (inode->marked) {
            link = &inode->next;
        } else {
            *link = inode->next;
            inode_free(inode);
        }
    }
    disk->last = link;
}

void sim_disk_init(struct sim_disk *disk)
{
    *disk = (struct sim_disk){.capacity_bytes = UINT64_C(1) << 40};
    disk->last = &disk->first;
    disk->root = inode_new(disk, true);
    disk->root->n_now = 1;
}

static void op_release(struct sim_op *op)
{
    free(op->name_a);
    free(op->name_b);
}

void sim_disk_release(struct sim_disk *disk)
{
    for (size_t i = 0; i < disk->n_ops; i++) op_release(&disk->ops[i]);
    free(disk->ops);
    while (disk->first) {
        struct sim_inode *next = disk->first->next;
        inode_free(disk->first);
        disk->first = next;
    }
}

/* ---- paths ---- */

/* Takes the next part of *path into name. False at the end. */
static int next_part(const char **path, char *name, size_t size, bool *more)
{
    for (;;) {
        while (**path == '/') ++*path;
        size_t n = strcspn(*path, "/");
        *more = n > 0;
        if (n == 0) return 0;
        if (n >= size) return ENAMETOOLONG;
        memcpy(name, *path, n);
        name[n] = 0;
        *path += n;
        if (strcmp(name, ".") == 0) continue;
        /* Nobody in quipu climbs up. */
        return strcmp(name, "..") == 0 ? EINVAL : 0;
    }
}

int sim_find(struct sim_disk *disk, const char *path, struct sim_inode **out)
{
    struct sim_inode *at = disk->root;
    char name[SIM_NAME_BYTES];
    for (;;) {
        bool more;
        int rc = next_part(&path, name, sizeof(name), &more);
        if (rc) return rc;
        if (!more) break;
        if (!at->is_dir) return ENOTDIR;
        at = sim_dir_get(&at->now, name);
        if (!at) return ENOENT;
    }
    *out = at;
    return 0;
}

int sim_find_parent(struct sim_disk *disk, const char *path, struct sim_inode **dir, char *name,
                    size_t size)
{
    struct sim_inode *at = disk->root;
    bool more;
    int rc = next_part(&path, name, size, &more);
    if (rc) return rc;
    if (!more) return EBUSY; /* the root itself */
    for (;;) {
        char next[SIM_NAME_BYTES];
        rc = next_part(&path, next, sizeof(next), &more);
        if (rc) return rc;
        if (!at->is_dir) return ENOTDIR;
        if (!more) break;
        at = sim_dir_get(&at->now, name);
        if (!at) return ENOENT;
        memcpy(name, next, strlen(next) + 1);
    }
    *dir = at;
    return 0;
}

/* ---- operations on names ---- */

static void push_op(struct sim_disk *disk, struct sim_op op)
{
    if (disk->n_ops == disk->ops_cap) {
        disk->ops_cap = disk->ops_cap ? disk->ops_cap * 2 : 16;
        disk->ops = must(realloc(disk->ops, disk->ops_cap * sizeof(*disk->ops)));
    }
    op.name_a = must(strdup(op.name_a));
    if (op.name_b) op.name_b = must(strdup(op.name_b));
    disk->ops[disk->n_ops++] = op;
    if (++disk->n_since_collect >= 256) collect(disk);
}

int sim_create(struct sim_disk *disk, const char *path, bool is_dir, struct sim_inode **out)
{
    struct sim_inode *dir;
    char name[SIM_NAME_BYTES];
    int rc = sim_find_parent(disk, path, &dir, name, sizeof(name));
    if (rc == EBUSY) return EEXIST;
    if (rc) return rc;
    if (sim_dir_get(&dir->now, name)) return EEXIST;
    struct sim_inode *inode = inode_new(disk, is_dir);
    link_now(dir, name, inode);
    push_op(disk, (struct sim_op){SIM_ADD, dir, NULL, name, NULL, inode});
    *out = inode;
    return 0;
}

int sim_unlink(struct sim_disk *disk, const char *path)
{
    struct sim_inode *dir;
    char name[SIM_NAME_BYTES];
    int rc = sim_find_parent(disk, path, &dir, name, sizeof(name));
    if (rc) return rc;
    struct sim_inode *inode = sim_dir_get(&dir->now, name);
    if (!inode) return ENOENT;
    if (inode->is_dir) return EISDIR;
    unlink_now(disk, dir, name);
    push_op(disk, (struct sim_op){SIM_REMOVE, dir, NULL, name, NULL, inode});
    return 0;
}

int sim_rmdir(struct sim_disk *disk, const char *path)
{
    struct sim_inode *dir;
    char name[SIM_NAME_BYTES];
    int rc = sim_find_parent(disk, path, &dir, name, sizeof(name));
    if (rc) return rc;
    struct sim_inode *inode = sim_dir_get(&dir->now, name);
    if (!inode) return ENOENT;
    if (!inode->is_dir) return ENOTDIR;
    if (inode->now.n) return ENOTEMPTY;
    unlink_now(disk, dir, name);
    push_op(disk, (struct sim_op){SIM_RMDIR, dir, NULL, name, NULL, inode});
    return 0;
}

int sim_link(struct sim_disk *disk, const char *from, const char *to)
{
    struct sim_inode *inode, *dir;
    char name[SIM_NAME_BYTES];
    int rc = sim_find(disk, from, &inode);
    if (!rc) rc = sim_find_parent(disk, to, &dir, name, sizeof(name));
    if (rc) return rc;
    if (sim_dir_get(&dir->now, name)) return EEXIST;
    if (inode->is_dir) return EPERM;
    link_now(dir, name, inode);
    push_op(disk, (struct sim_op){SIM_ADD, dir, NULL, name, NULL, inode});
    return 0;
}

static bool is_below(const struct sim_inode *dir, const struct sim_inode *inode)
{
    if (dir == inode) return true;
    for (size_t i = 0; i < inode->now.n; i++)
        if (is_below(dir, inode->now.entries[i].inode)) return true;
    return false;
}

int sim_rename(struct sim_disk *disk, const char *from, const char *to)
{
    struct sim_inode *dir_a, *dir_b;
    char name_a[SIM_NAME_BYTES], name_b[SIM_NAME_BYTES];
    int rc = sim_find_parent(disk, from, &dir_a, name_a, sizeof(name_a));
    if (!rc) rc = sim_find_parent(disk, to, &dir_b, name_b, sizeof(name_b));
    if (rc) return rc;
    struct sim_inode *inode = sim_dir_get(&dir_a->now, name_a);
    struct sim_inode *old = sim_dir_get(&dir_b->now, name_b);
    if (!inode) return ENOENT;
    if (inode == old) return 0; /* POSIX: two names of one file: nothing happens */
    if (inode->is_dir && is_below(dir_b, inode)) return EINVAL;
    if (old && old->is_dir && !inode->is_dir) return EISDIR;
    if (old && !old->is_dir && inode->is_dir) return ENOTDIR;
    if (old && old->is_dir && old->now.n) return ENOTEMPTY;
    inode->n_now++; /* so that its space is not freed in between */
    unlink_now(disk, dir_b, name_b);
    unlink_now(disk, dir_a, name_a);
    dir_set(&dir_b->now, name_b, inode);
    push_op(disk, (struct sim_op){SIM_RENAME, dir_a, dir_b, name_a, name_b, inode});
    return 0;
}

/* ---- making names durable ---- */

static void apply_op(const struct sim_op *op)
{
    switch (op->kind) {
    case SIM_ADD: dir_set(&op->dir_a->disk, op->name_a, op->inode); break;
    case SIM_REMOVE:
    case SIM_RMDIR: dir_remove(&op->dir_a->disk, op->name_a); break;
    case SIM_RENAME:
        dir_remove(&op->dir_a->disk, op->name_a);
        dir_set(&op->dir_b->disk, op->name_b, op->inode);
        break;
    }
}

static bool same_name(const struct sim_inode *dir, const char *name, const struct sim_op *op)
{
    if (!dir) return false;
    return (dir == op->dir_a && strcmp(name, op->name_a) == 0) ||
           (op->dir_b && dir == op->dir_b && strcmp(name, op->name_b) == 0);
}

/* Whether `later` can only have happened on the disk if `earlier` has: they speak of the same name, or
 * `later` removes the folder that `earlier` changed. */
static bool builds_on(const struct sim_op *later, const struct sim_op *earlier)
{
    if (same_name(later->dir_a, later->name_a, earlier)) return true;
    if (same_name(later->dir_b, later->name_b, earlier)) return true;
    bool removes_folder = later->kind == SIM_RMDIR;
    return removes_folder && (earlier->dir_a == later->inode || earlier->dir_b == later->inode);
}

/* Extends keep[] to all that the kept ones build on, applies those in order, and forgets them. */
static void apply_kept(struct sim_disk *disk, bool *keep)
{
    for (size_t later = disk->n_ops; later-- > 0;)
        for (size_t i = 0; keep[later] && i < later; i++)
            if (!keep[i] && builds_on(&disk->ops[later], &disk->ops[i])) keep[i] = true;
    size_t n = 0;
    for (size_t i = 0; i < disk->n_ops; i++) {
        if (keep[i]) {
            apply_op(&disk->ops[i]);
            op_release(&disk->ops[i]);
        } else {
            disk->ops[n++] = disk->ops[i];
        }
    }
    disk->n_ops = n;
}

void sim_sync_dir(struct sim_disk *disk, struct sim_inode *dir)
{
    bool *keep = must(calloc(disk->n_ops + 1, sizeof(*keep)));
    for (size_t i = 0; i < disk->n_ops; i++)
        keep[i] = disk->ops[i].dir_a == dir || disk->ops[i].dir_b == dir;
    apply_kept(disk, keep);
    free(keep);
}

/* A journal keeps the operations up to some point; looser file systems keep any that fit together. */
static void settle_dirs(struct sim_disk *disk, struct rng *rng)
{
    bool *keep = must(calloc(disk->n_ops + 1, sizeof(*keep)));
    if (disk->ordered_dirs || rng_chance(rng, 0.5)) {
        size_t n = rng_below(rng, disk->n_ops + 1);
        for (size_t i = 0; i < n; i++) keep[i] = true;
    } else {
        double p = rng_unit(rng);
        for (size_t i = 0; i < disk->n_ops; i++) keep[i] = rng_chance(rng, p);
    }
    apply_kept(disk, keep);
    free(keep);
    for (size_t i = 0; i < disk->n_ops; i++) op_release(&disk->ops[i]);
    disk->n_ops = 0;
}

void sim_power_cut(struct sim_disk *disk, struct rng *rng)
{
    settle_dirs(disk, rng);
    struct luck luck = gen_luck(rng);
    for (struct sim_inode *i = disk->first; i; i = i->next) {
        ASSERT(i->n_open == 0);
        settle(i, luck, rng);
        reload(i);
        dir_copy(&i->now, &i->disk);
        i->n_now = 0;
        i->locker = NULL;
    }
    collect(disk);
    disk->root->n_now = 1;
    disk->used_bytes = 0;
    for (struct sim_inode *i = disk->first; i; i = i->next) {
        for (size_t k = 0; k < i->now.n; k++) i->now.entries[k].inode->n_now++;
        disk->used_bytes += pages_of(i->now_size) * SIM_PAGE_BYTES;
    }
}
