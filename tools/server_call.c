/* tools/server_call.c: one request from its first line to the last byte of its answer.
 *
 * An answer begins as bytes in `body_out`. If it ends there it is sent whole; if a pooled handler writes more than
 * STREAM_BEGIN_BYTES it becomes a stream: parts in a queue, which libmicrohttpd's thread empties. A handler
 * that runs on a polling thread is never made to wait for a client, so its answer is always whole.
 * Compression happens on the handler's thread, since the polling threads serve everybody. */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "engine/tenant_header.h"
#include "tools/server_private.h"

#define STREAM_BEGIN_BYTES 65536
#define PART_BYTES_MAX 65536
/* Below this, headers weigh more than what is saved. */
#define COMPRESS_BYTES_MIN 512
/* A body that is refused is still read up to this many times the limit: a client that is answered while it sends
 * sees a reset connection, not the answer. */
#define DRAIN_FACTOR 4
/* How often http_gone() looks at the socket. */
#define GONE_LOOK_NS 20000000

static const struct http_request_ops call_ops;

static struct call *call_of(struct http_request *req)
{
    return CONTAINER_OF(req, struct call, req);
}

/* ---- life ---- */

static void split_uri(struct http_request *req, char *uri)
{
    static const struct str schemes[] = {{"http://", 7}, {"https://", 8}};
    struct str s = str_of(uri);
    for (size_t i = 0; i < COUNT_OF(schemes); i++) {
        if (s.len < schemes[i].len || strncasecmp(s.p, schemes[i].p, schemes[i].len) != 0) continue;
        const char *slash =
            strchr(s.p + schemes[i].len, '/'); /* absolute form, as proxies send it */
        s = slash ? str_of(slash) : STR("/");
        break;
    }
    const char *hash = memchr(s.p, '#', s.len);
    if (hash) s.len = (size_t)(hash - s.p);
    const char *mark = memchr(s.p, '?', s.len);
    req->path = mark ? (struct str){s.p, (size_t)(mark - s.p)} : s;
    if (mark) req->query = (struct str){mark + 1, s.len - req->path.len - 1};
}

struct call *call_new(struct server *server, struct MHD_Connection *conn, const char *uri)
{
    struct call *call = mem_calloc(MEM_HTTP, 1, sizeof(*call));
    if (!call) return NULL;
    call->uri = mem_strdup(MEM_HTTP, uri);
    if (!call->uri) {
        mem_free(call);
        return NULL;
    }
    call->server = server;
    call->conn = conn;
    call->fd = -1;
    call->last = &call->first;
    atomic_init(&call->n_refs, 1);
    lock_init(&call->lock, LOCK_LEAF);
    cond_init(&call->room);
    buf_init(&call->headers_out, MEM_HTTP);
    buf_init(&call->body_out, MEM_HTTP);
    call->req.ops = &call_ops;
    call->req.start_mono_ns = clock_mono_ns(server->env.clock);
    arena_init(&call->req.arena, MEM_HTTP, server->config.inflight_bytes_max);
    split_uri(&call->req, call->uri);
    lock_take(&server->lock);
    server->n_calls++;
    lock_release(&server->lock);
    return call;
}

static void body_release(struct call *call)
{
    share_give_bytes(call->server, call->share, call->body_cap);
    mem_free(call->body);
    call->body = NULL;
    call->body_cap = 0;
    call->req.body = bytes_of(NULL, 0);
}

static void call_free(struct call *call)
{
    struct server *server = call->server;
    body_release(call);
    while (call->first) {
        struct part *part = call->first;
        call->first = part->next;
        mem_free(part);
    }
    compressor_free(call->compressor);
    buf_release(&call->headers_out);
    buf_release(&call->body_out);
    arena_release(&call->req.arena);
    cond_destroy(&call->room);
    lock_destroy(&call->lock);
    mem_free(call->content_type);
    mem_free(call->uri);
    mem_free(call);

    lock_take(&server->lock);
    if (--server->n_calls == 0) cond_broadcast(&server->idle);
    lock_release(&server->lock);
}

void call_unref(struct call *call)
{
    /* acq_rel: the last one sees what the other did before it let go */
    if (atomic_fetch_sub_explicit(&call->n_refs, 1, memory_order_acq_rel) == 1) call_free(call);
}

/* ---- receiving: on the polling thread ---- */

static enum http_method method_parse(const char *method)
{
    static const struct {
        const char *name;
        enum http_method method;
    } names[] = {{"GET", HTTP_GET}, {"POST", HTTP_POST},     {"HEAD", HTTP_HEAD},
                 {"PUT", HTTP_PUT}, {"DELETE", HTTP_DELETE}, {"OPTIONS", HTTP_OPTIONS}};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (strcmp(names[i].name, method) == 0) return names[i].method;
    return HTTP_OTHER;
}

static enum MHD_Result copy_header(void *cls, enum MHD_ValueKind kind, const char *name,
                                   size_t name_len, const char *value, size_t value_len)
{
    (void)kind;
    struct call *call = cls;
    struct http_param *h = &call->headers[call->n_headers];
    h->name = arena_str(&call->req.arena, (struct str){name, name_len});
    h->value = arena_str(&call->req.arena, (struct str){value, value_len});
    if (!h->name.p || !h->value.p) return MHD_NO;
    call->n_headers++;
    return MHD_YES;
}

/* Copies, since a handler may ask for a header after the connection is gone. */
static void copy_headers(struct call *call)
{
    int n = MHD_get_connection_values_n(call->conn, MHD_HEADER_KIND, NULL, NULL);
    call->headers = ARENA_ARRAY(&call->req.arena, struct http_param, n > 0 ? (size_t)n : 1);
    if (call->headers) MHD_get_connection_values_n(call->conn, MHD_HEADER_KIND, copy_header, call);
    if (!call->headers || (int)call->n_headers < n) call->refused = 503; /* memory is out */
}

static void note_remote(struct call *call)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(call->conn, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    char host[INET6_ADDRSTRLEN] = "";
    if (info && info->client_addr->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)info->client_addr;
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
        snprintf(call->remote, sizeof(call->remote), "%s:%u", host, ntohs(in->sin_port));
    } else if (info && info->client_addr->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)info->client_addr;
        inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
        snprintf(call->remote, sizeof(call->remote), "[%s]:%u", host, ntohs(in6->sin6_port));
    }
    call->req.remote = str_of(call->remote);
    info = MHD_get_connection_info(call->conn, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (info) call->fd = info->connect_fd;
    info = MHD_get_connection_info(call->conn, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    if (info) call->peer = info->socket_context;
}

/* libmicrohttpd has already refused a length that is no number. */
static uint64_t declared_length(struct call *call)
{
    struct str length = http_header(&call->req, "Content-Length", NULL);
    if (length.p) return strtoull(length.p, NULL, 10);
    return http_header(&call->req, "Transfer-Encoding", NULL).p ? UINT64_MAX : 0;
}

void call_start(struct call *call, const char *method)
{
    struct server *server = call->server;
    call->phase = CALL_BODY;
    call->req.method = method_parse(method);
    copy_headers(call);
    note_remote(call);
    peer_set(call->peer, server->env.clock, PEER_RECEIVING);
    call->share = share_of(server, call);
    call->body_declared = declared_length(call);
    call->router = atomic_load_explicit(&server->router, memory_order_acquire);
    unsigned allowed;
    call->route =
        router_find(call->router, server_state(server), &call->req, &call->req.label, &allowed);
    if (call->body_declared != UINT64_MAX && call->body_declared > server->config.request_bytes_max)
        call->refused = 413;
}

/* Grows the body's buffer within the limits; false (and call->refused set) beyond them. */
static bool body_grow(struct call *call, size_t needed)
{
    struct server *server = call->server;
    if (needed > server->config.request_bytes_max) {
        call->refused = 413;
        return false;
    }
    size_t cap = MAX_OF(call->body_cap * 2, (size_t)65536);
    if (call->body_declared <= (1u << 20) || call->body_declared < cap)
        cap = (size_t)call->body_declared; /* small enough to believe at once */
    cap = MIN_OF(MAX_OF(cap, needed), server->config.request_bytes_max);
    size_t extra = cap - call->body_cap;
    bool taken = share_take_bytes(server, call->share, extra);
    uint8_t *p = taken ? mem_realloc(MEM_HTTP, call->body, cap) : NULL;
    if (!p) {
        if (taken) share_give_bytes(server, call->share, extra);
        call->refused = 503;
        return false;
    }
    call->body = p;
    call->body_cap = cap;
    return true;
}

bool call_receive(struct call *call, const char *p, size_t len)
{
    size_t have = call->req.body.len;
    bool kept = !call->refused && call->route &&
                (have + len <= call->body_cap || body_grow(call, have + len));
    if (kept) {
        memcpy(call->body + have, p, len);
        call->req.body = bytes_of(call->body, have + len);
        return true;
    }
    if (call->body_dropped == 0) body_release(call);
    call->body_dropped += len;
    return call->body_dropped <= call->server->config.request_bytes_max * DRAIN_FACTOR;
}

static void answer_refused(struct call *call)
{
    if (call->refused == 413) {
        http_respond_text(&call->req, 413, "request body larger than %zu bytes (http.request_max)",
                          call->server->config.request_bytes_max);
    } else {
        http_set_header(&call->req, "Retry-After", "1");
        http_respond_text(&call->req, 503, "no memory for the request now; try again");
    }
    metric_inc(call->server->rejected_total);
}

static void run_pooled(struct fair_job *job)
{
    struct call *call = CONTAINER_OF(job, struct call, job);
    call->route->r.handler(call->route->r.ctx, &call->req);
}

/* Texts have nothing that JSON would escape. */
static void answer_later(struct call *call, const char *type, const char *text)
{
    char json[512];
    bool api = str_has_prefix(call->req.path, STR("/api/v1/"));
    http_set_header(&call->req, "Retry-After", "1");
    if (!api) {
        http_respond_text(&call->req, 503, "%s", text);
        return;
    }
    int n = snprintf(json, sizeof(json),
                     "{\"status\":\"error\",\"errorType\":\"%s\",\"error\":\"%s\"}", type, text);
    http_respond(&call->req, 503, "application/json", bytes_of(json, n < 0 ? 0 : (size_t)n));
}

static void refuse_pooled(struct fair_job *job, enum fair_refusal why)
{
    struct call *call = CONTAINER_OF(job, struct call, job);
    struct server *server = call->server;
    char text[256];
    if (why == FAIR_TOO_LATE) {
        int64_t waited_ns = clock_mono_ns(server->env.clock) - job->since_ns;
        metric_inc(server->late_total);
        snprintf(text, sizeof(text),
                 "query timed out in query queue after %lld ms (query.queue_timeout)",
                 (long long)(waited_ns / 1000000));
        answer_later(call, "timeout", text);
        return;
    }
    metric_inc(server->rejected_total);
    snprintf(text, sizeof(text), "too many requests are waiting (query.queue_max is %zu)",
             server->config.pool_queue_max);
    answer_later(call, "unavailable", text);
}

/* Whose queue a request waits in. */
static struct str queue_key(struct call *call)
{
    struct str path = call->req.path;
    if (str_has_prefix(path, STR("/-/")) || str_has_prefix(path, STR("/api/v1/admin/")))
        return STR(FAIR_KEY_OPERATOR);
    struct str tenant = http_header(&call->req, TENANT_HEADER, NULL);
    return tenant.len ? tenant : STR(TENANT_DEFAULT);
}

/* Body complete (or not wanted): gets the request answered, now or later. */
static void call_dispatch(struct call *call)
{
    struct server *server = call->server;
    call->phase = CALL_DISPATCHED;
    peer_set(call->peer, server->env.clock, PEER_BUSY);
    atomic_fetch_add_explicit(&call->n_refs, 1,
                              memory_order_relaxed); /* the handler's, until end */
    if (call->refused) {
        answer_refused(call);
    } else if (!call->route) {
        unsigned allowed;
        struct str label;
        enum server_state state = server_state(server);
        (void)router_find(call->router, state, &call->req, &label, &allowed); /* for `allowed` */
        router_answer_none(call->router, state, &call->req, allowed);
    } else if (!call->route->r.pooled) {
        call->route->r.handler(call->route->r.ctx, &call->req);
    } else {
        struct err err;
        call->job = (struct fair_job){.run = run_pooled, .refuse = refuse_pooled};
        if (fair_queue_submit(server->queue, queue_key(call), &call->job, &err))
            refuse_pooled(&call->job, FAIR_CROWDED);
    }
}

bool call_answer_early(struct call *call)
{
    if (call->route && !call->refused) return false;
    bool waits = http_header(&call->req, "Expect", NULL).p != NULL;
    bool endless = call->body_declared != UINT64_MAX &&
                   call->body_declared / DRAIN_FACTOR > call->server->config.request_bytes_max;
    if (!waits && !endless) return false;
    call_dispatch(call);
    return true;
}

/* ---- answering: on the handler's thread ---- */

static struct str call_header(struct http_request *req, const char *name, size_t *count)
{
    struct call *call = call_of(req);
    struct str first = {NULL, 0};
    size_t n = 0;
    for (size_t i = 0; i < call->n_headers; i++) {
        if (strcasecmp(call->headers[i].name.p, name) != 0) continue;
        if (n++ == 0) first = call->headers[i].value;
    }
    if (count) *count = n;
    return first;
}

static void call_set_header(struct http_request *req, const char *name, const char *value)
{
    struct call *call = call_of(req);
    buf_put(&call->headers_out, name, strlen(name) + 1);
    buf_put(&call->headers_out, value, strlen(value) + 1);
}

/* q of one element of Accept-Encoding, in thousandths; *name is what it is for. */
static int encoding_quality(struct str element, struct str *name)
{
    const char *semicolon = memchr(element.p, ';', element.len);
    *name = semicolon ? (struct str){element.p, (size_t)(semicolon - element.p)} : element;
    while (name->len && (name->p[0] == ' ' || name->p[0] == '\t')) name->p++, name->len--;
    while (name->len && (name->p[name->len - 1] == ' ' || name->p[name->len - 1] == '\t'))
        name->len--;
    if (!semicolon) return 1000;
    const char *p = semicolon + 1, *end = element.p + element.len;
    while (p < end && (*p == ' ' || *p == '\t')) p++;
    if (end - p < 3 || (*p != 'q' && *p != 'Q') || p[1] != '=') return 1000;
    p += 2;
    int q = (*p++ == '1') ? 1000 : 0;
    if (p < end && *p == '.') {
        int scale = 100;
        for (p++; p < end && *p >= '0' && *p <= '9' && scale; p++, scale /= 10)
            q += (*p - '0') * scale;
    }
    return MIN_OF(q, 1000);
}

static const char *known_encoding(struct str name)
{
    static const char *const KNOWN[] = {"gzip", "deflate", "zstd"};
    for (size_t i = 0; i < COUNT_OF(KNOWN); i++)
        if (name.len == strlen(KNOWN[i]) && strncasecmp(name.p, KNOWN[i], name.len) == 0)
            return KNOWN[i];
    return NULL;
}

const char *server_pick_encoding(struct str accept)
{
    const char *best = NULL;
    int best_q = 0;
    while (accept.len) {
        const char *comma = memchr(accept.p, ',', accept.len);
        struct str element = {accept.p, comma ? (size_t)(comma - accept.p) : accept.len};
        accept.p += element.len + (comma ? 1 : 0);
        accept.len -= element.len + (comma ? 1 : 0);
        struct str name;
        int q = encoding_quality(element, &name);
        const char *known = known_encoding(name);
        /* zstd costs the least on both sides, so it wins wherever it is as welcome. */
        bool zstd = known && strcmp(known, "zstd") == 0;
        if (known && q && (q > best_q || (zstd && q == best_q))) {
            best = known;
            best_q = q;
        }
    }
    return best;
}

static bool has_set_header(const struct call *call, const char *name)
{
    const char *p = (const char *)call->headers_out.p, *end = p + call->headers_out.len;
    while (p && p < end) {
        const char *value = p + strlen(p) + 1;
        if (strcasecmp(p, name) == 0) return true;
        p = value + strlen(value) + 1;
    }
    return false;
}

/* JSON and expositions; not the one-line texts, and not what a handler has encoded itself. */
static bool is_compressible(const struct call *call)
{
    struct str type = str_of(call->content_type);
    bool known = str_has_prefix(type, STR("application/json")) ||
                 str_has_prefix(type, STR("text/plain; version=")) ||
                 str_has_prefix(type, STR("application/openmetrics-text")) ||
                 str_has_prefix(type, STR("application/vnd.google.protobuf"));
    return known && call->status != 204 && call->req.method != HTTP_HEAD &&
           !has_set_header(call, "Content-Encoding");
}

static void call_begin(struct http_request *req, unsigned status, const char *content_type)
{
    struct call *call = call_of(req);
    ASSERT(call->status == 0);
    call->status = status;
    if (content_type) call->content_type = mem_strdup(MEM_HTTP, content_type);
    if (!is_compressible(call)) return;
    call_set_header(req, "Vary", "Accept-Encoding");
    call->encoding = server_pick_encoding(call_header(req, "Accept-Encoding", NULL));
}

/* Under call->lock. */
static void call_resume(struct call *call)
{
    if (!call->suspended) return;
    call->suspended = false;
    MHD_resume_connection(call->conn);
}

static bool is_canceled(struct call *call)
{
    return atomic_load_explicit(&call->server->canceled, memory_order_relaxed);
}

/* Waits under call->lock until the queue has room; false when the client is gone or stalls. */
static bool wait_for_room(struct call *call)
{
    int64_t left_ns = call->server->config.stall_timeout_ms * 1000000;
    while (call->queue_bytes >= call->server->config.stream_bytes_max && !call->gone) {
        int64_t slice_ns = MIN_OF(left_ns, (int64_t)200000000); /* to see a stop of the server */
        if (is_canceled(call) || left_ns <= 0) {
            call->gone = true;
            metric_inc(call->server->gone_total);
            break;
        }
        if (!cond_wait_for(&call->room, &call->lock, slice_ns)) left_ns -= slice_ns;
    }
    return !call->gone;
}

static enum err_code queue_part(struct call *call, const uint8_t *p, size_t len, struct err *err)
{
    struct part *part = mem_alloc(MEM_HTTP, sizeof(*part) + len);
    if (!part) return err_set(err, ERR_NO_MEMORY, "no memory for %zu bytes of an answer", len);
    part->next = NULL;
    part->len = len;
    part->sent = 0;
    memcpy(part->data, p, len);
    lock_take(&call->lock);
    bool room = wait_for_room(call);
    if (room) {
        *call->last = part;
        call->last = &part->next;
        call->queue_bytes += len;
        call_resume(call);
    }
    lock_release(&call->lock);
    if (room) return ERR_OK;
    mem_free(part);
    return err_set(err, ERR_CANCELED, "the client is gone");
}

static enum err_code queue_bytes(struct call *call, struct bytes b, struct err *err)
{
    enum err_code rc = ERR_OK;
    while (b.len && !rc) {
        size_t len = MIN_OF(b.len, (size_t)PART_BYTES_MAX);
        rc = queue_part(call, b.p, len, err);
        b.p += len;
        b.len -= len;
    }
    return rc;
}

static enum err_code queue_compressed(void *call, struct bytes out, struct err *err)
{
    return queue_bytes(call, out, err);
}

/* A part of a streamed answer. Compressed ones are flushed, so that what was written can be read. */
static enum err_code stream_write(struct call *call, struct bytes part, struct err *err)
{
    if (!call->compressor) return queue_bytes(call, part, err);
    return compressor_write(call->compressor, part, COMPRESS_FLUSH, queue_compressed, call, err);
}

static enum err_code stream_begin(struct call *call, struct err *err)
{
    if (call->encoding) call->compressor = compressor_new(call->encoding);
    if (!call->compressor) call->encoding = NULL;
    lock_take(&call->lock);
    call->state = ANSWER_STREAMING;
    call_resume(call);
    lock_release(&call->lock);
    enum err_code rc = stream_write(call, buf_bytes(&call->body_out), err);
    buf_release(&call->body_out);
    return rc;
}

static enum err_code call_write(struct http_request *req, struct bytes part, struct err *err)
{
    struct call *call = call_of(req);
    ASSERT(call->status != 0);
    /* The state is read without the lock: only this thread changes it. */
    if (call->state == ANSWER_STREAMING) return stream_write(call, part, err);
    buf_put(&call->body_out, part.p, part.len);
    if (call->body_out.failed)
        return err_set(err, ERR_NO_MEMORY, "no memory for an answer of %zu bytes",
                       call->body_out.len);
    bool may_wait = call->route && call->route->r.pooled;
    if (call->body_out.len > STREAM_BEGIN_BYTES && may_wait) return stream_begin(call, err);
    return ERR_OK;
}

/* Replaces body_out by its compressed form, if that is shorter. */
static void compress_body(struct call *call)
{
    struct buf out;
    buf_init(&out, MEM_HTTP);
    bool shorter = call->body_out.len >= COMPRESS_BYTES_MIN &&
                   compress_whole(call->encoding, buf_bytes(&call->body_out), &out);
    if (shorter) {
        buf_release(&call->body_out);
        call->body_out = out;
    } else {
        call->encoding = NULL;
        buf_release(&out);
    }
}

static void call_finish(struct call *call, bool aborted)
{
    lock_take(&call->lock);
    if (call->state == ANSWER_NONE) call->state = ANSWER_WHOLE;
    call->finished = true;
    call->aborted = aborted;
    if (!call->gone) peer_set(call->peer, call->server->env.clock, PEER_SENDING);
    call_resume(call);
    lock_release(&call->lock);
    call_unref(call);
}

static void call_end(struct http_request *req)
{
    struct call *call = call_of(req);
    ASSERT(call->status != 0 && !call->ended);
    call->ended = true;
    bool aborted = false;
    if (call->state == ANSWER_STREAMING && call->compressor) {
        struct err err;
        aborted = compressor_write(call->compressor, bytes_of(NULL, 0), COMPRESS_END,
                                   queue_compressed, call, &err) != ERR_OK;
    } else if (call->state != ANSWER_STREAMING && call->encoding) {
        compress_body(call);
    }
    call_finish(call, aborted);
}

static void call_abort(struct http_request *req)
{
    struct call *call = call_of(req);
    ASSERT(!call->ended);
    call->ended = true;
    if (call->state !=
        ANSWER_STREAMING) { /* nothing was sent: a plain refusal is better than a cut */
        call->status = 500;
        call->encoding = NULL;
        mem_free(call->content_type);
        call->content_type = NULL;
        buf_release(&call->body_out);
    }
    call_finish(call, true);
}

static bool call_gone(struct http_request *req)
{
    struct call *call = call_of(req);
    if (is_canceled(call)) return true;
    int64_t now_ns = clock_mono_ns(call->server->env.clock);
    lock_take(&call->lock);
    if (!call->gone && call->fd >= 0 && now_ns - call->gone_seen_ns > GONE_LOOK_NS) {
        /* libmicrohttpd does not look at a suspended connection, so we do. Under the lock: call_completed()
         * takes it before the socket is closed. */
        struct pollfd pfd = {.fd = call->fd, .events = POLLRDHUP};
        call->gone_seen_ns = now_ns;
        if (poll(&pfd, 1, 0) == 1 && (pfd.revents & (POLLRDHUP | POLLHUP | POLLERR))) {
            call->gone = true;
            metric_inc(call->server->gone_total);
        }
    }
    bool gone = call->gone;
    lock_release(&call->lock);
    return gone;
}

static const struct http_request_ops call_ops = {
    .header = call_header,
    .set_header = call_set_header,
    .begin = call_begin,
    .write = call_write,
    .end = call_end,
    .abort = call_abort,
    .gone = call_gone,
};

/* ---- sending: on the polling thread ---- */

/* libmicrohttpd asks for bytes of a streamed answer. */
static ssize_t read_stream(void *cls, uint64_t pos, char *out, size_t max)
{
    (void)pos;
    struct call *call = cls;
    ssize_t n = 0;
    lock_take(&call->lock);
    while (call->first && (size_t)n < max) {
        struct part *part = call->first;
        size_t len = MIN_OF(part->len - part->sent, max - (size_t)n);
        memcpy(out + n, part->data + part->sent, len);
        part->sent += len;
        n += (ssize_t)len;
        call->queue_bytes -= len;
        if (part->sent < part->len) break;
        call->first = part->next;
        if (!call->first) call->last = &call->first;
        mem_free(part);
    }
    if (n) {
        cond_signal(&call->room);
    } else if (call->finished) {
        bool whole = !call->aborted && !call->gone;
        n = whole ? MHD_CONTENT_READER_END_OF_STREAM : MHD_CONTENT_READER_END_WITH_ERROR;
    } else {
        call->suspended = true;
        MHD_suspend_connection(call->conn);
    }
    lock_release(&call->lock);
    return n;
}

static void free_body(void *p)
{
    mem_free(p);
}

static bool add_headers(struct call *call, struct MHD_Response *response)
{
    bool ok = !call->headers_out.failed;
    const char *p = (const char *)call->headers_out.p, *end = p + call->headers_out.len;
    while (p && p < end && ok) {
        const char *value = p + strlen(p) + 1;
        ok = MHD_add_response_header(response, p, value) == MHD_YES;
        p = value + strlen(value) + 1;
    }
    if (call->content_type)
        ok &= MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, call->content_type) ==
              MHD_YES;
    if (call->encoding)
        ok &= MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_ENCODING, call->encoding) ==
              MHD_YES;
    if (server_state(call->server) == SERVER_STOPPING)
        ok &= MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close") == MHD_YES;
    return ok;
}

static enum MHD_Result queue_answer(struct call *call, enum answer_state state)
{
    struct MHD_Response *response;
    if (state == ANSWER_STREAMING) {
        response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, PART_BYTES_MAX, read_stream,
                                                     call, NULL);
    } else {
        struct buf *body = &call->body_out;
        response = MHD_create_response_from_buffer_with_free_callback_cls(body->len, body->p,
                                                                          free_body, body->p);
        if (response) buf_init(body, MEM_HTTP); /* the response owns the bytes now */
    }
    if (!response) return MHD_NO;
    enum MHD_Result rc = MHD_NO;
    if (add_headers(call, response)) rc = MHD_queue_response(call->conn, call->status, response);
    call->phase = CALL_QUEUED;
    MHD_destroy_response(response);
    return rc;
}

enum MHD_Result call_continue(struct call *call)
{
    if (call->phase == CALL_BODY) call_dispatch(call);
    if (call->phase == CALL_QUEUED) return MHD_YES;
    lock_take(&call->lock);
    enum answer_state state = call->state;
    if (state == ANSWER_NONE) {
        call->suspended = true;
        MHD_suspend_connection(call->conn);
    }
    lock_release(&call->lock);
    return state == ANSWER_NONE ? MHD_YES : queue_answer(call, state);
}

void call_completed(struct call *call)
{
    peer_set(call->peer, call->server->env.clock, PEER_AT_REST);
    lock_take(&call->lock);
    call->gone = true; /* whatever the handler still writes has nowhere to go */
    call->fd = -1;
    bool answered = call->state != ANSWER_NONE;
    cond_broadcast(&call->room);
    lock_release(&call->lock);
    if (answered) {
        int64_t ns = clock_mono_ns(call->server->env.clock) - call->req.start_mono_ns;
        struct route_stats *stats =
            call->route ? call->route->stats : (struct route_stats *)&call->router->other;
        route_count(stats, call->status, (double)ns / 1e9);
    }
    call_unref(call);
}
