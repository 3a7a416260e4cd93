/* engine/label_query.c: names and values of labels. Without matchers they come from the index; with matchers, from
 * the labels of what matches. The first 100 of a million values, in the head: 20 ms; with a matcher 84 ms instead of
 * the 8.8 s of a select, which joins and sorts series (measured beside other work). */
#include <stdlib.h>

#include "engine/engine_private.h"

/* What was found so far: texts that others keep until the answer is copied. When only the first few are wanted, no more than
 * some of those are held, and `bound` says what comes after all of them: of a million values most cost one comparison. */
struct texts {
    struct str *items;
    size_t n, cap;
    const struct label_want *want;
    size_t keep; /* one more than the limit, to see that there are more; 0: all */
    bool bounded;
    struct str bound; /* the last of `keep` texts: nothing from here on is needed */
};
#define TEXTS_PACK_MIN 1024 /* texts that are sorted at once, at least */

static void texts_init(struct texts *texts, const struct label_want *want)
{
    *texts = (struct texts){.want = want, .keep = want->limit ? want->limit + 1 : 0};
}

static int compare_texts(const void *a, const void *b)
{
    return str_cmp(*(const struct str *)a, *(const struct str *)b);
}

/* Sorts, makes unique, cuts. */
static void texts_pack(struct texts *texts)
{
    size_t n = 0;
    if (texts->n) qsort(texts->items, texts->n, sizeof(*texts->items), compare_texts);
    for (size_t i = 0; i < texts->n; i++)
        if (i == 0 || !str_eq(texts->items[i], texts->items[n - 1]))
            texts->items[n++] = texts->items[i];
    texts->n = n;
    if (!texts->keep || n < texts->keep) return;
    texts->n = texts->keep;
    texts->bounded = true;
    texts->bound = texts->items[texts->n - 1];
}

static bool texts_beyond(const struct texts *texts, struct str s)
{
    return texts->bounded && str_cmp(s, texts->bound) >= 0;
}

static bool texts_need(const struct texts *texts, struct str s)
{
    if (texts_beyond(texts, s)) return false;
    /* Neighbours repeat themselves: half of the sorting saved. */
    if (texts->n && str_eq(texts->items[texts->n - 1], s)) return false;
    return label_wanted(texts->want, s);
}

/* copies: where the text is kept, if nobody else does; NULL: somebody does. */
static enum err_code texts_add(struct texts *texts, struct str s, struct arena *copies,
                               struct err *err)
{
    if (!texts_need(texts, s)) return ERR_OK;
    if (copies) s = arena_str(copies, s);
    if (!s.p) return arena_fail(copies, err);
    void *items = texts->items;
    enum err_code rc =
        mem_grow(MEM_QUERY, &items, &texts->cap, texts->n + 1, sizeof(*texts->items), err);
    texts->items = items;
    if (rc) return rc;
    texts->items[texts->n++] = s;
    if (texts->keep && texts->n >= MAX_OF((size_t)TEXTS_PACK_MIN, texts->keep) &&
        texts->n / 2 >= texts->keep)
        texts_pack(texts);
    return ERR_OK;
}

static enum err_code texts_finish(struct texts *texts, struct arena *arena, struct str **out,
                                  size_t *n, bool *truncated, struct err *err)
{
    size_t limit = texts->want->limit;
    texts_pack(texts);
    *truncated = limit > 0 && texts->n > limit;
    *n = *truncated ? limit : texts->n;
    *out = ARENA_ARRAY(arena, struct str, *n);
    if (!*out) return arena_fail(arena, err);
    for (size_t i = 0; i < *n; i++) {
        (*out)[i] = arena_str(arena, texts->items[i]);
        if (!(*out)[i].p) return arena_fail(arena, err);
    }
    return ERR_OK;
}

/* ---- from the index ---- */

struct label_query {
    const struct str *name; /* NULL: names are asked for */
    const struct matcher *matchers;
    size_t n_matchers;
    int64_t mint_ms, maxt_ms;
    const struct tombstone_set *deleted; /* NULL: nothing of that time */
    bool *touches;                       /* by tombstone: some source has series that it touches */
};

/* Which series each tombstone of the query's time touches; `select` asks one source. */
struct touched {
    uint32_t *ids; /* ascending, unique, in the arena */
    size_t n;
};
typedef enum err_code touched_select_fn(void *source, const struct tombstone_view *v,
                                        struct arena *arena, uint32_t **ids, size_t *n,
                                        struct err *err);

static enum err_code select_in_registry(void *source, const struct tombstone_view *v,
                                        struct arena *arena, uint32_t **ids, size_t *n,
                                        struct err *err)
{
    return registry_select(source, v->matchers, v->n_matchers, arena, ids, n, err);
}

static enum err_code select_in_block(void *source, const struct tombstone_view *v,
                                     struct arena *arena, uint32_t **ids, size_t *n,
                                     struct err *err)
{
    const struct block_info *info = block_info(source);
    *n = 0;
    if (v->mint_ms > info->t_max_ms || v->maxt_ms < info->t_min_ms) return ERR_OK;
    return block_select(source, v->matchers, v->n_matchers, arena, ids, n, err);
}

/* The union of two ascending lists. */
static enum err_code touched_add(struct touched *all, const uint32_t *ids, size_t n,
                                 struct arena *arena, struct err *err)
{
    uint32_t *both = ARENA_ARRAY(arena, uint32_t, MAX_OF(all->n + n, (size_t)1));
    if (!both) return arena_fail(arena, err);
    size_t i = 0, k = 0, to = 0;
    while (i < all->n || k < n) {
        bool first = k == n || (i < all->n && all->ids[i] <= ids[k]);
        uint32_t id = first ? all->ids[i] : ids[k];
        if (i < all->n && all->ids[i] == id) i++;
        if (k < n && ids[k] == id) k++;
        both[to++] = id;
    }
    all->ids = both;
    all->n = to;
    return ERR_OK;
}

static enum err_code touched_init(struct touched *all, const struct label_query *q,
                                  touched_select_fn *select, void *source, struct arena *arena,
                                  struct err *err)
{
    enum err_code rc = ERR_OK;
    *all = (struct touched){NULL, 0};
    for (size_t i = 0; !rc && q->deleted && i < q->deleted->n; i++) {
        struct tombstone_view v = tombstone_view(q->deleted->items[i]);
        uint32_t *ids = NULL;
        size_t n = 0;
        if (v.mint_ms > q->maxt_ms || v.maxt_ms < q->mint_ms) continue;
        rc = select(source, &v, arena, &ids, &n, err);
        if (!rc && n) {
            q->touches[i] = true;
            rc = touched_add(all, ids, n, arena, err);
        }
    }
    return rc;
}

/* Takes them out of an ascending list; returns how many are left. */
static size_t without_touched(const struct touched *all, uint32_t *ids, size_t n)
{
    size_t to = 0, k = 0;
    for (size_t i = 0; i < n; i++) {
        while (k < all->n && all->ids[k] < ids[i]) k++;
        if (k == all->n || all->ids[k] != ids[i]) ids[to++] = ids[i];
    }
    return to;
}

/* NULL name: names. Texts of the registry live as long as the view is held. */
static enum err_code head_texts(struct tenant *t, const struct str *name, struct texts *texts,
                                struct err *err)
{
    enum err_code rc = ERR_OK;
    struct registry *reg = &t->registry;
    rwlock_read(&reg->lock);
    if (name) {
        uint32_t id = registry_find_name(reg, *name);
        const struct label_name *found = id ? registry_name(reg, id) : NULL;
        for (size_t i = 0; !rc && found && i < found->n; i++) {
            const struct label_pair *pair = registry_pair(reg, found->pairs[i]);
            rc = texts_add(texts, label_pair_value(pair), NULL, err);
        }
    } else {
        for (uint32_t id = 1; !rc && id <= reg->names.n_slots; id++) {
            const struct label_name *found = registry_name(reg, id);
            if (found) rc = texts_add(texts, (struct str){found->text, found->len}, NULL, err);
        }
    }
    rwlock_release(&reg->lock);
    return rc;
}

struct block_scan {
    struct texts *texts;
    struct arena *copies;
};

static enum err_code add_block_value(void *ctx, struct str value, bool *done, struct err *err)
{
    struct block_scan *scan = ctx;
    *done = texts_beyond(scan->texts, value); /* a block's values are in order */
    return *done ? ERR_OK : texts_add(scan->texts, value, scan->copies, err);
}

static enum err_code block_texts(struct block *block, const struct str *name, struct arena *scratch,
                                 struct texts *texts, struct err *err)
{
    struct block_scan scan = {texts, scratch};
    struct str *items;
    size_t n = 0;
    if (name) return block_each_value(block, *name, add_block_value, &scan, err);
    enum err_code rc = block_label_names(block, scratch, &items, &n, err);
    for (size_t i = 0; !rc && i < n; i++) rc = texts_add(texts, items[i], NULL, err);
    return rc;
}

/* ---- from series: unlike a select, nothing is joined or sorted ---- */

static enum err_code labels_texts(const struct label_query *q, struct labels labels,
                                  struct arena *copies, struct texts *texts, struct err *err)
{
    enum err_code rc = ERR_OK;
    for (size_t k = 0; !rc && k < labels.n; k++) {
        if (!q->name)
            rc = texts_add(texts, labels.items[k].name, copies, err);
        else if (str_eq(labels.items[k].name, *q->name))
            rc = texts_add(texts, labels.items[k].value, copies, err);
    }
    return rc;
}

/* Texts of the registry live as long as the view is held. Under the registry's lock. */
static enum err_code pairs_texts(const struct registry *reg, const struct series *s,
                                 const struct label_query *q, uint32_t name_id, struct texts *texts,
                                 struct err *err)
{
    enum err_code rc = ERR_OK;
    for (size_t k = 0; !rc && k < s->n_pairs; k++) {
        const struct label_pair *pair = registry_pair(reg, s->pairs[k]);
        if (!q->name)
            rc = texts_add(texts, registry_label(reg, s, k).name, NULL, err);
        else if (pair->name == name_id)
            rc = texts_add(texts, label_pair_value(pair), NULL, err);
    }
    return rc;
}

static enum err_code matched_head(struct tenant *t, const struct view *view,
                                  const struct label_query *q, const struct touched *touched,
                                  struct texts *texts, struct err *err)
{
    struct registry *reg = &t->registry;
    struct arena scratch;
    uint32_t *ids;
    size_t n = 0;
    arena_init(&scratch, MEM_QUERY, 0);
    rwlock_read(&reg->lock);
    uint32_t name_id = q->name ? registry_find_name(reg, *q->name) : 0;
    enum err_code rc = registry_select(reg, q->matchers, q->n_matchers, &scratch, &ids, &n, err);
    if (!rc) n = without_touched(touched, ids, n);
    if (!rc) n = tenant_keep_overlapping(t, view->flushed_gen, q->mint_ms, q->maxt_ms, ids, n);
    for (size_t i = 0; !rc && i < n; i++)
        rc = pairs_texts(reg, series_by_id(reg, ids[i]), q, name_id, texts, err);
    rwlock_release(&reg->lock);
    arena_release(&scratch);
    return rc;
}

static enum err_code matched_block(struct block *block, const struct label_query *q,
                                   const struct touched *touched, struct arena *copies,
                                   struct texts *texts, struct err *err)
{
    const struct block_info *info = block_info(block);
    bool inside = info->t_min_ms >= q->mint_ms && info->t_max_ms <= q->maxt_ms;
    struct arena scratch;
    uint32_t *ids;
    size_t n = 0;
    arena_init(&scratch, MEM_QUERY, 0);
    enum err_code rc = block_select(block, q->matchers, q->n_matchers, &scratch, &ids, &n, err);
    if (!rc) n = without_touched(touched, ids, n);
    struct arena_mark mark = arena_mark(&scratch);
    for (size_t i = 0; !rc && i < n; i++) {
        struct labels labels;
        bool overlaps = inside;
        if (!inside) rc = block_overlaps(block, ids[i], q->mint_ms, q->maxt_ms, &overlaps, err);
        if (rc || !overlaps) continue;
        rc = block_labels(block, ids[i], &scratch, &labels, err);
        if (!rc) rc = labels_texts(q, labels, copies, texts, err);
        arena_rewind(&scratch, mark);
    }
    arena_release(&scratch);
    return rc;
}

/* ---- all sources ---- */

/* The index of the head names labels of all its series. With matchers that is too many, and also when some have no
 * samples left. */
static enum err_code query_head(struct tenant *t, const struct view *view,
                                const struct label_query *q, struct texts *texts, struct err *err)
{
    int64_t min_ms, max_ms;
    struct registry *reg = &t->registry;
    struct touched touched;
    struct arena scratch;
    tenant_head_range(t, &min_ms, &max_ms);
    if (min_ms > q->maxt_ms || max_ms < q->mint_ms) return ERR_OK;
    arena_init(&scratch, MEM_QUERY, 0);
    rwlock_read(&reg->lock);
    enum err_code rc = touched_init(&touched, q, select_in_registry, reg, &scratch, err);
    rwlock_release(&reg->lock);
    bool ghosts = atomic_load_explicit(&t->ghost_gen, memory_order_relaxed) != 0;
    if (!rc && (q->n_matchers || touched.n || ghosts))
        rc = matched_head(t, view, q, &touched, texts, err);
    else if (!rc)
        rc = head_texts(t, q->name, texts, err);
    arena_release(&scratch);
    return rc;
}

static enum err_code query_block(struct block *block, const struct label_query *q,
                                 struct arena *copies, struct texts *texts, struct err *err)
{
    const struct block_info *info = block_info(block);
    struct touched touched;
    struct arena scratch;
    if (info->t_min_ms > q->maxt_ms || info->t_max_ms < q->mint_ms) return ERR_OK;
    arena_init(&scratch, MEM_QUERY, 0);
    enum err_code rc = touched_init(&touched, q, select_in_block, block, &scratch, err);
    if (!rc && (q->n_matchers || touched.n))
        rc = matched_block(block, q, &touched, copies, texts, err);
    else if (!rc)
        rc = block_texts(block, q->name, copies, texts, err);
    arena_release(&scratch);
    return rc;
}

/* Of the series that one tombstone touches, those that have samples left. */
static enum err_code query_survivors(struct tenant *t, const struct label_query *q,
                                     const struct tombstone_view *v, struct arena *copies,
                                     struct texts *texts, struct err *err)
{
    size_t n = q->n_matchers + v->n_matchers;
    struct matcher *both = ARENA_ARRAY(copies, struct matcher, MAX_OF(n, (size_t)1));
    struct engine_select *sel;
    if (!both) return arena_fail(copies, err);
    if (q->n_matchers) memcpy(both, q->matchers, q->n_matchers * sizeof(*both));
    if (v->n_matchers) memcpy(both + q->n_matchers, v->matchers, v->n_matchers * sizeof(*both));
    enum err_code rc = tenant_select(t, both, n, q->mint_ms, q->maxt_ms, &sel, err);
    for (size_t i = 0; !rc && i < select_count(sel); i++)
        rc = labels_texts(q, select_labels(sel, i), copies, texts, err);
    select_release(sel);
    return rc;
}

static enum err_code query_all(struct tenant *t, const struct view *view,
                               const struct label_query *q, struct arena *copies,
                               struct texts *texts, struct err *err)
{
    enum err_code rc = query_head(t, view, q, texts, err);
    for (size_t i = 0; !rc && i < view->n_blocks; i++) {
        rc = query_block(view->blocks[i], q, copies, texts, err);
        if (rc) tenant_note_damage(t, block_info(view->blocks[i]), err);
    }
    for (size_t i = 0; !rc && q->deleted && i < q->deleted->n; i++) {
        struct tombstone_view v = tombstone_view(q->deleted->items[i]);
        bool all = v.mint_ms <= q->mint_ms && v.maxt_ms >= q->maxt_ms;
        if (q->touches[i] && !all) rc = query_survivors(t, q, &v, copies, texts, err);
    }
    return rc;
}

static enum err_code label_query(struct tenant *t, struct label_query *q,
                                 const struct label_want *want, struct arena *arena,
                                 struct str **out, size_t *n, bool *truncated, struct err *err)
{
    struct texts texts;
    struct arena scratch;
    arena_init(&scratch, MEM_QUERY, 0);
    texts_init(&texts, want);
    struct tombstone_set *deleted = tombstones_take(&t->tombstones); /* before the view */
    struct view *view = views_take(&t->views);
    enum err_code rc = engine_admit(t->engine, ENGINE_QUERY, err);
    if (!rc && tombstone_set_overlaps(deleted, q->mint_ms, q->maxt_ms)) {
        q->deleted = deleted;
        q->touches = ARENA_ARRAY(&scratch, bool, deleted->n);
        if (!q->touches) rc = arena_fail(&scratch, err);
        for (size_t i = 0; !rc && i < deleted->n; i++) q->touches[i] = false;
    }
    if (!rc) rc = query_all(t, view, q, &scratch, &texts, err);
    if (!rc) rc = texts_finish(&texts, arena, out, n, truncated, err);
    views_give(&t->views, view);
    tombstone_set_give(deleted);
    arena_release(&scratch);
    mem_free(texts.items);
    return rc;
}

enum err_code tenant_label_names(struct tenant *t, const struct matcher *matchers,
                                 size_t n_matchers, int64_t mint_ms, int64_t maxt_ms,
                                 const struct label_want *want, struct arena *arena,
                                 struct str **out, size_t *n, bool *truncated, struct err *err)
{
    struct label_query q = {NULL, matchers, n_matchers, mint_ms, maxt_ms, NULL, NULL};
    return label_query(t, &q, want, arena, out, n, truncated, err);
}

enum err_code tenant_label_values(struct tenant *t, struct str name, const struct matcher *matchers,
                                  size_t n_matchers, int64_t mint_ms, int64_t maxt_ms,
                                  const struct label_want *want, struct arena *arena,
                                  struct str **out, size_t *n, bool *truncated, struct err *err)
{
    struct label_query q = {&name, matchers, n_matchers, mint_ms, maxt_ms, NULL, NULL};
    return label_query(t, &q, want, arena, out, n, truncated, err);
}
