/* tests/fuzz/fuzz_values.c: value chunks, integer columns and time columns of any bytes; whatever is accepted comes back
 * with the same bits from what the encoders make of it.
 * Input: u8 what, u16 n, then the bytes: of a value chunk, an integer column, a time column, or (3, 4, 5) doubles, integers
 * and times to encode. */
#include "storage/times.h"
#include "storage/values.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define N_MAX 4096

static void check_values(const double *v, size_t n, struct values_hint hint)
{
    struct err err;
    struct buf b;
    double out[N_MAX];
    buf_init(&b, MEM_STORAGE);
    for (int round = 0; round < 3; round++) {
        buf_reset(&b);
        values_encode(&b, v, n, round == 2 ? EFFORT_SMALL : EFFORT_FAST, &hint);
        ASSERT(b.len <= 1 + n * sizeof(*v));
        ASSERT(values_decode(buf_bytes(&b), n, out, &err) == ERR_OK);
        ASSERT(memcmp(out, v, n * sizeof(*v)) == 0);
    }
    buf_release(&b);
}

static void check_integers(const int64_t *x, size_t n)
{
    struct err err;
    struct buf b;
    int64_t out[N_MAX];
    buf_init(&b, MEM_STORAGE);
    for (int effort = EFFORT_FAST; effort <= EFFORT_SMALL; effort++) {
        buf_reset(&b);
        intcol_encode(&b, x, n, (enum effort)effort);
        ASSERT(b.len == intcol_size(x, n, (enum effort)effort));
        struct reader r = reader_init(buf_bytes(&b)), again = r;
        ASSERT(intcol_decode(&r, n, out, &err) == ERR_OK);
        ASSERT(reader_left(&r) == 0);
        ASSERT(memcmp(out, x, n * sizeof(*x)) == 0);
        ASSERT(intcol_decode_sums(&again, n, 7, out, &err) == ERR_OK);
        uint64_t sum = 7;
        for (size_t i = 0; i < n; i++) ASSERT((uint64_t)out[i] == (sum += (uint64_t)x[i]));
    }
    buf_release(&b);
}

static void check_times(const int64_t *t_ms, size_t n)
{
    struct err err;
    struct buf b;
    int64_t out[N_MAX];
    buf_init(&b, MEM_STORAGE);
    for (int effort = EFFORT_FAST; effort <= EFFORT_SMALL; effort++) {
        size_t count;
        buf_reset(&b);
        times_encode_as(&b, t_ms, n, (enum effort)effort);
        ASSERT(times_count(buf_bytes(&b), &count, &err) == ERR_OK);
        ASSERT(count == n);
        ASSERT(times_decode(buf_bytes(&b), out, n, &err) == ERR_OK);
        ASSERT(memcmp(out, t_ms, n * sizeof(*t_ms)) == 0);
    }
    buf_release(&b);
}

static void decode_values(struct bytes b, size_t n)
{
    struct err err;
    double v[N_MAX];
    enum err_code rc = values_decode(b, n, v, &err);
    ASSERT(rc == ERR_OK || rc == ERR_CORRUPT);
    if (rc) return;
    check_values(v, n, (struct values_hint){0});
    check_values(v, n, (struct values_hint){b.p[0] & 15, b.len > 1 ? b.p[1] : 0, 1});
}

static void decode_integers(struct bytes b, size_t n)
{
    struct err err;
    int64_t x[N_MAX];
    struct reader r = reader_init(b), again = r;
    enum err_code rc = intcol_decode(&r, n, x, &err);
    ASSERT(rc == ERR_OK || rc == ERR_CORRUPT);
    if (rc) return;
    ASSERT(intcol_skip(&again, n, &err) == ERR_OK);
    ASSERT(again.p == r.p);
    check_integers(x, n);
}

static void decode_times(struct bytes b)
{
    struct err err;
    int64_t t_ms[N_MAX];
    size_t n, skipped;
    if (times_count(b, &n, &err) || n > N_MAX) return;
    enum err_code rc = times_decode(b, t_ms, n, &err);
    ASSERT(rc == ERR_OK || rc == ERR_CORRUPT);
    if (rc) return;
    struct reader r = reader_init(b);
    ASSERT(times_skip(&r, &skipped, &err) == ERR_OK);
    ASSERT(skipped == n);
    check_times(t_ms, n);
}

/* The bytes as doubles, integers, or times, each of which is made later than the one before it. */
static void encode(uint8_t what, struct bytes b)
{
    uint64_t x[N_MAX];
    size_t n = MIN_OF(b.len / 8, (size_t)N_MAX);
    if (n == 0) return;
    memcpy(x, b.p, n * 8);
    if (what == 3) check_values((const double *)(const void *)x, n, (struct values_hint){0});
    if (what == 4) check_integers((const int64_t *)x, n);
    if (what != 5) return;
    size_t k = 1;
    while (k < n && (int64_t)(x[k] += x[k - 1]) > (int64_t)x[k - 1]) k++;
    check_times((const int64_t *)x, k);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3) return 0;
    size_t n = get_u16_le(data + 1) % (N_MAX + 1);
    struct bytes b = bytes_of(data + 3, size - 3);
    switch (data[0]) {
    case 0:
        if (n) decode_values(b, n);
        break;
    case 1: decode_integers(b, n); break;
    case 2: decode_times(b); break;
    default: encode(data[0], b); break;
    }
    return 0;
}
