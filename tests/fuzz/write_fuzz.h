/* tests/fuzz/write_fuzz.h: a body of remote write, compressed and not, in any of its messages. What is accepted keeps the
 * rules that the engine relies on, and the short cut for known series finds the same as the long way. */
#ifndef QUIPU_TESTS_WRITE_FUZZ_H
#define QUIPU_TESTS_WRITE_FUZZ_H

#include "base/snappy.h"
#include "ingest/write_request.h"

#define MESSAGE_BYTES_MAX ((size_t)1 << 20)
#define MEMORY_BYTES_MAX ((size_t)16 << 20)

static const struct label_limits LIMITS = {30, 1024, 2048};

/* Knows one series; every other is checked, and found to have a place. */
struct table {
    struct series *known;
    uint64_t known_hash;
    struct buf known_sent;
    size_t n_added;
};

static inline struct series *table_next(void *ctx, struct series_walk *walk, struct bytes message,
                                        size_t *label_bytes)
{
    struct table *t = ctx;
    struct bytes sent = buf_bytes(&t->known_sent);
    if (!t->n_added || !sent.len || !walk->last || sent.len > message.len ||
        memcmp(sent.p, message.p, sent.len) != 0)
        return NULL;
    *label_bytes = sent.len;
    return walk->last = t->known;
}

static inline struct series *no_next(void *ctx, struct series_walk *walk, struct bytes message,
                                     size_t *label_bytes)
{
    (void)ctx, (void)walk, (void)message, (void)label_bytes;
    return NULL;
}

static inline struct series *table_find(void *ctx, uint64_t hash, struct bytes sent,
                                        struct series *hint)
{
    (void)hint;
    struct table *t = ctx;
    bool same =
        t->n_added && str_eq(str_from_bytes(sent), str_from_bytes(buf_bytes(&t->known_sent)));
    if (same) ASSERT(hash == t->known_hash);
    return same ? t->known : NULL;
}

static inline enum err_code table_add(void *ctx, struct labels labels, uint64_t hash,
                                      struct bytes sent, struct series *hint, struct series **out,
                                      struct err *err)
{
    (void)err;
    (void)hint;
    struct table *t = ctx;
    ASSERT(labels.n > 0);
    ASSERT(labels.n <= LIMITS.labels_max);
    bool has_name = false;
    for (size_t i = 0; i < labels.n; i++) {
        struct label l = labels.items[i];
        ASSERT(l.name.len > 0);
        ASSERT(l.name.len <= LIMITS.name_bytes_max);
        ASSERT(l.value.len > 0);
        ASSERT(l.value.len <= LIMITS.value_bytes_max);
        ASSERT(utf8_valid(l.name));
        ASSERT(utf8_valid(l.value));
        if (i > 0) ASSERT(str_cmp(labels.items[i - 1].name, l.name) < 0);
        has_name |= str_eq(l.name, STR(LABEL_NAME));
    }
    ASSERT(has_name);
    t->n_added++;
    t->known_hash = hash;
    buf_reset(&t->known_sent);
    buf_put(&t->known_sent, sent.p, sent.len);
    *out = t->known;
    return ERR_OK;
}

static inline void check_batch(const struct write_request *w, const struct series *known)
{
    const struct write_batch *b = &w->batch;
    for (size_t i = 0; i < b->n; i++) ASSERT(b->series[i] == known);
    struct err err;
    for (size_t i = 0; i < b->n_histograms; i++) {
        ASSERT(b->h_series[i] == known);
        const struct histogram *h = b->h[i];
        if (!histogram_is_stale(h)) ASSERT(histogram_validate(h, &err) == ERR_OK);
        struct buf buf;
        struct arena arena;
        struct histogram *back;
        buf_init(&buf, MEM_INGEST);
        arena_init(&arena, MEM_INGEST, 0);
        histogram_encode(&buf, h);
        struct reader r = reader_init(buf_bytes(&buf));
        ASSERT(histogram_decode(&r, &arena, &back, &err) == ERR_OK);
        ASSERT(histogram_same_bits(h, back));
        arena_release(&arena);
        buf_release(&buf);
    }
    for (size_t i = 0; i < w->n_metadata; i++) ASSERT(w->metadata[i].family.len > 0);
    if (w->n_problems > 0) ASSERT(w->problems[0] != NULL);
}

struct decoded {
    uint64_t place;
    struct table table;
    struct arena arena;
    struct write_request w;
    struct err err;
    enum err_code rc;
};

/* write_request_decode() or its like for another message. */
typedef enum err_code decode_fn(struct write_request *w, struct bytes message, struct err *err);

static inline void decode(decode_fn *fn, struct decoded *d, struct bytes message, bool with_next)
{
    *d = (struct decoded){.rc = ERR_OK};
    d->table.known = (struct series *)(void *)&d->place;
    buf_init(&d->table.known_sent, MEM_INGEST);
    arena_init(&d->arena, MEM_INGEST, MEMORY_BYTES_MAX);
    struct series_source source = {with_next ? table_next : no_next, table_find, table_add,
                                   &d->table};
    write_request_init(&d->w, &d->arena, &LIMITS, source);
    d->rc = fn(&d->w, message, &d->err);
}

static inline void decoded_release(struct decoded *d)
{
    buf_release(&d->table.known_sent);
    arena_release(&d->arena);
}

static inline void check_same(const struct decoded *a, const struct decoded *b)
{
    const struct write_batch *x = &a->w.batch, *y = &b->w.batch;
    ASSERT(a->rc == b->rc);
    if (a->rc) {
        ASSERT(strcmp(a->err.text, b->err.text) == 0);
        return;
    }
    ASSERT(x->n == y->n);
    ASSERT(x->n_histograms == y->n_histograms);
    ASSERT(a->w.n_problems == b->w.n_problems);
    ASSERT(a->w.batch.n_exemplars == b->w.batch.n_exemplars);
    ASSERT(a->w.exemplars_refused == b->w.exemplars_refused);
    for (size_t i = 0; i < x->n; i++) {
        ASSERT(x->t_ms[i] == y->t_ms[i]);
        ASSERT(double_bits(x->v[i]) == double_bits(y->v[i]));
        ASSERT((x->st_ms ? x->st_ms[i] : 0) == (y->st_ms ? y->st_ms[i] : 0));
    }
}

static inline void check_message(decode_fn *fn, struct bytes message)
{
    struct decoded quick, slow;
    decode(fn, &quick, message, true);
    decode(fn, &slow, message, false);
    check_same(&quick, &slow);
    if (quick.rc == ERR_OK)
        check_batch(&quick.w, quick.table.known);
    else
        ASSERT(utf8_valid(str_of(quick.err.text)));
    decoded_release(&quick);
    decoded_release(&slow);
}

static inline void fuzz_write(decode_fn *fn, const uint8_t *data, size_t size)
{
    struct arena arena;
    struct bytes message;
    struct err err;
    arena_init(&arena, MEM_INGEST, MEMORY_BYTES_MAX);
    if (snappy_decode(bytes_of(data, size), MESSAGE_BYTES_MAX, &arena, &message, &err) == ERR_OK)
        check_message(fn, message);
    arena_release(&arena);
    check_message(fn, bytes_of(data, size));
}

#endif
