/* tests/storage/test_page_cache.c: hits, bounds, pins, failures and many threads. */
#include "storage/page_cache.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/metric.h"
#include "tests/storage/env.h"

struct loader {
    _Atomic int n_loads;
    size_t len;
    bool fail;
};

static enum err_code load(void *ctx, uint32_t page_no, uint8_t **bytes, size_t *len,
                          struct err *err)
{
    struct loader *l = ctx;
    atomic_fetch_add(&l->n_loads, 1);
    if (l->fail) return err_set(err, ERR_CORRUPT, "planned");
    *bytes = mem_alloc(MEM_STORAGE, l->len);
    CHECK(*bytes != NULL);
    memset(*bytes, (int)(page_no & 0xFF), l->len);
    *len = l->len;
    return ERR_OK;
}

static void test_hit_and_miss(void **state)
{
    (void)state;
    struct test_env e;
    test_env_init(&e);
    struct err err;
    struct page_cache *cache;
    CHECK_OK(page_cache_new(&e.env, 1 << 20, &cache, &err), &err);
    uint64_t a = page_cache_file_id(cache), b = page_cache_file_id(cache);
    CHECK(a != b);
    struct loader l = {.len = 100};
    struct page *p, *q;
    CHECK_OK(page_cache_get(cache, a, 1, load, &l, &p, &err), &err);
    CHECK_OK(page_cache_get(cache, a, 1, load, &l, &q, &err), &err);
    CHECK(p == q);
    CHECK_U64(page_bytes(p).len, 100);
    CHECK_U64(page_bytes(p).p[99], 1);
    page_release(p);
    page_release(q);
    CHECK_OK(page_cache_get(cache, a, 1, load, &l, &p, &err), &err);
    page_release(p);
    CHECK_U64(l.n_loads, 1);
    CHECK_OK(page_cache_get(cache, b, 1, load, &l, &p, &err), &err);
    page_release(p);
    CHECK_U64(l.n_loads, 2);
    CHECK_U64(metric_value(metric_counter(e.env.metrics, "quipu_page_cache_hits_total",
                                          "Pages of blocks found in memory.", "")),
              2);
    page_cache_forget(cache, a);
    CHECK_OK(page_cache_get(cache, a, 1, load, &l, &p, &err), &err);
    CHECK_U64(l.n_loads, 3);
    page_release(p);
    page_release(NULL);
    page_cache_free(cache);
    page_cache_free(NULL);
    test_env_release(&e);
}

static void test_a_failure_is_not_kept(void **state)
{
    (void)state;
    struct test_env e;
    test_env_init(&e);
    struct err err;
    struct page_cache *cache;
    CHECK_OK(page_cache_new(&e.env, 1 << 20, &cache, &err), &err);
    struct loader l = {.len = 10, .fail = true};
    struct page *p;
    CHECK_ERR(page_cache_get(cache, 1, 1, load, &l, &p, &err), ERR_CORRUPT);
    l.fail = false;
    CHECK_OK(page_cache_get(cache, 1, 1, load, &l, &p, &err), &err);
    page_release(p);
    page_cache_free(cache);
    test_env_release(&e);
}

/* Unpinned pages stay within the bound, pinned ones stay whatever it is. */
static void test_bound(void **state)
{
    (void)state;
    struct test_env e;
    test_env_init(&e);
    struct err err;
    struct page_cache *cache;
    size_t before = mem_bytes(MEM_STORAGE);
    CHECK_OK(page_cache_new(&e.env, 256 << 10, &cache, &err), &err);
    size_t empty = mem_bytes(MEM_STORAGE);
    struct loader l = {.len = 4000};
    struct page *pinned[100];
    for (uint32_t i = 0; i < 100; i++)
        CHECK_OK(page_cache_get(cache, 9, i, load, &l, &pinned[i], &err), &err);
    CHECK(mem_bytes(MEM_STORAGE) - empty >= 100 * 4000);
    for (uint32_t i = 0; i < 1000; i++) {
        struct page *p;
        CHECK_OK(page_cache_get(cache, 1, i, load, &l, &p, &err), &err);
        page_release(p);
    }
    for (uint32_t i = 0; i < 100; i++) {
        CHECK_U64(page_bytes(pinned[i]).p[0], i);
        page_release(pinned[i]);
    }
    CHECK(mem_bytes(MEM_STORAGE) - empty <= 256 << 10);
    CHECK(mem_bytes(MEM_STORAGE) - empty >= 128 << 10);
    page_cache_free(cache);
    CHECK_U64(mem_bytes(MEM_STORAGE), before);
    test_env_release(&e);
}

struct worker {
    struct page_cache *cache;
    struct loader *loader;
    uint64_t seed;
};

static void *work(void *arg)
{
    struct worker *w = arg;
    struct rng rng;
    rng_seed(&rng, w->seed);
    for (int i = 0; i < 20000; i++) {
        struct err err;
        struct page *p;
        uint32_t no = (uint32_t)rng_below(&rng, 200);
        if (page_cache_get(w->cache, 1 + rng_below(&rng, 2), no, load, w->loader, &p, &err))
            return arg;
        if (page_bytes(p).p[7] != (no & 0xFF)) return arg;
        page_release(p);
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    struct test_env e;
    test_env_init(&e);
    struct err err;
    struct page_cache *cache;
    CHECK_OK(page_cache_new(&e.env, 128 << 10, &cache, &err), &err);
    struct loader l = {.len = 1000};
    struct worker workers[4];
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++) {
        workers[i] = (struct worker){cache, &l, i};
        CHECK(pthread_create(&threads[i], NULL, work, &workers[i]) == 0);
    }
    for (size_t i = 0; i < 4; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        CHECK(failed == NULL);
    }
    page_cache_free(cache);
    test_env_release(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hit_and_miss),
        cmocka_unit_test(test_a_failure_is_not_kept),
        cmocka_unit_test(test_bound),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
