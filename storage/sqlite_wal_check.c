/* storage/sqlite_wal_check.c: see the header. The format is SQLite's, version 3007000
 * (https://sqlite.org/fileformat2.html, 4): a header of 32 bytes, frames of 24 bytes and a page; checksums go on from
 * frame to frame. */
#include "storage/sqlite_wal_check.h"

#include "base/bytes.h"

#define HEADER_BYTES 32u
#define HEADER_SUMMED 24u
#define FRAME_HEADER_BYTES 24u
#define FRAME_SUMMED 8u /* of its header; then the page */
#define PAGE_BYTES_MIN 512u
#define PAGE_BYTES_MAX 65536u
#define MAGIC 0x377f0682u /* the lowest bit: words of checksums are big-endian */

struct sum {
    uint32_t a, b;
};

struct wal_reader {
    struct file *file;
    uint64_t size;
    uint8_t header[HEADER_BYTES];
    uint32_t page_bytes;
    bool big_endian;
    uint8_t *frame; /* header and page */
};

static uint32_t get_u32_be(const uint8_t *p)
{
    return __builtin_bswap32(get_u32_le(p));
}

static uint32_t word(const struct wal_reader *w, const uint8_t *p)
{
    return w->big_endian ? get_u32_be(p) : get_u32_le(p);
}

static struct sum sum_of(const struct wal_reader *w, struct sum s, const uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i += 8) {
        s.a += word(w, p + i) + s.b;
        s.b += word(w, p + i + 4) + s.a;
    }
    return s;
}

static struct sum stored_sum(const uint8_t *p)
{
    return (struct sum){get_u32_be(p), get_u32_be(p + 4)};
}

static bool sums_equal(struct sum x, struct sum y)
{
    return x.a == y.a && x.b == y.b;
}

static unsigned bits_between(struct sum x, struct sum y)
{
    return (unsigned)(__builtin_popcount(x.a ^ y.a) + __builtin_popcount(x.b ^ y.b));
}

/* ---- header ---- */

static bool header_good(struct wal_reader *w)
{
    uint32_t magic = get_u32_be(w->header);
    w->big_endian = magic & 1;
    w->page_bytes = get_u32_be(w->header + 8);
    return (magic & ~1u) == MAGIC && w->page_bytes >= PAGE_BYTES_MIN &&
           w->page_bytes <= PAGE_BYTES_MAX && (w->page_bytes & (w->page_bytes - 1)) == 0 &&
           sums_equal(sum_of(w, (struct sum){0, 0}, w->header, HEADER_SUMMED),
                      stored_sum(w->header + HEADER_SUMMED));
}

static bool header_has_flip(struct wal_reader *w)
{
    for (size_t bit = 0; bit < HEADER_BYTES * 8; bit++) {
        w->header[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        bool good = header_good(w);
        w->header[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        if (good) return true;
    }
    return false;
}

/* ---- frames ---- */

static uint64_t frame_bytes(const struct wal_reader *w)
{
    return FRAME_HEADER_BYTES + (uint64_t)w->page_bytes;
}

static struct sum frame_sum(const struct wal_reader *w, struct sum before)
{
    struct sum s = sum_of(w, before, w->frame, FRAME_SUMMED);
    return sum_of(w, s, w->frame + FRAME_HEADER_BYTES, w->page_bytes);
}

static struct sum frame_salt(const struct wal_reader *w)
{
    return stored_sum(w->frame + 8);
}

static bool is_commit(const struct wal_reader *w)
{
    return get_u32_be(w->frame + 4) != 0;
}

static enum err_code read_frame(struct wal_reader *w, uint64_t off, struct err *err)
{
    return file_read_exact(w->file, off, w->frame, (size_t)frame_bytes(w), err);
}

static bool has_salt(const struct wal_reader *w)
{
    return sums_equal(frame_salt(w), stored_sum(w->header + 16));
}

/* Commits from a bad frame on, each behind it judged by the stored checksum of the frame before; where one bit of the bad
 * one's own is wrong, by what it should be. */
static enum err_code count_commits(struct wal_reader *w, uint64_t bad_off, struct sum before,
                                   uint64_t *n, struct err *err)
{
    enum err_code rc = read_frame(w, bad_off, err);
    if (rc) return rc;
    *n = is_commit(w) && bits_between(frame_salt(w), stored_sum(w->header + 16)) <= 1;
    struct sum made = frame_sum(w, before);
    before = stored_sum(w->frame + 16);
    if (bits_between(before, made) == 1) before = made;
    for (uint64_t off = bad_off + frame_bytes(w); !rc && off + frame_bytes(w) <= w->size;
         off += frame_bytes(w)) {
        rc = read_frame(w, off, err);
        if (rc) break;
        struct sum stored = stored_sum(w->frame + 16);
        *n += is_commit(w) && has_salt(w) && sums_equal(frame_sum(w, before), stored);
        before = stored;
    }
    return rc;
}

static enum err_code damage(const struct wal_reader *w, uint64_t off, const char *what,
                            struct err *err)
{
    err_set(err, ERR_CORRUPT, "%s; changes of the database behind it would be lost", what);
    return err_at(err, w->file->path, off);
}

static enum err_code judge_end(struct wal_reader *w, uint64_t off, struct sum before,
                               struct err *err)
{
    uint64_t n_commits;
    enum err_code rc = count_commits(w, off, before, &n_commits, err);
    if (rc || n_commits <= 1) return rc;
    return damage(w, off, "a frame without a good checksum before others", err);
}

static enum err_code check_frames(struct wal_reader *w, struct sqlite_wal_state *out,
                                  struct err *err)
{
    struct sum before = stored_sum(w->header + HEADER_SUMMED);
    for (uint64_t off = HEADER_BYTES; off + frame_bytes(w) <= w->size; off += frame_bytes(w)) {
        enum err_code rc = read_frame(w, off, err);
        if (rc) return rc;
        struct sum stored = stored_sum(w->frame + 16);
        if (!has_salt(w) || !sums_equal(frame_sum(w, before), stored))
            return judge_end(w, off, before, err);
        before = stored;
        out->n_frames++;
        out->n_commits += is_commit(w);
        if (is_commit(w)) out->unused_off = off + frame_bytes(w);
    }
    return ERR_OK;
}

static enum err_code check_file(struct wal_reader *w, struct sqlite_wal_state *out, struct err *err)
{
    enum err_code rc = file_size(w->file, &w->size, err);
    if (rc) return rc;
    out->file_bytes = w->size;
    if (w->size <= HEADER_BYTES) return ERR_OK;
    rc = file_read_exact(w->file, 0, w->header, HEADER_BYTES, err);
    if (rc) return rc;
    if (!header_good(w))
        return header_has_flip(w) ? damage(w, 0, "a flipped bit in the header", err) : ERR_OK;
    out->unused_off = HEADER_BYTES;
    w->frame = mem_alloc(MEM_CATALOG, (size_t)frame_bytes(w));
    if (!w->frame) return err_set(err, ERR_NO_MEMORY, "no memory to check %s", w->file->path);
    return check_frames(w, out, err);
}

enum err_code sqlite_wal_check(struct io *io, const char *path, struct sqlite_wal_state *out,
                               struct err *err)
{
    struct wal_reader w = {0};
    *out = (struct sqlite_wal_state){0};
    enum err_code rc = io_open(io, path, IO_READ, &w.file, err);
    if (rc == ERR_NOT_FOUND) return ERR_OK;
    if (!rc) rc = check_file(&w, out, err);
    mem_free(w.frame);
    file_close(w.file);
    return rc;
}
