/* tools/query_hint.h: what a query was probably meant to say. */
#ifndef QUIPU_TOOLS_QUERY_HINT_H
#define QUIPU_TOOLS_QUERY_HINT_H

#include <cjson/cJSON.h>

#include "base/bytes.h"

/* Of an error message: "did you mean rate()?" for a function that there is not. Nothing when none is near. */
void query_hint_error(struct str message, struct buf *out);
/* Of an empty result: a line for each metric and label that the query names and the server does not know, with the nearest
 * one. `metrics` and `labels` are arrays of strings; NULL: not known, and no hint. */
void query_hint_empty(struct str query, const cJSON *metrics, const cJSON *labels, struct buf *out);

#endif
