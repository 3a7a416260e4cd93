/* ingest/write_message.h: makes the message of remote write 1.0 (prometheus.WriteRequest): what importers put the samples
 * into that they read, so that these take the way of all others. Appends to a buffer, whose lack of memory is sticky. */
#ifndef QUIPU_INGEST_WRITE_MESSAGE_H
#define QUIPU_INGEST_WRITE_MESSAGE_H

#include "storage/histogram.h"
#include "storage/labels.h"
#include "storage/samples.h"

/* One series: begin, samples in any number and order, end with what begin returned. Labels as they are: who reads the
 * message checks them. */
size_t write_message_begin(struct buf *out, struct labels labels);
void write_message_float(struct buf *out, int64_t t_ms, double v);
void write_message_histogram(struct buf *out, int64_t t_ms, const struct histogram *h);
void write_message_end(struct buf *out, size_t at);
/* A whole series of the samples from…to - 1. */
void write_message_samples(struct buf *out, struct labels labels, const struct samples *s,
                           size_t from, size_t to);

#endif
