/* tools/config.h: quipud's settings: one table of keys with type, default, bounds and meaning. The YAML file, the
 * flags, `quipud --help` and docs/configuration.md all come from it.
 *
 * In the file a key is nested (`query: {timeout: 2m}`) or dotted (`query.timeout: 2m`); as a flag it is
 * `--query.timeout 2m`, with dashes for dots and underscores if one likes. Flags win over the file, the file over the defaults.
 * Unknown keys, bad values and duplicates are errors that name file, line and key. */
#ifndef QUIPU_TOOLS_CONFIG_H
#define QUIPU_TOOLS_CONFIG_H

#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"

#define CONFIG_TEXT_BYTES 1024 /* of a value */
/* "auto": derived from memory.limit (tools/memory_plan.h). Of sizes and counts whose default it is. */
#define CONFIG_AUTO UINT64_MAX
#define MEMORY_LIMIT_BYTES_MIN (UINT64_C(64) << 20)

/* What the file says of one tenant, under `tenants`. */
#define CONFIG_TENANT_NAME_BYTES 151
#define CONFIG_TENANTS_MAX 10000
#define CONFIG_TENANT_KEYS_MAX 16
struct config_tenant {
    char name[CONFIG_TENANT_NAME_BYTES];
    bool has_retention, has_retention_bytes;
    int64_t retention_ms;
    uint64_t retention_bytes;
    /* Of the keys that config_tenant_key_at() lists, in their stored form */
    uint64_t own[CONFIG_TENANT_KEYS_MAX];
    bool has_own[CONFIG_TENANT_KEYS_MAX];
};

/* One entry of `query.blocked`. */
struct config_blocked {
    char pattern[CONFIG_TEXT_BYTES], reason[256];
    char tenant[CONFIG_TENANT_NAME_BYTES]; /* "": of all */
};

struct config {
    char listen[CONFIG_TEXT_BYTES];
    char data_dir[CONFIG_TEXT_BYTES];
    int64_t retention_ms;          /* 0: for ever */
    uint64_t retention_bytes;      /* 0: none */
    struct config_tenant *tenants; /* config_release frees them */
    size_t n_tenants, tenants_cap;
    struct config_blocked *blocked; /* config_release frees them */
    size_t n_blocked, blocked_cap;
    uint64_t log_level; /* enum log_level */
    int64_t shutdown_timeout_ms;
    uint64_t shutdown_flush; /* bool */

    uint64_t wal_sync; /* enum wal_sync */
    uint64_t wal_segment_bytes, wal_held_bytes_max;
    char wal_archive[CONFIG_TEXT_BYTES]; /* "": none */

    uint64_t exemplars_max, exemplar_bytes_max;
    uint64_t compaction_enabled; /* bool */
    uint64_t compaction_rate;
    int64_t deletes_rewrite_after_ms;
    int64_t scrub_interval_ms;

    uint64_t memory_limit_bytes;

    uint64_t head_bytes_max;
    int64_t head_window_ms;
    uint64_t registry_bytes_max;
    uint64_t page_cache_bytes, storage_reserve_bytes;

    int64_t limits_future_max_ms;
    uint64_t limits_tenants_max, limits_series_max;
    uint64_t limits_samples_rate, limits_samples_burst;
    uint64_t limits_labels_max, limits_label_name_bytes_max, limits_label_value_bytes_max;

    uint64_t http_connections_max, http_threads;
    int64_t http_idle_timeout_ms, http_receive_timeout_ms, http_stall_timeout_ms;
    uint64_t http_request_bytes_max, http_inflight_bytes_max;
    char http_cors_origin[CONFIG_TEXT_BYTES];

    int64_t query_timeout_ms;
    uint64_t query_samples_max, query_memory_bytes_max, query_memory_all_bytes;
    uint64_t query_concurrency, query_queue_max, query_threads;
    uint64_t query_tenants_max;
    int64_t query_lookback_ms;
    uint64_t query_series_max, query_work_max, query_response_bytes_max;
    int64_t query_slow_ms;
    uint64_t query_tenant_concurrency, query_tenant_memory_bytes;
    int64_t query_queue_timeout_ms;
    uint64_t query_cache_bytes;
    int64_t query_cache_fresh_ms;
};

enum config_type {
    CONFIG_TEXT,
    CONFIG_DURATION, /* int64_t ms: 90s, 1h30m, 30d; a bare 0 is allowed, other bare numbers are not */
    CONFIG_SIZE,     /* uint64_t bytes: 65536, 64KiB, 64MiB, 1GiB, also KB MB GB (powers of 1000) */
    CONFIG_COUNT,    /* uint64_t */
    CONFIG_BOOL,     /* uint64_t 0 or 1: true, false */
    CONFIG_CHOICE    /* uint64_t index into `words` */
};

struct config_key {
    const char *name; /* "query.timeout" */
    enum config_type type;
    size_t offset; /* into struct config */
    const char *def;
    uint64_t min, max; /* of numbers, in the stored unit */
    const char *words; /* CONFIG_CHOICE: "always interval off" */
    bool reloads;      /* takes effect without a restart */
    const char *doc;   /* one sentence or two */
};
/* NULL past the last. */
const struct config_key *config_key_at(size_t i);
/* The key of that name, also with dashes for underscores and dots. */
const struct config_key *config_key_find(struct str name);
/* Is `v` the "auto" of a key that has one? */
bool config_is_auto(const struct config_key *key, uint64_t v);
/* The known name nearest to a misspelt one; NULL when none is near. */
const char *config_key_nearest(struct str name);

/* Which keys were set by whom; a second setting by the same is a duplicate. */
#define CONFIG_KEYS_MAX 64
enum config_source { CONFIG_DEFAULT, CONFIG_FILE, CONFIG_FLAG };
struct config_origin {
    uint8_t source[CONFIG_KEYS_MAX]; /* enum config_source */
    uint32_t line[CONFIG_KEYS_MAX];
};

void config_defaults(struct config *config, struct config_origin *origin);
/* Frees tenants and blocked queries; also of a config that an error left half changed. */
void config_release(struct config *config);
/* Keys that a tenant may have its own value of, besides retention; NULL past the last. */
const struct config_key *config_tenant_key_at(size_t i);
/* Puts a tenant's own values over those of all. False: it has none. */
bool config_tenant_apply(const struct config *config, struct str tenant, struct config *out);
bool config_same_tenants(const struct config *a, const struct config *b);
bool config_same_blocked(const struct config *a, const struct config *b);
/* Sets one key from its text. ERR_INVALID says what is wrong with the value; the caller adds where. */
MUST_USE enum err_code config_set(struct config *config, const struct config_key *key,
                                  struct str text, struct err *err);
/* Reads a YAML text into config; keys that a flag has set are checked but not changed. `name` is the file's, for
 * messages. The whole text is checked; the first error is returned and config may be half changed. */
MUST_USE enum err_code config_parse(struct config *config, struct config_origin *origin,
                                    struct bytes text, const char *name, struct err *err);
#define CONFIG_FILE_BYTES_MAX (1u << 20)
MUST_USE enum err_code config_load(struct config *config, struct config_origin *origin,
                                   struct io *io, const char *path, struct err *err);

/* What the command line asks for besides settings. */
struct config_args {
    const char *file; /* --config */
    bool help, version, print_docs;
};
/* `--config FILE`, `--help`, `--version`, and every key as a flag. Applies the flags to config (not the file). */
MUST_USE enum err_code config_args(struct config *config, struct config_origin *origin, int argc,
                                   char *const *argv, struct config_args *out, struct err *err);

/* fn for every key whose value differs between the two. */
void config_diff(const struct config *a, const struct config *b,
                 void (*fn)(void *ctx, const struct config_key *key), void *ctx);
/* The value as it would be written in the file. */
const char *config_print(const struct config *config, const struct config_key *key, char *buf,
                         size_t size);
/* For --help, 80 columns; and the table of docs/configuration.md. */
void config_print_help(void (*put)(void *ctx, const char *line), void *ctx);
void config_print_docs(void (*put)(void *ctx, const char *line), void *ctx);

/* Also for the CLI. */
MUST_USE enum err_code config_parse_duration(struct str text, int64_t *ms, struct err *err);
MUST_USE enum err_code config_parse_size(struct str text, uint64_t *bytes, struct err *err);

#endif
