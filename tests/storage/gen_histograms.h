/* tests/storage/gen_histograms.h: series of native histograms of many kinds, for the tests and the benchmark of their
 * columns. */
#ifndef QUIPU_TESTS_STORAGE_GEN_HISTOGRAMS_H
#define QUIPU_TESTS_STORAGE_GEN_HISTOGRAMS_H

#include "storage/chunk.h"
#include "storage/times.h"
#include "tests/storage/gen.h"
#include "tests/storage/gen_family.h"

enum gen_histogram_kind {
    GEN_HISTOGRAM_MIXED,     /* floats between, layouts that change, all schemas (gen_histograms) */
    GEN_HISTOGRAM_LATENCIES, /* an integer counter whose layout grows */
    GEN_HISTOGRAM_CUSTOM,    /* custom bounds, a marker now and then */
    GEN_HISTOGRAM_FLOATS,    /* rates, as a recording rule writes them */
    GEN_HISTOGRAM_GAUGE,     /* counts that go up and down */
    GEN_HISTOGRAM_ANY_BITS,  /* counts, sums and start times of any bits */
    GEN_HISTOGRAM_KINDS
};

#define GEN_BUCKETS 40

__attribute__((unused)) static struct histogram *gen_histogram_plain(struct arena *arena,
                                                                     uint32_t n_pos, bool custom)
{
    struct histogram *h = ARENA_NEW(arena, struct histogram);
    struct histogram_span *span = ARENA_NEW(arena, struct histogram_span);
    double *pos = ARENA_ARRAY(arena, double, n_pos + 1),
           *bounds = ARENA_ARRAY(arena, double, GEN_BUCKETS);
    CHECK(h && span && pos && bounds);
    *span = (struct histogram_span){custom ? 0 : -12, n_pos};
    *h = (struct histogram){.schema = custom ? HISTOGRAM_SCHEMA_CUSTOM : 3,
                            .is_int = true,
                            .reset_hint = HISTOGRAM_RESET_NO,
                            .zero_threshold = custom ? 0 : 0x1p-128,
                            .pos_spans = span,
                            .n_pos_spans = 1,
                            .pos = pos,
                            .n_pos = n_pos};
    for (int i = 0; custom && i < GEN_BUCKETS; i++) bounds[i] = 0.005 * (double)(i + 1);
    if (custom) h->bounds = bounds, h->n_bounds = GEN_BUCKETS;
    return h;
}

/* A bell of buckets that counts `per_scrape` more from sample to sample. */
__attribute__((unused)) static void gen_histogram_bell(struct rng *rng, struct samples *s, size_t n,
                                                       enum gen_histogram_kind kind,
                                                       double per_scrape)
{
    struct err err;
    bool custom = kind == GEN_HISTOGRAM_CUSTOM, grows = kind == GEN_HISTOGRAM_LATENCIES;
    double own[GEN_BUCKETS] = {0}, sum = 0, load = 1;
    uint32_t n_pos = grows ? 22 : 30;
    int64_t t = INT64_C(1700000000000) + (int64_t)rng_below(rng, 15000);
    for (size_t i = 0; i < n; i++, t += (int64_t)gen_step_ms(rng, 1)) {
        load *= exp(0.04 * rng_normal(rng));
        for (uint32_t k = 0; k < GEN_BUCKETS; k++) {
            double z = ((double)k - 15) / 5;
            double more = (double)gen_poisson(rng, per_scrape * load * 0.08 * exp(-z * z / 2));
            if (kind == GEN_HISTOGRAM_GAUGE) own[k] = 0;
            own[k] += more;
            sum += more * 0.01 * (double)(k + 1);
            if (own[k] && grows && n_pos <= k) n_pos = k + 1;
        }
        struct histogram *h = gen_histogram_plain(s->arena, n_pos, custom);
        if (kind == GEN_HISTOGRAM_GAUGE) h->reset_hint = HISTOGRAM_RESET_GAUGE;
        if (i == 0) h->reset_hint = HISTOGRAM_RESET_UNKNOWN;
        h->is_int = kind != GEN_HISTOGRAM_FLOATS;
        h->sum = sum;
        h->start_ms = grows ? INT64_C(1699999990123) : 0;
        for (uint32_t k = 0; k < n_pos; k++)
            h->count += h->pos[k] = kind == GEN_HISTOGRAM_FLOATS ? own[k] / 15 : own[k];
        if (custom && rng_chance(rng, 0.03)) {
            h = gen_histogram_plain(s->arena, 0, false);
            h->sum = stale_nan();
        }
        CHECK_OK(samples_push(s, t, h->sum, h, &err), &err);
        memcpy(&s->v[s->n - 1], &h->sum, sizeof(h->sum));
    }
}

__attribute__((unused)) static void gen_spoil(struct rng *rng, double *v)
{
    double state = 3;
    uint64_t bits = gen_value_bits(rng, rng_chance(rng, 0.5) ? 6 : 5, &state);
    if (rng_chance(rng, 0.3)) memcpy(v, &bits, sizeof(bits));
}

__attribute__((unused)) static void gen_histogram_series(struct rng *rng, struct samples *s,
                                                         size_t n, enum gen_histogram_kind kind)
{
    if (kind != GEN_HISTOGRAM_MIXED && kind != GEN_HISTOGRAM_ANY_BITS) {
        gen_histogram_bell(rng, s, n, kind, (double)rng_below(rng, 200));
        return;
    }
    gen_histograms(rng, s, n);
    for (size_t i = 0; kind == GEN_HISTOGRAM_ANY_BITS && s->h && i < n; i++) {
        struct histogram *h = s->h[i];
        if (!h || rng_chance(rng, 0.5)) continue;
        gen_spoil(rng, &h->count);
        gen_spoil(rng, &h->zero_count);
        gen_spoil(rng, &h->sum);
        memcpy(&s->v[i], &h->sum, sizeof(h->sum));
        for (uint32_t k = 0; k < h->n_pos; k++) gen_spoil(rng, &h->pos[k]);
        for (uint32_t k = 0; k < h->n_neg; k++) gen_spoil(rng, &h->neg[k]);
        if (rng_chance(rng, 0.3)) h->start_ms = (int64_t)rng_u64(rng);
    }
}

#endif
