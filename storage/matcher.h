/* storage/matcher.h: a label matcher, as postings evaluate it. The regular expression itself belongs to the
 * caller (query/regex.cc); storage only asks it. A missing label equals the empty string. */
#ifndef QUIPU_STORAGE_MATCHER_H
#define QUIPU_STORAGE_MATCHER_H

#include "storage/labels.h"

enum matcher_op { MATCH_EQ, MATCH_NEQ, MATCH_RE, MATCH_NRE };

struct matcher {
    enum matcher_op op;
    struct str name;
    struct str value; /* the string or the pattern as written */
    /* MATCH_RE and MATCH_NRE only: */
    bool (*re_match)(const void *re, struct str text); /* whole text, linear time, thread-safe */
    const void *re;
    const struct str *literals; /* if n_literals > 0: matches exactly these strings */
    size_t n_literals;
    struct str prefix; /* every match starts with this; may be empty */
};

/* Does the value (empty = label absent) satisfy the matcher? */
bool matcher_matches(const struct matcher *m, struct str value);
static inline bool matcher_matches_empty(const struct matcher *m)
{
    return matcher_matches(m, (struct str){"", 0});
}
bool matchers_match_labels(const struct matcher *m, size_t n, struct labels labels);

struct matcher_set {
    const struct matcher *items; /* all must match */
    size_t n;                    /* 0: every series */
};

#endif
