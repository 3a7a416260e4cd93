/* tools/settings.h: the configuration in effect, its reload, and what /api/v1/status says of it.
 * Threads: any after settings_start(); settings_read() before. */
#ifndef QUIPU_TOOLS_SETTINGS_H
#define QUIPU_TOOLS_SETTINGS_H

#include "base/bytes.h"
#include "base/clock.h"
#include "base/lock.h"
#include "base/metric.h"
#include "tools/config.h"

struct settings {
    int argc;
    char *const *argv;
    struct lock lock;     /* rank LOCK_SERVER; guards all below once settings_start() was called */
    struct config config; /* in effect */
    bool reload_ok;
    int64_t reload_ms; /* when the configuration was last read without an error */
    struct log *log;
    struct clock *clock;
    struct metric *ok_metric, *time_metric;
    /* Puts a changed configuration into effect; under the lock. */
    void (*apply)(void *ctx, const struct config *config);
    void *ctx;
};

void settings_init(struct settings *s, int argc, char *const *argv);
/* Flags and file into s->config. */
MUST_USE enum err_code settings_read(struct settings *s, struct config_args *args, struct err *err);
void settings_start(struct settings *s, struct log *log, struct clock *clock,
                    struct metrics *metrics, void (*apply)(void *ctx, const struct config *config),
                    void *ctx);
/* Reads flags and file again. What can change while running does; each change, and each that has to wait for a
 * restart, is logged. An error changes nothing. */
MUST_USE enum err_code settings_reload(struct settings *s, struct err *err);
void settings_get(struct settings *s, struct config *out);

/* The same with what the tenant has of its own; false: nothing, and *out is left alone. */
bool settings_get_tenant(struct settings *s, struct str tenant, struct config *out);

/* For /api/v1/status/…; ctx is the struct settings. */
void settings_print_yaml(void *ctx, struct buf *out);
void settings_print_retention(void *ctx, struct buf *out); /* "15d", "" for ever */
void settings_flags(void *ctx, void (*put)(void *arg, const char *name, const char *value),
                    void *arg);
void settings_reload_state(void *ctx, bool *ok, int64_t *last_ms);

#endif
