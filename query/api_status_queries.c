/* /api/v1/status/active_queries and top_queries: what runs now, and what ran most. They answer while every thread for
 * queries is busy, so they never wait for one. */
#include "query/api_private.h"
#include "query/number.h"

#define TOP_LIMIT_DEFAULT 20

/* The tenant that the header names, or "" for all: an operator who names none sees all. */
static struct str asked_tenant(const struct api_call *call)
{
    size_t count = 0;
    struct str header = http_header(call->req, "X-Scope-OrgID", &count);
    return count ? header : STR("");
}

void api_on_active_queries(void *ctx, struct http_request *req)
{
    struct api_call call;
    struct query_api *api = ctx;
    if (!api_begin(&call, api, req)) return;
    api_success(&call);
    active_print(&api->active, asked_tenant(&call), clock_mono_ns(api->env.clock), &call.out);
    api_finish(&call, NULL, STR(""));
    api_end(&call);
}

void api_on_cancel_query(void *ctx, struct http_request *req)
{
    struct api_call call;
    struct query_api *api = ctx;
    int64_t id = 0;
    if (!api_begin(&call, api, req)) return;
    struct str text = http_param(&call.params, "id");
    if (number_parse_decimal(text, &id) != NUMBER_OK || id <= 0)
        api_error(&call, API_BAD_DATA,
                  "invalid parameter \"id\": %s is no id of status/active_queries",
                  api_quote(&call, text));
    else if (!active_cancel(&api->active, asked_tenant(&call), (uint64_t)id))
        api_error(&call, API_NOT_FOUND, "no query %lld is running", (long long)id);
    else
        api_constant(&call, "{}");
    api_end(&call);
}

static bool read_order(struct api_call *call, enum top_order *by)
{
    static const char *const WORDS[] = {"count", "seconds", "samples"};
    struct str text = http_param(&call->params, "by");
    *by = TOP_BY_SECONDS;
    if (!text.len) return true;
    for (size_t i = 0; i < COUNT_OF(WORDS); i++) {
        if (!str_eq(text, str_of(WORDS[i]))) continue;
        *by = (enum top_order)i;
        return true;
    }
    api_error(call, API_BAD_DATA, "invalid parameter \"by\": %s is none of count, seconds, samples",
              api_quote(call, text));
    return false;
}

void api_on_top_queries(void *ctx, struct http_request *req)
{
    struct api_call call;
    struct query_api *api = ctx;
    enum top_order by;
    size_t limit;
    if (!api_begin(&call, api, req)) return;
    if (read_order(&call, &by) && api_limit(&call, &limit)) {
        api_success(&call);
        top_print(&api->top, asked_tenant(&call), by, limit ? limit : TOP_LIMIT_DEFAULT, &call.out);
        api_finish(&call, NULL, STR(""));
    }
    api_end(&call);
}
