/* HTTP: parameters as Go reads them, and the fake. */
#include "tests/quipu_test.h"

#include "base/http.h"

/* Renders as name=value|name=value, with the mark of a bad escape. */
static const char *show(const struct http_params *params, char *out, size_t size)
{
    size_t n = 0;
    out[0] = 0;
    for (size_t i = 0; i < params->n; i++)
        n += (size_t)snprintf(out + n, size - n, "%s%.*s=%.*s", i ? "|" : "",
                              STR_ARG(params->items[i].name), STR_ARG(params->items[i].value));
    if (params->bad_escape) snprintf(out + n, size - n, "!%.*s", STR_ARG(params->bad_text));
    return out;
}

static void query_strings(void **state)
{
    (void)state;
    static const struct {
        const char *query, *want;
    } cases[] = {
        {"", ""},
        {"query=up&time=1", "query=up|time=1"},
        {"a=1&a=2", "a=1|a=2"},
        {"a", "a="},
        {"a=", "a="},
        {"=b", "=b"},
        {"&&a=1&", "a=1"},
        {"a=b=c", "a=b=c"},
        {"a+b=c+d", "a b=c d"},
        {"a%20b=%2B%26%3D%3b", "a b=+&=;"},
        {"match%5B%5D=%7Ba%3D%22x%22%7D", "match[]={a=\"x\"}"},
        {"%e2%82%AC=1", "\xE2\x82\xAC=1"},
        {"a=%zz", "!%zz"},
        {"a=%zz&b=1&c=%y", "b=1!%zz"},
        {"a=%4", "!%4"},
        {"a=%", "!%"},
        {"a=%\xC3\xA9x", "!%\xC3\xA9"},
        {"%zz=1", "!%zz"},
        {"a=1;b=2", "!;"},
        {"a=1;b=2&c=3", "c=3!;"},
        {"a=%3B", "a=;"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct http_fake fake;
        struct http_params params;
        struct err err;
        char out[256];
        http_fake_init(&fake, HTTP_GET, "/x", cases[i].query, (struct bytes){NULL, 0});
        CHECK_OK(http_params(&fake.req, &params, &err), &err);
        CHECK_STR(str_of(show(&params, out, sizeof(out))), cases[i].want);
        http_fake_release(&fake);
    }
}

struct form_case {
    enum http_method method;
    const char *type, *body, *query, *want;
};

static void check_form(const struct form_case *c)
{
    const char *headers[][2] = {{"content-type", c->type}, {NULL, NULL}};
    struct http_fake fake;
    struct http_params params;
    struct err err;
    char out[512];
    http_fake_init(&fake, c->method, "/x", c->query, bytes_of(c->body, strlen(c->body)));
    fake.headers = c->type ? headers : NULL;
    CHECK_OK(http_params(&fake.req, &params, &err), &err);
    CHECK_STR(str_of(show(&params, out, sizeof(out))), c->want);
    http_fake_release(&fake);
}

#define FORM "application/x-www-form-urlencoded"
#define MULTI "multipart/form-data; boundary=XX"
#define PART(name, value)                                                                          \
    "--XX\r\nContent-Disposition: form-data; name=\"" name "\"\r\n\r\n" value "\r\n"

static void bodies(void **state)
{
    (void)state;
    static const struct form_case cases[] = {
        {HTTP_POST, FORM, "a=1&b=2", "a=9&c=3", "a=1|b=2|a=9|c=3"}, /* the body first */
        {HTTP_PUT, FORM "; charset=utf-8", "a=1", "", "a=1"},
        {HTTP_POST, "Application/X-WWW-Form-URLEncoded", "a=1", "", "a=1"},
        {HTTP_GET, FORM, "a=1", "b=2", "b=2"},
        {HTTP_DELETE, FORM, "a=1", "b=2", "b=2"},
        {HTTP_POST, "application/json", "{\"a\":1}", "b=2", "b=2"},
        {HTTP_POST, NULL, "a=1", "b=2", "b=2"},
        {HTTP_POST, FORM, "a=%zz&b=1", "c=2", "b=1|c=2!%zz"},
        {HTTP_POST, MULTI, PART("a", "1") PART("match[]", "{x=\"y\"}") "--XX--\r\n", "c=2",
         "a=1|match[]={x=\"y\"}|c=2"},
        {HTTP_POST, MULTI, PART("a", "") "--XX--", "", "a="},
        {HTTP_POST, MULTI, PART("a", "l1\r\nl2\r\n") "--XX--", "", "a=l1\r\nl2\r\n"},
        {HTTP_POST, "multipart/form-data; x=1; boundary=\"X X\"",
         "preamble\r\n--X X  \r\ncontent-disposition: form-data; name=a\r\n\r\n1\r\n--X X--", "",
         "a=1"},
        {HTTP_POST, MULTI,
         "--XX\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f.txt\"\r\n"
         "Content-Type: text/plain\r\n\r\nfile\r\n" PART("a", "1") "--XX--",
         "", "a=1"},
        {HTTP_POST, MULTI, "--XX\r\n\r\nnameless\r\n" PART("a", "1") "--XX--", "", "a=1"},
        {HTTP_POST, MULTI, PART("q\\\"uote\\\\d", "1") "--XX--", "", "q\"uote\\d=1"},
        {HTTP_POST, MULTI, "--XX--", "", ""},
        {HTTP_POST, MULTI, PART("a", "1"), "b=2", "b=2!"}, /* no closing line */
        {HTTP_POST, MULTI, "", "b=2", "b=2!"},
        {HTTP_POST, "multipart/form-data", PART("a", "1") "--XX--", "b=2", "b=2!"},
        {HTTP_POST, MULTI, "--XX\r\nno empty line\r\n--XX--", "", "!"},
        {HTTP_POST, MULTI, "--XX\r\n--XX--", "", "!"},
        {HTTP_POST, MULTI, "--XX", "", "!"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) check_form(&cases[i]);
}

static void lookup(void **state)
{
    (void)state;
    struct http_fake fake;
    struct http_params params;
    struct err err;
    http_fake_init(&fake, HTTP_GET, "/x", "a=&b=1&b=2&a=3&empty=", (struct bytes){NULL, 0});
    CHECK_OK(http_params(&fake.req, &params, &err), &err);
    CHECK_STR(http_param(&params, "a"), "3"); /* empty counts as absent */
    CHECK_STR(http_param(&params, "b"), "1");
    CHECK(http_param(&params, "empty").p == NULL);
    CHECK(http_param(&params, "B").p == NULL);
    http_fake_release(&fake);
}

static void too_many(void **state)
{
    (void)state;
    struct buf text;
    buf_init(&text, MEM_HTTP);
    for (int i = 0; i < HTTP_PARAMS_MAX; i++) buf_printf(&text, "&a=%d", i);
    for (int more = 0; more < 2; more++) {
        struct arena arena;
        struct http_params params = {0};
        struct err err;
        arena_init(&arena, MEM_HTTP, 0);
        enum err_code rc =
            http_params_parse(str_from_bytes(buf_bytes(&text)), &arena, &params, &err);
        CHECK_ERR(rc, more ? ERR_LIMIT : ERR_OK);
        CHECK_U64(params.n, HTTP_PARAMS_MAX);
        for (size_t i = 0; i < params.n; i++) {
            char want[24];
            snprintf(want, sizeof(want), "%zu", i);
            CHECK_STR(params.items[i].value, want);
        }
        arena_release(&arena);
        buf_text(&text, STR("&b"));
    }
    buf_release(&text);
}

/* Whatever a client sends: no read out of bounds, no crash, and no more memory than the budget. */
static void hostile_bodies(void **state)
{
    (void)state;
    static const char *const pieces[] = {
        "--XX",      "--XX--", "\r\n",  "\r\n\r\n", "Content-Disposition:",
        "form-data", ";",      "name=", "\"",       "a",
        "\\",        "=",      "&",     "%",        "%41"};
    struct rng rng;
    PROPERTY_LOOP(&rng, 3000)
    {
        struct buf body;
        buf_init(&body, MEM_HTTP);
        for (size_t i = rng_below(&rng, 30); i; i--)
            buf_text(&body, str_of(pieces[rng_below(&rng, COUNT_OF(pieces))]));
        uint8_t *exact = malloc(body.len ? body.len : 1); /* ASan sees the edge */
        CHECK(exact != NULL);
        if (body.len) memcpy(exact, body.p, body.len);
        const char *headers[][2] = {{"Content-Type", rng_chance(&rng, 0.3) ? FORM : MULTI},
                                    {NULL, NULL}};
        struct http_fake fake;
        struct http_params params;
        struct err err;
        http_fake_init(&fake, HTTP_POST, "/x", "z=1", bytes_of(exact, body.len));
        fake.headers = headers;
        fake.req.arena.budget_bytes = 1 + rng_below(&rng, 20000);
        enum err_code rc = http_params(&fake.req, &params, &err);
        CHECK(rc == ERR_OK || rc == ERR_LIMIT);
        if (!rc) CHECK_STR(http_param(&params, "z"), "1");
        http_fake_release(&fake);
        free(exact);
        buf_release(&body);
    }
}

static void paths(void **state)
{
    (void)state;
    struct arena arena;
    struct str out;
    arena_init(&arena, MEM_HTTP, 0);
    CHECK(http_unescape_path(STR("a%2Fb+c%20"), &arena, &out));
    CHECK_STR(out, "a/b+c ");
    CHECK(http_unescape_path(STR(""), &arena, &out));
    CHECK_STR(out, "");
    CHECK(!http_unescape_path(STR("a%2"), &arena, &out));
    CHECK(!http_unescape_path(STR("%GG"), &arena, &out));
    arena_release(&arena);
}

static void answers(void **state)
{
    (void)state;
    const char *headers[][2] = {{"X-A", "1"}, {"x-a", "2"}, {NULL, NULL}};
    struct http_fake fake;
    struct err err;
    http_fake_init(&fake, HTTP_GET, "/x", "", (struct bytes){NULL, 0});
    fake.headers = headers;
    size_t count;
    CHECK_STR(http_header(&fake.req, "x-A", &count), "1");
    CHECK_U64(count, 2);
    CHECK(http_header(&fake.req, "X-B", &count).p == NULL);
    CHECK_U64(count, 0);
    http_set_header(&fake.req, "Retry-After", "5");
    http_respond_text(&fake.req, 503, "busy: %d", 7);
    CHECK(fake.done && !fake.aborted);
    CHECK_U64(fake.status, 503);
    CHECK_STR(str_from_bytes(buf_bytes(&fake.body)), "busy: 7\n");
    CHECK_STR(str_of(fake.content_type), "text/plain; charset=utf-8");
    CHECK_STR(str_from_bytes(buf_bytes(&fake.sent_headers)),
              "Retry-After: 5\nX-Content-Type-Options: nosniff\n");
    http_fake_release(&fake);

    http_fake_init(&fake, HTTP_GET, "/x", "", (struct bytes){NULL, 0});
    http_respond(&fake.req, 204, NULL, (struct bytes){NULL, 0});
    CHECK(fake.done && fake.body.len == 0 && fake.content_type[0] == 0);
    http_fake_release(&fake);

    for (int len = 1000; len < 1050; len++) {
        http_fake_init(&fake, HTTP_GET, "/x", "", (struct bytes){NULL, 0});
        http_respond_text(&fake.req, 400, "%*d", len, 1);
        CHECK_U64(fake.body.len, len + 1);
        CHECK(fake.body.p[len - 1] == '1' && fake.body.p[len] == '\n');
        http_fake_release(&fake);
    }

    http_fake_init(&fake, HTTP_GET, "/x", "", (struct bytes){NULL, 0});
    http_begin(&fake.req, 200, "application/json");
    CHECK_OK(http_write(&fake.req, bytes_of("[", 1), &err), &err);
    fake.gone = true;
    CHECK(http_gone(&fake.req));
    CHECK_ERR(http_write(&fake.req, bytes_of("]", 1), &err), ERR_CANCELED);
    http_abort(&fake.req);
    CHECK(fake.done && fake.aborted);
    http_fake_release(&fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(query_strings), cmocka_unit_test(bodies),         cmocka_unit_test(lookup),
        cmocka_unit_test(too_many),      cmocka_unit_test(hostile_bodies), cmocka_unit_test(paths),
        cmocka_unit_test(answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
