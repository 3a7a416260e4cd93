/* storage/compact_family.c: see the header. */
#include "storage/compact_family.h"

#include <math.h>
#include <stdlib.h>

#include "base/hash.h"

#define BUCKET STR("_bucket")
#define COUNT STR("_count")
#define LE STR("le")

enum role { NO_MEMBER, IS_BUCKET, IS_COUNT };

/* What the labels say of a series; base: the metric without its suffix. */
static enum role role_of(struct labels labels, struct str *base)
{
    struct str name = labels_get(labels, STR(LABEL_NAME));
    bool has_le = labels_get(labels, LE).len > 0;
    struct str suffix = has_le ? BUCKET : COUNT;
    if (name.len <= suffix.len || !str_has_suffix(name, suffix)) return NO_MEMBER;
    *base = (struct str){name.p, name.len - suffix.len};
    return has_le ? IS_BUCKET : IS_COUNT;
}

static bool is_key_label(const struct label *label)
{
    return !str_eq(label->name, LE) && !str_eq(label->name, STR(LABEL_NAME));
}

/* ---- finding ---- */

void compact_families_init(struct compact_families *f)
{
    *f = (struct compact_families){0};
    buf_init(&f->scratch, MEM_STORAGE);
}

void compact_families_release(struct compact_families *f)
{
    mem_free(f->keys);
    mem_free(f->items);
    mem_free(f->member);
    buf_release(&f->scratch);
}

static void put_str(struct buf *out, struct str s)
{
    buf_varint(out, s.len);
    buf_text(out, s);
}

enum err_code compact_families_add(struct compact_families *f, uint32_t series,
                                   struct labels labels, struct err *err)
{
    struct str base;
    if (role_of(labels, &base) == NO_MEMBER) return ERR_OK;
    buf_reset(&f->scratch);
    put_str(&f->scratch, base);
    for (size_t i = 0; i < labels.n; i++) {
        if (!is_key_label(&labels.items[i])) continue;
        put_str(&f->scratch, labels.items[i].name);
        put_str(&f->scratch, labels.items[i].value);
    }
    enum err_code rc = buf_finish(&f->scratch, err);
    if (rc) return rc;
    void *keys = f->keys;
    rc = mem_grow(MEM_STORAGE, &keys, &f->keys_cap, f->n_keys + 1, sizeof(*f->keys), err);
    f->keys = keys;
    if (rc) return rc;
    f->keys[f->n_keys++] =
        (struct compact_family_key){hash_xxh3(f->scratch.p, f->scratch.len), series};
    return ERR_OK;
}

static int compare_keys(const void *a, const void *b)
{
    const struct compact_family_key *x = a, *y = b;
    if (x->hash != y->hash) return x->hash < y->hash ? -1 : 1;
    return (x->series > y->series) - (x->series < y->series);
}

static int compare_families(const void *a, const void *b)
{
    const struct compact_family *x = a, *y = b;
    return (x->lowest > y->lowest) - (x->lowest < y->lowest);
}

/* The end of the keys that share the hash of the first. */
static size_t group_end(const struct compact_families *f, size_t first)
{
    size_t end = first + 1;
    while (end < f->n_keys && f->keys[end].hash == f->keys[first].hash) end++;
    return end;
}

static bool is_family_size(size_t n)
{
    return n >= FAMILY_MEMBERS_MIN && n <= COMPACT_FAMILY_MAX;
}

enum err_code compact_families_group(struct compact_families *f, uint32_t n_series, struct err *err)
{
    if (f->n_keys) qsort(f->keys, f->n_keys, sizeof(*f->keys), compare_keys);
    size_t n = 0;
    for (size_t i = 0, end; i < f->n_keys; i = end) {
        end = group_end(f, i);
        n += is_family_size(end - i);
    }
    if (n == 0) return ERR_OK;
    f->items = mem_calloc(MEM_STORAGE, n, sizeof(*f->items));
    f->member = mem_calloc(MEM_STORAGE, ((size_t)n_series + 63) / 64, sizeof(*f->member));
    if (!f->items || !f->member)
        return err_set(err, ERR_NO_MEMORY, "no memory for %zu histograms", n);
    for (size_t i = 0, end; i < f->n_keys; i = end) {
        end = group_end(f, i);
        if (!is_family_size(end - i)) continue;
        f->items[f->n++] =
            (struct compact_family){(uint32_t)i, (uint32_t)(end - i), f->keys[i].series};
        for (size_t k = i; k < end; k++)
            f->member[f->keys[k].series / 64] |= UINT64_C(1) << f->keys[k].series % 64;
    }
    qsort(f->items, f->n, sizeof(*f->items), compare_families);
    return ERR_OK;
}

/* ---- ordering ---- */

static bool same_key(struct labels a, struct labels b)
{
    size_t i = 0, k = 0;
    for (;;) {
        while (i < a.n && !is_key_label(&a.items[i])) i++;
        while (k < b.n && !is_key_label(&b.items[k])) k++;
        if (i == a.n || k == b.n) return i == a.n && k == b.n;
        if (!str_eq(a.items[i].name, b.items[k].name) ||
            !str_eq(a.items[i].value, b.items[k].value))
            return false;
        i++, k++;
    }
}

/* False: no number. */
static bool parse_bound(struct str text, double *bound)
{
    char z[64], *end;
    if (text.len == 0 || text.len >= sizeof(z) || text.p[0] == ' ') return false;
    memcpy(z, text.p, text.len);
    z[text.len] = 0;
    *bound = strtod(z, &end);
    return end == z + text.len && !isnan(*bound);
}

struct bucket {
    double bound;
    uint32_t place;
};

static int compare_buckets(const void *a, const void *b)
{
    const struct bucket *x = a, *y = b;
    return (x->bound > y->bound) - (x->bound < y->bound);
}

static bool order_buckets(struct bucket *buckets, size_t n, struct compact_order *order)
{
    if (n < FAMILY_MEMBERS_MIN || n > FAMILY_MEMBERS_MAX) return false;
    qsort(buckets, n, sizeof(*buckets), compare_buckets);
    if (buckets[n - 1].bound != INFINITY) return false;
    for (size_t i = 0; i < n; i++) {
        if (i && buckets[i].bound == buckets[i - 1].bound) return false; /* "1" and "1.0" */
        order->places[i] = buckets[i].place;
    }
    order->n_buckets = n;
    return true;
}

bool compact_family_order(const struct labels *labels, size_t n, struct compact_order *order)
{
    struct bucket buckets[COMPACT_FAMILY_MAX];
    struct str base, first_base = {NULL, 0};
    size_t n_buckets = 0;
    uint32_t count = 0;
    *order = (struct compact_order){0};
    if (n > COMPACT_FAMILY_MAX) return false;
    for (size_t i = 0; i < n; i++) {
        enum role role = role_of(labels[i], &base);
        if (role == NO_MEMBER) return false;
        if (i == 0) first_base = base;
        if (!str_eq(base, first_base) || !same_key(labels[i], labels[0])) return false;
        if (role == IS_COUNT) {
            if (order->has_count) return false;
            order->has_count = true;
            count = (uint32_t)i;
            continue;
        }
        struct bucket *b = &buckets[n_buckets++];
        b->place = (uint32_t)i;
        if (!parse_bound(labels_get(labels[i], LE), &b->bound)) return false;
    }
    if (!order_buckets(buckets, n_buckets, order)) return false;
    if (order->has_count) order->places[order->n_buckets] = count;
    return true;
}
