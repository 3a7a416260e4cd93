/* base/protobuf.h: protobuf messages (the wire format's documentation, protobuf.dev/programming-guides/encoding).
 * Reading is in place and bounded. Sticky: the first error ends the message and is kept. Nothing is allocated. Unknown
 * fields of every wire type are skipped, groups too. Writing appends to a buffer. */
#ifndef QUIPU_BASE_PROTOBUF_H
#define QUIPU_BASE_PROTOBUF_H

#include "base/bytes.h"

enum pb_wire {
    PB_VARINT = 0,
    PB_FIXED64 = 1,
    PB_LEN = 2,
    PB_GROUP = 3,
    PB_END = 4,
    PB_FIXED32 = 5
};

enum pb_error {
    PB_OK,
    PB_EOF,      /* "unexpected EOF" */
    PB_OVERFLOW, /* a varint of more than 10 bytes, a length over what is addressable */
    PB_ILLEGAL_TAG,
    PB_WRONG_WIRE, /* a known field with another wire type: pb_expect */
    PB_GROUP_END,  /* an end of a group that never began, or too deep a nesting */
};

struct pb {
    const uint8_t *p, *end;
    enum pb_error error;
    uint32_t bad_number; /* of the field that `error` is about */
    uint8_t bad_wire;
    const char *message; /* name of the message, for texts */
    const char *field;   /* of PB_WRONG_WIRE */
};

/* One field: `u` holds varint and fixed values, `bytes` what PB_LEN holds. */
struct pb_field {
    uint32_t number;
    uint8_t wire;
    uint64_t u;
    struct bytes bytes;
};

static inline struct pb pb_init(struct bytes b, const char *message)
{
    return (struct pb){.p = b.p, .end = b.p ? b.p + b.len : b.p, .message = message};
}
/* The next field; false at the end or after an error. Groups are skipped inside. */
bool pb_next(struct pb *pb, struct pb_field *field);
/* True when the field has the wire type it should have; else the error is kept and pb ends. */
bool pb_expect(struct pb *pb, const struct pb_field *field, enum pb_wire wire, const char *name);
uint64_t pb_varint(struct pb *pb);

/* A repeated number: packed (PB_LEN) or single. Each call hands out one value; false when the field is used up. */
struct pb_packed {
    struct pb pb;
    bool single;
    uint64_t u;
};
/* `wire` is the type of the elements. False after an error (kept in `outer`). */
bool pb_packed_init(struct pb *outer, const struct pb_field *field, enum pb_wire wire,
                    const char *name, struct pb_packed *out);
bool pb_packed_next(struct pb_packed *packed, enum pb_wire wire, uint64_t *u);

/* ERR_OK, or ERR_INVALID with the text of the peers. */
MUST_USE enum err_code pb_finish(const struct pb *pb, struct err *err);

/* ---- writing ---- */

static inline void pb_put_tag(struct buf *out, uint32_t number, enum pb_wire wire)
{
    buf_varint(out, (uint64_t)number << 3 | wire);
}
static inline void pb_put_varint(struct buf *out, uint32_t number, uint64_t v)
{
    pb_put_tag(out, number, PB_VARINT);
    buf_varint(out, v);
}
static inline void pb_put_double(struct buf *out, uint32_t number, double v)
{
    pb_put_tag(out, number, PB_FIXED64);
    buf_double(out, v);
}
static inline void pb_put_text(struct buf *out, uint32_t number, struct str s)
{
    pb_put_tag(out, number, PB_LEN);
    buf_str(out, s);
}
/* A message inside: what is appended between begin and end. Messages nest; begin returns what its end wants. */
size_t pb_put_begin(struct buf *out, uint32_t number);
void pb_put_end(struct buf *out, size_t at);

#endif
