/* tools/explain_print.c: two passes: how wide the tree is, then lines with figures beside it. */
#include "tools/explain_print.h"

#include <stdio.h>

#include "tools/cli.h"

#define DEPTH_MAX 200 /* the parser's trees are no higher */
#define FIGURES_COLUMNS 62
#define TREE_COLUMNS_MIN 24

struct printer {
    struct buf *out;
    size_t tree_columns;
    bool ran;
    bool more[DEPTH_MAX]; /* a brother follows at that depth */
};

static double number_of(const cJSON *node, const char *group, const char *name)
{
    const cJSON *n = cJSON_GetObjectItem(group ? cJSON_GetObjectItem(node, group) : node, name);
    return cJSON_IsNumber(n) ? n->valuedouble : 0;
}

static struct str text_of(const cJSON *node, const char *name)
{
    const cJSON *s = cJSON_GetObjectItem(node, name);
    return cJSON_IsString(s) ? str_of(s->valuestring) : STR("");
}

/* "1.23 s", "45.6 ms", "789 us" */
static const char *human_seconds(double v, char *buf, size_t size)
{
    if (v >= 1)
        snprintf(buf, size, "%.2f s", v);
    else if (v >= 1e-3)
        snprintf(buf, size, "%.1f ms", v * 1e3);
    else
        snprintf(buf, size, "%.0f us", v * 1e6);
    return buf;
}

/* Characters, not bytes: expressions may be in any script. */
static size_t width_of(struct str s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) n += ((uint8_t)s.p[i] & 0xc0) != 0x80;
    return n;
}

static void put_padded(struct buf *out, struct str s, size_t columns)
{
    size_t width = width_of(s);
    if (width > columns) { /* the end goes */
        size_t n = 0, i = 0;
        while (i < s.len && n + 1 < columns) {
            i++;
            while (i < s.len && ((uint8_t)s.p[i] & 0xc0) == 0x80) i++;
            n++;
        }
        buf_text(out, (struct str){s.p, i});
        buf_text(out, STR("…"));
        return;
    }
    buf_text(out, s);
    for (; width < columns; width++) buf_u8(out, ' ');
}

static void put_figures(struct printer *p, const cJSON *node)
{
    char series[32], samples[32], looks[32], seconds[32], self[32];
    const char *group = p->ran ? "measured" : "estimated";
    bool shown = cJSON_GetObjectItem(node, group) != NULL;
    if (!shown) {
        buf_text(p->out, STR("      not run"));
        return;
    }
    cli_human(number_of(node, group, "series"), series, sizeof(series));
    cli_human(number_of(node, "estimated", "samples"), samples, sizeof(samples));
    cli_human(number_of(node, group, "windowSamples"), looks, sizeof(looks));
    human_seconds(number_of(node, group, "seconds"), seconds, sizeof(seconds));
    human_seconds(number_of(node, group, "selfSeconds"), self, sizeof(self));
    buf_printf(p->out, "%10s %10s %9s %10s %10s", seconds, p->ran ? self : "-", series, looks,
               samples);
}

static void print_node(struct printer *p, const cJSON *node, size_t depth, bool last)
{
    struct buf line;
    buf_init(&line, MEM_TOOLS);
    for (size_t i = 1; i < depth; i++) buf_text(&line, p->more[i] ? STR("│  ") : STR("   "));
    if (depth) buf_text(&line, last ? STR("└─ ") : STR("├─ "));
    struct str expr = text_of(node, "expr");
    buf_text(&line, text_of(node, "node"));
    if (expr.len) buf_printf(&line, "  %.*s", STR_ARG(expr));
    for (size_t i = 0; i < line.len; i++)
        if (line.p[i] == '\n' || line.p[i] == '\t') line.p[i] = ' ';
    put_padded(p->out, str_from_bytes(buf_bytes(&line)), p->tree_columns);
    p->out->failed |= line.failed;
    buf_release(&line);
    put_figures(p, node);
    buf_u8(p->out, '\n');
    const cJSON *children = cJSON_GetObjectItem(node, "children"), *child;
    if (depth + 1 >= DEPTH_MAX) return;
    p->more[depth] = !last;
    cJSON_ArrayForEach(child, children) print_node(p, child, depth + 1, child->next == NULL);
}

enum err_code explain_print_tree(const cJSON *explain, size_t columns, struct buf *out,
                                 struct err *err)
{
    if (!cJSON_IsObject(explain) || !text_of(explain, "node").len)
        return err_set(err, ERR_INVALID, "the server explained nothing");
    struct printer p = {.out = out};
    p.ran = cJSON_GetObjectItem(explain, "measured") != NULL;
    p.tree_columns =
        columns > FIGURES_COLUMNS + TREE_COLUMNS_MIN ? columns - FIGURES_COLUMNS : TREE_COLUMNS_MIN;
    char time[32];
    put_padded(out, p.ran ? STR("measured") : STR("estimated"), p.tree_columns);
    buf_printf(out, "%10s %10s %9s %10s %10s\n", "time", "itself", "series", "looked at", "stored");
    print_node(&p, explain, 0, true);
    buf_printf(out, "\n%.0f steps; estimate: %s", number_of(explain, NULL, "steps"),
               human_seconds(number_of(explain, "estimated", "seconds"), time, sizeof(time)));
    buf_text(out, STR(" on one thread. Looked at: samples in windows, at each step; stored: "
                      "samples to read, by estimate.\n"));
    return buf_finish(out, err);
}
