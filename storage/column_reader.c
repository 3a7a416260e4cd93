/* storage/column_reader.c: see the header. Values of all of a series' chunks are decoded one behind the other. Which times
 * they have is a list of runs, each a part of a time column; the times of a list are kept, so that the next series with
 * the same list finds them. */
#include "storage/column_reader.h"

#include <inttypes.h>

#include "storage/block_layout.h"
#include "storage/chunk_codec.h"
#include "storage/family.h"
#include "storage/times.h"

/* Times kept: 4 MiB, or what one series needs. */
#define TIMES_KEPT_MAX ((size_t)1 << 19)
#define SETS_MAX 256
#define SET_BUCKETS 128
#define RUNS_KEPT_MAX ((size_t)1 << 14)

/* Part of a time column, and of those that follow it. */
struct time_run {
    uint32_t block, column, start, n;
};

/* Times of a list of runs, less what is outside of what was asked for. */
struct time_set {
    uint64_t id, hash;
    int64_t mint_ms, maxt_ms;
    size_t runs_off, n_runs;
    size_t times_off, n;   /* all of them */
    size_t skip, n_inside; /* those asked for */
    uint32_t next;         /* in its bucket, + 1 */
};

struct block_place {
    struct block *b;
    struct page_cursor index;
    struct chunk_cursor chunks;
    struct refs_directory dir;
    uint32_t dir_group; /* + 1; 0: none is read */
};

struct end_chunk {
    uint32_t block;
    struct chunk_ref ref;
};

struct column_reader {
    struct block_place *blocks;
    size_t n_blocks;
    struct family_cache *families;
    struct family_rows *held; /* what the last answer points into */
    /* The series at hand. */
    double *v;
    size_t n, v_cap;
    const double *direct;  /* its values where they need no copy */
    struct time_run *runs; /* n_kept_runs of the sets, then those of the series */
    size_t n_runs, runs_cap, n_kept_runs;
    int64_t t_min_ms, t_max_ms;
    struct end_chunk *chunks; /* of column_reader_ends, by run */
    size_t chunks_cap;
    /* Times. */
    int64_t *times;
    size_t n_times, times_cap;
    struct time_set sets[SETS_MAX];
    uint32_t n_sets, buckets[SET_BUCKETS];
    uint64_t next_id;
};

enum err_code column_reader_new(struct block *const *blocks, size_t n_blocks,
                                struct family_cache *families, struct column_reader **out,
                                struct err *err)
{
    struct column_reader *r = mem_calloc(MEM_QUERY, 1, sizeof(*r));
    if (r) r->blocks = mem_calloc(MEM_QUERY, n_blocks, sizeof(*r->blocks));
    if (!r || !r->blocks) {
        mem_free(r);
        return err_set(err, ERR_NO_MEMORY, "no memory to read %zu blocks", n_blocks);
    }
    for (size_t i = 0; i < n_blocks; i++) r->blocks[i].b = blocks[i];
    r->n_blocks = n_blocks;
    r->families = families;
    r->next_id = 1;
    *out = r;
    return ERR_OK;
}

void column_reader_free(struct column_reader *r)
{
    if (!r) return;
    for (size_t i = 0; i < r->n_blocks; i++) {
        page_cursor_release(&r->blocks[i].index);
        chunk_cursor_release(&r->blocks[i].chunks);
    }
    family_rows_release(r->held);
    mem_free(r->blocks);
    mem_free(r->v);
    mem_free(r->runs);
    mem_free(r->chunks);
    mem_free(r->times);
    mem_free(r);
}

/* ---- the chunks of a series ---- */

static enum err_code find_refs(struct block_place *place, uint32_t id, struct chunk_refs *out,
                               struct err *err)
{
    struct block *b = place->b;
    *out = (struct chunk_refs){0};
    if (b->file.version == 1) return block_refs(b, &place->index, id, out, err);
    ASSERT(id < b->n_series);
    uint32_t group = id / BLOCK_GROUP_SERIES;
    if (place->dir_group != group + 1) {
        struct bytes item;
        uint32_t n = MIN_OF(b->n_series - group * BLOCK_GROUP_SERIES, BLOCK_GROUP_SERIES);
        place->dir_group = 0;
        enum err_code rc = page_file_item(&b->file, &place->index, SECTION_REFS, group, &item, err);
        if (rc) return rc;
        rc = refs_directory_read(item, n, &place->dir, err);
        if (rc) return page_cursor_context(&b->file, &place->index, err);
        place->dir_group = group + 1;
    }
    refs_directory_find(&place->dir, id % BLOCK_GROUP_SERIES, out);
    return ERR_OK;
}

/* The next chunk that overlaps [mint_ms, maxt_ms]; false at the end, or with *rc set. */
static bool next_chunk(struct block_place *place, struct chunk_refs *refs, int64_t mint_ms,
                       int64_t maxt_ms, struct chunk_ref *ref, enum err_code *rc, struct err *err)
{
    while (refs->n_left) {
        *rc = chunk_refs_next(refs, ref, err);
        if (*rc) {
            page_cursor_context(&place->b->file, &place->index, err);
            return false;
        }
        if (ref->meta.t_min_ms > maxt_ms) return false;
        if (ref->meta.t_max_ms >= mint_ms) return true;
    }
    return false;
}

enum err_code column_reader_overlaps(struct column_reader *r, struct column_place at,
                                     int64_t mint_ms, int64_t maxt_ms, bool *out, struct err *err)
{
    struct block_place *place = &r->blocks[at.block];
    struct chunk_refs refs;
    struct chunk_ref ref;
    *out = false;
    enum err_code rc = find_refs(place, at.id, &refs, err);
    if (!rc) *out = next_chunk(place, &refs, mint_ms, maxt_ms, &ref, &rc, err);
    return rc ? err_context(err, "chunks of series %" PRIu32, at.id) : ERR_OK;
}

enum err_code column_reader_samples(struct column_reader *r, struct column_place at,
                                    int64_t mint_ms, int64_t maxt_ms, struct samples *out,
                                    struct err *err)
{
    struct block_place *place = &r->blocks[at.block];
    struct chunk_refs refs;
    struct chunk_ref ref;
    size_t n_before = out->n;
    enum err_code rc = find_refs(place, at.id, &refs, err);
    while (!rc && next_chunk(place, &refs, mint_ms, maxt_ms, &ref, &rc, err))
        rc = block_decode_chunk(place->b, &place->chunks, &ref, mint_ms, maxt_ms, out, err);
    if (!rc) return ERR_OK;
    out->n = n_before;
    return err_context(err, "samples of series %" PRIu32, at.id);
}

/* Notes whose times the next values have. */
static enum err_code add_run(struct column_reader *r, uint32_t block, const struct chunk_ref *ref,
                             struct err *err)
{
    void *runs = r->runs;
    size_t n_runs = r->n_kept_runs + r->n_runs;
    enum err_code rc = mem_grow(MEM_QUERY, &runs, &r->runs_cap, n_runs + 1, sizeof(*r->runs), err);
    r->runs = runs;
    if (rc) return rc;
    if (!r->n_runs) r->t_min_ms = ref->meta.t_min_ms;
    r->t_max_ms = ref->meta.t_max_ms;
    r->runs[n_runs] = (struct time_run){block, ref->column, ref->start, ref->meta.n};
    r->n_runs++;
    r->n += ref->meta.n;
    return ERR_OK;
}

/* ---- values ---- */

static enum err_code reserve_values(struct column_reader *r, size_t n, struct err *err)
{
    void *v = r->v;
    enum err_code rc = mem_grow(MEM_QUERY, &v, &r->v_cap, r->n + n, sizeof(*r->v), err);
    r->v = v;
    return rc;
}

/* A member of a family. A series of one chunk needs no copy of it. */
static enum err_code append_member(struct column_reader *r, uint32_t block,
                                   const struct chunk_ref *ref, struct bytes item, bool only,
                                   struct err *err)
{
    size_t n = ref->meta.n;
    struct family_rows *rows = NULL;
    enum err_code rc = ERR_OK;
    if (r->families)
        rc = family_cache_get(r->families, (struct family_key){block, ref->item}, item, n, &rows,
                              err);
    if (rc) return rc;
    if (!rows) {
        rc = reserve_values(r, n, err);
        return rc ? rc : family_decode(item, n, ref->member, r->v + r->n, err);
    }
    family_rows_release(r->held);
    r->held = rows;
    const double *v;
    rc = family_rows_member(rows, ref->member, &v, err);
    if (rc) return rc;
    if (only) {
        r->direct = v;
        return ERR_OK;
    }
    rc = reserve_values(r, n, err);
    if (!rc) memcpy(r->v + r->n, v, n * sizeof(*v));
    return rc;
}

static enum err_code append_chunk(struct column_reader *r, uint32_t block,
                                  const struct chunk_ref *ref, bool only, struct err *err)
{
    struct block_place *place = &r->blocks[block];
    struct bytes item;
    enum err_code rc = block_chunk_item(place->b, &place->chunks, ref, &item, err);
    if (rc) return rc;
    if (ref->family) {
        rc = append_member(r, block, ref, item, only, err);
    } else {
        rc = reserve_values(r, ref->meta.n, err);
        if (!rc) rc = values_decode(item, ref->meta.n, r->v + r->n, err);
    }
    if (rc) return page_cursor_context(&place->b->file, &place->chunks.chunks, err);
    return add_run(r, block, ref, err);
}

/* *plain stays true if all went well. */
static enum err_code append_place(struct column_reader *r, struct column_place at, bool only_place,
                                  int64_t mint_ms, int64_t maxt_ms, bool *plain, struct err *err)
{
    struct block_place *place = &r->blocks[at.block];
    struct chunk_refs refs;
    struct chunk_ref ref;
    enum err_code rc = find_refs(place, at.id, &refs, err);
    while (!rc && next_chunk(place, &refs, mint_ms, maxt_ms, &ref, &rc, err)) {
        *plain =
            !ref.own_times && !ref.has_starts && (!r->n_runs || ref.meta.t_min_ms > r->t_max_ms);
        if (!*plain) return ERR_OK;
        bool last = refs.n_left == 0 || ref.meta.t_max_ms >= maxt_ms;
        rc = append_chunk(r, at.block, &ref, only_place && !r->n_runs && last, err);
    }
    return rc ? err_context(err, "samples of series %" PRIu32, at.id) : ERR_OK;
}

/* ---- times ---- */

static void forget_times(struct column_reader *r)
{
    /* The series' own runs stay. */
    if (r->n_kept_runs && r->n_runs)
        memmove(r->runs, r->runs + r->n_kept_runs, r->n_runs * sizeof(*r->runs));
    r->n_kept_runs = 0;
    r->n_times = 0;
    r->n_sets = 0;
    memset(r->buckets, 0, sizeof(r->buckets));
}

/* The next times of a run, up to `want`, behind those that are there. */
static enum err_code append_times(struct column_reader *r, struct block_place *place,
                                  uint32_t column, uint32_t start, size_t want, size_t *got,
                                  struct err *err)
{
    struct bytes item;
    size_t n;
    struct page_cursor *cursor = &place->chunks.times;
    enum err_code rc = page_file_item(&place->b->file, cursor, SECTION_TIMES, column, &item, err);
    if (rc) return rc;
    rc = times_count(item, &n, err);
    if (!rc && (n > CHUNK_SAMPLES_MAX || start >= n))
        rc = err_set(err, ERR_CORRUPT, "time %" PRIu32 " of a column of %zu", start, n);
    void *times = r->times;
    if (!rc)
        rc = mem_grow(MEM_QUERY, &times, &r->times_cap, r->n_times + n, sizeof(*r->times), err);
    r->times = times;
    int64_t *to = r->times + r->n_times;
    if (!rc) rc = times_decode(item, to, n, err);
    if (rc) return page_cursor_context(&place->b->file, cursor, err);
    *got = MIN_OF(want, n - start);
    if (start) memmove(to, to + start, *got * sizeof(*to));
    return ERR_OK;
}

static enum err_code append_run(struct column_reader *r, const struct time_run *run, size_t from,
                                struct err *err)
{
    struct block_place *place = &r->blocks[run->block];
    uint32_t column = run->column, start = run->start;
    for (size_t done = 0, got = 0; done < run->n; done += got, column++, start = 0) {
        enum err_code rc = append_times(r, place, column, start, run->n - done, &got, err);
        if (rc) return rc;
        const int64_t *t = r->times + r->n_times;
        if (r->n_times > from && t[0] <= t[-1]) {
            chunk_time_error(err);
            return page_cursor_context(&place->b->file, &place->chunks.times, err);
        }
        r->n_times += got;
    }
    return ERR_OK;
}

static size_t first_from(const int64_t *t, size_t n, int64_t limit_ms)
{
    size_t lo = 0;
    while (lo < n) {
        size_t mid = lo + (n - lo) / 2;
        if (t[mid] < limit_ms)
            lo = mid + 1;
        else
            n = mid;
    }
    return lo;
}

static uint64_t hash_runs(const struct time_run *runs, size_t n)
{
    uint64_t hash = n;
    for (size_t i = 0; i < n; i++) {
        hash = (hash ^ ((uint64_t)runs[i].column << 32 | runs[i].start)) * 0x9E3779B97F4A7C15u;
        hash = (hash ^ ((uint64_t)runs[i].block << 32 | runs[i].n)) * 0xC2B2AE3D27D4EB4Fu;
        hash ^= hash >> 29;
    }
    return hash;
}

static const struct time_set *find_set(const struct column_reader *r, uint64_t hash,
                                       int64_t mint_ms, int64_t maxt_ms)
{
    const struct time_run *runs = r->runs + r->n_kept_runs;
    for (uint32_t i = r->buckets[hash % SET_BUCKETS]; i; i = r->sets[i - 1].next) {
        const struct time_set *set = &r->sets[i - 1];
        if (set->hash == hash && set->n_runs == r->n_runs && set->mint_ms == mint_ms &&
            set->maxt_ms == maxt_ms &&
            memcmp(r->runs + set->runs_off, runs, r->n_runs * sizeof(*runs)) == 0)
            return set;
    }
    return NULL;
}

static enum err_code make_set(struct column_reader *r, uint64_t hash, int64_t mint_ms,
                              int64_t maxt_ms, const struct time_set **out, struct err *err)
{
    if (r->n_sets == SETS_MAX || r->n_times + r->n > TIMES_KEPT_MAX ||
        r->n_kept_runs + r->n_runs > RUNS_KEPT_MAX)
        forget_times(r);
    size_t from = r->n_times;
    enum err_code rc = ERR_OK;
    for (size_t i = 0; !rc && i < r->n_runs; i++)
        rc = append_run(r, &r->runs[r->n_kept_runs + i], from, err);
    if (rc) {
        r->n_times = from;
        return rc;
    }
    struct time_set *set = &r->sets[r->n_sets++];
    uint32_t *bucket = &r->buckets[hash % SET_BUCKETS];
    *set = (struct time_set){.id = r->next_id++,
                             .hash = hash,
                             .mint_ms = mint_ms,
                             .maxt_ms = maxt_ms,
                             .runs_off = r->n_kept_runs,
                             .n_runs = r->n_runs,
                             .times_off = from,
                             .n = r->n,
                             .next = *bucket};
    *bucket = r->n_sets;
    const int64_t *t = r->times + from;
    set->skip = first_from(t, r->n, mint_ms);
    size_t end = maxt_ms == INT64_MAX ? r->n : first_from(t, r->n, maxt_ms + 1);
    set->n_inside = end > set->skip ? end - set->skip : 0; /* a gap may be all that was asked for */
    r->n_kept_runs += r->n_runs;
    r->n_runs = 0;
    *out = set;
    return ERR_OK;
}

/* The times that go with the values; they are what the index says. */
static enum err_code take_times(struct column_reader *r, int64_t mint_ms, int64_t maxt_ms,
                                struct float_column *out, size_t *skip, struct err *err)
{
    uint64_t hash = hash_runs(r->runs + r->n_kept_runs, r->n_runs);
    const struct time_set *set = find_set(r, hash, mint_ms, maxt_ms);
    enum err_code rc = set ? ERR_OK : make_set(r, hash, mint_ms, maxt_ms, &set, err);
    if (rc) return rc;
    const int64_t *t = r->times + set->times_off;
    if (t[0] != r->t_min_ms || t[set->n - 1] != r->t_max_ms)
        return err_set(err, ERR_CORRUPT, "times of a series are not those that the index says");
    *skip = set->skip;
    *out = (struct float_column){t + set->skip, NULL, set->n_inside, set->id};
    return ERR_OK;
}

enum err_code column_reader_floats(struct column_reader *r, const struct column_place *places,
                                   size_t n_places, int64_t mint_ms, int64_t maxt_ms,
                                   struct float_column *out, bool *plain, struct err *err)
{
    r->n = 0;
    r->n_runs = 0;
    r->direct = NULL;
    *plain = true;
    *out = (struct float_column){0};
    for (size_t i = 0; i < n_places; i++) {
        enum err_code rc = append_place(r, places[i], n_places == 1, mint_ms, maxt_ms, plain, err);
        if (rc || !*plain) return rc;
    }
    if (!r->n) return ERR_OK;
    size_t skip = 0;
    enum err_code rc = take_times(r, mint_ms, maxt_ms, out, &skip, err);
    if (!rc) out->v = (r->direct ? r->direct : r->v) + skip;
    return rc;
}

/* ---- the newest sample ---- */

/* The last chunk of a series that overlaps [mint_ms, maxt_ms]. */
static enum err_code last_chunk(struct block_place *place, uint32_t id, int64_t mint_ms,
                                int64_t maxt_ms, struct chunk_ref *out, bool *found,
                                struct err *err)
{
    struct chunk_refs refs;
    struct chunk_ref ref;
    *found = false;
    enum err_code rc = find_refs(place, id, &refs, err);
    while (!rc && next_chunk(place, &refs, mint_ms, maxt_ms, &ref, &rc, err)) {
        *out = ref;
        *found = true;
    }
    return rc;
}

/* By what is said of it, without a look at its values. Of a constant one the statistics tell. */
static bool chunk_may_have_nan(const struct chunk_ref *ref, struct bytes item)
{
    if (ref->family) return family_has_markers(item);
    bool number = ref->meta.min == ref->meta.max; /* NaN is not itself */
    if (number && item.len && (item.p[0] & VALUES_KIND_MASK) == VALUES_CONSTANT) return false;
    return values_may_be_nan(item);
}

/* Its last sample within the time; one of times alone where the chunk ends later. */
static enum err_code newest_of_chunk(struct column_reader *r, uint32_t block,
                                     const struct chunk_ref *ref, int64_t mint_ms, int64_t maxt_ms,
                                     bool want_value, struct newest_sample *out, struct err *err)
{
    struct block_place *place = &r->blocks[block];
    struct bytes item;
    bool ends = ref->meta.t_max_ms <= maxt_ms;
    if (ref->own_times || ref->has_starts || (want_value && !ends)) return ERR_OK;
    enum err_code rc = block_chunk_item(place->b, &place->chunks, ref, &item, err);
    if (rc) return rc;
    if (chunk_may_have_nan(ref, item)) return ERR_OK;
    *out = (struct newest_sample){true, true, ref->meta.t_max_ms, ref->meta.last};
    if (ends) return ERR_OK;
    struct float_column times;
    size_t skip;
    rc = add_run(r, block, ref, err);
    if (!rc) rc = take_times(r, mint_ms, maxt_ms, &times, &skip, err);
    if (rc) return rc;
    out->known = times.n > 0; /* else it may be in the chunk before */
    if (times.n) out->t_ms = times.t_ms[times.n - 1];
    return ERR_OK;
}

enum err_code column_reader_newest(struct column_reader *r, const struct column_place *places,
                                   size_t n_places, int64_t mint_ms, int64_t maxt_ms,
                                   bool want_value, struct newest_sample *out, struct err *err)
{
    struct chunk_ref ref;
    bool found = false;
    enum err_code rc = ERR_OK;
    *out = (struct newest_sample){.known = true};
    size_t i = n_places;
    while (!rc && !found && i > 0) {
        i--;
        rc = last_chunk(&r->blocks[places[i].block], places[i].id, mint_ms, maxt_ms, &ref, &found,
                        err);
    }
    if (rc || !found) return rc;
    out->known = false;
    r->n = 0;
    r->n_runs = 0;
    r->direct = NULL;
    rc = newest_of_chunk(r, places[i].block, &ref, mint_ms, maxt_ms, want_value, out, err);
    /* An older place that goes on behind the sample may know better. */
    for (size_t k = 0; k < i; k++)
        if (block_info(r->blocks[places[k].block].b)->t_max_ms >= out->t_ms) out->known = false;
    return rc ? err_context(err, "samples of series %" PRIu32, places[i].id) : ERR_OK;
}

/* ---- the ends of a span ---- */

/* *known stays true if the chunk is as it must be. */
static enum err_code ends_take_chunk(struct column_reader *r, uint32_t block,
                                     const struct chunk_ref *ref, bool rises, bool *known,
                                     struct err *err)
{
    struct block_place *place = &r->blocks[block];
    const struct chunk_ref *before = r->n_runs ? &r->chunks[r->n_runs - 1].ref : NULL;
    struct bytes item;
    *known =
        !ref->own_times && !ref->has_starts &&
        (!before || ref->meta.t_min_ms > before->meta.t_max_ms) &&
        !(rises && (ref->meta.n_resets || (before && !(ref->meta.first >= before->meta.last))));
    if (!*known) return ERR_OK;
    enum err_code rc = block_chunk_item(place->b, &place->chunks, ref, &item, err);
    if (rc) return rc;
    *known = !chunk_may_have_nan(ref, item);
    void *chunks = r->chunks;
    rc = mem_grow(MEM_QUERY, &chunks, &r->chunks_cap, r->n_runs + 1, sizeof(*r->chunks), err);
    r->chunks = chunks;
    if (rc || !*known) return rc;
    r->chunks[r->n_runs] = (struct end_chunk){block, *ref};
    return add_run(r, block, ref, err);
}

static enum err_code ends_take_place(struct column_reader *r, struct column_place at,
                                     int64_t mint_ms, int64_t maxt_ms, bool rises, bool *known,
                                     struct err *err)
{
    struct block_place *place = &r->blocks[at.block];
    struct chunk_refs refs;
    struct chunk_ref ref;
    enum err_code rc = find_refs(place, at.id, &refs, err);
    while (!rc && *known && next_chunk(place, &refs, mint_ms, maxt_ms, &ref, &rc, err))
        rc = ends_take_chunk(r, at.block, &ref, rises, known, err);
    return rc ? err_context(err, "samples of series %" PRIu32, at.id) : ERR_OK;
}

/* The idx-th value of the n_chunks chunks. Decodes behind r->v[r->n], where it must not be at the ends of one. */
static enum err_code value_at(struct column_reader *r, size_t n_chunks, size_t idx, double *v,
                              struct err *err)
{
    size_t k = 0;
    for (; k + 1 < n_chunks && idx >= r->chunks[k].ref.meta.n; k++) idx -= r->chunks[k].ref.meta.n;
    const struct chunk_ref *ref = &r->chunks[k].ref;
    struct block_place *place = &r->blocks[r->chunks[k].block];
    *v = idx ? ref->meta.last : ref->meta.first;
    if (!idx || idx == ref->meta.n - 1) return ERR_OK;
    struct bytes item;
    enum err_code rc = block_chunk_item(place->b, &place->chunks, ref, &item, err);
    if (!rc) rc = reserve_values(r, ref->meta.n, err);
    if (rc) return rc;
    double *to = r->v + r->n;
    rc = ref->family ? family_decode(item, ref->meta.n, ref->member, to, err)
                     : values_decode(item, ref->meta.n, to, err);
    if (rc) return page_cursor_context(&place->b->file, &place->chunks.chunks, err);
    *v = to[idx];
    return ERR_OK;
}

enum err_code column_reader_ends(struct column_reader *r, const struct column_place *places,
                                 size_t n_places, int64_t mint_ms, int64_t maxt_ms, bool rises,
                                 struct float_column *out, bool *known, struct err *err)
{
    enum err_code rc = ERR_OK;
    r->n = 0;
    r->n_runs = 0;
    r->direct = NULL;
    *known = true;
    *out = (struct float_column){0};
    for (size_t i = 0; i < n_places && !rc && *known; i++)
        rc = ends_take_place(r, places[i], mint_ms, maxt_ms, rises, known, err);
    if (rc || !*known || !r->n) return rc;
    size_t n_chunks = r->n_runs, skip = 0;
    rc = reserve_values(r, 0, err);
    if (!rc) rc = take_times(r, mint_ms, maxt_ms, out, &skip, err);
    if (rc || !out->n) return rc;
    double first = 0, last = 0;
    rc = value_at(r, n_chunks, skip, &first, err);
    if (!rc) rc = value_at(r, n_chunks, skip + out->n - 1, &last, err);
    if (rc) return rc;
    r->v[skip] = first;
    r->v[skip + out->n - 1] = last;
    out->v = r->v + skip;
    return ERR_OK;
}
