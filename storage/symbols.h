/* storage/symbols.h: the table that numbers label pairs, while a block is written or the labels of several are joined. Numbers are given in order of
 * arrival; symbols_sort() then tells the final ones, by name and value. Threads: its owner's. */
#ifndef QUIPU_STORAGE_SYMBOLS_H
#define QUIPU_STORAGE_SYMBOLS_H

#include "base/arena.h"

struct symbol_pair {
    const char *value; /* in the arena */
    uint32_t value_len;
    uint32_t name_id;
};

struct symbols {
    struct arena arena; /* texts; its owner is that of all */
    struct str *names;  /* by name_id */
    size_t n_names, names_cap;
    struct symbol_pair *pairs; /* by pair number, as they came */
    size_t n_pairs, pairs_cap;
    uint32_t *slots; /* pair number + 1, 0 = empty; n_slots a power of two */
    size_t n_slots;
    uint32_t *name_slots;
    size_t n_name_slots;
};

void symbols_init(struct symbols *s);                           /* of MEM_STORAGE */
void symbols_init_for(struct symbols *s, enum mem_owner owner); /* of another */
void symbols_release(struct symbols *s);
/* Get or add; the text is copied. */
MUST_USE enum err_code symbols_add(struct symbols *s, struct str name, struct str value,
                                   uint32_t *pair, struct err *err);
static inline struct str symbols_value(const struct symbols *s, uint32_t pair)
{
    return (struct str){s->pairs[pair].value, s->pairs[pair].value_len};
}
static inline struct str symbols_name(const struct symbols *s, uint32_t pair)
{
    return s->names[s->pairs[pair].name_id];
}
/* The pairs in their final order, from mem_alloc(MEM_STORAGE), n_pairs of them. */
MUST_USE enum err_code symbols_sort(const struct symbols *s, uint32_t **order, struct err *err);

#endif
