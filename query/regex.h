/* query/regex.h: regular expressions of Prometheus: Go's syntax, matched against the whole text, `.` matches line
 * feeds too: the effective pattern is ^(?s:RE)$. RE2 does the matching, in linear time and bounded memory.
 * Threads: a compiled expression may be used by any number of threads at once. */
#ifndef QUIPU_QUERY_REGEX_H
#define QUIPU_QUERY_REGEX_H

#include "base/arena.h"
#include "base/bytes.h"

#define REGEX_MEMORY_BYTES_MAX                                                                     \
    (8u << 20) /* of one compiled expression with its lazily built automaton */
#define REGEX_LITERALS_MAX 65536
#define REGEX_GROUPS_MAX 1000

struct regex; /* from regex_compile(), freed by regex_free() */

/* ERR_INVALID, with the text of Go's regexp/syntax: "error parsing regexp: missing closing ): `(`". */
MUST_USE enum err_code regex_compile(struct str pattern, struct regex **out, struct err *err);
void regex_free(struct regex *re); /* NULL: no-op */

/* Does the whole text match? The signature is that of struct matcher's re_match. */
bool regex_match(const void *re, struct str text);

/* About how much memory it holds, without the automaton built while matching. */
size_t regex_bytes(const struct regex *re);

/* If n > 0: the expression matches exactly these strings, sorted and unique. */
const struct str *regex_literals(const struct regex *re, size_t *n);
/* Every match starts with this; may be empty. */
struct str regex_prefix(const struct regex *re);

/* Groups without the whole match. */
size_t regex_n_groups(const struct regex *re);
/* Matches the whole text and fills groups[0] (all of it) to groups[n - 1]; p NULL for a group that took no part.
 * Groups past the last are left out. */
bool regex_match_groups(const struct regex *re, struct str text, struct str *groups, size_t n);
/* Go's Regexp.Expand: $1, ${1}, $name, ${name}, $$; `$1x` is the group called 1x; unknown groups are empty. `groups` are
 * those of regex_match_groups with n = regex_n_groups + 1. */
void regex_expand(const struct regex *re, struct str template, const struct str *groups, size_t n,
                  struct buf *out);

#endif
