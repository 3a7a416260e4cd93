/* storage/matcher.c: see the header. */
#include "storage/matcher.h"

static bool pattern_matches(const struct matcher *m, struct str value)
{
    for (size_t i = 0; i < m->n_literals; i++) {
        if (str_eq(m->literals[i], value)) return true;
    }
    if (m->n_literals > 0 || !str_has_prefix(value, m->prefix)) return false;
    return m->re_match(m->re, value);
}

bool matcher_matches(const struct matcher *m, struct str value)
{
    switch (m->op) {
    case MATCH_EQ: return str_eq(m->value, value);
    case MATCH_NEQ: return !str_eq(m->value, value);
    case MATCH_RE: return pattern_matches(m, value);
    case MATCH_NRE: return !pattern_matches(m, value);
    }
    return false;
}

bool matchers_match_labels(const struct matcher *m, size_t n, struct labels labels)
{
    for (size_t i = 0; i < n; i++) {
        if (!matcher_matches(&m[i], labels_get(labels, m[i].name))) return false;
    }
    return true;
}
