/* tests/wal/test_wal_record.c: record payloads. */
#include "tests/quipu_test.h"
#include "wal/record.h"

/* Values that a coding could get wrong, among plain ones. */
static double gen_value(struct rng *rng)
{
    static const double odd[] = {0.0,       -0.0,
                                 1.0,       -1.0,
                                 0.5,       0x1p53,
                                 -0x1p53,   0x1p54,
                                 0x1p55,    -0x1p55,
                                 0x1p56,    0x1p63,
                                 1e300,     -1e-300,
                                 0x1p-1074, 127.0,
                                 128.0,     -128.0,
                                 -129.0,    255.0,
                                 256.0,     0x1.fffffffffffffp54};
    switch (rng_below(rng, 6)) {
    case 0: return odd[rng_below(rng, COUNT_OF(odd))];
    case 1: return double_from_bits(rng_u64(rng));
    case 2: return double_from_bits(UINT64_C(0x7ff0000000000000) | rng_u64(rng) % 4);
    case 3: return (double)(int64_t)(rng_u64(rng) >> rng_below(rng, 64));
    case 4: return (double)rng_below(rng, 100000) / 64;
    default: return -(double)rng_below(rng, 1000);
    }
}

static void test_samples_roundtrip(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 2000)
    {
        size_t n = rng_below(&rng, rng_chance(&rng, 0.1) ? 500 : 8);
        uint64_t id[500];
        int64_t t_ms[500];
        double v[500];
        int64_t st_ms[500];
        bool started = rng_chance(&rng, 0.3);
        uint64_t step = rng_below(&rng, 3);
        for (size_t i = 0; i < n; i++) {
            bool even = i > 0 && rng_chance(&rng, 0.7);
            id[i] = even ? id[i - 1] + step : rng_u64(&rng) >> rng_below(&rng, 64);
            t_ms[i] = even ? t_ms[i - 1] : (int64_t)rng_u64(&rng) >> rng_below(&rng, 64);
            v[i] = gen_value(&rng);
            st_ms[i] = even && rng_chance(&rng, 0.5) ? st_ms[i - 1] : (int64_t)rng_u64(&rng);
        }
        struct wal_samples in = {.incarnation = rng_u64(&rng) >> rng_below(&rng, 64),
                                 .n = n,
                                 .id = id,
                                 .t_ms = t_ms,
                                 .v = v,
                                 .st_ms = started ? st_ms : NULL},
                           out;
        struct buf buf;
        struct arena arena;
        struct err err;
        buf_init(&buf, MEM_WAL);
        arena_init(&arena, MEM_WAL, 0);
        wal_encode_samples(&buf, &in);
        CHECK_OK(buf_finish(&buf, &err), &err);
        enum err_code (*decode)(struct bytes, struct arena *, struct wal_samples *, struct err *) =
            started ? wal_decode_started : wal_decode_samples;
        CHECK_OK(decode(buf_bytes(&buf), &arena, &out, &err), &err);
        CHECK_U64(out.n, n);
        CHECK((out.st_ms != NULL) == started);
        CHECK_U64(out.incarnation, in.incarnation);
        for (size_t i = 0; i < n; i++) {
            CHECK_U64(out.id[i], id[i]);
            CHECK_I64(out.t_ms[i], t_ms[i]);
            CHECK_SAME_DOUBLE(out.v[i], v[i]);
            if (started) CHECK_I64(out.st_ms[i], st_ms[i]);
        }
        uint64_t incarnation;
        CHECK_OK(wal_record_incarnation(buf_bytes(&buf), &incarnation, &err), &err);
        CHECK_U64(incarnation, in.incarnation);
        for (size_t cut = 0; cut < buf.len; cut += 1 + (n > 10 ? cut / 8 : 0)) {
            uint8_t *exact = malloc(cut + 1); /* so that ASan sees a read past the end */
            CHECK(exact);
            memcpy(exact + 1, buf.p, cut);
            CHECK_ERR(decode(bytes_of(exact + 1, cut), &arena, &out, &err), ERR_CORRUPT);
            free(exact);
        }
        arena_release(&arena);
        buf_release(&buf);
    }
}

/* A record of exemplars as the first version wrote it. */
static void test_golden_exemplars(void **state)
{
    (void)state;
    static const uint8_t golden[] = {0x07, 0x02, 0x00, 0x14, 0x02, 0x00, 0xd0,
                                     0x0f, 0x01, 0x09, 0x00, 0x00, 0x00, 0x00,
                                     0x00, 0x00, 0xe0, 0x3f, 0x00, 0x01, 0x78};
    uint64_t id[] = {10, 11};
    int64_t t_ms[] = {1000, 999};
    struct bytes exemplar[] = {bytes_of("\0\0\0\0\0\0\xe0\x3f\0", 9), bytes_of("x", 1)};
    struct wal_items in = {7, 2, id, t_ms, exemplar}, out;
    struct buf buf;
    struct arena arena;
    struct err err;
    buf_init(&buf, MEM_WAL);
    arena_init(&arena, MEM_WAL, 0);
    wal_encode_items(&buf, &in);
    CHECK_BYTES(buf_bytes(&buf), bytes_of(golden, sizeof(golden)));
    CHECK_OK(wal_decode_items(bytes_of(golden, sizeof(golden)), &arena, &out, &err), &err);
    CHECK_U64(out.n, 2);
    for (size_t i = 0; i < out.n; i++) {
        CHECK_U64(out.id[i], id[i]);
        CHECK_I64(out.t_ms[i], t_ms[i]);
        CHECK_BYTES(out.item[i], exemplar[i]);
    }
    arena_release(&arena);
    buf_release(&buf);
}

/* A record of samples with start timestamps as the first version wrote it: every later build must read it. */
static void test_golden_started(void **state)
{
    (void)state;
    static const uint8_t golden[] = {0x07, 0x03, 0x00, 0x14, 0x02, 0x02, 0x00, 0xd0,
                                     0x0f, 0x00, 0x00, 0x00, 0x00, 0xe8, 0x07, 0x00,
                                     0x11, 0x0a, 0x02, 0x04, 0xe0, 0x3f};
    uint64_t id[] = {10, 11, 12};
    int64_t t_ms[] = {1000, 1000, 1000}, st_ms[] = {0, 500, 500};
    double v[] = {1, 2, 0.5};
    struct wal_samples in = {7, 3, id, t_ms, v, st_ms}, out;
    struct buf buf;
    struct arena arena;
    struct err err;
    buf_init(&buf, MEM_WAL);
    arena_init(&arena, MEM_WAL, 0);
    wal_encode_samples(&buf, &in);
    CHECK_BYTES(buf_bytes(&buf), bytes_of(golden, sizeof(golden)));
    CHECK_OK(wal_decode_started(bytes_of(golden, sizeof(golden)), &arena, &out, &err), &err);
    CHECK_U64(out.n, 3);
    for (size_t i = 0; i < out.n; i++) {
        CHECK_U64(out.id[i], id[i]);
        CHECK_I64(out.t_ms[i], t_ms[i]);
        CHECK_I64(out.st_ms[i], st_ms[i]);
        CHECK_SAME_DOUBLE(out.v[i], v[i]);
    }
    arena_release(&arena);
    buf_release(&buf);
}

static void test_blobs_roundtrip(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 500)
    {
        size_t n = rng_below(&rng, 40);
        uint64_t id[40];
        int64_t t_ms[40];
        struct bytes blob[40];
        uint8_t text[300];
        test_fill(&rng, text, sizeof(text));
        for (size_t i = 0; i < n; i++) {
            id[i] = i ? id[i - 1] + 1 + rng_below(&rng, 2) : rng_below(&rng, 1000);
            t_ms[i] = (int64_t)rng_below(&rng, 2000000000000);
            blob[i] = bytes_of(text, rng_below(&rng, sizeof(text)));
        }
        struct buf buf;
        struct arena arena;
        struct err err;
        arena_init(&arena, MEM_WAL, 0);
        buf_init(&buf, MEM_WAL);
        struct wal_series series = {5, n, id, blob}, series_out;
        wal_encode_series(&buf, &series);
        CHECK_OK(wal_decode_series(buf_bytes(&buf), &arena, &series_out, &err), &err);
        CHECK_U64(series_out.n, n);
        for (size_t i = 0; i < n; i++) {
            CHECK_U64(series_out.id[i], id[i]);
            CHECK_BYTES(series_out.labels[i], blob[i]);
        }
        for (size_t cut = 0; cut < buf.len; cut++)
            CHECK_ERR(wal_decode_series(bytes_of(buf.p, cut), &arena, &series_out, &err),
                      ERR_CORRUPT);
        buf_reset(&buf);
        struct wal_items h = {6, n, id, t_ms, blob}, h_out;
        wal_encode_items(&buf, &h);
        CHECK_OK(wal_decode_items(buf_bytes(&buf), &arena, &h_out, &err), &err);
        CHECK_U64(h_out.n, n);
        for (size_t i = 0; i < n; i++) {
            CHECK_U64(h_out.id[i], id[i]);
            CHECK_I64(h_out.t_ms[i], t_ms[i]);
            CHECK_BYTES(h_out.item[i], blob[i]);
        }
        for (size_t cut = 0; cut < buf.len; cut++)
            CHECK_ERR(wal_decode_items(bytes_of(buf.p, cut), &arena, &h_out, &err), ERR_CORRUPT);
        buf_release(&buf);
        arena_release(&arena);
    }
}

static void test_is_small(void **state)
{
    (void)state;
    enum { N = 2000 };
    static uint64_t id[N];
    static int64_t t_ms[N];
    static double v[N];
    for (size_t i = 0; i < N; i++) {
        id[i] = 1000 + i;
        t_ms[i] = 1700000000000 + (int64_t)(i / 500);
        v[i] = (double)(i * 37 % 30000);
    }
    struct buf buf;
    buf_init(&buf, MEM_WAL);
    wal_encode_samples(&buf, &(struct wal_samples){1, N, id, t_ms, v, NULL});
    CHECK(buf.len < N * 5 / 2 + 40); /* half a byte of code, two of value, next to nothing else */
    buf_release(&buf);
}

static void test_hostile(void **state)
{
    (void)state;
    struct arena arena;
    struct err err;
    struct wal_samples s;
    struct wal_series series;
    arena_init(&arena, MEM_WAL, 1 << 20);
    /* More items than bytes could hold, before anything is allocated. */
    static const uint8_t many[] = {1, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0};
    CHECK_ERR(wal_decode_samples(bytes_of(many, sizeof(many)), &arena, &s, &err), ERR_CORRUPT);
    CHECK_ERR(wal_decode_series(bytes_of(many, sizeof(many)), &arena, &series, &err), ERR_CORRUPT);
    CHECK_U64(arena.used_bytes, 0);
    static const uint8_t run_0[] = {1, 2, 1, 0, 0, 1, 2, 0, 0, 0};
    CHECK_ERR(wal_decode_samples(bytes_of(run_0, sizeof(run_0)), &arena, &s, &err), ERR_CORRUPT);
    static const uint8_t run_long[] = {1, 2, 1, 3, 0, 1, 2, 0, 0, 0};
    CHECK_ERR(wal_decode_samples(bytes_of(run_long, sizeof(run_long)), &arena, &s, &err),
              ERR_CORRUPT);
    static const uint8_t kind[] = {1, 2, 2, 2, 0, 1, 2, 0, 0, 0};
    CHECK_ERR(wal_decode_samples(bytes_of(kind, sizeof(kind)), &arena, &s, &err), ERR_CORRUPT);
    arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_samples_roundtrip), cmocka_unit_test(test_golden_started),
        cmocka_unit_test(test_golden_exemplars),  cmocka_unit_test(test_blobs_roundtrip),
        cmocka_unit_test(test_is_small),          cmocka_unit_test(test_hostile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
