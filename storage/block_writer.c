/* storage/block_writer.c: chunks go to the file as they come; the index is gathered in compact form (some 15 bytes
 * a series for chunks, 5-10 for labels) and written at the end, when all label pairs are known and have numbers.
 * Postings are made in passes over the label lists, so that they never take more than a few MiB. */
#include <inttypes.h>
#include <stdio.h>

#include "storage/block_layout.h"
#include "storage/postings.h"
#include "storage/symbols.h"

#define CHUNK_PAGE_BYTES (32 << 10)
#define INDEX_PAGE_BYTES (16 << 10)
#define POSTINGS_BATCH (1 << 20) /* numbers held at once, unless one list is longer */

struct block_writer {
    struct io *io;
    struct file *file;
    bool published;
    char path[IO_PATH_BYTES];
    struct block_info info;
    struct page_writer pages;

    struct symbols symbols;
    struct pair_list pairs; /* of the current series, as numbered by symbols */
    struct label *labels;   /* of the current series, texts in symbols; sorted */
    size_t n_labels, labels_cap;
    struct buf label_lists; /* per series: varint shared, varint more, varint pair each */

    struct buf group;         /* the refs item that is growing */
    struct buf metas;         /* of the current series */
    uint32_t n_series_chunks; /* of the current series */
    int64_t last_t_max_ms;    /* of its last chunk */
    int64_t group_base_ms;
    struct buf refs;     /* finished items of refs, one behind the other */
    struct buf ref_ends; /* u64 each */
};

/* ---- open, close ---- */

static void init_memory(struct block_writer *w)
{
    symbols_init(&w->symbols);
    pair_list_init(&w->pairs);
    struct buf *bufs[] = {&w->label_lists, &w->group, &w->metas, &w->refs, &w->ref_ends};
    for (size_t i = 0; i < COUNT_OF(bufs); i++) buf_init(bufs[i], MEM_STORAGE);
}

enum err_code block_writer_open(const struct env *env, const char *dir,
                                const struct block_info *info, struct block_writer **out,
                                struct err *err)
{
    struct block_writer *w = mem_calloc(MEM_STORAGE, 1, sizeof(*w));
    if (!w) return err_set(err, ERR_NO_MEMORY, "a block writer");
    w->io = env->io;
    w->info = (struct block_info){.ulid = info->ulid,
                                  .incarnation = info->incarnation,
                                  .sequence = info->sequence,
                                  .level = info->level,
                                  .created_ms = info->created_ms,
                                  .t_min_ms = INT64_MAX,
                                  .t_max_ms = INT64_MIN};
    init_memory(w);
    char name[ULID_CHARS + 8];
    snprintf(name, sizeof(name), "%s.block", info->ulid.text);
    enum err_code rc = io_path(w->path, sizeof(w->path), err, dir, name);
    if (!rc) rc = io_create_temp(env->io, w->path, &w->file, err);
    if (!rc) rc = page_writer_init(&w->pages, w->file, err);
    if (rc) {
        err_context(err, "writing block %s", info->ulid.text);
        block_writer_close(w);
        return rc;
    }
    page_writer_begin(&w->pages, SECTION_CHUNKS, CHUNK_PAGE_BYTES);
    *out = w;
    return ERR_OK;
}

void block_writer_close(struct block_writer *w)
{
    if (!w) return;
    if (w->published)
        file_close(w->file);
    else if (w->file)
        io_discard(w->io, w->file);
    page_writer_release(&w->pages);
    symbols_release(&w->symbols);
    pair_list_release(&w->pairs);
    struct buf *bufs[] = {&w->label_lists, &w->group, &w->metas, &w->refs, &w->ref_ends};
    for (size_t i = 0; i < COUNT_OF(bufs); i++) buf_release(bufs[i]);
    mem_free(w->labels);
    mem_free(w);
}

/* ---- series and chunks as they come ---- */

static void end_group(struct block_writer *w)
{
    if (w->group.len == 0) return;
    buf_put(&w->refs, w->group.p, w->group.len);
    buf_u64(&w->ref_ends, w->refs.len);
    buf_reset(&w->group);
}

/* Appends the current series' chunks to its group. */
static void end_series(struct block_writer *w)
{
    if (w->info.n_series == 0) return;
    ASSERT(w->n_series_chunks > 0);
    buf_varint(&w->group, w->n_series_chunks);
    buf_varint(&w->group, w->metas.len);
    buf_put(&w->group, w->metas.p, w->metas.len);
    buf_reset(&w->metas);
    if (w->info.n_series % BLOCK_GROUP_SERIES == 0) end_group(w);
}

static enum err_code memory_state(struct block_writer *w, struct err *err)
{
    const struct buf *bufs[] = {&w->label_lists, &w->group, &w->metas, &w->refs, &w->ref_ends};
    for (size_t i = 0; i < COUNT_OF(bufs); i++) {
        enum err_code rc = buf_finish(bufs[i], err);
        if (rc) return rc;
    }
    return ERR_OK;
}

/* How many of the first labels are those of the series before. Also: the order of series. */
static size_t count_shared(const struct block_writer *w, struct labels labels)
{
    size_t n = 0;
    while (n < labels.n && n < w->n_labels && str_eq(labels.items[n].name, w->labels[n].name) &&
           str_eq(labels.items[n].value, w->labels[n].value))
        n++;
    if (w->info.n_series) ASSERT(labels_cmp((struct labels){w->labels, w->n_labels}, labels) < 0);
    return n;
}

enum err_code block_writer_series(struct block_writer *w, struct labels labels, struct err *err)
{
    size_t n_shared = count_shared(w, labels);
    if (w->info.n_series == UINT32_MAX)
        return err_set(err, ERR_LIMIT, "too many series for one block");
    end_series(w);
    enum err_code rc = mem_grow(MEM_STORAGE, (void **)&w->labels, &w->labels_cap, labels.n,
                                sizeof(*w->labels), err);
    if (rc) return rc;
    w->pairs.n = n_shared;
    for (size_t i = n_shared; !rc && i < labels.n; i++) {
        uint32_t pair;
        rc = symbols_add(&w->symbols, labels.items[i].name, labels.items[i].value, &pair, err);
        if (!rc) rc = pair_list_push(&w->pairs, pair, err);
        if (!rc)
            w->labels[i] =
                (struct label){symbols_name(&w->symbols, pair), symbols_value(&w->symbols, pair)};
    }
    if (rc) return rc;
    w->n_labels = labels.n;
    buf_varint(&w->label_lists, n_shared);
    buf_varint(&w->label_lists, labels.n - n_shared);
    for (size_t i = n_shared; i < labels.n; i++) buf_varint(&w->label_lists, w->pairs.ids[i]);
    w->info.n_series++;
    w->n_series_chunks = 0;
    return memory_state(w, err);
}

enum err_code block_writer_chunk(struct block_writer *w, const struct chunk_meta *meta,
                                 struct bytes chunk, struct err *err)
{
    ASSERT(w->info.n_series > 0);
    ASSERT(meta->n >= 1 && meta->n <= CHUNK_SAMPLES_MAX);
    ASSERT(meta->t_min_ms <= meta->t_max_ms);
    if (w->n_series_chunks) ASSERT(meta->t_min_ms > w->last_t_max_ms);
    if (w->group.len == 0 && w->n_series_chunks == 0) {
        buf_varint(&w->group, w->info.n_chunks);
        buf_zigzag(&w->group, meta->t_min_ms);
        w->group_base_ms = meta->t_min_ms;
    }
    meta_encode(&w->metas, meta, w->n_series_chunks ? w->last_t_max_ms : w->group_base_ms);
    enum err_code rc = page_writer_item(&w->pages, chunk, err);
    if (rc) return err_context(err, "a chunk of %" PRIu32 " samples", meta->n);
    w->n_series_chunks++;
    w->last_t_max_ms = meta->t_max_ms;
    w->info.n_chunks++;
    w->info.n_samples += meta->n;
    w->info.t_min_ms = MIN_OF(w->info.t_min_ms, meta->t_min_ms);
    w->info.t_max_ms = MAX_OF(w->info.t_max_ms, meta->t_max_ms);
    return memory_state(w, err);
}

/* ---- the index ---- */

static enum err_code write_refs(struct block_writer *w, struct err *err)
{
    page_writer_begin(&w->pages, SECTION_REFS, INDEX_PAGE_BYTES);
    uint64_t from = 0;
    for (size_t i = 0; i < w->ref_ends.len; i += 8) {
        uint64_t to = get_u64_le(w->ref_ends.p + i);
        enum err_code rc = page_writer_item(&w->pages, bytes_of(w->refs.p + from, to - from), err);
        if (rc) return rc;
        from = to;
    }
    return page_writer_end(&w->pages, err);
}

/* The label lists, series by series, with final pair numbers. */
struct lists {
    struct reader r;
    const uint32_t *final; /* by number of arrival */
    struct pair_list pairs;
    size_t n_shared; /* of the current series, with the one before */
};

static void lists_init(struct lists *l, const struct block_writer *w, const uint32_t *final)
{
    l->r = reader_init(buf_bytes(&w->label_lists));
    l->final = final;
    pair_list_init(&l->pairs);
}

static enum err_code lists_next(struct lists *l, struct err *err)
{
    l->n_shared = (size_t)reader_varint(&l->r);
    size_t n_more = (size_t)reader_varint(&l->r);
    l->pairs.n = l->n_shared;
    for (size_t i = 0; i < n_more; i++) {
        enum err_code rc = pair_list_push(&l->pairs, l->final[reader_varint(&l->r)], err);
        if (rc) return rc;
    }
    ASSERT(!l->r.failed); /* our own bytes */
    return ERR_OK;
}

static enum err_code write_labels(struct block_writer *w, const uint32_t *final, struct err *err)
{
    struct lists l;
    struct buf item;
    lists_init(&l, w, final);
    buf_init(&item, MEM_STORAGE);
    page_writer_begin(&w->pages, SECTION_LABELS, INDEX_PAGE_BYTES);
    enum err_code rc = ERR_OK;
    for (uint64_t id = 0; !rc && id < w->info.n_series; id++) {
        rc = lists_next(&l, err);
        if (rc) break;
        size_t n_shared = id % BLOCK_GROUP_SERIES ? l.n_shared : 0;
        pair_list_encode(&item, l.pairs.ids, l.pairs.n, n_shared);
        if ((id + 1) % BLOCK_GROUP_SERIES && id + 1 < w->info.n_series) continue;
        rc = buf_finish(&item, err);
        if (!rc) rc = page_writer_item(&w->pages, buf_bytes(&item), err);
        buf_reset(&item);
    }
    pair_list_release(&l.pairs);
    buf_release(&item);
    return rc ? rc : page_writer_end(&w->pages, err);
}

static enum err_code write_values(struct block_writer *w, const uint32_t *order, struct err *err)
{
    page_writer_begin(&w->pages, SECTION_VALUES, INDEX_PAGE_BYTES);
    for (size_t i = 0; i < w->symbols.n_pairs; i++) {
        struct str value = symbols_value(&w->symbols, order[i]);
        enum err_code rc = page_writer_item(&w->pages, bytes_of(value.p, value.len), err);
        if (rc) return rc;
    }
    return page_writer_end(&w->pages, err);
}

/* name_ranks: per final pair, the rank of its name. */
static enum err_code write_names(struct block_writer *w, const uint32_t *order,
                                 uint32_t *name_ranks, struct err *err)
{
    struct buf item;
    buf_init(&item, MEM_STORAGE);
    page_writer_begin(&w->pages, SECTION_NAMES, INDEX_PAGE_BYTES);
    enum err_code rc = ERR_OK;
    uint32_t rank = 0;
    for (size_t i = 0; !rc && i < w->symbols.n_pairs; i++) {
        uint32_t name_id = w->symbols.pairs[order[i]].name_id;
        if (i && name_id == w->symbols.pairs[order[i - 1]].name_id) {
            name_ranks[i] = rank - 1;
            continue;
        }
        name_ranks[i] = rank++;
        buf_reset(&item);
        buf_varint(&item, i);
        buf_text(&item, w->symbols.names[name_id]);
        rc = buf_finish(&item, err);
        if (!rc) rc = page_writer_item(&w->pages, buf_bytes(&item), err);
    }
    buf_release(&item);
    return rc ? rc : page_writer_end(&w->pages, err);
}

/* One list of postings per pair, then one per name: list n_pairs + rank. */
struct postings_plan {
    const uint32_t *final, *name_ranks;
    size_t n_pairs, n_lists;
    uint32_t *counts; /* per list */
    uint32_t *ids;    /* of the lists of one batch, one behind the other */
    uint64_t *fill;   /* per list of the batch: end of what is there in ids */
};

static enum err_code count_postings(struct block_writer *w, struct postings_plan *p,
                                    struct err *err)
{
    struct lists l;
    lists_init(&l, w, p->final);
    enum err_code rc = ERR_OK;
    for (uint64_t id = 0; !rc && id < w->info.n_series; id++) {
        rc = lists_next(&l, err);
        for (size_t i = 0; !rc && i < l.pairs.n; i++) {
            p->counts[l.pairs.ids[i]]++;
            p->counts[p->n_pairs + p->name_ranks[l.pairs.ids[i]]]++;
        }
    }
    pair_list_release(&l.pairs);
    return rc;
}

static void put_posting(struct postings_plan *p, size_t list, size_t from, size_t to, uint32_t id)
{
    if (list >= from && list < to) p->ids[p->fill[list - from]++] = id;
}

/* Fills ids with the lists [from, to). */
static enum err_code fill_batch(struct block_writer *w, struct postings_plan *p, size_t from,
                                size_t to, struct err *err)
{
    uint64_t end = 0;
    for (size_t i = from; i < to; i++) {
        p->fill[i - from] = end;
        end += p->counts[i];
    }
    struct lists l;
    lists_init(&l, w, p->final);
    enum err_code rc = ERR_OK;
    for (uint32_t id = 0; !rc && id < w->info.n_series; id++) {
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

static enum err_code write_batch(struct block_writer *w, struct postings_plan *p, size_t from,
                                 size_t to, struct buf *item, struct err *err)
{
    uint64_t total = 0;
    for (size_t i = from; i < to; i++) total += p->counts[i];
    p->ids = mem_calloc(MEM_STORAGE, total, sizeof(*p->ids));
    p->fill = mem_calloc(MEM_STORAGE, to - from, sizeof(*p->fill));
    enum err_code rc = ERR_OK;
    if (!p->ids || !p->fill) rc = err_set(err, ERR_NO_MEMORY, "postings of %" PRIu64, total);
    if (!rc) rc = fill_batch(w, p, from, to, err);
    for (size_t i = from; !rc && i < to; i++) {
        buf_reset(item);
        postings_encode(item, p->ids + (p->fill[i - from] - p->counts[i]), p->counts[i]);
        rc = buf_finish(item, err);
        if (!rc) rc = page_writer_item(&w->pages, buf_bytes(item), err);
    }
    mem_free(p->ids);
    mem_free(p->fill);
    p->ids = NULL;
    p->fill = NULL;
    return rc;
}

static enum err_code write_postings(struct block_writer *w, const uint32_t *final,
                                    const uint32_t *name_ranks, struct err *err)
{
    struct postings_plan p = {.final = final,
                              .name_ranks = name_ranks,
                              .n_pairs = w->symbols.n_pairs,
                              .n_lists = w->symbols.n_pairs + w->symbols.n_names};
    struct buf item;
    buf_init(&item, MEM_STORAGE);
    page_writer_begin(&w->pages, SECTION_POSTINGS, INDEX_PAGE_BYTES);
    p.counts = mem_calloc(MEM_STORAGE, p.n_lists, sizeof(*p.counts));
    enum err_code rc = p.counts ? count_postings(w, &p, err)
                                : err_set(err, ERR_NO_MEMORY, "%zu postings", p.n_lists);
    for (size_t from = 0, to; !rc && from < p.n_lists; from = to) {
        uint64_t total = p.counts[from];
        for (to = from + 1; to < p.n_lists && total + p.counts[to] <= POSTINGS_BATCH; to++)
            total += p.counts[to];
        rc = write_batch(w, &p, from, to, &item, err);
    }
    mem_free(p.counts);
    buf_release(&item);
    return rc ? rc : page_writer_end(&w->pages, err);
}

static enum err_code write_index(struct block_writer *w, struct err *err)
{
    size_t n = w->symbols.n_pairs;
    uint32_t *order = NULL;
    uint32_t *final = mem_calloc(MEM_STORAGE, n, sizeof(*final));
    uint32_t *name_ranks = mem_calloc(MEM_STORAGE, n, sizeof(*name_ranks));
    enum err_code rc = ERR_OK;
    if (!final || !name_ranks) rc = err_set(err, ERR_NO_MEMORY, "the index of a block");
    if (!rc) rc = symbols_sort(&w->symbols, &order, err);
    for (size_t i = 0; !rc && i < n; i++) final[order[i]] = (uint32_t)i;
    if (!rc) rc = write_refs(w, err);
    if (!rc) rc = write_labels(w, final, err);
    if (!rc) rc = write_values(w, order, err);
    if (!rc) rc = write_names(w, order, name_ranks, err);
    if (!rc) rc = write_postings(w, final, name_ranks, err);
    mem_free(order);
    mem_free(final);
    mem_free(name_ranks);
    return rc;
}

static enum err_code finish_file(struct block_writer *w, struct err *err)
{
    struct buf head;
    buf_init(&head, MEM_STORAGE);
    block_head_encode(&head, &w->info);
    enum err_code rc = buf_finish(&head, err);
    if (!rc) rc = page_writer_finish(&w->pages, buf_bytes(&head), &w->info.file_bytes, err);
    buf_release(&head);
    /* Before the rename: no name may lead to bytes that a power cut can take back. */
    if (!rc) rc = file_sync(w->file, err);
    if (!rc) rc = io_publish(w->io, w->file, w->path, err);
    if (!rc) w->published = true;
    return rc;
}

enum err_code block_writer_finish(struct block_writer *w, struct block_info *info, struct err *err)
{
    ASSERT(!w->published);
    if (w->info.n_samples == 0)
        return err_set(err, ERR_INVALID, "a block without samples is not written");
    end_series(w);
    end_group(w);
    enum err_code rc = memory_state(w, err);
    if (!rc) rc = page_writer_end(&w->pages, err);
    if (!rc) rc = write_index(w, err);
    if (!rc) rc = finish_file(w, err);
    if (rc) return err_context(err, "writing block %s", w->info.ulid.text);
    *info = w->info;
    return ERR_OK;
}
