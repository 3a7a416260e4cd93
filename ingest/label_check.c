/* ingest/label_check.c: see label_check.h. */
#include "ingest/label_check.h"

#include <stdio.h>

#define SERIES_TEXT_BYTES 201 /* of a series in an answer: 200 and the end */

const char *reject_reason_name(enum reject_reason reason)
{
    static const char *const NAMES[REJECT_N] = {
        "none",
        "missing_metric_name",
        "label_invalid",
        "duplicate_label_names",
        "max_label_names_per_series",
        "label_name_too_long",
        "label_value_too_long",
        "histogram_invalid",
        "too_far_in_past",
        "too_far_in_future",
    };
    ASSERT((size_t)reason < COUNT_OF(NAMES));
    return NAMES[reason];
}

const char *labels_short(struct labels labels, char *buf, size_t size)
{
    struct buf text;
    buf_init(&text, MEM_INGEST);
    labels_print(&text, labels);
    snprintf(buf, size, "%.*s", (int)MIN_OF(text.len, size - 1), text.len ? (char *)text.p : "");
    buf_release(&text);
    return buf;
}

static enum reject_reason check_lengths(struct labels all, const struct label_limits *limits,
                                        struct err *err)
{
    char series[SERIES_TEXT_BYTES];
    if (all.n > limits->labels_max) {
        err_set(err, ERR_INVALID,
                "received a series whose number of labels exceeds the limit (actual: %zu, limit: "
                "%zu) series: '%s' (err-quipu-max-label-names-per-series)",
                all.n, limits->labels_max, labels_short(all, series, sizeof(series)));
        return REJECT_TOO_MANY_LABELS;
    }
    for (size_t i = 0; i < all.n; i++) {
        struct label l = all.items[i];
        if (l.name.len > limits->name_bytes_max) {
            err_set(err, ERR_INVALID,
                    "received a series whose label name length exceeds the limit, label: '%.200s' "
                    "(truncated, %zu of at most %zu bytes) (err-quipu-label-name-too-long)",
                    labels_short((struct labels){&l, 1}, series, sizeof(series)), l.name.len,
                    limits->name_bytes_max);
            return REJECT_NAME_TOO_LONG;
        }
        if (l.value.len > limits->value_bytes_max) {
            err_set(err, ERR_INVALID,
                    "received a series whose label value length exceeds the limit, label: '%.*s', "
                    "%zu of at most %zu bytes, series: '%s' (err-quipu-label-value-too-long)",
                    STR_ARG(l.name), l.value.len, limits->value_bytes_max,
                    labels_short(all, series, sizeof(series)));
            return REJECT_VALUE_TOO_LONG;
        }
    }
    return REJECT_NONE;
}

static enum reject_reason invalid(struct labels all, enum reject_reason reason, struct err *err)
{
    char series[SERIES_TEXT_BYTES];
    err_set(err, ERR_INVALID, "invalid metric name or labels, got %s",
            labels_short(all, series, sizeof(series)));
    return reason;
}

static enum reject_reason duplicate(struct labels all, struct err *err)
{
    char series[SERIES_TEXT_BYTES];
    size_t i = 1;
    while (i < all.n && !str_eq(all.items[i - 1].name, all.items[i].name)) i++;
    struct str name = i < all.n ? all.items[i].name : STR("");
    err_set(err, ERR_INVALID, "invalid labels for series, labels %s, duplicated label %.*s",
            labels_short(all, series, sizeof(series)), STR_ARG(name));
    return REJECT_DUPLICATE_LABEL;
}

enum reject_reason label_check(struct label *items, size_t n, const struct label_limits *limits,
                               struct labels *out, struct err *err)
{
    struct labels sent = {items, n};
    enum reject_reason reason = check_lengths(sent, limits, err);
    if (reason) return reason;
    for (size_t i = 0; i < n; i++)
        if (items[i].name.len == 0 || !utf8_valid(items[i].name) || !utf8_valid(items[i].value))
            return invalid(sent, REJECT_INVALID_LABEL, err);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (items[i].value.len) items[kept++] = items[i];
    *out = (struct labels){items, kept};
    if (!labels_sort(items, kept)) return duplicate(*out, err);
    if (labels_get(*out, STR(LABEL_NAME)).len == 0) return invalid(*out, REJECT_NO_NAME, err);
    return REJECT_NONE;
}
