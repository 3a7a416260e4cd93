/* query/api_exemplars.c: /api/v1/query_exemplars: those of all series that the selectors of an expression name. */
#include "query/api_private.h"

struct selectors {
    struct arena *arena;
    struct matcher_set *items;
    size_t n, cap;
    bool failed;
};

static bool note_selector(void *ctx, struct node *node)
{
    struct selectors *s = ctx;
    if (node->kind != NODE_SELECTOR || s->failed) return true;
    const struct node_selector *selector = NODE_AS(selector, node);
    if (s->n == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 8;
        struct matcher_set *grown = ARENA_ARRAY(s->arena, struct matcher_set, cap);
        s->failed = !grown;
        if (s->failed) return false;
        if (s->n) memcpy(grown, s->items, s->n * sizeof(*grown));
        s->items = grown;
        s->cap = cap;
    }
    s->items[s->n++] = (struct matcher_set){selector->matchers, selector->n_matchers};
    return true;
}

static void print_series(struct api_call *call, const struct series_exemplars *series)
{
    struct buf *out = &call->out;
    /* In this order: Grafana reads it as it comes. */
    buf_text(out, STR("{\"seriesLabels\":"));
    json_labels(out, series->series);
    buf_text(out, STR(",\"exemplars\":["));
    for (size_t i = 0; i < series->n && api_part(call); i++) {
        const struct exemplar *e = &series->items[i];
        buf_text(out, i ? STR(",{\"labels\":") : STR("{\"labels\":"));
        json_labels(out, e->labels);
        buf_text(out, STR(",\"value\":"));
        json_value(out, e->v);
        buf_text(out, STR(",\"timestamp\":"));
        json_time(out, e->t_ms);
        buf_u8(out, '}');
    }
    buf_text(out, STR("]}"));
}

static void answer_exemplars(struct api_call *call, const struct series_exemplars *items, size_t n)
{
    api_success(call);
    buf_u8(&call->out, '[');
    for (size_t i = 0; i < n && api_part(call); i++) {
        if (i) buf_u8(&call->out, ',');
        print_series(call, &items[i]);
    }
    buf_u8(&call->out, ']');
    api_finish(call, NULL, STR(""));
}

/* An expression without a selector finds nothing; Prometheus answers 204 then, which its own client cannot read. */
static void find_exemplars(struct api_call *call, struct node *root, int64_t start_ms,
                           int64_t end_ms)
{
    struct selectors s = {.arena = call->arena};
    struct series_exemplars *items = NULL;
    size_t n = 0;
    node_walk(root, note_selector, &s);
    enum err_code rc = s.failed ? arena_fail(call->arena, &call->err) : ERR_OK;
    if (!rc && s.n && call->source->ops->exemplars)
        rc = call->source->ops->exemplars(call->source, s.items, s.n, start_ms, end_ms, call->arena,
                                          &items, &n, &call->err);
    if (rc)
        api_error_of(call, &call->err, "");
    else
        answer_exemplars(call, items, n);
}

void api_on_exemplars(void *ctx, struct http_request *req)
{
    struct api_call call;
    struct parse_result parsed;
    int64_t start_ms, end_ms;
    if (!api_begin(&call, ctx, req)) return;
    bool fine = api_optional_time(&call, "start", API_TIME_MIN, &start_ms) &&
                api_optional_time(&call, "end", API_TIME_MAX, &end_ms);
    if (fine && end_ms < start_ms) {
        api_error(&call, API_BAD_DATA, "end timestamp must not be before start timestamp");
    } else if (fine && api_parse_query(&call, "", &parsed)) {
        if (api_source(&call)) find_exemplars(&call, parsed.root, start_ms, end_ms);
        parse_release(&parsed);
    }
    api_end(&call);
}
