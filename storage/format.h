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
 *      before), u64 sum, zz of the zero bucket's difference, then zz for each positive and each negative bucket */
#ifndef QUIPU_STORAGE_FORMAT_H
#define QUIPU_STORAGE_FORMAT_H

#include "base/defs.h"

#define CHUNK_DOD_1_BITS 5
#define CHUNK_DOD_2_BITS 12
#define CHUNK_DOD_3_BITS 20

enum chunk_row { CHUNK_ROW_FLOAT = 0, CHUNK_ROW_HISTOGRAM = 1, CHUNK_ROW_DELTA = 2 };

#endif
