/* A stream of lines in one of the text formats (the first byte says which, and how it is cut): what goes to the sink is a
 * message that remote write can read. */
#include "base/protobuf.h"
#include "ingest/import_lines.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum err_code take_message(void *ctx, struct bytes message, size_t n, struct err *err)
{
    struct pb pb = pb_init(message, "WriteRequest");
    struct pb_field f;
    (void)ctx;
    (void)err;
    ASSERT(n > 0);
    while (pb_next(&pb, &f)) ASSERT(f.number == 1);
    ASSERT(pb.error == PB_OK);
    return ERR_OK;
}

static void take_problem(void *ctx, uint64_t line, enum reject_reason reason, const char *why)
{
    (void)ctx;
    (void)reason;
    ASSERT(line > 0);
    ASSERT(why[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size) return 0;
    struct import_lines in;
    struct label_limits limits = {30, 200, 200};
    struct import_sink sink = {take_message, take_problem, NULL};
    struct err err;
    enum err_code rc = ERR_OK;
    size_t part = 1 + data[0] / 5;
    import_lines_init(&in, MEM_INGEST, (enum import_format)(data[0] % 5), &limits, &sink);
    for (size_t at = 1; !rc && at < size; at += part)
        rc = import_lines_feed(&in, bytes_of(data + at, MIN_OF(part, size - at)), &err);
    if (!rc) rc = import_lines_finish(&in, &err);
    ASSERT(rc == ERR_OK || err.text[0]);
    import_lines_release(&in);
    return 0;
}
