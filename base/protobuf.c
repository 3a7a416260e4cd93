/* base/protobuf.c: see protobuf.h. */
#include "base/protobuf.h"

#include <inttypes.h>

#define GROUP_DEPTH_MAX 64

static bool pb_fail(struct pb *pb, enum pb_error error)
{
    if (pb->error == PB_OK) pb->error = error;
    pb->p = pb->end;
    return false;
}

uint64_t pb_varint(struct pb *pb)
{
    if (LIKELY(pb->p < pb->end && *pb->p < 0x80)) return *pb->p++;
    uint64_t v = 0;
    for (unsigned i = 0; i < VARINT_BYTES_MAX; i++) {
        if (pb->p == pb->end) {
            pb_fail(pb, PB_EOF);
            return 0;
        }
        uint8_t b = *pb->p++;
        if (i == 9 && b > 1) break;
        v |= (uint64_t)(b & 0x7f) << (7 * i);
        if (b < 0x80) return v;
    }
    pb_fail(pb, PB_OVERFLOW);
    return 0;
}

static bool pb_take(struct pb *pb, uint64_t len, struct bytes *out)
{
    if (len > (uint64_t)(pb->end - pb->p))
        return pb_fail(pb, len > INT64_MAX ? PB_OVERFLOW : PB_EOF);
    *out = bytes_of(pb->p, (size_t)len);
    pb->p += len;
    return true;
}

/* The tag alone. */
static bool pb_tag(struct pb *pb, struct pb_field *field)
{
    uint64_t tag = pb_varint(pb);
    if (pb->error) return false;
    field->number = (uint32_t)(tag >> 3);
    field->wire = (uint8_t)(tag & 7);
    if (tag >> 3 == 0 || tag >> 3 > INT32_MAX || field->wire > PB_FIXED32) {
        pb->bad_number = field->number;
        pb->bad_wire = field->wire;
        return pb_fail(pb, PB_ILLEGAL_TAG);
    }
    return true;
}

/* What follows the tag, for all but groups. */
static bool pb_value(struct pb *pb, struct pb_field *field)
{
    switch (field->wire) {
    case PB_VARINT: field->u = pb_varint(pb); return pb->error == PB_OK;
    case PB_FIXED64:
        if (!pb_take(pb, 8, &field->bytes)) return false;
        field->u = get_u64_le(field->bytes.p);
        return true;
    case PB_FIXED32:
        if (!pb_take(pb, 4, &field->bytes)) return false;
        field->u = get_u32_le(field->bytes.p);
        return true;
    case PB_LEN: {
        uint64_t len = pb_varint(pb);
        return pb->error == PB_OK && pb_take(pb, len, &field->bytes);
    }
    default: return pb_fail(pb, PB_GROUP_END);
    }
}

/* Past the end of a group whose start was read; groups nest, so the open ones are counted. */
static bool pb_skip_group(struct pb *pb, uint32_t number)
{
    uint32_t open[GROUP_DEPTH_MAX] = {number};
    size_t depth = 1;
    while (depth > 0) {
        struct pb_field field = {0};
        if (pb->p == pb->end) return pb_fail(pb, PB_EOF);
        if (!pb_tag(pb, &field)) return false;
        if (field.wire == PB_GROUP) {
            if (depth == GROUP_DEPTH_MAX) return pb_fail(pb, PB_GROUP_END);
            open[depth++] = field.number;
        } else if (field.wire == PB_END) {
            if (open[--depth] != field.number) return pb_fail(pb, PB_GROUP_END);
        } else if (!pb_value(pb, &field)) {
            return false;
        }
    }
    return true;
}

bool pb_next(struct pb *pb, struct pb_field *field)
{
    while (pb->p < pb->end) {
        if (!pb_tag(pb, field)) return false;
        if (LIKELY(field->wire != PB_GROUP)) return pb_value(pb, field);
        if (!pb_skip_group(pb, field->number)) return false;
    }
    return false;
}

bool pb_expect(struct pb *pb, const struct pb_field *field, enum pb_wire wire, const char *name)
{
    if (LIKELY(field->wire == wire)) return true;
    if (pb->error == PB_OK) {
        pb->bad_wire = field->wire;
        pb->field = name;
    }
    return pb_fail(pb, PB_WRONG_WIRE);
}

bool pb_packed_init(struct pb *outer, const struct pb_field *field, enum pb_wire wire,
                    const char *name, struct pb_packed *out)
{
    *out = (struct pb_packed){.single = field->wire != PB_LEN, .u = field->u};
    if (out->single) return pb_expect(outer, field, wire, name);
    out->pb = pb_init(field->bytes, outer->message);
    return true;
}

bool pb_packed_next(struct pb_packed *packed, enum pb_wire wire, uint64_t *u)
{
    if (packed->single) {
        *u = packed->u;
        packed->single = false;
        return true;
    }
    if (packed->pb.p == packed->pb.end) return false;
    struct pb_field field = {.wire = (uint8_t)wire};
    if (!pb_value(&packed->pb, &field)) return false;
    *u = field.u;
    return true;
}

enum err_code pb_finish(const struct pb *pb, struct err *err)
{
    switch (pb->error) {
    case PB_OK: return ERR_OK;
    case PB_EOF: return err_set(err, ERR_INVALID, "unexpected EOF");
    case PB_OVERFLOW: return err_set(err, ERR_INVALID, "proto: integer overflow");
    case PB_ILLEGAL_TAG:
        return err_set(err, ERR_INVALID, "proto: %s: illegal tag %" PRIu32 " (wire type %u)",
                       pb->message, pb->bad_number, pb->bad_wire);
    case PB_WRONG_WIRE:
        return err_set(err, ERR_INVALID, "proto: wrong wireType = %u for field %s", pb->bad_wire,
                       pb->field);
    case PB_GROUP_END: break;
    }
    return err_set(err, ERR_INVALID, "proto: unexpected end of group");
}

/* ---- writing ---- */

/* Most messages are short: one byte is left for their length, and the long ones are moved to make room for more. */
size_t pb_put_begin(struct buf *out, uint32_t number)
{
    pb_put_tag(out, number, PB_LEN);
    buf_u8(out, 0);
    return out->len;
}

void pb_put_end(struct buf *out, size_t at)
{
    uint8_t len[VARINT_BYTES_MAX];
    if (out->failed) return; /* what was appended may be missing */
    ASSERT(at > 0 && at <= out->len);
    size_t n = out->len - at, more = put_varint(len, n) - 1;
    if (more) {
        if (!buf_reserve(out, more)) return;
        memmove(out->p + at + more, out->p + at, n);
        out->len += more;
    }
    memcpy(out->p + at - 1, len, more + 1);
}
