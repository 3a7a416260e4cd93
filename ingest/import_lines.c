/* ingest/import_lines.c: see the header. */
#include "ingest/import_lines.h"

#include "engine/series_message.h"
#include "ingest/json_lines.h"
#include "ingest/text_parse.h"

/* A line of the longest kind, its strings and its histograms. */
#define LINE_MEMORY_MAX (16 * IMPORT_LINE_BYTES_MAX)

void import_lines_init(struct import_lines *in, enum mem_owner owner, enum import_format format,
                       const struct label_limits *limits, const struct import_sink *sink)
{
    *in = (struct import_lines){.format = format, .limits = *limits, .sink = *sink};
    buf_init(&in->partial, owner);
    buf_init(&in->message, owner);
    arena_init(&in->arena, owner, LINE_MEMORY_MAX);
    samples_init(&in->samples, owner, &in->arena);
}

void import_lines_release(struct import_lines *in)
{
    buf_release(&in->partial);
    buf_release(&in->message);
    samples_release(&in->samples);
    arena_release(&in->arena);
}

/* ---- samples into the message ---- */

enum err_code import_lines_flush(struct import_lines *in, struct err *err)
{
    if (!in->n_message) return ERR_OK;
    enum err_code rc = buf_finish(&in->message, err);
    if (!rc) rc = in->sink.store(in->sink.ctx, buf_bytes(&in->message), in->n_message, err);
    in->failed = rc != ERR_OK;
    if (rc) return rc;
    in->n_samples += in->n_message;
    in->n_message = 0;
    buf_reset(&in->message);
    return ERR_OK;
}

static bool is_full(const struct import_lines *in)
{
    return in->n_message >= IMPORT_MESSAGE_SAMPLES || in->message.len >= IMPORT_MESSAGE_BYTES;
}

/* Labels in their order, so that a series is sent in one form only. A series with many samples goes on in another
 * message. */
static enum err_code put_series(struct import_lines *in, struct labels labels,
                                const struct samples *s, struct err *err)
{
    enum err_code rc = ERR_OK;
    for (size_t from = 0, to; !rc && from < s->n; from = to) {
        size_t room = IMPORT_MESSAGE_SAMPLES - in->n_message;
        to = from + MIN_OF(room, s->n - from);
        /* Histograms may be wide: few at a time. */
        if (s->h) to = MIN_OF(to, from + 16);
        size_t at = series_message_begin(&in->message, labels);
        series_message_samples(&in->message, s, from, to, true);
        series_message_end(&in->message, at);
        in->n_message += to - from;
        if (is_full(in)) rc = import_lines_flush(in, err);
    }
    return rc;
}

static enum err_code check_histograms(const struct samples *s, struct err *err)
{
    for (size_t i = 0; s->h && i < s->n; i++) {
        if (!s->h[i] || histogram_is_stale(s->h[i])) continue;
        enum err_code rc = histogram_validate(s->h[i], err);
        if (rc) return rc;
    }
    return ERR_OK;
}

enum err_code import_lines_put(struct import_lines *in, struct labels labels,
                               const struct samples *s, enum reject_reason *reason, struct err *err)
{
    struct labels checked;
    *reason = REJECT_NONE;
    if (!s->n) return ERR_OK;
    struct label *items = ARENA_ARRAY(&in->arena, struct label, labels.n + 1);
    if (!items) return arena_fail(&in->arena, err);
    if (labels.n) memcpy(items, labels.items, labels.n * sizeof(*items));
    *reason = label_check(items, labels.n, &in->limits, &checked, err);
    if (!*reason && check_histograms(s, err)) *reason = REJECT_INVALID_HISTOGRAM;
    return *reason ? ERR_INVALID : put_series(in, checked, s, err);
}

/* ---- lines ---- */

static enum err_code text_line(struct import_lines *in, struct str line, enum reject_reason *reason,
                               struct err *err)
{
    static const enum text_format FORMATS[] = {[IMPORT_PROMETHEUS] = TEXT_PROMETHEUS,
                                               [IMPORT_OPENMETRICS] = TEXT_OPENMETRICS,
                                               [IMPORT_DUMP] = TEXT_DUMP};
    struct text_sample sample;
    enum text_line kind;
    if (in->eof && line.len) return err_set(err, ERR_INVALID, "something follows # EOF");
    enum err_code rc = text_line_parse(line, FORMATS[in->format], &in->arena, &kind, &sample, err);
    in->eof |= !rc && kind == TEXT_EOF;
    if (rc || kind != TEXT_SAMPLE) return rc;
    rc = samples_push(&in->samples, sample.has_time ? sample.t_ms : in->default_ms, sample.v, NULL,
                      err);
    if (rc) return rc;
    struct labels labels = {sample.labels, sample.n_labels};
    return import_lines_put(in, labels, &in->samples, reason, err);
}

static enum err_code json_line(struct import_lines *in, struct str line, enum reject_reason *reason,
                               struct err *err)
{
    struct labels labels;
    enum err_code rc = json_line_parse(line, &in->arena, &labels, &in->samples, err);
    return rc ? rc : import_lines_put(in, labels, &in->samples, reason, err);
}

/* {"metric": and {"na.me",… begin alike; what follows the string tells them apart. */
static enum import_format format_of(struct str line)
{
    size_t i = 0;
    while (i < line.len && (line.p[i] == ' ' || line.p[i] == '\t')) i++;
    if (i == line.len || line.p[i] != '{') return IMPORT_PROMETHEUS;
    for (i++; i < line.len && line.p[i] == ' ';) i++;
    if (i == line.len || line.p[i] != '"')
        return str_has_prefix((struct str){line.p + i, line.len - i}, STR("__name__="))
                   ? IMPORT_DUMP
                   : IMPORT_PROMETHEUS;
    for (i++; i < line.len && line.p[i] != '"'; i++)
        if (line.p[i] == '\\') i++;
    for (i++; i < line.len && line.p[i] == ' ';) i++;
    return i < line.len && line.p[i] == ':' ? IMPORT_JSONL : IMPORT_PROMETHEUS;
}

static enum err_code note_bad(struct import_lines *in, enum reject_reason reason, struct err *err)
{
    in->n_bad++;
    in->sink.problem(in->sink.ctx, in->line, reason, err->text);
    return ERR_OK;
}

static enum err_code take_line(struct import_lines *in, struct str line, struct err *err)
{
    enum reject_reason reason = REJECT_NONE;
    in->line++;
    if (in->too_long) { /* its beginning was thrown away */
        in->too_long = false;
        err_set(err, ERR_INVALID, "a line of more than %zu bytes", IMPORT_LINE_BYTES_MAX);
        return note_bad(in, reason, err);
    }
    if (in->format == IMPORT_AUTO) {
        size_t blank = 0;
        while (blank < line.len && strchr(" \t\r", line.p[blank]) && line.p[blank]) blank++;
        if (blank == line.len) return ERR_OK;
        in->format = format_of(line);
    }
    arena_reset(&in->arena);
    samples_reset(&in->samples);
    enum err_code rc = in->format == IMPORT_JSONL ? json_line(in, line, &reason, err)
                                                  : text_line(in, line, &reason, err);
    /* An error of the sink is not the line's. */
    return rc == ERR_INVALID && !in->failed ? note_bad(in, reason, err) : rc;
}

static enum err_code keep_partial(struct import_lines *in, const uint8_t *p, size_t len,
                                  struct err *err)
{
    if (in->too_long) return ERR_OK;
    if (len > IMPORT_LINE_BYTES_MAX - in->partial.len) {
        in->too_long = true;
        buf_reset(&in->partial);
        return ERR_OK;
    }
    buf_put(&in->partial, p, len);
    return buf_finish(&in->partial, err);
}

enum err_code import_lines_feed(struct import_lines *in, struct bytes part, struct err *err)
{
    const uint8_t *p = part.p, *end = part.len ? part.p + part.len : part.p;
    while (p < end) {
        const uint8_t *lf = memchr(p, '\n', (size_t)(end - p));
        if (!lf) return keep_partial(in, p, (size_t)(end - p), err);
        enum err_code rc = ERR_OK;
        struct str line = {(const char *)p, (size_t)(lf - p)};
        if (in->partial.len) {
            rc = keep_partial(in, p, (size_t)(lf - p), err);
            line = str_from_bytes(buf_bytes(&in->partial));
        }
        if (!rc) rc = take_line(in, line, err);
        if (rc) return rc;
        buf_reset(&in->partial);
        p = lf + 1;
    }
    return ERR_OK;
}

enum err_code import_lines_finish(struct import_lines *in, struct err *err)
{
    enum err_code rc = ERR_OK;
    if (in->partial.len || in->too_long)
        rc = take_line(in, str_from_bytes(buf_bytes(&in->partial)), err);
    buf_reset(&in->partial);
    if (!rc) rc = import_lines_flush(in, err);
    if (rc || in->format != IMPORT_OPENMETRICS || in->eof) return rc;
    return err_set(
        err, ERR_INVALID,
        "the text does not end with # EOF: a part of it is missing; what came is stored");
}
