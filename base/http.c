/* base/http.c: answers on top of a server's operations; parameters as Go's net/http and net/url read them,
 * since that is what clients of Prometheus were written against. */
#include "base/http.h"

#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

struct str http_header(struct http_request *req, const char *name, size_t *count)
{
    return req->ops->header(req, name, count);
}

void http_set_header(struct http_request *req, const char *name, const char *value)
{
    req->ops->set_header(req, name, value);
}

void http_begin(struct http_request *req, unsigned status, const char *content_type)
{
    req->ops->begin(req, status, content_type);
}

enum err_code http_write(struct http_request *req, struct bytes part, struct err *err)
{
    if (part.len == 0) return ERR_OK;
    return req->ops->write(req, part, err);
}

void http_end(struct http_request *req)
{
    req->ops->end(req);
}

void http_abort(struct http_request *req)
{
    req->ops->abort(req);
}

bool http_gone(struct http_request *req)
{
    return req->ops->gone(req);
}

void http_respond(struct http_request *req, unsigned status, const char *content_type,
                  struct bytes body)
{
    http_begin(req, status, content_type);
    struct err err;
    /* ERR_CANCELED: the client is gone, and nobody is left to be told. Anything else must not look like
     * a whole answer. */
    enum err_code rc = http_write(req, body, &err);
    if (rc && rc != ERR_CANCELED)
        http_abort(req);
    else
        http_end(req);
}

void http_respond_text(struct http_request *req, unsigned status, const char *fmt, ...)
{
    char small[1024];
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(small, sizeof(small) - 1, fmt, args);
    ASSERT(n >= 0);
    char *text = small;
    size_t len = (size_t)n;
    if (len >= sizeof(small) - 1) {
        text = mem_alloc(MEM_HTTP, len + 2);
        if (text) {
            vsnprintf(text, len + 1, fmt, again);
        } else { /* the start of it is better than nothing */
            text = small;
            len = sizeof(small) - 2;
        }
    }
    va_end(again);
    va_end(args);
    text[len++] = '\n';
    http_set_header(req, "X-Content-Type-Options", "nosniff");
    http_respond(req, status, "text/plain; charset=utf-8", bytes_of(text, len));
    if (text != small) mem_free(text);
}

/* ---- parameters ---- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* Decodes raw into the arena. *bad: the offending escape, as url.EscapeError quotes it: up to three bytes. */
static enum err_code unescape(struct str raw, bool plus_is_blank, struct arena *arena,
                              struct str *out, struct str *bad, struct err *err)
{
    *bad = (struct str){NULL, 0};
    char *p = arena_alloc(arena, raw.len + 1, 1);
    if (!p) return arena_fail(arena, err);
    size_t n = 0;
    for (size_t i = 0; i < raw.len; i++) {
        char c = raw.p[i];
        if (c == '%') {
            int hi = i + 1 < raw.len ? hex_digit(raw.p[i + 1]) : -1;
            int lo = i + 2 < raw.len ? hex_digit(raw.p[i + 2]) : -1;
            if (hi < 0 || lo < 0) {
                *bad = (struct str){raw.p + i, MIN_OF(raw.len - i, (size_t)3)};
                return ERR_OK;
            }
            c = (char)(hi * 16 + lo);
            i += 2;
        } else if (c == '+' && plus_is_blank) {
            c = ' ';
        }
        p[n++] = c;
    }
    p[n] = 0;
    *out = (struct str){p, n};
    return ERR_OK;
}

bool http_unescape_path(struct str raw, struct arena *arena, struct str *out)
{
    struct str bad;
    struct err err; /* the caller knows one failure only */
    return unescape(raw, false, arena, out, &bad, &err) == ERR_OK && !bad.p;
}

/* Arrays grow by doubling inside the arena; at most as much again is left behind. */
static enum err_code params_add(struct http_params *params, struct arena *arena,
                                struct http_param item, struct err *err)
{
    if (params->n >= HTTP_PARAMS_MAX)
        return err_set(err, ERR_LIMIT, "more than %d parameters", HTTP_PARAMS_MAX);
    size_t n = params->n;
    if (n == 0 || (n >= 8 && (n & (n - 1)) == 0)) { /* full at 0, 8, 16, 32 … */
        struct http_param *grown = ARENA_ARRAY(arena, struct http_param, n ? n * 2 : 8);
        if (!grown) return arena_fail(arena, err);
        if (n) memcpy(grown, params->items, n * sizeof(*grown));
        params->items = grown;
    }
    params->items[params->n++] = item;
    return ERR_OK;
}

static void note_bad(struct http_params *params, struct str bad)
{
    if (params->bad_escape) return; /* the first one is told */
    params->bad_escape = true;
    params->bad_text = bad;
}

static enum err_code parse_pair(struct str pair, struct arena *arena, struct http_params *out,
                                struct err *err)
{
    if (memchr(pair.p, ';', pair.len)) { /* Go 1.17 and later: no separator, and not allowed raw */
        note_bad(out, STR(";"));
        return ERR_OK;
    }
    const char *eq = memchr(pair.p, '=', pair.len);
    struct str raw_name = {pair.p, eq ? (size_t)(eq - pair.p) : pair.len};
    struct str raw_value = {eq ? eq + 1 : pair.p, eq ? pair.len - raw_name.len - 1 : 0};
    struct http_param item;
    struct str bad;
    enum err_code rc = unescape(raw_name, true, arena, &item.name, &bad, err);
    if (!rc && !bad.p) rc = unescape(raw_value, true, arena, &item.value, &bad, err);
    if (rc) return rc;
    if (bad.p) {
        note_bad(out, bad);
        return ERR_OK;
    }
    return params_add(out, arena, item, err);
}

enum err_code http_params_parse(struct str text, struct arena *arena, struct http_params *out,
                                struct err *err)
{
    while (text.len) {
        const char *amp = memchr(text.p, '&', text.len);
        struct str pair = {text.p, amp ? (size_t)(amp - text.p) : text.len};
        size_t skip = pair.len + (amp ? 1 : 0);
        text.p += skip;
        text.len -= skip;
        if (pair.len == 0) continue;
        enum err_code rc = parse_pair(pair, arena, out, err);
        if (rc) return rc;
    }
    return ERR_OK;
}

/* ---- header fields like `form-data; name="match[]"` ---- */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static struct str trim(struct str s)
{
    while (s.len && is_blank(s.p[0])) s.p++, s.len--;
    while (s.len && is_blank(s.p[s.len - 1])) s.len--;
    return s;
}

static bool eq_nocase(struct str s, const char *z)
{
    return s.len == strlen(z) && strncasecmp(s.p, z, s.len) == 0;
}

/* Takes the text up to the first ';' off *rest; what is left starts behind it. */
static struct str take_token(struct str *rest)
{
    const char *semi = rest->len ? memchr(rest->p, ';', rest->len) : NULL;
    struct str token = {rest->p, semi ? (size_t)(semi - rest->p) : rest->len};
    size_t skip = token.len + (semi ? 1 : 0);
    rest->p += skip;
    rest->len -= skip;
    return trim(token);
}

/* Reads a quoted string at rest->p (after the quote) into the arena; false if it has no end. */
static bool take_quoted(struct str *rest, struct arena *arena, struct str *out)
{
    char *p = arena_alloc(arena, rest->len + 1, 1);
    if (!p) return false;
    size_t n = 0;
    for (size_t i = 0; i < rest->len; i++) {
        char c = rest->p[i];
        if (c == '"') {
            rest->p += i + 1;
            rest->len -= i + 1;
            (void)take_token(rest); /* blanks up to the next ';' */
            *out = (struct str){p, n};
            return true;
        }
        if (c == '\\' && i + 1 < rest->len && (rest->p[i + 1] == '"' || rest->p[i + 1] == '\\'))
            c = rest->p[++i];
        p[n++] = c;
    }
    return false;
}

/* The value of parameter `name` in what follows a header's first token; p NULL if there is none. */
static struct str header_param(struct str rest, const char *name, struct arena *arena)
{
    while (rest.len) {
        rest = trim(rest);
        const char *eq = rest.len ? memchr(rest.p, '=', rest.len) : NULL;
        if (!eq) break;
        struct str key = trim((struct str){rest.p, (size_t)(eq - rest.p)});
        struct str value;
        size_t skip = (size_t)(eq - rest.p) + 1;
        rest.p += skip;
        rest.len -= skip;
        if (rest.len && rest.p[0] == '"') {
            rest.p++, rest.len--;
            if (!take_quoted(&rest, arena, &value)) break;
        } else {
            value = take_token(&rest);
        }
        if (eq_nocase(key, name)) return value;
    }
    return (struct str){NULL, 0};
}

/* ---- multipart/form-data (RFC 7578) ---- */

static const char *find(struct str text, struct str what)
{
    return text.len ? memmem(text.p, text.len, what.p, what.len) : NULL;
}

/* Value of the header in a part's block of header lines. */
static struct str part_header(struct str block, const char *name)
{
    while (block.len) {
        const char *eol = memchr(block.p, '\n', block.len);
        struct str line = {block.p, eol ? (size_t)(eol - block.p) : block.len};
        size_t skip = line.len + (eol ? 1 : 0);
        block.p += skip;
        block.len -= skip;
        const char *colon = line.len ? memchr(line.p, ':', line.len) : NULL;
        if (!colon) continue;
        size_t key_len = (size_t)(colon - line.p);
        if (eq_nocase(trim((struct str){line.p, key_len}), name))
            return trim((struct str){colon + 1, line.len - key_len - 1});
    }
    return (struct str){NULL, 0};
}

/* One part: header lines, an empty line, the value. Files and nameless parts are no parameters. */
static enum err_code parse_part(struct str part, struct arena *arena, struct http_params *out,
                                struct err *err)
{
    struct str head = {part.p, 0};
    if (str_has_prefix(part, STR("\r\n"))) {
        part.p += 2, part.len -= 2;
    } else {
        const char *gap = find(part, STR("\r\n\r\n"));
        if (!gap) {
            note_bad(out, (struct str){NULL, 0});
            return ERR_OK;
        }
        head.len = (size_t)(gap - part.p);
        part.len -= head.len + 4;
        part.p = gap + 4;
    }
    struct str rest = part_header(head, "Content-Disposition");
    if (!rest.p || !eq_nocase(take_token(&rest), "form-data")) return ERR_OK;
    struct str name = header_param(rest, "name", arena);
    if (!name.len || header_param(rest, "filename", arena).p) return ERR_OK;
    struct http_param item = {arena_str(arena, name), arena_str(arena, part)};
    if (!item.name.p || !item.value.p) return arena_fail(arena, err);
    return params_add(out, arena, item, err);
}

/* The body between `--boundary` lines, up to `--boundary--`. */
static enum err_code parse_multipart(struct str body, struct str boundary, struct arena *arena,
                                     struct http_params *out, struct err *err)
{
    struct str dash =
        arena_printf(arena, "\r\n--%.*s", (int)boundary.len, boundary.len ? boundary.p : "");
    if (!dash.p) return arena_fail(arena, err);
    struct str first = {dash.p + 2, dash.len - 2}; /* no line break before the first one */
    const char *at = find(body, first);
    bool at_line = at && (at == body.p || at[-1] == '\n');
    if (boundary.len == 0 || !at_line) {
        note_bad(out, (struct str){NULL, 0});
        return ERR_OK;
    }
    body.len -= (size_t)(at - body.p) + first.len;
    body.p = at + first.len;
    while (!str_has_prefix(body, STR("--"))) {
        const char *eol = find(body, STR("\r\n"));
        const char *next =
            eol ? find((struct str){eol, body.len - (size_t)(eol - body.p)}, dash) : NULL;
        if (!next) { /* the closing line is missing */
            note_bad(out, (struct str){NULL, 0});
            return ERR_OK;
        }
        struct str part = {eol + 2, next > eol ? (size_t)(next - eol) - 2 : 0};
        enum err_code rc = parse_part(part, arena, out, err);
        if (rc) return rc;
        body.len -= (size_t)(next - body.p) + dash.len;
        body.p = next + dash.len;
    }
    return ERR_OK;
}

enum err_code http_params(struct http_request *req, struct http_params *out, struct err *err)
{
    *out = (struct http_params){0};
    if (req->method & (HTTP_POST | HTTP_PUT)) {
        struct str rest = http_header(req, "Content-Type", NULL);
        struct str type = take_token(&rest);
        struct str body = str_from_bytes(req->body);
        enum err_code rc = ERR_OK;
        if (eq_nocase(type, "application/x-www-form-urlencoded"))
            rc = http_params_parse(body, &req->arena, out, err);
        else if (eq_nocase(type, "multipart/form-data"))
            rc = parse_multipart(body, header_param(rest, "boundary", &req->arena), &req->arena,
                                 out, err);
        if (rc) return rc;
    }
    return http_params_parse(req->query, &req->arena, out, err);
}

struct str http_param(const struct http_params *params, const char *name)
{
    struct str wanted = str_of(name);
    for (size_t i = 0; i < params->n; i++)
        if (params->items[i].value.len && str_eq(params->items[i].name, wanted))
            return params->items[i].value;
    return (struct str){NULL, 0};
}

/* ---- the fake ---- */

static struct http_fake *fake_of(struct http_request *req)
{
    return CONTAINER_OF(req, struct http_fake, req);
}

static struct str fake_header(struct http_request *req, const char *name, size_t *count)
{
    struct str first = {NULL, 0};
    size_t n = 0;
    for (const char *(*h)[2] = fake_of(req)->headers; h && (*h)[0]; h++) {
        if (strcasecmp((*h)[0], name) != 0) continue;
        if (n++ == 0) first = str_of((*h)[1]);
    }
    if (count) *count = n;
    return first;
}

static void fake_set_header(struct http_request *req, const char *name, const char *value)
{
    ASSERT(fake_of(req)->status == 0); /* too late once the answer has begun */
    buf_printf(&fake_of(req)->sent_headers, "%s: %s\n", name, value);
}

static void fake_begin(struct http_request *req, unsigned status, const char *content_type)
{
    struct http_fake *fake = fake_of(req);
    ASSERT(fake->status == 0); /* answered exactly once */
    fake->status = status;
    snprintf(fake->content_type, sizeof(fake->content_type), "%s",
             content_type ? content_type : "");
}

static enum err_code fake_write(struct http_request *req, struct bytes part, struct err *err)
{
    struct http_fake *fake = fake_of(req);
    ASSERT(fake->status != 0);
    ASSERT(!fake->done);
    if (fake->gone) return err_set(err, ERR_CANCELED, "the client is gone");
    buf_put(&fake->body, part.p, part.len);
    return buf_finish(&fake->body, err);
}

/* As with the server, nothing of the request may be used after its answer. */
static void fake_end(struct http_request *req)
{
    struct http_fake *fake = fake_of(req);
    ASSERT(fake->status != 0);
    ASSERT(!fake->done);
    fake->done = true;
    arena_release(&req->arena);
}

static void fake_abort(struct http_request *req)
{
    struct http_fake *fake = fake_of(req);
    ASSERT(!fake->done);
    fake->done = fake->aborted = true;
    arena_release(&req->arena);
}

static bool fake_gone(struct http_request *req)
{
    return fake_of(req)->gone;
}

void http_fake_init(struct http_fake *fake, enum http_method method, const char *path,
                    const char *query, struct bytes body)
{
    static const struct http_request_ops ops = {
        .header = fake_header,
        .set_header = fake_set_header,
        .begin = fake_begin,
        .write = fake_write,
        .end = fake_end,
        .abort = fake_abort,
        .gone = fake_gone,
    };
    *fake = (struct http_fake){.req = {.ops = &ops,
                                       .method = method,
                                       .path = str_of(path),
                                       .query = str_of(query),
                                       .body = body,
                                       .remote = STR("127.0.0.1:4711")}};
    arena_init(&fake->req.arena, MEM_HTTP, 0);
    buf_init(&fake->sent_headers, MEM_HTTP);
    buf_init(&fake->body, MEM_HTTP);
}

void http_fake_release(struct http_fake *fake)
{
    arena_release(&fake->req.arena);
    buf_release(&fake->sent_headers);
    buf_release(&fake->body);
}
