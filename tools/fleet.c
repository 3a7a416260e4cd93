/* tools/fleet.c */
#include "tools/fleet.h"

#include <math.h>
#include <stdio.h>

#include "storage/histogram.h" /* STALE_NAN_BITS */

#define DAY_MS 86400000.0
#define T_BYTES 6       /* of a timestamp as varint, see FLEET_T_MIN_MS */
#define SAMPLE_BYTES 18 /* tag, length, tag, value, tag, timestamp */
#define VALUE_OFF 3     /* of the value in a sample */
#define T_OFF 12        /* of the timestamp in a sample */

static const char *const le_texts[FLEET_BUCKETS] = {
    "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"};
static const double le_bounds[FLEET_BUCKETS - 1] = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
                                                    0.5,   1,    2.5,   5,    10};
static const char *const code_texts[FLEET_CODES] = {"200", "301", "404", "500", "503"};
static const double code_shares[FLEET_CODES] = {0, 0.05, 0.03, 0.012, 0.004}; /* the rest is 200 */
static const char *const route_texts[FLEET_ROUTES] = {"/",
                                                      "/api/v1/carts",
                                                      "/api/v1/carts/{id}",
                                                      "/api/v1/checkout",
                                                      "/api/v1/invoices",
                                                      "/api/v1/items",
                                                      "/api/v1/items/{id}",
                                                      "/api/v1/login",
                                                      "/api/v1/logout",
                                                      "/api/v1/orders",
                                                      "/api/v1/orders/{id}",
                                                      "/api/v1/payments",
                                                      "/api/v1/prices",
                                                      "/api/v1/profile",
                                                      "/api/v1/refunds",
                                                      "/api/v1/search",
                                                      "/api/v1/stock",
                                                      "/api/v1/users",
                                                      "/api/v1/users/{id}",
                                                      "/healthz"};
static const char *const job_texts[] = {"checkout", "frontend", "catalogue", "accounts",
                                        "payments"};
static const char *const region_texts[] = {"eu-central-1", "eu-west-1", "us-east-1", "ap-south-1"};

enum other_kind { OTHER_FLOAT, OTHER_INTEGER, OTHER_PAGES, OTHER_CPU, OTHER_N };

struct route_state {
    double rate;     /* requests per second at mean load */
    double median_s; /* of the durations */
    double shares[FLEET_BUCKETS];
    double codes[FLEET_CODES], buckets[FLEET_BUCKETS], sum;
};
struct instance {
    struct rng rng;
    int64_t offset_ms; /* within the interval, as a scraper spreads its targets */
    int64_t t_ms;      /* of the last scrape */
    struct route_state routes[FLEET_ROUTES];
    double *others; /* n_others of them; CPU in hundredths of a second */
};

/* Part of a timestamp that stands in a body as it is: bytes [first, first + n) of instance's varint. */
struct time_patch {
    uint32_t off;
    uint32_t instance;
    uint8_t first, n;
};
struct request {
    struct buf body;
    struct time_patch *times;
    size_t n_times, times_cap;
    size_t first_series, n_series;
};
struct fleet {
    struct fleet_config config;
    struct instance *instances;
    size_t n_others;      /* per instance */
    double *values;       /* by series, instance after instance */
    uint32_t *value_offs; /* where each stands in its request's body */
    struct request *requests;
    size_t n_requests;
};

/* ---- protobuf: one request, values and times as placeholders ---- */

/* What a raw byte is: constant, part of a value, or byte k of the time of an instance: CLASS_TIME + instance *
 * CLASS_TIME_STEP + k. */
enum { CLASS_CONSTANT = 0, CLASS_VALUE = 1, CLASS_TIME = 8, CLASS_TIME_STEP = 8 };

struct raw {
    struct buf bytes;
    struct buf classes; /* uint32_t each */
};

static void raw_put(struct raw *raw, const void *p, size_t len, uint32_t class)
{
    buf_put(&raw->bytes, p, len);
    for (size_t i = 0; i < len; i++) buf_u32(&raw->classes, class);
}

static uint32_t raw_class(const struct raw *raw, size_t i)
{
    return get_u32_le(raw->classes.p + 4 * i);
}

void fleet_put_label(struct buf *out, const char *name, const char *value)
{
    size_t n = strlen(name), v = strlen(value);
    ASSERT(n + v < 124); /* so that every length takes one byte */
    buf_u8(out, 0x0a);
    buf_varint(out, 2 + n + 2 + v);
    buf_u8(out, 0x0a);
    buf_str(out, (struct str){name, n});
    buf_u8(out, 0x12);
    buf_str(out, (struct str){value, v});
}

static void put_series(struct raw *raw, const struct buf *labels, size_t instance)
{
    static const uint8_t nothing[8] = {0};
    uint8_t head[16];
    head[0] = 0x0a;
    raw_put(raw, head, 1 + put_varint(head + 1, labels->len + SAMPLE_BYTES), CLASS_CONSTANT);
    raw_put(raw, labels->p, labels->len, CLASS_CONSTANT);
    raw_put(raw, "\x12\x10\x09", 3, CLASS_CONSTANT);
    raw_put(raw, nothing, 8, CLASS_VALUE);
    raw_put(raw, "\x10", 1, CLASS_CONSTANT);
    for (uint32_t k = 0; k < T_BYTES; k++)
        raw_put(raw, nothing, 1, CLASS_TIME + (uint32_t)instance * CLASS_TIME_STEP + k);
}

/* ---- labels ---- */

static void put_instance_labels(struct buf *out, size_t instance, const char *name,
                                const char *extra_name, const char *extra_value, const char *route)
{
    char address[32], pod[64];
    const char *job = job_texts[instance % COUNT_OF(job_texts)];
    snprintf(address, sizeof(address), "10.%zu.%zu.%zu:8080", instance / 65536 % 256,
             instance / 256 % 256, instance % 256);
    snprintf(pod, sizeof(pod), "%s-%08zx-%05zx", job, instance * 2654435761u % 0xffffffff,
             instance * 40503 % 0xfffff);
    /* Sorted by name, as senders must. */
    buf_reset(out);
    fleet_put_label(out, "__name__", name);
    fleet_put_label(out, "cluster", "production");
    if (extra_name && strcmp(extra_name, "code") == 0)
        fleet_put_label(out, extra_name, extra_value);
    fleet_put_label(out, "instance", address);
    fleet_put_label(out, "job", job);
    if (extra_name && strcmp(extra_name, "le") == 0) fleet_put_label(out, extra_name, extra_value);
    fleet_put_label(out, "namespace", "shop");
    fleet_put_label(out, "pod", pod);
    fleet_put_label(out, "region", region_texts[instance % COUNT_OF(region_texts)]);
    if (route) fleet_put_label(out, "route", route);
    if (extra_name && strcmp(extra_name, "unit") == 0)
        fleet_put_label(out, extra_name, extra_value);
}

static void put_other_labels(struct buf *out, size_t instance, size_t i)
{
    static const char *const names[OTHER_N] = {"app_queue_latency_estimate", "app_workers_active",
                                               "app_buffer_bytes", "app_task_cpu_seconds_total"};
    char unit[32];
    snprintf(unit, sizeof(unit), "unit-%04zu", i / OTHER_N);
    put_instance_labels(out, instance, names[i % OTHER_N], "unit", unit, NULL);
}

/* Series j of an instance, in the order of its values. */
static void put_labels(struct buf *out, size_t instance, size_t j)
{
    if (j >= FLEET_SERIES_MIN) {
        put_other_labels(out, instance, j - FLEET_SERIES_MIN);
        return;
    }
    const char *route = route_texts[j / FLEET_ROUTE_SERIES];
    size_t k = j % FLEET_ROUTE_SERIES;
    if (k < FLEET_CODES)
        put_instance_labels(out, instance, "http_requests_total", "code", code_texts[k], route);
    else if (k < FLEET_CODES + FLEET_BUCKETS)
        put_instance_labels(out, instance, "http_request_duration_seconds_bucket", "le",
                            le_texts[k - FLEET_CODES], route);
    else
        put_instance_labels(out, instance,
                            k == FLEET_CODES + FLEET_BUCKETS
                                ? "http_request_duration_seconds_sum"
                                : "http_request_duration_seconds_count",
                            NULL, NULL, route);
}

/* ---- snappy: greedy matches, none of which touches a value or another instance's time ---- */

#define HASH_BITS 15
#define OFFSET_MAX 65535

static size_t hash4(const uint8_t *p)
{
    return (get_u32_le(p) * 0x1e35a7bdu) >> (32 - HASH_BITS);
}

static bool same_byte(const struct raw *raw, size_t a, size_t b)
{
    uint32_t class = raw_class(raw, a);
    return class != CLASS_VALUE && class == raw_class(raw, b) && raw->bytes.p[a] == raw->bytes.p[b];
}

static void put_copy(struct buf *out, size_t offset, size_t len)
{
    while (len) {
        size_t n = MIN_OF(len, (size_t)64);
        if (n >= 4 && n <= 11 && offset < 2048) {
            buf_u8(out, (uint8_t)(1 | (n - 4) << 2 | offset >> 8 << 5));
            buf_u8(out, (uint8_t)offset);
        } else {
            buf_u8(out, (uint8_t)(2 | (n - 1) << 2));
            buf_u16(out, (uint16_t)offset);
        }
        len -= n;
    }
}

static enum err_code add_time_patch(struct request *request, uint32_t off, uint32_t instance,
                                    uint8_t at, struct err *err)
{
    struct time_patch *last = request->n_times ? &request->times[request->n_times - 1] : NULL;
    if (last && last->instance == instance && last->off + last->n == off &&
        last->first + last->n == at) {
        last->n++;
        return ERR_OK;
    }
    enum err_code rc = mem_grow(MEM_TOOLS, (void **)&request->times, &request->times_cap,
                                request->n_times + 1, sizeof(*request->times), err);
    if (rc) return rc;
    request->times[request->n_times++] =
        (struct time_patch){.off = off, .instance = instance, .first = at, .n = 1};
    return ERR_OK;
}

struct packer {
    const struct raw *raw;
    struct request *request;
    uint32_t *value_offs; /* of the request's series */
    size_t n_values;
};

static enum err_code put_literal(struct packer *p, size_t from, size_t to, struct err *err)
{
    struct buf *out = &p->request->body;
    if (from == to) return ERR_OK;
    size_t n = to - from - 1;
    if (n < 60) {
        buf_u8(out, (uint8_t)(n << 2));
    } else if (n < 256) {
        buf_u8(out, 60 << 2);
        buf_u8(out, (uint8_t)n);
    } else {
        ASSERT(n < 65536); /* a value's series is at most a few hundred bytes */
        buf_u8(out, 61 << 2);
        buf_u16(out, (uint16_t)n);
    }
    for (size_t i = from; i < to; i++) {
        uint32_t class = raw_class(p->raw, i), off = (uint32_t)(out->len + i - from);
        if (class == CLASS_VALUE) {
            if (i == 0 || raw_class(p->raw, i - 1) != CLASS_VALUE)
                p->value_offs[p->n_values++] = off;
        } else if (class >= CLASS_TIME) {
            enum err_code rc =
                add_time_patch(p->request, off, (class - CLASS_TIME) / CLASS_TIME_STEP,
                               (uint8_t)(class % CLASS_TIME_STEP), err);
            if (rc) return rc;
        }
    }
    buf_put(out, p->raw->bytes.p + from, to - from);
    return ERR_OK;
}

static enum err_code pack(struct packer *p, struct err *err)
{
    const struct raw *raw = p->raw;
    size_t len = raw->bytes.len, literal = 0, i = 0;
    uint32_t *table = mem_calloc(MEM_TOOLS, (size_t)1 << HASH_BITS, sizeof(*table));
    if (!table) return err_set(err, ERR_NO_MEMORY, "no memory to compress");
    enum err_code rc = ERR_OK;
    buf_varint(&p->request->body, len);
    while (i + 4 <= len && !rc) {
        uint32_t *slot = &table[hash4(raw->bytes.p + i)];
        size_t candidate = *slot, n = 0; /* 0: none, or the first byte: never matched */
        *slot = (uint32_t)i;
        if (candidate && i - candidate <= OFFSET_MAX)
            while (i + n < len && same_byte(raw, candidate + n, i + n)) n++;
        if (n < 4) {
            i++;
            continue;
        }
        rc = put_literal(p, literal, i, err);
        put_copy(&p->request->body, i - candidate, n);
        for (size_t k = i + 1; k < i + n && k + 4 <= len; k += 3)
            table[hash4(raw->bytes.p + k)] = (uint32_t)k;
        i += n;
        literal = i;
    }
    if (!rc) rc = put_literal(p, literal, len, err);
    mem_free(table);
    return rc ? rc : buf_finish(&p->request->body, err);
}

static enum err_code make_request(struct fleet *fleet, size_t r, struct err *err)
{
    struct request *request = &fleet->requests[r];
    size_t per_instance = fleet->config.series_per_instance;
    size_t n = fleet->config.n_instances * per_instance;
    request->first_series = r * fleet->config.samples_per_request;
    request->n_series = MIN_OF(n - request->first_series, fleet->config.samples_per_request);
    buf_init(&request->body, MEM_TOOLS);
    struct raw raw;
    struct buf labels;
    buf_init(&raw.bytes, MEM_TOOLS);
    buf_init(&raw.classes, MEM_TOOLS);
    buf_init(&labels, MEM_TOOLS);
    for (size_t i = 0; i < request->n_series; i++) {
        size_t s = request->first_series + i;
        put_labels(&labels, fleet->config.first_instance + s / per_instance, s % per_instance);
        put_series(&raw, &labels, s / per_instance);
    }
    struct packer packer = {&raw, request, fleet->value_offs + request->first_series, 0};
    enum err_code rc = buf_finish(&raw.classes, err);
    if (!rc) rc = buf_finish(&raw.bytes, err);
    if (!rc) rc = pack(&packer, err);
    ASSERT(rc || packer.n_values == request->n_series);
    buf_release(&raw.bytes);
    buf_release(&raw.classes);
    buf_release(&labels);
    return rc;
}

/* ---- values ---- */

/* Integer with mean and variance `mean`: exact for small means, the normal's nearest for large ones. */
static double poisson(struct rng *rng, double mean)
{
    if (mean >= 30) return fmax(0, rint(mean + sqrt(mean) * rng_normal(rng)));
    double limit = exp(-mean), product = rng_unit(rng);
    double n = 0;
    for (; product > limit; n++) product *= rng_unit(rng);
    return n;
}

static void route_begin(struct route_state *route, struct rng *rng, size_t r)
{
    double sigma = 0.8, below = 0;
    route->rate = (r % 5 == 0 ? 9 : 4) * (0.5 + rng_unit(rng));
    route->median_s = 0.02 * (1 + (double)(r % 7)) * (0.8 + 0.4 * rng_unit(rng));
    for (size_t b = 0; b < FLEET_BUCKETS; b++) {
        double z = b < FLEET_BUCKETS - 1 ? log(le_bounds[b] / route->median_s) / sigma : 9;
        double up_to = 0.5 * erfc(-z / sqrt(2)); /* a log-normal's share */
        route->shares[b] = up_to - below;
        below = up_to;
    }
}

static void route_scrape(struct route_state *route, struct rng *rng, double load, double seconds,
                         double *values)
{
    double n = 0;
    for (size_t b = 0; b < FLEET_BUCKETS; b++) {
        n += poisson(rng, route->rate * load * seconds * route->shares[b]);
        route->buckets[b] += n; /* cumulative over `le`, as over time */
    }
    double others = 0;
    for (size_t c = 1; c < FLEET_CODES; c++) {
        double k = fmin(n - others, poisson(rng, n * code_shares[c]));
        route->codes[c] += k;
        others += k;
    }
    route->codes[0] += n - others;
    route->sum += n * route->median_s * (1.3 + 0.1 * rng_normal(rng));
    memcpy(values, route->codes, sizeof(route->codes));
    memcpy(values + FLEET_CODES, route->buckets, sizeof(route->buckets));
    values[FLEET_CODES + FLEET_BUCKETS] = route->sum;
    values[FLEET_CODES + FLEET_BUCKETS + 1] = route->buckets[FLEET_BUCKETS - 1];
}

static void other_begin(double *v, struct rng *rng, size_t i)
{
    static const double scales[OTHER_N] = {1, 40, 100000, 1e6};
    *v = floor(rng_unit(rng) * scales[i % OTHER_N]);
    if (i % OTHER_N == OTHER_FLOAT) *v += 1 + rng_unit(rng);
}

static double other_scrape(double *v, struct rng *rng, size_t i, double seconds)
{
    switch ((enum other_kind)(i % OTHER_N)) {
    case OTHER_FLOAT: *v *= 1 + 0.01 * rng_normal(rng); return *v;
    case OTHER_INTEGER:
        if (rng_chance(rng, 0.01)) *v = (double)rng_below(rng, 40);
        return *v;
    case OTHER_PAGES: *v = fmax(0, *v + rint(30 * rng_normal(rng))); return *v * 4096;
    default: *v += 15 * poisson(rng, seconds * 2); return *v / 100;
    }
}

static void instance_scrape(struct fleet *fleet, struct instance *instance, int64_t t_ms,
                            double *values)
{
    struct rng *rng = &instance->rng;
    int64_t jitter_ms = rng_chance(rng, 0.05) ? (int64_t)rng_below(rng, 9) - 4 : 0;
    double seconds = (double)fleet->config.interval_ms / 1000;
    double load = 1 + 0.6 * sin((double)t_ms / DAY_MS * 2 * M_PI);
    instance->t_ms = t_ms + instance->offset_ms + jitter_ms;
    for (size_t r = 0; r < FLEET_ROUTES; r++, values += FLEET_ROUTE_SERIES)
        route_scrape(&instance->routes[r], rng, load, seconds, values);
    for (size_t i = 0; i < fleet->n_others; i++)
        *values++ = other_scrape(&instance->others[i], rng, i, seconds);
}

static void patch_request(struct fleet *fleet, struct request *request)
{
    uint8_t *body = request->body.p;
    for (size_t i = request->first_series; i < request->first_series + request->n_series; i++)
        put_u64_le(body + fleet->value_offs[i], double_bits(fleet->values[i]));
    for (size_t i = 0; i < request->n_times; i++) {
        const struct time_patch *patch = &request->times[i];
        uint8_t t[VARINT_BYTES_MAX];
        size_t n = put_varint(t, (uint64_t)fleet->instances[patch->instance].t_ms);
        ASSERT(n == T_BYTES);
        memcpy(body + patch->off, t + patch->first, patch->n);
    }
}

void fleet_scrape(struct fleet *fleet, int64_t t_ms)
{
    for (size_t i = 0; i < fleet->config.n_instances; i++)
        instance_scrape(fleet, &fleet->instances[i], t_ms,
                        fleet->values + i * fleet->config.series_per_instance);
    for (size_t i = 0; i < fleet->n_requests; i++) patch_request(fleet, &fleet->requests[i]);
}

void fleet_end(struct fleet *fleet, int64_t t_ms)
{
    for (size_t i = 0; i < fleet->config.n_instances; i++)
        fleet->instances[i].t_ms = t_ms + fleet->instances[i].offset_ms;
    for (size_t i = 0; i < fleet_n_series(fleet); i++)
        fleet->values[i] = double_from_bits(STALE_NAN_BITS);
    for (size_t i = 0; i < fleet->n_requests; i++) patch_request(fleet, &fleet->requests[i]);
}

/* ---- life ---- */

static void instance_begin(struct fleet *fleet, struct instance *instance, size_t number)
{
    rng_seed(&instance->rng, fleet->config.seed * 0x9e3779b97f4a7c15u + number);
    /* Away from the ends, so that jitter leaves the order of scrapes alone. */
    instance->offset_ms =
        10 + (int64_t)rng_below(&instance->rng, (uint64_t)fleet->config.interval_ms);
    for (size_t r = 0; r < FLEET_ROUTES; r++) route_begin(&instance->routes[r], &instance->rng, r);
    for (size_t i = 0; i < fleet->n_others; i++)
        other_begin(&instance->others[i], &instance->rng, i);
}

static enum err_code fleet_alloc(struct fleet *fleet, struct err *err)
{
    const struct fleet_config *config = &fleet->config;
    size_t n_series;
    if (!mem_mul(config->n_instances, config->series_per_instance, &n_series) ||
        n_series > UINT32_MAX / CLASS_TIME_STEP)
        return err_set(err, ERR_LIMIT, "too many series");
    fleet->n_requests = (n_series + config->samples_per_request - 1) / config->samples_per_request;
    fleet->instances = mem_calloc(MEM_TOOLS, config->n_instances, sizeof(*fleet->instances));
    fleet->values = mem_calloc(MEM_TOOLS, n_series, sizeof(*fleet->values));
    fleet->value_offs = mem_calloc(MEM_TOOLS, n_series, sizeof(*fleet->value_offs));
    fleet->requests = mem_calloc(MEM_TOOLS, fleet->n_requests, sizeof(*fleet->requests));
    bool ok = fleet->instances && fleet->values && fleet->value_offs && fleet->requests;
    for (size_t i = 0; ok && i < config->n_instances; i++) {
        fleet->instances[i].others = mem_calloc(MEM_TOOLS, fleet->n_others + 1, sizeof(double));
        ok = fleet->instances[i].others != NULL;
    }
    return ok ? ERR_OK : err_set(err, ERR_NO_MEMORY, "no memory for %zu series", n_series);
}

enum err_code fleet_new(const struct fleet_config *config, struct fleet **out, struct err *err)
{
    if (config->series_per_instance < FLEET_SERIES_MIN || config->interval_ms < 100 ||
        config->samples_per_request == 0)
        return err_set(err, ERR_INVALID,
                       "an instance has at least %d series, a request at least one sample and an "
                       "interval at least 100 ms",
                       FLEET_SERIES_MIN);
    struct fleet *fleet = mem_calloc(MEM_TOOLS, 1, sizeof(*fleet));
    if (!fleet) return err_set(err, ERR_NO_MEMORY, "no memory for the fleet");
    fleet->config = *config;
    fleet->n_others = config->series_per_instance - FLEET_SERIES_MIN;
    enum err_code rc = fleet_alloc(fleet, err);
    for (size_t i = 0; !rc && i < config->n_instances; i++)
        instance_begin(fleet, &fleet->instances[i], config->first_instance + i);
    for (size_t i = 0; !rc && i < fleet->n_requests; i++) rc = make_request(fleet, i, err);
    if (rc) {
        fleet_free(fleet);
        return rc;
    }
    *out = fleet;
    return ERR_OK;
}

void fleet_free(struct fleet *fleet)
{
    if (!fleet) return;
    for (size_t i = 0; fleet->instances && i < fleet->config.n_instances; i++)
        mem_free(fleet->instances[i].others);
    for (size_t i = 0; fleet->requests && i < fleet->n_requests; i++) {
        buf_release(&fleet->requests[i].body);
        mem_free(fleet->requests[i].times);
    }
    mem_free(fleet->instances);
    mem_free(fleet->values);
    mem_free(fleet->value_offs);
    mem_free(fleet->requests);
    mem_free(fleet);
}

size_t fleet_n_requests(const struct fleet *fleet)
{
    return fleet->n_requests;
}

struct bytes fleet_request(const struct fleet *fleet, size_t i, size_t *n_samples)
{
    if (n_samples) *n_samples = fleet->requests[i].n_series;
    return buf_bytes(&fleet->requests[i].body);
}

size_t fleet_n_series(const struct fleet *fleet)
{
    return fleet->config.n_instances * fleet->config.series_per_instance;
}

double fleet_value(const struct fleet *fleet, size_t i)
{
    return fleet->values[i];
}

int64_t fleet_time(const struct fleet *fleet, size_t i)
{
    return fleet->instances[i / fleet->config.series_per_instance].t_ms;
}
