/* `quipu query`'s output, from answers as the API gives them. */
#include "tests/quipu_test.h"
#include "tools/cli.h"
#include "tools/query_hint.h"
#include "tools/query_print.h"

static void check_print(const struct query_print *how, const char *json, const char *expected)
{
    struct err err;
    struct buf out;
    buf_init(&out, MEM_TOOLS);
    cJSON *data = cJSON_Parse(json);
    CHECK(data != NULL);
    CHECK_OK(query_print(how, data, &out, &err), &err);
    CHECK_STR(str_from_bytes(buf_bytes(&out)), expected);
    cJSON_Delete(data);
    buf_release(&out);
}

static const char vector_json[] =
    "{\"resultType\":\"vector\",\"result\":["
    "{\"metric\":{\"__name__\":\"up\",\"job\":\"a\"},\"value\":[1767312000,\"1\"]},"
    "{\"metric\":{\"__name__\":\"up\",\"job\":\"größer\",\"az\":\"x,\\\"y\\\"\"},\"value\":["
    "1767312000.5,\"-0.25\"]},"
    "{\"metric\":{\"job\":\"h\\n\"},\"histogram\":[1767312000,{\"count\":\"3\",\"sum\":\"4.5\"}]}]"
    "}";

static void vectors(void **state)
{
    (void)state;
    check_print(&(struct query_print){0}, vector_json,
                "metric  az     job                  value\n"
                "up             a                        1\n"
                "up      x,\"y\"  größer               -0.25\n"
                "               h\\x0a   {count:3, sum:4.5}\n");
    check_print(&(struct query_print){.format = QUERY_CSV}, vector_json,
                "metric,az,job,time,value\r\n"
                "up,,a,2026-01-02T00:00:00Z,1\r\n"
                "up,\"x,\"\"y\"\"\",größer,2026-01-02T00:00:00.500Z,-0.25\r\n"
                ",,\"h\n\",2026-01-02T00:00:00Z,\"{count:3, sum:4.5}\"\r\n");
    check_print(&(struct query_print){0}, "{\"resultType\":\"vector\",\"result\":[]}",
                "(empty result)\n");
    check_print(&(struct query_print){0}, "{\"resultType\":\"scalar\",\"result\":[1,\"2.5\"]}",
                "2.5\n");
    check_print(&(struct query_print){0},
                "{\"resultType\":\"string\",\"result\":[1,\"a\\u001bb\"]}", "a\\x1bb\n");
}

static const char matrix_json[] =
    "{\"resultType\":\"matrix\",\"result\":[{\"metric\":{\"job\":\"a\"},\"values\":"
    "[[0,\"0\"],[10,\"1\"],[20,\"NaN\"],[30,\"7\"]]}]}";

static void matrices(void **state)
{
    (void)state;
    check_print(&(struct query_print){0}, matrix_json,
                "job  time                  value\n"
                "a    1970-01-01T00:00:00Z      0\n"
                "a    1970-01-01T00:00:10Z      1\n"
                "a    1970-01-01T00:00:20Z    NaN\n"
                "a    1970-01-01T00:00:30Z      7\n");
    check_print(
        &(struct query_print){.plot = true, .columns = 80, .end_ms = 30000, .step_ms = 10000},
        matrix_json,
        "{job=\"a\"}\n"
        "    ▁▂ █\n"
        "     min 0  max 7  last 7  4 points\n");
    check_print(
        &(struct query_print){.plot = true, .columns = 80},
        "{\"resultType\":\"matrix\",\"result\":[{\"metric\":{},\"values\":[[0,\"5\"]]}]}",
        "{}\n    ▅                                                                           \n"
        "     min 5  max 5  last 5  1 points\n");
}

static void check_place(const char *query, const char *message, const char *expected)
{
    struct buf out;
    buf_init(&out, MEM_TOOLS);
    query_print_place(str_of(query), str_of(message), &out);
    CHECK_STR(str_from_bytes(buf_bytes(&out)), expected);
    buf_release(&out);
}

static void check_hint(const char *query, const char *expected)
{
    struct buf out;
    cJSON *metrics = cJSON_Parse("[\"http_requests_total\",\"up\",\"upsert_seconds\"]");
    cJSON *labels = cJSON_Parse("[\"__name__\",\"instance\",\"job\"]");
    buf_init(&out, MEM_TOOLS);
    query_hint_empty(str_of(query), metrics, labels, &out);
    CHECK_STR(str_from_bytes(buf_bytes(&out)), expected);
    buf_release(&out);
    cJSON_Delete(metrics);
    cJSON_Delete(labels);
}

static void hints(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, MEM_TOOLS);
    query_hint_error(STR("1:5: parse error: unknown function with name \"raet\""), &out);
    CHECK_STR(str_from_bytes(buf_bytes(&out)), "did you mean rate()?\n");
    buf_reset(&out);
    query_hint_error(STR("1:5: parse error: unknown function with name \"elephants\""), &out);
    query_hint_error(STR("1:5: parse error: unknown function with name \""), &out);
    query_hint_error(STR("something else"), &out);
    CHECK_U64(out.len, 0);
    buf_release(&out);
    check_hint(
        "rate(http_reqests_total{jbo=\"a\"}[5m]) / up",
        "there is no label \"jbo\"; did you mean \"job\"?\n"
        "there is no metric \"http_reqests_total\"; did you mean \"http_requests_total\"?\n");
    check_hint("up{job=\"none\",pod=\"\"}", "");
    check_hint("nothing_like_it", "there is no metric \"nothing_like_it\"\n");
    check_hint("up{", "");
}

static void places(void **state)
{
    (void)state;
    const char *prefix = "invalid parameter \"query\": ";
    char message[256];
    snprintf(message, sizeof(message), "%s1:4: parse error: unexpected end of input", prefix);
    check_place("up{", message, "  up{\n     ^\n");
    check_place("up{\nfoo bar", "2:5: parse error: unexpected identifier",
                "  foo bar\n      ^^^\n");
    check_place("\"é\" up", "1:6: parse error: x", "  \"é\" up\n      ^^\n");
    check_place("sum(raet(up))", "1:5: parse error: x", "  sum(raet(up))\n      ^^^^\n");
    check_place("up + * 1", "1:6: parse error: x", "  up + * 1\n       ^\n");
    check_place("up", "unknown position: parse error: no expression found in input", "");
    check_place("up", "something else", "");
    check_place("up", "9:1: parse error: x", "");
    check_place("up", "1:99: parse error: x", "  up\n    ^\n");
}

static void numbers(void **state)
{
    (void)state;
    static const struct {
        double v;
        const char *text;
    } cases[] = {{0, "0"},          {7, "7"},         {0.25, "0.25"},    {999, "999"},
                 {1000, "1.00k"},   {999499, "999k"}, {999600, "1.00M"}, {12345678, "12.3M"},
                 {-1500, "-1.50k"}, {1e15, "1000T"}};
    char text[32];
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        CHECK_STR(str_of(cli_human(cases[i].v, text, sizeof(text))), cases[i].text);
    CHECK_STR(str_of(cli_human_bytes(1023, text, sizeof(text))), "1023 B");
    CHECK_STR(str_of(cli_human_bytes(1536, text, sizeof(text))), "1.5 KiB");
}

static void times(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t t_ms;
    } good[] = {{"now", 5000000},
                {"now-1m", 4940000},
                {"0", 0},
                {"1.5", 1500},
                {"-3", -3000},
                {"2026-01-02T00:00:00Z", 1767312000000},
                {"2026-01-02T00:00:00.25Z", 1767312000250}};
    static const char *const bad[] = {
        "",      "now+1h", "now-", "yesterday", "1s", "2026-01-02", "2026-01-02T00:00:00",
        "1e300", "nan"};
    struct err err;
    int64_t t_ms;
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        CHECK_OK(cli_parse_time(str_of(good[i].text), 5000000, &t_ms, &err), &err);
        CHECK_I64(t_ms, good[i].t_ms);
    }
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        CHECK_ERR(cli_parse_time(str_of(bad[i]), 5000000, &t_ms, &err), ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors), cmocka_unit_test(matrices), cmocka_unit_test(hints),
        cmocka_unit_test(places),  cmocka_unit_test(numbers),  cmocka_unit_test(times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
