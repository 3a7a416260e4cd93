/* engine/head_stream.c: see the header. */
#include "engine/head_stream.h"

struct link {
    uint8_t *next; /* data of the next segment */
};
static_assert(STREAM_NEXT_BYTES >= GORILLA_APPEND_BYTES, "a sample spans two segments at most");

static struct link *link_at(uint8_t *end)
{
    return (struct link *)(void *)end; /* data sizes are multiples of 8 */
}

static uint8_t *segment_new(struct cell_pool *pool, size_t data_bytes)
{
    uint8_t *data = cell_pool_get(pool, data_bytes + sizeof(struct link));
    if (data) link_at(data + data_bytes)->next = NULL;
    return data;
}

bool stream_begin(struct head_stream *s, struct cell_pool *pool, int64_t t_ms, double v)
{
    uint8_t header[GORILLA_HEADER_BYTES], *first = segment_new(pool, STREAM_FIRST_BYTES);
    if (!first) return false;
    gorilla_start(&s->gorilla, header, t_ms, v);
    s->first = first;
    s->end = first + STREAM_FIRST_BYTES;
    s->t_first_ms = t_ms;
    s->v_first_bits = s->gorilla.v_last_bits;
    return true;
}

/* Composes the sample beside the segment, which it may not fit into as a whole. */
bool stream_append_slow(struct head_stream *s, struct cell_pool *pool, int64_t t_ms, double v)
{
    uint8_t scratch[GORILLA_APPEND_BYTES] = {0}, *at = stream_at(s);
    size_t room = (size_t)(s->end - at);
    struct gorilla next = s->gorilla;
    if (next.n_bits % 8) scratch[0] = *at;
    gorilla_append_bits(&next, scratch, t_ms, v);
    size_t n = stream_data_bytes(next.n_bits) - s->gorilla.n_bits / 8;
    if (n > room) {
        uint8_t *segment = segment_new(pool, STREAM_NEXT_BYTES);
        if (!segment) return false;
        memcpy(segment, scratch + room, n - room);
        link_at(s->end)->next = segment;
        s->end = segment + STREAM_NEXT_BYTES;
        n = room;
    }
    if (n) memcpy(at, scratch, n);
    s->gorilla = next;
    return true;
}

/* How many segments there are behind the first. */
static size_t n_further(uint32_t n_bits)
{
    size_t n = stream_data_bytes(n_bits);
    return n <= STREAM_FIRST_BYTES
               ? 0
               : (n - STREAM_FIRST_BYTES + STREAM_NEXT_BYTES - 1) / STREAM_NEXT_BYTES;
}

size_t stream_cells_bytes(uint32_t n_bits)
{
    return cells_size(STREAM_FIRST_BYTES + sizeof(struct link)) +
           n_further(n_bits) * cells_size(STREAM_NEXT_BYTES + sizeof(struct link));
}

void stream_free(struct cell_pool *pool, uint8_t *first, uint32_t n_bits)
{
    size_t size = STREAM_FIRST_BYTES, n = n_further(n_bits);
    for (uint8_t *data = first, *next; data; data = next, n--) {
        next = link_at(data + size)->next;
        ASSERT((n == 0) == (next == NULL));
        cell_pool_put(pool, data, size + sizeof(struct link));
        size = STREAM_NEXT_BYTES;
    }
}

void stream_gather(const uint8_t *first, uint32_t n_bits, uint8_t *out)
{
    size_t left = stream_data_bytes(n_bits), size = STREAM_FIRST_BYTES;
    for (const uint8_t *data = first; left;) {
        size_t n = MIN_OF(left, size);
        memcpy(out, data, n);
        out += n;
        left -= n;
        if (left) data = ((const struct link *)(const void *)(data + size))->next;
        size = STREAM_NEXT_BYTES;
    }
}
