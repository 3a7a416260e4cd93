/* engine/registry_select.c: matchers -> series, and series in label order.
 *
 * One matcher that no missing label can satisfy leads: the one with the fewest series. Its postings are decoded,
 * and what they name is tested against the others by looking at the series' own pairs. */
#include <stdlib.h>

#include "engine/registry.h"

struct plan {
    const struct matcher *m;
    uint32_t name;   /* 0: no series has the label */
    bool empty_ok;   /* a series without the label satisfies it */
    uint64_t n_most; /* bound of how many satisfy it by a value */
    uint64_t
        *bits; /* a bit per pair of the name: set where the value satisfies; NULL: ask per series */
};

struct selection {
    struct registry *reg;
    struct arena *arena;
    struct err *err;
    uint32_t *ids;
    size_t n;
};

static bool bit_test(const uint64_t *bits, size_t i)
{
    return bits[i / 64] >> (i % 64) & 1;
}

/* ---- which pairs of a name satisfy a matcher ---- */

/* Calls fn for each; a list of literals is looked up, not searched. */
static void each_matching_pair(struct registry *reg, const struct plan *plan,
                               void (*fn)(void *ctx, uint32_t pair), void *ctx)
{
    const struct matcher *m = plan->m;
    const struct label_name *name = registry_name(reg, plan->name);
    bool is_eq = m->op == MATCH_EQ, is_list = m->op == MATCH_RE && m->n_literals > 0;
    if (is_eq || is_list) {
        for (size_t i = 0; i < (is_eq ? 1 : m->n_literals); i++) {
            uint32_t pair = registry_find_pair(reg, plan->name, is_eq ? m->value : m->literals[i]);
            if (pair) fn(ctx, pair);
        }
        return;
    }
    for (size_t i = 0; i < name->n; i++) {
        struct str value = label_pair_value(registry_pair(reg, name->pairs[i]));
        if (m->op == MATCH_RE && !str_has_prefix(value, m->prefix)) continue;
        if (matcher_matches(m, value)) fn(ctx, name->pairs[i]);
    }
}

struct pair_sum {
    struct registry *reg;
    uint64_t n_ids;
    uint32_t n_lists, only;
    uint64_t *bits; /* of pairs or of series; NULL: just count */
};

static void sum_pair(void *ctx, uint32_t pair)
{
    struct pair_sum *sum = ctx;
    sum->n_ids += registry_pair(sum->reg, pair)->ids.n;
    sum->n_lists++;
    sum->only = pair;
}

static void mark_pair(void *ctx, uint32_t pair)
{
    struct pair_sum *sum = ctx;
    sum->bits[pair / 64] |= UINT64_C(1) << (pair % 64);
}

static struct plan plan_make(struct registry *reg, const struct matcher *m)
{
    struct plan plan = {.m = m,
                        .name = registry_find_name(reg, m->name),
                        .empty_ok = matcher_matches_empty(m),
                        .n_most = atomic_load_explicit(&reg->n_series, memory_order_relaxed)};
    if (!plan.name) {
        plan.n_most = 0;
    } else if (m->op == MATCH_EQ || (m->op == MATCH_RE && m->n_literals > 0)) {
        struct pair_sum sum = {.reg = reg};
        each_matching_pair(reg, &plan, sum_pair, &sum);
        plan.n_most = sum.n_ids;
    }
    return plan;
}

/* ---- the leader: union of postings ---- */

struct union_ctx {
    struct registry *reg;
    uint64_t *bits; /* of series, from base on */
    uint32_t *scratch;
    uint32_t base;
};

static void union_pair(void *ctx, uint32_t pair)
{
    struct union_ctx *u = ctx;
    const struct idlist *ids = &registry_pair(u->reg, pair)->ids;
    idlist_decode(ids, u->scratch);
    for (size_t i = 0; i < ids->n; i++) {
        uint32_t k = u->scratch[i] - u->base;
        u->bits[k / 64] |= UINT64_C(1) << (k % 64);
    }
}

static void bits_to_ids(const uint64_t *bits, size_t n_words, uint32_t base, uint32_t *out)
{
    for (size_t w = 0; w < n_words; w++) {
        for (uint64_t word = bits[w]; word; word &= word - 1)
            *out++ = base + (uint32_t)(w * 64) + (uint32_t)__builtin_ctzll(word);
    }
}

static enum err_code lead(struct selection *sel, const struct plan *plan)
{
    struct registry *reg = sel->reg;
    struct pair_sum sum = {.reg = reg};
    each_matching_pair(reg, plan, sum_pair, &sum);
    sel->n = (size_t)sum.n_ids;
    sel->ids = ARENA_ARRAY(sel->arena, uint32_t, sel->n);
    if (!sel->ids) return arena_fail(sel->arena, sel->err);
    if (sum.n_lists == 1) {
        idlist_decode(&registry_pair(reg, sum.only)->ids, sel->ids);
    } else if (sum.n_lists > 1) {
        size_t n_words = (reg->next_id - reg->first_id) / 64 + 1;
        struct arena_mark mark = arena_mark(sel->arena);
        struct union_ctx u = {reg, ARENA_ARRAY(sel->arena, uint64_t, n_words),
                              ARENA_ARRAY(sel->arena, uint32_t, sel->n), reg->first_id};
        if (!u.bits || !u.scratch) return arena_fail(sel->arena, sel->err);
        each_matching_pair(reg, plan, union_pair, &u);
        bits_to_ids(u.bits, n_words, u.base, sel->ids);
        arena_rewind(sel->arena, mark);
    }
    return ERR_OK;
}

static enum err_code take_all(struct selection *sel)
{
    struct registry *reg = sel->reg;
    sel->ids = ARENA_ARRAY(sel->arena, uint32_t,
                           atomic_load_explicit(&reg->n_series, memory_order_relaxed));
    if (!sel->ids) return arena_fail(sel->arena, sel->err);
    for (uint32_t i = reg->first_id / SERIES_PAGE; i <= reg->next_id / SERIES_PAGE; i++) {
        struct series_page *page = registry_page(reg, i);
        if (!page || page->n_live == 0) continue;
        for (size_t k = 0; k < SERIES_PAGE; k++)
            if (page->s[k].live) sel->ids[sel->n++] = page->s[k].id;
    }
    return ERR_OK;
}

/* ---- the others: tests ---- */

/* Asking every value once pays when there are fewer values than series to test. */
static enum err_code plan_mark(struct selection *sel, struct plan *plan)
{
    if (!plan->name || registry_name(sel->reg, plan->name)->n > sel->n) return ERR_OK;
    struct pair_sum sum = {.reg = sel->reg};
    sum.bits = ARENA_ARRAY(sel->arena, uint64_t, sel->reg->pairs.n_slots / 64 + 1);
    if (!sum.bits) return arena_fail(sel->arena, sel->err);
    each_matching_pair(sel->reg, plan, mark_pair, &sum);
    plan->bits = sum.bits;
    return ERR_OK;
}

static bool satisfies(const struct registry *reg, const struct plan *plan, const struct series *s)
{
    for (size_t i = 0; plan->name && i < s->n_pairs; i++) {
        const struct label_pair *pair = registry_pair(reg, s->pairs[i]);
        if (pair->name != plan->name) continue;
        return plan->bits ? bit_test(plan->bits, s->pairs[i])
                          : matcher_matches(plan->m, label_pair_value(pair));
    }
    return plan->empty_ok;
}

static void filter(struct selection *sel, const struct plan *plan)
{
    size_t n = 0;
    for (size_t i = 0; i < sel->n; i++)
        if (satisfies(sel->reg, plan, series_by_id(sel->reg, sel->ids[i])))
            sel->ids[n++] = sel->ids[i];
    sel->n = n;
}

enum err_code registry_select(struct registry *reg, const struct matcher *matchers,
                              size_t n_matchers, struct arena *arena, uint32_t **ids, size_t *n,
                              struct err *err)
{
    struct selection sel = {.reg = reg, .arena = arena, .err = err};
    struct plan *plans = ARENA_ARRAY(arena, struct plan, n_matchers), *leader = NULL;
    if (!plans) return arena_fail(arena, err);
    for (size_t i = 0; i < n_matchers; i++) {
        plans[i] = plan_make(reg, &matchers[i]);
        if (!plans[i].empty_ok && (!leader || plans[i].n_most < leader->n_most)) leader = &plans[i];
    }
    *ids = NULL;
    *n = 0;
    if (leader && leader->n_most == 0) return ERR_OK;
    enum err_code rc = leader ? lead(&sel, leader) : take_all(&sel);
    for (size_t i = 0; !rc && sel.n > 0 && i < n_matchers; i++) {
        if (&plans[i] == leader) continue;
        rc = plan_mark(&sel, &plans[i]);
        if (!rc) filter(&sel, &plans[i]);
    }
    *ids = sel.ids;
    *n = sel.n;
    return rc;
}

/* ---- label order ----
 * The pairs that occur are sorted once and numbered; a series is then a short array of numbers, and the first of
 * them, packed into one word, go through a radix sort. What they leave equal is compared in full. */

struct sort_item {
    uint64_t key;
    const struct series *s;
};
struct sort_ctx {
    const struct registry *reg;
    uint32_t *rank; /* per pair, from 1; 0: does not occur */
    uint32_t *pairs;
    size_t n_pairs;
    unsigned rank_bits; /* of the largest rank */
};

static int compare_pairs(const void *a, const void *b, void *ctx)
{
    const struct registry *reg = ctx;
    const struct label_pair *x = registry_pair(reg, *(const uint32_t *)a);
    const struct label_pair *y = registry_pair(reg, *(const uint32_t *)b);
    if (x->name == y->name) return str_cmp(label_pair_value(x), label_pair_value(y));
    const struct label_name *p = registry_name(reg, x->name), *q = registry_name(reg, y->name);
    return str_cmp((struct str){p->text, p->len}, (struct str){q->text, q->len});
}

static int compare_items(const void *a, const void *b, void *ctx)
{
    const struct sort_item *x = a, *y = b;
    const uint32_t *rank = ((const struct sort_ctx *)ctx)->rank;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    size_t n = MIN_OF(x->s->n_pairs, y->s->n_pairs);
    for (size_t i = 0; i < n; i++) {
        uint32_t p = rank[x->s->pairs[i]], q = rank[y->s->pairs[i]];
        if (p != q) return p < q ? -1 : 1;
    }
    return (x->s->n_pairs > y->s->n_pairs) - (x->s->n_pairs < y->s->n_pairs);
}

/* As many ranks as fit; one that is absent sorts in front of all. */
static uint64_t sort_key(const struct sort_ctx *ctx, const struct series *s)
{
    uint64_t key = 0;
    size_t n = 64 / ctx->rank_bits;
    for (size_t i = 0; i < n; i++)
        key = key << ctx->rank_bits | (i < s->n_pairs ? ctx->rank[s->pairs[i]] : 0);
    return key;
}

static void collect_pairs(struct sort_ctx *ctx, const struct series *s)
{
    for (size_t i = 0; i < s->n_pairs; i++) {
        if (ctx->rank[s->pairs[i]]) continue;
        ctx->rank[s->pairs[i]] = 1;
        ctx->pairs[ctx->n_pairs++] = s->pairs[i];
    }
}

static void rank_pairs(struct registry *reg, struct sort_ctx *ctx)
{
    if (ctx->n_pairs) qsort_r(ctx->pairs, ctx->n_pairs, sizeof(*ctx->pairs), compare_pairs, reg);
    for (size_t i = 0; i < ctx->n_pairs; i++) ctx->rank[ctx->pairs[i]] = (uint32_t)i + 1;
    ctx->rank_bits = 64 - (unsigned)__builtin_clzll((unsigned long long)ctx->n_pairs | 1);
}

/* By key, least byte first; bytes in which all agree cost nothing but the look. The result is in *items. */
static void radix_sort(struct sort_item **items, struct sort_item **scratch, size_t n)
{
    for (unsigned shift = 0; shift < 64; shift += 8) {
        size_t start[256] = {0}, sum = 0;
        for (size_t i = 0; i < n; i++) start[(*items)[i].key >> shift & 0xff]++;
        if (start[(*items)[0].key >> shift & 0xff] == n) continue;
        for (size_t b = 0; b < 256; b++) {
            size_t count = start[b];
            start[b] = sum;
            sum += count;
        }
        for (size_t i = 0; i < n; i++)
            (*scratch)[start[(*items)[i].key >> shift & 0xff]++] = (*items)[i];
        struct sort_item *swap = *items;
        *items = *scratch;
        *scratch = swap;
    }
}

static void sort_equal_keys(struct sort_ctx *ctx, struct sort_item *items, size_t n)
{
    for (size_t from = 0, end; from < n; from = end) {
        for (end = from + 1; end < n && items[end].key == items[from].key;) end++;
        if (end - from > 1) qsort_r(items + from, end - from, sizeof(*items), compare_items, ctx);
    }
}

/* `items` has room for 2 * n. */
static void sort_items(struct registry *reg, struct sort_ctx *ctx, struct sort_item *items,
                       uint32_t *ids, size_t n)
{
    struct sort_item *scratch = items + n;
    for (size_t i = 0; i < n; i++) collect_pairs(ctx, items[i].s = series_by_id(reg, ids[i]));
    rank_pairs(reg, ctx);
    bool sorted = true;
    for (size_t i = 0; i < n; i++) {
        items[i].key = sort_key(ctx, items[i].s);
        if (i > 0 && sorted) sorted = compare_items(&items[i - 1], &items[i], ctx) < 0;
    }
    if (sorted) return; /* senders often deliver in label order, and ids follow arrival */
    radix_sort(&items, &scratch, n);
    sort_equal_keys(ctx, items, n);
    for (size_t i = 0; i < n; i++) ids[i] = items[i].s->id;
}

enum err_code registry_sort(struct registry *reg, uint32_t *ids, size_t n, struct err *err)
{
    if (n < 2) return ERR_OK;
    size_t n_slots = reg->pairs.n_slots + 1, size;
    struct sort_ctx ctx = {.reg = reg,
                           .rank = mem_calloc(MEM_QUERY, n_slots, sizeof(uint32_t)),
                           .pairs = mem_calloc(MEM_QUERY, n_slots, sizeof(uint32_t))};
    struct sort_item *items =
        mem_mul(n, 2 * sizeof(*items), &size) ? mem_alloc(MEM_QUERY, size) : NULL;
    enum err_code rc = ERR_OK;
    if (ctx.rank && ctx.pairs && items)
        sort_items(reg, &ctx, items, ids, n);
    else
        rc = err_set(err, ERR_NO_MEMORY, "sorting %zu series", n);
    mem_free(ctx.rank);
    mem_free(ctx.pairs);
    mem_free(items);
    return rc;
}
