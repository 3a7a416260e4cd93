/* Settings: the table, the YAML reader, the flags, and what is printed from them. */
#include "tests/quipu_test.h"
#include "tools/config.h"

static enum err_code parse(const char *yaml, struct config *config, struct err *err)
{
    struct config_origin origin;
    config_defaults(config, &origin);
    return config_parse(config, &origin, bytes_of(yaml, strlen(yaml)), "q.yml", err);
}

static void defaults_print_as_written(void **state)
{
    (void)state;
    struct config config;
    struct config_origin origin;
    config_defaults(&config, &origin);
    for (size_t i = 0; config_key_at(i); i++) {
        const struct config_key *key = config_key_at(i);
        char text[CONFIG_TEXT_BYTES];
        if (key->type == CONFIG_COUNT) continue; /* 1000 and 1KiB are no matter here */
        CHECK_STR(str_of(config_print(&config, key, text, sizeof(text))), key->def);
    }
}

static void good_files(void **state)
{
    (void)state;
    struct config c;
    struct err err;
    CHECK_OK(parse("", &c, &err), &err);
    CHECK_OK(parse("# nothing\n", &c, &err), &err);
    CHECK_OK(parse("---\n...\n", &c, &err), &err);
    CHECK_OK(parse("listen: ':1'\nretention: 1d12h\nquery:\n  timeout: 90s\n  memory_max: 10MB\n"
                   "wal.sync: interval\nshutdown: {flush: false}\nlimits.series_max: 12\n",
                   &c, &err),
             &err);
    CHECK_STR(str_of(c.listen), ":1");
    CHECK_I64(c.retention_ms, 36 * 3600000);
    CHECK_I64(c.query_timeout_ms, 90000);
    CHECK_U64(c.query_memory_bytes_max, 10000000);
    CHECK_U64(c.wal_sync, 1);
    CHECK_U64(c.shutdown_flush, 0);
    CHECK_U64(c.limits_series_max, 12);
    CHECK_OK(parse("retention: 0", &c, &err), &err);
    CHECK_I64(c.retention_ms, 0);
}

static void tenants(void **state)
{
    (void)state;
    struct config c, same;
    struct err err;
    const char *yaml = "retention: 30d\ntenants:\n  acme: {retention: 90d}\n"
                       "  'a.b!':\n    retention_size: 10GiB\n    retention: 0\n  none: {}\n";
    CHECK_OK(parse(yaml, &c, &err), &err);
    CHECK_U64(c.n_tenants, 3);
    CHECK_STR(str_of(c.tenants[0].name), "acme");
    CHECK(c.tenants[0].has_retention && !c.tenants[0].has_retention_bytes);
    CHECK_I64(c.tenants[0].retention_ms, INT64_C(90) * 86400000);
    CHECK_STR(str_of(c.tenants[1].name), "a.b!");
    CHECK(c.tenants[1].has_retention && c.tenants[1].has_retention_bytes);
    CHECK_I64(c.tenants[1].retention_ms, 0);
    CHECK_U64(c.tenants[1].retention_bytes, UINT64_C(10) << 30);
    CHECK(!c.tenants[2].has_retention && !c.tenants[2].has_retention_bytes);
    CHECK_OK(parse(yaml, &same, &err), &err);
    CHECK(config_same_tenants(&c, &same));
    same.tenants[1].retention_bytes++;
    CHECK(!config_same_tenants(&c, &same));
    config_release(&c);
    config_release(&same);
    static const char *const bad[][2] = {
        {"tenants:\n  a/b: {retention: 1d}\n", "q.yml:2: tenant ID 'a/b'"},
        {"tenants:\n  a: {retention: 1d}\n  a: {}\n", "q.yml:3: tenant a stands twice"},
        {"tenants:\n  a: 5\n", "q.yml:2: expected"},
        {"tenants: 5\n", "q.yml:1: unknown key 'tenants'"},
        {"tenants:\n  a: {listen: ':1'}\n", "q.yml:2: tenant a: 'listen' cannot be set"},
        {"tenants:\n  a: {retention: 1d, retention: 2d}\n", "'retention' is set twice"},
        {"tenants:\n  a: {query: {series_max: 5, series_max: 6}}\n",
         "'query.series_max' is set twice"},
        {"tenants:\n  a: {query: {lookback: 5m}}\n", "'query.lookback' cannot be set"},
        {"tenants:\n  a: {query: {timeout: {a: 1}}}\n", "'timeout' must have a plain value"},
        {"query:\n  blocked: [{reason: x}]\n", "query.blocked: an entry needs a pattern"},
        {"query:\n  blocked: [{pattern: '(a'}]\n", "q.yml:2: query.blocked: error parsing regexp"},
        {"query:\n  blocked: [{pattern: a, why: b}]\n", "'why' is none of pattern, reason, tenant"},
        {"query:\n  blocked: [{pattern: a, tenant: a/b}]\n", "tenant ID 'a/b'"},
        {"query:\n  blocked: [a]\n", "expected a list of {pattern, reason}"},
        {"query:\n  blocked: a\n", "unknown key 'query.blocked'"},
        {"query:\n  blocked: [{pattern: [a]}]\n", "expected `pattern:"},
        {"query:\n  blocked: [{pattern\n", "q.yml:"},
        {"tenants:\n  a: {query.timeout: soon}\n", "tenant a: 'soon' is not a duration"},
        {"tenants:\n  a: {retention: soon}\n", "tenant a: 'soon' is not a duration"},
        {"tenants:\n  a: {retention: [1d]}\n", "'retention' must have a plain value"},
        {"tenants:\n  [a]: {}\n", "a tenant's name must be a plain word"},
        {"tenants:\n  a: {[a]: 1}\n", "a key must be a plain word"},
        {"tenants:\n  a: {retention\n", "q.yml:"},
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        CHECK_ERR(parse(bad[i][0], &c, &err), ERR_INVALID);
        if (!strstr(err.text, bad[i][1]))
            test_fail(__FILE__, __LINE__, "\"%s\" instead of \"%s\"", err.text, bad[i][1]);
        config_release(&c);
    }
}

static void bad_files(void **state)
{
    (void)state;
    static const struct {
        const char *yaml, *text;
    } cases[] = {
        {"retentoin: 1d", "q.yml:1: unknown key 'retentoin'; did you mean 'retention'?"},
        {"\nquery:\n  timeuot: 1s",
         "q.yml:3: unknown key 'query.timeuot'; did you mean 'query.timeout'?"},
        {"lookback: 1s", "q.yml:1: unknown key 'lookback'; did you mean 'query.lookback'?"},
        {"zzzzzz: 1", "q.yml:1: unknown key 'zzzzzz'"},
        {"retention: 30", "q.yml:1: retention: '30' is not a duration such as 90s, 1h30m or 30d"},
        {"retention: 1m1h",
         "q.yml:1: retention: '1m1h' is not a duration such as 90s, 1h30m or 30d"},
        {"retention: -1d", "q.yml:1: retention: '-1d' is not a duration such as 90s, 1h30m or 30d"},
        {"retention: 99999999999999999999d",
         "q.yml:1: retention: '99999999999999999999d' is not a duration such as 90s, 1h30m or 30d"},
        {"head.memory: 64MiBs",
         "q.yml:1: head.memory: '64MiBs' is not a size such as 64MiB or 1GB"},
        {"head.memory: 1", "q.yml:1: head.memory: '1' is not within 1MiB to 1024GiB"},
        {"memory.limit: 63MiB", "q.yml:1: memory.limit: '63MiB' is not within 64MiB to 1024GiB"},
        {"wal.held_max: auto", "q.yml:1: wal.held_max: 'auto' is not a size such as 64MiB or 1GB"},
        {"wal: {sync: never}", "q.yml:1: wal.sync: 'never' is none of: always interval off"},
        {"log_level: info\nlog_level: warn",
         "q.yml:2: 'log_level' is set twice; the first time in line 1"},
        {"wal.sync: off\nwal: {sync: off}",
         "q.yml:2: 'wal.sync' is set twice; the first time in line 1"},
        {"query.concurrency: 1.5", "q.yml:1: query.concurrency: '1.5' is not a whole number"},
        {"query.concurrency: [1]", "q.yml:1: 'query.concurrency' must have a plain value"},
        {"- a", "q.yml:1: expected lines of the form `key: value`"},
        {"just words", "q.yml:1: expected lines of the form `key: value`"},
        {"? [a]\n: b", "q.yml:1: a key must be a plain word"},
        {"listen: ''", "q.yml:1: listen: must be text of 1 to 1023 bytes"},
        {"---\n---\n", "q.yml:2: only one document is allowed"},
        {"a: {b: {c: {d: 1}}}", "q.yml:1: 'a.b.c' must have a plain value"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct config c;
        struct err err;
        CHECK_ERR(parse(cases[i].yaml, &c, &err), ERR_INVALID);
        CHECK_STR(str_of(err.text), cases[i].text);
    }
    struct config c;
    struct err err;
    CHECK_ERR(parse("a: 'unfinished", &c, &err), ERR_INVALID);
    CHECK_ERR(parse("a: *x", &c, &err), ERR_INVALID);
    CHECK_ERR(parse("\xff\xfe", &c, &err), ERR_INVALID);
}

static enum err_code args(struct config *config, struct config_origin *origin,
                          struct config_args *out, struct err *err, const char *a, const char *b,
                          const char *c)
{
    char *argv[] = {(char *)(uintptr_t) "quipud", (char *)(uintptr_t)a, (char *)(uintptr_t)b,
                    (char *)(uintptr_t)c, NULL};
    int argc = 1 + (a != NULL) + (b != NULL) + (c != NULL);
    config_defaults(config, origin);
    return config_args(config, origin, argc, argv, out, err);
}

static void flags(void **state)
{
    (void)state;
    struct config c;
    struct config_origin origin;
    struct config_args out;
    struct err err;
    CHECK_OK(args(&c, &origin, &out, &err, "--data-dir", "/d", "--query.memory-max=2MiB"), &err);
    CHECK_STR(str_of(c.data_dir), "/d");
    CHECK_U64(c.query_memory_bytes_max, 2 << 20);
    CHECK_U64(c.memory_limit_bytes, CONFIG_AUTO);
    CHECK_OK(args(&c, &origin, &out, &err, "--memory-limit", "1GiB", "--head.memory=auto"), &err);
    CHECK_U64(c.memory_limit_bytes, 1 << 30);
    CHECK_U64(c.head_bytes_max, CONFIG_AUTO);
    CHECK_OK(args(&c, &origin, &out, &err, "--config=x.yml", "--help", NULL), &err);
    CHECK_STR(str_of(out.file), "x.yml");
    CHECK(out.help && !out.version);
    CHECK_ERR(args(&c, &origin, &out, &err, "--data-dri", "x", NULL), ERR_INVALID);
    CHECK_STR(str_of(err.text), "unknown flag 'data-dri'; did you mean 'data_dir'?");
    CHECK_ERR(args(&c, &origin, &out, &err, "--data-dir", NULL, NULL), ERR_INVALID);
    CHECK_STR(str_of(err.text), "flag --data-dir needs a value");
    CHECK_ERR(args(&c, &origin, &out, &err, "serve", NULL, NULL), ERR_INVALID);
    CHECK_ERR(args(&c, &origin, &out, &err, "--retention=1d", "--retention", "2d"), ERR_INVALID);
    CHECK_STR(str_of(err.text), "flag --retention is given twice");
    CHECK_ERR(args(&c, &origin, &out, &err, "--retention=soon", NULL, NULL), ERR_INVALID);
    CHECK_STR(str_of(err.text),
              "flag --retention: 'soon' is not a duration such as 90s, 1h30m or 30d");
}

static void flags_win_over_the_file(void **state)
{
    (void)state;
    struct config c;
    struct config_origin origin;
    struct config_args out;
    struct err err;
    CHECK_OK(args(&c, &origin, &out, &err, "--retention=1d", NULL, NULL), &err);
    const char *yaml = "retention: 2d\nlisten: ':7'\n";
    CHECK_OK(config_parse(&c, &origin, bytes_of(yaml, strlen(yaml)), "q.yml", &err), &err);
    CHECK_I64(c.retention_ms, 86400000);
    CHECK_STR(str_of(c.listen), ":7");
    /* What the flag overrides must be right all the same: a later start may be without the flag. */
    CHECK_OK(args(&c, &origin, &out, &err, "--retention=1d", NULL, NULL), &err);
    CHECK_ERR(config_parse(&c, &origin, bytes_of("retention: x", 12), "q.yml", &err), ERR_INVALID);
}

static void count_key(void *ctx, const struct config_key *key)
{
    (void)key;
    ++*(size_t *)ctx;
}

static void differences(void **state)
{
    (void)state;
    struct config a, b;
    struct err err;
    size_t n = 0;
    CHECK_OK(parse("", &a, &err), &err);
    CHECK_OK(parse("retention: 3d\nlisten: ':1'", &b, &err), &err);
    config_diff(&a, &b, count_key, &n);
    CHECK_U64(n, 2);
    n = 0;
    config_diff(&a, &a, count_key, &n);
    CHECK_U64(n, 0);
}

/* Every value that a key may have is read back as it is printed. */
static void values_round_trip(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 300)
    {
        for (size_t i = 0; config_key_at(i); i++) {
            const struct config_key *key = config_key_at(i);
            if (key->type != CONFIG_DURATION && key->type != CONFIG_SIZE &&
                key->type != CONFIG_COUNT)
                continue;
            struct config c, back;
            struct err err;
            uint64_t v = key->min + rng_below(&rng, key->max - key->min) + rng_below(&rng, 2);
            if (rng_below(&rng, 2)) v &= ~UINT64_C(0xfffff);
            v = MIN_OF(MAX_OF(v, key->min), key->max);
            memset(&c, 0, sizeof(c));
            memset(&back, 0, sizeof(back));
            memcpy((char *)&c + key->offset, &v, sizeof(v));
            char text[CONFIG_TEXT_BYTES];
            CHECK_OK(
                config_set(&back, key, str_of(config_print(&c, key, text, sizeof(text))), &err),
                &err);
            CHECK(memcmp(&c, &back, sizeof(c)) == 0);
        }
    }
}

struct lines {
    const char *text; /* what is still to be compared */
    size_t n;
};

static void expect_line(void *ctx, const char *line)
{
    struct lines *l = ctx;
    CHECK(strncmp(l->text, line, strlen(line)) == 0 && l->text[strlen(line)] == '\n');
    l->text += strlen(line) + 1;
    l->n++;
}

/* docs/configuration.md holds the table as `quipud --print-config-docs` prints it. */
static void docs_match_the_table(void **state)
{
    (void)state;
    uint8_t *text;
    size_t len;
    struct err err;
    CHECK_OK(io_read_file(io_posix(), "../../docs/configuration.md", 1 << 20, &text, &len, &err),
             &err);
    struct lines l = {strstr((char *)text, "| key | default |"), 0};
    if (!l.text) test_fail(__FILE__, __LINE__, "docs/configuration.md has no table of keys");
    config_print_docs(expect_line, &l);
    CHECK(strncmp(l.text, "| `", 3) != 0); /* no row more than there are keys */
    mem_free(text);
}

static void check_width(void *ctx, const char *line)
{
    (void)ctx;
    if (strlen(line) > 80) test_fail(__FILE__, __LINE__, "wider than 80 columns: %s", line);
}

static void help_fits_a_terminal(void **state)
{
    (void)state;
    config_print_help(check_width, NULL);
}

/* Limits of queries that a tenant has of its own, in both forms. */
static void tenants_own_limits(void **state)
{
    (void)state;
    struct config c, its;
    struct config_origin origin;
    struct err err;
    const char *yaml = "query.series_max: 7\ntenants:\n"
                       "  acme: {query: {timeout: 10s, series_max: 0}, retention: 90d}\n"
                       "  b: {query.response_max: 1MiB}\n  c: {retention: 1d}\n";
    config_defaults(&c, &origin);
    CHECK_OK(config_parse(&c, &origin, bytes_of(yaml, strlen(yaml)), "q.yml", &err), &err);
    its = c;
    CHECK(config_tenant_apply(&c, STR("acme"), &its));
    CHECK_I64(its.query_timeout_ms, 10000);
    CHECK_U64(its.query_series_max, 0);
    CHECK_U64(its.query_response_bytes_max, 0);
    its = c;
    CHECK(config_tenant_apply(&c, STR("b"), &its));
    CHECK_U64(its.query_series_max, 7);
    CHECK_U64(its.query_response_bytes_max, 1 << 20);
    CHECK(!config_tenant_apply(&c, STR("c"), &its));
    CHECK(!config_tenant_apply(&c, STR("d"), &its));
    struct config same = c;
    CHECK(config_same_tenants(&c, &same));
    config_release(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_print_as_written),
        cmocka_unit_test(good_files),
        cmocka_unit_test(bad_files),
        cmocka_unit_test(tenants),
        cmocka_unit_test(tenants_own_limits),
        cmocka_unit_test(flags),
        cmocka_unit_test(flags_win_over_the_file),
        cmocka_unit_test(differences),
        cmocka_unit_test(values_round_trip),
        cmocka_unit_test(docs_match_the_table),
        cmocka_unit_test(help_fits_a_terminal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
