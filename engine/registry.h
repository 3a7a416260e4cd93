/* engine/registry.h: the live series of one tenant, found by the bytes a sender uses (registry_sent.c), by labels, by
 * id and by matchers.
 *
 * Label pairs are interned: a series is an ascending-by-name array of pair ids, a pair has its postings (the ids of
 * the series that carry it), a name has its pairs. Ids of series count up and are never used again while the
 * process runs, so that an id in the WAL, a postings list or a successor hint means one series or none.
 *
 * Threads: `lock` guards names, pairs and postings; series_by_id, the successor hints, aliases, and the pairs of a
 * series that is live are read without it. A series, once found, stays until registry_cull, which runs while no writer
 * does (the tenant's gate). What a cull takes away is freed by registry_reclaim when no select can still hold it. */
#ifndef QUIPU_ENGINE_REGISTRY_H
#define QUIPU_ENGINE_REGISTRY_H

#include "engine/alias.h"
#include "engine/engine.h"
#include "engine/head_stream.h"
#include "engine/idlist.h"
#include "engine/idmap.h"
#include "storage/labels.h"

struct head_chunk;
struct head_extra;

/* Two cache lines, side by side: what a known sample touches besides the end of its stream. */
struct series {
    uint32_t id;
    _Atomic uint32_t successor;    /* id of what followed in a request; a hint. relaxed */
    _Atomic(struct alias *) alias; /* of unusual bytes; release in registry_remember, acquire
                                    * when compared */
    uint32_t *pairs;               /* n_pairs ids, by name; fixed */
    struct head_chunk *chunks;     /* closed, newest first; the head stripe's lock */
    struct head_extra *extra;      /* the head stripe's lock */
    _Atomic uint32_t logged;       /* the log mark under which the WAL knows it; see write.c */
    uint32_t last_gen;             /* of its last sample; the head stripe's lock */
    uint32_t tag;                  /* of its usual bytes */
    uint16_t n_pairs;
    _Atomic bool live; /* release when all above is there, acquire by who has no lock */
    bool behind; /* older generations in the head are later than this one; the head stripe's lock */
    uint32_t open_gen;       /* of `open`; the head stripe's lock, as for the next line */
    struct head_stream open; /* what samples are appended to; newer than `chunks` */
};
#define SERIES_ALIGN 64
static_assert(sizeof(struct series) == 2 * SERIES_ALIGN, "two cache lines");
static_assert(offsetof(struct series, open) == SERIES_ALIGN, "the second line");

/* Something a select may still look at. */
struct retired {
    struct retired *next;
    uint64_t view; /* number of the last view that can */
    uint32_t size;
};

struct label_name {
    struct retired retired;
    uint32_t *pairs; /* in no order */
    size_t n, cap;
    uint32_t tag, len;
    char text[];
};
struct label_pair {
    union {
        struct idlist ids; /* of the series that carry it; never empty between calls */
        struct retired retired;
    };
    uint32_t name, name_idx; /* name id, and where in its pairs */
    uint32_t tag, len;       /* len: of the value */
    uint32_t sent_len;
    uint8_t sent[]; /* as senders usually encode the pair (registry_sent.c); the value ends it */
};
static inline struct str label_pair_value(const struct label_pair *pair)
{
    return (struct str){(const char *)pair->sent + pair->sent_len - pair->len, pair->len};
}

/* Names or pairs by id (from 1), with ids given out again. Parts never move, so that an item which is known to be
 * there is read without a lock. */
#define IDTABLE_FIRST_BITS                                                                         \
    8 /* of part 0; each further part is as large as all before it, and 2^8 more */
#define IDTABLE_PARTS (32 - IDTABLE_FIRST_BITS)
struct idtable {
    void **parts[IDTABLE_PARTS];
    uint32_t n_slots;    /* ids 1 .. n_slots */
    uint32_t n, free;    /* in use; how many of the slots are free */
    uint32_t first_free; /* no free slot below it */
};
/* The slot of an id in 1 .. n_slots, or one more after idtable_reserve. */
static inline void **idtable_slot(const struct idtable *t, uint32_t id)
{
    uint64_t i = (uint64_t)id - 1 + (UINT64_C(1) << IDTABLE_FIRST_BITS);
    unsigned bits = 63u - (unsigned)__builtin_clzll(i);
    return &t->parts[bits - IDTABLE_FIRST_BITS][i - (UINT64_C(1) << bits)];
}

#define SERIES_PAGE 64 /* series of a page */
#define SERIES_MID 64  /* pages of a directory page */
struct series_page {
    struct series s[SERIES_PAGE];
    struct retired retired;
    void *raw; /* of mem_alloc; the page is aligned within */
    uint32_t n_live;
};
struct series_mid {
    _Atomic(struct series_page *)
        pages[SERIES_MID]; /* release: a whole page; acquire: series_by_id */
};
struct series_top {
    struct series_top *older; /* kept until the end: a reader may be in it */
    uint32_t n;
    _Atomic(struct series_mid *) mids[]; /* release, acquire likewise */
};

#define SENT_SHARDS 16
struct sent_shard {
    struct lock lock; /* rank LOCK_INTERN; guards map */
    struct idmap map; /* lower half of the hash of usual bytes, and of aliases -> series id */
};

struct registry {
    struct rwlock lock;     /* rank LOCK_TENANT_VIEW: a select holds it over the head's stripes */
    struct cell_pool *pool; /* of the engine */
    _Atomic uint64_t *n_series_all;   /* of the engine; relaxed */
    _Atomic(struct series_top *) top; /* release in page_new, acquire in series_by_id */
    uint32_t next_id, first_id;       /* GUARDED_BY(lock); no live series below first_id */
    _Atomic uint32_t n_series;        /* written under lock; relaxed */
    _Atomic uint32_t n_pairs;         /* likewise */
    struct idmap by_name, by_pair;    /* GUARDED_BY(lock) */
    struct idtable names, pairs;      /* GUARDED_BY(lock) */
    bool loading;                     /* between registry_load_begin and _end */
    struct alias_base *base;          /* GUARDED_BY(lock) */
    struct retired *retired_names, *retired_pairs, *retired_pages; /* GUARDED_BY(lock) */
    uint32_t tag_mask; /* all ones; tests make every hash collide */
    struct sent_shard shards[SENT_SHARDS];
};

void registry_init(struct registry *reg, struct cell_pool *pool, _Atomic uint64_t *n_series_all);
/* Frees everything; the series have no chunks any more. */
void registry_release(struct registry *reg);

/* The page of the ids page_idx * SERIES_PAGE and up, NULL when there is none. */
static inline struct series_page *registry_page(struct registry *reg, uint32_t page_idx)
{
    struct series_top *top = atomic_load_explicit(&reg->top, memory_order_acquire);
    uint32_t mid_idx = page_idx / SERIES_MID;
    if (!top || mid_idx >= top->n) return NULL;
    struct series_mid *mid = atomic_load_explicit(&top->mids[mid_idx], memory_order_acquire);
    if (!mid) return NULL;
    return atomic_load_explicit(&mid->pages[page_idx % SERIES_MID], memory_order_acquire);
}
/* NULL: no page has it. What it points to may be blank or culled (`live` under the lock tells). Any thread that
 * keeps culls away: by the tenant's gate, the lock, or being alone. */
static inline struct series *series_by_id(struct registry *reg, uint32_t id)
{
    struct series_page *page = registry_page(reg, id / SERIES_PAGE);
    return page ? &page->s[id % SERIES_PAGE] : NULL;
}

/* By bytes as sent; see tenant_find_series, tenant_find_next. */
struct series *registry_find_sent(struct registry *reg, uint64_t hash, struct bytes sent,
                                  struct series *hint);
struct series *registry_find_next(struct registry *reg, struct series_walk *walk,
                                  struct bytes message, size_t *label_bytes);
/* How senders usually encode labels, appended. */
void registry_usual_bytes(struct labels labels, struct buf *out);

struct registry_add {
    struct labels labels;
    uint32_t id;         /* 0: the next one; else this one, as the WAL says (must be free) */
    uint64_t series_max; /* of the engine; 0: none */
    size_t bytes_max;    /* of all registries; 0: none */
    bool only_known;     /* a new one is ERR_NO_MEMORY */
};
/* Get or create. *created may be NULL. ERR_LIMIT over series_max, bytes_max, or out of ids. */
MUST_USE enum err_code registry_add(struct registry *reg, const struct registry_add *add,
                                    struct series **out, bool *created, struct err *err);
/* The log defines series in any order of ids, and postings are ascending: between these two calls of the only thread
 * there are none (no selects, no culls), then they are made at once. */
void registry_load_begin(struct registry *reg);
MUST_USE enum err_code registry_load_end(struct registry *reg, struct err *err);
/* Remembers the bytes, if they are not the usual ones; without memory (or past a few per series) it does not, and
 * they cost a lookup by labels. */
void registry_remember(struct registry *reg, struct series *s, uint64_t hash, struct bytes sent);

/* Under `lock`, or of a live series. Valid as long as the series, and beyond while a view is held. */
static inline struct label_pair *registry_pair(const struct registry *reg, uint32_t pair)
{
    return *idtable_slot(&reg->pairs, pair);
}
static inline struct label_name *registry_name(const struct registry *reg, uint32_t name)
{
    return *idtable_slot(&reg->names, name);
}
static inline struct label registry_label(const struct registry *reg, const struct series *s,
                                          size_t i)
{
    const struct label_pair *pair = registry_pair(reg, s->pairs[i]);
    const struct label_name *name = registry_name(reg, pair->name);
    return (struct label){{name->text, name->len}, label_pair_value(pair)};
}
/* Labels of a series into `items` (n_pairs of them); under `lock`. */
struct labels registry_labels(const struct registry *reg, const struct series *s,
                              struct label *items);
/* The same, encoded (storage/labels.h); under `lock`. */
void registry_encode_labels(const struct registry *reg, const struct series *s, struct buf *out);

/* ---- for registry*.c ---- */

/* Of a hash of bytes as sent. */
static inline uint32_t registry_sent_tag(const struct registry *reg, uint64_t hash)
{
    return (uint32_t)hash & reg->tag_mask;
}
static inline struct sent_shard *registry_sent_shard(struct registry *reg, uint32_t tag)
{
    return &reg->shards[tag % SENT_SHARDS];
}
/* The series whose usual bytes these are. */
struct series *registry_find_usual(struct registry *reg, uint32_t tag, struct bytes usual);
/* A pair that nobody carries (any more). */
void registry_pair_drop(struct registry *reg, uint32_t pair, uint64_t view);

/* 0: not there; under `lock`. */
uint32_t registry_find_name(const struct registry *reg, struct str name);
uint32_t registry_find_pair(const struct registry *reg, uint32_t name, struct str value);

/* Ids of the series that satisfy all matchers, ascending by id; n_matchers 0: all. Under `lock`. */
MUST_USE enum err_code registry_select(struct registry *reg, const struct matcher *matchers,
                                       size_t n_matchers, struct arena *arena, uint32_t **ids,
                                       size_t *n, struct err *err);
/* Sorts ids by labels (labels_cmp). Under `lock`. */
MUST_USE enum err_code registry_sort(struct registry *reg, uint32_t *ids, size_t n,
                                     struct err *err);

/* Calls fn for every live series, ascending by id, under `lock` shared; nobody may cull meanwhile. */
void registry_each(struct registry *reg, void (*fn)(void *ctx, struct series *s), void *ctx);

/* Removes the series fn says true of (at most `max` of them). Under the tenant's gate, alone; takes the lock.
 * `view`: number of the newest view that may know them. Returns how many. */
size_t registry_cull(struct registry *reg, bool (*fn)(void *ctx, struct series *s), void *ctx,
                     size_t max, uint64_t view);
/* Frees what was culled and only views below oldest_view could know. Takes the lock. */
void registry_reclaim(struct registry *reg, uint64_t oldest_view);

#endif
