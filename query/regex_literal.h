/* query/regex_literal.h: what can be said about a regular expression without running it: the strings it matches, if
 * they are few and known, or how every match begins. The index answers such matchers by look-ups. */
#ifndef QUIPU_QUERY_REGEX_LITERAL_H
#define QUIPU_QUERY_REGEX_LITERAL_H

#include "base/arena.h"

struct regex_facts {
    /* If `exact`: the pattern is valid and matches these strings and no others; sorted and unique, at least one. */
    bool exact;
    const struct str *literals;
    size_t n_literals;
    struct str prefix; /* every match starts with this; all of it when there is one literal */
};

/* Never wrong, sometimes silent: anything unusual gives neither. Lack of memory, too. Results in the arena. */
void regex_analyse(struct str pattern, struct arena *arena, struct regex_facts *out);

#endif
