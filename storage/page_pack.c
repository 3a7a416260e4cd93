/* storage/page_pack.c: see the header. LZ4 is tried where time counts, zstd where blocks are old and rewritten rarely. */
#include "storage/page_pack.h"

#include <lz4.h>
#include <lz4hc.h>
#include <zstd.h>

#define LZ4_RATIO_MAX 255 /* of the format: a longer result cannot come from so few bytes */
#define ZSTD_RATIO_MAX                                                                             \
    1024 /* ours: what would pack better is left to LZ4, so that a few bytes cannot ask for much */
#define ZSTD_LEVEL 9

void page_packer_init(struct page_packer *p, enum page_effort effort)
{
    *p = (struct page_packer){.effort = effort};
    buf_init(&p->out, MEM_STORAGE);
}

void page_packer_release(struct page_packer *p)
{
    buf_release(&p->out);
    mem_free(p->lz4hc);
    ZSTD_freeCCtx(p->zstd);
    page_packer_init(p, p->effort);
}

static size_t pack_lz4(struct page_packer *p, struct bytes raw, uint8_t *to, size_t room)
{
    const char *from = (const char *)raw.p;
    int n = 0;
    if (p->effort != PAGE_EFFORT_LZ4 && !p->lz4hc)
        p->lz4hc = mem_alloc(MEM_STORAGE, (size_t)LZ4_sizeofStateHC());
    if (p->effort == PAGE_EFFORT_LZ4)
        n = LZ4_compress_default(from, (char *)to, (int)raw.len, (int)room);
    else if (p->lz4hc)
        n = LZ4_compress_HC_extStateHC(p->lz4hc, from, (char *)to, (int)raw.len, (int)room,
                                       LZ4HC_CLEVEL_DEFAULT);
    return n > 0 ? (size_t)n : 0;
}

static size_t pack_zstd(struct page_packer *p, struct bytes raw, uint8_t *to, size_t room)
{
    if (!p->zstd) p->zstd = ZSTD_createCCtx();
    if (!p->zstd) return 0;
    size_t n = ZSTD_compressCCtx(p->zstd, to, room, raw.p, raw.len, ZSTD_LEVEL);
    return ZSTD_isError(n) || raw.len / ZSTD_RATIO_MAX > n ? 0 : n;
}

struct bytes page_pack(struct page_packer *p, struct bytes raw, enum page_codec *codec)
{
    *codec = PAGE_PLAIN;
    if (p->effort == PAGE_EFFORT_NONE) return raw;
    size_t room = raw.len - raw.len / 20, n = 0;
    buf_reset(&p->out);
    uint8_t *to = buf_reserve(&p->out, room);
    if (!to || room == 0) return raw; /* no memory to pack: plain is as good */
    if (p->effort == PAGE_EFFORT_ZSTD) n = pack_zstd(p, raw, to, room);
    if (n) {
        *codec = PAGE_ZSTD;
        return bytes_of(to, n);
    }
    n = pack_lz4(p, raw, to, room);
    if (!n) return raw;
    *codec = PAGE_LZ4;
    return bytes_of(to, n);
}

bool page_sizes_valid(enum page_codec codec, uint64_t stored_len, uint64_t raw_len)
{
    if (raw_len > PAGE_RAW_BYTES_MAX || stored_len == 0 || stored_len > raw_len) return false;
    switch (codec) {
    case PAGE_PLAIN: return stored_len == raw_len;
    case PAGE_LZ4: return raw_len / LZ4_RATIO_MAX <= stored_len;
    case PAGE_ZSTD: return raw_len / ZSTD_RATIO_MAX <= stored_len;
    }
    return false;
}

bool page_unpack(enum page_codec codec, struct bytes stored, uint8_t *raw, size_t raw_len)
{
    int n;
    switch (codec) {
    case PAGE_PLAIN:
        if (stored.len != raw_len) return false;
        memcpy(raw, stored.p, raw_len);
        return true;
    case PAGE_LZ4:
        n = LZ4_decompress_safe((const char *)stored.p, (char *)raw, (int)stored.len, (int)raw_len);
        return n >= 0 && (size_t)n == raw_len;
    case PAGE_ZSTD: return ZSTD_decompress(raw, raw_len, stored.p, stored.len) == raw_len;
    }
    return false;
}
