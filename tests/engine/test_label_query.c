/* Names and values that are searched for, and the first of many: head and blocks together against the whole list. */
#include "tests/engine/fixture.h"

#define HOUR INT64_C(3600000)
#define N_VALUES 3000

#define N_ROUND (N_VALUES / 3)

static struct series *value_series(struct fixture *f, struct tenant *t, const char *value)
{
    struct label items[] = {{STR(LABEL_NAME), STR("m")}, {STR("v"), str_of(value)}};
    struct series *s;
    CHECK_OK(
        tenant_add_series(t, (struct labels){items, 2}, 0, bytes_of(NULL, 0), NULL, &s, &f->err),
        &f->err);
    return s;
}

static void write_round(struct fixture *f, struct tenant *t, struct rng *rng, int64_t t_ms)
{
    static struct series *series[N_ROUND];
    static int64_t times[N_ROUND];
    static double v[N_ROUND];
    struct done done = {0, ERR_OK};
    struct write_batch b = {.n = N_ROUND, .series = series, .t_ms = times, .v = v};
    struct write_result result;
    tenant_write_begin(t);
    for (int i = 0; i < N_ROUND; i++) {
        char value[32];
        snprintf(value, sizeof(value), "%s%llu", rng_chance(rng, 0.5) ? "Pod-" : "x",
                 (unsigned long long)rng_below(rng, N_VALUES));
        series[i] = value_series(f, t, value);
        times[i] = t_ms + i;
    }
    CHECK_OK(tenant_write(t, &b, note_done, &done, &result, &f->err), &f->err);
    tenant_write_end(t);
    CHECK_OK(engine_commit(f->engine, &f->err), &f->err);
    CHECK_OK(done.rc, &f->err);
}

/* Values in no order, some in blocks, some in the head, some in both. */
static void fill(struct fixture *f, struct tenant *t, struct rng *rng)
{
    for (int round = 0; round < 4; round++) {
        write_round(f, t, rng, NOW_MS - (4 - round) * HOUR);
        if (round < 3) CHECK_OK(engine_flush(f->engine, t, &f->err), &f->err);
    }
}

struct list {
    struct str *items;
    size_t n;
    bool truncated;
};

static struct list values(struct fixture *f, struct tenant *t, bool matched, struct arena *arena,
                          struct label_want want)
{
    struct list list;
    struct matcher m = {.op = MATCH_EQ, .name = STR(LABEL_NAME), .value = STR("m")};
    CHECK_OK(tenant_label_values(t, STR("v"), &m, matched, INT64_MIN, INT64_MAX, &want, arena,
                                 &list.items, &list.n, &list.truncated, &f->err),
             &f->err);
    return list;
}

static void check(struct fixture *f, struct tenant *t, const struct list *all,
                  struct label_want want)
{
    struct arena arena;
    arena_init(&arena, MEM_BASE, 0);
    for (int matched = 0; matched < 2; matched++) {
        struct list got = values(f, t, matched, &arena, want);
        size_t n = 0;
        for (size_t i = 0; i < all->n; i++) {
            if (!label_wanted(&want, all->items[i])) continue;
            if (!want.limit || n < want.limit) {
                CHECK(n < got.n);
                CHECK(str_eq(got.items[n], all->items[i]));
            }
            n++;
        }
        CHECK_U64(got.n, want.limit ? MIN_OF(n, want.limit) : n);
        CHECK(got.truncated == (want.limit && n > want.limit));
    }
    arena_release(&arena);
}

static void first_of_many(void **state)
{
    (void)state;
    static const char *const SEARCHES[] = {"",   "1", "pod-1",   "^POD-2",
                                           "^1", "^", "nowhere", "od-29"};
    static const size_t LIMITS[] = {0, 1, 2, 100, 600, 1023, 1024, 1500, 100000};
    struct fixture f;
    struct rng rng;
    struct arena arena;
    test_rng(&rng);
    fixture_open(&f);
    struct tenant *t = fixture_tenant(&f, "default");
    fill(&f, t, &rng);
    arena_init(&arena, MEM_BASE, 0);
    struct list all = values(&f, t, false, &arena, (struct label_want){0, STR("")});
    CHECK(all.n > N_VALUES / 2 && !all.truncated);
    for (size_t i = 1; i < all.n; i++) CHECK(str_cmp(all.items[i - 1], all.items[i]) < 0);
    for (size_t s = 0; s < COUNT_OF(SEARCHES); s++)
        for (size_t l = 0; l < COUNT_OF(LIMITS); l++)
            check(&f, t, &all, (struct label_want){LIMITS[l], str_of(SEARCHES[s])});
    /* as many as there are is not too many */
    check(&f, t, &all, (struct label_want){all.n, STR("")});
    check(&f, t, &all, (struct label_want){all.n - 1, STR("")});
    struct label_want want = {0, STR("NAME")};
    struct list names;
    CHECK_OK(tenant_label_names(t, NULL, 0, INT64_MIN, INT64_MAX, &want, &arena, &names.items,
                                &names.n, &names.truncated, &f.err),
             &f.err);
    CHECK_U64(names.n, 1);
    CHECK_STR(names.items[0], LABEL_NAME);
    arena_release(&arena);
    fixture_close(&f);
}

static void searches(void **state)
{
    (void)state;
    static const struct {
        const char *search, *text;
        bool wanted;
    } CASES[] = {{"", "", true},
                 {"", "x", true},
                 {"a", "", false},
                 {"b", "abc", true},
                 {"BC", "abc", true},
                 {"abc", "ABC", true},
                 {"abcd", "abc", false},
                 {"^b", "abc", false},
                 {"^A", "abc", true},
                 {"^", "", true},
                 {"^abcd", "abc", false},
                 {"c^", "abc^", true},
                 {"\xc3\x84", "\xc3\xa4", false}};
    for (size_t i = 0; i < COUNT_OF(CASES); i++) {
        struct label_want want = {0, str_of(CASES[i].search)};
        if (label_wanted(&want, str_of(CASES[i].text)) != CASES[i].wanted)
            test_fail(__FILE__, __LINE__, "%s in %s", CASES[i].search, CASES[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_of_many),
        cmocka_unit_test(searches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
