/* Arena: aligned, inside its budget, rewound exactly. */
#include "tests/quipu_test.h"

static void takes_nothing_before_the_first_use(void **state)
{
    (void)state;
    size_t before = mem_bytes(MEM_QUERY);
    struct arena a;
    arena_init(&a, MEM_QUERY, 0);
    CHECK_U64(mem_bytes(MEM_QUERY), before);
    arena_release(&a);
    CHECK(arena_alloc(&a, 1, 1) != NULL);
    CHECK(mem_bytes(MEM_QUERY) > before);
    arena_release(&a);
    CHECK_U64(mem_bytes(MEM_QUERY), before);
}

struct piece {
    uint8_t *p;
    size_t len;
    uint8_t fill;
};

static void check_pieces(const struct piece *pieces, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < pieces[i].len; k++) CHECK(pieces[i].p[k] == pieces[i].fill);
}

/* Random allocations, marks and rewinds against a list of what must still be intact. */
static void random_use(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 300)
    {
        size_t before = mem_bytes(MEM_QUERY);
        struct arena a;
        arena_init(&a, MEM_QUERY, rng_chance(&rng, 0.5) ? 0 : 1 + rng_below(&rng, 200000));
        struct piece pieces[200];
        struct arena_mark marks[200];
        size_t n = 0;
        for (int step = 0; step < 200; step++) {
            if (n && rng_chance(&rng, 0.05)) {
                check_pieces(pieces, n);
                n = rng_below(&rng, n);
                arena_rewind(&a, marks[n]);
            }
            size_t size = rng_chance(&rng, 0.1) ? rng_below(&rng, 20000) : rng_below(&rng, 200);
            size_t align = (size_t)1 << rng_below(&rng, 9);
            marks[n] = arena_mark(&a);
            uint8_t *p = arena_alloc(&a, size, align);
            CHECK(!a.budget_bytes || a.used_bytes <= a.budget_bytes);
            if (!p) {
                struct err err;
                CHECK(a.budget_bytes != 0);
                CHECK_ERR(arena_fail(&a, &err), ERR_LIMIT);
                continue;
            }
            CHECK((uintptr_t)p % align == 0);
            pieces[n] = (struct piece){p, size, (uint8_t)step};
            memset(p, step, size);
            n++;
        }
        check_pieces(pieces, n);
        arena_release(&a);
        CHECK_U64(mem_bytes(MEM_QUERY), before);
    }
}

static void budget_is_named(void **state)
{
    (void)state;
    struct arena a;
    struct err err;
    arena_init(&a, MEM_QUERY, 10000);
    CHECK(arena_alloc(&a, 10001, 1) == NULL);
    CHECK_ERR(arena_fail(&a, &err), ERR_LIMIT);
    CHECK(strstr(err.text, "10000") != NULL);
    CHECK(strstr(err.text, "query") != NULL);
    CHECK(arena_alloc(&a, 9000, 1) != NULL); /* a smaller one still fits */
    arena_release(&a);
}

static bool always(void *ctx, size_t size)
{
    (void)ctx;
    (void)size;
    return true;
}

static void machine_out_of_memory_is_told_apart(void **state)
{
    (void)state;
    struct arena a;
    struct err err;
    arena_init(&a, MEM_QUERY, 1 << 20);
    CHECK(arena_alloc(&a, 2 << 20, 1) == NULL);
    mem_set_fail_hook(always, NULL);
    CHECK(arena_alloc(&a, 10, 1) == NULL);
    CHECK_ERR(arena_fail(&a, &err), ERR_NO_MEMORY);
    CHECK(arena_str(&a, STR("x")).p == NULL);
    CHECK(arena_printf(&a, "x").p == NULL);
    mem_set_fail_hook(NULL, NULL);
    arena_release(&a);
}

static void sizes_that_overflow(void **state)
{
    (void)state;
    struct arena a;
    struct err err;
    arena_init(&a, MEM_QUERY, 0);
    CHECK(arena_alloc(&a, SIZE_MAX, 8) == NULL);
    CHECK(arena_alloc(&a, 8, 8) != NULL);
    CHECK(arena_alloc(&a, SIZE_MAX, 8) == NULL);
    CHECK(arena_alloc(&a, SIZE_MAX - 7, 1) == NULL);
    CHECK(arena_calloc(&a, SIZE_MAX / 2, 3, 8) == NULL);
    CHECK_ERR(arena_fail(&a, &err), ERR_NO_MEMORY);
    arena_release(&a);
}

static void reset_keeps_one_block(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, MEM_QUERY, 0);
    for (int i = 0; i < 1000; i++) CHECK(arena_alloc(&a, 1000, 8) != NULL);
    arena_reset(&a);
    size_t kept = a.used_bytes;
    CHECK(kept > 0);
    CHECK(kept <= (1u << 20));
    for (int round = 0; round < 10; round++) {
        CHECK(arena_alloc(&a, 1000, 8) != NULL);
        arena_reset(&a);
        CHECK_U64(a.used_bytes, kept);
    }
    arena_release(&a);
    arena_reset(&a);
    CHECK_U64(a.used_bytes, 0);
}

static void strings_and_arrays(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, MEM_QUERY, 0);
    struct str s = arena_str(&a, (struct str){"a\0b", 3});
    CHECK(s.len == 3 && memcmp(s.p, "a\0b", 4) == 0);
    CHECK(arena_str(&a, (struct str){NULL, 0}).p[0] == 0);
    CHECK_STR(arena_printf(&a, "%s-%05d", "x", 42), "x-00042");
    uint64_t *v = ARENA_ARRAY(&a, uint64_t, 5000);
    for (int i = 0; i < 5000; i++) CHECK(v[i] == 0);
    arena_release(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_nothing_before_the_first_use),
        cmocka_unit_test(random_use),
        cmocka_unit_test(budget_is_named),
        cmocka_unit_test(machine_out_of_memory_is_told_apart),
        cmocka_unit_test(sizes_that_overflow),
        cmocka_unit_test(reset_keeps_one_block),
        cmocka_unit_test(strings_and_arrays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
