/* Any bytes as a snapshot of the catalog, with and without a good checksum, and as the WAL of an SQLite database: refused with
 * a reason or taken, never read out of bounds. The first byte chooses. */
#include <stdlib.h>

#include "base/crc32c.h"
#include "storage/catalog_snapshot.h"
#include "storage/sqlite_wal_check.h"
#include "tests/fuzz/memory_io.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok) abort();
}

static void decode(struct bytes bytes)
{
    struct arena arena;
    struct catalog_snapshot out;
    struct err err;
    arena_init(&arena, MEM_CATALOG, (size_t)64 << 20);
    enum err_code rc = catalog_snapshot_decode(bytes, &arena, &out, &err);
    if (rc) check(err.code == rc && err.text[0]);
    for (size_t i = 0; !rc && i < out.n_tables; i++)
        check(out.tables[i].n_rows == 0 || out.tables[i].n_columns > 0);
    arena_release(&arena);
}

/* Length and checksum as they must be, so that the fuzzer gets behind them. */
static void decode_repaired(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size);
    if (!copy) return;
    memcpy(copy, data, size);
    if (size >= 20) {
        memcpy(copy, "QSNP\1\0\0\0", 8);
        put_u64_le(copy + 8, size);
        put_u32_le(copy + size - 4, crc32c(0, copy, size - 4));
    }
    decode(bytes_of(copy, size));
    free(copy);
}

static void check_wal(const uint8_t *data, size_t size)
{
    struct memory_io io = {.io = {&memory_ops}};
    char path[] = "memory";
    struct sqlite_wal_state state;
    struct err err;
    io.file = (struct memory_file){{&memory_file_ops, &io.io, path}, data, size};
    enum err_code rc = sqlite_wal_check(&io.io, "memory", &state, &err);
    check(rc == ERR_OK || (err.code == rc && err.text[0]));
    if (!rc) check(state.unused_off <= size && state.n_commits <= state.n_frames);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    switch (data[0] % 3) {
    case 0: decode(bytes_of(data + 1, size - 1)); break;
    case 1: decode_repaired(data + 1, size - 1); break;
    default: check_wal(data + 1, size - 1);
    }
    return 0;
}
