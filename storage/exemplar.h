/* storage/exemplar.h: an exemplar, as it is read: a sample of what a series counted, with labels of its own. */
#ifndef QUIPU_STORAGE_EXEMPLAR_H
#define QUIPU_STORAGE_EXEMPLAR_H

#include "storage/labels.h"

struct exemplar {
    struct labels labels; /* its own; may be none */
    int64_t t_ms;
    double v;
};
/* Those of one series, by time. */
struct series_exemplars {
    struct labels series;
    struct exemplar *items;
    size_t n; /* at least 1 */
};

#endif
