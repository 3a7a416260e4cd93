/* tests/ingest/test_label_check.c: which label sets are taken, and what is said of the others. */
#include "ingest/label_check.h"
#include "tests/quipu_test.h"

static const struct label_limits LIMITS = {5, 10, 20};

#define L(name, value) ((struct label){STR(name), STR(value)})

static enum reject_reason check(struct label *items, size_t n, struct labels *out, struct err *err)
{
    err_clear(err);
    return label_check(items, n, &LIMITS, out, err);
}

static void test_taken(void **state)
{
    (void)state;
    struct labels out;
    struct err err;
    struct label unsorted[] = {L("z", "1"), L("__name__", "up"), L("empty", ""), L("A", "2")};
    CHECK(check(unsorted, 4, &out, &err) == REJECT_NONE);
    CHECK_U64(out.n, 3); /* {empty=""} and no `empty` are the same set */
    CHECK_STR(out.items[0].name, "A");
    CHECK_STR(out.items[1].name, "__name__");
    CHECK_STR(out.items[2].name, "z");
    struct label utf8[] = {L("__name__", "größe µ"), L("b.l a", "\n\"x\"")};
    CHECK(check(utf8, 2, &out, &err) == REJECT_NONE);
    struct label at_limit[] = {L("__name__", "12345678901234567890"), L("a234567890", "b"),
                               L("c", "d"), L("e", "f"), L("g", "h")};
    CHECK(check(at_limit, 5, &out, &err) == REJECT_NONE);
}

static void check_refused(struct label *items, size_t n, enum reject_reason reason,
                          const char *text)
{
    struct labels out;
    struct err err;
    enum reject_reason got = check(items, n, &out, &err);
    CHECK_STR(str_of(reject_reason_name(got)), reject_reason_name(reason));
    CHECK_U64(err.code, ERR_INVALID);
    CHECK_STR(str_of(err.text), text);
}

static void test_refused(void **state)
{
    (void)state;
    check_refused(NULL, 0, REJECT_NO_NAME, "invalid metric name or labels, got {}");
    struct label no_name[] = {L("a", "b")};
    check_refused(no_name, 1, REJECT_NO_NAME, "invalid metric name or labels, got {a=\"b\"}");
    struct label empty_name[] = {L("__name__", ""), L("a", "b")};
    check_refused(empty_name, 2, REJECT_NO_NAME, "invalid metric name or labels, got {a=\"b\"}");
    struct label nameless[] = {L("__name__", "n"), L("", "b")};
    check_refused(nameless, 2, REJECT_INVALID_LABEL,
                  "invalid metric name or labels, got {__name__=\"n\", \"\"=\"b\"}");
    struct label bad_value[] = {L("__name__", "n"), L("a", "\xff")};
    check_refused(bad_value, 2, REJECT_INVALID_LABEL,
                  "invalid metric name or labels, got {__name__=\"n\", a=\"\\xff\"}");
    struct label bad_name[] = {L("__name__", "n"), L("\xc0\x80", "v")};
    check_refused(bad_name, 2, REJECT_INVALID_LABEL,
                  "invalid metric name or labels, got {__name__=\"n\", \"\\xc0\\x80\"=\"v\"}");
    struct label twice[] = {L("a", "b"), L("__name__", "n"), L("a", "b")};
    check_refused(twice, 3, REJECT_DUPLICATE_LABEL,
                  "invalid labels for series, labels {__name__=\"n\", a=\"b\", a=\"b\"}, "
                  "duplicated label a");
    struct label many[] = {L("__name__", "n"), L("a", "1"), L("b", "1"),
                           L("c", "1"),        L("d", "1"), L("e", "1")};
    check_refused(
        many, 6, REJECT_TOO_MANY_LABELS,
        "received a series whose number of labels exceeds the limit (actual: 6, limit: 5) "
        "series: '{__name__=\"n\", a=\"1\", b=\"1\", c=\"1\", d=\"1\", e=\"1\"}' "
        "(err-quipu-max-label-names-per-series)");
}

/* A refused set may be as long as a body; what is said of it may not, and stays text. */
static void test_long(void **state)
{
    (void)state;
    size_t len = 100000;
    char *z = malloc(len);
    CHECK(z);
    struct labels out;
    struct err err;
    for (unsigned kind = 0; kind < 4; kind++) {
        memset(z, kind % 2 ? 0xc3 : 'x', len);
        struct str s = {z, len};
        struct label value[] = {L("__name__", "n"), {STR("a"), s}};
        struct label name[] = {L("__name__", "n"), {s, STR("a")}};
        enum reject_reason reason = check(kind < 2 ? value : name, 2, &out, &err);
        CHECK(reason == (kind < 2 ? REJECT_VALUE_TOO_LONG : REJECT_NAME_TOO_LONG));
        CHECK(strlen(err.text) < 800);
        CHECK(utf8_valid(str_of(err.text)));
        CHECK(strstr(err.text, "100000"));
    }
    struct label metric[] = {{STR("__name__"), {z, 21}}};
    memset(z, 'm', len);
    CHECK(check(metric, 1, &out, &err) == REJECT_VALUE_TOO_LONG);
    free(z);
}

static void test_short_form(void **state)
{
    (void)state;
    char buf[12];
    struct label one = L("a", "a long value");
    CHECK_STR(str_of(labels_short((struct labels){&one, 1}, buf, sizeof(buf))), "{a=\"a long ");
    CHECK_STR(str_of(labels_short((struct labels){&one, 0}, buf, sizeof(buf))), "{}");
}

static void test_reason_names(void **state)
{
    (void)state;
    for (unsigned i = 0; i < REJECT_N; i++)
        for (unsigned j = 0; j < i; j++)
            CHECK(strcmp(reject_reason_name((enum reject_reason)i),
                         reject_reason_name((enum reject_reason)j)) != 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_taken),        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_long),         cmocka_unit_test(test_short_form),
        cmocka_unit_test(test_reason_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
