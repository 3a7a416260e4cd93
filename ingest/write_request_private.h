/* ingest/write_request_private.h: what both messages of remote write need, for write_request*.c. */
#ifndef QUIPU_INGEST_WRITE_REQUEST_PRIVATE_H
#define QUIPU_INGEST_WRITE_REQUEST_PRIVATE_H

#include "base/hash.h"
#include "base/protobuf.h"
#include "ingest/write_request.h"

#define WRITE_SAMPLES_TAG 0x12 /* number 2, PB_LEN: in both messages */
#define WRITE_SAMPLE_BYTES_MIN                                                                     \
    13 /* field: tag, length; sample: tag, value, tag, one byte of time */

/* Where the parts of a TimeSeries are. */
struct series_parts {
    struct bytes labels; /* the label fields as message 1.0 has them, in one piece */
    struct bytes rest;   /* the fields after them */
    size_t n_labels, n_samples, n_histograms, n_exemplars;
};

/* An exemplar as sent: its labels in the sender's order, t_ms 0 when it has none. Bad labels cost the exemplar alone. */
struct sent_exemplar {
    struct label *labels;
    size_t n, cap;
    double v;
    int64_t t_ms;
};
/* Takes the fields that are alike in both messages. */
static inline void write_exemplar_field(struct sent_exemplar *e, struct pb *pb,
                                        const struct pb_field *f)
{
    if (f->number == 2 && pb_expect(pb, f, PB_FIXED64, "Value"))
        memcpy(&e->v, &f->u, 8); /* as an integer: a NaN's payload survives */
    if (f->number == 3 && pb_expect(pb, f, PB_VARINT, "Timestamp")) e->t_ms = (int64_t)f->u;
}
/* For the next one, in the same memory. */
static inline void write_exemplar_reset(struct sent_exemplar *e)
{
    e->n = 0;
    e->v = 0;
    e->t_ms = 0;
}
/* Room for one more of its labels, in the arena. */
MUST_USE enum err_code write_exemplar_label(struct write_request *w, struct sent_exemplar *e,
                                            struct label label, struct err *err);
MUST_USE enum err_code write_exemplar_push(struct write_request *w, struct series *series,
                                           struct sent_exemplar *e, struct err *err);
/* Room for one more float. */
MUST_USE enum err_code write_floats_reserve(struct write_request *w, struct err *err);
/* The start timestamp of the last float; 0: unknown. */
MUST_USE enum err_code write_float_started(struct write_request *w, int64_t st_ms, struct err *err);
/* Decodes and takes a Sample, or a Histogram. ERR_INVALID from the second is about this histogram alone. */
MUST_USE enum err_code write_sample_push(struct write_request *w, struct pb *outer,
                                         struct bytes message, struct series *series, int64_t st_ms,
                                         struct err *err);
MUST_USE enum err_code write_histogram_push(struct write_request *w, struct pb *outer,
                                            struct bytes message, struct series *series,
                                            int64_t st_ms, struct err *err);
/* A miss: the labels are parsed, checked, sorted, and the series is made known. *out NULL: refused. */
MUST_USE enum err_code write_series_add(struct write_request *w, struct pb *outer,
                                        const struct series_parts *parts, uint64_t hash,
                                        struct series **out, struct err *err);
/* A description, unless it is a bad one: it is a courtesy, the samples count. */
MUST_USE enum err_code write_metadata_push(struct write_request *w,
                                           const struct catalog_metadata *m, struct err *err);
const char *write_metadata_type(uint64_t type);

/* Exactly one field with a sample, as all senders write it: the value, then the time, which is positive. */
static inline bool write_one_sample(struct bytes rest, int64_t *t_ms, double *v)
{
    const uint8_t *p = rest.p;
    if (rest.len < WRITE_SAMPLE_BYTES_MIN || rest.len > WRITE_SAMPLE_BYTES_MIN + 7) return false;
    if (p[0] != WRITE_SAMPLES_TAG || p[1] != rest.len - 2 || p[2] != 0x09 || p[11] != 0x10)
        return false;
    /* The time's 1 to 8 bytes end the message, so that the 8 bytes before the end are inside it: seven bits of each,
     * and the highest bit of all but the last. */
    unsigned shift = 8 * (WRITE_SAMPLE_BYTES_MIN + 7 - (unsigned)rest.len);
    uint64_t u = get_u64_le(p + rest.len - 8) >> shift,
             more = UINT64_C(0x8080808080808080) >> shift;
    if ((u & more) != (more & more >> 8)) return false;
    u &= ~more;
    u = (u & UINT64_C(0x007f007f007f007f)) | (u & UINT64_C(0x7f007f007f007f00)) >> 1;
    u = (u & UINT64_C(0x00003fff00003fff)) | (u & UINT64_C(0x3fff00003fff0000)) >> 2;
    *t_ms = (int64_t)((u & UINT64_C(0x000000000fffffff)) | (u & UINT64_C(0x0fffffff00000000)) >> 4);
    uint64_t bits = get_u64_le(p + 3);
    memcpy(v, &bits, 8); /* as an integer: a NaN's payload survives */
    return true;
}

#endif
