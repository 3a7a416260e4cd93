/* wal/segment.h: one file of the log, inside the layer. The writer is used by the committer alone, a reader
 * by one thread; neither keeps anything of the wal. */
#ifndef QUIPU_WAL_SEGMENT_H
#define QUIPU_WAL_SEGMENT_H

#include "wal/format.h"

/* `dir`/00000042.wal */
MUST_USE enum err_code segment_path(char *buf, size_t size, const char *dir, uint64_t index,
                                    struct err *err);
/* False for a name that is not a segment's. */
bool segment_name_parse(const char *name, uint64_t *index);

/* Writes whole blocks, the last one with zeros at its end: it is written again with what follows. What it held before
 * stays the same bytes, so that a torn write cannot touch them. */
struct segment_writer {
    struct file *file; /* NULL: none open */
    uint64_t index, base_pos;
    uint64_t off;       /* where the next byte goes */
    uint64_t allocated; /* bytes of the file: zeros from `off` on */
    uint64_t zeroed;    /* so many of them have been written, if `ahead` */
    uint64_t segment_bytes;
    uint8_t *blocks; /* begins with those bytes of the block of `off` that are before it */
    bool ahead;      /* see segment_create */
    bool dirty;      /* written since the last sync */
};

struct segment_create {
    const char *dir;
    uint64_t index, base_pos, segment_bytes;
    /* Each write is synced at once: it goes past the system's cache, to blocks that were written before with zeros,
     * so that a sync has neither data nor sizes to look after. 57 -> 25 us of CPU a commit, half its time. */
    bool synced;
};
/* The header is durable, and the name too, when this returns. On failure the file is removed again. */
MUST_USE enum err_code segment_create(struct io *io, const struct segment_create *create,
                                      struct segment_writer *out, struct err *err);
MUST_USE enum err_code segment_write(struct segment_writer *w, struct bytes bytes, struct err *err);
/* Time to write zeros ahead: nobody waits. A failure tells itself at the next segment_write. */
void segment_prepare(struct segment_writer *w);
MUST_USE enum err_code segment_sync(struct segment_writer *w, struct err *err);
/* Cuts the zeros off and closes; all must have been synced. A cut that fails or is lost is harmless. */
void segment_finish(struct segment_writer *w);
/* Closes without touching the file. */
void segment_abandon(struct segment_writer *w);

enum segment_header_state {
    SEGMENT_HEADER_GOOD,
    SEGMENT_HEADER_MENDED, /* one flipped bit, found by the checksum */
    SEGMENT_HEADER_BAD     /* base_pos unknown */
};
struct segment_header {
    enum segment_header_state state;
    uint32_t version;
    uint64_t base_pos;
};
void segment_header_encode(uint8_t out[WAL_HEADER_BYTES], uint64_t base_pos);
/* ERR_VERSION for a segment of another version. `len` may be short. */
MUST_USE enum err_code segment_header_decode(const uint8_t *p, size_t len,
                                             struct segment_header *out, struct err *err);

enum segment_item_kind {
    SEGMENT_RECORD,
    SEGMENT_GAP, /* bad bytes, and a valid record follows */
    SEGMENT_END  /* nothing valid follows; bad bytes up to end_off, then zeros */
};
struct segment_item {
    enum segment_item_kind kind;
    uint64_t off, end_off;
    uint8_t type;         /* of a record, without flags */
    struct bytes payload; /* decompressed; valid until the next call */
    const char *reason;   /* of a gap or a bad end */
};
struct segment_reader {
    struct file *file;
    uint64_t size, off;
    uint8_t *window, *bounce;
    size_t window_cap, window_len;
    uint64_t window_off;
    struct buf raw;
    uint64_t crc_budget; /* bytes that the search for valid records may still checksum */
};

MUST_USE enum err_code segment_reader_open(struct io *io, const char *path,
                                           struct segment_reader *out, struct err *err);
void segment_reader_close(struct segment_reader *r);
MUST_USE enum err_code segment_reader_header(struct segment_reader *r, struct segment_header *out,
                                             struct err *err);
/* After SEGMENT_END there is no more. ERR_IO when the file cannot be read. */
MUST_USE enum err_code segment_reader_next(struct segment_reader *r, struct segment_item *out,
                                           struct err *err);

#endif
