/* tests/storage/env.h: an environment on the real disk, with a fake clock, no log and a seeded generator. */
#ifndef QUIPU_TESTS_STORAGE_ENV_H
#define QUIPU_TESTS_STORAGE_ENV_H

#include "base/env.h"
#include "base/metric.h"
#include "tests/quipu_test.h"

struct test_env {
    struct env env;
    struct clock_fake clock;
    struct rng rng;
    char dir[256];
};

__attribute__((unused)) static void test_env_init(struct test_env *e)
{
    memset(e, 0, sizeof(*e));
    clock_fake_init(&e->clock, INT64_C(1700000000000));
    rng_seed(&e->rng, 7);
    e->env = (struct env){
        .io = io_posix(), .clock = &e->clock.clock, .metrics = metrics_new(), .rng = &e->rng};
    CHECK(e->env.metrics != NULL);
    test_temp_dir(e->dir, sizeof(e->dir));
}

__attribute__((unused)) static void test_env_release(struct test_env *e)
{
    metrics_free(e->env.metrics);
    test_remove_dir(e->dir);
}

#endif
