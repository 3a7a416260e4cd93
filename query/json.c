#include "query/json.h"

#include "query/histogram_bounds.h"
#include "query/lexer.h"
#include "query/number.h"

/* --- strings --------------------------------------------------------------------------------------- */

static void put_escaped(struct buf *out, uint32_t c)
{
    switch (c) {
    case '"': return buf_text(out, STR("\\\""));
    case '\\': return buf_text(out, STR("\\\\"));
    case '\n': return buf_text(out, STR("\\n"));
    case '\r': return buf_text(out, STR("\\r"));
    case '\t': return buf_text(out, STR("\\t"));
    default: buf_printf(out, "\\u%04x", (unsigned)c);
    }
}

static bool is_html(uint32_t rune)
{
    return rune == '<' || rune == '>' || rune == '&' || rune == 0x2028 || rune == 0x2029;
}

static void put_string(struct buf *out, struct str s, bool html)
{
    buf_u8(out, '"');
    size_t from = 0;
    for (size_t i = 0; i < s.len;) {
        uint32_t rune;
        unsigned len = rune_next(s, i, &rune);
        bool bad = rune == RUNE_BAD && len == 1;
        bool escape = rune < 0x20 || rune == '"' || rune == '\\' || (html && is_html(rune));
        if (bad || escape) {
            buf_text(out, (struct str){s.p + from, i - from});
            if (bad)
                buf_text(out, STR("\\ufffd"));
            else
                put_escaped(out, rune);
            from = i + len;
        }
        i += len;
    }
    buf_text(out, (struct str){s.p + from, s.len - from});
    buf_u8(out, '"');
}

void json_string(struct buf *out, struct str s)
{
    put_string(out, s, false);
}

void json_string_html(struct buf *out, struct str s)
{
    put_string(out, s, true);
}

void json_labels(struct buf *out, struct labels labels)
{
    buf_u8(out, '{');
    for (size_t i = 0; i < labels.n; i++) {
        if (i) buf_u8(out, ',');
        json_string(out, labels.items[i].name);
        buf_u8(out, ':');
        json_string(out, labels.items[i].value);
    }
    buf_u8(out, '}');
}

/* --- times and values ------------------------------------------------------------------------------ */

/* Three decimals if any is not 0; `shortest` drops zeros at the end. */
static void put_time(struct buf *out, int64_t t_ms, bool shortest)
{
    char *p = (char *)buf_reserve(out, 32), *from = p;
    if (!p) return;
    uint64_t ms = t_ms < 0 ? ~(uint64_t)t_ms + 1 : (uint64_t)t_ms;
    unsigned fraction = (unsigned)(ms % 1000);
    if (t_ms < 0) *p++ = '-';
    p += number_print_u64(p, ms / 1000);
    if (fraction) {
        *p++ = '.';
        for (int i = 2; i >= 0; i--, fraction /= 10) p[i] = (char)('0' + fraction % 10);
        p += 3;
        while (shortest && p[-1] == '0') p--;
    }
    out->len += (size_t)(p - from);
}

void json_time(struct buf *out, int64_t t_ms)
{
    put_time(out, t_ms, false);
}

void json_time_short(struct buf *out, int64_t t_ms)
{
    put_time(out, t_ms, true);
}

static void put_value(struct buf *out, double v, size_t (*print)(char *, double))
{
    char *p = (char *)buf_reserve(out, NUMBER_BYTES_MAX + 2);
    if (!p) return;
    size_t n = print(p + 1, v);
    p[0] = p[n + 1] = '"';
    out->len += n + 2;
}

void json_value(struct buf *out, double v)
{
    put_value(out, v, number_print_value);
}

void json_value_plain(struct buf *out, double v)
{
    put_value(out, v, number_print_plain);
}

/* --- histograms ------------------------------------------------------------------------------------ */

static void put_bucket(struct buf *out, const struct histogram_bucket *b)
{
    buf_printf(out, "[%u,", (unsigned)b->boundaries);
    json_value(out, b->lower);
    buf_u8(out, ',');
    json_value(out, b->upper);
    buf_u8(out, ',');
    json_value(out, b->count);
    buf_u8(out, ']');
}

void json_histogram(struct buf *out, const struct histogram *h)
{
    struct bucket_walk walk;
    struct histogram_bucket bucket;
    bool any = false;
    buf_text(out, STR("{\"count\":"));
    json_value(out, h->count);
    buf_text(out, STR(",\"sum\":"));
    json_value(out, h->sum);
    bucket_walk_init(&walk, h, false);
    while (bucket_walk_next(&walk, &bucket)) {
        if (bucket.count == 0) continue;
        buf_text(out, any ? STR(",") : STR(",\"buckets\":["));
        put_bucket(out, &bucket);
        any = true;
    }
    buf_text(out, any ? STR("]}") : STR("}"));
}
