/* Printed forms: one line, several lines, JSON; and: what is printed parses to the same tree. */
#include "query/duration.h"
#include "query/parser.h"
#include "tests/query/gen_expr.h"
#include "tests/quipu_test.h"

typedef void print_fn(const struct node *root, struct buf *out);

/* Parses, prints, and gives the text; NULL-terminated for messages. */
static void print_query(struct str query, print_fn *print, struct buf *out)
{
    struct arena arena;
    struct parse_result result;
    struct err err;
    arena_init(&arena, MEM_QUERY, 0);
    enum err_code rc = parse_expr(query, &arena, &result, &err);
    if (rc) test_fail(__FILE__, __LINE__, "%.*s\n  is refused: %s", STR_ARG(query), err.text);
    print(result.root, out);
    parse_release(&result);
    arena_release(&arena);
}

static void check_print(print_fn *print, const char *query, const char *want)
{
    struct buf out;
    buf_init(&out, MEM_QUERY);
    print_query(str_of(query), print, &out);
    CHECK_STR(str_from_bytes(buf_bytes(&out)), want);
    buf_release(&out);
}

static void test_one_line_at_100_bytes(void **state)
{
    (void)state;
    char query[128], want[128], name[128];
    memset(name, 'b', sizeof name);
    int n = 100 - (int)strlen("sum by (a) ()");
    snprintf(query, sizeof query, "sum by (a) (%.*s)", n, name);
    check_print(ast_print_pretty, query, query);
    snprintf(query, sizeof query, "sum by (a) (%.*s)", n + 1, name);
    snprintf(want, sizeof want, "sum by (a) (\n  %.*s\n)", n + 1, name);
    check_print(ast_print_pretty, query, want);
}

#define LONG "a_rather_long_metric_name_total{instance=\"some.host.example:9100\"}"

static void test_split(void **state)
{
    (void)state;
    check_print(ast_print_pretty, "sum(rate(" LONG "[5m])) by (job) / on (job) group_left " LONG,
                "  sum by (job) (rate(" LONG "[5m]))\n"
                "/ on (job) group_left ()\n"
                "  " LONG);
    check_print(ast_print_pretty, "topk(3, " LONG " + " LONG ")",
                "topk(\n"
                "  3,\n"
                "    " LONG "\n"
                "  +\n"
                "    " LONG "\n"
                ")");
    check_print(ast_print_pretty,
                "label_replace((" LONG "), \"a\", \"b\", \"cccccccccc\", \"dddd\")",
                "label_replace(\n"
                "  (" LONG "),\n"
                "  \"a\",\n"
                "  \"b\",\n"
                "  \"cccccccccc\",\n"
                "  \"dddd\"\n"
                ")");
    check_print(ast_print_pretty, "-(" LONG " ^ " LONG ")",
                "-(\n"
                "    " LONG "\n"
                "  ^\n"
                "    " LONG "\n"
                ")");
    check_print(ast_print_pretty, "(" LONG " - " LONG ")[5m:1m] offset 3m",
                "(\n"
                "    " LONG "\n"
                "  -\n"
                "    " LONG "\n"
                ")[5m:1m] offset 3m");
    check_print(ast_print_pretty, LONG " + " LONG " + " LONG,
                "    " LONG "\n"
                "  +\n"
                "    " LONG "\n"
                "+\n"
                "  " LONG);
    check_print(ast_print_pretty, "-" LONG " * " LONG,
                "  -" LONG "\n"
                "*\n"
                "  " LONG);
}

#define UP                                                                                         \
    "{\"matchers\":[{\"name\":\"__name__\",\"type\":\"=\",\"value\":\"up\"}],\"name\":\"up\","     \
    "\"offset\":0,\"startOrEnd\":null,\"timestamp\":null,\"type\":\"vectorSelector\"}"
#define B                                                                                          \
    "{\"matchers\":[{\"name\":\"__name__\",\"type\":\"=\",\"value\":\"b\"}],\"name\":\"b\","       \
    "\"offset\":0,\"startOrEnd\":null,\"timestamp\":null,\"type\":\"vectorSelector\"}"

static void test_json(void **state)
{
    (void)state;
    static const char *const CASES[][2] = {
        {"5m", "{\"type\":\"numberLiteral\",\"val\":\"300\"}"},
        {"-1e-9", "{\"type\":\"numberLiteral\",\"val\":\"-0.000000001\"}"},
        {"\"x<y\"", "{\"type\":\"stringLiteral\",\"val\":\"x\\u003cy\"}"},
        {"up", UP},
        {"(up)", "{\"expr\":" UP ",\"type\":\"parenExpr\"}"},
        {"-up", "{\"expr\":" UP ",\"op\":\"-\",\"type\":\"unaryExpr\"}"},
        {"a{x!=\"1\",y!~\"<\"}[5m] @ 1.5 offset -3m",
         "{\"matchers\":[{\"name\":\"x\",\"type\":\"!=\",\"value\":\"1\"},{\"name\":\"y\",\"type\":"
         "\"!~\",\"value\":\"\\u003c\"},{\"name\":\"__name__\",\"type\":\"=\",\"value\":\"a\"}],"
         "\"name\":\"a\",\"offset\":-180000,\"range\":300000,\"startOrEnd\":null,\"timestamp\":"
         "1500,"
         "\"type\":\"matrixSelector\"}"},
        {"{\"foo\",b=\"c\"} @ start()",
         "{\"matchers\":[{\"name\":\"__name__\",\"type\":\"=\",\"value\":\"foo\"},{\"name\":\"b\","
         "\"type\":\"=\",\"value\":\"c\"}],\"name\":\"\",\"offset\":0,\"startOrEnd\":\"start\","
         "\"timestamp\":null,\"type\":\"vectorSelector\"}"},
        {"up[1h:] @ end()",
         "{\"expr\":" UP ",\"offset\":0,\"range\":3600000,\"startOrEnd\":\"end\","
         "\"step\":0,\"timestamp\":null,\"type\":\"subquery\"}"},
        {"time()", "{\"args\":[],\"func\":{\"argTypes\":[],\"name\":\"time\",\"returnType\":"
                   "\"scalar\",\"variadic\":0},\"type\":\"call\"}"},
        {"round(up)", "{\"args\":[" UP "],\"func\":{\"argTypes\":[\"vector\",\"scalar\"],\"name\":"
                      "\"round\",\"returnType\":\"vector\",\"variadic\":1},\"type\":\"call\"}"},
        {"sum by (x) (up)", "{\"expr\":" UP ",\"grouping\":[\"x\"],\"op\":\"sum\",\"param\":null,"
                            "\"type\":\"aggregation\",\"without\":false}"},
        {"topk without () (3, up)",
         "{\"expr\":" UP ",\"grouping\":[],\"op\":\"topk\",\"param\":{\"type\":\"numberLiteral\","
         "\"val\":\"3\"},\"type\":\"aggregation\",\"without\":true}"},
        {"up and b", "{\"bool\":false,\"lhs\":" UP ",\"matching\":{\"card\":\"many-to-many\","
                     "\"include\":[],\"labels\":[],\"on\":false},\"op\":\"and\",\"rhs\":" B
                     ",\"type\":\"binaryExpr\"}"},
        {"up < bool on (x) group_right (z) b",
         "{\"bool\":true,\"lhs\":" UP ",\"matching\":{\"card\":\"one-to-many\",\"include\":[\"z\"],"
         "\"labels\":[\"x\"],\"on\":true},\"op\":\"\\u003c\",\"rhs\":" B
         ",\"type\":\"binaryExpr\"}"},
        {"1 + 2", "{\"bool\":false,\"lhs\":{\"type\":\"numberLiteral\",\"val\":\"1\"},\"matching\":"
                  "null,\"op\":\"+\",\"rhs\":{\"type\":\"numberLiteral\",\"val\":\"2\"},\"type\":"
                  "\"binaryExpr\"}"},
        {"up + fill_left(1) b",
         "{\"bool\":false,\"lhs\":" UP ",\"matching\":{\"card\":\"one-to-one\",\"fillValues\":{"
         "\"lhs\":\"1\",\"rhs\":null},\"include\":[],\"labels\":[],\"on\":false},\"op\":\"+\","
         "\"rhs\":" B ",\"type\":\"binaryExpr\"}"},
    };
    for (size_t i = 0; i < COUNT_OF(CASES); i++)
        check_print(ast_print_json, CASES[i][0], CASES[i][1]);
}

/* Parsed trees are equal when their JSON is; it holds all that matters but places. */
static void check_same(struct str query, print_fn *print)
{
    struct buf text, again, tree, tree_again;
    buf_init(&text, MEM_QUERY);
    buf_init(&again, MEM_QUERY);
    buf_init(&tree, MEM_QUERY);
    buf_init(&tree_again, MEM_QUERY);
    print_query(query, print, &text);
    struct str printed = str_from_bytes(buf_bytes(&text));
    print_query(printed, print, &again);
    if (!str_eq(printed, str_from_bytes(buf_bytes(&again))))
        test_fail(__FILE__, __LINE__, "%.*s\n  prints %.*s\n  then   %.*s", STR_ARG(query),
                  STR_ARG(printed), (int)again.len, (const char *)again.p);
    print_query(query, ast_print_json, &tree);
    print_query(printed, ast_print_json, &tree_again);
    /* Matchers print sorted, and a quoted name in braces stays one: compare only what keeps its order. */
    if (!memmem(query.p, query.len, "{", 1) &&
        !str_eq(str_from_bytes(buf_bytes(&tree)), str_from_bytes(buf_bytes(&tree_again))))
        test_fail(__FILE__, __LINE__, "%.*s\n  is %.*s\n  as printed %.*s\n  is %.*s",
                  STR_ARG(query), (int)tree.len, (const char *)tree.p, STR_ARG(printed),
                  (int)tree_again.len, (const char *)tree_again.p);
    buf_release(&text);
    buf_release(&again);
    buf_release(&tree);
    buf_release(&tree_again);
}

static void test_property(void **state)
{
    (void)state;
    static const enum value_type TYPES[] = {VALUE_VECTOR, VALUE_VECTOR, VALUE_SCALAR, VALUE_MATRIX,
                                            VALUE_STRING};
    struct rng rng;
    PROPERTY_LOOP(&rng, 4000)
    {
        struct buf query;
        struct gen_expr_options options = gen_expr_defaults();
        buf_init(&query, MEM_QUERY);
        options.depth = (unsigned)rng_below(&rng, 6);
        gen_expr(&rng, &options, TYPES[rng_below(&rng, COUNT_OF(TYPES))], &query);
        struct str text = str_from_bytes(buf_bytes(&query));
        check_same(text, ast_print);
        check_same(text, ast_print_pretty);
        buf_release(&query);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_line_at_100_bytes),
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_property),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
