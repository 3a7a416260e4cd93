/* query/read_request.c: see the header. Two passes over each list: one counts, so that nothing grows. */
#include "query/read_request.h"

#include <stdio.h>

#include "base/protobuf.h"

/* How often a field with a message stands in `message`. */
static enum err_code count_messages(struct bytes message, const char *name, uint32_t number,
                                    const char *field, size_t *n, struct err *err)
{
    struct pb pb = pb_init(message, name);
    struct pb_field f;
    *n = 0;
    while (pb_next(&pb, &f))
        if (f.number == number && pb_expect(&pb, &f, PB_LEN, field)) ++*n;
    return pb_finish(&pb, err);
}

static enum err_code compile(struct read_request *request, struct matcher *m, size_t *bytes,
                             struct err *err)
{
    struct regex *re;
    enum err_code rc = regex_compile(m->value, &re, err);
    if (rc) return rc;
    request->regexes[request->n_regexes++] = re;
    *bytes += regex_bytes(re);
    if (*bytes > READ_REGEX_BYTES_MAX)
        return err_set(err, ERR_LIMIT, "regular expressions need more than %u bytes",
                       READ_REGEX_BYTES_MAX);
    m->re = re;
    m->re_match = regex_match;
    m->literals = regex_literals(re, &m->n_literals);
    m->prefix = regex_prefix(re);
    return ERR_OK;
}

static enum err_code read_matcher(struct bytes message, struct matcher *m, struct err *err)
{
    static const enum matcher_op OPS[] = {MATCH_EQ, MATCH_NEQ, MATCH_RE, MATCH_NRE};
    struct pb pb = pb_init(message, "LabelMatcher");
    struct pb_field f;
    uint64_t type = 0;
    *m = (struct matcher){.name = STR(""), .value = STR("")};
    while (pb_next(&pb, &f)) {
        if (f.number == 1 && pb_expect(&pb, &f, PB_VARINT, "Type")) type = f.u;
        if (f.number == 2 && pb_expect(&pb, &f, PB_LEN, "Name")) m->name = str_from_bytes(f.bytes);
        if (f.number == 3 && pb_expect(&pb, &f, PB_LEN, "Value"))
            m->value = str_from_bytes(f.bytes);
    }
    enum err_code rc = pb_finish(&pb, err);
    if (rc) return rc;
    if (type >= COUNT_OF(OPS)) return err_set(err, ERR_INVALID, "invalid matcher type");
    m->op = OPS[type];
    return ERR_OK;
}

static enum err_code read_query(struct bytes message, struct arena *arena, struct read_query *q,
                                struct err *err)
{
    size_t n;
    struct pb_field f;
    struct pb pb = pb_init(message, "Query");
    enum err_code rc = count_messages(message, "Query", 3, "Matchers", &n, err);
    if (rc) return rc;
    if (n > READ_MATCHERS_MAX)
        return err_set(err, ERR_LIMIT, "%zu matchers, more than %u", n, READ_MATCHERS_MAX);
    q->matchers = ARENA_ARRAY(arena, struct matcher, n + 1);
    if (!q->matchers) return arena_fail(arena, err);
    while (!rc && pb_next(&pb, &f)) {
        if (f.number == 1 && pb_expect(&pb, &f, PB_VARINT, "StartTimestampMs"))
            q->start_ms = (int64_t)f.u;
        if (f.number == 2 && pb_expect(&pb, &f, PB_VARINT, "EndTimestampMs"))
            q->end_ms = (int64_t)f.u;
        if (f.number == 3 && pb_expect(&pb, &f, PB_LEN, "Matchers"))
            rc = read_matcher(f.bytes, &q->matchers[q->n_matchers++], err);
    }
    return rc ? rc : pb_finish(&pb, err);
}

/* " 7 8": what was asked for, for the error's text; longer lists than anybody sends are cut. */
struct type_list {
    char text[128];
    size_t len;
};

static void type_list_add(struct type_list *list, uint64_t type)
{
    size_t left = sizeof(list->text) - list->len;
    int n = snprintf(list->text + list->len, left, "%s%llu", list->len ? " " : "",
                     (unsigned long long)type);
    if (n > 0 && (size_t)n < left) list->len += (size_t)n;
    list->text[list->len] = 0;
}

/* The first type that there is, as the answer's. */
static enum err_code read_types(struct bytes message, struct read_request *out, struct err *err)
{
    struct pb pb = pb_init(message, "ReadRequest");
    struct pb_field f;
    struct pb_packed packed;
    struct type_list asked = {.len = 0};
    bool known = false;
    uint64_t u;
    while (pb_next(&pb, &f)) {
        if (f.number != 2) continue;
        if (!pb_packed_init(&pb, &f, PB_VARINT, "AcceptedResponseTypes", &packed)) break;
        while (pb_packed_next(&packed, PB_VARINT, &u)) {
            type_list_add(&asked, u);
            if (known || u > READ_STREAMED_XOR_CHUNKS) continue;
            known = true;
            out->type = (enum read_type)u;
        }
        enum err_code rc = packed.single ? ERR_OK : pb_finish(&packed.pb, err);
        if (rc) return rc;
    }
    enum err_code rc = pb_finish(&pb, err);
    if (rc || known || !asked.len) return rc;
    return err_set(err, ERR_INVALID,
                   "server does not support any of the requested response types: [%s]; supported: "
                   "map[SAMPLES:{} STREAMED_XOR_CHUNKS:{}]",
                   asked.text);
}

static enum err_code compile_all(struct read_request *request, struct arena *arena, struct err *err)
{
    size_t n = 0, bytes = 0;
    for (size_t i = 0; i < request->n_queries; i++) n += request->queries[i].n_matchers;
    request->regexes = ARENA_ARRAY(arena, struct regex *, n + 1);
    if (!request->regexes) return arena_fail(arena, err);
    for (size_t i = 0; i < request->n_queries; i++) {
        struct read_query *q = &request->queries[i];
        for (size_t k = 0; k < q->n_matchers; k++) {
            struct matcher *m = &q->matchers[k];
            enum err_code rc = ERR_OK;
            if (m->op == MATCH_RE || m->op == MATCH_NRE) rc = compile(request, m, &bytes, err);
            if (rc) return rc;
        }
    }
    return ERR_OK;
}

enum err_code read_request_parse(struct bytes message, struct arena *arena,
                                 struct read_request *out, struct err *err)
{
    size_t n;
    struct pb_field f;
    struct pb pb = pb_init(message, "ReadRequest");
    *out = (struct read_request){.type = READ_SAMPLES};
    enum err_code rc = count_messages(message, "ReadRequest", 1, "Queries", &n, err);
    if (!rc && n > READ_QUERIES_MAX)
        rc = err_set(err, ERR_LIMIT, "%zu queries, more than %u", n, READ_QUERIES_MAX);
    if (rc) return rc;
    out->queries = ARENA_ARRAY(arena, struct read_query, n + 1);
    if (!out->queries) return arena_fail(arena, err);
    while (!rc && pb_next(&pb, &f))
        if (f.number == 1) rc = read_query(f.bytes, arena, &out->queries[out->n_queries++], err);
    if (!rc) rc = read_types(message, out, err);
    return rc ? rc : compile_all(out, arena, err);
}

void read_request_release(struct read_request *request)
{
    for (size_t i = 0; i < request->n_regexes; i++) regex_free(request->regexes[i]);
    request->n_regexes = 0;
}
