/* tools/query_hint.c: see the header. */
#include "tools/query_hint.h"

#include <stdio.h>

#include "query/function.h"
#include "query/nearest.h"
#include "query/parser.h"

void query_hint_error(struct str message, struct buf *out)
{
    static const char BEFORE[] = "unknown function with name \"";
    char text[512], name[NEAREST_BYTES_MAX + 1];
    snprintf(text, sizeof(text), "%.*s", STR_ARG(message));
    const char *at = strstr(text, BEFORE);
    const char *end = at ? strchr(at + sizeof(BEFORE) - 1, '"') : NULL;
    if (!end) return;
    at += sizeof(BEFORE) - 1;
    if ((size_t)(end - at) >= sizeof(name)) return;
    const char *nearest = function_nearest((struct str){at, (size_t)(end - at)});
    if (nearest) buf_printf(out, "did you mean %s()?\n", nearest);
}

struct hints {
    const cJSON *metrics, *labels;
    struct buf *out;
};

static void hint(struct hints *h, const cJSON *known, const char *what, struct str name)
{
    struct nearest nearest;
    const cJSON *item;
    nearest_begin(&nearest, name);
    cJSON_ArrayForEach(item, known)
    {
        if (!cJSON_IsString(item)) continue;
        struct str text = str_of(item->valuestring);
        if (str_eq(text, name)) return;
        nearest_try(&nearest, text);
    }
    if (!cJSON_IsArray(known)) return;
    buf_printf(h->out, "there is no %s \"%.*s\"", what, STR_ARG(name));
    if (nearest.best.p) buf_printf(h->out, "; did you mean \"%.*s\"?", STR_ARG(nearest.best));
    buf_u8(h->out, '\n');
}

static bool visit(void *ctx, struct node *node)
{
    struct hints *h = ctx;
    if (node->kind != NODE_SELECTOR) return true;
    const struct node_selector *s = NODE_AS(selector, node);
    for (size_t i = 0; i < s->n_matchers; i++) {
        const struct matcher *m = &s->matchers[i];
        bool is_name = str_eq(m->name, STR(LABEL_NAME));
        if (is_name && m->op == MATCH_EQ)
            hint(h, h->metrics, "metric", m->value);
        else if (!is_name && !matcher_matches_empty(m)) /* else a missing label is fine */
            hint(h, h->labels, "label", m->name);
    }
    return true;
}

void query_hint_empty(struct str query, const cJSON *metrics, const cJSON *labels, struct buf *out)
{
    struct arena arena;
    struct parse_result parsed;
    struct err err;
    struct hints hints = {metrics, labels, out};
    arena_init(&arena, MEM_TOOLS, 64u << 20);
    if (parse_expr(query, &arena, &parsed, &err) == ERR_OK) node_walk(parsed.root, visit, &hints);
    parse_release(&parsed);
    arena_release(&arena);
}
