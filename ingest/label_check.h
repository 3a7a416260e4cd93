/* ingest/label_check.h: what a label set from outside must be, and making a proper one of it: sorted, unique,
 * without empty values. Source: the remote write specification and Mimir's limits (texts alike). */
#ifndef QUIPU_INGEST_LABEL_CHECK_H
#define QUIPU_INGEST_LABEL_CHECK_H

#include "storage/labels.h"

struct label_limits {
    size_t labels_max;      /* per series, the name included */
    size_t name_bytes_max;  /* of a label's name */
    size_t value_bytes_max; /* of a label's value, the metric's name included */
};

/* Why a series was refused: the label `reason` of quipu_ingest_rejected_samples_total. */
enum reject_reason {
    REJECT_NONE,
    REJECT_NO_NAME,
    REJECT_INVALID_LABEL,
    REJECT_DUPLICATE_LABEL,
    REJECT_TOO_MANY_LABELS,
    REJECT_NAME_TOO_LONG,
    REJECT_VALUE_TOO_LONG,
    REJECT_INVALID_HISTOGRAM,
    REJECT_TOO_OLD,
    REJECT_TOO_NEW,
    REJECT_N
};
const char *reject_reason_name(enum reject_reason reason);

/* Drops empty values and sorts `items` in place; *out then points into it. REJECT_NONE, or why not: then `err` (ERR_INVALID)
 * says so, naming the series. */
enum reject_reason label_check(struct label *items, size_t n, const struct label_limits *limits,
                               struct labels *out, struct err *err);
/* Writes at most `max` bytes of a label set as {a="b"} to buf, NUL-terminated; returns buf. */
const char *labels_short(struct labels labels, char *buf, size_t size);

#endif
