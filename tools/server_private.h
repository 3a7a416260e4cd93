/* tools/server_private.h: what the files of the server share.
 *   server.c        the daemon: listening, dispatch, stop
 *   server_route.c  which handler a path has, and the answers for those that have none
 *   server_call.c   one request: headers and body in, the answer out
 *   server_compress.c  the compressed form of an answer
 *   server_peer.c   open connections, and which of them must go
 *   server_share.c  what one tenant may take while others want some
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

/* An open connection. */
enum peer_state {
    PEER_AT_REST,   /* no request, or its header is not complete */
    PEER_RECEIVING, /* a body */
    PEER_BUSY,      /* a request is with its handler */
    PEER_SENDING,   /* the handler is done; the client takes its time */
    PEER_ENDED      /* its socket was shut down */
};
struct peer {
    struct peer *prev, *next; /* in server->peers; guarded by server->lock */
    int fd;
    _Atomic int64_t since_ns; /* in this state; relaxed, as the next: an order of ages */
    _Atomic(enum peer_state) state;
};
/* From libmicrohttpd's notice of a new connection; into *socket_cls, NULL when memory is out. */
void peer_add(struct server *server, int fd, void **socket_cls);
void peer_remove(struct server *server, struct peer *peer);                   /* NULL: no-op */
void peer_set(struct peer *peer, struct clock *clock, enum peer_state state); /* NULL: no-op */
/* Before another connection is taken: ends one if there are too many. False: there is none that may go. */
bool peers_make_room(struct server *server);
/* Ends those that have been too long in their state. */
void peers_end_slow(struct server *server);

/* ---- shares ---- */

#define SHARES_N 256
struct call;
struct share {    /* guarded by server->share_lock */
    size_t bytes; /* of bodies in memory */
};
struct share *share_of(struct server *server, struct call *call);
/* False: too much in all, or more than its share while others have some. */
bool share_take_bytes(struct server *server, struct share *share, size_t bytes);
void share_give_bytes(struct server *server, struct share *share, size_t bytes);

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
    struct lock share_lock; /* rank LOCK_LEAF; guards shares and what follows */
    struct share shares[SHARES_N];
    size_t inflight_bytes, n_with_bytes; /* of bodies; shares that have some */
    struct lock lock;                    /* rank LOCK_LEAF; guards n_calls, peers, n_peers */
    struct peer *peers;                  /* newest first */
    size_t n_peers;
    struct cond idle; /* n_calls went to 0 */
    size_t n_calls;   /* begun and not yet freed */
    struct metric *connections_total, *refused_total, *rejected_total, *gone_total, *late_total,
        *slow_total, *accept_failures;
    int64_t scarce_ns; /* when that was told last; the acceptor's */
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
    struct share *share;
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
