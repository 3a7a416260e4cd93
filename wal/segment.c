/* wal/segment.c: writing and reading one segment. */
#include "wal/segment.h"

#include <inttypes.h>
#include <lz4.h>
#include <stdio.h>

#include "base/crc32c.h"

/* The file grows by this much, so that most syncs find its size and blocks settled. */
#define ALLOCATE_STEP_BYTES (UINT64_C(4) << 20)
#define BLOCKS_BYTES ((size_t)256 << 10) /* of one write */
#define ZEROS_BYTES ((size_t)256 << 10)  /* likewise */
/* When fewer are left in front of the next record, more are written. */
#define ZEROS_AHEAD_BYTES (UINT64_C(128) << 10)
static_assert(BLOCKS_BYTES % MEM_PAGE_BYTES == 0 && ZEROS_BYTES % MEM_PAGE_BYTES == 0, "mem_map");
static_assert(ALLOCATE_STEP_BYTES % IO_DIRECT_BYTES == 0, "files end with a block");

enum err_code segment_path(char *buf, size_t size, const char *dir, uint64_t index, struct err *err)
{
    char name[32];
    snprintf(name, sizeof(name), "%08" PRIu64 ".wal", index);
    return io_path(buf, size, err, dir, name);
}

bool segment_name_parse(const char *name, uint64_t *index)
{
    uint64_t n = 0;
    size_t i = 0;
    for (; name[i] >= '0' && name[i] <= '9'; i++) {
        if (i == 18) return false;
        n = n * 10 + (uint64_t)(name[i] - '0');
    }
    if (i < 8 || strcmp(name + i, ".wal") != 0) return false;
    *index = n;
    return true;
}

/* ---- header ---- */

void segment_header_encode(uint8_t out[WAL_HEADER_BYTES], uint64_t base_pos)
{
    memcpy(out, WAL_MAGIC, 4);
    put_u32_le(out + 4, WAL_VERSION);
    put_u64_le(out + 8, base_pos);
    put_u32_le(out + 16, crc32c(0, out, 16));
}

static bool header_good(const uint8_t h[WAL_HEADER_BYTES])
{
    return memcmp(h, WAL_MAGIC, 4) == 0 && get_u32_le(h + 16) == crc32c(0, h, 16);
}

/* The position of every record hangs on these bytes, so one flipped bit is worth mending: over 20 bytes the
 * checksum tells which. */
static bool header_mend(uint8_t h[WAL_HEADER_BYTES])
{
    for (size_t bit = 0; bit < WAL_HEADER_BYTES * 8; bit++) {
        h[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        if (header_good(h)) return true;
        h[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    return false;
}

enum err_code segment_header_decode(const uint8_t *p, size_t len, struct segment_header *out,
                                    struct err *err)
{
    uint8_t h[WAL_HEADER_BYTES];
    *out = (struct segment_header){.state = SEGMENT_HEADER_BAD};
    if (len < sizeof(h)) return ERR_OK;
    memcpy(h, p, sizeof(h));
    if (header_good(h))
        out->state = SEGMENT_HEADER_GOOD;
    else if (header_mend(h))
        out->state = SEGMENT_HEADER_MENDED;
    out->version = get_u32_le(h + 4);
    out->base_pos = get_u64_le(h + 8);
    /* The checksum of a later version may lie elsewhere: the magic is enough. 0 is a header torn in writing. */
    if (memcmp(h, WAL_MAGIC, 4) == 0 && out->version > WAL_VERSION)
        return err_set(err, ERR_VERSION, "WAL segment of version %" PRIu32 ", this build reads %u",
                       out->version, WAL_VERSION);
    if (out->version != WAL_VERSION || out->base_pos > WAL_POS_MAX) out->state = SEGMENT_HEADER_BAD;
    return ERR_OK;
}

/* ---- writer ---- */

static uint64_t to_blocks(uint64_t bytes)
{
    return (bytes + IO_DIRECT_BYTES - 1) / IO_DIRECT_BYTES * IO_DIRECT_BYTES;
}

static enum err_code zeros_until(struct segment_writer *w, uint64_t end, struct err *err)
{
    const uint8_t *zeros = w->blocks + BLOCKS_BYTES; /* never written: the system's page of zeros */
    while (w->zeroed < end) {
        size_t n = (size_t)MIN_OF(end - w->zeroed, (uint64_t)ZEROS_BYTES);
        enum err_code rc = file_write_at(w->file, w->zeroed, zeros, n, err);
        if (rc) return rc;
        w->zeroed += n;
    }
    return ERR_OK;
}

/* Room up to `end`, which is a block's. */
static enum err_code segment_reserve(struct segment_writer *w, uint64_t end, struct err *err)
{
    if (end > w->allocated) {
        uint64_t want = (end + ALLOCATE_STEP_BYTES - 1) / ALLOCATE_STEP_BYTES * ALLOCATE_STEP_BYTES;
        want = MAX_OF(end, MIN_OF(want, to_blocks(w->segment_bytes)));
        enum err_code rc = file_allocate(w->file, want, err);
        if (rc) return rc;
        w->allocated = want;
    }
    return w->ahead ? zeros_until(w, end, err) : ERR_OK;
}

void segment_prepare(struct segment_writer *w)
{
    struct err ignored;
    if (!w->file || !w->ahead || w->zeroed >= w->off + ZEROS_AHEAD_BYTES) return;
    uint64_t end = MIN_OF(w->zeroed + ZEROS_BYTES, to_blocks(w->segment_bytes));
    if (end > w->zeroed && segment_reserve(w, end, &ignored) != ERR_OK) {
        /* The next write meets it again, and has somebody to tell. */
    }
}

static enum err_code segment_begin(struct segment_writer *w, struct io *io, const char *dir,
                                   struct err *err)
{
    uint8_t header[WAL_HEADER_BYTES];
    w->blocks = mem_map(MEM_WAL, BLOCKS_BYTES + ZEROS_BYTES);
    if (!w->blocks) return err_set(err, ERR_NO_MEMORY, "no memory to write a segment");
    segment_header_encode(header, w->base_pos);
    enum err_code rc = segment_write(w, bytes_of(header, sizeof(header)), err);
    if (rc) return rc;
    rc = segment_sync(w, err);
    if (rc) return rc;
    return io_sync_dir(io, dir, err);
}

enum err_code segment_create(struct io *io, const struct segment_create *create,
                             struct segment_writer *out, struct err *err)
{
    *out = (struct segment_writer){.index = create->index,
                                   .base_pos = create->base_pos,
                                   .segment_bytes = create->segment_bytes,
                                   .ahead = create->synced};
    char path[IO_PATH_BYTES];
    unsigned flags = IO_READ | IO_WRITE | IO_CREATE | IO_EXCL | (create->synced ? IO_DIRECT : 0);
    enum err_code rc = segment_path(path, sizeof(path), create->dir, create->index, err);
    if (rc) return rc;
    rc = io_open(io, path, flags, &out->file, err);
    if (rc) return rc;
    rc = segment_begin(out, io, create->dir, err);
    if (rc == ERR_OK) return ERR_OK;
    segment_abandon(out);
    struct err ignored;
    if (io_unlink(io, path, &ignored) != ERR_OK) {
        /* What stays is a segment without records, which replay removes. */
    }
    return err_context(err, "starting WAL segment %s", path);
}

enum err_code segment_write(struct segment_writer *w, struct bytes bytes, struct err *err)
{
    enum err_code rc = segment_reserve(w, to_blocks(w->off + bytes.len), err);
    if (rc) return rc;
    w->dirty = true;
    while (bytes.len) {
        size_t before = w->off % IO_DIRECT_BYTES, n = MIN_OF(bytes.len, BLOCKS_BYTES - before);
        size_t end = before + n, padded = (size_t)to_blocks(end);
        memcpy(w->blocks + before, bytes.p, n);
        memset(w->blocks + end, 0, padded - end);
        rc = file_write_at(w->file, w->off - before, w->blocks, padded, err);
        if (rc) return rc;
        w->off += n;
        size_t after = end % IO_DIRECT_BYTES;
        memmove(w->blocks, w->blocks + end - after, after);
        bytes = bytes_of(bytes.p + n, bytes.len - n);
    }
    return ERR_OK;
}

enum err_code segment_sync(struct segment_writer *w, struct err *err)
{
    if (!w->dirty) return ERR_OK;
    enum err_code rc = file_sync(w->file, err);
    if (rc == ERR_OK) w->dirty = false;
    return rc;
}

void segment_finish(struct segment_writer *w)
{
    if (!w->file) return;
    struct err ignored;
    if (w->off < w->allocated && file_truncate(w->file, w->off, &ignored) != ERR_OK) {
        /* Harmless: zeros stay behind the last record. */
    }
    segment_abandon(w);
}

void segment_abandon(struct segment_writer *w)
{
    file_close(w->file);
    mem_unmap(MEM_WAL, w->blocks, BLOCKS_BYTES + ZEROS_BYTES);
    w->file = NULL;
    w->blocks = NULL;
    w->dirty = false;
}

/* ---- reader ---- */

#define WINDOW_BYTES ((size_t)256 << 10)
#define BOUNCE_BYTES ((size_t)64 << 10)
/* While searching, a candidate longer than this is checksummed only if something plausible stands behind it:
 * random bytes look like a long record every few hundred bytes. */
#define SEARCH_FREE_BYTES ((uint64_t)256 << 10)
/* Enough for any accident; bounds the time (a second or two) that hostile content can cost. */
#define SEARCH_CRC_BYTES (UINT64_C(8) << 30)
#define SEARCH_HOPS_MAX 64

enum err_code segment_reader_open(struct io *io, const char *path, struct segment_reader *out,
                                  struct err *err)
{
    *out = (struct segment_reader){.off = WAL_HEADER_BYTES, .crc_budget = SEARCH_CRC_BYTES};
    buf_init(&out->raw, MEM_WAL);
    enum err_code rc = io_open(io, path, IO_READ, &out->file, err);
    if (rc) return rc;
    rc = file_size(out->file, &out->size, err);
    out->window = mem_alloc(MEM_WAL, WINDOW_BYTES);
    out->bounce = mem_alloc(MEM_WAL, BOUNCE_BYTES);
    out->window_cap = WINDOW_BYTES;
    if (rc == ERR_OK && (!out->window || !out->bounce))
        rc = err_set(err, ERR_NO_MEMORY, "no memory to read %s", path);
    if (rc) segment_reader_close(out);
    return rc;
}

void segment_reader_close(struct segment_reader *r)
{
    file_close(r->file);
    mem_free(r->window);
    mem_free(r->bounce);
    buf_release(&r->raw);
    r->file = NULL;
    r->window = r->bounce = NULL;
}

static bool window_has(const struct segment_reader *r, uint64_t off, uint64_t len)
{
    return off >= r->window_off && off + len <= r->window_off + r->window_len;
}

/* Makes bytes off..off+len-1 (inside the file) addressable. */
static enum err_code window_load(struct segment_reader *r, uint64_t off, size_t len,
                                 const uint8_t **p, struct err *err)
{
    if (!window_has(r, off, len)) {
        if (len > r->window_cap) {
            uint8_t *bigger = mem_realloc(MEM_WAL, r->window, len);
            if (!bigger) return err_set(err, ERR_NO_MEMORY, "no memory for a record of %zu B", len);
            r->window = bigger;
            r->window_cap = len;
        }
        r->window_len = 0;
        size_t want = (size_t)MIN_OF(r->window_cap, r->size - off), n = 0;
        enum err_code rc = file_read_at(r->file, off, r->window, want, &n, err);
        if (rc) return rc;
        if (n < len) {
            err_set(err, ERR_IO, "file ends %zu bytes early", len - n);
            return err_at(err, r->file->path, off + n);
        }
        r->window_off = off;
        r->window_len = n;
    }
    *p = r->window + (off - r->window_off);
    return ERR_OK;
}

enum err_code segment_reader_header(struct segment_reader *r, struct segment_header *out,
                                    struct err *err)
{
    const uint8_t *p = NULL;
    size_t len = (size_t)MIN_OF(r->size, WAL_HEADER_BYTES);
    if (len) {
        enum err_code rc = window_load(r, 0, len, &p, err);
        if (rc) return rc;
    }
    enum err_code rc = segment_header_decode(p, len, out, err);
    return rc ? err_at(err, r->file->path, 0) : ERR_OK;
}

/* Extends *crc over bytes of the file; what lies outside the window goes through the bounce buffer, so that
 * the window stays where the search is. */
static enum err_code crc_range(struct segment_reader *r, uint64_t off, uint64_t len, uint32_t *crc,
                               struct err *err)
{
    while (len > 0) {
        size_t n;
        const uint8_t *p = r->bounce;
        if (window_has(r, off, 1)) {
            n = (size_t)MIN_OF(len, r->window_off + r->window_len - off);
            p = r->window + (off - r->window_off);
        } else {
            n = (size_t)MIN_OF(len, BOUNCE_BYTES);
            enum err_code rc = file_read_exact(r->file, off, r->bounce, n, err);
            if (rc) return rc;
        }
        *crc = crc32c(*crc, p, n);
        off += n;
        len -= n;
    }
    return ERR_OK;
}

struct record_head {
    uint32_t len, crc;
    uint8_t type;
};

static bool head_fits(const struct segment_reader *r, uint64_t off, const struct record_head *h)
{
    return h->len >= 1 && h->len <= WAL_PAYLOAD_BYTES_MAX &&
           h->len <= r->size - off - WAL_RECORD_HEADER_BYTES;
}

static bool head_plausible(const struct segment_reader *r, uint64_t off,
                           const struct record_head *h)
{
    uint8_t type = h->type & WAL_TYPE_MASK;
    return head_fits(r, off, h) && type >= WAL_SERIES && type <= WAL_TYPE_LAST;
}

/* *h is all 0 when fewer than a header's bytes are left. */
static enum err_code head_load(struct segment_reader *r, uint64_t off, struct record_head *h,
                               struct err *err)
{
    *h = (struct record_head){0};
    if (off > r->size || r->size - off < WAL_RECORD_HEADER_BYTES) return ERR_OK;
    const uint8_t *p;
    enum err_code rc = window_load(r, off, WAL_RECORD_HEADER_BYTES, &p, err);
    if (rc) return rc;
    *h = (struct record_head){get_u32_le(p), get_u32_le(p + 4), p[8]};
    return ERR_OK;
}

static enum err_code record_check(struct segment_reader *r, uint64_t off,
                                  const struct record_head *h, bool *valid, struct err *err)
{
    uint8_t len_bytes[4];
    put_u32_le(len_bytes, h->len);
    uint32_t crc = crc32c(0, len_bytes, sizeof(len_bytes));
    *valid = false;
    enum err_code rc = crc_range(r, off + 8, 1 + (uint64_t)h->len, &crc, err);
    if (rc == ERR_OK) *valid = crc == h->crc;
    return rc;
}

/* Like record_check, on the budget of the search. */
static enum err_code search_check(struct segment_reader *r, uint64_t off,
                                  const struct record_head *h, bool *valid, struct err *err)
{
    *valid = false;
    if (h->len > r->crc_budget) return ERR_OK;
    r->crc_budget -= h->len;
    return record_check(r, off, h, valid, err);
}

static enum err_code search_valid_at(struct segment_reader *r, uint64_t off, bool *valid,
                                     struct err *err)
{
    struct record_head h;
    *valid = false;
    enum err_code rc = head_load(r, off, &h, err);
    if (rc || !head_plausible(r, off, &h)) return rc;
    return search_check(r, off, &h, valid, err);
}

/* A flipped bit in the length of the record at `off`: the length with which its checksum is right gives the place
 * of the next record. The record itself is not trusted all the same. */
static enum err_code search_by_length(struct segment_reader *r, uint64_t off, uint64_t *found,
                                      struct err *err)
{
    struct record_head h;
    enum err_code rc = head_load(r, off, &h, err);
    for (unsigned bit = 0; rc == ERR_OK && bit < 32; bit++) {
        struct record_head other = h;
        other.len ^= UINT32_C(1) << bit;
        if (!head_plausible(r, off, &other)) continue;
        bool valid;
        rc = search_check(r, off, &other, &valid, err);
        if (rc == ERR_OK && valid) {
            *found = off + WAL_RECORD_HEADER_BYTES + other.len;
            break;
        }
    }
    return rc;
}

/* Where the lengths of bad records lead, as long as they can be lengths. Before any search by bytes: what a
 * sender wrote into a payload must not be taken for a record. */
static enum err_code search_by_hops(struct segment_reader *r, uint64_t off, uint64_t *found,
                                    struct err *err)
{
    for (unsigned hop = 0; hop < SEARCH_HOPS_MAX; hop++) {
        struct record_head h;
        enum err_code rc = head_load(r, off, &h, err);
        if (rc || !head_fits(r, off, &h)) return rc;
        off += WAL_RECORD_HEADER_BYTES + (uint64_t)h.len;
        bool valid;
        rc = search_valid_at(r, off, &valid, err);
        if (rc) return rc;
        if (valid) {
            *found = off;
            return ERR_OK;
        }
    }
    return ERR_OK;
}

static enum err_code search_candidate(struct segment_reader *r, uint64_t off,
                                      const struct record_head *h, bool *valid, struct err *err)
{
    *valid = false;
    if (h->len > SEARCH_FREE_BYTES) {
        struct record_head next;
        uint64_t end = off + WAL_RECORD_HEADER_BYTES + h->len;
        uint8_t p[WAL_RECORD_HEADER_BYTES] = {0};
        size_t n = 0;
        enum err_code rc = file_read_at(r->file, end, p, sizeof(p), &n, err);
        if (rc) return rc;
        next = (struct record_head){get_u32_le(p), get_u32_le(p + 4), p[8]};
        if (n == sizeof(p) && next.len && !head_plausible(r, end, &next)) return ERR_OK;
    }
    return search_check(r, off, h, valid, err);
}

/* Tries every byte offset from `off` on. */
static enum err_code search_by_bytes(struct segment_reader *r, uint64_t off, uint64_t *found,
                                     struct err *err)
{
    while (r->size - off >= WAL_RECORD_HEADER_BYTES) {
        const uint8_t *p;
        enum err_code rc = window_load(r, off, WAL_RECORD_HEADER_BYTES, &p, err);
        if (rc) return rc;
        if (get_u64_le(p) == 0) { /* five offsets with length 0 */
            off += 5;
            if (off > r->size) break;
            continue;
        }
        struct record_head h = {get_u32_le(p), get_u32_le(p + 4), p[8]};
        if (head_plausible(r, off, &h)) {
            bool valid;
            rc = search_candidate(r, off, &h, &valid, err);
            if (rc) return rc;
            if (valid) {
                *found = off;
                return ERR_OK;
            }
        }
        off++;
    }
    return ERR_OK;
}

/* The end of the last byte from `off` on that is not 0. */
static enum err_code data_end(struct segment_reader *r, uint64_t off, uint64_t *end,
                              struct err *err)
{
    *end = off;
    while (off < r->size) {
        const uint8_t *p;
        size_t len = (size_t)MIN_OF(r->size - off, WINDOW_BYTES);
        enum err_code rc = window_load(r, off, len, &p, err);
        if (rc) return rc;
        for (size_t i = len; i > 0; i--) {
            if (p[i - 1]) {
                *end = off + i;
                break;
            }
        }
        off += len;
    }
    return ERR_OK;
}

/* The next valid record behind bad bytes at r->off, or the end. */
static enum err_code segment_resync(struct segment_reader *r, const char *reason,
                                    struct segment_item *out, struct err *err)
{
    uint64_t end, found = 0, off = r->off;
    enum err_code rc = data_end(r, off, &end, err);
    if (rc == ERR_OK && end > off) rc = search_by_length(r, off, &found, err);
    if (rc == ERR_OK && end > off && !found) rc = search_by_hops(r, off, &found, err);
    if (rc == ERR_OK && end > off && !found) rc = search_by_bytes(r, off + 1, &found, err);
    if (rc) return rc;
    *out = (struct segment_item){.kind = found ? SEGMENT_GAP : SEGMENT_END,
                                 .off = off,
                                 .end_off = found ? found : end,
                                 .reason = reason};
    r->off = out->end_off;
    if (found == end && found) out->kind = SEGMENT_END; /* the length of the last one was bad */
    return ERR_OK;
}

static bool payload_unpack(struct segment_reader *r, struct bytes stored, struct bytes *out)
{
    struct reader in = reader_init(stored);
    uint64_t raw_len = reader_varint(&in);
    size_t left = reader_left(&in);
    if (in.failed || raw_len == 0 || raw_len > WAL_PAYLOAD_BYTES_MAX ||
        raw_len > (uint64_t)left * WAL_LZ4_RATIO_MAX)
        return false;
    buf_reset(&r->raw);
    uint8_t *p = buf_reserve(&r->raw, (size_t)raw_len);
    if (!p) return false;
    int n = LZ4_decompress_safe((const char *)in.p, (char *)p, (int)left, (int)raw_len);
    *out = bytes_of(p, (size_t)raw_len);
    return n == (int)raw_len;
}
static_assert(WAL_PAYLOAD_BYTES_MAX <= INT32_MAX, "LZ4 counts in int");

enum err_code segment_reader_next(struct segment_reader *r, struct segment_item *out,
                                  struct err *err)
{
    struct record_head h;
    if (r->off > r->size) r->off = r->size; /* shorter than a header */
    enum err_code rc = head_load(r, r->off, &h, err);
    if (rc) return rc;
    if (h.len == 0) return segment_resync(r, "no record", out, err);
    if (!head_fits(r, r->off, &h)) return segment_resync(r, "length out of range", out, err);
    /* A long record is checksummed before its length may size the window. */
    size_t stored_bytes = WAL_RECORD_HEADER_BYTES + (size_t)h.len;
    const uint8_t *p;
    if (stored_bytes <= r->window_cap) {
        rc = window_load(r, r->off, stored_bytes, &p, err);
        if (rc) return rc;
    }
    bool valid;
    rc = record_check(r, r->off, &h, &valid, err);
    if (rc) return rc;
    if (!valid) return segment_resync(r, "bad checksum", out, err);
    rc = window_load(r, r->off, stored_bytes, &p, err);
    if (rc) return rc;
    *out = (struct segment_item){.kind = SEGMENT_RECORD,
                                 .off = r->off,
                                 .end_off = r->off + WAL_RECORD_HEADER_BYTES + h.len,
                                 .type = h.type & WAL_TYPE_MASK,
                                 .payload = bytes_of(p + WAL_RECORD_HEADER_BYTES, h.len)};
    if ((h.type & WAL_TYPE_LZ4) && !payload_unpack(r, out->payload, &out->payload)) {
        if (r->raw.failed) return err_set(err, ERR_NO_MEMORY, "no memory to unpack a record");
        out->kind = SEGMENT_GAP;
        out->reason = "cannot be decompressed";
    }
    r->off = out->end_off;
    return ERR_OK;
}
