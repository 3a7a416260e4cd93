/* ingest/json_lines.h: one line of JSON as VictoriaMetrics exports and imports it, with what quipu adds for native histograms
 * and NaN with other bits (query/export_format.h describes both):
 *   {"metric":{"__name__":"up","job":"x"},"values":[0,null,"-Infinity","NaN:7ff0000000000002"],"timestamps":[1,2,3,4]}
 *   {"metric":{…},"histograms":[{…}],"timestamps":[1]}
 * Unknown keys are passed over. Source: the formats document of VictoriaMetrics's /api/v1/import. */
#ifndef QUIPU_INGEST_JSON_LINES_H
#define QUIPU_INGEST_JSON_LINES_H

#include "storage/labels.h"
#include "storage/samples.h"

#define JSON_LINES_LABELS_MAX 1000
#define JSON_LINES_DEPTH_MAX 16

/* *labels: as they stand in the line, not sorted, those without a name left out; in the arena or the line. Samples are
 * appended in the order of the line, histograms in the arena; what was not checked: times, labels, whether a histogram
 * makes sense. A line of blanks: no labels, no samples.
 * ERR_INVALID with the reason and the byte; ERR_LIMIT, ERR_NO_MEMORY. */
MUST_USE enum err_code json_line_parse(struct str line, struct arena *arena, struct labels *labels,
                                       struct samples *out, struct err *err);

#endif
