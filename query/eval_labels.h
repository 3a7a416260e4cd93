/* query/eval_labels.h: label sets as operators derive them, and tables by label set. All memory is the query's. */
#ifndef QUIPU_QUERY_EVAL_LABELS_H
#define QUIPU_QUERY_EVAL_LABELS_H

#include "query/eval_op.h"

#define LABEL_TYPE "__type__"
#define LABEL_UNIT "__unit__"
#define LABEL_LE "le"

/* The labels that matter to a match or a group: `on` and `by` name them, `ignoring` and `without` name those that
 * do not, nor does the name then. */
struct label_filter {
    bool only;               /* on, by */
    const struct str *names; /* sorted, unique */
    size_t n;
};
MUST_USE enum err_code label_filter_init(struct eval *eval, struct str_list names, bool only,
                                         struct label_filter *out, struct err *err);
MUST_USE enum err_code labels_filter(struct eval *eval, struct labels in,
                                     const struct label_filter *filter, struct labels *out,
                                     struct err *err);
/* With one label set; an empty value removes it. */
MUST_USE enum err_code labels_with(struct arena *arena, struct labels in, struct str name,
                                   struct str value, struct labels *out, struct err *err);
/* Without the name and what goes with it (__type__, __unit__). */
MUST_USE enum err_code labels_without_name(struct arena *arena, struct labels in,
                                           struct labels *out, struct err *err);

/* Keys to small numbers 0, 1, 2, … in the order of first appearance. */
struct key_entry;
struct key_table {
    struct eval *eval;
    struct key_entry *entries;
    size_t n, cap;
    uint32_t *slots; /* entry + 1; a power of two of them, at most half used */
    size_t n_slots;
    uint8_t *key; /* the one in the making */
    size_t key_len, key_cap;
    bool no_memory; /* sticky: while making a key */
};
#define KEY_NONE UINT32_MAX
void key_table_init(struct key_table *table, struct eval *eval);
void key_begin(struct key_table *table);
void key_put(struct key_table *table, struct str s);
void key_put_labels(struct key_table *table, struct labels labels);
void key_put_filtered(struct key_table *table, struct labels labels,
                      const struct label_filter *filter);
/* The key begun: its number, or KEY_NONE. */
uint32_t key_find(const struct key_table *table);
MUST_USE enum err_code key_add(struct key_table *table, uint32_t *id, bool *added, struct err *err);
MUST_USE enum err_code key_table_labels(struct key_table *table, struct labels labels, uint32_t *id,
                                        bool *added, struct err *err);

/* Label sets that were put out and at which steps. */
struct overlap_table {
    struct key_table keys;
    uint64_t **present; /* by id */
    size_t cap, n_steps;
};
void overlap_init(struct overlap_table *table, struct eval *eval, size_t n_steps);
/* *overlaps: a step had these labels before. *id tells which label set. */
MUST_USE enum err_code overlap_add(struct overlap_table *table, struct labels labels,
                                   const uint64_t *present, uint32_t *id, bool *overlaps,
                                   struct err *err);

/* Series with equal labels in one; they must not meet at a step. */
MUST_USE enum err_code series_list_unique(struct eval *eval, struct series_list *list,
                                          size_t n_steps, struct err *err);
enum err_code eval_same_labelset(struct err *err);

#endif
