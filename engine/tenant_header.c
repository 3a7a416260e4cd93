/* engine/tenant_header.c: see tenant_header.h. */
#include "engine/tenant_header.h"

enum err_code tenant_of_request(struct http_request *req, struct str *name, struct err *err)
{
    size_t count = 0;
    struct str value = http_header(req, TENANT_HEADER, &count);
    *name = count ? value : STR(TENANT_DEFAULT);
    if (count > 1) return err_set(err, ERR_INVALID, "multiple org IDs present");
    return tenant_name_check(*name, err);
}
