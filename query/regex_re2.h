/* query/regex_re2.h: the calls of RE2 that query/regex.c needs, for C. Includes nothing of ours, so that the C++
 * behind it needs no headers written for C. No exception leaves it. */
#ifndef QUIPU_QUERY_REGEX_RE2_H
#define QUIPU_QUERY_REGEX_RE2_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct regex_re2;

enum regex_re2_error {
    REGEX_RE2_OK,
    REGEX_RE2_NO_MEMORY,
    REGEX_RE2_BAD_ESCAPE,
    REGEX_RE2_BAD_CHAR_CLASS,
    REGEX_RE2_BAD_CHAR_RANGE,
    REGEX_RE2_MISSING_BRACKET,
    REGEX_RE2_MISSING_PAREN,
    REGEX_RE2_UNEXPECTED_PAREN,
    REGEX_RE2_TRAILING_BACKSLASH,
    REGEX_RE2_REPEAT_ARGUMENT,
    REGEX_RE2_REPEAT_SIZE,
    REGEX_RE2_REPEAT_OP,
    REGEX_RE2_BAD_PERL_OP,
    REGEX_RE2_BAD_UTF8,
    REGEX_RE2_BAD_NAMED_CAPTURE,
    REGEX_RE2_TOO_LARGE,
    REGEX_RE2_INTERNAL
};

/* Perl-like syntax, `.` matches line feeds, at most `max_mem` bytes. On an error *out is NULL and `arg` holds the part of
 * the pattern that RE2 blames, cut to `arg_size` and NUL-terminated. */
enum regex_re2_error regex_re2_compile(const char *pattern, size_t len, size_t max_mem,
                                       struct regex_re2 **out, char *arg, size_t arg_size);
void regex_re2_free(struct regex_re2 *re);
size_t regex_re2_bytes(const struct regex_re2 *re); /* of the program, about */
size_t regex_re2_n_groups(const struct regex_re2 *re);

struct regex_re2_span {
    const char *p; /* NULL: took no part */
    size_t len;
};
/* Of the whole text. Fills n spans, the first with all of it; n may be 0. Any number of threads. */
bool regex_re2_match(const struct regex_re2 *re, const char *text, size_t len,
                     struct regex_re2_span *spans, size_t n);

#ifdef __cplusplus
}
#endif
#endif
