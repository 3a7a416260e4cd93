/* tools/fleet.h: a made-up fleet of web servers, as remote-write requests; the load of `quipu bench`.
 *
 * An instance has 20 routes. A route has request counters by status code (5), a classic histogram of durations (12
 * buckets, _sum, _count): 380 series; what is over are, by turns, four kinds of others: a full-precision gauge, an
 * integer gauge that seldom changes, a gauge in multiples of 4,096, and CPU seconds with two decimals. Load follows
 * the hour of the day. All is a function of the seed, whatever the number of connections.
 *
 * Requests are remote write 1.0 in snappy's block format. A request's series are the same at every scrape, so
 * protobuf and snappy are done once, with values kept out of the matches: a scrape only writes the 8 bytes of each
 * value and a few timestamps into the finished body. Threads: one at a time per fleet. */
#ifndef QUIPU_TOOLS_FLEET_H
#define QUIPU_TOOLS_FLEET_H

#include "base/bytes.h"
#include "base/rng.h"

#define FLEET_ROUTES 20
#define FLEET_CODES 5
#define FLEET_BUCKETS 12
#define FLEET_ROUTE_SERIES (FLEET_CODES + FLEET_BUCKETS + 2)
#define FLEET_SERIES_MIN (FLEET_ROUTES * FLEET_ROUTE_SERIES)

struct fleet_config {
    size_t first_instance, n_instances; /* this part of the fleet */
    size_t series_per_instance;         /* >= FLEET_SERIES_MIN */
    size_t samples_per_request;
    int64_t interval_ms;
    uint64_t seed;
};

struct fleet; /* from fleet_new() */
MUST_USE enum err_code fleet_new(const struct fleet_config *config, struct fleet **out,
                                 struct err *err);
void fleet_free(struct fleet *fleet); /* NULL: no-op */
/* The next scrape: every series gets its value, at t_ms or a few ms beside it. t_ms must rise, and lie between
 * the years 1972 and 2100 (a timestamp then takes six bytes). */
#define FLEET_T_MIN_MS (INT64_C(1) << 36)
#define FLEET_T_MAX_MS (INT64_C(4102444800000))
void fleet_scrape(struct fleet *fleet, int64_t t_ms);
/* The scrape after the fleet's last: every series gets a staleness marker, as agents send when a target goes. */
void fleet_end(struct fleet *fleet, int64_t t_ms);
size_t fleet_n_requests(const struct fleet *fleet);
/* The body of request i, valid until the next scrape. *n_samples may be NULL. */
struct bytes fleet_request(const struct fleet *fleet, size_t i, size_t *n_samples);
size_t fleet_n_series(const struct fleet *fleet);

/* Appends a label as field 1 of a TimeSeries message. Name and value together stay below 124 bytes. */
void fleet_put_label(struct buf *out, const char *name, const char *value);

/* ---- for tests ---- */
/* Value and time of series i at the last scrape. */
double fleet_value(const struct fleet *fleet, size_t i);
int64_t fleet_time(const struct fleet *fleet, size_t i);

#endif
