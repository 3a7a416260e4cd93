/* tools/query_print.c */
#include "tools/query_print.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tools/cli.h"

#define COLUMNS_MAX 64
#define PLOT_WIDTH_MIN 16

/* ---- cells ---- */

/* Columns on a terminal: characters, not bytes. */
static size_t text_width(struct str s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) n += ((unsigned char)s.p[i] & 0xc0) != 0x80;
    return n;
}

/* Control characters, which could move the cursor or forge lines, are shown as escapes. */
static void put_safe(struct buf *out, struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c < 0x20 || c == 0x7f)
            buf_printf(out, "\\x%02x", c);
        else
            buf_u8(out, c);
    }
}

static void put_blanks(struct buf *out, size_t n)
{
    while (n--) buf_u8(out, ' ');
}

static void put_csv(struct buf *out, struct str s)
{
    bool quote = false;
    for (size_t i = 0; i < s.len; i++) quote |= strchr(",\"\r\n", s.p[i]) != NULL;
    if (!quote) {
        buf_text(out, s);
        return;
    }
    buf_u8(out, '"');
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] == '"') buf_u8(out, '"');
        buf_u8(out, (uint8_t)s.p[i]);
    }
    buf_u8(out, '"');
}

/* A grid of texts: cells are slices of one buffer. */
struct grid {
    struct buf text;
    struct buf ends; /* size_t: where each cell's text ends */
    size_t n_columns, n_cells;
    bool csv;
    bool right[COLUMNS_MAX]; /* numbers stand at the right */
};

static void grid_init(struct grid *g, const struct query_print *how)
{
    *g = (struct grid){.csv = how->format == QUERY_CSV};
    buf_init(&g->text, MEM_TOOLS);
    buf_init(&g->ends, MEM_TOOLS);
}

static void grid_release(struct grid *g)
{
    buf_release(&g->text);
    buf_release(&g->ends);
}

static void grid_end_cell(struct grid *g)
{
    buf_u64(&g->ends, g->text.len);
    g->n_cells++;
}

static void grid_cell(struct grid *g, struct str s)
{
    if (g->csv)
        buf_text(&g->text, s);
    else
        put_safe(&g->text, s);
    grid_end_cell(g);
}

static struct str grid_get(const struct grid *g, size_t i)
{
    size_t from = i ? get_u64_le(g->ends.p + 8 * (i - 1)) : 0, to = get_u64_le(g->ends.p + 8 * i);
    return (struct str){(const char *)g->text.p + from, to - from};
}

static void grid_print_table(const struct grid *g, struct buf *out)
{
    size_t widths[COLUMNS_MAX] = {0};
    for (size_t i = 0; i < g->n_cells; i++)
        widths[i % g->n_columns] = MAX_OF(widths[i % g->n_columns], text_width(grid_get(g, i)));
    for (size_t i = 0; i < g->n_cells; i++) {
        size_t c = i % g->n_columns;
        struct str s = grid_get(g, i);
        size_t blanks = widths[c] - text_width(s);
        bool last = c + 1 == g->n_columns;
        if (g->right[c]) put_blanks(out, blanks);
        buf_text(out, s);
        if (!g->right[c] && !last) put_blanks(out, blanks);
        buf_text(out, last ? STR("\n") : STR("  "));
    }
}

static void grid_print_csv(const struct grid *g, struct buf *out)
{
    for (size_t i = 0; i < g->n_cells; i++) {
        put_csv(out, grid_get(g, i));
        buf_text(out, (i + 1) % g->n_columns ? STR(",") : STR("\r\n"));
    }
}

static void grid_print(const struct grid *g, struct buf *out)
{
    if (g->csv)
        grid_print_csv(g, out);
    else
        grid_print_table(g, out);
}

/* ---- labels as columns ---- */

struct columns {
    const char *names[COLUMNS_MAX - 8]; /* places for time, value and so on are left */
    size_t n;
};

static int compare_names(const void *a, const void *b)
{
    const char *x = *(const char *const *)a, *y = *(const char *const *)b;
    bool xn = strcmp(x, "__name__") == 0, yn = strcmp(y, "__name__") == 0;
    return xn != yn ? yn - xn : strcmp(x, y); /* the metric's name first */
}

static void collect_columns(const cJSON *result, struct columns *columns)
{
    columns->n = 0;
    const cJSON *series;
    cJSON_ArrayForEach(series, result)
    {
        const cJSON *label;
        cJSON_ArrayForEach(label, cJSON_GetObjectItem(series, "metric"))
        {
            size_t i = 0;
            while (i < columns->n && strcmp(columns->names[i], label->string) != 0) i++;
            if (i == columns->n && columns->n < COUNT_OF(columns->names))
                columns->names[columns->n++] = label->string;
        }
    }
    qsort(columns->names, columns->n, sizeof(columns->names[0]), compare_names);
}

static struct str text_of(const cJSON *item)
{
    return str_of(cJSON_IsString(item) ? item->valuestring : "");
}

static void put_label_cells(struct grid *g, const struct columns *columns, const cJSON *series)
{
    const cJSON *metric = cJSON_GetObjectItem(series, "metric");
    for (size_t i = 0; i < columns->n; i++)
        grid_cell(g, text_of(cJSON_GetObjectItemCaseSensitive(metric, columns->names[i])));
}

static void put_column_heads(struct grid *g, const struct columns *columns)
{
    for (size_t i = 0; i < columns->n; i++)
        grid_cell(g, strcmp(columns->names[i], "__name__") == 0 ? STR("metric")
                                                                : str_of(columns->names[i]));
}

/* Cell of a [time, "value"] or [time, {histogram}]. */
static void put_value_cell(struct grid *g, const cJSON *pair)
{
    const cJSON *v = cJSON_GetArrayItem(pair, 1);
    if (cJSON_IsObject(v)) {
        struct str count = text_of(cJSON_GetObjectItem(v, "count"));
        struct str sum = text_of(cJSON_GetObjectItem(v, "sum"));
        buf_printf(&g->text, "{count:%.*s, sum:%.*s}", STR_ARG(count), STR_ARG(sum));
        grid_end_cell(g);
    } else {
        grid_cell(g, text_of(v));
    }
}

static void put_time_cell(struct grid *g, const cJSON *pair)
{
    double t = cJSON_GetNumberValue(cJSON_GetArrayItem(pair, 0));
    double whole = floor(t);
    time_t seconds = (time_t)whole;
    struct tm tm;
    char text[64];
    gmtime_r(&seconds, &tm);
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    buf_text(&g->text, str_of(text));
    if (t != whole) buf_printf(&g->text, ".%03d", (int)rint((t - whole) * 1000));
    buf_u8(&g->text, 'Z');
    grid_end_cell(g);
}

/* ---- the four types of result ---- */

static void print_vector(const struct query_print *how, const cJSON *result, struct buf *out)
{
    struct columns columns;
    struct grid g;
    collect_columns(result, &columns);
    grid_init(&g, how);
    g.n_columns = columns.n + 1 + g.csv;
    g.right[g.n_columns - 1] = true;
    put_column_heads(&g, &columns);
    if (g.csv) grid_cell(&g, STR("time"));
    grid_cell(&g, STR("value"));
    const cJSON *series;
    cJSON_ArrayForEach(series, result)
    {
        const cJSON *pair = cJSON_GetObjectItem(series, "value");
        if (!pair) pair = cJSON_GetObjectItem(series, "histogram");
        put_label_cells(&g, &columns, series);
        if (g.csv) put_time_cell(&g, pair);
        put_value_cell(&g, pair);
    }
    grid_print(&g, out);
    grid_release(&g);
}

static void print_points(const struct query_print *how, const cJSON *result, struct buf *out)
{
    static const char *const members[] = {"values", "histograms"};
    struct columns columns;
    struct grid g;
    collect_columns(result, &columns);
    grid_init(&g, how);
    g.n_columns = columns.n + 2;
    g.right[g.n_columns - 1] = true;
    put_column_heads(&g, &columns);
    grid_cell(&g, STR("time"));
    grid_cell(&g, STR("value"));
    const cJSON *series, *pair;
    cJSON_ArrayForEach(series, result)
    {
        for (size_t m = 0; m < COUNT_OF(members); m++)
            cJSON_ArrayForEach(pair, cJSON_GetObjectItem(series, members[m]))
            {
                put_label_cells(&g, &columns, series);
                put_time_cell(&g, pair);
                put_value_cell(&g, pair);
            }
    }
    grid_print(&g, out);
    grid_release(&g);
}

/* ---- plots: eight heights of a bar per column, as many columns as fit ---- */

struct plot {
    double min, max, last;
    size_t n;
    double *cells; /* mean of the points of each column; NaN: none */
    size_t width;
};

static double pair_value(const cJSON *pair)
{
    const cJSON *v = cJSON_GetArrayItem(pair, 1);
    return cJSON_IsString(v) ? strtod(v->valuestring, NULL) : NAN;
}

static void plot_fill(struct plot *plot, const struct query_print *how, const cJSON *values,
                      double *counts)
{
    plot->min = DBL_MAX;
    plot->max = -DBL_MAX;
    plot->last = NAN;
    plot->n = 0;
    for (size_t i = 0; i < plot->width; i++) plot->cells[i] = counts[i] = 0;
    const cJSON *pair;
    cJSON_ArrayForEach(pair, values)
    {
        double t_ms = cJSON_GetNumberValue(cJSON_GetArrayItem(pair, 0)) * 1000,
               v = pair_value(pair);
        double span = (double)(how->end_ms - how->start_ms);
        double at = span > 0 ? (t_ms - (double)how->start_ms) / span * (double)plot->width : 0;
        size_t i = at <= 0 ? 0 : MIN_OF((size_t)at, plot->width - 1);
        plot->n++;
        plot->last = v;
        if (!isfinite(v)) continue;
        plot->min = fmin(plot->min, v);
        plot->max = fmax(plot->max, v);
        plot->cells[i] += v;
        counts[i]++;
    }
    for (size_t i = 0; i < plot->width; i++)
        plot->cells[i] = counts[i] ? plot->cells[i] / counts[i] : NAN;
}

static void plot_draw(const struct plot *plot, struct buf *out)
{
    static const char *const bars[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    for (size_t i = 0; i < plot->width; i++) {
        double v = plot->cells[i];
        if (isnan(v)) {
            buf_u8(out, ' ');
            continue;
        }
        double share = plot->max > plot->min ? (v - plot->min) / (plot->max - plot->min) : 0.5;
        buf_text(out, str_of(bars[MIN_OF((size_t)(share * 8), (size_t)7)]));
    }
}

static void put_labels_text(struct buf *out, const cJSON *metric)
{
    const cJSON *name = cJSON_GetObjectItemCaseSensitive(metric, "__name__"), *label;
    bool any = false;
    buf_text(out, text_of(name));
    buf_u8(out, '{');
    cJSON_ArrayForEach(label, metric)
    {
        if (label == name) continue;
        buf_text(out, any ? STR(", ") : STR(""));
        buf_text(out, str_of(label->string));
        buf_text(out, STR("=\""));
        put_safe(out, text_of(label));
        buf_u8(out, '"');
        any = true;
    }
    buf_u8(out, '}');
}

static void put_number(struct buf *out, const char *name, double v)
{
    char text[32];
    buf_printf(out, "  %s %s", name, isfinite(v) ? cli_human(v, text, sizeof(text)) : "-");
}

static enum err_code print_plots(const struct query_print *how, const cJSON *result,
                                 struct buf *out, struct err *err)
{
    struct plot plot = {.width = MAX_OF(how->columns, (size_t)PLOT_WIDTH_MIN + 4) - 4};
    if (how->step_ms > 0) { /* no more columns than points, else there are holes */
        size_t n_steps = (size_t)((how->end_ms - how->start_ms) / how->step_ms) + 1;
        plot.width = MIN_OF(plot.width, MAX_OF(n_steps, (size_t)1));
    }
    plot.cells = mem_calloc(MEM_TOOLS, plot.width * 2, sizeof(double));
    if (!plot.cells) return err_set(err, ERR_NO_MEMORY, "no memory for a plot");
    const cJSON *series;
    cJSON_ArrayForEach(series, result)
    {
        const cJSON *values = cJSON_GetObjectItem(series, "values");
        plot_fill(&plot, how, values, plot.cells + plot.width);
        put_labels_text(out, cJSON_GetObjectItem(series, "metric"));
        buf_u8(out, '\n');
        buf_text(out, STR("    "));
        plot_draw(&plot, out);
        buf_printf(out, "\n   ");
        bool any = plot.min <= plot.max;
        put_number(out, "min", any ? plot.min : NAN);
        put_number(out, "max", any ? plot.max : NAN);
        put_number(out, "last", plot.last);
        buf_printf(out, "  %zu points\n", plot.n);
    }
    mem_free(plot.cells);
    return ERR_OK;
}

enum err_code query_print(const struct query_print *how, const cJSON *data, struct buf *out,
                          struct err *err)
{
    struct str type = text_of(cJSON_GetObjectItem(data, "resultType"));
    const cJSON *result = cJSON_GetObjectItem(data, "result");
    if (!cJSON_IsArray(result)) return err_set(err, ERR_CORRUPT, "the answer has no result");
    bool is_series = str_eq(type, STR("vector")) || str_eq(type, STR("matrix"));
    if (is_series && cJSON_GetArraySize(result) == 0) {
        if (how->format == QUERY_TABLE) buf_text(out, STR("(empty result)\n"));
        return ERR_OK;
    }
    if (str_eq(type, STR("vector"))) {
        print_vector(how, result, out);
    } else if (str_eq(type, STR("matrix"))) {
        if (how->plot && how->format == QUERY_TABLE) return print_plots(how, result, out, err);
        print_points(how, result, out);
    } else {
        put_safe(out, text_of(cJSON_GetArrayItem(result, 1)));
        buf_u8(out, '\n');
    }
    return buf_finish(out, err);
}

/* ---- where a query is wrong ---- */

/* Of the name or number that begins s; 0: there is none. */
static size_t word_bytes(struct str s)
{
    size_t n = 0;
    for (; n < s.len; n++) {
        unsigned char c = (unsigned char)s.p[n], lower = c | 0x20;
        bool word =
            (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == ':';
        if (!word) break;
    }
    return n;
}

void query_print_place(struct str query, struct str message, struct buf *out)
{
    static const char mark[] = ": parse error:";
    char text[512];
    snprintf(text, sizeof(text), "%.*s", STR_ARG(message));
    char *at = strstr(text, mark);
    if (!at) return;
    while (at > text && ((at[-1] >= '0' && at[-1] <= '9') || at[-1] == ':')) at--;
    unsigned long line = 0, column = 0;
    if (sscanf(at, "%lu:%lu", &line, &column) != 2 || line == 0 || column == 0) return;
    struct str rest = query;
    for (unsigned long i = 1; i < line; i++) {
        const char *newline = memchr(rest.p, '\n', rest.len);
        if (!newline) return;
        rest.len -= (size_t)(newline + 1 - rest.p);
        rest.p = newline + 1;
    }
    const char *newline = memchr(rest.p, '\n', rest.len);
    if (newline) rest.len = (size_t)(newline - rest.p);
    size_t before = MIN_OF((size_t)column - 1, rest.len); /* columns are bytes */
    buf_text(out, STR("  "));
    put_safe(out, rest);
    buf_text(out, STR("\n  "));
    put_blanks(out, text_width((struct str){rest.p, before}));
    size_t n = word_bytes((struct str){rest.p + before, rest.len - before});
    n = text_width((struct str){rest.p + before, n});
    for (size_t i = 0; i < MAX_OF(n, (size_t)1); i++) buf_u8(out, '^');
    buf_u8(out, '\n');
}
