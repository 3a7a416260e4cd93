/* Parameters of the API: times, durations, limits, selectors. Go's and Prometheus's rules, and their texts. */
#include <math.h>

#include "query/api_private.h"
#include "query/number.h"
#include "storage/labels.h"

const char *api_quote(struct api_call *call, struct str s)
{
    struct buf quoted;
    buf_init(&quoted, MEM_QUERY);
    str_quote(&quoted, s);
    struct str kept = arena_str(call->arena, str_from_bytes(buf_bytes(&quoted)));
    buf_release(&quoted);
    return kept.p ? kept.p : "";
}

/* --- times ----------------------------------------------------------------------------------------- */

static int64_t clamp_ms(double ms)
{
    if (ms <= (double)API_TIME_MIN) return API_TIME_MIN;
    return ms >= (double)API_TIME_MAX ? API_TIME_MAX : (int64_t)ms;
}

/* Days since 1970 in the proleptic Gregorian calendar, by counting March as the first month. */
static int64_t days_from_civil(int64_t year, unsigned month, unsigned day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t of_era = year - era * 400;
    int64_t of_year = (153 * (int64_t)(month + (month > 2 ? -3u : 9u)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static bool take_digits(struct str *s, unsigned n, unsigned *out)
{
    if (s->len < n) return false;
    *out = 0;
    for (unsigned i = 0; i < n; i++) {
        if (s->p[i] < '0' || s->p[i] > '9') return false;
        *out = *out * 10 + (unsigned)(s->p[i] - '0');
    }
    *s = (struct str){s->p + n, s->len - n};
    return true;
}

static bool take_char(struct str *s, char c)
{
    if (!s->len || s->p[0] != c) return false;
    *s = (struct str){s->p + 1, s->len - 1};
    return true;
}

/* ".123456" cut to milliseconds */
static bool take_fraction(struct str *s, unsigned *ms)
{
    unsigned scale = 100;
    *ms = 0;
    if (!take_char(s, '.') && !take_char(s, ',')) return true;
    if (!s->len || s->p[0] < '0' || s->p[0] > '9') return false;
    for (unsigned digit; s->len && take_digits(s, 1, &digit); scale /= 10) *ms += digit * scale;
    return true;
}

static bool take_zone(struct str *s, int64_t *offset_ms)
{
    unsigned hours, minutes;
    *offset_ms = 0;
    if (take_char(s, 'Z')) return true;
    bool west = s->len && s->p[0] == '-';
    if (!take_char(s, '+') && !take_char(s, '-')) return false;
    if (!take_digits(s, 2, &hours) || !take_char(s, ':') || !take_digits(s, 2, &minutes))
        return false;
    *offset_ms = ((int64_t)hours * 60 + minutes) * 60000 * (west ? -1 : 1);
    return hours <= 24 && minutes < 60;
}

static bool date_ok(unsigned year, unsigned month, unsigned day)
{
    static const uint8_t DAYS[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (month < 1 || month > 12 || day < 1) return false;
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return day <= DAYS[month - 1] + (leap && month == 2 ? 1u : 0u);
}

static bool parse_rfc3339(struct str s, int64_t *t_ms)
{
    unsigned year, month, day, hour, minute, second, ms;
    int64_t zone_ms;
    bool shape = take_digits(&s, 4, &year) && take_char(&s, '-') && take_digits(&s, 2, &month) &&
                 take_char(&s, '-') && take_digits(&s, 2, &day) && take_char(&s, 'T') &&
                 take_digits(&s, 2, &hour) && take_char(&s, ':') && take_digits(&s, 2, &minute) &&
                 take_char(&s, ':') && take_digits(&s, 2, &second) && take_fraction(&s, &ms) &&
                 take_zone(&s, &zone_ms);
    if (!shape || s.len || !date_ok(year, month, day)) return false;
    if (hour > 23 || minute > 59 || second > 59) return false;
    int64_t seconds =
        days_from_civil(year, month, day) * 86400 + hour * 3600 + minute * 60 + second;
    *t_ms = seconds * 1000 + ms - zone_ms;
    return true;
}

bool api_parse_time(struct str text, int64_t *t_ms)
{
    double seconds, whole;
    enum number_parse rc = number_parse_float(text, &seconds);
    if (rc == NUMBER_OK && !isnan(seconds)) {
        double fraction = modf(seconds, &whole);
        *t_ms = clamp_ms(whole * 1000 + round(fraction * 1000));
        return true;
    }
    /* What Prometheus's own clients send for "minimum" and "maximum" */
    *t_ms = str_eq(text, STR("-292273086-05-16T16:47:06Z")) ? API_TIME_MIN : API_TIME_MAX;
    if (*t_ms == API_TIME_MIN || str_eq(text, STR("292277025-08-18T07:12:54.999999999Z")))
        return true;
    return parse_rfc3339(text, t_ms);
}

bool api_time(struct api_call *call, const char *name, int64_t *t_ms)
{
    struct str text = http_param(&call->params, name);
    if (api_parse_time(text, t_ms)) return true;
    api_error(call, API_BAD_DATA, "invalid parameter \"%s\": cannot parse %s to a valid timestamp",
              name, api_quote(call, text));
    return false;
}

bool api_optional_time(struct api_call *call, const char *name, int64_t fallback, int64_t *t_ms)
{
    struct str text = http_param(&call->params, name);
    *t_ms = fallback;
    if (!text.len || api_parse_time(text, t_ms)) return true;
    api_error(call, API_BAD_DATA,
              "invalid parameter \"%s\": invalid time value for '%s': cannot parse %s to a valid "
              "timestamp",
              name, name, api_quote(call, text));
    return false;
}

/* --- numbers --------------------------------------------------------------------------------------- */

bool api_duration(struct api_call *call, const char *name, const char *prefix, int64_t *ms)
{
    bool overflow;
    struct str text = http_param(&call->params, name);
    if (duration_parse(text, ms, &overflow)) return true;
    api_error(call, API_BAD_DATA, "%scannot parse %s to a valid duration%s", prefix,
              api_quote(call, text), overflow ? ". It overflows int64" : "");
    return false;
}

bool api_limit(struct api_call *call, size_t *limit)
{
    struct str text = http_param(&call->params, "limit");
    int64_t n = 0;
    enum number_parse rc = text.len ? number_parse_decimal(text, &n) : NUMBER_OK;
    *limit = n > 0 ? (size_t)n : 0;
    if (rc != NUMBER_OK) {
        api_error(call, API_BAD_DATA, "invalid parameter \"limit\": strconv.Atoi: parsing %s: %s",
                  api_quote(call, text),
                  rc == NUMBER_RANGE ? "value out of range" : "invalid syntax");
        return false;
    }
    if (n >= 0) return true;
    api_error(call, API_BAD_DATA, "invalid parameter \"limit\": limit must be non-negative");
    return false;
}

bool api_number(struct api_call *call, const char *name, const char *error, int64_t *out)
{
    int64_t n;
    struct str text = http_param(&call->params, name);
    if (!text.len) return true;
    if (number_parse_decimal(text, &n) != NUMBER_OK) {
        api_error(call, API_BAD_DATA, "%s", error);
        return false;
    }
    *out = n;
    return true;
}

bool api_form_ok(struct api_call *call)
{
    struct str bad = call->params.bad_text;
    if (!call->params.bad_escape) return true;
    if (!bad.p)
        api_error(call, API_BAD_DATA, "error parsing form values: malformed multipart body");
    else if (str_eq(bad, STR(";")))
        api_error(call, API_BAD_DATA,
                  "error parsing form values: invalid semicolon separator in query");
    else
        api_error(call, API_BAD_DATA, "error parsing form values: invalid URL escape %s",
                  api_quote(call, bad));
    return false;
}

/* --- selectors ------------------------------------------------------------------------------------- */

static bool selects_something(const struct node *root)
{
    const struct node_selector *s = NODE_AS(selector, root);
    for (size_t i = 0; i < s->n_matchers; i++)
        if (!matcher_matches_empty(&s->matchers[i])) return true;
    return false;
}

bool api_selectors_any(struct api_call *call, const char *prefix, struct api_selectors *out)
{
    *out = (struct api_selectors){0};
    out->items = ARENA_ARRAY(call->arena, struct parse_result, call->params.n + 1);
    if (!out->items) {
        arena_fail(call->arena, &call->err);
        api_error_of(call, &call->err, "");
        return false;
    }
    for (size_t i = 0; i < call->params.n; i++) {
        const struct http_param *param = &call->params.items[i];
        if (!str_eq(param->name, STR("match[]"))) continue;
        if (parse_selector(param->value, call->arena, &out->items[out->n], &call->err)) {
            if (call->err.code == ERR_LIMIT) call->err.code = ERR_INVALID;
            api_error_of(call, &call->err, prefix);
            return false;
        }
        out->n++;
    }
    return true;
}

bool api_selectors(struct api_call *call, const char *prefix, struct api_selectors *out)
{
    if (!api_selectors_any(call, prefix, out)) return false;
    for (size_t i = 0; i < out->n; i++) {
        if (selects_something(out->items[i].root)) continue;
        api_error(call, API_BAD_DATA, "%smatch[] must contain at least one non-empty matcher",
                  prefix);
        return false;
    }
    return true;
}

void api_selectors_release(struct api_selectors *selectors)
{
    for (size_t i = 0; i < selectors->n; i++) parse_release(&selectors->items[i]);
    selectors->n = 0;
}
