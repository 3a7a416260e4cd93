/* ingest/text_parse.c: see the header. */
#include "ingest/text_parse.h"

#include "ingest/number_text.h"

struct text {
    const char *start, *p, *end;
    enum text_format format;
    struct arena *arena;
    struct err *err;
};

static enum err_code bad(const struct text *t, const char *what)
{
    return err_set(t->err, ERR_INVALID, "%s at byte %zu", what, (size_t)(t->p - t->start) + 1);
}

static void skip_blanks(struct text *t)
{
    while (t->p < t->end && (*t->p == ' ' || *t->p == '\t')) t->p++;
}

static bool take(struct text *t, char c)
{
    skip_blanks(t);
    if (t->p == t->end || *t->p != c) return false;
    t->p++;
    return true;
}

/* Up to the next blank. */
static struct str take_word(struct text *t)
{
    skip_blanks(t);
    const char *from = t->p;
    while (t->p < t->end && *t->p != ' ' && *t->p != '\t') t->p++;
    return (struct str){from, (size_t)(t->p - from)};
}

static bool is_name_char(char c, bool first)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == ':' ||
           (!first && c >= '0' && c <= '9');
}

static struct str take_name(struct text *t)
{
    skip_blanks(t);
    const char *from = t->p;
    while (t->p < t->end && is_name_char(*t->p, t->p == from)) t->p++;
    return (struct str){from, (size_t)(t->p - from)};
}

/* ---- quoted strings ---- */

static size_t put_rune(char *to, uint32_t rune)
{
    if (rune < 0x80) {
        to[0] = (char)rune;
        return 1;
    }
    size_t n = rune < 0x800 ? 2 : rune < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, rune >>= 6) to[i] = (char)(0x80 | (rune & 0x3f));
    to[0] = (char)((0xf00u >> n & 0xff) | rune);
    return n;
}

/* \x41, \u00e9, \U0001f600: so many hexadecimal digits. */
static enum err_code take_code(struct text *t, unsigned n_digits, char *to, size_t *len)
{
    uint32_t code = 0;
    for (unsigned i = 0; i < n_digits; i++, t->p++) {
        char c = t->p < t->end ? *t->p : 0;
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10)
                         : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A' + 10)
                                                : 16;
        if (digit == 16) return bad(t, "a bad escape");
        code = code << 4 | digit;
    }
    if (n_digits == 2) {
        to[(*len)++] = (char)code; /* a byte, not a character */
        return ERR_OK;
    }
    if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return bad(t, "a bad escape");
    *len += put_rune(to + *len, code);
    return ERR_OK;
}

/* Behind the backslash. The exposition formats know three escapes, and keep both characters of any other; the dump has
 * those of Go. No escape becomes longer than it is. */
static enum err_code take_escape(struct text *t, char *to, size_t *len)
{
    static const char FROM[] = "\\\"nabfrtv", TO[] = "\\\"\n\a\b\f\r\t\v";
    char c = *t->p++;
    const char *at = c ? strchr(FROM, c) : NULL;
    if (at && (at - FROM < 3 || t->format == TEXT_DUMP)) {
        to[(*len)++] = TO[at - FROM];
        return ERR_OK;
    }
    if (t->format != TEXT_DUMP) {
        to[(*len)++] = '\\';
        to[(*len)++] = c;
        return ERR_OK;
    }
    if (c == 'x') return take_code(t, 2, to, len);
    if (c == 'u') return take_code(t, 4, to, len);
    if (c == 'U') return take_code(t, 8, to, len);
    return bad(t, "a bad escape");
}

/* In the line where nothing is escaped, else in the arena. */
static enum err_code take_quoted(struct text *t, struct str *out)
{
    if (!take(t, '"')) return bad(t, "a quote is expected");
    const char *from = t->p, *end = from;
    bool escaped = false;
    for (; end < t->end && *end != '"'; end++) {
        if (*end != '\\') continue;
        escaped = true;
        if (++end == t->end) break;
    }
    if (end >= t->end) return bad(t, "a string without an end");
    if (!escaped) {
        *out = (struct str){from, (size_t)(end - from)};
        t->p = end + 1;
        return ERR_OK;
    }
    char *to = arena_alloc(t->arena, (size_t)(end - from) + 1, 1);
    if (!to) return arena_fail(t->arena, t->err);
    size_t len = 0;
    while (t->p < end) {
        if (*t->p != '\\') {
            to[len++] = *t->p++;
            continue;
        }
        t->p++;
        enum err_code rc = take_escape(t, to, &len);
        if (rc) return rc;
    }
    if (t->p != end) return bad(t, "a bad escape"); /* one that reaches over the quote */
    t->p = end + 1;
    *out = (struct str){to, len};
    return ERR_OK;
}

/* ---- labels ---- */

/* Each has a quote at least, and the name needs none. */
static size_t label_count(const struct text *t)
{
    size_t n = 2;
    for (const char *p = t->p; p < t->end; p++) n += *p == '"' || *p == ',';
    return MIN_OF(n, (size_t)TEXT_LABELS_MAX);
}

/* A label, or the metric's name in quotes. */
static enum err_code take_label(struct text *t, struct text_sample *out, bool *has_name)
{
    struct label label;
    enum err_code rc = ERR_OK;
    skip_blanks(t);
    bool quoted = t->p < t->end && *t->p == '"';
    if (quoted)
        rc = take_quoted(t, &label.name);
    else
        label.name = take_name(t);
    if (rc) return rc;
    if (!quoted && !label.name.len) return bad(t, "a label is expected");
    if (!take(t, '=')) {
        if (!quoted) return bad(t, "\"=\" is expected");
        label.value = label.name;
        label.name = STR(LABEL_NAME);
    } else {
        rc = take_quoted(t, &label.value);
        if (rc) return rc;
    }
    bool is_name = str_eq(label.name, STR(LABEL_NAME));
    if (is_name && *has_name) return bad(t, "the name of the metric stands twice, the second");
    *has_name |= is_name;
    if (out->n_labels == TEXT_LABELS_MAX) return bad(t, "too many labels");
    out->labels[out->n_labels++] = label;
    return ERR_OK;
}

static enum err_code take_series(struct text *t, struct text_sample *out)
{
    struct str name = take_name(t);
    bool has_name = name.len > 0;
    out->labels = ARENA_ARRAY(t->arena, struct label, label_count(t));
    if (!out->labels) return arena_fail(t->arena, t->err);
    if (has_name) out->labels[out->n_labels++] = (struct label){STR(LABEL_NAME), name};
    if (!take(t, '{')) return has_name ? ERR_OK : bad(t, "the name of a metric is expected");
    while (!take(t, '}')) {
        enum err_code rc = take_label(t, out, &has_name);
        if (rc) return rc;
        if (take(t, ',')) continue;
        if (!take(t, '}')) return bad(t, "\",\" or \"}\" is expected");
        break;
    }
    return has_name ? ERR_OK : bad(t, "no name of a metric");
}

/* ---- the line ---- */

static enum err_code take_value(struct text *t, struct text_sample *out)
{
    skip_blanks(t);
    const char *at = t->p;
    if (at < t->end && *at == '{')
        return bad(t, "a native histogram, for which text has no exact form,");
    struct str word = take_word(t);
    if (number_text_value(word, &out->v)) return ERR_OK;
    t->p = at;
    return bad(t, word.len ? "no number" : "a value is expected");
}

static enum err_code take_time(struct text *t, struct text_sample *out)
{
    skip_blanks(t);
    const char *at = t->p;
    if (at == t->end || (*at == '#' && t->format == TEXT_OPENMETRICS)) return ERR_OK;
    struct str word = take_word(t);
    out->has_time = t->format == TEXT_OPENMETRICS ? number_text_seconds(word, &out->t_ms)
                                                  : number_text_ms(word, &out->t_ms);
    if (out->has_time) return ERR_OK;
    t->p = at;
    return bad(t, t->format == TEXT_OPENMETRICS ? "no time in seconds" : "no time in milliseconds");
}

enum err_code text_line_parse(struct str line, enum text_format format, struct arena *arena,
                              enum text_line *kind, struct text_sample *out, struct err *err)
{
    struct text t = {line.p, line.p, line.len ? line.p + line.len : line.p, format, arena, err};
    *out = (struct text_sample){0};
    *kind = TEXT_NOTHING;
    if (line.len && line.p[line.len - 1] == '\r') t.end--; /* as files from elsewhere have it */
    skip_blanks(&t);
    if (t.p == t.end) return ERR_OK;
    if (*t.p == '#') {
        struct str rest = {t.p, (size_t)(t.end - t.p)};
        if (format == TEXT_OPENMETRICS && str_eq(rest, STR("# EOF"))) *kind = TEXT_EOF;
        return ERR_OK;
    }
    *kind = TEXT_SAMPLE;
    enum err_code rc = take_series(&t, out);
    if (!rc) rc = take_value(&t, out);
    if (!rc) rc = take_time(&t, out);
    if (rc) return rc;
    skip_blanks(&t);
    bool exemplar = t.p < t.end && *t.p == '#' && format == TEXT_OPENMETRICS;
    return t.p == t.end || exemplar ? ERR_OK : bad(&t, "something follows the time");
}
