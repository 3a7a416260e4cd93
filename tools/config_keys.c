/* tools/config_keys.c: the table of settings, and what is printed from it. */
#include <inttypes.h>
#include <stdio.h>

#include "tools/config.h"

#define KEY(field) offsetof(struct config, field)
#define KIB UINT64_C(1024)
#define MIB (UINT64_C(1024) * KIB)
#define GIB (UINT64_C(1024) * MIB)
#define SECOND UINT64_C(1000)
#define MINUTE (UINT64_C(60) * SECOND)
#define HOUR (UINT64_C(60) * MINUTE)
#define DAY (UINT64_C(24) * HOUR)
#define YEARS (UINT64_C(36500) * DAY)

static const struct config_key keys[] = {
    {"listen", CONFIG_TEXT, KEY(listen), "127.0.0.1:9780", 1, CONFIG_TEXT_BYTES - 1, NULL, false,
     "Address and port to serve HTTP on; `:9780` is all addresses. There is no authentication: "
     "whoever "
     "reaches the port can read and write every tenant."},
    {"data_dir", CONFIG_TEXT, KEY(data_dir), "./data", 1, CONFIG_TEXT_BYTES - 1, NULL, false,
     "Folder of the log, the blocks and the catalog. Made if it is missing; one process at a "
     "time."},
    {"retention", CONFIG_DURATION, KEY(retention_ms), "15d", 0, YEARS, NULL, true,
     "Samples older than this are deleted, whole blocks at a time. 0 keeps everything."},
    {"retention_size", CONFIG_SIZE, KEY(retention_bytes), "0", 0, UINT64_C(1) << 60, NULL, true,
     "A tenant's oldest blocks are deleted while all of its blocks take more. 0: no such limit."},
    {"log_level", CONFIG_CHOICE, KEY(log_level), "info", 0, 0, "debug info warn error off", true,
     "The least important log lines that are written to stderr."},
    {"shutdown.timeout", CONFIG_DURATION, KEY(shutdown_timeout_ms), "15s", 0, HOUR, NULL, true,
     "How long a stopping server waits for requests in flight before it cancels them."},
    {"shutdown.flush", CONFIG_BOOL, KEY(shutdown_flush), "true", 0, 1, NULL, true,
     "Write the newest samples to blocks when stopping, so that the next start is quick. Nothing "
     "is lost "
     "without it: the log has them."},

    {"wal.sync", CONFIG_CHOICE, KEY(wal_sync), "always", 0, 0, "always interval off", false,
     "When a write is acknowledged. always: after the fsync that covers it. interval: after the "
     "write, with "
     "an fsync every second, so that a power cut loses up to a second. off: the operating system "
     "decides."},
    {"wal.segment_size", CONFIG_SIZE, KEY(wal_segment_bytes), "64MiB", MIB, 256 * MIB, NULL, false,
     "Size of one file of the log."},
    {"wal.archive", CONFIG_TEXT, KEY(wal_archive), "", 0, CONFIG_TEXT_BYTES - 1, NULL, false,
     "A folder, of this server alone, to which finished files of the log go before they are "
     "removed: "
     "with it and a backup, `quipu restore --until` makes the state of any moment since. Empty: "
     "none."},
    {"wal.held_max", CONFIG_SIZE, KEY(wal_held_bytes_max), "256MiB", MIB, 1024 * GIB, NULL, false,
     "A tenant that keeps more of the log from being cut is flushed early."},

    {"memory.limit", CONFIG_SIZE, KEY(memory_limit_bytes), "auto", MEMORY_LIMIT_BYTES_MIN,
     1024 * GIB, NULL, false,
     "Resident memory that the process stays below. auto: 75 % of the limit of its control group, "
     "or 60 % of the machine's memory. Keys below that are `auto` get their shares of it."},

    {"head.memory", CONFIG_SIZE, KEY(head_bytes_max), "auto", MIB, 1024 * GIB, NULL, true,
     "Newest samples of all tenants held in memory. Beyond it the largest tenant is flushed; at "
     "twice the "
     "size writes get 503 until memory is free."},
    {"registry.memory", CONFIG_SIZE, KEY(registry_bytes_max), "auto", MIB, 1024 * GIB, NULL, true,
     "Labels and index of the active series of all tenants. Beyond it new series get 503; those "
     "that are known are not affected."},
    {"head.window", CONFIG_DURATION, KEY(head_window_ms), "30m", SECOND, DAY, NULL, true,
     "A tenant's newest samples are written to a block when the oldest of them arrived longer ago "
     "than this."},
    {"exemplars.max", CONFIG_COUNT, KEY(exemplars_max), "100000", 0, UINT32_MAX, NULL, true,
     "Exemplars kept of each tenant, the newest. 0: none."},
    {"exemplars.memory", CONFIG_SIZE, KEY(exemplar_bytes_max), "32MiB", 0, 1024 * GIB, NULL, true,
     "Exemplars of all tenants, in memory; never more than a 32nd of memory.limit. A tenant that "
     "needs more gives up its oldest ones."},
    {"compaction.enabled", CONFIG_BOOL, KEY(compaction_enabled), "true", 0, 1, NULL, true,
     "Merge blocks in the background. Without it blocks stay as they were flushed, many and "
     "larger than need be, until somebody asks for a compaction."},
    {"compaction.rate", CONFIG_SIZE, KEY(compaction_rate), "64MiB", 0, 1024 * GIB, NULL, true,
     "Bytes that merging in the background reads and writes in a second, about. 0: no limit."},
    {"deletes.rewrite_after", CONFIG_DURATION, KEY(deletes_rewrite_after_ms), "5m", 0, DAY, NULL,
     false,
     "Blocks that hold deleted samples are written again, one after the other, when the delete is "
     "older than this, so that deletes which come together cost one turn."},
    {"scrub.interval", CONFIG_DURATION, KEY(scrub_interval_ms), "7d", 0, YEARS, NULL, true,
     "Time within which all blocks are read again to check their checksums, a little at a time. 0: "
     "never."},
    {"storage.page_cache", CONFIG_SIZE, KEY(page_cache_bytes), "auto", 0, 1024 * GIB, NULL, false,
     "Checked and decompressed pages of blocks kept in memory."},
    {"storage.reserve", CONFIG_SIZE, KEY(storage_reserve_bytes), "auto", 0, 1024 * GIB, NULL, false,
     "Space held in a file for the day when the disk is full, at most a tenth of it. auto: 64 MiB, "
     "or 5 % of a small disk. 0: none."},

    {"limits.future_max", CONFIG_DURATION, KEY(limits_future_max_ms), "10m", 0, YEARS, NULL, true,
     "Samples further ahead of the server's clock are refused with 400."},
    {"limits.tenants_max", CONFIG_COUNT, KEY(limits_tenants_max), "10000", 1, UINT32_MAX, NULL,
     false, "Tenants are made by their first write; past this many, that write gets 400."},
    {"limits.series_max", CONFIG_COUNT, KEY(limits_series_max), "0", 0, UINT32_MAX, NULL, true,
     "Active series of all tenants. 0: as many as fit into memory."},
    {"limits.samples_per_second", CONFIG_COUNT, KEY(limits_samples_rate), "0", 0, UINT32_MAX, NULL,
     true,
     "Samples that a tenant may write in a second; what is beyond gets 429 with Retry-After. 0: no "
     "limit. A stock Prometheus drops what got 429 unless `retry_on_http_429` is set."},
    {"limits.samples_burst", CONFIG_COUNT, KEY(limits_samples_burst), "0", 0, UINT32_MAX, NULL,
     true, "Samples that a tenant may write at once, after a rest. 0: ten seconds' worth."},
    {"limits.labels_max", CONFIG_COUNT, KEY(limits_labels_max), "64", 1, 1000, NULL, false,
     "Labels of one series, the metric name included."},
    {"limits.label_name_max", CONFIG_SIZE, KEY(limits_label_name_bytes_max), "1KiB", 1, 64 * KIB,
     NULL, false, "Bytes of a label's name."},
    {"limits.label_value_max", CONFIG_SIZE, KEY(limits_label_value_bytes_max), "4KiB", 1, 64 * KIB,
     NULL, false, "Bytes of a label's value."},

    {"http.connections_max", CONFIG_COUNT, KEY(http_connections_max), "auto", 1, 1000000, NULL,
     false, "Open connections. When there are so many, an idle one is closed for a new one."},
    {"http.threads", CONFIG_COUNT, KEY(http_threads), "0", 0, 256, NULL, false,
     "Threads that receive requests and take in writes. 0: one per processor."},
    {"http.idle_timeout", CONFIG_DURATION, KEY(http_idle_timeout_ms), "2m", SECOND, DAY, NULL,
     false,
     "A connection is closed that moves no byte for so long, that has not brought a whole header "
     "since its last "
     "request, or that does not take the rest of an answer."},
    {"http.receive_timeout", CONFIG_DURATION, KEY(http_receive_timeout_ms), "1m", SECOND, DAY, NULL,
     false,
     "A request's body must be there so long after its header, else the connection is closed."},
    {"http.stall_timeout", CONFIG_DURATION, KEY(http_stall_timeout_ms), "30s", SECOND, DAY, NULL,
     false, "A client that takes not even 64 KiB of a long answer in so long is given up."},
    {"http.request_max", CONFIG_SIZE, KEY(http_request_bytes_max), "auto", 4 * KIB, GIB, NULL,
     false, "Size of a request's body as sent; a longer one gets 413."},
    {"http.inflight_max", CONFIG_SIZE, KEY(http_inflight_bytes_max), "auto", 4 * KIB, 1024 * GIB,
     NULL, false, "Request bodies in memory, of all connections; past it requests get 503."},
    {"http.cors_origin", CONFIG_TEXT, KEY(http_cors_origin), ".*", 1, CONFIG_TEXT_BYTES - 1, NULL,
     false,
     "Regular expression for the whole Origin of pages that may read answers of the API in a "
     "browser."},

    {"query.timeout", CONFIG_DURATION, KEY(query_timeout_ms), "2m", 1, DAY, NULL, true,
     "Longest run of a query; `timeout` of a request can only shorten it."},
    {"query.samples_max", CONFIG_COUNT, KEY(query_samples_max), "50000000", 1, UINT64_C(1) << 48,
     NULL, true, "Points and samples that one query may hold at once, as Prometheus counts them."},
    {"query.tenant_memory", CONFIG_SIZE, KEY(query_tenant_memory_bytes), "auto", MIB, 1024 * GIB,
     NULL, true,
     "Memory that all running queries of one tenant may take, so that they leave some to "
     "others. auto: three quarters of query.memory_all."},
    {"query.series_max", CONFIG_COUNT, KEY(query_series_max), "0", 0, UINT64_C(1) << 48, NULL, true,
     "Series that the selectors of one query may find. 0: as many as fit into query.memory_max."},
    {"query.work_max", CONFIG_COUNT, KEY(query_work_max), "1000000000000", 0, UINT64_C(1) << 62,
     NULL, true,
     "Samples that one query may look at, those in a window once for each step. 0: no limit."},
    {"query.response_max", CONFIG_SIZE, KEY(query_response_bytes_max), "0", 0, 1024 * GIB, NULL,
     true, "Size of one answer before compression. 0: no limit."},
    {"query.slow_log", CONFIG_DURATION, KEY(query_slow_ms), "5s", 0, DAY, NULL, true,
     "Queries that take longer are written to the log. 0: none."},
    {"query.memory_max", CONFIG_SIZE, KEY(query_memory_bytes_max), "auto", MIB, 1024 * GIB, NULL,
     true, "Memory that one query may take; it fails beyond it."},
    {"query.memory_all", CONFIG_SIZE, KEY(query_memory_all_bytes), "auto", MIB, 1024 * GIB, NULL,
     true, "Memory that all running queries may take; beyond it they get 503 with Retry-After."},
    {"query.cache", CONFIG_SIZE, KEY(query_cache_bytes), "auto", 0, 1024 * GIB, NULL, true,
     "Answers of range queries that are kept for when they are asked for again. 0: none."},
    {"query.cache_freshness", CONFIG_DURATION, KEY(query_cache_fresh_ms), "2m", 0, DAY, NULL, true,
     "Steps of answers younger than this are always computed."},
    {"query.concurrency", CONFIG_COUNT, KEY(query_concurrency), "8", 1, 1024, NULL, false,
     "Queries that run at the same time; others wait."},
    {"query.queue_max", CONFIG_COUNT, KEY(query_queue_max), "64", 1, 100000, NULL, false,
     "Queries that wait, in turn by tenant; past it the tenant with the most gets 503 with "
     "Retry-After."},
    {"query.queue_timeout", CONFIG_DURATION, KEY(query_queue_timeout_ms), "30s", 0, DAY, NULL, true,
     "A query that waits longer gets 503 with Retry-After. 0: it waits as long as query.timeout."},
    {"query.tenant_concurrency", CONFIG_COUNT, KEY(query_tenant_concurrency), "0", 0, 1024, NULL,
     true,
     "Queries of one tenant that run at the same time; others of its own wait. 0: three "
     "quarters of query.concurrency."},
    {"query.threads", CONFIG_COUNT, KEY(query_threads), "0", 0, 256, NULL, false,
     "Threads that share the work of running queries. 0: one per processor."},
    {"query.tenants_max", CONFIG_COUNT, KEY(query_tenants_max), "1", 1, 1000, NULL, false,
     "How many tenants one request may read at once (X-Scope-OrgID: a|b). 1: no more than one."},
    {"query.lookback", CONFIG_DURATION, KEY(query_lookback_ms), "5m", 1, DAY, NULL, true,
     "How far back a selector looks for a series' newest sample."},
};
static_assert(COUNT_OF(keys) <= CONFIG_KEYS_MAX, "struct config_origin must have a place for each");

const struct config_key *config_key_at(size_t i)
{
    return i < COUNT_OF(keys) ? &keys[i] : NULL;
}

const struct config_key *config_tenant_key_at(size_t i)
{
    static const char *const NAMES[] = {"query.timeout",
                                        "query.samples_max",
                                        "query.series_max",
                                        "query.work_max",
                                        "query.response_max",
                                        "query.memory_max",
                                        "query.slow_log",
                                        "query.queue_timeout",
                                        "query.tenant_concurrency",
                                        "limits.samples_per_second",
                                        "limits.samples_burst"};
    static_assert(COUNT_OF(NAMES) <= CONFIG_TENANT_KEYS_MAX, "a tenant has a place for each");
    return i < COUNT_OF(NAMES) ? config_key_find(str_of(NAMES[i])) : NULL;
}

static bool names_equal(struct str given, const char *name)
{
    if (given.len != strlen(name)) return false;
    for (size_t i = 0; i < given.len; i++)
        if (given.p[i] != name[i] && !(given.p[i] == '-' && (name[i] == '_' || name[i] == '.')))
            return false;
    return true;
}

bool config_is_auto(const struct config_key *key, uint64_t v)
{
    return v == CONFIG_AUTO && strcmp(key->def, "auto") == 0;
}

const struct config_key *config_key_find(struct str name)
{
    for (size_t i = 0; i < COUNT_OF(keys); i++)
        if (names_equal(name, keys[i].name)) return &keys[i];
    return NULL;
}

/* Edit distance of Levenshtein, one row at a time. */
static size_t edit_distance(struct str a, struct str b)
{
    size_t row[64];
    if (b.len >= COUNT_OF(row) || a.len >= COUNT_OF(row)) return SIZE_MAX;
    for (size_t j = 0; j <= b.len; j++) row[j] = j;
    for (size_t i = 1; i <= a.len; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b.len; j++) {
            size_t change = diagonal + (a.p[i - 1] != b.p[j - 1]);
            diagonal = row[j];
            row[j] = MIN_OF(change, MIN_OF(row[j] + 1, row[j - 1] + 1));
        }
    }
    return row[b.len];
}

const char *config_key_nearest(struct str name)
{
    const char *best = NULL;
    size_t best_distance = name.len / 3 + 2; /* further away it is another word, not a slip */
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        struct str whole = str_of(keys[i].name);
        size_t d = edit_distance(name, whole);
        const char *dot = strchr(keys[i].name, '.');
        if (dot) { /* the section may have been left out */
            size_t without = edit_distance(name, str_of(dot + 1));
            if (without != SIZE_MAX) d = MIN_OF(d, without + 1);
        }
        if (d < best_distance) {
            best = keys[i].name;
            best_distance = d;
        }
    }
    return best;
}

/* ---- values as text ---- */

static const struct {
    const char *unit;
    uint64_t ms;
} duration_units[] = {{"d", DAY}, {"h", HOUR}, {"m", MINUTE}, {"s", SECOND}, {"ms", 1}};

static void print_duration(uint64_t ms, char *buf, size_t size)
{
    size_t len = 0;
    buf[0] = 0;
    for (size_t i = 0; i < COUNT_OF(duration_units) && len < size; i++) {
        uint64_t n = ms / duration_units[i].ms;
        ms %= duration_units[i].ms;
        if (!n) continue;
        int k = snprintf(buf + len, size - len, "%" PRIu64 "%s", n, duration_units[i].unit);
        len += k > 0 ? (size_t)k : 0;
    }
    if (len == 0) snprintf(buf, size, "0");
}

static void print_size(uint64_t bytes, char *buf, size_t size)
{
    static const char *const units[] = {"", "KiB", "MiB", "GiB"};
    size_t i = 0;
    while (i + 1 < COUNT_OF(units) && bytes && bytes % 1024 == 0) {
        bytes /= 1024;
        i++;
    }
    snprintf(buf, size, "%" PRIu64 "%s", bytes, units[i]);
}

static void print_word(const char *words, uint64_t idx, char *buf, size_t size)
{
    while (idx-- && words) words = strchr(words, ' ') ? strchr(words, ' ') + 1 : NULL;
    snprintf(buf, size, "%.*s", words ? (int)strcspn(words, " ") : 1, words ? words : "?");
}

static void print_number(const struct config_key *key, uint64_t v, char *buf, size_t size)
{
    if (config_is_auto(key, v)) {
        snprintf(buf, size, "auto");
        return;
    }
    switch (key->type) {
    case CONFIG_DURATION: print_duration(v, buf, size); break;
    case CONFIG_SIZE: print_size(v, buf, size); break;
    case CONFIG_BOOL: snprintf(buf, size, "%s", v ? "true" : "false"); break;
    case CONFIG_CHOICE: print_word(key->words, v, buf, size); break;
    default: snprintf(buf, size, "%" PRIu64, v); break;
    }
}

const char *config_print(const struct config *config, const struct config_key *key, char *buf,
                         size_t size)
{
    const char *at = (const char *)config + key->offset;
    if (key->type == CONFIG_TEXT) {
        snprintf(buf, size, "%s", at);
    } else {
        uint64_t v;
        memcpy(&v, at, sizeof(v));
        print_number(key, v, buf, size);
    }
    return buf;
}

static void print_bounds(const struct config_key *key, char *buf, size_t size)
{
    char min[64], max[64];
    buf[0] = 0;
    if (key->type == CONFIG_CHOICE) {
        size_t len = 0;
        for (const char *p = key->words; *p && len + 8 < size; p++) {
            if (*p == ' ') {
                memcpy(buf + len, "`, `", 4);
                len += 4;
            } else {
                buf[len++] = *p;
            }
        }
        buf[len] = 0;
    } else if (key->type == CONFIG_DURATION || key->type == CONFIG_SIZE ||
               key->type == CONFIG_COUNT) {
        print_number(key, key->min, min, sizeof(min));
        print_number(key, key->max, max, sizeof(max));
        const char *or_auto = strcmp(key->def, "auto") == 0 ? "auto`, `" : "";
        snprintf(buf, size, "%s%s` to `%s", or_auto, min, max);
    }
}

/* ---- help and docs ---- */

static const char *type_word(enum config_type type)
{
    static const char *const words[] = {"TEXT", "DURATION", "SIZE", "COUNT", "BOOL", "WORD"};
    return words[type];
}

/* Puts `text` in lines of at most 80 columns, indented by `indent`. Backquotes are for the docs only. */
static void put_wrapped(void (*put)(void *, const char *), void *ctx, const char *text,
                        size_t indent)
{
    char line[128];
    size_t len = 0;
    while (*text) {
        size_t word = strcspn(text, " ");
        if (len && len + 1 + word > 80) {
            put(ctx, line);
            len = 0;
        }
        if (len == 0) {
            memset(line, ' ', indent);
            len = indent;
        } else {
            line[len++] = ' ';
        }
        for (size_t i = 0; i < word && len + 1 < sizeof(line); i++)
            if (text[i] != '`') line[len++] = text[i];
        line[len] = 0;
        text += word;
        text += *text == ' ';
    }
    if (len) put(ctx, line);
}

void config_print_help(void (*put)(void *ctx, const char *line), void *ctx)
{
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        char line[256], flag[64];
        snprintf(flag, sizeof(flag), "%s", keys[i].name);
        for (char *p = flag; *p; p++)
            if (*p == '_') *p = '-';
        snprintf(line, sizeof(line), "  --%s %s (default %s)", flag, type_word(keys[i].type),
                 keys[i].def);
        put(ctx, line);
        put_wrapped(put, ctx, keys[i].doc, 6);
    }
}

void config_print_docs(void (*put)(void *ctx, const char *line), void *ctx)
{
    put(ctx, "| key | default | values | reload | meaning |");
    put(ctx, "|---|---|---|---|---|");
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        char line[1024], bounds[256], quoted[260] = "any text";
        print_bounds(&keys[i], bounds, sizeof(bounds));
        if (bounds[0]) snprintf(quoted, sizeof(quoted), "`%s`", bounds);
        if (keys[i].type == CONFIG_BOOL) snprintf(quoted, sizeof(quoted), "`true`, `false`");
        snprintf(line, sizeof(line), "| `%s` | `%s` | %s | %s | %s |", keys[i].name, keys[i].def,
                 quoted, keys[i].reloads ? "yes" : "restart", keys[i].doc);
        put(ctx, line);
    }
}
