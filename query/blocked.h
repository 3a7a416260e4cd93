/* query/blocked.h: queries that are refused by name, until somebody has repaired the dashboard that sends them.
 * Threads: a list is constant once made. */
#ifndef QUIPU_QUERY_BLOCKED_H
#define QUIPU_QUERY_BLOCKED_H

#include "base/arena.h"
#include "base/bytes.h"

#define BLOCKED_QUERIES_MAX 1000

struct blocked_query {
    struct str
        pattern; /* a regular expression for the whole text, or an expression, however written */
    struct str reason; /* may be empty */
    struct str tenant; /* empty: of all */
};
struct blocked_list; /* from blocked_list_new() */

/* Can it be a pattern? ERR_INVALID: neither a regular expression nor PromQL. */
MUST_USE enum err_code blocked_check(struct str pattern, struct err *err);
/* Copies. n 0: *out is NULL, which blocks nothing. */
MUST_USE enum err_code blocked_list_new(const struct blocked_query *items, size_t n,
                                        struct blocked_list **out, struct err *err);
void blocked_list_free(struct blocked_list *list);
/* The entry that blocks the query, NULL: none. Both the text as sent and its normal form count. */
const struct blocked_query *blocked_find(const struct blocked_list *list, struct str tenant,
                                         struct str text);
/* An expression in one line, as format_query prints short ones; the text itself when it cannot be parsed. In `out`. */
void query_normal_form(struct str text, struct buf *out);

#endif
