/* ingest/import_store.h: puts one message of remote write into a tenant and waits until it is durable. */
#ifndef QUIPU_INGEST_IMPORT_STORE_H
#define QUIPU_INGEST_IMPORT_STORE_H

#include "engine/engine.h"
#include "ingest/label_check.h"
#include "ingest/write_request.h"

struct import_report {
    uint64_t n_floats, n_histograms; /* stored */
    uint64_t rejected[REJECT_N];     /* samples that were left out */
    uint64_t n_problems;
    char problem[ERR_TEXT_BYTES]; /* the first of them */
};

/* Adds to *report. `threads`: as the engine's env says. What was left out (times before the retention, say) is in the report,
 * not an error. Errors: those of tenant_write: ERR_LIMIT, ERR_NO_MEMORY: try later, a part may be stored, and storing it
 * again does no harm. The arena is used while it works. */
MUST_USE enum err_code import_store(struct engine *engine, bool threads, struct tenant *tenant,
                                    const struct label_limits *limits, struct bytes message,
                                    struct arena *arena, struct import_report *report,
                                    struct err *err);

#endif
