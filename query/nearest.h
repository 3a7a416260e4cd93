/* query/nearest.h: the known text that a misspelt one was probably meant to be. */
#ifndef QUIPU_QUERY_NEAREST_H
#define QUIPU_QUERY_NEAREST_H

#include "base/defs.h"

#define NEAREST_BYTES_MAX 120 /* longer texts have no neighbours */

/* Feed it the known texts one by one; the nearest is `best`, p NULL when none is near. Of equals the first. */
struct nearest {
    struct str text, best;
    size_t distance; /* of best */
};
void nearest_begin(struct nearest *n, struct str text);
void nearest_try(struct nearest *n, struct str known);

#endif
