/* query/source_tenants.c: see the header. Selects of the tenants side by side; the label sets with the added label belong
 * to the select, their texts to the tenants' selects. */
#include "query/source_tenants.h"

#include <stdlib.h>

static const struct str TENANT = STR(TENANT_LABEL);
static const struct str ORIGINAL = STR(TENANT_LABEL_ORIGINAL);

struct item {
    struct labels labels;
    uint32_t tenant;
    size_t idx; /* in that tenant's select */
};
struct source_select {
    const struct source_tenants *src;
    struct source_select **selects; /* per tenant; NULL: none */
    struct item *items;
    size_t n;
    struct arena arena; /* all of the above */
};

static const struct source_tenants *of(struct query_source *src)
{
    return (const struct source_tenants *)(void *)src;
}

/* --- matchers -------------------------------------------------------------------------------------- */

struct split {
    struct matcher *inner; /* for the tenants' sources */
    size_t n_inner;
    const struct matcher **tenant; /* on __tenant_id__ */
    size_t n_tenant;
};

static enum err_code split_matchers(const struct matcher *matchers, size_t n, struct arena *arena,
                                    struct split *out, struct err *err)
{
    *out = (struct split){.inner = ARENA_ARRAY(arena, struct matcher, n + 1),
                          .tenant = ARENA_ARRAY(arena, const struct matcher *, n + 1)};
    if (!out->inner || !out->tenant) return arena_fail(arena, err);
    for (size_t i = 0; i < n; i++) {
        if (str_eq(matchers[i].name, TENANT)) {
            out->tenant[out->n_tenant++] = &matchers[i];
            continue;
        }
        struct matcher *m = &out->inner[out->n_inner++];
        *m = matchers[i];
        if (str_eq(m->name, ORIGINAL)) m->name = TENANT;
    }
    return ERR_OK;
}

static bool is_chosen(const struct split *split, struct str tenant)
{
    for (size_t i = 0; i < split->n_tenant; i++)
        if (!matcher_matches(split->tenant[i], tenant)) return false;
    return true;
}

/* --- series ---------------------------------------------------------------------------------------- */

static enum err_code add_label(struct arena *arena, struct labels in, struct str tenant,
                               struct labels *out, struct err *err)
{
    struct label *items = ARENA_ARRAY(arena, struct label, in.n + 1);
    if (!items) return arena_fail(arena, err);
    for (size_t i = 0; i < in.n; i++) {
        items[i] = in.items[i];
        if (str_eq(items[i].name, TENANT)) items[i].name = ORIGINAL;
    }
    items[in.n] = (struct label){TENANT, tenant};
    labels_sort(items, in.n + 1);
    *out = (struct labels){items, in.n + 1};
    return ERR_OK;
}

static int compare_items(const void *a, const void *b)
{
    return labels_cmp(((const struct item *)a)->labels, ((const struct item *)b)->labels);
}

static enum err_code join(struct source_select *sel, struct err *err)
{
    const struct source_tenants *src = sel->src;
    size_t total = 0;
    for (size_t t = 0; t < src->n; t++)
        if (sel->selects[t]) total += src->tenants[t].source->ops->count(sel->selects[t]);
    sel->items = ARENA_ARRAY(&sel->arena, struct item, total + 1);
    if (!sel->items) return arena_fail(&sel->arena, err);
    for (size_t t = 0; t < src->n; t++) {
        const struct source_tenant *tenant = &src->tenants[t];
        const struct query_source_ops *ops = tenant->source->ops;
        size_t n = sel->selects[t] ? ops->count(sel->selects[t]) : 0;
        for (size_t i = 0; i < n; i++) {
            struct item *item = &sel->items[sel->n];
            *item = (struct item){.tenant = (uint32_t)t, .idx = i};
            enum err_code rc = add_label(&sel->arena, ops->labels(sel->selects[t], i), tenant->name,
                                         &item->labels, err);
            if (rc) return rc;
            sel->n++;
        }
    }
    if (sel->n) qsort(sel->items, sel->n, sizeof *sel->items, compare_items);
    return ERR_OK;
}

static void op_release(struct source_select *sel)
{
    if (!sel) return;
    const struct source_tenants *src = sel->src;
    for (size_t t = 0; sel->selects && t < src->n; t++)
        if (sel->selects[t]) src->tenants[t].source->ops->release(sel->selects[t]);
    arena_release(&sel->arena);
    mem_free(sel);
}

static enum err_code select_all(struct source_select *sel, const struct matcher *matchers,
                                size_t n_matchers, int64_t mint_ms, int64_t maxt_ms,
                                struct err *err)
{
    const struct source_tenants *src = sel->src;
    struct split split;
    enum err_code rc = split_matchers(matchers, n_matchers, &sel->arena, &split, err);
    if (rc) return rc;
    sel->selects = ARENA_ARRAY(&sel->arena, struct source_select *, src->n);
    if (!sel->selects) return arena_fail(&sel->arena, err);
    for (size_t t = 0; !rc && t < src->n; t++) {
        struct query_source *inner = src->tenants[t].source;
        if (!is_chosen(&split, src->tenants[t].name)) continue;
        inner->bounds = src->source.bounds;
        rc = inner->ops->select(inner, split.inner, split.n_inner, mint_ms, maxt_ms,
                                &sel->selects[t], err);
        inner->bounds = NULL;
        if (rc) sel->selects[t] = NULL;
    }
    return rc ? rc : join(sel, err);
}

static enum err_code op_select(struct query_source *source, const struct matcher *matchers,
                               size_t n_matchers, int64_t mint_ms, int64_t maxt_ms,
                               struct source_select **out, struct err *err)
{
    struct source_select *sel = mem_calloc(MEM_QUERY, 1, sizeof *sel);
    *out = NULL;
    if (!sel) return err_set(err, ERR_NO_MEMORY, "no memory for a select");
    sel->src = of(source);
    arena_init(&sel->arena, MEM_QUERY, sel->src->memory_bytes_max);
    enum err_code rc = select_all(sel, matchers, n_matchers, mint_ms, maxt_ms, err);
    if (rc)
        op_release(sel);
    else
        *out = sel;
    return rc;
}

static enum err_code op_estimate(struct query_source *source, const struct matcher *matchers,
                                 size_t n_matchers, int64_t mint_ms, int64_t maxt_ms,
                                 uint64_t *series, uint64_t *samples, struct err *err)
{
    const struct source_tenants *src = of(source);
    struct arena arena;
    struct split split;
    arena_init(&arena, MEM_QUERY, src->memory_bytes_max);
    *series = *samples = 0;
    enum err_code rc = split_matchers(matchers, n_matchers, &arena, &split, err);
    for (size_t t = 0; !rc && t < src->n; t++) {
        struct query_source *inner = src->tenants[t].source;
        uint64_t its_series = 0, its_samples = 0;
        if (!inner->ops->estimate || !is_chosen(&split, src->tenants[t].name)) continue;
        rc = inner->ops->estimate(inner, split.inner, split.n_inner, mint_ms, maxt_ms, &its_series,
                                  &its_samples, err);
        *series += its_series;
        *samples += its_samples;
    }
    arena_release(&arena);
    return rc;
}

static size_t op_count(const struct source_select *sel)
{
    return sel->n;
}

static struct labels op_labels(const struct source_select *sel, size_t i)
{
    return sel->items[i].labels;
}

static enum err_code op_read(struct source_select *sel, size_t i, int64_t mint_ms, int64_t maxt_ms,
                             struct samples *out, struct err *err)
{
    const struct item *item = &sel->items[i];
    const struct query_source_ops *ops = sel->src->tenants[item->tenant].source->ops;
    return ops->read(sel->selects[item->tenant], item->idx, mint_ms, maxt_ms, out, err);
}

static enum err_code op_read_last(struct source_select *sel, size_t i, int64_t mint_ms,
                                  int64_t maxt_ms, struct samples *out, struct err *err)
{
    const struct item *item = &sel->items[i];
    const struct query_source_ops *ops = sel->src->tenants[item->tenant].source->ops;
    return (ops->read_last ? ops->read_last : ops->read)(sel->selects[item->tenant], item->idx,
                                                         mint_ms, maxt_ms, out, err);
}

/* --- names and values ------------------------------------------------------------------------------ */

struct texts {
    struct str *items;
    size_t n, cap;
    struct arena *arena;
};

static enum err_code texts_add(struct texts *texts, const struct str *items, size_t n,
                               struct err *err)
{
    if (texts->n + n > texts->cap) {
        size_t cap = MAX_OF(texts->n + n, 2 * texts->cap);
        struct str *grown = ARENA_ARRAY(texts->arena, struct str, cap);
        if (!grown) return arena_fail(texts->arena, err);
        if (texts->n) memcpy(grown, texts->items, texts->n * sizeof *grown);
        texts->items = grown;
        texts->cap = cap;
    }
    if (n) memcpy(texts->items + texts->n, items, n * sizeof *items);
    texts->n += n;
    return ERR_OK;
}

static int compare_str(const void *a, const void *b)
{
    return str_cmp(*(const struct str *)a, *(const struct str *)b);
}

static void texts_finish(struct texts *texts, const struct label_want *want, struct str **out,
                         size_t *n, bool *truncated)
{
    size_t n_unique = 0;
    if (texts->n) qsort(texts->items, texts->n, sizeof *texts->items, compare_str);
    for (size_t i = 0; i < texts->n; i++)
        if (i == 0 || !str_eq(texts->items[i], texts->items[n_unique - 1]))
            texts->items[n_unique++] = texts->items[i];
    *truncated = want->limit && n_unique > want->limit;
    *n = *truncated ? want->limit : n_unique;
    *out = texts->items;
}

struct label_request {
    struct str name; /* empty: names */
    const struct matcher *matchers;
    size_t n_matchers;
    int64_t mint_ms, maxt_ms;
    struct label_want want; /* with one more than the limit, to see that there are more */
};

static enum err_code inner_texts(struct query_source *inner, const struct label_request *r,
                                 struct arena *arena, struct str **items, size_t *n,
                                 struct err *err)
{
    bool cut;
    if (r->name.len)
        return inner->ops->label_values(inner, r->name, r->matchers, r->n_matchers, r->mint_ms,
                                        r->maxt_ms, &r->want, arena, items, n, &cut, err);
    return inner->ops->label_names(inner, r->matchers, r->n_matchers, r->mint_ms, r->maxt_ms,
                                   &r->want, arena, items, n, &cut, err);
}

/* A tenant's names as they are shown: its own __tenant_id__ has become another, and the new one is always there. */
static enum err_code add_names(struct texts *texts, struct str *names, size_t n,
                               const struct label_want *want, struct err *err)
{
    for (size_t i = 0; i < n; i++) {
        bool renamed = str_eq(names[i], TENANT);
        if (renamed && !label_wanted(want, ORIGINAL)) continue;
        enum err_code rc = texts_add(texts, renamed ? &ORIGINAL : &names[i], 1, err);
        if (rc) return rc;
    }
    return label_wanted(want, TENANT) ? texts_add(texts, &TENANT, 1, err) : ERR_OK;
}

static enum err_code all_texts(struct query_source *source, struct label_request *r,
                               const struct matcher *matchers, size_t n_matchers,
                               struct texts *texts, struct err *err)
{
    const struct source_tenants *src = of(source);
    struct split split;
    bool tenant_names = str_eq(r->name, TENANT);
    enum err_code rc = split_matchers(matchers, n_matchers, texts->arena, &split, err);
    if (rc) return rc;
    r->matchers = split.inner;
    r->n_matchers = split.n_inner;
    if (str_eq(r->name, ORIGINAL)) r->name = TENANT;
    for (size_t t = 0; !rc && t < src->n; t++) {
        const struct source_tenant *tenant = &src->tenants[t];
        struct str *items;
        size_t n = 0;
        if (!is_chosen(&split, tenant->name)) continue;
        if (tenant_names) {
            if (label_wanted(&r->want, tenant->name)) rc = texts_add(texts, &tenant->name, 1, err);
            continue;
        }
        rc = inner_texts(tenant->source, r, texts->arena, &items, &n, err);
        if (rc) break;
        rc = r->name.len ? texts_add(texts, items, n, err)
                         : add_names(texts, items, n, &r->want, err);
    }
    return rc;
}

static enum err_code find_texts(struct query_source *source, struct label_request *r,
                                const struct matcher *matchers, size_t n_matchers,
                                const struct label_want *want, struct arena *arena,
                                struct str **out, size_t *n, bool *truncated, struct err *err)
{
    struct texts texts = {.arena = arena};
    r->want = (struct label_want){want->limit ? want->limit + 1 : 0, want->search};
    enum err_code rc = all_texts(source, r, matchers, n_matchers, &texts, err);
    if (!rc) texts_finish(&texts, want, out, n, truncated);
    return rc;
}

static enum err_code op_label_names(struct query_source *source, const struct matcher *matchers,
                                    size_t n_matchers, int64_t mint_ms, int64_t maxt_ms,
                                    const struct label_want *want, struct arena *arena,
                                    struct str **out, size_t *n, bool *truncated, struct err *err)
{
    struct label_request r = {.name = STR(""), .mint_ms = mint_ms, .maxt_ms = maxt_ms};
    return find_texts(source, &r, matchers, n_matchers, want, arena, out, n, truncated, err);
}

static enum err_code op_label_values(struct query_source *source, struct str name,
                                     const struct matcher *matchers, size_t n_matchers,
                                     int64_t mint_ms, int64_t maxt_ms,
                                     const struct label_want *want, struct arena *arena,
                                     struct str **out, size_t *n, bool *truncated, struct err *err)
{
    struct label_request r = {.name = name, .mint_ms = mint_ms, .maxt_ms = maxt_ms};
    return find_texts(source, &r, matchers, n_matchers, want, arena, out, n, truncated, err);
}

/* --- what is missing ------------------------------------------------------------------------------- */

static enum err_code op_warnings(struct query_source *source, int64_t mint_ms, int64_t maxt_ms,
                                 struct arena *arena, struct str **out, size_t *n, struct err *err)
{
    const struct source_tenants *src = of(source);
    struct texts texts = {.arena = arena};
    enum err_code rc = ERR_OK;
    for (size_t t = 0; !rc && t < src->n; t++) {
        struct query_source *inner = src->tenants[t].source;
        struct str *items;
        size_t n_items = 0;
        if (!inner->ops->warnings) continue;
        rc = inner->ops->warnings(inner, mint_ms, maxt_ms, arena, &items, &n_items, err);
        if (!rc) rc = texts_add(&texts, items, n_items, err);
    }
    *out = texts.items;
    *n = texts.n;
    return rc;
}

/* --- metadata -------------------------------------------------------------------------------------- */

static int compare_metadata(const void *a, const void *b)
{
    const struct source_metadata *x = a, *y = b;
    int c = str_cmp(x->family, y->family);
    if (!c) c = str_cmp(x->type, y->type);
    if (!c) c = str_cmp(x->unit, y->unit);
    return c ? c : str_cmp(x->help, y->help);
}

/* What several tenants say alike comes once. */
static enum err_code op_metadata(struct query_source *source, struct str family,
                                 struct arena *arena, struct source_metadata **out, size_t *n,
                                 struct err *err)
{
    const struct source_tenants *src = of(source);
    struct source_metadata *all = NULL;
    size_t total = 0;
    for (size_t t = 0; t < src->n; t++) {
        struct query_source *inner = src->tenants[t].source;
        struct source_metadata *items;
        size_t n_items;
        enum err_code rc = inner->ops->metadata(inner, family, arena, &items, &n_items, err);
        if (rc) return rc;
        struct source_metadata *grown =
            ARENA_ARRAY(arena, struct source_metadata, total + n_items + 1);
        if (!grown) return arena_fail(arena, err);
        if (total) memcpy(grown, all, total * sizeof *grown);
        if (n_items) memcpy(grown + total, items, n_items * sizeof *grown);
        all = grown;
        total += n_items;
    }
    if (total) qsort(all, total, sizeof *all, compare_metadata);
    size_t n_unique = 0;
    for (size_t i = 0; i < total; i++)
        if (i == 0 || compare_metadata(&all[i], &all[n_unique - 1]) != 0) all[n_unique++] = all[i];
    *out = all;
    *n = n_unique;
    return ERR_OK;
}

static int compare_exemplars(const void *a, const void *b)
{
    return labels_cmp(((const struct series_exemplars *)a)->series,
                      ((const struct series_exemplars *)b)->series);
}

/* The sets for one tenant: without what is asked of its name, and those alone that its name fits. */
static enum err_code sets_of(const struct matcher_set *sets, size_t n_sets, struct str tenant,
                             struct arena *arena, struct matcher_set **out, size_t *n,
                             struct err *err)
{
    *n = 0;
    *out = ARENA_ARRAY(arena, struct matcher_set, n_sets + 1);
    if (!*out) return arena_fail(arena, err);
    for (size_t i = 0; i < n_sets; i++) {
        struct split split;
        enum err_code rc = split_matchers(sets[i].items, sets[i].n, arena, &split, err);
        if (rc) return rc;
        if (is_chosen(&split, tenant))
            (*out)[(*n)++] = (struct matcher_set){split.inner, split.n_inner};
    }
    return ERR_OK;
}

static enum err_code op_exemplars(struct query_source *source, const struct matcher_set *sets,
                                  size_t n_sets, int64_t mint_ms, int64_t maxt_ms,
                                  struct arena *arena, struct series_exemplars **out, size_t *n,
                                  struct err *err)
{
    const struct source_tenants *src = of(source);
    *out = NULL;
    *n = 0;
    for (size_t t = 0; t < src->n; t++) {
        struct query_source *inner = src->tenants[t].source;
        struct matcher_set *own;
        struct series_exemplars *items;
        size_t n_own, n_items;
        enum err_code rc = sets_of(sets, n_sets, src->tenants[t].name, arena, &own, &n_own, err);
        if (rc) return rc;
        if (n_own == 0 || !inner->ops->exemplars) continue;
        rc = inner->ops->exemplars(inner, own, n_own, mint_ms, maxt_ms, arena, &items, &n_items,
                                   err);
        if (rc) return rc;
        struct series_exemplars *grown =
            ARENA_ARRAY(arena, struct series_exemplars, *n + n_items + 1);
        if (!grown) return arena_fail(arena, err);
        if (*n) memcpy(grown, *out, *n * sizeof *grown);
        for (size_t i = 0; i < n_items; i++) {
            struct series_exemplars *to = &grown[*n];
            *to = items[i];
            rc = add_label(arena, items[i].series, src->tenants[t].name, &to->series, err);
            if (rc) return rc;
            ++*n;
        }
        *out = grown;
    }
    if (*n) qsort(*out, *n, sizeof **out, compare_exemplars);
    return ERR_OK;
}

void source_tenants_init(struct source_tenants *src, const struct source_tenant *tenants, size_t n,
                         size_t memory_bytes_max)
{
    static const struct query_source_ops OPS = {.select = op_select,
                                                .count = op_count,
                                                .labels = op_labels,
                                                .read = op_read,
                                                .read_last = op_read_last,
                                                .release = op_release,
                                                .estimate = op_estimate,
                                                .label_names = op_label_names,
                                                .label_values = op_label_values,
                                                .warnings = op_warnings,
                                                .exemplars = op_exemplars,
                                                .metadata = op_metadata};
    *src = (struct source_tenants){{.ops = &OPS}, tenants, n, memory_bytes_max};
}
