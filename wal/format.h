/* wal/format.h: the bytes of the log. docs/formats.md walks through a hex dump.
 *
 * WAL segment, version 1. Little-endian. Other versions: ERR_VERSION, naming both.
 *   0 "QWAL"   4 u32 version   8 u64 base_pos   16 u32 crc32c of bytes 0..15   20 records
 * Record: u32 len, u32 crc32c, u8 type, payload
 *   len     of the payload as stored, 1..WAL_PAYLOAD_BYTES_MAX; 0 = end (preallocated zeros)
 *   crc32c  of len, type and payload. Bad: a torn tail if it is in the newest segment and nothing
 *           valid follows, else corruption, reported by file and offset.
 *   type    enum wal_type; with WAL_TYPE_LZ4 the payload is varint raw length, then one LZ4 block
 * The log position of a record is base_pos + its offset in the file. A finished segment is followed by one
 * whose base_pos is the position after its last record. After a restart or a failed write base_pos jumps
 * (wal_position_jump) beyond every position that can have been handed out: so a bad end of a segment
 * is corruption if the next base_pos lies within the file, and an unfinished write if it lies beyond.
 *
 * Payloads (wal/record.h). All begin with varint incarnation, varint n.
 * Ids and times are columns of n zig-zag deltas (the first against 0, modulo 2^64), coded as
 *   u8 0, n varints; or u8 1, then runs until n: varint run length (>= 1), varint delta
 * WAL_SERIES:      ids, then n encoded label sets, each with a varint length
 * WAL_HISTOGRAMS:  ids, times, then n encoded histograms, each with a varint length
 * WAL_EXEMPLARS:   ids, times, then n exemplars, each with a varint length: 8 bytes value, an encoded label set
 * WAL_SAMPLES:     ids, times, then values: (n + 1) / 2 bytes of 4-bit codes (low half first, an odd
 *                  end is padded with 0), then their bytes:
 *   code 0..7      an integer: zig-zag in that many bytes (0 bytes: 0.0)
 *   code 8         all 8 bytes of the double
 *   code 9..15     its upper code - 8 bytes, the lower ones are 0 (0.5, -0, infinities)
 * WAL_STARTED:     as WAL_SAMPLES, with a column of start timestamps (ms, 0: unknown) between times and values
 * WAL_TIME:        incarnation 0, n 0, then u64: wall clock in ms when the records up to the next one were appended.
 *                  Never falls within what one process writes; each segment begins with one
 * WAL_PAD:         zeros, as long as the record that was in its place
 * WAL_TENANT:      incarnation, n 1, name with a varint length, zig-zag of when it came to be, in ms */
#ifndef QUIPU_WAL_FORMAT_H
#define QUIPU_WAL_FORMAT_H

#include "wal/wal.h"

#define WAL_MAGIC "QWAL"
#define WAL_VERSION 1u
#define WAL_HEADER_BYTES 20u
#define WAL_RECORD_HEADER_BYTES 9u
#define WAL_TYPE_LZ4 0x80u
#define WAL_TYPE_MASK 0x7fu
/* LZ4 cannot unpack more than about 255 bytes from one: a longer raw length is a lie. */
#define WAL_LZ4_RATIO_MAX 255u
#define WAL_LZ4_BYTES_MIN 64u /* shorter payloads are not worth a try */

/* A base_pos above this is not one of ours; leaves room for sums. */
#define WAL_POS_MAX (UINT64_C(1) << 62)
#define WAL_JUMP_BYTES (UINT64_C(1) << 30)
#define WAL_QUEUE_BYTES_LIMIT ((size_t)256 << 20) /* of wal_config.queue_bytes_max */
#define WAL_SEGMENT_BYTES_LIMIT (UINT64_C(256) << 20)
static_assert(WAL_QUEUE_BYTES_LIMIT + WAL_SEGMENT_BYTES_LIMIT <= WAL_JUMP_BYTES / 2,
              "a jump passes every position that can have been assigned");

/* A base_pos beyond whatever a log that is known up to `pos` can have assigned to records that were lost. */
static inline uint64_t wal_position_jump(uint64_t pos)
{
    return ((pos + WAL_JUMP_BYTES / 2) / WAL_JUMP_BYTES + 1) * WAL_JUMP_BYTES;
}

#define WAL_COLUMN_PLAIN 0u
#define WAL_COLUMN_RUNS 1u
#define WAL_VALUE_RAW 8u

#endif
