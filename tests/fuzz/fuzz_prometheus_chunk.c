/* A chunk of Prometheus's TSDB; the first byte is its encoding. */
#include "ingest/prometheus_chunk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size) return 0;
    struct arena arena;
    struct samples s;
    struct err err;
    arena_init(&arena, MEM_INGEST, (size_t)64 << 20);
    samples_init(&s, MEM_INGEST, &arena);
    enum err_code rc =
        prometheus_chunk_read(data[0], bytes_of(data + 1, size - 1), &arena, &s, &err);
    ASSERT(rc == ERR_OK || err.text[0]);
    ASSERT(s.n <= 65535);
    for (size_t i = 0; s.h && i < s.n; i++) {
        const struct histogram *h = s.h[i];
        uint64_t pos = 0, neg = 0;
        if (!h) continue;
        for (uint32_t k = 0; k < h->n_pos_spans; k++) pos += h->pos_spans[k].length;
        for (uint32_t k = 0; k < h->n_neg_spans; k++) neg += h->neg_spans[k].length;
        ASSERT(pos == h->n_pos && neg == h->n_neg);
    }
    samples_release(&s);
    arena_release(&arena);
    return 0;
}
