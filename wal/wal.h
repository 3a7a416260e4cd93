/* wal/wal.h: the log. Acknowledged = on disk.
 * One committer thread writes and fsyncs what has gathered (group commit). The log knows bytes and record types,
 * not tenants or samples (wal/record.h has the payloads).
 * Invariants: a log position is never used twice, not even after a crash; records reach the disk in the order
 * of their positions; `done` runs in that order, too.
 * Threads: wal_append() from any, after wal_replay() has returned. */
#ifndef QUIPU_WAL_WAL_H
#define QUIPU_WAL_WAL_H

#include "base/bytes.h"
#include "base/env.h"

struct wal; /* from wal_open(); wal_close() flushes and frees it */

enum wal_type {
    WAL_SERIES = 1,
    WAL_SAMPLES = 2,
    WAL_HISTOGRAMS = 3,
    WAL_EXEMPLARS = 4,
    WAL_METADATA = 5,
    WAL_TOMBSTONE = 6,
    WAL_CHECKPOINT = 7,
    WAL_TIME = 8,     /* when what follows was appended; of no tenant */
    WAL_PAD = 9,      /* what a restore of one tenant makes of the others' records: nothing */
    WAL_TENANT = 10,  /* a tenant came to be: for an archive, which has no catalog */
    WAL_STARTED = 11, /* samples with start timestamps */
    WAL_TYPE_LAST = WAL_STARTED
};
const char *wal_type_name(enum wal_type type);

/* Of one record, before compression; wal_append refuses more with ERR_INVALID. */
#define WAL_PAYLOAD_BYTES_MAX ((size_t)32 << 20)

enum wal_sync {
    WAL_SYNC_ALWAYS, /* done after the fsync that covers the record */
    WAL_SYNC_INTERVAL, /* done after the write; fsync every sync_interval_ms: a power cut loses that much */
    WAL_SYNC_OFF /* done after the write; the operating system syncs when it likes */
};

struct wal_config {
    const char *dir;
    uint64_t segment_bytes; /* 64 MiB: a segment is finished when it would grow past this */
    size_t queue_bytes_max; /* 64 MiB: records waiting for the committer; past it ERR_LIMIT */
    bool
        time_marks; /* false. A record WAL_TIME before each record that has another millisecond than the one before */
    enum wal_sync sync;
    int64_t sync_interval_ms; /* 1000 */
    uint64_t
        min_pos; /* 0: positions lie beyond this even when the log is gone: the caller has noted it */
    /* After a failed write or fsync, also one that no record waited for, and before any later record's `done`: what
     * was acknowledged without an fsync may be lost. On the thread of `done`, with its duties. May be NULL. */
    void (*lost)(void *ctx);
    void *lost_ctx;
};
struct wal_config wal_config_default(const char *dir);

/* Runs once per record: rc 0 when it is durable (see enum wal_sync), else why not. On the committer thread (or
 * inside wal_commit without threads): must be short and may not append. */
typedef void wal_done_fn(void *arg, enum err_code rc);

/* Makes the folder if needed. Nothing is read but the names of segments. */
MUST_USE enum err_code wal_open(const struct env *env, const struct wal_config *config,
                                struct wal **out, struct err *err);

struct wal_record {
    enum wal_type type;
    uint64_t pos;         /* of its first byte */
    uint64_t end_pos;     /* position after it */
    struct bytes payload; /* decompressed; valid during the call */
};
struct wal_replay_stats {
    uint64_t segments, records, bytes;
    uint64_t torn_tails; /* truncated: an unfinished last write */
    uint64_t torn_bytes;
    uint64_t gaps; /* places where records were bad though valid ones follow */
    uint64_t gap_bytes;
};
/* Position from which on the log is there, before wal_replay() has looked; UINT64_MAX: unknown, or there is none. */
MUST_USE enum err_code wal_kept_pos(struct wal *wal, uint64_t *pos, struct err *err);
/* An error from fn ends the replay with it. */
typedef enum err_code wal_replay_fn(void *ctx, const struct wal_record *record, struct err *err);
/* Calls fn for every valid record that starts at or after from_pos, in order; cuts a torn tail off the newest
 * segment (durably, before it returns), so that appending goes on after the last valid record. Bad records
 * elsewhere cost themselves alone: each gap is logged with file and offset, and counted. Must be called once,
 * before the first append. A failing read is ERR_IO: nothing is cut then. */
MUST_USE enum err_code wal_replay(struct wal *wal, uint64_t from_pos, wal_replay_fn *fn, void *ctx,
                                  struct wal_replay_stats *stats, struct err *err);

/* Queues one record; copies `payload` (and compresses it with LZ4 where that is smaller, on the caller's thread).
 * `*pos`: its log position in bytes since the first segment. Not durable yet: done(arg, rc) runs once.
 * Errors (then `done` never runs): ERR_LIMIT over queue_bytes_max, ERR_IO / ERR_NO_SPACE after a failed write
 * or fsync. A failed segment is abandoned, never written over; the next append tries a fresh segment, so that
 * writes go on once the disk has space again. done may be NULL. */
MUST_USE enum err_code wal_append(struct wal *wal, enum wal_type type, struct bytes payload,
                                  wal_done_fn *done, void *arg, uint64_t *pos, struct err *err);
/* n 1: somebody will append soon; -1: has done so, or will not. The committer waits for those under way, no longer than
 * an fsync takes, so that one covers them all. Any thread. */
void wal_coming(struct wal *wal, int n);
/* Waits until all that was appended before is durable (or failed: the error). Without threads: does it. */
MUST_USE enum err_code wal_commit(struct wal *wal, struct err *err);

uint64_t wal_end_pos(struct wal *wal);   /* where the next record would go */
uint64_t wal_begin_pos(struct wal *wal); /* of the oldest segment kept */
uint64_t wal_disk_bytes(struct wal *wal);
/* Bytes of records at or behind `pos`. Positions jump (wal/format.h): their distance says nothing. */
uint64_t wal_bytes_from(struct wal *wal, uint64_t pos);
/* Would wal_cut remove anything? */
bool wal_can_cut(struct wal *wal, uint64_t pos);
/* Removes segments that end at or before `pos`. Never the one being written. */
MUST_USE enum err_code wal_cut(struct wal *wal, uint64_t pos, struct err *err);
/* After a failure: tries a fresh segment, as the next append would. Any thread. */
void wal_retry(struct wal *wal);
/* The last failure that writes met, for /-/ready; false when the log is well. */
bool wal_failed(struct wal *wal, struct err *why);
void wal_close(struct wal *wal); /* flushes first; NULL: no-op */

/* For `quipu inspect wal FILE`: every record or bad place of one segment, without changing anything. */
struct wal_inspect_item {
    uint64_t file_off, pos;
    enum wal_type type;
    uint32_t stored_bytes, raw_bytes;
    bool bad; /* then `text` says what is wrong */
    struct bytes payload;
    const char *text;
};
typedef bool wal_inspect_fn(void *ctx, const struct wal_inspect_item *item);
struct wal_segment_info {
    uint32_t version;
    uint64_t base_pos, file_bytes;
};
MUST_USE enum err_code wal_inspect(struct io *io, const char *path, struct wal_segment_info *info,
                                   wal_inspect_fn *fn, void *ctx, struct err *err);

#endif
