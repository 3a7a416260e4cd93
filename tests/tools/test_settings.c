/* Reloads: all or nothing, what can change does, what cannot is said. */
#include "tests/quipu_test.h"
#include "tools/settings.h"

struct fixture {
    char dir[256], path[300];
    struct log log;
    struct buf lines;
    struct metrics *metrics;
    struct clock_fake clock;
    struct settings settings;
    size_t n_applied;
};

static void take_line(void *ctx, const char *line, size_t len)
{
    buf_put(ctx, line, len);
}

static void apply(void *ctx, const struct config *config)
{
    struct fixture *f = ctx;
    (void)config;
    f->n_applied++;
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    CHECK(file != NULL);
    fputs(text, file);
    fclose(file);
}

static void setup(struct fixture *f, char **argv, int argc, const char *text)
{
    struct config_args args;
    struct err err;
    memset(f, 0, sizeof(*f));
    test_temp_dir(f->dir, sizeof(f->dir));
    snprintf(f->path, sizeof(f->path), "%s/q.yml", f->dir);
    write_file(f->path, text);
    argv[2] = f->path;
    clock_fake_init(&f->clock, 5000);
    buf_init(&f->lines, MEM_TOOLS);
    log_init(&f->log, &f->clock.clock, LOG_INFO);
    f->log.sink = take_line;
    f->log.sink_ctx = &f->lines;
    f->metrics = metrics_new();
    settings_init(&f->settings, argc, argv);
    CHECK_OK(settings_read(&f->settings, &args, &err), &err);
    settings_start(&f->settings, &f->log, &f->clock.clock, f->metrics, apply, f);
}

static void teardown(struct fixture *f)
{
    metrics_free(f->metrics);
    config_release(&f->settings.config);
    buf_release(&f->lines);
    test_remove_dir(f->dir);
}

static bool logged(struct fixture *f, const char *text)
{
    buf_u8(&f->lines, 0);
    return strstr((const char *)f->lines.p, text) != NULL;
}

static void reload_takes_what_can_change(void **state)
{
    (void)state;
    struct fixture f;
    char *argv[] = {(char *)(uintptr_t) "quipud", (char *)(uintptr_t) "--config", NULL,
                    (char *)(uintptr_t) "--head.window=1h", NULL};
    setup(&f, argv, 4, "retention: 1d\nlisten: ':1'\nhead.window: 2h\n");
    write_file(f.path, "retention: 2d\nlisten: ':2'\nhead.window: 3h\nquery.timeout: 7s\n"
                       "tenants: {acme: {retention: 90d}}\n");
    clock_fake_advance(&f.clock, 1000);
    struct err err;
    struct config c;
    CHECK_OK(settings_reload(&f.settings, &err), &err);
    CHECK(logged(&f, "key=tenants"));
    CHECK_U64(f.settings.config.n_tenants, 1);
    settings_get(&f.settings, &c);
    CHECK_I64(c.retention_ms, 2 * 86400000);
    CHECK_I64(c.query_timeout_ms, 7000);
    CHECK_I64(c.head_window_ms, 3600000); /* the flag still wins */
    CHECK_STR(str_of(c.listen), ":1");    /* the port is open already */
    CHECK_U64(f.n_applied, 1);
    CHECK(logged(&f, "level=info msg=\"setting changed\" key=retention from=1d to=2d"));
    CHECK(logged(
        &f, "level=warn msg=\"setting changes at the next start only\" key=listen from=:1 to=:2"));
    bool ok;
    int64_t last_ms;
    settings_reload_state(&f.settings, &ok, &last_ms);
    CHECK(ok);
    CHECK_I64(last_ms, 6000);
    teardown(&f);
}

static void bad_reload_changes_nothing(void **state)
{
    (void)state;
    struct fixture f;
    char *argv[] = {(char *)(uintptr_t) "quipud", (char *)(uintptr_t) "--config", NULL, NULL};
    setup(&f, argv, 3, "retention: 1d\n");
    write_file(f.path, "retention: 2d\nquery.timeout: soon\n");
    clock_fake_advance(&f.clock, 1000);
    struct err err;
    struct config c;
    bool ok;
    int64_t last_ms;
    CHECK_ERR(settings_reload(&f.settings, &err), ERR_INVALID);
    CHECK(strstr(err.text, "q.yml:2: query.timeout: 'soon' is not a duration") != NULL);
    settings_get(&f.settings, &c);
    CHECK_I64(c.retention_ms, 86400000);
    CHECK_U64(f.n_applied, 0);
    settings_reload_state(&f.settings, &ok, &last_ms);
    CHECK(!ok);
    CHECK_I64(last_ms, 5000);
    CHECK(unlink(f.path) == 0);
    CHECK_ERR(settings_reload(&f.settings, &err), ERR_NOT_FOUND);
    write_file(f.path, "retention: 2d\n");
    CHECK_OK(settings_reload(&f.settings, &err), &err);
    settings_reload_state(&f.settings, &ok, &last_ms);
    CHECK(ok);
    teardown(&f);
}

/* What /api/v1/status/config prints is a file that means the same. */
static void printed_yaml_reads_back(void **state)
{
    (void)state;
    struct fixture f;
    char *argv[] = {(char *)(uintptr_t) "quipud", (char *)(uintptr_t) "--config", NULL, NULL};
    setup(&f, argv, 3,
          "data_dir: \"it's # a \\\"dir\\\"\"\nretention: 0\nwal: {sync: off}\n"
          "tenants: {acme: {retention: 90d}, \"it's\": {retention_size: 1GiB, query: {timeout: "
          "3s}}, b: {}}\n"
          "query.blocked: [{pattern: \"it's.*\", reason: \"#1\"}, {tenant: b, pattern: "
          "'sum(up)'}]\n");
    struct buf yaml;
    struct config back;
    struct config_origin origin;
    struct err err;
    buf_init(&yaml, MEM_TOOLS);
    settings_print_yaml(&f.settings, &yaml);
    config_defaults(&back, &origin);
    CHECK_OK(config_parse(&back, &origin, buf_bytes(&yaml), "printed", &err), &err);
    CHECK_STR(str_of(back.data_dir), "it's # a \"dir\"");
    CHECK(config_same_tenants(&back, &f.settings.config));
    CHECK_U64(back.n_blocked, 2);
    CHECK(config_same_blocked(&back, &f.settings.config));
    config_release(&back);
    back.tenants = f.settings.config.tenants;
    back.n_tenants = f.settings.config.n_tenants;
    back.tenants_cap = f.settings.config.tenants_cap;
    back.blocked = f.settings.config.blocked;
    back.n_blocked = f.settings.config.n_blocked;
    back.blocked_cap = f.settings.config.blocked_cap;
    CHECK(memcmp(&back, &f.settings.config, sizeof(back)) == 0);
    buf_reset(&yaml);
    settings_print_retention(&f.settings, &yaml);
    CHECK_U64(yaml.len, 0); /* for ever */
    buf_release(&yaml);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reload_takes_what_can_change),
        cmocka_unit_test(bad_reload_changes_nothing),
        cmocka_unit_test(printed_yaml_reads_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
