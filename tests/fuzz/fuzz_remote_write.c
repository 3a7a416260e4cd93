/* tests/fuzz/fuzz_remote_write.c: message 1.0; see write_fuzz.h. */
#include "tests/fuzz/write_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_write(write_request_decode, data, size);
    return 0;
}
