/* Any bytes as a run of exemplars behind a good checksum: refused, or what encodes to a run that gives the same again. */
#include <stdlib.h>

#include "base/crc32c.h"
#include "engine/exemplars.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void encode(struct exemplars *ex, struct buf *out)
{
    struct exemplar_run run;
    struct err err;
    if (exemplars_encode(ex, true, out, &run, &err)) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct exemplar_room room = {.max = 1000, .bytes_max = (size_t)1 << 20}, other = room;
    struct exemplars ex, again;
    struct buf run, first, second;
    struct err err;
    exemplars_init(&ex, &room);
    exemplars_init(&again, &other);
    buf_init(&run, MEM_BASE);
    buf_init(&first, MEM_BASE);
    buf_init(&second, MEM_BASE);
    buf_put(&run, data, size);
    buf_u32(&run, crc32c(0, data, size));
    if (exemplars_load(&ex, buf_bytes(&run), &err) == ERR_OK) {
        encode(&ex, &first);
        if (first.len && exemplars_load(&again, buf_bytes(&first), &err)) abort();
        encode(&again, &second);
        if (first.len != second.len) abort();
        if (first.len && memcmp(first.p, second.p, first.len) != 0) abort();
    }
    buf_release(&run);
    buf_release(&first);
    buf_release(&second);
    exemplars_release(&ex);
    exemplars_release(&again);
    return 0;
}
