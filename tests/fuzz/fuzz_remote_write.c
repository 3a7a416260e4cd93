/* tests/fuzz/fuzz_remote_write.c: a body of remote write 1.0, compressed and not. What is accepted keeps the rules
 * that the engine relies on. */
#include "ingest/snappy.h"
#include "ingest/write_request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MESSAGE_BYTES_MAX ((size_t)1 << 20)
#define MEMORY_BYTES_MAX ((size_t)16 << 20)

static const struct label_limits LIMITS = {30, 1024, 2048};

/* Knows one series; every other is checked, and found to have a place. */
struct table {
    struct series *known;
    uint64_t known_hash;
    size_t n_added;
};

static struct series *table_find(void *ctx, uint64_t hash, struct bytes sent, struct series *hint)
{
    (void)sent;
    (void)hint;
    struct table *t = ctx;
    return t->n_added && hash == t->known_hash ? t->known : NULL;
}

static enum err_code table_add(void *ctx, struct labels labels, uint64_t hash, struct bytes sent,
                               struct series *hint, struct series **out, struct err *err)
{
    (void)err;
    (void)sent;
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
    *out = t->known;
    return ERR_OK;
}

static void check_batch(const struct write_request *w, const struct series *known)
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

static void check_message(struct bytes message)
{
    uint64_t place;
    struct table table = {.known = (struct series *)(void *)&place};
    struct arena arena;
    struct write_request w;
    struct err err;
    arena_init(&arena, MEM_INGEST, MEMORY_BYTES_MAX);
    write_request_init(&w, &arena, &LIMITS, (struct series_source){table_find, table_add, &table});
    enum err_code rc = write_request_decode(&w, message, &err);
    if (rc == ERR_OK)
        check_batch(&w, table.known);
    else
        ASSERT(utf8_valid(str_of(err.text)));
    arena_release(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;
    struct bytes message;
    struct err err;
    arena_init(&arena, MEM_INGEST, MEMORY_BYTES_MAX);
    if (snappy_decode(bytes_of(data, size), MESSAGE_BYTES_MAX, &arena, &message, &err) == ERR_OK)
        check_message(message);
    arena_release(&arena);
    check_message(bytes_of(data, size));
    return 0;
}
