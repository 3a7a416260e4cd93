/* tests/engine/test_head.c: one series of the head against a naive reference: samples in and out of order, repeated,
 * overwritten, stale, NaN bits, histograms; generations cut and swept at random. */
#include "engine/head.h"

#include "tests/engine/model.h"

#define T_MAX 4000 /* times are 0 .. T_MAX - 1, in steps */
#define GENS_MAX 12

struct head_fixture {
    struct cell_pool pool;
    struct head_stripe stripe;
    struct series s;
    struct arena arena;
    struct err err;
    struct head_counts counts;
    /* The reference: the value at each time after generation g, and what the blocks would hold. */
    struct value now[T_MAX], swept[T_MAX];
    struct value after_gen[GENS_MAX][T_MAX];
    uint32_t gen, swept_gen;
    uint64_t n_stored, n_out_of_order, n_duplicate, n_overwritten;
};

static void head_init(struct head_fixture *f)
{
    memset(f, 0, sizeof(*f));
    lock_init(&f->stripe.lock, LOCK_SHARD);
    CHECK(cell_pool_init(&f->pool, MEM_HEAD));
    f->stripe.pool = &f->pool;
    arena_init(&f->arena, MEM_BASE, 0);
    f->gen = 1;
    for (size_t t = 0; t < T_MAX; t++) f->now[t] = f->swept[t] = f->after_gen[0][t] = value_none();
}

static void head_release(struct head_fixture *f)
{
    head_sweep(&f->stripe, &f->counts, UINT32_MAX, &f->s);
    CHECK(head_is_empty(&f->s));
    CHECK_I64(f->counts.bytes, 0);
    CHECK_I64(f->counts.chunks, 0);
    CHECK_I64(f->counts.samples, 0);
    cell_pool_release(&f->pool);
    lock_destroy(&f->stripe.lock);
    arena_release(&f->arena);
}

struct head_reference {
    struct value head[T_MAX]; /* since the last sweep */
    uint32_t gen_of[T_MAX];   /* of the last sample that was stored there */
};

static void reference_write(struct head_fixture *f, struct head_reference *r, size_t t,
                            struct value v)
{
    struct value old = r->head[t];
    bool later = true;
    for (size_t k = t; k < T_MAX; k++) later &= r->head[k].none;
    f->now[t] = value_over(f->now[t], v);
    if (old.none) {
        f->n_out_of_order += !later;
    } else if (value_same(old, v) || !value_same(value_over(old, v), v)) {
        f->n_duplicate++;
        return;
    } else {
        f->n_overwritten++;
    }
    f->n_stored++;
    r->head[t] = v;
    r->gen_of[t] = f->gen;
}

static void head_write(struct head_fixture *f, size_t t, struct value v)
{
    struct head_value value = {.v = v.is_histogram ? 0 : double_from_bits(v.bits)};
    struct buf encoded;
    buf_init(&encoded, MEM_BASE);
    enum err_code rc;
    lock_take(&f->stripe.lock);
    if (v.is_histogram) {
        struct histogram *h = model_histogram(&f->arena, v.bits);
        histogram_encode(&encoded, h);
        value = (struct head_value){h->sum, h, buf_bytes(&encoded)};
        rc = head_append(&f->stripe, &f->counts, f->gen, &f->s, (int64_t)t * 500, &value, &f->err);
    } else {
        rc = head_append_float(&f->stripe, &f->counts, f->gen, &f->s, (int64_t)t * 500, value.v,
                               &f->err);
    }
    lock_release(&f->stripe.lock);
    CHECK_OK(rc, &f->err);
    buf_release(&encoded);
}

static void samples_of(struct head_fixture *f, const struct value *values, size_t from, size_t end,
                       struct samples *out)
{
    for (size_t t = from; t < end; t++) {
        if (values[t].none) continue;
        struct histogram *h =
            values[t].is_histogram ? model_histogram(&f->arena, values[t].bits) : NULL;
        CHECK_OK(samples_push(out, (int64_t)t * 500, h ? h->sum : double_from_bits(values[t].bits),
                              h, &f->err),
                 &f->err);
    }
}

/* A reader whose blocks hold the generations up to gen_after reads a span of time. */
static void head_check(struct head_fixture *f, struct rng *rng, uint32_t gen_after)
{
    size_t from = 0, end = T_MAX;
    if (rng_chance(rng, 0.5)) {
        from = rng_below(rng, T_MAX);
        end = from + rng_below(rng, T_MAX - from + 1);
    }
    struct samples s;
    samples_init(&s, MEM_BASE, &f->arena);
    samples_of(f, gen_after ? f->after_gen[gen_after] : f->after_gen[0], from, end, &s);
    bool has = head_overlaps(&f->s, gen_after, (int64_t)from * 500, ((int64_t)end - 1) * 500);
    size_t n_block = s.n;
    CHECK_OK(head_read(&f->stripe, &f->s, gen_after, UINT32_MAX, (int64_t)from * 500,
                       ((int64_t)end - 1) * 500, &s, &f->err),
             &f->err);
    if (!has) CHECK_U64(s.n, n_block);
    size_t i = 0;
    for (size_t t = from; t < end; t++) {
        if (f->now[t].none) continue;
        CHECK(i < s.n);
        CHECK_I64(s.t_ms[i], (int64_t)t * 500);
        CHECK(value_is(f->now[t], &s, i, &f->arena));
        i++;
    }
    CHECK_U64(i, s.n);
    samples_release(&s);
    arena_reset(&f->arena);
}

static struct value random_value(struct rng *rng, bool histograms)
{
    if (histograms && rng_chance(rng, 0.5))
        return (struct value){.is_histogram = true,
                              .bits = rng_chance(rng, 0.1) ? MODEL_STALE_HISTOGRAM
                                                           : rng_below(rng, 50)};
    switch (rng_below(rng, 6)) {
    case 0: return (struct value){.bits = STALE_NAN_BITS};
    case 1: return (struct value){.bits = UINT64_C(0x7ff0000000000000) | rng_below(rng, 4)};
    case 2: return (struct value){.bits = rng_u64(rng)};
    default: return (struct value){.bits = double_bits((double)rng_below(rng, 3))};
    }
}

static void as_the_reference(void **state)
{
    (void)state;
    static struct head_fixture f;
    static struct head_reference r;
    struct rng rng;
    PROPERTY_LOOP(&rng, 60)
    {
        head_init(&f);
        for (size_t t = 0; t < T_MAX; t++) r.head[t] = value_none();
        bool histograms = rng_chance(&rng, 0.3);
        double late = rng_chance(&rng, 0.5) ? 0.02 : rng_unit(&rng);
        size_t t = 0;
        for (int step = 0; step < 1500; step++) {
            size_t at = t;
            if (rng_chance(&rng, late))
                at = rng_below(&rng, t + 1);
            else
                t = MIN_OF(t + 1 + rng_below(&rng, 3), (size_t)T_MAX - 1), at = t;
            struct value v = random_value(&rng, histograms);
            if (rng_chance(&rng, 0.1) && !f.now[at].none) v = f.now[at]; /* a retry */
            head_write(&f, at, v);
            reference_write(&f, &r, at, v);
            CHECK_U64(f.counts.n_stored, f.n_stored);
            CHECK_U64(f.counts.n_duplicate, f.n_duplicate);
            CHECK_U64(f.counts.n_overwritten, f.n_overwritten);
            CHECK_U64(f.counts.n_out_of_order, f.n_out_of_order);
            if (rng_chance(&rng, 0.006) && f.gen + 1 < GENS_MAX) { /* a flush cuts */
                memcpy(f.after_gen[f.gen], f.now, sizeof(f.now));
                f.gen++;
            }
            if (rng_chance(&rng, 0.006) && f.gen > f.swept_gen + 1) {
                f.swept_gen += 1 + (uint32_t)rng_below(&rng, f.gen - f.swept_gen - 1);
                head_sweep(&f.stripe, &f.counts, f.swept_gen, &f.s);
                for (size_t k = 0; k < T_MAX; k++)
                    if (r.gen_of[k] <= f.swept_gen) r.head[k] = value_none();
            }
            if (rng_chance(&rng, 0.02))
                head_check(&f, &rng, f.swept_gen + (uint32_t)rng_below(&rng, f.gen - f.swept_gen));
        }
        head_check(&f, &rng, f.swept_gen);
        head_release(&f);
    }
}

/* A backfill of one series: later samples first, then thousands of older ones. */
static void backfill(void **state)
{
    (void)state;
    static struct head_fixture f;
    static struct head_reference r;
    struct rng rng;
    test_rng(&rng);
    head_init(&f);
    for (size_t t = 0; t < T_MAX; t++) r.head[t] = value_none();
    for (size_t t = T_MAX - 10; t < T_MAX; t++) {
        head_write(&f, t, (struct value){.bits = t});
        reference_write(&f, &r, t, (struct value){.bits = t});
    }
    for (size_t t = 0; t < T_MAX - 10; t++) {
        head_write(&f, t, (struct value){.bits = double_bits((double)t)});
        reference_write(&f, &r, t, (struct value){.bits = double_bits((double)t)});
    }
    CHECK_U64(f.counts.n_out_of_order, T_MAX - 10);
    for (int i = 0; i < 20; i++) head_check(&f, &rng, 0);
    CHECK(f.counts.bytes < 5 * T_MAX); /* sealed, not raw */
    head_release(&f);
}

/* A history in no order at all, three times over with other values and staleness markers: more sealed chunks than are
 * looked into. What is read is what was written last all the same, and stays so when a generation is swept. */
static void shuffled(void **state)
{
    (void)state;
    static struct head_fixture f;
    static struct head_reference r;
    struct rng rng;
    test_rng(&rng);
    head_init(&f);
    for (size_t t = 0; t < T_MAX; t++) r.head[t] = value_none();
    for (size_t i = 0; i < (size_t)3 * T_MAX; i++) {
        size_t t = rng_below(&rng, T_MAX);
        uint64_t bits = rng_chance(&rng, 0.1) ? STALE_NAN_BITS : double_bits((double)i);
        head_write(&f, t, (struct value){.bits = bits});
        reference_write(&f, &r, t, (struct value){.bits = bits});
    }
    CHECK(f.s.extra->n_sealed > 8);
    for (int i = 0; i < 20; i++) head_check(&f, &rng, 0);
    head_release(&f);
}

/* Start timestamps in any order, with generations cut and swept: each sample keeps the one it came with, those that
 * came without have none, and a sweep leaves nothing behind. */
static void start_times(void **state)
{
    (void)state;
    static struct head_fixture f;
    static int64_t starts[T_MAX];
    static double values[T_MAX];
    static uint32_t gens[T_MAX];
    struct rng rng;
    PROPERTY_LOOP(&rng, 60)
    {
        head_init(&f);
        memset(gens, 0, sizeof(gens)); /* 0: no sample */
        double late = rng_chance(&rng, 0.5) ? 0.02 : rng_unit(&rng);
        double change = rng_chance(&rng, 0.5) ? 0.01 : rng_unit(&rng);
        int64_t st_ms = 0;
        uint32_t swept = 0;
        size_t t = 0;
        for (int step = 0; step < 1500; step++) {
            bool is_late = rng_chance(&rng, late);
            if (!is_late) t = MIN_OF(t + 1 + rng_below(&rng, 3), (size_t)T_MAX - 1);
            size_t at = is_late ? rng_below(&rng, t + 1) : t;
            if (rng_chance(&rng, change)) st_ms = (int64_t)rng_below(&rng, 4);
            lock_take(&f.stripe.lock);
            CHECK_OK(head_append_started(&f.stripe, &f.counts, f.gen, &f.s, (int64_t)at * 2, step,
                                         st_ms, &f.err),
                     &f.err);
            lock_release(&f.stripe.lock);
            starts[at] = st_ms;
            values[at] = step;
            gens[at] = f.gen;
            if (rng_chance(&rng, 0.006)) f.gen++;
            if (rng_chance(&rng, 0.006) && f.gen > swept + 1) {
                swept += 1 + (uint32_t)rng_below(&rng, f.gen - swept - 1);
                head_sweep(&f.stripe, &f.counts, swept, &f.s);
            }
        }
        struct samples s;
        samples_init(&s, MEM_BASE, &f.arena);
        CHECK_OK(head_read(&f.stripe, &f.s, swept, UINT32_MAX, 0, INT64_MAX, &s, &f.err), &f.err);
        size_t n = 0;
        for (size_t k = 0; k < T_MAX; k++) {
            if (gens[k] <= swept) continue;
            CHECK(n < s.n);
            CHECK_I64(s.t_ms[n], (int64_t)k * 2);
            CHECK_SAME_DOUBLE(s.v[n], values[k]);
            CHECK_I64(s.st_ms ? s.st_ms[n] : 0, starts[k]);
            n++;
        }
        CHECK_U64(s.n, n);
        samples_release(&s);
        head_release(&f);
    }
}

struct failing {
    uint64_t k;
};
static bool fail_at(void *ctx, size_t size)
{
    (void)size;
    struct failing *f = ctx;
    return f->k > 0 && --f->k == 0;
}

/* Allocations fail: the sample is refused and nothing else changes. */
static void without_memory(void **state)
{
    (void)state;
    static struct head_fixture f;
    struct rng rng;
    PROPERTY_LOOP(&rng, 40)
    {
        head_init(&f);
        bool histograms = rng_chance(&rng, 0.5);
        for (int step = 0; step < 600; step++) {
            size_t t = rng_chance(&rng, 0.3) ? rng_below(&rng, 2000) : 2000 + (size_t)step;
            struct value v = random_value(&rng, histograms);
            struct head_value value = {.v = v.is_histogram ? 0 : double_from_bits(v.bits)};
            struct buf encoded;
            buf_init(&encoded, MEM_BASE);
            if (v.is_histogram) {
                struct histogram *h = model_histogram(&f.arena, v.bits);
                histogram_encode(&encoded, h);
                value = (struct head_value){h->sum, h, buf_bytes(&encoded)};
            }
            struct failing failing = {rng_below(&rng, 4)};
            mem_set_fail_hook(fail_at, &failing);
            lock_take(&f.stripe.lock);
            enum err_code rc =
                head_append(&f.stripe, &f.counts, f.gen, &f.s, (int64_t)t * 500, &value, &f.err);
            lock_release(&f.stripe.lock);
            mem_set_fail_hook(NULL, NULL);
            CHECK(rc == ERR_OK || rc == ERR_NO_MEMORY);
            if (!rc) f.now[t] = value_over(f.now[t], v);
            if (rng_chance(&rng, 0.01) && f.gen + 1 < GENS_MAX) f.gen++;
            buf_release(&encoded);
        }
        head_check(&f, &rng, 0);
        head_release(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_the_reference), cmocka_unit_test(backfill),
        cmocka_unit_test(shuffled),         cmocka_unit_test(start_times),
        cmocka_unit_test(without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
