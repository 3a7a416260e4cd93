/* storage/postings.c: see the header. */
#include "storage/postings.h"

#include <inttypes.h>

#define BATCH 256
/* Shorter runs go to roaring as single numbers: a range costs it more than that. */
#define RUN_AS_RANGE 64
static_assert(BATCH + RUN_AS_RANGE <= sizeof(((struct postings_sink *)0)->batch) / sizeof(uint32_t),
              "a batch is looked at after a run");

void postings_encode(struct buf *out, const uint32_t *ids, size_t n)
{
    uint64_t next = 0;
    for (size_t i = 0; i < n;) {
        size_t end = i + 1;
        while (end < n && ids[end] == ids[end - 1] + 1) end++;
        ASSERT(ids[i] >= next);
        uint64_t gap = ids[i] - next, run = end - i;
        buf_varint(out, gap << 1 | (run > 1));
        if (run > 1) buf_varint(out, run - 2);
        next = (uint64_t)ids[end - 1] + 1;
        i = end;
    }
}

bool postings_next(struct postings_reader *p, uint32_t *first, uint32_t *last, enum err_code *rc,
                   struct err *err)
{
    *rc = ERR_OK;
    if (reader_left(&p->r) == 0) return false;
    uint64_t token = reader_varint(&p->r);
    uint64_t more = token & 1 ? reader_varint(&p->r) : 0;
    uint64_t room = p->n_series - p->next;
    if (p->r.failed || token >> 1 >= room || more >= room) {
        *rc = err_set(err, ERR_CORRUPT, "postings beyond the %" PRIu32 " series, or cut short",
                      p->n_series);
        return false;
    }
    uint64_t from = p->next + (token >> 1), to = from + (token & 1 ? more + 1 : 0);
    if (to >= p->n_series) {
        *rc = err_set(err, ERR_CORRUPT, "postings beyond the %" PRIu32 " series", p->n_series);
        return false;
    }
    *first = (uint32_t)from;
    *last = (uint32_t)to;
    p->next = to + 1;
    return true;
}

void postings_flush(struct postings_sink *sink)
{
    if (sink->n) roaring_bitmap_add_many(sink->into, sink->n, sink->batch);
    sink->n = 0;
}

enum err_code postings_decode(struct bytes item, uint32_t n_series, struct postings_sink *sink,
                              struct err *err)
{
    struct postings_reader p = {.r = reader_init(item), .n_series = n_series};
    uint32_t first, last;
    enum err_code rc;
    while (postings_next(&p, &first, &last, &rc, err)) {
        if (last - first >= RUN_AS_RANGE) {
            roaring_bitmap_add_range_closed(sink->into, first, last);
            continue;
        }
        for (uint32_t id = first; id <= last; id++) sink->batch[sink->n++] = id;
        if (sink->n >= BATCH) postings_flush(sink);
    }
    return rc;
}
