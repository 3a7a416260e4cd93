/* ingest/prometheus_chunk.h: reads the chunks of Prometheus's TSDB: what query/remote_chunk.h writes, where the format is
 * described. Every field is checked against the bytes that are there. */
#ifndef QUIPU_INGEST_PROMETHEUS_CHUNK_H
#define QUIPU_INGEST_PROMETHEUS_CHUNK_H

#include "storage/samples.h"

enum prometheus_encoding {
    PROMETHEUS_XOR = 1,
    PROMETHEUS_HISTOGRAM = 2,
    PROMETHEUS_FLOAT_HISTOGRAM = 3
};

/* Appends the samples of a chunk; histograms are in the arena. A counter's histogram that begins a chunk after a reset has the
 * hint HISTOGRAM_RESET_YES, others that of a gauge or none: a reader sees a reset by itself.
 * ERR_CORRUPT; ERR_UNSUPPORTED: an encoding of a newer release; ERR_LIMIT, ERR_NO_MEMORY. */
MUST_USE enum err_code prometheus_chunk_read(unsigned encoding, struct bytes chunk,
                                             struct arena *arena, struct samples *out,
                                             struct err *err);

#endif
