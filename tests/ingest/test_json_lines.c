/* JSON lines: what is exported comes back to the bit; forms of others; what is refused. */
#include "ingest/import_lines.h"
#include "ingest/json_lines.h"
#include "ingest/number_text.h"
#include "query/export_format.h"
#include "tests/storage/gen_histograms.h"

struct fixture {
    struct arena arena;
    struct samples in, out;
    struct buf text;
};

static void open_fixture(struct fixture *f)
{
    arena_init(&f->arena, MEM_INGEST, 0);
    samples_init(&f->in, MEM_INGEST, &f->arena);
    samples_init(&f->out, MEM_INGEST, &f->arena);
    buf_init(&f->text, MEM_INGEST);
}

static void close_fixture(struct fixture *f)
{
    samples_release(&f->in);
    samples_release(&f->out);
    buf_release(&f->text);
    arena_release(&f->arena);
}

/* ---- there and back ---- */

static const struct label LABELS[] = {{STR("Zone"), STR("\xc3\xa9\xf0\x9f\x98\x80")},
                                      {STR("__name__"), STR("a \"b\" \\ c\n\x01")},
                                      {STR("job"), STR("x")}};

static void check_line(struct fixture *f, struct str line)
{
    struct err err;
    struct labels labels;
    CHECK_OK(json_line_parse(line, &f->arena, &labels, &f->out, &err), &err);
    CHECK(labels_eq(labels, (struct labels){LABELS, COUNT_OF(LABELS)}));
}

/* Of one kind the order is kept; floats come before histograms. */
static void check_part(struct fixture *f, size_t from, size_t to)
{
    struct samples want;
    struct err err;
    buf_reset(&f->text);
    samples_reset(&f->out);
    export_put_samples(&f->text, EXPORT_JSONL, (struct labels){LABELS, COUNT_OF(LABELS)}, &f->in,
                       from, to);
    struct str rest = str_from_bytes(buf_bytes(&f->text));
    while (rest.len) {
        const char *lf = memchr(rest.p, '\n', rest.len);
        CHECK(lf != NULL);
        size_t len = (size_t)(lf - rest.p);
        check_line(f, (struct str){rest.p, len});
        rest.p += len + 1;
        rest.len -= len + 1;
    }
    samples_init(&want, MEM_INGEST, &f->arena);
    for (int histograms = 0; histograms < 2; histograms++) {
        for (size_t i = from; i < to; i++) {
            struct histogram *h = f->in.h ? f->in.h[i] : NULL;
            if ((h != NULL) != (histograms == 1)) continue;
            CHECK_OK(samples_push(&want, f->in.t_ms[i], f->in.v[i], h, &err), &err);
        }
    }
    check_same_samples(&f->out, &want, 0, want.n);
    samples_release(&want);
}

static void test_round_trip(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 1000)
    {
        struct fixture f;
        open_fixture(&f);
        if (rng_chance(&rng, 0.5))
            gen_floats(&rng, &f.in, 1 + rng_below(&rng, 300),
                       (unsigned)rng_below(&rng, GEN_VALUE_KINDS),
                       (unsigned)rng_below(&rng, GEN_TIME_KINDS));
        else
            gen_histogram_series(&rng, &f.in, 1 + rng_below(&rng, 60), GEN_HISTOGRAM_MIXED);
        size_t cut = rng_below(&rng, f.in.n + 1);
        check_part(&f, 0, cut);
        check_part(&f, cut, f.in.n);
        close_fixture(&f);
    }
}

static void test_any_bits(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 300)
    {
        struct fixture f;
        open_fixture(&f);
        gen_histogram_series(&rng, &f.in, 1 + rng_below(&rng, 30), GEN_HISTOGRAM_ANY_BITS);
        for (size_t i = 0; f.in.h && i < f.in.n; i++) /* integers have whole counts only */
            if (f.in.h[i]) f.in.h[i]->is_int = false;
        check_part(&f, 0, f.in.n);
        close_fixture(&f);
    }
}

/* Digits of any length: the fast way and strtod agree. */
static void test_numbers(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 20000)
    {
        char text[64];
        double want, got;
        int digits = (int)rng_below(&rng, 19) + 1;
        double scale = rng_chance(&rng, 0.5) ? 1 : 1e-20;
        snprintf(text, sizeof(text), "%s%.*e", rng_chance(&rng, 0.3) ? "-" : "", digits,
                 (double)(rng_u64(&rng) >> rng_below(&rng, 60)) * scale);
        want = strtod(text, NULL);
        CHECK(number_text_decimal(str_of(text), &got));
        CHECK_SAME_DOUBLE(got, want);
        snprintf(text, sizeof(text), "%.*f", digits - 1, (double)(int64_t)rng_u64(&rng) / 1e9);
        want = strtod(text, NULL);
        CHECK(number_text_decimal(str_of(text), &got));
        CHECK_SAME_DOUBLE(got, want);
    }
}

/* ---- forms of others ---- */

static void test_forms(void **state)
{
    (void)state;
    struct fixture f;
    struct labels labels;
    struct err err;
    open_fixture(&f);
    CHECK_OK(
        json_line_parse(STR(" { \"timestamps\" : [1e3,-2,3.0,4,5,6,7] , \"more\":{\"a\":[1,{}]},"
                            "\"values\":[ 1 , null,\"Inf\",\"-inf\",\"nan\",-0,\"2.5\"],"
                            "\"metric\":{\"\":\"x\",\"b\\u00e9\\ud83d\\ude00\":\"\\/\\t\"}}\r"),
                        &f.arena, &labels, &f.out, &err),
        &err);
    static const uint64_t BITS[] = {
        UINT64_C(0x3ff0000000000000), TEXT_NAN_BITS, UINT64_C(0x7ff0000000000000),
        UINT64_C(0xfff0000000000000), TEXT_NAN_BITS, UINT64_C(0x8000000000000000),
        UINT64_C(0x4004000000000000)};
    static const int64_t TIMES[] = {1000, -2, 3, 4, 5, 6, 7};
    CHECK_U64(f.out.n, COUNT_OF(BITS));
    for (size_t i = 0; i < f.out.n; i++) {
        CHECK_U64(double_bits(f.out.v[i]), BITS[i]);
        CHECK_I64(f.out.t_ms[i], TIMES[i]);
    }
    CHECK_U64(labels.n, 1);
    CHECK_STR(labels.items[0].name, "b\xc3\xa9\xf0\x9f\x98\x80");
    CHECK_STR(labels.items[0].value, "/\t");
    samples_reset(&f.out);
    CHECK_OK(json_line_parse(STR(" \t"), &f.arena, &labels, &f.out, &err), &err);
    CHECK_U64(f.out.n + labels.n, 0);
    close_fixture(&f);
}

static void test_refused(void **state)
{
    (void)state;
    static const char *const BAD[] = {
        "{",
        "[]",
        "{}",
        "{\"metric\":{},\"values\":[1],\"timestamps\":[1]}",
        "{\"metric\":{\"a\":\"b\"},\"values\":[1],\"timestamps\":[1,2]}",
        "{\"metric\":{\"a\":\"b\"},\"values\":[1]}",
        "{\"metric\":{\"a\":\"b\"},\"timestamps\":[1]}",
        "{\"metric\":{\"a\":1},\"values\":[1],\"timestamps\":[1]}",
        "{\"metric\":{\"a\":\"b\"},\"values\":[x],\"timestamps\":[1]}",
        "{\"metric\":{\"a\":\"b\"},\"values\":[\"x\"],\"timestamps\":[1]}",
        "{\"metric\":{\"a\":\"b\"},\"values\":[0x1p3],\"timestamps\":[1]}",
        "{\"metric\":{\"a\":\"b\"},\"values\":[1],\"timestamps\":[1.5]}",
        "{\"metric\":{\"a\":\"b\"},\"values\":[1],\"timestamps\":[99999999999999999999]}",
        "{\"metric\":{\"a\":\"b\"},\"values\":[1],\"timestamps\":[1]} x",
        "{\"metric\":{\"a\":\"b\"},\"values\":[1],\"values\":[1],\"timestamps\":[1]}",
        "{\"metric\":{\"a\":\"\\ud800\"},\"values\":[1],\"timestamps\":[1]}",
        "{\"metric\":{\"a\":\"\\x\"},\"values\":[1],\"timestamps\":[1]}",
        "{\"metric\":{\"a\":\"b},\"values\":[1],\"timestamps\":[1]}",
        "{\"metric\":{\"a\":\"b\"},\"values\":[\"NaN:7ff0000000000000\"],\"timestamps\":[1]}",
        "{\"a\":[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]],\"metric\":{\"a\":\"b\"}}",
        "{\"metric\":{\"a\":\"b\"},\"histograms\":[{\"count\":1.5,\"integer\":true}],"
        "\"timestamps\":[1]}",
        "{\"metric\":{\"a\":\"b\"},\"histograms\":[{\"positive_spans\":[[1]]}],\"timestamps\":[1]}",
        "{\"metric\":{\"a\":\"b\"},\"histograms\":[{\"reset_hint\":\"maybe\"}],\"timestamps\":[1]"
        "}"};
    for (size_t i = 0; i < COUNT_OF(BAD); i++) {
        struct fixture f;
        struct labels labels;
        struct err err;
        open_fixture(&f);
        CHECK_ERR(json_line_parse(str_of(BAD[i]), &f.arena, &labels, &f.out, &err), ERR_INVALID);
        CHECK(err.text[0] != 0);
        CHECK_U64(f.out.n, 0);
        close_fixture(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_any_bits),
        cmocka_unit_test(test_numbers),    cmocka_unit_test(test_forms),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
