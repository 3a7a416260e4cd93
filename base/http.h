/* base/http.h: HTTP as handlers see it; tools/server.c puts libmicrohttpd behind it, tests a fake.
 * A handler gets a whole request (body complete, bounded) and answers it exactly once, at once or later,
 * from any thread: either http_respond(), or http_begin(), http_write()…, http_end().
 * The request and all it points to stay valid until the answer is complete. */
#ifndef QUIPU_BASE_HTTP_H
#define QUIPU_BASE_HTTP_H

#include "base/arena.h"
#include "base/bytes.h"

enum http_method {
    HTTP_GET = 1,
    HTTP_HEAD = 2,
    HTTP_POST = 4,
    HTTP_PUT = 8,
    HTTP_DELETE = 16,
    HTTP_OPTIONS = 32,
    HTTP_OTHER = 64
};

struct http_request;

struct http_request_ops {
    /* First header of that name (case-insensitive), p NULL if absent. *count (may be NULL): how many. */
    struct str (*header)(struct http_request *req, const char *name, size_t *count);
    void (*set_header)(struct http_request *req, const char *name, const char *value);
    void (*begin)(struct http_request *req, unsigned status, const char *content_type);
    enum err_code (*write)(struct http_request *req, struct bytes part, struct err *err);
    void (*end)(struct http_request *req);
    void (*abort)(struct http_request *req);
    bool (*gone)(struct http_request *req);
};

struct http_request {
    const struct http_request_ops *ops;
    enum http_method method;
    struct str path;  /* raw (percent-encoded), without the query */
    struct str query; /* raw, after '?' */
    struct str label; /* what a route's `*` matched, raw; else empty */
    struct bytes body;
    struct str remote; /* client address for logs, "127.0.0.1:4711" */
    int64_t start_mono_ns;
    struct arena arena; /* the request's own memory; used by one thread at a time */
};

typedef void http_handler_fn(void *ctx, struct http_request *req);

struct http_route {
    const char
        *path; /* "/api/v1/query", or with one `*` for a segment: "/api/v1/label/ *\/values" */
    unsigned methods; /* of enum http_method, or-ed; others get 405 */
    bool pooled;      /* true: may take long, runs on the query pool; false: must not block */
    http_handler_fn *handler;
    void *ctx;
};

struct str http_header(struct http_request *req, const char *name, size_t *count);
/* Before the answer begins; name and value are copied. */
void http_set_header(struct http_request *req, const char *name, const char *value);
/* A whole answer; body is copied. content_type may be NULL with an empty body. After this call `req` may be
 * gone. */
void http_respond(struct http_request *req, unsigned status, const char *content_type,
                  struct bytes body);
void http_respond_text(struct http_request *req, unsigned status, const char *fmt, ...)
    PRINTF_LIKE(3, 4); /* text/plain; charset=utf-8 with nosniff, a newline is added */
/* A streamed answer. http_write copies, waits while the client is slow (bounded memory), and fails with
 * ERR_CANCELED when the client is gone or stalls too long; http_end is due all the same. http_abort instead
 * of http_end cuts the connection, so that the client cannot take a part for the whole. */
void http_begin(struct http_request *req, unsigned status, const char *content_type);
MUST_USE enum err_code http_write(struct http_request *req, struct bytes part, struct err *err);
void http_end(struct http_request *req);
void http_abort(struct http_request *req);
bool http_gone(struct http_request *req); /* the client has left: stop working */

/* Parameters, as Prometheus reads them: URL query and (POST, PUT) a form body. */
struct http_param {
    struct str name, value; /* decoded */
};
struct http_params {
    struct http_param *items; /* body first, then the URL */
    size_t n;
    bool bad_escape; /* some part could not be decoded (and was left out) */
    struct str
        bad_text; /* the offending escape, e.g. "%zz"; ";" for that separator; p NULL for a malformed
                          * multipart body */
};
#define HTTP_PARAMS_MAX 10000
/* application/x-www-form-urlencoded and multipart/form-data bodies. ERR_LIMIT over HTTP_PARAMS_MAX. */
MUST_USE enum err_code http_params(struct http_request *req, struct http_params *out,
                                   struct err *err);
/* Decodes a=b&c=d; appended to out. For tests and fuzzers, too. */
MUST_USE enum err_code http_params_parse(struct str text, struct arena *arena,
                                         struct http_params *out, struct err *err);
/* First non-empty value of that name; p NULL if absent. */
struct str http_param(const struct http_params *params, const char *name);
/* Percent-decoding of a path segment ('+' stays); false on a bad escape. */
bool http_unescape_path(struct str raw, struct arena *arena, struct str *out);

/* In-memory fake for tests: fill the struct, call the handler, look at the answer. */
struct http_fake {
    struct http_request req;   /* first */
    const char *(*headers)[2]; /* {name, value} pairs ended by {NULL, NULL}; NULL = none */
    struct buf sent_headers;   /* "Name: value\n"… */
    struct buf body;
    unsigned status;
    bool done, aborted, gone;
    char content_type[128];
};
void http_fake_init(struct http_fake *fake, enum http_method method, const char *path,
                    const char *query, struct bytes body);
void http_fake_release(struct http_fake *fake);

#endif
