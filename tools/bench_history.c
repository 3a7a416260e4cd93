/* tools/bench_history.c: an import of old samples as a load. */
#include "tools/bench_load.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/snappy.h"

#define SAMPLE_BYTES                                                                               \
    18 /* tag, length, tag, value, tag, timestamp of six bytes: see FLEET_T_MIN_MS */
#define SERIES_MAX (1u << 30)
#define STEPS_MAX (1u << 30) /* so that places fit the 62 bits of bench_shuffle() */
#define REQUEST_SAMPLES_MAX (1u << 20)

enum kind { ENERGY, TEMPERATURE, STATE, VOLTAGE, KINDS_N };

struct history_load {
    struct bench_load base; /* first */
    struct bench_history_config config;
    uint64_t next, end; /* of the order */
    uint64_t *keys;     /* of the request: series << 32 | place in the order */
    struct buf raw, body;
    struct buf labels;
};

/* splitmix64's finish (Steele, Lea, Flood 2014): each bit of the result depends on each bit of x. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* A Feistel network permutes the next power of four; what falls beyond n goes through again until it does not. */
uint64_t bench_shuffle(uint64_t i, uint64_t n, uint64_t seed)
{
    unsigned half = 1;
    while (half < 31 && UINT64_C(1) << 2 * half < n) half++;
    uint64_t mask = (UINT64_C(1) << half) - 1;
    do {
        uint64_t left = i >> half, right = i & mask;
        for (uint64_t round = 1; round <= 4; round++) {
            uint64_t t = left ^ (mix(right + (seed + round) * 0x9e3779b97f4a7c15u) & mask);
            left = right;
            right = t;
        }
        i = left << half | right;
    } while (i >= n);
    return i;
}

/* Uniform in [0, 1), of a series at a step. */
static double noise(uint64_t seed, uint64_t series, uint64_t step)
{
    return (double)(mix(mix(seed + series) + step * 0x9e3779b97f4a7c15u) >> 11) * 0x1p-53;
}

double bench_history_value(uint64_t seed, uint64_t series, uint64_t step)
{
    double own = noise(seed, series, UINT64_MAX), now = noise(seed, series, step);
    double day = sin((double)step / 1440 * 2 * M_PI);
    switch ((enum kind)(series % KINDS_N)) {
    case ENERGY: { /* rises by 0 to twice its rate: the noise is less than a step of it */
        double rate = 100 + floor(own * 5000);
        return (double)step * rate + floor(now * rate);
    }
    case TEMPERATURE: return rint((15 + 10 * own + 5 * day + now) * 100) / 100;
    case STATE: return floor(noise(seed, series, step / 100) * 40);
    default: return 230 * (1 + 0.02 * (own + now) + 0.01 * day);
    }
}

static void put_labels(struct buf *out, uint64_t series)
{
    static const char *const names[KINDS_N] = {"meter_energy_joules_total",
                                               "meter_temperature_celsius", "meter_state",
                                               "meter_voltage_volts"};
    char instance[64], site[64];
    snprintf(instance, sizeof(instance), "meter-%06llu", (unsigned long long)(series / KINDS_N));
    snprintf(site, sizeof(site), "site-%03llu", (unsigned long long)(series / KINDS_N % 100));
    buf_reset(out);
    fleet_put_label(out, "__name__", names[series % KINDS_N]);
    fleet_put_label(out, "instance", instance);
    fleet_put_label(out, "job", "history");
    fleet_put_label(out, "site", site);
}

static uint64_t place(const struct bench_history_config *config, uint64_t i)
{
    return config->shuffled ? bench_shuffle(i, config->n_series * config->n_steps, config->seed)
                            : i;
}

static void put_series(struct history_load *l, uint64_t series, size_t n_samples)
{
    put_labels(&l->labels, series);
    buf_u8(&l->raw, 0x0a);
    buf_varint(&l->raw, l->labels.len + n_samples * SAMPLE_BYTES);
    buf_put(&l->raw, l->labels.p, l->labels.len);
}

static void put_sample(struct history_load *l, uint64_t series, uint64_t step)
{
    uint8_t t[VARINT_BYTES_MAX];
    const struct bench_history_config *config = &l->config;
    size_t n = put_varint(t, (uint64_t)(config->first_ms + (int64_t)step * config->interval_ms));
    ASSERT(n == SAMPLE_BYTES - 12);
    buf_put(&l->raw, "\x12\x10\x09", 3);
    buf_double(&l->raw, bench_history_value(config->seed, series, step));
    buf_u8(&l->raw, 0x10);
    buf_put(&l->raw, t, n);
}

static int compare_keys(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static enum err_code compress(struct history_load *l, struct err *err)
{
    buf_reset(&l->body);
    enum err_code rc = buf_finish(&l->raw, err);
    return rc ? rc : snappy_encode(buf_bytes(&l->raw), &l->body, err);
}

/* The samples of one series stand together in a request, in the order in which they come. */
static enum err_code history_body(struct bench_load *load, size_t i, struct bytes *body,
                                  size_t *n_samples, struct err *err)
{
    (void)i;
    struct history_load *l = CONTAINER_OF(load, struct history_load, base);
    const struct bench_history_config *config = &l->config;
    size_t n = (size_t)MIN_OF(config->samples_per_request, l->end - l->next);
    for (size_t k = 0; k < n; k++)
        l->keys[k] = place(config, l->next + k) / config->n_steps << 32 | k;
    if (config->shuffled) qsort(l->keys, n, sizeof(*l->keys), compare_keys);
    buf_reset(&l->raw);
    for (size_t k = 0; k < n;) {
        uint64_t series = l->keys[k] >> 32;
        size_t end = k;
        while (end < n && l->keys[end] >> 32 == series) end++;
        put_series(l, series, end - k);
        for (; k < end; k++)
            put_sample(l, series,
                       place(config, l->next + (l->keys[k] & UINT32_MAX)) % config->n_steps);
    }
    l->next += n;
    enum err_code rc = compress(l, err);
    *body = buf_bytes(&l->body);
    *n_samples = n;
    return rc;
}

static enum err_code history_round(struct bench_load *load, size_t *n_requests, struct err *err)
{
    (void)err;
    struct history_load *l = CONTAINER_OF(load, struct history_load, base);
    *n_requests = l->next < l->end;
    return ERR_OK;
}

static void history_free(struct bench_load *load)
{
    struct history_load *l = CONTAINER_OF(load, struct history_load, base);
    buf_release(&l->raw);
    buf_release(&l->body);
    buf_release(&l->labels);
    mem_free(l->keys);
    mem_free(l);
}

enum err_code bench_history_new(const struct bench_history_config *config, struct bench_load **out,
                                struct err *err)
{
    static const struct bench_load_ops ops = {history_round, history_body, history_free};
    if (config->n_series == 0 || config->n_series > SERIES_MAX || config->n_steps == 0 ||
        config->n_steps > STEPS_MAX || config->samples_per_request == 0 ||
        config->samples_per_request > REQUEST_SAMPLES_MAX)
        return err_set(err, ERR_INVALID,
                       "series, scrapes and samples per request must be at least 1 and at most "
                       "%u, %u and %u",
                       SERIES_MAX, STEPS_MAX, REQUEST_SAMPLES_MAX);
    struct history_load *l = mem_calloc(MEM_TOOLS, 1, sizeof(*l));
    if (l) l->keys = mem_calloc(MEM_TOOLS, (size_t)config->samples_per_request, sizeof(*l->keys));
    if (!l || !l->keys) {
        mem_free(l);
        return err_set(err, ERR_NO_MEMORY, "no memory for a load");
    }
    uint64_t total = config->n_series * config->n_steps;
    uint64_t share = total / config->n_parts, rest = total % config->n_parts;
    l->config = *config;
    l->next = share * config->part + MIN_OF(config->part, rest);
    l->end = l->next + share + (config->part < rest);
    buf_init(&l->raw, MEM_TOOLS);
    buf_init(&l->body, MEM_TOOLS);
    buf_init(&l->labels, MEM_TOOLS);
    l->base = (struct bench_load){
        .ops = &ops,
        .n_samples = l->end - l->next,
        .first_ms = config->first_ms,
        .last_ms = config->first_ms + (int64_t)config->n_steps * config->interval_ms,
    };
    *out = &l->base;
    return ERR_OK;
}
