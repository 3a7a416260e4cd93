/* Every error text with its place, and what is accepted with its printed form: the first part of
 * both tables was compared with a running Prometheus 3.5.3, the rest is newer PromQL. */
#include "query/duration.h"
#include "query/function.h"
#include "query/parser.h"
#include "tests/quipu_test.h"

struct rejected {
    const char *query;
    const char *error; /* "line:column|text" */
};

/* clang-format off */
static const struct rejected REJECTED[] = {
    {"sum bar", "1:5|unexpected identifier \"bar\""},
    {"sum )", "1:6|unexpected right parenthesis ')'"},
    {"sum by", "1:7|unexpected end of input in grouping opts, expected \"(\""},
    {"(sum", "1:5|unclosed left parenthesis"},
    {"sum ,", "1:5|unexpected \",\""},
    {"sum [", "1:6|unexpected end of input in duration expression"},
    {"sum \"a\"", "1:5|unexpected string \"\\\"a\\\"\""},
    {"sum 3", "1:5|unexpected number \"3\""},
    {"sum sum", "1:5|unexpected <aggr:sum>"},
    {"sum by foo", "1:8|unexpected identifier \"foo\" in grouping opts, expected \"(\""},
    {"sum foo by", "1:5|unexpected identifier \"foo\""},
    {"sum(foo bar)", "1:9|unexpected identifier \"bar\" in aggregation"},
    {"sum(foo, )", "1:8|trailing commas not allowed in function call args"},
    {"sum()", "1:1|no arguments for aggregate expression provided"},
    {"topk(foo)", "1:1|wrong number of arguments for aggregate expression provided, expected 2, got 1"},
    {"sum(a,b)", "1:1|wrong number of arguments for aggregate expression provided, expected 1, got 2"},
    {"sum(a,$)", "1:7|unexpected character: '$'"},
    {"foo(a,$)", "1:7|unexpected character: '$'"},
    {"foo(a,,b)", "1:6|trailing commas not allowed in function call args"},
    {"abs(a,,b)", "1:6|trailing commas not allowed in function call args"},
    {"abs(a", "1:6|unclosed left parenthesis"},
    {"abs(a b)", "1:7|unexpected identifier \"b\""},
    {"foo start", "1:5|unexpected \"start\""},
    {"foo inf", "1:5|unexpected number \"inf\""},
    {"foo @", "1:6|unexpected end of input in @, expected timestamp"},
    {"foo @ @", "1:7|unexpected <op:@> in @, expected timestamp"},
    {"foo @ start", "1:12|unexpected end of input in @, expected timestamp"},
    {"foo @ start x", "1:13|unexpected identifier \"x\" in @, expected timestamp"},
    {"foo @ start(x)", "1:13|unexpected identifier \"x\" in @, expected timestamp"},
    {"foo @ -x", "1:8|unexpected identifier \"x\" in @, expected timestamp"},
    {"@", "1:1|unexpected <op:@>"},
    {"foo \"abcdefghijkl\"", "1:5|unexpected string \"\\\"abcdefghi\"..."},
    {"foo 'é€abcdefghijkl'", "1:5|unexpected string \"'é€abcdefg\"..."},
    {"foo 12345678901", "1:5|unexpected number \"1234567890\"..."},
    {"foo abcdefghijklmno", "1:5|unexpected identifier \"abcdefghijklmno\""},
    {"foo a:b", "1:5|unexpected metric identifier \"a:b\""},
    {"foo 30m", "1:5|unexpected duration \"30m\""},
    {"on", "1:1|unexpected <on>"},
    {"a + on", "1:7|unexpected end of input in grouping opts, expected \"(\""},
    {"a + on (", "1:9|unclosed left parenthesis"},
    {"a + on (x) group_left )", "1:24|unexpected right parenthesis ')'"},
    {"a + on (x y)", "1:11|unexpected identifier \"y\" in grouping opts, expected \",\" or \")\""},
    {"a + on (x,,y)", "1:11|unexpected \",\" in grouping opts, expected label"},
    {"a + on (,)", "1:9|unexpected \",\" in grouping opts, expected label"},
    {"a + on (1)", "1:9|unexpected number \"1\" in grouping opts, expected label"},
    {"a + on (\"\")", "1:9|invalid label name for grouping: \"\""},
    {"a + on (\"\\xff\")", "1:9|invalid label name for grouping: \"\\xff\""},
    {"a + on (inf)", "1:9|unexpected number \"inf\" in grouping opts, expected label"},
    {"a + on (without)", "1:9|unexpected <without> in grouping opts, expected label"},
    {"a + on (a:b)", "1:13|unexpected end of input"},
    {"a + bool b", "1:3|bool modifier can only be used on comparison operators"},
    {"a == on(x) bool b", "1:12|unexpected <bool>"},
    {"a == group_left b", "1:6|unexpected <group_left>"},
    {"{a b}", "1:4|unexpected identifier \"b\" in label matching, expected label matching operator"},
    {"{a=b}", "1:4|unexpected identifier \"b\" in label matching, expected string"},
    {"{\"foo\" bar}", "1:8|unexpected identifier \"bar\" in label matching, expected \",\" or \"}\""},
    {"{\"foo\" = bar}", "1:10|unexpected identifier \"bar\" in label matching, expected string"},
    {"{,}", "1:2|unexpected \",\" in label matching, expected identifier or \"}\""},
    {"{a=\"b\",,}", "1:8|unexpected \",\" in label matching, expected identifier or \"}\""},
    {"{a}", "1:3|unexpected \"}\" in label matching, expected label matching operator"},
    {"{a=\"b\" c=\"d\"}", "1:8|unexpected identifier \"c\" in label matching, expected \",\" or \"}\""},
    {"{}", "1:1|vector selector must contain at least one non-empty matcher"},
    {"foo offset", "1:11|unexpected end of input in offset, expected number, duration, step(), or range()"},
    {"foo offset x", "1:12|unexpected identifier \"x\" in offset, expected number, duration, step(), or range()"},
    {"foo offset (1m + x)", "1:18|unexpected identifier \"x\" in offset, expected number, duration, step(), or range()"},
    {"foo offset (1m 1m)", "1:16|unexpected duration \"1m\" in offset, expected number, duration, step(), or range()"},
    {"foo offset (1m", "1:15|unclosed left parenthesis"},
    {"foo[5m + ]", "1:10|unexpected \"]\" in subquery selector, expected number or duration"},
    {"foo[5m:5m+]", "1:11|unexpected \"]\" in subquery selector, expected number or duration or \"]\""},
    {"foo[5m 1m]", "1:8|unexpected duration \"1m\" in subquery or range, expected \":\" or \"]\""},
    {"foo[(5m 1m)]", "1:9|unexpected duration \"1m\" in subquery selector, expected number or duration"},
    {"foo[]", "1:5|unexpected \"]\" in subquery selector, expected number or duration"},
    {"foo[5m:x]", "1:8|unexpected character: 'x', expected ':'"},
    {"foo[5m:5m 3m]", "1:11|unexpected duration \"3m\" in subquery selector, expected \"]\""},
    {"foo[5m:5m:3m]", "1:10|unexpected colon ':'"},
    {"foo[:5m]", "1:6|unexpected colon before duration in duration expression"},
    {"foo[5m][:1m]", "1:10|unexpected colon before duration in duration expression"},
    {"foo[(]", "1:6|unexpected \"]\" in subquery selector, expected number or duration"},
    {"foo[5m", "1:7|unclosed left bracket"},
    {"foo[5m:", "1:8|unclosed left bracket"},
    {"foo[(5m", "1:8|unclosed left parenthesis"},
    {"foo[(5m]", "1:8|unexpected \"]\" in subquery selector, expected number or duration"},
    {"foo[5m)]", "1:8|unexpected right parenthesis ')'"},
    {"foo[5m $]", "1:8|unexpected character: '$'"},
    {"foo[0]", "1:5|duration must be greater than 0"},
    {"foo[0$]", "1:6|unexpected character: '$'"},
    {"foo[-5m]", "1:5|duration must be greater than 0"},
    {"foo[0.0005]", "1:5|duration must be greater than 0"},
    {"foo[5m:0.0005]", "1:8|duration must be greater than 0"},
    {"foo[1m/0]", "1:7|division by zero"},
    {"foo[1m%0]", "1:7|modulo by zero"},
    {"foo[[5m]]", "1:5|unexpected character in duration expression: '['"},
    {"foo[5m[", "1:7|unexpected left bracket '['"},
    {"foo[x]", "1:5|unexpected character in duration expression: 'x'"},
    {"foo[ # c", "1:6|unexpected character in duration expression: '#'"},
    {"foo[\"x\"]", "1:5|unexpected character in duration expression: '\"'"},
    {"foo[5m \"x\"]", "1:8|unexpected string \"\\\"x\\\"\" in subquery or range, expected \":\" or \"]\""},
    {"foo[5m,3]", "1:7|unexpected \",\" in subquery or range, expected \":\" or \"]\""},
    {"foo[,3]", "1:5|unexpected character in duration expression: ','"},
    {"foo]", "1:4|unexpected right bracket ']'"},
    {"foo)", "1:5|unexpected right parenthesis ')'"},
    {"foo!", "1:4|unexpected character after '!': '�'"},
    {"foo!bar", "1:4|unexpected character after '!': 'b'"},
    {"foo =~ \"a\"", "1:5|unexpected character after '=': '~'"},
    {"foo = bar", "1:5|unexpected \"=\""},
    {"{a!", "1:3|unexpected character after '!' inside braces: '�'"},
    {"{a!b}", "1:3|unexpected character after '!' inside braces: 'b'"},
    {"foo offset 5m offset 3m", "1:1|offset may not be set multiple times"},
    {"foo offset 5m[5m]", "1:14|no offset modifiers allowed before range"},
    {"foo @ 1 [5m]", "1:9|no @ modifiers allowed before range"},
    {"foo @ 1 @ 2", "1:1|@ <timestamp> may not be set multiple times"},
    {"foo @ start() @ end()", "1:1|@ <timestamp> may not be set multiple times"},
    {"foo @ 1 offset 5m @ 2", "1:1|@ <timestamp> may not be set multiple times"},
    {"(foo)[5m]", "1:6|ranges only allowed for vector selectors"},
    {"1[5m]", "1:2|ranges only allowed for vector selectors"},
    {"foo[5m][5m]", "1:8|ranges only allowed for vector selectors"},
    {"(foo) offset 5m", "1:1|offset modifier must be preceded by an instant vector selector or range vector selector or a subquery"},
    {"1 offset 5m", "1:1|offset modifier must be preceded by an instant vector selector or range vector selector or a subquery"},
    {"sum(foo) offset 5m", "1:1|offset modifier must be preceded by an instant vector selector or range vector selector or a subquery"},
    {"foo @ +Inf", "1:1|timestamp out of bounds for @ modifier: +Inf"},
    {"foo @ NaN", "1:1|timestamp out of bounds for @ modifier: NaN"},
    {"foo @ 1e300", "1:1|timestamp out of bounds for @ modifier: 1000000000000000052504760255204420248704468581108159154915854115511802457988908195786371375080447864043704443832883878176942523235360430575644792184786706982848387200926575803737830233794788090059368953234970799945081119038967640880074652742780142494579258788820056842838115669472196386865459400540160.000000"},
    {"foo @ 9223372036854775", "1:1|timestamp out of bounds for @ modifier: 9223372036854776.000000"},
    {"foo @ 9.3e15", "1:1|timestamp out of bounds for @ modifier: 9300000000000000.000000"},
    {"foo @ -9.3e15", "1:1|timestamp out of bounds for @ modifier: -9300000000000000.000000"},
    {"foo offset 1e10", "1:12|duration out of range"},
    {"foo offset 300y", "1:12|duration out of range"},
    {"foo[300y]", "1:5|duration out of range"},
    {"300y", "1:1|duration out of range"},
    {"1d1w", "1:1|not a valid duration string: \"1d1w\""},
    {"5M", "1:1|bad number or duration syntax: \"5\""},
    {"5x", "1:1|bad number or duration syntax: \"5\""},
    {"5mm", "1:1|bad number or duration syntax: \"5mm\""},
    {"1.5h", "1:1|unknown unit \".\" in duration \"1.5h\""},
    {"1e3s", "1:1|unknown unit \"e\" in duration \"1e3s\""},
    {"1__0", "1:1|bad number or duration syntax: \"1__\""},
    {"1_", "1:1|bad number or duration syntax: \"1_\""},
    {"1._1", "1:1|bad number or duration syntax: \"1._\""},
    {"1_e3", "1:1|bad number or duration syntax: \"1_e\""},
    {"1.5.2", "1:1|bad number or duration syntax: \"1.5.\""},
    {"1e", "1:1|bad number or duration syntax: \"1e\""},
    {"1e+", "1:1|bad number or duration syntax: \"1e+\""},
    {"0x", "1:1|error parsing number: strconv.ParseFloat: parsing \"0x\": invalid syntax"},
    {"0b11", "1:1|bad number or duration syntax: \"0\""},
    {"0o17", "1:1|bad number or duration syntax: \"0\""},
    {"0x1p4", "1:1|bad number or duration syntax: \"0x1\""},
    {"0xZ", "1:1|bad number or duration syntax: \"0x\""},
    {"0x1e", "1:1|bad number or duration syntax: \"0x1e\""},
    {"0xee", "1:1|bad number or duration syntax: \"0xee\""},
    {"1e999", "1:1|error parsing number: strconv.ParseFloat: parsing \"1e999\": value out of range"},
    {"0xFFFFFFFFFFFFFFFFFF", "1:1|error parsing number: strconv.ParseFloat: parsing \"0xFFFFFFFFFFFFFFFFFF\": invalid syntax"},
    {"\"a\\qb\"", "1:1|unknown escape sequence U+0071 'q'"},
    {"\"a\\", "1:1|escape sequence not terminated"},
    {"\"a\\xg\"", "1:1|illegal character U+0067 'g' in escape sequence"},
    {"\"\\ud800\"", "1:1|escape sequence is an invalid Unicode code point"},
    {"\"\\400\"", "1:1|escape sequence is an invalid Unicode code point"},
    {"\"\\U00110000\"", "1:1|escape sequence is an invalid Unicode code point"},
    {"\"a", "1:1|unterminated quoted string"},
    {"`a", "1:1|unterminated raw string"},
    {"'\\\"'", "1:1|unknown escape sequence U+0022 '\"'"},
    {"\"\\'\"", "1:1|unknown escape sequence U+0027 '''"},
    {"foo{a=\"b\",b=~\"(\",c=\"d\"}", "1:11|error parsing regexp: missing closing ): `(`"},
    {"foo{a=~\"a**\"}", "1:5|error parsing regexp: invalid nested repetition operator: `**`"},
    {"foo{a=~\"[z-a]\"}", "1:5|error parsing regexp: invalid character class range: `z-a`"},
    {"foo{a=~\"[a\"}", "1:5|error parsing regexp: missing closing ]: `[a`"},
    {"foo{a=~\"a)\"}", "1:5|error parsing regexp: unexpected ): `a)`"},
    {"foo{a=~\"*\"}", "1:5|error parsing regexp: missing argument to repetition operator: `*`"},
    {"foo{a=~\"a{1001}\"}", "1:5|error parsing regexp: invalid repeat count: `{1001}`"},
    {"foo{a=~\"\\\\q\"}", "1:5|error parsing regexp: invalid escape sequence: `\\q`"},
    {"foo{a=~\"\\\\\"}", "1:5|error parsing regexp: trailing backslash at end of expression: ``"},
    {"foo{a=~\"(?z)a\"}", "1:5|error parsing regexp: invalid or unsupported Perl syntax: `(?z`"},
    {"foo{a=~\"(?P<n\"}", "1:5|error parsing regexp: invalid named capture: `(?P<n`"},
    {"foo{a=~\"\\\\pX\"}", "1:5|error parsing regexp: invalid character class range: `\\pX`"},
    {"foo{a=~\"[[:foo:]]\"}", "1:5|error parsing regexp: invalid character class range: `[:foo:]`"},
    {"foo{a=~\"(a\"}", "1:5|error parsing regexp: missing closing ): `(a`"},
    {"foo{a=~\"b(a))\"}", "1:5|error parsing regexp: unexpected ): `b(a))`"},
    {"foo{a=~\"\\\\8\"}", "1:5|error parsing regexp: invalid escape sequence: `\\8`"},
    {"foo{a=~\"(?=a)\"}", "1:5|error parsing regexp: invalid or unsupported Perl syntax: `(?=`"},
    {"foo{a=~\"a{2,1}\"}", "1:5|error parsing regexp: invalid repeat count: `{2,1}`"},
    {"foo{a=~\"a{1000}{1000}\"}", "1:5|error parsing regexp: invalid nested repetition operator: `{1000}{1000}`"},
    {"foo{a=~\"\\\\C\"}", "1:5|error parsing regexp: invalid escape sequence: `\\C`"},
    {"foo{a=~\"(?P<>a)\"}", "1:5|error parsing regexp: invalid named capture: `(?P<>`"},
    {"foo{a=~\"[]a\"}", "1:5|error parsing regexp: missing closing ]: `[]a`"},
    {"foo{a=~\"[a\\\\\"}", "1:5|error parsing regexp: trailing backslash at end of expression: ``"},
    {"foo{a=~\"++\"}", "1:5|error parsing regexp: missing argument to repetition operator: `+`"},
    {"foo{a=~\"|*\"}", "1:5|error parsing regexp: missing argument to repetition operator: `*`"},
    {"foo{a=~\"a|*b\"}", "1:5|error parsing regexp: missing argument to repetition operator: `*`"},
    {"foo{a=~\"(*)\"}", "1:5|error parsing regexp: missing argument to repetition operator: `*`"},
    {"foo{a=~\"x*+\"}", "1:5|error parsing regexp: invalid nested repetition operator: `*+`"},
    {"foo{a=~\"x{1}{2}\"}", "1:5|error parsing regexp: invalid nested repetition operator: `{1}{2}`"},
    {"foo{a=~\"x{1}*\"}", "1:5|error parsing regexp: invalid nested repetition operator: `{1}*`"},
    {"foo{a=~\"x??*\"}", "1:5|error parsing regexp: invalid nested repetition operator: `??*`"},
    {"foo{a=~\"[a-\\\\d]\"}", "1:5|error parsing regexp: invalid escape sequence: `\\d`"},
    {"foo{a=~\"(?i\"}", "1:5|error parsing regexp: invalid or unsupported Perl syntax: `(?i`"},
    {"foo{a=~\"(?\"}", "1:5|error parsing regexp: invalid or unsupported Perl syntax: `(?`"},
    {"foo{a=~\"(?i-)\"}", "1:5|error parsing regexp: invalid or unsupported Perl syntax: `(?i-)`"},
    {"foo{a=~\"(?i)(?s\"}", "1:5|error parsing regexp: invalid or unsupported Perl syntax: `(?s`"},
    {"foo{a=~\"\\\\p{Greek\"}", "1:5|error parsing regexp: invalid character class range: `\\p{Greek`"},
    {"foo{a=~\"\\\\x{110000}\"}", "1:5|error parsing regexp: invalid escape sequence: `\\x{110000`"},
    {"foo{a=~\"\\\\xz\"}", "1:5|error parsing regexp: invalid escape sequence: `\\xz`"},
    {"foo{a=~\"[\\\\xz]\"}", "1:5|error parsing regexp: invalid escape sequence: `\\xz]`"},
    {"foo{\"bar\"}", "1:1|metric name must not be set twice: \"foo\" or \"bar\""},
    {"foo{__name__=\"bar\"}", "1:1|metric name must not be set twice: \"foo\" or \"bar\""},
    {"foo{b=\"1\",a!=\"2\",__name__!=\"x\"}", "1:1|metric name must not be set twice: \"foo\" or \"x\""},
    {"{a!=\"x\"}", "1:1|vector selector must contain at least one non-empty matcher"},
    {"{a=~\".*\"}", "1:1|vector selector must contain at least one non-empty matcher"},
    {"{__name__=\"\"}", "1:1|vector selector must contain at least one non-empty matcher"},
    {"{1a=\"b\"}", "1:2|unexpected character inside braces: '1'"},
    {"{a:b=\"c\"}", "1:3|unexpected character inside braces: ':'"},
    {"é", "1:1|unexpected character: 'é'"},
    {"$", "1:1|unexpected character: '$'"},
    {"}", "1:1|unexpected character: '}'"},
    {"foo;bar", "1:4|unexpected character: ';'"},
    {"rate(foo)", "1:6|expected type range vector in call to function \"rate\", got instant vector"},
    {"rate(foo[5m],1)", "1:1|expected 1 argument(s) in call to \"rate\", got 2"},
    {"rate()", "1:1|expected 1 argument(s) in call to \"rate\", got 0"},
    {"round()", "1:1|expected at least 1 argument(s) in call to \"round\", got 0"},
    {"round(a,1,2)", "1:1|expected at most 2 argument(s) in call to \"round\", got 3"},
    {"label_join(a,\"b\")", "1:1|expected at least 3 argument(s) in call to \"label_join\", got 2"},
    {"sort_by_label()", "1:1|expected at least 1 argument(s) in call to \"sort_by_label\", got 0"},
    {"1 == 2", "1:3|comparisons between scalars must use BOOL modifier"},
    {"a + \"x\"", "1:5|binary expression must contain only scalar and instant vector types"},
    {"\"x\" + a", "1:1|binary expression must contain only scalar and instant vector types"},
    {"foo[5m] + 1", "1:1|binary expression must contain only scalar and instant vector types"},
    {"a == on(x) group_left(x) b", "1:3|label \"x\" must not occur in ON and GROUP clause at once"},
    {"a + on (x) 1", "1:1|vector matching only allowed between instant vectors"},
    {"a and on(x) group_left b", "1:1|no grouping allowed for \"and\" operation"},
    {"a and 1", "1:1|set operator \"and\" not allowed in binary scalar expression"},
    {"1 and a", "1:1|set operator \"and\" not allowed in binary scalar expression"},
    {"1 or 1", "1:1|set operator \"or\" not allowed in binary scalar expression"},
    {"-\"a\"", "1:1|unary expression only allowed on expressions of type scalar or instant vector, got \"string\""},
    {"-foo[5m]", "1:1|unary expression only allowed on expressions of type scalar or instant vector, got \"range vector\""},
    {"1[5m:]", "1:1|subquery is only allowed on instant vector, got scalar instead"},
    {"foo[5m][5m:]", "1:1|subquery is only allowed on instant vector, got matrix instead"},
    {"\"a\"[5m:]", "1:1|subquery is only allowed on instant vector, got string instead"},
    {"info(a,b)", "1:8|expected label selectors only, got vector selector instead"},
    {"info(a, 1)", "1:9|expected type instant vector in call to function \"info\", got scalar"},
    {"info(a, (b))", "1:9|expected label selectors only, got vector selector instead"},
    {"topk(\"a\",b)", "1:6|expected type scalar in aggregation parameter, got string"},
    {"count_values(1,a)", "1:14|expected type string in aggregation parameter, got scalar"},
    {"quantile(a,b)", "1:10|expected type scalar in aggregation parameter, got instant vector"},
    {"sum(foo[5m])", "1:5|expected type instant vector in aggregation expression, got range vector"},
    {"sum(\"x\")", "1:5|expected type instant vector in aggregation expression, got string"},
    {"sum(1)", "1:5|expected type instant vector in aggregation expression, got scalar"},
    {"foo(", "1:5|unclosed left parenthesis"},
    {"sum(a) by (x) by (y)", "1:15|unexpected <by>"},
    {"sum by (x) (a) by (y)", "1:16|unexpected <by>"},
    {"sum by(x) by(y) (a)", "1:11|unexpected <by> in aggregation"},
    {"bool", "1:1|unexpected <bool>"},
    {"nan{a=\"b\"}", "1:4|unexpected \"{\""},
    {"end(1)", "1:1|expected 0 argument(s) in call to \"end\", got 1"},
    {"# comment only", "1:1|no expression found in input"},
    {"   ", "1:1|no expression found in input"},
    {"foo offset max_of(1, 2", "1:23|unclosed left parenthesis"},
    {"foo offset max_of(1 2)", "1:21|unexpected number \"2\" in offset, expected number, duration, step(), or range()"},
    {"foo offset max_of 1", "1:19|unexpected number \"1\" in offset, expected number, duration, step(), or range()"},
    {"foo offset step", "1:16|unexpected end of input in offset, expected number, duration, step(), or range()"},
    {"foo[step]", "1:9|unexpected \"]\" in subquery selector, expected number or duration"},
    {"foo[step(1)]", "1:10|unexpected number \"1\" in subquery selector, expected number or duration"},
    {"foo[min_of(1m)]", "1:14|unexpected \")\" in subquery selector, expected number or duration"},
    {"foo[5m anchored]", "1:8|unexpected character: 'a', expected ':'"},
    {"foo[5m] anchored smoothed", "1:1|anchored and smoothed modifiers cannot be used together"},
    {"foo[5m] smoothed anchored", "1:1|anchored and smoothed modifiers cannot be used together"},
    {"foo[5m:] anchored", "1:1|anchored modifier is not supported for subqueries"},
    {"sum(foo) anchored", "1:1|anchored modifier must be preceded by an instant vector selector or range vector selector"},
    {"foo + fill_left(2) fill_left(1) bar", "1:20|unexpected <fill_left>"},
    {"foo + fill(2) fill_left(1) bar", "1:15|unexpected <fill_left>"},
    {"foo and fill(1) bar", "1:1|filling in missing series not allowed for set operators"},
    {"foo + fill(1) 2", "1:1|filling in missing series only allowed between instant vectors"},
    {"foo + fill(x) bar", "1:12|unexpected identifier \"x\""},
    {"foo + fill() bar", "1:12|unexpected \")\""},
    {"foo + fill(1", "1:13|unclosed left parenthesis"},
    {"foo </ bool 5", "1:5|bool modifier can only be used on comparison operators"},
    {"max_of(1)", "1:1|expected 2 argument(s) in call to \"max_of\", got 1"},
    {"START()", "1:1|unknown function with name \"START\""},
    {"histogram_quantiles(foo, \"q\")", "1:1|expected at least 3 argument(s) in call to \"histogram_quantiles\", got 2"},
    {"histogram_quantiles(foo, \"q\", 1,2,3,4,5,6,7,8,9,10,11)", "1:1|expected at most 12 argument(s) in call to \"histogram_quantiles\", got 13"},
    {"holt_winters(foo[5m], 0.1, 0.1)", "1:1|unknown function with name \"holt_winters\""},
    {"RATE(foo[5m])", "1:1|unknown function with name \"RATE\""},
    {"", "unknown position|no expression found in input"},
    {"\n\nfoo\n  bar", "4:3|unexpected identifier \"bar\""},
    {"\"é\" + é", "1:8|unexpected character: 'é'"},
    {"\r\rfoo\r bar", "1:8|unexpected identifier \"bar\""},
    {"foo # comment\n# another\n bar", "3:2|unexpected identifier \"bar\""},
    {"foo + \"a\xff\"", "1:7|invalid UTF-8 rune"},
    {"\"a\\", "1:1|escape sequence not terminated"},
    {"\"a\n\"", "1:1|unterminated quoted string"},
    {"foo \v bar", "1:5|unexpected character: '\\v'"},
    {"foo \xc2\xa0 bar", "1:5|unexpected character: '\\u00a0'"},
};

struct accepted {
    const char *query, *printed;
};
static const struct accepted ACCEPTED[] = {
    {"sum by (\"a.b\", c) (x)", "sum by (\"a.b\", c) (x)"},
    {"sum by (a,) (x)", "sum by (a) (x)"},
    {"sum without () (x)", "sum without () (x)"},
    {"{a=\"b\",}", "{a=\"b\"}"},
    {"foo[1m-2m]", "foo[1m - 2m]"},
    {"foo[1m^0]", "foo[1m ^ 0]"},
    {"foo[ 5m]", "foo[5m]"},
    {"foo offset 0s offset 3m", "foo offset 3m"},
    {"foo[5m] @ 1 offset 3m", "foo[5m] @ 1.000 offset 3m"},
    {"foo[5m:] @ 1 offset 3m", "foo[5m:] @ 1.000 offset 3m"},
    {"foo[5m:1m] offset -3m", "foo[5m:1m] offset -3m"},
    {"foo @ 5m", "foo @ 300.000"},
    {"foo @ -5m", "foo @ -300.000"},
    {"foo @ 9.2e15", "foo @ 9200000000000000.000"},
    {"foo @ 0x10", "foo @ 16.000"},
    {"foo @ 1.5", "foo @ 1.500"},
    {"foo @ 1.0005", "foo @ 1.001"},
    {"foo @ -0", "foo @ 0.000"},
    {"0x1e2e", "7726"},
    {"0x_1f", "31"},
    {"017", "15"},
    {"08", "8"},
    {".5", "0.5"},
    {"5.", "5"},
    {"5.e1", "50"},
    {"1e1_0", "10000000000"},
    {"9223372036854775808", "9223372036854776000"},
    {"1e21", "1000000000000000000000"},
    {"1e-7", "0.0000001"},
    {"Inf", "+Inf"},
    {"-NaN", "NaN"},
    {"NaN", "NaN"},
    {"\"\\xff\"", "\"\\xff\""},
    {"\"é\\u00e9\\t\\x00\"", "\"éé\\t\\x00\""},
    {"foo{a=~\"(?i)a\"}", "foo{a=~\"(?i)a\"}"},
    {"foo{a=~\"(?P<n>a)(?P<n>b)\"}", "foo{a=~\"(?P<n>a)(?P<n>b)\"}"},
    {"foo{a=~\"(?<n>a)\"}", "foo{a=~\"(?<n>a)\"}"},
    {"foo{a=~\"\\\\Qa*b\"}", "foo{a=~\"\\\\Qa*b\"}"},
    {"{\"foo\",\"bar\"}", "{__name__=\"bar\",__name__=\"foo\"}"},
    {"{__name__=\"a\",__name__=\"b\"}", "{__name__=\"a\",__name__=\"b\"}"},
    {"{\"foo\"}", "{__name__=\"foo\"}"},
    {"{\"foo\",a=\"b\"}", "{__name__=\"foo\",a=\"b\"}"},
    {"{a=\"b\",\"foo\"}", "{__name__=\"foo\",a=\"b\"}"},
    {"foo{}", "foo"},
    {"{\"a.b\"=\"c\"}", "{\"a.b\"=\"c\"}"},
    {"{\"a.b\"=\"c\",\"d\"}", "{\"a.b\"=\"c\",__name__=\"d\"}"},
    {"label_replace(a,\"b\",\"c\",\"d\",\"(\")", "label_replace(a, \"b\", \"c\", \"d\", \"(\")"},
    {"a + on () 1", "a + 1"},
    {"info(a,{b=\"c\"})", "info(a, {b=\"c\"})"},
    {"info(a, {})", "info(a, {})"},
    {"1 > bool 2 == bool 0", "1 > bool 2 == bool 0"},
    {"foo", "foo"},
    {"a + ignoring() group_left(x) b", "a + ignoring () group_left (x) b"},
    {"a + ignoring() b", "a + b"},
    {"a + on() b", "a + on () b"},
    {"a + on(x) group_left b", "a + on (x) group_left () b"},
    {"a + on(x) group_left () b", "a + on (x) group_left () b"},
    {"a + on(x) group_left (c) b", "a + on (x) group_left (c) b"},
    {"a + on(x) group_right (c) b", "a + on (x) group_right (c) b"},
    {"a + b * c ^ d % e atan2 f", "a + b * c ^ d % e atan2 f"},
    {"a == bool on (x) group_left (y) b", "a == bool on (x) group_left (y) b"},
    {"2^-1*3", "2 ^ -1 * 3"},
    {"-2^2", "-2 ^ 2"},
    {"-1", "-1"},
    {"- 1", "-1"},
    {"-(1)", "-(1)"},
    {"+foo", "+foo"},
    {"-foo", "-foo"},
    {"--1", "1"},
    {"- -foo", "--foo"},
    {"+1", "1"},
    {"1--1", "1 - -1"},
    {"a or b and c unless d", "a or b and c unless d"},
    {"SUM(a)", "sum(a)"},
    {"Sum By (x) (a)", "sum by (x) (a)"},
    {"avg without(a)(b)", "avg without (a) (b)"},
    {"foo OFFSET 5m", "foo offset 5m"},
    {"foo @ START()", "foo @ start()"},
    {"a AND b", "a and b"},
    {"foo{a='b\\'c'}", "foo{a=\"b'c\"}"},
    {"\"a'b\\\"c\"", "\"a'b\\\"c\""},
    {"foo @ -1.5 offset -5m", "foo @ -1.500 offset -5m"},
    {"foo[90m:1001ms]", "foo[1h30m:1s1ms]"},
    {"foo[14d:372d]", "foo[2w:372d]"},
    {"foo[1y]", "foo[1y]"},
    {"foo offset 300", "foo offset 5m"},
    {"foo offset 0.5", "foo offset 500ms"},
    {"foo offset -0.0001", "foo"},
    {"foo offset 1m+1m", "foo offset 1m + 1m"},
    {"foo offset (1m+1m)", "foo offset (1m + 1m)"},
    {"foo offset -(1m+1m)", "foo offset -(1m + 1m)"},
    {"foo offset +5m", "foo offset 5m"},
    {"foo offset -(5m)", "foo offset -5m"},
    {"foo offset (-5m)", "foo offset -5m"},
    {"foo offset ((5m))", "foo offset 5m"},
    {"foo offset -((5m))", "foo offset -5m"},
    {"foo[(5m)]", "foo[5m]"},
    {"foo[-(-5m)]", "foo[5m]"},
    {"foo[--5m]", "foo[5m]"},
    {"foo[- -5m]", "foo[5m]"},
    {"foo[(1+2)*3m^2]", "foo[(1 + 2) * 3m ^ 2]"},
    {"foo[5m+1:1m-1]", "foo[5m + 1:1m - 1]"},
    {"foo[step()]", "foo[step()]"},
    {"foo[5m*2:]", "foo[5m * 2:]"},
    {"foo[+5m]", "foo[5m]"},
    {"foo[2^3^2]", "foo[2 ^ 3 ^ 2]"},
    {"foo[-2^2]", "foo[-2 ^ 2]"},
    {"foo[1-2-3]", "foo[1 - 2 - 3]"},
    {"foo[1-(2-3)]", "foo[1 - (2 - 3)]"},
    {"5m", "5m"},
    {"1h30m", "1h30m"},
    {"-5m", "-5m"},
    {"5m + 3", "5m + 3"},
    {"foo * 5m", "foo * 5m"},
    {"offset", "offset"},
    {"by", "by"},
    {"start", "start"},
    {"end", "end"},
    {"sum + sum", "sum + sum"},
    {"by{a=\"b\"}", "by{a=\"b\"}"},
    {"inf", "+Inf"},
    {"start()", "start()"},
    {"foo @ 1 + 2", "foo @ 1.000 + 2"},
    {"(a)", "(a)"},
    {"((a))", "((a))"},
    {"foo # comment", "foo"},
    {"time()", "time()"},
    {"vector(1)", "vector(1)"},
    {"a == 1", "a == 1"},
    {"1e3", "1000"},
    {"-1e-9", "-0.000000001"},
    {"123456789012345678901234567890", "123456789012345680000000000000"},
    {"foo{\"a b\"=\"c\"}", "foo{\"a b\"=\"c\"}"},
    {"{\"foo bar\"}", "{__name__=\"foo bar\"}"},
    {"{\"foo bar\",x=\"y\"}", "{__name__=\"foo bar\",x=\"y\"}"},
    {"{__name__=\"foo\",x=\"y\"}", "{__name__=\"foo\",x=\"y\"}"},
    {"{__name__=~\"foo\"}", "{__name__=~\"foo\"}"},
    {"{x=\"y\",__name__=\"foo\"}", "{__name__=\"foo\",x=\"y\"}"},
    {"a:b", "a:b"},
    {":a", ":a"},
    {"a{x=\"\\xff\"}", "a{x=\"\\xff\"}"},
    {"foo[STEP():range()]", "foo[step():range()]"},
    {"foo[step() + 1ms]", "foo[step() + 1ms]"},
    {"foo[(step())+1]", "foo[(step()) + 1]"},
    {"foo[max_of(min_of(step()+1,1h),1ms)]", "foo[max_of(min_of(step() + 1, 1h), 1ms)]"},
    {"foo[((max_of(min_of((step()+1),((1h))),1ms)))]", "foo[(max_of(min_of((step() + 1), 1h), 1ms))]"},
    {"foo offset step()", "foo offset step()"},
    {"foo offset STEP()", "foo offset step()"},
    {"foo offset (step())", "foo offset (step())"},
    {"foo offset step() * 0", "foo offset step() * 0"},
    {"foo offset min_of(step(), 1s)", "foo offset min_of(step(), 1s)"},
    {"foo offset min_of(step(), 1s)+8000", "foo offset min_of(step(), 1s) + 8000"},
    {"foo offset -(min_of(step(), 2s)-5)+8000", "foo offset -(min_of(step(), 2s) - 5) + 8000"},
    {"foo offset -step()", "foo offset -step()"},
    {"foo[5m:step()]", "foo[5m:step()]"},
    {"foo[(-2)^2]", "foo[(-2) ^ 2]"},
    {"foo[5m] anchored", "foo[5m] anchored"},
    {"foo[5m] smoothed", "foo[5m] smoothed"},
    {"foo smoothed", "foo smoothed"},
    {"foo anchored", "foo anchored"},
    {"rate(foo{a=\"b\"}[5m] anchored offset 1m @ 3)", "rate(foo{a=\"b\"}[5m] anchored @ 3.000 offset 1m)"},
    {"rate(foo[5m] offset 1m anchored)", "rate(foo[5m] anchored offset 1m)"},
    {"foo[5m] anchored anchored", "foo[5m] anchored"},
    {"anchored", "anchored"},
    {"smoothed + anchored", "smoothed + anchored"},
    {"foo + fill(0) bar", "foo + fill (0) bar"},
    {"foo + fill(NaN) bar", "foo + fill (NaN) bar"},
    {"foo + fill(-Inf) bar", "foo + fill (-Inf) bar"},
    {"foo + on(a) fill_left(1) bar", "foo + on (a) fill_left (1) bar"},
    {"foo + on(a) group_left fill_right(5m) bar", "foo + on (a) group_left () fill_right (300) bar"},
    {"foo + on(a) group_left(b) fill_left(1) fill_right(2) bar", "foo + on (a) group_left (b) fill_left (1) fill_right (2) bar"},
    {"foo + fill_right(2) fill_left(1) bar", "foo + fill_left (1) fill_right (2) bar"},
    {"foo == bool ignoring(x) fill(1) bar", "foo == bool ignoring (x) fill (1) bar"},
    {"fill + fill(0) other", "fill + fill (0) other"},
    {"other + fill(0) fill", "other + fill (0) fill"},
    {"other + fill_left(0) fill_left", "other + fill_left (0) fill_left"},
    {"foo </ 5", "foo </ 5"},
    {"foo >/ bar", "foo >/ bar"},
    {"1 </ 2", "1 </ 2"},
    {"end()", "end()"},
    {"step() + range()", "step() + range()"},
    {"max_of(1, 2) - min_of(3, scalar(a))", "max_of(1, 2) - min_of(3, scalar(a))"},
    {"first_over_time(foo[5m])", "first_over_time(foo[5m])"},
    {"ts_of_last_over_time(foo[5m])", "ts_of_last_over_time(foo[5m])"},
    {"histogram_quantiles(foo, \"q\", 0.5)", "histogram_quantiles(foo, \"q\", 0.5)"},
    {"histogram_quantiles(foo, \"q\", 0.5, 0.9, 0.99)", "histogram_quantiles(foo, \"q\", 0.5, 0.9, 0.99)"},
    {"histogram_quantiles(foo, \"q\", 1,2,3,4,5,6,7,8,9,10)", "histogram_quantiles(foo, \"q\", 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)"},
    {"start_timestamp(foo)", "start_timestamp(foo)"},
    {"sum by (\"without\") (x)", "sum by (\"without\") (x)"},
    {"sum by (\"Inf\", \"a:b\", \"é\") (x)", "sum by (\"Inf\", a:b, \"é\") (x)"},
    {"foo{a=\"\\ufffd\"}", "foo{a=\"\\ufffd\"}"},
    {"max by (bool, offset, by, on, atan2) (x)", "max by (bool, offset, by, on, atan2) (x)"},
    {"limitk(2, foo) + limit_ratio(-0.5, foo)", "limitk(2, foo) + limit_ratio(-0.5, foo)"},
    {"topk by (a) (3, foo)", "topk by (a) (3, foo)"},
    {"count_values without (a) (\"v\", foo)", "count_values without (a) (\"v\", foo)"},
    {"sum", "sum"},
    {"foo[5m]@1", "foo[5m] @ 1.000"},
    {"foo + # all of it\n\tbar\r\n", "foo + bar"},
    {"`raw\n\"string\\`", "\"raw\\n\\\"string\\\\\""},
    {"{ # comment\n a = \"b\" , }", "{a=\"b\"}"},
    {"foo[5m # comment\n : 1m]", "foo[5m:1m]"},
};

/* Accepted as a selector (match[]), with its printed form; else the error. */
static const struct accepted SELECTORS[] = {
    {"up", "up"},
    {"up{a=\"b\"}", "up{a=\"b\"}"},
    {"sum", "sum"},
    {"a:b", "a:b"},
    {"{}", "{}"},
    {"{a=~\".*\"}", "{a=~\".*\"}"},
    {"up{__name__=\"x\"}", "up{__name__=\"x\"}"},
    {"", "unknown position: parse error: unexpected end of input"},
    {"{", "1:2: parse error: unexpected end of input inside braces"},
    {"rate(up[1m])", "1:5: parse error: unexpected \"(\""},
    {"up offset 5m", "1:4: parse error: unexpected <offset>"},
    {"up[5m]", "1:3: parse error: unexpected \"[\""},
    {"1", "1:1: parse error: unexpected number \"1\""},
    {"up up", "1:4: parse error: unexpected identifier \"up\""},
    {"{a=~\"(\"}", "1:2: parse error: error parsing regexp: missing closing ): `(`"},
};
/* clang-format on */

struct parsed {
    struct arena arena;
    struct parse_result result;
    struct err err;
    enum err_code rc;
};

static void parse(struct parsed *p, struct str query)
{
    arena_init(&p->arena, MEM_QUERY, 0);
    p->result = (struct parse_result){0};
    p->rc = parse_expr(query, &p->arena, &p->result, &p->err);
}

static void parsed_release(struct parsed *p)
{
    parse_release(&p->result);
    arena_release(&p->arena);
}

static void test_rejected(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(REJECTED); i++) {
        struct parsed p;
        char want[ERR_TEXT_BYTES];
        const char *bar = strchr(REJECTED[i].error, '|');
        CHECK(bar != NULL);
        snprintf(want, sizeof want, "%.*s: parse error: %s", (int)(bar - REJECTED[i].error),
                 REJECTED[i].error, bar + 1);
        parse(&p, str_of(REJECTED[i].query));
        if (p.rc != ERR_INVALID || strcmp(p.err.text, want) != 0)
            test_fail(__FILE__, __LINE__, "%s\n  gives %s\n  not   %s", REJECTED[i].query,
                      p.rc ? p.err.text : "a tree", want);
        CHECK(p.result.root == NULL);
        parsed_release(&p);
    }
}

static void check_printed(const struct accepted *want, const struct parsed *p, int line)
{
    struct buf out;
    buf_init(&out, MEM_QUERY);
    if (p->rc) test_fail(__FILE__, line, "%s\n  gives %s", want->query, p->err.text);
    ast_print(p->result.root, &out);
    struct str got = str_from_bytes(buf_bytes(&out));
    if (!str_eq(got, str_of(want->printed)))
        test_fail(__FILE__, line, "%s\n  prints %.*s\n  not    %s", want->query, STR_ARG(got),
                  want->printed);
    buf_release(&out);
}

static void test_accepted(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(ACCEPTED); i++) {
        struct parsed p, again;
        parse(&p, str_of(ACCEPTED[i].query));
        check_printed(&ACCEPTED[i], &p, __LINE__);
        /* What is printed is read back as the same. */
        parse(&again, str_of(ACCEPTED[i].printed));
        check_printed(&ACCEPTED[i], &again, __LINE__);
        parsed_release(&again);
        parsed_release(&p);
    }
}

static void test_selectors(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(SELECTORS); i++) {
        struct parsed p;
        struct buf out;
        arena_init(&p.arena, MEM_QUERY, 0);
        buf_init(&out, MEM_QUERY);
        p.rc = parse_selector(str_of(SELECTORS[i].query), &p.arena, &p.result, &p.err);
        if (p.rc)
            buf_text(&out, str_of(p.err.text));
        else
            ast_print(p.result.root, &out);
        CHECK_STR(str_from_bytes(buf_bytes(&out)), SELECTORS[i].printed);
        buf_release(&out);
        parsed_release(&p);
    }
}

/* --- limits ---------------------------------------------------------------------------------------- */

/* `head` n times, `middle`, `tail` n times */
static struct str nested(struct arena *arena, const char *head, const char *middle,
                         const char *tail, size_t n)
{
    struct buf text;
    buf_init(&text, MEM_QUERY);
    for (size_t i = 0; i < n; i++) buf_text(&text, str_of(head));
    buf_text(&text, str_of(middle));
    for (size_t i = 0; i < n; i++) buf_text(&text, str_of(tail));
    struct str s = arena_str(arena, str_from_bytes(buf_bytes(&text)));
    buf_release(&text);
    return s;
}

static void check_depth(const char *head, const char *middle, const char *tail)
{
    static const size_t DEPTHS[] = {300, 100000};
    for (size_t i = 0; i < COUNT_OF(DEPTHS); i++) {
        struct arena arena;
        struct parsed p;
        arena_init(&arena, MEM_QUERY, 0);
        parse(&p, nested(&arena, head, middle, tail, DEPTHS[i]));
        if (i)
            CHECK_ERR(p.rc, ERR_LIMIT);
        else
            CHECK_OK(p.rc, &p.err);
        parsed_release(&p);
        arena_release(&arena);
    }
}

static void test_depth(void **state)
{
    (void)state;
    check_depth("(", "1", ")");
    check_depth("-", "foo", "");
    check_depth("abs(", "foo", ")");
    check_depth("2 ^ ", "2", "");
    check_depth("", "foo", " + foo"); /* a long chain is a high tree */
    check_depth("sum(", "foo", ")");
}

static void test_duration_depth(void **state)
{
    (void)state;
    struct arena arena;
    struct parsed p;
    arena_init(&arena, MEM_QUERY, 0);
    parse(&p, nested(&arena, "", "foo[1", "+1", 100000));
    CHECK_ERR(p.rc, ERR_LIMIT);
    parsed_release(&p);
    /* Chains inside nested parentheses add up. */
    struct str inner = nested(&arena, "(", "1", "+1+1+1+1)", 900);
    struct str query = arena_printf(&arena, "foo[%.*s]", STR_ARG(inner));
    parse(&p, query);
    CHECK_ERR(p.rc, ERR_LIMIT);
    parsed_release(&p);
    arena_release(&arena);
}

static void test_long_text(void **state)
{
    (void)state;
    struct parsed p;
    size_t len = PARSER_BYTES_MAX + 1;
    char *text = malloc(len);
    CHECK(text != NULL);
    memset(text, ' ', len);
    parse(&p, (struct str){text, len});
    CHECK_ERR(p.rc, ERR_LIMIT);
    parsed_release(&p);
    parse(&p, (struct str){text, len - 1});
    CHECK_ERR(p.rc, ERR_INVALID);
    parsed_release(&p);
    free(text);
}

static void test_arena_budget(void **state)
{
    (void)state;
    struct parsed p;
    p.result = (struct parse_result){0};
    arena_init(&p.arena, MEM_QUERY, 64);
    p.rc = parse_expr(STR("sum by (a) (rate(foo{a=~\"b.*\"}[5m])) + 1 + 2 + 3 + 4"), &p.arena,
                      &p.result, &p.err);
    CHECK_ERR(p.rc, ERR_LIMIT);
    parsed_release(&p);
}

/* --- trees ----------------------------------------------------------------------------------------- */

static void test_matchers(void **state)
{
    (void)state;
    struct parsed p;
    parse(&p, STR("foo{a=~\"x|y\", b!~\"pre.*\", c=\"d\"}"));
    CHECK_OK(p.rc, &p.err);
    struct node_selector *s = NODE_AS(selector, p.result.root);
    CHECK_U64(s->n_matchers, 4);
    CHECK_U64(s->matchers[0].n_literals, 2);
    CHECK_STR(s->matchers[0].literals[1], "y");
    CHECK(matcher_matches(&s->matchers[0], STR("x")));
    CHECK(!matcher_matches(&s->matchers[0], STR("xy")));
    CHECK_STR(s->matchers[1].prefix, "pre");
    CHECK(!matcher_matches(&s->matchers[1], STR("prefix")));
    CHECK(matcher_matches(&s->matchers[1], STR("")));
    CHECK_STR(s->matchers[3].name, "__name__"); /* the outer name comes last */
    CHECK_STR(s->matchers[3].value, "foo");
    parsed_release(&p);
}

static void test_types(void **state)
{
    (void)state;
    static const struct {
        const char *query;
        enum value_type type;
    } CASES[] = {
        {"1", VALUE_SCALAR},           {"\"a\"", VALUE_STRING},     {"foo", VALUE_VECTOR},
        {"foo[5m]", VALUE_MATRIX},     {"foo[5m:]", VALUE_MATRIX},  {"1 + 1", VALUE_SCALAR},
        {"1 + foo", VALUE_VECTOR},     {"time()", VALUE_SCALAR},    {"scalar(foo)", VALUE_SCALAR},
        {"sum(foo)", VALUE_VECTOR},    {"((1))", VALUE_SCALAR},     {"-foo", VALUE_VECTOR},
        {"1 == bool 2", VALUE_SCALAR}, {"(foo[5m])", VALUE_MATRIX},
    };
    for (size_t i = 0; i < COUNT_OF(CASES); i++) {
        struct parsed p;
        parse(&p, str_of(CASES[i].query));
        CHECK_OK(p.rc, &p.err);
        CHECK_U64(p.result.root->type, CASES[i].type);
        parsed_release(&p);
    }
}

static void test_places(void **state)
{
    (void)state;
    struct parsed p;
    parse(&p, STR(" sum(foo) + on (a)  rate( bar [5m] offset 1m )"));
    CHECK_OK(p.rc, &p.err);
    struct node_binary *n = NODE_AS(binary, p.result.root);
    CHECK_U64(n->node.pos, 1);
    CHECK_U64(n->node.end, 46);
    CHECK_U64(n->op_pos, 10);
    CHECK_U64(n->lhs->end, 9);
    CHECK_U64(n->rhs->pos, 20);
    struct node *arg = NODE_AS(call, n->rhs)->args[0];
    CHECK_U64(arg->pos, 26);
    CHECK_U64(arg->end, 44);
    parsed_release(&p);
}

/* --- durations ------------------------------------------------------------------------------------- */

static void test_resolve(void **state)
{
    (void)state;
    static const struct {
        const char *query, *error;
        int64_t range_ms;
    } CASES[] = {
        {"foo[5m]", NULL, 300000},
        {"foo[1m + 30s * 2]", NULL, 120000},
        {"foo[step()]", NULL, 15000},
        {"foo[range() / 4 + 1ms]", NULL, 900001},
        {"foo[max_of(step(), 1m) - min_of(1, 2)]", NULL, 59000},
        {"foo[2 ^ 3 ^ 2]", NULL, 512000},
        {"foo[-2 ^ 2 + 10]", NULL, 6000},
        {"foo[(-2) ^ 2]", NULL, 4000},
        {"foo[100 % 7]", NULL, 2000},
        {"foo[1 / 3]", NULL, 333},
        {"foo[1m-2m]", "4:9: duration must be greater than 0", 0},
        {"foo[1m/(1-1)]", "4:11: division by zero", 0},
        {"foo[5m % (1-1)]", "4:13: modulo by zero", 0},
        {"foo[2^100]", "4:9: duration is out of range", 0},
        {"foo[0^-1]", "4:8: duration is NaN or infinite", 0},
        {"foo[(1m)-(2m)]", "5:12: duration must be greater than 0", 0},
        {"foo[5m] offset (2^100)", "16:21: duration is out of range", 0},
        {"foo[1m / 1000000 + 0s]", "4:21: duration must be greater than 0", 0},
    };
    for (size_t i = 0; i < COUNT_OF(CASES); i++) {
        struct parsed p;
        parse(&p, str_of(CASES[i].query));
        CHECK_OK(p.rc, &p.err);
        struct duration_times times = {.step_ms = 15000, .range_ms = 3600000};
        enum err_code rc = durations_resolve(p.result.root, times, &p.err);
        if (CASES[i].error) {
            CHECK_ERR(rc, ERR_INVALID);
            CHECK_STR(str_of(p.err.text), CASES[i].error);
        } else {
            CHECK_OK(rc, &p.err);
            CHECK_I64(NODE_AS(matrix, p.result.root)->range.ms, CASES[i].range_ms);
        }
        parsed_release(&p);
    }
}

static void test_resolve_offsets(void **state)
{
    (void)state;
    struct parsed p;
    parse(&p, STR("sum_over_time(foo[1h:5m * 2] offset -(1m + step()))"));
    CHECK_OK(p.rc, &p.err);
    CHECK_OK(durations_resolve(p.result.root, (struct duration_times){5000, 0}, &p.err), &p.err);
    struct node_subquery *s = NODE_AS(subquery, NODE_AS(call, p.result.root)->args[0]);
    CHECK_I64(s->step.ms, 600000);
    CHECK_I64(s->offset.ms, -65000);
    /* Again, as an instant query */
    CHECK_OK(durations_resolve(p.result.root, (struct duration_times){0, 0}, &p.err), &p.err);
    CHECK_I64(s->offset.ms, -60000);
    parsed_release(&p);
}

static void test_duration_parameter(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool ok, overflow;
        int64_t ms;
    } CASES[] = {
        {"15", true, false, 15000}, {"1.001", true, false, 1001},    {"0.0015", true, false, 1},
        {"-3", true, false, -3000}, {"1h30m", true, false, 5400000}, {"500ms", true, false, 500},
        {"0", true, false, 0},      {"1e1", true, false, 10000},     {"1.5h", false, false, 0},
        {"1m1h", false, false, 0},  {"", false, false, 0},           {"foo", false, false, 0},
        {"1e10", false, true, 0},   {"NaN", false, true, 0},         {"Inf", false, true, 0},
        {" 1", false, false, 0},    {"1d", true, false, 86400000},   {"-1m", false, false, 0},
    };
    for (size_t i = 0; i < COUNT_OF(CASES); i++) {
        int64_t ms;
        bool overflow;
        bool ok = duration_parse(str_of(CASES[i].text), &ms, &overflow);
        if (ok != CASES[i].ok || overflow != CASES[i].overflow || (ok && ms != CASES[i].ms))
            test_fail(__FILE__, __LINE__, "\"%s\": %d %d %lld", CASES[i].text, ok, overflow,
                      (long long)ms);
    }
}

static void test_duration_print(void **state)
{
    (void)state;
    static const struct {
        int64_t ms;
        const char *text;
    } CASES[] = {
        {0, "0s"},
        {1001, "1s1ms"},
        {5400000, "1h30m"},
        {INT64_C(14) * 86400000, "2w"},
        {INT64_C(372) * 86400000, "372d"},
        {INT64_C(365) * 86400000, "1y"},
        {-300000, "-5m"},
        {86399999, "23h59m59s999ms"},
    };
    for (size_t i = 0; i < COUNT_OF(CASES); i++) {
        struct buf out;
        buf_init(&out, MEM_QUERY);
        duration_print(CASES[i].ms, &out);
        CHECK_STR(str_from_bytes(buf_bytes(&out)), CASES[i].text);
        buf_release(&out);
    }
}

/* --- functions ------------------------------------------------------------------------------------- */

static void test_functions(void **state)
{
    (void)state;
    for (size_t i = 0; i < FN_N; i++) {
        const struct function_sig *f = function_by_index(i);
        CHECK(function_find(str_of(f->name)) == f); /* found, and no name twice */
        CHECK(f->n_args <= FUNCTION_ARGS_MAX);
        for (size_t j = 0; j < FUNCTION_ARGS_MAX; j++)
            CHECK((f->args[j] == VALUE_NONE) == (j >= f->n_args));
    }
    CHECK(function_find(STR("Rate")) == NULL);
    CHECK_STR(str_of(function_nearest(STR("rete"))), "rate");
    CHECK_STR(str_of(function_nearest(STR("historgam_quantile"))), "histogram_quantile");
    CHECK(function_nearest(STR("completely_different")) == NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rejected),
        cmocka_unit_test(test_accepted),
        cmocka_unit_test(test_selectors),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_duration_depth),
        cmocka_unit_test(test_long_text),
        cmocka_unit_test(test_arena_budget),
        cmocka_unit_test(test_matchers),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_resolve),
        cmocka_unit_test(test_resolve_offsets),
        cmocka_unit_test(test_duration_parameter),
        cmocka_unit_test(test_duration_print),
        cmocka_unit_test(test_functions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
