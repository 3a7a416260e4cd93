/* Reader and buf: whatever is written reads back; nothing reads past the end. */
#include "tests/quipu_test.h"

#include <math.h>

static void fixed_width_layout(void **state)
{
    (void)state;
    struct buf b;
    struct err err;
    buf_init(&b, MEM_BASE);
    buf_u8(&b, 0x01);
    buf_u16(&b, 0x0302);
    buf_u32(&b, 0x07060504);
    buf_u64(&b, 0x0f0e0d0c0b0a0908);
    CHECK_OK(buf_finish(&b, &err), &err);
    CHECK_U64(b.len, 15);
    for (size_t i = 0; i < b.len; i++) CHECK_U64(b.p[i], i + 1);
    struct reader r = reader_init(buf_bytes(&b));
    CHECK_U64(reader_u8(&r), 0x01);
    CHECK_U64(reader_u16(&r), 0x0302);
    CHECK_U64(reader_u32(&r), 0x07060504);
    CHECK_U64(reader_u64(&r), 0x0f0e0d0c0b0a0908);
    CHECK_OK(reader_finish(&r, &err), &err);
    buf_release(&b);
}

static void varint_vectors(void **state)
{
    (void)state;
    static const struct {
        uint64_t v;
        const char *bytes;
        size_t len;
    } cases[] = {
        {0, "\0", 1},
        {1, "\x01", 1},
        {127, "\x7F", 1},
        {128, "\x80\x01", 2},
        {300, "\xAC\x02", 2},
        {16383, "\xFF\x7F", 2},
        {16384, "\x80\x80\x01", 3},
        {UINT64_MAX, "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01", 10},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        uint8_t raw[VARINT_BYTES_MAX];
        CHECK_BYTES(bytes_of(raw, put_varint(raw, cases[i].v)),
                    bytes_of(cases[i].bytes, cases[i].len));
        struct reader r = reader_init(bytes_of(cases[i].bytes, cases[i].len));
        CHECK_U64(reader_varint(&r), cases[i].v);
        CHECK(!r.failed);
        CHECK_U64(reader_left(&r), 0);
    }
}

static void hostile_varints(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t len;
    } bad[] = {
        {"", 0},
        {"\x80", 1},
        {"\xFF\xFF\xFF", 3},
        {"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", 9},
        {"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x02", 10},     /* bit 64 */
        {"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", 11}, /* 11 bytes, though the value is 0 */
        {"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x81\x00", 11},
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct reader r = reader_init(bytes_of(bad[i].bytes, bad[i].len));
        CHECK_U64(reader_varint(&r), 0);
        CHECK(r.failed);
        CHECK_U64(reader_left(&r), 0);
        CHECK_U64(reader_u64(&r), 0);
        struct err err;
        CHECK_ERR(reader_finish(&r, &err), ERR_CORRUPT);
    }
    /* Longer than needed is allowed, as in protobuf. */
    struct reader r = reader_init(bytes_of("\x81\x80\x00", 3));
    CHECK_U64(reader_varint(&r), 1);
    CHECK(!r.failed);
}

static void reader_is_sticky_and_names_the_byte(void **state)
{
    (void)state;
    const uint8_t raw[6] = {1, 2, 3, 4, 5, 6};
    struct reader r = reader_init(bytes_of(raw, sizeof(raw)));
    CHECK_U64(reader_u32(&r), 0x04030201);
    CHECK_U64(reader_u32(&r), 0);
    CHECK(r.failed);
    CHECK_U64(reader_u8(&r), 0); /* though two bytes were there */
    CHECK(reader_bytes(&r, 1).p == NULL);
    CHECK(reader_str(&r).p == NULL);
    CHECK_U64(reader_off(&r), 4);
    struct err err;
    CHECK_ERR(reader_finish(&r, &err), ERR_CORRUPT);
    CHECK(strstr(err.text, "byte 4") != NULL);

    r = reader_init(bytes_of(raw, sizeof(raw)));
    reader_skip(&r, 5);
    CHECK_ERR(reader_finish(&r, &err), ERR_CORRUPT);
    CHECK(strstr(err.text, "left over at byte 5") != NULL);
    reader_skip(&r, SIZE_MAX);
    CHECK(r.failed);

    r = reader_init((struct bytes){NULL, 0});
    CHECK_OK(reader_finish(&r, &err), &err);
    CHECK_U64(reader_u8(&r), 0);
    CHECK(r.failed);
}

static void huge_lengths_fail(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, MEM_BASE);
    buf_varint(&b, UINT64_MAX);
    buf_text(&b, STR("abc"));
    struct reader r = reader_init(buf_bytes(&b));
    CHECK(reader_str(&r).p == NULL);
    CHECK(r.failed);
    r = reader_init(buf_bytes(&b));
    CHECK(reader_bytes(&r, SIZE_MAX).p == NULL);
    CHECK(r.failed);
    buf_release(&b);
}

static void zigzag_and_doubles(void **state)
{
    (void)state;
    static const int64_t ints[] = {0, -1, 1, -2, 2, INT64_MAX, INT64_MIN, INT64_MIN + 1};
    static const uint64_t want[] = {0, 1, 2, 3, 4, UINT64_MAX - 1, UINT64_MAX, UINT64_MAX - 2};
    for (size_t i = 0; i < COUNT_OF(ints); i++) {
        CHECK_U64(zigzag_encode(ints[i]), want[i]);
        CHECK_I64(zigzag_decode(want[i]), ints[i]);
    }
    static const uint64_t bits[] = {0x7ff0000000000002, 0x7ff8000000000001, 0x8000000000000000,
                                    0x7ff0000000000000, 0xfff0000000000001, 1};
    struct buf b;
    buf_init(&b, MEM_BASE);
    for (size_t i = 0; i < COUNT_OF(bits); i++) buf_double(&b, double_from_bits(bits[i]));
    struct reader r = reader_init(buf_bytes(&b));
    for (size_t i = 0; i < COUNT_OF(bits); i++) CHECK_U64(double_bits(reader_double(&r)), bits[i]);
    buf_release(&b);
}

enum op { OP_U8, OP_U16, OP_U32, OP_U64, OP_DOUBLE, OP_VARINT, OP_ZIGZAG, OP_STR, OP_RAW, OP_N };

static uint64_t gen_u64(struct rng *rng)
{
    return rng_u64(rng) >> rng_below(rng, 64);
}

static void write_op(struct buf *b, enum op op, uint64_t v, const char *text)
{
    struct str s = {text, v % 40};
    switch (op) {
    case OP_U8: buf_u8(b, (uint8_t)v); break;
    case OP_U16: buf_u16(b, (uint16_t)v); break;
    case OP_U32: buf_u32(b, (uint32_t)v); break;
    case OP_U64: buf_u64(b, v); break;
    case OP_DOUBLE: buf_double(b, double_from_bits(v)); break;
    case OP_VARINT: buf_varint(b, v); break;
    case OP_ZIGZAG: buf_zigzag(b, (int64_t)v); break;
    case OP_STR: buf_str(b, s); break;
    default: buf_text(b, s); break;
    }
}

static bool read_op(struct reader *r, enum op op, uint64_t v, const char *text)
{
    struct str s = {text, v % 40};
    switch (op) {
    case OP_U8: return reader_u8(r) == (uint8_t)v;
    case OP_U16: return reader_u16(r) == (uint16_t)v;
    case OP_U32: return reader_u32(r) == (uint32_t)v;
    case OP_U64: return reader_u64(r) == v;
    case OP_DOUBLE: return double_bits(reader_double(r)) == v;
    case OP_VARINT: return reader_varint(r) == v;
    case OP_ZIGZAG: return reader_zigzag(r) == (int64_t)v;
    case OP_STR: return str_eq(reader_str(r), s);
    default: return str_eq(str_from_bytes(reader_bytes(r, s.len)), s);
    }
}

static void what_is_written_reads_back(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 500)
    {
        enum op ops[64];
        uint64_t values[64];
        char text[40];
        size_t n = rng_below(&rng, 64);
        struct buf b;
        struct err err;
        test_fill(&rng, text, sizeof(text));
        buf_init(&b, MEM_BASE);
        for (size_t i = 0; i < n; i++) {
            ops[i] = (enum op)rng_below(&rng, OP_N);
            values[i] = gen_u64(&rng);
            write_op(&b, ops[i], values[i], text);
        }
        CHECK_OK(buf_finish(&b, &err), &err);
        struct reader r = reader_init(buf_bytes(&b));
        for (size_t i = 0; i < n; i++) CHECK(read_op(&r, ops[i], values[i], text));
        CHECK_OK(reader_finish(&r, &err), &err);

        /* Each prefix, in memory of just that size, fails instead of reading on. */
        for (size_t len = 0; len < b.len; len++) {
            uint8_t *copy = malloc(len ? len : 1);
            CHECK(copy != NULL);
            memcpy(copy, b.p, len);
            r = reader_init(bytes_of(copy, len));
            for (size_t i = 0; i < n; i++) (void)read_op(&r, ops[i], values[i], text);
            CHECK_ERR(reader_finish(&r, &err), ERR_CORRUPT);
            CHECK(reader_off(&r) <= len);
            free(copy);
        }
        buf_release(&b);
    }
}

static bool fail_over(void *ctx, size_t size)
{
    return size > *(size_t *)ctx;
}

static void buf_remembers_lack_of_memory(void **state)
{
    (void)state;
    struct buf b;
    struct err err;
    buf_init(&b, MEM_HTTP);
    size_t limit = 100;
    mem_set_fail_hook(fail_over, &limit);
    for (int i = 0; i < 100; i++) buf_u64(&b, 7);
    CHECK(b.failed);
    size_t len = b.len;
    CHECK(len <= 100);
    mem_set_fail_hook(NULL, NULL);
    buf_u8(&b, 1); /* dropped although there would be memory again: the output has a hole */
    buf_printf(&b, "%d", 5);
    CHECK(buf_reserve(&b, 1) == NULL);
    CHECK_U64(b.len, len);
    CHECK_ERR(buf_finish(&b, &err), ERR_NO_MEMORY);
    CHECK(strstr(err.text, "http") != NULL);
    buf_reset(&b);
    buf_text(&b, STR("fine"));
    CHECK_OK(buf_finish(&b, &err), &err);
    CHECK_STR(str_from_bytes(buf_bytes(&b)), "fine");
    buf_release(&b);
    CHECK(buf_reserve(&b, SIZE_MAX) == NULL);
    CHECK(b.failed);
    buf_release(&b);
}

static void buf_printf_of_any_length(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, MEM_BASE);
    for (int width = 0; width < 300; width += 7) {
        buf_reset(&b);
        buf_text(&b, STR("<"));
        buf_printf(&b, "%*d", width, 1);
        buf_text(&b, STR(">"));
        size_t want = (size_t)MAX_OF(width, 1) + 2;
        CHECK_U64(b.len, want);
        CHECK(b.p[0] == '<' && b.p[want - 2] == '1' && b.p[want - 1] == '>');
    }
    buf_release(&b);
}

/* By decoding: the definition of well-formed, written another way. */
static bool ref_utf8_valid(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n;) {
        unsigned extra = p[i] < 0x80 ? 0 : p[i] < 0xC0 ? 99 : p[i] < 0xE0 ? 1 : p[i] < 0xF0 ? 2 : 3;
        if (p[i] >= 0xF8 || extra == 99 || n - i <= extra) return false;
        uint32_t c = extra == 0 ? p[i] : p[i] & (0x3Fu >> extra);
        for (unsigned k = 1; k <= extra; k++) {
            if (p[i + k] >> 6 != 2) return false;
            c = c << 6 | (p[i + k] & 0x3F);
        }
        static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
        if (c < least[extra] || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000)) return false;
        i += extra + 1;
    }
    return true;
}

static void utf8_every_short_sequence(void **state)
{
    (void)state;
    /* All of two bytes, and all three-byte and four-byte ones over the interesting byte values. */
    static const uint8_t edge[] = {0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF,
                                   0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE,
                                   0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xF7, 0xF8, 0xFF};
    uint8_t p[4];
    for (unsigned v = 0; v < 65536; v++) {
        p[0] = (uint8_t)v;
        p[1] = (uint8_t)(v >> 8);
        CHECK(utf8_valid((struct str){(char *)p, 1}) == ref_utf8_valid(p, 1));
        CHECK(utf8_valid((struct str){(char *)p, 2}) == ref_utf8_valid(p, 2));
    }
    const size_t n = COUNT_OF(edge);
    for (size_t v = 0; v < n * n * n * n; v++) {
        for (size_t i = 0, w = v; i < 4; i++, w /= n) p[i] = edge[w % n];
        CHECK(utf8_valid((struct str){(char *)p, 3}) == ref_utf8_valid(p, 3));
        CHECK(utf8_valid((struct str){(char *)p, 4}) == ref_utf8_valid(p, 4));
    }
}

static void utf8_at_every_place_of_a_long_text(void **state)
{
    (void)state;
    char text[64];
    for (size_t at = 0; at < 61; at++) {
        memset(text, 'a', sizeof(text));
        memcpy(text + at, "\xE2\x82\xAC", 3);
        CHECK(utf8_valid((struct str){text, sizeof(text)}));
        CHECK(!utf8_valid((struct str){text, at + 2}));
        text[at + 1] = 'x';
        CHECK(!utf8_valid((struct str){text, sizeof(text)}));
    }
    CHECK(utf8_valid((struct str){NULL, 0}));
    CHECK_U64(utf8_sequence("", 0), 0);
}

static void str_helpers(void **state)
{
    (void)state;
    CHECK(str_eq(STR(""), (struct str){NULL, 0}));
    CHECK(str_cmp(STR("a"), STR("ab")) < 0);
    CHECK(str_cmp(STR("b"), STR("ab")) > 0);
    CHECK(str_cmp(STR("\xFF"), STR("a")) > 0); /* bytes, not signed chars */
    CHECK(str_cmp(STR(""), (struct str){NULL, 0}) == 0);
    CHECK(str_has_prefix(STR("abc"), STR("ab")) && !str_has_prefix(STR("a"), STR("ab")));
    CHECK(str_has_suffix(STR("abc"), STR("bc")) && !str_has_suffix(STR("c"), STR("bc")));
    CHECK(str_has_suffix(STR("abc"), (struct str){NULL, 0}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fixed_width_layout),
        cmocka_unit_test(varint_vectors),
        cmocka_unit_test(hostile_varints),
        cmocka_unit_test(reader_is_sticky_and_names_the_byte),
        cmocka_unit_test(huge_lengths_fail),
        cmocka_unit_test(zigzag_and_doubles),
        cmocka_unit_test(what_is_written_reads_back),
        cmocka_unit_test(buf_remembers_lack_of_memory),
        cmocka_unit_test(buf_printf_of_any_length),
        cmocka_unit_test(utf8_every_short_sequence),
        cmocka_unit_test(utf8_at_every_place_of_a_long_text),
        cmocka_unit_test(str_helpers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
