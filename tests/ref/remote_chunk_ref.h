/* tests/ref/remote_chunk_ref.h: reads the chunks of Prometheus's TSDB one bit at a time, as its description says, so that what
 * query/remote_chunk.c writes is checked by something that shares nothing with it. */
#ifndef QUIPU_TESTS_REF_REMOTE_CHUNK_REF_H
#define QUIPU_TESTS_REF_REMOTE_CHUNK_REF_H

#include "storage/samples.h"

/* Appends the samples to `out` (histograms in out->arena); false: the bytes are no such chunk, or some are left over. The
 * first histogram has the chunk's reset hint, the others HISTOGRAM_RESET_NO unless it is a gauge. */
bool ref_remote_chunk_read(unsigned type, struct bytes chunk, struct samples *out);

#endif
