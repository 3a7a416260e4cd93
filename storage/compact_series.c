/* storage/compact_series.c: see the header. The lists are merged by a heap of one cursor per block. */
#include "storage/compact_series.h"

#include <inttypes.h>

#define STRIDE 8 /* words per entry of `before` */

struct cursor {
    struct block *block;
    size_t block_idx;
    uint32_t id;
    struct labels labels;
    struct arena arenas[2]; /* of the labels, and of those before them */
};
struct heap {
    struct cursor *cursors; /* one per block */
    struct cursor **top; /* top[0] is first in label order, of equal ones that of the first block */
    size_t n;
};

/* ---- the heap ---- */

static bool is_before(const struct cursor *a, const struct cursor *b)
{
    int c = labels_cmp(a->labels, b->labels);
    return c < 0 || (c == 0 && a->block_idx < b->block_idx);
}

static void sift_down(struct heap *h, size_t i)
{
    for (;;) {
        size_t least = i;
        for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < h->n; child++)
            if (is_before(h->top[child], h->top[least])) least = child;
        if (least == i) return;
        struct cursor *swap = h->top[i];
        h->top[i] = h->top[least];
        h->top[least] = swap;
        i = least;
    }
}

static enum err_code cursor_read(struct cursor *c, struct err *err)
{
    struct arena *arena = &c->arenas[c->id % 2];
    struct labels before = c->labels;
    arena_reset(arena);
    enum err_code rc = block_labels(c->block, c->id, arena, &c->labels, err);
    if (rc || c->id == 0 || labels_cmp(before, c->labels) < 0) return rc;
    return err_set(err, ERR_CORRUPT, "block %s: series %" PRIu32 " is out of order",
                   block_info(c->block)->ulid.text, c->id);
}

/* Moves the first cursor on. */
static enum err_code heap_next(struct heap *h, struct err *err)
{
    struct cursor *c = h->top[0];
    enum err_code rc = ERR_OK;
    if (++c->id < block_info(c->block)->n_series)
        rc = cursor_read(c, err);
    else
        h->top[0] = h->top[--h->n];
    if (!rc) sift_down(h, 0);
    return rc;
}

static enum err_code heap_init(struct heap *h, const struct compact_series *s, struct err *err)
{
    *h = (struct heap){.cursors = mem_calloc(MEM_STORAGE, s->n_blocks, sizeof(*h->cursors)),
                       .top = mem_calloc(MEM_STORAGE, s->n_blocks, sizeof(*h->top))};
    if (!h->cursors || !h->top) return err_set(err, ERR_NO_MEMORY, "no memory to merge labels");
    for (size_t i = 0; i < s->n_blocks; i++) {
        struct cursor *c = &h->cursors[i];
        c->block = s->blocks[i];
        c->block_idx = i;
        for (size_t k = 0; k < 2; k++) arena_init(&c->arenas[k], MEM_STORAGE, 0);
        if (block_info(c->block)->n_series == 0) continue;
        enum err_code rc = cursor_read(c, err);
        if (rc) return rc;
        h->top[h->n++] = c;
    }
    for (size_t i = h->n / 2; i-- > 0;) sift_down(h, i);
    return ERR_OK;
}

static void heap_release(struct heap *h, size_t n_blocks)
{
    for (size_t i = 0; h->cursors && i < n_blocks; i++)
        for (size_t k = 0; k < 2; k++) arena_release(&h->cursors[i].arenas[k]);
    mem_free(h->cursors);
    mem_free(h->top);
}

/* ---- the list ---- */

/* Room for the bits of one more series, in all blocks. */
static enum err_code presence_grow(struct compact_series *s, struct err *err)
{
    size_t word = s->n / 64;
    if (word < s->cap) return ERR_OK;
    size_t cap = MAX_OF(s->cap + s->cap / 2, (size_t)64);
    for (size_t i = 0; i < s->n_blocks; i++) {
        uint64_t *bits = mem_realloc(MEM_STORAGE, s->presence[i].bits, cap * sizeof(*bits));
        if (!bits) return err_set(err, ERR_NO_MEMORY, "no memory for %" PRIu32 " series", s->n);
        memset(bits + s->cap, 0, (cap - s->cap) * sizeof(*bits));
        s->presence[i].bits = bits;
    }
    s->cap = cap;
    return ERR_OK;
}

/* The first series of the heap, from all blocks that have it. */
static enum err_code take_series(struct compact_series *s, struct heap *h, compact_series_fn *fn,
                                 void *ctx, struct err *err)
{
    enum err_code rc = presence_grow(s, err);
    if (!rc) rc = fn(ctx, h->top[0]->labels, err);
    bool more = true;
    while (!rc && more) {
        struct cursor *first = h->top[0];
        s->presence[first->block_idx].bits[s->n / 64] |= UINT64_C(1) << s->n % 64;
        /* The others of equal labels are below it in the heap; the next to come up tells. */
        more = false;
        for (size_t child = 1; child <= 2 && child < h->n && !more; child++)
            more = labels_eq(h->top[child]->labels, first->labels);
        rc = heap_next(h, err);
    }
    s->n++;
    return rc;
}

/* Counts the bits once all are known. */
static enum err_code count_bits(struct compact_series *s, struct err *err)
{
    size_t n_words = ((size_t)s->n + 63) / 64;
    for (size_t i = 0; i < s->n_blocks; i++) {
        struct compact_presence *p = &s->presence[i];
        p->before = mem_calloc(MEM_STORAGE, n_words / STRIDE + 1, sizeof(*p->before));
        if (!p->before)
            return err_set(err, ERR_NO_MEMORY, "no memory for %" PRIu32 " series", s->n);
        uint32_t n = 0;
        for (size_t word = 0; word < n_words; word++) {
            if (word % STRIDE == 0) p->before[word / STRIDE] = n;
            n += (uint32_t)__builtin_popcountll(p->bits[word]);
        }
        ASSERT(n == block_info(s->blocks[i])->n_series);
    }
    return ERR_OK;
}

enum err_code compact_series_init(struct compact_series *s, struct block *const *blocks,
                                  size_t n_blocks, uint64_t n_max, compact_series_fn *fn, void *ctx,
                                  struct err *err)
{
    *s = (struct compact_series){.blocks = blocks, .n_blocks = n_blocks};
    s->presence = mem_calloc(MEM_STORAGE, n_blocks, sizeof(*s->presence));
    if (!s->presence) return err_set(err, ERR_NO_MEMORY, "no memory to merge %zu blocks", n_blocks);
    struct heap heap;
    enum err_code rc = heap_init(&heap, s, err);
    while (!rc && heap.n) {
        if (s->n >= MIN_OF(n_max, (uint64_t)UINT32_MAX - 1))
            rc = err_set(err, ERR_LIMIT, "more than %" PRIu32 " series in one block", s->n);
        else
            rc = take_series(s, &heap, fn, ctx, err);
    }
    heap_release(&heap, n_blocks);
    return rc ? rc : count_bits(s, err);
}

void compact_series_release(struct compact_series *s)
{
    for (size_t i = 0; s->presence && i < s->n_blocks; i++) {
        mem_free(s->presence[i].bits);
        mem_free(s->presence[i].before);
    }
    mem_free(s->presence);
    *s = (struct compact_series){0};
}

bool compact_series_find(const struct compact_series *s, size_t block, uint32_t series,
                         uint32_t *id)
{
    ASSERT(series < s->n);
    const struct compact_presence *p = &s->presence[block];
    size_t word = series / 64;
    uint64_t bit = UINT64_C(1) << series % 64;
    if (!(p->bits[word] & bit)) return false;
    uint32_t n = p->before[word / STRIDE];
    for (size_t i = word / STRIDE * STRIDE; i < word; i++)
        n += (uint32_t)__builtin_popcountll(p->bits[i]);
    *id = n + (uint32_t)__builtin_popcountll(p->bits[word] & (bit - 1));
    return true;
}
