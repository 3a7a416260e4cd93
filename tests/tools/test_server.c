/* The server over real sockets: routes, whole and streamed answers, limits, and the way it stops. */
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <zlib.h>
#include <zstd.h>

#include "base/metric.h"
#include "tests/quipu_test.h"
#include "tools/server.h"

/* ---- a client that is as dumb as the tests need ---- */

struct answer {
    unsigned status;
    char head[4096];
    struct buf body; /* chunks joined, still compressed */
    bool cut;        /* the connection ended before the answer did */
};

static int client_connect(const struct server *server)
{
    const char *port = strrchr(server_address(server), ':') + 1;
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(fd >= 0);
    CHECK(connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0);
    struct timeval timeout = {.tv_sec = 60};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    return fd;
}

static void client_send(int fd, const char *p, size_t len)
{
    while (len) {
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL);
        if (n <= 0) return; /* the server may have had enough of it */
        p += n;
        len -= (size_t)n;
    }
}

static bool read_byte(int fd, char *c)
{
    return recv(fd, c, 1, 0) == 1;
}

static size_t read_some(int fd, struct buf *out, size_t len)
{
    size_t got = 0;
    while (got < len) {
        uint8_t *p = buf_reserve(out, len - got);
        CHECK(p != NULL);
        ssize_t n = recv(fd, p, len - got, 0);
        if (n <= 0) break;
        out->len += (size_t)n;
        got += (size_t)n;
    }
    return got;
}

static bool read_line(int fd, char *line, size_t size)
{
    size_t n = 0;
    char c;
    while (read_byte(fd, &c)) {
        if (c == '\n') {
            line[n] = 0;
            return true;
        }
        if (c != '\r' && n + 1 < size) line[n++] = c;
    }
    return false;
}

static const char *answer_header(const struct answer *a, const char *name, char *buf, size_t size)
{
    const char *at = strcasestr(a->head, name);
    if (!at) return NULL;
    at += strlen(name) + 2;
    snprintf(buf, size, "%.*s", (int)strcspn(at, "\n"), at);
    return buf;
}

static void read_chunks(int fd, struct answer *a)
{
    char line[64];
    while (read_line(fd, line, sizeof(line))) {
        size_t len = strtoul(line, NULL, 16);
        if (read_some(fd, &a->body, len) != len) break;
        bool crlf = read_line(fd, line, sizeof(line));
        if (len == 0 && crlf) return;
    }
    a->cut = true;
}

static void client_read(int fd, bool head_only, struct answer *a)
{
    char line[1024], value[64];
    size_t len = 0;
    *a = (struct answer){0};
    buf_init(&a->body, MEM_TOOLS);
    if (!read_line(fd, line, sizeof(line)) || sscanf(line, "HTTP/1.1 %u", &a->status) != 1) {
        a->cut = true;
        return;
    }
    if (a->status == 100) {
        while (read_line(fd, line, sizeof(line)) && line[0]) {}
        client_read(fd, head_only, a);
        return;
    }
    while (read_line(fd, line, sizeof(line)) && line[0])
        len += (size_t)snprintf(a->head + len, sizeof(a->head) - len, "\n%s", line);
    snprintf(a->head + len, sizeof(a->head) - len, "\n");
    if (head_only || a->status == 204) return;
    if (answer_header(a, "\nTransfer-Encoding", value, sizeof(value))) {
        read_chunks(fd, a);
    } else if (answer_header(a, "\nContent-Length", value, sizeof(value))) {
        size_t n = strtoul(value, NULL, 10);
        a->cut = read_some(fd, &a->body, n) != n;
    }
}

static void answer_free(struct answer *a)
{
    buf_release(&a->body);
}

static void ask(int fd, const char *text, struct answer *a)
{
    client_send(fd, text, strlen(text));
    client_read(fd, strncmp(text, "HEAD", 4) == 0, a);
}

/* One request on a connection of its own. */
static void ask_once(struct server *server, const char *text, struct answer *a)
{
    int fd = client_connect(server);
    ask(fd, text, a);
    close(fd);
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"

static void check_answer(struct server *server, const char *request, unsigned status,
                         const char *body)
{
    struct answer a;
    ask_once(server, request, &a);
    CHECK_U64(a.status, status);
    CHECK_STR(str_from_bytes(buf_bytes(&a.body)), body);
    CHECK(!a.cut);
    answer_free(&a);
}

/* ---- handlers ---- */

struct fixture {
    struct env env;
    struct log log;
    struct server *server;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool released; /* lets `hold` go on */
    atomic_int n_held;
    atomic_bool saw_gone;
    struct http_request *parked; /* answered later by a thread */
};

static void on_echo(void *ctx, struct http_request *req)
{
    (void)ctx;
    struct str tag = http_header(req, "x-tag", NULL);
    struct str text = arena_printf(&req->arena, "%.*s|%.*s|%.*s|%.*s|%.*s", STR_ARG(req->path),
                                   STR_ARG(req->query), STR_ARG(req->label), STR_ARG(tag),
                                   STR_ARG(str_from_bytes(req->body)));
    http_respond(req, 200, "text/plain", bytes_of(text.p, text.len));
}

static void on_no_content(void *ctx, struct http_request *req)
{
    (void)ctx;
    http_set_header(req, "X-Extra", "yes");
    http_respond(req, 204, NULL, bytes_of(NULL, 0));
}

static void *answer_parked(void *arg)
{
    struct http_request *req = arg;
    usleep(20000);
    http_respond(req, 204, NULL, bytes_of(NULL, 0));
    return NULL;
}

static void on_later(void *ctx, struct http_request *req)
{
    (void)ctx;
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, answer_parked, req) == 0);
    pthread_detach(thread);
}

static void on_hold(void *ctx, struct http_request *req)
{
    struct fixture *f = ctx;
    atomic_fetch_add(&f->n_held, 1);
    pthread_mutex_lock(&f->mutex);
    while (!f->released && !http_gone(req)) {
        pthread_mutex_unlock(&f->mutex);
        usleep(2000);
        pthread_mutex_lock(&f->mutex);
    }
    bool gone = !f->released;
    pthread_mutex_unlock(&f->mutex);
    if (gone) atomic_store(&f->saw_gone, true);
    http_respond(req, 200, "application/json", bytes_of("{}", 2));
    atomic_fetch_sub(&f->n_held, 1);
}

/* n lines of JSON, by parts; `n` comes in the query, "cut" ends it by an abort. */
static void on_stream(void *ctx, struct http_request *req)
{
    struct fixture *f = ctx;
    struct http_params params = {0};
    struct err err;
    CHECK_OK(http_params_parse(req->query, &req->arena, &params, &err), &err);
    struct str n_text = http_param(&params, "n");
    size_t n = n_text.p ? strtoul(n_text.p, NULL, 10) : 0;
    enum err_code rc = ERR_OK;
    http_begin(req, 200, "application/json");
    for (size_t i = 0; i < n && !rc; i++) {
        char line[128];
        int len =
            snprintf(line, sizeof(line), "{\"line\":%zu,\"text\":\"some words to pack\"}\n", i);
        rc = http_write(req, bytes_of(line, (size_t)len), &err);
    }
    if (rc) {
        CHECK_ERR(rc, ERR_CANCELED);
        atomic_store(&f->saw_gone, true);
    }
    if (http_param(&params, "cut").p)
        http_abort(req);
    else
        http_end(req);
}

static void on_state(void *ctx, struct http_request *req)
{
    struct fixture *f = ctx;
    http_respond_text(req, 200, "state %d", (int)server_state(f->server));
}

static void setup(struct fixture *f, struct server_config *config, bool ready)
{
    struct err err;
    memset(f, 0, sizeof(*f));
    pthread_mutex_init(&f->mutex, NULL);
    log_init(&f->log, clock_system(), LOG_ERROR);
    f->env =
        (struct env){.io = io_posix(), .clock = clock_system(), .log = &f->log, .threads = true};
    f->env.metrics = metrics_new();
    CHECK(f->env.metrics != NULL);
    const struct http_route early[] = {{"/state", HTTP_GET | HTTP_HEAD, false, on_state, f}};
    CHECK_OK(server_open(&f->env, config, early, COUNT_OF(early), &f->server, &err), &err);
    if (!ready) return;
    const struct http_route routes[] = {
        {"/api/v1/echo", HTTP_GET | HTTP_POST, false, on_echo, f},
        {"/api/v1/label/*/values", HTTP_GET, true, on_echo, f},
        {"/empty", HTTP_GET, false, on_no_content, f},
        {"/later", HTTP_POST, false, on_later, f},
        {"/hold", HTTP_GET, true, on_hold, f},
        {"/stream", HTTP_GET, true, on_stream, f},
        {"/inline", HTTP_GET, false, on_stream, f},
    };
    struct server_routes table = {routes, COUNT_OF(routes)};
    CHECK_OK(server_ready(f->server, &table, 1, NULL, NULL, &err), &err);
}

static void teardown(struct fixture *f)
{
    if (f->server) {
        CHECK(server_stop(f->server, 20000));
        server_close(f->server);
    }
    metrics_free(f->env.metrics);
    pthread_mutex_destroy(&f->mutex);
    CHECK_U64(mem_bytes(MEM_HTTP), 0); /* nothing of any request is left */
}

static void release(struct fixture *f)
{
    pthread_mutex_lock(&f->mutex);
    f->released = true;
    pthread_mutex_unlock(&f->mutex);
}

static void wait_held(struct fixture *f, int n)
{
    while (atomic_load(&f->n_held) != n) usleep(1000);
}

/* ---- tests ---- */

static void routes_and_refusals(void **state)
{
    (void)state;
    struct fixture f;
    struct server_config config = server_config_default("127.0.0.1:0");
    setup(&f, &config, true);
    check_answer(f.server, GET("/api/v1/echo?a=%zz&b"), 200, "/api/v1/echo|a=%zz&b|||");
    check_answer(f.server, GET("/api/v1/label/a%2Fb/values"), 200,
                 "/api/v1/label/a%2Fb/values||a%2Fb||");
    check_answer(f.server, GET("http://h:1/api/v1/echo"), 200, "/api/v1/echo||||");
    check_answer(f.server, GET("/nowhere"), 404, "404 page not found\n");
    check_answer(f.server, GET("/api/v1/label/a/b/values"), 404, "404 page not found\n");
    check_answer(f.server, GET("/api/v1/echo/"), 404, "404 page not found\n");
    check_answer(f.server, "DELETE /api/v1/echo HTTP/1.1\r\nHost: x\r\n\r\n", 405,
                 "Method Not Allowed\n");

    struct answer a;
    char v[64];
    ask_once(f.server, "PATCH /api/v1/echo HTTP/1.1\r\nHost: x\r\n\r\n", &a);
    CHECK_STR(str_of(answer_header(&a, "\nAllow", v, sizeof(v))), "GET, OPTIONS, POST");
    CHECK_STR(str_of(answer_header(&a, "\nX-Content-Type-Options", v, sizeof(v))), "nosniff");
    answer_free(&a);
    ask_once(f.server, GET("/api/v1/label//values?x=1"), &a);
    CHECK_U64(a.status, 301);
    CHECK_STR(str_of(answer_header(&a, "\nLocation", v, sizeof(v))), "/api/v1/label/values?x=1");
    answer_free(&a);
    ask_once(f.server, GET("/api/v1"), &a);
    CHECK_U64(a.status, 301);
    CHECK_STR(str_of(answer_header(&a, "\nLocation", v, sizeof(v))), "/api/v1/");
    answer_free(&a);
    ask_once(f.server, "OPTIONS /api/v1/nowhere HTTP/1.1\r\nHost: x\r\n\r\n", &a);
    CHECK_U64(a.status, 204);
    answer_free(&a);
    ask_once(f.server, "OPTIONS /state HTTP/1.1\r\nHost: x\r\n\r\n", &a);
    CHECK_U64(a.status, 200);
    CHECK_STR(str_of(answer_header(&a, "\nAllow", v, sizeof(v))), "GET, HEAD, OPTIONS");
    CHECK_U64(a.body.len, 0);
    answer_free(&a);
    ask_once(f.server, "HEAD /state HTTP/1.1\r\nHost: x\r\n\r\n", &a);
    CHECK_U64(a.status, 200);
    answer_free(&a);
    teardown(&f);
}

static void keep_alive_and_late_answers(void **state)
{
    (void)state;
    struct fixture f;
    struct server_config config = server_config_default("127.0.0.1:0");
    setup(&f, &config, true);
    int fd = client_connect(f.server);
    for (int i = 0; i < 50; i++) {
        struct answer a;
        ask(fd, "POST /later HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", &a);
        CHECK_U64(a.status, 204);
        CHECK(strcasestr(a.head, "\nContent-Length") == NULL);
        answer_free(&a);
        ask(fd, GET("/empty"), &a);
        CHECK_U64(a.status, 204);
        CHECK(strstr(a.head, "\nX-Extra: yes\n") != NULL);
        answer_free(&a);
        ask(fd,
            "POST /api/v1/echo?q HTTP/1.1\r\nHost: x\r\nX-Tag: t\r\nTransfer-Encoding: "
            "chunked\r\n\r\n"
            "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
            &a);
        CHECK_U64(a.status, 200);
        CHECK_STR(str_from_bytes(buf_bytes(&a.body)), "/api/v1/echo|q||t|abcde");
        answer_free(&a);
    }
    close(fd);
    teardown(&f);
}

static void starting_answers_what_it_can(void **state)
{
    (void)state;
    struct fixture f;
    struct server_config config = server_config_default("127.0.0.1:0");
    setup(&f, &config, false);
    check_answer(f.server, GET("/state"), 200, "state 0\n");
    check_answer(f.server, GET("/api/v1/echo"), 503, "Service Unavailable");
    check_answer(f.server, "OPTIONS /api/v1/x HTTP/1.1\r\nHost: x\r\n\r\n", 503,
                 "Service Unavailable");
    teardown(&f);
}

static void inflate_all(const struct buf *in, int window_bits, struct buf *out)
{
    z_stream z = {0};
    CHECK(inflateInit2(&z, window_bits) == Z_OK);
    z.next_in = in->p;
    z.avail_in = (unsigned)in->len;
    int rc = Z_OK;
    while (rc == Z_OK) {
        uint8_t *p = buf_reserve(out, 65536);
        CHECK(p != NULL);
        z.next_out = p;
        z.avail_out = 65536;
        rc = inflate(&z, Z_NO_FLUSH);
        out->len += 65536 - z.avail_out;
    }
    CHECK(rc == Z_STREAM_END);
    CHECK_U64(z.avail_in, 0);
    inflateEnd(&z);
}

/* One frame, whole. */
static void unzstd_all(const struct buf *in, struct buf *out)
{
    ZSTD_DCtx *z = ZSTD_createDCtx();
    ZSTD_inBuffer from = {in->p, in->len, 0};
    size_t left = 1;
    CHECK(z != NULL);
    while (left && from.pos < from.size) {
        uint8_t *p = buf_reserve(out, 65536);
        CHECK(p != NULL);
        ZSTD_outBuffer to = {p, 65536, 0};
        left = ZSTD_decompressStream(z, &to, &from);
        CHECK(!ZSTD_isError(left));
        out->len += to.pos;
    }
    CHECK_U64(left, 0);
    CHECK_U64(from.pos, from.size);
    ZSTD_freeDCtx(z);
}

static size_t count_lines(const struct buf *b)
{
    size_t n = 0;
    for (size_t i = 0; i < b->len; i++) n += b->p[i] == '\n';
    return n;
}

static void streams_and_encodings(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 10, 1000, 2000, 200000};
    static const struct {
        const char *accept, *encoding;
        int window_bits;
    } encodings[] = {{"identity", NULL, 0},
                     {"gzip, deflate", "gzip", 15 + 16},
                     {"gzip;q=0, deflate", "deflate", 15},
                     {"br, gzip;q=0.1, deflate;q=0.0", "gzip", 15 + 16},
                     {"gzip, deflate, br, zstd", "zstd", 0}};
    struct fixture f;
    struct server_config config = server_config_default("127.0.0.1:0");
    setup(&f, &config, true);
    int fd = client_connect(f.server);
    for (size_t i = 0; i < COUNT_OF(sizes) * COUNT_OF(encodings) * 2; i++) {
        size_t n = sizes[i % COUNT_OF(sizes)], e = i / COUNT_OF(sizes) % COUNT_OF(encodings);
        const char *path = i >= COUNT_OF(sizes) * COUNT_OF(encodings) ? "/inline" : "/stream";
        char request[256], v[64];
        snprintf(request, sizeof(request),
                 "GET %s?n=%zu HTTP/1.1\r\nHost: x\r\nAccept-Encoding: %s\r\n\r\n", path, n,
                 encodings[e].accept);
        struct answer a;
        ask(fd, request, &a);
        CHECK_U64(a.status, 200);
        CHECK(!a.cut);
        const char *encoding = answer_header(&a, "\nContent-Encoding", v, sizeof(v));
        struct buf plain = a.body;
        if (encoding) {
            CHECK_STR(str_of(encoding), encodings[e].encoding);
            buf_init(&plain, MEM_TOOLS);
            if (encodings[e].window_bits)
                inflate_all(&a.body, encodings[e].window_bits, &plain);
            else
                unzstd_all(&a.body, &plain);
        } else {
            CHECK(!encodings[e].encoding || n <= 10); /* short ones are sent as they are */
        }
        CHECK_U64(count_lines(&plain), n);
        bool chunked = answer_header(&a, "\nTransfer-Encoding", v, sizeof(v)) != NULL;
        CHECK(chunked == (n > 1000 && strcmp(path, "/stream") == 0));
        if (encoding) buf_release(&plain);
        answer_free(&a);
    }
    struct answer a;
    ask(fd, GET("/stream?n=10000&cut=1"), &a);
    CHECK(a.cut); /* a part must not look like the whole */
    answer_free(&a);
    close(fd);
    ask_once(f.server, GET("/stream?n=1&cut=1"), &a);
    CHECK_U64(a.status, 500);
    CHECK_U64(a.body.len, 0);
    answer_free(&a);
    teardown(&f);
}

static void encoding_header(void **state)
{
    (void)state;
    static const struct {
        const char *accept, *encoding;
    } cases[] = {{"", NULL},
                 {"gzip", "gzip"},
                 {"GZIP", "gzip"},
                 {"deflate, gzip", "deflate"},
                 {"deflate;q=0.5, gzip;q=0.8", "gzip"},
                 {"gzip;q=0", NULL},
                 {"gzip; q=0.000", NULL},
                 {"gzip;q=0.001", "gzip"},
                 {"gzip;q=1.0", "gzip"},
                 {"br, identity", NULL},
                 {"gzipped", NULL},
                 {";q=1,,gzip", "gzip"},
                 {"*", NULL},
                 {"gzip;q=", "gzip"},
                 {"deflate ; q=1", "deflate"},
                 {"zstd", "zstd"},
                 {"gzip, deflate, br, zstd", "zstd"},
                 {"zstd, gzip", "zstd"},
                 {"zstd;q=0.9, gzip", "gzip"},
                 {"zstd;q=0", NULL}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const char *got = server_pick_encoding(str_of(cases[i].accept));
        CHECK_STR(str_of(got), cases[i].encoding);
    }
}

static void bodies_are_bounded(void **state)
{
    (void)state;
    struct fixture f;
    struct server_config config = server_config_default("127.0.0.1:0");
    config.request_bytes_max = 1000;
    config.inflight_bytes_max = 4000;
    setup(&f, &config, true);
    char body[3001], request[8000];
    memset(body, 'x', sizeof(body) - 1);
    body[3000] = 0;
    int fd = client_connect(f.server);
    struct answer a;
    /* Read to its end and refused: the connection lives on. */
    snprintf(request, sizeof(request),
             "POST /api/v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\n\r\n%s", body);
    ask(fd, request, &a);
    CHECK_U64(a.status, 413);
    answer_free(&a);
    snprintf(request, sizeof(request),
             "POST /api/v1/echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nbb8\r\n%s"
             "\r\n0\r\n\r\n",
             body);
    ask(fd, request, &a);
    CHECK_U64(a.status, 413);
    answer_free(&a);
    ask(fd, GET("/empty"), &a);
    CHECK_U64(a.status, 204);
    answer_free(&a);
    close(fd);
    /* Announced as hopeless: answered at once, before a byte of it. */
    ask_once(f.server, "POST /api/v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n",
             &a);
    CHECK_U64(a.status, 413);
    answer_free(&a);
    ask_once(f.server,
             "POST /api/v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\n"
             "Expect: 100-continue\r\n\r\n",
             &a);
    CHECK_U64(a.status, 413);
    answer_free(&a);
    /* Endless: cut off. */
    fd = client_connect(f.server);
    const char *endless =
        "POST /api/v1/echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    client_send(fd, endless, strlen(endless));
    for (int i = 0; i < 10; i++) {
        snprintf(request, sizeof(request), "bb8\r\n%s\r\n", body);
        client_send(fd, request, strlen(request));
    }
    client_read(fd, false, &a);
    CHECK(a.cut);
    answer_free(&a);
    close(fd);
    /* Half-sent bodies hold what they have sent; past the budget of all, others are told to come back. */
    int held[4];
    for (int i = 0; i < 4; i++) {
        held[i] = client_connect(f.server);
        snprintf(request, sizeof(request),
                 "POST /api/v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n%.900s",
                 body);
        client_send(held[i], request, strlen(request));
    }
    snprintf(request, sizeof(request),
             "POST /api/v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n%.900s", body);
    do { /* until all four have arrived */
        ask_once(f.server, request, &a);
        answer_free(&a);
    } while (a.status == 200);
    CHECK_U64(a.status, 503);
    CHECK(strstr(a.head, "\nRetry-After: 1\n") != NULL);
    for (int i = 0; i < 4; i++) close(held[i]);
    do {
        ask_once(f.server, request, &a);
        answer_free(&a);
    } while (a.status == 503);
    CHECK_U64(a.status, 200);
    teardown(&f);
}

static void pool_is_bounded(void **state)
{
    (void)state;
    struct fixture f;
    struct server_config config = server_config_default("127.0.0.1:0");
    config.pool_threads = 1;
    config.pool_queue_max = 2;
    setup(&f, &config, true);
    int fds[4];
    for (int i = 0; i < 3; i++) {
        fds[i] = client_connect(f.server);
        client_send(fds[i], GET("/hold"), strlen(GET("/hold")));
        if (i == 0) wait_held(&f, 1); /* the thread has one; two more fit into the queue */
    }
    struct answer a;
    for (;;) { /* the queue fills as the two arrive; then the next is refused at once */
        int fd = client_connect(f.server);
        client_send(fd, GET("/hold"), strlen(GET("/hold")));
        struct pollfd pfd = {.fd = fd, .events = POLLIN};
        if (poll(&pfd, 1, 200) == 1) {
            client_read(fd, false, &a);
            close(fd);
            break;
        }
        close(fd);
    }
    CHECK_U64(a.status, 503);
    CHECK(strstr(a.head, "\nRetry-After: 1\n") != NULL);
    answer_free(&a);
    check_answer(f.server, GET("/state"), 200, "state 1\n"); /* others are served meanwhile */
    release(&f);
    for (int i = 0; i < 3; i++) close(fds[i]);
    teardown(&f);
}

static void gone_clients_are_noticed(void **state)
{
    (void)state;
    struct fixture f;
    struct server_config config = server_config_default("127.0.0.1:0");
    config.stall_timeout_ms = 300;
    setup(&f, &config, true);
    int fd = client_connect(f.server);
    client_send(fd, GET("/hold"), strlen(GET("/hold")));
    wait_held(&f, 1);
    close(fd);
    wait_held(&f, 0);
    CHECK(atomic_load(&f.saw_gone));
    /* In the middle of a stream. */
    atomic_store(&f.saw_gone, false);
    fd = client_connect(f.server);
    client_send(fd, GET("/stream?n=2000000"), strlen(GET("/stream?n=2000000")));
    char c;
    CHECK(read_byte(fd, &c));
    close(fd);
    while (!atomic_load(&f.saw_gone)) usleep(1000);
    /* Connected, but it takes nothing. */
    atomic_store(&f.saw_gone, false);
    fd = client_connect(f.server);
    client_send(fd, GET("/stream?n=2000000"), strlen(GET("/stream?n=2000000")));
    while (!atomic_load(&f.saw_gone)) usleep(1000);
    struct answer a;
    client_read(fd, false, &a);
    CHECK(a.cut);
    answer_free(&a);
    close(fd);
    teardown(&f);
}

static uint64_t gauge(struct fixture *f, const char *name)
{
    struct buf out;
    buf_init(&out, MEM_BASE);
    metrics_render(f->env.metrics, &out);
    buf_u8(&out, 0);
    const char *at = strstr((const char *)out.p, name);
    CHECK(at != NULL);
    uint64_t n = (uint64_t)strtod(at + strlen(name), NULL);
    buf_release(&out);
    return n;
}

/* They are taken over by threads of their own, a moment after they were accepted. */
static void wait_connections(struct fixture *f, uint64_t n)
{
    while (gauge(f, "\nquipu_http_connections ") != n) usleep(1000);
}

/* Asks on new connections until one is let in. */
static void ask_until_let_in(struct fixture *f)
{
    struct answer a;
    do {
        ask_once(f->server, GET("/state"), &a);
        answer_free(&a);
        usleep(10000);
    } while (a.status != 200);
}

/* Idle and half-spoken connections give way, the oldest first; one whose request is at work does not. */
static void idle_connections_give_way(void **state)
{
    (void)state;
    struct fixture f;
    struct server_config config = server_config_default("127.0.0.1:0");
    config.connections_max = 3;
    setup(&f, &config, true);
    int working = client_connect(f.server);
    client_send(working, GET("/hold"), strlen(GET("/hold")));
    wait_held(&f, 1);
    int idle = client_connect(f.server);
    usleep(20000); /* so that their ages differ */
    int slow = client_connect(f.server);
    client_send(slow, "GET /sta", 8);
    char c;
    wait_connections(&f, 3);
    ask_until_let_in(&f);
    CHECK(!read_byte(idle, &c));
    wait_connections(&f, 2);
    int third = client_connect(f.server);
    wait_connections(&f, 3);
    ask_until_let_in(&f);
    CHECK(!read_byte(slow, &c));
    release(&f);
    struct answer a;
    client_read(working, false, &a);
    CHECK_U64(a.status, 200);
    answer_free(&a);
    close(working);
    close(idle);
    close(slow);
    close(third);
    teardown(&f);
}

/* One that sends a byte now and then never stands still; its body has its time all the same, and then it is ended. So is
 * one that does not bring a whole header. */
static void slow_senders_are_ended(void **state)
{
    (void)state;
    struct fixture f;
    struct server_config config = server_config_default("127.0.0.1:0");
    config.receive_timeout_ms = 1200;
    config.idle_timeout_ms = 1200;
    setup(&f, &config, true);
    const char *head = "POST /api/v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n";
    int body = client_connect(f.server), header = client_connect(f.server);
    client_send(body, head, strlen(head));
    client_send(header, "GET / HTTP/1.1\r\nX: ", 19);
    bool ended[2] = {false, false};
    struct pollfd pfds[2] = {{.fd = body, .events = POLLIN}, {.fd = header, .events = POLLIN}};
    while (!ended[0] || !ended[1]) { /* for ever, if it does not work: the time limit of the test */
        for (int i = 0; i < 2; i++)
            if (!ended[i]) client_send(pfds[i].fd, "x", 1);
        (void)poll(pfds, 2, 50);
        for (int i = 0; i < 2; i++) {
            char c;
            if (pfds[i].revents && recv(pfds[i].fd, &c, 1, MSG_DONTWAIT) <= 0) {
                ended[i] = true;
                pfds[i].fd = -1;
            }
        }
    }
    close(body);
    close(header);
    check_answer(f.server, GET("/api/v1/echo"), 200, "/api/v1/echo||||");
    teardown(&f);
}

/* ---- tenants ---- */

static void ask_as(int fd, const char *tenant, const char *path, size_t body_bytes, size_t sent)
{
    char head[256], chunk[1000];
    memset(chunk, 'x', sizeof(chunk));
    snprintf(head, sizeof(head),
             "%s %s HTTP/1.1\r\nHost: x\r\nX-Tenant: %s\r\nContent-Length: %zu\r\n\r\n",
             body_bytes ? "POST" : "GET", path, tenant, body_bytes);
    client_send(fd, head, strlen(head));
    for (size_t n; sent; sent -= n) {
        n = MIN_OF(sent, sizeof(chunk));
        client_send(fd, chunk, n);
    }
}

static uint64_t inflight_bytes(struct fixture *f)
{
    return gauge(f, "\nquipu_http_inflight_body_bytes ");
}

/* One tenant's unfinished bodies take three quarters of the memory and no more while others come; each of those gets in. */
static void bodies_are_shared(void **state)
{
    (void)state;
    struct fixture f;
    struct server_config config = server_config_default("127.0.0.1:0");
    config.inflight_bytes_max = 100000;
    config.request_bytes_max = 50000;
    config.share_header = "X-Tenant";
    setup(&f, &config, true);
    enum { FLOOD = 20 };
    int flood[FLOOD];
    for (int i = 0; i < FLOOD; i++) {
        flood[i] = client_connect(f.server);
        ask_as(flood[i], "flood", "/api/v1/echo", 9000, 8999);
        usleep(5000); /* one after the other, whichever thread it is dealt to */
    }
    while (inflight_bytes(&f) < 40000) usleep(1000);
    CHECK(inflight_bytes(&f) <= 75000);
    struct answer a;
    for (int i = 0; i < 4; i++) {
        char name[24];
        snprintf(name, sizeof(name), "tenant-%d", i);
        int fd = client_connect(f.server);
        ask_as(fd, name, "/api/v1/echo", 4000, 4000); /* that of the last may still be there */
        client_read(fd, false, &a);
        CHECK_U64(a.status, 200);
        answer_free(&a);
        close(fd);
    }
    int n[2] = {0, 0};
    for (int i = 0; i < FLOOD; i++) {
        client_send(flood[i], "x", 1);
        client_read(flood[i], false, &a);
        CHECK(a.status == 200 || a.status == 503);
        n[a.status == 503]++;
        answer_free(&a);
        close(flood[i]);
    }
    CHECK(n[0] > 0 && n[1] > 0);
    teardown(&f);
}

static void *release_soon(void *arg)
{
    usleep(100000);
    release(arg);
    return NULL;
}

static void stop_lets_requests_finish(void **state)
{
    (void)state;
    struct fixture f;
    struct server_config config = server_config_default("127.0.0.1:0");
    setup(&f, &config, true);
    int fd = client_connect(f.server), idle = client_connect(f.server);
    client_send(fd, GET("/hold"), strlen(GET("/hold")));
    wait_held(&f, 1);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, release_soon, &f) == 0);
    CHECK(server_stop(f.server, 20000));
    pthread_join(thread, NULL);
    struct answer a;
    client_read(fd, false, &a);
    CHECK_U64(a.status, 200);
    CHECK(!a.cut && !atomic_load(&f.saw_gone));
    answer_free(&a);
    /* An idle connection that wakes up now is told where things stand. */
    ask(idle, GET("/empty"), &a);
    CHECK_U64(a.status, 503);
    CHECK(strstr(a.head, "\nX-Prometheus-Stopping: true\n") != NULL);
    answer_free(&a);
    close(fd);
    close(idle);
    server_close(f.server);
    f.server = NULL;
    teardown(&f);
}

static void stop_cancels_what_does_not_end(void **state)
{
    (void)state;
    struct fixture f;
    struct server_config config = server_config_default("127.0.0.1:0");
    setup(&f, &config, true);
    int fd = client_connect(f.server), stalled = client_connect(f.server);
    client_send(fd, GET("/hold"), strlen(GET("/hold")));
    client_send(stalled, GET("/stream?n=2000000"), strlen(GET("/stream?n=2000000")));
    wait_held(&f, 1);
    /* The handlers see the cancellation; the stalled client's connection still has bytes to take. */
    (void)server_stop(f.server, 300);
    CHECK(atomic_load(&f.saw_gone));
    close(fd);
    close(stalled);
    teardown(&f);
}

static void listen_errors(void **state)
{
    (void)state;
    struct fixture f;
    struct server_config config = server_config_default("127.0.0.1:0");
    setup(&f, &config, true);
    struct server *second = NULL;
    struct err err;
    config.listen = server_address(f.server);
    CHECK_ERR(server_open(&f.env, &config, NULL, 0, &second, &err), ERR_BUSY);
    CHECK(strstr(err.text, config.listen) != NULL);
    static const char *const bad[] = {"",
                                      "9780",
                                      "x:y",
                                      "127.0.0.1:",
                                      "127.0.0.1:70000",
                                      "::1:9780",
                                      "127.0.0.1:-1",
                                      "no.such.host.invalid:1"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        config.listen = bad[i];
        CHECK_ERR(server_open(&f.env, &config, NULL, 0, &second, &err), ERR_INVALID);
    }
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(routes_and_refusals),
        cmocka_unit_test(keep_alive_and_late_answers),
        cmocka_unit_test(starting_answers_what_it_can),
        cmocka_unit_test(streams_and_encodings),
        cmocka_unit_test(encoding_header),
        cmocka_unit_test(bodies_are_bounded),
        cmocka_unit_test(pool_is_bounded),
        cmocka_unit_test(gone_clients_are_noticed),
        cmocka_unit_test(idle_connections_give_way),
        cmocka_unit_test(slow_senders_are_ended),
        cmocka_unit_test(bodies_are_shared),
        cmocka_unit_test(stop_lets_requests_finish),
        cmocka_unit_test(stop_cancels_what_does_not_end),
        cmocka_unit_test(listen_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
