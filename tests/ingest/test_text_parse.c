/* Text formats line by line, and streams of lines cut anywhere. */
#include "ingest/import_lines.h"
#include "ingest/text_parse.h"
#include "ingest/write_request.h"
#include "query/export_format.h"
#include "tests/storage/gen.h"

static const char NONE[] = "-";

/* {a="b"} value time, or what is wrong. */
static void describe(struct str line, enum text_format format, struct buf *out)
{
    struct arena arena;
    struct text_sample s;
    enum text_line kind;
    struct err err;
    arena_init(&arena, MEM_INGEST, 0);
    if (text_line_parse(line, format, &arena, &kind, &s, &err)) {
        buf_printf(out, "! %s", err.text);
    } else if (kind != TEXT_SAMPLE) {
        buf_printf(out, kind == TEXT_EOF ? "EOF" : "%s", NONE);
    } else {
        labels_print(out, (struct labels){s.labels, s.n_labels});
        buf_printf(out, " %.17g", s.v);
        if (s.has_time) buf_printf(out, " %" PRId64, s.t_ms);
    }
    arena_release(&arena);
}

struct row {
    enum text_format format;
    const char *line, *expected;
};

static const struct row ROWS[] = {
    {TEXT_PROMETHEUS, "", NONE},
    {TEXT_PROMETHEUS, " \t\r", NONE},
    {TEXT_PROMETHEUS, "# HELP a b", NONE},
    {TEXT_PROMETHEUS, "# EOF", NONE},
    {TEXT_PROMETHEUS, "a 1", "{__name__=\"a\"} 1"},
    {TEXT_PROMETHEUS, "  a:b\t+Inf  -5 \r", "{__name__=\"a:b\"} inf -5"},
    {TEXT_PROMETHEUS, "a{} .5 1", "{__name__=\"a\"} 0.5 1"},
    {TEXT_PROMETHEUS, "a{b=\"c\\\\\\\"\\n\\t\",} 1e3 7",
     "{__name__=\"a\", b=\"c\\\\\\\"\\n\\\\t\"} 1000 7"},
    {TEXT_PROMETHEUS, "{\"na.me\", \"l.x\" = \"v\"} 1", "{__name__=\"na.me\", \"l.x\"=\"v\"} 1"},
    {TEXT_PROMETHEUS, "a{b=\"}, # \"} 1", "{__name__=\"a\", b=\"}, # \"} 1"},
    {TEXT_PROMETHEUS, "a", "! a value is expected at byte 2"},
    {TEXT_PROMETHEUS, "a x", "! no number at byte 3"},
    {TEXT_PROMETHEUS, "a 0x1p3", "! no number at byte 3"},
    {TEXT_PROMETHEUS, "a 1_0", "! no number at byte 3"},
    {TEXT_PROMETHEUS, "a 1 1.5", "! no time in milliseconds at byte 5"},
    {TEXT_PROMETHEUS, "a 1 1 1", "! something follows the time at byte 7"},
    {TEXT_PROMETHEUS, "1a 1", "! the name of a metric is expected at byte 1"},
    {TEXT_PROMETHEUS, "{b=\"c\"} 1", "! no name of a metric at byte 8"},
    {TEXT_PROMETHEUS, "{\"a\",\"b\"} 1",
     "! the name of the metric stands twice, the second at byte 9"},
    {TEXT_PROMETHEUS, "a{,} 1", "! a label is expected at byte 3"},
    {TEXT_PROMETHEUS, "a{b} 1", "! \"=\" is expected at byte 4"},
    {TEXT_PROMETHEUS, "a{b=\"c} 1", "! a string without an end at byte 6"},
    {TEXT_PROMETHEUS, "a{b=\"c\\", "! a string without an end at byte 6"},
    {TEXT_PROMETHEUS, "a 1 # {} 1", "! no time in milliseconds at byte 5"},
    {TEXT_OPENMETRICS, "# EOF", "EOF"},
    {TEXT_OPENMETRICS, "a_total 1 1395066363.1239", "{__name__=\"a_total\"} 1 1395066363123"},
    {TEXT_OPENMETRICS, "a 1 -1.5 # {t=\"x\"} 5 1", "{__name__=\"a\"} 1 -1500"},
    {TEXT_OPENMETRICS, "a 1 # {} 5", "{__name__=\"a\"} 1"},
    {TEXT_OPENMETRICS, "a 1 1.5e9", "{__name__=\"a\"} 1 1500000000000"},
    {TEXT_OPENMETRICS, "a 1 NaN", "! no time in seconds at byte 5"},
    {TEXT_DUMP, "{__name__=\"a\", b=\"\\x41\\u00e9\\U0001f600\\a\"} 1.5 7",
     "{__name__=\"a\", b=\"A\xc3\xa9\xf0\x9f\x98\x80\\a\"} 1.5 7"},
    {TEXT_DUMP, "{__name__=\"a\", b=\"\\q\"} 1 1", "! a bad escape at byte 21"},
    {TEXT_DUMP, "{__name__=\"a\"} {count:1, sum:2, (1,2]:1} 5",
     "! a native histogram, for which text has no exact form, at byte 16"},
};

static void test_lines(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        struct buf out;
        buf_init(&out, MEM_INGEST);
        describe(str_of(ROWS[i].line), ROWS[i].format, &out);
        CHECK_STR(str_from_bytes(buf_bytes(&out)), ROWS[i].expected);
        buf_release(&out);
    }
}

/* ---- streams ---- */

struct taken {
    struct buf messages;
    struct buf problems;
    size_t n_samples;
};

static enum err_code take_message(void *ctx, struct bytes message, size_t n, struct err *err)
{
    struct taken *t = ctx;
    (void)err;
    buf_put(&t->messages, message.p, message.len);
    t->n_samples += n;
    return ERR_OK;
}

static void take_problem(void *ctx, uint64_t line, enum reject_reason reason, const char *why)
{
    struct taken *t = ctx;
    buf_printf(&t->problems, "%" PRIu64 " %s: %s\n", line, reject_reason_name(reason), why);
}

static enum err_code feed(struct taken *t, struct str text, enum import_format format, size_t part,
                          struct err *err)
{
    struct import_lines in;
    struct label_limits limits = {30, 100, 100};
    struct import_sink sink = {take_message, take_problem, t};
    enum err_code rc = ERR_OK;
    buf_init(&t->messages, MEM_INGEST);
    buf_init(&t->problems, MEM_INGEST);
    t->n_samples = 0;
    import_lines_init(&in, MEM_INGEST, format, &limits, &sink);
    in.default_ms = 77;
    for (size_t at = 0; !rc && at < text.len; at += part)
        rc = import_lines_feed(&in, bytes_of(text.p + at, MIN_OF(part, text.len - at)), err);
    if (!rc) rc = import_lines_finish(&in, err);
    import_lines_release(&in);
    return rc;
}

static void taken_release(struct taken *t)
{
    buf_release(&t->messages);
    buf_release(&t->problems);
}

static void check_stream(const char *text, enum import_format format, size_t n_samples,
                         const char *problems)
{
    struct taken whole, parts;
    struct err err;
    struct str s = str_of(text);
    CHECK_OK(feed(&whole, s, format, s.len + 1, &err), &err);
    CHECK_U64(whole.n_samples, n_samples);
    CHECK_STR(str_from_bytes(buf_bytes(&whole.problems)), problems);
    for (size_t part = 1; part < s.len; part++) { /* cut anywhere it is the same */
        CHECK_OK(feed(&parts, s, format, part, &err), &err);
        CHECK_BYTES(buf_bytes(&parts.messages), buf_bytes(&whole.messages));
        CHECK_BYTES(buf_bytes(&parts.problems), buf_bytes(&whole.problems));
        taken_release(&parts);
    }
    taken_release(&whole);
}

static void test_streams(void **state)
{
    (void)state;
    check_stream("# TYPE a counter\na 1 5\n\na{b=\"c\"} 2\nbad line\na 3", IMPORT_AUTO, 3,
                 "5 none: no number at byte 5\n");
    check_stream(
        "\n{\"metric\":{\"__name__\":\"a\",\"b\":\"\"},\"values\":[1,2],\"timestamps\":[1,2]}\r\n"
        "{\"metric\":{\"b\":\"c\"},\"values\":[1],\"timestamps\":[1]}\n{}\n",
        IMPORT_AUTO, 2,
        "3 missing_metric_name: invalid metric name or labels, got {b=\"c\"}\n"
        "4 none: no \"metric\" with labels\n");
    check_stream("{__name__=\"a\", b=\"\\u00e9\"} 1 1\n", IMPORT_AUTO, 1, "");
    check_stream("{\"a.b\",c=\"d\"} 1 1\n", IMPORT_AUTO, 1, "");
    check_stream("a 1 1\n# EOF\nb 1\n", IMPORT_OPENMETRICS, 1, "3 none: something follows # EOF\n");
}

static void test_cut_off(void **state)
{
    (void)state;
    struct taken t;
    struct err err;
    CHECK_ERR(feed(&t, STR("a 1 1\nb 2"), IMPORT_OPENMETRICS, 3, &err), ERR_INVALID);
    CHECK_U64(t.n_samples, 2); /* what came is stored */
    taken_release(&t);
}

/* A line longer than allowed costs itself alone. */
static void test_long_line(void **state)
{
    (void)state;
    struct taken t;
    struct err err;
    size_t len = IMPORT_LINE_BYTES_MAX + 100;
    char *text = mem_alloc(MEM_INGEST, len);
    memset(text, 'x', len);
    memcpy(text, "a 1 1\n", 6);
    memcpy(text + len - 7, "\nb 1 1\n", 7);
    CHECK_OK(feed(&t, (struct str){text, len}, IMPORT_PROMETHEUS, 1 << 20, &err), &err);
    CHECK_U64(t.n_samples, 2);
    CHECK(t.problems.len > 0 && memcmp(t.problems.p, "2 ", 2) == 0);
    taken_release(&t);
    mem_free(text);
}

/* What OpenMetrics and Prometheus's text can say comes back from an export. */
static void test_round_trip(void **state)
{
    (void)state;
    static const struct label LABELS[] = {{STR("__name__"), STR("a.b")},
                                          {STR("job\xc3\xa9"), STR("x\"\\\n\\n")}};
    struct rng rng;
    PROPERTY_LOOP(&rng, 500)
    {
        struct samples in;
        struct buf text;
        struct arena arena;
        struct err err;
        bool seconds = rng_chance(&rng, 0.5);
        samples_init(&in, MEM_INGEST, NULL);
        buf_init(&text, MEM_INGEST);
        gen_floats(&rng, &in, 20, (unsigned)rng_below(&rng, GEN_VALUE_KINDS), 1);
        export_put_samples(&text, seconds ? EXPORT_OPENMETRICS : EXPORT_PROMETHEUS,
                           (struct labels){LABELS, COUNT_OF(LABELS)}, &in, 0, in.n);
        struct str rest = str_from_bytes(buf_bytes(&text));
        for (size_t i = 0; i < in.n; i++) {
            struct text_sample got;
            enum text_line kind;
            if (is_stale_nan(in.v[i])) continue; /* text has no form for it */
            const char *lf = memchr(rest.p, '\n', rest.len);
            CHECK(lf != NULL);
            struct str line = {rest.p, (size_t)(lf - rest.p)};
            arena_init(&arena, MEM_INGEST, 0);
            CHECK_OK(text_line_parse(line, seconds ? TEXT_OPENMETRICS : TEXT_PROMETHEUS, &arena,
                                     &kind, &got, &err),
                     &err);
            CHECK_I64(got.t_ms, in.t_ms[i]);
            if (!isnan(in.v[i])) CHECK_SAME_DOUBLE(got.v, in.v[i]);
            CHECK(labels_eq((struct labels){got.labels, got.n_labels},
                            (struct labels){LABELS, COUNT_OF(LABELS)}));
            arena_release(&arena);
            rest.p += line.len + 1;
            rest.len -= line.len + 1;
        }
        CHECK_U64(rest.len, 0);
        buf_release(&text);
        samples_release(&in);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),      cmocka_unit_test(test_streams),
        cmocka_unit_test(test_cut_off),    cmocka_unit_test(test_long_line),
        cmocka_unit_test(test_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
