/* base/metric.c: families sorted by name, members sorted by labels; both are only ever added to, or moved
 * to `dropped`, so that a rendering may use members outside the lock: a callback may then take any lock. */
#include "base/metric.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/lock.h"

struct member {
    char *labels;
    double (*fn)(void *ctx); /* NULL unless from metric_callback */
    void *fn_ctx;
    union {
        struct metric metric;
        struct metric_histogram histogram;
    };
    struct member *next_dropped;
    double bounds[METRIC_BUCKETS_MAX];
};

struct family {
    char *name, *help;
    const char *type; /* "counter", "gauge" or "histogram" */
    struct member **members;
    size_t n, cap;
};

struct metrics {
    struct lock lock; /* rank LOCK_METRICS; guards all below but the values */
    struct family **families;
    size_t n, cap;
    struct member *dropped;
    struct member dummy; /* what callers get when memory is out */
};

const double METRIC_SECONDS[] = {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                 0.1,    0.25,    0.5,    1,     2.5,    5,     10,   30};
const size_t METRIC_SECONDS_N = COUNT_OF(METRIC_SECONDS);
static_assert(COUNT_OF(METRIC_SECONDS) <= METRIC_BUCKETS_MAX, "fits a histogram");

struct metrics *metrics_new(void)
{
    struct metrics *m = mem_calloc(MEM_BASE, 1, sizeof(*m));
    if (!m) return NULL;
    lock_init(&m->lock, LOCK_METRICS);
    m->dummy.histogram.bounds = m->dummy.bounds;
    return m;
}

static void member_free(struct member *member)
{
    mem_free(member->labels);
    mem_free(member);
}

static void family_free(struct family *f)
{
    for (size_t i = 0; i < f->n; i++) member_free(f->members[i]);
    mem_free(f->members);
    mem_free(f->name);
    mem_free(f->help);
    mem_free(f);
}

void metrics_free(struct metrics *m)
{
    if (!m) return;
    for (size_t i = 0; i < m->n; i++) family_free(m->families[i]);
    while (m->dropped) {
        struct member *next = m->dropped->next_dropped;
        member_free(m->dropped);
        m->dropped = next;
    }
    mem_free(m->families);
    lock_destroy(&m->lock);
    mem_free(m);
}

static struct family *family_new(const char *name, const char *help, const char *type)
{
    struct family *f = mem_calloc(MEM_BASE, 1, sizeof(*f));
    if (!f) return NULL;
    f->name = mem_strdup(MEM_BASE, name);
    f->help = mem_strdup(MEM_BASE, help);
    f->type = strcmp(type, "counter") == 0     ? "counter"
              : strcmp(type, "histogram") == 0 ? "histogram"
                                               : "gauge";
    ASSERT(strcmp(f->type, type) == 0);
    if (f->name && f->help) return f;
    family_free(f);
    return NULL;
}

/* Index of the first family not before `name`. */
static size_t family_find(const struct metrics *m, const char *name)
{
    size_t low = 0, high = m->n;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (strcmp(m->families[mid]->name, name) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static size_t member_find(const struct family *f, const char *labels)
{
    size_t low = 0, high = f->n;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (strcmp(f->members[mid]->labels, labels) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static struct family *family_get(struct metrics *m, const char *name, const char *help,
                                 const char *type)
{
    size_t at = family_find(m, name);
    if (at < m->n && strcmp(m->families[at]->name, name) == 0) {
        ASSERT(strcmp(m->families[at]->type, type) == 0);
        return m->families[at];
    }
    struct err err; /* the dummy stands for it */
    if (mem_grow(MEM_BASE, (void **)&m->families, &m->cap, m->n + 1, sizeof(*m->families), &err))
        return NULL;
    struct family *f = family_new(name, help, type);
    if (!f) return NULL;
    memmove(m->families + at + 1, m->families + at, (m->n - at) * sizeof(*m->families));
    m->families[at] = f;
    m->n++;
    return f;
}

static void member_detach(struct metrics *m, struct family *f, size_t at)
{
    struct member *member = f->members[at];
    memmove(f->members + at, f->members + at + 1, (f->n - at - 1) * sizeof(*f->members));
    f->n--;
    member->next_dropped = m->dropped;
    m->dropped = member;
}

/* The member, made by `model` if it is new; a callback replaces an older one. NULL when memory is out. */
static struct member *member_get(struct metrics *m, const char *name, const char *help,
                                 const char *type, const char *labels, const struct member *model)
{
    struct family *f = family_get(m, name, help, type);
    if (!f) return NULL;
    size_t at = member_find(f, labels);
    if (at < f->n && strcmp(f->members[at]->labels, labels) == 0) {
        if (!model->fn) return f->members[at];
        member_detach(m, f, at);
    }
    struct err err; /* the dummy stands for it */
    if (mem_grow(MEM_BASE, (void **)&f->members, &f->cap, f->n + 1, sizeof(*f->members), &err))
        return NULL;
    struct member *member = mem_calloc(MEM_BASE, 1, sizeof(*member));
    char *copy = mem_strdup(MEM_BASE, labels);
    if (!member || !copy) {
        mem_free(member);
        mem_free(copy);
        return NULL;
    }
    member->labels = copy;
    member->fn = model->fn;
    member->fn_ctx = model->fn_ctx;
    if (f->type[0] == 'h') {
        memcpy(member->bounds, model->bounds, sizeof(member->bounds));
        member->histogram.bounds = member->bounds;
        member->histogram.n_bounds = model->histogram.n_bounds;
    }
    memmove(f->members + at + 1, f->members + at, (f->n - at) * sizeof(*f->members));
    f->members[at] = member;
    f->n++;
    return member;
}

static struct member *get(struct metrics *m, const char *name, const char *help, const char *type,
                          const char *labels, const struct member *model)
{
    lock_take(&m->lock);
    struct member *member = member_get(m, name, help, type, labels, model);
    lock_release(&m->lock);
    return member ? member : &m->dummy;
}

struct metric *metric_counter(struct metrics *m, const char *name, const char *help,
                              const char *labels)
{
    return &get(m, name, help, "counter", labels, &(struct member){.labels = NULL})->metric;
}

struct metric *metric_gauge(struct metrics *m, const char *name, const char *help,
                            const char *labels)
{
    return &get(m, name, help, "gauge", labels, &(struct member){.labels = NULL})->metric;
}

struct metric_histogram *metric_histogram(struct metrics *m, const char *name, const char *help,
                                          const char *labels, const double *bounds, size_t n_bounds)
{
    ASSERT(n_bounds <= METRIC_BUCKETS_MAX);
    struct member model = {.histogram = {.n_bounds = n_bounds}};
    for (size_t i = 0; i < n_bounds; i++) {
        ASSERT(i == 0 || bounds[i] > bounds[i - 1]);
        model.bounds[i] = bounds[i];
    }
    return &get(m, name, help, "histogram", labels, &model)->histogram;
}

void metric_callback(struct metrics *m, const char *name, const char *help, const char *type,
                     const char *labels, double (*fn)(void *ctx), void *ctx)
{
    ASSERT(fn != NULL);
    struct member model = {.fn = fn, .fn_ctx = ctx};
    (void)get(m, name, help, type, labels, &model); /* no handle: nobody updates it */
}

/* Whether `pair` is one of the label pairs, not the middle of one. */
static bool has_pair(const char *labels, const char *pair)
{
    size_t n = strlen(pair);
    for (const char *p = labels; (p = strstr(p, pair)); p++) {
        bool starts = p == labels || p[-1] == ',';
        if (starts && (p[n] == 0 || p[n] == ',')) return true;
    }
    return false;
}

void metrics_drop(struct metrics *m, const char *label_pair)
{
    lock_take(&m->lock);
    for (size_t i = 0; i < m->n; i++) {
        struct family *f = m->families[i];
        for (size_t j = f->n; j-- > 0;)
            if (has_pair(f->members[j]->labels, label_pair)) member_detach(m, f, j);
    }
    lock_release(&m->lock);
}

void metric_observe(struct metric_histogram *h, double v)
{
    size_t i = 0;
    while (i < h->n_bounds && !(v <= h->bounds[i])) i++; /* NaN counts in the last one */
    atomic_fetch_add_explicit(&h->counts[i], 1, memory_order_relaxed);
    uint64_t old = atomic_load_explicit(&h->sum_bits, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&h->sum_bits, &old,
                                                  double_bits(double_from_bits(old) + v),
                                                  memory_order_relaxed, memory_order_relaxed))
        continue;
}

const char *metric_label(char *buf, size_t size, const char *name, struct str value)
{
    ASSERT(size > strlen(name) + 3);
    size_t n = (size_t)snprintf(buf, size, "%s=\"", name);
    for (size_t i = 0; i < value.len;) {
        size_t seq = utf8_sequence(value.p + i, value.len - i);
        char c = value.p[i];
        const char *from = value.p + i;
        size_t from_len = seq;
        if (seq == 0) {
            from = "\xEF\xBF\xBD";
            from_len = 3;
        } else if (c == '\\' || c == '"' || c == '\n') {
            from = c == '\\' ? "\\\\" : c == '"' ? "\\\"" : "\\n";
            from_len = 2;
        }
        if (n + from_len + 2 > size) break; /* cut, but closed */
        memcpy(buf + n, from, from_len);
        n += from_len;
        i += seq ? seq : 1;
    }
    buf[n++] = '"';
    buf[n] = 0;
    return buf;
}

static void put_double(struct buf *out, double v)
{
    if (isnan(v)) {
        buf_text(out, STR("NaN"));
    } else if (isinf(v)) {
        buf_text(out, v > 0 ? STR("+Inf") : STR("-Inf"));
    } else {
        char text[32];
        for (int digits = 15; digits <= 17; digits++) { /* the fewest that read back the same */
            snprintf(text, sizeof(text), "%.*g", digits, v);
            if (strtod(text, NULL) == v) break;
        }
        buf_text(out, str_of(text));
    }
}

static void put_help(struct buf *out, const char *help)
{
    for (; *help; help++) {
        if (*help == '\\')
            buf_text(out, STR("\\\\"));
        else if (*help == '\n')
            buf_text(out, STR("\\n"));
        else
            buf_u8(out, (uint8_t)*help);
    }
}

static void put_name(struct buf *out, const char *name, const char *suffix, const char *labels)
{
    buf_printf(out, "%s%s", name, suffix);
    if (labels[0]) buf_printf(out, "{%s}", labels);
    buf_u8(out, ' ');
}

static void put_histogram(struct buf *out, const char *name, const struct member *member)
{
    const struct metric_histogram *h = &member->histogram;
    const char *comma = member->labels[0] ? "," : "";
    /* Before the counts: an observation in between then cannot make the sum the greater part. */
    double sum = double_from_bits(atomic_load_explicit(&h->sum_bits, memory_order_relaxed));
    uint64_t total = 0;
    for (size_t i = 0; i <= h->n_bounds; i++) {
        total += atomic_load_explicit(&h->counts[i], memory_order_relaxed);
        buf_printf(out, "%s_bucket{%s%sle=\"", name, member->labels, comma);
        put_double(out, i < h->n_bounds ? h->bounds[i] : (double)INFINITY);
        buf_printf(out, "\"} %" PRIu64 "\n", total);
    }
    put_name(out, name, "_sum", member->labels);
    put_double(out, sum);
    buf_u8(out, '\n');
    put_name(out, name, "_count", member->labels);
    buf_printf(out, "%" PRIu64 "\n", total);
}

static void put_member(struct buf *out, const struct family *f, const struct member *member)
{
    if (f->type[0] == 'h') {
        put_histogram(out, f->name, member);
        return;
    }
    put_name(out, f->name, "", member->labels);
    if (member->fn)
        put_double(out, member->fn(member->fn_ctx));
    else if (f->type[0] == 'c')
        buf_printf(out, "%" PRIu64, metric_value(&member->metric));
    else
        put_double(out, double_from_bits(metric_value(&member->metric)));
    buf_u8(out, '\n');
}

struct shown {
    const struct family *family;
    const struct member *member;
};

static struct shown *snapshot(struct metrics *m, size_t *n)
{
    lock_take(&m->lock);
    size_t total = 0;
    for (size_t i = 0; i < m->n; i++) total += m->families[i]->n;
    struct shown *shown = mem_calloc(MEM_BASE, total, sizeof(*shown));
    *n = 0;
    for (size_t i = 0; shown && i < m->n; i++)
        for (size_t j = 0; j < m->families[i]->n; j++)
            shown[(*n)++] = (struct shown){m->families[i], m->families[i]->members[j]};
    lock_release(&m->lock);
    return shown;
}

void metrics_render(struct metrics *m, struct buf *out)
{
    size_t n;
    struct shown *shown = snapshot(m, &n);
    if (!shown) {
        out->failed = true;
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const struct family *f = shown[i].family;
        if (i == 0 || f != shown[i - 1].family) {
            buf_printf(out, "# HELP %s ", f->name);
            put_help(out, f->help);
            buf_printf(out, "\n# TYPE %s %s\n", f->name, f->type);
        }
        put_member(out, f, shown[i].member);
    }
    mem_free(shown);
}
