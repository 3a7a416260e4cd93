/* storage/page_pack.h: pages smaller and back. Threads: a packer is its owner's; page_unpack from any. */
#ifndef QUIPU_STORAGE_PAGE_PACK_H
#define QUIPU_STORAGE_PAGE_PACK_H

#include "base/bytes.h"
#include "storage/format.h"

/* More effort is smaller and slower to write; reading takes 0.1 ns a byte (LZ4) or 1 ns (zstd). */
enum page_effort {
    PAGE_EFFORT_NONE, /* as they are, which suits fuzzers */
    PAGE_EFFORT_LZ4,
    PAGE_EFFORT_LZ4_HC,
    PAGE_EFFORT_ZSTD
};

struct page_packer {
    enum page_effort effort;
    struct buf out;
    void *lz4hc; /* state of LZ4-HC; made when first needed */
    void *zstd;  /* ZSTD_CCtx */
};

void page_packer_init(struct page_packer *p, enum page_effort effort);
void page_packer_release(struct page_packer *p);
/* What to store: `raw` itself unless packing saves 5 % or more. Valid until the next call; raw.len <=
 * PAGE_RAW_BYTES_MAX. */
struct bytes page_pack(struct page_packer *p, struct bytes raw, enum page_codec *codec);

/* Could `stored_len` bytes come from page_pack of raw_len bytes? Asked before raw_len sizes memory. */
bool page_sizes_valid(enum page_codec codec, uint64_t stored_len, uint64_t raw_len);
/* False: not raw_len bytes, or no memory to find out. */
bool page_unpack(enum page_codec codec, struct bytes stored, uint8_t *raw, size_t raw_len);

#endif
