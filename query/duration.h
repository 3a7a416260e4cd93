/* query/duration.h: durations: the literals of PromQL and of the HTTP parameters, and PromQL's duration expressions,
 * which the times of the query resolve. */
#ifndef QUIPU_QUERY_DURATION_H
#define QUIPU_QUERY_DURATION_H

#include "query/ast.h"

/* The longest duration that Prometheus's nanoseconds hold, about 292 years, in whole seconds */
#define DURATION_SECONDS_MAX 9223372036.0

enum duration_parse {
    DURATION_OK,
    DURATION_EMPTY,
    DURATION_SYNTAX,  /* not a valid duration string */
    DURATION_UNIT,    /* unknown unit; *unit is it */
    DURATION_OVERFLOW /* over 2^63 ns */
};
/* "1h30m", and "0": units y w d h m s ms in this order, each at most once, whole numbers, no sign. */
enum duration_parse duration_parse_literal(struct str text, int64_t *ms, struct str *unit);

/* Rounded to nanoseconds, then cut to ms. False (and 0) past DURATION_SECONDS_MAX either way, and for NaN. */
bool duration_from_seconds(double seconds, int64_t *ms);

/* The times of a query, as step() and range() see them; both 0 in an instant query. */
struct duration_times {
    int64_t step_ms, range_ms;
};

/* Fills in `ms` of every duration of the tree that is an expression: ranges and subquery steps must come out greater
 * than 0. Runs once, before the query does; the tree is otherwise unchanged, so that it can be resolved again
 * with other times. ERR_INVALID, with 0-based byte offsets as Prometheus prints them here:
 * "4:9: duration must be greater than 0". */
MUST_USE enum err_code durations_resolve(struct node *root, struct duration_times times,
                                         struct err *err);

/* As the printer writes it: the canonical form, or the expression. */
void duration_print_expr(const struct duration_expr *e, struct buf *out);

#endif
