/* Log: logfmt that any parser reads back. */
#include "tests/quipu_test.h"

#include "base/log.h"

struct capture {
    char line[16384];
    size_t len;
    size_t n_lines;
};

static void keep(void *ctx, const char *line, size_t len)
{
    struct capture *c = ctx;
    CHECK(len < sizeof(c->line));
    memcpy(c->line, line, len);
    c->line[len] = 0;
    c->len = len;
    c->n_lines++;
}

struct fixture {
    struct clock_fake clock;
    struct log log;
    struct capture out;
};

static void setup(struct fixture *f)
{
    memset(&f->out, 0, sizeof(f->out));
    clock_fake_init(&f->clock, INT64_C(1767323045678));
    log_init(&f->log, &f->clock.clock, LOG_DEBUG);
    f->log.sink = keep;
    f->log.sink_ctx = &f->out;
}

static void a_line_of_each_kind(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    struct err err;
    err_set(&err, ERR_CORRUPT, "bad \"magic\"");
    err_at(&err, "x.wal", 8);
    log_msg(&f.log, LOG_WARN, "wal replayed", LOG_U64("n", UINT64_MAX), LOG_I64("i", INT64_MIN),
            LOG_DOUBLE("d", 0.5), LOG_CSTR("plain", "a/b:c"), LOG_CSTR("blank", "a b"),
            LOG_CSTR("none", ""), LOG_ERR(&err));
    CHECK_STR(str_of(f.out.line),
              "ts=2026-01-02T03:04:05.678Z level=warn msg=\"wal replayed\" n=18446744073709551615 "
              "i=-9223372036854775808 d=0.5 plain=a/b:c blank=\"a b\" none=\"\" "
              "err=\"bad \\\"magic\\\" (file x.wal, offset 8)\"\n");
    log_msg(&f.log, LOG_ERROR, "no fields");
    CHECK_STR(str_of(f.out.line), "ts=2026-01-02T03:04:05.678Z level=error msg=\"no fields\"\n");
    f.clock.wall_ms = -1;
    log_msg(&f.log, LOG_INFO, "before the epoch", LOG_DOUBLE("a", __builtin_nan("")),
            LOG_DOUBLE("b", -__builtin_inf()));
    CHECK_STR(str_of(f.out.line), "ts=1969-12-31T23:59:59.999Z level=info "
                                  "msg=\"before the epoch\" a=NaN b=-Inf\n");
}

static void quoting(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"a=b", "\"a=b\""},
        {"a\"b", "\"a\\\"b\""},
        {"a\\b", "\"a\\\\b\""},
        {"a\nb\tc\rd", "\"a\\nb\\tc\\rd\""},
        {"\x01\x7F", "\"\\u0001\\u007f\""},
        {"\xC3\xA9", "\"\xC3\xA9\""},
        {"x\xFFy", "\"x\xEF\xBF\xBDy\""},
    };
    struct fixture f;
    setup(&f);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        log_msg(&f.log, LOG_INFO, "m", LOG_CSTR("k", cases[i].in));
        char want[256];
        snprintf(want, sizeof(want), " k=%s\n", cases[i].out);
        CHECK(str_has_suffix(str_of(f.out.line), str_of(want)));
    }
}

static void levels(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    f.log.level = LOG_WARN;
    log_msg(&f.log, LOG_INFO, "not shown");
    CHECK_U64(f.out.n_lines, 0);
    log_msg(&f.log, LOG_WARN, "shown");
    CHECK_U64(f.out.n_lines, 1);
    f.log.level = LOG_OFF;
    log_msg(&f.log, LOG_ERROR, "not shown");
    log_msg(&f.log, LOG_OFF, "never");
    CHECK_U64(f.out.n_lines, 1);
    log_msg((struct log *)NULL, LOG_ERROR, "nowhere", LOG_U64("n", 1));
    static const char *const words[] = {"debug", "info", "warn", "error"};
    for (int i = 0; i < 4; i++) {
        enum log_level level;
        CHECK(log_level_parse(str_of(words[i]), &level));
        CHECK(level == (enum log_level)i);
    }
    enum log_level level = LOG_INFO;
    CHECK(!log_level_parse(STR("Info"), &level));
    CHECK(!log_level_parse(STR(""), &level));
    CHECK(level == LOG_INFO);
}

/* Unquoted or quoted value; returns what follows, NULL for a malformed line. */
static const char *skip_value(const char *p)
{
    if (*p != '"') {
        while (*p && *p != ' ' && *p != '\n') {
            if (*p == '"' || *p == '=') return NULL;
            p++;
        }
        return p;
    }
    for (p++; *p && *p != '"'; p++) {
        if ((uint8_t)*p < ' ') return NULL;
        if (*p == '\\' && !*++p) return NULL;
    }
    return *p ? p + 1 : NULL;
}

static void any_value_keeps_the_line_whole(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 500)
    {
        struct fixture f;
        setup(&f);
        char raw[10000];
        size_t n = rng_below(&rng, rng_chance(&rng, 0.5) ? 40 : sizeof(raw));
        test_fill(&rng, raw, n);
        if (rng_chance(&rng, 0.5))
            for (size_t i = 0; i < n; i++) raw[i] = (char)('a' + (uint8_t)raw[i] % 26);
        log_msg(&f.log, LOG_INFO, "m", LOG_STR("first", ((struct str){raw, n})),
                LOG_U64("second", 12345), LOG_STR("third", ((struct str){raw, n / 2})));
        CHECK(utf8_valid(str_of(f.out.line)));
        CHECK(f.out.line[f.out.len - 1] == '\n');
        CHECK(strchr(f.out.line, '\n') == f.out.line + f.out.len - 1);
        CHECK(f.out.len <= 8192);
        const char *p = f.out.line;
        while (*p != '\n') {
            const char *eq = strchr(p, '=');
            CHECK(eq != NULL);
            if (strncmp(p, "second=", 7) == 0) CHECK(strncmp(p, "second=12345", 12) == 0);
            p = skip_value(eq + 1);
            CHECK(p != NULL);
            CHECK(*p == ' ' || *p == '\n');
            if (*p == ' ') p++;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_of_each_kind),
        cmocka_unit_test(quoting),
        cmocka_unit_test(levels),
        cmocka_unit_test(any_value_keeps_the_line_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
