/* Memory: counted per owner; failures at will. */
#include "tests/quipu_test.h"

#include "base/mem.h"

static void counts_per_owner(void **state)
{
    (void)state;
    size_t wal = mem_bytes(MEM_WAL), head = mem_bytes(MEM_HEAD), total = mem_bytes_total();
    void *a = mem_alloc(MEM_WAL, 100), *b = mem_calloc(MEM_HEAD, 10, 7);
    CHECK_U64(mem_bytes(MEM_WAL), wal + 100);
    CHECK_U64(mem_bytes(MEM_HEAD), head + 70);
    CHECK_U64(mem_bytes_total(), total + 170);
    CHECK((uintptr_t)a % 16 == 0);
    CHECK((uintptr_t)b % 16 == 0);
    for (int i = 0; i < 70; i++) CHECK(((uint8_t *)b)[i] == 0);
    memset(a, 5, 100);
    a = mem_realloc(MEM_HEAD, a, 1000); /* stays the owner's who allocated it */
    for (int i = 0; i < 100; i++) CHECK(((uint8_t *)a)[i] == 5);
    CHECK_U64(mem_bytes(MEM_WAL), wal + 1000);
    mem_free(a);
    mem_free(b);
    mem_free(NULL);
    CHECK_U64(mem_bytes_total(), total);
    void *c = mem_realloc(MEM_HEAD, NULL, 3);
    CHECK_U64(mem_bytes(MEM_HEAD), head + 3);
    mem_free(c);
    void *zero = mem_alloc(MEM_WAL, 0);
    CHECK(zero != NULL);
    mem_free(zero);
    char *z = mem_strdup(MEM_BASE, "text");
    CHECK_STR(str_of(z), "text");
    mem_free(z);
    CHECK_U64(mem_bytes_total(), total);
}

static void overflow_is_out_of_memory(void **state)
{
    (void)state;
    size_t total = mem_bytes_total(), product;
    CHECK(mem_alloc(MEM_BASE, SIZE_MAX) == NULL);
    CHECK(mem_alloc(MEM_BASE, SIZE_MAX - 8) == NULL);
    CHECK(mem_calloc(MEM_BASE, SIZE_MAX / 2, 3) == NULL);
    CHECK(!mem_mul(SIZE_MAX / 2, 3, &product));
    CHECK(mem_mul(SIZE_MAX, 1, &product));
    CHECK_U64(product, SIZE_MAX);
    CHECK_U64(mem_bytes_total(), total);
}

static void grow_keeps_items(void **state)
{
    (void)state;
    uint32_t *items = NULL;
    size_t cap = 0;
    struct err err;
    for (uint32_t i = 0; i < 10000; i++) {
        CHECK_OK(mem_grow(MEM_BASE, (void **)&items, &cap, i + 1, sizeof(*items), &err), &err);
        CHECK(cap > i);
        items[i] = i;
    }
    CHECK(cap < 20000);
    for (uint32_t i = 0; i < 10000; i++) CHECK(items[i] == i);
    uint32_t *before = items;
    size_t cap_before = cap;
    CHECK_ERR(mem_grow(MEM_BASE, (void **)&items, &cap, SIZE_MAX / 2, sizeof(*items), &err),
              ERR_NO_MEMORY);
    CHECK(items == before);
    CHECK_U64(cap, cap_before);
    mem_free(items);
}

struct countdown {
    size_t left;
    size_t n_calls;
};

static bool fail_at_zero(void *ctx, size_t size)
{
    struct countdown *c = ctx;
    (void)size;
    c->n_calls++;
    if (c->left == 0) return true;
    c->left--;
    return false;
}

static void the_kth_allocation_fails(void **state)
{
    (void)state;
    size_t total = mem_bytes_total();
    for (size_t k = 0; k < 5; k++) {
        struct countdown c = {k, 0};
        mem_set_fail_hook(fail_at_zero, &c);
        void *a = mem_alloc(MEM_BASE, 1);
        void *b = mem_calloc(MEM_BASE, 1, 1);
        void *p = a ? mem_realloc(MEM_BASE, a, 2) : NULL;
        void *m = mem_map(MEM_BASE, MEM_PAGE_BYTES);
        mem_set_fail_hook(NULL, NULL);
        CHECK((a != NULL) == (k > 0));
        CHECK((b != NULL) == (k > 1));
        CHECK((p != NULL) == (k > 2));
        CHECK((m != NULL) == (k > 3));
        mem_free(p ? p : a); /* untouched where realloc failed */
        mem_free(b);
        mem_unmap(MEM_BASE, m, MEM_PAGE_BYTES);
        CHECK_U64(mem_bytes_total(), total);
    }
}

static void an_owner_has_a_limit(void **state)
{
    (void)state;
    size_t before = mem_bytes(MEM_QUERY), page = MEM_PAGE_BYTES;
    mem_set_limit(MEM_QUERY, before + page + 100);
    CHECK_U64(mem_limit(MEM_QUERY), before + page + 100);
    void *map = mem_map(MEM_QUERY, page);
    CHECK(map != NULL);
    CHECK(mem_map(MEM_QUERY, page) == NULL);
    CHECK(mem_alloc(MEM_QUERY, 101) == NULL);
    CHECK(mem_calloc(MEM_QUERY, 1, SIZE_MAX / 2) == NULL);
    CHECK_U64(mem_bytes(MEM_QUERY), before + page);
    void *p = mem_alloc(MEM_QUERY, 60);
    CHECK(p != NULL);
    CHECK(mem_realloc(MEM_QUERY, p, 101) == NULL);
    CHECK_U64(mem_bytes(MEM_QUERY), before + page + 60);
    p = mem_realloc(MEM_QUERY, p, 100); /* only what is added counts */
    CHECK(p != NULL);
    void *other = mem_alloc(MEM_WAL, 1000); /* others are not touched */
    CHECK(other != NULL);
    mem_set_limit(MEM_QUERY,
                  1); /* below what is there: nothing more, and what is there can shrink */
    CHECK(mem_alloc(MEM_QUERY, 1) == NULL);
    p = mem_realloc(MEM_QUERY, p, 10);
    CHECK(p != NULL);
    mem_set_limit(MEM_QUERY, 0);
    void *large = mem_alloc(MEM_QUERY, 1000);
    CHECK(large != NULL);
    mem_free(large);
    mem_free(other);
    mem_free(p);
    mem_unmap(MEM_QUERY, map, page);
    CHECK_U64(mem_bytes(MEM_QUERY), before);
    mem_trim_heap();
}

static void pages_are_aligned_and_zero(void **state)
{
    (void)state;
    struct rng rng;
    test_rng(&rng);
    size_t before = mem_bytes(MEM_HEAD), used = 0;
    struct {
        uint8_t *p;
        size_t size;
    } live[40] = {{0}};
    for (int step = 0; step < 1000; step++) {
        size_t i = rng_below(&rng, COUNT_OF(live));
        if (live[i].p) {
            CHECK(live[i].p[0] == (uint8_t)i && live[i].p[live[i].size - 1] == (uint8_t)i);
            mem_unmap(MEM_HEAD, live[i].p, live[i].size);
            used -= live[i].size;
            live[i].p = NULL;
        } else {
            live[i].size = MEM_PAGE_BYTES * (1 + rng_below(&rng, 4));
            live[i].p = mem_map(MEM_HEAD, live[i].size);
            CHECK(live[i].p != NULL);
            CHECK((uintptr_t)live[i].p % MEM_PAGE_BYTES == 0);
            for (size_t k = 0; k < live[i].size; k += 1021) CHECK(live[i].p[k] == 0);
            memset(live[i].p, (int)i, live[i].size);
            used += live[i].size;
        }
        CHECK_U64(mem_bytes(MEM_HEAD), before + used);
    }
    for (size_t i = 0; i < COUNT_OF(live); i++) mem_unmap(MEM_HEAD, live[i].p, live[i].size);
    CHECK_U64(mem_bytes(MEM_HEAD), before);
}

static void owners_have_names(void **state)
{
    (void)state;
    for (int i = 0; i < MEM_OWNERS_N; i++) CHECK(mem_owner_name((enum mem_owner)i)[0] != 0);
    CHECK_STR(str_of(mem_owner_name(MEM_REGISTRY)), "registry");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_per_owner),     cmocka_unit_test(overflow_is_out_of_memory),
        cmocka_unit_test(grow_keeps_items),     cmocka_unit_test(the_kth_allocation_fails),
        cmocka_unit_test(an_owner_has_a_limit), cmocka_unit_test(pages_are_aligned_and_zero),
        cmocka_unit_test(owners_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
