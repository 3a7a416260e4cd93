/* storage/label_reader.c: see the header. A series' list builds on that of the one before in its group, so what comes
 * next is decoded from where the last call stopped. */
#include "storage/label_reader.h"

#include <inttypes.h>

#include "storage/block_layout.h"

/* ---- sparse numbers ---- */

bool sparse_init(struct sparse *s, size_t n)
{
    s->n_pieces = n / SPARSE_PIECE + 1;
    s->pieces = mem_calloc(MEM_QUERY, s->n_pieces, sizeof(*s->pieces));
    return s->pieces != NULL;
}

void sparse_release(struct sparse *s)
{
    for (size_t i = 0; s->pieces && i < s->n_pieces; i++) mem_free(s->pieces[i]);
    mem_free(s->pieces);
    *s = (struct sparse){0};
}

/* ---- names ---- */

bool label_names_keep(const struct label_names *names, struct str name)
{
    size_t lo = 0, hi = names->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = str_cmp(names->names[mid], name);
        if (c == 0) return names->only;
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return !names->only;
}

/* ---- the reader ---- */

struct pair_range {
    uint32_t from, to;
};
struct label_reader {
    struct block *b;
    struct symbols *symbols;
    struct page_cursor lists, values;
    struct reader bytes; /* in the item of the group */
    uint32_t group;      /* + 1; 0: none */
    uint32_t
        next; /* series of the group whose list comes next; `pairs` is that of the one before */
    struct pair_list pairs;
    struct pair_range *kept; /* pairs of the names that are kept, rising */
    size_t n_kept;
    struct sparse known; /* by pair of the block: its symbol + 1 */
    uint32_t *out;
    size_t out_cap;
};

static enum err_code find_kept(struct label_reader *r, const struct label_names *names,
                               struct err *err)
{
    const struct block *b = r->b;
    r->kept = mem_calloc(MEM_QUERY, b->n_names, sizeof(*r->kept));
    if (!r->kept) return err_set(err, ERR_NO_MEMORY, "%" PRIu32 " label names", b->n_names);
    for (uint32_t i = 0; i < b->n_names; i++) {
        if (!label_names_keep(names, b->names[i].text)) continue;
        struct pair_range range = {b->names[i].first_pair, b->names[i + 1].first_pair};
        if (r->n_kept && r->kept[r->n_kept - 1].to == range.from)
            r->kept[r->n_kept - 1].to = range.to;
        else
            r->kept[r->n_kept++] = range;
    }
    return ERR_OK;
}

enum err_code label_reader_new(struct block *block, struct symbols *symbols,
                               const struct label_names *names, struct label_reader **out,
                               struct err *err)
{
    struct label_reader *r = mem_calloc(MEM_QUERY, 1, sizeof(*r));
    if (!r) return err_set(err, ERR_NO_MEMORY, "reading labels");
    r->b = block;
    r->symbols = symbols;
    pair_list_init(&r->pairs);
    enum err_code rc = find_kept(r, names, err);
    if (!rc && !sparse_init(&r->known, block->n_pairs))
        rc = err_set(err, ERR_NO_MEMORY, "reading labels");
    if (rc) {
        label_reader_free(r);
        return rc;
    }
    *out = r;
    return ERR_OK;
}

void label_reader_free(struct label_reader *r)
{
    if (!r) return;
    page_cursor_release(&r->lists);
    page_cursor_release(&r->values);
    pair_list_release(&r->pairs);
    sparse_release(&r->known);
    mem_free(r->kept);
    mem_free(r->out);
    mem_free(r);
}

/* Into r->pairs. */
static enum err_code find_list(struct label_reader *r, uint32_t id, struct err *err)
{
    struct block *b = r->b;
    ASSERT(id < b->n_series);
    uint32_t group = id / BLOCK_GROUP_SERIES, k = id % BLOCK_GROUP_SERIES;
    if (r->group != group + 1 || k + 1 < r->next) {
        struct bytes item;
        r->group = 0;
        enum err_code rc = page_file_item(&b->file, &r->lists, SECTION_LABELS, group, &item, err);
        if (rc) return rc;
        r->bytes = reader_init(item);
        r->pairs.n = 0;
        r->next = 0;
        r->group = group + 1;
    }
    for (; r->next <= k; r->next++) {
        enum err_code rc = pair_list_decode(&r->bytes, b->n_pairs, &r->pairs, err);
        if (!rc) continue;
        r->group = 0;
        return page_cursor_context(&b->file, &r->lists, err);
    }
    return ERR_OK;
}

static enum err_code find_symbol(struct label_reader *r, uint32_t pair, uint32_t *symbol,
                                 struct err *err)
{
    struct str value;
    enum err_code rc = block_value(r->b, &r->values, pair, &value, err);
    if (rc) return rc;
    struct str name = r->b->names[block_name_of_pair(r->b, pair)].text;
    return symbols_add(r->symbols, name, value, symbol, err);
}

static enum err_code put_pair(struct label_reader *r, uint32_t pair, uint32_t *out, struct err *err)
{
    uint32_t *known = sparse_at(&r->known, pair);
    if (!known) return err_set(err, ERR_NO_MEMORY, "reading labels");
    if (UNLIKELY(!*known)) {
        uint32_t symbol;
        enum err_code rc = find_symbol(r, pair, &symbol, err);
        if (rc) return rc;
        *known = symbol + 1;
    }
    *out = *known - 1;
    return ERR_OK;
}

enum err_code label_reader_series(struct label_reader *r, uint32_t id, const uint32_t **pairs,
                                  size_t *n, struct err *err)
{
    enum err_code rc = find_list(r, id, err);
    void *out = r->out;
    if (!rc) rc = mem_grow(MEM_QUERY, &out, &r->out_cap, r->pairs.n, sizeof(*r->out), err);
    r->out = out;
    size_t n_out = 0, k = 0;
    for (size_t i = 0; !rc && i < r->pairs.n; i++) {
        uint32_t pair = r->pairs.ids[i];
        while (k < r->n_kept && r->kept[k].to <= pair) k++;
        if (k == r->n_kept) break;
        if (r->kept[k].from <= pair) rc = put_pair(r, pair, &r->out[n_out++], err);
    }
    *pairs = r->out;
    *n = n_out;
    return rc ? err_context(err, "labels of series %" PRIu32, id) : ERR_OK;
}
