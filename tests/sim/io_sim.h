/* tests/sim/io_sim.h: a `struct io` in memory that can do what real disks do to us: lose what was not synced,
 * fail, fill up, rot. Everything follows from the seed and the order of calls. Threads: any (one lock, rank
 * LOCK_IO), but then the order of calls is the scheduler's.
 *
 * What is durable: file bytes and size after file_sync; names after io_sync_dir of their folder (a rename
 * after that of either). A folder of which the name is not durable takes all it holds with it. The root is
 * always there; relative paths start from it too. ".." is not understood. */
#ifndef QUIPU_TESTS_IO_SIM_H
#define QUIPU_TESTS_IO_SIM_H

#include "base/bytes.h"
#include "base/io.h"

struct io_sim; /* from io_sim_new() */

struct io_sim *io_sim_new(uint64_t seed);
/* All files must be closed. */
void io_sim_free(struct io_sim *sim);
struct io *io_sim_io(struct io_sim *sim);

/* Now. Each unsynced sector is kept, dropped or torn; each operation on names that was not synced is kept or
 * undone, in a way that a file system could (a rename is old or new; operations on one name stay in order).
 * Every open handle is dead: its calls give ERR_IO until it is closed. The disk is on again at return. */
void io_sim_power_cut(struct io_sim *sim);
/* The power goes at the k-th counted call from now (1 = the next), perhaps half-way through it: this call and
 * all others fail with ERR_IO, as if the process were dead, until io_sim_power_cut() decides what is left. */
void io_sim_power_cut_at(struct io_sim *sim, uint64_t k);
bool io_sim_is_off(struct io_sim *sim);

enum io_sim_failure {
    IO_SIM_EIO,
    IO_SIM_ENOSPC, /* EIO for calls that need no space: reads, syncs, unlink, list */
    IO_SIM_SHORT,  /* a write does a part and then fails with EIO; others like IO_SIM_EIO */
};
/* The k-th counted call from now fails (1 = the next), one time. Counted are all calls but close, lock,
 * stat, size and disk_space. A failed file_sync loses the unsynced sectors for good, as Linux does: they
 * read back, and a second sync succeeds, but after a power cut they are old, new or torn. */
void io_sim_fail(struct io_sim *sim, uint64_t k, enum io_sim_failure kind);
/* From the k-th counted call on every one fails with EIO. */
void io_sim_break(struct io_sim *sim, uint64_t k);
/* Takes back io_sim_fail, io_sim_break and io_sim_power_cut_at as far as they have not happened. */
void io_sim_heal(struct io_sim *sim);

/* Flips a bit on the medium and in the cache. The offset must be inside the file. */
void io_sim_flip_bit(struct io_sim *sim, const char *path, uint64_t off, unsigned bit);
/* Space in whole pages of 4 KiB; the default is 1 TiB. */
void io_sim_set_capacity(struct io_sim *sim, uint64_t bytes);
uint64_t io_sim_used(struct io_sim *sim);
/* true: a power cut undoes only the newest operations on names, as a journal does. Default false: half of
 * the cuts do so, the others keep and undo operations on different names independently. */
void io_sim_set_ordered_dirs(struct io_sim *sim, bool ordered);

struct io_sim_counts {
    uint64_t calls; /* counted ones, see io_sim_fail */
    uint64_t reads, writes, syncs, dir_syncs;
    uint64_t read_bytes, written_bytes;
};
struct io_sim_counts io_sim_counts(struct io_sim *sim);

/* Every file, by path from the root ("/a/b"), in order; false ends it. */
typedef bool io_sim_path_fn(void *ctx, const char *path, uint64_t size);
void io_sim_paths(struct io_sim *sim, io_sim_path_fn *fn, void *ctx);
/* Appends the file's bytes; durable: only what is certain to survive. False if there is no such file. */
bool io_sim_copy_out(struct io_sim *sim, const char *path, bool durable, struct buf *out);

#endif
