/* ingest/import.h: POST /api/v1/import (JSON lines as VictoriaMetrics's) and /api/v1/import/prometheus (text, OpenMetrics).
 * 204 when all is durable. A bad line is left out and named in a 400, the rest of the body is stored. 503: try again, what
 * was stored already does no harm. Bodies may be gzip, deflate or zstd; they are unpacked as they are read. Each message's
 * worth of samples is durable before the next is read, so that a body takes little memory besides its own bytes. */
#ifndef QUIPU_INGEST_IMPORT_H
#define QUIPU_INGEST_IMPORT_H

#include "base/http.h"
#include "engine/engine.h"
#include "ingest/label_check.h"

struct import_config {
    size_t memory_bytes_max; /* of a message while it is stored */
    struct label_limits labels;
};

struct import; /* from import_new() */

/* The engine must outlive it. */
MUST_USE enum err_code import_new(const struct env *env, struct engine *engine,
                                  const struct import_config *config, struct import **out,
                                  struct err *err);
void import_free(struct import *import); /* no request may be running. NULL: no-op */
/* Handlers, for routes that may take long; `ctx` is the struct import. */
void import_handle_jsonl(void *ctx, struct http_request *req);
void import_handle_text(void *ctx, struct http_request *req);

#endif
