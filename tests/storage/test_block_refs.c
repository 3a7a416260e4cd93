/* tests/storage/test_block_refs.c: lists of chunks there and back, cut short and with bytes changed. */
#include "storage/block_refs.h"

#include "storage/family.h"
#include "tests/storage/gen.h"

#define CHUNKS_MAX 200

struct group {
    struct chunk_ref refs[CHUNKS_MAX];
    uint32_t n_chunks[BLOCK_GROUP_SERIES];
    unsigned n_series;
};

static double gen_number(struct rng *rng, unsigned kind)
{
    static const double odd[] = {
        -0.0, 0.0,   INFINITY, -INFINITY, 1e300, 9007199254740992.0, -9007199254740993.0,
        0.1,  1e-12, 5e-324};
    switch (kind) {
    case 0: return (double)rng_below(rng, 1000000);
    case 1: return (double)rng_below(rng, 1000000) / 100;
    case 2: return rng_normal(rng);
    case 3: return -(double)rng_below(rng, 1 + (UINT64_C(1) << rng_below(rng, 54)));
    default: return odd[rng_below(rng, COUNT_OF(odd))];
    }
}

static void gen_meta(struct rng *rng, struct chunk_meta *m, int64_t t_min_ms)
{
    unsigned kind = (unsigned)rng_below(rng, 5);
    uint32_t n = 1 + (uint32_t)rng_below(rng, rng_chance(rng, 0.1) ? CHUNK_SAMPLES_MAX : 1000);
    *m = (struct chunk_meta){.t_min_ms = t_min_ms,
                             .t_max_ms = t_min_ms + n - 1 + (int64_t)rng_below(rng, 1000000),
                             .n = n,
                             .n_resets = rng_chance(rng, 0.7) ? 0 : (uint32_t)rng_below(rng, n)};
    double a = gen_number(rng, kind), b = gen_number(rng, kind);
    m->first = a;
    m->last = rng_chance(rng, 0.2) ? a : b;
    m->min = fmin(m->first, m->last);
    m->max = fmax(m->first, m->last);
    if (rng_chance(rng, 0.4)) m->min = fmin(m->min, gen_number(rng, kind));
    if (rng_chance(rng, 0.4)) m->max = fmax(m->max, gen_number(rng, kind));
    if (rng_chance(rng, 0.05)) {
        m->first = m->last = m->min = m->max = double_from_bits(NO_FLOATS_BITS);
        m->n_resets = 0;
    }
}

static void gen_group(struct rng *rng, struct group *g)
{
    uint64_t item = rng_chance(rng, 0.1) ? UINT32_MAX - 5 : rng_below(rng, 100000);
    struct chunk_ref *ref = g->refs;
    g->n_series = 1 + (unsigned)rng_below(rng, BLOCK_GROUP_SERIES);
    for (unsigned i = 0; i < g->n_series; ref += g->n_chunks[i++]) {
        bool copy = i && rng_chance(rng, 0.5); /* of the times of the series before */
        uint32_t n = copy ? g->n_chunks[i - 1] : 1 + (uint32_t)rng_below(rng, 12);
        int64_t t = INT64_C(1700000000000) + (int64_t)rng_below(rng, 1000000);
        if (rng_chance(rng, 0.05)) t = INT64_MIN;
        g->n_chunks[i] = n;
        for (uint32_t k = 0; k < n; k++) {
            memset(&ref[k], 0, sizeof(ref[k]));
            gen_meta(rng, &ref[k].meta, t);
            ref[k].item = item += rng_chance(rng, 0.7) ? 1 : rng_below(rng, 50) - 20;
            ref[k].own_times = rng_chance(rng, 0.1);
            if (!ref[k].own_times) {
                ref[k].column = (uint32_t)rng_below(rng, 40);
                ref[k].start = rng_chance(rng, 0.5) ? 0 : (uint32_t)rng_below(rng, 1000);
            }
            if (copy) {
                struct chunk_ref *from = ref - n + k;
                ref[k].own_times = from->own_times;
                ref[k].column = from->column;
                ref[k].start = from->start;
                ref[k].meta.t_min_ms = from->meta.t_min_ms;
                ref[k].meta.t_max_ms = from->meta.t_max_ms;
                ref[k].meta.n = from->meta.n;
                ref[k].meta.n_resets = MIN_OF(ref[k].meta.n_resets, from->meta.n - 1);
            }
            ref[k].family = !ref[k].own_times && rng_chance(rng, 0.3);
            if (ref[k].family) ref[k].member = rng_chance(rng, 0.2) ? FAMILY_COUNT : 3;
            ref[k].has_starts = !ref[k].family && rng_chance(rng, 0.1);
            ref[k].meta.has_histograms = ref[k].own_times && rng_chance(rng, 0.5);
            t = ref[k].meta.t_max_ms + 1 + (int64_t)rng_below(rng, 30000);
        }
    }
}

static void check_same(const struct chunk_ref *a, const struct chunk_ref *b)
{
    CHECK_I64(a->meta.t_min_ms, b->meta.t_min_ms);
    CHECK_I64(a->meta.t_max_ms, b->meta.t_max_ms);
    CHECK_U64(a->meta.n, b->meta.n);
    CHECK_U64(a->meta.n_resets, b->meta.n_resets);
    CHECK_U64(double_bits(a->meta.first), double_bits(b->meta.first));
    CHECK_U64(double_bits(a->meta.last), double_bits(b->meta.last));
    CHECK_U64(double_bits(a->meta.min), double_bits(b->meta.min));
    CHECK_U64(double_bits(a->meta.max), double_bits(b->meta.max));
    CHECK(a->meta.has_histograms == b->meta.has_histograms);
    CHECK_U64(a->item, b->item);
    CHECK(a->own_times == b->own_times && a->column == b->column && a->start == b->start);
    CHECK(a->has_starts == b->has_starts && a->family == b->family);
    CHECK(!a->family || a->member == b->member);
}

/* Reads all that a group's bytes say; true when nothing is wrong with it. `expected` may be NULL. */
static bool read_group(struct bytes item, unsigned n_series, const struct group *expected)
{
    struct err err;
    bool ok = true;
    size_t at = 0;
    for (unsigned k = 0; k < n_series; k++) {
        struct chunk_refs l;
        enum err_code rc = chunk_refs_find(BLOCK_VERSION, item, n_series, k, &l, &err);
        int64_t before_ms = 0;
        bool first = true;
        while (!rc && l.n_left) {
            struct chunk_ref ref;
            rc = chunk_refs_next(&l, &ref, &err);
            if (rc) break;
            CHECK(ref.meta.n >= 1 && ref.meta.n <= CHUNK_SAMPLES_MAX);
            CHECK(ref.meta.t_max_ms >= ref.meta.t_min_ms);
            CHECK(first || ref.meta.t_min_ms > before_ms);
            CHECK(ref.meta.n_resets < ref.meta.n);
            before_ms = ref.meta.t_max_ms;
            first = false;
            if (expected) check_same(&ref, &expected->refs[at++]);
        }
        CHECK(rc == ERR_OK || rc == ERR_CORRUPT);
        ok &= rc == ERR_OK;
    }
    return ok;
}

static void test_roundtrip(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 3000)
    {
        struct err err;
        static struct group g;
        struct refs_writer w;
        struct buf item;
        refs_writer_init(&w);
        buf_init(&item, MEM_BASE);
        for (int k = 0; k < 2; k++) { /* the writer is used again */
            gen_group(&rng, &g);
            buf_reset(&item);
            CHECK_OK(refs_group_encode(&w, &item, g.refs, g.n_chunks, g.n_series, &err), &err);
            CHECK(read_group(buf_bytes(&item), g.n_series, &g));
        }
        size_t len = rng_below(&rng, item.len);
        CHECK(!read_group(bytes_of(item.p, len), g.n_series, NULL));
        for (int k = 0; k < 20; k++) {
            size_t at = rng_below(&rng, item.len);
            uint8_t byte = item.p[at];
            item.p[at] = (uint8_t)rng_u64(&rng);
            read_group(buf_bytes(&item), g.n_series, NULL);
            item.p[at] = byte;
        }
        buf_release(&item);
        refs_writer_release(&w);
    }
}

/* A counter of a fleet: what a chunk costs when its neighbours are alike. */
static void test_sizes(void **state)
{
    (void)state;
    struct err err;
    static struct group g = {.n_series = BLOCK_GROUP_SERIES};
    struct refs_writer w;
    struct buf item;
    refs_writer_init(&w);
    buf_init(&item, MEM_BASE);
    size_t at = 0;
    for (unsigned i = 0; i < g.n_series; i++) {
        g.n_chunks[i] = 6;
        for (int k = 0; k < 6; k++) {
            double first = 1000000 + k * 5000 + i, last = first + 4990;
            g.refs[at] = (struct chunk_ref){
                .item = at,
                .column = (uint32_t)k,
                .meta = {.t_min_ms = INT64_C(1700000000000) + k * 15375000,
                         .t_max_ms = INT64_C(1700000000000) + k * 15375000 + 15360000,
                         .n = 1025,
                         .first = first,
                         .last = last,
                         .min = first,
                         .max = last}};
            at++;
        }
    }
    CHECK_OK(refs_group_encode(&w, &item, g.refs, g.n_chunks, g.n_series, &err), &err);
    CHECK(read_group(buf_bytes(&item), g.n_series, &g));
    CHECK(item.len <= at * 6);
    buf_release(&item);
    refs_writer_release(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_roundtrip),
        cmocka_unit_test(test_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
