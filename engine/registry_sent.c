/* engine/registry_sent.c: series by the label bytes of a request.
 *
 * Most senders encode labels in the same way: by name, a pair after the other, lengths as short as they can be. A pair
 * keeps its bytes in that form, so the bytes by which a series is usually sent need no memory of their own: they are
 * those of its pairs. What is sent in another form is an alias (alias.h).
 *
 * A known series costs no hash. The series that followed in the sender's last request is tried first, and where it has the
 * same pairs as the one before it (all but one or two, mostly) its bytes must be the same as those before, which are
 * in the cache. All bytes are compared in any case. */
#include "engine/registry.h"

#define ALIASES_MAX 4 /* of one series: senders that encode the same labels differently */
#define SENT_BYTES_MAX                                                                             \
    UINT16_MAX /* longer label sets are found by hash alone: series_walk counts in 16 bits */

/* ---- comparing ---- */

typedef uint64_t lanes __attribute__((vector_size(16), aligned(1), may_alias));

/* No branch per step: they nearly always are the same. */
static inline bool same_bytes(const uint8_t *a, const uint8_t *b, size_t n)
{
    if (LIKELY(n >= 16)) {
        lanes differ = {0, 0};
        for (size_t i = 0; i + 16 < n; i += 16)
            differ |= *(const lanes *)(a + i) ^ *(const lanes *)(b + i);
        differ |= *(const lanes *)(a + n - 16) ^ *(const lanes *)(b + n - 16);
        return (differ[0] | differ[1]) == 0;
    }
    if (n >= 8)
        return get_u64_le(a) == get_u64_le(b) && get_u64_le(a + n - 8) == get_u64_le(b + n - 8);
    if (n >= 4)
        return get_u32_le(a) == get_u32_le(b) && get_u32_le(a + n - 4) == get_u32_le(b + n - 4);
    return n == 0 || (a[0] == b[0] && a[n / 2] == b[n / 2] && a[n - 1] == b[n - 1]);
}

/* The series whose bytes are known to be at `sent`: pair i ends at ends[i]. n 0: nothing is known. */
struct before {
    const uint32_t *pairs;
    const uint8_t *sent;
    const uint16_t *ends;
    uint32_t n;
};

/* Which pairs of a series are those of the one before: bit i for pair i, counted from the front, or from the end
 * where `shift` pairs more stand before. */
struct overlap {
    uint64_t same;
    uint32_t n_front; /* pairs that are counted from the front */
    int32_t shift;
};

static inline struct overlap overlap_of(const struct before *b, const uint32_t *pairs, uint32_t n)
{
    struct overlap o = {.n_front = n, .shift = (int32_t)b->n - (int32_t)n};
    if (LIKELY(o.shift == 0)) {
        for (uint32_t i = 0; i < n; i++) o.same |= (uint64_t)(pairs[i] == b->pairs[i]) << i;
        return o;
    }
    uint32_t n_both = MIN_OF(n, b->n);
    for (o.n_front = 0; o.n_front < n_both && pairs[o.n_front] == b->pairs[o.n_front];) o.n_front++;
    o.same = (UINT64_C(1) << o.n_front) - 1; /* n_both < 64, as they differ */
    for (uint32_t k = 1; k <= n_both - o.n_front && pairs[n - k] == b->pairs[b->n - k]; k++)
        o.same |= UINT64_C(1) << (n - k);
    return o;
}

/* Does `message` begin with these pairs in the usual form? ends[i]: where the i-th ends. n <= SENT_PAIRS_MAX. */
static inline bool pairs_sent(const struct registry *reg, const uint32_t *pairs, uint32_t n,
                              struct bytes message, const struct before *b, uint16_t *ends)
{
    struct overlap o = {0};
    if (LIKELY(b->n)) o = overlap_of(b, pairs, n);
    size_t at = 0, room = MIN_OF(message.len, (size_t)SENT_BYTES_MAX);
    for (uint32_t i = 0; i < n;) {
        if (o.same >> i & 1) {
            uint64_t rest = ~(o.same >> i);
            uint32_t run = rest ? (uint32_t)__builtin_ctzll(rest) : 64;
            if (i < o.n_front) run = MIN_OF(run, o.n_front - i);
            uint32_t k = i < o.n_front ? i : (uint32_t)((int32_t)i + o.shift);
            size_t from = k ? b->ends[k - 1] : 0, len = b->ends[k + run - 1] - from;
            if (len > room - at || !same_bytes(message.p + at, b->sent + from, len)) return false;
            for (uint32_t r = 0; r < run; r++)
                ends[i + r] = (uint16_t)(b->ends[k + r] + (at - from));
            at += len;
            i += run;
        } else {
            const struct label_pair *pair = registry_pair(reg, pairs[i]);
            size_t len = pair->sent_len;
            if (len > room - at || !same_bytes(message.p + at, pair->sent, len)) return false;
            ends[i++] = (uint16_t)(at += len);
        }
    }
    return true;
}

/* Is `sent` exactly the series' pairs in the usual form, however many? */
static bool series_sent(const struct registry *reg, const struct series *s, struct bytes sent)
{
    size_t at = 0;
    for (size_t i = 0; i < s->n_pairs; i++) {
        const struct label_pair *pair = registry_pair(reg, s->pairs[i]);
        if (pair->sent_len > sent.len - at || !same_bytes(sent.p + at, pair->sent, pair->sent_len))
            return false;
        at += pair->sent_len;
    }
    return at == sent.len;
}

static const struct alias *find_alias(const struct series *s, struct bytes message)
{
    const struct alias *a = atomic_load_explicit(&s->alias, memory_order_acquire);
    while (a && !alias_begins(a, message)) a = a->next;
    return a;
}

static bool sent_matches(const struct registry *reg, const struct series *s, struct bytes sent)
{
    if (!atomic_load_explicit(&s->live, memory_order_acquire)) return false;
    if (series_sent(reg, s, sent)) return true;
    const struct alias *a = atomic_load_explicit(&s->alias, memory_order_acquire);
    while (a && !(a->sent_len == sent.len && alias_begins(a, sent))) a = a->next;
    return a != NULL;
}

/* ---- the next one of a request ---- */

/* Brings what the next searches will want: the pairs of the successor, which itself was brought by the search
 * before, and the successor's successor. */
PREFETCHES void prefetch_successors(struct registry *reg, const struct series *s)
{
    const struct series *next =
        series_by_id(reg, atomic_load_explicit(&s->successor, memory_order_relaxed));
    if (!next) return;
    __builtin_prefetch(next->pairs);
    next = series_by_id(reg, atomic_load_explicit(&next->successor, memory_order_relaxed));
    if (next) __builtin_prefetch(next);
}

struct series *registry_find_next(struct registry *reg, struct series_walk *walk,
                                  struct bytes message, size_t *label_bytes)
{
    if (!walk->last) return NULL;
    struct series *s =
        series_by_id(reg, atomic_load_explicit(&walk->last->successor, memory_order_relaxed));
    if (!s || !atomic_load_explicit(&s->live, memory_order_acquire)) return NULL;
    struct before b = {walk->last->pairs, walk->sent, walk->ends[walk->turn], walk->n};
    uint16_t *ends = walk->ends[walk->turn ^ 1];
    uint32_t n = s->n_pairs;
    if (LIKELY(n && n <= SENT_PAIRS_MAX && pairs_sent(reg, s->pairs, n, message, &b, ends))) {
        walk->turn ^= 1;
        walk->n = n;
        walk->sent = message.p;
        *label_bytes = ends[n - 1];
    } else {
        const struct alias *a = find_alias(s, message);
        if (!a) return NULL;
        walk->n = 0;
        *label_bytes = a->sent_len;
    }
    walk->last = s;
    prefetch_successors(reg, s);
    return s;
}

/* ---- any ---- */

struct series *registry_find_sent(struct registry *reg, uint64_t hash, struct bytes sent,
                                  struct series *hint)
{
    uint32_t tag = registry_sent_tag(reg, hash), id;
    struct sent_shard *shard = registry_sent_shard(reg, tag);
    struct series *found = NULL;
    lock_take(&shard->lock);
    for (struct idmap_cursor c = idmap_find(&shard->map, tag);
         !found && (id = idmap_next(&shard->map, &c)) != 0;) {
        struct series *s = series_by_id(reg, id);
        if (sent_matches(reg, s, sent)) found = s;
    }
    lock_release(&shard->lock);
    if (found && hint) atomic_store_explicit(&hint->successor, found->id, memory_order_relaxed);
    return found;
}

struct series *registry_find_usual(struct registry *reg, uint32_t tag, struct bytes usual)
{
    struct sent_shard *shard = registry_sent_shard(reg, tag);
    struct series *found = NULL;
    uint32_t id;
    lock_take(&shard->lock);
    for (struct idmap_cursor c = idmap_find(&shard->map, tag);
         !found && (id = idmap_next(&shard->map, &c)) != 0;) {
        struct series *s = series_by_id(reg, id);
        if (series_sent(reg, s, usual)) found = s;
    }
    lock_release(&shard->lock);
    return found;
}

void registry_remember(struct registry *reg, struct series *s, uint64_t hash, struct bytes sent)
{
    if (sent.len == 0 || sent.len > ALIAS_SENT_BYTES_MAX || sent_matches(reg, s, sent)) return;
    uint32_t tag = registry_sent_tag(reg, hash);
    struct sent_shard *shard = registry_sent_shard(reg, tag);
    rwlock_write(&reg->lock);
    struct alias *first = atomic_load_explicit(&s->alias, memory_order_relaxed);
    size_t n = 0;
    for (struct alias *a = first; a; a = a->next) n++;
    if (n < ALIASES_MAX && !sent_matches(reg, s, sent)) {
        struct alias *a = alias_new(reg->pool, &reg->base, hash, sent);
        lock_take(&shard->lock);
        if (a && idmap_reserve(&shard->map)) {
            a->next = first;
            idmap_insert(&shard->map, tag, s->id);
            atomic_store_explicit(&s->alias, a, memory_order_release);
            a = NULL;
        }
        lock_release(&shard->lock);
        if (a) alias_free(reg->pool, a);
    }
    rwlock_release(&reg->lock);
}
