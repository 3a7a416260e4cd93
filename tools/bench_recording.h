/* tools/bench_recording.h: remote-write bodies kept in a file, to be sent again.
 *
 * Recording: nothing but requests in the order in which they came, each a u32 length (little-endian) and so many bytes: a
 * remote write 1.0 body as it was sent, protobuf in a snappy block. A last request that is cut short (the recorder was killed)
 * is left out. */
#ifndef QUIPU_TOOLS_BENCH_RECORDING_H
#define QUIPU_TOOLS_BENCH_RECORDING_H

#include "base/io.h"
#include "tools/bench_load.h"

#define RECORDING_BODY_BYTES_MAX (32u << 20)

struct recording_counts {
    uint64_t n_requests, n_samples; /* floats and histograms */
    int64_t first_ms, last_ms;      /* of the samples; meaningless without any */
};
/* Adds what a body holds. ERR_INVALID: it is no remote write 1.0. */
MUST_USE enum err_code recording_count(struct recording_counts *counts, struct bytes body,
                                       struct err *err);

/* Appends one request at *off and moves it on. */
MUST_USE enum err_code recording_append(struct file *file, uint64_t *off, struct bytes body,
                                        struct err *err);
/* The request at *off into `body`, and moves on; body->len 0 at the end, or where the last request is cut short. ERR_CORRUPT
 * names the place. */
MUST_USE enum err_code recording_next(struct file *file, uint64_t *off, struct buf *body,
                                      struct err *err);

/* Reads all of the file once to count it; then sends its requests one by one. */
MUST_USE enum err_code bench_recording_new(struct io *io, const char *path, struct bench_load **out,
                                           struct err *err);

#endif
