/* tools/admin_call.c: see the header. */
#include "tools/admin_call.h"

#include <stdio.h>

#include "engine/tenant_header.h"
#include "tools/cli.h"
#include "tools/client.h"

#define TEXT_BYTES_MAX 500

static enum err_code read_answer(const struct client_answer *answer, cJSON **root, struct err *err)
{
    struct str body = str_from_bytes(buf_bytes(&answer->body));
    if (answer->status == 204) return ERR_OK;
    cJSON *all = cJSON_ParseWithLength(body.len ? body.p : "", body.len);
    if (answer->status == 200 && cJSON_GetObjectItem(all, "data")) {
        *root = all;
        return ERR_OK;
    }
    const cJSON *text = cJSON_GetObjectItem(all, "error");
    if (cJSON_IsString(text)) body = str_of(text->valuestring);
    body.len = MIN_OF(body.len, (size_t)TEXT_BYTES_MAX);
    err_set(err, answer->status == 400 ? ERR_INVALID : ERR_EXECUTION, "the server says %u: %.*s",
            answer->status, STR_ARG(body));
    cJSON_Delete(all);
    return err->code;
}

enum err_code admin_call(const char *server, const char *tenant, const char *path,
                         const struct buf *form, cJSON **root, struct err *err)
{
    char url[1024], header[256];
    const char *headers[] = {NULL, NULL};
    struct str base = str_of(server);
    *root = NULL;
    while (base.len && base.p[base.len - 1] == '/') base.len--;
    snprintf(url, sizeof(url), "%.*s/api/v1/admin/tsdb/%s", STR_ARG(base), path);
    if (tenant) {
        snprintf(header, sizeof(header), TENANT_HEADER ": %s", tenant);
        headers[0] = header;
    }
    struct client *client = NULL;
    struct client_answer answer;
    struct bytes body = form ? buf_bytes(form) : (struct bytes){NULL, 0};
    client_answer_init(&answer);
    enum err_code rc = form ? buf_finish(form, err) : ERR_OK;
    if (!rc) rc = client_global_init(err);
    if (!rc) rc = client_new(headers, 0, &client, err); /* it takes what it takes */
    cli_progress("waiting for %s", server);
    if (!rc) rc = client_ask(client, url, &body, &answer, err);
    cli_progress_end();
    if (!rc) rc = read_answer(&answer, root, err);
    client_free(client);
    client_answer_release(&answer);
    return rc;
}

uint64_t admin_number(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItem(object, name);
    return cJSON_IsNumber(item) && item->valuedouble >= 0 && item->valuedouble < 1e18
               ? (uint64_t)item->valuedouble
               : 0;
}
