/* Results as JSON. A wide answer is most of what a query costs, so points go straight into the buffer, and whole numbers,
 * which counters are, past the search for the shortest digits. */
#include <math.h>

#include "query/api_private.h"
#include "query/number.h"

#define POINTS_PER_CHECK 512 /* points between two looks at how much has gathered */

/* The texts of times that many series share: a range query's steps. */
#define TIME_BYTES 32 /* the longest, and its length in the last */
struct time_texts {
    const int64_t *t_ms; /* NULL: none */
    struct buf texts;    /* TIME_BYTES each */
};

/* Makes them when there is reason to think that others have these times as well. False: print them one by one. */
static bool times_prepare(struct time_texts *times, const struct result_series *s)
{
    if (times->t_ms == s->t_ms) return true;
    if (times->t_ms) return false; /* of most series it is the grid */
    struct buf one;
    buf_init(&one, MEM_QUERY);
    for (size_t i = 0; i < s->n; i++) {
        buf_reset(&one);
        json_time(&one, s->t_ms[i]);
        uint8_t *p = buf_reserve(&times->texts, TIME_BYTES);
        if (!p || one.failed || one.len >= TIME_BYTES) break;
        memcpy(p, one.p, one.len);
        p[TIME_BYTES - 1] = (uint8_t)one.len;
        times->texts.len += TIME_BYTES;
    }
    buf_release(&one);
    if (times->texts.len == s->n * TIME_BYTES) times->t_ms = s->t_ms;
    return times->t_ms != NULL;
}

/* Room is asked for once a point: [time,"value"], */
#define FLOAT_BYTES_MAX (TIME_BYTES + NUMBER_BYTES_MAX + 8)

static bool put_floats(struct api_call *call, const struct result_series *s,
                       struct time_texts *times)
{
    bool prepared = s->n > 1 && times_prepare(times, s);
    buf_text(&call->out, STR(",\"values\":["));
    for (size_t i = 0; i < s->n; i++) {
        if (!prepared) {
            buf_u8(&call->out, '[');
            json_time(&call->out, s->t_ms[i]);
        }
        uint8_t *from = buf_reserve(&call->out, FLOAT_BYTES_MAX), *p = from;
        if (!p) return api_part(call);
        if (prepared) {
            const uint8_t *text = times->texts.p + i * TIME_BYTES;
            *p++ = '[';
            memcpy(p, text, TIME_BYTES);
            p += text[TIME_BYTES - 1];
        }
        *p++ = ',';
        *p++ = '"';
        p += number_print_value((char *)p, s->v[i]);
        *p++ = '"';
        *p++ = ']';
        if (i + 1 < s->n) *p++ = ',';
        call->out.len += (size_t)(p - from);
        if (i % POINTS_PER_CHECK == 0 && !api_part(call)) return false;
    }
    buf_u8(&call->out, ']');
    return true;
}

static bool put_points(struct api_call *call, const struct result_series *s, bool histograms)
{
    bool first = true;
    buf_text(&call->out, histograms ? STR(",\"histograms\":[") : STR(",\"values\":["));
    for (size_t i = 0; i < s->n; i++) {
        const struct histogram *h = s->h ? s->h[i] : NULL;
        if ((h != NULL) != histograms) continue;
        if (!first) buf_u8(&call->out, ',');
        first = false;
        buf_u8(&call->out, '[');
        json_time(&call->out, s->t_ms[i]);
        buf_u8(&call->out, ',');
        if (h)
            json_histogram(&call->out, h);
        else
            json_value(&call->out, s->v[i]);
        buf_u8(&call->out, ']');
        if (i % POINTS_PER_CHECK == 0 && !api_part(call)) return false;
    }
    buf_u8(&call->out, ']');
    return true;
}

static bool put_matrix_series(struct api_call *call, const struct result_series *s,
                              struct time_texts *times)
{
    size_t n_histograms = 0;
    for (size_t i = 0; s->h && i < s->n; i++) n_histograms += s->h[i] != NULL;
    buf_text(&call->out, STR("{\"metric\":"));
    json_labels(&call->out, s->labels);
    if (!n_histograms && s->n) {
        if (!put_floats(call, s, times)) return false;
        buf_u8(&call->out, '}');
        return true;
    }
    if (n_histograms < s->n && !put_points(call, s, false)) return false;
    if (n_histograms && !put_points(call, s, true)) return false;
    buf_u8(&call->out, '}');
    return true;
}

static bool put_vector_element(struct api_call *call, const struct result_series *s, int64_t t_ms)
{
    const struct histogram *h = s->h ? s->h[0] : NULL;
    buf_text(&call->out, STR("{\"metric\":"));
    json_labels(&call->out, s->labels);
    buf_text(&call->out, h ? STR(",\"histogram\":[") : STR(",\"value\":["));
    json_time(&call->out, t_ms);
    buf_u8(&call->out, ',');
    if (h)
        json_histogram(&call->out, h);
    else
        json_value(&call->out, s->v[0]);
    buf_text(&call->out, STR("]}"));
    return true;
}

static void put_series(struct api_call *call, const struct query_result *result, size_t limit)
{
    size_t n = limit ? MIN_OF(limit, result->n_series) : result->n_series;
    struct time_texts times = {0};
    buf_init(&times.texts, MEM_QUERY);
    buf_u8(&call->out, '[');
    for (size_t i = 0; i < n; i++) {
        if (i) buf_u8(&call->out, ',');
        bool fine = result->type == VALUE_MATRIX
                        ? put_matrix_series(call, &result->series[i], &times)
                        : put_vector_element(call, &result->series[i], result->t_ms);
        if (!fine || !api_part(call)) break;
    }
    buf_u8(&call->out, ']'); /* of no use, and no harm, when nobody listens any more */
    buf_release(&times.texts);
}

void api_put_result(struct api_call *call, const struct query_result *result, size_t limit)
{
    switch (result->type) {
    case VALUE_SCALAR:
    case VALUE_STRING:
        buf_printf(&call->out, "{\"resultType\":\"%s\",\"result\":[",
                   result->type == VALUE_SCALAR ? "scalar" : "string");
        json_time_short(&call->out, result->t_ms);
        buf_u8(&call->out, ',');
        if (result->type == VALUE_SCALAR)
            json_value_plain(&call->out, result->scalar);
        else
            json_string_html(&call->out, result->string);
        return buf_u8(&call->out, ']');
    case VALUE_MATRIX: buf_text(&call->out, STR("{\"resultType\":\"matrix\",\"result\":")); break;
    default: buf_text(&call->out, STR("{\"resultType\":\"vector\",\"result\":")); break;
    }
    put_series(call, result, limit);
}

/* --- how long it is --------------------------------------------------------------------------------- */

/* The shortest and the longest form of a point: [0,"1"], and [-1700000000.123,"-1.7976931348623157e+308"], */
#define POINT_BYTES_MIN 8
#define POINT_BYTES_MAX 48

static uint64_t labels_bytes(struct labels labels)
{
    uint64_t n = 0;
    for (size_t i = 0; i < labels.n; i++)
        n += labels.items[i].name.len + labels.items[i].value.len + strlen("\"\":\"\"");
    return n;
}

bool api_result_exceeds(struct api_call *call, const struct query_result *result, size_t limit,
                        uint64_t bytes_max, uint64_t *bytes)
{
    size_t n = limit ? MIN_OF(limit, result->n_series) : result->n_series;
    uint64_t least = 0, most = 64;
    bool histograms = false;
    for (size_t i = 0; i < n; i++) {
        const struct result_series *s = &result->series[i];
        uint64_t text = labels_bytes(s->labels);
        least += text + s->n * POINT_BYTES_MIN;
        most += 6 * text + s->n * POINT_BYTES_MAX + 64; /* an escaped byte takes up to six */
        histograms |= s->h != NULL;
    }
    *bytes = least;
    if (least > bytes_max) return true;
    if (most <= bytes_max && !histograms) return false;
    call->counting = true;
    api_put_result(call, result, limit);
    *bytes = call->n_sent + call->out.len;
    call->n_sent = 0;
    call->counting = false;
    buf_reset(&call->out);
    return *bytes > bytes_max;
}
