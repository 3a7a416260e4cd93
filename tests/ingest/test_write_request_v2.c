/* tests/ingest/test_write_request_v2.c: bodies of remote write 2.0. What message 1.0 would have made of the same series is
 * the reference. */
#include "pb_write.h"
#include "series_table.h"
#include "tests/quipu_test.h"

static const struct label_limits LIMITS = {10, 100, 200};

struct decoded {
    struct series_table *table;
    struct arena arena;
    struct write_request w;
    struct err err;
};
static void decoded_init(struct decoded *d)
{
    memset(d, 0, sizeof(*d));
    d->table = table_new();
    arena_init(&d->arena, MEM_INGEST, (size_t)256 << 20);
}
static void decoded_release(struct decoded *d)
{
    table_free(d->table);
    arena_release(&d->arena);
}
static enum err_code decode(struct decoded *d, struct bytes message, bool v2)
{
    arena_reset(&d->arena);
    err_clear(&d->err);
    write_request_init(&d->w, &d->arena, &LIMITS, table_source(d->table));
    return v2 ? write_request_decode_v2(&d->w, message, &d->err)
              : write_request_decode(&d->w, message, &d->err);
}

#define SYMBOLS_MAX 256
struct fixture {
    struct buf message, series, part, refs;
    char symbols[SYMBOLS_MAX][40];
    size_t n_symbols;
    struct decoded d;
};
static void fixture_init(struct fixture *f)
{
    memset(f, 0, sizeof(*f));
    buf_init(&f->message, MEM_INGEST);
    buf_init(&f->series, MEM_INGEST);
    buf_init(&f->part, MEM_INGEST);
    buf_init(&f->refs, MEM_INGEST);
    f->n_symbols = 1; /* "" */
    decoded_init(&f->d);
}
static void fixture_release(struct fixture *f)
{
    buf_release(&f->message);
    buf_release(&f->series);
    buf_release(&f->part);
    buf_release(&f->refs);
    decoded_release(&f->d);
}

static uint32_t ref_of(struct fixture *f, const char *text)
{
    size_t i = 0;
    while (i < f->n_symbols && strcmp(f->symbols[i], text) != 0) i++;
    CHECK(i < SYMBOLS_MAX);
    if (i == f->n_symbols) snprintf(f->symbols[f->n_symbols++], sizeof(f->symbols[0]), "%s", text);
    return (uint32_t)i;
}
static void put_label(struct fixture *f, const char *name, const char *value)
{
    buf_varint(&f->refs, ref_of(f, name));
    buf_varint(&f->refs, ref_of(f, value));
}
/* The references gathered, packed, into the series. */
static void put_refs(struct fixture *f)
{
    pb_put_message(&f->series, 1, &f->refs);
}
static void put_sample(struct fixture *f, double v, int64_t t_ms, int64_t st_ms)
{
    if (double_bits(v)) pb_put_double(&f->part, 1, v);
    if (t_ms) pb_put_varint(&f->part, 2, (uint64_t)t_ms);
    if (st_ms) pb_put_varint(&f->part, 3, (uint64_t)st_ms);
    pb_put_message(&f->series, 2, &f->part);
}
static void put_series(struct fixture *f)
{
    pb_put_message(&f->message, 5, &f->series);
}
static void put_symbols(struct fixture *f)
{
    for (size_t i = 0; i < f->n_symbols; i++) pb_put_str(&f->message, 4, f->symbols[i]);
}
static void decode_ok(struct fixture *f)
{
    CHECK_OK(decode(&f->d, buf_bytes(&f->message), true), &f->d.err);
}

static void test_one_sample(void **state)
{
    (void)state;
    for (unsigned symbols_last = 0; symbols_last < 2; symbols_last++) {
        struct fixture f;
        fixture_init(&f);
        put_label(&f, "__name__", "up");
        put_label(&f, "job", "api");
        if (!symbols_last) put_symbols(&f);
        put_refs(&f);
        put_sample(&f, 1.25, 1700000000123, 0);
        put_series(&f);
        if (symbols_last) put_symbols(&f);
        for (unsigned i = 0; i < 2; i++) {
            decode_ok(&f);
            struct write_batch *b = &f.d.w.batch;
            CHECK_U64(b->n, 1);
            CHECK_STR(str_of(table_labels(b->series[0])), "{__name__=\"up\", job=\"api\"}");
            CHECK_I64(b->t_ms[0], 1700000000123);
            CHECK_SAME_DOUBLE(b->v[0], 1.25);
            CHECK(b->st_ms == NULL);
            CHECK_U64(f.d.table->n_found, i);
            CHECK_U64(f.d.table->n_added, 1);
        }
        fixture_release(&f);
    }
}

/* rc.3 has one for the series, rc.4 one for each sample, which wins. */
static void test_start_timestamps(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    put_label(&f, "__name__", "a");
    put_refs(&f);
    put_sample(&f, 1, 1000, 0);
    put_series(&f);
    put_label(&f, "__name__", "b");
    put_refs(&f);
    put_sample(&f, 1, 1000, 900);
    put_sample(&f, 2, 2000, 0);
    pb_put_varint(&f.series, 6, 800);
    put_series(&f);
    put_label(&f, "__name__", "h");
    put_refs(&f);
    for (unsigned i = 0; i < 2; i++) {
        pb_put_varint(&f.part, 1, 0);
        pb_put_varint(&f.part, 15, 1000 + i);
        if (i) pb_put_varint(&f.part, 17, 7);
        pb_put_message(&f.series, 3, &f.part);
    }
    pb_put_varint(&f.series, 6, 5);
    put_series(&f);
    put_symbols(&f);
    decode_ok(&f);
    struct write_batch *b = &f.d.w.batch;
    CHECK_U64(b->n, 3);
    CHECK(b->st_ms != NULL);
    CHECK_I64(b->st_ms[0], 0);
    CHECK_I64(b->st_ms[1], 900);
    CHECK_I64(b->st_ms[2], 800);
    CHECK_U64(b->n_histograms, 2);
    CHECK_I64(b->h[0]->start_ms, 5);
    CHECK_I64(b->h[1]->start_ms, 7);
    fixture_release(&f);
}

static void test_bad_references(void **state)
{
    (void)state;
    static const struct {
        uint32_t refs[4];
        size_t n;
        const char *text;
    } cases[] = {
        {{1, 2, 1}, 3, "invalid labelRefs length 3"},
        {{1, 3}, 2, "labelRefs 0 (value) = 3 outside of symbols table (size 3)"},
        {{9, 2}, 2, "labelRefs 0 (name) = 9 outside of symbols table (size 3)"},
        {{0, 2, 1, 2}, 4, "invalid metric name or labels, got {\"\"=\"up\", __name__=\"up\"}"},
        {{1, 2, 1, 2},
         4,
         "invalid labels for series, labels {__name__=\"up\", __name__=\"up\"}, duplicated label "
         "__name__"},
        {{0}, 0, "invalid metric name or labels, got {}"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct fixture f;
        fixture_init(&f);
        test_where = (struct test_where){true, i, i};
        (void)ref_of(&f, "__name__");
        (void)ref_of(&f, "up");
        put_symbols(&f);
        for (size_t k = 0; k < cases[i].n; k++) buf_varint(&f.refs, cases[i].refs[k]);
        put_refs(&f);
        put_sample(&f, 1, 1000, 0);
        put_series(&f);
        put_label(&f, "__name__", "up");
        put_refs(&f);
        put_sample(&f, 2, 1000, 0);
        put_series(&f);
        decode_ok(&f);
        CHECK_U64(f.d.w.n_problems, 1);
        CHECK_STR(str_of(f.d.w.problems[0]), cases[i].text);
        CHECK_U64(f.d.w.batch.n, 1); /* the good one */
        fixture_release(&f);
    }
    test_where.in_property = false;
}

static void test_metadata(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    static const char *const names[] = {"h_bucket", "h_count", "h_sum", "c_total"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        put_label(&f, "__name__", names[i]);
        put_refs(&f);
        put_sample(&f, 1, 1000, 0);
        pb_put_varint(&f.part, 1, i < 3 ? 3 : 1);
        pb_put_varint(&f.part, 3, ref_of(&f, "help"));
        pb_put_varint(&f.part, 4, i < 3 ? ref_of(&f, "seconds") : 0);
        pb_put_message(&f.series, 5, &f.part);
        put_series(&f);
    }
    put_label(&f, "__name__", "unknown");
    put_refs(&f);
    pb_put_varint(&f.part, 1, 0);
    pb_put_message(&f.series, 5, &f.part);
    put_series(&f); /* says nothing */
    put_symbols(&f);
    decode_ok(&f);
    CHECK_U64(f.d.w.n_metadata, 4);
    for (size_t i = 0; i < 4; i++) {
        struct catalog_metadata *m = &f.d.w.metadata[i];
        CHECK_STR(m->family, i < 3 ? "h" : "c_total");
        CHECK_STR(m->type, i < 3 ? "histogram" : "counter");
        CHECK_STR(m->help, "help");
        CHECK_STR(m->unit, i < 3 ? "seconds" : "");
    }
    fixture_release(&f);
}

/* A reference of a byte may stand for a megabyte. */
static void test_large_labels(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    size_t len = (size_t)1000 << 10;
    char *large = malloc(len);
    CHECK(large);
    memset(large, 'x', len);
    pb_put_str(&f.message, 4, "");
    pb_put_str(&f.message, 4, "__name__");
    pb_put_bytes(&f.message, 4, large, len);
    for (unsigned i = 0; i < 100; i++) {
        for (unsigned k = 0; k < 2; k++) {
            buf_varint(&f.refs, 1 + (k + i) % 2);
            buf_varint(&f.refs, 2 - (k + i) % 2);
        }
        put_refs(&f);
        put_sample(&f, 1, 1000, 0);
        put_series(&f);
    }
    decode_ok(&f); /* refused one by one */
    CHECK_U64(f.d.w.n_problems, 100);
    CHECK_U64(f.d.w.batch.n, 0);
    for (unsigned i = 0; i < 100; i++) {
        buf_varint(&f.refs, 1);
        buf_varint(&f.refs, 2);
        put_refs(&f);
        put_sample(&f, 1, 1000, 0);
        put_series(&f);
    }
    for (unsigned i = 0; i < 100; i++) {
        buf_varint(&f.refs, 1 + i % 2);
        buf_varint(&f.refs, 2);
        put_refs(&f);
        put_sample(&f, 1, 1000, 0);
        put_series(&f);
    }
    CHECK_ERR(decode(&f.d, buf_bytes(&f.message), true), ERR_LIMIT);
    free(large);
    fixture_release(&f);
}

static void test_malformed(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    put_label(&f, "__name__", "up");
    put_symbols(&f);
    put_refs(&f);
    put_sample(&f, 1, 1000, 500);
    put_series(&f);
    decode_ok(&f);
    size_t len = f.message.len;
    for (size_t n = 1; n < len; n++) { /* cut between fields it is another message */
        enum err_code rc = decode(&f.d, bytes_of(f.message.p, n), true);
        CHECK(rc == ERR_OK || rc == ERR_INVALID);
        CHECK_U64(f.d.w.batch.n, 0);
    }
    pb_put_varint(&f.message, 5, 1);
    CHECK_ERR(decode(&f.d, buf_bytes(&f.message), true), ERR_INVALID);
    CHECK_STR(str_of(f.d.err.text), "proto: wrong wireType = 0 for field Timeseries");
    fixture_release(&f);
}

/* The same series by both messages: the same columns, and by the same bytes, as the table that is shared shows. */
static void test_same_as_v1(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 500)
    {
        struct fixture f;
        struct buf v1, series_v1;
        fixture_init(&f);
        buf_init(&v1, MEM_INGEST);
        buf_init(&series_v1, MEM_INGEST);
        size_t n = 0;
        for (uint64_t k = rng_below(&rng, 40); k > 0; k--) {
            char value[40];
            uint64_t n_labels = rng_below(&rng, 8);
            snprintf(value, sizeof(value), "m%u", (unsigned)rng_below(&rng, 3));
            put_label(&f, "__name__", value);
            pb_put_label(&series_v1, "__name__", value);
            for (uint64_t i = 0; i < n_labels; i++) {
                char name[40];
                snprintf(name, sizeof(name), "l%u", (unsigned)(i + rng_below(&rng, 2)));
                snprintf(value, sizeof(value), "%.*s", (int)rng_below(&rng, 30),
                         "012345678901234567890123456789");
                if (rng_chance(&rng, 0.7)) snprintf(value, sizeof(value), "common");
                put_label(&f, name, value);
                pb_put_label(&series_v1, name, value);
            }
            put_refs(&f);
            uint64_t n_samples = rng_chance(&rng, 0.8) ? 1 : rng_below(&rng, 3);
            for (uint64_t i = 0; i < n_samples; i++, n++) {
                double v = rng_unit(&rng);
                int64_t t_ms = (int64_t)rng_below(&rng, 100000);
                put_sample(&f, v, t_ms, 0);
                pb_put_sample(&series_v1, v, t_ms);
            }
            put_series(&f);
            pb_put_message(&v1, 1, &series_v1);
        }
        put_symbols(&f);
        CHECK_OK(decode(&f.d, buf_bytes(&v1), false), &f.d.err);
        struct decoded second;
        decoded_init(&second);
        table_free(second.table);
        second.table = f.d.table;
        size_t n_aliases = f.d.table->n_aliases;
        for (unsigned round = 0; round < 2; round++) {
            CHECK_OK(decode(&second, buf_bytes(&f.message), true), &second.err);
            const struct write_batch *a = &f.d.w.batch, *b = &second.w.batch;
            CHECK_U64(b->n, a->n);
            for (size_t i = 0; i < a->n; i++) {
                CHECK(a->series[i] == b->series[i]);
                CHECK_I64(a->t_ms[i], b->t_ms[i]);
                CHECK_SAME_DOUBLE(a->v[i], b->v[i]);
            }
            CHECK_U64(second.w.n_problems, f.d.w.n_problems);
            CHECK_U64(f.d.table->n_aliases, n_aliases);
        }
        arena_release(&second.arena);
        buf_release(&v1);
        buf_release(&series_v1);
        fixture_release(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_sample),     cmocka_unit_test(test_start_timestamps),
        cmocka_unit_test(test_bad_references), cmocka_unit_test(test_metadata),
        cmocka_unit_test(test_large_labels),   cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_same_as_v1),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
