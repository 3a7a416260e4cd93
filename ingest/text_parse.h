/* ingest/text_parse.h: one line of the text formats in which Prometheus's world writes samples.
 *   TEXT_PROMETHEUS   0.0.4 and 1.0.0: name{label="value"} value [milliseconds]
 *   TEXT_OPENMETRICS  1.0: name{label="value"} value [seconds] [# exemplar]; the last line is "# EOF"
 *   TEXT_DUMP         promtool tsdb dump: {__name__="name", label="value"} value milliseconds, strings quoted as Go does it
 * Names that are not [a-zA-Z_:][a-zA-Z0-9_:]* stand in quotes inside the braces. Blanks are taken more leniently than the
 * specifications do. Exemplars are passed over. Sources: Prometheus's exposition formats, OpenMetrics 1.0. */
#ifndef QUIPU_INGEST_TEXT_PARSE_H
#define QUIPU_INGEST_TEXT_PARSE_H

#include "storage/labels.h"

enum text_format { TEXT_PROMETHEUS, TEXT_OPENMETRICS, TEXT_DUMP };

#define TEXT_LABELS_MAX 1000

struct text_sample {
    struct label
        *labels; /* as written, the name as __name__; not sorted. In the arena or the line */
    size_t n_labels;
    double v;
    int64_t t_ms;
    bool has_time;
};

enum text_line { TEXT_SAMPLE, TEXT_NOTHING /* a comment, HELP, TYPE, a blank line */, TEXT_EOF };

/* `line` without its LF. ERR_INVALID with the reason and the byte; ERR_LIMIT, ERR_NO_MEMORY. */
MUST_USE enum err_code text_line_parse(struct str line, enum text_format format,
                                       struct arena *arena, enum text_line *kind,
                                       struct text_sample *out, struct err *err);

#endif
