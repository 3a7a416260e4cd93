#include "tests/query/source_mem.h"

#include <stdio.h>
#include <stdlib.h>

#include "query/duration.h"
#include "query/kernel.h"
#include "query/parser.h"

struct mem_series {
    struct labels labels;
    struct samples samples;
};

struct source_mem {
    struct query_source source;
    struct arena arena;
    struct mem_series *series; /* sorted by labels before a select */
    size_t n, cap;
    bool sorted;
    size_t n_selects, n_open;
    enum err_code fail;
};

struct source_select {
    struct source_mem *m;
    size_t n;
    size_t *index;
};

static _Noreturn void bad_text(const char *what, const char *at)
{
    fprintf(stderr, "source_mem: %s at: %.60s\n", what, at);
    abort();
}

static void must(enum err_code rc, const struct err *err)
{
    if (rc) bad_text(err->text, "");
}

/* ---- the source ---- */

static int compare_series(const void *a, const void *b)
{
    const struct mem_series *x = a, *y = b;
    return labels_cmp(x->labels, y->labels);
}

static bool has_samples(const struct mem_series *s, int64_t mint_ms, int64_t maxt_ms)
{
    return s->samples.n && s->samples.t_ms[0] <= maxt_ms &&
           s->samples.t_ms[s->samples.n - 1] >= mint_ms;
}

static enum err_code mem_select(struct query_source *src, const struct matcher *matchers,
                                size_t n_matchers, int64_t mint_ms, int64_t maxt_ms,
                                struct source_select **out, struct err *err)
{
    struct source_mem *m = CONTAINER_OF(src, struct source_mem, source);
    if (!m->sorted && m->n) qsort(m->series, m->n, sizeof(*m->series), compare_series);
    m->sorted = true;
    struct source_select *sel = mem_calloc(MEM_QUERY, 1, sizeof(*sel));
    if (!sel) return err_set(err, ERR_NO_MEMORY, "no memory for a select");
    *sel = (struct source_select){.m = m, .index = mem_calloc(MEM_QUERY, m->n + 1, sizeof(size_t))};
    if (!sel->index) {
        mem_free(sel);
        return err_set(err, ERR_NO_MEMORY, "no memory for a select");
    }
    m->n_selects++;
    m->n_open++;
    for (size_t i = 0; i < m->n; i++)
        if (has_samples(&m->series[i], mint_ms, maxt_ms) &&
            matchers_match_labels(matchers, n_matchers, m->series[i].labels))
            sel->index[sel->n++] = i;
    *out = sel;
    return ERR_OK;
}

static size_t mem_count(const struct source_select *sel)
{
    return sel->n;
}

static struct labels mem_labels(const struct source_select *sel, size_t i)
{
    return sel->m->series[sel->index[i]].labels;
}

static enum err_code mem_read(struct source_select *sel, size_t i, int64_t mint_ms, int64_t maxt_ms,
                              struct samples *out, struct err *err)
{
    if (sel->m->fail) return err_set(err, sel->m->fail, "a read failed, as asked for");
    const struct samples *in = &sel->m->series[sel->index[i]].samples;
    for (size_t k = 0; k < in->n; k++) {
        if (in->t_ms[k] < mint_ms || in->t_ms[k] > maxt_ms) continue;
        struct histogram *h = NULL;
        enum err_code rc = ERR_OK;
        if (in->h && in->h[k]) rc = histogram_copy(out->arena, in->h[k], &h, err);
        if (!rc) rc = samples_push(out, in->t_ms[k], in->v[k], h, err);
        if (!rc && in->st_ms && in->st_ms[k]) {
            rc = samples_want_start_times(out, err);
            if (!rc) out->st_ms[out->n - 1] = in->st_ms[k];
        }
        if (rc) return rc;
    }
    return ERR_OK;
}

static enum err_code mem_read_last(struct source_select *sel, size_t i, int64_t mint_ms,
                                   int64_t maxt_ms, struct samples *out, struct err *err)
{
    const struct samples *in = &sel->m->series[sel->index[i]].samples;
    size_t k = in->n;
    while (k > 0 && in->t_ms[k - 1] > maxt_ms) k--;
    if (!k || in->t_ms[k - 1] < mint_ms) return ERR_OK;
    return mem_read(sel, i, in->t_ms[k - 1], in->t_ms[k - 1], out, err);
}

static void mem_release(struct source_select *sel)
{
    sel->m->n_open--;
    mem_free(sel->index);
    mem_free(sel);
}

static const struct query_source_ops OPS = {.select = mem_select,
                                            .count = mem_count,
                                            .labels = mem_labels,
                                            .read = mem_read,
                                            .read_last = mem_read_last,
                                            .release = mem_release};

struct source_mem *source_mem_new(void)
{
    struct source_mem *m = mem_calloc(MEM_QUERY, 1, sizeof(*m));
    if (!m) abort();
    m->source.ops = &OPS;
    arena_init(&m->arena, MEM_QUERY, 0);
    return m;
}

void source_mem_clear(struct source_mem *m)
{
    for (size_t i = 0; i < m->n; i++) samples_release(&m->series[i].samples);
    m->n = 0;
    arena_release(&m->arena);
}

void source_mem_free(struct source_mem *m)
{
    source_mem_clear(m);
    mem_free(m->series);
    mem_free(m);
}

struct query_source *source_mem_source(struct source_mem *m)
{
    return &m->source;
}
size_t source_mem_selects(const struct source_mem *m)
{
    return m->n_selects;
}
size_t source_mem_open(const struct source_mem *m)
{
    return m->n_open;
}
void source_mem_fail_reads(struct source_mem *m, enum err_code code)
{
    m->fail = code;
}

/* ---- filling it ---- */

static struct mem_series *find_series(struct source_mem *m, struct labels labels)
{
    for (size_t i = 0; i < m->n; i++)
        if (labels_eq(m->series[i].labels, labels)) return &m->series[i];
    struct err err;
    void *items = m->series;
    must(mem_grow(MEM_QUERY, &items, &m->cap, m->n + 1, sizeof(*m->series), &err), &err);
    m->series = items;
    m->sorted = false;
    struct mem_series *s = &m->series[m->n++];
    must(labels_copy(&m->arena, labels, &s->labels, &err), &err);
    samples_init(&s->samples, MEM_QUERY, &m->arena);
    return s;
}

static void push(struct source_mem *m, struct mem_series *s, int64_t t_ms, double v,
                 const struct histogram *h, int64_t start_ms)
{
    struct err err;
    struct histogram *copy = NULL;
    if (h) must(histogram_copy(&m->arena, h, &copy, &err), &err);
    must(samples_push(&s->samples, t_ms, h ? h->sum : v, copy, &err), &err);
    if (!start_ms) return;
    must(samples_want_start_times(&s->samples, &err), &err);
    s->samples.st_ms[s->samples.n - 1] = start_ms;
}

void source_mem_push(struct source_mem *m, struct labels labels, int64_t t_ms, double v,
                     const struct histogram *h, int64_t start_ms)
{
    push(m, find_series(m, labels), t_ms, v, h, start_ms);
}

void source_mem_adopt(struct source_mem *m, const struct source_mem *from)
{
    for (size_t i = 0; i < from->n; i++) {
        const struct samples *in = &from->series[i].samples;
        struct mem_series *s = find_series(m, from->series[i].labels);
        if (s->samples.n) continue;
        for (size_t k = 0; k < in->n; k++)
            push(m, s, in->t_ms[k], in->v[k], in->h ? in->h[k] : NULL,
                 in->st_ms ? in->st_ms[k] : 0);
    }
}

static struct labels parse_labels(struct source_mem *m, struct str text)
{
    struct parse_result parsed;
    struct err err;
    must(parse_selector(text, &m->arena, &parsed, &err), &err);
    const struct node_selector *sel = NODE_AS(selector, parsed.root);
    struct label *items = ARENA_ARRAY(&m->arena, struct label, sel->n_matchers);
    for (size_t i = 0; i < sel->n_matchers; i++)
        items[i] = (struct label){sel->matchers[i].name, sel->matchers[i].value};
    if (!labels_sort(items, sel->n_matchers)) bad_text("a label twice", text.p);
    struct labels labels = {items, sel->n_matchers};
    parse_release(&parsed);
    return labels;
}

/* name:[1 2 3] */
static size_t parse_list(const char *p, const char *end, double *out, size_t max)
{
    size_t n = 0;
    if (*p != '[') bad_text("no list", p);
    for (p++; p < end && *p != ']';) {
        char *next;
        double v = strtod(p, &next);
        if (next == p) break;
        if (n == max) bad_text("too long a list", p);
        out[n++] = v;
        p = next;
        while (*p == ' ') p++;
    }
    return n;
}

#define LIST_MAX 64
struct histogram_text {
    struct histogram h;
    double pos[LIST_MAX], neg[LIST_MAX], bounds[LIST_MAX];
    struct histogram_span pos_span, neg_span;
};

static bool field_is(const char *p, const char *name, const char **value)
{
    size_t n = strlen(name);
    if (strncmp(p, name, n) != 0 || p[n] != ':') return false;
    *value = p + n + 1;
    return true;
}

static void parse_histogram(const char *p, const char *end, struct histogram_text *out)
{
    *out = (struct histogram_text){0};
    struct histogram *h = &out->h;
    while (p < end) {
        const char *v = p;
        if (*p == ' ') {
            p++;
            continue;
        }
        if (field_is(p, "schema", &v)) h->schema = (int32_t)strtol(v, NULL, 10);
        if (field_is(p, "count", &v)) h->count = strtod(v, NULL);
        if (field_is(p, "sum", &v)) h->sum = strtod(v, NULL);
        if (field_is(p, "z_bucket", &v)) h->zero_count = strtod(v, NULL);
        if (field_is(p, "z_bucket_w", &v)) h->zero_threshold = strtod(v, NULL);
        if (field_is(p, "offset", &v)) out->pos_span.offset = (int32_t)strtol(v, NULL, 10);
        if (field_is(p, "n_offset", &v)) out->neg_span.offset = (int32_t)strtol(v, NULL, 10);
        if (field_is(p, "buckets", &v)) h->n_pos = (uint32_t)parse_list(v, end, out->pos, LIST_MAX);
        if (field_is(p, "n_buckets", &v))
            h->n_neg = (uint32_t)parse_list(v, end, out->neg, LIST_MAX);
        if (field_is(p, "custom_values", &v))
            h->n_bounds = (uint32_t)parse_list(v, end, out->bounds, LIST_MAX);
        if (field_is(p, "counter_reset_hint", &v) && strncmp(v, "gauge", 5) == 0)
            h->reset_hint = HISTOGRAM_RESET_GAUGE;
        bool in_list = false;
        while (p < end && (*p != ' ' || in_list)) {
            if (*p == '[') in_list = true;
            if (*p == ']') in_list = false;
            p++;
        }
    }
    out->pos_span.length = h->n_pos;
    out->neg_span.length = h->n_neg;
    h->pos = out->pos;
    h->neg = out->neg;
    h->pos_spans = &out->pos_span;
    h->neg_spans = &out->neg_span;
    h->n_pos_spans = h->n_pos > 0;
    h->n_neg_spans = h->n_neg > 0;
    h->bounds = h->n_bounds ? out->bounds : NULL;
}

struct line {
    struct source_mem *m;
    struct mem_series *series;
    int64_t interval_ms;
    int64_t index; /* of the next value */
};

static long parse_times(const char **p)
{
    if (**p != 'x') return -1;
    char *end;
    long n = strtol(*p + 1, &end, 10);
    *p = end;
    return n;
}

static void put(struct line *l, double v, const struct histogram *h)
{
    push(l->m, l->series, l->index++ * l->interval_ms, v, h, 0);
}

static const char *parse_value(struct line *l, const char *p)
{
    if (*p == '_') {
        p++;
        long n = parse_times(&p);
        l->index += n < 0 ? 1 : n;
        return p;
    }
    if (strncmp(p, "{{", 2) == 0) {
        const char *end = strstr(p, "}}");
        struct histogram_text h;
        if (!end) bad_text("histogram without end", p);
        parse_histogram(p + 2, end, &h);
        p = end + 2;
        long n = parse_times(&p);
        for (long i = 0; i <= MAX_OF(n, 0); i++) put(l, 0, &h.h);
        return p;
    }
    bool stale = strncmp(p, "stale", 5) == 0;
    char *end = NULL;
    double v = stale ? stale_nan() : strtod(p, &end), step = 0;
    const char *next = stale ? p + 5 : end;
    if (next == p) bad_text("no value", p);
    p = next;
    if (*p == '+' || *p == '-') {
        step = strtod(p, &end);
        p = end;
    }
    long n = parse_times(&p);
    put(l, v, NULL);
    for (long i = 0; i < n; i++) {
        if (!stale) v += step;
        put(l, v, NULL);
    }
    return p;
}

static void parse_line(struct source_mem *m, int64_t interval_ms, const char *p, const char *end)
{
    const char *name_end = p;
    bool in_braces = false;
    while (name_end < end && (in_braces || *name_end != ' ')) {
        if (*name_end == '{') in_braces = true;
        if (*name_end == '}') in_braces = false;
        name_end++;
    }
    struct labels labels = parse_labels(m, (struct str){p, (size_t)(name_end - p)});
    struct line line = {m, find_series(m, labels), interval_ms, 0};
    for (p = name_end; p < end;) {
        if (*p == ' ')
            p++;
        else
            p = parse_value(&line, p);
    }
}

void source_mem_load(struct source_mem *m, const char *text)
{
    int64_t interval_ms = 0;
    for (const char *p = text; *p;) {
        const char *end = strchr(p, '\n');
        if (!end) end = p + strlen(p);
        while (p < end && *p == ' ') p++;
        if (strncmp(p, "load ", 5) == 0) {
            struct str unit;
            struct str d = {p + 5, (size_t)(end - p) - 5};
            if (duration_parse_literal(d, &interval_ms, &unit) != DURATION_OK)
                bad_text("no duration", p);
        } else if (p < end) {
            if (!interval_ms) bad_text("no load", p);
            parse_line(m, interval_ms, p, end);
        }
        p = *end ? end + 1 : end;
    }
}
