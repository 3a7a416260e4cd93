/* tools/query_print.h: answers of /api/v1/query and query_range as tables, plots and CSV. */
#ifndef QUIPU_TOOLS_QUERY_PRINT_H
#define QUIPU_TOOLS_QUERY_PRINT_H

#include <cjson/cJSON.h>

#include "base/bytes.h"

enum query_format { QUERY_TABLE, QUERY_CSV };

struct query_print {
    enum query_format format;
    bool plot;                         /* one line per series of a range, drawn; else its points */
    size_t columns;                    /* of the terminal */
    int64_t start_ms, end_ms, step_ms; /* of a range, for the plot */
};
/* `data` is the member of that name. ERR_CORRUPT: not what the API promises. */
MUST_USE enum err_code query_print(const struct query_print *how, const cJSON *data,
                                   struct buf *out, struct err *err);
/* The line of `query` that a message "…: 1:5: parse error: …" is about, and marks below the place. Nothing when the
 * message names no place. */
void query_print_place(struct str query, struct str message, struct buf *out);

#endif
