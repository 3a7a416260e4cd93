/* base/log.c: a line is put together on the stack (no memory, no lock) and handed to the sink whole. What
 * does not fit is cut, with "…" as the sign. */
#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"

#define LOG_LINE_BYTES 8192
#define CUT_SIGN "\xE2\x80\xA6"
/* Always left for a closing quote, the sign and the newline. */
#define LOG_TAIL_BYTES 8

struct line {
    char text[LOG_LINE_BYTES];
    size_t len;
    bool cut;
};

static void line_put(struct line *line, const char *p, size_t n)
{
    if (line->cut || line->len + n > LOG_LINE_BYTES - LOG_TAIL_BYTES) {
        line->cut = true;
        return;
    }
    memcpy(line->text + line->len, p, n);
    line->len += n;
}

static void line_printf(struct line *line, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void line_printf(struct line *line, const char *fmt, ...)
{
    char raw[64];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(raw, sizeof(raw), fmt, args);
    va_end(args);
    ASSERT(n >= 0);
    ASSERT((size_t)n < sizeof(raw));
    line_put(line, raw, (size_t)n);
}

static bool needs_quotes(struct str s)
{
    if (s.len == 0) return true;
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = (uint8_t)s.p[i];
        if (c <= ' ' || c == '"' || c == '=' || c == '\\' || c >= 0x7F) return true;
    }
    return false;
}

/* One character of s at *i as it stands between quotes. */
static void put_escaped(struct line *line, struct str s, size_t *i)
{
    size_t seq = utf8_sequence(s.p + *i, s.len - *i);
    uint8_t c = (uint8_t)s.p[*i];
    *i += seq ? seq : 1;
    if (seq == 0)
        line_put(line, "\xEF\xBF\xBD", 3);
    else if (seq > 1)
        line_put(line, s.p + *i - seq, seq);
    else if (c == '"' || c == '\\')
        line_put(line, (char[]){'\\', (char)c}, 2);
    else if (c == '\n')
        line_put(line, "\\n", 2);
    else if (c == '\r')
        line_put(line, "\\r", 2);
    else if (c == '\t')
        line_put(line, "\\t", 2);
    else if (c < ' ' || c == 0x7F)
        line_printf(line, "\\u%04x", c);
    else
        line_put(line, (char *)&c, 1);
}

static void put_quoted(struct line *line, struct str s)
{
    if (line->cut) return;
    line_put(line, "\"", 1);
    for (size_t i = 0; i < s.len && !line->cut;) put_escaped(line, s, &i);
    if (line->cut) { /* the tail's room is for this */
        memcpy(line->text + line->len, CUT_SIGN "\"", 4);
        line->len += 4;
    } else {
        line_put(line, "\"", 1);
    }
}

static void put_value(struct line *line, struct str s)
{
    if (needs_quotes(s))
        put_quoted(line, s);
    else
        line_put(line, s.p, s.len);
}

static void put_double(struct line *line, double d)
{
    if (isnan(d))
        line_put(line, "NaN", 3);
    else if (isinf(d))
        line_put(line, d > 0 ? "+Inf" : "-Inf", 4);
    else
        line_printf(line, "%.9g", d);
}

static void put_field(struct line *line, const struct log_field *f)
{
    line_put(line, " ", 1);
    line_put(line, f->key, strlen(f->key));
    line_put(line, "=", 1);
    switch (f->kind) {
    case LOG_FIELD_STR: put_value(line, f->s); break;
    case LOG_FIELD_U64: line_printf(line, "%" PRIu64, f->u); break;
    case LOG_FIELD_I64: line_printf(line, "%" PRId64, f->i); break;
    case LOG_FIELD_DOUBLE: put_double(line, f->d); break;
    case LOG_FIELD_ERR: {
        char text[ERR_TEXT_BYTES + ERR_FILE_BYTES + 64];
        put_quoted(line, str_of(err_describe(f->err, text, sizeof(text))));
        break;
    }
    }
}

static void put_time(struct line *line, int64_t wall_ms)
{
    int64_t ms = wall_ms % 1000;
    if (ms < 0) ms += 1000;
    time_t secs = (time_t)((wall_ms - ms) / 1000);
    struct tm tm;
    if (!gmtime_r(&secs, &tm)) memset(&tm, 0, sizeof(tm));
    line_printf(line, "ts=%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900, tm.tm_mon + 1,
                tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int)ms);
}

/* One write, so that lines of threads and processes do not mix. */
static void sink_stderr(void *ctx, const char *text, size_t len)
{
    (void)ctx;
    while (len) {
        ssize_t n = write(STDERR_FILENO, text, len);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return; /* nobody is left to be told */
        text += n;
        len -= (size_t)n;
    }
}

void log_init(struct log *log, struct clock *clock, enum log_level level)
{
    log->clock = clock;
    atomic_init(&log->level, level);
    log->sink = sink_stderr;
    log->sink_ctx = NULL;
}

void log_fields(struct log *log, enum log_level level, const char *msg,
                const struct log_field *fields, size_t n)
{
    static const char *const level_names[] = {"debug", "info", "warn", "error"};
    if (!log || level >= LOG_OFF) return;
    if (level < atomic_load_explicit(&log->level, memory_order_relaxed)) return;
    struct line line;
    line.len = 0;
    line.cut = false;
    put_time(&line, clock_wall_ms(log->clock));
    line_printf(&line, " level=%s msg=", level_names[level]);
    put_quoted(&line, str_of(msg));
    for (size_t i = 0; i < n && !line.cut; i++) {
        size_t whole = line.len;
        put_field(&line, &fields[i]);
        /* A number or key that did not fit would be taken for another one. */
        if (line.cut && line.text[line.len - 1] != '"') line.len = whole;
    }
    line.text[line.len++] = '\n';
    log->sink(log->sink_ctx, line.text, line.len);
}

bool log_level_parse(struct str s, enum log_level *out)
{
    if (str_eq(s, STR("debug")))
        *out = LOG_DEBUG;
    else if (str_eq(s, STR("info")))
        *out = LOG_INFO;
    else if (str_eq(s, STR("warn")))
        *out = LOG_WARN;
    else if (str_eq(s, STR("error")))
        *out = LOG_ERROR;
    else
        return false;
    return true;
}
