/* engine/registry.c: names, pairs and series come to be. */
#include "engine/registry.h"

#include "base/hash.h"

void registry_init(struct registry *reg, struct cell_pool *pool, _Atomic uint64_t *n_series_all)
{
    memset(reg, 0, sizeof(*reg));
    reg->pool = pool;
    reg->n_series_all = n_series_all;
    reg->next_id = 1;
    reg->first_id = 1;
    reg->tag_mask = UINT32_MAX;
    rwlock_init(&reg->lock, LOCK_TENANT_VIEW);
    for (size_t i = 0; i < SENT_SHARDS; i++) lock_init(&reg->shards[i].lock, LOCK_INTERN);
}

/* ---- how labels are usually sent ----
 * As a field `repeated Label labels = 1` of protobuf, { string name = 1; string value = 2; }. */

#define LABELS_TAG 0x0a
#define NAME_TAG 0x0a
#define VALUE_TAG 0x12

static size_t varint_bytes(uint64_t v)
{
    return v ? (size_t)(70 - __builtin_clzll(v)) / 7 : 1;
}

/* Of the label inside its field. An empty string is not sent, as protobuf has it. */
static size_t label_bytes(struct label l)
{
    size_t n = l.name.len ? 1 + varint_bytes(l.name.len) + l.name.len : 0;
    return n + (l.value.len ? 1 + varint_bytes(l.value.len) + l.value.len : 0);
}

static size_t usual_bytes(struct label l)
{
    size_t n = label_bytes(l);
    return 1 + varint_bytes(n) + n;
}

static uint8_t *put_text(uint8_t *p, uint8_t tag, struct str s)
{
    if (s.len == 0) return p;
    *p++ = tag;
    p += put_varint(p, s.len);
    memcpy(p, s.p, s.len);
    return p + s.len;
}

static uint8_t *usual_put(uint8_t *p, struct label l)
{
    *p++ = LABELS_TAG;
    p += put_varint(p, label_bytes(l));
    return put_text(put_text(p, NAME_TAG, l.name), VALUE_TAG, l.value);
}

void registry_usual_bytes(struct labels labels, struct buf *out)
{
    for (size_t i = 0; i < labels.n; i++) {
        size_t n = usual_bytes(labels.items[i]);
        uint8_t *p = buf_reserve(out, n);
        if (!p) return; /* out->failed */
        usual_put(p, labels.items[i]);
        out->len += n;
    }
}

/* ---- tables of names and pairs ---- */

/* The id for one more item; 0 when memory is out. Nothing is taken until table_set. */
static uint32_t table_reserve(struct idtable *t)
{
    if (t->free) {
        uint32_t id = t->first_free + 1;
        while (*idtable_slot(t, id)) id++;
        t->first_free = id - 1;
        return id;
    }
    if (t->n_slots >= UINT32_MAX - (1u << IDTABLE_FIRST_BITS)) return 0;
    uint32_t i = t->n_slots + (1u << IDTABLE_FIRST_BITS);
    unsigned bits = 31u - (unsigned)__builtin_clz(i);
    void ***part = &t->parts[bits - IDTABLE_FIRST_BITS];
    if (!*part) *part = mem_calloc(MEM_REGISTRY, (size_t)1 << bits, sizeof(void *));
    return *part ? t->n_slots + 1 : 0;
}

static void table_set(struct idtable *t, uint32_t id, void *item)
{
    if (id > t->n_slots)
        t->n_slots = id;
    else
        t->free--;
    *idtable_slot(t, id) = item;
    t->n++;
}

static void table_clear(struct idtable *t, uint32_t id)
{
    *idtable_slot(t, id) = NULL;
    t->first_free = t->free ? MIN_OF(t->first_free, id - 1) : id - 1;
    t->free++;
    t->n--;
}

static uint32_t fold(const struct registry *reg, uint64_t hash)
{
    return (uint32_t)(hash ^ hash >> 32) & reg->tag_mask;
}

static uint32_t name_tag(const struct registry *reg, struct str name)
{
    return fold(reg, hash_xxh3(name.p, name.len));
}

static uint32_t pair_tag(const struct registry *reg, uint32_t name, struct str value)
{
    return fold(reg, hash_xxh3(value.p, value.len) + name * UINT64_C(0x9e3779b97f4a7c15));
}

uint32_t registry_find_name(const struct registry *reg, struct str name)
{
    struct idmap_cursor c = idmap_find(&reg->by_name, name_tag(reg, name));
    for (uint32_t id; (id = idmap_next(&reg->by_name, &c)) != 0;) {
        const struct label_name *found = registry_name(reg, id);
        if (str_eq((struct str){found->text, found->len}, name)) return id;
    }
    return 0;
}

uint32_t registry_find_pair(const struct registry *reg, uint32_t name, struct str value)
{
    struct idmap_cursor c = idmap_find(&reg->by_pair, pair_tag(reg, name, value));
    for (uint32_t id; (id = idmap_next(&reg->by_pair, &c)) != 0;) {
        const struct label_pair *found = registry_pair(reg, id);
        if (found->name == name && str_eq(label_pair_value(found), value)) return id;
    }
    return 0;
}

/* 0 when memory is out. */
static uint32_t name_add(struct registry *reg, struct str text)
{
    uint32_t id = table_reserve(&reg->names);
    if (!id || !idmap_reserve(&reg->by_name)) return 0;
    struct label_name *name = cell_pool_get(reg->pool, sizeof(*name) + text.len);
    if (!name) return 0;
    *name = (struct label_name){.tag = name_tag(reg, text), .len = (uint32_t)text.len};
    memcpy(name->text, text.p, text.len);
    table_set(&reg->names, id, name);
    idmap_insert(&reg->by_name, name->tag, id);
    return id;
}

static void name_drop_if_unused(struct registry *reg, uint32_t id, uint64_t view)
{
    struct label_name *name = registry_name(reg, id);
    if (name->n > 0) return;
    idmap_remove(&reg->by_name, name->tag, id);
    table_clear(&reg->names, id);
    mem_free(name->pairs);
    name->retired = (struct retired){reg->retired_names, view, (uint32_t)sizeof(*name) + name->len};
    reg->retired_names = &name->retired;
}

static uint32_t pair_add(struct registry *reg, uint32_t name_id, struct str value)
{
    struct label_name *name = registry_name(reg, name_id);
    uint32_t id = table_reserve(&reg->pairs);
    void *pairs = name->pairs;
    struct err ignored; /* the caller says it in its own words */
    if (!id || !idmap_reserve(&reg->by_pair) ||
        mem_grow(MEM_REGISTRY, &pairs, &name->cap, name->n + 1, sizeof(uint32_t), &ignored))
        return 0;
    name->pairs = pairs;
    struct label label = {{name->text, name->len}, value};
    size_t sent_len = usual_bytes(label);
    struct label_pair *pair = cell_pool_get(reg->pool, sizeof(*pair) + sent_len);
    if (!pair) return 0;
    memset(pair, 0, sizeof(*pair));
    pair->name = name_id;
    pair->name_idx = (uint32_t)name->n;
    pair->tag = pair_tag(reg, name_id, value);
    pair->len = (uint32_t)value.len;
    pair->sent_len = (uint32_t)sent_len;
    usual_put(pair->sent, label);
    name->pairs[name->n++] = id;
    table_set(&reg->pairs, id, pair);
    idmap_insert(&reg->by_pair, pair->tag, id);
    atomic_fetch_add_explicit(&reg->n_pairs, 1, memory_order_relaxed);
    return id;
}

void registry_pair_drop(struct registry *reg, uint32_t id, uint64_t view)
{
    struct label_pair *pair = registry_pair(reg, id);
    struct label_name *name = registry_name(reg, pair->name);
    ASSERT(pair->ids.n == 0);
    uint32_t moved = name->pairs[--name->n];
    name->pairs[pair->name_idx] = moved;
    registry_pair(reg, moved)->name_idx = pair->name_idx;
    idmap_remove(&reg->by_pair, pair->tag, id);
    table_clear(&reg->pairs, id);
    atomic_fetch_sub_explicit(&reg->n_pairs, 1, memory_order_relaxed);
    uint32_t name_id = pair->name;
    pair->retired =
        (struct retired){reg->retired_pairs, view, (uint32_t)sizeof(*pair) + pair->sent_len};
    reg->retired_pairs = &pair->retired;
    name_drop_if_unused(reg, name_id, view);
}

/* ---- pages of series ---- */

static struct series_top *top_grow(struct registry *reg, uint32_t mid_idx)
{
    struct series_top *old = atomic_load_explicit(&reg->top, memory_order_relaxed);
    if (old && mid_idx < old->n) return old;
    uint32_t n = old ? old->n * 2 : 4;
    while (n <= mid_idx) n *= 2;
    struct series_top *top = mem_calloc(MEM_REGISTRY, 1, sizeof(*top) + n * sizeof(top->mids[0]));
    if (!top) return NULL;
    top->n = n;
    top->older = old;
    for (uint32_t i = 0; old && i < old->n; i++) {
        struct series_mid *mid = atomic_load_explicit(&old->mids[i], memory_order_relaxed);
        atomic_store_explicit(&top->mids[i], mid, memory_order_relaxed);
    }
    atomic_store_explicit(&reg->top, top, memory_order_release);
    return top;
}

static struct series_page *page_new(void)
{
    void *raw = mem_calloc(MEM_REGISTRY, 1, sizeof(struct series_page) + SERIES_ALIGN - 1);
    if (!raw) return NULL;
    uintptr_t start = ((uintptr_t)raw + SERIES_ALIGN - 1) & ~(uintptr_t)(SERIES_ALIGN - 1);
    struct series_page *page = (void *)start;
    page->raw = raw;
    return page;
}

/* The page that series `id` belongs into; NULL when memory is out. */
static struct series_page *page_of(struct registry *reg, uint32_t id)
{
    uint32_t page_idx = id / SERIES_PAGE, mid_idx = page_idx / SERIES_MID;
    struct series_top *top = top_grow(reg, mid_idx);
    if (!top) return NULL;
    struct series_mid *mid = atomic_load_explicit(&top->mids[mid_idx], memory_order_relaxed);
    if (!mid) {
        mid = mem_calloc(MEM_REGISTRY, 1, sizeof(*mid));
        if (!mid) return NULL;
        atomic_store_explicit(&top->mids[mid_idx], mid, memory_order_release);
    }
    struct series_page *page =
        atomic_load_explicit(&mid->pages[page_idx % SERIES_MID], memory_order_relaxed);
    if (page) return page;
    page = page_new();
    if (!page) return NULL;
    /* Published while its series are still blank: nobody has their ids yet. */
    atomic_store_explicit(&mid->pages[page_idx % SERIES_MID], page, memory_order_release);
    return page;
}

/* ---- creating series ---- */

/* Interns what is missing and makes room in its postings. *n_done: how many pairs are there, also on failure. */
static bool intern_pairs(struct registry *reg, struct labels labels, uint32_t *pairs,
                         size_t *n_done)
{
    for (*n_done = 0; *n_done < labels.n; ++*n_done) {
        struct label l = labels.items[*n_done];
        uint32_t name = registry_find_name(reg, l.name);
        if (!name) name = name_add(reg, l.name);
        if (!name) return false;
        uint32_t pair = registry_find_pair(reg, name, l.value);
        if (!pair) pair = pair_add(reg, name, l.value);
        if (!pair) {
            name_drop_if_unused(reg, name, 0);
            return false;
        }
        pairs[*n_done] = pair;
        if (!reg->loading && !idlist_reserve(&registry_pair(reg, pair)->ids, reg->pool)) {
            ++*n_done;
            return false;
        }
    }
    return true;
}

/* Takes back what intern_pairs made for a series that did not come to be. */
static void drop_unused_pairs(struct registry *reg, const uint32_t *pairs, size_t n)
{
    for (size_t i = 0; i < n && !reg->loading; i++) { /* else the start fails as a whole */
        /* Nobody has seen them: view 0 lets them go at the next reclaim. */
        if (registry_pair(reg, pairs[i])->ids.n == 0) registry_pair_drop(reg, pairs[i], 0);
    }
}

/* Room in the map of bytes for one more, until the lock of the registry is released. */
static bool sent_reserve(struct registry *reg, uint32_t tag)
{
    struct sent_shard *shard = registry_sent_shard(reg, tag);
    lock_take(&shard->lock);
    bool ok = idmap_reserve(&shard->map);
    lock_release(&shard->lock);
    return ok;
}

static void sent_insert(struct registry *reg, uint32_t tag, uint32_t id)
{
    struct sent_shard *shard = registry_sent_shard(reg, tag);
    lock_take(&shard->lock);
    idmap_insert(&shard->map, tag, id);
    lock_release(&shard->lock);
}

/* Everything that can fail is done before: fills the slot and makes the series known. */
static struct series *series_publish(struct registry *reg, struct series_page *page, uint32_t id,
                                     uint32_t tag, uint32_t *pairs, size_t n)
{
    struct series *s = &page->s[id % SERIES_PAGE];
    s->id = id;
    s->pairs = pairs;
    s->n_pairs = (uint16_t)n;
    s->tag = tag;
    atomic_store_explicit(&s->live, true, memory_order_release);
    page->n_live++;
    for (size_t i = 0; i < n && !reg->loading; i++)
        idlist_append(&registry_pair(reg, pairs[i])->ids, id);
    sent_insert(reg, tag, id);
    if (id >= reg->next_id) reg->next_id = id + 1;
    atomic_fetch_add_explicit(&reg->n_series, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(reg->n_series_all, 1, memory_order_relaxed);
    return s;
}

static enum err_code check_limits(struct registry *reg, const struct registry_add *add,
                                  struct err *err)
{
    uint64_t n = atomic_load_explicit(reg->n_series_all, memory_order_relaxed);
    if (add->series_max && n >= add->series_max)
        return err_set(err, ERR_LIMIT, "%llu series are active, at most %llu",
                       (unsigned long long)n, (unsigned long long)add->series_max);
    size_t bytes = mem_bytes(MEM_REGISTRY);
    if (add->bytes_max && bytes >= add->bytes_max)
        return err_set(err, ERR_LIMIT, "the series take %zu bytes of memory, at most %zu", bytes,
                       add->bytes_max);
    if (add->only_known) return err_set(err, ERR_NO_MEMORY, "short of memory for new series");
    if (add->labels.n > UINT16_MAX) return err_set(err, ERR_LIMIT, "%zu labels", add->labels.n);
    if (!add->id && reg->next_id == UINT32_MAX)
        return err_set(err, ERR_LIMIT, "out of series ids: restart");
    return ERR_OK;
}

static enum err_code series_create(struct registry *reg, const struct registry_add *add,
                                   uint32_t tag, uint32_t *scratch, struct series **out,
                                   struct err *err)
{
    enum err_code rc = check_limits(reg, add, err);
    if (rc) return rc;
    size_t n = add->labels.n, n_done, size = MAX_OF(n, (size_t)1) * sizeof(uint32_t);
    uint32_t id = add->id ? add->id : reg->next_id, *pairs = NULL;
    struct series_page *page = NULL;
    bool ok = intern_pairs(reg, add->labels, scratch, &n_done) &&
              (pairs = cell_pool_get(reg->pool, size)) != NULL &&
              (page = page_of(reg, id)) != NULL && sent_reserve(reg, tag);
    if (!ok) {
        cell_pool_put(reg->pool, pairs, size);
        drop_unused_pairs(reg, scratch, n_done);
        return err_set(err, ERR_NO_MEMORY, "no memory for a new series");
    }
    memcpy(pairs, scratch, n * sizeof(*pairs));
    *out = series_publish(reg, page, id, tag, pairs, n);
    return ERR_OK;
}

enum err_code registry_add(struct registry *reg, const struct registry_add *add,
                           struct series **out, bool *created, struct err *err)
{
    struct buf usual;
    uint32_t few[64], *pairs = few;
    size_t size;
    *out = NULL;
    if (created) *created = false;
    if (add->labels.n > COUNT_OF(few) && (!mem_mul(add->labels.n, sizeof(*pairs), &size) ||
                                          !(pairs = mem_alloc(MEM_REGISTRY, size))))
        return err_set(err, ERR_NO_MEMORY, "a series of %zu labels", add->labels.n);
    buf_init(&usual, MEM_REGISTRY);
    registry_usual_bytes(add->labels, &usual);
    enum err_code rc = buf_finish(&usual, err);
    if (!rc) {
        uint32_t tag = registry_sent_tag(reg, hash_xxh3(usual.p, usual.len));
        rwlock_write(&reg->lock);
        *out = registry_find_usual(reg, tag, buf_bytes(&usual));
        if (!*out) {
            rc = series_create(reg, add, tag, pairs, out, err);
            if (!rc && created) *created = true;
        }
        rwlock_release(&reg->lock);
    }
    buf_release(&usual);
    if (pairs != few) mem_free(pairs);
    return rc;
}

void registry_load_begin(struct registry *reg)
{
    reg->loading = true;
}

struct load {
    struct registry *reg;
    bool failed;
};

static void load_postings(void *ctx, struct series *s)
{
    struct load *load = ctx;
    for (size_t i = 0; i < s->n_pairs && !load->failed; i++) {
        struct idlist *ids = &registry_pair(load->reg, s->pairs[i])->ids;
        load->failed = !idlist_reserve(ids, load->reg->pool);
        if (!load->failed) idlist_append(ids, s->id);
    }
}

enum err_code registry_load_end(struct registry *reg, struct err *err)
{
    struct load load = {.reg = reg};
    registry_each(reg, load_postings, &load);
    reg->loading = false;
    return load.failed ? err_set(err, ERR_NO_MEMORY, "no memory for postings") : ERR_OK;
}

struct labels registry_labels(const struct registry *reg, const struct series *s,
                              struct label *items)
{
    for (size_t i = 0; i < s->n_pairs; i++) items[i] = registry_label(reg, s, i);
    return (struct labels){items, s->n_pairs};
}

void registry_encode_labels(const struct registry *reg, const struct series *s, struct buf *out)
{
    buf_varint(out, s->n_pairs);
    for (size_t i = 0; i < s->n_pairs; i++) {
        struct label l = registry_label(reg, s, i);
        buf_str(out, l.name);
        buf_str(out, l.value);
    }
}

/* ---- all of them ---- */

static void page_each(struct series_page *page, void (*fn)(void *ctx, struct series *s), void *ctx)
{
    for (size_t k = 0; k < SERIES_PAGE; k++)
        if (page->s[k].live) fn(ctx, &page->s[k]);
}

void registry_each(struct registry *reg, void (*fn)(void *ctx, struct series *s), void *ctx)
{
    rwlock_read(&reg->lock);
    uint32_t first = reg->first_id / SERIES_PAGE, end = reg->next_id / SERIES_PAGE + 1;
    rwlock_release(&reg->lock);
    for (uint32_t page_idx = first; page_idx < end; page_idx++) {
        struct series_page *page = registry_page(reg, page_idx);
        if (!page) continue;
        rwlock_read(&reg->lock); /* page by page, so that new series need not wait for all */
        page_each(page, fn, ctx);
        rwlock_release(&reg->lock);
    }
}
