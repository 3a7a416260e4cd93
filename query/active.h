/* query/active.h: the queries that run, the queries that ran most, and their metrics by tenant.
 * All of it is bounded: running queries by the threads that run them, the rest by the numbers below.
 * Threads: any. */
#ifndef QUIPU_QUERY_ACTIVE_H
#define QUIPU_QUERY_ACTIVE_H

#include "base/env.h"
#include "base/lock.h"
#include "base/metric.h"
#include "query/limits.h"

#define ACTIVE_TEXT_BYTES_MAX 4096 /* of an expression as it is shown */
#define TOP_TEXT_BYTES_MAX 1024
#define TOP_QUERIES_MAX 256
#define QUERY_TENANTS_MAX 200 /* with metrics of their own; the others share one name */
#define QUERY_TENANT_OTHERS "__overflow__"

/* ---- running ---- */

/* Of one request: in its own memory, listed while it runs. */
struct active_query {
    struct active_query *prev, *next;
    uint64_t id;
    struct str tenant, text; /* must stay until active_end() */
    bool is_range;
    int64_t start_ms, end_ms, step_ms;
    int64_t since_ms, since_ns; /* wall clock; monotonic, when a thread took it */
    struct query_progress progress;
};
struct active_queries {
    struct lock lock; /* rank LOCK_LEAF; guards the rest */
    struct active_query *newest;
    uint64_t last_id;
};
void active_init(struct active_queries *active);
void active_release(struct active_queries *active);
/* Gives it its id and lists it. The other fields are set. */
void active_begin(struct active_queries *active, struct active_query *query);
void active_end(struct active_queries *active, struct active_query *query);
/* Tells the query of that id, of `tenant` (empty: of any), to stop. False: there is none. */
bool active_cancel(struct active_queries *active, struct str tenant, uint64_t id);
/* A JSON array, the oldest first. */
void active_print(struct active_queries *active, struct str tenant, int64_t now_ns,
                  struct buf *out);

/* ---- what ran ---- */

struct query_record {
    struct str tenant, text;
    bool is_range, failed;
    int64_t at_ms;
    double seconds;
    uint64_t samples, series;
};
struct top_entry {
    char *text; /* the tenant, NUL, the expression */
    size_t tenant_len, text_len;
    uint64_t hash;
    bool is_range;
    uint64_t count, failures, samples, series_max;
    double seconds, seconds_max;
    int64_t last_ms;
};
struct top_queries {
    struct lock lock; /* rank LOCK_LEAF; guards the rest */
    struct top_entry entries[TOP_QUERIES_MAX];
    size_t n;
};
void top_init(struct top_queries *top);
void top_release(struct top_queries *top);
/* Adds up queries of one text. When there is no place, the text that took the least time so far makes room. */
void top_note(struct top_queries *top, const struct query_record *record);
enum top_order { TOP_BY_COUNT, TOP_BY_SECONDS, TOP_BY_SAMPLES };
void top_print(struct top_queries *top, struct str tenant, enum top_order by, size_t limit,
               struct buf *out);

/* ---- metrics by tenant ---- */

struct tenant_queries {
    char *name;
    struct metric *queries, *failures, *samples, *refused[QUERY_LIMITS_N];
    struct metric_histogram *seconds;
    struct tenant_memory memory;
};
struct query_tenants {
    struct lock lock; /* rank LOCK_SERVER: metrics are made under it; guards the rest */
    struct metrics *metrics;
    struct tenant_queries tenants[QUERY_TENANTS_MAX];
    size_t n;
    struct tenant_queries others;
};
void query_tenants_init(struct query_tenants *tenants, struct metrics *metrics);
void query_tenants_release(struct query_tenants *tenants);
/* Where a tenant's running queries are counted together; NULL for those without metrics of their own. */
struct tenant_memory *query_tenants_memory(struct query_tenants *tenants, struct str tenant);
/* known: there is such a tenant; others have no metrics of their own, or every name would make some. limit: that ended
 * it, or LIMIT_NONE. */
void query_tenants_note(struct query_tenants *tenants, const struct query_record *record,
                        bool known, enum query_limit limit);

#endif
