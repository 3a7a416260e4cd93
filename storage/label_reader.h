/* storage/label_reader.h: the labels of a block's series, one after the other, as numbers that are the same for all
 * blocks: pairs of one table of symbols. A text is read once for all series that have it; for the rest labels are
 * compared and grouped without one. Threads: one at a time for all readers of one table. */
#ifndef QUIPU_STORAGE_LABEL_READER_H
#define QUIPU_STORAGE_LABEL_READER_H

#include "storage/block.h"
#include "storage/symbols.h"

/* Labels with these names alone, or all but these. {0}: all. */
struct label_names {
    const struct str *names; /* sorted, unique */
    size_t n;
    bool only;
};
bool label_names_keep(const struct label_names *names, struct str name);

struct label_reader;
/* `symbols` and the block must outlive it. */
MUST_USE enum err_code label_reader_new(struct block *block, struct symbols *symbols,
                                        const struct label_names *names, struct label_reader **out,
                                        struct err *err);
void label_reader_free(struct label_reader *r); /* NULL: no-op */
/* The kept labels of a series as pairs of the table, by name; until the next call. Cheap when ids rise. */
MUST_USE enum err_code label_reader_series(struct label_reader *r, uint32_t id,
                                           const uint32_t **pairs, size_t *n, struct err *err);

/* Numbers by number, where few of many are used: pieces are made when they are needed. 0: not set. */
struct sparse {
    uint32_t **pieces;
    size_t n_pieces;
};
#define SPARSE_PIECE 512
MUST_USE bool sparse_init(struct sparse *s, size_t n);
void sparse_release(struct sparse *s);
/* NULL: memory is out. */
static inline uint32_t *sparse_at(const struct sparse *s, size_t i)
{
    uint32_t **piece = &s->pieces[i / SPARSE_PIECE];
    if (UNLIKELY(!*piece)) *piece = mem_calloc(MEM_QUERY, SPARSE_PIECE, sizeof(uint32_t));
    return *piece ? *piece + i % SPARSE_PIECE : NULL;
}

#endif
