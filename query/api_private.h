/* query/api_private.h: what the files of the API share: one request being answered. */
#ifndef QUIPU_QUERY_API_PRIVATE_H
#define QUIPU_QUERY_API_PRIVATE_H

#include "query/active.h"
#include "query/api.h"
#include "query/json.h"
#include "query/parser.h"
#include "query/regex.h"
#include "query/result_cache.h"

enum api_error {
    API_BAD_DATA,
    API_EXECUTION,
    API_CANCELED,
    API_TIMEOUT,
    API_INTERNAL,
    API_UNAVAILABLE,
    API_NOT_FOUND,
    API_ERRORS_N
};

struct query_api {
    struct env env;
    struct query_api_backend backend;
    struct query_api_config config;
    struct regex *cors_origin;
    struct metric_histogram *seconds[2];         /* of instant and range queries */
    struct metric *queries[2][API_ERRORS_N + 1]; /* by outcome; the last: success */
    struct metric *samples;
    struct active_queries active;
    struct top_queries top;
    struct query_tenants tenants;
    struct result_cache *cache;
    _Atomic int64_t cache_fresh_ms; /* relaxed: a setting */
    struct rwlock blocked_lock;     /* rank LOCK_LEAF; guards the next */
    struct blocked_list *blocked;
};

struct api_call {
    struct query_api *api;
    struct http_request *req;
    struct arena *arena; /* the request's */
    struct http_params params;
    struct str tenant;   /* the first of */
    struct str *tenants; /* those asked for, sorted, each once */
    size_t n_tenants;
    struct query_source *source; /* after api_source() */
    bool known;                  /* after api_source(): some of the tenants are there */
    /* The answer, written in parts of about API_PART_BYTES once it is longer than that */
    struct buf out;
    const char *content_type; /* of a success */
    bool plain;               /* not of the JSON API: errors are lines of text */
    bool begun, answered;
    size_t n_sent;   /* bytes of the answer so far that are not in `out` any more */
    bool counting;   /* nothing is sent: only n_sent matters */
    bool failed;     /* answered by cutting the connection, or by 503 */
    unsigned status; /* when answered and neither begun nor failed */
    struct err err;  /* scratch */
};
#define API_PART_BYTES 65536u

/* ---- requests (api.c) ---- */

/* Headers, tenant and parameters. False: already answered. */
MUST_USE bool api_begin(struct api_call *call, struct query_api *api, struct http_request *req);
/* The same for what is not of the JSON API: without CORS headers. */
MUST_USE bool api_begin_plain(struct api_call *call, struct query_api *api,
                              struct http_request *req);
/* Due once after api_begin() said true. The answer goes out here, not earlier: the request and all that is in its arena are
 * gone when it has, so whatever has to be released is released before. */
void api_end(struct api_call *call);
/* call->tenants, of the header; false: answered with an error (api_tenant.c). */
MUST_USE bool api_read_tenants(struct api_call *call);
/* False: there are several, which this request cannot be for; answered. */
MUST_USE bool api_one_tenant(struct api_call *call);
/* call->source, of one tenant or of several; false: answered with an error. */
MUST_USE bool api_source(struct api_call *call);

/* Those in effect now for the call's tenants */
struct query_limits api_limits(const struct api_call *call);

/* ---- answers (api.c) ---- */

/* "success" for API_ERRORS_N, "timeout", … */
const char *api_outcome_name(size_t outcome);
/* Exactly one of them per request. What they leave to send, api_end() sends. */
void api_error(struct api_call *call, enum api_error error, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* By the code: 422, 500, 503, … `prefix` goes in front of a text that blames the request (ERR_INVALID). */
enum api_error api_error_of(struct api_call *call, const struct err *err, const char *prefix);

/* {"status":"success","data": — then the data into call->out, api_part() now and then, and api_finish(). */
void api_success(struct api_call *call);
/* Sends what has gathered if it is much. False: the client is gone, or memory is out; stop, api_finish() is still due. */
bool api_part(struct api_call *call);
/* Warnings and infos of `notes` (NULL: none) and the end; `query` is what their positions point into. */
void api_finish(struct api_call *call, const struct notes *notes, struct str query);
/* Warnings about samples that are missing in [mint_ms, maxt_ms]. What the source cannot say is left out. */
void api_note_missing(struct api_call *call, int64_t mint_ms, int64_t maxt_ms, struct notes *notes);
/* The same for answers that have no place for warnings: an HTTP header `Warning`, before anything is sent. */
void api_warn_missing(struct api_call *call, int64_t mint_ms, int64_t maxt_ms);
/* Sends the rest of an answer without an envelope. */
void api_send(struct api_call *call);
/* An error at any time: once the answer has begun, the connection is cut. */
void api_fail(struct api_call *call, const struct err *err);
/* 204, as Prometheus answers where there is nothing to say. */
void api_no_content(struct api_call *call);
/* A constant answer */
void api_constant(struct api_call *call, const char *json);

/* ---- parameters (api_param.c); false: answered with 400 ---- */

/* Further out than any sample, and far enough from the ends of int64 that a range can be added */
#define API_TIME_MIN (-(INT64_C(1) << 61))
#define API_TIME_MAX (INT64_C(1) << 61)

/* Parsing alone: false when the text is no time. */
bool api_parse_time(struct str text, int64_t *t_ms);
/* query and query_range: `invalid parameter "start": cannot parse…`. required: a missing one is an error, too. */
MUST_USE bool api_time(struct api_call *call, const char *name, int64_t *t_ms);
/* The rest: `…: invalid time value for 'start': …`; `fallback` when missing. */
MUST_USE bool api_optional_time(struct api_call *call, const char *name, int64_t fallback,
                                int64_t *t_ms);
/* `invalid parameter "step": cannot parse…`; prefix is what stands in front. */
MUST_USE bool api_duration(struct api_call *call, const char *name, const char *prefix,
                           int64_t *ms);
/* 0: none */
MUST_USE bool api_limit(struct api_call *call, size_t *limit);
/* A plain whole number with its own error text; *out is left alone when missing. */
MUST_USE bool api_number(struct api_call *call, const char *name, const char *error, int64_t *out);

struct api_selectors {
    struct parse_result *items;
    size_t n;
};
/* False: the form or the URL is malformed, where Prometheus says so (elsewhere it is as if it were not there). */
MUST_USE bool api_form_ok(struct api_call *call);
/* All match[]; `prefix` stands before errors. Released by api_selectors_release(), also after false. */
MUST_USE bool api_selectors(struct api_call *call, const char *prefix, struct api_selectors *out);
/* The same, and a selector may match everything. */
MUST_USE bool api_selectors_any(struct api_call *call, const char *prefix,
                                struct api_selectors *out);
void api_selectors_release(struct api_selectors *selectors);
/* s, quoted as Go's %q, NUL-terminated, in the request's arena; "" when memory is out. */
const char *api_quote(struct api_call *call, struct str s);

/* The parameter `query`; `prefix` stands before errors. Released by parse_release(). False: answered (api_query.c). */
MUST_USE bool api_parse_query(struct api_call *call, const char *prefix, struct parse_result *out);

/* ---- handlers; ctx is the struct query_api ---- */

void api_on_query(void *ctx, struct http_request *req);
void api_on_query_range(void *ctx, struct http_request *req);
void api_on_exemplars(void *ctx, struct http_request *req);
void api_on_format_query(void *ctx, struct http_request *req);
void api_on_parse_query(void *ctx, struct http_request *req);
void api_on_series(void *ctx, struct http_request *req);
void api_on_series_delete(void *ctx, struct http_request *req);
void api_on_labels(void *ctx, struct http_request *req);
void api_on_label_values(void *ctx, struct http_request *req);
void api_on_export(void *ctx, struct http_request *req);
void api_on_federate(void *ctx, struct http_request *req);
void api_on_read(void *ctx, struct http_request *req);
void api_on_metadata(void *ctx, struct http_request *req);
void api_on_rules(void *ctx, struct http_request *req);
void api_on_alerts(void *ctx, struct http_request *req);
void api_on_alertmanagers(void *ctx, struct http_request *req);
void api_on_targets(void *ctx, struct http_request *req);
void api_on_targets_metadata(void *ctx, struct http_request *req);
void api_on_scrape_pools(void *ctx, struct http_request *req);
void api_on_notifications(void *ctx, struct http_request *req);
void api_on_buildinfo(void *ctx, struct http_request *req);
void api_on_version(void *ctx, struct http_request *req);
void api_on_runtimeinfo(void *ctx, struct http_request *req);
void api_on_flags(void *ctx, struct http_request *req);
void api_on_config(void *ctx, struct http_request *req);
void api_on_active_queries(void *ctx, struct http_request *req);
void api_on_cancel_query(void *ctx, struct http_request *req);
void api_on_top_queries(void *ctx, struct http_request *req);
void api_on_tsdb(void *ctx, struct http_request *req);
void api_on_delete_series(void *ctx, struct http_request *req);
void api_on_snapshot(void *ctx, struct http_request *req);
void api_on_snapshot_remove(void *ctx, struct http_request *req);
void api_on_clean_tombstones(void *ctx, struct http_request *req);
void api_on_tombstones(void *ctx, struct http_request *req);
void api_on_delete_tenant(void *ctx, struct http_request *req);
void api_on_flush(void *ctx, struct http_request *req);
void api_on_compact(void *ctx, struct http_request *req);
void api_on_verify(void *ctx, struct http_request *req);

/* {"resultType":…,"result":… without the closing brace, into call->out (api_result.c). limit 0: none. */
void api_put_result(struct api_call *call, const struct query_result *result, size_t limit);
/* Is that longer than so many bytes? *bytes: how long, or a part that is. Counts by writing it where that is in doubt. */
bool api_result_exceeds(struct api_call *call, const struct query_result *result, size_t limit,
                        uint64_t bytes_max, uint64_t *bytes);

#endif
