/* wal/wal_private.h: what the files of this layer share about struct wal. */
#ifndef QUIPU_WAL_PRIVATE_H
#define QUIPU_WAL_PRIVATE_H

#include <stdatomic.h>

#include "base/lock.h"
#include "base/metric.h"
#include "base/pool.h"
#include "wal/segment.h"

/* A segment on disk, oldest first in wal->segments. */
struct wal_segment {
    uint64_t index, base_pos;
    uint64_t
        end_pos; /* after its last record; of the one being written: after the last durable one */
    uint64_t bytes; /* of the file */
};

struct wal_waiter {
    wal_done_fn *done; /* may be NULL */
    void *arg;
};
/* Where in a batch the bytes of another segment begin. */
struct wal_part {
    uint64_t base_pos;
    size_t off;
};
/* Records between wal_append and the disk. */
struct wal_batch {
    struct buf bytes;
    struct wal_part *parts;
    size_t n_parts, parts_cap;
    struct wal_waiter *waiters; /* one for each record */
    size_t n_waiters, waiters_cap;
};

/* Memory for one appender's compression, reused. */
struct wal_scratch {
    struct wal_scratch *next;
    void *lz4_state;
    struct buf packed;
};

struct wal_metrics {
    struct metric *records, *bytes, *failures, *segments, *disk_bytes, *queue_bytes;
    struct metric_histogram *fsync_seconds;
};

struct wal {
    struct env env;
    struct wal_config config;
    char *dir;
    struct wal_metrics metrics;
    struct pool *pool; /* the committer's thread; NULL without threads */

    /* seq_cst, both: who takes `coming` to 0 sees `gathering`, or the committer sees the 0. */
    _Atomic int coming;
    _Atomic bool gathering; /* the committer waits for `coming` to be 0; written under lock */

    struct lock lock; /* rank LOCK_WAL: guards what follows; no I/O and no callback under it */
    struct cond work; /* for the committer: records, a wanted sync, or the end */
    struct cond idle; /* for wal_commit: `n_completed` or `n_synced` moved */
    struct wal_batch filling;
    size_t queued_bytes; /* of `filling` and of what the committer has taken */
    /* A position is given only while a segment for it is durable, or will follow one without a jump: so
     * what a crash can make us forget lies within wal_position_jump() of what is on the disk. */
    bool in_segment;         /* else appends fail with `why` and ask for a fresh segment */
    uint64_t base_pos;       /* of the segment that is being filled, if in_segment */
    uint64_t next_pos;       /* of the next record, if in_segment; all positions given are below */
    uint64_t fresh_pos;      /* base_pos of the next fresh segment */
    bool fresh_wanted;       /* by an append, from the committer */
    int64_t marked_ms;       /* of the last WAL_TIME */
    uint64_t n_appended;     /* records so far */
    uint64_t n_completed;    /* of these, done or failed */
    uint64_t n_failed;       /* number of the last record that failed; 0 = none */
    uint64_t n_reported;     /* records whose fate a wal_commit has returned */
    uint64_t n_syncs_wanted; /* raised by wal_commit in WAL_SYNC_INTERVAL */
    uint64_t n_syncs_done;   /* the wishes that are fulfilled */
    bool replayed, stopping;
    bool committer_idle; /* sleeps until an append wakes it */
    bool failed;         /* the last write failed: `why` */
    struct err why;
    struct wal_segment *segments;
    size_t n_segments, segments_cap;
    struct wal_scratch *scratch;
    size_t n_scratch;

    /* The committer's own; without threads, of whoever calls wal_commit. */
    struct wal_batch writing;
    struct segment_writer writer;
    uint64_t next_index;
    uint64_t archived_index; /* of the last segment in the archive; its one thread's */
    int64_t last_sync_ns, last_fresh_ns;
    int64_t sync_usual_ns; /* how long an fsync takes, lately */
};

/* Writes what has gathered, and runs the callbacks. One thread at a time. */
void committer_step(struct wal *wal, bool sync_now);
void committer_run(void *wal); /* the thread: until wal->stopping and nothing is left */
void committer_finish(struct wal *wal);
/* Starts a segment at wal->fresh_pos: at first, and after a failure. An error is kept in wal->why. */
void committer_fresh_segment(struct wal *wal);

void wal_batch_init(struct wal_batch *b);
void wal_batch_release(struct wal_batch *b);
MUST_USE enum err_code wal_segment_add(struct wal *wal, const struct wal_segment *s,
                                       struct err *err); /* under the lock, or before threads */
void wal_count_segments(struct wal *wal);                /* under the lock: sets the gauges */

#endif
