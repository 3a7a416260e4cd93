/* base/err.h: what went wrong, where. Fixed size, so that failing never allocates.
 * Convention: `struct err *err` is a function's last parameter; the code is also returned, 0 = fine.
 * `err` may not be NULL. Whoever gets an error either handles it or returns it, never both. */
#ifndef QUIPU_BASE_ERR_H
#define QUIPU_BASE_ERR_H

#include "base/defs.h"

enum err_code {
    ERR_OK = 0,
    ERR_INVALID,  /* the caller's input can never succeed as it is */
    ERR_CORRUPT,  /* bytes that break their format or checksum */
    ERR_VERSION,  /* a format version this build does not know */
    ERR_LIMIT,    /* over a configured bound; nothing was changed */
    ERR_IO,       /* the operating system refused; sys_errno says why */
    ERR_NO_SPACE, /* disk full or quota reached */
    ERR_NO_MEMORY,
    ERR_NOT_FOUND,
    ERR_EXISTS,
    ERR_BUSY, /* held by another process or operation */
    ERR_TIMEOUT,
    ERR_CANCELED,
    ERR_UNSUPPORTED, /* valid, but not done by this build */
    ERR_EXECUTION,   /* a well-formed query failed while it ran */
    ERR_SHUTDOWN,    /* the server is stopping */
    ERR_RATE,        /* more in a second than is allowed to whoever asks: later */
    ERR_N
};

#define ERR_TEXT_BYTES 1024
#define ERR_FILE_BYTES 256

struct err {
    enum err_code code;
    int sys_errno;     /* 0 = none */
    uint64_t file_off; /* byte offset in `file`, if has_off */
    bool has_off;
    char file[ERR_FILE_BYTES]; /* "" = none */
    char text[ERR_TEXT_BYTES]; /* what happened, outermost context first; valid UTF-8, one line */
};

/* Replaces whatever `err` held. Too long a text is cut at a UTF-8 boundary. Returns `code`. */
enum err_code err_set(struct err *err, enum err_code code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* ERR_NO_SPACE for ENOSPC and EDQUOT, ERR_NO_MEMORY for ENOMEM, ERR_BUSY for EBUSY/EAGAIN/EADDRINUSE,
 * ERR_NOT_FOUND for ENOENT, ERR_EXISTS for EEXIST, else ERR_IO. Appends ": " and strerror. */
enum err_code err_set_errno(struct err *err, int sys_errno, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Adds "context: " in front of the text. Returns err->code. */
enum err_code err_context(struct err *err, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Names the file and the byte offset the error is about. Returns err->code. */
enum err_code err_at(struct err *err, const char *file, uint64_t off);
void err_clear(struct err *err);
/* Drops an error on purpose, with a comment that says why. (gcc does not take a cast to void for it.) */
static inline void err_ignore(enum err_code rc)
{
    (void)rc;
}
/* Writes "text (file F, offset N)" to `buf`, NUL-terminated, cut to `size`. Returns buf. */
const char *err_describe(const struct err *err, char *buf, size_t size);
/* "invalid", "corrupt", … stable, for logs and metrics. */
const char *err_code_name(enum err_code code);

#if defined(__clang_analyzer__) && !defined(ERR_IMPLEMENTATION)
/* clang's analyzer sees one file at a time: without this it would believe that a failure can return 0. */
#define err_set(err, code, ...) (err_set((err), (code), __VA_ARGS__), (code))
#define err_set_errno(err, sys_errno, ...) (err_set_errno((err), (sys_errno), __VA_ARGS__), ERR_IO)
#define err_context(err, ...) (err_context((err), __VA_ARGS__), ERR_IO)
#define err_at(err, file, off) (err_at((err), (file), (off)), ERR_IO)
#endif

#endif
