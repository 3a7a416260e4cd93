/* /federate: the newest sample of each series that a selector matches, as a Prometheus scrapes it.
 *
 * Prometheus's rules: a sample counts if it is within the lookback; a series that ended is left out; a series without
 * `instance` says instance="", so that a reader that honours labels does not put its own there. */
#include <stdlib.h>

#include "query/api_private.h"
#include "query/exposition.h"

struct federate_item {
    struct str name;
    struct labels labels;
    struct source_select *select;
    size_t idx; /* in the select */
};

struct federate {
    struct api_call call;
    struct expo_format format;
    struct source_select **selects; /* one per selector */
    size_t n_selects;
    struct federate_item *items; /* sorted by name, then labels */
    size_t n, cap;
    int64_t now_ms, since_ms;

    /* The family being written; `family` holds it when it is a message */
    struct buf family;
    struct str name;
    enum expo_family type;
    bool open;
    struct samples samples; /* of one series */
    struct arena scratch;   /* likewise */
};
/* A family with more than this is written as several messages. */
#define FAMILY_BYTES (1u << 20)
#define ITEMS_PER_CHECK 256 /* series between two looks at whether somebody still wants them */

/* --- series ---------------------------------------------------------------------------------------- */

static enum err_code collect(struct federate *f, struct source_select *select)
{
    struct api_call *call = &f->call;
    const struct query_source_ops *ops = call->source->ops;
    size_t n = ops->count(select);
    if (f->n + n > f->cap) {
        size_t cap = MAX_OF(f->n + n, 2 * f->cap);
        struct federate_item *items = ARENA_ARRAY(call->arena, struct federate_item, cap);
        if (!items) return arena_fail(call->arena, &call->err);
        if (f->n) memcpy(items, f->items, f->n * sizeof(*items));
        f->items = items;
        f->cap = cap;
    }
    for (size_t i = 0; i < n; i++) {
        struct labels labels = ops->labels(select, i);
        struct str name = labels_get(labels, STR(LABEL_NAME));
        if (name.len) f->items[f->n++] = (struct federate_item){name, labels, select, i};
    }
    return ERR_OK;
}

static enum err_code select_all(struct federate *f, const struct api_selectors *selectors)
{
    struct api_call *call = &f->call;
    const struct query_source_ops *ops = call->source->ops;
    f->selects = ARENA_ARRAY(call->arena, struct source_select *, selectors->n + 1);
    if (!f->selects) return arena_fail(call->arena, &call->err);
    api_warn_missing(call, f->since_ms, f->now_ms);
    for (size_t i = 0; i < selectors->n; i++) {
        const struct node_selector *s = NODE_AS(selector, selectors->items[i].root);
        if (!s->n_matchers) continue; /* {} finds nothing here, as with Prometheus */
        struct source_select **select = &f->selects[f->n_selects];
        enum err_code rc = ops->select(call->source, s->matchers, s->n_matchers, f->since_ms,
                                       f->now_ms, select, &call->err);
        if (rc) return rc;
        f->n_selects++;
        rc = collect(f, *select);
        if (rc) return rc;
    }
    return ERR_OK;
}

static int compare_items(const void *a, const void *b)
{
    const struct federate_item *x = a, *y = b;
    int c = str_cmp(x->name, y->name);
    return c ? c : labels_cmp(x->labels, y->labels);
}

/* A series that several selectors match comes once. */
static void sort_unique(struct federate *f)
{
    if (!f->n) return;
    qsort(f->items, f->n, sizeof(*f->items), compare_items);
    size_t n = 1;
    for (size_t i = 1; i < f->n; i++)
        if (!labels_eq(f->items[i].labels, f->items[n - 1].labels)) f->items[n++] = f->items[i];
    f->n = n;
}

/* --- the answer ------------------------------------------------------------------------------------ */

/* Message formats: what has gathered of the family, with its length. */
static void flush_family(struct federate *f)
{
    if (f->open && f->format.protobuf) {
        buf_varint(&f->call.out, f->family.len);
        buf_put(&f->call.out, f->family.p, f->family.len);
        f->call.out.failed |= f->family.failed;
        buf_reset(&f->family);
    }
    f->open = false;
}

static enum expo_family type_of(const struct histogram *h)
{
    if (!h) return EXPO_UNTYPED;
    return h->reset_hint == HISTOGRAM_RESET_GAUGE ? EXPO_GAUGE_HISTOGRAM : EXPO_HISTOGRAM;
}

static void begin_family(struct federate *f, struct str name, enum expo_family type)
{
    bool same = f->open && f->type == type && str_eq(f->name, name);
    if (same && f->family.len < FAMILY_BYTES) return;
    flush_family(f);
    f->name = name;
    f->type = type;
    f->open = true;
    if (f->format.protobuf)
        expo_pb_family(&f->family, name, type, f->format.escaping);
    else
        expo_text_type(&f->call.out, name, f->format.escaping);
}

/* The labels as they are written, in the scratch arena: without the name, with `instance`. */
static enum err_code own_labels(struct federate *f, struct labels in, struct labels *out)
{
    struct label *items = ARENA_ARRAY(&f->scratch, struct label, in.n + 1);
    bool has_instance = false;
    size_t n = 0;
    if (!items) return arena_fail(&f->scratch, &f->call.err);
    for (size_t i = 0; i < in.n; i++) {
        has_instance |= str_eq(in.items[i].name, STR("instance"));
        if (!str_eq(in.items[i].name, STR(LABEL_NAME))) items[n++] = in.items[i];
    }
    if (!has_instance) items[n++] = (struct label){STR("instance"), STR("")};
    *out = (struct labels){items, n};
    return ERR_OK;
}

/* Can the format say it? Text has no native histograms, and neither form the custom bounds. */
static bool can_say(const struct federate *f, const struct histogram *h)
{
    return !h || (f->format.protobuf && h->schema != HISTOGRAM_SCHEMA_CUSTOM);
}

static enum err_code put_item(struct federate *f, const struct federate_item *item)
{
    struct api_call *call = &f->call;
    const struct query_source_ops *ops = call->source->ops;
    struct expo_sample s = {.name = item->name};
    arena_reset(&f->scratch);
    samples_reset(&f->samples);
    enum err_code rc = (ops->read_last ? ops->read_last : ops->read)(
        item->select, item->idx, f->since_ms, f->now_ms, &f->samples, &call->err);
    if (rc || !f->samples.n) return rc;
    size_t last = f->samples.n - 1;
    s.t_ms = f->samples.t_ms[last];
    s.v = f->samples.v[last];
    s.h = f->samples.h ? f->samples.h[last] : NULL;
    if (is_stale_nan(s.v) || !can_say(f, s.h)) return ERR_OK;
    rc = own_labels(f, item->labels, &s.labels);
    if (rc) return rc;
    begin_family(f, s.name, type_of(s.h));
    if (f->format.protobuf)
        expo_pb_sample(&f->family, &s, f->format.escaping);
    else
        expo_text_sample(&call->out, &s, f->format.escaping);
    return ERR_OK;
}

static void answer(struct federate *f)
{
    struct api_call *call = &f->call;
    struct query_limits limits = api_limits(call);
    enum err_code rc = ERR_OK;
    samples_init(&f->samples, MEM_QUERY, &f->scratch);
    arena_init(&f->scratch, MEM_QUERY, limits.memory_bytes_max);
    buf_init(&f->family, MEM_QUERY);
    for (size_t i = 0; !rc && i < f->n; i++) {
        rc = put_item(f, &f->items[i]);
        if (!api_part(call)) break;
        if (i % ITEMS_PER_CHECK == 0 && http_gone(call->req))
            rc = err_set(&call->err, ERR_CANCELED, "the client is gone");
    }
    flush_family(f);
    if (rc)
        api_fail(call, &call->err);
    else
        api_send(call);
    buf_release(&f->family);
    samples_release(&f->samples);
    arena_release(&f->scratch);
}

void api_on_federate(void *ctx, struct http_request *req)
{
    struct federate f = {0};
    struct api_selectors selectors = {0};
    if (!api_begin_plain(&f.call, ctx, req)) return;
    if (api_form_ok(&f.call) && api_selectors_any(&f.call, "", &selectors) && api_source(&f.call)) {
        f.format = expo_negotiate(http_header(req, "Accept", NULL));
        f.call.content_type = expo_content_type(f.format);
        f.now_ms = clock_wall_ms(f.call.api->env.clock);
        f.since_ms = f.now_ms - api_limits(&f.call).lookback_ms;
        if (select_all(&f, &selectors)) {
            api_fail(&f.call, &f.call.err);
        } else {
            sort_unique(&f);
            answer(&f);
        }
        for (size_t i = 0; i < f.n_selects; i++) f.call.source->ops->release(f.selects[i]);
    }
    api_selectors_release(&selectors);
    api_end(&f.call);
}
