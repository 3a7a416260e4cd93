/* storage/gorilla.h: an open Gorilla chunk that grows by one sample at a time, as the head keeps one per series.
 * The bytes live in memory of the caller, who grows it (a slab cell): the appender only says how much it needs.
 * At every moment gorilla_bytes() is a whole, decodable CHUNK_GORILLA chunk. Threads: the caller's lock. */
#ifndef QUIPU_STORAGE_GORILLA_H
#define QUIPU_STORAGE_GORILLA_H

#include "storage/chunk.h"

/* Worst case of one more sample, bytes. */
#define GORILLA_SAMPLE_BYTES_MAX 20
#define GORILLA_HEADER_BYTES 24
/* What gorilla_append_bits() may write to. */
#define GORILLA_APPEND_BYTES 24

struct gorilla {
    int64_t t_last_ms;
    uint64_t v_last_bits;
    int32_t t_delta; /* last difference of times; larger ones end the chunk (see gorilla_append) */
    uint32_t n_bits; /* of the stream behind the header */
    uint16_t n;
    uint8_t leading, trailing; /* window of the last XOR; leading 0xFF: none yet */
};

/* Starts a chunk in `p` (at least GORILLA_HEADER_BYTES) with its first sample. */
void gorilla_start(struct gorilla *g, uint8_t *p, int64_t t_ms, double v);
/* Appends a later sample. `cap` is the memory at p; false when it must first grow to
 * gorilla_size() + GORILLA_SAMPLE_BYTES_MAX, or when the chunk is full or the step is too wide (n == 65535, or a
 * time difference over INT32_MAX): gorilla_fits() tells which. Nothing is changed then. */
bool gorilla_append(struct gorilla *g, uint8_t *p, size_t cap, int64_t t_ms, double v);
/* For who keeps the stream elsewhere than behind its header: appends a sample that gorilla_fits(). `to` is the byte in
 * which the stream ends, with GORILLA_APPEND_BYTES of room; what is behind the stream is overwritten. */
void gorilla_append_bits(struct gorilla *g, uint8_t *to, int64_t t_ms, double v);
/* The header of the chunk. */
void gorilla_put_header(const struct gorilla *g, int64_t t_first_ms, uint64_t v_first_bits,
                        uint8_t out[GORILLA_HEADER_BYTES]);
/* Could this sample go into the chunk, given memory? */
bool gorilla_fits(const struct gorilla *g, int64_t t_ms);
/* Bytes in use now. */
size_t gorilla_size(const struct gorilla *g);
struct bytes gorilla_bytes(const struct gorilla *g, const uint8_t *p);

#endif
