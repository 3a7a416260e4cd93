/* base/bytes.c: see the header. After a failure the reader's end is moved to its place, so that every later
 * read fails without a test of its own and reader_off() still names the byte that was wrong. */
#include "base/bytes.h"

#include <stdarg.h>
#include <stdio.h>

size_t put_varint(uint8_t *p, uint64_t v)
{
    size_t n = 0;
    while (v >= 0x80) {
        p[n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    p[n++] = (uint8_t)v;
    return n;
}

static void reader_fail(struct reader *r)
{
    r->failed = true;
    r->end = r->p;
}

/* The next len bytes, or NULL. */
static const uint8_t *reader_take(struct reader *r, size_t len)
{
    if (UNLIKELY(len > reader_left(r))) {
        reader_fail(r);
        return NULL;
    }
    const uint8_t *p = r->p;
    r->p += len;
    return p;
}

uint8_t reader_u8(struct reader *r)
{
    const uint8_t *p = reader_take(r, 1);
    return p ? *p : 0;
}

uint16_t reader_u16(struct reader *r)
{
    const uint8_t *p = reader_take(r, 2);
    return p ? get_u16_le(p) : 0;
}

uint32_t reader_u32(struct reader *r)
{
    const uint8_t *p = reader_take(r, 4);
    return p ? get_u32_le(p) : 0;
}

uint64_t reader_u64(struct reader *r)
{
    const uint8_t *p = reader_take(r, 8);
    return p ? get_u64_le(p) : 0;
}

double reader_double(struct reader *r)
{
    return double_from_bits(reader_u64(r));
}

uint64_t reader_varint(struct reader *r)
{
    const uint8_t *p = r->p, *end = r->end;
    if (LIKELY(p < end && *p < 0x80)) {
        r->p = p + 1;
        return *p;
    }
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64 && p < end; shift += 7) {
        uint8_t byte = *p++;
        if (shift == 63 && byte > 1) break; /* beyond 64 bits */
        v |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) {
            r->p = p;
            return v;
        }
    }
    reader_fail(r);
    return 0;
}

struct bytes reader_bytes(struct reader *r, size_t len)
{
    const uint8_t *p = reader_take(r, len);
    return p ? (struct bytes){p, len} : (struct bytes){NULL, 0};
}

struct str reader_str(struct reader *r)
{
    uint64_t len = reader_varint(r);
    if (r->failed || len > reader_left(r)) {
        reader_fail(r);
        return (struct str){NULL, 0};
    }
    return str_from_bytes(reader_bytes(r, (size_t)len));
}

void reader_skip(struct reader *r, size_t len)
{
    (void)reader_take(r, len); /* the failure is remembered in r */
}

enum err_code reader_finish(const struct reader *r, struct err *err)
{
    if (r->failed)
        return err_set(err, ERR_CORRUPT, "cut short or malformed at byte %zu", reader_off(r));
    if (r->p != r->end)
        return err_set(err, ERR_CORRUPT, "%zu bytes left over at byte %zu", reader_left(r),
                       reader_off(r));
    return ERR_OK;
}

void buf_init(struct buf *b, enum mem_owner owner)
{
    *b = (struct buf){.owner = owner};
}

void buf_release(struct buf *b)
{
    mem_free(b->p);
    *b = (struct buf){.owner = b->owner};
}

uint8_t *buf_reserve(struct buf *b, size_t extra)
{
    if (UNLIKELY(b->failed)) return NULL;
    if (LIKELY(extra <= b->cap - b->len && b->p)) return b->p + b->len;
    struct err err;
    size_t need;
    if (__builtin_add_overflow(b->len, extra ? extra : 1, &need) ||
        mem_grow(b->owner, (void **)&b->p, &b->cap, MAX_OF(need, (size_t)64), 1, &err)) {
        b->failed = true; /* told by buf_finish */
        return NULL;
    }
    return b->p + b->len;
}

void buf_put(struct buf *b, const void *p, size_t len)
{
    if (len == 0) return;
    uint8_t *to = buf_reserve(b, len);
    if (!to) return;
    memcpy(to, p, len);
    b->len += len;
}

void buf_u8(struct buf *b, uint8_t v)
{
    buf_put(b, &v, 1);
}

void buf_u16(struct buf *b, uint16_t v)
{
    uint8_t raw[2];
    put_u16_le(raw, v);
    buf_put(b, raw, sizeof(raw));
}

void buf_u32(struct buf *b, uint32_t v)
{
    uint8_t raw[4];
    put_u32_le(raw, v);
    buf_put(b, raw, sizeof(raw));
}

void buf_u64(struct buf *b, uint64_t v)
{
    uint8_t raw[8];
    put_u64_le(raw, v);
    buf_put(b, raw, sizeof(raw));
}

void buf_double(struct buf *b, double v)
{
    buf_u64(b, double_bits(v));
}

void buf_varint(struct buf *b, uint64_t v)
{
    uint8_t *to = buf_reserve(b, VARINT_BYTES_MAX);
    if (to) b->len += put_varint(to, v);
}

void buf_str(struct buf *b, struct str s)
{
    buf_varint(b, s.len);
    buf_put(b, s.p, s.len);
}

void buf_text(struct buf *b, struct str s)
{
    buf_put(b, s.p, s.len);
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    uint8_t *to = buf_reserve(b, 64);
    if (to) {
        size_t room = b->cap - b->len;
        int n = vsnprintf((char *)to, room, fmt, args);
        ASSERT(n >= 0);
        if ((size_t)n >= room && (to = buf_reserve(b, (size_t)n + 1)))
            vsnprintf((char *)to, (size_t)n + 1, fmt, again);
        if (to) b->len += (size_t)n;
    }
    va_end(again);
    va_end(args);
}

enum err_code buf_finish(const struct buf *b, struct err *err)
{
    if (b->failed)
        return err_set(err, ERR_NO_MEMORY, "no memory for more than %zu bytes of output (%s)",
                       b->len, mem_owner_name(b->owner));
    return ERR_OK;
}

size_t utf8_sequence(const char *text, size_t n)
{
    const uint8_t *p = (const uint8_t *)text;
    if (n == 0) return 0;
    if (p[0] < 0x80) return 1;
    /* The Unicode standard's table 3-7: only the second byte has bounds of its own. */
    uint8_t low = 0x80, high = 0xBF;
    size_t len;
    if (p[0] >= 0xC2 && p[0] <= 0xDF) {
        len = 2;
    } else if (p[0] >= 0xE0 && p[0] <= 0xEF) {
        len = 3;
        if (p[0] == 0xE0) low = 0xA0;  /* overlong */
        if (p[0] == 0xED) high = 0x9F; /* surrogates */
    } else if (p[0] >= 0xF0 && p[0] <= 0xF4) {
        len = 4;
        if (p[0] == 0xF0) low = 0x90;  /* overlong */
        if (p[0] == 0xF4) high = 0x8F; /* over U+10FFFF */
    } else {
        return 0;
    }
    if (n < len || p[1] < low || p[1] > high) return 0;
    for (size_t i = 2; i < len; i++)
        if ((p[i] & 0xC0) != 0x80) return 0;
    return len;
}

bool utf8_valid(struct str s)
{
    size_t i = 0;
    while (i < s.len) {
        while (s.len - i >= 8 && !(get_u64_le((const uint8_t *)s.p + i) & 0x8080808080808080u))
            i += 8;
        if (i == s.len) break;
        size_t seq = utf8_sequence(s.p + i, s.len - i);
        if (!seq) return false;
        i += seq;
    }
    return true;
}
