/* engine/head_stream.h: a Gorilla stream in segments of cells, to which samples are appended. Growing copies nothing,
 * and with two sizes of cells none is left half used when others grow.
 * Threads: the caller's lock. What is in the stream when it ends does not change any more. */
#ifndef QUIPU_ENGINE_HEAD_STREAM_H
#define QUIPU_ENGINE_HEAD_STREAM_H

#include "engine/cells.h"
#include "storage/gorilla.h"

/* A segment is data, then a pointer to the next one's. The first is small: many series have few samples. */
#define STREAM_FIRST_BYTES 56
#define STREAM_NEXT_BYTES 120

struct head_stream {
    struct gorilla gorilla;
    uint8_t *first; /* data of the first segment; NULL: there is no stream */
    uint8_t *end;   /* of the data of the last one */
    int64_t t_first_ms;
    uint64_t v_first_bits;
};
static_assert(sizeof(struct head_stream) == 64, "one cache line");

static inline bool stream_exists(const struct head_stream *s)
{
    return s->first != NULL;
}
/* False when memory is out. */
MUST_USE bool stream_begin(struct head_stream *s, struct cell_pool *pool, int64_t t_ms, double v);
/* A sample that gorilla_fits(). False when memory is out; nothing has changed then. */
MUST_USE bool stream_append_slow(struct head_stream *s, struct cell_pool *pool, int64_t t_ms,
                                 double v);
/* Cells of a stream of n_bits. */
size_t stream_cells_bytes(uint32_t n_bits);
void stream_free(struct cell_pool *pool, uint8_t *first, uint32_t n_bits);
/* The bytes of a stream of n_bits, one after another, without the chunk's header. */
static inline size_t stream_data_bytes(uint32_t n_bits)
{
    return ((size_t)n_bits + 7) / 8;
}
void stream_gather(const uint8_t *first, uint32_t n_bits, uint8_t *out);

/* Where the next sample goes: the byte that the stream ends in. It may be s->end itself. */
static inline uint8_t *stream_at(const struct head_stream *s)
{
    uint32_t n_bits = s->gorilla.n_bits, n = (n_bits + 7) / 8;
    if (n <= STREAM_FIRST_BYTES) return s->first + n_bits / 8;
    uint8_t *last = s->end - STREAM_NEXT_BYTES + (n - STREAM_FIRST_BYTES - 1) % STREAM_NEXT_BYTES;
    return last + (n_bits % 8 == 0);
}
MUST_USE static inline bool stream_append(struct head_stream *s, struct cell_pool *pool,
                                          int64_t t_ms, double v)
{
    uint8_t *at = stream_at(s);
    if (UNLIKELY(s->end - at < GORILLA_APPEND_BYTES)) return stream_append_slow(s, pool, t_ms, v);
    gorilla_append_bits(&s->gorilla, at, t_ms, v);
    return true;
}

#endif
