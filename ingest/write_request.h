/* ingest/write_request.h: a decoded remote write body, 1.0 (prometheus.WriteRequest) or 2.0
 * (io.prometheus.write.v2.Request), into columns for the engine. The message is walked in place; a known series costs a comparison of its label bytes. Bad series and
 * samples are left out and told apart from a bad message: they hurt nobody else in the request. */
#ifndef QUIPU_INGEST_WRITE_REQUEST_H
#define QUIPU_INGEST_WRITE_REQUEST_H

#include "engine/engine.h"
#include "ingest/label_check.h"

#define WRITE_PROBLEMS_SHOWN 3

/* Where series come from: a tenant of the engine, or a test's table. Semantics as tenant_find_next,
 * tenant_find_series and tenant_add_series. */
struct series_source {
    struct series *(*next)(void *ctx, struct series_walk *walk, struct bytes message,
                           size_t *label_bytes);
    struct series *(*find)(void *ctx, uint64_t hash, struct bytes sent, struct series *hint);
    enum err_code (*add)(void *ctx, struct labels labels, uint64_t hash, struct bytes sent,
                         struct series *hint, struct series **out, struct err *err);
    void *ctx;
};

struct write_request {
    struct arena *arena;
    struct arena *texts; /* of problems; `arena` unless the caller wants them to live longer */
    const struct label_limits *limits;
    struct series_source source;
    bool v2; /* the message is 2.0 */

    struct write_batch batch;
    size_t cap, h_cap;
    struct catalog_metadata *metadata;
    size_t n_metadata, metadata_cap;

    size_t e_cap;
    size_t exemplars_refused;  /* their labels are bad, or their series is not known */
    size_t rejected[REJECT_N]; /* samples and histograms left out, by reason */
    size_t n_problems;         /* series and samples that were refused */
    const char *problems[WRITE_PROBLEMS_SHOWN]; /* what is wrong with the first of them */
    enum err_code
        add_rc; /* a new series had no room (ERR_LIMIT, ERR_NO_MEMORY): the rest was taken */
    struct err add_err;
    struct series_walk walk; /* to the next series */
};

void write_request_init(struct write_request *w, struct arena *arena,
                        const struct label_limits *limits, struct series_source source);
/* ERR_INVALID: the message is malformed, nothing of it is to be stored. ERR_LIMIT, ERR_NO_MEMORY: over the arena's
 * budget. */
MUST_USE enum err_code write_request_decode(struct write_request *w, struct bytes message,
                                            struct err *err);
/* The same for message 2.0. Labels of a series whose references are bad are refused like other bad labels. Strings of the
 * table may be named often: ERR_LIMIT when all label sets together would be larger than
 * WRITE_V2_LABEL_BYTES_MAX. */
#define WRITE_V2_LABEL_BYTES_MAX ((size_t)128 << 20)
MUST_USE enum err_code write_request_decode_v2(struct write_request *w, struct bytes message,
                                               struct err *err);
/* Counts n refused samples and keeps the text of the first few problems. */
void write_request_reject(struct write_request *w, enum reject_reason reason, size_t n,
                          const struct err *why);

#endif
