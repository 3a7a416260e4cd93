/* /status/tsdb: what the head holds, and which names and values hold most of it. One pass over the labels of the head's
 * series counts each pair of name and value; all lists follow from those counts. */
#include <stdlib.h>

#include "base/hash.h"
#include "engine/engine.h"
#include "query/api_private.h"
#include "query/number.h"

struct pair {
    struct str name, value;
    uint64_t n_series;
};
struct pairs {
    struct arena arena; /* budget: what a query may take */
    struct pair *slots; /* open addressing; name.p NULL: free */
    size_t n, n_slots;  /* a power of two; n <= 3/4 of it */
};

static size_t find_slot(const struct pair *slots, size_t n_slots, struct str name, struct str value)
{
    uint64_t hash = hash_xxh3(name.p, name.len) * 31 + hash_xxh3(value.p, value.len);
    size_t i = (size_t)(hash ^ hash >> 32) & (n_slots - 1);
    while (slots[i].name.p && !(str_eq(slots[i].name, name) && str_eq(slots[i].value, value)))
        i = (i + 1) & (n_slots - 1);
    return i;
}

static bool grow(struct pairs *p)
{
    size_t n_slots = p->n_slots ? 2 * p->n_slots : 1024;
    struct pair *slots = ARENA_ARRAY(&p->arena, struct pair, n_slots);
    if (!slots) return false;
    for (size_t i = 0; i < p->n_slots; i++) {
        const struct pair *old = &p->slots[i];
        if (old->name.p) slots[find_slot(slots, n_slots, old->name, old->value)] = *old;
    }
    p->slots = slots;
    p->n_slots = n_slots;
    return true;
}

static bool count_pair(struct pairs *p, const struct label *label)
{
    if (p->n >= p->n_slots / 4 * 3 && !grow(p)) return false;
    struct pair *pair = &p->slots[find_slot(p->slots, p->n_slots, label->name, label->value)];
    if (!pair->name.p) {
        *pair = (struct pair){label->name, label->value, 0};
        p->n++;
    }
    pair->n_series++;
    return true;
}

static bool count_all(const struct query_source_ops *ops, const struct source_select *select,
                      struct pairs *p)
{
    for (size_t i = 0, n = ops->count(select); i < n; i++) {
        struct labels labels = ops->labels(select, i);
        for (size_t k = 0; k < labels.n; k++)
            if (!count_pair(p, &labels.items[k])) return false;
    }
    return true;
}

/* --- lists ----------------------------------------------------------------------------------------- */

static int compare_names(const void *a, const void *b)
{
    const struct pair *x = a, *y = b;
    int c = str_cmp(x->name, y->name);
    return c ? c : str_cmp(x->value, y->value);
}

/* The largest first; of equal ones the order of names. */
static int compare_counts(const void *a, const void *b)
{
    const struct pair *x = a, *y = b;
    if (x->n_series != y->n_series) return x->n_series < y->n_series ? 1 : -1;
    return compare_names(a, b);
}

/* Occupied slots to the front, sorted by name. */
static void compact(struct pairs *p)
{
    size_t n = 0;
    for (size_t i = 0; i < p->n_slots; i++)
        if (p->slots[i].name.p) p->slots[n++] = p->slots[i];
    if (n) qsort(p->slots, n, sizeof *p->slots, compare_names);
}

static void put_top(struct buf *out, const char *key, struct pair *items, size_t n, size_t limit,
                    bool show_pair)
{
    if (n) qsort(items, n, sizeof *items, compare_counts);
    buf_printf(out, ",\"%s\":[", key);
    for (size_t i = 0; i < n && i < limit; i++) {
        struct buf name;
        buf_init(&name, MEM_QUERY);
        buf_text(&name, items[i].name);
        if (show_pair) {
            buf_u8(&name, '=');
            buf_text(&name, items[i].value);
        }
        buf_text(out, i ? STR(",{\"name\":") : STR("{\"name\":"));
        json_string_html(out, str_from_bytes(buf_bytes(&name)));
        buf_printf(out, ",\"value\":%llu}", (unsigned long long)items[i].n_series);
        buf_release(&name);
    }
    buf_u8(out, ']');
}

enum per_name { VALUES_OF_NAME, BYTES_OF_NAME };

/* One entry per label name, its number the values or their bytes. Returns how many. */
static size_t sum_names(const struct pairs *p, enum per_name what, struct pair *out)
{
    size_t n = 0;
    for (size_t i = 0; i < p->n; i++) {
        const struct pair *pair = &p->slots[i];
        if (!n || !str_eq(out[n - 1].name, pair->name))
            out[n++] = (struct pair){pair->name, STR(""), 0};
        out[n - 1].n_series +=
            what == VALUES_OF_NAME ? 1 : pair->n_series * (pair->name.len + pair->value.len);
    }
    return n;
}

static size_t take_metrics(const struct pairs *p, struct pair *out)
{
    size_t n = 0;
    for (size_t i = 0; i < p->n; i++)
        if (str_eq(p->slots[i].name, STR(LABEL_NAME)))
            out[n++] = (struct pair){p->slots[i].value, STR(""), p->slots[i].n_series};
    return n;
}

static bool put_lists(struct buf *out, struct pairs *p, size_t limit)
{
    compact(p);
    struct pair *items = ARENA_ARRAY(&p->arena, struct pair, p->n + 1);
    if (!items) return false;
    put_top(out, "seriesCountByMetricName", items, take_metrics(p, items), limit, false);
    put_top(out, "labelValueCountByLabelName", items, sum_names(p, VALUES_OF_NAME, items), limit,
            false);
    put_top(out, "memoryInBytesByLabelName", items, sum_names(p, BYTES_OF_NAME, items), limit,
            false);
    put_top(out, "seriesCountByLabelValuePair", p->slots, p->n, limit, true);
    return true;
}

/* Ours, when there are any: blocks that are missing or damaged. */
static bool put_damage(struct api_call *call)
{
    struct engine *engine = call->api->config.engine;
    struct engine_damage *items = NULL;
    struct tenant *tenant;
    size_t n = 0;
    struct err none; /* no storage of its own, or no such tenant */
    if (engine && engine_tenant(engine, call->tenant, false, &tenant, &none) == ERR_OK &&
        tenant_damage(tenant, call->arena, &items, &n, &call->err) != ERR_OK)
        return false;
    if (n == 0) return true;
    buf_text(&call->out, STR(",\"quarantinedBlocks\":["));
    for (size_t i = 0; i < n; i++) {
        const struct engine_damage *d = &items[i];
        buf_printf(&call->out,
                   "%s{\"block\":\"%s\",\"state\":\"%s\",\"minTime\":%lld,\"maxTime\":%lld,"
                   "\"numSamples\":%llu,\"foundTime\":%lld,\"reason\":",
                   i ? "," : "", d->info.ulid.text, d->left_out ? "left out" : "damaged",
                   (long long)d->info.t_min_ms, (long long)d->info.t_max_ms,
                   (unsigned long long)d->info.n_samples, (long long)d->found_ms);
        json_string_html(&call->out, d->reason);
        buf_u8(&call->out, '}');
    }
    buf_u8(&call->out, ']');
    return true;
}

static void answer(struct api_call *call, const struct tenant_stats *stats, struct pairs *p,
                   size_t limit)
{
    api_success(call);
    buf_printf(&call->out,
               "{\"headStats\":{\"numSeries\":%llu,\"numLabelPairs\":%zu,\"chunkCount\":%llu,"
               "\"minTime\":%lld,\"maxTime\":%lld}",
               (unsigned long long)stats->series_active, p->n,
               (unsigned long long)stats->head_chunks, (long long)stats->head_min_ms,
               (long long)stats->head_max_ms);
    if (!put_lists(&call->out, p, limit)) {
        arena_fail(&p->arena, &call->err);
        api_error_of(call, &call->err, "");
        return;
    }
    if (!put_damage(call)) {
        api_error_of(call, &call->err, "");
        return;
    }
    buf_u8(&call->out, '}');
    api_finish(call, NULL, STR(""));
}

static void count_and_answer(struct api_call *call, const struct tenant_stats *stats, size_t limit)
{
    struct pairs pairs = {0};
    struct source_select *select = NULL;
    const struct query_source_ops *ops = call->source->ops;
    enum err_code rc = ERR_OK;
    arena_init(&pairs.arena, MEM_QUERY, call->api->config.limits.memory_bytes_max);
    if (stats->head_min_ms <= stats->head_max_ms) /* else the head is empty */
        rc = ops->select(call->source, NULL, 0, stats->head_min_ms, stats->head_max_ms, &select,
                         &call->err);
    if (!rc && select && !count_all(ops, select, &pairs)) rc = arena_fail(&pairs.arena, &call->err);
    if (rc)
        api_error_of(call, &call->err, "");
    else
        answer(call, stats, &pairs, limit);
    if (select) ops->release(select);
    arena_release(&pairs.arena);
}

void api_on_tsdb(void *ctx, struct http_request *req)
{
    struct api_call call;
    struct tenant_stats stats;
    int64_t limit = 10;
    if (!api_begin(&call, ctx, req)) return;
    bool fine = api_one_tenant(&call) &&
                api_number(&call, "limit", "limit must be a positive number", &limit);
    if (fine && limit < 1) {
        api_error(&call, API_BAD_DATA, "limit must be a positive number");
        fine = false;
    }
    if (fine && api_source(&call)) {
        const struct query_api_backend *backend = &call.api->backend;
        bool known = backend->stats && backend->stats(backend->ctx, call.tenant, &stats);
        if (!known)
            stats = (struct tenant_stats){.head_min_ms = INT64_MAX, .head_max_ms = INT64_MIN};
        count_and_answer(&call, &stats, (size_t)limit);
    }
    api_end(&call);
}
