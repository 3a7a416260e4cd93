/* /federate: which samples, in which order, in which form. What is expected was recorded from Prometheus 3.5. */
#include "base/protobuf.h"
#include "query/exposition.h"
#include "tests/query/api_fixture.h"

#define API_PARTS_BYTES 65536

static const char FORM[] = "text/plain; version=0.0.4; charset=utf-8; escaping=";

static void load(struct fixture *f)
{
    source_mem_clear(f->mem);
    source_mem_load(f->mem,
                    "load 60s\n"
                    "  m{a=\"1\",job=\"z\"} 1.5x10\n"
                    "  m{a=\"0\\\"\\\\\\n<>\",instance=\"i\"} _x10 -0\n"
                    "  Z 1e21x10\n"
                    "  gone 1x9 stale\n"
                    "  back 1x8 stale 7\n"
                    "  old 1x5\n" /* its last is exactly the lookback ago */
                    "  older 1x4\n"
                    "  lots{v=\"1\"} 1e-7x10\n"
                    "  lots{v=\"2\"} 1234567x10\n"
                    "  lots{v=\"3\"} NaNx10\n"
                    "  lots{v=\"4\"} -Infx10\n"
                    "  h{x=\"1\"} {{schema:1 count:9 sum:5 z_bucket:2 z_bucket_w:0.5 "
                    "offset:-2 buckets:[1 2] n_buckets:[4]}}x10\n"
                    "  h{x=\"2\"} 3x10\n"
                    "  h{x=\"3\"} {{schema:0 count:4 sum:5 buckets:[4] "
                    "counter_reset_hint:gauge}}x10\n"
                    "  nhcb {{schema:-53 count:4 sum:5 custom_values:[1 2] "
                    "buckets:[1 2 1]}}x10\n"
                    "  {\"dot.ted\",\"l.x\"=\"5\",\"9l\"=\"1\",\"\xc3\xa9_\"=\"\xc3\xa9\"} 1x10\n");
}

#define ALL "match[]=%7B__name__%3D~%22.%2B%22%7D"

static void test_text(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    load(&f);
    CHECK_ANSWER(&f, 200,
                 "# TYPE Z untyped\n"
                 "Z{instance=\"\"} 1e+21 600000\n"
                 "# TYPE back untyped\n"
                 "back{instance=\"\"} 7 600000\n"
                 "# TYPE dot_ted untyped\n"
                 "dot_ted{_l=\"1\",l_x=\"5\",__=\"\xc3\xa9\",instance=\"\"} 1 600000\n"
                 "# TYPE h untyped\n"
                 "h{x=\"2\",instance=\"\"} 3 600000\n"
                 "# TYPE lots untyped\n"
                 "lots{v=\"1\",instance=\"\"} 1e-07 600000\n"
                 "lots{v=\"2\",instance=\"\"} 1.234567e+06 600000\n"
                 "lots{v=\"3\",instance=\"\"} NaN 600000\n"
                 "lots{v=\"4\",instance=\"\"} -Inf 600000\n"
                 "# TYPE m untyped\n"
                 "m{a=\"0\\\"\\\\\\n<>\",instance=\"i\"} 0 600000\n"
                 "m{a=\"1\",job=\"z\",instance=\"\"} 1.5 600000\n"
                 "# TYPE old untyped\n"
                 "old{instance=\"\"} 1 300000\n",
                 .path = "/federate", .query = ALL);
    /* What several selectors match comes once; the order does not depend on theirs. */
    CHECK_ANSWER(&f, 200,
                 "# TYPE Z untyped\n"
                 "Z{instance=\"\"} 1e+21 600000\n"
                 "# TYPE back untyped\n"
                 "back{instance=\"\"} 7 600000\n",
                 .path = "/federate", .query = "match[]=back&match[]=Z&match[]=back&match[]=gone");
    CHECK_ANSWER(&f, 200, "", .path = "/federate");
    CHECK_ANSWER(&f, 200, "", .path = "/federate", .query = "match[]={}");
    fixture_close(&f);
}

static void check_escaping(struct fixture *f, const char *accept, const char *escaping,
                           const char *body)
{
    char type[128];
    const char *headers[][2] = {{"Accept", accept}, {NULL, NULL}};
    snprintf(type, sizeof(type), "%s%s", FORM, escaping);
    ask(f, &(struct ask){
               .path = "/federate", .query = "match[]=%7B%22dot.ted%22%7D", .headers = headers});
    CHECK_STR(str_from_bytes(buf_bytes(&f->fake.body)), body);
    CHECK_STR(str_of(f->fake.content_type), type);
    answer_release(f);
}

static void test_escaping(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    load(&f);
    check_escaping(&f, "text/plain;version=1.0.0;escaping=allow-utf-8", "allow-utf-8",
                   "# TYPE \"dot.ted\" untyped\n"
                   "{\"dot.ted\",\"9l\"=\"1\",\"l.x\"=\"5\",\"\xc3\xa9_\"=\"\xc3\xa9\",instance="
                   "\"\"} 1 600000\n");
    check_escaping(
        &f, "text/plain; version=0.0.4; escaping=\"dots\"", "dots",
        "# TYPE dot_dot_ted untyped\n"
        "dot_dot_ted{__l=\"1\",l_dot_x=\"5\",____=\"\xc3\xa9\",instance=\"\"} 1 600000\n");
    check_escaping(
        &f, "text/plain;escaping=values", "values",
        "# TYPE U__dot_2e_ted untyped\n"
        "U__dot_2e_ted{U___39_l=\"1\",U__l_2e_x=\"5\",U___e9___=\"\xc3\xa9\",instance=\"\"} 1 "
        "600000\n");
    fixture_close(&f);
}

static void test_negotiation(void **state)
{
    (void)state;
    static const struct {
        const char *accept;
        bool protobuf;
        enum expo_escaping escaping;
    } CASES[] = {
        {"", false, EXPO_UNDERSCORES},
        {"*/*", false, EXPO_UNDERSCORES},
        {"text/html, application/openmetrics-text;version=1.0.0", false, EXPO_UNDERSCORES},
        {"text/plain;version=0.0.4;escaping=nonsense", false, EXPO_UNDERSCORES},
        {"text/plain;version=0.0.3;escaping=dots", false, EXPO_UNDERSCORES},
        {"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;"
         "encoding=delimited",
         true, EXPO_UNDERSCORES},
        {"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text",
         false, EXPO_UNDERSCORES},
        {"application/vnd.google.protobuf;proto=other;encoding=delimited", false, EXPO_UNDERSCORES},
        {"text/plain;q=0.4;escaping=dots , application/vnd.google.protobuf ; "
         "proto=io.prometheus.client.MetricFamily ; encoding=delimited;escaping=values;q=0.5",
         true, EXPO_VALUES},
        {"text/plain;q=0.5;escaping=dots , application/vnd.google.protobuf;"
         "proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.5",
         false, EXPO_DOTS},
        {"text/plain;q=0;escaping=dots", false, EXPO_UNDERSCORES},
        {";;,=,q=;", false, EXPO_UNDERSCORES},
    };
    for (size_t i = 0; i < COUNT_OF(CASES); i++) {
        struct expo_format got = expo_negotiate(str_of(CASES[i].accept));
        if (got.protobuf != CASES[i].protobuf || got.escaping != CASES[i].escaping)
            test_fail(__FILE__, __LINE__, "%s: protobuf %d, escaping %d", CASES[i].accept,
                      got.protobuf, (int)got.escaping);
    }
}

static struct pb_field find(struct bytes message, uint32_t number, size_t skip)
{
    struct pb pb = pb_init(message, "M");
    struct pb_field field;
    while (pb_next(&pb, &field))
        if (field.number == number && !skip--) return field;
    test_fail(__FILE__, __LINE__, "no field %u", (unsigned)number);
}

static bool next_family(struct reader *r, struct bytes *family)
{
    if (!reader_left(r)) return false;
    *family = reader_bytes(r, (size_t)reader_varint(r));
    CHECK(!r->failed);
    return true;
}

static void check_histogram(struct bytes h)
{
    CHECK_SAME_DOUBLE(double_from_bits(find(h, 2, 0).u), 5);
    CHECK_SAME_DOUBLE(double_from_bits(find(h, 4, 0).u), 9);
    CHECK_I64(zigzag_decode(find(h, 5, 0).u), 1);
    CHECK_SAME_DOUBLE(double_from_bits(find(h, 6, 0).u), 0.5);
    CHECK_SAME_DOUBLE(double_from_bits(find(h, 8, 0).u), 2);
    CHECK_I64(zigzag_decode(find(find(h, 12, 0).bytes, 1, 0).u), -2);
    CHECK_U64(find(find(h, 12, 0).bytes, 2, 0).u, 2);
    CHECK_SAME_DOUBLE(double_from_bits(find(h, 14, 1).u), 2);
    CHECK_I64(zigzag_decode(find(find(h, 9, 0).bytes, 1, 0).u), 0);
    CHECK_SAME_DOUBLE(double_from_bits(find(h, 11, 0).u), 4);
}

/* A family for each type of h's series, in the order of the series. */
static void test_protobuf(void **state)
{
    (void)state;
    static const char *HEADERS[][2] = {
        {"Accept", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;"
                   "encoding=delimited"},
        {NULL, NULL}};
    static const unsigned TYPES[] = {EXPO_HISTOGRAM, EXPO_UNTYPED, EXPO_GAUGE_HISTOGRAM,
                                     EXPO_UNTYPED};
    struct fixture f;
    struct bytes family;
    size_t n = 0;
    fixture_open(&f);
    load(&f);
    ask(&f, &(struct ask){.path = "/federate",
                          .query = "match[]=h&match[]=nhcb&match[]=m",
                          .headers = HEADERS});
    CHECK(strncmp(f.fake.content_type, "application/vnd.google.protobuf; ", 33) == 0);
    struct reader r = reader_init(buf_bytes(&f.fake.body));
    while (next_family(&r, &family)) {
        CHECK(n < COUNT_OF(TYPES));
        CHECK_STR(str_from_bytes(find(family, 1, 0).bytes), n < 3 ? "h" : "m");
        CHECK_U64(find(family, 3, 0).u, TYPES[n]);
        struct bytes metric = find(family, 4, 0).bytes;
        struct bytes label = find(metric, 1, n == 3 ? 1 : 0).bytes;
        CHECK_STR(str_from_bytes(find(label, 1, 0).bytes), n < 3 ? "x" : "instance");
        CHECK_U64(find(metric, 6, 0).u, 600000);
        if (n == 0) check_histogram(find(metric, 7, 0).bytes);
        if (n == 1) CHECK_SAME_DOUBLE(double_from_bits(find(find(metric, 5, 0).bytes, 1, 0).u), 3);
        n++;
    }
    CHECK_U64(n, COUNT_OF(TYPES));
    answer_release(&f);
    fixture_close(&f);
}

static void test_errors(void **state)
{
    (void)state;
    static const char *TENANT[][2] = {{"X-Scope-OrgID", "a b"}, {NULL, NULL}};
    static const char *UNKNOWN[][2] = {{"X-Scope-OrgID", "nobody"}, {NULL, NULL}};
    struct fixture f;
    fixture_open(&f);
    CHECK_ANSWER(&f, 400, "1:4: parse error: unexpected end of input inside braces\n",
                 .path = "/federate", .query = "match[]=up{");
    CHECK_ANSWER(&f, 400, "unknown position: parse error: unexpected end of input\n",
                 .path = "/federate", .query = "match[]=");
    CHECK_ANSWER(&f, 400, "error parsing form values: invalid URL escape \"%zz\"\n",
                 .path = "/federate", .query = "match[]=%zz");
    CHECK_ANSWER(&f, 400, "tenant ID 'a b' contains unsupported character ' '\n",
                 .path = "/federate", .headers = TENANT);
    CHECK_ANSWER(&f, 200, "", .path = "/federate", .query = "match[]=up", .headers = UNKNOWN);
    source_mem_fail_reads(f.mem, ERR_IO);
    CHECK_ANSWER(&f, 500, "a read failed, as asked for\n", .path = "/federate",
                 .query = "match[]=up");
    fixture_close(&f);
}

/* More than is sent in one part. */
static void test_long(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    load(&f);
    for (int i = 0; i < 3000; i++) {
        char text[96];
        snprintf(text, sizeof(text), "load 60s\n  many{i=\"%d\"} 1x10\n", i);
        source_mem_load(f.mem, text);
    }
    ask(&f, &(struct ask){.path = "/federate", .query = ALL});
    CHECK_U64(f.fake.status, 200);
    CHECK(!f.fake.aborted && f.fake.body.len > API_PARTS_BYTES);
    struct str body = str_from_bytes(buf_bytes(&f.fake.body));
    size_t n = 0;
    for (size_t i = 0; i < body.len; i++) n += body.p[i] == '\n';
    CHECK_U64(n, 3000 + 11 + 8); /* each once, those of test_text, and the types */
    answer_release(&f);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),        cmocka_unit_test(test_escaping),
        cmocka_unit_test(test_negotiation), cmocka_unit_test(test_protobuf),
        cmocka_unit_test(test_errors),      cmocka_unit_test(test_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
