/* query/active.c: see the header. */
#include "query/active.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "query/json.h"
#include "query/number.h"

static struct str cut(struct str s, size_t max)
{
    if (s.len <= max) return s;
    while (max && ((uint8_t)s.p[max] & 0xc0) == 0x80) max--; /* not within a character */
    return (struct str){s.p, max};
}

static void put_number(struct buf *out, const char *name, double v)
{
    char text[NUMBER_BYTES_MAX];
    buf_printf(out, ",\"%s\":%.*s", name, (int)number_print_plain(text, v), text);
}

static void put_count(struct buf *out, const char *name, uint64_t n)
{
    buf_printf(out, ",\"%s\":%" PRIu64, name, n);
}

static void put_text(struct buf *out, const char *name, struct str s)
{
    buf_printf(out, ",\"%s\":", name);
    json_string_html(out, s);
}

/* ---- running ---- */

void active_init(struct active_queries *active)
{
    *active = (struct active_queries){.newest = NULL};
    lock_init(&active->lock, LOCK_LEAF);
}

void active_release(struct active_queries *active)
{
    ASSERT(!active->newest);
    lock_destroy(&active->lock);
}

void active_begin(struct active_queries *active, struct active_query *q)
{
    query_progress_init(&q->progress);
    lock_take(&active->lock);
    q->id = ++active->last_id;
    q->prev = NULL;
    q->next = active->newest;
    if (q->next) q->next->prev = q;
    active->newest = q;
    lock_release(&active->lock);
}

void active_end(struct active_queries *active, struct active_query *q)
{
    lock_take(&active->lock);
    if (q->prev)
        q->prev->next = q->next;
    else
        active->newest = q->next;
    if (q->next) q->next->prev = q->prev;
    lock_release(&active->lock);
}

static bool is_of(const struct active_query *q, struct str tenant)
{
    return !tenant.len || str_eq(q->tenant, tenant);
}

bool active_cancel(struct active_queries *active, struct str tenant, uint64_t id)
{
    bool found = false;
    lock_take(&active->lock);
    for (struct active_query *q = active->newest; q && !found; q = q->next) {
        found = q->id == id && is_of(q, tenant);
        if (found) atomic_store_explicit(&q->progress.canceled, true, memory_order_relaxed);
    }
    lock_release(&active->lock);
    return found;
}

static void print_active(const struct active_query *q, int64_t now_ns, struct buf *out)
{
    const struct query_progress *p = &q->progress;
    buf_printf(out, "{\"id\":%" PRIu64, q->id);
    put_text(out, "tenant", q->tenant);
    put_text(out, "query", cut(q->text, ACTIVE_TEXT_BYTES_MAX));
    put_text(out, "kind", q->is_range ? STR("range") : STR("instant"));
    put_number(out, "start", (double)q->start_ms / 1000);
    put_number(out, "end", (double)q->end_ms / 1000);
    put_number(out, "step", (double)q->step_ms / 1000);
    put_number(out, "since", (double)q->since_ms / 1000);
    put_number(out, "seconds", (double)(now_ns - q->since_ns) / 1e9);
    put_count(out, "series", atomic_load_explicit(&p->series, memory_order_relaxed));
    put_count(out, "samples", atomic_load_explicit(&p->samples, memory_order_relaxed));
    put_count(out, "memoryBytes", atomic_load_explicit(&p->memory_bytes, memory_order_relaxed));
    buf_text(out, atomic_load_explicit(&p->canceled, memory_order_relaxed)
                      ? STR(",\"canceled\":true}")
                      : STR("}"));
}

void active_print(struct active_queries *active, struct str tenant, int64_t now_ns, struct buf *out)
{
    bool first = true;
    buf_u8(out, '[');
    lock_take(&active->lock);
    struct active_query *q = active->newest;
    while (q && q->next) q = q->next;
    for (; q; q = q->prev) {
        if (!is_of(q, tenant)) continue;
        if (!first) buf_u8(out, ',');
        first = false;
        print_active(q, now_ns, out);
    }
    lock_release(&active->lock);
    buf_u8(out, ']');
}

/* ---- what ran ---- */

void top_init(struct top_queries *top)
{
    *top = (struct top_queries){.n = 0};
    lock_init(&top->lock, LOCK_LEAF);
}

void top_release(struct top_queries *top)
{
    for (size_t i = 0; i < top->n; i++) mem_free(top->entries[i].text);
    lock_destroy(&top->lock);
}

static struct str entry_tenant(const struct top_entry *e)
{
    return (struct str){e->text, e->tenant_len};
}

static struct str entry_text(const struct top_entry *e)
{
    return (struct str){e->text + e->tenant_len + 1, e->text_len};
}

static struct top_entry *find_entry(struct top_queries *top, const struct query_record *r,
                                    struct str text, uint64_t hash)
{
    for (size_t i = 0; i < top->n; i++) {
        struct top_entry *e = &top->entries[i];
        if (e->hash == hash && e->is_range == r->is_range && str_eq(entry_text(e), text) &&
            str_eq(entry_tenant(e), r->tenant))
            return e;
    }
    return NULL;
}

/* NULL: no memory. */
static struct top_entry *make_entry(struct top_queries *top, const struct query_record *r,
                                    struct str text, uint64_t hash)
{
    char *copy = mem_alloc(MEM_TOOLS, r->tenant.len + 1 + text.len);
    if (!copy) return NULL;
    if (r->tenant.len) memcpy(copy, r->tenant.p, r->tenant.len);
    copy[r->tenant.len] = 0;
    if (text.len) memcpy(copy + r->tenant.len + 1, text.p, text.len);
    struct top_entry *e = &top->entries[top->n];
    if (top->n < TOP_QUERIES_MAX) {
        top->n++;
    } else {
        e = &top->entries[0];
        for (size_t i = 1; i < top->n; i++)
            if (top->entries[i].seconds < e->seconds) e = &top->entries[i];
        mem_free(e->text);
    }
    *e = (struct top_entry){.text = copy,
                            .tenant_len = r->tenant.len,
                            .text_len = text.len,
                            .hash = hash,
                            .is_range = r->is_range};
    return e;
}

void top_note(struct top_queries *top, const struct query_record *r)
{
    struct str text = cut(r->text, TOP_TEXT_BYTES_MAX);
    uint64_t hash = hash_xxh3(text.p, text.len);
    lock_take(&top->lock);
    struct top_entry *e = find_entry(top, r, text, hash);
    if (!e) e = make_entry(top, r, text, hash);
    if (e) {
        e->count++;
        e->failures += r->failed;
        e->samples += r->samples;
        e->series_max = MAX_OF(e->series_max, r->series);
        e->seconds += r->seconds;
        e->seconds_max = MAX_OF(e->seconds_max, r->seconds);
        e->last_ms = r->at_ms;
    }
    lock_release(&top->lock);
}

static double entry_weight(const struct top_entry *e, enum top_order by)
{
    return by == TOP_BY_COUNT     ? (double)e->count
           : by == TOP_BY_SECONDS ? e->seconds
                                  : (double)e->samples;
}

static void print_top(const struct top_entry *e, struct buf *out)
{
    buf_text(out, STR("{\"tenant\":"));
    json_string_html(out, entry_tenant(e));
    put_text(out, "query", entry_text(e));
    put_text(out, "kind", e->is_range ? STR("range") : STR("instant"));
    put_count(out, "count", e->count);
    put_count(out, "failures", e->failures);
    put_number(out, "seconds", e->seconds);
    put_number(out, "maxSeconds", e->seconds_max);
    put_count(out, "samples", e->samples);
    put_count(out, "maxSeries", e->series_max);
    put_number(out, "last", (double)e->last_ms / 1000);
    buf_u8(out, '}');
}

void top_print(struct top_queries *top, struct str tenant, enum top_order by, size_t limit,
               struct buf *out)
{
    bool printed[TOP_QUERIES_MAX] = {false};
    buf_u8(out, '[');
    lock_take(&top->lock);
    for (size_t k = 0; k < limit; k++) { /* few of few: the largest that is left, each time */
        size_t best = top->n;
        for (size_t i = 0; i < top->n; i++) {
            const struct top_entry *e = &top->entries[i];
            if (printed[i] || (tenant.len && !str_eq(entry_tenant(e), tenant))) continue;
            if (best == top->n || entry_weight(e, by) > entry_weight(&top->entries[best], by))
                best = i;
        }
        if (best == top->n) break;
        printed[best] = true;
        if (k) buf_u8(out, ',');
        print_top(&top->entries[best], out);
    }
    lock_release(&top->lock);
    buf_u8(out, ']');
}

/* ---- metrics by tenant ---- */

static void open_metrics(struct metrics *m, struct str name, struct tenant_queries *t)
{
    char label[400], both[512];
    metric_label(label, sizeof(label), "tenant", name);
    t->queries = metric_counter(m, "quipu_tenant_queries_total", "Queries by tenant.", label);
    t->failures = metric_counter(m, "quipu_tenant_query_failures_total",
                                 "Queries that ended with an error, by tenant.", label);
    t->samples = metric_counter(m, "quipu_tenant_query_samples_total",
                                "Samples in the windows of queries' steps, by tenant.", label);
    t->seconds = metric_histogram(m, "quipu_tenant_query_duration_seconds",
                                  "Time of queries by tenant, from when a thread took them.", label,
                                  METRIC_SECONDS, METRIC_SECONDS_N);
    for (enum query_limit i = 0; i < QUERY_LIMITS_N; i++) {
        snprintf(both, sizeof(both), "%s,limit=\"%s\"", label, query_limit_name(i));
        t->refused[i] = metric_counter(m, "quipu_tenant_queries_refused_total",
                                       "Queries that a limit ended, by tenant and limit.", both);
    }
}

void query_tenants_init(struct query_tenants *tenants, struct metrics *metrics)
{
    *tenants = (struct query_tenants){.metrics = metrics};
    lock_init(&tenants->lock, LOCK_SERVER); /* metrics are made under it */
    open_metrics(metrics, STR(QUERY_TENANT_OTHERS), &tenants->others);
}

void query_tenants_release(struct query_tenants *tenants)
{
    for (size_t i = 0; i < tenants->n; i++) mem_free(tenants->tenants[i].name);
    lock_destroy(&tenants->lock);
}

static struct tenant_queries *find_tenant(struct query_tenants *all, struct str name)
{
    for (size_t i = 0; i < all->n; i++)
        if (str_eq(str_of(all->tenants[i].name), name)) return &all->tenants[i];
    if (all->n == QUERY_TENANTS_MAX) return &all->others;
    char *copy = mem_alloc(MEM_TOOLS, name.len + 1);
    if (!copy) return &all->others;
    memcpy(copy, name.p, name.len);
    copy[name.len] = 0;
    struct tenant_queries *t = &all->tenants[all->n++];
    open_metrics(all->metrics, name, t);
    t->name = copy;
    return t;
}

struct tenant_memory *query_tenants_memory(struct query_tenants *all, struct str tenant)
{
    lock_take(&all->lock);
    struct tenant_queries *t = find_tenant(all, tenant);
    lock_release(&all->lock);
    return t == &all->others ? NULL : &t->memory;
}

void query_tenants_note(struct query_tenants *all, const struct query_record *r, bool known,
                        enum query_limit limit)
{
    lock_take(&all->lock);
    struct tenant_queries *t = known ? find_tenant(all, r->tenant) : &all->others;
    lock_release(&all->lock);
    metric_inc(t->queries);
    if (r->failed) metric_inc(t->failures);
    if (limit != LIMIT_NONE) metric_inc(t->refused[limit]);
    metric_add(t->samples, r->samples);
    metric_observe(t->seconds, r->seconds);
}
