/* tests/ingest/series_table.h: a series_source without an engine. A series is its printed label set. */
#ifndef QUIPU_TESTS_SERIES_TABLE_H
#define QUIPU_TESTS_SERIES_TABLE_H

#include "ingest/write_request.h"

#define TABLE_MAX 512

/* What a `struct series *` of this source points to. */
struct table_series {
    char *labels;
};
struct table_alias {
    uint64_t hash;
    struct buf sent;
    struct table_series *series;
};
struct series_table {
    struct table_series series[TABLE_MAX];
    struct table_alias aliases[TABLE_MAX];
    size_t n_series, n_aliases;
    size_t n_series_max; /* add says ERR_LIMIT beyond */
    size_t n_next, n_found, n_added, n_hints;
};

/* Any series whose bytes the message begins with, the shortest first: so that labels which follow matter. */
static inline struct series *table_next(void *ctx, struct series_walk *walk, struct bytes message,
                                        size_t *label_bytes)
{
    struct series_table *t = (struct series_table *)ctx;
    struct table_alias *best = NULL;
    for (size_t i = 0; walk->last && i < t->n_aliases; i++) {
        struct table_alias *a = &t->aliases[i];
        bool begins = a->sent.len > 0 && a->sent.len <= message.len &&
                      memcmp(a->sent.p, message.p, a->sent.len) == 0;
        if (begins && (!best || a->sent.len < best->sent.len)) best = a;
    }
    if (!best) return NULL;
    t->n_next++;
    walk->last = (struct series *)(void *)best->series;
    *label_bytes = best->sent.len;
    return walk->last;
}

static inline struct series *table_find(void *ctx, uint64_t hash, struct bytes sent,
                                        struct series *hint)
{
    struct series_table *t = (struct series_table *)ctx;
    t->n_hints += hint != NULL;
    for (size_t i = 0; i < t->n_aliases; i++) {
        struct table_alias *a = &t->aliases[i];
        if (a->hash != hash || !str_eq(str_from_bytes(buf_bytes(&a->sent)), str_from_bytes(sent)))
            continue;
        t->n_found++;
        return (struct series *)(void *)a->series;
    }
    return NULL;
}

static inline enum err_code table_add(void *ctx, struct labels labels, uint64_t hash,
                                      struct bytes sent, struct series *hint, struct series **out,
                                      struct err *err)
{
    (void)hint;
    struct series_table *t = (struct series_table *)ctx;
    struct buf text;
    buf_init(&text, MEM_INGEST);
    labels_print(&text, labels);
    buf_u8(&text, 0);
    size_t i = 0;
    while (i < t->n_series && strcmp(t->series[i].labels, (char *)text.p) != 0) i++;
    if (i == t->n_series) {
        if (i >= TABLE_MAX || i >= t->n_series_max) {
            buf_release(&text);
            return err_set(err, ERR_LIMIT, "more than %zu series", t->n_series_max);
        }
        t->series[t->n_series++].labels = mem_strdup(MEM_INGEST, (char *)text.p);
        t->n_added++;
    }
    buf_release(&text);
    *out = (struct series *)(void *)&t->series[i];
    if (t->n_aliases == TABLE_MAX) return ERR_OK;
    struct table_alias *a = &t->aliases[t->n_aliases++];
    *a = (struct table_alias){.hash = hash, .series = &t->series[i]};
    buf_init(&a->sent, MEM_INGEST);
    buf_put(&a->sent, sent.p, sent.len);
    return ERR_OK;
}

static inline struct series_table *table_new(void)
{
    struct series_table *t =
        (struct series_table *)mem_calloc(MEM_INGEST, 1, sizeof(struct series_table));
    ASSERT(t != NULL);
    t->n_series_max = TABLE_MAX;
    return t;
}
static inline void table_free(struct series_table *t)
{
    for (size_t i = 0; i < t->n_series; i++) mem_free(t->series[i].labels);
    for (size_t i = 0; i < t->n_aliases; i++) buf_release(&t->aliases[i].sent);
    mem_free(t);
}
static inline struct series_source table_source(struct series_table *t)
{
    return (struct series_source){table_next, table_find, table_add, t};
}
static inline const char *table_labels(const struct series *series)
{
    return ((const struct table_series *)(const void *)series)->labels;
}

#endif
