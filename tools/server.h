/* tools/server.h: libmicrohttpd behind base/http.h.
 *
 * One thread accepts connections and deals them out to a few that poll them (epoll). Those collect a request's body into a bounded buffer, then run its
 * handler themselves (routes that do not block) or hand it to a pool with a bounded queue (routes that may take
 * long). While a handler works, its connection is suspended: no thread waits for it. A short answer is sent
 * whole, with Content-Length; a long one of a pooled route is streamed through a bounded queue, in which the
 * handler waits for the client.
 * What one client can take is limited: bytes of bodies over all requests, connections, and the time for each step of a
 * request. What one tenant can take is limited while others want some: see server_share.c.
 * Threads: any, except that open, start, stop and close belong to one. */
#ifndef QUIPU_TOOLS_SERVER_H
#define QUIPU_TOOLS_SERVER_H

#include "base/env.h"
#include "base/http.h"
#include "tools/fair_queue.h"

struct server; /* from server_open() */

struct server_config {
    const char *listen; /* "127.0.0.1:9780", "[::1]:9780", ":9780" (all addresses); port 0: any */
    size_t io_threads;  /* 0: one per processor */
    size_t connections_max; /* 1,024; more are refused at once */
    int64_t
        idle_timeout_ms; /* 2 min without a byte either way, without a whole header, or with the rest of an
                              * answer not taken */
    int64_t receive_timeout_ms; /* 1 min: a body must be there so long after its header */
    size_t request_bytes_max;   /* 32 MiB: a longer body gets 413 */
    size_t
        inflight_bytes_max; /* 256 MiB: bodies of all requests being received or handled; past it 503 */
    size_t pool_threads;   /* 8: pooled requests at work */
    size_t pool_queue_max; /* 64: pooled requests waiting; past it 503 with Retry-After */
    /* What one tenant (as the header names it, or TENANT_DEFAULT) may have of these. NULL: defaults */
    void (*pool_limits)(void *ctx, struct str tenant, struct fair_limits *out);
    void *pool_ctx;
    size_t stream_bytes_max; /* 256 KiB: of one streamed answer, waiting for its client */
    int64_t
        stall_timeout_ms; /* 30 s: a client that takes not even 64 KiB of a streamed answer counts as gone */
    const char *share_header; /* requests with one value of it share what there is; NULL: all do */
};
struct server_config server_config_default(const char *listen);

/* What the paths that are in no table answer. */
enum server_state {
    SERVER_STARTING, /* 503 "Service Unavailable" */
    SERVER_READY,    /* 404 */
    SERVER_STOPPING  /* 503 with X-Prometheus-Stopping: true, and the connection is closed */
};

/* Binds the port and starts to answer in the state SERVER_STARTING with the routes marked `early`.
 * ERR_BUSY: the port is in use. ERR_INVALID: no address. */
MUST_USE enum err_code server_open(const struct env *env, const struct server_config *config,
                                   const struct http_route *early, size_t n_early,
                                   struct server **out, struct err *err);
/* "127.0.0.1:9780", with the real port. */
const char *server_address(const struct server *server);

/* Puts more routes into service and says SERVER_READY. `options` answers OPTIONS below /api/v1/ (NULL: a plain
 * 204). Once only; the tables are copied, their contexts must live until server_close. */
struct server_routes {
    const struct http_route *routes;
    size_t n;
};
MUST_USE enum err_code server_ready(struct server *server, const struct server_routes *tables,
                                    size_t n_tables, http_handler_fn *options, void *options_ctx,
                                    struct err *err);
enum server_state server_state(const struct server *server);

/* Stops accepting, refuses new requests, waits up to grace_ms for those being answered, then tells the rest
 * that they are canceled (http_gone) and waits up to grace_ms more. False: some are still running; then nothing
 * their handlers use may be freed, and server_close may not be called. */
bool server_stop(struct server *server, int64_t grace_ms);
/* After server_stop() said true. NULL: no-op. */
void server_close(struct server *server);

/* ---- for tests ---- */

/* Which encoding an Accept-Encoding header asks for, of those that are served: "gzip", "deflate" (RFC 1950's
 * format), "zstd" or NULL. Among equal q-values zstd wins, else the first named; q=0 refuses. */
const char *server_pick_encoding(struct str accept_encoding);

#endif
