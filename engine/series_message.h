/* engine/series_message.h: prometheus.TimeSeries, of which a message of remote write 1.0 and an answer to remote read are made:
 * importers put the samples that they read into the one, so that these take the way of all others. Appends to a buffer, whose
 * lack of memory is sticky. */
#ifndef QUIPU_ENGINE_SERIES_MESSAGE_H
#define QUIPU_ENGINE_SERIES_MESSAGE_H

#include "storage/histogram.h"
#include "storage/labels.h"
#include "storage/samples.h"

/* One series, as field 1 of the message: begin, samples in any number and order, end with what begin returned. Labels as they
 * are: who reads the message checks them. */
size_t series_message_begin(struct buf *out, struct labels labels);
void series_message_end(struct buf *out, size_t at);
/* The labels alone, which other messages have in the same field. */
void series_message_labels(struct buf *out, struct labels labels);
/* Samples from...to - 1. with_starts: start timestamps of histograms, which are not in all messages. */
void series_message_samples(struct buf *out, const struct samples *s, size_t from, size_t to,
                            bool with_starts);

#endif
