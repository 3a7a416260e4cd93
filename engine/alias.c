/* engine/alias.c: see the header. */
#include "engine/alias.h"

#define COPY_MAX 255u
#define NIBBLE_MAX 15u
#define OP_BYTES 2u
/* After a difference, both sides are searched this far for a place where they agree again. A value that has another
 * length shifts the rest, and a UUID is 36 bytes. */
#define RESYNC_BYTES 80u
#define RESYNC_AGREE 4u /* bytes that must be equal: one load; fewer at the end */

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
    size_t n = MIN_OF(a.len - i, b.len - j);
    if (LIKELY(n >= RESYNC_AGREE)) return get_u32_le(a.p + i) == get_u32_le(b.p + j);
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
    for (; copy > COPY_MAX; copy -= COPY_MAX) buf_put(out, "\xff\0", OP_BYTES);
    do {
        size_t n_skip = MIN_OF(skip, (size_t)NIBBLE_MAX),
               n_lit = MIN_OF(lit.len, (size_t)NIBBLE_MAX);
        buf_u8(out, (uint8_t)copy);
        buf_u8(out, (uint8_t)(n_skip << 4 | n_lit));
        buf_put(out, lit.p, n_lit);
        copy = 0;
        skip -= n_skip;
        lit = bytes_of(lit.p + n_lit, lit.len - n_lit);
    } while (skip || lit.len);
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

/* A few words or bytes: a call of memcmp costs more. 63 -> 48 ns per lookup, bench_engine. */
static inline bool same_bytes(const uint8_t *a, const uint8_t *b, size_t n)
{
    if (n >= 8) {
        for (size_t i = 0; i + 8 < n; i += 8)
            if (get_u64_le(a + i) != get_u64_le(b + i)) return false;
        return get_u64_le(a + n - 8) == get_u64_le(b + n - 8);
    }
    if (n >= 4)
        return get_u32_le(a) == get_u32_le(b) && get_u32_le(a + n - 4) == get_u32_le(b + n - 4);
    return n == 0 || (a[0] == b[0] && a[n / 2] == b[n / 2] && a[n - 1] == b[n - 1]);
}

bool alias_begins(const struct alias *alias, struct bytes message)
{
    if (alias->sent_len > message.len) return false;
    const uint8_t *from = alias->base->bytes, *p = message.p, *end = p + alias->sent_len;
    /* Our own bytes: the operations make exactly sent_len bytes, so that p cannot pass the end. */
    for (const uint8_t *op = alias->ops; p < end;) {
        size_t copy = op[0], skip = op[1] >> 4, lit = op[1] & NIBBLE_MAX;
        if (!same_bytes(p, from, copy) || !same_bytes(p + copy, op + OP_BYTES, lit)) return false;
        p += copy + lit;
        from += copy + skip;
        op += OP_BYTES + lit;
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
    if (ops.failed || !(alias = cell_pool_get(pool, offsetof(struct alias, ops) + ops.len)))
        goto out;
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
    cell_pool_put(pool, alias, offsetof(struct alias, ops) + alias->ops_len);
}
