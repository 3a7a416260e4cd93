/* base/log.h: logfmt lines, one write each: ts=2026-01-02T03:04:05.678Z level=info msg="…" key=value …
 * Values that hold blanks, quotes, '=' or control bytes are quoted and escaped. Threads: any. */
#ifndef QUIPU_BASE_LOG_H
#define QUIPU_BASE_LOG_H

#include "base/clock.h"
#include "base/err.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_OFF };

struct log {
    struct clock *clock;
    _Atomic(enum log_level) level; /* relaxed: a level change may be seen late */
    /* One whole line with its newline. */
    void (*sink)(void *ctx, const char *line, size_t len);
    void *sink_ctx;
};

enum log_field_kind {
    LOG_FIELD_STR,
    LOG_FIELD_U64,
    LOG_FIELD_I64,
    LOG_FIELD_DOUBLE,
    LOG_FIELD_ERR
};
struct log_field {
    const char *key;
    enum log_field_kind kind;
    union {
        struct str s;
        uint64_t u;
        int64_t i;
        double d;
        const struct err *err;
    };
};
#define LOG_STR(k, v) ((struct log_field){.key = (k), .kind = LOG_FIELD_STR, .s = (v)})
#define LOG_CSTR(k, v) LOG_STR(k, str_of(v))
#define LOG_U64(k, v) ((struct log_field){.key = (k), .kind = LOG_FIELD_U64, .u = (v)})
#define LOG_I64(k, v) ((struct log_field){.key = (k), .kind = LOG_FIELD_I64, .i = (v)})
#define LOG_DOUBLE(k, v) ((struct log_field){.key = (k), .kind = LOG_FIELD_DOUBLE, .d = (v)})
/* err="…" with file and offset when known */
#define LOG_ERR(e) ((struct log_field){.key = "err", .kind = LOG_FIELD_ERR, .err = (e)})

void log_init(struct log *log, struct clock *clock, enum log_level level); /* sink: stderr */
void log_fields(struct log *log, enum log_level level, const char *msg,
                const struct log_field *fields, size_t n);
/* log_msg(log, LOG_INFO, "wal replayed", LOG_U64("records", n)); `log` may be NULL: nothing. */
#define log_msg(log, level, msg, ...)                                                              \
    log_fields((log), (level), (msg),                                                              \
               (const struct log_field[]){{.key = NULL}, ##__VA_ARGS__} + 1,                       \
               sizeof((const struct log_field[]){{.key = NULL}, ##__VA_ARGS__}) /                  \
                       sizeof(struct log_field) -                                                  \
                   1)
/* "debug", "info", "warn", "error"; false for another word. */
bool log_level_parse(struct str s, enum log_level *out);

#endif
