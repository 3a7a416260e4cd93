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

/* Would `d`, times what a word adds to each half of the sum, be what is missing? */
static bool word_explains(uint32_t value, struct sum weight, struct sum missing)
{
    for (unsigned bit = 0; bit < 32; bit++) {
        uint32_t d = UINT32_C(1) << bit;
        if (value & d) d = 0u - d; /* the bit goes */
        if (d * weight.a == missing.a && d * weight.b == missing.b) return true;
    }
    return false;
}

/* One bit of what is summed, found by how much each word adds to the sum: of a pair that n pairs follow, the n-th power of
 * ((1 1) (1 2)) times (1 1) for the first word, and times (0 1) for the second. */
static bool content_has_flip(const struct wal_reader *w, struct sum missing)
{
    struct sum first = {1, 1}, second = {0, 1};
    for (size_t pair = (w->page_bytes + FRAME_SUMMED) / 8; pair-- > 0;) {
        const uint8_t *p = pair ? w->frame + FRAME_HEADER_BYTES + (pair - 1) * 8 : w->frame;
        if (word_explains(word(w, p), first, missing)) return true;
        if (word_explains(word(w, p + 4), second, missing)) return true;
        first = (struct sum){first.a + first.b, first.a + 2 * first.b};
        second = (struct sum){second.a + second.b, second.a + 2 * second.b};
    }
    return false;
}

static bool frame_has_flip(const struct wal_reader *w, struct sum before)
{
    struct sum stored = stored_sum(w->frame + 16), made = frame_sum(w, before);
    unsigned salt_bits = bits_between(frame_salt(w), stored_sum(w->header + 16));
    if (salt_bits) return salt_bits == 1 && sums_equal(stored, made);
    return bits_between(stored, made) == 1 ||
           content_has_flip(w, (struct sum){stored.a - made.a, stored.b - made.b});
}

static enum err_code read_frame(struct wal_reader *w, uint64_t off, struct err *err)
{
    return file_read_exact(w->file, off, w->frame, (size_t)frame_bytes(w), err);
}

/* Commits behind a bad frame, each judged by the stored checksum of the frame before. */
static enum err_code count_commits(struct wal_reader *w, uint64_t bad_off, uint64_t *n,
                                   struct err *err)
{
    struct sum salt = stored_sum(w->header + 16);
    enum err_code rc = read_frame(w, bad_off, err);
    struct sum before = stored_sum(w->frame + 16);
    *n = 0;
    for (uint64_t off = bad_off + frame_bytes(w); !rc && off + frame_bytes(w) <= w->size;
         off += frame_bytes(w)) {
        rc = read_frame(w, off, err);
        if (rc) break;
        struct sum stored = stored_sum(w->frame + 16);
        *n += is_commit(w) && sums_equal(frame_salt(w), salt) &&
              sums_equal(frame_sum(w, before), stored);
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
    if (frame_has_flip(w, before)) return damage(w, off, "a flipped bit in a frame", err);
    enum err_code rc = count_commits(w, off, &n_commits, err);
    if (rc || n_commits <= 1) return rc;
    return damage(w, off, "a frame without a good checksum before others", err);
}

static enum err_code check_frames(struct wal_reader *w, struct sqlite_wal_state *out,
                                  struct err *err)
{
    struct sum before = stored_sum(w->header + HEADER_SUMMED), salt = stored_sum(w->header + 16);
    for (uint64_t off = HEADER_BYTES; off + frame_bytes(w) <= w->size; off += frame_bytes(w)) {
        enum err_code rc = read_frame(w, off, err);
        if (rc) return rc;
        struct sum stored = stored_sum(w->frame + 16);
        if (!sums_equal(frame_salt(w), salt) || !sums_equal(frame_sum(w, before), stored))
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
