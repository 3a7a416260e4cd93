/* query/eval_labels.c: see the header. Label sets are sorted by name, as is a filter: all here is merging. */
#include "query/eval_labels.h"

#include <stdlib.h>

#include "base/hash.h"

enum err_code eval_same_labelset(struct err *err)
{
    return err_set(err, ERR_EXECUTION, "vector cannot contain metrics with the same labelset");
}

/* ---- filters ---- */

static int compare_str(const void *a, const void *b)
{
    return str_cmp(*(const struct str *)a, *(const struct str *)b);
}

enum err_code label_filter_init(struct eval *eval, struct str_list names, bool only,
                                struct label_filter *out, struct err *err)
{
    struct str *sorted = EVAL_ARRAY(eval, struct str, names.n + 1);
    if (!sorted) return eval_no_memory(eval, err);
    if (names.n) memcpy(sorted, names.items, names.n * sizeof(*sorted));
    size_t n_all = names.n;
    if (!only) sorted[n_all++] = STR(LABEL_NAME);
    qsort(sorted, n_all, sizeof(*sorted), compare_str);
    size_t n = 0;
    for (size_t i = 0; i < n_all; i++)
        if (!n || !str_eq(sorted[n - 1], sorted[i])) sorted[n++] = sorted[i];
    *out = (struct label_filter){only, sorted, n};
    return ERR_OK;
}

/* Is `name` among the filter's? *at moves forward with names in order. */
static bool filter_lists(const struct label_filter *filter, struct str name, size_t *at)
{
    while (*at < filter->n) {
        int c = str_cmp(filter->names[*at], name);
        if (c == 0) return true;
        if (c > 0) return false;
        (*at)++;
    }
    return false;
}

enum err_code labels_filter(struct eval *eval, struct labels in, const struct label_filter *filter,
                            struct labels *out, struct err *err)
{
    struct label *items = EVAL_ARRAY(eval, struct label, in.n);
    if (!items) return eval_no_memory(eval, err);
    size_t n = 0, at = 0;
    for (size_t i = 0; i < in.n; i++)
        if (filter_lists(filter, in.items[i].name, &at) == filter->only) items[n++] = in.items[i];
    *out = (struct labels){items, n};
    return ERR_OK;
}

enum err_code labels_with(struct arena *arena, struct labels in, struct str name, struct str value,
                          struct labels *out, struct err *err)
{
    struct label *items = ARENA_ARRAY(arena, struct label, in.n + 1);
    if (!items) return arena_fail(arena, err);
    size_t n = 0, i = 0;
    while (i < in.n && str_cmp(in.items[i].name, name) < 0) items[n++] = in.items[i++];
    if (value.len) items[n++] = (struct label){name, value};
    if (i < in.n && str_eq(in.items[i].name, name)) i++;
    while (i < in.n) items[n++] = in.items[i++];
    *out = (struct labels){items, n};
    return ERR_OK;
}

enum err_code labels_without_name(struct arena *arena, struct labels in, struct labels *out,
                                  struct err *err)
{
    struct label *items = ARENA_ARRAY(arena, struct label, in.n);
    if (!items) return arena_fail(arena, err);
    size_t n = 0;
    for (size_t i = 0; i < in.n; i++) {
        struct str name = in.items[i].name;
        bool goes = str_eq(name, STR(LABEL_NAME)) || str_eq(name, STR(LABEL_TYPE)) ||
                    str_eq(name, STR(LABEL_UNIT));
        if (!goes) items[n++] = in.items[i];
    }
    *out = (struct labels){items, n};
    return ERR_OK;
}

/* ---- keys ---- */

struct key_entry {
    uint64_t hash;
    const uint8_t *key;
    size_t len;
};

void key_table_init(struct key_table *table, struct eval *eval)
{
    *table = (struct key_table){.eval = eval};
}

void key_begin(struct key_table *table)
{
    table->key_len = 0;
}

static bool key_reserve(struct key_table *table, size_t extra)
{
    if (extra <= table->key_cap - table->key_len) return true;
    size_t cap = MAX_OF(table->key_cap * 2, table->key_len + extra);
    cap = MAX_OF(cap, (size_t)256);
    uint8_t *key = EVAL_ARRAY(table->eval, uint8_t, cap);
    if (!key) {
        table->no_memory = true;
        return false;
    }
    if (table->key_len) memcpy(key, table->key, table->key_len);
    table->key = key;
    table->key_cap = cap;
    return true;
}

/* Length first: no two lists of strings have the same key. */
void key_put(struct key_table *table, struct str s)
{
    uint32_t len = (uint32_t)s.len;
    if (!key_reserve(table, sizeof(len) + s.len)) return;
    memcpy(table->key + table->key_len, &len, sizeof(len));
    table->key_len += sizeof(len);
    if (s.len) memcpy(table->key + table->key_len, s.p, s.len);
    table->key_len += s.len;
}

void key_put_labels(struct key_table *table, struct labels labels)
{
    for (size_t i = 0; i < labels.n; i++) {
        key_put(table, labels.items[i].name);
        key_put(table, labels.items[i].value);
    }
}

void key_put_filtered(struct key_table *table, struct labels labels,
                      const struct label_filter *filter)
{
    if (!filter->only) {
        size_t at = 0;
        for (size_t i = 0; i < labels.n; i++) {
            if (filter_lists(filter, labels.items[i].name, &at)) continue;
            key_put(table, labels.items[i].name);
            key_put(table, labels.items[i].value);
        }
        return;
    }
    /* Values alone: which label is which is known by the order. */
    size_t i = 0;
    for (size_t k = 0; k < filter->n; k++) {
        while (i < labels.n && str_cmp(labels.items[i].name, filter->names[k]) < 0) i++;
        bool has = i < labels.n && str_eq(labels.items[i].name, filter->names[k]);
        key_put(table, has ? labels.items[i].value : (struct str){NULL, 0});
    }
}

static uint32_t *find_slot(const struct key_table *table, uint64_t hash)
{
    size_t mask = table->n_slots - 1;
    for (size_t i = hash & mask;; i = (i + 1) & mask) {
        uint32_t *slot = &table->slots[i];
        if (!*slot) return slot;
        const struct key_entry *e = &table->entries[*slot - 1];
        if (e->hash == hash && e->len == table->key_len &&
            (!e->len || memcmp(e->key, table->key, e->len) == 0))
            return slot;
    }
}

uint32_t key_find(const struct key_table *table)
{
    if (!table->n) return KEY_NONE;
    uint32_t slot = *find_slot(table, hash_xxh3(table->key, table->key_len));
    return slot ? slot - 1 : KEY_NONE;
}

static bool table_grow(struct key_table *table)
{
    size_t n_slots = table->n_slots ? table->n_slots * 2 : 32;
    uint32_t *slots = EVAL_ARRAY(table->eval, uint32_t, n_slots);
    struct key_entry *entries = EVAL_ARRAY(table->eval, struct key_entry, n_slots / 2);
    if (!slots || !entries) return false;
    for (size_t i = 0; i < table->n; i++) {
        entries[i] = table->entries[i];
        size_t k = entries[i].hash & (n_slots - 1);
        while (slots[k]) k = (k + 1) & (n_slots - 1);
        slots[k] = (uint32_t)i + 1;
    }
    table->slots = slots;
    table->n_slots = n_slots;
    table->entries = entries;
    table->cap = n_slots / 2;
    return true;
}

enum err_code key_add(struct key_table *table, uint32_t *id, bool *added, struct err *err)
{
    if (table->no_memory || (table->n == table->cap && !table_grow(table)))
        return eval_no_memory(table->eval, err);
    uint64_t hash = hash_xxh3(table->key, table->key_len);
    uint32_t *slot = find_slot(table, hash);
    *added = *slot == 0;
    if (*added) {
        uint8_t *key = EVAL_ARRAY(table->eval, uint8_t, table->key_len);
        if (!key) return eval_no_memory(table->eval, err);
        if (table->key_len) memcpy(key, table->key, table->key_len);
        table->entries[table->n++] = (struct key_entry){hash, key, table->key_len};
        *slot = (uint32_t)table->n;
    }
    *id = *slot - 1;
    return ERR_OK;
}

enum err_code key_table_labels(struct key_table *table, struct labels labels, uint32_t *id,
                               bool *added, struct err *err)
{
    key_begin(table);
    key_put_labels(table, labels);
    return key_add(table, id, added, err);
}

/* ---- overlaps ---- */

void overlap_init(struct overlap_table *table, struct eval *eval, size_t n_steps)
{
    *table = (struct overlap_table){.n_steps = n_steps};
    key_table_init(&table->keys, eval);
}

enum err_code overlap_add(struct overlap_table *table, struct labels labels,
                          const uint64_t *present, uint32_t *id, bool *overlaps, struct err *err)
{
    struct eval *eval = table->keys.eval;
    bool added;
    enum err_code rc = key_table_labels(&table->keys, labels, id, &added, err);
    if (rc) return rc;
    if (*id >= table->cap) {
        size_t cap = MAX_OF(table->cap * 2, (size_t)16);
        uint64_t **grown = EVAL_ARRAY(eval, uint64_t *, cap);
        if (!grown) return eval_no_memory(eval, err);
        if (table->cap) memcpy(grown, table->present, table->cap * sizeof(*grown));
        table->present = grown;
        table->cap = cap;
    }
    size_t n_words = bitmap_words(table->n_steps);
    if (added) {
        table->present[*id] = EVAL_ARRAY(eval, uint64_t, n_words);
        if (!table->present[*id]) return eval_no_memory(eval, err);
    }
    uint64_t both = 0;
    for (size_t w = 0; w < n_words; w++) {
        both |= table->present[*id][w] & present[w];
        table->present[*id][w] |= present[w];
    }
    *overlaps = both != 0;
    return ERR_OK;
}
