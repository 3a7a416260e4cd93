/* storage/block_reader.c: opening a block and reading its series. The names of labels are kept in memory, all else
 * is read through the page cache. */
#include <inttypes.h>

#include "storage/block_layout.h"

/* ---- open, close ---- */

static enum err_code parse_head(void *ctx, struct reader *r, struct err *err)
{
    return block_head_decode(r, ctx, err);
}

/* Do the sections have as many items as the counts in the footer want? */
static enum err_code check_counts(struct block *b, struct err *err)
{
    const struct page_section *s = b->file.sections;
    uint64_t n_groups = block_n_groups(b->info.n_series);
    uint64_t n_pairs = s[SECTION_VALUES].n_items, n_names = s[SECTION_NAMES].n_items;
    bool v1 = b->file.version == 1;
    uint64_t refs_bytes_min = v1 ? SERIES_REFS_BYTES_MIN_V1 : SERIES_REFS_BYTES_MIN;
    /* Several series may share a chunk since version 2. */
    bool chunks_ok = v1 ? s[SECTION_CHUNKS].n_items == b->info.n_chunks
                        : s[SECTION_CHUNKS].n_items <= b->info.n_chunks;
    if (chunks_ok && s[SECTION_REFS].n_items == n_groups && s[SECTION_LABELS].n_items == n_groups &&
        s[SECTION_REFS].raw_bytes / refs_bytes_min >= b->info.n_series &&
        s[SECTION_LABELS].raw_bytes / SERIES_LABELS_BYTES_MIN >= b->info.n_series &&
        n_names <= n_pairs && (n_names > 0) == (n_pairs > 0) &&
        s[SECTION_POSTINGS].n_items == n_pairs + n_names)
        return ERR_OK;
    err_set(err, ERR_CORRUPT, "sections do not go together");
    return err_at(err, b->path, 0);
}

static enum err_code read_name(struct block *b, uint32_t i, struct bytes item, struct err *err)
{
    struct reader r = reader_init(item);
    uint64_t first_pair = reader_varint(&r);
    struct str text = str_from_bytes(reader_bytes(&r, reader_left(&r)));
    bool in_order = i == 0 ? first_pair == 0
                           : first_pair > b->names[i - 1].first_pair && first_pair < b->n_pairs &&
                                 str_cmp(b->names[i - 1].text, text) < 0;
    if (r.failed || !in_order || text.len == 0)
        return err_set(err, ERR_CORRUPT, "label name %" PRIu32 " makes no sense", i);
    b->names[i] = (struct block_name){arena_str(&b->arena, text), (uint32_t)first_pair};
    return b->names[i].text.p ? ERR_OK : arena_fail(&b->arena, err);
}

static enum err_code read_names(struct block *b, struct err *err)
{
    b->n_pairs = b->file.sections[SECTION_VALUES].n_items;
    uint32_t n = b->file.sections[SECTION_NAMES].n_items;
    b->names = mem_calloc(MEM_STORAGE, (size_t)n + 1, sizeof(*b->names));
    if (!b->names) return err_set(err, ERR_NO_MEMORY, "%" PRIu32 " label names", n);
    struct page_cursor cursor = {0};
    enum err_code rc = ERR_OK;
    for (uint32_t i = 0; !rc && i < n; i++) {
        struct bytes item;
        rc = page_file_item(&b->file, &cursor, SECTION_NAMES, i, &item, err);
        if (rc) break;
        rc = read_name(b, i, item, err);
        if (rc) page_cursor_context(&b->file, &cursor, err);
    }
    page_cursor_release(&cursor);
    b->names[n].first_pair = b->n_pairs;
    b->n_names = n;
    return rc;
}

static void block_free(struct block *b)
{
    if (b->file.cache) page_file_release(&b->file);
    if (atomic_load_explicit(&b->drop, memory_order_relaxed)) {
        struct err ignored; /* the catalog no longer names it: the next start removes it */
        err_ignore(io_unlink(b->io, b->path, &ignored));
    }
    mem_free(b->names);
    arena_release(&b->arena);
    mem_free(b->path);
    mem_free(b);
}

enum err_code block_open(const struct env *env, const char *path, struct page_cache *cache,
                         struct block **out, struct err *err)
{
    struct block *b = mem_calloc(MEM_STORAGE, 1, sizeof(*b));
    if (!b) return err_set(err, ERR_NO_MEMORY, "opening a block");
    b->io = env->io;
    arena_init(&b->arena, MEM_STORAGE, 0);
    atomic_init(&b->n_refs, 1);
    struct file *file = NULL;
    enum err_code rc = ERR_OK;
    b->path = mem_strdup(MEM_STORAGE, path);
    if (!b->path) rc = err_set(err, ERR_NO_MEMORY, "opening a block");
    if (!rc) rc = io_open(env->io, path, IO_READ, &file, err);
    if (!rc) rc = page_file_init(&b->file, file, cache, parse_head, &b->info, err);
    if (!rc) rc = check_counts(b, err);
    if (!rc) rc = read_names(b, err);
    if (rc) {
        err_context(err, "opening block %s", path);
        block_free(b);
        return rc;
    }
    b->n_series = (uint32_t)b->info.n_series;
    b->info.file_bytes = b->file.size;
    *out = b;
    return ERR_OK;
}

struct block *block_ref(struct block *block)
{
    atomic_fetch_add_explicit(&block->n_refs, 1, memory_order_relaxed);
    return block;
}

void block_unref(struct block *block)
{
    if (!block) return;
    if (atomic_fetch_sub_explicit(&block->n_refs, 1, memory_order_acq_rel) == 1) block_free(block);
}

void block_drop_file(struct block *block)
{
    atomic_store_explicit(&block->drop, true, memory_order_relaxed);
}

const struct block_info *block_info(const struct block *block)
{
    return &block->info;
}

size_t block_sections(const struct block *block, struct block_section_info *out, size_t cap)
{
    static const enum block_section in_file[BLOCK_SECTIONS] = {
        SECTION_CHUNKS, SECTION_TIMES, SECTION_REFS,    SECTION_LABELS,
        SECTION_VALUES, SECTION_NAMES, SECTION_POSTINGS};
    size_t n = 0;
    for (size_t i = 0; i < BLOCK_SECTIONS && n < cap; i++) {
        const struct page_section *s = &block->file.sections[in_file[i]];
        if (!s->id) continue;
        out[n] =
            (struct block_section_info){.off = s->off, .bytes = s->bytes, .n_pages = s->n_pages};
        strncpy(out[n++].name, section_name(s->id), sizeof(out->name) - 1);
    }
    return n;
}

/* ---- labels ---- */

uint32_t block_find_name(const struct block *b, struct str name)
{
    uint32_t lo = 0, hi = b->n_names;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        int c = str_cmp(b->names[mid].text, name);
        if (c == 0) return mid;
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return b->n_names;
}

uint32_t block_name_of_pair(const struct block *b, uint32_t pair)
{
    uint32_t lo = 0, hi = b->n_names; /* the answer is in [lo, hi) */
    while (hi - lo > 1) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (b->names[mid].first_pair <= pair)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

enum err_code block_value(struct block *b, struct page_cursor *cursor, uint32_t pair,
                          struct str *out, struct err *err)
{
    struct bytes item;
    enum err_code rc = page_file_item(&b->file, cursor, SECTION_VALUES, pair, &item, err);
    if (!rc) *out = str_from_bytes(item);
    return rc;
}

enum err_code block_pairs(struct block *b, struct page_cursor *cursor, uint32_t id,
                          struct pair_list *out, struct err *err)
{
    ASSERT(id < b->n_series);
    struct bytes item;
    enum err_code rc =
        page_file_item(&b->file, cursor, SECTION_LABELS, id / BLOCK_GROUP_SERIES, &item, err);
    if (rc) return rc;
    struct reader r = reader_init(item);
    out->n = 0;
    for (uint32_t i = 0; !rc && i <= id % BLOCK_GROUP_SERIES; i++)
        rc = pair_list_decode(&r, b->n_pairs, out, err);
    return rc ? page_cursor_context(&b->file, cursor, err) : ERR_OK;
}

static enum err_code resolve_label(struct block *b, struct page_cursor *cursor, uint32_t pair,
                                   struct arena *arena, struct label *out, struct err *err)
{
    struct str value;
    enum err_code rc = block_value(b, cursor, pair, &value, err);
    if (rc) return rc;
    out->name = arena_str(arena, b->names[block_name_of_pair(b, pair)].text);
    out->value = arena_str(arena, value);
    return out->name.p && out->value.p ? ERR_OK : arena_fail(arena, err);
}

enum err_code block_labels(struct block *b, uint32_t id, struct arena *arena, struct labels *out,
                           struct err *err)
{
    struct page_cursor lists = {0}, values = {0};
    struct pair_list pairs;
    pair_list_init(&pairs);
    enum err_code rc = block_pairs(b, &lists, id, &pairs, err);
    struct label *items = NULL;
    if (!rc) {
        items = ARENA_ARRAY(arena, struct label, pairs.n + 1);
        if (!items) rc = arena_fail(arena, err);
    }
    for (size_t i = 0; !rc && i < pairs.n; i++)
        rc = resolve_label(b, &values, pairs.ids[i], arena, &items[i], err);
    if (!rc) *out = (struct labels){items, pairs.n};
    page_cursor_release(&lists);
    page_cursor_release(&values);
    pair_list_release(&pairs);
    return rc ? err_context(err, "labels of series %" PRIu32, id) : ERR_OK;
}

enum err_code block_label_names(struct block *b, struct arena *arena, struct str **out, size_t *n,
                                struct err *err)
{
    struct str *items = ARENA_ARRAY(arena, struct str, (size_t)b->n_names + 1);
    if (!items) return arena_fail(arena, err);
    for (uint32_t i = 0; i < b->n_names; i++) {
        items[i] = arena_str(arena, b->names[i].text);
        if (!items[i].p) return arena_fail(arena, err);
    }
    *out = items;
    *n = b->n_names;
    return ERR_OK;
}

enum err_code block_each_value(struct block *b, struct str name, block_value_fn *fn, void *ctx,
                               struct err *err)
{
    uint32_t rank = block_find_name(b, name);
    if (rank >= b->n_names) return ERR_OK;
    struct page_cursor cursor = {0};
    enum err_code rc = ERR_OK;
    bool done = false;
    uint32_t pair = b->names[rank].first_pair, to = b->names[rank + 1].first_pair;
    for (; !rc && !done && pair < to; pair++) {
        struct str value;
        rc = block_value(b, &cursor, pair, &value, err);
        if (!rc) rc = fn(ctx, value, &done, err);
    }
    page_cursor_release(&cursor);
    return rc ? err_context(err, "values of a label") : ERR_OK;
}

/* ---- chunk lists ---- */

enum err_code block_refs(struct block *b, struct page_cursor *cursor, uint32_t id,
                         struct chunk_refs *out, struct err *err)
{
    ASSERT(id < b->n_series);
    struct bytes item;
    uint32_t group = id / BLOCK_GROUP_SERIES;
    enum err_code rc = page_file_item(&b->file, cursor, SECTION_REFS, group, &item, err);
    if (rc) return rc;
    uint32_t n_series = MIN_OF(b->n_series - group * BLOCK_GROUP_SERIES, BLOCK_GROUP_SERIES);
    rc = chunk_refs_find(b->file.version, item, n_series, id % BLOCK_GROUP_SERIES, out, err);
    return rc ? page_cursor_context(&b->file, cursor, err) : ERR_OK;
}

/* A walk over the chunks of a series that overlap a span of time. */
struct walk {
    struct block *b;
    int64_t mint_ms, maxt_ms;
    struct page_cursor index;
    struct chunk_refs refs;
};

static enum err_code walk_init(struct walk *w, struct block *b, uint32_t id, int64_t mint_ms,
                               int64_t maxt_ms, struct err *err)
{
    *w = (struct walk){.b = b, .mint_ms = mint_ms, .maxt_ms = maxt_ms};
    return block_refs(b, &w->index, id, &w->refs, err);
}

/* False at the end, or with *rc set. */
static bool walk_next(struct walk *w, struct chunk_ref *ref, enum err_code *rc, struct err *err)
{
    while (w->refs.n_left) {
        *rc = chunk_refs_next(&w->refs, ref, err);
        if (*rc) {
            page_cursor_context(&w->b->file, &w->index, err);
            return false;
        }
        if (ref->meta.t_min_ms > w->maxt_ms) return false;
        if (ref->meta.t_max_ms >= w->mint_ms) return true;
    }
    return false;
}

enum err_code block_overlaps(struct block *b, uint32_t id, int64_t mint_ms, int64_t maxt_ms,
                             bool *out, struct err *err)
{
    struct walk w;
    struct chunk_ref ref;
    *out = false;
    enum err_code rc = walk_init(&w, b, id, mint_ms, maxt_ms, err);
    if (!rc) *out = walk_next(&w, &ref, &rc, err);
    page_cursor_release(&w.index);
    return rc ? err_context(err, "chunks of series %" PRIu32, id) : ERR_OK;
}

enum err_code block_metas(struct block *b, uint32_t id, int64_t mint_ms, int64_t maxt_ms,
                          block_meta_fn *fn, void *ctx, struct err *err)
{
    struct walk w;
    struct chunk_ref ref;
    enum err_code rc = walk_init(&w, b, id, mint_ms, maxt_ms, err);
    while (!rc && walk_next(&w, &ref, &rc, err)) rc = fn(ctx, &ref.meta, err);
    page_cursor_release(&w.index);
    return rc ? err_context(err, "chunks of series %" PRIu32, id) : ERR_OK;
}

/* ---- samples ---- */

enum err_code block_read(struct block *b, uint32_t id, int64_t mint_ms, int64_t maxt_ms,
                         struct samples *out, struct err *err)
{
    struct walk w;
    struct chunk_cursor cursor = {0};
    struct chunk_ref ref;
    size_t n_before = out->n;
    enum err_code rc = walk_init(&w, b, id, mint_ms, maxt_ms, err);
    while (!rc && walk_next(&w, &ref, &rc, err))
        rc = block_decode_chunk(b, &cursor, &ref, mint_ms, maxt_ms, out, err);
    page_cursor_release(&w.index);
    chunk_cursor_release(&cursor);
    if (!rc) return ERR_OK;
    out->n = n_before;
    return err_context(err, "samples of series %" PRIu32, id);
}

enum err_code block_chunks(struct block *b, uint32_t id, block_chunk_fn *fn, void *ctx,
                           struct err *err)
{
    struct walk w;
    struct chunk_cursor cursor = {0};
    struct chunk_ref ref;
    enum err_code rc = walk_init(&w, b, id, INT64_MIN, INT64_MAX, err);
    while (!rc && walk_next(&w, &ref, &rc, err)) {
        struct block_chunk chunk = {.meta = ref.meta};
        rc = block_describe_chunk(b, &cursor, &ref, &chunk, err);
        if (!rc) rc = fn(ctx, &chunk, err);
    }
    page_cursor_release(&w.index);
    chunk_cursor_release(&cursor);
    return rc ? err_context(err, "chunks of series %" PRIu32, id) : ERR_OK;
}
