/* storage/block_writer.c: samples become chunks and go to the file as they come; what the index needs is gathered in
 * compact form and written at the end: labels in block_index.c, times in block_times.c, the rest in block_log.c. */
#include <inttypes.h>
#include <stdio.h>

#include "storage/block_index.h"
#include "storage/block_log.h"
#include "storage/block_times.h"
#include "storage/chunk_codec.h"
#include "storage/family.h"
#include "storage/times.h"
#include "storage/values.h"

#define CHUNK_PAGE_BYTES (64 << 10)
#define INDEX_PAGE_BYTES (16 << 10)
/* 1 + 128 * m samples fill the frames of a column of differences. Longer chunks are smaller, shorter ones are quicker
 * to read in part: 513 are a little more than two hours of scrapes every 15 s. */
#define CHUNK_SAMPLES_FAST 513
#define CHUNK_SAMPLES_SMALL 1025
#define CHUNK_BYTES ((size_t)4 << 20) /* of histograms: a page of a block holds 64 MiB at most */
/* Times of their own cost a chunk about a byte a sample; for as long as this many are shared it is cut instead. */
#define CUT_SAMPLES_MIN 64
#define TIMES_BYTES_MAX ((size_t)16 << 20) /* of columns; past it chunks keep their own times */

struct series_state {
    uint32_t column; /* at whose very end its times stop so far, or NO_COLUMN */
    struct values_hint hint;
};

struct block_writer {
    struct io *io;
    struct file *file;
    bool published;
    char path[IO_PATH_BYTES];
    struct block_info info;
    struct page_writer pages;
    struct block_index index;
    struct block_times times;
    struct block_log log;
    enum effort effort;
    size_t chunk_samples;
    struct series_state *series; /* as declared */
    size_t series_cap;
    uint64_t n_items;   /* in the section of chunks */
    struct buf scratch; /* a chunk, or those of a family one behind the other */
    struct buf family;
    int64_t *t_scratch; /* times of a chunk that is taken apart */
    size_t t_scratch_cap;
};

/* ---- open, close ---- */

static enum page_effort page_effort(uint32_t level)
{
    if (level < 2) return PAGE_EFFORT_LZ4;
    return level == 2 ? PAGE_EFFORT_LZ4_HC : PAGE_EFFORT_ZSTD;
}

static void init_state(struct block_writer *w, const struct env *env, const struct block_info *info)
{
    w->io = env->io;
    w->info = (struct block_info){.ulid = info->ulid,
                                  .incarnation = info->incarnation,
                                  .sequence = info->sequence,
                                  .level = info->level,
                                  .created_ms = info->created_ms,
                                  .t_min_ms = INT64_MAX,
                                  .t_max_ms = INT64_MIN};
    w->effort = info->level < 2 ? EFFORT_FAST : EFFORT_SMALL;
    w->chunk_samples = info->level < 2 ? CHUNK_SAMPLES_FAST : CHUNK_SAMPLES_SMALL;
    block_index_init(&w->index);
    block_times_init(&w->times, w->chunk_samples, TIMES_BYTES_MAX);
    block_log_init(&w->log);
    buf_init(&w->scratch, MEM_STORAGE);
    buf_init(&w->family, MEM_STORAGE);
}

enum err_code block_writer_open(const struct env *env, const char *dir,
                                const struct block_info *info, struct block_writer **out,
                                struct err *err)
{
    struct block_writer *w = mem_calloc(MEM_STORAGE, 1, sizeof(*w));
    if (!w) return err_set(err, ERR_NO_MEMORY, "a block writer");
    init_state(w, env, info);
    char name[ULID_CHARS + 8];
    snprintf(name, sizeof(name), "%s.block", info->ulid.text);
    enum err_code rc = io_path(w->path, sizeof(w->path), err, dir, name);
    if (!rc) rc = io_create_temp(env->io, w->path, &w->file, err);
    if (!rc) rc = page_writer_init(&w->pages, w->file, page_effort(info->level), err);
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
    block_index_release(&w->index);
    block_times_release(&w->times);
    block_log_release(&w->log);
    buf_release(&w->scratch);
    buf_release(&w->family);
    mem_free(w->series);
    mem_free(w->t_scratch);
    mem_free(w);
}

/* ---- series and chunks ---- */

enum err_code block_writer_series(struct block_writer *w, struct labels labels, uint32_t *id,
                                  struct err *err)
{
    *id = w->index.n_series;
    enum err_code rc = mem_grow(MEM_STORAGE, (void **)&w->series, &w->series_cap, (size_t)*id + 1,
                                sizeof(*w->series), err);
    if (!rc) rc = block_log_series(&w->log, *id, err);
    if (!rc) rc = block_index_series(&w->index, labels, err);
    if (!rc) w->series[*id] = (struct series_state){.column = NO_COLUMN};
    return rc;
}

/* The next item of chunks. */
static enum err_code put_item(struct block_writer *w, struct bytes item, uint64_t *number,
                              struct err *err)
{
    *number = w->n_items++;
    return page_writer_item(&w->pages, item, err);
}

/* A chunk that has been put belongs to a series. `place`: of its times, unless it has its own. */
static enum err_code add_ref(struct block_writer *w, uint32_t id, struct chunk_ref *ref,
                             const struct time_place *place, struct err *err)
{
    const struct chunk_meta *m = &ref->meta;
    ref->own_times = place->column == NO_COLUMN;
    ref->column = ref->own_times ? 0 : place->column;
    ref->start = ref->own_times ? 0 : place->start;
    w->series[id].column = block_times_end(&w->times, *place, m->n);
    w->info.n_chunks++;
    w->info.n_samples += m->n;
    w->info.t_min_ms = MIN_OF(w->info.t_min_ms, m->t_min_ms);
    w->info.t_max_ms = MAX_OF(w->info.t_max_ms, m->t_max_ms);
    return block_log_add(&w->log, id, ref, err);
}

static const struct time_place own_times = {NO_COLUMN, 0};

/* Splits a chunk of columns: its times go to those of the block, its values are taken over. */
static enum err_code take_apart(struct block_writer *w, uint32_t id, const struct chunk_meta *meta,
                                struct bytes *chunk, struct time_place *place, struct err *err)
{
    struct bytes times, values;
    size_t n, n_placed;
    enum err_code rc = chunk_columns_split(*chunk, &times, &values, &n, err);
    if (!rc && n != meta->n)
        rc = err_set(err, ERR_CORRUPT, "a chunk of %zu samples, not of %" PRIu32, n, meta->n);
    if (!rc)
        rc = mem_grow(MEM_STORAGE, (void **)&w->t_scratch, &w->t_scratch_cap, n,
                      sizeof(*w->t_scratch), err);
    if (!rc) rc = times_decode(times, w->t_scratch, n, err);
    if (!rc)
        rc = block_times_place(&w->times, w->t_scratch, n, SIZE_MAX, w->series[id].column, place,
                               &n_placed, err);
    if (!rc && place->column != NO_COLUMN) *chunk = values;
    return rc;
}

enum err_code block_writer_chunk(struct block_writer *w, uint32_t id, const struct chunk_meta *meta,
                                 struct bytes chunk, struct err *err)
{
    ASSERT(id < w->index.n_series);
    ASSERT(meta->n >= 1 && meta->n <= CHUNK_SAMPLES_MAX);
    ASSERT(meta->t_min_ms <= meta->t_max_ms);
    ASSERT(chunk.len > 0);
    struct chunk_ref ref = {.meta = *meta};
    struct time_place place = own_times;
    enum err_code rc = ERR_OK;
    if (chunk.p[0] == CHUNK_COLUMNS) rc = take_apart(w, id, meta, &chunk, &place, err);
    if (!rc) rc = put_item(w, chunk, &ref.item, err);
    if (!rc) rc = add_ref(w, id, &ref, &place, err);
    return rc ? err_context(err, "a chunk of %" PRIu32 " samples", meta->n) : ERR_OK;
}

/* ---- samples ---- */

/* No less than what histogram_encode makes of it. */
static size_t histogram_bytes_max(const struct histogram *h)
{
    size_t n_counts = (size_t)h->n_pos + h->n_neg,
           n_spans = (size_t)h->n_pos_spans + h->n_neg_spans;
    return 128 + n_counts * VARINT_BYTES_MAX + n_spans * 10 + h->n_bounds * sizeof(double);
}

/* How many of the samples [from, from + most) go into one chunk, by their histograms: at least one. *any: there is one
 * among them. */
static size_t histograms_length(const struct samples *s, size_t from, size_t most, bool *any)
{
    size_t bytes = 0;
    *any = false;
    for (size_t n = 0; s->h && n < most; n++) {
        if (s->h[from + n]) bytes += histogram_bytes_max(s->h[from + n]);
        if (n > 0 && bytes > CHUNK_BYTES) return n;
        *any |= s->h[from + n] != NULL;
    }
    return most;
}

/* Length of the run of one value that v begins with. */
static size_t constant_length(const double *v, size_t n)
{
    size_t i = 1;
    /* By bits: -0 is not 0, and a NaN is like itself. */
    while (i < n && double_bits(v[i]) == double_bits(v[0])) i++;
    return i;
}

/* Runs of start times of [from, from + n), if one is known. */
static bool put_starts(struct buf *out, const struct samples *s, size_t from, size_t n)
{
    bool any = false;
    for (size_t i = from; s->st_ms && i < from + n; i++) any |= s->st_ms[i] != 0;
    if (!any) return false;
    uint64_t before = 0;
    for (size_t i = from, run; i < from + n; i += run) {
        run = 1;
        while (i + run < from + n && s->st_ms[i + run] == s->st_ms[i]) run++;
        buf_varint(out, run - 1);
        buf_zigzag(out, (int64_t)((uint64_t)s->st_ms[i] - before));
        before = (uint64_t)s->st_ms[i];
    }
    return true;
}

/* A chunk with its own times. */
static enum err_code write_own(struct block_writer *w, uint32_t id, const struct samples *s,
                               size_t from, size_t n, struct err *err)
{
    struct chunk_ref ref = {0};
    buf_reset(&w->scratch);
    ref.has_starts = put_starts(&w->scratch, s, from, n);
    enum err_code rc = chunk_encode(s, from, n, &w->scratch, &ref.meta, err);
    if (!rc) rc = put_item(w, buf_bytes(&w->scratch), &ref.item, err);
    return rc ? rc : add_ref(w, id, &ref, &own_times, err);
}

/* Finds times for the next chunk of a series: *n, at most what it was, of them. */
static enum err_code place_times(struct block_writer *w, uint32_t id, const int64_t *t_ms,
                                 size_t *n, struct time_place *place, struct err *err)
{
    enum err_code rc = block_times_place(&w->times, t_ms, *n, CUT_SAMPLES_MIN, w->series[id].column,
                                         place, n, err);
    if (rc || place->column == NO_COLUMN || *n > w->chunk_samples) return rc;
    /* A chunk that ends where a column does needs only this one to be read, and so do all after it. */
    size_t left = block_times_left(&w->times, *place);
    if (left >= w->chunk_samples / 4) *n = MIN_OF(*n, left);
    return ERR_OK;
}

/* The first *n samples from `from` on, which are floats, or fewer of them. */
static enum err_code write_floats(struct block_writer *w, uint32_t id, const struct samples *s,
                                  size_t from, size_t *n, struct err *err)
{
    struct time_place place;
    enum err_code rc = place_times(w, id, s->t_ms + from, n, &place, err);
    if (rc) return rc;
    if (place.column == NO_COLUMN) return write_own(w, id, s, from, *n, err);
    struct chunk_ref ref = {0};
    buf_reset(&w->scratch);
    ref.has_starts = put_starts(&w->scratch, s, from, *n);
    values_encode(&w->scratch, s->v + from, *n, w->effort, &w->series[id].hint);
    chunk_meta_make(s, from, *n, &ref.meta);
    rc = buf_finish(&w->scratch, err);
    if (!rc) rc = put_item(w, buf_bytes(&w->scratch), &ref.item, err);
    return rc ? rc : add_ref(w, id, &ref, &place, err);
}

enum err_code block_writer_samples(struct block_writer *w, uint32_t id, const struct samples *s,
                                   size_t from, size_t n, struct err *err)
{
    ASSERT(id < w->index.n_series);
    ASSERT(n >= 1);
    enum err_code rc = ERR_OK;
    for (size_t end = from + n, len; !rc && from < end; from += len) {
        bool any;
        len = histograms_length(s, from, MIN_OF(end - from, w->chunk_samples), &any);
        if (any) {
            rc = write_own(w, id, s, from, len, err);
            continue;
        }
        if (!s->h) {
            size_t constant =
                constant_length(s->v + from, MIN_OF(end - from, (size_t)CHUNK_SAMPLES_MAX));
            len = MAX_OF(len, constant);
        }
        rc = write_floats(w, id, s, from, &len, err);
    }
    return rc ? err_context(err, "samples of series %" PRIu32 " of a block", id) : ERR_OK;
}

/* ---- families ---- */

/* A piece of a family, of at most one chunk each. */
struct piece {
    const struct block_family *f;
    size_t from, n;
    struct time_place place;
    size_t ends[FAMILY_MEMBERS_MAX]; /* of the members' single chunks in scratch */
    bool count_inside;               /* _count is the last member's values */
};

static void column_meta(const struct block_family *f, const double *v, size_t from, size_t n,
                        struct chunk_meta *meta)
{
    /* Only read. */
    const struct samples s = {.t_ms = (int64_t *)f->t_ms, .v = (double *)v, .n = f->n};
    chunk_meta_make(&s, from, n, meta);
}

static enum err_code write_column(struct block_writer *w, uint32_t id, const int64_t *t_ms,
                                  const double *v, size_t n, struct err *err)
{
    /* Only read. */
    const struct samples s = {.t_ms = (int64_t *)t_ms, .v = (double *)v, .n = n};
    return block_writer_samples(w, id, &s, 0, n, err);
}

/* The members' single chunks into scratch. */
static void encode_singles(struct block_writer *w, struct piece *p)
{
    buf_reset(&w->scratch);
    for (size_t i = 0; i < p->f->n_members; i++) {
        values_encode(&w->scratch, p->f->v[i] + p->from, p->n, w->effort,
                      &w->series[p->f->ids[i]].hint);
        p->ends[i] = w->scratch.len;
    }
}

static enum err_code write_singles(struct block_writer *w, const struct piece *p, struct err *err)
{
    size_t at = 0;
    enum err_code rc = buf_finish(&w->scratch, err);
    for (size_t i = 0; !rc && i < p->f->n_members; at = p->ends[i++]) {
        struct chunk_ref ref = {0};
        column_meta(p->f, p->f->v[i], p->from, p->n, &ref.meta);
        rc = put_item(w, bytes_of(w->scratch.p + at, p->ends[i] - at), &ref.item, err);
        if (!rc) rc = add_ref(w, p->f->ids[i], &ref, &p->place, err);
    }
    return rc;
}

static enum err_code write_together(struct block_writer *w, const struct piece *p, struct err *err)
{
    struct chunk_ref ref = {.family = true};
    enum err_code rc = put_item(w, buf_bytes(&w->family), &ref.item, err);
    for (size_t i = 0; !rc && i < p->f->n_members; i++) {
        ref.member = (uint8_t)i;
        column_meta(p->f, p->f->v[i], p->from, p->n, &ref.meta);
        rc = add_ref(w, p->f->ids[i], &ref, &p->place, err);
    }
    if (rc || !p->count_inside) return rc;
    ref.member = FAMILY_COUNT; /* its statistics are those of the last member */
    return add_ref(w, p->f->count_id, &ref, &p->place, err);
}

/* Members that do nothing are a few bytes each by themselves, less than in a family. */
static bool mostly_constant(const struct piece *p)
{
    size_t n = 0;
    for (size_t i = 0; i < p->f->n_members; i++)
        n += constant_length(p->f->v[i] + p->from, p->n) == p->n;
    return n > p->f->n_members / 2;
}

/* Into w->family; false when single chunks are to be written. */
static bool encode_together(struct block_writer *w, const struct piece *p, size_t single_bytes,
                            struct err *err, enum err_code *rc)
{
    const double *v[FAMILY_MEMBERS_MAX];
    for (size_t i = 0; i < p->f->n_members; i++) v[i] = p->f->v[i] + p->from;
    struct family_input in = {.v = v,
                              .n_members = p->f->n_members,
                              .n = p->n,
                              .count = p->count_inside ? p->f->count + p->from : NULL};
    buf_reset(&w->family);
    bool ok = family_encode(&w->family, &in, w->effort, single_bytes);
    *rc = buf_finish(&w->family, err);
    return ok;
}

static enum err_code write_count(struct block_writer *w, const struct piece *p, struct err *err)
{
    struct chunk_ref ref = {0};
    buf_reset(&w->scratch);
    values_encode(&w->scratch, p->f->count + p->from, p->n, w->effort,
                  &w->series[p->f->count_id].hint);
    column_meta(p->f, p->f->count, p->from, p->n, &ref.meta);
    enum err_code rc = buf_finish(&w->scratch, err);
    if (!rc) rc = put_item(w, buf_bytes(&w->scratch), &ref.item, err);
    return rc ? rc : add_ref(w, p->f->count_id, &ref, &p->place, err);
}

static enum err_code write_piece(struct block_writer *w, struct piece *p, struct err *err)
{
    const struct block_family *f = p->f;
    bool has_count = f->count_id != BLOCK_NO_SERIES;
    p->count_inside = has_count && memcmp(f->count + p->from, f->v[f->n_members - 1] + p->from,
                                          p->n * sizeof(double)) == 0;
    bool singles_known = w->effort == EFFORT_SMALL || mostly_constant(p);
    if (singles_known) encode_singles(w, p);
    enum err_code rc;
    bool together = encode_together(w, p, singles_known ? w->scratch.len : 0, err, &rc);
    if (rc) return rc;
    if (together) {
        rc = write_together(w, p, err);
    } else {
        if (!singles_known) encode_singles(w, p);
        rc = write_singles(w, p, err);
    }
    return rc || !has_count || (together && p->count_inside) ? rc : write_count(w, p, err);
}

/* Series by series: those that never change, so that each takes one chunk however long; and without room for times. */
static enum err_code write_columns(struct block_writer *w, const struct block_family *f,
                                   size_t from, struct err *err)
{
    enum err_code rc = ERR_OK;
    for (size_t i = 0; !rc && i < f->n_members; i++)
        rc = write_column(w, f->ids[i], f->t_ms + from, f->v[i] + from, f->n - from, err);
    if (!rc && f->count_id != BLOCK_NO_SERIES)
        rc = write_column(w, f->count_id, f->t_ms + from, f->count + from, f->n - from, err);
    return rc;
}

static bool all_constant(const struct block_family *f)
{
    for (size_t i = f->n_members; i-- > 0;) /* the last one is the busiest */
        if (constant_length(f->v[i], f->n) < f->n) return false;
    return true;
}

enum err_code block_writer_family(struct block_writer *w, const struct block_family *f,
                                  struct err *err)
{
    ASSERT(f->n_members >= FAMILY_MEMBERS_MIN && f->n_members <= FAMILY_MEMBERS_MAX);
    if (all_constant(f)) return write_columns(w, f, 0, err);
    struct piece p = {.f = f};
    enum err_code rc = ERR_OK;
    for (; !rc && p.from < f->n; p.from += p.n) {
        p.n = MIN_OF(f->n - p.from, w->chunk_samples);
        rc = place_times(w, f->ids[0], f->t_ms + p.from, &p.n, &p.place, err);
        if (!rc && p.place.column == NO_COLUMN) return write_columns(w, f, p.from, err);
        if (!rc) rc = write_piece(w, &p, err);
    }
    return rc ? err_context(err, "a family of series of a block") : ERR_OK;
}

/* ---- the end ---- */

static enum err_code write_index(struct block_writer *w, struct err *err)
{
    uint32_t *column_numbers = NULL, n_kept = 0;
    enum err_code rc =
        block_times_write(&w->times, &w->pages, INDEX_PAGE_BYTES, &column_numbers, err);
    if (!rc)
        rc = block_log_write(&w->log, w->index.n_series, column_numbers, &w->pages,
                             INDEX_PAGE_BYTES, &n_kept, err);
    w->info.n_series = n_kept;
    if (!rc)
        rc =
            block_index_write(&w->index, &w->pages, w->log.n_chunks, n_kept, INDEX_PAGE_BYTES, err);
    mem_free(column_numbers);
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
    enum err_code rc = page_writer_end(&w->pages, err);
    if (!rc) rc = write_index(w, err);
    if (!rc) rc = finish_file(w, err);
    if (rc) return err_context(err, "writing block %s", w->info.ulid.text);
    *info = w->info;
    return ERR_OK;
}
