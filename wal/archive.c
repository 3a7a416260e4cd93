/* wal/archive.c: see the header. */
#include "wal/archive.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/crc32c.h"
#include "base/file_copy.h"
#include "wal/record.h"
#include "wal/wal_private.h"

#define PART ".part"
#define ARCHIVED_AT_ONCE 2 /* whoever asks has other work */

/* ---- segments of a folder ---- */

struct seg {
    uint64_t index, base_pos, bytes;
    bool part;
};
struct segs {
    struct seg *items; /* by index */
    size_t n, cap;
};

static enum err_code seg_path(char *out, const char *dir, const struct seg *s, struct err *err)
{
    char name[48];
    snprintf(name, sizeof(name), "%08" PRIu64 ".wal%s", s->index, s->part ? PART : "");
    return io_path(out, IO_PATH_BYTES, err, dir, name);
}

static enum err_code seg_look(struct io *io, const char *dir, struct seg *s, struct err *err)
{
    char path[IO_PATH_BYTES];
    struct segment_reader r;
    struct segment_header header;
    enum err_code rc = seg_path(path, dir, s, err);
    if (!rc) rc = segment_reader_open(io, path, &r, err);
    if (rc) return rc;
    s->bytes = r.size;
    rc = segment_reader_header(&r, &header, err);
    segment_reader_close(&r);
    if (!rc && header.state == SEGMENT_HEADER_BAD) {
        err_set(err, ERR_CORRUPT, "a segment of the log without a header");
        rc = err_at(err, path, 0);
    }
    s->base_pos = header.base_pos;
    return rc;
}

static int compare_index(const void *a, const void *b)
{
    const struct seg *x = a, *y = b;
    if (x->index != y->index) return x->index < y->index ? -1 : 1;
    return x->part - y->part;
}

static bool name_parse(const char *name, struct seg *s)
{
    char whole[64];
    size_t len = strlen(name);
    *s = (struct seg){.part = str_has_suffix(str_of(name), STR(PART))};
    if (len >= sizeof(whole)) return false;
    snprintf(whole, sizeof(whole), "%.*s", (int)(len - (s->part ? strlen(PART) : 0)), name);
    return segment_name_parse(whole, &s->index);
}

/* Sorted; a part goes where the finished segment is there. */
static enum err_code segs_list(struct io *io, const char *dir, struct segs *out, struct err *err)
{
    struct buf names;
    buf_init(&names, MEM_WAL);
    *out = (struct segs){0};
    enum err_code rc = file_names(io, dir, &names, err);
    for (size_t off = 0; !rc && off < names.len;) {
        const char *name = (const char *)names.p + off;
        struct seg s;
        off += strlen(name) + 1;
        if (!name_parse(name, &s)) continue;
        void *items = out->items;
        rc = mem_grow(MEM_WAL, &items, &out->cap, out->n + 1, sizeof(s), err);
        out->items = items;
        if (!rc) rc = seg_look(io, dir, &s, err);
        if (!rc) out->items[out->n++] = s;
    }
    buf_release(&names);
    if (out->n) qsort(out->items, out->n, sizeof(*out->items), compare_index);
    size_t n = 0;
    for (size_t i = 0; i < out->n; i++)
        if (!(n && out->items[n - 1].index == out->items[i].index)) out->items[n++] = out->items[i];
    out->n = n;
    return rc;
}

static void segs_release(struct segs *segs)
{
    mem_free(segs->items);
}

/* ---- out of a running log ---- */

/* Segments as they are now. */
static enum err_code segments_now(struct wal *wal, struct wal_segment **out, size_t *n,
                                  struct err *err)
{
    lock_take(&wal->lock);
    size_t cap = wal->n_segments;
    lock_release(&wal->lock);
    *n = 0;
    *out = mem_calloc(MEM_WAL, cap + 2, sizeof(**out));
    if (!*out) return err_set(err, ERR_NO_MEMORY, "no memory to list the log");
    lock_take(&wal->lock);
    *n = MIN_OF(wal->n_segments, cap + 2); /* what is newer than that is of no interest */
    memcpy(*out, wal->segments, *n * sizeof(**out));
    lock_release(&wal->lock);
    return ERR_OK;
}

/* Every record up to the end of the file: what was read while it was being written, is it what was written? */
static enum err_code check_copy(struct io *io, const char *path, struct err *err)
{
    struct segment_reader r;
    struct segment_header header;
    struct segment_item item = {.kind = SEGMENT_RECORD};
    enum err_code rc = segment_reader_open(io, path, &r, err);
    if (rc) return rc;
    rc = segment_reader_header(&r, &header, err);
    while (!rc && item.kind == SEGMENT_RECORD) rc = segment_reader_next(&r, &item, err);
    if (!rc && (item.kind != SEGMENT_END || item.off != r.size)) {
        err_set(err, ERR_CORRUPT, "a segment of the log was not copied as it was written");
        rc = err_at(err, path, item.off);
    }
    segment_reader_close(&r);
    return rc;
}

static enum err_code copy_up_to(struct io *io, const char *from, const char *to, uint64_t bytes,
                                struct err *err)
{
    enum err_code rc = file_copy(io, from, to, bytes, NULL, NULL, err);
    return rc ? rc : check_copy(io, to, err);
}

static enum err_code save_segment(struct wal *wal, const char *dir, const struct wal_segment *s,
                                  bool newest, uint64_t end_pos, uint64_t *bytes, struct err *err)
{
    char from[IO_PATH_BYTES], to[IO_PATH_BYTES];
    struct io *io = wal->env.io;
    enum err_code rc = segment_path(from, sizeof(from), wal->dir, s->index, err);
    if (!rc) rc = segment_path(to, sizeof(to), dir, s->index, err);
    if (rc) return rc;
    if (!newest && s->end_pos <= end_pos) {
        *bytes += s->bytes;
        return file_link_or_copy(io, from, to, err);
    }
    uint64_t n = MIN_OF(end_pos, s->end_pos) - s->base_pos;
    *bytes += n;
    return copy_up_to(io, from, to, MAX_OF(n, (uint64_t)WAL_HEADER_BYTES), err);
}

enum err_code wal_save(struct wal *wal, const char *dir, uint64_t from_pos, uint64_t end_pos,
                       uint64_t *bytes, struct err *err)
{
    struct wal_segment *segments;
    size_t n;
    *bytes = 0;
    enum err_code rc = segments_now(wal, &segments, &n, err);
    for (size_t i = 0; !rc && i < n; i++) {
        const struct wal_segment *s = &segments[i];
        bool last = i + 1 == n || segments[i + 1].base_pos >= end_pos;
        /* The one with the end keeps the positions, also when all of it is in blocks. */
        if (s->end_pos <= from_pos && !last) continue;
        if (s->base_pos >= end_pos) break;
        rc = save_segment(wal, dir, s, i + 1 == n, end_pos, bytes, err);
    }
    mem_free(segments);
    if (!rc) rc = io_sync_dir(wal->env.io, dir, err);
    return rc ? err_context(err, "copying the log") : ERR_OK;
}

/* ---- the archive ---- */

struct compare {
    struct file *other;
    uint64_t off;
    uint8_t *part;
    size_t cap;
    bool same;
};

static enum err_code compare_part(void *ctx, struct bytes part, struct err *err)
{
    struct compare *c = ctx;
    size_t n;
    for (size_t off = 0; c->same && off < part.len; off += n) {
        size_t want = MIN_OF(part.len - off, c->cap);
        enum err_code rc = file_read_at(c->other, c->off, c->part, want, &n, err);
        if (rc) return rc;
        c->same = n == want && memcmp(c->part, part.p + off, want) == 0;
        c->off += n;
    }
    return ERR_OK;
}

/* Is what the archive has under that name this segment? */
static enum err_code check_same(struct io *io, const char *path, const char *archived,
                                struct err *err)
{
    struct compare c = {.cap = (size_t)1 << 18, .same = true};
    uint64_t bytes = 0;
    enum err_code rc = io_open(io, archived, IO_READ, &c.other, err);
    if (rc) return rc;
    c.part = mem_alloc(MEM_WAL, c.cap);
    if (!c.part) rc = err_set(err, ERR_NO_MEMORY, "no memory to compare segments");
    if (!rc) rc = file_scan(io, path, compare_part, &c, err);
    if (!rc) rc = file_size(c.other, &bytes, err);
    if (!rc && !(c.same && c.off == bytes))
        rc = err_set(err, ERR_EXISTS,
                     "the archive has another log's segment as %s: wal.archive must be a folder "
                     "of this server alone",
                     archived);
    file_close(c.other);
    mem_free(c.part);
    return rc;
}

static enum err_code archive_segment(struct wal *wal, const char *dir, const struct wal_segment *s,
                                     struct err *err)
{
    char from[IO_PATH_BYTES], to[IO_PATH_BYTES], part[IO_PATH_BYTES];
    struct seg unfinished = {.index = s->index, .part = true};
    struct io *io = wal->env.io;
    struct err ignored; /* a part beside the whole is not looked at */
    enum err_code rc = segment_path(from, sizeof(from), wal->dir, s->index, err);
    if (!rc) rc = segment_path(to, sizeof(to), dir, s->index, err);
    if (!rc) rc = seg_path(part, dir, &unfinished, err);
    if (rc) return rc;
    /* A rename would replace what is there. */
    if (io_exists(io, to)) return check_same(io, from, to, err);
    rc = file_link_or_copy(io, from, to, err);
    if (!rc) rc = io_sync_dir(io, dir, err);
    if (!rc) err_ignore(io_unlink(io, part, &ignored));
    return rc;
}

enum err_code wal_archive(struct wal *wal, const char *dir, uint64_t *pos, bool *more,
                          struct err *err)
{
    struct wal_segment *segments;
    size_t n, n_done = 0;
    *more = false;
    *pos = 0;
    enum err_code rc = segments_now(wal, &segments, &n, err);
    for (size_t i = 0; !rc && i + 1 < n; i++) {
        const struct wal_segment *s = &segments[i];
        if (s->index > wal->archived_index) {
            if (n_done == ARCHIVED_AT_ONCE) {
                *more = true;
                break;
            }
            rc = n_done == 0 ? io_mkdir_all(wal->env.io, dir, err) : ERR_OK;
            if (!rc) rc = archive_segment(wal, dir, s, err);
            if (rc) break;
            n_done++;
            wal->archived_index = s->index;
        }
        *pos = segments[i + 1].base_pos;
    }
    if (!rc && n && !*more) *pos = MAX_OF(*pos, segments[n - 1].base_pos);
    mem_free(segments);
    return rc ? err_context(err, "archiving the log") : ERR_OK;
}

enum err_code wal_archive_part(struct wal *wal, const char *dir, uint64_t end_pos, struct err *err)
{
    char from[IO_PATH_BYTES], to[IO_PATH_BYTES];
    struct wal_segment *segments;
    size_t n;
    enum err_code rc = segments_now(wal, &segments, &n, err);
    while (!rc && n && segments[n - 1].base_pos >= end_pos) n--;
    if (!rc && n && segments[n - 1].index > wal->archived_index) {
        const struct wal_segment *s = &segments[n - 1];
        struct seg part = {.index = s->index, .part = true};
        rc = io_mkdir_all(wal->env.io, dir, err);
        if (!rc) rc = segment_path(from, sizeof(from), wal->dir, s->index, err);
        if (!rc) rc = seg_path(to, dir, &part, err);
        if (!rc)
            rc = copy_up_to(wal->env.io, from, to, MIN_OF(end_pos, s->end_pos) - s->base_pos, err);
    }
    mem_free(segments);
    return rc ? err_context(err, "archiving the end of the log") : ERR_OK;
}

enum err_code wal_archive_cut(struct io *io, const char *dir, uint64_t pos, uint64_t *n,
                              uint64_t *bytes, struct err *err)
{
    struct segs segs;
    *n = *bytes = 0;
    enum err_code rc = segs_list(io, dir, &segs, err);
    for (size_t i = 0; !rc && i < segs.n; i++) {
        const struct seg *s = &segs.items[i];
        char path[IO_PATH_BYTES];
        if (s->base_pos + s->bytes > pos) break; /* without a gap, or a restore would miss it */
        rc = seg_path(path, dir, s, err);
        if (!rc) rc = io_unlink(io, path, err);
        if (rc) break;
        *n += 1;
        *bytes += s->bytes;
    }
    segs_release(&segs);
    if (!rc && *n) rc = io_sync_dir(io, dir, err);
    return rc ? err_context(err, "cutting the archive of the log") : ERR_OK;
}

/* ---- in a restored folder ---- */

enum err_code wal_dir_span(struct io *io, const char *dir, uint64_t *begin_pos, uint64_t *end_pos,
                           struct err *err)
{
    struct segs segs;
    enum err_code rc = segs_list(io, dir, &segs, err);
    bool any = !rc && segs.n;
    *begin_pos = any ? segs.items[0].base_pos : 0;
    *end_pos = any ? segs.items[segs.n - 1].base_pos + segs.items[segs.n - 1].bytes : 0;
    segs_release(&segs);
    return rc;
}

/* A segment follows another if their numbers say so, or their positions: a start of one that failed takes a number. */
static bool follows(const struct seg *before, const struct seg *s)
{
    return s->index == before->index + 1 || s->base_pos == before->base_pos + before->bytes;
}

static enum err_code extend_with(struct io *io, const char *dir, const char *archive,
                                 struct seg *last, const struct seg *s,
                                 struct wal_extend_report *report, struct err *err)
{
    char from[IO_PATH_BYTES], to[IO_PATH_BYTES];
    if (s->index < last->index || (s->index == last->index && s->bytes <= last->bytes))
        return ERR_OK;
    if (s->index == last->index && s->base_pos != last->base_pos)
        return err_set(err, ERR_CORRUPT, "%s is the archive of another log", archive);
    if (s->index > last->index && !follows(last, s))
        return err_set(err, ERR_NOT_FOUND,
                       "segments %08" PRIu64 " to %08" PRIu64
                       " of the log are missing in the archive %s",
                       last->index + 1, s->index - 1, archive);
    enum err_code rc = seg_path(from, archive, s, err);
    if (!rc) rc = segment_path(to, IO_PATH_BYTES, dir, s->index, err);
    if (!rc) rc = file_copy(io, from, to, UINT64_MAX, NULL, NULL, err);
    if (rc) return rc;
    *last = *s;
    report->segments++;
    report->bytes += s->bytes;
    return ERR_OK;
}

enum err_code wal_extend(struct io *io, const char *dir, const char *archive,
                         struct wal_extend_report *report, struct err *err)
{
    struct segs have = {0}, more = {0};
    *report = (struct wal_extend_report){0};
    if (!io_exists(io, archive)) return err_set(err, ERR_NOT_FOUND, "no archive %s", archive);
    enum err_code rc = segs_list(io, dir, &have, err);
    if (!rc) rc = segs_list(io, archive, &more, err);
    if (!rc && have.n == 0) rc = err_set(err, ERR_CORRUPT, "the backup has no log");
    struct seg last = !rc ? have.items[have.n - 1] : (struct seg){0};
    for (size_t i = 0; !rc && i < more.n; i++)
        rc = extend_with(io, dir, archive, &last, &more.items[i], report, err);
    segs_release(&have);
    segs_release(&more);
    return rc;
}

struct cut {
    int64_t t_ms, last_ms;
    bool found;
    uint64_t off;
};

/* Where in a segment the first record after the time is. */
static enum err_code find_cut(struct io *io, const char *path, struct cut *cut, struct err *err)
{
    struct segment_reader r;
    struct segment_header header;
    struct segment_item item = {.kind = SEGMENT_RECORD};
    enum err_code rc = segment_reader_open(io, path, &r, err);
    if (rc) return rc;
    rc = segment_reader_header(&r, &header, err);
    while (!rc && !cut->found) {
        int64_t t_ms;
        rc = segment_reader_next(&r, &item, err);
        if (rc || item.kind == SEGMENT_END) break;
        if (item.kind != SEGMENT_RECORD || item.type != WAL_TIME) continue;
        rc = wal_decode_time(item.payload, &t_ms, err);
        if (rc) break;
        cut->found = t_ms > cut->t_ms;
        if (cut->found)
            cut->off = item.off;
        else
            cut->last_ms = t_ms;
    }
    segment_reader_close(&r);
    return rc;
}

static enum err_code truncate_file(struct io *io, const char *path, uint64_t bytes, struct err *err)
{
    struct file *file;
    enum err_code rc = io_open(io, path, IO_READ | IO_WRITE, &file, err);
    if (rc) return rc;
    rc = file_truncate(file, bytes, err);
    if (!rc) rc = file_sync(file, err);
    file_close(file);
    return rc;
}

enum err_code wal_cut_after(struct io *io, const char *dir, int64_t t_ms, int64_t *last_ms,
                            struct err *err)
{
    struct segs segs;
    struct cut cut = {.t_ms = t_ms, .last_ms = INT64_MIN};
    enum err_code rc = segs_list(io, dir, &segs, err);
    for (size_t i = 0; !rc && i < segs.n; i++) {
        char path[IO_PATH_BYTES];
        bool beyond = cut.found;
        rc = seg_path(path, dir, &segs.items[i], err);
        if (!rc && beyond) rc = io_unlink(io, path, err);
        if (rc || beyond) continue;
        rc = find_cut(io, path, &cut, err);
        if (!rc && cut.found) rc = truncate_file(io, path, cut.off, err);
    }
    segs_release(&segs);
    *last_ms = cut.last_ms;
    if (!rc) rc = io_sync_dir(io, dir, err);
    return rc ? err_context(err, "cutting the log at a time") : ERR_OK;
}

static enum err_code tenants_of(struct io *io, const char *path, wal_tenant_fn *fn, void *ctx,
                                struct err *err)
{
    struct segment_reader r;
    struct segment_header header;
    struct segment_item item = {.kind = SEGMENT_RECORD};
    struct wal_tenant tenant;
    enum err_code rc = segment_reader_open(io, path, &r, err);
    if (rc) return rc;
    rc = segment_reader_header(&r, &header, err);
    while (!rc) {
        rc = segment_reader_next(&r, &item, err);
        if (rc || item.kind == SEGMENT_END) break;
        if (item.kind != SEGMENT_RECORD || item.type != WAL_TENANT) continue;
        rc = wal_decode_tenant(item.payload, &tenant, err);
        if (!rc) rc = fn(ctx, &tenant, err);
    }
    segment_reader_close(&r);
    return rc;
}

enum err_code wal_each_tenant(struct io *io, const char *dir, wal_tenant_fn *fn, void *ctx,
                              struct err *err)
{
    struct segs segs;
    enum err_code rc = segs_list(io, dir, &segs, err);
    for (size_t i = 0; !rc && i < segs.n; i++) {
        char path[IO_PATH_BYTES];
        rc = seg_path(path, dir, &segs.items[i], err);
        if (!rc) rc = tenants_of(io, path, fn, ctx, err);
    }
    segs_release(&segs);
    return rc;
}

/* A record of the same length that says nothing. */
static enum err_code blank_record(struct file *file, const struct segment_item *item,
                                  struct buf *blank, struct err *err)
{
    size_t n = (size_t)(item->end_off - item->off);
    size_t len = n - WAL_RECORD_HEADER_BYTES;
    buf_reset(blank);
    uint8_t *p = buf_reserve(blank, n);
    if (!p) return err_set(err, ERR_NO_MEMORY, "no memory for a record of the log");
    memset(p, 0, n);
    put_u32_le(p, (uint32_t)len);
    p[8] = WAL_PAD;
    uint32_t crc = crc32c(crc32c(0, p, 4), p + 8, 1);
    put_u32_le(p + 4, crc32c(crc, p + WAL_RECORD_HEADER_BYTES, len));
    return file_write_at(file, item->off, p, n, err);
}

static enum err_code keep_in_file(struct io *io, const char *path, uint64_t incarnation,
                                  struct err *err)
{
    struct segment_reader r;
    struct segment_header header;
    struct segment_item item = {.kind = SEGMENT_RECORD};
    struct file *file;
    struct buf blank;
    enum err_code rc = io_open(io, path, IO_READ | IO_WRITE, &file, err);
    if (rc) return rc;
    rc = segment_reader_open(io, path, &r, err);
    if (rc) {
        file_close(file);
        return rc;
    }
    buf_init(&blank, MEM_WAL);
    rc = segment_reader_header(&r, &header, err);
    while (!rc) {
        uint64_t of = 0;
        rc = segment_reader_next(&r, &item, err);
        if (rc || item.kind == SEGMENT_END) break;
        if (item.kind != SEGMENT_RECORD || item.type == WAL_TIME) continue;
        struct err bad; /* a payload that makes no sense is nobody's */
        if (wal_record_incarnation(item.payload, &of, &bad) == ERR_OK && of == incarnation)
            continue;
        rc = blank_record(file, &item, &blank, err);
    }
    if (!rc) rc = file_sync(file, err);
    buf_release(&blank);
    segment_reader_close(&r);
    file_close(file);
    return rc;
}

enum err_code wal_keep_tenant(struct io *io, const char *dir, uint64_t incarnation, struct err *err)
{
    struct segs segs;
    enum err_code rc = segs_list(io, dir, &segs, err);
    for (size_t i = 0; !rc && i < segs.n; i++) {
        char path[IO_PATH_BYTES];
        rc = seg_path(path, dir, &segs.items[i], err);
        if (!rc) rc = keep_in_file(io, path, incarnation, err);
    }
    segs_release(&segs);
    return rc ? err_context(err, "taking one tenant out of the log") : ERR_OK;
}
