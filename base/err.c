/* base/err.c: formatting of errors. Everything is cut to fixed sizes at UTF-8 boundaries; bytes that are
 * not UTF-8 (they come in by %s from file names and requests) become U+FFFD, control bytes blanks. */
#define ERR_IMPLEMENTATION
#include "base/err.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/bytes.h"

_Noreturn void assert_failed(const char *cond, const char *file, int line, const char *func)
{
    fprintf(stderr, "%s:%d: %s: assertion failed: %s\n", file, line, func, cond);
    abort();
}

/* Appends `n` bytes of `in` to out[*len], cleaned; always leaves out NUL-terminated. `cut`: the input was cut
 * by printf, so a half character at its end is dropped and not shown as a bad one. */
static void append_clean(char *out, size_t size, size_t *len, const char *in, size_t n, bool cut)
{
    size_t o = *len;
    for (size_t i = 0; i < n;) {
        size_t seq = utf8_sequence(in + i, n - i);
        const char *from = in + i;
        size_t from_len = seq;
        if (seq == 0) {
            if (cut && n - i < 4 && (uint8_t)in[i] >= 0xC2) break;
            from = "\xEF\xBF\xBD";
            from_len = 3;
            seq = 1;
        } else if (seq == 1 && ((uint8_t)in[i] < 0x20 || in[i] == 0x7F)) {
            from = " ";
        }
        if (o + from_len >= size) break;
        memcpy(out + o, from, from_len);
        o += from_len;
        i += seq;
    }
    out[o] = 0;
    *len = o;
}

/* Formats into out[*len] by way of a local copy, since arguments may point into `out` itself. */
static void append_format(char *out, size_t size, size_t *len, const char *fmt, va_list args)
    __attribute__((format(printf, 4, 0)));
static void append_format(char *out, size_t size, size_t *len, const char *fmt, va_list args)
{
    char raw[ERR_TEXT_BYTES];
    int n = vsnprintf(raw, sizeof(raw), fmt, args);
    if (n < 0) n = 0;
    bool cut = (size_t)n >= sizeof(raw);
    append_clean(out, size, len, raw, cut ? sizeof(raw) - 1 : (size_t)n, cut);
}

static void err_reset(struct err *err, enum err_code code)
{
    err->code = code;
    err->sys_errno = 0;
    err->file_off = 0;
    err->has_off = false;
    err->file[0] = 0;
    err->text[0] = 0;
}

enum err_code err_set(struct err *err, enum err_code code, const char *fmt, ...)
{
    char text[ERR_TEXT_BYTES];
    size_t len = 0;
    va_list args;
    va_start(args, fmt);
    append_format(text, sizeof(text), &len, fmt, args);
    va_end(args);
    err_reset(err, code);
    memcpy(err->text, text, len + 1);
    return code;
}

static enum err_code code_of_errno(int sys_errno)
{
    switch (sys_errno) {
    case ENOSPC:
    case EDQUOT: return ERR_NO_SPACE;
    case ENOMEM: return ERR_NO_MEMORY;
    case EBUSY:
    case EAGAIN:
    case EADDRINUSE: return ERR_BUSY;
    case ENOENT: return ERR_NOT_FOUND;
    case EEXIST: return ERR_EXISTS;
    default: return ERR_IO;
    }
}

enum err_code err_set_errno(struct err *err, int sys_errno, const char *fmt, ...)
{
    char text[ERR_TEXT_BYTES];
    size_t len = 0;
    va_list args;
    va_start(args, fmt);
    append_format(text, sizeof(text), &len, fmt, args);
    va_end(args);
    char reason_buf[128];
    const char *reason = strerror_r(sys_errno, reason_buf, sizeof(reason_buf));
    /* The reason is worth more than the end of a long text. */
    size_t need = strlen(reason) + 2;
    if (len + need >= sizeof(text)) {
        char cut[ERR_TEXT_BYTES];
        size_t keep = 0;
        append_clean(cut, sizeof(cut), &keep, text, sizeof(text) - 1 - need, true);
        memcpy(text, cut, keep + 1);
        len = keep;
    }
    append_clean(text, sizeof(text), &len, ": ", 2, false);
    append_clean(text, sizeof(text), &len, reason, strlen(reason), false);
    err_reset(err, code_of_errno(sys_errno));
    err->sys_errno = sys_errno;
    memcpy(err->text, text, len + 1);
    return err->code;
}

enum err_code err_context(struct err *err, const char *fmt, ...)
{
    char text[ERR_TEXT_BYTES];
    size_t len = 0;
    va_list args;
    va_start(args, fmt);
    append_format(text, sizeof(text), &len, fmt, args);
    va_end(args);
    append_clean(text, sizeof(text), &len, ": ", 2, false);
    append_clean(text, sizeof(text), &len, err->text, strlen(err->text), false);
    memcpy(err->text, text, len + 1);
    return err->code;
}

enum err_code err_at(struct err *err, const char *file, uint64_t off)
{
    /* Of a long path the end says more than the start. */
    size_t n = strlen(file);
    const char *tail = n < ERR_FILE_BYTES ? file : file + n - (ERR_FILE_BYTES - 1);
    while (tail > file && ((uint8_t)*tail & 0xC0) == 0x80) tail++;
    char clean[ERR_FILE_BYTES];
    size_t len = 0;
    append_clean(clean, sizeof(clean), &len, tail, strlen(tail), false);
    memcpy(err->file, clean, len + 1);
    err->file_off = off;
    err->has_off = true;
    return err->code;
}

void err_clear(struct err *err)
{
    err_reset(err, ERR_OK);
}

const char *err_describe(const struct err *err, char *buf, size_t size)
{
    if (size == 0) return buf;
    char raw[ERR_TEXT_BYTES + ERR_FILE_BYTES + 64];
    int n;
    if (err->file[0] && err->has_off)
        n = snprintf(raw, sizeof(raw), "%s (file %s, offset %" PRIu64 ")", err->text, err->file,
                     err->file_off);
    else if (err->file[0])
        n = snprintf(raw, sizeof(raw), "%s (file %s)", err->text, err->file);
    else
        n = snprintf(raw, sizeof(raw), "%s", err->text);
    size_t len = 0;
    append_clean(buf, size, &len, raw, n < 0 ? 0 : (size_t)n, false);
    return buf;
}

const char *err_code_name(enum err_code code)
{
    static const char *const names[ERR_N] = {
        [ERR_OK] = "ok",
        [ERR_INVALID] = "invalid",
        [ERR_CORRUPT] = "corrupt",
        [ERR_VERSION] = "version",
        [ERR_LIMIT] = "limit",
        [ERR_IO] = "io",
        [ERR_NO_SPACE] = "no_space",
        [ERR_NO_MEMORY] = "no_memory",
        [ERR_NOT_FOUND] = "not_found",
        [ERR_EXISTS] = "exists",
        [ERR_BUSY] = "busy",
        [ERR_TIMEOUT] = "timeout",
        [ERR_CANCELED] = "canceled",
        [ERR_UNSUPPORTED] = "unsupported",
        [ERR_EXECUTION] = "execution",
        [ERR_SHUTDOWN] = "shutdown",
        [ERR_RATE] = "rate",
    };
    return (unsigned)code < ERR_N ? names[code] : "unknown";
}
