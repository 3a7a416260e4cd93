/* Any bytes as the body of a remote read: refused with a text, or matchers that can be asked. */
#include <stdlib.h>

#include "base/snappy.h"
#include "query/read_request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;
    struct read_request request;
    struct err err;
    arena_init(&arena, MEM_QUERY, 64u << 20);
    enum err_code rc = read_request_parse(bytes_of(data, size), &arena, &request, &err);
    if (rc && !err.text[0]) abort();
    for (size_t i = 0; !rc && i < request.n_queries; i++)
        for (size_t k = 0; k < request.queries[i].n_matchers; k++)
            (void)matcher_matches(&request.queries[i].matchers[k], STR("text"));
    read_request_release(&request);
    arena_release(&arena);
    return 0;
}
