/* wal/wal.c: opening, appending, cutting. What reaches the disk is committer.c's, what comes back replay.c's. */
#include "wal/wal.h"

#include <inttypes.h>
#include <lz4.h>

#include "base/crc32c.h"
#include "wal/record.h"
#include "wal/wal_private.h"

#define SCRATCH_KEEP 8 /* spare scratches: more appenders at once than that allocate */
#define SCRATCH_KEEP_BYTES ((size_t)1 << 20)

const char *wal_type_name(enum wal_type type)
{
    switch (type) {
    case WAL_SERIES: return "series";
    case WAL_SAMPLES: return "samples";
    case WAL_HISTOGRAMS: return "histograms";
    case WAL_STARTED: return "samples with start timestamps";
    case WAL_EXEMPLARS: return "exemplars";
    case WAL_METADATA: return "metadata";
    case WAL_TOMBSTONE: return "tombstone";
    case WAL_CHECKPOINT: return "checkpoint";
    case WAL_TIME: return "time";
    case WAL_PAD: return "pad";
    case WAL_TENANT: return "tenant";
    }
    return "unknown";
}

struct wal_config wal_config_default(const char *dir)
{
    return (struct wal_config){.dir = dir,
                               .segment_bytes = UINT64_C(64) << 20,
                               .queue_bytes_max = (size_t)64 << 20,
                               .sync = WAL_SYNC_ALWAYS,
                               .sync_interval_ms = 1000};
}

/* ---- open and close ---- */

enum err_code wal_segment_add(struct wal *wal, const struct wal_segment *s, struct err *err)
{
    void *items = wal->segments;
    enum err_code rc = mem_grow(MEM_WAL, &items, &wal->segments_cap, wal->n_segments + 1,
                                sizeof(*wal->segments), err);
    wal->segments = items;
    if (rc == ERR_OK) wal->segments[wal->n_segments++] = *s;
    return rc;
}

void wal_count_segments(struct wal *wal)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < wal->n_segments; i++) bytes += wal->segments[i].bytes;
    metric_set(wal->metrics.segments, (double)wal->n_segments);
    metric_set(wal->metrics.disk_bytes, (double)bytes);
}

static void metrics_open(struct wal *wal)
{
    struct metrics *m = wal->env.metrics;
    wal->metrics = (struct wal_metrics){
        .records = metric_counter(m, "quipu_wal_records_total", "Records written to the log.", ""),
        .bytes = metric_counter(m, "quipu_wal_bytes_total",
                                "Bytes of the records written to the log, compressed.", ""),
        .failures = metric_counter(m, "quipu_wal_failures_total",
                                   "Failed writes and fsyncs; each abandons a segment.", ""),
        .segments = metric_gauge(m, "quipu_wal_segments", "Segments of the log on disk.", ""),
        .disk_bytes = metric_gauge(m, "quipu_wal_disk_bytes", "Size of the log on disk.", ""),
        .queue_bytes = metric_gauge(m, "quipu_wal_queue_bytes",
                                    "Bytes of records that wait for the disk.", ""),
        .fsync_seconds =
            metric_histogram(m, "quipu_wal_fsync_seconds", "Time of one fsync of the log.", "",
                             METRIC_SECONDS, METRIC_SECONDS_N),
    };
}

struct listing {
    struct wal *wal;
    enum err_code rc;
    struct err *err;
};

static bool list_segment(void *ctx, const char *name, bool is_dir)
{
    struct listing *l = ctx;
    struct wal_segment s = {0};
    if (is_dir || !segment_name_parse(name, &s.index)) return true;
    l->rc = wal_segment_add(l->wal, &s, l->err);
    return l->rc == ERR_OK;
}

static enum err_code list_segments(struct wal *wal, struct err *err)
{
    struct listing l = {wal, ERR_OK, err};
    enum err_code rc = io_list(wal->env.io, wal->dir, list_segment, &l, err);
    if (rc || l.rc) return rc ? rc : l.rc;
    for (size_t i = 1; i < wal->n_segments; i++) { /* insertion: few, and mostly in order */
        struct wal_segment s = wal->segments[i];
        size_t at = i;
        for (; at > 0 && wal->segments[at - 1].index > s.index; at--)
            wal->segments[at] = wal->segments[at - 1];
        wal->segments[at] = s;
    }
    wal->next_index = wal->n_segments ? wal->segments[wal->n_segments - 1].index + 1 : 1;
    return ERR_OK;
}

static enum err_code config_check(const struct wal_config *config, struct err *err)
{
    if (config->segment_bytes < WAL_HEADER_BYTES || config->segment_bytes > WAL_SEGMENT_BYTES_LIMIT)
        return err_set(err, ERR_INVALID, "WAL segments of %" PRIu64 " bytes: at most %" PRIu64,
                       config->segment_bytes, WAL_SEGMENT_BYTES_LIMIT);
    if (config->queue_bytes_max > WAL_QUEUE_BYTES_LIMIT)
        return err_set(err, ERR_INVALID, "a WAL queue of %zu bytes: at most %zu",
                       config->queue_bytes_max, WAL_QUEUE_BYTES_LIMIT);
    return ERR_OK;
}

enum err_code wal_open(const struct env *env, const struct wal_config *config, struct wal **out,
                       struct err *err)
{
    *out = NULL;
    enum err_code rc = config_check(config, err);
    if (rc) return rc;
    struct wal *wal = mem_calloc(MEM_WAL, 1, sizeof(*wal));
    if (!wal) return err_set(err, ERR_NO_MEMORY, "no memory for the log");
    wal->env = *env;
    wal->config = *config;
    wal->dir = mem_strdup(MEM_WAL, config->dir);
    wal->config.dir = wal->dir;
    wal_batch_init(&wal->filling);
    wal_batch_init(&wal->writing);
    lock_init(&wal->lock, LOCK_WAL);
    cond_init(&wal->work);
    cond_init(&wal->idle);
    metrics_open(wal);
    rc = wal->dir ? io_mkdir_all(env->io, wal->dir, err)
                  : err_set(err, ERR_NO_MEMORY, "no memory for the log");
    if (rc == ERR_OK) rc = list_segments(wal, err);
    if (rc == ERR_OK && env->threads) rc = pool_new("wal", 1, 1, &wal->pool, err);
    if (rc) {
        wal_close(wal);
        return err_context(err, "opening the log in %s", config->dir);
    }
    *out = wal;
    return ERR_OK;
}

static void scratch_free(struct wal_scratch *s)
{
    if (!s) return;
    buf_release(&s->packed);
    mem_free(s->lz4_state);
    mem_free(s);
}

void wal_close(struct wal *wal)
{
    if (!wal) return;
    lock_take(&wal->lock);
    wal->stopping = true;
    cond_broadcast(&wal->work);
    lock_release(&wal->lock);
    pool_free(wal->pool); /* waits for committer_run, which leaves nothing queued */
    committer_step(wal, false);
    committer_finish(wal);
    for (struct wal_scratch *s = wal->scratch, *next; s; s = next) {
        next = s->next;
        scratch_free(s);
    }
    wal_batch_release(&wal->filling);
    wal_batch_release(&wal->writing);
    cond_destroy(&wal->work);
    cond_destroy(&wal->idle);
    lock_destroy(&wal->lock);
    mem_free(wal->segments);
    mem_free(wal->dir);
    mem_free(wal);
}

/* ---- append ---- */

static struct wal_scratch *scratch_take(struct wal *wal)
{
    lock_take(&wal->lock);
    struct wal_scratch *s = wal->scratch;
    if (s) {
        wal->scratch = s->next;
        wal->n_scratch--;
    }
    lock_release(&wal->lock);
    if (s) return s;
    s = mem_calloc(MEM_WAL, 1, sizeof(*s));
    if (!s) return NULL;
    buf_init(&s->packed, MEM_WAL);
    s->lz4_state = mem_alloc(MEM_WAL, (size_t)LZ4_sizeofState());
    if (s->lz4_state) return s;
    scratch_free(s);
    return NULL;
}

/* Under the lock. Returns what is too much; the caller frees it outside. */
static struct wal_scratch *scratch_give(struct wal *wal, struct wal_scratch *s)
{
    if (!s || wal->n_scratch >= SCRATCH_KEEP || s->packed.cap > SCRATCH_KEEP_BYTES) return s;
    s->next = wal->scratch;
    wal->scratch = s;
    wal->n_scratch++;
    return NULL;
}

/* The stored payload: packed into the scratch where that is smaller, else as it came. Without memory for it
 * the record is simply not compressed. */
static struct bytes payload_pack(struct wal_scratch *s, struct bytes payload, uint8_t *flags)
{
    *flags = 0;
    if (!s || payload.len < WAL_LZ4_BYTES_MIN) return payload;
    buf_reset(&s->packed);
    uint8_t *p = buf_reserve(&s->packed, payload.len + VARINT_BYTES_MAX);
    if (!p) return payload;
    size_t head = put_varint(p, payload.len);
    int room = (int)(payload.len - payload.len / 16 - head); /* less is not worth the unpacking */
    int n = LZ4_compress_fast_extState(s->lz4_state, (const char *)payload.p, (char *)p + head,
                                       (int)payload.len, room, 1);
    if (n <= 0) return payload;
    *flags = WAL_TYPE_LZ4;
    return bytes_of(p, head + (size_t)n);
}

/* Room in the filling batch for one record, so that nothing can fail after a position is assigned. */
static enum err_code batch_reserve(struct wal_batch *b, size_t n_bytes, struct err *err)
{
    void *parts = b->parts, *waiters = b->waiters;
    enum err_code rc =
        mem_grow(MEM_WAL, &parts, &b->parts_cap, b->n_parts + 1, sizeof(*b->parts), err);
    b->parts = parts;
    if (rc) return rc;
    rc = mem_grow(MEM_WAL, &waiters, &b->waiters_cap, b->n_waiters + 1, sizeof(*b->waiters), err);
    b->waiters = waiters;
    if (rc) return rc;
    if (!buf_reserve(&b->bytes, n_bytes)) {
        b->bytes.failed = false; /* nothing was dropped: the append is refused */
        return err_set(err, ERR_NO_MEMORY, "no memory to queue a record of %zu bytes", n_bytes);
    }
    return ERR_OK;
}

/* Under the lock: the position of a record of n_bytes, in this segment or at the start of the next. */
static uint64_t position_assign(struct wal *wal, size_t n_bytes)
{
    struct wal_batch *b = &wal->filling;
    if (wal->next_pos > wal->base_pos + WAL_HEADER_BYTES &&
        wal->next_pos + n_bytes > wal->base_pos + wal->config.segment_bytes) {
        wal->base_pos = wal->next_pos;
        wal->next_pos += WAL_HEADER_BYTES;
    }
    if (b->n_parts == 0 || b->parts[b->n_parts - 1].base_pos != wal->base_pos)
        b->parts[b->n_parts++] = (struct wal_part){wal->base_pos, b->bytes.len};
    uint64_t pos = wal->next_pos;
    wal->next_pos += n_bytes;
    return pos;
}

struct append {
    uint8_t head[WAL_RECORD_HEADER_BYTES];
    struct bytes payload;
    struct wal_waiter waiter;
    int64_t t_ms; /* now, if there are marks */
};

#define MARK_BYTES (WAL_RECORD_HEADER_BYTES + WAL_TIME_BYTES)

/* Under the lock. A segment begins with a mark, so that it tells its times without the one before. A clock that goes back
 * does not: times in the log never fall. */
static bool mark_is_due(struct wal *wal, const struct append *a, size_t n_bytes)
{
    if (!wal->config.time_marks) return false;
    return a->t_ms > wal->marked_ms || wal->next_pos == wal->base_pos + WAL_HEADER_BYTES ||
           wal->next_pos + n_bytes + MARK_BYTES > wal->base_pos + wal->config.segment_bytes;
}

static void put_mark(struct wal *wal, const struct append *a)
{
    uint8_t p[MARK_BYTES];
    wal->marked_ms = MAX_OF(wal->marked_ms, a->t_ms);
    put_u32_le(p, WAL_TIME_BYTES);
    p[8] = WAL_TIME;
    wal_encode_time(p + WAL_RECORD_HEADER_BYTES, wal->marked_ms);
    uint32_t crc = crc32c(crc32c(0, p, 4), p + 8, 1);
    put_u32_le(p + 4, crc32c(crc, p + WAL_RECORD_HEADER_BYTES, WAL_TIME_BYTES));
    buf_put(&wal->filling.bytes, p, sizeof(p));
}

/* Under the lock. */
static enum err_code append_queue(struct wal *wal, const struct append *a, uint64_t *pos,
                                  struct err *err)
{
    size_t n_bytes = sizeof(a->head) + a->payload.len;
    bool mark = mark_is_due(wal, a, n_bytes);
    ASSERT(wal->replayed);
    if (mark) n_bytes += MARK_BYTES;
    if (wal->stopping) return err_set(err, ERR_SHUTDOWN, "the log is closing");
    if (!wal->in_segment) {
        wal->fresh_wanted = true;
        cond_signal(&wal->work);
        *err = wal->why;
        return err->code;
    }
    if (n_bytes > wal->config.queue_bytes_max ||
        wal->queued_bytes > wal->config.queue_bytes_max - n_bytes)
        return err_set(err, ERR_LIMIT, "the log's queue is full: %zu bytes wait, at most %zu",
                       wal->queued_bytes, wal->config.queue_bytes_max);
    struct wal_batch *b = &wal->filling;
    enum err_code rc = batch_reserve(b, n_bytes, err);
    if (rc) return rc;
    *pos = position_assign(wal, n_bytes) + (mark ? MARK_BYTES : 0);
    if (mark) put_mark(wal, a);
    buf_put(&b->bytes, a->head, sizeof(a->head));
    buf_put(&b->bytes, a->payload.p, a->payload.len);
    b->waiters[b->n_waiters++] = a->waiter;
    wal->queued_bytes += n_bytes;
    wal->n_appended++;
    metric_set(wal->metrics.queue_bytes, (double)wal->queued_bytes);
    if (wal->committer_idle) cond_signal(&wal->work);
    return ERR_OK;
}

enum err_code wal_append(struct wal *wal, enum wal_type type, struct bytes payload,
                         wal_done_fn *done, void *arg, uint64_t *pos, struct err *err)
{
    if (payload.len == 0 || payload.len > WAL_PAYLOAD_BYTES_MAX)
        return err_set(err, ERR_INVALID, "a log record of %zu bytes: 1 to %zu", payload.len,
                       WAL_PAYLOAD_BYTES_MAX);
    struct wal_scratch *scratch = scratch_take(wal);
    struct append a = {.waiter = {done, arg}};
    uint8_t flags;
    a.payload = payload_pack(scratch, payload, &flags);
    put_u32_le(a.head, (uint32_t)a.payload.len);
    a.head[8] = (uint8_t)((unsigned)type | flags);
    uint32_t crc = crc32c(crc32c(0, a.head, 4), a.head + 8, 1);
    put_u32_le(a.head + 4, crc32c(crc, a.payload.p, a.payload.len));
    if (wal->config.time_marks) a.t_ms = clock_wall_ms(wal->env.clock);

    lock_take(&wal->lock);
    if (!wal->in_segment && !wal->pool) {
        lock_release(&wal->lock);
        committer_fresh_segment(wal);
        lock_take(&wal->lock);
    }
    enum err_code rc = append_queue(wal, &a, pos, err);
    struct wal_scratch *surplus = scratch_give(wal, scratch);
    lock_release(&wal->lock);
    scratch_free(surplus);
    return rc;
}

enum err_code wal_commit(struct wal *wal, struct err *err)
{
    bool sync = wal->config.sync == WAL_SYNC_INTERVAL;
    lock_take(&wal->lock);
    uint64_t reported = wal->n_reported, until = wal->n_appended;
    uint64_t syncs = sync ? ++wal->n_syncs_wanted : wal->n_syncs_done;
    if (wal->pool) {
        cond_signal(&wal->work);
        while (wal->n_completed < until || wal->n_syncs_done < syncs)
            cond_wait(&wal->idle, &wal->lock);
    } else {
        lock_release(&wal->lock);
        committer_step(wal, sync);
        lock_take(&wal->lock);
        wal->n_syncs_done = wal->n_syncs_wanted;
    }
    /* A record that failed between two commits is told by the second. */
    enum err_code rc = ERR_OK;
    if (wal->n_failed > reported) {
        *err = wal->why;
        rc = err->code;
    }
    wal->n_reported = MAX_OF(wal->n_reported, until);
    lock_release(&wal->lock);
    return rc;
}

/* ---- positions and cutting ---- */

uint64_t wal_end_pos(struct wal *wal)
{
    lock_take(&wal->lock);
    uint64_t pos = wal->next_pos;
    lock_release(&wal->lock);
    return pos;
}

uint64_t wal_begin_pos(struct wal *wal)
{
    lock_take(&wal->lock);
    uint64_t pos = wal->n_segments ? wal->segments[0].base_pos : wal->next_pos;
    lock_release(&wal->lock);
    return pos;
}

uint64_t wal_disk_bytes(struct wal *wal)
{
    uint64_t bytes = 0;
    lock_take(&wal->lock);
    for (size_t i = 0; i < wal->n_segments; i++) bytes += wal->segments[i].bytes;
    lock_release(&wal->lock);
    return bytes;
}

uint64_t wal_bytes_from(struct wal *wal, uint64_t pos)
{
    uint64_t bytes = 0;
    lock_take(&wal->lock);
    for (size_t i = wal->n_segments; i-- > 0;) {
        const struct wal_segment *s = &wal->segments[i];
        /* Of the newest, what waits for the disk counts, too, in whatever segment it will be. */
        uint64_t end = i + 1 == wal->n_segments ? MAX_OF(s->end_pos, wal->next_pos) : s->end_pos;
        if (end <= pos) break;
        bytes += end - MAX_OF(s->base_pos, pos);
    }
    lock_release(&wal->lock);
    return bytes;
}

/* The oldest segment if it may go: never the newest, which keeps the positions. */
static bool cut_candidate(struct wal *wal, uint64_t pos, uint64_t *index)
{
    lock_take(&wal->lock);
    bool found = wal->n_segments > 1 && wal->segments[0].end_pos <= pos;
    if (found) *index = wal->segments[0].index;
    lock_release(&wal->lock);
    return found;
}

bool wal_can_cut(struct wal *wal, uint64_t pos)
{
    uint64_t index;
    return cut_candidate(wal, pos, &index);
}

static void cut_forget(struct wal *wal, uint64_t index)
{
    lock_take(&wal->lock);
    if (wal->n_segments && wal->segments[0].index == index) { /* else another thread was quicker */
        wal->n_segments--;
        memmove(wal->segments, wal->segments + 1, wal->n_segments * sizeof(*wal->segments));
        wal_count_segments(wal);
    }
    lock_release(&wal->lock);
}

enum err_code wal_cut(struct wal *wal, uint64_t pos, struct err *err)
{
    uint64_t index;
    bool removed = false;
    while (cut_candidate(wal, pos, &index)) {
        char path[IO_PATH_BYTES];
        enum err_code rc = segment_path(path, sizeof(path), wal->dir, index, err);
        if (rc == ERR_OK) rc = io_unlink(wal->env.io, path, err);
        if (rc && rc != ERR_NOT_FOUND) return err_context(err, "cutting the log");
        cut_forget(wal, index);
        removed = true;
    }
    return removed ? io_sync_dir(wal->env.io, wal->dir, err) : ERR_OK;
}

bool wal_failed(struct wal *wal, struct err *why)
{
    lock_take(&wal->lock);
    bool failed = wal->failed;
    if (failed) *why = wal->why;
    lock_release(&wal->lock);
    return failed;
}

void wal_retry(struct wal *wal)
{
    lock_take(&wal->lock);
    bool want = wal->replayed && !wal->in_segment && !wal->stopping;
    if (want && wal->pool) {
        wal->fresh_wanted = true;
        cond_signal(&wal->work);
    }
    lock_release(&wal->lock);
    if (want && !wal->pool) committer_fresh_segment(wal);
}
