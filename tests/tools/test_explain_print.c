/* The tree of a plan on a terminal. */
#include "tests/quipu_test.h"
#include "tools/explain_print.h"

static void check_tree(const char *json, size_t columns, const char *expected)
{
    struct buf out;
    struct err err;
    cJSON *root = cJSON_Parse(json);
    CHECK(root != NULL);
    buf_init(&out, MEM_TOOLS);
    CHECK_OK(explain_print_tree(root, columns, &out, &err), &err);
    CHECK_STR(str_from_bytes(buf_bytes(&out)), expected);
    buf_release(&out);
    cJSON_Delete(root);
}

#define LEGEND                                                                                     \
    " on one thread. Looked at: samples in windows, at each step; stored: samples to read, by "    \
    "estimate.\n"

static void measured(void **state)
{
    (void)state;
    check_tree(
        "{\"node\":\"set operation or\",\"expr\":\"a or sum(b)\",\"steps\":3,\"estimated\":"
        "{\"seconds\":0.5,\"samples\":2000},\"measured\":{\"seconds\":1.5,\"selfSeconds\":0.25,"
        "\"series\":3,\"windowSamples\":40},\"children\":[{\"node\":\"select\",\"expr\":\"a\","
        "\"estimated\":{\"samples\":1000},\"measured\":{\"seconds\":0.0012,\"selfSeconds\":0.0012,"
        "\"series\":2,\"windowSamples\":6},\"children\":[]},{\"node\":\"aggregate sum\",\"expr\":"
        "\"sum(b)\",\"children\":[{\"node\":\"select\",\"expr\":\"b\",\"children\":[]}]}]}",
        90,
        "measured                          time     itself    series  looked at     stored\n"
        "set operation or  a or sum(…    1.50 s   250.0 ms         3         40      2.00k\n"
        "├─ select  a                    1.2 ms     1.2 ms         2          6      1.00k\n"
        "└─ aggregate sum  sum(b)          not run\n"
        "   └─ select  b                   not run\n"
        "\n3 steps; estimate: 500.0 ms" LEGEND);
}

static void estimated(void **state)
{
    (void)state;
    check_tree("{\"node\":\"select\",\"expr\":\"up\",\"steps\":1,\"estimated\":{\"seconds\":5e-6,"
               "\"series\":12345,\"samples\":1e9,\"windowSamples\":7},\"children\":[]}",
               90,
               "estimated                         time     itself    series  looked at     stored\n"
               "select  up                        5 us          -     12.3k          7      1.00G\n"
               "\n1 steps; estimate: 5 us" LEGEND);
}

static void nothing(void **state)
{
    (void)state;
    struct buf out;
    struct err err;
    buf_init(&out, MEM_TOOLS);
    CHECK(explain_print_tree(NULL, 80, &out, &err) == ERR_INVALID);
    buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(measured),
        cmocka_unit_test(estimated),
        cmocka_unit_test(nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
