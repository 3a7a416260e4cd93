/* tests/storage/test_samples.c: columns that grow, and merges against a naive one. */
#include "storage/samples.h"

#include <math.h>

#include "tests/quipu_test.h"

struct fixture {
    struct arena arena;
    struct samples a, b;
    struct err err;
};

static void fixture_init(struct fixture *f)
{
    arena_init(&f->arena, MEM_BASE, 0);
    samples_init(&f->a, MEM_BASE, &f->arena);
    samples_init(&f->b, MEM_BASE, &f->arena);
}

static void fixture_release(struct fixture *f)
{
    samples_release(&f->a);
    samples_release(&f->b);
    arena_release(&f->arena);
}

static void test_push(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    struct histogram h = {.sum = 7};
    for (int64_t i = 0; i < 100; i++)
        CHECK_OK(
            samples_push(&f.a, i, i == 50 ? stale_nan() : (double)i, i == 70 ? &h : NULL, &f.err),
            &f.err);
    CHECK_U64(f.a.n, 100);
    CHECK(f.a.st_ms == NULL);
    CHECK(is_stale_nan(f.a.v[50]) && !is_stale_nan(f.a.v[51]) && !is_stale_nan(NAN));
    for (size_t i = 0; i < 100; i++)
        CHECK(f.a.t_ms[i] == (int64_t)i && f.a.h[i] == (i == 70 ? &h : NULL));
    CHECK_OK(samples_want_start_times(&f.a, &f.err), &f.err);
    f.a.st_ms[99] = 5;
    CHECK_OK(samples_push(&f.a, 100, 1, NULL, &f.err), &f.err);
    CHECK(f.a.st_ms[0] == 0 && f.a.st_ms[99] == 5 && f.a.st_ms[100] == 0);
    CHECK_ERR(samples_reserve(&f.a, SIZE_MAX, &f.err), ERR_NO_MEMORY);
    CHECK_ERR(samples_reserve(&f.a, SIZE_MAX / 16, &f.err), ERR_NO_MEMORY);
    CHECK_U64(f.a.n, 101);
    h.start_ms = 42;
    CHECK_OK(samples_take_start_times(&f.a, 71, &f.err), &f.err);
    CHECK_I64(f.a.st_ms[70], 0);
    CHECK_OK(samples_take_start_times(&f.a, 0, &f.err), &f.err);
    CHECK(f.a.st_ms[70] == 42 && f.a.st_ms[69] == 0 && f.a.st_ms[99] == 5);
    samples_reset(&f.a);
    CHECK_U64(f.a.n, 0);
    fixture_release(&f);
}

static bool fail_from(void *ctx, size_t size)
{
    (void)size;
    unsigned *left = ctx;
    if (*left == 0) return true;
    --*left;
    return false;
}

static void test_no_memory(void **state)
{
    (void)state;
    struct histogram h = {0};
    for (unsigned k = 0; k < 8; k++) {
        struct fixture f;
        fixture_init(&f);
        unsigned left = k;
        mem_set_fail_hook(fail_from, &left);
        enum err_code rc = ERR_OK;
        for (int64_t i = 0; !rc && i < 20; i++) rc = samples_push(&f.a, i, 1, &h, &f.err);
        mem_set_fail_hook(NULL, NULL);
        if (rc) CHECK_ERR(rc, ERR_NO_MEMORY);
        size_t n = f.a.n;
        CHECK_OK(samples_push(&f.a, 100, 2, &h, &f.err), &f.err);
        CHECK(f.a.n == n + 1 && f.a.h[n] == &h);
        fixture_release(&f);
    }
}

/* Draws a subset of the times 0..39, so that many meet. */
static void gen(struct rng *rng, struct samples *s, struct histogram *h, struct err *err)
{
    double density = rng_unit(rng);
    int64_t from = (int64_t)rng_below(rng, 40);
    for (int64_t t = rng_chance(rng, 0.5) ? from : 0; t < 40; t++) {
        if (!rng_chance(rng, density)) continue;
        double v = rng_chance(rng, 0.2) ? stale_nan() : (double)rng_below(rng, 1000);
        CHECK_OK(samples_push(s, t, v, rng_chance(rng, 0.2) ? h : NULL, err), err);
    }
    if (!rng_chance(rng, 0.3)) return;
    CHECK_OK(samples_want_start_times(s, err), err);
    for (size_t i = 0; i < s->n; i++) s->st_ms[i] = (int64_t)rng_below(rng, 5);
}

static const void *h_at(const struct samples *s, size_t i)
{
    return s->h ? s->h[i] : NULL;
}
static int64_t st_at(const struct samples *s, size_t i)
{
    return s->st_ms ? s->st_ms[i] : 0;
}

static void check_same(const struct samples *got, size_t i, const struct samples *expected,
                       size_t k)
{
    CHECK_I64(got->t_ms[i], expected->t_ms[k]);
    CHECK_SAME_DOUBLE(got->v[i], expected->v[k]);
    CHECK(h_at(got, i) == h_at(expected, k));
    CHECK_I64(st_at(got, i), st_at(expected, k));
}

static void test_merge(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 3000)
    {
        struct fixture f;
        struct samples before;
        struct histogram h[3] = {{0}};
        fixture_init(&f);
        gen(&rng, &f.a, &h[0], &f.err);
        gen(&rng, &f.b, &h[1], &f.err);
        samples_init(&before, MEM_BASE, NULL);
        CHECK_OK(samples_merge(&before, &f.a, &f.err), &f.err); /* into none: a copy */
        CHECK_OK(samples_merge(&f.a, &f.b, &f.err), &f.err);
        size_t i = 0, k = 0, n = 0;
        for (int64_t t = 0; t < 40; t++) {
            bool in_a = i < before.n && before.t_ms[i] == t, in_b = k < f.b.n && f.b.t_ms[k] == t;
            if (!in_a && !in_b) continue;
            bool newer = in_b && !(in_a && is_stale_nan(f.b.v[k]) && !is_stale_nan(before.v[i]));
            check_same(&f.a, n++, newer ? &f.b : &before, newer ? k : i);
            i += in_a, k += in_b;
        }
        CHECK_U64(f.a.n, n);
        samples_release(&before);
        fixture_release(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_push),
                                       cmocka_unit_test(test_no_memory),
                                       cmocka_unit_test(test_merge)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
