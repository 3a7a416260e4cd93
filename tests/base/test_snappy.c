/* tests/base/test_snappy.c: bodies as senders compress them, and every way to get them wrong. */
#include <snappy-c.h>

#include "base/snappy.h"
#include "tests/quipu_test.h"

#define LIMIT ((size_t)1 << 20)

static enum err_code decode(struct arena *arena, const void *p, size_t len, struct bytes *out,
                            struct err *err)
{
    uint8_t *exact = malloc(len + 1); /* so that ASan sees a read past the end */
    CHECK(exact);
    if (len) memcpy(exact + 1, p, len);
    enum err_code rc = snappy_decode(bytes_of(exact + 1, len), LIMIT, arena, out, err);
    free(exact);
    return rc;
}

static void test_roundtrip(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 500)
    {
        struct arena arena;
        struct bytes out;
        struct err err;
        arena_init(&arena, MEM_INGEST, 4 * LIMIT);
        size_t len = rng_below(&rng, rng_chance(&rng, 0.1) ? 200000 : 300);
        uint8_t *p = malloc(len + 1);
        size_t packed_len = snappy_max_compressed_length(len);
        char *packed = malloc(packed_len);
        CHECK(p && packed);
        uint64_t letters = 1 + rng_below(&rng, 256);
        for (size_t i = 0; i < len; i++) p[i] = (uint8_t)rng_below(&rng, letters);
        CHECK(snappy_compress((char *)p, len, packed, &packed_len) == SNAPPY_OK);
        CHECK_OK(decode(&arena, packed, packed_len, &out, &err), &err);
        CHECK_BYTES(out, bytes_of(p, len));
        struct buf ours;
        buf_init(&ours, MEM_INGEST);
        buf_u8(&ours, 'x'); /* it appends */
        CHECK_OK(snappy_encode(bytes_of(p, len), &ours, &err), &err);
        CHECK_BYTES(bytes_of(ours.p + 1, ours.len - 1), bytes_of(packed, packed_len));
        buf_release(&ours);
        /* No shorter body is accepted, whatever it was cut to. */
        for (size_t cut = 0; cut < packed_len; cut += 1 + cut / 16) {
            arena_reset(&arena);
            CHECK_ERR(decode(&arena, packed, cut, &out, &err), ERR_INVALID);
            CHECK_STR(str_of(err.text), "snappy: corrupt input");
        }
        free(p);
        free(packed);
        arena_release(&arena);
    }
}

static void test_texts(void **state)
{
    (void)state;
    struct arena arena;
    struct bytes out;
    struct err err;
    arena_init(&arena, MEM_INGEST, 4 * LIMIT);
    /* The empty message is a valid one; an empty body is none. */
    CHECK_OK(decode(&arena, "\0", 1, &out, &err), &err);
    CHECK_U64(out.len, 0);
    CHECK_ERR(decode(&arena, "", 0, &out, &err), ERR_INVALID);
    CHECK_STR(str_of(err.text), "snappy: corrupt input");
    static const struct {
        const char *p;
        size_t len;
    } corrupt[] = {
        {"\x80\x80\x80\x80\x80\x01", 6},         /* a length of six bytes */
        {"\xff\xff\xff\xff\x7f", 5},             /* over 2^32 - 1, at any limit */
        {"\x04\x0c\x61\x62\x63\x64\x65", 7},     /* surplus output */
        {"\x05\x0c\x61\x62\x63\x64", 6},         /* too little */
        {"\x08\x0c\x61\x62\x63\x64\x01\x05", 8}, /* a copy from before the start */
        {"\x08\x0c\x61\x62\x63\x64\x01\x00", 8}, /* offset 0 */
        {"\xff\xff\x03\x00", 4},                 /* 65,535 bytes out of four: a bomb */
    };
    for (size_t i = 0; i < COUNT_OF(corrupt); i++) {
        CHECK_ERR(decode(&arena, corrupt[i].p, corrupt[i].len, &out, &err), ERR_INVALID);
        CHECK_STR(str_of(err.text), "snappy: corrupt input");
    }
    CHECK_U64(arena_mark(&arena).next == NULL || arena.used_bytes < LIMIT, 1);
    CHECK_ERR(decode(&arena, "\xff\x06\x00\x00sNaPpY", 10, &out, &err), ERR_INVALID);
    CHECK(strstr(err.text, "snappy: corrupt input") && strstr(err.text, "framed"));
    CHECK_ERR(decode(&arena, "\x81\x80\x40\x00", 4, &out, &err), ERR_LIMIT);
    CHECK_STR(str_of(err.text), "snappy: decoded length 1048577 exceeds limit 1048576");
    /* A copy that overlaps its own output repeats it. */
    CHECK_OK(decode(&arena, "\x09\x00\x61\x11\x01", 5, &out, &err), &err);
    CHECK_STR(str_from_bytes(out), "aaaaaaaaa");
    arena_release(&arena);
}

static void test_random_bytes(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 20000)
    {
        uint8_t body[64];
        size_t len = rng_below(&rng, sizeof(body));
        test_fill(&rng, body, len);
        if (len && rng_chance(&rng, 0.8)) body[0] = (uint8_t)rng_below(&rng, 128);
        struct arena arena;
        struct bytes out;
        struct err err;
        arena_init(&arena, MEM_INGEST, 4 * LIMIT);
        enum err_code rc = decode(&arena, body, len, &out, &err);
        CHECK(rc == ERR_OK || rc == ERR_INVALID || rc == ERR_LIMIT);
        CHECK(arena.used_bytes <= 1 << 17); /* bounded by the body, not by what it says */
        arena_release(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_roundtrip),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_random_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
