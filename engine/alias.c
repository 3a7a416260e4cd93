/* engine/alias.c: see the header. */
#include "engine/alias.h"

#define OP_MAX 255u
/* After a difference, both sides are searched this far for a place where they agree again. A value that has another
 * length shifts the rest, and a UUID is 36 bytes. */
#define RESYNC_BYTES 80u
#define RESYNC_AGREE 4u /* bytes that must be equal, fewer at the end */

static size_t common(struct bytes a, size_t i, struct bytes b, size_t j)
{
    size_t n = MIN_OF(a.len - i, b.len - j), k = 0;
    while (k < n && a.p[i + k] == b.p[j + k]) k++;
    return k;
}

static bool agree(struct bytes a, size_t i, struct bytes b, size_t j)
{
    if (i > a.len || j > b.len) return false;
    if (i == a.len || j == b.len) return i == a.len && j == b.len;
    size_t n = MIN_OF(MIN_OF(a.len - i, b.len - j), (size_t)RESYNC_AGREE);
    return memcmp(a.p + i, b.p + j, n) == 0;
}

/* The nearest pair of distances after which both agree again. */
static bool resync(struct bytes base, size_t i, struct bytes sent, size_t j, size_t *skip,
                   size_t *lit)
{
    for (size_t sum = 1; sum <= RESYNC_BYTES; sum++) {
        for (*skip = 0; *skip <= sum; ++*skip) {
            *lit = sum - *skip;
            if (agree(base, i + *skip, sent, j + *lit)) return true;
        }
    }
    return false;
}

static void put_op(struct buf *out, size_t copy, size_t skip, struct bytes lit)
{
    for (; copy > OP_MAX; copy -= OP_MAX) buf_put(out, "\xff\0\0", 3);
    uint8_t op[3] = {(uint8_t)copy, (uint8_t)MIN_OF(skip, (size_t)OP_MAX),
                     (uint8_t)MIN_OF(lit.len, (size_t)OP_MAX)};
    buf_put(out, op, 3);
    buf_put(out, lit.p, op[2]);
    skip -= op[1];
    lit = bytes_of(lit.p + op[2], lit.len - op[2]);
    if (skip || lit.len) put_op(out, 0, skip, lit);
}

void alias_diff(struct bytes base, struct bytes sent, struct buf *out)
{
    size_t i = 0, j = 0;
    while (j < sent.len) {
        size_t copy = common(base, i, sent, j), skip, lit;
        i += copy;
        j += copy;
        if (j == sent.len)
            skip = lit = 0;
        else if (!resync(base, i, sent, j, &skip, &lit))
            skip = 0, lit = sent.len - j;
        put_op(out, copy, skip, bytes_of(sent.p + j, lit));
        i += skip;
        j += lit;
    }
}

bool alias_equal(const struct alias *alias, struct bytes sent)
{
    if (alias->sent_len != sent.len) return false;
    const uint8_t *from = alias->base->bytes, *p = sent.p, *end = sent.p + sent.len;
    /* Our own bytes: the operations make exactly sent_len bytes, so that p cannot pass the end. */
    for (const uint8_t *op = alias->ops; p < end;) {
        size_t copy = op[0], skip = op[1], lit = op[2];
        if (memcmp(p, from, copy) != 0 || memcmp(p + copy, op + 3, lit) != 0) return false;
        p += copy + lit;
        from += copy + skip;
        op += 3 + lit;
    }
    return true;
}

static struct alias_base *base_new(struct cell_pool *pool, struct bytes sent)
{
    struct alias_base *base = cell_pool_get(pool, sizeof(*base) + sent.len);
    if (!base) return NULL;
    base->n_refs = 1;
    base->len = (uint32_t)sent.len;
    memcpy(base->bytes, sent.p, sent.len);
    return base;
}

void alias_base_unref(struct cell_pool *pool, struct alias_base *base)
{
    if (base && --base->n_refs == 0) cell_pool_put(pool, base, sizeof(*base) + base->len);
}

static struct bytes base_bytes(const struct alias_base *base)
{
    return base ? bytes_of(base->bytes, base->len) : (struct bytes){NULL, 0};
}

struct alias *alias_new(struct cell_pool *pool, struct alias_base **base, uint64_t hash,
                        struct bytes sent)
{
    ASSERT(sent.len <= ALIAS_SENT_BYTES_MAX);
    struct alias *alias = NULL;
    struct buf ops;
    buf_init(&ops, MEM_REGISTRY);
    alias_diff(base_bytes(*base), sent, &ops);
    if (!*base || ops.len > 8 + sent.len / 2) { /* another kind of labels begins */
        struct alias_base *fresh = base_new(pool, sent);
        if (!fresh) goto out;
        alias_base_unref(pool, *base);
        *base = fresh;
        buf_reset(&ops);
        alias_diff(base_bytes(fresh), sent, &ops);
    }
    if (ops.failed || !(alias = cell_pool_get(pool, sizeof(*alias) + ops.len))) goto out;
    *alias = (struct alias){
        .hash = hash, .base = *base, .sent_len = (uint16_t)sent.len, .ops_len = (uint16_t)ops.len};
    if (ops.len) memcpy(alias->ops, ops.p, ops.len);
    (*base)->n_refs++;
out:
    buf_release(&ops);
    return alias;
}

void alias_free(struct cell_pool *pool, struct alias *alias)
{
    alias_base_unref(pool, alias->base);
    cell_pool_put(pool, alias, sizeof(*alias) + alias->ops_len);
}
