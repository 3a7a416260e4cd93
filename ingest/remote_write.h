/* ingest/remote_write.h: POST /api/v1/write, Prometheus remote write 1.0 and 2.0, snappy or zstd. Answers by docs/http-api.md: 204 only when
 * everything is durable, 4xx for what can never succeed, 5xx for what may. Exemplars that are bad or out of
 * order cost themselves alone. */
#ifndef QUIPU_INGEST_REMOTE_WRITE_H
#define QUIPU_INGEST_REMOTE_WRITE_H

#include "base/http.h"
#include "engine/engine.h"
#include "ingest/label_check.h"

struct remote_write_config {
    size_t message_bytes_max; /* of a decoded body: 32 MiB, as Prometheus */
    size_t memory_bytes_max;  /* of a request while it is worked on: 256 MiB */
    struct label_limits labels;
};
struct remote_write_config remote_write_config_default(void);

struct remote_write; /* from remote_write_new() */

/* The engine must outlive it. */
MUST_USE enum err_code remote_write_new(const struct env *env, struct engine *engine,
                                        const struct remote_write_config *config,
                                        struct remote_write **out, struct err *err);
/* No request may be running. NULL: no-op. */
void remote_write_free(struct remote_write *rw);
/* The handler: `ctx` is the struct remote_write. Does not wait for the disk: the answer comes from the log's committer
 * thread. */
void remote_write_handle(void *ctx, struct http_request *req);
/* GET of the same path: vmagent up to 1.115 asks by get_vm_proto_version=1 whether it may send zstd; 405 for all else. */
void remote_write_handle_get(void *ctx, struct http_request *req);

#endif
