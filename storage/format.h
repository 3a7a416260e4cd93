/* storage/format.h: every byte that storage writes, described once. Little-endian; varint is unsigned LEB128,
 * zz(x) its zig-zag form. docs/formats.md walks through a hex dump.
 *
 * ---- Chunks: samples of one series ----
 * The first byte is the encoding (enum chunk_encoding). Times are int64 ms, strictly rising; differences and
 * differences of differences ("dod") are taken modulo 2^64, the first difference counts from 0. Values are the
 * 64 bits of the double, never arithmetic on them. What a chunk's bytes do not use up is corruption.
 *
 * CHUNK_CONSTANT: u8 0, varint n (1..65535), u64 value, zz(t of the first sample), then dods until n - 1 are there:
 *   zz(dod) if dod != 0; 0 and varint r - 1 for a run of r dods that are 0.
 *
 * CHUNK_GORILLA: Pelkonen et al. 2015, 4.1, with time classes for milliseconds, and a header of fixed size, so that
 * an open chunk can grow in place.
 *   0 u8 5   1 u8 0   2 u16 n (1..65535)   4 u32 n_bits   8 i64 t of the first sample   16 u64 its value
 *   24 n_bits bits, in ceil(n_bits / 8) bytes. Bit i of the stream is bit i % 8 (0 = lowest) of byte i / 8; a number
 *      of k bits has its lowest bit first; spare bits of the last byte are 0.
 *   Each later sample, time then value (bits of a prefix in stream order):
 *     0                           dod = 0
 *     10    5 bits                dod + 16
 *     110  12 bits                dod + 2048
 *     1110 20 bits                dod + 524288
 *     1111 64 bits                dod
 *     0                           same value as before
 *     10   len bits               XOR with the value before, shifted right by the window's trailing zeros
 *     11    5 bits  6 bits  len bits   a new window: leading zeros, len - 1, then the XOR within the window
 *   A window's trailing zeros are 64 - leading - len, which is not negative. The first window is a new one.
 *
 * CHUNK_RAW: u8 6, varint n (1..65535), n times i64, n values u64.
 *
 * CHUNK_HISTOGRAMS: u8 9, varint n (1..65535), then n rows: zz(dod), u8 kind, and by kind
 *   0  u64 value: a float sample
 *   1  a histogram as histogram_encode() writes it
 *   2  an integer histogram of the same shape as that of the row before (which is not kind 0): zz(count - count
 *      before), u64 sum, zz of the zero bucket's difference, then zz for each positive and each negative bucket
 *
 * CHUNK_COLUMNS: u8 10, a time column (which begins with n, here 1..65535), a value chunk of n values: both below.
 *
 * CHUNK_HISTOGRAM_COLUMNS: u8 11, a time column (which begins with n, here 1..65535; "Time columns"), then the samples in
 * segments until there are n: varint (number of samples - 1) * 4 + kind, varint length of the body, body. With r the
 * number of samples, by kind:
 *   0  r float samples: a value chunk ("Value chunks")
 *   1  r rows as in CHUNK_HISTOGRAMS without their zz(dod)
 *   2  r histograms of one layout: u8 flags, layout, rest
 *   3  as 2, but without a layout: that of the last segment of kind 2 before
 *   flags: bits 0-1 reset hint, 4 INT, 8 START, 16 WHOLE, 32 TOTALS (only with WHOLE)
 *   layout: varint zz(schema) * 2 + t; if t: f64 zero threshold (without: 0); positive, then negative spans: varint how
 *     many, for each zz(offset), varint length; schema -53: varint how many bounds, f64 each
 *   rest: if START: an integer column of r start_ms (without: all 0)
 *     varint length, value chunk of r sums
 *     The counts, in this order: count, zero count, each positive, each negative bucket
 *     WHOLE: they are whole numbers of 0..2^53. With TOTALS the counts' own column is missing: the count is the sum of
 *       all others. For each column: varint first value. If r > 1: 2 bits a column from the lowest bit of a byte on (4
 *       to a byte, spare bits 0): its mode; then for each an integer column of r - 1 numbers for the samples from the
 *       second on, by mode: 0 difference to the sample before; 1 this less the difference of the column before (not in
 *       the first column); 2 the count itself. Modulo 2^64.
 *     without WHOLE: for each column varint length, value chunk of r
 * r times the number of counts, summed over the segments of kinds 2 and 3, is at most 2^22.
 *
 * ---- Integer columns ----
 * n int64, n known from elsewhere; all arithmetic modulo 2^64. Frames of 128 values, the last one has the rest:
 *   u8 h        bits 0-6: width b, 0..64; bit 7: there are exceptions. Other values: corruption, but
 *               0x7F: a run; varint r - 1 follows and nothing else: r frames (one with the rest counts) whose values
 *               all are the base of the frame before
 *   varint zz(base - base of the frame before); the first frame's: zz(base)
 *   if bit 7 of h is set: u8 n_exc (1..values in the frame), u8 w (1..64), where, packed(n_exc exceptions, w bits)
 *               where: n_exc < 16: that many u8 places, rising; else a bitmap of ceil(values / 8) bytes
 *               exception: zz(x - base); the body holds 0 in its place
 *   packed(values, b bits) of x - base
 * packed(m, b): ceil(m * b / 8) bytes; value i begins at bit i * b, its lowest bit first; bit k is bit k % 8 of byte
 * k / 8. Each packed part begins at a byte. Spare bits are 0 as written and ignored by readers.
 *
 * ---- Time columns ----
 * varint n (1..2^24), u8 kind, zz(t of the first), then by kind an integer column of n - 1:
 *   0 deltas   t - t before
 *   1 grid     varint step comes first; t[i] - (t[0] + i * step)
 * Times rise strictly; anything else is corruption.
 *
 * ---- Value chunks ----
 * n doubles without times; n (>= 1) from elsewhere. u8 tag: bits 0-3 kind, bit 4 there are patches (kinds 1 to 3), bits
 * 5-6 order (kinds 1 to 3), bit 7 zero. What the bytes do not use up is corruption.
 *   0 constant      bit 5 of the tag: 8 bytes of the double; without it: zz(integer)
 *   1 integers      u8 scale = e * 4 + mode, varint gcd (>= 1), then by order
 *                     0: [patches], column of k (gcd is 1)
 *                     1: zz(k[0]), [patches], column of (k[i] - k[i-1]) / gcd for i >= 1
 *                     2: zz(k[0]), zz(d = k[1] - k[0]), [patches], column of second deltas / gcd for i >= 2 (n >= 2)
 *                   value by mode: 0 (double)k / 10^e, e 0..12; 1 (double)k * 10^-e, the double next to 10^-e, e 0..12;
 *                   2 (double)k / 1e3 / 1e3 with e = 6, / 1e3 again with e = 9
 *   2 running sum   order 1; u8 scale = e * 4, 8 bytes v[0], [patches], two columns of n - 1: k, c.
 *                   v[i] = the double whose bits are those of (v[i-1] + (double)k / 10^e) plus c
 *   3 ordered bits  o(v) = bits, if the sign bit is set bits ^ (2^63 - 1), as int64: rises with v.
 *                     order 0: [patches], column of o(v[i])
 *                     order 1: 8 bytes v[0], [patches], column of o(v[i]) - o(v[i-1]) for i >= 1
 *   4 family        see "Families"
 *   6 raw           8 bytes each
 * 5, 7 (same deltas as another chunk) and 8 (entropy coded) are kept free.
 * patches: varint count * 2 + same (count 1..n), then for each: varint number of values since the patch before (or the
 * beginning), 8 bytes of the double; with `same` only the first has these 8 bytes, the others are equal. They are put in
 * last; in the columns such a place repeats what is before it.
 * Integers, gcd * column and their sums are modulo 2^64. Arithmetic on doubles is IEEE 754 binary64, to nearest, one
 * operation at a time (no fused multiply-add, no reciprocals for quotients).
 *
 * ---- Families: the `le` series of a classic histogram, without times ----
 * m members by rising bound, the last is +Inf; x_k is the series of member k, z_k = x_k - x_(k-1) what its bucket alone
 * counted (z_0 = x_0), N = x_(m-1). All numbers are whole and below 2^53 in amount; differences modulo 2^64. n, the
 * number of samples, is the index's.
 *   0 u8 4   1 u8 m (2..254)   2 u8 j, the dropped bucket (< m)   3 u8 flags: 1 HAS_COUNT, 2 HAS_MARKERS
 *   4 m varints: lengths in bytes of column N and of the columns z_0 .. z_(m-1) without z_j
 *     m times zz: z_0 .. z_(m-1) at the first sample, z_j included (N there is their sum)
 *     HAS_MARKERS: varint how many (>= 1), for each: varint number of samples between it and the marker before (or the
 *       start). At these samples all members are the staleness marker; columns repeat the value before (the first
 *       markers of all: have the value after)
 *     m columns of n - 1 integers ("Integer columns"): the differences in time of N, z_0 .. z_(m-1) without z_j
 * x_k is z_0 + .. + z_k if k < j, else N - z_(k+1) - .. - z_(m-1), so that z_j is never needed. HAS_COUNT: the series
 * _count has the same bits as member m - 1, and takes no bytes.
 *
 * ---- Block file, version 2 ----
 * Header (16 bytes):
 *   0 "QBLK"   4 u32 version   8 u32 0   12 u32 crc32c of bytes 0..11
 * From byte 16 on pages follow each other without gaps, section after section, then the footer, then the trailer.
 * Page: u32 stored_len, u32 raw_len | codec << 28, u32 crc32c of these 8 bytes and the payload, payload.
 *   codec 0: stored_len = raw_len bytes as they are; 1: one LZ4 block; 2: one zstd frame, no smaller than 1/1024 of what
 *   it holds. Packed only where that saves 5 % or more.
 * Unpacked, each page holds whole items: for each the varint of its length, then the items. A page is closed when the
 * next item would take it over its section's size (64 KiB of chunks, 16 KiB of the others); an item that is larger alone
 * has a page of its own. Items of a section are numbered from 0 across its pages.
 *
 * A "pair" is a label's name and value. Pairs are numbered by name, then value (bytewise), series by their labels.
 * Sections, in this order:
 *   1 chunks    item = a chunk, in any order. One of floats is a value chunk, or a family, the values of several series
 *               at once; its times are elsewhere. Others are chunks with their own times, as above. Start times, where
 *               the ref says so, stand before either: varint r - 1, zz(start - start before) for each run of r, until
 *               there is one for each sample
 *   7 times     item = a time column of at most 65,535. n times from the one numbered `start` of column c are its own, then
 *               those of column c + 1 from its first on, and so forth; they rise all through
 *   2 refs      item = the chunks of 16 series (the last item: the rest), see below
 *   3 labels    item = the labels of 16 series: for each varint n_shared, the number of pairs that are those of the
 *               series before (0 for the first), varint n_more, then n_more pairs, rising: varint number - number of
 *               the pair before - 1; the first pair of a series: varint number
 *   4 values    item = the value of a pair
 *   5 names     item = varint number of the name's first pair, then the name
 *   6 postings  item = numbers of the series that have the pair; after the last pair's, one per name: the series that
 *               have a label of that name. Tokens until the item ends: varint gap * 2 + run, where gap counts the
 *               numbers left out since the one before (since -1 at first); if run, varint r - 2 for r numbers in a row
 *
 * Refs: varint base item, varint base column, zz(base time); a directory; then for each series its times and its list.
 *   Directory, for each series: u8, bits 0-3: d; bits 4-7: length of the list, if 15: varint length - 15 follows.
 *     d = 0: the series has times of its own: varint n_chunks, varint length of the times
 *     else: no times; they (and n_chunks) are those of the series d before, in every number
 *   Times, for each chunk: varint c: 0 if the chunk has its own times, else zz(column - column of the chunk before, at
 *     first the base column) + 1, then zz(start - expected): expected is where the chunk before stops if the column is the
 *     same, else 0; then varint n - 1; zz(t_min - base time) for the first chunk, varint t_min - t_max of the chunk before
 *     - 1 for others; varint t_max - t_min
 *   List: varint item - base item of the first chunk, then for each chunk u8 flags and what follows from them:
 *     bits 0-1  kind: 0 as described so far; 3 the series is a member of a family: u8 its number in it (255: _count);
 *               1 a member again, as in the last chunk of a family; 2 u8: 1 there are start times, 2 there are
 *               histograms (then the chunk has its own times)
 *     bit 6     zz(step - step before): the chunk's item is that of the chunk before plus step, where step is that of
 *               before, at first 1 (of the first chunk 0)
 *     bit 7     u8 form, else it is that of before, at first 0: e = 0..12: numbers are k / 10^e, k whole, within 2^53;
 *               13: u64 bits each
 *     bits 2-4  the floats' first, last, min and max: 0 there are no floats: all NaN (the bits of 0x7ff8000000000000);
 *               1 all are the first; 2 first = min, last = max; 3 first = max, last = min; 4 any
 *               form 13: first, then for shapes 2 to 4 last, then for 4 min and max
 *               else: zz(first - last of the chunk before, 0 at first and after another form), zz(last - first), varint
 *               min(first, last) - min, varint max - max(first, last)
 *     bit 5     varint n_resets; else it is 0
 *
 * Footer: the block: 26 bytes ulid, varint incarnation, varint sequence, varint level, zz(t_min), varint t_max - t_min,
 *   varint n_series, varint n_samples, varint n_chunks (of all series: a family counts for each member), zz(created_ms);
 *   then varint n_sections; for each: u8 id, varint n_pages, and for each page: varint stored_len, varint raw_len * 4 +
 *   codec, varint number of items
 * Trailer (32 bytes): u64 footer_off, u32 footer_len, u32 crc32c of the footer, u32 version, u32 crc32c of bytes 0..19,
 *   "QBLKEND" and 0x0A
 * Every byte is covered: by the header's, a page's, the footer's or the trailer's checksum, or it is magic.
 *
 * ---- Block file, version 1 ----
 * Read, no longer written. It differs:
 *   Unpacked, a page is u32 n, n times u32 end of item (from the first item's start, not falling), the items.
 *   There is no codec 2; the page table has varint raw_len * 2 + codec.
 *   There is no section 7; all chunks have their own times. Those of one series are in order of time, series after series,
 *   each belongs to one.
 *   Refs: varint number of the first chunk, zz(base time), then for each series: varint n_chunks (>= 1), varint length of
 *   what follows, n_chunks statistics.
 *   Statistics of a chunk (struct chunk_meta): u8 flags, zz(t_min - t_max of the series' chunk before, or base time),
 *     varint t_max - t_min, varint n - 1, then by flags:
 *     1 INTS      the numbers are whole, within 2^53: zz(first), zz(last - first), zz(min - first), zz(max - first);
 *                 without it: u64 bits each
 *     2 MONOTONE  min and max are first and last (or last and first, whichever is less): not written
 *     4 SAME      all four are the same bits: only the first is written
 *     8 HISTOGRAMS  there are histogram samples
 *    16 NO_FLOATS all four are NaN (the bits of 0x7ff8000000000000): none is written
 *    32 RESETS    varint n_resets follows the numbers; else it is 0
 *    64 FALLING   with MONOTONE: min is last and max is first */
#ifndef QUIPU_STORAGE_FORMAT_H
#define QUIPU_STORAGE_FORMAT_H

#include "base/defs.h"

#define CHUNK_DOD_1_BITS 5
#define CHUNK_DOD_2_BITS 12
#define CHUNK_DOD_3_BITS 20

#define BLOCK_MAGIC "QBLK"
#define BLOCK_END_MAGIC "QBLKEND\n"
#define BLOCK_VERSION 2
#define BLOCK_VERSION_MIN 1
#define BLOCK_HEADER_BYTES 16
#define BLOCK_TRAILER_BYTES 32
#define BLOCK_GROUP_SERIES 16

#define PAGE_HEADER_BYTES 12
#define PAGE_RAW_BYTES_MAX (UINT32_C(64) << 20) /* what one page may take in memory */
#define PAGE_ITEM_BYTES_MAX (PAGE_RAW_BYTES_MAX - 64)
#define PAGE_CODEC_SHIFT 28
#define PAGE_TABLE_CODEC_BITS 2 /* 1 in version 1 */
#define BLOCK_FOOTER_BYTES_MAX (UINT32_C(1) << 30)
enum page_codec { PAGE_PLAIN = 0, PAGE_LZ4 = 1, PAGE_ZSTD = 2 };
static_assert(PAGE_RAW_BYTES_MAX < UINT32_C(1) << PAGE_CODEC_SHIFT,
              "length and codec share a word");

enum block_section {
    SECTION_CHUNKS = 1,
    SECTION_REFS = 2,
    SECTION_LABELS = 3,
    SECTION_VALUES = 4,
    SECTION_NAMES = 5,
    SECTION_POSTINGS = 6,
    SECTION_TIMES = 7
};
#define BLOCK_SECTIONS 7
#define BLOCK_SECTIONS_V1 6 /* all but the times */

enum chunk_meta_flags {
    META_INTS = 1,
    META_MONOTONE = 2,
    META_SAME = 4,
    META_HISTOGRAMS = 8,
    META_NO_FLOATS = 16,
    META_RESETS = 32,
    META_FALLING = 64
};

#define INTCOL_EXCEPTIONS 0x80u /* of a frame's first byte */
#define INTCOL_RUN 0x7Fu        /* as a frame's first byte */
#define INTCOL_WHERE_BITMAP 16u /* from so many exceptions on their places are a bitmap */

#define FAMILY_TAG 4
enum family_flags { FAMILY_HAS_COUNT = 1, FAMILY_HAS_MARKERS = 2 };

enum times_kind { TIMES_DELTAS = 0, TIMES_GRID = 1 };

/* A value chunk's tag: kind, flags, order. */
enum values_kind {
    VALUES_CONSTANT = 0,
    VALUES_SCALED = 1,
    VALUES_SUM = 2,
    VALUES_BITS = 3,
    VALUES_FAMILY = FAMILY_TAG,
    VALUES_RAW = 6
};
#define VALUES_KIND_MASK 0x0Fu
#define VALUES_PATCHES 0x10u
#define VALUES_ORDER(tag) ((unsigned)(tag) >> 5 & 3u)
#define VALUES_ORDER_SHIFT 5
#define VALUES_CONSTANT_BITS 0x20u

/* What stands in the refs of version 2 before and in front of a chunk's statistics. */
#define REF_TIMES_OF_MASK 15u
#define REF_LEN_SHIFT 4
#define REF_LEN_MORE 15u
enum ref_kind { REF_PLAIN = 0, REF_MEMBER_AGAIN = 1, REF_EXTRA = 2, REF_MEMBER = 3 };
#define REF_KIND_MASK 3u
enum ref_shape { REF_NO_FLOATS = 0, REF_SAME = 1, REF_RISING = 2, REF_FALLING = 3, REF_RANGE = 4 };
#define REF_SHAPE_SHIFT 2
#define REF_SHAPE_MASK 7u
#define REF_RESETS 32u
#define REF_STEP 64u
#define REF_FORM 128u
#define REF_EXTRA_STARTS 1u
#define REF_EXTRA_HISTOGRAMS 2u
#define REF_FORM_DECIMALS_MAX 12
#define REF_FORM_RAW 13

enum chunk_row { CHUNK_ROW_FLOAT = 0, CHUNK_ROW_HISTOGRAM = 1, CHUNK_ROW_DELTA = 2 };

#define CHUNK_ROW_BYTES_MIN 10 /* a float's: dod, kind, value; a histogram's has more */

enum histogram_segment {
    HISTOGRAM_FLOATS = 0,
    HISTOGRAM_ROWS = 1,
    HISTOGRAM_NEW_LAYOUT = 2,
    HISTOGRAM_SAME_LAYOUT = 3
};
enum histogram_segment_flags {
    HISTOGRAM_FLAG_HINT = 3,
    HISTOGRAM_FLAG_INT = 4,
    HISTOGRAM_FLAG_START = 8,
    HISTOGRAM_FLAG_WHOLE = 16,
    HISTOGRAM_FLAG_TOTALS = 32
};
#define HISTOGRAM_FLAGS_KNOWN 0x3F
enum histogram_column_mode { HISTOGRAM_DELTAS = 0, HISTOGRAM_NEIGHBOURS = 1, HISTOGRAM_PLAIN = 2 };

#endif
