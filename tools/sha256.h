/* tools/sha256.h: SHA-256 by libcrypto, of bytes that come in parts. Threads: one at a time. */
#ifndef QUIPU_TOOLS_SHA256_H
#define QUIPU_TOOLS_SHA256_H

#include "base/bytes.h"

#define SHA256_HEX_BYTES 65 /* with the NUL */
struct sha256;              /* from sha256_new() */

MUST_USE enum err_code sha256_new(struct sha256 **out, struct err *err);
void sha256_free(struct sha256 *sha); /* NULL: no-op */
MUST_USE enum err_code sha256_begin(struct sha256 *sha, struct err *err);
MUST_USE enum err_code sha256_add(struct sha256 *sha, struct bytes part, struct err *err);
/* In lower-case hex. sha256_begin() starts the next one. */
MUST_USE enum err_code sha256_end(struct sha256 *sha, char hex[SHA256_HEX_BYTES], struct err *err);

#endif
