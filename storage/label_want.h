/* storage/label_want.h: which label names, or values, are asked for: the first ones in order, or those with a text. */
#ifndef QUIPU_STORAGE_LABEL_WANT_H
#define QUIPU_STORAGE_LABEL_WANT_H

#include "base/defs.h"

struct label_want {
    size_t limit; /* 0: all */
    struct str
        search; /* anywhere in them, or, behind a ^, at their beginning. A-Z are a-z. Empty: any */
};

/* Does the text have what is searched for? */
bool label_wanted(const struct label_want *want, struct str text);

#endif
