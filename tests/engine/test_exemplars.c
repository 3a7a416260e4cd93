/* tests/engine/test_exemplars.c: the ring of exemplars: its bounds, its order, its runs. */
#include "engine/exemplars.h"

#include <math.h>

#include "base/rng.h"
#include "tests/quipu_test.h"

#define SERIES_N 7
#define MODEL_MAX 400

struct fixture {
    struct exemplar_room room;
    struct exemplars ex;
    struct arena arena;
    struct err err;
};

static void fixture_init(struct fixture *f, uint64_t max)
{
    *f = (struct fixture){.room = {.max = max, .bytes_max = (size_t)1 << 20}};
    exemplars_init(&f->ex, &f->room);
    arena_init(&f->arena, MEM_BASE, 0);
}

static void fixture_release(struct fixture *f)
{
    exemplars_release(&f->ex);
    CHECK_U64(f->room.bytes_used, 0);
    arena_release(&f->arena);
}

/* {n="<number>"}, encoded. */
static struct bytes encoded(struct fixture *f, unsigned number)
{
    struct buf b;
    struct label label = {STR("n"), arena_printf(&f->arena, "%u", number)};
    buf_init(&b, MEM_BASE);
    labels_encode(&b, (struct labels){&label, 1});
    struct str copy = arena_str(&f->arena, str_from_bytes(buf_bytes(&b)));
    buf_release(&b);
    return bytes_of(copy.p, copy.len);
}

static enum exemplar_outcome add(struct fixture *f, unsigned series, int64_t t_ms, double v,
                                 unsigned trace)
{
    struct encoded_exemplar e = {t_ms, v, encoded(f, trace)};
    return exemplars_add(&f->ex, encoded(f, series), &e);
}

static size_t all(struct fixture *f, struct series_exemplars **out)
{
    struct matcher_set every = {NULL, 0};
    size_t n;
    CHECK_OK(exemplars_select(&f->ex, &every, 1, INT64_MIN, INT64_MAX, NULL, &f->arena, out, &n,
                              &f->err),
             &f->err);
    return n;
}

static void test_order(void **state)
{
    (void)state;
    struct fixture f;
    struct series_exemplars *found;
    fixture_init(&f, 100);
    CHECK(add(&f, 1, 1000, 1, 1) == EXEMPLAR_STORED);
    CHECK(add(&f, 1, 1000, 1, 1) == EXEMPLAR_REPEATED);
    CHECK(add(&f, 1, 1000, 1, 2) == EXEMPLAR_STORED);
    CHECK(add(&f, 1, 1000, 0.5, 3) == EXEMPLAR_OUT_OF_ORDER);
    CHECK(add(&f, 1, 2000, 0.5, 3) == EXEMPLAR_STORED);
    CHECK(add(&f, 1, 1000, 1, 2) == EXEMPLAR_REPEATED); /* a retry that comes late */
    CHECK(add(&f, 1, 1999, 9, 9) == EXEMPLAR_OUT_OF_ORDER);
    CHECK(add(&f, 2, 1, 9, 9) == EXEMPLAR_STORED); /* of another series */
    CHECK_U64(all(&f, &found), 2);
    CHECK_U64(found[0].n, 3);
    CHECK_I64(found[0].items[2].t_ms, 2000);
    CHECK_STR(found[0].items[1].labels.items[0].value, "2");
    CHECK_U64(found[1].n, 1);
    fixture_release(&f);
}

static void test_bounds(void **state)
{
    (void)state;
    struct fixture f;
    struct series_exemplars *found;
    fixture_init(&f, 10);
    for (unsigned i = 0; i < 100; i++) CHECK(add(&f, i % 3, i, 1, i) == EXEMPLAR_STORED);
    CHECK_U64(all(&f, &found), 3);
    CHECK_U64(found[0].n + found[1].n + found[2].n, 10);
    CHECK_I64(found[0].items[0].t_ms, 90);
    /* A series that lost all it had comes back. */
    for (unsigned i = 0; i < 10; i++) CHECK(add(&f, 5, 1000 + i, 1, i) == EXEMPLAR_STORED);
    CHECK_U64(all(&f, &found), 1);
    CHECK(add(&f, 0, 1, 1, 1) == EXEMPLAR_STORED);
    /* Memory that the others have: a tenant gives up its own, then takes none. */
    size_t used = f.room.bytes_used;
    f.room.bytes_max = used;
    CHECK(add(&f, 0, 2, 1, 1) == EXEMPLAR_STORED);
    CHECK(f.room.bytes_used <= used);
    f.room.bytes_max = 10;
    CHECK(add(&f, 0, 3, 1, 1) == EXEMPLAR_NO_ROOM);
    f.room.max = 0;
    CHECK(add(&f, 0, 4, 1, 1) == EXEMPLAR_NO_ROOM);
    fixture_release(&f);
}

/* A run as the first version wrote it: every later build must read it. */
static void test_golden_run(void **state)
{
    (void)state;
    static const uint8_t golden[] = {
        0x01, 0x02, 0x05, 0x01, 0x01, 0x6e, 0x01, 0x37, 0x05, 0x01, 0x01, 0x6e, 0x01,
        0x38, 0x03, 0x00, 0xd0, 0x0f, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xe0, 0x3f,
        0x05, 0x01, 0x01, 0x6e, 0x01, 0x31, 0x01, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0xf0, 0x7f, 0x05, 0x01, 0x01, 0x6e, 0x01, 0x32, 0x00, 0x04, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x80, 0x05, 0x01, 0x01, 0x6e, 0x01, 0x33};
    struct fixture f, again;
    struct exemplar_run run;
    struct buf out;
    fixture_init(&f, 100);
    fixture_init(&again, 100);
    buf_init(&out, MEM_BASE);
    CHECK(add(&f, 7, 1000, 0.5, 1) == EXEMPLAR_STORED);
    CHECK(add(&f, 8, 999, (double)INFINITY, 2) == EXEMPLAR_STORED);
    CHECK(add(&f, 7, 1001, -0.0, 3) == EXEMPLAR_STORED);
    CHECK_OK(exemplars_encode(&f.ex, false, &out, &run, &f.err), &f.err);
    CHECK_U64(run.n, 3);
    CHECK_I64(run.max_ms, 1001);
    CHECK_BYTES(bytes_of(out.p, out.len - 4), bytes_of(golden, sizeof(golden)));
    CHECK_OK(exemplars_load(&again.ex, buf_bytes(&out), &f.err), &f.err);
    struct series_exemplars *found;
    CHECK_U64(all(&again, &found), 2);
    CHECK_SAME_DOUBLE(found[0].items[1].v, -0.0);
    /* What the catalog has is not written again. */
    exemplars_saved(&f.ex, &run);
    buf_reset(&out);
    CHECK_OK(exemplars_encode(&f.ex, false, &out, &run, &f.err), &f.err);
    CHECK_U64(run.n, 0);
    CHECK_U64(out.len, 0);
    buf_release(&out);
    fixture_release(&f);
    fixture_release(&again);
}

static void test_damage_is_noticed(void **state)
{
    (void)state;
    struct fixture f;
    struct exemplar_run run;
    struct buf out;
    fixture_init(&f, 100);
    buf_init(&out, MEM_BASE);
    for (unsigned i = 0; i < 5; i++) CHECK(add(&f, i % 2, i, i, i) == EXEMPLAR_STORED);
    CHECK_OK(exemplars_encode(&f.ex, true, &out, &run, &f.err), &f.err);
    for (size_t bit = 0; bit < out.len * 8; bit++) {
        out.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK_ERR(exemplars_load(&f.ex, buf_bytes(&out), &f.err), ERR_CORRUPT);
        out.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t len = 0; len < out.len; len++)
        CHECK_ERR(exemplars_load(&f.ex, bytes_of(out.p, len), &f.err), ERR_CORRUPT);
    buf_release(&out);
    fixture_release(&f);
}

struct model_item {
    unsigned series, trace;
    int64_t t_ms;
    double v;
};

/* Is what is there the newest of the model's, each series in order? */
static void check_model(struct fixture *f, const struct model_item *items, size_t n)
{
    struct series_exemplars *found;
    size_t n_found = all(f, &found), total = 0;
    for (size_t s = 0; s < n_found; s++) {
        unsigned series = (unsigned)(found[s].series.items[0].value.p[0] - '0');
        size_t k = 0;
        for (size_t i = 0; i < n; i++) {
            if (items[i].series != series) continue;
            CHECK(k < found[s].n);
            CHECK_I64(found[s].items[k].t_ms, items[i].t_ms);
            CHECK_SAME_DOUBLE(found[s].items[k].v, items[i].v);
            k++;
        }
        CHECK_U64(k, found[s].n);
        total += k;
    }
    CHECK_U64(total, n);
}

static void test_random(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, test_seed());
    for (unsigned round = 0; round < 50; round++) {
        struct fixture f, again;
        struct model_item items[MODEL_MAX];
        size_t n = 0, max = 1 + rng_below(&rng, 40);
        fixture_init(&f, max);
        fixture_init(&again, max);
        for (size_t i = 0; i < MODEL_MAX; i++) {
            struct model_item item = {
                (unsigned)rng_below(&rng, SERIES_N), (unsigned)rng_below(&rng, 3),
                (int64_t)(i / 4 + rng_below(&rng, 5)), (double)rng_below(&rng, 3)};
            if (add(&f, item.series, item.t_ms, item.v, item.trace) == EXEMPLAR_STORED)
                items[n++] = item;
        }
        size_t kept = n < max ? n : max;
        check_model(&f, items + n - kept, kept);
        struct exemplar_run run;
        struct buf out;
        buf_init(&out, MEM_BASE);
        CHECK_OK(exemplars_encode(&f.ex, true, &out, &run, &f.err), &f.err);
        CHECK_OK(exemplars_load(&again.ex, buf_bytes(&out), &f.err), &f.err);
        check_model(&again, items + n - kept, kept);
        buf_release(&out);
        fixture_release(&f);
        fixture_release(&again);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_order), cmocka_unit_test(test_bounds),
                                       cmocka_unit_test(test_golden_run),
                                       cmocka_unit_test(test_damage_is_noticed),
                                       cmocka_unit_test(test_random)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
