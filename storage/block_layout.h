/* storage/block_layout.h: what the writer, the reader and the checker of blocks share: items of the index as bytes
 * (storage/format.h), and what an open block is. Private to storage. */
#ifndef QUIPU_STORAGE_BLOCK_LAYOUT_H
#define QUIPU_STORAGE_BLOCK_LAYOUT_H

#include <roaring/roaring.h>
#include <stdatomic.h>

#include "storage/block.h"
#include "storage/block_refs.h"
#include "storage/page_file.h"

struct block_name {
    struct str text;
    uint32_t first_pair; /* the name's pairs end where the next name's begin */
};

struct block {
    _Atomic uint32_t n_refs; /* relaxed up; acq_rel down, so that the last one sees all */
    _Atomic bool drop;       /* relaxed: ordered by n_refs */
    struct io *io;
    struct page_file file;
    struct block_info info;
    uint32_t n_series, n_pairs;
    struct block_name *names; /* sorted; n_names + 1, the last one's first_pair is n_pairs */
    uint32_t n_names;
    struct arena arena; /* of the names */
    char *path;
};

static inline uint64_t block_n_groups(uint64_t n_series)
{
    return (n_series + BLOCK_GROUP_SERIES - 1) / BLOCK_GROUP_SERIES;
}

/* ---- footer ---- */
void block_head_encode(struct buf *out, const struct block_info *info);
MUST_USE enum err_code block_head_decode(struct reader *r, struct block_info *info,
                                         struct err *err);

/* What a series takes in labels at the least: bounds the number of series by the bytes there are. */
#define SERIES_LABELS_BYTES_MIN 2

/* ---- labels: lists of pair numbers ---- */
#define PAIRS_INLINE 64
struct pair_list {
    uint32_t *ids; /* own[] or memory of its own; strictly rising */
    size_t n, cap;
    uint32_t own[PAIRS_INLINE];
    uint32_t *heap;
};
void pair_list_init(struct pair_list *list);
void pair_list_release(struct pair_list *list);
MUST_USE enum err_code pair_list_push(struct pair_list *list, uint32_t id, struct err *err);
/* The next series of a group: `list` holds that of the series before, or nothing. */
MUST_USE enum err_code pair_list_decode(struct reader *r, uint32_t n_pairs, struct pair_list *list,
                                        struct err *err);
void pair_list_encode(struct buf *out, const uint32_t *ids, size_t n, size_t n_shared);

/* ---- an open block ---- */
/* Number of the name, or n_names. */
uint32_t block_find_name(const struct block *b, struct str name);
uint32_t block_name_of_pair(const struct block *b, uint32_t pair);
MUST_USE enum err_code block_value(struct block *b, struct page_cursor *cursor, uint32_t pair,
                                   struct str *out, struct err *err);
/* Pair numbers of a series. */
MUST_USE enum err_code block_pairs(struct block *b, struct page_cursor *cursor, uint32_t id,
                                   struct pair_list *out, struct err *err);
MUST_USE enum err_code block_refs(struct block *b, struct page_cursor *cursor, uint32_t id,
                                  struct chunk_refs *out, struct err *err);

/* Where a reader of samples is. */
struct chunk_cursor {
    struct page_cursor chunks, times;
};
void chunk_cursor_release(struct chunk_cursor *cursor);
/* The chunk's bytes; for a family those of all its members. */
MUST_USE enum err_code block_chunk_item(struct block *b, struct chunk_cursor *cursor,
                                        const struct chunk_ref *ref, struct bytes *item,
                                        struct err *err);
/* Fills in what is known of the chunk's bytes. */
MUST_USE enum err_code block_describe_chunk(struct block *b, struct chunk_cursor *cursor,
                                            const struct chunk_ref *ref, struct block_chunk *out,
                                            struct err *err);
/* Decodes a time column; *n: how many times it has. */
MUST_USE enum err_code block_check_times(struct block *b, struct page_cursor *cursor,
                                         uint32_t column, size_t *n, struct err *err);
/* Decodes a chunk, checks its times against its statistics, and appends what is in [mint_ms, maxt_ms]. */
MUST_USE enum err_code block_decode_chunk(struct block *b, struct chunk_cursor *cursor,
                                          const struct chunk_ref *ref, int64_t mint_ms,
                                          int64_t maxt_ms, struct samples *out, struct err *err);

#endif
