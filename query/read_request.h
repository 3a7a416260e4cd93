/* query/read_request.h: the body of POST /api/v1/read: prometheus.ReadRequest, unpacked. */
#ifndef QUIPU_QUERY_READ_REQUEST_H
#define QUIPU_QUERY_READ_REQUEST_H

#include "base/arena.h"
#include "query/regex.h"
#include "storage/matcher.h"

#define READ_QUERIES_MAX 1000
#define READ_MATCHERS_MAX 1000
#define READ_REGEX_BYTES_MAX (64u << 20) /* of all compiled expressions of a request */

enum read_type { READ_SAMPLES = 0, READ_STREAMED_XOR_CHUNKS = 1 };

struct read_query {
    int64_t start_ms, end_ms; /* both inclusive */
    struct matcher *matchers;
    size_t n_matchers;
};
struct read_request {
    struct read_query *queries;
    size_t n_queries;
    enum read_type
        type; /* the first of the accepted ones that there is; samples if none was named */
    struct regex **regexes;
    size_t n_regexes;
};

/* Strings point into `message`, the rest is in the arena, but for the regular expressions: read_request_release() is due
 * also after an error. ERR_INVALID: malformed, none of the accepted types is known, a bad matcher. ERR_LIMIT: too much
 * of something. */
MUST_USE enum err_code read_request_parse(struct bytes message, struct arena *arena,
                                          struct read_request *out, struct err *err);
void read_request_release(struct read_request *request);

#endif
