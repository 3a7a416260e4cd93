/* tools/settings.c */
#include "tools/settings.h"

#include "base/io.h"

void settings_init(struct settings *s, int argc, char *const *argv)
{
    *s = (struct settings){.argc = argc, .argv = argv};
    lock_init(&s->lock, LOCK_SERVER);
}

static enum err_code read_all(const struct settings *s, struct config *config,
                              struct config_args *args, struct err *err)
{
    struct config_origin origin;
    config_defaults(config, &origin);
    enum err_code rc = config_args(config, &origin, s->argc, s->argv, args, err);
    if (rc || args->help || args->version || args->print_docs || !args->file) return rc;
    rc = config_load(config, &origin, io_posix(), args->file, err);
    if (rc) config_release(config);
    return rc;
}

enum err_code settings_read(struct settings *s, struct config_args *args, struct err *err)
{
    return read_all(s, &s->config, args, err);
}

static void note_success(struct settings *s)
{
    s->reload_ok = true;
    s->reload_ms = clock_wall_ms(s->clock);
    metric_set(s->ok_metric, 1);
    metric_set(s->time_metric, (double)s->reload_ms / 1000);
}

void settings_start(struct settings *s, struct log *log, struct clock *clock,
                    struct metrics *metrics, void (*apply)(void *ctx, const struct config *config),
                    void *ctx)
{
    s->log = log;
    s->clock = clock;
    s->apply = apply;
    s->ctx = ctx;
    s->ok_metric = metric_gauge(metrics, "quipu_config_last_reload_successful",
                                "Whether the last reload of the configuration succeeded.", "");
    s->time_metric = metric_gauge(metrics, "quipu_config_last_reload_success_timestamp_seconds",
                                  "When the configuration was last read without an error.", "");
    note_success(s);
}

struct reload {
    struct settings *settings;
    struct config before, next;
};

/* Takes over one changed key, or says that it needs a restart. */
static void reload_key(void *ctx, const struct config_key *key)
{
    struct reload *r = ctx;
    char from[CONFIG_TEXT_BYTES], to[CONFIG_TEXT_BYTES];
    config_print(&r->before, key, from, sizeof(from));
    config_print(&r->next, key, to, sizeof(to));
    log_msg(r->settings->log, key->reloads ? LOG_INFO : LOG_WARN,
            key->reloads ? "setting changed" : "setting changes at the next start only",
            LOG_CSTR("key", key->name), LOG_CSTR("from", from), LOG_CSTR("to", to));
    struct err err;
    /* It was printed from a valid value, so it reads back. */
    if (key->reloads) err_ignore(config_set(&r->settings->config, key, str_of(to), &err));
}

/* All of them at once: what is said of tenants reloads. */
static void reload_tenants(struct reload *r)
{
    struct config *config = &r->settings->config;
    if (!config_same_tenants(config, &r->next))
        log_msg(r->settings->log, LOG_INFO, "setting changed", LOG_CSTR("key", "tenants"),
                LOG_U64("from", config->n_tenants), LOG_U64("to", r->next.n_tenants));
    if (!config_same_blocked(config, &r->next))
        log_msg(r->settings->log, LOG_INFO, "setting changed", LOG_CSTR("key", "query.blocked"),
                LOG_U64("from", config->n_blocked), LOG_U64("to", r->next.n_blocked));
    config_release(config);
    config->blocked = r->next.blocked;
    config->n_blocked = r->next.n_blocked;
    config->blocked_cap = r->next.blocked_cap;
    config->tenants = r->next.tenants;
    config->n_tenants = r->next.n_tenants;
    config->tenants_cap = r->next.tenants_cap;
}

enum err_code settings_reload(struct settings *s, struct err *err)
{
    struct reload r = {.settings = s};
    struct config_args args;
    lock_take(&s->lock);
    enum err_code rc = read_all(s, &r.next, &args, err);
    if (rc) {
        s->reload_ok = false;
        metric_set(s->ok_metric, 0);
    } else {
        r.before = s->config;
        config_diff(&r.before, &r.next, reload_key, &r);
        reload_tenants(&r);
        note_success(s);
        s->apply(s->ctx, &s->config);
    }
    lock_release(&s->lock);
    return rc;
}

void settings_get(struct settings *s, struct config *out)
{
    lock_take(&s->lock);
    *out = s->config;
    lock_release(&s->lock);
    out->tenants = NULL; /* a reload may free them */
    out->n_tenants = out->tenants_cap = 0;
    out->blocked = NULL;
    out->n_blocked = out->blocked_cap = 0;
}

bool settings_get_tenant(struct settings *s, struct str tenant, struct config *out)
{
    struct config config;
    lock_take(&s->lock);
    config = s->config;
    bool own = config_tenant_apply(&s->config, tenant, &config);
    lock_release(&s->lock);
    if (!own) return false;
    config.tenants = NULL; /* a reload may free them */
    config.n_tenants = config.tenants_cap = 0;
    config.blocked = NULL;
    config.n_blocked = config.blocked_cap = 0;
    *out = config;
    return true;
}

/* In single quotes: only the quote itself is special. */
static void put_quoted(struct buf *out, const char *text)
{
    buf_u8(out, '\'');
    for (const char *p = text; *p; p++) buf_put(out, *p == '\'' ? "''" : p, *p == '\'' ? 2 : 1);
    buf_u8(out, '\'');
}

static void print_of_tenant(struct buf *out, const char *name, const struct config *config)
{
    char text[CONFIG_TEXT_BYTES];
    config_print(config, config_key_find(str_of(name)), text, sizeof(text));
    buf_printf(out, "    %s: %s\n", name, text);
}

static void print_blocked(const struct config *config, struct buf *out)
{
    if (config->n_blocked) buf_text(out, STR("query.blocked:\n"));
    for (size_t i = 0; i < config->n_blocked; i++) {
        const struct config_blocked *b = &config->blocked[i];
        buf_text(out, STR("  - {pattern: "));
        put_quoted(out, b->pattern);
        buf_text(out, STR(", reason: "));
        put_quoted(out, b->reason);
        if (b->tenant[0]) {
            buf_text(out, STR(", tenant: "));
            put_quoted(out, b->tenant);
        }
        buf_text(out, STR("}\n"));
    }
}

/* Under the lock. */
static void print_tenants(const struct config *config, struct buf *out)
{
    if (config->n_tenants) buf_text(out, STR("tenants:\n"));
    for (size_t i = 0; i < config->n_tenants; i++) {
        const struct config_tenant *t = &config->tenants[i];
        struct config its = {.retention_ms = t->retention_ms,
                             .retention_bytes = t->retention_bytes};
        buf_text(out, STR("  "));
        put_quoted(out, t->name);
        bool any = config_tenant_apply(config, str_of(t->name), &its);
        any |= t->has_retention || t->has_retention_bytes;
        buf_text(out, any ? STR(":\n") : STR(": {}\n"));
        if (t->has_retention) print_of_tenant(out, "retention", &its);
        if (t->has_retention_bytes) print_of_tenant(out, "retention_size", &its);
        for (size_t k = 0; config_tenant_key_at(k); k++)
            if (t->has_own[k]) print_of_tenant(out, config_tenant_key_at(k)->name, &its);
    }
}

void settings_print_yaml(void *ctx, struct buf *out)
{
    struct settings *s = ctx;
    lock_take(&s->lock);
    for (size_t i = 0; config_key_at(i); i++) {
        const struct config_key *key = config_key_at(i);
        char text[CONFIG_TEXT_BYTES];
        config_print(&s->config, key, text, sizeof(text));
        buf_printf(out, "%s: ", key->name);
        if (key->type == CONFIG_TEXT)
            put_quoted(out, text);
        else
            buf_text(out, str_of(text));
        buf_u8(out, '\n');
    }
    print_tenants(&s->config, out);
    print_blocked(&s->config, out);
    lock_release(&s->lock);
}

void settings_print_retention(void *ctx, struct buf *out)
{
    struct config config;
    char text[CONFIG_TEXT_BYTES];
    settings_get(ctx, &config);
    config_print(&config, config_key_find(STR("retention")), text, sizeof(text));
    if (config.retention_ms) buf_text(out, str_of(text));
}

void settings_flags(void *ctx, void (*put)(void *arg, const char *name, const char *value),
                    void *arg)
{
    struct config config;
    settings_get(ctx, &config);
    for (size_t i = 0; config_key_at(i); i++) {
        char text[CONFIG_TEXT_BYTES];
        put(arg, config_key_at(i)->name,
            config_print(&config, config_key_at(i), text, sizeof(text)));
    }
}

void settings_reload_state(void *ctx, bool *ok, int64_t *last_ms)
{
    struct settings *s = ctx;
    lock_take(&s->lock);
    *ok = s->reload_ok;
    *last_ms = s->reload_ms;
    lock_release(&s->lock);
}
