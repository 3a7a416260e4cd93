/* engine/disk_room.h: what a full disk stops, and how it goes on.
 *
 * A file of allocated blocks, RESERVE in the data directory, is kept for the day when the disk is full. When a write meets
 * a full disk (disk_room_note), the file is removed and new writes are refused: what is left is for the catalog, for
 * flushes, which let the log be cut, for merges and deletes. A look once a second makes the file again as soon as there is
 * space for it and a margin, and then writes are taken again. A start that finds less than the margin begins as full.
 *
 * Threads: any. Nothing else is removed here, ever. */
#ifndef QUIPU_ENGINE_DISK_ROOM_H
#define QUIPU_ENGINE_DISK_ROOM_H

#include <stdatomic.h>

#include "base/env.h"
#include "base/lock.h"
#include "base/metric.h"

/* As reserve_bytes_max: 64 MiB, or a twentieth of a small disk. Any other is at most a tenth of the disk. */
#define DISK_RESERVE_AUTO UINT64_MAX
#define DISK_RESERVE_NAME "RESERVE"

struct disk_room {
    struct env env;
    const char *dir; /* the engine's */
    uint64_t reserve_bytes_max;
    _Atomic bool full;  /* relaxed: who comes a little late meets the disk itself */
    struct lock lock;   /* rank LOCK_DISK: one look at a time; guards what follows */
    uint64_t kept;      /* size of the reserve; 0: there is none */
    uint64_t last_free; /* as last seen, for the message */
    uint64_t needed,
        margin; /* free space with which writes go on; the part of it that is not the reserve */
    int64_t looked_ns;
    struct metric *full_gauge, *free_gauge, *total_gauge, *reserve_gauge, *refused, *times;
};

void disk_room_init(struct disk_room *room, const struct env *env, const char *dir,
                    uint64_t reserve_bytes_max);
void disk_room_release(struct disk_room *room); /* the reserve stays */
/* At start, when the directory is there: before anything needs space. */
void disk_room_open(struct disk_room *room);
/* Something came to `rc`: if that is a full disk, see above. Returns rc. */
enum err_code disk_room_note(struct disk_room *room, enum err_code rc);
/* Is there space again? The owner calls it every second or so. True: it has just come back. */
bool disk_room_step(struct disk_room *room);
static inline bool disk_room_full(struct disk_room *room)
{
    return atomic_load_explicit(&room->full, memory_order_relaxed);
}
/* ERR_NO_SPACE while the disk is full, naming folder and sizes. */
MUST_USE enum err_code disk_room_check(struct disk_room *room, struct err *err);

#endif
