/* storage/block_index.c: see the header. Postings are made in passes over the label lists, so that they never take
 * more than a few MiB. */
#include "storage/block_index.h"

#include <inttypes.h>

#include "storage/postings.h"

#define POSTINGS_BATCH (1 << 20) /* numbers held at once, unless one list is longer */

void block_index_init(struct block_index *x)
{
    *x = (struct block_index){0};
    symbols_init(&x->symbols);
    pair_list_init(&x->pairs);
    buf_init(&x->lists, MEM_STORAGE);
}

void block_index_release(struct block_index *x)
{
    symbols_release(&x->symbols);
    pair_list_release(&x->pairs);
    buf_release(&x->lists);
    mem_free(x->labels);
    x->labels = NULL;
}

/* How many of the first labels are those of the series before. Also: the order of series. */
static size_t count_shared(const struct block_index *x, struct labels labels)
{
    size_t n = 0;
    while (n < labels.n && n < x->n_labels && str_eq(labels.items[n].name, x->labels[n].name) &&
           str_eq(labels.items[n].value, x->labels[n].value))
        n++;
    if (x->n_series) ASSERT(labels_cmp((struct labels){x->labels, x->n_labels}, labels) < 0);
    return n;
}

enum err_code block_index_series(struct block_index *x, struct labels labels, struct err *err)
{
    size_t n_shared = count_shared(x, labels);
    if (x->n_series == UINT32_MAX - 1)
        return err_set(err, ERR_LIMIT, "too many series for one block");
    enum err_code rc = mem_grow(MEM_STORAGE, (void **)&x->labels, &x->labels_cap, labels.n,
                                sizeof(*x->labels), err);
    if (rc) return rc;
    x->pairs.n = n_shared;
    for (size_t i = n_shared; !rc && i < labels.n; i++) {
        uint32_t pair;
        rc = symbols_add(&x->symbols, labels.items[i].name, labels.items[i].value, &pair, err);
        if (!rc) rc = pair_list_push(&x->pairs, pair, err);
        if (!rc)
            x->labels[i] =
                (struct label){symbols_name(&x->symbols, pair), symbols_value(&x->symbols, pair)};
    }
    if (rc) return rc;
    x->n_labels = labels.n;
    buf_varint(&x->lists, n_shared);
    buf_varint(&x->lists, labels.n - n_shared);
    for (size_t i = n_shared; i < labels.n; i++) buf_varint(&x->lists, x->pairs.ids[i]);
    x->n_series++;
    return buf_finish(&x->lists, err);
}

/* ---- the sections ---- */

/* What the sections are made from. */
struct plan {
    struct block_index *x;
    struct page_writer *pages;
    const uint32_t *n_chunks;
    uint32_t n_kept;
    size_t page_bytes;
    size_t n_pairs, n_names; /* that are in use */
    uint32_t *order;         /* final order to number of arrival */
    uint32_t *final;         /* the other way round */
    uint32_t *name_ranks;    /* per final pair, the rank of its name */
    /* Postings: one list per pair, then one per name: list n_pairs + rank. */
    uint32_t *counts; /* per list */
    uint32_t *ids;    /* of the lists of one batch, one behind the other */
    uint64_t *fill;   /* per list of the batch: end of what is there in ids */
};

/* The label lists of the series that are kept, with final pair numbers. */
struct lists {
    const struct plan *p;
    struct reader r;
    uint32_t next; /* series as declared */
    struct pair_list pairs;
    size_t n_shared; /* of the current series, with the one kept before */
};

static void lists_init(struct lists *l, const struct plan *p)
{
    *l = (struct lists){.p = p, .r = reader_init(buf_bytes(&p->x->lists))};
    pair_list_init(&l->pairs);
}

static enum err_code lists_next(struct lists *l, struct err *err)
{
    size_t n_shared = SIZE_MAX; /* what all series up to the next kept one share */
    bool kept = false;
    while (!kept) {
        kept = l->p->n_chunks[l->next++];
        size_t shared = (size_t)reader_varint(&l->r), n_more = (size_t)reader_varint(&l->r);
        n_shared = MIN_OF(n_shared, shared);
        l->pairs.n = shared;
        for (size_t i = 0; i < n_more; i++) {
            enum err_code rc = pair_list_push(&l->pairs, l->p->final[reader_varint(&l->r)], err);
            if (rc) return rc;
        }
        ASSERT(!l->r.failed); /* our own bytes */
    }
    l->n_shared = n_shared;
    return ERR_OK;
}

/* Marks the pairs that kept series have. */
static void mark_used(const struct plan *p, uint8_t *used)
{
    struct reader r = reader_init(buf_bytes(&p->x->lists));
    struct pair_list *list = &p->x->pairs;
    for (uint32_t id = 0; id < p->x->n_series; id++) {
        list->n = (size_t)reader_varint(&r);
        size_t n_more = (size_t)reader_varint(&r);
        /* The longest series had room in this list before. */
        for (size_t i = 0; i < n_more; i++) list->ids[list->n++] = (uint32_t)reader_varint(&r);
        if (!p->n_chunks[id]) continue;
        for (size_t i = 0; i < list->n; i++) used[list->ids[i]] = 1;
    }
}

/* Final numbers: by name, then value, of what is in use. */
static enum err_code number_pairs(struct plan *p, struct err *err)
{
    size_t n = p->x->symbols.n_pairs;
    p->final = mem_calloc(MEM_STORAGE, n, sizeof(*p->final));
    p->name_ranks = mem_calloc(MEM_STORAGE, n, sizeof(*p->name_ranks));
    if (!p->final || !p->name_ranks) return err_set(err, ERR_NO_MEMORY, "the index of a block");
    enum err_code rc = symbols_sort(&p->x->symbols, &p->order, err);
    if (rc) return rc;
    uint8_t *used = mem_alloc(MEM_STORAGE, n);
    if (!used) return err_set(err, ERR_NO_MEMORY, "the index of a block");
    memset(used, p->n_kept == p->x->n_series, n);
    if (p->n_kept < p->x->n_series) mark_used(p, used);
    for (size_t i = 0; i < n; i++) {
        uint32_t pair = p->order[i];
        if (!used[pair]) continue;
        p->order[p->n_pairs] = pair;
        p->final[pair] = (uint32_t)p->n_pairs++;
    }
    mem_free(used);
    return ERR_OK;
}

static enum err_code write_labels(struct plan *p, struct err *err)
{
    struct lists l;
    struct buf item;
    lists_init(&l, p);
    buf_init(&item, MEM_STORAGE);
    page_writer_begin(p->pages, SECTION_LABELS, p->page_bytes);
    enum err_code rc = ERR_OK;
    for (uint32_t id = 0; !rc && id < p->n_kept; id++) {
        rc = lists_next(&l, err);
        if (rc) break;
        size_t n_shared = id % BLOCK_GROUP_SERIES ? l.n_shared : 0;
        pair_list_encode(&item, l.pairs.ids, l.pairs.n, n_shared);
        if ((id + 1) % BLOCK_GROUP_SERIES && id + 1 < p->n_kept) continue;
        rc = buf_finish(&item, err);
        if (!rc) rc = page_writer_item(p->pages, buf_bytes(&item), err);
        buf_reset(&item);
    }
    pair_list_release(&l.pairs);
    buf_release(&item);
    return rc ? rc : page_writer_end(p->pages, err);
}

static enum err_code write_values(struct plan *p, struct err *err)
{
    page_writer_begin(p->pages, SECTION_VALUES, p->page_bytes);
    for (size_t i = 0; i < p->n_pairs; i++) {
        struct str value = symbols_value(&p->x->symbols, p->order[i]);
        enum err_code rc = page_writer_item(p->pages, bytes_of(value.p, value.len), err);
        if (rc) return rc;
    }
    return page_writer_end(p->pages, err);
}

static enum err_code write_names(struct plan *p, struct err *err)
{
    const struct symbols *symbols = &p->x->symbols;
    struct buf item;
    buf_init(&item, MEM_STORAGE);
    page_writer_begin(p->pages, SECTION_NAMES, p->page_bytes);
    enum err_code rc = ERR_OK;
    for (size_t i = 0; !rc && i < p->n_pairs; i++) {
        uint32_t name_id = symbols->pairs[p->order[i]].name_id;
        if (i && name_id == symbols->pairs[p->order[i - 1]].name_id) {
            p->name_ranks[i] = (uint32_t)p->n_names - 1;
            continue;
        }
        p->name_ranks[i] = (uint32_t)p->n_names++;
        buf_reset(&item);
        buf_varint(&item, i);
        buf_text(&item, symbols->names[name_id]);
        rc = buf_finish(&item, err);
        if (!rc) rc = page_writer_item(p->pages, buf_bytes(&item), err);
    }
    buf_release(&item);
    return rc ? rc : page_writer_end(p->pages, err);
}

/* ---- postings ---- */

static enum err_code count_postings(struct plan *p, struct err *err)
{
    struct lists l;
    lists_init(&l, p);
    enum err_code rc = ERR_OK;
    for (uint32_t id = 0; !rc && id < p->n_kept; id++) {
        rc = lists_next(&l, err);
        for (size_t i = 0; !rc && i < l.pairs.n; i++) {
            p->counts[l.pairs.ids[i]]++;
            p->counts[p->n_pairs + p->name_ranks[l.pairs.ids[i]]]++;
        }
    }
    pair_list_release(&l.pairs);
    return rc;
}

static void put_posting(struct plan *p, size_t list, size_t from, size_t to, uint32_t id)
{
    if (list >= from && list < to) p->ids[p->fill[list - from]++] = id;
}

/* Fills ids with the lists [from, to). */
static enum err_code fill_batch(struct plan *p, size_t from, size_t to, struct err *err)
{
    uint64_t end = 0;
    for (size_t i = from; i < to; i++) {
        p->fill[i - from] = end;
        end += p->counts[i];
    }
    struct lists l;
    lists_init(&l, p);
    enum err_code rc = ERR_OK;
    for (uint32_t id = 0; !rc && id < p->n_kept; id++) {
        rc = lists_next(&l, err);
        for (size_t i = 0; !rc && i < l.pairs.n; i++) {
            uint32_t pair = l.pairs.ids[i];
            put_posting(p, pair, from, to, id);
            put_posting(p, p->n_pairs + p->name_ranks[pair], from, to, id);
        }
    }
    pair_list_release(&l.pairs);
    return rc;
}

static enum err_code write_batch(struct plan *p, size_t from, size_t to, struct buf *item,
                                 struct err *err)
{
    uint64_t total = 0;
    for (size_t i = from; i < to; i++) total += p->counts[i];
    p->ids = mem_calloc(MEM_STORAGE, total, sizeof(*p->ids));
    p->fill = mem_calloc(MEM_STORAGE, to - from, sizeof(*p->fill));
    enum err_code rc = ERR_OK;
    if (!p->ids || !p->fill) rc = err_set(err, ERR_NO_MEMORY, "postings of %" PRIu64, total);
    if (!rc) rc = fill_batch(p, from, to, err);
    for (size_t i = from; !rc && i < to; i++) {
        buf_reset(item);
        postings_encode(item, p->ids + (p->fill[i - from] - p->counts[i]), p->counts[i]);
        rc = buf_finish(item, err);
        if (!rc) rc = page_writer_item(p->pages, buf_bytes(item), err);
    }
    mem_free(p->ids);
    mem_free(p->fill);
    p->ids = NULL;
    p->fill = NULL;
    return rc;
}

static enum err_code write_postings(struct plan *p, struct err *err)
{
    struct buf item;
    buf_init(&item, MEM_STORAGE);
    page_writer_begin(p->pages, SECTION_POSTINGS, p->page_bytes);
    size_t n_lists = p->n_pairs + p->n_names;
    p->counts = mem_calloc(MEM_STORAGE, n_lists, sizeof(*p->counts));
    enum err_code rc =
        p->counts ? count_postings(p, err) : err_set(err, ERR_NO_MEMORY, "%zu postings", n_lists);
    for (size_t from = 0, to; !rc && from < n_lists; from = to) {
        uint64_t total = p->counts[from];
        for (to = from + 1; to < n_lists && total + p->counts[to] <= POSTINGS_BATCH; to++)
            total += p->counts[to];
        rc = write_batch(p, from, to, &item, err);
    }
    mem_free(p->counts);
    buf_release(&item);
    return rc ? rc : page_writer_end(p->pages, err);
}

enum err_code block_index_write(struct block_index *x, struct page_writer *pages,
                                const uint32_t *n_chunks, uint32_t n_kept, size_t page_bytes,
                                struct err *err)
{
    struct plan p = {
        .x = x, .pages = pages, .n_chunks = n_chunks, .n_kept = n_kept, .page_bytes = page_bytes};
    enum err_code rc = number_pairs(&p, err);
    if (!rc) rc = write_labels(&p, err);
    if (!rc) rc = write_values(&p, err);
    if (!rc) rc = write_names(&p, err);
    if (!rc) rc = write_postings(&p, err);
    mem_free(p.order);
    mem_free(p.final);
    mem_free(p.name_ranks);
    return rc;
}
