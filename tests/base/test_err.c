/* Errors: cut at character boundaries, always one line of UTF-8. */
#include "tests/quipu_test.h"

#include <errno.h>

static void sets_and_replaces(void **state)
{
    (void)state;
    struct err err;
    CHECK_ERR(err_set(&err, ERR_LIMIT, "%d of %d", 3, 2), ERR_LIMIT);
    CHECK_STR(str_of(err.text), "3 of 2");
    err_at(&err, "wal/1.wal", 77);
    CHECK(err.has_off);
    CHECK_ERR(err_set(&err, ERR_IO, "again"), ERR_IO);
    CHECK(!err.has_off);
    CHECK(err.file[0] == 0);
    CHECK(err.sys_errno == 0);
    err_clear(&err);
    CHECK_ERR(err.code, ERR_OK);
    CHECK(err.text[0] == 0);
}

static void arguments_may_be_the_error_itself(void **state)
{
    (void)state;
    struct err err;
    err_set(&err, ERR_CORRUPT, "inner");
    err_at(&err, "f", 1);
    err_set(&err, ERR_CORRUPT, "outer (%s in %s)", err.text, err.file);
    CHECK_STR(str_of(err.text), "outer (inner in f)");
    err_context(&err, "again %s", err.text);
    CHECK_STR(str_of(err.text), "again outer (inner in f): outer (inner in f)");
}

static void context_goes_in_front(void **state)
{
    (void)state;
    struct err err;
    err_set(&err, ERR_CORRUPT, "bad magic");
    err_at(&err, "b.block", 4096);
    CHECK_ERR(err_context(&err, "opening block %d", 7), ERR_CORRUPT);
    char text[256];
    CHECK_STR(str_of(err_describe(&err, text, sizeof(text))),
              "opening block 7: bad magic (file b.block, offset 4096)");
    err.has_off = false;
    CHECK_STR(str_of(err_describe(&err, text, sizeof(text))),
              "opening block 7: bad magic (file b.block)");
    err.file[0] = 0;
    CHECK_STR(str_of(err_describe(&err, text, sizeof(text))), "opening block 7: bad magic");
    CHECK_STR(str_of(err_describe(&err, text, 8)), "opening");
}

static void errno_maps_to_codes(void **state)
{
    (void)state;
    static const struct {
        int sys;
        enum err_code code;
    } cases[] = {{ENOSPC, ERR_NO_SPACE},  {EDQUOT, ERR_NO_SPACE}, {ENOMEM, ERR_NO_MEMORY},
                 {EBUSY, ERR_BUSY},       {EAGAIN, ERR_BUSY},     {EADDRINUSE, ERR_BUSY},
                 {ENOENT, ERR_NOT_FOUND}, {EEXIST, ERR_EXISTS},   {EIO, ERR_IO},
                 {EACCES, ERR_IO}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct err err;
        CHECK_ERR(err_set_errno(&err, cases[i].sys, "open %s", "x"), cases[i].code);
        CHECK(err.sys_errno == cases[i].sys);
        char want[256];
        snprintf(want, sizeof(want), "open x: %s", strerror(cases[i].sys));
        CHECK_STR(str_of(err.text), want);
    }
}

static void long_texts_keep_the_reason(void **state)
{
    (void)state;
    struct err err;
    char path[3000];
    memset(path, 'p', sizeof(path) - 1);
    path[sizeof(path) - 1] = 0;
    err_set_errno(&err, ENOENT, "open %s", path);
    CHECK(str_has_suffix(str_of(err.text), STR(": No such file or directory")));
    CHECK(str_has_prefix(str_of(err.text), STR("open ppp")));
    CHECK(strlen(err.text) < ERR_TEXT_BYTES);
}

static void bad_bytes_become_replacement(void **state)
{
    (void)state;
    struct err err;
    err_set(&err, ERR_INVALID, "a\xFFz \xC3\xA9 \xE2\x82 \xED\xA0\x80|");
    CHECK_STR(str_of(err.text), "a\xEF\xBF\xBDz \xC3\xA9 \xEF\xBF\xBD\xEF\xBF\xBD "
                                "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD|");
    err_set(&err, ERR_INVALID, "two\nlines\tand \x01 \x7F");
    CHECK_STR(str_of(err.text), "two lines and    ");
}

static void random_texts_stay_utf8(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 2000)
    {
        char raw[2200];
        size_t n = rng_below(&rng, sizeof(raw) - 1);
        for (size_t i = 0; i < n; i++) {
            static const char some[] = "ab\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\n";
            raw[i] = rng_chance(&rng, 0.9) ? some[i % (sizeof(some) - 1)]
                                           : (char)(1 + rng_below(&rng, 255));
        }
        raw[n] = 0;
        struct err err;
        err_set(&err, ERR_INVALID, "%s", raw);
        err_at(&err, raw, n);
        err_context(&err, "ctx %s", raw);
        char text[1500];
        size_t size = 1 + rng_below(&rng, sizeof(text));
        err_describe(&err, text, size);
        CHECK(strlen(text) < size);
        CHECK(utf8_valid(str_of(text)));
        CHECK(utf8_valid(str_of(err.text)));
        CHECK(utf8_valid(str_of(err.file)));
        for (const char *p = err.text; *p; p++) CHECK((uint8_t)*p >= ' ');
    }
}

static void a_character_is_not_cut_in_half(void **state)
{
    (void)state;
    for (size_t pad = 0; pad < 8; pad++) {
        char raw[ERR_TEXT_BYTES * 2];
        memset(raw, 'x', pad);
        for (size_t i = pad; i + 4 < sizeof(raw); i += 3) memcpy(raw + i, "\xE2\x82\xAC\0", 4);
        struct err err;
        err_set(&err, ERR_INVALID, "%s", raw);
        CHECK(utf8_valid(str_of(err.text)));
        CHECK(strlen(err.text) >= ERR_TEXT_BYTES - 4);
        CHECK(strstr(err.text, "\xEF\xBF\xBD") == NULL);
    }
}

static void long_file_names_keep_their_end(void **state)
{
    (void)state;
    struct err err;
    char path[600];
    memset(path, 'd', sizeof(path));
    memcpy(path + sizeof(path) - 8, "/x.wal\0", 8);
    err_set(&err, ERR_IO, "e");
    err_at(&err, path, 0);
    CHECK(str_has_suffix(str_of(err.file), STR("/x.wal")));
    CHECK_U64(strlen(err.file), ERR_FILE_BYTES - 1);
}

static void every_code_has_a_name(void **state)
{
    (void)state;
    for (int i = 0; i < ERR_N; i++)
        for (int j = 0; j < i; j++)
            CHECK(strcmp(err_code_name((enum err_code)i), err_code_name((enum err_code)j)) != 0);
    CHECK_STR(str_of(err_code_name((enum err_code)999)), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sets_and_replaces),
        cmocka_unit_test(arguments_may_be_the_error_itself),
        cmocka_unit_test(context_goes_in_front),
        cmocka_unit_test(errno_maps_to_codes),
        cmocka_unit_test(long_texts_keep_the_reason),
        cmocka_unit_test(bad_bytes_become_replacement),
        cmocka_unit_test(random_texts_stay_utf8),
        cmocka_unit_test(a_character_is_not_cut_in_half),
        cmocka_unit_test(long_file_names_keep_their_end),
        cmocka_unit_test(every_code_has_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
