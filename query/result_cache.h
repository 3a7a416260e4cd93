/* query/result_cache.h: what range queries answered about times that are settled, for when they come again.
 *
 * A dashboard asks for the same expression again and again, each time a little later: all but the newest steps were computed
 * before. An entry has the values of all series at a run of steps, by expression (in normal form), step, alignment of the
 * steps, tenant and what of the limits matters. A query that begins within it takes what is there and computes the rest.
 *
 * Never stale: only steps older than a window are kept, and the source says which times changed since (late samples,
 * deletes, retention); steps at or after the earliest of them are computed again. Not kept is what depends on more than the
 * data at or before each step: `@`, negative offsets, anchored and smoothed selectors, start(), end(), range(), durations that
 * are computed, info(), limitk and limit_ratio; and answers with annotations or native histograms.
 * Threads: any. */
#ifndef QUIPU_QUERY_RESULT_CACHE_H
#define QUIPU_QUERY_RESULT_CACHE_H

#include "base/metric.h"
#include "query/eval.h"

struct result_cache; /* from result_cache_new() */

MUST_USE enum err_code result_cache_new(size_t bytes_max, struct metrics *metrics,
                                        struct result_cache **out, struct err *err);
void result_cache_free(struct result_cache *cache); /* NULL: no-op */
/* Least recently used entries go. 0: nothing is kept. */
void result_cache_set_max(struct result_cache *cache, size_t bytes_max);
size_t result_cache_bytes(struct result_cache *cache);

/* query_run() through the cache (NULL: without). Steps after settled_ms are neither kept nor taken. The answer has the bits
 * that it has without, but for its statistics, which count what was computed. */
MUST_USE enum err_code result_cache_run(struct result_cache *cache, int64_t settled_ms,
                                        const struct query_env *env,
                                        const struct query_request *request,
                                        struct query_result **out, struct err *err);
/* Could this tree be kept at all? */
bool result_cache_takes(struct node *root);

#endif
