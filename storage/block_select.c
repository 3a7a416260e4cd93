/* storage/block_select.c: matchers against the postings. Each matcher becomes a set of series and a sign; the sets
 * to keep are intersected first, then those to leave out are taken away. A regular expression is asked once per
 * value, not per series, and only about values that start with its prefix; if it is a list of literals it is not
 * asked at all. */
#include <inttypes.h>

#include "storage/block_layout.h"
#include "storage/postings.h"

struct selector {
    struct block *b;
    struct page_cursor values, postings;
};

/* The pairs of one label name. */
struct range {
    uint32_t from, to;
    uint32_t has_name; /* item of the postings that says which series have the name */
};

/* Series that satisfy a matcher, or (negated) those that do not. */
struct match_set {
    roaring_bitmap_t *set;
    bool negated;
};

static enum err_code bitmap_new(roaring_bitmap_t **out, struct err *err)
{
    *out = roaring_bitmap_create();
    return *out ? ERR_OK : err_set(err, ERR_NO_MEMORY, "a set of series");
}

static enum err_code add_postings(struct selector *s, uint64_t item_no, struct postings_sink *sink,
                                  struct err *err)
{
    struct bytes item;
    enum err_code rc =
        page_file_item(&s->b->file, &s->postings, SECTION_POSTINGS, item_no, &item, err);
    if (rc) return rc;
    rc = postings_decode(item, s->b->n_series, sink, err);
    return rc ? page_cursor_context(&s->b->file, &s->postings, err) : ERR_OK;
}

/* Adds to `into` the series of the pairs in [ids, ids + n). */
static enum err_code add_pairs(struct selector *s, const uint32_t *ids, size_t n,
                               roaring_bitmap_t *into, struct err *err)
{
    struct postings_sink sink = {.into = into};
    enum err_code rc = ERR_OK;
    for (size_t i = 0; !rc && i < n; i++) rc = add_postings(s, ids[i], &sink, err);
    postings_flush(&sink);
    return rc;
}

/* The first pair in the range whose value is not less than `value`. */
static enum err_code lower_bound(struct selector *s, struct range range, struct str value,
                                 uint32_t *out, struct err *err)
{
    uint32_t lo = range.from, hi = range.to;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        struct str found;
        enum err_code rc = block_value(s->b, &s->values, mid, &found, err);
        if (rc) return rc;
        if (str_cmp(found, value) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    *out = lo;
    return ERR_OK;
}

/* Appends the pair with just this value, if there is one. */
static enum err_code find_value(struct selector *s, struct range range, struct str value,
                                struct pair_list *out, struct err *err)
{
    uint32_t pair = range.to;
    enum err_code rc = lower_bound(s, range, value, &pair, err);
    if (rc || pair == range.to) return rc;
    struct str found;
    rc = block_value(s->b, &s->values, pair, &found, err);
    if (rc || !str_eq(found, value)) return rc;
    return pair_list_push(out, pair, err);
}

static enum err_code scan_values(struct selector *s, const struct matcher *m, struct range range,
                                 struct pair_list *out, struct err *err)
{
    uint32_t pair = range.from;
    enum err_code rc = m->prefix.len ? lower_bound(s, range, m->prefix, &pair, err) : ERR_OK;
    for (; !rc && pair < range.to; pair++) {
        struct str value;
        rc = block_value(s->b, &s->values, pair, &value, err);
        if (rc || !str_has_prefix(value, m->prefix)) break;
        if (m->re_match(m->re, value)) rc = pair_list_push(out, pair, err);
    }
    return rc;
}

/* Pairs whose values satisfy the matcher (read without its negation), each once. */
static enum err_code matching_pairs(struct selector *s, const struct matcher *m, struct range range,
                                    struct pair_list *out, struct err *err)
{
    bool is_re = m->op == MATCH_RE || m->op == MATCH_NRE;
    if (!is_re) return m->value.len ? find_value(s, range, m->value, out, err) : ERR_OK;
    if (m->n_literals == 0) return scan_values(s, m, range, out, err);
    enum err_code rc = ERR_OK;
    for (size_t i = 0; !rc && i < m->n_literals; i++)
        rc = find_value(s, range, m->literals[i], out, err);
    return rc;
}

/* The series of the pairs, or (others) of the name's other pairs. What is shorter is read: each series with the name
 * has one of its values. */
static enum err_code union_of(struct selector *s, struct range range, const struct pair_list *pairs,
                              bool others, roaring_bitmap_t *into, struct err *err)
{
    size_t n_all = range.to - range.from;
    if (!others && pairs->n <= n_all / 2) return add_pairs(s, pairs->ids, pairs->n, into, err);
    struct postings_sink sink = {.into = into};
    enum err_code rc = n_all ? add_postings(s, range.has_name, &sink, err) : ERR_OK;
    postings_flush(&sink);
    if (rc || (!others && pairs->n == n_all)) return rc;
    roaring_bitmap_t *minus;
    rc = bitmap_new(&minus, err);
    if (rc) return rc;
    if (others) {
        rc = add_pairs(s, pairs->ids, pairs->n, minus, err);
    } else {
        /* All but the pairs, which are in rising order here: literals may come twice or unsorted. */
        struct postings_sink rest = {.into = minus};
        size_t k = 0;
        for (uint32_t pair = range.from; !rc && pair < range.to; pair++) {
            if (k < pairs->n && pairs->ids[k] == pair)
                k++;
            else
                rc = add_postings(s, pair, &rest, err);
        }
        postings_flush(&rest);
    }
    if (!rc) roaring_bitmap_andnot_inplace(into, minus);
    roaring_bitmap_free(minus);
    return rc;
}

static enum err_code evaluate(struct selector *s, const struct matcher *m, struct match_set *out,
                              struct err *err)
{
    uint32_t rank = block_find_name(s->b, m->name);
    struct range range = {0, 0, 0};
    if (rank < s->b->n_names)
        range = (struct range){s->b->names[rank].first_pair, s->b->names[rank + 1].first_pair,
                               s->b->n_pairs + rank};
    bool is_not = m->op == MATCH_NEQ || m->op == MATCH_NRE;
    /* A missing label counts as empty: then the set is what does not match, which has the label. */
    bool empty_too = matcher_matches_empty(m) != is_not;
    struct pair_list pairs;
    pair_list_init(&pairs);
    enum err_code rc = bitmap_new(&out->set, err);
    if (!rc) rc = matching_pairs(s, m, range, &pairs, err);
    /* Literals are few: they are always read themselves. */
    if (!rc && m->n_literals && !empty_too)
        rc = add_pairs(s, pairs.ids, pairs.n, out->set, err);
    else if (!rc)
        rc = union_of(s, range, &pairs, empty_too, out->set, err);
    out->negated = empty_too != is_not;
    pair_list_release(&pairs);
    return rc;
}

/* Intersects the sets to keep, then takes the others away. */
static enum err_code combine(struct selector *s, struct match_set *sets, size_t n,
                             roaring_bitmap_t **out, struct err *err)
{
    roaring_bitmap_t *result = NULL;
    for (size_t i = 0; i < n; i++) {
        if (sets[i].negated) continue;
        if (result) {
            roaring_bitmap_and_inplace(result, sets[i].set);
        } else {
            result = sets[i].set;
            sets[i].set = NULL;
        }
    }
    if (!result) {
        result = roaring_bitmap_from_range(0, s->b->n_series, 1);
        if (!result) return err_set(err, ERR_NO_MEMORY, "a set of series");
    }
    for (size_t i = 0; i < n; i++)
        if (sets[i].negated) roaring_bitmap_andnot_inplace(result, sets[i].set);
    *out = result;
    return ERR_OK;
}

static enum err_code to_array(const roaring_bitmap_t *set, struct arena *arena, uint32_t **ids,
                              size_t *n, struct err *err)
{
    *n = (size_t)roaring_bitmap_get_cardinality(set);
    size_t size;
    if (!mem_mul(*n + 1, sizeof(uint32_t), &size)) return err_set(err, ERR_NO_MEMORY, "series");
    *ids = arena_alloc(arena, size, _Alignof(uint32_t));
    if (!*ids) return arena_fail(arena, err);
    roaring_bitmap_to_uint32_array(set, *ids);
    return ERR_OK;
}

enum err_code block_select(struct block *b, const struct matcher *matchers, size_t n_matchers,
                           struct arena *arena, uint32_t **ids, size_t *n, struct err *err)
{
    struct selector s = {.b = b};
    roaring_bitmap_t *result = NULL;
    struct match_set *sets = mem_calloc(MEM_STORAGE, n_matchers, sizeof(*sets));
    enum err_code rc = sets ? ERR_OK : err_set(err, ERR_NO_MEMORY, "%zu matchers", n_matchers);
    for (size_t i = 0; !rc && i < n_matchers; i++) rc = evaluate(&s, &matchers[i], &sets[i], err);
    if (!rc) rc = combine(&s, sets, n_matchers, &result, err);
    if (!rc) rc = to_array(result, arena, ids, n, err);
    for (size_t i = 0; sets && i < n_matchers; i++)
        if (sets[i].set) roaring_bitmap_free(sets[i].set);
    if (result) roaring_bitmap_free(result);
    mem_free(sets);
    page_cursor_release(&s.values);
    page_cursor_release(&s.postings);
    return rc ? err_context(err, "selecting series") : ERR_OK;
}
