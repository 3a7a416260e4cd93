/* engine/select_join.c: the series of head and blocks as one list. Each source has its own in label order, so they are
 * merged; what is compared are numbers of label pairs, the same for all sources, and texts only where two differ.
 */
#include "engine/select_private.h"

/* ---- tables ---- */

enum err_code select_want_tables(struct engine_select *sel, struct err *err)
{
    if (sel->readers) return ERR_OK;
    symbols_init_for(&sel->symbols, MEM_QUERY);
    sel->readers = mem_calloc(MEM_QUERY, sel->view->n_blocks, sizeof(struct label_reader *));
    return sel->readers ? ERR_OK : err_set(err, ERR_NO_MEMORY, "no memory for a select");
}

static enum err_code reader_of(struct engine_select *sel, uint32_t block_idx,
                               struct label_reader **out, struct err *err)
{
    static const struct label_names all = {0};
    struct label_reader **reader = &sel->readers[block_idx];
    enum err_code rc = ERR_OK;
    if (!*reader)
        rc = label_reader_new(sel->view->blocks[block_idx], &sel->symbols, &all, reader, err);
    *out = *reader;
    return rc;
}

void select_tables_release(struct engine_select *sel)
{
    if (!sel->readers) return;
    for (size_t i = 0; i < sel->view->n_blocks; i++) label_reader_free(sel->readers[i]);
    mem_free(sel->readers);
    symbols_release(&sel->symbols);
}

enum err_code select_spell_block_item(struct engine_select *sel, struct select_item *item,
                                      struct err *err)
{
    struct label_reader *reader;
    const uint32_t *pairs;
    size_t n;
    enum err_code rc = select_want_tables(sel, err);
    if (!rc) rc = reader_of(sel, item->first->block, &reader, err);
    if (!rc) rc = label_reader_series(reader, item->first->id, &pairs, &n, err);
    if (rc) return rc;
    struct label *labels =
        arena_alloc(&sel->arena, MAX_OF(n, (size_t)1) * sizeof(*labels), _Alignof(struct label));
    if (!labels) return arena_fail(&sel->arena, err);
    for (size_t i = 0; i < n; i++)
        labels[i] = (struct label){symbols_name(&sel->symbols, pairs[i]),
                                   symbols_value(&sel->symbols, pairs[i])};
    item->labels = labels;
    item->n_labels = (uint32_t)n;
    atomic_store_explicit(&item->spelled, true, memory_order_release);
    return ERR_OK;
}

/* ---- sources ---- */

struct source {
    const uint32_t *ids; /* of a block; NULL: items of the head */
    uint32_t block_idx;
    size_t n, at;
    struct label_reader *labels;
    const uint32_t *pairs; /* of the series at hand, as symbols */
    size_t n_pairs;
    bool fresh; /* pairs are those of the series at hand */
};

struct join {
    struct engine_select *sel;
    struct select_item *head; /* n_head of them */
    size_t n_head;
    struct source *sources; /* the head's last */
    size_t n_sources;
    struct sparse head_symbols; /* by pair of the registry: + 1 */
    uint32_t *head_pairs;
    size_t head_pairs_cap;
    struct arena scratch;
};

static enum err_code head_symbol(struct join *join, const struct series *s, size_t k, uint32_t *out,
                                 struct err *err)
{
    struct registry *reg = &join->sel->tenant->registry;
    uint32_t *known = sparse_at(&join->head_symbols, s->pairs[k]);
    if (!known) return err_set(err, ERR_NO_MEMORY, "no memory for a select");
    if (!*known) {
        uint32_t symbol = 0;
        rwlock_read(&reg->lock);
        struct label label = registry_label(reg, s, k);
        rwlock_release(&reg->lock);
        /* The text stays as long as the view is held. */
        enum err_code rc = symbols_add(&join->sel->symbols, label.name, label.value, &symbol, err);
        if (rc) return rc;
        *known = symbol + 1;
    }
    *out = *known - 1;
    return ERR_OK;
}

static enum err_code head_pairs(struct join *join, struct source *source, struct err *err)
{
    const struct series *s = join->head[source->at].head;
    void *pairs = join->head_pairs;
    enum err_code rc = mem_grow(MEM_QUERY, &pairs, &join->head_pairs_cap, s->n_pairs,
                                sizeof(*join->head_pairs), err);
    join->head_pairs = pairs;
    for (size_t k = 0; !rc && k < s->n_pairs; k++)
        rc = head_symbol(join, s, k, &join->head_pairs[k], err);
    source->pairs = join->head_pairs;
    source->n_pairs = s->n_pairs;
    return rc;
}

/* Only where there is something to compare with. */
static enum err_code source_look(struct join *join, struct source *source, struct err *err)
{
    if (source->fresh) return ERR_OK;
    source->fresh = true;
    if (!source->ids) return head_pairs(join, source, err);
    return label_reader_series(source->labels, source->ids[source->at], &source->pairs,
                               &source->n_pairs, err);
}

/* As labels_cmp. Equal pairs are skipped as numbers. */
static int compare(const struct symbols *symbols, const struct source *a, const struct source *b)
{
    size_t n = MIN_OF(a->n_pairs, b->n_pairs), i = 0;
    while (i < n && a->pairs[i] == b->pairs[i]) i++;
    if (i == n) return (a->n_pairs > b->n_pairs) - (a->n_pairs < b->n_pairs);
    int c = str_cmp(symbols_name(symbols, a->pairs[i]), symbols_name(symbols, b->pairs[i]));
    return c ? c
             : str_cmp(symbols_value(symbols, a->pairs[i]), symbols_value(symbols, b->pairs[i]));
}

/* ---- merging ---- */

static enum err_code item_add_ref(struct engine_select *sel, struct select_item *item,
                                  const struct source *source, struct err *err)
{
    struct series_ref *ref = arena_alloc(&sel->arena, sizeof(*ref), _Alignof(struct series_ref));
    if (!ref) return arena_fail(&sel->arena, err);
    *ref = (struct series_ref){NULL, source->block_idx, source->ids[source->at]};
    *(item->last ? &item->last->next : &item->first) = ref;
    item->last = ref;
    return ERR_OK;
}

/* The sources that have the least labels; they come in the order of versions. */
static enum err_code find_least(struct join *join, bool *among, struct err *err)
{
    const struct source *least = NULL;
    for (size_t i = 0; i < join->n_sources; i++) {
        struct source *source = &join->sources[i];
        among[i] = source->at < source->n;
        if (!among[i]) continue;
        enum err_code rc = source_look(join, source, err);
        if (rc) return rc;
        int c = least ? compare(&join->sel->symbols, source, least) : 0;
        among[i] = c <= 0;
        if (c < 0)
            for (size_t k = 0; k < i; k++) among[k] = false;
        if (c < 0 || !least) least = source;
    }
    return ERR_OK;
}

static enum err_code take_item(struct join *join, const bool *among, struct err *err)
{
    struct engine_select *sel = join->sel;
    enum err_code rc = select_check_bounds(sel, sel->n + 1, err);
    if (rc) return rc;
    struct select_item *item = &sel->items[sel->n++];
    struct source *head = &join->sources[join->n_sources - 1];
    if (!head->ids && among[join->n_sources - 1]) *item = join->head[head->at];
    for (size_t i = 0; i < join->n_sources && !rc; i++) {
        struct source *source = &join->sources[i];
        if (!among[i]) continue;
        if (source->ids) rc = item_add_ref(sel, item, source, err);
        source->at++;
        source->fresh = false;
    }
    return rc;
}

static enum err_code merge(struct join *join, struct err *err)
{
    bool *among = ARENA_ARRAY(&join->scratch, bool, join->n_sources);
    enum err_code rc = among ? ERR_OK : arena_fail(&join->scratch, err);
    if (!rc && join->n_sources == 1) { /* nothing to compare with */
        among[0] = true;
        while (!rc && join->sources[0].at < join->sources[0].n) rc = take_item(join, among, err);
        return rc;
    }
    while (!rc) {
        bool any = false;
        for (size_t i = 0; i < join->n_sources; i++)
            any |= join->sources[i].at < join->sources[i].n;
        if (!any) break;
        rc = find_least(join, among, err);
        if (!rc) rc = take_item(join, among, err);
    }
    return rc;
}

/* ---- which series of a block ---- */

static enum err_code block_source(struct join *join, uint32_t block_idx,
                                  const struct matcher *matchers, size_t n_matchers,
                                  struct column_reader *chunks, struct err *err)
{
    struct engine_select *sel = join->sel;
    struct block *block = sel->view->blocks[block_idx];
    const struct block_info *info = block_info(block);
    bool inside = info->t_min_ms >= sel->mint_ms && info->t_max_ms <= sel->maxt_ms;
    uint32_t *ids;
    size_t n = 0, kept = 0;
    enum err_code rc = block_select(block, matchers, n_matchers, &join->scratch, &ids, &n, err);
    for (size_t i = 0; !rc && i < n; i++) {
        bool overlaps = true;
        if (i % SELECT_SERIES_PER_POLL == 0) rc = select_check_bounds(sel, 0, err);
        if (!rc && !inside)
            rc = column_reader_overlaps(chunks, (struct column_place){block_idx, ids[i]},
                                        sel->mint_ms, sel->maxt_ms, &overlaps, err);
        if (!rc && overlaps) ids[kept++] = ids[i];
    }
    if (rc || !kept) return rc;
    struct source *source = &join->sources[join->n_sources++];
    *source = (struct source){.ids = ids, .block_idx = block_idx, .n = kept};
    return reader_of(sel, block_idx, &source->labels, err);
}

static enum err_code find_sources(struct join *join, const struct matcher *matchers,
                                  size_t n_matchers, struct err *err)
{
    struct engine_select *sel = join->sel;
    size_t n_blocks = sel->view->n_blocks;
    struct column_reader *chunks = NULL;
    join->sources = ARENA_ARRAY(&join->scratch, struct source, n_blocks + 1);
    if (!join->sources) return arena_fail(&join->scratch, err);
    enum err_code rc = column_reader_new(sel->view->blocks, n_blocks, NULL, &chunks, err);
    for (size_t i = 0; !rc && i < n_blocks; i++) {
        const struct block_info *info = block_info(sel->view->blocks[i]);
        if (info->t_min_ms > sel->maxt_ms || info->t_max_ms < sel->mint_ms) continue;
        rc = block_source(join, (uint32_t)i, matchers, n_matchers, chunks, err);
    }
    column_reader_free(chunks);
    if (!rc && join->n_head) join->sources[join->n_sources++] = (struct source){.n = join->n_head};
    return rc;
}

/* ---- */

static bool any_block(const struct engine_select *sel)
{
    for (size_t i = 0; i < sel->view->n_blocks; i++) {
        const struct block_info *info = block_info(sel->view->blocks[i]);
        if (info->t_min_ms <= sel->maxt_ms && info->t_max_ms >= sel->mint_ms) return true;
    }
    return false;
}

static enum err_code make_items(struct join *join, struct err *err)
{
    size_t n = 0;
    for (size_t i = 0; i < join->n_sources; i++) n += join->sources[i].n;
    struct select_item *items = mem_calloc(MEM_QUERY, n, sizeof(*items));
    if (!items) return err_set(err, ERR_NO_MEMORY, "no memory for a select of %zu series", n);
    join->sel->items = items;
    join->sel->n = 0;
    return merge(join, err);
}

enum err_code select_join_blocks(struct engine_select *sel, const struct matcher *matchers,
                                 size_t n_matchers, struct err *err)
{
    if (!any_block(sel)) return ERR_OK;
    struct registry *reg = &sel->tenant->registry;
    struct join join = {.sel = sel, .head = sel->items, .n_head = sel->n};
    arena_init(&join.scratch, MEM_QUERY, 0);
    enum err_code rc = select_want_tables(sel, err);
    rwlock_read(&reg->lock);
    size_t n_pairs =
        reg->pairs.n_slots + 1; /* those of the head's series, which are there already */
    rwlock_release(&reg->lock);
    if (!rc && !sparse_init(&join.head_symbols, n_pairs))
        rc = err_set(err, ERR_NO_MEMORY, "no memory for a select");
    if (!rc) rc = find_sources(&join, matchers, n_matchers, err);
    bool only_head = join.n_sources == 0 || (join.n_sources == 1 && !join.sources[0].ids);
    if (!rc && !only_head) rc = make_items(&join, err);
    if (sel->items != join.head) mem_free(join.head);
    if (UNLIKELY(rc)) tenant_note_named(sel->tenant, sel->view->blocks, sel->view->n_blocks, err);
    sparse_release(&join.head_symbols);
    mem_free(join.head_pairs);
    arena_release(&join.scratch);
    return rc;
}
