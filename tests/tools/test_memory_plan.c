/* The shares of the memory ceiling: they add up to less than it, whatever it is, and what is set goes before. */
#include "tests/quipu_test.h"

#include "tools/memory_plan.h"

#define MIB (UINT64_C(1) << 20)

static struct config defaults(void)
{
    struct config config;
    struct config_origin origin;
    config_defaults(&config, &origin);
    return config;
}

static void set(struct config *config, const char *key, const char *text)
{
    struct err err;
    CHECK_OK(config_set(config, config_key_find(str_of(key)), str_of(text), &err), &err);
}

static const struct memory_limit machine = {UINT64_C(10000) * MIB, "machine"};

static void the_limit_comes_from_somewhere(void **state)
{
    (void)state;
    struct config c = defaults();
    CHECK_U64(memory_plan_make(&c, machine).limit_bytes, machine.bytes / 100 * 60);
    struct memory_limit group = {1000 * MIB, "cgroup v2"};
    CHECK_U64(memory_plan_make(&c, group).limit_bytes, group.bytes / 100 * 75);
    CHECK_STR(str_of(memory_plan_make(&c, group).source), "cgroup v2");
    struct memory_limit unknown = {0, "unknown"};
    CHECK_U64(memory_plan_make(&c, unknown).limit_bytes, 1024 * MIB);
    struct memory_limit tiny = {MIB, "cgroup v1"};
    CHECK_U64(memory_plan_make(&c, tiny).limit_bytes, MEMORY_LIMIT_BYTES_MIN);
    set(&c, "memory.limit", "300MiB");
    CHECK_U64(memory_plan_make(&c, group).limit_bytes, 300 * MIB);
    CHECK_STR(str_of(memory_plan_make(&c, group).source), "memory.limit");
}

static void the_parts_fit(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 2000)
    {
        struct config c = defaults();
        uint64_t limit =
            MEMORY_LIMIT_BYTES_MIN + rng_below(&rng, UINT64_C(1) << (20 + rng_below(&rng, 25)));
        c.memory_limit_bytes = rng_below(&rng, 50) ? limit : MEMORY_LIMIT_BYTES_MIN;
        struct memory_plan p = memory_plan_make(&c, machine);
        CHECK(memory_plan_sum(&p) <= p.limit_bytes);
        CHECK(p.head_bytes * 2 <= p.live_bytes && p.registry_bytes <= p.live_bytes);
        CHECK(p.request_bytes <= p.inflight_bytes && p.message_bytes <= p.ingest_bytes);
        CHECK(p.query_bytes_each <= p.query_bytes_all && p.query_bytes_each > 0);
        CHECK(p.connections_max >= 64 && p.connections_max <= 1024);
        CHECK(p.request_bytes >= MIB && p.message_bytes >= MIB && p.wal_queue_bytes >= 2 * MIB);
    }
}

static void what_is_set_goes_before(void **state)
{
    (void)state;
    struct config c = defaults();
    set(&c, "memory.limit", "1GiB");
    set(&c, "head.memory", "32MiB");
    set(&c, "registry.memory", "33MiB");
    set(&c, "storage.page_cache", "0");
    set(&c, "http.inflight_max", "34MiB");
    set(&c, "http.request_max", "3MiB");
    set(&c, "http.connections_max", "35");
    set(&c, "query.memory_max", "36MiB");
    set(&c, "query.memory_all", "37MiB");
    struct memory_plan p = memory_plan_make(&c, machine);
    CHECK_U64(p.head_bytes, 32 * MIB);
    CHECK_U64(p.registry_bytes, 33 * MIB);
    CHECK_U64(p.page_cache_bytes, 0);
    CHECK_U64(p.inflight_bytes, 34 * MIB);
    CHECK_U64(p.request_bytes, 3 * MIB);
    CHECK_U64(p.connections_max, 35);
    CHECK_U64(p.query_bytes_each, 36 * MIB);
    CHECK_U64(p.query_bytes_all, 37 * MIB);
    CHECK(memory_plan_sum(&p) <= p.limit_bytes);
    set(&c, "head.memory", "2GiB");
    p = memory_plan_make(&c, machine);
    CHECK(memory_plan_sum(&p) > p.limit_bytes); /* which the server says at start */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_limit_comes_from_somewhere),
        cmocka_unit_test(the_parts_fit),
        cmocka_unit_test(what_is_set_goes_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
