/* Tokens, string values, and Go's quoting of runes. Error texts are in test_parser.c. */
#include "query/lexer.h"
#include "tests/quipu_test.h"

static const char *kind_name(enum token_kind kind)
{
    static const char *const NAMES[] = {
        "end",  "error", "ident",  "metric", "string", "number",  "dur", "(",   ")",
        "{",    "}",     "[",      "]",      ",",      ":",       "@",   "=",   "!=",
        "=~",   "!~",    "op",     "agg",    "by",     "without", "on",  "ign", "gl",
        "gr",   "bool",  "offset", "anch",   "smoo",   "fill",    "fl",  "fr",  "start",
        "endw", "step",  "range",  "min",    "max"};
    return NAMES[kind];
}

/* The kinds of all tokens, each with a blank behind it */
static void check_kinds(const char *text, const char *want)
{
    struct lexer lx;
    struct token tok;
    struct buf got;
    buf_init(&got, MEM_QUERY);
    lexer_init(&lx, str_of(text));
    do {
        lexer_next(&lx, &tok);
        buf_printf(&got, "%s ", kind_name(tok.kind));
        CHECK(tok.pos <= strlen(text));
        if (tok.kind > TOK_ERROR) CHECK(memcmp(tok.text.p, text + tok.pos, tok.text.len) == 0);
    } while (tok.kind > TOK_ERROR);
    if (!str_eq(str_from_bytes(buf_bytes(&got)), str_of(want)))
        test_fail(__FILE__, __LINE__, "%s\n  is  %.*s\n  not %s", text, (int)got.len,
                  (const char *)got.p, want);
    buf_release(&got);
    lexer_release(&lx);
}

static void test_kinds(void **state)
{
    (void)state;
    check_kinds("", "end ");
    check_kinds(" \t\r\n # only this", "end ");
    check_kinds("foo a:b :c _x", "ident metric metric ident end ");
    check_kinds("SUM Sum sum", "agg agg agg end ");
    check_kinds("{sum=\"a\",by!~'b'}", "{ ident = string , ident !~ string } end ");
    check_kinds("fill fill(1) FILL_LEFT \n (2) fill_right", "ident fill ( number ) fl ( number ) "
                                                            "ident end ");
    check_kinds("1 1s 1h30m 0x1f inf NaN .5", "number dur dur number number number number end ");
    check_kinds("a < b <= c > d >= e == f != g </ h >/ i",
                "ident op ident op ident op ident op ident op ident op ident op ident op ident "
                "end ");
    check_kinds("x[step() + Range(): min_of(1, MAX_OF(2,3))]",
                "ident [ step ( ) op range ( ) : min ( number , max ( number , number ) ) ] end ");
    check_kinds("step range start end min_of max_of", "step range start endw min max end ");
    check_kinds("x @ start() offset -5m", "ident @ start ( ) offset op dur end ");
    check_kinds("on ignoring group_left group_right bool without by anchored smoothed",
                "on ign gl gr bool without by anch smoo end ");
    check_kinds("{\"a\" # comment }\n}", "{ string } end ");
    check_kinds("a$", "ident error ");
}

static void check_value(const char *quoted, struct str want)
{
    struct arena arena;
    struct str got;
    bool no_memory;
    arena_init(&arena, MEM_QUERY, 0);
    CHECK(string_unquote(str_of(quoted), &arena, &got, &no_memory));
    if (!str_eq(got, want)) test_fail(__FILE__, __LINE__, "%s is %.*s", quoted, STR_ARG(got));
    arena_release(&arena);
}

static void test_string_values(void **state)
{
    (void)state;
    check_value("\"\"", STR(""));
    check_value("\"plain\"", STR("plain"));
    check_value("'it\\'s'", STR("it's"));
    check_value("'\"'", STR("\""));
    check_value("`a\\n\n\"`", STR("a\\n\n\""));
    check_value("\"\\a\\b\\f\\n\\r\\t\\v\\\\\\\"\"", STR("\a\b\f\n\r\t\v\\\""));
    check_value("\"\\101\\377\\x41\\xfe\"", STR("A\377A\xfe"));
    check_value("\"\\000x\"", ((struct str){"\0x", 2}));
    check_value("\"\\u00e9\\u20ac\\U0001F600\"", STR("é€😀"));
}

static void check_rune(uint32_t rune, const char *want)
{
    struct buf out;
    buf_init(&out, MEM_QUERY);
    rune_quote(rune, &out);
    CHECK_STR(str_from_bytes(buf_bytes(&out)), want);
    buf_release(&out);
}

static void test_rune_quote(void **state)
{
    (void)state;
    check_rune('x', "'x'");
    check_rune('\'', "'\\''");
    check_rune('"', "'\"'");
    check_rune('\\', "'\\\\'");
    check_rune(0, "'\\x00'");
    check_rune('\n', "'\\n'");
    check_rune(0x7f, "'\\x7f'");
    check_rune(0xe9, "'é'");
    check_rune(0xa0, "'\\u00a0'");
    check_rune(RUNE_END, "'\xef\xbf\xbd'");
}

static void test_rune_next(void **state)
{
    (void)state;
    static const struct {
        struct str s;
        unsigned len;
        uint32_t rune;
    } CASES[] = {
        {STR(""), 0, RUNE_END},
        {STR("a"), 1, 'a'},
        {STR("é"), 2, 0xe9},
        {STR("€"), 3, 0x20ac},
        {STR("😀"), 4, 0x1f600},
        {STR("\xef\xbf\xbd"), 3, RUNE_BAD},
        {STR("\x80"), 1, RUNE_BAD},
        {STR("\xc3"), 1, RUNE_BAD},
        {STR("\xc0\x80"), 1, RUNE_BAD},         /* overlong */
        {STR("\xe0\x80\x80"), 1, RUNE_BAD},     /* overlong */
        {STR("\xed\xa0\x80"), 1, RUNE_BAD},     /* a surrogate */
        {STR("\xf4\x90\x80\x80"), 1, RUNE_BAD}, /* past U+10FFFF */
        {STR("\xff"), 1, RUNE_BAD},
    };
    for (size_t i = 0; i < COUNT_OF(CASES); i++) {
        uint32_t rune;
        CHECK_U64(rune_next(CASES[i].s, 0, &rune), CASES[i].len);
        CHECK_U64(rune, CASES[i].rune);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_string_values),
        cmocka_unit_test(test_rune_quote),
        cmocka_unit_test(test_rune_next),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
