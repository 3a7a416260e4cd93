/* storage/block_verify.c: everything in a block against everything else: pages from disk past the cache, order of
 * names, values, series and samples, statistics against samples, postings against labels (by a sum of hashes per
 * list, so that memory is 16 bytes a label pair). */
#include <inttypes.h>

#include "base/hash.h"
#include "storage/block_layout.h"
#include "storage/chunk_codec.h"
#include "storage/family.h"
#include "storage/postings.h"

struct tally {
    uint64_t n, hash_sum;
};

struct verifier {
    struct block *b;
    block_problem_fn *fn;
    void *ctx;
    struct err *first;     /* the first problem */
    bool labels_known;     /* all label lists could be read: postings can be compared */
    struct tally *tallies; /* per pair, then per name */
    uint8_t *chunk_uses;   /* per item of chunks: series that refer to it, 255 at most */
    struct page_cursor lists, values, refs, postings;
    struct chunk_cursor chunks;
    uint64_t n_chunks, n_samples;
    int64_t t_min_ms, t_max_ms;
};

static void report(struct verifier *v, const struct err *problem)
{
    if (v->first->code == ERR_OK) *v->first = *problem;
    if (v->fn) v->fn(v->ctx, problem);
}

static void complain(struct verifier *v, const char *what, uint64_t number)
{
    struct err err;
    err_set(&err, ERR_CORRUPT, "%s %" PRIu64, what, number);
    err_at(&err, v->b->path, 0);
    report(v, &err);
}

static uint64_t series_hash(uint32_t id)
{
    return hash_xxh3(&id, sizeof(id));
}

static void check_pages(struct verifier *v)
{
    for (unsigned id = 1; id <= BLOCK_SECTIONS; id++) { /* one that is not there has no pages */
        for (size_t i = 0; i < v->b->file.sections[id].n_pages; i++) {
            struct err err;
            if (page_file_check(&v->b->file, id, i, &err)) report(v, &err);
        }
    }
}

/* Values of one name rise; none is empty. */
static void check_values(struct verifier *v)
{
    struct buf before;
    buf_init(&before, MEM_STORAGE);
    for (uint32_t rank = 0; rank < v->b->n_names; rank++) {
        buf_reset(&before); /* empty: the first value must be more than that */
        for (uint32_t pair = v->b->names[rank].first_pair; pair < v->b->names[rank + 1].first_pair;
             pair++) {
            struct err err;
            struct str value;
            if (block_value(v->b, &v->values, pair, &value, &err)) {
                report(v, &err);
                continue;
            }
            if (str_cmp(str_from_bytes(buf_bytes(&before)), value) >= 0)
                complain(v, "order of the values of labels at pair", pair);
            buf_reset(&before);
            buf_text(&before, value);
        }
    }
    buf_release(&before);
}

static int pairs_cmp(const struct pair_list *a, const struct pair_list *b)
{
    for (size_t i = 0; i < a->n && i < b->n; i++)
        if (a->ids[i] != b->ids[i]) return a->ids[i] < b->ids[i] ? -1 : 1;
    return (a->n > b->n) - (a->n < b->n);
}

static void tally(struct verifier *v, size_t list, uint32_t id)
{
    v->tallies[list].n++;
    v->tallies[list].hash_sum += series_hash(id);
}

/* One series' labels: after those of the series before, one pair per name. */
static void check_labels(struct verifier *v, uint32_t id, const struct pair_list *pairs,
                         const struct pair_list *before)
{
    if (id && pairs_cmp(before, pairs) >= 0) complain(v, "order of labels at series", id);
    uint32_t last_rank = UINT32_MAX;
    for (size_t i = 0; i < pairs->n; i++) {
        uint32_t rank = block_name_of_pair(v->b, pairs->ids[i]);
        if (rank == last_rank) complain(v, "a label name comes twice in series", id);
        last_rank = rank;
        tally(v, pairs->ids[i], id);
        tally(v, v->b->n_pairs + rank, id);
    }
}

static enum err_code copy_pairs(struct pair_list *to, const struct pair_list *from, struct err *err)
{
    enum err_code rc = ERR_OK;
    to->n = 0;
    for (size_t i = 0; !rc && i < from->n; i++) rc = pair_list_push(to, from->ids[i], err);
    return rc;
}

static void check_all_labels(struct verifier *v)
{
    struct pair_list pairs, before;
    pair_list_init(&pairs);
    pair_list_init(&before);
    v->labels_known = true;
    for (uint32_t id = 0; id < v->b->n_series; id++) {
        struct err err;
        enum err_code rc = block_pairs(v->b, &v->lists, id, &pairs, &err);
        if (!rc) {
            check_labels(v, id, &pairs, &before);
            rc = copy_pairs(&before, &pairs, &err);
        }
        if (!rc) continue;
        v->labels_known = false;
        report(v, &err);
    }
    pair_list_release(&pairs);
    pair_list_release(&before);
}

static bool same_meta(const struct chunk_meta *a, const struct chunk_meta *b)
{
    return a->t_min_ms == b->t_min_ms && a->t_max_ms == b->t_max_ms && a->n == b->n &&
           a->n_resets == b->n_resets && a->has_histograms == b->has_histograms &&
           double_bits(a->first) == double_bits(b->first) &&
           double_bits(a->last) == double_bits(b->last) &&
           double_bits(a->min) == double_bits(b->min) && double_bits(a->max) == double_bits(b->max);
}

static enum err_code check_chunk(struct verifier *v, const struct chunk_ref *ref, struct samples *s,
                                 struct err *err)
{
    samples_reset(s);
    arena_reset(s->arena);
    enum err_code rc = block_decode_chunk(v->b, &v->chunks, ref, INT64_MIN, INT64_MAX, s, err);
    if (rc) return rc;
    struct chunk_meta found;
    chunk_meta_make(s, 0, s->n, &found);
    if (same_meta(&found, &ref->meta)) return ERR_OK;
    return err_set(err, ERR_CORRUPT, "statistics of chunk %" PRIu64 " are not those of its samples",
                   ref->item);
}

static void count_use(struct verifier *v, const struct chunk_ref *ref)
{
    if (ref->item >= v->b->file.sections[SECTION_CHUNKS].n_items) return; /* check_chunk says so */
    uint8_t *uses = &v->chunk_uses[ref->item];
    *uses += *uses < UINT8_MAX;
}

static enum err_code check_series(struct verifier *v, uint32_t id, struct samples *s,
                                  struct err *err)
{
    struct chunk_refs refs;
    enum err_code rc = block_refs(v->b, &v->refs, id, &refs, err);
    if (rc) return rc;
    while (refs.n_left) {
        struct chunk_ref ref;
        rc = chunk_refs_next(&refs, &ref, err);
        if (rc) return page_cursor_context(&v->b->file, &v->refs, err);
        v->n_chunks++;
        v->n_samples += ref.meta.n;
        v->t_min_ms = MIN_OF(v->t_min_ms, ref.meta.t_min_ms);
        v->t_max_ms = MAX_OF(v->t_max_ms, ref.meta.t_max_ms);
        count_use(v, &ref);
        rc = check_chunk(v, &ref, s, err);
        if (!rc) continue;
        err_context(err, "series %" PRIu32, id);
        report(v, err);
    }
    return ERR_OK;
}

/* Each chunk belongs to a series, one of a family to all its members, and none to more. */
static void check_uses(struct verifier *v)
{
    for (uint32_t i = 0; i < v->b->file.sections[SECTION_CHUNKS].n_items; i++) {
        struct err err;
        struct bytes item;
        size_t expected = 1, n_members;
        bool has_count;
        if (v->chunk_uses[i] == 1) continue;
        if (v->chunk_uses[i] > 1 &&
            page_file_item(&v->b->file, &v->chunks.chunks, SECTION_CHUNKS, i, &item, &err) ==
                ERR_OK &&
            family_peek(item, &n_members, &has_count, &err) == ERR_OK)
            expected = n_members + has_count;
        if (v->chunk_uses[i] != expected) complain(v, "series that refer to chunk", i);
    }
}

/* Time columns decode, whoever refers to them. */
static void check_times(struct verifier *v)
{
    for (uint32_t i = 0; i < v->b->file.sections[SECTION_TIMES].n_items; i++) {
        struct err err;
        size_t n;
        if (block_check_times(v->b, &v->chunks.times, i, &n, &err)) report(v, &err);
    }
}

static void check_all_series(struct verifier *v)
{
    struct arena arena;
    struct samples s;
    arena_init(&arena, MEM_STORAGE, 0);
    samples_init(&s, MEM_STORAGE, &arena);
    v->t_min_ms = INT64_MAX;
    v->t_max_ms = INT64_MIN;
    bool complete = true;
    for (uint32_t id = 0; id < v->b->n_series; id++) {
        struct err err;
        if (!check_series(v, id, &s, &err)) continue;
        complete = false;
        report(v, &err);
    }
    const struct block_info *info = &v->b->info;
    if (complete && (v->n_chunks != info->n_chunks || v->n_samples != info->n_samples ||
                     v->t_min_ms != info->t_min_ms || v->t_max_ms != info->t_max_ms))
        complain(v, "the footer's counts and times; samples found:", v->n_samples);
    if (complete) check_uses(v);
    samples_release(&s);
    arena_release(&arena);
}

static enum err_code sum_postings(struct verifier *v, size_t list, struct tally *out,
                                  struct err *err)
{
    struct bytes item;
    enum err_code rc =
        page_file_item(&v->b->file, &v->postings, SECTION_POSTINGS, list, &item, err);
    if (rc) return rc;
    struct postings_reader p = {.r = reader_init(item), .n_series = v->b->n_series};
    uint32_t first, last;
    while (postings_next(&p, &first, &last, &rc, err)) {
        for (uint32_t id = first; id <= last; id++) {
            out->n++;
            out->hash_sum += series_hash(id);
        }
    }
    return rc ? page_cursor_context(&v->b->file, &v->postings, err) : ERR_OK;
}

static void check_postings(struct verifier *v)
{
    for (size_t list = 0; list < (size_t)v->b->n_pairs + v->b->n_names; list++) {
        struct err err;
        struct tally found = {0};
        if (sum_postings(v, list, &found, &err)) {
            report(v, &err);
            continue;
        }
        if (v->labels_known &&
            (found.n != v->tallies[list].n || found.hash_sum != v->tallies[list].hash_sum))
            complain(v, "postings are not the series with the label: list", list);
    }
}

enum err_code block_verify(struct block *b, block_problem_fn *fn, void *ctx, struct err *err)
{
    err_clear(err);
    struct verifier v = {.b = b, .fn = fn, .ctx = ctx, .first = err};
    v.tallies = mem_calloc(MEM_STORAGE, (size_t)b->n_pairs + b->n_names, sizeof(*v.tallies));
    v.chunk_uses = mem_calloc(MEM_STORAGE, b->file.sections[SECTION_CHUNKS].n_items, 1);
    if (!v.tallies || !v.chunk_uses) {
        err_set(err, ERR_NO_MEMORY, "checking a block");
        goto out;
    }
    check_pages(&v);
    check_values(&v);
    check_all_labels(&v);
    check_times(&v);
    check_all_series(&v);
    check_postings(&v);
    struct page_cursor *cursors[] = {&v.lists, &v.values, &v.refs, &v.postings};
    for (size_t i = 0; i < COUNT_OF(cursors); i++) page_cursor_release(cursors[i]);
    chunk_cursor_release(&v.chunks);
out:
    mem_free(v.tallies);
    mem_free(v.chunk_uses);
    return err->code;
}

enum err_code block_check_pages(struct block *b, block_page_fn *read, void *read_ctx,
                                block_problem_fn *fn, void *ctx, struct err *err)
{
    err_clear(err);
    for (unsigned id = 1; id <= BLOCK_SECTIONS; id++) {
        const struct page_section *s = &b->file.sections[id];
        for (size_t i = 0; i < s->n_pages; i++) {
            struct err one;
            if (page_file_check(&b->file, id, i, &one)) {
                if (err->code == ERR_OK) *err = one;
                fn(ctx, &one);
            }
            enum err_code rc =
                read(read_ctx, PAGE_HEADER_BYTES + (uint64_t)s->pages[i].stored_len, &one);
            if (!rc) continue;
            *err = one;
            return rc;
        }
    }
    return err->code;
}
