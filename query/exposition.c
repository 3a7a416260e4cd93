/* query/exposition.c: see the header. */
#include "query/exposition.h"

#include <strings.h>

#include "base/protobuf.h"
#include "query/lexer.h"
#include "query/number.h"

/* --- which format ---------------------------------------------------------------------------------- */

static struct str trim(struct str s)
{
    while (s.len && (s.p[0] == ' ' || s.p[0] == '\t')) s = (struct str){s.p + 1, s.len - 1};
    while (s.len && (s.p[s.len - 1] == ' ' || s.p[s.len - 1] == '\t')) s.len--;
    return s;
}

/* What stands before the first `c`; *rest is what follows it. */
static struct str cut(struct str s, char c, struct str *rest)
{
    const char *at = s.len ? memchr(s.p, c, s.len) : NULL;
    struct str head = {s.p, at ? (size_t)(at - s.p) : s.len};
    *rest = at ? (struct str){at + 1, s.len - head.len - 1} : (struct str){s.p + s.len, 0};
    return head;
}

static bool same(struct str s, const char *z)
{
    return s.len == strlen(z) && strncasecmp(s.p, z, s.len) == 0;
}

/* One alternative of an Accept header. */
struct accepted {
    struct str type, version, proto, encoding;
    int escaping; /* -1: not said */
    double q;
};

static const char *const ESCAPINGS[] = {[EXPO_UNDERSCORES] = "underscores",
                                        [EXPO_DOTS] = "dots",
                                        [EXPO_VALUES] = "values",
                                        [EXPO_UTF8] = "allow-utf-8"};

static void read_param(struct accepted *a, struct str param)
{
    struct str value, name = trim(cut(param, '=', &value));
    value = trim(value);
    if (value.len >= 2 && value.p[0] == '"') value = (struct str){value.p + 1, value.len - 2};
    if (same(name, "q") && number_parse_float(value, &a->q) != NUMBER_OK) a->q = 0;
    if (same(name, "version")) a->version = value;
    if (same(name, "proto")) a->proto = value;
    if (same(name, "encoding")) a->encoding = value;
    for (size_t i = 0; same(name, "escaping") && i < COUNT_OF(ESCAPINGS); i++)
        if (str_eq(value, str_of(ESCAPINGS[i]))) a->escaping = (int)i;
}

static struct accepted read_accepted(struct str text)
{
    struct accepted a = {.version = STR(""), .escaping = -1, .q = 1};
    struct str rest;
    a.type = trim(cut(text, ';', &rest));
    while (rest.len) read_param(&a, cut(rest, ';', &rest));
    return a;
}

static bool is_served(const struct accepted *a, bool *protobuf)
{
    *protobuf = same(a->type, "application/vnd.google.protobuf");
    if (*protobuf)
        return str_eq(a->proto, STR("io.prometheus.client.MetricFamily")) &&
               str_eq(a->encoding, STR("delimited"));
    return same(a->type, "text/plain") && (!a->version.len || str_eq(a->version, STR("0.0.4")) ||
                                           str_eq(a->version, STR("1.0.0")));
}

struct expo_format expo_negotiate(struct str accept)
{
    struct expo_format best = {false, EXPO_UNDERSCORES};
    double best_q = 0;
    while (accept.len) {
        bool protobuf;
        struct accepted a = read_accepted(cut(accept, ',', &accept));
        if (!(a.q > best_q) || !is_served(&a, &protobuf)) continue;
        best_q = a.q;
        best = (struct expo_format){protobuf, a.escaping < 0 ? EXPO_UNDERSCORES
                                                             : (enum expo_escaping)a.escaping};
    }
    return best;
}

#define TEXT_TYPE "text/plain; version=0.0.4; charset=utf-8; escaping="
#define PROTOBUF_TYPE                                                                              \
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; "                   \
    "encoding=delimited; escaping="

const char *expo_content_type(struct expo_format format)
{
    static const char *const TYPES[2][COUNT_OF(ESCAPINGS)] = {
        {[EXPO_UNDERSCORES] = TEXT_TYPE "underscores",
         [EXPO_DOTS] = TEXT_TYPE "dots",
         [EXPO_VALUES] = TEXT_TYPE "values",
         [EXPO_UTF8] = TEXT_TYPE "allow-utf-8"},
        {[EXPO_UNDERSCORES] = PROTOBUF_TYPE "underscores",
         [EXPO_DOTS] = PROTOBUF_TYPE "dots",
         [EXPO_VALUES] = PROTOBUF_TYPE "values",
         [EXPO_UTF8] = PROTOBUF_TYPE "allow-utf-8"},
    };
    return TYPES[format.protobuf][format.escaping];
}

/* --- names ----------------------------------------------------------------------------------------- */

static bool is_legacy_char(char c, bool first)
{
    bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == ':';
    return letter || (!first && c >= '0' && c <= '9');
}

bool expo_is_legacy_name(struct str name, bool is_label)
{
    for (size_t i = 0; i < name.len; i++)
        if (!is_legacy_char(name.p[i], i == 0) || (is_label && name.p[i] == ':')) return false;
    return name.len > 0;
}

/* The character at s.p[i] of a name whose UTF-8 was checked when it was stored. */
static uint32_t rune_at(struct str s, size_t i, size_t *len)
{
    uint8_t c = (uint8_t)s.p[i];
    *len = utf8_sequence(s.p + i, s.len - i);
    if (!*len) {
        *len = 1;
        return 0xfffd;
    }
    uint32_t rune = *len == 1 ? c : c & (0xffu >> (*len + 1));
    for (size_t k = 1; k < *len; k++) rune = rune << 6 | ((uint8_t)s.p[i + k] & 0x3f);
    return rune;
}

static void escape_rune(struct buf *out, uint32_t rune, enum expo_escaping escaping)
{
    if (escaping == EXPO_UNDERSCORES)
        buf_u8(out, '_');
    else if (escaping == EXPO_VALUES && rune != '_')
        buf_printf(out, "_%x_", (unsigned)rune);
    else if (escaping == EXPO_DOTS && rune == '.')
        buf_text(out, STR("_dot_"));
    else
        buf_text(out, STR("__"));
}

void expo_escape_name(struct buf *out, struct str name, enum expo_escaping escaping)
{
    bool whole =
        escaping == EXPO_UTF8 || (escaping != EXPO_DOTS && expo_is_legacy_name(name, false));
    if (whole) {
        buf_text(out, name);
        return;
    }
    if (escaping == EXPO_VALUES) buf_text(out, STR("U__"));
    for (size_t i = 0, len; i < name.len; i += len) {
        uint32_t rune = rune_at(name, i, &len);
        bool kept = rune < 0x80 && is_legacy_char((char)rune, i == 0) &&
                    (rune != '_' || escaping == EXPO_UNDERSCORES);
        if (kept)
            buf_u8(out, (uint8_t)rune);
        else
            escape_rune(out, rune, escaping);
    }
}

/* --- text ------------------------------------------------------------------------------------------ */

static void put_quoted(struct buf *out, struct str s)
{
    buf_u8(out, '"');
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] == '\n')
            buf_text(out, STR("\\n"));
        else if (s.p[i] == '"' || s.p[i] == '\\')
            buf_u8(out, '\\'), buf_u8(out, (uint8_t)s.p[i]);
        else
            buf_u8(out, (uint8_t)s.p[i]);
    }
    buf_u8(out, '"');
}

static void put_name(struct buf *out, struct str name, bool is_label, enum expo_escaping escaping)
{
    if (escaping == EXPO_UTF8 && !expo_is_legacy_name(name, is_label))
        put_quoted(out, name);
    else
        expo_escape_name(out, name, escaping);
}

void expo_text_type(struct buf *out, struct str name, enum expo_escaping escaping)
{
    buf_text(out, STR("# TYPE "));
    put_name(out, name, false, escaping);
    buf_text(out, STR(" untyped\n"));
}

void expo_text_sample(struct buf *out, const struct expo_sample *s, enum expo_escaping escaping)
{
    char number[NUMBER_BYTES_MAX];
    /* A name that needs quotes stands inside the braces. */
    bool inside = escaping == EXPO_UTF8 && !expo_is_legacy_name(s->name, false);
    const char *before = "{";
    if (inside) buf_u8(out, '{'), before = ",";
    put_name(out, s->name, false, escaping);
    for (size_t i = 0; i < s->labels.n; i++, before = ",") {
        buf_text(out, str_of(before));
        put_name(out, s->labels.items[i].name, true, escaping);
        buf_u8(out, '=');
        put_quoted(out, s->labels.items[i].value);
    }
    if (inside || s->labels.n) buf_u8(out, '}');
    buf_u8(out, ' ');
    size_t n = s->v == 0 ? 0 : number_print_general(number, s->v);
    buf_text(out, n ? (struct str){number, n} : STR("0")); /* -0, too */
    buf_printf(out, " %lld\n", (long long)s->t_ms);
}

/* --- protobuf: io.prometheus.client of client_model ------------------------------------------------- */

static void put_pb_name(struct buf *out, uint32_t number, struct str name,
                        enum expo_escaping escaping)
{
    size_t at = pb_put_begin(out, number);
    expo_escape_name(out, name, escaping);
    pb_put_end(out, at);
}

void expo_pb_family(struct buf *out, struct str name, enum expo_family type,
                    enum expo_escaping escaping)
{
    put_pb_name(out, 1, name, escaping);
    pb_put_varint(out, 3, type);
}

static void put_spans(struct buf *out, uint32_t number, const struct histogram_span *spans,
                      uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        size_t at = pb_put_begin(out, number);
        pb_put_varint(out, 1, zigzag_encode(spans[i].offset));
        pb_put_varint(out, 2, spans[i].length);
        pb_put_end(out, at);
    }
}

static void put_histogram(struct buf *out, const struct histogram *h)
{
    size_t at = pb_put_begin(out, 7);
    pb_put_double(out, 2, h->sum);
    pb_put_double(out, 4, h->count);
    pb_put_varint(out, 5, zigzag_encode(h->schema));
    pb_put_double(out, 6, h->zero_threshold);
    pb_put_double(out, 8, h->zero_count);
    put_spans(out, 9, h->neg_spans, h->n_neg_spans);
    for (uint32_t i = 0; i < h->n_neg; i++) pb_put_double(out, 11, h->neg[i]);
    put_spans(out, 12, h->pos_spans, h->n_pos_spans);
    for (uint32_t i = 0; i < h->n_pos; i++) pb_put_double(out, 14, h->pos[i]);
    /* Readers know a native histogram by its spans. */
    static const struct histogram_span EMPTY = {0, 0};
    if (!h->n_pos_spans && !h->n_neg_spans) put_spans(out, 12, &EMPTY, 1);
    pb_put_end(out, at);
}

void expo_pb_sample(struct buf *out, const struct expo_sample *s, enum expo_escaping escaping)
{
    size_t metric = pb_put_begin(out, 4);
    for (size_t i = 0; i < s->labels.n; i++) {
        size_t label = pb_put_begin(out, 1);
        put_pb_name(out, 1, s->labels.items[i].name, escaping);
        pb_put_text(out, 2, s->labels.items[i].value);
        pb_put_end(out, label);
    }
    if (s->h) {
        put_histogram(out, s->h);
    } else {
        size_t untyped = pb_put_begin(out, 5);
        pb_put_double(out, 1, s->v);
        pb_put_end(out, untyped);
    }
    pb_put_varint(out, 6, (uint64_t)s->t_ms);
    pb_put_end(out, metric);
}
