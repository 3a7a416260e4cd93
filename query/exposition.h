/* query/exposition.h: samples as a Prometheus scrapes them: the text format 0.0.4 and the protobuf message MetricFamily,
 * delimited. Names travel as the reader can take them: as they are and quoted, or escaped to [a-zA-Z0-9_:]. */
#ifndef QUIPU_QUERY_EXPOSITION_H
#define QUIPU_QUERY_EXPOSITION_H

#include "base/bytes.h"
#include "storage/histogram.h"
#include "storage/labels.h"

enum expo_escaping {
    EXPO_UNDERSCORES, /* http.a -> http_a: the default, for readers that say nothing */
    EXPO_DOTS,        /* http.a_b -> http_dot_a__b */
    EXPO_VALUES,      /* http.a_b -> U__http_2e_a__b, which can be undone */
    EXPO_UTF8         /* "http.a_b" */
};
struct expo_format {
    bool protobuf;
    enum expo_escaping escaping;
};

/* Of an Accept header, by its q-values; text with underscores when it names nothing that is known. */
struct expo_format expo_negotiate(struct str accept);
const char *expo_content_type(struct expo_format format);
/* [a-zA-Z_:][a-zA-Z0-9_:]*, without the colon for labels: what needs neither quotes nor escaping */
bool expo_is_legacy_name(struct str name, bool is_label);
void expo_escape_name(struct buf *out, struct str name, enum expo_escaping escaping);

struct expo_sample {
    struct str name;
    struct labels labels; /* without the name; in the order in which they are written */
    int64_t t_ms;
    double v;
    const struct histogram *h; /* NULL: v. Only as protobuf: the text has no form for it */
};

/* "# TYPE name untyped" */
void expo_text_type(struct buf *out, struct str name, enum expo_escaping escaping);
void expo_text_sample(struct buf *out, const struct expo_sample *s, enum expo_escaping escaping);

enum expo_family { EXPO_UNTYPED = 3, EXPO_HISTOGRAM = 4, EXPO_GAUGE_HISTOGRAM = 5 };
/* The fields of a MetricFamily before its metrics, and one of these. */
void expo_pb_family(struct buf *out, struct str name, enum expo_family type,
                    enum expo_escaping escaping);
void expo_pb_sample(struct buf *out, const struct expo_sample *s, enum expo_escaping escaping);

#endif
