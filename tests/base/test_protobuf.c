/* tests/base/test_protobuf.c: the reader of the wire format. */
#include "base/protobuf.h"
#include "tests/ingest/pb_write.h"
#include "tests/quipu_test.h"

static void test_fields(void **state)
{
    (void)state;
    struct buf b;
    struct err err;
    buf_init(&b, MEM_INGEST);
    pb_put_varint(&b, 1, UINT64_MAX);
    pb_put_double(&b, 2, -1.5);
    pb_put_str(&b, 3, "text");
    pb_put_tag(&b, 4, PB_FIXED32);
    buf_u32(&b, 77);
    pb_put_str(&b, 536870911, ""); /* the highest number */
    struct pb pb = pb_init(buf_bytes(&b), "M");
    struct pb_field f;
    CHECK(pb_next(&pb, &f) && f.number == 1 && f.wire == PB_VARINT && f.u == UINT64_MAX);
    CHECK(pb_next(&pb, &f) && f.number == 2 && f.wire == PB_FIXED64);
    CHECK_SAME_DOUBLE(double_from_bits(f.u), -1.5);
    CHECK(pb_next(&pb, &f) && f.number == 3);
    CHECK_STR(str_from_bytes(f.bytes), "text");
    CHECK(pb_next(&pb, &f) && f.number == 4 && f.wire == PB_FIXED32 && f.u == 77);
    CHECK(pb_next(&pb, &f) && f.number == 536870911 && f.bytes.len == 0);
    CHECK(!pb_next(&pb, &f));
    CHECK_OK(pb_finish(&pb, &err), &err);
    buf_release(&b);
}

static void check_text(const char *p, size_t len, const char *text)
{
    struct err err;
    struct pb pb = pb_init(bytes_of(p, len), "WriteRequest");
    struct pb_field f;
    while (pb_next(&pb, &f)) {}
    CHECK_ERR(pb_finish(&pb, &err), ERR_INVALID);
    CHECK_STR(str_of(err.text), text);
}

static void test_texts(void **state)
{
    (void)state;
    check_text("\x0a", 1, "unexpected EOF");
    check_text("\x0a\x05"
               "abc",
               5, "unexpected EOF");
    check_text("\x80", 1, "unexpected EOF");
    check_text("\x09\x01\x02", 3, "unexpected EOF");
    check_text("\x0d\x01", 2, "unexpected EOF");
    check_text("\x02\x00", 2, "proto: WriteRequest: illegal tag 0 (wire type 2)");
    check_text("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 11, "proto: integer overflow");
    check_text("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12, "proto: integer overflow");
    check_text("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11, "proto: integer overflow");
    check_text("\x0c", 1, "proto: unexpected end of group");
    check_text("\x0b\x14", 2, "proto: unexpected end of group"); /* another group's end */
    check_text("\x0b\x08\x01", 3, "unexpected EOF");
    char deep[200];
    memset(deep, 0x0b, sizeof(deep));
    check_text(deep, sizeof(deep), "proto: unexpected end of group");
}

static void test_wrong_wire(void **state)
{
    (void)state;
    struct err err;
    struct pb pb = pb_init(bytes_of("\x08\x01\x0a\x00", 4), "WriteRequest");
    struct pb_field f;
    CHECK(pb_next(&pb, &f));
    CHECK(!pb_expect(&pb, &f, PB_LEN, "Timeseries"));
    CHECK(!pb_next(&pb, &f)); /* the rest is not read */
    CHECK_ERR(pb_finish(&pb, &err), ERR_INVALID);
    CHECK_STR(str_of(err.text), "proto: wrong wireType = 0 for field Timeseries");
}

static void test_groups_are_skipped(void **state)
{
    (void)state;
    struct buf b;
    struct err err;
    buf_init(&b, MEM_INGEST);
    pb_put_tag(&b, 9, PB_GROUP);
    pb_put_varint(&b, 1, 5);
    pb_put_tag(&b, 10, PB_GROUP);
    pb_put_str(&b, 2, "inner");
    pb_put_tag(&b, 10, PB_END);
    pb_put_tag(&b, 9, PB_END);
    pb_put_varint(&b, 3, 42);
    struct pb pb = pb_init(buf_bytes(&b), "M");
    struct pb_field f;
    CHECK(pb_next(&pb, &f) && f.number == 3 && f.u == 42);
    CHECK(!pb_next(&pb, &f));
    CHECK_OK(pb_finish(&pb, &err), &err);
    buf_release(&b);
}

/* Numbers come packed, one by one, or in several pieces. */
static void test_packed(void **state)
{
    (void)state;
    struct buf b, piece;
    buf_init(&b, MEM_INGEST);
    buf_init(&piece, MEM_INGEST);
    for (uint64_t i = 0; i < 3; i++) buf_varint(&piece, i * 1000);
    pb_put_message(&b, 5, &piece);
    pb_put_varint(&b, 5, 3000);
    pb_put_message(&b, 5, &piece); /* an empty piece */
    buf_varint(&piece, 4000);
    pb_put_message(&b, 5, &piece);
    struct pb pb = pb_init(buf_bytes(&b), "M");
    struct pb_field f;
    uint64_t u, n = 0;
    while (pb_next(&pb, &f)) {
        struct pb_packed packed;
        CHECK(pb_packed_init(&pb, &f, PB_VARINT, "Numbers", &packed));
        while (pb_packed_next(&packed, PB_VARINT, &u)) CHECK_U64(u, n++ * 1000);
        CHECK(packed.pb.error == PB_OK);
    }
    CHECK_U64(n, 5);
    buf_reset(&b);
    pb_put_str(&b, 5, "\x01\x80"); /* the second number has no end */
    pb = pb_init(buf_bytes(&b), "M");
    CHECK(pb_next(&pb, &f));
    struct pb_packed packed;
    CHECK(pb_packed_init(&pb, &f, PB_VARINT, "Numbers", &packed));
    CHECK(pb_packed_next(&packed, PB_VARINT, &u));
    CHECK(!pb_packed_next(&packed, PB_VARINT, &u));
    CHECK(packed.pb.error == PB_EOF);
    buf_reset(&b);
    pb_put_double(&b, 5, 1);
    pb = pb_init(buf_bytes(&b), "M");
    CHECK(pb_next(&pb, &f));
    CHECK(!pb_packed_init(&pb, &f, PB_VARINT, "Numbers", &packed));
    CHECK(pb.error == PB_WRONG_WIRE);
    buf_release(&b);
    buf_release(&piece);
}

static void test_random_bytes(void **state)
{
    (void)state;
    struct rng rng;
    PROPERTY_LOOP(&rng, 20000)
    {
        size_t len = rng_below(&rng, 60);
        uint8_t *p = malloc(len + 1);
        CHECK(p);
        test_fill(&rng, p + 1, len);
        struct pb pb = pb_init(bytes_of(p + 1, len), "M");
        struct pb_field f;
        size_t n = 0;
        while (pb_next(&pb, &f)) {
            CHECK(++n <= len);
            CHECK(f.number > 0 && f.wire <= PB_FIXED32);
            if (f.wire == PB_LEN)
                CHECK(f.bytes.p >= p + 1 && f.bytes.p + f.bytes.len <= p + 1 + len);
        }
        CHECK(pb.p == pb.end);
        free(p);
    }
}

/* Messages in messages, with lengths of one byte and of more. */
static void test_nested(void **state)
{
    (void)state;
    static const size_t LENGTHS[] = {0, 1, 100, 125, 126, 127, 128, 16000, 16383, 16384, 3000000};
    struct err err;
    for (size_t i = 0; i < COUNT_OF(LENGTHS); i++) {
        struct buf b;
        buf_init(&b, MEM_INGEST);
        char *text = calloc(LENGTHS[i] + 1, 1);
        CHECK(text);
        memset(text, 'x', LENGTHS[i]);
        pb_put_varint(&b, 1, 7);
        size_t outer = pb_put_begin(&b, 2);
        size_t inner = pb_put_begin(&b, 200);
        pb_put_text(&b, 3, (struct str){text, LENGTHS[i]});
        pb_put_end(&b, inner);
        pb_put_varint(&b, 4, 8);
        pb_put_end(&b, outer);
        pb_put_varint(&b, 5, 9);
        CHECK(!b.failed);

        struct pb_field f;
        struct pb pb = pb_init(buf_bytes(&b), "M");
        CHECK(pb_next(&pb, &f) && f.number == 1 && f.u == 7);
        CHECK(pb_next(&pb, &f) && f.number == 2);
        struct pb middle = pb_init(f.bytes, "Middle");
        CHECK(pb_next(&pb, &f) && f.number == 5 && f.u == 9 && !pb_next(&pb, &f));
        CHECK(pb_next(&middle, &f) && f.number == 200);
        struct pb leaf = pb_init(f.bytes, "Leaf");
        CHECK(pb_next(&middle, &f) && f.number == 4 && f.u == 8 && !pb_next(&middle, &f));
        CHECK(pb_next(&leaf, &f) && f.number == 3);
        CHECK(str_eq(str_from_bytes(f.bytes), (struct str){text, LENGTHS[i]}));
        CHECK_OK(pb_finish(&leaf, &err), &err);
        free(text);
        buf_release(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields),     cmocka_unit_test(test_texts),
        cmocka_unit_test(test_wrong_wire), cmocka_unit_test(test_groups_are_skipped),
        cmocka_unit_test(test_packed),     cmocka_unit_test(test_random_bytes),
        cmocka_unit_test(test_nested),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
