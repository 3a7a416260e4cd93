/* query/export_format.c: see the header. */
#include "query/export_format.h"

#include <inttypes.h>
#include <math.h>

#include "query/exposition.h"
#include "query/json.h"
#include "query/number.h"

static void put_number(struct buf *out, double v)
{
    uint8_t *to = buf_reserve(out, NUMBER_BYTES_MAX);
    if (to) out->len += number_print_value((char *)to, v);
}

/* --- JSON lines ------------------------------------------------------------------------------------ */

static void put_json_number(struct buf *out, double v)
{
    if (isfinite(v))
        put_number(out, v);
    else if (isinf(v))
        buf_text(out, v > 0 ? STR("\"Infinity\"") : STR("\"-Infinity\""));
    else if (double_bits(v) == EXPORT_NAN_BITS)
        buf_text(out, STR("null"));
    else
        buf_printf(out, "\"NaN:%016" PRIx64 "\"", double_bits(v));
}

static void put_json_numbers(struct buf *out, const char *name, const double *v, uint32_t n)
{
    if (!n) return;
    buf_printf(out, ",\"%s\":[", name);
    for (uint32_t i = 0; i < n; i++) {
        if (i) buf_u8(out, ',');
        put_json_number(out, v[i]);
    }
    buf_u8(out, ']');
}

static void put_json_spans(struct buf *out, const char *name, const struct histogram_span *spans,
                           uint32_t n)
{
    if (!n) return;
    buf_printf(out, ",\"%s\":[", name);
    for (uint32_t i = 0; i < n; i++)
        buf_printf(out, "%s[%" PRId32 ",%" PRIu32 "]", i ? "," : "", spans[i].offset,
                   spans[i].length);
    buf_u8(out, ']');
}

static void put_json_field(struct buf *out, const char *name, double v)
{
    if (double_bits(v) == 0) return;
    buf_printf(out, ",\"%s\":", name);
    put_json_number(out, v);
}

static void put_json_histogram(struct buf *out, const struct histogram *h)
{
    static const char *const HINTS[] = {"", "reset", "no_reset", "gauge"};
    buf_printf(out, "{\"schema\":%" PRId32 ",\"count\":", h->schema);
    put_json_number(out, h->count);
    buf_text(out, STR(",\"sum\":"));
    put_json_number(out, h->sum);
    put_json_field(out, "zero_threshold", h->zero_threshold);
    put_json_field(out, "zero_count", h->zero_count);
    put_json_spans(out, "positive_spans", h->pos_spans, h->n_pos_spans);
    put_json_numbers(out, "positive", h->pos, h->n_pos);
    put_json_spans(out, "negative_spans", h->neg_spans, h->n_neg_spans);
    put_json_numbers(out, "negative", h->neg, h->n_neg);
    put_json_numbers(out, "custom_bounds", h->bounds, h->n_bounds);
    if (h->reset_hint & 3) buf_printf(out, ",\"reset_hint\":\"%s\"", HINTS[h->reset_hint & 3]);
    if (h->is_int) buf_text(out, STR(",\"integer\":true"));
    if (h->start_ms) buf_printf(out, ",\"start_ms\":%" PRId64, h->start_ms);
    buf_u8(out, '}');
}

static bool is_histogram(const struct samples *s, size_t i)
{
    return s->h && s->h[i];
}

/* One line of one kind. */
static void put_json_line(struct buf *out, struct labels labels, const struct samples *s,
                          size_t from, size_t to, bool histograms)
{
    const char *before = "";
    buf_text(out, STR("{\"metric\":"));
    json_labels(out, labels);
    buf_text(out, histograms ? STR(",\"histograms\":[") : STR(",\"values\":["));
    for (size_t i = from; i < to; i++) {
        if (is_histogram(s, i) != histograms) continue;
        buf_text(out, str_of(before));
        before = ",";
        if (histograms)
            put_json_histogram(out, s->h[i]);
        else
            put_json_number(out, s->v[i]);
    }
    buf_text(out, STR("],\"timestamps\":["));
    before = "";
    for (size_t i = from; i < to; i++) {
        if (is_histogram(s, i) != histograms) continue;
        buf_printf(out, "%s%" PRId64, before, s->t_ms[i]);
        before = ",";
    }
    buf_text(out, STR("]}\n"));
}

/* --- text ------------------------------------------------------------------------------------------ */

static void put_text_quoted(struct buf *out, struct str s)
{
    buf_u8(out, '"');
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] == '\n') {
            buf_text(out, STR("\\n"));
            continue;
        }
        if (s.p[i] == '"' || s.p[i] == '\\') buf_u8(out, '\\');
        buf_u8(out, (uint8_t)s.p[i]);
    }
    buf_u8(out, '"');
}

static void put_text_name(struct buf *out, struct str name, bool is_label)
{
    if (expo_is_legacy_name(name, is_label))
        buf_text(out, name);
    else
        put_text_quoted(out, name);
}

static void put_text_series(struct buf *out, struct labels labels)
{
    struct str name = labels_get(labels, STR(LABEL_NAME));
    bool inside = !expo_is_legacy_name(name, false);
    const char *before = "{";
    if (!inside) {
        buf_text(out, name);
    } else if (name.len) { /* a name that needs quotes stands inside the braces */
        buf_u8(out, '{');
        put_text_quoted(out, name);
        before = ",";
    }
    bool open = before[0] == ',';
    for (size_t i = 0; i < labels.n; i++) {
        if (str_eq(labels.items[i].name, STR(LABEL_NAME))) continue;
        buf_text(out, str_of(before));
        put_text_name(out, labels.items[i].name, true);
        buf_u8(out, '=');
        put_text_quoted(out, labels.items[i].value);
        before = ",";
        open = true;
    }
    if (open) buf_u8(out, '}');
}

static void put_text_time(struct buf *out, enum export_format format, int64_t t_ms)
{
    uint64_t size = t_ms < 0 ? 0 - (uint64_t)t_ms : (uint64_t)t_ms;
    if (format == EXPORT_PROMETHEUS)
        buf_printf(out, " %" PRId64 "\n", t_ms);
    else
        buf_printf(out, " %s%" PRIu64 ".%03u\n", t_ms < 0 ? "-" : "", size / 1000,
                   (unsigned)(size % 1000));
}

/* --- both ------------------------------------------------------------------------------------------ */

void export_put_samples(struct buf *out, enum export_format format, struct labels labels,
                        const struct samples *s, size_t from, size_t to)
{
    size_t n_histograms = 0;
    for (size_t i = from; i < to; i++) n_histograms += is_histogram(s, i);
    if (format == EXPORT_JSONL) {
        if (n_histograms < to - from) put_json_line(out, labels, s, from, to, false);
        if (n_histograms) put_json_line(out, labels, s, from, to, true);
        return;
    }
    struct buf series;
    buf_init(&series, out->owner);
    put_text_series(&series, labels);
    for (size_t i = from; i < to; i++) {
        if (is_histogram(s, i) || is_stale_nan(s->v[i])) continue;
        buf_put(out, series.p, series.len);
        buf_u8(out, ' ');
        put_number(out, s->v[i]);
        put_text_time(out, format, s->t_ms[i]);
    }
    out->failed |= series.failed;
    buf_release(&series);
}
