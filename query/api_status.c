/* What is constant or says something of the process: rules, targets, build and runtime. quipu neither scrapes nor evaluates
 * rules; the answers are those of a Prometheus that was told to do neither. */
#include <stdio.h>
#include <time.h>

#include "query/api_private.h"
#include "query/number.h"

/* --- rules and alerts ------------------------------------------------------------------------------ */

/* strconv.ParseBool */
static bool parse_bool(struct str s)
{
    static const char *const WORDS[] = {"1", "t", "T", "TRUE",  "true",  "True",
                                        "0", "f", "F", "FALSE", "false", "False"};
    for (size_t i = 0; i < COUNT_OF(WORDS); i++)
        if (str_eq(s, str_of(WORDS[i]))) return true;
    return false;
}

static bool rules_type_ok(struct api_call *call)
{
    struct str type = http_param(&call->params, "type");
    bool known = str_eq(type, STR("alert")) || str_eq(type, STR("record"));
    if (!type.len || known) return true;
    api_error(call, API_BAD_DATA, "invalid parameter \"type\": not supported value %s",
              api_quote(call, type));
    return false;
}

static bool rules_exclude_ok(struct api_call *call)
{
    struct str exclude = http_param(&call->params, "exclude_alerts");
    if (!exclude.len || parse_bool(exclude)) return true;
    api_error(call, API_BAD_DATA,
              "invalid parameter \"exclude_alerts\": error converting exclude_alerts: "
              "strconv.ParseBool: parsing %s: invalid syntax",
              api_quote(call, exclude));
    return false;
}

static bool rules_page_ok(struct api_call *call)
{
    struct str limit = http_param(&call->params, "group_limit");
    struct str token = http_param(&call->params, "group_next_token");
    int64_t n;
    if (token.len && !limit.len) {
        api_error(
            call, API_BAD_DATA,
            "invalid parameter \"group_next_token\": group_limit needs to be present in order "
            "to paginate over the groups");
        return false;
    }
    enum number_parse rc = limit.len ? number_parse_decimal(limit, &n) : NUMBER_OK;
    if (rc != NUMBER_OK) {
        api_error(call, API_BAD_DATA,
                  "invalid parameter \"group_limit\": group_limit needs to be a valid number: "
                  "strconv.ParseInt: parsing %s: %s",
                  api_quote(call, limit),
                  rc == NUMBER_RANGE ? "value out of range" : "invalid syntax");
        return false;
    }
    if (limit.len && n <= 0) {
        api_error(call, API_BAD_DATA,
                  "invalid parameter \"group_limit\": group_limit needs to be greater than 0");
        return false;
    }
    if (!token.len) return true;
    api_error(call, API_BAD_DATA,
              "invalid parameter \"group_next_token\": invalid group_next_token '%.*s'. were rule "
              "groups changed?",
              STR_ARG(token));
    return false;
}

void api_on_rules(void *ctx, struct http_request *req)
{
    struct api_call call;
    struct api_selectors selectors;
    if (!api_begin(&call, ctx, req)) return;
    if (api_selectors(&call, "", &selectors) && rules_type_ok(&call) && rules_exclude_ok(&call) &&
        rules_page_ok(&call))
        api_constant(&call, "{\"groups\":[]}");
    api_selectors_release(&selectors);
    api_end(&call);
}

static void constant(struct query_api *api, struct http_request *req, const char *json)
{
    struct api_call call;
    if (!api_begin(&call, api, req)) return;
    api_constant(&call, json);
    api_end(&call);
}

void api_on_alerts(void *ctx, struct http_request *req)
{
    constant(ctx, req, "{\"alerts\":[]}");
}

void api_on_alertmanagers(void *ctx, struct http_request *req)
{
    constant(ctx, req, "{\"activeAlertmanagers\":[],\"droppedAlertmanagers\":[]}");
}

/* --- targets --------------------------------------------------------------------------------------- */

static bool word_eq(struct str s, const char *lower)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.p[i] >= 'A' && s.p[i] <= 'Z' ? (char)(s.p[i] | 0x20) : s.p[i];
        if (c != lower[i]) return false;
    }
    return !lower[s.len];
}

void api_on_targets(void *ctx, struct http_request *req)
{
    struct api_call call;
    if (!api_begin(&call, ctx, req)) return;
    struct str state = http_param(&call.params, "state");
    bool counts = !state.len || word_eq(state, "any") || word_eq(state, "dropped");
    api_constant(&call, counts ? "{\"activeTargets\":[],\"droppedTargets\":[],"
                                 "\"droppedTargetCounts\":{}}"
                               : "{\"activeTargets\":[],\"droppedTargets\":[],"
                                 "\"droppedTargetCounts\":null}");
    api_end(&call);
}

void api_on_targets_metadata(void *ctx, struct http_request *req)
{
    struct api_call call;
    int64_t limit;
    if (!api_begin(&call, ctx, req)) return;
    if (api_number(&call, "limit", "limit must be a number", &limit)) api_constant(&call, "[]");
    api_end(&call);
}

void api_on_scrape_pools(void *ctx, struct http_request *req)
{
    constant(ctx, req, "{\"scrapePools\":[]}");
}

void api_on_notifications(void *ctx, struct http_request *req)
{
    constant(ctx, req, "[]");
}

/* --- status ---------------------------------------------------------------------------------------- */

/* `version` is the version of Prometheus whose API this is: clients choose their calls by it. */
#define BUILDINFO                                                                                  \
    "{\"version\":\"3.5.0\",\"revision\":\"quipu-" QUIPU_VERSION "\",\"branch\":\"quipu\","        \
    "\"buildUser\":\"\",\"buildDate\":\"\",\"goVersion\":\"\"}"

void api_on_buildinfo(void *ctx, struct http_request *req)
{
    constant(ctx, req, BUILDINFO);
}

void api_on_version(void *ctx, struct http_request *req)
{
    (void)ctx;
    http_respond(req, 200, "text/plain; charset=utf-8",
                 bytes_of(BUILDINFO "\n", sizeof(BUILDINFO "\n") - 1));
}

/* RFC 3339 in UTC */
static void put_time(struct buf *out, int64_t t_ms)
{
    struct tm tm;
    char text[40] = "1970-01-01T00:00:00Z";
    time_t seconds = (time_t)(t_ms / 1000);
    if (gmtime_r(&seconds, &tm)) strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    json_string_html(out, str_of(text));
}

void api_on_runtimeinfo(void *ctx, struct http_request *req)
{
    struct api_call call;
    struct query_api *api = ctx;
    const struct query_api_status *s = &api->config.status;
    bool reload_ok = true;
    int64_t reload_ms = s->start_ms;
    if (!api_begin(&call, api, req)) return;
    if (s->reload) s->reload(s->ctx, &reload_ok, &reload_ms);
    struct buf *out = &call.out, retention;
    buf_init(&retention, MEM_QUERY);
    if (s->retention) s->retention(s->ctx, &retention);
    api_success(&call);
    buf_text(out, STR("{\"startTime\":"));
    put_time(out, s->start_ms);
    buf_text(out, STR(",\"CWD\":"));
    json_string_html(out, str_of(s->cwd));
    buf_text(out, STR(",\"hostname\":"));
    json_string_html(out, str_of(s->hostname));
    buf_text(out, STR(",\"serverTime\":"));
    put_time(out, clock_wall_ms(api->env.clock));
    buf_printf(out,
               ",\"reloadConfigSuccess\":%s,\"lastConfigTime\":", reload_ok ? "true" : "false");
    put_time(out, reload_ms);
    buf_printf(out,
               ",\"corruptionCount\":0,\"goroutineCount\":0,\"GOMAXPROCS\":%zu,\"GOMEMLIMIT\":0,"
               "\"GOGC\":\"\",\"GODEBUG\":\"\",\"storageRetention\":",
               s->n_cpus);
    json_string_html(out, str_from_bytes(buf_bytes(&retention)));
    buf_u8(out, '}');
    buf_release(&retention);
    api_finish(&call, NULL, STR(""));
    api_end(&call);
}

static void put_flag(void *arg, const char *name, const char *value)
{
    struct api_call *call = arg;
    if (call->out.len && call->out.p[call->out.len - 1] != '{') buf_u8(&call->out, ',');
    json_string_html(&call->out, str_of(name));
    buf_u8(&call->out, ':');
    json_string_html(&call->out, str_of(value));
}

void api_on_flags(void *ctx, struct http_request *req)
{
    struct api_call call;
    const struct query_api_status *s = &((struct query_api *)ctx)->config.status;
    if (!api_begin(&call, ctx, req)) return;
    api_success(&call);
    buf_u8(&call.out, '{');
    if (s->flags) s->flags(s->ctx, put_flag, &call);
    buf_u8(&call.out, '}');
    api_finish(&call, NULL, STR(""));
    api_end(&call);
}

void api_on_config(void *ctx, struct http_request *req)
{
    struct api_call call;
    struct buf yaml;
    const struct query_api_status *s = &((struct query_api *)ctx)->config.status;
    if (!api_begin(&call, ctx, req)) return;
    buf_init(&yaml, MEM_QUERY);
    if (s->config) s->config(s->ctx, &yaml);
    api_success(&call);
    buf_text(&call.out, STR("{\"yaml\":"));
    json_string_html(&call.out, str_from_bytes(buf_bytes(&yaml)));
    buf_u8(&call.out, '}');
    buf_release(&yaml);
    api_finish(&call, NULL, STR(""));
    api_end(&call);
}

void query_api_walreplay(void *ctx, struct http_request *req)
{
    static const char BODY[] =
        "{\"status\":\"success\",\"data\":{\"min\":0,\"max\":0,\"current\":0}}";
    (void)ctx;
    http_set_header(req, "Vary", "Origin");
    http_respond(req, 200, "application/json", bytes_of(BODY, sizeof BODY - 1));
}
