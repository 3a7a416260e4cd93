/* tests/engine/test_registry.c: aliases, id maps and lists, and the registry against naive searches. */
#include "engine/registry.h"

#include "base/hash.h"
#include "tests/quipu_test.h"

/* ---- aliases ---- */

static struct bytes random_text(struct rng *rng, uint8_t *p, size_t cap)
{
    size_t n = rng_below(rng, cap);
    for (size_t i = 0; i < n; i++) p[i] = (uint8_t)('a' + rng_below(rng, 3)); /* much alike */
    return bytes_of(p, n);
}

/* The text with some bytes replaced, inserted and removed, as another value of a label is. */
static struct bytes mutated(struct rng *rng, struct bytes from, uint8_t *p, size_t cap)
{
    size_t n = 0;
    for (size_t i = 0; i < from.len && n + 2 < cap; i++) {
        if (rng_chance(rng, 0.02)) continue;
        if (rng_chance(rng, 0.02)) p[n++] = (uint8_t)rng_u64(rng);
        p[n++] = rng_chance(rng, 0.02) ? (uint8_t)rng_u64(rng) : from.p[i];
    }
    return bytes_of(p, n);
}

static bool equal(const struct alias *alias, struct bytes sent)
{
    return alias->sent_len == sent.len && alias_begins(alias, sent);
}

static void alias_tells_bytes_apart(void **state)
{
    (void)state;
    struct rng rng;
    struct cell_pool pool;
    CHECK(cell_pool_init(&pool, MEM_REGISTRY));
    PROPERTY_LOOP(&rng, 2000)
    {
        uint8_t a[1200], b[1300], c[1300];
        struct bytes first = random_text(&rng, a, sizeof(a));
        struct alias_base *base = NULL;
        struct alias *x = alias_new(&pool, &base, 1, first);
        struct bytes second = mutated(&rng, first, b, sizeof(b));
        struct alias *y = alias_new(&pool, &base, 2, second);
        CHECK(x && y);
        CHECK(equal(x, first));
        CHECK(equal(y, second));
        CHECK(equal(y, first) == str_eq(str_from_bytes(first), str_from_bytes(second)));
        for (int i = 0; i < 20; i++) { /* one byte is enough */
            if (second.len == 0) break;
            memcpy(c, second.p, second.len);
            c[rng_below(&rng, second.len)] ^= (uint8_t)(1 + rng_below(&rng, 255));
            CHECK(!equal(y, bytes_of(c, second.len)));
        }
        if (second.len) CHECK(!alias_begins(y, bytes_of(second.p, second.len - 1)));
        alias_free(&pool, x);
        alias_free(&pool, y);
        alias_base_unref(&pool, base);
    }
    cell_pool_release(&pool);
}

static void alias_is_small(void **state)
{
    (void)state;
    struct cell_pool pool;
    struct alias_base *base = NULL;
    struct alias *aliases[100];
    size_t bytes = 0;
    CHECK(cell_pool_init(&pool, MEM_REGISTRY));
    for (int i = 0; i < 100; i++) {
        char text[256];
        int n =
            snprintf(text, sizeof(text),
                     "\n\x18\n\x08__name__\x12\x0chttp_seconds\n\x0f\n\x08instance\x12\x03"
                     "a:1\n\x10\n\x03job\x12\x09the-fleet\n\x0c\n\x02le\x12\x06%d.%d\n\x10\n\x05"
                     "route\x12\x07/api/%d",
                     i, i * 7, i % 9);
        aliases[i] = alias_new(&pool, &base, (uint64_t)i, bytes_of(text, (size_t)n));
        CHECK(aliases[i] != NULL);
        bytes += alias_bytes(aliases[i]);
    }
    CHECK(bytes / 100 <= 56);
    for (int i = 0; i < 100; i++) alias_free(&pool, aliases[i]);
    alias_base_unref(&pool, base);
    cell_pool_release(&pool);
}

/* ---- id maps and lists ---- */

static void idmap_as_an_array(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 200)
    {
        enum { N = 300 };
        struct idmap map = {0};
        uint32_t tags[N + 1];
        bool in[N + 1] = {false};
        uint32_t n_tags = 1 + (uint32_t)rng_below(&rng, 400),
                 wide = rng_chance(&rng, 0.5) ? 0x10000001u : 1;
        for (int step = 0; step < 1500; step++) {
            uint32_t id = 1 + (uint32_t)rng_below(&rng, N);
            if (in[id]) {
                idmap_remove(&map, tags[id], id);
            } else {
                tags[id] = (uint32_t)rng_below(&rng, n_tags) * wide + (wide == 1 ? 0xffffff00u : 0);
                CHECK(idmap_reserve(&map));
                idmap_insert(&map, tags[id], id);
            }
            in[id] = !in[id];
        }
        for (uint32_t id = 1; id <= N; id++) {
            if (!in[id]) continue;
            uint32_t n_found = 0, n_same = 0, found;
            struct idmap_cursor c = idmap_find(&map, tags[id]);
            while ((found = idmap_next(&map, &c)) != 0) {
                n_found += found == id;
                n_same++;
                CHECK(in[found]);
                CHECK_U64(tags[found], tags[id]);
            }
            CHECK_U64(n_found, 1);
            for (uint32_t k = 1; k <= N; k++) n_same -= in[k] && tags[k] == tags[id];
            CHECK_U64(n_same, 0);
        }
        idmap_release(&map);
    }
}

static void idlist_as_an_array(void **state)
{
    (void)state;
    struct rng rng;
    struct cell_pool pool;
    CHECK(cell_pool_init(&pool, MEM_REGISTRY));
    PROPERTY_LOOP(&rng, 300)
    {
        enum { N = 500 };
        uint32_t ids[N], got[N], n = 0, id = (uint32_t)rng_below(&rng, 100), base;
        struct idlist list = {0};
        for (size_t k = rng_below(&rng, N); k > 0; k--) {
            id += 1 + (uint32_t)rng_below(&rng, rng_chance(&rng, 0.1) ? 100000 : 3);
            CHECK(idlist_reserve(&list, &pool));
            idlist_append(&list, id);
            ids[n++] = id;
        }
        base = n ? ids[0] : 0;
        for (int round = 0; round < 3; round++) {
            CHECK_U64(list.n, n);
            idlist_decode(&list, got);
            for (uint32_t i = 0; i < n; i++) CHECK_U64(got[i], ids[i]);
            uint64_t *dead = mem_calloc(MEM_BASE, (id - base) / 64 + 2, 8);
            uint32_t kept = 0;
            for (uint32_t i = 0; i < n; i++) {
                if (rng_chance(&rng, 0.4))
                    dead[(ids[i] - base) / 64] |= UINT64_C(1) << ((ids[i] - base) % 64);
                else
                    ids[kept++] = ids[i];
            }
            n = kept;
            idlist_remove(&list, &pool, dead, base);
            mem_free(dead);
        }
        idlist_release(&list, &pool);
    }
    cell_pool_release(&pool);
}

/* ---- the registry ---- */

#define NAMES 4
#define VALUES 5
#define COMBINATIONS 1296 /* (VALUES + 1)^NAMES: each label absent or with a value */

struct reg_fixture {
    struct cell_pool pool;
    _Atomic uint64_t n_all;
    struct registry reg;
};

static void reg_init(struct reg_fixture *f, uint32_t tag_mask)
{
    CHECK(cell_pool_init(&f->pool, MEM_REGISTRY));
    atomic_store(&f->n_all, 0);
    registry_init(&f->reg, &f->pool, &f->n_all);
    f->reg.tag_mask = tag_mask;
}

static void reg_release(struct reg_fixture *f)
{
    registry_release(&f->reg);
    CHECK_U64(atomic_load(&f->n_all), 0);
    cell_pool_release(&f->pool);
}

/* Labels of combination c, 0 .. COMBINATIONS - 1. */
static struct labels combination(struct arena *arena, unsigned c)
{
    static const char *const names[NAMES] = {"__name__", "host", "job", "le"};
    struct label *items = ARENA_ARRAY(arena, struct label, NAMES);
    size_t n = 0;
    for (int i = 0; i < NAMES; i++, c /= VALUES + 1) {
        unsigned v = c % (VALUES + 1);
        if (v == 0) continue;
        /* one value is a prefix of another */
        items[n++] = (struct label){str_of(names[i]), arena_printf(arena, "%.*s", (int)v, "vvwxy")};
    }
    return (struct labels){items, n};
}

static struct bytes sent_of(struct buf *buf, struct labels labels)
{
    buf_reset(buf);
    labels_encode(buf, labels);
    return buf_bytes(buf);
}

static void known_by_labels_and_by_bytes(void **state)
{
    (void)state;
    /* With the narrow masks every table is one long collision. */
    static const uint32_t masks[] = {UINT32_MAX, 7, 0};
    for (size_t m = 0; m < COUNT_OF(masks); m++) {
        struct reg_fixture f;
        struct arena arena;
        struct buf buf;
        struct err err;
        reg_init(&f, masks[m]);
        arena_init(&arena, MEM_BASE, 0);
        buf_init(&buf, MEM_BASE);
        struct series *by_number[COMBINATIONS] = {NULL}, *hint = NULL;
        for (unsigned c = 0; c < COMBINATIONS; c++) {
            struct registry_add add = {.labels = combination(&arena, c)};
            bool created;
            /* The hash of the bytes is the caller's: a bad one must do. */
            struct bytes sent = sent_of(&buf, add.labels);
            uint64_t hash = masks[m] == 0 ? 5 : hash_xxh3(sent.p, sent.len);
            CHECK(registry_find_sent(&f.reg, hash, sent, hint) == NULL);
            CHECK_OK(registry_add(&f.reg, &add, &by_number[c], &created, &err), &err);
            CHECK(created);
            registry_remember(&f.reg, by_number[c], hash, buf_bytes(&buf));
            CHECK(registry_find_sent(&f.reg, hash, buf_bytes(&buf), hint) == by_number[c]);
            hint = by_number[c];
        }
        for (int round = 0; round < 2; round++) { /* the second follows the hints of the first */
            hint = NULL;
            for (unsigned c = 0; c < COMBINATIONS; c++) {
                struct registry_add add = {.labels = combination(&arena, c)};
                struct series *s;
                bool created;
                CHECK_OK(registry_add(&f.reg, &add, &s, &created, &err), &err);
                CHECK(!created && s == by_number[c]);
                struct bytes sent = sent_of(&buf, add.labels);
                uint64_t hash = masks[m] == 0 ? 5 : hash_xxh3(sent.p, sent.len);
                CHECK(registry_find_sent(&f.reg, hash, sent, hint) == s);
                hint = s;
                struct label items[NAMES];
                CHECK(labels_eq(registry_labels(&f.reg, s, items), add.labels));
                arena_reset(&arena);
            }
        }
        buf_release(&buf);
        arena_release(&arena);
        reg_release(&f);
    }
}

/* ---- from one series of a request to the next ---- */

/* What a sender sends of combination c: the usual bytes, or others that are an alias; then a sample's tag. */
static struct bytes message_of(struct arena *arena, unsigned c, bool usual)
{
    struct buf buf;
    buf_init(&buf, MEM_BASE);
    struct labels labels = combination(arena, c);
    if (usual)
        registry_usual_bytes(labels, &buf);
    else
        labels_encode(&buf, labels);
    buf_u8(&buf, 0x12);
    uint8_t *p = arena_alloc(arena, buf.len, 1);
    memcpy(p, buf.p, buf.len);
    size_t n = buf.len;
    buf_release(&buf);
    return bytes_of(p, n);
}

static struct series *find_or_add(struct reg_fixture *f, struct arena *arena, unsigned c,
                                  struct bytes sent, struct series *hint)
{
    struct err err;
    uint64_t hash = hash_xxh3(sent.p, sent.len);
    struct series *s = registry_find_sent(&f->reg, hash, sent, hint);
    if (s) return s;
    struct registry_add add = {.labels = combination(arena, c)};
    CHECK_OK(registry_add(&f->reg, &add, &s, NULL, &err), &err);
    registry_remember(&f->reg, s, hash, sent);
    if (hint) atomic_store(&hint->successor, s->id);
    return s;
}

struct request {
    struct bytes messages[60];
    unsigned combinations[60];
};

/* No series twice; neighbours mostly differ in one label. */
static void request_make(struct request *r, struct rng *rng, struct arena *arena)
{
    bool used[COMBINATIONS] = {true}; /* 0: without labels there is nothing to know it by */
    double usual = rng_chance(rng, 0.3) ? 0.5 : 1;
    unsigned c = 0;
    for (size_t i = 0; i < COUNT_OF(r->messages); i++) {
        if (rng_chance(rng, 0.3)) c = (unsigned)rng_below(rng, COMBINATIONS);
        while (used[c]) c = (c + 1) % COMBINATIONS;
        used[c] = true;
        r->combinations[i] = c;
        r->messages[i] = message_of(arena, c, rng_chance(rng, usual));
    }
}

/* Some bytes are others, or missing. */
static struct bytes damaged(struct rng *rng, struct arena *arena, struct bytes m)
{
    uint8_t *p = arena_alloc(arena, m.len, 1);
    memcpy(p, m.p, m.len);
    p[rng_below(rng, m.len)] ^= (uint8_t)(1 + rng_below(rng, 255));
    return bytes_of(p, m.len - rng_below(rng, MIN_OF(m.len, (size_t)3)));
}

static void the_next_is_known_by_all_its_bytes(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 300)
    {
        struct reg_fixture f;
        struct arena arena;
        struct request request;
        reg_init(&f, UINT32_MAX);
        arena_init(&arena, MEM_BASE, 0);
        request_make(&request, &rng, &arena);
        for (int round = 0; round < 4; round++) { /* all are new; all are there; with changes */
            struct series_walk walk = {0};
            for (size_t i = 0; i < COUNT_OF(request.messages); i++) {
                struct bytes m = request.messages[i];
                if (round >= 2 && rng_chance(&rng, 0.1)) continue;
                if (round >= 2 && rng_chance(&rng, 0.3)) m = damaged(&rng, &arena, m);
                size_t n = 0;
                struct series *last = walk.last, *s = registry_find_next(&f.reg, &walk, m, &n);
                CHECK(walk.last == (s ? s : last));
                if (round == 0 || (round == 1 && i == 0)) CHECK(s == NULL);
                if (round == 1 && i > 0) CHECK(s != NULL && n == m.len - 1);
                struct bytes sent = bytes_of(m.p, s ? n : m.len - 1);
                /* The damaged ones are not made known. */
                if (s)
                    CHECK(registry_find_sent(&f.reg, hash_xxh3(m.p, n), sent, NULL) == s);
                else if (m.p == request.messages[i].p)
                    walk.last = find_or_add(&f, &arena, request.combinations[i], sent, last);
                if (!s) walk.n = 0;
            }
        }
        arena_release(&arena);
        reg_release(&f);
    }
}

static bool ends_with(const void *re, struct str text)
{
    return str_has_suffix(text, str_of(re));
}

static struct matcher random_matcher(struct rng *rng)
{
    static const char *const names[] = {"__name__", "host", "job", "le", "absent"};
    static const char *const values[] = {"", "v", "vv", "vvw", "vvwx", "vvwxy", "other"};
    static const struct str literals[] = {STR("v"), STR("vvw"), STR("other")};
    struct matcher m = {.op = (enum matcher_op)rng_below(rng, 4),
                        .name = str_of(names[rng_below(rng, COUNT_OF(names))]),
                        .value = str_of(values[rng_below(rng, COUNT_OF(values))])};
    if (m.op == MATCH_EQ || m.op == MATCH_NEQ) return m;
    m.re_match = ends_with;
    m.re = values[rng_below(rng, COUNT_OF(values))]; /* "" matches everything */
    if (m.op == MATCH_RE && rng_chance(rng, 0.3)) {
        m.literals = literals;
        m.n_literals = 1 + rng_below(rng, COUNT_OF(literals));
    }
    return m;
}

struct alive {
    bool live[COMBINATIONS];
    struct series *series[COMBINATIONS];
};

static bool in_list(const void *re, struct str text)
{
    const struct matcher *m = re;
    for (size_t i = 0; i < m->n_literals; i++)
        if (str_eq(m->literals[i], text)) return true;
    return false;
}

/* Against asking every set of labels. */
static void check_select(struct rng *rng, struct reg_fixture *f, const struct alive *alive)
{
    struct matcher m[3];
    struct arena arena;
    struct err err;
    uint32_t *ids;
    size_t n, n_matchers = rng_below(rng, 4), expected = 0;
    arena_init(&arena, MEM_BASE, 0);
    for (size_t i = 0; i < n_matchers; i++) {
        m[i] = random_matcher(rng);
        if (!m[i].n_literals) continue;
        m[i].re_match = in_list;
        m[i].re = &m[i];
    }
    rwlock_read(&f->reg.lock);
    CHECK_OK(registry_select(&f->reg, m, n_matchers, &arena, &ids, &n, &err), &err);
    for (size_t i = 1; i < n; i++) CHECK(ids[i - 1] < ids[i]);
    CHECK_OK(registry_sort(&f->reg, ids, n, &err), &err);
    struct label items[NAMES], before[NAMES];
    struct labels last = {before, 0};
    for (size_t i = 0; i < n; i++) {
        struct labels labels = registry_labels(&f->reg, series_by_id(&f->reg, ids[i]), items);
        CHECK(matchers_match_labels(m, n_matchers, labels));
        if (i > 0) CHECK(labels_cmp(last, labels) < 0);
        memcpy(before, items, sizeof(before));
        last.n = labels.n;
    }
    rwlock_release(&f->reg.lock);
    for (unsigned c = 0; c < COMBINATIONS; c++)
        expected += alive->live[c] && matchers_match_labels(m, n_matchers, combination(&arena, c));
    CHECK_U64(n, expected);
    arena_release(&arena);
}

struct doomed {
    struct rng *rng;
    double chance;
};
static bool is_doomed(void *ctx, struct series *s)
{
    (void)s;
    struct doomed *d = ctx;
    return rng_chance(d->rng, d->chance);
}

static void selects_and_culls(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 30)
    {
        struct reg_fixture f;
        struct alive alive = {0};
        struct err err;
        struct arena arena;
        struct buf buf;
        arena_init(&arena, MEM_BASE, 0);
        buf_init(&buf, MEM_BASE);
        reg_init(&f, rng_chance(&rng, 0.5) ? UINT32_MAX : 15);
        for (uint64_t view = 1; view < 6; view++) {
            for (size_t k = rng_below(&rng, 1500); k > 0; k--) {
                unsigned c = (unsigned)rng_below(&rng, COMBINATIONS);
                struct registry_add add = {.labels = combination(&arena, c)};
                bool created;
                CHECK_OK(registry_add(&f.reg, &add, &alive.series[c], &created, &err), &err);
                CHECK(created == !alive.live[c]);
                alive.live[c] = true;
                struct bytes sent = sent_of(&buf, add.labels);
                registry_remember(&f.reg, alive.series[c], hash_xxh3(sent.p, sent.len), sent);
                arena_reset(&arena);
            }
            for (int k = 0; k < 20; k++) check_select(&rng, &f, &alive);
            struct doomed doomed = {&rng, rng_chance(&rng, 0.2) ? 1.0 : rng_unit(&rng)};
            size_t n_live = 0, n_before = atomic_load(&f.n_all);
            size_t n_culled = registry_cull(&f.reg, is_doomed, &doomed, SIZE_MAX, view);
            for (unsigned c = 0; c < COMBINATIONS; c++) {
                if (!alive.live[c]) continue;
                alive.live[c] = alive.series[c]->live;
                n_live += alive.live[c];
                struct bytes sent = sent_of(&buf, combination(&arena, c));
                struct series *found =
                    registry_find_sent(&f.reg, hash_xxh3(sent.p, sent.len), sent, NULL);
                CHECK(found == (alive.live[c] ? alive.series[c] : NULL));
            }
            CHECK_U64(n_before - n_culled, n_live);
            CHECK_U64(atomic_load(&f.n_all), n_live);
            for (int k = 0; k < 10; k++) check_select(&rng, &f, &alive);
            registry_reclaim(&f.reg, view + 1);
        }
        buf_release(&buf);
        arena_release(&arena);
        reg_release(&f);
    }
}

/* The log defines series in any order. */
static void loads_in_any_order(void **state)
{
    (void)state;
    struct rng rng;
    test_rng(&rng);
    struct reg_fixture f;
    struct alive alive = {0};
    struct err err;
    struct arena arena;
    reg_init(&f, UINT32_MAX);
    arena_init(&arena, MEM_BASE, 0);
    registry_load_begin(&f.reg);
    for (unsigned k = 0; k < 600; k++) {
        unsigned c = (k * 619) % COMBINATIONS;
        struct registry_add add = {.labels = combination(&arena, c), .id = 1 + (k * 367) % 9973};
        CHECK_OK(registry_add(&f.reg, &add, &alive.series[c], NULL, &err), &err);
        CHECK_U64(alive.series[c]->id, add.id);
        alive.live[c] = true;
    }
    CHECK_OK(registry_load_end(&f.reg, &err), &err);
    for (int k = 0; k < 100; k++) check_select(&rng, &f, &alive);
    arena_release(&arena);
    reg_release(&f);
}

static void limits_refuse_new_series_only(void **state)
{
    (void)state;
    struct reg_fixture f;
    struct arena arena;
    struct err err;
    struct series *s;
    reg_init(&f, UINT32_MAX);
    arena_init(&arena, MEM_BASE, 0);
    for (unsigned c = 0; c < 20; c++) {
        struct registry_add add = {.labels = combination(&arena, c), .series_max = 10};
        enum err_code rc = registry_add(&f.reg, &add, &s, NULL, &err);
        CHECK(rc == (c < 10 ? ERR_OK : ERR_LIMIT));
    }
    struct registry_add known = {.labels = combination(&arena, 3), .series_max = 10};
    CHECK_OK(registry_add(&f.reg, &known, &s, NULL, &err), &err);
    arena_release(&arena);
    reg_release(&f);
}

struct failing {
    uint64_t k;
};
static bool fail_at(void *ctx, size_t size)
{
    (void)size;
    struct failing *f = ctx;
    return f->k > 0 && --f->k == 0;
}

/* Each allocation of an add fails in turn: ERR_NO_MEMORY, and the registry is as before. */
static void adds_fail_whole(void **state)
{
    (void)state;
    struct rng rng;
    test_rng(&rng);
    for (uint64_t k = 1; k < 30; k++) {
        struct reg_fixture f;
        struct alive alive = {0};
        struct arena arena;
        struct err err;
        reg_init(&f, UINT32_MAX);
        arena_init(&arena, MEM_BASE, 0);
        struct registry_add add[2] = {{.labels = combination(&arena, 1200)},
                                      {.labels = combination(&arena, 777)}};
        for (int i = 0; i < 2; i++) {
            unsigned c = i ? 777 : 1200;
            struct failing failing = {k};
            mem_set_fail_hook(fail_at, &failing);
            enum err_code rc = registry_add(&f.reg, &add[i], &alive.series[c], NULL, &err);
            mem_set_fail_hook(NULL, NULL);
            CHECK(rc == ERR_OK || rc == ERR_NO_MEMORY);
            alive.live[c] = rc == ERR_OK;
            for (int n = 0; n < 10; n++) check_select(&rng, &f, &alive);
        }
        arena_release(&arena);
        reg_release(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alias_tells_bytes_apart),
        cmocka_unit_test(alias_is_small),
        cmocka_unit_test(idmap_as_an_array),
        cmocka_unit_test(idlist_as_an_array),
        cmocka_unit_test(known_by_labels_and_by_bytes),
        cmocka_unit_test(the_next_is_known_by_all_its_bytes),
        cmocka_unit_test(selects_and_culls),
        cmocka_unit_test(loads_in_any_order),
        cmocka_unit_test(limits_refuse_new_series_only),
        cmocka_unit_test(adds_fail_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
