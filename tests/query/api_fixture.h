/* tests/query/api_fixture.h: the HTTP API over a table in memory, asked through fake requests. */
#ifndef QUIPU_TESTS_QUERY_API_FIXTURE_H
#define QUIPU_TESTS_QUERY_API_FIXTURE_H

#include "base/metric.h"
#include "query/api.h"
#include "tests/query/source_mem.h"
#include "tests/quipu_test.h"

struct test_source {
    struct query_source source;
    struct query_source *mem;
};

struct fixture {
    struct source_mem *mem;       /* the tenant `default` */
    struct source_mem *other_mem; /* `other`, empty */
    struct test_source other;
    struct test_source source;
    struct query_source_ops ops;
    struct clock_fake clock; /* 600 s */
    struct metrics *metrics;
    struct log log; /* off, unless a test gives it a sink */
    struct query_api *api;
    struct http_route routes[QUERY_API_ROUTES_MAX];
    size_t n_routes;
    struct http_fake fake;
};

void fixture_open(struct fixture *f);
void fixture_open_with(struct fixture *f, const struct query_limits *limits, size_t tenants_max);
/* limits, tenants and the like of `config`; the rest is the fixture's. */
void fixture_open_config(struct fixture *f, const struct query_api_config *config);
void fixture_close(struct fixture *f);
/* Of a whole path; fills f->fake.req.label. */
const struct http_route *find_route(struct fixture *f, enum http_method method, const char *path);

struct ask {
    enum http_method method; /* 0: GET */
    const char *path;        /* behind /api/v1/, or from the root if it begins with a slash */
    const char *query, *body;
    const char *(*headers)[2];
    struct bytes bytes; /* a body that is no form */
};

/* The answer is in f->fake until answer_release(). */
void ask(struct fixture *f, const struct ask *a);
void answer_release(struct fixture *f);
void check_http_answer(struct fixture *f, const struct ask *a, unsigned status, const char *body,
                       int line);

#define CHECK_ANSWER(f, status, body, ...)                                                         \
    check_http_answer((f), &(const struct ask){__VA_ARGS__}, (status), (body), __LINE__)
/* data only */
#define CHECK_DATA(f, data, ...)                                                                   \
    CHECK_ANSWER((f), 200, "{\"status\":\"success\",\"data\":" data "}", __VA_ARGS__)
#define BAD(text) "{\"status\":\"error\",\"errorType\":\"bad_data\",\"error\":\"" text "\"}"

#endif
