/* /api/v1/export: the samples of all series that selectors match, as lines of text (export_format.h), for another server,
 * a script or an archive. What it needs at once is the list of series, and a part of one series' samples. */
#include "query/api_private.h"
#include "query/export_format.h"

/* A series is read in parts of about so many samples: the range of time of a part doubles below the first, and halves
 * above the second. The longest range keeps a series of one sample a second below 25 MB. */
#define PART_SAMPLES_MIN 4096
#define PART_SAMPLES_MAX 65536
#define PART_RANGE_MS (6 * INT64_C(3600000))
#define PART_RANGE_MAX_MS (16 * INT64_C(86400000))
#define LINE_SAMPLES_MAX 10000
#define EMPTY_PROBE_MS INT64_C(86400000)
/* Clocks differ, and samples may be ahead of ours by as much as a server lets them. */
#define FUTURE_MS (7 * INT64_C(86400000))
#define SERIES_PER_CHECK 64

struct export_select {
    struct source_select *select; /* sorted by labels */
    size_t at, n;                 /* the next series */
};
struct export_call {
    struct api_call call;
    struct api_selectors selectors;
    struct export_select *selects;
    size_t n_selects;
    enum export_format format;
    int64_t start_ms, end_ms, range_ms; /* of a part */
    size_t line_samples;
    struct samples samples; /* of a part */
    struct arena scratch;   /* its histograms */
};

/* --- parameters ------------------------------------------------------------------------------------ */

static bool read_format(struct export_call *e)
{
    static const struct {
        const char *name, *content_type;
    } FORMATS[] = {
        [EXPORT_JSONL] = {"jsonl", "application/stream+json; charset=utf-8"},
        [EXPORT_OPENMETRICS] = {"openmetrics",
                                "application/openmetrics-text; version=1.0.0; charset=utf-8"},
        [EXPORT_PROMETHEUS] = {"prometheus", "text/plain; version=0.0.4; charset=utf-8"}};
    struct str name = http_param(&e->call.params, "format");
    size_t i = 0;
    while (name.len && i < COUNT_OF(FORMATS) && !str_eq(name, str_of(FORMATS[i].name))) i++;
    if (i == COUNT_OF(FORMATS)) {
        api_error(&e->call, API_BAD_DATA,
                  "invalid parameter \"format\": %s is none of jsonl, openmetrics, prometheus",
                  api_quote(&e->call, name));
        return false;
    }
    e->format = (enum export_format)i;
    e->call.content_type = FORMATS[i].content_type;
    return true;
}

static bool read_params(struct export_call *e)
{
    struct api_call *call = &e->call;
    int64_t rows = LINE_SAMPLES_MAX, now_ms = clock_wall_ms(call->api->env.clock);
    if (!api_form_ok(call) || !read_format(e)) return false;
    if (!api_optional_time(call, "start", 0, &e->start_ms)) return false;
    if (!api_optional_time(call, "end", now_ms + FUTURE_MS, &e->end_ms)) return false;
    if (!api_number(call, "max_rows_per_line", "invalid parameter \"max_rows_per_line\"", &rows))
        return false;
    if (rows < 1 || rows > LINE_SAMPLES_MAX) rows = LINE_SAMPLES_MAX;
    e->line_samples = (size_t)rows;
    e->start_ms = MAX_OF(e->start_ms, INT64_C(0)); /* nothing older is ever stored */
    if (!api_selectors_any(call, "", &e->selectors)) return false;
    if (e->selectors.n) return true;
    api_error(call, API_BAD_DATA, "no match[] parameter provided");
    return false;
}

/* --- which series ---------------------------------------------------------------------------------- */

static enum err_code select_one(struct export_call *e, const struct node_selector *s,
                                int64_t end_ms, struct source_select **out)
{
    struct api_call *call = &e->call;
    return call->source->ops->select(call->source, s->matchers, s->n_matchers, e->start_ms, end_ms,
                                     out, &call->err);
}

/* Moves the start to where samples may be, about: years without any would be read for each series. */
static enum err_code skip_empty(struct export_call *e, const struct node_selector *s,
                                int64_t *start_ms)
{
    const struct query_source_ops *ops = e->call.source->ops;
    int64_t low = e->start_ms, high = e->end_ms;
    while (high - low > EMPTY_PROBE_MS) {
        struct source_select *probe = NULL;
        int64_t middle = low + (high - low) / 2;
        enum err_code rc = select_one(e, s, middle, &probe);
        if (rc) return rc;
        size_t n = ops->count(probe);
        ops->release(probe);
        if (n)
            high = middle;
        else
            low = middle + 1;
    }
    *start_ms = low;
    return ERR_OK;
}

static enum err_code select_all(struct export_call *e)
{
    struct api_call *call = &e->call;
    int64_t first_ms = e->end_ms;
    e->selects = ARENA_ARRAY(call->arena, struct export_select, e->selectors.n);
    if (!e->selects) return arena_fail(call->arena, &call->err);
    for (size_t i = 0; i < e->selectors.n; i++) {
        const struct node_selector *s = NODE_AS(selector, e->selectors.items[i].root);
        struct export_select *to = &e->selects[e->n_selects];
        int64_t start_ms = e->end_ms;
        enum err_code rc = select_one(e, s, e->end_ms, &to->select);
        if (rc) return rc;
        e->n_selects++;
        to->n = call->source->ops->count(to->select);
        if (to->n) rc = skip_empty(e, s, &start_ms);
        if (rc) return rc;
        first_ms = MIN_OF(first_ms, start_ms);
    }
    e->start_ms = MAX_OF(e->start_ms, first_ms);
    return ERR_OK;
}

/* The series with the smallest labels of all that are left; others of the same labels are passed over, so that what
 * several selectors match comes once. NULL: the end. */
static struct source_select *next_series(struct export_call *e, size_t *idx, struct labels *labels)
{
    const struct query_source_ops *ops = e->call.source->ops;
    struct source_select *best = NULL;
    for (size_t k = 0; k < e->n_selects; k++) {
        struct export_select *s = &e->selects[k];
        if (s->at == s->n) continue;
        struct labels own = ops->labels(s->select, s->at);
        if (best && labels_cmp(own, *labels) >= 0) continue;
        best = s->select;
        *idx = s->at;
        *labels = own;
    }
    for (size_t k = 0; best && k < e->n_selects; k++) {
        struct export_select *s = &e->selects[k];
        if (s->at < s->n && labels_eq(ops->labels(s->select, s->at), *labels)) s->at++;
    }
    return best;
}

/* --- their samples --------------------------------------------------------------------------------- */

static enum err_code put_part(struct export_call *e, struct labels labels)
{
    struct api_call *call = &e->call;
    size_t n = e->samples.n;
    for (size_t from = 0; from < n; from += e->line_samples) {
        export_put_samples(&call->out, e->format, labels, &e->samples, from,
                           MIN_OF(n, from + e->line_samples));
        if (!api_part(call)) return err_set(&call->err, ERR_CANCELED, "the client is gone");
    }
    return ERR_OK;
}

static enum err_code put_series(struct export_call *e, struct source_select *select, size_t idx,
                                struct labels labels)
{
    struct api_call *call = &e->call;
    enum err_code rc = ERR_OK;
    for (int64_t from = e->start_ms, to; !rc && from <= e->end_ms; from = to + 1) {
        to = e->end_ms - from < e->range_ms ? e->end_ms : from + e->range_ms - 1;
        arena_reset(&e->scratch);
        samples_reset(&e->samples);
        rc = call->source->ops->read(select, idx, from, to, &e->samples, &call->err);
        if (!rc) rc = put_part(e, labels);
        if (e->samples.n < PART_SAMPLES_MIN)
            e->range_ms = MIN_OF(2 * e->range_ms, PART_RANGE_MAX_MS);
        if (e->samples.n > PART_SAMPLES_MAX)
            e->range_ms = MAX_OF(e->range_ms / 2, PART_RANGE_MS / 8);
    }
    return rc;
}

static void answer(struct export_call *e)
{
    struct api_call *call = &e->call;
    struct source_select *select;
    struct labels labels;
    size_t idx, n = 0;
    enum err_code rc = select_all(e);
    while (!rc && (select = next_series(e, &idx, &labels)) != NULL) {
        rc = put_series(e, select, idx, labels);
        if (!rc && ++n % SERIES_PER_CHECK == 0 && http_gone(call->req))
            rc = err_set(&call->err, ERR_CANCELED, "the client is gone");
    }
    if (rc) {
        api_fail(call, &call->err);
        return;
    }
    if (e->format == EXPORT_OPENMETRICS) buf_text(&call->out, STR("# EOF\n"));
    api_send(call);
}

void api_on_export(void *ctx, struct http_request *req)
{
    struct export_call e = {.range_ms = PART_RANGE_MS};
    if (!api_begin_plain(&e.call, ctx, req)) return;
    arena_init(&e.scratch, MEM_QUERY, api_limits(&e.call).memory_bytes_max);
    samples_init(&e.samples, MEM_QUERY, &e.scratch);
    if (read_params(&e) && api_source(&e.call)) answer(&e);
    for (size_t i = 0; i < e.n_selects; i++) e.call.source->ops->release(e.selects[i].select);
    api_selectors_release(&e.selectors);
    samples_release(&e.samples);
    arena_release(&e.scratch);
    api_end(&e.call);
}
