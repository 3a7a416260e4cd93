/* ingest/json_lines.c: see the header. A cursor goes through the line once; arrays of numbers are counted by their commas
 * before memory is taken for them, so that a line takes about as much as its bytes. */
#include "ingest/json_lines.h"

#include <math.h>

#include "ingest/number_text.h"

#define COUNT_EXACT_MAX 9007199254740992.0 /* 2^53: larger whole numbers are not told apart */

struct json {
    const char *start, *p, *end;
    struct arena *arena;
    struct err *err;
};

static enum err_code bad(const struct json *j, const char *what)
{
    return err_set(j->err, ERR_INVALID, "%s at byte %zu", what, (size_t)(j->p - j->start) + 1);
}

static void skip_blanks(struct json *j)
{
    while (j->p < j->end && (*j->p == ' ' || *j->p == '\t' || *j->p == '\r' || *j->p == '\n'))
        j->p++;
}

static bool next_is(struct json *j, char c)
{
    skip_blanks(j);
    return j->p < j->end && *j->p == c;
}

static bool take(struct json *j, char c)
{
    if (!next_is(j, c)) return false;
    j->p++;
    return true;
}

/* ---- strings ---- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The four digits after \u; -1 when they are none. */
static int32_t take_hex(struct json *j)
{
    int32_t rune = 0;
    if (j->end - j->p < 4) return -1;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(j->p[i]);
        if (digit < 0) return -1;
        rune = rune << 4 | digit;
    }
    j->p += 4;
    return rune;
}

static size_t put_rune(char *to, uint32_t rune)
{
    if (rune < 0x80) {
        to[0] = (char)rune;
        return 1;
    }
    if (rune < 0x800) {
        to[0] = (char)(0xc0 | rune >> 6);
        to[1] = (char)(0x80 | (rune & 0x3f));
        return 2;
    }
    if (rune < 0x10000) {
        to[0] = (char)(0xe0 | rune >> 12);
        to[1] = (char)(0x80 | (rune >> 6 & 0x3f));
        to[2] = (char)(0x80 | (rune & 0x3f));
        return 3;
    }
    to[0] = (char)(0xf0 | rune >> 18);
    to[1] = (char)(0x80 | (rune >> 12 & 0x3f));
    to[2] = (char)(0x80 | (rune >> 6 & 0x3f));
    to[3] = (char)(0x80 | (rune & 0x3f));
    return 4;
}

/* Behind the backslash. What an escape becomes is never longer than the escape. */
static enum err_code take_escape(struct json *j, char *to, size_t *len)
{
    static const char FROM[] = "\"\\/bfnrt", TO[] = "\"\\/\b\f\n\r\t";
    if (j->p == j->end) return bad(j, "a string without an end");
    char c = *j->p++;
    const char *at = c ? strchr(FROM, c) : NULL;
    if (at) {
        to[(*len)++] = TO[at - FROM];
        return ERR_OK;
    }
    int32_t rune = c == 'u' ? take_hex(j) : -1;
    if (rune >= 0xd800 && rune < 0xdc00 && j->end - j->p >= 2 && j->p[0] == '\\' &&
        j->p[1] == 'u') {
        j->p += 2;
        int32_t low = take_hex(j);
        rune =
            low >= 0xdc00 && low < 0xe000 ? 0x10000 + ((rune - 0xd800) << 10) + (low - 0xdc00) : -1;
    }
    if (rune < 0 || (rune >= 0xd800 && rune < 0xe000)) return bad(j, "a bad escape");
    *len += put_rune(to + *len, (uint32_t)rune);
    return ERR_OK;
}

/* In the line where nothing is escaped, else in the arena. */
static enum err_code take_string(struct json *j, struct str *out)
{
    if (!take(j, '"')) return bad(j, "a string is expected");
    const char *from = j->p;
    while (j->p < j->end && *j->p != '"' && *j->p != '\\') j->p++;
    if (j->p < j->end && *j->p == '"') {
        *out = (struct str){from, (size_t)(j->p++ - from)};
        return ERR_OK;
    }
    const char *stop = j->p;
    while (stop < j->end && *stop != '"') stop += *stop == '\\' && j->end - stop > 1 ? 2 : 1;
    if (stop >= j->end) return bad(j, "a string without an end");
    char *to = arena_alloc(j->arena, (size_t)(stop - from) + 1, 1);
    if (!to) return arena_fail(j->arena, j->err);
    size_t len = 0;
    for (j->p = from; *j->p != '"';) {
        if (*j->p != '\\') {
            to[len++] = *j->p++;
            continue;
        }
        j->p++;
        enum err_code rc = take_escape(j, to, &len);
        if (rc) return rc;
    }
    j->p++;
    *out = (struct str){to, len};
    return ERR_OK;
}

/* ---- values of no interest ---- */

static void take_word(struct json *j, struct str *out)
{
    skip_blanks(j);
    const char *from = j->p;
    while (j->p < j->end && !strchr(" \t\r\n,:]}[{\"", *j->p)) j->p++;
    *out = (struct str){from, (size_t)(j->p - from)};
}

/* Passes over a value of any form; nesting is counted, not followed. */
static enum err_code skip_value(struct json *j)
{
    size_t depth = 0;
    do {
        struct str ignored;
        skip_blanks(j);
        if (j->p == j->end) return bad(j, "the line ends too early");
        char c = *j->p;
        if (c == '"') {
            enum err_code rc = take_string(j, &ignored);
            if (rc) return rc;
        } else if (c == '[' || c == '{') {
            if (++depth > JSON_LINES_DEPTH_MAX) return bad(j, "too deep a nesting");
            j->p++;
        } else if (c == ']' || c == '}') {
            if (!depth) return bad(j, "a value is expected");
            depth--;
            j->p++;
        } else if (c == ',' || c == ':') {
            if (!depth) return bad(j, "a value is expected");
            j->p++;
        } else {
            take_word(j, &ignored);
            if (!ignored.len) return bad(j, "a value is expected"); /* NUL */
        }
    } while (depth);
    return ERR_OK;
}

/* ---- numbers ---- */

static enum err_code take_number(struct json *j, double *out)
{
    struct str text;
    if (next_is(j, '"')) {
        const char *at = j->p;
        enum err_code rc = take_string(j, &text);
        if (rc) return rc;
        bool is_null = str_eq(text, STR("null")) || str_eq(text, STR("Null"));
        if (is_null) *out = double_from_bits(TEXT_NAN_BITS);
        if (is_null || number_text_value(text, out)) return ERR_OK;
        j->p = at;
        return bad(j, "no number");
    }
    take_word(j, &text);
    if (str_eq(text, STR("null"))) {
        *out = double_from_bits(TEXT_NAN_BITS);
        return ERR_OK;
    }
    if (number_text_decimal(text, out)) return ERR_OK;
    j->p -= text.len;
    return bad(j, "no number");
}

static enum err_code take_integer(struct json *j, int64_t *out)
{
    struct str text;
    double v;
    take_word(j, &text);
    if (number_text_ms(text, out)) return ERR_OK;
    /* 1.5e12 and 1500000000000.0, as languages without integers write them */
    if (number_text_decimal(text, &v) && v == trunc(v) && fabs(v) <= COUNT_EXACT_MAX) {
        *out = (int64_t)v;
        return ERR_OK;
    }
    j->p -= text.len;
    return bad(j, "no whole number");
}

/* Between "[" and "]": calls item(j, ctx) for each. */
static enum err_code take_array(struct json *j, enum err_code (*item)(struct json *j, void *ctx),
                                void *ctx)
{
    if (!take(j, '[')) return bad(j, "an array is expected");
    if (take(j, ']')) return ERR_OK;
    do {
        enum err_code rc = item(j, ctx);
        if (rc) return rc;
    } while (take(j, ','));
    return take(j, ']') ? ERR_OK : bad(j, "\",\" or \"]\" is expected");
}

/* How many items the array at p has at most. */
static size_t array_count(const struct json *j)
{
    size_t n = 1;
    for (const char *p = j->p; p < j->end && *p != ']'; p++) n += *p == ',';
    return n;
}

/* Between "{" and "}": calls member(j, key, ctx) for each. */
static enum err_code take_object(struct json *j,
                                 enum err_code (*member)(struct json *j, struct str key, void *ctx),
                                 void *ctx)
{
    if (!take(j, '{')) return bad(j, "an object is expected");
    if (take(j, '}')) return ERR_OK;
    do {
        struct str key;
        enum err_code rc = take_string(j, &key);
        if (rc) return rc;
        if (!take(j, ':')) return bad(j, "\":\" is expected");
        rc = member(j, key, ctx);
        if (rc) return rc;
    } while (take(j, ','));
    return take(j, '}') ? ERR_OK : bad(j, "\",\" or \"}\" is expected");
}

struct doubles {
    double *items;
    uint32_t n;
};

static enum err_code put_double(struct json *j, void *ctx)
{
    struct doubles *to = ctx;
    return take_number(j, &to->items[to->n++]);
}

static enum err_code take_doubles(struct json *j, double **items, uint32_t *n)
{
    size_t most = array_count(j);
    if (*items) return bad(j, "a key stands twice");
    if (most > HISTOGRAM_BUCKETS_MAX) return bad(j, "too many buckets");
    struct doubles to = {ARENA_ARRAY(j->arena, double, most), 0};
    if (!to.items) return arena_fail(j->arena, j->err);
    enum err_code rc = take_array(j, put_double, &to);
    *items = to.items;
    *n = to.n;
    return rc;
}

/* ---- histograms ---- */

struct spans {
    struct histogram_span *items;
    uint32_t n;
};

static enum err_code put_span(struct json *j, void *ctx)
{
    struct spans *to = ctx;
    int64_t offset, length;
    if (!take(j, '[')) return bad(j, "a pair of offset and length is expected");
    enum err_code rc = take_integer(j, &offset);
    if (rc) return rc;
    if (!take(j, ',')) return bad(j, "a pair of offset and length is expected");
    rc = take_integer(j, &length);
    if (rc) return rc;
    if (!take(j, ']')) return bad(j, "a pair of offset and length is expected");
    if (offset < INT32_MIN || offset > INT32_MAX || length < 0 || length > UINT32_MAX)
        return bad(j, "a span out of range");
    to->items[to->n++] = (struct histogram_span){(int32_t)offset, (uint32_t)length};
    return ERR_OK;
}

/* Each "[" but the first begins a span. */
static size_t span_count(const struct json *j)
{
    size_t depth = 0, n = 0;
    for (const char *p = j->p; p < j->end; p++) {
        if (*p == '[') n += depth++ == 1;
        if (*p == ']' && --depth == 0) break;
        if (depth == 0 && *p != ' ') break;
    }
    return n;
}

static enum err_code take_spans(struct json *j, struct histogram_span **items, uint32_t *n)
{
    skip_blanks(j);
    size_t most = span_count(j);
    if (*items) return bad(j, "a key stands twice");
    if (most > HISTOGRAM_BUCKETS_MAX) return bad(j, "too many spans");
    struct spans to = {ARENA_ARRAY(j->arena, struct histogram_span, most + 1), 0};
    if (!to.items) return arena_fail(j->arena, j->err);
    enum err_code rc = take_array(j, put_span, &to);
    *items = to.items;
    *n = to.n;
    return rc;
}

static enum err_code take_hint(struct json *j, uint8_t *out)
{
    static const char *const HINTS[] = {"unknown", "reset", "no_reset", "gauge"};
    struct str text;
    enum err_code rc = take_string(j, &text);
    if (rc) return rc;
    for (size_t i = 0; i < COUNT_OF(HINTS); i++) {
        if (!str_eq(text, str_of(HINTS[i]))) continue;
        *out = (uint8_t)i;
        return ERR_OK;
    }
    return bad(j, "reset_hint is unknown, reset, no_reset or gauge, which this is not, ending");
}

static enum err_code take_bool(struct json *j, bool *out)
{
    struct str text;
    take_word(j, &text);
    *out = str_eq(text, STR("true"));
    if (*out || str_eq(text, STR("false"))) return ERR_OK;
    j->p -= text.len;
    return bad(j, "true or false is expected");
}

static enum err_code histogram_member(struct json *j, struct str key, void *ctx)
{
    struct histogram *h = ctx;
    int64_t schema;
    if (str_eq(key, STR("count"))) return take_number(j, &h->count);
    if (str_eq(key, STR("sum"))) return take_number(j, &h->sum);
    if (str_eq(key, STR("zero_threshold"))) return take_number(j, &h->zero_threshold);
    if (str_eq(key, STR("zero_count"))) return take_number(j, &h->zero_count);
    if (str_eq(key, STR("positive_spans"))) return take_spans(j, &h->pos_spans, &h->n_pos_spans);
    if (str_eq(key, STR("negative_spans"))) return take_spans(j, &h->neg_spans, &h->n_neg_spans);
    if (str_eq(key, STR("positive"))) return take_doubles(j, &h->pos, &h->n_pos);
    if (str_eq(key, STR("negative"))) return take_doubles(j, &h->neg, &h->n_neg);
    if (str_eq(key, STR("custom_bounds"))) return take_doubles(j, &h->bounds, &h->n_bounds);
    if (str_eq(key, STR("reset_hint"))) return take_hint(j, &h->reset_hint);
    if (str_eq(key, STR("integer"))) return take_bool(j, &h->is_int);
    if (str_eq(key, STR("start_ms"))) return take_integer(j, &h->start_ms);
    if (!str_eq(key, STR("schema"))) return skip_value(j);
    enum err_code rc = take_integer(j, &schema);
    if (rc) return rc;
    if (schema < INT32_MIN || schema > INT32_MAX) return bad(j, "a schema out of range");
    h->schema = (int32_t)schema;
    return ERR_OK;
}

static bool all_counts(const double *v, uint32_t n)
{
    bool all = true;
    for (uint32_t i = 0; i < n; i++)
        all &= v[i] >= 0 && v[i] <= COUNT_EXACT_MAX && v[i] == trunc(v[i]);
    return all;
}

static enum err_code take_histogram(struct json *j, struct histogram **out)
{
    struct histogram *h = ARENA_NEW(j->arena, struct histogram);
    if (!h) return arena_fail(j->arena, j->err);
    enum err_code rc = take_object(j, histogram_member, h);
    if (rc) return rc;
    /* The message that carries it has them as integers. */
    if (h->is_int && !(all_counts(&h->count, 1) && all_counts(&h->zero_count, 1) &&
                       all_counts(h->pos, h->n_pos) && all_counts(h->neg, h->n_neg)))
        return bad(
            j,
            "an integer histogram has counts that are whole numbers up to 2^53; this one, ending");
    *out = h;
    return ERR_OK;
}

/* ---- the line ---- */

struct line {
    struct label *labels;
    size_t n_labels;
    struct samples *out;
    size_t first; /* of the line's samples in `out` */
    size_t n_values, n_times;
    bool has_metric, has_values, has_times;
};

static enum err_code put_label(struct json *j, struct str key, void *ctx)
{
    struct line *l = ctx;
    struct str value;
    enum err_code rc = take_string(j, &value);
    if (rc) return rc;
    if (!key.len) return ERR_OK;
    if (l->n_labels == JSON_LINES_LABELS_MAX) return bad(j, "too many labels");
    l->labels[l->n_labels++] = (struct label){key, value};
    return ERR_OK;
}

static enum err_code take_labels(struct json *j, struct line *l)
{
    size_t most = 1;
    for (const char *p = j->p; p < j->end && most < JSON_LINES_LABELS_MAX; p++) most += *p == ':';
    if (l->has_metric) return bad(j, "a key stands twice");
    l->has_metric = true;
    l->labels = ARENA_ARRAY(j->arena, struct label, most);
    if (!l->labels) return arena_fail(j->arena, j->err);
    return take_object(j, put_label, l);
}

/* Room for one more in either column; out->n moves at the end, when both have as many. */
static enum err_code reserve(struct json *j, struct line *l, size_t at)
{
    if (l->first + at < l->out->cap) return ERR_OK;
    return samples_reserve(l->out, at + 256, j->err);
}

static enum err_code put_value(struct json *j, void *ctx)
{
    struct line *l = ctx;
    enum err_code rc = reserve(j, l, l->n_values);
    if (rc) return rc;
    size_t at = l->first + l->n_values++;
    if (l->out->h) l->out->h[at] = NULL;
    return take_number(j, &l->out->v[at]);
}

static enum err_code put_histogram(struct json *j, void *ctx)
{
    struct line *l = ctx;
    struct histogram *h;
    enum err_code rc = reserve(j, l, l->n_values);
    if (!rc) rc = samples_want_histograms(l->out, j->err);
    if (!rc) rc = take_histogram(j, &h);
    if (rc) return rc;
    size_t at = l->first + l->n_values++;
    l->out->h[at] = h;
    memcpy(&l->out->v[at], &h->sum, sizeof(double));
    return ERR_OK;
}

static enum err_code put_time(struct json *j, void *ctx)
{
    struct line *l = ctx;
    enum err_code rc = reserve(j, l, l->n_times);
    return rc ? rc : take_integer(j, &l->out->t_ms[l->first + l->n_times++]);
}

static enum err_code line_member(struct json *j, struct str key, void *ctx)
{
    struct line *l = ctx;
    bool histograms = str_eq(key, STR("histograms"));
    if (str_eq(key, STR("metric"))) return take_labels(j, l);
    if (histograms || str_eq(key, STR("values"))) {
        if (l->has_values) return bad(j, "values or histograms stand twice");
        l->has_values = true;
        return take_array(j, histograms ? put_histogram : put_value, l);
    }
    if (!str_eq(key, STR("timestamps"))) return skip_value(j);
    if (l->has_times) return bad(j, "a key stands twice");
    l->has_times = true;
    return take_array(j, put_time, l);
}

enum err_code json_line_parse(struct str line, struct arena *arena, struct labels *labels,
                              struct samples *out, struct err *err)
{
    struct json j = {line.p, line.p, line.len ? line.p + line.len : line.p, arena, err};
    struct line l = {.out = out, .first = out->n};
    *labels = (struct labels){NULL, 0};
    skip_blanks(&j);
    if (j.p == j.end) return ERR_OK;
    enum err_code rc = take_object(&j, line_member, &l);
    if (rc) return rc;
    skip_blanks(&j);
    if (j.p != j.end) return bad(&j, "something follows the object");
    if (!l.n_labels) return err_set(err, ERR_INVALID, "no \"metric\" with labels");
    if (!l.has_values || !l.has_times)
        return err_set(err, ERR_INVALID, "no \"%s\"", l.has_values ? "timestamps" : "values");
    if (l.n_values != l.n_times)
        return err_set(err, ERR_INVALID, "%zu values and %zu timestamps", l.n_values, l.n_times);
    out->n = l.first + l.n_values;
    *labels = (struct labels){l.labels, l.n_labels};
    return ERR_OK;
}
