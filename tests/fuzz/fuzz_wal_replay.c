/* tests/fuzz/fuzz_wal_replay.c: a segment of any bytes, read as replay and inspection read it, and the payloads
 * in it. What a decoder accepts must come back from the encoder with the same meaning. */
#include "tests/fuzz/memory_io.h"
#include "wal/record.h"
#include "wal/wal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_samples(struct bytes payload, struct arena *arena)
{
    struct err err;
    struct wal_samples in, out;
    if (wal_decode_samples(payload, arena, &in, &err)) return;
    struct buf buf;
    buf_init(&buf, MEM_WAL);
    wal_encode_samples(&buf, &in);
    ASSERT(wal_decode_samples(buf_bytes(&buf), arena, &out, &err) == ERR_OK);
    ASSERT(out.n == in.n);
    ASSERT(out.incarnation == in.incarnation);
    if (in.n > 0) {
        ASSERT(memcmp(in.id, out.id, in.n * sizeof(*in.id)) == 0);
        ASSERT(memcmp(in.t_ms, out.t_ms, in.n * sizeof(*in.t_ms)) == 0);
        ASSERT(memcmp(in.v, out.v, in.n * sizeof(*in.v)) == 0);
    }
    buf_release(&buf);
}

static void check_series(struct bytes payload, struct arena *arena)
{
    struct err err;
    struct wal_series in, out;
    if (wal_decode_series(payload, arena, &in, &err)) return;
    struct buf buf;
    buf_init(&buf, MEM_WAL);
    wal_encode_series(&buf, &in);
    ASSERT(wal_decode_series(buf_bytes(&buf), arena, &out, &err) == ERR_OK);
    ASSERT(out.n == in.n);
    for (size_t i = 0; i < in.n; i++) {
        ASSERT(in.id[i] == out.id[i]);
        ASSERT(str_eq(str_from_bytes(in.labels[i]), str_from_bytes(out.labels[i])));
    }
    buf_release(&buf);
}

static void check_items(struct bytes payload, struct arena *arena)
{
    struct err err;
    struct wal_items in, out;
    if (wal_decode_items(payload, arena, &in, &err)) return;
    struct buf buf;
    buf_init(&buf, MEM_WAL);
    wal_encode_items(&buf, &in);
    ASSERT(wal_decode_items(buf_bytes(&buf), arena, &out, &err) == ERR_OK);
    ASSERT(out.n == in.n);
    for (size_t i = 0; i < in.n; i++) {
        ASSERT(in.t_ms[i] == out.t_ms[i]);
        ASSERT(str_eq(str_from_bytes(in.item[i]), str_from_bytes(out.item[i])));
    }
    buf_release(&buf);
}

static void check_payload(struct bytes payload)
{
    struct arena arena;
    arena_init(&arena, MEM_WAL, (size_t)64 << 20);
    check_samples(payload, &arena);
    check_series(payload, &arena);
    check_items(payload, &arena);
    arena_release(&arena);
}

struct progress {
    uint64_t off;
};

static bool check_item(void *ctx, const struct wal_inspect_item *item)
{
    struct progress *progress = ctx;
    ASSERT(item->file_off >= progress->off);
    progress->off = item->file_off;
    if (item->bad)
        ASSERT(item->text != NULL);
    else
        check_payload(item->payload);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[] = "memory";
    struct memory_io m = {.io = {&memory_ops},
                          .file = {.file = {&memory_file_ops, &m.io, path}, data, size}};
    struct wal_segment_info info;
    struct progress progress = {0};
    struct err err;
    enum err_code rc = wal_inspect(&m.io, path, &info, check_item, &progress, &err);
    ASSERT(rc == ERR_OK || rc == ERR_VERSION);
    /* And as a payload alone: a checksum keeps the fuzzer out of the decoders otherwise. */
    check_payload(bytes_of(data, size));
    return 0;
}
