/* wal/replay.c: reading the log back at start. First all headers, then the records segment by segment; the disk
 * is changed only when everything has been read, so that a failing read cannot cost a record. */
#include <inttypes.h>

#include "wal/wal_private.h"

struct replay_segment {
    struct wal_segment *s;
    struct segment_header header;
    const struct replay_segment *next; /* NULL: the newest */
    uint64_t extent;                   /* end of the last valid record in the file */
    uint64_t cut_to;                   /* new size of the file, if `cut` */
    bool cut, remove;
    bool
        settle; /* may hold bytes that were written and never synced: a killed process, a failed write */
};
struct replay {
    struct wal *wal;
    uint64_t from_pos, end_pos; /* end_pos: of what has been read, over all segments */
    wal_replay_fn *fn;
    void *ctx;
    struct wal_replay_stats *stats;
};

static enum err_code replay_header(struct wal *wal, struct replay_segment *rs, struct err *err)
{
    char path[IO_PATH_BYTES];
    enum err_code rc = segment_path(path, sizeof(path), wal->dir, rs->s->index, err);
    if (rc) return rc;
    struct segment_reader r;
    rc = segment_reader_open(wal->env.io, path, &r, err);
    if (rc) return rc;
    rs->s->bytes = r.size;
    rc = segment_reader_header(&r, &rs->header, err);
    segment_reader_close(&r);
    return rc;
}

enum err_code wal_kept_pos(struct wal *wal, uint64_t *pos, struct err *err)
{
    ASSERT(!wal->replayed);
    *pos = UINT64_MAX;
    if (wal->n_segments == 0) return ERR_OK;
    struct replay_segment rs = {.s = &wal->segments[0]};
    enum err_code rc = replay_header(wal, &rs, err);
    if (!rc && rs.header.state != SEGMENT_HEADER_BAD) *pos = rs.header.base_pos;
    return rc ? err_context(err, "opening the log in %s", wal->dir) : ERR_OK;
}

/* Where the valid records of a segment end, for one whose header is lost. */
static enum err_code replay_extent(struct segment_reader *r, uint64_t *extent, struct err *err)
{
    struct segment_item item = {.kind = SEGMENT_GAP};
    *extent = WAL_HEADER_BYTES;
    while (item.kind != SEGMENT_END) {
        enum err_code rc = segment_reader_next(r, &item, err);
        if (rc) return rc;
        if (item.kind == SEGMENT_RECORD) *extent = item.end_off;
    }
    r->off = WAL_HEADER_BYTES;
    return ERR_OK;
}

/* A lost base_pos: after the segment before. The first segment begins so that nothing in it counts as
 * replayed already, but not past its successor: to replay twice is harmless, to skip is not. */
static enum err_code replay_guess_base(struct replay *rp, struct replay_segment *rs,
                                       struct segment_reader *r, struct err *err)
{
    uint64_t base_pos = rp->end_pos, extent;
    enum err_code rc = replay_extent(r, &extent, err);
    if (rc) return rc;
    if (rs->s == rp->wal->segments) base_pos = rp->from_pos;
    if (rs->next && rs->next->header.state != SEGMENT_HEADER_BAD) {
        uint64_t next_base = rs->next->header.base_pos;
        base_pos = MIN_OF(base_pos, next_base > extent ? next_base - extent : 0);
    }
    rs->s->base_pos = base_pos;
    return ERR_OK;
}

static void replay_gap(struct replay *rp, const char *path, const struct segment_item *item)
{
    rp->stats->gaps++;
    rp->stats->gap_bytes += item->end_off - item->off;
    log_msg(rp->wal->env.log, LOG_ERROR, "wal: bad records skipped", LOG_CSTR("file", path),
            LOG_U64("offset", item->off), LOG_U64("bytes", item->end_off - item->off),
            LOG_CSTR("reason", item->reason));
}

static void replay_torn(struct replay *rp, const char *path, const struct segment_item *item)
{
    rp->stats->torn_tails++;
    rp->stats->torn_bytes += item->end_off - item->off;
    log_msg(rp->wal->env.log, LOG_WARN, "wal: unfinished end cut off", LOG_CSTR("file", path),
            LOG_U64("offset", item->off), LOG_U64("bytes", item->end_off - item->off),
            LOG_CSTR("reason", item->reason));
}

/* Whether the writer finished this segment: then its successor begins inside the file, else far beyond. */
static bool replay_was_finished(const struct replay_segment *rs)
{
    return rs->next && rs->next->header.state != SEGMENT_HEADER_BAD &&
           rs->next->header.base_pos - rs->s->base_pos <= rs->s->bytes;
}

static void replay_end(struct replay *rp, struct replay_segment *rs, const char *path,
                       const struct segment_item *item)
{
    bool unfinished = !replay_was_finished(rs);
    bool bad_header = rs->header.state == SEGMENT_HEADER_BAD;
    if (bad_header && rs->extent == WAL_HEADER_BYTES && item->end_off <= WAL_HEADER_BYTES) {
        /* Never held a record: a crash while it was made. */
        struct segment_item all = {.end_off = rs->s->bytes ? WAL_HEADER_BYTES : 0,
                                   .reason = "no header"};
        replay_torn(rp, path, &all);
        rs->remove = true;
        return;
    }
    if (bad_header) {
        struct segment_item head = {.end_off = WAL_HEADER_BYTES, .reason = "bad header"};
        replay_gap(rp, path, &head);
    }
    if (item->end_off > item->off) {
        if (unfinished)
            replay_torn(rp, path, item);
        else
            replay_gap(rp, path, item);
    }
    rs->settle = unfinished;
    if (unfinished && rs->s->bytes > item->off && !(bad_header && rs->extent == WAL_HEADER_BYTES)) {
        rs->cut = true;
        rs->cut_to = item->off;
    }
}

static enum err_code replay_record(struct replay *rp, uint64_t base_pos,
                                   const struct segment_item *item, struct err *err)
{
    struct wal_record record = {.type = (enum wal_type)item->type,
                                .pos = base_pos + item->off,
                                .end_pos = base_pos + item->end_off,
                                .payload = item->payload};
    rp->end_pos = record.end_pos;
    if (record.pos < rp->from_pos) return ERR_OK;
    rp->stats->records++;
    rp->stats->bytes += item->end_off - item->off;
    return rp->fn(rp->ctx, &record, err);
}

static enum err_code replay_records(struct replay *rp, struct replay_segment *rs,
                                    struct segment_reader *r, const char *path, struct err *err)
{
    for (;;) {
        struct segment_item item;
        enum err_code rc = segment_reader_next(r, &item, err);
        if (rc) return rc;
        if (item.kind == SEGMENT_RECORD) {
            rs->extent = item.end_off;
            rc = replay_record(rp, rs->s->base_pos, &item, err);
            if (rc) return rc;
        } else if (item.kind == SEGMENT_GAP) {
            replay_gap(rp, path, &item);
        } else {
            replay_end(rp, rs, path, &item);
            return ERR_OK;
        }
    }
}

static enum err_code replay_base(struct replay *rp, struct replay_segment *rs,
                                 struct segment_reader *r, const char *path, struct err *err)
{
    if (rs->header.state == SEGMENT_HEADER_BAD) return replay_guess_base(rp, rs, r, err);
    rs->s->base_pos = rs->header.base_pos;
    if (rs->header.state == SEGMENT_HEADER_MENDED) {
        struct segment_item head = {.end_off = WAL_HEADER_BYTES, .reason = "one bit, mended"};
        replay_gap(rp, path, &head);
    }
    if (rs->s->base_pos >= rp->end_pos) return ERR_OK;
    err_set(err, ERR_CORRUPT,
            "WAL segment begins at position %" PRIu64 ", the one before ends at %" PRIu64
            ": segments of two logs are mixed",
            rs->s->base_pos, rp->end_pos);
    return err_at(err, path, 0);
}

static enum err_code replay_segment(struct replay *rp, struct replay_segment *rs, struct err *err)
{
    rs->extent = WAL_HEADER_BYTES;
    if (rs->header.state == SEGMENT_HEADER_GOOD && rs->next &&
        rs->next->header.state == SEGMENT_HEADER_GOOD &&
        rs->next->header.base_pos <= rp->from_pos &&
        rs->next->header.base_pos >= rs->header.base_pos + WAL_HEADER_BYTES &&
        rs->header.base_pos >= rp->end_pos) { /* all of it is behind */
        rs->s->base_pos = rs->header.base_pos;
        rp->end_pos = rs->s->end_pos = rs->next->header.base_pos;
        return ERR_OK;
    }
    char path[IO_PATH_BYTES];
    enum err_code rc = segment_path(path, sizeof(path), rp->wal->dir, rs->s->index, err);
    if (rc) return rc;
    struct segment_reader r;
    rc = segment_reader_open(rp->wal->env.io, path, &r, err);
    if (rc) return rc;
    rp->stats->segments++;
    rc = replay_base(rp, rs, &r, path, err);
    if (rc == ERR_OK) rc = replay_records(rp, rs, &r, path, err);
    segment_reader_close(&r);
    rs->s->end_pos = rs->s->base_pos + rs->extent;
    rp->end_pos = MAX_OF(rp->end_pos, rs->s->end_pos);
    return rc;
}

/* Cuts the end off, and syncs: what has been replayed may not be lost by a later power cut. */
static enum err_code settle_file(struct io *io, const char *path, const struct replay_segment *rs,
                                 struct err *err)
{
    struct file *file;
    enum err_code rc = io_open(io, path, IO_READ | IO_WRITE, &file, err);
    if (rc) return rc;
    if (rs->cut) rc = file_truncate(file, rs->cut_to, err);
    if (rc == ERR_OK) rc = file_sync(file, err);
    file_close(file);
    return rc;
}

static enum err_code replay_tidy(struct wal *wal, struct replay_segment *rs, size_t n,
                                 struct err *err)
{
    bool removed = false;
    for (size_t i = 0; i < n; i++) {
        if (!rs[i].settle && !rs[i].remove) continue;
        char path[IO_PATH_BYTES];
        enum err_code rc = segment_path(path, sizeof(path), wal->dir, rs[i].s->index, err);
        if (rc) return rc;
        if (rs[i].remove) {
            rc = io_unlink(wal->env.io, path, err);
            removed = true;
        } else {
            rc = settle_file(wal->env.io, path, &rs[i], err);
            if (rs[i].cut) rs[i].s->bytes = rs[i].cut_to;
        }
        if (rc) return err_context(err, "settling the end of %s", path);
    }
    return removed ? io_sync_dir(wal->env.io, wal->dir, err) : ERR_OK;
}

static void forget_removed(struct wal *wal, const struct replay_segment *rs)
{
    size_t n = 0;
    for (size_t i = 0; i < wal->n_segments; i++)
        if (!rs[i].remove) wal->segments[n++] = wal->segments[i];
    wal->n_segments = n;
}

static void replay_count(struct wal *wal, const struct wal_replay_stats *stats)
{
    struct metrics *m = wal->env.metrics;
    metric_add(metric_counter(m, "quipu_wal_replayed_records_total",
                              "Records read back from the log at start.", ""),
               stats->records);
    metric_add(metric_counter(m, "quipu_wal_torn_tails_total",
                              "Unfinished last writes cut off at start.", ""),
               stats->torn_tails);
    metric_add(metric_counter(m, "quipu_wal_gaps_total",
                              "Places where bad records of the log were skipped.", ""),
               stats->gaps);
    metric_add(metric_counter(m, "quipu_wal_gap_bytes_total",
                              "Bytes of the log that were skipped as bad.", ""),
               stats->gap_bytes);
    lock_take(&wal->lock);
    wal_count_segments(wal);
    lock_release(&wal->lock);
}

static enum err_code replay_all(struct replay *rp, struct replay_segment *rs, size_t n,
                                struct err *err)
{
    enum err_code rc = ERR_OK;
    for (size_t i = 0; rc == ERR_OK && i < n; i++) {
        rs[i].s = &rp->wal->segments[i];
        rs[i].next = i + 1 < n ? &rs[i + 1] : NULL;
        rc = replay_header(rp->wal, &rs[i], err);
    }
    for (size_t i = 0; rc == ERR_OK && i < n; i++) rc = replay_segment(rp, &rs[i], err);
    if (rc) return rc;
    /* Every process starts a segment of its own, beyond whatever an earlier one can have handed out, be it
     * lost with the disk's cache or known only to the caller. */
    uint64_t reach = MAX_OF(rp->from_pos, rp->wal->config.min_pos);
    for (size_t i = 0; i < n; i++) reach = MAX_OF(reach, rs[i].s->base_pos + rs[i].s->bytes);
    reach = MAX_OF(reach, rp->end_pos);
    if (reach > WAL_POS_MAX)
        return err_set(err, ERR_CORRUPT, "log position %" PRIu64 " is out of range", reach);
    rc = replay_tidy(rp->wal, rs, n, err);
    if (rc) return rc;
    rp->wal->next_pos = reach;
    rp->wal->fresh_pos = reach ? wal_position_jump(reach) : 0;
    forget_removed(rp->wal, rs);
    return ERR_OK;
}

enum err_code wal_replay(struct wal *wal, uint64_t from_pos, wal_replay_fn *fn, void *ctx,
                         struct wal_replay_stats *stats, struct err *err)
{
    ASSERT(!wal->replayed);
    *stats = (struct wal_replay_stats){0};
    struct replay rp = {wal, from_pos, 0, fn, ctx, stats};
    size_t n = wal->n_segments;
    struct replay_segment *rs = mem_calloc(MEM_WAL, n + 1, sizeof(*rs));
    if (!rs) return err_set(err, ERR_NO_MEMORY, "no memory to replay the log");
    enum err_code rc = replay_all(&rp, rs, n, err);
    mem_free(rs);
    if (rc) return err_context(err, "replaying the log in %s", wal->dir);
    replay_count(wal, stats);
    /* On a full disk there is none: wal_failed() says so, appends will try again, and what has been replayed can
     * be read. */
    committer_fresh_segment(wal);
    wal->replayed = true;
    return wal->pool ? pool_submit(wal->pool, committer_run, wal, err) : ERR_OK;
}
