/* tools/server.c: the daemon. One request's way is in server_call.c. */
#include "tools/server.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tools/server_private.h"

/* Of each connection: request line and headers, then the buffer that bodies pass through. */
#define CONNECTION_BYTES 65536
#define CONNECTION_GROW_BYTES 16384
#define LISTEN_BACKLOG 511
#define SCARCE_NS (INT64_C(60) * 1000000000)
#define LOOK_MS 500 /* between looks at slow connections */

struct server_config server_config_default(const char *listen)
{
    return (struct server_config){
        .listen = listen,
        .connections_max = 1024,
        .idle_timeout_ms = 120000,
        .receive_timeout_ms = 60000,
        .request_bytes_max = (size_t)32 << 20,
        .inflight_bytes_max = (size_t)256 << 20,
        .pool_threads = 8,
        .pool_queue_max = 64,
        .stream_bytes_max = (size_t)256 << 10,
        .stall_timeout_ms = 30000,
    };
}

/* ---- listening ---- */

/* "host:port" in two; the host without brackets, "" for all addresses. */
static enum err_code split_address(const char *listen, char *host, size_t host_size, char *port,
                                   size_t port_size, struct err *err)
{
    const char *colon = strrchr(listen, ':');
    struct str h = {listen, colon ? (size_t)(colon - listen) : 0};
    struct str p = colon ? str_of(colon + 1) : (struct str){NULL, 0};
    if (h.len >= 2 && h.p[0] == '[' && h.p[h.len - 1] == ']') {
        h.p++;
        h.len -= 2;
    } else if (h.len && memchr(h.p, ':', h.len)) {
        p.len = 0; /* an IPv6 address without brackets: its end could be a port */
    }
    char *end = NULL;
    unsigned long number = p.len ? strtoul(p.p, &end, 10) : 0;
    bool ok = p.len && p.p[0] >= '0' && p.p[0] <= '9' && *end == 0 && number <= 65535;
    if (!ok || h.len >= host_size || p.len >= port_size)
        return err_set(err, ERR_INVALID, "'%s' is not an address of the form HOST:PORT", listen);
    snprintf(host, host_size, "%.*s", STR_ARG(h));
    snprintf(port, port_size, "%.*s", STR_ARG(p));
    return ERR_OK;
}

static enum err_code listen_on(const struct addrinfo *ai, const char *name, int *out,
                               struct err *err)
{
    int one = 1, zero = 0;
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return err_set_errno(err, errno, "cannot open a socket for %s", name);
    /* A restart must not wait for old connections to time out. */
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (ai->ai_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) != 0 || listen(fd, LISTEN_BACKLOG) != 0) {
        int sys_errno = errno;
        close(fd);
        return err_set_errno(err, sys_errno, "cannot listen on %s", name);
    }
    *out = fd;
    return ERR_OK;
}

static void note_address(struct server *server)
{
    struct sockaddr_storage ss = {0};
    socklen_t len = sizeof(ss);
    char host[64] = "?", port[16] = "?";
    if (getsockname(server->listen_fd, (struct sockaddr *)&ss, &len) == 0)
        getnameinfo((struct sockaddr *)&ss, len, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV);
    const char *form = ss.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s";
    snprintf(server->address, sizeof(server->address), form, host, port);
}

static enum err_code open_socket(struct server *server, struct err *err)
{
    const char *name = server->config.listen;
    char host[256] = "", port[16] = "";
    enum err_code rc = split_address(name, host, sizeof(host), port, sizeof(port), err);
    if (rc) return rc;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    int gai = getaddrinfo(host[0] ? host : NULL, port, &hints, &list);
    if (gai != 0)
        return err_set(err, ERR_INVALID, "cannot listen on %s: %s", name, gai_strerror(gai));
    /* All addresses: one IPv6 socket serves IPv4 as well, where the machine has IPv6. */
    rc = ERR_NOT_FOUND;
    for (int pass = 0; pass < 2 && rc && rc != ERR_BUSY; pass++)
        for (struct addrinfo *ai = list; ai && rc && rc != ERR_BUSY; ai = ai->ai_next)
            if ((ai->ai_family == AF_INET6) == (pass == 0 && !host[0]) || pass == 1)
                rc = listen_on(ai, name, &server->listen_fd, err);
    freeaddrinfo(list);
    if (!rc) note_address(server);
    return rc;
}

/* ---- libmicrohttpd's callbacks, on its threads ---- */

static void *on_uri(void *cls, const char *uri, struct MHD_Connection *conn)
{
    return call_new(cls, conn, uri);
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *conn, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_size, void **con_cls)
{
    (void)cls, (void)conn, (void)url, (void)version;
    struct call *call = *con_cls;
    if (!call) return MHD_NO; /* no memory for the request: the connection is closed */
    if (call->phase == CALL_NEW) {
        call_start(call, method);
        return call_answer_early(call) ? call_continue(call) : MHD_YES;
    }
    if (*upload_size) {
        bool ok = call_receive(call, upload, *upload_size);
        *upload_size = 0;
        return ok ? MHD_YES : MHD_NO;
    }
    return call_continue(call);
}

static void on_completed(void *cls, struct MHD_Connection *conn, void **con_cls,
                         enum MHD_RequestTerminationCode why)
{
    (void)cls, (void)conn, (void)why;
    if (*con_cls) call_completed(*con_cls);
    *con_cls = NULL;
}

static void on_connection(void *cls, struct MHD_Connection *conn, void **socket_cls,
                          enum MHD_ConnectionNotificationCode what)
{
    struct server *server = cls;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        metric_inc(server->connections_total);
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(conn, MHD_CONNECTION_INFO_CONNECTION_FD);
        peer_add(server, info ? info->connect_fd : -1, socket_cls);
    } else {
        peer_remove(server, *socket_cls);
        *socket_cls = NULL;
    }
}

/* Paths and parameters stay as they were sent: http_params() decodes them as Prometheus does. */
static size_t keep_escapes(void *cls, struct MHD_Connection *conn, char *s)
{
    (void)cls, (void)conn;
    return strlen(s);
}

static void on_log(void *cls, const char *fmt, va_list args)
{
    struct server *server = cls;
    char text[512];
    vsnprintf(text, sizeof(text), fmt, args);
    size_t len = strcspn(text, "\r\n");
    log_msg(server->env.log, LOG_DEBUG, "libmicrohttpd",
            LOG_STR("text", ((struct str){text, len})));
}

static double count_connections(void *ctx)
{
    struct server *server = ctx;
    lock_take(&server->lock);
    size_t n = server->n_peers;
    lock_release(&server->lock);
    return (double)n;
}

static double count_inflight_bytes(void *ctx)
{
    struct server *server = ctx;
    lock_take(&server->share_lock);
    size_t bytes = server->inflight_bytes;
    lock_release(&server->share_lock);
    return (double)bytes;
}

static double count_calls(void *ctx)
{
    struct server *server = ctx;
    lock_take(&server->lock);
    size_t n = server->n_calls;
    lock_release(&server->lock);
    return (double)n;
}

static double count_queued(void *ctx)
{
    struct server *server = ctx;
    return (double)fair_queue_waiting(server->queue);
}

static void register_metrics(struct server *server)
{
    struct metrics *m = server->env.metrics;
    server->connections_total =
        metric_counter(m, "quipu_http_connections_total", "Connections accepted.", "");
    server->refused_total =
        metric_counter(m, "quipu_http_connections_refused_total",
                       "Connections closed at once: too many, or no memory.", "");
    server->rejected_total = metric_counter(
        m, "quipu_http_rejected_total", "Requests refused for size, memory or a full queue.", "");
    server->gone_total =
        metric_counter(m, "quipu_http_clients_gone_total",
                       "Requests whose client left or stalled before the answer was complete.", "");
    server->late_total = metric_counter(m, "quipu_http_queue_timeouts_total",
                                        "Requests that waited too long for a query thread.", "");
    server->accept_failures =
        metric_counter(m, "quipu_http_accept_failures_total",
                       "Times that the system had no descriptor or memory for a connection.", "");
    server->slow_total = metric_counter(
        m, "quipu_http_slow_total",
        "Connections ended because a request came, or its answer was taken, too slowly.", "");
    metric_callback(m, "quipu_http_connections", "Open connections.", "gauge", "",
                    count_connections, server);
    metric_callback(m, "quipu_http_inflight_body_bytes", "Request bodies held in memory.", "gauge",
                    "", count_inflight_bytes, server);
    metric_callback(m, "quipu_http_requests_in_flight", "Requests begun and not yet answered.",
                    "gauge", "", count_calls, server);
    metric_callback(m, "quipu_http_requests_queued", "Requests waiting for a query thread.",
                    "gauge", "", count_queued, server);
}

static enum err_code start_daemon(struct server *server, struct err *err)
{
    size_t n_threads = server->config.io_threads;
    long n_cpus = sysconf(_SC_NPROCESSORS_ONLN);
    if (n_threads == 0) n_threads = n_cpus > 0 ? (size_t)n_cpus : 1;
    /* Above our own limit: those that give way are still there for a moment, and the limit is per thread. */
    size_t n_connections = (server->config.connections_max + 1) * 2 * n_threads;
    unsigned timeout_s = (unsigned)((server->config.idle_timeout_ms + 999) / 1000);
    unsigned flags = MHD_USE_EPOLL | MHD_USE_INTERNAL_POLLING_THREAD | MHD_ALLOW_SUSPEND_RESUME |
                     MHD_USE_ERROR_LOG | MHD_USE_ITC | MHD_USE_NO_LISTEN_SOCKET;
    server->daemon =
        MHD_start_daemon(flags, 0, NULL, NULL, on_request, server,                               //
                         MHD_OPTION_EXTERNAL_LOGGER, on_log, server,                             //
                         MHD_OPTION_THREAD_POOL_SIZE, (unsigned)(n_threads > 1 ? n_threads : 0), //
                         MHD_OPTION_CONNECTION_LIMIT, (unsigned)n_connections,                   //
                         MHD_OPTION_CONNECTION_TIMEOUT, timeout_s,                               //
                         MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES,           //
                         MHD_OPTION_CONNECTION_MEMORY_INCREMENT, (size_t)CONNECTION_GROW_BYTES,  //
                         MHD_OPTION_URI_LOG_CALLBACK, on_uri, server,                            //
                         MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL,                       //
                         MHD_OPTION_NOTIFY_COMPLETED, on_completed, server,                      //
                         MHD_OPTION_NOTIFY_CONNECTION, on_connection, server,                    //
                         MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1,                                   //
                         MHD_OPTION_STRICT_FOR_CLIENT, 0,                                        //
                         MHD_OPTION_END);
    if (server->daemon) return ERR_OK;
    return err_set(err, ERR_IO, "cannot start the HTTP threads (%zu threads, %zu connections)",
                   n_threads, n_connections);
}

/* ---- accepting ----
 * libmicrohttpd's threads would all wait for the listening socket, and the first to wake takes every connection of
 * a burst: two busy senders then share one thread. Handed over one by one, they are spread. */

/* Told once a minute at most. */
static void note_scarce(struct server *server, int sys_errno)
{
    int64_t now_ns = clock_mono_ns(server->env.clock);
    metric_inc(server->accept_failures);
    if (server->scarce_ns && now_ns - server->scarce_ns < SCARCE_NS) return;
    server->scarce_ns = now_ns;
    struct err err;
    err_set_errno(&err, sys_errno, "a connection cannot be accepted; it waits");
    log_msg(server->env.log, LOG_ERROR, "accepting", LOG_ERR(&err));
}

static void accept_one(struct server *server)
{
    struct sockaddr_storage addr;
    socklen_t len = sizeof(addr);
    int fd =
        accept4(server->listen_fd, (struct sockaddr *)&addr, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        /* Out of descriptors or memory: the connection stays in the queue, so poll() would return at once. */
        bool scarce = errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
        if (!scarce) return;
        note_scarce(server, errno);
        usleep(20000);
        return;
    }
    if (!peers_make_room(server)) {
        metric_inc(server->refused_total);
        close(fd);
        return;
    }
    /* On failure it has closed the socket, too. */
    if (MHD_add_connection(server->daemon, fd, (struct sockaddr *)&addr, len) != MHD_YES)
        metric_inc(server->refused_total);
}

static void *acceptor_main(void *arg)
{
    struct server *server = arg;
    struct pollfd pfds[2] = {{.fd = server->listen_fd, .events = POLLIN},
                             {.fd = server->wake_fd, .events = POLLIN}};
    int64_t looked_ns = 0;
    for (;;) {
        if (poll(pfds, 2, LOOK_MS) < 0) continue; /* EINTR */
        if (pfds[1].revents) return NULL;
        if (pfds[0].revents) accept_one(server);
        int64_t now_ns = clock_mono_ns(server->env.clock);
        if (now_ns - looked_ns < LOOK_MS * INT64_C(1000000)) continue;
        looked_ns = now_ns;
        peers_end_slow(server);
    }
}

static enum err_code start_acceptor(struct server *server, struct err *err)
{
    server->wake_fd = eventfd(0, EFD_CLOEXEC);
    if (server->wake_fd < 0) return err_set_errno(err, errno, "cannot make an eventfd");
    if (pthread_create(&server->acceptor, NULL, acceptor_main, server) != 0)
        return err_set(err, ERR_LIMIT, "cannot start a thread");
    server->accepting = true;
    return ERR_OK;
}

static void stop_acceptor(struct server *server)
{
    if (server->accepting) {
        uint64_t one = 1;
        ssize_t n = write(server->wake_fd, &one, sizeof(one));
        ASSERT(n == sizeof(one));
        pthread_join(server->acceptor, NULL);
        server->accepting = false;
    }
    if (server->wake_fd >= 0) close(server->wake_fd);
    if (server->listen_fd >= 0) close(server->listen_fd);
    server->wake_fd = server->listen_fd = -1;
}

/* ---- life ---- */

enum err_code server_open(const struct env *env, const struct server_config *config,
                          const struct http_route *early, size_t n_early, struct server **out,
                          struct err *err)
{
    struct server *server = mem_calloc(MEM_HTTP, 1, sizeof(*server));
    if (!server) return err_set(err, ERR_NO_MEMORY, "no memory for the server");
    server->env = *env;
    server->config = *config;
    server->listen_fd = server->wake_fd = -1;
    lock_init(&server->lock, LOCK_LEAF);
    lock_init(&server->share_lock, LOCK_LEAF);
    cond_init(&server->idle);
    struct router *router = NULL;
    struct server_routes table = {early, n_early};
    enum err_code rc = router_new(NULL, &table, 1, env->metrics, &router, err);
    if (rc) goto fail;
    atomic_store_explicit(&server->router, router, memory_order_relaxed);
    rc = open_socket(server, err);
    if (rc) goto fail;
    struct fair_queue_config queue = {.n_threads = MAX_OF(config->pool_threads, (size_t)1),
                                      .queue_max = config->pool_queue_max,
                                      .clock = env->clock,
                                      .limits = config->pool_limits,
                                      .ctx = config->pool_ctx};
    rc = fair_queue_new(&queue, &server->queue, err);
    if (rc) goto fail;
    register_metrics(server);
    rc = start_daemon(server, err);
    if (rc) goto fail;
    *out = server; /* before the first request: its handler may ask */
    rc = start_acceptor(server, err);
    if (!rc) return ERR_OK;
fail:
    *out = NULL;
    server_close(server);
    return rc;
}

const char *server_address(const struct server *server)
{
    return server->address;
}

enum server_state server_state(const struct server *server)
{
    return atomic_load_explicit(&server->state, memory_order_acquire);
}

enum err_code server_ready(struct server *server, const struct server_routes *tables,
                           size_t n_tables, http_handler_fn *options, void *options_ctx,
                           struct err *err)
{
    ASSERT(!server->early);
    struct router *old = atomic_load_explicit(&server->router, memory_order_relaxed);
    struct router *router = NULL;
    enum err_code rc = router_new(old, tables, n_tables, server->env.metrics, &router, err);
    if (rc) return rc;
    router->options = options;
    router->options_ctx = options_ctx;
    server->early = old; /* requests begun under it may still be running */
    atomic_store_explicit(&server->router, router, memory_order_release);
    atomic_store_explicit(&server->state, SERVER_READY, memory_order_release); /* with the engine */
    return ERR_OK;
}

static bool wait_idle(struct server *server, int64_t timeout_ms)
{
    int64_t end_ns = clock_mono_ns(server->env.clock) + timeout_ms * 1000000;
    lock_take(&server->lock);
    while (server->n_calls) {
        int64_t left_ns = end_ns - clock_mono_ns(server->env.clock);
        if (left_ns <= 0) break;
        cond_wait_for(&server->idle, &server->lock, left_ns);
    }
    bool idle = server->n_calls == 0;
    lock_release(&server->lock);
    return idle;
}

bool server_stop(struct server *server, int64_t grace_ms)
{
    atomic_store_explicit(&server->state, SERVER_STOPPING, memory_order_relaxed);
    stop_acceptor(server);
    bool idle = wait_idle(server, grace_ms);
    if (!idle) {
        log_msg(server->env.log, LOG_WARN, "canceling requests that outlast the shutdown",
                LOG_I64("grace_ms", grace_ms));
        atomic_store_explicit(&server->canceled, true, memory_order_relaxed);
        idle = wait_idle(server, grace_ms);
    }
    return idle;
}

void server_close(struct server *server)
{
    if (!server) return;
    stop_acceptor(server);
    if (server->daemon) MHD_stop_daemon(server->daemon);
    fair_queue_free(server->queue);
    router_free(atomic_load_explicit(&server->router, memory_order_relaxed));
    router_free(server->early);
    cond_destroy(&server->idle);
    lock_destroy(&server->lock);
    lock_destroy(&server->share_lock);
    mem_free(server);
}
