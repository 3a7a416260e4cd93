/* query/export_format.h: samples of one series as text, for GET /api/v1/export.
 *
 * EXPORT_JSONL: one JSON object a line, as VictoriaMetrics exports and imports them:
 *   {"metric":{"__name__":"up","job":"x"},"values":[0,1.5],"timestamps":[1549891472010,1549891487724]}
 *   A value is a number that reads back as the same bits, "Infinity" or "-Infinity", null for the usual NaN (7ff8000000000001)
 *   and "NaN:7ff0000000000002" for one with other bits: that one is the staleness marker.
 *   Native histograms are lines of their own, with "histograms" in place of "values"; each is
 *   {"schema":0,"count":3,"sum":1.5,"zero_threshold":0.001,"zero_count":1,"positive_spans":[[0,2]],"positive":[1,1],
 *    "negative_spans":[[0,1]],"negative":[1],"custom_bounds":[1,2],"reset_hint":"gauge","integer":true,"start_ms":5}
 *   with counts per bucket, not cumulative; what is empty, unknown, zero or false is left out, but for schema, count and sum.
 * EXPORT_PROMETHEUS: name{labels} value milliseconds. EXPORT_OPENMETRICS: with seconds, and "# EOF" at the end of all.
 *   Neither has a form for staleness markers and native histograms: they are left out. */
#ifndef QUIPU_QUERY_EXPORT_FORMAT_H
#define QUIPU_QUERY_EXPORT_FORMAT_H

#include "storage/labels.h"
#include "storage/samples.h"

enum export_format { EXPORT_JSONL, EXPORT_OPENMETRICS, EXPORT_PROMETHEUS };

/* The NaN that texts without bits mean. */
#define EXPORT_NAN_BITS UINT64_C(0x7ff8000000000001)

/* Appends the samples from…to - 1. A lack of memory stays in `out`. */
void export_put_samples(struct buf *out, enum export_format format, struct labels labels,
                        const struct samples *s, size_t from, size_t to);

#endif
