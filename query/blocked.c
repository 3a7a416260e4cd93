/* query/blocked.c: see the header. */
#include "query/blocked.h"

#include "query/parser.h"
#include "query/regex.h"

struct entry {
    struct blocked_query query;
    struct str normal;   /* of the pattern as an expression; p NULL: it is none */
    struct regex *regex; /* NULL: it is none */
};
struct blocked_list {
    struct arena arena;
    struct entry *entries;
    size_t n;
};

static bool normal_form(struct str text, struct buf *out)
{
    struct arena arena;
    struct parse_result parsed = {0};
    struct err err;
    arena_init(&arena, MEM_QUERY, 0);
    bool fine = parse_expr(text, &arena, &parsed, &err) == ERR_OK;
    if (fine) ast_print(parsed.root, out);
    parse_release(&parsed);
    arena_release(&arena);
    return fine && !out->failed;
}

void query_normal_form(struct str text, struct buf *out)
{
    buf_reset(out);
    if (normal_form(text, out)) return;
    buf_reset(out);
    buf_text(out, text);
}

enum err_code blocked_check(struct str pattern, struct err *err)
{
    struct regex *regex = NULL;
    struct buf text;
    buf_init(&text, MEM_QUERY);
    enum err_code rc = regex_compile(pattern, &regex, err);
    if (rc == ERR_INVALID && normal_form(pattern, &text)) rc = ERR_OK;
    regex_free(regex);
    buf_release(&text);
    return rc;
}

static enum err_code fill_entry(struct blocked_list *list, const struct blocked_query *from,
                                struct entry *e, struct err *err)
{
    struct buf text;
    struct err ignored;
    e->query = (struct blocked_query){arena_str(&list->arena, from->pattern),
                                      arena_str(&list->arena, from->reason),
                                      arena_str(&list->arena, from->tenant)};
    if (!e->query.pattern.p || !e->query.reason.p || !e->query.tenant.p)
        return arena_fail(&list->arena, err);
    buf_init(&text, MEM_QUERY);
    bool is_expression = normal_form(from->pattern, &text);
    if (is_expression) e->normal = arena_str(&list->arena, str_from_bytes(buf_bytes(&text)));
    buf_release(&text);
    if (is_expression && !e->normal.p) return arena_fail(&list->arena, err);
    enum err_code rc = regex_compile(from->pattern, &e->regex, is_expression ? &ignored : err);
    return is_expression && rc == ERR_INVALID ? ERR_OK : rc;
}

enum err_code blocked_list_new(const struct blocked_query *items, size_t n,
                               struct blocked_list **out, struct err *err)
{
    *out = NULL;
    if (!n) return ERR_OK;
    struct blocked_list *list = mem_calloc(MEM_TOOLS, 1, sizeof(*list));
    if (!list) return err_set(err, ERR_NO_MEMORY, "no memory for the list of blocked queries");
    arena_init(&list->arena, MEM_TOOLS, 0);
    list->entries = ARENA_ARRAY(&list->arena, struct entry, n);
    enum err_code rc = list->entries ? ERR_OK : arena_fail(&list->arena, err);
    for (size_t i = 0; !rc && i < n; i++) {
        list->n = i + 1;
        rc = fill_entry(list, &items[i], &list->entries[i], err);
    }
    if (rc)
        blocked_list_free(list);
    else
        *out = list;
    return rc;
}

void blocked_list_free(struct blocked_list *list)
{
    if (!list) return;
    for (size_t i = 0; i < list->n; i++) regex_free(list->entries[i].regex);
    arena_release(&list->arena);
    mem_free(list);
}

const struct blocked_query *blocked_find(const struct blocked_list *list, struct str tenant,
                                         struct str text)
{
    const struct blocked_query *found = NULL;
    struct buf buf;
    if (!list) return NULL;
    buf_init(&buf, MEM_QUERY);
    query_normal_form(text, &buf);
    struct str normal = str_from_bytes(buf_bytes(&buf));
    for (size_t i = 0; i < list->n && !found; i++) {
        const struct entry *e = &list->entries[i];
        if (e->query.tenant.len && !str_eq(e->query.tenant, tenant)) continue;
        bool same = e->normal.p && str_eq(e->normal, normal);
        if (!same && e->regex) same = regex_match(e->regex, text) || regex_match(e->regex, normal);
        if (same) found = &e->query;
    }
    buf_release(&buf);
    return found;
}
