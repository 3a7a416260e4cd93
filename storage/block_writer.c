/* storage/block_writer.c: chunks are gathered with their statistics until the end, when all series are known, and
 * then written series by series. */
#include <inttypes.h>
#include <stdio.h>

#include "storage/block_index.h"

#define CHUNK_PAGE_BYTES (32 << 10)
#define INDEX_PAGE_BYTES (16 << 10)
#define CHUNK_SAMPLES 240
#define CHUNK_BYTES ((size_t)4 << 20) /* of histograms: a page of a block holds 64 MiB at most */

struct pending {
    struct chunk_meta meta;
    uint64_t off; /* in chunks */
    uint32_t len, id;
};

struct block_writer {
    struct io *io;
    struct file *file;
    bool published;
    char path[IO_PATH_BYTES];
    struct block_info info;
    struct page_writer pages;
    struct block_index index;

    struct buf chunks;       /* one behind the other */
    struct pending *pending; /* in order of arrival */
    size_t n_pending, pending_cap;
    uint32_t *n_chunks; /* per series as declared */
    size_t n_chunks_cap;
    struct buf scratch;
};

/* ---- open, close ---- */

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
    block_index_init(&w->index);
    buf_init(&w->chunks, MEM_STORAGE);
    buf_init(&w->scratch, MEM_STORAGE);
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
    block_index_release(&w->index);
    buf_release(&w->chunks);
    buf_release(&w->scratch);
    mem_free(w->pending);
    mem_free(w->n_chunks);
    mem_free(w);
}

/* ---- series and chunks as they come ---- */

enum err_code block_writer_series(struct block_writer *w, struct labels labels, uint32_t *id,
                                  struct err *err)
{
    *id = w->index.n_series;
    enum err_code rc = mem_grow(MEM_STORAGE, (void **)&w->n_chunks, &w->n_chunks_cap,
                                (size_t)*id + 1, sizeof(*w->n_chunks), err);
    if (!rc) rc = block_index_series(&w->index, labels, err);
    if (!rc) w->n_chunks[*id] = 0;
    return rc;
}

enum err_code block_writer_chunk(struct block_writer *w, uint32_t id, const struct chunk_meta *meta,
                                 struct bytes chunk, struct err *err)
{
    ASSERT(id < w->index.n_series);
    ASSERT(meta->n >= 1 && meta->n <= CHUNK_SAMPLES_MAX);
    ASSERT(meta->t_min_ms <= meta->t_max_ms);
    enum err_code rc = mem_grow(MEM_STORAGE, (void **)&w->pending, &w->pending_cap,
                                w->n_pending + 1, sizeof(*w->pending), err);
    if (rc) return rc;
    w->pending[w->n_pending++] = (struct pending){*meta, w->chunks.len, (uint32_t)chunk.len, id};
    buf_put(&w->chunks, chunk.p, chunk.len);
    w->n_chunks[id]++;
    w->info.n_chunks++;
    w->info.n_samples += meta->n;
    w->info.t_min_ms = MIN_OF(w->info.t_min_ms, meta->t_min_ms);
    w->info.t_max_ms = MAX_OF(w->info.t_max_ms, meta->t_max_ms);
    return buf_finish(&w->chunks, err);
}

/* No less than what histogram_encode makes of it. */
static size_t histogram_bytes_max(const struct histogram *h)
{
    size_t n_counts = (size_t)h->n_pos + h->n_neg,
           n_spans = (size_t)h->n_pos_spans + h->n_neg_spans;
    return 128 + n_counts * VARINT_BYTES_MAX + n_spans * 10 + h->n_bounds * sizeof(double);
}

/* How many of the samples [from, end) go into one chunk: at least one. */
static size_t chunk_length(const struct samples *s, size_t from, size_t end)
{
    size_t most = MIN_OF(end - from, (size_t)CHUNK_SAMPLES), bytes = 0;
    for (size_t n = 0; s->h && n < most; n++) {
        if (s->h[from + n]) bytes += histogram_bytes_max(s->h[from + n]);
        if (n > 0 && bytes > CHUNK_BYTES) return n;
    }
    return most;
}

enum err_code block_writer_samples(struct block_writer *w, uint32_t id, const struct samples *s,
                                   size_t from, size_t n, struct err *err)
{
    ASSERT(n >= 1);
    enum err_code rc = ERR_OK;
    for (size_t end = from + n, len; !rc && from < end; from += len) {
        struct chunk_meta meta;
        len = chunk_length(s, from, end);
        buf_reset(&w->scratch);
        rc = chunk_encode(s, from, len, &w->scratch, &meta, err);
        if (!rc) rc = block_writer_chunk(w, id, &meta, buf_bytes(&w->scratch), err);
    }
    return rc;
}

static enum err_code write_column(struct block_writer *w, uint32_t id, const int64_t *t_ms,
                                  const double *v, size_t n, struct err *err)
{
    /* Only read. */
    const struct samples s = {.t_ms = (int64_t *)t_ms, .v = (double *)v, .n = n};
    return block_writer_samples(w, id, &s, 0, n, err);
}

enum err_code block_writer_family(struct block_writer *w, const struct block_family *f,
                                  struct err *err)
{
    enum err_code rc = ERR_OK;
    for (size_t i = 0; !rc && i < f->n_members; i++)
        rc = write_column(w, f->ids[i], f->t_ms, f->v[i], f->n, err);
    if (!rc && f->count_id != BLOCK_NO_SERIES)
        rc = write_column(w, f->count_id, f->t_ms, f->count, f->n, err);
    return rc;
}

/* ---- the end ---- */

/* Indexes of `pending`, by series; a series' chunks as they came. */
static enum err_code order_chunks(struct block_writer *w, uint32_t **order, struct err *err)
{
    uint32_t n_series = w->index.n_series;
    uint32_t *next = mem_calloc(MEM_STORAGE, n_series, sizeof(*next));
    *order = mem_calloc(MEM_STORAGE, w->n_pending, sizeof(**order));
    enum err_code rc = ERR_OK;
    if (!next || !*order) rc = err_set(err, ERR_NO_MEMORY, "the order of chunks");
    for (uint32_t id = 1; !rc && id < n_series; id++) next[id] = next[id - 1] + w->n_chunks[id - 1];
    for (size_t i = 0; !rc && i < w->n_pending; i++)
        (*order)[next[w->pending[i].id]++] = (uint32_t)i;
    mem_free(next);
    return rc;
}

static enum err_code write_chunks(struct block_writer *w, const uint32_t *order, struct err *err)
{
    page_writer_begin(&w->pages, SECTION_CHUNKS, CHUNK_PAGE_BYTES);
    for (size_t i = 0; i < w->n_pending; i++) {
        const struct pending *p = &w->pending[order[i]];
        enum err_code rc = page_writer_item(&w->pages, bytes_of(w->chunks.p + p->off, p->len), err);
        if (rc) return err_context(err, "a chunk of %" PRIu32 " samples", p->meta.n);
    }
    return page_writer_end(&w->pages, err);
}

/* Appends the list of one series' chunks. */
static void put_refs(struct block_writer *w, const uint32_t *order, uint32_t n, int64_t before_ms,
                     struct buf *group, struct buf *metas)
{
    metas->len = 0; /* buf_reset() would forget that memory was out */
    for (uint32_t i = 0; i < n; i++) {
        const struct chunk_meta *meta = &w->pending[order[i]].meta;
        if (i) ASSERT(meta->t_min_ms > before_ms);
        meta_encode(metas, meta, before_ms);
        before_ms = meta->t_max_ms;
    }
    buf_varint(group, n);
    buf_varint(group, metas->len);
    buf_put(group, metas->p, metas->len);
}

static enum err_code write_refs(struct block_writer *w, const uint32_t *order, struct err *err)
{
    struct buf group, metas;
    buf_init(&group, MEM_STORAGE);
    buf_init(&metas, MEM_STORAGE);
    page_writer_begin(&w->pages, SECTION_REFS, INDEX_PAGE_BYTES);
    enum err_code rc = ERR_OK;
    int64_t base_ms = 0;
    uint64_t chunk = 0, n_kept = 0;
    for (uint32_t id = 0; !rc && id < w->index.n_series; id++) {
        if (!w->n_chunks[id]) continue;
        if (n_kept++ % BLOCK_GROUP_SERIES == 0) {
            base_ms = w->pending[order[chunk]].meta.t_min_ms;
            buf_varint(&group, chunk);
            buf_zigzag(&group, base_ms);
        }
        put_refs(w, order + chunk, w->n_chunks[id], base_ms, &group, &metas);
        chunk += w->n_chunks[id];
        if (n_kept % BLOCK_GROUP_SERIES && chunk < w->n_pending) continue;
        rc = buf_finish(&metas, err);
        if (!rc) rc = buf_finish(&group, err);
        if (!rc) rc = page_writer_item(&w->pages, buf_bytes(&group), err);
        buf_reset(&group);
    }
    buf_release(&group);
    buf_release(&metas);
    w->info.n_series = n_kept;
    return rc ? rc : page_writer_end(&w->pages, err);
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
    uint32_t *order = NULL;
    enum err_code rc = order_chunks(w, &order, err);
    if (!rc) rc = write_chunks(w, order, err);
    if (!rc) rc = write_refs(w, order, err);
    if (!rc)
        rc = block_index_write(&w->index, &w->pages, w->n_chunks, (uint32_t)w->info.n_series,
                               INDEX_PAGE_BYTES, err);
    if (!rc) rc = finish_file(w, err);
    mem_free(order);
    if (rc) return err_context(err, "writing block %s", w->info.ulid.text);
    *info = w->info;
    return ERR_OK;
}
