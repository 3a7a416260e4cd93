/* tools/admin_call.h: what commands ask of a running server's administration, and what it answers. */
#ifndef QUIPU_TOOLS_ADMIN_CALL_H
#define QUIPU_TOOLS_ADMIN_CALL_H

#include <cjson/cJSON.h>

#include "base/bytes.h"

/* POSTs to PATH behind /api/v1/admin/tsdb/ (form NULL: without a body) and waits as long as it takes; tenant NULL: the
 * default one. *root: the answer, which has "data", the caller's to cJSON_Delete(); NULL after 204. Another answer is
 * ERR_INVALID (400) or ERR_EXECUTION with what the server says. */
MUST_USE enum err_code admin_call(const char *server, const char *tenant, const char *path,
                                  const struct buf *form, cJSON **root, struct err *err);
/* A whole number of an object; 0 where there is none. */
uint64_t admin_number(const cJSON *object, const char *name);

#endif
