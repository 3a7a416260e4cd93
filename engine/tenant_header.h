/* engine/tenant_header.h: which tenant a request is for, the same for writes and reads. */
#ifndef QUIPU_ENGINE_TENANT_HEADER_H
#define QUIPU_ENGINE_TENANT_HEADER_H

#include "base/http.h"
#include "engine/engine.h"

#define TENANT_HEADER "X-Scope-OrgID"

/* *name: the header's value, TENANT_DEFAULT without one; as long as the request. Set also with an error, for the
 * caller's text. ERR_INVALID: the header stands twice, or the name breaks the rules of tenant_name_check(). */
MUST_USE enum err_code tenant_of_request(struct http_request *req, struct str *name,
                                         struct err *err);

#endif
