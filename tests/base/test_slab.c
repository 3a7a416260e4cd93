/* Slab: classes, reuse, and no two cells that overlap; and the pool of its pages. */
#include "tests/quipu_test.h"

#include "base/slab.h"

static void classes_waste_little(void **state)
{
    (void)state;
    size_t last = 0, n_classes = 0;
    for (size_t size = 1; size <= SLAB_CELL_BYTES_MAX; size++) {
        size_t cell = slab_cell_bytes(size);
        CHECK(cell >= size);
        CHECK(cell % 8 == 0);
        CHECK(cell >= last);
        CHECK(cell <= SLAB_CELL_BYTES_MAX);
        /* Below 64 bytes the 8-byte step is the finest there is. */
        CHECK(cell - size < 8 || (double)(cell - size) <= 0.125 * (double)cell);
        CHECK_U64(slab_cell_bytes(cell), cell);
        if (cell != last) n_classes++;
        last = cell;
    }
    CHECK_U64(n_classes, 56);
    CHECK_U64(slab_cell_bytes(1), 8);
    CHECK_U64(slab_cell_bytes(128), 128);
    CHECK_U64(slab_cell_bytes(129), 144);
    CHECK_U64(slab_cell_bytes(4096), 4096);
}

struct item {
    uint8_t *p;
    size_t size;
    uint8_t fill;
};

static void random_use(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 30)
    {
        size_t before = mem_bytes(MEM_HEAD);
        struct page_pool *pages = page_pool_new(MEM_HEAD);
        struct slab *slab = slab_new(pages);
        CHECK(slab != NULL);
        size_t empty = slab_bytes(slab);
        enum { N = 2000 };
        struct item *items = calloc(N, sizeof(*items));
        CHECK(items != NULL);
        size_t size_max = rng_chance(&rng, 0.5) ? 64 : SLAB_CELL_BYTES_MAX;
        for (int step = 0; step < 20000; step++) {
            struct item *item = &items[rng_below(&rng, N)];
            if (item->p) {
                for (size_t i = 0; i < item->size; i++) CHECK(item->p[i] == item->fill);
                /* Any size of the same class will do. */
                slab_put(slab, item->p, slab_cell_bytes(item->size));
                item->p = NULL;
            } else {
                item->size = 1 + rng_below(&rng, size_max);
                item->fill = (uint8_t)step;
                item->p = slab_get(slab, item->size);
                CHECK(item->p != NULL);
                CHECK((uintptr_t)item->p % 8 == 0);
                memset(item->p, item->fill, item->size);
            }
            /* The pool takes whole extents, and keeps one for the next. */
            if (step % 1000 == 0)
                CHECK(mem_bytes(MEM_HEAD) - before < slab_bytes(slab) + 2 * MEM_HUGE_BYTES);
        }
        if (rng_chance(&rng, 0.5)) {
            for (size_t i = 0; i < N; i++)
                if (items[i].p) slab_put(slab, items[i].p, items[i].size);
            CHECK_U64(slab_bytes(slab), empty); /* every page went back */
        }
        free(items);
        slab_free(slab);
        page_pool_free(pages);
        CHECK_U64(mem_bytes(MEM_HEAD), before);
    }
}

static void cells_are_reused(void **state)
{
    (void)state;
    struct page_pool *pages = page_pool_new(MEM_HEAD);
    struct slab *slab = slab_new(pages);
    void *keep = slab_get(slab, 100);
    void *a = slab_get(slab, 100);
    slab_put(slab, a, 97); /* same class */
    CHECK(slab_get(slab, 104) == a);
    size_t one_page = slab_bytes(slab);
    for (int i = 0; i < 100000; i++) slab_put(slab, slab_get(slab, 100), 100);
    CHECK_U64(slab_bytes(slab), one_page);
    CHECK(keep != a);
    slab_free(slab);
    slab_free(NULL);
    page_pool_free(pages);
    page_pool_free(NULL);
}

/* A million small cells cost their size and a header per page. */
static void overhead_is_small(void **state)
{
    (void)state;
    struct page_pool *pages = page_pool_new(MEM_HEAD);
    struct slab *slab = slab_new(pages);
    for (int i = 0; i < 100000; i++) CHECK(slab_get(slab, 48) != NULL);
    CHECK((double)slab_bytes(slab) < 48.0 * 100000 * 1.01 + 65536 + 4096);
    slab_free(slab);
    page_pool_free(pages);
}

static bool always(void *ctx, size_t size)
{
    (void)ctx;
    (void)size;
    return true;
}

static void out_of_memory_changes_nothing(void **state)
{
    (void)state;
    struct page_pool *pages = page_pool_new(MEM_HEAD);
    struct slab *slab = slab_new(pages);
    size_t bytes = slab_bytes(slab);
    mem_set_fail_hook(always, NULL);
    CHECK(slab_get(slab, 10) == NULL);
    CHECK(slab_new(pages) == NULL);
    CHECK(page_pool_new(MEM_HEAD) == NULL);
    mem_set_fail_hook(NULL, NULL);
    CHECK_U64(slab_bytes(slab), bytes);
    CHECK(slab_get(slab, 10) != NULL);
    slab_free(slab);
    page_pool_free(pages);
}

static void pages_are_lent(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 20)
    {
        enum { N = 200 };
        struct pool_page *lent[N] = {NULL};
        size_t n = 0, before = mem_bytes(MEM_HEAD), most = 1 + rng_below(&rng, N);
        struct page_pool *pool = page_pool_new(MEM_HEAD);
        CHECK(pool && page_pool_owner(pool) == MEM_HEAD);
        for (int step = 0; step < 2000; step++) {
            size_t i = rng_below(&rng, most);
            if (lent[i]) {
                uint8_t *p = (uint8_t *)lent[i];
                CHECK(p[sizeof(**lent)] == i);
                CHECK(p[PAGE_POOL_PAGE_BYTES - 1] == i);
                page_pool_put(pool, lent[i]);
                lent[i] = NULL;
                n--;
            } else {
                lent[i] = page_pool_get(pool);
                CHECK(lent[i] && (uintptr_t)lent[i] % PAGE_POOL_PAGE_BYTES == 0);
                memset(lent[i] + 1, (int)i, PAGE_POOL_PAGE_BYTES - sizeof(**lent));
                n++;
            }
        }
        for (size_t i = 0; i < N; i++)
            if (lent[i]) page_pool_put(pool, lent[i]);
        CHECK(mem_bytes(MEM_HEAD) - before < MEM_HUGE_BYTES + 4096); /* one is kept */
        page_pool_free(pool);
        CHECK_U64(mem_bytes(MEM_HEAD), before);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classes_waste_little),
        cmocka_unit_test(random_use),
        cmocka_unit_test(cells_are_reused),
        cmocka_unit_test(overhead_is_small),
        cmocka_unit_test(out_of_memory_changes_nothing),
        cmocka_unit_test(pages_are_lent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
