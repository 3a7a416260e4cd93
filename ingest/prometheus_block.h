/* ingest/prometheus_block.h: reads a block of Prometheus's TSDB: a folder with meta.json (version 1), index (version 1 or 2),
 * chunks/NNNNNN and tombstones. All numbers are big-endian; every section has a CRC-32C, which is checked, and every length
 * is checked against the bytes that are there. Source: Prometheus's documents of these formats (tsdb/docs/format).
 *
 * index      u32 0xbaaad700, u8 version, sections, table of contents: u64 offsets of symbols, series, label indices, their table,
 *            postings, their table; u32 crc
 * symbols    u32 length, u32 n, n times varint length and bytes; u32 crc
 * series     varint length; varint n, n times varint name and varint value (number of a symbol; version 1: its offset); varint
 *            n of chunks: zig-zag first time, varint length of time, varint reference; then varint gap to the chunk before,
 *            varint length of time, zig-zag difference of reference; u32 crc. Version 2: at multiples of 16
 * postings   u32 length, u32 n, n u32 references (version 2: offset / 16); u32 crc. Those of all series are the table's entry
 *            with an empty name and an empty value
 * their table  u32 length, u32 n, n times u8 2, varint length and bytes of name, then value, varint offset; u32 crc
 * chunk      at (reference & 0xffffffff) of file reference >> 32: varint length, u8 encoding, bytes, u32 crc of both
 * chunks/…   u32 0x85bd40dd, u8 1, 3 zeros
 * tombstones u32 0x0130ba30, u8 1, then varint reference, zig-zag first and last time; u32 crc of these
 *
 * Threads: one at a time. */
#ifndef QUIPU_INGEST_PROMETHEUS_BLOCK_H
#define QUIPU_INGEST_PROMETHEUS_BLOCK_H

#include "base/io.h"
#include "storage/labels.h"
#include "storage/samples.h"

struct prometheus_block; /* from prometheus_block_open() */

struct prometheus_block_info {
    int64_t min_ms, max_ms;                 /* as meta.json says; samples are before max_ms */
    uint64_t n_series, n_samples, n_chunks; /* likewise */
};

/* Of what is read at once. Prometheus itself refers to symbols by 32 bits, and has them in memory as well. */
#define PROMETHEUS_SYMBOLS_BYTES_MAX ((uint64_t)2 << 30)

/* ERR_CORRUPT, ERR_VERSION, ERR_NOT_FOUND, … naming the file. */
MUST_USE enum err_code prometheus_block_open(struct io *io, const char *dir,
                                             struct prometheus_block **out, struct err *err);
void prometheus_block_close(struct prometheus_block *block); /* NULL: no-op */
void prometheus_block_info(const struct prometheus_block *block, struct prometheus_block_info *out);

/* What a walk calls; an error of theirs ends it. */
struct prometheus_walk {
    /* false: the series is passed over. NULL: all are taken. */
    bool (*wanted)(void *ctx, struct labels labels);
    /* The samples of one chunk within the range, without those that were deleted. Labels and samples are gone after the
     * call. */
    enum err_code (*put)(void *ctx, struct labels labels, const struct samples *samples,
                         struct err *err);
    /* A series or a chunk that cannot be read; the walk goes on with the next. */
    void (*broken)(void *ctx, const struct err *why);
    void *ctx;
    int64_t start_ms, end_ms; /* inclusive */
};
/* Series by series, in the order of their labels, chunk by chunk. */
MUST_USE enum err_code prometheus_block_walk(struct prometheus_block *block,
                                             const struct prometheus_walk *walk, struct err *err);

#endif
