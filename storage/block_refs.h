/* storage/block_refs.h: what a block says of each chunk: where it is, where its times are, its statistics; as items of
 * the section "refs" (storage/format.h). Private to storage. Threads: pure functions. */
#ifndef QUIPU_STORAGE_BLOCK_REFS_H
#define QUIPU_STORAGE_BLOCK_REFS_H

#include "storage/chunk.h"
#include "storage/format.h"

#define NO_FLOATS_BITS UINT64_C(0x7ff8000000000000) /* first, last, min and max of no floats */

struct chunk_ref {
    struct chunk_meta meta;
    uint64_t item;          /* in the section of chunks */
    uint32_t column, start; /* of its times; 0 when it has own_times */
    bool own_times;         /* the chunk is one of chunk.h */
    bool has_starts;        /* start times stand before it */
    bool family;            /* it has the values of several series, */
    uint8_t member;         /* this one's are those of the member */
};

/* ---- writing ---- */

struct refs_writer {
    struct buf times[BLOCK_GROUP_SERIES], refs[BLOCK_GROUP_SERIES];
};
void refs_writer_init(struct refs_writer *w);
void refs_writer_release(struct refs_writer *w);
/* Appends the item of n_series series: their chunks one behind the other, n_chunks[i] >= 1 each, in order of time
 * (ASSERT). */
MUST_USE enum err_code refs_group_encode(struct refs_writer *w, struct buf *out,
                                         const struct chunk_ref *refs, const uint32_t *n_chunks,
                                         unsigned n_series, struct err *err);

/* ---- reading: the chunks of one series, in a group's item ---- */

struct chunk_refs {
    uint32_t version;
    uint32_t n_left;
    bool first;
    int64_t before_ms; /* end of the chunk before, or the group's base time */
    uint64_t item;     /* of the next chunk; version 2: of the one before */
    uint64_t step;     /* from there to the next */
    struct reader refs, times;
    uint32_t column;
    uint64_t start;   /* where the times before stop */
    int64_t k_before; /* the last number of the chunk before */
    uint8_t form, member;
    bool family; /* member is known */
};
/* The directory of a group: where the lists of each of its series are. For who reads one series after the other. */
struct refs_entry {
    uint64_t n_chunks, times_off, times_len, refs_off, refs_len;
};
struct refs_directory {
    struct refs_entry entries[BLOCK_GROUP_SERIES];
    uint64_t base_item;
    uint32_t base_column;
    int64_t base_ms;
    const uint8_t *lists; /* in the group's item */
};
/* Version 2 only. */
MUST_USE enum err_code refs_directory_read(struct bytes group, unsigned n_series,
                                           struct refs_directory *out, struct err *err);
void refs_directory_find(const struct refs_directory *dir, unsigned k, struct chunk_refs *out);
/* Of the k-th of the n_series series in a group. */
MUST_USE enum err_code chunk_refs_find(uint32_t version, struct bytes group, unsigned n_series,
                                       unsigned k, struct chunk_refs *out, struct err *err);
/* Needs n_left > 0. */
MUST_USE enum err_code chunk_refs_next(struct chunk_refs *l, struct chunk_ref *ref,
                                       struct err *err);

/* What a series takes in refs at the least: bounds the number of series by the bytes there are. */
#define SERIES_REFS_BYTES_MIN_V1 (2 + META_BYTES_MIN)
#define SERIES_REFS_BYTES_MIN 3

/* ---- version 1; also what a writer keeps of a chunk until the end ---- */

#define META_BYTES_MIN 4
/* before_ms: t_max_ms of the series' chunk before, or the group's base time. */
void meta_encode(struct buf *out, const struct chunk_meta *meta, int64_t before_ms);
/* first: there is no chunk before, any time will do. Checks that the fields go together. */
MUST_USE enum err_code meta_decode(struct reader *r, int64_t before_ms, bool first,
                                   struct chunk_meta *meta, struct err *err);
MUST_USE enum err_code chunk_refs_find_v1(struct bytes group, unsigned k, struct chunk_refs *out,
                                          struct err *err);
MUST_USE enum err_code chunk_refs_next_v1(struct chunk_refs *l, struct chunk_ref *ref,
                                          struct err *err);

#endif
