/* tests/ingest/pb_write.h: writes protobuf messages, right ones and others. */
#ifndef QUIPU_TESTS_PB_WRITE_H
#define QUIPU_TESTS_PB_WRITE_H

#include "base/protobuf.h"

static inline void pb_put_bytes(struct buf *b, uint32_t number, const void *p, size_t len)
{
    pb_put_tag(b, number, 2);
    buf_str(b, (struct str){p, len});
}
static inline void pb_put_str(struct buf *b, uint32_t number, const char *z)
{
    pb_put_bytes(b, number, z, strlen(z));
}
/* Closes a message that was written into `inner`, which is emptied. */
static inline void pb_put_message(struct buf *b, uint32_t number, struct buf *inner)
{
    pb_put_bytes(b, number, inner->p, inner->len);
    buf_reset(inner);
}

/* Message 1.0. */
static inline void pb_put_label(struct buf *series, const char *name, const char *value)
{
    struct buf label;
    buf_init(&label, MEM_INGEST);
    if (*name) pb_put_str(&label, 1, name); /* an empty field is left out, as senders do */
    if (*value) pb_put_str(&label, 2, value);
    pb_put_message(series, 1, &label);
    buf_release(&label);
}
static inline void pb_put_sample(struct buf *series, double v, int64_t t_ms)
{
    struct buf sample;
    buf_init(&sample, MEM_INGEST);
    if (double_bits(v)) pb_put_double(&sample, 1, v);
    if (t_ms) pb_put_varint(&sample, 2, (uint64_t)t_ms);
    pb_put_message(series, 2, &sample);
    buf_release(&sample);
}

#endif
