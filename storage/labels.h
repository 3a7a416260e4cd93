/* storage/labels.h: label sets. A set is sorted by the bytes of the names, names are unique, and no value
 * is empty ({a=""} and no `a` are the same set). Everything is borrowed; who made it says how long. */
#ifndef QUIPU_STORAGE_LABELS_H
#define QUIPU_STORAGE_LABELS_H

#include "base/arena.h"
#include "base/bytes.h"

#define LABEL_NAME "__name__"

struct label {
    struct str name, value;
};
struct labels {
    const struct label *items;
    size_t n;
};

/* Pairwise by name, then value, bytewise; a shorter prefix first: the order of results. */
int labels_cmp(struct labels a, struct labels b);
bool labels_eq(struct labels a, struct labels b);
uint64_t labels_hash(struct labels labels); /* XXH3 over the encoded form */
/* The value of `name`, {"", 0} when absent. */
struct str labels_get(struct labels labels, struct str name);
/* Sorts in place by name. False when a name stands twice. */
bool labels_sort(struct label *items, size_t n);
/* Copies names and values, too. ERR_LIMIT / ERR_NO_MEMORY. */
MUST_USE enum err_code labels_copy(struct arena *arena, struct labels in, struct labels *out,
                                   struct err *err);

/* Encoded form, in the WAL, in memory and as hash key: varint n, then n times name and value, each with a
 * varint length. */
void labels_encode(struct buf *out, struct labels labels);
/* Checks order, uniqueness, non-empty names and values, UTF-8. Strings point into the reader's bytes; the
 * array is in the arena. ERR_CORRUPT. */
MUST_USE enum err_code labels_decode(struct reader *r, struct arena *arena, struct labels *out,
                                     struct err *err);

/* {__name__="a", b="c"} as PromQL's error texts print it: Go quoting; names that are not
 * [A-Za-z_][A-Za-z0-9_]* are quoted. */
void labels_print(struct buf *out, struct labels labels);
/* A double-quoted string as Go's strconv.Quote writes it. */
void str_quote(struct buf *out, struct str s);

#endif
