/* tests/fuzz/fuzz_family.c: u16 number of samples, then a family chunk of any bytes. What is accepted is the same by
 * member and as a whole, and comes back with the same bits when it is encoded again. */
#include "storage/family.h"
#include "storage/histogram.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SAMPLES_MAX 2048

struct read {
    size_t m, n;
    bool has_count;
    double *all, *one;
    int64_t *increments;
};

static uint64_t bits_at(const double *v, size_t i)
{
    uint64_t bits;
    memcpy(&bits, &v[i], sizeof(bits)); /* no register in between that could quieten a NaN */
    return bits;
}

static void check_members(struct bytes chunk, const struct read *r)
{
    struct err err;
    for (size_t k = 0; k < r->m; k++) {
        ASSERT(family_decode(chunk, r->n, (unsigned)k, r->one, &err) == ERR_OK);
        ASSERT(memcmp(r->one, r->all + k * r->n, r->n * sizeof(double)) == 0);
    }
    enum err_code rc = family_decode(chunk, r->n, FAMILY_COUNT, r->one, &err);
    ASSERT(rc == (r->has_count ? ERR_OK : ERR_CORRUPT));
    ASSERT(rc || memcmp(r->one, r->all + (r->m - 1) * r->n, r->n * sizeof(double)) == 0);
}

/* Increments add up to the values; hostile ones wrap. */
static void check_increments(struct bytes chunk, const struct read *r)
{
    struct err err;
    ASSERT(family_decode_increments(chunk, r->n, r->increments, &err) == ERR_OK);
    for (size_t k = 0; k < r->m; k++) {
        uint64_t x = 0;
        for (size_t i = 0; i < r->n; i++) {
            uint64_t d = (uint64_t)r->increments[k * r->n + i];
            if (k) d += (uint64_t)r->increments[(k - 1) * r->n + i];
            r->increments[k * r->n + i] = (int64_t)d;
            x += d;
            uint64_t bits = bits_at(r->all, k * r->n + i);
            ASSERT(bits == STALE_NAN_BITS || bits == double_bits((double)(int64_t)x));
        }
    }
}

/* The encoder takes whole numbers below 2^53 alone, and not markers alone. */
static bool is_encodable(const struct read *r)
{
    bool any = false;
    for (size_t i = 0; i < r->m * r->n; i++) {
        uint64_t bits = bits_at(r->all, i) & ~(UINT64_C(1) << 63);
        if (bits_at(r->all, i) == STALE_NAN_BITS) continue;
        any = true;
        if (bits >= double_bits(0x1p53)) return false;
    }
    return any;
}

static void check_encodes_again(const struct read *r)
{
    struct err err;
    struct buf chunk;
    const double *rows[FAMILY_MEMBERS_MAX];
    for (size_t k = 0; k < r->m; k++) rows[k] = r->all + k * r->n;
    struct family_input in = {
        .v = rows, .n_members = r->m, .n = r->n, .count = r->has_count ? rows[r->m - 1] : NULL};
    buf_init(&chunk, MEM_STORAGE);
    ASSERT(family_encode(&chunk, &in, r->n % 2 ? EFFORT_SMALL : EFFORT_FAST, 0));
    double *again = (double *)(void *)r->increments;
    ASSERT(family_decode_all(buf_bytes(&chunk), r->n, again, &err) == ERR_OK);
    ASSERT(memcmp(again, r->all, r->m * r->n * sizeof(double)) == 0);
    buf_release(&chunk);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err;
    struct read r;
    if (size < 2) return 0;
    r.n = get_u16_le(data);
    struct bytes chunk = bytes_of(data + 2, size - 2);
    if (r.n == 0 || r.n > SAMPLES_MAX || family_peek(chunk, &r.m, &r.has_count, &err)) return 0;
    r.all = mem_alloc(MEM_STORAGE, r.m * r.n * sizeof(double));
    r.one = mem_alloc(MEM_STORAGE, r.n * sizeof(double));
    r.increments = mem_alloc(MEM_STORAGE, r.m * r.n * sizeof(int64_t));
    ASSERT(r.all && r.one && r.increments);
    enum err_code rc = family_decode_all(chunk, r.n, r.all, &err);
    ASSERT(rc == ERR_OK || rc == ERR_CORRUPT);
    if (rc == ERR_OK) {
        check_members(chunk, &r);
        check_increments(chunk, &r);
        if (is_encodable(&r)) check_encodes_again(&r);
    }
    mem_free(r.all);
    mem_free(r.one);
    mem_free(r.increments);
    return 0;
}
