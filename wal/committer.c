/* wal/committer.c: group commit. Takes what the appenders have gathered, writes and syncs it, then runs the
 * callbacks in order. After a failure the segment is given up: its bytes may or may not be on the disk, and a
 * second fsync proves nothing. Everything queued fails with it, so that no record is durable that
 * comes after a lost one of the same appender. */
#include "wal/wal_private.h"

/* Between attempts to start a segment on a disk that refuses. */
#define FRESH_PAUSE_NS INT64_C(100000000)
/* Longest wait for appends under way, even if an fsync takes longer. */
#define GATHER_NS_MAX INT64_C(2000000)
#define BATCH_KEEP_BYTES ((size_t)4 << 20) /* a buffer above this is given back after use */

void wal_batch_init(struct wal_batch *b)
{
    *b = (struct wal_batch){0};
    buf_init(&b->bytes, MEM_WAL);
}

void wal_batch_release(struct wal_batch *b)
{
    buf_release(&b->bytes);
    mem_free(b->parts);
    mem_free(b->waiters);
    wal_batch_init(b);
}

static void batch_clear(struct wal_batch *b)
{
    if (b->bytes.cap > BATCH_KEEP_BYTES)
        wal_batch_release(b);
    else
        buf_reset(&b->bytes);
    b->n_parts = b->n_waiters = 0;
}

static enum err_code timed_sync(struct wal *wal, struct err *err)
{
    if (!wal->writer.file || !wal->writer.dirty) return ERR_OK;
    int64_t start_ns = clock_mono_ns(wal->env.clock);
    enum err_code rc = segment_sync(&wal->writer, err);
    wal->last_sync_ns = clock_mono_ns(wal->env.clock);
    int64_t took_ns = wal->last_sync_ns - start_ns;
    wal->sync_usual_ns += (took_ns - wal->sync_usual_ns) / 8;
    metric_observe(wal->metrics.fsync_seconds, (double)took_ns / 1e9);
    return rc;
}

static void segment_grew(struct wal *wal)
{
    lock_take(&wal->lock);
    struct wal_segment *s = &wal->segments[wal->n_segments - 1];
    s->end_pos = wal->writer.base_pos + wal->writer.off;
    s->bytes = wal->writer.allocated;
    wal_count_segments(wal);
    lock_release(&wal->lock);
}

static enum err_code start_segment(struct wal *wal, uint64_t base_pos, struct err *err)
{
    uint64_t index = wal->next_index++;
    struct segment_create create = {.dir = wal->dir,
                                    .index = index,
                                    .base_pos = base_pos,
                                    .segment_bytes = wal->config.segment_bytes,
                                    .synced = wal->config.sync == WAL_SYNC_ALWAYS};
    enum err_code rc = segment_create(wal->env.io, &create, &wal->writer, err);
    if (rc) return rc;
    struct wal_segment s = {index, base_pos, base_pos + wal->writer.off, wal->writer.allocated};
    lock_take(&wal->lock);
    rc = wal_segment_add(wal, &s, err);
    wal_count_segments(wal);
    lock_release(&wal->lock);
    if (rc) segment_abandon(&wal->writer);
    return rc;
}

static enum err_code next_segment(struct wal *wal, uint64_t base_pos, struct err *err)
{
    enum err_code rc = wal->config.sync == WAL_SYNC_OFF ? ERR_OK : timed_sync(wal, err);
    if (rc) return rc;
    segment_finish(&wal->writer);
    lock_take(&wal->lock);
    wal->segments[wal->n_segments - 1].bytes = wal->writer.off;
    lock_release(&wal->lock);
    return start_segment(wal, base_pos, err);
}

void committer_fresh_segment(struct wal *wal)
{
    struct err err;
    wal->last_fresh_ns = clock_mono_ns(wal->env.clock);
    lock_take(&wal->lock);
    uint64_t base_pos = wal->fresh_pos;
    lock_release(&wal->lock);
    enum err_code rc = start_segment(wal, base_pos, &err);
    lock_take(&wal->lock);
    bool was_failed = wal->failed;
    wal->fresh_wanted = false;
    wal->failed = rc != ERR_OK;
    if (rc) {
        wal->why = err;
        wal->fresh_pos = wal_position_jump(base_pos); /* a header may have reached the disk */
    } else {
        wal->in_segment = true;
        wal->base_pos = base_pos;
        wal->next_pos = base_pos + WAL_HEADER_BYTES;
    }
    lock_release(&wal->lock);
    if (rc) metric_inc(wal->metrics.failures);
    /* At the end of replay nobody waits yet: whoever opened the log asks wal_failed() and says so. */
    if (rc && !was_failed && wal->replayed)
        log_msg(wal->env.log, LOG_ERROR, "wal: cannot start a segment", LOG_ERR(&err));
    else if (rc == ERR_OK && was_failed)
        log_msg(wal->env.log, LOG_INFO, "wal: writes go on in a fresh segment");
}

static enum err_code batch_write(struct wal *wal, const struct wal_batch *b, struct err *err)
{
    for (size_t i = 0; i < b->n_parts; i++) {
        const struct wal_part *part = &b->parts[i];
        size_t end = i + 1 < b->n_parts ? b->parts[i + 1].off : b->bytes.len;
        enum err_code rc = ERR_OK;
        if (wal->writer.base_pos != part->base_pos) rc = next_segment(wal, part->base_pos, err);
        if (rc == ERR_OK)
            rc =
                segment_write(&wal->writer, bytes_of(b->bytes.p + part->off, end - part->off), err);
        if (rc) return rc;
        segment_grew(wal);
    }
    return ERR_OK;
}

/* Takes the filling batch; false when there is none. */
static bool batch_take(struct wal *wal)
{
    lock_take(&wal->lock);
    struct wal_batch b = wal->filling;
    wal->filling = wal->writing;
    wal->writing = b;
    lock_release(&wal->lock);
    return b.n_waiters > 0;
}

static void batch_done(struct wal *wal, enum err_code rc)
{
    struct wal_batch *b = &wal->writing;
    for (size_t i = 0; i < b->n_waiters; i++)
        if (b->waiters[i].done) b->waiters[i].done(b->waiters[i].arg, rc);
    if (rc == ERR_OK) {
        metric_add(wal->metrics.records, b->n_waiters);
        metric_add(wal->metrics.bytes, b->bytes.len);
    }
    lock_take(&wal->lock);
    wal->n_completed += b->n_waiters;
    if (rc) wal->n_failed = wal->n_completed;
    wal->queued_bytes -= b->bytes.len;
    metric_set(wal->metrics.queue_bytes, (double)wal->queued_bytes);
    cond_broadcast(&wal->idle);
    lock_release(&wal->lock);
    batch_clear(b);
}

/* Gives the segment up and fails what was written to it last and what waits behind. */
static void commit_failed(struct wal *wal, const struct err *why)
{
    segment_abandon(&wal->writer);
    metric_inc(wal->metrics.failures);
    log_msg(wal->env.log, LOG_ERROR, "wal: write failed, segment abandoned", LOG_ERR(why));
    lock_take(&wal->lock);
    wal->failed = true;
    wal->why = *why;
    wal->in_segment = false;
    wal->fresh_pos = wal_position_jump(wal->next_pos);
    lock_release(&wal->lock);
    if (wal->config.lost) wal->config.lost(wal->config.lost_ctx);
    batch_done(wal, why->code);
    if (batch_take(wal)) batch_done(wal, why->code);
}

void committer_step(struct wal *wal, bool sync_now)
{
    struct err err;
    enum err_code rc = ERR_OK;
    bool took = batch_take(wal);
    if (took) rc = batch_write(wal, &wal->writing, &err);
    if (rc == ERR_OK && (sync_now || (took && wal->config.sync == WAL_SYNC_ALWAYS)))
        rc = timed_sync(wal, &err);
    if (rc) {
        commit_failed(wal, &err);
    } else if (took) {
        batch_done(wal, ERR_OK);
        segment_prepare(&wal->writer);
    }
}

static int64_t sync_due_ns(const struct wal *wal)
{
    return wal->last_sync_ns + wal->config.sync_interval_ms * 1000000 -
           clock_mono_ns(wal->env.clock);
}

/* How long the committer may sleep: 0 = there is something to do, INT64_MAX = until it is woken. Under the lock. */
static int64_t committer_idle_ns(const struct wal *wal)
{
    if (wal->filling.n_waiters || wal->n_syncs_wanted != wal->n_syncs_done) return 0;
    int64_t idle_ns = INT64_MAX;
    if (wal->fresh_wanted)
        idle_ns = wal->last_fresh_ns + FRESH_PAUSE_NS - clock_mono_ns(wal->env.clock);
    else if (wal->config.sync == WAL_SYNC_INTERVAL && wal->writer.dirty)
        idle_ns = sync_due_ns(wal);
    return MAX_OF(idle_ns, 0);
}

/* Sleeps until there is something to do; false at the end. Under the lock. */
static bool committer_wait(struct wal *wal)
{
    for (;;) {
        int64_t idle_ns = committer_idle_ns(wal);
        if (idle_ns == 0) return true;
        if (wal->stopping) return false;
        wal->committer_idle = true;
        if (idle_ns == INT64_MAX)
            cond_wait(&wal->work, &wal->lock);
        else
            (void)cond_wait_for(&wal->work, &wal->lock, idle_ns);
        wal->committer_idle = false;
    }
}

/* An append that comes during an fsync waits for the end of it, and then for its own. So it costs nobody to wait a
 * little, less than an fsync takes, for those that are nearly here: two fsyncs become one. Under the lock. */
static void committer_gather(struct wal *wal)
{
    int64_t wait_ns = MIN_OF(wal->sync_usual_ns, GATHER_NS_MAX);
    int64_t end_ns = clock_mono_ns(wal->env.clock) + wait_ns;
    atomic_store(&wal->gathering, true);
    while (atomic_load(&wal->coming) > 0 && !wal->stopping && wait_ns > 0) {
        (void)cond_wait_for(&wal->work, &wal->lock, wait_ns);
        wait_ns = end_ns - clock_mono_ns(wal->env.clock);
    }
    atomic_store(&wal->gathering, false);
}

void wal_coming(struct wal *wal, int n)
{
    if (atomic_fetch_add(&wal->coming, n) + n > 0 || !atomic_load(&wal->gathering)) return;
    lock_take(&wal->lock);
    cond_signal(&wal->work);
    lock_release(&wal->lock);
}

void committer_run(void *arg)
{
    struct wal *wal = arg;
    lock_take(&wal->lock);
    while (committer_wait(wal)) {
        uint64_t wanted = wal->n_syncs_wanted;
        bool fresh = wal->fresh_wanted;
        bool sync_now = wanted != wal->n_syncs_done ||
                        (wal->config.sync == WAL_SYNC_INTERVAL && sync_due_ns(wal) <= 0);
        if (wal->filling.n_waiters && wal->config.sync == WAL_SYNC_ALWAYS) committer_gather(wal);
        lock_release(&wal->lock);
        if (fresh)
            committer_fresh_segment(wal);
        else
            committer_step(wal, sync_now);
        lock_take(&wal->lock);
        if (!fresh) wal->n_syncs_done = wanted;
        cond_broadcast(&wal->idle);
    }
    lock_release(&wal->lock);
}

void committer_finish(struct wal *wal)
{
    struct err err;
    if (!wal->writer.file) return;
    if (wal->config.sync != WAL_SYNC_OFF && timed_sync(wal, &err)) {
        commit_failed(wal, &err);
        return;
    }
    segment_finish(&wal->writer);
}
