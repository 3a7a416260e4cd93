/* ingest/import_lines.h: a stream of lines in, messages of remote write out. Memory is bounded by the longest line and a message,
 * whatever the length of the stream. A bad line is told and left out, the rest goes in.
 * Threads: one at a time. */
#ifndef QUIPU_INGEST_IMPORT_LINES_H
#define QUIPU_INGEST_IMPORT_LINES_H

#include "ingest/label_check.h"
#include "storage/samples.h"

enum import_format {
    IMPORT_AUTO, /* by the first line that is not blank: JSON, a dump, or else Prometheus's text */
    IMPORT_JSONL,
    IMPORT_PROMETHEUS,
    IMPORT_OPENMETRICS,
    IMPORT_DUMP
};

#define IMPORT_LINE_BYTES_MAX ((size_t)32 << 20)
#define IMPORT_MESSAGE_BYTES ((size_t)1 << 20) /* about; a message ends with a line */
#define IMPORT_MESSAGE_SAMPLES 50000

struct import_sink {
    /* Takes a message with so many samples; an error ends the import. */
    enum err_code (*store)(void *ctx, struct bytes message, size_t n_samples, struct err *err);
    /* A line that was left out. */
    void (*problem)(void *ctx, uint64_t line, enum reject_reason reason, const char *why);
    void *ctx;
};

struct import_lines {
    enum import_format format;
    struct label_limits limits;
    int64_t default_ms; /* of samples without a time */
    struct import_sink sink;

    uint64_t line, n_bad; /* lines so far, and those that were left out */
    uint64_t n_samples;   /* handed out */
    bool failed;          /* the sink gave an error: it is no line's */
    bool eof;             /* OpenMetrics: "# EOF" was there */
    bool too_long;        /* the rest of a line is being passed over */
    struct buf partial;   /* a line whose end is still to come */
    struct buf message;
    size_t n_message; /* samples in it */
    struct samples samples;
    struct arena arena; /* of one line */
};

void import_lines_init(struct import_lines *in, enum mem_owner owner, enum import_format format,
                       const struct label_limits *limits, const struct import_sink *sink);
void import_lines_release(struct import_lines *in);
/* The next bytes of the stream. Errors are the sink's, ERR_NO_MEMORY and ERR_LIMIT. */
MUST_USE enum err_code import_lines_feed(struct import_lines *in, struct bytes part,
                                         struct err *err);
/* The end of the stream: what is left goes to the sink. ERR_INVALID: an OpenMetrics text without its "# EOF", of which a part
 * is missing; what came is stored. */
MUST_USE enum err_code import_lines_finish(struct import_lines *in, struct err *err);
/* Samples of a series that were read otherwise; labels are checked as those of lines. *reason: why they were refused. */
MUST_USE enum err_code import_lines_put(struct import_lines *in, struct labels labels,
                                        const struct samples *s, enum reject_reason *reason,
                                        struct err *err);
/* Hands out the message that has gathered. */
MUST_USE enum err_code import_lines_flush(struct import_lines *in, struct err *err);

#endif
