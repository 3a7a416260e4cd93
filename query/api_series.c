/* /series, /labels, /label/<name>/values, /metadata */
#include <stdlib.h>

#include "query/api_private.h"
#include "query/lexer.h"

static const char LIMIT_WARNING[] = "results truncated due to limit";

struct time_range {
    int64_t start_ms, end_ms;
};

static void finish(struct api_call *call, const struct time_range *range, bool truncated)
{
    struct notes notes;
    notes_init(&notes, call->arena);
    if (truncated) notes_add_plain(&notes, NOTE_WARNING, LIMIT_WARNING);
    api_note_missing(call, range->start_ms, range->end_ms, &notes);
    api_finish(call, &notes, STR(""));
}

static bool read_range(struct api_call *call, struct time_range *out)
{
    return api_optional_time(call, "start", API_TIME_MIN, &out->start_ms) &&
           api_optional_time(call, "end", API_TIME_MAX, &out->end_ms);
}

static bool read_want(struct api_call *call, struct label_want *want)
{
    want->search = http_param(&call->params, "search");
    if (!want->search.p) want->search = STR("");
    return api_limit(call, &want->limit);
}

/* --- series ---------------------------------------------------------------------------------------- */

struct series_set {
    struct source_select **selects; /* one per selector */
    size_t n_selects;
    struct labels *items;
    size_t n, cap;
};

static enum err_code collect(struct api_call *call, const struct source_select *select,
                             struct series_set *set)
{
    const struct query_source_ops *ops = call->source->ops;
    size_t n = ops->count(select);
    if (set->n + n > set->cap) {
        size_t cap = MAX_OF(set->n + n, 2 * set->cap);
        struct labels *items = ARENA_ARRAY(call->arena, struct labels, cap);
        if (!items) return arena_fail(call->arena, &call->err);
        if (set->n) memcpy(items, set->items, set->n * sizeof *items);
        set->items = items;
        set->cap = cap;
    }
    for (size_t i = 0; i < n; i++) set->items[set->n++] = ops->labels(select, i);
    return ERR_OK;
}

static enum err_code select_all(struct api_call *call, const struct api_selectors *selectors,
                                const struct time_range *range, struct series_set *set)
{
    const struct query_source_ops *ops = call->source->ops;
    set->selects = ARENA_ARRAY(call->arena, struct source_select *, selectors->n + 1);
    if (!set->selects) return arena_fail(call->arena, &call->err);
    for (size_t i = 0; i < selectors->n; i++) {
        const struct node_selector *s = NODE_AS(selector, selectors->items[i].root);
        struct source_select **select = &set->selects[i];
        enum err_code rc = ops->select(call->source, s->matchers, s->n_matchers, range->start_ms,
                                       range->end_ms, select, &call->err);
        if (rc) return rc;
        set->n_selects = i + 1;
        if (selectors->n == 1) set->n = ops->count(*select);
        rc = selectors->n > 1 ? collect(call, *select, set) : ERR_OK;
        if (rc) return rc;
        if (http_gone(call->req)) return err_set(&call->err, ERR_CANCELED, "the client is gone");
    }
    return ERR_OK;
}

static int compare_labels(const void *a, const void *b)
{
    return labels_cmp(*(const struct labels *)a, *(const struct labels *)b);
}

/* A series that several selectors match comes once. */
static void sort_unique_series(struct series_set *set)
{
    if (set->n_selects < 2 || !set->n) return; /* each select is sorted already */
    qsort(set->items, set->n, sizeof *set->items, compare_labels);
    size_t n = 1;
    for (size_t i = 1; i < set->n; i++)
        if (!labels_eq(set->items[i], set->items[n - 1])) set->items[n++] = set->items[i];
    set->n = n;
}

/* A series is wanted if one of its values is. */
static bool series_wanted(const struct label_want *want, struct labels labels)
{
    if (!want->search.len) return true;
    for (size_t i = 0; i < labels.n; i++)
        if (label_wanted(want, labels.items[i].value)) return true;
    return false;
}

/* The labels of one selector's series are not looked at before they are written, nor behind the last one. */
static struct labels series_at(const struct api_call *call, const struct series_set *set, size_t i)
{
    return set->n_selects == 1 ? call->source->ops->labels(set->selects[0], i) : set->items[i];
}

static void put_series(struct api_call *call, const struct series_set *set,
                       const struct time_range *range, const struct label_want *want)
{
    size_t n_put = 0;
    bool truncated = false;
    api_success(call);
    buf_u8(&call->out, '[');
    for (size_t i = 0; i < set->n && !truncated; i++) {
        struct labels labels = series_at(call, set, i);
        if (!series_wanted(want, labels)) continue;
        truncated = want->limit && n_put == want->limit;
        if (truncated) break;
        if (n_put++) buf_u8(&call->out, ',');
        json_labels(&call->out, labels);
        if (!api_part(call)) break;
    }
    buf_u8(&call->out, ']');
    finish(call, range, truncated);
}

static void answer_series(struct api_call *call, const struct api_selectors *selectors,
                          const struct time_range *range, const struct label_want *want)
{
    struct series_set set = {0};
    enum err_code rc = ERR_OK;
    if (range->start_ms <= range->end_ms) rc = select_all(call, selectors, range, &set);
    if (rc) {
        api_error_of(call, &call->err, "");
    } else {
        sort_unique_series(&set);
        put_series(call, &set, range, want);
    }
    for (size_t i = 0; i < set.n_selects; i++) call->source->ops->release(set.selects[i]);
}

static bool has_match(const struct api_call *call)
{
    for (size_t i = 0; i < call->params.n; i++)
        if (str_eq(call->params.items[i].name, STR("match[]"))) return true;
    return false;
}

void api_on_series(void *ctx, struct http_request *req)
{
    static const char PREFIX[] = "invalid parameter \"match[]\": ";
    struct api_call call;
    struct api_selectors selectors = {0};
    struct time_range range;
    struct label_want want;
    if (!api_begin(&call, ctx, req)) return;
    bool fine = api_form_ok(&call);
    if (fine && !has_match(&call)) {
        api_error(&call, API_BAD_DATA, "no match[] parameter provided");
        fine = false;
    }
    if (fine && read_want(&call, &want) && read_range(&call, &range) &&
        api_selectors(&call, PREFIX, &selectors) && api_source(&call))
        answer_series(&call, &selectors, &range, &want);
    api_selectors_release(&selectors);
    api_end(&call);
}

void api_on_series_delete(void *ctx, struct http_request *req)
{
    struct api_call call;
    if (!api_begin(&call, ctx, req)) return;
    api_error(&call, API_INTERNAL, "not implemented");
    api_end(&call);
}

/* --- label names and values ------------------------------------------------------------------------ */

struct strings {
    struct str *items;
    size_t n;
    bool truncated;
};

/* Names when `name` is empty, else the values of that label. */
static enum err_code read_strings(struct api_call *call, struct str name,
                                  const struct node_selector *s, const struct time_range *range,
                                  const struct label_want *want, struct strings *out)
{
    const struct query_source_ops *ops = call->source->ops;
    const struct matcher *matchers = s ? s->matchers : NULL;
    size_t n_matchers = s ? s->n_matchers : 0;
    if (name.len)
        return ops->label_values(call->source, name, matchers, n_matchers, range->start_ms,
                                 range->end_ms, want, call->arena, &out->items, &out->n,
                                 &out->truncated, &call->err);
    return ops->label_names(call->source, matchers, n_matchers, range->start_ms, range->end_ms,
                            want, call->arena, &out->items, &out->n, &out->truncated, &call->err);
}

static int compare_str(const void *a, const void *b)
{
    return str_cmp(*(const struct str *)a, *(const struct str *)b);
}

static enum err_code append(struct api_call *call, struct strings *to, const struct strings *from)
{
    size_t n = to->n + from->n;
    struct str *items = ARENA_ARRAY(call->arena, struct str, n + 1);
    if (!items) return arena_fail(call->arena, &call->err);
    if (to->n) memcpy(items, to->items, to->n * sizeof *items);
    if (from->n) memcpy(items + to->n, from->items, from->n * sizeof *items);
    to->items = items;
    to->n = n;
    return ERR_OK;
}

static enum err_code read_union(struct api_call *call, struct str name,
                                const struct api_selectors *selectors,
                                const struct time_range *range, const struct label_want *want,
                                struct strings *out)
{
    /* The first ones of the union are among the first ones of each; one more shows that there are more. */
    struct label_want each = {want->limit ? want->limit + 1 : 0, want->search};
    for (size_t i = 0; i < selectors->n; i++) {
        struct strings one = {0};
        const struct node_selector *s = NODE_AS(selector, selectors->items[i].root);
        enum err_code rc = read_strings(call, name, s, range, &each, &one);
        if (!rc) rc = append(call, out, &one);
        if (rc) return rc;
    }
    if (!out->n) return ERR_OK;
    qsort(out->items, out->n, sizeof *out->items, compare_str);
    size_t n = 1;
    for (size_t i = 1; i < out->n; i++)
        if (!str_eq(out->items[i], out->items[n - 1])) out->items[n++] = out->items[i];
    out->truncated = want->limit && n > want->limit;
    out->n = out->truncated ? want->limit : n;
    return ERR_OK;
}

static void answer_strings(struct api_call *call, struct str name,
                           const struct api_selectors *selectors, const struct time_range *range,
                           const struct label_want *want)
{
    struct strings list = {0};
    enum err_code rc = ERR_OK;
    if (range->start_ms > range->end_ms)
        rc = ERR_OK; /* nothing is in there */
    else if (selectors->n > 1)
        rc = read_union(call, name, selectors, range, want, &list);
    else
        rc = read_strings(call, name,
                          selectors->n ? NODE_AS(selector, selectors->items[0].root) : NULL, range,
                          want, &list);
    if (rc) {
        api_error_of(call, &call->err, "");
        return;
    }
    api_success(call);
    buf_u8(&call->out, '[');
    for (size_t i = 0; i < list.n; i++) {
        if (i) buf_u8(&call->out, ',');
        json_string_html(&call->out, list.items[i]);
        if (!api_part(call)) break;
    }
    buf_u8(&call->out, ']');
    finish(call, range, list.truncated);
}

static void on_strings(struct api_call *call, struct str name)
{
    struct api_selectors selectors = {0};
    struct time_range range;
    struct label_want want;
    if (read_want(call, &want) && read_range(call, &range) && api_selectors(call, "", &selectors) &&
        api_source(call))
        answer_strings(call, name, &selectors, &range, &want);
    api_selectors_release(&selectors);
}

void api_on_labels(void *ctx, struct http_request *req)
{
    struct api_call call;
    if (!api_begin(&call, ctx, req)) return;
    on_strings(&call, STR(""));
    api_end(&call);
}

/* "2e_": up to six hexadecimal digits and the closing underscore */
static bool unescape_rune(struct str in, size_t *i, struct buf *out)
{
    uint32_t rune = 0;
    for (unsigned n = 0; *i < in.len && n < 7; n++, (*i)++) {
        char c = in.p[*i];
        if (c == '_') {
            (*i)++;
            if (!n || !rune_valid(rune)) return false;
            rune_put(rune, out);
            return true;
        }
        char lower = (char)(c | 0x20);
        bool digit = c >= '0' && c <= '9', hex = lower >= 'a' && lower <= 'f';
        if ((!digit && !hex) || n == 6) return false;
        rune = rune * 16 + (uint32_t)(digit ? c - '0' : lower - 'a' + 10);
    }
    return false;
}

/* U__a_2e_b stands for a.b: names that cannot travel in a path. A malformed one stands for itself. */
static struct str unescape_name(struct api_call *call, struct str name)
{
    static const struct str PREFIX = STR("U__");
    struct buf out;
    bool fine = str_has_prefix(name, PREFIX);
    if (!fine) return name;
    buf_init(&out, MEM_QUERY);
    for (size_t i = PREFIX.len; fine && i < name.len;) {
        char c = name.p[i++];
        bool escape = c == '_';
        bool doubled = escape && i < name.len && name.p[i] == '_';
        if (doubled) i++;
        if (escape && !doubled)
            fine = unescape_rune(name, &i, &out);
        else
            buf_u8(&out, (uint8_t)c);
    }
    struct str kept = fine ? arena_str(call->arena, str_from_bytes(buf_bytes(&out))) : name;
    buf_release(&out);
    return kept.p ? kept : name;
}

void api_on_label_values(void *ctx, struct http_request *req)
{
    struct api_call call;
    struct str name;
    if (!api_begin(&call, ctx, req)) return;
    if (!http_unescape_path(req->label, call.arena, &name)) name = req->label;
    name = unescape_name(&call, name);
    if (name.len && utf8_valid(name))
        on_strings(&call, name);
    else
        api_error(&call, API_BAD_DATA, "invalid label name: %s", api_quote(&call, name));
    api_end(&call);
}

/* --- metadata -------------------------------------------------------------------------------------- */

static void put_metadata(struct buf *out, const struct source_metadata *m)
{
    buf_text(out, STR("{\"type\":"));
    json_string_html(out, m->type.len ? m->type : STR("unknown"));
    buf_text(out, STR(",\"unit\":"));
    json_string_html(out, m->unit);
    buf_text(out, STR(",\"help\":"));
    json_string_html(out, m->help);
    buf_u8(out, '}');
}

/* Entries of one family stand together. limits below 0: none */
static void answer_metadata(struct api_call *call, const struct source_metadata *items, size_t n,
                            int64_t limit, int64_t per_metric)
{
    api_success(call);
    buf_u8(&call->out, '{');
    for (size_t i = 0, n_families = 0; i < n; n_families++) {
        if (limit >= 0 && n_families >= (uint64_t)limit) break;
        struct str family = items[i].family;
        if (n_families) buf_u8(&call->out, ',');
        json_string_html(&call->out, family);
        buf_text(&call->out, STR(":["));
        for (int64_t k = 0; i < n && str_eq(items[i].family, family); i++, k++) {
            if (per_metric > 0 && k >= per_metric) continue;
            if (k) buf_u8(&call->out, ',');
            put_metadata(&call->out, &items[i]);
        }
        buf_u8(&call->out, ']');
        if (!api_part(call)) break;
    }
    buf_u8(&call->out, '}');
    api_finish(call, NULL, STR(""));
}

void api_on_metadata(void *ctx, struct http_request *req)
{
    struct api_call call;
    int64_t limit = -1, per_metric = -1;
    struct source_metadata *items;
    size_t n;
    if (!api_begin(&call, ctx, req)) return;
    if (api_number(&call, "limit", "limit must be a number", &limit) &&
        api_number(&call, "limit_per_metric", "limit_per_metric must be a number", &per_metric) &&
        api_source(&call)) {
        struct str family = http_param(&call.params, "metric");
        if (!family.p) family = STR("");
        if (call.source->ops->metadata(call.source, family, call.arena, &items, &n, &call.err))
            api_error_of(&call, &call.err, "");
        else
            answer_metadata(&call, items, n, limit, per_metric);
    }
    api_end(&call);
}
