/* query/json.h: JSON as Prometheus's API writes it, into a buffer. The forms of times, values and strings differ by
 * place, as Prometheus does (docs/http-api.md). */
#ifndef QUIPU_QUERY_JSON_H
#define QUIPU_QUERY_JSON_H

#include "base/bytes.h"
#include "storage/histogram.h"
#include "storage/labels.h"

/* "…" with quote, backslash and control characters escaped, nothing else (labels of series). Malformed UTF-8 becomes U+FFFD. */
void json_string(struct buf *out, struct str s);
/* The same with < > & and U+2028, U+2029 escaped, too (every other text). */
void json_string_html(struct buf *out, struct str s);

/* {"a":"b",…} */
void json_labels(struct buf *out, struct labels labels);

/* Vector and matrix: seconds, whole or with exactly three decimals: 1.500, 1 */
void json_time(struct buf *out, int64_t t_ms);
/* Scalar and string: the shortest form: 1.5, 1 */
void json_time_short(struct buf *out, int64_t t_ms);
/* Quoted; exponents outside 1e-6..1e21 */
void json_value(struct buf *out, double v);
/* Quoted; always plain decimals */
void json_value_plain(struct buf *out, double v);
/* {"count":"44","sum":"110","buckets":[[0,"0.5","1","11"]]}: empty buckets left out, ascending */
void json_histogram(struct buf *out, const struct histogram *h);

#endif
