/* tools/server_compress.h: the compressed form of one answer: gzip, deflate (RFC 1950's format) or zstd (RFC 8878), whole
 * or part by part. Threads: one at a time. */
#ifndef QUIPU_TOOLS_SERVER_COMPRESS_H
#define QUIPU_TOOLS_SERVER_COMPRESS_H

#include "base/bytes.h"

struct compressor; /* from compressor_new() */

/* NULL: memory is out; plain is an answer, too. */
struct compressor *compressor_new(const char *encoding);
void compressor_free(struct compressor *c); /* NULL: no-op */

enum compress_flush {
    COMPRESS_MORE,  /* may keep what it likes */
    COMPRESS_FLUSH, /* what was written can be read */
    COMPRESS_END
};
/* Takes the compressed bytes, which it may not keep. */
typedef enum err_code compress_sink_fn(void *arg, struct bytes out, struct err *err);
MUST_USE enum err_code compressor_write(struct compressor *c, struct bytes in,
                                        enum compress_flush flush, compress_sink_fn *sink,
                                        void *arg, struct err *err);

/* The whole of `in`, appended to `out`; false: it would not be shorter, or memory is out. */
bool compress_whole(const char *encoding, struct bytes in, struct buf *out);

#endif
