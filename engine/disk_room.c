/* engine/disk_room.c: see the header. */
#include "engine/disk_room.h"

#include <inttypes.h>

#define AUTO_BYTES (UINT64_C(64) << 20)
#define AUTO_SHARE 20
#define SHARE_MIN 10 /* a set size is at most this part of the disk, and so is the margin */
#define USEFUL_BYTES (UINT64_C(64) << 10) /* less would not even take a catalog's transaction */
/* Beside the reserve before writes go on: the log grows by 4 MiB at a time, and a disk that is full again at once helps
 * nobody. */
#define MARGIN_BYTES_MIN (UINT64_C(8) << 20)
#define MARGIN_BYTES_MAX (UINT64_C(32) << 20)
#define LOOK_NS INT64_C(500000000)

void disk_room_init(struct disk_room *room, const struct env *env, const char *dir,
                    uint64_t reserve_bytes_max)
{
    struct metrics *m = env->metrics;
    *room = (struct disk_room){.env = *env, .dir = dir, .reserve_bytes_max = reserve_bytes_max};
    lock_init(&room->lock, LOCK_DISK);
    room->full_gauge = metric_gauge(
        m, "quipu_disk_full", "1 while writes are refused because the disk is full, else 0.", "");
    room->free_gauge =
        metric_gauge(m, "quipu_disk_free_bytes", "Free space on the disk of the data folder.", "");
    room->total_gauge =
        metric_gauge(m, "quipu_disk_size_bytes", "Size of the disk of the data folder.", "");
    room->reserve_gauge =
        metric_gauge(m, "quipu_disk_reserve_bytes",
                     "Space held for the day when the disk is full; 0 when it is in use.", "");
    room->refused = metric_counter(m, "quipu_disk_full_refused_total",
                                   "Writes refused because the disk is full.", "");
    room->times =
        metric_counter(m, "quipu_disk_full_total", "How often the disk was found full.", "");
}

void disk_room_release(struct disk_room *room)
{
    lock_destroy(&room->lock);
}

static uint64_t wanted_bytes(const struct disk_room *room, uint64_t total)
{
    uint64_t bytes = room->reserve_bytes_max == DISK_RESERVE_AUTO
                         ? MIN_OF(AUTO_BYTES, total / AUTO_SHARE)
                         : MIN_OF(room->reserve_bytes_max, total / SHARE_MIN);
    return bytes >= USEFUL_BYTES ? bytes : 0;
}

static uint64_t margin_bytes(uint64_t wanted, uint64_t total)
{
    uint64_t bytes = MIN_OF(MAX_OF(wanted / 4, MARGIN_BYTES_MIN), MARGIN_BYTES_MAX);
    return MIN_OF(bytes, total / SHARE_MIN);
}

/* Under the lock, as all below. False: the disk cannot be asked; then nothing changes. */
static bool look(struct disk_room *room, uint64_t *space, uint64_t *wanted)
{
    uint64_t total;
    struct err ignored; /* a disk that cannot be asked is told about by those who use it */
    room->looked_ns = clock_mono_ns(room->env.clock);
    if (io_disk_space(room->env.io, room->dir, space, &total, &ignored)) return false;
    *wanted = wanted_bytes(room, total);
    room->last_free = *space;
    /* What is left of the reserve, if its removal failed, counts when it is wanted again. */
    room->margin = margin_bytes(*wanted, total);
    room->needed = *wanted - MIN_OF(*wanted, room->kept) + room->margin;
    metric_set(room->free_gauge, (double)*space);
    metric_set(room->total_gauge, (double)total);
    return true;
}

static void tell(struct disk_room *room)
{
    metric_set(room->reserve_gauge, (double)room->kept);
    metric_set(room->full_gauge, disk_room_full(room));
}

static enum err_code fill(struct disk_room *room, const char *path, uint64_t wanted,
                          struct err *err)
{
    struct file *file;
    enum err_code rc = io_open(room->env.io, path, IO_READ | IO_WRITE | IO_CREATE, &file, err);
    if (rc) return rc;
    uint64_t size = 0;
    rc = file_size(file, &size, err);
    if (!rc && size > wanted) rc = file_truncate(file, wanted, err);
    if (!rc && size < wanted) rc = file_allocate(file, wanted, err);
    if (!rc) rc = file_sync(file, err); /* blocks that are promised only in memory help nobody */
    file_close(file);
    return rc;
}

static void drop(struct disk_room *room)
{
    char path[IO_PATH_BYTES];
    struct err err;
    enum err_code rc = io_path(path, sizeof(path), &err, room->dir, DISK_RESERVE_NAME);
    if (!rc) rc = io_unlink(room->env.io, path, &err);
    if (rc && rc != ERR_NOT_FOUND)
        log_msg(room->env.log, LOG_WARN, "the reserve cannot be removed", LOG_ERR(&err));
    else
        room->kept = 0;
}

/* True: it is there, in the size that is wanted. */
static bool keep(struct disk_room *room, uint64_t wanted)
{
    char path[IO_PATH_BYTES];
    struct err err;
    if (wanted == 0) {
        drop(room); /* of an earlier configuration */
        return true;
    }
    enum err_code rc = io_path(path, sizeof(path), &err, room->dir, DISK_RESERVE_NAME);
    if (!rc) rc = fill(room, path, wanted, &err);
    if (!rc) {
        room->kept = wanted;
        return true;
    }
    drop(room);
    if (rc != ERR_NO_SPACE)
        log_msg(room->env.log, LOG_WARN, "the reserve cannot be made", LOG_ERR(&err));
    /* Any other failure is no reason to refuse writes: those say for themselves if they cannot be done. */
    return rc != ERR_NO_SPACE;
}

static void become_full(struct disk_room *room)
{
    uint64_t space = 0, wanted = 0;
    if (disk_room_full(room)) return;
    atomic_store_explicit(&room->full, true, memory_order_relaxed);
    drop(room);
    (void)look(room, &space, &wanted);
    metric_inc(room->times);
    tell(room);
    log_msg(room->env.log, LOG_ERROR, "the disk is full: writes are refused until it has space",
            LOG_CSTR("folder", room->dir), LOG_U64("free_bytes", space),
            LOG_U64("needed_bytes", room->needed));
}

void disk_room_open(struct disk_room *room)
{
    uint64_t space, wanted;
    lock_take(&room->lock);
    if (look(room, &space, &wanted)) {
        char path[IO_PATH_BYTES];
        bool is_dir;
        struct err ignored; /* there is none */
        if (io_path(path, sizeof(path), &ignored, room->dir, DISK_RESERVE_NAME) ||
            io_stat(room->env.io, path, &room->kept, &is_dir, &ignored))
            room->kept = 0;
        uint64_t missing = wanted - MIN_OF(wanted, room->kept);
        if (space < missing + room->margin / 2 || !keep(room, wanted)) become_full(room);
    }
    tell(room);
    lock_release(&room->lock);
}

enum err_code disk_room_note(struct disk_room *room, enum err_code rc)
{
    if (LIKELY(rc != ERR_NO_SPACE)) return rc;
    lock_take(&room->lock);
    become_full(room);
    lock_release(&room->lock);
    return rc;
}

bool disk_room_step(struct disk_room *room)
{
    uint64_t space, wanted;
    bool back = false;
    lock_take(&room->lock);
    bool full = disk_room_full(room);
    bool due = room->looked_ns == 0 || !room->env.threads ||
               clock_mono_ns(room->env.clock) - room->looked_ns >= LOOK_NS;
    if (due && look(room, &space, &wanted) && full && space >= room->needed && keep(room, wanted)) {
        atomic_store_explicit(&room->full, false, memory_order_relaxed);
        back = true;
        log_msg(room->env.log, LOG_INFO, "the disk has space again: writes go on",
                LOG_U64("free_bytes", space), LOG_U64("reserve_bytes", room->kept));
    }
    tell(room);
    lock_release(&room->lock);
    return back;
}

enum err_code disk_room_check(struct disk_room *room, struct err *err)
{
    if (LIKELY(!disk_room_full(room))) return ERR_OK;
    lock_take(&room->lock);
    uint64_t space = room->last_free, needed = room->needed;
    lock_release(&room->lock);
    return err_set(err, ERR_NO_SPACE,
                   "the disk of %s is full: %" PRIu64 " bytes are free, writes go on with %" PRIu64,
                   room->dir, space, needed);
}
