/* tests/storage/test_labels.c: order, hash, encoded form and text of label sets. */
#include "storage/labels.h"

#include "base/hash.h"
#include "tests/quipu_test.h"

#define L(name, value)                                                                             \
    {                                                                                              \
        {"" name, sizeof(name) - 1},                                                               \
        {                                                                                          \
            "" value, sizeof(value) - 1                                                            \
        }                                                                                          \
    }
#define SET(items) ((struct labels){items, COUNT_OF(items)})

static void test_order(void **state)
{
    (void)state;
    static const struct label a[] = {L("a", "1")}, ab[] = {L("a", "1"), L("b", "2")},
                              a10[] = {L("a", "10")}, a2[] = {L("a", "2")}, upper[] = {L("B", "1")},
                              name[] = {L("__name__", "x")};
    struct labels none = {NULL, 0};
    CHECK(labels_cmp(none, none) == 0 && labels_eq(none, none));
    CHECK(labels_cmp(none, SET(a)) < 0 && labels_cmp(SET(a), none) > 0);
    CHECK(labels_cmp(SET(a), SET(ab)) < 0);   /* a shorter prefix first */
    CHECK(labels_cmp(SET(a10), SET(a2)) < 0); /* bytes, not numbers */
    CHECK(labels_cmp(SET(upper), SET(name)) < 0 && labels_cmp(SET(name), SET(a)) < 0);
    CHECK(labels_eq(SET(ab), SET(ab)) && !labels_eq(SET(a), SET(ab)) &&
          !labels_eq(SET(a), SET(a2)));
    CHECK_STR(labels_get(SET(ab), STR("b")), "2");
    CHECK_U64(labels_get(SET(ab), STR("c")).len, 0);
}

static void test_sort(void **state)
{
    (void)state;
    struct label items[] = {L("b", "1"), L("a", "2"), L("__name__", "3"), L("B", "4")};
    CHECK(labels_sort(items, COUNT_OF(items)));
    const char *expected[] = {"B", "__name__", "a", "b"};
    for (size_t i = 0; i < COUNT_OF(items); i++) CHECK_STR(items[i].name, expected[i]);
    struct label twice[] = {L("c", "1"), L("a", "2"), L("b", "2"), L("a", "3")};
    CHECK(!labels_sort(twice, COUNT_OF(twice)));
    CHECK(labels_sort(NULL, 0));
}

/* A random valid set in the arena; long ones to make the hash stream. */
static struct labels gen_set(struct rng *rng, struct arena *arena)
{
    size_t n = rng_below(rng, 8);
    struct label *items = ARENA_ARRAY(arena, struct label, n);
    CHECK(items != NULL);
    for (size_t i = 0; i < n; i++) {
        items[i].name = arena_printf(arena, "%c%zu", (char)('a' + i), (size_t)rng_below(rng, 100));
        size_t len = 1 + rng_below(rng, rng_chance(rng, 0.1) ? 3000 : 40);
        char *value = arena_alloc(arena, len, 1);
        CHECK(value != NULL);
        for (size_t k = 0; k < len; k++) value[k] = (char)('!' + rng_below(rng, 90));
        items[i].value = (struct str){value, len};
    }
    return (struct labels){items, n};
}

static void test_roundtrip(void **state)
{
    (void)state;
    struct rng rng;
    struct err err;
    PROPERTY_LOOP(&rng, 500)
    {
        struct arena arena;
        struct buf b;
        arena_init(&arena, MEM_BASE, 0);
        buf_init(&b, MEM_BASE);
        struct labels in = gen_set(&rng, &arena), out, copy;
        labels_encode(&b, in);
        CHECK_U64(labels_hash(in), hash_xxh3(b.p, b.len)); /* also when it is streamed */
        struct reader r = reader_init(buf_bytes(&b));
        CHECK_OK(labels_decode(&r, &arena, &out, &err), &err);
        CHECK_OK(reader_finish(&r, &err), &err);
        CHECK(labels_eq(in, out) && labels_cmp(in, out) == 0);
        CHECK_OK(labels_copy(&arena, in, &copy, &err), &err);
        CHECK(labels_eq(in, copy));
        if (in.n) CHECK(copy.items[0].name.p != in.items[0].name.p);
        for (size_t len = 0; len < b.len; len += 1 + len / 8) {
            uint8_t *cut = malloc(len ? len : 1); /* so that ASan sees a byte too far */
            CHECK(cut != NULL);
            memcpy(cut, b.p, len);
            r = reader_init(bytes_of(cut, len));
            CHECK_ERR(labels_decode(&r, &arena, &out, &err), ERR_CORRUPT);
            free(cut);
        }
        buf_release(&b);
        arena_release(&arena);
    }
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        const char *bytes;
        size_t len;
    } cases[] = {
        {"order", "\2\1b\1x\1a\1x", 9},
        {"twice", "\2\1a\1x\1a\1y", 9},
        {"empty name", "\1\0\2xy", 5},
        {"empty value", "\1\2ab\0", 5},
        {"no UTF-8", "\1\1a\2\xff\xff", 6},
        {"surrogate", "\1\1a\3\xed\xa0\x80", 7},
        {"too many", "\xff\xff\xff\xff\x0f\1a\1x", 9},
        {"nothing", "", 0},
    };
    struct arena arena;
    struct err err;
    struct labels out;
    arena_init(&arena, MEM_BASE, 0);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct reader r = reader_init(bytes_of(cases[i].bytes, cases[i].len));
        if (labels_decode(&r, &arena, &out, &err) != ERR_CORRUPT)
            test_fail(__FILE__, __LINE__, "accepted: %s", cases[i].what);
    }
    arena_release(&arena);
}

static void test_text(void **state)
{
    (void)state;
    static const struct label items[] = {L("__name__", "up"), L("a.b", "c\"d\\"),
                                         L("x1", "\n\t\a")};
    struct buf b;
    buf_init(&b, MEM_BASE);
    labels_print(&b, SET(items));
    CHECK_STR(str_from_bytes(buf_bytes(&b)),
              "{__name__=\"up\", \"a.b\"=\"c\\\"d\\\\\", x1=\"\\n\\t\\a\"}");
    buf_reset(&b);
    labels_print(&b, (struct labels){NULL, 0});
    CHECK_STR(str_from_bytes(buf_bytes(&b)), "{}");
    /* As Go's strconv.Quote: what is no text or not to be seen is escaped, the rest stays. */
    buf_reset(&b);
    str_quote(&b, STR("é€😀\x01\x7f\xff\xc2\xc2\xa0\xe2\x80\xa8\xf3\xa0\x80\x81\0z"));
    CHECK_STR(str_from_bytes(buf_bytes(&b)),
              "\"é€😀\\x01\\x7f\\xff\\xc2\\u00a0\\u2028\\U000e0001\\x00z\"");
    buf_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),     cmocka_unit_test(test_sort),
        cmocka_unit_test(test_roundtrip), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
