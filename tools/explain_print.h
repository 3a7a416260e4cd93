/* tools/explain_print.h: the plan of a query, as the server explains it, as a tree on a terminal. */
#ifndef QUIPU_TOOLS_EXPLAIN_PRINT_H
#define QUIPU_TOOLS_EXPLAIN_PRINT_H

#include <cjson/cJSON.h>

#include "base/bytes.h"

/* `explain` is the member of that name of an answer's data. ERR_INVALID when it is none. */
MUST_USE enum err_code explain_print_tree(const cJSON *explain, size_t columns, struct buf *out,
                                          struct err *err);

#endif
