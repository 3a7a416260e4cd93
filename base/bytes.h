/* base/bytes.h: the only place that touches outside bytes. Little-endian, explicit, bounded.
 * reader: sticky; past the end it yields 0 and remembers, so that one check at the end covers all.
 * buf: a growing output buffer, sticky about lack of memory likewise.
 * varint = unsigned LEB128 of at most 10 bytes; zig-zag maps int64 to uint64. */
#ifndef QUIPU_BASE_BYTES_H
#define QUIPU_BASE_BYTES_H

#include "base/mem.h"

static inline uint16_t get_u16_le(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, 2);
    return v;
}
static inline uint32_t get_u32_le(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}
static inline uint64_t get_u64_le(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}
static inline void put_u16_le(uint8_t *p, uint16_t v)
{
    memcpy(p, &v, 2);
}
static inline void put_u32_le(uint8_t *p, uint32_t v)
{
    memcpy(p, &v, 4);
}
static inline void put_u64_le(uint8_t *p, uint64_t v)
{
    memcpy(p, &v, 8);
}
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the loads above assume little-endian");

static inline uint64_t zigzag_encode(int64_t v)
{
    return ((uint64_t)v << 1) ^ (uint64_t)(v >> 63);
}
static inline int64_t zigzag_decode(uint64_t u)
{
    return (int64_t)((u >> 1) ^ (~(u & 1) + 1));
}
/* A double's bits, untouched: NaN payloads (staleness markers) survive. */
static inline uint64_t double_bits(double d)
{
    uint64_t u;
    memcpy(&u, &d, 8);
    return u;
}
static inline double double_from_bits(uint64_t u)
{
    double d;
    memcpy(&d, &u, 8);
    return d;
}

#define VARINT_BYTES_MAX 10
/* Writes at most VARINT_BYTES_MAX bytes; returns how many. */
size_t put_varint(uint8_t *p, uint64_t v);

struct reader {
    const uint8_t *p, *end;
    const uint8_t *start;
    bool failed; /* ran past the end, or met a malformed varint */
};

static inline struct reader reader_init(struct bytes b)
{
    return (struct reader){b.p, b.p ? b.p + b.len : b.p, b.p, false};
}
static inline size_t reader_left(const struct reader *r)
{
    return (size_t)(r->end - r->p);
}
static inline size_t reader_off(const struct reader *r)
{
    return (size_t)(r->p - r->start);
}
uint8_t reader_u8(struct reader *r);
uint16_t reader_u16(struct reader *r);
uint32_t reader_u32(struct reader *r);
uint64_t reader_u64(struct reader *r);
double reader_double(struct reader *r); /* 8 bytes, bit-exact */
uint64_t reader_varint(struct reader *r);
static inline int64_t reader_zigzag(struct reader *r)
{
    return zigzag_decode(reader_varint(r));
}
struct bytes reader_bytes(struct reader *r, size_t len); /* in place, not copied */
struct str reader_str(struct reader *r);                 /* varint length, then the bytes */
void reader_skip(struct reader *r, size_t len);
/* Ran past the end, or bytes left over: ERR_CORRUPT with the offset. */
MUST_USE enum err_code reader_finish(const struct reader *r, struct err *err);

struct buf {
    uint8_t *p;
    size_t len, cap;
    enum mem_owner owner;
    bool failed; /* out of memory once: everything after is dropped */
};

void buf_init(struct buf *b, enum mem_owner owner);
void buf_release(struct buf *b);
static inline void buf_reset(struct buf *b)
{
    b->len = 0;
    b->failed = false;
}
/* Room for `extra` more bytes; NULL (and failed) when memory is out. Does not change len. */
uint8_t *buf_reserve(struct buf *b, size_t extra);
void buf_put(struct buf *b, const void *p, size_t len);
void buf_u8(struct buf *b, uint8_t v);
void buf_u16(struct buf *b, uint16_t v);
void buf_u32(struct buf *b, uint32_t v);
void buf_u64(struct buf *b, uint64_t v);
void buf_double(struct buf *b, double v);
void buf_varint(struct buf *b, uint64_t v);
static inline void buf_zigzag(struct buf *b, int64_t v)
{
    buf_varint(b, zigzag_encode(v));
}
void buf_str(struct buf *b, struct str s);  /* varint length, then the bytes */
void buf_text(struct buf *b, struct str s); /* just the bytes */
void buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
static inline struct bytes buf_bytes(const struct buf *b)
{
    return (struct bytes){b->p, b->len};
}
/* ERR_NO_MEMORY if anything was dropped. */
MUST_USE enum err_code buf_finish(const struct buf *b, struct err *err);

/* Well-formed UTF-8 (no surrogates, no overlong forms, at most U+10FFFF; NUL allowed). */
bool utf8_valid(struct str s);
/* Length of the well-formed character that starts at p (1..4), 0 if there is none within n bytes. */
size_t utf8_sequence(const char *p, size_t n);

#endif
