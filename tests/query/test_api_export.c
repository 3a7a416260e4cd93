/* /api/v1/export: which samples, in which form, in lines of which length. */
#include "tests/query/api_fixture.h"

static void load(struct fixture *f)
{
    source_mem_clear(f->mem);
    source_mem_load(
        f->mem,
        "load 60s\n"
        "  m{a=\"1\"} 1.5 -0 NaN Inf -Inf stale 5e-324\n"
        "  m{a=\"0\"} _x5 7\n"
        "  n 0+1x4\n"
        "  h {{schema:1 count:4 sum:5 z_bucket:1 z_bucket_w:0.5 offset:-2 buckets:[1 2]}} 3\n"
        "  {\"dot.ted\",\"l.x\"=\"5\\n\\\"\"} 1\n");
}

static void test_jsonl(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    load(&f);
    CHECK_ANSWER(
        &f, 200,
        "{\"metric\":{\"__name__\":\"m\",\"a\":\"0\"},\"values\":[7],\"timestamps\":[300000]}\n"
        "{\"metric\":{\"__name__\":\"m\",\"a\":\"1\"},\"values\":[1.5,-0,\"NaN:7ff8000000000000\","
        "\"Infinity\","
        "\"-Infinity\",\"NaN:7ff0000000000002\",5e-324],"
        "\"timestamps\":[0,60000,120000,180000,240000,300000,360000]}\n",
        .path = "/api/v1/export", .query = "match[]=m");
    /* What several selectors match comes once, in the order of labels. */
    CHECK_ANSWER(
        &f, 200,
        "{\"metric\":{\"__name__\":\"m\",\"a\":\"0\"},\"values\":[7],\"timestamps\":[300000]}\n"
        "{\"metric\":{\"__name__\":\"n\"},\"values\":[0,1],\"timestamps\":[0,60000]}\n"
        "{\"metric\":{\"__name__\":\"n\"},\"values\":[2,3],\"timestamps\":[120000,180000]}\n"
        "{\"metric\":{\"__name__\":\"n\"},\"values\":[4],\"timestamps\":[240000]}\n",
        .path = "/api/v1/export",
        .query = "match[]=n&match[]=m{a=\"0\"}&match[]={__name__=\"n\"}&max_rows_per_line=2");
    CHECK_ANSWER(
        &f, 200,
        "{\"metric\":{\"__name__\":\"n\"},\"values\":[2,3],\"timestamps\":[120000,180000]}\n",
        .path = "/api/v1/export", .query = "match[]=n&start=119.5&end=180");
    CHECK_ANSWER(
        &f, 200,
        "{\"metric\":{\"__name__\":\"h\"},\"values\":[3],\"timestamps\":[60000]}\n"
        "{\"metric\":{\"__name__\":\"h\"},\"histograms\":[{\"schema\":1,\"count\":4,\"sum\":5,"
        "\"zero_threshold\":0.5,\"zero_count\":1,\"positive_spans\":[[-2,2]],"
        "\"positive\":[1,2]}],\"timestamps\":[0]}\n",
        .path = "/api/v1/export", .query = "match[]=h");
    CHECK_ANSWER(&f, 200, "", .path = "/api/v1/export", .query = "match[]=none");
    fixture_close(&f);
}

static void test_text(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    load(&f);
    CHECK_ANSWER(&f, 200,
                 "m{a=\"1\"} 1.5 0\nm{a=\"1\"} -0 60000\nm{a=\"1\"} NaN 120000\n"
                 "m{a=\"1\"} +Inf 180000\nm{a=\"1\"} -Inf 240000\nm{a=\"1\"} 5e-324 360000\n",
                 .path = "/api/v1/export", .query = "match[]=m{a=\"1\"}&format=prometheus");
    CHECK_ANSWER(&f, 200, "{\"dot.ted\",\"l.x\"=\"5\\n\\\"\"} 1 0.000\nh 3 60.000\n# EOF\n",
                 .path = "/api/v1/export",
                 .query = "match[]={\"dot.ted\"}&match[]=h&format=openmetrics");
    fixture_close(&f);
}

static void test_refused(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    load(&f);
    CHECK_ANSWER(&f, 400, "no match[] parameter provided\n", .path = "/api/v1/export");
    CHECK_ANSWER(
        &f, 400,
        "invalid parameter \"format\": \"csv\" is none of jsonl, openmetrics, prometheus\n",
        .path = "/api/v1/export", .query = "match[]=m&format=csv");
    CHECK_ANSWER(&f, 400, "invalid parameter \"max_rows_per_line\"\n", .path = "/api/v1/export",
                 .query = "match[]=m&max_rows_per_line=x");
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_jsonl),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
