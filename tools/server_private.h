/* tools/server_private.h: what the files of the server share.
 *   server.c        the daemon: listening, dispatch, stop
 *   server_route.c  which handler a path has, and the answers for those that have none
 *   server_call.c   one request: headers and body in, the answer out
 *   server_compress.c  the compressed form of an answer
 */
#ifndef QUIPU_TOOLS_SERVER_PRIVATE_H
#define QUIPU_TOOLS_SERVER_PRIVATE_H

#include <microhttpd.h>
#include <stdatomic.h>

#include "base/lock.h"
#include "base/metric.h"
#include "tools/fair_queue.h"
#include "tools/server.h"
#include "tools/server_compress.h"

/* ---- routes ---- */

/* Metrics of one path, made when they are first needed: most pairs of path and code never are. */
#define ROUTE_CODES_N 16
struct route_stats {
    struct metrics *metrics;
    const char *handler;
    _Atomic(struct metric *)
        requests[ROUTE_CODES_N]; /* release and acquire, both in route_count() */
    _Atomic(struct metric_histogram *) seconds;
};
struct route {
    struct http_route r;
    struct str prefix, suffix; /* around the `*`; without one: the whole path, and has_star false */
    bool has_star;
    struct route_stats *stats; /* shared by the routes of one path */
};
struct router {
    struct route *routes;
    size_t n;
    size_t n_early;            /* of the first router: served while starting and stopping, too */
    struct route_stats *stats; /* n of them, some unused */
    struct route_stats other;  /* requests that no route answered */
    http_handler_fn *options;
    void *options_ctx;
};
/* Copies `old` (may be NULL) and the tables into a new router. */
MUST_USE enum err_code router_new(const struct router *old, const struct server_routes *tables,
                                  size_t n_tables, struct metrics *metrics, struct router **out,
                                  struct err *err);
void router_free(struct router *router);
/* The route of a request; *label is what `*` matched. NULL: none; *allowed then holds the methods that the path has
 * (0: no such path). */
const struct route *router_find(const struct router *router, enum server_state state,
                                const struct http_request *req, struct str *label,
                                unsigned *allowed);
/* Answers a request that has no route: 301 for doubled slashes, 204 for OPTIONS, 405, 404, 503 while starting. */
void router_answer_none(const struct router *router, enum server_state state,
                        struct http_request *req, unsigned allowed);
void route_count(struct route_stats *stats, unsigned status, double seconds);

/* ---- calls ---- */

/* An open connection, for choosing which one gives way when there are too many. */
struct peer {
    struct peer *prev, *next; /* in server->peers; guarded by server->lock */
    int fd;
    _Atomic int64_t
        moved_ns; /* when a request began, got bytes or was answered; relaxed: an order of ages */
    _Atomic bool busy; /* a request is complete and not yet answered; relaxed, likewise */
};

struct server {
    struct env env;
    struct server_config config;
    struct MHD_Daemon *daemon;
    int listen_fd, wake_fd; /* -1: closed. wake_fd (an eventfd) ends the acceptor */
    pthread_t acceptor;
    bool accepting; /* the acceptor runs */
    char address[80];
    struct fair_queue *queue;
    _Atomic(struct router *) router; /* release in server_ready(), acquire in call_start() */
    struct router *early;            /* the router before; calls may still use it */
    _Atomic(enum server_state) state;
    _Atomic bool canceled;
    _Atomic size_t inflight_bytes; /* of bodies; relaxed: a bound, not an order */
    struct lock lock;              /* rank LOCK_LEAF; guards n_calls, peers, n_peers */
    struct peer *peers;            /* newest first */
    size_t n_peers;
    struct cond idle; /* n_calls went to 0 */
    size_t n_calls;   /* begun and not yet freed */
    struct metric *connections_total, *refused_total, *rejected_total, *gone_total, *late_total;
};

/* Life of a call: the polling thread that owns the connection and the handler hold one reference each. */
enum answer_state {
    ANSWER_NONE,      /* nothing to send so far */
    ANSWER_WHOLE,     /* complete in `body_out` */
    ANSWER_STREAMING, /* parts go through the queue */
};

struct part {
    struct part *next;
    size_t len, sent;
    uint8_t data[];
};

struct call {
    struct http_request req; /* first */
    struct fair_job job;     /* of a pooled route */
    struct server *server;
    struct MHD_Connection *conn;
    struct peer *peer; /* NULL when memory was out; valid until call_completed() has returned */
    const struct router *router;
    const struct route *route; /* NULL: answered by the router */
    atomic_int n_refs;

    /* Receiving: the polling thread's alone. */
    enum { CALL_NEW, CALL_BODY, CALL_DISPATCHED, CALL_QUEUED } phase;
    char *uri; /* as sent; path, query and label point into it */
    char remote[64];
    struct http_param *headers;
    size_t n_headers;
    uint8_t *body;
    size_t body_cap;
    uint64_t body_declared; /* Content-Length; UINT64_MAX: unknown */
    uint64_t body_dropped;  /* bytes read and thrown away once the answer was clear */
    unsigned refused;       /* status to answer after the body: 413, 503; 0 = none */

    /* Answering: the handler's alone until `state` says it is ready. */
    unsigned status;
    char *content_type;
    struct buf headers_out; /* name NUL value NUL … */
    struct buf body_out;    /* what was written before streaming began */
    const char *encoding;   /* "gzip", "deflate", "zstd", NULL; decided when the answer begins */
    struct compressor *compressor; /* of a stream */
    bool ended;

    struct lock lock; /* rank LOCK_LEAF; guards all below */
    struct cond room;
    enum answer_state state;
    bool suspended; /* the connection waits for call_resume() */
    bool gone;      /* no more bytes can reach the client */
    bool finished;  /* the last part is in the queue */
    bool aborted;   /* the connection is to be cut after the last part */
    struct part *first, **last;
    size_t queue_bytes;
    int fd;               /* -1 once the connection may be closed */
    int64_t gone_seen_ns; /* when the socket was last looked at */
};

/* From libmicrohttpd's callback for a new request line. NULL when memory is out. */
struct call *call_new(struct server *server, struct MHD_Connection *conn, const char *uri);
/* The connection moved just now; busy: its request is with a handler. */
void peer_touch(struct peer *peer, struct clock *clock, bool busy);
void call_unref(struct call *call);
/* Headers are in: finds the route, decides about the body. */
void call_start(struct call *call, const char *method);
/* False: the connection is to be closed. */
MUST_USE bool call_receive(struct call *call, const char *p, size_t len);
/* The answer that needs no handler, if any: refused bodies, unknown paths. True: it was given. */
bool call_answer_early(struct call *call);
/* Hands the answer to libmicrohttpd if it has begun, else suspends the connection. */
enum MHD_Result call_continue(struct call *call);
/* The connection is through with the request, well or not. */
void call_completed(struct call *call);

#endif
